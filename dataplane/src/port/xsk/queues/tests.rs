//! Tests: the queues against a simulated kernel, one that is honest but slow to publish, and one
//! that lies.

use super::{
    super::ring::{RingCounter, RingEntry, testing::PlainMemory},
    *,
};
use crate::frame::Place;
use proptest::prelude::*;
use std::{collections::VecDeque, sync::atomic::Ordering};

const CHUNKS: u32 = 32;
const RING: u32 = 8;
const START: u64 = 256;

/// Kernel side of four rings, which publishes each of its counters when told to.
struct Kernel {
    rings: Memories<PlainMemory>,
    rx: Producer<PlainMemory, Desc>,
    tx: Consumer<PlainMemory, Desc>,
    completion: Producer<PlainMemory, u64>,
    /// Position of the next entry of the fill ring: ahead of the counter that the queues see.
    fill_tail: u32,
    /// Frames taken off the TX ring and not completed.
    sending: VecDeque<u64>,
    /// Lengths of frames taken off the TX ring, in order.
    sent: Vec<u32>,
}

impl Kernel {
    /// Creates a kernel, and queues over `CHUNKS` frames that have given it as many as it wants.
    fn with_queues(start: u32) -> (Kernel, Queues<PlainMemory>) {
        let rings = || Memories {
            rx: PlainMemory::new(RING, Desc::WORDS, start),
            tx: PlainMemory::new(RING, Desc::WORDS, start),
            fill: PlainMemory::new(RING, u64::WORDS, start),
            completion: PlainMemory::new(RING, u64::WORDS, start),
        };
        let rings = rings();
        let shared = Memories {
            rx: rings.rx.clone(),
            tx: rings.tx.clone(),
            fill: rings.fill.clone(),
            completion: rings.completion.clone(),
        };
        let kernel = Kernel {
            rx: Producer::new(rings.rx.clone()),
            tx: Consumer::new(rings.tx.clone()),
            completion: Producer::new(rings.completion.clone()),
            rings,
            fill_tail: start,
            sending: VecDeque::new(),
            sent: Vec::new(),
        };
        let mut queues = Queues::new(Frames::new(CHUNKS, START as u16).unwrap(), shared);
        queues.refill();
        (kernel, queues)
    }

    /// Receives up to `count` packets of `len` bytes and publishes them, but not that it took
    /// chunks for them, as Linux does for a moment at the end of each of its bursts. Returns the
    /// number received.
    fn receive(&mut self, count: u32, len: u32) -> u32 {
        let produced = self.rings.fill.load(RingCounter::Producer, Ordering::Acquire);
        let count = count.min(produced.wrapping_sub(self.fill_tail));
        let (fill, tail) = (&self.rings.fill, self.fill_tail);
        let chunks = (0..count).map(|nth| u64::read(fill, tail.wrapping_add(nth)));
        let received =
            self.rx.produce(count, chunks.map(|addr| Desc { addr: addr + START, len, options: 0 }));
        self.fill_tail = self.fill_tail.wrapping_add(received);
        received
    }

    /// Publishes that chunks were taken off the fill ring.
    fn publish_fill(&mut self) {
        self.rings.fill.store(RingCounter::Consumer, self.fill_tail, Ordering::Release);
    }

    /// Takes up to `count` frames off the TX ring.
    fn take(&mut self, count: u32) {
        self.tx.consume(count, |desc| {
            self.sending.push_back(desc.addr);
            self.sent.push(desc.len);
        });
    }

    /// Completes up to `count` frames.
    fn complete(&mut self, count: u32) {
        let count = count.min(self.sending.len() as u32);
        let completed = self.completion.produce(count, self.sending.iter().copied());
        self.sending.drain(..completed as usize);
    }
}

fn received(queues: &mut Queues<PlainMemory>) -> Burst {
    let mut burst = Burst::new();
    queues.recv(&mut burst);
    burst
}

fn count(queues: &Queues<PlainMemory>, place: Place) -> usize {
    queues.frames.count(place)
}

