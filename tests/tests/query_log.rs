//! The query log's way into ClickHouse: a real server of Debian's, on loopback, that is killed, stopped, changed and started again.
//! At the end it has every row once.

use ringdns_control::{
    config::{Config, Shipping},
    log::{
        Row,
        ledger::{Ledger, Sums},
        row::{Outcome, Protocol, Tier},
        writer::Writer,
    },
};
use ringdns_tests::{ClickHouse, Client, Host, Query, Ringdnsd, Upstream, ask_over_tcp, free_port, until};
use rustix::process::Signal;
use serde_json::Value;
use std::{fs, net::SocketAddr, path::Path, sync::Arc};
use tempfile::TempDir;
use tokio::sync::mpsc::{Sender, channel};

const PASSWORD: &str = "not in a URL";

/// A writer, and the rows that it was given.
struct Log {
    writer: Writer,
    ledger: Arc<Ledger>,
    rows: Sender<Vec<Row>>,
    given: u64,
    /// Makes names that no other writer of the test makes.
    name: &'static str,
}

impl Log {
    fn start(name: &'static str, shipping: Shipping) -> Self {
        let (rows, receiver) = channel(16);
        let ledger = Arc::<Ledger>::default();
        let writer = Writer::start(shipping, receiver, Vec::new(), ledger.clone()).unwrap();
        Log { writer, ledger, rows, given: 0, name }
    }

    fn give(&mut self, count: u64) {
        let rows = (self.given..self.given + count).map(|i| row(self.name, i)).collect();
        self.rows.blocking_send(rows).unwrap();
        self.given += count;
    }

    /// The sums, which close at any time.
    fn sums(&self) -> Sums {
        let sums = self.ledger.sums();
        assert_eq!(sums.unaccounted(), 0, "{sums:?}");
        sums
    }

    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn(&Sums) -> bool) -> Sums {
        until(what, || {
            std::thread::sleep(std::time::Duration::from_millis(5));
            let sums = self.sums();
            holds(&sums).then_some(sums)
        })
    }

    #[track_caller]
    fn until_stored(&self) -> Sums {
        self.until("all rows are stored", |sums| {
            sums.stored == sums.taken + sums.found && sums.taken == self.given
        })
    }

    fn finish(self) -> Sums {
        drop(self.rows);
        self.writer.finish();
        self.ledger.sums()
    }
}

fn row(name: &str, i: u64) -> Row {
    let wire = ringdns_control::names::name(&format!("{i}.{name}.example")).unwrap();
    let outcomes = [Outcome::Hit, Outcome::Miss];
    Row {
        // Two days, and rows of both in each chunk.
        time_ms: 1_700_006_390_000 + i as i64 % 20_000,
        client: "::ffff:192.0.2.7".parse().unwrap(),
        name: wire.into(),
        qtype: if i.is_multiple_of(2) { 1 } else { 28 },
        qclass: 1,
        protocol: Protocol::UdpSocket,
        outcome: outcomes[(i % 2) as usize],
        tier: Tier::Upstream,
        rcode: 0,
        answer_bytes: 100,
        service_ns: 1000 + i as u32,
        upstream: (i % 2 == 1).then(|| "udp://192.0.2.1:53".into()),
        upstream_us: 1200,
    }
}

/// What a configuration makes of it, with little patience.
fn shipping(server: &ClickHouse, spool: &Path, password_file: &Path) -> Shipping {
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[[upstream]]\naddress = \"127.0.0.1:1\"\n[query_log]\nenabled = true\n\
         spool_dir = {spool:?}\nbatch_interval = \"100ms\"\nbatch_rows = 4000\nappliance = \"box-1\"\n\
         [clickhouse]\nurl = \"{}\"\npassword_file = {password_file:?}\ntimeout = \"1s\"\nretention = \"3650d\"\n",
        server.url(),
    );
    Config::parse(&text, Path::new("test.toml")).unwrap().shipping.unwrap()
}

struct Scene {
    server: ClickHouse,
    spool: TempDir,
}

impl Scene {
    fn set() -> Self {
        Scene { server: ClickHouse::start(&Host::local(), PASSWORD), spool: tempfile::tempdir().unwrap() }
    }

    fn log(&self, name: &'static str) -> Log {
        Log::start(name, self.shipping())
    }

    fn shipping(&self) -> Shipping {
        shipping(&self.server, self.spool.path(), &self.server.password_file())
    }

