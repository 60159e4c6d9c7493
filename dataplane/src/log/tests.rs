//! Tests: compare records with their replies, as other programs read these.

use super::*;
use crate::process::Recorder;
use crate::{
    cache::{self, Scope},
    checksum::Checksums,
    clock::{Clock, Nanos},
    dns::{answer::Answer, key::Key, testing},
    doorbell::Doorbell,
    packet::tests::{every_kind, frame_from, received},
    port::sim::{SimConfig, SimLink, SimPort},
    prefix::Prefix,
    process::AnswerConfig,
    punt::Link,
    stats::{Counter, WorkerStats},
    worker::{Worker, WorkerConfig},
};
use etherparse::{NetSlice, SlicedPacket};
use hickory_proto::{
    op::{Message, MessageType, OpCode},
    rr::{DNSClass, RecordType},
};
use proptest::prelude::*;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

/// Start of the turn in which queries arrive, and of the turn in which the control plane's answers
/// do, and the time at which the replies of both are sent.
const TURNS: [Nanos; 2] = [20_000_000_000, 20_000_001_000];
const SENT: Nanos = 20_000_001_500;

struct Scene {
    worker: Worker<SimPort>,
    wire: SimLink,
    link: Arc<Link>,
    line: Arc<Line>,
}

impl Scene {
    fn new(sieve: Sieve, batches: usize, checksums: Checksums) -> Self {
        let (control, generations) = (Arc::new(Doorbell::new().unwrap()), Arc::default());
        let link = Arc::new(Link::new(0, 64, 64, control, generations).unwrap());
        let line = Arc::new(Line::new(batches));
        let settings = WorkerConfig {
            cache_bytes: cache::BYTES_MIN,
            rules: AnswerConfig { udp_limit: 1232, stale_ttl: 30, stale_at_once: true },
            policy: Arc::default(),
            records: 64,
            spin: Duration::ZERO,
            log: Some(LogConfig { line: line.clone(), sieve: Arc::new(sieve), seed: 1 }),
            demand: None,
            mirror: None,
            populator: None,
        };
        let (port, wire) = SimPort::pair(&SimConfig { checksums, ..SimConfig::default() }).unwrap();
        let clock = Clock::simulated(|| SENT);
        let worker = Worker::new(port, link.clone(), clock, &settings).unwrap();
        Scene { worker, wire, link, line }
    }

    fn file(&mut self, key: &Key, answer: &Answer, list: Option<u8>) {
        let processor = self.worker.processor();
        let scope = Scope { list, ..Scope::ALL };
        processor.cache().insert_for(&scope, key, answer, answer.received);
    }

    /// Collects every record on the line so far.
    fn collect<T>(&self, mut see: impl FnMut(Logged<'_>) -> T) -> Vec<T> {
        let mut all = Vec::new();
        while let Some(batch) = self.line.collect() {
            all.extend(batch.iter().map(&mut see));
            self.line.give_back(batch);
        }
        all
    }

    /// Ends the worker, which hands on its last batch.
    fn end(&mut self) {
        self.link.request_stop();
        self.worker.run().unwrap();
    }

    fn count(&self, counter: Counter) -> u64 {
        self.link.stats.snapshot().get(counter)
    }
}

/// Place of the answer to a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Fresh,
    Nothing,
    Many,
    /// From list number 7.
    Listed,
    /// From list number 7, with an extended error.
    ListedWithError,
    Stale,
    Failed,
    /// In the host cache.
    Host,
    /// At upstream number 3.
    Upstream,
    Version,
    Class,
    Operation,
    Response,
}

const KINDS: [Kind; 13] = [
    Kind::Fresh,
    Kind::Nothing,
    Kind::Many,
    Kind::Listed,
    Kind::ListedWithError,
    Kind::Stale,
    Kind::Failed,
    Kind::Host,
    Kind::Upstream,
    Kind::Version,
    Kind::Class,
    Kind::Operation,
    Kind::Response,
];

