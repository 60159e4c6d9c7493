//! Index from hashes to entries, in buckets of one cache line each.
//!
//! A bucket holds ten tags (15 bits of the hash) and ten references. An entry that finds its
//! bucket full goes to one of the next buckets, [`PROBES`] at most in all, and each bucket that it
//! passed counts it: a lookup continues only past buckets that an entry has passed.
//!
//! The index takes no more memory than its entries need: it grows by a quarter when its buckets have
//! [`GROWTH_LOAD`] entries each. The home of an entry is its hash, scaled to the number of buckets, so
//! entries stay in the order of their hashes. Growth goes through the buckets from the last to the
//! first, a few with each insert, and moves their entries up: hashes from a border on are scaled to
//! the new number of buckets, those below it to the old one.

use crate::{
    region::{Populator, Table},
    simd,
};
use arrayvec::ArrayVec;
use std::{io, ops::ControlFlow};
use zerocopy::{FromZeros, Immutable, IntoBytes};

/// Most buckets that a lookup touches.
const PROBES: usize = 8;
/// Slots of a bucket.
pub const SLOTS: usize = simd::TAGS;

/// Number of entries a bucket for which the index is sized, of the ten that it holds.
pub const TYPICAL_LOAD: usize = 7;
/// Number of entries a bucket beyond which the index grows: one in a hundred is not in its home bucket
/// then, and none is evicted for want of a place in the index while there is memory.
const GROWTH_LOAD: usize = 6;
/// Part of its buckets by which the index grows: one in this many. With one in eight, a name would take one
/// byte less, and an insert would move twice as many entries.
const GROWTH_SHARE: u64 = 4;
/// Least number of buckets: 64 KiB.
const BUCKETS_MIN: usize = 1024;
/// Old buckets that one insert moves: enough to be done before the index must grow again.
const STEPS: usize = 2;
/// Most entries that one insert moves.
pub const MOVED_MAX: usize = STEPS * PROBES * SLOTS;
/// Share of the entries that the index holds before it grows in which the memory for its growth is populated.
const PREPARED_SHARE: u64 = 16;
/// End of the hashes.
const HASHES: u64 = 1 << 32;

/// Reference to an entry: its position in the slab in units of 4 bytes, so that 32 bits reach 16
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
#[derive(Clone, Copy, Default, FromZeros, IntoBytes, Immutable)]
#[repr(C, align(64))]
struct Bucket {
    /// Tags of the entries; zero: empty slot.
    tags: [u16; SLOTS],
    refs: [u32; SLOTS],
    /// Number of entries that passed this bucket because it was full.
    passed: u16,
    unused: u16,
}

impl Bucket {
    /// Returns a bit for each slot whose tag is `tag`.
    #[inline(always)]
    fn matching(&self, tag: u16) -> u32 {
        let Some(tags) = self.as_bytes().first_chunk() else { unreachable!("a bucket is two blocks") };
        simd::equal(tags, tag)
    }

    /// Returns the reference in the first slot of a mask that is not zero.
    #[inline(always)]
    fn first(&self, mask: u32) -> Ref {
        match self.refs.get(mask.trailing_zeros() as usize) {
            Some(entry) => Ref(*entry),
            None => unreachable!("a mask has a bit for each slot"),
        }
    }
}

/// The index.
pub struct Index {
    /// As many buckets as there may be, and those that entries of the last one may pass to.
    buckets: Table<Bucket>,
    entries: usize,
    /// Hashes from here on are scaled to `above` buckets, those below to `below`. Zero unless the index
    /// grows.
    border: u64,
    below: u64,
    above: u64,
    /// Number of buckets whose growth has been prepared.
    prepared: u64,
}

/// Entry that changes buckets: its tag, and the lower half of its hash.
struct Moving {
    tag: u16,
    entry: Ref,
    hash: u32,
}

impl Index {
    /// Size of a bucket in bytes.
    pub const BUCKET: usize = size_of::<Bucket>();

    /// Creates an empty index that grows to `buckets` buckets.
    pub fn new(buckets: usize) -> io::Result<Self> {
        let first = buckets.clamp(1, BUCKETS_MIN) as u64;
        let buckets = Table::new(buckets.max(1) + PROBES - 1)?;
        Ok(Index { buckets, entries: 0, border: 0, below: first, above: first, prepared: 0 })
    }

    /// Has `populator` populate the index's memory ahead of its use.
    pub fn populate_by(&mut self, populator: &Populator) {
        self.buckets.populate_by(populator);
        self.buckets.will_use(0..self.above as usize + PROBES);
    }

    /// Returns the size of the index in bytes, once it has grown.
    pub fn bytes(&self) -> usize {
        self.buckets.len() * Self::BUCKET
    }

