//! Tests of a worker whose port is replaced: its knowledge stays, the packets of the old port's
//! wire go, and the sums close.

use ringdns_dataplane::{
    cache::BYTES_MIN,
    clock::{Clock, Nanos},
    dns::{answer::Answer, query::Query, rcode},
    doorbell::Doorbell,
    log::{Line, LogConfig, Protocol, Sieve},
    port::{
        sim::{Faults, SimConfig, SimLink, SimPort},
        udp::UdpPort,
    },
    process::AnswerConfig,
    punt::Link,
    stats::Counter,
    worker::{LoopTurn, Worker, WorkerConfig},
};
use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

const NOW: Nanos = 20_000_000_000;
const CLIENT: ([u8; 4], u16) = ([192, 0, 2, 1], 1053);
const SERVER: ([u8; 4], u16) = ([192, 0, 2, 53], 53);

/// Returns a query for the A record of a name of one letter.
fn query(name: u8) -> [u8; 19] {
    [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, name, 0, 0, 1, 0, 1]
}

struct Scene {
    worker: Worker<SimPort>,
    wire: SimLink,
    link: Arc<Link>,
    line: Arc<Line>,
}

impl Scene {
    /// Creates a worker that knows `h`.
    fn new() -> Self {
        let (control, generations) = (Arc::new(Doorbell::new().unwrap()), Arc::default());
        let link = Arc::new(Link::new(0, 8, 8, control, generations).unwrap());
        let line = Arc::new(Line::new(4));
        let settings = WorkerConfig {
            cache_bytes: BYTES_MIN,
            rules: AnswerConfig { udp_limit: 1232, stale_ttl: 30, stale_at_once: true },
            policy: Arc::default(),
            records: 8,
            spin: Duration::ZERO,
            log: Some(LogConfig { line: line.clone(), sieve: Arc::new(Sieve::open()), seed: 1 }),
            demand: None,
            mirror: None,
            populator: None,
        };
        let (port, wire) = SimPort::pair(&SimConfig::default()).unwrap();
        let mut worker = Worker::new(port, link.clone(), Clock::simulated(|| NOW), &settings).unwrap();
        let mut known = Query::default();
        known.parse(&query(b'h')).unwrap();
        worker.processor().cache().insert(&known.key, &answer(), 20);
        Scene { worker, wire, link, line }
    }

    fn ask(&self, name: u8) {
        assert!(self.wire.inject_datagram(CLIENT.into(), SERVER.into(), &query(name)));
    }

    fn count(&self, counter: Counter) -> u64 {
        self.link.stats.snapshot().get(counter)
    }

    /// Returns the transports of the records logged so far.
    fn logged(&self) -> Vec<Protocol> {
        let mut all = Vec::new();
        while let Some(batch) = self.line.collect() {
            all.extend(batch.iter().map(|logged| logged.protocol));
            self.line.give_back(batch);
        }
        all
    }
}

fn answer() -> Answer {
    Answer::error(rcode::NXDOMAIN, None, 20, 600)
}

#[test]
fn cache_counters_and_questions_under_way_outlive_the_port() {
    let mut scene = Scene::new();
    scene.ask(b'h');
    scene.ask(b'm');
    assert_eq!(scene.worker.turn(NOW), LoopTurn::Busy);
    let mut punt = scene.link.take().expect("a miss");
    // This query is received, but not processed yet.
    scene.ask(b'h');

    let port = UdpPort::open(&["127.0.0.1:0".parse().unwrap()], 256).unwrap();
    let server: SocketAddr = port.local_addresses().next().unwrap();
    let mut worker = scene.worker.replace_port(port);
    assert_eq!(scene.wire.replies().len(), 2, "what had arrived is answered where it came from");
    assert_eq!(worker.port().local_addresses().next(), Some(server));

    // The answer cannot be sent to its client, but is cached.
    punt.answer = Some(Arc::new(answer()));
    scene.link.give_back(punt);
    assert_eq!(worker.turn(NOW), LoopTurn::Busy);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for name in [b'h', b'm'] {
        client.send_to(&query(name), server).unwrap();
        while worker.turn(NOW) == LoopTurn::Idle {}
        let mut reply = [0; 64];
        let (len, from) = client.recv_from(&mut reply).unwrap();
        assert_eq!((len, from, reply[3] & 0xf), (19, server, rcode::NXDOMAIN));
    }

    scene.link.request_stop();
    worker.run().unwrap();
    let (worker, wire, link) = (worker, scene.wire, scene.link);
    let counters = link.stats.snapshot();
    let get = |counter| counters.get(counter);
    assert_eq!([Counter::Received, Counter::Hit, Counter::Punted].map(get), [5, 4, 1]);
    assert_eq!([Counter::PuntAnswered, Counter::PuntNoFrame, Counter::PuntPortGone].map(get), [0, 0, 1]);
    assert_eq!((counters.unaccounted(), counters.punts_waiting()), (0, 0));
    let published = link.port.read();
    assert_eq!((published.port.sent, published.port.send_failed), (4, 0), "of both ports");
    assert_eq!(published.frames, [256, 0, 0, 0], "of the port in use");
    assert!(wire.replies().is_empty());
    drop(worker);
}

#[test]
fn what_was_logged_says_by_which_port_it_came() {
    let mut scene = Scene::new();
    scene.ask(b'h');
    scene.worker.turn(NOW);
    let port = UdpPort::open(&["127.0.0.1:0".parse().unwrap()], 256).unwrap();
    let server: SocketAddr = port.local_addresses().next().unwrap();
    let Scene { worker, link, line, wire } = scene;
    let mut worker = worker.replace_port(port);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(&query(b'h'), server).unwrap();
    while worker.turn(NOW) == LoopTurn::Idle {}
    // Back to the first port, with an empty batch in hand.
    let (port, back) = SimPort::pair(&SimConfig::default()).unwrap();
    let worker = worker.replace_port(port);
    let mut scene = Scene { worker, wire: back, link, line };
    scene.ask(b'h');
    scene.worker.turn(NOW);
    scene.link.request_stop();
    scene.worker.run().unwrap();
    assert_eq!(scene.logged(), [Protocol::Udp, Protocol::UdpSocket, Protocol::Udp]);
    drop(wire);
}

#[test]
fn what_the_old_port_could_not_send_is_counted() {
    let mut scene = Scene::new();
    scene.wire.set_faults(Faults { tx_limit: Some(1), late_completion: 1000, ..Faults::default() });
    for _ in 0..3 {
        scene.ask(b'h');
    }
    scene.worker.turn(NOW);
    let (port, _wire) = SimPort::pair(&SimConfig::default()).unwrap();
    let worker = scene.worker.replace_port(port);
    let port = scene.link.port.read().port;
    assert_eq!((scene.link.stats.snapshot().get(Counter::Hit), port.sent + port.send_failed >= 3), (3, true));
    assert!(port.send_failed >= 2, "two were waiting: {port:?}");
    drop(worker);
}

#[test]
fn an_interruption_is_no_end() {
    let mut scene = Scene::new();
    scene.link.interrupt();
    scene.worker.run().unwrap();
    assert!(scene.link.resume() && !scene.link.is_interrupted());
    scene.link.interrupt();
    scene.link.request_stop();
    scene.worker.run().unwrap();
    assert!(!scene.link.resume());
    assert_eq!(scene.count(Counter::Received), 0);
}
