//! From a burst of frames to their replies, in place: no kernel, no clock, no allocation.
//!
//! Three passes over the burst, so that the waits for memory overlap: glance and hash, asking for each index line;
//! probe, asking for each entry; reply. What a [glance](Glance) could not answer is looked at [closer] in the end, one by one;
//! and what cannot be answered here leaves as [`Verdict::Punt`].

mod closer;
mod glance;

use crate::{
    cache::{Cache, Fresh, KeyedHash},
    clock::Secs,
    dns::{
        answer::Status,
        key::Flags,
        query::Query,
        rcode,
        reply::{Age, Limits},
    },
    frame::{Frame, Frames, WINDOW},
    packet::{
        Envelope,
        plain::{self, Plain},
    },
    port::{BURST, Checksums},
    simd::{Level, Simd, Work},
    stats::{Counter, DropReason, WorkerStats},
};
use closer::Closer;
use glance::{Conditions, Glance, Opt, Seen};
use std::marker::PhantomData;

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is its reply now.
    Reply,
    /// The same, from an expired entry that should be renewed.
    ReplyAndRefresh(Envelope),
    /// The control plane must find out.
    Punt(Envelope),
    /// It is not answered.
    Drop(DropReason),
}

/// What answers depend on besides the cache.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The largest reply over UDP, and what our OPT advertises (RFC 9715: 1232).
    pub udp_limit: u16,
    /// TTL of stale answers in seconds (RFC 8767 section 5.11: 30).
    pub stale_ttl: u32,
}

impl Rules {
    /// How large the reply to `query` may be over UDP.
    pub fn limits(&self, query: &Query) -> Limits {
        Limits { reply: query.udp_limit(self.udp_limit), advertise: self.udp_limit }
    }
}

/// What is known of a frame that was looked at closer.
#[derive(Debug)]
pub struct Slot {
    /// What was asked, as far as it was understood.
    pub query: Query,
    /// What becomes of the frame.
    pub verdict: Verdict,
}

/// What became of a burst's frames.
#[derive(Clone, Copy, Debug)]
pub struct Fates<'a> {
    /// A bit for each frame that was looked at closer; the others are replies.
    left: u64,
    slots: &'a [Slot],
}

impl<'a> Fates<'a> {
    /// More about the `nth` frame, if it is anything else than a reply from a fresh entry.
    #[inline(always)]
    pub fn slot(&self, nth: usize) -> Option<&'a Slot> {
        if self.left >> (nth % BURST) & 1 == 0 { None } else { Some(&self.slots[nth % BURST]) }
    }

    /// What became of the `nth` frame.
    pub fn verdict(&self, nth: usize) -> Verdict {
        self.slot(nth).map_or(Verdict::Reply, |slot| slot.verdict)
    }
}

/// How many of a burst were answered from where: what service times are recorded for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// From fresh entries.
    pub hits: u64,
    /// From expired entries.
    pub stale: u64,
}

/// One worker's answering: its cache, and the burst in hand.
pub struct Processor {
    cache: Cache,
    hash: KeyedHash,
    rules: Rules,
    level: Level,
    glances: Box<[Glance]>,
    slots: Box<[Slot]>,
}

impl Processor {
    /// Over `cache`, with entries found by `hash`.
    pub fn new(cache: Cache, hash: KeyedHash, rules: Rules) -> Self {
        let slot = || Slot { query: Query::default(), verdict: Verdict::Drop(DropReason::NotIp) };
        Processor {
            cache,
            hash,
            rules,
            level: Level::best(),
            glances: (0..BURST).map(|_| Glance::default()).collect(),
            slots: (0..BURST).map(|_| slot()).collect(),
        }
    }

    /// Answers what can be answered of `burst`, at most [`BURST`] frames. Returns what became of each, and how many were
    /// answered from where.
    #[inline]
    pub fn run(
        &mut self,
        now: Secs,
        checksums: Checksums,
        frames: &mut Frames,
        burst: &mut [Frame],
        stats: &WorkerStats,
    ) -> (Fates<'_>, Tally) {
        let len = burst.len().min(BURST);
        let burst = &mut burst[..len];
        let mut tally = Tally::default();
        let left = if checksums == Checksums::Trust {
            // Their sums are made anew, for which every byte must be looked at.
            u64::MAX.checked_shr((BURST - len) as u32).unwrap_or(0)
        } else {
            let processor = &mut *self;
            let tally = &mut tally;
            processor.level.run(Passes { now, checksums, frames, burst, stats, processor, tally })
        };
        if left != 0 {
            self.look_closer(left, now, checksums, frames, burst, stats, &mut tally);
        }
        stats.add(Counter::Hit, tally.hits);
        stats.add(Counter::Stale, tally.stale);
        (Fates { left, slots: &self.slots }, tally)
    }

    /// Finishes the frames of whose numbers the bits are set.
    #[cold]
    fn look_closer(
        &mut self,
        mut left: u64,
        now: Secs,
        checksums: Checksums,
        frames: &mut Frames,
        burst: &mut [Frame],
        stats: &WorkerStats,
        tally: &mut Tally,
    ) {
        let mut closer = Closer {
            cache: &mut self.cache,
            hash: self.hash,
            rules: &self.rules,
            now,
            checksums,
            stats,
            tally,
        };
        while left != 0 {
            let nth = left.trailing_zeros() as usize % BURST;
            left &= left - 1;
            let slot = &mut self.slots[nth];
            slot.verdict = closer.finish(&mut slot.query, frames, &mut burst[nth]);
        }
    }

    /// The cache, to fill and to sweep.
    pub fn cache(&mut self) -> &mut Cache {
        &mut self.cache
    }

    /// The hash that the cache's entries are found by.
    pub fn hash(&self) -> KeyedHash {
        self.hash
    }

