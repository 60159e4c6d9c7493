//! Interface of an upstream attempt, as seen by the socket that its query was sent over.

use crate::upstream::{
    AskError,
    exchange::{Hint, Judged},
    turn::Turn,
};
use ringdns_common::counters::Counter;
use std::sync::Arc;
use tokio::time::Instant;

/// Question on its way to one upstream.
pub trait Attempt: Send {
    /// Returns the time at which the upstream was first asked.
    fn began(&self) -> Instant;

    /// Returns the time at which the upstream is given up.
    fn until(&self) -> Instant;

    /// Returns the time at which to act if no response has arrived.
    fn due(&self) -> Instant;

    /// Returns the inquiry if it is time to ask another upstream too.
    fn overdue(&mut self, now: Instant) -> Option<Arc<dyn Hedge>>;

    /// Appends the query, with this ID.
    fn write_query(&self, id: u16, to: &mut Vec<u8>);

    /// Judges a response whose ID is the query's. `Err` is the counter of responses that are
    /// ignored for the same reason.
    fn judge(&self, response: &[u8]) -> Result<Judged, &Counter>;

    /// Notes a hint. Returns the inquiry and the step to be taken at once; `None`: a hint of this
    /// kind was followed before.
    fn hinted(&mut self, hint: Hint) -> Option<(Arc<dyn Hedge>, HintStep)>;

    /// Asks over a connection, because somebody guesses IDs at the port of the query.
    fn expose(self: Box<Self>);

    /// Updates the upstream's health and counters, without any effect on the question.
    fn settle(&self, heard: &Result<(), &AskError>, now: Instant);

    /// Ends the attempt or sends it again, depending on the response; `Timeout` if none came in
    /// time.
    fn hear(self: Box<Self>, heard: Result<Judged, AskError>, now: Instant, turn: &mut Turn);
}

/// Question for which a second upstream may be asked beside a slow first one.
pub trait Hedge: Send + Sync {
    /// Asks the next upstream beside the current one, once.
    fn hedge(self: Arc<Self>, now: Instant, turn: &mut Turn);

    /// Follows a hint to a query that stays in flight: asks the next upstream if this one may have
    /// failed, or this one in another way.
    fn follow(self: Arc<Self>, step: HintStep, now: Instant, turn: &mut Turn);
}

/// Step that a hint calls for.
#[derive(Clone, Copy, Debug)]
pub struct HintStep {
    /// Hint to be followed.
    pub hint: Hint,
    /// Number of the upstream that was asked.
    pub number: usize,
    /// Time at which it was asked.
    pub began: Instant,
    /// Whether that query was itself such a step.
    pub hurried: bool,
    /// Whether it had EDNS.
    pub edns: bool,
}
