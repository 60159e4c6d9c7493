//! The passes over packets that get a [wide look](super::super::wide).

use super::{
    Last, LookOn, Passed,
    special::{AnswerSpecial, Outcome},
};
use crate::{
    cache::Cache,
    frame::{Frame, Frames},
    packet::{
        header::EtherType,
        plain::{self, Window},
    },
    process::{
        glance::{Conditions, Glance, Seen},
        wide::{Wide, see_summed},
    },
    simd::{Simd, Work},
    stats::WorkerStats,
};
use std::marker::PhantomData;

/// Wide looks at the packets of a burst that may be worth one.
pub struct LookAllWide<'a, 'b> {
    pub glances: &'a mut [Glance],
    pub wides: &'a mut [Wide],
    pub frames: &'a mut Frames,
    pub burst: &'a mut [Frame],
    pub conditions: &'a Conditions<'b>,
    pub cache: &'a Cache,
    pub stats: &'a WorkerStats,
}

impl Work for LookAllWide<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let LookAllWide { glances, wides, frames, burst, conditions, cache, stats } = self;
        for ((glance, wide), frame) in glances.iter_mut().zip(wides).zip(burst) {
            if glance.seen == Seen::Tagged {
                glance.seen = Seen::Nothing;
                if wide.untag(frames, frame) {
                    let (window, len) = (frames.window(frame), frame.len());
                    glance.seen = simd.apart(LookAgain { glance, window, len, conditions, cache });
                }
            }
            let len = frame.len();
            let (window, _) = frames.window_mut(frame);
            let (seek, context) = (|hash| cache.seek(hash), (conditions, stats));
            glance.seen = match glance.seen {
                Seen::UnsummedV4 => see_summed::<S, plain::V4>(simd, glance, window, context, seek),
                Seen::UnsummedV6 => see_summed::<S, plain::V6>(simd, glance, window, context, seek),
                Seen::Wide => simd.apart(LookFar { glance, wide, window, len, context, cache }),
                Seen::Tagged => Seen::Nothing,
                seen => seen,
            };
        }
    }
}

/// Look at a packet with a long name.
struct LookFar<'a, 'b> {
    glance: &'a mut Glance,
    wide: &'a mut Wide,
    window: &'a mut Window,
    len: usize,
    context: (&'a Conditions<'b>, &'a WorkerStats),
    cache: &'a Cache,
}

impl Work for LookFar<'_, '_> {
    type Output = Seen;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Seen {
        let LookFar { glance, wide, window, len, context, cache } = self;
        let seek = |hash| cache.seek(hash);
        let is_seen = match EtherType::of(window) {
            EtherType::IPV6 => wide.look::<S, plain::V6>(simd, glance, (window, len), context, seek),
            _ => wide.look::<S, plain::V4>(simd, glance, (window, len), context, seek),
        };
        if is_seen { Seen::Wide } else { Seen::Nothing }
    }
}

/// Glance at a packet whose tags were taken off.
struct LookAgain<'a, 'b> {
    glance: &'a mut Glance,
    window: &'a Window,
    len: usize,
    conditions: &'a Conditions<'b>,
    cache: &'a Cache,
}

impl Work for LookAgain<'_, '_> {
    type Output = Seen;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Seen {
        let LookAgain { glance, window, len, conditions, cache } = self;
        let seen = glance.look::<S, plain::V4>(simd, window, len, conditions, |hash| cache.seek(hash));
        if seen.is_seen() {
            return seen;
        }
        LookOn { glance, window, len, conditions, cache, may_be_wide: &mut false, seen }.run(simd)
    }
}

/// Last pass over the packets of a burst that got a wide look.
pub struct AnswerAllWide<'a, 'b> {
    pub last: &'a mut Last<'b>,
    pub glances: &'a mut [Glance],
    pub wides: &'a mut [Wide],
    pub burst: &'a mut [Frame],
    pub passed: &'a mut Passed,
}

impl Work for AnswerAllWide<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let AnswerAllWide { last, glances, wides, burst, passed } = self;
        for (nth, ((frame, glance), wide)) in burst.iter_mut().zip(glances).zip(wides).enumerate() {
            // Without a candidate, there is no entry, and nothing was seen.
            if glance.seen == Seen::Wide {
                let outcome = if wide.is_v6() {
                    let (version, wide) = (PhantomData::<plain::V6>, Some(&*wide));
                    simd.apart(AnswerSpecial { last, glance, frame, wide, version })
                } else {
                    let (version, wide) = (PhantomData::<plain::V4>, Some(&*wide));
                    simd.apart(AnswerSpecial { last, glance, frame, wide, version })
                };
                match outcome {
                    Outcome::Left => glance.seen = Seen::Nothing,
                    Outcome::Answered | Outcome::Proven => passed.left &= !(1 << nth),
                }
                passed.note(nth, outcome);
            }
            // The closer look resumes only where the packet is as it was glanced at.
            if wide.tag(last.frames, frame) && passed.left >> nth & 1 != 0 {
                glance.seen = Seen::Nothing;
            }
        }
    }
}
