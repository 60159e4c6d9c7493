//! Where a Redis is: one, the master that Sentinels name, or many that are a cluster.

use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError, RedisResult,
    TlsCertificates,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where Redis is, and who we are there.
#[derive(Clone)]
pub struct Server {
    /// Address and login; of Sentinels' master all but the address.
    pub info: ConnectionInfo,
    /// Files that a connection needs.
    pub files: Files,
    /// Further nodes, or Sentinels.
    pub others: Others,
}

impl Server {
    /// At `url`. Nothing is read or connected.
    pub fn new(url: String, others: Others, files: Files) -> RedisResult<Self> {
        Ok(Server { info: url.into_connection_info()?, files, others })
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

    /// Adds the password in the file to `info`.
    pub fn identified(&self, info: &ConnectionInfo) -> RedisResult<ConnectionInfo> {
        let Some(path) = &self.password else { return Ok(info.clone()) };
        let password = String::from_utf8(read(path)?).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{} is not UTF-8", path.display()))
        })?;
        let settings = info.redis_settings().clone();
        Ok(info.clone().set_redis_settings(settings.set_password(password.trim_end_matches(['\r', '\n']))))
    }

    /// Makes a client of a Redis, with the certificates in the files.
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

/// Whether an address is spoken to over TLS.
pub fn has_tls(address: &ConnectionAddr) -> bool {
    matches!(address, ConnectionAddr::TcpTls { .. })
}
