//! Tests: files of captures against what was on the simulated wire of a worker.

use crate::{Captures, Filter, Request};
use futures_util::{Stream, StreamExt};
use pcap_file::pcapng::{Block, PcapNgReader};
use ringdns_common::filter::ExchangeFilter;
use ringdns_dataplane::{
    cache::BYTES_MIN,
    checksum::Checksums,
    clock::Clock,
    dns::{answer::Answer, rcode},
    doorbell::Doorbell,
    log::Outcome,
    packet,
    port::sim::{SimConfig, SimLink, SimPort},
    process::AnswerConfig,
    punt::Link,
    stats::Counter,
    worker::{Worker, WorkerConfig},
};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

mod ends;

const LONG: Duration = Duration::from_secs(60);

/// Worker on a simulated wire, with a control plane that knows no answer.
struct Scene {
    link: Arc<Link>,
    wire: SimLink,
    captures: Captures,
    clock: Clock,
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Scene {
    fn new() -> Self {
        let (control, generations) = (Arc::new(Doorbell::new().unwrap()), Arc::default());
        let link = Arc::new(Link::new(0, 64, 64, control, generations).unwrap());
        let clock = Clock::start();
        let (port, wire) = SimPort::pair(&SimConfig::default()).unwrap();
        let mut worker = Worker::new(port, link.clone(), clock, &settings()).unwrap();
        let (ends, control) = (Arc::new(AtomicBool::new(false)), link.clone());
        let stop = ends.clone();
        let threads = vec![
            thread::spawn(move || worker.run().unwrap()),
            thread::spawn(move || {
                while !stop.load(Relaxed) {
                    while let Some(mut record) = control.take() {
                        record.answer = Some(Arc::new(Answer::error(rcode::SERVFAIL, None, 0, 0)));
                        control.give_back(record);
                        control.wake_worker();
                    }
                    thread::sleep(Duration::from_millis(1));
                }
            }),
        ];
        Scene { link, wire, captures: Captures::default(), clock, ends, threads }
    }

    /// Begins a capture and waits until the worker copies packets.
    fn begin(&self, request: Request) -> Running {
        let links = std::slice::from_ref(&self.link);
        let mut stream = Box::pin(self.captures.begin(links, self.clock, request).unwrap());
        let header = block_on(stream.next()).unwrap().unwrap();
        Running { header, stream }
    }

    /// Sends packets, and returns the replies.
    fn ask(&self, packets: &[Vec<u8>], replies: usize) -> Vec<Vec<u8>> {
        packets.iter().for_each(|packet| assert!(self.wire.inject(packet)));
        let mut all = Vec::new();
        until(|| {
            all.extend(self.wire.replies());
            all.len() >= replies && self.link.stats.snapshot().get(Counter::Received) > 0
        });
        all
    }
}

/// Capture that is read.
struct Running {
    header: Vec<u8>,
    stream: Pin<Box<dyn Stream<Item = Result<Vec<u8>, Infallible>> + Send>>,
}

impl Running {
    /// Reads the capture to its end, and returns the file.
    fn rest(self) -> Vec<u8> {
        let rest: Vec<u8> = block_on(self.stream.map(|chunk| chunk.unwrap()).concat());
        [self.header, rest].concat()
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        self.link.request_stop();
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

fn until(mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < LONG, "it takes too long");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Returns settings of a worker that logs nothing.
fn settings() -> WorkerConfig {
    WorkerConfig {
        cache_bytes: BYTES_MIN,
        rules: AnswerConfig { udp_limit: 1232, stale_ttl: 30, stale_at_once: true },
        policy: Arc::default(),
        records: 64,
        spin: Duration::ZERO,
        log: None,
        demand: None,
        mirror: None,
        populator: None,
    }
}

fn request(filter: Filter) -> Request {
    Request { filter, sample: 1, packets: u64::MAX, time: LONG, description: "test".into() }
}

fn packet(client: &str, name: &[u8], class: u8) -> Vec<u8> {
    let message = [&[0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], name, &[0, 1, 0, class]].concat();
    of_message(client, &message)
}

fn of_message(client: &str, message: &[u8]) -> Vec<u8> {
    let client: SocketAddr = client.parse().unwrap();
    let server = if client.is_ipv4() { "192.0.2.53:53" } else { "[2001:db8::53]:53" };
    let at = if client.is_ipv4() { 42 } else { 62 };
    let mut frame = vec![0; at + message.len()];
    frame[at..].copy_from_slice(message);
    packet::address(&mut frame, client, server.parse().unwrap(), message.len(), Checksums::Verify).unwrap();
    frame
}

/// Returns a miss, a refusal, a message that is too short and a wrong checksum of each client; the
/// first two get replies.
fn packets() -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for client in ["192.0.2.1:4000", "[2001:db8::1]:4000"] {
        let mut broken = packet(client, b"\x01a\x04test\0", 1);
        *broken.last_mut().unwrap() ^= 1;
        packets.extend([
            packet(client, b"\x03New\x07example\0", 1),
            packet(client, b"\x02id\x06server\0", 3),
            of_message(client, &[7; 5]),
            broken,
        ]);
    }
    packets
}

/// Packet of a file: its comment, whether it was sent, and its bytes.
type Written = (String, bool, Vec<u8>);

/// Returns the packets of a file, and the counters in its statistics.
fn read(file: &[u8]) -> (Vec<Written>, BTreeMap<String, u64>) {
    let (mut packets, mut counts) = (Vec::new(), BTreeMap::new());
    let mut reader = PcapNgReader::new(file).unwrap();
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::EnhancedPacket(packet) => {
                let options = format!("{:?}", packet.options);
                let comment = options.split('"').nth(1).unwrap().to_owned();
                packets.push((comment, options.contains("Flags(2)"), packet.data.to_vec()));
            }
            Block::InterfaceStatistics(statistics) => {
                for option in format!("{:?}", statistics.options).split("Isb").skip(1) {
                    let (name, value) = option.split_once('(').unwrap();
                    let value = value.split(')').next().unwrap();
                    if let Ok(value) = value.parse() {
                        counts.insert(name.to_owned(), value);
                    }
                }
            }
            _ => {}
        }
    }
    (packets, counts)
}

