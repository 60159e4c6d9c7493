//! HTTP API: over the Unix socket for all who can open it, over TCP for those who have a token
//! ([`caller`]). [`routes`] has its paths and the role that each needs; `docs/api.md` describes it for
//! its users.
//!
//! Every error is JSON, `{"error": reason}`. A request that is no HTTP gets a bare status.

mod audit;
mod busiest;
mod cache;
mod caller;
mod capture;
mod config;
mod console;
mod doctor;
mod dump;
mod explain;
mod exposition;
mod filter;
mod guard;
mod history;
mod listing;
mod logging;
mod metrics;
mod misses;
mod names;
mod overrides;
mod policy;
mod problems;
mod profile;
mod routes;
mod rows;
mod server;
mod stall;
mod stats;
mod streamed;
mod upkeep;
mod upstreams;
mod views;

use crate::{
    bans::Bans, busiest::Busiest, firewall::Firewall, latency::LatencyCollector, lists::ListKeeper,
    logging::LogLevels, nic::Receiving, reload::Reloader,
};
pub use audit::AuditLog;
use axum::extract::State;
use guard::{ApiError, Parameters};
pub use history::Chronicle;
pub use problems::Problems;
pub use ringdns_capture::Captures;
use ringdns_common::{counters, counters::Total};
use ringdns_config::Config;
use ringdns_dataplane::{clock::Clock, punt::Link};
use ringdns_dnstap::Dnstap;
use ringdns_fleet::Fleet;
use ringdns_querylog::QueryLog;
use ringdns_resolver::{Resolver, snapshot::Snapshot, sweep::Sweeper};
use ringdns_xdp::Verdicts;
use routes::router;
use server::Door;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::net::{TcpListener, UnixListener};

/// Obstacle that is reported until everything is up, and during a stop.
const NOT_READY: &str = "ringdnsd is starting or stopping";
/// Obstacle that is reported while a stop waits for clients to be sent elsewhere.
const DRAINING: &str = "ringdnsd stops soon, and answers until then (control.drain)";

counters! {
    /// Counters of the API.
    ApiCounters {
        /// Connections of the API accepted, over the Unix socket and over TCP.
        connections,
        /// Connections of the API refused because the limit was reached and all were at work.
        connections_refused,
        /// Connections of the API that had sent no request, closed in favour of new ones because the
        /// limit was reached.
        connections_displaced,
        /// Connections of the API closed because the request came, or the answer was read, too
        /// slowly.
        connections_late,
        /// Requests of the API.
        requests,
        /// Requests of the API answered with an error because they are malformed, unknown or not
        /// allowed.
        requests_refused,
        /// Requests of the API over TCP answered with 401 or 403: without a token of the role that they
        /// need, or sent by a page of another origin.
        requests_unauthorized,
        /// Connections of the API that ended in an error, or sent what is no HTTP.
        requests_malformed,
    }
}

/// State that the API serves.
pub struct Service {
    /// Configuration from the start of the process.
    pub config: Config,
    /// Clock of the process.
    pub clock: Clock,
    /// Way in which packets are received, and the reason for it.
    pub receiving: Arc<Receiving>,
    /// Conditions that an operator should know of.
    pub problems: Problems,
    /// Links to the workers.
    pub links: Vec<Arc<Link>>,
    /// Host tier and upstreams.
    pub resolver: Arc<Resolver>,
    /// Redis tier, if one is configured.
    pub fleet: Option<Arc<Fleet>>,
    /// Service times.
    pub latencies: LatencyCollector,
    /// Reads the counters of the XDP program, if there is one.
    pub verdicts: Box<dyn Fn() -> Option<Verdicts> + Send + Sync>,
    /// Reads the counters of the TCP and kernel UDP listeners.
    pub listeners: Box<dyn Fn() -> Vec<Total> + Send + Sync>,
    /// Query log, if it is enabled.
    pub log: Option<Arc<QueryLog>>,
    /// Busiest names, zones and clients.
    pub busiest: Arc<Busiest>,
    /// Points of the last day.
    pub chronicle: Chronicle,
    /// dnstap output; `None`: there is none.
    pub tap: Option<Arc<Dnstap>>,
    /// Captures of packets.
    pub captures: Captures,
    /// Sweeper of the host cache.
    pub sweeper: Arc<Sweeper>,
    /// Snapshot on disk, if one is configured.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Reloader of the configuration.
    pub reloader: Reloader,
    /// Lists and their upkeep.
    pub lists: Arc<ListKeeper>,
    /// Prefixes whose queries the XDP program drops.
    pub bans: Arc<Bans>,
    /// Addresses of names, if firewalls are to know them.
    pub firewall: Option<Arc<Firewall>>,
    /// Whether ringdnsd answers the queries that reach it.
    pub ready: AtomicBool,
    /// Whether ringdnsd was told to stop, and answers for a while longer.
    pub draining: AtomicBool,
    /// Levels of the log.
    pub levels: LogLevels,
    /// Changes that were asked for.
    pub audit: Arc<AuditLog>,
    /// Counters of the API.
    pub api: ApiCounters,
}

impl Service {
    /// Returns every counter as JSON.
    pub fn stats(&self) -> serde_json::Value {
        stats::all(self)
    }

    /// Returns the reason why clients should not be sent here, if there is one.
    fn obstacle(&self) -> Option<String> {
        if !self.ready.load(Ordering::Acquire) {
            return Some(NOT_READY.into());
        }
        if self.draining.load(Ordering::Acquire) {
            return Some(DRAINING.into());
        }
        self.problems.obstacle(self)
    }
}

type SharedService = State<Arc<Service>>;

/// Serves the API over the Unix socket until the task is dropped.
pub async fn serve_socket(listener: UnixListener, service: Arc<Service>) -> io::Result<()> {
    Door::of_socket(router(&service, false), service).serve_socket(listener).await
}

/// Serves the API over TCP until the task is dropped.
pub async fn serve_http(listener: TcpListener, service: Arc<Service>) -> io::Result<()> {
    Door::of_http(router(&service, true), service).serve_http(listener).await
}

/// Serves one connection to its end, over the Unix socket or over TCP without a token.
#[cfg(any(test, fuzzing))]
pub async fn serve_one<S>(stream: S, service: Arc<Service>, over_socket: bool)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let loopback = std::net::IpAddr::from(std::net::Ipv4Addr::LOCALHOST);
    let (door, peer) = match over_socket {
        true => (Door::of_socket(router(&service, false), service), caller::Peer::Socket { uid: None }),
        false => {
            let peer = caller::Peer::Http { client: (loopback, 1).into(), local: Some(loopback) };
            (Door::of_http(router(&service, true), service), peer)
        }
    };
    door.serve_one(stream, peer).await;
}

#[cfg(test)]
mod tests;
