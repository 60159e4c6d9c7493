//! Time of a load whose address is the result of the load before: measures the processor's caches
//! and memory without code of ringdns.

use anyhow::{Context, Result};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use ringdns_dataplane::region::Region;
use serde::Serialize;
use std::{hint::black_box, time::Instant};

/// Time of a load from a region of memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Load {
    /// Size of the region, read in random order, a cache line at a time.
    pub bytes: usize,
    /// Nanoseconds a load: the minimum of the rounds, since only other work can make it longer.
    pub nanos: f64,
}

const LINE: usize = 64;
/// Loads a round.
const LOADS: usize = 1 << 18;
const ROUNDS: usize = 3;
/// Number of regions in memory to measure.
const PLACES: usize = 3;

/// Returns sizes from a third of the nearest cache to far beyond the last, in steps of about 1.4.
pub fn sizes(largest: usize) -> Vec<usize> {
    let mut sizes = Vec::new();
    let mut size = 16 << 10;
    while size <= largest {
        sizes.push(size);
        if size / 2 * 3 <= largest {
            sizes.push(size / 2 * 3);
        }
        size *= 2;
    }
    sizes
}

/// Reads `bytes` on pages like those of the cache. The place in memory makes a difference to the
/// caches, so several places are measured.
pub fn measure(bytes: usize) -> Result<Load> {
    let lines = (bytes / LINE).max(2);
    let cycle = cycle(lines);
    let mut least = f64::INFINITY;
    for _ in 0..PLACES {
        let mut region = Region::new(lines * LINE).with_context(|| format!("no memory for {bytes} bytes"))?;
        for (line, next) in cycle.iter().enumerate() {
            region.bytes_mut()[line * LINE..][..4].copy_from_slice(&next.to_ne_bytes());
        }
        let memory = region.bytes();
        let follow = |mut line: usize, loads: usize| {
            for _ in 0..loads {
                let next = memory[line * LINE..].first_chunk::<4>().unwrap_or(&[0; 4]);
                line = u32::from_ne_bytes(*next) as usize;
            }
            line
        };
        let mut line = follow(0, lines.min(LOADS));
        for _ in 0..ROUNDS {
            let began = Instant::now();
            line = black_box(follow(line, LOADS));
            least = least.min(began.elapsed().as_nanos() as f64 / LOADS as f64);
        }
    }
    Ok(Load { bytes: lines * LINE, nanos: least })
}

/// Returns for each of `count` places the next one, so that all are visited before the first comes
/// again (Sattolo's algorithm).
fn cycle(count: usize) -> Vec<u32> {
    let mut rng = SmallRng::seed_from_u64(count as u64);
    let mut places: Vec<u32> = (0..count as u32).collect();
    for last in (1..count).rev() {
        places.swap(last, rng.random_range(0..last));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_visits_every_place() {
        let next = cycle(1000);
        let mut seen = vec![false; 1000];
        let mut at = 0;
        for _ in 0..1000 {
            assert!(!std::mem::replace(&mut seen[at], true), "{at} came twice");
            at = next[at] as usize;
        }
        assert_eq!(at, 0);
    }

    #[test]
    fn sizes_rise_to_the_largest() {
        let sizes = sizes(1 << 20);
        assert_eq!((sizes[0], sizes[1], *sizes.last().unwrap()), (16 << 10, 24 << 10, 1 << 20));
        assert!(sizes.is_sorted());
    }
}
