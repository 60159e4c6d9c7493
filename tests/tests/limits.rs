//! Tests of the rate limit: a client that floods, others beside it, TCP, reload, and bans in XDP.

use ringdns_testkit::{
    Client, DNS_V4, Host, Lab, Query, Reply, Ringdnsd, Say, Settings, Upstream, ask_over_tcp, free_address,
    until,
};
use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

/// Queries of a flood: far more than a burst and the limit of the seconds that it takes.
const FLOOD: usize = 4_000;
/// Queries that a client may ask at once, and in a second.
const BURST: usize = 400;
const PER_SECOND: usize = 200;

/// Result of sending many queries.
#[derive(Debug, Default)]
struct Sent {
    answered: usize,
    truncated: usize,
}

/// Sends queries for one name, a few at a time so that no buffer overflows, and collects the
/// replies.
fn flood(socket: &UdpSocket, name: &str, queries: usize) -> Sent {
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut sent = Sent::default();
    let mut buffer = [0; 2048];
    for first in (0..queries).step_by(32) {
        for number in first..queries.min(first + 32) {
            socket.send(&Query::a(name).id(number as u16).wire()).unwrap();
        }
        for _ in 0..32 {
            let Ok(len) = socket.recv(&mut buffer) else { break };
            let reply = Reply(buffer[..len].to_vec());
            assert_eq!(reply.rcode(), 0);
            match reply.is_truncated() {
                true => sent.truncated += 1,
                false => sent.answered += usize::from(reply.answers() == 1),
            }
        }
    }
    sent
}

/// A ringdnsd on loopback, and an upstream that knows every name.
struct Scene {
    host: Host,
    address: SocketAddr,
    upstream: Upstream,
}

impl Scene {
    fn set() -> Self {
        let host = Host::local();
        let upstream = Upstream::local(|seen| vec![Say::Send(seen.query.address([192, 0, 2, 1]))]);
        let address = free_address(&host);
        Scene { host, address, upstream }
    }

    fn settings(&self, tables: &str) -> Settings {
        Settings { tables: tables.into(), ..Settings::loopback(self.address, self.upstream.address()) }
    }

    fn start(&self, tables: &str) -> Ringdnsd {
        Ringdnsd::start_from(&self.host, |socket| self.settings(tables).text(socket))
    }

    /// Returns a client of its own address.
    fn client(&self, last: u8) -> UdpSocket {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, last), 0)).unwrap();
        socket.connect(self.address).unwrap();
        socket
    }
}

