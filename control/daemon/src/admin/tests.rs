mod access;
mod bounds;
mod console;

use super::*;
use crate::{
    bans::Bans,
    busiest::Busiest,
    control_socket, daemon,
    lists::{Groups, ListKeeper, Lists},
    policy,
    reload::ConfigSource,
};
use axum::http::StatusCode;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use ring::digest::{SHA256, digest};
use ringdns_api::{AuditRecord, DaemonStatus, EntryView, Role, Times};
use ringdns_common::{backroom::Backroom, names};
use ringdns_config::tokens::Token;
use ringdns_dataplane::{
    dns::answer::{Answer, TtlRules},
    doorbell::Doorbell,
};
use ringdns_resolver::{FlightLimits, host::HostTier};
use serde_json::Value;
use std::{collections::HashSet, fs, path::Path};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

/// Token of the role `read`.
const READ: &str = "r-token";
/// Token of the role `operate`.
const OPERATE: &str = "o-token";

fn token(name: &str, role: Role, text: &str) -> Token {
    let hash = digest(&SHA256, text.as_bytes()).as_ref().try_into().unwrap();
    Token { name: name.into(), role, hash }
}

const TEXT: &str = "[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"192.0.2.1\"\n";

/// Service over Unix socket and TCP, with one answer in its host cache.
struct Doors {
    folder: TempDir,
    http: std::net::SocketAddr,
    service: Arc<Service>,
}

impl Doors {
    async fn open() -> Self {
        Self::open_with("").await
    }

    async fn open_with(table: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ringdns.toml");
        fs::write(&path, format!("{TEXT}{table}")).unwrap();
        let (config, source) = ConfigSource::load(&path).unwrap();
        let clock = Clock::start();
        let generations = Arc::<ringdns_dataplane::purge::Generations>::default();
        let bell = Arc::new(Doorbell::new().unwrap());
        let links = vec![Arc::new(Link::new(0, 1, 1, bell, generations.clone()).unwrap())];
        let host = Arc::new(HostTier::new(1 << 20, generations));
        let resolver = Resolver::new(host, &config, clock, FlightLimits::default(), None);
        let backroom = Backroom::open("test", Vec::new()).unwrap();
        let sweeper = Sweeper::new(resolver.clone(), config.refresh, backroom, Vec::new());
        let policy = Arc::new(policy::policy(&config, &Groups::default()).unwrap());
        let listener = daemon::listener(&config, policy.clone(), resolver.clone(), None);
        let lists = ListKeeper::new(Lists::default(), config.lists.clone(), resolver.clone());
        let bans = Bans::new(clock, config.rate_limit.as_ref(), &config.lists.groups);
        let reloader = Reloader::new(
            source,
            policy,
            lists.clone(),
            resolver.clone(),
            listener,
            links.clone(),
            bans.clone(),
        )
        .with_tokens(vec![token("reader", Role::Read, READ), token("ops", Role::Operate, OPERATE)]);
        let audit = AuditLog::new(config.control.audit_log.clone());
        let busiest = Busiest::new(&config, clock).unwrap();
        let service = Arc::new(Service {
            sweeper,
            snapshot: None,
            reloader,
            lists,
            bans,
            firewall: None,
            problems: Problems::new(Arc::default(), &config.control),
            config,
            clock,
            receiving: Arc::new(Receiving::over_sockets("kernel sockets")),
            latencies: LatencyCollector::new(links.clone()).unwrap(),
            links,
            resolver,
            fleet: None,
            verdicts: Box::new(|| None),
            listeners: Box::new(|| vec![Total { name: "queries", doc: "Queries received.", value: 3 }]),
            log: None,
            busiest,
            chronicle: Chronicle::default(),
            tap: None,
            captures: Default::default(),
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            levels: Default::default(),
            audit,
            api: ApiCounters::default(),
        });
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = tcp.local_addr().unwrap();
        tokio::spawn(serve_socket(control_socket::bind(&folder.path().join("s")).unwrap(), service.clone()));
        tokio::spawn(serve_http(tcp, service.clone()));
        let doors = Doors { folder, http, service };
        doors.remember("www.example.com");
        doors
    }

