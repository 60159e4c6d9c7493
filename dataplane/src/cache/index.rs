//! Index from hashes to entries, in buckets of one cache line each.
//!
//! A bucket holds eight tags (15 bits of the hash) and eight references. An entry that finds its
//! bucket full goes to one of the next buckets, [`PROBES`] at most in all, and each bucket that it
//! passed counts it: a lookup continues only past buckets that an entry has passed.

use crate::{region::Table, simd};
use std::{io, ops::ControlFlow};
use zerocopy::FromZeros;

/// Most buckets that a lookup touches.
const PROBES: usize = 4;

/// Reference to an entry: its position in the slab in units of 8 bytes, so that 32 bits reach 32
/// GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ref(pub u32);

/// Place in the index where the entries of a hash are searched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spot {
    home: u32,
    tag: u16,
}

/// Bucket of one cache line. All bytes zero: an empty one.
#[derive(Clone, Copy, Default, FromZeros)]
#[repr(C, align(64))]
struct Bucket {
    /// Tags of the entries; zero: empty slot.
    tags: [u16; 8],
    refs: [u32; 8],
    /// Number of entries that passed this bucket because it was full.
    passed: u16,
}

impl Bucket {
    /// Returns a bit for each slot whose tag is `tag`.
    #[inline(always)]
    fn matching(&self, tag: u16) -> u32 {
        simd::equal(&self.tags, tag)
    }
}

/// The index.
pub struct Index {
    buckets: Table<Bucket>,
}

impl Index {
    /// Size of a bucket in bytes.
    pub const BUCKET: usize = size_of::<Bucket>();

    /// Creates an empty index of `buckets` buckets.
    pub fn new(buckets: usize) -> io::Result<Self> {
        Ok(Index { buckets: Table::new(buckets.max(PROBES))? })
    }

    /// Returns the size of the index in bytes.
    pub fn bytes(&self) -> usize {
        self.buckets.len() * Self::BUCKET
    }

    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        // The low half of the hash, scaled to the number of buckets (Lemire, "fast range reduction").
        (((hash & 0xffff_ffff) * self.buckets.len() as u64) >> 32) as usize
    }

    #[inline(always)]
    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() { 0 } else { bucket + 1 }
    }

    /// Returns the place where entries of this hash are searched, and prefetches the bucket's cache
    /// line.
    #[inline(always)]
    pub fn seek(&self, hash: u64) -> Spot {
        let home = self.home(hash);
        simd::prefetch(self.buckets.as_ptr().wrapping_add(home));
        Spot { home: home as u32, tag: tag(hash) }
    }

    /// Returns the first entry whose tag matches.
    #[inline(always)]
    pub fn candidate(&self, spot: Spot) -> Option<Ref> {
        let bucket = &self.buckets[spot.home as usize];
        let mask = bucket.matching(spot.tag);
        if mask != 0 {
            return Some(Ref(bucket.refs[mask.trailing_zeros() as usize & 7]));
        }
        if bucket.passed == 0 { None } else { self.search(spot, |_| true) }
    }

    /// Returns the entry of this hash that `is` accepts.
    pub fn find(&self, hash: u64, is: impl FnMut(Ref) -> bool) -> Option<Ref> {
        self.search(Spot { home: self.home(hash) as u32, tag: tag(hash) }, is)
    }

    fn search(&self, spot: Spot, mut is: impl FnMut(Ref) -> bool) -> Option<Ref> {
        self.walk(spot.home as usize, |bucket| {
            let mut mask = bucket.matching(spot.tag);
            while mask != 0 {
                let found = Ref(bucket.refs[mask.trailing_zeros() as usize & 7]);
                if is(found) {
                    return ControlFlow::Break(Some(found));
                }
                mask &= mask - 1;
            }
            if bucket.passed == 0 { ControlFlow::Break(None) } else { ControlFlow::Continue(()) }
        })
    }

    fn walk<T>(&self, mut at: usize, mut visit: impl FnMut(&Bucket) -> ControlFlow<Option<T>>) -> Option<T> {
        for _ in 0..PROBES {
            match visit(&self.buckets[at]) {
                ControlFlow::Break(found) => return found,
                ControlFlow::Continue(()) => at = self.next(at),
            }
        }
        None
    }

    /// Adds an entry. Returns false if all buckets that may hold it are full.
    pub fn insert(&mut self, hash: u64, entry: Ref) -> bool {
        let home = self.home(hash);
        let mut at = home;
        for probe in 0..PROBES {
            let empty = self.buckets[at].matching(0);
            if empty != 0 {
                let slot = empty.trailing_zeros() as usize & 7;
                self.buckets[at].tags[slot] = tag(hash);
                self.buckets[at].refs[slot] = entry.0;
                self.count_passed(home, probe, |n| n + 1);
                return true;
            }
            at = self.next(at);
        }
        false
    }

    /// Returns the entries in the home bucket of `hash`: one of them must go if `insert` found no
    /// room.
    pub fn neighbours(&self, hash: u64) -> [Ref; 8] {
        self.buckets[self.home(hash)].refs.map(Ref)
    }

    /// Removes an entry, given the lower half of its hash. Returns false if it is not there.
    pub fn remove(&mut self, hash: u32, entry: Ref) -> bool {
        let Some((bucket, slot, probe)) = self.locate(hash, entry) else { return false };
        self.buckets[bucket].tags[slot] = 0;
        self.count_passed(self.home(u64::from(hash)), probe, |n| n - 1);
        true
    }

    /// Notes that an entry has moved within the slab. Returns false if it is not there.
    pub fn moved(&mut self, hash: u32, from: Ref, to: Ref) -> bool {
        let Some((bucket, slot, _)) = self.locate(hash, from) else { return false };
        self.buckets[bucket].refs[slot] = to.0;
        true
    }

    fn locate(&self, hash: u32, entry: Ref) -> Option<(usize, usize, usize)> {
        let mut at = self.home(u64::from(hash));
        for probe in 0..PROBES {
            let bucket = &self.buckets[at];
            for slot in 0..8 {
                if bucket.tags[slot] != 0 && bucket.refs[slot] == entry.0 {
                    return Some((at, slot, probe));
                }
            }
            at = self.next(at);
        }
        None
    }

    fn count_passed(&mut self, home: usize, buckets: usize, change: impl Fn(u16) -> u16) {
        let mut at = home;
        for _ in 0..buckets {
            self.buckets[at].passed = change(self.buckets[at].passed);
            at = self.next(at);
        }
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.buckets.fill(Bucket::default());
    }
}

/// Returns the upper bits of the hash; never zero, which marks an empty slot.
#[inline(always)]
fn tag(hash: u64) -> u16 {
    (hash >> 48) as u16 | 1
}
