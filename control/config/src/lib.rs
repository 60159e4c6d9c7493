//! The configuration: read from TOML ([`raw`]), checked ([`Config`]), documented ([`reference`]).
//!
//! A [`Config`] is proof that every value in it was checked. Checks that depend on the machine, not
//! on the file alone, are in `ringdns_daemon::preflight`.

#![forbid(unsafe_code)]

mod address;
mod asking;
mod bounds;
mod check;
mod choices;
pub mod error;
mod fleet;
mod log;
pub mod raw;
mod redis_server;
pub mod reference;
pub mod secrets;
mod shipping;
mod snapshot;
mod upstream;
mod values;

pub use address::UpstreamAddress;
pub use choices::{Privacy, Strategy, XdpMode};
pub use error::{ConfigError, Problem};
pub use fleet::RedisConfig;
pub use redis_server::{Files, Others, RedisServer, has_tls};
pub use shipping::{ClickHouseConfig, Scheme, ShippingConfig};
pub use snapshot::SnapshotConfig;

use http::Uri;
use ringdns_dataplane::{access::Prefix, clock::Secs, dns::answer::TtlRules, policy::Refusal};
use rustls::pki_types::ServerName;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses that queries arrive at.
    pub server: ServerConfig,
    /// Upstreams, in order; at least one.
    pub upstreams: Vec<UpstreamConfig>,
    /// Options for querying upstreams.
    pub resolver: ResolverConfig,
    /// Names answered locally.
    pub local: LocalConfig,
    /// DNSSEC validation.
    pub dnssec: DnssecConfig,
    /// Sizes and times of the caches.
    pub cache: CacheConfig,
    /// Snapshot of the host tier on disk; `None` for no snapshot.
    pub snapshot: Option<SnapshotConfig>,
    /// Renewal of answers before they expire.
    pub refresh: RefreshConfig,
    /// Answers shared with other appliances; `None` for no sharing.
    pub redis: Option<RedisConfig>,
    /// Limits of TCP listeners.
    pub tcp: TcpConfig,
    /// Access list.
    pub access: AccessConfig,
    /// DNS cookies for clients.
    pub cookies: CookieConfig,
    /// Log of answers.
    pub query_log: QueryLogConfig,
    /// Destination of the query log; `None` if it is not stored.
    pub shipping: Option<ShippingConfig>,
    /// Control socket, HTTP endpoint and profiles.
    pub control: ControlConfig,
}

/// Addresses that queries arrive at, and the way that they are received.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Addresses for UDP and TCP; at least one.
    pub listen: Vec<SocketAddr>,
    /// Interface for AF_XDP; `None`: kernel sockets.
    pub interface: Option<String>,
    /// Mode in which AF_XDP is attached.
    pub mode: XdpMode,
    /// Number of worker threads over kernel sockets; `None`: by the number of cores.
    pub workers: Option<usize>,
    /// Queues to serve; `None`: all.
    pub queues: Option<Vec<u32>>,
    /// Whether received checksums are trusted without verifying them.
    pub trust_checksums: bool,
    /// Time that a worker polls for packets before it sleeps.
    pub spin: Duration,
    /// Whether workers drive the NIC.
    pub busy_poll: bool,
    /// Whether kernel sockets may replace AF_XDP.
    pub fallback: bool,
    /// Largest answer over UDP, in bytes.
    pub udp_limit: u16,
    /// Identity of this server in class CH.
    pub identity: Option<String>,
    /// Identity of this server in EDNS (NSID).
    pub nsid: Option<String>,
}

/// A resolver to forward queries to.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamConfig {
    /// Addresses of the resolver, tried in turn; at least one.
    pub addresses: Vec<UpstreamAddress>,
    /// Host name that stands in the file in place of an address, over UDP and TCP.
    pub host: Option<String>,
    /// Transport that it is asked over.
    pub transport: Transport,
    /// Zones that it is asked for, as lowercased names on the wire; empty: all names that no other
    /// upstream's zones cover.
    pub zones: Vec<Vec<u8>>,
    /// Whether its AD bit is trusted.
    pub trusted: bool,
    /// Time that one attempt may take.
    pub timeout: Duration,
}

