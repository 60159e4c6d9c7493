use super::*;
use proptest::prelude::*;
use ringdns_common::names;
use ringdns_dataplane::dns::answer::TtlRules;

const RULES: TtlRules = TtlRules { min: 0, max: 86_400, negative_max: 3_600, stale: 0, ahead: 0 };

fn key(qtype: u16) -> Key {
    names::key(&names::name("www.example").unwrap(), qtype, true, false).unwrap()
}

/// Returns a response to `key` with these records on the wire in its answer section.
fn response(key: &Key, records: &[Vec<u8>]) -> Vec<u8> {
    let mut message = Vec::new();
    for word in [0, header::QR, 1, records.len() as u16, 0, 0] {
        message.extend(word.to_be_bytes());
    }
    message.extend_from_slice(key.question());
    message.extend(records.concat());
    message
}

fn record(owner: &[u8], rtype: u16, rdata: &[u8]) -> Vec<u8> {
    let len = (rdata.len() as u16).to_be_bytes();
    [owner, &rtype.to_be_bytes(), &[0, 1, 0, 0, 0, 60], &len, rdata].concat()
}

/// Returns the data of the answers after the message was parsed, written and parsed again.
fn rewritten(key: &Key, message: &[u8]) -> Option<Vec<Box<[u8]>>> {
    let parsed = Message::parse(message, key)?;
    let again = Message::parse(&parsed.to_bytes()?, key)?;
    // Owners may take over the letters of the question.
    let parts = |message: &Message| -> Vec<_> {
        message.answers.iter().map(|record| (record.owner.clone(), record.rdata.clone())).collect()
    };
    assert_eq!(parts(&parsed), parts(&again));
    Some(again.answers.into_iter().map(|record| record.rdata).collect())
}

#[test]
fn names_in_data_are_expanded_and_point_into_no_other_message() {
    // The name in the question, and its parent.
    const WWW: [u8; 2] = [0xc0, 12];
    const EXAMPLE: [u8; 2] = [0xc0, 16];
    let (www, example) = (&b"\x03www\x07example\x00"[..], &b"\x07example\x00"[..]);
    for (rtype, data, expanded) in [
        (2, [&b"\x02ns"[..], &EXAMPLE].concat(), [&b"\x02ns"[..], example].concat()),
        (5, [&b"\x01a"[..], &WWW].concat(), [&b"\x01a"[..], www].concat()),
        (6, [&WWW[..], &EXAMPLE, &[7; 20]].concat(), [www, example, &[7; 20]].concat()),
        (15, [&b"\x00\x0a"[..], &WWW].concat(), [&b"\x00\x0a"[..], www].concat()),
        (17, [WWW, EXAMPLE].concat(), [www, example].concat()),
        (33, [&[0; 6][..], &EXAMPLE].concat(), [&[0; 6][..], example].concat()),
        (35, [&[0; 4][..], b"\x02-!\x00\x00", &WWW].concat(), [&[0; 4][..], b"\x02-!\x00\x00", www].concat()),
        (39, EXAMPLE.to_vec(), example.to_vec()),
    ] {
        let key = key(rtype);
        let message = response(&key, &[record(&WWW, rtype, &data)]);
        assert_eq!(rewritten(&key, &message).unwrap(), [expanded.into()], "{rtype}");
    }
}

#[test]
fn impossible_data_of_types_that_clients_know_is_refused() {
    for (rtype, data) in [
        (1, &[192, 0, 2][..]),
        (1, &[]),
        (28, &[0; 17]),
        (2, b"\x02ns\x00x"),
        (5, b""),
        (5, b"\xc0\xff"),
        (6, b"\x00\x00\x00"),
        (15, b"\x00\x0a"),
        (33, b"\x00\x00\x00\x00\x00\x00\x03ab"),
        (39, b"\x40"),
    ] {
        let key = key(rtype);
        let message = response(&key, &[record(&[0xc0, 12], rtype, data)]);
        assert_eq!(rewritten(&key, &message), None, "{rtype} {data:?}");
    }
}

