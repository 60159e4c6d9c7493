//! Messages a second through one connection, and the effect on a worker's hits: a worker answers
//! replayed queries as fast as it can, and a reader in a thread, or the program in `READER` (such as
//! `fstrm_capture`, with `{}` for the path of the socket), takes the stream.
//!
//! ```sh
//! cargo bench -p ringdns-dnstap
//! READER="fstrm_capture -t protobuf:dnstap.Dnstap -u {} -w /dev/null" cargo bench -p ringdns-dnstap
//! ```

use ringdns_config::{DnstapConfig, DnstapMessage, DnstapTarget};
use ringdns_dataplane::{
    cache::Scope,
    checksum::Checksums,
    clock::Clock,
    dns::{
        answer::{Answer, TtlRules},
        query::Query,
    },
    doorbell::Doorbell,
    packet,
    port::sim::SimPort,
    process::AnswerConfig,
    punt::Link,
    stats::Counter,
    worker::{Worker, WorkerConfig},
};
use ringdns_dnstap::{CONTENT_TYPE, Dnstap, Sender, Sums};
use rustix::time::{ClockId, clock_gettime};
use std::{
    error::Error,
    io::{Read, Write},
    net::SocketAddr,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Child, Command},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// Length of one measurement.
const ROUND: Duration = Duration::from_secs(2);
/// Rounds of each kind, in turns.
const ROUNDS: usize = 5;
/// Names that are asked for.
const NAMES: usize = 1000;

type Anything<T> = Result<T, Box<dyn Error>>;

/// Kind of a round.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// `None`: no dnstap.
    sample: Option<u32>,
    messages: &'static [DnstapMessage],
}

/// Bounds of TTLs.
const RULES: TtlRules = TtlRules { min: 0, max: 86_400, negative_max: 10_800, stale: 86_400, ahead: 0 };
const RESPONSES: &[DnstapMessage] = &[DnstapMessage::ClientResponse];
const BOTH: &[DnstapMessage] = &[DnstapMessage::ClientQuery, DnstapMessage::ClientResponse];
const CASES: [Case; 5] = [
    Case { name: "off", sample: None, messages: RESPONSES },
    Case { name: "1 % of responses", sample: Some(100), messages: RESPONSES },
    Case { name: "1 % of both", sample: Some(100), messages: BOTH },
    Case { name: "all responses", sample: Some(1), messages: RESPONSES },
    Case { name: "both of all", sample: Some(1), messages: BOTH },
];

/// Result of a round, per second.
#[derive(Clone, Copy, Default)]
struct Measured {
    hits: f64,
    /// Hits in a second of CPU time of the worker's thread: other threads share its core.
    hits_of_cpu: f64,
    sent: f64,
    lost: f64,
}

fn main() -> Anything<()> {
    // `cargo test --benches` only has it built.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let mut all = [[Measured::default(); ROUNDS]; CASES.len()];
    for round in 0..ROUNDS {
        for (case, measured) in CASES.iter().zip(&mut all) {
            measured[round] = measure(case)?;
        }
    }
    println!("medians of {ROUNDS} rounds of {ROUND:?} in turns");
    println!("{:>18} {:>12} {:>12} {:>12} {:>12}", "", "hits/s", "hits/CPU s", "messages/s", "lost/s");
    for (case, rounds) in CASES.iter().zip(&all) {
        let columns: [fn(&Measured) -> f64; 4] = [|m| m.hits, |m| m.hits_of_cpu, |m| m.sent, |m| m.lost];
        let [hits, of_cpu, sent, lost] = columns.map(|of| median(rounds, of));
        println!("{:>18} {hits:>12.0} {of_cpu:>12.0} {sent:>12.0} {lost:>12.0}", case.name);
    }
    Ok(())
}

fn median(rounds: &[Measured], of: fn(&Measured) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Reader of the stream.
enum Reader {
    Thread(thread::JoinHandle<()>),
    Program(Child),
}

impl Reader {
    fn start(path: &Path) -> Anything<Self> {
        if let Ok(command) = std::env::var("READER") {
            let command = command.replace("{}", &path.display().to_string());
            let mut words = command.split_whitespace();
            let mut program = Command::new(words.next().ok_or("READER is empty")?);
            return Ok(Reader::Program(program.args(words).spawn()?));
        }
        let listener = UnixListener::bind(path)?;
        Ok(Reader::Thread(thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            read(stream).unwrap();
        })))
    }

    fn stop(self) -> Anything<()> {
        match self {
            Reader::Thread(thread) => thread.join().map_err(|_| "the reader panicked")?,
            Reader::Program(mut child) => {
                child.kill()?;
                child.wait()?;
            }
        }
        Ok(())
    }
}

