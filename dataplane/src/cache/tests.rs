//! Tests: compare the cache with a plain map, and check its promises.

use super::*;
use crate::{
    dns::{
        answer::{Answer, TtlRules},
        rcode, testing,
    },
    purge::Purge,
    simd::{BLOCK, Portable},
};
use hickory_proto::rr::RecordType;
use proptest::prelude::*;
use std::{collections::HashMap, sync::Arc};

mod groups;
mod inspect;
mod memory;
mod verdicts;

const HASH: fn() -> KeyedHash =
    || KeyedHash::with_seeds([0x1234_5678_9abc_def1, 2, 3, 0xfeed_face_cafe_beef]);

fn key(name: &str) -> Key {
    testing::parsed(&testing::query(name, RecordType::A)).key
}

/// Returns an answer with one address that contains `number`.
fn answer(name: &str, number: u32, ttl: u32, now: Secs) -> Answer {
    let query = testing::query(name, RecordType::A);
    let response = testing::addresses(&query, ttl, &[number.to_be_bytes()]);
    testing::answer(&response, now)
}

struct Fixture {
    cache: Cache,
    hash: KeyedHash,
}

impl Fixture {
    fn new(bytes: usize) -> Self {
        Fixture { cache: Cache::new(bytes, 1232, HASH()).unwrap(), hash: HASH() }
    }

    fn insert(&mut self, name: &str, number: u32, ttl: u32, now: Secs) {
        let key = key(name);
        self.cache.insert(&key, &answer(name, number, ttl, now), now);
    }

    /// Looks up a name. Returns its number and its freshness.
    fn get(&mut self, name: &str, now: Secs) -> Option<(u32, Freshness)> {
        let key = key(name);
        let hit = self.cache.lookup(self.hash.of(&key), &key, now)?;
        let number = u32::from_be_bytes(*hit.view.wire.last_chunk::<4>().unwrap());
        assert!(hit.view.ede.is_none_or(|ede| u32::from(ede) == number), "{:?} of {number}", hit.view.ede);
        Some((number, hit.freshness))
    }

    fn has(&mut self, name: &str, now: Secs) -> bool {
        self.get(name, now).is_some()
    }
}

#[test]
fn entries_are_fresh_then_stale_then_gone() {
    let mut f = Fixture::new(1 << 20);
    f.insert("example.com.", 7, 60, 100);
    assert_eq!(f.get("example.com.", 100), Some((7, Freshness::Fresh { age: 0, renew: false })));
    assert_eq!(f.get("EXAMPLE.com.", 159), Some((7, Freshness::Fresh { age: 59, renew: false })));
    assert_eq!(f.get("example.com.", 160), Some((7, Freshness::Stale { refresh: true })));
    assert_eq!(f.get("example.com.", 3759), Some((7, Freshness::Stale { refresh: true })));
    assert_eq!(f.get("example.com.", 3760), None);
    assert_eq!(f.get("example.org.", 100), None);
}

#[test]
fn a_stale_entry_asks_for_renewal_once_in_a_while() {
    let mut f = Fixture::new(1 << 20);
    f.insert("example.com.", 7, 60, 0);
    let mut asked = Vec::new();
    for now in 60..200 {
        if let Some((_, Freshness::Stale { refresh: true })) = f.get("example.com.", now) {
            asked.push(now);
        }
    }
    assert_eq!(asked, [60, 90, 120, 150, 180]);
    // An answer that another worker fetched before this one's last request is accepted too.
    f.insert("example.com.", 8, 60, 170);
    assert_eq!(f.get("example.com.", 200), Some((8, Freshness::Fresh { age: 30, renew: false })));
}

/// Such an answer was stored by another appliance and read in the first second of this process.
#[test]
fn an_answer_may_be_due_for_longer_than_there_has_been_time() {
    let mut f = Fixture::new(1 << 20);
    let key = key("example.com.");
    f.cache.insert(&key, &Answer { ahead: 10, ..answer("example.com.", 7, 1, 0) }, 0);
    assert!(matches!(f.get("example.com.", 0), Some((7, Freshness::Fresh { age: 0, .. }))));
}

/// Returns the names that a whole pass of the sweep notes.
fn noted(f: &mut Fixture, now: Secs, room: bool) -> Vec<String> {
    let mut noted = Vec::new();
    let entries = f.cache.occupancy().entries as u32;
    // Each slab starts over with the step after its last entry.
    f.cache.sweep_noting(2 * entries + 2, now, |asked| {
        let mut name = String::new();
        crate::dns::key::display_name(asked.name(), &mut name).unwrap();
        noted.push(name);
        room
    });
    noted.sort();
    noted.dedup();
    noted
}

