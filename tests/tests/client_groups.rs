//! Tests of what groups of clients have beside lists: the query log and rate limits of their own; and of
//! the names of clients in the log.

use ringdns_testkit::{
    Client, Host, Process, Query, Ringdnsd, Say, Settings, Upstream, ask_over_tcp, free_address, sums, until,
};
use serde_json::Value;
use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

const ADULT: [u8; 4] = [127, 0, 0, 1];
const KID: [u8; 4] = [127, 0, 20, 7];
const GUEST: [u8; 4] = [127, 0, 30, 7];
const PTR: u16 = 12;

/// A ringdnsd on loopback, an upstream that knows every name, and one that knows the name of every address.
struct Scene {
    folder: tempfile::TempDir,
    address: SocketAddr,
    upstream: Upstream,
    reverse: Upstream,
    host: Host,
}

impl Scene {
    fn set() -> Self {
        let host = Host::local();
        let upstream = Upstream::local(|seen| vec![Say::Send(seen.query.address([192, 0, 2, 1]))]);
        // A pointer to the question's name, type, class, TTL, and the data.
        let head = [0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 60, 0, 11];
        let record = [&head[..], b"\x05Guest\x03lan\0"].concat();
        let reverse = Upstream::local(move |seen| {
            let records = if seen.query.qtype() == PTR { vec![record.clone()] } else { Vec::new() };
            vec![Say::Send(seen.query.response(0, &records))]
        });
        Scene { folder: tempfile::tempdir().unwrap(), address: free_address(&host), upstream, reverse, host }
    }

    fn settings(&self, tables: &str) -> Settings {
        let tables = format!(
            "[[client_group]]\nname = \"guests\"\nclients = [\"127.0.30.0/24\"]\n\
             [[upstream]]\naddress = \"{}\"\nzones = [\"127.in-addr.arpa\"]\n{tables}",
            self.reverse.address()
        );
        Settings { tables, ..Settings::loopback(self.address, self.upstream.address()) }
    }

    fn start(&self, tables: &str) -> Ringdnsd {
        Ringdnsd::start_from(&self.host, |socket| self.settings(tables).text(socket))
    }

    fn client(&self, address: [u8; 4]) -> Client {
        Client::from_address(&self.host, IpAddr::from(address), self.address)
    }

    fn ask(&self, client: [u8; 4], name: &str) {
        assert_eq!(self.client(client).ask(&Query::a(name)).rcode(), 0);
    }

