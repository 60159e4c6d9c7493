//! The configuration: read from TOML ([`raw`]), checked ([`Config`]), documented ([`reference`]).
//!
//! A [`Config`] is proof that every value in it was checked. What depends on the machine and not on the file alone is
//! [`ringdns_daemon::preflight`]'s.

#![forbid(unsafe_code)]

mod asking;
mod check;
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

pub use error::{ConfigError, Problem};
pub use fleet::Redis;
pub use raw::{Mode, Privacy, Strategy};
pub use redis_server::{Files, Others, Server as RedisServer, has_tls};
pub use shipping::{ClickHouse, Scheme, Shipping};
pub use snapshot::Snapshot;

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
    /// Where queries come in.
    pub server: Server,
    /// Whom to ask, in order; at least one.
    pub upstreams: Vec<Upstream>,
    /// How they are asked.
    pub resolver: Resolver,
    /// What nobody is asked for.
    pub local: Local,
    /// What is validated.
    pub dnssec: Dnssec,
    /// What is kept.
    pub cache: Cache,
    /// What is kept on disk of that; `None`: nothing.
    pub snapshot: Option<Snapshot>,
    /// What is renewed before it expires.
    pub refresh: Refresh,
    /// What is shared with other appliances; `None`: nothing.
    pub redis: Option<Redis>,
    /// What clients may do over TCP.
    pub tcp: Tcp,
    /// Who may ask.
    pub access: Access,
    /// DNS cookies towards clients.
    pub cookies: Cookies,
    /// What is logged of answers.
    pub query_log: QueryLog,
    /// Where the query log goes; `None`: it is kept nowhere.
    pub shipping: Option<Shipping>,
    /// How ringdns is watched and controlled.
    pub control: Control,
}

/// Where queries come in, and how they are received.
#[derive(Clone, Debug)]
pub struct Server {
    /// Addresses for UDP and TCP; at least one.
    pub listen: Vec<SocketAddr>,
    /// The interface for AF_XDP; `None`: kernel sockets.
    pub interface: Option<String>,
    /// How AF_XDP is attached.
    pub mode: Mode,
    /// Worker threads over kernel sockets; `None`: by the number of cores.
    pub workers: Option<usize>,
    /// Queues to serve; `None`: all.
    pub queues: Option<Vec<u32>>,
    /// Whether received checksums are believed.
    pub trust_checksums: bool,
    /// How long a worker looks for packets before it sleeps.
    pub spin: Duration,
    /// Whether workers drive the NIC.
    pub busy_poll: bool,
    /// Whether kernel sockets may stand in for AF_XDP.
    pub fallback: bool,
    /// The largest answer over UDP.
    pub udp_limit: u16,
    /// The name in class CH.
    pub identity: Option<String>,
    /// The name in EDNS.
    pub nsid: Option<String>,
}

/// A resolver to ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Its address.
    pub address: SocketAddr,
    /// How it is asked.
    pub transport: Transport,
    /// The zones that it is asked for, as lowercased names on the wire; none: all that are not another's.
    pub zones: Vec<Vec<u8>>,
    /// Whether its AD bit is believed.
    pub trusted: bool,
    /// How long one attempt may take.
    pub timeout: Duration,
}

impl Upstream {
    /// Its address as it is written in the file, with what may be left out there.
    pub fn label(&self) -> String {
        let scheme = self.transport.label();
        match &self.transport {
            Transport::Udp | Transport::Tcp => format!("{scheme}://{}", self.address),
            Transport::Tls(tls) if tls.name == self.address.ip().into() => {
                format!("{scheme}://{}", self.address)
            }
            Transport::Tls(tls) => format!("{scheme}://{}#{}", self.address, tls.name.to_str()),
            Transport::Https(_, uri) => uri.to_string(),
        }
    }
}

/// How an upstream is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP, and TCP for answers that do not fit.
    Udp,
    /// TCP alone.
    Tcp,
    /// DNS over TLS (RFC 7858).
    Tls(Tls),
    /// DNS over HTTPS (RFC 8484), at this URL.
    Https(Tls, Uri),
}

impl Transport {
    /// The name in addresses and statistics.
    pub fn label(&self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls(_) => "tls",
            Transport::Https(..) => "https",
        }
    }

    /// What belongs to TLS, if it is used.
    pub fn tls(&self) -> Option<&Tls> {
        match self {
            Transport::Udp | Transport::Tcp => None,
            Transport::Tls(tls) | Transport::Https(tls, _) => Some(tls),
        }
    }
}

/// How an upstream is known to be who it should be, and where else it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The name or address that its certificate must be for.
    pub name: ServerName<'static>,
    /// Its other addresses, tried in turn where it cannot be reached at the first.
    pub spare: Vec<SocketAddr>,
    /// The CAs that are believed; `None`: the system's.
    pub ca_file: Option<PathBuf>,
}

/// How upstreams are asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resolver {
    /// Which is asked first.
    pub strategy: Strategy,
    /// The percentile of an upstream's answer times after which a second one is asked too; `None`: never.
    pub hedge: Option<f64>,
    /// Whether the letter case of questions is drawn at random.
    pub randomize_case: bool,
    /// Whether they are sent DNS cookies.
    pub cookies: bool,
}

