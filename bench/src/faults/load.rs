//! A stretch of load, and what came back.

use super::{
    Args,
    scene::{self, Stage},
};
use crate::compare::GENERATOR_CORE;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::Value;
use std::process::{Command, Stdio};

/// What nobody asked before is under this, and the upstream says that it does not exist.
pub const RANDOM_SUFFIX: &str = "random.example";

/// Answers to questions of one kind.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Class {
    pub sent: u64,
    pub lost: u64,
    /// Nanoseconds from when a query was due to its answer.
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// What a generator tells.
#[derive(Clone, Debug, Serialize)]
pub struct Load {
    /// Of names that everybody asks.
    pub hits: Class,
    /// Of names that nobody asked before.
    pub misses: Class,
    /// Of these, those that were answered with SERVFAIL.
    pub servfail: u64,
    /// Answers that were not of the question.
    pub wrong: u64,
    /// Frames that the generator's own rings had no room for.
    pub ring_drops: u64,
    /// Nanoseconds by which 99 % of all queries left later than they were due, at most.
    pub lag_p99: u64,
}

/// A generator, to be started.
pub fn command(stage: &mut Stage<'_>, args: &Args, seconds: f64) -> Command {
    let seed = stage.next_seed();
    let mut command =
        scene::command(stage.lab.client(), GENERATOR_CORE, args.nice, &stage.programs.ringbench);
    command.args(["run", "--backend=rings", "--interface=vc", "--target=10.53.0.2:53", "--json", "--quiet"]);
    command.args(["--timeout-ms=3500", "--random-suffix", RANDOM_SUFFIX]);
    command.arg(format!("--seed={seed}"));
    // All names are asked for once, before anything is measured.
    if seed == 1 {
        command.arg("--warm");
    }
    command.arg(format!("--qps={}", args.qps)).arg(format!("--random-share={}", args.random_share));
    command.arg(format!("--duration={seconds}"));
    command
}

impl Load {
    /// Runs it.
    pub fn of(mut command: Command) -> Result<Self> {
        let output = command.stdin(Stdio::null()).output().context("cannot run the generator")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the generator failed: {}", said.trim());
        let report: Value =
            serde_json::from_slice(&output.stdout).context("the generator's report is none")?;
        let class = |name: &str| {
            let count = |pointer: &str| {
                let value = report[name].pointer(pointer).and_then(Value::as_u64);
                value.with_context(|| format!("the generator's report has no {name}{pointer}"))
            };
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
