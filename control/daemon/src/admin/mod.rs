//! HTTP API: complete over the Unix socket for `ringctl`; over TCP, for monitoring, the part that
//! changes nothing and shows neither names nor clients.
//!
//! Every error is JSON, `{"error": reason}`. A request that is no HTTP gets a bare status.
//!
//! | route | answer or effect |
//! |---|---|
//! | `GET /status` | state of the daemon and its upstreams |
//! | `GET /stats` | every counter, as JSON |
//! | `GET /metrics` | every counter, for Prometheus |
//! | `GET /healthz` | 200, or 503 before ringdnsd answers queries and after that |
//! | `GET /readyz` | 200, or 503 with the reason while clients should not be sent here (`control.ready_requires`) |
//! | `GET /cache/entry?name=&type=` | entries of a name in the host tier; Unix socket only |
//! | `GET /histogram?format=text\|log&outcome=` | service times |
//! | `GET /histogram?format=text\|log&upstream=` | response times of an upstream |
//! | `GET /sweeps?last=` | sweeps of the host tier and of Redis: sum of the last day, and the last ones |
//! | `GET /log/tap` | the query log, live: rows as JSON, one per line; Unix socket only |
//! | `GET /debug/pprof/heap` | memory in use by function, for pprof; TCP too if `control.profiles_over_http` |
//! | `GET /debug/pprof/profile?seconds=` | CPU time by function, for pprof; served like `heap` |
//! | `GET /policy/lists` | state of each list; Unix socket only |
//! | `GET /policy/test?name=&type=&client=&group=` | verdict of the lists on a question; Unix socket only |
//! | `GET /policy/overrides` | names that operators block or allow, and pauses; Unix socket only |
//! | `POST /policy/override?name=&action=&group=&seconds=` | blocks or allows a name; Unix socket only |
//! | `POST /policy/clear?name=&group=` | removes an override; Unix socket only |
//! | `POST /policy/pause?group=&client=&seconds=`, `/policy/resume?group=&client=` | pauses lists, ends it; Unix socket only |
//! | `POST /policy/refresh?name=` | downloads a list, or all without a name; Unix socket only |
//! | `GET /policy/bans` | prefixes that are banned, since they are far above the rate limit; Unix socket only |
//! | `GET /policy/floods` | zones that are capped because of floods of random names; Unix socket only |
//! | `GET /v1/names?address=` | names that resolved to an address; Unix socket only |
//! | `GET /logging` | levels of the log; Unix socket only |
//! | `POST /logging?filter=&seconds=` | changes them, for a time; without a filter, back to the usual ones; Unix socket only |
//! | `GET /v1/explain?name=&type=&client=&group=` | what would become of a query; Unix socket only |
//! | `POST /reload` | reloads the configuration; Unix socket only |
//! | `POST /cache/purge?name=` \| `?suffix=` \| `?all=true` | purges the cache; Unix socket only |

mod cache;
mod explain;
mod exposition;
mod guard;
mod logging;
mod metrics;
mod names;
mod overrides;
mod policy;
mod problems;
mod profile;
mod server;
mod stats;
mod upkeep;
mod upstreams;

use crate::{
    bans::Bans,
    firewall::Firewall,
    latency::{self, LatencyCollector},
    lists::ListKeeper,
    logging::LogLevels,
    nic::Receiving,
    process::resource_usage,
    reload::Reloader,
};
use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use exposition::TextFormat;
use guard::{ApiError, Parameters, Turns};
use hdrhistogram::Histogram;
pub use problems::Problems;
use ringdns_api::{DaemonStatus, Sweeps};
use ringdns_common::{counters, counters::Total};
use ringdns_config::Config;
use ringdns_dataplane::{clock::Clock, latency::Outcome, punt::Link};
use ringdns_dnstap::Dnstap;
use ringdns_fleet::Fleet;
use ringdns_querylog::QueryLog;
use ringdns_resolver::{Resolver, snapshot::Snapshot, sweep::Sweeper};
use ringdns_xdp::Verdicts;
use serde::Deserialize;
use server::Door;
use std::{
    io,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    net::{TcpListener, UnixListener},
    task::spawn_blocking,
};

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
    /// dnstap output; `None`: there is none.
    pub tap: Option<Arc<Dnstap>>,
    /// Sweeper of the host tier.
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

