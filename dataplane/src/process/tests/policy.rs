//! Tests of the access list, cookies and the server's name.

use super::*;
use crate::{
    access::AccessList,
    cache::Scope,
    dns::{answer::Answer, cookie::Cookies, header},
    group::{ClientGroups, GroupSet},
    labels::Labels,
    policy::Refusal,
    prefix::Prefix,
};

pub fn prefixes(texts: &[&str]) -> Vec<Prefix> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Allows the clients in `allow` that are not in `deny`.
fn let_in(f: &mut Fixture, allow: &[&str], deny: &[&str], refusal: Refusal) {
    let access = AccessList::new(&prefixes(allow), &prefixes(deny)).unwrap();
    f.processor.policy = Arc::new(QueryPolicy { access, refusal, ..QueryPolicy::default() });
}

/// Returns a query packet from `client`.
pub fn packet_from(client: &str, message: &[u8]) -> Vec<u8> {
    let client: std::net::IpAddr = client.parse().unwrap();
    let server = if client.is_ipv4() { "192.0.2.2:53" } else { "[2001:db8::2]:53" };
    let at = if client.is_ipv4() { 42 } else { 62 };
    let mut frame = vec![0; at + message.len()];
    frame[at..].copy_from_slice(message);
    let client = std::net::SocketAddr::new(client, 999);
    packet::address(&mut frame, client, server.parse().unwrap(), message.len(), Checksums::Verify).unwrap();
    frame
}

/// Known and unknown questions, with and without EDNS, from clients that may ask and from others,
/// have the same outcome on every path.
#[test]
fn only_who_is_allowed_to_is_answered() {
    let mut f = Fixture::new();
    let (mut denied, mut served) = (0, 0);
    let names = ["known.example.", "a-name-that-is-longer.than-a-block.is.example.", "unknown.example."];
    names[..2].iter().for_each(|name| f.know(name, 300, 0));
    for refusal in [Refusal::Answer, Refusal::Drop] {
        let allow = ["10.0.0.0/8", "198.51.100.0/22", "2001:db8::/32"];
        let_in(&mut f, &allow, &["10.9.0.0/16", "198.51.101.7", "2001:db8:9::/48"], refusal);
        let allowed = ["10.1.2.3", "198.51.103.255", "198.51.101.6", "2001:db8::1"];
        let others = ["10.9.2.3", "11.0.0.1", "198.51.101.7", "198.51.104.0", "2001:db8:9::1", "2001:db9::1"];
        for (client, may) in
            allowed.map(|client| (client, true)).into_iter().chain(others.map(|client| (client, false)))
        {
            for name in names {
                for edns in [false, true] {
                    let query = testing::query(name, RecordType::A);
                    let query = if edns { testing::with_edns(query, 1232, false) } else { query };
                    let packet = packet_from(client, &testing::wire(&query));
                    for checksums in [Checksums::Verify, Checksums::Unused, Checksums::Trust] {
                        let (verdict, reply) = f.send(0, &packet, checksums);
                        let context = format!("{name} from {client}, {refusal:?}: {verdict:?}");
                        match (may, name == names[2], refusal) {
                            (true, true, _) => assert!(matches!(verdict, Verdict::Punt(_)), "{context}"),
                            (true, false, _) => {
                                served += 1;
                                assert_eq!(verdict, Verdict::Reply, "{context}");
                                let reply = Message::from_vec(&packet::tests::received(&reply)).unwrap();
                                assert_eq!(reply.answers.len(), 1, "{context}");
                            }
                            (false, _, Refusal::Answer) => {
                                denied += 1;
                                assert_eq!(verdict, Verdict::Reply, "{context}");
                                let reply = Message::from_vec(&packet::tests::received(&reply)).unwrap();
                                assert_eq!(reply.metadata.response_code, ResponseCode::Refused, "{context}");
                                let code = EdnsOption::Unknown(15, vec![0, 18]);
                                let told = reply.edns.map(|edns| edns.option(EdnsCode::Unknown(15)).cloned());
                                assert_eq!(told, edns.then_some(Some(code)), "{context}");
                            }
                            (false, _, Refusal::Drop) => {
                                assert_eq!(verdict, Verdict::Drop(DropReason::Denied), "{context}");
                            }
                        }
                    }
                }
            }
        }
    }
    let stats = f.stats.snapshot();
    assert_eq!((stats.get(Counter::Hit), stats.get(Counter::Denied)), (served, denied));
    assert_eq!(stats.dropped(DropReason::Denied), denied);
}

