//! Ethernet, 802.1Q, IPv4, IPv6 and UDP: from a frame to a DNS message and back, in place.
//!
//! [`Envelope::open`] finds the message in a received frame and checks everything before it.
//! [`Envelope::seal`] turns the same headers into the reply's. The XDP program passes everything
//! unusual (options, fragments, extension headers) to the kernel, so here it is an error, and
//! counted.

pub mod header;
pub mod plain;

use crate::{
    checksum::{self, Checksums},
    dns::UDP_MIN,
    stats::DropReason,
};
use header::{EtherType, Headers, Ipv4, Ipv4Udp, Ipv6, Ipv6Udp, Mac, Udp};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use zerocopy::{FromBytes, big_endian::U16, transmute_ref};

/// Most bytes of all headers before the DNS message: Ethernet, two VLAN tags, IPv6, UDP.
pub const HEADERS_MAX: usize = 14 + 2 * 4 + 40 + 8;

/// Hop limit (IPv4: TTL) of packets that we send: the recommended default (RFC 1700).
pub const HOP_LIMIT: u8 = 64;

/// Shortest Ethernet frame in bytes, without its check sequence; shorter ones are padded with zeros
/// (IEEE 802.3).
pub(crate) const MIN_FRAME: usize = 60;

/// Returns an address as IPv6; IPv4 as `::ffff:a.b.c.d`.
pub fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        // From a socket for both families, IPv4 addresses are mapped already.
        IpAddr::V6(v6) => v6,
    }
}

/// Sizes in bytes of the largest replies over UDP that are sent whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LargestReplies {
    /// Over IPv4.
    pub v4: u16,
    /// Over IPv6.
    pub v6: u16,
}

impl LargestReplies {
    /// Returns `udp_limit`, or what fits a packet of `link_mtu` bytes if that is less, but at least
    /// 512 bytes, which every client may expect. `link_mtu` is `None` if the port itself cuts
    /// replies that do not fit.
    pub fn new(udp_limit: u16, link_mtu: Option<u32>) -> Self {
        let fit = |headers: usize| {
            let room = link_mtu.map_or(u32::MAX, |mtu| mtu.saturating_sub(headers as u32));
            udp_limit.min(u16::try_from(room).unwrap_or(u16::MAX)).max(UDP_MIN)
        };
        LargestReplies { v4: fit(size_of::<Ipv4Udp>()), v6: fit(size_of::<Ipv6Udp>()) }
    }

    /// Returns the size for the client of `envelope`.
    #[inline(always)]
    pub fn to(&self, envelope: Envelope) -> u16 {
        if envelope.is_v6() { self.v6 } else { self.v4 }
    }
}

/// Checksum of a received datagram, which is not wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UdpSum {
    /// It is absent, or need not be verified.
    #[default]
    Unverified,
    /// It is right.
    Verified,
    /// It is [partial](header::Udp::has_partial_checksum), and may be.
    Partial,
}

/// Position of the headers in a frame, and proof that they were checked: the lengths agree, and the
/// addresses can be answered.
///
/// It holds the offset of the message and three flags in one word, because it is passed from pass
/// to pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope(u16);

impl Envelope {
    const V6: u16 = 0x100;
    const VERIFIED: u16 = 0x200;
    const PARTIAL: u16 = 0x400;

    /// Returns the envelope of a frame that was answered at a glance.
    #[inline(always)]
    pub fn of_glance(window: &plain::Window, v6: bool) -> Self {
        let tags = plain::tags_len(window) as u16;
        if v6 { Envelope((62 + tags) | Self::V6) } else { Envelope(42 + tags) }
    }

    /// Returns the envelope of an untagged packet.
    #[inline(always)]
    pub fn of_plain(v6: bool, sum: UdpSum) -> Self {
        let flags = match sum {
            UdpSum::Unverified => 0,
            UdpSum::Verified => Self::VERIFIED,
            UdpSum::Partial => Self::PARTIAL,
        };
        if v6 { Envelope(62 | Self::V6 | flags) } else { Envelope(42 | flags) }
    }

    /// Returns the envelope of the packet with `tags` bytes of VLAN tags, at most eight.
    #[inline(always)]
    pub fn behind(self, tags: usize) -> Self {
        Envelope(self.0 + tags as u16)
    }

    /// Opens a frame. Returns its envelope, and the length of the DNS message that follows the
    /// headers.
    ///
    /// Bytes after the IP packet (Ethernet padding) are not part of the message.
    #[inline(always)]
    pub fn open(frame: &[u8], checksums: Checksums) -> Result<(Envelope, usize), DropReason> {
        match frame.get(12..14) {
            Some([0x08, 0x00]) => open_v4(frame, 14, checksums),
            Some([0x86, 0xdd]) => open_v6(frame, 14, checksums),
            _ => open_tagged(frame, checksums),
        }
    }

