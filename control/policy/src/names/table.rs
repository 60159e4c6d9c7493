//! Compact immutable table of names that rules without conditions are about.

use super::{
    filter::Filter,
    hash::{FINGERPRINT_BITS, Path},
};

/// Parts of a table, by the first bits of fingerprints. They bound the memory that building needs
/// beside the table itself, and let positions fit into 16 bits.
const PARTS: usize = 256;

/// Bits of an entry that hold its mark.
const MARK_BITS: u32 = 64 - FINGERPRINT_BITS;

/// Mean entries between two positions of the index.
const STRIDE: usize = 4;

/// Entries that a look-up compares at once, a cache line of them.
const WINDOW: usize = 8;

/// Part of the names that a rule is about, in relation to the name that it is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// The name itself.
    Exact,
    /// The name and all names below it.
    Suffix,
    /// All names below the name.
    Below,
}

/// Effect of a rule in a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sign {
    /// No rule.
    #[default]
    None,
    /// The name is blocked.
    Block,
    /// The name is not blocked, whatever else blocks it.
    Allow,
}

/// Rules about one name: for itself, and for the names below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Effect on the name itself.
    pub itself: Sign,
    /// Effect on names below it.
    pub below: Sign,
}

/// Deepest rules of a table that apply to a name, as numbers of labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Rule that blocks.
    pub block: Option<(u8, Reach)>,
    /// Rule that allows.
    pub allow: Option<(u8, Reach)>,
}

/// Compact immutable table of names with marks.
///
/// An entry is one word: a fingerprint of 61 bits and a mark of three. Entries are sorted, in parts
/// by their first eight bits. An index has the position of every fourth entry on average, so that a
/// look-up reads one position and then usually one or two cache lines.
#[derive(Clone, Debug, Default)]
pub struct Table {
    filter: Filter,
    parts: Box<[Part]>,
    /// Numbers of labels that the names have, as bits.
    depths: u128,
    names: usize,
}

#[derive(Clone, Debug, Default)]
struct Part {
    entries: Box<[u64]>,
    /// Position of the first entry of each bucket.
    starts: Box<[u16]>,
}

/// Names on their way into a [`Table`].
#[derive(Debug, Default)]
pub struct TableBuilder {
    parts: Vec<Vec<u64>>,
    depths: u128,
}

/// Error about a table that has no room for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Mark {
    /// Returns the mark of one rule.
    pub fn new(reach: Reach, sign: Sign) -> Self {
        match reach {
            Reach::Exact => Mark { itself: sign, below: Sign::None },
            Reach::Suffix => Mark { itself: sign, below: sign },
            Reach::Below => Mark { itself: Sign::None, below: sign },
        }
    }

    /// Returns the effects of both, of which the one that allows is stronger.
    fn and(self, other: Mark) -> Mark {
        Mark { itself: self.itself.max(other.itself), below: self.below.max(other.below) }
    }

    /// Returns the number of the mark, below 8. A mark without rules is in no table.
    fn code(self) -> u64 {
        (3 * self.itself as u64 + self.below as u64).saturating_sub(1)
    }

    fn from_code(code: u64) -> Self {
        const SIGNS: [Sign; 3] = [Sign::None, Sign::Block, Sign::Allow];
        let sign = |number: u64| SIGNS.get(number as usize).copied().unwrap_or_default();
        Mark { itself: sign((code + 1) / 3), below: sign((code + 1) % 3) }
    }

    /// Returns the reach of the effect `sign`, if the mark has it.
    fn reach(self, sign: Sign) -> Option<Reach> {
        match (self.itself == sign, self.below == sign) {
            (true, true) => Some(Reach::Suffix),
            (true, false) => Some(Reach::Exact),
            (false, true) => Some(Reach::Below),
            (false, false) => None,
        }
    }
}

impl TableBuilder {
    /// Adds the name with this fingerprint and number of labels.
    pub fn push(&mut self, fingerprint: u64, labels: u8, mark: Mark) -> Result<(), Full> {
        self.parts.resize_with(PARTS, Vec::new);
        let part = self.parts.get_mut(part(fingerprint)).ok_or(Full)?;
        if part.len() >= usize::from(u16::MAX) {
            return Err(Full);
        }
        if part.len() == part.capacity() {
            // By an eighth: doubling would keep as much again in reserve.
            part.reserve_exact((part.len() / 8).max(16));
        }
        part.push(fingerprint << MARK_BITS | mark.code());
        self.depths |= 1 << (labels & 127);
        Ok(())
    }

    /// Returns the table, and the number of rules that were pushed more than once.
    pub fn finish(self) -> (Table, usize) {
        let mut duplicates = 0;
        let parts: Box<[Part]> =
            self.parts.into_iter().map(|part| Part::new(part, &mut duplicates)).collect();
        let names = parts.iter().map(|part| part.entries.len()).sum();
        let fingerprints = parts.iter().flat_map(|part| part.entries.iter().map(|entry| entry >> MARK_BITS));
        let filter = Filter::new(names, fingerprints);
        (Table { filter, parts, depths: self.depths, names }, duplicates)
    }
}

