//! Tests of responses from upstreams: the answer kept, and for how long.

use super::*;

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

/// Returns the TTLs that a client sees if it asks at once.
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
    // Without an SOA, the aliases may continue elsewhere.
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
        let limits = ReplyLimits { reply: limit, ..LIMITS };
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
        // The authority section may hold the proofs that DO asks for.
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
    // RFC 6891 section 6.1.1. The record after the OPT is left out, which loses nothing but that
    // record.
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
    // An owner that points into the header: to the root there, and to the question.
    for (at, malformed) in [(4, true), (11, true), (12, false)] {
        let mut pointed = wire(&good);
        let owner = crate::dns::header::LEN + key.question().len();
        pointed[owner..owner + 2].copy_from_slice(&[0xc0, at]);
        assert_eq!(from(&pointed) == Some(ResponseError::Malformed), malformed, "{at}");
    }
    // Bytes behind the last record mean nothing.
    let read = |wire: &[u8]| Answer::from_response(wire, &key, &RULES, 0, false).unwrap().wire;
    assert_eq!(read(&[&wire(&good)[..], &[0, 1, 2]].concat()), read(&wire(&good)));
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

proptest! {
    /// Parsing an answer from arbitrary bytes after the header never panics, and a parsed answer is
    /// consistent.
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
