//! Backlog of items that a ring had no room for.

/// Queue that can be read as one slice, the oldest item first. It never allocates after its
/// creation: its capacity is the number of chunks.
pub(super) struct Backlog<T> {
    items: Vec<T>,
    head: usize,
}

impl<T> Backlog<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Backlog { items: Vec::with_capacity(capacity), head: 0 }
    }

    #[inline]
    pub(super) fn push(&mut self, item: T) {
        if self.items.len() == self.items.capacity() {
            // Each chunk is in here at most once, so the other entries have been taken already.
            self.items.drain(..self.head);
            self.head = 0;
        }
        self.items.push(item);
    }

    #[inline]
    pub(super) fn waiting(&self) -> &[T] {
        &self.items[self.head..]
    }

    #[inline]
    pub(super) fn advance(&mut self, count: usize) {
        self.head += count;
        if self.head == self.items.len() {
            self.items.clear();
            self.head = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn keeps_order_and_memory(steps in prop::collection::vec((0..9usize, 0..9usize), 1..60)) {
            const CAPACITY: usize = 16;
            let mut backlog = Backlog::new(CAPACITY);
            let memory = (backlog.items.as_ptr(), backlog.items.capacity());
            let mut model = VecDeque::new();
            let mut next = 0;
            for (pushed, taken) in steps {
                for _ in 0..pushed.min(CAPACITY - model.len()) {
                    backlog.push(next);
                    model.push_back(next);
                    next += 1;
                }
                let taken = taken.min(model.len());
                backlog.advance(taken);
                model.drain(..taken);
                prop_assert_eq!(backlog.waiting(), model.make_contiguous());
                prop_assert_eq!((backlog.items.as_ptr(), backlog.items.capacity()), memory);
            }
        }
    }
}
