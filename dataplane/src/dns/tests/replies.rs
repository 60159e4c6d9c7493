//! Tests of replies: which reply each client is sent.

use super::*;

#[test]
fn a_reply_is_made_for_its_client() {
    let stored = answer(
        &with_edns(
            addresses(&query("example.com.", RecordType::A), 300, &[[192, 0, 2, 1], [192, 0, 2, 2]]),
            4096,
            true,
        ),
        0,
    );
    let mut asks = with_edns(query("eXaMpLe.CoM.", RecordType::A), 1400, false);
    asks.metadata.id = 0xbeef;
    let (reply, bytes) = replied(&wire(&asks), &stored, Age::Fresh(100), LIMITS);
    assert_eq!(reply.metadata.id, 0xbeef);
    assert_eq!(reply.metadata.message_type, MessageType::Response);
    assert!(reply.metadata.recursion_desired && reply.metadata.recursion_available);
    assert_eq!(&bytes[12..25], b"\x07eXaMpLe\x03CoM\0", "the client's own spelling");
    assert_eq!(reply.answers.len(), 2);
    assert!(reply.answers.iter().all(|r| r.ttl == 200), "aged");
    let edns = reply.edns.expect("who sends OPT gets one");
    assert_eq!((edns.max_payload(), edns.version(), edns.flags().dnssec_ok), (1232, 0, false));

    let (plain, _) = replied(&wire(&query("example.com.", RecordType::A)), &stored, Age::Fresh(0), LIMITS);
    assert!(plain.edns.is_none(), "who sends none gets none");
}

#[test]
fn ttls_never_go_below_zero_and_stale_ones_are_as_told() {
    let query = query("example.com.", RecordType::A);
    let stored = answer(&addresses(&query, 300, &[[192, 0, 2, 1]]), 0);
    let ttl = |age| replied(&wire(&query), &stored, age, LIMITS).0.answers[0].ttl;
    assert_eq!(ttl(Age::Fresh(299)), 1);
    assert_eq!(ttl(Age::Fresh(301)), 0);
    assert_eq!(ttl(Age::Stale(30)), 30);
}

#[test]
fn what_is_too_large_is_cut_whole_and_says_so() {
    let asked = query("example.com.", RecordType::A);
    let many: Vec<[u8; 4]> = (0..40).map(|n| [192, 0, 2, n]).collect();
    let stored = answer(&addresses(&asked, 300, &many), 0);
    let (reply, bytes) = replied(&wire(&asked), &stored, Age::Fresh(0), LIMITS);
    assert!(reply.metadata.truncation && reply.answers.is_empty() && bytes.len() <= 512);
    let large = with_edns(asked.clone(), 1232, false);
    let (reply, _) = replied(&wire(&large), &stored, Age::Fresh(0), LIMITS);
    assert!(!reply.metadata.truncation && reply.answers.len() == 40);
    let exact = replied(&wire(&large), &stored, Age::Fresh(0), LIMITS).1.len();
    for (size, fits) in [(exact, true), (exact - 1, false)] {
        let asks = with_edns(asked.clone(), size as u16, false);
        let (reply, bytes) = replied(&wire(&asks), &stored, Age::Fresh(0), LIMITS);
        assert_eq!(reply.metadata.truncation, !fits, "limit {size}");
        assert!(bytes.len() <= size);
    }
}

