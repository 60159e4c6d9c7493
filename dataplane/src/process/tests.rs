//! Tests: bursts through the three passes.

use super::*;
use crate::{
    cache::{self, Scope},
    dns::testing,
    frame::{Place, WINDOW},
    log::{AnswerSource, Tier},
    packet::{self, tests::Link},
    simd,
};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{
            TXT,
            opt::{EdnsCode, EdnsOption},
        },
    },
};
use proptest::prelude::*;
use std::str::FromStr;

mod census;
mod limits;
mod notify;
mod plain;
mod policy;
mod random;
mod wide;

struct Fixture {
    processor: Processor,
    frames: Frames,
    stats: WorkerStats,
    logged: Option<Logged>,
}

/// Record that the log has of a reply.
#[derive(Debug, PartialEq)]
struct Logged {
    source: AnswerSource,
    outcome: Outcome,
    question: Vec<u8>,
}

impl Logged {
    fn of(fates: &Fates<'_>, window: &[u8; WINDOW]) -> Option<Self> {
        let Some(slot) = fates.slot(0) else {
            let glanced = fates.glanced(0).unwrap();
            let (_, message) = packet::plain::reply(window, glanced.v6);
            let (source, outcome) = recorder::fate(&glanced, window[message + 3] & 0x0f);
            let question = [glanced.block, glanced.beyond].concat()[..glanced.len].to_vec();
            return Some(Logged { source, outcome, question });
        };
        let source = AnswerSource::of(Tier::Core).by(slot.list);
        let question = slot.query.key.question().to_vec();
        let is_answer = slot.verdict.is_reply() && slot.outcome != Outcome::Rejected;
        is_answer.then_some(Logged { source, outcome: slot.outcome, question })
    }
}

/// Returns a verdict without what it says of checksums.
fn without_sums(verdict: Verdict) -> (std::mem::Discriminant<Verdict>, Option<DropReason>, (usize, bool)) {
    let kind = std::mem::discriminant(&verdict);
    match verdict {
        Verdict::Drop(reason) => (kind, Some(reason), (0, false)),
        Verdict::Punt(envelope) | Verdict::Notify(envelope) | Verdict::ReplyAndRefresh(envelope) => {
            (kind, None, (envelope.message(), envelope.is_v6()))
        }
        Verdict::Reply => (kind, None, (0, false)),
    }
}

impl Fixture {
    fn new() -> Self {
        let hash = KeyedHash::with_seeds([1, 2, 3, 4]);
        let cache = Cache::new(cache::BYTES_MIN, 1232, hash).unwrap();
        let rules = AnswerConfig { udp_limit: 1232, stale_ttl: 30, stale_at_once: true };
        Fixture {
            processor: Processor::new(cache, rules, Arc::default()),
            frames: Frames::new(128, 0).unwrap(),
            stats: WorkerStats::default(),
            logged: None,
        }
    }

    /// Caches an answer with one address.
    fn know(&mut self, name: &str, ttl: u32, now: Secs) {
        let query = testing::query(name, RecordType::A);
        self.remember(&query, &testing::addresses(&query, ttl, &[[192, 0, 2, 1]]), now);
    }

    /// Caches the answer that a name does not exist.
    fn know_absent(&mut self, name: &str) {
        let query = testing::query(name, RecordType::A);
        self.remember(&query, &testing::nxdomain(&query, 300, 300), 0);
    }

    fn remember(&mut self, query: &Message, answer: &Message, now: Secs) {
        let key = testing::parsed(query).key;
        self.processor.cache().insert(&key, &testing::answer(answer, now), now);
    }

    /// Returns a frame that carries `message`.
    fn frame(&mut self, message: &[u8]) -> Frame {
        let mut frame = self.frames.alloc().unwrap();
        let buffer = self.frames.buffer(&mut frame);
        buffer[42..42 + message.len()].copy_from_slice(message);
        let (client, server) = ("192.0.2.9:999".parse().unwrap(), "192.0.2.2:53".parse().unwrap());
        packet::address(buffer, client, server, message.len(), Checksums::Verify).unwrap();
        frame.set_len(42 + message.len());
        frame
    }

