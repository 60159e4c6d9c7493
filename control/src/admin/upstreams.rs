//! How the upstreams do.

use super::{Refusal, Service};
use crate::resolver::upstream::Upstream;
use hdrhistogram::Histogram;
use ringdns_dataplane::clock::Nanos;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How an upstream does.
#[derive(Debug, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Its address as in the configuration, with what may be left out there: `udp://9.9.9.9:53`.
    pub address: String,
    /// `udp` (and TCP for what does not fit), `tcp`, `tls` or `https`.
    pub protocol: String,
    /// The zones that it is asked for; none: all names that are in no other's.
    pub zones: Vec<String>,
    /// Whether it is left alone for a while because it failed.
    pub put_back: bool,
    /// For how long yet, in milliseconds.
    pub back_off_ms: u64,
    /// Queries sent, those sent again among them.
    pub queries: u64,
    /// Answers used.
    pub answers: u64,
    /// Queries that it did not answer in time.
    pub timeouts: u64,
    /// Queries that it could not be reached for, answered with a failure such as SERVFAIL, or with what cannot be read.
    pub errors: u64,
    /// Its smoothed round trip in microseconds, those that it did not answer among them; 0 before the first.
    pub round_trip_us: u64,
    /// How long it takes to answer.
    pub times: Times,
}

/// How long answers and failures took since the start, exact to 1 %.
#[derive(Debug, Serialize, Deserialize)]
pub struct Times {
    /// How many there were.
    pub count: u64,
    /// Half of them took at most so many microseconds.
    pub p50_us: u64,
    /// 90 % of them.
    pub p90_us: u64,
    /// 99 % of them.
    pub p99_us: u64,
    /// All of them.
    pub max_us: u64,
}

impl UpstreamStatus {
    pub(super) fn of(upstream: &Upstream, now: Nanos) -> Self {
        let (health, counters) = (upstream.health(), &upstream.counters);
        UpstreamStatus {
            address: upstream.label.clone(),
            protocol: upstream.transport.label().to_owned(),
            zones: upstream.zones.clone(),
            put_back: health.is_put_back(now),
            back_off_ms: health.until.saturating_sub(now).div_ceil(1_000_000),
            queries: counters.queries(),
            answers: counters.answers.get(),
            timeouts: counters.timeouts.get(),
            errors: counters.errors(),
            round_trip_us: health.round_trip.as_micros() as u64,
            times: Times::of(&upstream.times()),
        }
    }
}

impl Times {
    fn of(nanos: &Histogram<u64>) -> Self {
        let micros = |percentile| nanos.value_at_percentile(percentile) / 1000;
        Times {
            count: nanos.len(),
            p50_us: micros(50.0),
            p90_us: micros(90.0),
            p99_us: micros(99.0),
            max_us: micros(100.0),
        }
    }
}

/// The upstream of an address; `udp://` may be left out, as in the configuration.
pub(super) fn find(service: &Service, address: &str) -> Result<Arc<Upstream>, Refusal> {
    let upstreams = service.resolver.upstreams();
    let is_it = |upstream: &&Arc<Upstream>| {
        upstream.label == address || upstream.label.strip_prefix("udp://") == Some(address)
    };
    upstreams.iter().find(is_it).cloned().ok_or_else(|| {
        let known: Vec<_> = upstreams.iter().map(|upstream| &*upstream.label).collect();
        Refusal::bad(format!("no upstream {address:?}: {}", known.join(" or ")))
    })
}
