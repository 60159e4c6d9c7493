//! Answers of `GET /v1/sweeps`: results of the sweeps of the host cache and of Redis.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Result of one sweep, or the sum of several.
pub trait Swept: Clone + Default {
    /// Returns the time at which it began, in Unix time.
    fn at(&self) -> u64;

    /// Adds the counts of another sweep; the start time stays.
    fn add(&mut self, other: &Self);
}

/// Sweeps as the API reports them.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Told<R> {
    /// Number of sweeps in `sum`.
    pub sweeps: usize,
    /// Sum of all remembered sweeps, at most a day's; `at` is the start of the first.
    pub sum: R,
    /// Last sweeps, the newest last.
    pub last: Vec<R>,
}

/// Sweeps of the last day.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Sweeps {
    /// Sweeps of the host cache.
    pub host: Told<Report>,
    /// Sweeps of Redis by this appliance, if Redis is configured.
    pub fleet: Option<Told<RedisSweep>>,
}

/// Result of one sweep of the host cache. `near = renewed + unchanged + failed + skipped`, where
/// `skipped` is the sum of its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// Start time in Unix time.
    pub at: u64,
    /// Duration of the walk over all entries, in microseconds.
    pub walk_us: u64,
    /// Total duration in milliseconds, renewals included.
    pub took_ms: u64,
    /// Entries of the host cache that the walk visited.
    pub seen: u64,
    /// Stale entries: expired, and served only if resolution fails.
    pub stale: u64,
    /// Entries about to expire.
    pub near: u64,
    /// Entries about to expire that were renewed.
    pub renewed: u64,
    /// Entries about to expire whose new answer expires no later than the old one.
    pub unchanged: u64,
    /// Entries about to expire for which no new answer could be obtained: the old one stays.
    pub failed: u64,
    /// Entries about to expire that were not renewed, by reason.
    pub skipped: Skipped,
    /// Entries removed, by reason.
    pub removed: Removed,
}

/// Entries that were about to expire and were not renewed, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Skipped {
    /// Entries that clients do not ask for often enough.
    pub unasked: u64,
    /// Entries whose last renewal failed recently.
    pub put_off: u64,
    /// Entries for which no time or budget was left after those asked for more often.
    pub over_budget: u64,
    /// Entries that had already been renewed, purged or evicted when their turn came.
    pub settled: u64,
}

/// Entries removed, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Removed {
    /// Entries too old to be served even as stale.
    pub dead: u64,
}

impl Report {
    /// Returns the number of entries about to expire that no counter accounts for. It should be 0.
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

/// Result of one sweep of Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RedisSweep {
    /// Start time in Unix time.
    pub at: u64,
    /// Duration in milliseconds.
    pub took_ms: u64,
    /// Answers in the index after the sweep; in a sum, after the last one.
    pub kept: u64,
    /// Answers of the index whose key it looked up in Redis.
    pub seen: u64,
    /// Answers removed from the index because their key has expired.
    pub ended: u64,
    /// Answers removed because the index was full and these had the least demand.
    pub least: u64,
    /// Answers removed because nobody had asked for them for a long time.
    pub idle: u64,
    /// Answers removed from the index because Redis no longer held their key.
    pub orphans: u64,
    /// 1 if the sweep ended early because Redis failed or was too slow.
    pub cut_short: u64,
}

impl Swept for RedisSweep {
    fn at(&self) -> u64 {
        self.at
    }

    fn add(&mut self, other: &Self) {
        self.took_ms += other.took_ms;
        self.kept = other.kept;
        self.seen += other.seen;
        self.ended += other.ended;
        self.least += other.least;
        self.idle += other.idle;
        self.orphans += other.orphans;
        self.cut_short += other.cut_short;
    }
}
