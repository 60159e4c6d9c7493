//! Resolver against upstreams on loopback that fail, lie and answer late.

use super::*;
use crate::{pump, resolved::Client};
use ringdns_common::{names, shared_core};
use ringdns_config::{CacheConfig, Config, UpstreamConfig};
use ringdns_dataplane::{
    checksum::Checksums,
    dns::{header, query::Query, rcode, reply::Age},
    doorbell::Doorbell,
    group::{Group, GroupSet},
    packet::Envelope,
};
use ringdns_testkit::{Asked, Gate, Host, Over, Say, Seen, Upstream};
use std::{
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

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
    let host = Arc::new(HostTier::new(config.cache.host_bytes, Arc::default()));
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

/// Returns a client of the default group.
fn client(address: &str) -> Client {
    Client { address: address.parse().unwrap(), group: Group::DEFAULT }
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

/// Returns an upstream that answers each query by `script` or not at all.
fn playing(script: impl Fn(&Seen) -> Option<Vec<u8>> + Send + Sync + 'static) -> Upstream {
    Upstream::local(move |seen| script(seen).into_iter().map(Say::Send).collect())
}

/// Returns an upstream that answers with this response code.
fn failing(rcode: u8) -> Upstream {
    playing(move |seen| Some(seen.query.response(rcode.into(), &[])))
}

/// Returns an upstream whose answers wait until the test opens the gate.
fn gated() -> (Upstream, Gate) {
    let gate = Gate::default();
    let inner = gate.clone();
    let fake = playing(move |seen| {
        inner.pass();
        Some(seen.query.answer(60))
    });
    (fake, gate)
}

/// Returns an answer without its last byte.
fn broken(query: &Asked) -> Vec<u8> {
    let mut message = query.answer(60);
    message.pop();
    message
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

mod anchors;
mod answers;
mod asking;
mod capped;
mod chasing;
mod choosing;
mod cookies;
mod denied;
mod dns64;
mod edns;
mod flights;
mod forged;
mod grouped;
mod heavy;
mod hedging;
mod hints;
mod led;
mod letters;
mod lifetimes;
mod policed;
mod punts;
mod rebinding;
mod sockets;
mod spread;
mod validation;
mod viewed;
mod watched;
