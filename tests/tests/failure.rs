//! Tests of failures: crashes, cables, upstreams, floods.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use ringdns_testkit::{
    Client, DNS_V4, DNS_V6, Host, Knot, Lab, Query, Ringdnsd, Say, Settings, Upstream, Zone, ask_over_tcp,
    free_port, sums, until,
};
use rustix::process::Signal;

const SERVFAIL: u16 = 2;

/// Longest time for any reply: less than clients wait before they give up.
const BOUNDED: Duration = Duration::from_secs(5);
/// Longest time for a reply from memory, even on a busy machine. Any other reply takes longer.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Whether an XDP program is on the server's end of the cable.
fn has_program(lab: &Lab) -> bool {
    let link = lab.server().run("ip", ["-j", "link", "show", "dev", "vs"]);
    let link: serde_json::Value = serde_json::from_str(&link).unwrap();
    assert_eq!(link[0]["ifname"], "vs", "{link}");
    link[0].get("xdp").is_some_and(|xdp| xdp["prog"].is_object() || xdp["attached"].is_array())
}

/// Returns the time until the reply, and its response code.
#[track_caller]
fn timed(client: &Client, query: &Query) -> (Duration, u16) {
    let asked = Instant::now();
    let rcode = client.ask(query).rcode();
    (asked.elapsed(), rcode)
}

#[track_caller]
fn is_hit_at_once(client: &Client, query: &Query) {
    let (took, rcode) = timed(client, query);
    assert!(rcode == 0 && took < AT_ONCE, "a hit got RCODE {rcode} after {took:?}");
}

#[test]
fn a_killed_ringdnsd_leaves_no_program_and_the_next_one_serves_at_once() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let settings = Settings::xdp(upstream.address());
    let client = Client::of(lab.client(), DNS_V4);
    for round in 1..=3 {
        let mut ringdnsd = Ringdnsd::start(lab.server(), &settings);
        assert!(has_program(&lab));
        is_answered(&client, round);
        ringdnsd.kill9();
        assert!(!has_program(&lab), "round {round}");
    }
    assert_eq!(upstream.asked(), 3, "a crash loses the cache, and no more");
}

#[track_caller]
fn is_answered(client: &Client, id: u16) {
    assert_eq!(client.ask(&Query::a("www.example").id(id)).rcode(), 0);
}

#[test]
fn a_stop_leaves_no_program_and_no_socket() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    for settings in [Settings::xdp(upstream.address()), Settings::sockets(upstream.address())] {
        let mut ringdnsd = Ringdnsd::start(lab.server(), &settings);
        is_answered(&Client::of(lab.client(), DNS_V6), 1);
        assert!(ringdnsd.socket().exists());
        assert_eq!(has_program(&lab), settings.interface.is_some());
        assert_eq!(ringdnsd.terminate().code(), Some(0));
        assert!(!has_program(&lab) && !ringdnsd.socket().exists());
        assert!(Client::of(lab.client(), DNS_V4).ask_within(&Query::a("a.example"), AT_ONCE).is_none());
    }
}

#[test]
fn hits_resume_when_the_interface_comes_back() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(upstream.address()));
    let client = Client::of(lab.client(), DNS_V4);
    let query = Query::a("www.example");
    client.ask(&query);
    for _ in 0..2 {
        lab.server().run("ip", ["link", "set", "dev", "vs", "down"]);
        assert_eq!(client.ask_within(&query, Duration::from_millis(50)), None);
        lab.server().run("ip", ["link", "set", "dev", "vs", "up"]);
        until("hits resume", || client.ask_within(&query, Duration::from_millis(100)));
    }
    let stats = ringdnsd.settled();
    assert_eq!((&stats["total"]["punted"], upstream.asked()), (&1.into(), 1), "{stats:#}");
    assert_eq!(stats["workers"][1]["received"], 0, "the kernel answered instead: {stats:#}");
}

