//! An answer that the resolver gives.

use crate::upstream;
use ringdns_dataplane::{
    clock::Secs,
    dns::{answer::Answer, reply::Age},
    log::Source,
};
use std::sync::Arc;

/// An answer, and the cache generation that it belongs to.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The answer.
    pub answer: Arc<Answer>,
    /// It may be cached while this is the current one.
    pub generation: u64,
    /// Whether it was known before it was asked for.
    pub known: bool,
    /// Where it was found, for the log.
    pub source: Source,
}

impl Resolved {
    /// How its TTLs are to be written at `now`.
    pub fn age(&self, now: Secs, stale_ttl: Secs) -> Age {
        self.answer.age(self.known, now, stale_ttl)
    }
}

/// Whether an answer says that finding out failed.
pub(crate) fn is_failure(answer: &Answer) -> bool {
    !upstream::is_answer(answer.status.rcode())
}
