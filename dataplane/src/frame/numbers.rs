//! Numbers of chunks. No two chunks in the process have the same one, nor does a chunk have the
//! number of a frame that outlived its port.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Numbers that a port's chunks have: `first` and those that follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    first: u32,
    count: u32,
}

/// Numbers of the process.
struct Ledger {
    /// First number that was never taken.
    next: u32,
    /// Numbers that were given back.
    spare: Vec<Numbers>,
}

static LEDGER: Mutex<Ledger> = Mutex::new(Ledger { next: 0, spare: Vec::new() });

fn ledger() -> MutexGuard<'static, Ledger> {
    LEDGER.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Numbers {
    /// Takes `count` numbers. It fails if there are too few in 32 bits, which only frames that are
    /// lost with their ports, or ports of ever other sizes, can bring about.
    pub fn take(count: u32) -> io::Result<Self> {
        ledger()
            .take(count)
            .ok_or_else(|| io::Error::other("all numbers of packet chunks are in use: restart the process"))
    }

    /// Gives the numbers back. No frame may have one.
    pub fn give_back(self) {
        ledger().spare.push(self);
    }

    /// Returns the number of a chunk.
    #[inline(always)]
    pub fn of(self, index: u32) -> u32 {
        self.first.wrapping_add(index)
    }

    /// Returns the index of the chunk with a number, or nonsense if it is a chunk of another port.
    #[inline(always)]
    pub fn unchecked_index(self, number: u32) -> u32 {
        number.wrapping_sub(self.first)
    }

    /// Returns the index of the chunk with a number. Panics if it is a chunk of another port.
    #[inline(always)]
    pub fn index(self, number: u32) -> u32 {
        let index = self.unchecked_index(number);
        assert!(index < self.count, "a frame of another port");
        index
    }
}

impl Ledger {
    fn take(&mut self, count: u32) -> Option<Numbers> {
        if let Some(at) = self.spare.iter().position(|numbers| numbers.count == count) {
            return Some(self.spare.swap_remove(at));
        }
        let first = self.next;
        self.next = first.checked_add(count)?;
        Some(Numbers { first, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_once_until_they_are_given_back() {
        let mut ledger = Ledger { next: 0, spare: Vec::new() };
        let (one, two) = (ledger.take(16).unwrap(), ledger.take(16).unwrap());
        assert_eq!((one.first, two.first), (0, 16));
        assert_eq!((two.of(3), two.index(19)), (19, 3));
        ledger.spare.push(one);
        assert_eq!(ledger.take(8).unwrap().first, 32, "numbers of another count are not split");
        assert_eq!(ledger.take(16), Some(one));
        assert_eq!(ledger.take(16).unwrap().first, 40);
        assert_eq!(ledger.take(u32::MAX), None);
    }

    #[test]
    #[should_panic(expected = "a frame of another port")]
    fn the_last_number_is_the_end() {
        Numbers { first: 16, count: 16 }.index(32);
    }
}
