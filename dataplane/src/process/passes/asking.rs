//! The last pass over questions with options to answer: a cookie, or the wish for the server's name.

use super::{
    Last, count,
    special::{AnswerSpecial, Outcome},
};
use crate::{
    dns::{option::OptionsWire, reply::Age},
    frame::Frame,
    packet::plain::Plain,
    policy::Asker,
    process::glance::{Content, Glance, ReplyOpt},
    simd::{BLOCK, Simd, Work},
};
use std::marker::PhantomData;

/// Last pass over a question of one or two blocks, with options to answer.
pub struct AnswerAsking<'a, 'b, P> {
    pub last: &'a mut Last<'b>,
    pub glance: &'a mut Glance,
    pub frame: &'a mut Frame,
    pub version: PhantomData<P>,
}

impl<P: Plain> Work for AnswerAsking<'_, '_, P> {
    type Output = Outcome;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Outcome {
        let AnswerAsking { last, glance, frame, version } = self;
        let (window, len) = last.frames.window_mut(frame);
        let (question, beyond) = glance.long_question();
        let fresh = last.cache.get_fresh(simd, glance.entry, glance.filed, question, beyond, last.now);
        let usual = fresh.filter(|fresh| {
            // A reply with an OPT record is never shorter than the shortest Ethernet frame.
            let status = fresh.status();
            !status.is_truncated() && !status.is_failure()
        });
        let Some(fresh) = usual else {
            return simd.apart(AnswerSpecial { last, glance, frame, wide: None, version });
        };
        let asker = Asker { client: P::client(window), connected: false, now: last.unix };
        let mut options = OptionsWire::default();
        let (cookie, nsid) = (glance.asked.cookie(window), glance.asked.nsid);
        let Some(is_proven) = last.policy.add_options(cookie.as_ref(), nsid, &asker, &mut options) else {
            return Outcome::Left;
        };
        let question_len = (question.1 + beyond.len()) % (2 * BLOCK);
        if !glance.has_room(fresh.wire_len() + options.len()) {
            return simd.apart(AnswerSpecial { last, glance, frame, wide: None, version });
        }
        let options = (!options.is_empty()).then_some(&mut options);
        let opt = ReplyOpt { opt: last.opt, options };
        if fresh.is_simple() {
            len.set(glance.reply_simply::<S, P>(simd, window, fresh, question_len, last.now, opt));
        } else {
            let mut parts = fresh.parts();
            if fresh.status().is_authentic() && !glance.wants_ad::<P>(window) {
                parts = parts.without_ad();
            }
            let content = Content { parts, question_len, age: Age::Fresh(fresh.age(last.now)) };
            len.set(glance.reply::<S, P>(simd, window, content, opt));
        }
        last.counted += 1;
        count(fresh.status(), Age::Fresh(0), last.stats, last.tally);
        glance.seen = glance.kind::<P>();
        if is_proven { Outcome::Proven } else { Outcome::Answered }
    }
}
