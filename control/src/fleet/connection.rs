//! One Redis, the master that Sentinels name, or many that are a cluster: whom to connect to, and the connection.

use futures_util::{StreamExt, stream::FuturesUnordered};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo, Pipeline, RedisError, RedisFuture, RedisResult, TlsCertificates, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// How often a command is sent again whose part of the cluster has moved, or is gone. Who asked does not wait for it.
const RETRIES: u32 = 3;

/// What is in files, because it is secret or replaced now and then. They are read anew for each connection.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The password, in place of one in the URL.
    pub password: Option<PathBuf>,
    /// The CAs that are believed; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// The certificate that is shown to Redis, and its key.
    pub identity: Option<[PathBuf; 2]>,
}

impl Files {
    fn certificates(&self) -> RedisResult<TlsCertificates> {
        let identity = self.identity.as_ref().map(|[certificate, key]| {
            Ok::<_, RedisError>(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? })
        });
        let root_cert = self.ca.as_deref().map(read).transpose()?;
        Ok(TlsCertificates { client_tls: identity.transpose()?, root_cert })
    }

    /// Who we are at a Redis.
    fn identified(&self, info: &ConnectionInfo) -> RedisResult<ConnectionInfo> {
        let Some(path) = &self.password else { return Ok(info.clone()) };
        let password = String::from_utf8(read(path)?).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{} is not UTF-8", path.display()))
        })?;
        let settings = info.redis_settings().clone();
        Ok(info.clone().set_redis_settings(settings.set_password(password.trim_end_matches(['\r', '\n']))))
    }

    fn client(&self, info: ConnectionInfo) -> RedisResult<Client> {
        match has_tls(info.addr()) {
            true => Client::build_with_tls(info, self.certificates()?),
            false => Client::open(info),
        }
    }
}

fn read(path: &Path) -> RedisResult<Vec<u8>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    Ok(fs::read(path).map_err(named)?)
}

fn has_tls(address: &ConnectionAddr) -> bool {
    matches!(address, ConnectionAddr::TcpTls { .. })
}

/// Where Redis is, and who we are there.
#[derive(Clone)]
pub struct Server {
    /// Of Sentinels' master: all but its address.
    info: ConnectionInfo,
    others: Others,
    files: Files,
}

/// Who is asked beside the one in the URL, or instead.
#[derive(Clone)]
pub enum Others {
    /// Nobody.
    None,
    /// Further nodes of its cluster.
    Cluster(Vec<ConnectionInfo>),
    /// Sentinels, of whom each may say where the master of this name is.
    Sentinels(Vec<ConnectionInfo>, String),
}

impl Others {
    /// Of `[redis] cluster`.
    pub fn cluster(urls: Vec<String>) -> RedisResult<Self> {
        Ok(Others::Cluster(places(urls)?))
    }

    /// Of `[redis] sentinel` and `master`.
    pub fn sentinels(urls: Vec<String>, master: String) -> RedisResult<Self> {
        Ok(Others::Sentinels(places(urls)?, master))
    }
}

fn places(urls: Vec<String>) -> RedisResult<Vec<ConnectionInfo>> {
    urls.into_iter().map(IntoConnectionInfo::into_connection_info).collect()
}

impl Server {
    /// At `url`. Nothing is read or connected.
    pub fn new(url: String, others: Others, files: Files) -> RedisResult<Self> {
        Ok(Server { info: url.into_connection_info()?, others, files })
    }

    /// Whether it is spoken to over TLS.
    pub fn has_tls(&self) -> bool {
        has_tls(self.info.addr())
    }

    /// Whether it has a host and a port.
    pub fn is_remote(&self) -> bool {
        !matches!(self.info.addr(), ConnectionAddr::Unix(_))
    }

    /// Its address, or those of all who know it, without passwords.
    pub fn address(&self) -> String {
        let list = |places: &mut dyn Iterator<Item = &ConnectionInfo>| {
            places.map(|place| place.addr().to_string()).collect::<Vec<_>>().join(", ")
        };
        match &self.others {
            Others::None => self.info.addr().to_string(),
            Others::Cluster(others) => list(&mut std::iter::once(&self.info).chain(others)),
            Others::Sentinels(sentinels, master) => format!("{master} of {}", list(&mut sentinels.iter())),
        }
    }

    /// Reads the files, as each connection will. What is wrong with them is better said before anything starts.
    pub fn try_files(&self) -> RedisResult<()> {
        self.files.client(self.files.identified(&self.info)?).map(drop)
    }

    /// Connects.
    pub(super) async fn connect(&self, patience: Duration) -> RedisResult<Connection> {
        let info = self.files.identified(&self.info)?;
        match &self.others {
            Others::None => Ok(Connection::One(connect_to(&self.files.client(info)?, patience).await?)),
            Others::Cluster(others) => {
                let client = self.cluster(info, others, patience)?;
                Ok(Connection::Cluster(client.get_async_connection().await?))
            }
            Others::Sentinels(sentinels, master) => {
                // All at once: one that hangs holds up none of the others.
                let mut asking: FuturesUnordered<_> = sentinels
                    .iter()
                    .map(|sentinel| self.master(sentinel, master, info.clone(), patience))
                    .collect();
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

    fn cluster(
        &self,
        info: ConnectionInfo,
        others: &[ConnectionInfo],
        patience: Duration,
    ) -> RedisResult<ClusterClient> {
        let mut nodes = vec![info];
        for other in others {
            nodes.push(self.files.identified(other)?);
        }
        let builder = ClusterClientBuilder::new(nodes).retries(RETRIES);
        let builder = builder.connection_timeout(patience).response_timeout(patience);
        match self.has_tls() {
            true => builder.certs(self.files.certificates()?).build(),
            false => builder.build(),
        }
    }

    /// A connection to the master that a Sentinel names, if it says itself that it is one: for a while after a failover, who was
    /// it is named still. The crate has this as well, but asks Sentinels in an order, so that a first one that hangs takes all the time.
    async fn master(
        &self,
        sentinel: &ConnectionInfo,
        name: &str,
        info: ConnectionInfo,
        patience: Duration,
    ) -> RedisResult<MultiplexedConnection> {
        let mut sentinel = connect_to(&self.files.client(sentinel.clone())?, patience).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let address: Option<(String, u16)> = command.query_async(&mut sentinel).await?;
        let (host, port) = address.ok_or_else(|| refused("a Sentinel knows no master of this name"))?;
        let address = match self.has_tls() {
            true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            false => ConnectionAddr::Tcp(host, port),
        };
        let mut connection = connect_to(&self.files.client(info.set_addr(address))?, patience).await?;
        let role: Vec<Value> = redis::cmd("ROLE").query_async(&mut connection).await?;
        let is_master = matches!(role.first(), Some(Value::BulkString(role)) if role == b"master");
        is_master.then_some(connection).ok_or_else(|| refused("who is named as the master is none"))
    }
}

fn refused(why: &'static str) -> RedisError {
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
