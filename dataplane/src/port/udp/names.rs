//! Addresses in socket calls and in the headers of a frame, and their conversion.

use crate::{
    dns::reply,
    packet::header::{EtherType, Ipv4Udp, Ipv6Udp, Mac, Udp},
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ptr,
};
use zerocopy::FromBytes;

/// Returns the size of the headers before a datagram, in bytes.
pub(super) fn headers(local: &SocketAddr) -> usize {
    let ip_udp = if local.is_ipv4() { size_of::<Ipv4Udp>() } else { size_of::<Ipv6Udp>() };
    size_of::<Mac>() + ip_udp
}

/// A `sockaddr_in` or `sockaddr_in6`, distinguished by its first two bytes. It is a byte array,
/// since both begin alike and reading a union takes `unsafe`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(4))]
pub(super) struct SocketName([u8; size_of::<libc::sockaddr_in6>()]);

const NAME_V4: usize = size_of::<libc::sockaddr_in>();
const NAME_V6: usize = size_of::<libc::sockaddr_in6>();

impl SocketName {
    /// Returns the address and its scope: the interface of a link-local IPv6 address, else 0.
    pub(super) fn read(&self) -> Option<(SocketAddr, u32)> {
        let bytes = &self.0;
        let family = u16::from_ne_bytes([bytes[0], bytes[1]]);
        let port = u16::from_be_bytes([bytes[2], bytes[3]]);
        match i32::from(family) {
            libc::AF_INET => {
                let ip = *bytes[4..].first_chunk::<4>()?;
                Some(((Ipv4Addr::from(ip), port).into(), 0))
            }
            libc::AF_INET6 => {
                let ip = *bytes[8..].first_chunk::<16>()?;
                let scope = u32::from_ne_bytes(*bytes[24..].first_chunk::<4>()?);
                Some(((Ipv6Addr::from(ip), port).into(), scope))
            }
            _ => None,
        }
    }

    /// Returns a hash of address and port of a name of length `len`.
    #[inline]
    pub(super) fn hash(&self, len: usize) -> u64 {
        let word = |at: usize| self.0[at..].first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        let address = if len == NAME_V4 { 0 } else { word(8) ^ word(16) };
        (word(0) ^ address).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// Whether another name of the same length `len` is the same.
    #[inline]
    pub(super) fn is_same(&self, other: &SocketName, len: usize) -> bool {
        // The rest of a name of IPv4 is zeros.
        let compared = if len == NAME_V4 { 8 } else { NAME_V6 };
        self.0[..compared] == other.0[..compared]
    }

    fn write_v4(&mut self, ip: [u8; 4], port: [u8; 2]) -> usize {
        self.0[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        self.0[2..4].copy_from_slice(&port);
        self.0[4..8].copy_from_slice(&ip);
        self.0[8..NAME_V4].fill(0);
        NAME_V4
    }

    fn write_v6(&mut self, ip: [u8; 16], port: [u8; 2], scope: u32) -> usize {
        self.0[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        self.0[2..4].copy_from_slice(&port);
        self.0[4..8].fill(0); // flow label
        self.0[8..24].copy_from_slice(&ip);
        self.0[24..].copy_from_slice(&scope.to_ne_bytes());
        NAME_V6
    }
}

/// Control messages of a datagram.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Control {
    /// Comes first, since the length of the other depends on the IP version.
    segment: SegmentMessage,
    address: AddressMessage,
}

/// A `UDP_SEGMENT` control message: the length of each datagram of a run.
#[derive(Clone, Copy)]
#[repr(C)]
struct SegmentMessage {
    header: libc::cmsghdr,
    /// Two bytes, and the rest of the space that they take.
    size: [u8; size_of::<usize>()],
}

/// An `IP_PKTINFO` or `IPV6_PKTINFO` control message: the address of this host that a datagram was
/// sent to, or is to be sent from.
#[derive(Clone, Copy)]
#[repr(C)]
struct AddressMessage {
    header: libc::cmsghdr,
    info: [u8; 24],
}

/// Size of `struct in_pktinfo`: interface, our address, address in the header.
const INFO_V4: usize = 4 + 4 + 4;
/// Size of `struct in6_pktinfo`: address, interface.
const INFO_V6: usize = 16 + 4;

impl Control {
    /// Returns the place for the address that a datagram was sent to, if that `is_wanted`, and its
    /// length.
    pub(super) fn place_to_receive(&mut self, is_wanted: bool) -> (*mut libc::c_void, usize) {
        let len = if is_wanted { size_of::<AddressMessage>() } else { 0 };
        (ptr::from_mut(&mut self.address).cast(), len)
    }

    /// Returns the place of the messages to send, and their length: that of the address takes
    /// `address_len`. `segment`: the length of each datagram of a run.
    pub(super) fn messages_to_send(
        &mut self,
        segment: Option<u16>,
        address_len: usize,
    ) -> (*mut libc::c_void, usize) {
        let Some(segment) = segment else { return (ptr::from_mut(&mut self.address).cast(), address_len) };
        self.segment.size[..2].copy_from_slice(&segment.to_ne_bytes());
        write_header(&mut self.segment.header, libc::SOL_UDP, libc::UDP_SEGMENT, 2);
        (ptr::from_mut(self).cast(), size_of::<SegmentMessage>() + address_len)
    }

    /// Returns the address that a received datagram was sent to.
    pub(super) fn destination(&self) -> Option<IpAddr> {
        let AddressMessage { header, info } = &self.address;
        match (header.cmsg_level, header.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                Some(Ipv4Addr::from(*info[8..].first_chunk::<4>()?).into())
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                Some(Ipv6Addr::from(*info.first_chunk::<16>()?).into())
            }
            _ => None,
        }
    }

    /// Whether another datagram is sent from the same address. Both have been written for one IP
    /// version.
    pub(super) fn has_source_of(&self, other: &Control) -> bool {
        // An address of IPv4 is in the first 16 bytes too; the others of them are zeros.
        self.address.info[..16] == other.address.info[..16]
    }

    /// Leaves the interface to the routes.
    fn write_v4(&mut self, source: [u8; 4]) -> usize {
        let AddressMessage { header, info } = &mut self.address;
        info[..16].fill(0);
        info[4..8].copy_from_slice(&source);
        write_header(header, libc::IPPROTO_IP, libc::IP_PKTINFO, INFO_V4)
    }

    fn write_v6(&mut self, source: [u8; 16], scope: u32) -> usize {
        let AddressMessage { header, info } = &mut self.address;
        info[..16].copy_from_slice(&source);
        info[16..INFO_V6].copy_from_slice(&scope.to_ne_bytes());
        write_header(header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, INFO_V6)
    }
}

/// Writes the header of a control message. Returns the space that the message takes: its length,
/// rounded up to the header's alignment.
fn write_header(header: &mut libc::cmsghdr, level: i32, kind: i32, info_len: usize) -> usize {
    let len = size_of::<libc::cmsghdr>() + info_len;
    header.cmsg_len = len as _;
    header.cmsg_level = level;
    header.cmsg_type = kind;
    len.next_multiple_of(align_of::<libc::cmsghdr>())
}

/// Socket and scope that a datagram came from, stored in the destination MAC address of its frame.
/// In the reply, whose MAC addresses are swapped, it tells the socket to send from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DatagramOrigin {
    /// Number of the socket.
    pub(super) socket: u8,
    /// Scope of the client's address.
    pub(super) scope: u32,
}