    /// Returns the largest number of buckets.
    fn most(&self) -> u64 {
        (self.buckets.len() - (PROBES - 1)) as u64
    }

    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        let hash = hash & (HASHES - 1);
        let buckets = if hash >= self.border { self.above } else { self.below };
        // The low half of the hash, scaled to the number of buckets (Lemire, "fast range reduction").
        ((hash * buckets) >> 32) as usize
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
            return Some(bucket.first(mask));
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
                let found = bucket.first(mask);
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
                ControlFlow::Continue(()) => at += 1,
            }
        }
        None
    }

    /// Adds an entry. Returns false if all buckets that may hold it are full.
    pub fn insert(&mut self, hash: u64, entry: Ref) -> bool {
        self.place(Moving { tag: tag(hash), entry, hash: hash as u32 })
    }

    fn place(&mut self, Moving { tag, entry, hash }: Moving) -> bool {
        let home = self.home(u64::from(hash));
        for probe in 0..PROBES {
            let bucket = &mut self.buckets[home + probe];
            let empty = bucket.matching(0);
            if empty != 0 {
                let slot = empty.trailing_zeros() as usize % SLOTS;
                bucket.tags[slot] = tag;
                bucket.refs[slot] = entry.0;
                self.count_passed(home, probe, |n| n + 1);
                self.entries += 1;
                return true;
            }
        }
        false
    }

    /// Grows a little, if entries need it. `hash_of` returns the lower half of an entry's hash. Returns
    /// the entries for which the new buckets had no room, and which are in the index no more.
    #[must_use]
    pub fn grow(&mut self, hash_of: impl Fn(Ref) -> u32) -> ArrayVec<Ref, MOVED_MAX> {
        let mut lost = ArrayVec::new();
        if self.border == 0 {
            let (entries, room) = (self.entries as u64, self.above * GROWTH_LOAD as u64);
            if entries <= room - room / PREPARED_SHARE || self.above == self.most() {
                return lost;
            }
            if entries <= room {
                self.prepare();
                return lost;
            }
            (self.below, self.above, self.border) = (self.above, self.grown(), HASHES);
        }
        for _ in 0..STEPS {
            self.move_up(&hash_of, |entry| lost.push(entry));
        }
        lost
    }

    /// Returns the number of buckets to which the index grows next.
    fn grown(&self) -> u64 {
        (self.above + self.above / GROWTH_SHARE + 1).min(self.most())
    }

    /// Asks once for the memory to which the index will grow soon.
    #[cold]
    fn prepare(&mut self) {
        if self.prepared != self.above {
            self.prepared = self.above;
            self.buckets.will_use(self.above as usize..self.grown() as usize + PROBES);
        }
    }

    /// Moves the entries of the last old bucket up.
    fn move_up(&mut self, hash_of: impl Fn(Ref) -> u32, mut lost: impl FnMut(Ref)) {
        let Some(home) = self.border.checked_sub(1).map(|last| (last * self.below) >> 32) else { return };
        let border = (home * HASHES).div_ceil(self.below);
        let hashes = border..self.border;
        let mut moving = ArrayVec::<Moving, { PROBES * SLOTS }>::new();
        for probe in 0..PROBES {
            let at = home as usize + probe;
            let may_go_on = self.buckets[at].passed > 0;
            for slot in 0..SLOTS {
                let bucket = &mut self.buckets[at];
                let (tag, entry) = (bucket.tags[slot], Ref(bucket.refs[slot]));
                let hash = if tag == 0 { continue } else { hash_of(entry) };
                if hashes.contains(&u64::from(hash)) {
                    bucket.tags[slot] = 0;
                    self.count_passed(home as usize, probe, |n| n - 1);
                    self.entries -= 1;
                    moving.push(Moving { tag, entry, hash });
                }
            }
            if !may_go_on {
                break;
            }
        }
        self.border = border;
        for moving in moving {
            let entry = moving.entry;
            if !self.place(moving) {
                lost(entry);
            }
        }
    }

    /// Returns the entries in the home bucket of `hash`: one of them must go if `insert` found no
    /// room.
    pub fn neighbours(&self, hash: u64) -> [Ref; SLOTS] {
        self.buckets[self.home(hash)].refs.map(Ref)
    }

    /// Removes an entry, given the lower half of its hash. Returns false if it is not there.
    pub fn remove(&mut self, hash: u32, entry: Ref) -> bool {
        let Some((bucket, slot, probe)) = self.locate(hash, entry) else { return false };
        self.buckets[bucket].tags[slot] = 0;
        self.count_passed(self.home(u64::from(hash)), probe, |n| n - 1);
        self.entries -= 1;
        true
    }

    /// Notes that an entry has moved within the slab. Returns false if it is not there.
    pub fn moved(&mut self, hash: u32, from: Ref, to: Ref) -> bool {
        let Some((bucket, slot, _)) = self.locate(hash, from) else { return false };
        self.buckets[bucket].refs[slot] = to.0;
        true
    }

    fn locate(&self, hash: u32, entry: Ref) -> Option<(usize, usize, usize)> {
        let home = self.home(u64::from(hash));
        for probe in 0..PROBES {
            let bucket = &self.buckets[home + probe];
            for slot in 0..SLOTS {
                if bucket.tags[slot] != 0 && bucket.refs[slot] == entry.0 {
                    return Some((home + probe, slot, probe));
                }
            }
        }
        None
    }

    fn count_passed(&mut self, home: usize, buckets: usize, change: impl Fn(u16) -> u16) {
        for bucket in &mut self.buckets[home..home + buckets] {
            bucket.passed = change(bucket.passed);
        }
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        // Beyond, no bucket was ever written, and none is to take memory.
        let used = self.below.max(self.above) as usize + PROBES - 1;
        self.buckets[..used].fill(Bucket::default());
        self.entries = 0;
    }
}

