//! Arbitrary bytes as an upstream's response: if an answer is parsed from them, it makes a reply
//! that its client can read.
#![no_main]

mod walk;

use hickory_proto::op::Message;
use libfuzzer_sys::fuzz_target;
use ringdns_dataplane::dns::{
    answer::{Answer, TtlRules},
    option::Options,
    query::Query,
    reply::{self, Age, ReplyLimits},
};
use ringdns_resolver::message::Message as Decoded;

const TTL: TtlRules = TtlRules { min: 0, max: 86_400, negative_max: 3_600, stale: 60, ahead: 0 };
const QUERY: &[u8] = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\0\0\x01\0\x01";

fuzz_target!(|data: &[u8]| {
    let mut query = Query::default();
    query.parse(QUERY).expect("a plain query");
    let Ok(answer) = Answer::from_response(data, &query.key, &TTL, 0, false) else { return };
    let records: usize = answer.counts.iter().map(|n| usize::from(*n)).sum();
    assert_eq!(answer.ttls.len(), records);
    let mut buffer = QUERY.to_vec();
    buffer.resize(65_535 + 64, 0xee);
    let limits = ReplyLimits { reply: 65_535, advertise: 1232, options: Options::default() };
    for age in [Age::Fresh(0), Age::Fresh(u32::MAX), Age::Stale(30)] {
        let reply = reply::answer(&mut buffer, QUERY.len(), &query, answer.view(), age, &limits);
        assert!(reply.len <= limits.reply);
        // The control plane keeps nothing that it cannot decode. hickory-proto follows pointers even
        // in types that must not have any, so it may fail to read what is passed on as it came.
        if Decoded::parse(data, &query.key).is_some() {
            let ours = &buffer[..reply.len];
            assert!(walk::walk(ours).is_some(), "a client cannot read it");
            if let (Ok(theirs), Ok(ours), false) =
                (Message::from_vec(data), Message::from_vec(ours), reply.cut)
            {
                assert_eq!(ours.answers.len(), theirs.answers.len());
                assert_eq!(ours.authorities.len(), theirs.authorities.len());
            }
        }
        buffer[2..QUERY.len()].copy_from_slice(&QUERY[2..]);
    }
});
