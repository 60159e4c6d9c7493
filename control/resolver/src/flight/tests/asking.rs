//! Upstream attempts: responses that are accepted, and the upstream that is asked next.

use super::*;

#[tokio::test]
async fn an_answer_is_fetched_once_and_kept() {
    let fake = Upstream::with_ttl(60);
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    let first = resolver.resolve(&key("www.example.com")).await;
    assert_eq!((rcode_of(&first), first.answer.counts, first.answer.ttl), (0, [1, 0, 0], 60));
    let second = resolver.resolve(&key("WWW.example.com")).await;
    assert_eq!(first.answer, second.answer);
    assert_eq!(fake.asked(), 1);
}

#[tokio::test]
async fn queries_are_made_afresh_for_the_upstream() {
    let fake = Upstream::with_ttl(60);
    let trusted = UpstreamConfig { trusted: true, ..upstream(fake.address(), LONG) };
    let resolver = resolver(&[trusted]);
    let name = names::name("example.com").unwrap();
    for i in 0..8 {
        let key = names::key(&name, 1 + i, true, true).unwrap();
        resolver.resolve(&key).await;
    }
    let seen = fake.seen();
    let ids: std::collections::HashSet<_> = seen.iter().map(|seen| seen.query.id()).collect();
    assert!(ids.len() > 5, "IDs are random: {ids:?}");
    let mut query = Query::default();
    query.parse(&seen[0].query).unwrap();
    assert_eq!(query.flags, header::RD | header::CD | header::AD);
    let edns = query.edns.unwrap();
    assert_eq!((edns.udp_size, edns.dnssec_ok), (1232, true));
}

/// Each lie is sent before the truth. It must be ignored and counted under its name, and the truth
/// used.
#[tokio::test]
async fn lies_are_counted_and_waited_past() {
    let flip_id = |query: &Asked| {
        let mut lie = query.answer(1);
        lie[0] ^= 0xff;
        lie
    };
    let other_name = |query: &Asked| {
        let mut lie = query.answer(1);
        lie[13] ^= 0x01;
        lie
    };
    let not_response = |query: &Asked| {
        let mut lie = query.answer(1);
        lie[2] &= 0x7f;
        lie
    };
    let other_type = |query: &Asked| {
        let mut lie = query.answer(1);
        let at = lie.len() - 16 - 3;
        lie[at] = 28;
        lie
    };
    let junk = |query: &Asked| query[..2].to_vec();
    type Lie = fn(&Asked) -> Vec<u8>;
    let cases: [(Lie, &str); 5] = [
        (flip_id, "ignored_wrong_id"),
        (other_name, "ignored_wrong_question"),
        (other_type, "ignored_wrong_question"),
        (not_response, "ignored_not_response"),
        (junk, "ignored_not_response"),
    ];
    for (lie, counter) in cases {
        let fake =
            Upstream::local(move |seen| vec![Say::Send(lie(&seen.query)), Say::Send(seen.query.answer(60))]);
        let resolver = resolver(&[upstream(fake.address(), LONG)]);
        let resolved = resolver.resolve(&key("www.example.com")).await;
        assert_eq!((resolved.answer.ttl, fake.asked()), (60, 1), "{counter}");
        assert_eq!(count(&resolver, counter), 1, "{counter}");
    }
}