impl UpstreamConfig {
    /// Returns the address as written in the file, with the parts that may be left out there.
    pub fn label(&self) -> String {
        let scheme = self.transport.label();
        let first = &self.addresses[0];
        match &self.transport {
            Transport::Udp | Transport::Tcp => match &self.host {
                Some(host) => format!("{scheme}://{host}:{}", first.port),
                None => format!("{scheme}://{first}"),
            },
            Transport::Tls(tls) if tls.name == first.ip.into() => format!("{scheme}://{first}"),
            Transport::Tls(tls) => format!("{scheme}://{first}#{}", tls.name.to_str()),
            Transport::Https(_, uri) => uri.to_string(),
        }
    }
}

/// Transport of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP, and TCP for answers that do not fit.
    Udp,
    /// TCP alone.
    Tcp,
    /// DNS over TLS (RFC 7858).
    Tls(TlsConfig),
    /// DNS over HTTPS (RFC 8484), at this URL.
    Https(TlsConfig, Uri),
}

impl Transport {
    /// Returns the transport's name in addresses and statistics.
    pub fn label(&self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls(_) => "tls",
            Transport::Https(..) => "https",
        }
    }

    /// Returns the TLS options, if TLS is used.
    pub fn tls(&self) -> Option<&TlsConfig> {
        match self {
            Transport::Udp | Transport::Tcp => None,
            Transport::Tls(tls) | Transport::Https(tls, _) => Some(tls),
        }
    }
}

/// TLS options of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// Name or address that its certificate must be valid for.
    pub name: ServerName<'static>,
    /// File with the trusted CAs; `None`: the system's CAs.
    pub ca_file: Option<PathBuf>,
}

/// Options for querying upstreams.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResolverConfig {
    /// Order in which upstreams are asked.
    pub strategy: Strategy,
    /// Percentile of an upstream's answer times after which a second one is asked too; `None`:
    /// never.
    pub hedge: Option<f64>,
    /// Whether the letter case of query names is randomised.
    pub randomize_case: bool,
    /// Whether DNS cookies are sent to upstreams.
    pub cookies: bool,
}

/// Names answered locally, without asking an upstream.
#[derive(Clone, Copy, Debug)]
pub struct LocalConfig {
    /// Whether special-use names are answered locally.
    pub special_names: bool,
}

/// Renewal of answers before they expire.
#[derive(Clone, Copy, Debug)]
pub struct RefreshConfig {
    /// Last part of an answer's lifetime, in percent, in which it is renewed; 0: never.
    pub ahead: u8,
    /// Most renewals per second; `None`: no limit.
    pub per_second: Option<u32>,
    /// Interval between sweeps of the host tier.
    pub sweep_every: Duration,
    /// Seconds before expiry within which sweeps renew answers; 0: sweeps renew nothing.
    pub sweep_window: Secs,
    /// Number of requests that an answer needs before a sweep renews it.
    pub sweep_demand: u16,
    /// Most renewals of sweeps in flight at once.
    pub sweep_in_flight: usize,
}

/// DNSSEC validation in this process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DnssecConfig {
    /// Whether answers are validated.
    pub validate: bool,
    /// File with trusted zones and their keys; `None`: the keys of the public root.
    pub trust_anchor_file: Option<PathBuf>,
    /// File with the states of keys that ringdnsd manages; `None`: trusted keys never change.
    pub managed_anchor_file: Option<PathBuf>,
    /// Names on the wire, lowercased, at and below which nothing is validated.
    pub insecure: Vec<Vec<u8>>,
}

