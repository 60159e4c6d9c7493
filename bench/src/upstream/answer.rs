//! Turns a query into its answer, on the wire. Written by hand because the upstream shares a small
//! machine with the server under test; the tests parse every answer with hickory-proto.

use super::{AnswerArgs, Answering, Over, Served};
use crate::{
    question::{CLASS_CH, CLASS_IN, HEADER, name_end, wire_name},
    synthetic::{self, QNAME},
};
use anyhow::Result;
use hickory_proto::rr::RecordType;
use ringdns_testkit::scenario::{CD, OPCODE, QR, RA, RD, TC};
use std::{ops::Range, sync::Arc};

const FORMERR: u16 = 1;
const SERVFAIL: u16 = 2;
const NXDOMAIN: u16 = 3;
const NOTIMP: u16 = 4;
const REFUSED: u16 = 5;

/// Size that is advertised and kept over UDP, in bytes (RFC 9715).
const UDP_SIZE: u16 = 1232;
/// Length of an OPT record without options.
const OPT_LEN: usize = 11;

/// Answer to names under a suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// NXDOMAIN: the names do not exist.
    NxDomain,
    /// No data: the names exist, but have no records.
    NoData,
    /// SERVFAIL.
    ServFail,
    /// REFUSED.
    Refused,
    /// TC=1 over UDP.
    Truncate,
    /// A CNAME, and its target's records.
    Alias,
    /// No answer at all.
    Silent,
}

/// Source of the answers.
#[derive(Debug)]
pub struct Answerer {
    ttl: u32,
    negative_ttl: u32,
    records: u8,
    signed: bool,
    /// Suffixes in wire form, longest first.
    rules: Vec<(Vec<u8>, Behaviour)>,
    served: Arc<Served>,
}

impl Answerer {
    /// Returns an answerer as `args` say; it reports `served` when asked.
    pub fn new(args: &AnswerArgs, served: Arc<Served>) -> Result<Self> {
        let lists = [
            (&args.nxdomain_suffix, Behaviour::NxDomain),
            (&args.nodata_suffix, Behaviour::NoData),
            (&args.servfail_suffix, Behaviour::ServFail),
            (&args.refused_suffix, Behaviour::Refused),
            (&args.truncate_suffix, Behaviour::Truncate),
            (&args.alias_suffix, Behaviour::Alias),
            (&args.silent_suffix, Behaviour::Silent),
        ];
        let mut rules = Vec::new();
        for (suffixes, behaviour) in lists {
            for suffix in suffixes {
                rules.push((wire_name(suffix)?, behaviour));
            }
        }
        rules.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        let AnswerArgs { ttl, negative_ttl, records, signed, .. } = *args;
        Ok(Answerer { ttl, negative_ttl, records, signed, rules, served })
    }

    /// Appends the records; `None` if the query gets no answer.
    fn body(&self, asked: &Asked, name: &[u8], over: Over, reply: &mut Vec<u8>) -> Option<Body> {
        if asked.qclass == CLASS_CH {
            return Some(self.about_itself(asked, name, reply));
        }
        if asked.qclass != CLASS_IN {
            return Some(Body::status(REFUSED));
        }
        match self.behaviour(name) {
            Some((_, Behaviour::Silent)) => None,
            Some((_, Behaviour::ServFail)) => Some(Body::status(SERVFAIL)),
            Some((_, Behaviour::Refused)) => Some(Body::status(REFUSED)),
            Some((apex, Behaviour::NxDomain)) => Some(self.negative(NXDOMAIN, asked, name, apex, reply)),
            Some((apex, Behaviour::NoData)) => Some(self.negative(0, asked, name, apex, reply)),
            Some((_, Behaviour::Truncate)) if over == Over::Udp => Some(Body::status(TC)),
            Some((_, Behaviour::Alias)) => Some(self.alias(asked, name, reply)),
            Some((_, Behaviour::Truncate)) | None => Some(self.positive(asked, name, reply)),
        }
    }

    /// Returns the rule of the longest suffix that `name` is under, and the offset of the suffix in
    /// the name.
    fn behaviour(&self, name: &[u8]) -> Option<(usize, Behaviour)> {
        self.rules.iter().find_map(|(suffix, behaviour)| {
            let at = name.len().checked_sub(suffix.len())?;
            let under = name[at..].eq_ignore_ascii_case(suffix) && labels(name).any(|start| start == at);
            under.then_some((at, *behaviour))
        })
    }

    fn positive(&self, asked: &Asked, name: &[u8], reply: &mut Vec<u8>) -> Body {
        match self.records(QNAME, name, asked, asked.qtype, self.ttl(name), reply) {
            // The zone of a name without this type is the one above it.
            0 => self.negative(0, asked, name, labels(name).nth(1).unwrap_or(0), reply),
            count => Body { status: 0, counts: [count, 0] },
        }
    }

