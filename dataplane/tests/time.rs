//! Tests of seconds at the ends of their range: no age is less than the real one, and no sum wraps
//! to give an answer that lives for ever.

use proptest::prelude::*;
use ringdns_dataplane::{
    cache::{Cache, Freshness, KeyedHash},
    clock::Secs,
    dns::{
        answer::{Answer, TtlRules},
        key::Key,
        query::Query,
        reply::Age,
    },
};

/// `www.example.`, type A.
const QUESTION: &[u8] = b"\x03www\x07example\x00\x00\x01\x00\x01";

fn key() -> Key {
    let mut query = Query::default();
    let header = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.parse(&[&header[..], QUESTION].concat()).unwrap();
    query.key
}

/// Returns a response with one address, whose TTL is `ttl` on the wire.
fn response(ttl: u32) -> Vec<u8> {
    let header = [0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    let record = [&[0xc0, 12, 0, 1, 0, 1][..], &ttl.to_be_bytes(), &[0, 4, 192, 0, 2, 1]].concat();
    [&header[..], QUESTION, &record].concat()
}

/// Small numbers, and numbers near those at which something could wrap.
fn number() -> impl Strategy<Value = u32> {
    let near = |at: u32| (0..4u32).prop_map(move |n| at.wrapping_add(n).wrapping_sub(2));
    prop_oneof![0..100_000u32, near(0), near(i32::MAX as u32), near(1 << 31), near(u32::MAX), any::<u32>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// RFC 2181 section 8: a TTL has 31 bits, and is zero if the top bit is set. It never exceeds
    /// the limits of the rules.
    #[test]
    fn ttls_are_what_they_may_be(ttl in number(), max in number(), now in number()) {
        let rules = TtlRules { min: 0, max, negative_max: 0, stale: 86_400, ahead: 10 };
        let answer = Answer::from_response(&response(ttl), &key(), &rules, now, false).unwrap();
        let meant = if ttl > i32::MAX as u32 { 0 } else { ttl };
        prop_assert_eq!(answer.ttl, meant.min(max));
        prop_assert!(answer.expires() >= now && answer.dead() >= answer.expires());
    }

    /// An answer is fresh only within its TTL and stale only within the time after it, and its age
    /// is right, compared with 64-bit arithmetic.
    #[test]
    fn no_sum_of_seconds_wraps(
        received in number(),
        ttl in number().prop_filter("what has no TTL is not kept", |ttl| *ttl > 0),
        stale in number(),
        later in number(),
    ) {
        let rules = TtlRules { min: 0, max: 1, negative_max: 0, stale, ahead: 10 };
        let mut answer = Answer::from_response(&response(1), &key(), &rules, received, false).unwrap();
        (answer.ttl, answer.ahead) = (ttl, ttl / 10);
        let now: Secs = received.saturating_add(later);
        let passed = u64::from(now - received);
        let (fresh, useful) = (passed < u64::from(ttl), passed < u64::from(ttl) + u64::from(stale));

        match answer.age(true, now, 30) {
            Age::Fresh(age) => prop_assert!(u64::from(age) == passed && (fresh || stale == 0)),
            Age::Stale(_) => prop_assert!(!fresh || now == Secs::MAX, "fresh after {passed} of {ttl} s"),
            Age::New(_) => prop_assert!(false, "it was known before"),
        }

        let mut cache = Cache::new(1 << 20, 1232, KeyedHash::with_seeds([1, 2, 3, 4])).unwrap();
        let hash = cache.hash().of(&key());
        cache.insert(&key(), &answer, received);
        let found = cache.lookup(hash, &key(), now).map(|hit| hit.freshness);
        match found {
            Some(Freshness::Fresh { age, .. }) => prop_assert!(fresh && u64::from(age) == passed),
            Some(Freshness::Stale { .. }) => prop_assert!(useful && (!fresh || now == Secs::MAX)),
            // The time after expiry is stored in units of some seconds, rounded down, and has a
            // limit.
            None => prop_assert!(!fresh || received == Secs::MAX || now == Secs::MAX, "{passed} of {ttl} s"),
        }
        cache.sweep(8, now);
        let kept = cache.lookup(hash, &key(), now).is_some();
        prop_assert_eq!(kept, found.is_some(), "the sweep and the lookup do not agree");
    }
}
