//! Memory of misses: lookups that found no answer, and the reasons why answers left the store.
//!
//! Both are tables of fixed size, in which a newer note replaces an older one. They are written when an
//! answer leaves and when a question takes off, never on the path of a hit.

use parking_lot::Mutex;
use ringdns_dataplane::{
    clock::{Clock, Secs},
    dns::key::Asked,
    purge::Purge,
};
use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Number of notes in each table: a power of two.
const SLOTS: usize = 1 << 16;
/// Most purges that are remembered.
const PURGES: usize = 64;
/// Bits of a note for the cause, and for the part of the hash that tells its question from others.
const CAUSE_BITS: u32 = 3;
const TAG_BITS: u32 = 29;

/// Reason why a lookup found no answer that is fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissCause {
    /// Nothing is known: the question was never asked, or too long ago.
    Unknown = 1,
    /// The answer expired and was not renewed.
    Expired = 2,
    /// The answer made room for others.
    Evicted = 3,
    /// The answer was purged.
    Purged = 4,
    /// The answer was not to be kept.
    NotKept = 5,
}

impl MissCause {
    fn of(number: u64) -> Option<Self> {
        use MissCause::{Evicted, Expired, NotKept, Purged, Unknown};
        [Unknown, Expired, Evicted, Purged, NotKept].into_iter().find(|cause| *cause as u64 == number)
    }
}

/// Lookup that found no answer that is fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miss {
    /// Time of the lookup.
    pub at: Secs,
    /// Reason.
    pub cause: MissCause,
    /// Time at which the answer expired or left; `None`: it is not remembered.
    pub since: Option<Secs>,
}

/// Purge that is remembered.
#[derive(Clone, Debug)]
pub struct PurgeNote {
    /// Time of the purge.
    pub at: Secs,
    /// Scope of the purge.
    pub purge: Arc<Purge>,
    /// Caller who asked for it.
    pub by: Arc<str>,
}

/// Notes, found by the hash of a question. A note is its time, a tag of its question, and a cause.
struct Notes(Box<[AtomicU64]>);

