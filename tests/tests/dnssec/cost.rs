//! Cost of a validated miss, beside Unbound: questions to the upstream, and processor time.

use super::{NOERROR, Scene};
use ringdns_testkit::{Client, Host, Query, Ringdnsd, Say, Unbound, Upstream, free_address};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

/// Number of names of each kind.
const NAMES: usize = 500;

/// Kinds of names: text after the number, and whether the answers are secure.
const KINDS: &[(&str, &str, bool)] = &[
    ("signed", "wild.signed", true),
    ("signed, NSEC3", "wild.nsec3", true),
    ("unsigned", "wild.unsigned", false),
    (
        "unsigned, 34 labels",
        "8.b.d.0.1.0.0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.wild.unsigned",
        false,
    ),
];

/// Returns an upstream that passes queries on to `knot`, and counts them.
pub fn relay(host: &Host, knot: SocketAddr) -> Upstream {
    let socket = host.enter(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.connect(knot).unwrap();
    Upstream::start(host, move |seen| {
        socket.send(&seen.query).unwrap();
        let mut answer = vec![0; 65_535];
        let len = socket.recv(&mut answer).expect("an answer of Knot");
        vec![Say::Send(answer[..len].to_vec())]
    })
}

/// Returns the processor time of a process so far, in microseconds.
fn processor_us(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let nanos = tasks.map(|task| {
        let figures = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        figures.split_whitespace().next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0)
    });
    nanos.sum::<u64>() / 1000
}

/// Questions for the first name and for each of the others, and processor time of each of the
/// others in microseconds.
#[derive(Debug)]
struct Cost {
    first: usize,
    each: f64,
    processor_us: u64,
}

/// Asks for names of a kind, one after the other.
fn cost(client: &Client, upstream: &Upstream, pid: u32, kind: &str, secure: bool) -> Cost {
    let ask = |number: usize| {
        let reply = client.ask(&Query::a(&format!("n{number}.{kind}")).dnssec(true, false));
        assert_eq!((reply.rcode(), reply.is_authentic()), (NOERROR, secure), "{kind}: {reply:?}");
    };
    let before = upstream.asked();
    ask(0);
    let (first, began) = (upstream.asked(), processor_us(pid));
    (1..=NAMES).for_each(ask);
    let others = upstream.asked() - first;
    Cost {
        first: first - before,
        each: others as f64 / NAMES as f64,
        processor_us: (processor_us(pid) - began) / NAMES as u64,
    }
}

/// Questions for an answer below a zone that is known: one, whatever the number of its labels.
#[test]
fn a_validated_miss_costs_one_question_once_its_zone_is_known() {
    let Some(scene) = Scene::set() else { return };
    let (host, knot) = (scene.lab.server(), scene.knot.address());
    let (ours, theirs) = (relay(host, knot), relay(host, knot));
    // Names of a wildcard that is known would cost nothing.
    let ringdnsd = Ringdnsd::start(host, &scene.settings(ours.address(), "aggressive = false\n"));
    let mut unbound = Unbound::validating(host, free_address(host), theirs.address(), scene.anchor.path());
    let at_unbound = Client::of(host, unbound.address());
    println!("{NAMES} names of each kind, DO=1, one after the other, kernel sockets on loopback");
    println!("| names | ringdns: first | each | CPU, us | Unbound: first | each | CPU, us |");
    for &(what, kind, secure) in KINDS {
        let own = cost(&scene.client(), &ours, ringdnsd.process().pid(), kind, secure);
        let other = cost(&at_unbound, &theirs, unbound.process().pid(), kind, secure);
        println!(
            "| {what} | {} | {:.2} | {} | {} | {:.2} | {} |",
            own.first, own.each, own.processor_us, other.first, other.each, other.processor_us
        );
        assert!(own.first <= 6 && own.each < 1.02, "{what}: {own:?}");
    }
}
