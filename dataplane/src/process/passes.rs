//! The passes over a burst, compiled once per [level](crate::simd::Level) of processor.

mod stripped;

use super::{
    Job, Processor, TurnTally, count,
    glance::{Conditions, Glance, Opt, Seen},
};
use crate::{
    cache::{Cache, Fresh, Note},
    checksum::Checksums,
    clock::Secs,
    dns::{
        key::Flags,
        option::{Errors, Options},
        reply::Age,
    },
    frame::{Frame, Frames},
    group::Group,
    mac::MacAddress,
    packet::plain::{self, Plain, Window},
    policy::QueryPolicy,
    simd::{Simd, Work},
    stats::WorkerStats,
};
use std::marker::PhantomData;
use stripped::{AnswerAllStripped, LookBehind};

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

impl Work for Passes<'_, '_> {
    type Output = Passed;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Passed {
        let Passes { processor, job } = self;
        let unix = processor.unix(job.now);
        let Job { now, checksums, frames, burst, stats, tally } = job;
        let (now, checksums, stats) = (*now, *checksums, *stats);
        let (frames, burst, tally) = (&mut **frames, &mut **burst, &mut **tally);
        let Processor { cache, hash, rules, largest, policy, glances, stripped, .. } = processor;
        let (largest, access) = (*largest, &policy.access);
        let conditions =
            Conditions { access, checksums, largest, hash: *hash, filed: cache.filed(Flags::default()) };
        // Whether a packet may be made plain: by reference, so that it takes no register from the loop.
        let mut may_be_stripped = false;
        if checksums == Checksums::Trust {
            // No reply's checksum can follow from one that may be partial.
            may_be_stripped = true;
            glances.iter_mut().zip(&*burst).for_each(|(glance, _)| glance.seen = Seen::Strippable);
        } else {
            for (glance, frame) in glances.iter_mut().zip(&*burst) {
                let (window, len) = (frames.window(frame), frame.len());
                let seek = |hash| cache.seek(hash);
                glance.seen = if glance.look::<S, plain::V4, false>(simd, window, len, &conditions, seek) {
                    Seen::V4
                } else {
                    let (conditions, may_be_stripped) = (&conditions, &mut may_be_stripped);
                    simd.apart(LookOn { glance, window, len, conditions, cache, may_be_stripped })
                };
            }
        }
        if may_be_stripped {
            for ((glance, stripped), frame) in glances.iter_mut().zip(&mut *stripped).zip(&mut *burst) {
                if glance.seen == Seen::Strippable {
                    let (conditions, cache) = (&conditions, &*cache);
                    let behind = LookBehind { glance, frames, frame, conditions, cache, stripped };
                    glance.seen = simd.apart(behind);
                }
            }
        }
        for (glance, _) in glances.iter_mut().zip(&*burst) {
            match cache.candidate(glance.spot) {
                Some(entry) => glance.entry = entry,
                None => glance.seen = glance.seen.missed(),
            }
        }
        let (opt, policy) = (Opt::of(rules.udp_limit), &**policy);
        let mut last = Last { cache, frames, stats, tally, counted: 0, now, opt, policy, checksums };
        let mut passed = Passed::default();
        for (nth, (frame, glance)) in burst.iter_mut().zip(&mut *glances).enumerate() {
            let answered = if glance.seen == Seen::V4 {
                last.answer::<S, plain::V4, false>(simd, glance, frame)
            } else {
                simd.apart(AnswerOther { last: &mut last, glance, frame })
            };
            if !answered {
                passed.left |= 1 << nth;
            }
        }
        if may_be_stripped {
            simd.apart(AnswerAllStripped {
                last: &mut last,
                glances,
                burst,
                stripped,
                unix,
                passed: &mut passed,
            });
        }
        let answered = burst.len() as u64 - u64::from(passed.left.count_ones());
        tally.hits += answered - last.counted;
        passed
    }
}

