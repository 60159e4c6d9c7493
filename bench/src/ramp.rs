//! `ringbench ramp`: highest rate at which a server meets an objective.
//!
//! Follows RFC 2544 section 26.1 (trials at rates that a search picks) and RFC 8219 section 9 (DNS:
//! an answer counts within its timeout, and the tester must send what it should). Differences: loss
//! may be above zero, as resolvers over UDP are run; latency is part of the objective; and trials
//! last seconds, with a longer one at the end.

use crate::{
    compare::search::{Search, Trial, highest},
    report::{Report, group},
    run::{self, Plan},
    upstream::percent,
};
use anyhow::{Result, ensure};
use ringdns_common::units::TimeSpan;
use serde::Serialize;
use serde_json::json;
use std::{fmt, sync::atomic::Ordering::Relaxed, time::Duration};

/// Finds the highest rate at which a server meets an objective, by trials, and confirms it.
///
/// Load, queries and backend are those of `run`; --qps is the first rate to try (default: 10,000).
/// --json has all trials, for bench/plot.py.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "ramp")]
pub struct Args {
    #[command(flatten)]
    pub run: run::Args,
    /// Share of the queries that may be lost, in percent.
    #[arg(long, value_name = "PCT", default_value_t = 0.1, value_parser = percent)]
    pub loss: f64,
    /// Most time for 99 % of the answers, from when their queries were due: 500us, 1ms, 2s.
    #[arg(long, value_name = "TIME")]
    pub p99: Option<TimeSpan>,
    /// Length of a trial, in seconds.
    #[arg(long, default_value_t = 2.0, value_parser = run::rate)]
    pub trial: f64,
    /// Length of the confirmation, in seconds.
    #[arg(long, default_value_t = 5.0, value_parser = run::rate)]
    pub confirm: f64,
    /// Precision of the rate, in percent.
    #[arg(long, value_name = "PCT", default_value_t = 2.0, value_parser = percent)]
    pub resolution: f64,
    /// Most trials of the search.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub tries: u32,
}

/// Objective that a server must meet.
#[derive(Clone, Copy, Debug)]
struct Objective {
    /// Largest share of lost queries, from 0 to 1.
    loss: f64,
    /// Largest latency at the 99th percentile, in nanoseconds.
    p99: Option<u64>,
}

/// Trial at a rate.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// Queries a second that were ordered.
    pub rate: f64,
    /// Queries a second that left.
    pub sent: f64,
    /// Answers a second that came in time.
    pub answered: f64,
    /// Share of the ordered queries without an answer, in percent: lost, or never sent.
    pub loss_percent: f64,
    /// Median latency, in nanoseconds.
    pub p50_ns: u64,
    /// Latency at the 99th percentile, in nanoseconds.
    pub p99_ns: u64,
    /// Whether this trial confirms the result of the search.
    pub confirmation: bool,
    /// Outcome of the trial.
    pub verdict: Verdict,
}

/// Outcome of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The server met the objective.
    Met,
    /// The generator did not send what was ordered, or not in time: the trial says nothing about
    /// the server.
    Generator,
    /// Too many queries got no answer.
    Loss,
    /// Answers came too late.
    Latency,
}

/// Share of the ordered rate below which the generator has reached its own limit.
const KEPT: f64 = 0.995;

impl Objective {
    fn judge(self, rate: f64, report: &Report) -> Result<Attempt> {
        let tally = &report.tally;
        let seconds = report.elapsed.as_secs_f64();
        let sent = report.traffic.map_or(tally.sent() as f64 / seconds, |traffic| traffic.queries_per_second);
        let loss = tally.lost() as f64 / tally.sent().max(1) as f64;
        let mut latency = tally.names.latency()?;
        latency.add(tally.random.latency()?)?;
        let p99 = latency.value_at_quantile(0.99);
        let late = tally.lag.value_at_quantile(0.99);
        let verdict = match () {
            _ if sent < KEPT * rate => Verdict::Generator,
            _ if loss > self.loss => Verdict::Loss,
            // Half of the allowed time had passed before the query left.
            _ if self.p99.is_some_and(|most| p99 > most && late > most / 2) => Verdict::Generator,
            _ if self.p99.is_some_and(|most| p99 > most) => Verdict::Latency,
            _ => Verdict::Met,
        };
        Ok(Attempt {
            rate,
            sent,
            answered: report.answers_per_second(),
            loss_percent: 100.0 * (1.0 - (1.0 - loss) * (sent / rate).min(1.0)),
            p50_ns: latency.value_at_quantile(0.5),
            p99_ns: p99,
            confirmation: false,
            verdict,
        })
    }

