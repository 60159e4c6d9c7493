//! `ringbench compare`: ringdnsd and its peers on one cable, in one run.
//!
//! Rates of different days, or of different machines, say nothing about each other. So all servers are measured here in
//! turns, round by round, by the same generator at the same names; medians are compared, and what varies is shown.

mod contestant;
mod table;

use crate::{
    lab::{CLIENT_INTERFACE, Lab, SERVER, Server, Side},
    run::{Plan, udp},
};
use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
pub use contestant::Contestant;
use contestant::{Programs, UPSTREAM};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::{
    net::UdpSocket,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use table::{Conditions, Table};

/// Measures ringdnsd and its peers in turns, in a lab of two hosts on this machine, and prints the table.
///
/// Each server runs on core 1 with all names cached; the generator, in the kernel of the other host, on core 0, asks
/// far more than any of them answers. Needs root, two cores, and a machine with nothing else to do.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Rounds: in each, every server is started, warmed, measured and stopped.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: u16,
    /// Seconds that each is measured for in a round.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Names, all of which are cached.
    #[arg(long, default_value_t = 10_000)]
    pub names: u32,
    /// Only this server; may be given several times.
    #[arg(long = "only", value_enum)]
    pub only: Vec<Contestant>,
    /// Script that makes the lab.
    #[arg(long, value_name = "FILE", default_value = "deploy/lab.sh")]
    pub lab: PathBuf,
    /// The ringdnsd to measure; the one beside this program when absent.
    #[arg(long, value_name = "FILE")]
    pub ringdnsd: Option<PathBuf>,
    /// Priority of servers and generator, from -20 (most) to 19: below zero where other programs disturb.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(i8).range(-20..=19))]
    pub nice: i8,
    /// Also write the table as Markdown.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Also write all figures as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

const GENERATOR_CORE: usize = 0;
const SERVER_CORE: usize = 1;

/// How long a server may take until it answers.
const START: Duration = Duration::from_secs(20);

/// `ringbench compare`.
pub fn run(args: &Args) -> Result<()> {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    ensure!(cores >= 2, "servers and generator want a core each; this process may use {cores}");
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).context("cannot catch signals")?;
    }
    let contestants = if args.only.is_empty() { Contestant::ALL.to_vec() } else { args.only.clone() };
    let programs = Programs::find(args.ringdnsd.clone())?;
    let conditions = Conditions::of(args)?;
    eprintln!("{conditions}");

    let lab = Lab::up(&args.lab)?;
    let mut upstream = lab.command(Side::Server, GENERATOR_CORE, &programs.ringbench);
    upstream.args(["upstream", "--ttl=86400", "--listen", &UPSTREAM.to_string()]);
    let upstream = Server::start("the upstream", upstream)?;

    let bout = Bout { args, lab: &lab, programs: &programs, stop: &stop };
    let mut table = Table::new(conditions);
    for round in 1..=args.rounds {
        // Each round begins with another server, so that none always has the place after the same one.
        let mut turns = contestants.clone();
        turns.rotate_left((usize::from(round) - 1) % contestants.len());
        for contestant in turns {
            let figures = bout.measure(contestant).with_context(|| format!("{contestant}, round {round}"))?;
            eprintln!("round {round}: {contestant:<26} {:>10.0} answers/s", figures.answers_per_second);
            table.add(contestant, figures);
        }
    }
    upstream.stop()?;
    drop(lab);

    println!("{table}");
    table.write(args.markdown.as_deref(), args.json.as_deref())
}

/// One server's turn, again and again.
struct Bout<'a> {
    args: &'a Args,
    lab: &'a Lab,
    programs: &'a Programs,
    stop: &'a Arc<AtomicBool>,
}

