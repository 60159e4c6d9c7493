//! Service times: one set of histograms per worker, collected without a lock or a shared cache
//! line.
//!
//! The worker records into a set that it owns. A reader posts an empty set into the worker's
//! mailbox. At the end of a turn, the worker swaps it for its own and posts back what it has
//! recorded since the last swap. Nothing is copied, and the worker allocates nothing.

use crate::log::Tier;
use crossbeam_queue::ArrayQueue;
use hdrhistogram::{CreationError, Histogram};
use std::borrow::Cow;

/// Kind of answer whose service time is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered from a fresh entry: from the start of the turn that received the query until its
    /// kick.
    Hit = 0,
    /// Answered from an expired entry: the same interval.
    Stale = 1,
    /// Answered by the control plane: from the start of the turn that received the query until the
    /// answer's kick.
    Miss = 5,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Outcome; 3] = [Outcome::Hit, Outcome::Stale, Outcome::Miss];

    /// Returns the name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Hit => "hit",
            Outcome::Stale => "stale",
            Outcome::Miss => "miss",
        }
    }
}

/// Longest service time that is recorded exactly, in nanoseconds: a minute. Longer ones are
/// recorded as this.
const LONGEST: u64 = 60_000_000_000;

/// Sources of answers, whose service times are kept apart. The third and those after it are of misses.
pub const SOURCES: [&str; 6] = ["hit", "stale", "host", "redis", "upstream", "other"];

/// Number of the first source of misses.
const MISSES: usize = 2;

/// A set of histograms of nanoseconds, to three significant digits.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// In the order of [`SOURCES`].
    sets: [Histogram<u64>; 6],
}

impl Latencies {
    /// Creates an empty set. Allocates all memory that it will ever need.
    pub fn new() -> Result<Self, CreationError> {
        let histogram = Histogram::new_with_bounds(1, LONGEST, 3)?;
        Ok(Latencies { sets: std::array::from_fn(|_| histogram.clone()) })
    }

    /// Records `n` answers that took `nanos` each. A miss recorded so is from another source than a tier.
    #[inline]
    pub fn record(&mut self, outcome: Outcome, nanos: u64, n: u64) {
        if n > 0 {
            // Clamped to the bounds, so recording cannot fail.
            self.sets[outcome as usize].saturating_record_n(nanos.clamp(1, LONGEST), n);
        }
    }

    /// Records a miss that took `nanos`, by the tier that had the answer.
    #[inline]
    pub fn record_miss(&mut self, tier: Tier, nanos: u64) {
        let source = match tier {
            Tier::Host => 2,
            Tier::Fleet => 3,
            Tier::Upstream => 4,
            Tier::None | Tier::Core | Tier::Local => 5,
        };
        self.sets[source].saturating_record(nanos.clamp(1, LONGEST));
    }

    /// Returns the histogram of one outcome.
    pub fn get(&self, outcome: Outcome) -> Cow<'_, Histogram<u64>> {
        if outcome != Outcome::Miss {
            return Cow::Borrowed(&self.sets[outcome as usize]);
        }
        let mut misses = self.sets[MISSES].clone();
        for source in &self.sets[MISSES + 1..] {
            let added = misses.add(source);
            debug_assert!(added.is_ok(), "histograms of the same bounds add");
        }
        Cow::Owned(misses)
    }

    /// Returns the histograms with the names of their sources.
    pub fn by_source(&self) -> impl Iterator<Item = (&'static str, &Histogram<u64>)> {
        SOURCES.into_iter().zip(&self.sets)
    }

    /// Adds another set.
    pub fn merge(&mut self, other: &Latencies) {
        for (to, from) in self.sets.iter_mut().zip(&other.sets) {
            // The bounds are the same, so the sum can hold every value.
            let added = to.add(from);
            debug_assert!(added.is_ok(), "histograms of the same bounds add");
        }
    }

    /// Empties the set.
    pub fn clear(&mut self) {
        self.sets.iter_mut().for_each(Histogram::reset);
    }
}

/// Mailbox in which worker and reader exchange sets.
#[derive(Debug)]
pub struct Mailbox {
    empty: ArrayQueue<Box<Latencies>>,
    full: ArrayQueue<Box<Latencies>>,
}

impl Default for Mailbox {
    fn default() -> Self {
        Mailbox { empty: ArrayQueue::new(1), full: ArrayQueue::new(1) }
    }
}

impl Mailbox {
    /// Reader: requests what was recorded since the last time. Returns false if a request is
    /// already pending.
    pub fn request(&self, empty: Box<Latencies>) -> bool {
        self.empty.push(empty).is_ok()
    }

    /// Reader: takes the requested set, once the worker has answered.
    pub fn collect(&self) -> Option<Box<Latencies>> {
        self.full.pop()
    }

    /// Worker: answers a request, if there is one and the last answer has been taken.
    #[inline]
    pub fn serve(&self, own: &mut Box<Latencies>) {
        if self.empty.is_empty() || self.full.is_full() {
            return;
        }
        if let Some(empty) = self.empty.pop() {
            // It was not full a moment ago, and only this worker fills it.
            let _ = self.full.push(std::mem::replace(own, empty));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_are_the_sum_of_their_sources() {
        let mut latencies = Latencies::new().unwrap();
        for (nth, tier) in [Tier::Host, Tier::Fleet, Tier::Upstream, Tier::Local].into_iter().enumerate() {
            (0..=nth).for_each(|_| latencies.record_miss(tier, 1000 * (nth as u64 + 1)));
        }
        latencies.record(Outcome::Miss, 0, 7);
        latencies.record(Outcome::Hit, 5, 2);
        let counts: Vec<_> = latencies.by_source().map(|(source, of)| (source, of.len())).collect();
        let expected = [("hit", 2), ("stale", 0), ("host", 1), ("redis", 2), ("upstream", 3), ("other", 11)];
        assert_eq!(counts, expected);
        let lens = Outcome::ALL.map(|outcome| latencies.get(outcome).len());
        assert_eq!(lens, [2, 0, 17]);
        let mut sum = latencies.clone();
        sum.merge(&latencies);
        assert_eq!((sum.get(Outcome::Miss).len(), sum.get(Outcome::Miss).max()), (34, 4001));
    }
}
