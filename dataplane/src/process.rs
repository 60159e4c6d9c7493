//! From a burst of frames to their replies, in place: no kernel, no clock, no allocation.
//!
//! Three passes over the burst, so that the waits for memory overlap: parse and hash, asking for each index line;
//! probe, asking for each entry; finish. A query is only glanced at before it is looked up: one that finds its like needs
//! no closer look ([`Query::glance`]), and any other gets it in the last pass. What cannot be answered here leaves as [`Verdict::Punt`].

use crate::{
    cache::{Cache, Freshness, Hit, KeyedHash, Ref},
    clock::Secs,
    dns::{
        answer::Status,
        query::{Query, Reject},
        rcode,
        reply::{self, Age, Limits},
    },
    frame::{Frame, Frames, WINDOW},
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
    envelope: Envelope,
    hash: u64,
    message_len: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Dropped(DropReason),
    /// A message, which a glance did not find to be a query.
    Opened,
    /// Glanced at and hashed.
    Hashed,
    /// Probably answered by an entry.
    Probed(Ref),
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
            envelope: Envelope::default(),
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
        let hash = self.hash;
        for (slot, frame) in slots.iter_mut().zip(&*burst) {
            slot.stage = match frames.window(frame) {
                // So much known, hardly anything that is read of it needs a check of its own.
                Some(window) if Envelope::is_plain_v4(window) => {
                    slot.open(window, frame.len(), &hash, |frame| Envelope::open_plain_v4(frame, checksums))
                }
                Some(window) if Envelope::is_plain_v6(window) => {
                    slot.open_v6(window, frame.len(), &hash, checksums)
                }
                _ => slot.open_other(frames.readable(frame), frame.len(), &hash, checksums),
            };
            if slot.stage == Stage::Hashed {
                self.cache.prefetch(slot.hash);
            }
        }
        for slot in &mut *slots {
            if slot.stage == Stage::Hashed
                && let Some(entry) = self.cache.candidate(slot.hash)
            {
                slot.stage = Stage::Probed(entry);
            }
        }
        let mut last = Last {
            cache: &mut self.cache,
            hash,
            rules: &self.rules,
            now,
            frames,
            stats,
            tally: Tally::default(),
        };
        for (slot, frame) in slots.iter_mut().zip(burst) {
            slot.verdict = last.finish(slot, frame);
        }
        let tally = last.tally;
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
    /// First pass. `chunk` goes on after the packet, which is its first `len` bytes.
    #[inline(always)]
    fn open(
        &mut self,
        chunk: &[u8],
        len: usize,
        hash: &KeyedHash,
        open: impl Fn(&[u8]) -> Result<(Envelope, usize), DropReason>,
    ) -> Stage {
        let Some(packet) = chunk.get(..len) else { return Stage::Dropped(DropReason::BadLength) };
        let (envelope, len) = match open(packet) {
            Ok(opened) => opened,
            Err(reason) => return Stage::Dropped(reason),
        };
        self.envelope = envelope;
        self.message_len = len as u16;
        let mut hasher = hash.hasher();
        if !self.query.glance(&chunk[envelope.message()..], len, |block| hasher.add(block)) {
            return Stage::Opened;
        }
        self.hash = hasher.finish(&self.query.key);
        Stage::Hashed
    }

    #[inline(never)]
    fn open_v6(
        &mut self,
        window: &[u8; WINDOW],
        len: usize,
        hash: &KeyedHash,
        checksums: Checksums,
    ) -> Stage {
        self.open(window, len, hash, |frame| Envelope::open_plain_v6(frame, checksums))
    }

    #[inline(never)]
    fn open_other(&mut self, chunk: &[u8], len: usize, hash: &KeyedHash, checksums: Checksums) -> Stage {
        self.open(chunk, len, hash, |frame| Envelope::open(frame, checksums))
    }
}

/// What the last pass over a frame needs.
struct Last<'a> {
    cache: &'a mut Cache,
    hash: KeyedHash,
    rules: &'a Rules,
    now: Secs,
    frames: &'a mut Frames,
    stats: &'a WorkerStats,
    tally: Tally,
}

