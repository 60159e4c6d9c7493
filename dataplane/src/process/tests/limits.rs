//! Tests of the rate limit.

use super::{
    policy::{CLIENT_COOKIE, cookie, cookies, packet_from, with_cookie},
    *,
};
use crate::{
    access::AccessList,
    limiter::{LimitConfig, MISS},
};

const BURST_LIMIT: u64 = 400;

fn limit(f: &mut Fixture, slip: u32, dry_run: bool) {
    let exempt = AccessList::new(&[], &[]).unwrap();
    let limit = LimitConfig {
        per_second: 200,
        burst: BURST_LIMIT as u32,
        slip,
        exempt,
        groups: None,
        dry_run,
        flood_times: 0,
    };
    let policy = QueryPolicy { limit: Some(limit), ..f.processor.policy().clone() };
    f.processor.set_policy(Arc::new(policy));
    f.processor.set_time(0);
}

/// Sends the packet `times` times, a burst at a time. Returns the verdicts and the last reply.
fn flood(f: &mut Fixture, packet: &[u8], times: usize) -> (Vec<Verdict>, Option<Message>) {
    let (mut verdicts, mut last) = (Vec::new(), None);
    for start in (0..times).step_by(BURST) {
        let mut burst: Vec<Frame> = (start..times.min(start + BURST))
            .map(|_| {
                let mut frame = f.frames.alloc().unwrap();
                f.frames.buffer(&mut frame)[..packet.len()].copy_from_slice(packet);
                frame.set_len(packet.len());
                frame
            })
            .collect();
        let (fates, _) = f.processor.run(0, Checksums::Verify, &mut f.frames, &mut burst, &f.stats);
        verdicts.extend((0..burst.len()).map(|nth| fates.verdict(nth)));
        for (frame, verdict) in burst.into_iter().zip(&verdicts[start..]) {
            if verdict.is_reply() {
                last = Some(f.frames.packet(&frame).to_vec());
            }
            f.frames.release(frame);
        }
    }
    f.stats.add(Counter::Received, times as u64);
    (verdicts, last.map(|reply| Message::from_vec(&packet::tests::received(&reply)).unwrap()))
}

fn replies(verdicts: &[Verdict]) -> u64 {
    verdicts.iter().filter(|verdict| verdict.is_reply()).count() as u64
}

/// Hits beyond a burst are refused, by the glance's path too, and one in `slip` of them has TC=1.
/// Other clients are answered.
#[test]
fn a_flood_of_hits_is_limited_and_others_are_not() {
    for (client, other) in [("192.0.2.9", "192.0.2.10"), ("2001:db8::9", "2001:db8::a")] {
        for slip in [0, 1, 2, 5] {
            let mut f = Fixture::new();
            f.know("known.example.", 300, 0);
            limit(&mut f, slip, false);
            let query = testing::query("known.example.", RecordType::A);
            let packet = packet_from(client, &testing::wire(&query));
            let (verdicts, last) = flood(&mut f, &packet, 4_000);
            let stats = f.stats.snapshot();
            let (hits, slips) = (stats.get(Counter::Hit), stats.get(Counter::Slipped));
            let (dropped, context) = (stats.dropped(DropReason::Limited), format!("{client}, slip = {slip}"));
            // Sampling may find the flood a few bursts late.
            assert!((300..600).contains(&hits), "{context}: {hits} hits");
            assert_eq!(hits + slips + dropped, 4_000, "{context}");
            assert_eq!(slips, if slip == 0 { 0 } else { (4_000 - hits) / u64::from(slip) }, "{context}");
            assert_eq!((replies(&verdicts), stats.unaccounted()), (hits + slips, 0), "{context}");
            if slip == 1 {
                let last = last.unwrap();
                assert!(last.metadata.truncation && last.answers.is_empty(), "{last:?}");
                assert_eq!((last.metadata.response_code, last.queries.len()), (ResponseCode::NoError, 1));
                assert_eq!((last.metadata.id, last.edns), (0x1234, None));
            }
            let (verdicts, last) = flood(&mut f, &packet_from(other, &testing::wire(&query)), 100);
            assert_eq!(replies(&verdicts), 100, "{context}: another client");
            assert_eq!(last.unwrap().answers.len(), 1);
        }
    }
}

/// VLAN tags hide no client, and no client of another network behind them pays.
#[test]
fn a_flood_behind_tags_is_limited() {
    for (link, v6) in packet::tests::every_kind() {
        let mut f = Fixture::new();
        f.know("known.example.", 300, 0);
        limit(&mut f, 0, false);
        let message = testing::wire(&testing::query("known.example.", RecordType::A));
        let packet = packet::tests::frame(link, v6, &message);
        let (verdicts, _) = flood(&mut f, &packet, 4_000);
        let hits = replies(&verdicts);
        assert!((300..600).contains(&hits), "{link:?}, IPv6: {v6}: {hits} hits");
        let other = if v6 { [0xfc; 16].into() } else { [10, 0, 9, 1].into() };
        let (verdicts, _) = flood(&mut f, &packet::tests::frame_from(other, link, &message), 100);
        assert_eq!(replies(&verdicts), 100, "{link:?}, IPv6: {v6}: another client");
    }
}

