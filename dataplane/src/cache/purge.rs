//! Purges of a cache.

use super::{
    Cache, Ref,
    entry::{Body, EntryHeader},
    filings::Filings,
    position,
    ring::Ring,
};
use crate::{
    dns::{header, rtype},
    purge::Purge,
};
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
        if self.filings.is_void(header.asked(body), is_plain(header, body), generation) {
            return false;
        }
        self.filings.remove(generation);
        self.filings.add();
        header.set_generation(self.filings.current);
        true
    }
}

/// Whether lists can have decided about the answer by its question alone: it is no list's, nor one in
/// place of another, and it has no name beside that of the question that lists decide about, as
/// aliases are. An answer without records may have had some.
#[cold]
pub(super) fn is_plain(header: &EntryHeader, body: &Body) -> bool {
    let (view, list) = header.view(body);
    let before = header::LEN + header.asked(body).question.len();
    let may_lead = |ttl: &[u8; 2]| {
        let at = usize::from(u16::from_le_bytes(*ttl)).wrapping_sub(before);
        // The type is four bytes in front of the TTL.
        let rtype = at.checked_sub(4).and_then(|start| view.wire.get(start..)?.first_chunk());
        rtype.is_none_or(|rtype| {
            matches!(u16::from_be_bytes(*rtype), rtype::CNAME | rtype::SVCB | rtype::HTTPS)
        })
    };
    list.is_none() && view.ede.is_none() && !view.ttls.is_empty() && !view.ttls.iter().any(may_lead)
}
