//! The report of a run: for people, for programs (in the field names of DNS-OARC's dns-metrics schema, with
//! additions), and as the percentile file that hdrhistogram's plotters read.

use crate::tally::{Class, Tally};
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::{
    fmt,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    time::{Duration, SystemTime},
};

/// What was run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The generator.
    pub backend: String,
    /// Whom it asked.
    pub target: String,
    /// How many names it asked for.
    pub names: usize,
    /// Share of names never asked before, in percent.
    pub random_share: f64,
    /// The rate that was ordered.
    pub qps: Option<f64>,
}

/// What the XDP generator and its interface counted while the load was steady.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Traffic {
    /// How long that was.
    pub seconds: f64,
    /// Queries that left the program.
    pub queries_per_second: f64,
    /// Answers that came back to queries that waited for them.
    pub answers_per_second: f64,
    /// What the interface says that it sent: less than left the program, where the link had no room.
    pub tx_packets_per_second: f64,
    /// What the interface says that it received.
    pub rx_packets_per_second: f64,
    /// Queries never sent because they would have been too late.
    pub skipped: u64,
    /// Mean length of the answers' frames, from Ethernet header to the end of UDP.
    pub answer_bytes: f64,
}

/// A finished run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was run.
    pub setup: Setup,
    /// When it began.
    pub began: SystemTime,
    /// How long queries were sent.
    pub elapsed: Duration,
    /// What was counted.
    pub tally: Tally,
    /// Of the XDP generator only.
    pub traffic: Option<Traffic>,
}

/// The quantiles that reports name.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

impl Report {
    /// Answers a second.
    pub fn answers_per_second(&self) -> f64 {
        let mean = || self.tally.answered() as f64 / self.elapsed.as_secs_f64();
        self.traffic.map_or_else(mean, |traffic| traffic.answers_per_second)
    }

    /// As a `stats_sum` object of dns-metrics (times in nanoseconds), with what that has no field for added.
    pub fn json(&self) -> Value {
        let Tally { names, random, unexpected, wrong, truncated, refused, lag, .. } = &self.tally;
        let since = self.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let rcodes = self.rcodes().map(|(name, count)| (name, json!(count)));
        json!({
            "runid": format!("ringbench-{}", since.as_nanos()),
            "type": "stats_sum",
            "since": since.as_nanos() as u64,
            "until": (since + self.elapsed).as_nanos() as u64,
            "sent": { "queries": self.tally.sent() },
            "received": { "responses": self.tally.answered() },
            "timeouts": { "queries": self.tally.lost() },
            "unexpected": { "responses": unexpected },
            "discarded": { "responses": wrong.iter().sum::<u64>() },
            "response_rcodes": rcodes.collect::<Map<_, _>>(),
            "response_latency": {
                "avg": names.latency.mean() as u64,
                "min": names.latency.min(),
                "max": names.latency.max(),
                "stddev": names.latency.stdev() as u64,
            },
            "generator": "ringbench",
            "backend": self.setup.backend,
            "target": self.setup.target,
            "names": self.setup.names,
            "random_share_percent": self.setup.random_share,
            "qps_ordered": self.setup.qps,
            "seconds": self.elapsed.as_secs_f64(),
            "answers_per_second": self.answers_per_second(),
            "traffic": self.traffic,
            "listed": class_json(names),
            "random": class_json(random),
            "truncated": truncated,
            "wrong": { "question": wrong[0], "malformed": wrong[1], "data": wrong[2] },
            "send_refused": refused,
            "send_lag_ns": quantiles_json(lag),
        })
    }

    /// Writes the latencies of the list's names, in microseconds, as HdrHistogram's percentile output.
    pub fn write_hgrm(&self, path: &Path) -> Result<()> {
        let write = || -> std::io::Result<()> {
            let mut file = BufWriter::new(File::create(path)?);
            hgrm(&self.tally.names.latency, &mut file)?;
            file.flush()
        };
        write().with_context(|| format!("cannot write the histogram {}", path.display()))
    }

    fn rcodes(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let counted = self.tally.rcodes.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(rcode, count)| (rcode_name(rcode), *count))
    }
}

fn class_json(class: &Class) -> Value {
    json!({
        "sent": class.sent,
        "answered": class.answered,
        "lost": class.lost(),
        "latency_ns": quantiles_json(&class.latency),
    })
}

fn quantiles_json(histogram: &Histogram<u64>) -> Value {
    let quantiles =
        QUANTILES.iter().map(|(name, q)| ((*name).into(), json!(histogram.value_at_quantile(*q))));
    Value::Object(quantiles.collect())
}

