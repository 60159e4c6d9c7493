//! Interface of a tier that appliances share, which the resolver asks before upstreams. The crate
//! `ringdns-fleet` implements it with Redis.

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

/// Tier that appliances share.
pub trait SharedTier: Send + Sync {
    /// Whether the tier is connected and in use.
    fn is_up(&self) -> bool;

    /// Looks up a question, for no longer than the tier's deadline. The caller judges the answer
    /// and counts it.
    fn lookup<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Option<SharedAnswer>>;

    /// Asks for the right to renew the answer to a question for all appliances. The lease ends
    /// after `lasts`.
    fn lease<'a>(self: Arc<Self>, key: &'a Key, lasts: Duration) -> BoxFuture<'a, LeaseReply>;

    /// Queues an answer to be stored. It was resolved while `host` was at `generation`.
    fn store(&self, key: &Key, answer: &Arc<Answer>, host: &HostTier, generation: u64, state: SharedState);

    /// Notes `n` questions that were answered without the tier.
    fn note_demand(&self, asked: Asked<'_>, n: u32);

    /// Returns the questions that all appliances ask most, at most `most` of them, the most asked
    /// first. `None`: the tier is not connected.
    fn most_wanted(&self, most: usize) -> BoxFuture<'_, Option<Vec<Key>>>;

    /// Returns the tier's counters.
    fn counters(&self) -> &FleetCounters;
}

/// Right to renew an answer for all appliances. Dropping it gives it back.
pub trait Lease: Send + Sync {}

/// Reply to a request for a lease.
pub enum LeaseReply {
    /// This appliance has the lease.
    Granted(Box<dyn Lease>),
    /// Another appliance has it.
    HeldByOther,
    /// The tier gives no reply: every appliance renews for itself.
    Unknown,
}

/// Answer found in the shared tier, not yet judged.
#[derive(Debug)]
pub struct SharedAnswer {
    /// DNS message, with TTLs lowered by the answer's age.
    pub message: Vec<u8>,
    /// Time for which the answer is still fresh; 0: it has expired.
    pub fresh: Secs,
    /// Time after that during which it may be served as stale.
    pub grace: Secs,
    /// Time for which it was fresh when it was received.
    pub ttl: Secs,
    /// Time for which it would have been fresh by its source's TTL alone.
    pub source_ttl: Secs,
    /// Time at which the fleet first had an answer to the question, in Unix time.
    pub first_seen: u64,
    /// Extended DNS error to send along (RFC 8914).
    pub ede: Option<u16>,
}

/// State, in the shared tier, of a question in flight.
#[derive(Default)]
pub struct SharedState {
    /// Time at which an appliance first had an answer to it, in Unix time.
    pub first_seen: Option<u64>,
    /// Right to renew it.
    pub lease: Option<Box<dyn Lease>>,
}

counters! {
    /// Counters of the use of the fleet's tier by this appliance.
    FleetCounters {
        /// Questions looked up in Redis.
        lookups,
        /// Redis lookups whose answer was used, those of the warm start apart.
        hit,
        /// Redis lookups of the warm start whose answer was put into the host cache.
        warmed,
        /// Redis lookups that found an expired answer, so that upstreams were asked; in the warm
        /// start also incomplete answers.
        stale,
        /// Redis lookups for a renewal that found no newer answer, or one that is itself to be
        /// renewed.
        due,
        /// Redis lookups that found no answer.
        missing,
        /// Redis lookups that found an answer that a purge has made void.
        purged,
        /// Redis lookups that found a value of another program or version, or one without an
        /// expiry.
        foreign,
        /// Redis lookups that found a value that was changed after it was stored, or that is no
        /// valid answer.
        damaged,
        /// Redis lookups that got no reply within redis.deadline.
        timed_out,
        /// Redis lookups that Redis refused, or whose connection broke.
        failed,
        /// Questions not looked up in Redis because Redis was not available.
        skipped,
        /// Questions not looked up in Redis because too many lookups were in progress.
        skipped_busy,
        /// Answers from Redis whose ages by the clocks of the appliances and by that of Redis
        /// differ by more than 10 s.
        clocks_differ,
        /// Answers offered to be stored in Redis.
        offered,
        /// Answers stored in Redis.
        stored,
        /// Answers that Redis refused to store, or did not store in time.
        store_failed,
        /// Answers not stored in Redis because the queue was full.
        store_dropped,
        /// Answers not stored in Redis because Redis was not available.
        store_skipped,
        /// Answers not stored in Redis because of a purge, or because they expired in the queue.
        store_outdated,
        /// Answers not stored in Redis because redis.max_keys other answers are in more demand.
        store_unwanted,
        /// Answers stored in Redis without an index entry, and for ten minutes at most, because the
        /// cluster's master with the index is down.
        store_unindexed,
        /// Answers removed from Redis because answers in more demand were stored.
        evicted,
        /// Questions answered without Redis and reported to it as demand.
        demand_told,
        /// Questions answered without Redis and not reported to it, because there were too many
        /// names or Redis was not available.
        demand_dropped,
        /// Sweeps of Redis made by this appliance.
        swept,
        /// Expired answers that sweeps of Redis removed from the index.
        swept_ended,
        /// Answers that sweeps removed from Redis because there were more than redis.max_keys, and
        /// others were in more demand.
        swept_least,
        /// Answers that sweeps removed from Redis because the fleet had not requested them within
        /// redis.idle.
        swept_idle,
        /// Answers that sweeps removed from the index because they were no longer in Redis.
        swept_orphans,
        /// Renewals that this appliance made for the whole fleet.
        renewals_led,
        /// Renewals that this appliance saved because another one had made them.
        renewals_spared,
        /// Renewals that this appliance made for itself, because Redis was not available, it gave
        /// no lease, or the appliance with the lease brought no answer.
        renewals_alone,
        /// Renewals that this appliance made for itself because a client came while it waited for
        /// another one; part of renewals_alone.
        renewals_hurried,
        /// Leases that had expired before they were given back.
        leases_lost,
        /// Connections to Redis that were opened and passed the checks.
        joined,
        /// Connections to Redis that were given up.
        left,
        /// Attempts to connect to Redis that failed.
        connect_failed,
        /// Purges announced to the fleet by this appliance.
        purges_told,
        /// Purges announced by other appliances and applied here.
        purges_heard,
    }
}
