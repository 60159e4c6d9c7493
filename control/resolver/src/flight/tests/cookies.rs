//! DNS cookies towards upstreams (RFC 7873).

use super::*;

const BADCOOKIE_LOW: u16 = 7;
const THEIRS: [u8; 16] = [7; 16];

/// The message with a cookie: the client's of the query, and this server's.
fn with_cookie(seen: &Seen, message: Vec<u8>, rcode_high: u8, theirs: &[u8]) -> Vec<u8> {
    let ours = &seen.query.cookie().expect("a query with a cookie")[..8];
    let options = [&[0, 10, 0, (8 + theirs.len()) as u8], ours, theirs].concat();
    with_opt(message, rcode_high, &options)
}

fn good(seen: &Seen, ttl: u32) -> Vec<u8> {
    with_cookie(seen, seen.query.answer(ttl), 0, &THEIRS)
}

async fn resolved_ttls(resolver: &Arc<Resolver>, names: &[&str]) -> Vec<u32> {
    let mut ttls = Vec::new();
    for name in names {
        ttls.push(resolver.resolve(&key(name)).await.answer.ttl);
    }
    ttls
}

/// Returns the numbers of queries over UDP and over TCP.
fn ways(fake: &Upstream) -> [usize; 2] {
    let over = |over| fake.seen().iter().filter(|seen| seen.over == over).count();
    [over(Over::Udp), over(Over::Tcp)]
}

#[tokio::test]
async fn a_cookie_is_sent_and_the_upstreams_part_is_repeated() {
    let first = playing(|seen| Some(good(seen, 60)));
    let second = playing(|seen| Some(good(seen, 60)));
    let upstreams = [upstream(first.address(), LONG), upstream(second.address(), LONG)];
    let resolver = resolver_for(&upstreams, "[resolver]\nstrategy = \"round-robin\"\n");
    assert_eq!(resolved_ttls(&resolver, &["a", "b", "c", "d"]).await, [60; 4]);
    let mut ours = Vec::new();
    for fake in [first, second] {
        let cookies: Vec<_> = fake.seen().iter().map(|seen| seen.query.cookie().unwrap()).collect();
        assert_eq!((cookies[0].len(), &cookies[1][8..]), (8, &THEIRS[..]));
        assert_eq!(cookies[0][..], cookies[1][..8]);
        ours.push(cookies[0].clone());
    }
    assert_ne!(ours[0], ours[1], "upstreams could tell that the same resolver asks them");
}

#[tokio::test]
async fn none_are_sent_where_they_are_switched_off() {
    let fake = playing(|seen| Some(seen.query.answer(60)));
    let resolver = resolver_for(&[upstream(fake.address(), LONG)], "[resolver]\ncookies = false\n");
    assert_eq!(resolved_ttls(&resolver, &["a"]).await, [60]);
    assert!(fake.seen().iter().all(|seen| seen.query.has_edns() && seen.query.cookie().is_none()));
}

#[tokio::test]
async fn an_answer_with_another_clients_cookie_is_passed_over() {
    let fake = Upstream::local(|seen| {
        let mut lie = good(seen, 1);
        let at = lie.len() - 24;
        lie[at] ^= 1;
        vec![Say::Send(lie), Say::Send(good(seen, 60))]
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    assert_eq!(resolved_ttls(&resolver, &["a"]).await, [60]);
    assert_eq!((count(&resolver, "ignored_wrong_cookie"), fake.asked()), (1, 1));
}

/// An upstream that has sent a cookie keeps sending one. An answer without one may be forged, and
/// is requested again over TCP. Neither that answer nor a truncated one makes the next query go
/// without a cookie.
#[tokio::test]
async fn an_answer_without_the_cookie_that_was_there_is_asked_for_over_tcp() {
    let fake = playing(|seen| {
        Some(match seen.over {
            Over::Udp if seen.query.is_for("first") => good(seen, 60),
            Over::Udp if seen.query.is_for("cut") => {
                with_cookie(seen, seen.query.response(header::TC, &[]), 0, &THEIRS)
            }
            Over::Udp => seen.query.answer(1),
            Over::Tcp => good(seen, 60),
        })
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    assert_eq!(resolved_ttls(&resolver, &["first", "forged1", "forged2", "cut", "forged3"]).await, [60; 5]);
    assert_eq!((ways(&fake), count(&resolver, "cookie_missing")), ([5, 4], 3));
    assert!(fake.seen().iter().skip(1).all(|seen| seen.query.cookie().is_some_and(|c| c.len() == 24)));
}

#[tokio::test]
async fn an_upstream_that_knows_cookies_no_more_is_asked_over_tcp_once() {
    let fake =
        playing(|seen| Some(if seen.query.is_for("first") { good(seen, 60) } else { seen.query.answer(60) }));
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    assert_eq!(resolved_ttls(&resolver, &["first", "a", "b", "c"]).await, [60; 4]);
    assert_eq!(ways(&fake), [4, 1]);
}

#[tokio::test]
async fn a_newer_cookie_is_sent_again_once_and_then_tcp_it_is() {
    for stubborn in [false, true] {
        let fake = playing(move |seen| {
            let knows = seen.query.cookie().is_some_and(|cookie| cookie.get(8..) == Some(&THEIRS));
            Some(if seen.over == Over::Udp && (stubborn || !knows) {
                with_cookie(seen, seen.query.response(BADCOOKIE_LOW, &[]), 1, &THEIRS)
            } else {
                good(seen, 60)
            })
        });
        let resolver = resolver(&[upstream(fake.address(), LONG)]);
        assert_eq!(resolved_ttls(&resolver, &["a"]).await, [60]);
        assert_eq!((ways(&fake), count(&resolver, "cookie_renewed")), ([2, usize::from(stubborn)], 1));
        assert_eq!(count(&resolver, "failures"), 0);
    }
}

/// A forger need not know the question to claim that a query was not understood. An upstream that
/// sends cookies has understood.
#[tokio::test]
async fn no_word_against_edns_is_believed_without_the_cookie() {
    let fake = playing(|seen| {
        Some(match seen.over {
            Over::Udp if seen.query.is_for("forged") => [&seen.query.response(1, &[])[..4], &[0; 8]].concat(),
            _ => good(seen, 60),
        })
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    assert_eq!(resolved_ttls(&resolver, &["first", "forged", "last"]).await, [60; 3]);
    assert_eq!(ways(&fake), [3, 1]);
    assert!(fake.seen().iter().all(|seen| seen.query.has_edns()), "{:?}", fake.seen());
}

/// RFC 7873 section 5.3: a response with a wrong cookie is ignored, and a query after it may go
/// without. Some routers repeat the first cookie that they saw.
#[tokio::test]
async fn the_last_try_goes_without_a_cookie_where_only_wrong_ones_come_back() {
    let fake = playing(|Seen { query, .. }| {
        Some(match query.cookie() {
            Some(_) => with_opt(query.answer(60), 0, &[&[0, 10, 0, 16][..], &[9; 16]].concat()),
            None => query.answer(60),
        })
    });
    let resolver = resolver(&[upstream(fake.address(), Duration::from_millis(200))]);
    assert_eq!(resolver.resolve(&key("a.example")).await.answer.ttl, 60);
    let cookies: Vec<_> = fake.seen().iter().map(|seen| seen.query.cookie().is_some()).collect();
    assert_eq!(cookies, [true, true, false]);
    assert_eq!(count(&resolver, "ignored_wrong_cookie"), 2);
}
