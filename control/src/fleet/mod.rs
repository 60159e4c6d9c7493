//! The fleet's tier: what one appliance found out, the others read in Redis before they ask upstreams.
//!
//! Redis is never waited for longer than a deadline of milliseconds, and while it is not well it is not asked at all: [`keeper`]
//! holds the one connection, which is there only while Redis answers in time. What is stored goes through a bounded queue
//! ([`writer`]). An answer is renewed by one appliance at a time ([`lease`]), and the number of answers is bounded ([`index`],
//! [`housekeeping`]). Whatever lies in Redis may be anybody's: see [`value`]. What purges make void is told by a log ([`purges`]).

mod cluster;
pub mod connection;
mod demand;
mod housekeeping;
mod index;
mod keeper;
pub mod lease;
mod purges;
mod value;
mod writer;

pub use housekeeping::Sweep;

use crate::{
    config::Redis,
    counters::counters,
    host::{HostTier, Purge, StoredKey},
    message,
    sweep::{History, Told},
};
use connection::{Connection, Server};
use demand::Untold;
use lease::Lease;
use parking_lot::{Mutex, RwLock};
use purges::Purges;
use redis::RedisResult;
use ringdns_dataplane::{
    clock::{Clock, Secs},
    dns::{
        answer::Answer,
        key::{Asked, Key},
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore, mpsc, oneshot},
    time::timeout,
};
use value::{Unfit, Value};
use writer::Write;

/// Answers that wait to be stored. They are in the host tier too.
const QUEUE: usize = 1024;
/// Lookups under way at once; each is one command in the connection's pipeline.
const LOOKUPS: usize = 256;
/// How long anything may take that nobody waits for.
const PATIENCE: Duration = Duration::from_secs(1);
/// So many lookups in a row that were in vain end the connection.
const TROUBLE_MAX: u32 = 3;

/// The version of the log of purges. It is older than that of values, so that appliances of two versions hear each other's.
const PURGES_VERSION: u8 = 1;

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

/// An answer found in Redis. It has not been judged yet.
#[derive(Debug)]
pub struct Found {
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

/// What ties an answer that is looked for here to the fleet.
#[derive(Default)]
pub struct Kin {
    /// When the fleet first had one, in Unix time.
    pub first_seen: Option<u64>,
    /// The right to renew it.
    pub lease: Option<Lease>,
}

/// The fleet's tier, as this appliance sees it.
pub struct Fleet {
    server: Server,
    /// Its address, for the log.
    address: String,
    prefix: String,
    deadline: Duration,
    clock: Clock,
    /// Told apart from others in the log of purges.
    id: String,
    /// `None`: Redis is not well, or has not been seen yet.
    connection: RwLock<Option<Connection>>,
    /// Lookups in vain since the last one that was not.
    trouble: AtomicU32,
    /// Wakes who looks after the connection.
    wake: Notify,
    lookups: Semaphore,
    /// How many answers there may be in Redis.
    max_keys: usize,
    /// How long an answer stays there that nobody wants.
    idle: Duration,
    sweep_every: Duration,
    /// How many there were when the index was last changed here.
    keys: AtomicU64,
    untold: Untold,
    /// How many leases were asked for.
    leases: AtomicU64,
    queue: mpsc::Sender<Write>,
    waiting: Mutex<Option<mpsc::Receiver<Write>>>,
    purges: RwLock<Purges>,
    /// The newest purge that has been applied here.
    known: AtomicU64,
    /// Those who wait until the fleet has been told of their purges.
    tellers: Mutex<Vec<(u64, oneshot::Sender<()>)>>,
    history: Mutex<History<Sweep>>,
    /// What happened so far.
    pub counters: FleetCounters,
}

impl Fleet {
    /// Of a configuration. Nothing is connected before [`Fleet::run`].
    pub fn new(config: &Redis, clock: Clock) -> Arc<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        Arc::new(Fleet {
            server: config.server.clone(),
            address: config.address.clone(),
            prefix: config.prefix.clone(),
            deadline: config.deadline,
            clock,
            id: format!("{:016x}", rand::random::<u64>()),
            connection: RwLock::default(),
            trouble: AtomicU32::new(0),
            wake: Notify::new(),
            lookups: Semaphore::new(LOOKUPS),
            max_keys: config.max_keys,
            idle: config.idle,
            sweep_every: config.sweep_every,
            keys: AtomicU64::new(0),
            untold: Untold::default(),
            leases: AtomicU64::new(0),
            queue,
            waiting: Mutex::new(Some(waiting)),
            purges: RwLock::default(),
            known: AtomicU64::new(0),
            tellers: Mutex::default(),
            history: Mutex::default(),
            counters: FleetCounters::default(),
        })
    }

