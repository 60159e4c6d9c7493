//! `ringctl`: talks HTTP to a running ringdnsd over its Unix socket, and shows the answers to people, or as JSON.

#![forbid(unsafe_code)]

use anyhow::{Context, anyhow, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use http_body_util::{BodyExt, Empty};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use ringdns_control::{
    admin::{EntryView, Purged, Status, Times, UpstreamStatus},
    config::units::Span,
    log::show,
    reload::Reloaded,
    sweep::{Report, Told},
};
use ringdns_dataplane::{
    access::{AccessList, Prefix},
    clock::Clock,
};
use serde_json::Value;
use std::{
    fs,
    io::{self, BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{net::UnixStream, time::timeout};

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

/// How long ringdnsd may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
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

//----------- Talking ---------------------------------------------------------

struct Ringdnsd {
    socket: PathBuf,
}

impl Ringdnsd {
    async fn get(&self, path: &str) -> anyhow::Result<Bytes> {
        self.ask(Method::GET, path).await
    }

    async fn ask(&self, method: Method, path: &str) -> anyhow::Result<Bytes> {
        self.ask_within(PATIENCE, method, path).await
    }

    async fn ask_within(&self, patience: Duration, method: Method, path: &str) -> anyhow::Result<Bytes> {
        let asked = timeout(patience, async {
            let response = self.exchange(method, path).await?;
            let status = response.status();
            anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
        });
        let (status, body) = asked.await.with_context(|| {
            format!("ringdnsd at {} took more than {} s to answer", self.socket.display(), patience.as_secs())
        })??;
        if status == StatusCode::OK { Ok(body) } else { Err(refused(status, &body)) }
    }

    /// Prints `count` rows of the query log as they come, or those that come until ringdnsd stops.
    async fn tap(&self, mut count: u64) -> anyhow::Result<()> {
        let response = self.exchange(Method::GET, "/log/tap").await?;
        let status = response.status();
        let mut body = response.into_body();
        if status != StatusCode::OK {
            return Err(refused(status, &body.collect().await?.to_bytes()));
        }
        let mut out = io::stdout().lock();
        while count > 0
            && let Some(frame) = body.frame().await
        {
            let rows = frame?.into_data().unwrap_or_default();
            // The last piece may be a part of a row, of which the next frame has the rest.
            for piece in rows.split_inclusive(|byte| *byte == b'\n') {
                if count > 0 {
                    out.write_all(piece)?;
                    count -= u64::from(piece.ends_with(b"\n"));
                }
            }
            out.flush()?;
        }
        Ok(())
    }

    async fn exchange(&self, method: Method, path: &str) -> anyhow::Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket).await.with_context(|| {
            let socket = self.socket.display();
            format!("no ringdnsd at {socket}: is it running, with this control.socket, and are you its user or root?")
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // What goes wrong with it is told by whoever reads the response.
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "ringdnsd");
        Ok(sender.send_request(request.body(Empty::<Bytes>::new())?).await?)
    }
}

/// Why ringdnsd does not do it.
fn refused(status: StatusCode, body: &[u8]) -> anyhow::Error {
    let reason = serde_json::from_slice::<Value>(body).ok();
    let reason = reason.as_ref().and_then(|value| value["error"].as_str());
    anyhow!("{}", reason.unwrap_or(status.as_str()))
}

/// Percent-encodes a query's value (RFC 3986).
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            _ => escaped += &format!("%{byte:02X}"),
        }
    }
    escaped
}

//----------- Showing ---------------------------------------------------------

fn show_log(log: &Log, json: bool) -> anyhow::Result<()> {
    let name = |text: &Option<String>| text.as_deref().map(show::name).transpose();
    let since_ms = log.since.map(|since| Clock::start().epoch_millis() - since.0.as_millis() as i64);
    let filter = show::Filter {
        name: name(&log.name)?,
        suffix: name(&log.suffix)?,
        clients: log.client.map(|prefix| AccessList::new(&[prefix], &[])).transpose()?,
        since_ms,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let row = |entry: &show::Entry| {
        if !json {
            return writeln!(out, "{entry}");
        }
        serde_json::to_writer(&mut out, entry)?;
        writeln!(out)
    };
    let mut damaged = 0;
    let told = show::each(&log.spool_dir, &filter, row, |path, damage| {
        damaged += 1;
        eprintln!("ringctl: {}: {damage}", path.display());
    });
    told.and_then(|()| out.flush()).with_context(|| {
        let folder = log.spool_dir.display();
        format!("{folder}: is it the query_log.spool_dir of ringdnsd, and are you its user or root?")
    })?;
    if damaged > 0 {
        bail!("{damaged} segments are damaged; what was read of the others is above");
    }
    Ok(())
}

fn print_as<T: serde::de::DeserializeOwned>(
    json: bool,
    body: &[u8],
    show: impl FnOnce(T, &mut dyn Write) -> io::Result<()>,
) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        out.write_all(body)?;
        writeln!(out)?;
    } else {
        show(serde_json::from_slice(body).context("ringdnsd's answer is of another version")?, &mut out)?;
    }
    Ok(())
}

fn show_status(status: Status, out: &mut dyn Write) -> io::Result<()> {
    let state = if status.ready { "answering queries" } else { "NOT answering queries" };
    let (hours, minutes) = (status.uptime_secs / 3600, status.uptime_secs / 60 % 60);
    writeln!(out, "ringdnsd {} (pid {}): {state}", status.version, status.pid)?;
    writeln!(out, "up         {hours} h {minutes} min {} s", status.uptime_secs % 60)?;
    writeln!(out, "receiving  {}", status.receiving)?;
    writeln!(out, "workers    {}", status.workers)?;
    writeln!(out, "listening  {}", status.listen.join(", "))?;
    for upstream in &status.upstreams {
        let state = if upstream.put_back { "failing, left alone for a while" } else { "in use" };
        let time = match &upstream.times {
            Times { count: 0, .. } => "no answer yet".to_owned(),
            Times { p50_us, p99_us, .. } => {
                format!("answers in {} ms, 99 % of them in {} ms", millis(*p50_us), millis(*p99_us))
            }
        };
        writeln!(out, "upstream   {}: {state}, {time}", upstream.address)?;
    }
    Ok(())
}

