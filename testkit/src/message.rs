//! DNS messages, byte by byte: a test controls exactly what is sent, right or wrong.

use std::ops::Deref;

use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::opt::EdnsOption;

use crate::scenario::message::{AD, CD, COOKIE, EDE, OPT, QR, RA, RD, TC};

pub const A: u16 = 1;
pub const TXT: u16 = 16;

/// Query to send.
#[derive(Clone, Debug)]
pub struct Query {
    pub id: u16,
    pub flags: u16,
    /// Name in its letter case, without the final dot.
    pub name: String,
    pub qtype: u16,
    pub qclass: u16,
    pub edns: Option<Edns>,
}

#[derive(Clone, Copy, Debug)]
pub struct Edns {
    pub udp_size: u16,
    pub version: u8,
    pub dnssec_ok: bool,
}

impl Query {
    /// Returns a query for an A record, with RD and without EDNS.
    pub fn a(name: &str) -> Self {
        Self::of(name, A)
    }

    pub fn of(name: &str, qtype: u16) -> Self {
        Self { id: 1, flags: RD, name: name.to_owned(), qtype, qclass: 1, edns: None }
    }

    pub fn id(self, id: u16) -> Self {
        Self { id, ..self }
    }

    pub fn edns(self, udp_size: u16) -> Self {
        Self { edns: Some(Edns { udp_size, version: 0, dnssec_ok: false }), ..self }
    }

    /// Returns the query with DO, CD, both or neither.
    pub fn dnssec(self, dnssec_ok: bool, checking_disabled: bool) -> Self {
        let flags = if checking_disabled { self.flags | CD } else { self.flags };
        Self { flags, edns: Some(Edns { udp_size: 1232, version: 0, dnssec_ok }), ..self }
    }

    pub fn wire(&self) -> Vec<u8> {
        let mut wire = Vec::with_capacity(64);
        for word in [self.id, self.flags, 1, 0, 0, u16::from(self.edns.is_some())] {
            wire.extend(word.to_be_bytes());
        }
        wire.extend(self.question());
        if let Some(edns) = self.edns {
            wire.push(0);
            for word in [OPT, edns.udp_size, edns.version.into(), u16::from(edns.dnssec_ok) << 15, 0] {
                wire.extend(word.to_be_bytes());
            }
        }
        wire
    }

    /// Returns the question section, which a reply must repeat bit by bit.
    pub fn question(&self) -> Vec<u8> {
        let mut question = Vec::new();
        for label in self.name.split('.').filter(|label| !label.is_empty()) {
            question.push(u8::try_from(label.len()).expect("labels are short"));
            question.extend(label.as_bytes());
        }
        question.push(0);
        question.extend(self.qtype.to_be_bytes());
        question.extend(self.qclass.to_be_bytes());
        question
    }
}

/// Received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply(pub Vec<u8>);

impl Reply {
    pub fn id(&self) -> u16 {
        word(&self.0, 0)
    }

    pub fn is_truncated(&self) -> bool {
        word(&self.0, 2) & TC != 0
    }

    /// Returns the whole response code, including the upper bits in the OPT record.
    #[track_caller]
    pub fn rcode(&self) -> u16 {
        decoded(&self.0).metadata.response_code.into()
    }

    /// Whether the question equals that of `query`, including letter case.
    pub fn repeats(&self, query: &Query) -> bool {
        self.0[12..].starts_with(&query.question())
    }

    pub fn has_edns(&self) -> bool {
        decoded(&self.0).edns.is_some()
    }

    /// Returns the number of records in the answer section.
    pub fn answers(&self) -> usize {
        usize::from(word(&self.0, 6))
    }

    /// Returns the addresses in the answer section.
    #[track_caller]
    pub fn addresses(&self) -> Vec<std::net::Ipv4Addr> {
        let decoded = decoded(&self.0);
        let address = |data: &RData| if let RData::A(address) = data { Some(address.0) } else { None };
        decoded.answers.iter().filter_map(|record| address(&record.data)).collect()
    }

    /// Whether the reply is marked as validated (AD).
    pub fn is_authentic(&self) -> bool {
        word(&self.0, 2) & AD != 0
    }

    /// Returns the types of all records, section by section, without OPT.
    #[track_caller]
    pub fn types(&self) -> Vec<u16> {
        let decoded = decoded(&self.0);
        let sections = decoded.answers.iter().chain(&decoded.authorities).chain(&decoded.additionals);
        sections.map(|record| record.record_type().into()).collect()
    }

    /// Returns the codes of the reply's extended errors (RFC 8914).
    #[track_caller]
    pub fn extended_errors(&self) -> Vec<u16> {
        options(&self.0, EDE).iter().map(|data| word(data, 0)).collect()
    }

