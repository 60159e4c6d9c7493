//! Plain packets: no VLAN tag, no IP option, a UDP checksum, and a message that begins like a
//! query. Nearly all packets are plain. Their fields have fixed positions, so a few wide steps
//! check them and turn them into replies. [`Envelope::open`](super::Envelope::open) handles the
//! other packets.

use super::{
    HOP_LIMIT, LargestReplies,
    header::{self, EtherType},
};
use crate::{
    access::AccessList,
    checksum,
    dns::header::LEN,
    frame::WINDOW,
    simd::{self, BLOCK, Block, Half, Part, Simd},
};
use std::net::IpAddr;
use zerocopy::{big_endian::U16, transmute};

/// First bytes of a packet in its chunk.
pub type Window = [u8; WINDOW];

/// IP version of a plain packet.
pub trait Plain {
    /// Offset of the DNS message.
    const MESSAGE: usize;
    /// Whether it is IPv6.
    const IS_V6: bool;

    /// Returns the size of the largest reply.
    fn largest(replies: &LargestReplies) -> u16;

    /// Whether the packet is UDP, without options or fragments.
    fn is_udp(window: &Window) -> bool;

    /// Whether the source is a port that can be answered.
    fn has_port(window: &Window) -> bool;

    /// Whether the packet comes from a client that may ask, and that can be answered across a link.
    fn lets_in(window: &Window, access: &AccessList) -> bool;

    /// Whether the packet, which is from a kernel socket, comes from a client that may ask.
    fn is_allowed(window: &Window, access: &AccessList) -> bool;

    /// Whether the packet is plain, apart from its lengths and checksums, and from a client that
    /// may ask.
    #[inline(always)]
    fn is_plain(window: &Window, access: &AccessList) -> bool {
        Self::is_udp(window) && Self::lets_in(window, access) && Self::has_port(window)
    }

    /// Whether the source may be an address that cannot be answered across a link.
    fn may_be_special(window: &Window) -> bool;

    /// Returns the length of the message in a packet of `len` bytes; `None`: the lengths disagree, the
    /// source port is zero, or the packet exceeds the window.
    #[inline(always)]
    fn message_len(window: &Window, len: usize) -> Option<usize> {
        let udp_len = usize::from(u16::from_be_bytes(*bytes(window, Self::MESSAGE - 4)));
        // One comparison finds both a length without the UDP header and one beyond the window.
        let message_len = udp_len.wrapping_sub(8);
        if message_len > WINDOW - Self::MESSAGE {
            return None;
        }
        let end = Self::MESSAGE + message_len;
        let is_right = Self::ends_at(window, end) && end <= len && Self::has_port(window);
        is_right.then_some(message_len)
    }

    /// Returns the client's address.
    fn client(window: &Window) -> IpAddr;

    /// Whether the headers announce a packet that ends at `end`.
    fn ends_at(window: &Window, end: usize) -> bool;

    /// Returns the sum of the pseudo-header of a datagram of `udp_len` bytes.
    fn pseudo(window: &Window, udp_len: usize) -> u64;

    /// Returns the sum of a packet that ends at `end`, from its addresses on and with the rest of the
    /// pseudo-header.
    fn sum<S: Simd>(simd: S, window: &Window, end: usize) -> u64;

    /// Whether the checksum of the network header is right, or there is none.
    fn has_right_header(window: &Window) -> bool;

    /// Whether the headers of the packet of `len` bytes announce a message of `message_len` bytes,
    /// at most 200.
    fn has_lengths(window: &Window, len: usize, message_len: usize) -> bool;

    /// Whether the checksums are right. The message has `message_len` bytes, at most 200: a header,
    /// a question of one block, and other bytes whose sum is `rest`, below 2^27.
    fn is_right<S: Simd>(simd: S, window: &Window, message_len: usize, part: Part, rest: u32) -> bool;

    /// Turns the headers of a plain packet into those of its reply, whose message has `message_len`
    /// bytes. The UDP checksum is [raised](checksum::raised) by `raise`, for all that changes.
    /// Returns the packet's length.
    fn turn<S: Simd>(simd: S, window: &mut Window, message_len: usize, raise: u64) -> usize;
}

