//! Messages for tests, made by hickory-proto, so that our code is not checked against itself.

use super::{
    answer::{Answer, TtlRules},
    query::Query,
};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata},
};
use std::{net::Ipv4Addr, str::FromStr};

/// Rules that change nothing.
pub const RULES: TtlRules = TtlRules { min: 0, max: 86_400, negative_max: 3_600, stale: 3_600, ahead: 0 };

/// Returns a query.
pub fn query(name: &str, rtype: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Question::query(Name::from_ascii(name).unwrap(), rtype));
    message
}

/// Adds EDNS to a message.
pub fn with_edns(mut message: Message, size: u16, dnssec_ok: bool) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(size).set_dnssec_ok(dnssec_ok);
    message.set_edns(edns);
    message
}

/// Returns a response to `query` with `addresses` as A records of `ttl`.
pub fn addresses(query: &Message, ttl: u32, addresses: &[[u8; 4]]) -> Message {
    let mut message = response(query);
    for address in addresses {
        let data = RData::A(rdata::A(Ipv4Addr::from(*address)));
        message.add_answer(Record::from_rdata(query.queries[0].name().clone(), ttl, data));
    }
    message
}

/// Returns NXDOMAIN with an SOA of `ttl` and `minimum`.
pub fn nxdomain(query: &Message, ttl: u32, minimum: u32) -> Message {
    let mut message = response(query);
    message.metadata.response_code = ResponseCode::NXDomain;
    let name = || Name::from_str("ns.example.").unwrap();
    let soa = rdata::SOA::new(name(), name(), 1, 7200, 900, 86_400, minimum);
    message.add_authority(Record::from_rdata(Name::from_str("example.").unwrap(), ttl, RData::SOA(soa)));
    message
}

/// Returns an empty response to `query`.
pub fn response(query: &Message) -> Message {
    let mut message = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.recursion_available = true;
    message.add_query(query.queries[0].clone());
    message
}

/// Encodes a message.
pub fn wire(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap()
}

/// Parses a query with our parser.
pub fn parsed(message: &Message) -> Query {
    let mut query = Query::default();
    query.parse(&wire(message)).unwrap();
    query
}

/// Parses the answer from a response, received at second `now`.
pub fn answer(message: &Message, now: u32) -> Answer {
    let mut query = message.clone();
    query.metadata.message_type = MessageType::Query;
    query.answers.clear();
    query.authorities.clear();
    query.additionals.clear();
    query.edns = None;
    Answer::from_response(&wire(message), &parsed(&query).key, &RULES, now, false).unwrap()
}
