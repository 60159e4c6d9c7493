//! Tests: ends of captures whose worker or reader does not keep to its time, which is simulated.

use super::{LONG, packet, packets, read, request, settings};
use crate::{
    CaptureCounters, Captures, Filter, Request,
    chunk::Chunk,
    session::{Ending, ORDER_TIME, REST_TIME, Session},
};
use ringdns_dataplane::{
    clock::Clock,
    doorbell::Doorbell,
    log::Sieve,
    port::sim::{SimConfig, SimLink, SimPort},
    punt::Link,
    worker::{LoopTurn, Worker},
};
use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use tokio::{
    join,
    runtime::Builder,
    sync::{Notify, OwnedSemaphorePermit, mpsc},
    time::{Instant, sleep, timeout},
};

/// Chunks that the reader may be behind.
const CHUNKS: usize = 8;

thread_local! {
    /// Whether workers panic when they look at their clock, as they do at the end of a turn.
    static PANICS: Cell<bool> = const { Cell::new(false) };
}

/// Worker without a thread, which does only what a test tells it to.
struct Puppet {
    worker: Worker<SimPort>,
    wire: SimLink,
    link: Arc<Link>,
    second: u64,
}

impl Puppet {
    fn new() -> Self {
        let (control, generations) = (Arc::new(Doorbell::new().unwrap()), Arc::default());
        let link = Arc::new(Link::new(0, 64, 64, control, generations).unwrap());
        let (port, wire) = SimPort::pair(&SimConfig::default()).unwrap();
        let clock = Clock::simulated(|| if PANICS.get() { panic!("the clock is broken") } else { 0 });
        let worker = Worker::new(port, link.clone(), clock, &settings()).unwrap();
        Puppet { worker, wire, link, second: 1 }
    }

    /// Lets a second pass: the worker follows orders, and hands on its page.
    fn pass_second(&mut self) {
        self.second += 1;
        self.worker.keep_house(self.second * 1_000_000_000, LoopTurn::Idle);
    }

    /// Lets the worker receive packets, and answer those that it can answer by itself.
    fn receive(&mut self, packets: &[Vec<u8>]) {
        for packet in packets {
            assert!(self.wire.inject(packet));
            self.worker.turn(self.second * 1_000_000_000);
        }
    }
}

/// Capture whose session runs beside the test, on the same thread.
struct Stage {
    captures: Captures,
    out: mpsc::Receiver<Chunk>,
    end: Arc<Notify>,
}

impl Stage {
    /// Begins a capture of the packets of a worker.
    fn begin(puppet: &Puppet, request: Request, chunks: usize) -> (Session, OwnedSemaphorePermit, Self) {
        let captures = Captures::default();
        let turn = captures.turn.clone().try_acquire_owned().unwrap();
        let ((sender, out), end) = (mpsc::channel(chunks), Arc::new(Notify::new()));
        let counters = captures.counters.clone();
        let mut session = Session::new(request, Clock::start(), sender, end.clone(), counters);
        session.order(vec![puppet.link.clone()], (Arc::new(Sieve::open()), 0));
        (session, turn, Stage { captures, out, end })
    }

    /// Reads one chunk.
    async fn chunk(&mut self) -> Option<Vec<u8>> {
        Some(self.out.recv().await?.take())
    }

    /// Reads the capture to the end of the file.
    async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        while let Some(blocks) = self.chunk().await {
            rest.extend(blocks);
        }
        rest
    }
}

/// Runs a test in simulated time, of which there is not for ever.
fn run<F: Future>(test: F) -> F::Output {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { timeout(20 * LONG, test).await.unwrap() })
}

/// Checks that the sums close, and returns the counts of offered, written, filtered and unread packets.
fn closed(counters: &CaptureCounters) -> [u64; 4] {
    let CaptureCounters { offered, written, filtered, unread, lost, .. } = counters;
    let counts = [offered, written, filtered, unread].map(|counter| counter.get());
    assert_eq!(counts[0], counts[1..].iter().sum::<u64>() + lost.get(), "{counters:?}");
    counts
}

#[test]
fn what_a_late_worker_has_in_hand_is_counted_once_it_is_back() {
    let mut puppet = Puppet::new();
    let (session, turn, mut stage) = Stage::begin(&puppet, request(Filter::default()), CHUNKS);
    let test = async {
        puppet.pass_second();
        let header = stage.chunk().await.unwrap();
        puppet.receive(&packets());
        stage.end.notify_one();
        let began = Instant::now();
        let file = [header, stage.rest().await].concat();
        assert!((ORDER_TIME..2 * ORDER_TIME).contains(&began.elapsed()));
        // The file has its end, and its sums close without the packets in the worker's hand.
        let (written, counts) = read(&file);
        assert_eq!((written.len(), counts["IfRecv"], counts["OsDrop"]), (0, 0, 0));
        assert!(stage.captures.is_under_way());
        puppet.pass_second();
        let turns = stage.captures.turn.clone();
        drop(turns.acquire().await.unwrap());
        assert_eq!(closed(&stage.captures.counters), [10, 0, 0, 10]);
    };
    run(async { join!(session.run(turn), test) });
}