const ELSEWHERE: AnswerSource =
    AnswerSource { tier: Tier::Upstream, upstream: Some(3), upstream_us: 77, list: None };

impl Kind {
    fn expected(self) -> Option<(Outcome, AnswerSource)> {
        let core = AnswerSource::of(Tier::Core);
        Some(match self {
            Kind::Fresh | Kind::Nothing | Kind::Many => (Outcome::Hit, core),
            Kind::Listed | Kind::ListedWithError => (Outcome::Blocked, core.by(Some(7))),
            Kind::Stale => (Outcome::Stale, core),
            Kind::Failed => (Outcome::Failure, core),
            Kind::Host => (Outcome::Hit, AnswerSource::of(Tier::Host)),
            Kind::Upstream => (Outcome::Miss, ELSEWHERE),
            Kind::Version | Kind::Class | Kind::Operation => (Outcome::Rejected, AnswerSource::default()),
            Kind::Response => return None,
        })
    }

    /// Returns the answer that the worker or the control plane knows.
    fn answer(self, query: &Message) -> Answer {
        match self {
            Kind::ListedWithError => {
                let answer = testing::answer(&testing::addresses(query, 3000, &[[0, 0, 0, 0]]), 0);
                Answer { ede: Some(15), ..answer }
            }
            Kind::Nothing => testing::answer(&testing::nxdomain(query, 3000, 3000), 0),
            Kind::Many => testing::answer(&testing::addresses(query, 3000, &[[192, 0, 2, 1]; 40]), 0),
            Kind::Stale => testing::answer(&testing::addresses(query, 2, &[[192, 0, 2, 1]]), 0),
            Kind::Failed => Answer::error(crate::dns::rcode::SERVFAIL, None, 0, 100),
            _ => testing::answer(&testing::addresses(query, 3000, &[[192, 0, 2, 1]; 2]), 0),
        }
    }

    fn message(self, query: &Message) -> Vec<u8> {
        let mut query = query.clone();
        match self {
            Kind::Version => {
                query = testing::with_edns(query, 1232, false);
                query.edns.as_mut().unwrap().set_version(1);
            }
            Kind::Class => drop(query.queries[0].set_query_class(DNSClass::CH)),
            Kind::Operation => query.metadata.op_code = OpCode::Notify,
            Kind::Response => query.metadata.message_type = MessageType::Response,
            _ => {}
        }
        testing::wire(&query)
    }
}

#[derive(Clone, Debug)]
struct Asked {
    kind: Kind,
    labels: Vec<String>,
    capital: bool,
    link: usize,
    client: u32,
    edns: bool,
}

fn asked() -> impl Strategy<Value = Asked> {
    let label = "[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?";
    (
        0..KINDS.len(),
        prop::collection::vec(label, 0..6),
        any::<bool>(),
        0..6usize,
        any::<u32>(),
        any::<bool>(),
    )
        .prop_map(|(kind, labels, capital, link, client, edns)| Asked {
            kind: KINDS[kind],
            labels,
            capital,
            link,
            client,
            edns,
        })
}

/// Content of a record, read or expected.
type Told = (Ipv6Addr, Vec<u8>, Protocol, Outcome, u16, u16, u32, AnswerSource);

