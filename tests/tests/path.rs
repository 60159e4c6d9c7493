//! Tests of a packet's path: real clients on one host, ringdnsd on AF_XDP on the other, and
//! counters that prove the path.

use std::io::Write;
use std::time::Duration;

use ringdns_testkit::{
    Client, DNS_V4, DNS_V6, Knot, Lab, LabOptions, Query, Ringdnsd, Settings, Zone, ask_over_tcp, kdig,
    popular_names,
    sums::{count, queries_close},
};
use serde_json::Value;
use tempfile::NamedTempFile;

/// Number of names that the upstream of these tests knows, besides those of [`Zone::example`].
const NAMES: usize = 2000;

fn knot(lab: &Lab, names: &[String]) -> Knot {
    Knot::upstream(lab.server(), &[Zone::root_of(names, 3600), Zone::example()])
}

/// Writes the names in the format of dnsperf and kxdpgun.
fn query_file(names: &[String]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    names.iter().for_each(|name| writeln!(file, "{name} A").unwrap());
    file.flush().unwrap();
    file
}

/// Returns the number before or after `label` in the output of a load generator.
#[track_caller]
fn number(said: &str, label: &str) -> u64 {
    let line =
        said.lines().find(|line| line.contains(label)).unwrap_or_else(|| panic!("no {label} in {said}"));
    let (before, after) = line.split_once(label).unwrap();
    let digits = |text: &str| text.split_whitespace().find_map(|word| word.parse().ok());
    digits(after).or_else(|| digits(before)).unwrap_or_else(|| panic!("no number in {line}"))
}

/// Checks that every packet for ringdns took the fast path and had one outcome, and that none was
/// lost.
#[track_caller]
fn took_the_fast_path(stats: &Value) {
    let workers = stats["workers"].as_array().unwrap();
    let (behind, workers) = workers.split_last().expect("a worker behind AF_XDP");
    let received: u64 = workers.iter().map(|worker| count(&worker["received"])).sum();
    // `rx_dropped` includes packets dropped because the fill ring was empty.
    let lost: u64 = workers
        .iter()
        .map(|worker| &worker["port"])
        .map(|port| count(&port["rx_dropped"]) + count(&port["rx_ring_full"]))
        .sum();
    assert_eq!(count(&stats["xdp"]["redirected"]), received + lost, "{stats:#}");
    assert_eq!(behind["received"], 0, "a query went through the kernel: {stats:#}");
    queries_close(&stats["total"]);
}

#[test]
fn every_client_is_served_by_af_xdp() {
    let Some(lab) = Lab::up() else { return };
    let names = popular_names(NAMES);
    let knot = knot(&lab, &names);
    let ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(knot.address()));
    let status = ringdnsd.told(&["status"]);
    assert!(status.contains("AF_XDP on vs") && status.contains("answering queries"), "{status}");

    // kdig and dig, each a miss and then a hit.
    for server in [DNS_V4, DNS_V6] {
        for number in [0, 1, NAMES - 1] {
            let address = Zone::address(number).to_string();
            assert_eq!(kdig(lab.client(), server, &[&names[number], "A"]), address);
            let at = format!("@{}", server.ip());
            let dig = lab.client().run("dig", ["+short", "+tries=1", &at, &names[number], "A"]);
            assert_eq!(dig.trim_end(), address);
        }
    }
    let asked = ringdnsd.settled();
    took_the_fast_path(&asked);
    assert_eq!(asked["total"]["received"], 12, "{asked:#}");
    assert_eq!((&asked["total"]["punted"], &asked["total"]["hit"]), (&3.into(), &9.into()), "{asked:#}");

    // dnsperf: every name, ten times.
    let file = query_file(&names);
    let path = file.path().to_str().unwrap();
    let said =
        lab.client().run("dnsperf", ["-s", "10.53.0.2", "-d", path, "-n", "10", "-q", "200", "-c", "4"]);
    assert_eq!(number(&said, "Queries completed:"), 20_000, "{said}");
    assert_eq!(number(&said, "Queries lost:"), 0, "{said}");
    assert!(said.contains("NOERROR 20000 (100.00%)"), "{said}");
    took_the_fast_path(&ringdnsd.settled());

    // kxdpgun, in native mode on the client's end of the cable.
    let before = ringdnsd.stat("/total/hit");
    let arguments = ["-t", "1", "-Q", "20000", "-i", path, "-I", "vc", "10.53.0.2"];
    let said = lab.client().run("kxdpgun", arguments);
    let (sent, replies) = (number(&said, "total queries:"), number(&said, "total replies:"));
    assert!(sent >= 10_000 && replies * 100 >= sent * 99, "{said}");
    let stats = ringdnsd.settled();
    took_the_fast_path(&stats);
    assert!(count(&stats["total"]["hit"]) - before >= replies, "{stats:#}");
    // One query upstream for each name, however often it was asked for.
    assert_eq!(stats["upstreams"][0]["counters"]["queries_udp"], NAMES, "{stats:#}");
}

