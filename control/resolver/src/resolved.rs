//! Answer that the resolver gives.

use crate::policy::Listed;
use ringdns_dataplane::{
    clock::Secs,
    dns::{answer::Answer, reply::Age},
    group::{Group, GroupSet},
    log::AnswerSource,
};
use std::{net::IpAddr, sync::Arc};

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
    /// Groups of clients that get `answer`.
    pub groups: GroupSet,
    /// Answers of lists, which the other groups get in its place.
    pub listed: Vec<Listed>,
    /// Whether the client gets no answer.
    pub is_withheld: bool,
}

/// Way on which a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP, to a worker.
    Udp,
    /// TCP, to a listener.
    Tcp,
}

/// Client that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Address of the client.
    pub address: IpAddr,
    /// Group that the client is in.
    pub group: Group,
}

impl Resolved {
    /// Returns an answer of `source` that all clients get.
    pub fn new(answer: Arc<Answer>, generation: u64, known: bool, source: AnswerSource) -> Self {
        Resolved {
            answer,
            generation,
            known,
            source,
            groups: GroupSet::ALL,
            listed: Vec::new(),
            is_withheld: false,
        }
    }

    /// Returns the answer for those of the clients that are in `groups`.
    pub(crate) fn within(mut self, groups: GroupSet) -> Self {
        self.groups = self.groups.and(groups);
        self.listed.retain_mut(|listed| {
            listed.groups = listed.groups.and(groups);
            !listed.groups.is_empty()
        });
        self
    }

    /// Returns the answer as clients get it for which no list decides, and their groups.
    pub fn shown(&self) -> (&Answer, GroupSet) {
        let instead = self.listed.iter().find(|listed| !listed.is_of_list);
        instead.map_or((&self.answer, self.groups), |listed| (&listed.answer, listed.groups))
    }

    /// Returns how the answer's TTLs are to be written at `now`.
    pub fn age(&self, now: Secs, stale_ttl: Secs) -> Age {
        self.answer.age(self.known, now, stale_ttl)
    }
}
