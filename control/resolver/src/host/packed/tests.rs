use super::*;
use proptest::prelude::*;
use ringdns_common::names;
use ringdns_dataplane::dns::{answer::TtlRules, key::Key, rcode, rtype};

/// Returns names in presentation format, the root among them. Most have letters only.
fn a_name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::collection::vec("[a-z0-9_-]{1,12}", 1..6).prop_map(|labels| labels.join(".")),
        1 => prop::collection::vec("[ab*]{1,2}", 1..3).prop_map(|labels| labels.join(".")),
        1 => Just(".".to_owned()),
        1 => ("[a-z*]{63}", "[a-z]{58,61}").prop_map(|(long, last)| [&*long, &long, &long, &last].join(".")),
    ]
}

fn a_type() -> impl Strategy<Value = u16> {
    prop_oneof![
        4 => Just(rtype::A),
        2 => Just(rtype::AAAA),
        2 => Just(rtype::DS),
        2 => 0u16..300,
        1 => any::<u16>(),
    ]
}

fn a_key() -> impl Strategy<Value = Key> {
    let parts = (a_name(), a_type(), any::<bool>(), any::<bool>());
    // Some types are not for questions.
    parts.prop_filter_map("a meta type", |(name, qtype, dnssec_ok, checking_disabled)| {
        names::key(&names::name(&name).unwrap(), qtype, dnssec_ok, checking_disabled)
    })
}

fn a_time() -> impl Strategy<Value = Secs> {
    prop_oneof![
        Just(0),
        1u32..600,
        (0u32..100).prop_map(|n| n * 60),
        (0u32..9).prop_map(|n| n * 86_400),
        any::<u32>()
    ]
}

/// Returns a record: owner, type, class, TTL and data; types and classes of questions are frequent.
fn a_record() -> impl Strategy<Value = (Vec<u8>, u16, u16, u32, Vec<u8>)> {
    let owner = prop_oneof![
        4 => Just(vec![0xc0, 12]),
        1 => Just(vec![0]),
        1 => a_name().prop_map(|name| names::name(&name).unwrap()),
        1 => Just(vec![3, b'w', b'w', b'w', 0xc0, 12]),
    ];
    let class = prop_oneof![6 => Just(CLASS_IN), 1 => any::<u16>()];
    let data = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 4..5),
        2 => prop::collection::vec(any::<u8>(), 16..17),
        4 => prop::collection::vec(any::<u8>(), 0..80),
        1 => prop::collection::vec(any::<u8>(), 250..600),
    ];
    (
        owner,
        prop_oneof![2 => Just(rtype::A), 1 => Just(rtype::AAAA), 1 => Just(rtype::RRSIG), 1 => any::<u16>()],
        class,
        a_time(),
        data,
    )
}

/// Record to write: owner, type, class, TTL and data.
type Written = (Vec<u8>, u16, u16, u32, Vec<u8>);

