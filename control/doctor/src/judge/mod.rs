//! Verdicts on facts.

mod network;
mod nic;
mod process;
mod system;

#[cfg(test)]
mod tests;

pub use nic::{Target, findings as nic_findings};
pub use process::PACKET_MEMORY;

use crate::facts::{Checked, CheckedSeverity, Facts};
use ringdns_api::{Change, Finding, Fix, Problem, Severity, Verdict};

/// Returns the findings on a host, in the order of the packets' way.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = system::findings(facts);
    match (&facts.wanted.interface, &facts.nic) {
        (None, _) if !facts.wanted.accepted => {
            findings.push(unknown("interface", "no configuration was accepted, which would name it"));
        }
        (None, _) => findings.push(fine("interface", "none is configured: kernel sockets receive queries")),
        (Some(interface), None) => findings.push(
            new(
                "interface",
                Verdict::Fault,
                format!("there is no interface {interface} in this network namespace"),
            )
            .remedy("name one that `ip link` lists in server.interface"),
        ),
        (Some(_), Some(found)) => {
            let wanted = Target {
                queues: facts.wanted.queues.as_deref(),
                cores: facts.cores,
                workers: facts.workers,
                worker_cores: &facts.worker_cores,
                takes_vlans: facts.wanted.vlans || facts.has_vlan_devices,
                busy_poll: facts.wanted.busy_poll,
            };
            findings.extend(nic::findings(found, &wanted));
            findings.extend(nic::host_findings(found, facts));
        }
    }
    // Without a configuration, nothing is known to be needed.
    if facts.wanted.accepted {
        findings.extend(process::findings(facts));
    }
    findings.extend(network::findings(facts));
    findings.extend(checked(facts));
    findings.extend(facts.problems.iter().flatten().map(of_problem));
    findings
}

/// Returns what `ringdnsd --check` found.
fn checked(facts: &Facts) -> Vec<Finding> {
    let Some(checked) = &facts.checked else { return Vec::new() };
    if checked.is_empty() {
        return vec![fine("config", "configuration, folders, files and ports are accepted")];
    }
    let finding = |Checked { severity, key, reason, remedy }: &Checked| {
        let verdict = match severity {
            CheckedSeverity::Error => Verdict::Fault,
            CheckedSeverity::Warning => Verdict::Warning,
            CheckedSeverity::Unchecked => Verdict::Unknown,
        };
        let evidence = if key.is_empty() { reason.clone() } else { format!("{key}: {reason}") };
        new("config", verdict, evidence).remedy(remedy)
    };
    checked.iter().map(finding).collect()
}

/// Returns a problem of ringdnsd as a finding.
pub fn of_problem(problem: &Problem) -> Finding {
    let verdict = match problem.severity {
        Severity::Critical => Verdict::Fault,
        Severity::Warning => Verdict::Warning,
        Severity::Info => Verdict::Advice,
    };
    new(problem.kind.label(), verdict, &problem.text)
}

fn new(check: &str, verdict: Verdict, evidence: impl Into<String>) -> Finding {
    Finding { check: check.to_owned(), verdict, evidence: evidence.into(), remedy: None, fix: None }
}

fn fine(check: &str, evidence: impl Into<String>) -> Finding {
    new(check, Verdict::Ok, evidence)
}

fn unknown(check: &str, evidence: impl std::fmt::Display) -> Finding {
    new(check, Verdict::Unknown, format!("unknown: {evidence}"))
}

/// Parts that some findings have.
trait Completed {
    /// Adds a remedy that an operator carries out.
    fn remedy(self, remedy: impl Into<String>) -> Self;
    /// Adds changes that `--apply` makes. They are the remedy too.
    fn fix(self, changes: Vec<Change>, resets_link: bool) -> Self;
}

impl Completed for Finding {
    fn remedy(self, remedy: impl Into<String>) -> Self {
        Finding { remedy: Some(remedy.into()), ..self }
    }

    fn fix(self, changes: Vec<Change>, resets_link: bool) -> Self {
        if changes.is_empty() {
            return self;
        }
        let commands: Vec<String> = changes.iter().map(|change| change.make.to_string()).collect();
        Finding { fix: Some(Fix { changes, resets_link }), ..self }.remedy(commands.join("; "))
    }
}