/// Checks that the counts of a file close.
fn close(packets: &[Written], counts: &BTreeMap<String, u64>) {
    assert_eq!(counts["UsrDeliv"], packets.len() as u64, "{counts:?}");
    assert_eq!(counts["FilterAccept"], counts["UsrDeliv"] + counts["OsDrop"], "{counts:?}");
    assert!(counts["IfRecv"] >= counts["FilterAccept"] + counts["IfDrop"], "{counts:?}");
}

/// Waits until no capture is under way.
fn over(scene: &Scene) {
    until(|| !scene.captures.is_under_way());
}

#[test]
fn a_file_has_the_packets_of_the_wire_in_both_directions_with_their_fates() {
    let scene = Scene::new();
    let capture = scene.begin(request(Filter::default()));
    let (sent, mut replies) = (packets(), scene.ask(&packets(), 4));
    assert!(scene.captures.begin(&[], scene.clock, request(Filter::default())).is_err(), "one at a time");
    assert!(scene.captures.end());
    let (written, counts) = read(&capture.rest());
    close(&written, &counts);
    assert_eq!((counts["IfRecv"], counts["IfDrop"], written.len()), (12, 0, 12));
    let (mut outbound, inbound): (Vec<_>, Vec<_>) = written.into_iter().partition(|(_, sent, _)| *sent);
    assert!(inbound.iter().map(|(.., bytes)| bytes).eq(&sent));
    for ((comment, ..), fate) in inbound.iter().zip(
        [
            "punted",
            "answered outcome=rejected tier=none",
            "dropped reason=short_message",
            "dropped reason=bad_checksum",
        ]
        .into_iter()
        .cycle(),
    ) {
        assert!(comment.ends_with(&format!("fate={fate}")), "{comment}: {fate}");
    }
    for (comment, ..) in &outbound {
        let (exchange, fate) = comment.split_once(' ').unwrap();
        assert!(inbound.iter().any(|(comment, ..)| comment.starts_with(&format!("{exchange} "))));
        assert!(
            ["fate=answered outcome=failure tier=none", "fate=answered outcome=rejected tier=none"]
                .contains(&fate),
            "{comment}"
        );
    }
    outbound.sort_by(|a, b| a.2.cmp(&b.2));
    replies.sort();
    assert!(outbound.iter().map(|(.., bytes)| bytes).eq(&replies));
    over(&scene);
    let counters = &scene.captures.counters;
    assert_eq!((counters.begun.get(), counters.offered.get(), counters.written.get()), (1, 12, 12));
    // Nothing remains with the worker, and another capture may begin.
    assert!(!scene.captures.end());
    drop(scene.begin(request(Filter::default())));
    over(&scene);
}

