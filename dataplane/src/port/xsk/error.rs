//! Errors of opening an AF_XDP socket, with their remedies.

use super::{Mode, XskConfig};
use crate::port::nic::Nic;
use std::io;

/// Reasons why an [`XskPort`](super::XskPort) could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum XskError {
    /// The settings contradict each other.
    #[error("AF_XDP on {interface} queue {queue}: {reason}")]
    Settings {
        /// Name of the interface.
        interface: String,
        /// Number of the queue.
        queue: u32,
        /// Contradiction between the settings, and its remedy.
        reason: String,
    },

    /// The packet memory could not be mapped or registered.
    #[error(
        "cannot register {} KiB of packet memory with AF_XDP: {source}; {}",
        frames * 2, memory_remedy(source)
    )]
    Memory {
        /// Number of frames requested.
        frames: u32,
        /// Error from the kernel.
        source: io::Error,
    },

    /// The socket could not be bound.
    #[error(
        "cannot bind an AF_XDP socket to {interface} queue {queue} in {mode} mode: {source}; {}",
        bind_remedy(source, interface, *queue, *mode, nic.as_deref())
    )]
    Bind {
        /// Name of the interface.
        interface: String,
        /// Number of the queue.
        queue: u32,
        /// Mode that was tried.
        mode: Mode,
        /// Error from the kernel.
        source: io::Error,
        /// Properties of the interface, if the kernel's error may have several causes.
        nic: Option<Box<Nic>>,
    },

    /// Busy polling could not be enabled.
    #[error(
        "cannot set {option} to {value} on an AF_XDP socket of {interface}: {source}; {}",
        busy_poll_remedy(source)
    )]
    BusyPoll {
        /// Name of the interface.
        interface: String,
        /// Name of the socket option.
        option: &'static str,
        /// Requested value.
        value: i32,
        /// Error from the kernel.
        source: io::Error,
    },
}

impl XskError {
    /// Returns the error of a bind in `mode` that the kernel refused.
    pub(super) fn bind(config: &XskConfig, mode: Mode, source: io::Error) -> Self {
        let XskConfig { interface, queue, .. } = config;
        let is_vague = source.raw_os_error() == Some(libc::EINVAL);
        let nic = is_vague.then(|| Box::new(Nic::look(interface)));
        Self::Bind { interface: interface.clone(), queue: *queue, mode, source, nic }
    }

    /// Returns the reason to use copy mode, if this is the error of trying zero-copy.
    pub(super) fn no_zero_copy(&self) -> Option<String> {
        match self {
            Self::Bind { interface, source, nic: Some(nic), .. } => {
                Some(format!("{interface} refuses zero-copy as it is set up ({nic}): {source}"))
            }
            Self::Bind { interface, source, .. } => Some(format!("{interface} has no zero-copy: {source}")),
            _ => None,
        }
    }

    /// Returns the kernel's errno, if the kernel refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            XskError::Settings { .. } => None,
            XskError::Memory { source, .. }
            | XskError::Bind { source, .. }
            | XskError::BusyPoll { source, .. } => source.raw_os_error(),
        }
    }
}

const CAPABILITIES: &str = "run as root, or grant CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF \
                            (systemd: AmbientCapabilities=), and let seccomp and LSM rules pass AF_XDP";
const NO_FAMILY: &str = "the kernel lacks CONFIG_XDP_SOCKETS, or the service manager forbids the address family \
                         (systemd: add AF_XDP to RestrictAddressFamilies=)";

fn memory_remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => CAPABILITIES,
        Some(libc::EAFNOSUPPORT) => NO_FAMILY,
        Some(libc::ENOBUFS) => {
            "the limit on locked memory is too low: raise it (systemd: LimitMEMLOCK=infinity; shell: ulimit -l \
             unlimited), or grant CAP_IPC_LOCK"
        }
        Some(libc::ENOMEM) => {
            "the machine has not enough memory free: give workers fewer frames, or free some"
        }
        Some(libc::EMFILE | libc::ENFILE) => {
            "too many files are open: raise the limit (systemd: LimitNOFILE=)"
        }
        _ => "check that the kernel is Linux 5.10 or later",
    }
}

fn bind_remedy(error: &io::Error, interface: &str, queue: u32, mode: Mode, nic: Option<&Nic>) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => CAPABILITIES.into(),
        Some(libc::EAFNOSUPPORT) => NO_FAMILY.into(),
        Some(libc::EBUSY) => "another AF_XDP socket has this queue: stop the process that holds it \
                              (`ss --xdp -ap` names it), or use another queue"
            .into(),
        Some(libc::EOPNOTSUPP) if mode == Mode::ZeroCopy => {
            format!("the driver of {interface} has no zero-copy: use mode auto or copy")
        }
        Some(libc::EOPNOTSUPP) => format!("the driver of {interface} has no AF_XDP: use mode generic"),
        Some(libc::ENODEV) => {
            format!("there is no interface {interface} in this network namespace: see `ip link`")
        }
        Some(libc::ENETDOWN) => format!("the interface is down: `ip link set {interface} up`"),
        Some(libc::EINVAL) => match nic {
            Some(nic) if nic.queues.is_some_and(|queues| queue >= queues) => format!(
                "{interface} has no such queue ({nic}; queues are counted from 0): serve those that it has, or make more \
                 (`ethtool -L {interface}`)"
            ),
            nic => {
                let known = nic.map_or_else(String::new, |nic| format!(" ({nic})"));
                let way = match mode {
                    Mode::ZeroCopy => {
                        "use mode auto or copy, or change what the driver objects to, which may be the MTU or the \
                         size of its rings (`ethtool -g`)"
                    }
                    Mode::Copy => "use mode generic, or kernel sockets",
                };
                format!("the kernel does not say what is wrong with {interface}{known}, `dmesg` may: {way}")
            }
        },
        Some(libc::ENOMEM | libc::ENOBUFS) => {
            "the kernel has no memory for the rings: make them smaller, or free some".into()
        }
        Some(libc::ENOSPC) => {
            format!("the driver of {interface} has no room for another queue: use fewer workers")
        }
        _ => "mode copy works with most drivers, mode generic with all".into(),
    }
}

fn busy_poll_remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "grant CAP_NET_ADMIN",
        Some(libc::ENOPROTOOPT) => "preferred busy polling needs Linux 5.11 or later: leave it off",
        _ => "give a time and a budget of 1 to 64, or leave busy polling off",
    }
}
