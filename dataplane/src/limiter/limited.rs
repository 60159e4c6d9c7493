//! Prefixes over their limit: few, and counted exactly.
//!
//! Hits are charged by sampling, which is too coarse to cut a client down to its limit. So a prefix
//! that a sample finds over the limit is listed here, and every query of it counts from then on.

use super::kru::Ticks;

/// Number of buckets; a power of two.
const BUCKETS: usize = 128;
/// Number of prefixes that one bucket holds.
const WAYS: usize = 4;

/// Prefix that was over its limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    /// Hash of the prefix; zero: the entry is free.
    hash: u64,
    /// Instant at which its counter is empty.
    pub empty_at: Ticks,
    /// Load above which the prefix is over its limit.
    capacity: Ticks,
    /// Number of the second that `refused` belongs to.
    second: u32,
    /// Number of queries refused in that second.
    refused: u32,
}

impl Entry {
    /// Counts a refused query in the given second. Returns the number in that second.
    #[inline]
    pub fn refuse(&mut self, second: u32) -> u32 {
        if self.second != second {
            (self.second, self.refused) = (second, 0);
        }
        self.refused = self.refused.saturating_add(1);
        self.refused
    }

    /// Adds `span` to the counter of a prefix that is over its limit above a load of `capacity`.
    #[inline]
    pub fn add(&mut self, now: Ticks, span: Ticks, capacity: Ticks) {
        self.empty_at = self.empty_at.max(now).saturating_add(span);
        self.capacity = capacity;
    }

    /// Whether the prefix is over its limit.
    #[inline]
    pub fn is_over(&self, now: Ticks) -> bool {
        self.empty_at > now.saturating_add(self.capacity)
    }
}

/// Set of the prefixes over their limit. A full bucket forgets the prefix that is nearest to empty:
/// the next sample of it lists it again.
pub struct LimitedSet {
    buckets: Box<[[Entry; WAYS]; BUCKETS]>,
    len: usize,
}

impl LimitedSet {
    /// Creates an empty set.
    pub fn new() -> Self {
        LimitedSet { buckets: Box::new([[Entry::default(); WAYS]; BUCKETS]), len: 0 }
    }

    /// Returns the number of prefixes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none, as there usually are.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the entry of a prefix.
    #[inline(always)]
    pub fn get(&mut self, hash: u64) -> Option<&mut Entry> {
        self.bucket(hash).iter_mut().find(|entry| entry.hash == hash)
    }

    /// Lists a prefix that is not listed, whose counter will be empty at `empty_at`, and which is over
    /// its limit above a load of `capacity`.
    pub fn list(&mut self, hash: u64, empty_at: Ticks, capacity: Ticks) {
        let bucket = self.bucket(hash);
        let Some(entry) = bucket.iter_mut().min_by_key(|entry| (entry.hash != 0, entry.empty_at)) else {
            return;
        };
        let was_free = entry.hash == 0;
        *entry = Entry { hash, empty_at, capacity, second: 0, refused: 0 };
        self.len += usize::from(was_free);
    }

    /// Forgets the prefixes that are at less than half of their burst.
    pub fn sweep(&mut self, now: Ticks) {
        for entry in self.buckets.as_flattened_mut() {
            if entry.hash != 0 && entry.empty_at < now.saturating_add(entry.capacity / 2) {
                *entry = Entry::default();
                self.len -= 1;
            }
        }
    }

    #[inline(always)]
    fn bucket(&mut self, hash: u64) -> &mut [Entry; WAYS] {
        &mut self.buckets[(hash >> 32) as usize % BUCKETS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_bounded_and_forgets_the_calmest() {
        let mut set = LimitedSet::new();
        for number in 1..=WAYS as u64 + 1 {
            set.list(number, 100 * number, 2);
        }
        assert_eq!(set.len(), WAYS);
        assert!(set.get(1).is_none(), "the nearest to empty leaves");
        set.sweep(300);
        assert_eq!(set.len(), 2);
        assert!(set.get(3).is_none() && set.get(4).is_some() && set.get(5).is_some());
        for number in 0..10_000u64 {
            set.list(number << 32 | 1, number, 0);
        }
        assert_eq!(set.len(), WAYS * BUCKETS);
        set.sweep(Ticks::MAX);
        assert!(set.is_empty() && set.get(4).is_none());
    }

    #[test]
    fn refusals_are_counted_by_the_second() {
        let mut entry = Entry::default();
        assert_eq!([5, 5, 6, 6, 6, 9].map(|second| entry.refuse(second)), [1, 2, 1, 2, 3, 1]);
    }
}
