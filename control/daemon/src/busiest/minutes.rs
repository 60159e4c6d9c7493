//! Sketches of the last hour: one for each minute.

use super::sketch::{Ranked, Sketch, Summary, ranked};
use std::collections::VecDeque;

/// Minutes that are remembered, with the present one.
pub const MINUTES: u32 = 60;
/// Counters of the present minute.
const COUNTERS: usize = 1024;
/// Keys that are remembered of a minute that is over.
const KEPT: usize = 100;

/// Most frequent keys of each of the last minutes.
#[derive(Debug)]
pub struct Minutes {
    minute: u32,
    present: Sketch,
    /// Minutes that are over and had any keys, the newest last.
    over: VecDeque<(u32, Summary)>,
}

impl Minutes {
    /// Returns empty minutes, as of the minute `now`.
    pub fn new(now: u32) -> Self {
        Minutes { minute: now, present: Sketch::new(COUNTERS), over: VecDeque::new() }
    }

    /// Counts a key in the minute `now`.
    pub fn add(&mut self, now: u32, key: &[u8], weight: u64) {
        self.follow(now);
        self.present.add(key, weight);
    }

    /// Returns the `most` most frequent keys of the last `minutes`, with the present one, and the weight
    /// of all keys.
    pub fn ranked(&mut self, now: u32, minutes: u32, most: usize) -> (Vec<Ranked>, u64) {
        self.follow(now);
        // The counters of the present minute are all taken, so that a minute's first keys are exact.
        let present = self.present.summary(COUNTERS);
        let is_in = |(minute, _): &&(u32, Summary)| now.saturating_sub(*minute) < minutes;
        let over = self.over.iter().filter(is_in).map(|(_, summary)| summary);
        ranked(&over.chain([&present]).collect::<Vec<_>>(), most)
    }

    /// Ends the present minute if it is over, and forgets what is too old.
    fn follow(&mut self, now: u32) {
        if now <= self.minute {
            return;
        }
        let ended = std::mem::replace(&mut self.present, Sketch::new(COUNTERS)).summary(KEPT);
        if ended.total > 0 {
            self.over.push_back((self.minute, ended));
        }
        self.minute = now;
        while self.over.front().is_some_and(|(minute, _)| now.saturating_sub(*minute) >= MINUTES) {
            self.over.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(minutes: &mut Minutes, now: u32, window: u32) -> Vec<(String, u64)> {
        let (ranked, total) = minutes.ranked(now, window, 10);
        assert!(ranked.iter().map(|it| it.count).sum::<u64>() <= total);
        ranked.iter().map(|it| (String::from_utf8_lossy(&it.key).into_owned(), it.count)).collect()
    }

    #[test]
    fn a_window_has_its_minutes_and_no_others() {
        let mut minutes = Minutes::new(5);
        minutes.add(5, b"a", 3);
        minutes.add(6, b"b", 2);
        minutes.add(8, b"a", 1);
        let pairs =
            |list: &[(&str, u64)]| list.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect::<Vec<_>>();
        assert_eq!(told(&mut minutes, 8, 1), pairs(&[("a", 1)]));
        assert_eq!(told(&mut minutes, 8, 3), pairs(&[("b", 2), ("a", 1)]));
        assert_eq!(told(&mut minutes, 8, 4), pairs(&[("a", 4), ("b", 2)]));
        assert_eq!(told(&mut minutes, 5 + MINUTES - 1, MINUTES), pairs(&[("a", 4), ("b", 2)]));
        assert_eq!(told(&mut minutes, 5 + MINUTES, MINUTES), pairs(&[("b", 2), ("a", 1)]));
        assert_eq!(told(&mut minutes, 8 + MINUTES, MINUTES), pairs(&[]));
    }

    #[test]
    fn memory_is_bounded_whatever_is_asked() {
        let mut minutes = Minutes::new(0);
        for nth in 0..3 * MINUTES {
            (0..2000u32).for_each(|key| minutes.add(nth, &(nth * 2000 + key).to_be_bytes(), 1));
        }
        assert!(minutes.over.len() < MINUTES as usize);
        assert!(minutes.over.iter().all(|(_, summary)| summary.keys.len() <= KEPT));
    }
}
