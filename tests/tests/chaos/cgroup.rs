//! A cgroup of ringdnsd, of either version, whose limits change.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Memory in bytes that the process may use beside what it uses when the limit is set. A limit that
/// is reached ends the process, which nothing can survive.
const HEADROOM: u64 = 64 << 20;
/// Period of the scheduler, and the share of it that a limited process gets, in microseconds.
const PERIOD_US: u32 = 100_000;
const QUOTA_US: u32 = 20_000;

/// Folders of a process's cgroups, which end with it.
pub struct Cgroup {
    cpu: PathBuf,
    memory: PathBuf,
    is_v2: bool,
}

impl Cgroup {
    /// Makes cgroups for a process; `None`: not possible here.
    pub fn of(pid: u32) -> Option<Self> {
        let name = format!("ringdns-chaos-{pid}");
        let root = Path::new("/sys/fs/cgroup");
        let is_v2 = root.join("cgroup.controllers").exists();
        let (cpu, memory) = match is_v2 {
            true => (root.join(&name), root.join(&name)),
            false => (root.join("cpu").join(&name), root.join("memory").join(&name)),
        };
        let cgroup = Cgroup { cpu, memory, is_v2 };
        let make = || {
            if is_v2 {
                // The controllers may be there already.
                let _ = fs::write(root.join("cgroup.subtree_control"), "+cpu +memory");
            }
            for folder in [&cgroup.cpu, &cgroup.memory] {
                fs::create_dir_all(folder)?;
                fs::write(folder.join("cgroup.procs"), pid.to_string())?;
            }
            cgroup.set_cpu(false)?;
            cgroup.set_memory(false)
        };
        make().ok().map(|()| cgroup)
    }

    /// Limits the processor time, or ends the limit.
    pub fn limit_cpu(&self, limit: bool) {
        self.set_cpu(limit).unwrap_or_else(|error| panic!("{}: {error}", self.cpu.display()));
    }

    /// Limits the memory, or ends the limit.
    pub fn limit_memory(&self, limit: bool) {
        self.set_memory(limit).unwrap_or_else(|error| panic!("{}: {error}", self.memory.display()));
    }

    fn set_cpu(&self, limit: bool) -> io::Result<()> {
        match (self.is_v2, limit) {
            (true, true) => fs::write(self.cpu.join("cpu.max"), format!("{QUOTA_US} {PERIOD_US}")),
            (true, false) => fs::write(self.cpu.join("cpu.max"), format!("max {PERIOD_US}")),
            (false, true) => {
                fs::write(self.cpu.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
                fs::write(self.cpu.join("cpu.cfs_quota_us"), QUOTA_US.to_string())
            }
            (false, false) => fs::write(self.cpu.join("cpu.cfs_quota_us"), "-1"),
        }
    }

    fn set_memory(&self, limit: bool) -> io::Result<()> {
        let (used, most, none) = match self.is_v2 {
            true => ("memory.current", "memory.max", "max"),
            false => ("memory.usage_in_bytes", "memory.limit_in_bytes", "-1"),
        };
        let text = match limit {
            true => {
                let used = fs::read_to_string(self.memory.join(used))?;
                let used: u64 = used.trim().parse().map_err(io::Error::other)?;
                (used + HEADROOM).to_string()
            }
            false => none.to_owned(),
        };
        fs::write(self.memory.join(most), text)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in [&self.cpu, &self.memory] {
            // Only an empty cgroup can be removed; the second may be the first.
            let _ = fs::remove_dir(folder);
        }
    }
}
