//! Rollovers of the root's key (RFC 5011), in virtual time.

use super::{
    validation::{NOW, Root, SECURE, START, address, pass, told, validating},
    *,
};
use hickory_proto::{
    dnssec::{
        SigningKey,
        crypto::Ed25519SigningKey,
        rdata::{DNSKEY, DNSSECRData},
    },
    rr::{Name, RData, Record, RecordType},
};
use parking_lot::Mutex;
use std::sync::atomic::AtomicU32;
use tempfile::TempDir;

const DAY: u32 = 86_400;
const HOUR: u32 = 3_600;
const REVOKED: u16 = 0x181;

/// Root zone with changing keys: `a` to `c`, and `A` to `C` with the REVOKE bit.
struct ChangingZone {
    keys: Vec<Arc<Root>>,
    /// Keys in the zone, and those that sign them.
    published: Mutex<(&'static str, &'static str)>,
    /// Signer of the data; `None`: the first of those that sign the keys.
    signer: Mutex<Option<&'static str>>,
    /// Time of the test, for the upstream's thread.
    now: AtomicU32,
    is_down: AtomicBool,
}

impl ChangingZone {
    fn key(&self, letter: char) -> (&Ed25519SigningKey, DNSKEY) {
        let key = &self.keys[usize::from(letter.to_ascii_lowercase() as u8 - b'a')].key;
        let flags = if letter.is_ascii_uppercase() { REVOKED } else { 257 };
        (key, DNSKEY::with_flags(flags, key.to_public_key().unwrap()))
    }

    fn tag(&self, letter: char) -> u16 {
        self.key(letter).1.calculate_key_tag().unwrap()
    }

    /// Returns an RRset with the signatures of these keys.
    fn signed(&self, rrset: &[Record], signers: &str) -> Vec<Record> {
        let now = self.now.load(Ordering::SeqCst);
        let signature = |letter| {
            let (key, dnskey) = self.key(letter);
            self.keys[0].signed_with((key, &dnskey), rrset, [now - DAY, now + 20 * DAY]).pop()
        };
        rrset.iter().cloned().chain(signers.chars().filter_map(signature)).collect()
    }

    fn answer(&self, name: &str, qtype: RecordType) -> Option<(Vec<Record>, Vec<Record>)> {
        let (keys, signers) = *self.published.lock();
        if self.is_down.load(Ordering::SeqCst) {
            return None;
        }
        let dnskey = |letter| {
            let data = RData::DNSSEC(DNSSECRData::DNSKEY(self.key(letter).1));
            Record::from_rdata(Name::root(), 2 * DAY, data)
        };
        let answers = match qtype {
            RecordType::DNSKEY => self.signed(&keys.chars().map(dnskey).collect::<Vec<_>>(), signers),
            RecordType::A => self.signed(&[address(name, 60)], self.signer.lock().unwrap_or(&signers[..1])),
            _ => vec![],
        };
        Some((answers, vec![]))
    }
}

/// Appliance that manages the trust anchors of a zone, whose first one is `a`.
struct Rollover {
    zone: Arc<ChangingZone>,
    folder: TempDir,
    fake: Upstream,
    resolver: Arc<Resolver>,
    names: u32,
}

impl Rollover {
    fn open() -> Self {
        let zone = Arc::new(ChangingZone {
            keys: (0..3).map(|_| Arc::new(Root::new())).collect(),
            published: Mutex::new(("a", "a")),
            signer: Mutex::default(),
            now: AtomicU32::new(START),
            is_down: AtomicBool::new(false),
        });
        let folder = tempfile::tempdir().unwrap();
        let (fake, resolver) = Self::start(&zone, &folder);
        Rollover { zone, folder, fake, resolver, names: 0 }
    }

    fn start(zone: &Arc<ChangingZone>, folder: &TempDir) -> (Upstream, Arc<Resolver>) {
        let (copy, path) = (zone.clone(), folder.path().join("anchors"));
        // A shorter TTL than the zone's looks like time in a cache, which does not count.
        let cache = "[cache]\nmax_ttl = \"2d\"\nserve_stale = false\nfailure_ttl = \"1s\"\n";
        let more = format!("managed_anchor_file = {path:?}\n{cache}");
        validating(&zone.keys[0], &more, move |_, name, qtype| copy.answer(name, qtype))
    }

