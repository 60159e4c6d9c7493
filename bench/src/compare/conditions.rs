//! Conditions of a comparison.

use super::Args;
use crate::{machine::Machine, report::group};
use std::{fmt, time::SystemTime};

/// Everything besides the servers that the figures depend on.
#[derive(Clone, Debug)]
pub struct Conditions {
    names: u32,
    nice: i8,
    /// Machine that the comparison ran on.
    pub machine: Machine,
    /// Start time, in seconds since 1970.
    pub when: u64,
}

impl Conditions {
    /// Returns the conditions of a comparison that is about to begin.
    pub fn of(args: &Args) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Conditions { names: args.names, nice: args.nice, machine: Machine::here(), when: since.as_secs() }
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "veth, copy mode, two cores: each server on one, with one thread for its hits; the generator in the kernel \
             and the upstream on the other. {} names. Linux {}, {}, load {:.1} before",
            group(self.names.into()),
            self.machine.kernel,
            self.machine.processor,
            self.machine.load
        )?;
        if self.nice != 0 {
            write!(f, ", nice {}", self.nice)?;
        }
        if self.machine.load > 0.5 {
            f.write_str(". The machine had other work: trust only ratios, and those with caution")?;
        }
        f.write_str(".")
    }
}
