//! The steering program in the kernel, run on test frames: `BPF_PROG_TEST_RUN` returns what became
//! of each.

#[path = "../../../ebpf/abi/tests/fixtures/mod.rs"]
mod fixtures;

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsFd as _,
    sync::atomic::{AtomicBool, Ordering},
};

use aya::programs::{TestRun as _, TestRunOptions};
use ringdns_abi::{MAX_FRAME, MAX_LISTEN, MAX_QUEUES, Verdict};
use ringdns_dataplane::prefix::Prefix;
use ringdns_testkit::{Lab, until};
use ringdns_xdp::{AccessRules, AttachMode, MAX_ACCESS, SteerConfig, SteerError, Steering, Verdicts};
use rustix::{
    fd::OwnedFd,
    net::{AddressFamily, SocketType, socket},
};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

/// Queue of the loopback interface that test runs use by default.
const QUEUE: u32 = 0;

fn load(listen: &[SocketAddr]) -> Result<Steering, SteerError> {
    Steering::load(&SteerConfig {
        interface: "lo",
        listen,
        vlans: &[],
        prefixes: &[],
        mode: AttachMode::Auto,
    })
}

/// Returns a host with the addresses of the fixtures, and the program that is loaded there. `None`
/// without privilege.
fn loaded() -> Option<(Lab, Steering)> {
    let lab = Lab::up()?;
    let host = lab.server();
    host.run("ip", ["link", "set", "vs", "address", "02:00:00:00:00:02"]);
    host.give_address("vs", Ipv4Addr::new(10, 53, 0, 4));
    host.give_address("vs", "fd53::4".parse::<Ipv6Addr>().unwrap());
    host.run("ip", ["route", "add", "local", "192.0.2.0/24", "dev", "lo"]);
    host.run("ip", ["-6", "route", "add", "local", "2001:db8:53::/64", "dev", "lo"]);
    let steering = host.enter(|| {
        let (listen, vlans) = (&fixtures::listen(), &fixtures::VLANS);
        let config = SteerConfig { interface: "vs", listen, vlans, prefixes: &[], mode: AttachMode::Auto };
        let mut steering = Steering::load(&config).expect("the program loads");
        steering.look_at_host().expect("the host's tables");
        steering
    });
    Some((lab, steering))
}

/// Returns an AF_XDP socket. Nothing is received on it.
fn af_xdp_socket() -> OwnedFd {
    socket(AddressFamily::XDP, SocketType::RAW, None).expect("an AF_XDP socket")
}

/// Returns a program with a socket for its queue, and a query that it steers there. `None` without privilege.
fn steering_one_queue() -> Option<(Lab, Steering, OwnedFd, fixtures::Fixture)> {
    let (lab, mut steering) = loaded()?;
    let socket = af_xdp_socket();
    steering.add_socket(QUEUE, socket.as_fd()).expect("a place in the map");
    Some((lab, steering, socket, fixtures::all().swap_remove(0)))
}

/// Runs the program on `frame`. Returns the action and the resulting frame.
fn run(steering: &mut Steering, frame: &[u8]) -> (u32, Vec<u8>) {
    let mut out = vec![0xaa; frame.len() + 64];
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.data_out = Some(&mut out);
    let result = steering.program().and_then(|program| {
        program.test_run(options).map_err(|error| panic!("test run of {} bytes: {error:?}", frame.len()))
    });
    let result = result.expect("the program is there");
    out.truncate(result.data_size_out as usize);
    (result.return_value, out)
}

/// Returns the verdict that was counted since `before`, if exactly one was.
fn only_verdict(before: Verdicts, after: Verdicts) -> Option<Verdict> {
    let mut counted = Verdict::ALL.into_iter().filter(|&verdict| after.get(verdict) != before.get(verdict));
    let verdict = counted.next()?;
    let once = after.total() == before.total() + 1;
    (once && counted.next().is_none()).then_some(verdict)
}

/// Runs the program on one frame and checks verdict, action and frame.
fn check(steering: &mut Steering, name: &str, frame: &[u8], verdict: Verdict) {
    let before = steering.verdicts().expect("counters");
    let (action, left) = run(steering, frame);
    let after = steering.verdicts().expect("counters");

    let expected = match verdict {
        Verdict::Redirected => XDP_REDIRECT,
        verdict if verdict.is_about_source() => XDP_DROP,
        _ => XDP_PASS,
    };
    assert_eq!(action, expected, "{name}: action");
    assert_eq!(only_verdict(before, after), Some(verdict), "{name}: verdict");
    assert!(left == frame, "{name}: the program changed the frame");
}

