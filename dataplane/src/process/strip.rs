//! Packets that are [plain](crate::packet::plain) but for what stands around or behind their question: VLAN
//! tags, no UDP checksum or a partial one, EDNS options. All of that is ordinary. So it is taken off, and
//! the packet is glanced at. The reply gets the tags back, and options of its own. A packet that needs a
//! closer look nevertheless gets everything back first.

use super::glance::{Conditions, Seen};
use crate::{
    checksum::{self, Checksums},
    dns::{
        OPT_LEN,
        cookie::Sent,
        header::{self, LEN},
        option::Options,
        query::Edns,
    },
    frame::{Frame, Frames, WINDOW},
    packet::{
        header::EtherType,
        plain::{self, Plain, Window, bytes, bytes_mut},
    },
    policy::{Asker, QueryPolicy},
    simd::{BLOCK, Simd},
};

/// Length of the MAC addresses, which VLAN tags follow.
const MACS: usize = 12;
/// Offset of the network header in an untagged packet.
const NETWORK: usize = 14;
/// Most bytes of headers after the link header: IPv6 and UDP.
const HEADERS: usize = 48;

/// Parts of a packet that were taken off.
#[derive(Debug)]
pub struct Stripped {
    /// VLAN tags, and their length in bytes.
    tags: [u8; 8],
    tags_len: u8,
    /// Headers as they were received.
    headers: [u8; HEADERS],
    /// Length of the EDNS options as it was received, and its place in the untagged packet.
    options_len: ([u8; 2], u16),
    /// Properties that were found in the options.
    edns: Edns,
    /// Whether the checksum was partial.
    pub is_partial: bool,
    /// Kind of question that was seen, while the packet is plain.
    seen: Seen,
}

impl Default for Stripped {
    fn default() -> Self {
        Stripped {
            tags: [0; 8],
            tags_len: 0,
            headers: [0; HEADERS],
            options_len: ([0; 2], 0),
            edns: Edns::default(),
            is_partial: false,
            seen: Seen::Nothing,
        }
    }
}

/// Options of the reply to a stripped query.
pub struct ReplyOptions<'a> {
    /// Options.
    pub options: Options<'a>,
    /// Whether a cookie proves the client's address.
    pub is_proven: bool,
}

impl Stripped {
    /// Notes the kind of question that was seen in the packet that was made plain.
    #[inline(always)]
    pub fn note_seen(&mut self, seen: Seen) {
        self.seen = seen;
    }

    /// Returns the kind of question that was seen; `None`: the packet is as it was received. It is told
    /// once.
    #[inline(always)]
    pub fn take_seen(&mut self) -> Option<Seen> {
        let seen = std::mem::take(&mut self.seen);
        (seen != Seen::Nothing).then_some(seen)
    }

    /// Makes a packet plain. Returns false, and leaves the packet as it was, if that is not possible.
    #[inline(always)]
    pub fn make_plain<S: Simd>(
        &mut self,
        simd: S,
        frames: &mut Frames,
        frame: &mut Frame,
        conditions: &Conditions<'_>,
    ) -> bool {
        if !self.untag(frames, frame) {
            return false;
        }
        let len = frame.len();
        let (window, _) = frames.window_mut(frame);
        let is_plain = match EtherType::of(window) {
            EtherType::IPV4 => self.strip::<S, plain::V4>(simd, window, len, conditions),
            EtherType::IPV6 => self.strip::<S, plain::V6>(simd, window, len, conditions),
            _ => false,
        };
        if !is_plain {
            self.tag(frames, frame);
        }
        is_plain
    }

