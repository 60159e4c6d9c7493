//! Who is answered, and with what cookie.

use super::*;
use crate::dns::cookie::Cookies;

/// Cookies with a secret of RFC 9018, at a time shortly after its examples.
fn cookies(f: &mut Fixture, required: bool) {
    let secret = 0xe5e9_73e5_a6b2_a43f_48e7_dc84_9e37_bfcf_u128.to_be_bytes();
    let policy = Policy { cookies: Some(Cookies::new(secret, None)), require_cookies: required };
    f.processor.policy = Arc::new(policy);
    f.processor.set_epoch(1_559_731_985);
}

const CLIENT_COOKIE: [u8; 8] = *b"biscuits";

fn with_cookie(query: &Message, cookie: &[u8]) -> Message {
    let mut query = testing::with_edns(query.clone(), 1232, false);
    query.edns.as_mut().unwrap().options_mut().insert(EdnsOption::Unknown(10, cookie.to_vec()));
    query
}

/// The cookie of a reply.
fn cookie(reply: &Message) -> Option<Vec<u8>> {
    match reply.edns.as_ref()?.option(EdnsCode::Cookie)? {
        EdnsOption::Unknown(_, cookie) => Some(cookie.clone()),
        _ => None,
    }
}

#[test]
fn a_client_cookie_is_answered_with_a_server_cookie_that_is_good_for_an_hour() {
    let mut f = Fixture::new();
    cookies(&mut f, true);
    f.know("known.example.", 86_400, 0);
    let query = testing::query("known.example.", RecordType::A);
    // Without a good one it gets one, and nothing else.
    let (_, reply) = f.ask(0, &with_cookie(&query, &CLIENT_COOKIE));
    let reply = reply.unwrap();
    assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::BADCOOKIE, 0));
    let mut both = cookie(&reply).unwrap();
    assert_eq!((both.len(), &both[..12]), (24, &[&CLIENT_COOKIE[..], &[1, 0, 0, 0]].concat()[..]));
    // With that it is answered. From half an hour on it gets a new one with the answer.
    for (now, kept) in [(0, true), (1_800, true), (1_900, false), (5_500, false)] {
        let (_, reply) = f.ask(now, &with_cookie(&query, &both));
        let reply = reply.unwrap();
        assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NoError, 1), "{now}");
        let new = cookie(&reply).unwrap();
        assert_eq!(new == both, kept, "at {now} s");
        both = new;
    }
    // An old one, a forged one, and another server's are like none.
    let forged = |at: usize| {
        let mut forged = both.clone();
        forged[at] ^= 1;
        forged
    };
    for bad in [forged(0), forged(8), forged(15), forged(23), both[..16].to_vec(), [7; 40].to_vec()] {
        let (_, reply) = f.ask(5_500, &with_cookie(&query, &bad));
        assert_eq!(reply.unwrap().metadata.response_code, ResponseCode::BADCOOKIE, "{bad:?}");
    }
    let (_, reply) = f.ask(9_200, &with_cookie(&query, &both));
    assert_eq!(reply.unwrap().metadata.response_code, ResponseCode::BADCOOKIE);
    // Who has none at all is answered as ever, at a glance.
    let (_, reply) = f.ask(9_200, &testing::with_edns(query, 1232, false));
    assert!(reply.is_some_and(|reply| cookie(&reply).is_none() && reply.answers.len() == 1));
    let stats = f.stats.snapshot();
    assert_eq!((stats.get(Counter::Hit), stats.get(Counter::Cookie)), (5, 8));
}

#[test]
fn cookies_are_no_condition_unless_told_so_and_none_of_our_business_when_off() {
    let mut f = Fixture::new();
    f.know("known.example.", 86_400, 0);
    let query = testing::query("known.example.", RecordType::A);
    let sent = [with_cookie(&query, &CLIENT_COOKIE), with_cookie(&query, &CLIENT_COOKIE[1..])];
    for (on, malformed) in [(false, ResponseCode::NoError), (true, ResponseCode::FormErr)] {
        if on {
            cookies(&mut f, false);
        }
        let [good, bad] = sent.each_ref().map(|query| f.ask(0, query).1.unwrap());
        assert_eq!((good.answers.len(), cookie(&good).is_some()), (1, on));
        assert_eq!((bad.metadata.response_code, cookie(&bad)), (malformed, None));
    }
    assert_eq!(f.stats.snapshot().get(Counter::FormErr), 1);
}

/// RFC 7873 section 5.4.
#[test]
fn a_cookie_can_be_asked_for_without_a_question() {
    let mut f = Fixture::new();
    let mut query = with_cookie(&testing::query("a.", RecordType::A), &CLIENT_COOKIE);
    query.queries.clear();
    assert_eq!(f.ask(0, &query).1.unwrap().metadata.response_code, ResponseCode::FormErr);
    cookies(&mut f, true);
    let reply = f.ask(0, &query).1.unwrap();
    assert_eq!((reply.metadata.response_code, reply.queries.len()), (ResponseCode::NoError, 0));
    assert_eq!(cookie(&reply).unwrap().len(), 24);
}

/// An answer that would just fit is cut for the cookie, which the client needs more.
#[test]
fn a_cookie_takes_its_room() {
    let mut f = Fixture::new();
    cookies(&mut f, false);
    let query = testing::query("known.example.", RecordType::A);
    f.file(&query, testing::addresses(&query, 300, &[[192, 0, 2, 1]; 73]).answers, 0);
    for (sent, cut) in
        [(testing::with_edns(query.clone(), 1232, false), false), (with_cookie(&query, &CLIENT_COOKIE), true)]
    {
        let reply = f.ask(0, &sent).1.unwrap();
        assert_eq!((reply.metadata.truncation, cookie(&reply).is_some()), (cut, cut));
    }
}
