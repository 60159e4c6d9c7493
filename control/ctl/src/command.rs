//! Subcommands of `ringctl`, and the way from each to what does it.

use crate::{
    Arguments,
    cache::CacheCommand,
    capture::Capture,
    config::{self, ConfigCommand},
    doctor::{self, Doctor},
    explain::Explain,
    histogram::Histogram,
    history::HistoryCommand,
    log::Log,
    monitor::{self, Check},
    overrides::{self, Extent, PauseChoice, Pausing},
    policy::PolicyCommand,
    print::{ask_and_print, print_as, show_counters, show_status, show_sweeps, show_upstreams},
    profile::Profile,
    report::SupportReport,
    table::table_width,
    talk::Ringdnsd,
    tap::Tap,
    tokens::{self, TokenCommand},
    top::Top,
    upkeep::{self, Logging},
};
use anyhow::Context;
use clap::{CommandFactory, Subcommand};
use clap_complete::Shell;
use ringdns_api::{DaemonStatus, OverrideAction};
use ringdns_manual::Section;
use serde_json::Value;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Subcommands of `ringctl`.
#[derive(Subcommand)]
pub enum Command {
    /// Show version, uptime, packet reception, resource usage and the state of the upstreams.
    Status,
    /// Show rates, hit ratios of the tiers, service times, drops, problems and upstreams, each second
    /// anew; or the busiest names, clients or zones.
    ///
    /// Keys: q ends, d shows the last day, arrows scroll, ? explains the rows. NO_COLOR=1 in the
    /// environment: no colours.
    Top(Top),
    /// Show rates, hit ratios, service times, drops, memory and problems of the last day, by the minute.
    ///
    /// A column is a minute, or several if the terminal has too few columns: then the highest of them for
    /// times, drops, memory and problems, and the mean for all else. ringdnsd keeps a day in memory; a
    /// restart begins anew.
    History(HistoryCommand),
    /// Say in one line whether all is well, for monitoring systems that run plug-ins, then each problem.
    ///
    /// Exit codes: 0 if all is well; 1 if clients are served with less than there should be; 2 if
    /// clients get no answers, or ringdnsd does not run; 3 if that cannot be told.
    Check(Check),
    /// Look at kernel, NIC, privileges, network, configuration and upstreams: verdicts, and the commands that
    /// mend what is wrong. Works before ringdnsd runs; if it runs, its problems are among the findings.
    ///
    /// Exit codes: 0 if all is well, perhaps with advice; 1 with a warning; 2 with a fault; 3 if the host could not
    /// be looked at. With --url, the findings are those that ringdnsd sees from inside.
    Doctor(Doctor),
    /// Collect a support archive: version, configuration without secrets, findings, problems, counters, facts about
    /// the host. Works, with less, when ringdnsd does not run.
    Report(SupportReport),
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
    Explain(Explain),
    /// Show the configuration in effect, compare it with a file, import that of another server.
    #[command(subcommand)]
    Config(ConfigCommand),
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
    /// Export, add up and plot service times.
    #[command(subcommand)]
    Histogram(Histogram),
    /// Reload the configuration. Prints the tables that took effect and those that need a restart.
    ///
    /// A configuration that would be refused at the start changes nothing. SIGHUP does the same,
    /// but reports the result in the log only.
    Reload,
    /// Make tokens for the HTTP API.
    #[command(subcommand)]
    Token(TokenCommand),
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
    Logging(Logging),
    /// Write a profile in pprof's format, for `go tool pprof` and similar tools.
    ///
    /// Compare two heap profiles to see the growth between them: `go tool pprof -base before.pprof
    /// after.pprof`.
    #[command(subcommand)]
    Profile(Profile),
    /// Show the query log live: one answer per line. Rows that ringctl cannot keep up with are dropped
    /// and counted (query_log.counters.tap_full in the statistics). ringdnsd applies the filters.
    Tap(Tap),
    /// Write the packets that workers receive and send into a file, as pcapng: those that tcpdump does
    /// not see, since AF_XDP takes them from the kernel.
    ///
    /// The comment of each packet says what became of it: fate, outcome, tier, reason of a drop. Ctrl-C
    /// ends the capture; the file is whole then, and its statistics tell how many packets were lost.
    /// `ringctl capture -w - | tshark -n -r -` shows packets as they come.
    Capture(Capture),
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

impl Command {
    /// Returns the exit code if this command fails.
    pub fn failure(&self) -> ExitCode {
        match self {
            Command::Check(_) => ExitCode::from(monitor::UNKNOWN),
            Command::Doctor(_) => ExitCode::from(doctor::UNKNOWN),
            _ => ExitCode::FAILURE,
        }
    }