    /// Whether chance may have made the trial miss.
    fn is_close(self, attempt: &Attempt) -> bool {
        let (loss, p99) = (attempt.loss_percent / 100.0, attempt.p99_ns);
        if attempt.verdict == Verdict::Generator && attempt.sent >= KEPT * attempt.rate {
            return true;
        }
        loss <= 3.0 * self.loss + 0.001 && self.p99.is_none_or(|most| p99 <= most + most / 2)
    }
}

/// Result of a ramp.
#[derive(Clone, Debug)]
pub struct Found {
    /// Highest confirmed rate, in queries a second.
    pub rate: Option<f64>,
    /// Whether the generator's own limit ended the search.
    pub generator: bool,
    /// Every trial, in order.
    pub attempts: Vec<Attempt>,
    /// Report of the last confirmation.
    pub report: Option<Report>,
}

/// Searches and confirms; `trial` runs a load at a rate for a number of seconds.
fn search(args: &Args, first: f64, mut trial: impl FnMut(f64, f64) -> Result<Report>) -> Result<Found> {
    let objective =
        Objective { loss: args.loss / 100.0, p99: args.p99.map(|TimeSpan(p99)| p99.as_nanos() as u64) };
    let mut attempts = Vec::new();
    let close = 1.0 + args.resolution / 100.0;
    let plan = Search { first, stride: 2.0, close, tries: args.tries };
    let found = highest(plan, |rate| {
        let attempt = objective.judge(rate, &trial(rate, args.trial)?)?;
        let met = match attempt.verdict {
            Verdict::Met => Trial::Met,
            _ if objective.is_close(&attempt) => Trial::Close,
            _ => Trial::Missed,
        };
        eprintln!("{attempt}");
        attempts.push(attempt);
        Ok(met)
    })?;
    // The longer trial may miss a rate that shorter ones met: then the rate is lowered until it is
    // met.
    const STEPS: u32 = 8;
    let (mut rate, mut confirmed, mut report) = (found.rate, None, None);
    for _ in 0..STEPS {
        if rate == 0.0 {
            break;
        }
        let last = trial(rate, args.confirm)?;
        let attempt = Attempt { confirmation: true, ..objective.judge(rate, &last)? };
        let met = attempt.verdict == Verdict::Met;
        eprintln!("{attempt}");
        attempts.push(attempt);
        report = Some(last);
        if met {
            confirmed = Some(rate);
            break;
        }
        rate /= close;
    }
    // The bound is the lowest failed rate above.
    let above = attempts.iter().filter(|a| a.rate > rate && a.verdict != Verdict::Met);
    let bound = above.min_by(|a, b| a.rate.total_cmp(&b.rate));
    let generator = bound.is_some_and(|attempt| attempt.verdict == Verdict::Generator);
    Ok(Found { rate: confirmed, generator, attempts, report })
}

/// Finds the highest rate of the server that `args` name.
pub fn measure(args: &Args) -> Result<Found> {
    ensure!(args.run.load.replay.is_none(), "a recording has rates of its own: use ramp without --replay");
    let run = run::Args { quiet: true, ..args.run.clone() };
    let mut plan: Plan = run::prepare(&run)?;
    search(args, run.load.qps.unwrap_or(10_000.0), |rate, seconds| {
        plan.qps = Some(rate);
        plan.duration = Duration::from_secs_f64(seconds);
        // Random names must be new to the server in each trial.
        plan.seed = plan.seed.wrapping_add(1);
        let report = run::measure_plan(&run, &plan)?;
        ensure!(!plan.stop.load(Relaxed), "interrupted");
        Ok(report)
    })
}

