//! Shard of a store: entries in segments, in the order in which they were written.
//!
//! A new entry goes to *probation*, and one that is asked for again before its segment is needed goes
//! to *main*, as in the worker cache (S3-FIFO: Yang et al., SOSP 2023). An entry that is removed stays
//! where it is, until its whole segment is removed; if such entries take a quarter of the bytes, those
//! that are left in one segment move to the end.
//!
//! Entries move to the end of the same queue, or from probation to main. So a walk over probation and
//! then main, in the order of writing, misses no entry that is there all the time.

use super::{
    index::{Index, PLACE_BITS, Place},
    packed::{self, Packed, PackedKey, UNIT},
};
use quick_cache::DefaultHashBuilder;
use std::{collections::VecDeque, hash::BuildHasher};

/// Bytes of a segment: a size class of jemalloc of which two fill a whole number of pages.
const SEGMENT: usize = 14_336;
/// Least bytes of an entry that has a segment of its own.
const LARGE: usize = SEGMENT / 4;

/// Bits of a place for the unit in a segment; the others are the number of the segment.
const UNIT_BITS: u32 = 13;
/// Most segments of a shard.
const SEGMENTS_MAX: usize = 1 << (PLACE_BITS - UNIT_BITS);
/// Segments from which on a shard is full; moving entries may take the others.
const SEGMENTS_FULL: usize = SEGMENTS_MAX - 16;
const _: () = assert!(SEGMENT / UNIT < 1 << UNIT_BITS, "a place tells each unit, and none has all bits");

/// Part of a shard's bytes that probation may keep when the shard is full: one in this many.
const PROBATION_PART: usize = 10;

/// Most segments from which entries in demand are kept until another entry has room: a bound on the
/// time of an insert.
const KEPT_MAX: usize = 4;

/// Queue of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Probation,
    Main,
}

/// Number of a segment in its shard.
type Number = u16;

struct Segment {
    bytes: Vec<u8>,
    /// Bytes of entries that are not removed.
    live: usize,
    /// Bytes that count as used: those that are filled, or all once no more entries are added.
    used: usize,
    kind: Kind,
    /// Number in the order of all segments of the shard.
    sequence: u64,
}

/// Segment that has been taken out of its shard. Its number is in use until its entries have places
/// elsewhere.
struct Taken {
    number: Number,
    kind: Kind,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Queue {
    /// Segments, oldest first.
    order: VecDeque<Number>,
    /// Last segment, if entries are added to it.
    open: Option<Number>,
    /// Bytes of the segments that count as used.
    used: usize,
}

/// How far a walk has come in a shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    kind: Kind,
    /// Sequence of the segment.
    sequence: u64,
    /// Bytes of that segment that were seen.
    seen: usize,
}

impl Progress {
    pub const START: Progress = Progress { kind: Kind::Probation, sequence: 0, seen: 0 };
}

/// Shard of a store.
#[derive(Default)]
pub(super) struct Shard {
    index: Index,
    segments: Vec<Option<Segment>>,
    free: Vec<Number>,
    probation: Queue,
    main: Queue,
    /// Bytes of removed entries.
    removed: usize,
    next_sequence: u64,
}

/// Surroundings of a shard: what all shards of a store have in common.
pub(super) struct Rules<'a> {
    /// Most bytes of the shard.
    pub capacity: usize,
    /// Keyed by chance, so that nobody can choose names that share buckets.
    pub hasher: &'a DefaultHashBuilder,
    /// Called with each entry that makes room for others.
    pub evicted: &'a (dyn Fn(Packed<'_>) + Send + Sync),
}

impl Rules<'_> {
    fn hash(&self, entry: Packed<'_>) -> u64 {
        self.hasher.hash_one(entry.parts())
    }
}

impl Shard {
    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Returns the bytes that entries and index take, with those of entries that are removed.
    pub fn bytes(&self) -> usize {
        self.probation.used + self.main.used + self.index.bytes()
    }

    /// Returns the place of the entry that answers a question.
    pub fn find(&self, hash: u64, key: &PackedKey) -> Option<Place> {
        self.index.find(hash, |place| self.at(place).is_some_and(|entry| entry.is_of(key)))
    }

