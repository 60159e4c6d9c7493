//! `ringbench generators`: load generators against each other, over one cable, at one responder.
//!
//! Each has one core, the responder the other. Rates are the interface's, read by us in the middle of each tool's run: no
//! tool is believed. Latencies are the tools' own, at a responder that keeps answers back for a known time.

mod tools;

use crate::{
    compare::{
        section::{Section, empty_row, with_spread},
        stats::Summary,
    },
    lab::{CLIENT_INTERFACE, Lab, SERVER, SERVER_INTERFACE, Server, Side},
    machine::Machine,
    names::{Questions, SUFFIX},
    output,
    plot::{self, Bar},
    run::xdp::interface::{Counters, Device},
};
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::UdpSocket,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use tools::{Claims, Task, Tool};

/// Holds this load generator against dnsperf, kxdpgun and flame: rates a core, and how right their latencies are.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The script that makes the lab.
    #[arg(long, default_value = "deploy/lab.sh")]
    pub lab: PathBuf,
    /// Rounds: each tool has its turn in each.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// How long each turn is, in seconds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..))]
    pub seconds: u16,
    /// The time that the responder keeps answers back, in microseconds.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub delay_us: u32,
    /// Write every figure.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the tables.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Write bars of the rates and of the latencies into this folder, as SVG.
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
}

const GENERATOR_CORE: usize = 0;
const RESPONDER_CORE: usize = 1;
/// Names that are asked.
const NAMES: u32 = 10_000;
/// Queries a second while latencies are looked at: far from anybody's limit.
const CALM: u32 = 2000;
/// From the start of a tool until its load is steady, and how long before its end we stop looking.
const RAMP: Duration = Duration::from_millis(900);
const MARGIN: Duration = Duration::from_millis(200);

/// One turn of one tool at its highest rate.
#[derive(Clone, Copy, Debug, Serialize)]
struct Turn {
    queries_per_second: f64,
    answers_per_second: f64,
    claimed_answers_per_second: Option<f64>,
}

/// One turn of one tool at a calm rate.
#[derive(Clone, Copy, Debug, Serialize)]
struct Timing {
    latency_ns: f64,
    p99_ns: Option<f64>,
}

/// `ringbench generators`.
pub fn run(args: &Args) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).context("cannot catch signals")?;
    }
    let ringbench = std::env::current_exe().context("cannot find this program")?;
    let mut names = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
    write_names(&mut names)?;
    let found = Tool::ALL.into_iter().map(|tool| (tool, tool.find(&ringbench)));
    let (tools, missing): (Vec<_>, Vec<_>) = found.partition(|(_, program)| program.is_some());
    let lab = Lab::up(&args.lab)?;
    let arena = Arena {
        args,
        lab: &lab,
        ringbench: &ringbench,
        tools: tools.into_iter().filter_map(|(tool, program)| Some((tool, program?))).collect(),
        names: names.path().into(),
        stop: &stop,
    };
    let remarks: Vec<String> =
        missing.iter().map(|(tool, _)| format!("{} is not installed: skipped", tool.title())).collect();
    let sections = [arena.rates(remarks)?, arena.timings()?];

    let machine = Machine::here();
    let mut text = format!(
        "# Load generators\n\nveth, copy mode, a core each for generator and responder. {machine}.\n"
    );
    for section in &sections {
        text += &format!("\n{section}");
    }
    print!("{text}");
    if let Some(path) = &args.markdown {
        fs::write(path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let raw: BTreeMap<_, _> = sections.iter().map(|section| (section.name, &section.raw)).collect();
    output::json(args.json.as_deref(), &json!({ "machine": machine, "measures": raw }))?;
    let plots: Vec<(String, String)> = sections
        .iter()
        .flat_map(|s| &s.plots)
        .map(|(name, svg)| (format!("{name}.svg"), svg.clone()))
        .collect();
    let plots: Vec<(&str, String)> = plots.iter().map(|(name, svg)| (name.as_str(), svg.clone())).collect();
    output::plots(args.plots.as_deref(), &plots)
}

/// The names as all tools read them.
fn write_names(file: &mut impl Write) -> Result<()> {
    let questions = Questions::made_up(NAMES as usize, SUFFIX, 1)?;
    let mut text = String::new();
    for index in 0..NAMES {
        // One label of seven characters before the suffix.
        text += &format!("{}.{SUFFIX} A\n", String::from_utf8_lossy(&questions.get(index)[1..8]));
    }
    file.write_all(text.as_bytes()).context("cannot write the names")
}

struct Arena<'a> {
    args: &'a Args,
    lab: &'a Lab,
    ringbench: &'a PathBuf,
    tools: Vec<(Tool, PathBuf)>,
    names: PathBuf,
    stop: &'a AtomicBool,
}

