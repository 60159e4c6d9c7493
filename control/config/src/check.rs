//! Conversion of the raw file into a [`Config`]: checks every value and fills in every default.

use super::{
    AccessConfig, CacheConfig, Config, ControlConfig, CookieConfig, LocalConfig, ServerConfig, TcpConfig,
    UpstreamAddress, UpstreamConfig, asking,
    choices::{Refused, Require},
    error::Problem,
    fleet, log,
    raw::{RawAccess, RawCache, RawConfig, RawControl, RawCookies, RawServer, RawTcp},
    shipping::shipping,
    snapshot::snapshot,
    upstream::upstream,
};
use crate::bounds::{secs, within};
use ringdns_common::units::TimeSpan;
use ringdns_dataplane::{
    access::Prefix,
    dns::{self, option::NSID_MAX},
    policy::Refusal,
    port::udp::LISTEN_MAX,
};
use std::net::SocketAddr;

/// Longest time that negative answers are kept. RFC 2308 section 5: values above three hours have
/// been found to be problematic.
const NEGATIVE_MAX: TimeSpan = TimeSpan::secs(3 * 3_600);
/// Shortest and longest time that failures are cached. RFC 9520 section 3.2: at least one second,
/// at most five minutes.
const FAILURE_TTL: [TimeSpan; 2] = [TimeSpan::secs(1), TimeSpan::secs(300)];
/// Most TCP connections at once. More connections need more than one process.
const CONNECTIONS_MAX: usize = 65_536;
/// Most queries in flight on one connection. More queries need another connection.
const IN_FLIGHT_MAX: usize = 4_096;
/// Largest UDP payload in bytes that an Ethernet frame holds over IPv6.
const UDP_MAX: u16 = 1452;
/// Smallest size of a cache in bytes: less cannot be laid out.
const CACHE_MIN: u64 = 1 << 20;
/// Longest time that stale answers are served. RFC 8767 section 4 suggests one to three days; a
/// week is generous.
const STALE_MAX: TimeSpan = TimeSpan::secs(7 * 86_400);

impl TryFrom<RawConfig> for Config {
    type Error = Problem;

    fn try_from(raw: RawConfig) -> Result<Config, Problem> {
        let server = server(raw.server)?;
        if raw.upstream.is_empty() {
            return Err(Problem::new(
                "upstream",
                "no upstream is configured",
                "Add [[upstream]] with the address of a recursive resolver",
            ));
        }
        let upstreams = raw
            .upstream
            .into_iter()
            .enumerate()
            .map(|(i, u)| upstream(i, u))
            .collect::<Result<Vec<_>, _>>()?;
        no_loops(&server.listen, &upstreams)?;
        asking::are_different(&upstreams)?;
        asking::covers_all(&upstreams)?;
        let keeps = raw.cache.enabled;
        Ok(Config {
            server,
            upstreams,
            resolver: asking::resolver(raw.resolver)?,
            local: LocalConfig { special_names: raw.local.special_names },
            dnssec: asking::dnssec(raw.dnssec)?,
            snapshot: snapshot(&raw.cache, raw.redis.url.is_some())?,
            cache: cache(raw.cache)?,
            refresh: asking::refresh(raw.refresh)?,
            redis: fleet::redis(raw.redis, keeps)?,
            tcp: tcp(raw.tcp)?,
            access: access(raw.access)?,
            cookies: cookies(raw.cookies),
            shipping: shipping(&raw.query_log, raw.clickhouse)?,
            query_log: log::query_log(raw.query_log)?,
            control: control(raw.control)?,
        })
    }
}

/// Returns the addresses to listen on.
fn listen(raw: &RawServer) -> Result<Vec<SocketAddr>, Problem> {
    if raw.listen.is_empty() {
        return Err(Problem::new(
            "server.listen",
            "no address to listen on",
            "Give at least one, such as listen = [\"127.0.0.1:53\"]",
        ));
    }
    if raw.listen.len() > LISTEN_MAX {
        let reason = format!("{} addresses are more than a worker can serve", raw.listen.len());
        let remedy = format!("List at most {LISTEN_MAX}, or 0.0.0.0 or [::] in place of many");
        return Err(Problem::new("server.listen", reason, remedy));
    }
    let mut listen = Vec::with_capacity(raw.listen.len());
    for (i, text) in raw.listen.iter().enumerate() {
        let key = format!("server.listen[{i}]");
        let address: SocketAddr = text.parse().map_err(|_| {
            let remedy = "Write \"10.53.0.2:53\" or \"[fd53::2]:53\"";
            Problem::new(&key, format!("{text:?} is no IP address with a port"), remedy)
        })?;
        if raw.interface.is_some() && address.port() == 0 {
            let remedy = "Give the port, or remove server.interface";
            return Err(Problem::new(&key, "port 0 cannot be steered to AF_XDP", remedy));
        }
        if listen.contains(&address) && address.port() != 0 {
            return Err(Problem::new(&key, format!("{address} is listed twice"), "Remove one of the two"));
        }
        listen.push(address);
    }
    Ok(listen)
}

