//! Tests: mirrored packets against those on the wire.

use super::*;
use crate::{
    cache::{self, Scope},
    clock::Clock,
    dns::{rcode, testing},
    doorbell::Doorbell,
    packet::tests::{every_kind, frame, received},
    port::sim::{SimConfig, SimLink, SimPort},
    process::AnswerConfig,
    punt::Link,
    worker::{Worker, WorkerConfig},
};
use hickory_proto::{
    op::{Message, MessageType},
    rr::{DNSClass, RecordType},
};
use std::{collections::BTreeMap, time::Duration};

/// Start of the turn in which queries arrive, and of the turn in which the control plane's answers
/// do, and the time at which the replies of both are sent.
const TURNS: [Nanos; 2] = [20_000_000_000, 20_000_001_000];
const SENT: Nanos = 20_000_001_500;

pub(crate) const BOTH: Directions = Directions { queries: true, replies: true };

/// Worker on a simulated wire, with a mirror for dnstap.
pub(crate) struct Scene {
    pub worker: Worker<SimPort>,
    wire: SimLink,
    pub link: Arc<Link>,
    pub line: Arc<MirrorLine>,
}

/// Packet of a mirror, with what was noted of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Copied {
    pub exchange: u64,
    pub direction: Direction,
    pub fate: Fate,
    times: [Nanos; 2],
    message: Option<Vec<u8>>,
    pub packet: Vec<u8>,
}

impl Scene {
    pub fn new(sample: u32, directions: Directions) -> Self {
        let (control, generations) = (Arc::new(Doorbell::new().unwrap()), Arc::default());
        let link = Arc::new(Link::new(0, 64, 64, control, generations).unwrap());
        let line = Arc::new(MirrorLine::new(2));
        let sieve = Arc::new(Sieve::new(sample, &[], &[]).unwrap());
        let settings = WorkerConfig {
            cache_bytes: cache::BYTES_MIN,
            rules: AnswerConfig { udp_limit: 1232, stale_ttl: 30, stale_at_once: true },
            policy: Arc::default(),
            records: 64,
            spin: Duration::ZERO,
            log: None,
            demand: None,
            mirror: Some(MirrorConfig { line: line.clone(), sieve, directions, seed: 1 }),
            populator: None,
        };
        let (port, wire) = SimPort::pair(&SimConfig::default()).unwrap();
        let clock = Clock::simulated(|| SENT);
        let mut worker = Worker::new(port, link.clone(), clock, &settings).unwrap();
        let known = testing::query("known.example.", RecordType::A);
        let answer = testing::answer(&testing::addresses(&known, 3000, &[[192, 0, 2, 1]; 2]), 0);
        let (key, processor) = (testing::parsed(&known).key, worker.processor());
        processor.cache().insert_for(&Scope::ALL, &key, &answer, answer.received);
        Scene { worker, wire, link, line }
    }

    /// Sends packets, answers the questions that reach the control plane, and returns the replies.
    pub fn ask(&mut self, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        self.receive(packets);
        self.settle()
    }

    /// Sends packets, and answers those that the worker can answer by itself.
    pub fn receive(&mut self, packets: &[Vec<u8>]) {
        packets.iter().for_each(|packet| assert!(self.wire.inject(packet)));
        while self.wire.waiting() > 0 {
            self.worker.turn(TURNS[0]);
        }
    }

    /// Answers the questions that reach the control plane, and returns all replies.
    pub fn settle(&mut self) -> Vec<Vec<u8>> {
        while let Some(mut record) = self.link.take() {
            let query = testing::query("new.example.", RecordType::A);
            record.source = AnswerSource::of(crate::log::Tier::Upstream);
            record.answer =
                Some(Arc::new(testing::answer(&testing::addresses(&query, 3000, &[[192, 0, 2, 2]]), 0)));
            self.link.give_back(record);
        }
        while self.link.has_returned() {
            self.worker.turn(TURNS[1]);
        }
        self.worker.turn(TURNS[1]);
        self.wire.replies()
    }

    /// Ends the worker, which hands on its last page, and collects all packets.
    pub fn end(mut self) -> Vec<Copied> {
        self.link.request_stop();
        self.worker.run().unwrap();
        self.collect()
    }

    fn collect(&self) -> Vec<Copied> {
        Self::collect_of(&self.line)
    }

    /// Collects the packets of a line.
    pub fn collect_of(line: &MirrorLine) -> Vec<Copied> {
        let mut all = Vec::new();
        while let Some(page) = line.collect() {
            all.extend(page.iter().map(|mirrored| Copied {
                exchange: mirrored.exchange,
                direction: mirrored.direction,
                fate: mirrored.fate,
                times: [mirrored.received, mirrored.settled],
                message: mirrored.envelope.datagram(mirrored.packet).map(|(.., message)| message.to_vec()),
                packet: mirrored.packet.to_vec(),
            }));
            line.give_back(page);
        }
        all
    }
}

fn message(name: &str, change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut query = testing::query(name, RecordType::A);
    change(&mut query);
    testing::wire(&query)
}

fn in_chaos(query: &mut Message) {
    query.queries[0].set_query_class(DNSClass::CH);
}

