//! The last pass over all that is not a fresh answer which all clients get, in a plain packet.

use super::{Last, count};
use crate::{
    cache::{Parts, Special, Terms},
    checksum::Checksums,
    dns::{
        header::LEN,
        key::Flags,
        option::{Errors, OptionsWire},
        reply::Age,
    },
    frame::Frame,
    mac::MacAddress,
    packet::{
        MIN_FRAME,
        plain::{Plain, Window},
    },
    policy::Asker,
    process::{
        glance::{Content, Glance, ReplyOpt, Seen, SpecialAnswer},
        wide::Wide,
    },
    simd::{Simd, Work},
    stats::Counter,
};
use std::marker::PhantomData;

/// Last pass over a question whose answer is special: stale, a failure, of a list, or too large; or whose
/// packet got a wide look.
pub struct AnswerSpecial<'a, 'b, P> {
    pub last: &'a mut Last<'b>,
    pub glance: &'a mut Glance,
    pub frame: &'a mut Frame,
    /// The wide look at the packet, if there was one.
    pub wide: Option<&'a Wide>,
    pub version: PhantomData<P>,
}

/// Result of the last pass over a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The packet is as it was, and needs a closer look.
    Left,
    /// The packet is the reply.
    Answered,
    /// The packet is the reply to a client that has proven its address by a cookie.
    Proven,
}

impl<P: Plain> Work for AnswerSpecial<'_, '_, P> {
    type Output = Outcome;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Outcome {
        let AnswerSpecial { last, glance, frame, wide, .. } = self;
        let Last { cache, frames, stats, tally, counted, now, unix, opt, policy, checksums, stale_ttl } =
            last;
        let (window, len) = frames.window_mut(frame);
        let question = glance.question_to_compare(wide);
        let terms = Terms { filed: glance.filed, now: *now, stale_ttl: *stale_ttl };
        let client = P::client(window);
        // Frames of kernel sockets have made-up MAC addresses.
        let sender =
            || (*checksums != Checksums::Unused).then(|| MacAddress::of_source(&window[..])).flatten();
        let group = || policy.groups.of_sender(client, sender);
        let special = cache.get_special(simd, glance.entry, &question, terms, group);
        let Some(Special { found, note, age }) = special else { return Outcome::Left };
        let question_len = question.len;
        let is_asking =
            matches!(glance.seen, Seen::AskingV4 | Seen::AskingV6 | Seen::Wide) && glance.asked.is_some();
        let (ede, list) = note.map_or((None, None), |(note, _)| (note.ede, note.list));
        let status = found.status();
        let mut is_proven = false;
        let is_simple = found.is_simple() && !is_asking && (ede.is_none() || !glance.has_opt());
        if is_simple && matches!(age, Age::Fresh(_)) {
            let opt = ReplyOpt { opt: *opt, options: None };
            len.set(glance.reply_simply::<S, P>(simd, window, found, question_len, *now, opt));
        } else {
            let mut options = OptionsWire::default();
            if is_asking {
                let asker = Asker { client, connected: false, now: *unix };
                let (cookie, nsid) = (glance.asked.cookie(window), glance.asked.nsid);
                match policy.add_options(cookie.as_ref(), nsid, &asker, &mut options) {
                    Some(proven) => is_proven = proven,
                    None => return Outcome::Left,
                }
            }
            let Some(room) = usize::from(glance.room).checked_sub(options.len()) else {
                return Outcome::Left;
            };
            let mut content = Content { parts: found.parts(), question_len, age };
            if found.wire_len() > room || status.is_truncated() {
                let fitted = if found.has_only_answers() {
                    None
                } else {
                    let proofs = glance.filed.flags().0 & Flags::DO != 0;
                    found.view().fitted(room, LEN + question_len, proofs)
                };
                let fitted = fitted.filter(|view| !view.status.is_truncated());
                stats.add(Counter::Truncated, u64::from(fitted.is_none()));
                content.parts = fitted.map_or_else(|| Parts::truncated(status), Parts::of);
            }
            if status.is_authentic() && !glance.wants_ad::<P>(window) {
                content.parts = content.parts.without_ad();
            }
            if glance.has_opt() {
                let list = list.and_then(|list| policy.name_of_list(list));
                let errors_room = room - content.parts.wire.len();
                options.add_errors(&Errors::of_answer(ede, list, status.rcode(), age).fitted(errors_room));
            }
            let options = (!options.is_empty()).then_some(&mut options);
            let reply_len = glance.reply::<S, P>(simd, window, content, ReplyOpt { opt: *opt, options });
            len.set(padded(window, reply_len));
        }
        *counted += 1;
        match (list, note) {
            // A refusal by a list is no failure of resolution.
            (Some(list), Some((_, group))) => {
                stats.lists.add(list, group);
                tally.hits += 1;
            }
            _ => count(status, age, stats, tally),
        }
        glance.note_special(SpecialAnswer {
            is_v6: P::IS_V6,
            is_wide: wide.is_some(),
            is_stale: matches!(age, Age::Stale(_)),
            list,
        });
        if is_proven { Outcome::Proven } else { Outcome::Answered }
    }
}

/// Pads a packet of `len` bytes to the shortest frame. Returns its new length.
#[inline(always)]
fn padded(window: &mut Window, len: usize) -> usize {
    if len < MIN_FRAME {
        window[len..MIN_FRAME].fill(0);
    }
    len.max(MIN_FRAME)
}