    /// Returns the offset of the DNS message in the frame; at most 70.
    #[inline(always)]
    pub fn message(&self) -> usize {
        usize::from(self.0 & 0xff)
    }

    /// Whether the datagram's checksum was [partial](header::Udp::has_partial_checksum).
    #[inline(always)]
    pub fn is_partial(&self) -> bool {
        self.0 & Self::PARTIAL != 0
    }

    /// Whether the client is reached over IPv6.
    #[inline(always)]
    pub fn is_v6(&self) -> bool {
        self.0 & Self::V6 != 0
    }

    /// Returns the client's address and port.
    pub fn client(&self, frame: &[u8]) -> Option<SocketAddr> {
        let headers = frame.get(..self.message())?;
        let (address, udp): (IpAddr, &Udp) = if self.is_v6() {
            Ipv6Udp::ref_from_suffix(headers).ok().map(|(_, h)| (h.ip.source.into(), &h.udp))?
        } else {
            Ipv4Udp::ref_from_suffix(headers).ok().map(|(_, h)| (h.ip.source.into(), &h.udp))?
        };
        Some((address, udp.source.get()).into())
    }

    /// Returns the network that counts as one client: an IPv4 address, also if it is mapped, or an
    /// IPv6 /56, the least that a site is assigned (RFC 6177).
    #[inline]
    pub fn client_network(&self, frame: &[u8]) -> u64 {
        const MAPPED: u64 = 0xffff << 32;
        let Some(headers) = frame.get(..self.message()) else { return 0 };
        if self.is_v6() {
            let Ok((_, headers)) = Ipv6Udp::ref_from_suffix(headers) else { return 0 };
            let address = u128::from_be_bytes(headers.ip.source);
            match (address >> 64) as u64 {
                0 => address as u64,
                network => network >> 8,
            }
        } else {
            let Ok((_, headers)) = Ipv4Udp::ref_from_suffix(headers) else { return 0 };
            MAPPED | u64::from(u32::from_be_bytes(headers.ip.source))
        }
    }

    /// Returns the receiver of a sealed frame, IPv4 as `::ffff:a.b.c.d`, and its message.
    pub fn reply<'a>(&self, frame: &'a [u8]) -> Option<(Ipv6Addr, &'a [u8])> {
        let (headers, message) = frame.split_at_checked(self.message())?;
        let (address, udp) = if self.is_v6() {
            Ipv6Udp::ref_from_suffix(headers).ok().map(|(_, h)| (h.ip.destination.into(), &h.udp))?
        } else {
            let (_, headers) = Ipv4Udp::ref_from_suffix(headers).ok()?;
            (Ipv4Addr::from(headers.ip.destination).to_ipv6_mapped(), &headers.udp)
        };
        let len = usize::from(udp.length.get()).checked_sub(size_of::<Udp>())?;
        Some((address, message.get(..len)?))
    }

    /// Returns source, destination and message of a frame; `None` if it has no message.
    pub fn datagram<'a>(&self, frame: &'a [u8]) -> Option<(SocketAddr, SocketAddr, &'a [u8])> {
        let (headers, message) = frame.split_at_checked(self.message())?;
        let (source, destination, udp): (IpAddr, IpAddr, &Udp) = if self.is_v6() {
            let (_, headers) = Ipv6Udp::ref_from_suffix(headers).ok()?;
            (headers.ip.source.into(), headers.ip.destination.into(), &headers.udp)
        } else {
            let (_, headers) = Ipv4Udp::ref_from_suffix(headers).ok()?;
            (headers.ip.source.into(), headers.ip.destination.into(), &headers.udp)
        };
        let len = usize::from(udp.length.get()).checked_sub(size_of::<Udp>())?;
        let (source, destination) =
            (SocketAddr::new(source, udp.source.get()), (destination, udp.destination.get()));
        Some((source, destination.into(), message.get(..len)?))
    }

    /// Addresses a frame, whose headers are still the query's and whose message has `message_len`
    /// bytes, back to the client. Returns the frame's length.
    ///
    /// `change` is the change of the message's checksum from the query's to the reply's, if it is
    /// known. The reply's checksum then follows from the query's, if that was verified, and the
    /// message is not read again. `frame` must reach to the end of its chunk, so that short frames
    /// can be padded.
    #[inline(always)]
    pub fn seal(&self, frame: &mut [u8], message_len: usize, change: Option<u64>) -> usize {
        if self.is_v6() {
            self.seal_headers::<Ipv6Udp>(frame, message_len, change)
        } else {
            self.seal_headers::<Ipv4Udp>(frame, message_len, change)
        }
    }

    #[inline(always)]
    fn seal_headers<H: Headers>(&self, frame: &mut [u8], message_len: usize, change: Option<u64>) -> usize {
        let Some((headers, message)) = frame.split_at_mut_checked(self.message()) else { return 0 };
        if let Ok((mac, _)) = Mac::mut_from_prefix(headers) {
            std::mem::swap(&mut mac.destination, &mut mac.source);
        }
        let Ok((_, headers)) = H::mut_from_suffix(headers) else { return 0 };
        let udp_len = size_of::<Udp>() + message_len;
        let old_len = headers.udp().length;
        headers.turn_ip(udp_len as u16);
        headers.udp().turn(udp_len as u16);
        match change {
            Some(change) if self.0 & Self::VERIFIED != 0 => headers.udp().follow(change, old_len),
            _ => {
                let addresses = headers.addresses();
                headers.udp().seal(addresses, &message[..message_len]);
            }
        }
        let end = self.message() + message_len;
        // A tagged frame is long enough to lose its tags on the way.
        let least = MIN_FRAME + self.message() - size_of::<Mac>() - size_of::<H>();
        if end < least { pad(frame, end, least) } else { end }
    }
}

