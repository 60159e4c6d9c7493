//! Tests of a NOTIFY's way from the wire to the control plane and back.

use ringdns_dataplane::{
    cache::BYTES_MIN,
    clock::{Clock, Nanos},
    doorbell::Doorbell,
    log::{Line, LogConfig, Outcome, Sieve},
    policy::QueryPolicy,
    port::sim::{SimConfig, SimLink, SimPort},
    process::AnswerConfig,
    punt::{Link, Punt, Purpose},
    stats::{Counter, DropReason},
    worker::{LoopTurn, Worker, WorkerConfig},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};

const NOW: Nanos = 20_000_000_000;
const CLIENT: ([u8; 4], u16) = ([192, 0, 2, 1], 1053);
const SERVER: ([u8; 4], u16) = ([192, 0, 2, 53], 53);
/// NOTIFY for the zone `z.`, with bytes of a TSIG record.
const MESSAGE: [u8; 33] = [
    0, 7, 0x24, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, b'z', 0, 0, 6, 0, 1, 0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 3, 1, 2,
    3,
];

struct Scene {
    worker: Worker<SimPort>,
    wire: SimLink,
    link: Arc<Link>,
    line: Arc<Line>,
}

impl Scene {
    fn new() -> Self {
        let (control, generations) = (Arc::new(Doorbell::new().unwrap()), Arc::default());
        let link = Arc::new(Link::new(0, 4, 8, control, generations).unwrap());
        let line = Arc::new(Line::new(4));
        let primaries = [CLIENT.0.into()].into();
        let settings = WorkerConfig {
            cache_bytes: BYTES_MIN,
            rules: AnswerConfig { udp_limit: 1232, stale_ttl: 30, stale_at_once: true },
            policy: Arc::new(QueryPolicy { primaries, ..QueryPolicy::default() }),
            records: 8,
            spin: Duration::ZERO,
            log: Some(LogConfig { line: line.clone(), sieve: Arc::new(Sieve::open()), seed: 1 }),
            demand: None,
            mirror: None,
            populator: None,
        };
        let (port, wire) = SimPort::pair(&SimConfig::default()).unwrap();
        let worker = Worker::new(port, link.clone(), Clock::simulated(|| NOW), &settings).unwrap();
        Scene { worker, wire, link, line }
    }

    /// Has the worker receive the message, and returns the record that the control plane gets.
    fn send(&mut self) -> Box<Punt> {
        assert!(self.wire.inject_datagram(CLIENT.into(), SERVER.into(), &MESSAGE));
        assert_eq!(self.worker.turn(NOW), LoopTurn::Busy);
        self.link.take().expect("a NOTIFY")
    }

    /// Has the control plane return the record. Returns the packets that the worker sends.
    fn give_back(&mut self, record: Box<Punt>) -> Vec<Vec<u8>> {
        self.link.give_back(record);
        assert_eq!(self.worker.turn(NOW), LoopTurn::Busy);
        self.wire.replies()
    }

    /// Returns the counts of messages that were sent on, answered and withheld.
    fn counts(&self) -> [u64; 3] {
        let stats = self.link.stats.snapshot();
        assert_eq!((stats.unaccounted(), stats.punts_waiting()), (0, 0));
        [Counter::Punted, Counter::PuntAnswered, Counter::PuntPaced].map(|counter| stats.get(counter))
    }
}

#[test]
fn the_control_plane_gets_the_whole_message_and_its_reply_is_sent() {
    let mut scene = Scene::new();
    let mut record = scene.send();
    assert!(matches!(record.purpose, Purpose::Notify(_)));
    assert_eq!(record.client(), Some(SocketAddr::from(CLIENT)));
    assert_eq!(record.notify.as_deref(), Some(&MESSAGE[..]));
    let reply = [&[0, 7, 0xa4, 0, 0, 1, 0, 0, 0, 0, 0, 0], &MESSAGE[12..19], b"any signature"].concat();
    record.notify = Some(reply.as_slice().into());
    let replies = scene.give_back(record);
    let [packet] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!(packet[42..], reply);
    assert_eq!((&packet[30..34], &packet[36..38]), (&CLIENT.0[..], &CLIENT.1.to_be_bytes()[..]));
    assert_eq!(scene.counts(), [1, 1, 0]);
    scene.worker.keep_house(NOW + 1_000_000_000, LoopTurn::Idle);
    let batch = scene.line.collect().expect("a record");
    let logged: Vec<_> = batch.iter().map(|logged| (logged.outcome, logged.question.to_vec())).collect();
    assert_eq!(logged, [(Outcome::Rejected, MESSAGE[12..19].to_vec())]);
}

#[test]
fn one_without_a_reply_is_counted() {
    let mut scene = Scene::new();
    let mut record = scene.send();
    record.purpose = Purpose::Withheld(Counter::PuntPaced);
    assert_eq!(scene.give_back(record), Vec::<Vec<u8>>::new());
    assert_eq!(scene.counts(), [1, 0, 1]);
}

/// A control plane that does not look for a while gets few of many messages.
#[test]
fn what_waits_is_bounded() {
    let mut scene = Scene::new();
    for _ in 0..50 {
        assert!(scene.wire.inject_datagram(CLIENT.into(), SERVER.into(), &MESSAGE));
    }
    while scene.worker.turn(NOW) == LoopTurn::Busy {}
    assert_eq!(scene.link.queued(), 4);
    let stats = scene.link.stats.snapshot();
    let dropped = stats.dropped(DropReason::PuntQueueFull) + stats.dropped(DropReason::PuntClientShare);
    assert_eq!((stats.unaccounted(), stats.get(Counter::Punted), dropped), (0, 4, 46));
}
