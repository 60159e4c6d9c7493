//! Gate: counts the instructions of every [`Piece`], and of the worst packets that searches have found,
//! under valgrind, and compares them with the committed baseline.
//!
//! Counts depend on the compiler and on the profile of cargo, so the baseline names both. With another
//! compiler, counts are printed and nothing fails: a difference from the baseline would say nothing about
//! the change under test.

use crate::{
    built::{COMPILER, PROFILE},
    callgrind::{self, Cost},
    instructions::Piece,
    output,
    worst::kept::{self, Kept},
};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs, iter,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// Counts the instructions of the data plane, and fails if they rose.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File of the baseline.
    #[arg(long, value_name = "FILE")]
    pub baseline: PathBuf,
    /// Write the counts as the new baseline.
    #[arg(long)]
    pub update: bool,
    /// File of the worst forms, which `ringbench worst` writes; they are counted too.
    #[arg(long, value_name = "FILE")]
    pub worst: Option<PathBuf>,
    /// Only this case or shape; may be given several times.
    #[arg(long = "case", value_name = "CASE", conflicts_with = "update")]
    pub cases: Vec<String>,
    /// Also write the counts as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Count also in a build with a profile that the baseline does not have.
    #[arg(long, conflicts_with = "update")]
    pub any_build: bool,
}

/// Rise above the baseline that is allowed, in percent.
const TOLERANCE: f64 = 3.0;

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Baseline {
    /// Compiler of the programs that were counted.
    compiler: String,
    /// Counts by profile of cargo.
    profiles: BTreeMap<String, Counts>,
}

/// Instructions an operation, by case.
type Counts = BTreeMap<String, f64>;

impl Baseline {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| {
            format!("cannot read the baseline {}: make one with --update", path.display())
        })?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not a baseline: make one with --update", path.display()))
    }

    /// Returns the counts of this build's profile and compiler. Says so if they are of another compiler.
    fn of_this_build(mut self, any_build: bool) -> Result<Option<Counts>> {
        let counts = self.profiles.remove(PROFILE);
        ensure!(
            counts.is_some() || any_build,
            "the baseline has no counts of the profile \"{PROFILE}\" that this program was built with: use \
             bench/gate.sh, or --any-build"
        );
        if self.compiler != COMPILER {
            println!("the baseline is of {}, this is {COMPILER}: counts are not compared", self.compiler);
            return Ok(None);
        }
        Ok(counts)
    }

    /// Replaces the counts of this build's profile. Those of other compilers go.
    fn renew(path: &Path, counts: Counts) -> Result<()> {
        let old = Self::read(path).ok().filter(|old| old.compiler == COMPILER);
        let mut profiles = old.map_or_else(BTreeMap::new, |old| old.profiles);
        profiles.insert(PROFILE.into(), counts);
        output::json(Some(path), &Baseline { compiler: COMPILER.into(), profiles })
    }
}

/// Work that is counted.
#[derive(Clone, Debug)]
enum Counted {
    /// Case or shape.
    Piece(Piece),
    /// Worst form of a class.
    Worst(Kept),
}

impl Counted {
    /// Returns all work: the pieces, and the forms of a file.
    fn all(worst: Option<&Path>) -> Result<Vec<Self>> {
        let worst = worst.map_or(Ok(Vec::new()), kept::read)?;
        Ok(Piece::all().map(Counted::Piece).chain(worst.into_iter().map(Counted::Worst)).collect())
    }

    /// Returns the work with these names; all, if there are no names.
    fn named(names: &[String], mut all: Vec<Self>) -> Result<Vec<Self>> {
        if names.is_empty() {
            return Ok(all);
        }
        let known: Vec<String> = all.iter().map(Counted::name).collect();
        for name in names {
            ensure!(known.contains(name), "there is no {name}; there are {}", known.join(", "));
        }
        all.retain(|counted| names.contains(&counted.name()));
        Ok(all)
    }

    fn name(&self) -> String {
        match self {
            Counted::Piece(piece) => piece.name(),
            Counted::Worst(kept) => kept.name(),
        }
    }

    fn goal(&self) -> Option<f64> {
        match self {
            Counted::Piece(piece) => piece.goal(),
            Counted::Worst(kept) => Some(kept.goal()),
        }
    }

    fn allocations(&self) -> f64 {
        match self {
            Counted::Piece(piece) => piece.allocations(),
            Counted::Worst(_) => 0.0,
        }
    }

    fn count(&self) -> Result<Cost> {
        match self {
            Counted::Piece(piece) => callgrind::count(&["instructions", &piece.name()]),
            Counted::Worst(kept) => callgrind::count(&["worst", "--work", &kept.form]),
        }
    }
}

/// Counts of a case.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Name of the case.
    pub case: String,
    /// Instructions an operation.
    pub instructions: f64,
    /// Instructions an operation in the baseline, if it is of the same compiler.
    pub baseline: Option<f64>,
    /// Goal of the design, in instructions an operation.
    pub goal: Option<f64>,
    /// Allocations an operation.
    pub allocations: f64,
    /// Most allocations that an operation may have.
    pub allocations_max: f64,
}