    /// The rules of answering.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }
}

/// The passes over a burst.
struct Passes<'a> {
    now: Secs,
    checksums: Checksums,
    frames: &'a mut Frames,
    burst: &'a mut [Frame],
    stats: &'a WorkerStats,
    processor: &'a mut Processor,
    tally: &'a mut Tally,
}

impl Work for Passes<'_> {
    /// A bit for each frame that needs a closer look.
    type Output = u64;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> u64 {
        let Passes { now, checksums, frames, burst, stats, processor, tally } = self;
        let Processor { cache, hash, rules, glances, .. } = processor;
        let udp_limit = rules.udp_limit;
        let conditions =
            Conditions { checksums, udp_limit, hash: *hash, filed: cache.filed(Flags::default()) };
        for (glance, frame) in glances.iter_mut().zip(&*burst) {
            glance.seen = match frames.window(frame) {
                Some(window)
                    if glance.look::<S, plain::V4>(simd, window, frame.len(), &conditions, |hash| {
                        cache.seek(hash)
                    }) =>
                {
                    Seen::V4
                }
                Some(window) => {
                    simd.apart(LookV6 { glance, window, len: frame.len(), conditions: &conditions, cache })
                }
                None => Seen::Nothing,
            };
        }
        for (glance, _) in glances.iter_mut().zip(&*burst) {
            match cache.candidate(glance.spot) {
                Some(entry) => glance.entry = entry,
                None => glance.seen = Seen::Nothing,
            }
        }
        let mut last = Last { cache, frames, stats, tally, counted: 0, now, opt: Opt::of(udp_limit) };
        let mut left = 0u64;
        for (nth, (frame, glance)) in burst.iter_mut().zip(&*glances).enumerate() {
            let answered = glance.seen == Seen::V4 && last.answer::<S, plain::V4>(simd, glance, frame)
                || glance.seen == Seen::V6 && simd.apart(AnswerV6 { last: &mut last, glance, frame });
            if !answered {
                left |= 1 << nth;
            }
        }
        let answered = burst.len() as u64 - u64::from(left.count_ones());
        tally.hits += answered - last.counted;
        left
    }
}

/// A glance at a packet that is not plain IPv4.
struct LookV6<'a> {
    glance: &'a mut Glance,
    window: &'a [u8; WINDOW],
    len: usize,
    conditions: &'a Conditions,
    cache: &'a Cache,
}

impl Work for LookV6<'_> {
    type Output = Seen;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Seen {
        let LookV6 { glance, window, len, conditions, cache } = self;
        if glance.look::<S, plain::V6>(simd, window, len, conditions, |hash| cache.seek(hash)) {
            Seen::V6
        } else {
            Seen::Nothing
        }
    }
}

/// What the last pass needs.
struct Last<'a> {
    cache: &'a mut Cache,
    frames: &'a mut Frames,
    stats: &'a WorkerStats,
    tally: &'a mut Tally,
    /// How many were counted one by one.
    counted: u64,
    now: Secs,
    opt: Opt,
}

impl Last<'_> {
    /// Turns the query into its reply, if the entry is fresh and the right one, and nothing about it is special.
    #[inline(always)]
    fn answer<S: Simd, P: Plain>(&mut self, simd: S, glance: &Glance, frame: &mut Frame) -> bool {
        let Some((window, len)) = self.frames.window_mut(frame) else { return false };
        let question = glance.question();
        let fresh = self.cache.get_fresh(simd, glance.entry, glance.filed, question, self.now);
        let Some(fresh) = fresh else { return false };
        let (now, opt) = (self.now, self.opt);
        if fresh.is_simple() {
            // It has room in any reply.
            len.set(glance.reply_simply::<S, P>(simd, window, fresh, question.1, now, opt));
            return true;
        }
        let (status, wire_len) = (fresh.status(), fresh.wire_len());
        // With a record, no frame is shorter than Ethernet's shortest.
        if wire_len < MIN_RECORD || !glance.has_room(wire_len) || !status.suits(glance.wants_ad::<P>(window))
        {
            return false;
        }
        self.counted += 1;
        count(status, Age::Fresh(0), self.stats, self.tally);
        len.set(simd.apart(Copy::<P> { glance, window, fresh, now, opt, version: PhantomData }));
        true
    }
}

/// A reply that needs more than a block copied.
struct Copy<'a, P> {
    glance: &'a Glance,
    window: &'a mut [u8; WINDOW],
    fresh: Fresh<'a>,
    now: Secs,
    opt: Opt,
    version: PhantomData<P>,
}

impl<P: Plain> Work for Copy<'_, P> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> usize {
        self.glance.reply::<S, P>(simd, self.window, self.fresh, self.now, self.opt)
    }
}

/// The last pass over a packet of IPv6.
struct AnswerV6<'a, 'b> {
    last: &'a mut Last<'b>,
    glance: &'a Glance,
    frame: &'a mut Frame,
}

impl Work for AnswerV6<'_, '_> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> bool {
        self.last.answer::<S, plain::V6>(simd, self.glance, self.frame)
    }
}

/// The shortest record: the root's name, type, class, TTL, and the length of no data.
const MIN_RECORD: usize = 11;

/// Counts an answer by what it says and where it was from.
fn count(status: Status, age: Age, stats: &WorkerStats, tally: &mut Tally) {
    match age {
        _ if !matches!(status.rcode(), rcode::NOERROR | rcode::NXDOMAIN) => {
            stats.add(Counter::CachedFailure, 1)
        }
        Age::Fresh(_) => tally.hits += 1,
        Age::Stale(_) => tally.stale += 1,
    }
    stats.add(Counter::Negative, u64::from(status.is_negative()));
}

#[cfg(test)]
mod tests;
