//! The resolver against upstreams on loopback that fail, lie and dawdle.

use super::*;
use crate::{
    config::{Cache, Config, Upstream},
    fake_upstream::{FakeUpstream, Over, Say, a_record, response},
    names,
};
use ringdns_dataplane::{
    dns::{header, query::Query},
    doorbell::Doorbell,
    packet::Envelope,
    port::Checksums,
};
use std::{
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

const LONG: Duration = Duration::from_secs(5);

fn cache() -> Cache {
    Cache { bytes_per_worker: 1 << 20, host_bytes: 1 << 20, ..config(&[], "").cache }
}

fn upstream(address: SocketAddr, timeout: Duration) -> Upstream {
    let text = format!("[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"{address}\"\n");
    let config = Config::parse(&text, Path::new("test")).unwrap();
    Upstream { timeout, ..config.upstreams[0].clone() }
}

/// A configuration with these upstreams and `more` tables.
fn config(upstreams: &[Upstream], more: &str) -> Config {
    let text = "[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"127.0.0.1:54\"\n";
    let config = Config::parse(&format!("{text}{more}"), Path::new("test")).unwrap();
    Config { upstreams: upstreams.to_vec(), ..config }
}

fn resolver_of(config: &Config, limits: Limits) -> Arc<Resolver> {
    let host = Arc::new(HostTier::new(config.cache.host_bytes, Arc::new(AtomicU64::new(0))));
    Resolver::new(host, config, Clock::start(), limits)
}

fn resolver_with(upstreams: &[Upstream], cache: Cache, limits: Limits) -> Arc<Resolver> {
    resolver_of(&Config { cache, ..config(upstreams, "") }, limits)
}

fn resolver(upstreams: &[Upstream]) -> Arc<Resolver> {
    resolver_with(upstreams, cache(), Limits::default())
}

fn key(name: &str) -> Key {
    names::key(&names::name(name).unwrap(), 1, false, false).unwrap()
}

fn rcode_of(resolved: &Resolved) -> u8 {
    resolved.answer.status.rcode()
}

/// An address that queries come back from as unreachable: its socket listens to itself alone.
fn nowhere() -> (std::net::UdpSocket, SocketAddr) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    socket.connect(address).unwrap();
    (socket, address)
}

/// A counter of the resolver's first upstream.
fn count(resolver: &Resolver, name: &str) -> u64 {
    let upstream = resolver.upstreams().iter().next().unwrap();
    upstream.counters.totals().iter().find(|t| t.name == name).unwrap().value
}

mod asking;
mod flights;
mod punts;
mod sockets;
