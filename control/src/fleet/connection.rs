//! One Redis, the master that Sentinels name, or many that are a cluster: whom to connect to, and the connection.

use super::cluster::Cluster;
use futures_util::{StreamExt, stream::FuturesUnordered};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo, Pipeline, RedisError, RedisFuture, RedisResult, TlsCertificates, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

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
        Way { info: url.into_connection_info().unwrap(), files: Files::default() }
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

/// Where Redis is, and who we are there.
#[derive(Clone)]
pub struct Server {
    /// Of Sentinels' master: all but its address.
    way: Way,
    others: Others,
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
        Ok(Server { way: Way { info: url.into_connection_info()?, files }, others })
    }

    /// Whether it is spoken to over TLS.
    pub fn has_tls(&self) -> bool {
        has_tls(self.way.info.addr())
    }

    /// Whether it has a host and a port.
    pub fn is_remote(&self) -> bool {
        !matches!(self.way.info.addr(), ConnectionAddr::Unix(_))
    }

    /// Its address, or those of all who know it, without passwords.
    pub fn address(&self) -> String {
        let list = |places: &mut dyn Iterator<Item = &ConnectionInfo>| {
            places.map(|place| place.addr().to_string()).collect::<Vec<_>>().join(", ")
        };
        match &self.others {
            Others::None => self.way.info.addr().to_string(),
            Others::Cluster(others) => list(&mut std::iter::once(&self.way.info).chain(others)),
            Others::Sentinels(sentinels, master) => format!("{master} of {}", list(&mut sentinels.iter())),
        }
    }

    /// Reads the files, as each connection will. What is wrong with them is better said before anything starts.
    pub fn try_files(&self) -> RedisResult<()> {
        let Way { info, files } = &self.way;
        files.client(files.identified(info)?).map(drop)
    }

    /// Connects.
    pub(super) async fn connect(&self, patience: Duration) -> RedisResult<Connection> {
        let Way { info, files } = &self.way;
        match &self.others {
            Others::None => {
                let client = files.client(files.identified(info)?)?;
                Ok(Connection::One(connect_to(&client, patience).await?))
            }
            Others::Cluster(others) => {
                let nodes: Vec<_> = std::iter::once(info).chain(others).filter_map(place).collect();
                let cluster = Cluster::connect(self.way.clone(), &nodes, patience).await?;
                Ok(Connection::Cluster(Arc::new(cluster)))
            }
            Others::Sentinels(sentinels, master) => {
                // All at once: one that hangs holds up none of the others.
                let mut asking: FuturesUnordered<_> =
                    sentinels.iter().map(|sentinel| self.master(sentinel, master, patience)).collect();
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

    /// A connection to the master that a Sentinel names, if it says itself that it is one: for a while after a failover, who was
    /// it is named still. The crate has this as well, but asks Sentinels in an order, so that a first one that hangs takes all the time.
    async fn master(
        &self,
        sentinel: &ConnectionInfo,
        name: &str,
        patience: Duration,
    ) -> RedisResult<MultiplexedConnection> {
        let mut sentinel = connect_to(&self.way.files.client(sentinel.clone())?, patience).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let address: Option<(String, u16)> = command.query_async(&mut sentinel).await?;
        let (host, port) = address.ok_or_else(|| refused("a Sentinel knows no master of this name"))?;
        let mut connection = self.way.to(&host, port, patience).await?;
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