#[test]
fn a_silent_upstream_costs_misses_a_bounded_time_once_and_hits_nothing() {
    let Some(lab) = Lab::up() else { return };
    let mut knot = Knot::upstream(lab.server(), &[Zone::example()]);
    let ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(knot.address()));
    let client = Client::of(lab.client(), DNS_V4);
    let hit = Query::a("www.example").id(7);
    client.ask(&hit);

    knot.process().freeze();
    let other = Client::of(lab.client(), DNS_V4);
    let miss = Query::a("mail.example").id(8);
    let asked = Instant::now();
    other.send(&miss.wire());
    until("the miss is on its way", || (ringdnsd.stat("/total/punts_waiting") == 1).then_some(()));
    is_hit_at_once(&client, &hit);
    let reply = other.receive(BOUNDED).expect("SERVFAIL in bounded time");
    assert_eq!((reply.id(), reply.rcode()), (8, SERVFAIL));
    assert!(asked.elapsed() < BOUNDED, "{:?}", asked.elapsed());
    // The failure is cached (RFC 9520), for UDP and TCP.
    let (took, rcode) = timed(&other, &miss);
    assert!(rcode == SERVFAIL && took < AT_ONCE, "RCODE {rcode} after {took:?}");
    assert_eq!(ask_over_tcp(lab.client(), DNS_V4, &[miss])[0].rcode(), SERVFAIL);
    assert!(ringdnsd.stat("/total/cached_failure") >= 1);
    is_hit_at_once(&client, &hit);

    knot.process().signal(Signal::CONT);
    // Other names resolve as soon as the upstream is tried again.
    let names = (0..).map(|number| Query::a(&format!("name{number}.wild.example")));
    let mut names = names.zip(1..).map(|(query, id)| query.id(id));
    until("new names resolve", || {
        let reply = client.ask(&names.next()?);
        (reply.rcode() == 0 && reply.answers() == 1).then_some(())
    });
    // The failed name resolves once the cached failure expires, after five seconds.
    let miss = Query::a("mail.example").id(9);
    until("the failure is forgotten", || (other.ask(&miss).rcode() == 0).then_some(()));
}

#[test]
fn an_upstream_that_dies_and_returns_is_used_again() {
    let Some(lab) = Lab::up() else { return };
    let first = Knot::upstream(lab.server(), &[Zone::example()]);
    let address = first.address();
    let ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(address));
    let client = Client::of(lab.client(), DNS_V4);
    assert_eq!(client.ask(&Query::a("www.example")).rcode(), 0);
    drop(first);
    // Nothing listens there. The kernel reports that, so clients do not wait.
    let (took, rcode) = timed(&client, &Query::a("mail.example"));
    assert!(rcode == SERVFAIL && took < BOUNDED, "RCODE {rcode} after {took:?}");
    let _second = Knot::serve(lab.server(), address, &[Zone::example()]);
    let mut ids = 1..;
    until("new names resolve", || {
        let id = ids.next()?;
        let reply = client.ask(&Query::a(&format!("name{id}.wild.example")).id(id));
        (reply.rcode() == 0).then_some(())
    });
    ringdnsd.settled();
}