/// Reads a reply with another implementation: its receiver, the question in lowercase, the response
/// code, and its size.
fn read(frame: &[u8]) -> (Ipv6Addr, Vec<u8>, u16, u16) {
    let client = match SlicedPacket::from_ethernet(frame).unwrap().net.unwrap() {
        NetSlice::Ipv4(ip) => ip.header().destination_addr().to_ipv6_mapped(),
        NetSlice::Ipv6(ip) => ip.header().destination_addr(),
        other => panic!("{other:?}"),
    };
    let bytes = received(frame);
    let message = Message::from_vec(&bytes).unwrap();
    let mut question = Vec::new();
    if let Some(asked) = message.queries.first() {
        let name = asked.name().to_lowercase();
        name.iter().for_each(|label| {
            question.push(label.len() as u8);
            question.extend(label);
        });
        question.push(0);
        question.extend(u16::from(asked.query_type()).to_be_bytes());
        question.extend(u16::from(asked.query_class()).to_be_bytes());
    }
    (client, question, u16::from(message.metadata.response_code), bytes.len() as u16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever is asked by any client, and however it is answered, there is one record per reply
    /// and no other, and it agrees with the reply.
    #[test]
    fn records_are_what_the_replies_are(all in prop::collection::vec(asked(), 1..64), trust in any::<bool>()) {
        let checksums = if trust { Checksums::Trust } else { Checksums::Verify };
        let mut scene = Scene::new(Sieve::open(), 2, checksums);
        let mut kinds = Vec::new();
        for (number, asked) in all.iter().enumerate() {
            // Each query has its own name, so that an answer known for one is not known for
            // another.
            let mut name = format!("n{number}.");
            asked.labels.iter().for_each(|label| name += &format!("{label}."));
            let name = if asked.capital { name.to_ascii_uppercase() } else { name };
            let (link, v6) = every_kind().nth(asked.link).unwrap();
            let client: IpAddr = match v6 {
                false => Ipv4Addr::from_bits(10 << 24 | asked.client >> 8).into(),
                true => Ipv6Addr::from_bits(0xfd53 << 112 | u128::from(asked.client) << 64 | 1).into(),
            };
            let mut query = testing::query(&name, RecordType::A);
            let plain = testing::query(&name.to_ascii_lowercase(), RecordType::A);
            let core = matches!(asked.kind.expected(), Some((_, AnswerSource { tier: Tier::Core, .. })));
            if core {
                let key = testing::parsed(&plain).key;
                scene.file(&key, &asked.kind.answer(&plain), asked.kind.expected().and_then(|(_, source)| source.list));
            }
            if asked.edns {
                query = testing::with_edns(query, 1232, false);
            }
            kinds.push(asked.kind);
            prop_assert!(scene.wire.inject(&frame_from(client, link, &asked.kind.message(&query))));
        }
        scene.worker.turn(TURNS[0]);
        while let Some(mut record) = scene.link.take() {
            let number: usize = {
                let label = &record.query.key.question()[2..];
                let digits = label.iter().take_while(|byte| byte.is_ascii_digit()).count();
                std::str::from_utf8(&label[..digits]).unwrap().parse().unwrap()
            };
            let kind = kinds[number];
            if let Some((_, source)) = kind.expected() {
                record.source = source;
            }
            record.known = kind == Kind::Host;
            let name = presentation(record.query.key.asked().name());
            record.answer = Some(Arc::new(kind.answer(&testing::query(&name, RecordType::A))));
            scene.link.give_back(record);
        }
        while scene.link.has_returned() {
            scene.worker.turn(TURNS[1]);
        }
        scene.end();
        let told = |logged: Logged<'_>| -> Told {
            let Logged { client, question, protocol, outcome, rcode, answer_bytes, service_ns, source, at } = logged;
            assert_eq!(at, TURNS[0]);
            (client, question.to_vec(), protocol, outcome, rcode, answer_bytes, service_ns, source)
        };
        let mut records = scene.collect(told);
        let of = |question: &[u8]| {
            let digits: String = question.iter().skip(2).take_while(|b| b.is_ascii_digit()).map(|b| char::from(*b)).collect();
            digits.parse().map_or((Outcome::Rejected, AnswerSource::default()), |number: usize| kinds[number].expected().unwrap())
        };
        let mut replies: Vec<Told> = scene.wire.replies().iter().map(|frame| {
            let (client, question, rcode, bytes) = read(frame);
            let (outcome, source) = of(&question);
            (client, question, Protocol::Udp, outcome, rcode, bytes, (SENT - TURNS[0]) as u32, source)
        }).collect();
        let order = |a: &Told, b: &Told| (a.0, &a.1, a.4).cmp(&(b.0, &b.1, b.4));
        records.sort_by(order);
        replies.sort_by(order);
        prop_assert_eq!(replies.len(), kinds.iter().filter(|kind| kind.expected().is_some()).count());
        prop_assert_eq!(scene.count(Counter::LogRecorded), records.len() as u64);
        prop_assert_eq!(records, replies);
    }

    /// Exclusion compares whole labels.
    #[test]
    fn names_at_and_below_are_excluded(
        excluded in prop::collection::vec(prop::collection::vec("[ab\\x01\\x02]{1,2}", 0..3), 0..5),
        asked in prop::collection::vec("[ab\\x01\\x02]{1,2}", 0..5),
    ) {
        let wire = |labels: &[String]| {
            let mut wire = Vec::new();
            labels.iter().for_each(|label| {
                wire.push(label.len() as u8);
                wire.extend(label.bytes());
            });
            wire.push(0);
            wire
        };
        let names: Vec<_> = excluded.iter().map(|labels| wire(labels)).collect();
        let sieve = Sieve::new(1, &[], &names).unwrap();
        let question = [wire(&asked), vec![0, 1, 0, 1]].concat();
        let expected = excluded.iter().any(|labels| asked.ends_with(labels));
        prop_assert_eq!(sieve.excludes(&[1; 16], &question), expected);
    }

    /// One query in so many is sampled, whatever the sizes of the bursts.
    #[test]
    fn samples_are_of_the_size_that_is_asked_for(
        sample in 1u32..300,
        seed in any::<u64>(),
        lens in prop::collection::vec(0..64usize, 1..20),
    ) {
        let mut picks = Sieve::new(sample, &[], &[]).unwrap().picks(seed);
        let (mut picked, mut seen) = (0u64, 0u64);
        for len in lens.iter().cycle().take(lens.len() * 1000) {
            seen += *len as u64;
            let mut from = 0;
            while let Some(at) = picks.next_in(from, *len) {
                prop_assert!(from <= at && at < *len);
                from = at + 1;
                picked += 1;
            }
        }
        let expected = seen as f64 / f64::from(sample);
        // The standard deviation of n draws that are uniform up to twice the mean: about 0.58 of
        // the mean for each.
        let bound = if sample == 1 { 0.0 } else { 6.0 * (0.58 * expected.sqrt() + 1.0) };
        prop_assert!((picked as f64 - expected).abs() <= bound, "{picked} of {seen}, expected {expected} +- {bound}");
    }
}

