//! The closer look at a packet that was glanced at, but has no entry that answers it at once. What the glance
//! has read and verified is not read again.

use super::{
    Closer,
    plain::{BareOpt, LookAtRare, Malformed, has_labels},
};
use crate::{
    dns::{header::LEN, query},
    packet::{
        Envelope, UdpSum,
        plain::{Plain, bytes},
    },
    process::{Job, Slot, glance::Glance},
    simd::Simd,
};

impl Closer<'_, '_> {
    /// Finishes the `nth` frame of the burst, whose question of one block was seen. Returns false if that
    /// takes more.
    #[inline(always)]
    pub fn resume<S: Simd, P: Plain>(
        &mut self,
        simd: S,
        slot: &mut Slot,
        nth: usize,
        glance: &Glance,
    ) -> bool {
        let Job { checksums, frames, burst, .. } = &*self.job;
        let (window, (question, len)) = (frames.window(&burst[nth]), glance.question());
        let kept = LEN + len;
        let Some(message_len) = P::message_len(window, burst[nth].len()) else { return false };
        let opt = BareOpt::read::<P>(window, kept, message_len);
        let [t1, t0, c1, c0] = *bytes(window, P::MESSAGE + kept - 4);
        let kind = query::check_type(u16::from_be_bytes([t1, t0]), u16::from_be_bytes([c1, c0]));
        // There is nothing after the question, or a bare OPT record.
        if kind.is_err() || opt.is_none() && message_len != kept {
            return false;
        }
        let sum = if checksums.are_verified() { UdpSum::Verified } else { UdpSum::Unverified };
        slot.envelope = Envelope::of_plain(P::IS_V6, sum);
        slot.query.begin(u16::from_be_bytes(*bytes(window, P::MESSAGE + 2)));
        if !has_labels(question, len - 4) {
            return simd.apart(Malformed(LookAtRare::<P>::new(self, slot, nth, message_len, true)));
        }
        slot.query.set_block(*question, len);
        if let Some(opt) = opt {
            slot.query.set_edns(opt.edns());
        }
        slot.verdict = self.answer_plainly::<P>(slot, nth, message_len);
        true
    }
}