/// Returns the receiver of a reply without IP options, IPv4 as `::ffff:a.b.c.d`, and the offset of its
/// message.
#[inline(always)]
pub fn reply(window: &Window, v6: bool) -> ([u8; 16], usize) {
    let tags = tags_len(window);
    if v6 {
        return (*bytes(window, 38 + tags), V6::MESSAGE + tags);
    }
    let [a, b, c, d] = *bytes(window, 30 + tags);
    ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d], V4::MESSAGE + tags)
}

/// IPv4.
pub struct V4;

/// IPv6.
pub struct V6;

impl Plain for V4 {
    const MESSAGE: usize = 14 + 20 + 8;
    const IS_V6: bool = false;

    #[inline(always)]
    fn largest(replies: &LargestReplies) -> u16 {
        replies.v4
    }

    #[inline(always)]
    fn is_udp(window: &Window) -> bool {
        // Version and length of the header, "more fragments" and the fragment offset.
        const MASK: u64 = u64::from_ne_bytes([0xff, 0, 0, 0, 0, 0, 0x3f, 0xff]);
        const START: u64 = u64::from_ne_bytes([0x45, 0, 0, 0, 0, 0, 0, 0]);
        *bytes(window, 12) == EtherType::IPV4.0
            && u64::from_ne_bytes(*bytes(window, 14)) & MASK == START
            && window[23] == header::UDP
    }

    #[inline(always)]
    fn has_port(window: &Window) -> bool {
        field(window, 34) != 0
    }

    #[inline(always)]
    fn lets_in(window: &Window, access: &AccessList) -> bool {
        access.v4.lets_in::<4>(bytes(window, 26))
    }

    #[inline(always)]
    fn may_be_special(window: &Window) -> bool {
        matches!(window[26], 0 | 127 | 224..)
    }

    #[inline(always)]
    fn is_allowed(window: &Window, access: &AccessList) -> bool {
        access.v4.allows::<4>(bytes(window, 26))
    }

    #[inline(always)]
    fn client(window: &Window) -> IpAddr {
        IpAddr::from(*bytes::<4>(window, 26))
    }

    #[inline(always)]
    fn ends_at(window: &Window, end: usize) -> bool {
        let (total, udp_len) = (end - 14, end - 34);
        field(window, 16) == (total as u16).to_be() && field(window, 38) == (udp_len as u16).to_be()
    }

    #[inline(always)]
    fn pseudo(window: &Window, udp_len: usize) -> u64 {
        let addresses = u64::from_ne_bytes(*bytes(window, 26));
        checksum::chain(addresses, [header::pseudo(U16::new(udp_len as u16))])
    }

    #[inline(always)]
    fn sum<S: Simd>(simd: S, window: &Window, end: usize) -> u64 {
        simd.sum(&window[26..], end - 26) + header::pseudo(U16::new((end - 34) as u16))
    }

    #[inline(always)]
    fn has_right_header(window: &Window) -> bool {
        let addresses = u64::from(u32::from_ne_bytes(*bytes(window, 30)));
        let sum = u64::from_ne_bytes(*bytes(window, 14));
        checksum::is_right(checksum::chain(sum, [u64::from_ne_bytes(*bytes(window, 22)), addresses]))
    }

    #[inline(always)]
    fn has_lengths(window: &Window, len: usize, message_len: usize) -> bool {
        field(window, 38) == short(8 + message_len)
            && field(window, 16) == short(28 + message_len)
            && len >= 42 + message_len
    }

    #[inline(always)]
    fn is_right<S: Simd>(simd: S, window: &Window, message_len: usize, part: Part, rest: u32) -> bool {
        const HEADER: Block = simd::between(0, 20);
        const FROM_ADDRESSES: Block = simd::between(4, BLOCK);
        let ip = (bytes(window, 14), &HEADER);
        let udp = (bytes(window, 22), &FROM_ADDRESSES);
        simd.are_right(ip, udp, bytes(window, Self::MESSAGE + LEN), part, pseudo(message_len) + rest)
    }

