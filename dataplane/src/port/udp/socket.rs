//! Opening sockets.

use super::{error::UdpError, set_option};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt},
};
use std::{
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
};

/// Bytes of queries and of replies that may wait in a socket: at a thousand bytes of kernel memory a small
/// datagram, a few thousand of them, so that a worker that was held up for some milliseconds loses nothing.
const BUFFER: usize = 4 << 20;

/// Treatment of an address that no interface has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// An error.
    Refused,
    /// Bound all the same: the address is expected to come.
    Accepted,
}

/// Opens a socket on `address` that others of this user may share. Returns it with the address it is bound to.
pub(super) fn open(address: SocketAddr, absent: Absent) -> Result<(OwnedFd, SocketAddr), UdpError> {
    let at = |step| move |errno| UdpError::at(address, step, errno);
    let fd = unbound(address)?;
    sockopt::set_socket_reuseport(&fd, true).map_err(at("SO_REUSEPORT"))?;
    if address.ip().is_unspecified() {
        let (level, option) = match address {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        };
        set_option(&fd, level, option, 1).map_err(|source| UdpError::Socket {
            address,
            step: "packet information",
            source,
        })?;
    }
    if absent == Absent::Accepted {
        let set = match address {
            SocketAddr::V4(_) => sockopt::set_ip_freebind(&fd, true),
            SocketAddr::V6(_) => sockopt::set_ipv6_freebind(&fd, true),
        };
        set.map_err(at("IP_FREEBIND"))?;
    }
    set_path_mtu(&fd, address).map_err(at("path MTU discovery"))?;
    enlarge_buffers(&fd);
    rustix::net::bind(&fd, &address).map_err(at("bind"))?;
    let local = rustix::net::getsockname(&fd).and_then(SocketAddr::try_from).map_err(at("getsockname"))?;
    Ok((fd, local))
}

/// Finds out whether another process listens on one of `listen`, even one that would share.
///
/// For before the first port is opened: afterwards the own sockets are what is found.
pub fn probe(listen: &[SocketAddr]) -> Result<(), UdpError> {
    for &address in listen {
        // Not sharing, so that any other socket is in its way.
        let fd = unbound(address)?;
        rustix::net::bind(&fd, &address).map_err(|errno| UdpError::at(address, "bind", errno))?;
    }
    Ok(())
}

fn unbound(address: SocketAddr) -> Result<OwnedFd, UdpError> {
    let at = |step| move |errno| UdpError::at(address, step, errno);
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))
        .map_err(at("socket"))?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are two listen addresses, on any host.
        sockopt::set_ipv6_v6only(&fd, true).map_err(at("IPV6_V6ONLY"))?;
    }
    Ok(fd)
}

/// Replies are sized to fit, so they are never fragmented: sent with "don't fragment", as over AF_XDP. PROBE also
/// pays no heed to path MTUs that were learned from ICMP, which anybody can forge (RFC 9715 section 3.1).
fn set_path_mtu(fd: &OwnedFd, address: SocketAddr) -> Result<(), Errno> {
    match address {
        SocketAddr::V4(_) => sockopt::set_ip_mtu_discover(fd, sockopt::Ipv4PathMtuDiscovery::PROBE),
        SocketAddr::V6(_) => sockopt::set_ipv6_mtu_discover(fd, sockopt::Ipv6PathMtuDiscovery::PROBE),
    }
}

/// With CAP_NET_ADMIN buffers may be as large as we like, without up to `net.core.rmem_max` and `wmem_max`. Smaller
/// ones work too: what they lose is counted.
fn enlarge_buffers(fd: impl AsFd) {
    let fd = fd.as_fd();
    let receive = sockopt::set_socket_recv_buffer_size_force(fd, BUFFER)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(fd, BUFFER));
    let send = sockopt::set_socket_send_buffer_size_force(fd, BUFFER)
        .or_else(|_| sockopt::set_socket_send_buffer_size(fd, BUFFER));
    if let Err(error) = receive.and(send) {
        tracing::debug!(%error, "socket buffers stay as they are");
    }
}
