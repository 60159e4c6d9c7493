//! Tests of unusual checksums: which are accepted, which are dropped, and that both are reported.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use ringdns_testkit::{
    Client, DNS_V4, DNS_V6, Lab, Query, Ringdnsd, Settings, Upstream, sums::queries_close, until,
};
use rustix::net::{AddressFamily, SocketType, ipproto, socket};

const PATIENCE: Duration = Duration::from_secs(10);
const PARTIAL: &str = "packets arrive with partial checksums";
const WRONG: &str = "had wrong checksums and were dropped";

/// Returns the number of log lines with `words`, of which there is one at least. A thread of its own
/// writes the log, so a line may come later than the state that it tells of.
#[track_caller]
fn lines_with(ringdnsd: &Ringdnsd, words: &str) -> usize {
    ringdnsd.process().wait_for_line(words, PATIENCE);
    ringdnsd.process().output().lines().filter(|line| line.contains(words)).count()
}

/// Checks partial checksums: kernel sockets leave completing them to the NIC, and a veth pair never
/// completes them.
#[test]
fn partial_checksums_are_accepted_and_told() {
    let Some(lab) = Lab::up() else { return };
    lab.client().run("ethtool", ["-K", "vc", "tx", "on"]);
    let upstream = Upstream::answering(lab.server());
    for mode in ["copy", "generic"] {
        let server = format!("mode = {mode:?}\nfallback = false");
        let ringdnsd =
            Ringdnsd::start(lab.server(), &Settings { server, ..Settings::xdp(upstream.address()) });
        assert!(!ringdnsd.told(&["status"]).contains(PARTIAL));
        for server in [DNS_V4, DNS_V6] {
            // The client's kernel verifies the checksum of the reply.
            let client = Client::of(lab.client(), server);
            for name in ["www.example", "www.example", "other.example"] {
                assert_eq!(client.ask(&Query::a(name)).rcode(), 0, "{mode} {server}");
            }
        }
        let total = &ringdnsd.settled()["total"];
        assert_eq!((&total["received"], &total["partial_checksum"]), (&6.into(), &6.into()), "{total:#}");
        assert_eq!((&total["punted"], &total["hit"]), (&2.into(), &4.into()), "{total:#}");
        queries_close(total);
        until("status tells it", || ringdnsd.told(&["status"]).contains(PARTIAL).then_some(()));
        assert_eq!(lines_with(&ringdnsd, PARTIAL), 1);
        let said = ringdnsd.process().output();
        assert!(!said.contains("WARN"), "{said}");
    }
}

/// Sends datagrams to `server` that differ from a query only in their checksum.
fn send_with_wrong_checksums(lab: &Lab, server: SocketAddr, count: usize) {
    let message = Query::a("www.example").wire();
    let length = 8 + message.len() as u16;
    let header = [4053, server.port(), length, 0xbad].map(u16::to_be_bytes).concat();
    lab.client().enter(|| {
        let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::UDP)).unwrap();
        let raw = UdpSocket::from(raw);
        raw.connect(server).unwrap();
        for _ in 0..count {
            assert!(raw.send(&[&header[..], &message].concat()).is_ok());
        }
    });
}

#[test]
fn wrong_checksums_are_dropped_and_a_high_share_of_them_is_told() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(upstream.address()));
    assert_eq!(Client::of(lab.client(), DNS_V4).ask(&Query::a("www.example")).rcode(), 0);
    // The first reading of the counters is the base for later ones.
    ringdnsd.next_second();
    ringdnsd.next_second();
    send_with_wrong_checksums(&lab, DNS_V4, 100);
    let status = until("status tells it", || {
        let status = ringdnsd.told(&["status"]);
        status.contains(WRONG).then_some(status)
    });
    assert!(status.contains("server.trust_checksums = true"), "{status}");
    let total = &ringdnsd.settled()["total"];
    assert_eq!(total["dropped"]["bad_checksum"], 100, "{total:#}");
    assert_eq!(lines_with(&ringdnsd, WRONG), 1);
    queries_close(total);
    until("it is over", || (!ringdnsd.told(&["status"]).contains(WRONG)).then_some(()));
    assert_eq!(lines_with(&ringdnsd, WRONG), 1);
}
