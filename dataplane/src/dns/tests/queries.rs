//! Tests of queries: which are accepted, how they are parsed, and which are rejected.

use super::*;

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
fn what_a_query_carries_besides_its_question_has_a_bound() {
    let head = |additional: u8| [&[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, additional, 0, 0, 1, 0, 1][..]].concat();
    let with_options = |count: u8| {
        let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4 * count];
        [&head(1)[..], &opt, &[0xfd, 0xe9, 0, 0].repeat(count.into())].concat()
    };
    let formerr = Some(Reject::Question(rcode::FORMERR));
    assert_eq!(parse(&with_options(32)).err(), None);
    assert_eq!(parse(&with_options(33)).err(), formerr);
    // Records of a type that is unknown.
    let with_records =
        |count: u8| [&head(count)[..], &[0, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 0].repeat(count.into())].concat();
    assert_eq!(parse(&with_records(6)).err(), None);
    assert_eq!(parse(&with_records(7)).err(), formerr);
    // Names of 255 bytes in all, besides the roots of other records: a key has one of them at most.
    let with_names = |labels: [usize; 3]| {
        let record =
            |labels| [&[1, b'a'].repeat(labels)[..], &[0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0]].concat();
        parse(&[head(3), record(labels[0]), record(labels[1]), record(labels[2])].concat()).err()
    };
    assert_eq!(with_names([0, 127, 0]), None);
    assert_eq!(with_names([64, 0, 63]), None);
    for names in [[127, 0, 3], [127, 127, 0], [1, 2, 127]] {
        assert_eq!(with_names(names), formerr, "{names:?}");
    }
    // The zero that ends the name is beyond the longest name.
    let long = [&[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[1, b'a'].repeat(128), &[0, 0, 1, 0, 1]].concat();
    assert_eq!(parse(&long).err(), Some(Reject::Header(rcode::FORMERR)));
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
    // The reply repeats as much of question and EDNS as there is.
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
    // RFC 6891 section 7: a client that sends an OPT gets one, even with the error.
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

proptest! {
    /// A query of arbitrary bytes is either rejected or parsed like hickory-proto parses it.
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
}
