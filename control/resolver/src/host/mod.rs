//! The host tier: every answer of this host, one store a process, shared by all workers and listeners.
//!
//! The core tiers are near caches of it: they believe an entry only while its generation is current. A purge
//! must therefore keep two kinds of answers out: those that were under way when it came, and those that a core tier
//! took from here while it ran. It raises the generation twice, once before it removes anything and once after.

mod demand;

pub use demand::{Demand, HALF_LIFE};
use parking_lot::RwLock;
use quick_cache::{Equivalent, Lifecycle, Weighter, sync::Cache};
use ringdns_common::counters;
use ringdns_dataplane::{
    clock::Secs,
    dns::{
        answer::Answer,
        key::{Asked, Flags, Key},
    },
};
use std::{
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

/// A guess for sizing the index: what an entry with a few records weighs.
const TYPICAL_BYTES: u64 = 384;

/// What an entry costs beside its name and wire bytes: the structs, the index slot, and the allocator's
/// headers of the five allocations.
const OVERHEAD: usize =
    size_of::<StoredKey>() + size_of::<Arc<Entry>>() + size_of::<Entry>() + size_of::<Answer>() + 32 + 5 * 16;

counters! {
    /// What happens to the host tier.
    HostCounters {
        /// Lookups that found a fresh answer.
        fresh,
        /// Lookups that found an expired answer that may still be given.
        stale,
        /// Lookups that found nothing.
        missing,
        /// Answers stored.
        inserted,
        /// Answers pushed out by others to stay within host_bytes.
        evicted,
        /// Answers not stored because a purge came while they were under way.
        outdated,
        /// Answers removed by purges.
        purged,
        /// Answers removed by sweeps because they could not be given out any more.
        dead,
    }
}

/// An answer and when to try again to renew it.
#[derive(Debug)]
pub struct Entry {
    /// The answer.
    pub answer: Arc<Answer>,
    /// Not before this second is a refresh tried again.
    recheck: AtomicU32,
    /// How often it has been asked for of late, here or as an entry that this one took the place of.
    pub demand: Demand,
}

impl Entry {
    fn new(answer: Arc<Answer>, demand: Demand) -> Self {
        Entry { answer, recheck: AtomicU32::new(0), demand }
    }

    /// Whether a refresh may be tried at `now`.
    pub fn recheck_due(&self, now: Secs) -> bool {
        self.recheck.load(Ordering::Relaxed) <= now
    }

    /// Says that a refresh failed, and is not to be tried again before `until` (RFC 8767 section 5).
    pub fn put_off(&self, until: Secs) {
        self.recheck.store(until, Ordering::Relaxed);
    }
}

/// What a lookup finds.
#[derive(Clone, Debug)]
pub enum Found {
    /// An answer within its TTL.
    Fresh(Arc<Answer>),
    /// An expired answer that may still be given.
    Stale(Arc<Entry>),
    /// Nothing.
    Missing,
}

/// What to purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purge {
    /// All types of a name, given as lowercased wire bytes.
    Name(Vec<u8>),
    /// The same for a name and everything below it.
    Suffix(Vec<u8>),
    /// Everything.
    All,
}

impl Purge {
    /// Whether the answer to a question is to be purged.
    pub fn covers(&self, asked: Asked<'_>) -> bool {
        match self {
            Purge::All => true,
            Purge::Name(name) => asked.name() == name,
            Purge::Suffix(suffix) => is_within(asked.name(), suffix),
        }
    }
}

/// Whether the name is `suffix` or below it.
fn is_within(mut name: &[u8], suffix: &[u8]) -> bool {
    while name.len() > suffix.len() {
        name = name.get(1 + usize::from(name[0])..).unwrap_or_default();
    }
    name == suffix
}

/// The store.
pub struct HostTier {
    cache: Cache<StoredKey, Arc<Entry>, ByBytes, quick_cache::DefaultHashBuilder, CountEvictions>,
    generation: Arc<AtomicU64>,
    /// Held for reading around an insert, and for writing while the generation rises: whatever was stored under an
    /// older one is then in the store, where the purge finds it.
    fence: RwLock<()>,
    /// What happened so far.
    pub counters: Arc<HostCounters>,
}

impl HostTier {
    /// An empty store of `bytes`. `generation` is shared with the workers.
    pub fn new(bytes: u64, generation: Arc<AtomicU64>) -> Self {
        let counters = Arc::new(HostCounters::default());
        let items = usize::try_from(bytes / TYPICAL_BYTES).unwrap_or(usize::MAX).max(16);
        let lifecycle = CountEvictions(counters.clone());
        HostTier {
            cache: Cache::with(items, bytes, ByBytes, Default::default(), lifecycle),
            generation,
            fence: RwLock::new(()),
            counters,
        }
    }

    /// The current generation. To be read *before* the lookup or the resolution whose answer it is to vouch for.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Looks an answer up.
    pub fn get(&self, key: &Key, now: Secs) -> Found {
        match self.cache.get(key) {
            Some(entry) if now < entry.answer.expires() => {
                self.counters.fresh.inc();
                entry.demand.add(1, now);
                Found::Fresh(entry.answer.clone())
            }
            Some(entry) if now < entry.answer.dead() => {
                self.counters.stale.inc();
                entry.demand.add(1, now);
                Found::Stale(entry)
            }
            _ => {
                self.counters.missing.inc();
                Found::Missing
            }
        }
    }

