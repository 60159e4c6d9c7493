//! `ringbench run`: asks a server, and reports its answers and their latency.

mod flight;
mod lane;
pub(crate) mod replay;
mod rings;
pub(crate) mod source;
mod stream;
pub(crate) mod udp;
mod wire;
pub(crate) mod xdp;

use crate::{
    mix::{Order, Types},
    names::{Questions, SUFFIX},
    query::{QueryArgs, Template},
    question::record_type,
    report::{Report, Setup, Traffic, series::Series},
    stop,
    tally::Tally,
    upstream::{Over, percent},
    verify::Verifier,
};
use anyhow::{Result, ensure};
use clap::ValueEnum;
use lane::Pace;
use replay::Recording;
use source::Source;
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};
use stream::{Streams, Tls, TlsArgs};

/// Asks a DNS server and reports answers a second and latencies.
///
/// With --qps the load is an open loop: queries leave when they are due, whatever the server does,
/// and latency counts from when they were due. Without --qps, a fixed number of queries is kept in
/// flight.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Transport of the queries.
    #[arg(long, value_enum, default_value_t = Backend::Udp)]
    pub backend: Backend,
    /// Address of the server, with a port if it is not 53 (dot: 853).
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = Target::parse)]
    pub target: Target,
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub query: QueryArgs,
    #[command(flatten)]
    pub udp: udp::UdpArgs,
    #[command(flatten)]
    pub tls: TlsArgs,
    #[command(flatten)]
    pub xdp: xdp::XdpArgs,
    /// Compare every answer with that of a `ringbench upstream` started with these options: RCODE
    /// and all records, of any type, signatures only where DO was set, and no datagram longer than
    /// its query allows (all but xdp).
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    pub verify_answers: Option<String>,
    /// Print the report as JSON: a stats_sum object of DNS-OARC's dns-metrics.
    #[arg(long)]
    pub json: bool,
    /// Write the whole run as dns-metrics objects, one a line: header, intervals, sum.
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// Do not print a line a second during the run.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Server as given on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Address and port.
    Socket(SocketAddr),
    /// Address; the port is that of the transport.
    Address(IpAddr),
}

impl Target {
    fn parse(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let address = || bare.parse().map(Target::Address);
        text.parse().map(Target::Socket).or_else(|_| address()).map_err(|_| {
            "give an IP address, with or without a port: 192.0.2.53, 192.0.2.53:5300 or [2001:db8::53]:53"
                .into()
        })
    }
}

impl Args {
    /// Returns the address and port of the server.
    pub fn address(&self) -> SocketAddr {
        match self.target {
            Target::Socket(address) => address,
            Target::Address(ip) => SocketAddr::new(ip, if self.backend == Backend::Dot { 853 } else { 53 }),
        }
    }

    /// Writes the file of metrics, if one was asked for.
    pub fn write_metrics(&self, report: &Report) -> Result<()> {
        self.metrics.as_ref().map_or(Ok(()), |path| report.write_metrics(path))
    }
}

/// Transport of the queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// Kernel UDP sockets.
    Udp,
    /// AF_XDP rings from user space, a queue a thread.
    Rings,
    /// TCP connections.
    Tcp,
    /// TLS connections.
    Dot,
    /// An XDP program on recycled frames.
    Xdp,
}

/// Names to ask, and their rate.
#[derive(Clone, Debug, clap::Args)]
pub struct LoadArgs {
    /// Questions in dnsperf's format, `NAME TYPE` a line, most popular first. Default: made-up
    /// names.
    #[arg(long, value_name = "FILE")]
    pub names: Option<PathBuf>,
    /// Number of names to ask. Default: all of the file, or 10,000 made-up ones.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: Option<u32>,
    /// Type of made-up and random names, and of lines without one.
    #[arg(long = "type", default_value = "A", value_name = "TYPE")]
    pub qtype: String,
    /// Ask every name, random ones too, for these types with these weights: A:70,AAAA:25,HTTPS:5.
    #[arg(long, value_name = "TYPE:WEIGHT,...", conflicts_with = "qtype")]
    pub types: Option<Types>,
    /// Replay the queries of a recording at their recorded times: a capture (pcap, pcapng), or
    /// text, SECONDS NAME TYPE a line (all but xdp).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["names", "count", "qtype", "types", "zipf", "random_share", "qps", "warm"])]
    pub replay: Option<PathBuf>,
    /// Replay so many times as fast.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, requires = "replay", value_parser = rate)]
    pub speed: f64,
    /// Ask names by Zipf's law with this exponent: the nth name n^-S times as often as the first.
    /// Default: each equally often.
    #[arg(long, value_name = "S", value_parser = exponent)]
    pub zipf: Option<f64>,
    /// Share of queries for names never asked before, in percent.
    #[arg(long, value_name = "PCT", default_value_t = 0.0, value_parser = percent)]
    pub random_share: f64,
    /// Queries a second, of all threads together.
    #[arg(long, value_parser = rate)]
    pub qps: Option<f64>,
    /// Time to send, in seconds. Default: 10, or the length of a recording.
    #[arg(long, value_parser = rate)]
    pub duration: Option<f64>,
    /// Number of queries to send; then there is no time limit but --duration (all but xdp).
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "replay")]
    pub queries: Option<u64>,
    /// First ask every name once, and wait for each answer, so that all are cached.
    #[arg(long)]
    pub warm: bool,
    /// Seed of the random draws: equal seeds ask the same names in the same order.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

