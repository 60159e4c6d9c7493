//! Redis cluster: the master of each slot, and one connection per master, dropped and
//! re-established independently of the others.
//!
//! The cluster client of the redis crate fetches the slot map again with everything locked, so that
//! one master that hangs blocks the keys of all. Here it affects only its own keys: its commands
//! fail at once until it has answered a PING again, or another master has taken its place.

use super::connection::{RedisWay, refused};
use futures_util::{FutureExt, StreamExt, future::join_all, stream::FuturesUnordered};
use parking_lot::RwLock;
use redis::{
    Arg, Cmd, Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster_routing::Slot,
};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, timeout},
};

/// Number of consecutive failed commands after which a master's connection is dropped.
const TROUBLE_MAX: u32 = 3;
/// Time between two reads of the map and attempts to connect while a master has no connection.
const PAUSE: Duration = Duration::from_millis(500);
/// Time between two reads of the map while all masters are connected.
const REVIEW: Duration = Duration::from_secs(10);

/// Slots of a cluster.
const SLOTS: usize = 1 << 14;

/// Slot map of the cluster.
#[derive(Default)]
struct Map {
    masters: Vec<Arc<Master>>,
    slots: HashMap<Slot, Arc<Master>>,
}

struct Master {
    host: String,
    port: u16,
    connection: RwLock<Option<MultiplexedConnection>>,
    /// Consecutive failed commands.
    trouble: AtomicU32,
}

struct ClusterState {
    way: RedisWay,
    /// Time limit of one step.
    patience: Duration,
    map: RwLock<Map>,
    /// Notified when the map is outdated.
    stale: Notify,
}

/// Client of a Redis cluster, connected to all masters.
pub struct Cluster {
    shared: Arc<ClusterState>,
    keeper: AbortHandle,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Command in flight. If it is dropped before an answer came, it counts as failed.
struct Underway<'a> {
    master: &'a Master,
    stale: &'a Notify,
    in_vain: bool,
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if !self.in_vain {
            return self.master.trouble.store(0, Ordering::Relaxed);
        }
        if self.master.trouble.fetch_add(1, Ordering::Relaxed) + 1 >= TROUBLE_MAX {
            self.master.leave(self.stale);
        }
    }
}

impl Underway<'_> {
    /// Records the result of the command. A redirection means that the map is outdated.
    fn end<T>(mut self, result: RedisResult<T>, has_moved: bool) -> RedisResult<T> {
        let error = result.as_ref().err();
        self.in_vain = error.is_some_and(RedisError::is_io_error);
        if error.is_some_and(|error| error.is_io_error() || error.is_connection_dropped()) {
            self.master.leave(self.stale);
        }
        if has_moved || error.is_some_and(|error| error.redirect_node().is_some()) {
            self.stale.notify_one();
        }
        result
    }
}

impl Master {
    fn leave(&self, stale: &Notify) {
        if self.connection.write().take().is_some() {
            stale.notify_one();
        }
    }

    fn is_at(&self, host: &str, port: u16) -> bool {
        self.host == host && self.port == port
    }
}

impl ClusterState {
    /// Returns the master of a command's key, or any connected master for a command without a key.
    fn master(&self, command: &Cmd) -> RedisResult<Arc<Master>> {
        let map = self.map.read();
        let master = match key(command) {
            Some(key) => map.slots.get(&Slot::for_key(key)),
            None => map.masters.iter().find(|master| master.connection.read().is_some()),
        };
        master.cloned().ok_or_else(|| refused("no master has this key"))
    }

