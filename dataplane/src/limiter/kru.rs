//! Counters that drain, for very many prefixes in fixed memory.
//!
//! The design follows the KRU of Knot DNS (`src/contrib/kru.h`): a keyed hash chooses a cache line, and a
//! tag of 16 bits finds the counter in it. A prefix without a counter takes the one that is nearest
//! to empty and keeps its load (Space-Saving), so a load is never understated. Unlike Knot's,
//! counters do not decay by a share of themselves but drain at a constant rate: each is stored as
//! the instant at which it will be empty, so time passes for all counters without a write.

use crate::region::Table;
use std::io;
use zerocopy::FromZeros;

/// Instant or span of time in sixteenths of a nanosecond, counted from the start of the process:
/// fine enough for the price of one query among many clients. 64 bits last 36 years.
pub type Ticks = u64;

/// Number of ticks in a second.
pub const SECOND: Ticks = 16_000_000_000;

/// Size of the counters of one worker in bytes.
pub const BYTES: usize = 4 << 20;

/// Number of counters in a line.
const SLOTS: usize = 6;

/// Number of lines.
const LINES: usize = BYTES / size_of::<Line>();

/// Counters that share a cache line.
#[derive(FromZeros)]
#[repr(C, align(64))]
struct Line {
    /// Instants at which the counters are empty.
    empty_at: [Ticks; SLOTS],
    /// Tags of the prefixes that have the counters.
    tags: [u16; SLOTS],
}

const _: () = assert!(size_of::<Line>() == 64 && LINES == 1 << 16, "a line is chosen by 16 bits");

/// Counters of a worker.
pub struct Kru {
    lines: Table<Line>,
}

impl Kru {
    /// Creates empty counters.
    pub fn new() -> io::Result<Self> {
        Ok(Kru { lines: Table::new(LINES)? })
    }

    /// Returns the time that the counter of `hash` takes to drain.
    #[inline]
    pub fn load(&self, hash: u64, now: Ticks) -> Ticks {
        let line = &self.lines[line_of(hash)];
        // A prefix that has no counter has no load, but would get that of the counter it takes.
        let slot = line.find(hash as u16).unwrap_or_else(|| line.emptiest());
        line.empty_at[slot].saturating_sub(now)
    }

    /// Adds `span` to the counter of `hash`, and returns the time that it takes to drain then.
    #[inline]
    pub fn add(&mut self, hash: u64, now: Ticks, span: Ticks) -> Ticks {
        let line = &mut self.lines[line_of(hash)];
        let tag = hash as u16;
        let slot = line.find(tag).unwrap_or_else(|| line.emptiest());
        line.tags[slot] = tag;
        let load = line.empty_at[slot].saturating_sub(now).saturating_add(span);
        line.empty_at[slot] = now.saturating_add(load);
        load
    }
}

impl Line {
    #[inline(always)]
    fn find(&self, tag: u16) -> Option<usize> {
        self.tags.iter().position(|other| *other == tag)
    }

    #[inline(always)]
    fn emptiest(&self) -> usize {
        let mut least = 0;
        for slot in 1..SLOTS {
            if self.empty_at[slot] < self.empty_at[least] {
                least = slot;
            }
        }
        least
    }
}

/// Returns the line of a hash. Its lowest bits are the tag.
#[inline(always)]
fn line_of(hash: u64) -> usize {
    (hash >> 48) as usize % LINES
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Returns the hash of a prefix that has this line and this tag.
    fn hash(line: u64, tag: u64) -> u64 {
        line << 48 | tag
    }

    /// Exact model: a counter for each prefix.
    #[derive(Default)]
    struct Model(HashMap<u64, (Ticks, Ticks)>);

    impl Model {
        fn load(&self, hash: u64, now: Ticks) -> Ticks {
            self.0.get(&hash).map_or(0, |(load, at)| load.saturating_sub(now - at))
        }

        fn add(&mut self, hash: u64, now: Ticks, span: Ticks) -> Ticks {
            let load = self.load(hash, now) + span;
            self.0.insert(hash, (load, now));
            load
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// As long as each prefix of a line can have a counter, loads are exact.
        #[test]
        fn a_line_that_is_not_full_is_exact(
            steps in prop::collection::vec((0..3u64, 0..SLOTS as u64, 0..1000u64, 0..2000u64), 1..200),
        ) {
            let (mut kru, mut model, mut now) = (Kru::new().unwrap(), Model::default(), 0);
            for (line, tag, passed, span) in steps {
                now += passed;
                let hash = hash(line, tag);
                prop_assert_eq!(kru.add(hash, now, span), model.add(hash, now, span));
                for tag in 0..SLOTS as u64 {
                    let of = super::tests::hash(line, tag);
                    prop_assert_eq!(kru.load(of, now), model.load(of, now));
                }
            }
        }

        /// Loads are never understated, and overstated by no more than was added to the line.
        #[test]
        fn a_full_line_overstates(
            steps in prop::collection::vec((0..40u64, 0..1000u64, 0..2000u64), 1..300),
        ) {
            let (mut kru, mut model, mut now, mut all) = (Kru::new().unwrap(), Model::default(), 0, 0);
            for (tag, passed, span) in steps {
                now += passed;
                // A counter that prefixes share drains once, where theirs would drain each.
                all += span;
                let (load, exact) = (kru.add(hash(7, tag), now, span), model.add(hash(7, tag), now, span));
                prop_assert!((exact..=all).contains(&load), "{load} is not in {exact}..={all}");
            }
        }
    }

    #[test]
    fn counters_drain_while_nobody_looks() {
        let mut kru = Kru::new().unwrap();
        assert_eq!(kru.add(hash(1, 1), 100, 50), 50);
        assert_eq!(kru.load(hash(1, 1), 120), 30);
        assert_eq!(kru.load(hash(1, 1), 1_000_000), 0);
        assert_eq!(kru.add(hash(1, 1), 1_000_000, 50), 50);
        assert_eq!(kru.add(hash(1, 1), 1_000_000, Ticks::MAX), Ticks::MAX, "no wrap");
    }
}
