//! Tests of what ringdnsd refuses, with which message, and that it leaves nothing behind.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use ringdns_testkit::{Client, DNS_V4, Lab, Query, Ringdnsd, SERVER_V4, Settings, Upstream};

/// Exit status for a configuration that is wrong.
const REFUSED: i32 = 2;
/// Exit status if this machine lacks something.
const UNFIT: i32 = 3;

/// Returns an address where nothing listens, for tests that never query an upstream.
fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9))
}

/// Checks that ringdnsd refuses to start, with each of `words`, and leaves no XDP program on the
/// interface.
#[track_caller]
fn refuses(lab: &Lab, settings: &Settings, wrapper: &[&str], words: &[&str]) {
    let (code, said) = Ringdnsd::refused(lab.server(), settings, wrapper);
    assert!([REFUSED, UNFIT].contains(&code), "{code} {said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
    assert!(!program_of(lab).contains("prog/xdp"), "an XDP program is left behind");
}

fn program_of(lab: &Lab) -> String {
    lab.server().run("ip", ["-details", "link", "show", "dev", "vs"])
}

#[test]
fn a_wrong_configuration_is_refused_with_key_reason_and_remedy() {
    let Some(lab) = Lab::up() else { return };
    let right = Settings::xdp(nobody());
    let wrong = |change: &dyn Fn(&mut Settings)| {
        let mut settings = right.clone();
        change(&mut settings);
        settings
    };
    let many = (1..=17).map(|last| format!("10.53.0.{last}:53")).collect::<Vec<_>>();
    for (settings, words) in [
        (
            wrong(&|it| it.server += "\ninterfaces = \"vs\""),
            [
                "ringdns.toml:6:14: server.interfaces: unknown key \"interfaces\" in [server]",
                "mean \"interface\"?",
            ],
        ),
        (
            wrong(&|it| it.interface = Some("no-such0".into())),
            ["ringdns.toml:3:13: server.interface: no network interface is called \"no-such0\"", "`ip link`"],
        ),
        (
            wrong(&|it| it.listen = many.clone()),
            ["server.listen: 17 addresses are more than", "0.0.0.0 or [::] in place of many"],
        ),
        (
            wrong(&|it| it.listen = vec!["10.53.0.2".into()]),
            ["server.listen[0]: \"10.53.0.2\" is no IP address with a port", "Write \"10.53.0.2:53\""],
        ),
        (wrong(&|it| it.upstreams.clear()), ["upstream: no upstream is configured", "Add [[upstream]]"]),
        (
            wrong(&|it| it.upstreams = vec![DNS_V4]),
            ["upstream[0].address: 10.53.0.2:53 is ringdns itself", "another resolver"],
        ),
        (
            wrong(&|it| it.server += "\nworkers = 2"),
            ["server.workers: with an interface there is one worker a queue", "server.queues"],
        ),
        (
            wrong(&|it| it.tables = "[cache]\nmax_ttl = \"forever\"".into()),
            ["cache.max_ttl: ", "Correct the value"],
        ),
        (
            wrong(&|it| it.tables = "[cache]\nhost_bytes = \"900000GiB\"".into()),
            ["cache.host_bytes: ", "Lower it"],
        ),
    ] {
        refuses(&lab, &settings, &[], &words);
    }
}

#[test]
fn a_port_in_use_is_named_with_its_protocol_and_who_to_ask() {
    let Some(lab) = Lab::up() else { return };
    let settings = Settings::xdp(nobody());
    {
        let _taken = lab.server().enter(|| UdpSocket::bind(DNS_V4)).unwrap();
        refuses(&lab, &settings, &[], &["server.listen: cannot listen on UDP 10.53.0.2:53", "ss -lunp"]);
    }
    {
        let _taken = lab.server().enter(|| TcpListener::bind(DNS_V4)).unwrap();
        refuses(&lab, &settings, &[], &["server.listen: cannot listen on TCP 10.53.0.2:53", "ss -ltnp"]);
    }
    let upstream = Upstream::answering(lab.server());
    let _ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(upstream.address()));
    Client::of(lab.client(), DNS_V4).ask(&Query::a("www.example"));
}