    /// Returns the entry at a place.
    pub fn at(&self, place: Place) -> Option<Packed<'_>> {
        let (number, at) = parts_of(place);
        let segment = self.segment(number)?;
        Packed::first(segment.bytes.get(at..)?)
    }

    /// Returns the bytes of the entry at a place, for writing.
    pub fn at_mut(&mut self, place: Place) -> Option<&mut [u8]> {
        let (number, at) = parts_of(place);
        let len = self.at(place)?.0.len();
        let segment = self.segments.get_mut(usize::from(number))?.as_mut()?;
        segment.bytes.get_mut(at..at + len)
    }

    fn kind_at(&self, place: Place) -> Kind {
        self.segment(parts_of(place).0).map_or(Kind::Probation, |segment| segment.kind)
    }

    /// Counts a use of the entry at a place.
    pub fn touch(&mut self, place: Place) {
        if let Some(frequency) = self.at(place).map(Packed::frequency)
            && let Some(entry) = self.at_mut(place)
        {
            packed::set_frequency(entry, frequency + 1);
        }
    }

    /// Adds an entry, in place of the one at `old`, which answers the same question. It is dropped if
    /// it is larger than the shard may be.
    pub fn put(&mut self, rules: &Rules<'_>, hash: u64, mut entry: Vec<u8>, old: Option<Place>) {
        let mut kind = Kind::Probation;
        if let Some(old) = old {
            // An entry that is renewed keeps its queue, and must be asked for again to stay there.
            let frequency = self.at(old).map_or(0, Packed::frequency).min(1);
            packed::set_frequency(&mut entry, frequency);
            kind = self.kind_at(old);
            self.remove(hash, old);
        }
        if self.make_room(rules, entry.len()) {
            self.append(rules, kind, hash, &entry, None);
            self.compact(rules);
        }
    }

    /// Removes the entry at a place.
    pub fn remove(&mut self, hash: u64, place: Place) {
        self.index.remove(hash, place);
        let Some(entry) = self.at_mut(place) else { return };
        packed::kill(entry);
        let len = entry.len();
        self.removed += len;
        let (number, _) = parts_of(place);
        let segment = self.segments.get_mut(usize::from(number)).and_then(Option::as_mut);
        if let Some(segment) = segment {
            segment.live = segment.live.saturating_sub(len);
            if segment.live == 0 && self.take(number).is_some() {
                self.free.push(number);
            }
        }
        if self.index.len() == 0 {
            self.index = Index::default();
        }
    }

    /// Removes the entries that `keep` does not want.
    pub fn retain(&mut self, rules: &Rules<'_>, mut keep: impl FnMut(Packed<'_>) -> bool) {
        let all: Vec<_> = self.probation.order.iter().chain(&self.main.order).copied().collect();
        for number in all {
            let mut at = 0;
            while let Some((entry, place)) = self.entry_in(number, at) {
                at += entry.0.len();
                if entry.is_live() && !keep(entry) {
                    self.remove(rules.hash(entry), place);
                }
            }
        }
    }

    /// Returns the entry at an offset of a segment, and its place.
    fn entry_in(&self, number: Number, at: usize) -> Option<(Packed<'_>, Place)> {
        // Not by the place: there is none for the end of a large segment.
        let entry = Packed::first(self.segment(number)?.bytes.get(at..)?)?;
        Some((entry, place_of(number, at)))
    }

    /// Copies the entries that a walk sees next to `to`. Returns false at the end.
    pub fn copy_next(&self, progress: &mut Progress, to: &mut Vec<u8>) -> bool {
        to.clear();
        loop {
            let queue = self.queue(progress.kind);
            // Segments are in the order of their sequence.
            let begin = queue.order.partition_point(|number| self.sequence(*number) < progress.sequence);
            let next = queue.order.range(begin..).find_map(|number| {
                let segment = self.segment(*number)?;
                let seen = if segment.sequence == progress.sequence { progress.seen } else { 0 };
                segment.bytes.get(seen..).filter(|rest| !rest.is_empty()).map(|rest| (segment, rest))
            });
            if let Some((segment, rest)) = next {
                to.extend_from_slice(rest);
                (progress.sequence, progress.seen) = (segment.sequence, segment.bytes.len());
                return true;
            }
            match progress.kind {
                Kind::Probation => *progress = Progress { kind: Kind::Main, ..Progress::START },
                Kind::Main => return false,
            }
        }
    }

    /// Moves the entries that are left in one segment, if removed entries take a quarter of the
    /// bytes, and makes a sparse index smaller. Returns whether there was something to do.
    pub fn compact(&mut self, rules: &Rules<'_>) -> bool {
        let used = self.probation.used + self.main.used;
        if self.removed <= SEGMENT || self.removed * 4 <= used {
            return false;
        }
        let all =
            self.segments.iter().zip(0..).filter_map(|(segment, number)| Some((number, segment.as_ref()?)));
        let least = all.min_by_key(|(_, segment)| segment.live * 1024 / segment.used.max(1));
        let least = least.map(|(number, _)| number);
        let Some(taken) = least.and_then(|number| self.take(number)) else { return false };
        for (entry, at) in entries(&taken.bytes) {
            self.append(rules, taken.kind, rules.hash(entry), entry.0, Some(place_of(taken.number, at)));
        }
        self.free.push(taken.number);
        if self.index.is_sparse() {
            self.rebuild(rules);
        }
        true
    }

    /// Returns the bytes that entries and index will take with another entry.
    fn bytes_with(&self, size: usize) -> usize {
        let index =
            if self.index.is_crowded() { Index::bytes_for(self.len() + 1) } else { self.index.bytes() };
        // An open segment is closed if the entry does not fit.
        let open = [self.probation.open, self.main.open].into_iter().flatten();
        let closed = open.filter(|number| size < LARGE && !self.fits(*number, size));
        let rest = closed.filter_map(|number| self.segment(number)).map(|open| SEGMENT - open.bytes.len());
        self.probation.used + self.main.used + rest.sum::<usize>() + size + index
    }

    /// Evicts entries until one of `size` bytes has room. Returns false if it can have none.
    pub fn make_room(&mut self, rules: &Rules<'_>, size: usize) -> bool {
        let mut kept = 0;
        while self.bytes_with(size) > rules.capacity || self.segments.len() - self.free.len() > SEGMENTS_FULL
        {
            let on_probation = self.probation.used > self.bytes() / PROBATION_PART;
            let queue = if on_probation || self.main.order.is_empty() { &self.probation } else { &self.main };
            let Some(taken) = queue.order.front().copied().and_then(|number| self.take(number)) else {
                self.index = Index::default();
                return self.bytes_with(size) <= rules.capacity;
            };
            kept += 1;
            for (entry, at) in entries(&taken.bytes) {
                let (hash, place) = (rules.hash(entry), place_of(taken.number, at));
                if entry.frequency() > 0 && kept <= KEPT_MAX {
                    let mut copy = entry.0.to_vec();
                    packed::set_frequency(&mut copy, entry.frequency() - 1);
                    self.append(rules, Kind::Main, hash, &copy, Some(place));
                } else {
                    self.index.remove(hash, place);
                    (rules.evicted)(entry);
                }
            }
            self.free.push(taken.number);
            if self.index.is_sparse() {
                self.rebuild(rules);
            }
        }
        true
    }

    /// Writes an entry to the end of a queue. `from` is its place before, if it is in the index.
    fn append(&mut self, rules: &Rules<'_>, kind: Kind, hash: u64, entry: &[u8], from: Option<Place>) {
        let open = self.queue(kind).open.filter(|number| self.fits(*number, entry.len()));
        let Some(number) = open.or_else(|| self.begin(kind, entry.len())) else {
            // Segments beyond `SEGMENTS_FULL` are for this, so it cannot happen.
            return from.into_iter().for_each(|from| self.index.remove(hash, from));
        };
        let Some(segment) = self.segments.get_mut(usize::from(number)).and_then(Option::as_mut) else {
            return;
        };
        let place = place_of(number, segment.bytes.len());
        segment.bytes.extend_from_slice(entry);
        segment.live += entry.len();
        segment.used += entry.len();
        self.queue_mut(kind).used += entry.len();
        match from {
            Some(from) => self.index.moved(hash, from, place),
            None => {
                // After the entry was written: the new index has it.
                if self.index.is_crowded() {
                    self.rebuild(rules);
                } else {
                    self.index.insert(hash, place);
                }
            }
        }
    }

    /// Whether an entry can be added to a segment.
    fn fits(&self, number: Number, size: usize) -> bool {
        size < LARGE && self.segment(number).is_some_and(|segment| segment.bytes.len() + size <= SEGMENT)
    }

    /// Begins a segment at the end of a queue, for an entry of `size` bytes. One that is large has it
    /// for itself, and stands before the segment to which others are added.
    fn begin(&mut self, kind: Kind, size: usize) -> Option<Number> {
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.segments.len() < SEGMENTS_MAX => {
                self.segments.push(None);
                Number::try_from(self.segments.len() - 1).ok()?
            }
            None => return None,
        };
        let bytes = Vec::with_capacity(if size < LARGE { SEGMENT } else { size });
        let sequence = self.next_sequence;
        // A sequence is given once, so that a walk never mistakes one segment for another.
        self.next_sequence += 2;
        *self.segments.get_mut(usize::from(number))? =
            Some(Segment { bytes, live: 0, used: 0, kind, sequence });
        let queue = self.queue_mut(kind);
        match queue.open {
            Some(open) if size >= LARGE => {
                let last = queue.order.len().saturating_sub(1);
                queue.order.insert(last, number);
                self.segments.get_mut(usize::from(open))?.as_mut()?.sequence = sequence + 1;
            }
            open => {
                queue.order.push_back(number);
                if size < LARGE {
                    queue.open = Some(number);
                    open.into_iter().for_each(|full| self.close(full));
                }
            }
        }
        Some(number)
    }

    /// Counts the rest of a segment to which no more entries are added.
    fn close(&mut self, number: Number) {
        let Some(segment) = self.segments.get_mut(usize::from(number)).and_then(Option::as_mut) else {
            return;
        };
        let rest = segment.bytes.capacity() - segment.bytes.len();
        segment.used += rest;
        let kind = segment.kind;
        self.queue_mut(kind).used += rest;
    }

    /// Takes a segment out of its queue. Its entries stay in the index.
    fn take(&mut self, number: Number) -> Option<Taken> {
        let Segment { bytes, live, used, kind, .. } = self.segments.get_mut(usize::from(number))?.take()?;
        self.removed = self.removed.saturating_sub(bytes.len() - live);
        let queue = self.queue_mut(kind);
        queue.used = queue.used.saturating_sub(used);
        queue.open = queue.open.filter(|open| *open != number);
        match queue.order.front() {
            Some(first) if *first == number => drop(queue.order.pop_front()),
            _ => queue.order.retain(|other| *other != number),
        }
        Some(Taken { number, kind, bytes })
    }

    /// Makes the index anew, for the entries that are there.
    fn rebuild(&mut self, rules: &Rules<'_>) {
        self.index.reset(self.len() + 1);
        for (segment, number) in self.segments.iter().zip(0..) {
            let bytes = segment.as_ref().map_or(&[][..], |segment| &segment.bytes);
            entries(bytes).for_each(|(entry, at)| self.index.insert(rules.hash(entry), place_of(number, at)));
        }
    }

    fn segment(&self, number: Number) -> Option<&Segment> {
        self.segments.get(usize::from(number))?.as_ref()
    }

    fn sequence(&self, number: Number) -> u64 {
        self.segment(number).map_or(0, |segment| segment.sequence)
    }

    fn queue(&self, kind: Kind) -> &Queue {
        match kind {
            Kind::Probation => &self.probation,
            Kind::Main => &self.main,
        }
    }

    fn queue_mut(&mut self, kind: Kind) -> &mut Queue {
        match kind {
            Kind::Probation => &mut self.probation,
            Kind::Main => &mut self.main,
        }
    }
}

/// Returns the entries of a segment that are not removed, with their offsets.
pub(super) fn entries(bytes: &[u8]) -> impl Iterator<Item = (Packed<'_>, usize)> {
    let mut at = 0;
    let all = std::iter::from_fn(move || {
        let (entry, begin) = (Packed::first(bytes.get(at..)?)?, at);
        at += entry.0.len();
        Some((entry, begin))
    });
    all.filter(|(entry, _)| entry.is_live())
}

fn place_of(number: Number, at: usize) -> Place {
    Place(u32::from(number) << UNIT_BITS | (at / UNIT) as u32)
}

fn parts_of(place: Place) -> (Number, usize) {
    ((place.0 >> UNIT_BITS) as Number, (place.0 as usize & ((1 << UNIT_BITS) - 1)) * UNIT)
}

#[cfg(test)]
mod tests;
