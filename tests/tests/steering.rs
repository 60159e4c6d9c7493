//! Tests of which queries AF_XDP takes: those to addresses of this host, as they come and go, and
//! in its VLANs. It leaves queries that pass through alone.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ringdns_testkit::{
    Client, DNS_V4, DNS_V6, Host, Lab, LabOptions, Query, Ringdnsd, Settings, Upstream, sums::count, until,
};

/// Time within which a change of this host's addresses is followed.
const FOLLOWED: Duration = Duration::from_secs(1);
/// Time to wait for an answer that must not come.
const SILENCE: Duration = Duration::from_millis(300);

/// Returns settings that listen on every address.
fn wildcard(upstream: &Upstream) -> Settings {
    let mut settings = Settings::xdp(upstream.address());
    settings.listen = vec!["0.0.0.0:53".to_owned(), "[::]:53".to_owned()];
    settings
}

fn verdict(ringdnsd: &Ringdnsd, name: &str) -> u64 {
    count(&ringdnsd.stats()["xdp"][name])
}

/// Number of packets that the host has sent on a device.
fn sent(host: &Host, device: &str) -> u64 {
    let links = host.run("ip", ["-json", "-statistics", "link", "show", "dev", device]);
    let links: serde_json::Value = serde_json::from_str(&links).expect("JSON from ip");
    count(&links[0]["stats64"]["tx"]["packets"])
}

#[test]
fn a_router_leaves_queries_in_transit_alone() {
    const QUERIES: u64 = 20;
    let Some(lab) = Lab::up() else { return };
    let (client, server) = (lab.client(), lab.server());
    for setting in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
        server.run("sysctl", ["-qw", setting]);
    }
    // A cable to where the queries go. Without ARP, nobody has to be there.
    server.run("ip", ["link", "add", "far", "arp", "off", "type", "veth", "peer", "name", "beyond"]);
    for end in ["far", "beyond"] {
        server.run("ip", ["link", "set", end, "up"]);
    }
    server.run("ip", ["route", "add", "203.0.113.0/24", "dev", "far"]);
    server.run("ip", ["-6", "route", "add", "2001:db8::/32", "dev", "far"]);
    client.run("ip", ["route", "add", "default", "via", "10.53.0.2"]);
    client.run("ip", ["-6", "route", "add", "default", "via", "fd53::2"]);
    let upstream = Upstream::answering(server);
    let ringdnsd = Ringdnsd::start(server, &wildcard(&upstream));
    for (own, far) in [(DNS_V4, "203.0.113.8:53"), (DNS_V6, "[2001:db8::8]:53")] {
        assert_eq!(Client::of(client, own).ask(&Query::a("own.example")).rcode(), 0);
        let redirected = verdict(&ringdnsd, "redirected");
        assert!(redirected > 0, "AF_XDP serves this host's address");
        let (before, passed) = (sent(server, "far"), verdict(&ringdnsd, "not_local"));
        let stranger = Client::of(client, far.parse().unwrap());
        for id in 0..QUERIES {
            stranger.send(&Query::a("own.example").id(id as u16).wire());
        }
        until("every query is sent on", || (sent(server, "far") >= before + QUERIES).then_some(()));
        assert!(stranger.receive(SILENCE).is_none(), "{far} was answered by the router");
        assert_eq!(verdict(&ringdnsd, "not_local") - passed, QUERIES);
        assert_eq!(verdict(&ringdnsd, "redirected"), redirected);
    }
}

#[test]
fn addresses_that_come_and_go_are_followed() {
    let Some(lab) = Lab::up() else { return };
    let server = lab.server();
    let upstream = Upstream::answering(server);
    let ringdnsd = Ringdnsd::start(server, &wildcard(&upstream));
    lab.client().run("ip", ["route", "add", "192.0.2.0/24", "via", "10.53.0.2"]);
    lab.client().run("ip", ["-6", "route", "add", "2001:db8::/64", "via", "fd53::2"]);
    for neighbour in ["10.53.0.77", "fd53::77"] {
        let entry = ["neighbour", "replace", neighbour, "lladdr", "02:00:00:00:53:02", "dev", "vc"];
        lab.client().run("ip", entry);
    }
    // Addresses of the interface, an anycast address on loopback, and prefixes.
    let routes = ["route", "add", "local", "2001:db8::/64", "dev", "lo"];
    for (address, words) in [
        ("10.53.0.77", &["address", "add", "10.53.0.77/24", "dev", "vs"][..]),
        ("fd53::77", &["address", "add", "fd53::77/64", "dev", "vs", "nodad"]),
        ("192.0.2.53", &["address", "add", "192.0.2.53/32", "dev", "lo"]),
        ("192.0.2.99", &["route", "add", "local", "192.0.2.0/24", "dev", "lo"]),
        ("2001:db8::99", &routes),
    ] {
        let address: IpAddr = address.parse().unwrap();
        let family = if address.is_ipv4() { "-4" } else { "-6" };
        let change = |verb| {
            let words = words.iter().map(|word| if *word == "add" { verb } else { *word });
            server.run("ip", std::iter::once(family).chain(words.filter(|word| *word != "nodad")));
            Instant::now()
        };
        let client = Client::of(lab.client(), SocketAddr::new(address, 53));
        let took = |name: &str, since: Instant| {
            let before = verdict(&ringdnsd, name);
            until(&format!("{name} of {address}"), || {
                client.ask_within(&Query::a("www.example"), Duration::from_millis(20));
                (verdict(&ringdnsd, name) > before).then(|| since.elapsed())
            })
        };
        if family == "-6" {
            // Without a check for duplicates, the address is the host's at once.
            server.run("sysctl", ["-qw", "net.ipv6.conf.vs.accept_dad=0"]);
        }
        let added = took("redirected", change("add"));
        let removed = took("not_local", change("del"));
        println!("{address}: added {added:?}, removed {removed:?}");
        assert!(added < FOLLOWED && removed < FOLLOWED, "{address}: {added:?}, {removed:?}");
    }
}

/// With an unlisted VLAN, the kernel decides, which has no device for it.
#[test]
fn a_vlan_that_is_not_listed_is_left_to_the_kernel() {
    let Some(lab) = Lab::with(LabOptions { vlan: Some(53), ..LabOptions::default() }) else { return };
    let upstream = Upstream::answering(lab.server());
    let mut settings = Settings::xdp(upstream.address());
    settings.server += "\nvlans = [54]";
    let ringdnsd = Ringdnsd::start(lab.server(), &settings);
    // The lab's own program takes the tag off behind XDP, so kernel sockets answer.
    let reply = Client::of(lab.client(), DNS_V4).ask(&Query::a("www.example"));
    assert_eq!(reply.addresses(), [Ipv4Addr::new(192, 0, 2, 1)]);
    assert_eq!((verdict(&ringdnsd, "redirected"), verdict(&ringdnsd, "other_vlan")), (0, 1));
}
