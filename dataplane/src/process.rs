//! From a burst of frames to their replies, in place: no kernel, no clock, no allocation.
//!
//! Three passes over the burst, so that the waits for memory overlap: glance and hash, asking for each index line;
//! probe, asking for each entry; reply. What a [glance](Glance) could not answer is looked at [closer] in the end, one by one;
//! and what cannot be answered here leaves as [`Verdict::Punt`].

mod closer;
mod glance;
mod passes;

use crate::{
    cache::{Cache, KeyedHash},
    clock::Secs,
    dns::{
        answer::Status,
        option::Options,
        query::Query,
        rcode,
        reply::{Age, Limits},
    },
    frame::{Frame, Frames},
    log::Outcome,
    packet::Envelope,
    policy::Policy,
    port::{BURST, Checksums},
    simd::{Block, Level},
    stats::{Counter, DropReason, WorkerStats},
};
use closer::Closer;
use glance::Glance;
use passes::Passes;
use std::sync::Arc;

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is its reply now.
    Reply,
    /// The same, from an entry that should be renewed: it has expired, or will soon.
    ReplyAndRefresh(Envelope),
    /// The control plane must find out.
    Punt(Envelope),
    /// It is not answered.
    Drop(DropReason),
}

impl Verdict {
    /// Whether the frame is a reply now.
    pub fn is_reply(self) -> bool {
        matches!(self, Verdict::Reply | Verdict::ReplyAndRefresh(_))
    }
}

/// What answers depend on besides the cache.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The largest reply over UDP, and what our OPT advertises (RFC 9715: 1232).
    pub udp_limit: u16,
    /// TTL of stale answers in seconds (RFC 8767 section 5.11: 30).
    pub stale_ttl: u32,
    /// Whether an expired answer is given at once. Else the control plane decides (RFC 8767 section 5: the client response
    /// timer).
    pub stale_at_once: bool,
}

impl Rules {
    /// How large the reply to `query` may be over UDP, and what it says of us.
    pub fn limits<'a>(&self, query: &Query, options: Options<'a>) -> Limits<'a> {
        Limits { reply: query.udp_limit(self.udp_limit), advertise: self.udp_limit, options }
    }
}

/// What is known of a frame that was looked at closer.
#[derive(Debug)]
pub struct Slot {
    /// What was asked, as far as it was understood.
    pub query: Query,
    /// What becomes of the frame.
    pub verdict: Verdict,
    /// Where its message is, if it is a reply.
    pub envelope: Envelope,
    /// What the reply says, for the log.
    pub outcome: Outcome,
    /// The reply's response code, with what of it is in an OPT record (RFC 6891 section 6.1.3).
    pub rcode: u16,
}

/// What was seen of a query that was answered at a glance.
#[derive(Clone, Copy, Debug)]
pub struct Glanced<'a> {
    /// Whether it came over IPv6.
    pub v6: bool,
    /// The beginning of the question, as a key has it.
    pub block: &'a Block,
    /// What is beyond that.
    pub beyond: &'a Block,
    /// Length of the question.
    pub len: usize,
}

/// What became of a burst's frames.
#[derive(Clone, Copy, Debug)]
pub struct Fates<'a> {
    /// A bit for each frame that was looked at closer; the others are replies.
    left: u64,
    slots: &'a [Slot],
    glances: &'a [Glance],
}

impl<'a> Fates<'a> {
    /// More about the `nth` frame, if it is anything else than a reply from a fresh entry.
    #[inline(always)]
    pub fn slot(&self, nth: usize) -> Option<&'a Slot> {
        if self.left >> (nth % BURST) & 1 == 0 { None } else { Some(&self.slots[nth % BURST]) }
    }

    /// What was seen of the `nth` frame, which is a reply from a fresh entry.
    #[inline(always)]
    pub fn glanced(&self, nth: usize) -> Option<Glanced<'a>> {
        self.glances.get(nth)?.glanced()
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

/// A burst in hand.
struct Job<'a> {
    now: Secs,
    checksums: Checksums,
    frames: &'a mut Frames,
    burst: &'a mut [Frame],
    stats: &'a WorkerStats,
    tally: &'a mut Tally,
}

/// One worker's answering: its cache, and the burst in hand.
pub struct Processor {
    cache: Cache,
    hash: KeyedHash,
    rules: Rules,
    policy: Arc<Policy>,
    /// The Unix time of second 0 of `now`.
    epoch: u32,
    level: Level,
    glances: Box<[Glance]>,
    slots: Box<[Slot]>,
}

impl Processor {
    /// Over `cache`, with entries found by `hash`.
    pub fn new(cache: Cache, hash: KeyedHash, rules: Rules, policy: Arc<Policy>) -> Self {
        let slot = || Slot {
            query: Query::default(),
            verdict: Verdict::Drop(DropReason::NotIp),
            envelope: Envelope::default(),
            outcome: Outcome::default(),
            rcode: 0,
        };
        Processor {
            cache,
            hash,
            rules,
            policy,
            epoch: 0,
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
        let mut job = Job { now, checksums, frames, burst, stats, tally: &mut tally };
        let left = if checksums == Checksums::Trust {
            // Their sums are made anew, for which every byte must be looked at.
            u64::MAX.checked_shr((BURST - len) as u32).unwrap_or(0)
        } else {
            self.level.run(Passes { processor: self, job: &mut job })
        };
        if left != 0 {
            self.look_closer(left, &mut job);
        }
        stats.add(Counter::Hit, tally.hits);
        stats.add(Counter::Stale, tally.stale);
        (Fates { left, slots: &self.slots, glances: &self.glances }, tally)
    }

    /// Finishes the frames of whose numbers the bits are set.
    #[cold]
    fn look_closer(&mut self, mut left: u64, job: &mut Job<'_>) {
        let unix = self.unix(job.now);
        let Processor { cache, hash, rules, policy, .. } = self;
        let mut closer = Closer { cache, hash: *hash, rules, policy, unix, job };
        while left != 0 {
            let nth = left.trailing_zeros() as usize % BURST;
            left &= left - 1;
            let slot = &mut self.slots[nth];
            slot.verdict = closer.finish(slot, nth);
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

    /// What queries are measured by.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Measures queries by another policy from now on.
    pub fn set_policy(&mut self, policy: Arc<Policy>) {
        self.policy = policy;
    }

    /// Says what the Unix time was at second 0 of the time that bursts are answered at.
    pub fn set_epoch(&mut self, epoch: u32) {
        self.epoch = epoch;
    }

    /// The Unix time at `now`, wrapping.
    pub fn unix(&self, now: Secs) -> u32 {
        self.epoch.wrapping_add(now)
    }

    /// The rules of answering.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }
}

/// Counts an answer by what it says and where it was from.
fn count(status: Status, age: Age, stats: &WorkerStats, tally: &mut Tally) {
    match age {
        _ if !matches!(status.rcode(), rcode::NOERROR | rcode::NXDOMAIN) => {
            stats.add(Counter::CachedFailure, 1)
        }
        Age::New(_) | Age::Fresh(_) => tally.hits += 1,
        Age::Stale(_) => tally.stale += 1,
    }
    stats.add(Counter::Negative, u64::from(status.is_negative()));
}

#[cfg(test)]
mod tests;