fn limited(ringdnsd: &Ringdnsd, action: &str) -> usize {
    let (status, metrics) = ringdnsd.get("/metrics").unwrap();
    assert_eq!(status, 200);
    let name = format!("ringdns_rate_limited_total{{action=\"{action}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
    value.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

/// The flood gets its burst, then one TC=1 for each two queries; another client gets every answer,
/// and TCP is not limited.
#[test]
fn a_flood_is_limited_and_its_neighbours_are_not() {
    let scene = Scene::set();
    let ringdnsd = scene.start("[rate_limit]\nper_second = 200\n");
    let (loud, quiet) = (scene.client(2), scene.client(3));
    assert_eq!(flood(&quiet, "www.example", 1).answered, 1, "now it is cached");
    let got = flood(&loud, "www.example", FLOOD);
    let beside = flood(&quiet, "www.example", 100);
    assert_eq!((beside.answered, beside.truncated), (100, 0));
    // Each time-out of a burst without all replies is 50 ms of further queries.
    assert!((BURST / 2..FLOOD / 2 + BURST).contains(&got.answered), "{got:?}");
    assert!(got.truncated > 100, "{got:?}");
    let stats = ringdnsd.settled();
    assert_eq!(stats["total"]["received"].as_u64(), Some(1 + FLOOD as u64 + 100));
    let (drops, slips) = (limited(&ringdnsd, "drop"), limited(&ringdnsd, "slip"));
    assert_eq!((slips, drops + slips), (got.truncated, FLOOD - got.answered), "{got:?}");
    assert!(drops.abs_diff(slips) <= 1, "{drops} dropped, {slips} with TC=1");

    let over_tcp = vec![Query::a("www.example"); 50];
    let client = SocketAddr::from(([127, 0, 0, 1], 0));
    let socket = UdpSocket::bind(client).unwrap();
    socket.connect(scene.address).unwrap();
    flood(&socket, "www.example", FLOOD);
    let replies = ask_over_tcp(&scene.host, scene.address, &over_tcp);
    assert!(replies.iter().all(|reply| reply.answers() == 1), "clients over TCP have proven their address");
}

/// Misses are limited too: the upstream gets no more than the limit.
#[test]
fn a_flood_of_random_names_stays_away_from_upstreams() {
    let scene = Scene::set();
    let ringdnsd = scene.start("[rate_limit]\nper_second = 200\nslip = 0\n");
    let loud = scene.client(2);
    for number in 0..2_000 {
        loud.send(&Query::a(&format!("n{number}.example")).wire()).unwrap();
        if number % 50 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    until("all are counted", || (ringdnsd.stat("/total/received") == 2_000).then_some(()));
    let punted = ringdnsd.stat("/total/punted") as usize;
    // A miss costs two. The flood may take a few seconds on a busy machine.
    assert!((BURST / 2..=BURST / 2 + 5 * PER_SECOND / 2).contains(&punted), "{punted}");
    assert!(scene.upstream.seen().len() <= punted + 5);
    assert_eq!(limited(&ringdnsd, "slip"), 0);
}

#[test]
fn limits_change_with_a_reload() {
    let scene = Scene::set();
    let ringdnsd = scene.start("");
    let loud = scene.client(2);
    let all = flood(&loud, "www.example", FLOOD);
    assert_eq!((all.answered, all.truncated), (FLOOD, 0), "without the table");
    for (table, is_limited) in [
        ("per_second = 200", true),
        ("per_second = 200\nexempt = [\"127.0.0.2\"]", false),
        ("per_second = 1000000", false),
        ("per_second = 200\ndry_run = true", false),
        ("per_second = 200\nslip = 1", true),
    ] {
        ringdnsd.configure(|socket| scene.settings(&format!("[rate_limit]\n{table}\n")).text(socket));
        let told = ringdnsd.told(&["reload"]);
        assert!(told.contains("[rate_limit] is in effect"), "{told}");
        // The worker takes it within a second.
        let dry_run = limited(&ringdnsd, "dry_run");
        until(table, || {
            let got = flood(&loud, "www.example", FLOOD);
            let has_counted = !table.contains("dry_run") || limited(&ringdnsd, "dry_run") > dry_run;
            ((got.truncated > 0) == is_limited && has_counted).then_some(())
        });
    }
    let (code, errors) = Ringdnsd::check(&scene.host, &scene.settings("[rate_limit]\nper_second = 0\n"), &[]);
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("rate_limit.per_second: 0 is not possible"), "{errors}");
}

/// The XDP program drops a client far above the limit for a time; its queries over TCP are answered.
#[test]
fn a_client_far_above_the_limit_is_banned_for_a_time() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::start(lab.server(), |seen| vec![Say::Send(seen.query.address([192, 0, 2, 1]))]);
    let table = "[rate_limit]\nper_second = 20\nslip = 0\nban_time = \"3s\"\n";
    let settings = Settings { tables: table.into(), ..Settings::xdp(upstream.address()) };
    let ringdnsd = Ringdnsd::start(lab.server(), &settings);
    let client = Client::of(lab.client(), DNS_V4);
    assert_eq!(client.ask(&Query::a("www.example")).answers(), 1);
    assert_eq!(ringdnsd.told(&["policy", "bans"]), "no prefix is banned\n");
    let query = Query::a("www.example").wire();
    let banned = until("the client is banned", || {
        for _ in 0..500 {
            client.send(&query);
        }
        let told = ringdnsd.told(&["policy", "bans"]);
        told.contains("10.53.0.1/32").then_some(told)
    });
    assert!(banned.contains("s left"), "{banned}");
    until("the XDP program drops it", || {
        client.send(&query);
        (ringdnsd.stat("/xdp/banned") > 0).then_some(())
    });
    let over_tcp = ask_over_tcp(lab.client(), DNS_V4, &[Query::a("www.example")]);
    assert_eq!(over_tcp[0].answers(), 1);
    assert!(ringdnsd.stat("/bans/counters/begun") >= 1);
    until("the ban has ended", || {
        client.ask_within(&Query::a("www.example").id(7), Duration::from_millis(200)).map(drop)
    });
    assert_eq!(ringdnsd.stat("/bans/active"), 0);
}