/// What is answered without asking anybody.
#[derive(Clone, Copy, Debug)]
pub struct Local {
    /// Whether special-use names are.
    pub special_names: bool,
}

/// What is renewed before it expires.
#[derive(Clone, Copy, Debug)]
pub struct Refresh {
    /// The last percents of an answer's time in which it is; 0: none.
    pub ahead: u8,
    /// How many renewals a second at most; `None`: any number.
    pub per_second: Option<u32>,
    /// How often the host tier is swept.
    pub sweep_every: Duration,
    /// What expires within so many seconds is renewed by sweeps; 0: nothing.
    pub sweep_window: Secs,
    /// How often it must have been asked for.
    pub sweep_demand: u16,
    /// How many renewals of sweeps are under way at once at most.
    pub sweep_in_flight: usize,
}

/// What is found out about answers here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dnssec {
    /// Whether anything is.
    pub validate: bool,
    /// Zones and their keys that are believed; `None`: those of the public root.
    pub trust_anchor_file: Option<PathBuf>,
    /// Names on the wire, lowercased, at and below which nothing is validated.
    pub insecure: Vec<Vec<u8>>,
}

/// What is kept, how long, and in how much memory.
#[derive(Clone, Copy, Debug)]
pub struct Cache {
    /// Whether anything is kept.
    pub enabled: bool,
    /// Bytes of each worker's cache.
    pub bytes_per_worker: u64,
    /// Bytes of the host tier.
    pub host_bytes: u64,
    /// Answers are kept at least so many seconds.
    pub min_ttl: Secs,
    /// At most so many.
    pub max_ttl: Secs,
    /// Negative ones at most so many.
    pub negative_max_ttl: Secs,
    /// So long after its end an answer may still be given; 0: never.
    pub stale_max: Secs,
    /// How long a client waits for a new answer before it is given an expired one.
    pub stale_client_timeout: Duration,
    /// The TTL in stale answers.
    pub stale_ttl: Secs,
    /// So long a failure is remembered.
    pub failure_ttl: Secs,
}

impl Cache {
    /// The rules for answers that come in. A cache that is off keeps everything for no time.
    pub fn ttl_rules(&self, refresh: &Refresh) -> TtlRules {
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

    /// So long a failure is remembered; 0 when nothing is kept.
    pub fn failure_secs(&self) -> Secs {
        if self.enabled { self.failure_ttl } else { 0 }
    }
}

/// Limits of TCP listeners: memory and time.
#[derive(Clone, Copy, Debug)]
pub struct Tcp {
    /// Connections at once, over all addresses.
    pub connections: usize,
    /// Of these, from one client: an IPv4 address or an IPv6 /56.
    pub connections_per_client: usize,
    /// Queries under way on one of them; more wait in the socket.
    pub in_flight: usize,
    /// How long a connection may be silent, and a client not read (RFC 7766 section 6.2.3: some seconds).
    pub idle: Duration,
}

/// Who may ask.
#[derive(Clone, Debug)]
pub struct Access {
    /// Those who may,
    pub allow: Vec<Prefix>,
    /// but for these.
    pub deny: Vec<Prefix>,
    /// What others hear.
    pub refusal: Refusal,
}

/// DNS cookies towards clients.
#[derive(Clone, Debug)]
pub struct Cookies {
    /// Whether clients get any.
    pub enabled: bool,
    /// Where the secret is; `None`: it is drawn.
    pub secret_file: Option<PathBuf>,
    /// Whether who sends a cookie over UDP must have a good one of ours.
    pub require_over_udp: bool,
}

/// What is logged of answers.
#[derive(Clone, Debug)]
pub struct QueryLog {
    /// Whether anything is.
    pub enabled: bool,
    /// One in so many is.
    pub sample: u32,
    /// Clients of whom nothing is.
    pub exclude_clients: Vec<Prefix>,
    /// Names on the wire, lowercased, at and below which nothing is.
    pub exclude_names: Vec<Vec<u8>>,
    /// What is kept of clients' addresses.
    pub privacy: Privacy,
    /// Where the key is that they are hashed with; `None`: it is drawn.
    pub key_file: Option<PathBuf>,
    /// Memory of each worker for what is on its way.
    pub bytes_per_worker: u64,
}

/// How ringdns is watched and controlled.
#[derive(Clone, Debug)]
pub struct Control {
    /// The Unix socket of the API.
    pub socket: PathBuf,
    /// The address of its reading part over TCP.
    pub http: Option<SocketAddr>,
    /// Whether profiles are given there.
    pub profiles_over_http: bool,
}

impl Config {
    /// Checks a text; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let refused = |(place, problem)| ConfigError::Refused { path: path.to_owned(), place, problem };
        let raw: raw::RawConfig = toml::from_str(text).map_err(|e| refused(error::from_toml(text, &e)))?;
        Config::try_from(raw).map_err(|problem| refused((error::place_of(text, &problem.key), problem)))
    }
}

#[cfg(test)]
mod tests;