#[test]
fn a_sweep_notes_what_was_asked_for_since_the_last() {
    let mut f = Fixture::new(1 << 20);
    for (name, times) in
        [("three.example.", 3), ("nine.example.", 9), ("two.example.", 2), ("none.example.", 0)]
    {
        f.insert(name, 7, 600, 0);
        (0..times).for_each(|_| assert!(f.has(name, 1)));
    }
    f.insert("expired.example.", 7, 5, 0);
    (0..3).for_each(|_| assert!(f.has("expired.example.", 1)));
    let both = ["nine.example.", "three.example."];
    assert_eq!(noted(&mut f, 10, false), both, "nobody could take it");
    assert_eq!(noted(&mut f, 10, true), both);
    assert!(noted(&mut f, 70, true).is_empty(), "nobody has asked since");
    assert!(f.has("three.example.", 80));
    assert_eq!(noted(&mut f, 90, true), ["three.example."], "once is enough");
    // A noted entry is as worth keeping as before.
    let key = key("nine.example.");
    let entry = f.cache.find(Group::DEFAULT, f.hash.of(&key), &key).unwrap();
    assert!(EntryHeader::at(f.cache.slab.bytes(), position(entry)).0.frequency() > 0);
}

#[test]
fn what_is_renewed_unasked_takes_the_place_of_an_entry_or_none() {
    let mut f = Fixture::new(1 << 20);
    f.insert("known.example.", 7, 60, 0);
    let mut renew = |name: &str, now| {
        let key = key(name);
        f.cache.renew(&Scope::ALL, &key, &answer(name, 8, 60, now), now)
    };
    assert!(renew("known.example.", 50) && !renew("unknown.example.", 50));
    assert_eq!(f.get("known.example.", 100), Some((8, Freshness::Fresh { age: 50, renew: false })));
    assert!(!f.has("unknown.example.", 50));
}

/// Inserts an entry of 100 s that may be renewed in its last ten seconds; a power of two is used,
/// so eight.
fn due_soon(f: &mut Fixture, number: u32, now: Secs) {
    let key = key("example.com.");
    let answer = Answer { ahead: 10, ..answer("example.com.", number, 100, now) };
    f.cache.insert(&key, &answer, now);
}

#[test]
fn what_is_asked_for_often_wants_renewal_before_it_expires() {
    let mut f = Fixture::new(1 << 20);
    due_soon(&mut f, 7, 0);
    for now in 0..92 {
        assert_eq!(f.get("example.com.", now), Some((7, Freshness::Fresh { age: now, renew: false })));
    }
    assert_eq!(f.get("example.com.", 92), Some((7, Freshness::Fresh { age: 92, renew: true })));
    assert_eq!(f.get("example.com.", 93), Some((7, Freshness::Fresh { age: 93, renew: false })), "once");
    // A glance is enough again.
    let key = key("example.com.");
    let spot = f.cache.seek(f.hash.of(&key));
    let entry = f.cache.candidate(spot).unwrap();
    assert_eq!(EntryHeader::at(f.cache.slab.bytes(), position(entry)).0.glance(), 100);
    assert_eq!(f.get("example.com.", 99), Some((7, Freshness::Fresh { age: 99, renew: false })));
    assert_eq!(f.get("example.com.", 100), Some((7, Freshness::Stale { refresh: true })));

    // After its renewal, it must be requested again to be renewed again.
    due_soon(&mut f, 8, 94);
    assert_eq!(f.get("example.com.", 187), Some((8, Freshness::Fresh { age: 93, renew: false })));
    due_soon(&mut f, 9, 188);
    assert_eq!(f.get("example.com.", 200), Some((9, Freshness::Fresh { age: 12, renew: false })));
    assert_eq!(f.get("example.com.", 285), Some((9, Freshness::Fresh { age: 97, renew: true })));
}

/// As where hashes collide: the candidate is the entry of another question.
#[test]
fn a_glance_compares_all_of_a_question() {
    let mut f = Fixture::new(1 << 20);
    let long = |end: &str| key(&format!("a-name-that-is-longer-than-a-block.{end}.example."));
    let stored = long("first");
    f.insert("a-name-that-is-longer-than-a-block.first.example.", 7, 60, 100);
    let entry = f.cache.candidate(f.cache.seek(f.hash.of(&stored))).unwrap();
    let filed = f.cache.filed(stored.flags());
    let mut is_found = |asked: &Key| {
        let [block, beyond] = asked.blocks() else { panic!("a question of two blocks") };
        let beyond = (beyond, asked.question().len() - BLOCK);
        f.cache.get_fresh(Portable, entry, filed, (block, BLOCK), beyond, 100).is_some()
    };
    assert!(is_found(&stored));
    assert!(!is_found(&long("other")), "the second block is another");
    assert!(!is_found(&key("b-name-that-is-longer-than-a-block.first.example.")), "the first is");
}