/// Checks that an operator is told of an outage of all upstreams, and of its end, without a query
/// of a client.
#[test]
fn the_silence_of_all_upstreams_is_reported_and_its_end_too() {
    let listen = (Ipv4Addr::LOCALHOST, free_port(&Host::local())).into();
    let answers = Arc::new(AtomicBool::new(true));
    let upstream = Upstream::local({
        let answers = answers.clone();
        move |seen| Vec::from_iter(answers.load(Relaxed).then(|| Say::Send(seen.query.answer(300))))
    });
    let more = "\n[[upstream]]\naddress = \"127.0.0.1:1\"\nzones = [\"corp.example\"]\n";
    let mut settings = Settings::loopback(listen, upstream.address());
    settings.tables += more;
    let ringdnsd = Ringdnsd::start(&Host::local(), &settings);
    let client = Client::of(&Host::local(), listen);
    let status = || ringdnsd.told(&["status"]);
    let ask = |name: &str| client.ask(&Query::a(name)).rcode();
    assert_eq!((ask("www.example"), ringdnsd.readyz()), (0, (true, "ok\n".to_owned())));
    assert!(status().contains("): answering queries\n"), "{}", status());

    // Nothing listens there: that zone is lost, and all others are not.
    (0..3).for_each(|nth| assert_eq!(ask(&format!("n{nth}.corp.example")), SERVFAIL));
    let lost = "no upstream of corp.example. answers: only what is in the cache is answered of it";
    until("the zone is lost", || status().contains(&format!("problem    warning: {lost}")).then_some(()));
    assert!(ringdnsd.readyz().0 && status().contains("): answering queries\n"), "{}", status());

    answers.store(false, Relaxed);
    (0..3).for_each(|nth| assert_eq!(ask(&format!("www.n{nth}.example")), SERVFAIL));
    let lost = "no upstream answers: only what is in the cache is answered";
    until("it is not ready", || (ringdnsd.readyz() == (false, lost.to_owned())).then_some(()));
    assert!(status().contains(&format!("): NOT ready: {lost}\n")), "{}", status());
    let log = ringdnsd.process();
    let label = format!("upstream=udp://{}", upstream.address());
    log.wait_for_line(&format!("upstream does not answer: it is in back-off {label}"), BOUNDED);
    log.wait_for_line("SERVFAIL, or an expired answer zone=.", BOUNDED);
    assert_eq!(ask("www.example"), 0, "it is in the cache");

    answers.store(true, Relaxed);
    until("it is ready", || (ringdnsd.readyz() == (true, "ok\n".to_owned())).then_some(()));
    log.wait_for_line(&format!("upstream answers again {label} after_secs="), BOUNDED);
    log.wait_for_line("upstreams answer again zone=.", BOUNDED);
    assert!(status().contains("): answering queries\n"), "{}", status());
}

#[test]
fn a_second_upstream_steps_in_for_a_silent_first() {
    let Some(lab) = Lab::up() else { return };
    let (silent, second) = (Upstream::silent(lab.server()), Upstream::answering(lab.server()));
    let settings =
        Settings { upstreams: vec![silent.address(), second.address()], ..Settings::xdp(silent.address()) };
    let ringdnsd = Ringdnsd::start(lab.server(), &settings);
    let client = Client::of(lab.client(), DNS_V4);
    for id in 1..=6 {
        let (took, rcode) = timed(&client, &Query::a(&format!("name{id}.example")).id(id));
        assert!(rcode == 0 && took < BOUNDED, "RCODE {rcode} after {took:?}");
    }
    assert_eq!(second.asked(), 6);
    assert!(silent.asked() < 6, "one that fails is left alone for a while");
    ringdnsd.settled();
}

#[test]
fn a_flood_of_misses_to_a_silent_upstream_is_shed_and_hits_are_answered() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::start(lab.server(), |seen| {
        let known = seen.query.name() == "www.example";
        if known { vec![Say::Send(seen.query.address([192, 0, 2, 1]))] } else { Vec::new() }
    });
    let ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(upstream.address()));
    let client = Client::of(lab.client(), DNS_V4);
    let hit = Query::a("www.example");
    client.ask(&hit);

    let flood = Client::of(lab.client(), DNS_V4);
    let mut sent = 0u32;
    let refused =
        |stats: &serde_json::Value| sums::count(&stats["resolver"]["counters"]["client_over_share"]);
    until("the client has its share of the questions in flight", || {
        for _ in 0..2000 {
            flood.send(&Query::a(&format!("random{sent}.example")).wire());
            sent += 1;
        }
        is_hit_at_once(&client, &hit);
        (refused(&ringdnsd.stats()) > 0).then_some(())
    });
    is_hit_at_once(&client, &hit);
    // Every query that was accepted gets SERVFAIL, and the sums close.
    let stats = ringdnsd.settled();
    let total = &stats["total"];
    sums::queries_close(total);
    let outcomes = ["hit", "cached_failure", "punted"].map(|name| sums::count(&total[name]));
    let ends = outcomes.iter().sum::<u64>() + sums::dropped(total);
    assert_eq!(sums::count(&total["received"]), ends, "{total:#}");
    is_hit_at_once(&client, &hit);
}