#[test]
fn every_fixture_gets_its_verdict() {
    let Some((_lab, mut steering)) = loaded() else { return };
    let socket = af_xdp_socket();
    steering.add_socket(QUEUE, socket.as_fd()).expect("a place in the map");
    for fixture in fixtures::all() {
        check(&mut steering, fixture.name, &fixture.frame, fixture.verdict);
    }
}

#[test]
fn a_queue_without_a_socket_leaves_queries_to_the_kernel() {
    let Some((_lab, mut steering)) = loaded() else { return };
    for fixture in fixtures::all() {
        let verdict = match fixture.verdict {
            Verdict::Redirected => Verdict::NoSocket,
            other => other,
        };
        check(&mut steering, fixture.name, &fixture.frame, verdict);
    }
}

#[test]
fn a_closed_socket_leaves_its_queue_to_the_kernel() {
    let Some((_lab, mut steering, socket, query)) = steering_one_queue() else { return };
    check(&mut steering, query.name, &query.frame, Verdict::Redirected);
    drop(socket);
    // A process that another test begins has the socket open too, until it runs its program.
    until("no process has the socket", || (run(&mut steering, &query.frame).0 == XDP_PASS).then_some(()));
    check(&mut steering, query.name, &query.frame, Verdict::NoSocket);
}

/// Frames larger than a chunk of packet memory, and frames in several buffers, of which AF_XDP
/// would drop the first and lose the rest.
#[test]
fn what_no_chunk_holds_is_left_to_the_kernel() {
    let Some((_lab, mut steering, _socket, query)) = steering_one_queue() else { return };
    let with_trailer = |length: usize| {
        let mut frame = query.frame.clone();
        frame.resize(length, 0);
        frame
    };
    check(&mut steering, "longest", &with_trailer(MAX_FRAME), Verdict::Redirected);
    check(&mut steering, "longer", &with_trailer(MAX_FRAME + 1), Verdict::Oversize);
    // The kernel splits a frame larger than a page into several buffers.
    assert!(steering.takes_frags(), "this kernel has programs for frames in several buffers");
    check(&mut steering, "a trailer beyond a page", &with_trailer(9000), Verdict::Oversize);
    let datagram = |length: usize| {
        let mut frame = with_trailer(length);
        // The lengths of IP and UDP in an IPv4 packet without a tag.
        frame[16..18].copy_from_slice(&(length as u16 - 14).to_be_bytes());
        frame[38..40].copy_from_slice(&(length as u16 - 34).to_be_bytes());
        frame
    };
    check(&mut steering, "the longest datagram", &datagram(MAX_FRAME), Verdict::Redirected);
    check(&mut steering, "a longer datagram", &datagram(MAX_FRAME + 1), Verdict::Oversize);
    check(&mut steering, "a datagram in several buffers", &datagram(9000), Verdict::Oversize);
    let mut other = with_trailer(9000);
    other[37] ^= 1;
    check(&mut steering, "another port", &other, Verdict::OtherDestination);
    let mut tcp = with_trailer(9000);
    tcp[23] = 6;
    check(&mut steering, "TCP", &tcp, Verdict::Tcp);
}

/// The program in the kernel comes from another compiler, for another machine. It must decide like
/// the host, wherever a frame ends.
#[test]
fn kernel_and_host_agree_on_frames_cut_short() {
    let Some((_lab, mut steering)) = loaded() else { return };
    for fixture in fixtures::all() {
        // The kernel accepts no test frame shorter than an Ethernet header.
        for length in 14..fixture.frame.len() {
            let frame = &fixture.frame[..length];
            let before = steering.verdicts().expect("counters");
            run(&mut steering, frame);
            let counted = only_verdict(before, steering.verdicts().expect("counters"));
            match ringdns_abi::classify(frame) {
                Err(verdict) => assert_eq!(counted, Some(verdict), "{} at {length}", fixture.name),
                Ok(_) => {
                    let whole = match fixture.verdict {
                        Verdict::Redirected => Verdict::NoSocket,
                        other => other,
                    };
                    assert_eq!(counted, Some(whole), "{} at {length}", fixture.name);
                }
            }
        }
    }
}

