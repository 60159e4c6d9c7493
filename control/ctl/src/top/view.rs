//! Rates and percentiles between two samples.

use super::sample::Sample;
use hdrhistogram::Histogram;
use ringdns_api::{Problem, ResourceUsage, Times, UpstreamStatus};
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// Ends of punted queries that got no answer; they are shown with the drops.
const UNANSWERED: [&str; 5] = ["punt_no_frame", "punt_port_gone", "punt_late", "punt_paced", "punt_capped"];

/// Counters of the ports of AF_XDP: packets that the kernel dropped before a worker saw them.
const LOST: [&str; 3] = ["rx_dropped", "rx_ring_full", "rx_invalid_descs"];

/// State of a ringdnsd, with rates per second.
#[derive(Debug, Serialize)]
pub struct View {
    /// Version.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since the start of the process.
    pub uptime_secs: u32,
    /// Whether it answers queries.
    pub ready: bool,
    /// Reason why it does not.
    pub obstacle: Option<String>,
    /// Way in which packets are received.
    pub receiving: String,
    /// Number of workers.
    pub workers: usize,
    /// Resource usage.
    pub process: Option<ResourceUsage>,
    /// Entries of the host cache.
    pub host_entries: u64,
    /// Bytes of the host cache in use, and the most that may be.
    pub host_bytes: [u64; 2],
    /// Seconds that the rates cover.
    pub seconds: f64,
    /// Whether the rates cover all the time since the start of the process.
    pub since_start: bool,
    /// Queries per second: packets to the workers, and queries over TCP.
    pub queries: f64,
    /// Queries per second over TCP.
    pub tcp_queries: f64,
    /// Tiers in the order in which they are looked into.
    pub tiers: Vec<TierView>,
    /// Service times by outcome.
    pub times: Vec<TimesView>,
    /// Drops per second by reason, without those that are zero; the most frequent first.
    pub drops: Vec<(String, f64)>,
    /// Upstreams.
    pub upstreams: Vec<UpstreamView>,
    /// Problems, the gravest first.
    pub problems: Vec<Problem>,
}

/// Answers of a tier.
#[derive(Debug, Serialize)]
pub struct TierView {
    /// Name.
    pub tier: &'static str,
    /// Answers per second.
    pub answers: f64,
    /// Part of the lookups that found an answer, from 0 to 1; `None`: there were no lookups.
    pub hit_ratio: Option<f64>,
}

/// Service times of an outcome, in microseconds.
#[derive(Debug, Serialize)]
pub struct TimesView {
    /// Outcome.
    pub outcome: String,
    /// Answers per second.
    pub answers: f64,
    /// Median, 90th, 99th and 99.9th percentile, and maximum; `None`: there were no answers.
    pub micros: Option<[f64; 5]>,
}

/// Queries to an upstream.
#[derive(Debug, Serialize)]
pub struct UpstreamView {
    /// Address.
    pub address: String,
    /// Remaining back-off in milliseconds; 0: it is in use.
    pub back_off_ms: u64,
    /// Queries per second.
    pub queries: f64,
    /// Answers per second.
    pub answers: f64,
    /// Timeouts per second.
    pub timeouts: f64,
    /// Errors per second.
    pub errors: f64,
    /// Smoothed round-trip time in microseconds.
    pub round_trip_us: u64,
    /// Response times since the start.
    pub times: Times,
}

impl View {
    /// Returns the state at `now`, with the rates since `before`, which was taken `elapsed` ago. If
    /// there is none, or the process is another one, the rates are averages since its start.
    pub fn between(before: Option<&Sample>, now: &Sample, elapsed: Duration) -> Self {
        let is_same = |before: &&Sample| {
            let (old, new) = (&before.status, &now.status);
            (old.pid, &old.version) == (new.pid, &new.version) && old.uptime_secs <= new.uptime_secs
        };
        let before = before.filter(is_same);
        let seconds = match before {
            Some(_) => elapsed.as_secs_f64().max(0.001),
            None => f64::from(now.status.uptime_secs.max(1)),
        };
        let rates = Rates { before, now, seconds };
        let status = &now.status;
        let host = |name: &str| now.stats["host"][name].as_u64().unwrap_or(0);
        let tcp_queries = rates.of("/listeners/queries");
        View {
            version: status.version.clone(),
            pid: status.pid,
            uptime_secs: status.uptime_secs,
            ready: status.ready,
            obstacle: status.obstacle.clone(),
            receiving: status.receiving.clone(),
            workers: status.workers,
            process: status.process.clone(),
            host_entries: host("entries"),
            host_bytes: [host("bytes"), host("capacity")],
            seconds,
            since_start: before.is_none(),
            queries: rates.of("/total/received") + tcp_queries,
            tcp_queries,
            tiers: rates.tiers(),
            times: rates.times(),
            drops: rates.drops(),
            upstreams: status.upstreams.iter().map(|upstream| rates.upstream(upstream)).collect(),
            problems: status.problems.clone(),
        }
    }
}

