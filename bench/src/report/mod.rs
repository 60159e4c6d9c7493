//! Report of a run: as text, and as JSON (DNS-OARC's dns-metrics).

mod metrics;
pub mod series;

use crate::{
    report::series::Interval,
    tally::{Class, Tally},
};
use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use ringdns_testkit::scenario::rcode_text;
use serde::Serialize;
use serde_json::Value;
use std::{
    fmt,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

/// Setup of a run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Generator of the load.
    pub backend: String,
    /// Server that was asked.
    pub target: String,
    /// Number of names, or number of queries of a recording.
    pub names: usize,
    /// Whether a recording was replayed.
    pub recorded: bool,
    /// Share of names never asked before, in percent.
    pub random_share: f64,
    /// Rate that was ordered.
    pub qps: Option<f64>,
    /// Time that an answer was waited for.
    pub timeout: Duration,
}

/// Counters of the generator and its interface, while the load was steady (xdp) or from start to
/// end (rings).
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Traffic {
    /// Duration of the count, in seconds.
    pub seconds: f64,
    /// Queries a second that left the program.
    pub queries_per_second: f64,
    /// Answers a second to queries in flight.
    pub answers_per_second: f64,
    /// Packets a second that the interface sent: fewer than left the program if the link had no
    /// room.
    pub tx_packets_per_second: f64,
    /// Packets a second that the interface received.
    pub rx_packets_per_second: f64,
    /// Queries never sent because they would have been too late.
    pub skipped: u64,
    /// Mean length of the answers' frames, from Ethernet header to the end of UDP.
    pub answer_bytes: f64,
}

/// Report of a finished run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Setup of the run.
    pub setup: Setup,
    /// Start of the run.
    pub began: SystemTime,
    /// Time for which queries were sent.
    pub elapsed: Duration,
    /// Counts and latencies.
    pub tally: Tally,
    /// Counters of the interface, if it is known.
    pub traffic: Option<Traffic>,
    /// Length of an interval.
    pub interval: Duration,
    /// Counts by interval.
    pub intervals: Vec<Interval>,
}

/// Quantiles that reports name.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

impl Report {
    /// Returns answers a second.
    pub fn answers_per_second(&self) -> f64 {
        let mean = || self.tally.answered() as f64 / self.elapsed.as_secs_f64();
        self.traffic.map_or_else(mean, |traffic| traffic.answers_per_second)
    }

    /// Returns the classes that have queries, with their names.
    fn classes(&self) -> impl Iterator<Item = (&'static str, &Class)> {
        // The program in the kernel does not tell the classes apart.
        let listed =
            if self.setup.random_share > 0.0 && self.setup.backend == "xdp" { "all" } else { "listed" };
        let classes = [(listed, &self.tally.names), ("random", &self.tally.random)];
        classes.into_iter().filter(|(_, class)| class.sent > 0)
    }

    /// Returns the latencies by class and outcome, such as `listed NOERROR`. A class with a single
    /// outcome has just the class's name.
    fn outcomes(&self) -> impl Iterator<Item = (String, &Histogram<u64>)> {
        self.classes().flat_map(|(name, class)| {
            let told: Vec<_> = (0..16).filter_map(|rcode| Some((rcode, class.outcome(rcode)?))).collect();
            let alone = told.len() == 1;
            let named = move |rcode| {
                if alone { name.to_string() } else { format!("{name} {}", rcode_text(rcode as u16)) }
            };
            let untold = class.outcome(16).map(|histogram| (name.to_string(), histogram));
            told.into_iter().map(move |(rcode, histogram)| (named(rcode), histogram)).chain(untold)
        })
    }

    fn counted_rcodes(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let counted = self.tally.rcodes.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(rcode, count)| (rcode_text(rcode as u16), *count))
    }
}

/// Runs `ringbench run --json` by `command`, and returns its report.
pub fn of_generator(command: &mut Command) -> Result<Value> {
    let output = command.stdin(Stdio::null()).output().context("cannot start the generator")?;
    let said = String::from_utf8_lossy(&output.stderr);
    // A report without an answer is one too, although the generator fails then.
    let report = serde_json::from_slice(&output.stdout);
    ensure!(output.status.success() || report.is_ok(), "the generator failed: {}", said.trim());
    report.context("the generator's report is not JSON")
}

/// Returns a figure of a report as JSON, by its pointer.
pub fn figure(report: &Value, pointer: &str) -> Result<f64> {
    let figure = report.pointer(pointer).and_then(Value::as_f64);
    figure.with_context(|| format!("the generator's report lacks {pointer}"))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { setup, tally, elapsed, .. } = self;
        let pace = setup.qps.map_or("as fast as answers come".into(), |qps| {
            format!("open loop at {} queries/s", group(qps as u64))
        });
        let names = group(setup.names as u64);
        if setup.recorded {
            writeln!(f, "{} to {}: {names} queries as they were recorded", setup.backend, setup.target)?;
        } else {
            let share = setup.random_share;
            writeln!(f, "{} to {}: {names} names, {share} % random, {pace}", setup.backend, setup.target)?;
        }
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
        for (name, count) in self.counted_rcodes() {
            writeln!(f, "{name:<10} {:>14}", group(count))?;
        }
        let [question, malformed, data, ttl] = tally.wrong;
        let oddities = [
            ("truncated", tally.truncated),
            ("unexpected", tally.unexpected),
            ("wrong question", question),
            ("malformed", malformed),
            ("wrong data", data),
            ("TTL too long", ttl),
            ("send refused", tally.refused),
            ("ring drops", tally.ring_drops),
            ("connections", tally.connections),
            ("broken off", tally.broken),
            ("interrupted", tally.interrupted),
        ];
        for (name, count) in oddities.into_iter().filter(|(_, count)| *count > 0) {
            writeln!(f, "{name:<14} {:>10}", group(count))?;
        }
        for (name, histogram) in self.outcomes() {
            quantiles_text(f, &format!("{name}, µs"), histogram)?;
        }
        quantiles_text(f, "send lag, µs", &tally.lag)
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "measured {:.2} s: {} queries/s, {} answers/s of {:.0} bytes; interface sent {}/s, received {}/s; {} skipped",
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
    write!(f, "{name:<20}")?;
    for (label, quantile) in QUANTILES {
        write!(f, "  {label} {:.1}", histogram.value_at_quantile(quantile) as f64 / 1000.0)?;
    }
    writeln!(f)
}

/// Formats a number with separated thousands.
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
}
