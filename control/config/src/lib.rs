//! The configuration: read from TOML and checked ([`Config`]), documented ([`reference`]).
//!
//! A [`Config`] is proof that every value in it was checked. Checks that depend on the machine, not
//! on the file alone, are in `ringdns_daemon::preflight`.

#![forbid(unsafe_code)]

mod bounds;
pub mod error;
mod listen;
mod lists;
pub mod manual;
pub mod paths;
pub mod reference;
mod refusals;
pub mod schedule;
pub mod schema;
pub mod secrets;
pub mod settings;
mod table;
mod tables;
pub mod tokens;
mod values;
mod wording;

pub use error::{ConfigError, Problem};
pub use tables::{
    access::AccessConfig,
    blocklist::{
        AllowlistConfig, BlockAnswer, BlocklistConfig, ListFormat, ListsConfig, ZoneAction, pattern,
    },
    cache::{CacheConfig, NxdomainCut, SnapshotConfig},
    clickhouse::{ClickHouseConfig, Scheme},
    client_group::{ClientGroupConfig, DEFAULT_GROUP},
    client_names::ClientNamesConfig,
    control::{ControlConfig, OpenMetrics, Requirement},
    cookies::CookieConfig,
    dns64::Dns64Config,
    dnssec::DnssecConfig,
    dnstap::{DnstapConfig, DnstapMessage, DnstapTarget},
    firewall::{NamesConfig, NftFamily, NftsetConfig},
    lists::{FetchConfig, ListSource, ListStart, TransferConfig, TsigAlgorithm, TsigConfig},
    local::{LocalConfig, LocalRecordConfig, LocalZoneConfig},
    query_log::{Privacy, QueryLogConfig, ShippingConfig},
    rate_limit::RateLimitConfig,
    rebinding::{RebindingAction, RebindingConfig},
    redis::{
        RedisConfig,
        server::{Files, Others, RedisServer, has_tls},
    },
    refresh::RefreshConfig,
    resolver::{ResolverConfig, Strategy},
    safe_search::{SafeSearchConfig, YouTubeFilter},
    sandbox::SandboxConfig,
    server::{ServerConfig, XdpMode},
    tcp::TcpConfig,
    upstream::{
        UpstreamConfig,
        address::UpstreamAddress,
        transport::{TlsConfig, Transport},
    },
};

use std::path::Path;
use tables::{RawConfig, blocklist, client_group, firewall, local, upstream};

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
    /// Lists that decide about names.
    pub lists: ListsConfig,
    /// Protection against DNS rebinding.
    pub rebinding: RebindingConfig,
    /// Search engines that filter their results.
    pub safe_search: SafeSearchConfig,
    /// IPv6 addresses for names that have IPv4 addresses alone.
    pub dns64: Dns64Config,
    /// Names of addresses.
    pub names: NamesConfig,
    /// Sets of nftables for the addresses of names.
    pub nftsets: Vec<NftsetConfig>,
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
    /// Rate limit for clients; `None`: there is none.
    pub rate_limit: Option<RateLimitConfig>,
    /// Names of clients in the log.
    pub client_names: ClientNamesConfig,
    /// Log of answers.
    pub query_log: QueryLogConfig,
    /// Destination of the query log; `None` if it is not stored.
    pub shipping: Option<ShippingConfig>,
    /// dnstap output; `None`: there is none.
    pub dnstap: Option<DnstapConfig>,
    /// Control socket, HTTP endpoint and profiles.
    pub control: ControlConfig,
    /// Limits that ringdnsd sets to itself.
    pub sandbox: SandboxConfig,
}

impl Config {
    /// Parses and checks a file's text. `path` names the file in errors, which tell all problems.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        refusals::check(text).map_err(|problems| ConfigError::Refused { path: path.to_owned(), problems })
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = Problem;

    /// Checks every table. Rules about two tables are with the table whose key they refuse.
    fn try_from(raw: RawConfig) -> Result<Config, Problem> {
        let server = raw.server.check()?;
        let is_cached = raw.cache.enabled;
        let is_in_fleet = raw.redis.is_used();
        let control = raw.control.check(&server.listen)?;
        let rate_limit = raw.rate_limit.check()?;
        let lists = blocklist::check(raw.blocklist, raw.allowlist, raw.client_group, raw.lists)?;
        client_group::check_limits(&lists.groups, rate_limit.as_ref())?;
        let local = local::check(raw.local, raw.local_record, raw.local_zone, &lists.groups)?;
        let upstreams = upstream::check(raw.upstream, &server.listen, &lists.groups)?;
        Ok(Config {
            client_names: raw.client_names.check(&raw.query_log, &local)?,
            server,
            upstreams,
            resolver: raw.resolver.check()?,
            lists,
            local,
            rebinding: raw.rebinding.check()?,
            safe_search: raw.safe_search.check(),
            dns64: raw.dns64.check()?,
            names: raw.names.check()?,
            nftsets: firewall::check(raw.nftset)?,
            dnssec: raw.dnssec.check()?,
            snapshot: raw.cache.snapshot(is_in_fleet)?,
            cache: raw.cache.check()?,
            refresh: raw.refresh.check()?,
            redis: raw.redis.check(is_cached)?,
            tcp: raw.tcp.check()?,
            access: raw.access.check()?,
            cookies: raw.cookies.check(),
            rate_limit,
            shipping: raw.query_log.shipping(raw.clickhouse)?,
            query_log: raw.query_log.check()?,
            dnstap: raw.dnstap.check()?,
            control,
            sandbox: raw.sandbox.check()?,
        })
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
