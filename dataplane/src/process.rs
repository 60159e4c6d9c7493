//! From a burst of frames to their replies, in place: no kernel, no clock, no allocation.
//!
//! Three passes over the burst, so that the waits for memory overlap: parse and hash, asking for each index line;
//! probe, asking for each entry; finish. What cannot be answered here leaves as [`Verdict::Punt`].

use crate::{
    cache::{Cache, Freshness, KeyedHash, Ref},
    clock::Secs,
    dns::{
        answer::View,
        query::{Query, Reject},
        rcode,
        reply::{self, Age, Limits},
    },
    frame::{Frame, Frames},
    packet::Envelope,
    port::{BURST, Checksums},
    stats::{Counter, DropReason, WorkerStats},
};

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
    #[inline(always)]
    pub fn limits(&self, query: &Query) -> Limits {
        Limits { reply: query.udp_limit(self.udp_limit), advertise: self.udp_limit }
    }
}

/// A frame of the burst on its way through the passes.
#[derive(Debug)]
pub struct Slot {
    /// What was asked, as far as it was understood.
    pub query: Query,
    /// What becomes of the frame; valid after the last pass.
    pub verdict: Verdict,
    stage: Stage,
    hash: u64,
    message_len: usize,
}

#[derive(Debug)]
enum Stage {
    Dropped(DropReason),
    Rejected(Envelope, Reject),
    Parsed(Envelope),
    Probed(Envelope, Ref),
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
    slots: Box<[Slot]>,
}

impl Processor {
    /// Over `cache`, with entries found by `hash`.
    pub fn new(cache: Cache, hash: KeyedHash, rules: Rules) -> Self {
        let slot = || Slot {
            query: Query::default(),
            verdict: Verdict::Drop(DropReason::NotIp),
            stage: Stage::Dropped(DropReason::NotIp),
            hash: 0,
            message_len: 0,
        };
        Processor { cache, hash, rules, slots: (0..BURST).map(|_| slot()).collect() }
    }

    /// Answers what can be answered of `burst`, at most [`BURST`] frames. Returns each frame's slot, in order, and
    /// how many were answered from where.
    #[inline]
    pub fn run(
        &mut self,
        now: Secs,
        checksums: Checksums,
        frames: &mut Frames,
        burst: &mut [Frame],
        stats: &WorkerStats,
    ) -> (&[Slot], Tally) {
        let slots = &mut self.slots[..burst.len().min(BURST)];
        for (slot, frame) in slots.iter_mut().zip(&*burst) {
            slot.parse(frames.readable(frame), frame.len(), checksums);
            if let Stage::Parsed(_) = slot.stage {
                slot.hash = self.hash.of(&slot.query.key);
                self.cache.prefetch(slot.hash);
            }
        }
        for slot in &mut *slots {
            if let Stage::Parsed(envelope) = slot.stage
                && let Some(entry) = self.cache.candidate(slot.hash)
            {
                slot.stage = Stage::Probed(envelope, entry);
            }
        }
        let mut tally = Tally::default();
        for (slot, frame) in slots.iter_mut().zip(burst) {
            slot.verdict = slot.finish(&mut self.cache, &self.rules, now, frames, frame, stats, &mut tally);
        }
        stats.add(Counter::Hit, tally.hits);
        stats.add(Counter::Stale, tally.stale);
        (&self.slots, tally)
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

impl Slot {
    /// `chunk` goes on after the packet, which is its first `len` bytes.
    #[inline(always)]
    fn parse(&mut self, chunk: &[u8], len: usize, checksums: Checksums) {
        self.stage = match Envelope::open(&chunk[..len], checksums) {
            Err(reason) => Stage::Dropped(reason),
            Ok((envelope, len)) => {
                self.message_len = len;
                match self.query.parse_within(&chunk[envelope.message()..], len) {
                    Ok(()) => Stage::Parsed(envelope),
                    Err(Reject::Drop(reason)) => Stage::Dropped(reason),
                    Err(reject) => Stage::Rejected(envelope, reject),
                }
            }
        };
    }

    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // the last pass of one loop, apart to be read
    fn finish(
        &self,
        cache: &mut Cache,
        rules: &Rules,
        now: Secs,
        frames: &mut Frames,
        frame: &mut Frame,
        stats: &WorkerStats,
        tally: &mut Tally,
    ) -> Verdict {
        match self.stage {
            Stage::Dropped(reason) => {
                stats.drop(reason);
                Verdict::Drop(reason)
            }
            Stage::Parsed(envelope) => Verdict::Punt(envelope),
            Stage::Rejected(envelope, reject) => self.reject(envelope, reject, rules, frames, frame, stats),
            Stage::Probed(envelope, entry) => {
                let Some(hit) = cache.get(entry, self.hash, &self.query.key, now) else {
                    return Verdict::Punt(envelope);
                };
                let (age, verdict) = match hit.freshness {
                    Freshness::Fresh(age) => (Age::Fresh(age), Verdict::Reply),
                    Freshness::Stale { refresh: false } => (Age::Stale(rules.stale_ttl), Verdict::Reply),
                    Freshness::Stale { refresh: true } => {
                        (Age::Stale(rules.stale_ttl), Verdict::ReplyAndRefresh(envelope))
                    }
                };
                count(&hit.view, age, stats, tally);
                let buffer = frames.buffer(frame);
                let message = &mut buffer[envelope.message()..];
                let limits = rules.limits(&self.query);
                let reply = reply::answer(message, self.message_len, &self.query, hit.view, age, limits);
                if reply.cut {
                    stats.add(Counter::Truncated, 1);
                }
                let len = envelope.seal(buffer, reply.len, Some(reply.change));
                frame.set_len(len);
                verdict
            }
        }
    }

    #[cold]
    fn reject(
        &self,
        envelope: Envelope,
        reject: Reject,
        rules: &Rules,
        frames: &mut Frames,
        frame: &mut Frame,
        stats: &WorkerStats,
    ) -> Verdict {
        stats.add(
            match reject {
                Reject::BadVersion => Counter::BadVers,
                Reject::Header(rcode::NOTIMP) => Counter::NotImp,
                Reject::Header(_) | Reject::Question(rcode::FORMERR) => Counter::FormErr,
                Reject::Question(_) | Reject::Drop(_) => Counter::Refused,
            },
            1,
        );
        let buffer = frames.buffer(frame);
        let message = &mut buffer[envelope.message()..];
        let len = reply::reject(message, &self.query, reject, rules.limits(&self.query));
        let len = envelope.seal(buffer, len, None);
        frame.set_len(len);
        Verdict::Reply
    }
}

#[inline(always)]
fn count(view: &View<'_>, age: Age, stats: &WorkerStats, tally: &mut Tally) {
    let rcode = view.status.rcode();
    match age {
        _ if !matches!(rcode, rcode::NOERROR | rcode::NXDOMAIN) => stats.add(Counter::CachedFailure, 1),
        Age::Fresh(_) => tally.hits += 1,
        Age::Stale(_) => tally.stale += 1,
    }
    if rcode == rcode::NXDOMAIN || view.counts[0] == 0 && !view.status.is_truncated() {
        stats.add(Counter::Negative, 1);
    }
}

#[cfg(test)]
mod tests;
