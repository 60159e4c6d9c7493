//! Connection to Redis: to one server, to the master that Sentinels name, or to a cluster.

use super::cluster::Cluster;
use futures_util::{StreamExt, stream::FuturesUnordered};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, Pipeline, RedisError,
    RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use ringdns_config::{Files, Others, RedisServer, has_tls};
use std::{sync::Arc, time::Duration};

/// Settings to connect with, except host and port, which Sentinels or a slot map may supply.
#[derive(Clone)]
pub struct RedisWay {
    info: ConnectionInfo,
    files: Files,
}

impl RedisWay {
    /// Returns settings without certificate or password files.
    #[cfg(any(test, fuzzing))]
    pub fn plain(url: &str) -> Self {
        RedisWay {
            info: redis::IntoConnectionInfo::into_connection_info(url).unwrap(),
            files: Files::default(),
        }
    }

    /// Connects to the Redis at `host`.
    pub async fn to(&self, host: &str, port: u16, patience: Duration) -> RedisResult<MultiplexedConnection> {
        let host = host.to_owned();
        let address = match has_tls(self.info.addr()) {
            true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            false => ConnectionAddr::Tcp(host, port),
        };
        let info = self.files.identified(&self.info)?.set_addr(address);
        connect_to(&self.files.client(info)?, patience).await
    }
}

/// Connects to Redis as the configuration describes it.
pub async fn connect(server: &RedisServer, patience: Duration) -> RedisResult<Connection> {
    let RedisServer { info, files, others } = server;
    let way = RedisWay { info: info.clone(), files: files.clone() };
    match others {
        Others::None => {
            let client = files.client(files.identified(info)?)?;
            Ok(Connection::One(connect_to(&client, patience).await?))
        }
        Others::Cluster(others) => {
            let nodes: Vec<_> = std::iter::once(info).chain(others).filter_map(place).collect();
            let cluster = Cluster::connect(way, &nodes, patience).await?;
            Ok(Connection::Cluster(Arc::new(cluster)))
        }
        Others::Sentinels(sentinels, master) => {
            // All at once, so that a Sentinel that hangs delays none of the others.
            let mut asking: FuturesUnordered<_> =
                sentinels.iter().map(|sentinel| way.master(sentinel, master, patience)).collect();
            let mut last = None;
            while let Some(connected) = asking.next().await {
                match connected {
                    Ok(connection) => return Ok(Connection::One(connection)),
                    Err(error) => last = Some(error),
                }
            }
            Err(last.unwrap_or_else(|| refused("there are no Sentinels")))
        }
    }
}

impl RedisWay {
    /// Connects to the master that a Sentinel names, and checks its ROLE: for a while after a
    /// failover, Sentinels still name the old master. The redis crate can do this too, but asks
    /// Sentinels one after the other, so that a first one that hangs uses up the time.
    async fn master(
        &self,
        sentinel: &ConnectionInfo,
        name: &str,
        patience: Duration,
    ) -> RedisResult<MultiplexedConnection> {
        let mut sentinel = connect_to(&self.files.client(sentinel.clone())?, patience).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let address: Option<(String, u16)> = command.query_async(&mut sentinel).await?;
        let (host, port) = address.ok_or_else(|| refused("the Sentinel knows no master of this name"))?;
        let mut connection = self.to(&host, port, patience).await?;
        let role: Vec<Value> = redis::cmd("ROLE").query_async(&mut connection).await?;
        let is_master = matches!(role.first(), Some(Value::BulkString(role)) if role == b"master");
        is_master
            .then_some(connection)
            .ok_or_else(|| refused("the node that the Sentinel names is no master"))
    }
}

/// Returns host and port of a server over TCP.
fn place(info: &ConnectionInfo) -> Option<(String, u16)> {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Some((host.clone(), *port))
        }
        _ => None,
    }
}

pub(super) fn refused(why: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Client, why))
}

async fn connect_to(client: &Client, patience: Duration) -> RedisResult<MultiplexedConnection> {
    // No response timeout: each command has a time limit of its own.
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(patience)).set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// Connection that many tasks share.
#[derive(Clone)]
pub enum Connection {
    One(MultiplexedConnection),
    Cluster(Arc<Cluster>),
}

impl Connection {
    /// Whether the node of this key is connected. In a cluster, some masters may be down.
    pub fn has(&self, key: &str) -> bool {
        match self {
            Connection::One(_) => true,
            Connection::Cluster(cluster) => cluster.has(key),
        }
    }

    /// Whether the connection is healthy, as far as it knows. `None` for a single server: its users
    /// find out.
    pub fn is_well(&self) -> Option<bool> {
        match self {
            Connection::One(_) => None,
            Connection::Cluster(cluster) => Some(cluster.is_well()),
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Connection::One(connection) => connection.req_packed_command(command),
            Connection::Cluster(cluster) => cluster.send(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Connection::One(connection) => connection.req_packed_commands(commands, offset, count),
            Connection::Cluster(cluster) => cluster.send_all(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Connection::One(connection) => connection.get_db(),
            Connection::Cluster(_) => 0,
        }
    }
}