impl Part {
    fn new(mut entries: Vec<u64>, duplicates: &mut usize) -> Self {
        entries.sort_unstable();
        let all = entries.len();
        entries.dedup();
        *duplicates += all - entries.len();
        entries.dedup_by(|entry, kept| {
            let same = *entry >> MARK_BITS == *kept >> MARK_BITS;
            if same {
                *kept = *kept >> MARK_BITS << MARK_BITS | mark(*kept).and(mark(*entry)).code();
            }
            same
        });
        let buckets = entries.len().div_ceil(STRIDE);
        let mut starts = Vec::with_capacity(buckets);
        for (at, entry) in entries.iter().enumerate() {
            let bucket = bucket(*entry >> MARK_BITS, buckets);
            starts.resize(starts.len().max(bucket + 1), at as u16);
        }
        starts.resize(buckets, entries.len() as u16);
        Part { entries: entries.into_boxed_slice(), starts: starts.into_boxed_slice() }
    }

    #[inline]
    fn get(&self, fingerprint: u64) -> Option<Mark> {
        let bucket = bucket(fingerprint, self.starts.len());
        let start = usize::from(*self.starts.get(bucket)?);
        let rest = self.entries.get(start..)?;
        // The first cache line nearly always decides. Entries are sorted, so those of the buckets
        // that follow may be compared as well.
        if let Some(window) = rest.first_chunk::<WINDOW>() {
            let code = window.iter().fold(0, |code, entry| code | found(*entry, fingerprint));
            if code != 0 {
                return Some(Mark::from_code(code & ((1 << MARK_BITS) - 1)));
            }
            if window[WINDOW - 1] >> MARK_BITS >= fingerprint {
                return None;
            }
        }
        let end = self.starts.get(bucket + 1).map_or(self.entries.len(), |end| usize::from(*end));
        let rest = self.entries.get(start..end)?;
        let at = rest.partition_point(|entry| *entry >> MARK_BITS < fingerprint);
        rest.get(at).filter(|entry| **entry >> MARK_BITS == fingerprint).map(|entry| mark(*entry))
    }
}

impl Table {
    /// Number of names.
    pub fn names(&self) -> usize {
        self.names
    }

    /// Numbers of labels that the names have, as bits.
    pub fn depths(&self) -> u128 {
        self.depths
    }

    /// Bytes that the table has allocated.
    pub fn bytes(&self) -> usize {
        let part = |part: &Part| size_of_val(&*part.entries) + size_of_val(&*part.starts);
        self.filter.bytes() + size_of_val(&*self.parts) + self.parts.iter().map(part).sum::<usize>()
    }

    /// Returns the fingerprint of an entry.
    pub(crate) fn fingerprint_of(entry: u64) -> u64 {
        entry >> MARK_BITS
    }

    /// Returns the entries in a fixed order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = u64> {
        self.parts.iter().flat_map(|part| part.entries.iter().copied())
    }

    /// Returns the mark of the name with this fingerprint.
    #[inline]
    pub fn get(&self, fingerprint: u64) -> Option<Mark> {
        if !self.filter.passes(fingerprint) {
            return None;
        }
        self.parts.get(part(fingerprint))?.get(fingerprint)
    }

    /// Returns the deepest rules that apply to a name.
    #[inline]
    pub fn find(&self, path: &Path) -> Match {
        let mut found = Match::default();
        let mut depths = self.depths & path.depths();
        while depths != 0 {
            let labels = depths.trailing_zeros() as u8;
            depths &= depths - 1;
            if let Some(mark) = path.at(labels).and_then(|fingerprint| self.get(fingerprint)) {
                found.add(mark, labels, labels == path.labels());
            }
        }
        found
    }
}

impl Match {
    fn add(&mut self, mark: Mark, labels: u8, itself: bool) {
        let sign = if itself { mark.itself } else { mark.below };
        let slot = match sign {
            Sign::None => return,
            Sign::Block => &mut self.block,
            Sign::Allow => &mut self.allow,
        };
        *slot = mark.reach(sign).map(|reach| (labels, reach));
    }
}

/// Returns the code of an entry with this fingerprint, and a bit above it; 0 for another one.
#[inline]
fn found(entry: u64, fingerprint: u64) -> u64 {
    let code = entry & ((1 << MARK_BITS) - 1) | 1 << MARK_BITS;
    if entry >> MARK_BITS == fingerprint { code } else { 0 }
}

fn mark(entry: u64) -> Mark {
    Mark::from_code(entry & ((1 << MARK_BITS) - 1))
}

#[inline]
fn part(fingerprint: u64) -> usize {
    (fingerprint >> (FINGERPRINT_BITS - PARTS.ilog2())) as usize
}

/// Returns the bucket of a fingerprint, in the order of fingerprints, by the 32 bits after those
/// that choose the part.
#[inline]
fn bucket(fingerprint: u64, buckets: usize) -> usize {
    let bits = (fingerprint >> (FINGERPRINT_BITS - PARTS.ilog2() - 32)) as u32;
    ((u64::from(bits) * buckets as u64) >> 32) as usize
}