/// Accepts a stream, and reads it to its end.
fn read(mut stream: UnixStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    stream.read_exact(&mut buffer[..20 + CONTENT_TYPE.len()])?;
    // The frame READY is ACCEPT but for its type.
    buffer[11] = 1;
    stream.write_all(&buffer[..20 + CONTENT_TYPE.len()])?;
    let mut tail = [0; 4];
    loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        if len >= 4 {
            tail.copy_from_slice(&buffer[len - 4..len]);
        }
        // The frame STOP ends so, and no message of this benchmark.
        if tail == [0, 0, 0, 3] {
            stream.write_all(&[0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 5])?;
        }
    }
}

/// Answers queries for a round.
fn measure(case: &Case) -> Anything<Measured> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("s");
    let clock = Clock::start();
    let config = case.sample.map(|sample| DnstapConfig {
        target: DnstapTarget::Unix(path.clone()),
        messages: case.messages.to_vec(),
        sample,
        identity: "bench".into(),
        version: "ringdns".into(),
        bytes_per_worker: 8 << 20,
        timeout: Duration::from_secs(5),
    });
    let reader = config.is_some().then(|| Reader::start(&path)).transpose()?;
    let tap = Dnstap::new(config.as_ref(), clock).map_err(|problem| problem.reason)?;
    let sender = tap.clone().map(|tap| Sender::start(tap, Vec::new())).transpose()?;
    while tap.as_ref().is_some_and(|tap| !tap.is_connected()) {
        thread::sleep(Duration::from_millis(1));
    }
    let sums = || tap.as_ref().map(|tap| tap.sums()).unwrap_or_default();
    let (mut worker, link) = worker(tap.as_deref(), clock)?;
    let hits = || link.stats.snapshot().get(Counter::Hit);
    let (start, before, first): (_, Sums, _) = (Instant::now(), sums(), hits());
    let (mut turns, cpu) = (0u32, cpu_time());
    while !turns.is_multiple_of(64) || start.elapsed() < ROUND {
        let now = clock.nanos();
        let turn = worker.turn(now);
        worker.keep_house(now, turn);
        turns += 1;
    }
    let cpu = cpu_time() - cpu;
    let (seconds, after) = (start.elapsed().as_secs_f64(), sums());
    let lost = |sums: &Sums| sums.losses().iter().map(|(_, lost)| lost).sum::<u64>();
    let measured = Measured {
        hits: (hits() - first) as f64 / seconds,
        hits_of_cpu: (hits() - first) as f64 / cpu.as_secs_f64(),
        sent: (after.sent - before.sent) as f64 / seconds,
        lost: (lost(&after) - lost(&before)) as f64 / seconds,
    };
    if let Some(sender) = sender {
        sender.finish();
    }
    reader.map_or(Ok(()), Reader::stop)?;
    Ok(measured)
}

/// Returns the CPU time of this thread.
fn cpu_time() -> Duration {
    let taken = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(taken.tv_sec as u64, taken.tv_nsec as u32)
}

/// Returns a worker that gets the same queries again and again and knows all answers.
fn worker(
    tap: Option<&Dnstap>,
    clock: Clock,
) -> Anything<(Worker<impl ringdns_dataplane::port::Port>, Arc<Link>)> {
    let (client, server): (SocketAddr, SocketAddr) = ("10.0.0.1:4242".parse()?, "10.0.0.2:53".parse()?);
    let messages: Vec<Vec<u8>> = (0..NAMES).map(query).collect();
    let mut packets = Vec::new();
    for message in &messages {
        let mut frame = vec![0; 42 + message.len()];
        frame[42..].copy_from_slice(message);
        packet::address(&mut frame, client, server, message.len(), Checksums::Verify).ok_or("no frame")?;
        packets.push(frame);
    }
    let bell = Arc::new(Doorbell::new()?);
    let link = Arc::new(Link::new(0, 64, 64, bell, Arc::default())?);
    let settings = WorkerConfig {
        cache_bytes: 4 << 20,
        rules: AnswerConfig { udp_limit: 1232, stale_ttl: 30, stale_at_once: true },
        policy: Arc::default(),
        records: 64,
        spin: Duration::ZERO,
        log: None,
        demand: None,
        mirror: tap.map(Dnstap::setup),
        populator: None,
    };
    let mut worker = Worker::new(SimPort::replay(&packets)?, link.clone(), clock, &settings)?;
    for message in &messages {
        let mut query = Query::default();
        query.parse(message).map_err(|_| "a query of this benchmark is not understood")?;
        let mut response = message.clone();
        (response[2], response[3], response[7]) = (0x81, 0x80, 1);
        response.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0xff, 0, 0, 4, 192, 0, 2, 1]);
        let answer = Answer::from_response(&response, &query.key, &RULES, clock.secs(), false)
            .map_err(|_| "an answer of this benchmark is not understood")?;
        worker.processor().cache().insert_for(&Scope::ALL, &query.key, &answer, clock.secs());
    }
    Ok((worker, link))
}

/// Returns a query for the address of a name.
fn query(number: usize) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [&format!("name{number}"), "zone", "example"] {
        message.push(label.len() as u8);
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}