/// Queries that need a closer look are charged one by one, by their price.
#[test]
fn misses_cost_more_and_are_counted_exactly() {
    let mut f = Fixture::new();
    limit(&mut f, 2, false);
    let query = testing::query("unknown.example.", RecordType::A);
    let (verdicts, last) = flood(&mut f, &packet_from("192.0.2.9", &testing::wire(&query)), 1_000);
    let punts = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Punt(_))).count() as u64;
    assert_eq!(punts, BURST_LIMIT / u64::from(MISS) + 1);
    let stats = f.stats.snapshot();
    let refused = 1_000 - punts;
    assert_eq!(
        (stats.get(Counter::Slipped), stats.dropped(DropReason::Limited)),
        (refused / 2, refused - refused / 2)
    );
    assert!(last.unwrap().metadata.truncation);
    // A second later, the limit's worth is due again.
    f.processor.set_time(1_000_000_000);
    let (verdicts, _) = flood(&mut f, &packet_from("192.0.2.9", &testing::wire(&query)), 1_000);
    let punts = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Punt(_))).count() as u64;
    assert!(punts.abs_diff(200 / u64::from(MISS)) <= 1, "{punts}");
}

/// Rejections are charged and never slip: a client would not ask again over TCP.
#[test]
fn rejections_are_limited_without_slips() {
    let mut f = Fixture::new();
    limit(&mut f, 1, false);
    let mut message = testing::wire(&testing::query("known.example.", RecordType::A));
    message[2] = 0x28;
    let (verdicts, _) = flood(&mut f, &packet_from("192.0.2.9", &message), 1_000);
    let stats = f.stats.snapshot();
    assert_eq!((replies(&verdicts), stats.get(Counter::NotImp)), (BURST_LIMIT + 1, BURST_LIMIT + 1));
    assert_eq!((stats.get(Counter::Slipped), stats.dropped(DropReason::Limited)), (0, 999 - BURST_LIMIT));
}

/// A valid server cookie proves that the source is no forgery.
#[test]
fn a_good_cookie_exempts() {
    let mut f = Fixture::new();
    cookies(&mut f, false);
    f.know("known.example.", 300, 0);
    limit(&mut f, 2, false);
    let query = testing::query("known.example.", RecordType::A);
    let new = with_cookie(&query, &CLIENT_COOKIE);
    let both = cookie(&f.ask(0, &new).1.unwrap()).unwrap();
    let client = "192.0.2.9";
    let good = packet_from(client, &testing::wire(&with_cookie(&query, &both)));
    assert_eq!(replies(&flood(&mut f, &good, 2_000).0), 2_000);
    // It was not charged, so that others behind the address have all of the limit.
    let (_, last) = flood(&mut f, &packet_from(client, &testing::wire(&query)), 300);
    assert!(!last.unwrap().metadata.truncation);
    // A client that is refused gets a cookie for the next try.
    let (_, last) = flood(&mut f, &packet_from(client, &testing::wire(&new)), 2_000);
    let last = last.unwrap();
    assert!(last.metadata.truncation && cookie(&last).is_some(), "{last:?}");
    let before = f.stats.snapshot().get(Counter::Slipped);
    assert_eq!(replies(&flood(&mut f, &good, 500).0), 500);
    assert_eq!(f.stats.snapshot().get(Counter::Slipped), before);
}

#[test]
fn a_dry_run_counts_and_answers() {
    let mut f = Fixture::new();
    f.know("known.example.", 300, 0);
    limit(&mut f, 2, true);
    let query = testing::query("known.example.", RecordType::A);
    let (verdicts, last) = flood(&mut f, &packet_from("192.0.2.9", &testing::wire(&query)), 4_000);
    assert_eq!(replies(&verdicts), 4_000);
    assert_eq!(last.unwrap().answers.len(), 1);
    let stats = f.stats.snapshot();
    assert!((3_400..3_700).contains(&stats.get(Counter::LimitDryRun)), "{}", stats.get(Counter::LimitDryRun));
    assert_eq!((stats.get(Counter::Hit), stats.unaccounted()), (4_000, 0));
}

/// A reload changes limits, and takes them away.
#[test]
fn another_policy_has_other_limits() {
    let mut f = Fixture::new();
    f.know("known.example.", 300, 0);
    let packet = packet_from("192.0.2.9", &testing::wire(&testing::query("known.example.", RecordType::A)));
    for (is_limited, expected) in [(false, 2_000), (true, 600), (false, 2_000)] {
        if is_limited {
            limit(&mut f, 0, false);
        } else {
            f.processor.set_policy(Arc::default());
        }
        let answered = replies(&flood(&mut f, &packet, 2_000).0);
        assert!((expected / 2..=expected).contains(&answered), "{answered}, limited: {is_limited}");
        assert_eq!(answered == 2_000, !is_limited);
    }
}
