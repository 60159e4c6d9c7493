//! Records of a zone's names, by their first label:
//!
//! | label | what it has |
//! |---|---|
//! | none (the apex) | SOA, NS, A, MX, TXT; some AAAA, CAA, HTTPS; a third of the zones is signed: DS, DNSKEY |
//! | `www` | A and AAAA, an alias of the apex, or one of `edge`, which is an alias of `host` |
//! | `mail`, `ns1`, `ns2`, `host` | A, most AAAA |
//! | `alias`, `chain`, `dangling`, `hollow` | CNAME: of the apex; seven one after the other; of what is not there; of what has no data |
//! | `dname` | DNAME of the apex |
//! | `text`, `big`, `huge` | TXT: 900 bytes, 1,300 to 4,000, some 20,000 |
//! | `many` | 40 addresses |
//! | `sip`, `tlsa`, `key`, `svc`, `naptr`, `sshfp`, `loc`, `opaque` | SRV, TLSA, TXT of a DKIM key, SVCB and HTTPS, NAPTR, SSHFP, LOC, TYPE65534 |
//! | `zero`, `brief`, `week`, `eternal` | A with a TTL of 0, 2, 604,800, and 2^31 + 5 seconds |
//! | `wild`, and all below | A, as from a wildcard |
//! | `nodata` | nothing |
//! | `servfail`, `refused` | the upstream's RCODE |
//!
//! Any other name does not exist. Names above zones have SOA and NS; those below `arpa` have PTR.

use super::{hash, wire};
use hickory_proto::{
    op::ResponseCode,
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, HINFO, MX, NS, NULL, PTR, SOA, TXT},
    },
};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Kind of a name in its zone.
pub enum Node {
    /// The name owns data, or could.
    Owner(Kind),
    /// The name is an alias of another.
    Alias(Name),
    /// The name is below a DNAME.
    Below(Substitution),
    /// The name does not exist.
    Missing,
    /// The upstream answers with this RCODE.
    Status(ResponseCode),
}

/// DNAME record.
pub struct Substitution {
    /// Owner of the record.
    pub owner: Name,
    /// Name that replaces the owner in names below it.
    pub target: Name,
}

/// Records of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Apex,
    /// Records of a name above zones.
    Above,
    Host,
    Text(usize),
    Many,
    /// One type that the table of the module's documentation names.
    Only(RecordType),
    Dname,
    Reverse,
    Empty,
}

const LOC: RecordType = RecordType::Unknown(29);
const OPAQUE: RecordType = RecordType::Unknown(65_534);

const TTLS: [u32; 8] = [60, 120, 300, 600, 1800, 3600, 14_400, 86_400];

/// Zone, or a name above zones, which is a zone of its own.
pub struct Zone {
    apex: Name,
    is_leaf: bool,
    hash: u64,
}

impl Zone {
    pub fn new(apex: Name, is_leaf: bool) -> Self {
        let hash = hash(&apex);
        Zone { apex, is_leaf, hash }
    }

    pub fn apex(&self) -> &Name {
        &self.apex
    }

    pub fn is_signed(&self) -> bool {
        !self.is_leaf || self.hash.is_multiple_of(3)
    }

    /// Whether answers include the zone's name servers.
    pub fn is_talkative(&self) -> bool {
        self.is_leaf && (self.hash >> 8).is_multiple_of(8)
    }

    /// Returns a name in this zone.
    fn at(&self, label: &str) -> Name {
        // Labels are short; an apex that leaves no room for one replaces the name.
        self.apex.prepend_label(label).unwrap_or_else(|_| self.apex.clone())
    }