/// Replies have another header than the response, and TTLs that go down.
#[test]
fn names_that_lead_through_bytes_that_change_are_refused() {
    let key = key(5);
    let records = 12 + key.question().len();
    // The TTL of the first record is at 6, its data at 12.
    let first = |ttl: [u8; 4]| {
        let mut first = record(&[0xc0, 12], 5, b"\x01x\x00");
        first[6..10].copy_from_slice(&ttl);
        first
    };
    for (at, ttl, taken) in [
        (4, [0; 4], false),
        (6, [0; 4], false),
        (10, [0; 4], false),
        (12, [0; 4], true),
        // The low byte of the class is the length of a label.
        (records + 5, [b'a', 0, 0, 0], false),
        (records + 6, [1, b'a', 0, 0], false),
        (records + 9, [0; 4], false),
        (records + 10, [0; 4], true),
        (records + 12, [0; 4], true),
    ] {
        let pointer = (0xc000 | at as u16).to_be_bytes();
        for second in [record(&[0xc0, 12], 5, &pointer), record(&pointer, 5, b"\x01x\x00")] {
            let message = response(&key, &[first(ttl), second]);
            assert_eq!(rewritten(&key, &message).is_some(), taken, "{at}");
        }
    }
}

#[test]
fn names_are_compressed_against_those_before_them() {
    let key = key(5);
    let target = b"\x03cdn\x04Test\x00";
    let message = response(
        &key,
        &[
            record(b"\x03WWW\x07example\x00", 5, target),
            record(target, 1, &[192, 0, 2, 1]),
            record(b"\x03cdn\x04test\x00", 1, &[192, 0, 2, 2]),
            record(b"\x01x\x03cdn\x04Test\x00", 33, &[&[0; 6][..], target].concat()),
        ],
    );
    let bytes = Message::parse(&message, &key).unwrap().to_bytes().unwrap();
    let lens = [2 + 10 + target.len(), 2 + 10 + 4, target.len() + 10 + 4, 2 + 2 + 10 + 6 + target.len()];
    assert_eq!(bytes.len(), 12 + key.question().len() + lens.iter().sum::<usize>());
    assert_eq!(rewritten(&key, &message).unwrap().len(), 4);
}

#[test]
fn random_letters_of_a_query_reach_no_data() {
    let key = key(33);
    let mut message = response(&key, &[record(&[0xc0, 12], 33, &[&[0; 6][..], &[0xc0, 16]].concat())]);
    message[17..24].copy_from_slice(b"eXaMpLe");
    let rdata = &rewritten(&key, &message).unwrap()[0];
    assert_eq!(rdata[6..], *b"\x07example\x00");
}

proptest! {
    /// Data of any type that has no rule here stays byte for byte.
    #[test]
    fn data_of_any_type_stays(rtype in 40u16.., data in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assume!(!matches!(rtype, rtype::OPT));
        let key = key(16);
        let message = response(&key, &[record(&[0xc0, 12], rtype, &data), record(&[0xc0, 12], 16, b"\x01x")]);
        prop_assert_eq!(rewritten(&key, &message), Some(vec![data.into(), b"\x01x"[..].into()]));
    }

    /// Bytes of any kind are parsed or refused, and a message that was parsed can be written.
    #[test]
    fn any_bytes_are_parsed_or_refused(rtype in 0u16..70, tail in prop::collection::vec(any::<u8>(), 0..80)) {
        let key = key(16);
        let mut message = response(&key, &[]);
        message[7] = 2;
        message.extend([0xc0, 12]);
        message.extend(rtype.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 60, 0, 20]);
        message.extend(tail);
        rewritten(&key, &message);
        let _ = Answer::from_response(&message, &key, &RULES, 0, false);
    }
}
