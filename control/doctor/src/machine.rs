//! Machine that figures were measured on.

use procfs::{CpuInfo, Current, Meminfo};
use rustix::system::{sysinfo, uname};
use serde::Serialize;
use std::{fmt, fs, path::Path, thread};

/// Properties of the machine that figures depend on, as far as Linux tells them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Machine {
    /// Model of the processor.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Data caches of the first core, the nearest first. Empty if Linux does not know them.
    pub caches: Vec<CacheSize>,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of available memory.
    pub available: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Load average of the last minute.
    pub load: f64,
}

/// Cache of the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CacheSize {
    /// Level of the cache, 1 for the nearest.
    pub level: u8,
    /// Size in bytes.
    pub bytes: u64,
}

impl Machine {
    /// Returns this machine.
    pub fn here() -> Self {
        let memory = Meminfo::current().ok();
        let processors = CpuInfo::current().ok();
        let processor = processors.as_ref().and_then(|all| all.model_name(0));
        Machine {
            processor: processor.unwrap_or("unknown processor").into(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            caches: caches(Path::new("/sys/devices/system/cpu/cpu0/cache")),
            memory: memory.as_ref().map_or(0, |memory| memory.mem_total),
            available: memory.and_then(|memory| memory.mem_available).unwrap_or(0),
            kernel: uname().release().to_string_lossy().into_owned(),
            // `sysinfo` gives load averages in units of 1/65536.
            load: sysinfo().loads[0] as f64 / 65536.0,
        }
    }
}

/// Formats the machine in one line.
impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} cores", self.processor, self.cores)?;
        for CacheSize { level, bytes } in &self.caches {
            write!(f, ", L{level} {}", binary(*bytes))?;
        }
        write!(f, ", {} of memory, Linux {}, load {:.1}", binary(self.memory), self.kernel, self.load)
    }
}

/// Formats bytes in binary units: 48 KiB, 1 MiB.
pub fn binary(bytes: u64) -> String {
    let (unit, name) = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
        .into_iter()
        .find(|(unit, _)| bytes >= *unit)
        .unwrap_or((1, "bytes"));
    let number = bytes as f64 / unit as f64;
    let decimals = usize::from(number < 10.0 && number.fract() > 0.05);
    format!("{number:.decimals$} {name}")
}

fn caches(folder: &Path) -> Vec<CacheSize> {
    let read = |index: usize, name: &str| {
        fs::read_to_string(folder.join(format!("index{index}")).join(name)).map(|text| text.trim().to_owned())
    };
    let mut found = Vec::new();
    for index in 0.. {
        let Ok(kind) = read(index, "type") else { break };
        let size = read(index, "size").ok().and_then(|size| size.strip_suffix('K')?.parse::<u64>().ok());
        let level = read(index, "level").ok().and_then(|level| level.parse().ok());
        if let (Some(size), Some(level), true) = (size, level, kind != "Instruction") {
            found.push(CacheSize { level, bytes: size * 1024 });
        }
    }
    found.sort_by_key(|cache| cache.level);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_of_data_are_read_from_sysfs() {
        let folder = tempfile::tempdir().unwrap();
        let put =
            [("0", "Data", "1", "48K"), ("1", "Instruction", "1", "32K"), ("2", "Unified", "2", "1024K")];
        for (index, kind, level, size) in put {
            let index = folder.path().join(format!("index{index}"));
            fs::create_dir(&index).unwrap();
            for (name, text) in [("type", kind), ("level", level), ("size", size)] {
                fs::write(index.join(name), format!("{text}\n")).unwrap();
            }
        }
        let expected = [CacheSize { level: 1, bytes: 48 << 10 }, CacheSize { level: 2, bytes: 1 << 20 }];
        assert_eq!(caches(folder.path()), expected);
        assert!(caches(Path::new("/nowhere")).is_empty());
    }

    #[test]
    fn bytes_have_units_of_1024() {
        assert_eq!(
            [1000, 48 << 10, 3 << 19, 32 << 20].map(binary),
            ["1000 bytes", "48 KiB", "1.5 MiB", "32 MiB"]
        );
    }
}
