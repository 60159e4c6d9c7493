//! Tests of AF_XDP being refused at the start: kernel sockets serve instead, and everything reports
//! so.

use std::fmt::Debug;

use ringdns_testkit::{
    Client, DNS_V4, DNS_V6, Lab, LabOptions, Query, Ringdnsd, SERVER_V4, Settings, Upstream, ask_over_tcp,
    sums,
};

const TWO_QUEUES: LabOptions = LabOptions { queues: 2, vlan: None };

/// Returns settings with these lines of `[server]`, and with fallback to kernel sockets.
fn settings(upstream: &Upstream, server: &str) -> Settings {
    Settings { server: server.to_owned(), ..Settings::xdp(upstream.address()) }
}

/// Starts another ringdnsd, which holds `queue` and the interface's XDP program.
fn holder(lab: &Lab, upstream: &Upstream, queue: u32) -> Ringdnsd {
    let server = format!("mode = \"copy\"\nfallback = false\nqueues = [{queue}]");
    let listen = vec![format!("{SERVER_V4}:5353")];
    Ringdnsd::start(lab.server(), &Settings { listen, ..settings(upstream, &server) })
}

/// Checks that kernel sockets answer over UDP and TCP, and that log, status, `/readyz` and counters
/// report so.
#[track_caller]
fn is_served_by_sockets(lab: &Lab, mut ringdnsd: Ringdnsd, because: &str) {
    let said = ringdnsd.process().output();
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{said}");
    for word in ["AF_XDP cannot be used: ", because, "Serving over kernel sockets instead"] {
        assert!(warnings[0].contains(word), "no {word:?} in: {said}");
    }

    let names = ["one.example", "two.example"];
    for name in names {
        for server in [DNS_V4, DNS_V6] {
            assert_eq!(Client::of(lab.client(), server).ask(&Query::a(name)).rcode(), 0);
            assert_eq!(ask_over_tcp(lab.client(), server, &[Query::a(name)])[0].rcode(), 0);
        }
    }
    is(ringdnsd.readyz(), (true, "ok\n".to_owned()), &said);
    let status = ringdnsd.told(&["status"]);
    for word in ["answering queries", "kernel sockets, because AF_XDP cannot be used: ", because] {
        assert!(status.contains(word), "no {word:?} in: {status}");
    }
    let check = ringdnsd.ctl(&["check"]);
    assert!(check.status.code() == Some(1) && contains(&check.stdout, "xdp_lost"), "{check:?}");
    let stats = ringdnsd.settled();
    sums::queries_close(&stats["total"]);
    is((&stats["xdp"], &stats["total"]["received"]), (&serde_json::Value::Null, &4.into()), &stats);
    is(ringdnsd.terminate().code(), Some(0), &ringdnsd.process().output());
}

fn contains(bytes: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(bytes).contains(text)
}

#[track_caller]
fn is<T: PartialEq + Debug>(found: T, expected: T, context: &dyn Debug) {
    assert_eq!(found, expected, "{context:#?}");
}

#[test]
fn another_xdp_program_is_left_alone() {
    let Some(lab) = Lab::with(TWO_QUEUES) else { return };
    let upstream = Upstream::answering(lab.server());
    let holder = holder(&lab, &upstream, 0);
    let ringdnsd = Ringdnsd::start(lab.server(), &settings(&upstream, "mode = \"copy\"\nqueues = [1]"));
    is_served_by_sockets(&lab, ringdnsd, "interface vs already runs an XDP program");
    assert_eq!(
        holder.stat("/xdp/redirected"),
        0,
        "the other one's program is still there, and steers nothing"
    );
}

#[test]
fn a_later_queue_in_use_takes_none() {
    let Some(lab) = Lab::with(TWO_QUEUES) else { return };
    let upstream = Upstream::answering(lab.server());
    let _holder = holder(&lab, &upstream, 1);
    let ringdnsd = Ringdnsd::start(lab.server(), &settings(&upstream, "mode = \"copy\"\nqueues = [0, 1]"));
    is_served_by_sockets(&lab, ringdnsd, "cannot bind an AF_XDP socket to vs queue 1");
}

#[test]
fn a_later_queue_that_is_missing_takes_none() {
    let Some(lab) = Lab::with(TWO_QUEUES) else { return };
    let upstream = Upstream::answering(lab.server());
    let ringdnsd = Ringdnsd::start(lab.server(), &settings(&upstream, "mode = \"copy\"\nqueues = [0, 7]"));
    is_served_by_sockets(&lab, ringdnsd, "cannot bind an AF_XDP socket to vs queue 7");
}

/// Checks that kernel sockets serve if the driver refuses the program, which is attached last,
/// after all workers have started.
#[test]
fn a_driver_that_refuses_the_program_is_served_without() {
    let Some(lab) = Lab::with(TWO_QUEUES) else { return };
    let upstream = Upstream::answering(lab.server());
    // veth refuses native XDP at an end with fewer receive queues than the peer has send queues.
    lab.server().run("ethtool", ["-L", "vs", "rx", "1"]);
    let ringdnsd = Ringdnsd::start(lab.server(), &settings(&upstream, "mode = \"copy\""));
    is_served_by_sockets(&lab, ringdnsd, "the driver of interface vs refuses native XDP");
}