    /// Returns the rows that `ringctl tap` shows of what `ask` asks.
    fn rows(&self, ringdnsd: &Ringdnsd, count: usize, ask: impl Fn()) -> Vec<Value> {
        let mut command = ringdnsd.ctl_command();
        command.args(["tap", "--count", &count.to_string()]);
        let mut tap = Process::spawn("ringctl tap", command);
        until("somebody listens", || (ringdnsd.stat("/query_log/taps") > 0).then_some(()));
        ask();
        assert!(tap.wait_for_exit(Duration::from_secs(30)).success(), "{}", tap.output());
        tap.output().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn group(name: &str, address: [u8; 4], more: &str) -> String {
    let [a, b, c, _] = address;
    format!("[[client_group]]\nname = {name:?}\nclients = [\"{a}.{b}.{c}.0/24\"]\n{more}\n")
}

const LOG: &str = "[query_log]\nenabled = true\n";

#[test]
fn a_group_is_logged_or_not_from_a_reload_on() {
    let scene = Scene::set();
    let kids = |log: bool| group("kids", KID, &format!("log = {log}")) + &group("all", ADULT, "");
    let ringdnsd = scene.start(&(LOG.to_owned() + &kids(false)));
    let ask = || {
        scene.ask(KID, "kid.example");
        scene.ask(ADULT, "adult.example");
        ask_over_tcp(&scene.host, scene.address, &[Query::a("tcp.example")]);
    };
    let seen = |rows: Vec<Value>| {
        let mut names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    let of_tap = |count: usize| seen(scene.rows(&ringdnsd, count, ask));
    assert_eq!(of_tap(2), ["adult.example.", "tcp.example."]);
    let stats = until("the records are collected", || {
        let stats = ringdnsd.stats();
        (stats["query_log"]["in_hand"] == 0 && stats["query_log"]["recorded"] == 3).then_some(stats)
    });
    assert_eq!((&stats["query_log"]["unlogged"], &stats["query_log"]["handed_on"]), (&1.into(), &0.into()));
    sums::records_close(&stats);
    // The other way round: over TCP, clients of the tests have the address of the adults.
    let swapped = group("kids", KID, "") + &group("all", ADULT, "log = false");
    ringdnsd.configure(|socket| scene.settings(&(LOG.to_owned() + &swapped)).text(socket));
    assert!(ringdnsd.told(&["reload"]).contains("[client_group] is in effect"));
    assert_eq!(of_tap(1), ["kid.example."]);
    until("the others are counted", || (ringdnsd.stat("/query_log/unlogged") == 3).then_some(()));
    let (_, metrics) = ringdnsd.get("/metrics").unwrap();
    assert!(metrics.contains("ringdns_query_log_unlogged_total 3\n"), "{metrics}");
}

#[test]
fn a_group_has_a_rate_limit_of_its_own() {
    let scene = Scene::set();
    let tables = "[rate_limit]\nper_second = 20\nslip = 1\n".to_owned()
        + &group("free", KID, "per_second = 0")
        + &group("busy", ADULT, "per_second = 20\nburst = 1000");
    let ringdnsd = scene.start(&tables);
    let answered = |address: [u8; 4]| {
        let client = scene.client(address);
        let ask = |_: &usize| !client.ask(&Query::a("www.example")).is_truncated();
        (0..2_000).filter(ask).count()
    };
    assert_eq!(answered(KID), 2_000);
    // A burst, and what was due again meanwhile. Hits are counted by sampling until the limit is reached.
    let (busy, guest) = (answered(ADULT), answered(GUEST));
    assert!((900..1_500).contains(&busy) && (300..800).contains(&guest), "{busy} {guest}");
    ringdnsd
        .configure(|socket| scene.settings(&tables.replace("per_second = 0", "per_second = 1")).text(socket));
    ringdnsd.told(&["reload"]);
    until("the limit is in effect", || (answered(KID) < 2_000).then_some(()));
}

#[test]
fn rows_name_clients() {
    let scene = Scene::set();
    let leases = scene.folder.path().join("leases");
    fs::write(&leases, "0 02:00:00:00:00:01 127.0.0.1 Desk *\n").unwrap();
    let tables = format!(
        "{LOG}[client_names]\nlease_files = [{leases:?}]\nptr = true\nptr_clients = [\"127.0.30.0/24\"]\n"
    );
    let ringdnsd = scene.start(&tables);
    let name_of = |client: [u8; 4]| {
        let rows = scene.rows(&ringdnsd, 1, || scene.ask(client, "www.example"));
        rows[0]["client_name"].clone()
    };
    assert_eq!([name_of(ADULT), name_of(KID)], [Value::from("desk"), Value::Null]);
    until("the lookup is done", || (name_of(GUEST) == "guest.lan").then_some(()));
    assert_eq!(ringdnsd.stat("/query_log/client_names/ptr_asked"), 1);
    // The file is followed.
    let part = scene.folder.path().join("part");
    fs::write(&part, "0 02:00:00:00:00:01 127.0.20.7 tablet *\n\0\n").unwrap();
    fs::rename(part, &leases).unwrap();
    until("the file is read", || (name_of(KID) == "tablet").then_some(()));
    assert_eq!(name_of(ADULT), Value::Null);
    let (_, metrics) = ringdnsd.get("/metrics").unwrap();
    for line in ["ringdns_client_names_of_files 1\n", "ringdns_client_names_lines_skipped_total 1\n"] {
        assert!(metrics.contains(line), "{metrics}");
    }
}
