//! What a worker tells of what it is asked for, and what it does with an answer that nobody has asked for.

use ringdns_dataplane::{
    cache::{BYTES_MIN, Cache, KeyedHash},
    clock::{Clock, Nanos},
    demand::{Demand, RENEWALS},
    dns::{answer::Answer, key::Key, query::Query, rcode},
    doorbell::Doorbell,
    port::sim::{SimConfig, SimPort},
    process::Rules,
    punt::Link,
    stats::Counter,
    worker::{Settings, Worker},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

/// Longer than it takes.
const PATIENCE: Duration = Duration::from_secs(30);

static NOW: AtomicU64 = AtomicU64::new(0);

fn now() -> Nanos {
    NOW.load(SeqCst)
}

/// The key of a name of one letter.
fn key(letter: u8) -> Key {
    let mut query = Query::default();
    let message = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, letter, 0, 0, 1, 0, 1];
    query.parse(&message).unwrap();
    query.key
}

fn ask(cache: &mut Cache, hash: KeyedHash, letter: u8, now: u32) -> Option<u8> {
    let key = key(letter);
    cache.lookup(hash.of(&key), &key, now).map(|hit| hit.view.status.rcode())
}

/// Lets seconds pass until `done` gives something.
fn until<T>(link: &Link, mut done: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(done) = done() {
            return done;
        }
        assert!(began.elapsed() < PATIENCE, "{:?}", link.stats.snapshot());
        NOW.fetch_add(1_000_000_000, SeqCst);
        link.bell().ring();
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_worker_tells_what_is_asked_for_and_takes_what_was_renewed() {
    let (control, generation) = (Arc::new(Doorbell::new().unwrap()), Arc::new(AtomicU64::new(0)));
    let link = Arc::new(Link::new(0, 1, 1 + RENEWALS, control, generation.clone()).unwrap());
    let demand = Demand::new();
    let settings = Settings {
        cache_bytes: BYTES_MIN,
        rules: Rules { udp_limit: 1232, stale_ttl: 30, stale_at_once: true },
        policy: Arc::default(),
        records: 1,
        spin: Duration::ZERO,
        log: None,
        demand: Some(demand.clone()),
    };
    let inside = link.clone();
    let running = std::thread::spawn(move || {
        let (port, _wire) = SimPort::pair(&SimConfig::default()).unwrap();
        let mut worker = Worker::new(port, inside, Clock::simulated(now), &settings).unwrap();
        let hash = worker.processor().hash();
        for letter in *b"abc" {
            let answer = Answer::error(rcode::NXDOMAIN, None, 0, 1_000_000);
            let cache = worker.processor().cache();
            cache.insert(&key(letter), hash.of(&key(letter)), &answer, 0);
            let times = if letter == b'b' { 3 } else { 2 };
            (0..times).for_each(|_| assert!(ask(cache, hash, letter, 0).is_some()));
        }
        worker.run().unwrap();
        worker
    });
    let notes = until(&link, || demand.take());
    let noted: Vec<_> = notes.iter().map(|asked| asked.name().to_vec()).collect();
    assert_eq!(noted, [b"\x01b\0"], "the others were asked for too seldom");
    demand.give_back(notes);
    let told = now();
    until(&link, || (now() > told + 200_000_000_000).then_some(()));
    assert!(demand.take().is_none(), "nobody has asked since");

    // One that it has, one that it has not, and one from before a purge.
    let renewed = Arc::new(Answer::error(rcode::NOERROR, None, (now() / 1_000_000_000) as u32, 2_000_000));
    for (letter, generation) in [(b'a', 0), (b'x', 0), (b'c', 7)] {
        assert!(demand.send(&link, &key(letter), &renewed, generation));
    }
    until(&link, || (link.stats.snapshot().get(Counter::Renewed) > 0).then_some(()));
    // All records come back, however many are sent.
    for _ in 0..10 * RENEWALS {
        until(&link, || demand.send(&link, &key(b'a'), &renewed, 0).then_some(()));
    }
    link.request_stop();
    let mut worker = running.join().unwrap();
    let hash = worker.processor().hash();
    let now = (now() / 1_000_000_000) as u32;
    let answers = [b'a', b'b', b'c', b'x'].map(|letter| ask(worker.processor().cache(), hash, letter, now));
    assert_eq!(answers, [Some(rcode::NOERROR), Some(rcode::NXDOMAIN), Some(rcode::NXDOMAIN), None]);
    assert_eq!(link.stats.snapshot().get(Counter::Noted), 1);
    assert_eq!(
        Arc::strong_count(&renewed),
        1 + RENEWALS,
        "records keep their last answer, and nobody else does"
    );
}
