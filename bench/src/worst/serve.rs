//! Worker with a candidate's set-up and answers on an AF_XDP socket: the data plane of an appliance, without
//! a control plane.

use super::{
    genome::Genome,
    scene::{BLOCKED, NOW, received},
    site::{Limit, Verification},
};
use crate::{stage, stop};
use anyhow::{Context, Result, bail, ensure};
use ringdns_dataplane::{
    clock::{Clock, Nanos},
    doorbell::Doorbell,
    log::{Line, LogConfig},
    port::xsk::{XskConfig, XskPort},
    punt::Link,
    stats::Counter,
    worker::{LoopTurn, Worker, WorkerConfig},
};
use ringdns_testkit::{DNS_V4, DNS_V6};
use ringdns_xdp::{AttachMode, SteerConfig, Steering};
use std::{
    sync::{Arc, LazyLock, atomic::Ordering::Relaxed, mpsc},
    thread,
    time::{Duration, Instant},
};

/// Number of different packets, each with an answer in the cache.
pub const PACKETS: usize = 512;
/// Size of the cache, in bytes.
const CACHE: usize = 16 << 20;
/// Questions that may wait for the control plane, which has no answers here.
const RECORDS: usize = 1_024;
/// Time between two turns of the control plane's part.
const TURN: Duration = Duration::from_millis(20);
/// Turns between two lines of progress.
const TURNS: u32 = 5;
/// Pause of the worker when no packet waits.
const PAUSE: Duration = Duration::from_millis(1);
/// VLANs of the packets.
const VLANS: &[u16] = &[42];
/// Line that tells that packets are answered from now on.
pub const READY: &str = "serving";

/// Returns the time of the worker's clock: it begins when stale answers have expired and others have not.
fn nanos() -> Nanos {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    Nanos::from(NOW) * 1_000_000_000 + BEGAN.elapsed().as_nanos() as Nanos
}

/// Serves the packets of a candidate on an interface until a signal comes. Prints the numbers of packets
/// received and answered so far ten times a second.
pub fn run(interface: &str, genome: &Genome) -> Result<()> {
    let stop = stop::on_signal()?;
    let control = Arc::new(Doorbell::new().context("cannot make an eventfd")?);
    let link = Arc::new(Link::new(0, RECORDS, RECORDS, control, Arc::default())?);
    let line = Arc::new(Line::new(64));
    let listen = [DNS_V4, DNS_V6];
    let config =
        SteerConfig { interface, listen: &listen, vlans: VLANS, prefixes: &[], mode: AttachMode::Auto };
    let mut steering = Steering::load(&config)?;
    thread::scope(|scope| {
        let (sender, sockets) = mpsc::channel();
        let (shared, log) = (link.clone(), line.clone());
        let worker = scope.spawn(move || {
            let mut worker = worker(interface, genome, &shared, log)?;
            let socket = worker.port().fd().try_clone_to_owned().context("cannot duplicate a socket")?;
            // Nobody listens any more if the program failed.
            let _ = sender.send(socket);
            work(&mut worker, &shared);
            Ok(())
        });
        let served = (|| {
            // A worker that failed has dropped its sender, and returns its error below.
            let Ok(socket) = sockets.recv() else { return Ok(()) };
            steering.add_socket(0, std::os::fd::AsFd::as_fd(&socket))?;
            steering.attach()?;
            println!("{READY}");
            let began = Instant::now();
            for turn in 0u32.. {
                if stop.load(Relaxed) || worker.is_finished() {
                    break;
                }
                thread::sleep(TURN);
                serve_link(&link, &line);
                if turn.is_multiple_of(TURNS) {
                    let (received, answered) = counts(&link);
                    println!(
                        "at {:.6} received {received} answered {answered}",
                        began.elapsed().as_secs_f64()
                    );
                }
            }
            Ok(())
        })();
        steering.detach();
        link.request_stop();
        let ended = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        served.and(ended)
    })
}

/// Returns a worker on the interface, with the candidate's answers in its cache.
fn worker(interface: &str, genome: &Genome, link: &Arc<Link>, line: Arc<Line>) -> Result<Worker<XskPort>> {
    ensure!(
        genome.site.checksums != Verification::Unused,
        "packets with \"checksums\":\"unused\" come from kernel sockets, and not over AF_XDP"
    );
    ensure!(
        genome.site.limit != Limit::OtherOver,
        "with \"limit\":\"other-over\", the sender would be over its limit too, since all packets are from one \
         address: give \"terms-other-over\""
    );
    let trust_checksums = genome.site.checksums == Verification::Trust;
    let port = XskPort::open(&XskConfig { trust_checksums, ..XskConfig::new(interface, 0) })?;
    let sieve = genome.site.log.sieve()?;
    let log = sieve.map(|sieve| LogConfig { line, sieve: Arc::new(sieve), seed: 1 });
    let config = WorkerConfig {
        cache_bytes: CACHE,
        rules: stage::RULES,
        policy: Arc::new(genome.site.policy()?),
        records: RECORDS,
        spin: Duration::ZERO,
        log,
        demand: None,
        mirror: None,
        populator: None,
    };
    let mut worker = Worker::new(port, link.clone(), Clock::simulated(nanos), &config)?;
    let scope = genome.site.scope()?;
    for number in 0..PACKETS {
        let form = genome.form(number);
        let Some((query, mut answer)) = form.answered(number, received(form))? else { continue };
        answer.ede = scope.list.map(|_| BLOCKED);
        worker.processor().cache().insert_for(&scope, &query.key, &answer, NOW);
    }
    Ok(worker)
}

/// Runs the worker until it is to end. After each idle turn it pauses, so that packets come in full bursts, as
/// they do where a worker is the bound: small ones cost more, and the sender would decide how small.
fn work(worker: &mut Worker<XskPort>, link: &Link) {
    while !link.is_interrupted() {
        let now = nanos();
        let turn = worker.turn(now);
        worker.keep_house(now, turn);
        if turn == LoopTurn::Idle {
            thread::sleep(PAUSE);
        }
    }
}

/// Does the control plane's part: returns questions without an answer, and the log's batches.
fn serve_link(link: &Link, line: &Line) {
    let mut was_asked = false;
    while let Some(record) = link.take() {
        link.give_back(record);
        was_asked = true;
    }
    if was_asked {
        link.wake_worker();
    }
    while let Some(batch) = line.collect() {
        line.give_back(batch);
    }
}

/// Returns the numbers of packets received, and of replies.
fn counts(link: &Link) -> (u64, u64) {
    let counters = link.stats.snapshot();
    let silent = counters.dropped_total() + counters.get(Counter::Punted);
    let received = counters.get(Counter::Received);
    (received, received.saturating_sub(silent))
}

/// Returns the time, and the numbers of packets received and answered, that a line of progress tells.
pub fn parse(line: &str) -> Result<(f64, u64, u64)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let ["at", at, "received", received, "answered", answered] = words[..] else {
        bail!("{line:?} is no line of progress");
    };
    Ok((at.parse()?, received.parse()?, answered.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read() {
        assert_eq!(parse("at 1.250000 received 70 answered 64").unwrap(), (1.25, 70, 64));
        assert!(parse("serving").is_err() && parse("at 1 received x answered 2").is_err());
    }

    #[test]
    fn the_clock_begins_where_answers_are_as_they_shall_be() {
        let first = nanos();
        assert!(first >= Nanos::from(NOW) * 1_000_000_000 && nanos() >= first);
    }
}