    /// Begins a command: returns the master's connection and a guard that tracks the outcome.
    fn begin<'a>(&'a self, master: &'a Master) -> RedisResult<(MultiplexedConnection, Underway<'a>)> {
        let connection = master.connection.read().clone();
        let connection = connection.ok_or_else(|| refused("the master of this key is not connected"))?;
        Ok((connection, Underway { master, stale: &self.stale, in_vain: true }))
    }

    /// Keeps map and connections up to date until dropped.
    async fn keep(&self) {
        let mut reviewed = Instant::now();
        loop {
            let lacks = self.map.read().masters.iter().any(|master| master.connection.read().is_none());
            let told = timeout(if lacks { PAUSE } else { REVIEW }, self.stale.notified()).await.is_ok();
            // Limits the rate: a slot in migration notifies on every command.
            if told && reviewed.elapsed() < PAUSE {
                tokio::time::sleep(PAUSE - reviewed.elapsed()).await;
            }
            reviewed = Instant::now();
            self.review().await;
            self.connect_all().await;
        }
    }

    /// Reads the map from the first master that answers.
    async fn review(&self) {
        let masters = self.map.read().masters.clone();
        let mut asking: FuturesUnordered<_> = masters
            .iter()
            .map(async |master| {
                let connection = master.connection.read().clone();
                let mut connection = connection.ok_or_else(|| refused("the node is not connected"))?;
                let slots = timeout(self.patience, slots(&mut connection, &master.host)).await;
                slots.unwrap_or_else(|_| Err(refused("the node does not answer")))
            })
            .collect();
        while let Some(read) = asking.next().await {
            match read {
                Ok(slots) => return self.learn(slots),
                Err(error) => tracing::debug!(%error, "redis: cannot read the cluster's slots from a node"),
            }
        }
    }

    /// Replaces the map. Masters that are in the old map too keep their connections.
    fn learn(&self, ranges: Vec<Range>) {
        let mut map = self.map.write();
        let mut next = Map::default();
        // A node tells of each slot once. Ranges beyond that are nonsense, and would be work without
        // end.
        let mut left = SLOTS;
        for Range { first, last, host, port } in ranges {
            let count = usize::from(last) + 1 - usize::from(first.min(last));
            let Some(rest) = left.checked_sub(count) else { continue };
            left = rest;
            let is_it = |master: &&Arc<Master>| master.is_at(&host, port);
            let known = next.masters.iter().find(is_it).or_else(|| map.masters.iter().find(is_it)).cloned();
            let master = known.unwrap_or_else(|| {
                Arc::new(Master {
                    host: host.clone(),
                    port,
                    connection: RwLock::default(),
                    trouble: AtomicU32::new(0),
                })
            });
            if !next.masters.iter().any(|other| Arc::ptr_eq(other, &master)) {
                next.masters.push(master.clone());
            }
            next.slots.extend((first..=last).filter_map(Slot::new).map(|slot| (slot, master.clone())));
        }
        *map = next;
    }

    /// Connects to the masters without a connection. A connection is used only after it has
    /// answered a PING.
    async fn connect_all(&self) {
        let masters = self.map.read().masters.clone();
        let gone = masters.iter().filter(|master| master.connection.read().is_none());
        join_all(gone.map(async |master| {
            let connecting = async {
                let mut connection = self.way.to(&master.host, master.port, self.patience).await?;
                redis::cmd("PING").exec_async(&mut connection).await?;
                RedisResult::Ok(connection)
            };
            if let Ok(Ok(connection)) = timeout(self.patience, connecting).await {
                master.trouble.store(0, Ordering::Relaxed);
                *master.connection.write() = Some(connection);
            }
        }))
        .await;
    }
}

impl Cluster {
    /// Connects to the cluster by the slot map of the first node that answers. Fails unless at
    /// least one master is connected.
    pub async fn connect(way: RedisWay, nodes: &[(String, u16)], patience: Duration) -> RedisResult<Self> {
        // Three steps: a node, its slots, the masters.
        let patience = patience / 3;
        let mut asking: FuturesUnordered<_> = nodes
            .iter()
            .map(async |(host, port)| {
                let mut connection = way.to(host, *port, patience).await?;
                slots(&mut connection, host).await
            })
            .collect();
        let mut last = None;
        let ranges = loop {
            match asking.next().await {
                Some(Ok(ranges)) => break ranges,
                Some(Err(error)) => last = Some(error),
                None => return Err(last.unwrap_or_else(|| refused("the cluster has no nodes"))),
            }
        };
        drop(asking);
        let shared = Arc::new(ClusterState { way, patience, map: RwLock::default(), stale: Notify::new() });
        shared.learn(ranges);
        shared.connect_all().await;
        let kept = shared.clone();
        let keeper = tokio::spawn(async move { kept.keep().await }).abort_handle();
        let cluster = Cluster { shared, keeper };
        cluster.is_well().then_some(cluster).ok_or_else(|| refused("no master of the cluster answers"))
    }