    /// Returns the kind of a name of this zone.
    pub fn node(&self, name: &Name) -> Node {
        let depth = usize::from(name.num_labels() - self.apex.num_labels());
        let lower = name.to_lowercase();
        let labels: Vec<&[u8]> = lower.iter().take(depth).collect();
        if !self.is_leaf {
            return self.node_above(name, labels.is_empty());
        }
        let Some((last, below)) = labels.split_last() else { return Node::Owner(Kind::Apex) };
        let last = std::str::from_utf8(last).unwrap_or_default();
        match (last, below.len()) {
            ("dname", 1..) => {
                return Node::Below(Substitution { owner: self.at("dname"), target: self.apex.clone() });
            }
            ("wild", _) => return Node::Owner(Kind::Only(RecordType::A)),
            (_, 1..) => return Node::Missing,
            _ => {}
        }
        let only = |rtype| Node::Owner(Kind::Only(rtype));
        match last {
            "www" => match self.hash >> 16 & 3 {
                0 => Node::Alias(self.apex.clone()),
                1 => Node::Alias(self.at("edge")),
                _ => Node::Owner(Kind::Host),
            },
            "edge" => Node::Alias(self.at("host")),
            "mail" | "ns1" | "ns2" | "host" => Node::Owner(Kind::Host),
            "alias" | "chain6" => Node::Alias(self.apex.clone()),
            "chain" => Node::Alias(self.at("chain1")),
            "chain1" | "chain2" | "chain3" | "chain4" | "chain5" => {
                let nth = last.as_bytes()[5] - b'0' + 1;
                Node::Alias(self.at(&format!("chain{nth}")))
            }
            "dangling" => Node::Alias(self.at("missing")),
            "hollow" => Node::Alias(self.at("nodata")),
            "dname" => Node::Owner(Kind::Dname),
            "text" => Node::Owner(Kind::Text(900)),
            "big" => Node::Owner(Kind::Text(1300 + (self.hash >> 20) as usize % 2700)),
            "huge" => Node::Owner(Kind::Text(20_000)),
            "many" => Node::Owner(Kind::Many),
            "sip" => only(RecordType::SRV),
            "tlsa" => only(RecordType::TLSA),
            "key" => Node::Owner(Kind::Text(400)),
            "svc" => only(RecordType::SVCB),
            "naptr" => only(RecordType::NAPTR),
            "sshfp" => only(RecordType::SSHFP),
            "loc" => only(LOC),
            "opaque" => only(OPAQUE),
            "zero" | "brief" | "week" | "eternal" => only(RecordType::A),
            "nodata" => Node::Owner(Kind::Empty),
            "servfail" => Node::Status(ResponseCode::ServFail),
            "refused" => Node::Status(ResponseCode::Refused),
            _ => Node::Missing,
        }
    }

    fn node_above(&self, name: &Name, is_apex: bool) -> Node {
        let is_reverse = name.iter().next_back().is_some_and(|label| label.eq_ignore_ascii_case(b"arpa"));
        match (is_apex, is_reverse) {
            (true, _) => Node::Owner(Kind::Above),
            (false, true) => Node::Owner(Kind::Reverse),
            (false, false) => Node::Missing,
        }
    }

