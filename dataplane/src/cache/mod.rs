//! The core tier: one worker's answers.
//!
//! Entries lie in two byte-budgeted slabs, each written as a ring. What is new goes to *probation*, a tenth of the
//! bytes. An entry that reaches the tail of its slab without having been asked for again leaves (while the protected
//! slab still has room to spare, it moves there); one that was asked for moves to the head of the *protected* slab,
//! or round to its head again. So recency costs a hit one bit in a line that it reads anyway (CLOCK's approximation of
//! LRU; the two queues are S3-FIFO's, Yang et al., SOSP 2023), nothing is ever fragmented, and what was asked for
//! once cannot push out what is asked for often.
//!
//! Time is handed in; nothing here asks for it.

mod entry;
mod hash;
mod index;
mod ring;

pub use entry::{Filed, Fresh, SIMPLE_TTL};
pub use hash::KeyedHash;
pub use index::{Ref, Spot};

use crate::{
    clock::Secs,
    dns::{
        answer::{Answer, View},
        header,
        key::{Asked, Flags, Key},
    },
    region::Region,
    simd::{BLOCK, Block, Simd, prefetch},
};
use entry::{Draft, ENTRY_MAX, Header};
use index::Index;
use ring::{Ring, UNIT};
use std::io;

/// The least bytes that a cache works with.
pub const BYTES_MIN: usize = 256 << 10;

/// The most bytes that a cache can address.
pub const BYTES_MAX: usize = 32 << 30;

/// Probation's part of the bytes: one in this many.
const PROBATION_SHARE: usize = 10;

/// What an entry is assumed to take in the slabs when the index is sized: a short name with one address. Smaller
/// ones fill the index first.
const TYPICAL_ENTRY: usize = 88;
/// Entries a bucket is sized for, of the eight that it holds.
const TYPICAL_LOAD: usize = 6;

/// Most entries that one insert moves round before it takes the next, asked for or not: a bound on its time.
const MOVES_MAX: u32 = 32;

/// Bytes in use and entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Entries in the index.
    pub entries: u64,
    /// Bytes that entries take up in the slabs, removed ones that still wait for their turn included.
    pub used: u64,
    /// Bytes of removed entries among `used`.
    pub removed: u64,
    /// Bytes in all: slabs and index.
    pub capacity: u64,
}

/// What inserts and sweeps have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Churn {
    /// Entries written.
    pub inserted: u64,
    /// Entries pushed out by others while still of use.
    pub evicted: u64,
    /// Entries removed because they were expired or purged.
    pub expired: u64,
}

/// An entry that answers.
#[derive(Debug)]
pub struct Hit<'a> {
    /// The answer.
    pub view: View<'a>,
    /// Whether it is still fresh.
    pub freshness: Freshness,
}

/// Fresh against stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Good.
    Fresh {
        /// Received this many seconds ago.
        age: Secs,
        /// Whether it will expire soon, and is asked for so often that it is worth renewing before.
        renew: bool,
    },
    /// Past its TTL, within the time that it may still be given out (RFC 8767).
    Stale {
        /// Whether it is time to ask for a new one.
        refresh: bool,
    },
}

/// Which slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment {
    Probation,
    Protected,
}

/// One worker's cache.
pub struct Cache {
    slab: Region,
    probation: Ring,
    protected: Ring,
    index: Index,
    /// Wraps; entries of another generation than this are not given out.
    generation: u8,
    wire_max: usize,
    entries: u64,
    removed: usize,
    churn: Churn,
    /// Which slab the sweep looks at.
    sweeping: Segment,
}

