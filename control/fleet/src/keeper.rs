//! Keeper of the connection to Redis: connects, tests the connection, reads purges over it, and
//! drops it.
//!
//! The keeper is a circuit breaker. The other tasks have a connection only while Redis is healthy.
//! After a failure, or three failed lookups in a row, only the keeper talks to Redis: it reconnects
//! with growing pauses, and hands out the connection once a PING was answered within the deadline
//! of a lookup. So no question ever waits to find out whether Redis is back.

use super::{
    Fleet, PATIENCE,
    connection::{Connection, connect},
    purges::{self, KEPT, LoggedPurge, Number},
};
use redis::{RedisError, RedisResult};
use ringdns_resolver::host::{HostTier, Purge};
use ringdns_resolver::tier::SharedTier;
use std::{
    collections::HashMap,
    fmt::{self, Display},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::{Instant, error::Elapsed, sleep, timeout};

/// Time between two reads of the log of purges. They also show that Redis is up.
const BEAT: Duration = Duration::from_millis(250);
/// Shortest and longest pause between attempts to connect.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// Lifetime of a connection after which the pauses start over at the shortest.
const WELL: Duration = Duration::from_secs(10);
/// Time to live of the log of purges: longer than that of any answer (`cache.max_ttl` and
/// `cache.stale_max`, at most a week each).
const LOG_SECS: u32 = 15 * 86_400;
/// Number of beats between two renewals of the log's time to live: an hour.
const RENEW: u32 = 14_400;
/// Seconds by which clocks may differ when a purge is compared with the start of this process.
const SLACK: u64 = 60;

/// Reason why the connection was dropped or not established.
#[derive(Debug)]
pub(super) enum Trouble {
    Late(&'static str),
    Redis(RedisError),
    Lookups,
}

impl Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Late(what) => write!(f, "{what} took too long"),
            Trouble::Redis(error) => error.fmt(f),
            Trouble::Lookups => f.write_str("several lookups in a row failed"),
        }
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        Trouble::Redis(error)
    }
}

/// Part of the log that was read.
struct Read {
    entries: Vec<LoggedPurge>,
    /// Whether as many entries were read as the log holds at most.
    whole: bool,
    /// Number of the newest entry in the log.
    newest: Number,
}

impl Fleet {
    /// Keeps the connection until dropped.
    pub(super) async fn keep(&self, host: &Arc<HostTier>) {
        let mut pause = PAUSES[0];
        let mut known_to_be_gone = false;
        loop {
            let since = Instant::now();
            match self.join(host).await {
                Ok(connection) => {
                    tracing::info!(redis = self.address, "Redis is connected");
                    self.counters.joined.inc();
                    self.trouble.store(0, Ordering::Relaxed);
                    *self.connection.write() = Some(connection.clone());
                    let why = self.stay(connection, host).await;
                    self.connection.write().take();
                    self.counters.left.inc();
                    tracing::warn!(redis = self.address, %why, "Redis is lost; asking upstreams only, and connecting again");
                    known_to_be_gone = true;
                }
                Err(why) => {
                    self.counters.connect_failed.inc();
                    if known_to_be_gone {
                        tracing::debug!(redis = self.address, %why, "Redis is still unreachable");
                    } else {
                        tracing::warn!(redis = self.address, %why, "cannot connect to Redis; asking upstreams only, and trying again");
                        known_to_be_gone = true;
                    }
                }
            }
            if since.elapsed() >= WELL {
                pause = PAUSES[0];
            }
            // Jitter: appliances that lost Redis together do not all reconnect at once.
            sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(PAUSES[1]);
        }
    }

    /// Connects, exchanges purges with the log, and checks with a PING that Redis answers in time.
    async fn join(&self, host: &Arc<HostTier>) -> Result<Connection, Trouble> {
        let connecting = connect(&self.server, PATIENCE);
        let mut connection = timeout(PATIENCE, connecting).await.map_err(late("connecting"))??;
        self.tell(&mut connection).await;
        self.learn(&mut connection, host).await?;
        self.renew_log(&mut connection).await;
        let ping = redis::cmd("PING");
        let trial = ping.exec_async(&mut connection);
        timeout(self.deadline, trial).await.map_err(late("the answer to a PING"))??;
        Ok(connection)
    }

    /// Reads the log of purges over a connection, until Redis is unhealthy.
    async fn stay(&self, mut connection: Connection, host: &Arc<HostTier>) -> Trouble {
        for beat in 1u32.. {
            // A beat is due or somebody woke us: the work is the same.
            let _ = timeout(BEAT, self.wake.notified()).await;
            if !self.is_up() {
                return Trouble::Lookups;
            }
            self.tell(&mut connection).await;
            if let Err(trouble) = self.learn(&mut connection, host).await {
                // If only the master that has the log is down, the keys of the other masters remain
                // usable.
                if connection.is_well() != Some(true) {
                    return trouble;
                }
                tracing::debug!(redis = self.address, why = %trouble, "cannot read the log of purges");
            }
            if beat.is_multiple_of(RENEW) {
                self.renew_log(&mut connection).await;
            }
        }
        Trouble::Late("this connection")
    }

