//! Special-use names: they mean nothing in the public DNS, or something else on each host. They are
//! answered here, so that they neither leak to upstreams nor burden the root.

use hickory_proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, NS, PTR, SOA},
    },
};
use quick_cache::DefaultHashBuilder;
use ringdns_common::names;
use ringdns_dataplane::{
    clock::Secs,
    dns::{
        answer::{Answer, Status, TtlRules},
        key::Key,
        rtype,
    },
};
use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr},
};

/// TTL of answers for special-use names, in seconds (RFC 6303 section 3).
const TTL: u32 = 10_800;

/// Empty zones: RFC 6761 (`invalid`, `test`), 7686, 9476, 6762, 8375, 9462 and 6303 section 4.
const EMPTY: [&str; 26] = [
    "invalid",
    "test",
    "onion",
    "alt",
    "local",
    "home.arpa",
    "resolver.arpa",
    "0.in-addr.arpa",
    "10.in-addr.arpa",
    "127.in-addr.arpa",
    "254.169.in-addr.arpa",
    "168.192.in-addr.arpa",
    "2.0.192.in-addr.arpa",
    "100.51.198.in-addr.arpa",
    "113.0.203.in-addr.arpa",
    "255.255.255.255.in-addr.arpa",
    "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
    "c.f.ip6.arpa",
    "d.f.ip6.arpa",
    "8.e.f.ip6.arpa",
    "9.e.f.ip6.arpa",
    "a.e.f.ip6.arpa",
    "b.e.f.ip6.arpa",
    "8.b.d.0.1.0.0.2.ip6.arpa",
    "f.f.f.3.ip6.arpa",
];

/// Reverse names of the loopback addresses, which point to `localhost` (RFC 6761 section 6.3).
const LOOPBACK: [&str; 2] =
    ["1.0.0.127.in-addr.arpa", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa"];

/// Names by which clients ask whether they may bypass this server: Mozilla's canary domain, and those of
/// iCloud Private Relay. Clients keep to it if the names do not exist.
const CANARIES: [&str; 3] = ["use-application-dns.net", "mask.icloud.com", "mask-h2.icloud.com"];

/// Kind of a special-use zone or name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SpecialKind {
    /// The zone and all names in it are this host (RFC 6761 section 6.3).
    Localhost,
    /// Zone without names.
    Empty,
    /// Reverse name of a loopback address.
    Loopback,
    /// Name that does not exist, nor do names below it.
    Canary,
}

/// Special-use names that are answered here.
pub struct LocalNames {
    /// Kinds by zone or name. The hash key is drawn anew in each process, since clients choose
    /// names.
    kinds: HashMap<Vec<u8>, SpecialKind, DefaultHashBuilder>,
}

impl LocalNames {
    /// Returns all special-use names, or none if they are not `enabled`, and the canary names if they
    /// are not to exist.
    pub fn new(enabled: bool, canaries: bool) -> Self {
        let mut kinds = HashMap::default();
        if canaries {
            kinds.extend(CANARIES.map(|name| (wire(name), SpecialKind::Canary)));
        }
        if enabled {
            // RFC 6303 section 4.1 for 172.16/12, RFC 7793 for 100.64/10.
            let private = (16..32).map(|byte| format!("{byte}.172.in-addr.arpa"));
            let shared = (64..128).map(|byte| format!("{byte}.100.in-addr.arpa"));
            let empty = EMPTY.into_iter().map(str::to_owned).chain(private).chain(shared);
            kinds.extend(empty.map(|zone| (wire(&zone), SpecialKind::Empty)));
            kinds.extend(LOOPBACK.map(|name| (wire(name), SpecialKind::Loopback)));
            kinds.insert(wire("localhost"), SpecialKind::Localhost);
        }
        LocalNames { kinds }
    }