/// Differences of counters.
struct Rates<'a> {
    before: Option<&'a Sample>,
    now: &'a Sample,
    seconds: f64,
}

impl Rates<'_> {
    /// Returns the increase per second of a counter.
    fn of(&self, pointer: &str) -> f64 {
        let count = |sample: &Sample| sample.stats.pointer(pointer).and_then(Value::as_u64);
        self.per_second(self.before.and_then(count).unwrap_or(0), count(self.now).unwrap_or(0))
    }

    /// Returns an increase per second. A counter that is lower than before began anew.
    fn per_second(&self, before: u64, now: u64) -> f64 {
        now.checked_sub(before).unwrap_or(now) as f64 / self.seconds
    }

    fn tiers(&self) -> Vec<TierView> {
        let sum = |table: &str, names: &[&str]| -> f64 {
            names.iter().map(|name| self.of(&format!("{table}/{name}"))).sum()
        };
        let tier = |tier, answers: f64, missed: f64| TierView {
            tier,
            answers,
            hit_ratio: (answers + missed > 0.0).then(|| answers / (answers + missed)),
        };
        let worker = sum("/total", &["hit", "stale", "cached_failure"]);
        let host = sum("/host/counters", &["fresh", "stale"]);
        let mut tiers = vec![
            tier("worker", worker, self.of("/total/punted")),
            tier("host", host, self.of("/host/counters/missing")),
        ];
        if self.now.stats["fleet"].is_object() {
            let lookups = self.of("/fleet/counters/lookups");
            let hit = sum("/fleet/counters", &["hit", "stale", "due"]);
            tiers.push(tier("redis", hit, (lookups - hit).max(0.0)));
        }
        let failed = self.of("/resolver/counters/failed");
        tiers.push(tier("upstreams", self.of("/resolver/counters/resolved"), failed));
        tiers
    }

    fn times(&self) -> Vec<TimesView> {
        let of_outcome = |(outcome, now): (&String, &Histogram<u64>)| {
            let before = self.before.and_then(|before| before.times.get(outcome));
            let recent = before.and_then(|before| {
                let mut recent = now.clone();
                recent.subtract(before).ok().map(|()| recent)
            });
            let recent = recent.as_ref().unwrap_or(now);
            let micros = |quantile: f64| recent.value_at_quantile(quantile) as f64 / 1000.0;
            let micros =
                [micros(0.5), micros(0.9), micros(0.99), micros(0.999), recent.max() as f64 / 1000.0];
            TimesView {
                outcome: outcome.clone(),
                answers: recent.len() as f64 / self.seconds,
                micros: (!recent.is_empty()).then_some(micros),
            }
        };
        self.now.times.iter().map(of_outcome).collect()
    }

    fn drops(&self) -> Vec<(String, f64)> {
        let reasons = self.now.stats["total"]["dropped"].as_object();
        let dropped = reasons.into_iter().flatten().map(|(reason, now)| {
            let before = self.before.and_then(|before| before.stats["total"]["dropped"][reason].as_u64());
            (reason.clone(), self.per_second(before.unwrap_or(0), now.as_u64().unwrap_or(0)))
        });
        let unanswered = UNANSWERED.map(|name| (name.to_owned(), self.of(&format!("/total/{name}"))));
        let lost = LOST.map(|name| {
            let sum = |sample: &Sample| -> u64 {
                let workers = sample.stats["workers"].as_array().into_iter().flatten();
                workers.filter_map(|worker| worker["port"][name].as_u64()).sum()
            };
            (name.to_owned(), self.per_second(self.before.map_or(0, sum), sum(self.now)))
        });
        let mut drops: Vec<_> =
            dropped.chain(unanswered).chain(lost).filter(|(_, rate)| *rate > 0.0).collect();
        drops.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        drops
    }

    fn upstream(&self, now: &UpstreamStatus) -> UpstreamView {
        let same = |old: &&UpstreamStatus| {
            (&old.address, &old.zones, &old.groups) == (&now.address, &now.zones, &now.groups)
        };
        let before = self.before.and_then(|before| before.status.upstreams.iter().find(same));
        let rate = |count: fn(&UpstreamStatus) -> u64| self.per_second(before.map_or(0, count), count(now));
        let Times { count, p50_us, p90_us, p99_us, max_us } = now.times;
        UpstreamView {
            address: now.address.clone(),
            back_off_ms: now.back_off_ms,
            queries: rate(|it| it.queries),
            answers: rate(|it| it.answers),
            timeouts: rate(|it| it.timeouts),
            errors: rate(|it| it.errors),
            round_trip_us: now.round_trip_us,
            times: Times { count, p50_us, p90_us, p99_us, max_us },
        }
    }
}
