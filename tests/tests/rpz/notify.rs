//! NOTIFY over UDP, by AF_XDP rings and by kernel sockets: a real client with TSIG, and hostile ones.

use super::{
    NOTAUTH, NOTIMP, NXDOMAIN,
    primary::{Primary, SECRET},
    rcode, settings, upstream,
};
use ringdns_testkit::{
    Client, DNS_V4, Host, Lab, Query, Reply, Ringdnsd, Settings, Upstream, free_address, sums, until,
};
use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

const FORMERR: u16 = 1;
const REFUSED: u16 = 5;
const SOA: u16 = 6;
/// Time in which a reply comes, or does not.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends a NOTIFY with kdig over UDP, which verifies the signature of the reply. Returns what it
/// says.
fn kdig(host: &Host, server: SocketAddr, zone: &str, key: &str) -> String {
    let (address, port) = (format!("@{}", server.ip()), server.port().to_string());
    let mut arguments = vec!["+time=5", "+retry=0", "+ignore", "-p", &port, &address];
    if !key.is_empty() {
        arguments.extend(["-y", key]);
    }
    host.run("kdig", arguments.into_iter().chain(["-t", "NOTIFY=2", zone]))
}

fn signed(secret: &str) -> String {
    format!("hmac-sha256:transfer.example:{secret}")
}

fn counter(ringdnsd: &Ringdnsd, name: &str) -> u64 {
    let (_, metrics) = ringdnsd.get("/metrics").unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name}\n{metrics}")).parse().unwrap()
}

/// A signed NOTIFY has a signed reply, and the change is in effect at once; others change nothing.
fn a_change_is_told(host: &Host, primary: &Primary, server: SocketAddr, ringdnsd: &Ringdnsd) {
    let seen = |name: &str| rcode(host, server, name);
    until("the zone", || (seen("bad.example") == NXDOMAIN).then_some(()));
    primary.change(2, "new.example CNAME .\n");

    let said = kdig(host, server, "rpz.example", "");
    assert!(said.contains("opcode: NOTIFY; status: NOTAUTH"), "{said}");
    let other = kdig(host, server, "rpz.example", &signed("YW5vdGhlciBzZWNyZXQ="));
    assert!(other.contains("status: NOTAUTH"), "{other}");
    let other = kdig(host, server, "other.example", &signed(SECRET));
    assert!(other.contains("status: NOTAUTH"), "{other}");
    assert_eq!(counter(ringdnsd, "ringdns_listener_notifies_total"), 0);
    assert_eq!(counter(ringdnsd, "ringdns_listener_notifies_refused_total"), 3);
    assert_eq!((seen("bad.example"), seen("new.example")), (NXDOMAIN, 0));

    let began = Instant::now();
    let said = kdig(host, server, "rpz.example", &signed(SECRET));
    assert!(said.contains("opcode: NOTIFY; status: NOERROR"), "{said}");
    // kdig says so if the reply has no signature, or a wrong one.
    assert!(said.contains("TSIG PSEUDOSECTION") && !said.to_lowercase().contains("failed"), "{said}");
    until("the change", || (seen("new.example") == NXDOMAIN).then_some(()));
    println!("a change is in effect {:?} after kdig began", began.elapsed());
    assert_eq!(seen("bad.example"), 0);
    assert_eq!(counter(ringdnsd, "ringdns_listener_notifies_total"), 1);
    sums::queries_close(&ringdnsd.stats()["total"]);
}

#[test]
fn over_kernel_sockets() {
    let (host, upstream) = (Host::local(), upstream());
    let (address, primary) = (free_address(&host), Primary::start(Host::local(), "bad.example CNAME .\n"));
    let ringdnsd =
        Ringdnsd::start_from(&host, |socket| settings(primary.table(), address, &upstream).text(socket));
    a_change_is_told(&host, &primary, address, &ringdnsd);
}

