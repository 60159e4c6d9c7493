//! The bookkeeping of a byte ring: what is written at its head leaves at its tail, in order.
//!
//! A ring knows where entries may be placed, not what they are. An entry is never split: where the end of the
//! slab is too near, it starts over at the front and the rest stays unused for a round.

/// Sizes and positions are multiples of this many bytes.
pub const UNIT: usize = 8;

/// A ring over bytes `0..capacity` of a slab.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    capacity: usize,
    /// Where the next entry goes.
    head: usize,
    /// The oldest entry.
    tail: usize,
    /// Where the upper part ends while the ring is wrapped: then the entries are `tail..end` and `0..head`.
    end: Option<usize>,
    used: usize,
    cursor: usize,
}

impl Ring {
    /// An empty ring.
    pub fn new(capacity: usize) -> Self {
        Ring { capacity: capacity / UNIT * UNIT, head: 0, tail: 0, end: None, used: 0, cursor: 0 }
    }

    /// Bytes that entries take up.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Bytes in all.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Where an entry of `size` bytes would go, if there is room.
    fn place(&self, size: usize) -> Option<usize> {
        match self.end {
            Some(_) => (self.tail - self.head >= size).then_some(self.head),
            None if self.capacity - self.head >= size => Some(self.head),
            None => (self.tail >= size).then_some(0),
        }
    }

    /// Takes `size` bytes at the head; `None` if the tail must go first.
    ///
    /// After a [`pop`](Ring::pop) of the same size this always succeeds, so that an entry can move from tail to head.
    pub fn push(&mut self, size: usize) -> Option<usize> {
        let at = self.place(size)?;
        if at == 0 && self.head != 0 && self.end.is_none() {
            self.end = Some(self.head);
        }
        self.head = at + size;
        self.used += size;
        Some(at)
    }

    /// The oldest entry's position.
    pub fn tail(&self) -> Option<usize> {
        (self.used > 0).then_some(self.tail)
    }

    /// Frees the oldest entry, which takes `size` bytes.
    pub fn pop(&mut self, size: usize) {
        debug_assert!(size <= self.used, "popped more than was pushed");
        let next = self.after(self.tail, size);
        if self.cursor == self.tail {
            self.cursor = next;
        }
        if self.end == Some(self.tail + size) {
            self.end = None;
        }
        self.tail = next;
        self.used -= size;
        if self.used == 0 {
            (self.head, self.tail, self.cursor, self.end) = (0, 0, 0, None);
        }
    }

    /// The entry that the sweep looks at next, if there is any.
    pub fn cursor(&self) -> Option<usize> {
        (self.used > 0).then_some(self.cursor)
    }

    /// Moves the sweep past its entry, which takes `size` bytes; after the newest it starts over at the oldest.
    pub fn advance(&mut self, size: usize) {
        let wrapped = self.end.is_some();
        let low = self.cursor < self.head;
        self.cursor = self.after(self.cursor, size);
        // In a wrapped ring that is full, head and tail are one place, and the cursor may stand there for either.
        if self.cursor == self.head && (low || !wrapped) {
            self.cursor = self.tail;
        }
    }

    fn after(&self, at: usize, size: usize) -> usize {
        let next = at + size;
        if self.end == Some(next) { 0 } else { next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// Against a plain queue: entries never overlap, leave in order, the cursor stands on one of them, and
        /// what was popped can be pushed again.
        #[test]
        fn behaves_like_a_queue(sizes in prop::collection::vec(2usize..20, 1..400), moves in any::<u64>()) {
            let mut ring = Ring::new(1000);
            let mut model: VecDeque<(usize, usize)> = VecDeque::new();
            for (step, units) in sizes.into_iter().enumerate() {
                let size = units * UNIT;
                let at = loop {
                    if let Some(at) = ring.push(size) {
                        break at;
                    }
                    let (at, size) = model.pop_front().expect("an empty ring has room");
                    prop_assert_eq!(ring.tail(), Some(at));
                    ring.pop(size);
                    if moves >> (step % 64) & 1 == 1 && step % 3 == 0 && !model.is_empty() {
                        let at = ring.push(size).expect("what was popped fits again");
                        model.push_back((at, size));
                        // Then the next one goes for good, so that this ends.
                        let (at, size) = model.pop_front().unwrap();
                        prop_assert_eq!(ring.tail(), Some(at));
                        ring.pop(size);
                    }
                };
                prop_assert!(at + size <= ring.capacity());
                for (other, len) in &model {
                    prop_assert!(at + size <= *other || other + len <= at, "{at}+{size} overlaps {other}+{len}");
                }
                model.push_back((at, size));
                let cursor = ring.cursor().unwrap();
                let (_, under) = *model.iter().find(|(at, _)| *at == cursor).expect("the cursor is on an entry");
                ring.advance(under);
                let cursor = ring.cursor().unwrap();
                prop_assert!(model.iter().any(|(at, _)| *at == cursor), "cursor {cursor} left the entries");
                prop_assert_eq!(ring.used(), model.iter().map(|(_, size)| size).sum::<usize>());
            }
        }
    }
}
