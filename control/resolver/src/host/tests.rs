use super::*;
use ringdns_common::names;
use ringdns_dataplane::dns::rcode;

fn key(name: &str, qtype: u16) -> Key {
    names::key(&names::name(name).unwrap(), qtype, false, false).unwrap()
}

fn answer(ttl: Secs, stale: Secs) -> Arc<Answer> {
    Arc::new(Answer { stale, ..Answer::error(rcode::NOERROR, None, 0, ttl) })
}

fn tier(bytes: u64) -> HostTier {
    HostTier::new(bytes, Arc::default())
}

fn holds(tier: &HostTier, name: &str) -> bool {
    tier.peek(&key(name, 1)).is_some()
}

#[test]
fn an_entry_is_fresh_then_stale_then_gone() {
    let tier = tier(1 << 20);
    let key = key("www.example.com", 1);
    assert!(tier.insert(&key, answer(10, 5), 0));
    assert!(matches!(tier.get(&key, 9), Found::Fresh(_)));
    assert!(matches!(tier.get(&key, 10), Found::Stale(_)));
    assert!(matches!(tier.get(&key, 14), Found::Stale(_)));
    assert!(matches!(tier.get(&key, 15), Found::Missing));
    let c = &tier.counters;
    assert_eq!([c.fresh.get(), c.stale.get(), c.missing.get(), c.inserted.get()], [1, 2, 1, 1]);
}

#[test]
fn types_and_flags_are_kept_apart() {
    let tier = tier(1 << 20);
    tier.insert(&key("example.com", 1), answer(10, 0), 0);
    let name = names::name("example.com").unwrap();
    assert!(tier.peek(&names::key(&name, 28, false, false).unwrap()).is_none());
    assert!(tier.peek(&names::key(&name, 1, true, false).unwrap()).is_none());
    assert!(tier.peek(&names::key(&name, 1, false, true).unwrap()).is_none());
    assert!(tier.peek(&names::key(&name, 1, false, false).unwrap()).is_some());
}

#[test]
fn what_must_not_be_kept_is_not() {
    let tier = tier(1 << 20);
    assert!(!tier.insert(&key("example.com", 1), answer(0, 100), 0));
    assert!(tier.is_empty());
}

#[test]
fn purges_cover_a_name_a_subtree_or_everything() {
    let fill = || {
        let tier = tier(1 << 20);
        for name in ["example.com", "www.example.com", "notexample.com", "com", "."] {
            tier.insert(&key(name, 1), answer(10, 0), tier.generation());
        }
        tier.insert(&key("example.com", 28), answer(10, 0), tier.generation());
        tier
    };
    let example = names::name("example.com").unwrap();

    let tier = fill();
    assert_eq!(tier.purge(&Purge::Name(example.clone())), 2);
    assert!(!holds(&tier, "example.com") && holds(&tier, "www.example.com"));

    let tier = fill();
    assert_eq!(tier.purge(&Purge::Suffix(example)), 3);
    assert!(!holds(&tier, "www.example.com") && holds(&tier, "notexample.com") && holds(&tier, "com"));

    let tier = fill();
    assert_eq!(tier.purge(&Purge::Suffix(vec![0])), 6, "everything is below the root");

    let tier = fill();
    assert_eq!(tier.purge(&Purge::All), 6);
    assert_eq!((tier.len(), tier.counters.purged.get()), (0, 6));
}

#[test]
fn several_purges_cover_what_each_of_them_covers() {
    let tier = tier(1 << 20);
    let names = ["a.example", "b.a.example", "c.example", "d.c.example", "e.d.c.example", "xc.example"];
    names.iter().for_each(|name| assert!(tier.insert(&key(name, 1), answer(10, 0), 0)));
    let wire = |name| names::name(name).unwrap();
    let purges = [Purge::Name(wire("a.example")), Purge::Suffix(wire("c.example"))].map(Arc::new);
    assert_eq!(tier.purge_each(&purges), 4);
    assert!(holds(&tier, "b.a.example") && holds(&tier, "xc.example"));
}

/// An answer that is being resolved while another name is purged is none that the purge is about.
#[test]
fn an_answer_under_way_is_stored_though_another_name_is_purged() {
    let tier = tier(1 << 20);
    let began = tier.generation();
    tier.purge(&Purge::Name(names::name("never.asked").unwrap()));
    assert!(tier.insert(&key("example.com", 1), answer(10, 0), began));
    tier.purge(&Purge::Suffix(names::name("com").unwrap()));
    assert!(!tier.insert(&key("example.com", 1), answer(10, 0), began));
}

/// An answer that was being resolved when the purge came may be the very one to be purged.
#[test]
fn an_answer_under_way_during_a_purge_is_not_stored() {
    let tier = tier(1 << 20);
    let began = tier.generation();
    tier.purge(&Purge::All);
    assert!(!tier.insert(&key("example.com", 1), answer(10, 0), began));
    assert_eq!((tier.len(), tier.counters.outdated.get()), (0, 1));
    assert!(tier.insert(&key("example.com", 1), answer(10, 0), tier.generation()));
}

