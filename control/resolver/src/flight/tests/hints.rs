//! Responses without a question: hints, which whoever guesses port and ID can send.

use super::*;

/// Returns a response of a header alone.
fn bare(query: &Asked, flags: u16) -> Vec<u8> {
    [&query.id().to_be_bytes()[..], &(header::QR | flags).to_be_bytes(), &[0; 8]].concat()
}

/// Returns how the queries so far came.
fn ways(fake: &Upstream) -> Vec<Over> {
    fake.seen().iter().map(|seen| seen.over).collect()
}

#[tokio::test]
async fn truncation_or_failure_without_a_question_is_asked_over_tcp_at_once() {
    for flags in [header::TC, u16::from(rcode::SERVFAIL), u16::from(rcode::REFUSED)] {
        let fake = playing(move |Seen { query, over, .. }| {
            Some(if *over == Over::Udp { bare(query, flags) } else { query.answer(60) })
        });
        let resolver = resolver(&[upstream(fake.address(), LONG)]);
        let began = std::time::Instant::now();
        assert_eq!(resolver.resolve(&key("a.example")).await.answer.ttl, 60, "{flags:#x}");
        assert!(began.elapsed() < LONG, "{flags:#x}");
        assert_eq!(ways(&fake), [Over::Udp, Over::Tcp], "{flags:#x}");
        let counts =
            ["hints", "answers", "truncated", "failures", "timeouts"].map(|name| count(&resolver, name));
        assert_eq!(counts, [1, 1, 0, 0, 0], "{flags:#x}");
    }
}

#[tokio::test]
async fn after_a_failure_without_a_question_the_next_upstream_is_asked_at_once() {
    let bad = playing(|seen| Some(bare(&seen.query, u16::from(rcode::SERVFAIL))));
    let good = Upstream::with_ttl(60);
    let resolver = resolver(&[upstream(bad.address(), LONG), upstream(good.address(), LONG)]);
    let began = std::time::Instant::now();
    assert_eq!(resolver.resolve(&key("a.example")).await.answer.ttl, 60);
    assert!(began.elapsed() < LONG);
    assert_eq!((ways(&bad), good.asked()), (vec![Over::Udp], 1));
}

/// A forger who has guessed port and ID can delay nothing and hide nothing.
#[tokio::test]
async fn the_answer_that_comes_after_a_hint_is_taken() {
    for flags in [header::TC, u16::from(rcode::SERVFAIL)] {
        let fake = Upstream::local(move |Seen { query, over, .. }| match over {
            Over::Udp => vec![Say::Send(bare(query, flags)), Say::Send(query.answer(60))],
            Over::Tcp => Vec::new(),
        });
        let resolver = resolver(&[upstream(fake.address(), LONG)]);
        assert_eq!(resolver.resolve(&key("a.example")).await.answer.ttl, 60, "{flags:#x}");
        assert_eq!(count(&resolver, "answers"), 1, "{flags:#x}");
    }
}

#[tokio::test]
async fn hints_alone_are_no_answer_and_each_query_follows_one() {
    let fake = Upstream::local(|Seen { query, over, .. }| match over {
        Over::Udp => vec![Say::Send(bare(query, header::TC)); 9],
        Over::Tcp => Vec::new(),
    });
    let resolver = resolver(&[upstream(fake.address(), Duration::from_millis(100))]);
    assert_eq!(rcode_of(&resolver.resolve(&key("a.example")).await), rcode::SERVFAIL);
    assert!(fake.asked() <= 6, "{:?}", fake.seen());
}

#[tokio::test]
async fn a_datagram_that_was_cut_on_its_way_is_asked_for_over_tcp() {
    let text = record(16, 60, &[&[255][..], &[b'x'; 255]].concat());
    let fake = playing(move |Seen { query, over, .. }| {
        let whole = query.response(0, &[(); 4].map(|()| text.clone()));
        Some(if *over == Over::Udp { whole[..900].to_vec() } else { whole })
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    let resolved = resolver.resolve(&key_of("a.example", 16, false)).await;
    assert_eq!(resolved.answer.counts, [4, 0, 0]);
    assert_eq!(ways(&fake), [Over::Udp, Over::Tcp]);
}

/// An upstream without EDNS is not excepted: its FORMERR is a hint, once it is asked without.
#[tokio::test]
async fn a_refusal_without_edns_and_without_a_question_is_a_hint() {
    let fake = Upstream::local(|Seen { query, over, .. }| match over {
        Over::Udp => vec![Say::Send(bare(query, u16::from(rcode::FORMERR)))],
        Over::Tcp => vec![Say::Send(query.answer(60))],
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    assert_eq!(resolver.resolve(&key("a.example")).await.answer.ttl, 60);
    assert_eq!(ways(&fake), [Over::Udp, Over::Udp, Over::Tcp]);
    assert_eq!(count(&resolver, "hints"), 1);
}