    /// Sends messages as one burst. Returns each frame's verdict and, if there is one, its reply.
    fn burst(&mut self, now: Secs, messages: &[Vec<u8>]) -> Vec<(Verdict, Option<Message>)> {
        let mut burst: Vec<Frame> = messages.iter().map(|message| self.frame(message)).collect();
        let (fates, _) =
            self.processor.run(now, Checksums::Verify, &mut self.frames, &mut burst, &self.stats);
        let verdicts: Vec<Verdict> = (0..burst.len()).map(|nth| fates.verdict(nth)).collect();
        burst
            .into_iter()
            .zip(verdicts)
            .map(|(frame, verdict)| {
                let reply = matches!(verdict, Verdict::Reply | Verdict::ReplyAndRefresh(_)).then(|| {
                    let packet = self.frames.packet(&frame);
                    let (envelope, len) = Envelope::open(packet, Checksums::Verify).unwrap();
                    Message::from_vec(&packet[envelope.message()..][..len]).unwrap()
                });
                self.frames.release(frame);
                (verdict, reply)
            })
            .collect()
    }

    /// Caches `records` as the answer to `query`.
    fn file(&mut self, query: &Message, records: Vec<Record>, now: Secs) {
        self.file_for(&Scope::ALL, query, records, now);
    }

    /// Caches `records` as the answer to `query` for the clients in `scope`.
    fn file_for(&mut self, scope: &Scope, query: &Message, records: Vec<Record>, now: Secs) {
        let mut response = testing::response(query);
        records.into_iter().for_each(|record| {
            response.add_answer(record);
        });
        let key = testing::parsed(query).key;
        let rules = testing::RULES;
        let answer =
            crate::dns::answer::Answer::from_response(&testing::wire(&response), &key, &rules, now, false);
        let answer = crate::dns::answer::Answer { ede: scope.list.map(|_| 15), ..answer.unwrap() };
        self.processor.cache().insert_for(scope, &key, &answer, now);
    }

    /// Sends one frame. Returns its verdict and its content afterwards, and keeps what the log has of it.
    fn send(&mut self, now: Secs, packet: &[u8], checksums: Checksums) -> (Verdict, Vec<u8>) {
        let mut frame = self.frames.alloc().unwrap();
        self.frames.buffer(&mut frame)[..packet.len()].copy_from_slice(packet);
        frame.set_len(packet.len());
        let mut burst = [frame];
        let (fates, _) = self.processor.run(now, checksums, &mut self.frames, &mut burst, &self.stats);
        let verdict = fates.verdict(0);
        let [frame] = burst;
        self.logged = Logged::of(&fates, self.frames.window(&frame));
        let packet = self.frames.packet(&frame).to_vec();
        self.frames.release(frame);
        (verdict, packet)
    }

    /// Sends one frame, with a closer look but no glance.
    fn send_to_closer(&mut self, now: Secs, packet: &[u8], checksums: Checksums) -> Vec<u8> {
        let mut frame = self.frames.alloc().unwrap();
        self.frames.buffer(&mut frame)[..packet.len()].copy_from_slice(packet);
        frame.set_len(packet.len());
        let mut burst = [frame];
        let mut tally = TurnTally::default();
        let Fixture { processor, frames, stats, .. } = self;
        processor.glances[0].seen = glance::Seen::Nothing;
        let job = &mut Job { now, checksums, frames, burst: &mut burst, stats, tally: &mut tally };
        processor.look_closer(1, job);
        let Processor { slots, glances, wides, .. } = processor;
        let [frame] = burst;
        self.logged = Logged::of(&Fates { left: 1, slots, glances, wides }, self.frames.window(&frame));
        let packet = self.frames.packet(&frame).to_vec();
        self.frames.release(frame);
        packet
    }

    fn ask(&mut self, now: Secs, message: &Message) -> (Verdict, Option<Message>) {
        self.burst(now, &[testing::wire(message)]).remove(0)
    }
}

