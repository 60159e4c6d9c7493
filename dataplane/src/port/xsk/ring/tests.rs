use super::{testing::PlainMemory, *};
use proptest::prelude::*;
use std::collections::VecDeque;

fn desc(n: u64) -> Desc {
    Desc { addr: n, len: n as u32 ^ 0x5555, options: !(n as u32) }
}

fn sides<T: RingEntry>(
    size: u32,
    start: u32,
) -> (PlainMemory, Producer<PlainMemory, T>, Consumer<PlainMemory, T>) {
    let memory = PlainMemory::new(size, T::WORDS, start);
    (memory.clone(), Producer::new(memory.clone()), Consumer::new(memory))
}

fn all<T: RingEntry>(consumer: &mut Consumer<PlainMemory, T>, most: u32) -> Vec<T> {
    let mut entries = Vec::new();
    let count = consumer.consume(most, |entry| entries.push(entry));
    assert_eq!(count as usize, entries.len());
    entries
}

#[test]
fn a_descriptor_has_the_kernels_layout() {
    let (memory, mut producer, _) = sides::<Desc>(2, 0);
    producer.produce(1, [Desc { addr: 7, len: 0x0102_0304, options: 0x0a0b_0c0d }].into_iter());
    assert_eq!(memory.word(0), 7);
    let mut bytes = Vec::from(0x0102_0304_u32.to_ne_bytes());
    bytes.extend(0x0a0b_0c0d_u32.to_ne_bytes());
    assert_eq!(memory.word(1).to_ne_bytes(), bytes[..]);
}

#[test]
fn an_entry_for_which_there_is_no_room_stays_with_its_iterator() {
    let (_, mut producer, mut consumer) = sides::<u64>(4, u32::MAX - 1);
    let mut entries = 0..9;
    assert_eq!(producer.produce(9, entries.by_ref()), 4);
    assert_eq!(producer.produce(9, entries.by_ref()), 0);
    assert_eq!(producer.unread(), 4);
    assert_eq!(all(&mut consumer, 3), [0, 1, 2]);
    assert_eq!(producer.unread(), 1);
    assert_eq!(producer.produce(9, entries.by_ref()), 3);
    assert_eq!(all(&mut consumer, 9), [3, 4, 5, 6]);
    assert_eq!(entries, 7..9);
}

#[test]
fn the_kernel_asks_for_a_wakeup_by_one_flag() {
    let (memory, producer, _) = sides::<u64>(4, 0);
    assert!(!producer.needs_wakeup());
    memory.store(RingCounter::Flags, NEED_WAKEUP, Ordering::Relaxed);
    assert!(producer.needs_wakeup());
    memory.store(RingCounter::Flags, !NEED_WAKEUP, Ordering::Relaxed);
    assert!(!producer.needs_wakeup());
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(
        start in prop_oneof![Just(0), Just(u32::MAX), any::<u32>()],
        steps in prop::collection::vec((0..12u32, 0..12u32), 1..80),
    ) {
        let (_, mut producer, mut consumer) = sides::<Desc>(8, start);
        let mut model = VecDeque::new();
        let mut next = 0;
        for (offered, most) in steps {
            let count = producer.produce(offered, (next..).map(desc));
            prop_assert_eq!(count as usize, (offered as usize).min(8 - model.len()));
            model.extend((next..).take(count as usize).map(desc));
            next += u64::from(count);
            let taken = (most as usize).min(model.len());
            prop_assert_eq!(all(&mut consumer, most), model.drain(..taken).collect::<Vec<_>>());
            prop_assert_eq!(producer.unread() as usize, model.len());
        }
    }

    /// Whatever the other side stores in its counter, a producer never reports that it wrote more
    /// than the ring holds.
    #[test]
    fn a_consumer_that_lies_gains_no_room(
        start: u32,
        lies in prop::collection::vec((any::<u32>(), 0..20u32), 1..40),
    ) {
        let (memory, mut producer, _) = sides::<u64>(8, start);
        for (lie, offered) in lies {
            let before = memory.load(RingCounter::Producer, Ordering::Relaxed);
            memory.store(RingCounter::Consumer, lie, Ordering::Relaxed);
            let count = producer.produce(offered, 0..);
            prop_assert!(count <= offered.min(8));
            prop_assert!(producer.unread() <= 8);
            prop_assert_eq!(memory.load(RingCounter::Producer, Ordering::Relaxed), before.wrapping_add(count));
        }
    }

    /// Whatever the other side stores in its counter, a consumer reads at most one ring, and
    /// reports the number read correctly.
    #[test]
    fn a_producer_that_lies_gives_one_ring_at_most(
        start: u32,
        lies in prop::collection::vec((any::<u32>(), 0..20u32), 1..40),
    ) {
        let (memory, _, mut consumer) = sides::<Desc>(8, start);
        for (lie, most) in lies {
            let before = memory.load(RingCounter::Consumer, Ordering::Relaxed);
            memory.store(RingCounter::Producer, lie, Ordering::Relaxed);
            let count = all(&mut consumer, most).len() as u32;
            prop_assert!(count <= most.min(8));
            prop_assert_eq!(memory.load(RingCounter::Consumer, Ordering::Relaxed), before.wrapping_add(count));
        }
    }
}