/// A worker that reads the generation and then an entry which the purge has not removed yet must
/// not end up with a current generation; and one that inserts at that moment must be refused.
#[test]
fn the_generation_rises_before_and_after_entries_are_removed() {
    let tier = tier(1 << 20);
    tier.insert(&key("example.com", 1), answer(10, 0), 0);
    let before = tier.generation();
    let during = std::cell::Cell::new(0);
    let covered = |_: &[u8]| {
        during.set(tier.generation());
        true
    };
    tier.purge_where(&[Arc::new(Purge::All)], covered, |_| false);
    assert!(before < during.get() && during.get() < tier.generation());
}

#[test]
fn memory_is_bounded_and_what_is_asked_for_stays() {
    let bytes = 1 << 20;
    let tier = tier(bytes);
    let popular = key("popular.example", 1);
    tier.insert(&popular, answer(1000, 0), 0);
    for i in 0..60_000 {
        tier.insert(&key(&format!("random-{i}.example"), 1), answer(1000, 0), 0);
        tier.get(&popular, 1);
        assert!(tier.bytes().0 <= bytes);
    }
    assert!(tier.counters.evicted.get() > 10_000);
    assert!(matches!(tier.get(&popular, 1), Found::Fresh(_)), "a flood of names pushed out a popular one");
}

#[test]
fn a_failed_refresh_is_put_off() {
    let tier = tier(1 << 20);
    let key = key("example.com", 1);
    tier.insert(&key, answer(10, 1000), 0);
    let Found::Stale(entry) = tier.get(&key, 20) else { panic!("not stale") };
    assert!(entry.recheck_due(20));
    tier.put_off(&key, 50);
    let Found::Stale(entry) = tier.get(&key, 49) else { panic!("not stale") };
    assert!(!entry.recheck_due(49) && entry.recheck_due(50));
}

fn denial(ttl: Secs, aliases: u16) -> Arc<Answer> {
    let denial = Answer::error(rcode::NXDOMAIN, None, 0, ttl);
    Arc::new(Answer { counts: [aliases, 1, 0], ..denial })
}

fn found(tier: &HostTier, name: &str, qtype: u16, now: Secs) -> Option<u8> {
    match tier.get(&key(name, qtype), now) {
        Found::Fresh(answer) => Some(answer.status.rcode()),
        _ => None,
    }
}

/// RFC 2308 section 5: an NXDOMAIN is kept for the name and the class, whatever the type.
#[test]
fn nxdomain_holds_for_every_type_of_the_name_alone() {
    const DS: u16 = 43;
    let tier = tier(1 << 20);
    tier.insert(&key("gone.example", 1), denial(10, 0), 0);
    for qtype in [1, 28, 16, 65] {
        assert_eq!(found(&tier, "gone.example", qtype, 9), Some(rcode::NXDOMAIN), "{qtype}");
        assert_eq!(found(&tier, "gone.example", qtype, 10), None, "{qtype}");
        assert_eq!(found(&tier, "www.gone.example", qtype, 9), None);
    }
    assert_eq!(tier.counters.absent.get(), 3, "the type that was asked has an entry of its own");
    assert_eq!(found(&tier, "gone.example", DS, 9), None, "the parent answers for DS");
    let dnssec = names::key(&names::name("gone.example").unwrap(), 28, true, false).unwrap();
    assert!(matches!(tier.get(&dnssec, 9), Found::Missing), "without the proof");

    tier.insert(&key("alias.example", 1), denial(10, 1), 0);
    assert_eq!(found(&tier, "alias.example", 28, 9), None, "the alias exists (RFC 6604)");
    tier.insert(&key("cut.example", DS), denial(10, 0), 0);
    assert_eq!(found(&tier, "cut.example", 1, 9), None);

    // An answer to another type shows that the name exists.
    tier.insert(&key("gone.example", 16), answer(10, 0), 0);
    assert_eq!(found(&tier, "gone.example", 28, 9), None);
    // A type that has an answer keeps it.
    tier.insert(&key("half.example", 1), answer(10, 0), 0);
    tier.insert(&key("half.example", 28), denial(10, 0), 0);
    assert_eq!(found(&tier, "half.example", 1, 9), Some(rcode::NOERROR));
    assert_eq!(found(&tier, "half.example", 16, 9), Some(rcode::NXDOMAIN));
}

#[test]
fn purges_cover_names_that_do_not_exist() {
    for purge in [Purge::All, Purge::Name(names::name("gone.example").unwrap()), Purge::Suffix(vec![0])] {
        let tier = tier(1 << 20);
        tier.insert(&key("gone.example", 1), denial(10, 0), 0);
        assert_eq!(found(&tier, "gone.example", 28, 1), Some(rcode::NXDOMAIN));
        tier.purge(&purge);
        assert_eq!(found(&tier, "gone.example", 28, 1), None, "{purge:?}");
    }
}

#[test]
fn absent_names_stay_within_the_bytes_of_the_store() {
    let tier = tier(1 << 20);
    for n in 0..20_000 {
        tier.insert(&key(&format!("gone{n}.example"), 1), denial(10, 0), 0);
    }
    let (used, most) = tier.bytes();
    assert!(most == 1 << 20 && used <= most, "{used} of {most}");
}
