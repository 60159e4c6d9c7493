//! Turns a burst of frames into their replies, in place: no kernel, no clock, no allocation.
//!
//! Three passes over the burst overlap the waits for memory: the first glances at each query,
//! hashes it and prefetches the index line; the second probes the index and prefetches the entry;
//! the third replies. The [closer] look then handles, one by one, the frames that a
//! [glance](Glance) could not answer. A query that cannot be answered here leaves as
//! [`Verdict::Punt`].

mod census;
mod closer;
mod glance;
mod mirror;
mod passes;
mod recorder;
mod wide;

use crate::{
    cache::{Cache, KeyedHash},
    checksum::Checksums,
    clock::{Nanos, Secs},
    dns::{
        answer::Status,
        key::Key,
        option::Options,
        query::Query,
        rcode,
        reply::{Age, ReplyLimits},
    },
    frame::{Frame, Frames},
    group::Group,
    inspection::Inspected,
    limiter::Limiter,
    log::Outcome,
    packet::{Envelope, LargestReplies},
    policy::QueryPolicy,
    port::BURST,
    prefix::Prefix,
    simd::{BLOCK, Block, Level},
    stats::{Counter, DropReason, WorkerStats},
};
pub use census::Census;
use closer::{Closer, LookCloser};
use glance::Glance;
pub use mirror::{Mirror, MirrorUse};
use passes::{Passed, Passes};
pub use recorder::Recorder;
use std::sync::Arc;
use wide::Wide;

/// Outcome of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The frame now holds the reply.
    Reply,
    /// The frame now holds the reply, from an entry that should be renewed: it has expired, or will
    /// soon.
    ReplyAndRefresh(Envelope),
    /// The control plane must resolve the query.
    Punt(Envelope),
    /// The control plane must answer the NOTIFY.
    Notify(Envelope),
    /// The frame is not answered.
    Drop(DropReason),
}

impl Verdict {
    /// Whether the frame is a reply now.
    pub fn is_reply(self) -> bool {
        matches!(self, Verdict::Reply | Verdict::ReplyAndRefresh(_))
    }

    /// Returns the outcome for the packet with `tags` bytes of VLAN tags, at most eight.
    #[inline(always)]
    fn behind(self, tags: usize) -> Self {
        match self {
            Verdict::ReplyAndRefresh(envelope) => Verdict::ReplyAndRefresh(envelope.behind(tags)),
            Verdict::Punt(envelope) => Verdict::Punt(envelope.behind(tags)),
            Verdict::Notify(envelope) => Verdict::Notify(envelope.behind(tags)),
            Verdict::Reply | Verdict::Drop(_) => self,
        }
    }
}

/// Rules that replies depend on, besides the cache.
#[derive(Clone, Copy, Debug)]
pub struct AnswerConfig {
    /// Largest reply over UDP in bytes, and the size that our OPT record advertises (RFC 9715:
    /// 1232).
    pub udp_limit: u16,
    /// TTL of stale answers in seconds (RFC 8767 section 5.11: 30).
    pub stale_ttl: u32,
    /// Whether an expired answer is given at once. If not, the control plane decides (RFC 8767
    /// section 5: the client response timer).
    pub stale_at_once: bool,
}

impl AnswerConfig {
    /// Returns the limits of the reply to `query` over UDP, and the options that it carries.
    /// `largest` is the size in bytes that a reply may have whatever the client accepts.
    pub fn limits<'a>(&self, query: &Query, options: Options<'a>, largest: u16) -> ReplyLimits<'a> {
        ReplyLimits { reply: query.udp_limit(largest), advertise: self.udp_limit, options }
    }

    /// Returns the largest replies that also fit a packet of `link_mtu` bytes, which is `None` if
    /// the port itself sees to it.
    pub fn largest_replies(&self, link_mtu: Option<u32>) -> LargestReplies {
        LargestReplies::new(self.udp_limit, link_mtu)
    }
}

/// Result of a closer look at a frame.
#[derive(Debug)]
pub struct Slot {
    /// Query, as far as it was understood.
    pub query: Query,
    /// Outcome of the frame.
    pub verdict: Verdict,
    /// Position of the DNS message, if the frame is a reply.
    pub envelope: Envelope,
    /// Group of the client that asks.
    pub group: Group,
    /// Outcome of the query, for the log.
    pub outcome: Outcome,
    /// Number of the list that gave the answer.
    pub list: Option<u8>,
    /// Response code of the reply, including the upper bits that are in the OPT record (RFC 6891
    /// section 6.1.3).
    pub rcode: u16,
}

