//! Tests of what groups of clients have of their own beside lists: local data and upstreams.

use ringdns_testkit::{
    Client, Host, Query, Ringdnsd, Say, Settings, Upstream, ask_over_tcp, free_address, until,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const NXDOMAIN: u16 = 3;
/// Clients on loopback. Those over TCP have the first address.
const ADULT: [u8; 4] = [127, 0, 0, 1];
const KID: [u8; 4] = [127, 0, 20, 7];

const KIDS: &str = "[[client_group]]\nname = \"kids\"\nclients = [\"127.0.20.0/24\"]\n";

/// Returns an upstream that has this address for every name.
fn upstream(last: u8) -> Upstream {
    Upstream::local(move |seen| vec![Say::Send(seen.query.address([192, 0, 2, last]))])
}

fn address(last: u8) -> Vec<Ipv4Addr> {
    vec![Ipv4Addr::new(192, 0, 2, last)]
}

/// A ringdnsd on loopback.
struct Scene {
    address: SocketAddr,
    upstream: Upstream,
    host: Host,
}

impl Scene {
    fn set() -> Self {
        let host = Host::local();
        let address = free_address(&host);
        Scene { address, upstream: upstream(1), host }
    }

    fn settings(&self, tables: &str) -> Settings {
        Settings { tables: tables.into(), ..Settings::loopback(self.address, self.upstream.address()) }
    }

    fn start(&self, tables: &str) -> Ringdnsd {
        Ringdnsd::start_from(&self.host, |socket| self.settings(tables).text(socket))
    }

    fn reload(&self, ringdnsd: &Ringdnsd, tables: &str) {
        ringdnsd.configure(|socket| self.settings(tables).text(socket));
        ringdnsd.told(&["reload"]);
    }

    fn addresses(&self, client: [u8; 4], name: &str) -> Vec<Ipv4Addr> {
        let client = Client::from_address(&self.host, IpAddr::from(client), self.address);
        client.ask(&Query::a(name).edns(1232)).addresses()
    }

    fn over_tcp(&self, name: &str) -> Vec<Ipv4Addr> {
        ask_over_tcp(&self.host, self.address, &[Query::a(name)]).remove(0).addresses()
    }
}

fn record(name: &str, data: &str, groups: &str) -> String {
    format!("[[local_record]]\nname = \"{name}\"\ntype = \"A\"\ndata = \"{data}\"\n{groups}\n")
}

#[test]
fn each_group_gets_the_records_that_are_for_it() {
    let scene = Scene::set();
    let tables = |kids: &str| {
        [
            KIDS,
            &record("nas.example", "192.0.2.7", kids),
            &record("nas.example", "192.0.2.8", "groups = [\"default\"]"),
            &record("toys.example", "192.0.2.9", "groups = [\"kids\"]"),
            &record("all.example", "192.0.2.10", ""),
        ]
        .concat()
    };
    let ringdnsd = scene.start(&tables("groups = [\"kids\"]"));
    // In both orders and more than once, so that answers are made and come from the worker.
    for order in [[ADULT, KID], [KID, ADULT]] {
        for (name, adult, kid) in
            [("nas.example", 8, 7), ("toys.example", 1, 9), ("all.example", 10, 10), ("www.example", 1, 1)]
        {
            for client in order.iter().chain(&order) {
                let expected = address(if *client == ADULT { adult } else { kid });
                assert_eq!(scene.addresses(*client, name), expected, "{name} for {client:?}");
            }
            assert_eq!(scene.over_tcp(name), address(adult), "{name} over TCP");
        }
    }
    assert_eq!(scene.upstream.seen().len(), 2);
    let told = |more: &[&str]| ringdnsd.told(&[&["policy", "test", "toys.example"], more].concat());
    assert!(told(&[]).starts_with("toys.example. A: resolve\n"), "{}", told(&[]));
    for asked in [["--client", "127.0.20.7"], ["--group", "kids"]] {
        assert!(told(&asked).starts_with("toys.example. A: local"), "{}", told(&asked));
    }

    // One record is for all by now, so the default group has both.
    scene.reload(&ringdnsd, &tables(""));
    until("the reload is in effect", || (scene.addresses(ADULT, "nas.example").len() == 2).then_some(()));
    assert_eq!(scene.addresses(KID, "nas.example"), address(7));
    scene.reload(&ringdnsd, KIDS);
    until("no data is left", || {
        let left = [ADULT, KID].map(|client| scene.addresses(client, "nas.example"));
        (left == [address(1), address(1)]).then_some(())
    });
    ringdnsd.settled();
}

#[test]
fn a_zone_may_be_for_a_group() {
    let scene = Scene::set();
    let zone = "[[local_zone]]\nname = \"corp.example\"\ngroups = [\"kids\"]\n";
    let ringdnsd = scene.start(&[KIDS, zone, &record("www.corp.example", "192.0.2.7", "")].concat());
    let client = Client::from_address(&scene.host, IpAddr::from(KID), scene.address);
    for _ in 0..2 {
        assert_eq!(client.ask(&Query::a("x.corp.example")).rcode(), NXDOMAIN);
        assert_eq!(scene.addresses(ADULT, "x.corp.example"), address(1));
        assert_eq!(
            [ADULT, KID].map(|client| scene.addresses(client, "www.corp.example")),
            [address(7), address(7)]
        );
    }
    let output = ringdnsd.ctl(&["policy", "test", "x.corp.example", "--group", "kids"]);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("x.corp.example. A: local"));
}

