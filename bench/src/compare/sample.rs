//! Results of one load on one server.

use crate::{lab::Usage, report::figure};
use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// Load over the interface on a server.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Share of names never asked before, in percent.
    pub random_share: f64,
    /// Queries a second; `None` means as many as the link takes.
    pub qps: Option<f64>,
    /// Duration, in seconds.
    pub seconds: f64,
}

/// Results of a load.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Queries a second that left the generator.
    pub queries_per_second: f64,
    /// Answers a second to warmed names: NOERROR.
    pub hits_per_second: f64,
    /// Answers a second to random names: NXDOMAIN.
    pub misses_per_second: f64,
    /// Share of queries that got neither, in percent.
    pub unanswered: f64,
    /// Answers with other RCODEs, over the whole run.
    pub failures: u64,
    /// Queries sent, over the whole run.
    pub sent: u64,
    /// Answers to random names, over the whole run.
    pub misses: u64,
    /// Mean length of the answers' frames, in bytes.
    pub answer_bytes: f64,
    /// Processor time of the server for each answer, in nanoseconds. Other programs on its core
    /// lower its rate, but not this.
    pub cpu_nanos: f64,
    /// Latency from when a query was due, in nanoseconds, at the quantiles 0.5, 0.99 and 0.999.
    pub latency_nanos: [u64; 3],
    /// Queries that the upstream served meanwhile.
    pub upstream_queries: u64,
    /// Share of the time for which the upstream ran, or waited for its core, in percent.
    pub upstream_busy: f64,
}

/// Facts about a load besides the generator's report.
#[derive(Clone, Copy, Debug)]
pub struct SampleParts {
    /// Resource usage of the server.
    pub server: Usage,
    /// Resource usage of the upstream.
    pub upstream: Usage,
    /// Duration of the whole load.
    pub elapsed: Duration,
    /// Queries that the upstream served.
    pub served: u64,
}

/// Load of the upstream, in percent, above which the upstream bounds the result rather than the
/// server.
const BUSY: f64 = 85.0;

impl Sample {
    /// Parses a report of `ringbench run --json`.
    pub fn read(report: &Value, parts: SampleParts) -> Result<Self> {
        let figure = |pointer: &str| figure(report, pointer);
        // The report omits RCODEs that did not occur.
        let rcode = |name: &str| figure(&format!("/response_rcodes/{name}")).unwrap_or(0.0);
        let (sent, answers) = (figure("/sent/queries")?, figure("/received/responses")?);
        let (hits, misses) = (rcode("NOERROR"), rcode("NXDOMAIN"));
        let rate = figure("/traffic/answers_per_second")?;
        ensure!(rate > 0.0 && answers > 0.0, "the server answered before the load, but not under it");
        let quantile = |name: &str| figure(&format!("/listed/latency_ns/{name}")).map(|nanos| nanos as u64);
        Ok(Sample {
            queries_per_second: figure("/traffic/queries_per_second")?,
            hits_per_second: rate * hits / answers,
            misses_per_second: rate * misses / answers,
            unanswered: 100.0 * (1.0 - ((hits + misses) / sent).min(1.0)),
            failures: (answers - hits - misses).max(0.0) as u64,
            sent: sent as u64,
            misses: misses as u64,
            answer_bytes: figure("/traffic/answer_bytes")?,
            cpu_nanos: parts.server.ran.as_nanos() as f64 / answers,
            latency_nanos: [quantile("p50")?, quantile("p99")?, quantile("p99.9")?],
            upstream_queries: parts.served,
            upstream_busy: 100.0 * (parts.upstream.ran + parts.upstream.waited).as_secs_f64()
                / parts.elapsed.as_secs_f64(),
        })
    }

    /// Returns answers a second, hits and misses.
    pub fn answers_per_second(&self) -> f64 {
        self.hits_per_second + self.misses_per_second
    }

    /// Whether at most `loss` percent of the queries got no answer. Misses are few, so they are
    /// checked separately too: a server must not meet the objective by leaving them out. Their
    /// number is random; up to three standard deviations fewer than expected still count as all.
    pub fn meets(&self, load: &Load, loss: f64) -> bool {
        let expected = self.sent as f64 * load.random_share / 100.0;
        let least = (expected - 3.0 * expected.sqrt()) * (1.0 - 5.0 * loss / 100.0);
        self.unanswered <= loss && self.misses as f64 >= least
    }

    fn kept_pace(&self, load: &Load) -> bool {
        load.qps.is_none_or(|qps| self.queries_per_second > 0.97 * qps)
    }

