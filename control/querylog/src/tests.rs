//! Tests of the collector, with batches from workers and rows from TCP.

use super::{decision::RuleDecision, *};
use futures_util::StreamExt;
use ringdns_common::{counters::Total, filter::ExchangeFilter, names};
use ringdns_dataplane::{
    checksum::Checksums,
    dns::{key::Key, rcode},
    log::{AnswerSource, Outcome, Protocol, Tier},
    packet::{self, Envelope},
    process::Recorder,
    stats::{Counter, WorkerStats},
};
use std::{net::SocketAddr, path::Path, time::Duration};
use tokio::sync::mpsc;

/// Lists by which a rule blocks for the group 1.
struct OfKids;

impl Decisions for OfKids {
    fn decide(&self, name: &[u8], qtype: u16, group: Group) -> Option<RuleDecision> {
        assert_eq!((name, qtype), (&b"\x03www\x07example\0"[..], 28), "asked for answers of lists alone");
        let rule = RuleDecision { list: "ads".into(), rule: "||example^".into(), ede: Some(17) };
        (group.number() == 1).then_some(rule)
    }
}

/// Names of the clients in one network.
struct Hosts;

impl ClientNaming for Hosts {
    fn name_of(&self, client: Ipv6Addr) -> Option<Arc<str>> {
        let is_known = client.to_canonical().to_string().starts_with("198.51.100.");
        is_known.then(|| "laptop".into())
    }

    fn gauges(&self) -> Vec<Total> {
        Vec::new()
    }

    fn totals(&self) -> Vec<Total> {
        Vec::new()
    }
}

fn log(table: &str) -> Arc<QueryLog> {
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[[upstream]]\naddress = \"192.0.2.53\"\n\
         [[upstream]]\naddress = \"tcp://192.0.2.54\"\n[query_log]\nenabled = true\n{table}"
    );
    let config = Config::parse(&text, Path::new("")).unwrap();
    let labels = LogLabels {
        decisions: Some(Arc::new(OfKids)),
        clients: Some(Arc::new(Hosts)),
        ..LogLabels::default()
    };
    let numbers = config.upstreams.iter().map(|upstream| labels.upstreams.number(&upstream.label()));
    assert!(numbers.into_iter().all(|number| number.is_some()) && labels.lists.number("ads") == Some(0));
    QueryLog::new(&config, Clock::start(), labels).unwrap().unwrap()
}

/// A worker that only logs.
struct Worker {
    line: Arc<Line>,
    recorder: Recorder,
    stats: WorkerStats,
}

impl Worker {
    fn new(log: &QueryLog) -> Self {
        let setup = log.setup();
        let line = setup.line.clone();
        Worker { line, recorder: Recorder::new(setup, Protocol::UdpSocket), stats: WorkerStats::default() }
    }

    /// Records the answer to `name` for `client`, from upstream number 1.
    fn note(&mut self, client: &str, name: &str) {
        let key: Key = names::key(&names::name(name).unwrap(), 28, false, false).unwrap();
        let mut message = names::query_message(key.asked().name(), [28, 1], 7, 0x8180, None);
        message[3] |= rcode::NXDOMAIN;
        let (client, server): (SocketAddr, &str) = (client.parse().unwrap(), "192.0.2.2:53");
        let at = 42;
        let mut frame = vec![0; at + message.len()];
        frame[at..].copy_from_slice(&message);
        // The frame goes from the server to the client, as a reply does.
        packet::address(&mut frame, server.parse().unwrap(), client, message.len(), Checksums::Verify)
            .unwrap();
        let (envelope, _) = Envelope::open(&frame, Checksums::Verify).unwrap();
        let source =
            AnswerSource { tier: Tier::Upstream, upstream: Some(1), upstream_us: 900, list: Some(0) };
        self.recorder.note_returned(5_000_000, &frame, envelope, &key, (source, Outcome::Miss));
        self.recorder.settle(5_001_000, &self.stats);
    }

    fn count(&self, counter: Counter) -> u64 {
        self.stats.snapshot().get(counter)
    }
}

fn collector(
    log: &Arc<QueryLog>,
    workers: &[&Worker],
    writer: Option<mpsc::Sender<Vec<Row>>>,
) -> Arc<Collector> {
    let lines = workers.iter().map(|worker| worker.line.clone()).collect();
    Collector::new(log.clone(), lines, writer)
}

fn over_tcp(client: &str, outcome: Outcome) -> Logged<'static> {
    Logged {
        at: 0,
        client: client.parse().unwrap(),
        question: &[],
        protocol: Protocol::Tcp,
        outcome,
        rcode: 0,
        answer_bytes: 60,
        service_ns: 70_000,
        source: AnswerSource::of(Tier::Host),
    }
}