/// On loopback, which has no link address, a host may ask itself. Those queries are the kernel's.
#[test]
fn on_loopback_sources_are_no_reason_to_drop() {
    let Some(lab) = Lab::up() else { return };
    lab.server().enter(|| {
        let mut steering = load(&fixtures::listen()).expect("the program loads");
        steering.look_at_host().expect("the host's tables");
        let sources = fixtures::all().into_iter().filter(|fixture| fixture.name == "v4_from_itself");
        for fixture in sources {
            let before = steering.verdicts().expect("counters");
            let (action, _) = run(&mut steering, &fixture.frame);
            let counted = only_verdict(before, steering.verdicts().expect("counters"));
            assert_eq!((action, counted), (XDP_PASS, Some(Verdict::OwnSource)));
        }
    });
}

/// Addresses that come and go are those of the next look, and a part of a local prefix that is not
/// local is not this host's.
#[test]
fn the_hosts_addresses_are_those_of_the_last_look() {
    let Some((lab, mut steering, _socket, query)) = steering_one_queue() else { return };
    let host = lab.server();
    check(&mut steering, query.name, &query.frame, Verdict::Redirected);
    host.run("ip", ["address", "del", "10.53.0.2/24", "dev", "vs"]);
    check(&mut steering, query.name, &query.frame, Verdict::Redirected);
    steering.look_at_host().expect("the host's tables");
    check(&mut steering, query.name, &query.frame, Verdict::NotLocal);
    host.run("ip", ["route", "add", "local", "10.53.0.0/24", "dev", "lo"]);
    steering.look_at_host().expect("the host's tables");
    // The client's address is in the prefix too.
    check(&mut steering, query.name, &query.frame, Verdict::OwnSource);
    host.run("ip", ["route", "add", "throw", "10.53.0.1", "table", "local"]);
    steering.look_at_host().expect("the host's tables");
    check(&mut steering, query.name, &query.frame, Verdict::Redirected);
    host.run("ip", ["route", "add", "throw", "10.53.0.2", "table", "local"]);
    steering.look_at_host().expect("the host's tables");
    check(&mut steering, query.name, &query.frame, Verdict::NotLocal);
}

#[test]
fn the_listen_set_can_be_replaced() {
    let Some((_lab, mut steering, _socket, query)) = steering_one_queue() else { return };
    check(&mut steering, query.name, &query.frame, Verdict::Redirected);

    steering.set_listen(&["[fd53::2]:53".parse().unwrap()]).expect("a smaller set");
    check(&mut steering, query.name, &query.frame, Verdict::OtherDestination);

    steering.set_listen(&["0.0.0.0:53".parse().unwrap()]).expect("another set");
    check(&mut steering, query.name, &query.frame, Verdict::Redirected);
}

#[test]
fn the_listen_set_holds_as_many_as_it_says() {
    if !ringdns_testkit::privilege::granted() {
        return;
    }
    let addresses =
        |first: u16| (first..).take(MAX_LISTEN as usize).map(|port| ([10, 53, 0, 2], port).into());
    let one: Vec<SocketAddr> = addresses(1000).collect();
    let other: Vec<SocketAddr> = addresses(2000).collect();

    let mut steering = load(&one).expect("a full set");
    steering.set_listen(&other).expect("a full set in place of a full set");

    let too_many: Vec<SocketAddr> = one.into_iter().chain([other[0]]).collect();
    let Err(error) = load(&too_many) else { panic!("{} addresses were taken", too_many.len()) };
    assert!(matches!(error, SteerError::TooManyListeners { count: 257 }), "{error}");
}

#[test]
fn what_cannot_be_a_socket_of_a_queue_is_refused() {
    let Some((_lab, mut steering)) = loaded() else { return };
    let error = steering.add_socket(MAX_QUEUES, af_xdp_socket().as_fd()).expect_err("no such queue");
    assert!(matches!(error, SteerError::NoSuchQueue { queue: MAX_QUEUES }), "{error}");

    let other = socket(AddressFamily::INET, SocketType::DGRAM, None).expect("a UDP socket");
    let error = steering.add_socket(QUEUE, other.as_fd()).expect_err("no AF_XDP socket");
    assert!(matches!(error, SteerError::Socket { queue: QUEUE, .. }), "{error}");
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    for interface in ["no-such-nic", "", "a-name-longer-than-any-interface", "nul\0in-it"] {
        let config = SteerConfig {
            interface,
            listen: &fixtures::listen(),
            vlans: &[],
            prefixes: &[],
            mode: AttachMode::Auto,
        };
        let Err(error) = Steering::load(&config) else { panic!("{interface:?} was found") };
        assert!(error.to_string().contains(&format!("{interface:?}")), "{error}");
        assert!(matches!(error, SteerError::NoInterface { .. }), "{error}");
    }
}