/// The name that dig prints.
fn rcode_name(rcode: usize) -> String {
    match rcode {
        0 => "NOERROR".into(),
        1 => "FORMERR".into(),
        2 => "SERVFAIL".into(),
        3 => "NXDOMAIN".into(),
        4 => "NOTIMP".into(),
        5 => "REFUSED".into(),
        other => format!("RCODE{other}"),
    }
}

/// HdrHistogram's percentile output: value, quantile, count up to it, and the quantile's odds.
fn hgrm(histogram: &Histogram<u64>, out: &mut impl Write) -> std::io::Result<()> {
    const MICROS: f64 = 1000.0;
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut count = 0;
    for step in histogram.iter_quantiles(5) {
        count += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / MICROS, step.quantile_iterated_to());
        if quantile < 1.0 {
            writeln!(out, "{value:12.3} {quantile:2.12} {count:10} {:14.2}", 1.0 / (1.0 - quantile))?;
        } else {
            writeln!(out, "{value:12.3} {quantile:2.12} {count:10}")?;
        }
    }
    let (mean, stdev) = (histogram.mean() / MICROS, histogram.stdev() / MICROS);
    writeln!(out, "#[Mean    = {mean:12.3}, StdDeviation   = {stdev:12.3}]")?;
    writeln!(
        out,
        "#[Max     = {:12.3}, Total count    = {:12}]",
        histogram.max() as f64 / MICROS,
        histogram.len()
    )?;
    // 2048 sub-buckets are what three significant digits take.
    writeln!(out, "#[Buckets = {:12}, SubBuckets     = {:12}]", histogram.buckets(), 2048)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { setup, tally, elapsed, .. } = self;
        let pace = setup.qps.map_or("as fast as answers come".into(), |qps| {
            format!("open loop at {} queries/s", group(qps as u64))
        });
        writeln!(
            f,
            "{} to {}: {} names, {} % random, {pace}",
            setup.backend,
            setup.target,
            group(setup.names as u64),
            setup.random_share
        )?;
        let share = 100.0 * tally.answered() as f64 / tally.sent().max(1) as f64;
        writeln!(f, "sent       {:>14}  in {:.2} s", group(tally.sent()), elapsed.as_secs_f64())?;
        writeln!(
            f,
            "answered   {:>14}  {share:.3} %, {}/s",
            group(tally.answered()),
            group(self.answers_per_second() as u64)
        )?;
        writeln!(f, "lost       {:>14}", group(tally.lost()))?;
        if let Some(traffic) = &self.traffic {
            writeln!(f, "{traffic}")?;
        }
        for (name, count) in self.rcodes() {
            writeln!(f, "{name:<10} {:>14}", group(count))?;
        }
        let [question, malformed, data] = tally.wrong;
        let oddities = [
            ("truncated", tally.truncated),
            ("unexpected", tally.unexpected),
            ("wrong question", question),
            ("malformed", malformed),
            ("wrong data", data),
            ("send refused", tally.refused),
        ];
        for (name, count) in oddities.into_iter().filter(|(_, count)| *count > 0) {
            writeln!(f, "{name:<14} {:>10}", group(count))?;
        }
        // The program in the kernel does not tell them apart.
        let listed = if self.traffic.is_some() { "latency, µs" } else { "listed, µs" };
        quantiles_text(f, listed, &tally.names.latency)?;
        quantiles_text(f, "random, µs", &tally.random.latency)?;
        quantiles_text(f, "send lag, µs", &tally.lag)
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "steady for {:.2} s: {} queries/s, {} answers/s of {:.0} bytes; interface sent {}/s, received {}/s; {} skipped",
            self.seconds,
            group(self.queries_per_second as u64),
            group(self.answers_per_second as u64),
            self.answer_bytes,
            group(self.tx_packets_per_second as u64),
            group(self.rx_packets_per_second as u64),
            group(self.skipped)
        )
    }
}

fn quantiles_text(f: &mut fmt::Formatter<'_>, name: &str, histogram: &Histogram<u64>) -> fmt::Result {
    if histogram.is_empty() {
        return Ok(());
    }
    write!(f, "{name:<14}")?;
    for (label, quantile) in QUANTILES {
        write!(f, "  {label} {:.1}", histogram.value_at_quantile(quantile) as f64 / 1000.0)?;
    }
    writeln!(f)
}

/// A number with its thousands set apart.
pub fn group(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1000, 1234567].map(group), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_percentile_file_ends_with_the_maximum_and_the_count() {
        let mut histogram = crate::tally::histogram().unwrap();
        for micros in 1..=1000 {
            histogram.record(micros * 1000).unwrap();
        }
        let mut text = Vec::new();
        hgrm(&histogram, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("Total count    =         1000"), "{text}");
        let last = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
        assert!(last.contains("1.000000000000       1000"), "{last}");
    }
}