    fn restart(&mut self) {
        (self.fake, self.resolver) = Self::start(&self.zone, &self.folder);
    }

    /// Lets time pass, publishes keys, and lets the resolver look at them.
    async fn after(&self, secs: u32, keys: &'static str, signers: &'static str) -> String {
        pass(secs);
        self.zone.now.store(NOW.get(), Ordering::SeqCst);
        *self.zone.published.lock() = (keys, signers);
        self.resolver.refresh_anchors().await;
        self.states()
    }

    /// Returns the states of the keys, as `a valid, b pending`.
    fn states(&self) -> String {
        let [point] = &self.resolver.trust_points()[..] else { panic!("there is one") };
        let letter = |tag| ('a'..='c').find(|letter| self.zone.tag(*letter) == tag).unwrap();
        let shown = point.keys.iter().map(|key| format!("{} {}", letter(key.tag), key.state));
        shown.collect::<Vec<_>>().join(", ")
    }

    /// Returns the verdict on the address of a name that was not asked for before.
    async fn verdict(&mut self) -> (u8, bool, Option<u16>) {
        self.names += 1;
        told(&self.resolver.resolve(&key_of(&format!("n{}.example", self.names), 1, true)).await)
    }

    fn queries(&self) -> usize {
        self.fake.seen().iter().filter(|seen| seen.query.qtype() == 48).count()
    }
}

#[tokio::test]
async fn a_rollover_goes_by_unnoticed() {
    let mut rollover = Rollover::open();
    assert_eq!(rollover.states(), "a valid");
    assert_eq!((rollover.after(0, "a", "a").await, rollover.verdict().await), ("a valid".into(), SECURE));
    let pending = "a valid, b pending";
    assert_eq!((rollover.after(DAY, "ab", "a").await, rollover.verdict().await), (pending.into(), SECURE));
    rollover.restart();
    assert_eq!(rollover.states(), pending, "the file has it");
    assert_eq!(
        (rollover.after(29 * DAY, "ab", "a").await, rollover.verdict().await),
        (pending.into(), SECURE)
    );
    rollover.restart();
    // The times of the file count.
    let both = "a valid, b valid";
    assert_eq!((rollover.after(DAY, "ab", "a").await, rollover.verdict().await), (both.into(), SECURE));
    assert_eq!((rollover.after(DAY, "ab", "ba").await, rollover.verdict().await), (both.into(), SECURE));
    let revoked = "a revoked, b valid";
    assert_eq!((rollover.after(DAY, "Ab", "bA").await, rollover.verdict().await), (revoked.into(), SECURE));
    rollover.restart();
    assert_eq!((rollover.after(DAY, "b", "b").await, rollover.verdict().await), (revoked.into(), SECURE));
    // Nothing that the old key signs is believed, though it is in the initial file.
    assert_eq!(
        (rollover.after(DAY, "a", "a").await, rollover.verdict().await),
        (revoked.into(), (rcode::SERVFAIL, false, Some(9)))
    );
    assert_eq!((rollover.after(DAY, "b", "b").await, rollover.verdict().await), (revoked.into(), SECURE));
    let removed = "a removed, b valid";
    assert_eq!(
        (rollover.after(30 * DAY, "b", "b").await, rollover.verdict().await),
        (removed.into(), SECURE)
    );
}

#[tokio::test]
async fn a_revoked_key_signs_nothing_from_then_on() {
    let mut rollover = Rollover::open();
    rollover.after(0, "ab", "a").await;
    rollover.after(30 * DAY, "ab", "a").await;
    pass(DAY);
    assert_eq!(rollover.verdict().await, SECURE);
    // The standing of the zone, with the key, was remembered a second ago.
    assert_eq!(rollover.after(1, "Ab", "Ab").await, "a revoked, b valid");
    for signer in ["a", "A"] {
        *rollover.zone.signer.lock() = Some(signer);
        assert_eq!(rollover.verdict().await, (rcode::SERVFAIL, false, Some(9)), "{signer}");
    }
    *rollover.zone.signer.lock() = Some("b");
    assert_eq!(rollover.verdict().await, SECURE);
}