    /// Puts an A record into the host cache.
    fn remember(&self, name: &str) {
        self.remember_type(name, 1);
    }

    /// Puts a record of a type, with the data of an A record, into the host cache.
    fn remember_type(&self, name: &str, qtype: u16) {
        let wire = names::name(name).unwrap();
        let key = names::key(&wire, qtype, false, false).unwrap();
        let mut message = names::query_message(&wire, [qtype, 1], 0, 0x8180, None);
        message[7] = 1;
        let [t1, t0] = qtype.to_be_bytes();
        message.extend_from_slice(&[0xc0, 12, t1, t0, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1]);
        let rules = TtlRules { min: 0, max: 1000, negative_max: 0, stale: 0, ahead: 0 };
        let answer = Answer::from_response(&message, &key, &rules, self.service.clock.secs(), false).unwrap();
        let host = self.service.resolver.host();
        assert!(host.insert(&key, Arc::new(answer), host.generation()));
    }

    async fn over_socket(&self, method: &str, path: &str) -> (StatusCode, String) {
        request(UnixStream::connect(self.folder.path().join("s")).await.unwrap(), method, path, None).await
    }

    /// Sends a request over TCP without a token.
    async fn over_tcp(&self, method: &str, path: &str) -> (StatusCode, String) {
        request(TcpStream::connect(self.http).await.unwrap(), method, path, None).await
    }

    /// Sends a request over TCP with a token.
    async fn with_token(&self, token: &str, method: &str, path: &str) -> (StatusCode, String) {
        request(TcpStream::connect(self.http).await.unwrap(), method, path, Some(token)).await
    }

