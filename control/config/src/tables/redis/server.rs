//! Address of Redis: a single server, the master that Sentinels name, or the nodes of a cluster.

use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError, RedisResult,
    TlsCertificates,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Address of Redis, the login, and the files for connecting to it.
#[derive(Clone)]
pub struct RedisServer {
    /// Address and login. The address is not used if Sentinels name the master.
    pub info: ConnectionInfo,
    /// Files that a connection needs.
    pub files: Files,
    /// Further nodes, or Sentinels.
    pub others: Others,
}

impl RedisServer {
    /// Returns the Redis at `url`. Reads no file and opens no connection.
    pub fn new(url: String, others: Others, files: Files) -> RedisResult<Self> {
        Ok(RedisServer { info: url.into_connection_info()?, files, others })
    }

    /// Whether connections use TLS.
    pub fn has_tls(&self) -> bool {
        has_tls(self.info.addr())
    }

    /// Whether Redis has a host and a port, and not a Unix socket.
    pub fn is_remote(&self) -> bool {
        !matches!(self.info.addr(), ConnectionAddr::Unix(_))
    }

    /// Returns the address, or those of all nodes or Sentinels, without passwords.
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

    /// Reads the files, as each connection does, so that errors in them are reported at the start.
    pub fn try_files(&self) -> RedisResult<()> {
        self.files.client(self.files.identified(&self.info)?).map(drop)
    }
}

/// Servers that are asked beside the one in the URL, or in its place.
#[derive(Clone)]
pub enum Others {
    /// No other server.
    None,
    /// Further nodes of the cluster.
    Cluster(Vec<ConnectionInfo>),
    /// Sentinels, each of which can give the address of the master of this name.
    Sentinels(Vec<ConnectionInfo>, String),
}

impl Others {
    /// Parses the URLs of `[redis] cluster`.
    pub fn cluster(urls: Vec<String>) -> RedisResult<Self> {
        Ok(Others::Cluster(places(urls)?))
    }

    /// Parses the URLs of `[redis] sentinel`, with the name in `master`.
    pub fn sentinels(urls: Vec<String>, master: String) -> RedisResult<Self> {
        Ok(Others::Sentinels(places(urls)?, master))
    }
}

fn places(urls: Vec<String>) -> RedisResult<Vec<ConnectionInfo>> {
    urls.into_iter().map(IntoConnectionInfo::into_connection_info).collect()
}

/// Files with secrets, or with data that is replaced from time to time. They are read anew for each
/// connection.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// File with the password, in place of one in the URL.
    pub password: Option<PathBuf>,
    /// File with the trusted CAs; `None`: the system's CAs.
    pub ca: Option<PathBuf>,
    /// Files with the client certificate and its key.
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

    /// Returns `info` with the password in the file.
    pub fn identified(&self, info: &ConnectionInfo) -> RedisResult<ConnectionInfo> {
        let Some(path) = &self.password else { return Ok(info.clone()) };
        let password = String::from_utf8(read(path)?).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{} is not UTF-8", path.display()))
        })?;
        let settings = info.redis_settings().clone();
        Ok(info.clone().set_redis_settings(settings.set_password(password.trim_end_matches(['\r', '\n']))))
    }

    /// Returns a client of a Redis, with the certificates in the files.
    pub fn client(&self, info: ConnectionInfo) -> RedisResult<Client> {
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

/// Whether connections to an address use TLS.
pub fn has_tls(address: &ConnectionAddr) -> bool {
    matches!(address, ConnectionAddr::TcpTls { .. })
}