    /// Returns a name's records of one type.
    pub fn data(&self, name: &Name, kind: &Kind, qtype: RecordType) -> Vec<RData> {
        let hash = hash(name);
        let raw = |bytes: Vec<u8>| vec![RData::Unknown { code: qtype, rdata: NULL::with(bytes) }];
        match (kind, qtype) {
            // RFC 8482 section 4.2.
            (_, RecordType::ANY) => vec![RData::HINFO(HINFO::new("RFC8482".into(), String::new()))],
            (Kind::Apex | Kind::Above, RecordType::SOA) => vec![self.soa()],
            (Kind::Apex | Kind::Above, RecordType::NS) => {
                self.name_servers().map(|n| RData::NS(NS(n))).into()
            }
            (Kind::Apex | Kind::Above, RecordType::DNSKEY) if self.is_signed() => {
                raw([&[1, 1, 3, 13][..], &noise(hash, 64)].concat())
            }
            // The parent zone answers this: the name is the child's.
            (_, RecordType::DS) if Zone::new(name.to_lowercase(), true).is_signed() => {
                raw([&[0x30, 0x39, 13, 2][..], &noise(hash, 32)].concat())
            }
            (Kind::Apex | Kind::Host, RecordType::A) => addresses(hash, 1 + hash % 3),
            (Kind::Only(RecordType::A), RecordType::A) => addresses(hash, 1),
            (Kind::Many, RecordType::A) => addresses(hash, 40),
            (Kind::Apex | Kind::Host, RecordType::AAAA) if !hash.is_multiple_of(3) => {
                vec![RData::AAAA(AAAA(Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(hash))))]
            }
            (Kind::Apex, RecordType::MX) => {
                let mx = |nth: u16| RData::MX(MX::new(10 * nth, self.at("mail")));
                (1..=1 + self.hash as u16 % 3).map(mx).collect()
            }
            (Kind::Apex, RecordType::TXT) => {
                let texts = [
                    "v=spf1 include:_spf.example ~all".into(),
                    format!("site-verification={hash:016x}"),
                    String::new(),
                ];
                texts.into_iter().map(|text| RData::TXT(TXT::new(vec![text]))).collect()
            }
            (Kind::Apex, RecordType::CAA) if self.hash >> 4 & 1 == 0 => raw(b"\0\x05issueca.example".into()),
            (Kind::Apex, RecordType::HTTPS) if self.hash >> 5 & 1 == 0 => {
                raw(b"\0\x01\0\0\x01\0\x06\x02h2\x02h3\0\x04\0\x04\xc0\0\x02\x01".into())
            }
            (Kind::Text(length), RecordType::TXT) => text(hash, *length),
            (Kind::Only(RecordType::SRV), RecordType::SRV) => {
                raw([&[0, 1, 0, 5, 0x13, 0xc4][..], &wire(&self.at("host"))].concat())
            }
            (Kind::Only(RecordType::TLSA), RecordType::TLSA) => {
                raw([&[3, 1, 1][..], &noise(hash, 32)].concat())
            }
            (Kind::Only(RecordType::SVCB), RecordType::SVCB | RecordType::HTTPS) => {
                raw([&[0, 0][..], &wire(&self.apex)].concat())
            }
            (Kind::Only(RecordType::NAPTR), RecordType::NAPTR) => {
                raw([b"\0\x64\0\x0a\x01u\x07E2U+sip\x16!^.*$!sip:a@b.example!".as_slice(), &[0]].concat())
            }
            (Kind::Only(RecordType::SSHFP), RecordType::SSHFP) => {
                raw([&[4, 2][..], &noise(hash, 32)].concat())
            }
            (Kind::Only(LOC), LOC) => {
                raw(vec![0, 0x12, 0x16, 0x13, 0x8b, 0x45, 0x6c, 0x10, 0x80, 0, 0, 0, 0, 0x98, 0x96, 0x80])
            }
            (Kind::Only(OPAQUE), OPAQUE) => raw(noise(hash, 33)),
            (Kind::Dname, RecordType::DNAME) => raw(wire(&self.apex)),
            (Kind::Reverse, RecordType::PTR) => {
                let host = Name::from_ascii(format!("host-{:08x}.example.", hash as u32));
                host.map(|host| vec![RData::PTR(PTR(host))]).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    fn name_servers(&self) -> [Name; 2] {
        [self.at("ns1"), self.at("ns2")]
    }

    fn soa(&self) -> RData {
        let serial = self.hash as u32;
        RData::SOA(SOA::new(
            self.at("ns1"),
            self.at("hostmaster"),
            serial,
            7200,
            900,
            1_209_600,
            self.minimum(),
        ))
    }

    /// Returns the time for which a negative answer may be cached (RFC 2308 section 4), in seconds.
    fn minimum(&self) -> u32 {
        [60, 300, 900, 3600, 10_800][(self.hash >> 24) as usize % 5]
    }

    /// Returns the TTL of a name's records, in seconds.
    pub fn ttl(&self, name: &Name) -> u32 {
        match name.iter().next().map(<[u8]>::to_ascii_lowercase).as_deref() {
            Some(b"zero") => 0,
            Some(b"brief") => 2,
            Some(b"week") => 604_800,
            // RFC 2181 section 8: clients must treat it as zero.
            Some(b"eternal") => (1 << 31) + 5,
            _ => TTLS[(hash(name) >> 12) as usize % TTLS.len()],
        }
    }

    /// Appends a set of records, and its signature if the query asks for it.
    pub fn append(&self, name: &Name, data: Vec<RData>, dnssec_ok: bool, section: &mut Vec<Record>) {
        self.append_for(name, self.ttl(name), data, dnssec_ok, section);
    }

    fn append_for(
        &self,
        name: &Name,
        ttl: u32,
        data: Vec<RData>,
        dnssec_ok: bool,
        section: &mut Vec<Record>,
    ) {
        let Some(rtype) = data.first().map(RData::record_type) else { return };
        section.extend(data.into_iter().map(|data| Record::from_rdata(name.clone(), ttl, data)));
        if dnssec_ok && self.is_signed() {
            section.push(Record::from_rdata(name.clone(), ttl, self.signature(name, rtype)));
        }
    }

    /// Returns a record of the form of RFC 4034 section 3.1. Nobody validates it.
    fn signature(&self, name: &Name, covered: RecordType) -> RData {
        let original = self.ttl(name);
        let mut bytes = u16::from(covered).to_be_bytes().to_vec();
        bytes.extend([13, name.num_labels()]);
        // Expires in 2033, signed in 2020.
        for word in [original, 2_000_000_000, 1_600_000_000] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend([0x30, 0x39]);
        bytes.extend(wire(&self.apex));
        bytes.extend(noise(hash(name) ^ u64::from(u16::from(covered)), 64));
        RData::Unknown { code: RecordType::RRSIG, rdata: NULL::with(bytes) }
    }

    /// Appends the records of a negative answer, for a name or for a type.
    pub fn deny(&self, name: &Name, exists: bool, dnssec_ok: bool, section: &mut Vec<Record>) {
        let ttl = self.ttl(&self.apex).min(self.minimum());
        self.append_for(&self.apex, ttl, vec![self.soa()], dnssec_ok, section);
        if dnssec_ok && self.is_signed() {
            let owner = if exists { name.to_lowercase() } else { self.apex.clone() };
            // A, RRSIG and NSEC (RFC 4034 section 4.1.2).
            let bytes = [&wire(&self.at("zz"))[..], &[0, 6, 0x40, 0, 0, 0, 0, 3]].concat();
            let data = RData::Unknown { code: RecordType::NSEC, rdata: NULL::with(bytes) };
            // RFC 9077 section 3: a TTL no longer than the SOA's.
            self.append_for(&owner, ttl, vec![data], dnssec_ok, section);
        }
    }

    /// Appends name servers and their addresses, if the zone includes them.
    pub fn talk(&self, dnssec_ok: bool, authorities: &mut Vec<Record>, additionals: &mut Vec<Record>) {
        if !self.is_talkative() {
            return;
        }
        let servers = self.name_servers();
        self.append(&self.apex, servers.clone().map(|n| RData::NS(NS(n))).into(), dnssec_ok, authorities);
        for server in servers {
            self.append(&server, self.data(&server, &Kind::Host, RecordType::A), dnssec_ok, additionals);
        }
    }
}

/// Returns an alias as data.
pub fn alias(target: &Name) -> Vec<RData> {
    vec![RData::CNAME(CNAME(target.clone()))]
}

fn addresses(hash: u64, count: u64) -> Vec<RData> {
    // In the range for benchmarks (RFC 2544), so that no resolver takes them for private ones.
    let address = |nth| Ipv4Addr::from(0xc612_0000 | (hash.wrapping_add(nth) as u32 & 0x1_ffff));
    (0..count).map(|nth| RData::A(A(address(nth)))).collect()
}

/// Returns TXT records of about so many bytes, in strings of 200.
fn text(hash: u64, length: usize) -> Vec<RData> {
    let string = |nth: usize| format!("{nth:04}-{hash:016x}-").repeat(9).into_bytes();
    (0..length.div_ceil(200)).map(|nth| RData::TXT(TXT::from_bytes(vec![&string(nth)]))).collect()
}

/// Returns pseudo-random bytes.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let words = (0..).map(|nth: u64| (seed ^ nth).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23));
    words.flat_map(u64::to_be_bytes).take(length).collect()
}
