//! Tests of inspection: it says what a lookup would find, and changes nothing.

use super::*;

proptest! {
    #[test]
    fn an_inspection_agrees_with_a_lookup_and_leaves_no_trace(
        names in proptest::collection::vec((0u32..40, 1u32..100), 1..60),
        now in 0u32..200,
    ) {
        let (mut seen, mut unseen) = (Fixture::new(1 << 20), Fixture::new(1 << 20));
        for (name, ttl) in &names {
            let name = format!("n{name}.example.com.");
            seen.insert(&name, 7, *ttl, 0);
            unseen.insert(&name, 7, *ttl, 0);
        }
        for name in 0..40 {
            let name = format!("n{name}.example.com.");
            let key = key(&name);
            let found = seen.cache.inspect(Group::DEFAULT, seen.hash.of(&key), &key, now);
            let expected = unseen.get(&name, now);
            prop_assert_eq!(found.is_some(), expected.is_some());
            if let (Some(found), Some((_, freshness))) = (found, expected) {
                let is_fresh = matches!(freshness, Freshness::Fresh { .. });
                prop_assert_eq!((now < found.expires, found.rcode), (is_fresh, rcode::NOERROR));
            }
            // The look has not claimed the refresh that an expired entry asks for.
            prop_assert_eq!(seen.get(&name, now), expected);
        }
    }
}

#[test]
fn what_a_purge_covers_is_told() {
    let mut f = Fixture::new(1 << 20);
    f.insert("example.com.", 7, 60, 0);
    f.insert("example.org.", 8, 60, 0);
    let look = |f: &Fixture, name: &str| {
        let key = key(name);
        f.cache.inspect(Group::DEFAULT, f.hash.of(&key), &key, 1).map(|found| found.is_purged)
    };
    assert_eq!(look(&f, "example.com."), Some(false));
    let name = key("example.com.").asked().name().to_vec();
    f.cache.purge(vec![Arc::new(Purge::Name(name))]);
    assert_eq!((look(&f, "example.com."), look(&f, "example.org.")), (Some(true), Some(false)));
    assert!(!f.has("example.com.", 1) && f.has("example.org.", 1));
    f.insert("example.com.", 7, 60, 1);
    assert_eq!(look(&f, "example.com."), Some(false));
}
