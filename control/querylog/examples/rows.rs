//! Rows per second that the query log takes from a worker to ClickHouse, and the CPU time per row
//! of each thread.
//!
//! ```text
//! cargo build --release --package ringdns-querylog --example rows
//! target/release/examples/rows 10                            # a sink that accepts everything
//! target/release/examples/rows 10 700000                     # at 700,000 answers per second
//! target/release/examples/rows 10 0 http://127.0.0.1:8123    # a server; no password for `default`
//! ```
//!
//! A worker's recorder gets answers in bursts of 64, for 100,000 names in turn. Collector and
//! writer are those of the daemon, each on a thread. As in a worker, the recorder drops and counts
//! records that find no room. CPU time is given per row written. It includes the kernel's share,
//! but not that of the sink or the server.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use ringdns_common::names;
use ringdns_config::Config;
use ringdns_dataplane::{
    checksum::Checksums,
    clock::Clock,
    dns::{header, key::Key, query::Query},
    log::{AnswerSource, Outcome, Protocol, Tier},
    packet::Envelope,
    process::Recorder,
    stats::{Counter, WorkerStats},
};
use ringdns_querylog::{CHANNEL, Collector, LogLabels, QueryLog, writer::Writer};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const NAMES: usize = 100_000;
const BURST: usize = 64;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let seconds: u64 = arguments.next().map_or(Ok(5), |text| text.parse()).context("give seconds")?;
    let rate: u64 = arguments.next().map_or(Ok(0), |text| text.parse()).context("give answers a second")?;
    let url = match arguments.next() {
        Some(url) => url,
        None => format!("http://{}", sink()?),
    };
    let spool = tempfile::Builder::new().prefix("ringdns-rows-").tempdir()?;
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"192.0.2.1\"\n[query_log]\nenabled = true\n\
         spool_dir = {:?}\nappliance = \"box-1\"\n[clickhouse]\nurl = \"{url}\"\n",
        spool.path()
    );
    let config = Config::parse(&text, Path::new("")).map_err(|error| anyhow::anyhow!("{error}"))?;
    let clock = Clock::start();
    let log = QueryLog::new(&config, clock, LogLabels::default()).ok().flatten().context("no log")?;
    let setup = log.setup();
    let lines = vec![setup.line.clone()];
    let (sender, receiver) = tokio::sync::mpsc::channel(CHANNEL);
    let shipping = config.shipping.context("nothing is shipped")?;
    let writer = Writer::start(shipping, receiver, Vec::new(), log.ledger.clone())?;
    let collector = Collector::new(log.clone(), lines, Some(sender));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("collector")
        .enable_all()
        .build()?;
    let collecting = runtime.spawn(collector.clone().run());

    let stats = Arc::new(WorkerStats::default());
    let (counts, recorder) = (stats.clone(), Recorder::new(setup, Protocol::Udp));
    let end = Instant::now() + Duration::from_secs(seconds);
    let (began, began_at) = (Instant::now(), clock);
    let over = Arc::new(AtomicBool::new(false));
    let told = over.clone();
    let worker = thread::Builder::new()
        .name("worker".into())
        .spawn(move || work(recorder, &counts, rate, &told, &began_at))?;
    thread::sleep(end.saturating_duration_since(Instant::now()));
    let times = [("worker", "worker"), ("collector", "collector"), ("writer", "query-log")];
    let times = times.map(|(what, thread)| (what, processor_time(thread)));
    let (sums, took) = (log.ledger.sums(), began.elapsed());
    over.store(true, Ordering::Relaxed);
    worker.join().ok().context("the worker panicked")??;
    runtime.block_on(collector.finish());
    collecting.abort();
    writer.finish();

    let count = stats.snapshot();
    let (recorded, lost) = (count.get(Counter::LogRecorded), count.get(Counter::LogNoBatch));
    let per_second = |count: u64| count as f64 / took.as_secs_f64() / 1000.0;
    println!(
        "{recorded} answers, {:.0} k per second; dropped {:.2} %; {:.0} k rows a second stored, {:.0} k written",
        per_second(recorded),
        100.0 * lost as f64 / recorded as f64,
        per_second(sums.stored),
        per_second(sums.taken),
    );
    for (what, nanos) in times {
        println!("{what}: {:.0} ns a row written", nanos? as f64 / sums.taken.max(1) as f64);
    }
    let end = log.ledger.sums();
    let late = log.counters.writer_full.get();
    println!("at the end: {end:?}");
    println!("dropped before the writer: {late}");
    ensure!(end.unaccounted() == 0 && end.taken + late + lost == recorded, "sums do not close");
    Ok(())
}

/// Records answers like a worker.
fn work(
    mut recorder: Recorder,
    stats: &WorkerStats,
    rate: u64,
    over: &AtomicBool,
    clock: &Clock,
) -> Result<()> {
    let keys = (0..NAMES).map(key).collect::<Result<Vec<_>>>()?;
    let frame = frame(&names::query_message(&names::name("www.example")?, [1, 1], 0, header::RD, None));
    let (envelope, _) = Envelope::open(&frame, Checksums::Trust).ok().context("no frame")?;
    let (began, mut turns) = (Instant::now(), 0u64);
    let source = AnswerSource::of(Tier::Core);
    while !over.load(Ordering::Relaxed) {
        let now = clock.nanos();
        for i in 0..BURST {
            let key = &keys[(turns as usize * BURST + i) * 7919 % NAMES];
            recorder.note_returned(now, &frame, envelope, key, (source, Outcome::Hit));
        }
        recorder.settle(clock.nanos(), stats);
        recorder.keep(clock.nanos());
        turns += 1;
        if rate > 0 {
            let due = began + Duration::from_secs_f64((turns * BURST as u64) as f64 / rate as f64);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    recorder.hand_on();
    Ok(())
}

fn key(number: usize) -> Result<Key> {
    let name = format!("www{}.example-{}.com", number % 97, number);
    let message = names::query_message(&names::name(&name)?, [1, 1], 0, header::RD, None);
    let mut query = Query::default();
    query.parse(&message).map_err(|reject| anyhow::anyhow!("{reject:?}"))?;
    Ok(query.key)
}

/// Returns a message to 10.1.2.3, over Ethernet, IPv4 and UDP.
fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 1, 2, 3], 64)
        .udp(53, 4000);
    // Writing to memory cannot fail.
    let _ = builder.write(&mut frame, message);
    frame
}

/// Starts a server that accepts everything and stores nothing.
fn sink() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("sink".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that disconnected needs no answer.
            let _ = take(stream);
        }
    })?;
    Ok(address)
}

fn take(stream: TcpStream) -> Result<()> {
    let mut reader = BufReader::new(&stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let answer = if body.starts_with(b"SELECT version()") { "26.9.1\n" } else { "" };
    write!(&stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len())?;
    Ok(())
}

/// Returns the CPU time of a thread of this process, in nanoseconds, by its name.
fn processor_time(name: &str) -> Result<u64> {
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.trim() == name {
            let figures = fs::read_to_string(task.join("schedstat"))?;
            return Ok(figures.split_whitespace().next().context("empty")?.parse()?);
        }
    }
    anyhow::bail!("no thread {name}")
}
