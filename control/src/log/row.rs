//! A row of the query log.

use crate::names;
pub use ringdns_dataplane::log::{Outcome, Protocol, Tier};
use serde::{Serialize, Serializer, ser::SerializeStruct};
use std::{net::Ipv6Addr, sync::Arc};

/// A query that was answered, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// When it was received: Unix time, milliseconds.
    pub time_ms: i64,
    /// Who asked, after the privacy mode: IPv4 mapped (`::ffff:a.b.c.d`); unspecified where none is kept.
    pub client: Ipv6Addr,
    /// The name on the wire, lowercased. Empty where there was no question that can be understood.
    pub name: Box<[u8]>,
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
}

impl Serialize for Row {
    /// As people read it: names, types and codes by their names.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_struct("Row", 13)?;
        row.serialize_field("time_ms", &self.time_ms)?;
        row.serialize_field("client", &self.client.to_canonical())?;
        row.serialize_field("name", &names::display(&self.name))?;
        row.serialize_field("type", &type_text(self.qtype))?;
        row.serialize_field("class", &class_text(self.qclass))?;
        row.serialize_field("protocol", self.protocol.label())?;
        row.serialize_field("outcome", self.outcome.label())?;
        row.serialize_field("tier", self.tier.label())?;
        row.serialize_field("rcode", &rcode_text(self.rcode))?;
        row.serialize_field("answer_bytes", &self.answer_bytes)?;
        row.serialize_field("service_ns", &self.service_ns)?;
        row.serialize_field("upstream", &self.upstream.as_deref())?;
        row.serialize_field("upstream_us", &self.upstream_us)?;
        row.end()
    }
}

fn type_text(qtype: u16) -> String {
    if qtype == 0 { String::new() } else { names::type_name(qtype) }
}

/// Classes by their names (RFC 6895 section 3.2).
fn class_text(qclass: u16) -> String {
    match qclass {
        0 => String::new(),
        1 => "IN".into(),
        3 => "CH".into(),
        4 => "HS".into(),
        254 => "NONE".into(),
        255 => "ANY".into(),
        other => format!("CLASS{other}"),
    }
}

/// Response codes by their names (RFC 6895 section 2.3).
fn rcode_text(rcode: u16) -> String {
    match rcode {
        0 => "NOERROR".into(),
        1 => "FORMERR".into(),
        2 => "SERVFAIL".into(),
        3 => "NXDOMAIN".into(),
        4 => "NOTIMP".into(),
        5 => "REFUSED".into(),
        16 => "BADVERS".into(),
        23 => "BADCOOKIE".into(),
        other => format!("RCODE{other}"),
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
        };
        let expected = r#"{"time_ms":1700000000123,"client":"192.0.2.7","name":"www.example.","type":"AAAA","class":"IN","protocol":"udp-socket","outcome":"miss","tier":"upstream","rcode":"NXDOMAIN","answer_bytes":97,"service_ns":1234567,"upstream":"udp://192.0.2.1:53","upstream_us":1200}"#;
        assert_eq!(serde_json::to_string(&row).unwrap(), expected);
        let nameless = Row { name: [].into(), qtype: 0, qclass: 0, rcode: 23, upstream: None, ..row };
        let text = serde_json::to_string(&nameless).unwrap();
        assert!(
            text.contains(r#""name":"","type":"","class":"""#) && text.contains(r#""rcode":"BADCOOKIE""#),
            "{text}"
        );
        assert!(text.contains(r#""upstream":null"#), "{text}");
    }
}
