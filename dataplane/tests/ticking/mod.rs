//! A worker on its own thread, and a clock that a test moves. The clock belongs to the process, so
//! each test that uses it is a program of its own.

use ringdns_dataplane::{
    cache::BYTES_MIN,
    clock::{Clock, Nanos},
    demand::DemandLine,
    doorbell::Doorbell,
    port::sim::{SimConfig, SimPort},
    process::AnswerConfig,
    punt::Link,
    worker::{Worker, WorkerConfig},
};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Time that the test waits, longer than it ever takes.
const PATIENCE: Duration = Duration::from_secs(30);
const SECOND: Nanos = 1_000_000_000;

static NOW: AtomicU64 = AtomicU64::new(0);

/// Returns the time on the worker's clock.
pub fn now() -> Nanos {
    NOW.load(SeqCst)
}

/// Creates the link to a worker, with room for `records` records.
pub fn link(records: usize) -> Arc<Link> {
    let (control, generations) = (Arc::new(Doorbell::new().unwrap()), Arc::default());
    Arc::new(Link::new(0, 1, records, control, generations).unwrap())
}

/// Starts a worker that gets no queries; `prepare` runs before it. Ends when told to stop.
pub fn start(
    link: &Arc<Link>,
    demand: Option<Arc<DemandLine>>,
    prepare: impl FnOnce(&mut Worker<SimPort>) + Send + 'static,
) -> JoinHandle<io::Result<Worker<SimPort>>> {
    let settings = WorkerConfig {
        cache_bytes: BYTES_MIN,
        rules: AnswerConfig { udp_limit: 1232, stale_ttl: 30, stale_at_once: true },
        policy: Arc::default(),
        records: 1,
        spin: Duration::ZERO,
        log: None,
        demand,
        mirror: None,
        populator: None,
    };
    let link = link.clone();
    thread::spawn(move || {
        let (port, _wire) = SimPort::pair(&SimConfig::default()).unwrap();
        let mut worker = Worker::new(port, link, Clock::simulated(now), &settings)?;
        prepare(&mut worker);
        worker.run()?;
        Ok(worker)
    })
}

/// Lets seconds pass, one at a time, until `done` returns something: the time that a sweep takes is
/// counted in them.
pub fn until<T>(link: &Link, mut done: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(done) = done() {
            return done;
        }
        assert!(began.elapsed() < PATIENCE, "{:?}", link.stats.snapshot());
        NOW.fetch_add(SECOND, SeqCst);
        link.bell().ring();
        thread::sleep(Duration::from_millis(1));
    }
}
