use super::*;
use crate::{
    config::{Cache, Transport, Upstream},
    names,
};
use ringdns_dataplane::{
    dns::{header, query::Query},
    doorbell::Doorbell,
    packet::Envelope,
    port::Checksums,
};
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

#[path = "../../tests/support/upstream.rs"]
mod support;
use support::{FakeUpstream, Over, Say, a_record, response};

const LONG: Duration = Duration::from_secs(5);

fn cache() -> Cache {
    Cache {
        enabled: true,
        bytes_per_worker: 1 << 20,
        host_bytes: 1 << 20,
        min_ttl: 0,
        max_ttl: 86_400,
        negative_max_ttl: 3_600,
        stale_max: 86_400,
        stale_ttl: 30,
        failure_ttl: 5,
    }
}

fn upstream(address: SocketAddr, timeout: Duration) -> Upstream {
    Upstream { address, transport: Transport::Udp, trusted: false, timeout }
}

fn resolver_with(upstreams: &[Upstream], cache: Cache, limits: Limits) -> Arc<Resolver> {
    let host = Arc::new(HostTier::new(cache.host_bytes, Arc::new(AtomicU64::new(0))));
    Resolver::new(host, upstreams, &cache, Clock::start(), limits)
}

fn resolver(upstreams: &[Upstream]) -> Arc<Resolver> {
    resolver_with(upstreams, cache(), Limits::default())
}

fn key(name: &str) -> Key {
    names::key(&names::name(name).unwrap(), 1, false, false).unwrap()
}

fn rcode_of(resolved: &Resolved) -> u8 {
    resolved.answer.status.rcode()
}

/// An address that queries come back from as unreachable: its socket listens to itself alone.
fn nowhere() -> (std::net::UdpSocket, SocketAddr) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    socket.connect(address).unwrap();
    (socket, address)
}

/// A counter of the resolver's first upstream.
fn count(resolver: &Resolver, name: &str) -> u64 {
    let upstream = resolver.upstreams().iter().next().unwrap();
    upstream.counters.totals().iter().find(|t| t.name == name).unwrap().value
}

#[tokio::test]
async fn an_answer_is_fetched_once_and_kept() {
    let fake = FakeUpstream::answering(60).await;
    let resolver = resolver(&[upstream(fake.address, LONG)]);
    let first = resolver.resolve(&key("www.example.com")).await;
    assert_eq!((rcode_of(&first), first.answer.counts, first.answer.ttl), (0, [1, 0, 0], 60));
    let second = resolver.resolve(&key("WWW.example.com")).await;
    assert!(Arc::ptr_eq(&first.answer, &second.answer));
    assert_eq!(fake.asked(), 1);
}

#[tokio::test]
async fn queries_are_made_afresh_for_the_upstream() {
    let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let log = seen.clone();
    let fake = FakeUpstream::start(move |query, _| {
        log.lock().push(query.to_vec());
        vec![Say::Send(a_record(query, 60))]
    })
    .await;
    let trusted = Upstream { trusted: true, ..upstream(fake.address, LONG) };
    let resolver = resolver(&[trusted]);
    let name = names::name("example.com").unwrap();
    for i in 0..8 {
        let key = names::key(&name, 1 + i, true, true).unwrap();
        resolver.resolve(&key).await;
    }
    let seen = seen.lock();
    let ids: std::collections::HashSet<_> = seen.iter().map(|q| [q[0], q[1]]).collect();
    assert!(ids.len() > 5, "IDs are random: {ids:?}");
    let mut query = Query::default();
    query.parse(&seen[0]).unwrap();
    assert_eq!(query.flags, header::RD | header::CD | header::AD);
    let edns = query.edns.unwrap();
    assert_eq!((edns.udp_size, edns.dnssec_ok), (1232, true));
}

