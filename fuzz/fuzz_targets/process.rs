//! Arbitrary bytes as a burst of frames: nothing panics, no frame is lost, every frame has one
//! outcome, and every reply is a message that its client can read and accepts.
//!
//! The first byte of each frame selects how the rest is used: as it is, or as a message wrapped in
//! valid headers of one kind or another, so that the fuzzer need not guess checksums. The length of all
//! selects how checksums are verified.
#![no_main]

use hickory_proto::op::Message;
use libfuzzer_sys::fuzz_target;
use ringdns_dataplane::{
    access::AccessList,
    cache::{BYTES_MIN, Cache, KeyedHash},
    checksum::Checksums,
    dns::{
        answer::{Answer, TtlRules},
        cookie::Cookies,
        query::Query,
        rcode,
    },
    frame::{Frame, Frames, Place},
    packet::{self, Envelope},
    policy::QueryPolicy,
    port::BURST,
    process::{AnswerConfig, Processor, Verdict},
    stats::{Counter, WorkerStats},
};
use std::sync::Arc;

const RULES: AnswerConfig = AnswerConfig { udp_limit: 1232, stale_ttl: 30, stale_at_once: true };
const TTL: TtlRules = TtlRules { min: 0, max: 86_400, negative_max: 3_600, stale: 60, ahead: 0 };
const FRAMES: u32 = BURST as u32;

/// Returns a processor whose cache knows the names that the seeds ask for, with answers of all
/// kinds.
fn known() -> Processor {
    let hash = KeyedHash::with_seeds([1, 2, 3, 4]);
    let mut cache = Cache::new(BYTES_MIN, RULES.udp_limit, hash).expect("memory for the smallest cache");
    let mut file = |name: &[u8], records: u8, rcode: u8, received: u32| {
        let question = [name, &[0, 1, 0, 1]].concat();
        let header = [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let mut query = Query::default();
        query.parse(&[&header[..], &question].concat()).expect("a plain query");
        let answer = if rcode == rcode::NOERROR {
            let mut response = [0, 0, 0x81, 0x80, 0, 1, 0, records, 0, 0, 0, 0].to_vec();
            response.extend(&question);
            for n in 0..records {
                response.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 100, 0, 4, 192, 0, 2, n]);
            }
            Answer::from_response(&response, &query.key, &TTL, received, false).expect("a plain response")
        } else {
            Answer::error(rcode, None, received, 1000)
        };
        cache.insert(&query.key, &answer, received);
    };
    file(b"\x01a\0", 1, rcode::NOERROR, 950);
    file(b"\x01b\0", 1, rcode::NOERROR, 890);
    file(b"\x01c\0", 60, rcode::NOERROR, 950);
    file(b"\x01d\0", 120, rcode::NOERROR, 950);
    file(b"\x01e\0", 0, rcode::SERVFAIL, 950);
    file(b"\x01f\0", 0, rcode::NXDOMAIN, 950);
    file(b"\0", 2, rcode::NOERROR, 950);
    Processor::new(cache, RULES, policy())
}

/// Returns a policy with every option enabled.
fn policy() -> Arc<QueryPolicy> {
    let deny = ["198.51.100.0/24".parse().expect("a prefix")];
    let allow = ["0.0.0.0/0", "::/0"].map(|prefix| prefix.parse().expect("a prefix"));
    Arc::new(QueryPolicy {
        access: AccessList::new(&allow, &deny).expect("few prefixes"),
        cookies: Some(Cookies::new([7; 16], None)),
        ..QueryPolicy::default()
    })
}

