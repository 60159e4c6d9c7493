//! Arbitrary bytes as an upstream's answer: whatever is judged to be an answer is well-formed, also
//! when it has grown older, holds only records that the question may bring, and is judged the same
//! again if it is kept. The work is bounded.
//!
//! The first byte selects the question, the manner of asking, and how often the records are
//! repeated. The rest is a message, without its question unless the first byte says so.
#![no_main]

mod walk;

use libfuzzer_sys::fuzz_target;
use ringdns_common::{message::of, names};
use ringdns_config::Config;
use ringdns_dataplane::{
    clock::Clock,
    dns::{
        answer::{Answer, TtlRules},
        header,
        key::Key,
        reply::Age,
        rtype,
    },
    labels::Labels,
};
use ringdns_resolver::{
    Upstreams,
    message::{Message, Record},
    upstream::exchange::{JudgeRules, Judged, Manner, judge, judge_kept},
};
use rustix::time::{ClockId, clock_gettime};
use std::{collections::BTreeSet, path::Path, sync::LazyLock};
use walk::{Walked, walk};

const TTL: TtlRules = TtlRules { min: 0, max: 86_400, negative_max: 3_600, stale: 60, ahead: 10 };
/// Most CPU time in milliseconds that judging may take: some hundred times the usual, since this
/// build is slow.
const WORK_MS: i64 = 500;
/// Bits of the first byte.
const RAW: u8 = 0x80;
const STREAM: u8 = 0x40;
const REPEAT: u8 = 0x20;

static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let types =
        [(1, false), (5, false), (255, true), (1, true), (65, false), (15, true), (46, true), (43, true)];
    let name = names::name("www.example").expect("it is a name");
    types.map(|(qtype, dnssec_ok)| names::key(&name, qtype, dnssec_ok, false).expect("a question")).into()
});

static UPSTREAMS: LazyLock<Upstreams> = LazyLock::new(|| {
    let text = "[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"192.0.2.1\"\n";
    let config = Config::parse(text, Path::new("")).expect("a valid configuration");
    Upstreams::new(&config.upstreams, &config.resolver, &Labels::default(), None)
});

/// Returns the message that the fuzzer's bytes stand for.
fn message(choice: u8, bytes: &[u8], key: &Key) -> Vec<u8> {
    if choice & RAW != 0 || bytes.len() < header::LEN {
        return bytes.to_vec();
    }
    let (head, records) = bytes.split_at(header::LEN);
    let mut message = [head, key.question(), records].concat();
    message[2] |= 0x80;
    message[4..6].copy_from_slice(&[0, 1]);
    if choice & REPEAT != 0 && !records.is_empty() {
        // As many as fit, all in the answer section.
        let times = (usize::from(u16::MAX) - message.len()) / records.len() + 1;
        let count = usize::from(u16::from_be_bytes([head[6], head[7]])).saturating_mul(times);
        message.extend(records.repeat(times - 1));
        message[6..8].copy_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
    }
    message
}

fn cpu_ms() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}

/// Whether a name is at or below another, both on the wire.
fn is_within(name: &[u8], above: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() > above.len() {
        rest = &rest[1 + usize::from(rest[0])..];
    }
    rest == above
}

/// Returns the name of the question and those that the records make it an alias of.
fn chain(key: &Key, answers: &[Record]) -> BTreeSet<Vec<u8>> {
    let asked = key.asked();
    let mut names = BTreeSet::from([asked.name().to_vec()]);
    if matches!(asked.qtype(), rtype::CNAME | rtype::ANY) {
        return names;
    }
    loop {
        let aliases = answers.iter().filter(|record| record.rtype == rtype::CNAME);
        let of_chain = aliases.filter(|record| names.contains(record.owner.as_wire()));
        let more: Vec<_> = of_chain.filter_map(|record| record.name_at(0)).collect();
        let before = names.len();
        names.extend(more.into_iter().map(|name| name.as_wire().to_vec()));
        if names.len() == before {
            return names;
        }
    }
}