#[test]
fn partial_checksums_are_counted_and_answered_as_whole_ones_are() {
    let mut f = Fixture::new();
    f.know("known.example.", 300, 0);
    let message = testing::wire(&testing::query("known.example.", RecordType::A));
    for (link, v6) in packet::tests::every_kind() {
        let whole = packet::tests::frame(link, v6, &message);
        let mut partial = whole.clone();
        packet::tests::leave_partial(&mut partial, link, v6);
        let before = f.stats.snapshot();
        let (verdict, reply) = f.send(1, &whole, Checksums::AllowPartial);
        let (partial_verdict, partial_reply) = f.send(1, &partial, Checksums::AllowPartial);
        assert_eq!((verdict, partial_verdict), (Verdict::Reply, Verdict::Reply), "{link:?} v6={v6}");
        assert_eq!(partial_reply, reply);
        packet::tests::received(&reply);
        let (refused, _) = f.send(1, &partial, Checksums::Verify);
        assert_eq!(refused, Verdict::Drop(DropReason::BadChecksum));
        let after = f.stats.snapshot();
        let counted = |counter| after.get(counter) - before.get(counter);
        assert_eq!((counted(Counter::Hit), counted(Counter::PartialChecksum)), (2, 1));
        assert_eq!(after.dropped(DropReason::BadChecksum) - before.dropped(DropReason::BadChecksum), 1);
    }
}

#[test]
fn a_burst_of_everything_is_answered_frame_by_frame() {
    let mut f = Fixture::new();
    f.know("known.example.", 300, 0);
    f.know("old.example.", 10, 0);
    let query = |name: &str| testing::wire(&testing::query(name, RecordType::A));
    let mut response = query("known.example.");
    response[2] |= 0x80;
    let mut status = query("known.example.");
    status[2] |= 0x10;
    let fates = f.burst(
        20,
        &[
            query("known.example."),
            query("unknown.example."),
            query("old.example."),
            response,
            status,
            vec![1, 2, 3],
            query("KNOWN.example."),
        ],
    );
    let verdicts: Vec<&Verdict> = fates.iter().map(|(verdict, _)| verdict).collect();
    assert!(
        matches!(
            verdicts[..],
            [
                Verdict::Reply,
                Verdict::Punt(_),
                Verdict::ReplyAndRefresh(_),
                Verdict::Drop(DropReason::Response),
                Verdict::Reply,
                Verdict::Drop(DropReason::ShortMessage),
                Verdict::Reply
            ]
        ),
        "{verdicts:?}"
    );
    let ttl = |at: usize| fates[at].1.as_ref().unwrap().answers[0].ttl;
    assert_eq!((ttl(0), ttl(2), ttl(6)), (280, 30, 280));
    assert_eq!(fates[4].1.as_ref().unwrap().metadata.response_code, ResponseCode::NotImp);

    f.stats.add(Counter::Received, 7);
    f.stats.add(Counter::Punted, 1);
    let stats = f.stats.snapshot();
    assert_eq!((stats.get(Counter::Hit), stats.get(Counter::Stale), stats.get(Counter::NotImp)), (2, 1, 1));
    assert_eq!(stats.unaccounted(), 0, "{stats:?}");
    assert_eq!(f.frames.count(Place::Held), 0);
}

#[test]
fn a_frame_cut_anywhere_is_dropped_whatever_stood_behind_it() {
    let mut f = Fixture::new();
    f.know("known.example.", 300, 0);
    for (client, server) in [("192.0.2.9:999", "192.0.2.2:53"), ("[2001:db8::9]:999", "[2001:db8::2]:53")] {
        let message = testing::wire(&testing::query("known.example.", RecordType::A));
        let mut frame = f.frames.alloc().unwrap();
        let buffer = f.frames.buffer(&mut frame);
        let (client, server) = (client.parse().unwrap(), server.parse().unwrap());
        let at = packet::address(buffer, client, server, message.len(), Checksums::Verify).unwrap();
        buffer[at..at + message.len()].copy_from_slice(&message);
        for len in 0..at + message.len() {
            frame.set_len(len);
            let mut burst = [frame];
            let (fates, _) = f.processor.run(0, Checksums::Trust, &mut f.frames, &mut burst, &f.stats);
            assert_eq!(fates.verdict(0), Verdict::Drop(DropReason::BadLength), "{len} bytes of {client}'s");
            [frame] = burst;
        }
        f.frames.release(frame);
    }
}

