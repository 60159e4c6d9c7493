//! Status of the upstreams.

use super::{ApiError, Service};
use hdrhistogram::Histogram;
use ringdns_api::{Times, UpstreamStatus};
use ringdns_dataplane::clock::Nanos;
use ringdns_resolver::upstream::Upstream;
use std::sync::Arc;

/// Returns the status of an upstream at `now`.
pub(super) fn status(upstream: &Upstream, now: Nanos) -> UpstreamStatus {
    let (health, counters) = (upstream.health(), &upstream.counters);
    UpstreamStatus {
        address: upstream.label.clone(),
        protocol: upstream.transport.label().to_owned(),
        zones: upstream.zones.clone(),
        groups: upstream.groups.clone(),
        put_back: health.is_put_back(now),
        back_off_ms: health.until.saturating_sub(now).div_ceil(1_000_000),
        queries: counters.queries(),
        answers: counters.answers.get(),
        timeouts: counters.timeouts.get(),
        errors: counters.errors(),
        round_trip_us: health.round_trip.as_micros() as u64,
        times: times(&upstream.times()),
    }
}

/// Returns the percentiles of a histogram of nanoseconds.
fn times(nanos: &Histogram<u64>) -> Times {
    let micros = |percentile| nanos.value_at_percentile(percentile) / 1000;
    Times {
        count: nanos.len(),
        p50_us: micros(50.0),
        p90_us: micros(90.0),
        p99_us: micros(99.0),
        max_us: micros(100.0),
    }
}

/// Returns the upstream with an address; `udp://` may be left out, as in the configuration.
pub(super) fn find(service: &Service, address: &str) -> Result<Arc<Upstream>, ApiError> {
    let upstreams = service.resolver.upstreams();
    let is_it = |upstream: &&Arc<Upstream>| {
        upstream.label == address || upstream.label.strip_prefix("udp://") == Some(address)
    };
    upstreams.iter().find(is_it).cloned().ok_or_else(|| {
        let known: Vec<_> = upstreams.iter().map(|upstream| &*upstream.label).collect();
        ApiError::bad(format!("no upstream is called {address:?}: use {}", known.join(" or ")))
    })
}
