//! Third step of a lookup at a glance.

use super::{
    Cache, Filed,
    entry::{EntryHeader, Found},
    filing::Note,
    position,
};
use crate::{
    cache::Ref,
    clock::Secs,
    dns::reply::Age,
    group::Group,
    simd::{BLOCK, Block, Simd},
};

/// Entry that a glance has found, though it is not a fresh one that all clients get.
#[derive(Clone, Copy, Debug)]
pub struct Special<'a> {
    /// The answer.
    pub found: Found<'a>,
    /// Note of the entry, if it has one, and the group of the client that asks.
    pub note: Option<(Note, Group)>,
    /// Age of the answer.
    pub age: Age,
}

/// Question that a glance compares with that of an entry.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// First block of the question, as in a key.
    pub block: &'a Block,
    /// Further blocks of the question; there may be more than it needs.
    pub beyond: &'a [Block],
    /// Length of the question in bytes.
    pub len: usize,
}

/// Conditions under which an entry answers a query.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Flags and generation that the entry must be filed under.
    pub filed: Filed,
    /// The time.
    pub now: Secs,
    /// TTL of an expired answer in seconds; `None`: an expired entry answers nothing.
    pub stale_ttl: Option<u32>,
}

impl Question<'_> {
    /// Whether the question is that of the entry.
    #[inline(always)]
    fn is_of<S: Simd>(&self, simd: S, header: &EntryHeader, stored: &[u8]) -> bool {
        if header.question_len() != self.len {
            return false;
        }
        let (stored, _) = stored.as_chunks::<BLOCK>();
        let Some((first, stored)) = stored.split_first() else { return false };
        if !simd.same(self.block, first, self.len.min(BLOCK)) {
            return false;
        }
        if self.len <= BLOCK {
            return true;
        }
        let mut left = self.len - BLOCK;
        for (block, have) in self.beyond.iter().zip(stored) {
            if left == 0 {
                return true;
            }
            if !simd.same(block, have, left.min(BLOCK)) {
                return false;
            }
            left = left.saturating_sub(BLOCK);
        }
        left == 0
    }
}

impl Cache {
    /// Returns the answer if the candidate is the right entry, fresh, and for all clients, as nearly all
    /// are. Counts the request. `None` decides nothing yet: [`lookup`](Self::lookup) does.
    ///
    /// `block` is a key's first [block](crate::dns::key::Key::blocks), `len` the number of its bytes that
    /// are part of the question, and `beyond` its second block in the same manner.
    #[inline(always)]
    pub fn get_fresh<S: Simd>(
        &mut self,
        simd: S,
        candidate: Ref,
        filed: Filed,
        (block, len): (&Block, usize),
        beyond: (&Block, usize),
        now: Secs,
    ) -> Option<Found<'_>> {
        let (header, body) = EntryHeader::at_mut(self.slab.bytes_mut(), position(candidate));
        let have = body.first_chunk::<BLOCK>().unwrap_or(&[0; BLOCK]);
        if header.filed() != filed || !simd.same(have, block, len) || now >= header.glance() {
            return None;
        }
        let (beyond, beyond_len) = beyond;
        if beyond_len != 0
            && !simd.same(body[BLOCK..].first_chunk().unwrap_or(&[0; BLOCK]), beyond, beyond_len)
        {
            return None;
        }
        header.touch();
        Some(Found::new(header, body, len + beyond_len))
    }

    /// Returns the answer, whatever its age and its clients, if the candidate is the right entry, is not
    /// due for renewal, and is for the client's group, which is asked for only if that matters. Counts
    /// the request. `None` decides nothing yet: [`lookup`](Self::lookup) does.
    #[inline(always)]
    pub fn get_special<S: Simd>(
        &mut self,
        simd: S,
        candidate: Ref,
        question: &Question<'_>,
        terms: Terms,
        group: impl FnOnce() -> Group,
    ) -> Option<Special<'_>> {
        let Terms { filed, now, stale_ttl } = terms;
        let (header, body) = EntryHeader::at_mut(self.slab.bytes_mut(), position(candidate));
        if header.filed().noted(false) != filed || !question.is_of(simd, header, body) {
            return None;
        }
        let age = if now < header.glance() {
            // No entry is received later than the time of the clock that asks: see `Cache::insert`.
            Age::Fresh(now.wrapping_sub(header.received()))
        } else if now >= header.expires() && now < header.dead() && !header.is_refresh_due(now) {
            Age::Stale(stale_ttl?)
        } else {
            return None;
        };
        let mut note = None;
        if header.filed().is_noted() {
            let (found, group) = (header.note(body), group());
            if !found.groups.has(group) {
                return None;
            }
            note = Some((found, group));
        }
        header.touch();
        Some(Special { found: Found::of(header, body), note, age })
    }
}
