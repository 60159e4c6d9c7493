//! Arbitrary bytes as a value or a member of the index in Redis: each is refused, or comes back byte
//! for byte; what an answer is stored as is read again.
//!
//! The first byte says how the rest is used. Checksums are made to fit, unless it says otherwise.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringdns_common::{message::grow_older, names};
use ringdns_dataplane::dns::{
    answer::{Answer, TtlRules},
    key::Key,
};
use ringdns_fleet::fuzzing::value::{StoredValue, Unfit, key, member, name};
use siphasher::sip::SipHasher13;
use std::{hash::Hasher, sync::LazyLock};

const TTL: TtlRules = TtlRules { min: 0, max: 86_400, negative_max: 3_600, stale: 60, ahead: 0 };
const HEAD: usize = 56;
const SUM: usize = HEAD - 8;
const NOW: u64 = 1_800_000_000;

static KEY: LazyLock<Key> = LazyLock::new(|| {
    let name = names::name("www.example").expect("it is a name");
    names::key(&name, 1, true, false).expect("a question")
});

/// Makes the checksum of a value fit.
fn seal(name: &str, value: &mut [u8]) {
    if let Some((head, message)) = value.split_first_chunk_mut::<HEAD>() {
        let mut hasher = SipHasher13::new();
        [name.as_bytes(), &head[..SUM], message].into_iter().for_each(|part| hasher.write(part));
        head[SUM..].copy_from_slice(&hasher.finish().to_be_bytes());
    }
}

fn check_value(bytes: &[u8], now: u64, left: u64) {
    let name = name("ringdns", KEY.asked());
    let value = match StoredValue::parse(&name, bytes) {
        Ok(value) => value,
        Err(Unfit::Foreign | Unfit::Damaged) => return,
    };
    // All bytes count, except those of an extended error that is not there.
    let again = value.bytes(&name);
    assert_eq!(StoredValue::parse(&name, &again).as_ref(), Ok(&value));
    assert!(value.ede.is_none() || again == bytes, "read otherwise than written");
    assert!(StoredValue::parse("another name", bytes).is_err(), "a value of another question");

    let ages = value.age(now, left);
    assert!(ages.most() >= ages.by_hosts && ages.most() >= ages.by_redis);
    let bounded = value.clone().bounded(left);
    assert!(bounded.lifetime() <= left && bounded.ttl <= value.ttl && bounded.grace <= value.grace);

    let mut message = value.message.clone();
    let fresh = Answer::from_response(&message, &KEY, &TTL, 0, false);
    if grow_older(&mut message, KEY.asked(), ages.most()).is_none() {
        return;
    }
    assert_eq!(message.len(), value.message.len());
    if let (Ok(fresh), Ok(older)) = (fresh, Answer::from_response(&message, &KEY, &TTL, 0, false)) {
        assert!(older.ttl <= fresh.ttl, "it became younger");
    }
}

/// Checks that an answer survives the way through Redis.
fn check_answer(response: &[u8], received: u64) {
    let Ok(answer) = Answer::from_response(response, &KEY, &TTL, 0, false) else { return };
    let name = name("ringdns", KEY.asked());
    let value = StoredValue::new(KEY.asked(), &answer, received, Some(NOW), 7);
    let read = StoredValue::parse(&name, &value.bytes(&name)).expect("what was written");
    assert_eq!(read, value);
    assert!(read.first_seen <= received);
    let again = Answer::from_response(&read.message, &KEY, &TTL, 0, false).expect("the answer");
    assert_eq!((again.wire, again.counts, again.ttl), (answer.wire, answer.counts, answer.ttl));
}

fn check_member(text: &str) {
    if let Some(key) = key(text) {
        assert_eq!(member(key.asked()), text, "two members of one question");
    }
}

fuzz_target!(|data: &[u8]| {
    let [how, bytes @ ..] = data else { return };
    let left = u64::from(*how) << 12;
    match how % 4 {
        0 => check_value(bytes, NOW, left),
        1 => {
            let mut value = bytes.to_vec();
            seal(&name("ringdns", KEY.asked()), &mut value);
            check_value(&value, NOW, left);
        }
        2 => check_answer(bytes, NOW.saturating_add(left)),
        _ => check_member(&String::from_utf8_lossy(bytes)),
    }
});
