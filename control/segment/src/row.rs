//! A row of the query log.

use hickory_proto::rr::RecordType;
use ringdns_common::names;
pub use ringdns_dataplane::log::{Outcome, Protocol, Tier};
use serde::{Serialize, Serializer, ser::SerializeStruct};
use smallvec::SmallVec;
use std::{fmt, net::Ipv6Addr, sync::Arc};

/// A name on the wire. Nearly all have room where they are: rows come at the rate of queries, and an allocation for each would cost
/// the collector more than all else.
pub type Name = SmallVec<[u8; 40]>;

/// A query that was answered, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// When it was received: Unix time, milliseconds.
    pub time_ms: i64,
    /// Who asked, after the privacy mode: IPv4 mapped (`::ffff:a.b.c.d`); unspecified where none is kept.
    pub client: Ipv6Addr,
    /// The name on the wire, lowercased. Empty where there was no question that can be understood.
    pub name: Name,
    /// The type asked for; 0 without a question.
    pub qtype: u16,
    /// The class asked for; 0 without a question.
    pub qclass: u16,
    /// How it came.
    pub protocol: Protocol,
    /// What became of it.
    pub outcome: Outcome,
    /// Who had the answer.
    pub tier: Tier,
    /// The response code, with the upper bits that an OPT record has.
    pub rcode: u16,
    /// Bytes of the answer's message.
    pub answer_bytes: u16,
    /// Nanoseconds from the turn that received it until after the answer's kick; saturating. Over TCP: from the message until
    /// its answer was made.
    pub service_ns: u32,
    /// The upstream that had the answer.
    pub upstream: Option<Arc<str>>,
    /// How long that took, in microseconds.
    pub upstream_us: u32,
    /// How many answers this one stands for: `query_log.sample`, of which it was drawn.
    pub sample: u32,
}

impl Serialize for Row {
    /// As people read it: names, types and codes by their names.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_struct("Row", 14)?;
        row.serialize_field("time_ms", &self.time_ms)?;
        row.serialize_field("client", &self.client.to_canonical())?;
        row.serialize_field("name", &names::display(&self.name))?;
        row.serialize_field("type", &Type(self.qtype).to_string())?;
        row.serialize_field("class", &Class(self.qclass).to_string())?;
        row.serialize_field("protocol", self.protocol.label())?;
        row.serialize_field("outcome", self.outcome.label())?;
        row.serialize_field("tier", self.tier.label())?;
        row.serialize_field("rcode", &Rcode(self.rcode).to_string())?;
        row.serialize_field("answer_bytes", &self.answer_bytes)?;
        row.serialize_field("service_ns", &self.service_ns)?;
        row.serialize_field("upstream", &self.upstream.as_deref())?;
        row.serialize_field("upstream_us", &self.upstream_us)?;
        row.serialize_field("sample", &self.sample)?;
        row.end()
    }
}

/// A type by its name, or as RFC 3597 writes it; nothing where there was no question.
pub(super) struct Type(pub u16);

impl Type {
    /// Its name, if it has one.
    pub fn label(&self) -> Option<&'static str> {
        match RecordType::from(self.0) {
            RecordType::ZERO => Some(""),
            RecordType::Unknown(_) => None,
            known => Some(known.into()),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.label() {
            Some(label) => f.write_str(label),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

/// A class in the same way (RFC 6895 section 3.2).
pub(super) struct Class(pub u16);

impl Class {
    /// Its name, if it has one.
    pub fn label(&self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "",
            1 => "IN",
            3 => "CH",
            4 => "HS",
            254 => "NONE",
            255 => "ANY",
            _ => return None,
        })
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.label() {
            Some(label) => f.write_str(label),
            None => write!(f, "CLASS{}", self.0),
        }
    }
}

/// A response code by its name (RFC 6895 section 2.3).
pub(super) struct Rcode(pub u16);

impl Rcode {
    /// Its name, if it has one.
    pub fn label(&self) -> Option<&'static str> {
        const NAMES: [&str; 12] = [
            "NOERROR",
            "FORMERR",
            "SERVFAIL",
            "NXDOMAIN",
            "NOTIMP",
            "REFUSED",
            "YXDOMAIN",
            "YXRRSET",
            "NXRRSET",
            "NOTAUTH",
            "NOTZONE",
            "DSOTYPENI",
        ];
        match self.0 {
            16 => Some("BADVERS"),
            23 => Some("BADCOOKIE"),
            other => NAMES.get(usize::from(other)).copied(),
        }
    }
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.label() {
            Some(label) => f.write_str(label),
            None => write!(f, "RCODE{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_as_people_write_dns() {
        let row = Row {
            time_ms: 1_700_000_000_123,
            client: "::ffff:192.0.2.7".parse().unwrap(),
            name: names::name("www.example").unwrap().into(),
            qtype: 28,
            qclass: 1,
            protocol: Protocol::UdpSocket,
            outcome: Outcome::Miss,
            tier: Tier::Upstream,
            rcode: 3,
            answer_bytes: 97,
            service_ns: 1_234_567,
            upstream: Some("udp://192.0.2.1:53".into()),
            upstream_us: 1_200,
            sample: 10,
        };
        let expected = r#"{"time_ms":1700000000123,"client":"192.0.2.7","name":"www.example.","type":"AAAA","class":"IN","protocol":"udp-socket","outcome":"miss","tier":"upstream","rcode":"NXDOMAIN","answer_bytes":97,"service_ns":1234567,"upstream":"udp://192.0.2.1:53","upstream_us":1200,"sample":10}"#;
        assert_eq!(serde_json::to_string(&row).unwrap(), expected);
        let nameless = Row { name: Name::new(), qtype: 0, qclass: 0, rcode: 23, upstream: None, ..row };
        let text = serde_json::to_string(&nameless).unwrap();
        assert!(
            text.contains(r#""name":"","type":"","class":"""#) && text.contains(r#""rcode":"BADCOOKIE""#),
            "{text}"
        );
        assert!(text.contains(r#""upstream":null"#), "{text}");
    }
}
