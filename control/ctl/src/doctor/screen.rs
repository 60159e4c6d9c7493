//! Findings as text.

use super::Deed;
use crate::table::wrapped;
use ringdns_api::{Finding, Verdict};
use ringdns_common::{printable::Printable, units::counted};
use std::io::{self, Write};

/// Columns of the verdict.
const VERDICT: usize = 9;

/// Prints findings, the worst first; those of one verdict stay in order. `risk`: reason why a reset of the NIC
/// is left out.
pub fn findings(
    findings: &[Finding],
    risk: Option<&str>,
    width: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    for Finding { check, verdict, evidence, remedy, fix } in sorted {
        let mut label = verdict.label();
        let evidence = evidence.strip_prefix("unknown: ").unwrap_or(evidence);
        for line in wrapped(&Printable(format!("{check}: {evidence}")).to_string(), width - VERDICT) {
            writeln!(out, "{label:VERDICT$}{line}")?;
            label = "";
        }
        // A fact without a fault has nothing to be mended.
        let Some(remedy) = remedy.as_ref().filter(|_| *verdict > Verdict::Ok) else { continue };
        // Commands are not broken: they are to be copied.
        let (mut sign, lines) = match fix {
            Some(fix) => ("--apply:", fix.changes.iter().map(|change| change.make.to_string()).collect()),
            None => ("     do:", wrapped(remedy, width - VERDICT)),
        };
        for line in lines {
            writeln!(out, "{sign:VERDICT$}{}", Printable(line))?;
            sign = "";
        }
        if let Some(risk) = risk.filter(|_| fix.as_ref().is_some_and(|fix| fix.resets_link)) {
            let note = format!("left out without --reset-link: {risk}");
            for line in wrapped(&Printable(note).to_string(), width - VERDICT) {
                writeln!(out, "{:VERDICT$}{line}", "")?;
            }
        }
    }
    let count =
        |verdict: Verdict| findings.iter().filter(|finding| finding.verdict == verdict).count() as u64;
    let worse = [
        counted(count(Verdict::Fault), "fault", "faults"),
        counted(count(Verdict::Warning), "warning", "warnings"),
        counted(count(Verdict::Advice), "advice", "pieces of advice"),
        format!("{} unknown", count(Verdict::Unknown)),
    ];
    writeln!(out, "{}; {} in order", worse.join(", "), count(Verdict::Ok))
}

/// Prints changes that were made, `done`, or were not.
pub fn deeds(done: &str, deeds: &[Deed], width: usize, out: &mut dyn Write) -> io::Result<()> {
    for Deed { check, command, error, failed } in deeds {
        let (mut label, text) = match error {
            None => (done, format!("{check}: {command}")),
            Some(error) => (if *failed { "failed" } else { "left" }, format!("{check}: {command}: {error}")),
        };
        for line in wrapped(&Printable(text).to_string(), width - VERDICT) {
            writeln!(out, "{label:VERDICT$}{line}")?;
            label = "";
        }
    }
    Ok(())
}
