//! One Redis, or many that are a cluster: whom to connect to, and the connection.

use redis::{
    AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo, Pipeline, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
};
use std::time::Duration;

/// How often a command is sent again whose part of the cluster has moved, or is gone. Who asked does not wait for it.
const RETRIES: u32 = 3;

/// Where Redis is, and who we are there.
#[derive(Clone)]
pub enum Server {
    /// By itself.
    One(Box<Client>),
    /// A cluster.
    Cluster(Box<ClusterClient>),
}

impl Server {
    /// At `url`; with `others`, the cluster that it is a node of as these are. Gives its address as well.
    pub fn new(url: String, others: Vec<String>, patience: Duration) -> RedisResult<(Self, String)> {
        let one = Client::open(url)?;
        let info = one.get_connection_info().clone();
        let mut address = info.addr().to_string();
        if others.is_empty() {
            return Ok((Server::One(Box::new(one)), address));
        }
        let mut nodes = vec![info];
        for other in others {
            let node = other.into_connection_info()?;
            address = format!("{address}, {}", node.addr());
            nodes.push(node);
        }
        let builder = ClusterClientBuilder::new(nodes).retries(RETRIES);
        let builder = builder.connection_timeout(patience).response_timeout(patience);
        Ok((Server::Cluster(Box::new(builder.build()?)), address))
    }

    /// Connects.
    pub(super) async fn connect(&self, patience: Duration) -> RedisResult<Connection> {
        match self {
            Server::One(client) => {
                // Time limits are set for each command by what it is for.
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(patience))
                    .set_response_timeout(None);
                let connecting = client.get_multiplexed_async_connection_with_config(&config);
                Ok(Connection::One(connecting.await?))
            }
            Server::Cluster(client) => Ok(Connection::Cluster(client.get_async_connection().await?)),
        }
    }
}

/// A connection that many use at once.
#[derive(Clone)]
pub enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Connection::One(connection) => connection.req_packed_command(command),
            Connection::Cluster(connection) => connection.req_packed_command(command),
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
            Connection::Cluster(connection) => connection.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Connection::One(connection) => connection.get_db(),
            Connection::Cluster(connection) => connection.get_db(),
        }
    }
}
