//! Producer and consumer of one AF_XDP ring.
//!
//! A ring is an array whose size is a power of two, and two free-running 32-bit counters: the
//! producer writes entries and then moves its counter, the consumer reads entries and then moves
//! its own. Each side caches both counters, and reads the other side's only if the cached one does
//! not suffice, since that read fetches a cache line that the other side writes.
//!
//! The kernel is the other side, and none of its values is trusted. An entry is read once, into
//! registers. A producer counter that is too far ahead yields at most one ring of entries, which
//! the ledger of frames then checks. A consumer counter outside the ring means that there is no
//! room. Entries are atomic words, so that a kernel that writes them while they are read causes
//! wrong values, not undefined behaviour.

use std::{marker::PhantomData, sync::atomic::Ordering};

/// `XDP_RING_NEED_WAKEUP` (Linux `include/uapi/linux/if_xdp.h`).
const NEED_WAKEUP: u32 = 1;

/// A 32-bit word beside a ring's entries.
#[derive(Clone, Copy, Debug)]
pub(super) enum RingCounter {
    /// Position that the producer writes next; written by the producer.
    Producer,
    /// Position that the consumer reads next; written by the consumer.
    Consumer,
    /// `XDP_RING_*`; written by the kernel.
    Flags,
}

/// Memory of a ring, shared with the other side. All of it is atomic; words of entries are relaxed.
pub(super) trait RingMemory {
    /// Number of entries: a power of two.
    fn size(&self) -> u32;
    fn load(&self, counter: RingCounter, order: Ordering) -> u32;
    fn store(&self, counter: RingCounter, value: u32, order: Ordering);
    /// Returns the word at `index` of the array of entries, modulo the number of its words.
    fn word(&self, index: u32) -> u64;
    fn set_word(&self, index: u32, word: u64);
}

/// An entry of a ring: one or two words.
pub(super) trait RingEntry: Copy {
    /// Number of words of an entry: a power of two.
    const WORDS: u32;
    fn read(memory: &impl RingMemory, position: u32) -> Self;
    fn write(self, memory: &impl RingMemory, position: u32);
}

/// Address within packet memory: an entry of the fill and the completion ring.
impl RingEntry for u64 {
    const WORDS: u32 = 1;

    #[inline(always)]
    fn read(memory: &impl RingMemory, position: u32) -> Self {
        memory.word(position)
    }

    #[inline(always)]
    fn write(self, memory: &impl RingMemory, position: u32) {
        memory.set_word(position, self);
    }
}

/// `struct xdp_desc`: an entry of the RX and the TX ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Desc {
    /// Address of the packet within packet memory.
    pub(super) addr: u64,
    /// Length of the packet.
    pub(super) len: u32,
    /// `XDP_PKT_CONTD`, `XDP_TX_METADATA`.
    pub(super) options: u32,
}

impl RingEntry for Desc {
    const WORDS: u32 = 2;

    #[inline(always)]
    fn read(memory: &impl RingMemory, position: u32) -> Self {
        let word = position.wrapping_mul(Self::WORDS);
        let addr = memory.word(word);
        // In memory, the length is before the options, whatever the byte order.
        let [a, b, c, d, e, f, g, h] = memory.word(word.wrapping_add(1)).to_ne_bytes();
        Desc { addr, len: u32::from_ne_bytes([a, b, c, d]), options: u32::from_ne_bytes([e, f, g, h]) }
    }

    #[inline(always)]
    fn write(self, memory: &impl RingMemory, position: u32) {
        let word = position.wrapping_mul(Self::WORDS);
        let ([a, b, c, d], [e, f, g, h]) = (self.len.to_ne_bytes(), self.options.to_ne_bytes());
        memory.set_word(word, self.addr);
        memory.set_word(word.wrapping_add(1), u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
    }
}

/// Side of a ring that writes entries.
pub(super) struct Producer<M, T> {
    memory: M,
    size: u32,
    /// Position of the next entry to write.
    head: u32,
    /// Consumer's position when it was last loaded.
    tail: u32,
    entries: PhantomData<T>,
}

impl<M: RingMemory, T: RingEntry> Producer<M, T> {
    /// Creates the producer of a ring that nobody else produces on.
    pub(super) fn new(memory: M) -> Self {
        let size = memory.size();
        let head = memory.load(RingCounter::Producer, Ordering::Relaxed);
        let tail = memory.load(RingCounter::Consumer, Ordering::Acquire);
        Producer { memory, size, head, tail, entries: PhantomData }
    }

    /// Writes entries while there is room, at most `most` and as many as `entries` has, publishes
    /// them to the consumer, and returns their number. Takes no entry from the iterator that it
    /// does not write.
    #[inline]
    pub(super) fn produce(&mut self, most: u32, entries: impl Iterator<Item = T>) -> u32 {
        let room = self.room(most);
        let mut count = 0;
        for entry in entries.take(room as usize) {
            entry.write(&self.memory, self.head.wrapping_add(count));
            count += 1;
        }
        if count > 0 {
            self.head = self.head.wrapping_add(count);
            // Release: whoever sees the new counter sees the entries before it.
            self.memory.store(RingCounter::Producer, self.head, Ordering::Release);
        }
        count
    }

    /// Returns the number of entries that there is room for, at most `most`.
    #[inline]
    fn room(&mut self, most: u32) -> u32 {
        if self.known_room() < most {
            // Acquire: the consumer's reads are complete before we overwrite these entries.
            self.tail = self.memory.load(RingCounter::Consumer, Ordering::Acquire);
        }
        self.known_room().min(most)
    }

