//! `ringctl`: sends HTTP requests to a running ringdnsd over its Unix socket or over TCP, and prints the
//! answers as text or JSON.

#![forbid(unsafe_code)]

mod config;
mod explain;
mod export;
mod monitor;
mod offline;
mod overrides;
mod print;
mod table;
mod talk;
mod tokens;
mod upkeep;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use export::{export_histogram, take_profile};
use monitor::Check;
use offline::OfflineTest;
use overrides::{Extent, GroupChoice, PauseChoice, Pausing};
use print::{
    print_as, show_bans, show_counters, show_entry, show_floods, show_lists, show_log, show_names,
    show_policy_test, show_status, show_sweeps, show_upstreams,
};
use ringdns_api::{DaemonStatus, EntryView, OverrideAction};
use ringdns_common::{printable::Printable, units::TimeSpan};
use ringdns_dataplane::prefix::Prefix;
use ringdns_manual::Section;
use serde_json::Value;
use std::{
    io::{self, Write},
    net::IpAddr,
    path::PathBuf,
    process::ExitCode,
};
use talk::{Ringdnsd, escape};

/// Watch and control a running ringdnsd.
///
/// Exit codes: 0 on success; 1 if ringdnsd refused the request, could not be reached, or has no
/// such entry; 2 if the command line is wrong. `ringctl check` has its own.
#[derive(Parser)]
#[command(name = "ringctl", version, max_term_width = 80)]
struct Arguments {
    /// Path of ringdnsd's control.socket.
    #[arg(long, global = true, default_value = "/run/ringdns/control.sock")]
    socket: PathBuf,
    /// URL of ringdnsd's control.http, such as http://127.0.0.1:8053, in place of the socket.
    #[arg(long, global = true, conflicts_with = "socket")]
    url: Option<String>,
    /// File whose first line is the token for --url.
    #[arg(long, global = true, requires = "url", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print ringdnsd's answer as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

impl Arguments {
    /// Returns the ringdnsd that they name.
    fn ringdnsd(&self) -> anyhow::Result<Ringdnsd> {
        Ringdnsd::at(self.socket.clone(), self.url.as_deref(), self.token_file.as_deref())
    }
}

#[derive(Subcommand)]
enum Command {
    /// Show version, uptime, packet reception, resource usage and the state of the upstreams.
    Status,
    /// Say in one line whether all is well, for monitoring systems that run plug-ins, then each problem.
    ///
    /// Exit codes: 0 if all is well; 1 if clients are served with less than there should be; 2 if
    /// clients get no answers, or ringdnsd does not run; 3 if that cannot be told.
    Check(Check),
    /// Say whether clients should be sent here, as /readyz does. Exit code 1: no.
    Ready {
        /// Go on, and print a line at each change: "ready", or "not ready:" and the reason. It is for
        /// programs that announce and withdraw a route.
        #[arg(long)]
        follow: bool,
    },
    /// Show a table of the upstreams: zones, state, counters and response times.
    ///
    /// ZONES are the zones forwarded to this upstream only; "others" means all names outside the
    /// zones of the table. GROUPS are the groups of clients that have this upstream for themselves;
    /// "all" means all without upstreams of their own. STATE is "up", or "back-off:" and the remaining time, after several
    /// failures in a row. ERRORS counts failures (SERVFAIL and the like), connections that could
    /// not be established, and malformed responses. RTT is the smoothed round-trip time; P50 to P99
    /// are the percentiles since the start; all in milliseconds.
    Upstreams,
    /// Show every counter that is not zero.
    Stats {
        /// Include counters that are zero.
        #[arg(long)]
        all: bool,
    },
    /// Show the last sweeps of the host cache, and the sum of the last day's.
    ///
    /// A sweep visits all entries (SEEN), counts those that have expired but may still be served
    /// (STALE), removes those that are too old to be served (DEAD), and renews those that are about
    /// to expire (NEAR) and asked for. NEAR is the sum of RENEWED, SAME (the new answer expires no
    /// later), FAILED (the old answer stays), UNASKED (not asked for often enough), PUT-OFF (a
    /// renewal failed recently), OVER (beyond the budget) and SETTLED (already renewed, purged or
    /// evicted). WALK is the time of the walk, TOOK the total time, both in milliseconds.
    ///
    /// With Redis, a second table shows this appliance's sweeps of Redis: the number of answers in
    /// the index (KEPT), the number looked up (SEEN), and the number removed because they had
    /// expired (ENDED), had the least demand in a full index (LEAST), had no demand for a long time
    /// (IDLE), or were gone from Redis already (ORPHANS). CUT-SHORT counts sweeps that ended early.
    Sweeps {
        /// Number of sweeps to show.
        #[arg(short = 'n', long, default_value_t = 20)]
        last: usize,
    },
    /// Say what would become of a query: access, policy, the caches of workers and host, and the upstreams
    /// that would be asked. Nothing is asked, and nothing changes.
    Explain(explain::Explain),
    /// Show the configuration in effect, compare it with a file, import that of another server.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Show or purge entries of the host cache.
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Show what the lists make of a question, the lists themselves, and banned clients.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Block a name and all names below it, whatever lists say. It outlives a restart.
    Block {
        /// Domain name.
        name: String,
        #[command(flatten)]
        extent: Extent,
    },
    /// Allow a name and all names below it, whatever lists say. It outlives a restart.
    Allow {
        /// Domain name.
        name: String,
        #[command(flatten)]
        extent: Extent,
    },
    /// Let no list decide.
    Pause(Pausing),
    /// End a pause.
    Resume(PauseChoice),
    /// Show the part of the query log that is on this host, oldest first: all of it, or the rows
    /// that ClickHouse has not yet accepted.
    ///
    /// Reads the files; ringdnsd need not run. With --json, one object per line.
    Log(Log),
    /// Export service times.
    #[command(subcommand)]
    Histogram(Histogram),
    /// Reload the configuration. Prints the tables that took effect and those that need a restart.
    ///
    /// A configuration that would be refused at the start changes nothing. SIGHUP does the same,
    /// but reports the result in the log only.
    Reload,
    /// Make tokens for the HTTP API.
    #[command(subcommand)]
    Token(tokens::TokenCommand),
    /// Show the last changes that callers asked for, with their results.
    Audit {
        /// Number of changes; ringdnsd keeps 256, and control.audit_log all.
        #[arg(short = 'n', long, default_value_t = 20)]
        last: usize,
    },
    /// Show or change the levels of the log, while ringdnsd runs.
    ///
    /// FILTER is a level of ringdns' own modules (error, warn, info, debug, trace), or a list as in
    /// RUST_LOG: "info,ringdns_fleet=debug".
    Logging(upkeep::Logging),
    /// Write a profile in pprof's format, for `go tool pprof` and similar tools.
    ///
    /// Compare two heap profiles to see the growth between them: `go tool pprof -base before.pprof
    /// after.pprof`.
    #[command(subcommand)]
    Profile(Profile),
    /// Show the query log live: one answer per line, as JSON. Rows that ringctl cannot keep up with
    /// are dropped and counted (query_log.counters.tap_full in the statistics).
    Tap {
        /// Stop after this number of rows.
        #[arg(short = 'n', long)]
        count: Option<u64>,
    },
    /// Print the completions of ringctl for a shell, to be read by it: the package installs them.
    Completions {
        /// Shell.
        shell: Shell,
    },
    /// Write the manual pages and completions into a folder, as they lie in /usr/share.
    #[command(hide = true)]
    WriteShare {
        /// Folder.
        folder: PathBuf,
    },
}

#[derive(Subcommand)]
enum CacheCommand {
    /// Show the entries of a name.
    Get {
        /// Domain name.
        name: String,
        /// Show only this record type.
        rtype: Option<String>,
    },
    /// Remove a name, a name and all names below it, or everything.
    #[command(group = clap::ArgGroup::new("what").required(true))]
    Purge {
        /// Domain name to remove.
        #[arg(group = "what")]
        name: Option<String>,
        /// Remove this name and all names below it.
        #[arg(long, group = "what")]
        suffix: Option<String>,
        /// Remove all entries.
        #[arg(long, group = "what")]
        all: bool,
    },
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Show the names that were blocked or allowed by `ringctl block` and `allow`, and the pauses.
    Overrides,
    /// Remove what `ringctl block` or `allow` said of a name.
    Clear {
        /// Domain name.
        name: String,
        #[command(flatten)]
        choice: GroupChoice,
    },
    /// Show whether a name is resolved, allowed or blocked, and by which rule.
    ///
    /// The rule's file is read for its place: if it has changed since the last reload, the rule may
    /// not be found in it.
    Test {
        /// Domain name.
        name: String,
        /// Record type.
        #[arg(short = 't', long = "type", default_value = "A")]
        rtype: String,
        /// Address of the client that asks, which decides its group.
        #[arg(long, conflicts_with = "group")]
        client: Option<IpAddr>,
        /// Group of the client that asks.
        #[arg(long)]
        group: Option<String>,
        /// Judge by this configuration and its files, without a running ringdnsd. Of lists that are
        /// downloaded, the last copies in lists.dir are used.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Show each list with its state, the number of its rules, and the error of its last download.
    Lists,
    /// Download lists now, or read them from their files, and wait for the result. Those that have not
    /// changed stay as they are.
    Refresh {
        /// Name of the list. Absent: all lists from files and URLs.
        name: Option<String>,
    },
    /// Show the names that resolved to an address, while clients may use it. names.entries keeps them.
    Names {
        /// Address.
        address: IpAddr,
    },
    /// Show the prefixes whose queries over UDP are dropped for a time, since they are far above the
    /// rate limit.
    Bans,
    /// Show the zones that are capped because of floods of random names.
    Floods,
}

#[derive(Subcommand)]
enum Profile {
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

#[derive(Args)]
struct Log {
    /// Path of ringdnsd's query_log.spool_dir.
    #[arg(long, default_value = "/var/lib/ringdns/query-log")]
    spool_dir: PathBuf,
    /// Show only queries for this name.
    #[arg(long)]
    name: Option<String>,
    /// Show only queries for this name and names below it.
    #[arg(long, conflicts_with = "name")]
    suffix: Option<String>,
    /// Show only queries of this client, or of clients in this prefix.
    #[arg(long)]
    client: Option<Prefix>,
    /// Show only queries no older than this: 90s, 10m, 1h, 7d.
    #[arg(long)]
    since: Option<TimeSpan>,
}

#[derive(Subcommand)]
enum Histogram {
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

#[derive(Clone, Copy, ValueEnum)]
enum HistogramFormat {
    Text,
    Log,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return wrong_command_line(&error),
    };
    if let Command::Check(check) = &arguments.command {
        return match arguments.ringdnsd() {
            Ok(ringdnsd) => check.print(&ringdnsd, arguments.json).await,
            Err(error) => {
                // Standard error may be gone.
                let _ = writeln!(io::stderr(), "ringctl: {error:#}");
                ExitCode::from(monitor::UNKNOWN)
            }
        };
    }
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `ringctl … | head`: the reader has what it wants. Standard error may be gone too.
            if !is_end_of_reader(&error) {
                // A refused configuration has one problem a line.
                for line in format!("{error:#}").lines() {
                    let _ = writeln!(io::stderr(), "ringctl: {}", Printable(line));
                }
                return ExitCode::FAILURE;
            }
            ExitCode::SUCCESS
        }
    }
}

/// Prints what is wrong with a command line, or the help that it asks for, and returns the exit code:
/// `check` promises one of its own.
fn wrong_command_line(error: &clap::Error) -> ExitCode {
    // The reader may be gone.
    let _ = error.print();
    let is_check = || std::env::args_os().skip(1).any(|argument| argument == "check");
    match u8::try_from(error.exit_code()).unwrap_or(1) {
        0 => ExitCode::SUCCESS,
        _ if is_check() => ExitCode::from(monitor::UNKNOWN),
        code => ExitCode::from(code),
    }
}

/// Whether the reader of standard output has closed it. A connection to ringdnsd that breaks is
/// another error.
fn is_end_of_reader(error: &anyhow::Error) -> bool {
    let is_broken = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    error.chain().any(is_broken) && !error.chain().any(|cause| cause.is::<hyper::Error>())
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let ringdnsd = arguments.ringdnsd()?;
    let json = arguments.json;
    match arguments.command {
        // `main` has taken this one: its exit codes differ.
        Command::Check(_) => Ok(()),
        Command::Ready { follow } => monitor::ready(&ringdnsd, follow, json).await,
        Command::Status => {
            let body = ringdnsd.get("/v1/status").await?;
            print_as(json, &body, show_status)
        }
        Command::Upstreams => {
            let body = ringdnsd.get("/v1/status").await?;
            if json {
                let status: Value = serde_json::from_slice(&body)?;
                return Ok(writeln!(io::stdout(), "{}", status["upstreams"])?);
            }
            print_as(false, &body, |status: DaemonStatus, out| show_upstreams(&status.upstreams, out))
        }
        Command::Stats { all } => {
            let body = ringdnsd.get("/v1/stats").await?;
            print_as(json, &body, |stats: Value, out| show_counters(&stats, "", all, out))
        }
        Command::Sweeps { last } => {
            let body = ringdnsd.get(&format!("/v1/sweeps?last={last}")).await?;
            print_as(json, &body, show_sweeps)
        }
        Command::Config(command) => command.run(&ringdnsd, json).await,
        Command::Cache(CacheCommand::Get { name, rtype }) => {
            let rtype = rtype.map(|rtype| format!("&type={}", escape(&rtype))).unwrap_or_default();
            let body = ringdnsd.get(&format!("/v1/cache/entry?name={}{rtype}", escape(&name))).await?;
            print_as(json, &body, |entries: Vec<EntryView>, out| {
                entries.iter().try_for_each(|entry| show_entry(entry, out))
            })
        }
        Command::Cache(CacheCommand::Purge { name, suffix, .. }) => {
            upkeep::purge(&ringdnsd, json, name, suffix).await
        }
        Command::Policy(PolicyCommand::Test { name, rtype, client, group, config: Some(config) }) => {
            let test = OfflineTest { name: &name, rtype: &rtype, client, group: group.as_deref() };
            test.print(&config, json)
        }
        Command::Policy(PolicyCommand::Test { name, rtype, client, group, config: None }) => {
            let (name, rtype) = (escape(&name), escape(&rtype));
            let client = client.map(|client| format!("&client={client}")).unwrap_or_default();
            let group = group.map(|group| format!("&group={}", escape(&group))).unwrap_or_default();
            let body =
                ringdnsd.get(&format!("/v1/policy/test?name={name}&type={rtype}{client}{group}")).await?;
            print_as(json, &body, show_policy_test)
        }
        Command::Policy(PolicyCommand::Overrides) => overrides::list(&ringdnsd, json).await,
        Command::Policy(PolicyCommand::Clear { name, choice }) => {
            overrides::clear(&ringdnsd, json, &name, &choice).await
        }
        Command::Block { name, extent } => {
            overrides::add(&ringdnsd, json, OverrideAction::Block, &name, &extent).await
        }
        Command::Allow { name, extent } => {
            overrides::add(&ringdnsd, json, OverrideAction::Allow, &name, &extent).await
        }
        Command::Pause(pausing) => overrides::pause(&ringdnsd, json, &pausing).await,
        Command::Resume(choice) => overrides::resume(&ringdnsd, json, &choice).await,
        Command::Policy(PolicyCommand::Lists) => {
            let body = ringdnsd.get("/v1/policy/lists").await?;
            print_as(json, &body, show_lists)
        }
        Command::Policy(PolicyCommand::Refresh { name }) => upkeep::refresh(&ringdnsd, json, name).await,
        Command::Policy(PolicyCommand::Names { address }) => {
            print_as(json, &ringdnsd.get(&format!("/v1/names?address={address}")).await?, show_names)
        }
        Command::Policy(PolicyCommand::Bans) => {
            print_as(json, &ringdnsd.get("/v1/policy/bans").await?, show_bans)
        }
        Command::Policy(PolicyCommand::Floods) => {
            print_as(json, &ringdnsd.get("/v1/policy/floods").await?, show_floods)
        }
        Command::Log(log) => show_log(&log, json),
        Command::Histogram(export) => export_histogram(&ringdnsd, export).await,
        Command::Reload => upkeep::reload(&ringdnsd, json).await,
        Command::Token(token) => token.run(json),
        Command::Audit { last } => tokens::audit(&ringdnsd, json, last).await,
        Command::Explain(explain) => explain.print(&ringdnsd, json).await,
        Command::Logging(logging) => upkeep::logging(&ringdnsd, json, &logging).await,
        Command::Profile(profile) => take_profile(&ringdnsd, profile).await,
        Command::Tap { count } => ringdnsd.tap(count.unwrap_or(u64::MAX)).await,
        Command::Completions { shell } => {
            let mut completions = Vec::new();
            ringdns_manual::write_completions(&Arguments::command(), shell, &mut completions);
            Ok(io::stdout().write_all(&completions)?)
        }
        Command::WriteShare { folder } => {
            ringdns_manual::write(&Arguments::command(), Section::Users, &folder)
                .map_err(anyhow::Error::from)
                .and_then(|()| config::write_schema(&folder))
                .with_context(|| format!("cannot write into {}", folder.display()))
        }
    }
}
