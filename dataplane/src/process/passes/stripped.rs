//! The passes over packets that are [made plain](super::super::strip).

use super::{AnswerNoted, AnswerOther, Last, Passed};
use crate::{
    cache::Cache,
    dns::option::Options,
    frame::{Frame, Frames},
    packet::{
        header::EtherType,
        plain::{self, Plain, Window},
    },
    policy::Asker,
    process::{
        glance::{Conditions, Glance, Seen},
        strip::{ReplyOptions, Stripped},
    },
    simd::{Simd, Work},
    stats::Counter,
};
use std::marker::PhantomData;

/// Version of IP whose questions are seen.
trait Kinds: Plain {
    /// Kinds of a question of one block and of two.
    const SEEN: [Seen; 2];
}

impl Kinds for plain::V4 {
    const SEEN: [Seen; 2] = [Seen::V4, Seen::LongV4];
}

impl Kinds for plain::V6 {
    const SEEN: [Seen; 2] = [Seen::V6, Seen::LongV6];
}

/// Glance at a packet that was made plain.
struct LookAgain<'a, 'b, P> {
    glance: &'a mut Glance,
    window: &'a Window,
    len: usize,
    conditions: &'a Conditions<'b>,
    cache: &'a Cache,
    version: PhantomData<P>,
}

impl<P: Kinds> Work for LookAgain<'_, '_, P> {
    type Output = Seen;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Seen {
        let LookAgain { glance, window, len, conditions, cache, .. } = self;
        let seek = |hash| cache.seek(hash);
        if glance.look::<S, P, false>(simd, window, len, conditions, seek) {
            P::SEEN[0]
        } else if glance.look::<S, P, true>(simd, window, len, conditions, seek) {
            P::SEEN[1]
        } else {
            Seen::Nothing
        }
    }
}

/// Glance at a packet that has to be made plain.
pub struct LookBehind<'a, 'b> {
    pub glance: &'a mut Glance,
    pub frames: &'a mut Frames,
    pub frame: &'a mut Frame,
    pub conditions: &'a Conditions<'b>,
    pub cache: &'a Cache,
    pub stripped: &'a mut Stripped,
}

impl Work for LookBehind<'_, '_> {
    type Output = Seen;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Seen {
        let LookBehind { glance, frames, frame, conditions, cache, stripped } = self;
        if !stripped.make_plain(simd, frames, frame, conditions) {
            return Seen::Nothing;
        }
        let (window, len) = (frames.window(frame), frame.len());
        let seen = match EtherType::of(window) {
            EtherType::IPV4 => {
                let version = PhantomData::<plain::V4>;
                simd.apart(LookAgain { glance, window, len, conditions, cache, version })
            }
            _ => {
                let version = PhantomData::<plain::V6>;
                simd.apart(LookAgain { glance, window, len, conditions, cache, version })
            }
        };
        if seen == Seen::Nothing {
            stripped.restore(frames, frame);
            return Seen::Nothing;
        }
        stripped.note_seen(seen);
        Seen::Stripped
    }
}

/// Last pass over the packets of a burst that were made plain.
pub struct AnswerAllStripped<'a, 'b> {
    pub last: &'a mut Last<'b>,
    pub glances: &'a mut [Glance],
    pub burst: &'a mut [Frame],
    pub stripped: &'a mut [Stripped],
    /// The Unix time, wrapping.
    pub unix: u32,
    pub passed: &'a mut Passed,
}

impl Work for AnswerAllStripped<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let AnswerAllStripped { last, glances, burst, stripped, unix, passed } = self;
        let frames = burst.iter_mut().zip(glances).zip(stripped);
        for (nth, ((frame, glance), stripped)) in frames.enumerate() {
            let Some(seen) = stripped.take_seen() else { continue };
            // Without a candidate, there is no entry.
            let is_found = glance.seen == Seen::Stripped;
            glance.seen = seen;
            let answer = AnswerStripped { last: &mut *last, glance, frame, stripped, unix };
            match if is_found { answer.run(simd) } else { None } {
                Some(is_proven) => {
                    stripped.tag(last.frames, frame);
                    last.stats.add(Counter::PartialChecksum, u64::from(stripped.is_partial));
                    passed.left &= !(1 << nth);
                    passed.proven |= u64::from(is_proven) << nth;
                }
                None => {
                    stripped.restore(last.frames, frame);
                    glance.seen = Seen::Nothing;
                }
            }
        }
    }
}

/// Last pass over a packet that was made plain.
struct AnswerStripped<'a, 'b> {
    last: &'a mut Last<'b>,
    glance: &'a mut Glance,
    frame: &'a mut Frame,
    stripped: &'a Stripped,
    unix: u32,
}

impl AnswerStripped<'_, '_> {
    /// Turns the query into its reply, if that takes no closer look. Returns whether the client has proven
    /// its address.
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) -> Option<bool> {
        let AnswerStripped { last, glance, frame, stripped, unix } = &mut self;
        let window = last.frames.window(frame);
        let client = if glance.seen.is_v6() { plain::V6::client(window) } else { plain::V4::client(window) };
        let asker = Asker { client, connected: false, now: *unix };
        let ReplyOptions { options, is_proven } = stripped.options(last.policy, &asker)?;
        let answered = if options.is_empty() {
            match glance.seen {
                Seen::V4 => simd.apart(AnswerV4 { last, glance, frame }),
                _ => simd.apart(AnswerOther { last, glance, frame }),
            }
        } else {
            glance.reserve(options.len())
                && match glance.seen {
                    Seen::V4 => self.with_options::<S, plain::V4, false>(simd, &options),
                    Seen::V6 => self.with_options::<S, plain::V6, false>(simd, &options),
                    Seen::LongV4 => self.with_options::<S, plain::V4, true>(simd, &options),
                    Seen::LongV6 => self.with_options::<S, plain::V6, true>(simd, &options),
                    Seen::ListedV4 | Seen::ListedV6 => false,
                    Seen::Strippable | Seen::Stripped | Seen::Nothing => false,
                    Seen::MissedV4 | Seen::MissedV6 => false,
                }
        };
        answered.then_some(is_proven)
    }

    #[inline(always)]
    fn with_options<S: Simd, P: Plain, const LONG: bool>(&mut self, simd: S, options: &Options<'_>) -> bool {
        let AnswerStripped { last, glance, frame, .. } = self;
        simd.apart(AnswerNoted::<P, LONG, true> { last, glance, frame, options, version: PhantomData })
    }
}

/// Last pass over a question of one block over IPv4, in a packet that was made plain.
struct AnswerV4<'a, 'b> {
    last: &'a mut Last<'b>,
    glance: &'a mut Glance,
    frame: &'a mut Frame,
}

impl Work for AnswerV4<'_, '_> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> bool {
        self.last.answer::<S, plain::V4, false>(simd, self.glance, self.frame)
    }
}
