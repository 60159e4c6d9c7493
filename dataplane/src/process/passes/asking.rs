//! The last pass over questions with options to answer: a cookie, or the wish for the server's name.

use super::{Last, count, special::Outcome};
use crate::{
    dns::{option::OptionsWire, reply::Age},
    frame::Frame,
    packet::plain::Plain,
    policy::Asker,
    process::glance::{Content, Glance, ReplyOpt},
    simd::{BLOCK, Simd},
};

impl Last<'_> {
    /// Turns the query, which asks for options, into its reply if the entry is the right one.
    #[inline(always)]
    pub(super) fn answer_asking<S: Simd, P: Plain>(
        &mut self,
        simd: S,
        glance: &mut Glance,
        frame: &mut Frame,
    ) -> Outcome {
        let (window, len) = self.frames.window_mut(frame);
        let [question, beyond] = glance.long_question();
        let fresh = self.cache.get_fresh(simd, glance.entry, glance.filed, question, beyond, self.now);
        let usual = fresh.filter(|fresh| {
            // A reply with an OPT record is never shorter than the shortest Ethernet frame.
            let status = fresh.status();
            !status.is_truncated() && !status.is_failure()
        });
        let Some(fresh) = usual else {
            return self.answer_specially::<S, P>(simd, glance, frame);
        };
        let asker = Asker { client: P::client(window), connected: false, now: self.unix };
        let mut options = OptionsWire::default();
        let (cookie, nsid) = (glance.asked.cookie(window), glance.asked.nsid);
        let Some(is_proven) = self.policy.add_options(cookie.as_ref(), nsid, &asker, &mut options) else {
            return Outcome::Left;
        };
        let question_len = (question.1 + beyond.1) % (2 * BLOCK);
        if !glance.has_room(fresh.wire_len() + options.len()) {
            return self.answer_specially::<S, P>(simd, glance, frame);
        }
        let options = (!options.is_empty()).then_some(&mut options);
        let opt = ReplyOpt { opt: self.opt, options };
        if fresh.is_simple() {
            len.set(glance.reply_simply::<S, P>(simd, window, fresh, question_len, self.now, opt));
        } else {
            let mut parts = fresh.parts();
            if fresh.status().is_authentic() && !glance.wants_ad::<P>(window) {
                parts = parts.without_ad();
            }
            let content = Content { parts, question_len, age: Age::Fresh(fresh.age(self.now)) };
            len.set(glance.reply::<S, P>(simd, window, content, opt));
        }
        self.counted += 1;
        count(fresh.status(), Age::Fresh(0), self.stats, self.tally);
        glance.seen = glance.kind::<P>();
        if is_proven { Outcome::Proven } else { Outcome::Answered }
    }
}
