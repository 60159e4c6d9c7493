//! Tests of groups of clients: each gets the answers of its lists, from all tiers and transports.

use ringdns_testkit::{
    CLIENT_V4, CLIENT_V6, Client, DNS_V4, DNS_V6, Host, Lab, Query, Ringdnsd, Say, Settings, Upstream,
    ask_over_tcp, free_address, until,
};
use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

const NXDOMAIN: u16 = 3;
/// Clients on loopback. Those over TCP have the first address.
const ADULT: [u8; 4] = [127, 0, 0, 1];
const KID: [u8; 4] = [127, 0, 20, 7];
const GUEST: [u8; 4] = [127, 0, 30, 7];

/// A ringdnsd with lists, whose upstream knows every name.
struct Scene {
    folder: tempfile::TempDir,
    address: SocketAddr,
    upstream: Upstream,
    host: Host,
}

impl Scene {
    fn set() -> Self {
        let host = Host::local();
        let upstream = Upstream::local(|seen| vec![Say::Send(seen.query.address([192, 0, 2, 1]))]);
        let address = free_address(&host);
        Scene { folder: tempfile::tempdir().unwrap(), address, upstream, host }
    }

    fn settings(&self, groups: &str) -> Settings {
        let mut tables = String::new();
        for list in ["ads", "games", "silent"] {
            let path = self.folder.path().join(list);
            fs::write(&path, format!("||{list}.example^\n")).unwrap();
            let answer = if list == "silent" { "drop" } else { "nxdomain" };
            tables +=
                &format!("[[blocklist]]\nname = \"{list}\"\nsource = {path:?}\nanswer = \"{answer}\"\n");
        }
        tables += "[[allowlist]]\nname = \"ours\"\nnames = [\"our.ads.example\"]\n";
        Settings { tables: tables + groups, ..Settings::loopback(self.address, self.upstream.address()) }
    }

    fn start(&self, groups: &str) -> Ringdnsd {
        Ringdnsd::start_from(&self.host, |socket| self.settings(groups).text(socket))
    }

    fn rcode(&self, client: [u8; 4], name: &str) -> u16 {
        let client = Client::from_address(&self.host, IpAddr::from(client), self.address);
        client.ask(&Query::a(name).edns(1232)).rcode()
    }
}

const GROUPS: &str = "[[client_group]]\nname = \"default\"\nblocklists = [\"ads\"]\n\
                      [[client_group]]\nname = \"kids\"\nclients = [\"127.0.20.0/24\"]\nallowlists = []\n\
                      [[client_group]]\nname = \"guests\"\nclients = [\"127.0.30.0/24\"]\n\
                      blocklists = [\"games\"]\n";

