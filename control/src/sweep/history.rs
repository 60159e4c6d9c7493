//! What the sweeps of the last day have done.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Seconds of a day.
const DAY: u64 = 86_400;
/// As many as there are in a day, if there is one every 15 s. More often, and the oldest are forgotten sooner.
const KEPT: usize = 5760;

/// What one sweep did. `near = renewed + unchanged + failed`, and what was skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When it began, in Unix time.
    pub at: u64,
    /// How long the walk took, in microseconds.
    pub walk_us: u64,
    /// How long it took in all, renewals included, in milliseconds.
    pub took_ms: u64,
    /// Entries of the host tier that it has seen.
    pub seen: u64,
    /// Those of them that had expired, and may be given out where nothing better is to be had.
    pub stale: u64,
    /// Those that were about to expire.
    pub near: u64,
    /// Of these, those that there is a new answer for.
    pub renewed: u64,
    /// Of these, those whose new answer expires no later than the one that was there.
    pub unchanged: u64,
    /// Of these, those for which no answer was to be had: the one that was there stays.
    pub failed: u64,
    /// Of these, those that were left alone, and why.
    pub skipped: Skipped,
    /// Entries that it removed, and why.
    pub removed: Removed,
}

/// Why entries that were about to expire were not renewed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// They are not asked for.
    pub unasked: u64,
    /// Lately they could not be renewed.
    pub put_off: u64,
    /// There were others that are asked for more, and no time or budget left for these.
    pub over_budget: u64,
    /// When their turn came, somebody else had renewed them, or they had been purged or evicted.
    pub settled: u64,
}

/// Why entries were removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// They could not be given out any more.
    pub dead: u64,
}

impl Report {
    /// Entries that were about to expire and of which it is not said what became of them: none.
    pub fn unaccounted(&self) -> i64 {
        let Skipped { unasked, put_off, over_budget, settled } = self.skipped;
        let ends = [self.renewed, self.unchanged, self.failed, unasked, put_off, over_budget, settled];
        self.near as i64 - ends.iter().sum::<u64>() as i64
    }

    fn add(&mut self, other: &Report) {
        self.walk_us += other.walk_us;
        self.took_ms += other.took_ms;
        self.seen += other.seen;
        self.stale += other.stale;
        self.near += other.near;
        self.renewed += other.renewed;
        self.unchanged += other.unchanged;
        self.failed += other.failed;
        self.skipped.unasked += other.skipped.unasked;
        self.skipped.put_off += other.skipped.put_off;
        self.skipped.over_budget += other.skipped.over_budget;
        self.skipped.settled += other.skipped.settled;
        self.removed.dead += other.removed.dead;
    }
}

/// The sweeps of the last day, the newest last.
#[derive(Debug, Default)]
pub struct History(VecDeque<Report>);

/// What is told of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    /// How many sweeps there are in `sum`.
    pub sweeps: usize,
    /// All that are remembered, of a day at most, together; `at` is when the first of them began.
    pub sum: Report,
    /// The last ones, the newest last.
    pub last: Vec<Report>,
}

impl History {
    /// Adds a sweep, and forgets those that are older than a day.
    pub fn add(&mut self, report: Report) {
        while self.0.len() >= KEPT || self.0.front().is_some_and(|old| old.at.saturating_add(DAY) < report.at)
        {
            self.0.pop_front();
        }
        self.0.push_back(report);
    }

    /// All together, and the last `most` by themselves.
    pub fn told(&self, most: usize) -> Told {
        let mut sum = Report { at: self.0.front().map_or(0, |first| first.at), ..Report::default() };
        self.0.iter().for_each(|report| sum.add(report));
        let skip = self.0.len().saturating_sub(most);
        Told { sweeps: self.0.len(), sum, last: self.0.iter().skip(skip).cloned().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