    /// Returns the answer to `key` if it is a special-use name, received at `now` and kept by
    /// `rules`.
    pub fn answer(&self, key: &Key, rules: &TtlRules, now: Secs) -> Option<Answer> {
        let asked = key.asked();
        let (zone, kind) = self.find(asked.name())?;
        let apex = zone.len() == asked.name().len();
        if apex && asked.qtype() == rtype::DS && kind != SpecialKind::Canary {
            // The parent zone has the DS record (RFC 8375 section 4).
            return None;
        }
        let mut message = Message::new(0, MessageType::Response, OpCode::Query);
        let qtype = RecordType::from(asked.qtype());
        let owner = Name::from_labels(labels(asked.name())).ok()?;
        message.add_query(hickory_proto::op::Query::query(owner.clone(), qtype));
        let data = match kind {
            SpecialKind::Localhost => localhost(qtype),
            SpecialKind::Loopback if qtype == RecordType::PTR => Some(RData::PTR(PTR(name("localhost.")))),
            SpecialKind::Loopback | SpecialKind::Empty | SpecialKind::Canary => None,
        };
        let zone = Name::from_labels(labels(zone)).ok()?;
        let (zone, is_missing) = match kind {
            SpecialKind::Canary => (zone.base_name(), true),
            SpecialKind::Empty => (zone, !apex),
            SpecialKind::Localhost | SpecialKind::Loopback => (zone, false),
        };
        let has_apex = apex && matches!(kind, SpecialKind::Localhost | SpecialKind::Empty);
        let data = data.or_else(|| has_apex.then(|| of_apex(qtype, &zone)).flatten());
        match data {
            Some(data) => drop(message.add_answer(Record::from_rdata(owner, TTL, data))),
            None => {
                message.add_authority(Record::from_rdata(zone.clone(), TTL, RData::SOA(soa(&zone))));
                if is_missing {
                    message.metadata.response_code = ResponseCode::NXDomain;
                }
            }
        }
        let answer = Answer::from_response(&message.to_vec().ok()?, key, rules, now, false).ok()?;
        Some(Answer { status: Status::authoritative(answer.status.rcode()), ..answer })
    }

    /// Returns the closest special-use zone or name at or above `name`.
    fn find<'a>(&self, name: &'a [u8]) -> Option<(&'a [u8], SpecialKind)> {
        let mut rest = name;
        loop {
            match self.kinds.get(rest) {
                // A reverse name is answered itself; names below it are not.
                Some(SpecialKind::Loopback) if rest.len() < name.len() => {}
                Some(kind) => return Some((rest, *kind)),
                None => {}
            }
            let (len, _) = rest.split_first().filter(|(len, _)| **len > 0)?;
            rest = rest.get(1 + usize::from(*len)..)?;
        }
    }
}

fn localhost(qtype: RecordType) -> Option<RData> {
    match qtype {
        RecordType::A => Some(RData::A(A(Ipv4Addr::LOCALHOST))),
        RecordType::AAAA => Some(RData::AAAA(AAAA(Ipv6Addr::LOCALHOST))),
        _ => None,
    }
}

fn of_apex(qtype: RecordType, zone: &Name) -> Option<RData> {
    match qtype {
        RecordType::SOA => Some(RData::SOA(soa(zone))),
        RecordType::NS => Some(RData::NS(NS(zone.clone()))),
        _ => None,
    }
}

/// Returns the SOA record of an empty zone (RFC 6303 section 3).
fn soa(zone: &Name) -> SOA {
    SOA::new(zone.clone(), name("nobody.invalid."), 1, 3_600, 1_200, 604_800, TTL)
}

/// Returns the labels of a name in wire format.
pub(crate) fn labels(name: &[u8]) -> Vec<&[u8]> {
    let mut labels = Vec::new();
    let mut rest = name;
    while let Some((len, tail)) = rest.split_first().filter(|(len, _)| **len > 0) {
        let (label, tail) = tail.split_at(usize::from(*len).min(tail.len()));
        labels.push(label);
        rest = tail;
    }
    labels
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap_or_else(|_| unreachable!("{text} is a name"))
}

