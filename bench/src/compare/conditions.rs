//! Under which conditions a comparison was made.

use super::Args;
use crate::report::group;
use rustix::system::{sysinfo, uname};
use std::{fmt, fs, time::SystemTime};

/// Everything that figures depend on, but the servers.
#[derive(Clone, Debug)]
pub struct Conditions {
    names: u32,
    nice: i8,
    kernel: String,
    processor: String,
    /// Programs that wanted a core when the run began: 0 on a machine with nothing else to do.
    load: f64,
    /// When it began, in seconds since 1970.
    pub when: u64,
}

impl Conditions {
    /// Of a comparison that is about to begin.
    pub fn of(args: &Args) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Conditions {
            names: args.names,
            nice: args.nice,
            kernel: uname().release().to_string_lossy().into_owned(),
            processor: processor(),
            // In units of 1/65536.
            load: sysinfo().loads[0] as f64 / 65536.0,
            when: since.as_secs(),
        }
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "veth, copy mode, two cores: each server on one, with one thread for its hits; the generator in the kernel \
             and the upstream on the other. {} names. Linux {}, {}, load {:.1} before",
            group(self.names.into()),
            self.kernel,
            self.processor,
            self.load
        )?;
        if self.nice != 0 {
            write!(f, ", nice {}", self.nice)?;
        }
        if self.load > 0.5 {
            f.write_str(". The machine had other work: believe ratios, and those with caution")?;
        }
        f.write_str(".")
    }
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| "unknown processor".into(), |(_, name)| name.trim().into())
}
