//! The closer look: handles every kind of query, and every outcome.

mod plain;
mod resumed;
mod tagged;

use super::{
    AnswerConfig, Job, Slot, Verdict, count,
    glance::{Glance, Seen},
};
use crate::{
    cache::{Cache, Freshness, KeyedHash},
    checksum::Checksums,
    dns::{
        option::Options,
        query::{Query, Reject},
        rcode,
        reply::{self, Age},
    },
    group::Group,
    limiter::{self, Action, Limiter},
    log::{AnswerSource, Outcome, Tier},
    mac::MacAddress,
    packet::{
        Envelope, LargestReplies,
        header::EtherType,
        plain::{Plain, V4, V6},
    },
    policy::{Asker, QueryPolicy},
    port::BURST,
    simd::{Simd, Work},
    stats::{Counter, DropReason},
};
use std::net::IpAddr;
use tagged::LookBehindTags;

/// State of a closer look.
pub struct Closer<'a, 'b> {
    pub cache: &'a mut Cache,
    pub hash: KeyedHash,
    pub rules: &'a AnswerConfig,
    pub largest: LargestReplies,
    pub policy: &'a QueryPolicy,
    pub limiter: Option<&'a mut Limiter>,
    /// The Unix time, wrapping.
    pub unix: u32,
    /// Client of the frame at hand, if its answer is charged.
    pub payer: Option<IpAddr>,
    pub job: &'a mut Job<'b>,
}

/// Closer look at the frames whose bits are set in `left`.
pub struct LookCloser<'a, 'b, 'c> {
    pub closer: Closer<'b, 'c>,
    pub glances: &'a [Glance],
    pub slots: &'a mut [Slot],
    pub left: u64,
}

impl Work for LookCloser<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let LookCloser { mut closer, glances, slots, mut left } = self;
        // There are as many as frames in a burst, which saves bounds checks.
        let (Some(glances), Some(slots)) = (glances.first_chunk::<BURST>(), slots.first_chunk_mut::<BURST>())
        else {
            return;
        };
        while left != 0 {
            let nth = left.trailing_zeros() as usize % BURST;
            left &= left - 1;
            let slot = &mut slots[nth];
            let glance = &glances[nth];
            // Asked first, since a flood of packets that are not seen must not cost more than others.
            let is_finished = glance.seen != Seen::Nothing
                && match glance.seen {
                    Seen::V4 | Seen::MissedV4 => closer.resume::<S, V4>(simd, slot, nth, glance),
                    Seen::V6 | Seen::MissedV6 => closer.resume::<S, V6>(simd, slot, nth, glance),
                    _ => false,
                };
            if !is_finished && !closer.look(simd, slot, nth) {
                slot.verdict = closer.finish(slot, nth);
            }
            if closer.payer.is_some() {
                closer.charge(slot, nth);
            }
        }
    }
}

impl Closer<'_, '_> {
    /// Finishes the `nth` frame of the burst in few steps. Returns false if that is not possible.
    #[inline(always)]
    fn look<S: Simd>(&mut self, simd: S, slot: &mut Slot, nth: usize) -> bool {
        let kind = EtherType::of(self.job.frames.window(&self.job.burst[nth]));
        if kind == EtherType::IPV4 {
            self.finish_plain::<S, V4>(simd, slot, nth)
        } else if kind == EtherType::IPV6 {
            self.finish_plain::<S, V6>(simd, slot, nth)
        } else {
            simd.apart(LookBehindTags { closer: self, slot, nth })
        }
    }

    /// Finishes the `nth` frame of the burst. Parses its query into the slot, and writes there the
    /// outcome for the log.
    #[inline(never)]
    pub fn finish(&mut self, slot: &mut Slot, nth: usize) -> Verdict {
        let Job { checksums, frames, burst, stats, .. } = &mut *self.job;
        let frame = &burst[nth];
        let packet = frames.packet(frame);
        let (envelope, len) = match Envelope::open(packet, *checksums) {
            Ok(opened) => opened,
            Err(reason) => return self.drop(reason),
        };
        slot.envelope = envelope;
        if envelope.is_partial() {
            stats.add(Counter::PartialChecksum, 1);
        }
        let message = &packet[envelope.message()..][..len];
        let Some(client) = envelope.client(packet) else { return self.drop(DropReason::BadLength) };
        let asker = Asker { client: client.ip(), connected: false, now: self.unix };
        let (verdict, options) = self.policy.read(message, &mut slot.query, &asker);
        if let Err(Reject::Drop(reason)) = verdict {
            return self.drop(reason);
        }
        self.answer(slot, nth, (len, asker), verdict, options)
    }

