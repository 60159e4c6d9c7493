//! Errors of loading and attaching the XDP program, with reasons and remedies.

use std::{error::Error, fmt, io};

use aya::programs::{ProgramError, XdpMode};
use ringdns_abi::{MAX_LISTEN, MAX_QUEUES};
use ringdns_dataplane::port::nic::Nic;
use rustix::{io::Errno, system::uname};
use thiserror::Error;

use super::gate::{self, Gate};

/// Most characters that a message quotes from a line of the verifier.
const LINE_MAX: usize = 200;

/// Reason why packets cannot be steered. Every message names the thing, the reason and the remedy.
#[derive(Debug, Error)]
pub enum SteerError {
    #[error(
        "no network interface is called {interface:?} in this network namespace: `ip link` lists those there are"
    )]
    NoInterface { interface: String },

    #[error(
        "{count} listen addresses are more than the {MAX_LISTEN} that the XDP program holds: listen on fewer, or on \
         0.0.0.0 or [::] in place of many"
    )]
    TooManyListeners { count: usize },

    #[error("{step} is not permitted: {gate}")]
    Shut { step: Step, gate: Gate },

    #[error(
        "interface {interface} already runs an XDP program: `ip -details link show dev {interface}` names it. End the \
         process that holds it, or, if none does, `ip link set dev {interface} xdp off`"
    )]
    Occupied { interface: String },

    #[error(
        "the driver of interface {interface} refuses native XDP ({reason}; {nic}): set mode = \"auto\" or \"generic\", \
         or change what the driver objects to, which often is an MTU beyond a page or too many queues"
    )]
    NoDriverMode { interface: String, nic: Nic, reason: String },

    #[error(
        "{step} failed, because this kernel has no BPF, or a seccomp filter hides it: use a kernel with \
         CONFIG_BPF_SYSCALL, look at the container's seccomp profile, or leave out server.interface"
    )]
    NoBpf { step: Step },

    #[error(
        "Linux {release} is too old: it cannot take an XDP program off the interface when its process is killed; use \
         Linux 5.10 or later"
    )]
    OldKernel { release: String },

    #[error(
        "interface {interface} takes VLAN tags off what it receives (rxvlan on), so clients behind {device} would get \
         answers without their tag: `ethtool -K {interface} rxvlan off`"
    )]
    TagsStripped { interface: String, device: String },

    #[error(
        "interface {interface} took the XDP program without a BPF link, so it would outlive ringdnsd: remove it with \
         `ip link set dev {interface} xdp off`, and use a Linux 5.9 or later that has BPF links"
    )]
    LeftBehind { interface: String },

    #[error(
        "queue {queue} is beyond the {MAX_QUEUES} that the XDP program steers: use fewer queues (`ethtool -L`)"
    )]
    NoSuchQueue { queue: u32 },

    #[error(
        "the kernel does not take the socket of queue {queue} ({reason}): it must be an open AF_XDP socket"
    )]
    Socket { queue: u32, reason: String },

    #[error(
        "the verifier of Linux {release} refuses the XDP program ({reason}): use a kernel that README.md lists, and \
         please report this with what ringdnsd logs if RUST_LOG=debug is set"
    )]
    Verifier { release: String, reason: String },

    #[error("{step} failed: {reason}. The kernel's log (`dmesg`) may say more")]
    Failed { step: Step, reason: String },

    #[error(
        "the XDP object in this binary has no {what}: it was built from other sources, rebuild it with ebpf/build.sh"
    )]
    WrongObject { what: &'static str },
}

/// Step at which the kernel returned an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    FindInterface,
    CreateMaps,
    LoadProgram,
    SetListen,
    OpenNetlink,
    ReadHost,
    SetHost,
    SetAccess,
    Attach,
    ReadVerdicts,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FindInterface => "looking up the network interface",
            Self::CreateMaps => "creating the maps of the XDP program",
            Self::LoadProgram => "loading the XDP program",
            Self::SetListen => "telling the XDP program the listen addresses",
            Self::OpenNetlink => {
                "opening a netlink socket (systemd: add AF_NETLINK to RestrictAddressFamilies=)"
            }
            Self::ReadHost => "reading the addresses of this host",
            Self::SetHost => "telling the XDP program the addresses of this host",
            Self::SetAccess => "telling the XDP program the access list",
            Self::Attach => "attaching the XDP program",
            Self::ReadVerdicts => "reading the counters of the XDP program",
        })
    }
}

impl SteerError {
    /// Returns the error for a failure at `step` that does not depend on the interface.
    pub(super) fn refused(step: Step, error: impl Error + 'static) -> Self {
        match errno(&error) {
            Some(Errno::PERM) => return Self::Shut { step, gate: gate::shut() },
            Some(Errno::NOSYS) => return Self::NoBpf { step },
            _ => {}
        }
        let Some(log) = verifier_log(&error) else {
            return Self::Failed { step, reason: chain(&error) };
        };
        tracing::debug!("the verifier's log for the XDP program:\n{log}");
        // Without CAP_PERFMON the verifier is stricter, and its log complains about pointers.
        match gate::shut() {
            gate @ Gate::Capabilities(_) => Self::Shut { step, gate },
            _ => Self::Verifier { release: release(), reason: objection(&log) },
        }
    }

