//! Tests of response policy zones: their actions over UDP and TCP, and their transfer.

mod interop;
mod notify;
mod primary;

use primary::{APEX, Primary};
use ringdns_testkit::{
    Client, Host, Query, Ringdnsd, Say, Settings, Upstream, ask_over_tcp, exchange_over_tcp, free_address,
    until,
};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Instant,
};

/// Address that the upstream has for every name.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

const NXDOMAIN: u16 = 3;
const NOTIMP: u16 = 4;
const NOTAUTH: u16 = 9;

fn upstream() -> Upstream {
    Upstream::local(|seen| {
        let address = [&[0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4][..], &ADDRESS.octets()].concat();
        vec![Say::Send(seen.query.response(0, &[address]))]
    })
}

fn settings(tables: String, address: SocketAddr, upstream: &Upstream) -> Settings {
    Settings { tables, ..Settings::loopback(address, upstream.address()) }
}

fn zone(name: &str, source: &Path) -> String {
    format!("[[blocklist]]\nname = \"{name}\"\nsource = {source:?}\nformat = \"rpz\"\n")
}

fn a(name: &str) -> Query {
    Query::a(name).edns(1232)
}

#[test]
fn tcp_only_is_empty_over_udp_and_resolved_over_tcp() {
    let (host, upstream, folder) = (Host::local(), upstream(), tempfile::tempdir().unwrap());
    let file = folder.path().join("rpz.zone");
    fs::write(&file, format!("{APEX}slow CNAME rpz-tcp-only.\n*.slow CNAME rpz-tcp-only.\n")).unwrap();
    let address = free_address(&host);
    let ringdnsd =
        Ringdnsd::start_from(&host, |socket| settings(zone("feed", &file), address, &upstream).text(socket));
    for name in ["slow", "www.slow"] {
        // The second is a cache hit.
        for turn in 0..2 {
            let reply = Client::of(&host, address).ask(&a(name));
            assert!(reply.is_truncated(), "{name}, {turn}");
            assert_eq!((reply.rcode(), reply.answers()), (0, 0), "{name}, {turn}");
        }
        assert!(upstream.seen().iter().all(|seen| !seen.query.is_for(name)), "{name} is not resolved");
        let over_tcp = ask_over_tcp(&host, address, &[a(name)]).remove(0);
        assert_eq!((over_tcp.is_truncated(), over_tcp.addresses()), (false, vec![ADDRESS]), "{name}");
        // What TCP clients got is not for others.
        assert!(Client::of(&host, address).ask(&a(name)).is_truncated(), "{name}");
    }
    let reply = Client::of(&host, address).ask(&a("www.example"));
    assert_eq!((reply.is_truncated(), reply.addresses()), (false, vec![ADDRESS]));
    let (_, metrics) = ringdnsd.get("/metrics").unwrap();
    let hits = "ringdns_blocked_total{list=\"feed\",group=\"default\"} 6";
    assert!(metrics.contains(hits), "{metrics}");
}

#[test]
fn the_most_specific_rule_of_a_zone_decides() {
    let (host, upstream, folder) = (Host::local(), upstream(), tempfile::tempdir().unwrap());
    let file = folder.path().join("rpz.zone");
    let rules = "*.example CNAME .\ngood.example CNAME rpz-passthru.\n*.good.example CNAME rpz-passthru.\n\
                 bad.good.example CNAME .\n";
    fs::write(&file, format!("{APEX}{rules}")).unwrap();
    let address = free_address(&host);
    let _ringdnsd =
        Ringdnsd::start_from(&host, |socket| settings(zone("feed", &file), address, &upstream).text(socket));
    for (name, expected) in [
        ("www.example", NXDOMAIN),
        ("good.example", 0),
        ("www.good.example", 0),
        ("bad.good.example", NXDOMAIN),
        ("www.bad.good.example", 0),
    ] {
        assert_eq!(rcode(&host, address, name), expected, "{name}");
    }
}

fn rcode(host: &Host, address: SocketAddr, name: &str) -> u16 {
    Client::of(host, address).ask(&a(name)).rcode()
}