/// A ban holds across a look at the host's tables, until another set of bans takes its place. A
/// prefix that has an address of this host by a shorter prefix cannot be banned.
#[test]
fn banned_clients_are_dropped_until_the_ban_ends() {
    let Some((lab, mut steering, _socket, query)) = steering_one_queue() else { return };
    let bans = |prefixes: &[&str]| prefixes.iter().map(|prefix| prefix.parse().expect(prefix)).collect();
    for (prefixes, verdict) in [
        (&["10.53.0.1"][..], Verdict::Banned),
        (&["10.53.0.0/24", "192.0.2.0/24"], Verdict::Banned),
        (&["10.53.0.9", "fd53::1"], Verdict::Redirected),
        (&["10.53.0.0/24"], Verdict::Banned),
        (&[], Verdict::Redirected),
    ] {
        steering.set_bans(bans(prefixes)).expect("bans");
        check(&mut steering, query.name, &query.frame, verdict);
        steering.look_at_host().expect("the host's tables");
        check(&mut steering, query.name, &query.frame, verdict);
    }
    lab.server().run("ip", ["route", "add", "local", "10.53.0.0/25", "dev", "lo"]);
    steering.look_at_host().expect("the host's tables");
    steering.set_bans(bans(&["10.53.0.1"])).expect("bans");
    check(&mut steering, query.name, &query.frame, Verdict::OwnSource);
    lab.server().run("ip", ["route", "del", "local", "10.53.0.0/25", "dev", "lo"]);
    steering.look_at_host().expect("the host's tables");
    check(&mut steering, query.name, &query.frame, Verdict::Banned);
}

fn access(allow: &[&str], deny: &[&str]) -> AccessRules {
    let prefixes =
        |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a prefix")).collect::<Vec<Prefix>>();
    AccessRules::new(&prefixes(allow), &prefixes(deny))
}

/// The longest prefix decides, deny before allow, and no prefix is no. Bans come first, and the
/// kernel keeps what is not for a listener.
#[test]
fn clients_that_the_access_list_denies_are_dropped() {
    let Some((_lab, mut steering, _socket, query)) = steering_one_queue() else { return };
    for (allow, deny, verdict) in [
        (&["0.0.0.0/0", "::/0"][..], &[][..], Verdict::Redirected),
        (&["10.53.0.0/24"], &[], Verdict::Redirected),
        (&["10.53.0.0/24"], &["10.53.0.0/25"], Verdict::Denied),
        (&["10.53.0.0/24", "10.53.0.1"], &["10.53.0.0/25"], Verdict::Redirected),
        (&["10.53.0.1"], &["10.53.0.1"], Verdict::Denied),
        (&["10.53.0.2"], &[], Verdict::Denied),
        (&["::/0", "a35:1::/32"], &[], Verdict::Denied),
        (&[], &[], Verdict::Denied),
    ] {
        let rules = access(allow, deny);
        let len = rules.len();
        steering.set_access(Some(rules)).expect("rules");
        assert_eq!(steering.access_rules(), Some(len));
        check(&mut steering, query.name, &query.frame, verdict);
        steering.look_at_host().expect("the host's tables");
        check(&mut steering, query.name, &query.frame, verdict);
    }
    for fixture in fixtures::all() {
        let expected = if fixture.verdict == Verdict::Redirected { Verdict::Denied } else { fixture.verdict };
        check(&mut steering, fixture.name, &fixture.frame, expected);
    }
    steering.set_bans(vec!["10.53.0.1".parse().expect("a prefix")]).expect("bans");
    check(&mut steering, query.name, &query.frame, Verdict::Banned);
    steering.set_bans(Vec::new()).expect("bans");
    steering.set_access(None).expect("no rules");
    assert_eq!(steering.access_rules(), None);
    check(&mut steering, query.name, &query.frame, Verdict::Redirected);
}