    pub(super) fn from_attach(interface: &str, mode: XdpMode, error: ProgramError) -> Self {
        let interface = interface.to_owned();
        match errno(&error) {
            Some(Errno::NODEV) => Self::NoInterface { interface },
            // EEXIST: a program is attached in the other mode. EBUSY: in the same mode.
            Some(Errno::BUSY | Errno::EXIST) => Self::Occupied { interface },
            Some(Errno::PERM | Errno::ACCESS) => Self::Shut { step: Step::Attach, gate: gate::shut() },
            _ if mode == XdpMode::Driver => {
                Self::NoDriverMode { nic: Nic::look(&interface), interface, reason: chain(&error) }
            }
            _ => Self::Failed { step: Step::Attach, reason: chain(&error) },
        }
    }
}

/// Returns the system's error number at the root of `error`, if there is one.
fn errno(error: &(dyn Error + 'static)) -> Option<Errno> {
    causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).find_map(Errno::from_io_error)
}

fn verifier_log(error: &(dyn Error + 'static)) -> Option<String> {
    causes(error).find_map(|cause| match cause.downcast_ref::<ProgramError>() {
        Some(ProgramError::LoadError { verifier_log, .. }) => Some(verifier_log.to_string()),
        _ => None,
    })
}

/// Returns the verifier's objection: the last line of its log, statistics aside.
fn objection(log: &str) -> String {
    const STATISTICS: [&str; 3] = ["processed ", "verification time ", "stack depth "];
    let mut lines = log.lines().map(str::trim).filter(|line| !line.is_empty());
    let last = lines.rfind(|line| !STATISTICS.iter().any(|start| line.starts_with(start)));
    last.map_or_else(|| "it does not say why".into(), |line| line.chars().take(LINE_MAX).collect())
}

/// Returns the kernel's release, as `uname -r` prints it.
pub(super) fn release() -> String {
    uname().release().to_string_lossy().into_owned()
}

/// Formats `error` and its causes in one line. aya's errors do not print their causes.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = String::new();
    for cause in causes(error).map(in_one_line) {
        // Some messages include the cause's message already.
        if line.ends_with(&cause) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&cause);
    }
    line
}

/// Formats an error without the verifier's log, which follows in further lines.
fn in_one_line(error: &(dyn Error + 'static)) -> String {
    if let Some(ProgramError::LoadError { .. }) = error.downcast_ref() {
        return "`bpf(BPF_PROG_LOAD)` failed".into();
    }
    error.to_string().lines().next().unwrap_or_default().into()
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use aya::{maps::MapError, sys::SyscallError};

    use super::*;

    fn system(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.raw_os_error())
    }

    fn link_create(errno: Errno) -> ProgramError {
        SyscallError { call: "bpf_link_create", io_error: system(errno) }.into()
    }

    #[test]
    fn a_missing_permission_names_the_step_and_the_gate() {
        let error = MapError::CreateError { name: "XSKS".into(), io_error: system(Errno::PERM) };
        let message = SteerError::refused(Step::CreateMaps, error).to_string();
        assert!(message.starts_with("creating the maps of the XDP program is not permitted: "), "{message}");
    }

    #[test]
    fn the_cause_is_told_once() {
        let error = MapError::CreateError { name: "XSKS".into(), io_error: system(Errno::NOMEM) };
        let message = SteerError::refused(Step::CreateMaps, error).to_string();
        assert_eq!(
            message,
            "creating the maps of the XDP program failed: failed to create map `XSKS`: Cannot allocate memory (os \
             error 12). The kernel's log (`dmesg`) may say more"
        );
    }

    #[test]
    fn the_verifiers_refusal_is_one_line_with_its_last_word() {
        let log = "Validating ringdns_steer() func#0...\n0: (bf) r6 = r1\n41: (0f) r3 += r2\n\
                   math between pkt pointer and register with unbounded min value is not allowed\n\
                   processed 42 insns (limit 1000000) max_states_per_insn 0\nverification time 13 usec\n";
        let reason = "math between pkt pointer and register with unbounded min value is not allowed";
        assert_eq!(objection(log), reason);
        let message =
            SteerError::Verifier { release: "6.1.0-13-amd64".into(), reason: objection(log) }.to_string();
        assert!(message.starts_with(&format!(
            "the verifier of Linux 6.1.0-13-amd64 refuses the XDP program ({reason})"
        )));
        assert_eq!(objection("processed 0 insns (limit 1000000)\n"), "it does not say why");
        assert_eq!(objection(&"x".repeat(5000)).len(), LINE_MAX);
    }

    #[test]
    fn a_kernel_without_bpf_is_named() {
        let error = MapError::CreateError { name: "XSKS".into(), io_error: system(Errno::NOSYS) };
        let message = SteerError::refused(Step::CreateMaps, error).to_string();
        assert!(message.contains("has no BPF") && message.contains("CONFIG_BPF_SYSCALL"), "{message}");
    }

    #[test]
    fn another_program_is_told_from_a_driver_without_xdp() {
        let from_attach = |errno| SteerError::from_attach("eth0", XdpMode::Driver, link_create(errno));
        assert!(matches!(from_attach(Errno::BUSY), SteerError::Occupied { .. }));
        assert!(matches!(from_attach(Errno::EXIST), SteerError::Occupied { .. }));
        assert!(matches!(from_attach(Errno::NODEV), SteerError::NoInterface { .. }));
        let SteerError::NoDriverMode { reason, .. } = from_attach(Errno::OPNOTSUPP) else {
            panic!("a driver without XDP");
        };
        assert_eq!(reason, "`bpf_link_create` failed: Operation not supported (os error 95)");
    }
}
