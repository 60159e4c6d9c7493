//! Responses without a question: hints, which whoever guesses port and ID can send.

use super::*;

/// Returns a message of a header alone.
fn bare(query: &[u8], flags: u16) -> Vec<u8> {
    let [high, low] = (header::QR | flags).to_be_bytes();
    [&query[..2], &[high, low], &[0; 8]].concat()
}

/// Returns the queries so far, by how they came.
fn ways(log: &Log) -> Vec<Over> {
    log.lock().iter().map(|seen| seen.over).collect()
}

#[tokio::test]
async fn truncation_or_failure_without_a_question_is_asked_over_tcp_at_once() {
    for flags in [header::TC, u16::from(rcode::SERVFAIL), u16::from(rcode::REFUSED)] {
        let script = move |seen: &Seen, query: &[u8]| {
            Some(if seen.over == Over::Udp { bare(query, flags) } else { a_record(query, 60) })
        };
        let (fake, log) = playing(script).await;
        let resolver = resolver(&[upstream(fake.address, LONG)]);
        let began = std::time::Instant::now();
        assert_eq!(resolver.resolve(&key("a.example")).await.answer.ttl, 60, "{flags:#x}");
        assert!(began.elapsed() < LONG, "{flags:#x}");
        assert_eq!(ways(&log), [Over::Udp, Over::Tcp], "{flags:#x}");
        let counts =
            ["hints", "answers", "truncated", "failures", "timeouts"].map(|name| count(&resolver, name));
        assert_eq!(counts, [1, 1, 0, 0, 0], "{flags:#x}");
    }
}

#[tokio::test]
async fn after_a_failure_without_a_question_the_next_upstream_is_asked_at_once() {
    let (bad, bad_log) = playing(|_, query| Some(bare(query, u16::from(rcode::SERVFAIL)))).await;
    let good = FakeUpstream::answering(60).await;
    let resolver = resolver(&[upstream(bad.address, LONG), upstream(good.address, LONG)]);
    let began = std::time::Instant::now();
    assert_eq!(resolver.resolve(&key("a.example")).await.answer.ttl, 60);
    assert!(began.elapsed() < LONG);
    assert_eq!((ways(&bad_log), good.asked()), (vec![Over::Udp], 1));
}

/// A forger who has guessed port and ID can delay nothing and hide nothing.
#[tokio::test]
async fn the_answer_that_comes_after_a_hint_is_taken() {
    for flags in [header::TC, u16::from(rcode::SERVFAIL)] {
        let fake = FakeUpstream::start(move |query, over| match over {
            Over::Udp => vec![Say::Send(bare(query, flags)), Say::Send(a_record(query, 60))],
            Over::Tcp => Vec::new(),
        })
        .await;
        let resolver = resolver(&[upstream(fake.address, LONG)]);
        assert_eq!(resolver.resolve(&key("a.example")).await.answer.ttl, 60, "{flags:#x}");
        assert_eq!(count_of(&resolver, 0, "answers"), 1, "{flags:#x}");
    }
}

#[tokio::test(start_paused = true)]
async fn hints_alone_are_no_answer_and_each_query_follows_one() {
    let (fake, log) = playing(|_, query| Some(bare(query, header::TC))).await;
    let resolver = resolver(&[upstream(fake.address, Duration::from_millis(800))]);
    assert_eq!(rcode_of(&resolver.resolve(&key("a.example")).await), rcode::SERVFAIL);
    assert!(log.lock().len() <= 6, "{:?}", log.lock());
}

#[tokio::test]
async fn a_datagram_that_was_cut_on_its_way_is_asked_for_over_tcp() {
    let text = [&[255][..], &[b'x'; 255]].concat();
    let text = record(16, 60, &text);
    let (fake, log) = playing(move |seen, query| {
        let whole = response(query, 0, &[&text[..]; 4]);
        Some(if seen.over == Over::Udp { whole[..900].to_vec() } else { whole })
    })
    .await;
    let resolver = resolver(&[upstream(fake.address, LONG)]);
    let resolved = resolver.resolve(&key_of("a.example", 16, false)).await;
    assert_eq!(resolved.answer.counts, [4, 0, 0]);
    assert_eq!(ways(&log), [Over::Udp, Over::Tcp]);
}