#[test]
fn each_group_is_answered_by_its_own_upstreams() {
    let scene = Scene::set();
    let kids_upstream = upstream(2);
    let lab = upstream(3);
    let own = |groups: &str| format!("[[upstream]]\naddress = \"{}\"\n{groups}\n", kids_upstream.address());
    let zone = format!("[[upstream]]\naddress = \"{}\"\nzones = [\"lab.example\"]\n", lab.address());
    let alias = "[[local_record]]\nname = \"alias.example\"\ntype = \"CNAME\"\ndata = \"target.example\"\n";
    let tables = |groups: &str| [KIDS, &own(groups), &zone, alias].concat();
    let ringdnsd = scene.start(&tables("groups = [\"kids\"]"));
    // In both orders and more than once, so that answers come from upstreams, host tiers and the worker.
    for (at, order) in [[ADULT, KID], [KID, ADULT]].into_iter().enumerate() {
        for (name, adult, kid) in [
            (format!("www{at}.example"), 1, 2),
            (format!("www{at}.lab.example"), 3, 3),
            ("alias.example".to_owned(), 1, 2),
        ] {
            for client in order.iter().chain(&order) {
                let expected = address(if *client == ADULT { adult } else { kid });
                assert_eq!(scene.addresses(*client, &name), expected, "{name} for {client:?}");
            }
            assert_eq!(scene.over_tcp(&name), address(adult), "{name} over TCP");
        }
    }
    assert_eq!([&scene.upstream, &kids_upstream].map(Upstream::asked), [3, 3]);
    assert_eq!(lab.asked(), 4, "each of the two asks for itself");
    let (_, metrics) = ringdnsd.get("/metrics").unwrap();
    for line in
        ["ringdns_host_entries 10", "ringdns_host_inserted_total 10", "ringdns_resolver_resolved_total 10"]
    {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let told = ringdnsd.told(&["upstreams"]);
    let row = |upstream: &Upstream| {
        let address = upstream.address().to_string();
        told.lines().find(|line| line.contains(&address)).unwrap_or_default().to_owned()
    };
    assert!(row(&kids_upstream).contains(" kids ") && row(&lab).contains(" all "), "{told}");

    // A purge reaches what both have.
    assert!(ringdnsd.told(&["cache", "purge", "www0.example"]).contains('2'));
    scene.addresses(KID, "www0.example");
    assert_eq!(kids_upstream.asked(), 4);

    // The groups change places; nothing of before is given to the other one.
    scene.reload(&ringdnsd, &tables("groups = [\"default\"]"));
    until("the groups have changed places", || {
        let now = [ADULT, KID].map(|client| scene.addresses(client, "www1.example"));
        (now == [address(2), address(1)]).then_some(())
    });
    assert_eq!(scene.over_tcp("www1.example"), address(2));
    ringdnsd.settled();
}
