//! `ringdnsd --check`: looks at folders, ports and files that a configuration names, beside a running
//! ringdnsd, and changes nothing.
//!
//! [`preflight`] finds what refuses a start. This adds what a start would find out by trying, what
//! would fail only later, and what this user may not see.

mod files;
mod folders;
mod ports;

use crate::{lists::Lists, local::LocalSources, preflight, reload::ConfigSource};
use ringdns_config::{
    Config, ConfigError, Problem,
    error::{FilePlace, PlacedProblem},
};
use ringdns_doctor::{Checked, CheckedSeverity};
use serde::Serialize;
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Result of `ringdnsd --check`.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// Name of the configuration file.
    pub file: PathBuf,
    /// Whether ringdnsd would start with it.
    pub accepted: bool,
    /// All that was found, in the order of the file.
    pub findings: Vec<CheckFinding>,
}

/// Finding of `ringdnsd --check`.
#[derive(Debug, Serialize)]
pub struct CheckFinding {
    /// Meaning for a start.
    pub severity: CheckSeverity,
    /// Line of the key's value, from 1.
    pub line: Option<usize>,
    /// Column of the key's value, from 1.
    pub column: Option<usize>,
    /// Path of the key; empty if there is none.
    pub key: String,
    /// Reason.
    pub reason: String,
    /// Remedy.
    pub remedy: String,
}

/// Meaning of a finding for a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckSeverity {
    /// A start would be refused.
    Error,
    /// A part will fail later.
    Warning,
    /// This user may not see it.
    Unchecked,
}

/// Problem and what it means for a start.
type Finding = (CheckSeverity, Problem);

impl CheckReport {
    /// Checks a configuration that was read from `file`, and this machine.
    pub fn of(file: &Path, loaded: Result<(Config, ConfigSource), ConfigError>) -> Self {
        let mut placed: Vec<(CheckSeverity, PlacedProblem)> = match loaded {
            Ok((mut config, source)) => {
                let placed = |(severity, problem): Finding| {
                    let place = match problem.key.as_str() {
                        "" => FilePlace(None),
                        key => source.file().place_of(key),
                    };
                    (severity, PlacedProblem { place, problem })
                };
                check(&mut config).into_iter().map(placed).collect()
            }
            Err(ConfigError::Refused { problems, .. }) => {
                problems.into_iter().map(|problem| (CheckSeverity::Error, problem)).collect()
            }
            Err(error) => {
                let problem = Problem::new("", error.to_string(), "Give the path of a configuration");
                vec![(CheckSeverity::Error, PlacedProblem { place: FilePlace(None), problem })]
            }
        };
        placed.sort_by_key(|(severity, problem)| (*severity, problem.place));
        placed.dedup();
        CheckReport {
            file: file.to_owned(),
            accepted: placed.iter().all(|(severity, _)| *severity != CheckSeverity::Error),
            findings: placed
                .into_iter()
                .map(|(severity, problem)| CheckFinding::of(severity, problem))
                .collect(),
        }
    }

    /// Returns the findings, one a line.
    pub fn lines(&self) -> Vec<(CheckSeverity, String)> {
        let line = |finding: &CheckFinding| {
            let word = match finding.severity {
                CheckSeverity::Error => "",
                CheckSeverity::Warning => "warning: ",
                CheckSeverity::Unchecked => "not checked: ",
            };
            (finding.severity, format!("{word}{}{finding}", self.file.display()))
        };
        self.findings.iter().map(line).collect()
    }
}

impl CheckFinding {
    fn of(severity: CheckSeverity, PlacedProblem { place, problem }: PlacedProblem) -> Self {
        let Problem { key, reason, remedy } = problem;
        let (line, column) = place.0.map(|place| (place.line, place.column)).unzip();
        CheckFinding { severity, line, column, key, reason, remedy }
    }
}

impl fmt::Display for CheckFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        let CheckFinding { key, reason, remedy, .. } = self;
        let problem = Problem::new(key, reason, remedy);
        write!(f, ": {problem}")
    }
}

/// Checks the folders and files of a configuration in effect, which a start has accepted.
pub fn of_running(config: &Config) -> Vec<Checked> {
    let checked = |(severity, problem): Finding| {
        let Problem { key, reason, remedy, .. } = problem;
        let severity = match severity {
            CheckSeverity::Error => CheckedSeverity::Error,
            CheckSeverity::Warning => CheckedSeverity::Warning,
            CheckSeverity::Unchecked => CheckedSeverity::Unchecked,
        };
        Checked { severity, key, reason, remedy }
    };
    folders::check(config).into_iter().chain(files::check(config)).map(checked).collect()
}

/// Checks a configuration against this machine.
fn check(config: &mut Config) -> Vec<Finding> {
    let lists = Lists::default().load(&config.lists).err();
    let data = LocalSources::default().load(&config.local).err();
    let refused = preflight::check(config).into_iter().chain(lists.into_iter().chain(data).flatten());
    let mut findings: Vec<Finding> = refused.map(|problem| (CheckSeverity::Error, problem)).collect();
    for warning in preflight::warnings(config) {
        tracing::warn!("{warning}");
    }
    findings.extend(folders::check(config));
    findings.extend(files::check(config));
    findings.extend(ports::check(config));
    findings
}
