//! What a worker does of itself while it runs.

use ringdns_dataplane::{
    cache::BYTES_MIN,
    clock::{Clock, Nanos},
    dns::{answer::Answer, query::Query, rcode},
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

/// Nobody asks for anything: the sweep must come by itself, or expired answers stay until others push them out.
#[test]
fn a_worker_sweeps_though_nobody_asks() {
    // Fewer than up to the first capital letter, so that no two names are one.
    const ENTRIES: u64 = 60;
    let (control, generation) = (Arc::new(Doorbell::new().unwrap()), Arc::new(AtomicU64::new(0)));
    let link = Arc::new(Link::new(0, 1, 1, control, generation).unwrap());
    let settings = Settings {
        cache_bytes: BYTES_MIN,
        rules: Rules { udp_limit: 1232, stale_ttl: 30, stale_at_once: true },
        policy: Arc::default(),
        records: 1,
        spin: Duration::ZERO,
        log: None,
        demand: None,
    };
    let inside = link.clone();
    let running = std::thread::spawn(move || {
        let (port, _wire) = SimPort::pair(&SimConfig::default()).unwrap();
        let mut worker = Worker::new(port, inside, Clock::simulated(now), &settings).unwrap();
        for number in 0..ENTRIES as u8 {
            let mut query = Query::default();
            let message = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, number, 0, 0, 1, 0, 1];
            query.parse(&message).unwrap();
            let hash = worker.processor().hash().of(&query.key);
            let answer = Answer::error(rcode::NXDOMAIN, None, 0, 60);
            worker.processor().cache().insert(&query.key, hash, &answer, 0);
        }
        worker.run()
    });
    let began = Instant::now();
    while link.stats.snapshot().get(Counter::Expired) < ENTRIES {
        assert!(began.elapsed() < PATIENCE, "{:?}", link.stats.snapshot());
        // A second at a time: how long the sweep takes is reckoned in them.
        NOW.fetch_add(1_000_000_000, SeqCst);
        link.bell().ring();
        std::thread::yield_now();
    }
    link.request_stop();
    // What it has published last is then read, not what it is about to.
    running.join().unwrap().unwrap();
    assert_eq!(link.port.read().cache.entries, 0);
}
