//! Workers' records: each comes back with what its worker may keep.

use super::*;
use std::net::Ipv4Addr;

/// A worker's link, with a record for a query of `name` on it.
pub(super) fn punted(name: &str, refresh: bool) -> (Arc<Link>, Box<Punt>) {
    let bell = Arc::new(Doorbell::new().unwrap());
    let link = Arc::new(Link::new(0, 4, 4, bell, Arc::default()).unwrap());
    let mut record = punted_from(Ipv4Addr::new(10, 53, 0, 1), name, 7);
    if refresh {
        record.purpose = Purpose::Refresh;
    }
    (link, record)
}

/// A record for a query of `name` by a client.
pub(super) fn punted_from(client: Ipv4Addr, name: &str, id: u16) -> Box<Punt> {
    let message = names::query_message(&names::name(name).unwrap(), [1, 1], id, header::RD, None);
    let frame = frame(client, &message);
    let (envelope, _) = Envelope::open(&frame, Checksums::Unused).unwrap();
    let mut query = Query::default();
    query.parse(&message).unwrap();
    let mut record = Punt::new();
    record.fill(&frame, envelope.message(), &query);
    record.purpose = Purpose::Answer(envelope);
    record.generation = 99;
    record
}

/// Ethernet, IPv4 and UDP around a message.
fn frame(client: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let [l1, l0] = (28 + message.len() as u16).to_be_bytes();
    let [u1, u0] = (8 + message.len() as u16).to_be_bytes();
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, l1, l0, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(client.octets());
    frame.extend([10, 53, 0, 2]);
    frame.extend([0x30, 0x39, 0, 53, u1, u0, 0, 0]);
    frame.extend_from_slice(message);
    frame
}