impl Cache {
    /// A cache of `bytes` in all, for replies of up to `udp_limit` bytes. To be made by the thread that uses it, so
    /// that its memory is near.
    pub fn new(bytes: usize, udp_limit: u16) -> io::Result<Self> {
        let bytes = bytes.clamp(BYTES_MIN, BYTES_MAX);
        let index = Index::new(bytes / (TYPICAL_ENTRY * TYPICAL_LOAD + Index::BUCKET));
        let slab_bytes = bytes - index.bytes();
        let probation = Ring::new(slab_bytes / PROBATION_SHARE);
        let protected = Ring::new(slab_bytes - probation.capacity());
        Ok(Cache {
            slab: Region::new(slab_bytes + ENTRY_MAX)?,
            probation,
            protected,
            index,
            generation: 0,
            // Header and the shortest question, the root's, come first.
            wire_max: usize::from(udp_limit).saturating_sub(header::LEN + 5),
            entries: 0,
            removed: 0,
            churn: Churn::default(),
            sweeping: Segment::Probation,
        })
    }

    /// What entries with these flags are filed under now.
    #[inline(always)]
    pub fn filed(&self, flags: Flags) -> Filed {
        Filed::new(flags, self.generation)
    }

    /// First step of a lookup: where to look; asks for that line.
    #[inline(always)]
    pub fn seek(&self, hash: u64) -> Spot {
        self.index.seek(hash)
    }

    /// Second step: the entry that is probably it; asks for its lines.
    #[inline(always)]
    pub fn candidate(&self, spot: Spot) -> Option<Ref> {
        let found = self.index.candidate(spot)?;
        let entry = self.slab.bytes().as_ptr().wrapping_add(position(found));
        prefetch(entry);
        prefetch(entry.wrapping_add(64));
        // A block of records is read, of which the end lies one line further on from every other entry.
        prefetch(entry.wrapping_add(96));
        Some(found)
    }