    /// How many rows there are, and how many different ones.
    fn rows(&self) -> (u64, u64) {
        let answer = self.server.query("SELECT count(), uniqExact(name) FROM ringdns.queries");
        let (all, different) = answer.split_once('\t').unwrap();
        (all.parse().unwrap(), different.parse().unwrap())
    }
}

#[test]
fn rows_in_are_rows_stored() {
    let scene = Scene::set();
    let mut log = scene.log("stored");
    for _ in 0..4 {
        log.give(5_000);
    }
    let sums = log.until_stored();
    assert_eq!((sums.stored, sums.dropped(), scene.rows()), (20_000, 0, (20_000, 20_000)));
    let first = "SELECT time_ms, toString(toTimeZone(time, 'UTC')), IPv6NumToString(client), type, class, protocol, outcome, tier, rcode, \
                 answer_bytes, service_ns, upstream, upstream_us, appliance FROM ringdns.queries WHERE name = '10001.stored.example.'";
    let expected = "1700006400001\t2023-11-15 00:00:00\t::ffff:192.0.2.7\tAAAA\tIN\tudp-socket\tmiss\tupstream\tNOERROR\t100\t11001\t\
                    udp://192.0.2.1:53\t1200\tbox-1";
    assert_eq!(scene.server.query(first), expected);
    let sum = |query: &str| scene.server.query(query);
    let days = "SELECT count() FROM (SELECT DISTINCT partition FROM system.parts WHERE database = 'ringdns' AND table = 'queries')";
    assert_eq!(sum(days), "2");
    assert_eq!(sum("SELECT sum(queries), sum(bytes) FROM ringdns.queries_per_minute"), "20000\t2000000");
    assert_eq!(sum("SELECT sum(queries), sum(misses) FROM ringdns.names_per_hour"), "20000\t10000");
    let median = "SELECT quantilesTDigestMerge(0.5, 0.9, 0.99, 0.999)(service)[1] BETWEEN 10500 AND 11500 FROM ringdns.latency_per_minute";
    assert_eq!(sum(median), "1");
    // A segment is one insertion.
    let segments = "SELECT uniqExact(segment) FROM ringdns.queries";
    assert_eq!(sum(segments), sums.segments_stored.to_string());
    assert_eq!(log.finish(), sums);
    // Nothing of the password where others read.
    let said = scene.server.process().output();
    assert!(said.contains("INSERT INTO") || !said.contains(PASSWORD), "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
}

/// What docs/query-log.md offers can be asked.
#[test]
fn the_queries_of_the_documentation_run() {
    let scene = Scene::set();
    let mut log = scene.log("documented");
    log.give(2_000);
    log.until_stored();
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/query-log.md");
    let page = fs::read_to_string(page).unwrap();
    let queries: Vec<_> =
        page.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(queries.len() >= 5, "{} queries", queries.len());
    for query in queries {
        scene.server.query(query.trim().trim_end_matches(';'));
    }
}

#[test]
fn a_server_that_was_killed_and_comes_back_has_every_row_once() {
    let mut scene = Scene::set();
    let mut log = scene.log("killed");
    log.give(6_000);
    log.until_stored();
    // In the middle of it, and again while what was spooled is being sent.
    for _ in 0..2 {
        log.give(9_000);
        scene.server.kill9();
        log.give(9_000);
        let failed = log.sums().attempts_failed;
        log.until("rows are spooled", |sums| sums.attempts_failed > failed && sums.in_hand == 0);
        scene.server.start_again();
    }
    let sums = log.until_stored();
    assert_eq!((sums.dropped(), sums.spooled, sums.spool_bytes), (0, 0, 0));
    assert_eq!(scene.rows(), (log.given, log.given));
    let summed = scene.server.query("SELECT sum(queries) FROM ringdns.queries_per_minute");
    assert!(summed.parse::<u64>().unwrap() <= log.given, "{summed}");
}

/// What was sent to a server that stands still may be stored when it goes on, though nobody waits for it any more.
#[test]
fn a_server_that_stood_still_has_every_row_once() {
    let scene = Scene::set();
    let mut log = scene.log("hung");
    log.give(6_000);
    log.until_stored();
    scene.server.process().freeze();
    log.give(6_000);
    log.until("a request is given up", |sums| sums.attempts_failed > 0);
    log.give(6_000);
    log.until("rows are spooled", |sums| sums.attempts_failed > 1 && sums.in_hand == 0);
    scene.server.process().signal(Signal::CONT);
    let sums = log.until_stored();
    assert_eq!((sums.dropped(), scene.rows()), (0, (log.given, log.given)));
    // The request that was given up was carried out, and known again.
    assert!(sums.segments_recognised > 0, "{sums:?}");
}

#[test]
fn a_server_that_refuses_gets_the_rows_when_it_does_not() {
    let scene = Scene::set();
    let password = scene.spool.path().join("password");
    fs::write(&password, "wrong").unwrap();
    let mut log =
        Log::start("refused", shipping(&scene.server, &scene.spool.path().join("spool"), &password));
    log.give(3_000);
    log.until("it is refused", |sums| sums.attempts_failed > 1 && sums.spooled == 3_000);
    // The right one, with the end of line that editors write.
    fs::copy(scene.server.password_file(), &password).unwrap();
    log.until_stored();
    assert_eq!(scene.rows(), (3_000, 3_000));
}

#[test]
fn tables_that_are_dropped_or_changed_are_seen() {
    let scene = Scene::set();
    let mut log = scene.log("tables");
    log.give(1_000);
    log.until_stored();
    scene.server.query("DROP TABLE ringdns.queries");
    log.give(1_000);
    log.until_stored();
    assert_eq!(scene.rows(), (1_000, 1_000));
    // A column that is missing is made again.
    scene.server.query("ALTER TABLE ringdns.queries DROP COLUMN upstream_us");
    log.give(1_000);
    log.until_stored();
    assert_eq!(scene.server.query("SELECT count() FROM ringdns.queries WHERE upstream_us = 1200"), "1000");
    // One of another type would be filled with something else: nothing is sent there.
    log.finish();
    scene.server.query("ALTER TABLE ringdns.queries MODIFY COLUMN answer_bytes Int16");
    let mut log = scene.log("changed");
    log.give(1_000);
    log.until("it is not sent", |sums| sums.attempts_failed > 1 && sums.spooled == 1_000);
    assert_eq!(scene.rows().0, 2_000);
    scene.server.query("ALTER TABLE ringdns.queries MODIFY COLUMN answer_bytes UInt16");
    log.until_stored();
    assert_eq!(scene.rows(), (3_000, 3_000));
}

/// 18.16 has no TTL of tables: days that are over are dropped as partitions.
#[test]
fn days_that_are_over_are_removed() {
    let scene = Scene::set();
    let mut log = scene.log("old");
    log.give(1_000);
    log.until_stored();
    log.finish();
    let mut shipping = scene.shipping();
    shipping.clickhouse.as_mut().unwrap().retention_days = 1;
    let mut log = Log::start("new", shipping);
    log.give(10);
    log.until_stored();
    assert_eq!(scene.rows(), (10, 10));
    assert_eq!(scene.server.query("SELECT sum(queries) FROM ringdns.names_per_hour"), "10");
}

#[test]
fn what_one_process_spooled_the_next_one_ships() {
    let mut scene = Scene::set();
    let mut log = scene.log("first");
    log.give(500);
    log.until_stored();
    scene.server.kill9();
    log.give(1_500);
    let sums = log.finish();
    assert_eq!((sums.stored, sums.spooled, sums.in_hand, sums.dropped()), (500, 1_500, 0, 0));
    scene.server.start_again();
    let mut log = scene.log("second");
    log.give(700);
    let sums = log.until_stored();
    assert_eq!((sums.found, sums.stored, scene.rows()), (1_500, 2_200, (2_700, 2_700)));
}

//----------- With ringdnsd ---------------------------------------------------

/// ringdnsd over kernel sockets on loopback, which logs to a folder, and more if `tables` say so.
fn ringdnsd(upstream: &Upstream, spool: &Path, tables: &str) -> (Ringdnsd, SocketAddr) {
    let host = Host::local();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port(&host)));
    let ringdnsd = Ringdnsd::start_from(&host, |socket| {
        format!(
            "[server]\nlisten = [\"{address}\"]\nworkers = 1\n[[upstream]]\naddress = \"{}\"\n\
             [cache]\nbytes_per_worker = \"4MiB\"\nhost_bytes = \"16MiB\"\n[control]\nsocket = {socket:?}\n\
             [query_log]\nenabled = true\nspool_dir = {spool:?}\nbatch_interval = \"200ms\"\n{tables}",
            upstream.address()
        )
    });
    (ringdnsd, address)
}