/// Returns packets of every fate over every link header, each with the fate and whether it has a
/// reply.
pub(crate) fn packets() -> Vec<(Vec<u8>, Fate)> {
    let core = Fate::Answered(Outcome::Hit, AnswerSource::of(crate::log::Tier::Core));
    let rejected = Fate::Answered(Outcome::Rejected, AnswerSource::default());
    let mut packets = Vec::new();
    for (link, v6) in every_kind() {
        for (message, fate) in [
            (message("known.example.", |_| ()), core),
            (message("new.example.", |_| ()), Fate::Punted),
            (message("known.example.", in_chaos), rejected),
            (
                message("a.example.", |m| m.metadata.message_type = MessageType::Response),
                Fate::Dropped(DropReason::Response),
            ),
            (vec![7; 5], Fate::Dropped(DropReason::ShortMessage)),
        ] {
            packets.push((frame(link, v6, &message), fate));
        }
        let mut broken = frame(link, v6, &message("known.example.", |_| ()));
        *broken.last_mut().unwrap() ^= 1;
        packets.push((broken, Fate::Dropped(DropReason::BadChecksum)));
    }
    packets
}

#[test]
fn copies_are_the_packets_on_the_wire_in_both_directions() {
    let mut scene = Scene::new(1, BOTH);
    let packets = packets();
    let sent: Vec<_> = packets.iter().map(|(packet, _)| packet.clone()).collect();
    let mut replies = scene.ask(&sent);
    let line = scene.line.clone();
    let copied = scene.end();
    assert_eq!((line.offered(), line.lost()), (copied.len() as u64, 0));
    let (queries, mut answers): (Vec<_>, Vec<_>) =
        copied.into_iter().partition(|copied| copied.direction == Direction::Query);
    assert_eq!(queries.len(), packets.len());
    let mut exchanges = BTreeMap::new();
    for (query, (packet, fate)) in queries.iter().zip(&packets) {
        assert_eq!((&query.packet, query.fate), (packet, *fate));
        assert_eq!(query.times, [TURNS[0], SENT]);
        let has_envelope = *fate != Fate::Dropped(DropReason::BadChecksum);
        assert_eq!(query.message, has_envelope.then(|| received(packet)));
        assert!(exchanges.insert(query.exchange, query).is_none(), "{query:?}");
    }
    // 6 of every link header: a hit, a miss and a refusal have replies.
    assert_eq!((answers.len(), replies.len()), (18, 18));
    for answer in &answers {
        let query = exchanges[&answer.exchange];
        let asked = Message::from_vec(query.message.as_ref().unwrap()).unwrap();
        let told = Message::from_vec(answer.message.as_ref().unwrap()).unwrap();
        assert_eq!((asked.metadata.id, &asked.queries), (told.metadata.id, &told.queries));
        assert_eq!(answer.times, [TURNS[0], SENT]);
        match query.fate {
            Fate::Punted => {
                let upstream = AnswerSource::of(crate::log::Tier::Upstream);
                assert_eq!(answer.fate, Fate::Answered(Outcome::Miss, upstream));
            }
            fate => assert_eq!(answer.fate, fate),
        }
        let refused = matches!(query.fate, Fate::Answered(Outcome::Rejected, _));
        assert_eq!(u16::from(told.metadata.response_code) == u16::from(rcode::REFUSED), refused);
    }
    answers.sort_by(|a, b| a.packet.cmp(&b.packet));
    replies.sort();
    assert!(answers.iter().map(|answer| &answer.packet).eq(&replies));
}

#[test]
fn a_mirror_of_one_direction_copies_no_other() {
    for queries in [false, true] {
        let mut scene = Scene::new(1, Directions { queries, replies: !queries });
        let packets: Vec<_> = packets().into_iter().map(|(packet, _)| packet).collect();
        let replies = scene.ask(&packets).len();
        let copied = scene.end();
        let direction = if queries { Direction::Query } else { Direction::Reply };
        assert!(copied.iter().all(|copied| copied.direction == direction));
        assert_eq!(copied.len(), if queries { packets.len() } else { replies });
    }
}

#[test]
fn a_sample_has_queries_with_their_replies() {
    let mut scene = Scene::new(10, BOTH);
    let packets: Vec<_> = packets().into_iter().map(|(packet, _)| packet).collect();
    let rounds = 100;
    let replies: usize = (0..rounds).map(|_| scene.ask(&packets).len()).sum();
    let copied = scene.end();
    let of = |direction| copied.iter().filter(move |copied| copied.direction == direction);
    let queries = of(Direction::Query).count();
    // Of 3,600 packets 360 are expected, with a standard deviation of about 11.
    assert!((300..420).contains(&queries), "{queries} of {}", rounds * packets.len());
    let answered: BTreeMap<_, _> = of(Direction::Reply).map(|copied| (copied.exchange, copied)).collect();
    assert!((120..240).contains(&answered.len()), "{} of {replies}", answered.len());
    for query in of(Direction::Query) {
        let has_reply = !matches!(query.fate, Fate::Dropped(_));
        assert_eq!(answered.contains_key(&query.exchange), has_reply, "{query:?}");
    }
}

#[test]
fn packets_without_room_are_lost_and_counted_and_answered_all_the_same() {
    let mut scene = Scene::new(1, BOTH);
    let query = frame(crate::packet::tests::Link::Plain, false, &message("known.example.", |_| ()));
    let (burst, rounds) = (vec![query; 60], 200);
    let replies: usize = (0..rounds).map(|_| scene.ask(&burst).len()).sum();
    assert_eq!(replies, rounds * burst.len());
    let line = scene.line.clone();
    assert_eq!(line.offered(), 2 * replies as u64);
    let kept = scene.collect();
    assert!(line.lost() > 0 && kept.len() > PACKETS, "{} of {}", kept.len(), line.offered());
    assert_eq!(kept.len() as u64 + line.lost(), line.offered());
    // With pages again, packets are mirrored again.
    assert_eq!(scene.ask(&burst).len(), burst.len());
    assert_eq!(scene.end().len(), 2 * burst.len());
    assert_eq!(line.offered(), 2 * (replies + burst.len()) as u64);
}