fn exponent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(s) if (0.0..=10.0).contains(&s) => Ok(s),
        _ => Err("Zipf's exponent must be a number from 0 to 10".into()),
    }
}

pub(crate) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(rate),
        _ => Err("the value must be a number above zero".into()),
    }
}

/// Duration of a run that ends with its last query: longer than any of them.
const ENDLESS: Duration = Duration::from_secs(24 * 3600);

/// Run that is ready to start, with everything drawn, read and made up.
#[derive(Debug)]
pub struct Plan {
    /// Questions to ask.
    pub questions: Questions,
    /// Order of the questions.
    pub order: Order,
    /// Template of the queries.
    pub template: Template,
    /// Recording to replay instead.
    pub recording: Option<Recording>,
    /// Queries a second; `None` means as fast as answers come.
    pub qps: Option<f64>,
    /// Duration of the run.
    pub duration: Duration,
    /// Number of queries, if it is limited.
    pub queries: Option<u64>,
    /// Verifier of the answers.
    pub verifier: Option<Verifier>,
    /// Seed of all random draws.
    pub seed: u64,
    /// Options of the transport.
    pub udp: udp::UdpArgs,
    /// Flag that ends the run early.
    pub stop: Arc<AtomicBool>,
}

impl Plan {
    /// Prepares a run.
    pub fn new(load: &LoadArgs, query: &QueryArgs, udp: &udp::UdpArgs) -> Result<Self> {
        let qtype = record_type(&load.qtype)?;
        let count = load.count.map(|count| count as usize);
        let recording = load.replay.as_ref().map(|path| Recording::read(path, load.speed)).transpose()?;
        let mut questions = match &load.names {
            Some(path) => Questions::read(path, qtype, count)?,
            None => Questions::made_up(count.unwrap_or(10_000), SUFFIX, qtype)?,
        };
        let share = load.random_share / 100.0;
        let mut order = Order::draw(load.zipf.unwrap_or(0.0), questions.len(), share, load.seed)?;
        let mut template = Template::new(query, qtype)?;
        if let Some(types) = &load.types {
            questions = questions.for_types(types)?;
            order = order.with_types(types, load.seed);
            template = template.with_random_types(types);
        }
        // All queries of a recording must leave, late ones too.
        let recorded = recording.as_ref().map(|r| r.duration() + Duration::from_secs(1));
        let counted = load.queries.map(|_| ENDLESS);
        let duration = load.duration.map(Duration::from_secs_f64).or(recorded).or(counted);
        Ok(Plan {
            order,
            questions,
            template,
            recording,
            qps: load.qps,
            duration: duration.unwrap_or(Duration::from_secs(10)),
            queries: load.queries,
            verifier: None,
            seed: load.seed,
            udp: udp.clone(),
            stop: Arc::default(),
        })
    }

    /// Returns the source of the queries.
    fn source(&self) -> Source<'_> {
        match &self.recording {
            Some(recording) => Source::Recording(recording),
            None => Source::Mix {
                order: &self.order,
                questions: &self.questions,
                template: &self.template,
                seed: self.seed,
                total: self.queries,
            },
        }
    }

    /// Returns the schedule of the `number`th thread.
    fn pace(&self, number: usize) -> Pace {
        let threads = f64::from(self.udp.threads);
        match self.qps {
            _ if self.recording.is_some() => Pace::Recorded,
            Some(qps) => Pace::Open { first: number as f64 * 1e9 / qps, every: threads * 1e9 / qps },
            None => Pace::Closed(u64::from(self.udp.window)),
        }
    }
}

/// Warms the server if asked to, runs the load, and returns the report.
pub fn measure(args: &Args) -> Result<Report> {
    let plan = prepare(args)?;
    measure_plan(args, &plan)
}