/// First byte of a MAC address that no hardware has (IEEE 802: locally administered).
const LOCAL: u8 = 2;

impl DatagramOrigin {
    /// Writes the origin to a received frame.
    pub(super) fn write(self, frame: &mut [u8]) {
        if let Ok((mac, _)) = Mac::mut_from_prefix(frame) {
            let [a, b, c, d] = self.scope.to_ne_bytes();
            mac.destination = [LOCAL, self.socket, a, b, c, d];
        }
    }

    /// Reads the origin from a frame to be sent.
    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        let (mac, _) = Mac::ref_from_prefix(frame).ok()?;
        let [LOCAL, socket, a, b, c, d] = mac.source else { return None };
        Some(DatagramOrigin { socket, scope: u32::from_ne_bytes([a, b, c, d]) })
    }
}

/// Cuts the reply in a frame to its question, with TC=1. Returns false if that makes it no shorter.
pub(super) fn cut(frame: &mut [u8]) -> bool {
    let Some((mac, packet)) = Mac::mut_from_prefix(frame).ok() else { return false };
    let (udp, message) = match mac.ethertype {
        EtherType::IPV4 => {
            Ipv4Udp::mut_from_prefix(packet).map(|(headers, rest)| (&mut headers.udp, rest)).ok()
        }
        EtherType::IPV6 => {
            Ipv6Udp::mut_from_prefix(packet).map(|(headers, rest)| (&mut headers.udp, rest)).ok()
        }
        _ => None,
    }
    .unzip();
    let (Some(udp), Some(message)) = (udp, message) else { return false };
    let len = usize::from(udp.length.get()).saturating_sub(size_of::<Udp>());
    let Some(cut) = message.get_mut(..len).and_then(reply::cut) else { return false };
    udp.length.set((size_of::<Udp>() + cut) as u16);
    cut < len
}

/// Reply as the socket sends it.
pub(super) struct SocketReply<'a> {
    /// The datagram.
    pub(super) message: &'a [u8],
    /// Length of the name that was written.
    pub(super) name_len: usize,
    /// Length of the control message that was written.
    pub(super) control_len: usize,
}

/// Reads a reply's headers. Writes its destination to `name`, and its source address to `control`,
/// if given.
#[inline]
pub(super) fn reply<'a>(
    frame: &'a [u8],
    name: &mut SocketName,
    control: Option<&mut Control>,
) -> Option<SocketReply<'a>> {
    let scope = DatagramOrigin::read(frame)?.scope;
    let (mac, packet) = Mac::ref_from_prefix(frame).ok()?;
    let (udp, rest, name_len, control_len) = match mac.ethertype {
        EtherType::IPV4 => {
            let (headers, rest) = Ipv4Udp::ref_from_prefix(packet).ok()?;
            let name_len = name.write_v4(headers.ip.destination, headers.udp.destination.to_bytes());
            let control_len = control.map_or(0, |control| control.write_v4(headers.ip.source));
            (&headers.udp, rest, name_len, control_len)
        }
        EtherType::IPV6 => {
            let (headers, rest) = Ipv6Udp::ref_from_prefix(packet).ok()?;
            let name_len = name.write_v6(headers.ip.destination, headers.udp.destination.to_bytes(), scope);
            let control_len = control.map_or(0, |control| control.write_v6(headers.ip.source, scope));
            (&headers.udp, rest, name_len, control_len)
        }
        _ => return None,
    };
    let len = usize::from(udp.length.get()).checked_sub(size_of::<Udp>())?;
    Some(SocketReply { message: rest.get(..len)?, name_len, control_len })
}