#[test]
fn over_rings() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let primary =
        Primary::at(lab.client().clone(), "10.53.0.1:5353".parse().unwrap(), "bad.example CNAME .\n");
    let mut settings = Settings::xdp(upstream.address());
    settings.tables += &format!("\n{}", primary.table());
    let ringdnsd = Ringdnsd::start(lab.server(), &settings);
    a_change_is_told(lab.client(), &primary, DNS_V4, &ringdnsd);
}

/// Returns a NOTIFY for a zone, with a change.
fn message(zone: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut message = Query::of(zone, SOA).wire();
    message[2..4].copy_from_slice(&[0x24, 0]);
    change(&mut message);
    message
}

fn send(host: &Host, from: &str, server: SocketAddr, message: &[u8]) -> Option<Reply> {
    let client = Client::from_address(host, from.parse::<IpAddr>().unwrap(), server);
    client.send(message);
    client.receive(PATIENCE)
}

/// Without a key, the sender's address is all there is to check. Hostile messages get an error that is
/// not larger than they are, and a flood of them costs the primary one question.
#[test]
fn hostile_messages_have_no_effect() {
    let (host, upstream) = (Host::local(), upstream());
    let (address, primary) = (free_address(&host), Primary::open(Host::local(), "bad.example CNAME .\n"));
    let unsigned = primary.table_without_key();
    let tables = format!("{unsigned}\n[access]\nallow = [\"127.0.0.0/30\"]\n");
    let ringdnsd =
        Ringdnsd::start_from(&host, |socket| settings(tables.clone(), address, &upstream).text(socket));
    until("the zone", || (rcode(&host, address, "bad.example") == NXDOMAIN).then_some(()));
    let transfers = || primary.output().matches("outgoing, remote").count();
    let before = transfers();
    for (case, from, message, expected) in [
        ("another zone", "127.0.0.1", message("other.example", |_| {}), Some(NOTAUTH)),
        ("another source", "127.0.0.2", message("rpz.example", |_| {}), Some(NOTIMP)),
        ("a source that may not ask", "127.0.0.4", message("rpz.example", |_| {}), Some(REFUSED)),
        ("trailing bytes", "127.0.0.1", message("rpz.example", |message| message.push(0)), Some(FORMERR)),
        (
            "another class",
            "127.0.0.1",
            message("rpz.example", |message| {
                let at = message.len() - 1;
                message[at] = 3;
            }),
            Some(FORMERR),
        ),
        (
            "another type",
            "127.0.0.1",
            message("rpz.example", |message| {
                let at = message.len() - 3;
                message[at] = 1;
            }),
            Some(FORMERR),
        ),
        ("no question", "127.0.0.1", message("rpz.example", |message| message.truncate(12)), Some(FORMERR)),
        ("a reply", "127.0.0.1", message("rpz.example", |message| message[2] |= 0x80), None),
        ("a part of a header", "127.0.0.1", message("rpz.example", |message| message.truncate(11)), None),
    ] {
        let reply = send(&host, from, address, &message);
        assert_eq!(reply.as_ref().map(Reply::rcode), expected, "{case}");
        assert!(reply.is_none_or(|reply| reply.0.len() <= message.len()), "{case}");
    }
    assert_eq!(transfers(), before, "nobody was believed");
    // Sums: two that are dropped, one refusal by the zone, and no punt that waits.
    sums::queries_close(&ringdnsd.stats()["total"]);

    let began = Instant::now();
    let message = message("rpz.example", |_| {});
    for _ in 0..500 {
        let reply = send(&host, "127.0.0.1", address, &message);
        assert!(reply.is_none_or(|reply| (reply.rcode(), reply.0.len()) == (0, message.len())));
    }
    until("one transfer", || (transfers() > before).then_some(()));
    let most = 1 + began.elapsed().as_secs() as usize / 5;
    assert!((1..=most).contains(&(transfers() - before)), "{} of {most}", transfers() - before);
    sums::queries_close(&ringdnsd.stats()["total"]);
}
