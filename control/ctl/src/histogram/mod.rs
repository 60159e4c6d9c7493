//! `ringctl histogram`: export of service times, at once or by interval; sums over appliances; plots.

pub mod logs;
mod plot;

use crate::{
    table::table_width,
    talk::{Ringdnsd, escape},
};
use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use logs::{LogWriter, Summed, since};
use ringdns_common::{printable::Printable, units::TimeSpan};
use ringdns_dataplane::clock::Clock;
use std::{
    fs::{self, File},
    io::{self, LineWriter, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::time::{MissedTickBehavior, interval};

/// Shortest interval of an export.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Subcommands of `ringctl histogram`.
#[derive(Subcommand)]
pub enum Histogram {
    /// Print service times of hits, stale answers and misses, or an upstream's response times.
    ///
    /// Times are those since the start, or, with --interval, those of each interval from now on: a
    /// histogram log, which HdrHistogram's tools read.
    Export {
        /// Output format: the percentile table that HdrHistogram's plotters read, in microseconds;
        /// or the compressed log, in nanoseconds. Absent: text, or log with --interval.
        #[arg(long)]
        format: Option<HistogramFormat>,
        /// Outcome to print: hit, stale or miss; all three if not given. A plotter takes only one.
        #[arg(long)]
        outcome: Option<String>,
        /// Print the response times of this upstream instead; give its address as `ringctl
        /// upstreams` shows it.
        #[arg(long, conflicts_with_all = ["outcome", "by"])]
        upstream: Option<String>,
        /// Divide the times by worker and outcome, or by the tier that had the answer: hit, stale, host,
        /// redis, upstream, other.
        #[arg(long)]
        by: Option<Division>,
        /// Write a histogram for each interval of this length: 10s, 1m.
        #[arg(long)]
        interval: Option<TimeSpan>,
        /// Number of intervals. Absent: until Ctrl-C.
        #[arg(long, requires = "interval", value_parser = clap::value_parser!(u32).range(1..))]
        count: Option<u32>,
        /// Write to this file.
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// Add up the histogram logs of several appliances, or of several times, by tag. ringdnsd need not
    /// run.
    Merge {
        /// Files as `ringctl histogram export --format log` writes them.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Write to this file.
        #[arg(short, long)]
        output: Option<PathBuf>,
        /// Draw the sum as a picture into this file, too.
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Plot service times by percentile: those of ringdnsd since its start, or the sum of histogram logs.
    Plot {
        /// Files as `ringctl histogram export --format log` writes them. Absent: ringdnsd is asked.
        files: Vec<PathBuf>,
        /// Divide the times of ringdnsd by worker and outcome, or by the tier that had the answer.
        #[arg(long, conflicts_with = "files")]
        by: Option<Division>,
        /// Draw a picture into this file, in place of a plot on the terminal.
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
}

/// Format of an export.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HistogramFormat {
    Text,
    Log,
}

/// Division of service times.
#[derive(Clone, Copy, ValueEnum)]
pub enum Division {
    Worker,
    Tier,
}

impl Histogram {
    /// Does what the command says.
    pub async fn run(self, ringdnsd: &Ringdnsd) -> anyhow::Result<()> {
        match self {
            Histogram::Export { format, outcome, upstream, by, interval, count, output } => {
                let parameters = parameters(by, outcome.as_deref(), upstream.as_deref());
                let Some(TimeSpan(interval)) = interval else {
                    let format = format.unwrap_or(HistogramFormat::Text);
                    let body = ringdnsd.get(&path(format, &parameters)).await?;
                    return write(output.as_deref(), &body);
                };
                if format == Some(HistogramFormat::Text) {
                    bail!("intervals are written as a histogram log: leave out --format text, or --interval");
                }
                if interval < INTERVAL_MIN {
                    bail!("--interval: use at least 100ms");
                }
                let path = path(HistogramFormat::Log, &parameters);
                let exporting = export(ringdnsd, &path, (interval, count), output.as_deref());
                tokio::select! {
                    exported = exporting => exported,
                    // Each interval that is over has been written.
                    interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
                }
            }
            Histogram::Merge { files, output, svg } => {
                let summed = read(&files)?;
                let mut bytes = Vec::new();
                summed.write(&mut bytes)?;
                if let Some(path) = svg {
                    write(Some(&path), plot::svg(&summed.histograms).as_bytes())?;
                }
                write(output.as_deref(), &bytes)
            }
            Histogram::Plot { files, by, svg } => {
                let summed = match files.is_empty() {
                    true => Summed::read(
                        &ringdnsd.get(&path(HistogramFormat::Log, &parameters(by, None, None))).await?,
                    )?,
                    false => read(&files)?,
                };
                match svg {
                    Some(path) => write(Some(&path), plot::svg(&summed.histograms).as_bytes()),
                    None => {
                        let text = plot::text(&summed.histograms, table_width());
                        // Tags of files may have anything in them.
                        let mut out = io::stdout().lock();
                        Ok(text.lines().try_for_each(|line| writeln!(out, "{}", Printable(line)))?)
                    }
                }
            }
        }
    }
}

fn path(format: HistogramFormat, parameters: &str) -> String {
    let format = match format {
        HistogramFormat::Text => "text",
        HistogramFormat::Log => "log",
    };
    format!("/v1/histogram?format={format}{parameters}")
}

fn parameters(by: Option<Division>, outcome: Option<&str>, upstream: Option<&str>) -> String {
    let by = by.map(|by| match by {
        Division::Worker => "worker",
        Division::Tier => "tier",
    });
    let all = [("by", by), ("outcome", outcome), ("upstream", upstream)];
    let given = all.iter().filter_map(|(name, value)| Some((name, (*value)?)));
    given.map(|(name, value)| format!("&{name}={}", escape(value))).collect()
}

fn read(files: &[PathBuf]) -> anyhow::Result<Summed> {
    let mut summed = Summed::default();
    for path in files {
        let added = fs::read(path).map_err(anyhow::Error::from).and_then(|log| summed.add(&log));
        added.with_context(|| path.display().to_string())?;
    }
    Ok(summed)
}

fn write(path: Option<&Path>, bytes: &[u8]) -> anyhow::Result<()> {
    match path {
        Some(path) => fs::write(path, bytes).with_context(|| format!("writing {}", path.display())),
        None => Ok(io::stdout().write_all(bytes)?),
    }
}

/// Writes the histograms of each interval from now on.
async fn export(
    ringdnsd: &Ringdnsd,
    path: &str,
    (length, count): (Duration, Option<u32>),
    output: Option<&Path>,
) -> anyhow::Result<()> {
    // Each interval is there as soon as it is over.
    let mut out: LineWriter<Box<dyn Write>> = LineWriter::new(match output {
        Some(path) => Box::new(File::create(path).with_context(|| format!("writing {}", path.display()))?),
        None => Box::new(io::stdout()),
    });
    let mut ticks = interval(length);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let (began, mut log) = (Instant::now(), LogWriter::begin(unix_now()));
    let mut before = Summed::read(&ringdnsd.get(path).await?)?.histograms;
    let mut from = Duration::ZERO;
    for _ in 0..count.unwrap_or(u32::MAX) {
        ticks.tick().await;
        let now = Summed::read(&ringdnsd.get(path).await?)?.histograms;
        let to = began.elapsed();
        log.add(&since(&before, &now), [from, to.saturating_sub(from)], &mut out)?;
        (before, from) = (now, to);
    }
    Ok(out.flush()?)
}

/// Returns the Unix time.
fn unix_now() -> Duration {
    Duration::from_millis(Clock::start().epoch_millis().max(0) as u64)
}
