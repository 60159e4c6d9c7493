//! The passes over a burst, compiled once per [level](crate::simd::Level) of processor.

mod asking;
mod special;
mod wide;

use super::{
    Job, Processor, TurnTally, count,
    glance::{self, Conditions, Content, Glance, Opt, ReplyOpt, Seen},
};
use crate::{
    cache::{Cache, Found},
    checksum::Checksums,
    clock::Secs,
    dns::{key::Flags, reply::Age},
    frame::{Frame, Frames},
    packet::{
        header::EtherType,
        plain::{self, Plain, Window},
    },
    policy::QueryPolicy,
    simd::{BLOCK, Simd, Work},
    stats::WorkerStats,
};
use special::{AnswerSpecial, Outcome};
use std::marker::PhantomData;
use wide::{AnswerAllWide, LookAllWide};

/// Shortest record in bytes: the root's name, type, class, TTL, and a data length of zero.
const MIN_RECORD: usize = 11;

/// The passes over a burst.
pub struct Passes<'a, 'b> {
    pub processor: &'a mut Processor,
    pub job: &'a mut Job<'b>,
}

/// Frames of a burst by what the passes did, a bit for each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passed {
    /// Frames that need a closer look.
    pub left: u64,
    /// Frames whose client has proven its address by a cookie.
    pub proven: u64,
}

impl Passed {
    /// Notes the outcome of the `nth` frame, where it was none.
    #[inline(always)]
    fn note(&mut self, nth: usize, outcome: Outcome) {
        let bit = 1 << nth;
        match outcome {
            Outcome::Left => self.left |= bit,
            Outcome::Answered => {}
            Outcome::Proven => self.proven |= bit,
        }
    }
}

impl Work for Passes<'_, '_> {
    type Output = Passed;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Passed {
        let Passes { processor, job } = self;
        let unix = processor.unix(job.now);
        let Job { now, checksums, frames, burst, stats, tally } = job;
        let (now, checksums, stats) = (*now, *checksums, *stats);
        let (frames, burst, tally) = (&mut **frames, &mut **burst, &mut **tally);
        let Processor { cache, hash, rules, largest, policy, glances, wides, .. } = processor;
        let (largest, access) = (*largest, &policy.access);
        let (filed, has_name) = (cache.filed(Flags::default()), policy.nsid.is_some());
        let conditions = Conditions { access, checksums, largest, hash: *hash, filed, has_name };
        // Whether a packet may be worth a wide look: by reference, so that it takes no register from the loop.
        let mut may_be_wide = false;
        for (glance, frame) in glances.iter_mut().zip(&*burst) {
            let (window, len) = (frames.window(frame), frame.len());
            let seek = |hash| cache.seek(hash);
            let seen = glance.look::<S, plain::V4>(simd, window, len, &conditions, seek);
            glance.seen = if seen.is_seen() {
                seen
            } else {
                let (conditions, may_be_wide) = (&conditions, &mut may_be_wide);
                simd.apart(LookOn { glance, window, len, conditions, cache, may_be_wide, seen })
            };
        }
        if may_be_wide {
            let (conditions, cache) = (&conditions, &*cache);
            simd.apart(LookAllWide { glances, wides, frames, burst, conditions, cache, stats });
        }
        for (glance, _) in glances.iter_mut().zip(&*burst) {
            match cache.candidate(glance.spot) {
                Some(entry) => glance.entry = entry,
                None => glance.seen = glance.seen.missed(),
            }
        }
        let (opt, policy) = (Opt::of(rules.udp_limit), &**policy);
        let stale_ttl = rules.stale_at_once.then_some(rules.stale_ttl);
        let counted = 0;
        let mut last =
            Last { cache, frames, stats, tally, counted, now, unix, opt, policy, checksums, stale_ttl };
        let mut passed = Passed::default();
        for (nth, (frame, glance)) in burst.iter_mut().zip(&mut *glances).enumerate() {
            if glance.seen == Seen::V4 {
                let outcome = last.answer::<S, plain::V4, false>(simd, glance, frame);
                if outcome == Outcome::Answered {
                    continue;
                }
                passed.left |= 1 << nth;
            } else if !glance.seen.may_have_entry() {
                passed.left |= 1 << nth;
            } else {
                passed.note(nth, simd.apart(AnswerOther { last: &mut last, glance, frame }));
            }
        }
        if may_be_wide {
            let (last, passed) = (&mut last, &mut passed);
            simd.apart(AnswerAllWide { last, glances, wides, burst, passed });
        }
        let answered = burst.len() as u64 - u64::from(passed.left.count_ones());
        tally.hits += answered - last.counted;
        passed
    }
}

