//! Service times: one set of histograms per worker, collected without a lock or a shared cache
//! line.
//!
//! The worker records into a set that it owns. A reader posts an empty set into the worker's
//! mailbox. At the end of a turn, the worker swaps it for its own and posts back what it has
//! recorded since the last swap. Nothing is copied, and the worker allocates nothing.

use crossbeam_queue::ArrayQueue;
use hdrhistogram::{CreationError, Histogram};

/// Kind of answer whose service time is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered from a fresh entry: from the start of the turn that received the query until its
    /// kick.
    Hit,
    /// Answered from an expired entry: the same interval.
    Stale,
    /// Answered by the control plane: from the start of the turn that received the query until the
    /// answer's kick.
    Miss,
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

/// A set of histograms of nanoseconds, to three significant digits.
#[derive(Clone, Debug)]
pub struct Latencies {
    sets: [Histogram<u64>; 3],
}

impl Latencies {
    /// Creates an empty set. Allocates all memory that it will ever need.
    pub fn new() -> Result<Self, CreationError> {
        let histogram = Histogram::new_with_bounds(1, LONGEST, 3)?;
        Ok(Latencies { sets: [histogram.clone(), histogram.clone(), histogram] })
    }

    /// Records `n` answers that took `nanos` each.
    #[inline]
    pub fn record(&mut self, outcome: Outcome, nanos: u64, n: u64) {
        if n > 0 {
            // Clamped to the bounds, so recording cannot fail.
            self.sets[outcome as usize].saturating_record_n(nanos.clamp(1, LONGEST), n);
        }
    }

    /// Returns the histogram of one outcome.
    pub fn get(&self, outcome: Outcome) -> &Histogram<u64> {
        &self.sets[outcome as usize]
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
