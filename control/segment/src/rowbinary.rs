//! Rows in ClickHouse's RowBinary format: the columns, and all code that writes and reads them.

use super::{
    row::{Class, Rcode, Row, Type},
    segment::Damage,
};
use ringdns_dataplane::dns::key::{display_name, is_plain};
use serde::{Deserialize, Deserializer, Serialize};
use std::{
    fmt::{self, Write},
    net::{IpAddr, Ipv6Addr},
};

/// Encoding of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// `Int64`: milliseconds of Unix time.
    Millis,
    /// 16 bytes: an IPv6 address.
    Address,
    /// Length (LEB128), followed by that number of bytes.
    Text,
    /// `UInt16`.
    U16,
    /// `UInt32`.
    U32,
    /// `UInt64`.
    U64,
}

/// Names and encodings of the columns, in the order in which they are written.
pub const COLUMNS: [(&str, ColumnKind); 22] = [
    ("time", ColumnKind::Millis),
    ("client", ColumnKind::Address),
    ("name", ColumnKind::Text),
    ("type", ColumnKind::Text),
    ("class", ColumnKind::Text),
    ("protocol", ColumnKind::Text),
    ("outcome", ColumnKind::Text),
    ("tier", ColumnKind::Text),
    ("rcode", ColumnKind::Text),
    ("answer_bytes", ColumnKind::U16),
    ("service_ns", ColumnKind::U32),
    ("upstream", ColumnKind::Text),
    ("upstream_us", ColumnKind::U32),
    ("list", ColumnKind::Text),
    ("client_group", ColumnKind::Text),
    ("client_name", ColumnKind::Text),
    ("action", ColumnKind::Text),
    ("rule", ColumnKind::Text),
    ("ede", ColumnKind::Text),
    ("sample", ColumnKind::U32),
    ("appliance", ColumnKind::Text),
    ("segment", ColumnKind::U64),
];

/// A buffer of encoded rows.
#[derive(Debug)]
pub struct Rows {
    bytes: Vec<u8>,
    /// End of every row: appliance and segment.
    tail: Vec<u8>,
    text: String,
}

impl Rows {
    /// Returns an empty buffer for rows of this appliance and segment.
    pub fn new(appliance: &str, segment: u64) -> Self {
        let mut tail = Vec::new();
        put_text(&mut tail, appliance.as_bytes());
        tail.extend_from_slice(&segment.to_le_bytes());
        Rows { bytes: Vec::new(), tail, text: String::new() }
    }

    /// Clears the buffer for rows of another segment.
    pub fn begin(&mut self, segment: u64) {
        self.bytes.clear();
        self.tail.truncate(self.tail.len() - size_of::<u64>());
        self.tail.extend_from_slice(&segment.to_le_bytes());
    }

    /// Returns the encoded rows.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Encodes one more row.
    pub fn push(&mut self, row: &Row) {
        let Rows { bytes, tail, text } = self;
        bytes.extend_from_slice(&row.time_ms.to_le_bytes());
        bytes.extend_from_slice(&row.client.octets());
        if !put_plain_name(bytes, &row.name) {
            text.clear();
            // Writing to a string cannot fail.
            let _ = display_name(&row.name, text);
            put_text(bytes, text.as_bytes());
        }
        let (qtype, qclass) = (Type(row.qtype), Class(row.qclass));
        put_named(bytes, text, qtype.label(), qtype);
        put_named(bytes, text, qclass.label(), qclass);
        for label in [row.protocol.label(), row.outcome.label(), row.tier.label()] {
            put_text(bytes, label.as_bytes());
        }
        let rcode = Rcode(row.rcode);
        put_named(bytes, text, rcode.label(), rcode);
        bytes.extend_from_slice(&row.answer_bytes.to_le_bytes());
        bytes.extend_from_slice(&row.service_ns.to_le_bytes());
        put_text(bytes, row.upstream.as_deref().unwrap_or_default().as_bytes());
        bytes.extend_from_slice(&row.upstream_us.to_le_bytes());
        for label in [&row.list, &row.client_group, &row.client_name] {
            put_text(bytes, label.as_deref().unwrap_or_default().as_bytes());
        }
        for label in [row.action(), row.rule.as_deref().unwrap_or_default(), row.ede_label()] {
            put_text(bytes, label.as_bytes());
        }
        bytes.extend_from_slice(&row.sample.to_le_bytes());
        bytes.extend_from_slice(tail);
    }
}

/// Writes the name, or without a name the displayed form of `what`.
fn put_named(bytes: &mut Vec<u8>, text: &mut String, name: Option<&str>, what: impl fmt::Display) {
    let Some(name) = name else {
        text.clear();
        let _ = write!(text, "{what}");
        return put_text(bytes, text.as_bytes());
    };
    put_text(bytes, name.as_bytes());
}

/// Writes a name as [`display_name`] does, if no byte needs escaping: the text is then the name
/// with a dot for each length but the first. Writes nothing and returns false if a byte does.
fn put_plain_name(bytes: &mut Vec<u8>, name: &[u8]) -> bool {
    let Some((&first @ 1..=63, text)) = name.split_first() else { return false };
    let before = bytes.len();
    put_len(bytes, text.len());
    let at = bytes.len();
    bytes.extend_from_slice(text);
    let (mut rest, mut len) = (&mut bytes[at..], usize::from(first));
    loop {
        match rest.split_at_mut_checked(len) {
            Some((label, [next, tail @ ..])) if label.iter().all(|byte| is_plain(*byte)) => {
                len = usize::from(std::mem::replace(next, b'.'));
                rest = tail;
            }
            _ => break,
        }
        if len == 0 && rest.is_empty() {
            return true;
        }
    }
    bytes.truncate(before);
    false
}