/// `ringbench ramp`.
pub fn run(args: &Args) -> Result<()> {
    let found = measure(args)?;
    if let Some(report) = &found.report {
        args.run.write_metrics(report)?;
    }
    if args.run.json {
        let confirmation = found.report.as_ref().map(Report::json).transpose()?;
        let json = json!({
            "generator": "ringbench",
            "objective": { "loss_percent": args.loss, "p99_ns": args.p99.map(|TimeSpan(p99)| p99.as_nanos() as u64) },
            "rate": found.rate,
            "limited_by_generator": found.generator,
            "trials": found.attempts,
            "confirmation": confirmation,
        });
        println!("{}", serde_json::to_string_pretty(&json)?);
    } else {
        print!("{found}");
    }
    ensure!(
        found.attempts.iter().any(|attempt| attempt.answered > 0.0),
        "no answer came from {}: does a DNS server listen there, and may this host ask it?",
        args.run.address()
    );
    Ok(())
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Met => "met",
            Verdict::Generator => "missed: by the generator itself",
            Verdict::Loss => "missed: loss",
            Verdict::Latency => "missed: latency",
        };
        write!(
            f,
            "{:>11}/s  answered {:>11}/s  loss {:>8.3} %  p50 {:>9.1} µs  p99 {:>9.1} µs  {verdict}{}",
            group(self.rate as u64),
            group(self.answered as u64),
            self.loss_percent,
            self.p50_ns as f64 / 1000.0,
            self.p99_ns as f64 / 1000.0,
            if self.confirmation { " (confirmation)" } else { "" }
        )
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.rate, &self.report) {
            (Some(rate), Some(report)) => {
                writeln!(f, "highest rate: {} queries/s, confirmed:", group(rate as u64))?;
                write!(f, "{report}")?;
            }
            _ => writeln!(f, "no rate met the objective")?,
        }
        if self.generator {
            writeln!(
                f,
                "the generator reached its own limit before the server did: give it more threads or --backend rings"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{options, report::Setup, tally::Tally};
    use std::time::SystemTime;

    fn args(words: &[&str]) -> Args {
        options::parse(&[&["--target=127.0.0.1:53"], words].concat()).unwrap()
    }

    /// Returns the reports of a server that answers `maximum` queries a second, in 20 µs up to 90 %
    /// of that rate and in 5 ms above, and of a generator that sends `generator` a second.
    fn model(maximum: f64, generator: f64) -> impl FnMut(f64, f64) -> Result<Report> {
        move |rate, seconds| {
            let mut tally = Tally::new()?;
            tally.names.sent = (rate.min(generator) * seconds) as u64;
            let answered = (rate.min(generator).min(maximum) * seconds) as u64;
            let nanos = if rate > 0.9 * maximum { 5_000_000 } else { 20_000 };
            for _ in 0..answered {
                tally.names.answer(0, nanos);
            }
            let setup = Setup {
                backend: "udp".into(),
                target: "model".into(),
                names: 1,
                recorded: false,
                random_share: 0.0,
                qps: Some(rate),
                timeout: Duration::from_secs(1),
            };
            let elapsed = Duration::from_secs_f64(seconds);
            let began = SystemTime::UNIX_EPOCH;
            Ok(Report {
                setup,
                began,
                elapsed,
                tally,
                traffic: None,
                interval: elapsed,
                intervals: Vec::new(),
            })
        }
    }

    #[test]
    fn a_known_maximum_is_found_within_the_resolution() {
        let args = args(&["--trial=0.1", "--confirm=0.2", "--loss=0.1"]);
        for first in [1e3, 30e3, 100e3] {
            let found = search(&args, first, model(33_000.0, 1e9)).unwrap();
            let rate = found.rate.unwrap();
            assert!((32_300.0..=33_050.0).contains(&rate), "{first}: {rate}");
            assert!(!found.generator && found.attempts.last().unwrap().confirmation);
            assert!(found.attempts.len() <= 16, "{}", found.attempts.len());
        }
    }

    #[test]
    fn latency_bounds_where_loss_does_not() {
        let args = args(&["--trial=0.1", "--confirm=0.2", "--p99=1ms"]);
        let found = search(&args, 10e3, model(33_000.0, 1e9)).unwrap();
        assert!((29_000.0..=29_710.0).contains(&found.rate.unwrap()), "{:?}", found.rate);
        assert!(found.attempts.iter().any(|attempt| attempt.verdict == Verdict::Latency));
    }

    #[test]
    fn the_generators_limit_is_told_from_the_servers() {
        let args = args(&["--trial=0.1", "--confirm=0.2"]);
        let found = search(&args, 1e3, model(50_000.0, 20_000.0)).unwrap();
        assert!(found.generator && (19_700.0..=20_200.0).contains(&found.rate.unwrap()), "{:?}", found.rate);
    }

    #[test]
    fn what_is_not_confirmed_is_lowered() {
        let args = args(&["--trial=0.1", "--confirm=0.2"]);
        // Meets 30,000 for the length of a trial, and 28,000 for longer.
        let (mut short, mut long) = (model(30_000.0, 1e9), model(28_000.0, 1e9));
        let found =
            search(
                &args,
                10e3,
                |rate, seconds| if seconds < 0.15 { short(rate, seconds) } else { long(rate, seconds) },
            );
        let rate = found.unwrap().rate.unwrap();
        assert!((27_000.0..=28_050.0).contains(&rate), "{rate}");
        let none = search(&args, 10e3, model(0.0, 1e9)).unwrap();
        assert_eq!(none.rate, None);
    }
}