    /// Answers the query that the slot holds, whose message has `len` bytes and asks for no options.
    #[inline(always)]
    fn answer_plainly<P: Plain>(&mut self, slot: &mut Slot, nth: usize, len: usize) -> Verdict {
        let client = P::client(self.job.frames.window(&self.job.burst[nth]));
        if self.limiter.is_none() {
            return self.look_up(slot, nth, (len, client), &Options::default());
        }
        let asker = Asker { client, connected: false, now: self.unix };
        self.answer(slot, nth, (len, asker), Ok(()), Options::default())
    }

    /// Answers the query that the slot holds, whose message has `len` bytes.
    #[inline(never)]
    fn answer(
        &mut self,
        slot: &mut Slot,
        nth: usize,
        (len, asker): (usize, Asker),
        verdict: Result<(), Reject<'_>>,
        options: Options<'_>,
    ) -> Verdict {
        let Slot { query, group, outcome, rcode, envelope, .. } = &mut *slot;
        let envelope = *envelope;
        match limit(self.limiter.as_deref_mut(), &mut self.payer, self.policy, query, &asker) {
            None => {}
            Some(Action::DryRun) => self.job.stats.add(Counter::LimitDryRun, 1),
            Some(Action::Slip) if verdict.is_ok() => {
                (*outcome, *rcode) = (Outcome::Rejected, rcode::NOERROR.into());
                return self.slip(query, envelope, options, nth);
            }
            Some(Action::Slip | Action::Drop) => return self.drop(DropReason::Limited),
        }
        if verdict == Err(Reject::Notify) {
            *group = Group::DEFAULT;
            return Verdict::Notify(envelope);
        }
        if let Err(reject) = verdict {
            (*outcome, *rcode) = (Outcome::Rejected, reject.rcode());
            return self.reject(query, envelope, reject, options, nth);
        }
        self.look_up(slot, nth, (len, asker.client), &options)
    }

    /// Looks up the answer to the query that the slot holds, whose message has `len` bytes.
    #[inline(never)]
    fn look_up(
        &mut self,
        slot: &mut Slot,
        nth: usize,
        (len, client): (usize, IpAddr),
        options: &Options<'_>,
    ) -> Verdict {
        let Slot { query, group, outcome, list, rcode, envelope, .. } = slot;
        let (policy, envelope) = (self.policy, *envelope);
        let Job { now, checksums, frames, burst, stats, tally } = &mut *self.job;
        let frame = &mut burst[nth];
        let packet = frames.packet(frame);
        // Frames of kernel sockets have made-up MAC addresses.
        let sender = || (*checksums != Checksums::Unused).then(|| MacAddress::of_source(packet)).flatten();
        *group = policy.groups.of_sender(client, sender);
        match self.cache.lookup_for(*group, self.hash.of(&query.key), &query.key, *now) {
            Some(hit) => {
                let (age, verdict) = match hit.freshness {
                    Freshness::Fresh { age, renew: false } => (Age::Fresh(age), Verdict::Reply),
                    Freshness::Fresh { age, renew: true } => {
                        (Age::Fresh(age), Verdict::ReplyAndRefresh(envelope))
                    }
                    // The control plane must find out whether a new answer arrives in time.
                    Freshness::Stale { .. } if !self.rules.stale_at_once => return Verdict::Punt(envelope),
                    Freshness::Stale { refresh: false } => (Age::Stale(self.rules.stale_ttl), Verdict::Reply),
                    Freshness::Stale { refresh: true } => {
                        (Age::Stale(self.rules.stale_ttl), Verdict::ReplyAndRefresh(envelope))
                    }
                };
                *rcode = hit.view.status.rcode().into();
                *list = hit.list;
                *outcome = AnswerSource::of(Tier::Core).by(hit.list).outcome(hit.view.status.rcode(), age);
                match hit.list {
                    // A refusal by a list is no failure of resolution.
                    Some(list) => {
                        stats.lists.add(list, *group);
                        tally.hits += 1;
                    }
                    None => count(hit.view.status, age, stats, tally),
                }
                let buffer = frames.buffer(frame);
                let limits = self.rules.limits(query, *options, self.largest.to(envelope));
                let view = hit.view.by(hit.list.and_then(|list| policy.name_of_list(list)));
                let reply = reply::answer(&mut buffer[envelope.message()..], len, query, view, age, &limits);
                stats.add(Counter::Truncated, u64::from(reply.cut));
                frame.set_len(envelope.seal(buffer, reply.len, Some(reply.change)));
                verdict
            }
            None => Verdict::Punt(envelope),
        }
    }

