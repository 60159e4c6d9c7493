//! Facts about the host of a NIC that speed depends on.

use crate::{
    machine::Machine,
    nic::{number, text},
};
use procfs::{Current, Meminfo};
use serde::Serialize;
use std::{fmt, fs, path::Path};

/// Host of the NIC.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Host {
    /// Processor, memory, kernel, load.
    pub machine: Machine,
    /// Number of NUMA nodes with memory.
    pub numa_nodes: usize,
    /// Cores isolated from the scheduler, as a list.
    pub isolated: String,
    /// Whether SMT is on: cores are then threads that share one.
    pub smt: Option<bool>,
    /// Frequency governor of the first core.
    pub governor: Option<String>,
    /// Huge pages.
    pub huge_pages: HugePages,
    /// `net.core.busy_poll` and `net.core.busy_read`, in microseconds.
    pub busy_poll: [Option<u32>; 2],
}

/// Reserved huge pages of the default size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HugePages {
    /// Number of reserved pages.
    pub total: u64,
    /// Number of reserved pages that are not in use.
    pub free: u64,
    /// Size of a page, in KiB.
    pub kibibytes: u64,
}

impl Host {
    /// Reads procfs and sysfs.
    pub fn read() -> Self {
        let node = |name: &str| name.strip_prefix("node").is_some_and(|rest| rest.parse::<u32>().is_ok());
        let nodes = fs::read_dir("/sys/devices/system/node").into_iter().flatten().flatten();
        let sysctl = |name: &str| number(&Path::new("/proc/sys/net/core").join(name));
        Host {
            machine: Machine::here(),
            numa_nodes: nodes.filter(|entry| node(&entry.file_name().to_string_lossy())).count().max(1),
            isolated: text(Path::new("/sys/devices/system/cpu/isolated")).unwrap_or_default(),
            smt: number::<u8>(Path::new("/sys/devices/system/cpu/smt/active")).map(|active| active != 0),
            governor: text(Path::new("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
            huge_pages: HugePages::read(),
            busy_poll: [sysctl("busy_poll"), sysctl("busy_read")],
        }
    }
}

impl HugePages {
    /// Reads `/proc/meminfo`.
    pub fn read() -> Self {
        let memory = Meminfo::current().ok();
        let of = |field: fn(&Meminfo) -> Option<u64>| memory.as_ref().and_then(field).unwrap_or(0);
        HugePages {
            total: of(|memory| memory.hugepages_total),
            free: of(|memory| memory.hugepages_free),
            kibibytes: of(|memory| memory.hugepagesize) / 1024,
        }
    }
}

/// Formats the facts as rows of a Markdown table.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: &str| writeln!(f, "| {name} | {value} |");
        row("machine", &self.machine.to_string())?;
        row("memory nodes", &self.numa_nodes.to_string())?;
        row("isolated cores", if self.isolated.is_empty() { "none" } else { &self.isolated })?;
        row(
            "SMT",
            match self.smt {
                Some(true) => "on",
                Some(false) => "off",
                None => "unknown",
            },
        )?;
        row("clock governor", self.governor.as_deref().unwrap_or("unknown"))?;
        let HugePages { total, free, kibibytes } = self.huge_pages;
        row("huge pages", &format!("{total} of {kibibytes} KiB, {free} free"))?;
        let [poll, read] =
            self.busy_poll.map(|usecs| usecs.map_or("unknown".into(), |usecs| usecs.to_string()));
        row("net.core.busy_poll / busy_read", &format!("{poll} / {read} µs"))
    }
}