#[test]
fn what_is_hardly_asked_for_expires_as_it_should() {
    let mut f = Fixture::new(1 << 20);
    due_soon(&mut f, 7, 0);
    assert_eq!(f.get("example.com.", 95), Some((7, Freshness::Fresh { age: 95, renew: false })));
    assert_eq!(f.get("example.com.", 99), Some((7, Freshness::Fresh { age: 99, renew: false })));
    assert_eq!(f.get("example.com.", 100), Some((7, Freshness::Stale { refresh: true })));
    // Not requested in its last seconds.
    due_soon(&mut f, 8, 1000);
    assert_eq!(f.get("example.com.", 1100), Some((8, Freshness::Stale { refresh: true })));
    assert_eq!(f.get("example.com.", 1100 + 3599), Some((8, Freshness::Stale { refresh: true })));
    assert_eq!(f.get("example.com.", 1100 + 3600), None);
}

#[test]
fn an_older_answer_does_not_replace_a_newer_one() {
    let mut f = Fixture::new(1 << 20);
    f.insert("example.com.", 1, 60, 100);
    f.insert("example.com.", 2, 60, 90);
    assert_eq!(f.get("example.com.", 100).unwrap().0, 1);
    f.insert("example.com.", 3, 10, 101);
    assert_eq!(f.get("example.com.", 101).unwrap().0, 3, "newer, though shorter-lived");
    assert_eq!(f.cache.occupancy().entries, 1);
}

fn purge_of(name: &str) -> [Arc<Purge>; 1] {
    [Arc::new(Purge::Name(key(name).asked().name().to_vec()))]
}

#[test]
fn a_purge_takes_what_it_covers_and_leaves_the_rest() {
    let mut f = Fixture::new(1 << 20);
    (0..100).for_each(|n| f.insert(&format!("n{n}.example."), n, 1_000_000, 0));
    f.cache.purge(purge_of("never.asked."));
    assert!((0..100).all(|n| f.has(&format!("n{n}.example."), 0)));
    f.cache.purge(purge_of("N7.example."));
    let suffix = Purge::Suffix(key("n8.example.").asked().name().to_vec());
    f.insert("below.n8.example.", 108, 1_000_000, 0);
    f.cache.purge([Arc::new(suffix), purge_of("n9.example.")[0].clone()]);
    f.insert("n9.example.", 109, 1_000_000, 0);
    f.cache.sweep(1000, 0);
    for n in 0..100 {
        assert_eq!(f.has(&format!("n{n}.example."), 0), !(7..=8).contains(&n), "{n}");
    }
    assert!(!f.has("below.n8.example.", 0));
    assert_eq!((f.cache.occupancy().entries, f.cache.churn().expired), (98, 3));
}

/// Numbers of generations wrap, and the sweep keeps ahead of that.
#[test]
fn thousands_of_purges_leave_other_names_while_the_sweep_goes_on() {
    let mut f = Fixture::new(1 << 20);
    f.insert("kept.example.", 1, 1_000_000, 0);
    for round in 0..5000u32 {
        let name = format!("n{round}.example.");
        f.insert(&name, round, 1_000_000, 0);
        f.cache.purge(purge_of(&name));
        assert!(!f.has(&name, 0) && !f.has(&format!("n{}.example.", round.saturating_sub(256)), 0));
        if f.cache.is_behind() {
            f.cache.sweep(1000, 0);
            assert!(!f.cache.is_behind());
        }
    }
    assert!(f.has("kept.example.", 0));
    (0..300).for_each(|_| f.cache.purge(purge_of("never.asked.")));
    assert!(!f.has("kept.example.", 0), "without a sweep, the cache starts over");
}

#[test]
fn a_purge_leaves_nothing_even_after_256_of_them() {
    let mut f = Fixture::new(1 << 20);
    for round in 0..600u32 {
        let name = format!("n{round}.example.");
        f.insert(&name, round, 1_000_000, 0);
        assert!(f.has(&name, 0));
        f.cache.purge([Arc::new(Purge::All)]);
        for old in round.saturating_sub(300)..=round {
            assert!(!f.has(&format!("n{old}.example."), 0), "n{old} lives after purge {round}");
        }
    }
}