#[cold]
fn pad(frame: &mut [u8], end: usize, least: usize) -> usize {
    frame[end..least].fill(0);
    least
}

/// Opens a frame that may begin with one or two VLAN tags (802.1Q, 802.1ad).
#[cold]
fn open_tagged(frame: &[u8], checksums: Checksums) -> Result<(Envelope, usize), DropReason> {
    let mut at = 12;
    for _ in 0..3 {
        let Some(bytes) = frame.get(at..).and_then(|rest| rest.first_chunk::<2>()) else {
            return Err(DropReason::BadLength);
        };
        match EtherType(*bytes) {
            EtherType::IPV4 => return open_v4(frame, at + 2, checksums),
            EtherType::IPV6 => return open_v6(frame, at + 2, checksums),
            EtherType::VLAN | EtherType::QINQ => at += 4,
            _ => break,
        }
    }
    Err(DropReason::NotIp)
}

#[inline(always)]
fn open_v4(frame: &[u8], at: usize, checksums: Checksums) -> Result<(Envelope, usize), DropReason> {
    const HEADERS: usize = size_of::<Ipv4Udp>();
    // A frame that ends within its link header has no packet.
    let packet = frame.get(at..).ok_or(DropReason::BadLength)?;
    let bytes = packet.first_chunk::<HEADERS>().ok_or(DropReason::BadLength)?;
    let Ipv4Udp { ip, udp }: &Ipv4Udp = transmute_ref!(bytes);
    if !ip.is_plain_udp() {
        return Err(DropReason::NotPlainUdp);
    }
    let udp_len = usize::from(udp.length.get());
    let total = size_of::<Ipv4>() + udp_len;
    if usize::from(ip.total_length.get()) != total || packet.len() < total || udp_len < size_of::<Udp>() {
        return Err(DropReason::BadLength);
    }
    if udp.source == U16::ZERO {
        return Err(DropReason::BadSource);
    }
    // RFC 768: zero means that the sender computed no checksum.
    let verified = checksums.are_verified() && udp.checksum != U16::ZERO;
    let mut flags = if verified { Envelope::VERIFIED } else { 0 };
    if checksums.are_verified() {
        // 0.0.0.0/8, loopback, multicast, reserved and broadcast addresses never send queries
        // across a link (RFC 1122 section 3.2.1.3).
        if matches!(ip.source[0], 0 | 127 | 224..) {
            return Err(DropReason::BadSource);
        }
        if !ip.is_right() {
            return Err(DropReason::BadChecksum);
        }
        // The addresses, which are part of the pseudo-header, are right before the datagram.
        let datagram = &packet[size_of::<Ipv4>() - 8..total];
        if verified && !checksum::is_right(checksum::sum_from::<5>(datagram, header::pseudo(udp.length))) {
            flags = partial(checksums, udp, ip.addresses())?;
        }
    }
    Ok((Envelope((at + HEADERS) as u16 | flags), udp_len - size_of::<Udp>()))
}

