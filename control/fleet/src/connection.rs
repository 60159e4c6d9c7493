//! One Redis, the master that Sentinels name, or many that are a cluster: whom to connect to, and the connection.

use super::cluster::Cluster;
use futures_util::{StreamExt, stream::FuturesUnordered};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, Pipeline, RedisError,
    RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use ringdns_config::{Files, Others, RedisServer as Server, has_tls};
use std::{sync::Arc, time::Duration};

/// How to reach a Redis: all but where it is, which others may say.
#[derive(Clone)]
pub struct Way {
    info: ConnectionInfo,
    files: Files,
}

impl Way {
    /// Without files.
    #[cfg(test)]
    pub fn plain(url: &str) -> Self {
        Way { info: redis::IntoConnectionInfo::into_connection_info(url).unwrap(), files: Files::default() }
    }

    /// To the one at `host`.
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

/// Connects to a Redis as the configuration names it.
pub async fn connect(server: &Server, patience: Duration) -> RedisResult<Connection> {
    let Server { info, files, others } = server;
    let way = Way { info: info.clone(), files: files.clone() };
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
            // All at once: one that hangs holds up none of the others.
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

impl Way {
    /// A connection to the master that a Sentinel names, if it says itself that it is one: for a while after a failover, who was
    /// it is named still. The crate has this as well, but asks Sentinels in an order, so that a first one that hangs takes all the time.
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
        let (host, port) = address.ok_or_else(|| refused("a Sentinel knows no master of this name"))?;
        let mut connection = self.to(&host, port, patience).await?;
        let role: Vec<Value> = redis::cmd("ROLE").query_async(&mut connection).await?;
        let is_master = matches!(role.first(), Some(Value::BulkString(role)) if role == b"master");
        is_master.then_some(connection).ok_or_else(|| refused("who is named as the master is none"))
    }
}

/// Host and port.
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
    // Time limits are set for each command by what it is for.
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(patience)).set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// A connection that many use at once.
#[derive(Clone)]
pub enum Connection {
    One(MultiplexedConnection),
    Cluster(Arc<Cluster>),
}

impl Connection {
    /// Whether the key may be asked for: in a cluster, a part of it may be gone.
    pub fn has(&self, key: &str) -> bool {
        match self {
            Connection::One(_) => true,
            Connection::Cluster(cluster) => cluster.has(key),
        }
    }

    /// Whether it is well as far as it knows itself. One connection does not: who asks over it finds out.
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