fn query(name: &str) -> Query {
    let mut query = Query::default();
    query.parse(&names::query_message(&names::name(name).unwrap(), [1, 1], 7, 0x0100, None)).unwrap();
    query
}

#[tokio::test]
async fn rows_are_what_was_recorded() {
    let log = log("");
    let mut worker = Worker::new(&log);
    let (writer, mut rows) = mpsc::channel(CHANNEL);
    let collector = collector(&log, &[&worker], Some(writer));
    worker.note("198.51.100.7:999", "WWW.Example");
    worker.recorder.hand_on();
    log.note_tcp(&query("tcp.example"), over_tcp("2001:db8::7", Outcome::Hit));
    log.note_tcp(&Query::default(), over_tcp("::ffff:10.0.0.1", Outcome::Rejected));
    let kids = [("198.51.100.0/24".parse().unwrap(), Group::new(1).unwrap())];
    let names = ["default", "kids"].map(Arc::from).to_vec();
    log.set_groups(LogGroups { clients: ClientGroups::new(&kids).unwrap(), names, ..LogGroups::default() });
    assert!(collector.collect() && !collector.collect());
    let rows = rows.try_recv().unwrap();
    let now = Clock::start().unix() as i64 * 1000;
    assert!(rows.iter().all(|row| row.time_ms.abs_diff(now) < 60_000), "{now}: {rows:?}");
    let first = Row {
        time_ms: rows[0].time_ms,
        client: "::ffff:198.51.100.7".parse().unwrap(),
        name: names::name("www.example").unwrap().into(),
        qtype: 28,
        qclass: 1,
        protocol: Protocol::UdpSocket,
        outcome: Outcome::Miss,
        tier: Tier::Upstream,
        rcode: 3,
        answer_bytes: 29,
        service_ns: 1000,
        upstream: Some("tcp://192.0.2.54:53".into()),
        upstream_us: 900,
        list: Some("ads".into()),
        client_group: Some("kids".into()),
        client_name: Some("laptop".into()),
        rule: Some("||example^".into()),
        ede: Some(17),
        sample: 1,
    };
    assert_eq!(rows[0], first);
    let of =
        |row: &Row| (row.client.to_string(), names::display(&row.name), row.protocol, row.outcome, row.qtype);
    assert_eq!(rows[1].client_name, None);
    assert_eq!(of(&rows[1]), ("2001:db8::7".into(), "tcp.example.".into(), Protocol::Tcp, Outcome::Hit, 1));
    let nameless = ("::ffff:10.0.0.1".into(), String::new(), Protocol::Tcp, Outcome::Rejected, 0);
    assert_eq!(of(&rows[2]), nameless);
    assert_eq!(rows.len(), 3);
}

#[tokio::test]
async fn groups_that_are_not_logged_have_no_rows() {
    let log = log("");
    let mut worker = Worker::new(&log);
    let (writer, mut rows) = mpsc::channel(CHANNEL);
    let collector = collector(&log, &[&worker], Some(writer));
    let mut tap = Box::pin(log.taps.open(ExchangeFilter::default()).unwrap());
    let kids = [("198.51.100.0/24".parse().unwrap(), Group::new(1).unwrap())];
    let mut groups = LogGroups { clients: ClientGroups::new(&kids).unwrap(), ..LogGroups::default() };
    let mut ask = |log: &QueryLog| {
        worker.note("198.51.100.7:999", "www.example");
        worker.note("198.51.101.7:999", "www.example");
        worker.recorder.hand_on();
        log.note_tcp(&query("www.example"), over_tcp("::ffff:198.51.100.8", Outcome::Hit));
        log.note_tcp(&query("www.example"), over_tcp("::ffff:198.51.101.8", Outcome::Hit));
        while collector.collect() {}
    };
    groups.unlogged = GroupSet::NONE.with(Group::new(1).unwrap());
    log.set_groups(groups.clone());
    ask(&log);
    let clients = |rows: Vec<Row>| rows.iter().map(|row| row.client.to_string()).collect::<Vec<_>>();
    let others = ["::ffff:198.51.101.7", "::ffff:198.51.101.8"];
    assert_eq!(clients(rows.try_recv().unwrap()), others);
    let shown = String::from_utf8(tap.next().await.unwrap().unwrap().to_vec()).unwrap();
    assert_eq!((shown.lines().count(), shown.contains("198.51.100.")), (2, false), "{shown}");
    groups.unlogged = GroupSet::NONE;
    log.set_groups(groups);
    ask(&log);
    assert_eq!(rows.try_recv().unwrap().len(), 4, "logged again at once");
    let LogCounters { tcp_recorded, handed_on, unlogged, collected, .. } = &log.counters;
    let recorded = worker.count(Counter::LogRecorded) + tcp_recorded.get();
    assert_eq!((recorded, handed_on.get(), unlogged.get()), (8, 6, 2));
    assert_eq!(collected.get(), 7, "one over TCP was never in a line");
}