impl Row {
    /// Returns the change from the baseline, in percent.
    fn change(&self) -> Option<f64> {
        self.baseline.map(|before| 100.0 * (self.instructions / before - 1.0))
    }

    /// Returns the reason why the gate fails, if it does.
    fn failure(&self) -> Option<String> {
        if self.allocations > self.allocations_max {
            return Some(format!("{} allocates", self.case));
        }
        let change = self.change().filter(|change| *change > TOLERANCE)?;
        Some(format!("{} rose by {change:.1} %", self.case))
    }
}

/// `ringbench gate`.
pub fn run(args: &Args) -> Result<()> {
    let pieces = Counted::named(&args.cases, Counted::all(args.worst.as_deref())?)?;
    let comparable = match args.update {
        true => None,
        false => Baseline::read(&args.baseline)?.of_this_build(args.any_build)?,
    };

    println!(
        "{:<24} {:>12} {:>10} {:>8} {:>8} {:>11}",
        "case", "instructions", "baseline", "change", "goal", "allocations"
    );
    let mut rows = Vec::new();
    for (piece, counts) in pieces.iter().zip(count_all(&pieces)) {
        let name = piece.name();
        let Cost { instructions, allocations } = counts?;
        let baseline = comparable.as_ref().and_then(|counts| counts.get(&name).copied());
        let (goal, allocations_max) = (piece.goal(), piece.allocations());
        let row = Row { case: name, instructions, baseline, goal, allocations, allocations_max };
        println!(
            "{:<24} {instructions:>12.1} {:>10} {:>8} {:>8} {allocations:>11}",
            row.case,
            baseline.map_or("-".into(), |before| format!("{before:.1}")),
            row.change().map_or("-".into(), |change| format!("{change:+.1} %")),
            row.goal.map_or("-".into(), |goal| format!("{goal:.0}")),
        );
        rows.push(row);
    }
    let new: Vec<_> = rows.iter().filter(|row| row.baseline.is_none()).map(|row| row.case.as_str()).collect();
    if !new.is_empty() && comparable.is_some() {
        println!("not in the baseline yet: {} (bench/gate.sh --update)", new.join(", "));
    }
    output::json(args.json.as_deref(), &json!({ "compiler": COMPILER, "cases": rows }))?;
    if args.update {
        let rounded = |row: &Row| (row.case.clone(), (10.0 * row.instructions).round() / 10.0);
        Baseline::renew(&args.baseline, rows.iter().map(rounded).collect())?;
    }
    let failures: Vec<_> = rows.iter().filter_map(Row::failure).collect();
    ensure!(
        failures.is_empty(),
        "{}: a rise of {TOLERANCE} % is allowed, and no more allocations. If a rise is worth it, renew the \
         baseline (bench/gate.sh --update) and say why in the commit",
        failures.join(", ")
    );
    Ok(())
}

/// Counts all pieces, as many at once as there are cores: a count is not a time.
fn count_all(pieces: &[Counted]) -> Vec<Result<Cost>> {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    let next = AtomicUsize::new(0);
    let work = || {
        let numbers = iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let taken = numbers.map_while(|nth| pieces.get(nth).map(|piece| (nth, piece.count())));
        taken.collect::<Vec<_>>()
    };
    let mut counts: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    counts.sort_by_key(|(nth, _)| *nth);
    counts.into_iter().map(|(_, counts)| counts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(instructions: f64, allocations: f64) -> Row {
        let case = "hit".to_owned();
        Row { case, instructions, baseline: Some(100.0), goal: None, allocations, allocations_max: 0.0 }
    }

    #[test]
    fn three_percent_are_allowed_and_no_allocation() {
        assert_eq!(row(102.9, 0.0).failure(), None);
        assert_eq!(row(50.0, 0.0).failure(), None);
        assert_eq!(row(103.1, 0.0).failure().as_deref(), Some("hit rose by 3.1 %"));
        assert_eq!(row(100.0, 0.01).failure().as_deref(), Some("hit allocates"));
        assert_eq!(Row { baseline: None, ..row(1e6, 0.0) }.failure(), None, "nothing to compare with");
    }

    #[test]
    fn work_is_found_by_its_name() {
        let named = |name: &str| Counted::named(&[name.to_owned()], Counted::all(None).unwrap());
        assert_eq!(named("hit").unwrap().len(), 1);
        assert!(named("hot").unwrap_err().to_string().contains("shape-v6"));
        assert!(Counted::named(&[], Counted::all(None).unwrap()).unwrap().len() > 50);
    }

    #[test]
    fn the_committed_baseline_has_no_case_that_is_gone() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json");
        let worst = Path::new(env!("CARGO_MANIFEST_DIR")).join("worst.json");
        let pieces: Vec<_> = Counted::all(Some(&worst)).unwrap().iter().map(Counted::name).collect();
        let baseline = Baseline::read(&path).unwrap();
        assert_eq!(baseline.profiles.keys().collect::<Vec<_>>(), ["release", "release-lto"]);
        let cases = baseline.profiles.into_values().flat_map(BTreeMap::into_keys);
        let gone: Vec<_> = cases.filter(|name| !pieces.contains(name)).collect();
        assert!(gone.is_empty(), "{gone:?}");
    }
}