    /// Adds new purges to the log. If that fails, they are in effect here all the same, and are
    /// added later.
    pub(super) async fn tell(&self, connection: &mut Connection) {
        loop {
            let Some((nth, purge)) = self.purges.read().next_untold() else { return };
            let (kind, name) = purges::fields(&purge);
            let key = self.purges_name();
            let mut command = redis::cmd("XADD");
            command.arg(&key).arg("MAXLEN").arg("=").arg(KEPT).arg("*");
            command.arg("by").arg(&self.id).arg("kind").arg(kind).arg("name").arg(name);
            let said = timeout(PATIENCE, command.query_async::<String>(connection)).await;
            let number = match said {
                Ok(Ok(id)) => purges::number(&id),
                Ok(Err(error)) => {
                    tracing::warn!(redis = self.address, %error, "cannot tell the fleet of a purge; trying again");
                    None
                }
                Err(Elapsed { .. }) => None,
            };
            let Some(number) = number else { return };
            self.counters.purges_told.inc();
            self.purges.write().told(nth, number);
            self.renew_log(connection).await;
            let waiting = std::mem::take(&mut *self.tellers.lock());
            let (told, others) = waiting.into_iter().partition::<Vec<_>, _>(|(of, _)| *of <= nth);
            self.tellers.lock().extend(others);
            // A caller may have stopped waiting.
            for (_, teller) in told {
                let _ = teller.send(());
            }
        }
    }

    /// Reads new entries of the log and applies them here.
    pub(super) async fn learn(
        &self,
        connection: &mut Connection,
        host: &Arc<HostTier>,
    ) -> Result<(), Trouble> {
        let known = self.known.load(Ordering::Acquire);
        let reading = self.read_log(connection, known);
        let read = timeout(PATIENCE, reading).await.map_err(late("reading the log of purges"))??;
        let reached =
            read.entries.last().map_or(if read.newest < known { 0 } else { known }, |last| last.number);
        if reached == known && read.newest >= known {
            self.purges.write().learn(known, &[], false, read.newest);
            return Ok(());
        }
        let intact = self.purges.write().learn(known, &read.entries, read.whole, read.newest);
        let born = self.clock.unix().saturating_sub(u64::from(self.clock.secs()) + SLACK);
        let others = read.entries.iter().filter(|entry| {
            // Purges from before this process started do not concern its host tier.
            entry.by != self.id.as_bytes() && purges::time(entry.number) >= born
        });
        let mut others: Vec<_> = others.map(|entry| Arc::new(entry.purge.clone())).collect();
        self.counters.purges_heard.add(others.len() as u64);
        // Entries may have been missed: the log was cut to its bound, or is a new one.
        let missed = read.whole && known > 0 || !intact && read.newest > 0;
        if missed {
            others = vec![Arc::new(Purge::All)];
        }
        if !others.is_empty() {
            let host = host.clone();
            // The walk over the whole store must not run on a thread that serves misses.
            let walk = move || {
                others.iter().for_each(|purge| host.note_purge(purge, "another appliance of the fleet"));
                host.purge_each(&others)
            };
            let removed = tokio::task::spawn_blocking(walk).await.unwrap_or_default();
            tracing::info!(removed, "purged on behalf of another appliance of the fleet");
        }
        // Last: whoever reads `known` can rely on the host tier's generation having risen.
        self.known.store(reached, Ordering::Release);
        Ok(())
    }

    async fn read_log(&self, connection: &mut Connection, known: Number) -> RedisResult<Read> {
        type Entries = Vec<(String, HashMap<String, Vec<u8>>)>;
        let key = self.purges_name();
        let mut commands = redis::pipe();
        commands.cmd("XRANGE").arg(&key).arg(format!("({}", purges::id(known))).arg("+");
        commands.arg("COUNT").arg(KEPT);
        commands.cmd("XREVRANGE").arg(&key).arg("+").arg("-").arg("COUNT").arg(1);
        let (entries, newest): (Entries, Entries) = commands.query_async(connection).await?;
        let whole = entries.len() >= KEPT;
        let newest = newest.first().and_then(|(id, _)| purges::number(id)).unwrap_or(0);
        let entries = entries.into_iter().filter_map(|(id, fields)| purges::logged(&id, fields));
        Ok(Read { entries: entries.collect(), whole, newest })
    }

    /// Renews the log's time to live. If that fails, the renewal an hour later is early enough.
    async fn renew_log(&self, connection: &mut Connection) {
        let mut command = redis::cmd("EXPIRE");
        command.arg(self.purges_name()).arg(LOG_SECS);
        let renewed = timeout(PATIENCE, command.exec_async(connection)).await;
        if let Ok(Err(error)) = renewed {
            tracing::debug!(redis = self.address, %error, "cannot renew the time to live of the log of purges");
        }
    }
}

fn late(what: &'static str) -> impl FnOnce(Elapsed) -> Trouble {
    move |_| Trouble::Late(what)
}
