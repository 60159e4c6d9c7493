//! Answer that the resolver gives.

use crate::policy::Listed;
use ringdns_dataplane::{
    clock::Secs,
    dns::{answer::Answer, reply::Age},
    log::AnswerSource,
};
use std::sync::Arc;

/// Answer, and the cache generation that it belongs to.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Answer.
    pub answer: Arc<Answer>,
    /// Generation of the answer: it may be cached while this is the current one.
    pub generation: u64,
    /// Whether the answer was known before the question.
    pub known: bool,
    /// Source of the answer, for the log.
    pub source: AnswerSource,
    /// Answer of a list, which clients get in place of `answer`.
    pub listed: Option<Listed>,
}

impl Resolved {
    /// Returns the answer as clients get it.
    pub fn shown(&self) -> &Answer {
        self.listed.as_ref().map_or(&self.answer, |listed| &listed.answer)
    }

    /// Returns how the answer's TTLs are to be written at `now`.
    pub fn age(&self, now: Secs, stale_ttl: Secs) -> Age {
        self.answer.age(self.known, now, stale_ttl)
    }
}
