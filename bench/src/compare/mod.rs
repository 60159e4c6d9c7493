//! `ringbench compare`: ringdnsd and its peers on one link, in one run.
//!
//! Rates of different days or machines cannot be compared. So all servers are measured here in
//! turns, round by round, by the same generator with the same names; the tables compare medians and
//! show the spread.

mod bout;
mod flood;
mod floors;
mod hits;
mod latency;
mod memory;
mod sample;
mod saturation;
pub(crate) mod search;
pub(crate) mod section;
pub(crate) mod server;
pub(crate) mod stats;

use crate::{machine::Machine, output, put_back::PutBack, report::group, setup, stop};
use anyhow::{Context, Result, ensure};
use bout::Bout;
use clap::ValueEnum;
use ringdns_testkit::Lab;
use section::Section;
use serde_json::{Map, Value, json};
use server::{Contestant, Description, Programs};
use std::{
    env,
    fmt::Write,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

/// Measures ringdnsd and its peers in turns, in a lab of two hosts on this machine, and prints tables.
///
/// Each server runs on core 1; the generator, in the kernel of the other host, and the upstream on
/// core 0. Needs root, two cores, and a machine with nothing else to do. `deploy/setup.sh bench`
/// installs the peers; a peer that is not installed is skipped, and the report says so.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Measures to run.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "saturation")]
    pub measure: Vec<Measure>,
    /// The short form, for CI: saturation of the servers that --floors names, in less than a minute;
    /// two minutes if a ratio is near its floor.
    #[arg(long, requires = "floors", conflicts_with_all = ["measure", "only"])]
    pub short: bool,
    /// Fail if a ratio of saturation falls below its floor in this file, such as bench/ratios.json.
    #[arg(long, value_name = "FILE")]
    pub floors: Option<PathBuf>,
    /// Rounds: in each, every server is started, warmed, measured and stopped. Default: each
    /// measure's own number.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: Option<u16>,
    /// Seconds of each load. Default: each measure's own.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Number of names, all of which are cached.
    #[arg(long, default_value_t = 10_000)]
    pub names: u32,
    /// Measure only this server, by the name of its file; may be given several times.
    #[arg(long = "only", value_name = "NAME")]
    pub only: Vec<String>,
    /// Folder with more servers, described as in bench/servers.
    #[arg(long, value_name = "DIR")]
    pub servers: Option<PathBuf>,
    /// The ringdnsd to measure. Default: the one beside this program.
    #[arg(long, value_name = "FILE")]
    pub ringdnsd: Option<PathBuf>,
    /// Priority of servers and generator, from -20 (highest) to 19. Use a value below zero where
    /// other programs disturb.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(i8).range(-20..=19))]
    pub nice: i8,
    /// Also write the tables as Markdown.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Also write all figures of all rounds as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Measures of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// Answers a second when asked for more than can be answered, and processor time an answer.
    Saturation,
    /// The highest rate with little loss at 100, 99, 95 and 80 % hits, and the rate of hits under
    /// twice that load.
    Hits,
    /// Latency at half of each server's own maximum, and ringdnsd's at the same rate.
    Latency,
    /// Memory with 100 thousand and a million names.
    Memory,
    /// Hits and their latency before, during and after a flood of random names.
    Flood,
}

pub(crate) const GENERATOR_CORE: usize = 0;
pub(crate) const SERVER_CORE: usize = 1;
/// Receive buffer of every server's sockets, in bytes.
const RECEIVE_BUFFER: u32 = 4 << 20;

