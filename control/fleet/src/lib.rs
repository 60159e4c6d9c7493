//! The fleet's tier: what one appliance found out, the others read in Redis before they ask upstreams.
//!
//! Redis is never waited for longer than a deadline of milliseconds, and while it is not well it is not asked at all: [`keeper`]
//! holds the one connection, which is there only while Redis answers in time. What is stored goes through a bounded queue
//! ([`writer`]). An answer is renewed by one appliance at a time ([`lease`]), and the number of answers is bounded ([`index`],
//! [`housekeeping`]). Whatever lies in Redis may be anybody's: see [`value`]. What purges make void is told by a log ([`purges`]).

#![forbid(unsafe_code)]

mod cluster;
mod connection;
mod demand;
mod housekeeping;
mod index;
mod keeper;
mod lease;
mod purges;
mod value;
mod writer;

use connection::Connection;
use demand::Untold;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use purges::Purges;
use redis::RedisResult;
use ringdns_api::{RedisSweep, Told};
use ringdns_common::{history::History, message};
use ringdns_config::{Redis, RedisServer};
use ringdns_dataplane::{
    clock::Clock,
    dns::{
        answer::Answer,
        key::{Asked, Key},
    },
};
use ringdns_resolver::{
    host::{HostTier, Purge, StoredKey},
    tier::{FleetCounters, LeaseReply, SharedAnswer, SharedState, SharedTier},
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

/// The fleet's tier, as this appliance sees it.
pub struct Fleet {
    server: RedisServer,
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
    history: Mutex<History<RedisSweep>>,
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

    /// What this appliance's sweeps of Redis have done in the last day, and each of the last ones.
    pub fn swept(&self, last: usize) -> Told<RedisSweep> {
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

    fn connection(&self) -> Option<Connection> {
        self.connection.read().clone()
    }

    async fn find(&self, key: &Key) -> Option<SharedAnswer> {
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
    fn read(
        &self,
        asked: Asked<'_>,
        name: &str,
        bytes: &[u8],
        left: u64,
    ) -> Result<Option<SharedAnswer>, Unfit> {
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
        Ok(Some(SharedAnswer {
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

    /// To be called before a purge is done here. From now on nothing that it covers is taken from Redis.
    pub fn begin_purge(self: &Arc<Self>, purge: &Purge) -> BegunPurge {
        BegunPurge { nth: self.purges.write().begin(purge.clone()), fleet: self.clone() }
    }

    fn purges_name(&self) -> String {
        format!("{}:{PURGES_VERSION}:purges", self.prefix)
    }
}

impl SharedTier for Fleet {
    fn is_up(&self) -> bool {
        self.connection.read().is_some()
    }

    fn lookup<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Option<SharedAnswer>> {
        Box::pin(self.find(key))
    }

    fn lease<'a>(self: Arc<Self>, key: &'a Key, lasts: Duration) -> BoxFuture<'a, LeaseReply> {
        Box::pin(self.ask_for_lease(key, lasts))
    }

    fn store(&self, key: &Key, answer: &Arc<Answer>, host: &HostTier, generation: u64, state: SharedState) {
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
        let write = Write { key: StoredKey::from(key), answer: answer.clone(), known, generation, state };
        if self.queue.try_send(write).is_err() {
            counters.store_dropped.inc();
        }
    }

    fn note_demand(&self, asked: Asked<'_>, n: u32) {
        self.add_demand(asked, n);
    }

    fn most_wanted(&self, most: usize) -> BoxFuture<'_, Option<Vec<Key>>> {
        Box::pin(async move {
            let connection = self.connection()?;
            let members = timeout(PATIENCE, self.most_wanted_members(&connection, most)).await.ok()?.ok()?;
            Some(members.iter().filter_map(|member| value::key(member)).collect())
        })
    }

    fn counters(&self) -> &FleetCounters {
        &self.counters
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