    /// Third step: the answer, where the candidate is the right entry and fresh, as nearly all are.
    /// Notes that it was asked for. `None` says nothing yet: [`lookup`](Self::lookup) does.
    ///
    /// `block` is a key's first [block](Key::blocks), `len` how much of it is the question, and `beyond` what it has no room for.
    #[inline(always)]
    pub fn get_fresh<S: Simd>(
        &mut self,
        simd: S,
        candidate: Ref,
        filed: Filed,
        (block, len): (&Block, usize),
        beyond: &[u8],
        now: Secs,
    ) -> Option<Fresh<'_>> {
        let (header, body) = Header::at_mut(self.slab.bytes_mut(), position(candidate));
        let have = body.first_chunk::<BLOCK>().unwrap_or(&[0; BLOCK]);
        if header.filed() != filed || !simd.same(have, block, len) || now >= header.glance() {
            return None;
        }
        if !beyond.is_empty() && body[BLOCK..][..beyond.len()] != *beyond {
            return None;
        }
        header.touch();
        Some(Fresh::new(header, body, len + beyond.len()))
    }

    /// Third step: the entry, if there is one that is still good. Notes that it was asked for.
    pub fn lookup(&mut self, hash: u64, key: &Key, now: Secs) -> Option<Hit<'_>> {
        let found = self.find(hash, key)?;
        let (header, body) = Header::at_mut(self.slab.bytes_mut(), position(found));
        if header.generation() != self.generation || now >= header.dead() {
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
        Some(Hit { view: header.view(body), freshness })
    }

    fn find(&self, hash: u64, key: &Key) -> Option<Ref> {
        let slab = self.slab.bytes();
        self.index.find(hash, |entry| {
            let (header, body) = Header::at(slab, position(entry));
            header.is_filed_under(body, key)
        })
    }

    /// Files an answer. One that is neither newer nor longer-lived than what is there, or of no use any more, is
    /// not written.
    pub fn insert(&mut self, key: &Key, hash: u64, answer: &Answer, now: Secs) {
        if answer.ttl == 0 || now >= answer.dead() {
            return;
        }
        let mut segment = Segment::Probation;
        let mut frequency = 0;
        if let Some(old) = self.find(hash, key) {
            let (header, _) = Header::at(self.slab.bytes(), position(old));
            let current = header.generation() == self.generation;
            if current && header.received() >= answer.received && header.expires() >= answer.expires() {
                return;
            }
            // A renewed entry keeps its place, but has to be asked for again to be renewed again.
            segment = self.segment(old);
            frequency = header.frequency().min(1);
            self.unlink(old);
        }
        let draft = Draft::new(key, hash, answer, self.wire_max, self.generation, now);
        let size = draft.size();
        let at = self.make_room(segment, size, now);
        draft.write(&mut self.slab.bytes_mut()[at..], frequency);
        let entry = reference(at);
        if !self.index.insert(hash, entry) {
            self.crowd_out(hash);
            if !self.index.insert(hash, entry) {
                // Cannot be: a slot of its home bucket was just freed.
                Header::at_mut(self.slab.bytes_mut(), at).0.kill();
                self.removed += size;
                return;
            }
        }
        self.entries += 1;
        self.churn.inserted += 1;
    }

    /// Files an answer in place of the one that there is, if there is any.
    pub fn renew(&mut self, key: &Key, hash: u64, answer: &Answer, now: Secs) -> bool {
        let known = self.find(hash, key).is_some();
        if known {
            self.insert(key, hash, answer, now);
        }
        known
    }

    /// Makes all entries so far unusable. They leave as the sweep and new entries reach them.
    pub fn purge(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        if self.generation == 0 {
            // Entries of the last round with this number must not come back to life.
            self.index.clear();
            self.probation = Ring::new(self.probation.capacity());
            self.protected = Ring::new(self.protected.capacity());
            self.churn.expired += self.entries;
            (self.entries, self.removed) = (0, 0);
        }
    }

    /// Looks at up to `steps` entries, and removes those that are expired or purged. Where a quarter of a slab is
    /// removed entries, it also moves live ones together, so that their room can be used.
    pub fn sweep(&mut self, steps: u32, now: Secs) {
        self.sweep_noting(steps, now, |_| false);
    }

    /// The same, and gives the questions of those to `note` that are fresh and have been asked for since it last did. It says
    /// whether it could take it.
    pub fn sweep_noting(&mut self, steps: u32, now: Secs, mut note: impl FnMut(Asked<'_>) -> bool) {
        for _ in 0..steps {
            let segment = self.sweeping;
            let Some(at) = self.ring(segment).cursor() else {
                self.sweeping = segment.other();
                continue;
            };
            let position = self.base(segment) + at;
            let (header, body) = Header::at_mut(self.slab.bytes_mut(), position);
            let (size, live) = (header.size(), header.is_live());
            if live && (now >= header.dead() || header.generation() != self.generation) {
                self.unlink(reference(position));
                self.churn.expired += 1;
            } else if live
                && header.is_often_asked_for()
                && now < header.expires()
                && note(header.asked(body))
            {
                // One less than before, so that it can be seen whether it is asked for again. That it was is not forgotten.
                header.fade();
            }
            self.ring_mut(segment).advance(size);
            if self.ring(segment).cursor() == self.ring(segment).tail() {
                self.sweeping = segment.other();
            }
            self.reclaim_tail();
        }
    }

    /// Frees removed entries at the tails; past a quarter of all bytes in use, moves live ones away from before them.
    fn reclaim_tail(&mut self) {
        for segment in [Segment::Probation, Segment::Protected] {
            let Some(at) = self.ring(segment).tail() else { continue };
            let (header, _) = Header::at(self.slab.bytes(), self.base(segment) + at);
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

    /// Frees entries at the tail until `size` bytes fit at the head of `segment`; returns their position in the slab.
    fn make_room(&mut self, segment: Segment, size: usize, now: Secs) -> usize {
        let mut moves = MOVES_MAX;
        loop {
            if let Some(at) = self.ring_mut(segment).push(size) {
                return self.base(segment) + at;
            }
            self.evict(segment, now, &mut moves);
        }
    }

    /// Takes the entry at the tail away: to a head if it was asked for, else for good.
    fn evict(&mut self, segment: Segment, now: Secs, moves: &mut u32) {
        let Some(at) = self.ring(segment).tail() else { return };
        let position = self.base(segment) + at;
        let (header, _) = Header::at_mut(self.slab.bytes_mut(), position);
        let size = header.size();
        let live = header.is_live();
        let useful = live && now < header.dead() && header.generation() == self.generation;
        let wanted = header.frequency() > 0 && *moves > 0;
        if useful && wanted {
            header.fade();
            *moves -= 1;
        }
        // Where the protected slab has room to spare, nobody is pushed out by what was asked for only once.
        let spare = segment == Segment::Probation && self.protected_fits(size);
        let keep = useful && (wanted || spare);
        self.ring_mut(segment).pop(size);
        if keep {
            let to = Segment::Protected;
            if segment == Segment::Probation {
                while !self.protected_fits(size) {
                    self.evict(Segment::Protected, now, moves);
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
        // Rings are a few words; trying on a copy keeps their rules in one place.
        let mut trial = self.protected;
        trial.push(size).is_some()
    }

    /// Copies an entry that was just popped from `at` of one slab to the head of another, where it must fit.
    fn relocate(&mut self, from: Segment, at: usize, to: Segment, size: usize) {
        let source = self.base(from) + at;
        let base = self.base(to);
        let Some(head) = self.ring_mut(to).push(size) else { unreachable!("room was made for the entry") };
        let target = base + head;
        // Popping freed the bytes but did not touch them, and memory that overlaps is moved rightly.
        self.slab.bytes_mut().copy_within(source..source + size, target);
        let hash = Header::at(self.slab.bytes(), target).0.hash();
        let moved = self.index.moved(hash, reference(source), reference(target));
        debug_assert!(moved, "a live entry is in the index");
    }

    /// Removes the entry of the home bucket that was asked for least, because the buckets around it are full.
    fn crowd_out(&mut self, hash: u64) {
        let slab = self.slab.bytes();
        let least = self
            .index
            .neighbours(hash)
            .into_iter()
            .min_by_key(|entry| Header::at(slab, position(*entry)).0.frequency());
        if let Some(entry) = least {
            self.unlink(entry);
            self.churn.evicted += 1;
        }
    }

    /// Takes an entry out of the index; its bytes stay until the tail reaches them.
    fn unlink(&mut self, entry: Ref) {
        self.removed += Header::at(self.slab.bytes(), position(entry)).0.size();
        self.unlink_popped(entry);
    }

    /// The same for an entry whose bytes are already given back.
    fn unlink_popped(&mut self, entry: Ref) {
        let (header, _) = Header::at_mut(self.slab.bytes_mut(), position(entry));
        header.kill();
        let hash = header.hash();
        let removed = self.index.remove(hash, entry);
        debug_assert!(removed, "a live entry is in the index");
        self.entries -= 1;
    }

    fn segment(&self, entry: Ref) -> Segment {
        if position(entry) < self.probation.capacity() { Segment::Probation } else { Segment::Protected }
    }

    fn base(&self, segment: Segment) -> usize {
        match segment {
            Segment::Probation => 0,
            Segment::Protected => self.probation.capacity(),
        }
    }

    fn ring(&self, segment: Segment) -> &Ring {
        match segment {
            Segment::Probation => &self.probation,
            Segment::Protected => &self.protected,
        }
    }

    fn ring_mut(&mut self, segment: Segment) -> &mut Ring {
        match segment {
            Segment::Probation => &mut self.probation,
            Segment::Protected => &mut self.protected,
        }
    }

    /// Bytes in use and entries.
    pub fn occupancy(&self) -> Occupancy {
        Occupancy {
            entries: self.entries,
            used: (self.probation.used() + self.protected.used()) as u64,
            removed: self.removed as u64,
            capacity: (self.probation.capacity() + self.protected.capacity() + self.index.bytes()) as u64,
        }
    }

    /// What inserts and sweeps have done so far.
    pub fn churn(&self) -> Churn {
        self.churn
    }
}

impl Segment {
    fn other(self) -> Self {
        match self {
            Segment::Probation => Segment::Protected,
            Segment::Protected => Segment::Probation,
        }
    }
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