/// A client that may not ask learns nothing from a malformed query, and cannot cause loops.
#[test]
fn what_is_no_query_is_denied_too() {
    let mut f = Fixture::new();
    let_in(&mut f, &["10.0.0.0/8"], &[], Refusal::Answer);
    let good = testing::wire(&testing::query("known.example.", RecordType::A));
    let changed = |at: usize, byte: u8| {
        let mut message = good.clone();
        message[at] = byte;
        message
    };
    for message in [changed(2, 0x28), changed(5, 2), changed(good.len() - 1, 3), changed(12, 64)] {
        let (verdict, reply) = f.send(0, &packet_from("192.0.2.9", &message), Checksums::Verify);
        assert_eq!(verdict, Verdict::Reply);
        assert_eq!(u16::from(reply[42 + 3]) & header::RCODE, u16::from(rcode::REFUSED));
        assert!(!packet::tests::received(&reply).is_empty(), "and the sums are right");
    }
    let (verdict, _) = f.send(0, &packet_from("192.0.2.9", &changed(2, 0x80)), Checksums::Verify);
    assert_eq!(verdict, Verdict::Drop(DropReason::Response));
    let (verdict, _) = f.send(0, &packet_from("192.0.2.9", &good[..11]), Checksums::Verify);
    assert_eq!(verdict, Verdict::Drop(DropReason::ShortMessage));
    assert_eq!(f.stats.snapshot().get(Counter::Denied), 4);
}

/// Sets cookies with a secret of RFC 9018, at a time shortly after its examples.
pub fn cookies(f: &mut Fixture, required: bool) {
    let secret = 0xe5e9_73e5_a6b2_a43f_48e7_dc84_9e37_bfcf_u128.to_be_bytes();
    let policy = QueryPolicy {
        cookies: Some(Cookies::new(secret, None)),
        require_cookies: required,
        ..QueryPolicy::default()
    };
    f.processor.policy = Arc::new(policy);
    f.processor.set_epoch(1_559_731_985);
}

pub const CLIENT_COOKIE: [u8; 8] = *b"biscuits";

pub fn with_cookie(query: &Message, cookie: &[u8]) -> Message {
    let mut query = testing::with_edns(query.clone(), 1232, false);
    query.edns.as_mut().unwrap().options_mut().insert(EdnsOption::Unknown(10, cookie.to_vec()));
    query
}

/// Returns the cookie of a reply.
pub fn cookie(reply: &Message) -> Option<Vec<u8>> {
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
    // Without a valid server cookie, the client gets one, and nothing else.
    let (_, reply) = f.ask(0, &with_cookie(&query, &CLIENT_COOKIE));
    let reply = reply.unwrap();
    assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::BADCOOKIE, 0));
    let mut both = cookie(&reply).unwrap();
    assert_eq!((both.len(), &both[..12]), (24, &[&CLIENT_COOKIE[..], &[1, 0, 0, 0]].concat()[..]));
    // With it, the query is answered. After half an hour, the answer comes with a new cookie.
    for (now, kept) in [(0, true), (1_800, true), (1_900, false), (5_500, false)] {
        let (_, reply) = f.ask(now, &with_cookie(&query, &both));
        let reply = reply.unwrap();
        assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NoError, 1), "{now}");
        let new = cookie(&reply).unwrap();
        assert_eq!(new == both, kept, "at {now} s");
        both = new;
    }
    // An old cookie, a forged one and another server's count as none.
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
    // A client without any cookie is answered as usual, at a glance.
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

/// An answer that would just fit is cut to make room for the cookie, which the client needs more.
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

//----------- Server name, and unsupported requests ---------------------------

fn in_chaos(name: &str, rtype: RecordType) -> Message {
    let mut query = testing::query(name, rtype);
    query.queries[0].set_query_class(hickory_proto::rr::DNSClass::CH);
    query
}

