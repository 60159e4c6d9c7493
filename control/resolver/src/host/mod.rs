//! Host tier: all answers of this host, in one store per process that all workers and listeners
//! share.
//!
//! Worker caches are near caches of it: they believe an entry only if no purge since its generation
//! covers it. A purge must therefore keep out two kinds of answers: those that were being resolved
//! when it came, and those that a worker cache took from here while it ran. It begins two
//! generations, one before it removes anything and one after.
//!
//! Groups of clients with upstreams of their own have tiers beside the first one ([`HostTier::beside`]).
//! A purge of the first one is a purge of all.

mod absent;
mod demand;
mod index;
mod letters;
mod misses;
mod packed;
mod records;
mod scopes;
mod shard;
mod store;
mod stored;
mod types;

use absent::AbsentNames;
use arc_swap::ArcSwap;
pub use demand::{Demand, HALF_LIFE};
use misses::Misses;
pub use misses::{Miss, MissCause, PurgeNote};
use parking_lot::RwLock;
use ringdns_common::counters;
pub use ringdns_dataplane::purge::{NameSet, Purge};
use ringdns_dataplane::{
    clock::{Clock, Secs},
    dns::{
        CLASS_IN,
        answer::Answer,
        key::{Asked, Flags, Key},
    },
    purge::Generations,
};
use scopes::Scopes;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use store::Store;
pub use stored::{Seen, StoredKey};
use types::SeenTypes;

/// Part of the store's bytes for names that do not exist: one sixteenth.
const ABSENT_PART: u64 = 16;

counters! {
    /// Counters of the host tier.
    HostCounters {
        /// Host cache lookups that found a fresh answer.
        fresh,
        /// Host cache lookups that found an expired answer that may still be served.
        stale,
        /// Host cache lookups that found no answer.
        missing,
        /// Host cache lookups that found NXDOMAIN for another type of the name (RFC 2308 section 5);
        /// they are counted as fresh too.
        absent,
        /// Answers stored in the host cache.
        inserted,
        /// Answers evicted from the host cache to stay within cache.host_bytes.
        evicted,
        /// Answers not stored in the host cache because a purge came while they were being
        /// resolved.
        outdated,
        /// Answers removed from the host cache by purges.
        purged,
        /// Answers removed from the host cache by sweeps because they could no longer be served.
        dead,
    }
}

/// Copy of an entry: its answer, and the time at which to try again to renew it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Answer.
    pub answer: Arc<Answer>,
    /// Time before which no refresh is tried again.
    recheck: Secs,
    /// Recent demand, including that of earlier entries which this one replaced.
    pub demand: Demand,
}

impl Entry {
    /// Whether a refresh may be tried at `now`.
    pub fn recheck_due(&self, now: Secs) -> bool {
        self.recheck <= now
    }
}

/// Result of a lookup.
#[derive(Clone, Debug)]
pub enum Found {
    /// Answer within its TTL.
    Fresh(Arc<Answer>),
    /// Expired answer that may still be served.
    Stale(Entry),
    /// No answer.
    Missing,
}

/// Store of answers.
pub struct HostTier {
    store: Store,
    absent: AbsentNames,
    types: SeenTypes,
    misses: Arc<Misses>,
    /// Most bytes of both.
    capacity: AtomicU64,
    generations: Arc<Generations>,
    /// Held for reading around an insert, and for writing while a generation begins: whatever was
    /// stored under an older generation is then in the store, where the purge finds it. All tiers have
    /// one.
    fence: Arc<RwLock<()>>,
    /// Tiers of other upstreams, which a purge of this one concerns too.
    beside: ArcSwap<Vec<Arc<HostTier>>>,
    /// Counters of all tiers.
    pub counters: Arc<HostCounters>,
}

impl HostTier {
    /// Returns an empty store of `bytes`. `generations` are shared with the workers.
    pub fn new(bytes: u64, generations: Arc<Generations>) -> Self {
        Self::of(bytes, generations, Arc::default(), Arc::default())
    }

    /// Returns an empty store of `bytes` for the answers of other upstreams. It is part of purges once
    /// [`HostTier::set_beside`] has it.
    pub fn beside(&self, bytes: u64) -> Self {
        let tier = Self::of(bytes, self.generations.clone(), self.fence.clone(), self.counters.clone());
        self.misses.clock().into_iter().for_each(|clock| tier.set_clock(clock));
        tier
    }

