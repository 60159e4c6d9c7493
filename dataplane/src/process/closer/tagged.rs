//! The closer look at a packet behind VLAN tags: it is looked at as a plain packet that begins after them.

use crate::{
    packet::{
        MIN_FRAME,
        header::EtherType,
        plain::{self, Plain, V4, V6, bytes, bytes_mut},
    },
    process::{Job, Slot, Verdict, closer::Closer},
    simd::{Simd, Work},
    stats::DropReason,
};

/// Length of the MAC addresses, which VLAN tags follow.
const MACS: usize = 12;

/// Closer look at a packet that may have VLAN tags.
pub struct LookBehindTags<'a, 'b, 'c> {
    pub closer: &'a mut Closer<'b, 'c>,
    pub slot: &'a mut Slot,
    pub nth: usize,
}

impl Work for LookBehindTags<'_, '_, '_> {
    /// Whether the frame is finished. If not, it is as it was received.
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> bool {
        let LookBehindTags { closer, slot, nth } = self;
        let Job { frames, burst, .. } = &mut *closer.job;
        let frame = &mut burst[nth];
        let window = frames.window(frame);
        let tags = plain::tags_len(window);
        let macs: [u8; MACS] = *bytes(window, 0);
        let taken: [u8; 8] = *bytes(window, MACS);
        if tags == 0 || !frame.skip(tags) {
            return false;
        }
        let (window, _) = frames.window_mut(frame);
        *bytes_mut(window, 0) = macs;
        let is_v4 = EtherType::of(window) == EtherType::IPV4;
        let is_finished = if is_v4 {
            closer.finish_plain::<S, V4>(simd, slot, nth)
        } else {
            closer.finish_plain::<S, V6>(simd, slot, nth)
        };
        let Job { frames, burst, .. } = &mut *closer.job;
        let frame = &mut burst[nth];
        let window = frames.window(frame);
        // Those of a reply have changed places.
        let macs: [u8; MACS] = *bytes(window, 0);
        let message = if is_v4 { V4::MESSAGE } else { V6::MESSAGE };
        let end = message - 8 + usize::from(u16::from_be_bytes(*bytes(window, message - 4)));
        frame.unskip(tags);
        let (window, _) = frames.window_mut(frame);
        *bytes_mut(window, 0) = macs;
        window[MACS..][..tags].copy_from_slice(&taken[..tags]);
        // With a wrong checksum, the slot still has the envelope of an earlier packet.
        if is_finished && slot.verdict != Verdict::Drop(DropReason::BadChecksum) {
            slot.envelope = slot.envelope.behind(tags);
            slot.verdict = slot.verdict.behind(tags);
        }
        if is_finished && slot.verdict.is_reply() {
            frame.set_len(end.max(MIN_FRAME) + tags);
        }
        is_finished
    }
}
