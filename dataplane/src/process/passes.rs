//! The passes over a burst, compiled once per [level](crate::simd::Level) of processor.

use super::{
    Job, Processor, TurnTally, count,
    glance::{Conditions, Glance, Opt, Seen},
};
use crate::{
    cache::{Cache, Fresh},
    checksum::Checksums,
    clock::Secs,
    dns::{key::Flags, option::Errors, reply::Age},
    frame::{Frame, Frames, WINDOW},
    mac::MacAddress,
    packet::plain::{self, Plain},
    policy::QueryPolicy,
    simd::{Simd, Work},
    stats::WorkerStats,
};
use std::marker::PhantomData;

/// Shortest record in bytes: the root's name, type, class, TTL, and a data length of zero.
const MIN_RECORD: usize = 11;

/// The passes over a burst.
pub struct Passes<'a, 'b> {
    pub processor: &'a mut Processor,
    pub job: &'a mut Job<'b>,
}

impl Work for Passes<'_, '_> {
    /// A bit for each frame that needs a closer look.
    type Output = u64;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> u64 {
        let Passes { processor, job } = self;
        let Job { now, checksums, frames, burst, stats, tally } = job;
        let (now, checksums, stats) = (*now, *checksums, *stats);
        let (frames, burst, tally) = (&mut **frames, &mut **burst, &mut **tally);
        let Processor { cache, hash, rules, largest, policy, glances, .. } = processor;
        let (largest, access) = (*largest, &policy.access);
        let conditions =
            Conditions { access, checksums, largest, hash: *hash, filed: cache.filed(Flags::default()) };
        for (glance, frame) in glances.iter_mut().zip(&*burst) {
            let (window, len) = (frames.window(frame), frame.len());
            let seek = |hash| cache.seek(hash);
            glance.seen = if glance.look::<S, plain::V4, false>(simd, window, len, &conditions, seek) {
                Seen::V4
            } else {
                simd.apart(LookOn { glance, window, len, conditions: &conditions, cache })
            };
        }
        for (glance, _) in glances.iter_mut().zip(&*burst) {
            match cache.candidate(glance.spot) {
                Some(entry) => glance.entry = entry,
                None => glance.seen = Seen::Nothing,
            }
        }
        let (opt, policy) = (Opt::of(rules.udp_limit), &**policy);
        let mut last = Last { cache, frames, stats, tally, counted: 0, now, opt, policy, checksums };
        let mut left = 0u64;
        for (nth, (frame, glance)) in burst.iter_mut().zip(&mut *glances).enumerate() {
            let answered = if glance.seen == Seen::V4 {
                last.answer::<S, plain::V4, false>(simd, glance, frame)
            } else {
                simd.apart(AnswerOther { last: &mut last, glance, frame })
            };
            if !answered {
                left |= 1 << nth;
            }
        }
        let answered = burst.len() as u64 - u64::from(left.count_ones());
        tally.hits += answered - last.counted;
        left
    }
}

/// Glance at a packet that is not a question of one block over IPv4.
struct LookOn<'a> {
    glance: &'a mut Glance,
    window: &'a [u8; WINDOW],
    len: usize,
    conditions: &'a Conditions<'a>,
    cache: &'a Cache,
}

impl Work for LookOn<'_> {
    type Output = Seen;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Seen {
        let LookOn { glance, window, len, conditions, cache } = self;
        let seek = |hash| cache.seek(hash);
        if glance.look::<S, plain::V6, false>(simd, window, len, conditions, seek) {
            Seen::V6
        } else if glance.look::<S, plain::V4, true>(simd, window, len, conditions, seek) {
            Seen::LongV4
        } else if glance.look::<S, plain::V6, true>(simd, window, len, conditions, seek) {
            Seen::LongV6
        } else {
            Seen::Nothing
        }
    }
}

/// State of the last pass.
struct Last<'a> {
    cache: &'a mut Cache,
    frames: &'a mut Frames,
    stats: &'a WorkerStats,
    tally: &'a mut TurnTally,
    /// Number of replies already counted one by one.
    counted: u64,
    now: Secs,
    opt: Opt,
    policy: &'a QueryPolicy,
    checksums: Checksums,
}