    /// Charges the client of the `nth` frame, which is [finished](Self::finish).
    pub fn charge(&mut self, slot: &Slot, nth: usize) {
        let (Some(client), Some(limiter)) = (self.payer.take(), self.limiter.as_deref_mut()) else { return };
        let price = match slot.verdict {
            Verdict::Drop(_) => return,
            Verdict::Punt(_) | Verdict::Notify(_) => limiter::MISS,
            Verdict::Reply | Verdict::ReplyAndRefresh(_) if slot.outcome == Outcome::Rejected => {
                limiter::REJECTION
            }
            Verdict::Reply | Verdict::ReplyAndRefresh(_) => {
                limiter::price(self.job.burst[nth].len(), slot.rcode as u8)
            }
        };
        limiter.charge(client, price);
    }

    /// Answers a query over the limit with TC=1.
    fn slip(&mut self, query: &Query, envelope: Envelope, options: Options<'_>, nth: usize) -> Verdict {
        let Job { frames, burst, stats, .. } = &mut *self.job;
        stats.add(Counter::Slipped, 1);
        let frame = &mut burst[nth];
        let buffer = frames.buffer(frame);
        let limits = self.rules.limits(query, options, self.largest.to(envelope));
        let len = reply::truncated(&mut buffer[envelope.message()..], query, &limits);
        frame.set_len(envelope.seal(buffer, len, None));
        Verdict::Reply
    }

    fn drop(&self, reason: DropReason) -> Verdict {
        self.job.stats.drop(reason);
        Verdict::Drop(reason)
    }

    fn reject(
        &mut self,
        query: &Query,
        envelope: Envelope,
        reject: Reject<'_>,
        options: Options<'_>,
        nth: usize,
    ) -> Verdict {
        let Job { frames, burst, stats, .. } = &mut *self.job;
        let frame = &mut burst[nth];
        stats.add(counter(reject), 1);
        let buffer = frames.buffer(frame);
        let limits = self.rules.limits(query, options, self.largest.to(envelope));
        let len = reply::reject(&mut buffer[envelope.message()..], query, reject, &limits);
        frame.set_len(envelope.seal(buffer, len, None));
        Verdict::Reply
    }
}

/// Returns the counter of rejections for a reason.
#[inline(always)]
fn counter(reject: Reject<'_>) -> Counter {
    match reject {
        Reject::BadVersion => Counter::BadVers,
        Reject::Denied | Reject::Header(rcode::REFUSED) => Counter::Denied,
        Reject::Identity(_) => Counter::Identity,
        Reject::BadCookie | Reject::NoQuestion => Counter::Cookie,
        Reject::Header(rcode::NOTIMP) => Counter::NotImp,
        Reject::Header(_) | Reject::Question(rcode::FORMERR) => Counter::FormErr,
        Reject::Question(_) | Reject::NotRecursive | Reject::Drop(_) | Reject::Notify => Counter::Refused,
    }
}

/// Returns the treatment of a query whose client is over its limit. Otherwise the client becomes the
/// payer, unless a cookie proves its address.
fn limit(
    limiter: Option<&mut Limiter>,
    payer: &mut Option<IpAddr>,
    policy: &QueryPolicy,
    query: &Query,
    asker: &Asker,
) -> Option<Action> {
    let limiter = limiter?;
    if policy.has_good_cookie(query, asker) {
        return None;
    }
    let action = limiter.refuse(asker.client);
    if action.is_none() {
        *payer = Some(asker.client);
    }
    action
}