/// Each lie is sent before the truth: it must be passed over, counted under its name, and the truth used.
#[tokio::test]
async fn lies_are_counted_and_waited_past() {
    let flip_id = |query: &[u8]| {
        let mut lie = a_record(query, 1);
        lie[0] ^= 0xff;
        lie
    };
    let other_name = |query: &[u8]| {
        let mut lie = a_record(query, 1);
        lie[13] ^= 0x01;
        lie
    };
    let not_response = |query: &[u8]| {
        let mut lie = a_record(query, 1);
        lie[2] &= 0x7f;
        lie
    };
    let other_type = |query: &[u8]| {
        let mut lie = a_record(query, 1);
        let at = lie.len() - 16 - 3;
        lie[at] = 28;
        lie
    };
    let junk = |query: &[u8]| query[..2].to_vec();
    type Lie = fn(&[u8]) -> Vec<u8>;
    let cases: [(Lie, &str); 5] = [
        (flip_id, "ignored_wrong_id"),
        (other_name, "ignored_wrong_question"),
        (other_type, "ignored_wrong_question"),
        (not_response, "ignored_not_response"),
        (junk, "ignored_not_response"),
    ];
    for (lie, counter) in cases {
        let fake =
            FakeUpstream::start(move |query, _| vec![Say::Send(lie(query)), Say::Send(a_record(query, 60))])
                .await;
        let resolver = resolver(&[upstream(fake.address, LONG)]);
        let resolved = resolver.resolve(&key("www.example.com")).await;
        assert_eq!((resolved.answer.ttl, fake.asked()), (60, 1), "{counter}");
        assert_eq!(count(&resolver, counter), 1, "{counter}");
    }
}

#[tokio::test]
async fn what_comes_from_another_port_is_not_even_received() {
    let fake = FakeUpstream::start(|query, _| {
        vec![Say::SendFromElsewhere(a_record(query, 1)), Say::Send(a_record(query, 60))]
    })
    .await;
    let resolver = resolver(&[upstream(fake.address, LONG)]);
    assert_eq!(resolver.resolve(&key("www.example.com")).await.answer.ttl, 60);
    let ignored = ["ignored_wrong_id", "ignored_wrong_question", "ignored_not_response"];
    assert_eq!(ignored.map(|name| count(&resolver, name)), [0; 3]);
}

#[tokio::test]
async fn what_does_not_fit_is_asked_for_over_tcp() {
    let fake = FakeUpstream::start(|query, over| match over {
        // Cut in the middle of a record, as some servers do.
        Over::Udp => vec![Say::Send(response(query, header::TC, &[&[0xc0, 12, 0]]))],
        Over::Tcp => vec![Say::Send(a_record(query, 60))],
    })
    .await;
    let resolver = resolver(&[upstream(fake.address, LONG)]);
    assert_eq!(resolver.resolve(&key("a.example")).await.answer.ttl, 60);
    assert_eq!(resolver.resolve(&key("b.example")).await.answer.ttl, 60);
    let counters = ["truncated", "queries_udp", "queries_tcp", "connections"];
    assert_eq!(counters.map(|name| count(&resolver, name)), [2, 2, 2, 1], "one connection carries both");
}

#[tokio::test]
async fn a_truncated_answer_over_tcp_is_not_taken_for_the_whole() {
    let fake = FakeUpstream::start(|query, _| vec![Say::Send(response(query, header::TC, &[]))]).await;
    let resolver = resolver(&[upstream(fake.address, LONG)]);
    assert_eq!(rcode_of(&resolver.resolve(&key("a.example")).await), rcode::SERVFAIL);
}