#[test]
fn each_group_gets_the_answers_of_its_lists() {
    let scene = Scene::set();
    let ringdnsd = scene.start(GROUPS);
    // Twice, and in both orders, so that answers come from upstreams, the host tier and the worker.
    for order in [[ADULT, KID, GUEST], [GUEST, KID, ADULT]] {
        for (name, adult, kid, guest) in [
            ("www.example", 0, 0, 0),
            ("ads.example", NXDOMAIN, NXDOMAIN, 0),
            ("games.example", 0, NXDOMAIN, NXDOMAIN),
            ("our.ads.example", 0, NXDOMAIN, 0),
        ] {
            for client in order.iter().chain(&order) {
                let expected = match *client {
                    ADULT => adult,
                    KID => kid,
                    _ => guest,
                };
                assert_eq!(scene.rcode(*client, name), expected, "{name} for {client:?}");
            }
        }
    }
    let over_tcp = |name: &str| ask_over_tcp(&scene.host, scene.address, &[Query::a(name)]).remove(0).rcode();
    assert_eq!(["ads.example", "games.example"].map(over_tcp), [NXDOMAIN, 0]);
    // The upstream is asked once for each name that somebody may resolve.
    assert_eq!(scene.upstream.seen().len(), 4);
    let (_, metrics) = ringdnsd.get("/metrics").unwrap();
    for line in [
        "ringdns_blocked_total{list=\"ads\",group=\"default\"} 5",
        "ringdns_blocked_total{list=\"ads\",group=\"kids\"} 8",
        "ringdns_blocked_total{list=\"games\",group=\"guests\"} 4",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[test]
fn a_test_says_what_a_client_gets() {
    let scene = Scene::set();
    let ringdnsd = scene.start(GROUPS);
    let told = |more: &[&str]| ringdnsd.told(&[&["policy", "test", "games.example"], more].concat());
    assert!(told(&[]).starts_with("games.example. A: resolve\n"));
    for asked in [["--client", "127.0.20.7"], ["--group", "kids"]] {
        let told = told(&asked);
        assert!(told.contains("block by list \"games\"") && told.contains("group \"kids\""), "{told}");
    }
    let output = ringdnsd.ctl(&["policy", "test", "games.example", "--group", "adults"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("no group \"adults\""), "{said}");
}

/// Over UDP and TCP, from caches, and after a reload that changes nothing but the clients of a rule.
#[test]
fn a_rule_is_for_the_clients_that_it_names() {
    let scene = Scene::set();
    let path = scene.folder.path().join("custom");
    let write = |clients: &str| {
        fs::write(&path, format!("! Rules\n||ads.example^$client={clients}\n||end.example^\n")).unwrap();
    };
    write("127.0.20.0/24|~127.0.20.9");
    let tables = format!("[[blocklist]]\nname = \"custom\"\nsource = {path:?}\nanswer = \"nxdomain\"\n");
    let settings = Settings { tables, ..Settings::loopback(scene.address, scene.upstream.address()) };
    let ringdnsd = Ringdnsd::start_from(&scene.host, |socket| settings.text(socket));
    let rcodes = || [ADULT, KID, [127, 0, 20, 9], GUEST].map(|client| scene.rcode(client, "www.ads.example"));
    let over_tcp = || ask_over_tcp(&scene.host, scene.address, &[Query::a("ads.example")]).remove(0).rcode();
    for _ in 0..2 {
        assert_eq!(rcodes(), [0, NXDOMAIN, 0, 0]);
    }
    assert_eq!(over_tcp(), 0);
    let told = ringdnsd.told(&["policy", "test", "ads.example", "--client", "127.0.20.7"]);
    let place = format!("{}:2: ||ads.example^$client=127.0.20.0/24|~127.0.20.9", path.display());
    assert!(told.contains("block by list \"custom\"") && told.contains(&place), "{told}");
    let told = ringdnsd.told(&["policy", "test", "ads.example", "--client", "127.0.20.9"]);
    assert!(told.starts_with("ads.example. A: resolve\n"), "{told}");
    write("127.0.0.1|127.0.30.0/24");
    let told = ringdnsd.told(&["reload"]);
    assert!(told.contains("custom: +1 -1 rules"), "{told}");
    until("the rule is for others", || (rcodes() == [NXDOMAIN, 0, 0, NXDOMAIN]).then_some(()));
    assert_eq!(over_tcp(), NXDOMAIN);
    let (_, metrics) = ringdnsd.get("/metrics").unwrap();
    assert!(metrics.contains("ringdns_blocked_total{list=\"custom\",group=\"default\"}"), "{metrics}");
}

#[test]
fn a_reload_moves_clients_to_other_groups() {
    let scene = Scene::set();
    let ringdnsd = scene.start(GROUPS);
    assert_eq!([ADULT, KID].map(|client| scene.rcode(client, "games.example")), [0, NXDOMAIN]);
    let swapped = GROUPS.replace("127.0.20.0/24", "127.0.0.1");
    ringdnsd.configure(|socket| scene.settings(&swapped).text(socket));
    let told = ringdnsd.told(&["reload"]);
    assert!(told.contains("[client_group] is in effect"), "{told}");
    // Workers learn of new groups within a second; until then, clients are in their old ones.
    let moved = || [ADULT, KID].map(|client| scene.rcode(client, "games.example")) == [NXDOMAIN, 0];
    until("the clients are in their new groups", || moved().then_some(()));
    ringdnsd.configure(|socket| scene.settings("").text(socket));
    ringdnsd.told(&["reload"]);
    let all = || [ADULT, KID, GUEST].map(|client| scene.rcode(client, "ads.example")) == [NXDOMAIN; 3];
    until("without groups, all lists are for all", || all().then_some(()));
}

#[test]
fn a_list_may_leave_questions_unanswered() {
    let scene = Scene::set();
    let ringdnsd = scene.start("");
    let client = Client::of(&scene.host, scene.address);
    assert!(client.ask_within(&Query::a("silent.example"), Duration::from_millis(300)).is_none());
    assert_eq!(client.ask(&Query::a("www.example")).rcode(), 0);
    let (_, metrics) = ringdnsd.get("/metrics").unwrap();
    assert!(metrics.contains("punt_blocked_total{worker=\"0\"} 1"), "{metrics}");
    ringdnsd.settled();
}

/// Over AF_XDP, the MAC address decides before the prefix; over TCP, which does not tell it, the prefix.
#[test]
fn a_client_is_in_the_group_of_its_mac_address() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::start(lab.server(), |seen| vec![Say::Send(seen.query.address([192, 0, 2, 1]))]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("games");
    fs::write(&path, "||games.example^\n").unwrap();
    let tables = format!("[[blocklist]]\nname = \"games\"\nsource = {path:?}\nanswer = \"nxdomain\"\n");
    let group = |mac: &str| {
        format!(
            "[[client_group]]\nname = \"kids\"\nclients = [{mac:?}]\n\
             [[client_group]]\nname = \"default\"\nblocklists = []\n"
        )
    };
    let settings =
        |mac: &str| Settings { tables: tables.clone() + &group(mac), ..Settings::xdp(upstream.address()) };
    let ringdnsd = Ringdnsd::start(lab.server(), &settings("02:00:00:00:53:01"));
    for (client, server) in [(IpAddr::from(CLIENT_V4), DNS_V4), (CLIENT_V6.into(), DNS_V6)] {
        let ask =
            |name: &str| Client::from_address(lab.client(), client, server).ask(&Query::a(name)).rcode();
        for _ in 0..2 {
            assert_eq!([ask("www.example"), ask("games.example")], [0, NXDOMAIN]);
        }
    }
    let over_tcp = |name: &str| ask_over_tcp(lab.client(), DNS_V4, &[Query::a(name)]).remove(0).rcode();
    assert_eq!(over_tcp("games.example"), 0);
    ringdnsd.configure(|socket| settings("02:00:00:00:53:99").text(socket));
    ringdnsd.told(&["reload"]);
    let client = Client::of(lab.client(), DNS_V4);
    until("the client is in the default group", || {
        (client.ask(&Query::a("games.example")).rcode() == 0).then_some(())
    });
}
