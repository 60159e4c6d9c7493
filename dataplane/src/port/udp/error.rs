//! Errors of opening UDP sockets, with their remedies.

use super::{FRAMES_MIN, LISTEN_MAX};
use rustix::io::Errno;
use std::{io, net::SocketAddr};

/// Reasons why a [`UdpPort`](super::UdpPort) could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum UdpError {
    /// No listen address, or too many.
    #[error("{count} listen addresses: name at least one and at most {LISTEN_MAX}")]
    Addresses {
        /// Number of listen addresses.
        count: usize,
    },

    /// Fewer frames than a burst needs.
    #[error("{frames} frames a worker are too few: give it at least {FRAMES_MIN}")]
    TooFewFrames {
        /// Number of frames requested.
        frames: u32,
    },

    /// EADDRINUSE.
    #[error(
        "cannot listen on UDP {address}: another process has this port; \
         find it with `ss -lunp sport = :{}` and stop it, or listen on another address",
        address.port()
    )]
    InUse {
        /// Address to listen on.
        address: SocketAddr,
    },

    /// EACCES, EPERM.
    #[error(
        "cannot listen on UDP {address}: ports below {} need privilege; run as root, \
         or grant CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE)",
        unprivileged_from()
    )]
    NotPermitted {
        /// Address to listen on.
        address: SocketAddr,
    },

    /// EAFNOSUPPORT.
    #[error(
        "cannot listen on UDP {address}: the kernel has no {family} sockets for this process; remove the address \
         from `listen`, or enable them (kernel: ipv6.disable=0; systemd: RestrictAddressFamilies=AF_INET AF_INET6)",
        family = if address.is_ipv4() { "IPv4" } else { "IPv6" }
    )]
    NoFamily {
        /// Address to listen on.
        address: SocketAddr,
    },

    /// Anything else.
    #[error("cannot listen on UDP {address}: {step}: {source}")]
    Socket {
        /// Address to listen on.
        address: SocketAddr,
        /// Step that failed.
        step: &'static str,
        /// Error from the kernel.
        source: io::Error,
    },

    /// The frames could not be mapped.
    #[error("cannot map memory for {frames} frames: {source}; give workers fewer frames")]
    Memory {
        /// Number of frames requested.
        frames: u32,
        /// Error from the kernel.
        source: io::Error,
    },
}

impl UdpError {
    /// Returns the error of a step in opening a socket.
    pub(super) fn at(address: SocketAddr, step: &'static str, errno: Errno) -> Self {
        match errno {
            Errno::ADDRINUSE => UdpError::InUse { address },
            Errno::ACCESS | Errno::PERM => UdpError::NotPermitted { address },
            Errno::AFNOSUPPORT => UdpError::NoFamily { address },
            other => UdpError::Socket { address, step, source: other.into() },
        }
    }
}

/// Returns the first port that any user may bind. A host may have set it to a value other than
/// 1024.
fn unprivileged_from() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024)
}
