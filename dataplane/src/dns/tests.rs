//! Queries, answers and replies against the RFCs' words and hickory-proto's reading.

use super::{
    answer::{Answer, ResponseError, TtlRules},
    cookie::{Cookie, Sent},
    key::Key,
    option::Options,
    query::{Query, Reject},
    rcode,
    reply::{self, Age, Limits},
    testing::*,
};
use crate::{packet::checksum, stats::DropReason};
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

const LIMITS: Limits =
    Limits { reply: 1232, advertise: 1232, options: Options { cookie: None, nsid: None, keepalive: None } };

fn parse(message: &[u8]) -> Result<Query, Reject<'static>> {
    let mut query = Query::default();
    query.parse(message).map(|()| query)
}

/// The reply to `query` from `answer`, as the client reads it.
fn replied(query: &[u8], answer: &Answer, age: Age, limits: Limits) -> (Message, Vec<u8>) {
    let parsed = parse(query).unwrap();
    let mut buffer = query.to_vec();
    buffer.resize(2048, 0xee);
    let limits = Limits { reply: parsed.udp_limit(limits.reply as u16), ..limits };
    let reply = reply::answer(&mut buffer, query.len(), &parsed, answer.view(), age, &limits);
    buffer.truncate(reply.len);
    let sum = |bytes: &[u8]| checksum::sum(bytes, 0);
    let followed = checksum::add(sum(query), reply.change);
    assert_eq!(checksum::fold(followed) % 0xffff, checksum::fold(sum(&buffer)) % 0xffff, "the sum's change");
    (Message::from_vec(&buffer).unwrap(), buffer)
}

//----------- Queries ---------------------------------------------------------

#[test]
fn a_query_is_taken_apart() {
    let query = with_edns(query("wWw.Example.COM.", RecordType::AAAA), 4096, true);
    let parsed = parse(&wire(&query)).unwrap();
    assert_eq!(parsed.key.asked().name(), b"\x03www\x07example\x03com\0");
    assert_eq!(parsed.key.asked().qtype(), 28);
    assert_eq!(parsed.key.asked().qclass(), 1);
    assert!(parsed.key.asked().dnssec_ok());
    assert!(!parsed.key.asked().checking_disabled());
    assert_eq!(parsed.question_len(), 17 + 4);
    assert_eq!(parsed.edns.unwrap().udp_size, 4096);
    assert_eq!(parsed.key.to_string(), "www.example.com. 28");
}

#[test]
fn do_and_cd_are_filed_apart_and_letter_case_is_not() {
    let plain = parsed(&query("example.com.", RecordType::A)).key;
    let upper = parsed(&query("EXAMPLE.com.", RecordType::A)).key;
    let signed = parsed(&with_edns(query("example.com.", RecordType::A), 1232, true)).key;
    let sized = parsed(&with_edns(query("example.com.", RecordType::A), 4096, false)).key;
    let mut unchecked = query("example.com.", RecordType::A);
    unchecked.metadata.checking_disabled = true;
    let unchecked = parsed(&unchecked).key;
    assert_eq!(plain, upper);
    assert_eq!(plain, sized, "the client's size is not part of the key");
    assert_ne!(plain, signed);
    assert_ne!(plain, unchecked);
    assert_ne!(signed, unchecked);
}

#[test]
fn a_shorter_name_leaves_nothing_of_a_longer_one_in_the_key() {
    let mut reused = Query::default();
    reused.parse(&wire(&query("a-very-long-name.with.many.labels.example.com.", RecordType::A))).unwrap();
    reused.parse(&wire(&query("x.org.", RecordType::A))).unwrap();
    assert_eq!(reused.key, parsed(&query("x.org.", RecordType::A)).key);
}