#[tokio::test]
async fn keys_are_asked_for_as_often_as_the_rfc_says() {
    let mut rollover = Rollover::open();
    rollover.after(0, "a", "a").await;
    assert_eq!(rollover.queries(), 1);
    // Half the original TTL, though the answer in the cache is fresh.
    rollover.after(DAY - 1, "a", "a").await;
    assert_eq!(rollover.queries(), 1);
    rollover.verdict().await;
    rollover.after(1, "a", "a").await;
    assert_eq!(rollover.queries(), 2);
    // A tenth of it after a failure.
    rollover.zone.is_down.store(true, Ordering::SeqCst);
    rollover.after(DAY, "a", "a").await;
    let counters = &rollover.resolver.anchor_counters;
    assert_eq!((counters.refreshed.get(), counters.refresh_failed.get()), (2, 1));
    let asked = rollover.queries();
    assert!(asked > 2);
    rollover.after(2 * DAY / 10 - 1, "a", "a").await;
    assert_eq!(rollover.queries(), asked);
    rollover.zone.is_down.store(false, Ordering::SeqCst);
    rollover.after(1, "a", "a").await;
    assert_eq!((counters.refreshed.get(), rollover.queries()), (3, asked + 1));
    // An hour, as long as nothing is known of the zone.
    rollover.zone.is_down.store(true, Ordering::SeqCst);
    rollover.restart();
    rollover.after(HOUR, "a", "a").await;
    let asked = rollover.queries();
    rollover.after(HOUR - 1, "a", "a").await;
    assert_eq!(rollover.queries(), asked);
    rollover.after(1, "a", "a").await;
    assert!(rollover.queries() > asked);
}

#[tokio::test]
async fn forged_keys_change_nothing() {
    let mut rollover = Rollover::open();
    rollover.after(0, "a", "a").await;
    let file = std::fs::read(rollover.folder.path().join("anchors")).unwrap();
    assert_eq!(rollover.after(DAY, "bc", "bc").await, "a valid");
    assert_eq!(rollover.after(DAY, "ab", "b").await, "a valid");
    assert_eq!(rollover.after(DAY, "Ab", "b").await, "a valid");
    assert_eq!(std::fs::read(rollover.folder.path().join("anchors")).unwrap(), file);
    assert_eq!(rollover.resolver.anchor_counters.refresh_failed.get(), 3);
    assert_eq!((rollover.after(DAY, "a", "a").await, rollover.verdict().await), ("a valid".into(), SECURE));
}

#[tokio::test]
async fn a_zone_that_revokes_all_its_anchors_is_validated_no_longer() {
    let mut rollover = Rollover::open();
    let insecure = (0, false, None);
    rollover.after(0, "a", "a").await;
    assert_eq!(
        (rollover.after(DAY, "A", "A").await, rollover.verdict().await),
        ("a revoked".into(), insecure)
    );
    rollover.restart();
    let asked = rollover.queries();
    assert_eq!(
        (rollover.after(DAY, "a", "a").await, rollover.verdict().await),
        ("a revoked".into(), insecure)
    );
    assert_eq!(rollover.queries(), asked, "its keys are not asked for");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_tried_again() {
    let mut rollover = Rollover::open();
    let beside = rollover.folder.path().join("anchors.new");
    std::fs::create_dir(&beside).unwrap();
    assert_eq!(
        (rollover.after(0, "ab", "a").await, rollover.verdict().await),
        ("a valid, b pending".into(), SECURE)
    );
    std::fs::remove_dir(&beside).unwrap();
    rollover.after(60, "ab", "a").await;
    let counters = &rollover.resolver.anchor_counters;
    assert_eq!((counters.write_failed.get(), counters.written.get()), (1, 1));
    rollover.after(60, "ab", "a").await;
    assert_eq!(counters.written.get(), 1, "nothing is new");
    rollover.restart();
    assert_eq!(rollover.states(), "a valid, b pending");
}
