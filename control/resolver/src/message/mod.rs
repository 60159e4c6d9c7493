//! Whole responses as lists of records: to remove, join and reorder records, and to write them
//! again.
//!
//! A response must not depend on a library that knows its types. So data is expanded where the old
//! types have compressed names (RFC 3597 section 4), and all other bytes stay as they came.

pub mod denial;
mod names;
pub mod scrub;

pub use names::Names;
use ringdns_dataplane::{
    clock::Secs,
    dns::{
        CLASS_IN,
        answer::Answer,
        header::{self, Header},
        key::Key,
        record,
        reply::Age,
        rtype,
    },
};
use ringdns_dnssec::{Name, expand_where, rdata, wire_len};
use std::ops::Range;
use zerocopy::FromBytes;

/// Record of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Owner, lowercased.
    pub owner: Name,
    /// Owner on the wire, in the letters of the response.
    pub spelled: Box<[u8]>,
    /// Type.
    pub rtype: u16,
    /// Class.
    pub class: u16,
    /// Time to live in seconds, as sent.
    pub ttl: u32,
    /// Data, with names expanded.
    pub rdata: Box<[u8]>,
}

/// Response without its OPT record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Flags and response code of the header.
    pub flags: u16,
    /// Question: name, type and class on the wire, lowercased.
    question: Box<[u8]>,
    /// Name in the question.
    pub name: Name,
    /// Type in the question.
    pub qtype: u16,
    /// Class in the question.
    pub class: u16,
    /// Answer section.
    pub answers: Vec<Record>,
    /// Authority section.
    pub authorities: Vec<Record>,
    /// Additional section.
    pub additionals: Vec<Record>,
}

impl Message {
    /// Parses a response to `key`, whose question the caller has checked. `None` if a record does
    /// not fit in the message, or a type that every client knows has impossible data.
    pub fn parse(message: &[u8], key: &Key) -> Option<Message> {
        let (header, _) = Header::ref_from_prefix(message).ok()?;
        let counts = [header.ancount.get(), header.nscount.get(), header.arcount.get()];
        let asked = key.asked();
        let mut at = header::LEN + key.question().len();
        // Names that point to the question get its lowercase letters, not those of the query, which
        // may be random.
        let mut bytes = message.to_vec();
        bytes.get_mut(header::LEN..at)?.copy_from_slice(key.question());
        let mut parsed = Message {
            flags: header.flags.get(),
            question: key.question().into(),
            name: Name::from_wire(asked.name())?,
            qtype: asked.qtype(),
            class: asked.qclass(),
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        };
        let sections = [&mut parsed.answers, &mut parsed.authorities, &mut parsed.additionals];
        let (records, mut ttls) = (at, Vec::new());
        for (section, count) in sections.into_iter().zip(counts) {
            for _ in 0..count {
                let fixed = record::RecordHead::parse(&bytes, at)?;
                ttls.push(fixed.ttl_at);
                if fixed.rtype != rtype::OPT {
                    let settled = SettledBytes { records, ttls: &ttls };
                    section.push(Record::parse(&bytes, at, &fixed, settled)?);
                }
                at = fixed.end;
            }
        }
        Some(parsed)
    }

    /// Returns the response that an answer came in, with TTLs lowered by the time passed since.
    pub fn of(key: &Key, answer: &Answer, age: Age) -> Option<Message> {
        let mut bytes = ringdns_common::message::of(key.asked(), answer);
        for at in &answer.ttls {
            let at = usize::from(u16::from_le_bytes(*at));
            let ttl = bytes.get_mut(at..)?.first_chunk_mut::<4>()?;
            *ttl = match age {
                Age::New(passed) | Age::Fresh(passed) => u32::from_be_bytes(*ttl).saturating_sub(passed),
                Age::Stale(left) => left,
            }
            .to_be_bytes();
        }
        Message::parse(&bytes, key)
    }

    /// Returns the response as one to another question.
    pub fn asked_by(self, key: &Key) -> Option<Message> {
        let asked = key.asked();
        Some(Message {
            question: key.question().into(),
            name: Name::from_wire(asked.name())?,
            qtype: asked.qtype(),
            class: asked.qclass(),
            ..self
        })
    }