impl Arena<'_> {
    /// Starts the responder, and waits until it answers.
    fn responder(&self, delay_us: u32) -> Result<Server> {
        let mut command = self.lab.command(Side::Server, RESPONDER_CORE, self.ringbench);
        command.args(["responder", "--interface", SERVER_INTERFACE, "--listen", &SERVER.to_string()]);
        command.args(["--delay-us", &delay_us.to_string()]);
        let mut server = Server::start("the responder", command)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        let query = b"\x53\x53\x01\0\0\x01\0\0\0\0\0\0\x05ready\x02rb\x07example\0\0\x01\0\x01";
        self.lab.inside(Side::Client, || {
            let socket = UdpSocket::bind("0.0.0.0:0").context("cannot open a socket")?;
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            while Instant::now() < deadline {
                ensure!(!self.stop.load(Relaxed), "interrupted");
                server.check()?;
                socket.send_to(query, SERVER).context("cannot send to the responder")?;
                if socket.recv(&mut [0; 512]).is_ok() {
                    return Ok(());
                }
            }
            bail!("the responder does not answer on {SERVER}")
        })?;
        Ok(server)
    }

    /// Runs a tool, and gives what it said and what the interface counted in the middle of it.
    fn turn(&self, tool: Tool, program: &PathBuf, qps: Option<u32>) -> Result<(Claims, Rates)> {
        let seconds = u32::from(self.args.seconds);
        let task = Task { seconds, qps, names: &self.names, count: NAMES };
        let mut command: Command = self.lab.command(Side::Client, GENERATOR_CORE, program);
        tool.arguments(&mut command, task, (&SERVER.ip().to_string(), SERVER.port()), CLIENT_INTERFACE);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", tool.title()))?;
        let rates = self.lab.inside(Side::Client, || {
            let device = Device::find(CLIENT_INTERFACE, SERVER.ip())?;
            thread::sleep(RAMP);
            let (began, before) = (Instant::now(), device.counters()?);
            thread::sleep(Duration::from_secs(seconds.into()) - RAMP - MARGIN);
            Ok(Rates::between(before, device.counters()?, began.elapsed()))
        });
        if rates.is_err() {
            // The lab ends what still runs in it, but not before its output is read.
            let _ = child.kill();
        }
        let output = child.wait_with_output().with_context(|| format!("{} was lost", tool.title()))?;
        ensure!(!self.stop.load(Relaxed), "interrupted");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        ensure!(output.status.success(), "{} ended with {}: {}", tool.title(), output.status, said[1].trim());
        if tool == Tool::Kxdpgun {
            self.free_interface()?;
        }
        let claims = if said[0].trim().is_empty() { tool.read(&said[1]) } else { tool.read(&said[0]) };
        Ok((claims?, rates?))
    }

    /// kxdpgun leaves its XDP program behind, and nobody else could have the interface.
    fn free_interface(&self) -> Result<()> {
        let mut command = self.lab.command(Side::Client, GENERATOR_CORE, "ip");
        let status = command.args(["link", "set", "dev", CLIENT_INTERFACE, "xdp", "off"]).status();
        ensure!(
            status.context("cannot run `ip`")?.success(),
            "cannot take kxdpgun's program off {CLIENT_INTERFACE}"
        );
        Ok(())
    }

    /// Everybody's highest rate, in rounds.
    fn rates(&self, mut remarks: Vec<String>) -> Result<Section> {
        let began = Instant::now();
        let responder = self.responder(0)?;
        let mut turns: Vec<Vec<Turn>> = vec![Vec::new(); self.tools.len()];
        for round in 1..=self.args.rounds {
            for ((tool, program), turns) in self.tools.iter().zip(&mut turns) {
                eprintln!("round {round}: {}", tool.title());
                match self.turn(*tool, program, None) {
                    Ok((claims, rates)) => turns.push(Turn {
                        queries_per_second: rates.sent,
                        answers_per_second: rates.received,
                        claimed_answers_per_second: claims.answers,
                    }),
                    Err(error) if self.stop.load(Relaxed) => return Err(error),
                    Err(error) => remarks.push(format!("{}, round {round}: {error:#}", tool.title())),
                }
            }
        }
        responder.stop()?;
        let head =
            ["generator", "queries/s", "min-max", "answers/s", "min-max", "it says answers/s", "looks at"];
        let (mut rows, mut bars) = (Vec::new(), Vec::new());
        for ((tool, _), turns) in self.tools.iter().zip(&turns) {
            let of = |figure: fn(&Turn) -> f64| Summary::of(turns.iter().map(figure));
            let (Some(sent), Some(received)) = (of(|t| t.queries_per_second), of(|t| t.answers_per_second))
            else {
                rows.push(empty_row(tool.title(), head.len()));
                continue;
            };
            let claimed = Summary::of(turns.iter().filter_map(|t| t.claimed_answers_per_second));
            let mut row = vec![tool.title().to_owned()];
            row.extend(with_spread(sent));
            row.extend(with_spread(received));
            row.push(claimed.map_or("-".into(), |claimed| with_spread(claimed)[0].clone()));
            row.push(tool.checks().into());
            rows.push(row);
            bars.push(Bar { name: tool.title().into(), value: sent.median, low: sent.min, high: sent.max });
        }
        let plot = plot::bars("Queries a second from one core", "queries/s", &bars)?;
        let raw = self.tools.iter().zip(&turns).map(|((tool, _), turns)| (tool.title(), turns));
        Ok(Section {
            name: "rates",
            title: "Highest rate a core".into(),
            note: format!(
                "{} rounds of {} s, one core for each generator, the bare AF_XDP responder on the other. Rates are the \
                 interface's, read from outside in the middle of each turn. Who floods sends more than is answered; who keeps \
                 a window sends as much as is.",
                self.args.rounds, self.args.seconds
            ),
            head: head.map(Into::into).into(),
            rows,
            remarks,
            raw: json!(raw.collect::<BTreeMap<_, _>>()),
            plots: vec![("generator-rates".into(), plot)],
            seconds: began.elapsed().as_secs_f64(),
        })
    }

    /// Whether the latencies that tools tell are right.
    fn timings(&self) -> Result<Section> {
        let began = Instant::now();
        let mut timings: BTreeMap<&str, [Vec<Timing>; 2]> = BTreeMap::new();
        let mut remarks = Vec::new();
        let timing = self.tools.iter().filter(|(tool, _)| Tool::TIMING.contains(tool));
        for (nth, delay) in [0, self.args.delay_us].into_iter().enumerate() {
            let responder = self.responder(delay)?;
            for (tool, program) in timing.clone() {
                eprintln!("latency, {delay} µs: {}", tool.title());
                match self.turn(*tool, program, Some(CALM)) {
                    Ok((Claims { latency: Some(latency_ns), p99: p99_ns, .. }, _)) => {
                        timings.entry(tool.title()).or_default()[nth].push(Timing { latency_ns, p99_ns });
                    }
                    Ok(_) => remarks.push(format!("{} told no latency", tool.title())),
                    Err(error) if self.stop.load(Relaxed) => return Err(error),
                    Err(error) => remarks.push(format!("{}: {error:#}", tool.title())),
                }
            }
            responder.stop()?;
        }
        let delay = f64::from(self.args.delay_us);
        let head = ["generator", "no delay, µs", "delay, µs", "error, µs", "p99, µs", "is a"];
        let (mut rows, mut bars) = (Vec::new(), Vec::new());
        for (tool, _) in timing {
            let both =
                timings.get(tool.title()).and_then(|[without, with]| Some((without.first()?, with.first()?)));
            let Some((without, with)) = both else {
                rows.push(empty_row(tool.title(), head.len()));
                continue;
            };
            let micros = |nanos: f64| format!("{:.1}", nanos / 1000.0);
            let error = with.latency_ns / 1000.0 - delay;
            rows.push(vec![
                tool.title().into(),
                micros(without.latency_ns),
                micros(with.latency_ns),
                format!("{error:+.1}"),
                with.p99_ns.map_or("-".into(), micros),
                if with.p99_ns.is_some() { "median" } else { "mean" }.into(),
            ]);
            bars.push(Bar { name: tool.title().into(), value: error.max(0.0), low: 0.0, high: 0.0 });
        }
        let plot = plot::bars(&format!("Latency told above a delay of {delay} µs"), "µs", &bars)?;
        Ok(Section {
            name: "latency",
            title: format!("Latency at a responder that waits {} µs", self.args.delay_us),
            note: format!(
                "{CALM} queries a second for {} s. The responder keeps each answer back for the delay, to the microsecond; \
                 what is told above it is the way there and back, and the generator's own error.",
                self.args.seconds
            ),
            head: head.map(Into::into).into(),
            rows,
            remarks,
            raw: json!({ "delay_us": self.args.delay_us, "without_and_with": timings }),
            plots: vec![("generator-latency".into(), plot)],
            seconds: began.elapsed().as_secs_f64(),
        })
    }
}

/// Packets a second.
#[derive(Clone, Copy, Debug)]
struct Rates {
    sent: f64,
    received: f64,
}

impl Rates {
    fn between(before: Counters, after: Counters, time: Duration) -> Self {
        let rate = |then: u64, now: u64| (now - then) as f64 / time.as_secs_f64();
        Rates {
            sent: rate(before.tx_packets, after.tx_packets),
            received: rate(before.rx_packets, after.rx_packets),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tools_ask_for_the_same_names() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write_names(&mut file).unwrap();
        let read = Questions::read(file.path(), 1, None).unwrap();
        let made = Questions::made_up(NAMES as usize, SUFFIX, 1).unwrap();
        assert_eq!(read.len(), made.len());
        assert!((0..NAMES).all(|index| read.get(index) == made.get(index)));
    }
}
