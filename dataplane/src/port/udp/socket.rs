//! Opens UDP sockets.

use super::{error::UdpError, set_option};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt},
};
use std::{
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
};

/// Size of a socket's receive and send buffers in bytes. A small datagram takes a thousand bytes of
/// kernel memory, so a few thousand of them fit, and a worker that is delayed for some milliseconds
/// loses nothing.
const BUFFER: usize = 4 << 20;

/// Opens a socket on `address` that other sockets of this user may share. Returns it with the
/// address that it is bound to. This host may get the address later.
pub(super) fn open(address: SocketAddr) -> Result<(OwnedFd, SocketAddr), UdpError> {
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
    bind_freely(&fd, address).map_err(at("IP_FREEBIND"))?;
    set_path_mtu(&fd, address).map_err(at("path MTU discovery"))?;
    enlarge_buffers(&fd);
    rustix::net::bind(&fd, &address).map_err(at("bind"))?;
    let local = rustix::net::getsockname(&fd).and_then(SocketAddr::try_from).map_err(at("getsockname"))?;
    Ok((fd, local))
}

/// Fails if another process listens on one of `listen`, even if that process shares its socket.
///
/// Call it before the first port is opened: afterwards it would find our own sockets.
pub fn probe(listen: &[SocketAddr]) -> Result<(), UdpError> {
    for &address in listen {
        // This socket does not share, so any other socket makes `bind` fail.
        let fd = unbound(address)?;
        bind_freely(&fd, address).map_err(|errno| UdpError::at(address, "IP_FREEBIND", errno))?;
        rustix::net::bind(&fd, &address).map_err(|errno| UdpError::at(address, "bind", errno))?;
    }
    Ok(())
}

/// Lets a socket of any kind be bound to an address that no interface has: a virtual address that
/// is on another host at the moment, an IPv6 address whose uniqueness is still being checked, or one
/// that a route alone makes local (AnyIP). Answers leave from the last only with this option.
pub fn bind_freely(socket: &OwnedFd, address: SocketAddr) -> Result<(), Errno> {
    match address {
        SocketAddr::V4(_) => sockopt::set_ip_freebind(socket, true),
        SocketAddr::V6(_) => sockopt::set_ipv6_freebind(socket, true),
    }
}

/// Whether packets to `address` reach this host, as far as the kernel tells. If it does not, they
/// are taken to do so.
pub fn is_here(mut address: SocketAddr) -> bool {
    address.set_port(0);
    let bound = unbound(address).map(|socket| rustix::net::bind(&socket, &address));
    !matches!(bound, Ok(Err(Errno::ADDRNOTAVAIL)))
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

/// Sets "don't fragment", as over AF_XDP: replies are sized to fit, so they are never fragmented.
/// PROBE also ignores path MTUs learned from ICMP, which anybody can forge (RFC 9715 section 3.1).
fn set_path_mtu(fd: &OwnedFd, address: SocketAddr) -> Result<(), Errno> {
    match address {
        SocketAddr::V4(_) => sockopt::set_ip_mtu_discover(fd, sockopt::Ipv4PathMtuDiscovery::PROBE),
        SocketAddr::V6(_) => sockopt::set_ipv6_mtu_discover(fd, sockopt::Ipv6PathMtuDiscovery::PROBE),
    }
}

/// Enlarges the buffers to [`BUFFER`]. With CAP_NET_ADMIN, any size is allowed; without it,
/// `net.core.rmem_max` and `wmem_max` are the limits. Smaller buffers work too: datagrams that they
/// lose are counted.
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
