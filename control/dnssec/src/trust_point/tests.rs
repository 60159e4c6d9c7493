//! Each transition of RFC 5011, and random RRsets, some of which are forged.
//!
//! Keys are letters: `a` is a key, `A` the same key with the REVOKE bit, `z` a key that is no entry
//! point. A set is written as its keys, a slash, and the keys that sign it.

use super::*;
use crate::testing::{message, record};
use proptest::{prelude::*, test_runner::TestRunner};
use ring::signature::{Ed25519KeyPair, KeyPair};
use std::{cell::Cell, collections::BTreeMap, sync::LazyLock};

const START: u64 = 1_700_000_000;
const ED25519: u8 = 15;
const TTL: u32 = 172_800;

fn pair(letter: char) -> &'static Ed25519KeyPair {
    static PAIRS: LazyLock<Vec<Ed25519KeyPair>> = LazyLock::new(|| {
        let pair = |letter| Ed25519KeyPair::from_seed_unchecked(&[letter; 32]).unwrap();
        (b'a'..=b'z').map(pair).collect()
    });
    &PAIRS[usize::from(letter.to_ascii_lowercase() as u8 - b'a')]
}

fn dnskey(letter: char) -> Dnskey {
    let low = match letter {
        'z' => 0,
        'A'..='Z' => 0x81,
        _ => 1,
    };
    Dnskey::parse(&[&[1, low, 3, ED25519], pair(letter).public_key().as_ref()].concat()).unwrap()
}

fn tag(letter: char) -> u16 {
    dnskey(letter.to_ascii_lowercase()).tag()
}

fn rrsig(keys: &[Dnskey], signer: char, ttl: u32, [from, until]: [u64; 2]) -> Vec<u8> {
    let key = dnskey(signer);
    let mut rdata = [&rtype::DNSKEY.to_be_bytes()[..], &[ED25519, 0]].concat();
    for number in [ttl, until as u32, from as u32] {
        rdata.extend(number.to_be_bytes());
    }
    rdata.extend(key.tag().to_be_bytes());
    rdata.push(0);
    let mut sorted: Vec<_> = keys.iter().map(Dnskey::rdata).collect();
    sorted.sort_unstable();
    let signed = sorted.iter().flat_map(|key| record(&[0], rtype::DNSKEY, ttl, key));
    let data: Vec<u8> = rdata.iter().copied().chain(signed).collect();
    rdata.extend(pair(signer).sign(&data).as_ref());
    record(&[0], rtype::RRSIG, ttl, &rdata)
}

/// Returns the response with a set such as `ab/a`, whose signatures are valid around `now`;
/// `changed`: after it was signed.
fn response(set: &str, now: u64, changed: bool) -> Response {
    let (keys, signers) = set.split_once('/').unwrap();
    let keys: Vec<_> = keys.chars().map(dnskey).collect();
    let records = keys.iter().map(|key| record(&[0], rtype::DNSKEY, TTL, key.rdata()));
    let mut signed = keys.clone();
    if changed {
        signed.push(dnskey('y'));
    }
    let valid = [now - DAY, now + 10 * DAY];
    let signatures = signers.chars().map(|signer| rrsig(&signed, signer, TTL, valid));
    Response::parse(&message(0, &records.chain(signatures).collect::<Vec<_>>(), &[])).unwrap()
}

/// Returns the trust point of the root with these keys as anchors.
fn point(letters: &str) -> TrustPoint {
    let anchors: Vec<_> = letters.chars().map(|letter| TrustAnchor::Key(dnskey(letter))).collect();
    TrustPoint::new(Name::root(), &anchors, START)
}

