//! Bursts through the three passes.

use super::*;
use crate::{cache, dns::testing, frame::Place, packet};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};

struct Fixture {
    processor: Processor,
    frames: Frames,
    stats: WorkerStats,
}

impl Fixture {
    fn new() -> Self {
        let cache = Cache::new(cache::BYTES_MIN, 1232).unwrap();
        let rules = Rules { udp_limit: 1232, stale_ttl: 30 };
        Fixture {
            processor: Processor::new(cache, KeyedHash::with_seeds([1, 2, 3, 4]), rules),
            frames: Frames::new(128, 0).unwrap(),
            stats: WorkerStats::default(),
        }
    }

    /// Files an answer of one address.
    fn know(&mut self, name: &str, ttl: u32, now: Secs) {
        let query = testing::query(name, RecordType::A);
        let answer = testing::answer(&testing::addresses(&query, ttl, &[[192, 0, 2, 1]]), now);
        let key = testing::parsed(&query).key;
        let hash = self.processor.hash().of(&key);
        self.processor.cache().insert(&key, hash, &answer, now);
    }

    /// A frame that carries `message`.
    fn frame(&mut self, message: &[u8]) -> Frame {
        let mut frame = self.frames.alloc().unwrap();
        let buffer = self.frames.buffer(&mut frame);
        buffer[42..42 + message.len()].copy_from_slice(message);
        let (client, server) = ("192.0.2.9:999".parse().unwrap(), "192.0.2.2:53".parse().unwrap());
        packet::address(buffer, client, server, message.len(), Checksums::Verify).unwrap();
        frame.set_len(42 + message.len());
        frame
    }

    /// Sends messages as one burst; returns each frame's fate and, where there is one, its reply.
    fn burst(&mut self, now: Secs, messages: &[Vec<u8>]) -> Vec<(Verdict, Option<Message>)> {
        let mut burst: Vec<Frame> = messages.iter().map(|message| self.frame(message)).collect();
        let (slots, _) =
            self.processor.run(now, Checksums::Verify, &mut self.frames, &mut burst, &self.stats);
        let verdicts: Vec<Verdict> = slots.iter().map(|slot| slot.verdict).take(burst.len()).collect();
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

    fn ask(&mut self, now: Secs, message: &Message) -> (Verdict, Option<Message>) {
        self.burst(now, &[testing::wire(message)]).remove(0)
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
    let hash = f.processor.hash().of(&key);
    let failure = crate::dns::answer::Answer::error(rcode::SERVFAIL, 0, 5);
    f.processor.cache().insert(&key, hash, &failure, 0);
    let (_, reply) = f.ask(1, &query);
    assert_eq!(reply.unwrap().metadata.response_code, ResponseCode::ServFail);
    assert_eq!(f.stats.snapshot().get(Counter::CachedFailure), 1);
    assert!(matches!(f.ask(5, &query).0, Verdict::Punt(_)));
}

#[test]
fn queries_that_share_a_tag_are_told_apart() {
    // 40,000 names have some hundred pairs of the same 16-bit tag in neighbouring buckets; every one is asked.
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
