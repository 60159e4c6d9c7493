//! Sketch of the most frequent keys of a stream, in bounded memory: Space-Saving (Metwally, Agrawal,
//! El Abbadi 2005), with weights.
//!
//! A sketch has a fixed number of counters. A key that has none takes over the smallest counter, with
//! its count, which is from then on the most by which the new key's count may be too high. So with `k`
//! counters and a stream of weight `n`, no count is too low, none is too high by more than `n / k`,
//! and each key with a weight above `n / k` has a counter.

use std::{collections::HashMap, sync::Arc};

/// Sketch that counts.
#[derive(Debug)]
pub struct Sketch {
    counters: Vec<Counter>,
    /// Numbers of counters, as a heap: the smallest count first.
    heap: Vec<usize>,
    /// Counter of each key that has one. The hash is keyed: clients choose the keys.
    places: HashMap<Arc<[u8]>, usize>,
    most: usize,
    total: u64,
}

#[derive(Debug)]
struct Counter {
    key: Arc<[u8]>,
    count: u64,
    /// Most by which the count may be too high.
    excess: u64,
    /// Place in the heap.
    at: usize,
}

/// Most frequent keys of a stream that has ended.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Keys, the most frequent first.
    pub keys: Vec<Counted>,
    /// Most that the count of a key which is not among them can be.
    pub floor: u64,
    /// Weight of the stream.
    pub total: u64,
}

/// Key with its count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Key.
    pub key: Arc<[u8]>,
    /// Count, which is not too low.
    pub count: u64,
    /// Most by which it may be too high.
    pub excess: u64,
}

impl Sketch {
    /// Returns an empty sketch with at most this number of counters, at least one.
    pub fn new(most: usize) -> Self {
        Sketch { counters: Vec::new(), heap: Vec::new(), places: HashMap::new(), most: most.max(1), total: 0 }
    }

    /// Counts a key `weight` times.
    pub fn add(&mut self, key: &[u8], weight: u64) {
        self.total = self.total.saturating_add(weight);
        if let Some(&nth) = self.places.get(key) {
            let counter = &mut self.counters[nth];
            counter.count = counter.count.saturating_add(weight);
            let at = counter.at;
            return self.sink(at);
        }
        let key: Arc<[u8]> = key.into();
        if self.counters.len() < self.most {
            let (nth, at) = (self.counters.len(), self.heap.len());
            self.places.insert(key.clone(), nth);
            self.counters.push(Counter { key, count: weight, excess: 0, at });
            self.heap.push(nth);
            return self.rise(at);
        }
        let Some(&nth) = self.heap.first() else { return };
        let counter = &mut self.counters[nth];
        let excess = counter.count;
        let before = std::mem::replace(&mut counter.key, key.clone());
        (counter.count, counter.excess) = (excess.saturating_add(weight), excess);
        self.places.remove(&before);
        self.places.insert(key, nth);
        self.sink(0);
    }

    /// Returns the `most` most frequent keys.
    pub fn summary(&self, most: usize) -> Summary {
        let counted = |Counter { key, count, excess, .. }: &Counter| Counted {
            key: key.clone(),
            count: *count,
            excess: *excess,
        };
        let mut keys: Vec<_> = self.counters.iter().map(counted).collect();
        keys.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.key.cmp(&other.key)));
        let is_full = self.counters.len() == self.most;
        let smallest = keys.last().filter(|_| is_full).map_or(0, |last| last.count);
        let floor = keys.get(most).map_or(smallest, |first_left_out| first_left_out.count);
        keys.truncate(most);
        keys.shrink_to_fit();
        Summary { keys, floor, total: self.total }
    }

    fn count_at(&self, at: usize) -> Option<u64> {
        self.heap.get(at).map(|nth| self.counters[*nth].count)
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        for at in [one, other] {
            self.counters[self.heap[at]].at = at;
        }
    }

    /// Moves a counter that has grown away from the top.
    fn sink(&mut self, mut at: usize) {
        while let Some(count) = self.count_at(at) {
            let below = [2 * at + 1, 2 * at + 2].into_iter().filter_map(|at| Some((self.count_at(at)?, at)));
            match below.min() {
                Some((least, child)) if least < count => {
                    self.swap(at, child);
                    at = child;
                }
                _ => return,
            }
        }
    }

    /// Moves a new counter towards the top.
    fn rise(&mut self, mut at: usize) {
        while at > 0 && self.count_at(at) < self.count_at((at - 1) / 2) {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }
}

/// Key with its count over several summaries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranked {
    /// Key.
    pub key: Arc<[u8]>,
    /// Sum of the counts that summaries have.
    pub count: u64,
    /// Bounds of the true count.
    pub bounds: [u64; 2],
}