/// As many rules as can be replace as many others again and again; of more, workers decide, and a
/// notice says so.
#[test]
fn the_access_list_holds_as_many_as_it_says() {
    let Some((_lab, mut steering, _socket, query)) = steering_one_queue() else { return };
    let many = |first: u32, count: u32| {
        let prefixes = (first..first + count).map(|n| Prefix::around(Ipv4Addr::from_bits(n << 8).into(), 24));
        AccessRules::new(&prefixes.collect::<Vec<_>>(), &[])
    };
    let (ours, others) = (10 << 16 | 53 << 8, 11 << 16);
    for _ in 0..3 {
        for (first, verdict) in [(ours, Verdict::Redirected), (others, Verdict::Denied)] {
            steering.set_access(Some(many(first, MAX_ACCESS))).expect("a full list");
            check(&mut steering, query.name, &query.frame, verdict);
        }
    }
    let notices = steering.notices().len();
    steering.set_access(Some(many(others, MAX_ACCESS + 1))).expect("workers decide");
    check(&mut steering, query.name, &query.frame, Verdict::Redirected);
    assert_eq!((steering.access_rules(), steering.notices().len()), (None, notices + 1));
    steering.set_access(Some(many(others, 1))).expect("a list that fits");
    check(&mut steering, query.name, &query.frame, Verdict::Denied);
    assert_eq!(steering.notices().len(), notices);
}

/// While lists replace each other, each packet is decided by one of them: here, all allow the client.
#[test]
fn no_packet_is_decided_by_a_part_of_a_list() {
    let Some((lab, mut steering, _socket, query)) = steering_one_queue() else { return };
    let all = |deny: &[&str]| access(&["10.53.0.0/24", "10.53.0.0/28", "10.53.0.1"], deny);
    let part = |deny: &[&str]| access(&["10.53.0.0/30"], deny);
    steering.set_access(Some(all(&["10.0.0.0/8"]))).expect("rules");
    let (host, client) = (lab.server(), lab.client());
    host.enter(|| steering.attach()).expect("attached");
    client.run("ip", ["neigh", "replace", "10.53.0.2", "lladdr", "02:00:00:00:00:02", "dev", "vc"]);
    let before = steering.verdicts().expect("counters");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let socket = client.enter(|| UdpSocket::bind("10.53.0.1:0")).expect("a socket");
            while !done.load(Ordering::Relaxed) {
                socket.send_to(&query.frame[42..], "10.53.0.2:53").expect("sent");
            }
        });
        for _ in 0..300 {
            for rules in [part(&["0.0.0.0/0"]), all(&["10.53.0.0/25"]), all(&[]), part(&["10.53.0.0/29"])] {
                steering.set_access(Some(rules)).expect("rules");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let after = steering.verdicts().expect("counters");
    assert_eq!(after.get(Verdict::Denied), before.get(Verdict::Denied));
    let steered = after.get(Verdict::Redirected) - before.get(Verdict::Redirected);
    assert!(steered > 1_000, "{steered} queries were steered");
}

/// Time that the program takes for a query, in nanoseconds: the least of several runs.
fn cost(steering: &mut Steering, frame: &[u8], expected: u32) -> u128 {
    let mut least = u128::MAX;
    for _ in 0..20 {
        let mut options = TestRunOptions::new();
        (options.data_in, options.repeat) = (Some(frame), 200_000);
        let program = steering.program().expect("the program is there");
        let result = program.test_run(options).expect("a test run");
        assert_eq!(result.return_value, expected);
        least = least.min(result.duration.as_nanos());
    }
    least
}

/// Prints what `docs/performance.md` says of the access list. Run it by name, on a release build or
/// not: the kernel does the work.
#[test]
#[ignore = "a measurement"]
fn the_cost_of_the_access_list() {
    let Some((_lab, mut steering, _socket, query)) = steering_one_queue() else { return };
    let spread = |count: u32| (0..count).map(|n| Ipv4Addr::from_bits(n.wrapping_mul(2_654_435_761)));
    let list = |allow: &str, count: u32| {
        let deny: Vec<_> = spread(count).map(|address| Prefix::around(address.into(), 24)).collect();
        AccessRules::new(&[allow.parse().expect("a prefix")], &deny)
    };
    let stranger = fixtures::all().into_iter().find(|fixture| fixture.verdict == Verdict::OtherDestination);
    let stranger = stranger.expect("a fixture");
    println!("not for a listener: {} ns", cost(&mut steering, &stranger.frame, XDP_PASS));
    println!("no access list: {} ns", cost(&mut steering, &query.frame, XDP_REDIRECT));
    for count in [0, 100, 1_000, MAX_ACCESS - 1] {
        steering.set_access(Some(list("10.53.0.0/24", count))).expect("rules");
        println!("{count} prefixes, allowed: {} ns", cost(&mut steering, &query.frame, XDP_REDIRECT));
        steering.set_access(Some(list("10.54.0.0/24", count))).expect("rules");
        println!("{count} prefixes, denied: {} ns", cost(&mut steering, &query.frame, XDP_DROP));
    }
}