/// Returns a name of letters, digits and hyphens in presentation format.
fn presentation(mut name: &[u8]) -> String {
    let mut text = String::new();
    while let Some((len, rest)) = name.split_first().filter(|(len, _)| **len > 0) {
        let (label, rest) = rest.split_at(usize::from(*len));
        text += &format!("{}.", std::str::from_utf8(label).unwrap());
        name = rest;
    }
    text
}

/// Creates a scene in which one name is known, and a query for it.
fn known(sieve: Sieve, batches: usize) -> (Scene, Vec<u8>) {
    let mut scene = Scene::new(sieve, batches, Checksums::Verify);
    let query = testing::query("www.corp.example.", RecordType::A);
    let key = testing::parsed(&query).key;
    scene.file(&key, &Kind::Fresh.answer(&query), None);
    let client = Ipv4Addr::new(10, 1, 2, 3).into();
    (scene, frame_from(client, every_kind().next().unwrap().0, &testing::wire(&query)))
}

fn send(scene: &mut Scene, frame: &[u8], queries: usize) {
    let mut left = queries;
    while left > 0 {
        let burst = left.min(64);
        (0..burst).for_each(|_| assert!(scene.wire.inject(frame)));
        scene.worker.turn(TURNS[0]);
        left -= burst;
    }
    assert_eq!(scene.wire.waiting(), 0);
}