/// Question of a query that was answered at a glance.
#[derive(Clone, Copy, Debug)]
pub struct Glanced<'a> {
    /// Whether the query came over IPv6.
    pub v6: bool,
    /// First block of the question, as in a key.
    pub block: &'a Block,
    /// Further bytes of the question, at least as many as it has.
    pub beyond: &'a [u8],
    /// Length of the question in bytes.
    pub len: usize,
    /// Number of the list that gave the answer.
    pub list: Option<u8>,
    /// Whether the answer has expired.
    pub is_stale: bool,
}

impl Glanced<'_> {
    /// Returns the type of the question.
    #[inline(always)]
    pub fn qtype(&self) -> u16 {
        // Before the class, which ends the question.
        let byte = |at: usize| match at.checked_sub(BLOCK) {
            None => self.block[at],
            Some(at) => self.beyond.get(at).copied().unwrap_or_default(),
        };
        u16::from_be_bytes([byte(self.len.wrapping_sub(4)), byte(self.len.wrapping_sub(3))])
    }
}

/// Outcomes of the frames of a burst.
#[derive(Clone, Copy, Debug)]
pub struct Fates<'a> {
    /// A bit for each frame that got a closer look; the other frames are replies.
    left: u64,
    slots: &'a [Slot],
    glances: &'a [Glance],
    wides: &'a [Wide],
}

impl<'a> Fates<'a> {
    /// Returns the closer look at the `nth` frame; `None` if it is a reply without one.
    #[inline(always)]
    pub fn slot(&self, nth: usize) -> Option<&'a Slot> {
        if self.left >> (nth % BURST) & 1 == 0 { None } else { Some(&self.slots[nth % BURST]) }
    }

    /// Returns the question of the `nth` frame, which is a reply without a closer look.
    #[inline(always)]
    pub fn glanced(&self, nth: usize) -> Option<Glanced<'a>> {
        self.glances.get(nth)?.glanced(self.wides.get(nth)?)
    }

    /// Returns the outcome of the `nth` frame.
    pub fn verdict(&self, nth: usize) -> Verdict {
        self.slot(nth).map_or(Verdict::Reply, |slot| slot.verdict)
    }
}

/// Number of queries of a burst answered from the cache, for which service times are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TurnTally {
    /// Queries answered from fresh entries.
    pub hits: u64,
    /// Queries answered from expired entries.
    pub stale: u64,
}

/// The burst that is processed.
struct Job<'a> {
    now: Secs,
    checksums: Checksums,
    frames: &'a mut Frames,
    burst: &'a mut [Frame],
    stats: &'a WorkerStats,
    tally: &'a mut TurnTally,
}

/// Answers the queries of one worker from its cache.
pub struct Processor {
    cache: Cache,
    hash: KeyedHash,
    rules: AnswerConfig,
    largest: LargestReplies,
    policy: Arc<QueryPolicy>,
    /// Limiter of clients; `None`: no client has a limit.
    limiter: Option<Box<Limiter>>,
    /// Unix time at second 0 of the worker's clock.
    epoch: u32,
    level: Level,
    glances: Box<[Glance]>,
    wides: Box<[Wide]>,
    slots: Box<[Slot]>,
}

impl Processor {
    /// Creates a processor on `cache`.
    pub fn new(cache: Cache, rules: AnswerConfig, policy: Arc<QueryPolicy>) -> Self {
        let slot = || Slot {
            query: Query::default(),
            verdict: Verdict::Drop(DropReason::NotIp),
            envelope: Envelope::default(),
            group: Group::DEFAULT,
            outcome: Outcome::default(),
            list: None,
            rcode: 0,
        };
        let mut processor = Processor {
            hash: cache.hash(),
            cache,
            rules,
            largest: rules.largest_replies(None),
            policy: Arc::default(),
            limiter: None,
            epoch: 0,
            level: Level::best(),
            glances: (0..BURST).map(|_| Glance::default()).collect(),
            wides: (0..BURST).map(|_| Wide::default()).collect(),
            slots: (0..BURST).map(|_| slot()).collect(),
        };
        processor.set_policy(policy);
        processor
    }