    /// Makes an untagged packet plain. Leaves it as it was if that is not possible.
    #[inline(always)]
    fn strip<S: Simd, P: Plain>(
        &mut self,
        simd: S,
        window: &mut Window,
        len: usize,
        conditions: &Conditions<'_>,
    ) -> bool {
        // Of another protocol, or from a client that may not ask.
        if !P::is_plain(window, conditions.access) {
            return false;
        }
        self.headers = *bytes(window, NETWORK);
        self.options_len = ([0; 2], 0);
        self.edns = Edns::default();
        self.is_partial = false;
        let checksum: [u8; 2] = *bytes(window, P::MESSAGE - 2);
        // RFC 8200 section 8.1: over IPv6 there is always a checksum. Without this, taking options off
        // would make a right one of a zero.
        if conditions.checksums.are_verified() && !P::MAY_LACK_SUM && checksum == [0; 2] {
            return false;
        }
        let udp_len = usize::from(u16::from_be_bytes(*bytes(window, P::MESSAGE - 4)));
        let end = P::MESSAGE - 8 + udp_len;
        if udp_len < 8 + LEN || end > len.min(WINDOW) || P::packet_len(window) != end {
            return false;
        }
        let is_completed = self.complete::<P>(window, end, conditions.checksums);
        let is_bare = self.take_options::<S, P>(simd, window, end);
        // A packet that was plain before had its glance.
        let is_plain = is_bare && (is_completed || self.tags_len != 0 || self.options_len.1 != 0);
        if !is_plain {
            self.put_back(window);
        }
        is_plain
    }

    /// Takes VLAN tags off, so that the packet begins after them. Returns false if that is not possible.
    #[inline(always)]
    fn untag(&mut self, frames: &mut Frames, frame: &mut Frame) -> bool {
        let tags = plain::tags_len(frames.window(frame));
        self.tags_len = 0;
        if tags == 0 {
            return true;
        }
        let (macs, bytes): ([u8; MACS], [u8; 8]) = {
            let window = frames.window(frame);
            (*plain::bytes(window, 0), *plain::bytes(window, MACS))
        };
        if !frame.skip(tags) {
            return false;
        }
        (self.tags, self.tags_len) = (bytes, tags as u8);
        *bytes_mut(frames.window_mut(frame).0, 0) = macs;
        true
    }

    /// Puts the VLAN tags back.
    #[inline(always)]
    pub fn tag(&self, frames: &mut Frames, frame: &mut Frame) {
        let tags = usize::from(self.tags_len);
        if tags == 0 {
            return;
        }
        let macs: [u8; MACS] = *bytes(frames.window(frame), 0);
        frame.unskip(tags);
        let (window, _) = frames.window_mut(frame);
        *bytes_mut(window, 0) = macs;
        window[MACS..][..tags].copy_from_slice(&self.tags[..tags]);
    }

    /// Completes the UDP checksum if the sender computed none or left that to others, so that the reply's
    /// can follow from it. Returns whether that was so.
    #[inline(always)]
    fn complete<P: Plain>(&mut self, window: &mut Window, end: usize, checksums: Checksums) -> bool {
        let at = P::MESSAGE - 2;
        let checksum: [u8; 2] = *bytes(window, at);
        let is_needed = match checksums {
            Checksums::Unused => false,
            Checksums::Trust => true,
            Checksums::Verify => P::MAY_LACK_SUM && checksum == [0; 2],
            Checksums::AllowPartial => {
                let pseudo = checksum::fold_native(P::pseudo(window, end + 8 - P::MESSAGE));
                self.is_partial = pseudo.to_ne_bytes() == checksum;
                self.is_partial || P::MAY_LACK_SUM && checksum == [0; 2]
            }
        };
        if is_needed {
            *bytes_mut(window, at) = [0; 2];
            let pseudo = P::pseudo(window, end + 8 - P::MESSAGE);
            let sum = checksum::sum_from::<5>(&window[P::MESSAGE - 8..end], pseudo);
            *bytes_mut(window, at) = checksum::complement(sum);
        }
        is_needed
    }

