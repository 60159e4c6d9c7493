//! Limits of memory and processor time that the control groups of this process set, as in a
//! container or a systemd unit. A limit of any group above holds too.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Limits of this process; `None`: no group sets one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CgroupLimits {
    /// Least limit of memory.
    pub memory: Option<MemoryLimit>,
    /// Least limit of processor time, in seconds of all cores together for each second.
    pub cpus: Option<f64>,
}

/// Limit of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Limit in bytes.
    pub bytes: u64,
    /// File that sets it.
    pub file: PathBuf,
}

impl CgroupLimits {
    /// Reads the limits of this process. Files that cannot be read set no limit.
    pub fn read() -> Self {
        let read = |file: &str| fs::read_to_string(Path::new("/proc/self").join(file)).unwrap_or_default();
        Self::of(&read("cgroup"), &read("mountinfo"))
    }

    /// Reads the limits of the groups in `cgroup`, which are mounted as `mountinfo` tells: the texts
    /// of a process's files of these names (cgroups(7), proc_pid_mountinfo(5)).
    fn of(cgroup: &str, mountinfo: &str) -> Self {
        let mut limits = CgroupLimits::default();
        for membership in cgroup.lines().filter_map(Membership::parse) {
            for group in mountinfo.lines().flat_map(|mount| membership.groups(mount)) {
                limits.lower(&group);
            }
        }
        limits
    }

    /// Lowers the limits to those of one group, of version 1 or 2.
    fn lower(&mut self, group: &Path) {
        // Above memory.high, the kernel stops the process again and again.
        for name in ["memory.max", "memory.high", "memory.limit_in_bytes"] {
            let file = group.join(name);
            let Some(bytes) = word(&file, 0) else { continue };
            if self.memory.as_ref().is_none_or(|least| bytes < least.bytes) {
                self.memory = Some(MemoryLimit { bytes, file });
            }
        }
        let cpu_max = group.join("cpu.max");
        let quotas = [
            (word(&cpu_max, 0), word(&cpu_max, 1)),
            (word(&group.join("cpu.cfs_quota_us"), 0), word(&group.join("cpu.cfs_period_us"), 0)),
        ];
        for (quota, period) in quotas {
            let (Some(quota), Some(period @ 1..)) = (quota, period) else { continue };
            let cpus = quota as f64 / period as f64;
            self.cpus = Some(self.cpus.map_or(cpus, |least| least.min(cpus)));
        }
    }
}

/// Returns a number in a file. `max` and -1, which stand for no limit, are none.
fn word(file: &Path, nth: usize) -> Option<u64> {
    fs::read_to_string(file).ok()?.split_whitespace().nth(nth)?.parse().ok()
}

/// Line of `/proc/self/cgroup`: the group of this process in one hierarchy.
struct Membership<'a> {
    /// Controllers of the hierarchy; empty for version 2.
    controllers: &'a str,
    /// Path of the group in its hierarchy.
    path: &'a Path,
}