#[tokio::test]
async fn addresses_are_kept_as_privacy_has_them() {
    for (table, kept) in [
        ("privacy = \"none\"", "::ffff:198.51.100.7"),
        ("privacy = \"truncate\"", "::ffff:198.51.100.0"),
        ("privacy = \"hash\"", "100:"),
    ] {
        let log = log(table);
        let mut worker = Worker::new(&log);
        let (writer, mut rows) = mpsc::channel(CHANNEL);
        let collector = collector(&log, &[&worker], Some(writer));
        worker.note("198.51.100.7:999", "www.example");
        worker.recorder.hand_on();
        log.note_tcp(&query("www.example"), over_tcp("::ffff:198.51.100.7", Outcome::Hit));
        collector.collect();
        collector.collect();
        for row in rows.try_recv().unwrap() {
            assert!(row.client.to_string().starts_with(kept), "{table}: {row:?}");
        }
    }
}

#[tokio::test]
async fn a_writer_that_does_not_keep_up_loses_rows_which_are_counted() {
    let log = log("");
    let mut worker = Worker::new(&log);
    let (writer, mut rows) = mpsc::channel(2);
    let collector = collector(&log, &[&worker], Some(writer));
    for _ in 0..5 {
        worker.note("198.51.100.7:999", "www.example");
        worker.note("198.51.100.8:999", "www.example");
        worker.recorder.hand_on();
        while collector.collect() {}
    }
    let LogCounters { collected, handed_on, writer_full, .. } = &log.counters;
    assert_eq!((collected.get(), handed_on.get(), writer_full.get()), (10, 4, 6));
    assert_eq!(worker.count(Counter::LogRecorded), 10);
    // Rows are handed on again as soon as there is room; at the end, rows in hand are handed on
    // before the channel closes.
    rows.recv().await.unwrap();
    worker.note("198.51.100.9:999", "www.example");
    worker.recorder.hand_on();
    collector.finish().await;
    let mut left = Vec::new();
    while let Some(chunk) = rows.recv().await {
        left.extend(chunk);
    }
    assert_eq!((left.len(), log.counters.handed_on.get()), (3, 5));
    assert_eq!(left[2].client.to_canonical().to_string(), "198.51.100.9");
}

#[tokio::test]
async fn listeners_have_lines_and_hold_nobody_up() {
    let log = log("");
    let mut worker = Worker::new(&log);
    let collector = collector(&log, &[&worker], None);
    let mut batch = |clients: std::ops::Range<u8>| {
        clients.for_each(|last| worker.note(&format!("198.51.100.{last}:999"), "www.example"));
        worker.recorder.hand_on();
        while collector.collect() {}
    };
    batch(0..3);
    let LogCounters { unwanted, tapped, tap_full, .. } = &log.counters;
    assert_eq!((unwanted.get(), tapped.get(), log.taps.is_empty()), (3, 0, true));
    let (mut reads, sleeps) = (
        Box::pin(log.taps.open(ExchangeFilter::default()).unwrap()),
        log.taps.open(ExchangeFilter::default()).unwrap(),
    );
    let mut lines = Vec::new();
    for _ in 0..20 {
        batch(7..9);
        let chunk = reads.next().await.unwrap().unwrap();
        lines.extend(chunk.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec));
    }
    assert_eq!(lines.len(), 40);
    let row: serde_json::Value = serde_json::from_slice(&lines[39]).unwrap();
    assert_eq!((&row["client"], &row["name"]), (&"198.51.100.8".into(), &"www.example.".into()));
    // The other tap has eight chunks.
    assert_eq!((tapped.get(), tap_full.get()), (40 + 16, 24));
    assert_eq!(unwanted.get(), 43);
    // A closed tap makes room for another: there are eight at most.
    drop(sleeps);
    let others: Vec<_> = std::iter::from_fn(|| log.taps.open(ExchangeFilter::default())).collect();
    assert_eq!((others.len(), log.taps.len()), (7, 8));
    drop(others);
    batch(1..2);
    assert_eq!(log.taps.len(), 1);
    let finished = tokio::time::timeout(Duration::from_secs(30), async {
        collector.finish().await;
        reads.next().await.unwrap().unwrap();
        assert!(reads.next().await.is_none(), "the end of the log is the end of the stream");
    });
    finished.await.unwrap();
}

