//! Protection against DNS rebinding: private addresses in answers of upstreams for public names.
//!
//! It is applied where lists are: between the host tier and clients. Only the name of the question
//! counts, since a public name that is an alias of a private one reaches the private host too.

use crate::{
    data::AS_WRITTEN,
    hints::hints,
    message::{Message, Record},
};
use ringdns_config::{RebindingAction, RebindingConfig};
use ringdns_dataplane::{
    clock::Secs,
    dns::{CLASS_IN, answer::Answer, is_within, key::Key, option::ede, rcode, reply::Age, rtype},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most time that a client is refused an answer, in seconds, before it is looked at again.
const REFUSED_TTL: Secs = 300;

/// Protection against DNS rebinding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebinding {
    allow: Vec<Vec<u8>>,
    action: RebindingAction,
}

impl Rebinding {
    /// Returns the protection that is configured; `None`: there is none.
    pub fn new(config: &RebindingConfig) -> Option<Self> {
        config.enabled.then(|| Rebinding { allow: config.allow.clone(), action: config.action })
    }

    /// Returns the answer that takes the place of an upstream's with private addresses. `None`: it
    /// has none, or may have them. `age` tells how its TTLs are written.
    pub fn replacement(&self, key: &Key, answer: &Answer, age: Age, now: Secs) -> Option<Answer> {
        if !has_private(key, answer) || self.allow.iter().any(|zone| is_within(key.asked().name(), zone)) {
            return None;
        }
        let refused =
            |ttl: Secs| Answer::error(rcode::REFUSED, Some(ede::BLOCKED), now, ttl.min(REFUSED_TTL));
        let left = answer.expires().saturating_sub(now);
        match self.action {
            RebindingAction::Refuse => Some(refused(left)),
            // What cannot be written is refused.
            RebindingAction::Remove => {
                Some(without_private(key, answer, age, now).unwrap_or_else(|| refused(0)))
            }
        }
    }
}

/// Whether an answer has records with private addresses.
fn has_private(key: &Key, answer: &Answer) -> bool {
    let before = ringdns_common::message::HEADER + key.question().len();
    answer.ttls.iter().any(|at| {
        // Type, class, TTL, length, data.
        let at = usize::from(u16::from_le_bytes(*at)).wrapping_sub(before);
        let record = at.checked_sub(4).and_then(|start| {
            let (head, rest) = answer.wire.get(start..)?.split_first_chunk::<10>()?;
            let length = usize::from(u16::from_be_bytes([head[8], head[9]]));
            Some((u16::from_be_bytes([head[0], head[1]]), rest.get(..length)?))
        });
        record.is_some_and(|(rtype, rdata)| is_private_data(rtype, rdata))
    })
}

/// Returns the answer without records that have private addresses, nor signatures of their sets.
fn without_private(key: &Key, answer: &Answer, age: Age, now: Secs) -> Option<Answer> {
    let mut message = Message::of(key, answer, age)?;
    let ttl = message.answers.iter().map(Record::sane_ttl).min().unwrap_or_default();
    let asks = |record: &Record| record.rtype == message.qtype || message.qtype == rtype::ANY;
    let had_answers = message.answers.iter().any(asks);
    for section in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
        let is_private = |record: &Record| is_private_data(record.rtype, &record.rdata);
        let cut: Vec<_> = section
            .iter()
            .filter(|record| is_private(record))
            .map(|record| (record.owner.clone(), record.rtype.to_be_bytes()))
            .collect();
        section.retain(|record| {
            let is_signature = record.rtype == rtype::RRSIG
                && cut.iter().any(|(owner, of)| *owner == record.owner && record.rdata.starts_with(of));
            !is_private(record) && !is_signature
        });
    }
    let asks = |record: &Record| record.rtype == message.qtype || message.qtype == rtype::ANY;
    if had_answers && !message.answers.iter().any(asks) {
        // No data, kept by the TTL that the records had (RFC 2308).
        message.authorities = vec![start_of(&message, ttl)?];
    }
    let answer = Answer::from_response(&message.to_bytes()?, key, &AS_WRITTEN, now, false).ok()?;
    Some(Answer { ede: Some(ede::BLOCKED), ..answer })
}

