//! Ethernet, 802.1Q, IPv4, IPv6 and UDP: from a frame to a DNS message and back, in place.
//!
//! [`Envelope::open`] finds the message in a received frame and checks everything on the way to it;
//! [`Envelope::seal`] turns the same headers around for the reply. The XDP program passes everything unusual
//! (options, fragments, extension headers) to the kernel, so here it is an error, and counted.

pub mod checksum;
pub mod header;

use crate::{port::Checksums, stats::DropReason};
use header::{EtherType, Ipv4, Ipv6, Mac, Udp, ethertype};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of all headers before the DNS message, at most: Ethernet, two VLAN tags, IPv6, UDP.
pub const HEADERS_MAX: usize = 14 + 2 * 4 + 40 + 8;

/// Hop limit (IPv4: TTL) of what we send: the recommended default (RFC 1700).
pub const HOP_LIMIT: u8 = 64;

/// The shortest Ethernet frame without its check sequence; shorter ones are padded with zeros (IEEE 802.3).
const MIN_FRAME: usize = 60;

/// Where the headers of a frame are. Proof that they were checked: lengths agree, addresses can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    ip: u8,
    udp: u8,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V4,
    V6,
}

impl Envelope {
    /// Opens a frame: the envelope, and the length of the DNS message that follows it.
    ///
    /// Bytes after the IP packet (Ethernet padding) are not part of the message.
    #[inline]
    pub fn open(frame: &[u8], checksums: Checksums) -> Result<(Envelope, usize), DropReason> {
        let ip = ip_offset(frame)?;
        let (version, udp, udp_len, pseudo) = match ethertype(frame, ip) {
            Some(EtherType::IPV4) => open_v4(frame, ip, checksums)?,
            Some(EtherType::IPV6) => open_v6(frame, ip)?,
            _ => return Err(DropReason::NotIp),
        };
        let datagram = frame.get(udp..udp + udp_len).ok_or(DropReason::BadLength)?;
        let (header, message) = Udp::ref_from_prefix(datagram).map_err(|_| DropReason::BadLength)?;
        if usize::from(header.length.get()) != udp_len {
            return Err(DropReason::BadLength);
        }
        if header.source.get() == 0 {
            return Err(DropReason::BadSource);
        }
        // RFC 768: zero means that the sender made none; RFC 8200 section 8.1 forbids that over IPv6.
        let unchecked = header.checksum.get() == 0 && version == Version::V4;
        if checksums == Checksums::Verify && !unchecked {
            let sum = checksum::sum(datagram, pseudo);
            if header.checksum.get() == 0 || checksum::fold(sum) != 0xffff {
                return Err(DropReason::BadChecksum);
            }
        }
        Ok((Envelope { ip: ip as u8, udp: udp as u8, version }, message.len()))
    }

    /// Offset of the DNS message in the frame; 70 at most.
    #[inline(always)]
    pub fn message(&self) -> usize {
        usize::from(self.udp) + 8
    }

    /// The client's address.
    pub fn client(&self, frame: &[u8]) -> Option<std::net::SocketAddr> {
        let (udp, _) = Udp::ref_from_prefix(frame.get(usize::from(self.udp)..)?).ok()?;
        let ip = frame.get(usize::from(self.ip)..)?;
        let address: std::net::IpAddr = match self.version {
            Version::V4 => Ipv4::ref_from_prefix(ip).ok()?.0.source.into(),
            Version::V6 => Ipv6::ref_from_prefix(ip).ok()?.0.source.into(),
        };
        Some((address, udp.source.get()).into())
    }

    /// Addresses a frame whose headers are still the query's, and whose message is `message_len` bytes, back to
    /// who sent it. Returns the frame's length.
    ///
    /// `frame` reaches to the end of its chunk, so that short ones can be padded.
    #[inline]
    pub fn seal(&self, frame: &mut [u8], message_len: usize) -> usize {
        let (ip, udp) = (usize::from(self.ip), usize::from(self.udp));
        let udp_len = 8 + message_len;
        let end = udp + udp_len;
        let (link, rest) = frame.split_at_mut(ip);
        let (net, transport) = rest.split_at_mut(udp - ip);

        if let Ok((mac, _)) = Mac::mut_from_prefix(link) {
            std::mem::swap(&mut mac.destination, &mut mac.source);
        }
        let pseudo = match self.version {
            Version::V4 => seal_v4(net, udp_len),
            Version::V6 => seal_v6(net, udp_len),
        };
        let datagram = &mut transport[..udp_len];
        if let Ok((header, _)) = Udp::mut_from_prefix(datagram) {
            std::mem::swap(&mut header.source, &mut header.destination);
            header.length.set(udp_len as u16);
            header.checksum.set(0);
        }
        let sum = !checksum::fold(checksum::sum(datagram, pseudo));
        if let Ok((header, _)) = Udp::mut_from_prefix(datagram) {
            // RFC 768: a sum that comes out as zero is sent as all ones.
            header.checksum.set(if sum == 0 { 0xffff } else { sum });
        }
        if end < MIN_FRAME {
            frame[end..MIN_FRAME].fill(0);
            return MIN_FRAME;
        }
        end
    }
}

