//! Results of the sweeps of the last day: of the host tier or of Redis.

use ringdns_api::{Swept, Told};
use std::collections::VecDeque;

/// Seconds of a day.
const DAY: u64 = 86_400;
/// Most sweeps that are remembered: a day's, at one every 15 s. If sweeps come more often, the
/// oldest are forgotten sooner.
const KEPT: usize = 5760;

/// Sweeps of the last day, the newest last.
#[derive(Debug)]
pub struct History<R>(VecDeque<R>);

impl<R> Default for History<R> {
    fn default() -> Self {
        // Allocated at once: memory that grows over hours looks like a leak.
        History(VecDeque::with_capacity(KEPT))
    }
}

impl<R: Swept> History<R> {
    /// Adds a sweep and removes those older than a day.
    pub fn add(&mut self, sweep: R) {
        let now = sweep.at();
        while self.0.len() >= KEPT || self.0.front().is_some_and(|old| old.at().saturating_add(DAY) < now) {
            self.0.pop_front();
        }
        self.0.push_back(sweep);
    }

    /// Returns the sum of all sweeps, and the last `most` one by one.
    pub fn told(&self, most: usize) -> Told<R> {
        let mut all = self.0.iter();
        let mut sum = all.next().cloned().unwrap_or_default();
        all.for_each(|sweep| sum.add(sweep));
        let skip = self.0.len().saturating_sub(most);
        Told { sweeps: self.0.len(), sum, last: self.0.iter().skip(skip).cloned().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_api::Report;

    fn report(at: u64, seen: u64) -> Report {
        Report { at, seen, ..Report::default() }
    }

    #[test]
    fn a_day_is_remembered_and_no_more() {
        let mut history = History::default();
        for nth in 0..10 {
            history.add(report(1_000_000 + nth * 15, nth));
        }
        let told = history.told(2);
        assert_eq!((told.sweeps, told.sum.at, told.sum.seen), (10, 1_000_000, 45));
        assert_eq!(told.last, [report(1_000_120, 8), report(1_000_135, 9)]);
        history.add(report(1_000_031 + DAY, 100));
        assert_eq!((history.told(0).sweeps, history.told(0).sum.seen), (8, 142));
    }

    #[test]
    fn memory_is_bounded_however_often_there_is_a_sweep() {
        let mut history = History::default();
        (0..3 * KEPT as u64).for_each(|nth| history.add(report(5, nth)));
        assert_eq!((history.told(0).sweeps, history.told(1).last[0].seen), (KEPT, 3 * KEPT as u64 - 1));
    }
}