/// Returns the read-only routes, which show neither names nor clients. At most one request at a
/// time is answered: they run on the threads that serve misses.
fn reading() -> Router<Arc<Service>> {
    let costly = Router::new()
        .route("/status", get(status))
        .route("/stats", get(async |State(service): SharedService| Json(service.stats())))
        .route("/metrics", get(metrics))
        .route("/histogram", get(histogram))
        .route("/sweeps", get(sweeps))
        .route_layer(from_fn_with_state(Turns::default(), in_turn));
    costly.route("/healthz", get(healthz)).route("/readyz", get(readyz))
}

/// Returns the routes of profiles. These reveal much about the process, and cost it time.
fn profiles() -> Router<Arc<Service>> {
    Router::new()
        .route("/debug/pprof/heap", get(profile::heap))
        .route("/debug/pprof/profile", get(profile::cpu))
}

/// Returns the routes for the owner of the Unix socket: they change something, or show what clients
/// ask for.
fn owners() -> Router<Arc<Service>> {
    Router::new()
        .route("/cache/entry", get(cache::entry))
        .route("/cache/purge", post(cache::purge))
        .route("/policy/overrides", get(overrides::list))
        .route("/policy/override", post(overrides::add))
        .route("/policy/clear", post(overrides::clear))
        .route("/policy/pause", post(overrides::pause))
        .route("/policy/resume", post(overrides::resume))
        .route("/policy/lists", get(policy::lists))
        .route("/policy/refresh", post(policy::refresh))
        .route("/policy/test", get(policy::test))
        .route("/policy/bans", get(policy::bans))
        .route("/policy/floods", get(policy::floods))
        .route("/v1/names", get(names::of_address))
        .route("/v1/explain", get(explain::explain))
        .route("/reload", post(reload))
        .route("/log/tap", get(tap))
        .route("/logging", get(logging::show).post(logging::set))
}

/// Answers a request when it is its turn.
async fn in_turn(State(turns): State<Turns>, request: Request, next: Next) -> Result<Response, ApiError> {
    let _turn = turns.take().await?;
    Ok(next.run(request).await)
}

/// Adds the state and the errors that have no route.
fn complete(routes: Router<Arc<Service>>, service: Arc<Service>) -> Router {
    let routes = routes.fallback(guard::not_found).method_not_allowed_fallback(guard::not_allowed);
    routes.with_state(service)
}

/// Serves the whole API until the task is dropped.
pub async fn serve_socket(listener: UnixListener, service: Arc<Service>) -> io::Result<()> {
    let routes = reading().merge(profiles()).merge(owners());
    Door::of_socket(complete(routes, service.clone()), service).serve_socket(listener).await
}

/// Serves the read-only part, and profiles if the configuration says so, until the task is dropped.
pub async fn serve_http(listener: TcpListener, service: Arc<Service>) -> io::Result<()> {
    let profiles = if service.config.control.profiles_over_http { profiles() } else { Router::new() };
    let routes = reading().merge(profiles);
    Door::of_http(complete(routes, service.clone()), service).serve_http(listener).await
}

/// Serves one connection to its end, over the Unix socket or over TCP. Leaves out profiles, which
/// take the time that they are asked for.
#[cfg(fuzzing)]
pub async fn serve_one<S>(stream: S, service: Arc<Service>, over_socket: bool)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let door = match over_socket {
        true => Door::of_socket(complete(reading().merge(owners()), service.clone()), service),
        false => Door::of_http(complete(reading(), service.clone()), service),
    };
    door.serve_one(stream).await;
}

async fn status(State(service): SharedService) -> Json<DaemonStatus> {
    let now = service.clock.nanos();
    let upstreams = service.resolver.upstreams();
    let obstacle = service.obstacle();
    Json(DaemonStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_secs: service.clock.secs(),
        ready: obstacle.is_none(),
        obstacle,
        receiving: service.receiving.to_string(),
        problems: service.problems.of(&service),
        listen: service.config.server.listen.iter().map(ToString::to_string).collect(),
        workers: service.links.len(),
        process: resource_usage().ok(),
        upstreams: upstreams.iter().map(|upstream| upstreams::status(upstream, now)).collect(),
        trust_points: service.resolver.trust_points(),
    })
}

