//! Tests of the query log, from real clients to rows in `ringctl tap`.

use ringdns_testkit::{
    Client, DNS_V4, DNS_V6, Host, Lab, LabOptions, Process, Query, Ringdnsd, Settings, Upstream,
    ask_over_tcp, free_address,
    sums::{self, count},
    until,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, io::Write, net::Ipv4Addr, process::Command, time::Duration};
use tempfile::NamedTempFile;

const PATIENCE: Duration = Duration::from_secs(30);

fn logging(settings: Settings, log: &str) -> Settings {
    let tables = format!("{}\n[query_log]\nenabled = true\n{log}\n", settings.tables);
    Settings { tables, ..settings }
}

/// Starts a tap for `count` rows.
fn tap(ringdnsd: &Ringdnsd, count: usize) -> Process {
    tap_with(ringdnsd, count, &[])
}

/// Starts a tap for `count` rows with more options.
fn tap_with(ringdnsd: &Ringdnsd, count: usize, more: &[&str]) -> Process {
    let mut command: Command = ringdnsd.ctl_command();
    command.args(["tap", "--count", &count.to_string()]).args(more);
    let process = Process::spawn("ringctl tap", command);
    until("somebody listens", || (ringdnsd.stat("/query_log/taps") > 0).then_some(()));
    process
}

/// Waits for the tap to end, and returns the rows.
fn rows(mut tap: Process) -> Vec<Value> {
    assert!(tap.wait_for_exit(PATIENCE).success(), "{}", tap.output());
    tap.output().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until no record is in flight, and returns the statistics, whose sums close.
fn settled(ringdnsd: &Ringdnsd, recorded: u64) -> Value {
    let stats = until("no record is in flight", || {
        let stats = ringdnsd.stats();
        (stats["query_log"]["in_hand"] == 0 && stats["query_log"]["recorded"] == recorded).then_some(stats)
    });
    sums::records_close(&stats);
    assert_eq!(sums::dropped(&stats["query_log"]), 0, "{stats:#}");
    stats
}

#[test]
fn every_answer_has_its_row() {
    for vlan in [None, Some(53)] {
        let Some(lab) = Lab::with(LabOptions { vlan, ..LabOptions::default() }) else { return };
        let upstream = Upstream::answering(lab.server());
        let mut settings = Settings::xdp(upstream.address());
        settings.server += &format!("\nvlans = {:?}", Vec::from_iter(vlan));
        let ringdnsd = Ringdnsd::start(lab.server(), &logging(settings, ""));
        let tap = tap(&ringdnsd, 2 * 110);
        for server in [DNS_V4, DNS_V6] {
            let (client, family) = (Client::of(lab.client(), server), if server.is_ipv4() { 4 } else { 6 });
            for number in 0..100 {
                // Ten names, asked for ten times each.
                let name = format!("Www{}.V{family}.Example", number % 10);
                assert_eq!(client.ask(&Query::a(&name)).addresses(), [Ipv4Addr::new(192, 0, 2, 1)]);
            }
            let chaos = Query { qclass: 3, ..Query::a("id.server") };
            assert_eq!(client.ask(&chaos).rcode(), 5);
            let queries: Vec<Query> =
                (0..9).map(|id| Query::a(&format!("www{id}.v{family}.example")).id(id)).collect();
            assert_eq!(ask_over_tcp(lab.client(), server, &queries).len(), 9);
        }
        let rows = rows(tap);
        assert_eq!(rows.len(), 220);
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for row in &rows {
            let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
            let family = if text("client").contains(':') { "v6" } else { "v4" };
            let kind = ["protocol", "outcome", "tier", "rcode", "class", "upstream"].map(text).join(" ");
            *kinds.entry(format!("{family} {kind}")).or_default() += 1;
            assert!(["10.53.0.1", "fd53::1"].contains(&text("client").as_str()), "{row}");
            assert!(count(&row["service_ns"]) > 0 && row["type"] == "A", "{row}");
            if text("outcome") == "rejected" {
                assert_eq!((text("name"), &row["answer_bytes"]), ("id.server.".into(), &27.into()), "{row}");
                continue;
            }
            let (first, rest) = row["name"].as_str().unwrap().split_once('.').unwrap();
            assert!(first.starts_with("www") && rest == format!("{family}.example."), "{row}");
            // Header, question, and an address behind a compression pointer.
            assert_eq!(row["answer_bytes"], 12 + 17 + 4 + 16, "{row}");
            assert_eq!(text("outcome") == "miss", count(&row["upstream_us"]) > 0, "{row}");
        }
        let asked = format!("udp://{}", upstream.address());
        let mut expected = BTreeMap::new();
        for family in ["v4", "v6"] {
            expected.insert(format!("{family} udp miss upstream NOERROR IN {asked}"), 10);
            expected.insert(format!("{family} udp hit core NOERROR IN -"), 90);
            expected.insert(format!("{family} udp rejected none REFUSED CH -"), 1);
            expected.insert(format!("{family} tcp hit host NOERROR IN -"), 9);
        }
        assert_eq!(kinds, expected);
        let stats = settled(&ringdnsd, 220);
        assert_eq!(stats["total"]["log_recorded"], 202, "{stats:#}");
        assert_eq!(stats["query_log"]["counters"]["tapped"], 220, "{stats:#}");
    }
}

#[test]
fn kernel_sockets_log_the_same_and_what_is_excluded_is_not() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let log = "exclude_names = [\"corp.example\"]\nexclude_clients = [\"fd53::/64\"]\nprivacy = \"truncate\"";
    let ringdnsd = Ringdnsd::start(lab.server(), &logging(Settings::sockets(upstream.address()), log));
    let tap = tap(&ringdnsd, 4);
    let [v4, v6] = [DNS_V4, DNS_V6].map(|server| Client::of(lab.client(), server));
    for name in ["www.example", "corp.example", "www.corp.example", "notcorp.example"] {
        for client in [&v4, &v6, &v4] {
            assert_eq!(client.ask(&Query::a(name)).addresses(), [Ipv4Addr::new(192, 0, 2, 1)]);
        }
    }
    let rows: Vec<_> = rows(tap)
        .iter()
        .map(|row| json!([row["client"], row["name"], row["outcome"], row["protocol"]]))
        .collect();
    let row = |name: &str, outcome: &str| json!(["10.53.0.0", name, outcome, "udp-socket"]);
    let mut expected = Vec::new();
    for name in ["www.example.", "notcorp.example."] {
        expected.extend([row(name, "miss"), row(name, "hit")]);
    }
    assert_eq!(rows, expected);
    let stats = settled(&ringdnsd, 4);
    assert_eq!(stats["query_log"]["excluded"], 8, "{stats:#}");
}