/// Sizes of the caches, and the time that they keep answers.
#[derive(Clone, Copy, Debug)]
pub struct CacheConfig {
    /// Whether answers are cached.
    pub enabled: bool,
    /// Bytes of each worker cache.
    pub bytes_per_worker: u64,
    /// Bytes of the host tier.
    pub host_bytes: u64,
    /// Fewest seconds that answers are kept.
    pub min_ttl: Secs,
    /// Most seconds that answers are kept.
    pub max_ttl: Secs,
    /// Most seconds that negative answers are kept.
    pub negative_max_ttl: Secs,
    /// Seconds after its expiry for which an answer may still be served; 0: none.
    pub stale_max: Secs,
    /// Time that a client waits for a new answer before it gets an expired one.
    pub stale_client_timeout: Duration,
    /// TTL in stale answers.
    pub stale_ttl: Secs,
    /// Seconds that a resolution failure is cached.
    pub failure_ttl: Secs,
}

impl CacheConfig {
    /// Returns the rules for new answers. With the cache off, every answer is kept for zero
    /// seconds.
    pub fn ttl_rules(&self, refresh: &RefreshConfig) -> TtlRules {
        if !self.enabled {
            return TtlRules { min: 0, max: 0, negative_max: 0, stale: 0, ahead: 0 };
        }
        TtlRules {
            min: self.min_ttl,
            max: self.max_ttl,
            negative_max: self.negative_max_ttl,
            stale: self.stale_max,
            ahead: refresh.ahead,
        }
    }

    /// Returns the seconds that a resolution failure is cached; 0 with the cache off.
    pub fn failure_secs(&self) -> Secs {
        if self.enabled { self.failure_ttl } else { 0 }
    }
}

/// Limits of TCP listeners: memory and time.
#[derive(Clone, Copy, Debug)]
pub struct TcpConfig {
    /// Most connections at once, over all addresses.
    pub connections: usize,
    /// Most connections at once from one client: an IPv4 address or an IPv6 /56.
    pub connections_per_client: usize,
    /// Most queries in flight on one connection; further queries wait in the socket.
    pub in_flight: usize,
    /// Time that a connection may be idle, and a client may leave its answers unread (RFC 7766
    /// section 6.2.3: some seconds).
    pub idle: Duration,
}

/// Access list.
#[derive(Clone, Debug)]
pub struct AccessConfig {
    /// Prefixes allowed to query.
    pub allow: Vec<Prefix>,
    /// Prefixes excluded from `allow`.
    pub deny: Vec<Prefix>,
    /// Response to other clients.
    pub refusal: Refusal,
}

/// DNS cookies for clients.
#[derive(Clone, Debug)]
pub struct CookieConfig {
    /// Whether clients get server cookies.
    pub enabled: bool,
    /// File with the secret; `None`: a random secret.
    pub secret_file: Option<PathBuf>,
    /// Whether a client that sends a cookie over UDP must send a valid one.
    pub require_over_udp: bool,
}

/// Log of answers.
#[derive(Clone, Debug)]
pub struct QueryLogConfig {
    /// Whether answers are logged.
    pub enabled: bool,
    /// Sampling rate: one answer in this many is logged.
    pub sample: u32,
    /// Clients whose answers are not logged.
    pub exclude_clients: Vec<Prefix>,
    /// Names on the wire, lowercased, at and below which nothing is logged.
    pub exclude_names: Vec<Vec<u8>>,
    /// Part of clients' addresses that is kept.
    pub privacy: Privacy,
    /// File with the key that addresses are hashed with; `None`: a random key.
    pub key_file: Option<PathBuf>,
    /// Memory of each worker for rows that are not yet written, in bytes.
    pub bytes_per_worker: u64,
}

/// Control socket, HTTP endpoint and profiles.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// Unix socket of the API.
    pub socket: PathBuf,
    /// TCP address of the API's read-only part.
    pub http: Option<SocketAddr>,
    /// Whether profiles are served over HTTP.
    pub profiles_over_http: bool,
}

impl Config {
    /// Parses and checks a file's text. `path` names the file in errors.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let refused = |(place, problem)| ConfigError::Refused { path: path.to_owned(), place, problem };
        let raw: raw::RawConfig = toml::from_str(text).map_err(|e| refused(error::from_toml(text, &e)))?;
        Config::try_from(raw).map_err(|problem| refused((error::place_of(text, &problem.key), problem)))
    }
}

#[cfg(test)]
mod tests;
