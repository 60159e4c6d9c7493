//! What a sweep of the host tier did.

use super::Swept;
use serde::{Deserialize, Serialize};

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
}

impl Swept for Report {
    fn at(&self) -> u64 {
        self.at
    }

    fn add(&mut self, other: &Self) {
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