    /// Appends all records of a type, including signatures, and returns their number.
    fn records(
        &self,
        owner: [u8; 2],
        name: &[u8],
        asked: &Asked,
        qtype: u16,
        ttl: u32,
        reply: &mut Vec<u8>,
    ) -> u16 {
        let single = matches!(RecordType::from(qtype), RecordType::CNAME | RecordType::SOA | RecordType::ANY);
        let wanted = if single { 1 } else { self.records };
        let mut count = 0;
        for nth in 0..wanted {
            let mut has_data = true;
            let before = reply.len();
            let rtype = synthetic::answered_with(qtype);
            Record { owner, rtype, class: CLASS_IN, ttl }.append(reply, |data| {
                has_data = synthetic::rdata(name, qtype, nth, data);
            });
            if !has_data {
                reply.truncate(before);
                break;
            }
            count += 1;
        }
        if count > 0 {
            count += self.sign(owner, name, asked, synthetic::answered_with(qtype), ttl, reply);
        }
        count
    }

    /// Appends the signature of a set, if the query asks for it and there is one; returns the
    /// number of records.
    fn sign(
        &self,
        owner: [u8; 2],
        name: &[u8],
        asked: &Asked,
        rtype: u16,
        ttl: u32,
        reply: &mut Vec<u8>,
    ) -> u16 {
        if !self.signed || !asked.dnssec_ok {
            return 0;
        }
        let rrsig = Record { owner, rtype: RecordType::RRSIG.into(), class: CLASS_IN, ttl };
        rrsig.append(reply, |data| synthetic::rrsig(name, rtype, ttl, data));
        1
    }

    fn alias(&self, asked: &Asked, name: &[u8], reply: &mut Vec<u8>) -> Body {
        let cname = RecordType::CNAME.into();
        let ttl = self.ttl(name);
        // Past the owner's pointer and the ten fixed bytes of the record.
        let target_at = reply.len() + 12;
        let aliases = self.records(QNAME, name, asked, cname, ttl, reply);
        // RFC 1034 section 4.3.2: a question for all types gets the alias itself.
        if asked.qtype == cname || RecordType::from(asked.qtype) == RecordType::ANY {
            return Body { status: 0, counts: [aliases, 0] };
        }
        let target = [b"\x06target", name].concat();
        let count = self.records(pointer(target_at), &target, asked, asked.qtype, ttl, reply);
        Body { status: 0, counts: [aliases + count, 0] }
    }

    /// Answers no data or NXDOMAIN, with the SOA of the zone whose name begins at `apex` of the
    /// question's (RFC 2308).
    fn negative(&self, status: u16, asked: &Asked, name: &[u8], apex: usize, reply: &mut Vec<u8>) -> Body {
        let zone = &name[apex..];
        let apex = pointer(HEADER + apex);
        let (rtype, ttl) = (RecordType::SOA.into(), self.negative_ttl);
        Record { owner: apex, rtype, class: CLASS_IN, ttl }.append(reply, |data| {
            synthetic::soa(apex, self.negative_ttl, data);
        });
        Body { status, counts: [0, 1 + self.sign(apex, zone, asked, rtype, ttl, reply)] }
    }

    /// Answers `served.ringbench. CH TXT`.
    fn about_itself(&self, asked: &Asked, name: &[u8], reply: &mut Vec<u8>) -> Body {
        let txt = RecordType::TXT.into();
        if asked.qtype != txt || !name.eq_ignore_ascii_case(b"\x06served\x09ringbench\0") {
            return Body::status(REFUSED);
        }
        let text = self.served.to_string();
        Record { owner: QNAME, rtype: txt, class: CLASS_CH, ttl: 0 }.append(reply, |data| {
            data.push(text.len() as u8);
            data.extend_from_slice(text.as_bytes());
        });
        Body { status: 0, counts: [1, 0] }
    }

    /// Returns the TTL of a name's records: N if its first label is `ttl-N`.
    fn ttl(&self, name: &[u8]) -> u32 {
        let label = name.split_first().and_then(|(len, rest)| rest.get(..usize::from(*len)));
        let digits = label.and_then(|label| label.strip_prefix(b"ttl-"));
        let ttl = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        ttl.unwrap_or(self.ttl)
    }
}

