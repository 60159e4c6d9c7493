//! Facts about a frame, and the rules that explain why one side answers it and the other does not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::craft::{folded, pseudo};

/// Facts about a frame that a rule depends on.
pub struct Facts {
    has_group_source: bool,
    source: Option<IpAddr>,
    has_partial_checksum: bool,
}

impl Facts {
    pub fn of(frame: &[u8]) -> Self {
        let mut at = 12;
        while matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8])) {
            at += 4;
        }
        let packet = frame.get(at + 2..).unwrap_or_default();
        let (source, udp) = match frame.get(at..at + 2) {
            Some([0x08, 0x00]) => {
                let header = 4 * usize::from(packet.first().unwrap_or(&0) & 15);
                let source = packet.get(12..16).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
                (source.map(|octets| IpAddr::from(Ipv4Addr::from(octets))), packet.get(header..))
            }
            Some([0x86, 0xdd]) => {
                let source = packet.get(8..24).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
                (source.map(|octets| IpAddr::from(Ipv6Addr::from(octets))), packet.get(40..))
            }
            _ => (None, None),
        };
        let has_partial_checksum = udp.is_some_and(|udp| {
            let field = udp.get(6..8).map(|field| u16::from_be_bytes([field[0], field[1]]));
            field == pseudo(packet, udp).map(folded)
        });
        Facts { has_group_source: frame[6] & 1 != 0, source, has_partial_checksum }
    }

    /// Returns the rule that explains the difference.
    pub fn rule(&self, by_xdp: bool) -> Option<&'static str> {
        if by_xdp {
            // Nothing tells such a datagram from one that another guest of this machine sends.
            return self.has_partial_checksum.then_some("partial-checksum: AF_XDP accepts it in copy mode");
        }
        if self.has_group_source {
            return Some("group-source: no host has a group MAC address; the kernel does not look");
        }
        match self.source {
            Some(IpAddr::V4(v4)) if matches!(v4.octets()[0], 0 | 240..) => {
                Some("reserved-source: nobody has 0.0.0.0/8 or 240.0.0.0/4; the kernel takes most of them")
            }
            Some(IpAddr::V6(v6)) if v6.octets()[..10] == [0; 10] => {
                Some("form-of-ipv4: no packet has a source in ::/80; the kernel refuses ::ffff:0:0/96 only")
            }
            _ => None,
        }
    }
}