impl<'a> Membership<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        Some(Membership { controllers, path: Path::new(path) })
    }

    /// Returns the folders of the group and of those above it, if the line of `mountinfo` is about
    /// their hierarchy.
    fn groups(&self, mount: &str) -> Vec<PathBuf> {
        let Some((place, source)) = mount.split_once(" - ") else { return Vec::new() };
        let mut place = place.split(' ').skip(3);
        let mut source = source.split(' ');
        let (Some(root), Some(mounted), Some(kind)) = (place.next(), place.next(), source.next()) else {
            return Vec::new();
        };
        let is_ours = match kind {
            "cgroup2" => self.controllers.is_empty(),
            "cgroup" => {
                let options = source.nth(1).unwrap_or_default();
                self.controllers
                    .split(',')
                    .any(|ours| !ours.is_empty() && options.split(',').any(|it| it == ours))
            }
            _ => false,
        };
        if !is_ours {
            return Vec::new();
        }
        // A container may see its own group alone, mounted as the root, and the path of another
        // namespace. Then the mount is the group.
        let below = self.path.strip_prefix(root).unwrap_or(Path::new(""));
        let folder = Path::new(mounted).join(below);
        folder.ancestors().take_while(|folder| folder.starts_with(mounted)).map(Path::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a folder with these files.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let file = folder.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        folder
    }

    /// Returns the limits of a process in `cgroup` with one hierarchy mounted at `folder`: the bytes,
    /// the file below the folder, and the processors.
    fn limits(folder: &Path, cgroup: &str, root: &str, kind: &str) -> (Option<(u64, String)>, Option<f64>) {
        let mountinfo = format!(
            "22 1 0:1 / / rw - ext4 sda rw\n30 22 0:26 {root} {} rw shared:9 - {kind}\n",
            folder.display()
        );
        let limits = CgroupLimits::of(cgroup, &mountinfo);
        let memory = limits.memory.map(|limit| {
            (limit.bytes, limit.file.strip_prefix(folder).unwrap().to_str().unwrap().to_owned())
        });
        (memory, limits.cpus)
    }

    const V2: &str = "cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn the_least_limit_of_a_group_and_those_above_counts() {
        let folder = tree(&[
            ("a/memory.max", "200000000\n"),
            ("a/memory.high", "max\n"),
            ("a/cpu.max", "150000 100000\n"),
            ("a/b/memory.max", "max\n"),
            ("a/b/memory.high", "150000000\n"),
            ("a/b/cpu.max", "max 100000\n"),
            ("a/b/c/memory.max", "300000000\n"),
            ("a/b/c/cpu.max", "400000 100000\n"),
            ("z/memory.max", "1\n"),
        ]);
        let path = folder.path();
        let high = Some((150_000_000, "a/b/memory.high".into()));
        assert_eq!(limits(path, "0::/a/b/c\n", "/", V2), (high, Some(1.5)));
        assert_eq!(limits(path, "0::/a\n", "/", V2), (Some((200_000_000, "a/memory.max".into())), Some(1.5)));
        assert_eq!(limits(path, "0::/\n", "/", V2), (None, None));
        assert_eq!(limits(path, "0::/gone/away\n", "/", V2), (None, None));
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root() {
        let folder = tree(&[("memory.max", "100663296\n"), ("cpu.max", "50000 100000\n")]);
        let found = (Some((100_663_296, "memory.max".into())), Some(0.5));
        for (cgroup, root) in [("0::/\n", "/"), ("0::/docker/abc\n", "/docker/abc"), ("0::/../other\n", "/x")]
        {
            assert_eq!(limits(folder.path(), cgroup, root, V2), found, "{cgroup} {root}");
        }
    }

    #[test]
    fn version_1_has_a_hierarchy_for_each_controller() {
        let folder = tree(&[
            ("a/memory.limit_in_bytes", "100663296\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("a/cpu.cfs_quota_us", "-1\n"),
            ("a/cpu.cfs_period_us", "100000\n"),
            ("a/b/cpu.cfs_quota_us", "250000\n"),
            ("a/b/cpu.cfs_period_us", "100000\n"),
        ]);
        let cgroup = "4:memory:/a\n2:cpu,cpuacct:/a/b\n0::/\n";
        let memory = Some((100_663_296, "a/memory.limit_in_bytes".into()));
        assert_eq!(limits(folder.path(), cgroup, "/", "cgroup cgroup rw,memory"), (memory, None));
        let found = limits(folder.path(), "2:cpu,cpuacct:/a/b\n", "/", "cgroup cgroup rw,cpu,cpuacct");
        assert_eq!(found.1, Some(2.5));
        assert_eq!(limits(folder.path(), cgroup, "/", "cgroup cgroup rw,pids"), (None, None));
    }

    #[test]
    fn what_makes_no_sense_sets_no_limit() {
        let folder = tree(&[("memory.max", "lots\n"), ("cpu.max", "1000 0\n")]);
        assert_eq!(limits(folder.path(), "0::/\nno colons\n:\n", "/", V2), (None, None));
        assert_eq!(CgroupLimits::of("0::/\n", "1 2 3\n - cgroup2\n\n"), CgroupLimits::default());
        CgroupLimits::read();
    }
}
