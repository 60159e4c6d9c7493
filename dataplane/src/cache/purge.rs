//! Purges of a cache.

use super::{Cache, Ref, entry::EntryHeader, filings::Filings, position, ring::Ring};
use crate::purge::Purge;
use std::sync::Arc;

/// Part of its bookkeeping of purges, in percent, beyond which a cache is [behind](Cache::is_behind).
const BEHIND_PERCENT: usize = 25;

impl Cache {
    /// Makes all entries unusable that a purge covers. Lookups, the sweep and new entries remove
    /// them as they reach them. The cache starts over if there were too many purges since the last
    /// sweep.
    pub fn purge(&mut self, purges: impl IntoIterator<Item = Arc<Purge>>) {
        if !self.filings.begin(purges) {
            self.filings = Filings::new();
            self.index.clear();
            self.probation = Ring::new(self.probation.capacity());
            self.protected = Ring::new(self.protected.capacity());
            self.churn.expired += self.entries;
            (self.entries, self.removed) = (0, 0);
        }
    }

    /// Whether there were so many purges since the last sweep that it should hurry.
    pub fn is_behind(&mut self) -> bool {
        self.filings.used_percent() > BEHIND_PERCENT
    }

    /// Files an entry under the current generation. Returns false if a purge covers it.
    #[inline]
    pub(super) fn refile(&mut self, entry: Ref) -> bool {
        let (header, _) = EntryHeader::at(self.slab.bytes(), position(entry));
        header.generation() == self.filings.current || self.refile_older(entry)
    }

    /// Files an entry of an older generation under the current one. Returns false if a purge covers
    /// it.
    #[cold]
    pub(super) fn refile_older(&mut self, entry: Ref) -> bool {
        let (header, body) = EntryHeader::at_mut(self.slab.bytes_mut(), position(entry));
        let generation = header.generation();
        if self.filings.is_void(header.asked(body), generation) {
            return false;
        }
        self.filings.remove(generation);
        self.filings.add();
        header.set_generation(self.filings.current);
        true
    }
}
