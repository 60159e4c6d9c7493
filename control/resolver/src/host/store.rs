//! Store of entries in their compact form, in shards with a lock each.

use super::{
    Demand, Entry, StoredKey,
    index::Place,
    packed::{self, Packed, PackedKey},
    shard::{self, Progress, Rules, Shard},
};
use parking_lot::Mutex;
use quick_cache::DefaultHashBuilder;
use ringdns_dataplane::{
    clock::Secs,
    dns::{answer::Answer, key::Asked},
};
use std::{
    hash::BuildHasher,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// Bytes of a shard: a hundred thousand small entries, so that nobody waits long while a purge walks over
/// them, or while an index is made larger.
const SHARD: u64 = 4 << 20;
/// Most shards: 16 GiB of them.
const SHARDS_MAX: u64 = 4096;
/// Least bytes of a shard, and shards of a small store: it may be given more bytes later, but no more
/// shards, and a shard holds 56 MiB at most.
const SHARD_MIN: u64 = 256 << 10;
const SHARDS_SMALL: u64 = 16;

/// Called with the question of each entry that makes room for others.
pub(super) type Evicted = Box<dyn Fn(Asked<'_>) + Send + Sync>;

/// Store of entries.
pub(super) struct Store {
    shards: Box<[Mutex<Shard>]>,
    hasher: DefaultHashBuilder,
    /// Most bytes of a shard.
    shard_bytes: AtomicUsize,
    entries: AtomicUsize,
    used: AtomicU64,
    evicted: Box<dyn Fn(Packed<'_>) + Send + Sync>,
}

impl Store {
    /// Returns an empty store of `bytes`.
    pub fn new(bytes: u64, evicted: Evicted) -> Self {
        let few = (bytes / SHARD_MIN).min(SHARDS_SMALL);
        let shards = (bytes / SHARD).max(few).clamp(1, SHARDS_MAX);
        Store {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            shard_bytes: AtomicUsize::new(part_of(bytes, shards as usize)),
            entries: AtomicUsize::new(0),
            used: AtomicU64::new(0),
            evicted: Box::new(move |entry| {
                evicted(Asked { question: &entry.question(), flags: entry.flags() });
            }),
        }
    }

    /// Changes the most bytes of the store. Entries beyond that are evicted.
    pub fn set_capacity(&self, bytes: u64) {
        self.shard_bytes.store(part_of(bytes, self.shards.len()), Relaxed);
        self.shards.iter().for_each(|shard| {
            self.change(shard, |shard, rules| shard.make_room(rules, 0));
        });
    }

    fn rules(&self) -> Rules<'_> {
        Rules { capacity: self.shard_bytes.load(Relaxed), hasher: &self.hasher, evicted: &*self.evicted }
    }

    /// Changes a shard, and counts what it has more or less.
    fn change<T>(&self, shard: &Mutex<Shard>, change: impl FnOnce(&mut Shard, &Rules<'_>) -> T) -> T {
        let mut shard = shard.lock();
        let before = (shard.len(), shard.bytes());
        let result = change(&mut shard, &self.rules());
        // They wrap, and so do the sums.
        self.entries.fetch_add(shard.len().wrapping_sub(before.0), Relaxed);
        self.used.fetch_add(shard.bytes().wrapping_sub(before.1) as u64, Relaxed);
        result
    }

    /// Returns the shard of a question, and the question's hash and key.
    fn seek(&self, asked: Asked<'_>) -> Option<(&Mutex<Shard>, u64, PackedKey)> {
        let key = PackedKey::of(asked)?;
        let hash = self.hasher.hash_one(key.parts());
        // The index of a shard uses the lowest and the highest bits.
        let shard = self.shards.get((hash >> 32) as usize % self.shards.len())?;
        Some((shard, hash, key))
    }

    /// Looks up an entry. Counts a use, and demand at `now` if `is_demand` for the time at which it
    /// expires.
    pub fn get(&self, asked: Asked<'_>, now: Secs, is_demand: impl FnOnce(Secs) -> bool) -> Option<Entry> {
        let (shard, hash, key) = self.seek(asked)?;
        self.change(shard, |shard, rules| {
            let place = shard.find(hash, &key)?;
            shard.touch(place);
            let mut entry = shard.at(place)?.entry_of(asked.question)?;
            if is_demand(entry.answer.expires()) {
                entry.demand.add(1, now);
                set_tail(shard, rules, (hash, &key), entry.demand, entry.recheck);
            }
            Some(entry)
        })
    }

    /// Looks up an entry without counting a use.
    pub fn peek(&self, asked: Asked<'_>) -> Option<Entry> {
        let (shard, hash, key) = self.seek(asked)?;
        let shard = shard.lock();
        shard.at(shard.find(hash, &key)?)?.entry_of(asked.question)
    }

    /// Notes `n` questions that were answered elsewhere with an entry. Returns whether there is one.
    pub fn note(&self, asked: Asked<'_>, n: u16, now: Secs) -> bool {
        self.amend(asked, |shard, place, demand, _| {
            shard.touch(place);
            demand.add(n, now);
        })
    }

    /// Notes that the renewal of an entry failed, and is not to be tried again before `until`.
    pub fn put_off(&self, asked: Asked<'_>, until: Secs) {
        self.amend(asked, |_, _, _, recheck| *recheck = until);
    }

    fn amend(&self, asked: Asked<'_>, amend: impl FnOnce(&mut Shard, Place, &mut Demand, &mut Secs)) -> bool {
        let Some((shard, hash, key)) = self.seek(asked) else { return false };
        self.change(shard, |shard, rules| {
            let found = shard.find(hash, &key).and_then(|place| Some((place, shard.at(place)?.tail())));
            let Some((place, (mut demand, mut recheck))) = found else { return false };
            amend(shard, place, &mut demand, &mut recheck);
            set_tail(shard, rules, (hash, &key), demand, recheck);
            true
        })
    }

    /// Stores an answer, in place of the one that is there. Demand is handed on.
    pub fn insert(&self, asked: Asked<'_>, answer: &Answer) {
        let Some((shard, hash, key)) = self.seek(asked) else { return };
        let Some(mut entry) = packed::pack(&key, asked, answer) else { return };
        self.change(shard, |shard, rules| {
            let old = shard.find(hash, &key);
            let demand = old.and_then(|old| Some(shard.at(old)?.tail().0)).filter(|demand| !demand.is_zero());
            if let Some(demand) = demand
                && let Some(longer) = packed::with_tail(Packed(&entry), demand, 0)
            {
                entry = longer;
            }
            shard.put(rules, hash, entry, old);
        });
    }

    /// Removes an entry if `is_gone` for the time from which it can no longer be served. Returns when
    /// it expired, and that time.
    pub fn remove_if(&self, asked: Asked<'_>, is_gone: impl FnOnce(Secs) -> bool) -> Option<(Secs, Secs)> {
        let (shard, hash, key) = self.seek(asked)?;
        self.change(shard, |shard, _| {
            let place = shard.find(hash, &key)?;
            let ends = shard.at(place)?.ends().filter(|(_, dead)| is_gone(*dead))?;
            shard.remove(hash, place);
            Some(ends)
        })
    }

    /// Removes the entries that `keep` does not want.
    pub fn retain(&self, mut keep: impl FnMut(Asked<'_>) -> bool) {
        let mut keep = |entry: Packed<'_>| keep(Asked { question: &entry.question(), flags: entry.flags() });
        self.shards
            .iter()
            .for_each(|shard| self.change(shard, |shard, rules| shard.retain(rules, &mut keep)));
        self.compact();
    }

    /// Gives the memory of removed entries back, as far as it takes more than a quarter. Others wait
    /// for no more than the entries of one segment.
    pub fn compact(&self) {
        for shard in &self.shards {
            while self.change(shard, |shard, rules| shard.compact(rules)) {}
        }
    }

    /// Calls `see` with all entries, of which some may have been removed meanwhile, and one that
    /// moves may come twice. Others wait no longer than for a copy of a segment.
    pub fn walk(&self, mut see: impl FnMut(Packed<'_>)) {
        let mut bytes = Vec::new();
        for shard in &self.shards {
            let mut progress = Progress::START;
            while shard.lock().copy_next(&mut progress, &mut bytes) {
                shard::entries(&bytes).for_each(|(entry, _)| see(entry));
            }
        }
    }

    /// Returns all entries, as they are when their turn comes.
    pub fn iter(&self) -> impl Iterator<Item = (StoredKey, Entry)> + '_ {
        self.shards.iter().flat_map(move |shard| {
            let mut progress = Progress::START;
            let pieces = std::iter::from_fn(move || {
                let mut bytes = Vec::new();
                shard.lock().copy_next(&mut progress, &mut bytes).then_some(bytes)
            });
            pieces.flat_map(move |bytes| {
                let keys: Vec<_> = shard::entries(&bytes).map(|(entry, _)| StoredKey::of(entry)).collect();
                keys.into_iter().filter_map(move |key| self.peek(key.asked()).map(|entry| (key, entry)))
            })
        })
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.entries.load(Relaxed)
    }

    /// Returns the bytes in use.
    pub fn bytes(&self) -> u64 {
        self.used.load(Relaxed)
    }
}

/// Sets demand and recheck of an entry. An entry that had none is written anew, with room for them.
fn set_tail(
    shard: &mut Shard,
    rules: &Rules<'_>,
    (hash, key): (u64, &PackedKey),
    demand: Demand,
    recheck: Secs,
) {
    let Some(place) = shard.find(hash, key) else { return };
    let in_place = shard.at_mut(place).is_some_and(|entry| packed::set_tail(entry, demand, recheck));
    if !in_place
        && let Some(entry) = shard.at(place)
        && let Some(longer) = packed::with_tail(entry, demand, recheck)
    {
        shard.put(rules, hash, longer, Some(place));
    }
}

fn part_of(bytes: u64, shards: usize) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX) / shards.max(1)
}
