//! Tests that a running worker neither allocates nor frees: hits, stale and negative answers,
//! rejects, misses and their return, with the query log and without.

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata},
};
use ringdns_dataplane::{
    cache::{BYTES_MIN, Cache, KeyedHash},
    checksum::Checksums,
    clock::Clock,
    dns::{
        answer::{Answer, TtlRules},
        query::Query,
        rcode,
    },
    doorbell::Doorbell,
    frame::{Frame, Frames},
    log::{Line, LogConfig, Sieve},
    mirror::{Directions, MirrorConfig, MirrorLine},
    packet,
    port::sim::SimPort,
    process::{AnswerConfig, Processor},
    punt::Link,
    stats::{Counter, DropReason, StatsSnapshot, WorkerStats},
    worker::{Worker, WorkerConfig},
};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// The system's allocator, with calls counted per thread.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // An ending thread frees memory after its counter is gone.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: all calls are passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns the number of times that `run` allocates, grows or frees.
fn calls(run: impl FnOnce()) -> u64 {
    let before = CALLS.get();
    run();
    CALLS.get() - before
}

const RULES: AnswerConfig = AnswerConfig { udp_limit: 1232, stale_ttl: 30, stale_at_once: true };
const TTLS: TtlRules = TtlRules { min: 0, max: 86_400, negative_max: 3_600, stale: 86_400, ahead: 0 };

fn query(name: &str, edns: bool) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Question::query(Name::from_ascii(name).unwrap(), RecordType::A));
    if edns {
        message.set_edns(Edns::new());
    }
    message
}

/// Returns a query for `name` and its answer, received at second 0: addresses, or NXDOMAIN.
fn answer(name: &str, addresses: u8, ttl: u32) -> (Query, Answer) {
    let mut asked = Query::default();
    asked.parse(&query(name, false).to_vec().unwrap()).unwrap();
    let mut response = query(name, false);
    response.metadata.message_type = MessageType::Response;
    for last in 0..addresses {
        let data = RData::A(rdata::A(Ipv4Addr::new(192, 0, 2, last)));
        response.add_answer(Record::from_rdata(Name::from_ascii(name).unwrap(), ttl, data));
    }
    if addresses == 0 {
        response.metadata.response_code = ResponseCode::NXDomain;
        let zone = || Name::from_ascii("example.").unwrap();
        let soa = RData::SOA(rdata::SOA::new(zone(), zone(), 1, 2, 3, 4, ttl));
        response.add_authority(Record::from_rdata(zone(), ttl, soa));
    }
    let wire = response.to_vec().unwrap();
    let answer = Answer::from_response(&wire, &asked.key, &TTLS, 0, false).unwrap();
    (asked, answer)
}

/// Returns the content of the cache.
fn known() -> Vec<(Query, Answer)> {
    vec![
        answer("fresh.example.", 1, 80_000),
        answer("many.example.", 90, 80_000),
        answer("stale.example.", 2, 10),
        answer("nothing.example.", 0, 3_000),
    ]
}

fn fill(processor: &mut Processor) {
    for (query, answer) in known() {
        processor.cache().insert(&query.key, &answer, 0);
    }
}

fn packet(v6: bool, message: &[u8]) -> Vec<u8> {
    let (client, server): (&str, &str) =
        if v6 { ("[2001:db8::1]:999", "[2001:db8::2]:53") } else { ("192.0.2.1:999", "192.0.2.2:53") };
    let (client, server): (SocketAddr, SocketAddr) = (client.parse().unwrap(), server.parse().unwrap());
    let at = if v6 { 62 } else { 42 };
    let mut frame = vec![0; at + message.len()];
    frame[at..].copy_from_slice(message);
    packet::address(&mut frame, client, server, message.len(), Checksums::Verify).unwrap();
    frame
}

/// Returns a packet of every kind.
fn packets() -> Vec<Vec<u8>> {
    let names = ["fresh.example.", "FRESH.example.", "many.example.", "stale.example.", "nothing.example."];
    let misses = ["missing.example.", "x.missing.example."];
    let mut packets = Vec::new();
    for v6 in [false, true] {
        for name in names.iter().chain(&misses) {
            for edns in [false, true] {
                packets.push(packet(v6, &query(name, edns).to_vec().unwrap()));
            }
        }
        let good = query("fresh.example.", true).to_vec().unwrap();
        let broken = |at: usize, byte: u8| {
            let mut message = good.clone();
            message[at] = byte;
            packet(v6, &message)
        };
        packets.extend([
            broken(2, 0x80),                // a response
            broken(2, 0x28),                // an update
            broken(5, 2),                   // two questions
            broken(12, 64),                 // no label
            broken(good.len() - 12, 3),     // class CH
            broken(good.len() - 5, 1),      // EDNS version 1
            packet(v6, &good[..11]),        // no header
            packet(v6, &good)[..50].into(), // cut
        ]);
        let mut wrong = packet(v6, &good);
        *wrong.last_mut().unwrap() ^= 1;
        packets.push(wrong);
    }
    packets
}

