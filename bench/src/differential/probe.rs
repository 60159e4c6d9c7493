//! Queries to ask: of every kind that clients send, and of kinds that they should not send.

use super::twist::{self, Twist};
use crate::{
    question::{CLASS_IN, record_type, wire_name},
    upstream::{Answering, world::World},
};
use anyhow::{Context, Result};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use ringdns_testkit::{
    Over,
    scenario::{AD, CD, Draft, Edns, RD},
};
use std::collections::BTreeSet;

/// Query to send.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Bytes of the message. Its ID, if it has one, is replaced when it is sent.
    pub message: Vec<u8>,
    /// Transport.
    pub over: Over,
    /// Tags for rules: type, first label of the name, flags and the like, and the contents of the
    /// right answer.
    pub tags: BTreeSet<String>,
    /// Readable form of the query.
    pub text: String,
}

/// First labels, the weight of each, and the types that it is mostly asked for.
const LABELS: [(&str, u32, &str); 31] = [
    ("", 30, "A AAAA MX NS TXT SOA CAA HTTPS DS DNSKEY ANY"),
    ("www", 30, "A AAAA HTTPS CNAME"),
    ("mail", 6, "A AAAA MX"),
    ("ns1", 3, "A AAAA"),
    ("alias", 6, "A AAAA CNAME MX TXT"),
    ("chain", 5, "A AAAA CNAME"),
    ("dangling", 4, "A AAAA CNAME"),
    ("hollow", 4, "A TXT CNAME"),
    ("www.dname", 3, "A AAAA MX"),
    ("dname", 2, "DNAME A"),
    ("text", 5, "TXT"),
    ("big", 5, "TXT"),
    ("huge", 1, "TXT"),
    ("many", 5, "A"),
    ("sip", 3, "SRV"),
    ("tlsa", 2, "TLSA"),
    ("key", 3, "TXT"),
    ("svc", 3, "SVCB HTTPS"),
    ("naptr", 2, "NAPTR"),
    ("sshfp", 2, "SSHFP"),
    ("loc", 1, "TYPE29"),
    ("opaque", 3, "TYPE65534"),
    ("zero", 2, "A"),
    ("brief", 1, "A"),
    ("week", 2, "A"),
    ("eternal", 2, "A"),
    ("a.b.wild", 3, "A AAAA"),
    ("nodata", 5, "A AAAA TXT"),
    ("missing", 14, "A AAAA TXT MX DS"),
    ("servfail", 3, "A AAAA"),
    ("refused", 3, "A AAAA"),
];

/// Types that any name is asked for now and then.
const TYPES: &str = "A AAAA CNAME MX NS TXT SOA SRV CAA HTTPS SVCB PTR DS DNSKEY RRSIG NSEC NAPTR TLSA SSHFP ANY \
    TYPE65534 TYPE1234 HINFO DNAME";

/// Names outside of all zones.
const OTHERS: [(&str, &str); 8] = [
    (".", "NS"),
    (".", "SOA"),
    (".", "DNSKEY"),
    ("com", "NS"),
    ("com", "DS"),
    ("nothing-of-this-kind", "A"),
    ("4.3.2.198.in-addr.arpa", "PTR"),
    ("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", "PTR"),
];

/// Number of consecutive names of the same zone.
pub const GROUP: usize = 4;

/// Draws `count` queries about the zones of a world. Equal seeds draw equal queries.
pub fn draw(world: &World, apexes: &[String], count: usize, seed: u64) -> Result<Vec<Probe>> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut probes = Vec::with_capacity(count);
    for nth in 0..count {
        let apex = &apexes[nth / GROUP % apexes.len()];
        let (draft, mut tags) = question(&mut rng, apex)?;
        let probe = if rng.random_ratio(1, 12) {
            let twist = Twist::draw(&mut rng);
            let (draft, tag) = twist.question(draft);
            tags.insert(tag);
            twist.finish(&draft, tags)
        } else {
            finish(&mut rng, &draft, tags)
        }?;
        probes.push(described(probe, world));
    }
    Ok(probes)
}