#[test]
fn filters_leave_packets_out_and_count_them() {
    let scene = Scene::new();
    let open = ExchangeFilter::default;
    let filter = |exchanges| Filter { exchanges, dropped: false };
    let client = |text: &str| filter(ExchangeFilter { client: Some(text.parse().unwrap()), ..open() });
    let suffix = filter(ExchangeFilter { suffix: Some(b"\x07example\0".to_vec()), ..open() });
    let dropped = Filter { dropped: true, ..Filter::default() };
    let failures = filter(ExchangeFilter { outcome: Some(Outcome::Failure), ..open() });
    let refused = ExchangeFilter { rcode: Some(5), ..open() };
    for (filter, written_of, offered) in [
        // Both queries that are answered, their replies, and what is dropped.
        (client("192.0.2.0/24"), 6, 12),
        (client("2001:db8::1"), 6, 12),
        (client("198.51.100.0/24"), 0, 12),
        (suffix, 4, 12),
        // A mirror for drops alone copies no replies.
        (dropped, 4, 8),
        // Queries and replies of the misses, and of the refusals.
        (failures, 4, 12),
        (filter(refused.clone()), 4, 12),
        (filter(ExchangeFilter { rcode: Some(0), ..open() }), 0, 12),
        (filter(ExchangeFilter { qtype: Some(28), ..open() }), 0, 12),
        (filter(ExchangeFilter { client: Some("2001:db8::1".parse().unwrap()), ..refused }), 2, 12),
    ] {
        let shown = format!("{filter:?}");
        let capture = scene.begin(request(filter));
        scene.ask(&packets(), 4);
        assert!(scene.captures.end());
        let (written, counts) = read(&capture.rest());
        close(&written, &counts);
        let counted = (written.len() as u64, counts["IfRecv"], counts["IfDrop"]);
        assert_eq!(counted, (written_of, offered, 0), "{shown}");
        over(&scene);
    }
    let counters = &scene.captures.counters;
    assert_eq!((counters.offered.get(), counters.written.get()), (116, 30));
    assert_eq!((counters.filtered.get(), counters.lost.get(), counters.unread.get()), (86, 0, 0));
}

#[test]
fn a_capture_ends_after_so_many_packets_and_after_its_time() {
    let scene = Scene::new();
    let capture = scene.begin(Request { packets: 5, ..request(Filter::default()) });
    scene.ask(&packets(), 4);
    let (written, counts) = read(&capture.rest());
    close(&written, &counts);
    assert_eq!((written.len(), counts["IfRecv"]), (5, 5 + counts["OsDrop"]));
    over(&scene);
    let began = Instant::now();
    let capture = scene.begin(Request { time: Duration::from_millis(300), ..request(Filter::default()) });
    let file = capture.rest();
    assert!(read(&file).0.is_empty() && began.elapsed() < LONG);
    assert!(String::from_utf8_lossy(&file).contains("the time is over"));
    over(&scene);
}

#[test]
fn a_reader_that_takes_nothing_loses_packets_and_gets_a_whole_file_and_replies_go_on() {
    let scene = Scene::new();
    let capture = scene.begin(request(Filter::default()));
    let burst: Vec<_> = packets().into_iter().cycle().take(64).collect();
    let counters = &scene.captures.counters;
    let mut replies = 0;
    // More than channel and pages hold; the reader takes nothing until the capture has ended.
    let began = Instant::now();
    while scene.captures.is_under_way() {
        replies += scene.ask(&burst, 32).len();
        assert!(began.elapsed() < LONG, "a stalled reader ends its capture");
    }
    assert!(replies > 1000);
    let (written, counts) = read(&capture.rest());
    close(&written, &counts);
    assert!(counts["IfDrop"] > 0 && !written.is_empty(), "{counts:?}");
    let sum = counters.written.get() + counters.filtered.get() + counters.unread.get() + counters.lost.get();
    assert_eq!((counters.offered.get(), counters.written.get()), (sum, written.len() as u64));
}
