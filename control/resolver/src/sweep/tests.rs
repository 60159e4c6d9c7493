//! Sweeps over a resolver whose upstream is on loopback, and whose clock is set by the test.

use super::*;
use crate::{
    FlightLimits,
    host::{HostTier, Purge},
};
use ringdns_config::Config;
use ringdns_dataplane::{
    cache::Freshness,
    clock::{Clock, Nanos},
    dns::{answer::Answer, rcode},
    doorbell::Doorbell,
    port::sim::{SimConfig, SimPort},
    process::AnswerConfig,
    stats::Counter,
    worker::{Worker, WorkerConfig},
};
use ringdns_testkit::{Say, Upstream};
use std::{
    cell::Cell,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

const LONG: Duration = Duration::from_secs(30);

thread_local! {
    /// A test and its runtime have one thread.
    static NOW: Cell<Nanos> = const { Cell::new(0) };
}

fn at(secs: u64) {
    NOW.set(secs * 1_000_000_000);
}

fn key(name: &str) -> Key {
    names::key(&names::name(name).unwrap(), 1, false, false).unwrap()
}

struct Fixture {
    sweeper: Arc<Sweeper>,
    resolver: Arc<Resolver>,
    /// Names that the upstream was asked for.
    asked: Arc<Mutex<Vec<String>>>,
    /// Whether the upstream fails.
    fails: Arc<AtomicBool>,
    _upstream: Upstream,
}

impl Fixture {
    /// Returns a fixture with an upstream whose answers live for 100 s.
    async fn new(refresh: &str) -> Self {
        at(1000);
        Self::with(refresh, Clock::simulated(|| NOW.get()), Vec::new()).await
    }

    async fn with(refresh: &str, clock: Clock, workers: Vec<(Arc<Link>, Arc<DemandLine>)>) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let fails = Arc::new(AtomicBool::new(false));
        let (log, failing) = (asked.clone(), fails.clone());
        let upstream = Upstream::local(move |seen| {
            log.lock().push(seen.query.name() + ".");
            let failed = failing.load(Ordering::Relaxed);
            vec![Say::Send(if failed {
                seen.query.response(rcode::SERVFAIL.into(), &[])
            } else {
                seen.query.answer(100)
            })]
        });
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"{}\"\n\
             [refresh]\nsweep_window = \"30s\"\n{refresh}",
            upstream.address()
        );
        let config = Config::parse(&text, Path::new("")).unwrap();
        let host = Arc::new(HostTier::new(1 << 24, Arc::default()));
        let resolver = Resolver::new(host, &config, clock, FlightLimits::default(), None);
        let backroom = Backroom::open("test", Vec::new()).unwrap();
        let sweeper = Sweeper::new(resolver.clone(), config.refresh, backroom, workers);
        Fixture { sweeper, resolver, asked, fails, _upstream: upstream }
    }

    /// Asks for `name` so many times.
    async fn ask(&self, name: &str, times: usize) {
        for _ in 0..times {
            self.resolver.resolve(&key(name)).await;
        }
    }

    async fn sweep_for(&self, time: Duration) -> Report {
        self.sweeper.sweep(Instant::now() + time).await.unwrap();
        let report = self.sweeper.told(1).last.remove(0);
        assert_eq!(report.unaccounted(), 0, "{report:?}");
        report
    }

    async fn sweep(&self) -> Report {
        self.sweep_for(LONG).await
    }

    fn received(&self, name: &str) -> Secs {
        self.resolver.host().peek(&key(name)).unwrap().answer.received
    }

    /// Returns the names that the upstream was asked for since the last call.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock())
    }
}

