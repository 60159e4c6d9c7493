//! History: a point for each minute of the last day, in memory.

use super::{ApiError, Service, SharedService, guard::Parameters};
use crate::process::resource_usage;
use axum::{Json, extract::State};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use ringdns_api::{History, HistoryPoint, Severity};
use ringdns_dataplane::latency::{Latencies, Outcome};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use utoipa::IntoParams;

/// Time between two points.
const PERIOD: Duration = Duration::from_secs(60);
/// Points that are kept: those of a day.
const KEPT: usize = 1440;

/// Points of the last day.
#[derive(Debug)]
pub struct Chronicle(Mutex<VecDeque<HistoryPoint>>);

impl Default for Chronicle {
    fn default() -> Self {
        // Allocated at once: memory that grows over hours looks like a leak.
        Chronicle(Mutex::new(VecDeque::with_capacity(KEPT)))
    }
}

impl Chronicle {
    fn add(&self, point: HistoryPoint) {
        let mut points = self.0.lock();
        if points.len() == KEPT {
            points.pop_front();
        }
        points.push_back(point);
    }

    fn last(&self, minutes: usize) -> History {
        let points = self.0.lock();
        let skip = points.len().saturating_sub(minutes);
        History { points: points.iter().skip(skip).cloned().collect() }
    }
}

/// Counters and service times at one moment.
struct Reading {
    at: Instant,
    stats: Value,
    times: Option<Latencies>,
}

impl Reading {
    async fn take(service: &Service) -> Self {
        let times = service.latencies.total().await;
        Reading { at: Instant::now(), stats: service.stats(), times: times.ok() }
    }

    /// Returns the point between an earlier reading and this one, without what is known at its end only.
    fn since(&self, before: &Reading) -> HistoryPoint {
        let seconds = self.at.duration_since(before.at).as_secs_f64().max(0.001);
        let count =
            |stats: &Value, pointer: &str| stats.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        let rate = |pointer: &str| {
            let (old, new) = (count(&before.stats, pointer), count(&self.stats, pointer));
            new.saturating_sub(old) as f64 / seconds
        };
        let sum = |table: &str, names: &[&str]| -> f64 {
            names.iter().map(|name| rate(&format!("{table}/{name}"))).sum()
        };
        let ratio = |found: f64, missed: f64| (found + missed > 0.0).then(|| found / (found + missed));
        let worker_answers = sum("/total", &["hit", "stale", "cached_failure"]);
        let (lookups, of_redis) =
            (rate("/fleet/counters/lookups"), sum("/fleet/counters", &["hit", "stale", "due"]));
        HistoryPoint {
            seconds,
            queries: rate("/total/received") + rate("/listeners/queries"),
            worker_answers,
            worker_hit_ratio: ratio(worker_answers, rate("/total/punted")),
            host_hit_ratio: ratio(sum("/host/counters", &["fresh", "stale"]), rate("/host/counters/missing")),
            redis_hit_ratio: ratio(of_redis, (lookups - of_redis).max(0.0)),
            upstream_answers: rate("/resolver/counters/resolved"),
            failures: rate("/resolver/counters/failed"),
            hit_us: self.micros(before, Outcome::Hit),
            miss_us: self.micros(before, Outcome::Miss),
            drops: self.dropped().saturating_sub(before.dropped()) as f64 / seconds,
            ..HistoryPoint::default()
        }
    }

    fn dropped(&self) -> u64 {
        let reasons = self.stats["total"]["dropped"].as_object();
        reasons.into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
    }

    /// Returns median and 99th percentile of the service times since an earlier reading.
    fn micros(&self, before: &Reading, outcome: Outcome) -> Option<[f64; 2]> {
        let mut recent: Histogram<u64> = self.times.as_ref()?.get(outcome).into_owned();
        recent.subtract(&*before.times.as_ref()?.get(outcome)).ok()?;
        let micros = |quantile| recent.value_at_quantile(quantile) as f64 / 1000.0;
        (!recent.is_empty()).then(|| [micros(0.5), micros(0.99)])
    }
}