/// Returns the most frequent keys of several streams together, at most `most`, and the weight of all
/// streams.
pub fn ranked(summaries: &[&Summary], most: usize) -> (Vec<Ranked>, u64) {
    let floors: u64 = summaries.iter().map(|summary| summary.floor).sum();
    let mut all: HashMap<&Arc<[u8]>, Ranked> = HashMap::new();
    for summary in summaries {
        for Counted { key, count, excess } in &summary.keys {
            let absent = || Ranked { key: key.clone(), count: 0, bounds: [0, floors] };
            let ranked = all.entry(key).or_insert_with(absent);
            let [least, most] = ranked.bounds;
            ranked.count += count;
            ranked.bounds = [least + (count - excess), most - summary.floor + count];
        }
    }
    let mut ranked: Vec<_> = all.into_values().collect();
    ranked.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.key.cmp(&other.key)));
    ranked.truncate(most);
    (ranked, summaries.iter().map(|summary| summary.total).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exact<'a>(stream: impl IntoIterator<Item = &'a (u8, u64)>) -> HashMap<u8, u64> {
        let mut counts = HashMap::new();
        stream.into_iter().for_each(|(key, weight)| *counts.entry(*key).or_default() += weight);
        counts
    }

    /// Stream in which small keys are frequent.
    fn stream() -> impl Strategy<Value = Vec<(u8, u64)>> {
        let key = (any::<u8>(), any::<u8>(), any::<u8>()).prop_map(|(a, b, c)| a.min(b).min(c));
        proptest::collection::vec((key, 1u64..20), 0..600)
    }

    proptest! {
        #[test]
        fn counts_are_as_near_as_promised(stream in stream(), counters in 1usize..40, kept in 1usize..40) {
            let mut sketch = Sketch::new(counters);
            stream.iter().for_each(|(key, weight)| sketch.add(&[*key], *weight));
            let exact = exact(&stream);
            let total: u64 = exact.values().sum();
            let summary = sketch.summary(kept);
            prop_assert_eq!(summary.total, total);
            prop_assert!(summary.keys.len() <= counters.min(kept));
            for Counted { key, count, excess } in &summary.keys {
                let truth = exact.get(&key[0]).copied().unwrap_or(0);
                prop_assert!(truth <= *count && *count <= truth + excess, "{truth} {count} {excess}");
                prop_assert!(*excess <= total / counters as u64);
            }
            for (key, truth) in &exact {
                let is_kept = summary.keys.iter().any(|kept| *kept.key == [*key]);
                prop_assert!(is_kept || *truth <= summary.floor, "{key}: {truth}");
                if kept >= counters {
                    prop_assert!(is_kept || *truth <= total / counters as u64);
                }
            }
            prop_assert!(summary.keys.windows(2).all(|pair| pair[0].count >= pair[1].count));
        }

        #[test]
        fn bounds_hold_over_several_streams(streams in proptest::collection::vec(stream(), 1..5), kept in 1usize..20) {
            let summaries: Vec<_> = streams.iter().map(|stream| {
                let mut sketch = Sketch::new(24);
                stream.iter().for_each(|(key, weight)| sketch.add(&[*key], *weight));
                sketch.summary(kept)
            }).collect();
            let exact = exact(streams.iter().flatten());
            let (ranked, total) = ranked(&summaries.iter().collect::<Vec<_>>(), usize::MAX);
            prop_assert_eq!(total, exact.values().sum::<u64>());
            for Ranked { key, count, bounds: [least, most] } in ranked {
                let truth = exact.get(&key[0]).copied().unwrap_or(0);
                prop_assert!(least <= truth && truth <= most, "{least} {truth} {most}");
                prop_assert!(least <= count && count <= most, "{least} {count} {most}");
            }
        }
    }

    #[test]
    fn with_room_for_all_keys_counts_are_exact() {
        let mut sketch = Sketch::new(3);
        for (key, weight) in [(b"a", 5), (b"b", 1), (b"c", 9), (b"b", 1), (b"a", 3)] {
            sketch.add(key, weight);
        }
        let keys = sketch.summary(9).keys;
        let told: Vec<_> = keys.iter().map(|it| (&*it.key, it.count, it.excess)).collect();
        assert_eq!(told, [(&b"c"[..], 9, 0), (b"a", 8, 0), (b"b", 2, 0)]);
        sketch.add(b"d", 1);
        assert_eq!(sketch.summary(9).keys[2], Counted { key: b"d"[..].into(), count: 3, excess: 2 });
        assert_eq!(sketch.summary(2).floor, 3);
    }

    #[test]
    fn a_flood_of_random_keys_hides_no_frequent_one() {
        let mut sketch = Sketch::new(1024);
        for nth in 0u32..200_000 {
            sketch.add(&nth.to_be_bytes(), 1);
            if nth % 100 == 0 {
                sketch.add(b"frequent", 1);
            }
        }
        let first = &sketch.summary(1).keys[0];
        assert_eq!(&*first.key, b"frequent");
        assert!((2000..2000 + 202_000 / 1024 + 1).contains(&first.count), "{first:?}");
    }
}
