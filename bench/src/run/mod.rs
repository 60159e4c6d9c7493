//! `ringbench run`: asks a server, and says what it answered and how fast.

mod flow;
pub mod udp;
pub mod xdp;

use crate::{
    mix::{Order, Popularity},
    names::{Questions, SUFFIX},
    query::{QueryArgs, Template},
    question::record_type,
    report::{Report, Setup},
    upstream::percent,
};
use anyhow::{Context, Result, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant, SystemTime},
};

/// Asks a DNS server and reports answers a second and latencies.
///
/// With --qps the load is an open loop: queries leave when they are due, whatever the server does, and latency counts
/// from when they were due. Without, a fixed number of queries is kept in flight.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How queries are sent.
    #[arg(long, value_enum, default_value_t = Backend::Udp)]
    pub backend: Backend,
    /// The server's address and port.
    #[arg(long)]
    pub target: SocketAddr,
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub query: QueryArgs,
    #[command(flatten)]
    pub udp: udp::UdpArgs,
    #[command(flatten)]
    pub xdp: xdp::XdpArgs,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Write the latencies of the list's names as an HDR percentile file, for hdrhistogram's plotters.
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
}

/// How queries are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// Kernel UDP sockets.
    Udp,
    /// An XDP program on recycled frames.
    Xdp,
}

/// What is asked how often.
#[derive(Clone, Debug, clap::Args)]
pub struct LoadArgs {
    /// Questions in dnsperf's format, `NAME TYPE` a line, most popular first; made up when absent.
    #[arg(long, value_name = "FILE")]
    pub names: Option<PathBuf>,
    /// How many names are asked; all of the file, or 10,000 made-up ones, when absent.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: Option<u32>,
    /// Type of made-up and random names, and of lines without one.
    #[arg(long = "type", default_value = "A", value_name = "TYPE")]
    pub qtype: String,
    /// Ask names by Zipf's law with this exponent: the nth name n^-S times as often as the first.
    #[arg(long, value_name = "S", conflicts_with = "sequential", value_parser = exponent)]
    pub zipf: Option<f64>,
    /// Ask one name after the other; without this and --zipf, each equally often.
    #[arg(long)]
    pub sequential: bool,
    /// Share of queries for names that nobody asked before, in percent.
    #[arg(long, value_name = "PCT", default_value_t = 0.0, value_parser = percent)]
    pub random_share: f64,
    /// Queries a second, in all.
    #[arg(long, value_parser = rate)]
    pub qps: Option<f64>,
    /// How long to send, in seconds.
    #[arg(long, default_value_t = 10.0, value_parser = rate)]
    pub duration: f64,
    /// First ask every name once over kernel UDP, and wait for each answer, so that they are cached.
    #[arg(long)]
    pub warm: bool,
    /// What the random draws begin with: equal seeds ask the same names in the same order.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

fn exponent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(s) if (0.0..=10.0).contains(&s) => Ok(s),
        _ => Err("Zipf's exponent is a number from 0 to 10".into()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(rate),
        _ => Err("a number above zero is wanted".into()),
    }
}

/// A run, ready to start: everything drawn, read and made up.
#[derive(Debug)]
pub struct Plan {
    /// The names.
    pub questions: Questions,
    /// Their order.
    pub order: Order,
    /// What queries look like.
    pub template: Template,
    /// Queries a second, or as fast as answers come.
    pub qps: Option<f64>,
    /// How long.
    pub duration: Duration,
    /// Of all random draws.
    pub seed: u64,
    /// Options of the UDP generator.
    pub udp: udp::UdpArgs,
    /// Set to end early.
    pub stop: Arc<AtomicBool>,
}

impl Plan {
    /// Makes everything ready.
    pub fn new(load: &LoadArgs, query: &QueryArgs, udp: &udp::UdpArgs) -> Result<Self> {
        let qtype = record_type(&load.qtype)?;
        let count = load.count.map(|count| count as usize);
        let questions = match &load.names {
            Some(path) => Questions::read(path, qtype, count)?,
            None => Questions::made_up(count.unwrap_or(10_000), SUFFIX, qtype)?,
        };
        let popularity = match load.zipf {
            Some(s) => Popularity::Zipf(s),
            None if load.sequential => Popularity::Sequential,
            None => Popularity::Uniform,
        };
        Ok(Plan {
            order: Order::draw(popularity, questions.len(), load.random_share / 100.0, load.seed),
            questions,
            template: Template::new(query, qtype)?,
            qps: load.qps,
            duration: Duration::from_secs_f64(load.duration),
            seed: load.seed,
            udp: udp.clone(),
            stop: Arc::default(),
        })
    }
}

/// Warms the server if that is asked for, runs the load, and returns the report.
pub fn measure(args: &Args) -> Result<Report> {
    let mut plan = Plan::new(&args.load, &args.query, &args.udp)?;
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, plan.stop.clone()).context("cannot catch signals")?;
    }
    if args.load.warm {
        let began = Instant::now();
        udp::warm(&plan, args.target)?;
        eprintln!("warm: {} names in {:.2} s", plan.questions.len(), began.elapsed().as_secs_f64());
    }
    let (wall, began) = (SystemTime::now(), Instant::now());
    let (tally, traffic) = match args.backend {
        Backend::Udp => (udp::run(&plan, args.target)?, None),
        Backend::Xdp => {
            let outcome = xdp::run(&plan, &args.xdp, args.target)?;
            (outcome.tally, Some(outcome.traffic))
        }
    };
    let elapsed = began.elapsed();
    // Waiting for the last answers is no time of load.
    plan.duration = plan.duration.min(elapsed);
    ensure!(tally.sent() > 0, "not one query could be sent to {}: does a server listen there?", args.target);
    Ok(Report {
        setup: Setup {
            backend: args.backend.to_string(),
            target: args.target.to_string(),
            names: plan.questions.len(),
            random_share: args.load.random_share,
            qps: plan.qps,
        },
        began: wall,
        elapsed: plan.duration,
        tally,
        traffic,
    })
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Backend::Udp => "udp",
            Backend::Xdp => "xdp",
        })
    }
}

/// `ringbench run`.
pub fn run(args: &Args) -> Result<()> {
    let report = measure(args)?;
    if let Some(path) = &args.hgrm {
        report.write_hgrm(path)?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report.json())?);
    } else {
        print!("{report}");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
