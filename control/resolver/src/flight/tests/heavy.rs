//! Responses of 64 KiB that are made to cost as much as they can.

use super::*;
use crate::upstream::exchange::{Judged, Manner, judge};
use rustix::time::{ClockId, clock_gettime};

/// Longest message, in bytes.
const MESSAGE_MAX: usize = 65_535;
/// Processor time that the judgement of a response may take.
const COST_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 300 } else { 10 });
/// Most records of a response that is decoded.
const DECODED_MAX: usize = 1024;

/// Processor time of this thread so far.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Returns a response with as many of these records as fit, at most `most`.
fn full(key: &Key, most: usize, record: impl Fn(usize, usize) -> Vec<u8>) -> Vec<u8> {
    let mut message = [&[0, 0, 0x81, 0x80, 0, 1][..], &[0; 6], key.question()].concat();
    let mut count = 0u16;
    while usize::from(count) < most {
        let next = record(usize::from(count), message.len());
        if message.len() + next.len() > MESSAGE_MAX {
            break;
        }
        message.extend(next);
        count += 1;
    }
    message[6..8].copy_from_slice(&count.to_be_bytes());
    message
}

/// Returns the pointer to an offset.
fn pointer(at: usize) -> [u8; 2] {
    (0xc000 | at as u16).to_be_bytes()
}

fn label(number: usize) -> Vec<u8> {
    let text = format!("{number:x}");
    [&[text.len() as u8][..], text.as_bytes()].concat()
}

/// Returns the worst responses with at most so many records, by what they are full of.
fn worst(key: &Key, most: usize) -> Vec<(&'static str, Vec<u8>)> {
    let labels = 126;
    let below = |number: usize| pointer(12 + 2 * (1 + number % (labels - 1)));
    let chain = full(key, 1, |_, at| {
        // A record full of pointers, each to the one before.
        let first = at + 12;
        let pointers = (0..8000).flat_map(|n| pointer(if n == 0 { 12 } else { first + 2 * (n - 1) }));
        record_of(&[0xc0, 12], 16, 60, &pointers.collect::<Vec<u8>>())
    });
    let behind_chain = full(key, most, |_, _| record_of(&[0xc0, 12], 2, 60, &pointer(12 + 20)));
    let mut deep = chain.clone();
    let end = pointer(key.question().len() + 12 + 12 + 2 * 7999);
    while deep.len() + 16 < MESSAGE_MAX && usize::from(deep[6]) * 256 + usize::from(deep[7]) < most {
        deep.extend(record_of(&end, 2, 60, &end));
        let count = u16::from_be_bytes([deep[6], deep[7]]) + 1;
        deep[6..8].copy_from_slice(&count.to_be_bytes());
    }
    let opt = [&chain[..6], &[0, 0, 0, 0, 0, 1], key.question()].concat();
    let opt = [&opt[..], &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0xf0, 0], &[0; 0xf000]].concat();
    vec![
        ("DNAMEs", full(key, most, |n, _| record_of(&below(n), 39, 60, &[0]))),
        ("DNAMEs of one owner", full(key, most, |_, _| record_of(&below(0), 39, 60, &[0]))),
        (
            "a chain of aliases",
            full(key, most, |n, _| {
                let owner = if n == 0 { vec![0xc0, 12] } else { [&label(n)[..], &below(3)].concat() };
                record_of(&owner, 5, 60, &[&label(n + 1)[..], &below(3)].concat())
            }),
        ),
        (
            "aliases of one name",
            full(key, most, |n, _| record_of(&[0xc0, 12], 5, 60, &[&label(n)[..], &[0]].concat())),
        ),
        ("pointers to pointers", deep),
        ("name servers", behind_chain),
        (
            "signatures",
            full(key, most, |_, _| record_of(&[0xc0, 12], 46, 60, &[&[0, 16][..], &[0; 17]].concat())),
        ),
        (
            "NSEC",
            full(key, most, |n, _| record_of(&[&label(n)[..], &below(1)].concat(), 47, 60, &[0, 0, 1, 64])),
        ),
        ("one record again and again", full(key, most, |_, _| record(16, 60, &[0]))),
        ("TTLs that fall", full(key, most, |n, _| record(16, 100_000 - n as u32, &[0]))),
        ("addresses whose TTLs fall", full(key, most, |n, _| record(1, 100_000 - n as u32, &[192, 0, 2, 1]))),
        ("sets of one record", full(key, most, |n, _| record(1000 + n as u16, n as u32, &[]))),
        ("OPT", opt),
    ]
}

#[test]
fn no_response_costs_much() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let resolver = resolver(&[upstream("127.0.0.1:1".parse().unwrap(), LONG)]);
    let upstream = resolver.upstreams().get(0).clone();
    let name = [&b"\x01a".repeat(126)[..], &[0]].concat();
    let key = names::key(&name, 16, true, false).unwrap();
    let manner = Manner::over_stream(&upstream, &key, resolver.clock());
    for most in [usize::MAX, DECODED_MAX] {
        for (what, message) in worst(&key, most) {
            let cost = (0..3).map(|_| {
                let began = processor_time();
                let judged = judge(&upstream, &key, &resolver.rules, manner, &message);
                let cost = processor_time() - began;
                let records = u16::from_be_bytes([message[6], message[7]]);
                if usize::from(records) > DECODED_MAX {
                    assert!(
                        matches!(judged, Ok(Judged::Failure(rcode::SERVFAIL, _) | Judged::Malformed)),
                        "{what}"
                    );
                }
                cost
            });
            let cost = cost.min().unwrap();
            println!("{what}: {} bytes, {cost:?}", message.len());
            assert!(cost < COST_MAX, "{what}: {cost:?} for {} bytes", message.len());
        }
    }
    assert!(count(&resolver, "too_many_records") > 0);
}