    /// Sets the clock by which misses are remembered.
    pub fn set_clock(&self, clock: Clock) {
        self.misses.set_clock(clock);
    }

    fn of(
        bytes: u64,
        generations: Arc<Generations>,
        fence: Arc<RwLock<()>>,
        counters: Arc<HostCounters>,
    ) -> Self {
        let for_absent = bytes / ABSENT_PART;
        let misses = Arc::<Misses>::default();
        let (evictions, remembered) = (counters.clone(), misses.clone());
        let evicted = move |asked: Asked<'_>| {
            evictions.evicted.inc();
            remembered.note_gone(asked, MissCause::Evicted);
        };
        HostTier {
            store: Store::new(bytes - for_absent, Box::new(evicted)),
            absent: AbsentNames::new(for_absent),
            types: SeenTypes::default(),
            misses,
            capacity: AtomicU64::new(bytes),
            generations,
            fence,
            beside: ArcSwap::default(),
            counters,
        }
    }

    /// Sets the tiers beside this one. An answer may be stored there only from then on.
    pub fn set_beside(&self, tiers: Vec<Arc<HostTier>>) {
        self.beside.store(Arc::new(tiers));
    }

    /// Changes the most bytes of the store. Entries beyond that are evicted.
    pub fn set_capacity(&self, bytes: u64) {
        if self.capacity.swap(bytes, Ordering::Relaxed) != bytes {
            let for_absent = bytes / ABSENT_PART;
            self.store.set_capacity(bytes - for_absent);
            self.absent.set_capacity(for_absent);
        }
    }

    /// Returns the current generation. Read it *before* the lookup or the resolution whose answer
    /// it is to vouch for.
    pub fn generation(&self) -> u64 {
        self.generations.current()
    }

    /// Returns the generations of all caches of this host.
    pub fn generations(&self) -> &Generations {
        &self.generations
    }

    /// Looks up an answer.
    pub fn get(&self, key: &Key, now: Secs) -> Found {
        // What is known of the name as a whole goes before an expired answer, which is not asked for then.
        let is_fresh = |expires: Secs| now < expires;
        let entry = self.store.get(key.asked(), now, is_fresh);
        let entry = match entry {
            Some(entry) if is_fresh(entry.answer.expires()) => {
                self.counters.fresh.inc();
                return Found::Fresh(entry.answer);
            }
            entry => entry,
        };
        if let Some(answer) = self.absent.get(key, now) {
            self.counters.fresh.inc();
            self.counters.absent.inc();
            return Found::Fresh(answer);
        }
        match entry.filter(|entry| now < entry.answer.dead()) {
            Some(entry) => {
                self.counters.stale.inc();
                self.store.note(key.asked(), 1, now);
                Found::Stale(entry)
            }
            None => {
                self.counters.missing.inc();
                Found::Missing
            }
        }
    }

    /// Returns a fresh NXDOMAIN for a name above that of a question, and that name; `secure`: only one
    /// that was validated.
    pub fn nxdomain_above<'a>(
        &self,
        key: &'a Key,
        secure: bool,
        now: Secs,
    ) -> Option<(&'a [u8], Arc<Answer>)> {
        self.absent.above(key, secure, now)
    }

    /// Notes `n` questions that were answered elsewhere with the entry. Returns whether there is
    /// such an entry.
    pub fn note(&self, asked: Asked<'_>, n: u16, now: Secs) -> bool {
        // The lookup counts as a use: an entry in demand stays here, so that it can be renewed.
        self.store.note(asked, n, now)
    }

    /// Notes that the renewal of an answer failed, and is not to be tried again before `until` (RFC 8767
    /// section 5).
    pub fn put_off(&self, key: &Key, until: Secs) {
        self.store.put_off(key.asked(), until);
    }

    /// Looks up an entry without counting the lookup, and without making the entry younger.
    pub fn peek(&self, key: &Key) -> Option<Entry> {
        self.store.peek(key.asked())
    }

    /// Looks up an entry of this tier by its key here, as [`HostTier::peek`] does.
    pub fn peek_stored(&self, key: &StoredKey) -> Option<Entry> {
        self.store.peek(key.asked())
    }

    /// Remembers a lookup that found no fresh answer.
    pub fn note_miss(&self, key: &Key, now: Secs) {
        let expired = self.peek(key).map(|entry| entry.answer.expires()).filter(|expires| now >= *expires);
        self.misses.note_miss(key.asked(), expired, now);
    }

    /// Returns the last lookup of a question in this tier that found no fresh answer, if it is remembered.
    pub fn last_miss(&self, key: &Key) -> Option<Miss> {
        self.misses.last(key.asked())
    }

    /// Remembers who asked for a purge that begins.
    pub fn note_purge(&self, purge: &Purge, by: &str) {
        self.misses.note_purge(Arc::new(purge.clone()), by.into());
    }

    /// Returns the last purge up to `at` that covers a question, if it is remembered. The first tier
    /// remembers those of all.
    pub fn purge_of(&self, key: &Key, at: Secs) -> Option<PurgeNote> {
        self.misses.purge_of(key.asked(), at)
    }

    /// Looks up the entries of a name in all tiers, given as lowercased wire bytes: of one type, or of
    /// all. Takes as long as there are types in the stores, however many entries there are.
    pub fn entries_of(&self, name: &[u8], qtype: Option<u16>) -> Vec<(StoredKey, Entry)> {
        let mut entries = self.own_entries_of(name, qtype);
        for tier in &**self.beside.load() {
            entries.extend(tier.own_entries_of(name, qtype));
        }
        entries
    }

    /// Returns the entries of a name in this tier alone.
    pub fn own_entries_of(&self, name: &[u8], qtype: Option<u16>) -> Vec<(StoredKey, Entry)> {
        let of_type = |qtype: u16| {
            let question = [name, &qtype.to_be_bytes(), &CLASS_IN.to_be_bytes()].concat();
            let both = [0, Flags::DO, Flags::CD, Flags::DO | Flags::CD];
            both.into_iter().filter_map(move |flags| {
                let key = StoredKey { question: question.clone().into(), flags: Flags(flags) };
                let entry = self.peek_stored(&key)?;
                Some((key, entry))
            })
        };
        match qtype {
            Some(qtype) => of_type(qtype).collect(),
            None => self.types.iter().flat_map(of_type).collect(),
        }
    }

    /// Stores an answer whose resolution began in `generation`, unless a purge since then covers it or
    /// the answer must not be kept. Returns whether it was stored.
    pub fn insert(&self, key: &Key, answer: Arc<Answer>, generation: u64) -> bool {
        if answer.ttl == 0 {
            self.misses.note_gone(key.asked(), MissCause::NotKept);
            return false;
        }
        let _under_way = self.fence.read();
        if self.generations.is_source_void(key.asked(), generation) {
            self.counters.outdated.inc();
            self.misses.note_gone(key.asked(), MissCause::Purged);
            return false;
        }
        self.absent.learn(key, &answer);
        self.types.note(key.asked().qtype());
        // The first question for an answer finds nothing and does not count as demand.
        self.store.insert(key.asked(), &answer);
        self.counters.inserted.inc();
        true
    }

    /// Removes the answer to a question, because a newer one came that must not be kept.
    pub fn forget(&self, key: &Key) {
        if self.store.remove_if(key.asked(), |_| true).is_some() {
            self.misses.note_gone(key.asked(), MissCause::NotKept);
        }
        self.absent.forget(key);
    }

    /// Stores an answer that has expired, as if time had passed.
    #[cfg(test)]
    pub fn insert_expired(&self, key: &Key, answer: Arc<Answer>) {
        self.store.insert(key.asked(), &answer);
    }

    /// Removes an entry if it can no longer be served at `now`. Returns whether it did.
    pub fn remove_dead(&self, key: &StoredKey, now: Secs) -> bool {
        let Some((expired, _)) = self.store.remove_if(key.asked(), |dead| now >= dead) else { return false };
        self.misses.note_expired(key.asked(), expired);
        self.counters.dead.inc();
        true
    }

    /// Removes the entries that `purge` covers, and returns their number. Walks the whole store:
    /// not for an async task.
    pub fn purge(&self, purge: &Purge) -> u64 {
        self.purge_each(&[Arc::new(purge.clone())])
    }

    /// Removes the entries that one of `purges` covers, and returns their number. Walks the whole
    /// store once: not for an async task.
    pub fn purge_each(&self, purges: &[Arc<Purge>]) -> u64 {
        let scopes = Scopes::of(purges);
        self.purge_where(purges, |name| scopes.covers(name), |name| scopes.is_above(name))
    }

    /// Removes the entries whose names are `covered`. An NXDOMAIN for a name that is `above` a purged
    /// one goes too: it must not answer for that.
    fn purge_where(
        &self,
        purges: &[Arc<Purge>],
        covered: impl Fn(&[u8]) -> bool,
        above: impl Fn(&[u8]) -> bool,
    ) -> u64 {
        self.begin_generations(purges);
        // After that: a tier that is not here yet has nothing older.
        let beside = self.beside.load();
        let tiers = std::iter::once(self).chain(beside.iter().map(|tier| &**tier));
        let removed = tiers.map(|tier| tier.remove_where(&covered, &above)).sum();
        self.begin_generations(purges);
        self.counters.purged.add(removed);
        removed
    }

    fn remove_where(&self, covered: impl Fn(&[u8]) -> bool, above: impl Fn(&[u8]) -> bool) -> u64 {
        let removed = std::cell::Cell::new(0);
        self.store.retain(|asked| {
            let keep = !covered(asked.name());
            if !keep {
                removed.set(removed.get() + 1);
                self.misses.note_gone(asked, MissCause::Purged);
            }
            keep
        });
        self.absent.purge(|name| covered(name) || above(name));
        removed.get()
    }

    fn begin_generations(&self, purges: &[Arc<Purge>]) {
        let _no_insert = self.fence.write();
        purges.iter().for_each(|purge| self.generations.begin(purge.clone()));
    }

    /// Makes void what workers have cached, since lists now decide otherwise.
    pub fn begin_verdicts(&self) {
        self.begin_generations(&[Arc::new(Purge::Verdicts)]);
    }

    /// Makes void what workers have cached about some names and their aliases, since lists now decide
    /// otherwise about them.
    pub fn begin_verdicts_on(&self, names: Arc<dyn NameSet>) {
        self.begin_generations(&[Arc::new(Purge::VerdictsOn(names))]);
    }

    /// Removes the entries of the tiers beside this one that can no longer be served at `now`, and
    /// returns their number. Walks the whole stores: not for an async task.
    pub fn remove_dead_beside(&self, now: Secs) -> u64 {
        let mut removed = 0;
        for tier in &**self.beside.load() {
            tier.walk(|seen| removed += u64::from(now >= seen.dead() && tier.remove_dead(&seen.key(), now)));
        }
        removed
    }

    /// Returns all entries of this tier, as they are when their turn comes. One that moves meanwhile may
    /// come twice. Walks the whole store: not for an async task.
    pub fn iter(&self) -> impl Iterator<Item = (StoredKey, Entry)> + '_ {
        self.store.iter()
    }

    /// Calls `see` with all entries of this tier, and then gives the memory of removed ones back. An
    /// entry may have been removed meanwhile, and one that moves may come twice. Walks the whole store:
    /// not for an async task.
    pub fn walk(&self, mut see: impl FnMut(Seen<'_>)) {
        self.store.walk(|entry| see(Seen(entry)));
        self.store.compact();
    }

    /// Returns the tiers beside this one.
    pub fn tiers_beside(&self) -> Arc<Vec<Arc<HostTier>>> {
        self.beside.load_full()
    }

    /// Returns the number of entries of all tiers.
    pub fn len(&self) -> usize {
        self.store.len() + self.beside.load().iter().map(|tier| tier.len()).sum::<usize>()
    }

    /// Whether all tiers are empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes in use of all tiers, and the most that may be.
    pub fn bytes(&self) -> (u64, u64) {
        let own = (self.store.bytes() + self.absent.bytes(), self.capacity.load(Ordering::Relaxed));
        self.beside
            .load()
            .iter()
            .map(|tier| tier.bytes())
            .fold(own, |all, one| (all.0 + one.0, all.1 + one.1))
    }
}

#[cfg(test)]
mod tests;
