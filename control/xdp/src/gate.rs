//! Diagnosis of EPERM from `bpf(2)`: finds the permission that is missing. The kernel returns EPERM
//! for all of them.

use std::{fmt, fs};

use aya::util::KernelVersion;
use rustix::{
    process::{Resource, getrlimit},
    thread::{CapabilitySet, capabilities},
};

/// Permission that is missing, or the likeliest one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The process lacks these capabilities.
    Capabilities(Vec<&'static str>),
    /// Capabilities of a user namespace do not count for BPF.
    UserNamespace,
    /// Before 5.11 the kernel charges maps to locked memory.
    LockedMemory { limit_bytes: u64 },
    /// None of the above is the cause, and the process has a seccomp filter.
    Seccomp,
    /// None of the above is the cause: a security module denies it.
    Policy,
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capabilities(names) => {
                write!(f, "this process lacks {}. Run ringdnsd as root, or {}", names.join(", "), grant(names))
            }
            Self::UserNamespace => f.write_str(
                "this process is in a user namespace (a rootless container?), whose capabilities do not count for \
                 BPF. Run it in the host's user namespace",
            ),
            Self::LockedMemory { limit_bytes } => write!(
                f,
                "this kernel charges BPF maps to locked memory, of which this process may have {limit_bytes} bytes. \
                 Set `LimitMEMLOCK=infinity` in the systemd unit, or `ulimit -l unlimited`"
            ),
            Self::Seccomp => f.write_str(
                "the process has every capability it needs, so its seccomp filter is the likeliest to forbid it. Let \
                 bpf(2) pass: `SystemCallFilter=bpf` in the systemd unit, the seccomp profile of a container",
            ),
            Self::Policy => f.write_str(
                "the process has every capability it needs, so a security module forbids it. /sys/kernel/security/lsm \
                 lists those at work, and their log tells which rule",
            ),
        }
    }
}

/// Returns the ways to grant capabilities to ringdnsd.
pub fn grant(names: &[&str]) -> String {
    let unit = names.join(" ");
    let file = names.join(",").to_ascii_lowercase();
    let container: Vec<_> = names.iter().map(|name| format!("--cap-add={name}")).collect();
    let it = if names.len() == 1 { "it" } else { "them" };
    format!(
        "grant {it}: `AmbientCapabilities={unit}` in the systemd unit, `setcap {file}+ep` for the program, `docker run \
         {}` for a container",
        container.join(" ")
    )
}

/// Returns the capabilities for AF_XDP that this process lacks.
pub fn lacking() -> Vec<&'static str> {
    Gates::look().missing()
}

/// Returns the permission whose lack is known before anything is tried.
pub(super) fn known_to_be_shut() -> Option<Gate> {
    Some(Gates::look().shut()).filter(|gate| matches!(gate, Gate::Capabilities(_) | Gate::UserNamespace))
}

/// State of the permissions of this process.
struct Gates {
    effective: CapabilitySet,
    initial_user_namespace: bool,
    /// Limit in bytes; `None`: unlimited, or not charged.
    locked_memory: Option<u64>,
    filters_system_calls: bool,
}

/// Capabilities that AF_XDP requires: CAP_PERFMON because the program compares and adds packet
/// pointers, CAP_NET_ADMIN to attach it, CAP_NET_RAW for its sockets.
pub const NEEDED: [(CapabilitySet, &str); 4] = [
    (CapabilitySet::BPF, "CAP_BPF"),
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::PERFMON, "CAP_PERFMON"),
    (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
];

/// Returns the missing permission that made the kernel return EPERM to this process.
pub(super) fn shut() -> Gate {
    Gates::look().shut()
}

