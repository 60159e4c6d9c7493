//! Bookkeeping of a byte ring: entries written at its head leave at its tail, in order.
//!
//! A ring knows where entries may be placed, not what they contain. An entry is never split: if the
//! end of the slab is too near, the ring starts over at the front, and the rest stays unused for
//! one round.

/// Unit of sizes and positions, in bytes.
pub const UNIT: usize = 4;

/// Ring over the bytes `0..capacity` of a slab.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    capacity: usize,
    /// Position of the next entry.
    head: usize,
    /// Position of the oldest entry.
    tail: usize,
    /// End of the upper part while the ring is wrapped: then the entries are in `tail..end` and
    /// `0..head`.
    end: Option<usize>,
    used: usize,
    cursor: usize,
}

impl Ring {
    /// Creates an empty ring.
    pub fn new(capacity: usize) -> Self {
        Ring { capacity: capacity / UNIT * UNIT, head: 0, tail: 0, end: None, used: 0, cursor: 0 }
    }

    /// Returns the number of bytes that entries take.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Returns the size of the ring in bytes.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Returns the position for an entry of `size` bytes, if there is room.
    fn place(&self, size: usize) -> Option<usize> {
        match self.end {
            Some(_) => (self.tail - self.head >= size).then_some(self.head),
            None if self.capacity - self.head >= size => Some(self.head),
            None => (self.tail >= size).then_some(0),
        }
    }

    /// Takes `size` bytes at the head. Returns `None` if the tail must be freed first.
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

    /// Returns the position of the oldest entry.
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

    /// Returns the position of the entry that the sweep looks at next, if there is one.
    pub fn cursor(&self) -> Option<usize> {
        (self.used > 0).then_some(self.cursor)
    }

    /// Moves the sweep past its entry, which takes `size` bytes; after the newest it starts over at the oldest.
    pub fn advance(&mut self, size: usize) {
        let wrapped = self.end.is_some();
        let low = self.cursor < self.head;
        self.cursor = self.after(self.cursor, size);
        // In a full wrapped ring, head and tail are at the same position, and the cursor there may
        // mean either.
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
        /// Compares with a plain queue: entries never overlap, they leave in order, the cursor is
        /// always on one of them, and a popped entry can be pushed again.
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
