//! What a run counts and times.

use crate::check::{Reply, Wrong};
use anyhow::Result;
use hdrhistogram::Histogram;

/// Longest time that is told apart, in nanoseconds: a minute.
const LONGEST: u64 = 60_000_000_000;

/// A histogram of nanoseconds, to three significant digits.
pub fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LONGEST, 3)?)
}

/// Latencies by response code, and one more for those not told apart.
const OUTCOMES: usize = 17;

/// Queries of one kind.
#[derive(Clone, Debug)]
pub struct Class {
    /// Queries sent.
    pub sent: u64,
    /// Queries answered in time.
    pub answered: u64,
    /// From when a query should have been sent until its answer was read, in nanoseconds, by response code. Made when the
    /// first of its kind comes.
    outcomes: [Option<Box<Histogram<u64>>>; OUTCOMES],
}

impl Class {
    fn new() -> Result<Self> {
        let mut outcomes = [const { None }; OUTCOMES];
        // What is common is there from the start.
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

    /// Times `count` answers whose response codes are not known.
    pub fn time_untold(&mut self, nanos: u64, count: u64) {
        self.record(OUTCOMES - 1, nanos, count);
    }

    #[inline]
    fn record(&mut self, outcome: usize, nanos: u64, count: u64) {
        // Its bounds are those of all: making it does not fail.
        let slot = &mut self.outcomes[outcome];
        if slot.is_none() {
            *slot = histogram().ok().map(Box::new);
        }
        if let Some(histogram) = slot {
            histogram.saturating_record_n(nanos.max(1), count);
        }
    }

    /// Queries without an answer, once all that could come has come.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.answered)
    }

    /// The latencies of answers with response code `rcode`, if there were any.
    pub fn outcome(&self, rcode: usize) -> Option<&Histogram<u64>> {
        self.outcomes.get(rcode)?.as_deref().filter(|histogram| !histogram.is_empty())
    }

    /// The latencies of all answers.
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

/// Everything that one sender counted.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Queries for names of the list.
    pub names: Class,
    /// Queries for names that nobody asked before.
    pub random: Class,
    /// Answers by response code.
    pub rcodes: [u64; 16],
    /// Answers that say that they are cut.
    pub truncated: u64,
    /// Responses that answer no query in flight: late, or twice.
    pub unexpected: u64,
    /// Responses to a query in flight that do not answer it, by [`Wrong`].
    pub wrong: [u64; 4],
    /// Times that the kernel refused to send, because nobody listens at the target.
    pub refused: u64,
    /// Frames that the kernel dropped at our rings: answers there was no room for, queries that it would not send.
    pub ring_drops: u64,
    /// Connections made (tcp, dot).
    pub connections: u64,
    /// Connections that ended before the run did, and attempts that failed.
    pub broken: u64,
    /// Queries that waited on a connection when it ended. They count as lost.
    pub interrupted: u64,
    /// How much later than intended queries were sent, in nanoseconds: the generator's own failing.
    pub lag: Histogram<u64>,
}

impl Tally {
    /// Nothing yet.
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

    /// Counts what an answer says.
    #[inline]
    pub fn reply(&mut self, reply: Reply) {
        self.rcodes[usize::from(reply.rcode)] += 1;
        self.truncated += u64::from(reply.truncated);
    }

    /// Counts a response that answers something else.
    pub fn wrong(&mut self, wrong: Wrong) {
        self.wrong[wrong as usize] += 1;
    }

    /// Queries sent.
    pub fn sent(&self) -> u64 {
        self.names.sent + self.random.sent
    }

    /// Queries answered.
    pub fn answered(&self) -> u64 {
        self.names.answered + self.random.answered
    }

    /// Queries without an answer.
    pub fn lost(&self) -> u64 {
        self.names.lost() + self.random.lost()
    }

    /// Adds another sender's.
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