/// Panics if a record does not belong to the answer.
fn check_contents(key: &Key, parsed: &Message) {
    let asked = key.asked();
    let all = asked.qtype() == rtype::ANY;
    let chain = chain(key, &parsed.answers);
    let proof = |record: &Record| matches!(record.rtype, rtype::RRSIG | rtype::NSEC | rtype::NSEC3);
    for record in parsed.answers.iter().chain(&parsed.authorities).chain(&parsed.additionals) {
        assert_eq!(record.class, asked.qclass(), "{record:?}");
        assert!(asked.dnssec_ok() || all || record.rtype == asked.qtype() || !proof(record), "{record:?}");
    }
    for record in &parsed.answers {
        let owner = record.owner.as_wire();
        let is_dname = record.rtype == rtype::DNAME || record.rdata.starts_with(&rtype::DNAME.to_be_bytes());
        let above = is_dname && chain.iter().any(|name| is_within(name, owner));
        assert!(chain.contains(owner) || above, "{record:?} is about another name");
        let aliases = matches!(record.rtype, rtype::CNAME | rtype::DNAME | rtype::RRSIG);
        assert!(all || aliases || record.rtype == asked.qtype(), "{record:?} is of another type");
    }
    for record in &parsed.authorities {
        let zone = matches!(record.rtype, rtype::SOA | rtype::NS | rtype::DS)
            && chain.iter().any(|name| is_within(name, record.owner.as_wire()));
        assert!(zone || proof(record), "{record:?} is about no zone of the answer");
    }
    for record in &parsed.additionals {
        assert!(matches!(record.rtype, rtype::A | rtype::AAAA | rtype::RRSIG), "{record:?}");
    }
}

/// Panics if an answer would not reach a client as it came.
fn check(key: &Key, answer: &Answer) {
    let wire = of(key.asked(), answer);
    assert!(wire.len() <= usize::from(u16::MAX));
    let records = walk(&wire).expect("a well-formed message");
    assert_eq!(records.len(), answer.ttls.len());
    let parsed = Message::of(key, answer, Age::Fresh(0)).expect("readable");
    check_contents(key, &parsed);
    assert!(answer.ttl <= TTL.max && answer.stale <= TTL.stale);

    // Only TTLs differ when it has grown older.
    let mut older = wire.clone();
    for at in &answer.ttls {
        let at = usize::from(u16::from_le_bytes(*at));
        older[at..at + 4].copy_from_slice(&[0, 0, 0, 30]);
    }
    older[..4].copy_from_slice(&[0x12, 0x34, 0x80, 0]);
    let names = |records: Vec<Walked>| -> Vec<_> {
        records.into_iter().map(|record| (record.owner, record.rtype, record.data)).collect()
    };
    let again = walk(&older).expect("a well-formed message");
    assert_eq!(names(records), names(again), "names lead through bytes that change");
}

fuzz_target!(|data: &[u8]| {
    let [choice, bytes @ ..] = data else { return };
    let key = &KEYS[usize::from(choice & 7)];
    let upstream = UPSTREAMS.iter().next().expect("one upstream");
    let clock = Clock::simulated(|| 1_000_000_000_000);
    let rules = JudgeRules { ttl: TTL, clock };
    let stream = Manner::over_stream(upstream, key, clock).without_cookie();
    let datagram = Manner::over_udp(upstream, key, clock).in_plain_letters().without_cookie();
    let message = message(*choice, bytes, key);
    let began = cpu_ms();
    let manner = if choice & STREAM != 0 { stream } else { datagram };
    let judged = judge(upstream, key, &rules, manner, &message);
    let work = cpu_ms() - began;
    assert!(work < WORK_MS, "{work} ms of work for {} bytes", message.len());
    let Ok(Judged::Answer(answer, alias)) = judged else { return };
    check(key, &answer);
    if let Some(alias) = alias {
        assert_eq!(alias.target.asked().qtype(), key.asked().qtype());
    }
    if answer.ttl == 0 {
        // It is not kept.
        return;
    }
    let kept = of(key.asked(), &answer);
    let (again, _) = judge_kept(key, &rules, true, &kept).expect("an answer stays one");
    assert_eq!((again.wire, again.counts), (answer.wire, answer.counts), "judged otherwise than before");
});
