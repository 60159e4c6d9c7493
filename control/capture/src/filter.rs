//! Filter of packets, and the comment of those that pass.

use ringdns_common::{filter::ExchangeFilter, message};
use ringdns_dataplane::{
    log::Protocol,
    mirror::{Direction, Directions, Fate, Mirrored},
};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Position of the type in an Ethernet header.
const ETHER_TYPE: usize = 12;

/// Filter of packets.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Filter of the exchanges that the packets belong to.
    pub exchanges: ExchangeFilter,
    /// Whether only queries that were dropped pass.
    pub dropped: bool,
}

/// Judgement of a packet by a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Packet that passes.
    Pass,
    /// Packet that does not pass, nor does its query if that waits.
    Fail,
    /// Query that passes if its reply does.
    AsReply,
}

impl Filter {
    /// Returns the directions that can pass.
    pub fn directions(&self) -> Directions {
        Directions { queries: true, replies: !self.dropped }
    }

    /// Judges a packet.
    pub(crate) fn judge(&self, mirrored: &Mirrored<'_>) -> Judgement {
        let Filter { exchanges, dropped } = self;
        if *dropped && !matches!(mirrored.fate, Fate::Dropped(_)) || !self.takes_asked(mirrored) {
            return Judgement::Fail;
        }
        match (exchanges.needs_answer(), mirrored.direction, mirrored.fate) {
            (false, ..) => Judgement::Pass,
            (true, Direction::Query, Fate::Dropped(_)) => Judgement::Fail,
            (true, Direction::Query, _) => Judgement::AsReply,
            (true, Direction::Reply, Fate::Answered(outcome, _)) => {
                let rcode = message_of(mirrored).and_then(message::response_code);
                if exchanges.takes_answer(outcome, rcode) { Judgement::Pass } else { Judgement::Fail }
            }
            (true, Direction::Reply, _) => Judgement::Fail,
        }
    }

    /// Whether client and question of a packet pass.
    fn takes_asked(&self, mirrored: &Mirrored<'_>) -> bool {
        let Filter { exchanges, .. } = self;
        let client = || {
            let (source, destination) = addresses(mirrored.packet)?;
            Some(match mirrored.direction {
                Direction::Query => source,
                Direction::Reply => destination,
            })
        };
        (exchanges.client.is_none() || exchanges.takes_client(client()))
            && (exchanges.suffix.is_none() && exchanges.qtype.is_none()
                || exchanges.takes_question(message_of(mirrored).and_then(message::question)))
    }
}

/// Returns the message of a packet, if it has one.
fn message_of<'a>(mirrored: &Mirrored<'a>) -> Option<&'a [u8]> {
    mirrored.envelope.datagram(mirrored.packet).map(|(.., message)| message)
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