#[tokio::test]
async fn what_is_asked_for_is_renewed_before_it_expires_and_nothing_else() {
    let f = Fixture::new("").await;
    f.ask("wanted.example", 3).await;
    f.ask("once.example", 1).await;
    assert_eq!(f.asked().len(), 2);
    at(1060);
    f.ask("wanted.example", 9).await;
    assert_eq!((f.sweep().await.near, f.asked().len()), (0, 0), "it is not yet time");
    at(1075);
    let report = f.sweep().await;
    assert_eq!(f.asked(), ["wanted.example."]);
    assert_eq!(
        (report.seen, report.near, report.renewed, report.skipped.unasked),
        (2, 2, 1, 1),
        "{report:?}"
    );
    assert_eq!((f.received("wanted.example"), f.received("once.example")), (1075, 1000));
    assert_eq!((f.sweep().await.near, f.asked().len()), (1, 0), "it has a hundred seconds again");

    // Its demand is kept, and fades, as no client asks any more.
    at(1150);
    assert_eq!((f.sweep().await.renewed, f.asked().len()), (1, 1));
    at(1225);
    assert_eq!((f.sweep().await.renewed, f.asked().len()), (1, 1));
    for time in [1300, 1375, 1450, 1525] {
        at(time);
        f.sweep().await;
    }
    assert!(f.asked().len() <= 2, "nobody asked for it in five minutes");
    assert!(f.resolver.host().peek(&key("wanted.example")).unwrap().answer.expires() < 1525);
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_the_old_answer_and_is_put_off() {
    let f = Fixture::new("").await;
    f.ask("wanted.example", 5).await;
    at(1075);
    f.fails.store(true, Ordering::Relaxed);
    let report = f.sweep().await;
    assert_eq!((report.near, report.failed, report.renewed), (1, 1, 0), "{report:?}");
    assert_eq!(f.received("wanted.example"), 1000);
    let old = f.resolver.resolve(&key("wanted.example")).await;
    assert_eq!((old.answer.status.rcode(), old.answer.expires()), (rcode::NOERROR, 1100));
    f.fails.store(false, Ordering::Relaxed);
    f.asked();
    at(1080);
    let report = f.sweep().await;
    assert_eq!((report.skipped.put_off, f.asked().len()), (1, 0), "RFC 8767 section 5: not before 30 s");
}

/// Four renewals a second, of which a quarter is left to others.
#[tokio::test]
async fn the_budget_is_kept_and_the_most_wanted_come_first() {
    let f = Fixture::new("per_second = 4").await;
    for i in 0..20 {
        f.ask(&format!("{i}.example"), 3 + i).await;
    }
    f.asked();
    at(1075);
    let began = Instant::now();
    let report = f.sweep_for(Duration::from_millis(900)).await;
    assert!(began.elapsed() >= Duration::from_millis(900));
    assert!((2..=4).contains(&report.renewed), "{report:?}");
    assert_eq!(report.skipped.over_budget + report.renewed, 20, "{report:?}");
    let asked = f.asked();
    let first: Vec<_> = (0..20).rev().map(|i| format!("{i}.example.")).take(asked.len()).collect();
    assert_eq!(asked, first);
}

#[tokio::test]
async fn what_a_list_blocks_is_not_renewed() {
    let f = Fixture::new("").await;
    for name in ["ads.example", "wanted.example"] {
        f.ask(name, 5).await;
    }
    f.resolver.set_policy(crate::policy::testing::blocking("ads.example"));
    f.asked();
    at(1075);
    let report = f.sweep().await;
    assert_eq!((report.renewed, report.skipped.settled), (1, 1), "{report:?}");
    assert_eq!(f.asked(), ["wanted.example."]);
}

#[tokio::test]
async fn what_is_purged_or_renewed_while_it_waits_is_left_alone() {
    let f = Fixture::new("per_second = 4").await;
    f.ask("first.example", 9).await;
    f.ask("second.example", 5).await;
    f.ask("third.example", 4).await;
    f.asked();
    at(1075);
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (host, third) = (f.resolver.host(), key("third.example"));
        host.purge(&Purge::Name(names::name("second.example").unwrap()));
        let renewed = Answer { received: 1075, ..(*host.peek(&third).unwrap().answer).clone() };
        assert!(host.insert(&third, Arc::new(renewed), host.generation()));
    };
    let (report, ()) = tokio::join!(f.sweep(), meanwhile);
    assert_eq!(f.asked(), ["first.example."]);
    assert_eq!((report.renewed, report.skipped.settled), (1, 2), "{report:?}");
    assert!(f.resolver.host().peek(&key("second.example")).is_none());
}

#[tokio::test]
async fn no_more_are_under_way_than_may_be() {
    let f = Fixture::new("sweep_in_flight = 2\nper_second = 0").await;
    for i in 0..10 {
        f.ask(&format!("{i}.example"), 3).await;
    }
    at(1075);
    let most = Cell::new(0);
    let watching = async {
        loop {
            most.set(most.get().max(f.resolver.under_way()));
            tokio::task::yield_now().await;
        }
    };
    let report = tokio::select! {
        report = f.sweep() => report,
        () = watching => unreachable!(),
    };
    assert_eq!((report.renewed, most.get()), (10, 2), "{report:?}");
}