fn question(rng: &mut SmallRng, apex: &str) -> Result<(Draft, BTreeSet<String>)> {
    let (text, qtype, label) = if rng.random_ratio(1, 40) {
        let (name, qtype) = *OTHERS.choose(rng).context("a list is empty")?;
        (name.to_owned(), qtype, "other")
    } else {
        let (label, _, types) = LABELS.choose_weighted(rng, |(_, weight, _)| *weight)?;
        let name = if label.is_empty() { apex.to_owned() } else { format!("{label}.{apex}") };
        let types = if rng.random_ratio(1, 4) { TYPES } else { types };
        let types: Vec<&str> = types.split(' ').collect();
        (name, *types.choose(rng).context("a list is empty")?, if label.is_empty() { "apex" } else { *label })
    };
    let mut name = wire_name(&text)?;
    let mut tags = BTreeSet::from([qtype.to_owned(), format!("label:{label}")]);
    if rng.random_ratio(1, 4) {
        tags.insert("mixed-case".into());
        let length = name.len();
        for byte in name[..length].iter_mut().filter(|byte| byte.is_ascii_alphabetic()) {
            *byte ^= if rng.random_ratio(1, 2) { 0x20 } else { 0 };
        }
    }
    let mut flags = 0;
    for (bit, often, tag, is_default) in [(RD, 40, "rd0", true), (AD, 4, "ad", false), (CD, 10, "cd", false)]
    {
        let odd = rng.random_ratio(1, often);
        if odd {
            tags.insert(tag.into());
        }
        if odd != is_default {
            flags |= bit;
        }
    }
    let edns = rng.random_ratio(2, 3).then(|| {
        let size = *[1232, 1232, 1232, 4096, 512, 1400, 0, 65_535].choose(rng).unwrap_or(&1232);
        tags.insert("edns".into());
        tags.insert(format!("edns-size:{size}"));
        let dnssec_ok = rng.random_ratio(2, 5);
        if dnssec_ok {
            tags.insert("do".into());
        }
        Edns { size, flags: if dnssec_ok { Edns::DO } else { 0 }, ..Edns::default() }
    });
    let question = [&name[..], &record_type(qtype)?.to_be_bytes(), &CLASS_IN.to_be_bytes()].concat();
    Ok((Draft { question, flags, edns, ..Draft::default() }, tags))
}

fn finish(rng: &mut SmallRng, draft: &Draft, mut tags: BTreeSet<String>) -> Result<Probe> {
    let over = if rng.random_ratio(1, 8) { Over::Tcp } else { Over::Udp };
    if over == Over::Tcp {
        tags.insert("tcp".into());
    }
    let message = draft.wire().map_err(anyhow::Error::msg)?;
    Ok(Probe { message, over, tags, text: String::new() })
}

/// Adds the tags of the right answer.
fn described(mut probe: Probe, world: &World) -> Probe {
    let mut reply = Vec::new();
    if world.answer(&probe.message, Over::Tcp, &mut reply)
        && let Ok(answer) = Message::from_vec(&reply)
    {
        let mut tag = |tag: &str| probe.tags.insert(tag.into());
        let status = answer.metadata.response_code;
        let has = |rtype: RecordType| answer.authorities.iter().any(|record| record.record_type() == rtype);
        tag(match status {
            // An alias of a name without data has no data either (RFC 2308 section 2.2).
            ResponseCode::NoError if has(RecordType::SOA) => "nodata",
            ResponseCode::NoError => "positive",
            ResponseCode::NXDomain => "nxdomain",
            _ => "failure",
        });
        if has(RecordType::NS) {
            tag("talkative");
        }
        if answer.answers.iter().any(|record| record.record_type() == RecordType::CNAME) {
            tag("alias");
        }
        if answer.metadata.authentic_data {
            tag("authentic");
        }
        if reply.len() > 512 {
            tag("over-512");
        }
        if reply.len() > 1232 {
            tag("over-1232");
        }
    }
    probe.text = twist::describe(&probe);
    probe
}

impl Probe {
    /// Whether clients should not send this query, or rarely do.
    pub fn is_odd(&self) -> bool {
        self.tags.iter().any(|tag| tag.starts_with("twist:"))
    }

    /// Returns the size of the longest reply that the client takes, in bytes (RFC 6891 section
    /// 6.2.5).
    pub fn limit(&self) -> usize {
        let size = self.tags.iter().find_map(|tag| tag.strip_prefix("edns-size:")?.parse().ok());
        match self.over {
            Over::Tcp => usize::from(u16::MAX),
            Over::Udp => size.unwrap_or(512).max(512),
        }
    }
}