/// Returns a start of authority for the last name of an answer.
fn start_of(message: &Message, ttl: u32) -> Option<Record> {
    let alias = message.answers.iter().rfind(|record| record.rtype == rtype::CNAME);
    let owner = alias.map_or_else(|| Some(message.name.clone()), |alias| alias.name_at(0))?;
    let mut rdata = [owner.as_wire(), b"\x06nobody\x07invalid\0"].concat();
    for number in [1, 3_600, 1_200, 604_800, ttl] {
        rdata.extend(u32::to_be_bytes(number));
    }
    let spelled = owner.as_wire().into();
    Some(Record { owner, spelled, rtype: rtype::SOA, class: CLASS_IN, ttl, rdata: rdata.into() })
}

/// Whether the data of a record has a private address.
fn is_private_data(rtype: u16, rdata: &[u8]) -> bool {
    match rtype {
        rtype::A => <[u8; 4]>::try_from(rdata).is_ok_and(|v4| is_private_v4(v4.into())),
        rtype::AAAA => <[u8; 16]>::try_from(rdata).is_ok_and(|v6| is_private_v6(v6.into())),
        // A client might read what this cannot.
        rtype::SVCB | rtype::HTTPS => hints(rdata).is_none_or(|hints| hints.into_iter().any(is_private)),
        _ => false,
    }
}

/// Whether an IPv4 address belongs to no host of the Internet.
pub fn is_private_v4(address: Ipv4Addr) -> bool {
    address.octets()[0] == 0 || address.is_private() || address.is_loopback() || address.is_link_local()
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_private_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Unspecified, loopback, IPv4-compatible (RFC 4291 section 2.5.5.1).
        [0, 0, 0, 0, 0, 0, high, low] => embedded(high, low),
        // IPv4-mapped, and translated (RFC 2765).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => embedded(high, low),
        // NAT64 (RFC 6052); its prefixes for local use (RFC 8215).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x64, 0xff9b, 1, ..] => true,
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => embedded(high, low),
        // Unique local (RFC 4193), link-local, and site-local (RFC 3879).
        [first, ..] => first & 0xfe00 == 0xfc00 || matches!(first & 0xffc0, 0xfe80 | 0xfec0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_known_in_all_their_forms() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
        ] {
            let v4: Ipv4Addr = text.parse().unwrap();
            assert!(is_private_v4(v4), "{v4}");
            let [a, b, c, d] = v4.octets();
            let [high, low] = [[a, b], [c, d]].map(u16::from_be_bytes);
            for v6 in [
                v4.to_ipv6_mapped(),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            ] {
                assert!(is_private_v6(v6), "{v6}");
            }
        }
        for text in ["::", "::1", "fc00::1", "fdff::1", "fe80::1", "febf::1", "fec0::1", "64:ff9b:1::1"] {
            assert!(is_private_v6(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.0.0.1",
            "11.0.0.1",
            "126.0.0.1",
            "128.0.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.169.0.1",
            "169.253.0.1",
            "100.64.0.1",
            "192.0.2.1",
        ] {
            let v4: Ipv4Addr = text.parse().unwrap();
            assert!(!is_private_v4(v4) && !is_private_v6(v4.to_ipv6_mapped()), "{v4}");
        }
        for text in ["2001:db8::1", "fb00::1", "fe00::1", "ff02::1", "64:ff9b::c000:201", "2002:c000:201::1"]
        {
            assert!(!is_private_v6(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn hints_of_services_are_addresses_too() {
        let service = |parameters: &[u8]| [&[0, 1, 0][..], parameters].concat();
        for (parameters, expected) in [
            (&[][..], false),
            (&[0, 3, 0, 2, 0, 53], false),
            (&[0, 4, 0, 4, 192, 0, 2, 1], false),
            (&[0, 4, 0, 8, 192, 0, 2, 1, 10, 0, 0, 1], true),
            (&[&[0, 6, 0, 16, 0xfd][..], &[0; 15]].concat(), true),
            // What cannot be read may be anything.
            (&[0, 4, 0, 9, 1], true),
            (&[0], true),
        ] {
            assert_eq!(is_private_data(rtype::HTTPS, &service(parameters)), expected, "{parameters:?}");
        }
        assert!(is_private_data(rtype::SVCB, &[0, 1, 0xc0, 12]), "a compressed name");
    }
}