/// RFC 4892.
#[test]
fn who_we_are_is_told_if_it_is_to_be_known() {
    let mut f = Fixture::new();
    let names = ["id.server.", "HOSTNAME.bind."];
    for name in names {
        let (_, reply) = f.ask(0, &in_chaos(name, RecordType::TXT));
        assert_eq!(reply.unwrap().metadata.response_code, ResponseCode::Refused);
    }
    f.processor.policy = Arc::new(QueryPolicy {
        identity: Some(b"ring-1.example".as_slice().into()),
        ..QueryPolicy::default()
    });
    for (name, edns) in names.into_iter().flat_map(|name| [(name, false), (name, true)]) {
        let query = in_chaos(name, RecordType::TXT);
        let query = if edns { testing::with_edns(query, 1232, false) } else { query };
        let (_, reply) = f.ask(0, &query);
        let reply = reply.unwrap();
        assert_eq!((reply.metadata.response_code, reply.edns.is_some()), (ResponseCode::NoError, edns));
        let [record] = &reply.answers[..] else { panic!("{reply:?}") };
        let text = RData::TXT(TXT::new(vec!["ring-1.example".into()]));
        assert_eq!((&record.data, record.ttl, record.name.to_string()), (&text, 0, name.to_owned()));
    }
    for query in [
        in_chaos("version.bind.", RecordType::TXT),
        in_chaos("version.server.", RecordType::TXT),
        in_chaos("id.server.", RecordType::A),
        in_chaos("x.id.server.", RecordType::TXT),
    ] {
        let (_, reply) = f.ask(0, &query);
        assert_eq!(reply.unwrap().metadata.response_code, ResponseCode::Refused, "{query:?}");
    }
    assert!(matches!(f.ask(0, &testing::query("id.server.", RecordType::TXT)).0, Verdict::Punt(_)));
    let stats = f.stats.snapshot();
    assert_eq!((stats.get(Counter::Identity), stats.get(Counter::Refused)), (4, 6));
}

/// RFC 5001: clients that ask for the server's name get it, with any answer.
#[test]
fn answers_say_which_server_they_are_from_to_who_asks() {
    let mut f = Fixture::new();
    f.know("known.example.", 300, 0);
    f.processor.policy =
        Arc::new(QueryPolicy { nsid: Some(b"ring-1".as_slice().into()), ..QueryPolicy::default() });
    for (name, class_ch) in [("known.example.", false), ("known.example.", true)] {
        let mut query = testing::with_edns(testing::query(name, RecordType::A), 1232, false);
        if class_ch {
            query.queries[0].set_query_class(hickory_proto::rr::DNSClass::CH);
        }
        let (_, bare) = f.ask(0, &query);
        assert!(bare.unwrap().edns.unwrap().options().as_ref().is_empty(), "nobody asked");
        query.edns.as_mut().unwrap().options_mut().insert(EdnsOption::Unknown(3, Vec::new()));
        let edns = f.ask(0, &query).1.unwrap().edns.unwrap();
        let [(_, option)] = edns.options().as_ref() else { panic!("{edns:?}") };
        assert_eq!(Vec::<u8>::try_from(option).unwrap(), b"ring-1");
    }
}

/// The server offers only recursion: a client that does not want it is told so, and cannot find out
/// what others asked for.
#[test]
fn who_wants_no_recursion_is_refused_and_learns_nothing_of_the_cache() {
    let mut f = Fixture::new();
    f.know("known.example.", 300, 0);
    for name in ["known.example.", "unknown.example."] {
        let mut query = testing::with_edns(testing::query(name, RecordType::A), 1232, false);
        query.metadata.recursion_desired = false;
        let (verdict, reply) = f.ask(0, &query);
        let reply = reply.unwrap();
        assert_eq!(
            (verdict, reply.metadata.response_code),
            (Verdict::Reply, ResponseCode::Refused),
            "{name}"
        );
        assert!(!reply.metadata.recursion_desired && reply.metadata.recursion_available);
        let code = EdnsOption::Unknown(15, vec![0, 20]);
        assert_eq!(reply.edns.unwrap().option(EdnsCode::Unknown(15)), Some(&code));
    }
    assert_eq!(f.stats.snapshot().get(Counter::Refused), 2);
}

