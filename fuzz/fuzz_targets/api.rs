//! Arbitrary bytes as what a client of the API sends: the connection ends by itself, the answer is
//! one whole HTTP response or none, an error is JSON, and TCP neither changes nor shows what is the
//! owner's.
//!
//! The first byte selects the Unix socket or TCP, and where the client pauses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringdns_common::{backroom::Backroom, names};
use ringdns_config::Config;
use ringdns_daemon::{
    admin::{ApiCounters, Captures, Problems, Service, serve_one},
    bans::Bans,
    busiest::Busiest,
    daemon,
    latency::LatencyCollector,
    lists::{Groups, ListKeeper, Lists},
    nic::Receiving,
    policy,
    reload::{ConfigSource, Reloader},
};
use ringdns_dataplane::{
    clock::Clock,
    dns::answer::{Answer, TtlRules},
    doorbell::Doorbell,
    punt::Link,
};
use ringdns_resolver::{FlightLimits, Resolver, host::HostTier, sweep::Sweeper};
use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::{self, Runtime},
    time::{sleep, timeout},
};

/// Bytes on the way in either direction.
const ROOM: usize = 1 << 22;
/// Time after which a connection must have ended, by the simulated clock: the limits of the API for
/// headers, an answer, and a close.
const ENDS: Duration = Duration::from_secs(30);
/// Name and address in the one answer.
const NAME: &str = "www.example.com";
const ADDRESS: &[u8] = b"203.0.113.77";

/// Service of a process with one answer in its host tier.
struct Process {
    runtime: Runtime,
    service: Arc<Service>,
}

thread_local! {
    static PROCESS: Process = Process::start();
}

impl Process {
    fn start() -> Self {
        let text = "[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"192.0.2.1\"\n\
                    [control]\nhttp = \"127.0.0.1:8053\"\nhttp_hosts = [\"dns1.example\"]\n";
        let path = Path::new("/nonexistent/ringdns.toml");
        let (config, source) = ConfigSource::parse(text, path).expect("a valid configuration");
        let runtime = runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let service = runtime.block_on(async { service(config, source) });
        Process { runtime, service }
    }

    /// Puts the one answer into the host tier.
    fn remember(&self) {
        let wire = names::name(NAME).expect("it is a name");
        let key = names::key(&wire, 1, false, false).expect("a question");
        let mut message = names::query_message(&wire, [1, 1], 0, 0x8180, None);
        message[7] = 1;
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 203, 0, 113, 77]);
        let rules = TtlRules { min: 0, max: 1000, negative_max: 0, stale: 0, ahead: 0 };
        let now = self.service.clock.secs();
        let answer = Answer::from_response(&message, &key, &rules, now, false).expect("a plain response");
        let host = self.service.resolver.host();
        host.insert(&key, Arc::new(answer), host.generation());
    }

    /// Sends bytes, with a pause after the first `pause` of them. Returns what comes back.
    fn converse(&self, over_socket: bool, bytes: &[u8], pause: usize) -> Vec<u8> {
        self.runtime.block_on(async {
            let (mut client, stream) = tokio::io::duplex(ROOM);
            let serving = tokio::spawn(serve_one(stream, self.service.clone(), over_socket));
            let (first, rest) = bytes.split_at(pause.min(bytes.len()));
            let mut answer = Vec::new();
            let conversation = async {
                // The server may have closed already.
                let _ = client.write_all(first).await;
                sleep(Duration::from_millis(1)).await;
                let _ = client.write_all(rest).await;
                let _ = client.shutdown().await;
                let _ = client.read_to_end(&mut answer).await;
                serving.await.expect("no panic");
            };
            timeout(ENDS, conversation).await.expect("the connection ends by itself");
            answer
        })
    }
}

fn service(config: Config, source: ConfigSource) -> Arc<Service> {
    let clock = Clock::start();
    let generations = Arc::<ringdns_dataplane::purge::Generations>::default();
    let bell = Arc::new(Doorbell::new().expect("an eventfd"));
    let links = vec![Arc::new(Link::new(0, 1, 1, bell, generations.clone()).expect("a link"))];
    let host = Arc::new(HostTier::new(1 << 20, generations));
    let resolver = Resolver::new(host, &config, clock, FlightLimits::default(), None);
    let backroom = Backroom::open("api", Vec::new()).expect("a thread");
    let sweeper = Sweeper::new(resolver.clone(), config.refresh, backroom, Vec::new());
    let policy = Arc::new(policy::policy(&config, &Groups::default()).expect("a valid policy"));
    let listener = daemon::listener(&config, policy.clone(), resolver.clone(), None);
    let lists = ListKeeper::new(Lists::default(), config.lists.clone(), resolver.clone());
    let bans = Bans::new(clock, config.rate_limit.as_ref(), &config.lists.groups);
    let reloader =
        Reloader::new(source, policy, lists.clone(), resolver.clone(), listener, links.clone(), bans.clone());
    let busiest = Busiest::new(&config, clock).expect("a valid query log");
    Arc::new(Service {
        sweeper,
        snapshot: None,
        firewall: None,
        reloader,
        lists,
        bans,
        problems: Problems::new(Arc::default(), &config.control),
        config,
        clock,
        receiving: Arc::new(Receiving::over_sockets("kernel sockets")),
        latencies: LatencyCollector::new(links.clone()).expect("histograms"),
        links,
        resolver,
        fleet: None,
        verdicts: Box::new(|| None),
        listeners: Box::new(Vec::new),
        log: None,
        busiest,
        chronicle: Default::default(),
        tap: None,
        // There are no workers, and a capture lasts as long as its client reads.
        captures: Captures::closed(),
        ready: AtomicBool::new(true),
        draining: AtomicBool::new(false),
        levels: Default::default(),
        audit: Default::default(),
        api: ApiCounters::default(),
    })
}

/// Panics unless `bytes` are one whole response.
fn check_response(bytes: &[u8]) {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).expect("HTTP");
    let httparse::Status::Complete(head) = parsed else { panic!("half a response") };
    let status = response.code.expect("a status");
    let body = &bytes[head..];
    let value = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map(|header| std::str::from_utf8(header.value).expect("text"))
    };
    if let Some(length) = value("content-length") {
        let length: usize = length.parse().expect("a number");
        assert!(body.len() == length || body.is_empty(), "{} of {length} bytes", body.len());
    }
    if value("content-type") == Some("application/json") && !body.is_empty() {
        serde_json::from_slice::<serde_json::Value>(body).expect("JSON");
    }
    assert!(value("transfer-encoding").is_none() || status == 200, "an error in chunks");
}

fuzz_target!(|data: &[u8]| {
    let [how, bytes @ ..] = data else { return };
    let (over_socket, pause) = (how & 1 == 1, usize::from(how >> 1));
    PROCESS.with(|process| {
        process.remember();
        let counters = &process.service.api;
        let requests = counters.requests.get();
        let answer = process.converse(over_socket, bytes, pause);
        let requests = counters.requests.get() - requests;
        assert!(requests <= 1, "{requests} requests on one connection");
        if answer.is_empty() {
            assert_eq!(requests, 0, "a request without an answer");
        } else {
            check_response(&answer);
        }
        let holds = |bytes: &[u8]| bytes.windows(ADDRESS.len()).any(|part| part == ADDRESS);
        assert!(over_socket || !holds(&answer) || holds(bytes), "a record is shown over TCP");
        assert!(over_socket || process.service.resolver.host().len() == 1, "purged over TCP");
    });
});