#[test]
fn a_missing_privilege_is_named_with_how_to_grant_it() {
    let Some(lab) = Lab::up() else { return };
    let settings = Settings::xdp(nobody());
    let without = |capabilities: &str| {
        let set = format!("--bounding-set={capabilities}");
        ["setpriv".to_owned(), set, format!("--inh-caps={capabilities}")]
    };
    for (dropped, words) in [
        ("-net_admin,-sys_admin", ["CAP_NET_ADMIN", "AmbientCapabilities=CAP_NET_ADMIN"]),
        ("-bpf,-sys_admin", ["CAP_BPF", "AmbientCapabilities=CAP_BPF"]),
        ("-perfmon,-sys_admin", ["CAP_PERFMON", "AmbientCapabilities=CAP_PERFMON"]),
        ("-net_raw", ["CAP_NET_RAW", "AmbientCapabilities=CAP_NET_RAW"]),
        // All at once.
        ("-net_raw,-bpf,-sys_admin", ["lacks CAP_BPF, CAP_NET_RAW", "setcap cap_bpf,cap_net_raw+ep"]),
        (
            "-net_bind_service,-net_raw",
            ["docker run --cap-add=CAP_NET_BIND_SERVICE --cap-add=CAP_NET_RAW", "server.listen"],
        ),
    ] {
        let wrapper = without(dropped);
        refuses(&lab, &settings, &wrapper.each_ref().map(String::as_str), &words);
    }
    let wrapper = without("-ipc_lock");
    let limited = ["prlimit", "--memlock=65536:65536", &wrapper[0], &wrapper[1], &wrapper[2]];
    refuses(&lab, &settings, &limited, &["locked memory is too low", "LimitMEMLOCK=infinity"]);
}

#[test]
fn without_fallback_an_interface_in_use_is_an_error() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let first = Ringdnsd::start(lab.server(), &Settings::xdp(upstream.address()));
    let program = program_of(&lab);
    assert!(program.contains("prog/xdp"), "{program}");
    let second = Settings { listen: vec![format!("{SERVER_V4}:5353")], ..Settings::xdp(upstream.address()) };
    let (code, said) = Ringdnsd::refused(lab.server(), &second, &[]);
    assert_eq!(code, UNFIT, "{said}");
    assert!(said.contains("vs"), "{said}");
    // The first ringdnsd is not disturbed.
    assert_eq!(program_of(&lab), program);
    assert_eq!(Client::of(lab.client(), DNS_V4).ask(&Query::a("www.example")).rcode(), 0);
    assert_eq!(first.stat("/xdp/redirected"), 1);
}

#[test]
fn with_fallback_it_warns_once_and_serves_over_kernel_sockets() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    // Another ringdnsd holds the interface.
    let holder = Ringdnsd::start(
        lab.server(),
        &Settings { listen: vec![format!("{SERVER_V4}:5353")], ..Settings::xdp(upstream.address()) },
    );
    let settings = Settings { server: "fallback = true".to_owned(), ..Settings::xdp(upstream.address()) };
    let ringdnsd = Ringdnsd::start(lab.server(), &settings);
    let said = ringdnsd.process().output();
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{said}");
    assert!(
        warnings[0].contains("AF_XDP cannot be used: ") && warnings[0].contains("kernel sockets"),
        "{said}"
    );
    let status = ringdnsd.told(&["status"]);
    assert!(status.contains("kernel sockets, because AF_XDP cannot be used"), "{status}");
    for _ in 0..2 {
        assert_eq!(Client::of(lab.client(), DNS_V4).ask(&Query::a("www.example")).rcode(), 0);
    }
    assert_eq!((ringdnsd.stat("/total/hit"), holder.stat("/xdp/redirected")), (1, 0));
}

#[test]
fn with_fallback_a_missing_privilege_is_no_more_than_a_warning() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let settings = Settings { server: String::new(), ..Settings::xdp(upstream.address()) };
    let wrapper = ["setpriv", "--bounding-set=-net_admin,-sys_admin", "--inh-caps=-net_admin,-sys_admin"];
    let ringdnsd = Ringdnsd::start_behind(lab.server(), &settings, &wrapper);
    assert!(ringdnsd.process().output().contains("CAP_NET_ADMIN"));
    assert_eq!(Client::of(lab.client(), DNS_V4).ask(&Query::a("www.example")).rcode(), 0);
    assert!(!program_of(&lab).contains("prog/xdp"));
}

#[test]
fn port_zero_becomes_a_port_that_is_free_for_both_protocols() {
    let Some(lab) = Lab::up() else { return };
    let _taken = lab.server().take_half_of_udp();
    let settings = Settings { listen: vec!["127.0.0.1:0".into()], ..Settings::sockets(nobody()) };
    for _ in 0..10 {
        drop(Ringdnsd::start(lab.server(), &settings));
    }
}