#[test]
fn a_reply_is_cut_to_its_question_and_its_options() {
    let asked = query("example.com.", RecordType::A);
    let stored = answer(&addresses(&asked, 300, &[[192, 0, 2, 1]; 30]), 0);
    for asks in [asked.clone(), with_edns(asked.clone(), 1232, true)] {
        let limits = ReplyLimits { reply: 1232, ..LIMITS };
        let mut message = wire(&asks);
        let (mut whole, query_len) = (Query::default(), message.len());
        whole.parse(&message).unwrap();
        message.resize(1232, 0);
        let len = reply::answer(&mut message, query_len, &whole, stored.view(), Age::Fresh(0), &limits).len;
        let cut = reply::cut(&mut message[..len]).unwrap();
        let reply = Message::from_vec(&message[..cut]).unwrap();
        assert!(reply.metadata.truncation && reply.metadata.recursion_available);
        assert_eq!((reply.queries.len(), reply.answers.len()), (1, 0));
        assert_eq!(reply.edns.map(|edns| edns.flags().dnssec_ok), asks.edns.map(|_| true));
        assert_eq!(cut, query_len, "our OPT record is as long as the query's");
        assert_eq!(reply::cut(&mut message[..cut]), Some(cut), "there is nothing left to cut");
    }
    assert_eq!(reply::cut(&mut [0; 11]), None);
    assert_eq!(reply::cut(&mut [0xff; 40]), None);
}

/// Returns the INFO-CODEs of a reply, as hickory-proto reads them.
fn codes(reply: &Message) -> Vec<u16> {
    let options = reply.edns.as_ref().map(|edns| edns.options().as_ref().to_vec()).unwrap_or_default();
    let code = |(_, option): &(EdnsCode, EdnsOption)| match option {
        EdnsOption::Unknown(15, data) => Some(u16::from_be_bytes(data[..2].try_into().unwrap())),
        _ => None,
    };
    options.iter().filter_map(code).collect()
}

#[test]
fn extended_errors_say_why_to_who_has_edns() {
    let asked = query("example.com.", RecordType::A);
    let known = answer(&addresses(&asked, 300, &[[192, 0, 2, 1]]), 0);
    let denied = answer(&nxdomain(&asked, 300, 300), 0);
    let failed = Answer::error(rcode::SERVFAIL, Some(22), 0, 5);
    let blocked = Answer { ede: Some(15), ..denied.clone() };
    let expected: [(&Answer, Age, &[u16]); 10] = [
        (&known, Age::New(0), &[]),
        (&known, Age::Fresh(0), &[]),
        (&known, Age::Stale(30), &[3]),
        (&denied, Age::Fresh(0), &[]),
        (&denied, Age::Stale(30), &[19]),
        (&blocked, Age::Fresh(0), &[15]),
        (&blocked, Age::Stale(30), &[15, 19]),
        (&failed, Age::New(0), &[22]),
        (&failed, Age::Fresh(0), &[22, 13]),
        (&Answer::error(rcode::REFUSED, Some(13), 0, 5), Age::Fresh(0), &[13]),
    ];
    for (answer, age, expected) in expected {
        let signed = with_edns(asked.clone(), 1232, true);
        let (reply, _) = replied(&wire(&signed), answer, age, LIMITS);
        assert_eq!(codes(&reply), expected, "{answer:?}, {age:?}");
        assert!(reply.edns.unwrap().flags().dnssec_ok);
        let (_, bare) = replied(&wire(&asked), answer, age, LIMITS);
        assert_eq!(bare.len(), 12 + 17 + answer.wire.len(), "nothing to who has none");
    }
}

#[test]
fn extended_errors_are_left_out_where_they_do_not_fit() {
    let asked = query("example.com.", RecordType::A);
    let many: Vec<[u8; 4]> = (0..40).map(|n| [192, 0, 2, n]).collect();
    let stored = Answer { ede: Some(4), ..answer(&addresses(&asked, 300, &many), 0) };
    let whole = 12 + 17 + stored.wire.len() + 11;
    for (size, cut, expected) in [
        (whole + 12, false, &[4, 3][..]),
        (whole + 11, false, &[]),
        (whole, false, &[]),
        (whole - 1, true, &[4, 3]),
    ] {
        let asks = with_edns(asked.clone(), size as u16, false);
        let (reply, bytes) = replied(&wire(&asks), &stored, Age::Stale(30), LIMITS);
        assert_eq!((reply.metadata.truncation, &codes(&reply)[..]), (cut, expected), "{size} bytes");
        assert!(bytes.len() <= size);
    }
}