/// RFC 1035 section 3.2.1: a TTL of zero is for the transaction alone, and the older answer is no
/// longer true.
#[test]
fn a_newer_answer_with_a_ttl_of_zero_removes_the_old_one() {
    let mut f = Fixture::new(1 << 20);
    f.insert("example.com.", 7, 10, 100);
    f.insert("example.com.", 8, 0, 100);
    assert!(f.has("example.com.", 109), "it is not newer");
    let key = key("example.com.");
    let failure = Answer::error(rcode::SERVFAIL, None, 120, 0);
    f.cache.insert(&key, &failure, 120);
    assert!(f.has("example.com.", 120), "expired, but better than a failure");
    f.insert("example.com.", 8, 0, 120);
    assert!(!f.has("example.com.", 120));
    f.insert("example.com.", 9, 0, 121);
    assert_eq!((f.cache.occupancy().entries, f.cache.churn().expired), (0, 1));
}

#[test]
fn expired_entries_leave_without_being_asked_for() {
    let mut f = Fixture::new(1 << 20);
    for n in 0..1000 {
        f.insert(&format!("short{n}.example."), n, 10, 0);
        f.insert(&format!("long{n}.example."), n, 100_000, 0);
    }
    let full = f.cache.occupancy();
    assert_eq!(full.entries, 2000);
    for _ in 0..400 {
        f.cache.sweep(32, 10 + 3599);
    }
    assert_eq!(f.cache.occupancy(), full, "what may still be given stays");
    for _ in 0..400 {
        f.cache.sweep(32, 10 + 3600);
    }
    let swept = f.cache.occupancy();
    assert_eq!(swept.entries, 1000);
    assert!(swept.used < full.used * 7 / 10, "their room is free again: {swept:?} of {full:?}");
    assert_eq!(f.cache.churn().expired, 1000);
    assert!((0..1000).all(|n| f.has(&format!("long{n}.example."), 3610)));
}

#[test]
fn too_large_for_udp_is_kept_as_a_word() {
    let query = testing::query("big.example.", RecordType::A);
    let many: Vec<[u8; 4]> = (0..100).map(|n| [192, 0, 2, n]).collect();
    let answer = testing::answer(&testing::addresses(&query, 60, &many), 0);
    let mut f = Fixture::new(1 << 20);
    let key = key("big.example.");
    let hash = f.hash.of(&key);
    f.cache.insert(&key, &answer, 0);
    let hit = f.cache.lookup(hash, &key, 0).unwrap();
    assert!(hit.view.status.is_truncated() && hit.view.wire.is_empty());
}

#[test]
fn failures_are_kept_and_not_beyond_their_time() {
    let mut f = Fixture::new(1 << 20);
    let key = key("down.example.");
    let hash = f.hash.of(&key);
    f.cache.insert(&key, &Answer::error(rcode::SERVFAIL, None, 0, 5), 0);
    assert_eq!(f.cache.lookup(hash, &key, 4).unwrap().view.status.rcode(), rcode::SERVFAIL);
    assert!(f.cache.lookup(hash, &key, 5).is_none());
    f.cache.insert(&key, &Answer::error(rcode::SERVFAIL, None, 0, 0), 0);
    assert!(f.cache.lookup(hash, &key, 5).is_none(), "a TTL of zero is not kept");
}

#[test]
fn what_is_asked_once_never_pushes_out_what_is_asked_often() {
    let mut f = Fixture::new(1 << 20);
    let hot: Vec<String> = (0..2000).map(|n| format!("hot{n}.example.")).collect();
    for name in &hot {
        f.insert(name, 1, 100_000, 0);
        f.get(name, 0);
    }
    for flood in 0..100_000 {
        let name = &hot[flood % hot.len()];
        assert!(f.has(name, 0), "{name} was pushed out after {flood} others");
        f.insert(&format!("random{flood}.example."), 2, 100_000, 0);
    }
}

#[test]
fn short_addresses_fit_the_promised_budget() {
    let mut f = Fixture::new(2_500_000);
    for n in 0..10_000 {
        f.insert(&format!("www.host{n}.example.com."), n, 100_000, 0);
    }
    let occupancy = f.cache.occupancy();
    assert!(occupancy.capacity <= 2_500_000);
    assert_eq!(f.cache.churn().evicted, 0);
    // The index takes some 12 more.
    let overhead = occupancy.used / 10_000 + 12 - (26 + 16);
    assert!(overhead <= 40, "{overhead} bytes an entry beyond its name and records");
}