/// Checks the interface with its queues, and the number of workers without one.
fn check_queues(raw: &RawServer) -> Result<(), Problem> {
    if raw.interface.as_deref() == Some("") {
        let remedy = "Name one as `ip link` shows it, or remove the key to use kernel sockets";
        return Err(Problem::new("server.interface", "the name is empty", remedy));
    }
    if raw.interface.is_some() && raw.workers.is_some() {
        let reason = "with an interface there is one worker a queue";
        return Err(Problem::new(
            "server.workers",
            reason,
            "Remove the key, or choose queues with server.queues",
        ));
    }
    if raw.interface.is_none() && raw.queues.is_some() {
        let remedy = "Set server.interface, or remove the key";
        return Err(Problem::new("server.queues", "there are no queues without an interface", remedy));
    }
    if let Some(workers @ (0 | 1025..)) = raw.workers {
        let remedy = "Give 1 to 1024, or remove the key for one a core";
        return Err(Problem::new("server.workers", format!("{workers} workers are not possible"), remedy));
    }
    if let Some(queues) = &raw.queues {
        let mut seen = queues.clone();
        seen.sort_unstable();
        seen.dedup();
        if queues.is_empty() || seen.len() != queues.len() {
            let remedy = "List each queue once, such as [0, 1], or remove the key for all";
            return Err(Problem::new("server.queues", "the list is empty or names a queue twice", remedy));
        }
    }
    Ok(())
}

fn server(raw: RawServer) -> Result<ServerConfig, Problem> {
    let listen = listen(&raw)?;
    check_queues(&raw)?;
    if !(dns::UDP_MIN..=UDP_MAX).contains(&raw.udp_limit) {
        let reason =
            format!("{} bytes is too little for DNS or too much for an Ethernet frame", raw.udp_limit);
        return Err(Problem::new(
            "server.udp_limit",
            reason,
            "Give 512 to 1452; 1232 avoids fragments (RFC 9715)",
        ));
    }
    let spin = [TimeSpan::secs(0), TimeSpan::secs(1)];
    let spin =
        within("server.spin", raw.spin, spin, "Give at most \"1s\"; a few tens of microseconds are enough")?;
    if raw.busy_poll && raw.interface.is_none() {
        let remedy = "Set server.interface, or remove the key";
        return Err(Problem::new(
            "server.busy_poll",
            "there is no NIC to drive without an interface",
            remedy,
        ));
    }
    Ok(ServerConfig {
        listen,
        interface: raw.interface,
        mode: raw.mode,
        workers: raw.workers,
        queues: raw.queues,
        trust_checksums: raw.trust_checksums,
        spin,
        busy_poll: raw.busy_poll,
        fallback: raw.fallback,
        udp_limit: raw.udp_limit,
        identity: name("server.identity", raw.identity)?,
        nsid: name("server.nsid", raw.nsid)?,
    })
}

/// Refuses an upstream that is ringdns itself, because it would send every cache miss in a circle.
fn no_loops(listen: &[SocketAddr], upstreams: &[UpstreamConfig]) -> Result<(), Problem> {
    for (i, upstream) in upstreams.iter().enumerate() {
        let own = |address: &&UpstreamAddress| {
            listen.iter().any(|l| {
                let wildcard = l.ip().is_unspecified() && address.ip.is_loopback();
                l.port() == address.port && (l.ip() == address.ip || wildcard)
            })
        };
        if let Some(own) = upstream.addresses.iter().find(own) {
            return Err(Problem::new(
                format!("upstream[{i}].address"),
                format!("{own} is ringdns itself, which listens there"),
                "Give the address of another resolver, or listen on another port",
            ));
        }
    }
    Ok(())
}

fn cache(raw: RawCache) -> Result<CacheConfig, Problem> {
    for (key, bytes) in
        [("cache.bytes_per_worker", raw.bytes_per_worker), ("cache.host_bytes", raw.host_bytes)]
    {
        if bytes.0 < CACHE_MIN {
            let remedy = "Give at least \"1MiB\"; to keep nothing, set cache.enabled = false";
            return Err(Problem::new(key, format!("{bytes} is too little to hold a cache"), remedy));
        }
    }
    let day = TimeSpan::secs(86_400);
    let min = within("cache.min_ttl", raw.min_ttl, [TimeSpan::secs(0), day], "Give \"0s\" to \"1d\"")?;
    let max = within(
        "cache.max_ttl",
        raw.max_ttl,
        [TimeSpan::secs(1), TimeSpan::secs(7 * 86_400)],
        "Give \"1s\" to \"7d\"",
    )?;
    if min > max {
        let reason = format!("{} is more than cache.max_ttl, {}", raw.min_ttl, raw.max_ttl);
        return Err(Problem::new("cache.min_ttl", reason, "Lower it, or raise cache.max_ttl"));
    }
    let negative_max = within(
        "cache.negative_max_ttl",
        raw.negative_max_ttl,
        [TimeSpan::secs(0), NEGATIVE_MAX],
        "Give at most \"3h\" (RFC 2308)",
    )?;
    let stale_max = within(
        "cache.stale_max",
        raw.stale_max,
        [TimeSpan::secs(1), STALE_MAX],
        "Give \"1s\" to \"7d\"; to serve no stale answers, set cache.serve_stale = false",
    )?;
    let stale_client_timeout = within(
        "cache.stale_client_timeout",
        raw.stale_client_timeout,
        [TimeSpan::secs(0), TimeSpan::secs(5)],
        "Give \"0s\" to \"5s\"; clients do not wait longer",
    )?;
    let stale_ttl = within(
        "cache.stale_ttl",
        raw.stale_ttl,
        [TimeSpan::secs(1), TimeSpan::secs(3_600)],
        "Give \"1s\" to \"1h\"; RFC 8767 advises \"30s\"",
    )?;
    let failure_ttl =
        within("cache.failure_ttl", raw.failure_ttl, FAILURE_TTL, "Give \"1s\" to \"5m\" (RFC 9520)")?;
    Ok(CacheConfig {
        enabled: raw.enabled,
        bytes_per_worker: raw.bytes_per_worker.0,
        host_bytes: raw.host_bytes.0,
        min_ttl: secs(min),
        max_ttl: secs(max),
        negative_max_ttl: secs(negative_max),
        stale_max: if raw.serve_stale { secs(stale_max) } else { 0 },
        stale_client_timeout,
        stale_ttl: secs(stale_ttl),
        failure_ttl: secs(failure_ttl),
    })
}