    /// Takes the options out of the OPT record, if they can be answered here. Returns false if not.
    #[inline(always)]
    fn take_options<S: Simd, P: Plain>(&mut self, simd: S, window: &mut Window, end: usize) -> bool {
        let start = u64::from_ne_bytes(*bytes(window, P::MESSAGE + 2));
        let additional = u16::from_be_bytes(*bytes(window, P::MESSAGE + 10));
        if !header::is_query(start) || additional > 1 {
            return false;
        }
        if additional == 0 {
            return true;
        }
        let mut name = simd.until_zero(bytes(window, P::MESSAGE + LEN));
        if name == BLOCK {
            name += simd.until_zero(bytes(window, P::MESSAGE + LEN + BLOCK));
        }
        // After the name's last byte, type and class; then the record without its length.
        let place = P::MESSAGE + LEN + name + 5 + OPT_LEN - 2;
        let options_len = usize::from(u16::from_be_bytes(*bytes(window, place)));
        if options_len == 0 {
            return true;
        }
        let taken = place..place + 2 + options_len;
        if taken.end != end || self.edns.read_options(&window[place + 2..end]).is_none() {
            return false;
        }
        if self.edns.cookie == Sent::Malformed {
            return false;
        }
        self.options_len = (*bytes(window, place), place as u16);
        let sum = checksum::placed(checksum::sum(&window[taken], 0), place - P::MESSAGE);
        let lengths = 2 * u64::from((options_len as u16).to_be());
        let less = checksum::add(sum, lengths);
        let checksum = *bytes(window, P::MESSAGE - 2);
        *bytes_mut(window, P::MESSAGE - 2) =
            checksum::raised(checksum, u64::from(checksum::fold_native(less)));
        *bytes_mut(window, place) = [0; 2];
        P::shorten(window, options_len as u16);
        true
    }

    /// Puts back what stood in an untagged packet.
    #[inline(always)]
    fn put_back(&self, window: &mut Window) {
        *bytes_mut(window, NETWORK) = self.headers;
        let (len, place) = self.options_len;
        if place != 0 {
            *bytes_mut(window, usize::from(place)) = len;
        }
    }

    /// Puts everything back.
    #[inline(always)]
    pub fn restore(&self, frames: &mut Frames, frame: &mut Frame) {
        self.put_back(frames.window_mut(frame).0);
        self.tag(frames, frame);
    }

    /// Returns the options of the reply; `None` if the query needs a closer look.
    #[inline(always)]
    pub fn options<'a>(&self, policy: &'a QueryPolicy, asker: &Asker) -> Option<ReplyOptions<'a>> {
        if self.edns.cookie == Sent::Nothing && !self.edns.nsid {
            return Some(ReplyOptions { options: Options::default(), is_proven: false });
        }
        let (options, is_proven) = policy.answer_options(&self.edns, asker);
        let is_refused = policy.require_cookies && self.edns.cookie != Sent::Nothing && !is_proven;
        (!is_refused).then_some(ReplyOptions { options, is_proven })
    }
}

impl Conditions<'_> {
    /// Whether a packet that was not plain has anything that can be taken off: a tag, options, or a checksum
    /// that is none. It is asked first because most packets have not.
    #[inline(always)]
    pub fn may_be_stripped(&self, window: &Window) -> bool {
        match EtherType::of(window) {
            EtherType::IPV4 => self.may_be_bared::<plain::V4>(window),
            EtherType::IPV6 => self.may_be_bared::<plain::V6>(window),
            _ => true,
        }
    }

    /// Whether an untagged packet has anything that can be taken off, and is then a query of a client that
    /// may ask.
    #[inline(always)]
    fn may_be_bared<P: Plain>(&self, window: &Window) -> bool {
        let is_summed = self.checksums == Checksums::Verify && *bytes(window, P::MESSAGE - 2) != [0, 0]
            || self.checksums == Checksums::Unused;
        (!is_summed || *bytes(window, P::MESSAGE + 10) == [0, 1])
            && P::is_plain(window, self.access)
            && header::is_query(u64::from_ne_bytes(*bytes(window, P::MESSAGE + 2)))
    }
}

const _: () = assert!(NETWORK + HEADERS <= WINDOW);