    /// Takes note of `n` questions that were answered elsewhere with the entry, if there is one: true.
    pub fn note(&self, asked: Asked<'_>, n: u16, now: Secs) -> bool {
        // It becomes younger by that: what is in demand stays here, so that it can be renewed.
        let entry = self.cache.get(&Noted(asked));
        entry.inspect(|entry| entry.demand.add(n, now)).is_some()
    }

    /// Looks an entry up without counting and without making it any younger.
    pub fn peek(&self, key: &Key) -> Option<Arc<Entry>> {
        self.cache.peek(key)
    }

    /// Stores an answer whose resolution began in `generation`, unless a purge came since, or it must not be kept.
    pub fn insert(&self, key: &Key, answer: Arc<Answer>, generation: u64) -> bool {
        if answer.ttl == 0 {
            return false;
        }
        // Whoever asked for it first has found nothing, and that is no demand yet.
        let demand = self.cache.peek(key).map_or_else(Demand::default, |old| old.demand.clone());
        let entry = Arc::new(Entry::new(answer, demand));
        let _under_way = self.fence.read();
        if generation != self.generation() {
            self.counters.outdated.inc();
            return false;
        }
        self.cache.insert(StoredKey::from(key), entry);
        self.counters.inserted.inc();
        true
    }

    /// Stores an answer that has expired, as time would have it.
    #[cfg(test)]
    pub fn insert_expired(&self, key: &Key, answer: Arc<Answer>) {
        self.cache.insert(StoredKey::from(key), Arc::new(Entry::new(answer, Demand::default())));
    }

    /// Removes an entry if it cannot be given out any more at `now`. True if it did.
    pub fn remove_dead(&self, key: &StoredKey, now: Secs) -> bool {
        let removed = self.cache.remove_if(key, |entry| now >= entry.answer.dead()).is_some();
        self.counters.dead.add(u64::from(removed));
        removed
    }

    /// Removes what `purge` covers, and returns how many entries that were. Walks the whole store: not for an async
    /// task.
    pub fn purge(&self, purge: &Purge) -> u64 {
        self.purge_where(|key| purge.covers(key.asked()))
    }

    fn purge_where(&self, covered: impl Fn(&StoredKey) -> bool) -> u64 {
        self.next_generation();
        let removed = std::cell::Cell::new(0);
        self.cache.retain(|key, _| {
            let keep = !covered(key);
            removed.set(removed.get() + u64::from(!keep));
            keep
        });
        self.next_generation();
        self.counters.purged.add(removed.get());
        removed.get()
    }

    fn next_generation(&self) {
        let _no_insert = self.fence.write();
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// All entries. Walks the whole store: not for an async task.
    pub fn iter(&self) -> impl Iterator<Item = (StoredKey, Arc<Entry>)> + '_ {
        self.cache.iter()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.cache.is_empty()
    }

    /// Bytes in use and bytes in all.
    pub fn bytes(&self) -> (u64, u64) {
        (self.cache.weight(), self.cache.capacity())
    }
}

/// A [`Key`] in no more memory than its name needs. Hashes as a `Key` does, and is found by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    question: Box<[u8]>,
    flags: Flags,
}

impl StoredKey {
    /// What is asked.
    pub fn asked(&self) -> Asked<'_> {
        Asked { question: &self.question, flags: self.flags }
    }
}

impl From<&Key> for StoredKey {
    fn from(key: &Key) -> Self {
        StoredKey { question: key.question().into(), flags: key.flags() }
    }
}

impl Hash for StoredKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.asked().hash(state);
    }
}

impl Equivalent<StoredKey> for Key {
    fn equivalent(&self, stored: &StoredKey) -> bool {
        self.asked() == stored.asked()
    }
}

/// What is asked, to find a [`StoredKey`] by. A type of its own, since [`Asked`] is not of this crate.
struct Noted<'a>(Asked<'a>);

impl Hash for Noted<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Equivalent<StoredKey> for Noted<'_> {
    fn equivalent(&self, stored: &StoredKey) -> bool {
        self.0 == stored.asked()
    }
}

/// Weighs entries by the memory that they take.
#[derive(Clone)]
struct ByBytes;

impl Weighter<StoredKey, Arc<Entry>> for ByBytes {
    fn weight(&self, key: &StoredKey, entry: &Arc<Entry>) -> u64 {
        let answer = &entry.answer;
        (OVERHEAD + size_of_val(&*key.question) + size_of_val(&*answer.ttls) + answer.wire.len()) as u64
    }
}

#[derive(Clone)]
struct CountEvictions(Arc<HostCounters>);

impl Lifecycle<StoredKey, Arc<Entry>> for CountEvictions {
    type RequestState = ();

    fn on_evict(&self, _: &mut (), _: StoredKey, _: Arc<Entry>) {
        self.0.evicted.inc();
    }
}

#[cfg(test)]
mod tests;
