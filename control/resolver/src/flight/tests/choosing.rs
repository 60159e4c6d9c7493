//! Choice of upstreams by strategy and zone; special-use names, for which none is asked.

use super::{
    punts::{punted, returned},
    *,
};
use ringdns_dataplane::dns::rtype;

/// Upstreams that answer at once.
fn three() -> [Upstream; 3] {
    [(); 3].map(|()| Upstream::with_ttl(60))
}

fn configured(fakes: &[Upstream; 3]) -> [UpstreamConfig; 3] {
    fakes.each_ref().map(|fake| upstream(fake.address(), LONG))
}

fn asked(fakes: &[Upstream; 3]) -> [usize; 3] {
    fakes.each_ref().map(Upstream::asked)
}

async fn ask_for(resolver: &Arc<Resolver>, count: usize) {
    for number in 0..count {
        assert_eq!(resolver.resolve(&key(&format!("name{number}.example"))).await.answer.ttl, 60);
    }
}

/// Returns an upstream that is asked for these zones only.
fn for_zones(fake: &Upstream, zones: &[&str]) -> UpstreamConfig {
    let zones = zones.iter().map(|zone| names::name(zone).unwrap()).collect();
    UpstreamConfig { zones, ..upstream(fake.address(), LONG) }
}

#[tokio::test]
async fn failover_asks_the_first_that_works() {
    let fakes = three();
    let resolver = resolver(&configured(&fakes));
    ask_for(&resolver, 9).await;
    assert_eq!(asked(&fakes), [9, 0, 0]);
}

#[tokio::test]
async fn round_robin_asks_all_alike() {
    let fakes = three();
    let resolver = resolver_for(&configured(&fakes), "[resolver]\nstrategy = \"round-robin\"\n");
    ask_for(&resolver, 30).await;
    assert_eq!(asked(&fakes), [10, 10, 10]);
}

#[tokio::test]
async fn the_lowest_latency_is_preferred_and_found_again_after_an_outage() {
    let fakes = three();
    let resolver = resolver_for(&configured(&fakes), "[resolver]\nstrategy = \"lowest-latency\"\n");
    let (clock, asked_for) = (resolver.clock(), key("example"));
    let upstreams = resolver.upstreams();
    for (number, millis) in [(0, 3000), (1, 1), (2, 2000)] {
        let mut health = upstreams.get(number).health.lock();
        health.asked(clock.nanos());
        health.answered(Duration::from_millis(millis));
    }
    ask_for(&resolver, 9).await;
    assert_eq!(asked(&fakes), [0, 9, 0]);

    // It fails for a while. After its back-off, and when its times are forgotten, it is asked once
    // more, and preferred again.
    for name in [b"\x01a\0", b"\x01b\0", b"\x01c\0"] {
        upstreams.get(1).health.lock().failed(false, clock.nanos(), LONG, name);
    }
    let first = |after: u64| {
        let order = upstreams.order(asked_for.asked(), clock.nanos() + after * 1_000_000_000);
        *order.last().unwrap()
    };
    assert_ne!(first(0), 1);
    assert!((0..300).any(|after| first(after) == 1), "never asked again");
    (0..40).for_each(|_| upstreams.get(1).health.lock().answered(Duration::from_millis(1)));
    assert_eq!(first(0), 1);
}

/// If all upstreams are in back-off, the one whose back-off ends soonest is asked first.
#[tokio::test]
async fn the_best_is_asked_though_all_are_put_back() {
    let fakes = three();
    let resolver = resolver(&configured(&fakes));
    let now = resolver.clock().nanos();
    for (number, failures) in [(0, 9), (1, 3), (2, 6)] {
        let upstream = resolver.upstreams().get(number).clone();
        (0..failures).for_each(|_| {
            upstream.health.lock().failed(true, now, LONG, b"\0");
        });
        assert!(upstream.is_put_back(now));
    }
    ask_for(&resolver, 1).await;
    assert_eq!(asked(&fakes), [0, 1, 0]);
}

#[tokio::test]
async fn a_question_goes_to_its_zones_upstream() {
    let fakes = three();
    let resolver = resolver(&[
        upstream(fakes[0].address(), LONG),
        for_zones(&fakes[1], &["corp.example"]),
        for_zones(&fakes[2], &["lab.corp.example", "10.in-addr.arpa"]),
    ]);
    for (name, qtype, number) in [
        ("www.example", 1, 0),
        ("www.corp.example", 1, 1),
        ("CORP.example", 1, 1),
        ("corp.example", rtype::DS, 0),
        ("www.corp.example", rtype::DS, 1),
        ("a.lab.corp.example", 1, 2),
        ("lab.corp.example", rtype::DS, 1),
        ("1.0.0.10.in-addr.arpa", 12, 2),
    ] {
        let before = asked(&fakes)[number];
        resolver.resolve(&key_of(name, qtype, false)).await;
        assert_eq!(asked(&fakes)[number], before + 1, "{name} {qtype}");
    }
    assert_eq!(asked(&fakes), [2, 4, 2]);
}