#[test]
fn a_zone_is_transferred_from_knot_with_its_changes() {
    let (host, upstream) = (Host::local(), upstream());
    let rules = "bad.example CNAME .\n*.bad.example CNAME .\nnas.example A 192.0.2.7\ntxt.example TXT \"a b\"\n\
                 slow.example CNAME rpz-tcp-only.\n*.all.example CNAME *.\n";
    let primary = Primary::start(Host::local(), rules);
    let address = free_address(&host);
    let start = || {
        let tables = primary.table();
        Ringdnsd::start_from(&host, |socket| settings(tables.clone(), address, &upstream).text(socket))
    };
    let mut ringdnsd = start();
    let seen = |name: &str| rcode(&host, address, name);
    until("the zone", || (seen("bad.example") == NXDOMAIN).then_some(()));
    assert_eq!([seen("www.bad.example"), seen("www.example"), seen("x.all.example")], [NXDOMAIN, 0, 0]);
    let nas = Client::of(&host, address).ask(&a("nas.example"));
    assert_eq!(nas.addresses(), [Ipv4Addr::new(192, 0, 2, 7)]);
    assert_eq!(Client::of(&host, address).ask(&a("x.all.example")).answers(), 0);
    assert!(Client::of(&host, address).ask(&a("slow.example")).is_truncated());
    let file = primary.lists().join("feed.list");
    assert!(
        fs::read_to_string(&file).unwrap().starts_with("rpz.example. SOA ns.example. hostmaster.example. 1 ")
    );

    primary.change(2, &format!("{rules}new.example CNAME .\n"));
    let told = ringdnsd.told(&["policy", "refresh", "feed"]);
    assert!(told.contains("+1 -0 rules"), "{told}");
    assert_eq!([seen("new.example"), seen("bad.example")], [NXDOMAIN, NXDOMAIN]);
    assert!(
        fs::read_to_string(&file).unwrap().starts_with("rpz.example. SOA ns.example. hostmaster.example. 2 ")
    );
    assert!(primary.output().contains("IXFR, outgoing"), "{}", primary.output());

    // The secret is read for each transfer; a wrong one changes nothing, nor does a restart.
    fs::write(primary.key(), "YW5vdGhlciBzZWNyZXQ=").unwrap();
    primary.change(3, "bad.example CNAME .\n");
    let refresh = ringdnsd.ctl(&["policy", "refresh", "feed"]);
    let told =
        String::from_utf8_lossy(&refresh.stdout).into_owned() + &String::from_utf8_lossy(&refresh.stderr);
    assert!(!refresh.status.success() && told.contains("BADSIG"), "{told}");
    assert_eq!(seen("new.example"), NXDOMAIN);
    ringdnsd.terminate();
    let _ringdnsd = start();
    assert_eq!(seen("new.example"), NXDOMAIN);
}

/// Knot DNS tells of a change, which is there at once. Others are not believed.
#[test]
fn a_primary_tells_of_changes() {
    let (host, upstream) = (Host::local(), upstream());
    let address = free_address(&host);
    let primary = Primary::notifying(Host::local(), "bad.example CNAME .\n", Some(address));
    let ringdnsd =
        Ringdnsd::start_from(&host, |socket| settings(primary.table(), address, &upstream).text(socket));
    let seen = |name: &str| rcode(&host, address, name);
    until("the zone", || (seen("bad.example") == NXDOMAIN).then_some(()));
    let began = Instant::now();
    primary.change(2, "new.example CNAME .\n");
    until("the change", || (seen("new.example") == NXDOMAIN).then_some(()));
    println!("a change is in effect after {:?}", began.elapsed());
    assert_eq!(seen("bad.example"), 0);
    let counter = |name: &str| {
        let (_, metrics) = ringdnsd.get("/metrics").unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name}\n{metrics}")).to_owned()
    };
    assert_ne!(counter("ringdns_listener_notifies_total"), "0");

    let notify = |zone: &str| {
        let mut message = Query::of(zone, 6).wire();
        message[2..4].copy_from_slice(&[0x24, 0]);
        exchange_over_tcp(&host, address, &[message]).remove(0)
    };
    let refused = notify("rpz.example");
    assert_eq!((refused.rcode(), &refused.0[2..4]), (NOTAUTH, &[0xa4, 9][..]), "without a signature");
    assert_eq!(counter("ringdns_listener_notifies_refused_total"), "1");
    assert_eq!(notify("other.example").rcode(), NOTAUTH);
}

/// Returns the most memory that a process has had, in bytes.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

/// A zone of 100,000 records. It tells how long the transfer took and how much memory it needed.
#[test]
fn a_large_zone_is_transferred() {
    let (host, upstream) = (Host::local(), upstream());
    let rules: String = (0..100_000).map(|at| format!("n{at}.ads.example CNAME .\n")).collect();
    let primary = Primary::start(Host::local(), "first.example CNAME .\n");
    let address = free_address(&host);
    let tables = primary.table();
    let ringdnsd =
        Ringdnsd::start_from(&host, |socket| settings(tables.clone(), address, &upstream).text(socket));
    until("the zone", || (rcode(&host, address, "first.example") == NXDOMAIN).then_some(()));
    let before = ringdnsd.process().resident();
    // As another list, so that so many more rules are no mistake.
    primary.change(2, &rules);
    let tables = tables.replace("name = \"feed\"", "name = \"large\"");
    ringdnsd.configure(|socket| settings(tables.clone(), address, &upstream).text(socket));
    let began = Instant::now();
    ringdnsd.told(&["reload"]);
    until("the large zone", || (rcode(&host, address, "n99999.ads.example") == NXDOMAIN).then_some(()));
    let took = began.elapsed();
    let more = peak(ringdnsd.process().pid()).saturating_sub(before) >> 10;
    println!("100,000 records: {took:?}, {more} KiB more at most");
    assert!(more < 32 << 10, "{more} KiB");
}