/// RFC 6891 section 6.1.4, RFC 8906 section 3.1: unknown flags and options change nothing, and are
/// not repeated.
#[test]
fn what_is_not_known_is_passed_over() {
    let mut f = Fixture::new();
    f.know("known.example.", 300, 0);
    let plain = testing::wire(&testing::query("known.example.", RecordType::A));
    let opt =
        testing::wire(&testing::with_edns(testing::query("known.example.", RecordType::A), 1232, false));
    let ask = |f: &mut Fixture, message: Vec<u8>| {
        let (verdict, reply) = f.burst(0, &[message]).remove(0);
        assert_eq!(verdict, Verdict::Reply);
        let reply = reply.unwrap();
        assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NoError, 1));
        testing::wire(&reply)
    };
    let (plain_reply, opt_reply) = (ask(&mut f, plain.clone()), ask(&mut f, opt.clone()));
    // AA, TC, RA, Z and an RCODE in a query.
    for (at, bits) in [(2, 0x04), (2, 0x02), (3, 0x80), (3, 0x40), (3, 0x0f)] {
        let mut message = plain.clone();
        message[at] |= bits;
        assert_eq!(ask(&mut f, message), plain_reply, "byte {at}, {bits:#x}");
    }
    // Unknown flags of EDNS, and an extended RCODE.
    let at = opt.len() - 11;
    for (at, bits) in [(at + 5, 0x01), (at + 7, 0x7f), (at + 8, 0xff)] {
        let mut message = opt.clone();
        message[at] |= bits;
        assert_eq!(ask(&mut f, message), opt_reply, "byte {at}, {bits:#x}");
    }
    // Unknown options, one of them empty, among padding (RFC 7830) and a client subnet (RFC 7871).
    let options =
        [0xff, 0xfe, 0, 3, 1, 2, 3, 0, 100, 0, 0, 0, 12, 0, 2, 0, 0, 0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2];
    let mut message = [&opt[..], &options].concat();
    message[at + 10] = options.len() as u8;
    assert_eq!(ask(&mut f, message), opt_reply);
    // A transaction signature by a key that we do not have (RFC 8945), and SIG(0) (RFC 2931).
    for rtype in [250, 24] {
        let mut message = [&opt[..], &[0, 0, rtype, 0, 255, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4]].concat();
        message[11] = 2;
        assert_eq!(ask(&mut f, message), opt_reply, "type {rtype}");
    }
}

/// A worker knows the sender of a frame over AF_XDP alone, and what it punts has the group.
#[test]
fn a_group_has_clients_by_mac_address() {
    let mut f = Fixture::new();
    let kids = Group::new(1).unwrap();
    // As `packet::address` writes it.
    let mac = "02:00:00:00:00:02".parse().unwrap();
    let groups = ClientGroups::default().with_macs(vec![(mac, kids)]);
    f.processor.set_policy(Arc::new(QueryPolicy { groups, ..QueryPolicy::default() }));
    let query = testing::query("games.example.", RecordType::A);
    let key = testing::parsed(&query).key;
    let blocked = Answer::error(rcode::REFUSED, None, 0, 60);
    let scope = Scope { group: kids, groups: GroupSet::NONE.with(kids), list: Some(7) };
    f.processor.cache().insert_for(&scope, &key, &blocked, 0);
    let resolved = testing::answer(&testing::addresses(&query, 60, &[[192, 0, 2, 1]]), 0);
    let others = Scope { group: Group::DEFAULT, groups: scope.groups.others(), list: None };
    f.processor.cache().insert_for(&others, &key, &resolved, 0);
    let message = testing::wire(&query);
    for (last, checksums, rcode) in [
        (2, Checksums::Verify, ResponseCode::Refused),
        (2, Checksums::Trust, ResponseCode::Refused),
        (2, Checksums::Unused, ResponseCode::NoError),
        (3, Checksums::Verify, ResponseCode::NoError),
    ] {
        let mut packet = vec![0; 42 + message.len()];
        packet[42..].copy_from_slice(&message);
        let (client, server) = ("192.0.2.9:999".parse().unwrap(), "192.0.2.2:53".parse().unwrap());
        packet::address(&mut packet, client, server, message.len(), checksums).unwrap();
        packet[11] = last;
        let (verdict, reply) = f.send(1, &packet, checksums);
        assert_eq!(verdict, Verdict::Reply);
        let told = Message::from_vec(&reply[42..]).unwrap().metadata.response_code;
        assert_eq!(told, rcode, "{last} {checksums:?}");
    }
}

