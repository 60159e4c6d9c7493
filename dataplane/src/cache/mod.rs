//! The worker cache: the answers of one worker.
//!
//! Entries are in two slabs of fixed size, each written as a ring. A new entry goes to *probation*,
//! a tenth of the bytes. When an entry reaches the tail of its slab without having been requested
//! again, it is evicted (while the protected slab still has spare room, it moves there). One that
//! was requested moves to the head of the *protected* slab, or again to its head. So recency costs
//! a hit one bit in a cache line that it reads anyway (CLOCK's approximation of LRU; the two queues
//! are S3-FIFO's, Yang et al., SOSP 2023), memory never fragments, and entries requested once
//! cannot evict entries requested often.
//!
//! Callers pass the time; nothing here reads a clock.

mod entry;
mod filing;
mod filings;
mod glance;
mod hash;
mod index;
mod insert;
mod inspect;
mod purge;
mod ring;
mod usage;

pub use entry::{Found, Parts, SIMPLE_TTL};
pub use filing::{Filed, Note, Scope};
pub use glance::{Question, Special, Terms};
pub use hash::KeyedHash;
pub use index::{Ref, Spot};
pub use usage::{Churn, Occupancy};

use crate::{
    clock::Secs,
    dns::{
        answer::View,
        header,
        key::{Asked, Flags, Key},
    },
    group::Group,
    region::{HUGE_PAGE, Populator, Region},
    simd::prefetch,
};
use entry::{ENTRY_MAX, EntryHeader};
use filings::Filings;
use index::{Index, TYPICAL_LOAD};
use ring::{Ring, UNIT};
use std::io;

/// Smallest size of a cache, in bytes.
pub const BYTES_MIN: usize = 256 << 10;

/// Largest size of a cache, in bytes: the most that a [`Ref`] can address.
pub const BYTES_MAX: usize = 16 << 30;

/// Probation's share of the slab bytes: one in this many.
const PROBATION_SHARE: usize = 10;

/// Size in bytes that an entry is assumed to have when the index is sized: a short name with one
/// address. Smaller entries fill the index first.
const TYPICAL_ENTRY: usize = 68;

/// Number of bytes that are populated ahead of a slab's head.
const AHEAD: usize = HUGE_PAGE;
/// Number of bytes after which a slab asks for the next pages: half of a huge page, so that there is time.
const STEP: usize = HUGE_PAGE / 2;

/// Most entries that one insert moves before it evicts the next, requested or not: a bound on its
/// time.
const MOVES_MAX: u32 = 32;

/// Entry that answers a query.
#[derive(Debug)]
pub struct Hit<'a> {
    /// The answer.
    pub view: View<'a>,
    /// Whether it is still fresh.
    pub freshness: Freshness,
    /// Number of the list that gave it.
    pub list: Option<u8>,
}

/// Freshness of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Not expired.
    Fresh {
        /// Time since the answer was received, in seconds.
        age: Secs,
        /// Whether the entry will expire soon, and is requested so often that it is worth renewing
        /// before then.
        renew: bool,
    },
    /// Past its TTL, but within the time that it may still be given out (RFC 8767).
    Stale {
        /// Whether it is time to request a new answer.
        refresh: bool,
    },
}

/// One of the two slabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlabKind {
    Probation,
    Protected,
}

/// Cache of one worker.
pub struct Cache {
    hash: KeyedHash,
    slab: Region,
    probation: Ring,
    protected: Ring,
    index: Index,
    /// Generations of the entries.
    filings: Filings,
    wire_max: usize,
    entries: u64,
    removed: usize,
    churn: Churn,
    /// Slab that the sweep is in.
    sweeping: SlabKind,
}

impl Cache {
    /// Creates a cache of `bytes`, for replies of up to `udp_limit` bytes, whose entries are found by
    /// `hash`. Create it on the thread that uses it, so that its memory is on that core's NUMA node.
    pub fn new(bytes: usize, udp_limit: u16, hash: KeyedHash) -> io::Result<Self> {
        let bytes = bytes.clamp(BYTES_MIN, BYTES_MAX);
        let index = Index::new(bytes / (TYPICAL_ENTRY * TYPICAL_LOAD + Index::BUCKET))?;
        let slab_bytes = bytes - index.bytes();
        let probation = Ring::new(slab_bytes / PROBATION_SHARE);
        let protected = Ring::new(slab_bytes - probation.capacity());
        Ok(Cache {
            hash,
            slab: Region::new(slab_bytes + ENTRY_MAX)?,
            probation,
            protected,
            index,
            filings: Filings::new(),
            // The header and the shortest question, the root's, precede the records.
            wire_max: usize::from(udp_limit).saturating_sub(header::LEN + 5),
            entries: 0,
            removed: 0,
            churn: Churn::default(),
            sweeping: SlabKind::Probation,
        })
    }