#[tokio::test]
async fn a_tap_with_a_filter_gets_matching_rows_and_misses_no_others() {
    let log = log("");
    let mut worker = Worker::new(&log);
    let collector = collector(&log, &[&worker], None);
    let open = ExchangeFilter::default;
    let client = |text: &str| ExchangeFilter { client: Some(text.parse().unwrap()), ..open() };
    let suffix = |text: &str| ExchangeFilter { suffix: Some(names::name(text).unwrap()), ..open() };
    // Rows: a miss of AAAA with NXDOMAIN, and hits of A with NOERROR.
    let filters = [
        (open(), 3),
        (client("198.51.100.0/24"), 1),
        (client("2001:db8::/32"), 1),
        (suffix("example"), 2),
        (suffix("."), 2),
        (ExchangeFilter { qtype: Some(28), ..open() }, 1),
        (ExchangeFilter { outcome: Some(Outcome::Rejected), ..open() }, 1),
        (ExchangeFilter { rcode: Some(3), ..suffix("example") }, 1),
    ];
    let taps: Vec<_> = filters.iter().map(|(filter, _)| log.taps.open(filter.clone()).unwrap()).collect();
    worker.note("198.51.100.7:999", "www.example");
    worker.recorder.hand_on();
    log.note_tcp(&query("tcp.example"), over_tcp("2001:db8::7", Outcome::Hit));
    log.note_tcp(&Query::default(), over_tcp("::ffff:10.0.0.1", Outcome::Rejected));
    while collector.collect() {}
    for (tap, (filter, expected)) in taps.into_iter().zip(&filters) {
        let text = Box::pin(tap).next().await.unwrap().unwrap();
        let rows = text.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(rows, *expected, "{filter:?}");
    }
    let slow = log.taps.open(client("198.51.100.7")).unwrap();
    for _ in 0..20 {
        worker.note("198.51.100.7:999", "www.example");
        worker.recorder.hand_on();
        log.note_tcp(&query("tcp.example"), over_tcp("2001:db8::7", Outcome::Hit));
        while collector.collect() {}
    }
    // Only matching rows fill its eight places, and only these are counted.
    let LogCounters { tapped, tap_full, .. } = &log.counters;
    assert_eq!((tapped.get(), tap_full.get()), (12 + 8, 12));
    drop(slow);
}

#[test]
fn tcp_is_sampled_excluded_and_bounded() {
    let log = log("exclude_names = [\"corp.example\"]\nexclude_clients = [\"2001:db8:bad::/48\"]");
    let LogCounters { tcp_recorded, tcp_excluded, tcp_full, .. } = &log.counters;
    log.note_tcp(&query("a.corp.example"), over_tcp("2001:db8::1", Outcome::Hit));
    log.note_tcp(&query("a.example"), over_tcp("2001:db8:bad::1", Outcome::Hit));
    log.note_tcp(&query("a.example"), over_tcp("2001:db8::1", Outcome::Hit));
    assert_eq!((tcp_recorded.get(), tcp_excluded.get(), tcp_full.get()), (1, 2, 0));
    for _ in 0..TCP_ROWS {
        log.note_tcp(&query("a.example"), over_tcp("2001:db8::1", Outcome::Hit));
    }
    assert_eq!((tcp_recorded.get(), tcp_full.get()), (1 + TCP_ROWS as u64, 1));
    let log = self::log("sample = 50");
    (0..5000).for_each(|_| log.note_tcp(&query("a.example"), over_tcp("2001:db8::1", Outcome::Hit)));
    let sampled = log.counters.tcp_recorded.get();
    assert!((50..150).contains(&sampled), "{sampled}");
    assert!(log.tcp.lock().rows.iter().all(|row| row.sample == 50), "counts can be scaled");
}

#[test]
fn a_log_is_kept_only_if_it_is_asked_for() {
    let text = "[server]\nlisten = [\"127.0.0.1:0\"]\n[[upstream]]\naddress = \"192.0.2.53\"\n[query_log]\n";
    let refused = |table: &str| {
        let config = Config::parse(&format!("{text}{table}"), Path::new(""));
        match config.map(|config| QueryLog::new(&config, Clock::start(), LogLabels::default())) {
            Ok(Ok(log)) => panic!("{table} is taken: {}", log.is_some()),
            Ok(Err(problem)) => problem.to_string(),
            Err(error) => error.to_string(),
        }
    };
    let config = Config::parse(text, Path::new("")).unwrap();
    assert!(QueryLog::new(&config, Clock::start(), LogLabels::default()).unwrap().is_none());
    for (table, key) in [
        ("sample = 0", "query_log.sample"),
        ("bytes_per_worker = \"64KiB\"", "query_log.bytes_per_worker"),
        ("exclude_clients = [\"10.0.0.1/8\"]", "query_log.exclude_clients[0]"),
        ("exclude_names = [\"a..b\"]", "query_log.exclude_names[0]"),
        ("key_file = \"k\"", "query_log.key_file"),
        ("enabled = true\nprivacy = \"hash\"\nkey_file = \"no/such/file\"", "query_log.key_file"),
    ] {
        let said = refused(table);
        assert!(said.contains(key), "{table}: {said}");
    }
}