    /// Does what the command says, and returns the exit code.
    pub async fn run(self, ringdnsd: &Ringdnsd, json: bool) -> anyhow::Result<ExitCode> {
        let done = match self {
            Command::Check(check) => return Ok(check.print(ringdnsd, json).await),
            Command::Doctor(doctor) => return doctor.run(ringdnsd, json).await,
            Command::Report(report) => report.write(ringdnsd).await,
            Command::Ready { follow } => monitor::ready(ringdnsd, follow, json).await,
            Command::Status => ask_and_print(ringdnsd, json, "/v1/status", show_status).await,
            Command::Top(top) => top.run(ringdnsd, json).await,
            Command::History(history) => history.print(ringdnsd, json).await,
            Command::Upstreams => upstreams(ringdnsd, json).await,
            Command::Stats { all } => {
                let show = |stats: Value, out: &mut dyn Write| show_counters(&stats, "", all, out);
                ask_and_print(ringdnsd, json, "/v1/stats", show).await
            }
            Command::Sweeps { last } => {
                let show = |sweeps, out: &mut dyn Write| show_sweeps(sweeps, table_width(), out);
                ask_and_print(ringdnsd, json, &format!("/v1/sweeps?last={last}"), show).await
            }
            Command::Config(command) => command.run(ringdnsd, json).await,
            Command::Cache(command) => command.run(ringdnsd, json).await,
            Command::Policy(command) => command.run(ringdnsd, json).await,
            Command::Block { name, extent } => {
                overrides::add(ringdnsd, json, OverrideAction::Block, &name, &extent).await
            }
            Command::Allow { name, extent } => {
                overrides::add(ringdnsd, json, OverrideAction::Allow, &name, &extent).await
            }
            Command::Pause(pausing) => overrides::pause(ringdnsd, json, &pausing).await,
            Command::Resume(choice) => overrides::resume(ringdnsd, json, &choice).await,
            Command::Log(log) => log.print(json),
            Command::Histogram(export) => export.run(ringdnsd).await,
            Command::Reload => upkeep::reload(ringdnsd, json).await,
            Command::Token(token) => token.run(json),
            Command::Audit { last } => tokens::audit(ringdnsd, json, last).await,
            Command::Explain(explain) => explain.print(ringdnsd, json).await,
            Command::Logging(logging) => upkeep::logging(ringdnsd, json, &logging).await,
            Command::Profile(profile) => profile.take(ringdnsd).await,
            Command::Tap(tap) => tap.print(ringdnsd).await,
            Command::Capture(capture) => capture.run(ringdnsd, json).await,
            Command::Completions { shell } => completions(shell),
            Command::WriteShare { folder } => write_share(&folder),
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}

async fn upstreams(ringdnsd: &Ringdnsd, json: bool) -> anyhow::Result<()> {
    let body = ringdnsd.get("/v1/status").await?;
    if json {
        let status: Value = serde_json::from_slice(&body)?;
        return Ok(writeln!(io::stdout(), "{}", status["upstreams"])?);
    }
    print_as(false, &body, |status: DaemonStatus, out| {
        write!(out, "{}", show_upstreams(&status.upstreams, table_width()))
    })
}

fn completions(shell: Shell) -> anyhow::Result<()> {
    let mut completions = Vec::new();
    ringdns_manual::write_completions(&Arguments::command(), shell, &mut completions);
    Ok(io::stdout().write_all(&completions)?)
}

fn write_share(folder: &Path) -> anyhow::Result<()> {
    ringdns_manual::write(&Arguments::command(), Section::Users, folder)
        .map_err(anyhow::Error::from)
        .and_then(|()| config::write_schema(folder))
        .with_context(|| format!("cannot write into {}", folder.display()))
}
