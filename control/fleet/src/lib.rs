//! Redis tier: answers that the appliances of a fleet share. A cache miss is looked up in Redis
//! before upstreams are asked.
//!
//! A lookup waits for Redis no longer than a deadline of milliseconds, and while Redis is unhealthy
//! it is not asked at all: [`keeper`] holds the only connection, which exists only while Redis
//! answers in time. Answers are stored through a bounded queue ([`writer`]). One appliance at a
//! time renews an answer ([`lease`]), and the number of answers is bounded ([`index`],
//! [`housekeeping`]). Values in Redis are untrusted: see [`value`]. A log of purges tells which
//! values are void ([`purges`]).

#![forbid(unsafe_code)]

mod cluster;
mod connection;
mod demand;
#[cfg(fuzzing)]
pub mod fuzzing;
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
use ringdns_config::{RedisConfig, RedisServer};
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
use value::{StoredValue, Unfit};
use writer::Write;

/// Most answers that wait to be stored. They are in the host tier too.
const QUEUE: usize = 1024;
/// Most lookups at once; each is one command in the connection's pipeline.
const LOOKUPS: usize = 256;
/// Time limit of operations for which no client waits.
const PATIENCE: Duration = Duration::from_secs(1);
/// Number of consecutive failed lookups after which the connection is dropped.
const TROUBLE_MAX: u32 = 3;

/// Version of the log of purges. It differs from that of values, so that appliances whose values
/// differ in version still share purges.
const PURGES_VERSION: u8 = 1;

/// This appliance's access to the Redis tier.
pub struct Fleet {
    server: RedisServer,
    /// Address of Redis, for the log.
    address: String,
    prefix: String,
    deadline: Duration,
    clock: Clock,
    /// Id of this process in the log of purges and in leases.
    id: String,
    /// `None`: Redis is unhealthy, or has not been reached yet.
    connection: RwLock<Option<Connection>>,
    /// Consecutive failed lookups.
    trouble: AtomicU32,
    /// Wakes the keeper of the connection.
    wake: Notify,
    lookups: Semaphore,
    /// Most answers in Redis.
    max_keys: usize,
    /// Time that an answer without demand stays in Redis.
    idle: Duration,
    sweep_every: Duration,
    /// Number of answers in the index when this appliance last changed it.
    keys: AtomicU64,
    untold: Untold,
    /// Number of leases requested so far. It makes the tokens unique.
    leases: AtomicU64,
    queue: mpsc::Sender<Write>,
    waiting: Mutex<Option<mpsc::Receiver<Write>>>,
    purges: RwLock<Purges>,
    /// Newest purge applied here.
    known: AtomicU64,
    /// Purge calls that wait until the fleet has been told of them.
    tellers: Mutex<Vec<(u64, oneshot::Sender<()>)>>,
    history: Mutex<History<RedisSweep>>,
    /// Counters of the Redis tier.
    pub counters: FleetCounters,
}

impl Fleet {
    /// Returns the tier that `config` describes. It connects in [`Fleet::run`].
    pub fn new(config: &RedisConfig, clock: Clock) -> Arc<Self> {
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

    /// Runs all tasks of the tier until dropped: connection, stores, demand and sweeps. Call it
    /// once.
    pub async fn run(self: Arc<Self>, host: Arc<HostTier>) {
        let Some(waiting) = self.waiting.lock().take() else { return };
        tokio::join!(self.keep(&host), self.write(&host, waiting), self.tell_demand(), self.keep_house());
    }

    /// Returns the sum of this appliance's sweeps of Redis in the last day, and the `last` ones one
    /// by one.
    pub fn swept(&self, last: usize) -> Told<RedisSweep> {
        self.history.lock().told(last)
    }

    /// Returns the number of answers that wait to be stored.
    pub fn queued(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Returns the number of answers in the index when this appliance last changed it.
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
            // The key holds something other than a string.
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
        // PTTL: -2 means that the key has just expired, -1 that it never expires.
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

    /// Parses a value that Redis keeps for another `left` milliseconds. `None`: a purge made it
    /// void.
    fn read(
        &self,
        asked: Asked<'_>,
        name: &str,
        bytes: &[u8],
        left: u64,
    ) -> Result<Option<SharedAnswer>, Unfit> {
        let mut value = StoredValue::parse(name, bytes)?;
        // If the value knows of a purge that is unknown here, its scope is unknown too: assume
        // void.
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

    /// Counts a failed lookup. After [`TROUBLE_MAX`] in a row, lookups stop until Redis has proved
    /// healthy. A cluster counts failures per master by itself.
    fn had_trouble(&self) {
        if self.connection.read().as_ref().is_some_and(|connection| connection.is_well().is_some()) {
            return;
        }
        if self.trouble.fetch_add(1, Ordering::Relaxed) + 1 >= TROUBLE_MAX {
            self.connection.write().take();
            self.wake.notify_one();
        }
    }

    /// Returns the address of Redis, as configured.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Announces a purge before it is done here. From now on nothing that it covers is taken from
    /// Redis.
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
        // The order matters: a purge raises the host tier's generation before `known`.
        let known = self.known.load(Ordering::Acquire);
        if host.generations().is_source_void(key.asked(), generation) {
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

/// Purge in progress on this appliance. The fleet is told of it when this is dropped.
pub struct BegunPurge {
    fleet: Arc<Fleet>,
    nth: u64,
}

impl BegunPurge {
    /// Marks the purge as done. The receiver fires when the fleet has been told: soon, or when
    /// Redis is back.
    pub fn done(self) -> oneshot::Receiver<()> {
        let (teller, told) = oneshot::channel();
        let mut tellers = self.fleet.tellers.lock();
        // Remove callers that no longer wait.
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
