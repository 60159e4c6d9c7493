//! Tests: check queries, answers and replies against the RFCs and hickory-proto.

mod answers;
mod queries;
mod replies;

use super::{
    answer::{Answer, ResponseError, TtlRules, View},
    cookie::{Cookie, Sent},
    key::Key,
    option::{Options, TEXT_MAX},
    query::{Query, Reject},
    rcode,
    reply::{self, Age, ReplyLimits},
    testing::*,
};
use crate::{checksum, stats::DropReason};
use hickory_proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{
            self,
            opt::{EdnsCode, EdnsOption},
        },
    },
};
use proptest::prelude::*;
use std::{net::Ipv4Addr, str::FromStr};

const LIMITS: ReplyLimits = ReplyLimits {
    reply: 1232,
    advertise: 1232,
    options: Options { cookie: None, nsid: None, keepalive: None },
};

fn parse(message: &[u8]) -> Result<Query, Reject<'static>> {
    let mut query = Query::default();
    query.parse(message).map(|()| query)
}

/// Returns the reply to `query` from `answer`, as the client reads it.
fn replied(query: &[u8], answer: &Answer, age: Age, limits: ReplyLimits) -> (Message, Vec<u8>) {
    replied_with(query, answer.view(), age, limits)
}

fn replied_with(query: &[u8], view: View<'_>, age: Age, limits: ReplyLimits) -> (Message, Vec<u8>) {
    let parsed = parse(query).unwrap();
    let mut buffer = query.to_vec();
    buffer.resize(2048, 0xee);
    let limits = ReplyLimits { reply: parsed.udp_limit(limits.reply as u16), ..limits };
    let reply = reply::answer(&mut buffer, query.len(), &parsed, view, age, &limits);
    buffer.truncate(reply.len);
    let sum = |bytes: &[u8]| checksum::sum(bytes, 0);
    let followed = checksum::add(sum(query), reply.change);
    assert_eq!(checksum::fold(followed) % 0xffff, checksum::fold(sum(&buffer)) % 0xffff, "the sum's change");
    (Message::from_vec(&buffer).unwrap(), buffer)
}
