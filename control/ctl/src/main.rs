//! `ringctl`: talks HTTP to a running ringdnsd over its Unix socket, and shows the answers to people, or as JSON.

#![forbid(unsafe_code)]

mod print;
mod talk;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use hyper::Method;
use print::{print_as, show_counters, show_entry, show_log, show_status, show_sweeps, show_upstreams};
use ringdns_api::{EntryView, Purged, Reloaded, Status};
use ringdns_common::units::Span;
use ringdns_dataplane::access::Prefix;
use serde_json::Value;
use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};
use talk::{Ringdnsd, escape};

/// Watch and control a running ringdnsd.
///
/// Exits with 0 when it was done, with 1 when ringdnsd refused or what was asked for is not there, and with 2 when the
/// command line is wrong.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The control.socket of the ringdnsd to talk to.
    #[arg(long, global = true, default_value = "/run/ringdns/control.sock")]
    socket: PathBuf,
    /// Print what ringdnsd said, as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What runs, since when, how packets are received, and how the upstreams do.
    Status,
    /// A table of the upstreams: what each is asked for, how it does, and how long it takes to answer.
    ///
    /// ZONES are those that it alone is asked for; "others" are all names in no zone of the table. STATE is "up", or
    /// "back-off:" and how long it is still left alone for, because it failed several times in a row. ERRORS are failures
    /// (SERVFAIL and the like), connections that could not be had, and responses that cannot be read. RTT is the smoothed
    /// round trip, P50 to P99 the percentiles since the start, all in milliseconds.
    Upstreams,
    /// Every counter that is not zero.
    Stats {
        /// Those that are zero, too.
        #[arg(long)]
        all: bool,
    },
    /// What sweeps of the host's cache have done: a table of the last ones, and all of the last day together.
    ///
    /// A sweep looks at all entries (SEEN), removes those that cannot be given out any more (DEAD), and renews those that are
    /// about to expire (NEAR) and are asked for. NEAR is the sum of RENEWED, SAME (the new answer expires no later), FAILED (the old one
    /// stays), UNASKED (not asked for often enough), PUT-OFF (could not be renewed lately), OVER (beyond the budget) and SETTLED
    /// (somebody else was there first). WALK is the time to look at all, TOOK the time in all, in milliseconds.
    ///
    /// With Redis, a second table has what this appliance's sweeps of it did: how many answers there are (KEPT), how many were looked for
    /// (SEEN), and how many left because they had ended, were the least wanted of too many, were wanted by nobody (IDLE), or were gone from Redis
    /// already (ORPHANS).
    Sweeps {
        /// So many of the last.
        #[arg(short = 'n', long, default_value_t = 20)]
        last: usize,
    },
    /// Look into the cache, or make it forget.
    #[command(subcommand)]
    Cache(Cache),
    /// Show what of the query log is on this host: all of it, or what ClickHouse has not yet taken. The oldest comes first.
    ///
    /// Reads the files; ringdnsd need not run. With --json: an object a line.
    Log(Log),
    /// Service times.
    #[command(subcommand)]
    Histogram(Histogram),
    /// Read the configuration again. What can change at once does, and what waits for a restart is named.
    ///
    /// A configuration that would be refused at the start changes nothing. SIGHUP does the same, without telling what came of it.
    Reload,
    /// Take a profile in pprof's format, for `go tool pprof` and its like.
    ///
    /// Two profiles of the heap show what has grown between them: `go tool pprof -base before.pprof after.pprof`.
    #[command(subcommand)]
    Profile(Profile),
    /// Show the query log live: one answer a line, as JSON. What this cannot keep up with is left out, and counted
    /// (query_log.counters.tap_full in the statistics).
    Tap {
        /// End after so many.
        #[arg(short = 'n', long)]
        count: Option<u64>,
    },
}

#[derive(Subcommand)]
enum Cache {
    /// Show what is held under a name.
    Get {
        /// The name.
        name: String,
        /// Only this type.
        rtype: Option<String>,
    },
    /// Forget a name, a name and all below it, or everything.
    #[command(group = clap::ArgGroup::new("what").required(true))]
    Purge {
        /// The name.
        #[arg(group = "what")]
        name: Option<String>,
        /// The name and all below it.
        #[arg(long, group = "what")]
        suffix: Option<String>,
        /// Everything.
        #[arg(long, group = "what")]
        all: bool,
    },
}

#[derive(Subcommand)]
enum Profile {
    /// The memory in use, by who allocated it.
    Heap {
        /// Write to this file.
        #[arg(short, long, default_value = "heap.pprof")]
        output: PathBuf,
    },
    /// The processor time that is used from now on, by who uses it.
    Cpu {
        /// For so many seconds.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=300))]
        seconds: u32,
        /// Write to this file.
        #[arg(short, long, default_value = "cpu.pprof")]
        output: PathBuf,
    },
}

#[derive(Args)]
struct Log {
    /// The query_log.spool_dir of ringdnsd.
    #[arg(long, default_value = "/var/lib/ringdns/query-log")]
    spool_dir: PathBuf,
    /// Only queries for this name.
    #[arg(long)]
    name: Option<String>,
    /// Only queries for this name and all below it.
    #[arg(long, conflicts_with = "name")]
    suffix: Option<String>,
    /// Only queries of this client, or of those in this prefix.
    #[arg(long)]
    client: Option<Prefix>,
    /// Only what is not older: 90s, 10m, 1h, 7d.
    #[arg(long)]
    since: Option<Span>,
}