    /// Returns the reasons why these figures are not those of the load that was ordered.
    pub fn faults(&self, load: &Load) -> Vec<String> {
        let mut faults = Vec::new();
        let percent_of = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        let failed = percent_of(self.failures, self.sent);
        if failed > 0.1 {
            faults.push("some answers were failures (SERVFAIL, REFUSED …), which count as unanswered".into());
        }
        let asked = percent_of(self.upstream_queries, self.sent);
        if load.random_share == 0.0 && asked > 0.1 {
            faults.push("it asked the upstream again for names that it had been warmed with".into());
        }
        if load.random_share > 0.0 && self.misses as f64 > 1.05 * self.upstream_queries as f64 + 50.0 {
            faults.push("it answered random names more often than it asked the upstream for them".into());
        }
        if self.upstream_busy > BUSY {
            faults.push("the upstream was busy nearly all the time: it bounds the result".into());
        }
        if !self.kept_pace(load) {
            faults.push("the generator did not keep the rate that was ordered".into());
        }
        if load.qps.is_none() && self.unanswered < 2.0 {
            faults.push("it answered everything that the generator could ask: it may be faster".into());
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    impl Sample {
        /// Returns a sample of a load of hits alone.
        pub fn of_hits(rate: f64, cpu_nanos: f64) -> Self {
            Sample { hits_per_second: rate, misses_per_second: 0.0, cpu_nanos, ..sample(10, 10, 0, 0, 0) }
        }
    }

    const MIXED: Load = Load { random_share: 10.0, qps: Some(10_000.0), seconds: 1.0 };
    const HITS: Load = Load { random_share: 0.0, qps: None, seconds: 1.0 };

    fn sample(sent: u64, hits: u64, misses: u64, failures: u64, served: u64) -> Sample {
        let mut report = json!({
            "sent": { "queries": sent },
            "received": { "responses": hits + misses + failures },
            "response_rcodes": { "NOERROR": hits },
            "listed": { "latency_ns": { "p50": 1, "p99": 2, "p99.9": 3 } },
            "traffic": { "queries_per_second": 10_000.0, "answers_per_second": 8_000.0, "answer_bytes": 94.0 },
        });
        if misses > 0 {
            report["response_rcodes"]["NXDOMAIN"] = json!(misses);
        }
        let usage = Usage { ran: Duration::from_millis(100), waited: Duration::ZERO };
        let parts = SampleParts { server: usage, upstream: usage, elapsed: Duration::from_secs(1), served };
        Sample::read(&report, parts).unwrap()
    }

    #[test]
    fn hits_and_misses_are_told_apart_by_their_rcode() {
        let sample = sample(10_000, 6_000, 2_000, 0, 2_000);
        assert_eq!((sample.hits_per_second, sample.misses_per_second), (6_000.0, 2_000.0));
        assert_eq!(
            (sample.unanswered.round(), sample.cpu_nanos, sample.upstream_busy),
            (20.0, 12_500.0, 10.0)
        );
    }

    #[test]
    fn failures_count_as_no_answer_and_are_reported() {
        let sample = sample(10_000, 8_900, 1_000, 100, 1_100);
        assert_eq!(sample.unanswered.round(), 1.0);
        assert!(sample.faults(&MIXED)[0].contains("SERVFAIL"), "{:?}", sample.faults(&MIXED));
    }

    #[test]
    fn leaving_misses_out_does_not_meet_the_objective() {
        assert!(sample(10_000, 8_990, 985, 0, 1_000).meets(&MIXED, 1.0));
        // 0.5 % of all queries, but half of the misses.
        let few = Load { random_share: 1.0, ..MIXED };
        assert!(!sample(100_000, 99_000, 500, 0, 500).meets(&few, 1.0));
        assert!(!sample(10_000, 8_900, 980, 0, 1_000).meets(&MIXED, 1.0));
    }

    #[test]
    fn a_generator_that_falls_behind_is_noticed() {
        let faster = Load { qps: Some(20_000.0), ..MIXED };
        let sample = sample(10_000, 9_000, 1_000, 0, 1_000);
        assert!(sample.faults(&MIXED).is_empty(), "{:?}", sample.faults(&MIXED));
        assert!(sample.faults(&faster)[0].contains("generator"));
    }

    #[test]
    fn a_cold_cache_repeated_random_names_and_an_idle_server_are_noticed() {
        let fault = |sample: Sample, load: &Load| sample.faults(load).join("; ");
        assert!(fault(sample(10_000, 7_000, 0, 0, 300), &HITS).contains("asked the upstream again"));
        assert!(fault(sample(10_000, 9_000, 1_000, 0, 100), &MIXED).contains("more often than it asked"));
        assert!(fault(sample(10_000, 9_990, 0, 0, 0), &HITS).contains("may be faster"));
        assert_eq!(fault(sample(10_000, 7_000, 0, 0, 0), &HITS), "");
    }
}