/// Look at a packet that is not a question of one block over IPv4.
struct LookOn<'a, 'b> {
    glance: &'a mut Glance,
    window: &'a Window,
    len: usize,
    conditions: &'a Conditions<'b>,
    cache: &'a Cache,
    may_be_wide: &'a mut bool,
    /// Kind of question that the first look has seen.
    seen: Seen,
}

impl Work for LookOn<'_, '_> {
    type Output = Seen;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Seen {
        let LookOn { window, len, conditions, cache, mut seen, .. } = self;
        let kind = EtherType::of(window);
        if seen == Seen::Nothing {
            if kind == EtherType::IPV6 {
                let seek = |hash| cache.seek(hash);
                seen = self.glance.look::<S, plain::V6>(simd, window, len, conditions, seek);
            } else if kind == EtherType::IPV4 {
                // Here, so that a packet that is dropped or refused costs no further look.
                if !glance::may_be_query::<plain::V4>(window, conditions) {
                    return Seen::Nothing;
                }
            } else {
                let is_tagged = kind == EtherType::VLAN || kind == EtherType::QINQ;
                *self.may_be_wide |= is_tagged;
                return if is_tagged { Seen::Tagged } else { Seen::Nothing };
            }
        }
        match seen {
            Seen::Nothing | Seen::Wide => simd.apart(LookGenerally(self)),
            Seen::UnsummedV4 | Seen::UnsummedV6 if conditions.may_be_completed(window) => {
                *self.may_be_wide = true;
                seen
            }
            Seen::UnsummedV4 | Seen::UnsummedV6 => Seen::Nothing,
            _ => seen,
        }
    }
}

/// General look at a packet over IP. Over IPv4 it [may be a query](glance::may_be_query).
struct LookGenerally<'a, 'b>(LookOn<'a, 'b>);

impl Work for LookGenerally<'_, '_> {
    type Output = Seen;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Seen {
        let LookOn { glance, window, len, conditions, cache, may_be_wide, .. } = self.0;
        let seek = |hash| cache.seek(hash);
        let seen = if EtherType::of(window) == EtherType::IPV4 {
            glance.look_generally::<S, plain::V4>(simd, window, len, conditions, seek)
        } else if !glance::may_be_query::<plain::V6>(window, conditions) {
            Seen::Nothing
        } else {
            glance.look_generally::<S, plain::V6>(simd, window, len, conditions, seek)
        };
        if matches!(seen, Seen::UnsummedV4 | Seen::UnsummedV6) && !conditions.may_be_completed(window) {
            return Seen::Nothing;
        }
        *may_be_wide |= matches!(seen, Seen::Wide | Seen::UnsummedV4 | Seen::UnsummedV6);
        seen
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
    /// The Unix time, wrapping.
    unix: u32,
    opt: Opt,
    policy: &'a QueryPolicy,
    checksums: Checksums,
    /// TTL of stale answers in seconds; `None`: the control plane decides about them.
    stale_ttl: Option<u32>,
}

impl Last<'_> {
    /// Turns the query into its reply if the entry is the right one.
    #[inline(always)]
    fn answer<S: Simd, P: Plain, const LONG: bool>(
        &mut self,
        simd: S,
        glance: &mut Glance,
        frame: &mut Frame,
    ) -> Outcome {
        let (window, len) = self.frames.window_mut(frame);
        let [question, beyond] =
            if LONG { glance.long_question() } else { [glance.question(), (&[0; BLOCK], 0)] };
        let (now, opt) = (self.now, self.opt);
        if let Some(fresh) = self.cache.get_fresh(simd, glance.entry, glance.filed, question, beyond, now) {
            if fresh.is_simple() {
                // A simple answer fits in any reply.
                // The remainder equals the length; it saves a bounds check.
                let question_len = (question.1 + beyond.1) % (2 * BLOCK);
                let opt = ReplyOpt { opt, options: None };
                len.set(glance.reply_simply::<S, P>(simd, window, fresh, question_len, now, opt));
                return Outcome::Answered;
            }
            let (status, wire_len) = (fresh.status(), fresh.wire_len());
            // A reply with a record is never shorter than the shortest Ethernet frame.
            if wire_len >= MIN_RECORD && glance.has_room(wire_len) && !status.is_truncated() {
                self.counted += 1;
                count(status, Age::Fresh(0), self.stats, self.tally);
                let question_len = question.1 + beyond.1;
                let copy = Copy::<P> { glance, window, fresh, question_len, now, opt, version: PhantomData };
                len.set(simd.apart(copy));
                return Outcome::Answered;
            }
        }
        self.answer_specially::<S, P>(simd, glance, frame)
    }

