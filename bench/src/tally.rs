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

/// Queries of one kind.
#[derive(Clone, Debug)]
pub struct Class {
    /// Queries sent.
    pub sent: u64,
    /// Queries answered in time.
    pub answered: u64,
    /// From when a query should have been sent until its answer was read, in nanoseconds.
    pub latency: Histogram<u64>,
}

impl Class {
    fn new() -> Result<Self> {
        Ok(Class { sent: 0, answered: 0, latency: histogram()? })
    }

    /// Counts an answer.
    #[inline]
    pub fn answer(&mut self, nanos: u64) {
        self.answered += 1;
        self.latency.saturating_record(nanos.max(1));
    }

    /// Queries without an answer, once all that could come has come.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.answered)
    }

    fn merge(&mut self, other: &Class) -> Result<()> {
        self.sent += other.sent;
        self.answered += other.answered;
        Ok(self.latency.add(&other.latency)?)
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
    pub wrong: [u64; 3],
    /// Times that the kernel refused to send, because nobody listens at the target.
    pub refused: u64,
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
            wrong: [0; 3],
            refused: 0,
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
        Ok(())
    }
}