async fn healthz(State(service): SharedService) -> Result<&'static str, ApiError> {
    service.ready.load(Ordering::Acquire).then_some("ok\n").ok_or_else(|| ApiError::busy(NOT_READY))
}

async fn readyz(State(service): SharedService) -> Result<&'static str, ApiError> {
    service.obstacle().map_or(Ok("ok\n"), |obstacle| Err(ApiError::busy(obstacle)))
}

async fn metrics(State(service): SharedService, headers: HeaderMap) -> Result<Response, ApiError> {
    let format = TextFormat::accepted(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()));
    let latencies = service.latencies.total().await.map_err(ApiError::failed)?;
    let families = metrics::families(&service, &latencies);
    Ok(([(CONTENT_TYPE, format.content_type())], families.text(format)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SweepsQuery {
    #[serde(default)]
    last: usize,
}

async fn sweeps(State(service): SharedService, Parameters(query): Parameters<SweepsQuery>) -> Json<Sweeps> {
    let fleet = service.fleet.as_ref().map(|fleet| fleet.swept(query.last));
    Json(Sweeps { host: service.sweeper.told(query.last), fleet })
}

async fn reload(State(service): SharedService) -> Result<Response, ApiError> {
    // The reloader takes one at a time; more that wait would each take a thread.
    static TURNS: LazyLock<Turns> = LazyLock::new(Turns::default);
    let turn = TURNS.take().await?;
    let reloading = spawn_blocking(move || {
        let _turn = turn;
        service.reloader.reload()
    });
    let reloaded = reloading.await.map_err(ApiError::failed)?;
    reloaded.map(|reloaded| Json(reloaded).into_response()).map_err(ApiError::bad)
}

/// Streams rows of the query log. They reveal which client asks for what, so only the owner of the
/// socket can read them.
async fn tap(State(service): SharedService) -> Result<Response, ApiError> {
    let Some(log) = &service.log else {
        let reason = "the query log is disabled: set query_log.enabled = true";
        return Err(ApiError(StatusCode::CONFLICT, reason.into()));
    };
    let enough = || ApiError::busy("too many taps are open: close another one");
    let rows = log.taps.open().ok_or_else(enough)?;
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(rows)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistogramQuery {
    #[serde(default)]
    format: ExportFormat,
    outcome: Option<String>,
    upstream: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ExportFormat {
    #[default]
    Text,
    Log,
}

async fn histogram(
    State(service): SharedService,
    Parameters(query): Parameters<HistogramQuery>,
) -> Result<Response, ApiError> {
    if let Some(address) = &query.upstream {
        if query.outcome.is_some() {
            return Err(ApiError::bad(
                "outcome= is for clients' queries, upstream= for an upstream's answers: give one of the two",
            ));
        }
        let times = upstreams::find(&service, address)?.times();
        return export(&[(address, &times)], query.format, &service);
    }
    let outcomes: Vec<Outcome> = match &query.outcome {
        None => Outcome::ALL.into(),
        Some(label) => {
            let known = Outcome::ALL.into_iter().find(|outcome| outcome.label() == label);
            vec![known.ok_or_else(|| {
                ApiError::bad(format!("no outcome is called {label:?}: use hit, stale or miss"))
            })?]
        }
    };
    let total = service.latencies.total().await.map_err(ApiError::failed)?;
    let histograms: Vec<_> = outcomes.iter().map(|outcome| (outcome.label(), total.get(*outcome))).collect();
    export(&histograms, query.format, &service)
}

/// Exports histograms of nanoseconds in a format that HdrHistogram's tools read.
fn export(
    histograms: &[(&str, &Histogram<u64>)],
    format: ExportFormat,
    service: &Service,
) -> Result<Response, ApiError> {
    match format {
        ExportFormat::Log => {
            let bytes = latency::log(histograms, service.latencies.since()).map_err(ApiError::failed)?;
            Ok(bytes.into_response())
        }
        ExportFormat::Text => {
            // A plotter reads one histogram per file; with several, comment lines separate them for
            // people.
            let mut text = String::new();
            for (name, histogram) in histograms {
                if histograms.len() > 1 {
                    text += &format!("# {name}, microseconds\n");
                }
                text += &latency::percentiles(histogram);
            }
            Ok(text.into_response())
        }
    }
}

#[cfg(test)]
mod tests;