#[tokio::test]
async fn without_a_window_sweeps_only_clean() {
    let f = Fixture::new("").await;
    let refresh = RefreshConfig { sweep_window: 0, ..f.sweeper.refresh };
    let sweeper =
        Sweeper::new(f.resolver.clone(), refresh, Backroom::open("test", Vec::new()).unwrap(), Vec::new());
    f.ask("wanted.example", 9).await;
    f.asked();
    at(1090);
    sweeper.sweep(Instant::now() + LONG).await.unwrap();
    assert_eq!((sweeper.told(1).last[0].near, f.asked().len()), (0, 0));
    at(1_000_000);
    sweeper.sweep(Instant::now() + LONG).await.unwrap();
    assert_eq!((sweeper.told(1).last[0].removed.dead, f.resolver.host().len()), (1, 0));
}

/// Sweeps are made at intervals that vary.
#[tokio::test(start_paused = true)]
async fn pauses_differ_by_a_quarter_at_most() {
    let f = Fixture::new("").await;
    let pauses: Vec<_> = (0..100).map(|_| f.sweeper.pause()).collect();
    let within =
        |pause: &Duration| (Duration::from_millis(11_250)..=Duration::from_millis(18_750)).contains(pause);
    assert!(pauses.iter().all(within), "{pauses:?}");
    assert!(pauses.iter().min() < pauses.iter().max());
    let sweeping = tokio::spawn(f.sweeper.clone().run());
    let began = Instant::now();
    while f.sweeper.counters.sweeps.get() < 3 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        // The thread of the walks runs in real time.
        std::thread::sleep(Duration::from_millis(1));
        assert!(began.elapsed() < Duration::from_secs(1000), "there is no sweep");
    }
    assert!(began.elapsed() >= Duration::from_millis(3 * 11_250));
    sweeping.abort();
}

/// Clock of a test that has more than one thread.
static SHARED: AtomicU64 = AtomicU64::new(1_000_000_000_000);

/// A worker answers from its own cache, without asking the host tier.
#[tokio::test]
async fn what_a_worker_is_asked_for_is_renewed_and_the_worker_has_it() {
    let clock = Clock::simulated(|| SHARED.load(Ordering::SeqCst));
    let bell = Arc::new(Doorbell::new().unwrap());
    let generations = Arc::<ringdns_dataplane::purge::Generations>::default();
    let link = Arc::new(Link::new(0, 1, 1, bell, generations).unwrap());
    let demand = DemandLine::new();
    let f = Fixture::with("sweep_every = \"1s\"", clock, vec![(link.clone(), demand.clone())]).await;
    let answer = f.resolver.resolve(&key("wanted.example")).await.answer;
    f.ask("unwanted.example", 1).await;
    f.asked();
    let settings = WorkerConfig {
        cache_bytes: 1 << 20,
        rules: AnswerConfig { udp_limit: 1232, stale_ttl: 30, stale_at_once: true },
        policy: Arc::default(),
        records: 1,
        spin: Duration::ZERO,
        log: None,
        demand: Some(demand),
        mirror: None,
        populator: None,
    };
    let inside = link.clone();
    let worker = std::thread::spawn(move || {
        let (port, _wire) = SimPort::pair(&SimConfig::default()).unwrap();
        let mut worker = Worker::new(port, inside, clock, &settings).unwrap();
        let hash = worker.processor().cache().hash();
        let (key, cache) = (key("wanted.example"), worker.processor().cache());
        cache.insert(&key, &answer, 1000);
        (0..3).for_each(|_| assert!(cache.lookup(hash.of(&key), &key, 1000).is_some()));
        worker.run().unwrap();
        worker
    });
    let sweeping = tokio::spawn(f.sweeper.clone().run());
    // Time runs fast; the entry is asked for in the first second only.
    let began = Instant::now();
    while link.stats.snapshot().get(Counter::Renewed) == 0 {
        assert!(began.elapsed() < LONG, "{:?} {:?}", f.sweeper.told(9), link.stats.snapshot());
        // Time stops before the entry expires, until there was a sweep.
        let now = SHARED.load(Ordering::SeqCst);
        SHARED.store((now + 1_000_000_000).min(1_090_000_000_000), Ordering::SeqCst);
        link.bell().ring();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    sweeping.abort();
    assert_eq!(f.asked(), ["wanted.example."]);
    assert_eq!([&f.sweeper.counters.noted, &f.sweeper.counters.sent].map(|counter| counter.get()), [1, 1]);
    link.request_stop();
    let mut worker = worker.join().unwrap();
    let hash = worker.processor().cache().hash();
    let key = key("wanted.example");
    let hit = worker.processor().cache().lookup(hash.of(&key), &key, 1101).unwrap();
    assert!(matches!(hit.freshness, Freshness::Fresh { .. }), "it has another hundred seconds");
}
