//! The interface of an upstream attempt: a question on its way to one upstream, as the socket sees it that the query
//! went out over.

use crate::upstream::{AskError, exchange::Judged, turn::Turn};
use ringdns_common::counters::Counter;
use std::sync::Arc;
use tokio::time::Instant;

/// A question on its way to one upstream.
pub trait Attempt: Send {
    /// Time at which the upstream was first asked.
    fn began(&self) -> Instant;

    /// Time at which the upstream is given up.
    fn until(&self) -> Instant;

    /// Time at which something is to be done if nothing is heard.
    fn due(&self) -> Instant;

    /// Returns the question if it is time to ask another upstream too.
    fn overdue(&mut self, now: Instant) -> Option<Arc<dyn Hedge>>;

    /// Appends the query, with this ID.
    fn write_query(&self, id: u16, to: &mut Vec<u8>);

    /// Judges a response whose ID is the query's; `Err` is the counter of responses that are ignored for the same reason.
    fn judge(&self, response: &[u8]) -> Result<Judged, &Counter>;

    /// Takes note of the upstream's health and counters, without any effect on the question.
    fn settle(&self, heard: &Result<(), &AskError>, now: Instant);

    /// Ends the attempt, or sends it again, by what the upstream said; `Timeout` where it said nothing in time.
    fn hear(self: Box<Self>, heard: Result<Judged, AskError>, now: Instant, turn: &mut Turn);
}

/// A question that another upstream may be asked beside the one that takes long.
pub trait Hedge: Send + Sync {
    /// Asks the next upstream beside the one that is asked, once.
    fn hedge(self: Arc<Self>, now: Instant, turn: &mut Turn);
}
