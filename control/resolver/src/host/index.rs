//! Index of a shard: from hashes to places of entries, in buckets of one cache line each.
//!
//! A slot holds a place in 25 bits and seven bits of the hash, so an entry takes four bytes, and
//! hardly any other entry is looked at. An entry that finds its bucket full goes to the next that is
//! not, and each bucket that it passed counts it: a lookup goes on only past such buckets.
//!
//! Buckets are allocated in pieces of one size, which stay where they are while the index grows. An
//! index in one piece would leave a hole of another size with each step.

/// Slots of a bucket.
const SLOTS: usize = 15;
/// Bits of a place.
pub(super) const PLACE_BITS: u32 = 25;
/// Buckets of a piece: 1,792 bytes, a size class of jemalloc of which 16 fill a whole number of pages.
const PIECE: usize = 28;

/// Place of an entry in a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(pub u32);

/// Bucket of one cache line. A slot with zero is empty.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Bucket {
    slots: [u32; SLOTS],
    /// Number of entries that passed this bucket because it was full.
    passed: u32,
}

/// Index of a shard.
#[derive(Default)]
pub(super) struct Index {
    #[expect(clippy::vec_box, reason = "a piece stays where it is while others are added")]
    pieces: Vec<Box<[Bucket; PIECE]>>,
    entries: usize,
}

impl Index {
    /// Removes all entries, and gives the index the size at which so many take three slots of four.
    pub fn reset(&mut self, entries: usize) {
        let pieces = Self::pieces_for(entries);
        if pieces < self.pieces.len() {
            self.pieces.truncate(pieces);
            self.pieces.shrink_to_fit();
        }
        self.pieces.iter_mut().for_each(|piece| piece.fill(Bucket::default()));
        self.pieces.reserve_exact(pieces - self.pieces.len());
        self.pieces.resize_with(pieces, Box::default);
        self.entries = 0;
    }

    fn pieces_for(entries: usize) -> usize {
        (entries * 4).div_ceil(3 * SLOTS * PIECE).max(1)
    }

    fn bytes_of(pieces: usize) -> usize {
        pieces * (size_of::<[Bucket; PIECE]>() + size_of::<Box<[Bucket; PIECE]>>())
    }

    /// Returns the bytes of an index for so many entries.
    pub fn bytes_for(entries: usize) -> usize {
        Self::bytes_of(Self::pieces_for(entries))
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Returns the bytes that the index takes.
    pub fn bytes(&self) -> usize {
        Self::bytes_of(self.pieces.len())
    }

    /// Returns the bytes that are allocated.
    #[cfg(test)]
    pub fn allocated(&self) -> usize {
        let pieces: usize = self.pieces.iter().map(|piece| size_of_val(&**piece)).sum();
        pieces + self.pieces.capacity() * size_of::<Box<[Bucket; PIECE]>>()
    }

    fn slots(&self) -> usize {
        self.buckets() * SLOTS
    }

    /// Whether the index must be made larger before another entry is added: entries take nine slots
    /// of ten.
    pub fn is_crowded(&self) -> bool {
        self.entries * 10 >= self.slots() * 9
    }

    /// Whether three quarters of the slots are unused, and it can be made smaller.
    pub fn is_sparse(&self) -> bool {
        self.entries * 4 < self.slots() && self.pieces.len() > 1
    }

    fn buckets(&self) -> usize {
        self.pieces.len() * PIECE
    }

    fn bucket(&self, at: usize) -> Option<&Bucket> {
        self.pieces.get(at / PIECE)?.get(at % PIECE)
    }

    fn bucket_mut(&mut self, at: usize) -> Option<&mut Bucket> {
        self.pieces.get_mut(at / PIECE)?.get_mut(at % PIECE)
    }

    /// Returns the entry of this hash that `is` accepts.
    pub fn find(&self, hash: u64, mut is: impl FnMut(Place) -> bool) -> Option<Place> {
        let tag = tag(hash);
        let mut at = self.home(hash);
        for _ in 0..self.buckets() {
            let bucket = self.bucket(at)?;
            let found = bucket
                .slots
                .iter()
                .filter(|slot| **slot >> PLACE_BITS == tag)
                .filter_map(|slot| place(*slot));
            for found in found {
                if is(found) {
                    return Some(found);
                }
            }
            if bucket.passed == 0 {
                return None;
            }
            at = self.next(at);
        }
        None
    }

    /// Adds an entry. The index must not be [crowded](Self::is_crowded).
    pub fn insert(&mut self, hash: u64, new: Place) {
        let mut at = self.home(hash);
        for _ in 0..self.buckets() {
            let next = self.next(at);
            let Some(bucket) = self.bucket_mut(at) else { return };
            if let Some(slot) = bucket.slots.iter_mut().find(|slot| **slot == 0) {
                *slot = slot_of(hash, new);
                self.entries += 1;
                return;
            }
            bucket.passed += 1;
            at = next;
        }
    }

    /// Notes that an entry has moved.
    pub fn moved(&mut self, hash: u64, from: Place, to: Place) {
        if let Some((bucket, slot)) = self.locate(hash, from)
            && let Some(slot) = self.bucket_mut(bucket).and_then(|bucket| bucket.slots.get_mut(slot))
        {
            *slot = slot_of(hash, to);
        }
    }

    /// Removes an entry.
    pub fn remove(&mut self, hash: u64, old: Place) {
        let Some((found, slot)) = self.locate(hash, old) else { return };
        let mut at = self.home(hash);
        while at != found {
            let next = self.next(at);
            let Some(bucket) = self.bucket_mut(at) else { return };
            bucket.passed = bucket.passed.saturating_sub(1);
            at = next;
        }
        if let Some(slot) = self.bucket_mut(found).and_then(|bucket| bucket.slots.get_mut(slot)) {
            *slot = 0;
            self.entries -= 1;
        }
    }

    fn locate(&self, hash: u64, entry: Place) -> Option<(usize, usize)> {
        let wanted = slot_of(hash, entry);
        let mut at = self.home(hash);
        for _ in 0..self.buckets() {
            let bucket = self.bucket(at)?;
            if let Some(slot) = bucket.slots.iter().position(|slot| *slot == wanted) {
                return Some((at, slot));
            }
            at = self.next(at);
        }
        None
    }

    fn home(&self, hash: u64) -> usize {
        // The low half of the hash, scaled to the number of buckets (Lemire, "fast range reduction").
        (((hash & 0xffff_ffff) * self.buckets() as u64) >> 32) as usize
    }

    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets() { 0 } else { bucket + 1 }
    }
}