#[test]
fn queries_that_wait_and_late_replies_are_counted_once() {
    let mut puppet = Puppet::new();
    let mut filter = Filter::default();
    filter.exchanges.rcode = Some(5);
    let (session, turn, mut stage) = Stage::begin(&puppet, request(filter), CHUNKS);
    let miss = [packet("192.0.2.1:4000", b"\x03New\x07example\0", 1)];
    let refused = [packet("192.0.2.1:4000", b"\x02id\x06server\0", 3)];
    let test = async {
        puppet.pass_second();
        stage.chunk().await.unwrap();
        // This query is handed on, and the others are late.
        puppet.receive(&miss);
        puppet.pass_second();
        puppet.receive(&[miss, refused].concat());
        stage.end.notify_one();
        stage.rest().await;
        puppet.pass_second();
        let turns = stage.captures.turn.clone();
        drop(turns.acquire().await.unwrap());
        // Two queries without a reply; a query and its reply.
        assert_eq!(closed(&stage.captures.counters), [4, 0, 2, 2]);
    };
    run(async { join!(session.run(turn), test) });
}

#[test]
fn packets_that_a_reader_does_not_take_are_not_counted_as_written() {
    let mut puppet = Puppet::new();
    let wanted = Request { packets: 20, ..request(Filter::default()) };
    let (session, turn, mut stage) = Stage::begin(&puppet, wanted, CHUNKS);
    let test = async {
        puppet.pass_second();
        let header = stage.chunk().await.unwrap();
        puppet.receive(&packets());
        puppet.pass_second();
        let file = [header, stage.chunk().await.unwrap()].concat();
        assert_eq!(read(&file).0.len(), 10);
        puppet.receive(&packets());
        puppet.pass_second();
        // The capture has all its packets, and is to end.
        while !puppet.link.capture.has_order() {
            sleep(Duration::from_millis(1)).await;
        }
        puppet.pass_second();
        let turns = stage.captures.turn.clone();
        drop(turns.acquire().await.unwrap());
        let Stage { captures, out, .. } = stage;
        assert_eq!(closed(&captures.counters), [10, 10, 0, 0]);
        // The rest is on the way when the reader leaves.
        drop(out);
        assert_eq!(closed(&captures.counters), [20, 10, 0, 10]);
    };
    run(async { join!(session.run(turn), test) });
}

#[test]
fn packets_in_hand_when_the_reader_leaves_are_not_counted_as_written() {
    let mut puppet = Puppet::new();
    // There is room for the header, and none for packets while the reader does not take it.
    let (session, turn, stage) = Stage::begin(&puppet, request(Filter::default()), 2);
    let test = async {
        puppet.pass_second();
        let Stage { captures, out, .. } = stage;
        while out.is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        puppet.receive(&packets());
        puppet.pass_second();
        // The session encodes the packets, and waits for room.
        sleep(Duration::from_secs(1)).await;
        assert_eq!(out.len(), 1);
        drop(out);
        while !puppet.link.capture.has_order() {
            sleep(Duration::from_millis(1)).await;
        }
        puppet.pass_second();
        let turns = captures.turn.clone();
        drop(turns.acquire().await.unwrap());
        assert_eq!(closed(&captures.counters), [10, 0, 0, 10]);
    };
    run(async { join!(session.run(turn), test) });
}

#[test]
fn a_reader_that_trickles_has_one_time_for_the_whole_rest() {
    let mut puppet = Puppet::new();
    let (mut session, _turn, mut stage) = Stage::begin(&puppet, request(Filter::default()), 2);
    puppet.pass_second();
    for _ in 0..4 {
        puppet.receive(&packets());
        puppet.pass_second();
    }
    let reader = async {
        // Less than the time after which a reader counts as stalled.
        let mut chunks = 0;
        loop {
            sleep(REST_TIME * 2 / 3).await;
            if stage.chunk().await.is_none() {
                return chunks;
            }
            chunks += 1;
        }
    };
    let drain = async {
        let began = Instant::now();
        let ending = session.drain(Ending::Asked).await;
        assert_eq!((ending, began.elapsed()), (Ending::Slow, REST_TIME));
        session.count();
        session.close(ending);
        drop(session);
    };
    let (chunks, ()) = run(async { join!(reader, drain) });
    // Those for which there was room at the begin and after two thirds of the time, and the last one.
    assert_eq!(chunks, 3);
    assert_eq!(closed(&stage.captures.counters), [40, 30, 0, 10]);
}

#[test]
fn a_worker_that_has_ended_holds_no_capture_up() {
    let mut puppet = Puppet::new();
    let (session, turn, mut stage) = Stage::begin(&puppet, request(Filter::default()), CHUNKS);
    let test = async {
        puppet.pass_second();
        let header = stage.chunk().await.unwrap();
        puppet.receive(&packets());
        // It panics in a turn: nobody hands on its page and its mirror.
        PANICS.set(true);
        catch_unwind(AssertUnwindSafe(|| puppet.receive(&packets()[..1]))).unwrap_err();
        PANICS.set(false);
        let link = puppet.link.clone();
        drop(puppet);
        stage.end.notify_one();
        let began = Instant::now();
        let file = [header, stage.rest().await].concat();
        assert!(began.elapsed() < ORDER_TIME);
        let (written, counts) = read(&file);
        super::close(&written, &counts);
        assert_eq!((written.len(), counts["IfRecv"]), (10, 10));
        let turns = stage.captures.turn.clone();
        drop(turns.acquire().await.unwrap());
        assert_eq!(closed(&stage.captures.counters), [10, 10, 0, 0]);
        link
    };
    let ((), link) = run(async { join!(session.run(turn), test) });
    // Neither does it hold up the next one, which it does not take part in.
    let puppet = Puppet { link, ..Puppet::new() };
    let (session, turn, mut stage) = Stage::begin(&puppet, request(Filter::default()), CHUNKS);
    let test = async {
        stage.chunk().await.unwrap();
        stage.end.notify_one();
        stage.rest().await;
    };
    run(async { join!(session.run(turn), test) });
}
