//! Tests of local data: records, zones and hosts files, over UDP and TCP, and their reload.

use ringdns_testkit::{
    Client, Host, Query, Reply, Ringdnsd, Say, Settings, Upstream, ask_over_tcp, free_address,
};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::{Duration, Instant},
};

const NXDOMAIN: u16 = 3;
const A: u16 = 1;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const PTR: u16 = 12;
const MX: u16 = 15;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const HTTPS: u16 = 65;

const FROM_UPSTREAM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A ringdnsd with files in a folder of its own, and an upstream that knows every name.
struct Scene {
    folder: tempfile::TempDir,
    address: SocketAddr,
    upstream: Upstream,
    host: Host,
}

impl Scene {
    fn set() -> Self {
        let host = Host::local();
        let upstream = Upstream::local(|seen| vec![Say::Send(seen.query.answer(60))]);
        let address = free_address(&host);
        Scene { folder: tempfile::tempdir().unwrap(), address, upstream, host }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn settings(&self, tables: &str) -> Settings {
        Settings { tables: tables.into(), ..Settings::loopback(self.address, self.upstream.address()) }
    }

    fn start(&self, tables: &str) -> Ringdnsd {
        Ringdnsd::start_from(&self.host, |socket| self.settings(tables).text(socket))
    }

    /// Asks over UDP twice, so that the second answer is a cache hit, and over TCP, and returns the
    /// answer, which must be the same each time.
    fn ask(&self, name: &str, qtype: u16) -> Reply {
        let query = Query::of(name, qtype).edns(1232);
        let client = || Client::of(&self.host, self.address);
        let replies = [client().ask(&query), client().ask(&query)];
        let over_tcp = ask_over_tcp(&self.host, self.address, std::slice::from_ref(&query)).remove(0);
        for reply in [&replies[1], &over_tcp] {
            let told = |reply: &Reply| (reply.rcode(), reply.types(), reply.addresses());
            assert_eq!(told(reply), told(&replies[0]), "{query:?}");
        }
        let [reply, _] = replies;
        reply
    }

    fn address_of(&self, name: &str) -> Vec<Ipv4Addr> {
        self.ask(name, A).addresses()
    }

    fn told(&self, name: &str, qtype: u16) -> (u16, Vec<u16>) {
        let reply = self.ask(name, qtype);
        (reply.rcode(), reply.types())
    }

    fn asked_upstream(&self, name: &str) -> usize {
        self.upstream.seen().iter().filter(|seen| seen.query.is_for(name)).count()
    }
}

fn record(name: &str, kind: &str, data: &str) -> String {
    format!("[[local_record]]\nname = \"{name}\"\ntype = \"{kind}\"\ndata = '{data}'\nttl = \"77s\"\n")
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, last)
}

#[test]
fn records_are_answered_and_the_rest_of_their_zone_is_resolved() {
    let scene = Scene::set();
    let list = scene.file("list", "||corp.example^\n");
    let tables = [
        "[local]\nptr = true\n",
        &record("nas.corp.example", "A", "192.0.2.10"),
        &record("nas.corp.example", "A", "192.0.2.11"),
        &record("nas.home.arpa", "AAAA", "2001:db8::10"),
        &record("corp.test", "MX", "10 mail.corp.test"),
        &record("corp.test", "HTTPS", "1 . alpn=h2 ipv4hint=192.0.2.10"),
        &record("*.dev.example", "A", "192.0.2.12"),
        &record("txt.dev.example", "TXT", "\"a b\" c"),
        &record("www.corp.example", "CNAME", "nas.corp.example"),
        &record("out.corp.example", "CNAME", "www.public.example"),
        &format!("[[blocklist]]\nname = \"list\"\nsource = {list:?}\n"),
    ]
    .concat();
    let ringdnsd = scene.start(&tables);
    let nas = scene.ask("nas.corp.example", A);
    assert_eq!((nas.addresses(), nas.extended_errors()), (vec![address(10), address(11)], vec![]));
    assert!((70..=77).contains(&nas.ttl()), "{}", nas.ttl());
    for (name, qtype, rcode, types) in [
        ("nas.corp.example", TXT, 0, vec![SOA]),
        ("nas.home.arpa", AAAA, 0, vec![AAAA]),
        ("corp.test", MX, 0, vec![MX]),
        ("corp.test", HTTPS, 0, vec![HTTPS]),
        ("x.y.dev.example", A, 0, vec![A]),
        ("txt.dev.example", TXT, 0, vec![TXT]),
        ("txt.dev.example", A, 0, vec![SOA]),
        ("www.corp.example", A, 0, vec![CNAME, A, A]),
        ("www.corp.example", CNAME, 0, vec![CNAME]),
        ("out.corp.example", A, 0, vec![CNAME, A]),
        ("10.2.0.192.in-addr.arpa", PTR, 0, vec![PTR]),
        // Not local: by the list, as a special name, and by the upstream.
        ("other.corp.example", A, NXDOMAIN, vec![SOA]),
        ("other.test", A, NXDOMAIN, vec![SOA]),
        ("dev.example", A, 0, vec![A]),
    ] {
        assert_eq!(scene.told(name, qtype), (rcode, types), "{name} {qtype}");
    }
    let told = |name: &str| ringdnsd.told(&["policy", "test", name]);
    assert!(told("nas.corp.example").contains("A: local"), "{}", told("nas.corp.example"));
    assert!(told("other.corp.example").contains("A: block by list"), "{}", told("other.corp.example"));
    let asked = [scene.asked_upstream("dev.example"), scene.asked_upstream("www.public.example")];
    assert_eq!((asked, scene.upstream.asked()), ([1, 1], 2));
    let (_, metrics) = ringdnsd.get("/metrics").unwrap();
    assert!(!metrics.contains("_local_data_total 0\n") && metrics.contains("_local_data_total"), "{metrics}");
}