#[tokio::test]
async fn what_comes_from_another_port_is_not_even_received() {
    let fake = Upstream::local(|seen| {
        vec![Say::SendFromElsewhere(seen.query.answer(1)), Say::Send(seen.query.answer(60))]
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    assert_eq!(resolver.resolve(&key("www.example.com")).await.answer.ttl, 60);
    let ignored = ["ignored_wrong_id", "ignored_wrong_question", "ignored_not_response"];
    assert_eq!(ignored.map(|name| count(&resolver, name)), [0; 3]);
}

#[tokio::test]
async fn what_does_not_fit_is_asked_for_over_tcp() {
    let fake = playing(|seen| match seen.over {
        // Cut in the middle of a record, as some servers do.
        Over::Udp => Some(seen.query.response(header::TC, &[vec![0xc0, 12, 0]])),
        Over::Tcp => Some(seen.query.answer(60)),
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    assert_eq!(resolver.resolve(&key("a.example")).await.answer.ttl, 60);
    assert_eq!(resolver.resolve(&key("b.example")).await.answer.ttl, 60);
    let counters = ["truncated", "queries_udp", "queries_tcp", "connections"];
    assert_eq!(counters.map(|name| count(&resolver, name)), [2, 2, 2, 1], "one connection carries both");
}

#[tokio::test]
async fn a_truncated_answer_over_tcp_is_not_taken_for_the_whole() {
    let fake = playing(|seen| Some(seen.query.response(header::TC, &[])));
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    assert_eq!(rcode_of(&resolver.resolve(&key("a.example")).await), rcode::SERVFAIL);
}

#[tokio::test]
async fn the_next_upstream_is_asked_when_one_fails() {
    let good = Upstream::with_ttl(60);
    let silent = Upstream::silent(&Host::local());
    let servfail = failing(2);
    let refused = failing(5);
    // An address record of three bytes: the lengths fit, the content does not.
    let broken = playing(|seen| Some(seen.query.response(0, &[record(1, 60, &[192, 0, 2])])));
    let (_closed, unreachable) = nowhere();
    for (bad, counter) in [
        (silent.address(), "timeouts"),
        (servfail.address(), "failures"),
        (refused.address(), "failures"),
        (broken.address(), "malformed"),
        (unreachable, "unreachable"),
    ] {
        let resolver = resolver(&[upstream(bad, Duration::from_millis(20)), upstream(good.address(), LONG)]);
        assert_eq!(resolver.resolve(&key("www.example.com")).await.answer.ttl, 60, "{counter}");
        assert_eq!(count(&resolver, counter), 1, "{counter}");
    }
}

/// No upstream answers: three rounds of at most 800 ms, by a clock that advances to the next timer.
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
async fn a_failure_that_all_upstreams_report_is_remembered() {
    let refused = failing(5);
    let resolver = resolver(&[upstream(refused.address(), LONG)]);
    let resolved = resolver.resolve(&key("www.example.com")).await;
    assert_eq!(
        (rcode_of(&resolved), resolved.answer.ttl),
        (rcode::SERVFAIL, 5),
        "it is not the client who is refused"
    );
    assert_eq!(fetched_twice(&resolver, &refused).await, 1);
}

async fn fetched_twice(resolver: &Arc<Resolver>, fake: &Upstream) -> usize {
    resolver.resolve(&key("www.example.com")).await;
    fake.asked()
}

#[tokio::test]
async fn badvers_is_no_success() {
    let fake = playing(|seen| Some(with_opt(seen.query.response(0, &[]), 1, &[])));
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    assert_eq!(rcode_of(&resolver.resolve(&key("www.example.com")).await), rcode::SERVFAIL);
}

#[tokio::test]
async fn a_dead_upstream_is_put_back_and_asked_last() {
    let good = Upstream::with_ttl(60);
    let (_closed, dead) = nowhere();
    let resolver = resolver(&[upstream(dead, Duration::from_millis(50)), upstream(good.address(), LONG)]);
    let mut names = (0..10).map(|i| key(&format!("{i}.example")));
    for key in names.by_ref().take(3) {
        resolver.resolve(&key).await;
    }
    // That its port is closed is only a hint: its queries wait for their answers to the end.
    while !resolver.upstreams().get(0).is_put_back(resolver.clock().nanos()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for key in names {
        resolver.resolve(&key).await;
    }
    assert_eq!((count(&resolver, "unreachable"), good.asked()), (3, 10));
}

/// An only upstream is asked even in back-off.
#[tokio::test]
async fn the_last_hope_is_asked_although_put_back() {
    let works = Arc::new(AtomicBool::new(false));
    let switch = works.clone();
    let fake = playing(move |seen| {
        Some(if switch.load(Ordering::SeqCst) { seen.query.answer(60) } else { broken(&seen.query) })
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    for i in 0..3 {
        resolver.resolve(&key(&format!("{i}.example"))).await;
    }
    assert!(resolver.upstreams().iter().next().unwrap().is_put_back(resolver.clock().nanos()));
    works.store(true, Ordering::SeqCst);
    assert_eq!(resolver.resolve(&key("www.example.com")).await.answer.ttl, 60);
}