/// A line an upstream. Times are milliseconds: the smoothed round trip, and percentiles since the start.
fn show_upstreams(upstreams: &[UpstreamStatus], out: &mut dyn Write) -> io::Result<()> {
    let heads = [
        "ADDRESS", "PROTOCOL", "ZONES", "STATE", "QUERIES", "ANSWERS", "TIMEOUTS", "ERRORS", "RTT", "P50",
        "P90", "P99",
    ];
    let lines = upstreams.iter().map(|upstream| {
        let zones = if upstream.zones.is_empty() { "others".to_owned() } else { upstream.zones.join(",") };
        let state = match upstream.back_off_ms {
            0 => "up".to_owned(),
            left => format!("back-off:{:.1}s", left as f64 / 1000.0),
        };
        let counts = [upstream.queries, upstream.answers, upstream.timeouts, upstream.errors];
        let times = &upstream.times;
        let took = [upstream.round_trip_us, times.p50_us, times.p90_us, times.p99_us];
        let words = [upstream.address.clone(), upstream.protocol.clone(), zones, state];
        words.into_iter().chain(counts.map(|count| count.to_string())).chain(took.map(millis)).collect()
    });
    show_table(heads, lines, 4, out)
}

/// A line a sweep, the newest last, and then all of the last day.
fn show_sweeps(told: Told, out: &mut dyn Write) -> io::Result<()> {
    let heads = [
        "BEGAN", "SEEN", "STALE", "DEAD", "NEAR", "RENEWED", "SAME", "FAILED", "UNASKED", "PUT-OFF", "OVER",
        "SETTLED", "WALK", "TOOK",
    ];
    let line = |began: String, report: &Report| {
        let Report { seen, stale, near, renewed, unchanged, failed, skipped, removed, .. } = report;
        let counts = [
            *seen,
            *stale,
            removed.dead,
            *near,
            *renewed,
            *unchanged,
            *failed,
            skipped.unasked,
            skipped.put_off,
            skipped.over_budget,
            skipped.settled,
        ];
        let counts = counts.map(|count| count.to_string());
        let took = [millis(report.walk_us), report.took_ms.to_string()];
        [began].into_iter().chain(counts).chain(took).collect()
    };
    let sum = line(format!("all {}", told.sweeps), &told.sum);
    let lines = told.last.iter().map(|report| line(time_of(report.at), report));
    show_table(heads, lines.chain([sum]), 1, out)
}

/// A Unix time as RFC 3339 writes it, in UTC; as a number where it is none that a calendar has.
fn time_of(unix: u64) -> String {
    let time = i64::try_from(unix).ok().and_then(|unix| OffsetDateTime::from_unix_timestamp(unix).ok());
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| unix.to_string())
}

/// A table whose first columns, so many, are words, and the others numbers.
fn show_table<const N: usize>(
    heads: [&str; N],
    lines: impl Iterator<Item = Vec<String>>,
    words: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let heads = heads.map(str::to_owned).into();
    let table: Vec<Vec<String>> = std::iter::once(heads).chain(lines).collect();
    let wide = |at: usize| table.iter().map(|line| line[at].len()).max().unwrap_or(0);
    for line in &table {
        // Words at the left, numbers at the right.
        for (at, cell) in line[..words].iter().enumerate() {
            write!(out, "{cell:width$}  ", width = wide(at))?;
        }
        let numbers = line.iter().enumerate().skip(words);
        let numbers: Vec<_> = numbers.map(|(at, cell)| format!("{cell:>width$}", width = wide(at))).collect();
        writeln!(out, "{}", numbers.join("  "))?;
    }
    Ok(())
}

/// Microseconds as milliseconds.
fn millis(us: u64) -> String {
    format!("{:.1}", us as f64 / 1000.0)
}

/// Counters as `path.to.counter  value`, so that they can be grepped.
fn show_counters(value: &Value, path: &str, all: bool, out: &mut dyn Write) -> io::Result<()> {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(fields) => {
            fields.iter().try_for_each(|(name, value)| show_counters(value, &below(name), all, out))
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(at, value)| show_counters(value, &below(&at.to_string()), all, out)),
        Value::Null => Ok(()),
        Value::Number(n) if n.as_f64() == Some(0.0) && !all => Ok(()),
        Value::String(text) => writeln!(out, "{path:<50} {text}"),
        other => writeln!(out, "{path:<50} {other:>16}"),
    }
}

fn show_entry(entry: &EntryView, out: &mut dyn Write) -> io::Result<()> {
    let flags = [(entry.dnssec_ok, " DO"), (entry.checking_disabled, " CD")];
    let flags: String = flags.into_iter().filter_map(|(set, name)| set.then_some(name)).collect();
    let EntryView { name, rtype, rcode, state, age_secs, fresh_secs, left_secs, bytes, .. } = entry;
    writeln!(
        out,
        "{name} {rtype}{flags}: {rcode}, {state}, {age_secs} s old, fresh for {fresh_secs} s, \
         usable for {left_secs} s, {bytes} bytes"
    )?;
    entry.records.iter().try_for_each(|record| writeln!(out, "    {record}"))
}