    /// Returns the TTL of the first answer.
    #[track_caller]
    pub fn ttl(&self) -> u32 {
        match decoded(&self.0).answers.first() {
            Some(record) => record.ttl,
            None => panic!("no answer in {self:?}"),
        }
    }
}

/// Bytes of a query, as an upstream receives it.
#[derive(Clone, Debug)]
pub struct Asked(pub Vec<u8>);

impl Deref for Asked {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Asked {
    pub fn id(&self) -> u16 {
        word(self, 0)
    }

    /// Returns the question section: name, type and class.
    pub fn question(&self) -> &[u8] {
        let labels = self[12..].iter().position(|byte| *byte == 0).expect("a name ends");
        &self[12..12 + labels + 5]
    }

    /// Returns the name in lower case, without the final dot.
    pub fn name(&self) -> String {
        self.spelled().to_ascii_lowercase()
    }

    /// Returns the name in its letter case, without the final dot.
    pub fn spelled(&self) -> String {
        let mut labels = Vec::new();
        let mut rest = self.question();
        while let [length @ 1..=63, after @ ..] = rest {
            let (label, after) = after.split_at(usize::from(*length));
            labels.push(String::from_utf8_lossy(label));
            rest = after;
        }
        labels.join(".")
    }

    /// Whether the query is for this name, in any letter case.
    pub fn is_for(&self, name: &str) -> bool {
        self.name().eq_ignore_ascii_case(name)
    }

    pub fn qtype(&self) -> u16 {
        word(self.question(), self.question().len() - 4)
    }

    pub fn has_edns(&self) -> bool {
        decoded(self).edns.is_some()
    }

    /// Returns DO and CD.
    pub fn dnssec(&self) -> (bool, bool) {
        let message = decoded(self);
        let dnssec_ok = message.edns.is_some_and(|edns| edns.flags().dnssec_ok);
        (dnssec_ok, message.metadata.checking_disabled)
    }

    /// Returns the data of the option COOKIE (RFC 7873).
    pub fn cookie(&self) -> Option<Vec<u8>> {
        options(self, COOKIE).pop()
    }

    /// Returns a response with `flags` besides QR, RD and RA, and with these records in its answer
    /// section.
    pub fn response(&self, flags: u16, records: &[Vec<u8>]) -> Vec<u8> {
        let mut message = self[..2].to_vec();
        let count = u16::try_from(records.len()).expect("few records");
        for word in [QR | RD | RA | flags, 1, count, 0, 0] {
            message.extend(word.to_be_bytes());
        }
        message.extend(self.question());
        message.extend(records.concat());
        message
    }

    /// Returns the response that this name has this address, for five minutes.
    pub fn address(&self, address: [u8; 4]) -> Vec<u8> {
        self.response(0, &[a_record(300, address)])
    }

    /// Returns the response that this name has the address 192.0.2.1, for `ttl` seconds.
    pub fn answer(&self, ttl: u32) -> Vec<u8> {
        self.response(0, &[a_record(ttl, [192, 0, 2, 1])])
    }

    /// Returns a truncated response: TC=1 and no record.
    pub fn truncated(&self) -> Vec<u8> {
        self.response(TC, &[])
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[track_caller]
fn decoded(bytes: &[u8]) -> Message {
    match Message::from_vec(bytes) {
        Ok(message) => message,
        Err(error) => panic!("no DNS message: {error}: {bytes:02x?}"),
    }
}

/// Returns the data of the EDNS options with this code.
#[track_caller]
fn options(bytes: &[u8], code: u16) -> Vec<Vec<u8>> {
    let edns = decoded(bytes).edns;
    let options = edns.iter().flat_map(|edns| edns.options().as_ref());
    let data = |option: &EdnsOption| match option {
        EdnsOption::Unknown(found, data) if *found == code => Some(data.clone()),
        _ => None,
    };
    options.filter_map(|(_, option)| data(option)).collect()
}

/// Returns an A record of the question's name.
pub fn a_record(ttl: u32, address: [u8; 4]) -> Vec<u8> {
    let mut record = vec![0xc0, 12, 0, 1, 0, 1];
    record.extend(ttl.to_be_bytes());
    record.extend([0, 4]);
    record.extend(address);
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_and_responses_are_what_they_say() {
        let query = Query::a("wWw.Example").id(77).dnssec(true, true);
        let asked = Asked(query.wire());
        assert_eq!((asked.id(), asked.name().as_str(), asked.dnssec()), (77, "www.example", (true, true)));
        let reply = Reply(asked.address([192, 0, 2, 7]));
        assert_eq!((reply.id(), reply.rcode(), reply.ttl(), reply.answers()), (77, 0, 300, 1));
        assert_eq!(reply.addresses(), [std::net::Ipv4Addr::new(192, 0, 2, 7)]);
        assert!(reply.repeats(&query) && !reply.repeats(&Query::a("www.example")));
        assert!(Reply(asked.truncated()).is_truncated() && !reply.is_truncated());
    }
}
