//! Service times, one set of histograms a worker, collected without a lock or a shared line.
//!
//! The worker records into a set that it owns. Whoever wants to read posts an empty set into the worker's
//! mailbox; the worker swaps it for its own at the end of a turn and posts back what it has recorded since the
//! last swap. Nothing is copied, and the worker allocates nothing.

use crossbeam_queue::ArrayQueue;
use hdrhistogram::{CreationError, Histogram};

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered from a fresh entry: from the turn that received it until its kick.
    Hit,
    /// The same from an expired entry.
    Stale,
    /// Answered by way of the control plane: from the turn that received it until the answer's kick.
    Miss,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 3] = [Outcome::Hit, Outcome::Stale, Outcome::Miss];

    /// The name in exports.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Hit => "hit",
            Outcome::Stale => "stale",
            Outcome::Miss => "miss",
        }
    }
}

/// Longest service time that is told apart: what lies above is recorded as this. A minute, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// A set of histograms of nanoseconds, to three significant digits.
#[derive(Clone, Debug)]
pub struct Latencies {
    sets: [Histogram<u64>; 3],
}

impl Latencies {
    /// An empty set. Allocates all that it will ever need.
    pub fn new() -> Result<Self, CreationError> {
        let histogram = Histogram::new_with_bounds(1, LONGEST, 3)?;
        Ok(Latencies { sets: [histogram.clone(), histogram.clone(), histogram] })
    }

    /// Records `n` answers that took `nanos` each.
    #[inline]
    pub fn record(&mut self, outcome: Outcome, nanos: u64, n: u64) {
        if n > 0 {
            // Clamped to the bounds, so that it cannot fail.
            self.sets[outcome as usize].saturating_record_n(nanos.clamp(1, LONGEST), n);
        }
    }

    /// One histogram.
    pub fn get(&self, outcome: Outcome) -> &Histogram<u64> {
        &self.sets[outcome as usize]
    }

    /// Adds another set.
    pub fn merge(&mut self, other: &Latencies) {
        for (to, from) in self.sets.iter_mut().zip(&other.sets) {
            // Same bounds, so there is no value that the sum could not hold.
            let added = to.add(from);
            debug_assert!(added.is_ok(), "histograms of the same bounds add");
        }
    }

    /// Empties the set.
    pub fn clear(&mut self) {
        self.sets.iter_mut().for_each(Histogram::reset);
    }
}

/// Where worker and reader exchange sets.
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
    /// Reader: asks for what was recorded since the last time. False if a request is already under way.
    pub fn request(&self, empty: Box<Latencies>) -> bool {
        self.empty.push(empty).is_ok()
    }

    /// Reader: takes what was asked for, once the worker has answered.
    pub fn collect(&self) -> Option<Box<Latencies>> {
        self.full.pop()
    }

    /// Worker: answers a request, if there is one and the last answer was taken.
    #[inline]
    pub fn serve(&self, own: &mut Box<Latencies>) {
        if self.empty.is_empty() || self.full.is_full() {
            return;
        }
        if let Some(empty) = self.empty.pop() {
            // Not full a moment ago, and only this worker fills it.
            let _ = self.full.push(std::mem::replace(own, empty));
        }
    }
}
