//! Census of a worker's bursts.
//!
//! Counting each packet would cost a hit some instructions. So a random packet of a burst is counted for
//! all of the burst. That is exact for bursts of one packet, as a worker has them while it has little to
//! do; under load it is an estimate without bias: of `n` queries, a share `s` is told to within some
//! `sqrt(64 s / n)`.

use super::Fates;
use crate::{
    census::CensusStats,
    dns::header,
    frame::{Frame, Frames, WINDOW},
    packet::{header::EtherType, plain},
};

/// Counter of a worker's bursts.
#[derive(Debug)]
pub struct Census {
    /// State of the random numbers (PCG-like: a multiplier, and the upper bits are taken).
    state: u64,
}

impl Census {
    /// Returns a census whose random numbers begin with `seed`.
    pub fn new(seed: u64) -> Self {
        Census { state: seed | 1 }
    }

    /// Counts one frame of a burst for all of them.
    #[inline(never)]
    pub fn count(&mut self, frames: &Frames, burst: &[Frame], fates: &Fates<'_>, stats: &CensusStats) {
        self.state = self.state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let n = burst.len() as u64;
        let nth = (((self.state >> 32) * n) >> 32) as usize;
        let Some(frame) = burst.get(nth) else { return };
        let window = frames.window(frame);
        stats.add_queries(is_v6(window), n);
        match fates.slot(nth) {
            None => {
                let Some(glanced) = fates.glanced(nth) else { return };
                let message = plain::tags_len(window) + if glanced.v6 { 62 } else { 42 };
                let rcode = window[message + 3] & header::RCODE as u8;
                stats.add_answers(glanced.qtype(), rcode.into(), n);
            }
            Some(slot) if slot.verdict.is_reply() => {
                // The key is that of an earlier query if this one has no question.
                let qtype = match slot.query.question_len() {
                    0 => 0,
                    _ => slot.query.key.asked().qtype(),
                };
                stats.add_answers(qtype, slot.rcode, n);
            }
            Some(_) => {}
        }
    }
}

/// Whether a frame has an IPv6 packet, also behind a VLAN tag.
#[inline(always)]
fn is_v6(window: &[u8; WINDOW]) -> bool {
    EtherType(*plain::bytes(window, 12 + plain::tags_len(window))) == EtherType::IPV6
}