#[test]
fn what_is_no_query_is_rejected_as_the_rfcs_say() {
    let good = wire(&query("example.com.", RecordType::A));
    let changed = |at: usize, byte: u8| {
        let mut message = good.clone();
        message[at] = byte;
        parse(&message).err()
    };
    let formerr = Some(Reject::Header(rcode::FORMERR));
    assert_eq!(parse(&good[..11]).err(), Some(Reject::Drop(DropReason::ShortMessage)));
    assert_eq!(changed(2, 0x80), Some(Reject::Drop(DropReason::Response)));
    assert_eq!(changed(2, 0x28), Some(Reject::Header(rcode::NOTIMP)), "opcode 5");
    // What there is of question and EDNS is repeated.
    let more = Some(Reject::Question(rcode::FORMERR));
    assert_eq!(changed(5, 0), more, "no question");
    let mut cookie = [&good[..5], &[0, 0, 0, 0, 0, 0, 1], &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 12]].concat();
    cookie.extend([0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(parse(&cookie).err(), Some(Reject::NoQuestion), "RFC 7873 section 5.4");
    cookie.truncate(23);
    cookie[22] = 0;
    assert_eq!(parse(&cookie).err(), more, "no question and no cookie");
    assert_eq!(changed(5, 2), formerr, "RFC 9619: two questions");
    assert_eq!(changed(7, 1), more, "an answer in a query that is not there");
    assert_eq!(changed(9, 1), more, "authority in a query that is not there");
    assert_eq!(changed(11, 1), more, "an additional record that is not there");
    assert_eq!(changed(12, 0xc0), formerr, "a compressed question");
    assert_eq!(changed(12, 64), formerr, "a label of 64 bytes");
    assert_eq!(changed(12, 40), formerr, "a label beyond the end");
    assert_eq!(parse(&good[..good.len() - 1]).err(), formerr, "half a class");
    assert_eq!(parse(&[&good[..], &[0]].concat()).err(), more, "a byte too many");
    let class = good.len() - 1;
    assert_eq!(changed(class, 3), Some(Reject::Question(rcode::REFUSED)), "class CH");
    for qtype in [251, 252, 253, 254] {
        assert_eq!(changed(class - 2, qtype), Some(Reject::Question(rcode::REFUSED)), "type {qtype}");
    }
    assert_eq!(changed(class - 2, 41), Some(Reject::Question(rcode::FORMERR)), "OPT is not data");
}

#[test]
fn of_other_records_in_a_query_only_those_of_transfers_make_sense() {
    let plain = wire(&with_edns(query("example.com.", RecordType::A), 1232, true));
    let with_soa = |at: usize, qtype: u8| {
        let mut message = plain.clone();
        let opt = message.len() - 11;
        message.splice(opt..opt, [0xc0, 12, 0, 6, 0, 1, 0, 0, 0, 0, 0, 0]);
        (message[at], message[opt - 3]) = (1, qtype);
        let mut query = Query::default();
        (query.parse(&message).err(), query.question_len(), query.edns.map(|edns| edns.dnssec_ok))
    };
    for section in [7, 9] {
        let formerr = (Some(Reject::Question(rcode::FORMERR)), 17, Some(true));
        assert_eq!(with_soa(section, 1), formerr, "what could be read is repeated");
        let refused = (Some(Reject::Question(rcode::REFUSED)), 17, Some(true));
        assert_eq!(with_soa(section, 251), refused, "IXFR (RFC 1995 section 3)");
    }
}

#[test]
fn names_of_255_bytes_are_taken_and_longer_ones_are_not() {
    let label = [&[63u8][..], &[b'a'; 63]].concat();
    let message = |last: usize| {
        let mut message = wire(&query(".", RecordType::A))[..12].to_vec();
        message.extend(label.iter().chain(&label).chain(&label));
        message.push(last as u8);
        message.extend(vec![b'b'; last]);
        message.extend([0, 0, 1, 0, 1]);
        message
    };
    assert!(parse(&message(61)).is_ok(), "255 bytes");
    assert_eq!(parse(&message(62)).err(), Some(Reject::Header(rcode::FORMERR)), "256 bytes");
}

#[test]
fn edns_must_be_single_whole_and_of_version_0() {
    let good = wire(&with_edns(query("example.com.", RecordType::A), 1232, false));
    let opt = good.len() - 11;
    let mut twice = [&good[..], &good[opt..]].concat();
    twice[11] = 2;
    let broken = |message: &[u8]| {
        let mut query = Query::default();
        let rejected = query.parse(message);
        (rejected.err(), query.edns.map(|edns| edns.udp_size))
    };
    // RFC 6891 section 7: who sends one gets one, also with the error.
    let formerr = (Some(Reject::Question(rcode::FORMERR)), Some(1232));
    assert_eq!(broken(&twice), formerr, "two of them");
    let mut owned = [&good[..opt], &[1, b'a'], &good[opt..]].concat();
    assert_eq!(broken(&owned), formerr, "not the root's");
    owned.truncate(owned.len() - 1);
    assert_eq!(broken(&owned), (formerr.0, None), "not whole");
    let mut version = good.clone();
    version[opt + 6] = 1;
    assert_eq!(parse(&version).err(), Some(Reject::BadVersion));
    let optional = |option: &[u8]| {
        let mut message = [&good[..], option].concat();
        message[opt + 10] = option.len() as u8;
        message
    };
    let with_option = |option: &[u8]| parse(&optional(option));
    let cookie = |option: &[u8]| with_option(option).unwrap().edns.unwrap().cookie;
    let expected = Sent::Cookie(Cookie { client: [1, 2, 3, 4, 5, 6, 7, 8], server: None });
    assert_eq!(cookie(&[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]), expected);
    assert_eq!(cookie(&[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 10, 0, 0]), expected, "the first counts");
    assert_eq!(cookie(&[0, 12, 0, 2, 0, 0, 0, 10, 0, 7, 1, 2, 3, 4, 5, 6, 7]), Sent::Malformed);
    assert_eq!(cookie(&[0, 3, 0, 0, 255, 254, 0, 1, 9]), Sent::Nothing, "unknown options are passed over");
    assert_eq!(broken(&optional(&[0, 10, 0, 9, 1, 2])), formerr, "cut option");
    assert_eq!(broken(&optional(&[0, 10, 0])), formerr, "half an option");
}

#[test]
fn udp_limits_lie_between_512_and_ours() {
    let limit = |size| parsed(&with_edns(query("a.", RecordType::A), size, false)).udp_limit(1232);
    assert_eq!(parsed(&query("a.", RecordType::A)).udp_limit(1232), 512);
    assert_eq!(limit(0), 512);
    assert_eq!(limit(1000), 1000);
    assert_eq!(limit(65_535), 1232);
}

//----------- Answers ---------------------------------------------------------

#[test]
fn an_answer_lives_as_long_as_its_least_ttl() {
    let query = query("example.com.", RecordType::A);
    let mut response = addresses(&query, 300, &[[192, 0, 2, 1]]);
    let data = RData::A(rdata::A(Ipv4Addr::new(192, 0, 2, 2)));
    response.add_answer(Record::from_rdata(Name::from_str("example.com.").unwrap(), 60, data));
    let answer = answer(&response, 1000);
    assert_eq!((answer.ttl, answer.expires(), answer.dead()), (60, 1060, 4660));
    assert_eq!(answer.counts, [2, 0, 0]);
    assert_eq!(answer.ttls.len(), 2);
}

#[test]
fn negative_ttls_follow_rfc_2308() {
    let query = query("nope.example.", RecordType::A);
    assert_eq!(answer(&nxdomain(&query, 900, 60), 0).ttl, 60, "MINIMUM is less");
    assert_eq!(answer(&nxdomain(&query, 30, 60), 0).ttl, 30, "the SOA's TTL is less");
    assert_eq!(answer(&nxdomain(&query, 86_400, 86_400), 0).ttl, RULES.negative_max, "capped");
    assert_eq!(answer(&response(&query), 0).ttl, 0, "without SOA it is not kept");
    let mut failed = response(&query);
    failed.metadata.response_code = ResponseCode::ServFail;
    assert_eq!(answer(&failed, 0).ttl, 0, "failures are kept under RFC 9520's rules, not these");
}

#[test]
fn ttl_rules_clamp_and_the_top_bit_means_zero() {
    let query = query("example.com.", RecordType::A);
    let key = parsed(&query).key;
    let rules = TtlRules { min: 10, max: 100, negative_max: 50, stale: 0, ahead: 0 };
    let ttl = |ttl| {
        let wire = wire(&addresses(&query, ttl, &[[192, 0, 2, 1]]));
        Answer::from_response(&wire, &key, &rules, 0, false).unwrap().ttl
    };
    assert_eq!((ttl(5), ttl(50), ttl(500)), (10, 50, 100));
    assert_eq!(ttl(0x8000_0000), 10, "RFC 2181 section 8");
}

/// The TTLs that a client sees who asks at once.
fn shown(answer: &Answer, query: &Message) -> Vec<u32> {
    let (reply, _) = replied(&wire(query), answer, Age::Fresh(0), LIMITS);
    reply.answers.iter().chain(&reply.authorities).map(|record| record.ttl).collect()
}

#[test]
fn clients_see_ttls_as_the_rules_have_them() {
    let query = query("example.com.", RecordType::A);
    let key = parsed(&query).key;
    let rules = TtlRules { min: 10, max: 100, negative_max: 50, stale: 0, ahead: 0 };
    let take = |message: &Message, rules: &TtlRules| {
        Answer::from_response(&wire(message), &key, rules, 0, false).unwrap()
    };
    for (ttl, seen) in [(5, 10), (50, 50), (500, 100)] {
        let answer = take(&addresses(&query, ttl, &[[192, 0, 2, 1]]), &rules);
        assert_eq!(shown(&answer, &query), [seen], "of {ttl}");
    }
    let none = TtlRules { min: 0, max: 0, negative_max: 0, stale: 0, ahead: 0 };
    let passed_on = take(&addresses(&query, 500, &[[192, 0, 2, 1]]), &none);
    assert_eq!((passed_on.ttl, shown(&passed_on, &query)), (0, vec![500]), "nothing is kept or changed");
    // RFC 2308 section 3: the TTL of the SOA is how long the answer may be kept.
    assert_eq!(shown(&take(&nxdomain(&query, 900, 30), &RULES), &query), [30]);
    assert_eq!(shown(&take(&nxdomain(&query, 900, 900), &rules), &query), [50]);
}

#[test]
fn the_least_ttl_of_an_rrset_holds_for_all_of_it() {
    let query = query("example.com.", RecordType::A);
    let mut response = addresses(&query, 300, &[[192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 3]]);
    response.answers[1].ttl = 60;
    response.answers[2].ttl = 0x8000_0001;
    assert_eq!(shown(&answer(&response, 0), &query), [0; 3], "RFC 2181 sections 5.2 and 8");
    response.answers[2].ttl = 600;
    let alias = RData::CNAME(rdata::CNAME(Name::from_str("example.com.").unwrap()));
    let name = Name::from_str("example.com.").unwrap();
    response.answers.insert(0, Record::from_rdata(name, 900, alias));
    assert_eq!(shown(&answer(&response, 0), &query), [900, 60, 60, 60], "of each its own");
}

#[test]
fn aliases_that_lead_to_nothing_are_negative() {
    let query = query("www.example.", RecordType::A);
    let alias = |ttl| {
        let target = RData::CNAME(rdata::CNAME(Name::from_str("nothing.example.").unwrap()));
        Record::from_rdata(query.queries[0].name().clone(), ttl, target)
    };
    // RFC 2308 section 2.2: no record of the type at their end, and an SOA.
    let mut nodata = nxdomain(&query, 86_400, 86_400);
    nodata.metadata.response_code = ResponseCode::NoError;
    nodata.answers.push(alias(86_400));
    assert_eq!(answer(&nodata, 0).ttl, RULES.negative_max);
    assert_eq!(shown(&answer(&nodata, 0), &query), [RULES.negative_max; 2]);
    // Without one they may lead on elsewhere.
    nodata.authorities.clear();
    assert_eq!(answer(&nodata, 0).ttl, 86_400);
    let mut found = addresses(&query, 300, &[[192, 0, 2, 1]]);
    found.answers.insert(0, alias(86_400));
    found.authorities = nxdomain(&query, 60, 60).authorities;
    assert_eq!(answer(&found, 0).ttl, 60);
    assert_eq!(
        shown(&answer(&found, 0), &query),
        [86_400, 300, 60],
        "an SOA beside an answer is a record as others are"
    );
}

#[test]
fn what_was_not_asked_for_is_left_out_before_an_answer_is_cut() {
    let asked = query("example.com.", RecordType::TXT);
    let name = || Name::from_str("example.com.").unwrap();
    let text =
        |len: usize| Record::from_rdata(name(), 60, RData::TXT(rdata::TXT::new(vec!["x".repeat(len)])));
    let ns = || {
        let host = Name::from_str("a.rather.long.name.of.a.server.example.net.").unwrap();
        Record::from_rdata(name(), 60, RData::NS(rdata::NS(host)))
    };
    let mut message = response(&asked);
    message.answers = vec![text(200), text(200)];
    message.authorities = vec![ns()];
    message.additionals = vec![text(100)];
    let stored = answer(&message, 0);
    let sections = |asked: &Message, limit| {
        let limits = Limits { reply: limit, ..LIMITS };
        let (reply, bytes) = replied(&wire(asked), &stored, Age::Fresh(7), limits);
        assert!(bytes.len() <= limit);
        let sections = [&reply.answers, &reply.authorities, &reply.additionals];
        assert!(sections.iter().all(|records| records.iter().all(|record| record.ttl == 53)));
        (reply.metadata.truncation, sections.map(Vec::len))
    };
    let (_, whole) = replied(&wire(&with_edns(asked.clone(), 1232, false)), &stored, Age::Fresh(7), LIMITS);
    // RFC 2181 section 9. The text of 100 bytes is a record of 113, the server's of 56.
    for (dnssec_ok, less, cut, left) in [
        (false, 0, false, [2, 1, 1]),
        (false, 1, false, [2, 1, 0]),
        (false, 113, false, [2, 1, 0]),
        (false, 114, false, [2, 0, 0]),
        (true, 113, false, [2, 1, 0]),
        // Authority may have the proofs that DO asks for.
        (true, 114, true, [0, 0, 0]),
    ] {
        let asks = with_edns(asked.clone(), (whole.len() - less) as u16, dnssec_ok);
        assert_eq!(sections(&asks, whole.len() - less), (cut, left), "{less} bytes less, DO {dnssec_ok}");
    }
}

#[test]
fn the_opt_record_may_stand_anywhere_among_the_additional_ones() {
    let query = query("example.com.", RecordType::A);
    let mut message = wire(&addresses(&query, 60, &[[192, 0, 2, 1]]));
    let before =
        [0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16, 32, 1, 13, 184, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    // RFC 6891 section 6.1.1. What follows it is left out, and is no loss but one.
    let after = [0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 5, 0, 2, 1, 0x61];
    message[11] = 3;
    message.extend(before.iter().chain(&opt).chain(&after));
    let taken = Answer::from_response(&message, &parsed(&query).key, &RULES, 0, false).unwrap();
    assert_eq!((taken.counts, taken.ttl), ([1, 0, 1], 60));
    let (reply, _) = replied(&wire(&query), &taken, Age::Fresh(0), LIMITS);
    assert_eq!((reply.answers.len(), reply.additionals.len(), reply.edns), (1, 1, None));
    message[11] = 4;
    message.extend(&opt);
    let two = Answer::from_response(&message, &parsed(&query).key, &RULES, 0, false);
    assert_eq!(two.err(), Some(ResponseError::Malformed), "two of them");
}

#[test]
fn nobody_is_an_authority_for_what_it_repeats() {
    let query = query("example.com.", RecordType::A);
    let mut response = addresses(&query, 60, &[[192, 0, 2, 1]]);
    response.metadata.authoritative = true;
    let (reply, _) = replied(&wire(&query), &answer(&response, 0), Age::Fresh(0), LIMITS);
    assert!(!reply.metadata.authoritative);
}

#[test]
fn responses_to_something_else_are_refused() {
    let asked = query("example.com.", RecordType::A);
    let key = parsed(&asked).key;
    let take = |message: &Message| Answer::from_response(&wire(message), &key, &RULES, 0, false).err();
    let good = addresses(&asked, 60, &[[192, 0, 2, 1]]);
    assert_eq!(take(&good), None);
    assert_eq!(
        take(&addresses(&query("EXAMPLE.com.", RecordType::A), 60, &[[1; 4]])),
        None,
        "case may differ"
    );
    assert_eq!(take(&asked), Some(ResponseError::NotResponse));
    let other_name = addresses(&query("example.org.", RecordType::A), 60, &[[192, 0, 2, 1]]);
    assert_eq!(take(&other_name), Some(ResponseError::OtherQuestion));
    let other_type = addresses(&query("example.com.", RecordType::AAAA), 60, &[[192, 0, 2, 1]]);
    assert_eq!(take(&other_type), Some(ResponseError::OtherQuestion));
    let mut bare = good.clone();
    bare.queries.clear();
    assert_eq!(take(&bare), Some(ResponseError::OtherQuestion));
    let mut cut = wire(&good);
    cut.pop();
    let from = |wire: &[u8]| Answer::from_response(wire, &key, &RULES, 0, false).err();
    assert_eq!(from(&cut), Some(ResponseError::Malformed));
    assert_eq!(from(&[&wire(&good)[..], &[0]].concat()), Some(ResponseError::Malformed));
    assert_eq!(from(&[0; 11]), Some(ResponseError::Short));
}

#[test]
fn ad_is_kept_only_from_trusted_upstreams() {
    let query = query("example.com.", RecordType::A);
    let mut response = addresses(&query, 60, &[[192, 0, 2, 1]]);
    response.metadata.authentic_data = true;
    let key = parsed(&query).key;
    for trusted in [false, true] {
        let answer = Answer::from_response(&wire(&response), &key, &RULES, 0, trusted).unwrap();
        let mut asks = query.clone();
        asks.metadata.authentic_data = true;
        assert_eq!(replied(&wire(&asks), &answer, Age::Fresh(0), LIMITS).0.metadata.authentic_data, trusted);
        let (reply, _) = replied(&wire(&query), &answer, Age::Fresh(0), LIMITS);
        assert!(!reply.metadata.authentic_data, "RFC 6840 section 5.8: only for who asks");
    }
}

//----------- Replies ---------------------------------------------------------

#[test]
fn a_reply_is_made_for_its_client() {
    let stored = answer(
        &with_edns(
            addresses(&query("example.com.", RecordType::A), 300, &[[192, 0, 2, 1], [192, 0, 2, 2]]),
            4096,
            true,
        ),
        0,
    );
    let mut asks = with_edns(query("eXaMpLe.CoM.", RecordType::A), 1400, false);
    asks.metadata.id = 0xbeef;
    let (reply, bytes) = replied(&wire(&asks), &stored, Age::Fresh(100), LIMITS);
    assert_eq!(reply.metadata.id, 0xbeef);
    assert_eq!(reply.metadata.message_type, MessageType::Response);
    assert!(reply.metadata.recursion_desired && reply.metadata.recursion_available);
    assert_eq!(&bytes[12..25], b"\x07eXaMpLe\x03CoM\0", "the client's own spelling");
    assert_eq!(reply.answers.len(), 2);
    assert!(reply.answers.iter().all(|r| r.ttl == 200), "aged");
    let edns = reply.edns.expect("who sends OPT gets one");
    assert_eq!((edns.max_payload(), edns.version(), edns.flags().dnssec_ok), (1232, 0, false));

    let (plain, _) = replied(&wire(&query("example.com.", RecordType::A)), &stored, Age::Fresh(0), LIMITS);
    assert!(plain.edns.is_none(), "who sends none gets none");
}

#[test]
fn ttls_never_go_below_zero_and_stale_ones_are_as_told() {
    let query = query("example.com.", RecordType::A);
    let stored = answer(&addresses(&query, 300, &[[192, 0, 2, 1]]), 0);
    let ttl = |age| replied(&wire(&query), &stored, age, LIMITS).0.answers[0].ttl;
    assert_eq!(ttl(Age::Fresh(299)), 1);
    assert_eq!(ttl(Age::Fresh(301)), 0);
    assert_eq!(ttl(Age::Stale(30)), 30);
}

#[test]
fn what_is_too_large_is_cut_whole_and_says_so() {
    let asked = query("example.com.", RecordType::A);
    let many: Vec<[u8; 4]> = (0..40).map(|n| [192, 0, 2, n]).collect();
    let stored = answer(&addresses(&asked, 300, &many), 0);
    let (reply, bytes) = replied(&wire(&asked), &stored, Age::Fresh(0), LIMITS);
    assert!(reply.metadata.truncation && reply.answers.is_empty() && bytes.len() <= 512);
    let large = with_edns(asked.clone(), 1232, false);
    let (reply, _) = replied(&wire(&large), &stored, Age::Fresh(0), LIMITS);
    assert!(!reply.metadata.truncation && reply.answers.len() == 40);
    let exact = replied(&wire(&large), &stored, Age::Fresh(0), LIMITS).1.len();
    for (size, fits) in [(exact, true), (exact - 1, false)] {
        let asks = with_edns(asked.clone(), size as u16, false);
        let (reply, bytes) = replied(&wire(&asks), &stored, Age::Fresh(0), LIMITS);
        assert_eq!(reply.metadata.truncation, !fits, "limit {size}");
        assert!(bytes.len() <= size);
    }
}

/// The INFO-CODEs of a reply, as hickory reads them.
fn codes(reply: &Message) -> Vec<u16> {
    let options = reply.edns.as_ref().map(|edns| edns.options().as_ref().to_vec()).unwrap_or_default();
    let code = |(_, option): &(EdnsCode, EdnsOption)| match option {
        EdnsOption::Unknown(15, data) => Some(u16::from_be_bytes(data[..2].try_into().unwrap())),
        _ => None,
    };
    options.iter().filter_map(code).collect()
}

#[test]
fn extended_errors_say_why_to_who_has_edns() {
    let asked = query("example.com.", RecordType::A);
    let known = answer(&addresses(&asked, 300, &[[192, 0, 2, 1]]), 0);
    let denied = answer(&nxdomain(&asked, 300, 300), 0);
    let failed = Answer::error(rcode::SERVFAIL, Some(22), 0, 5);
    let blocked = Answer { ede: Some(15), ..denied.clone() };
    let expected: [(&Answer, Age, &[u16]); 10] = [
        (&known, Age::New(0), &[]),
        (&known, Age::Fresh(0), &[]),
        (&known, Age::Stale(30), &[3]),
        (&denied, Age::Fresh(0), &[]),
        (&denied, Age::Stale(30), &[19]),
        (&blocked, Age::Fresh(0), &[15]),
        (&blocked, Age::Stale(30), &[15, 19]),
        (&failed, Age::New(0), &[22]),
        (&failed, Age::Fresh(0), &[22, 13]),
        (&Answer::error(rcode::REFUSED, Some(13), 0, 5), Age::Fresh(0), &[13]),
    ];
    for (answer, age, expected) in expected {
        let signed = with_edns(asked.clone(), 1232, true);
        let (reply, _) = replied(&wire(&signed), answer, age, LIMITS);
        assert_eq!(codes(&reply), expected, "{answer:?}, {age:?}");
        assert!(reply.edns.unwrap().flags().dnssec_ok);
        let (_, bare) = replied(&wire(&asked), answer, age, LIMITS);
        assert_eq!(bare.len(), 12 + 17 + answer.wire.len(), "nothing to who has none");
    }
}

#[test]
fn extended_errors_are_left_out_where_they_do_not_fit() {
    let asked = query("example.com.", RecordType::A);
    let many: Vec<[u8; 4]> = (0..40).map(|n| [192, 0, 2, n]).collect();
    let stored = Answer { ede: Some(4), ..answer(&addresses(&asked, 300, &many), 0) };
    let whole = 12 + 17 + stored.wire.len() + 11;
    for (size, cut, expected) in [
        (whole + 12, false, &[4, 3][..]),
        (whole + 11, false, &[]),
        (whole, false, &[]),
        (whole - 1, true, &[4, 3]),
    ] {
        let asks = with_edns(asked.clone(), size as u16, false);
        let (reply, bytes) = replied(&wire(&asks), &stored, Age::Stale(30), LIMITS);
        assert_eq!((reply.metadata.truncation, &codes(&reply)[..]), (cut, expected), "{size} bytes");
        assert!(bytes.len() <= size);
    }
}

#[test]
fn errors_repeat_what_can_be_repeated() {
    let mut asks = with_edns(query("example.com.", RecordType::A), 1232, true);
    asks.metadata.op_code = OpCode::Status;
    let reject = |message: &[u8]| {
        let mut query = Query::default();
        let why = query.parse(message).unwrap_err();
        let mut buffer = message.to_vec();
        buffer.resize(2048, 0xee);
        let len = reply::reject(&mut buffer, &query, why, &LIMITS);
        buffer.truncate(len);
        buffer
    };
    let reply = Message::from_vec(&reject(&wire(&asks))).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::NotImp);
    assert_eq!(reply.metadata.op_code, OpCode::Status);
    assert_eq!(reply.metadata.id, asks.metadata.id);
    assert!(reply.queries.is_empty());

    let mut version = wire(&with_edns(query("example.com.", RecordType::A), 1232, false));
    let at = version.len() - 11 + 6;
    version[at] = 1;
    let reply = Message::from_vec(&reject(&version)).unwrap();
    assert_eq!(u16::from(reply.metadata.response_code), 16, "BADVERS");
    assert_eq!(reply.edns.unwrap().version(), 0);
    assert_eq!(reply.queries.len(), 1);

    let transfer = wire(&query("example.com.", RecordType::AXFR));
    let reply = Message::from_vec(&reject(&transfer)).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
    assert_eq!(reply.queries.len(), 1);
    let mut answer = wire(&query("example.com.", RecordType::A));
    answer[2] |= 0x80;
    assert!(reject(&answer).is_empty(), "responses are never answered");
}

proptest! {
    /// Any bytes: a query is either refused, or what was read of it is what hickory-proto reads.
    #[test]
    fn parsing_agrees_with_hickory(bytes in prop::collection::vec(any::<u8>(), 0..80), tail in any::<bool>()) {
        let mut message = wire(&query("example.com.", RecordType::A))[..12].to_vec();
        message.extend(&bytes);
        if tail { message.extend([0, 0, 1, 0, 1]); }
        if let Ok(query) = parse(&message) {
            let theirs = Message::from_vec(&message).expect("ours is stricter");
            let name = query.key.asked().name().to_vec();
            let mut wire = Vec::new();
            for label in theirs.queries[0].name().iter() {
                wire.push(label.len() as u8);
                wire.extend(label.to_ascii_lowercase());
            }
            wire.push(0);
            prop_assert_eq!(name, wire);
            prop_assert_eq!(query.key.asked().qtype(), u16::from(theirs.queries[0].query_type()));
        }
    }

    /// Any bytes after the header: taking an answer out of them never panics, and what is taken fits itself.
    #[test]
    fn responses_of_any_bytes_are_taken_or_refused(
        mut counts in prop::array::uniform3(0u8..4),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let asked = query("example.com.", RecordType::A);
        let mut message = wire(&response(&asked));
        for (at, count) in [7, 9, 11].into_iter().zip(&mut counts) {
            message[at] = *count;
        }
        message.extend(&bytes);
        let key: Key = parsed(&asked).key;
        if let Ok(answer) = Answer::from_response(&message, &key, &RULES, 0, false) {
            prop_assert_eq!(answer.ttls.len(), answer.counts.iter().map(|n| usize::from(*n)).sum::<usize>());
            for at in &answer.ttls {
                let records = 12 + key.question().len();
                prop_assert!((records..records + answer.wire.len() - 3).contains(&usize::from(u16::from_le_bytes(*at))));
            }
        }
    }
}