    #[inline(always)]
    fn turn<S: Simd>(simd: S, window: &mut Window, message_len: usize, raise: u64) -> usize {
        // Addresses and ports change places; the lengths and sums after the ports are written
        // separately.
        const MACS: Half = [6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 12, 13, 14, 0x80];
        const ADDRESSES: Half = [4, 5, 6, 7, 0, 1, 2, 3, 10, 11, 8, 9, 12, 13, 14, 15];
        // No TOS: the query's ECN mark says nothing about the way back. No ID: it means nothing in
        // a packet that is never fragmented (RFC 6864), and replies are sized to avoid that (RFC
        // 9715).
        const FIXED: u64 = u64::from_ne_bytes([0, 0, 0x40, 0, HOP_LIMIT, header::UDP, 0, 0]);
        const VERSION: u64 = u16::from_ne_bytes([0x45, 0]) as u64;
        let udp_len = 8 + message_len;
        let addresses = u64::from_ne_bytes(*bytes(window, 26));
        let length = 20 + udp_len;
        let fixed = const { (VERSION + (FIXED & 0xffff_ffff) + (FIXED >> 32)) as u32 };
        let addresses = (addresses.wrapping_add(addresses.rotate_left(32)) >> 32) as u32;
        let addresses = addresses.wrapping_add(addresses.rotate_left(16)) >> 16;
        let sum = addresses + fixed + ((length as u32) << 8);
        let sum = !(sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16;
        let udp_sum = checksum::raised(*bytes(window, 40), raise);
        *bytes_mut(window, 0) = simd.shuffled(bytes(window, 0), &MACS);
        *bytes_mut(window, 26) = simd.shuffled(bytes(window, 26), &ADDRESSES);
        *bytes_mut(window, 16) = (length as u16).to_be_bytes();
        *bytes_mut(window, 18) = FIXED.to_ne_bytes();
        *bytes_mut(window, 24) = sum.to_ne_bytes();
        *bytes_mut(window, 38) = (udp_len as u16).to_be_bytes();
        *bytes_mut(window, 40) = udp_sum;
        34 + udp_len
    }
}

impl Plain for V6 {
    const MESSAGE: usize = 14 + 40 + 8;
    const IS_V6: bool = true;

    #[inline(always)]
    fn largest(replies: &LargestReplies) -> u16 {
        replies.v6
    }

    #[inline(always)]
    fn is_udp(window: &Window) -> bool {
        *bytes(window, 12) == EtherType::IPV6.0 && window[14] >> 4 == 6 && window[20] == header::UDP
    }

    #[inline(always)]
    fn has_port(window: &Window) -> bool {
        field(window, 54) != 0
    }

    #[inline(always)]
    fn lets_in(window: &Window, access: &AccessList) -> bool {
        access.v6.lets_in::<16>(bytes(window, 22))
    }

    #[inline(always)]
    fn may_be_special(window: &Window) -> bool {
        matches!(window[22], 0 | 0xff)
    }

    #[inline(always)]
    fn is_allowed(window: &Window, access: &AccessList) -> bool {
        let source: &[u8; 16] = bytes(window, 22);
        // A reply to no address, or to a group of hosts, reaches nobody.
        source[0] != 0xff && *source != [0; 16] && access.v6.allows(source)
    }

    #[inline(always)]
    fn client(window: &Window) -> IpAddr {
        IpAddr::from(*bytes::<16>(window, 22))
    }

    #[inline(always)]
    fn ends_at(window: &Window, end: usize) -> bool {
        let udp_len = ((end - 54) as u16).to_be();
        field(window, 18) == udp_len && field(window, 58) == udp_len
    }

    #[inline(always)]
    fn pseudo(window: &Window, udp_len: usize) -> u64 {
        let [a, b, c, d]: [u64; 4] = transmute!(*bytes::<32>(window, 22));
        checksum::chain(a, [b, c, d, header::pseudo(U16::new(udp_len as u16))])
    }

    #[inline(always)]
    fn sum<S: Simd>(simd: S, window: &Window, end: usize) -> u64 {
        simd.sum(&window[22..], end - 22) + header::pseudo(U16::new((end - 54) as u16))
    }

    #[inline(always)]
    fn has_right_header(_window: &Window) -> bool {
        true
    }