    /// Keeps the connection, and stores what is to be stored, until it is dropped. To be called once.
    pub async fn run(self: Arc<Self>, host: Arc<HostTier>) {
        let Some(waiting) = self.waiting.lock().take() else { return };
        tokio::join!(self.keep(&host), self.write(&host, waiting), self.tell_demand(), self.keep_house());
    }

    /// Whether Redis is well.
    pub fn is_up(&self) -> bool {
        self.connection.read().is_some()
    }

    /// What this appliance's sweeps of Redis have done in the last day, and each of the last ones.
    pub fn swept(&self, last: usize) -> Told<Sweep> {
        self.history.lock().told(last)
    }

    /// How many answers wait to be stored.
    pub fn queued(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// How many answers the index had when this appliance last changed it.
    pub fn keys(&self) -> u64 {
        self.keys.load(Ordering::Relaxed)
    }

    /// The questions whose answers the fleet wants most, the first of them first. `None` if Redis is not well.
    pub async fn most_wanted(&self, most: usize) -> Option<Vec<Key>> {
        let connection = self.connection()?;
        let members = timeout(PATIENCE, self.most_wanted_members(&connection, most)).await.ok()?.ok()?;
        Some(members.iter().filter_map(|member| value::key(member)).collect())
    }

    fn connection(&self) -> Option<Connection> {
        self.connection.read().clone()
    }

    /// Looks a question up, for no longer than the deadline. What is found is to be judged, and then counted.
    pub async fn lookup(&self, key: &Key) -> Option<Found> {
        let counters = &self.counters;
        let name = value::name(&self.prefix, key.asked());
        let Some(mut connection) = self.connection().filter(|connection| connection.has(&name)) else {
            counters.skipped.inc();
            return None;
        };
        let Ok(_one_of_them) = self.lookups.try_acquire() else {
            counters.skipped_busy.inc();
            return None;
        };
        counters.lookups.inc();
        let mut commands = redis::pipe();
        commands.ignore_errors().cmd("GET").arg(&name).cmd("PTTL").arg(&name);
        let asking =
            commands.query_async::<(RedisResult<Option<Vec<u8>>>, RedisResult<i64>)>(&mut connection);
        let (bytes, left) = match timeout(self.deadline, asking).await {
            Ok(Ok((Ok(bytes), Ok(left)))) => (bytes, left),
            // The key holds something else than a string.
            Ok(Ok((Err(error), _))) if error.code() == Some("WRONGTYPE") => {
                self.trouble.store(0, Ordering::Relaxed);
                counters.foreign.inc();
                return None;
            }
            Ok(Ok((Err(error), _) | (_, Err(error))) | Err(error)) => {
                tracing::debug!(%error, "redis: a lookup failed");
                counters.failed.inc();
                self.had_trouble();
                return None;
            }
            Err(_) => {
                counters.timed_out.inc();
                self.had_trouble();
                return None;
            }
        };
        self.trouble.store(0, Ordering::Relaxed);
        // -2: it has just expired; -1: it never would.
        let (Some(bytes), 0.. | -1) = (bytes, left) else {
            counters.missing.inc();
            return None;
        };
        let found = match u64::try_from(left) {
            Ok(left) => self.read(key.asked(), &name, &bytes, left),
            Err(_) => Err(Unfit::Foreign),
        };
        found.unwrap_or_else(|unfit| {
            match unfit {
                Unfit::Foreign => counters.foreign.inc(),
                Unfit::Damaged => counters.damaged.inc(),
            }
            None
        })
    }

    /// What to make of bytes that Redis keeps for another `left` milliseconds.
    fn read(&self, asked: Asked<'_>, name: &str, bytes: &[u8], left: u64) -> Result<Option<Found>, Unfit> {
        let mut value = Value::parse(name, bytes)?;
        // Of a purge that is not known here yet, it is not known either what it made void.
        let unknown = value.generation > self.known.load(Ordering::Acquire);
        if unknown || self.purges.read().void(asked, value.generation) {
            self.counters.purged.inc();
            return Ok(None);
        }
        let ages = value.age(self.clock.unix(), left);
        if ages.differ() {
            self.counters.clocks_differ.inc();
        }
        let age = ages.most();
        message::grow_older(&mut value.message, asked, age).ok_or(Unfit::Damaged)?;
        let fresh = value.ttl.saturating_sub(age);
        let over = age.saturating_sub(value.ttl);
        Ok(Some(Found {
            message: value.message,
            fresh,
            grace: value.grace.saturating_sub(over),
            ttl: value.ttl,
            source_ttl: value.source_ttl,
            first_seen: value.first_seen,
            ede: value.ede,
        }))
    }

    /// A lookup was in vain. After some in a row there are no more until Redis has shown that it is well. A cluster counts for each
    /// of its masters.
    fn had_trouble(&self) {
        if self.connection.read().as_ref().is_some_and(|connection| connection.is_well().is_some()) {
            return;
        }
        if self.trouble.fetch_add(1, Ordering::Relaxed) + 1 >= TROUBLE_MAX {
            self.connection.write().take();
            self.wake.notify_one();
        }
    }

    /// Stores an answer that was found out while the host tier was at `generation`, when there is time for it.
    pub fn store(&self, key: &Key, answer: &Arc<Answer>, host: &HostTier, generation: u64, kin: Kin) {
        let counters = &self.counters;
        counters.offered.inc();
        if !self.is_up() {
            return counters.store_skipped.inc();
        }
        // In this order: a purge raises the host tier's generation before it is known here.
        let known = self.known.load(Ordering::Acquire);
        if host.generation() != generation {
            return counters.store_outdated.inc();
        }
        let write = Write { key: StoredKey::from(key), answer: answer.clone(), known, generation, kin };
        if self.queue.try_send(write).is_err() {
            counters.store_dropped.inc();
        }
    }

    /// To be called before a purge is done here. From now on nothing that it covers is taken from Redis.
    pub fn begin_purge(self: &Arc<Self>, purge: &Purge) -> BegunPurge {
        BegunPurge { nth: self.purges.write().begin(purge.clone()), fleet: self.clone() }
    }

    fn purges_name(&self) -> String {
        format!("{}:{PURGES_VERSION}:purges", self.prefix)
    }
}

/// A purge that is being done here. The fleet is told of it when this is dropped.
pub struct BegunPurge {
    fleet: Arc<Fleet>,
    nth: u64,
}

impl BegunPurge {
    /// It has been done. What is returned says when the fleet has been told: at once, or when Redis is back.
    pub fn done(self) -> oneshot::Receiver<()> {
        let (teller, told) = oneshot::channel();
        let mut tellers = self.fleet.tellers.lock();
        // Who has given up need not be told.
        tellers.retain(|(_, teller)| !teller.is_closed());
        tellers.push((self.nth, teller));
        drop(tellers);
        told
    }
}

impl Drop for BegunPurge {
    fn drop(&mut self) {
        self.fleet.purges.write().done(self.nth);
        self.fleet.wake.notify_one();
    }
}