impl Last<'_> {
    /// Turns the query into its reply if the entry is fresh and the right one, and the answer is
    /// not special.
    #[inline(always)]
    fn answer<S: Simd, P: Plain, const LONG: bool>(
        &mut self,
        simd: S,
        glance: &mut Glance,
        frame: &mut Frame,
    ) -> bool {
        let (window, len) = self.frames.window_mut(frame);
        let (question, beyond): (_, &[u8]) =
            if LONG { glance.long_question() } else { (glance.question(), &[]) };
        let fresh = self.cache.get_fresh(simd, glance.entry, glance.filed, question, beyond, self.now);
        let Some(fresh) = fresh else {
            return simd.apart(AnswerNoted::<P, LONG> { last: self, glance, frame, version: PhantomData });
        };
        let (now, opt) = (self.now, self.opt);
        if fresh.is_simple() {
            // A simple answer fits in any reply.
            len.set(glance.reply_simply::<S, P>(simd, window, fresh, question.1 + beyond.len(), now, opt));
            return true;
        }
        let (status, wire_len) = (fresh.status(), fresh.wire_len());
        // A reply with a record is never shorter than the shortest Ethernet frame.
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

/// Last pass over a question without a fresh answer that has no note: it may have one with a note.
struct AnswerNoted<'a, 'b, P, const LONG: bool> {
    last: &'a mut Last<'b>,
    glance: &'a mut Glance,
    frame: &'a mut Frame,
    version: PhantomData<P>,
}

impl<P: Plain, const LONG: bool> Work for AnswerNoted<'_, '_, P, LONG> {
    /// Whether the query is a reply now.
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> bool {
        let AnswerNoted { last, glance, frame, .. } = self;
        let Last { cache, frames, stats, tally, counted, now, opt, policy, checksums } = last;
        let (window, len) = frames.window_mut(frame);
        let (question, beyond): (_, &[u8]) =
            if LONG { glance.long_question() } else { (glance.question(), &[]) };
        // Frames of kernel sockets have made-up MAC addresses.
        let sender =
            || (*checksums != Checksums::Unused).then(|| MacAddress::of_source(&window[..])).flatten();
        let client = (*now, || policy.groups.of_sender(P::client(window), sender));
        let found = cache.get_noted(simd, glance.entry, glance.filed, question, beyond, client);
        let Some((fresh, note, group)) = found else { return false };
        let (status, wire_len) = (fresh.status(), fresh.wire_len());
        let mut errors = Errors::default();
        if glance.has_opt() && note.ede.is_some() {
            // The age of an answer that no list gave adds errors of its own.
            let Some(list) = note.list else { return false };
            errors = Errors::of_list(note.ede, policy.name_of_list(list));
        }
        if fresh.is_simple() && errors.is_empty() && note.list.is_none() {
            // The usual answer of an upstream that some groups only may ask.
            let question_len = question.1 + beyond.len();
            len.set(glance.reply_simply::<S, P>(simd, window, fresh, question_len, *now, *opt));
            return true;
        }
        if wire_len < MIN_RECORD
            || !glance.has_room(wire_len + errors.len())
            || !status.suits(glance.wants_ad::<P>(window))
        {
            return false;
        }
        *counted += 1;
        len.set(glance.reply::<S, P>(simd, window, fresh, *now, (*opt, errors)));
        match note.list {
            // A refusal by a list is no failure of resolution.
            Some(list) => {
                glance.set_list(list);
                stats.lists.add(list, group);
                tally.hits += 1;
            }
            None => count(status, Age::Fresh(0), stats, tally),
        }
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
        self.glance.reply::<S, P>(simd, self.window, self.fresh, self.now, (self.opt, Errors::default()))
    }
}

/// Last pass over a packet that is not a question of one block over IPv4.
struct AnswerOther<'a, 'b> {
    last: &'a mut Last<'b>,
    glance: &'a mut Glance,
    frame: &'a mut Frame,
}

impl Work for AnswerOther<'_, '_> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> bool {
        let AnswerOther { last, glance, frame } = self;
        match glance.seen {
            Seen::V6 => last.answer::<S, plain::V6, false>(simd, glance, frame),
            Seen::LongV4 => last.answer::<S, plain::V4, true>(simd, glance, frame),
            Seen::LongV6 => last.answer::<S, plain::V6, true>(simd, glance, frame),
            Seen::V4 | Seen::ListedV4 | Seen::ListedV6 | Seen::Nothing => false,
        }
    }
}