#[tokio::test]
async fn the_next_upstream_is_asked_when_one_fails() {
    let good = FakeUpstream::answering(60).await;
    let silent = FakeUpstream::start(|_, _| Vec::new()).await;
    let servfail = FakeUpstream::start(|query, _| vec![Say::Send(response(query, 2, &[]))]).await;
    let refused = FakeUpstream::start(|query, _| vec![Say::Send(response(query, 5, &[]))]).await;
    // An address record of three bytes: the lengths fit, the content does not.
    let broken = FakeUpstream::start(|query, _| {
        vec![Say::Send(response(query, 0, &[&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 3, 192, 0, 2]]))]
    })
    .await;
    let (_closed, unreachable) = nowhere();
    for (bad, counter) in [
        (silent.address, "timeouts"),
        (servfail.address, "failures"),
        (refused.address, "failures"),
        (broken.address, "malformed"),
        (unreachable, "unreachable"),
    ] {
        let resolver = resolver(&[upstream(bad, Duration::from_millis(20)), upstream(good.address, LONG)]);
        assert_eq!(resolver.resolve(&key("www.example.com")).await.answer.ttl, 60, "{counter}");
        assert_eq!(count(&resolver, counter), 1, "{counter}");
    }
}

/// Nobody answers: three rounds of 800 ms at most, by a clock that leaps to the next timer.
#[tokio::test(start_paused = true)]
async fn when_all_are_dead_the_failure_is_bounded_and_remembered() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let resolver = resolver(&[upstream(silent.local_addr().unwrap(), Duration::from_millis(800))]);
    let began = tokio::time::Instant::now();
    let resolved = resolver.resolve(&key("www.example.com")).await;
    assert!((Duration::from_millis(2400)..=Duration::from_secs(3)).contains(&began.elapsed()));
    assert_eq!((rcode_of(&resolved), resolved.answer.ttl), (rcode::SERVFAIL, 5));
    assert_eq!(count(&resolver, "queries_udp"), 3, "no more than RFC 9520 allows");
    resolver.resolve(&key("www.example.com")).await;
    assert_eq!(count(&resolver, "queries_udp"), 3, "asked again although the failure is remembered");
}

