//! Classification of a packet: whether it is a plain UDP datagram, and its destination.
//!
//! Only packets that a worker can answer by rewriting the frame in place may bypass the kernel:
//! Ethernet with up to two VLAN tags, IPv4 without options or IPv6 without extension headers, not
//! fragmented, UDP, with lengths that agree. All other packets go to the kernel, which knows how to
//! reassemble them, answer them or drop them.

use crate::{ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN, HostAddress, ListenKey, Verdict, VlanKey};

/// Access to a frame that both the BPF verifier and a test can follow: the verifier requires each
/// access to be guarded by a comparison of that very pointer with the end of the packet, and it
/// cannot see one in indexing into a slice.
pub trait Packet {
    /// Returns the `N` bytes from `offset` on, if the frame has all of them.
    fn window<const N: usize>(&self, offset: usize) -> Option<&[u8; N]>;

    /// Whether the frame has at least `length` bytes.
    fn reaches(&self, length: usize) -> bool;
}

impl Packet for [u8] {
    fn window<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.get(offset..)?.first_chunk()
    }

    fn reaches(&self, length: usize) -> bool {
        self.len() >= length
    }
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

const ETHERNET_LEN: usize = 14;
const VLAN_LEN: usize = 4;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const UDP_LEN: usize = 8;

const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const IPV6_FRAGMENT: u8 = 44;
/// Hop-by-hop, routing, ESP, AH, destination options, mobility, HIP and shim6 (RFC 7045, section 3).
const IPV6_EXTENSIONS: [u8; 8] = [0, 43, 50, 51, 60, 135, 139, 140];

/// The more-fragments flag and the fragment offset, without don't-fragment, which may be set.
const IPV4_FRAGMENT_BITS: u16 = 0x3fff;

/// A plain UDP datagram, found in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub source: HostAddress,
    pub destination: ListenKey,
    pub vlan: VlanKey,
    /// Offset of its UDP header in the frame.
    pub offset: usize,
    /// Length from the UDP header on. The frame has all of it, and may have padding after it.
    pub length: usize,
}

/// Finds the destination of a plain UDP datagram, or the reason to leave the packet to the kernel.
///
/// [`decide`](crate::decide) looks up whether there is a listener on that destination.
#[inline(always)]
pub fn classify<P: Packet + ?Sized>(packet: &P) -> Result<Datagram, Verdict> {
    let ethernet = packet.window::<ETHERNET_LEN>(0).ok_or(Verdict::BadLength)?;
    let mut ethertype = word(ethernet, 12);
    let mut ip = ETHERNET_LEN;
    let mut vlan = VlanKey::default();
    for _ in 0..2 {
        if is_vlan(ethertype) {
            let tag = packet.window::<VLAN_LEN>(ip).ok_or(Verdict::BadLength)?;
            vlan = vlan.with(ethertype, word(tag, 0));
            ethertype = word(tag, 2);
            ip += VLAN_LEN;
        }
    }

    let datagram = match ethertype {
        ETHERTYPE_IPV4 => classify_ipv4(packet, ip)?,
        ETHERTYPE_IPV6 => classify_ipv6(packet, ip)?,
        other if is_vlan(other) => return Err(Verdict::VlanTooDeep),
        _ => return Err(Verdict::NotIp),
    };
    if ethernet[0] & 1 != 0 {
        return Err(Verdict::GroupAddress);
    }
    Ok(Datagram { vlan, ..datagram })
}

#[inline(always)]
fn classify_ipv4<P: Packet + ?Sized>(packet: &P, ip: usize) -> Result<Datagram, Verdict> {
    let header = packet.window::<IPV4_LEN>(ip).ok_or(Verdict::BadLength)?;
    if header[0] >> 4 != 4 {
        return Err(Verdict::NotIp);
    }
    match header[9] {
        PROTOCOL_UDP => {}
        PROTOCOL_TCP => return Err(Verdict::Tcp),
        _ => return Err(Verdict::NotUdp),
    }
    if header[0] & 0x0f != 5 {
        return Err(Verdict::IpOptions);
    }
    if word(header, 6) & IPV4_FRAGMENT_BITS != 0 {
        return Err(Verdict::Fragment);
    }
    let offset = ip + IPV4_LEN;
    let length = usize::from(word(header, 2)).checked_sub(IPV4_LEN).ok_or(Verdict::BadLength)?;
    let port = udp_port(packet, offset, length)?;
    let source = HostAddress::v4([header[12], header[13], header[14], header[15]]);
    let destination = ListenKey::v4([header[16], header[17], header[18], header[19]], port);
    Ok(Datagram { source, destination, vlan: VlanKey::default(), offset, length })
}

#[inline(always)]
fn classify_ipv6<P: Packet + ?Sized>(packet: &P, ip: usize) -> Result<Datagram, Verdict> {
    let header = packet.window::<IPV6_LEN>(ip).ok_or(Verdict::BadLength)?;
    if header[0] >> 4 != 6 {
        return Err(Verdict::NotIp);
    }
    match header[6] {
        PROTOCOL_UDP => {}
        PROTOCOL_TCP => return Err(Verdict::Tcp),
        IPV6_FRAGMENT => return Err(Verdict::Fragment),
        other if IPV6_EXTENSIONS.contains(&other) => return Err(Verdict::ExtensionHeader),
        _ => return Err(Verdict::NotUdp),
    }
    let offset = ip + IPV6_LEN;
    let length = usize::from(word(header, 4));
    let port = udp_port(packet, offset, length)?;
    let (mut from, mut to) = ([0; 16], [0; 16]);
    from.copy_from_slice(&header[8..24]);
    to.copy_from_slice(&header[24..40]);
    let (source, destination) = (HostAddress::v6(from), ListenKey::v6(to, port));
    Ok(Datagram { source, destination, vlan: VlanKey::default(), offset, length })
}

/// Returns the destination port of the UDP datagram at `offset`; IP gives its length as `length`.
///
/// UDP's own length must be the same. RFC 768 lets it be less, and RFC 9868 gives the rest a
/// meaning, but a worker that answers in place needs a single length. The frame may be longer than
/// the IP packet, because Ethernet pads.
#[inline(always)]
fn udp_port<P: Packet + ?Sized>(packet: &P, offset: usize, length: usize) -> Result<[u8; 2], Verdict> {
    let header = packet.window::<UDP_LEN>(offset).ok_or(Verdict::BadLength)?;
    if length < UDP_LEN || usize::from(word(header, 4)) != length || !packet.reaches(offset + length) {
        return Err(Verdict::BadLength);
    }
    Ok([header[2], header[3]])
}

#[inline(always)]
fn is_vlan(ethertype: u16) -> bool {
    matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN)
}

/// Returns the big-endian word at `at`.
#[inline(always)]
fn word<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