fn tcp(raw: RawTcp) -> Result<TcpConfig, Problem> {
    for (key, value, most) in [
        ("tcp.connections", raw.connections, CONNECTIONS_MAX),
        ("tcp.connections_per_client", raw.connections_per_client, CONNECTIONS_MAX),
        ("tcp.in_flight", raw.in_flight, IN_FLIGHT_MAX),
    ] {
        if value == 0 || value > most {
            let remedy = format!("Give 1 to {most}; TCP cannot be turned off (RFC 9210)");
            return Err(Problem::new(key, format!("{value} is not possible"), remedy));
        }
    }
    let idle = [TimeSpan::secs(1), TimeSpan::secs(3_600)];
    Ok(TcpConfig {
        connections: raw.connections,
        connections_per_client: raw.connections_per_client.min(raw.connections),
        in_flight: raw.in_flight,
        idle: within(
            "tcp.idle",
            raw.idle,
            idle,
            "Give \"1s\" to \"1h\"; some seconds are enough (RFC 7766)",
        )?,
    })
}

/// Checks a name that clients are told.
fn name(key: &str, name: Option<String>) -> Result<Option<String>, Problem> {
    match name {
        Some(name) if name.is_empty() || name.len() > NSID_MAX => {
            let reason = format!("{} bytes are too few or too many for a name", name.len());
            Err(Problem::new(key, reason, format!("Give 1 to {NSID_MAX} bytes, or remove the key")))
        }
        name => Ok(name),
    }
}

fn access(raw: RawAccess) -> Result<AccessConfig, Problem> {
    Ok(AccessConfig {
        allow: prefixes("access.allow", &raw.allow)?,
        deny: prefixes("access.deny", &raw.deny)?,
        refusal: match raw.refused {
            Refused::Answer => Refusal::Answer,
            Refused::Drop => Refusal::Drop,
        },
    })
}

/// Parses prefixes and single addresses.
pub(super) fn prefixes(key: &str, texts: &[String]) -> Result<Vec<Prefix>, Problem> {
    let prefix = |(i, text): (usize, &String)| {
        text.parse().map_err(|error| {
            let remedy = "Write \"198.51.100.0/22\", \"2001:db8::/32\" or a single address";
            Problem::new(format!("{key}[{i}]"), format!("{text:?}: {error}"), remedy)
        })
    };
    texts.iter().enumerate().map(prefix).collect()
}

fn cookies(raw: RawCookies) -> CookieConfig {
    CookieConfig {
        enabled: raw.enabled,
        secret_file: raw.secret_file.map(Into::into),
        require_over_udp: raw.require == Require::Udp,
    }
}

fn control(raw: RawControl) -> Result<ControlConfig, Problem> {
    // Size of `sun_path` less its closing zero.
    if raw.socket.is_empty() || raw.socket.len() > 107 {
        let reason = "the path is empty or longer than the 107 bytes that a Unix socket can have";
        return Err(Problem::new(
            "control.socket",
            reason,
            "Give a short path, such as /run/ringdns/control.sock",
        ));
    }
    let http = raw.http.map(|text| {
        text.parse().map_err(|_| {
            let reason = format!("{text:?} is no IP address with a port");
            Problem::new("control.http", reason, "Write \"127.0.0.1:8053\", or remove the key to turn it off")
        })
    });
    let http = http.transpose()?;
    if raw.profiles_over_http && http.is_none() {
        let remedy = "Set control.http, or remove the key: the Unix socket always serves them";
        return Err(Problem::new(
            "control.profiles_over_http",
            "there is no HTTP address to serve profiles at",
            remedy,
        ));
    }
    Ok(ControlConfig { socket: raw.socket.into(), http, profiles_over_http: raw.profiles_over_http })
}