#[test]
fn a_rush_is_recorded_to_the_last_answer() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let ringdnsd = Ringdnsd::start(lab.server(), &logging(Settings::xdp(upstream.address()), ""));
    let mut file = NamedTempFile::new().unwrap();
    (0..100).for_each(|number| writeln!(file, "name{number}.example A").unwrap());
    let path = file.path().to_str().unwrap();
    // The worker's batches hold more rows than these, however late they are collected.
    let said = lab.client().run("dnsperf", ["-s", "10.53.0.2", "-d", path, "-n", "200", "-q", "100"]);
    assert!(said.contains("NOERROR 20000 (100.00%)"), "{said}");
    let stats = settled(&ringdnsd, 20_000);
    assert_eq!(stats["query_log"]["unwanted"], 20_000, "{stats:#}");
}

#[test]
fn nothing_is_logged_unless_it_is_asked_for() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let ringdnsd = Ringdnsd::start(lab.server(), &Settings::sockets(upstream.address()));
    Client::of(lab.client(), DNS_V4).ask(&Query::a("www.example"));
    let output = ringdnsd.ctl(&["tap"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("query_log.enabled"), "{output:?}");
    let stats = ringdnsd.stats();
    assert_eq!((&stats["query_log"], &stats["total"]["log_recorded"]), (&Value::Null, &0.into()));
}

#[test]
fn a_tap_shows_what_its_filter_passes_as_json_or_text() {
    let host = Host::local();
    let (upstream, address) = (Upstream::answering(&host), free_address(&host));
    let ringdnsd = Ringdnsd::start(&host, &logging(Settings::loopback(address, upstream.address()), ""));
    let client = Client::of(&host, address);
    let mut id = 0;
    let mut shown = |options: &[&str]| {
        let mut tap = tap_with(&ringdnsd, 1, options);
        id += 1;
        client.ask(&Query::a(&format!("first{id}.example.net")));
        client.ask(&Query { qclass: 3, ..Query::a("id.server") });
        client.ask(&Query::a(&format!("last{id}.example.com")));
        assert!(tap.wait_for_exit(PATIENCE).success(), "{}", tap.output());
        tap.output()
    };
    let first = shown(&[]);
    assert!(first.contains(r#""name":"first1.example.net.""#), "{first}");
    let suffix = shown(&["--suffix", "example.com", "-f", "text"]);
    assert!(
        suffix.contains(" 127.0.0.1 last2.example.com. IN A udp-socket miss upstream NOERROR"),
        "{suffix}"
    );
    let code = shown(&["--rcode", "refused", "--outcome", "rejected", "--client", "127.0.0.0/8"]);
    assert!(code.contains(r#""outcome":"rejected""#), "{code}");
    let refused = ringdnsd.ctl(&["tap", "--type", "NONE"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no record type"), "{refused:?}");
}

#[test]
fn names_of_clients_change_with_a_reload() {
    let host = Host::local();
    let (upstream, address) = (Upstream::answering(&host), free_address(&host));
    let mut hosts = NamedTempFile::new().unwrap();
    writeln!(hosts, "127.0.0.1 laptop.lan").unwrap();
    let settings = |names: &str| {
        let tables = format!("[local]\nhosts_files = [{:?}]\n{names}", hosts.path());
        logging(Settings { tables, ..Settings::loopback(address, upstream.address()) }, "")
    };
    let ringdnsd = Ringdnsd::start_from(&host, |socket| settings("").text(socket));
    let client = Client::of(&host, address);
    let name_of_row = || {
        let tap = tap(&ringdnsd, 1);
        client.ask(&Query::a("www.example"));
        rows(tap).remove(0)["client_name"].clone()
    };
    let without = name_of_row();
    assert_ne!(without, json!("laptop.lan"));
    ringdnsd.configure(|socket| settings("[client_names]\nhosts_files = true\n").text(socket));
    let told = ringdnsd.told(&["reload"]);
    assert!(told.contains("[client_names] is in effect"), "{told}");
    assert_eq!(name_of_row(), json!("laptop.lan"));
    ringdnsd.configure(|socket| settings("").text(socket));
    ringdnsd.told(&["reload"]);
    assert_eq!(name_of_row(), without);
}
