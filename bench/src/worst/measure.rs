//! Answers a processor second of candidates beside those of plain hits, over AF_XDP between two network
//! namespaces.

use super::{
    genome::Genome,
    scene::NOW,
    serve::{self, PACKETS, READY},
    site::Limit,
};
use crate::{
    compare::{GENERATOR_CORE, SERVER_CORE, stats::Summary},
    instructions::{form::Form, parts::Client},
    lab::{CLIENT_INTERFACE, SERVER_INTERFACE, Server, on_core},
    put_back::PutBack,
    report::group,
    run::udp::pin,
    stop,
};
use anyhow::{Context, Result, ensure};
use ringdns_dataplane::port::{
    BURST, Port,
    xsk::{XskConfig, XskPort},
};
use ringdns_testkit::Lab;
use std::{
    fmt,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// Time within which a started server must serve.
const START: Duration = Duration::from_secs(20);
/// Link address of the client's interface, to which no answer goes.
const OTHER_LINK_ADDRESS: &str = "02:00:00:00:53:09";
/// Time after which the load is steady.
const RAMP: Duration = Duration::from_millis(300);
/// Time between two looks at a server that starts.
const CHECK: Duration = Duration::from_millis(20);
/// One in this many packets is from another client that is over its limit, if the set-up has one.
const OTHER_SHARE: usize = 64;
/// Packets that are sent at once.
const TRAIN: usize = 8 * BURST;
/// Pause after them, in which the kernel delivers them: a sender that never sleeps starves its work.
const PAUSE: Duration = Duration::from_micros(200);

/// Settings of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Number of rounds.
    pub rounds: u16,
    /// Duration of a round of one candidate, in seconds.
    pub seconds: f64,
    /// Niceness of all programs.
    pub nice: i8,
}

/// Result of a round of one candidate.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Packets that the worker took, a second.
    received: f64,
    /// Replies a second.
    answered: f64,
    /// Processor time of the server for a packet, in nanoseconds.
    nanos: f64,
}

/// Results of a candidate.
#[derive(Clone, Debug)]
pub struct Row {
    /// Name of the candidate.
    name: String,
    received: Summary,
    answered: Summary,
    nanos: Summary,
}

/// Measures candidates and plain hits in turns, and prints a table.
pub fn measure(candidates: &[(String, Genome)], settings: &Settings) -> Result<()> {
    let stop = stop::on_signal()?;
    let plain = ("plain hit".to_owned(), Genome::of(Form::default()));
    let mut all: Vec<&(String, Genome)> = std::iter::once(&plain).chain(candidates).collect();
    let mut put_back = PutBack::default();
    // Where the kernel divides the processor by session, the niceness of a process counts within its session
    // only. A kernel that does not has no such file.
    if settings.nice != 0 {
        let _ = put_back.write(Path::new("/proc/self/autogroup"), &settings.nice.to_string());
    }
    let lab = Lab::up().context("making a lab needs root")?;
    // With another link address, the kernel drops answers at the client at once, and sends no ICMP errors.
    lab.client().run("ip", ["link", "set", "dev", CLIENT_INTERFACE, "address", OTHER_LINK_ADDRESS]);
    let has_two_tags = |(_, genome): &(String, Genome)| genome.packets.iter().any(|form| form.tags > 1);
    if all.iter().any(|candidate| has_two_tags(candidate))
        && let Err(error) = add_double_vlan(&lab)
    {
        eprintln!("note: forms with two VLAN tags are left out: {error:#}");
        all.retain(|candidate| !has_two_tags(candidate));
    }
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); all.len()];
    for round in 0..usize::from(settings.rounds) {
        // Each round begins with another candidate, so that none always follows the same one.
        for nth in 0..all.len() {
            ensure!(!stop.load(Relaxed), "interrupted");
            let at = (nth + round) % all.len();
            let (name, genome) = all[at];
            let sample = turn(&lab, genome, settings, &stop).with_context(|| name.clone())?;
            eprintln!("{name:<24} {:>10} packets/s", group(sample.received as u64));
            samples[at].push(sample);
        }
    }
    let rows = all.iter().zip(&samples).map(|((name, _), samples)| Row::of(name, samples));
    let rows = rows.collect::<Option<Vec<Row>>>().context("there was no round")?;
    print!("{}", Table(&rows));
    Ok(())
}

/// Gives the server the VLAN that packets with two tags are in.
fn add_double_vlan(lab: &Lab) -> Result<()> {
    const COMMANDS: [&[&str]; 4] = [
        &[
            "link",
            "add",
            "link",
            SERVER_INTERFACE,
            "name",
            "outer",
            "type",
            "vlan",
            "proto",
            "802.1ad",
            "id",
            "7",
        ],
        &["link", "add", "link", "outer", "name", "inner", "type", "vlan", "id", "42"],
        &["link", "set", "outer", "up"],
        &["link", "set", "inner", "up"],
    ];
    for words in COMMANDS {
        let output =
            lab.server().command("ip").args(words).output().context("cannot run `ip`: install iproute2")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "`ip {}` failed: {}: has the kernel VLAN devices (CONFIG_VLAN_8021Q)?",
            words.join(" "),
            said.trim()
        );
    }
    Ok(())
}