    #[inline]
    fn known_room(&self) -> u32 {
        // If the consumer claims to be ahead of us, or further behind than the ring is long, there
        // is no room.
        self.size.saturating_sub(self.head.wrapping_sub(self.tail))
    }

    /// Returns the number of entries that the consumer has not read yet.
    #[inline]
    pub(super) fn unread(&self) -> u32 {
        self.head.wrapping_sub(self.memory.load(RingCounter::Consumer, Ordering::Relaxed)).min(self.size)
    }

    /// Whether the kernel asks for a system call before it reads on.
    #[inline]
    pub(super) fn needs_wakeup(&self) -> bool {
        self.memory.load(RingCounter::Flags, Ordering::Relaxed) & NEED_WAKEUP != 0
    }
}

/// Side of a ring that reads entries.
pub(super) struct Consumer<M, T> {
    memory: M,
    size: u32,
    /// Producer's position when it was last loaded.
    head: u32,
    /// Position of the next entry to read.
    tail: u32,
    entries: PhantomData<T>,
}

impl<M: RingMemory, T: RingEntry> Consumer<M, T> {
    /// Creates the consumer of a ring that nobody else consumes from.
    pub(super) fn new(memory: M) -> Self {
        let size = memory.size();
        let tail = memory.load(RingCounter::Consumer, Ordering::Relaxed);
        Consumer { memory, size, head: tail, tail, entries: PhantomData }
    }

    /// Reads up to `most` entries, passes each to `each`, gives their places back to the producer,
    /// and returns their number.
    #[inline]
    pub(super) fn consume(&mut self, most: u32, mut each: impl FnMut(T)) -> u32 {
        let count = self.available(most);
        for nth in 0..count {
            each(T::read(&self.memory, self.tail.wrapping_add(nth)));
        }
        if count > 0 {
            self.tail = self.tail.wrapping_add(count);
            // Release: the producer overwrites these places only after we have read them.
            self.memory.store(RingCounter::Consumer, self.tail, Ordering::Release);
        }
        count
    }

    /// Returns the number of entries to read, at most `most`.
    #[inline]
    fn available(&mut self, most: u32) -> u32 {
        if self.head.wrapping_sub(self.tail) < most {
            // Acquire: the entries before the counter are visible.
            self.head = self.memory.load(RingCounter::Producer, Ordering::Acquire);
        }
        // A ring never holds more than its size, whatever the producer claims.
        self.head.wrapping_sub(self.tail).min(self.size).min(most)
    }
}

#[cfg(test)]
pub(super) mod testing {
    //! A ring over ordinary memory, with both sides accessible to a test.

    use super::*;
    #[cfg(loom)]
    use loom::sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64},
    };
    #[cfg(not(loom))]
    use std::sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64},
    };

    struct RingShared {
        counters: [AtomicU32; 3],
        words: Box<[AtomicU64]>,
        size: u32,
    }

    /// Ring memory that both sides hold.
    #[derive(Clone)]
    pub(in crate::port::xsk) struct PlainMemory(Arc<RingShared>);

    impl PlainMemory {
        /// An empty ring whose counters begin at `start`.
        pub(in crate::port::xsk) fn new(size: u32, words: u32, start: u32) -> PlainMemory {
            PlainMemory(Arc::new(RingShared {
                counters: [start, start, 0].map(AtomicU32::new),
                words: (0..size * words).map(|_| AtomicU64::new(u64::MAX)).collect(),
                size,
            }))
        }
    }

    impl RingMemory for PlainMemory {
        fn size(&self) -> u32 {
            self.0.size
        }

        fn load(&self, counter: RingCounter, order: Ordering) -> u32 {
            self.0.counters[counter as usize].load(order)
        }

        fn store(&self, counter: RingCounter, value: u32, order: Ordering) {
            self.0.counters[counter as usize].store(value, order);
        }

        fn word(&self, index: u32) -> u64 {
            self.0.words[index as usize % self.0.words.len()].load(Ordering::Relaxed)
        }

        fn set_word(&self, index: u32, word: u64) {
            self.0.words[index as usize % self.0.words.len()].store(word, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests {
    use super::{testing::PlainMemory, *};

    /// Over a ring of two entries, so that places are used again, every entry arrives once, whole and in order.
    #[test]
    fn loom_entries_arrive_whole_and_in_order() {
        loom::model(|| {
            let memory = PlainMemory::new(2, Desc::WORDS, u32::MAX);
            let mut producer = Producer::<_, Desc>::new(memory.clone());
            let mut consumer = Consumer::<_, Desc>::new(memory);
            let desc = |n: u32| Desc { addr: u64::from(n), len: n, options: n };
            let writer = loom::thread::spawn(move || {
                let mut sent = 0;
                while sent < 3 {
                    let count = producer.produce(3 - sent, (sent..).map(desc));
                    if count == 0 {
                        loom::thread::yield_now();
                    }
                    sent += count;
                }
            });
            let mut seen = 0;
            while seen < 3 {
                let mut expected = seen;
                let count = consumer.consume(2, |entry| {
                    assert_eq!(entry, desc(expected));
                    expected += 1;
                });
                if count == 0 {
                    loom::thread::yield_now();
                }
                seen += count;
            }
            writer.join().unwrap();
        });
    }
}
