//! Load of one phase, and its results.

use super::{
    Args,
    scene::{self, Stage},
};
use crate::{
    compare::GENERATOR_CORE,
    report::{figure, of_generator},
};
use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use std::process::Command;

/// Suffix of random names, for which the upstream answers NXDOMAIN.
pub const RANDOM_SUFFIX: &str = "random.example";

/// Results of the queries of one kind.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Class {
    pub sent: u64,
    pub lost: u64,
    /// Median latency in nanoseconds, from when a query was due.
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// Results of a generator.
#[derive(Clone, Debug, Serialize)]
pub struct Load {
    /// Results of popular names.
    pub hits: Class,
    /// Results of names never asked before.
    pub misses: Class,
    /// Number of misses answered with SERVFAIL.
    pub servfail: u64,
    /// Answers that do not match their question.
    pub wrong: u64,
    /// Frames for which the generator's own rings had no room.
    pub ring_drops: u64,
    /// Send lag in nanoseconds at the 99th percentile: delay from when a query was due until it
    /// left.
    pub lag_p99: u64,
}

/// Returns the command of a generator.
pub fn command(stage: &mut Stage<'_>, args: &Args, seconds: f64) -> Command {
    let seed = stage.next_seed();
    let mut command =
        scene::command(stage.lab.client(), GENERATOR_CORE, args.nice, &stage.programs.ringbench);
    command.args(["run", "--backend=rings", "--interface=vc", "--target=10.53.0.2:53", "--json", "--quiet"]);
    command.args(["--timeout-ms=3500", "--random-suffix", RANDOM_SUFFIX]);
    command.arg(format!("--seed={seed}"));
    // The first load asks for every name once, before anything is measured.
    if seed == 1 {
        command.arg("--warm");
    }
    command.arg(format!("--qps={}", args.qps)).arg(format!("--random-share={}", args.random_share));
    command.arg(format!("--duration={seconds}"));
    command
}

impl Load {
    /// Runs a generator and returns its results.
    pub fn of(mut command: Command) -> Result<Self> {
        let report = of_generator(&mut command)?;
        let class = |name: &str| {
            let count =
                |pointer: &str| figure(&report, &format!("/{name}{pointer}")).map(|count| count as u64);
            let latency = |name: &str| count(&format!("/latency_ns/{name}"));
            let (p50, p99, p999, max) =
                (latency("p50")?, latency("p99")?, latency("p99.9")?, latency("max")?);
            anyhow::Ok(Class { sent: count("/sent")?, lost: count("/lost")?, p50, p99, p999, max })
        };
        let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        Ok(Load {
            hits: class("listed")?,
            misses: class("random")?,
            servfail: number("/response_rcodes/SERVFAIL"),
            wrong: number("/discarded"),
            ring_drops: number("/ring_drops"),
            lag_p99: number("/send_lag_ns/p99"),
        })
    }
}
