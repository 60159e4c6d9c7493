//! Counts and latencies by interval, and a line a second about them during the run.

use anyhow::Result;
use hdrhistogram::Histogram;
use std::{
    sync::{Mutex, MutexGuard, OnceLock, PoisonError, atomic::AtomicBool, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use super::group;
use crate::tally::LONGEST;

/// Counts of one sender, or of all of them, in an interval.
#[derive(Clone, Debug)]
pub struct Interval {
    /// Index of the interval, from the start of the run.
    pub index: usize,
    /// Queries that left in the interval.
    pub sent: u64,
    /// Answers that arrived in the interval.
    pub answered: u64,
    /// Queries that were due in the interval and never answered in time.
    pub timeouts: u64,
    /// Latencies of the answers that arrived in the interval: nanoseconds from when the query was
    /// due, to two significant digits.
    pub latency: Histogram<u32>,
}

impl Interval {
    /// Returns an empty interval.
    pub fn new(index: usize) -> Result<Self> {
        let latency = Histogram::new_with_bounds(1, LONGEST, 2)?;
        Ok(Interval { index, sent: 0, answered: 0, timeouts: 0, latency })
    }

    /// Counts an answer.
    #[inline]
    pub fn answer(&mut self, nanos: u64) {
        self.answered += 1;
        self.latency.saturating_record(nanos.max(1));
    }

    /// Empties the interval for reuse.
    pub fn begin(&mut self, index: usize) {
        (self.index, self.sent, self.answered, self.timeouts) = (index, 0, 0, 0);
        self.latency.reset();
    }

    fn merge(&mut self, other: &Interval) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.timeouts += other.timeouts;
        // Both histograms have the same bounds.
        let _ = self.latency.add(&other.latency);
    }
}

/// Intervals of a run, as its senders add them.
#[derive(Debug)]
pub struct Series {
    length: Duration,
    began: OnceLock<Instant>,
    intervals: Mutex<Vec<Interval>>,
}

/// Length of the intervals of short runs, and most time that such a run lasts.
const FINE: Duration = Duration::from_millis(100);
const SHORT: Duration = Duration::from_secs(60);

impl Series {
    /// Returns a series with intervals of this length.
    pub fn new(length: Duration) -> Self {
        Series { length, began: OnceLock::new(), intervals: Mutex::default() }
    }

    /// Returns a series with intervals that suit a run of this length: a tenth of a second, or a
    /// second.
    pub fn of_run(duration: Duration) -> Self {
        Series::new(if duration <= SHORT { FINE } else { 10 * FINE })
    }

    /// Returns the length of an interval.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// Starts the run.
    pub fn start(&self, when: Instant) {
        // A run starts once.
        let _ = self.began.set(when);
    }

    /// Returns the index of the interval at a time, in nanoseconds of the run.
    #[inline]
    pub fn index(&self, nanos: u64) -> usize {
        (nanos / self.length.as_nanos() as u64) as usize
    }

    /// Adds a sender's counts of an interval.
    pub fn add(&self, interval: &Interval) {
        let mut intervals = self.lock();
        while intervals.len() <= interval.index {
            match Interval::new(intervals.len()) {
                Ok(empty) => intervals.push(empty),
                Err(_) => return, // The bounds are valid: see `new`.
            }
        }
        intervals[interval.index].merge(interval);
    }

    /// Counts a query that was due at `due` and is given up; `current` is the sender's interval.
    pub fn time_out(&self, due: u64, current: &mut Interval) {
        let index = self.index(due);
        if index == current.index {
            current.timeouts += 1;
        } else if let Some(interval) = self.lock().get_mut(index) {
            interval.timeouts += 1;
        }
    }

    /// Returns the intervals so far.
    pub fn intervals(&self) -> Vec<Interval> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Interval>> {
        self.intervals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints a line a second on standard error until `done`.
    pub fn tell(&self, done: &AtomicBool) {
        const STEP: Duration = Duration::from_millis(20);
        let mut seconds = 0;
        while !done.load(Relaxed) {
            thread::sleep(STEP);
            // The senders add an interval within milliseconds of its end.
            let told = Duration::from_secs(seconds + 1) + 3 * STEP;
            if self.began.get().is_some_and(|began| began.elapsed() >= told) {
                eprintln!("{}", self.line(seconds));
                seconds += 1;
            }
        }
    }

    /// Formats the counts of a second of the run.
    fn line(&self, second: u64) -> String {
        let from = self.index(second * 1_000_000_000);
        let to = self.index((second + 1) * 1_000_000_000).max(from + 1);
        let intervals = self.lock();
        let mut sum: Option<Interval> = None;
        for interval in intervals.iter().filter(|interval| (from..to).contains(&interval.index)) {
            match &mut sum {
                Some(sum) => sum.merge(interval),
                None => sum = Some(interval.clone()),
            }
        }
        let Some(sum) = sum else { return format!("{:>5} s  nothing yet", second + 1) };
        let micros = |q| sum.latency.value_at_quantile(q) as f64 / 1000.0;
        format!(
            "{:>5} s  sent {}/s  answered {}/s  p50 {:.0} µs  p99 {:.0} µs  max {:.0} µs",
            second + 1,
            group(sum.sent),
            group(sum.answered),
            micros(0.5),
            micros(0.99),
            micros(1.0)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_intervals_add_up_and_timeouts_count_when_they_were_due() {
        let series = Series::of_run(Duration::from_secs(1));
        for sent in [3, 4] {
            let mut interval = Interval::new(0).unwrap();
            interval.sent = sent;
            interval.answer(1_000_000);
            series.add(&interval);
        }
        let mut current = Interval::new(2).unwrap();
        series.time_out(50_000_000, &mut current);
        series.time_out(250_000_000, &mut current);
        series.add(&current);
        let counts: Vec<_> = series.intervals().iter().map(|i| (i.sent, i.answered, i.timeouts)).collect();
        assert_eq!(counts, [(7, 2, 1), (0, 0, 0), (0, 0, 1)]);
        let line = series.line(0);
        assert!(line.contains("sent 7/s  answered 2/s") && line.contains("p50 10"), "{line}");
    }
}
