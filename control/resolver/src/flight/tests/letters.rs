//! Letters of questions in upper and lower case at random (DNS 0x20).

use super::*;
use std::collections::HashSet;

const NAME: &str = "www.a-rather-long-name.example.com";

fn has_upper_case(seen: &Seen) -> bool {
    seen.query.spelled().bytes().any(|byte| byte.is_ascii_uppercase())
}

#[tokio::test]
async fn letters_are_drawn_for_each_query_and_are_not_what_clients_see() {
    let fake = playing(|seen| {
        // An owner that is written out in our letters instead of a pointer.
        let question = seen.query.question();
        let owner = &question[..question.len() - 4];
        Some(seen.query.response(0, &[record_of(owner, seen.query.qtype(), 60, &[192, 0, 2, 1])]))
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    for qtype in 65280..65290 {
        let resolved = resolver.resolve(&key_of(NAME, qtype, false)).await;
        assert_eq!((rcode_of(&resolved), resolved.answer.ttl), (0, 60));
        assert_eq!(resolved.answer.wire[..2], [0xc0, 12], "the name is the client's own");
    }
    let log = fake.seen();
    let spelled: HashSet<_> = log.iter().map(|seen| seen.query.spelled()).collect();
    assert!(spelled.len() > 8 && log.len() == 10, "{spelled:?}");
    assert!(log.iter().all(|seen| has_upper_case(seen) && seen.query.is_for(NAME)));
    assert_eq!([count(&resolver, "respelled"), count(&resolver, "queries_tcp")], [0, 0]);
}

/// An answer that is written anew is longer, and may not fit where the upstream's does.
#[tokio::test]
async fn an_answer_that_repeats_no_letters_stays_as_it_came() {
    // CNAME mail.example.com, with a pointer to the last 13 bytes of the name in the question.
    const TARGET: &[u8] = &[4, b'm', b'a', b'i', b'l', 0xc0, (12 + NAME.len() + 2 - 13) as u8];
    let fake = playing(|seen| {
        let alias = [&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 7], TARGET].concat();
        Some(seen.query.response(0, &[alias]))
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    let resolved = resolver.resolve(&key_of(NAME, 5, false)).await;
    assert_eq!(resolved.answer.wire[12..], *TARGET);
    assert!(fake.seen().iter().all(has_upper_case));
}

#[tokio::test]
async fn who_does_not_repeat_letters_is_asked_over_tcp_and_soon_without_them() {
    let fake = playing(|seen| {
        let mut message = seen.query.answer(60);
        let end = message.len() - 20;
        message[12..end].make_ascii_lowercase();
        Some(message)
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    for number in 0..6 {
        let resolved = resolver.resolve(&key(&format!("name{number}.{NAME}"))).await;
        assert_eq!(resolved.answer.ttl, 60);
    }
    assert_eq!(["respelled", "queries_tcp", "queries_udp"].map(|name| count(&resolver, name)), [3, 3, 6]);
    let udp: Vec<_> = fake.seen().iter().filter(|seen| seen.over == Over::Udp).map(has_upper_case).collect();
    assert_eq!(udp, [true, true, true, false, false, false]);
    assert!(fake.seen().iter().filter(|seen| seen.over == Over::Tcp).all(|seen| !has_upper_case(seen)));
}

#[tokio::test]
async fn letters_are_left_alone_if_they_are_to_be() {
    let fake = playing(|seen| Some(seen.query.answer(60)));
    let resolver = resolver_for(&[upstream(fake.address(), LONG)], "[resolver]\nrandomize_case = false\n");
    resolver.resolve(&key(NAME)).await;
    assert!(!fake.seen().iter().any(has_upper_case));
}

/// It does not answer over TCP either: the last try of the first question goes without letters, and
/// then all do.
#[tokio::test]
async fn who_repeats_no_letters_and_has_no_tcp_is_asked_without_them_in_the_end() {
    let fake = Upstream::local(|seen| {
        let mut message = seen.query.answer(60);
        let end = message.len() - 20;
        message[12..end].make_ascii_lowercase();
        vec![if seen.over == Over::Udp { Say::Send(message) } else { Say::Close }]
    });
    let resolver = resolver(&[upstream(fake.address(), Duration::from_millis(200))]);
    assert_eq!(resolver.resolve(&key(NAME)).await.answer.ttl, 60);
    assert!(!resolver.upstreams().get(0).is_put_back(resolver.clock().nanos()));
}

/// Whoever guesses port and ID now and then does not make an upstream's letters go away.
#[tokio::test]
async fn letters_stay_where_they_are_repeated_between_forgeries() {
    let fake = Upstream::local(|seen| {
        let mut lie = seen.query.answer(1);
        let end = lie.len() - 20;
        lie[12..end].make_ascii_lowercase();
        match seen.over {
            Over::Udp => vec![Say::Send(lie), Say::Send(seen.query.answer(60))],
            Over::Tcp => Vec::new(),
        }
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    for number in 0..6 {
        assert_eq!(resolver.resolve(&key(&format!("name{number}.{NAME}"))).await.answer.ttl, 60);
    }
    assert!(fake.seen().iter().filter(|seen| seen.over == Over::Udp).all(has_upper_case));
}