#[test]
fn a_query_with_any_bit_wrong_is_not_answered() {
    let mut f = Fixture::new();
    let long = "a-name-that-is-longer.than-a-block.is.example.";
    for name in ["known.example.", long] {
        f.know(name, 300, 0);
    }
    let [plain, long] = ["known.example.", long].map(|name| testing::query(name, RecordType::A));
    let signed = |query: &Message| testing::with_edns(query.clone(), 1232, false);
    let cases = [
        (plain.clone(), false),
        (plain.clone(), true),
        (signed(&plain), false),
        (long.clone(), false),
        (long.clone(), true),
        (signed(&long), true),
    ];
    for (query, v6) in cases {
        let packet = packet::tests::frame(Link::Plain, v6, &testing::wire(&query));
        assert_eq!(f.send(0, &packet, Checksums::Verify).0, Verdict::Reply);
        // Link addresses, and IPv6's traffic class, flow label and hop limit, are in no checksum.
        let unsummed = |at: usize| at < 12 || v6 && matches!(at, 14..18 | 21);
        for at in (0..packet.len()).filter(|at| !unsummed(*at)) {
            for bit in 0..8 {
                let mut wrong = packet.clone();
                wrong[at] ^= 1 << bit;
                let (verdict, _) = f.send(0, &wrong, Checksums::Verify);
                assert!(matches!(verdict, Verdict::Drop(_)), "byte {at}, bit {bit}: {verdict:?}");
            }
        }
    }
}

#[test]
fn what_follows_a_message_does_not_make_its_checksum_right() {
    let mut f = Fixture::new();
    f.know("known.example.", 300, 0);
    let message = testing::wire(&testing::query("known.example.", RecordType::A));
    for v6 in [false, true] {
        let mut packet = packet::tests::frame(Link::Plain, v6, &message);
        // Changes the ID, and tries every value of two bytes of padding at an even offset: one of
        // them makes the sum right again.
        packet[if v6 { 62 } else { 42 }] ^= 1;
        packet.resize(packet.len().next_multiple_of(2), 0);
        let at = packet.len();
        for padding in 0..=u16::MAX {
            packet.truncate(at);
            packet.extend(padding.to_be_bytes());
            let (verdict, _) = f.send(0, &packet, Checksums::Verify);
            assert_eq!(verdict, Verdict::Drop(DropReason::BadChecksum), "IPv6: {v6}, {padding:#x}");
        }
    }
}

#[test]
fn dnssec_answers_are_not_given_to_who_did_not_ask() {
    let mut f = Fixture::new();
    f.know("example.com.", 300, 0);
    let signed = testing::with_edns(testing::query("example.com.", RecordType::A), 1232, true);
    assert!(matches!(f.ask(0, &signed).0, Verdict::Punt(_)));
    let sized = testing::with_edns(testing::query("example.com.", RecordType::A), 1232, false);
    assert_eq!(f.ask(0, &sized).0, Verdict::Reply);
}

#[test]
fn remembered_failures_are_answered_and_counted_as_such() {
    let mut f = Fixture::new();
    let query = testing::query("down.example.", RecordType::A);
    let key = testing::parsed(&query).key;
    let failure = crate::dns::answer::Answer::error(rcode::SERVFAIL, None, 0, 5);
    f.processor.cache().insert(&key, &failure, 0);
    let (_, reply) = f.ask(1, &query);
    assert_eq!(reply.unwrap().metadata.response_code, ResponseCode::ServFail);
    assert_eq!(f.stats.snapshot().get(Counter::CachedFailure), 1);
    assert!(matches!(f.ask(5, &query).0, Verdict::Punt(_)));
}

/// The extended error of a filtering upstream is repeated from the cache, and the answer is still
/// found.
/// An operator's own record: one record, as a simple answer is, with another header.
#[test]
fn an_answer_of_authority_keeps_its_flag() {
    let mut f = Fixture::new();
    let query = testing::query("own.example.", RecordType::A);
    let key = testing::parsed(&query).key;
    let answer = testing::answer(&testing::addresses(&query, 300, &[[192, 0, 2, 1]]), 0);
    let status = crate::dns::answer::Status::authoritative(rcode::NOERROR);
    f.processor.cache().insert(&key, &crate::dns::answer::Answer { status, ..answer }, 0);
    for query in [query.clone(), testing::with_edns(query, 1232, false)] {
        let (verdict, reply) = f.ask(20, &query);
        let reply = reply.unwrap();
        assert_eq!((verdict, reply.answers[0].ttl), (Verdict::Reply, 280));
        assert!(reply.metadata.authoritative);
    }
}

