//! Answers about the process: state, counters, service times, sweeps, the live query log; reload.

use super::{
    NOT_READY, Service, SharedService,
    exposition::TextFormat,
    filter::FilterQuery,
    guard::{ApiError, Parameters, Turns},
    upstreams,
};
use crate::{latency, process::resource_usage};
use axum::{
    Json,
    body::Body,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use hdrhistogram::Histogram;
use ringdns_api::{DaemonStatus, Refused, Reloaded, Sweeps};
use ringdns_dataplane::latency::Outcome;
use serde::Deserialize;
use std::{
    borrow::Cow,
    sync::{LazyLock, atomic::Ordering},
};
use tokio::task::spawn_blocking;
use utoipa::{IntoParams, ToSchema};

/// Answers with the state of the daemon, its problems and its upstreams.
#[utoipa::path(
    get,
    path = "/v1/status",
    operation_id = "status",
    responses((status = 200, description = "Answer", body = DaemonStatus)),
)]
pub(super) async fn status(State(service): SharedService) -> Json<DaemonStatus> {
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

/// Answers 200, or 503 before ringdnsd answers queries and after that.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "healthz",
    responses((status = 200, description = "Answer", body = String, content_type = "text/plain")),
)]
pub(super) async fn healthz(State(service): SharedService) -> Result<&'static str, ApiError> {
    service.ready.load(Ordering::Acquire).then_some("ok\n").ok_or_else(|| ApiError::busy(NOT_READY))
}

/// Answers 200, or 503 with the reason while clients should not be sent here.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    responses((status = 200, description = "Answer", body = String, content_type = "text/plain")),
)]
pub(super) async fn readyz(State(service): SharedService) -> Result<&'static str, ApiError> {
    service.obstacle().map_or(Ok("ok\n"), |obstacle| Err(ApiError::busy(obstacle)))
}

/// Answers with every counter, for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    responses(
        (status = 200, description = "Answer", content((String = "text/plain"), (String = "application/openmetrics-text"))),
    ),
)]
pub(super) async fn metrics(State(service): SharedService, headers: HeaderMap) -> Result<Response, ApiError> {
    let format = TextFormat::accepted(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()));
    let latencies = service.latencies.total().await.map_err(ApiError::failed)?;
    let families = super::metrics::families(&service, &latencies);
    Ok(([(CONTENT_TYPE, format.content_type())], families.text(format)).into_response())
}

/// Answers with every counter.
#[utoipa::path(
    get,
    path = "/v1/stats",
    operation_id = "stats",
    responses((status = 200, description = "Answer", body = serde_json::Value)),
)]
pub(super) async fn stats(State(service): SharedService) -> Json<serde_json::Value> {
    Json(service.stats())
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct SweepsQuery {
    /// Number of the last sweeps to show one by one.
    #[serde(default)]
    last: usize,
}

/// Answers with sweeps of the host cache and of Redis: sum of the last day, and the last ones.
#[utoipa::path(
    get,
    path = "/v1/sweeps",
    operation_id = "sweeps",
    params(SweepsQuery),
    responses((status = 200, description = "Answer", body = Sweeps)),
)]
pub(super) async fn sweeps(
    State(service): SharedService,
    Parameters(query): Parameters<SweepsQuery>,
) -> Json<Sweeps> {
    let fleet = service.fleet.as_ref().map(|fleet| fleet.swept(query.last));
    Json(Sweeps { host: service.sweeper.told(query.last), fleet })
}

/// Reads the configuration again, and answers with the tables that took effect.
#[utoipa::path(
    post,
    path = "/v1/reload",
    operation_id = "reload",
    responses((status = 200, description = "Answer", body = Reloaded)),
)]
pub(super) async fn reload(State(service): SharedService) -> Result<Response, ApiError> {
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TapQuery {
    // Whatever is no field of either struct is refused.
    #[serde(flatten)]
    filter: FilterQuery,
}

/// Streams rows of the query log, as far as they pass the filter. They reveal which client asks for what,
/// so a role is needed.
#[utoipa::path(
    get,
    path = "/v1/log/tap",
    operation_id = "tap",
    params(FilterQuery),
    responses(
        (status = 200, description = "Answer", body = String, content_type = "application/x-ndjson"),
        (status = 409, description = "A part that this needs is not configured", body = Refused),
    ),
)]
pub(super) async fn tap(
    State(service): SharedService,
    Parameters(query): Parameters<TapQuery>,
) -> Result<Response, ApiError> {
    let filter = query.filter.filter()?;
    let Some(log) = &service.log else {
        let reason = "the query log is disabled: set query_log.enabled = true";
        return Err(ApiError(StatusCode::CONFLICT, reason.into()));
    };
    let enough = || ApiError::busy("too many taps are open: close another one");
    let rows = log.taps.open(filter).ok_or_else(enough)?;
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(rows)).into_response())
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct HistogramQuery {
    /// Form: the text of HdrHistogram's plotters, or its compressed log.
    #[serde(default)]
    #[param(inline)]
    format: ExportFormat,
    /// Outcome of clients' queries: hit, stale or miss.
    outcome: Option<String>,
    /// Address of an upstream, for its response times.
    upstream: Option<String>,
    /// Division: a histogram for each worker and outcome, `worker0-hit`, or for each tier that has
    /// answers: hit, stale, host, redis, upstream, other.
    #[param(inline)]
    by: Option<Division>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Division {
    Worker,
    Tier,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ExportFormat {
    #[default]
    Text,
    Log,
}

/// Answers with service times of clients' queries, or response times of an upstream.
#[utoipa::path(
    get,
    path = "/v1/histogram",
    operation_id = "histogram",
    params(HistogramQuery),
    responses((status = 200, description = "Answer", body = String, content_type = "text/plain")),
)]
pub(super) async fn histogram(
    State(service): SharedService,
    Parameters(query): Parameters<HistogramQuery>,
) -> Result<Response, ApiError> {
    if let Some(address) = &query.upstream {
        if query.outcome.is_some() || query.by.is_some() {
            return Err(ApiError::bad(
                "outcome= and by= are for clients' queries, upstream= for an upstream's answers: give one of them",
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
    let (total, workers);
    let divided: Vec<(String, Cow<'_, Histogram<u64>>)> = match query.by {
        Some(Division::Tier) if query.outcome.is_some() => {
            return Err(ApiError::bad(
                "by=tier tells hits, stale answers and misses apart: leave out outcome=",
            ));
        }
        Some(Division::Tier) => {
            total = service.latencies.total().await.map_err(ApiError::failed)?;
            let by_source = total.by_source();
            by_source.map(|(source, of)| (source.to_owned(), Cow::Borrowed(of))).collect()
        }
        Some(Division::Worker) => {
            workers = service.latencies.by_worker().await.map_err(ApiError::failed)?;
            let named = workers.iter().flat_map(|(worker, times)| {
                let outcomes = outcomes.iter();
                outcomes.map(move |it| (format!("worker{worker}-{}", it.label()), times.get(*it)))
            });
            named.collect()
        }
        None => {
            total = service.latencies.total().await.map_err(ApiError::failed)?;
            let named = outcomes.iter().map(|it| (it.label().to_owned(), total.get(*it)));
            named.collect()
        }
    };
    let histograms: Vec<_> = divided.iter().map(|(name, histogram)| (name.as_str(), &**histogram)).collect();
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
            Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], bytes).into_response())
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