/// Starts a server with a candidate's set-up, sends the candidate's packets, and returns the rates.
fn turn(lab: &Lab, genome: &Genome, settings: &Settings, stop: &AtomicBool) -> Result<Sample> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = on_core(lab.server(), SERVER_CORE, "nice");
    command.args(["-n", &settings.nice.to_string()]).arg(own);
    command.args(["worst", "--serve", SERVER_INTERFACE, "--form", &genome.to_string()]);
    let mut server = Server::start("the server", command)?;
    let deadline = Instant::now() + START;
    while !server.said().contains(READY) {
        server.check()?;
        ensure!(Instant::now() < deadline, "the server does not start within {START:?}");
        ensure!(!stop.load(Relaxed), "interrupted");
        thread::sleep(CHECK);
    }
    let packets = packets(genome)?;
    let done = AtomicBool::new(false);
    let sample = lab.client().enter(|| {
        thread::scope(|scope| {
            let sender = scope.spawn(|| send(&packets, &done));
            let sample = watch(&mut server, settings);
            done.store(true, Relaxed);
            sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            sample
        })
    })?;
    server.stop()?;
    Ok(sample)
}

/// Waits until the load is steady, and for the time of the measurement.
fn watch(server: &mut Server, settings: &Settings) -> Result<Sample> {
    let last = |server: &Server| -> Result<(f64, u64, u64)> {
        let said = server.said();
        serve::parse(said.lines().last().unwrap_or_default())
    };
    thread::sleep(RAMP);
    let (before, began, usage) = (last(server)?, Instant::now(), server.usage()?);
    thread::sleep(Duration::from_secs_f64(settings.seconds));
    server.check()?;
    let (after, elapsed, usage) = (last(server)?, began.elapsed(), server.usage()?.since(usage));
    let seconds = after.0 - before.0;
    ensure!(
        seconds > 0.0 && after.1 > before.1,
        "the server receives nothing: does the program steer the packets?"
    );
    let received = (after.1 - before.1) as f64 / seconds;
    Ok(Sample {
        received,
        answered: (after.2 - before.2) as f64 / seconds,
        nanos: usage.ran.as_nanos() as f64 / elapsed.as_secs_f64() / received,
    })
}

/// Returns the packets of a candidate, and those of another client if the set-up has one over its limit.
fn packets(genome: &Genome) -> Result<Vec<Vec<u8>>> {
    let has_other = matches!(genome.site.limit, Limit::OtherOver | Limit::TermsOtherOver);
    let packet = |number: usize| {
        if has_other && number % OTHER_SHARE == OTHER_SHARE - 1 {
            let ip = genome.form(number).ip;
            return Form { ip, ..Form::default() }.packet_of(&Client::OTHER, number, NOW);
        }
        genome.form(number).packet(number, NOW)
    };
    (0..PACKETS).map(packet).collect()
}

/// Sends packets until `done`.
fn send(packets: &[Vec<u8>], done: &AtomicBool) -> Result<()> {
    pin(&[GENERATOR_CORE], 0)?;
    let mut port = XskPort::open(&XskConfig::new(CLIENT_INTERFACE, 0))?;
    let mut next = packets.iter().cycle();
    while !done.load(Relaxed) {
        for _ in 0..TRAIN / BURST {
            for packet in next.by_ref().take(BURST) {
                let Some(mut frame) = port.frames().alloc() else { break };
                port.frames().buffer(&mut frame)[..packet.len()].copy_from_slice(packet);
                frame.set_len(packet.len());
                port.send(frame);
            }
            port.flush();
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

impl Row {
    fn of(name: &str, samples: &[Sample]) -> Option<Self> {
        let of = |figure: fn(&Sample) -> f64| Summary::of(samples.iter().map(figure));
        Some(Row {
            name: name.into(),
            received: of(|sample| sample.received)?,
            answered: of(|sample| sample.answered)?,
            nanos: of(|sample| sample.nanos)?,
        })
    }
}

/// Table of all candidates; the first is the one that the others are compared with.
struct Table<'a>(&'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| packets | taken/s | answers/s | CPU a packet, ns | min-max | a CPU second | to plain |"
        )?;
        writeln!(f, "|---|---:|---:|---:|---:|---:|---:|")?;
        for row in self.0 {
            let Row { name, received, answered, nanos } = row;
            let plain = self.0.first().unwrap_or(row);
            writeln!(
                f,
                "| {name} | {} | {} | {:.0} | {:.0}-{:.0} | {} | {:.2} |",
                group(received.median as u64),
                group(answered.median as u64),
                nanos.median,
                nanos.min,
                nanos.max,
                group((1e9 / nanos.median) as u64),
                plain.nanos.median / nanos.median,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_compared_with_those_of_plain_hits() {
        let sample = |received, nanos| Sample { received, answered: received, nanos };
        let rows = [
            Row::of("plain hit", &[sample(1e6, 900.0), sample(1e6, 1_000.0), sample(1e6, 1_100.0)]),
            Row::of("worst-hit", &[sample(6e5, 2_000.0)]),
        ];
        let rows = rows.map(Option::unwrap);
        let text = Table(&rows).to_string();
        let worst = text.lines().last().unwrap();
        assert!(worst.contains("| 500,000 | 0.50 |"), "{worst}");
        assert!(Row::of("none", &[]).is_none());
    }

    #[test]
    fn packets_of_a_client_over_its_limit_are_among_the_others() {
        let count = |text: &str| {
            let genome: Genome = text.parse().unwrap();
            let packets = packets(&genome).unwrap();
            assert_eq!(packets.len(), PACKETS);
            packets.iter().filter(|packet| packet[26..30] == [10, 53, 64, 1]).count()
        };
        assert_eq!(count(r#"{"packets":[{}]}"#), 0);
        assert_eq!(count(r#"{"packets":[{}],"site":{"limit":"other-over"}}"#), PACKETS / OTHER_SHARE);
    }
}
