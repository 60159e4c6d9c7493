//! `ringbench hostile`: ringdnsd and its peers before hostile clients, upstreams and networks.

mod attack;
mod bomb;
mod fair;
mod flood;
mod forged;
mod heavy;
mod icmp;
mod judge;
mod site;
mod table;

use crate::{
    compare::{
        GENERATOR_CORE,
        server::{Contestant, Description, Programs},
    },
    output,
    put_back::PutBack,
    run::udp::pin,
    setup::Setup,
    stop,
};
use anyhow::{Context, Result, bail, ensure};
use attack::{Attack, AttackGroup};
use ringdns_testkit::Lab;
use rustix::process::nice;
use site::Site;
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread::{self, ScopedJoinHandle},
};
use table::{HostileReport, RowFigures};

/// Attacks ringdnsd, Unbound, BIND, PowerDNS Recursor and Knot Resolver, and prints one table.
///
/// All servers have their defaults and forward to the same scripted upstreams, in a lab of two
/// hosts on this machine; each attack finds a server just started. All attacks are bounded in rate
/// and time, and no packet leaves the lab. Needs root, two cores and `deploy/setup.sh bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these servers, by the names of their files in bench/hostile.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub servers: Vec<String>,
    /// Only these groups of rows.
    #[arg(long, value_enum, value_name = "GROUP", value_delimiter = ',')]
    pub rows: Vec<AttackGroup>,
    /// The short form, for CI: the decisive rows of ringdnsd alone. Fails if a figure is worse than
    /// its limit.
    #[arg(long, conflicts_with = "servers")]
    pub short: bool,
    /// Rounds of each attack; the table has the medians.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub rounds: u16,
    /// The ringdnsd to attack. Default: the one beside this program.
    #[arg(long, value_name = "FILE")]
    pub ringdnsd: Option<PathBuf>,
    /// Priority of servers and attackers, from -20 (highest) to 19.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(i8).range(-20..=19))]
    pub nice: i8,
    /// Also write the table, as Markdown.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Also write the figures of all rounds, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Servers, in the order of the columns.
const SERVERS: [(&str, &str); 5] = [
    ("ringdnsd", include_str!("../../hostile/ringdnsd.toml")),
    ("unbound", include_str!("../../hostile/unbound.toml")),
    ("bind", include_str!("../../hostile/bind.toml")),
    ("pdns-recursor", include_str!("../../hostile/pdns-recursor.toml")),
    ("knot-resolver", include_str!("../../hostile/knot-resolver.toml")),
];

/// Times that a figure of the short form is measured anew if it is worse than its limit: a
/// disturbance of the machine ends, a fault stays.
const AGAIN: u16 = 2;

/// `ringbench hostile`.
pub fn run(args: &Args) -> Result<()> {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    ensure!(cores >= 2, "server and attackers need a core each; this process may use {cores}");
    let stop = stop::on_signal()?;
    let programs = Programs::find(args.ringdnsd.clone())?;
    let (contestants, remarks) = find(args, &programs)?;
    let mut put_back = PutBack::default();
    // Servers and clients inherit the priority. Where the kernel divides the processor by session,
    // the niceness of a process counts within its session only.
    if args.nice != 0 {
        nice(args.nice.into()).context("a priority above the default needs root")?;
        let _ = put_back.write(Path::new("/proc/self/autogroup"), &args.nice.to_string());
    }
    // The sockets of a flood's clients must hold what comes while other work has the core.
    put_back.write(Path::new("/proc/sys/net/core/rmem_default"), &(4 << 20).to_string())?;
    let lab = Lab::up().context("making a lab needs root")?;
    site::add_clients(&lab);
    let mut results = HostileReport {
        setup: Setup::here(),
        rounds: args.rounds,
        nice: args.nice,
        contestants: &contestants,
        lines: Vec::new(),
        remarks,
    };
    // Threads of all clients and upstreams inherit this.
    pin(&[GENERATOR_CORE], 0)?;
    let is_chosen = |attack: &Attack| {
        (args.rows.is_empty() || args.rows.contains(&attack.group)) && (!args.short || attack.is_short)
    };
    for attack in attack::all().into_iter().filter(is_chosen) {
        let play = Play { args, attack: &attack, lab: &lab, programs: &programs, stop: &stop };
        play.rounds(&mut results)?;
        // A run takes many minutes, so each result is written as soon as it is there.
        output::text(args.markdown.as_deref(), &results.to_string())?;
        output::json(args.json.as_deref(), &results.json())?;
    }
    print!("{results}");
    if args.short { results.hold() } else { Ok(()) }
}