/// Returns the states of the keys, as `a valid, b pending`.
fn states(point: &TrustPoint) -> String {
    let letters: BTreeMap<u16, char> = ('a'..='z').map(|letter| (tag(letter), letter)).collect();
    let shown = point.keys().iter().map(|known| {
        let state = format!("{:?}", known.state).to_lowercase();
        let state = state.split(' ').next().unwrap();
        format!("{} {state}", letters[&known.anchor.key_tag()])
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Steps of a trust point whose anchor is `a`: days that pass, a set, and the states after it.
type Story = &'static [(u64, &'static str, &'static str)];

const STORIES: [(&str, Story); 20] = [
    ("4.1 NewKey", &[(0, "ab/a", "a valid, b pending")]),
    ("4.1 AddTime", &[(0, "ab/a", "a valid, b pending"), (30, "ab/a", "a valid, b valid")]),
    (
        "2.2 not before the hold-down",
        &[(0, "ab/a", "a valid, b pending"), (29, "ab/a", "a valid, b pending")],
    ),
    (
        "2.2 an RRset after the hold-down is needed, with the key",
        &[(0, "ab/a", "a valid, b pending"), (60, "a/a", "a valid"), (1, "ab/a", "a valid, b pending")],
    ),
    (
        "4.1 KeyRem of a pending key: the time begins anew",
        &[
            (0, "ab/a", "a valid, b pending"),
            (29, "a/a", "a valid"),
            (2, "ab/a", "a valid, b pending"),
            (29, "ab/a", "a valid, b pending"),
            (1, "ab/a", "a valid, b valid"),
        ],
    ),
    (
        "4.1 KeyRem of an anchor",
        &[
            (0, "ab/a", "a valid, b pending"),
            (30, "ab/a", "a valid, b valid"),
            (1, "a/a", "a valid, b missing"),
        ],
    ),
    (
        "4.1 KeyPres: a missing anchor is one still, and may sign",
        &[
            (0, "ab/a", "a valid, b pending"),
            (30, "ab/a", "a valid, b valid"),
            (1, "b/b", "a missing, b valid"),
            (400, "ab/a", "a valid, b valid"),
        ],
    ),
    (
        "4.1 RevBit of an anchor",
        &[
            (0, "ab/a", "a valid, b pending"),
            (30, "ab/a", "a valid, b valid"),
            (0, "Ab/Ab", "a revoked, b valid"),
        ],
    ),
    (
        "4.1 RevBit of a missing anchor",
        &[
            (0, "ab/a", "a valid, b pending"),
            (30, "ab/a", "a valid, b valid"),
            (1, "b/b", "a missing, b valid"),
            (1, "Ab/Ab", "a revoked, b valid"),
        ],
    ),
    (
        "4.1 RemTime: 30 days after the key was last seen",
        &[
            (0, "ab/a", "a valid, b pending"),
            (30, "ab/a", "a valid, b valid"),
            (1, "Ab/Ab", "a revoked, b valid"),
            (20, "Ab/b", "a revoked, b valid"),
            (29, "b/b", "a revoked, b valid"),
            (1, "b/b", "a removed, b valid"),
            (100, "ab/ab", "a removed, b valid"),
        ],
    ),
    (
        "2.1 a revocation by another key is none",
        &[
            (0, "ab/a", "a valid, b pending"),
            (30, "ab/a", "a valid, b valid"),
            (0, "Ab/b", "a missing, b valid"),
        ],
    ),
    ("2.1 nor by the key without the bit", &[(0, "A/a", "a valid")]),
    ("2.1 a key revokes itself, though nobody else signs", &[(0, "Ab/A", "a revoked")]),
    (
        "2.1 a missing anchor with a bit that it has not signed stays missing",
        &[
            (0, "ab/a", "a valid, b pending"),
            (30, "ab/a", "a valid, b valid"),
            (1, "b/b", "a missing, b valid"),
            (1, "Ab/b", "a missing, b valid"),
        ],
    ),
    (
        "2.1 revocation is permanent",
        &[
            (0, "ab/a", "a valid, b pending"),
            (30, "ab/a", "a valid, b valid"),
            (0, "Ab/Ab", "a revoked, b valid"),
            (1, "ab/ab", "a revoked, b valid"),
        ],
    ),
    (
        "2.1 also of a pending key",
        &[
            (0, "ab/a", "a valid, b pending"),
            (1, "aB/aB", "a valid, b revoked"),
            (1, "ab/ab", "a valid, b revoked"),
        ],
    ),
    (
        "2.2 all keys that had signed the first RRset with the key were revoked",
        &[
            (0, "ab/a", "a valid, b pending"),
            (30, "ab/a", "a valid, b valid"),
            (0, "abc/a", "a valid, b valid, c pending"),
            (10, "Abc/Ab", "a revoked, b valid, c pending"),
            (29, "bc/b", "a revoked, b valid, c pending"),
            (1, "bc/b", "a removed, b valid, c valid"),
        ],
    ),
    ("4 only a valid anchor introduces keys", &[(0, "ab/b", "a valid"), (0, "abc/bc", "a valid")]),
    (
        "4 a pending key introduces none",
        &[(0, "ab/a", "a valid, b pending"), (1, "bc/b", "a valid, b pending")],
    ),
    ("4.1 only SEP keys are new anchors, and none that comes revoked", &[(0, "azC/aC", "a valid")]),
];

#[test]
fn keys_go_through_the_states_of_rfc_5011() {
    for (title, story) in STORIES {
        let (mut point, mut now) = (point("a"), START);
        for (days, set, expected) in story {
            now += days * DAY;
            point.observe(&response(set, now, false), now);
            assert_eq!(states(&point), *expected, "{title}: {set}");
        }
    }
}

#[test]
fn events_are_told() {
    let mut point = point("a");
    let mut told = |days: u64, set: &str| {
        let now = START + days * DAY;
        point.observe(&response(set, now, false), now).changes
    };
    let event = |letter, event| KeyChange { tag: tag(letter), event };
    assert_eq!(told(0, "ab/a"), [event('b', KeyEvent::Appeared(START + 30 * DAY))]);
    assert_eq!(told(1, "a/a"), [event('b', KeyEvent::Withdrawn)]);
    assert_eq!(told(2, "ab/a"), [event('b', KeyEvent::Appeared(START + 32 * DAY))]);
    assert_eq!(told(32, "ab/a"), [event('b', KeyEvent::Trusted)]);
    assert_eq!(told(33, "b/b"), [event('a', KeyEvent::Left)]);
    assert_eq!(told(34, "ab/b"), [event('a', KeyEvent::Returned)]);
    assert_eq!(told(35, "Ab/Ab"), [event('a', KeyEvent::Revoked)]);
    assert_eq!(told(36, "b/b"), []);
    assert_eq!(told(65, "b/b"), [event('a', KeyEvent::Removed)]);
}

#[test]
fn a_zone_without_anchors_left_is_deleted() {
    // RFC 5011 section 5.
    let mut point = point("a");
    let observed = point.observe(&response("Ab/A", START, false), START);
    assert_eq!((observed.verified, point.is_deleted()), (Err(ede::DNSKEY_MISSING), true));
    let mut anchors = Anchors::default();
    point.add_to(&mut anchors);
    assert!(anchors.is_empty());
    point.observe(&response("ab/ab", START, false), START);
    assert!(point.is_deleted(), "for ever");
}

#[test]
fn the_first_sight_of_a_digests_key_makes_it_known() {
    let ds = |letter, digest_type| {
        let (key, algorithm) = (
            dnskey(letter),
            match digest_type {
                2 => &ring::digest::SHA256,
                _ => &ring::digest::SHA384,
            },
        );
        let digest = ring::digest::digest(algorithm, &[&[0], key.rdata()].concat());
        let rdata = [&key.tag().to_be_bytes()[..], &[ED25519, digest_type], digest.as_ref()].concat();
        TrustAnchor::parse(rtype::DS, &rdata).unwrap()
    };
    let anchors = [ds('a', 2), ds('a', 4), ds('b', 2)];
    let mut point = TrustPoint::new(Name::root(), &anchors, START);
    point.observe(&response("ac/a", START, false), START);
    assert_eq!(states(&point), "a valid, b missing, c pending");
    assert_eq!(point.keys()[0].anchor, TrustAnchor::Key(dnskey('a')));
    assert_eq!(point.keys()[1].anchor, ds('b', 2));
    point.observe(&response("B/B", START, false), START);
    assert_eq!(states(&point), "a valid, b revoked, c pending");
}

#[test]
fn keys_have_a_bound() {
    let mut point = point("a");
    let set = "abcdefghijklmnopqr/a";
    let observed = point.observe(&response(set, START, false), START);
    assert_eq!(point.keys().len(), KEYS_MAX);
    let ignored = |change: &&KeyChange| change.event == KeyEvent::Ignored;
    assert_eq!(observed.changes.iter().filter(ignored).count(), 2);
    // Removed keys have a bound of their own.
    let removed = |number: u8| {
        let key = Dnskey::parse(&[&[1, 1, 3, ED25519][..], &[number; 32]].concat()).unwrap();
        ManagedKey { anchor: TrustAnchor::Key(key), state: KeyState::Removed, since: START }
    };
    let anchor = TrustAnchor::Key(dnskey('a'));
    let mut keys = vec![ManagedKey { anchor, state: KeyState::Valid, since: START }];
    keys.extend((0..70).map(removed));
    let mut point = TrustPoint::restore(Name::root(), keys.clone());
    point.observe(&response("ab/a", START, false), START);
    let kept = point.keys();
    assert_eq!(
        (kept.len(), &kept[..1], &kept[1..65]),
        (REMOVED_MAX + 2, &keys[..1], &keys[7..]),
        "the latest are kept"
    );
}

#[test]
fn the_next_query_comes_in_time() {
    // RFC 5011 section 2.3: original TTL, seconds until the expiry, interval, retry.
    const D: u32 = DAY as u32;
    for (original_ttl, left, interval, retry) in [
        (2 * D, 20 * D, DAY, 17_280),
        (60 * D, 90 * D, 15 * DAY, DAY),
        (8 * D, 2 * D, DAY, 17_280),
        (300, 20 * D, HOUR, HOUR),
        (10 * D, 0, HOUR, HOUR),
    ] {
        let times = RefreshTimes { original_ttl, left, age: 0 };
        assert_eq!((times.interval(), times.retry()), (interval, retry), "{times:?}");
    }
    let verified = point("a").observe(&response("a/a", START, false), START).verified;
    assert_eq!(verified, Ok(RefreshTimes { original_ttl: TTL, left: 10 * D, age: 0 }));
}

#[test]
fn a_ttl_longer_than_the_hold_down_counts() {
    // RFC 5011 section 2.4.1.
    const LONG: u32 = 40 * DAY as u32;
    let set = |now: u64| {
        let keys = ['a', 'b'].map(dnskey);
        let mut records: Vec<_> =
            keys.iter().map(|key| record(&[0], rtype::DNSKEY, LONG, key.rdata())).collect();
        records.push(rrsig(&keys, 'a', LONG, [now - DAY, now + DAY]));
        Response::parse(&message(0, &records, &[])).unwrap()
    };
    let mut point = point("a");
    for (day, expected) in [(0, "a valid, b pending"), (39, "a valid, b pending"), (40, "a valid, b valid")] {
        let now = START + day * DAY;
        point.observe(&set(now), now);
        assert_eq!(states(&point), expected);
    }
}

#[test]
fn time_in_caches_does_not_count() {
    // RFC 5011 section 2.2: the set was retrieved after the hold-down.
    let set = |now: u64, ttl| {
        let keys = ['a', 'b'].map(dnskey);
        let mut records: Vec<_> =
            keys.iter().map(|key| record(&[0], rtype::DNSKEY, ttl, key.rdata())).collect();
        records.push(rrsig(&keys, 'a', TTL, [now - DAY, now + DAY]));
        Response::parse(&message(0, &records, &[])).unwrap()
    };
    let mut point = point("a");
    for (secs, ttl, expected) in [
        (0, 1, "a valid, b pending"),
        (30 * DAY, TTL - 1, "a valid, b pending"),
        (30 * DAY + 1, TTL - 2, "a valid, b pending"),
        (30 * DAY + 1, TTL - 1, "a valid, b valid"),
    ] {
        let now = START + secs;
        point.observe(&set(now, ttl), now);
        assert_eq!(states(&point), expected);
    }
}

#[test]
fn sets_that_prove_nothing_change_nothing() {
    let mut point = point("a");
    let before = point.clone();
    let old = response("ab/a", START - 20 * DAY, false);
    let early = response("ab/a", START + 20 * DAY, false);
    let none = Response::parse(&message(0, &[], &[])).unwrap();
    for (response, why) in [
        (response("ab/a", START, true), ede::BOGUS),
        (response("ab/b", START, false), ede::BOGUS),
        (response("ab/", START, false), ede::RRSIGS_MISSING),
        (response("b/b", START, false), ede::DNSKEY_MISSING),
        (response("A/A", START, true), ede::DNSKEY_MISSING),
        (old, ede::SIGNATURE_EXPIRED),
        (early, ede::SIGNATURE_NOT_YET_VALID),
        (none, ede::DNSKEY_MISSING),
    ] {
        let observed = point.observe(&response, START);
        assert_eq!(observed, Observed { changes: vec![], verified: Err(why) });
        assert_eq!(point, before);
    }
}

/// Set of a random zone: days that pass, keys, those that sign, and whether it was changed after
/// it was signed.
type ZoneStep = (u64, Vec<char>, Vec<char>, bool);

fn steps() -> impl Strategy<Value = Vec<ZoneStep>> {
    let letters = || {
        let chosen = "abcdABCDz".chars().map(|letter| {
            let often = if letter.is_ascii_lowercase() { 0.85 } else { 0.15 };
            prop::bool::weighted(often).prop_map(move |is_in| is_in.then_some(letter))
        });
        chosen.collect::<Vec<_>>().prop_map(|chosen| chosen.into_iter().flatten().collect())
    };
    let step = (0_u64..25, letters(), letters(), prop::bool::weighted(0.2));
    proptest::collection::vec(step, 1..40)
}

/// Events that a random zone is known to have had.
struct KnownEvents {
    now: u64,
    /// Times since when each key has been in all RRsets that an anchor had signed.
    since: BTreeMap<char, u64>,
    trusted: Vec<char>,
    revoked: Vec<char>,
}

impl KnownEvents {
    /// Observes a set. Returns the number of keys that became trusted by it.
    fn step(&mut self, point: &mut TrustPoint, step: &ZoneStep) -> Result<usize, TestCaseError> {
        let (days, keys, signers, changed) = step;
        self.now += days * DAY;
        let now = self.now;
        let set: String = keys.iter().chain(&['/']).chain(signers).collect();
        let before = point.clone();
        let observed = point.observe(&response(&set, now, *changed), now);
        let signs = |letter: &char| !changed && keys.contains(letter) && signers.contains(letter);
        for letter in 'a'..='d' {
            let is_known = before.keys().iter().any(|known| known.anchor.key_tag() == tag(letter));
            if is_known && signs(&letter.to_ascii_uppercase()) {
                self.revoked.push(letter);
            }
        }
        self.trusted.retain(|letter| !self.revoked.contains(letter));
        let is_proven = self.trusted.iter().any(signs);
        prop_assert_eq!(observed.verified.is_ok(), is_proven, "{}", &set);
        if is_proven {
            self.since.retain(|letter, _| keys.contains(letter));
            for letter in keys.iter().filter(|letter| letter.is_ascii_lowercase()) {
                self.since.entry(*letter).or_insert(now);
            }
        }
        let mut new = 0;
        for known in point.keys() {
            let letter = ('a'..='d').find(|letter| tag(*letter) == known.anchor.key_tag()).unwrap();
            prop_assert_eq!(known.state.is_past(), self.revoked.contains(&letter), "{} {:?}", &set, known);
            if known.state.is_trusted() && !self.trusted.contains(&letter) {
                prop_assert!(is_proven && now - self.since[&letter] >= ADD_HOLD_DOWN, "{} {:?}", &set, known);
                self.trusted.push(letter);
                new += 1;
            }
        }
        Ok(new)
    }
}

#[test]
fn no_key_is_trusted_too_early_or_after_its_revocation() {
    let config = ProptestConfig { cases: 100, failure_persistence: None, ..Default::default() };
    let counts = Cell::new([0; 2]);
    let result = TestRunner::new(config).run(&steps(), |steps| {
        let (mut point, trusted) = (point("ad"), vec!['a', 'd']);
        let mut known = KnownEvents { now: START, since: BTreeMap::new(), trusted, revoked: Vec::new() };
        for step in &steps {
            let [new, revoked] = counts.get();
            counts.set([new + known.step(&mut point, step)?, revoked]);
        }
        let [new, revoked] = counts.get();
        counts.set([new, revoked + known.revoked.len()]);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    let [new, revoked] = counts.get();
    assert!(new > 20 && revoked > 50, "{new} keys became trusted, {revoked} were revoked");
}