#[test]
fn a_chunk_that_the_fill_ring_has_no_room_for_stays_free() {
    let (mut kernel, mut queues) = Kernel::with_queues(u32::MAX - 3);
    assert_eq!(count(&queues, Place::Fill), 8);
    assert_eq!(kernel.receive(3, 60), 3);
    for frame in received(&mut queues) {
        queues.frames.release(frame);
    }
    // The ring still looks full: the returned chunks cannot go there yet.
    queues.refill();
    assert_eq!((count(&queues, Place::Fill), count(&queues, Place::Free)), (5, 27));
    assert_eq!((queues.stats.bad_descriptors, queues.stats.fill_starved), (0, 0));
    assert!(queues.stuck(), "nothing tells of the room that there will be: a sleep must be short");

    kernel.publish_fill();
    queues.refill();
    assert_eq!((count(&queues, Place::Fill), count(&queues, Place::Free)), (8, 24));
    assert!(!queues.stuck());
    // The chunks are on the ring, each once.
    assert_eq!(kernel.receive(9, 60), 8);
    let burst = received(&mut queues);
    assert_eq!((burst.len(), count(&queues, Place::Held), queues.stats.bad_descriptors), (8, 8, 0));
}

#[test]
fn a_fill_ring_without_free_chunks_says_so_and_does_not_ask_to_be_looked_at() {
    let (mut kernel, mut queues) = Kernel::with_queues(0);
    let mut held = Vec::new();
    while queues.frames.free() > 0 {
        held.push(queues.frames.alloc().unwrap());
    }
    kernel.receive(2, 60);
    kernel.publish_fill();
    held.extend(received(&mut queues));
    queues.refill();
    assert_eq!((queues.stats.fill_starved, queues.stuck()), (1, false));
    queues.frames.release(held.pop().unwrap());
    queues.refill();
    assert_eq!((count(&queues, Place::Fill), queues.stats.fill_starved), (7, 2));
}

#[test]
fn descriptors_that_cannot_be_true_become_no_frames() {
    let (mut kernel, mut queues) = Kernel::with_queues(0);
    let chunk = CHUNK as u64;
    let good = Desc { addr: 31 * chunk + START, len: 60, options: 0 };
    assert_eq!(kernel.receive(1, 60), 1);
    for desc in [
        Desc { addr: u64::MAX, ..good },
        Desc { addr: u64::from(CHUNKS) * chunk, ..good },
        Desc { addr: 1 << 60, ..good },
        Desc { len: CHUNK as u32 - START as u32 + 1, ..good },
        Desc { len: u32::MAX, ..good },
        Desc { len: 0x1_003c, ..good },
    ] {
        kernel.rx.produce(1, [desc].into_iter());
    }
    let burst = received(&mut queues);
    assert_eq!((burst.len(), queues.stats.bad_descriptors), (1, 6));
    // A chunk that we already have, and completions of chunks that were not sent.
    kernel.rx.produce(1, [Desc { addr: 0, ..good }].into_iter());
    assert!(received(&mut queues).is_empty());
    let frame = queues.frames.alloc().unwrap();
    queues.send(frame);
    queues.transmit();
    kernel.completion.produce(3, [u64::MAX, 0, 1 << 62].into_iter());
    queues.reclaim();
    assert_eq!((queues.stats.bad_descriptors, count(&queues, Place::Tx)), (10, 1));
}

#[derive(Clone, Debug)]
enum Step {
    Receive(u32),
    PublishFill,
    Take(u32),
    Complete(u32),
    /// A turn of the worker, which replies to this share of the packets, in tenths.
    Turn(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1..12u32).prop_map(Step::Receive),
        2 => Just(Step::PublishFill),
        2 => (1..12u32).prop_map(Step::Take),
        2 => (1..12u32).prop_map(Step::Complete),
        4 => (0..=10usize).prop_map(Step::Turn),
    ];
    prop::collection::vec(step, 1..120)
}

