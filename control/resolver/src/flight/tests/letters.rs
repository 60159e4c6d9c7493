//! Letters of questions in upper and lower case at random (DNS 0x20).

use super::*;
use std::collections::HashSet;

const ON: &str = "[resolver]\nrandomize_case = true\n";
const NAME: &str = "www.a-rather-long-name.example.com";

fn has_upper_case(seen: &Seen) -> bool {
    seen.query.name().bytes().any(|byte| byte.is_ascii_uppercase())
}

#[tokio::test]
async fn letters_are_drawn_for_each_query_and_are_not_what_clients_see() {
    let fake = playing(|seen| {
        // An owner that is written out in our letters instead of a pointer.
        let question = seen.query.question();
        let owner = &question[..question.len() - 4];
        Some(seen.query.response(0, &[record_of(owner, seen.query.qtype(), 60, &[192, 0, 2, 1])]))
    });
    let resolver = resolver_for(&[upstream(fake.address(), LONG)], ON);
    for qtype in 65280..65290 {
        let resolved = resolver.resolve(&key_of(NAME, qtype, false)).await;
        assert_eq!((rcode_of(&resolved), resolved.answer.ttl), (0, 60));
        assert_eq!(resolved.answer.wire[..2], [0xc0, 12], "the name is the client's own");
    }
    let log = fake.seen();
    let spelled: HashSet<_> = log.iter().map(|seen| seen.query.name()).collect();
    assert!(spelled.len() > 8 && log.len() == 10, "{spelled:?}");
    assert!(log.iter().all(|seen| has_upper_case(seen) && seen.query.is_for(NAME)));
    assert_eq!([count(&resolver, "respelled"), count(&resolver, "queries_tcp")], [0, 0]);
}

#[tokio::test]
async fn who_does_not_repeat_letters_is_asked_over_tcp_and_soon_without_them() {
    let fake = playing(|seen| {
        let mut message = seen.query.answer(60);
        let end = message.len() - 20;
        message[12..end].make_ascii_lowercase();
        Some(message)
    });
    let resolver = resolver_for(&[upstream(fake.address(), LONG)], ON);
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
async fn letters_are_left_alone_unless_they_are_asked_for() {
    let fake = playing(|seen| Some(seen.query.answer(60)));
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    resolver.resolve(&key(NAME)).await;
    assert!(!fake.seen().iter().any(has_upper_case));
}
