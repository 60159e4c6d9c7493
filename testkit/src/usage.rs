//! Resource usage of ringdnsd over time, which must not grow.

use std::time::Duration;

use crate::{Ringdnsd, until};

/// Resource usage at one moment.
#[derive(Clone, Copy, Debug)]
pub struct UsageSample {
    /// Time since the first sample.
    pub at: Duration,
    /// Resident memory in bytes.
    pub resident: u64,
    /// Memory in bytes that the allocator has given out.
    pub allocated: u64,
    /// Number of open files.
    pub files: u64,
    /// Number of threads.
    pub threads: u64,
}

impl UsageSample {
    /// Takes a sample.
    #[track_caller]
    pub fn take(ringdnsd: &Ringdnsd, at: Duration) -> Self {
        let process = ringdnsd.process();
        let [files, threads] = [process.open_files(), process.threads()].map(|count| count as u64);
        let allocated = ringdnsd.stat("/process/allocated_bytes");
        UsageSample { at, resident: process.resident(), allocated, files, threads }
    }
}

/// Most growth from the second third of a run to the last. The first third warms up.
#[derive(Clone, Copy, Debug)]
pub struct UsageGrowth {
    /// Resident memory in bytes: pages that the allocator has not returned yet are no growth.
    pub resident: u64,
    /// Given out memory in bytes: work in flight is no growth.
    pub allocated: u64,
}

impl UsageGrowth {
    /// Checks that usage did not grow.
    ///
    /// # Panics
    /// If it grew.
    #[track_caller]
    pub fn bounds(&self, samples: &[UsageSample]) {
        let third = |nth: usize| &samples[samples.len() * nth / 3..samples.len() * (nth + 1) / 3];
        let middle = |nth: usize, of: fn(&UsageSample) -> u64| median(third(nth).iter().map(of));
        for (name, of, noise) in [
            ("resident bytes", (|sample| sample.resident) as fn(&UsageSample) -> u64, self.resident),
            ("allocated bytes", |sample| sample.allocated, self.allocated),
            ("threads", |sample| sample.threads, 2),
        ] {
            does_not_grow(name, [1, 2].map(|nth| middle(nth, of)), noise);
        }
    }
}

/// Files that may be open at rest after a load and were not before: connections to Redis,
/// ClickHouse and upstreams.
const CONNECTIONS: usize = 16;

/// Waits until no more files are open than `before` a load, except a few connections. Under load,
/// hundreds of sockets for upstreams come and go, so their number says nothing.
///
/// # Panics
/// If that takes too long.
#[track_caller]
pub fn files_are_closed(ringdnsd: &Ringdnsd, before: usize) {
    let mut open = 0;
    until("files that the load needed are closed", || {
        open = ringdnsd.process().open_files();
        (open <= before + CONNECTIONS).then_some(())
    });
    println!("open files: {before} before the load, {open} after it");
}

/// Returns the median.
fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values[values.len() / 2]
}

#[track_caller]
fn does_not_grow(name: &str, [before, after]: [u64; 2], noise: u64) {
    println!("{name}: {before} in the second third, {after} in the last");
    assert!(after <= before + noise, "{name} grew from {before} to {after}");
}