/// `ringbench compare`.
pub fn run(args: &Args) -> Result<()> {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    ensure!(cores >= 2, "servers and generator need a core each; this process may use {cores}");
    let stop = stop::on_signal()?;
    let floors = args.floors.as_deref().map(floors::read).transpose()?.unwrap_or_default();
    let needed = if args.short { floors::servers(&floors) } else { args.only.clone() };
    let descriptions = server::describe(args.servers.as_deref(), &needed)?;
    let programs = Programs::find(args.ringdnsd.clone())?;
    let (contestants, mut skipped) = find_all(descriptions, &programs);
    ensure!(!contestants.is_empty(), "none of the servers is installed: run deploy/setup.sh bench");
    let (machine, when) = (Machine::here(), setup::now());
    let conditions = conditions(args, &machine);
    eprintln!("{conditions}");
    let mut put_back = PutBack::default();
    // Where the kernel divides the processor by session, the niceness of a process counts within its
    // session only. A kernel that does not has no such file.
    if args.nice != 0 {
        let _ = put_back.write(Path::new("/proc/self/autogroup"), &args.nice.to_string());
    }
    // Some servers have a setting for the receive buffer and others have none, so all get the same.
    let buffer = put_back.write(Path::new("/proc/sys/net/core/rmem_default"), &RECEIVE_BUFFER.to_string());
    if buffer.is_err() {
        skipped.push("Servers without a setting for the receive buffer had the kernel's default (net.core.rmem_default)".into());
    }

    let lab = Lab::up().context("making a lab needs root")?;
    let bout = Bout::begin(args, &contestants, &programs, &stop, &lab)?;
    let mut report = Report {
        machine,
        when,
        conditions,
        upstream_rate: bout.upstream_rate,
        contestants: &contestants,
        skipped,
        sections: Vec::new(),
    };
    let mut verdicts = Vec::new();
    for measure in &args.measure {
        let began = Instant::now();
        let section = match measure {
            Measure::Saturation => saturation::measure(&bout, &floors).and_then(|(section, found)| {
                verdicts = floors::judge(&floors, &contestants, &found)?;
                Ok(section)
            }),
            Measure::Hits => hits::measure(&bout),
            Measure::Latency => latency::measure(&bout),
            Measure::Memory => memory::measure(&bout),
            Measure::Flood => flood::measure(&bout),
        };
        report.sections.push(Section { seconds: began.elapsed().as_secs_f64(), ..section? });
        // Measures take minutes, so each result is written as soon as it is there.
        report.write(args)?;
    }
    bout.end()?;
    drop(lab);
    print!("{}", report.text());
    for verdict in &verdicts {
        println!("{verdict}");
    }
    floors::hold(&verdicts)
}

/// Describes everything besides the servers that the figures depend on.
fn conditions(args: &Args, machine: &Machine) -> String {
    let nice = if args.nice == 0 { String::new() } else { format!(", nice {}", args.nice) };
    let busy = if machine.load > 0.5 {
        ". The machine had other work: trust only ratios, and those with caution"
    } else {
        ""
    };
    format!(
        "veth, copy mode, two cores: each server on one, with one thread for its hits; the generator in the kernel \
         and the upstream on the other. {} names. Linux {}, {}, load {:.1} before{nice}{busy}.",
        group(args.names.into()),
        machine.kernel,
        machine.processor,
        machine.load
    )
}

/// Returns the servers that are installed, and a remark for each of the others.
fn find_all(descriptions: Vec<Description>, programs: &Programs) -> (Vec<Contestant>, Vec<String>) {
    let (mut there, mut skipped) = (Vec::new(), Vec::new());
    for description in descriptions {
        let title = description.title.clone();
        match Contestant::find(description, programs) {
            Ok(contestant) => there.push(contestant),
            Err(word) => skipped.push(format!("{title} is left out: {word}")),
        }
    }
    (there, skipped)
}

/// Returns the folder of the servers' files: in memory if possible.
fn memory_folder() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.into() } else { env::temp_dir() }
}

/// Results and conditions of a comparison.
struct Report<'a> {
    machine: Machine,
    /// Start time in UTC, as in RFC 3339.
    when: String,
    conditions: String,
    upstream_rate: f64,
    contestants: &'a [Contestant],
    skipped: Vec<String>,
    sections: Vec<Section>,
}

impl Report<'_> {
    fn text(&self) -> String {
        let mut text = format!("# ringdns and its peers\n\n{}\n\n", self.conditions);
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "The upstream alone answers {} queries a second over loopback.\n",
            group(self.upstream_rate as u64)
        );
        for Contestant { description, version } in self.contestants {
            let _ = writeln!(text, "- {} {version}: {}.", description.title, description.thread);
        }
        for word in &self.skipped {
            let _ = writeln!(text, "- {word}.");
        }
        for section in &self.sections {
            let _ = write!(text, "\n{section}");
        }
        text
    }

    fn json(&self) -> Value {
        let servers = self.contestants.iter().map(|Contestant { description, version }| {
            let value = json!({
                "title": description.title,
                "version": version,
                "thread": description.thread,
                "notes": description.notes,
            });
            (description.name.clone(), value)
        });
        let sections = self.sections.iter().map(|section| (section.name.to_owned(), json!(section)));
        json!({
            "when": self.when,
            "conditions": self.conditions,
            "machine": self.machine,
            "upstream_answers_per_second": self.upstream_rate,
            "servers": servers.collect::<Map<_, _>>(),
            "skipped": self.skipped,
            "measures": sections.collect::<Map<_, _>>(),
        })
    }

    /// Writes the results to the files that the arguments name.
    fn write(&self, args: &Args) -> Result<()> {
        output::text(args.markdown.as_deref(), &self.text())?;
        output::json(args.json.as_deref(), &self.json())
    }
}
