//! Filter of packets, and the comment of those that pass.

use ringdns_dataplane::{
    log::Protocol,
    mirror::{Direction, Directions, Fate, Mirrored},
    prefix::Prefix,
};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Offset of the question in a DNS message (RFC 1035 section 4.1.1).
const QUESTION: usize = 12;
/// Longest label in bytes (RFC 1035 section 2.3.4).
const LABEL_MAX: u8 = 63;
/// Position of the type in an Ethernet header.
const ETHER_TYPE: usize = 12;

/// Filter of packets.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Clients whose packets pass; `None`: all.
    pub client: Option<Prefix>,
    /// Name, in wire format and lowercased, at or below which questions are; `None`: any.
    pub suffix: Option<Vec<u8>>,
    /// Whether only queries that were dropped pass.
    pub dropped: bool,
}

impl Filter {
    /// Returns the directions that can pass.
    pub fn directions(&self) -> Directions {
        Directions { queries: true, replies: !self.dropped }
    }

    /// Whether a packet passes.
    pub fn takes(&self, mirrored: &Mirrored<'_>) -> bool {
        let of_client = |prefix: &Prefix| {
            let (source, destination) = addresses(mirrored.packet)?;
            let client = match mirrored.direction {
                Direction::Query => source,
                Direction::Reply => destination,
            };
            Some(prefix.contains(client.to_canonical()))
        };
        let below = |suffix: &Vec<u8>| {
            let (.., message) = mirrored.envelope.datagram(mirrored.packet)?;
            Some(asks_below(message, suffix))
        };
        (!self.dropped || matches!(mirrored.fate, Fate::Dropped(_)))
            && self.client.as_ref().is_none_or(|prefix| of_client(prefix) == Some(true))
            && self.suffix.as_ref().is_none_or(|suffix| below(suffix) == Some(true))
    }
}

/// Returns source and destination of a packet, which need not be well-formed: it may have been dropped
/// for that. `None`: it is no IP.
fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let mut at = ETHER_TYPE;
    loop {
        let kind = packet.get(at..at + 2)?;
        at += 2;
        match kind {
            // Behind the tag of a VLAN (IEEE 802.1Q, 802.1ad).
            [0x81, 0x00] | [0x88, 0xa8] => at += 2,
            [0x08, 0x00] => {
                let address = |from: usize| {
                    let bytes = packet.get(at + from..)?.first_chunk::<4>()?;
                    Some(IpAddr::from(Ipv4Addr::from(*bytes)))
                };
                return Some((address(12)?, address(16)?));
            }
            [0x86, 0xdd] => {
                let address = |from: usize| {
                    let bytes = packet.get(at + from..)?.first_chunk::<16>()?;
                    Some(IpAddr::from(Ipv6Addr::from(*bytes)))
                };
                return Some((address(8)?, address(24)?));
            }
            _ => return None,
        }
    }
}

/// Whether a message asks for a name at or below `suffix`, which ends in the root's label.
fn asks_below(message: &[u8], suffix: &[u8]) -> bool {
    let mut rest = message.get(QUESTION..).unwrap_or_default();
    loop {
        // Lengths of labels are below the letters.
        if rest.get(..suffix.len()).is_some_and(|tail| tail.eq_ignore_ascii_case(suffix)) {
            return true;
        }
        match rest.first() {
            Some(len @ 1..=LABEL_MAX) => rest = rest.get(1 + usize::from(*len)..).unwrap_or_default(),
            _ => return false,
        }
    }
}

/// Fate of a packet as a comment: words of the form `key=value`.
pub(crate) struct Comment<'a>(pub &'a Mirrored<'a>);

impl fmt::Display for Comment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mirrored { exchange, fate, protocol, .. } = self.0;
        write!(f, "exchange={exchange}")?;
        match fate {
            Fate::Punted => f.write_str(" fate=punted")?,
            Fate::Dropped(reason) => write!(f, " fate=dropped reason={}", reason.label())?,
            Fate::Answered(outcome, source) => {
                write!(f, " fate=answered outcome={} tier={}", outcome.label(), source.tier.label())?;
                if source.upstream_us > 0 {
                    write!(f, " upstream_us={}", source.upstream_us)?;
                }
                if let Some(list) = source.list {
                    write!(f, " list={list}")?;
                }
            }
        }
        match protocol {
            Protocol::Udp => Ok(()),
            other => write!(f, " transport={} headers=made-up", other.label()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_at_or_below_a_suffix_whatever_their_case() {
        let message = |name: &[u8]| [&[0; QUESTION], name, &[0, 1, 0, 1]].concat();
        let suffix = b"\x07example\x03com\0";
        for (name, expected) in [
            (&b"\x07example\x03com\0"[..], true),
            (b"\x03www\x07EXAMPLE\x03cOm\0", true),
            (b"\x04xexample\x03com\0", false),
            (b"\x0anotexample\x03com\0", false),
            (b"\x03com\0", false),
            (b"\x07example\x03com\x03net\0", false),
            (b"\x07example\xc0\x0c", false),
            (b"\x07exam", false),
            (b"", false),
        ] {
            assert_eq!(asks_below(&message(name), suffix), expected, "{name:?}");
        }
        assert!(asks_below(&message(b"\x03net\0"), b"\0"));
        assert!(!asks_below(&[0; 3], suffix));
    }

    #[test]
    fn addresses_are_found_behind_tags_and_in_broken_packets() {
        let v4 = [&[0x45; 12][..], &[192, 0, 2, 1, 192, 0, 2, 53]].concat();
        let expected = Some((Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::new(192, 0, 2, 53).into()));
        for tags in [&[][..], &[0x81, 0, 0, 5], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6]] {
            let packet = [&[0; ETHER_TYPE], tags, &[8, 0], &v4].concat();
            assert_eq!(addresses(&packet), expected);
            assert_eq!(addresses(&packet[..packet.len() - 1]), None);
        }
        let v6 = [&[0x60; 8][..], &Ipv6Addr::LOCALHOST.octets(), &[0; 16]].concat();
        let packet = [&[0; ETHER_TYPE][..], &[0x86, 0xdd], &v6].concat();
        assert_eq!(addresses(&packet), Some((Ipv6Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into())));
        assert_eq!(addresses(&[8; 14]), None);
    }
}