#[test]
fn a_zone_has_authority_for_its_names_and_a_reload_reads_it_again() {
    let scene = Scene::set();
    let head = "$TTL 60\n@ SOA ns admin 1 3600 600 1w 30\n  NS ns\nns A 192.0.2.20\n";
    let path = scene.file("zone", &format!("{head}www CNAME ns\nsub NS ns.elsewhere.\n"));
    let tables = format!("[[local_zone]]\nname = \"corp.example\"\nfile = {path:?}\n")
        + &record("added.corp.example", "A", "192.0.2.21");
    let ringdnsd = scene.start(&tables);
    for (name, qtype, rcode, types) in [
        ("www.corp.example", A, 0, vec![CNAME, A]),
        ("corp.example", SOA, 0, vec![SOA]),
        ("corp.example", A, 0, vec![SOA]),
        ("none.corp.example", A, NXDOMAIN, vec![SOA]),
        ("added.corp.example", A, 0, vec![A]),
        ("host.sub.corp.example", A, 0, vec![A]),
        ("example", A, 0, vec![A]),
    ] {
        assert_eq!(scene.told(name, qtype), (rcode, types), "{name} {qtype}");
    }
    assert_eq!((scene.asked_upstream("host.sub.corp.example"), scene.upstream.asked()), (1, 2));
    assert_eq!(ringdnsd.told(&["reload"]), "nothing has changed\n");

    scene.file("zone", &format!("{head}none A 192.0.2.22\n"));
    let told = ringdnsd.told(&["reload"]);
    assert!(told.contains("[local_zone] is in effect"), "{told}");
    assert_eq!(scene.address_of("none.corp.example"), [address(22)]);
    assert_eq!(scene.told("www.corp.example", A), (NXDOMAIN, vec![SOA]));

    // A file that cannot be used changes nothing, and is told with its line.
    scene.file("zone", &format!("{head}www A 192.0.2\n$INCLUDE /etc/passwd\n"));
    let output = ringdnsd.ctl(&["reload"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let place = |line| format!("{}:{line}: ", path.display());
    assert!(
        output.status.code() == Some(1) && said.contains(&place(5)) && said.contains(&place(6)),
        "{said}"
    );
    assert!(said.contains("local_zone[0].file") && said.contains("an IPv4 address"), "{said}");
    assert_eq!(scene.address_of("none.corp.example"), [address(22)]);

    ringdnsd.configure(|socket| scene.settings("").text(socket));
    ringdnsd.told(&["reload"]);
    assert_eq!(scene.address_of("none.corp.example"), [FROM_UPSTREAM]);
}

#[test]
fn a_hosts_file_is_read_again_when_it_changes() {
    let scene = Scene::set();
    let path = scene.file("hosts", "192.0.2.30 nas.example nas # here\n");
    let ringdnsd = scene.start(&format!("[local]\nhosts_files = [{path:?}]\nptr = true\n"));
    assert_eq!(
        (scene.address_of("nas.example"), scene.address_of("nas")),
        (vec![address(30)], vec![address(30)])
    );
    assert_eq!(scene.told("30.2.0.192.in-addr.arpa", PTR), (0, vec![PTR]));

    let becomes = |name: &str, last: u8| {
        let began = Instant::now();
        while scene.address_of(name) != [address(last)] {
            assert!(began.elapsed() < Duration::from_secs(20), "{name} does not become {last}");
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    scene.file("hosts", "192.0.2.31 nas.example\n");
    becomes("nas.example", 31);
    assert_eq!(scene.address_of("nas"), [FROM_UPSTREAM]);

    scene.file("hosts", "192.0.2.32 nas.example\nnonsense\n");
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(scene.address_of("nas.example"), [address(31)], "the last good one");
    let output = ringdnsd.ctl(&["reload"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("{}:2: expected an address", path.display())), "{said}");

    // Replaced as editors do it.
    let beside = scene.file("hosts.new", "192.0.2.33 nas.example\n");
    fs::rename(beside, &path).unwrap();
    becomes("nas.example", 33);
}

#[test]
fn data_that_cannot_be_used_is_refused_with_its_line() {
    let scene = Scene::set();
    for (tables, key, reason) in [
        (record("a.example", "A", "192.0.2"), "local_record[0].data", "an IPv4 address"),
        (
            record("a.example", "A", "192.0.2.1") + &record("a.example", "CNAME", "b.example"),
            "local_record[1].data",
            "must be the only record",
        ),
        ("[local]\nhosts_files = [\"/no/such\"]\n".into(), "local.hosts_files[0]", "No such file"),
        ("[[local_zone]]\nname = \"a\"\nfile = \"/no/such\"\n".into(), "local_zone[0].file", "No such file"),
    ] {
        let settings = scene.settings(&tables);
        for (code, said) in
            [Ringdnsd::check(&scene.host, &settings, &[]), Ringdnsd::refused(&scene.host, &settings, &[])]
        {
            assert!([2, 3].contains(&code) && said.contains(key) && said.contains(reason), "{code} {said}");
        }
    }
}

#[test]
fn a_list_may_answer_with_an_alias() {
    let scene = Scene::set();
    let path = scene.file("list", "||ads.example^\n||search.example^$dnsrewrite=safe.search.example\n");
    let _ringdnsd = scene
        .start(&format!("[[blocklist]]\nname = \"list\"\nsource = {path:?}\nanswer = \"sink.example\"\n"));
    for (name, target) in [("ads.example", "sink.example"), ("www.search.example", "safe.search.example")] {
        let reply = scene.ask(name, A);
        assert_eq!((reply.types(), reply.addresses()), (vec![CNAME, A], vec![FROM_UPSTREAM]), "{name}");
        assert_eq!(reply.extended_errors(), [15], "{name}");
        assert_eq!((scene.asked_upstream(name), scene.asked_upstream(target)), (0, 1), "{name}");
    }
}

#[test]
fn private_addresses_and_search_engines_are_answered_as_configured() {
    let scene = Scene::set();
    let private = Upstream::local(|seen| vec![Say::Send(seen.query.address([192, 168, 1, 1]))]);
    let settings = |tables: &str| Settings {
        tables: tables.into(),
        ..Settings::loopback(scene.address, private.address())
    };
    let tables = "[rebinding]\nenabled = true\nallow = [\"corp.example\"]\n[safe_search]\ngoogle = true\n";
    let tables =
        &format!("{tables}[dns64]\nprefix = \"2001:db8:64::/96\"\n{}", record("v4.test", "A", "192.0.2.40"));
    let ringdnsd = Ringdnsd::start_from(&scene.host, |socket| settings(tables).text(socket));
    let made = scene.ask("v4.test", AAAA);
    assert_eq!((made.rcode(), made.types()), (0, vec![AAAA]));
    let cut = scene.ask("evil.example", A);
    assert_eq!((cut.rcode(), cut.types(), cut.extended_errors()), (0, vec![SOA], vec![15]));
    assert_eq!(scene.address_of("nas.corp.example"), [Ipv4Addr::new(192, 168, 1, 1)]);
    assert_eq!(scene.told("www.google.com", A), (0, vec![CNAME, A]), "its target is written here");
    ringdnsd.configure(|socket| settings("").text(socket));
    let told = ringdnsd.told(&["reload"]);
    assert!(told.contains("[rebinding]") && told.contains("[safe_search]"), "{told}");
    assert_eq!(scene.address_of("evil.example"), [Ipv4Addr::new(192, 168, 1, 1)]);
    assert_eq!(scene.told("www.google.com", A), (0, vec![A]));
    assert_eq!(private.seen().iter().filter(|seen| seen.query.is_for("evil.example")).count(), 1);
}
