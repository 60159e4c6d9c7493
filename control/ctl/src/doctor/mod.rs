//! `ringctl doctor`: looks at the host, its NIC and the configuration, before ringdnsd runs and while it
//! does, and mends what can be mended safely.

mod screen;
#[cfg(test)]
mod tests;

use crate::{offline, table::table_width, talk::Ringdnsd};
use anyhow::Context;
use clap::Args;
use ringdns_api::{DaemonStatus, Finding, Verdict};
use ringdns_common::printable::Printable;
use ringdns_config::Config;
use ringdns_doctor::{
    Access, Applied, Checked, CheckedSeverity, Facts, Reach, UndoError, UndoFile, Wanted, daemon, judge,
    reset_refused,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// Exit code if the host could not be looked at.
pub const UNKNOWN: u8 = 3;

/// Options of `ringctl doctor`.
#[derive(Args)]
pub struct Doctor {
    #[command(flatten)]
    place: Place,
    /// Make the safe changes: queues, hash and ring sizes of the NIC, offloads, interrupts, settings of the
    /// kernel. Each former value is written down first. Changes that would reset the NIC are left out while
    /// ringdnsd runs, and where they could cut you off (see --reset-link).
    #[arg(long, conflicts_with = "undo")]
    apply: bool,
    /// Undo what --apply changed since the host was started, the last change first. Changes that reset the
    /// NIC stay while ringdnsd runs, and where they could cut you off (see --reset-link).
    #[arg(long)]
    undo: bool,
    /// Let --apply and --undo reset a NIC that has the default route, or the address of your SSH connection:
    /// you may be cut off.
    #[arg(long)]
    reset_link: bool,
    /// File in which --apply writes the former values down.
    #[arg(long, value_name = "FILE", default_value = "/var/lib/ringctl/doctor-undo.json")]
    undo_file: PathBuf,
}

/// Configuration by which a host is looked at.
#[derive(Args)]
pub struct Place {
    /// Configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/ringdns/ringdns.toml")]
    config: PathBuf,
    /// Interface to look at, in place of that of the configuration.
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// User as whom folders and files are tried. Absent: ringdns, if there is such a user; else this one.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

/// Change that was made or undone, or left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Deed {
    /// Name of the check that asked for it.
    check: String,
    /// Command.
    command: String,
    /// Reason why it was not carried out.
    error: Option<String>,
    /// Whether it was tried, and failed.
    failed: bool,
}

impl Deed {
    fn new(check: &str, command: String, error: Option<&UndoError>) -> Self {
        Deed {
            check: check.to_owned(),
            command,
            error: error.map(UndoError::to_string),
            failed: error.is_some_and(|error| !matches!(error, UndoError::Running | UndoError::Access(_))),
        }
    }
}

impl Doctor {
    /// Does what the options say, and returns the exit code.
    pub async fn run(&self, ringdnsd: &Ringdnsd, json: bool) -> anyhow::Result<ExitCode> {
        if let Ringdnsd::Http { .. } = ringdnsd {
            anyhow::ensure!(
                !self.apply && !self.undo,
                "only the host itself can be changed: leave --url out"
            );
            let findings: Vec<Finding> = serde_json::from_slice(&ringdnsd.get("/v1/doctor").await?)?;
            return print(&findings, &[], None, json);
        }
        if self.undo {
            return self.undo(is_running(ringdnsd).await, json);
        }
        let mut deeds = Vec::new();
        let mut facts = self.place.facts(ringdnsd).await;
        if self.apply {
            // Another number of queues has other interrupts, and another hash.
            for resets_link in [true, false] {
                let made = self.apply(&facts, resets_link, is_running(ringdnsd).await)?;
                if !made.is_empty() {
                    facts = self.place.facts(ringdnsd).await;
                }
                deeds.extend(made);
            }
        }
        let risk = facts.access.as_ref().filter(|_| !self.reset_link).and_then(Access::risk);
        print(&judge(&facts), &deeds, risk.as_deref(), json)
    }

    /// Makes the changes that facts ask for: those that reset the NIC, or the others.
    fn apply(&self, facts: &Facts, resets_link: bool, is_running: bool) -> anyhow::Result<Vec<Deed>> {
        let mut file = UndoFile::open(&self.undo_file)?;
        let mut deeds = Vec::new();
        let refused = reset_refused(is_running, facts.access.as_ref().filter(|_| !self.reset_link));
        let findings = judge(facts);
        let wanted = findings.iter().filter(|finding| finding.verdict > Verdict::Ok);
        for finding in wanted {
            let Some(fix) = finding.fix.as_ref().filter(|fix| fix.resets_link == resets_link) else {
                continue;
            };
            let deed = |command: String, error: Option<&UndoError>| Deed::new(&finding.check, command, error);
            if let Some(reason) = refused.as_ref().filter(|_| resets_link) {
                deeds.extend(fix.changes.iter().map(|change| deed(change.make.to_string(), Some(reason))));
                continue;
            }
            let (made, result) = file.apply(finding);
            deeds.extend(made.iter().map(|change| deed(change.make.to_string(), None)));
            if let Err(error) = result {
                let command = fix.changes.get(made.len()).map(|change| change.make.to_string());
                deeds.push(deed(command.unwrap_or_default(), Some(&error)));
            }
        }
        Ok(deeds)
    }

    /// Undoes all changes, prints them and returns the exit code.
    fn undo(&self, is_running: bool, json: bool) -> anyhow::Result<ExitCode> {
        let undone = UndoFile::open(&self.undo_file)?.undo(|applied| {
            let access = applied.interface().filter(|_| !self.reset_link).map(Access::read);
            reset_refused(is_running, access.as_ref())
        });
        let deed = |(applied, result): (Applied, Result<(), UndoError>)| {
            Deed::new(&applied.check, applied.change.undo.to_string(), result.err().as_ref())
        };
        let deeds: Vec<Deed> = undone.into_iter().map(deed).collect();
        let mut out = io::stdout().lock();
        match json {
            true => writeln!(out, "{}", json!({ "undone": deeds }))?,
            false if deeds.is_empty() => writeln!(out, "nothing to undo: {}", self.undo_file.display())?,
            false => screen::deeds("undone", &deeds, table_width(), &mut out)?,
        }
        Ok(if deeds.iter().all(|deed| deed.error.is_none()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Prints findings, and the deeds before them. `risk`: reason why a reset of the NIC is left out.
fn print(findings: &[Finding], deeds: &[Deed], risk: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", json!({ "findings": findings, "changes": deeds }))?;
    } else {
        screen::deeds("changed", deeds, table_width(), &mut out)?;
        screen::findings(findings, risk, table_width(), &mut out)?;
    }
    Ok(code(findings, deeds))
}

/// Returns the exit code for findings, which is that of `ringctl check`. A change that failed is no less than a
/// warning.
fn code(findings: &[Finding], deeds: &[Deed]) -> ExitCode {
    match findings.iter().map(|finding| finding.verdict).max() {
        Some(Verdict::Fault) => ExitCode::from(2),
        Some(Verdict::Warning) => ExitCode::from(1),
        _ if deeds.iter().any(|deed| deed.failed) => ExitCode::from(1),
        _ => ExitCode::SUCCESS,
    }
}

impl Place {
    /// Returns the findings on this host.
    pub async fn findings(&self, ringdnsd: &Ringdnsd) -> Vec<Finding> {
        judge(&self.facts(ringdnsd).await)
    }

    /// Returns the path of the configuration.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Returns the interface to look at.
    pub fn interface_of(&self) -> Option<String> {
        let configured = || {
            let text = fs::read_to_string(&self.config).ok()?;
            Config::parse(&text, &self.config).ok()?.server.interface
        };
        self.interface.clone().or_else(configured)
    }

    /// Gathers all facts.
    async fn facts(&self, ringdnsd: &Ringdnsd) -> Facts {
        let read = fs::read_to_string(&self.config);
        let config = read.ok().and_then(|text| Config::parse(&text, &self.config).ok());
        let mut wanted = config.as_ref().map(Wanted::of).unwrap_or_default();
        if self.interface.is_some() {
            wanted.interface.clone_from(&self.interface);
        }
        let problems = problems(ringdnsd).await;
        let mut facts = Facts::gather(wanted, &[&self.config], Reach::All, problems);
        facts.checked =
            Some(check(&self.config, self.user.as_deref()).unwrap_or_else(|error| vec![unchecked(&error)]));
        facts
    }
}

/// Whether a ringdnsd runs in this network namespace, or answers.
async fn is_running(ringdnsd: &Ringdnsd) -> bool {
    daemon().is_some() || problems(ringdnsd).await.is_some()
}

/// Returns the problems of the ringdnsd that runs, if one does.
async fn problems(ringdnsd: &Ringdnsd) -> Option<Vec<ringdns_api::Problem>> {
    let body = ringdnsd.get("/v1/status").await.ok()?;
    Some(serde_json::from_slice::<DaemonStatus>(&body).ok()?.problems)
}

/// Output of `ringdnsd --check --json`.
#[derive(Deserialize)]
struct CheckReport {
    findings: Vec<Checked>,
}

/// Lets ringdnsd check a configuration, as the user that it runs as.
fn check(config: &Path, user: Option<&str>) -> anyhow::Result<Vec<Checked>> {
    let program = offline::program();
    let mut command = Command::new(&program);
    if rustix::process::geteuid().is_root() {
        let name = user.unwrap_or("ringdns");
        match (user_of(name), user) {
            (Some([uid, gid]), _) => as_user(&mut command, uid, gid),
            (None, Some(_)) => anyhow::bail!("there is no user {name}"),
            (None, None) => {}
        }
    }
    command.arg("--config").arg(config).args(["--check", "--json"]);
    let output = command
        .output()
        .with_context(|| format!("{} cannot be run. Install ringdnsd beside ringctl", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let report: CheckReport = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{} --check: {}", program.display(), said.trim()))?;
    Ok(report.findings)
}

/// Makes a command run as a user of its own, without further groups.
fn as_user(command: &mut Command, uid: u32, gid: u32) {
    use std::os::unix::process::CommandExt;
    command.uid(uid).gid(gid);
}

/// Returns the numbers of a user and its group.
fn user_of(name: &str) -> Option<[u32; 2]> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut numbers = line.split(':').skip(2).map(str::parse);
    Some([numbers.next()?.ok()?, numbers.next()?.ok()?])
}

/// Returns a check that could not be made.
fn unchecked(error: &anyhow::Error) -> Checked {
    Checked {
        severity: CheckedSeverity::Unchecked,
        key: String::new(),
        reason: Printable(format!("{error:#}")).to_string(),
        remedy: "ringdnsd --check says more".into(),
    }
}