    async fn json(&self, path: &str) -> Value {
        let (status, body) = self.with_token(READ, "GET", path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }
}

async fn request(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: &str,
    path: &str,
    token: Option<&str>,
) -> (StatusCode, String) {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn purges_take_a_name_a_suffix_or_all_and_just_one_of_them() {
    let doors = Doors::open().await;
    for bad in ["", "?name=a&suffix=b", "?all=false", "?name=..", "?nmae=www.example.com"] {
        let (status, body) = doors.over_socket("POST", &format!("/v1/cache/purge{bad}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}: {body}");
    }
    assert_eq!(doors.service.resolver.host().len(), 1);
    for (what, left) in [("name=example.com", 1), ("name=WWW.example.com.", 0), ("suffix=com", 0)] {
        doors.remember("www.example.com");
        let (status, body) = doors.over_socket("POST", &format!("/v1/cache/purge?{what}")).await;
        assert_eq!(status, StatusCode::OK, "{what}: {body}");
        assert_eq!(doors.service.resolver.host().len(), left, "{what}");
    }
}

#[tokio::test]
async fn pauses_of_no_clients_are_refused() {
    let doors = Doors::open().await;
    for path in [
        "/v1/policy/pause?client=192.0.2.0/24",
        "/v1/policy/pause?client=",
        "/v1/policy/pause?client=%00",
        "/v1/policy/pause?client=192.0.2.1&client=192.0.2.2",
        "/v1/policy/pause?client=192.0.2.1&group=default",
        "/v1/policy/pause?client=192.0.2.1&seconds=0",
        "/v1/policy/pause?client=192.0.2.1&seconds=99999999999999999999",
        "/v1/policy/resume?client=fe80::1%25eth0",
        "/v1/policy/resume?client=192.0.2.1&group=default",
    ] {
        assert_eq!(doors.over_socket("POST", path).await.0, StatusCode::BAD_REQUEST, "{path}");
    }
    assert_eq!(doors.over_socket("GET", "/v1/policy/overrides").await, (StatusCode::OK, "{}".into()));
}

#[tokio::test]
async fn entries_are_shown_with_their_records() {
    let doors = Doors::open().await;
    for path in ["/v1/cache/entry?name=WWW.example.com", "/v1/cache/entry?name=www.example.com.&type=a"] {
        let entries: Vec<EntryView> = serde_json::from_str(&doors.over_socket("GET", path).await.1).unwrap();
        let [entry] = &entries[..] else { panic!("{path}: {entries:?}") };
        assert_eq!((entry.name.as_str(), entry.rtype.as_str()), ("www.example.com.", "A"));
        assert_eq!((entry.state.as_str(), entry.rcode.as_str()), ("fresh", "NOERROR"));
        assert!(entry.records[0].contains("192.0.2.1"), "{entry:?}");
    }
    for path in ["/v1/cache/entry?name=www.example.com&type=AAAA", "/v1/cache/entry?name=other.example"] {
        assert_eq!(doors.over_socket("GET", path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["/v1/cache/entry", "/v1/cache/entry?name=..", "/v1/cache/entry?name=a&type=NONSENSE"] {
        assert_eq!(doors.over_socket("GET", path).await.0, StatusCode::BAD_REQUEST, "{path}");
    }
    for qtype in [28, 65_280] {
        doors.remember_type("www.example.com", qtype);
    }
    let all = doors.over_socket("GET", "/v1/cache/entry?name=www.example.com").await.1;
    let all: Vec<EntryView> = serde_json::from_str(&all).unwrap();
    let types: Vec<_> = all.iter().map(|entry| entry.rtype.as_str()).collect();
    assert_eq!(types, ["A", "AAAA", "TYPE65280"]);
    // Names are for callers with a role.
    let path = "/v1/cache/entry?name=www.example.com";
    assert_eq!(doors.over_tcp("GET", path).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(doors.with_token("wrong", "GET", path).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(doors.with_token(READ, "GET", path).await.0, StatusCode::OK);
}

#[tokio::test]
async fn health_follows_readiness() {
    let doors = Doors::open().await;
    for path in ["/healthz", "/readyz"] {
        doors.service.ready.store(false, Ordering::Release);
        assert_eq!(doors.over_tcp("GET", path).await.0, StatusCode::SERVICE_UNAVAILABLE);
        doors.service.ready.store(true, Ordering::Release);
        assert_eq!(doors.over_tcp("GET", path).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn stats_close() {
    let doors = Doors::open().await;
    let stats = doors.json("/v1/stats").await;
    for path in
        ["/total/unaccounted", "/total/punts_waiting", "/total/dropped/punt_queue_full", "/total/received"]
    {
        assert_eq!(stats.pointer(path), Some(&Value::from(0)), "{path}");
    }
    assert_eq!(stats.pointer("/host/entries"), Some(&Value::from(1)));
    assert_eq!(stats.pointer("/listeners/queries"), Some(&Value::from(3)));
    assert!(stats.pointer("/upstreams/0/counters/timeouts").is_some());
    assert!(stats.pointer("/workers/0/port/tx_ring_empty").is_some());
}

/// Prometheus' parser wants HELP and TYPE once per family, before its samples, which stand
/// together.
#[tokio::test]
async fn metrics_are_well_formed() {
    let doors = Doors::open().await;
    let (status, text) = doors.over_tcp("GET", "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    let mut families = HashSet::new();
    let mut samples = HashSet::new();
    let mut current = ("", "");
    let mut helped = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(families.insert(name), "{name} comes twice");
            assert!(help.len() > 10, "{line}");
            helped = name;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            current = rest.split_once(' ').unwrap();
            assert_eq!(current.0, helped, "{line}");
            assert_eq!(current.0.ends_with("_total"), current.1 == "counter", "{line}");
        } else {
            let (name, labels, _) = exposition::parser::sample(line).unwrap();
            assert!(samples.insert((name.clone(), labels)), "{line} comes twice");
            let part = name.strip_prefix(current.0).unwrap_or_else(|| panic!("{line}"));
            assert!(part.is_empty() != (current.1 == "histogram"), "{line}");
            assert!(["", "_bucket", "_sum", "_count"].contains(&part), "{line}");
            // Metrics that all programs have use the standard names.
            assert!(["ringdns_", "process_"].iter().any(|prefix| current.0.starts_with(prefix)), "{line}");
        }
    }
    for name in [
        "ringdns_worker_hit_total",
        "ringdns_port_kick_failed_total",
        "ringdns_host_entries",
        "ringdns_listener_queries_total",
        "ringdns_allocated_bytes",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_cpu_seconds_total",
    ] {
        assert!(families.contains(name), "{name} is missing");
    }
}

#[tokio::test]
async fn an_unknown_outcome_or_format_is_refused() {
    let doors = Doors::open().await;
    for query in [
        "outcome=hitt",
        "format=csv",
        "outcom=hit",
        "upstream=192.0.2.9:53",
        "upstream=192.0.2.1:53&outcome=hit",
    ] {
        let (status, _) = doors.with_token(READ, "GET", &format!("/v1/histogram?{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test]
async fn the_keys_of_managed_trust_anchors_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("anchors");
    let doors =
        Doors::open_with(&format!("[dnssec]\nvalidate = true\nmanaged_anchor_file = {file:?}\n")).await;
    let status: DaemonStatus = serde_json::from_value(doors.json("/v1/status").await).unwrap();
    let [root] = &status.trust_points[..] else { panic!("{status:?}") };
    let keys: Vec<_> = root.keys.iter().map(|key| (key.tag, &*key.state)).collect();
    assert_eq!((&*root.zone, &keys[..]), (".", &[(20326, "valid"), (38696, "valid")][..]));
    let (_, metrics) = doors.over_tcp("GET", "/metrics").await;
    assert!(metrics.contains("ringdns_trust_anchor_keys{zone=\".\",state=\"valid\"} 2\n"), "{metrics}");
    assert!(metrics.contains("ringdns_trust_anchor_refreshed_total 0\n"));
    let (_, metrics) = Doors::open().await.over_tcp("GET", "/metrics").await;
    assert!(!metrics.contains("trust_anchor"), "nothing is managed");
}

/// The upstream has given 100 answers, which took 1 to 100 ms.
#[tokio::test]
async fn the_times_of_an_upstream_are_told_in_every_form() {
    let doors = Doors::open().await;
    for millis in 1..=100 {
        let upstream = doors.service.resolver.upstreams().iter().next().unwrap().clone();
        upstream.answered(std::time::Duration::from_millis(millis));
        upstream.counters.queries_udp.inc();
    }
    let status: DaemonStatus = serde_json::from_value(doors.json("/v1/status").await).unwrap();
    let [upstream] = &status.upstreams[..] else { panic!("{status:?}") };
    let near = |us: u64, millis: u64| us.abs_diff(millis * 1000) <= millis * 10;
    let &Times { count, p50_us, p90_us, p99_us, max_us } = &upstream.times;
    assert!(near(p50_us, 50) && near(p90_us, 90) && near(p99_us, 99) && near(max_us, 100), "{upstream:?}");
    assert_eq!((count, upstream.queries, upstream.errors, upstream.back_off_ms), (100, 100, 0, 0));
    assert!(upstream.zones.is_empty() && !upstream.put_back && upstream.protocol == "udp");

    let (_, metrics) = doors.over_tcp("GET", "/metrics").await;
    let value = |sample: &str| {
        let line =
            metrics.lines().find(|line| line.starts_with(sample)).unwrap_or_else(|| panic!("{sample}"));
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    let name = "ringdns_upstream_answer_seconds";
    let bucket = |le: &str| value(&format!("{name}_bucket{{upstream=\"udp://192.0.2.1:53\",le=\"{le}\"}}"));
    assert_eq!(["0.005", "0.05", "0.1", "+Inf"].map(bucket), [5.0, 50.0, 100.0, 100.0]);
    assert!((value(&format!("{name}_sum")) - 5.05).abs() < 0.05);
    assert_eq!(value(&format!("{name}_count")), 100.0);

    let (status, text) = doors.with_token(READ, "GET", "/v1/histogram?upstream=192.0.2.1:53").await;
    assert!(status == StatusCode::OK && text.contains("Total count    =          100]"), "{text}");
    let (status, log) =
        doors.with_token(READ, "GET", "/v1/histogram?upstream=udp://192.0.2.1:53&format=log").await;
    assert!(status == StatusCode::OK && log.contains("Tag=udp://192.0.2.1:53,"), "{log}");
}

#[tokio::test]
async fn the_configuration_is_read_again_by_those_who_may() {
    let doors = Doors::open().await;
    let file = doors.folder.path().join("ringdns.toml");
    let reload = async || doors.over_socket("POST", "/v1/reload").await;
    assert_eq!(doors.over_tcp("POST", "/v1/reload").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(doors.with_token(READ, "POST", "/v1/reload").await.0, StatusCode::FORBIDDEN);

    let upstreams = || doors.service.resolver.upstreams();
    let link = &doors.service.links[0];
    let first = upstreams();
    assert_eq!(reload().await, (StatusCode::OK, r#"{"applied":[],"needs_restart":[]}"#.into()));
    assert!(Arc::ptr_eq(&first, &upstreams()) && link.new_policy().is_none(), "nothing was made anew");

    fs::write(&file, format!("{TEXT}[[upstream]]\naddress = \"tcp://192.0.2.2\"\n[access]\nallow = [\"192.0.2.0/24\"]\n[cache]\nmax_ttl = \"1h\"\n")).unwrap();
    let told = r#"{"applied":["access","upstream"],"needs_restart":["cache"],"reasons":{"cache":"the memory of the caches is divided at the start"}}"#;
    assert_eq!(reload().await, (StatusCode::OK, told.into()));
    let labels: Vec<_> = upstreams().iter().map(|upstream| upstream.label.clone()).collect();
    assert_eq!(labels, ["udp://192.0.2.1:53", "tcp://192.0.2.2:53"]);
    assert!(
        Arc::ptr_eq(first.iter().next().unwrap(), upstreams().iter().next().unwrap()),
        "one goes on as it is"
    );
    let policy = link.new_policy().expect("workers have a new policy");
    assert!(policy.access.allows([192, 0, 2, 7].into()) && !policy.access.allows([127, 0, 0, 1].into()));
    let again = r#"{"applied":[],"needs_restart":["cache"],"reasons":{"cache":"the memory of the caches is divided at the start"}}"#;
    assert_eq!(reload().await, (StatusCode::OK, again.into()), "what waits for a restart is told again");

    for wrong in ["[access]\nallow = [\"nobody\"]", "[[upstream", "[server]\ninterface = \"none0\""] {
        fs::write(&file, wrong).unwrap();
        let (status, body) = reload().await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}: {body}");
    }
    fs::remove_file(&file).unwrap();
    let (status, body) = reload().await;
    assert!(status == StatusCode::BAD_REQUEST && body.contains("ringdns.toml"), "{body}");
    assert!(link.new_policy().is_none() && upstreams().iter().len() == 2, "what is refused changes nothing");
}

#[tokio::test]
async fn what_is_in_the_files_that_a_configuration_names_is_part_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "000102030405060708090a0b0c0d0e0f\n").unwrap();
    let doors = Doors::open_with(&format!("[cookies]\nsecret_file = {secret:?}\n")).await;
    let reload = async || doors.over_socket("POST", "/v1/reload").await.1;
    assert!(reload().await.contains(r#""applied":[]"#));
    fs::write(&secret, "100102030405060708090a0b0c0d0e0f\n").unwrap();
    assert!(reload().await.contains(r#""applied":["cookies"]"#));
    fs::write(&secret, "no secret").unwrap();
    assert!(reload().await.contains("error"));
}

#[tokio::test]
async fn what_is_read_anew_by_itself_waits_for_no_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (file, spool) = (folder.path().join("file"), folder.path());
    for table in [
        format!("[cache]\nsnapshot_file = {file:?}"),
        format!("[redis]\nurl = \"redis://127.0.0.1:1\"\npassword_file = {file:?}"),
        format!(
            "[query_log]\nenabled = true\nspool_dir = {spool:?}\n\
             [clickhouse]\nurl = \"http://127.0.0.1:1\"\npassword_file = {file:?}"
        ),
    ] {
        fs::write(&file, "one").unwrap();
        let doors = Doors::open_with(&table).await;
        fs::write(&file, "two").unwrap();
        let told = r#"{"applied":[],"needs_restart":[]}"#;
        assert_eq!(doors.over_socket("POST", "/v1/reload").await.1, told, "{table}");
    }
}