#[test]
fn bursts_are_answered_without_allocating() {
    let cache = Cache::new(BYTES_MIN, RULES.udp_limit, KeyedHash::with_seeds([1, 2, 3, 4])).unwrap();
    let mut processor = Processor::new(cache, RULES, Arc::default());
    fill(&mut processor);
    let packets = packets();
    let mut frames = Frames::new(64, 256).unwrap();
    let mut burst: Vec<Frame> = packets.iter().map(|_| frames.alloc().unwrap()).collect();
    let stats = WorkerStats::default();
    for second in 20..120 {
        for (frame, packet) in burst.iter_mut().zip(&packets) {
            frames.buffer(frame)[..packet.len()].copy_from_slice(packet);
            frame.set_len(packet.len());
        }
        let calls = calls(|| {
            processor.run(second, Checksums::Verify, &mut frames, &mut burst, &stats);
        });
        assert_eq!(calls, 0, "second {second}");
    }
    let stats = stats.snapshot();
    for counter in [Counter::Hit, Counter::Stale, Counter::Negative, Counter::Truncated] {
        assert!(stats.get(counter) > 0, "no {counter:?}");
    }
    for counter in [Counter::FormErr, Counter::NotImp, Counter::Refused, Counter::BadVers] {
        assert!(stats.get(counter) > 0, "no {counter:?}");
    }
    for reason in [DropReason::BadChecksum, DropReason::BadLength, DropReason::Response] {
        assert!(stats.dropped(reason) > 0, "no {reason:?}");
    }
    burst.into_iter().for_each(|frame| frames.release(frame));
}

#[test]
fn turns_are_made_without_allocating_and_so_are_misses() {
    turns(None);
}

#[test]
fn what_is_logged_is_so_without_allocating() {
    let line = Arc::new(Line::new(2));
    let excluded = (["192.0.2.128/25".parse().unwrap()], [b"\x01x\x07missing\x07example\0".to_vec()]);
    let sieve = Arc::new(Sieve::new(1, &excluded.0, &excluded.1).unwrap());
    let logged = turns(Some(LogConfig { line, sieve, seed: 1 }));
    let counts = [Counter::LogRecorded, Counter::LogExcluded, Counter::LogNoBatch].map(|c| logged.get(c));
    // Nearly all queries of 300 bursts are answered.
    assert!(counts[0] > 10_000 && counts[1] > 1000, "{counts:?}");
    assert!(counts[2] > 0 && counts[2] < counts[0], "of two batches, none is left now and then: {counts:?}");
}

#[test]
fn a_capture_costs_its_worker_no_allocation_from_its_begin_to_its_end() {
    let (control, generations) = (Arc::new(Doorbell::new().unwrap()), Arc::default());
    let link = Arc::new(Link::new(0, 64, 64, control, generations).unwrap());
    let settings = WorkerConfig {
        cache_bytes: BYTES_MIN,
        rules: RULES,
        policy: Arc::default(),
        records: 64,
        spin: Duration::ZERO,
        log: None,
        demand: None,
        mirror: None,
        populator: None,
    };
    let port = SimPort::replay(&packets()).unwrap();
    let mut worker = Worker::new(port, link.clone(), Clock::start(), &settings).unwrap();
    fill(worker.processor());
    let line = Arc::new(MirrorLine::new(2));
    let mut run = |seconds: std::ops::Range<u64>| {
        for second in seconds {
            let calls = calls(|| {
                let now = second * 1_000_000_000;
                let turn = worker.turn(now);
                worker.keep_house(now, turn);
            });
            assert_eq!(calls, 0, "second {second}");
        }
    };
    run(20..30);
    let directions = Directions { queries: true, replies: true };
    let setup = MirrorConfig { line: line.clone(), sieve: Arc::new(Sieve::open()), directions, seed: 1 };
    link.capture.begin(setup, 0);
    run(30..60);
    assert!(!link.capture.end() && !link.capture.is_over());
    run(60..61);
    assert!(link.capture.is_over());
    let offered = line.offered();
    assert!(offered > 1000, "{offered}");
    run(61..70);
    assert_eq!((line.offered(), Arc::strong_count(&line)), (offered, 1));
}

/// Runs three hundred turns, which do not allocate. The log is collected every fifty turns.
fn turns(log: Option<LogConfig>) -> StatsSnapshot {
    const RECORDS: usize = 256;
    let line = log.as_ref().map(|log| log.line.clone());
    let (control, generations) = (Arc::new(Doorbell::new().unwrap()), Arc::default());
    let link = Arc::new(Link::new(0, RECORDS, RECORDS, control, generations).unwrap());
    let settings = WorkerConfig {
        cache_bytes: BYTES_MIN,
        rules: RULES,
        policy: Arc::default(),
        records: RECORDS,
        spin: Duration::ZERO,
        log,
        demand: None,
        mirror: None,
        populator: None,
    };
    let port = SimPort::replay(&packets()).unwrap();
    let mut worker = Worker::new(port, link.clone(), Clock::start(), &settings).unwrap();
    fill(worker.processor());
    // One answer is never cached, so its question is asked again each time; the other is cached,
    // and expires.
    let failed = Arc::new(Answer::error(rcode::SERVFAIL, None, 0, 0));
    let (later, found) = answer("x.missing.example.", 3, 2);
    for turn in 0..300u64 {
        let now = (20 + turn) * 1_000_000_000;
        let calls = calls(|| {
            worker.turn(now);
        });
        assert_eq!(calls, 0, "turn {turn}");
        while turn % 50 == 0
            && let Some(line) = &line
            && let Some(batch) = line.collect()
        {
            line.give_back(batch);
        }
        let found = Arc::new(Answer { received: 20 + turn as u32, stale: 0, ..found.clone() });
        while let Some(mut record) = link.take() {
            record.answer = Some(if record.query.key == later.key { found.clone() } else { failed.clone() });
            // `take` drops the answer of an earlier turn, on the control plane's side.
            link.give_back(record);
        }
    }
    let stats = link.stats.snapshot();
    for counter in [Counter::Hit, Counter::Stale, Counter::Punted, Counter::PuntAnswered] {
        assert!(stats.get(counter) > 100, "{counter:?}: {}", stats.get(counter));
    }
    // Once in 30 seconds.
    assert_eq!(stats.get(Counter::RefreshDone), 10);
    assert!(worker.processor().cache().churn().inserted > 50);
    stats
}
