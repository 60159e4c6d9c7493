//! Setup of a measurement.

use crate::{
    built::{COMPILER, PROFILE},
    machine::Machine,
};
use serde::Serialize;
use std::{
    fmt,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Everything that the figures depend on, except the peers: comparisons name their versions.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Setup {
    /// Start time, in seconds since 1970.
    pub when: u64,
    /// Machine of the run.
    pub machine: Machine,
    /// Compiler of this program.
    pub compiler: String,
    /// Cargo profile.
    pub profile: String,
    /// Commit of the working directory, if it is a checkout.
    pub commit: Option<String>,
    /// Whether files differ from the commit.
    pub changed: bool,
}

impl Setup {
    /// Returns the current setup.
    pub fn here() -> Self {
        let status = git(&["status", "--porcelain", "--untracked-files=no"]);
        Setup {
            when: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            machine: Machine::here(),
            compiler: COMPILER.into(),
            profile: PROFILE.into(),
            commit: git(&["rev-parse", "--short=12", "HEAD"]),
            changed: status.is_some_and(|status| !status.is_empty()),
        }
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commit = self.commit.as_deref().unwrap_or("unknown");
        let changed = if self.changed { ", with changes" } else { "" };
        writeln!(f, "- Machine: {}.", self.machine)?;
        writeln!(f, "- Build: {}, profile {}, commit {commit}{changed}.", self.compiler, self.profile)?;
        let when =
            i64::try_from(self.when).ok().and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok());
        let when = when.and_then(|when| when.format(&Rfc3339).ok());
        write!(f, "- Begun: {}.", when.unwrap_or_else(|| self.when.to_string()))?;
        if self.machine.load > 0.5 {
            write!(
                f,
                "\n- The machine had other work: trust only instructions and ratios, and the latter with caution."
            )?;
        }
        Ok(())
    }
}
