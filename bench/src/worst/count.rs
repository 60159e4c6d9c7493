//! Exact costs of candidates: valgrind counts a batch of them in one run.

use super::{
    genome::Genome,
    scene::{Class, Scene},
    search::Judge,
};
use crate::{callgrind, instructions::Counting};
use anyhow::{Context, Result};
use std::{fs, hint::black_box, path::Path, thread};

/// Pattern by which valgrind finds `counted_one`.
const END: &str = "*worst::count::counted_one*";

/// Counts the candidates of a file, one a line. Prints a line for each.
pub fn count_file(path: &Path) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    for line in text.lines() {
        let genome = line.parse()?;
        count_here(&genome)?;
        counted_one();
    }
    Ok(())
}

/// Does the work of a candidate, and prints its operations and allocations.
pub fn count_here(genome: &Genome) -> Result<()> {
    let mut meter = Counting::default();
    let operations = Scene::new(genome)
        .and_then(|mut scene| scene.measure(&mut meter))
        .with_context(|| genome.to_string())?;
    println!("operations {operations} allocations {}", meter.allocations);
    Ok(())
}

/// Marks the end of a candidate's work for valgrind.
#[inline(never)]
fn counted_one() {
    black_box(());
}

/// Judge that runs candidates here to learn their class, and under valgrind to learn their cost.
#[derive(Debug)]
pub struct Valgrind {
    /// Number of valgrinds that run at once.
    pub jobs: usize,
}

impl Judge for Valgrind {
    fn judge(&mut self, candidates: &[Genome]) -> Result<Vec<Option<(Class, f64)>>> {
        let mut verdicts = Vec::with_capacity(candidates.len());
        for genome in candidates {
            let told = Telling(genome);
            let class = Scene::new(genome).and_then(|mut scene| scene.class());
            std::mem::forget(told);
            verdicts.push(class.with_context(|| genome.to_string())?.map(|class| (class, 0.0)));
        }
        let classed: Vec<usize> = (0..candidates.len()).filter(|nth| verdicts[*nth].is_some()).collect();
        let share = classed.len().div_ceil(self.jobs.max(1)).max(1);
        let shares: Vec<&[usize]> = classed.chunks(share).collect();
        let counts: Vec<Result<Vec<f64>>> = thread::scope(|scope| {
            let count = |share: &[usize]| count_each(share.iter().map(|nth| &candidates[*nth]));
            let workers: Vec<_> = shares.iter().map(|share| scope.spawn(move || count(share))).collect();
            let join = |worker: thread::ScopedJoinHandle<'_, _>| {
                worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            workers.into_iter().map(join).collect()
        });
        for (share, counts) in shares.into_iter().zip(counts) {
            for (nth, count) in share.iter().zip(counts?) {
                if let Some((_, cost)) = &mut verdicts[*nth] {
                    *cost = count;
                }
            }
        }
        Ok(verdicts)
    }
}

/// Counts candidates in one valgrind.
fn count_each<'a>(candidates: impl Iterator<Item = &'a Genome>) -> Result<Vec<f64>> {
    let lines: Vec<String> = candidates.map(|genome| format!("{genome}\n")).collect();
    let file = tempfile::NamedTempFile::new().context("cannot make a file of candidates")?;
    fs::write(file.path(), lines.concat()).context("cannot write the candidates")?;
    let path = file.path().to_string_lossy();
    let costs = callgrind::count_each(&["worst", "--count", &path], END)?;
    anyhow::ensure!(
        costs.len() == lines.len(),
        "valgrind counted {} of {} candidates",
        costs.len(),
        lines.len()
    );
    Ok(costs.into_iter().map(|cost| cost.instructions).collect())
}

/// Tells the candidate at hand when its work panics, which is a fault of the data plane.
struct Telling<'a>(&'a Genome);

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("this candidate made the data plane panic: {}", self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instructions::{Meter, Timing};

    fn class(text: &str) -> Option<Class> {
        let genome: Genome = text.parse().unwrap();
        Scene::new(&genome).and_then(|mut scene| scene.class()).unwrap()
    }

    #[test]
    fn packets_have_the_class_of_their_outcome() {
        for (text, expected) in [
            (r#"{"packets":[{}]}"#, Some(Class::Hit)),
            (r#"{"packets":[{"tags":2,"ip":"v6"}]}"#, Some(Class::Hit)),
            (r#"{"packets":[{},{"is_stale":true}]}"#, Some(Class::Hit)),
            (r#"{"packets":[{"content":"failure"}]}"#, Some(Class::Hit)),
            (r#"{"packets":[{"options":[[{"cookie":"server"},1]]}]}"#, Some(Class::Cookie)),
            (r#"{"packets":[{"options":[[{"cookie":"malformed"},1]]}]}"#, Some(Class::Refused)),
            (
                r#"{"packets":[{"options":[[{"cookie":"malformed"},1]]}],"site":{"has_cookies":false}}"#,
                Some(Class::Hit),
            ),
            (
                r#"{"packets":[{"options":[[{"cookie":"wrong"},1]]}],"site":{"requires_cookies":true}}"#,
                Some(Class::Refused),
            ),
            (
                r#"{"packets":[{"options":[[{"cookie":"old"},1]]}],
                    "site":{"requires_cookies":true,"has_old_secret":true}}"#,
                Some(Class::Cookie),
            ),
            (r#"{"packets":[{"sum":"wrong"}]}"#, Some(Class::Refused)),
            (r#"{"packets":[{"sum":"partial"}],"site":{"checksums":"allow-partial"}}"#, Some(Class::Hit)),
            (r#"{"packets":[{},{"sum":"wrong"}]}"#, None),
            (
                r#"{"packets":[{"labels":"identity","qtype":16,"qclass":3}],"site":{"name":9}}"#,
                Some(Class::Refused),
            ),
            (r#"{"packets":[{}],"site":{"access":[32,128],"is_denied":true}}"#, Some(Class::Refused)),
            (
                r#"{"packets":[{"ip":"v6"}],"site":{"access":[32,128],"other_prefixes":100}}"#,
                Some(Class::Hit),
            ),
            (r#"{"packets":[{}],"site":{"groups":"mac","audience":"own"}}"#, Some(Class::Hit)),
            (r#"{"packets":[{}],"site":{"groups":"others","audience":{"list":20}}}"#, Some(Class::Hit)),
            (r#"{"packets":[{}],"site":{"limit":"terms-other-over","log":"sieved"}}"#, Some(Class::Hit)),
            (r#"{"packets":[{}],"site":{"limit":"over"}}"#, Some(Class::Refused)),
            (r#"{"packets":[{}],"site":{"limit":"slip"}}"#, Some(Class::Refused)),
            (r#"{"packets":[{}],"site":{"limit":"dry-run"}}"#, Some(Class::Hit)),
        ] {
            assert_eq!(class(text), expected, "{text}");
        }
    }

    #[test]
    fn the_work_is_measured_and_allocates_nothing() {
        let genome: Genome = r#"{"packets":[{"tags":1},{"name":255}],"site":{"log":"all"}}"#.parse().unwrap();
        let mut meter = Counting::default();
        assert_eq!(Scene::new(&genome).unwrap().measure(&mut meter).unwrap() % 64, 0);
        assert_eq!(meter.allocations, 0);
        let mut timing = Timing::default();
        Scene::new(&genome).unwrap().measure(&mut timing as &mut dyn Meter).unwrap();
        assert!(!timing.spent.is_zero());
    }
}
