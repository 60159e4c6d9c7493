//! Report as dns-metrics objects, the JSON shape that DNS-OARC's tools share
//! (<https://github.com/DNS-OARC/dns-metrics>). Times are in nanoseconds. Facts for which the
//! schema has no field are added beside its fields.

use super::{QUANTILES, Report};
use crate::{report::series::Interval, tally::Class};
use anyhow::{Context, Result};
use hdrhistogram::{Counter, Histogram};
use ringdns_testkit::scenario::rcode_text;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    time::{Duration, SystemTime},
};

/// Version of the schema, as in its examples.
const SCHEMA: u32 = 20_221_207;

impl Report {
    /// Returns the run as a `stats_sum` object.
    pub fn json(&self) -> Result<Value> {
        let tally = &self.tally;
        let [question, malformed, data, ttl] = tally.wrong;
        let since = self.since();
        let latency = tally.names.latency()?;
        let mut all = latency.clone();
        all.add(tally.random.latency()?)?;
        let own = json!({
            "type": "stats_sum",
            "discarded": tally.wrong.iter().sum::<u64>(),
            "unexpected": tally.unexpected,
            "interrupted": tally.interrupted,
            "response_rcodes": self.counted_rcodes().collect::<BTreeMap<_, _>>(),
            "conn_info": self.connections(),
            "generator": "ringbench",
            "backend": self.setup.backend,
            "target": self.setup.target,
            "names": self.setup.names,
            "random_share_percent": self.setup.random_share,
            "qps_ordered": self.setup.qps,
            "seconds": self.elapsed.as_secs_f64(),
            "answers_per_second": self.answers_per_second(),
            "traffic": self.traffic,
            "sent": { "queries": tally.sent() },
            "received": { "responses": tally.answered() },
            "listed": class_json(&tally.names)?,
            "random": class_json(&tally.random)?,
            "truncated": tally.truncated,
            "wrong": { "question": question, "malformed": malformed, "data": data, "ttl": ttl },
            "send_refused": tally.refused,
            "ring_drops": tally.ring_drops,
            "send_lag_ns": quantiles_json(&tally.lag),
        });
        let counts = Counts { queries: tally.sent(), responses: tally.answered(), timeouts: tally.lost() };
        Ok(merged(self.stats(since, since + self.elapsed, counts, &all), own))
    }

    /// Writes header, intervals and sum, one object a line.
    pub fn write_metrics(&self, path: &Path) -> Result<()> {
        let sum = self.json()?;
        let write = || -> std::io::Result<()> {
            let mut file = BufWriter::new(File::create(path)?);
            writeln!(file, "{}", self.header())?;
            for interval in &self.intervals {
                writeln!(file, "{}", self.periodic(interval))?;
            }
            writeln!(file, "{sum}")?;
            file.flush()
        };
        write().with_context(|| format!("cannot write the metrics {}", path.display()))
    }

    fn header(&self) -> Value {
        json!({
            "runid": self.run_id(),
            "type": "header",
            "schema_version": SCHEMA,
            "generator": "ringbench",
            "generator_version": env!("CARGO_PKG_VERSION"),
            "generator_params": std::env::args().skip(1).collect::<Vec<_>>(),
            "time_units_per_sec": 1_000_000_000,
            "stats_interval": self.interval.as_secs_f64(),
            "timeout": self.setup.timeout.as_secs_f64(),
        })
    }

    fn periodic(&self, interval: &Interval) -> Value {
        let since = self.since() + self.interval * interval.index as u32;
        let Interval { sent, answered, timeouts, latency, .. } = interval;
        let counts = Counts { queries: *sent, responses: *answered, timeouts: *timeouts };
        merged(
            self.stats(since, since + self.interval, counts, latency),
            json!({ "type": "stats_periodic", "latency_ns": quantiles_json(latency) }),
        )
    }

    /// Returns the fields that sum and intervals share.
    fn stats<C: Counter>(
        &self,
        since: Duration,
        until: Duration,
        counts: Counts,
        latency: &Histogram<C>,
    ) -> Value {
        json!({
            "runid": self.run_id(),
            "since": since.as_nanos() as u64,
            "until": until.as_nanos() as u64,
            "queries": counts.queries,
            "responses": counts.responses,
            "timeouts": counts.timeouts,
            "response_latency": {
                "avg": latency.mean() as u64,
                "min": latency.min(),
                "max": latency.max(),
                "stddev": latency.stdev() as u64,
                "buckets": buckets(latency),
            },
        })
    }

    fn run_id(&self) -> String {
        format!("ringbench-{}", self.since().as_nanos())
    }

    fn since(&self) -> Duration {
        self.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    fn connections(&self) -> Value {
        let tally = &self.tally;
        match self.setup.backend.as_str() {
            kind @ ("tcp" | "dot") => json!({
                "type": if kind == "tcp" { "tcp" } else { "tls_conn" },
                "handshakes": tally.connections,
                "handshakes_failed": tally.broken,
            }),
            _ => json!({
                "type": "udp",
                "packets_sent": tally.sent(),
                "packets_received": tally.answered() + tally.unexpected + tally.wrong.iter().sum::<u64>(),
                "socket_errors": tally.refused,
            }),
        }
    }
}

struct Counts {
    queries: u64,
    responses: u64,
    timeouts: u64,
}

/// Returns an object with another's fields added.
fn merged(mut to: Value, from: Value) -> Value {
    if let (Value::Object(to), Value::Object(from)) = (&mut to, from) {
        to.extend(from);
    }
    to
}

/// Returns lower end, upper end and count of each quarter of an octave that is not empty.
fn buckets<C: Counter>(latency: &Histogram<C>) -> Vec<[u64; 3]> {
    let mut buckets: Vec<[u64; 3]> = Vec::new();
    for step in latency.iter_recorded() {
        let value = step.value_iterated_to();
        // The two bits below the highest one select the quarter.
        let unit = 1u64 << value.max(4).ilog2().saturating_sub(2);
        let (from, count) = (value / unit * unit, step.count_since_last_iteration());
        match buckets.last_mut() {
            Some([last, _, total]) if *last == from => *total += count,
            _ => buckets.push([from, from + unit - 1, count]),
        }
    }
    buckets
}

fn class_json(class: &Class) -> Result<Value> {
    let by_rcode = (0..16).filter_map(|rcode| {
        let histogram = class.outcome(rcode)?;
        let mut outcome = quantiles_json(histogram);
        outcome["count"] = json!(histogram.len());
        Some((rcode_text(rcode as u16), outcome))
    });
    Ok(json!({
        "sent": class.sent,
        "answered": class.answered,
        "lost": class.lost(),
        "latency_ns": quantiles_json(&class.latency()?),
        "latency_ns_by_rcode": by_rcode.collect::<Map<_, _>>(),
    }))
}

fn quantiles_json<C: Counter>(histogram: &Histogram<C>) -> Value {
    let quantiles =
        QUANTILES.iter().map(|(name, q)| ((*name).into(), json!(histogram.value_at_quantile(*q))));
    Value::Object(quantiles.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_every_value_once_in_order() {
        let mut histogram = crate::tally::histogram().unwrap();
        for value in [1, 2, 3, 5, 100, 101, 130, 5000, 5_000_000] {
            histogram.record(value).unwrap();
        }
        let buckets = buckets(&histogram);
        assert_eq!(buckets.iter().map(|bucket| bucket[2]).sum::<u64>(), 9);
        assert!(buckets.windows(2).all(|pair| pair[0][1] < pair[1][0]), "{buckets:?}");
        assert!(buckets.contains(&[96, 111, 2]), "{buckets:?}");
    }
}
