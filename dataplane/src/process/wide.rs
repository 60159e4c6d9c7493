//! Wide looks, which change a packet or need more room than a glance has: at a packet behind VLAN tags,
//! without a UDP checksum or with a partial one, or with a long name.
//!
//! Tags are taken off and put back. A checksum is completed in the packet, so that the reply's can follow
//! from it.

use super::glance::{Conditions, Glance, Seen};
use crate::{
    cache::Spot,
    checksum::{self, Checksums},
    dns::QUESTION_MAX,
    frame::{Frame, Frames},
    packet::{
        header::EtherType,
        plain::{self, Plain, Window, bytes, bytes_mut},
    },
    simd::{BLOCK, Block, Simd},
    stats::{Counter, WorkerStats},
};

/// Length of the MAC addresses, which VLAN tags follow.
const MACS: usize = 12;
/// Number of blocks of the longest question after the first.
const BEYOND: usize = QUESTION_MAX.div_ceil(BLOCK) - 1;

/// Wide look at a packet.
#[derive(Debug, Default)]
pub struct Wide {
    /// VLAN tags, and their length in bytes.
    tags: [u8; 8],
    tags_len: u8,
    is_v6: bool,
    question_len: u16,
    /// Question after its first block, with zeros at the end.
    beyond: [Block; BEYOND],
}

impl Wide {
    /// Looks at an untagged packet with a long name, and seeks the answer. Returns false if it needs a closer
    /// look.
    #[inline(always)]
    pub fn look<S: Simd, P: Plain>(
        &mut self,
        simd: S,
        glance: &mut Glance,
        (window, len): (&mut Window, usize),
        (conditions, stats): (&Conditions<'_>, &WorkerStats),
        seek: impl Fn(u64) -> Spot,
    ) -> bool {
        let looked = glance.look_far::<S, P>(simd, window, len, &mut self.beyond, conditions, seek);
        let Some((question_len, is_right)) = looked else { return false };
        (self.question_len, self.is_v6) = (question_len as u16, P::IS_V6);
        usize::from(self.question_len) <= QUESTION_MAX
            && (is_right || complete::<S, P>(simd, window, conditions.checksums, stats))
    }

    /// Returns the blocks of the question after the first.
    pub fn beyond(&self) -> &[Block] {
        &self.beyond
    }

    /// Returns the length of the question in bytes.
    pub fn question_len(&self) -> usize {
        usize::from(self.question_len)
    }

    /// Whether the question came over IPv6.
    pub fn is_v6(&self) -> bool {
        self.is_v6
    }

    /// Takes VLAN tags off, so that the packet begins after them. Returns false if there are none, or that is
    /// not possible.
    #[inline(always)]
    pub fn untag(&mut self, frames: &mut Frames, frame: &mut Frame) -> bool {
        let window = frames.window(frame);
        let tags_len = plain::tags_len(window);
        let (macs, tags): ([u8; MACS], [u8; 8]) = (*bytes(window, 0), *bytes(window, MACS));
        if tags_len == 0 || !frame.skip(tags_len) {
            return false;
        }
        (self.tags, self.tags_len) = (tags, tags_len as u8);
        *bytes_mut(frames.window_mut(frame).0, 0) = macs;
        true
    }

    /// Puts the VLAN tags back that were taken off. Returns false if there were none.
    #[inline(always)]
    pub fn tag(&mut self, frames: &mut Frames, frame: &mut Frame) -> bool {
        let tags_len = usize::from(std::mem::take(&mut self.tags_len));
        if tags_len == 0 {
            return false;
        }
        let macs: [u8; MACS] = *bytes(frames.window(frame), 0);
        frame.unskip(tags_len);
        let (window, _) = frames.window_mut(frame);
        *bytes_mut(window, 0) = macs;
        // Four bytes or eight: what follows a single tag stays as it is.
        match tags_len {
            4 => *bytes_mut(window, MACS) = *self.tags.first_chunk::<4>().unwrap_or(&[0; 4]),
            _ => *bytes_mut(window, MACS) = self.tags,
        }
        true
    }
}

/// Completes the UDP checksum of a plain packet in which a question was seen, and seeks the answer. Returns
/// the kind of the question.
#[inline(always)]
pub fn see_summed<S: Simd, P: Plain>(
    simd: S,
    glance: &mut Glance,
    window: &mut Window,
    (conditions, stats): (&Conditions<'_>, &WorkerStats),
    seek: impl Fn(u64) -> Spot,
) -> Seen {
    if !complete::<S, P>(simd, window, conditions.checksums, stats) {
        return Seen::Nothing;
    }
    glance.seek_generally::<S, P>(simd, window, conditions, seek)
}

/// Completes the UDP checksum of a plain packet, whose lengths agree, if it need not be right. Returns false
/// if it must be.
#[inline(always)]
fn complete<S: Simd, P: Plain>(
    simd: S,
    window: &mut Window,
    checksums: Checksums,
    stats: &WorkerStats,
) -> bool {
    let udp_len = usize::from(u16::from_be_bytes(*bytes(window, P::MESSAGE - 4)));
    let checksum: [u8; 2] = *bytes(window, P::MESSAGE - 2);
    let is_partial = || checksum::fold_native(P::pseudo(window, udp_len)).to_ne_bytes() == checksum;
    let is_excused = match checksums {
        Checksums::Trust => true,
        // RFC 8200 section 8.1: over IPv6 there is always a checksum.
        _ if checksum == [0; 2] => !P::IS_V6,
        Checksums::AllowPartial => is_partial(),
        Checksums::Verify | Checksums::Unused => false,
    };
    if !is_excused || checksums.are_verified() && !P::has_right_header(window) {
        return false;
    }
    if checksums == Checksums::AllowPartial && checksum != [0; 2] {
        stats.add(Counter::PartialChecksum, 1);
    }
    *bytes_mut(window, P::MESSAGE - 2) = [0; 2];
    let sum = P::sum(simd, window, P::MESSAGE - 8 + udp_len);
    *bytes_mut(window, P::MESSAGE - 2) = checksum::complement(sum);
    true
}

impl Conditions<'_> {
    /// Whether a wrong UDP checksum may be one that is to be completed.
    #[inline(always)]
    pub fn may_be_completed(&self, window: &Window) -> bool {
        let is_v6 = EtherType::of(window) == EtherType::IPV6;
        let at = if is_v6 { plain::V6::MESSAGE - 2 } else { plain::V4::MESSAGE - 2 };
        self.checksums != Checksums::Verify || *bytes(window, at) == [0, 0]
    }
}
