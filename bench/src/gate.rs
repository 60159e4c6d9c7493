//! The gate: counts the instructions of every [`Case`] under valgrind and holds them against the committed baseline.
//!
//! Counts depend on the compiler, so the baseline names it. With another one counts are printed and nothing fails: a
//! difference to the baseline would say nothing about the change at hand.

use crate::instructions::{COUNTED, Case};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Counts the instructions of the data plane, and fails if they rose.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The baseline.
    #[arg(long, value_name = "FILE")]
    pub baseline: PathBuf,
    /// What compiled this program, as `rustc --version` prints it.
    #[arg(long)]
    pub compiler: String,
    /// Write what is counted now as the new baseline.
    #[arg(long)]
    pub update: bool,
    /// Only this case; may be given several times.
    #[arg(long = "case", value_enum, conflicts_with = "update")]
    pub cases: Vec<Case>,
}

/// By how much a count may exceed the baseline, in percent.
const TOLERANCE: f64 = 3.0;

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Baseline {
    /// What compiled the program that was counted.
    compiler: String,
    /// Instructions an operation.
    instructions: BTreeMap<String, f64>,
}

/// `ringbench gate`.
pub fn run(args: &Args) -> Result<()> {
    let cases = if args.cases.is_empty() { Case::value_variants() } else { &args.cases };
    let baseline = if args.update { None } else { Some(read(&args.baseline)?) };
    if let Some(baseline) = baseline.as_ref().filter(|baseline| baseline.compiler != args.compiler) {
        println!(
            "the baseline is of {}, this is {}: only budgets are held",
            baseline.compiler, args.compiler
        );
    }
    let comparable = baseline.filter(|baseline| baseline.compiler == args.compiler);

    println!("{:<14} {:>12} {:>10} {:>8} {:>8}", "case", "instructions", "baseline", "change", "goal");
    let mut counts = BTreeMap::new();
    let mut failures = Vec::new();
    for case in cases {
        let name = name(*case);
        let count = count(*case)?;
        let before = comparable.as_ref().and_then(|baseline| baseline.instructions.get(&name).copied());
        let change = before.map(|before| 100.0 * (count / before - 1.0));
        println!(
            "{name:<14} {count:>12.1} {:>10} {:>8} {:>8}",
            before.map_or("-".into(), |before| format!("{before:.1}")),
            change.map_or("-".into(), |change| format!("{change:+.1} %")),
            case.goal().map_or("-".into(), |goal| format!("{goal:.0}")),
        );
        if change.is_some_and(|change| change > TOLERANCE) {
            failures.push(name.clone());
        }
        counts.insert(name, (10.0 * count).round() / 10.0);
    }
    if args.update {
        write(&args.baseline, &Baseline { compiler: args.compiler.clone(), instructions: counts })?;
    }
    ensure!(
        failures.is_empty(),
        "{} rose by more than {TOLERANCE} %. If that is worth it, renew the baseline (bench/gate.sh --update) and say \
         why in the commit",
        failures.join(", ")
    );
    Ok(())
}

fn name(case: Case) -> String {
    case.to_possible_value().map_or_else(String::new, |value| value.get_name().into())
}

fn read(path: &Path) -> Result<Baseline> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the baseline {}: make one with --update", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is no baseline: make one with --update", path.display()))
}

fn write(path: &Path, baseline: &Baseline) -> Result<()> {
    let text = serde_json::to_string_pretty(baseline)? + "\n";
    fs::write(path, text).with_context(|| format!("cannot write the baseline {}", path.display()))
}

/// Runs one case under valgrind and returns its instructions an operation.
fn count(case: Case) -> Result<f64> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(own)
        .args(["instructions", &name(case)])
        .output()
        .context("cannot run valgrind: install it (deploy/setup.sh test)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed under valgrind:\n{said}", name(case));
    let printed = String::from_utf8_lossy(&output.stdout);
    let operations = number_after(&printed, "operations").context("the case did not say how much it did")?;
    let collected = number_after(&said, "Collected :").context("valgrind did not say what it counted")?;
    if collected == 0.0 || operations == 0.0 {
        bail!("valgrind saw no call of {COUNTED}: was it inlined?");
    }
    Ok(collected / operations)
}

/// The number that follows `label` in `text`.
fn number_after(text: &str, label: &str) -> Option<f64> {
    let (_, rest) = text.split_once(label)?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valgrinds_sum_is_found() {
        let said = "==7== Events    : Ir\n==7== Collected : 287616\n==7== \n==7== I   refs:      287,616\n";
        assert_eq!(number_after(said, "Collected :"), Some(287_616.0));
        assert_eq!(number_after("nothing", "Collected :"), None);
    }

    #[test]
    fn the_committed_baseline_knows_every_case() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json");
        let baseline = read(&path).unwrap();
        let names: Vec<_> = baseline.instructions.keys().cloned().collect();
        let mut cases: Vec<_> = Case::value_variants().iter().map(|case| name(*case)).collect();
        cases.sort();
        assert_eq!(names, cases);
    }
}
