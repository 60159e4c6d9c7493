//! Tests of the query log, from clients of ringdnsd to rows in ClickHouse or in a directory.

use super::Scene;
use ringdns_testkit::{
    Client, Engine, Host, Query, Ringdnsd, Settings, Upstream, ask_over_tcp, free_address, until,
};
use serde_json::Value;
use std::{
    fs,
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

/// Starts ringdnsd over kernel sockets on loopback. It logs to a directory, and to ClickHouse if
/// `tables` configures it.
fn ringdnsd(upstream: &Upstream, spool: &Path, tables: &str) -> (Ringdnsd, SocketAddr) {
    let host = Host::local();
    let address = free_address(&host);
    let mut settings = Settings::loopback(address, upstream.address());
    settings.tables += &format!(
        "\n[query_log]\nenabled = true\nspool_dir = {spool:?}\nbatch_interval = \"200ms\"\n{tables}"
    );
    (Ringdnsd::start(&host, &settings), address)
}

/// Waits until `place` holds this many rows, and returns the statistics.
#[track_caller]
fn rows_in(place: &str, count: u64, ringdnsd: &Ringdnsd) -> Value {
    until(&format!("{count} rows are {place}"), || {
        let rows = ringdnsd.stats()["query_log"]["rows"].clone();
        (rows[place] == count).then_some(rows)
    })
}

#[test]
fn what_clients_ask_is_in_clickhouse() {
    let scene = Scene::set(Engine::Current);
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
    // The last rows are stored while ringdnsd stops.
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
    // Damage is reported, and the other rows are shown.
    let damaged = spool.path().join("00000000000000000001.zst");
    fs::write(&damaged, "no segment").unwrap();
    let output = ringdnsd.ctl(&["log", "--spool-dir", folder]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 20);
    assert!(String::from_utf8_lossy(&output.stderr).contains("00000000000000000001.zst"), "{output:?}");
}

/// Checks rows at a stop: workers answer until the last moment, and hold the rows of a tenth of a
/// second.
#[test]
fn what_is_answered_while_it_stops_is_in_the_log() {
    let spool = tempfile::tempdir().unwrap();
    let upstream = Upstream::answering(&Host::local());
    let (mut ringdnsd, address) = ringdnsd(&upstream, spool.path(), "");
    assert_eq!(Client::of(&Host::local(), address).ask(&Query::a("hot.example")).rcode(), 0);
    let (over, counted) = (AtomicBool::new(false), AtomicU64::new(1));
    thread::scope(|scope| {
        scope.spawn(|| ask_on(address, &over, &counted));
        until("thousands are answered", || (counted.load(Ordering::Relaxed) > 5_000).then_some(()));
        ringdnsd.terminate();
        over.store(true, Ordering::Release);
    });
    let answers = counted.load(Ordering::Relaxed);
    let rows = ringdnsd.told(&["log", "--spool-dir", spool.path().to_str().unwrap()]).lines().count() as u64;
    assert_eq!(rows, answers, "{}", ringdnsd.process().output());
    let said = format!(
        "the query log is closed collected={rows} unwanted=0 dropped=0 stored=0 spooled={rows} in_hand=0"
    );
    let output = ringdnsd.process().output();
    assert!(output.contains(&said), "{output}");
}

/// Keeps asking for one name until `over`, and counts the answers.
fn ask_on(address: SocketAddr, over: &AtomicBool, counted: &AtomicU64) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let query = Query::a("hot.example").wire();
    let mut buffer = [0; 512];
    // A query sent after the socket is closed is refused, which the next call reports.
    (0..16).for_each(|_| drop(socket.send(&query)));
    loop {
        match socket.recv(&mut buffer) {
            Ok(_) => {
                counted.fetch_add(1, Ordering::Relaxed);
                drop(socket.send(&query));
            }
            Err(error) if over.load(Ordering::Acquire) => {
                if error.kind() == ErrorKind::WouldBlock {
                    return;
                }
            }
            Err(_) => (0..16).for_each(|_| drop(socket.send(&query))),
        }
    }
}