pub(super) async fn returned(link: &Link) -> Box<Punt> {
    loop {
        if let Some(record) = link.returned() {
            return record;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_punt_comes_back_with_answer_and_generation() {
    let fake = Upstream::with_ttl(60);
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    for from_host in [false, true] {
        let (link, record) = punted("www.example.com", false);
        resolver.serve(&link, record, &mut Turn::default());
        let record = returned(&link).await;
        assert_eq!(record.answer.as_ref().unwrap().ttl, 60, "from the host tier: {from_host}");
        assert_eq!(record.generation, 0);
        assert_eq!(fake.asked(), 1);
    }
}

#[tokio::test]
async fn a_worker_is_woken_once_a_turn_and_only_if_it_sleeps() {
    let resolver = resolver(&[]);
    let known = Arc::new(Answer::error(rcode::NXDOMAIN, None, resolver.clock().secs(), 60));
    resolver.host().insert(&key("www.example.com"), known, 0);
    let (link, first) = punted("www.example.com", false);
    let (_, second) = punted("www.example.com", false);
    let (_, third) = punted("www.example.com", false);
    let rung = || rustix::io::read(link.bell().fd(), &mut [0; 8]).is_ok();

    link.bell().arm();
    let mut turn = Turn::default();
    resolver.serve(&link, first, &mut turn);
    resolver.serve(&link, second, &mut turn);
    assert!(!rung(), "woken before all is done");
    drop(turn);
    assert!(rung());
    resolver.serve(&link, third, &mut Turn::default());
    assert!(!rung(), "it has not gone to sleep again");
}

/// The count of yields is that of the process, so this is one test.
#[tokio::test]
async fn pump_and_sockets_yield_a_core_that_they_share() {
    const PUNTS: usize = 512;
    let fake = Upstream::with_ttl(60);
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    let known = Arc::new(Answer::error(rcode::NXDOMAIN, None, resolver.clock().secs(), 60));
    resolver.host().insert(&key("www.example.com"), known, 0);
    let bell = Arc::new(Doorbell::new().unwrap());
    let link = Arc::new(Link::new(0, PUNTS, PUNTS, bell.clone(), Arc::default()).unwrap());
    shared_core::set_shared(true);
    let before = shared_core::YIELDS.get();
    for _ in 0..PUNTS {
        link.punt(punted_from(Ipv4Addr::new(10, 53, 0, 1), "www.example.com", 7)).unwrap();
    }
    let pump = tokio::spawn(pump::run(vec![link.clone()], bell, resolver.clone(), mpsc::channel(1).0));
    for _ in 0..PUNTS {
        returned(&link).await;
    }
    pump.abort();
    let by_pump = shared_core::YIELDS.get() - before;
    assert!(by_pump > 0);
    for n in 0..16 {
        resolver.resolve(&key(&format!("{n}.example.com"))).await;
    }
    assert!(shared_core::YIELDS.get() - before > by_pump, "the sockets");
}

#[tokio::test]
async fn a_worker_keeps_its_expired_answer_when_renewal_fails() {
    let refused = failing(5);
    let resolver = resolver(&[upstream(refused.address(), LONG)]);
    // First nothing is known of the name, then its failure is remembered.
    for asked in [1, 1] {
        let (link, record) = punted("www.example.com", true);
        resolver.serve(&link, record, &mut Turn::default());
        assert!(returned(&link).await.answer.is_none());
        assert_eq!(refused.asked(), asked);
    }
    // A client is told of the failure.
    let (link, record) = punted("www.example.com", false);
    resolver.serve(&link, record, &mut Turn::default());
    assert_eq!(returned(&link).await.answer.as_ref().unwrap().status.rcode(), rcode::SERVFAIL);
}

#[tokio::test]
async fn renewals_leave_room_for_clients() {
    let silent = Upstream::silent(&Host::local());
    let limits = FlightLimits { flights: 4, waiters: 4 };
    let resolver = resolver_with(&[upstream(silent.address(), LONG)], cache(), limits);
    let (first, record) = punted("a.example", true);
    resolver.serve(&first, record, &mut Turn::default());
    let (second, record) = punted("b.example", true);
    resolver.serve(&second, record, &mut Turn::default());
    assert!(returned(&second).await.answer.is_none());
    assert!(first.returned().is_none());
    let (client, record) = punted("c.example", false);
    resolver.serve(&client, record, &mut Turn::default());
    assert_eq!((resolver.under_way(), resolver.counters.refresh_skipped.get()), (2, 1));
}

/// Puts an answer into the host tier that may be renewed at once.
fn put_due(resolver: &Resolver, name: &str) -> Arc<Answer> {
    let now = resolver.clock().secs();
    let due = Arc::new(Answer { ahead: 100, ..Answer::error(rcode::NOERROR, None, now, 100) });
    resolver.host().insert(&key(name), due.clone(), 0);
    due
}

#[tokio::test]
async fn an_answer_is_renewed_before_it_expires_and_then_no_more() {
    let fake = Upstream::with_ttl(60);
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    put_due(&resolver, "www.example.com");
    // Two workers want it renewed; the second one gets the answer that the first one's request
    // brought.
    for _ in 0..2 {
        let (link, record) = punted("www.example.com", true);
        resolver.serve(&link, record, &mut Turn::default());
        assert_eq!(returned(&link).await.answer.as_ref().unwrap().ttl, 60);
    }
    let counters = &resolver.counters;
    assert_eq!((fake.asked(), counters.refreshed_ahead.get(), counters.refreshes.get()), (1, 1, 1));
}

#[tokio::test]
async fn renewals_before_the_end_stay_within_their_budget() {
    let fake = Upstream::with_ttl(60);
    let config = config(&[upstream(fake.address(), LONG)], "[refresh]\nper_second = 2\n");
    let resolver = resolver_of(&config, FlightLimits::default());
    let mut answered = 0;
    // Within one second of the clock, or two.
    for i in 0..8 {
        let name = format!("{i}.example");
        put_due(&resolver, &name);
        let (link, record) = punted(&name, true);
        resolver.serve(&link, record, &mut Turn::default());
        answered += usize::from(returned(&link).await.answer.is_some());
    }
    assert!(answered == 2 || answered == 4, "{answered}");
    assert_eq!(resolver.counters.refresh_over_budget.get(), 8 - answered as u64);
    assert_eq!(fake.asked(), answered);
    // A client's question is answered all the same.
    let (link, record) = punted("7.example", false);
    resolver.serve(&link, record, &mut Turn::default());
    assert!(returned(&link).await.answer.is_some());
}