fn put_text(bytes: &mut Vec<u8>, text: &[u8]) {
    put_len(bytes, text.len());
    bytes.extend_from_slice(text);
}

fn put_len(bytes: &mut Vec<u8>, mut len: usize) {
    while len >= 0x80 {
        bytes.push(len as u8 | 0x80);
        len >>= 7;
    }
    bytes.push(len as u8);
}

/// A decoded row. A row of a tap has neither appliance nor segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Unix time of receipt, in milliseconds.
    pub time_ms: i64,
    /// Address of the client.
    pub client: IpAddr,
    /// Name in the question.
    pub name: String,
    /// Type of the question.
    #[serde(rename = "type")]
    pub rtype: String,
    /// Class of the question.
    pub class: String,
    /// Transport of the query.
    pub protocol: String,
    /// Outcome of the query.
    pub outcome: String,
    /// Source of the answer.
    pub tier: String,
    /// Response code.
    pub rcode: String,
    /// Bytes of the answer's message.
    pub answer_bytes: u16,
    /// Nanoseconds from receipt to answer.
    pub service_ns: u32,
    /// Upstream that gave the answer; empty if none was asked.
    #[serde(deserialize_with = "or_empty")]
    pub upstream: String,
    /// Microseconds that the upstream took.
    pub upstream_us: u32,
    /// List that gave the answer; empty if none did.
    #[serde(deserialize_with = "or_empty")]
    pub list: String,
    /// Group of the client.
    #[serde(deserialize_with = "or_empty")]
    pub client_group: String,
    /// Name of the client; empty if none is known.
    #[serde(deserialize_with = "or_empty")]
    pub client_name: String,
    /// Action on the question.
    pub action: String,
    /// Rule of the list; empty if none is known.
    #[serde(deserialize_with = "or_empty")]
    pub rule: String,
    /// Extended error of the list's answers; empty if there is none.
    pub ede: String,
    /// Number of answers that this one stands for.
    pub sample: u32,
    /// Name of the appliance that logged it.
    #[serde(default)]
    pub appliance: String,
    /// Id of the segment that holds it.
    #[serde(default)]
    pub segment: u64,
}

/// Reads a text, or nothing as an empty one.
fn or_empty<'a, D: Deserializer<'a>>(from: D) -> Result<String, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// Decodes rows. Ends after the first row that cannot be decoded.
pub fn entries(bytes: &[u8]) -> impl Iterator<Item = Result<LogEntry, Damage>> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let mut reader = RowReader(rest.filter(|rest| !rest.is_empty())?);
        let entry = reader.entry();
        rest = entry.as_ref().map(|_| reader.0);
        Some(entry.ok_or(Damage::Rows))
    })
}

/// Splits encoded rows in front of the first row that begins in the second half of the bytes. The
/// rows behind it get `segment` as their segment's id. Returns the first rows, the others, and the
/// number of the first; `None` if there is only one row, or one that cannot be decoded.
pub fn split(bytes: &[u8], segment: u64) -> Option<(&[u8], Vec<u8>, u32)> {
    let mut reader = RowReader(bytes);
    let mut count = 0;
    while count == 0 || reader.0.len() > bytes.len() / 2 {
        reader.entry()?;
        count += 1;
    }
    let (first, behind) = bytes.split_at(bytes.len() - reader.0.len());
    let mut second = behind.to_vec();
    while !reader.0.is_empty() {
        reader.entry()?;
        let end = behind.len() - reader.0.len();
        second[end - size_of::<u64>()..end].copy_from_slice(&segment.to_le_bytes());
    }
    (!second.is_empty()).then_some((first, second, count))
}

struct RowReader<'a>(&'a [u8]);

impl<'a> RowReader<'a> {
    fn entry(&mut self) -> Option<LogEntry> {
        Some(LogEntry {
            time_ms: i64::from_le_bytes(self.array()?),
            client: Ipv6Addr::from(self.array()?).to_canonical(),
            name: self.text()?,
            rtype: self.text()?,
            class: self.text()?,
            protocol: self.text()?,
            outcome: self.text()?,
            tier: self.text()?,
            rcode: self.text()?,
            answer_bytes: u16::from_le_bytes(self.array()?),
            service_ns: u32::from_le_bytes(self.array()?),
            upstream: self.text()?,
            upstream_us: u32::from_le_bytes(self.array()?),
            list: self.text()?,
            client_group: self.text()?,
            client_name: self.text()?,
            action: self.text()?,
            rule: self.text()?,
            ede: self.text()?,
            sample: u32::from_le_bytes(self.array()?),
            appliance: self.text()?,
            segment: u64::from_le_bytes(self.array()?),
        })
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn text(&mut self) -> Option<String> {
        let mut len = 0;
        for shift in [0, 7, 14] {
            let [byte] = self.array()?;
            len |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let (text, rest) = self.0.split_at_checked(len)?;
                self.0 = rest;
                return String::from_utf8(text.to_vec()).ok();
            }
        }
        None
    }
}