#[derive(Subcommand)]
enum Histogram {
    /// Print service times of hits, stale answers and misses since the start, or how long an upstream takes to answer.
    Export {
        /// The percentile table that HdrHistogram's plotters read, in microseconds; or the compressed log, in
        /// nanoseconds.
        #[arg(long, default_value = "text")]
        format: Format,
        /// hit, stale or miss; all three if not given. A plotter takes one.
        #[arg(long)]
        outcome: Option<String>,
        /// What this upstream takes to answer instead; its address as `ringctl upstreams` shows it.
        #[arg(long, conflicts_with = "outcome")]
        upstream: Option<String>,
        /// Write to this file.
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Log,
}

/// How long it may look for the names of functions, which it does once for each.
const PROFILE_PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let ringdnsd = Ringdnsd { socket: arguments.socket };
    let json = arguments.json;
    match arguments.command {
        Command::Status => {
            let body = ringdnsd.get("/status").await?;
            print_as(json, &body, show_status)
        }
        Command::Upstreams => {
            let body = ringdnsd.get("/status").await?;
            if json {
                let status: Value = serde_json::from_slice(&body)?;
                return Ok(writeln!(io::stdout(), "{}", status["upstreams"])?);
            }
            print_as(false, &body, |status: Status, out| show_upstreams(&status.upstreams, out))
        }
        Command::Stats { all } => {
            let body = ringdnsd.get("/stats").await?;
            print_as(json, &body, |stats: Value, out| show_counters(&stats, "", all, out))
        }
        Command::Sweeps { last } => {
            let body = ringdnsd.get(&format!("/sweeps?last={last}")).await?;
            print_as(json, &body, show_sweeps)
        }
        Command::Cache(Cache::Get { name, rtype }) => {
            let rtype = rtype.map(|rtype| format!("&type={}", escape(&rtype))).unwrap_or_default();
            let body = ringdnsd.get(&format!("/cache/entry?name={}{rtype}", escape(&name))).await?;
            print_as(json, &body, |entries: Vec<EntryView>, out| {
                entries.iter().try_for_each(|entry| show_entry(entry, out))
            })
        }
        Command::Cache(Cache::Purge { name, suffix, .. }) => {
            let what = match (name, suffix) {
                (Some(name), _) => format!("name={}", escape(&name)),
                (None, Some(suffix)) => format!("suffix={}", escape(&suffix)),
                (None, None) => "all=true".to_owned(),
            };
            let body = ringdnsd.ask(Method::POST, &format!("/cache/purge?{what}")).await?;
            print_as(json, &body, |purged: Purged, out| {
                writeln!(out, "removed {} entries; the workers' caches start over", purged.removed)?;
                match purged.told {
                    Some(true) => writeln!(out, "the other appliances of the fleet have been told"),
                    Some(false) => {
                        writeln!(out, "the other appliances will be told when Redis can be reached")
                    }
                    None => Ok(()),
                }
            })
        }
        Command::Log(log) => show_log(&log, json),
        Command::Histogram(Histogram::Export { format, outcome, upstream, output }) => {
            let format = match format {
                Format::Text => "text",
                Format::Log => "log",
            };
            let outcome = outcome.map(|outcome| format!("&outcome={}", escape(&outcome))).unwrap_or_default();
            let upstream =
                upstream.map(|address| format!("&upstream={}", escape(&address))).unwrap_or_default();
            let body = ringdnsd.get(&format!("/histogram?format={format}{outcome}{upstream}")).await?;
            match output {
                Some(path) => fs::write(&path, &body).with_context(|| format!("writing {}", path.display())),
                None => Ok(io::stdout().write_all(&body)?),
            }
        }
        Command::Reload => {
            let body = ringdnsd.ask(Method::POST, "/reload").await?;
            print_as(json, &body, |Reloaded { applied, needs_restart }, out| {
                if applied.is_empty() && needs_restart.is_empty() {
                    return writeln!(out, "nothing has changed");
                }
                for table in applied {
                    writeln!(out, "[{table}] holds from now on")?;
                }
                for table in needs_restart {
                    writeln!(out, "[{table}] has changed, and will not hold before a restart")?;
                }
                Ok(())
            })
        }
        Command::Profile(profile) => {
            let (path, takes, output) = match profile {
                Profile::Heap { output } => ("/debug/pprof/heap".to_owned(), 0, output),
                Profile::Cpu { seconds, output } => {
                    (format!("/debug/pprof/profile?seconds={seconds}"), seconds, output)
                }
            };
            let patience = PROFILE_PATIENCE + Duration::from_secs(takes.into());
            let body = ringdnsd.ask_within(patience, Method::GET, &path).await?;
            fs::write(&output, &body).with_context(|| format!("writing {}", output.display()))?;
            Ok(writeln!(io::stdout(), "{}: {} bytes", output.display(), body.len())?)
        }
        Command::Tap { count } => ringdnsd.tap(count.unwrap_or(u64::MAX)).await,
    }
}