#[tokio::test(start_paused = true)]
async fn the_total_time_is_bounded_however_many_upstreams_there_are() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let upstreams = vec![upstream(silent.local_addr().unwrap(), Duration::from_secs(1)); 20];
    let resolver = resolver(&upstreams);
    let began = tokio::time::Instant::now();
    resolver.resolve(&key("www.example.com")).await;
    assert!(began.elapsed() <= Duration::from_millis(3001), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_failure_that_all_upstreams_report_is_passed_on() {
    let refused = FakeUpstream::start(|query, _| vec![Say::Send(response(query, 5, &[]))]).await;
    let resolver = resolver(&[upstream(refused.address, LONG)]);
    let resolved = resolver.resolve(&key("www.example.com")).await;
    assert_eq!((rcode_of(&resolved), resolved.answer.ttl), (rcode::REFUSED, 5));
    assert_eq!(fetched_twice(&resolver, &refused).await, 1);
}

async fn fetched_twice(resolver: &Arc<Resolver>, fake: &FakeUpstream) -> usize {
    resolver.resolve(&key("www.example.com")).await;
    fake.asked()
}

#[tokio::test]
async fn badvers_is_no_success() {
    let fake = FakeUpstream::start(|query, _| {
        let mut message = response(query, 0, &[]);
        message[11] = 1;
        message.extend_from_slice(&[0, 0, 41, 4, 208, 1, 0, 0, 0, 0, 0]);
        vec![Say::Send(message)]
    })
    .await;
    let resolver = resolver(&[upstream(fake.address, LONG)]);
    assert_eq!(rcode_of(&resolver.resolve(&key("www.example.com")).await), rcode::SERVFAIL);
}

#[tokio::test]
async fn a_dead_upstream_is_put_back_and_asked_last() {
    let good = FakeUpstream::answering(60).await;
    let (_closed, dead) = nowhere();
    let resolver = resolver(&[upstream(dead, LONG), upstream(good.address, LONG)]);
    for i in 0..10 {
        resolver.resolve(&key(&format!("{i}.example"))).await;
    }
    assert_eq!((count(&resolver, "unreachable"), good.asked()), (3, 10));
}

/// With only one upstream, and that put back, it is asked all the same.
#[tokio::test]
async fn the_last_hope_is_asked_although_put_back() {
    let works = Arc::new(AtomicBool::new(false));
    let switch = works.clone();
    let fake = FakeUpstream::start(move |query, _| {
        let message = if switch.load(Ordering::SeqCst) { a_record(query, 60) } else { broken(query) };
        vec![Say::Send(message)]
    })
    .await;
    let resolver = resolver(&[upstream(fake.address, LONG)]);
    for i in 0..3 {
        resolver.resolve(&key(&format!("{i}.example"))).await;
    }
    assert!(resolver.upstreams().iter().next().unwrap().is_put_back(resolver.clock().nanos()));
    works.store(true, Ordering::SeqCst);
    assert_eq!(resolver.resolve(&key("www.example.com")).await.answer.ttl, 60);
}

fn broken(query: &[u8]) -> Vec<u8> {
    let mut message = a_record(query, 60);
    message.pop();
    message
}

/// An upstream whose answers wait until the test lets them go.
async fn gated(ttl: u32) -> (FakeUpstream, Arc<tokio::sync::Notify>, Gate) {
    let gate = Gate::default();
    let inner = gate.clone();
    let arrived = Arc::new(tokio::sync::Notify::new());
    let ring = arrived.clone();
    let fake = FakeUpstream::start(move |query, _| {
        ring.notify_one();
        let _closed = inner.0.lock();
        vec![Say::Send(a_record(query, ttl))]
    })
    .await;
    (fake, arrived, gate)
}

#[derive(Clone, Default)]
struct Gate(Arc<parking_lot::Mutex<()>>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_waiters_cost_one_query() {
    let (fake, arrived, gate) = gated(60).await;
    let resolver = resolver(&[upstream(fake.address, LONG)]);
    let tasks: Vec<_> = {
        let _closed = gate.0.lock();
        let waiters = (0..100).map(|_| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.resolve(&key("www.example.com")).await })
        });
        let tasks: Vec<_> = waiters.collect();
        // All are aboard before the answer comes.
        while resolver.counters.joined.get() < 99 {
            std::thread::yield_now();
        }
        tasks
    };
    arrived.notified().await;
    for task in tasks {
        assert_eq!(task.await.unwrap().answer.ttl, 60);
    }
    assert_eq!((fake.asked(), resolver.counters.flights.get(), resolver.under_way()), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_under_way_is_bounded() {
    let (fake, _arrived, gate) = gated(60).await;
    let limits = Limits { flights: 2, waiters: 3 };
    let resolver = resolver_with(&[upstream(fake.address, LONG)], cache(), limits);
    let tasks: Vec<_> = {
        let _closed = gate.0.lock();
        let ask = |name: &str| {
            let (resolver, key) = (resolver.clone(), key(name));
            tokio::spawn(async move { resolver.resolve(&key).await })
        };
        let tasks: Vec<_> = ["a", "a", "a", "a", "b", "c"].map(ask).into();
        while resolver.counters.too_many_waiters.get() + resolver.counters.too_many_flights.get() < 2 {
            std::thread::yield_now();
        }
        tasks
    };
    let mut refused = 0;
    for task in tasks {
        let resolved = task.await.unwrap();
        if rcode_of(&resolved) == rcode::SERVFAIL {
            assert_eq!(resolved.answer.ttl, 0, "overload is remembered as if the name were at fault");
            refused += 1;
        }
    }
    assert_eq!(refused, 2);
    let refused = [&resolver.counters.too_many_waiters, &resolver.counters.too_many_flights];
    assert_eq!(refused.map(|c| c.get()), [1, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_outdates_what_is_under_way() {
    let (fake, arrived, gate) = gated(60).await;
    let resolver = resolver(&[upstream(fake.address, LONG)]);
    let ask = || {
        let resolver = resolver.clone();
        tokio::spawn(async move { resolver.resolve(&key("www.example.com")).await })
    };
    let (before, after) = {
        let _closed = gate.0.lock();
        let before = ask();
        while resolver.under_way() == 0 {
            std::thread::yield_now();
        }
        resolver.host().purge(&crate::host::Purge::All);
        let after = ask();
        while resolver.under_way() < 2 {
            std::thread::yield_now();
        }
        (before, after)
    };
    arrived.notified().await;
    let (before, after) = (before.await.unwrap(), after.await.unwrap());
    assert_eq!(before.answer.ttl, 60, "who asked before the purge is still answered");
    assert_ne!(before.generation, resolver.host().generation(), "and its worker must not cache it");
    assert_eq!(after.generation, resolver.host().generation());
    assert_eq!((fake.asked(), resolver.host().counters.outdated.get()), (2, 1));
    assert_eq!(resolver.host().len(), 1);
}

/// Puts an answer into the host tier that expires as it comes.
fn put_stale(resolver: &Resolver, name: &str) -> Arc<Answer> {
    let now = resolver.clock().secs();
    let stale = Arc::new(Answer { stale: 1000, ..Answer::error(rcode::NOERROR, now, 0) });
    resolver.host().insert_expired(&key(name), stale.clone());
    stale
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_answer_is_given_at_once_and_renewed_once() {
    let (fake, arrived, gate) = gated(60).await;
    let resolver = resolver(&[upstream(fake.address, LONG)]);
    let stale = put_stale(&resolver, "www.example.com");
    {
        let _closed = gate.0.lock();
        for _ in 0..5 {
            let given = resolver.lookup(&key("www.example.com")).unwrap();
            assert!(Arc::ptr_eq(&given.answer, &stale));
            assert_eq!(given.age(resolver.clock().secs(), 30), Age::Stale(30));
        }
    }
    arrived.notified().await;
    while resolver.under_way() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(resolver.lookup(&key("www.example.com")).unwrap().answer.ttl, 60);
    assert_eq!((fake.asked(), resolver.counters.refreshes.get()), (1, 1));
}

#[tokio::test]
async fn a_failed_renewal_keeps_the_old_answer_and_waits() {
    let refused = FakeUpstream::start(|query, _| vec![Say::Send(response(query, 5, &[]))]).await;
    let resolver = resolver(&[upstream(refused.address, LONG)]);
    let stale = put_stale(&resolver, "www.example.com");
    for _ in 0..3 {
        assert!(Arc::ptr_eq(&resolver.resolve(&key("www.example.com")).await.answer, &stale));
        while resolver.under_way() > 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(refused.asked(), 1, "rechecked sooner than 30 s");
    assert_eq!(resolver.counters.stale_on_failure.get(), 1);
}

/// A worker's link, with a record for a query of `name` on it.
fn punted(name: &str, refresh: bool) -> (Arc<Link>, Box<Punt>) {
    let bell = Arc::new(Doorbell::new().unwrap());
    let link = Arc::new(Link::new(0, 4, 4, bell, Arc::new(AtomicU64::new(0))).unwrap());
    let message = names::query_message(&names::name(name).unwrap(), [1, 1], 7, header::RD, None);
    let frame = support_frame(&message);
    let (envelope, _) = Envelope::open(&frame, Checksums::Trust).unwrap();
    let mut query = Query::default();
    query.parse(&message).unwrap();
    let mut record = Punt::new();
    record.fill(&frame, envelope.message(), &query);
    record.purpose = if refresh { Purpose::Refresh } else { Purpose::Answer(envelope) };
    record.generation = 99;
    (link, record)
}

/// Ethernet, IPv4 and UDP around a message.
fn support_frame(message: &[u8]) -> Vec<u8> {
    let [l1, l0] = (28 + message.len() as u16).to_be_bytes();
    let [u1, u0] = (8 + message.len() as u16).to_be_bytes();
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, l1, l0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 53, 0, 1, 10, 53, 0, 2]);
    frame.extend([0x30, 0x39, 0, 53, u1, u0, 0, 0]);
    frame.extend_from_slice(message);
    frame
}

async fn returned(link: &Link) -> Box<Punt> {
    loop {
        if let Some(record) = link.returned() {
            return record;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_punt_comes_back_with_answer_and_generation() {
    let fake = FakeUpstream::answering(60).await;
    let resolver = resolver(&[upstream(fake.address, LONG)]);
    for from_host in [false, true] {
        let (link, record) = punted("www.example.com", false);
        resolver.serve(&link, record);
        let record = returned(&link).await;
        assert_eq!(record.answer.as_ref().unwrap().ttl, 60, "from the host tier: {from_host}");
        assert_eq!(record.generation, 0);
        assert_eq!(fake.asked(), 1);
    }
}

#[tokio::test]
async fn a_worker_keeps_its_expired_answer_when_renewal_fails() {
    let refused = FakeUpstream::start(|query, _| vec![Say::Send(response(query, 5, &[]))]).await;
    let resolver = resolver(&[upstream(refused.address, LONG)]);
    // First nothing is known of the name, then its failure is remembered.
    for asked in [1, 1] {
        let (link, record) = punted("www.example.com", true);
        resolver.serve(&link, record);
        assert!(returned(&link).await.answer.is_none());
        assert_eq!(refused.asked(), asked);
    }
    // A client that asks is told of the failure.
    let (link, record) = punted("www.example.com", false);
    resolver.serve(&link, record);
    assert_eq!(returned(&link).await.answer.as_ref().unwrap().status.rcode(), rcode::REFUSED);
}

#[tokio::test]
async fn renewals_leave_room_for_clients() {
    let silent = FakeUpstream::start(|_, _| Vec::new()).await;
    let limits = Limits { flights: 4, waiters: 4 };
    let resolver = resolver_with(&[upstream(silent.address, LONG)], cache(), limits);
    let (first, record) = punted("a.example", true);
    resolver.serve(&first, record);
    let (second, record) = punted("b.example", true);
    resolver.serve(&second, record);
    assert!(returned(&second).await.answer.is_none());
    assert!(first.returned().is_none());
    let (client, record) = punted("c.example", false);
    resolver.serve(&client, record);
    assert_eq!((resolver.under_way(), resolver.counters.refresh_skipped.get()), (2, 1));
}

/// A flight that is dropped, as by a panic, still answers everybody.
#[tokio::test]
async fn a_dropped_flight_answers_who_waits() {
    let silent = FakeUpstream::start(|_, _| Vec::new()).await;
    let resolver = resolver(&[upstream(silent.address, LONG)]);
    let (sender, receiver) = oneshot::channel();
    let key = key("www.example.com");
    let boarding = resolver.flights.board(&key, 0, Some(Waiter::Client(sender)), false, || None);
    let Boarding::TakeOff(flight) = boarding else { panic!("no flight") };
    drop(Landing { resolver: resolver.clone(), key, flight: Some(flight) }.fly());
    assert_eq!(rcode_of(&receiver.await.unwrap()), rcode::SERVFAIL);
}

#[tokio::test]
async fn a_cache_that_is_off_keeps_nothing() {
    let fake = FakeUpstream::answering(60).await;
    let off = Cache { enabled: false, ..cache() };
    let resolver = resolver_with(&[upstream(fake.address, LONG)], off, Limits::default());
    for _ in 0..2 {
        let resolved = resolver.resolve(&key("www.example.com")).await;
        assert_eq!((resolved.answer.ttl, resolved.answer.stale), (0, 0), "a worker would keep it");
        assert_eq!(resolved.age(resolver.clock().secs() + 9, 30), Age::Fresh(9));
    }
    assert_eq!((fake.asked(), resolver.host().len()), (2, 0));
}
