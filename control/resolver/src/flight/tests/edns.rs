//! Upstreams that do not understand EDNS, and those that only seem not to.

use super::*;

const FORMERR: u8 = 1;
const NOTIMP: u8 = 4;

/// Ways in which an upstream says that it does not understand EDNS.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    HeaderOnly,
    WithQuestion,
    WithOpt,
}

fn refuse(query: &[u8], rcode: u8, how: Refusal) -> Vec<u8> {
    let message = response(query, u16::from(rcode), &[]);
    match how {
        Refusal::HeaderOnly => [&message[..4], &[0; 8]].concat(),
        Refusal::WithQuestion => message,
        Refusal::WithOpt => with_opt(message, 0, &[]),
    }
}

#[tokio::test]
async fn a_name_that_is_not_understood_with_edns_is_asked_without() {
    for rcode in [FORMERR, NOTIMP] {
        for how in [Refusal::HeaderOnly, Refusal::WithQuestion, Refusal::WithOpt] {
            let script = move |seen: &Seen, query: &[u8]| {
                Some(if seen.edns { refuse(query, rcode, how) } else { a_record(query, 60) })
            };
            let (fake, log) = playing(script).await;
            let resolver = resolver(&[upstream(fake.address, LONG)]);
            let resolved = resolver.resolve(&key("a.example")).await;
            assert_eq!(resolved.answer.ttl, 60, "{rcode} {how:?}");
            // A client that asks for signatures gets the same, since there are none.
            let resolved = resolver.resolve(&key_of("a.example", 1, true)).await;
            assert_eq!((resolved.answer.ttl, resolved.answer.counts), (60, [1, 0, 0]), "{rcode} {how:?}");
            let edns: Vec<_> = log.lock().iter().map(|seen| seen.edns).collect();
            assert_eq!(edns, [true, false, false], "{rcode} {how:?}");
            assert_eq!(count(&resolver, "without_edns"), 1, "{rcode} {how:?}");
            assert_eq!(count(&resolver, "failures"), 0, "{rcode} {how:?}");
        }
    }
}

/// RFC 6891 section 6.2.2: the trouble of one zone is no trouble of the upstream.
#[tokio::test]
async fn one_name_takes_edns_from_no_other() {
    let script = |seen: &Seen, query: &[u8]| {
        let bad = seen.is_for("bad.example") && seen.edns;
        Some(if bad { refuse(query, FORMERR, Refusal::WithQuestion) } else { a_record(query, 60) })
    };
    let (fake, log) = playing(script).await;
    let resolver = resolver(&[upstream(fake.address, LONG)]);
    for name in ["a.example", "bad.example", "b.example", "c.net"] {
        assert_eq!(resolver.resolve(&key(name)).await.answer.ttl, 60);
    }
    let edns: Vec<_> = log.lock().iter().map(|seen| seen.edns).collect();
    assert_eq!(edns, [true, true, false, true, true]);
}

#[tokio::test]
async fn an_upstream_that_answers_nothing_with_edns_is_asked_without() {
    let script = |seen: &Seen, query: &[u8]| {
        Some(if seen.edns { refuse(query, FORMERR, Refusal::WithQuestion) } else { a_record(query, 60) })
    };
    let (fake, log) = playing(script).await;
    let resolver = resolver(&[upstream(fake.address, LONG)]);
    for name in ["a.example", "b.example", "c.example", "d.example", "e.example"] {
        assert_eq!(resolver.resolve(&key(name)).await.answer.ttl, 60);
    }
    let edns: Vec<_> = log.lock().iter().map(|seen| seen.edns).collect();
    assert_eq!(edns, [true, false, true, false, true, false, false, false]);
}

#[tokio::test]
async fn who_refuses_both_ways_is_not_taken_for_one_without_edns() {
    let (fake, log) = playing(|_, query| Some(refuse(query, FORMERR, Refusal::WithQuestion))).await;
    let resolver = resolver(&[upstream(fake.address, LONG)]);
    for name in ["a.example", "b.example"] {
        assert_eq!(rcode_of(&resolver.resolve(&key(name)).await), rcode::SERVFAIL);
    }
    let edns: Vec<_> = log.lock().iter().map(|seen| seen.edns).collect();
    assert_eq!(edns, [true, false, true, false]);
}

/// A timeout counts as a lost packet, and says nothing about EDNS (RFC 6891 section 6.2.2 as
/// changed by DNS flag day 2019).
#[tokio::test(start_paused = true)]
async fn who_is_silent_is_never_asked_without_edns() {
    let (fake, log) = playing(|seen, query| (!seen.edns).then(|| a_record(query, 60))).await;
    let resolver = resolver(&[upstream(fake.address, Duration::from_millis(800))]);
    for name in ["a.example", "b.example"] {
        assert_eq!(rcode_of(&resolver.resolve(&key(name)).await), rcode::SERVFAIL);
    }
    assert!(log.lock().len() >= 4 && log.lock().iter().all(|seen| seen.edns), "{:?}", log.lock());
}

#[tokio::test]
async fn another_version_of_edns_is_a_failure_and_no_reason_to_do_without() {
    let (fake, log) = playing(|_, query| Some(with_opt(response(query, 0, &[]), 1, &[]))).await;
    let good = FakeUpstream::answering(60).await;
    let resolver = resolver(&[upstream(fake.address, LONG), upstream(good.address, LONG)]);
    for name in ["a.example", "b.example"] {
        assert_eq!(resolver.resolve(&key(name)).await.answer.ttl, 60);
    }
    assert_eq!((log.lock().len(), count(&resolver, "failures")), (2, 2));
    assert!(log.lock().iter().all(|seen| seen.edns));
}

#[tokio::test]
async fn who_does_not_understand_edns_over_tcp_either_is_asked_without() {
    let (fake, log) = playing(|seen, query| {
        Some(match seen.over {
            _ if seen.edns && seen.over == Over::Tcp => refuse(query, FORMERR, Refusal::WithQuestion),
            Over::Udp => response(query, header::TC, &[]),
            Over::Tcp => a_record(query, 60),
        })
    })
    .await;
    let resolver = resolver(&[upstream(fake.address, LONG)]);
    assert_eq!(resolver.resolve(&key("a.example")).await.answer.ttl, 60);
    let last = log.lock().last().cloned().unwrap();
    assert!(last.over == Over::Tcp && !last.edns && log.lock().len() <= 4, "{:?}", log.lock());
}