/// What came of a turn.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Figures {
    /// Answers that came back, a second.
    pub answers_per_second: f64,
    /// Queries that the cable took, a second.
    pub queries_per_second: f64,
    /// Mean length of the answers' frames.
    pub answer_bytes: f64,
    /// Processor time that the server had for each answer, in nanoseconds. Other programs on its core take rate away
    /// from it, but nothing of this.
    pub cpu_nanos: f64,
}

impl Bout<'_> {
    fn measure(&self, contestant: Contestant) -> Result<Figures> {
        let mut server = contestant.start(self.lab, self.programs, self.args.nice)?;
        self.wait_until_it_answers(&mut server)?;
        if contestant.has_cache() {
            self.warm()?;
        }
        let figures = self.generate(&server)?;
        server.stop()?;
        Ok(figures)
    }

    fn check_stop(&self) -> Result<()> {
        ensure!(!self.stop.load(Relaxed), "interrupted");
        Ok(())
    }

    fn wait_until_it_answers(&self, server: &mut Server) -> Result<()> {
        let deadline = Instant::now() + START;
        // Any message will do: what is no query is answered too, or the next is.
        let query = b"\x53\x53\x01\0\0\x01\0\0\0\0\0\0\x05ready\x02rb\x07example\0\0\x01\0\x01";
        self.lab.inside(Side::Client, || {
            let socket = UdpSocket::bind("0.0.0.0:0").context("cannot open a socket")?;
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            while Instant::now() < deadline {
                self.check_stop()?;
                server.check()?;
                socket.send_to(query, SERVER).context("cannot send to the server")?;
                if socket.recv(&mut [0; 512]).is_ok() {
                    return Ok(());
                }
            }
            bail!("nothing answers on {SERVER} within {START:?}")
        })
    }

    /// Asks every name once, and verifies each answer.
    fn warm(&self) -> Result<()> {
        #[derive(Parser)]
        struct Cli {
            #[command(flatten)]
            args: crate::run::Args,
        }
        let (target, count) = (SERVER.to_string(), self.args.names.to_string());
        let cli = Cli::try_parse_from(["warm", "--verify-data", "--target", &target, "--count", &count])?;
        let mut plan = Plan::new(&cli.args.load, &cli.args.query, &cli.args.udp)?;
        plan.stop = self.stop.clone();
        self.lab.inside(Side::Client, || udp::warm(&plan, SERVER))?;
        self.check_stop()
    }

    fn generate(&self, server: &Server) -> Result<Figures> {
        let mut command = self.lab.command(Side::Client, GENERATOR_CORE, "nice");
        let (names, seconds) = (self.args.names.to_string(), self.args.seconds.to_string());
        let target = SERVER.to_string();
        command.args(["-n", &self.args.nice.to_string()]).arg(&self.programs.ringbench).args([
            "run",
            "--backend=xdp",
            "--json",
            "--interface",
            CLIENT_INTERFACE,
            "--target",
            &target,
            "--count",
            &names,
            "--duration",
            &seconds,
        ]);
        let before = server.cpu_time()?;
        let output = command.output().context("cannot start the generator")?;
        let spent = server.cpu_time()? - before;
        self.check_stop()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the generator failed: {}", said.trim());
        let report: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("the generator's report is no JSON")?;
        let (all, right) = (&report["received"]["responses"], &report["response_rcodes"]["NOERROR"]);
        ensure!(
            all == right,
            "only {right} of {all} answers were NOERROR: what was measured is not what was asked for"
        );
        let figure = |name: &str| {
            let figure = report["traffic"][name].as_f64();
            figure.with_context(|| format!("the generator's report lacks {name}"))
        };
        let answers_per_second = figure("answers_per_second")?;
        ensure!(answers_per_second > 0.0, "it answered before the load, and nothing under it: {report}");
        Ok(Figures {
            answers_per_second,
            queries_per_second: figure("queries_per_second")?,
            answer_bytes: figure("answer_bytes")?,
            cpu_nanos: spent.as_nanos() as f64 / all.as_f64().unwrap_or(0.0).max(1.0),
        })
    }
}
