//! A policy zone with every trigger and action, from a Knot primary with TSIG: ringdnsd beside PowerDNS
//! Recursor, action by action, and after many changes by IXFR.

use super::{
    primary::{Primary, SECRET},
    settings,
};
use ringdns_testkit::{
    Client, Host, Process, Query, Reply, Ringdnsd, Say, Upstream, ask_over_tcp, free_address, until,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

const A: u16 = 1;
const AAAA: u16 = 28;
const TXT: u16 = 16;

/// Time after which a question counts as dropped.
const DROPPED: Duration = Duration::from_secs(1);

/// Rules with every trigger and action.
const RULES: &str = "\
nx.example CNAME .
*.nx.example CNAME .
good.nx.example CNAME rpz-passthru.
*.good.nx.example CNAME rpz-passthru.
nodata.example CNAME *.
drop.example CNAME rpz-drop.
tcp.example CNAME rpz-tcp-only.
two.example A 192.0.2.77
two.example A 192.0.2.78
two.example AAAA 2001:db8::77
alias.example CNAME garden.example.
kept.example CNAME *.kept.garden.example.
*.kept.example CNAME *.kept.garden.example.
*.own.example A 192.0.2.50
*.w.example CNAME .
own.w.example A 192.0.2.51
txt.example TXT \"a\"
24.0.113.0.203.rpz-ip CNAME .
32.2.113.0.203.rpz-ip CNAME *.
32.3.113.0.203.rpz-ip CNAME rpz-drop.
32.4.113.0.203.rpz-ip CNAME rpz-tcp-only.
32.5.113.0.203.rpz-ip A 192.0.2.52
32.6.113.0.203.rpz-ip CNAME garden.example.
32.7.113.0.203.rpz-ip CNAME rpz-passthru.
32.8.113.0.203.rpz-ip CNAME *.kept.garden.example.
48.zz.1.db8.2001.rpz-ip CNAME .
32.12.0.0.127.rpz-client-ip CNAME .
32.13.0.0.127.rpz-client-ip CNAME *.
32.14.0.0.127.rpz-client-ip CNAME rpz-drop.
32.15.0.0.127.rpz-client-ip CNAME rpz-tcp-only.
32.16.0.0.127.rpz-client-ip CNAME rpz-passthru.
32.17.0.0.127.rpz-client-ip A 192.0.2.53
32.18.0.0.127.rpz-client-ip CNAME garden.example.
28.32.0.0.127.rpz-client-ip CNAME .
";

/// Returns the address that the upstream has for a name: by its first label, and by the garden that it is
/// in.
fn address_of(name: &str) -> Ipv4Addr {
    let first = name.split('.').next().unwrap_or_default();
    match first.strip_prefix("ip").and_then(|number| number.parse().ok()) {
        _ if name.ends_with(".kept.garden.example") => Ipv4Addr::new(198, 51, 100, 2),
        _ if name.ends_with("garden.example") => Ipv4Addr::new(198, 51, 100, 1),
        Some(number) => Ipv4Addr::new(203, 0, 113, number),
        None => Ipv4Addr::new(192, 0, 2, 1),
    }
}

fn record(owner: [u8; 2], rtype: u16, data: &[u8]) -> Vec<u8> {
    let head = [&owner[..], &rtype.to_be_bytes(), &[0, 1, 0, 0, 1, 44]].concat();
    [&head[..], &(data.len() as u16).to_be_bytes(), data].concat()
}

fn upstream() -> Upstream {
    Upstream::local(|seen| {
        let name = seen.query.name().to_ascii_lowercase();
        let name = name.trim_end_matches('.');
        let records = match seen.query.qtype() {
            A if name == "chain.example" => {
                let target = b"\x03ip1\x05other\x07example\0";
                // The name of the second record is the data of the first.
                let at = 12 + seen.query.question().len() as u16 + 12;
                let pointer = (0xc000 | at).to_be_bytes();
                vec![record([0xc0, 12], 5, target), record(pointer, A, &[203, 0, 113, 1])]
            }
            A => vec![record([0xc0, 12], A, &address_of(name).octets())],
            AAAA if name.starts_with("six") => {
                let address = "2001:db8:1::7".parse::<std::net::Ipv6Addr>().unwrap();
                vec![record([0xc0, 12], AAAA, &address.octets())]
            }
            _ => Vec::new(),
        };
        vec![Say::Send(seen.query.response(0, &records))]
    })
}

/// PowerDNS Recursor that transfers the zone of a primary.
struct Recursor {
    _folder: tempfile::TempDir,
    _process: Process,
    address: SocketAddr,
}

impl Recursor {
    fn start(host: &Host, primary: &Primary, upstream: &Upstream) -> Self {
        let (folder, address) = (tempfile::tempdir().unwrap(), free_address(host));
        let path = folder.path();
        let zone = format!(
            "rpzMaster({{\"{}\"}}, \"rpz.example\", {{tsigname=\"transfer.example\", tsigalgo=\"hmac-sha256\", \
             tsigsecret=\"{SECRET}\", refresh=1}})\n",
            primary.address()
        );
        fs::write(path.join("rpz.lua"), zone).unwrap();
        let configuration = format!(
            "daemon=no\nwrite-pid=no\nsocket-dir={path}\nlocal-address={}\nlocal-port={}\nallow-from=127.0.0.0/8\n\
             dont-query=\nforward-zones-recurse=.={}\ndnssec=off\ndisable-packetcache=yes\nthreads=1\n\
             security-poll-suffix=\nlua-config-file={path}/rpz.lua\n",
            address.ip(),
            address.port(),
            upstream.address(),
            path = path.display(),
        );
        fs::write(path.join("recursor.conf"), configuration).unwrap();
        let process = host.spawn("pdns_recursor", [Path::new(&format!("--config-dir={}", path.display()))]);
        let is_loaded = || {
            let reply = Client::of(host, address).ask_within(&Query::a("nx.example"), DROPPED)?;
            (reply.rcode() == super::NXDOMAIN).then_some(())
        };
        until("the zone in PowerDNS Recursor", is_loaded);
        Recursor { _folder: folder, _process: process, address }
    }
}

/// Returns a reply in words: what a client learns from it.
fn words(reply: Option<&Reply>) -> String {
    let Some(reply) = reply else { return "no reply".into() };
    if reply.is_truncated() {
        return "asks for TCP".into();
    }
    match reply.rcode() {
        0 if reply.answers() == 0 => "NODATA".into(),
        0 => {
            let types: Vec<u16> = reply.types().into_iter().take(reply.answers()).collect();
            let addresses: BTreeSet<Ipv4Addr> = reply.addresses().into_iter().collect();
            format!("types {types:?}, {addresses:?}")
        }
        super::NXDOMAIN => "NXDOMAIN".into(),
        rcode => format!("rcode {rcode}"),
    }
}

fn asked(host: &Host, server: SocketAddr, client: [u8; 4], query: &Query) -> String {
    let client = Client::from_address(host, client.into(), server);
    words(client.ask_within(query, DROPPED).as_ref())
}

/// Questions about every trigger and action: name, type, and the client's last byte.
const QUESTIONS: [(&str, u16, u8); 36] = [
    ("www.example", A, 1),
    ("nx.example", A, 1),
    ("a.b.nx.example", A, 1),
    ("good.nx.example", A, 1),
    ("a.good.nx.example", A, 1),
    ("nodata.example", A, 1),
    ("nodata.example", TXT, 1),
    ("drop.example", A, 1),
    ("tcp.example", A, 1),
    ("two.example", A, 1),
    ("two.example", AAAA, 1),
    ("two.example", TXT, 1),
    ("alias.example", A, 1),
    ("kept.example", A, 1),
    ("a.kept.example", A, 1),
    ("a.own.example", A, 1),
    ("a.w.example", A, 1),
    ("own.w.example", A, 1),
    ("below.own.w.example", A, 1),
    ("txt.example", A, 1),
    ("ip1.example", A, 1),
    ("ip2.example", A, 1),
    ("ip3.example", A, 1),
    ("ip4.example", A, 1),
    ("ip5.example", A, 1),
    ("ip6.example", A, 1),
    ("ip7.example", A, 1),
    ("ip8.example", A, 1),
    ("six.example", AAAA, 1),
    ("chain.example", A, 1),
    ("www.example", A, 12),
    ("www.example", A, 13),
    ("www.example", A, 14),
    ("www.example", A, 15),
    ("nx.example", A, 16),
    ("www.example", A, 17),
];

/// Differences between both programs, which docs/policy.md explains.
const DIFFERENCES: [(&str, u16, u8, &str, &str); 1] =
    [("txt.example", A, 1, "types [1], {192.0.2.1}", "NODATA")];

#[test]
fn every_action_is_that_of_powerdns_recursor() {
    let (host, upstream) = (Host::local(), upstream());
    let primary = Primary::start(Host::local(), RULES);
    let address = free_address(&host);
    let _ringdnsd =
        Ringdnsd::start_from(&host, |socket| settings(primary.table(), address, &upstream).text(socket));
    let loaded =
        || (asked(&host, address, [127, 0, 0, 1], &Query::a("nx.example")) == "NXDOMAIN").then_some(());
    until("the zone in ringdnsd", loaded);
    // Workers learn of clients within a second.
    let known =
        || (asked(&host, address, [127, 0, 0, 12], &Query::a("x.example")) == "NXDOMAIN").then_some(());
    until("the rules about clients", known);
    let recursor = Recursor::start(&host, &primary, &upstream);
    let mut more = QUESTIONS.to_vec();
    more.extend([("www.example", A, 18), ("www.example", A, 40), ("www.example", A, 48)]);
    let mut differences = Vec::new();
    for &(name, qtype, client) in &more {
        let query = Query::of(name, qtype);
        // The second is a cache hit.
        let ours = [0, 1].map(|_| asked(&host, address, [127, 0, 0, client], &query));
        assert_eq!(ours[0], ours[1], "{name} {qtype} from {client}");
        let theirs = asked(&host, recursor.address, [127, 0, 0, client], &query);
        println!("{name} {qtype} from {client}: {} / {theirs}", ours[0]);
        if ours[0] != theirs {
            differences.push((name, qtype, client, ours[0].clone(), theirs));
        }
    }
    for name in ["tcp.example", "ip4.example", "nx.example", "www.example"] {
        let over_tcp = |server| words(ask_over_tcp(&host, server, &[Query::a(name)]).first());
        assert_eq!(over_tcp(address), over_tcp(recursor.address), "{name} over TCP");
    }
    let expected: Vec<_> = DIFFERENCES
        .map(|(name, qtype, client, ours, theirs)| (name, qtype, client, ours.into(), theirs.into()))
        .into();
    assert_eq!(differences, expected);
}

/// Rules that change, by name.
struct Churn {
    rules: BTreeMap<String, String>,
    random: u64,
}

impl Churn {
    fn next(&mut self, below: u64) -> u64 {
        // Knuth's linear congruential generator.
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    /// Adds, changes or removes a rule.
    fn change(&mut self) {
        let number = self.next(600);
        let owner = match number % 6 {
            0 => format!("*.n{number}.example"),
            1 => format!("32.{}.113.0.203.rpz-ip", number % 200 + 20),
            2 => format!("32.{}.1.0.127.rpz-client-ip", number % 200),
            _ => format!("n{number}.example"),
        };
        let action = match self.next(6) {
            0 => "CNAME .".into(),
            1 => "CNAME *.".into(),
            2 => "CNAME rpz-passthru.".into(),
            3 => "CNAME garden.example.".into(),
            4 if self.rules.contains_key(&owner) => {
                self.rules.remove(&owner);
                return;
            }
            // Different addresses for clients would be too many kinds.
            _ => "A 192.0.2.99".to_owned(),
        };
        self.rules.insert(owner, action);
    }

    fn text(&self) -> String {
        self.rules.iter().map(|(owner, action)| format!("{owner} {action}\n")).collect()
    }
}

/// 1,000 changes in 20 steps, each transferred by IXFR. Afterwards the answers are those of a process that
/// has just loaded the zone, and those of PowerDNS Recursor.
#[test]
fn after_many_changes_the_zone_is_as_loaded_anew() {
    let (host, upstream) = (Host::local(), upstream());
    let mut churn = Churn { rules: BTreeMap::from([("nx.example".into(), "CNAME .".into())]), random: 7 };
    (0..300).for_each(|_| churn.change());
    let primary = Primary::start(Host::local(), &churn.text());
    let [address, other] = [free_address(&host), free_address(&host)];
    let start = |address: SocketAddr, tables: &str| {
        Ringdnsd::start_from(&host, |socket| settings(tables.to_owned(), address, &upstream).text(socket))
    };
    let tables = primary.table();
    let ringdnsd = start(address, &tables);
    let loaded =
        |server| (asked(&host, server, [127, 0, 0, 1], &Query::a("nx.example")) == "NXDOMAIN").then_some(());
    until("the zone", || loaded(address));
    let began = Instant::now();
    for serial in 2..22 {
        (0..50).for_each(|_| churn.change());
        primary.change(serial, &churn.text());
        let told = ringdnsd.told(&["policy", "refresh", "feed"]);
        assert!(told.contains("rules"), "{told}");
        // An answer in between, so that there is something in caches to be made void.
        asked(&host, address, [127, 0, 1, 20], &Query::a("n3.example"));
    }
    println!("1,000 changes in 20 steps: {:?}", began.elapsed());
    let transfers = primary.output().matches("IXFR, outgoing").count();
    assert!(transfers >= 20, "{transfers} lines about IXFR\n{}", primary.output());

    let fresh = tempfile::tempdir().unwrap();
    let lists = primary.lists();
    let _fresh = start(other, &tables.replace(&format!("{lists:?}"), &format!("{:?}", fresh.path())));
    until("the zone, loaded anew", || loaded(other));
    let lines = |folder: &Path| -> BTreeSet<String> {
        let text = fs::read_to_string(folder.join("feed.list")).unwrap();
        text.lines().map(str::to_owned).collect()
    };
    assert_eq!(lines(&lists), lines(fresh.path()));
    let recursor = Recursor::start(&host, &primary, &upstream);
    let names = (0..600).step_by(4).flat_map(|n| [format!("n{n}.example"), format!("a.n{n}.example")]);
    let names: Vec<String> = names.chain((20..220).step_by(5).map(|n| format!("ip{n}.example"))).collect();
    let questions = names.iter().map(|name| (name.as_str(), [127, 0, 0, 1]));
    let clients = (0..200).step_by(3).map(|n| ("n1.example", [127, 0, 1, n]));
    let mut seen = BTreeMap::<String, u32>::new();
    // Workers learn of clients within a second.
    let of_client = |server, n: u8| asked(&host, server, [127, 0, 1, n], &Query::a("n1.example"));
    until("the rules about clients", || {
        let is_known = |server, n| of_client(server, n) == of_client(recursor.address, n);
        (0..200).step_by(3).all(|n| is_known(address, n) && is_known(other, n)).then_some(())
    });
    for (name, client) in questions.chain(clients) {
        let answers =
            [address, other, recursor.address].map(|server| asked(&host, server, client, &Query::a(name)));
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{name} from {client:?}: {answers:?}");
        *seen.entry(answers[0].clone()).or_default() += 1;
    }
    println!("answers compared: {seen:?}");
    assert!(seen.len() >= 5, "{seen:?}");
}