#[test]
fn an_answer_that_more_is_to_be_said_of_is_looked_at_closer() {
    let mut f = Fixture::new();
    let query = testing::query("blocked.example.", RecordType::A);
    let key = testing::parsed(&query).key;
    let answer = testing::answer(&testing::addresses(&query, 300, &[[0, 0, 0, 0]]), 0);
    let answer = crate::dns::answer::Answer { ede: Some(15), ..answer };
    f.processor.cache().insert(&key, &answer, 0);
    let (verdict, plain) = f.ask(20, &query);
    assert_eq!((verdict, plain.unwrap().answers[0].ttl), (Verdict::Reply, 280));
    let (verdict, reply) = f.ask(20, &testing::with_edns(query.clone(), 1232, false));
    assert_eq!(verdict, Verdict::Reply);
    let option = EdnsOption::Unknown(15, vec![0, 15]);
    assert_eq!(reply.unwrap().edns.unwrap().option(EdnsCode::Unknown(15)), Some(&option));
    // The same answer without the code replaces it, and is seen at a glance again.
    let answer = crate::dns::answer::Answer { ede: None, received: 30, ..answer };
    f.processor.cache().insert(&key, &answer, 30);
    let (_, reply) = f.ask(30, &testing::with_edns(query, 1232, false));
    assert!(reply.unwrap().edns.unwrap().options().as_ref().is_empty());
    assert_eq!(f.stats.snapshot().get(Counter::Hit), 3);
}

#[test]
fn queries_that_share_a_tag_are_told_apart() {
    // 40,000 names have about a hundred pairs with the same 16-bit tag in neighbouring buckets;
    // every name is asked for.
    let mut f = Fixture::new();
    for n in 0..2000 {
        f.know(&format!("n{n}.example."), 300, 0);
    }
    for n in 0..40_000 {
        let name = format!("n{n}.example.");
        if let (Verdict::Reply, Some(reply)) = f.ask(0, &testing::query(&name, RecordType::A)) {
            assert_eq!(reply.answers[0].name.to_string(), name);
            assert!(n < 2000, "{name} was never filed");
        }
    }
}

#[test]
fn a_zero_within_a_label_does_not_end_the_name() {
    let mut f = Fixture::new();
    f.know("a.", 300, 0);
    // The bytes are the same up to the first zero, and those after it could be a type and a class.
    let mut message = testing::wire(&testing::query("a.", RecordType::A))[..12].to_vec();
    message.extend([1, b'a', 5, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1]);
    let [(verdict, _)] = &f.burst(0, &[message])[..] else { unreachable!() };
    assert!(matches!(verdict, Verdict::Punt(_)), "{verdict:?}");
    let mut label = testing::query("example.", RecordType::A);
    label.queries[0].set_name(Name::from_labels([&b"a\0b"[..], b"example"]).unwrap());
    f.file(&label, testing::addresses(&label, 300, &[[192, 0, 2, 1]]).answers, 0);
    let (verdict, reply) = f.ask(10, &label);
    assert_eq!((verdict, reply.unwrap().answers.len()), (Verdict::Reply, 1));
}

#[test]
fn a_broken_name_is_rejected_though_it_was_only_glanced_at() {
    let mut f = Fixture::new();
    f.know("abc.example.", 300, 0);
    let mut message = testing::wire(&testing::query("abc.example.", RecordType::A));
    for (at, byte) in [(12, 4), (12, 2), (16, b'G'), (12, 64), (12, 0xc0), (16, 200)] {
        let good = std::mem::replace(&mut message[at], byte);
        let [(verdict, reply)] = &f.burst(0, &[message.clone()])[..] else { unreachable!() };
        assert_eq!(*verdict, Verdict::Reply, "byte {at} is {byte}");
        assert_eq!(reply.as_ref().unwrap().metadata.response_code, ResponseCode::FormErr);
        message[at] = good;
    }
    assert_eq!(f.stats.snapshot().get(Counter::Hit), 0);
}
