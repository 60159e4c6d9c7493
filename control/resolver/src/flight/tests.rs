//! Resolver against upstreams on loopback that fail, lie and answer late.

use super::*;
use parking_lot::Mutex;
use ringdns_common::names;
use ringdns_config::{CacheConfig, Config, UpstreamConfig};
use ringdns_dataplane::{
    checksum::Checksums,
    dns::{header, query::Query, reply::Age},
    doorbell::Doorbell,
    packet::Envelope,
};
use ringdns_testkit::async_upstream::{FakeUpstream, Over, Say, a_record, response};
use std::{
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

const LONG: Duration = Duration::from_secs(5);

fn cache() -> CacheConfig {
    CacheConfig { bytes_per_worker: 1 << 20, host_bytes: 1 << 20, ..config(&[], "").cache }
}

fn upstream(address: SocketAddr, timeout: Duration) -> UpstreamConfig {
    let text = format!("[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"{address}\"\n");
    let config = Config::parse(&text, Path::new("test")).unwrap();
    UpstreamConfig { timeout, ..config.upstreams[0].clone() }
}

/// A configuration with these upstreams and `more` tables.
fn config(upstreams: &[UpstreamConfig], more: &str) -> Config {
    let text = "[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"127.0.0.1:54\"\n";
    let config = Config::parse(&format!("{text}{more}"), Path::new("test")).unwrap();
    Config { upstreams: upstreams.to_vec(), ..config }
}

fn resolver_of(config: &Config, limits: FlightLimits) -> Arc<Resolver> {
    let host = Arc::new(HostTier::new(config.cache.host_bytes, Arc::new(AtomicU64::new(0))));
    Resolver::new(host, config, Clock::start(), limits, None)
}

fn resolver_with(upstreams: &[UpstreamConfig], cache: CacheConfig, limits: FlightLimits) -> Arc<Resolver> {
    resolver_of(&Config { cache, ..config(upstreams, "") }, limits)
}

fn resolver(upstreams: &[UpstreamConfig]) -> Arc<Resolver> {
    resolver_with(upstreams, cache(), FlightLimits::default())
}

fn key(name: &str) -> Key {
    names::key(&names::name(name).unwrap(), 1, false, false).unwrap()
}

fn rcode_of(resolved: &Resolved) -> u8 {
    resolved.answer.status.rcode()
}

/// Address that is unreachable for queries: its socket is connected to itself.
fn nowhere() -> (std::net::UdpSocket, SocketAddr) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    socket.connect(address).unwrap();
    (socket, address)
}

/// A counter of the resolver's first upstream.
fn count(resolver: &Resolver, name: &str) -> u64 {
    let upstream = resolver.upstreams().iter().next().unwrap().clone();
    upstream.counters.totals().iter().find(|t| t.name == name).unwrap().value
}

/// A query as an upstream sees it.
#[derive(Clone, Debug)]
struct Seen {
    over: Over,
    /// The name as it is spelled.
    name: Vec<u8>,
    qtype: u16,
    edns: bool,
    dnssec_ok: bool,
    cookie: Option<Vec<u8>>,
}

impl Seen {
    fn of(query: &[u8], over: Over) -> Self {
        let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
        let opt = (query[11] == 1).then(|| &query[end + 4..]);
        // The OPT of our queries holds a cookie or nothing, padding apart.
        let cookie = opt.filter(|opt| opt.len() > 15 && opt[11..13] == [0, 10]);
        Seen {
            over,
            name: query[12..end].to_vec(),
            qtype: u16::from_be_bytes([query[end], query[end + 1]]),
            edns: opt.is_some(),
            dnssec_ok: opt.is_some_and(|opt| opt[7] & 0x80 != 0),
            cookie: cookie.map(|opt| opt[15..15 + usize::from(opt[14])].to_vec()),
        }
    }

    fn is_for(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(&names::name(name).unwrap())
    }
}

/// Queries that an upstream received.
type Log = Arc<Mutex<Vec<Seen>>>;

/// Returns an upstream that logs its queries and answers each by `script` or not at all.
async fn playing(
    script: impl Fn(&Seen, &[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> (FakeUpstream, Log) {
    let log = Log::default();
    let seen_so_far = log.clone();
    let fake = FakeUpstream::start(move |query, over| {
        let seen = Seen::of(query, over);
        seen_so_far.lock().push(seen.clone());
        script(&seen, query).into_iter().map(Say::Send).collect()
    })
    .await;
    (fake, log)
}

/// Adds an OPT record to a message, with these upper bits of the response code and these options.
fn with_opt(mut message: Vec<u8>, rcode_high: u8, options: &[u8]) -> Vec<u8> {
    message[11] += 1;
    message.extend([0, 0, 41, 4, 208, rcode_high, 0, 0, 0, 0, options.len() as u8]);
    message.extend(options);
    message
}

/// A record of the name asked for.
fn record(rtype: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    record_of(&[0xc0, 12], rtype, ttl, data)
}

fn record_of(owner: &[u8], rtype: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = owner.to_vec();
    record.extend(rtype.to_be_bytes());
    record.extend([0, 1]);
    record.extend(ttl.to_be_bytes());
    record.extend((data.len() as u16).to_be_bytes());
    record.extend(data);
    record
}

/// A resolver for these upstreams and `more` tables.
fn resolver_for(upstreams: &[UpstreamConfig], more: &str) -> Arc<Resolver> {
    let config = config(upstreams, more);
    resolver_of(&Config { cache: cache(), ..config }, FlightLimits::default())
}

/// A counter of one of the upstreams.
fn count_of(resolver: &Resolver, number: usize, name: &str) -> u64 {
    let totals = resolver.upstreams().get(number).counters.totals();
    totals.iter().find(|total| total.name == name).unwrap().value
}

fn key_of(name: &str, qtype: u16, dnssec_ok: bool) -> Key {
    names::key(&names::name(name).unwrap(), qtype, dnssec_ok, false).unwrap()
}

mod answers;
mod asking;
mod chasing;
mod choosing;
mod cookies;
mod edns;
mod flights;
mod hedging;
mod hints;
mod letters;
mod lifetimes;
mod punts;
mod sockets;
mod validation;
