//! Setup of a measurement.

use crate::{
    built::{COMPILER, PROFILE},
    machine::Machine,
};
use serde::Serialize;
use std::{fmt, process::Command};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Everything that the figures depend on, except the peers: comparisons name their versions.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Setup {
    /// Start time in UTC, as in RFC 3339.
    pub when: String,
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
            when: now(),
            machine: Machine::here(),
            compiler: COMPILER.into(),
            profile: PROFILE.into(),
            commit: git(&["rev-parse", "--short=12", "HEAD"]),
            changed: status.is_some_and(|status| !status.is_empty()),
        }
    }
}

/// Returns the time in UTC, as in RFC 3339, in whole seconds.
pub fn now() -> String {
    let now = OffsetDateTime::now_utc().replace_nanosecond(0);
    now.ok().and_then(|now| now.format(&Rfc3339).ok()).unwrap_or_default()
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
        write!(f, "- Begun: {}.", self.when)?;
        if self.machine.load > 0.5 {
            write!(
                f,
                "\n- The machine had other work: trust only instructions and ratios, and the latter with caution."
            )?;
        }
        Ok(())
    }
}