    #[inline(always)]
    fn has_lengths(window: &Window, len: usize, message_len: usize) -> bool {
        let udp_len = short(8 + message_len);
        field(window, 58) == udp_len && field(window, 18) == udp_len && len >= 62 + message_len
    }

    #[inline(always)]
    fn is_right<S: Simd>(simd: S, window: &Window, message_len: usize, part: Part, rest: u32) -> bool {
        const RIGHT: Block = simd::between(0, 2);
        const FROM_PORTS: Block = simd::between(12, BLOCK);
        // IPv6 has no checksum of the header alone, but always one of UDP (RFC 8200 section 8.1).
        let [a, b, c, d]: [u64; 4] = transmute!(*bytes::<BLOCK>(window, 22));
        let addresses = checksum::fold_native(checksum::chain(a, [b, c, d]));
        let rest = pseudo(message_len) + u32::from(addresses) + rest;
        let ports = (bytes(window, 42), &FROM_PORTS);
        field(window, 60) != 0
            && simd.are_right((&RIGHT, &RIGHT), ports, bytes(window, Self::MESSAGE + LEN), part, rest)
    }

    #[inline(always)]
    fn turn<S: Simd>(simd: S, window: &mut Window, message_len: usize, raise: u64) -> usize {
        const MACS: Half = [6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 12, 13, 0x80, 0x80];
        let udp_len = 8 + message_len;
        let length = (udp_len as u16).to_be_bytes();
        let [source, destination]: [Half; 2] = [*bytes(window, 22), *bytes(window, 38)];
        let [s1, s0, d1, d0] = *bytes(window, 54);
        let udp_sum = checksum::raised(*bytes(window, 60), raise);
        *bytes_mut(window, 0) = simd.shuffled(bytes(window, 0), &MACS);
        // The flow label is cleared: the sender may choose it, and none is needed.
        *bytes_mut(window, 14) = [0x60, 0, 0, 0, length[0], length[1], header::UDP, HOP_LIMIT];
        *bytes_mut(window, 22) = destination;
        *bytes_mut(window, 38) = source;
        *bytes_mut(window, 54) = [d1, d0, s1, s0];
        *bytes_mut(window, 58) = length;
        *bytes_mut(window, 60) = udp_sum;
        54 + udp_len
    }
}

/// Returns the sum of the pseudo-header without its addresses (RFC 768, RFC 8200 section 8.1).
#[inline(always)]
fn pseudo(message_len: usize) -> u32 {
    checksum::number((usize::from(header::UDP) + 8 + message_len) as u64, 0) as u32
}

/// Returns the number of bytes of VLAN tags in a frame: none, or those of one or two tags (802.1Q, 802.1ad).
#[inline(always)]
pub fn tags_len(window: &Window) -> usize {
    let is_tag = |at| matches!(EtherType(*bytes(window, at)), EtherType::VLAN | EtherType::QINQ);
    if !is_tag(12) {
        0
    } else if !is_tag(16) {
        4
    } else {
        8
    }
}

/// Returns a number below 256 as a 16-bit field in network order.
#[inline(always)]
fn short(number: usize) -> u16 {
    u16::from_ne_bytes([0, number as u8])
}

/// Returns the 16 bits at `at` as on the wire, as a native-endian number.
#[inline(always)]
fn field(window: &Window, at: usize) -> u16 {
    u16::from_ne_bytes(*bytes(window, at))
}

/// Returns `N` bytes at `at`, which must be at most [`WINDOW`] less `N`.
#[inline(always)]
pub fn bytes<const N: usize>(window: &Window, at: usize) -> &[u8; N] {
    match window[at..].first_chunk() {
        Some(bytes) => bytes,
        None => unreachable!("beyond the window"),
    }
}

/// Returns `N` bytes at `at`, for writing.
#[inline(always)]
pub fn bytes_mut<const N: usize>(window: &mut Window, at: usize) -> &mut [u8; N] {
    match window[at..].first_chunk_mut() {
        Some(bytes) => bytes,
        None => unreachable!("beyond the window"),
    }
}

const _: () = assert!(V6::MESSAGE + LEN + BLOCK < WINDOW);