impl Gates {
    fn look() -> Self {
        let charged = KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(5, 11, 0));
        Gates {
            effective: capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective),
            // If the file cannot be read, assume the initial namespace.
            initial_user_namespace: fs::read_to_string("/proc/self/uid_map")
                .map_or(true, |map| maps_every_id(&map)),
            locked_memory: if charged { getrlimit(Resource::Memlock).current } else { None },
            filters_system_calls: fs::read_to_string("/proc/thread-self/status")
                .is_ok_and(|status| has_seccomp_filter(&status)),
        }
    }

    fn shut(&self) -> Gate {
        // Before capabilities: those added in a user namespace would not count.
        if !self.initial_user_namespace {
            return Gate::UserNamespace;
        }
        let missing = self.missing();
        if !missing.is_empty() {
            return Gate::Capabilities(missing);
        }
        match self.locked_memory {
            Some(limit_bytes) => Gate::LockedMemory { limit_bytes },
            None if self.filters_system_calls => Gate::Seccomp,
            None => Gate::Policy,
        }
    }

    fn missing(&self) -> Vec<&'static str> {
        // CAP_SYS_ADMIN includes the two that were split off from it.
        let mut held = self.effective;
        if held.contains(CapabilitySet::SYS_ADMIN) {
            held |= CapabilitySet::BPF | CapabilitySet::PERFMON;
        }
        NEEDED.iter().filter(|(capability, _)| !held.contains(*capability)).map(|&(_, name)| name).collect()
    }
}

/// Whether a process's `status` shows a seccomp filter.
fn has_seccomp_filter(status: &str) -> bool {
    const FILTER: &str = "2";
    status.lines().filter_map(|line| line.strip_prefix("Seccomp:")).any(|mode| mode.trim() == FILTER)
}

/// Whether a `uid_map` is that of the initial user namespace, which maps every id to itself.
fn maps_every_id(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Gates {
        let effective = CapabilitySet::BPF | CapabilitySet::NET_ADMIN | CapabilitySet::PERFMON;
        let effective = effective | CapabilitySet::NET_RAW;
        Gates { effective, initial_user_namespace: true, locked_memory: None, filters_system_calls: false }
    }

    #[test]
    fn missing_capabilities_come_before_memory() {
        let gates = Gates { effective: CapabilitySet::NET_ADMIN, locked_memory: Some(1), ..open() };
        assert_eq!(gates.shut(), Gate::Capabilities(vec!["CAP_BPF", "CAP_PERFMON", "CAP_NET_RAW"]));
    }

    #[test]
    fn sys_admin_stands_for_the_newer_two() {
        let gates = Gates { effective: CapabilitySet::SYS_ADMIN, ..open() };
        assert_eq!(gates.shut(), Gate::Capabilities(vec!["CAP_NET_ADMIN", "CAP_NET_RAW"]));
    }

    #[test]
    fn a_user_namespace_comes_first_and_policy_last() {
        let nothing = CapabilitySet::empty();
        let inside = Gates { initial_user_namespace: false, effective: nothing, ..open() };
        assert_eq!(inside.shut(), Gate::UserNamespace);
        let limit_bytes = 65536;
        assert_eq!(
            Gates { locked_memory: Some(limit_bytes), ..open() }.shut(),
            Gate::LockedMemory { limit_bytes }
        );
        assert_eq!(Gates { filters_system_calls: true, ..open() }.shut(), Gate::Seccomp);
        assert_eq!(open().shut(), Gate::Policy);
    }

    #[test]
    fn all_that_is_missing_is_named_at_once_with_the_ways_to_grant_it() {
        let said = Gate::Capabilities(vec!["CAP_BPF", "CAP_NET_RAW"]).to_string();
        for words in [
            "lacks CAP_BPF, CAP_NET_RAW. ",
            "grant them: `AmbientCapabilities=CAP_BPF CAP_NET_RAW`",
            "`setcap cap_bpf,cap_net_raw+ep`",
            "`docker run --cap-add=CAP_BPF --cap-add=CAP_NET_RAW`",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }

    #[test]
    fn a_seccomp_filter_is_seen() {
        assert!(has_seccomp_filter("NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!has_seccomp_filter("NoNewPrivs:\t0\nSeccomp:\t0\nSeccomp_filters:\t0\n"));
    }

    #[test]
    fn only_the_initial_namespace_maps_every_id() {
        assert!(maps_every_id("         0          0 4294967295\n"));
        assert!(!maps_every_id("         0       1000          1\n"));
    }
}
