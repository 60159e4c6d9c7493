//! Instruction counts of this program's own work, by valgrind.

use crate::instructions::COUNTED;
use anyhow::{Context, Result, bail, ensure};
use std::{
    ffi::OsStr,
    fs,
    path::Path,
    process::{Command, Output},
};

/// Instructions and allocations an operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Instructions an operation.
    pub instructions: f64,
    /// Allocations an operation.
    pub allocations: f64,
}

/// Runs this program under valgrind with `arguments`; `options` are valgrind's own.
fn run(options: &[String], arguments: &[impl AsRef<OsStr>]) -> Result<Output> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--toggle-collect={COUNTED}"))
        .args(options)
        .arg(own)
        .args(arguments)
        .output()
        .context("cannot run valgrind: install it (deploy/setup.sh test)")?;
    if !output.status.success() {
        let words: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("\"{}\" failed under valgrind:\n{said}", words.join(" "));
    }
    Ok(output)
}

/// Counts one piece of work, which this program does when it is run with `arguments`.
pub fn count(arguments: &[impl AsRef<OsStr>]) -> Result<Cost> {
    let output = run(&["--callgrind-out-file=/dev/null".into()], arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = number_after(&said, "Collected :").context("valgrind did not print its count")?;
    cost(&String::from_utf8_lossy(&output.stdout), collected)
}

/// Counts several pieces of work, which this program does one after the other when it is run with
/// `arguments`. It prints a line for each, and then calls the function that `end` is the pattern of.
pub fn count_each(arguments: &[impl AsRef<OsStr>], end: &str) -> Result<Vec<Cost>> {
    let folder = tempfile::tempdir().context("cannot make a folder for valgrind's counts")?;
    let dumps = folder.path().join("counts");
    let options = [
        format!("--callgrind-out-file={}", dumps.display()),
        format!("--dump-before={end}"),
        "--dump-line=no".into(),
    ];
    let output = run(&options, arguments)?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let costs = printed.lines().enumerate().map(|(nth, line)| {
        let path = folder.path().join(format!("counts.{}", nth + 1));
        cost(line, total(&path)?)
    });
    costs.collect()
}

/// Returns the total of a dump of callgrind.
fn total(path: &Path) -> Result<f64> {
    let text = fs::read_to_string(path).with_context(|| format!("valgrind wrote no {}", path.display()))?;
    number_after(&text, "totals:").with_context(|| format!("{} has no total", path.display()))
}

fn cost(printed: &str, collected: f64) -> Result<Cost> {
    let number = |label| {
        number_after(printed, label).with_context(|| format!("the work did not print its number of {label}"))
    };
    let (operations, allocations) = (number("operations")?, number("allocations")?);
    ensure!(collected > 0.0 && operations > 0.0, "valgrind saw no call of {COUNTED}: was it inlined?");
    Ok(Cost { instructions: collected / operations, allocations: allocations / operations })
}

/// Returns the number that follows `label` in `text`.
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
    fn a_cost_is_of_an_operation() {
        let found = cost("operations 4 allocations 2\n", 100.0).unwrap();
        assert_eq!(found, Cost { instructions: 25.0, allocations: 0.5 });
        assert!(cost("operations 4 allocations 2", 0.0).is_err(), "nothing was counted");
        assert!(cost("allocations 2", 100.0).is_err());
    }

    #[test]
    fn a_dump_has_a_total() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counts.1");
        fs::write(&path, "version: 1\nevents: Ir\nfn=(1) x\n0 3\nsummary: 7\ntotals: 4711\n").unwrap();
        assert_eq!(total(&path).unwrap(), 4_711.0);
        assert!(total(&folder.path().join("counts.2")).is_err());
    }
}
