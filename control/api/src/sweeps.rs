//! Answers of `GET /sweeps`: what sweeps of the host tier and of Redis did.

use serde::{Deserialize, Serialize};

/// What one sweep did.
pub trait Swept: Clone + Default {
    /// When it began, in Unix time.
    fn at(&self) -> u64;

    /// Adds what another one did; it begins when it began.
    fn add(&mut self, other: &Self);
}

/// What is told of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told<R> {
    /// How many sweeps there are in `sum`.
    pub sweeps: usize,
    /// All that are remembered, of a day at most, together; `at` is when the first of them began.
    pub sum: R,
    /// The last ones, the newest last.
    pub last: Vec<R>,
}

/// What sweeps of the last day have done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sweeps {
    /// Those of the host tier.
    pub host: Told<Report>,
    /// Those that this appliance has made of Redis, if there is one.
    pub fleet: Option<Told<RedisSweep>>,
}

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

/// What one sweep of Redis did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisSweep {
    /// When it began, in Unix time.
    pub at: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Answers that are in the index after it; of several sweeps, after the last.
    pub kept: u64,
    /// Answers of the index that it looked for in Redis.
    pub seen: u64,
    /// Answers that left the index because they have ended.
    pub ended: u64,
    /// Answers that left because there were too many, and others are wanted more.
    pub least: u64,
    /// Answers that left because nobody has wanted them for long.
    pub idle: u64,
    /// Answers that left the index because they are not in Redis any more.
    pub orphans: u64,
    /// 1 if Redis failed, or was too slow, before it was done.
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
