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

fn refuse(query: &Asked, rcode: u8, how: Refusal) -> Vec<u8> {
    let message = query.response(u16::from(rcode), &[]);
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
            let script = move |seen: &Seen| {
                Some(if seen.query.has_edns() {
                    refuse(&seen.query, rcode, how)
                } else {
                    seen.query.answer(60)
                })
            };
            let fake = playing(script);
            let resolver = resolver(&[upstream(fake.address(), LONG)]);
            let resolved = resolver.resolve(&key("a.example")).await;
            assert_eq!(resolved.answer.ttl, 60, "{rcode} {how:?}");
            // A client that asks for signatures gets the same, since there are none.
            let resolved = resolver.resolve(&key_of("a.example", 1, true)).await;
            assert_eq!((resolved.answer.ttl, resolved.answer.counts), (60, [1, 0, 0]), "{rcode} {how:?}");
            let edns: Vec<_> = fake.seen().iter().map(|seen| seen.query.has_edns()).collect();
            assert_eq!(edns, [true, false, false], "{rcode} {how:?}");
            assert_eq!(count(&resolver, "without_edns"), 1, "{rcode} {how:?}");
            assert_eq!(count(&resolver, "failures"), 0, "{rcode} {how:?}");
        }
    }
}

/// RFC 6891 section 6.2.2: the trouble of one zone is no trouble of the upstream.
#[tokio::test]
async fn one_name_takes_edns_from_no_other() {
    let fake = playing(|Seen { query, .. }| {
        let bad = query.is_for("bad.example") && query.has_edns();
        Some(if bad { refuse(query, FORMERR, Refusal::WithQuestion) } else { query.answer(60) })
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    for name in ["a.example", "bad.example", "b.example", "c.net"] {
        assert_eq!(resolver.resolve(&key(name)).await.answer.ttl, 60);
    }
    let edns: Vec<_> = fake.seen().iter().map(|seen| seen.query.has_edns()).collect();
    assert_eq!(edns, [true, true, false, true, true]);
}

#[tokio::test]
async fn an_upstream_that_answers_nothing_with_edns_is_asked_without() {
    let fake = playing(|Seen { query, .. }| {
        Some(if query.has_edns() { refuse(query, FORMERR, Refusal::WithQuestion) } else { query.answer(60) })
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    for name in ["a.example", "b.example", "c.example", "d.example", "e.example"] {
        assert_eq!(resolver.resolve(&key(name)).await.answer.ttl, 60);
    }
    let edns: Vec<_> = fake.seen().iter().map(|seen| seen.query.has_edns()).collect();
    assert_eq!(edns, [true, false, true, false, true, false, false, false]);
}

#[tokio::test]
async fn who_refuses_both_ways_is_not_taken_for_one_without_edns() {
    let fake = playing(|seen| Some(refuse(&seen.query, FORMERR, Refusal::WithQuestion)));
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    for name in ["a.example", "b.example"] {
        assert_eq!(rcode_of(&resolver.resolve(&key(name)).await), rcode::SERVFAIL);
    }
    let edns: Vec<_> = fake.seen().iter().map(|seen| seen.query.has_edns()).collect();
    assert_eq!(edns, [true, false, true, false]);
}

/// A timeout counts as a lost packet, and says nothing about EDNS (RFC 6891 section 6.2.2 as
/// changed by DNS flag day 2019).
#[tokio::test(start_paused = true)]
async fn who_is_silent_is_never_asked_without_edns() {
    let fake = playing(|seen| (!seen.query.has_edns()).then(|| seen.query.answer(60)));
    let resolver = resolver(&[upstream(fake.address(), Duration::from_millis(800))]);
    for name in ["a.example", "b.example"] {
        assert_eq!(rcode_of(&resolver.resolve(&key(name)).await), rcode::SERVFAIL);
    }
    let sent = count(&resolver, "queries_udp") as usize;
    while fake.asked() < sent {
        tokio::task::yield_now().await;
    }
    assert!(sent >= 4 && fake.seen().iter().all(|seen| seen.query.has_edns()), "{:?}", fake.seen());
}

#[tokio::test]
async fn another_version_of_edns_is_a_failure_and_no_reason_to_do_without() {
    let fake = playing(|seen| Some(with_opt(seen.query.response(0, &[]), 1, &[])));
    let good = Upstream::with_ttl(60);
    let resolver = resolver(&[upstream(fake.address(), LONG), upstream(good.address(), LONG)]);
    for name in ["a.example", "b.example"] {
        assert_eq!(resolver.resolve(&key(name)).await.answer.ttl, 60);
    }
    assert_eq!((fake.asked(), count(&resolver, "failures")), (2, 2));
    assert!(fake.seen().iter().all(|seen| seen.query.has_edns()));
}

#[tokio::test]
async fn who_does_not_understand_edns_over_tcp_either_is_asked_without() {
    let fake = playing(|seen| {
        Some(match seen.over {
            _ if seen.query.has_edns() && seen.over == Over::Tcp => {
                refuse(&seen.query, FORMERR, Refusal::WithQuestion)
            }
            Over::Udp => seen.query.response(header::TC, &[]),
            Over::Tcp => seen.query.answer(60),
        })
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    assert_eq!(resolver.resolve(&key("a.example")).await.answer.ttl, 60);
    let last = fake.seen().pop().unwrap();
    assert!(last.over == Over::Tcp && !last.query.has_edns() && fake.asked() <= 4, "{:?}", fake.seen());
}