    /// Whether any master is connected.
    pub fn is_well(&self) -> bool {
        self.shared.map.read().masters.iter().any(|master| master.connection.read().is_some())
    }

    /// Whether the master of a key is connected.
    pub fn has(&self, key: &str) -> bool {
        let map = self.shared.map.read();
        map.slots.get(&Slot::for_key(key)).is_some_and(|master| master.connection.read().is_some())
    }

    /// Sends a command to the master of its key.
    pub fn send<'a>(&'a self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        let shared = &*self.shared;
        async move {
            let master = shared.master(command)?;
            let (mut connection, underway) = shared.begin(&master)?;
            let result = connection.req_packed_command(command).await;
            underway.end(result, false)
        }
        .boxed()
    }

    /// Sends commands to the master of the first command's key; all keys must belong to it.
    pub fn send_all<'a>(
        &'a self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        async move {
            let command = commands.cmd_iter().next().ok_or_else(|| refused("there is no command"))?;
            let master = self.shared.master(command)?;
            let (mut connection, underway) = self.shared.begin(&master)?;
            let result = connection.req_packed_commands(commands, offset, count).await;
            let is_moved = |value: &Value| {
                matches!(value, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::Moved))
            };
            let has_moved = result.as_ref().is_ok_and(|values| values.iter().any(is_moved));
            underway.end(result, has_moved)
        }
        .boxed()
    }
}

/// Range of slots and their master.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    host: String,
    port: u16,
}

/// Asks the node at `host` for the slot map.
async fn slots(connection: &mut MultiplexedConnection, host: &str) -> RedisResult<Vec<Range>> {
    let value = redis::cmd("CLUSTER").arg("SLOTS").query_async::<Vec<Value>>(connection).await?;
    let ranges: Vec<_> = value.iter().filter_map(|value| range(value, host)).collect();
    if ranges.is_empty() { Err(refused("no node has any slots")) } else { Ok(ranges) }
}

/// Parses `[first, last, [host, port, …], …]`; the first node is the master. A node that does not
/// know its own address sends an empty string or null.
fn range(value: &Value, asked: &str) -> Option<Range> {
    let number = |value: &Value| match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    };
    let Value::Array(parts) = value else { return None };
    let [first, last, Value::Array(master), ..] = &parts[..] else { return None };
    let [host, port, ..] = &master[..] else { return None };
    let host = match host {
        Value::BulkString(host) if !host.is_empty() => String::from_utf8(host.clone()).ok()?,
        _ => asked.to_owned(),
    };
    Some(Range { first: number(first)?, last: number(last)?, host, port: number(port)? })
}

/// Reads the slot map of a cluster. Returns the number of slots that are kept.
#[cfg(fuzzing)]
pub async fn slots_of(connection: &mut MultiplexedConnection) -> usize {
    let way = RedisWay::plain("redis://192.0.2.1");
    let patience = Duration::from_secs(1);
    let state = ClusterState { way, patience, map: RwLock::default(), stale: Notify::new() };
    let Ok(ranges) = slots(connection, "192.0.2.1").await else { return 0 };
    state.learn(ranges);
    state.map.read().slots.len()
}

fn argument(command: &Cmd, nth: usize) -> Option<&[u8]> {
    command.args_iter().nth(nth).and_then(|argument| match argument {
        Arg::Simple(bytes) => Some(bytes),
        _ => None,
    })
}