/// The text goes before the codes do, and the name of a list goes with its own code alone.
#[test]
fn the_name_of_a_list_is_the_text_of_its_error() {
    let asked = query("example.com.", RecordType::A);
    let many: Vec<[u8; 4]> = (0..40).map(|n| [192, 0, 2, n]).collect();
    let blocked = Answer { ede: Some(17), ..answer(&addresses(&asked, 300, &many), 0) };
    let silent = Answer::error(rcode::REFUSED, None, 0, 60);
    let whole = 12 + 17 + blocked.wire.len() + 11;
    let errors = |answer: &Answer, age, size: usize| {
        let asks = with_edns(asked.clone(), size as u16, false);
        let (reply, bytes) = replied_with(&wire(&asks), answer.view().by(Some("ads-1")), age, LIMITS);
        assert!(bytes.len() <= size && !reply.metadata.truncation);
        let options = reply.edns.unwrap().options().as_ref().to_vec();
        let data = options.into_iter().map(|(_, option)| match option {
            EdnsOption::Unknown(15, data) => data,
            other => panic!("{other:?}"),
        });
        data.collect::<Vec<_>>()
    };
    assert_eq!(errors(&blocked, Age::Fresh(0), 1232), [b"\0\x11ads-1"]);
    assert_eq!(errors(&blocked, Age::Stale(30), 1232), [&b"\0\x11ads-1"[..], b"\0\x03"]);
    for (room, expected) in
        [(11, &[&b"\0\x11ads-1"[..]][..]), (10, &[b"\0\x11"]), (6, &[b"\0\x11"]), (5, &[])]
    {
        assert_eq!(errors(&blocked, Age::Fresh(0), whole + room), expected, "{room} bytes");
    }
    assert!(errors(&silent, Age::Fresh(0), 1232).is_empty(), "no failure that was cached");
    let longest = "x".repeat(100);
    let view = blocked.view().by(Some(&longest));
    let (_, bytes) = replied_with(&wire(&with_edns(asked.clone(), 1232, false)), view, Age::Fresh(0), LIMITS);
    assert_eq!(bytes.len(), whole + 6 + TEXT_MAX);
}

#[test]
fn errors_repeat_what_can_be_repeated() {
    let mut asks = with_edns(query("example.com.", RecordType::A), 1232, true);
    asks.metadata.op_code = OpCode::Status;
    let reject = |message: &[u8]| {
        let mut query = Query::default();
        let why = query.parse(message).unwrap_err();
        let mut buffer = message.to_vec();
        buffer.resize(2048, 0xee);
        let len = reply::reject(&mut buffer, &query, why, &LIMITS);
        buffer.truncate(len);
        buffer
    };
    let reply = Message::from_vec(&reject(&wire(&asks))).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::NotImp);
    assert_eq!(reply.metadata.op_code, OpCode::Status);
    assert_eq!(reply.metadata.id, asks.metadata.id);
    assert!(reply.queries.is_empty());

    let mut version = wire(&with_edns(query("example.com.", RecordType::A), 1232, false));
    let at = version.len() - 11 + 6;
    version[at] = 1;
    let reply = Message::from_vec(&reject(&version)).unwrap();
    assert_eq!(u16::from(reply.metadata.response_code), 16, "BADVERS");
    assert_eq!(reply.edns.unwrap().version(), 0);
    assert_eq!(reply.queries.len(), 1);

    let transfer = wire(&query("example.com.", RecordType::AXFR));
    let reply = Message::from_vec(&reject(&transfer)).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
    assert_eq!(reply.queries.len(), 1);
    let mut answer = wire(&query("example.com.", RecordType::A));
    answer[2] |= 0x80;
    assert!(reject(&answer).is_empty(), "responses are never answered");
}
