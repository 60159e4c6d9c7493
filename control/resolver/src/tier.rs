//! The interface of a tier that appliances share, which the resolver asks before upstreams. The crate `ringdns-fleet`
//! implements it with Redis.

use crate::host::HostTier;
use futures_util::future::BoxFuture;
use ringdns_common::counters;
use ringdns_dataplane::{
    clock::Secs,
    dns::{
        answer::Answer,
        key::{Asked, Key},
    },
};
use std::{sync::Arc, time::Duration};

/// A tier that appliances share.
pub trait SharedTier: Send + Sync {
    /// Whether it is well and used.
    fn is_up(&self) -> bool;

    /// Looks a question up, for no longer than the tier's deadline. The caller judges the answer, and counts it.
    fn lookup<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Option<SharedAnswer>>;

    /// Asks for the right to renew the answer to a question for all appliances. The lease ends after `lasts`.
    fn lease<'a>(self: Arc<Self>, key: &'a Key, lasts: Duration) -> BoxFuture<'a, LeaseReply>;

    /// Stores an answer that was resolved while `host` was at `generation`, when there is time for it.
    fn store(&self, key: &Key, answer: &Arc<Answer>, host: &HostTier, generation: u64, state: SharedState);

    /// Notes `n` questions that were answered without the tier.
    fn note_demand(&self, asked: Asked<'_>, n: u32);

    /// Returns the questions whose answers all appliances want most, the first of them first. `None` if the tier is not
    /// well.
    fn most_wanted(&self, most: usize) -> BoxFuture<'_, Option<Vec<Key>>>;

    /// Counters of the tier.
    fn counters(&self) -> &FleetCounters;
}

/// The right to renew an answer for all appliances. Dropping it gives it back.
pub trait Lease: Send + Sync {}

/// Reply to a request for a lease.
pub enum LeaseReply {
    /// This appliance has the lease.
    Granted(Box<dyn Lease>),
    /// Another appliance has it.
    HeldByOther,
    /// The tier does not say: every appliance renews for itself.
    Unknown,
}

/// An answer found in the shared tier, not yet judged.
#[derive(Debug)]
pub struct SharedAnswer {
    /// The message, its TTLs lowered by the answer's age.
    pub message: Vec<u8>,
    /// How long it is fresh still; 0: it has expired.
    pub fresh: Secs,
    /// How long it may be given out after that.
    pub grace: Secs,
    /// How long it was fresh when it was new.
    pub ttl: Secs,
    /// How long it would have been fresh if its source alone had to say so.
    pub source_ttl: Secs,
    /// When the fleet first had an answer to the question, in Unix time.
    pub first_seen: u64,
    /// What is to be said about it (RFC 8914).
    pub ede: Option<u16>,
}

/// State of a question under way in the shared tier.
#[derive(Default)]
pub struct SharedState {
    /// When an appliance first had an answer to it, in Unix time.
    pub first_seen: Option<u64>,
    /// The right to renew it.
    pub lease: Option<Box<dyn Lease>>,
}

counters! {
    /// What happens between this appliance and the fleet's tier.
    FleetCounters {
        /// Questions looked up in Redis.
        lookups,
        /// Of these, those answered by what was there.
        hit,
        /// Those made for the warm start whose answers are kept now.
        warmed,
        /// Those that found an answer that has expired, and were asked of upstreams; or that did for no warm start.
        stale,
        /// Renewals that found nothing newer than what is to be renewed.
        due,
        /// Those that found nothing.
        missing,
        /// Those that found what a purge has made void.
        purged,
        /// Those that found what is not ringdns's, or of another version, or has no end.
        foreign,
        /// Those that found what is not as it was stored, or is no answer.
        damaged,
        /// Those not answered by Redis within the deadline.
        timed_out,
        /// Those that Redis refused, or that its connection broke under.
        failed,
        /// Questions not looked up because Redis was not well.
        skipped,
        /// Questions not looked up because enough lookups were under way.
        skipped_busy,
        /// Hits whose age by the hosts' clocks was another than by Redis's by more than 10 s.
        clocks_differ,
        /// Answers to be stored.
        offered,
        /// Of these, those stored.
        stored,
        /// Those that Redis refused, or did not take in time.
        store_failed,
        /// Those not stored because the queue was full.
        store_dropped,
        /// Those not stored because Redis was not well.
        store_skipped,
        /// Those not stored because a purge came, or their time was over.
        store_outdated,
        /// Those not stored because as many others are wanted more as there may be.
        store_unwanted,
        /// Answers that are not in the index, and are stored for ten minutes at most: the master of a cluster is gone that has it.
        store_unindexed,
        /// Answers removed from Redis because others were stored that are wanted more.
        evicted,
        /// Questions answered without the fleet's tier, of which the fleet has been told.
        demand_told,
        /// Those of which it has not, for there were too many names, or Redis was not well.
        demand_dropped,
        /// Sweeps of Redis that this appliance has made.
        swept,
        /// Answers that sweeps found to have ended, and took out of the index.
        swept_ended,
        /// Answers that sweeps removed because there were too many, and others are wanted more.
        swept_least,
        /// Answers that sweeps removed because nobody has wanted them for long.
        swept_idle,
        /// Answers that sweeps took out of the index because they were not in Redis any more.
        swept_orphans,
        /// Renewals that this appliance made for the fleet.
        renewals_led,
        /// Renewals that another appliance had made when this one was to.
        renewals_spared,
        /// Renewals that this appliance made for itself, for Redis did not say who was to, or who was to did not.
        renewals_alone,
        /// Of these, those that had waited for another appliance until somebody was in a hurry here.
        renewals_hurried,
        /// Leases that had run out when they were given back.
        leases_lost,
        /// Connections that were made and found well.
        joined,
        /// Connections that were given up.
        left,
        /// Attempts to connect that failed.
        connect_failed,
        /// Purges told to the fleet.
        purges_told,
        /// Purges of other appliances, applied here.
        purges_heard,
    }
}