    /// Turns the query, which got no wide look, into its reply if a special entry is the right one.
    #[inline(always)]
    fn answer_specially<S: Simd, P: Plain>(
        &mut self,
        simd: S,
        glance: &mut Glance,
        frame: &mut Frame,
    ) -> Outcome {
        let version = PhantomData::<P>;
        simd.apart(AnswerSpecial { last: self, glance, frame, wide: None, version })
    }
}

/// A reply that needs more than a block copied.
struct Copy<'a, P> {
    glance: &'a Glance,
    window: &'a mut Window,
    fresh: Found<'a>,
    question_len: usize,
    now: Secs,
    opt: Opt,
    version: PhantomData<P>,
}

impl<P: Plain> Work for Copy<'_, P> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> usize {
        let Copy { glance, window, fresh, question_len, now, opt, .. } = self;
        let mut parts = fresh.parts();
        if fresh.status().is_authentic() && !glance.wants_ad::<P>(window) {
            parts = parts.without_ad();
        }
        let content = Content { parts, question_len, age: Age::Fresh(fresh.age(now)) };
        let opt = ReplyOpt { opt, options: None };
        glance.reply::<S, P>(simd, window, content, opt)
    }
}

/// Last pass over a packet that is not a question of one block over IPv4.
struct AnswerOther<'a, 'b> {
    last: &'a mut Last<'b>,
    glance: &'a mut Glance,
    frame: &'a mut Frame,
}

impl Work for AnswerOther<'_, '_> {
    type Output = Outcome;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Outcome {
        if self.glance.seen == Seen::V6 {
            let AnswerOther { last, glance, frame } = self;
            return last.answer::<S, plain::V6, false>(simd, glance, frame);
        }
        simd.apart(AnswerRare(self))
    }
}

/// Last pass over a packet that is not a question of one block, or asks for options.
struct AnswerRare<'a, 'b>(AnswerOther<'a, 'b>);

impl Work for AnswerRare<'_, '_> {
    type Output = Outcome;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Outcome {
        let AnswerOther { last, glance, frame } = self.0;
        match glance.seen {
            Seen::LongV4 => last.answer::<S, plain::V4, true>(simd, glance, frame),
            Seen::LongV6 => last.answer::<S, plain::V6, true>(simd, glance, frame),
            Seen::AskingV4 => last.answer_asking::<S, plain::V4>(simd, glance, frame),
            Seen::AskingV6 => last.answer_asking::<S, plain::V6>(simd, glance, frame),
            Seen::V4 | Seen::V6 | Seen::Special | Seen::Tagged | Seen::Wide | Seen::Nothing => Outcome::Left,
            Seen::UnsummedV4 | Seen::UnsummedV6 | Seen::MissedV4 | Seen::MissedV6 => Outcome::Left,
        }
    }
}