/// Returns the upper bits of the hash; never zero, which marks an empty slot.
#[inline(always)]
fn tag(hash: u64) -> u16 {
    (hash >> 48) as u16 | 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::PopulatorThread;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Returns a hash for each number, spread over all bits.
    fn hash_of(number: u32) -> u64 {
        u64::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Compares with a map, while the index grows to its most and entries come and go.
        #[test]
        fn behaves_like_a_map_while_it_grows(
            steps in prop::collection::vec((0u32..8, 0u32..20_000), 1..30_000),
            most in 1usize..3000,
        ) {
            let mut index = Index::new(most).unwrap();
            let mut model = HashMap::new();
            for (step, number) in steps {
                let (hash, entry) = (hash_of(number), Ref(number));
                let is_known = model.contains_key(&number);
                match step {
                    0 if is_known => {
                        prop_assert!(index.remove(hash as u32, entry));
                        model.remove(&number);
                    }
                    _ if !is_known && index.insert(hash, entry) => drop(model.insert(number, ())),
                    _ => {}
                }
                let lost = index.grow(|entry| hash_of(entry.0) as u32);
                lost.iter().for_each(|entry| assert!(model.remove(&entry.0).is_some()));
                prop_assert_eq!(index.entries, model.len());
            }
            for number in 0..20_000 {
                let found = index.find(hash_of(number), |entry| entry == Ref(number));
                prop_assert_eq!(found.is_some(), model.contains_key(&number), "{}", number);
            }
            for number in model.keys() {
                prop_assert!(index.remove(hash_of(*number) as u32, Ref(*number)));
            }
            prop_assert!(index.buckets.iter().all(|bucket| bucket.passed == 0 && bucket.tags == [0; SLOTS]));
        }
    }

    /// Memory follows the entries, and hardly any entry finds no place.
    #[test]
    fn the_index_is_as_large_as_its_entries_need() {
        let mut index = Index::new(100_000).unwrap();
        let (mut refused, mut lost) = (0, 0);
        for number in 0..800_000 {
            refused += usize::from(!index.insert(hash_of(number), Ref(number)));
            lost += index.grow(|entry| hash_of(entry.0) as u32).len();
            let (buckets, entries) = (index.above.max(index.below) as usize, index.entries);
            let needed = (entries / GROWTH_LOAD).clamp(BUCKETS_MIN, 100_000);
            assert!(buckets * 2 >= needed && buckets * 3 <= needed * 4 + 4, "{buckets} for {entries}");
        }
        assert_eq!((index.above, index.border), (100_000, 0), "it has grown to its most");
        assert!(refused + lost < 800, "{refused} and {lost}");
        index.clear();
        assert_eq!(index.find(hash_of(1), |_| true), None);
    }

    /// No bucket is written to before its memory was asked for.
    #[test]
    fn memory_is_asked_for_before_the_index_grows_into_it() {
        let thread = PopulatorThread::start("memory", || {}).unwrap();
        let mut index = Index::new(200_000).unwrap();
        index.populate_by(&thread.populator());
        for number in 0..700_000 {
            let last = index.above as usize + PROBES - 1;
            // `None`: on reserved pages.
            assert_ne!(
                index.buckets.was_asked(last),
                Some(false),
                "{number} entries, {} buckets",
                index.above
            );
            index.insert(hash_of(number), Ref(number));
            drop(index.grow(|entry| hash_of(entry.0) as u32));
        }
        assert!(index.above > 100_000, "it has grown past several pages");
    }
}