impl Service {
    /// Adds a point to the history each minute, until the task is dropped.
    pub async fn keep_history(self: Arc<Self>) {
        let mut ticks = interval_at(Instant::now() + PERIOD, PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = Reading::take(&self).await;
        loop {
            ticks.tick().await;
            let now = Reading::take(&self).await;
            self.chronicle.add(self.point(&before, &now));
            before = now;
        }
    }

    fn point(self: &Arc<Self>, before: &Reading, now: &Reading) -> HistoryPoint {
        let problems = self.problems.of(self);
        let critical = problems.iter().filter(|problem| problem.severity == Severity::Critical).count();
        HistoryPoint {
            at: (self.clock.epoch_millis() / 1000).max(0) as u64 + u64::from(self.clock.secs()),
            resident_bytes: resource_usage().map_or(0, |usage| usage.resident_bytes),
            problems: problems.len(),
            critical,
            ..now.since(before)
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    /// Most points, the last ones: 1 to 1440.
    #[serde(default = "all")]
    #[param(minimum = 1, maximum = 1440)]
    minutes: usize,
}

fn all() -> usize {
    KEPT
}

/// Answers with rates, hit ratios, service times, memory and problems of the last minutes.
#[utoipa::path(
    get,
    path = "/v1/history",
    operation_id = "history",
    params(HistoryQuery),
    responses((status = 200, description = "Answer", body = History)),
)]
pub(super) async fn history(
    State(service): SharedService,
    Parameters(query): Parameters<HistoryQuery>,
) -> Result<Json<History>, ApiError> {
    if !(1..=KEPT).contains(&query.minutes) {
        return Err(ApiError::bad(format!("minutes={}: use 1 to {KEPT}", query.minutes)));
    }
    Ok(Json(service.chronicle.last(query.minutes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reading(secs: u64, hits: u64, punted: u64, micros: &[u64]) -> Reading {
        let mut times = Latencies::new().unwrap();
        micros.iter().for_each(|micros| times.record(Outcome::Hit, micros * 1000, 1));
        let stats = json!({
            "total": {
                "received": hits + punted, "hit": hits, "stale": 0, "cached_failure": 0, "punted": punted,
                "dropped": { "limited": hits / 10, "malformed": 1 },
            },
            "listeners": { "queries": 60 },
            "host": { "counters": { "fresh": punted / 2, "stale": 0, "missing": punted / 2 } },
            "resolver": { "counters": { "resolved": punted / 2, "failed": 0 } },
        });
        Reading { at: Instant::now() + Duration::from_secs(secs), stats, times: Some(times) }
    }

    #[test]
    fn a_point_is_the_difference_of_two_readings() {
        let before = reading(0, 1000, 0, &[900; 100]);
        let mut now = reading(60, 1540, 60, &[900; 100]);
        now.at = before.at + Duration::from_secs(60);
        (1..=100).for_each(|micros| now.times.as_mut().unwrap().record(Outcome::Hit, micros * 1000, 1));
        let point = now.since(&before);
        assert_eq!((point.seconds, point.queries, point.worker_answers), (60.0, 10.0, 9.0));
        assert_eq!(
            (point.worker_hit_ratio, point.host_hit_ratio, point.redis_hit_ratio),
            (Some(0.9), Some(0.5), None)
        );
        assert_eq!((point.upstream_answers, point.failures, point.drops), (0.5, 0.0, 54.0 / 60.0));
        let [median, p99] = point.hit_us.unwrap();
        assert!((median - 50.0).abs() < 0.1 && (p99 - 99.0).abs() < 0.1, "{median} {p99}");
        assert_eq!(point.miss_us, None);
    }

    #[test]
    fn a_day_is_kept_and_no_more() {
        let chronicle = Chronicle::default();
        (0..2000).for_each(|at| chronicle.add(HistoryPoint { at, ..HistoryPoint::default() }));
        let ats = |minutes| chronicle.last(minutes).points.iter().map(|point| point.at).collect::<Vec<_>>();
        assert_eq!((ats(KEPT).len(), ats(KEPT)[0], ats(2)), (1440, 560, vec![1998, 1999]));
        // 1,440 points in less than 256 KiB.
        assert!(size_of::<HistoryPoint>() * KEPT < 256 << 10, "{}", size_of::<HistoryPoint>());
    }
}