    /// Has `populator` populate the cache's memory ahead of its use, so that no insert waits for it.
    pub fn populate_by(&mut self, populator: &Populator) {
        self.index.populate_by(populator);
        self.slab.populate_by(populator);
        for segment in [SlabKind::Probation, SlabKind::Protected] {
            let base = self.base(segment);
            self.slab.will_use(base..base + STEP);
        }
    }

    /// Returns the hash that finds entries.
    pub fn hash(&self) -> KeyedHash {
        self.hash
    }

    /// Returns the filing of entries with these flags in the current generation.
    #[inline(always)]
    pub fn filed(&self, flags: Flags) -> Filed {
        Filed::new(flags, self.filings.current)
    }

    /// First step of a lookup: returns the place to search, and prefetches its cache line.
    #[inline(always)]
    pub fn seek(&self, hash: u64) -> Spot {
        self.index.seek(hash)
    }

    /// Second step: returns the entry that is probably the right one, and prefetches its cache
    /// lines.
    #[inline(always)]
    pub fn candidate(&self, spot: Spot) -> Option<Ref> {
        let found = self.index.candidate(spot)?;
        let entry = self.slab.bytes().as_ptr().wrapping_add(position(found));
        prefetch(entry);
        prefetch(entry.wrapping_add(64));
        // A whole block of records is read; for every second entry it ends in the next line.
        prefetch(entry.wrapping_add(96));
        Some(found)
    }