/// Returns the first key of a command.
fn key(command: &Cmd) -> Option<&[u8]> {
    let is_script = argument(command, 0)?.eq_ignore_ascii_case(b"EVAL");
    argument(command, if is_script { 3 } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn shared() -> ClusterState {
        let way = RedisWay::plain("redis://192.0.2.1");
        ClusterState { way, patience: Duration::from_secs(1), map: RwLock::default(), stale: Notify::new() }
    }

    fn told(first: u16, last: u16, host: &str, port: u16) -> Range {
        Range { first, last, host: host.into(), port }
    }

    #[test]
    fn a_command_goes_to_the_master_of_its_key() {
        let shared = shared();
        shared.learn(vec![told(0, 8191, "a", 1), told(8192, 16_383, "b", 2)]);
        let of = |command: &Cmd| shared.master(command).map(|master| master.port);
        // By redis-cli CLUSTER KEYSLOT: 12182 and 866.
        assert_eq!(of(redis::cmd("GET").arg("foo")).unwrap(), 2);
        assert_eq!(of(redis::cmd("GET").arg("hello")).unwrap(), 1);
        assert_eq!(of(redis::cmd("SET").arg("{hello}.x").arg("foo")).unwrap(), 1);
        assert_eq!(of(redis::cmd("EVAL").arg("hello").arg(1).arg("foo")).unwrap(), 2);
        assert!(of(&redis::cmd("PING")).is_err(), "nobody is there");
    }

    #[test]
    fn masters_that_stay_are_the_same_ones() {
        let shared = shared();
        shared.learn(vec![told(0, 99, "a", 1), told(100, 199, "b", 2), told(200, 299, "a", 1)]);
        let before = shared.map.read().masters.clone();
        assert_eq!(before.len(), 2);
        shared.learn(vec![told(0, 199, "c", 3), told(200, 299, "a", 1)]);
        let after = shared.map.read().masters.clone();
        assert!(after.len() == 2 && Arc::ptr_eq(&after[1], &before[0]));
        assert_eq!(shared.map.read().slots.len(), 300);
    }

    #[test]
    fn each_slot_is_told_of_once() {
        let shared = shared();
        shared.learn(vec![told(0, 16_382, "a", 1), told(0, 9, "b", 2), told(16_383, 16_383, "c", 3)]);
        let map = shared.map.read();
        let hosts: Vec<_> = map.masters.iter().map(|master| master.host.as_str()).collect();
        assert_eq!((hosts, map.slots.len()), (vec!["a", "c"], 16_384));
    }

    #[test]
    fn slots_are_read_as_nodes_tell_them() {
        let node = |host: Value| Value::Array(vec![host, Value::Int(7000), bulk("id"), Value::Array(vec![])]);
        let told =
            |host: Value| Value::Array(vec![Value::Int(5), Value::Int(9), node(host), node(bulk("replica"))]);
        let range =
            |value: &Value| super::range(value, "asked").map(|range| (range.first, range.last, range.host));
        assert_eq!(range(&told(bulk("192.0.2.9"))), Some((5, 9, "192.0.2.9".into())));
        assert_eq!(range(&told(bulk(""))), Some((5, 9, "asked".into())));
        assert_eq!(range(&told(Value::Nil)), Some((5, 9, "asked".into())));
        for wrong in [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![Value::Int(-1), Value::Int(9), node(bulk("a"))]),
        ] {
            assert_eq!(range(&wrong), None);
        }
    }

    #[test]
    fn only_in_a_row_commands_in_vain_end_a_connection() {
        let shared = shared();
        shared.learn(vec![told(0, 16_383, "a", 1)]);
        let master = shared.map.read().masters[0].clone();
        let ended = |in_vain| drop(Underway { master: &master, stale: &shared.stale, in_vain });
        ended(true);
        ended(true);
        ended(false);
        assert_eq!(master.trouble.load(Ordering::Relaxed), 0);
        ended(true);
        assert_eq!(master.trouble.load(Ordering::Relaxed), 1);
    }
}