/// Returns the servers that are installed, and a remark for each of the others.
fn find(args: &Args, programs: &Programs) -> Result<(Vec<Contestant>, Vec<String>)> {
    if let Some(unknown) = args.servers.iter().find(|name| SERVERS.iter().all(|(known, _)| known != name)) {
        let known = SERVERS.map(|(name, _)| name).join(", ");
        bail!("no server is called \"{unknown}\": known servers are {known}");
    }
    let (mut found, mut remarks) = (Vec::new(), Vec::new());
    for (name, text) in SERVERS {
        let description =
            Description::parse(name, text).with_context(|| format!("bench/hostile/{name}.toml"))?;
        let is_chosen = args.servers.is_empty() || args.servers.iter().any(|chosen| chosen == name);
        if !is_chosen || args.short && !description.is_ours() {
            continue;
        }
        let title = description.title.clone();
        match Contestant::find(description, programs) {
            Ok(contestant) => found.push(contestant),
            Err(word) => remarks.push(format!("{title} is left out: {word}")),
        }
    }
    ensure!(!found.is_empty(), "none of the servers is installed: run deploy/setup.sh bench");
    Ok((found, remarks))
}

/// Attack and the servers that it is for.
struct Play<'a> {
    args: &'a Args,
    attack: &'a Attack,
    lab: &'a Lab,
    programs: &'a Programs,
    stop: &'a AtomicBool,
}

impl Play<'_> {
    /// Attacks each server in each round, and adds the figures to the results.
    fn rounds(&self, results: &mut HostileReport<'_>) -> Result<()> {
        let Attack { group, rows, .. } = self.attack;
        let contestants = results.contestants;
        let empty = |row: &attack::AttackRow| RowFigures {
            group: *group,
            row: row.clone(),
            rounds: vec![Vec::new(); contestants.len()],
        };
        let mut lines: Vec<RowFigures> = rows.iter().map(empty).collect();
        let mut rounds = self.args.rounds;
        let mut round = 0;
        while round < rounds {
            for (nth, contestant) in contestants.iter().enumerate() {
                let figures = self.attack(contestant, &mut results.remarks)?;
                for (line, figure) in lines.iter_mut().zip(figures) {
                    line.rounds[nth].push(figure);
                }
            }
            round += 1;
            let is_worse = |line: &RowFigures| !line.row.unit.keeps(line.median(0), line.row.limit);
            if self.args.short && lines.iter().any(is_worse) && rounds < self.args.rounds + AGAIN {
                rounds += 1;
            }
        }
        results.lines.extend(lines);
        Ok(())
    }

    /// Attacks one server. A peer that fails has no figures, and a remark says so; a failure of
    /// our own server ends the run.
    fn attack(&self, contestant: &Contestant, remarks: &mut Vec<String>) -> Result<Vec<f64>> {
        ensure!(!self.stop.load(Relaxed), "interrupted");
        let site = Site::new(self.lab, self.programs, contestant, self.stop)?;
        let outcome = self.attack.run(&site);
        let rows = &self.attack.rows;
        for (row, figure) in rows.iter().zip(outcome.iter().flatten()) {
            eprintln!("{:<20} {}: {}", contestant.description.title, row.name, row.unit.format(*figure));
        }
        let mut said = site.into_remarks();
        let figures = match outcome {
            Err(error) if contestant.description.is_ours() => {
                return Err(error.context(rows[0].name.clone()));
            }
            Err(error) => {
                let title = &contestant.description.title;
                let text = format!("{error:#}");
                said.push(format!(
                    "{title} failed ({}): {}",
                    rows[0].name,
                    text.lines().next().unwrap_or("")
                ));
                vec![f64::NAN; rows.len()]
            }
            Ok(figures) => figures,
        };
        for remark in said {
            if !remarks.contains(&remark) {
                eprintln!("note: {remark}");
                remarks.push(remark);
            }
        }
        Ok(figures)
    }
}

/// Waits for a thread, and returns its result; a panic becomes this thread's.
fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    match thread.join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn every_server_is_described_and_knows_the_silent_upstream() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("hostile");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), SERVERS.len());
        for (name, text) in SERVERS {
            let description = Description::parse(name, text).unwrap();
            assert_eq!(description.is_ours(), name == "ringdnsd");
            let (address, port) = (site::SILENT_UPSTREAM.ip(), site::SILENT_UPSTREAM.port());
            let written = [":", "@", " port "].map(|between| format!("{address}{between}{port}"));
            assert!(written.iter().any(|written| text.contains(written)), "{name}: {written:?}");
            assert!(text.contains(site::SILENT_ZONE), "{name}");
        }
    }
}
