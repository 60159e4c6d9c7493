//! Tests of the lab, its servers and its clients, on which the tests of ringdns rely.

use ringdns_testkit::{
    DNS_V4, DNS_V6, Host, Knot, Lab, LabOptions, SERVER_V4, SERVER_V6, Unbound, Zone, kdig, popular_names,
};

#[test]
fn both_families_cross_the_cable() {
    let Some(lab) = Lab::up() else { return };
    for server in [SERVER_V4.to_string(), SERVER_V6.to_string()] {
        lab.client().run("ping", ["-c", "1", "-W", "5", &server]);
    }
}

#[test]
fn two_labs_do_not_meet_and_leave_nothing() {
    let namespaces = || Host::local().run("ip", ["netns", "list"]);
    let (Some(one), Some(other)) = (Lab::up(), Lab::up()) else { return };
    let _knot = Knot::serve(one.server(), DNS_V4, &[Zone::example()]);
    // The same address in the other lab is free, and the example zone is not there.
    let _knot = Knot::serve(other.server(), DNS_V4, &[Zone::empty("other.", 60)]);
    assert_eq!(kdig(one.client(), DNS_V4, &["www.example", "A"]), "192.0.2.1");
    assert_eq!(kdig(other.client(), DNS_V4, &["www.example", "A"]), "");

    let named = namespaces();
    let mine = format!("{}-", std::process::id());
    assert_eq!(named.lines().filter(|line| line.contains(&mine)).count(), 4, "{named}");
    // A process that was not ended does not outlive its lab.
    let mut forgotten = one.server().spawn("sleep", ["1000"]);
    drop(one);
    assert!(!forgotten.wait_for_exit(std::time::Duration::from_secs(5)).success());
    drop(other);
    let named = namespaces();
    assert!(!named.contains(&mine), "{named}");
}

#[test]
fn knot_answers_over_either_family_and_transport() {
    let Some(lab) = Lab::up() else { return };
    let _over_v4 = Knot::serve(lab.server(), DNS_V4, &[Zone::example()]);
    let _over_v6 = Knot::serve(lab.server(), DNS_V6, &[Zone::example()]);
    for server in [DNS_V4, DNS_V6] {
        for transport in ["+notcp", "+tcp"] {
            let ask = |name, kind| kdig(lab.client(), server, &[transport, name, kind]);
            assert_eq!(ask("www.example", "A"), "192.0.2.1");
            assert_eq!(ask("www.example", "AAAA"), "2001:db8::1");
            assert_eq!(ask("alias.example", "A"), "alias2.example.\nwww.example.\n192.0.2.1");
            assert_eq!(ask("mx.example", "MX"), "10 mail.example.");
            assert_eq!(ask("any.wild.example", "A"), "192.0.2.9");
            assert_eq!(ask("many.example", "A").lines().count(), 40);
            assert_eq!(ask("nothing.example", "A"), "");
        }
    }
    let truncated = lab.client().run("kdig", ["+ignore", "@10.53.0.2", "big.example", "TXT"]);
    assert!(truncated.contains("Flags: qr aa tc rd;"), "{truncated}");
    assert_eq!(kdig(lab.client(), DNS_V4, &["big.example", "TXT"]).lines().count(), 12);
}

#[test]
fn a_tagged_cable_carries_every_family_and_transport() {
    let Some(lab) = Lab::with(LabOptions { vlan: Some(53), ..LabOptions::default() }) else { return };
    let _over_v4 = Knot::serve(lab.server(), DNS_V4, &[Zone::example()]);
    let _over_v6 = Knot::serve(lab.server(), DNS_V6, &[Zone::example()]);
    // With a line buffer, tcpdump prints each packet at once.
    let listen = ["-l", "-e", "-n", "-i", "vs", "udp and dst port 53 or (vlan and udp and dst port 53)"];
    let capture = lab.server().spawn("tcpdump", listen);
    capture.wait_for_line("listening on vs", std::time::Duration::from_secs(10));
    for server in [DNS_V4, DNS_V6] {
        assert_eq!(kdig(lab.client(), server, &["www.example", "A"]), "192.0.2.1");
        assert_eq!(kdig(lab.client(), server, &["+tcp", "www.example", "AAAA"]), "2001:db8::1");
    }
    capture.wait_for_line("vlan 53, p 0", std::time::Duration::from_secs(10));
}

#[test]
fn queues_share_the_clients_among_them() {
    let Some(lab) = Lab::with(LabOptions { queues: 2, ..LabOptions::default() }) else { return };
    let channels = lab.server().run("ethtool", ["--show-channels", "vs"]);
    assert_eq!(
        channels.lines().filter(|line| line.starts_with("RX:") && line.ends_with('2')).count(),
        2,
        "{channels}"
    );
    lab.client().run("ping", ["-c", "1", "-W", "5", "10.53.0.2"]);
}

#[test]
fn unbound_forwards_to_a_root_of_many_names() {
    let Some(lab) = Lab::up() else { return };
    let names = popular_names(100_000);
    let knot = Knot::upstream(lab.server(), &[Zone::root_of(&names, 300)]);
    let _unbound = Unbound::forward(lab.server(), DNS_V4, knot.address());
    for number in [0, 1, 4321, 99_999] {
        let address = kdig(lab.client(), DNS_V4, &[names[number].as_str(), "A"]);
        assert_eq!(address, Zone::address(number).to_string(), "{}", names[number]);
    }
}
