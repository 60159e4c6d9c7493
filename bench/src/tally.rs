//! Counts and latencies of a run.

use crate::check::{Reply, Wrong};
use anyhow::Result;
use hdrhistogram::Histogram;

/// Longest time that is recorded exactly, in nanoseconds: a minute.
pub const LONGEST: u64 = 60_000_000_000;

/// Returns a histogram of nanoseconds, to three significant digits.
pub fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LONGEST, 3)?)
}

/// Number of outcomes with latencies: response codes, and one for answers whose code is not known.
const OUTCOMES: usize = 17;

/// Queries of one class.
#[derive(Clone, Debug)]
pub struct Class {
    /// Queries sent.
    pub sent: u64,
    /// Queries answered in time.
    pub answered: u64,
    /// Latencies in nanoseconds, from when a query was due until its answer was read, by response
    /// code. A histogram is made with its first answer.
    outcomes: [Option<Box<Histogram<u64>>>; OUTCOMES],
}

impl Class {
    fn new() -> Result<Self> {
        let mut outcomes = [const { None }; OUTCOMES];
        // Common outcomes have theirs from the start.
        for rcode in [0, 3] {
            outcomes[rcode] = Some(Box::new(histogram()?));
        }
        Ok(Class { sent: 0, answered: 0, outcomes })
    }

    /// Counts an answer.
    #[inline]
    pub fn answer(&mut self, rcode: u8, nanos: u64) {
        self.answered += 1;
        self.record(usize::from(rcode & 0x0f), nanos, 1);
    }

    /// Records the latency of `count` answers whose response codes are not known.
    pub fn time_untold(&mut self, nanos: u64, count: u64) {
        self.record(OUTCOMES - 1, nanos, count);
    }

    #[inline]
    fn record(&mut self, outcome: usize, nanos: u64, count: u64) {
        // All histograms have the same bounds, so making one does not fail.
        let slot = &mut self.outcomes[outcome];
        if slot.is_none() {
            *slot = histogram().ok().map(Box::new);
        }
        if let Some(histogram) = slot {
            histogram.saturating_record_n(nanos.max(1), count);
        }
    }

    /// Returns the number of queries without an answer, once all answers have come.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.answered)
    }

    /// Returns the latencies of answers with response code `rcode`, if there were any.
    pub fn outcome(&self, rcode: usize) -> Option<&Histogram<u64>> {
        self.outcomes.get(rcode)?.as_deref().filter(|histogram| !histogram.is_empty())
    }

    /// Returns the latencies of all answers.
    pub fn latency(&self) -> Result<Histogram<u64>> {
        let mut all = histogram()?;
        for outcome in self.outcomes.iter().flatten() {
            all.add(outcome.as_ref())?;
        }
        Ok(all)
    }

    fn merge(&mut self, other: &Class) -> Result<()> {
        self.sent += other.sent;
        self.answered += other.answered;
        for (to, from) in self.outcomes.iter_mut().zip(&other.outcomes) {
            match (to, from) {
                (Some(to), Some(from)) => to.add(from.as_ref())?,
                (to @ None, Some(from)) => *to = Some(from.clone()),
                (_, None) => {}
            }
        }
        Ok(())
    }
}

/// Counts of one sender.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Queries for names of the list.
    pub names: Class,
    /// Queries for names never asked before.
    pub random: Class,
    /// Answers by response code.
    pub rcodes: [u64; 16],
    /// Answers with the TC bit.
    pub truncated: u64,
    /// Responses that match no query in flight: late, or duplicate.
    pub unexpected: u64,
    /// Responses that match a query in flight but do not answer it, by [`Wrong`].
    pub wrong: [u64; 4],
    /// Number of times that the kernel refused to send, because nothing listens at the target.
    pub refused: u64,
    /// Frames that the kernel dropped at the generator's rings: answers without room, and queries
    /// that it would not send.
    pub ring_drops: u64,
    /// Connections made (tcp, dot).
    pub connections: u64,
    /// Connections that ended before the run did, and failed attempts.
    pub broken: u64,
    /// Queries that waited on a connection when it ended. They count as lost.
    pub interrupted: u64,
    /// Send lag in nanoseconds: delay of queries that the generator itself caused.
    pub lag: Histogram<u64>,
}

impl Tally {
    /// Returns empty counts.
    pub fn new() -> Result<Self> {
        Ok(Tally {
            names: Class::new()?,
            random: Class::new()?,
            rcodes: [0; 16],
            truncated: 0,
            unexpected: 0,
            wrong: [0; 4],
            refused: 0,
            ring_drops: 0,
            connections: 0,
            broken: 0,
            interrupted: 0,
            lag: histogram()?,
        })
    }

    /// Counts an answer.
    #[inline]
    pub fn reply(&mut self, reply: Reply) {
        self.rcodes[usize::from(reply.rcode)] += 1;
        self.truncated += u64::from(reply.truncated);
    }

    /// Counts a response that does not answer its query.
    pub fn wrong(&mut self, wrong: Wrong) {
        self.wrong[wrong as usize] += 1;
    }

    /// Returns the number of queries sent.
    pub fn sent(&self) -> u64 {
        self.names.sent + self.random.sent
    }

    /// Returns the number of queries answered.
    pub fn answered(&self) -> u64 {
        self.names.answered + self.random.answered
    }

    /// Returns the number of queries without an answer.
    pub fn lost(&self) -> u64 {
        self.names.lost() + self.random.lost()
    }

    /// Adds the counts of another sender.
    pub fn merge(&mut self, other: &Tally) -> Result<()> {
        self.names.merge(&other.names)?;
        self.random.merge(&other.random)?;
        self.lag.add(&other.lag)?;
        for (to, from) in self.rcodes.iter_mut().zip(other.rcodes) {
            *to += from;
        }
        for (to, from) in self.wrong.iter_mut().zip(other.wrong) {
            *to += from;
        }
        self.truncated += other.truncated;
        self.unexpected += other.unexpected;
        self.refused += other.refused;
        self.ring_drops += other.ring_drops;
        self.connections += other.connections;
        self.broken += other.broken;
        self.interrupted += other.interrupted;
        Ok(())
    }
}