/// Prepares a run, catches signals, and warms the server if asked to.
pub fn prepare(args: &Args) -> Result<Plan> {
    let mut plan = Plan::new(&args.load, &args.query, &args.udp)?;
    let over = match args.backend {
        Backend::Tcp | Backend::Dot => Over::Tcp,
        Backend::Udp | Backend::Rings | Backend::Xdp => Over::Udp,
    };
    plan.verifier = args.verify_answers.as_ref().map(|options| Verifier::new(options, over)).transpose()?;
    plan.stop = stop::on_signal()?;
    if args.load.warm {
        let began = Instant::now();
        warm(args, &plan)?;
        if !args.quiet {
            eprintln!("warm: {} names in {:.2} s", plan.questions.len(), began.elapsed().as_secs_f64());
        }
    }
    Ok(plan)
}

/// Asks every name once over the backend, or over kernel UDP if the backend cannot check answers
/// against questions.
fn warm(args: &Args, plan: &Plan) -> Result<()> {
    match args.backend {
        Backend::Udp | Backend::Rings | Backend::Xdp => udp::warm(plan, args.address(), &udp(args)),
        Backend::Tcp | Backend::Dot => udp::warm(plan, args.address(), &streams(args)?),
    }
}

fn udp(args: &Args) -> udp::Udp {
    udp::Udp { target: args.address(), sockets: args.udp.sockets }
}

fn streams(args: &Args) -> Result<Streams> {
    let tls =
        matches!(args.backend, Backend::Dot).then(|| Tls::new(&args.tls, args.address())).transpose()?;
    Ok(Streams { target: args.address(), connections: args.udp.sockets, tls })
}

/// Runs a plan.
pub fn measure_plan(args: &Args, plan: &Plan) -> Result<Report> {
    let series = match args.backend {
        // Reading a thousand counters of every core takes a millisecond of the generator's time.
        Backend::Xdp => Series::new(Duration::from_millis(500)),
        _ => Series::of_run(plan.duration),
    };
    let (wall, began) = (SystemTime::now(), Instant::now());
    let done = AtomicBool::new(false);
    let (tally, traffic) = thread::scope(|scope| {
        if !args.quiet {
            scope.spawn(|| series.tell(&done));
        }
        let counted = generate(args, plan, &series);
        done.store(true, Relaxed);
        counted
    })?;
    // The wait for the last answers does not count as time of load.
    let sending = plan.recording.as_ref().map_or(plan.duration, |r| r.duration().max(series.length()));
    let elapsed = sending.min(plan.duration).min(began.elapsed());
    ensure!(tally.sent() > 0, "no query could be sent to {}: does a server listen there?", args.address());
    Ok(Report {
        setup: Setup {
            backend: args.backend.to_string(),
            target: args.address().to_string(),
            names: plan.recording.as_ref().map_or(plan.questions.len(), Recording::len),
            recorded: plan.recording.is_some(),
            random_share: args.load.random_share,
            qps: plan.qps,
            timeout: Duration::from_millis(args.udp.timeout_ms),
        },
        began: wall,
        elapsed,
        tally,
        traffic,
        interval: series.length(),
        intervals: series.intervals(),
    })
}

fn generate(args: &Args, plan: &Plan, series: &Series) -> Result<(Tally, Option<Traffic>)> {
    match args.backend {
        Backend::Udp => Ok((lane::run(plan, &udp(args), series)?, None)),
        Backend::Rings => {
            let (tally, traffic) = rings::run(plan, &args.xdp, args.address(), series)?;
            Ok((tally, Some(traffic)))
        }
        Backend::Tcp | Backend::Dot => Ok((lane::run(plan, &streams(args)?, series)?, None)),
        Backend::Xdp => {
            ensure!(
                plan.recording.is_none(),
                "--replay is not for --backend xdp: use rings, udp, tcp or dot"
            );
            ensure!(
                plan.queries.is_none() && plan.verifier.is_none(),
                "--queries and --verify-answers are not for --backend xdp: use rings, udp, tcp or dot"
            );
            let outcome = xdp::run(plan, &args.xdp, args.address(), series)?;
            Ok((outcome.tally, Some(outcome.traffic)))
        }
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}

/// `ringbench run`.
pub fn run(args: &Args) -> Result<()> {
    let report = measure(args)?;
    args.write_metrics(&report)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report.json()?)?);
    } else {
        print!("{report}");
    }
    let (sent, target) = (report.tally.sent(), args.address());
    ensure!(
        report.tally.answered() > 0,
        "no answer came from {target} to {sent} queries: does a DNS server listen there, and may this host ask it?"
    );
    Ok(())
}

#[cfg(test)]
mod tests;
