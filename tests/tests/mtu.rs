//! Tests of answers that exceed the MTU of the link where they leave: over UDP they are truncated,
//! so that the client asks again over TCP, and none vanishes.

use std::net::SocketAddr;

use ringdns_testkit::{
    Client, DNS_V4, DNS_V6, Host, Lab, Over, Query, Ringdnsd, Say, Settings, Upstream, a_record,
    ask_over_tcp, sums, until,
};

/// Names of the test and the number of address records of each. With EDNS, an answer has 38 bytes
/// and 16 for each record.
const NAMES: [(&str, usize); 4] =
    [("a.example", 58), ("b.example", 74), ("c.example", 75), ("d.example", 76)];

/// Largest answers at each MTU: over IPv4, and over IPv6 if the link has it.
const LIMITS: [(u32, usize, Option<usize>); 3] =
    [(1280, 1252, Some(1232)), (1500, 1400, Some(1400)), (1000, 972, None)];

fn upstream(host: &Host) -> Upstream {
    Upstream::start(host, |seen| {
        if seen.over == Over::Udp {
            return vec![Say::Send(seen.query.truncated())];
        }
        let name = seen.query.name();
        let count = NAMES.iter().find(|(known, _)| name.starts_with(known)).map_or(0, |(_, count)| *count);
        let records: Vec<_> = (0..count).map(|nth| a_record(300, [192, 0, 2, nth as u8])).collect();
        vec![Say::Send(seen.query.response(0, &records))]
    })
}

fn set_mtu(lab: &Lab, mtu: u32) {
    for (host, end) in [(lab.client(), "vc"), (lab.server(), "vs")] {
        host.run("ip", ["link", "set", "dev", end, "mtu", &mtu.to_string()]);
    }
}

/// Checks that answers of up to `largest` bytes come whole over UDP, that larger ones are truncated,
/// and that all come over TCP. Returns the number of truncated ones.
#[track_caller]
fn is_limited_to(lab: &Lab, server: SocketAddr, largest: usize) -> u64 {
    let client = Client::of(lab.client(), server);
    let mut truncated = 0;
    for (name, count) in NAMES {
        let query = Query::a(name).edns(4096);
        let fits = 38 + 16 * count <= largest;
        // A miss and a hit.
        for _ in 0..2 {
            let reply = client.ask(&query);
            let found = (reply.rcode(), reply.is_truncated(), reply.answers(), reply.has_edns());
            assert_eq!(found, (0, !fits, if fits { count } else { 0 }, true), "{name} from {server}");
            truncated += u64::from(!fits);
        }
        assert_eq!(ask_over_tcp(lab.client(), server, &[query])[0].answers(), count, "{name} from {server}");
    }
    truncated
}

/// Checks the answers at each MTU, which changes while ringdnsd runs. `followed` waits until
/// ringdnsd knows a limit over IPv4. Returns the number of truncated answers.
fn follow_mtu(lab: &Lab, followed: impl Fn(usize)) -> u64 {
    let mut truncated = 0;
    for (round, (mtu, v4, v6)) in LIMITS.into_iter().enumerate() {
        if round > 0 {
            set_mtu(lab, mtu);
        }
        followed(v4);
        truncated += is_limited_to(lab, DNS_V4, v4);
        truncated += v6.map_or(0, |v6| is_limited_to(lab, DNS_V6, v6));
    }
    truncated
}

#[track_caller]
fn is_well(ringdnsd: &Ringdnsd, receiving: &str) -> serde_json::Value {
    let status = ringdnsd.told(&["status"]);
    assert!(status.contains("answering queries\n") && status.contains(receiving), "{status}");
    assert_eq!(ringdnsd.readyz(), (true, "ok\n".to_owned()));
    let stats = ringdnsd.settled();
    sums::queries_close(&stats["total"]);
    stats
}

#[test]
fn answers_over_af_xdp_fit_the_mtu_of_the_interface() {
    let Some(lab) = Lab::up() else { return };
    let upstream = upstream(lab.server());
    let server = "mode = \"copy\"\nfallback = false\nudp_limit = 1400";
    set_mtu(&lab, LIMITS[0].0);
    let settings = Settings { server: server.to_owned(), ..Settings::xdp(upstream.address()) };
    let ringdnsd = Ringdnsd::start(lab.server(), &settings);
    let truncated = follow_mtu(&lab, |v4| {
        let line = format!("answers over UDP have at most {v4} bytes over IPv4");
        until(&line, || ringdnsd.process().output().contains(&line).then_some(()));
    });
    let stats = is_well(&ringdnsd, "AF_XDP on vs");
    assert_eq!(sums::count(&stats["total"]["truncated"]), truncated, "{stats:#}");
    assert!(sums::count(&stats["total"]["hit"]) > 0, "{stats:#}");
    assert_eq!(ringdnsd.stat("/workers/0/port/cut_to_mtu"), 0);
}

#[test]
fn answers_over_kernel_sockets_fit_the_mtu_of_the_interface() {
    let Some(lab) = Lab::up() else { return };
    let upstream = upstream(lab.server());
    set_mtu(&lab, LIMITS[0].0);
    for listen in [vec![DNS_V4, DNS_V6], vec!["0.0.0.0:53".parse().unwrap(), "[::]:53".parse().unwrap()]] {
        let listen = listen.iter().map(SocketAddr::to_string).collect();
        let server = "workers = 1\nudp_limit = 1400".to_owned();
        let settings = Settings { listen, server, ..Settings::sockets(upstream.address()) };
        let ringdnsd = Ringdnsd::start(lab.server(), &settings);
        let truncated = if settings.listen[0].starts_with('0') {
            is_limited_to(&lab, DNS_V4, 1252) + is_limited_to(&lab, DNS_V6, 1232)
        } else {
            let truncated = follow_mtu(&lab, |_| ());
            set_mtu(&lab, LIMITS[0].0);
            lab.server().give_address("vs", ringdns_testkit::SERVER_V6);
            lab.client().give_address("vc", ringdns_testkit::CLIENT_V6);
            truncated
        };
        is_well(&ringdnsd, "kernel sockets");
        until("the port's totals are published", || {
            (ringdnsd.stat("/workers/0/port/cut_to_mtu") == truncated).then_some(())
        });
        assert_eq!(ringdnsd.stat("/workers/0/port/send_failed"), 0);
    }
}