    /// Third step: returns the entry for a client of the default group, if there is a usable one.
    /// Counts the request.
    pub fn lookup(&mut self, hash: u64, key: &Key, now: Secs) -> Option<Hit<'_>> {
        self.lookup_for(Group::DEFAULT, hash, key, now)
    }

    /// Third step: returns the entry for a client of `group`, if there is a usable one. Counts the
    /// request.
    pub fn lookup_for(&mut self, group: Group, hash: u64, key: &Key, now: Secs) -> Option<Hit<'_>> {
        let found = self.find_for(group, hash, key)?;
        if !self.refile(found) {
            return None;
        }
        let (header, body) = EntryHeader::at_mut(self.slab.bytes_mut(), position(found));
        if now >= header.dead() {
            return None;
        }
        header.touch();
        let age = now.saturating_sub(header.received());
        let freshness = if now < header.glance() {
            Freshness::Fresh { age, renew: false }
        } else if now < header.expires() {
            Freshness::Fresh { age, renew: header.claim_ahead() }
        } else {
            Freshness::Stale { refresh: header.claim_refresh(now) }
        };
        let (view, list) = header.view(body);
        Some(Hit { view, freshness, list })
    }

    /// Returns the entry that clients of `group` get: that of all groups together, or, if it is not
    /// for this one, the group's own.
    #[inline(always)]
    fn find_for(&self, group: Group, hash: u64, key: &Key) -> Option<Ref> {
        let common = self.find(Group::DEFAULT, hash, key).filter(|found| self.is_for(*found, group));
        common.or_else(|| if group == Group::DEFAULT { None } else { self.find(group, hash, key) })
    }

    /// Returns the entry that is kept for `group`.
    #[inline(always)]
    fn find(&self, group: Group, hash: u64, key: &Key) -> Option<Ref> {
        let slab = self.slab.bytes();
        self.index.find(hash_for(group, hash), |entry| {
            let (header, body) = EntryHeader::at(slab, position(entry));
            header.is_filed_under(body, key, group)
        })
    }

    #[inline(always)]
    fn is_for(&self, entry: Ref, group: Group) -> bool {
        let (header, body) = EntryHeader::at(self.slab.bytes(), position(entry));
        header.is_for(body, group)
    }

    /// Looks at up to `steps` entries, and removes the expired and purged ones. If removed entries
    /// take a quarter of the bytes in use, it also moves live entries together, so that the room
    /// can be used.
    pub fn sweep(&mut self, steps: u32, now: Secs) {
        self.sweep_noting(steps, now, |_| false);
    }

    /// Sweeps, and passes to `note` the questions of fresh entries that have been requested since
    /// the last time they were noted. `note` returns whether it could take the question. Entries of one
    /// group alone are not noted: a list has made them, and makes them again at no cost.
    pub fn sweep_noting(&mut self, steps: u32, now: Secs, mut note: impl FnMut(Asked<'_>) -> bool) {
        for _ in 0..steps {
            let segment = self.sweeping;
            let Some(at) = self.ring(segment).cursor() else {
                self.sweeping = segment.other();
                continue;
            };
            let position = self.base(segment) + at;
            let current = self.filings.current;
            let (header, body) = EntryHeader::at_mut(self.slab.bytes_mut(), position);
            let (size, live, dead) = (header.size(), header.is_live(), now >= header.dead());
            if live && (dead || header.generation() != current) {
                if dead || !self.refile_older(reference(position)) {
                    self.unlink(reference(position));
                    self.churn.expired += 1;
                }
            } else if live
                && header.is_often_asked_for()
                && header.is_for_default_group()
                && now < header.expires()
                && note(header.asked(body))
            {
                // Forgets one request, so that a new one can be noticed. The entry still counts as
                // requested.
                header.fade();
            }
            self.ring_mut(segment).advance(size);
            if self.ring(segment).cursor() == self.ring(segment).tail() {
                self.sweeping = segment.other();
            }
            self.reclaim_tail();
        }
    }

    /// Frees removed entries at the tails. If they take more than a quarter of the bytes in use,
    /// moves live entries out of their way.
    fn reclaim_tail(&mut self) {
        for segment in [SlabKind::Probation, SlabKind::Protected] {
            let Some(at) = self.ring(segment).tail() else { continue };
            let (header, _) = EntryHeader::at(self.slab.bytes(), self.base(segment) + at);
            let (size, live) = (header.size(), header.is_live());
            let used = self.probation.used() + self.protected.used();
            if !live {
                self.ring_mut(segment).pop(size);
                self.removed -= size;
            } else if self.removed > used / 4 {
                self.ring_mut(segment).pop(size);
                self.relocate(segment, at, segment, size);
            }
        }
    }

    /// Frees entries at the tail until `size` bytes fit at the head of `segment`. Returns their
    /// position in the slab.
    fn make_room(&mut self, segment: SlabKind, size: usize, now: Secs) -> usize {
        let mut moves = MOVES_MAX;
        loop {
            if let Some(at) = self.push(segment, size) {
                return at;
            }
            self.evict(segment, now, &mut moves);
        }
    }

    /// Takes `size` bytes at the head of a slab, if there is room. Returns their position.
    fn push(&mut self, segment: SlabKind, size: usize) -> Option<usize> {
        let at = self.base(segment) + self.ring_mut(segment).push(size)?;
        let end = at + size;
        if at / STEP != end / STEP {
            self.slab.will_use(end..end + AHEAD);
        }
        Some(at)
    }

    /// Removes the entry at the tail: moves it to a head if it was requested, else evicts it.
    fn evict(&mut self, segment: SlabKind, now: Secs, moves: &mut u32) {
        let Some(at) = self.ring(segment).tail() else { return };
        let position = self.base(segment) + at;
        let (header, _) = EntryHeader::at(self.slab.bytes(), position);
        let (size, live, dead) = (header.size(), header.is_live(), now >= header.dead());
        let wanted = header.frequency() > 0 && *moves > 0;
        let is_current = header.generation() == self.filings.current;
        let useful = live && !dead && (is_current || self.refile_older(reference(position)));
        if useful && wanted {
            EntryHeader::at_mut(self.slab.bytes_mut(), position).0.fade();
            *moves -= 1;
        }
        // While the protected slab has spare room, no entry needs to be evicted, even if it was
        // requested only once.
        let spare = segment == SlabKind::Probation && self.protected_fits(size);
        let keep = useful && (wanted || spare);
        self.ring_mut(segment).pop(size);
        if keep {
            let to = SlabKind::Protected;
            if segment == SlabKind::Probation {
                while !self.protected_fits(size) {
                    self.evict(SlabKind::Protected, now, moves);
                }
            }
            self.relocate(segment, at, to, size);
        } else if live {
            self.unlink_popped(reference(position));
            let counter = if useful { &mut self.churn.evicted } else { &mut self.churn.expired };
            *counter += 1;
        } else {
            self.removed -= size;
        }
    }

    fn protected_fits(&self, size: usize) -> bool {
        // A ring is a few words; trying on a copy keeps the rules in one place.
        let mut trial = self.protected;
        trial.push(size).is_some()
    }

    /// Copies an entry that was just popped at `at` of one slab to the head of another, where it
    /// must fit.
    fn relocate(&mut self, from: SlabKind, at: usize, to: SlabKind, size: usize) {
        let source = self.base(from) + at;
        let Some(target) = self.push(to, size) else { unreachable!("room was made for the entry") };
        // Popping freed the bytes but did not touch them, and `copy_within` handles overlap.
        self.slab.bytes_mut().copy_within(source..source + size, target);
        let hash = hash_of(&self.hash, self.slab.bytes(), reference(target));
        let moved = self.index.moved(hash, reference(source), reference(target));
        debug_assert!(moved, "a live entry is in the index");
    }

    /// Removes the least requested entry of the home bucket, because the buckets around it are
    /// full.
    fn crowd_out(&mut self, hash: u64) {
        let slab = self.slab.bytes();
        let least = self
            .index
            .neighbours(hash)
            .into_iter()
            .min_by_key(|entry| EntryHeader::at(slab, position(*entry)).0.frequency());
        if let Some(entry) = least {
            self.unlink(entry);
            self.churn.evicted += 1;
        }
    }

    /// Removes an entry from the index; its bytes stay until the tail reaches them.
    fn unlink(&mut self, entry: Ref) {
        self.removed += EntryHeader::at(self.slab.bytes(), position(entry)).0.size();
        self.unlink_popped(entry);
    }

    /// Removes from the index an entry whose bytes are already freed.
    fn unlink_popped(&mut self, entry: Ref) {
        let hash = hash_of(&self.hash, self.slab.bytes(), entry);
        let (header, _) = EntryHeader::at_mut(self.slab.bytes_mut(), position(entry));
        header.kill();
        let generation = header.generation();
        self.filings.remove(generation);
        let removed = self.index.remove(hash, entry);
        debug_assert!(removed, "a live entry is in the index");
        self.entries -= 1;
    }

    fn segment(&self, entry: Ref) -> SlabKind {
        if position(entry) < self.probation.capacity() { SlabKind::Probation } else { SlabKind::Protected }
    }

    fn base(&self, segment: SlabKind) -> usize {
        match segment {
            SlabKind::Probation => 0,
            SlabKind::Protected => self.probation.capacity(),
        }
    }

    fn ring(&self, segment: SlabKind) -> &Ring {
        match segment {
            SlabKind::Probation => &self.probation,
            SlabKind::Protected => &self.protected,
        }
    }

    fn ring_mut(&mut self, segment: SlabKind) -> &mut Ring {
        match segment {
            SlabKind::Probation => &mut self.probation,
            SlabKind::Protected => &mut self.protected,
        }
    }
}

impl SlabKind {
    fn other(self) -> Self {
        match self {
            SlabKind::Probation => SlabKind::Protected,
            SlabKind::Protected => SlabKind::Probation,
        }
    }
}

/// Returns the hash of the entry of a key that is kept for `group`, given the key's hash.
#[inline(always)]
fn hash_for(group: Group, hash: u64) -> u64 {
    // The golden ratio's fraction spreads small numbers over all bits (Knuth, TAOCP 6.4).
    hash ^ (group.number() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Returns the lower half of the hash of an entry. No entry keeps it: it is needed only when the entry
/// moves or leaves, which reads the entry anyway.
#[inline]
fn hash_of(hash: &KeyedHash, slab: &[u8], entry: Ref) -> u32 {
    let (header, body) = EntryHeader::at(slab, position(entry));
    hash_for(header.filed().group(), hash.of_asked(header.asked(body))) as u32
}

#[inline(always)]
fn position(entry: Ref) -> usize {
    entry.0 as usize * UNIT
}

#[inline(always)]
fn reference(at: usize) -> Ref {
    Ref((at / UNIT) as u32)
}

#[cfg(test)]
mod tests;