#[test]
fn what_finds_no_batch_is_dropped_and_counted() {
    let (mut scene, frame) = known(Sieve::open(), 2);
    send(&mut scene, &frame, 4000);
    let (recorded, lost) = (scene.count(Counter::LogRecorded), scene.count(Counter::LogNoBatch));
    let collected = scene.collect(|_| ()).len() as u64;
    assert_eq!(recorded, 4000, "hits are answered all the same");
    assert_eq!(scene.count(Counter::Hit), 4000);
    assert!(lost > 1900 && collected > 1800, "{lost} lost, {collected} collected");
    assert_eq!(recorded, lost + collected);
    // Batches are free again, and recording continues.
    send(&mut scene, &frame, 10);
    scene.end();
    assert_eq!((scene.collect(|_| ()).len(), scene.count(Counter::LogNoBatch)), (10, lost));
}

#[test]
fn what_is_excluded_is_counted_and_not_recorded() {
    let prefixes = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Prefix>>();
    let corp = vec![b"\x04corp\x07example\0".to_vec()];
    for (clients, names, excluded) in [
        (prefixes(&["10.1.0.0/16"]), Vec::new(), true),
        (prefixes(&["10.1.2.3"]), Vec::new(), true),
        (prefixes(&["10.2.0.0/16", "::/0"]), Vec::new(), false),
        (Vec::new(), corp.clone(), true),
        (Vec::new(), vec![b"\x03orp\x07example\0".to_vec()], false),
        (prefixes(&["192.0.2.0/24"]), corp, true),
    ] {
        let (mut scene, frame) = known(Sieve::new(1, &clients, &names).unwrap(), 2);
        send(&mut scene, &frame, 5);
        scene.end();
        let records = if excluded { 0 } else { 5 };
        assert_eq!(scene.collect(|_| ()).len(), records, "{clients:?}, {names:?}");
        let counted = (scene.count(Counter::LogRecorded), scene.count(Counter::LogExcluded));
        assert_eq!(counted, (records as u64, 5 - records as u64), "{clients:?}, {names:?}");
    }
}

#[test]
fn a_label_that_looks_like_two_is_one() {
    let sieve = Sieve::new(1, &[], &[b"\x01a\0".to_vec()]).unwrap();
    assert!(sieve.excludes(&[1; 16], b"\x01b\x01a\0\0\x01\0\x01"));
    assert!(!sieve.excludes(&[1; 16], b"\x02\x01a\0\0\x01\0\x01"));
    assert!(!sieve.excludes(&[1; 16], b"\0\0\x01\0\x01") && !sieve.excludes(&[1; 16], b""));
}

#[test]
fn a_batch_waits_no_longer_than_a_tenth_of_a_second() {
    let line = Arc::new(Line::new(2));
    let setup = LogConfig { line: line.clone(), sieve: Arc::new(Sieve::open()), seed: 1 };
    let mut log = Recorder::new(setup, Protocol::Udp);
    let key = testing::parsed(&testing::query("www.example.", RecordType::A)).key;
    let client = Ipv4Addr::new(10, 1, 2, 3).into();
    let query = testing::wire(&testing::query("www.example.", RecordType::A));
    let frame = frame_from(client, every_kind().next().unwrap().0, &query);
    let (envelope, _) = crate::packet::Envelope::open(&frame, Checksums::Verify).unwrap();
    let note = |log: &mut Recorder, at| {
        log.note_returned(at, &frame, envelope, &key, (AnswerSource::default(), Outcome::Hit));
    };
    const MILLI: Nanos = 1_000_000;
    log.keep(0);
    assert_eq!((log.due(0), line.collect().is_none()), (None, true), "nothing is not handed on");
    note(&mut log, 5 * MILLI);
    log.settle(5 * MILLI + 100, &WorkerStats::default());
    note(&mut log, 50 * MILLI);
    log.settle(50 * MILLI + 200, &WorkerStats::default());
    assert_eq!(log.due(6 * MILLI), Some(Duration::from_millis(99)));
    log.keep(105 * MILLI - 1);
    assert!(line.collect().is_none(), "too early");
    log.keep(105 * MILLI);
    let batch = line.collect().unwrap();
    // Each turn has its own end.
    assert_eq!(batch.iter().map(|logged| logged.service_ns).collect::<Vec<_>>(), [100, 200]);
    line.give_back(batch);
}