    /// Answers the queries of `burst`, at most [`BURST`] frames, that the cache can answer. Returns
    /// the outcome of each frame, and the number answered from fresh and from expired entries.
    // Never inlined: otherwise every crate that calls it would compile the passes again.
    #[inline(never)]
    pub fn run(
        &mut self,
        now: Secs,
        checksums: Checksums,
        frames: &mut Frames,
        burst: &mut [Frame],
        stats: &WorkerStats,
    ) -> (Fates<'_>, TurnTally) {
        let len = burst.len().min(BURST);
        let burst = &mut burst[..len];
        let mut tally = TurnTally::default();
        if let Some(limiter) = &mut self.limiter {
            limiter.hide_limited(frames, burst);
        }
        let mut job = Job { now, checksums, frames, burst, stats, tally: &mut tally };
        let Passed { left, proven } = self.level.run(Passes { processor: self, job: &mut job });
        if let Some(limiter) = &mut self.limiter {
            limiter.charge_answered(job.frames, job.burst, left | proven);
        }
        if left != 0 {
            self.look_closer(left, &mut job);
        }
        stats.add(Counter::Hit, tally.hits);
        stats.add(Counter::Stale, tally.stale);
        (Fates { left, slots: &self.slots, glances: &self.glances, wides: &self.wides }, tally)
    }

    /// Finishes the frames whose bits are set in `left`.
    #[cold]
    fn look_closer(&mut self, left: u64, job: &mut Job<'_>) {
        let (unix, level) = (self.unix(job.now), self.level);
        let Processor { cache, hash, rules, largest, policy, limiter, glances, slots, .. } = self;
        let limiter = limiter.as_deref_mut();
        let (hash, largest) = (*hash, *largest);
        let closer = Closer { cache, hash, rules, largest, policy, limiter, unix, payer: None, job };
        level.run(LookCloser { closer, glances, slots, left });
    }

    /// Returns the entry that clients of a group would get for a question, without an effect on it.
    pub fn inspect(&self, key: &Key, group: Group, now: Secs) -> Option<Inspected> {
        self.cache.inspect(group, self.hash.of(key), key, now)
    }

    /// Returns the cache, to insert into and to sweep.
    pub fn cache(&mut self) -> &mut Cache {
        &mut self.cache
    }

    /// Returns the policy that decides which queries are answered.
    pub fn policy(&self) -> &QueryPolicy {
        &self.policy
    }

    /// Replaces the policy. A limiter that stays keeps its counters.
    pub fn set_policy(&mut self, policy: Arc<QueryPolicy>) {
        match (&policy.limit, &mut self.limiter) {
            (None, limiter) => *limiter = None,
            (Some(limit), Some(limiter)) => limiter.set_config(limit.clone()),
            (Some(limit), limiter) => match Limiter::new(limit.clone(), self.hash) {
                Ok(new) => *limiter = Some(Box::new(new)),
                Err(error) => tracing::error!(
                    %error,
                    "no memory for the counters of rate_limit: this worker limits no client"
                ),
            },
        }
        self.policy = policy;
    }

    /// Sets the time of the turn for the limiter.
    #[inline(always)]
    pub fn set_time(&mut self, now: Nanos) {
        if let Some(limiter) = &mut self.limiter {
            limiter.set_time(now);
        }
    }

    /// Keeps the limiter, once a second, and passes on the prefixes far above their limit.
    pub fn keep_limits(&mut self, mut tell: impl FnMut(Prefix)) {
        if let Some(limiter) = &mut self.limiter {
            limiter.keep();
            std::iter::from_fn(|| limiter.take_flood()).for_each(&mut tell);
        }
    }

    /// Sets the Unix time at second 0 of the worker's clock.
    pub fn set_epoch(&mut self, epoch: u32) {
        self.epoch = epoch;
    }

    /// Returns the Unix time at `now`, wrapping.
    pub fn unix(&self, now: Secs) -> u32 {
        self.epoch.wrapping_add(now)
    }

    /// Limits replies to what fits a packet of `mtu` bytes, the MTU of the link that they leave by.
    /// `None`: the port itself sees to it.
    pub fn set_link_mtu(&mut self, mtu: Option<u32>) {
        self.largest = self.rules.largest_replies(mtu);
    }

    /// Returns the sizes of the largest replies.
    pub fn largest_replies(&self) -> LargestReplies {
        self.largest
    }

    /// Returns the rules for replies.
    pub fn rules(&self) -> &AnswerConfig {
        &self.rules
    }
}

/// Counts an answer by its response code and its age.
#[inline(always)]
fn count(status: Status, age: Age, stats: &WorkerStats, tally: &mut TurnTally) {
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