/// Glance at a packet that is not a question of one block over IPv4.
struct LookOn<'a, 'b> {
    glance: &'a mut Glance,
    window: &'a Window,
    len: usize,
    conditions: &'a Conditions<'b>,
    cache: &'a Cache,
    may_be_stripped: &'a mut bool,
}

impl Work for LookOn<'_, '_> {
    type Output = Seen;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Seen {
        let LookOn { glance, window, len, conditions, cache, may_be_stripped } = self;
        let seek = |hash| cache.seek(hash);
        if glance.look::<S, plain::V6, false>(simd, window, len, conditions, seek) {
            Seen::V6
        } else if glance.look::<S, plain::V4, true>(simd, window, len, conditions, seek) {
            Seen::LongV4
        } else if glance.look::<S, plain::V6, true>(simd, window, len, conditions, seek) {
            Seen::LongV6
        } else if conditions.may_be_stripped(window) {
            *may_be_stripped = true;
            Seen::Strippable
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
            let options = &Options::default();
            return simd.apart(AnswerNoted::<P, LONG, false> {
                last: self,
                glance,
                frame,
                options,
                version: PhantomData,
            });
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

/// Last pass over a question without a fresh answer that has no note, which may have one with a note; or
/// over any question, if there are `OPTIONS` for the reply.
struct AnswerNoted<'a, 'b, P, const LONG: bool, const OPTIONS: bool> {
    last: &'a mut Last<'b>,
    glance: &'a mut Glance,
    frame: &'a mut Frame,
    options: &'a Options<'a>,
    version: PhantomData<P>,
}

impl<P: Plain, const LONG: bool, const OPTIONS: bool> Work for AnswerNoted<'_, '_, P, LONG, OPTIONS> {
    /// Whether the query is a reply now.
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> bool {
        let AnswerNoted { last, glance, frame, options, .. } = self;
        let Last { cache, frames, stats, tally, counted, now, opt, policy, checksums } = last;
        let (window, len) = frames.window_mut(frame);
        let (question, beyond): (_, &[u8]) =
            if LONG { glance.long_question() } else { (glance.question(), &[]) };
        // Frames of kernel sockets have made-up MAC addresses.
        let sender =
            || (*checksums != Checksums::Unused).then(|| MacAddress::of_source(&window[..])).flatten();
        let client = (*now, || policy.groups.of_sender(P::client(window), sender));
        let bare = match OPTIONS {
            true => cache.get_fresh(simd, glance.entry, glance.filed, question, beyond, *now),
            false => None,
        };
        let found = match bare {
            Some(fresh) => Some((fresh, Note::NONE, Group::DEFAULT)),
            None => cache.get_noted(simd, glance.entry, glance.filed, question, beyond, client),
        };
        let Some((fresh, note, group)) = found else { return false };
        let (status, wire_len) = (fresh.status(), fresh.wire_len());
        let mut errors = Errors::default();
        if glance.has_opt() && note.ede.is_some() {
            // The age of an answer that no list gave adds errors of its own.
            let Some(list) = note.list else { return false };
            errors = Errors::of_list(note.ede, policy.name_of_list(list));
        }
        let options = OPTIONS.then_some(options);
        if fresh.is_simple() && !OPTIONS && errors.is_empty() && note.list.is_none() {
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
        len.set(glance.reply::<S, P>(simd, window, fresh, *now, (*opt, errors, options)));
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
    window: &'a mut Window,
    fresh: Fresh<'a>,
    now: Secs,
    opt: Opt,
    version: PhantomData<P>,
}

impl<P: Plain> Work for Copy<'_, P> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> usize {
        self.glance.reply::<S, P>(
            simd,
            self.window,
            self.fresh,
            self.now,
            (self.opt, Errors::default(), None),
        )
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
            Seen::V4 | Seen::ListedV4 | Seen::ListedV6 => false,
            Seen::Strippable | Seen::Stripped | Seen::Nothing => false,
            Seen::MissedV4 | Seen::MissedV6 => false,
        }
    }
}