impl Answering for Answerer {
    fn answer(&self, query: &[u8], over: Over, reply: &mut Vec<u8>) -> bool {
        reply.clear();
        let Some((header, _)) = query.split_first_chunk::<HEADER>() else { return false };
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let flags = word(2);
        if flags & QR != 0 {
            return false;
        }
        reply.extend_from_slice(header);
        let echoed = QR | RA | flags & (RD | CD);
        if flags & OPCODE != 0 {
            set_header(reply, echoed | flags & OPCODE | NOTIMP, [0; 4]);
            return true;
        }
        let question = Asked::parse(query).filter(|_| word(4) == 1);
        let Some(asked) = question else {
            set_header(reply, echoed | FORMERR, [0; 4]);
            return true;
        };
        let edns = asked.edns(query);
        let (name, end) = (asked.name(query), asked.end());
        reply.extend_from_slice(&query[HEADER..end]);
        let Some(Body { status, counts: [answers, authority] }) = self.body(&asked, name, over, reply) else {
            return false;
        };
        set_header(reply, echoed | status, [1, answers, authority, 0]);

        let limit = match over {
            Over::Udp => room(edns.as_ref()),
            Over::Tcp => usize::from(u16::MAX),
        };
        if reply.len() + OPT_LEN > limit {
            reply.truncate(end);
            set_header(reply, echoed | status | TC, [1, 0, 0, 0]);
        }
        if let Some(edns) = edns {
            edns.append_opt(reply);
        }
        true
    }
}

/// Flags and RCODE of an answer, and the number of records in its answer and authority sections.
struct Body {
    status: u16,
    counts: [u16; 2],
}

impl Body {
    fn status(status: u16) -> Self {
        Body { status, counts: [0; 2] }
    }
}

/// Returns the size of the longest datagram that may answer a query.
pub fn datagram_limit(query: &[u8]) -> usize {
    room(Asked::parse(query).and_then(|asked| asked.edns(query)).as_ref())
}

fn room(edns: Option<&Edns>) -> usize {
    usize::from(edns.map_or(512, |edns| edns.udp_size.clamp(512, UDP_SIZE)))
}

/// Question of a query.
struct Asked {
    name: Range<usize>,
    qtype: u16,
    qclass: u16,
    dnssec_ok: bool,
}

impl Asked {
    fn parse(query: &[u8]) -> Option<Self> {
        let len = name_end(&query[HEADER..])?;
        let name = HEADER..HEADER + len;
        let [t1, t0, c1, c0] = *query.get(name.end..)?.first_chunk::<4>()?;
        let [qtype, qclass] = [[t1, t0], [c1, c0]].map(u16::from_be_bytes);
        let mut asked = Asked { name, qtype, qclass, dnssec_ok: false };
        asked.dnssec_ok = asked.edns(query).is_some_and(|edns| edns.dnssec_ok != 0);
        Some(asked)
    }

    fn edns(&self, query: &[u8]) -> Option<Edns> {
        // ARCOUNT
        if query[HEADER - 2..HEADER] == [0, 0] { None } else { Edns::parse(&query[self.end()..]) }
    }

    fn name<'q>(&self, query: &'q [u8]) -> &'q [u8] {
        &query[self.name.clone()]
    }

    fn end(&self) -> usize {
        self.name.end + 4
    }
}

/// Contents of a query's OPT record. Resolvers put no other record after the question, so it is
/// looked for only there.
struct Edns {
    udp_size: u16,
    dnssec_ok: u8,
}

impl Edns {
    fn parse(additional: &[u8]) -> Option<Self> {
        match *additional.first_chunk::<9>()? {
            [0, 0, 41, size1, size0, _, _, dnssec_ok, _] => {
                Some(Edns { udp_size: u16::from_be_bytes([size1, size0]), dnssec_ok: dnssec_ok & 0x80 })
            }
            _ => None,
        }
    }

    fn append_opt(&self, reply: &mut Vec<u8>) {
        let [size1, size0] = UDP_SIZE.to_be_bytes();
        reply.extend_from_slice(&[0, 0, 41, size1, size0, 0, 0, self.dnssec_ok, 0, 0, 0]);
        reply[HEADER - 1] = 1;
    }
}

fn pointer(at: usize) -> [u8; 2] {
    (0xc000 | at as u16).to_be_bytes()
}

/// Returns the offsets of a name's labels, including the root's.
fn labels(name: &[u8]) -> impl Iterator<Item = usize> + '_ {
    std::iter::successors(Some(0), |at| match name.get(*at) {
        Some(0) | None => None,
        Some(len) => Some(at + 1 + usize::from(*len)),
    })
}

fn set_header(reply: &mut [u8], flags: u16, counts: [u16; 4]) {
    for (at, word) in std::iter::once(flags).chain(counts).enumerate() {
        reply[2 + 2 * at..][..2].copy_from_slice(&word.to_be_bytes());
    }
}

/// Record without its data.
struct Record {
    owner: [u8; 2],
    rtype: u16,
    class: u16,
    ttl: u32,
}

impl Record {
    /// Appends the record with the data that `write` appends.
    fn append(&self, reply: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        reply.extend_from_slice(&self.owner);
        reply.extend_from_slice(&self.rtype.to_be_bytes());
        reply.extend_from_slice(&self.class.to_be_bytes());
        reply.extend_from_slice(&self.ttl.to_be_bytes());
        let length = reply.len();
        reply.extend_from_slice(&[0, 0]);
        write(reply);
        let data = (reply.len() - length - 2) as u16;
        reply[length..length + 2].copy_from_slice(&data.to_be_bytes());
    }
}