/// The counts of where rows are, once so many are in one place.
#[track_caller]
fn rows_in(place: &str, count: u64, ringdnsd: &Ringdnsd) -> Value {
    until(&format!("{count} rows are {place}"), || {
        let rows = ringdnsd.stats()["query_log"]["rows"].clone();
        (rows[place] == count).then_some(rows)
    })
}

#[test]
fn what_clients_ask_is_in_clickhouse() {
    let scene = Scene::set();
    let upstream = Upstream::answering(&Host::local());
    let clickhouse = format!(
        "[clickhouse]\nurl = \"{}\"\npassword_file = {:?}\n",
        scene.server.url(),
        scene.server.password_file()
    );
    let (mut ringdnsd, address) = ringdnsd(&upstream, scene.spool.path(), &clickhouse);
    let client = Client::of(&Host::local(), address);
    for _ in 0..2 {
        (0..100).for_each(|i| assert_eq!(client.ask(&Query::a(&format!("n{i}.example"))).rcode(), 0));
    }
    ask_over_tcp(&Host::local(), address, &[Query::a("n0.example")]);
    let rows = rows_in("stored", 201, &ringdnsd);
    assert_eq!((&rows["taken"], &rows["unaccounted"]), (&201.into(), &0.into()), "{rows:#}");
    let by = |columns: &str| {
        scene.server.query(&format!(
            "SELECT {columns}, count() FROM ringdns.queries GROUP BY {columns} ORDER BY {columns}"
        ))
    };
    assert_eq!(by("protocol, outcome"), "tcp\thit\t1\nudp-socket\thit\t100\nudp-socket\tmiss\t100");
    assert_eq!(by("tier, upstream != ''"), "core\t0\t100\nhost\t0\t1\nupstream\t1\t100");
    assert_eq!(
        scene.server.query("SELECT uniqExact(name), min(service_ns) > 0 FROM ringdns.queries"),
        "100\t1"
    );
    // The last ones are stored by the stop itself.
    client.ask(&Query::a("last.example"));
    ringdnsd.terminate();
    let segments = fs::read_dir(scene.spool.path()).unwrap().count();
    assert_eq!(
        (
            scene.server.query("SELECT count() FROM ringdns.queries WHERE name = 'last.example.'").as_str(),
            segments
        ),
        ("1", 1)
    );
}