/// Returns the upper bits of the hash.
fn tag(hash: u64) -> u32 {
    (hash >> (32 + PLACE_BITS)) as u32
}

/// Returns the slot of an entry; never zero. No place has all bits, so that the number after it has room.
fn slot_of(hash: u64, entry: Place) -> u32 {
    tag(hash) << PLACE_BITS | (entry.0 + 1)
}

fn place(slot: u32) -> Option<Place> {
    (slot & ((1 << PLACE_BITS) - 1)).checked_sub(1).map(Place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// Compares with a map, while few hashes share buckets and tags and the index grows.
        #[test]
        fn behaves_like_a_map(steps in prop::collection::vec((any::<u8>(), 0u64..400), 1..2000)) {
            let hash_of = |number: u64| (number % 7) << 56 | (number % 5) << 29;
            let (mut index, mut model) = (Index::default(), HashMap::new());
            for (nth, (step, number)) in steps.into_iter().enumerate() {
                let (hash, new) = (hash_of(number), Place(nth as u32));
                match (step % 3, model.get(&number).copied()) {
                    (0, Some(old)) => {
                        index.remove(hash, old);
                        model.remove(&number);
                    }
                    (_, Some(old)) => {
                        index.moved(hash, old, new);
                        model.insert(number, new);
                    }
                    (_, None) => {
                        if index.is_crowded() {
                            let entries = index.len() + 1;
                            index.reset(entries);
                            model.iter().for_each(|(number, place)| index.insert(hash_of(*number), *place));
                        }
                        index.insert(hash, new);
                        model.insert(number, new);
                    }
                }
                prop_assert_eq!(index.len(), model.len());
            }
            for number in 0..400 {
                let wanted = model.get(&number).copied();
                prop_assert_eq!(index.find(hash_of(number), |place| Some(place) == wanted), wanted);
            }
            let all: Vec<_> = model.into_iter().collect();
            all.iter().for_each(|(number, place)| index.remove(hash_of(*number), *place));
            let mut buckets = index.pieces.iter().flat_map(|piece| piece.iter());
            prop_assert!(buckets.all(|bucket| bucket.passed == 0 && bucket.slots == [0; SLOTS]));
        }
    }

    #[test]
    fn entries_take_few_bytes() {
        let mut index = Index::default();
        index.reset(100_000);
        assert!(index.bytes() / 100_000 <= 6, "{}", index.bytes());
        for entries in [200_000, 1_000, 0] {
            index.reset(entries);
            assert_eq!(index.bytes(), index.allocated());
            assert!(!index.is_crowded() && index.bytes() == Index::bytes_for(entries), "{entries}");
        }
    }
}