    /// Returns the message on the wire; `None` if it is longer than 65,535 bytes.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(512);
        let sections = [&self.answers, &self.authorities, &self.additionals];
        let [answers, authorities, additionals] = sections.map(|section| u16::try_from(section.len()));
        for word in [0, self.flags, 1, answers.ok()?, authorities.ok()?, additionals.ok()?] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        bytes.extend_from_slice(&self.question);
        let mut names = Names::of(self.name.as_wire());
        for record in self.records() {
            names.write_record(record, &mut bytes)?;
        }
        (bytes.len() <= usize::from(u16::MAX)).then_some(bytes)
    }

    /// Appends the answer for the target of the aliases. The target's answer determines the response
    /// code and the proofs.
    pub fn join(&mut self, part: Message) {
        self.answers.extend(part.answers);
        self.authorities = part.authorities;
        self.additionals = part.additionals;
        let is_authentic = self.flags & part.flags & header::AD;
        self.flags = self.flags & !(header::RCODE | header::AD) | part.flags & header::RCODE | is_authentic;
    }

    /// Returns the records of all sections.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        [&self.answers, &self.authorities, &self.additionals].into_iter().flatten()
    }

    /// Returns the response code in the header.
    pub fn rcode(&self) -> u8 {
        (self.flags & header::RCODE) as u8
    }
}

/// Bytes of a message that are the same in every reply. Names must not lead through others: a client
/// would read another name than was judged.
#[derive(Clone, Copy)]
struct SettledBytes<'a> {
    /// Offset of the first record.
    records: usize,
    /// Offsets of the TTLs so far, in order.
    ttls: &'a [usize],
}

impl SettledBytes<'_> {
    /// Whether a range behind the header has no byte of a TTL.
    fn have(self, range: Range<usize>) -> bool {
        // Nearly all pointers lead to the question.
        range.end <= self.records || {
            let behind = self.ttls.partition_point(|ttl| ttl + size_of::<u32>() <= range.start);
            self.ttls.get(behind).is_none_or(|ttl| range.end <= *ttl)
        }
    }
}

impl Record {
    fn parse(
        message: &[u8],
        at: usize,
        fixed: &record::RecordHead,
        settled: SettledBytes<'_>,
    ) -> Option<Record> {
        let permits = |range| settled.have(range);
        let mut spelled = Vec::new();
        expand_where(message, at, &mut spelled, permits)?;
        let mut data = Vec::new();
        rdata::copy_where(fixed.rtype, message, fixed.rdata..fixed.end, &mut data, permits)?;
        is_possible(fixed.rtype, fixed.class, &data).then_some(())?;
        Some(Record {
            owner: Name::from_wire(&spelled)?,
            spelled: spelled.into(),
            rtype: fixed.rtype,
            class: fixed.class,
            ttl: fixed.ttl,
            rdata: data.into(),
        })
    }

    /// Returns the TTL, or zero if its top bit is set (RFC 2181 section 8).
    pub fn sane_ttl(&self) -> Secs {
        if self.ttl > i32::MAX as u32 { 0 } else { self.ttl }
    }

    /// Returns the name in the data after `skip` bytes, lowercased; `None` if there is none.
    pub fn name_at(&self, skip: usize) -> Option<Name> {
        let rest = self.rdata.get(skip..)?;
        Name::from_wire(rest.get(..wire_len(rest)?)?)
    }
}

/// Whether expanded data may belong to a record of this type. Checked are the types of which every
/// client expects a certain length (RFC 1035 section 3.3, RFC 3596, RFC 2782, RFC 6672).
fn is_possible(rtype: u16, class: u16, data: &[u8]) -> bool {
    let names = |skip: usize, names: usize, tail: usize| {
        let end = (0..names).try_fold(skip, |at, _| Some(at + wire_len(data.get(at..)?)?));
        end.is_some_and(|end| end + tail == data.len())
    };
    match rtype {
        rtype::A if class == CLASS_IN => data.len() == 4,
        rtype::AAAA if class == CLASS_IN => data.len() == 16,
        rtype::NS | rtype::CNAME | rtype::PTR | rtype::DNAME => names(0, 1, 0),
        rtype::SOA => names(0, 2, 20),
        rtype::MX => names(2, 1, 0),
        rtype::SRV => names(6, 1, 0),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