#[test]
fn a_group_gets_the_answer_of_its_lists() {
    let mut f = Fixture::new();
    let kids = Group::new(1).unwrap();
    let groups = ClientGroups::new(&[("192.0.2.0/28".parse().unwrap(), kids)]).unwrap();
    let lists = Arc::<Labels>::default();
    (0..7).for_each(|n| assert_eq!(lists.number(&n.to_string()), Some(n)));
    assert_eq!(lists.number("games"), Some(7));
    f.processor.set_policy(Arc::new(QueryPolicy { groups, lists, ..QueryPolicy::default() }));
    f.know("shared.example.", 60, 0);
    let query = testing::query("games.example.", RecordType::A);
    let key = testing::parsed(&query).key;
    let blocked = Answer::error(rcode::REFUSED, Some(16), 0, 60);
    let scope = Scope { group: kids, groups: GroupSet::NONE.with(kids), list: Some(7) };
    f.processor.cache().insert_for(&scope, &key, &blocked, 0);
    let resolved = testing::answer(&testing::addresses(&query, 60, &[[192, 0, 2, 1]]), 0);
    let others = Scope { group: Group::DEFAULT, groups: scope.groups.others(), list: None };
    f.processor.cache().insert_for(&others, &key, &resolved, 0);
    let shared = testing::wire(&testing::query("shared.example.", RecordType::A));
    for (client, rcode) in
        [("192.0.2.9:999", ResponseCode::Refused), ("192.0.2.99:999", ResponseCode::NoError)]
    {
        for (message, rcode) in [(testing::wire(&query), rcode), (shared.clone(), ResponseCode::NoError)] {
            let mut packet = vec![0; 42 + message.len()];
            packet[42..].copy_from_slice(&message);
            let server = "192.0.2.2:53".parse().unwrap();
            packet::address(&mut packet, client.parse().unwrap(), server, message.len(), Checksums::Verify)
                .unwrap();
            let (verdict, reply) = f.send(1, &packet, Checksums::Verify);
            assert_eq!(verdict, Verdict::Reply);
            assert_eq!(Message::from_vec(&reply[42..]).unwrap().metadata.response_code, rcode, "{client}");
        }
    }
    let message = testing::wire(&testing::with_edns(query, 1232, false));
    let (_, reply) = f.send(1, &packet_from("192.0.2.9", &message), Checksums::Verify);
    let errors = Message::from_vec(&reply[42..]).unwrap().edns.unwrap();
    let option = EdnsOption::Unknown(15, b"\0\x10games".to_vec());
    assert_eq!(errors.option(EdnsCode::Unknown(15)), Some(&option), "the list has the number 7");
    assert_eq!([kids, Group::DEFAULT].map(|group| f.stats.lists.get(7, group)), [2, 0]);
    let counted = [Counter::Hit, Counter::CachedFailure].map(|counter| f.stats.snapshot().get(counter));
    assert_eq!(counted, [5, 0], "a refusal by a list is a hit");
}

/// Answers of lists need no closer look, also with an extended error.
#[test]
fn an_answer_of_a_list_needs_no_closer_look() {
    let mut f = Fixture::new();
    let kids = Group::new(1).unwrap();
    let groups = ClientGroups::new(&[("192.0.2.0/28".parse().unwrap(), kids)]).unwrap();
    f.processor.set_policy(Arc::new(QueryPolicy { groups, ..QueryPolicy::default() }));
    let long = "a-name-that-takes-two-blocks.of-a-question.example.";
    let blocked = |query: &Message| {
        let mut answer = testing::answer(&testing::addresses(query, 60, &[[0, 0, 0, 0]]), 0);
        answer.ede = Some(15);
        answer
    };
    for (name, set, at_a_glance) in [
        ("all.example.", GroupSet::ALL, true),
        (long, GroupSet::ALL, true),
        ("kids.example.", GroupSet::NONE.with(kids).with(Group::DEFAULT), true),
        ("others.example.", GroupSet::NONE.with(Group::DEFAULT), false),
    ] {
        let query = testing::query(name, RecordType::A);
        let key = testing::parsed(&query).key;
        let scope = Scope { group: Group::DEFAULT, groups: set, list: Some(9) };
        f.processor.cache().insert_for(&scope, &key, &blocked(&query), 0);
        for (query, expected) in
            [(query.clone(), at_a_glance), (testing::with_edns(query, 1232, false), at_a_glance)]
        {
            // The client is among the kids.
            let mut burst = [f.frame(&testing::wire(&query))];
            let (fates, tally) = f.processor.run(1, Checksums::Verify, &mut f.frames, &mut burst, &f.stats);
            let glanced = fates.slot(0).is_none().then(|| fates.glanced(0).and_then(|glanced| glanced.list));
            let hits = u64::from(set.has(kids));
            assert_eq!((glanced, tally.hits), (expected.then_some(Some(9)), hits), "{name}");
            burst.into_iter().for_each(|frame| f.frames.release(frame));
        }
    }
    assert_eq!([kids, Group::DEFAULT].map(|group| f.stats.lists.get(9, group)), [6, 0]);
}