#[test]
fn without_clickhouse_the_folder_is_the_log() {
    let spool = tempfile::tempdir().unwrap();
    let upstream = Upstream::answering(&Host::local());
    let (mut ringdnsd, address) = ringdnsd(&upstream, spool.path(), "");
    let client = Client::of(&Host::local(), address);
    for i in 0..20 {
        client.ask(&Query::a(&format!("n{}.example", i % 10)));
        if i == 9 {
            // Two segments at least.
            rows_in("spooled", 10, &ringdnsd);
        }
    }
    let rows = rows_in("spooled", 20, &ringdnsd);
    assert_eq!((&rows["taken"], &rows["unaccounted"]), (&20.into(), &0.into()), "{rows:#}");
    ringdnsd.terminate();
    let folder = spool.path().to_str().unwrap();
    let log = |more: &[&str]| ringdnsd.told(&[&["log", "--spool-dir", folder], more].concat());
    assert_eq!(log(&[]).lines().count(), 20);
    let lines = log(&["--name", "N3.example"]);
    let (first, second) = lines.trim_end().split_once('\n').unwrap();
    assert!(first.contains(" 127.0.0.1 n3.example. IN A udp-socket miss upstream NOERROR "), "{first}");
    assert!(second.contains(" 127.0.0.1 n3.example. IN A udp-socket hit core NOERROR "), "{second}");
    let json: Vec<Value> = log(&["--json", "--suffix", "example", "--since", "1h"])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((json.len(), &json[0]["type"], &json[19]["outcome"]), (20, &"A".into(), &"hit".into()));
    assert_eq!(
        (log(&["--client", "127.0.0.0/8"]).lines().count(), log(&["--client", "::1"]).as_str()),
        (20, "")
    );
    // Damage is told, and the rest is shown.
    let damaged = spool.path().join("00000000000000000001.zst");
    fs::write(&damaged, "no segment").unwrap();
    let output = ringdnsd.ctl(&["log", "--spool-dir", folder]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 20);
    assert!(String::from_utf8_lossy(&output.stderr).contains("00000000000000000001.zst"), "{output:?}");
}