impl Last<'_> {
    #[inline(always)]
    fn finish(&mut self, slot: &mut Slot, frame: &mut Frame) -> Verdict {
        let answered = match slot.stage {
            Stage::Probed(entry) if slot.envelope == Envelope::PLAIN_V4 => {
                self.answer_plain(entry, Envelope::PLAIN_V4, slot, frame)
            }
            Stage::Probed(entry) if slot.envelope == Envelope::PLAIN_V6 => {
                self.answer_plain_v6(entry, slot, frame)
            }
            _ => false,
        };
        if answered { Verdict::Reply } else { self.look_closer(slot, frame) }
    }

    /// Answers what most queries are: of a known `envelope`, with a fresh answer that fits. Knowing so much, it has little
    /// else to find out, and no more than [`answer`] would do is done. False if it is something else.
    #[inline(always)]
    fn answer_plain(&mut self, entry: Ref, envelope: Envelope, slot: &Slot, frame: &mut Frame) -> bool {
        let Some((view, age)) = self.cache.get_fresh(entry, &slot.query.key, self.now) else { return false };
        let Some(window) = self.frames.window_mut(frame) else { return false };
        let limits = self.rules.limits(&slot.query);
        let (message, query_len) = (&mut window[envelope.message()..], usize::from(slot.message_len));
        let Some(reply) = reply::whole(message, query_len, &slot.query, view, Age::Fresh(age), limits) else {
            return false;
        };
        count(view.status, Age::Fresh(age), self.stats, &mut self.tally);
        frame.set_len(envelope.seal(window, reply.len, Some(reply.change)));
        true
    }

    #[inline(never)]
    fn answer_plain_v6(&mut self, entry: Ref, slot: &Slot, frame: &mut Frame) -> bool {
        self.answer_plain(entry, Envelope::PLAIN_V6, slot, frame)
    }

    /// Finishes whatever is not answered by a glance.
    #[inline(never)]
    fn look_closer(&mut self, slot: &mut Slot, frame: &mut Frame) -> Verdict {
        match slot.stage {
            Stage::Dropped(reason) => return self.drop(reason),
            Stage::Opened => {}
            Stage::Hashed | Stage::Probed(_) => {
                if let Some(hit) = self.cache.lookup(slot.hash, &slot.query.key, self.now) {
                    return answer(hit, slot, self.rules, self.frames, frame, self.stats, &mut self.tally);
                }
            }
        }
        let message = &self.frames.readable(frame)[slot.envelope.message()..];
        match slot.query.parse_within(message, usize::from(slot.message_len)) {
            Err(Reject::Drop(reason)) => return self.drop(reason),
            Err(reject) => return self.reject(slot, reject, frame),
            Ok(()) => {}
        }
        if slot.stage == Stage::Opened {
            // A query after all, and not looked up yet.
            slot.hash = self.hash.of(&slot.query.key);
            if let Some(hit) = self.cache.lookup(slot.hash, &slot.query.key, self.now) {
                return answer(hit, slot, self.rules, self.frames, frame, self.stats, &mut self.tally);
            }
        }
        Verdict::Punt(slot.envelope)
    }

    fn drop(&self, reason: DropReason) -> Verdict {
        self.stats.drop(reason);
        Verdict::Drop(reason)
    }

    fn reject(&mut self, slot: &Slot, reject: Reject, frame: &mut Frame) -> Verdict {
        self.stats.add(
            match reject {
                Reject::BadVersion => Counter::BadVers,
                Reject::Header(rcode::NOTIMP) => Counter::NotImp,
                Reject::Header(_) | Reject::Question(rcode::FORMERR) => Counter::FormErr,
                Reject::Question(_) | Reject::Drop(_) => Counter::Refused,
            },
            1,
        );
        let buffer = self.frames.buffer(frame);
        let message = &mut buffer[slot.envelope.message()..];
        let len = reply::reject(message, &slot.query, reject, self.rules.limits(&slot.query));
        let len = slot.envelope.seal(buffer, len, None);
        frame.set_len(len);
        Verdict::Reply
    }
}

/// Turns the query in `frame` into its reply from `hit`.
fn answer(
    hit: Hit<'_>,
    slot: &Slot,
    rules: &Rules,
    frames: &mut Frames,
    frame: &mut Frame,
    stats: &WorkerStats,
    tally: &mut Tally,
) -> Verdict {
    let (age, verdict) = match hit.freshness {
        Freshness::Fresh(age) => (Age::Fresh(age), Verdict::Reply),
        Freshness::Stale { refresh: false } => (Age::Stale(rules.stale_ttl), Verdict::Reply),
        Freshness::Stale { refresh: true } => {
            (Age::Stale(rules.stale_ttl), Verdict::ReplyAndRefresh(slot.envelope))
        }
    };
    count(hit.view.status, age, stats, tally);
    let buffer = frames.buffer(frame);
    let (message, query_len) = (&mut buffer[slot.envelope.message()..], usize::from(slot.message_len));
    let reply = reply::answer(message, query_len, &slot.query, hit.view, age, rules.limits(&slot.query));
    stats.add(Counter::Truncated, u64::from(reply.cut));
    frame.set_len(slot.envelope.seal(buffer, reply.len, Some(reply.change)));
    verdict
}

#[inline(always)]
fn count(status: Status, age: Age, stats: &WorkerStats, tally: &mut Tally) {
    match age {
        _ if !status.is_positive() => count_other(status, age, stats, tally),
        Age::Fresh(_) => tally.hits += 1,
        Age::Stale(_) => tally.stale += 1,
    }
}

#[inline(never)]
fn count_other(status: Status, age: Age, stats: &WorkerStats, tally: &mut Tally) {
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