#[test]
fn tcp_goes_through_the_kernel_to_the_same_answers() {
    let Some(lab) = Lab::up() else { return };
    let names = popular_names(40);
    let knot = knot(&lab, &names);
    let ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(knot.address()));
    for server in [DNS_V4, DNS_V6] {
        assert_eq!(kdig(lab.client(), server, &["+tcp", &names[0], "A"]), Zone::address(0).to_string());
        // Twenty queries at once on one connection: ten names that are cached after the first
        // round, ten new ones.
        let first = if server == DNS_V4 { 0 } else { 20 };
        let query = |number: usize| Query::a(&names[number]).id(number as u16);
        let queries: Vec<Query> = (first..first + 20).map(query).collect();
        let mut replies = ask_over_tcp(lab.client(), server, &queries);
        replies.sort_by_key(|reply| reply.id());
        for (reply, query) in replies.iter().zip(&queries) {
            assert!(reply.id() == query.id && reply.repeats(query), "{query:?}: {reply:?}");
            assert_eq!(reply.addresses(), [Zone::address(query.id.into())]);
        }
    }
    let stats = ringdnsd.settled();
    assert_eq!((&stats["listeners"]["queries"], &stats["listeners"]["answered"]), (&42.into(), &42.into()));
    assert_eq!(stats["listeners"]["connections"], 4);
    assert_eq!(stats["total"]["received"], 0, "TCP is the kernel's: {stats:#}");
    // An answer resolved over TCP is cached for UDP.
    assert_eq!(kdig(lab.client(), DNS_V4, &[&names[39], "A"]), Zone::address(39).to_string());
    assert_eq!(ringdnsd.stat("/upstreams/0/counters/queries_udp"), 40);
}

#[test]
fn a_tagged_cable_is_served_in_its_vlan() {
    let options = LabOptions { vlan: Some(53), ..LabOptions::default() };
    let Some(lab) = Lab::with(options) else { return };
    let names = popular_names(10);
    let knot = knot(&lab, &names);
    let mut settings = Settings::xdp(knot.address());
    // The lab has no VLAN device.
    settings.server += "\nvlans = [53]";
    let ringdnsd = Ringdnsd::start(lab.server(), &settings);
    for server in [DNS_V4, DNS_V6] {
        for (number, name) in names.iter().enumerate() {
            assert_eq!(kdig(lab.client(), server, &[name, "A"]), Zone::address(number).to_string());
        }
        assert_eq!(kdig(lab.client(), server, &["+tcp", "www.example", "AAAA"]), "2001:db8::1");
    }
    let stats = ringdnsd.settled();
    took_the_fast_path(&stats);
    assert_eq!((&stats["total"]["hit"], &stats["total"]["punted"]), (&10.into(), &10.into()), "{stats:#}");
}

#[test]
fn each_queue_has_a_worker_and_each_worker_its_clients() {
    let Some(lab) = Lab::with(LabOptions { queues: 2, ..LabOptions::default() }) else { return };
    let names = popular_names(10);
    let knot = knot(&lab, &names);
    let ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(knot.address()));
    let clients: Vec<Client> = (0..64).map(|_| Client::of(lab.client(), DNS_V4)).collect();
    for (id, client) in clients.iter().enumerate() {
        let reply = client.ask(&Query::a(&names[id % 10]).id(id as u16));
        assert_eq!(reply.addresses(), [Zone::address(id % 10)]);
    }
    let stats = ringdnsd.settled();
    took_the_fast_path(&stats);
    let received: Vec<u64> = (0..2).map(|worker| count(&stats["workers"][worker]["received"])).collect();
    assert!(received[0] > 0 && received[1] > 0 && received[0] + received[1] == 64, "{received:?}");
    // An answer that one worker cached costs the other a punt, and no query upstream.
    assert_eq!(stats["upstreams"][0]["counters"]["queries_udp"], 10, "{stats:#}");
}

#[test]
fn kernel_sockets_serve_the_same_without_an_interface() {
    let Some(lab) = Lab::up() else { return };
    let names = popular_names(NAMES);
    let knot = knot(&lab, &names);
    let settings = Settings { server: "workers = 2".to_owned(), ..Settings::sockets(knot.address()) };
    let ringdnsd = Ringdnsd::start(lab.server(), &settings);
    assert!(ringdnsd.told(&["status"]).contains("kernel sockets"));
    for server in [DNS_V4, DNS_V6] {
        assert_eq!(kdig(lab.client(), server, &[&names[7], "A"]), Zone::address(7).to_string());
        assert_eq!(kdig(lab.client(), server, &["+tcp", "www.example", "A"]), "192.0.2.1");
        let reply =
            Client::of(lab.client(), server).ask_within(&Query::a("nothing.example"), Duration::from_secs(5));
        assert_eq!(reply.unwrap().rcode(), 3);
    }
    let file = query_file(&names);
    let path = file.path().to_str().unwrap();
    let said = lab.client().run("dnsperf", ["-s", "fd53::2", "-d", path, "-n", "10", "-q", "200", "-c", "4"]);
    assert_eq!((number(&said, "Queries completed:"), number(&said, "Queries lost:")), (20_000, 0), "{said}");
    let stats = ringdnsd.settled();
    queries_close(&stats["total"]);
    assert_eq!(stats["xdp"], Value::Null);
    assert_eq!(stats["total"]["received"], 20_004, "{stats:#}");
}