/// Names of a zone are never sent to other upstreams.
#[tokio::test]
async fn a_question_of_a_zone_goes_to_no_other_even_when_that_fails() {
    let other = Upstream::with_ttl(60);
    let failing = failing(2);
    let (_closed, dead) = nowhere();
    let resolver = resolver(&[
        upstream(other.address(), LONG),
        for_zones(&failing, &["corp.example"]),
        UpstreamConfig { addresses: vec![dead.into()], ..for_zones(&failing, &["dead.example"]) },
    ]);
    for name in ["a.corp.example", "b.corp.example", "a.dead.example", "b.dead.example"] {
        assert_eq!(rcode_of(&resolver.resolve(&key(name)).await), rcode::SERVFAIL, "{name}");
    }
    assert_eq!((other.asked(), failing.asked()), (0, 2));
}

#[tokio::test]
async fn nobody_is_asked_for_special_names() {
    let fake = Upstream::with_ttl(60);
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    for (name, qtype, code) in [
        ("localhost", 1, rcode::NOERROR),
        ("a.localhost", 28, rcode::NOERROR),
        ("www.test", 1, rcode::NXDOMAIN),
        ("facebookcorewwwi.onion", 1, rcode::NXDOMAIN),
        ("1.1.168.192.in-addr.arpa", 12, rcode::NXDOMAIN),
    ] {
        // As a client over TCP has it, and as a worker does; then once more from the host tier.
        for _ in 0..2 {
            let resolved = resolver.resolve(&key_of(name, qtype, false)).await;
            assert_eq!(rcode_of(&resolved), code, "{name}");
            let (link, record) = punted(name, false);
            resolver.serve(&link, record, &mut Turn::default());
            let given = returned(&link).await.answer.clone().unwrap();
            assert!(given.ttl > 0, "{name}");
        }
    }
    assert_eq!(fake.asked(), 0);
    assert!((5..=10).contains(&resolver.counters.local.get()), "{}", resolver.counters.local.get());
}

#[tokio::test]
async fn special_names_are_asked_for_where_the_configuration_says_so() {
    let fakes = three();
    let upstreams = [upstream(fakes[0].address(), LONG), for_zones(&fakes[1], &["home.arpa"])];
    let resolver = resolver(&upstreams);
    assert_eq!(resolver.resolve(&key("nas.home.arpa")).await.answer.ttl, 60);
    assert_eq!(rcode_of(&resolver.resolve(&key("nas.test")).await), rcode::NXDOMAIN);
    assert_eq!(asked(&fakes), [0, 1, 0]);

    let resolver = resolver_for(&upstreams[..1], "[local]\nspecial_names = false\n");
    assert_eq!(resolver.resolve(&key("nas.test")).await.answer.ttl, 60);
    assert_eq!(asked(&fakes), [1, 1, 0]);
}

/// A host that answers at its second address alone: the first is closed, or silent.
#[tokio::test]
async fn a_named_upstream_is_asked_at_the_address_that_answers() {
    let fake = Upstream::with_ttl(60);
    for silent in [false, true] {
        let port = fake.address().port();
        let mute = silent.then(|| std::net::UdpSocket::bind(("127.0.0.3", port)).unwrap());
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"resolver.example:{port}\"\n\
             bootstrap = [\"127.0.0.3\", \"127.0.0.1\"]\ntimeout = \"100ms\"\n"
        );
        let config = Config::parse(&text, Path::new("test")).unwrap();
        let resolver = resolver(&config.upstreams);
        let mut codes = Vec::new();
        for name in ["a.example", "b.example", "c.example"] {
            codes.push(rcode_of(&resolver.resolve(&key(name)).await));
        }
        assert_eq!(codes, [rcode::NOERROR; 3], "silent: {silent}");
        assert_eq!(count(&resolver, "queries_udp"), 4, "silent: {silent}");
        drop(mute);
    }
}

/// The owner of a domain lets its servers be silent, and a client asks for names in it. That puts
/// no upstream in back-off which answers a probe; one that answers nothing is put there.
#[tokio::test]
async fn a_silent_domain_puts_no_upstream_in_back_off() {
    for is_dead in [false, true] {
        let fake = playing(move |seen| {
            let probe = seen.query.question()[0] == 0;
            (probe && !is_dead).then(|| seen.query.response(5, &[]))
        });
        let other = Upstream::with_ttl(60);
        let configs = [upstream(fake.address(), Duration::from_millis(40)), upstream(other.address(), LONG)];
        let resolver = resolver(&configs);
        for i in 0..6 {
            let resolved = resolver.resolve(&key(&format!("{i}.silent.example"))).await;
            assert_eq!(resolved.answer.ttl, 60);
        }
        assert!(count(&resolver, "probes") > 0, "{is_dead}");
        let upstream = resolver.upstreams().get(0).clone();
        // The first probe was answered long ago, or is still waited for.
        while is_dead && !upstream.is_put_back(resolver.clock().nanos()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(upstream.is_put_back(resolver.clock().nanos()), is_dead);
    }
}