/// Writes a frame. Returns its length.
fn write(buffer: &mut [u8], kind: u8, bytes: &[u8]) -> usize {
    let bytes = &bytes[..bytes.len().min(buffer.len() - packet::HEADERS_MAX)];
    let (client, server) = match kind % 4 {
        0 => {
            buffer[..bytes.len()].copy_from_slice(bytes);
            return bytes.len();
        }
        1 => ("192.0.2.1:999", "192.0.2.2:53"),
        2 => ("[2001:db8::1]:999", "[2001:db8::2]:53"),
        _ => ("198.51.100.7:53", "192.0.2.2:53"),
    };
    let (client, server): (std::net::SocketAddr, _) = (client.parse().unwrap(), server.parse().unwrap());
    let at = if client.is_ipv4() { 42 } else { 62 };
    buffer[at..at + bytes.len()].copy_from_slice(bytes);
    packet::address(buffer, client, server, bytes.len(), Checksums::Verify).expect("room for headers");
    let len = at + bytes.len();
    if kind & 0x80 != 0 {
        buffer.copy_within(12..len, 16);
        buffer[12..16].copy_from_slice(&[0x81, 0, 0, 53]);
        return len + 4;
    }
    len
}

/// Returns the UDP size that the client of this message accepts, as hickory-proto reads it. Where
/// hickory-proto reads less than we do (additional records of classes that it does not know),
/// returns our own limit.
fn limit(query: &[u8]) -> usize {
    let Ok(message) = Message::from_vec(query) else { return usize::from(RULES.udp_limit) };
    usize::from(message.edns.map_or(512, |edns| edns.max_payload().clamp(512, RULES.udp_limit)))
}

fuzz_target!(|data: &[u8]| {
    let mut processor = known();
    let stats = WorkerStats::default();
    let mut frames = Frames::new(FRAMES, 0).expect("memory for frames");
    let mut burst: Vec<Frame> = Vec::new();
    let mut queries: Vec<Vec<u8>> = Vec::new();
    let mut rest = data;
    while let [kind, len, tail @ ..] = rest
        && burst.len() < BURST
    {
        let (bytes, tail) = tail.split_at(usize::from(*len).min(tail.len()));
        rest = tail;
        let mut frame = frames.alloc().expect("as many frames as a burst");
        let len = write(frames.buffer(&mut frame), *kind, bytes);
        frame.set_len(len);
        let opened = Envelope::open(frames.packet(&frame), Checksums::Trust);
        let message =
            opened.map(|(envelope, len)| frames.packet(&frame)[envelope.message()..][..len].to_vec());
        queries.push(message.unwrap_or_default());
        burst.push(frame);
    }
    // The length, so that seeds are bursts alone.
    let checksums = [Checksums::Verify, Checksums::AllowPartial, Checksums::Trust][data.len() % 3];
    let (fates, _) = processor.run(1000, checksums, &mut frames, &mut burst, &stats);
    let verdicts: Vec<Verdict> = (0..burst.len()).map(|nth| fates.verdict(nth)).collect();

    stats.add(Counter::Received, burst.len() as u64);
    for ((frame, verdict), query) in burst.into_iter().zip(verdicts).zip(queries) {
        match verdict {
            Verdict::Reply | Verdict::ReplyAndRefresh(_) => {
                let packet = frames.packet(&frame);
                let (envelope, len) =
                    Envelope::open(packet, Checksums::Verify).expect("a reply with right sums");
                let message = &packet[envelope.message()..][..len];
                let reply = Message::from_vec(message).expect("a reply that hickory reads");
                assert!(len <= limit(&query), "{len} bytes are more than the client takes");
                assert_eq!(message[..2], query[..2], "another query's ID");
                assert!(message[2] & 0x80 != 0, "a reply says that it is one");
                if let (Some(asked), false) = (query.get(12..), reply.queries.is_empty()) {
                    let end = len.min(12 + asked.len());
                    let question =
                        reply.queries[0].name().iter().map(|label| 1 + label.len()).sum::<usize>() + 5;
                    assert!(question <= end, "the question is whole");
                    assert_eq!(message[12..12 + question], asked[..question], "another query's question");
                }
            }
            Verdict::Punt(_) | Verdict::Notify(_) => stats.add(Counter::Punted, 1),
            Verdict::Drop(_) => {}
        }
        frames.release(frame);
    }
    let sums = stats.snapshot();
    assert_eq!(sums.unaccounted(), 0, "{sums:?}");
    assert_eq!(frames.count(Place::Free), FRAMES as usize, "a frame was lost");
});
