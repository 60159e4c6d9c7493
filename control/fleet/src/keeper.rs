//! Who looks after the connection to Redis: makes it, tries it, listens for purges over it, and gives it up.
//!
//! This is the circuit breaker. Others have a connection, and ask over it, only while Redis does what it should. When it does not,
//! or three lookups in a row were in vain, nobody asks any more but the keeper: it connects anew, with pauses that grow, and one
//! PING that must be answered within the deadline of a lookup decides. So no question ever waits to find out that Redis is back.

use super::{
    Fleet, PATIENCE,
    connection::{Connection, connect},
    purges::{self, KEPT, Logged, Number},
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

/// How often the log of purges is read. It shows as well that Redis is there.
const BEAT: Duration = Duration::from_millis(250);
/// Pauses between attempts to connect: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// A connection that was well for so long was well: the pauses begin anew.
const WELL: Duration = Duration::from_secs(10);
/// So long the log of purges is kept: longer than any answer can be (`cache.max_ttl` and `cache.stale_max`, a week each).
const LOG_SECS: u32 = 15 * 86_400;
/// How many beats after another its time is made to begin anew: an hour.
const RENEW: u32 = 14_400;
/// As many purges of others at once are one of everything: each walks the whole store.
const WALKS: usize = 8;
/// By so many seconds clocks may differ when it is decided whether a purge is older than this process.
const SLACK: u64 = 60;

/// Why the connection was given up, or not made.
#[derive(Debug)]
enum Trouble {
    Late(&'static str),
    Redis(RedisError),
    Lookups,
}

impl Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Late(what) => write!(f, "{what} took too long"),
            Trouble::Redis(error) => error.fmt(f),
            Trouble::Lookups => f.write_str("lookups in a row were in vain"),
        }
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        Trouble::Redis(error)
    }
}

/// What was read of the log.
struct Read {
    entries: Vec<Logged>,
    /// Whether as many entries were read as it has at most.
    whole: bool,
    /// The number of its newest entry.
    newest: Number,
}

impl Fleet {
    /// Keeps the connection.
    pub(super) async fn keep(&self, host: &Arc<HostTier>) {
        let mut pause = PAUSES[0];
        let mut known_to_be_gone = false;
        loop {
            let since = Instant::now();
            match self.join(host).await {
                Ok(connection) => {
                    tracing::info!(redis = self.address, "the fleet's tier is there");
                    self.counters.joined.inc();
                    self.trouble.store(0, Ordering::Relaxed);
                    *self.connection.write() = Some(connection.clone());
                    let why = self.stay(connection, host).await;
                    self.connection.write().take();
                    self.counters.left.inc();
                    tracing::warn!(redis = self.address, %why, "the fleet's tier is gone; upstreams are asked instead");
                    known_to_be_gone = true;
                }
                Err(why) => {
                    self.counters.connect_failed.inc();
                    if known_to_be_gone {
                        tracing::debug!(redis = self.address, %why, "the fleet's tier is still gone");
                    } else {
                        tracing::warn!(redis = self.address, %why, "the fleet's tier is not there; it is tried again");
                        known_to_be_gone = true;
                    }
                }
            }
            if since.elapsed() >= WELL {
                pause = PAUSES[0];
            }
            // Appliances that lost it together do not come back together.
            sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(PAUSES[1]);
        }
    }

    /// A new connection over which Redis has shown that it is well, once the purges of before are known and told.
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

    /// Stays with a connection until Redis is not well.
    async fn stay(&self, mut connection: Connection, host: &Arc<HostTier>) -> Trouble {
        for beat in 1u32.. {
            // Either is as good.
            let _ = timeout(BEAT, self.wake.notified()).await;
            if !self.is_up() {
                return Trouble::Lookups;
            }
            self.tell(&mut connection).await;
            if let Err(trouble) = self.learn(&mut connection, host).await {
                // Where only the master is gone that has the log, nobody can be told of purges, and the other masters' keys are of use.
                if connection.is_well() != Some(true) {
                    return trouble;
                }
                tracing::debug!(redis = self.address, why = %trouble, "the log of purges cannot be read");
            }
            if beat.is_multiple_of(RENEW) {
                self.renew_log(&mut connection).await;
            }
        }
        Trouble::Late("this connection")
    }

    /// Adds purges to the log that it does not have. Where Redis takes none, they hold here all the same, and it is tried again.
    async fn tell(&self, connection: &mut Connection) {
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
                    tracing::warn!(redis = self.address, %error, "the fleet could not be told of a purge yet");
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
            // Who has given up waiting is not there any more.
            for (_, teller) in told {
                let _ = teller.send(());
            }
        }
    }

    /// Reads what is new in the log, and applies it here.
    async fn learn(&self, connection: &mut Connection, host: &Arc<HostTier>) -> Result<(), Trouble> {
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
            // What was purged before this process began is not in its host tier.
            entry.by != self.id.as_bytes() && purges::time(entry.number) >= born
        });
        let mut others: Vec<Purge> = others.map(|entry| entry.purge.clone()).collect();
        self.counters.purges_heard.add(others.len() as u64);
        // Some may have been missed: the log was longer than is kept, or is another one.
        let missed = read.whole && known > 0 || !intact && read.newest > 0;
        if missed || others.len() > WALKS {
            others = vec![Purge::All];
        }
        if !others.is_empty() {
            let host = host.clone();
            // It walks the whole store: not for a thread that serves misses.
            let walk = move || others.iter().map(|purge| host.purge(purge)).sum::<u64>();
            let removed = tokio::task::spawn_blocking(walk).await.unwrap_or_default();
            tracing::info!(removed, "purged, as another appliance of the fleet said");
        }
        // Last: who reads this knows that the host tier's generation has risen.
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

    /// Lets the log's time begin anew. Where that fails, the next hour will do.
    async fn renew_log(&self, connection: &mut Connection) {
        let mut command = redis::cmd("EXPIRE");
        command.arg(self.purges_name()).arg(LOG_SECS);
        let renewed = timeout(PATIENCE, command.exec_async(connection)).await;
        if let Ok(Err(error)) = renewed {
            tracing::debug!(redis = self.address, %error, "the log of purges keeps its time");
        }
    }
}

fn late(what: &'static str) -> impl FnOnce(Elapsed) -> Trouble {
    move |_| Trouble::Late(what)
}
