//! Exports of service times and profiles, to files.

use crate::talk::{Ringdnsd, escape};
use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use hyper::Method;
use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

/// Time that ringdnsd may take to resolve the names of functions, which it does once for each.
const PROFILE_PATIENCE: Duration = Duration::from_secs(60);

/// Subcommands of `ringctl histogram`.
#[derive(Subcommand)]
pub enum Histogram {
    /// Print service times of hits, stale answers and misses, or an upstream's response times,
    /// since the start.
    Export {
        /// Output format: the percentile table that HdrHistogram's plotters read, in microseconds;
        /// or the compressed log, in nanoseconds.
        #[arg(long, default_value = "text")]
        format: HistogramFormat,
        /// Outcome to print: hit, stale or miss; all three if not given. A plotter takes only one.
        #[arg(long)]
        outcome: Option<String>,
        /// Print the response times of this upstream instead; give its address as `ringctl
        /// upstreams` shows it.
        #[arg(long, conflicts_with = "outcome")]
        upstream: Option<String>,
        /// Write to this file.
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
}

/// Format of an export.
#[derive(Clone, Copy, ValueEnum)]
pub enum HistogramFormat {
    Text,
    Log,
}

/// Subcommands of `ringctl profile`.
#[derive(Subcommand)]
pub enum Profile {
    /// Write a profile of the memory in use, by allocating function.
    Heap {
        /// Write to this file.
        #[arg(short, long, default_value = "heap.pprof")]
        output: PathBuf,
    },
    /// Write a profile of the CPU time used from now on, by function.
    Cpu {
        /// Duration in seconds.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=300))]
        seconds: u32,
        /// Write to this file.
        #[arg(short, long, default_value = "cpu.pprof")]
        output: PathBuf,
    },
}

impl Histogram {
    /// Exports service times.
    pub async fn run(self, ringdnsd: &Ringdnsd) -> anyhow::Result<()> {
        let Histogram::Export { format, outcome, upstream, output } = self;
        let format = match format {
            HistogramFormat::Text => "text",
            HistogramFormat::Log => "log",
        };
        let outcome = outcome.map(|outcome| format!("&outcome={}", escape(&outcome))).unwrap_or_default();
        let upstream = upstream.map(|address| format!("&upstream={}", escape(&address))).unwrap_or_default();
        let body = ringdnsd.get(&format!("/v1/histogram?format={format}{outcome}{upstream}")).await?;
        match output {
            Some(path) => fs::write(&path, &body).with_context(|| format!("writing {}", path.display())),
            None => Ok(io::stdout().write_all(&body)?),
        }
    }
}

impl Profile {
    /// Writes a profile.
    pub async fn take(self, ringdnsd: &Ringdnsd) -> anyhow::Result<()> {
        let (path, takes, output) = match self {
            Profile::Heap { output } => ("/v1/debug/pprof/heap".to_owned(), 0, output),
            Profile::Cpu { seconds, output } => {
                (format!("/v1/debug/pprof/profile?seconds={seconds}"), seconds, output)
            }
        };
        let patience = PROFILE_PATIENCE + Duration::from_secs(takes.into());
        let body = ringdnsd.ask_within(patience, Method::GET, &path).await?;
        fs::write(&output, &body).with_context(|| format!("writing {}", output.display()))?;
        Ok(writeln!(io::stdout(), "{}: {} bytes", output.display(), body.len())?)
    }
}