fn wire(text: &str) -> Vec<u8> {
    names::name(text).unwrap_or_else(|_| unreachable!("{text} is a name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_dataplane::dns::rcode;

    const RULES: TtlRules = TtlRules { min: 0, max: 86_400, negative_max: 3_600, stale: 0, ahead: 0 };

    fn answer(name: &str, qtype: u16) -> Option<Answer> {
        let key = names::key(&wire(name), qtype, false, false).unwrap();
        LocalNames::new(true, false).answer(&key, &RULES, 0)
    }

    /// Returns RCODE, numbers of records in answer and authority, and the last bytes of the
    /// records.
    fn seen(name: &str, qtype: u16) -> Option<(u8, [u16; 2], Vec<u8>)> {
        let answer = answer(name, qtype)?;
        let end = answer.wire[answer.wire.len() - 4..].to_vec();
        Some((answer.status.rcode(), [answer.counts[0], answer.counts[1]], end))
    }

    #[test]
    fn localhost_is_this_host_and_all_below_it() {
        for name in ["localhost", "LOCALHOST", "a.b.localhost"] {
            assert_eq!(seen(name, 1), Some((rcode::NOERROR, [1, 0], vec![127, 0, 0, 1])), "{name}");
            assert_eq!(seen(name, 28), Some((rcode::NOERROR, [1, 0], vec![0, 0, 0, 1])), "{name}");
            assert_eq!(seen(name, 15).map(|(rcode, counts, _)| (rcode, counts)), Some((0, [0, 1])), "{name}");
        }
        for name in LOOPBACK {
            let (rcode, counts, end) = seen(name, 12).unwrap();
            assert_eq!((rcode, counts, &end[..]), (rcode::NOERROR, [1, 0], &b"ost\0"[..]), "{name}");
        }
    }

    #[test]
    fn empty_zones_have_an_apex_and_nothing_else() {
        let minimum = TTL.to_be_bytes().to_vec();
        for zone in
            ["invalid", "test", "onion", "alt", "local", "home.arpa", "10.in-addr.arpa", "d.f.ip6.arpa"]
        {
            let below = format!("some.name.{zone}");
            assert_eq!(seen(&below, 1), Some((rcode::NXDOMAIN, [0, 1], minimum.clone())), "{below}");
            assert_eq!(seen(zone, 1), Some((rcode::NOERROR, [0, 1], minimum.clone())), "{zone}");
            assert_eq!(seen(zone, 6), Some((rcode::NOERROR, [1, 0], minimum.clone())), "{zone}");
            assert_eq!(seen(zone, 43), None, "{zone}: its DS is the parent's");
        }
        for (name, local) in [
            ("4.3.16.172.in-addr.arpa", true),
            ("4.3.15.172.in-addr.arpa", false),
            ("4.3.32.172.in-addr.arpa", false),
            ("4.3.127.100.in-addr.arpa", true),
            ("4.3.128.100.in-addr.arpa", false),
            ("4.3.11.in-addr.arpa", false),
            ("notlocal", false),
            ("example.com", false),
            (".", false),
        ] {
            assert_eq!(answer(name, 12).is_some(), local, "{name}");
        }
        let answer = answer("printer.local", 1).unwrap();
        assert_eq!((answer.ttl, answer.status.is_negative()), (3_600, false), "capped as all negative ones");
        let key = names::key(&wire("localhost"), 1, false, false).unwrap();
        assert!(LocalNames::new(false, true).answer(&key, &RULES, 0).is_none());
    }

    #[test]
    fn canaries_do_not_exist_if_they_are_not_to() {
        for name in ["use-application-dns.net", "MASK.icloud.com", "mask-h2.icloud.com", "a.mask.icloud.com"]
        {
            for qtype in [rtype::A, rtype::AAAA, rtype::DS, 6, 65] {
                let key = names::key(&wire(name), qtype, false, false).unwrap();
                let answer = LocalNames::new(false, true).answer(&key, &RULES, 0).unwrap();
                let seen = (answer.status.rcode(), answer.counts);
                assert_eq!(seen, (rcode::NXDOMAIN, [0, 1, 0]), "{name} {qtype}");
                assert!(LocalNames::new(true, false).answer(&key, &RULES, 0).is_none());
            }
        }
        for name in ["icloud.com", "mask2.icloud.com", "net"] {
            let key = names::key(&wire(name), rtype::A, false, false).unwrap();
            assert!(LocalNames::new(true, true).answer(&key, &RULES, 0).is_none(), "{name}");
        }
    }
}
