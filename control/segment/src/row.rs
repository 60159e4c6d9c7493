//! A row of the query log.

use hickory_proto::rr::RecordType;
use ringdns_common::names;
use ringdns_dataplane::dns::option::ede;
pub use ringdns_dataplane::log::{Outcome, Protocol, Tier};
use serde::{Serialize, Serializer, ser::SerializeStruct};
use smallvec::SmallVec;
use std::{fmt, net::Ipv6Addr, sync::Arc};

/// A name on the wire. Nearly all names fit inline: rows come at the rate of queries, and an
/// allocation for each would cost the collector more than all its other work.
pub type RowName = SmallVec<[u8; 40]>;

/// An answered query, as logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Unix time of receipt, in milliseconds.
    pub time_ms: i64,
    /// Address of the client, after the privacy mode: IPv4 mapped (`::ffff:a.b.c.d`); unspecified
    /// if none is kept.
    pub client: Ipv6Addr,
    /// Name on the wire, lowercased; empty if the question cannot be parsed.
    pub name: RowName,
    /// Type of the question; 0 without a question.
    pub qtype: u16,
    /// Class of the question; 0 without a question.
    pub qclass: u16,
    /// Transport of the query.
    pub protocol: Protocol,
    /// Outcome of the query.
    pub outcome: Outcome,
    /// Source of the answer.
    pub tier: Tier,
    /// Response code, with the upper bits from an OPT record.
    pub rcode: u16,
    /// Bytes of the answer's message.
    pub answer_bytes: u16,
    /// Nanoseconds from the turn that received the query until after the answer's kick; saturating.
    /// Over TCP: from the query's arrival until its answer was made.
    pub service_ns: u32,
    /// Upstream that gave the answer.
    pub upstream: Option<Arc<str>>,
    /// Microseconds that the upstream took.
    pub upstream_us: u32,
    /// List that gave the answer.
    pub list: Option<Arc<str>>,
    /// Group of the client.
    pub client_group: Option<Arc<str>>,
    /// Name of the client, without the last dot.
    pub client_name: Option<Arc<str>>,
    /// Rule of that list; `None` if it is not about the name itself.
    pub rule: Option<Box<str>>,
    /// Extended error of that list's answers (RFC 8914).
    pub ede: Option<u16>,
    /// Number of answers that this one stands for: the sampling rate `query_log.sample`.
    pub sample: u32,
}

impl Row {
    /// Returns the action on the question.
    pub(super) fn action(&self) -> &'static str {
        match self.outcome {
            Outcome::Blocked => "block",
            Outcome::Rejected => "reject",
            Outcome::Hit | Outcome::Stale | Outcome::Miss | Outcome::Failure => "resolve",
        }
    }

    /// Returns the name of the extended error.
    pub(super) fn ede_label(&self) -> &'static str {
        match self.ede {
            Some(ede::BLOCKED) => "Blocked",
            Some(ede::CENSORED) => "Censored",
            Some(ede::FILTERED) => "Filtered",
            _ => "",
        }
    }
}

impl Serialize for Row {
    /// Serializes the row in readable form: types and codes by their names.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_struct("Row", 20)?;
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
        row.serialize_field("list", &self.list.as_deref())?;
        row.serialize_field("client_group", &self.client_group.as_deref())?;
        row.serialize_field("client_name", &self.client_name.as_deref())?;
        row.serialize_field("action", self.action())?;
        row.serialize_field("rule", &self.rule.as_deref())?;
        row.serialize_field("ede", self.ede_label())?;
        row.serialize_field("sample", &self.sample)?;
        row.end()
    }
}

/// A type, displayed by its name or in the form of RFC 3597; empty without a question.
pub(super) struct Type(pub u16);

impl Type {
    /// Returns the type's name, if it has one.
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

/// A class, displayed by its name or by its number (RFC 6895 section 3.2).
pub(super) struct Class(pub u16);

impl Class {
    /// Returns the class's name, if it has one.
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

/// A response code, displayed by its name (RFC 6895 section 2.3) or by its number.
pub(super) struct Rcode(pub u16);

impl Rcode {
    /// Returns the code's name, if it has one.
    pub fn label(&self) -> Option<&'static str> {
        names::rcode_name(self.0)
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
            list: None,
            client_group: Some("default".into()),
            client_name: Some("laptop".into()),
            rule: None,
            ede: None,
            sample: 10,
        };
        let expected = r#"{"time_ms":1700000000123,"client":"192.0.2.7","name":"www.example.","type":"AAAA","class":"IN","protocol":"udp-socket","outcome":"miss","tier":"upstream","rcode":"NXDOMAIN","answer_bytes":97,"service_ns":1234567,"upstream":"udp://192.0.2.1:53","upstream_us":1200,"list":null,"client_group":"default","client_name":"laptop","action":"resolve","rule":null,"ede":"","sample":10}"#;
        assert_eq!(serde_json::to_string(&row).unwrap(), expected);
        let nameless = Row { name: RowName::new(), qtype: 0, qclass: 0, rcode: 23, upstream: None, ..row };
        let text = serde_json::to_string(&nameless).unwrap();
        assert!(
            text.contains(r#""name":"","type":"","class":"""#) && text.contains(r#""rcode":"BADCOOKIE""#),
            "{text}"
        );
        assert!(text.contains(r#""upstream":null"#), "{text}");
    }
}