/// Runs a turn of the worker as [`Port`](crate::port::Port) describes it, without the kick.
fn turn(queues: &mut Queues<PlainMemory>, tenths: usize, mut replied: impl FnMut(usize)) -> usize {
    let burst = received(queues);
    let taken = burst.len();
    for (nth, frame) in burst.into_iter().enumerate() {
        if nth * 10 < taken * tenths {
            replied(frame.len());
            queues.send(frame);
        } else {
            queues.frames.release(frame);
        }
    }
    queues.reclaim();
    queues.transmit();
    queues.refill();
    taken
}

proptest! {
    /// In whatever order an honest kernel publishes, no chunk is lost or in two places, no packet
    /// is lost, and replies leave in order.
    #[test]
    fn chunks_are_conserved(start in prop_oneof![Just(0), Just(u32::MAX - 9)], steps in steps()) {
        let (mut kernel, mut queues) = Kernel::with_queues(start);
        let (mut arrived, mut taken, mut replies) = (0, 0, Vec::new());
        // At the end, all rings are drained.
        let drain = (0..20).flat_map(|_| {
            [Step::PublishFill, Step::Turn(0), Step::Take(RING), Step::Complete(RING)]
        });
        for step in steps.into_iter().chain(drain) {
            match step {
                Step::Receive(most) => arrived += kernel.receive(most, 60 + arrived % 100) as usize as u32,
                Step::PublishFill => kernel.publish_fill(),
                Step::Take(most) => kernel.take(most),
                Step::Complete(most) => kernel.complete(most),
                Step::Turn(tenths) => {
                    taken += turn(&mut queues, tenths, |len| replies.push(len as u32)) as u32;
                }
            }
            prop_assert_eq!(count(&queues, Place::Fill), queues.filled as usize);
            prop_assert_eq!(count(&queues, Place::Held), 0);
            prop_assert_eq!(queues.stats.bad_descriptors, 0);
        }
        prop_assert_eq!(arrived, taken);
        prop_assert_eq!(replies, kernel.sent);
        prop_assert_eq!(count(&queues, Place::Fill), RING as usize);
        prop_assert_eq!(count(&queues, Place::Free), (CHUNKS - RING) as usize);
        prop_assert!(!queues.stuck());
    }

    /// Whatever a kernel stores in its counters and entries, each held chunk has one token, and
    /// nothing panics.
    #[test]
    fn a_kernel_that_lies_gets_no_chunk_twice(
        lies in prop::collection::vec(
            (0..5usize, prop_oneof![0..40u32, any::<u32>()], prop_oneof![
                (0..2 * u64::from(CHUNKS)).prop_map(|n| n * CHUNK as u64 + START),
                any::<u64>(),
            ], prop_oneof![0..100u32, any::<u32>()]),
            1..80,
        ),
    ) {
        let (kernel, mut queues) = Kernel::with_queues(0);
        let rings = &kernel.rings;
        let mut held = Vec::new();
        for (what, number, addr, len) in lies {
            match what {
                0 => rings.rx.store(RingCounter::Producer, number, Ordering::Relaxed),
                1 => rings.tx.store(RingCounter::Consumer, number, Ordering::Relaxed),
                2 => rings.fill.store(RingCounter::Consumer, number, Ordering::Relaxed),
                3 => rings.completion.store(RingCounter::Producer, number, Ordering::Relaxed),
                _ => {
                    Desc { addr, len, options: number }.write(&rings.rx, number);
                    addr.write(&rings.completion, number);
                }
            }
            held.extend(received(&mut queues));
            if number % 3 == 0 && let Some(frame) = held.pop() {
                queues.send(frame);
            }
            queues.reclaim();
            queues.transmit();
            queues.refill();
            prop_assert_eq!(count(&queues, Place::Held), held.len());
            let places = [Place::Free, Place::Fill, Place::Held, Place::Tx];
            prop_assert_eq!(places.map(|place| count(&queues, place)).iter().sum::<usize>(), CHUNKS as usize);
            prop_assert_eq!(count(&queues, Place::Free), queues.frames.free());
            for frame in &held {
                prop_assert!(queues.frames.packet(frame).len() <= CHUNK);
            }
        }
    }
}