#[inline(always)]
fn open_v6(frame: &[u8], at: usize, checksums: Checksums) -> Result<(Envelope, usize), DropReason> {
    const HEADERS: usize = size_of::<Ipv6Udp>();
    // A frame that ends within its link header has no packet.
    let packet = frame.get(at..).ok_or(DropReason::BadLength)?;
    let bytes = packet.first_chunk::<HEADERS>().ok_or(DropReason::BadLength)?;
    let Ipv6Udp { ip, udp }: &Ipv6Udp = transmute_ref!(bytes);
    if ip.version() != 6 || ip.next_header != header::UDP {
        return Err(DropReason::NotPlainUdp);
    }
    let udp_len = usize::from(udp.length.get());
    let total = size_of::<Ipv6>() + udp_len;
    let agree = ip.payload_length == udp.length;
    if !agree || packet.len() < total || udp_len < size_of::<Udp>() {
        return Err(DropReason::BadLength);
    }
    if udp.source == U16::ZERO || ip.source[0] == 0xff {
        return Err(DropReason::BadSource);
    }
    if ip.source[..8] == [0; 8] {
        special_source(&ip.source, checksums)?;
    }
    let mut flags = Envelope::V6;
    if checksums.are_verified() {
        flags |= Envelope::VERIFIED;
        let sum = checksum::sum_from::<8>(&packet[size_of::<Ipv6>() - 32..total], header::pseudo(udp.length));
        // RFC 8200 section 8.1: over IPv6 there is always a checksum.
        if !checksum::is_right(sum) || udp.checksum == U16::ZERO {
            flags = Envelope::V6 | partial(checksums, udp, ip.addresses())?;
        }
    }
    Ok((Envelope((at + HEADERS) as u16 | flags), udp_len - size_of::<Udp>()))
}

/// Decides about a source below `::/64`. The unspecified address cannot be answered. No packet on a
/// link has an address below `::/80`: loopback, and forms of IPv4 addresses (RFC 4291 section 2.5).
/// Kernel sockets, whose checksums are not verified, have such clients.
#[cold]
fn special_source(source: &[u8; 16], checksums: Checksums) -> Result<(), DropReason> {
    if *source == [0; 16] || checksums.are_verified() && source[..10] == [0; 10] {
        return Err(DropReason::BadSource);
    }
    Ok(())
}

/// Decides about a datagram between `addresses` whose checksum is wrong. Returns the flag for a
/// partial checksum, if the checksum is partial and that is allowed.
///
/// Accepting partial checksums has a price: no checksum protects the message of such a datagram, as
/// over IPv4 in a datagram without a checksum. On the wire the partial sum would be one of 65,535
/// values, so corruption passes unnoticed twice as often as it does anyway. A forger gains nothing:
/// a checksum is no secret, and whoever can send a datagram with a partial one can send it with a
/// right one. Nothing else is relaxed. Lengths, addresses, ports and the checksum of the IPv4
/// header, which the kernel always completes, obey the same rules, and the reply gets a checksum
/// over all of its bytes.
#[cold]
fn partial(checksums: Checksums, udp: &Udp, addresses: u64) -> Result<u16, DropReason> {
    if checksums == Checksums::AllowPartial && udp.has_partial_checksum(addresses) {
        Ok(Envelope::PARTIAL)
    } else {
        Err(DropReason::BadChecksum)
    }
}

/// Writes the headers of a query from `client` to `server`, as it would have arrived, in front of a
/// message of `message_len` bytes. The socket port and the simulator make their frames with it.
/// Returns the message's offset; `None` if the addresses are of two families or the message does
/// not fit.
///
/// With [`Checksums::Unused`] or [`Checksums::Trust`], no checksum is computed.
pub fn address(
    frame: &mut [u8],
    client: SocketAddr,
    server: SocketAddr,
    message_len: usize,
    checksums: Checksums,
) -> Option<usize> {
    let udp_len = u16::try_from(size_of::<Udp>() + message_len).ok()?;
    let (mac, packet) = Mac::mut_from_prefix(frame).ok()?;
    mac.destination = [2, 0, 0, 0, 0, 1];
    mac.source = [2, 0, 0, 0, 0, 2];
    let (at, addresses, udp, message) = match (client.ip(), server.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            mac.ethertype = EtherType::IPV4;
            let (headers, message) = Ipv4Udp::mut_from_prefix(packet).ok()?;
            (42, headers.ip.write(source, destination, udp_len), &mut headers.udp, message)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            mac.ethertype = EtherType::IPV6;
            let (headers, message) = Ipv6Udp::mut_from_prefix(packet).ok()?;
            (62, headers.ip.write(source, destination, udp_len), &mut headers.udp, message)
        }
        _ => return None,
    };
    udp.source.set(client.port());
    udp.destination.set(server.port());
    udp.length.set(udp_len);
    let message = message.get(..message_len)?;
    match checksums {
        Checksums::Verify | Checksums::AllowPartial => udp.seal(addresses, message),
        Checksums::Trust | Checksums::Unused => udp.checksum = U16::ZERO,
    }
    Some(at)
}

#[cfg(test)]
pub(crate) mod tests;
