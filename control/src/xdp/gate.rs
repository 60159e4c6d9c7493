//! Which of the gates before `bpf(2)` is the one that is shut. The kernel says EPERM for all of them.

use std::{fmt, fs};

use aya::util::KernelVersion;
use rustix::{
    process::{Resource, getrlimit},
    thread::{CapabilitySet, capabilities},
};

/// The gate that is shut, or the likeliest one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The process lacks these.
    Capabilities(Vec<&'static str>),
    /// Capabilities of a user namespace do not count for BPF.
    UserNamespace,
    /// Before 5.11 the kernel charges maps to locked memory.
    LockedMemory { limit_bytes: u64 },
    /// All of the above are open.
    Policy,
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capabilities(names) => {
                let (list, setting) = (names.join(", "), names.join(" "));
                write!(
                    f,
                    "this process lacks {list}. Run ringdnsd as root, or grant it: `AmbientCapabilities={setting}` \
                     in the systemd unit, `--cap-add` for a container"
                )
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
            Self::Policy => f.write_str(
                "the process has every capability it needs, so a seccomp filter, a security module or kernel lockdown \
                 forbids it. Look at `SystemCallFilter=` in the systemd unit, the container's seccomp profile, and \
                 /sys/kernel/security/lockdown",
            ),
        }
    }
}

/// The gates of this process, as they stand.
struct Gates {
    effective: CapabilitySet,
    initial_user_namespace: bool,
    /// `None`: without limit, or not charged.
    locked_memory: Option<u64>,
}

/// What XDP takes. CAP_PERFMON because the program compares and adds packet pointers, CAP_NET_ADMIN to attach
/// it.
const NEEDED: [(CapabilitySet, &str); 3] = [
    (CapabilitySet::BPF, "CAP_BPF"),
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::PERFMON, "CAP_PERFMON"),
];

/// Finds out which gate made the kernel say EPERM to this process.
pub(super) fn shut() -> Gate {
    let charged = KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(5, 11, 0));
    let gates = Gates {
        effective: capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective),
        // What cannot be read cannot be blamed.
        initial_user_namespace: fs::read_to_string("/proc/self/uid_map")
            .map_or(true, |map| maps_every_id(&map)),
        locked_memory: if charged { getrlimit(Resource::Memlock).current } else { None },
    };
    gates.shut()
}

impl Gates {
    fn shut(&self) -> Gate {
        let missing = self.missing();
        if !missing.is_empty() {
            return Gate::Capabilities(missing);
        }
        if !self.initial_user_namespace {
            return Gate::UserNamespace;
        }
        match self.locked_memory {
            Some(limit_bytes) => Gate::LockedMemory { limit_bytes },
            None => Gate::Policy,
        }
    }

    fn missing(&self) -> Vec<&'static str> {
        // CAP_SYS_ADMIN stands for the two that were split off from it.
        let mut held = self.effective;
        if held.contains(CapabilitySet::SYS_ADMIN) {
            held |= CapabilitySet::BPF | CapabilitySet::PERFMON;
        }
        NEEDED.iter().filter(|(capability, _)| !held.contains(*capability)).map(|&(_, name)| name).collect()
    }
}

/// Whether a `uid_map` is that of the initial user namespace: every id onto itself.
fn maps_every_id(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Gates {
        let effective = CapabilitySet::BPF | CapabilitySet::NET_ADMIN | CapabilitySet::PERFMON;
        Gates { effective, initial_user_namespace: true, locked_memory: None }
    }

    #[test]
    fn missing_capabilities_come_first() {
        let gates = Gates {
            effective: CapabilitySet::NET_ADMIN,
            initial_user_namespace: false,
            locked_memory: Some(1),
        };
        assert_eq!(gates.shut(), Gate::Capabilities(vec!["CAP_BPF", "CAP_PERFMON"]));
    }

    #[test]
    fn sys_admin_stands_for_the_newer_two() {
        let gates = Gates { effective: CapabilitySet::SYS_ADMIN, ..open() };
        assert_eq!(gates.shut(), Gate::Capabilities(vec!["CAP_NET_ADMIN"]));
    }

    #[test]
    fn then_user_namespace_then_memory_then_policy() {
        assert_eq!(Gates { initial_user_namespace: false, ..open() }.shut(), Gate::UserNamespace);
        let limit_bytes = 65536;
        assert_eq!(
            Gates { locked_memory: Some(limit_bytes), ..open() }.shut(),
            Gate::LockedMemory { limit_bytes }
        );
        assert_eq!(open().shut(), Gate::Policy);
    }

    #[test]
    fn only_the_initial_namespace_maps_every_id() {
        assert!(maps_every_id("         0          0 4294967295\n"));
        assert!(!maps_every_id("         0       1000          1\n"));
    }
}