/// Returns a response to a question with these records in its sections.
fn response(key: &Key, flags: u16, sections: &[Vec<Written>; 3]) -> Vec<u8> {
    let mut message = vec![0, 0];
    message.extend_from_slice(&(0x8180 | flags).to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    sections.iter().for_each(|section| message.extend_from_slice(&(section.len() as u16).to_be_bytes()));
    message.extend_from_slice(key.question());
    for (owner, rtype, class, ttl, data) in sections.iter().flatten() {
        message.extend_from_slice(owner);
        message.extend_from_slice(&rtype.to_be_bytes());
        message.extend_from_slice(&class.to_be_bytes());
        message.extend_from_slice(&ttl.to_be_bytes());
        message.extend_from_slice(&(data.len() as u16).to_be_bytes());
        message.extend_from_slice(data);
    }
    message
}

fn packed(key: &Key, answer: &Answer) -> Vec<u8> {
    let packed_key = PackedKey::of(key.asked()).unwrap();
    pack(&packed_key, key.asked(), answer).unwrap()
}

/// Checks that an entry says what was packed.
fn check(key: &Key, answer: &Answer) -> Result<(), TestCaseError> {
    let packed_key = PackedKey::of(key.asked()).unwrap();
    let bytes = packed(key, answer);
    let mut with_neighbour = bytes.clone();
    with_neighbour.extend_from_slice(&[0xff; 16]);
    let entry = Packed::first(&with_neighbour).unwrap();
    prop_assert_eq!(entry.0, &bytes[..]);
    prop_assert!(entry.is_live() && entry.is_of(&packed_key) && bytes.len().is_multiple_of(UNIT));
    prop_assert_eq!(entry.parts(), packed_key.parts());
    prop_assert_eq!(&entry.question()[..], key.question());
    prop_assert_eq!(entry.flags(), key.flags());
    prop_assert_eq!(entry.ends(), Some((answer.expires(), answer.dead())));
    prop_assert_eq!(entry.answer(), Some(answer.clone()));
    prop_assert_eq!(entry.tail(), (Demand::default(), 0));
    let mut tailed = bytes;
    for tail in [(Demand::new(7, 240), 90), (Demand::new(8, 240), 91)] {
        tailed = with_tail(Packed(&tailed), tail.0, tail.1).unwrap();
        let entry = Packed::first(&tailed).unwrap();
        prop_assert_eq!((entry.0.len(), entry.tail()), (tailed.len(), tail));
        prop_assert!(entry.is_of(&packed_key));
        prop_assert_eq!(entry.answer(), Some(answer.clone()));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Answers as they come: of responses, with every kind of record, negative ones, with DNSSEC.
    #[test]
    fn an_answer_of_a_response_is_what_was_packed(
        key in a_key(),
        sections in [prop::collection::vec(a_record(), 0..5), prop::collection::vec(a_record(), 0..4), prop::collection::vec(a_record(), 0..3)],
        (code, trust_ad, now) in (0u16..6, any::<bool>(), a_time()),
        (stale, ahead, ede) in (a_time(), 0u8..60, prop::option::of(any::<u16>())),
    ) {
        let rules = TtlRules { min: 5, max: 86_400, negative_max: 3600, stale, ahead };
        let message = response(&key, code | 0x20, &sections);
        if let Ok(answer) = Answer::from_response(&message, &key, &rules, now, trust_ad) {
            check(&key, &Answer { ede, ..answer })?;
        }
    }

    /// Answers that no response makes: counts, offsets and sums that say nothing of the records.
    #[test]
    fn any_answer_is_what_was_packed(
        key in a_key(),
        (status, counts, sum) in (any::<u8>(), any::<[u16; 3]>(), any::<u16>()),
        ttls in prop::collection::vec(any::<[u8; 2]>(), 0..40),
        wire in prop::collection::vec(any::<u8>(), 0..700),
        (received, ttl, source_ttl) in (a_time(), a_time(), a_time()),
        (stale, ahead, ede) in (a_time(), a_time(), prop::option::of(any::<u16>())),
    ) {
        let (ttls, wire) = (ttls.into(), wire.into());
        let status = Status(status);
        check(&key, &Answer { status, counts, ttls, wire, sum, received, ttl, source_ttl, stale, ahead, ede })?;
    }

    /// Bytes that are no entry are no answer, and cause no panic.
    #[test]
    fn damaged_entries_are_refused(
        key in a_key(),
        record in a_record(),
        (cut, at, to) in (any::<usize>(), any::<usize>(), any::<u8>()),
        head in any::<bool>(),
    ) {
        let rules = TtlRules { min: 5, max: 86_400, negative_max: 3600, stale: 60, ahead: 10 };
        let message = response(&key, 0, &[vec![record], Vec::new(), Vec::new()]);
        let Ok(answer) = Answer::from_response(&message, &key, &rules, 7, false) else { return Ok(()) };
        let mut bytes = packed(&key, &answer);
        let len = bytes.len();
        bytes[at % if head { HEAD + LONG + 2 } else { len }] = to;
        bytes.truncate(cut % (len + 1));
        if let Some(entry) = Packed::first(&bytes) {
            drop((entry.answer(), entry.question(), entry.ends(), entry.tail(), entry.parts()));
        }
    }

    #[test]
    fn keys_are_equal_only_to_themselves(one in a_key(), other in a_key()) {
        let answer = Answer::error(rcode::NOERROR, None, 0, 60);
        let bytes = packed(&one, &answer);
        let entry = Packed::first(&bytes).unwrap();
        prop_assert_eq!(entry.is_of(&PackedKey::of(other.asked()).unwrap()), one == other);
    }
}

fn address(name: &str) -> (Key, Answer) {
    let key = names::key(&names::name(name).unwrap(), rtype::A, false, false).unwrap();
    let record = (vec![0xc0, 12], rtype::A, CLASS_IN, 300, vec![192, 0, 2, 1]);
    let message = response(&key, 0, &[vec![record], Vec::new(), Vec::new()]);
    let rules = TtlRules { min: 0, max: 86_400, negative_max: 3600, stale: 86_400, ahead: 10 };
    let answer = Answer::from_response(&message, &key, &rules, 1_000_000, false).unwrap();
    (key, answer)
}

#[test]
fn an_address_takes_28_bytes() {
    let (key, answer) = address("n000000.rb.example");
    assert_eq!(packed(&key, &answer).len(), 28);
    let failure = Answer::error(rcode::SERVFAIL, Some(22), 1_000_000, 5);
    assert_eq!(packed(&key, &failure).len(), 28, "no records, but their number, the status and a code");
    let (key, answer) = address("*.n00000.rb.example");
    assert_eq!(packed(&key, &answer).len(), 36, "a name in wire format");
}

/// The letters of one name are packed in the bytes that the other has in wire format.
#[test]
fn a_name_as_letters_is_not_the_one_in_wire_format_with_the_same_bytes() {
    let keys = ["ae7o20pbupoo", "*bcdefg"].map(|name| address(name).0);
    let [letters, plain] = keys.each_ref().map(|key| PackedKey::of(key.asked()).unwrap());
    assert_eq!(letters.bytes, plain.bytes);
    assert_ne!(letters.parts(), plain.parts());
    let answer = Answer::error(rcode::NOERROR, None, 0, 60);
    let bytes = packed(&keys[0], &answer);
    assert!(Packed(&bytes).is_of(&letters) && !Packed(&bytes).is_of(&plain));
}

/// Each address more takes the bytes of the address alone.
#[test]
fn addresses_take_no_more_than_their_data() {
    for (qtype, size) in [(rtype::A, 4), (rtype::AAAA, 16)] {
        let key = names::key(&names::name("www.example").unwrap(), qtype, false, false).unwrap();
        let record = (vec![0xc0, 12], qtype, CLASS_IN, 300, vec![7; size]);
        let len = |records: usize| {
            let message = response(&key, 0, &[vec![record.clone(); records], Vec::new(), Vec::new()]);
            let rules = TtlRules { min: 0, max: 86_400, negative_max: 3600, stale: 86_400, ahead: 10 };
            packed(&key, &Answer::from_response(&message, &key, &rules, 7, false).unwrap()).len()
        };
        assert_eq!(len(5), len(3) + 2 * size);
    }
}

/// A length that takes two bytes more, in entries around the end of those that take one.
#[test]
fn long_entries_are_what_was_packed() {
    let (key, _) = address("www.example");
    for size in (440..540).chain([65_000]) {
        let answer = Answer { wire: vec![7; size].into(), ..Answer::error(rcode::NOERROR, None, 7, 60) };
        check(&key, &answer).unwrap();
    }
    let len_of = |size: usize| {
        let answer = Answer { wire: vec![7; size].into(), ..Answer::error(rcode::NOERROR, None, 7, 60) };
        packed(&key, &answer).len()
    };
    let first = (440..540).find(|size| len_of(*size) > 510).unwrap();
    assert_eq!((len_of(first - 1), len_of(first)), (510, 514), "the length takes one byte up to here");
}

#[test]
fn demand_and_recheck_are_added_once_and_then_written_in_place() {
    let (key, answer) = address("www.example");
    let bytes = packed(&key, &answer);
    let mut tailed = with_tail(Packed(&bytes), Demand::new(7, 240), 90).unwrap();
    assert_eq!(tailed.len(), bytes.len() + TAIL);
    let entry = Packed::first(&tailed).unwrap();
    assert_eq!((entry.tail().0.get(240), entry.tail().1), (7, 90));
    assert_eq!(entry.answer(), Some(answer.clone()));
    assert!(set_tail(&mut tailed, Demand::new(8, 240), 91));
    let entry = Packed::first(&tailed).unwrap();
    assert_eq!((entry.tail().0.get(240), entry.tail().1), (8, 91));
    assert_eq!(with_tail(entry, Demand::new(9, 240), 92).map(|bytes| bytes.len()), Some(tailed.len()));
    assert!(!set_tail(&mut bytes.clone(), Demand::default(), 0), "there is no room");
}

#[test]
fn uses_are_counted_up_to_three() {
    let (key, answer) = address("www.example");
    let mut bytes = packed(&key, &answer);
    for wanted in [1, 2, 3, 3] {
        let frequency = Packed(&bytes).frequency();
        set_frequency(&mut bytes, frequency + 1);
        assert_eq!(Packed(&bytes).frequency(), wanted);
    }
    kill(&mut bytes);
    assert!(!Packed(&bytes).is_live() && Packed(&bytes).flags() == key.flags());
}
