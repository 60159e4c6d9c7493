//! Generations of the entries of one cache, and the purges that separate them.
//!
//! A purge begins a generation, so that every entry is of an older one and a glance passes it by.
//! The first closer look at an entry, or the sweep, compares it with the purges since: it is void,
//! or filed anew under the current generation. So a purge takes no walk.

use crate::{dns::key::Asked, purge::Purge};
use std::{collections::VecDeque, sync::Arc};

/// Number of generations that can be told apart.
const NUMBERS: usize = 1 << 8;

/// Most purges that entries are compared with. Beyond, the cache starts over.
const PURGES_MAX: usize = 512;

/// Generations of which entries are left.
pub struct Filings {
    /// Current generation. It wraps.
    pub current: u8,
    /// Oldest generation that may have entries.
    oldest: u8,
    /// Number of entries of each generation.
    entries: Box<[u64; NUMBERS]>,
    /// Purges, with the generations that they began, oldest first.
    purges: VecDeque<(u8, Arc<Purge>)>,
}

impl Filings {
    /// Returns the filings of an empty cache.
    pub fn new() -> Self {
        Filings { current: 0, oldest: 0, entries: Box::new([0; NUMBERS]), purges: VecDeque::new() }
    }

    /// Notes a new entry of the current generation.
    pub fn add(&mut self) {
        self.entries[usize::from(self.current)] += 1;
    }

    /// Notes that an entry of `generation` is gone.
    pub fn remove(&mut self, generation: u8) {
        self.entries[usize::from(generation)] -= 1;
    }

    /// Whether a purge covers the answer to a question that was filed under `generation`. A plain
    /// answer is one that lists can have decided about by the question alone.
    pub fn is_void(&self, asked: Asked<'_>, is_plain: bool, generation: u8) -> bool {
        let age = self.age(generation);
        let since = self.purges.iter().rev().take_while(|(began, _)| self.age(*began) < age);
        let covers = |purge: &Purge| if is_plain { purge.covers_plain(asked) } else { purge.covers(asked) };
        age > 0 && since.into_iter().any(|(_, purge)| covers(purge))
    }

    /// Begins a generation with purges. Returns false if that cannot be told from older ones: then
    /// the cache must start over.
    #[must_use]
    pub fn begin(&mut self, purges: impl IntoIterator<Item = Arc<Purge>>) -> bool {
        self.forget();
        if self.current.wrapping_add(1) == self.oldest {
            return false;
        }
        self.current = self.current.wrapping_add(1);
        for purge in purges {
            if matches!(*purge, Purge::All | Purge::Verdicts) {
                self.purges.clear();
            }
            // The host tier tells of each purge twice.
            self.purges.retain(|(_, known)| !Arc::ptr_eq(known, &purge));
            self.purges.push_back((self.current, purge));
        }
        self.purges.len() <= PURGES_MAX
    }

    /// Returns the part of all generations that are in use, in percent.
    pub fn used_percent(&mut self) -> usize {
        self.forget();
        let purges = self.purges.len() * 100 / PURGES_MAX;
        purges.max(usize::from(self.age(self.oldest)) * 100 / NUMBERS)
    }

    /// Forgets the purges that no entry is older than.
    fn forget(&mut self) {
        while self.oldest != self.current && self.entries[usize::from(self.oldest)] == 0 {
            self.oldest = self.oldest.wrapping_add(1);
        }
        let oldest = self.age(self.oldest);
        while self.purges.front().is_some_and(|(began, _)| self.age(*began) >= oldest) {
            self.purges.pop_front();
        }
    }

    /// Returns the number of generations since.
    fn age(&self, generation: u8) -> u8 {
        self.current.wrapping_sub(generation)
    }
}