#[test]
fn a_full_index_gives_up_the_least_wanted() {
    // Entries of the smallest size fill the index before the slabs.
    let mut f = Fixture::new(BYTES_MIN);
    for n in 0..20_000u32 {
        let name = format!("{:x}.", n);
        let key = key(&name);
        f.cache.insert(&key, &Answer::error(rcode::NXDOMAIN, None, 0, 1000), 0);
    }
    let occupancy = f.cache.occupancy();
    assert!(occupancy.entries > 2000 && occupancy.used <= occupancy.capacity);
    assert_eq!(f.cache.churn().inserted, f.cache.churn().evicted + occupancy.entries);
}

#[derive(Clone, Debug)]
enum Step {
    Insert { name: u8, ttl: u8 },
    Get { name: u8 },
    Pass { seconds: u8 },
    Sweep { steps: u8 },
    PurgeName { name: u8 },
    Purge,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<u8>(), 1u8..).prop_map(|(name, ttl)| Step::Insert { name, ttl }),
        12 => any::<u8>().prop_map(|name| Step::Get { name }),
        2 => any::<u8>().prop_map(|seconds| Step::Pass { seconds }),
        3 => any::<u8>().prop_map(|steps| Step::Sweep { steps }),
        1 => any::<u8>().prop_map(|name| Step::PurgeName { name }),
        1 => Just(Step::Purge),
    ]
}

fn run_model(bytes: usize, pad: &str, steps: Vec<Step>, may_evict: bool) -> Result<(), TestCaseError> {
    let rules = TtlRules { stale: 20, ..testing::RULES };
    let mut f = Fixture::new(bytes);
    let mut model: HashMap<u8, (u32, Secs, Secs)> = HashMap::new();
    let (mut now, mut number) = (0, 0u32);
    for step in steps {
        match step {
            Step::Insert { name, ttl } => {
                number += 1;
                let key = key(&format!("n{name}.{pad}"));
                let ttl = Secs::from(ttl);
                let old = model.get(&name);
                // One in three has an INFO-CODE, which also holds its number: see `get`.
                let answer = Answer {
                    stale: rules.stale,
                    ede: number.is_multiple_of(3).then_some(number as u16),
                    ..answer(&format!("n{name}.{pad}"), number, ttl, now)
                };
                f.cache.insert(&key, &answer, now);
                let kept =
                    old.is_some_and(|(_, received, expires)| *received >= now && *expires >= now + ttl);
                if !kept {
                    model.insert(name, (number, now, now + ttl));
                }
            }
            Step::Get { name } => {
                let found = f.get(&format!("n{name}.{pad}"), now);
                let known = model.get_mut(&name).filter(|(.., expires)| now < *expires + rules.stale);
                match (found, known) {
                    (None, known) => prop_assert!(known.is_none() || may_evict, "lost n{}", name),
                    (Some(found), None) => prop_assert!(false, "n{} is there: {:?}", name, found),
                    (Some((number, freshness)), Some((expected, received, expires))) => {
                        prop_assert_eq!(number, *expected);
                        let fresh = matches!(freshness, Freshness::Fresh { .. });
                        prop_assert_eq!(fresh, now < *expires);
                        if let Freshness::Stale { refresh: true } = freshness {
                            *received = now;
                        }
                    }
                }
            }
            Step::Pass { seconds } => now += Secs::from(seconds) / 4,
            Step::Sweep { steps } => f.cache.sweep(u32::from(steps), now),
            Step::PurgeName { name } => {
                f.cache.purge(purge_of(&format!("n{name}.{pad}")));
                model.remove(&name);
            }
            Step::Purge => {
                f.cache.purge([Arc::new(Purge::All)]);
                model.clear();
            }
        }
        let occupancy = f.cache.occupancy();
        prop_assert!(occupancy.removed <= occupancy.used && occupancy.used <= occupancy.capacity);
        let churn = f.cache.churn();
        prop_assert!(churn.inserted >= churn.evicted + churn.expired + occupancy.entries);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// With room for all entries, the cache equals the map.
    #[test]
    fn is_a_map_with_time(steps in prop::collection::vec(step(), 1..600)) {
        run_model(1 << 20, "example.com.", steps, false)?;
    }

    /// Without room for all entries, the cache never returns a wrong answer, and the sums close.
    #[test]
    fn forgets_but_never_lies(steps in prop::collection::vec(step(), 1..2000)) {
        let pad = "padding-that-makes-names-long-so-that-few-fit.in-the-smallest-cache.".repeat(2) + "example.";
        run_model(BYTES_MIN, &pad, steps, true)?;
    }
}