/// Writes the headers of a query from `client` to `server`, as it would have arrived, in front of a message of
/// `message_len` bytes: how the socket port and the simulator make frames. Returns the message's offset.
pub fn address(
    frame: &mut [u8],
    client: std::net::SocketAddr,
    server: std::net::SocketAddr,
    message_len: usize,
) -> Option<usize> {
    use std::net::IpAddr;
    let udp_len = u16::try_from(8 + message_len).ok()?;
    let (mac, rest) = Mac::mut_from_prefix(frame).ok()?;
    mac.destination = [2, 0, 0, 0, 0, 1];
    mac.source = [2, 0, 0, 0, 0, 2];
    let (udp, pseudo, at) = match (client.ip(), server.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            mac.ethertype = EtherType::IPV4;
            let (ip, rest) = Ipv4::mut_from_prefix(rest).ok()?;
            ip.write(source, destination, udp_len);
            (rest, ip.pseudo(udp_len), 14 + 20 + 8)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            mac.ethertype = EtherType::IPV6;
            let (ip, rest) = Ipv6::mut_from_prefix(rest).ok()?;
            ip.write(source, destination, udp_len);
            (rest, ip.pseudo(udp_len), 14 + 40 + 8)
        }
        _ => return None,
    };
    let datagram = udp.get_mut(..usize::from(udp_len))?;
    let (header, _) = Udp::mut_from_prefix(datagram).ok()?;
    header.source.set(client.port());
    header.destination.set(server.port());
    header.length.set(udp_len);
    header.checksum.set(0);
    let sum = !checksum::fold(checksum::sum(datagram, pseudo));
    let (header, _) = Udp::mut_from_prefix(datagram).ok()?;
    header.checksum.set(if sum == 0 { 0xffff } else { sum });
    Some(at)
}

/// Skips up to two VLAN tags (802.1Q, 802.1ad).
#[inline(always)]
fn ip_offset(frame: &[u8]) -> Result<usize, DropReason> {
    let mut at = 14;
    for _ in 0..2 {
        match ethertype(frame, at) {
            Some(EtherType::VLAN | EtherType::QINQ) => at += 4,
            Some(_) => return Ok(at),
            None => return Err(DropReason::BadLength),
        }
    }
    Ok(at)
}

type Opened = (Version, usize, usize, u64);

#[inline(always)]
fn open_v4(frame: &[u8], at: usize, checksums: Checksums) -> Result<Opened, DropReason> {
    let (ip, _) = Ipv4::ref_from_prefix(&frame[at..]).map_err(|_| DropReason::BadLength)?;
    if ip.version_ihl != 0x45 || ip.protocol != header::UDP || ip.is_fragment() {
        return Err(DropReason::NotPlainUdp);
    }
    if checksums == Checksums::Verify && checksum::fold(checksum::sum(ip.as_bytes(), 0)) != 0xffff {
        return Err(DropReason::BadChecksum);
    }
    let udp_len = usize::from(ip.total_length.get()).checked_sub(20).ok_or(DropReason::BadLength)?;
    // 0.0.0.0/8, loopback, multicast, reserved and broadcast never ask across a link (RFC 1122 section 3.2.1.3).
    if matches!(ip.source[0], 0 | 127 | 224..) && checksums == Checksums::Verify {
        return Err(DropReason::BadSource);
    }
    Ok((Version::V4, at + 20, udp_len, ip.pseudo(udp_len as u16)))
}

#[inline(always)]
fn open_v6(frame: &[u8], at: usize) -> Result<Opened, DropReason> {
    let (ip, _) = Ipv6::ref_from_prefix(&frame[at..]).map_err(|_| DropReason::BadLength)?;
    if ip.version() != 6 || ip.next_header != header::UDP {
        return Err(DropReason::NotPlainUdp);
    }
    if ip.source[0] == 0xff || ip.source == [0; 16] {
        return Err(DropReason::BadSource);
    }
    let udp_len = usize::from(ip.payload_length.get());
    Ok((Version::V6, at + 40, udp_len, ip.pseudo(udp_len as u16)))
}

#[inline(always)]
fn seal_v4(net: &mut [u8], udp_len: usize) -> u64 {
    let Ok((ip, _)) = Ipv4::mut_from_prefix(net) else { return 0 };
    ip.turn(udp_len as u16);
    ip.pseudo(udp_len as u16)
}

#[inline(always)]
fn seal_v6(net: &mut [u8], udp_len: usize) -> u64 {
    let Ok((ip, _)) = Ipv6::mut_from_prefix(net) else { return 0 };
    ip.turn(udp_len as u16);
    ip.pseudo(udp_len as u16)
}

#[cfg(test)]
mod tests;