impl Notes {
    fn new() -> Self {
        Notes((0..SLOTS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Returns the place of a question, and its tag.
    fn place(&self, hash: u64) -> (&AtomicU64, u64) {
        (&self.0[hash as usize % SLOTS], hash >> (64 - TAG_BITS))
    }

    fn note(&self, hash: u64, at: Secs, cause: MissCause) {
        let (slot, tag) = self.place(hash);
        slot.store(u64::from(at) << 32 | tag << CAUSE_BITS | cause as u64, Relaxed);
    }

    fn find(&self, hash: u64) -> Option<(Secs, MissCause)> {
        let (slot, tag) = self.place(hash);
        let note = slot.load(Relaxed);
        let cause = MissCause::of(note & ((1 << CAUSE_BITS) - 1))?;
        (note as u32 >> CAUSE_BITS == tag as u32).then_some(((note >> 32) as Secs, cause))
    }
}

/// Memory of the misses of a store.
pub struct Misses {
    /// Keyed by chance, so that nobody can choose questions whose notes replace each other.
    hasher: RandomState,
    /// Reasons why answers are no longer there.
    gone: Notes,
    /// Lookups that found nothing.
    missed: Notes,
    /// Last purges, the newest last.
    purges: Mutex<VecDeque<PurgeNote>>,
    clock: OnceLock<Clock>,
}

impl Default for Misses {
    fn default() -> Self {
        Misses {
            hasher: RandomState::new(),
            gone: Notes::new(),
            missed: Notes::new(),
            purges: Mutex::default(),
            clock: OnceLock::new(),
        }
    }
}

impl Misses {
    /// Sets the clock. Without one, neither answers that leave nor purges are remembered.
    pub fn set_clock(&self, clock: Clock) {
        // It is the same for all resolvers of a process.
        let _ = self.clock.set(clock);
    }

    /// Returns the clock, once it is set.
    pub fn clock(&self) -> Option<Clock> {
        self.clock.get().copied()
    }

    fn hash(&self, asked: Asked<'_>) -> u64 {
        self.hasher.hash_one(asked)
    }

    /// Remembers that the answer to a question is gone.
    pub fn note_gone(&self, asked: Asked<'_>, cause: MissCause) {
        if let Some(clock) = self.clock.get() {
            self.gone.note(self.hash(asked), clock.secs(), cause);
        }
    }

    /// Remembers that the answer to a question expired, which was then.
    pub fn note_expired(&self, asked: Asked<'_>, expired: Secs) {
        self.gone.note(self.hash(asked), expired, MissCause::Expired);
    }

    /// Remembers a lookup that found nothing, or an answer that expired at `expired`.
    pub fn note_miss(&self, asked: Asked<'_>, expired: Option<Secs>, now: Secs) {
        let hash = self.hash(asked);
        if let Some(expired) = expired {
            self.gone.note(hash, expired, MissCause::Expired);
        }
        let cause = self.gone.find(hash).map_or(MissCause::Unknown, |(_, cause)| cause);
        self.missed.note(hash, now, cause);
    }

    /// Returns the last lookup of a question that found nothing, if it is remembered.
    pub fn last(&self, asked: Asked<'_>) -> Option<Miss> {
        let hash = self.hash(asked);
        let (at, cause) = self.missed.find(hash)?;
        let gone = self.gone.find(hash);
        let since = gone.filter(|(since, reason)| *since <= at && *reason == cause).map(|(since, _)| since);
        Some(Miss { at, cause, since })
    }

    /// Remembers a purge, and who asked for it.
    pub fn note_purge(&self, purge: Arc<Purge>, by: Arc<str>) {
        let Some(at) = self.clock.get().map(Clock::secs) else { return };
        let mut purges = self.purges.lock();
        if purges.len() == PURGES {
            purges.pop_front();
        }
        purges.push_back(PurgeNote { at, purge, by });
    }

    /// Returns the last purge up to `at` that covers a question, if it is remembered.
    pub fn purge_of(&self, asked: Asked<'_>, at: Secs) -> Option<PurgeNote> {
        let purges = self.purges.lock();
        // The entry left within the second in which its purge was noted, or later.
        purges.iter().rev().find(|note| note.at <= at && note.purge.covers_source(asked)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_common::names;
    use ringdns_dataplane::dns::key::Key;

    /// Time of the test.
    const NOW: Secs = 100;

    fn key(name: &str) -> Key {
        names::key(&names::name(name).unwrap(), 1, false, false).unwrap()
    }

    /// Returns notes whose clock stands at `NOW`.
    fn misses() -> Misses {
        let misses = Misses::default();
        misses.set_clock(Clock::simulated(|| u64::from(NOW) * 1_000_000_000));
        misses
    }

    #[test]
    fn the_cause_of_a_miss_is_that_for_which_the_answer_left_last() {
        let misses = misses();
        let (www, mail) = (key("www.example"), key("mail.example"));
        assert_eq!(misses.last(www.asked()), None);
        misses.note_miss(www.asked(), None, 90);
        let unknown = Miss { at: 90, cause: MissCause::Unknown, since: None };
        assert_eq!(misses.last(www.asked()), Some(unknown));
        for cause in [MissCause::Evicted, MissCause::Purged, MissCause::NotKept] {
            misses.note_gone(www.asked(), cause);
            misses.note_miss(www.asked(), None, 110);
            assert_eq!(misses.last(www.asked()), Some(Miss { at: 110, cause, since: Some(100) }));
        }
        misses.note_miss(www.asked(), Some(90), 120);
        let expired = Miss { at: 120, cause: MissCause::Expired, since: Some(90) };
        assert_eq!(misses.last(www.asked()), Some(expired));
        // It left once more after that lookup, which had another cause.
        misses.note_gone(www.asked(), MissCause::Evicted);
        assert_eq!(misses.last(www.asked()), Some(Miss { since: None, ..expired }));
        assert_eq!(misses.last(mail.asked()), None);
    }

    #[test]
    fn a_note_is_of_its_question_alone() {
        let misses = misses();
        let keys: Vec<_> = (0..2_000).map(|nth| key(&format!("{nth}.example"))).collect();
        keys.iter().for_each(|key| misses.note_miss(key.asked(), None, 7));
        let kept = keys.iter().filter(|key| misses.last(key.asked()).is_some()).count();
        // Some replace each other: 2,000 in 65,536 places.
        assert!((1_900..=2_000).contains(&kept), "{kept}");
        let others = (0..2_000).map(|nth| key(&format!("{nth}.example.net")));
        assert_eq!(others.filter(|key| misses.last(key.asked()).is_some()).count(), 0);
    }

    #[test]
    fn the_last_purges_are_remembered_with_who_asked_for_them() {
        let misses = misses();
        let www = key("www.example");
        let name = Purge::Name(www.asked().name().to_vec());
        misses.note_purge(Arc::new(name), "user:ops".into());
        let other = Arc::new(Purge::Name(key("other.example").asked().name().to_vec()));
        (1..PURGES).for_each(|_| misses.note_purge(other.clone(), "token:ci".into()));
        assert_eq!(misses.purge_of(www.asked(), 100).map(|note| note.by), Some("user:ops".into()));
        assert!(misses.purge_of(www.asked(), 99).is_none(), "it was later");
        misses.note_purge(other, "token:ci".into());
        assert!(misses.purge_of(www.asked(), 100).is_none(), "too many came after it");
    }
}
