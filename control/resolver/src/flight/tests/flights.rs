//! Questions in flight: one for all waiters, bounded, and outdated by a purge; and expired answers.

use super::super::inquiry::Inquiry;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_waiters_cost_one_query() {
    let (fake, gate) = gated();
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    let waiters = (0..100).map(|_| {
        let resolver = resolver.clone();
        tokio::spawn(async move { resolver.resolve(&key("www.example.com")).await })
    });
    let tasks: Vec<_> = waiters.collect();
    // All waiters have joined before the answer comes.
    while resolver.counters.joined.get() < 99 {
        assert!(resolver.counters.flights.get() <= 1, "somebody does not join");
        std::thread::yield_now();
    }
    gate.open();
    for task in tasks {
        assert_eq!(task.await.unwrap().answer.ttl, 60);
    }
    assert_eq!((fake.asked(), resolver.counters.flights.get(), resolver.under_way()), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_under_way_is_bounded() {
    let (fake, gate) = gated();
    let limits = FlightLimits { flights: 2, waiters: 3 };
    let resolver = resolver_with(&[upstream(fake.address(), LONG)], cache(), limits);
    let ask = |name: &str| {
        let (resolver, key) = (resolver.clone(), key(name));
        tokio::spawn(async move { resolver.resolve(&key).await })
    };
    let counters = &resolver.counters;
    let wait_until = |is_so: &dyn Fn() -> bool| {
        while !is_so() {
            assert!(resolver.under_way() <= limits.flights, "more take off than may");
            std::thread::yield_now();
        }
    };
    // In this order, whichever thread is faster.
    let mut tasks = vec![ask("a"), ask("a"), ask("a"), ask("a")];
    wait_until(&|| counters.too_many_waiters.get() == 1);
    tasks.push(ask("b"));
    wait_until(&|| resolver.under_way() == 2);
    tasks.push(ask("c"));
    wait_until(&|| counters.too_many_flights.get() == 1);
    gate.open();
    let mut refused = 0;
    for task in tasks {
        let resolved = task.await.unwrap();
        if rcode_of(&resolved) == rcode::SERVFAIL {
            assert_eq!(resolved.answer.ttl, 0, "overload is remembered as if the name were at fault");
            refused += 1;
        }
    }
    assert_eq!(refused, 2);
    assert_eq!((counters.too_many_waiters.get(), counters.too_many_flights.get()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_outdates_what_is_under_way() {
    let (fake, gate) = gated();
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    let ask = || {
        let resolver = resolver.clone();
        tokio::spawn(async move { resolver.resolve(&key("www.example.com")).await })
    };
    let before = ask();
    while resolver.under_way() == 0 {
        std::thread::yield_now();
    }
    resolver.host().purge(&crate::host::Purge::All);
    let after = ask();
    while resolver.under_way() < 2 {
        std::thread::yield_now();
    }
    gate.open();
    let (before, after) = (before.await.unwrap(), after.await.unwrap());
    assert_eq!(before.answer.ttl, 60, "who asked before the purge is still answered");
    assert_ne!(before.generation, resolver.host().generation(), "and its worker must not cache it");
    assert_eq!(after.generation, resolver.host().generation());
    assert_eq!((fake.asked(), resolver.host().counters.outdated.get()), (2, 1));
    assert_eq!(resolver.host().len(), 1);
}

/// Puts an answer into the host tier that expires at once.
fn put_stale(resolver: &Resolver, name: &str) -> Arc<Answer> {
    let now = resolver.clock().secs();
    let stale = Arc::new(Answer { stale: 1000, ..Answer::error(rcode::NOERROR, None, now, 0) });
    resolver.host().insert_expired(&key(name), stale.clone());
    stale
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_answer_is_given_at_once_and_renewed_once() {
    let (fake, gate) = gated();
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    let stale = put_stale(&resolver, "www.example.com");
    for _ in 0..5 {
        let given = resolver.lookup(&key("www.example.com"), &mut Turn::default()).unwrap();
        assert_eq!(given.answer, stale);
        assert_eq!(given.age(resolver.clock().secs(), 30), Age::Stale(30));
    }
    gate.open();
    while resolver.under_way() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(resolver.lookup(&key("www.example.com"), &mut Turn::default()).unwrap().answer.ttl, 60);
    assert_eq!((fake.asked(), resolver.counters.refreshes.get()), (1, 1));
}

/// Returns a resolver whose clients wait for 1.8 s before they get an expired answer.
fn patient(upstream: &Upstream) -> Arc<Resolver> {
    let upstreams = [super::upstream(upstream.address(), LONG)];
    resolver_of(&config(&upstreams, "[cache]\nstale_client_timeout = \"1800ms\"\n"), FlightLimits::default())
}

#[tokio::test]
async fn clients_that_can_wait_get_the_new_answer() {
    let fake = Upstream::with_ttl(60);
    let resolver = patient(&fake);
    put_stale(&resolver, "www.example.com");
    assert_eq!(resolver.resolve(&key("www.example.com")).await.answer.ttl, 60);
    assert_eq!((fake.asked(), resolver.counters.stale_on_delay.get()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn clients_that_have_waited_get_what_has_expired_and_later_ones_at_once() {
    let silent = Upstream::silent(&Host::local());
    let resolver = patient(&silent);
    let stale = put_stale(&resolver, "www.example.com");
    let began = tokio::time::Instant::now();
    let given = resolver.resolve(&key("www.example.com")).await;
    assert!(given.answer == stale && given.known);
    let waited = began.elapsed();
    assert!((Duration::from_millis(1800)..Duration::from_millis(1900)).contains(&waited), "{waited:?}");
    assert_eq!(resolver.under_way(), 1, "the question is still asked");
    assert!(resolver.lookup(&key("www.example.com"), &mut Turn::default()).is_some(), "RFC 8767 section 5");
    let counters = &resolver.counters;
    assert_eq!((counters.stale_on_delay.get(), counters.flights.get()), (1, 1));
}

#[tokio::test]
async fn a_failed_renewal_keeps_the_old_answer_and_waits() {
    let refused = failing(5);
    let resolver = resolver(&[upstream(refused.address(), LONG)]);
    let stale = put_stale(&resolver, "www.example.com");
    for _ in 0..3 {
        assert_eq!(resolver.resolve(&key("www.example.com")).await.answer, stale);
        while resolver.under_way() > 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(refused.asked(), 1, "rechecked sooner than 30 s");
    assert_eq!(resolver.counters.stale_on_failure.get(), 1);
}

/// An answer that lands between a lookup and boarding is found in the host tier, without a second
/// query.
#[tokio::test]
async fn what_has_just_landed_is_not_fetched_again() {
    let fake = Upstream::with_ttl(60);
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    let key = key("www.example.com");
    assert!(resolver.lookup(&key, &mut Turn::default()).is_none());
    let landed = Arc::new(Answer::error(rcode::NXDOMAIN, None, resolver.clock().secs(), 60));
    resolver.host().insert(&key, landed.clone(), 0);
    let (sender, receiver) = oneshot::channel();
    resolver.board(&key, Some(Waiter::Client { to: sender, address: None }), &mut Turn::default());
    assert_eq!(receiver.await.unwrap().answer, landed);
    assert_eq!((fake.asked(), resolver.counters.flights.get()), (0, 0));
}

/// A question in flight that is dropped, as by a panic, still answers all waiters.
#[tokio::test]
async fn a_dropped_flight_answers_who_waits() {
    let silent = Upstream::silent(&Host::local());
    let resolver = resolver(&[upstream(silent.address(), LONG)]);
    let (sender, receiver) = oneshot::channel();
    let key = key("www.example.com");
    let boarding =
        resolver.flights.board(&key, 0, Some(Waiter::Client { to: sender, address: None }), false, || None);
    let Boarding::TakeOff(flight, time) = boarding else { panic!("no flight") };
    let landing = Landing {
        resolver: resolver.clone(),
        setup: resolver.setup(),
        key,
        lane: Lane::Clients,
        time,
        shared: Mutex::default(),
    };
    drop(Inquiry::new(landing, flight));
    let refusal = receiver.await.unwrap();
    assert_eq!((rcode_of(&refusal), refusal.answer.ttl), (rcode::SERVFAIL, 0));
    assert!(resolver.host().is_empty(), "our own trouble is remembered as the name's");
}

#[tokio::test]
async fn a_cache_that_is_off_keeps_nothing() {
    let fake = Upstream::with_ttl(60);
    let off = CacheConfig { enabled: false, ..cache() };
    let resolver = resolver_with(&[upstream(fake.address(), LONG)], off, FlightLimits::default());
    for _ in 0..2 {
        let resolved = resolver.resolve(&key("www.example.com")).await;
        assert_eq!((resolved.answer.ttl, resolved.answer.stale), (0, 0), "a worker would keep it");
        assert_eq!(resolved.age(resolver.clock().secs() + 9, 30), Age::New(9));
    }
    assert_eq!((fake.asked(), resolver.host().len()), (2, 0));
}

#[tokio::test]
async fn a_patient_flight_is_told_of_who_has_no_answer_yet() {
    let flights = Flights::new(FlightLimits::default(), Shares::new(Duration::ZERO));
    let board = |renewal| {
        let (to, _) = oneshot::channel();
        let waiter = if renewal {
            Waiter::Renewal { to, of: 0, patient: true }
        } else {
            Waiter::Client { to, address: None }
        };
        flights.board(&key("www.example"), 0, Some(waiter), renewal, || None)
    };
    let Boarding::TakeOff(flight, _) = board(true) else { panic!("it is the first") };
    let hurry = flights.patient(&flight).expect("nobody is in a hurry");
    assert!(matches!(board(true), Boarding::Joined));
    assert!(futures_util::FutureExt::now_or_never(hurry.notified()).is_none(), "another renewal");
    assert!(matches!(board(false), Boarding::Joined));
    hurry.notified().await;
    assert!(flights.patient(&flight).is_none());
    assert_eq!(flights.land(&flight).len(), 3);
    assert!(flights.patient(&flight).is_none(), "it has landed");
}

#[tokio::test]
async fn a_flood_leaves_room_for_other_clients_and_zones() {
    let silent = Upstream::silent(&Host::local());
    let limits = FlightLimits { flights: 90, waiters: 4 };
    let resolver = resolver_with(&[upstream(silent.address(), LONG)], cache(), limits);
    let mut waiting = Vec::new();
    // Returns whether the question is in flight.
    let mut ask = |client: String, name: String| {
        let (to, receiver) = oneshot::channel();
        let waiter = Waiter::Client { to, address: Some(client.parse().unwrap()) };
        let before = resolver.under_way();
        resolver.board(&key(&name), Some(waiter), &mut Turn::default());
        waiting.push(receiver);
        resolver.under_way() > before
    };
    let greedy = || "192.0.2.1".to_owned();
    let other = || "192.0.2.2".to_owned();
    // A zone gets a third from one client, and a client two thirds.
    assert_eq!((0..200).filter(|n| ask(greedy(), format!("r{n}.silent.example"))).count(), 30);
    assert_eq!((0..200).filter(|n| ask(greedy(), format!("www.silent{n}.example"))).count(), 30);
    assert!(ask(other(), "www.good.example".into()) && ask(other(), "www.silent.example".into()));
    // Forged addresses: the zone gets what two thirds are of the rest.
    let forged = (0..200).filter(|n| ask(format!("198.51.100.{n}"), format!("f{n}.silent.example")));
    assert_eq!(forged.count(), 9);
    assert!(ask(other(), "mail.good.example".into()), "there is room");
    let over = [&resolver.counters.client_over_share, &resolver.counters.zone_over_share];
    assert_eq!(over.map(|counter| counter.get()), [170, 170 + 191]);
    assert_eq!(resolver.under_way(), 30 + 30 + 2 + 9 + 1);
}

#[tokio::test(start_paused = true)]
async fn who_has_been_answered_holds_nothing() {
    let silent = Upstream::silent(&Host::local());
    let limits = FlightLimits { flights: 90, waiters: 4 };
    let resolver = resolver_with(&[upstream(silent.address(), LONG)], cache(), limits);
    for round in 0..3 {
        let asked = (0..90).map(|n| {
            let (resolver, key) = (resolver.clone(), key(&format!("r{round}-{n}.silent.example")));
            tokio::spawn(async move { resolver.resolve_for(Some(client("192.0.2.1")), &key).await })
        });
        for asked in asked.collect::<Vec<_>>() {
            assert_eq!(rcode_of(&asked.await.unwrap()), rcode::SERVFAIL);
        }
        assert_eq!(resolver.counters.zone_over_share.get(), 60 * (round + 1));
    }
}

/// Many clients ask in many zones, and none holds much. Questions that took off while little was free
/// have less time, and their failure says nothing about the name or the upstream.
#[tokio::test(start_paused = true)]
async fn questions_have_less_time_while_little_is_free() {
    let silent = Upstream::silent(&Host::local());
    let limits = FlightLimits { flights: 8, waiters: 4 };
    let resolver = resolver_with(&[upstream(silent.address(), LONG)], cache(), limits);
    let began = tokio::time::Instant::now();
    let ask = |n: u32| {
        let (resolver, name) = (resolver.clone(), format!("www.silent{n}.example"));
        async move {
            let resolved = resolver.resolve_for(Some(client(&format!("192.0.2.{n}"))), &key(&name)).await;
            (began.elapsed().as_millis(), rcode_of(&resolved), resolver.host().peek(&key(&name)).is_some())
        }
    };
    let asked = futures_util::future::join_all((0..8).map(ask)).await;
    let times: Vec<_> = asked.iter().map(|(millis, ..)| millis / 10 * 10).collect();
    assert_eq!(times, [3000, 3000, 3000, 3000, 3000, 3000, 3000, 180]);
    let kept: Vec<_> = asked.iter().map(|(.., kept)| *kept).collect();
    assert_eq!(kept, [true, true, true, true, true, true, true, false]);
    assert!(asked.iter().all(|(_, code, _)| *code == rcode::SERVFAIL));
}
