//! The configuration: read from TOML ([`raw`]), checked ([`Config`]), documented ([`reference`]).
//!
//! A [`Config`] is proof that every value in it was checked. What depends on the machine and not on the file alone is
//! [`crate::preflight`]'s.

mod check;
pub mod error;
pub mod raw;
pub mod reference;
pub mod units;

pub use error::{ConfigError, Problem};
pub use raw::Mode;

use ringdns_dataplane::{clock::Secs, dns::answer::TtlRules};
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
    /// What is kept.
    pub cache: Cache,
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
}

/// A resolver to ask.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Its address.
    pub address: SocketAddr,
    /// How it is asked.
    pub transport: Transport,
    /// Whether its AD bit is believed.
    pub trusted: bool,
    /// How long one attempt may take.
    pub timeout: Duration,
}

/// How an upstream is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP, and TCP for answers that do not fit.
    Udp,
    /// TCP alone.
    Tcp,
}

impl Transport {
    /// The name in addresses and statistics.
    pub fn label(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        }
    }
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
    /// The TTL in stale answers.
    pub stale_ttl: Secs,
    /// So long a failure is remembered.
    pub failure_ttl: Secs,
}

impl Cache {
    /// The rules for answers that come in. A cache that is off keeps everything for no time.
    pub fn ttl_rules(&self) -> TtlRules {
        if !self.enabled {
            return TtlRules { min: 0, max: 0, negative_max: 0, stale: 0 };
        }
        TtlRules {
            min: self.min_ttl,
            max: self.max_ttl,
            negative_max: self.negative_max_ttl,
            stale: self.stale_max,
        }
    }

    /// So long a failure is remembered; 0 when nothing is kept.
    pub fn failure_secs(&self) -> Secs {
        if self.enabled { self.failure_ttl } else { 0 }
    }
}

/// How ringdns is watched and controlled.
#[derive(Clone, Debug)]
pub struct Control {
    /// The Unix socket of the API.
    pub socket: PathBuf,
    /// The address of its reading part over TCP.
    pub http: Option<SocketAddr>,
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Checks a text; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let refused = |(place, problem)| ConfigError::Refused { path: path.to_owned(), place, problem };
        let raw: raw::RawConfig = toml::from_str(text).map_err(|e| refused(error::from_toml(text, &e)))?;
        Config::try_from(raw).map_err(|problem| refused((error::place_of(text, &problem.key), problem)))
    }
}

#[cfg(test)]
mod tests;
