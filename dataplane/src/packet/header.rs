//! Headers as on the wire. Multi-byte fields are [`U16`]s in network order: a type, never a bare
//! `u16`.

use super::{
    HOP_LIMIT,
    plain::{Window, bytes},
};
use crate::checksum;
use std::net::{Ipv4Addr, Ipv6Addr};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, big_endian::U16, transmute, transmute_ref,
};

/// IP protocol number of UDP (RFC 768).
pub const UDP: u8 = 17;

/// Ethernet header, or the part of it that comes before any VLAN tag.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Mac {
    /// Receiver of the frame.
    pub destination: [u8; 6],
    /// Sender of the frame.
    pub source: [u8; 6],
    /// Protocol of the payload.
    pub ethertype: EtherType,
}

/// Protocol of an Ethernet frame's payload.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(transparent)]
pub struct EtherType(pub [u8; 2]);

impl EtherType {
    /// IPv4.
    pub const IPV4: Self = EtherType([0x08, 0x00]);
    /// IPv6.
    pub const IPV6: Self = EtherType([0x86, 0xdd]);
    /// An 802.1Q tag.
    pub const VLAN: Self = EtherType([0x81, 0x00]);
    /// An 802.1ad service tag (QinQ).
    pub const QINQ: Self = EtherType([0x88, 0xa8]);

    /// Returns the type of an Ethernet frame, or of its outer tag.
    #[inline(always)]
    pub fn of(window: &Window) -> Self {
        EtherType(*bytes(window, 12))
    }
}

/// IPv4 header without options (RFC 791).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv4 {
    version_ihl: u8,
    tos: u8,
    /// Length of header and payload in bytes.
    pub total_length: U16,
    id: U16,
    flags_offset: U16,
    ttl: u8,
    protocol: u8,
    checksum: U16,
    /// Address of the sender.
    pub source: [u8; 4],
    /// Address of the receiver.
    pub destination: [u8; 4],
}

/// IPv4 header as words, for checks and sums.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
struct Ipv4Words {
    /// Version to fragment offset.
    start: u64,
    /// TTL, protocol and checksum.
    middle: u32,
    /// Source and destination.
    addresses: u64,
}

impl Ipv4 {
    #[inline(always)]
    fn words(&self) -> Ipv4Words {
        let bytes: &[u8; size_of::<Ipv4>()] = transmute_ref!(self);
        transmute!(*bytes)
    }

    /// Whether the packet has no options, is no fragment, and carries UDP.
    #[inline(always)]
    pub fn is_plain_udp(&self) -> bool {
        // Version and length of the header; "more fragments" and the offset.
        const MASK: u64 = u64::from_ne_bytes([0xff, 0, 0, 0, 0, 0, 0x3f, 0xff]);
        const PLAIN: u64 = u64::from_ne_bytes([0x45, 0, 0, 0, 0, 0, 0, 0]);
        self.words().start & MASK == PLAIN && self.protocol == UDP
    }

    /// Fills in a header for a datagram of `udp_len` bytes, including its UDP header. Returns the
    /// sum of the addresses.
    pub fn write(&mut self, source: Ipv4Addr, destination: Ipv4Addr, udp_len: u16) -> u64 {
        // Swapped here, because `turn` swaps them again.
        self.source = destination.octets();
        self.destination = source.octets();
        self.turn(udp_len);
        self.addresses()
    }

    /// Returns the sum of the addresses.
    #[inline(always)]
    pub fn addresses(&self) -> u64 {
        self.words().addresses
    }

    /// Turns a query's header into its reply's.
    #[inline(always)]
    pub fn turn(&mut self, udp_len: u16) {
        // No TOS: the query's ECN mark says nothing about the way back. No ID: it means nothing in
        // a packet that is never fragmented (RFC 6864), and replies are sized to avoid that (RFC
        // 9715).
        const START: u64 = u64::from_ne_bytes([0x45, 0, 0, 0, 0, 0, 0x40, 0]);
        const MIDDLE: u32 = u32::from_ne_bytes([HOP_LIMIT, UDP, 0, 0]);
        let addresses = self.words().addresses.rotate_left(32);
        let length = U16::new(20 + udp_len).to_bytes();
        let start = START | u64::from_ne_bytes([0, 0, length[0], length[1], 0, 0, 0, 0]);
        let sum = checksum::chain(start, [u64::from(MIDDLE), addresses]);
        let [sum0, sum1] = (!checksum::fold_native(sum)).to_ne_bytes();
        let middle = MIDDLE | u32::from_ne_bytes([0, 0, sum0, sum1]);
        *self = transmute!(Ipv4Words { start, middle, addresses });
    }

    /// Whether the checksum is right.
    #[inline(always)]
    pub fn is_right(&self) -> bool {
        let Ipv4Words { start, middle, addresses } = self.words();
        checksum::is_right(checksum::chain(start, [addresses, u64::from(middle)]))
    }
}

/// IPv6 header (RFC 8200).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv6 {
    version_class_flow: [u8; 4],
    /// Length of the payload in bytes.
    pub payload_length: U16,
    /// Protocol of the payload.
    pub next_header: u8,
    hop_limit: u8,
    /// Address of the sender.
    pub source: [u8; 16],
    /// Address of the receiver.
    pub destination: [u8; 16],
}

impl Ipv6 {
    /// Returns the version field.
    #[inline(always)]
    pub fn version(&self) -> u8 {
        self.version_class_flow[0] >> 4
    }

    /// Fills in a header for a datagram of `udp_len` bytes, including its UDP header. Returns the
    /// sum of the addresses.
    pub fn write(&mut self, source: Ipv6Addr, destination: Ipv6Addr, udp_len: u16) -> u64 {
        self.next_header = UDP;
        // Swapped here, because `turn` swaps them again.
        self.source = destination.octets();
        self.destination = source.octets();
        self.turn(udp_len);
        self.addresses()
    }

    /// Turns a query's header into its reply's. The flow label is cleared: the sender may choose
    /// it, and none is needed.
    #[inline(always)]
    pub fn turn(&mut self, udp_len: u16) {
        std::mem::swap(&mut self.source, &mut self.destination);
        self.version_class_flow = [0x60, 0, 0, 0];
        self.payload_length.set(udp_len);
        self.hop_limit = HOP_LIMIT;
    }

    /// Returns the sum of the addresses.
    #[inline(always)]
    pub fn addresses(&self) -> u64 {
        checksum::sum(&self.as_bytes()[8..], 0)
    }
}

/// UDP header (RFC 768).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Udp {
    /// Port of the sender.
    pub source: U16,
    /// Port of the receiver.
    pub destination: U16,
    /// Length of header and payload in bytes.
    pub length: U16,
    /// Checksum over pseudo-header, header and payload; zero: none was computed.
    pub checksum: U16,
}

impl Udp {
    /// Turns a query's header into its reply's, for `udp_len` bytes including the UDP header. The
    /// checksum stays the query's.
    #[inline(always)]
    pub fn turn(&mut self, udp_len: u16) {
        let [a, b, c, d]: [u8; 4] = transmute!([self.source, self.destination]);
        [self.source, self.destination] = transmute!([c, d, a, b]);
        self.length.set(udp_len);
    }

    /// Turns the query's checksum into the reply's, whose message changes the sum by `change`. The
    /// query's length was `old_len`.
    #[inline(always)]
    pub fn follow(&mut self, change: u64, old_len: U16) {
        // Everything that was summed adds up to the checksum's complement. Addresses and ports only
        // changed places, and the length is also in the pseudo-header.
        let lengths = 2 * (native(self.length) + u64::from(!native(old_len) as u16));
        self.set_checksum(checksum::add(change, u64::from(!native(self.checksum) as u16) + lengths));
    }

    /// Whether the checksum is partial: the sum of the pseudo-header, not complemented, and without
    /// the datagram itself. Linux leaves it like that for the NIC to complete (`CHECKSUM_PARTIAL`).
    /// It arrives like that if no NIC is between sender and receiver: over veth, and over
    /// virtio-net from the host or another guest. An XDP program in the network stack, or behind a
    /// driver that copies, is not told.
    pub fn has_partial_checksum(&self, addresses: u64) -> bool {
        u64::from(checksum::fold_native(checksum::add(addresses, pseudo(self.length))))
            == native(self.checksum)
    }

    /// Computes the checksum over `addresses` and `message`.
    pub fn seal(&mut self, addresses: u64, message: &[u8]) {
        self.checksum = U16::ZERO;
        let header = checksum::sum(self.as_bytes(), pseudo(self.length));
        self.set_checksum(checksum::sum(message, checksum::add(header, addresses)));
    }

    /// Sets the checksum from the sum of everything else.
    #[inline(always)]
    fn set_checksum(&mut self, sum: u64) {
        self.checksum = U16::from_bytes(checksum::complement(sum));
    }
}

/// IP header followed by a UDP header.
pub trait Headers: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned {
    /// Returns the UDP header.
    fn udp(&mut self) -> &mut Udp;
    /// Returns the sum of the addresses.
    fn addresses(&self) -> u64;
    /// Turns the IP header into the reply's.
    fn turn_ip(&mut self, udp_len: u16);
}

/// IPv4 header followed by a UDP header.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv4Udp {
    /// The outer header.
    pub ip: Ipv4,
    /// The inner header.
    pub udp: Udp,
}

/// IPv6 header followed by a UDP header.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv6Udp {
    /// The outer header.
    pub ip: Ipv6,
    /// The inner header.
    pub udp: Udp,
}

impl Headers for Ipv4Udp {
    #[inline(always)]
    fn udp(&mut self) -> &mut Udp {
        &mut self.udp
    }

    #[inline(always)]
    fn addresses(&self) -> u64 {
        self.ip.addresses()
    }

    #[inline(always)]
    fn turn_ip(&mut self, udp_len: u16) {
        self.ip.turn(udp_len);
    }
}

impl Headers for Ipv6Udp {
    #[inline(always)]
    fn udp(&mut self) -> &mut Udp {
        &mut self.udp
    }

    #[inline(always)]
    fn addresses(&self) -> u64 {
        self.ip.addresses()
    }

    #[inline(always)]
    fn turn_ip(&mut self, udp_len: u16) {
        self.ip.turn(udp_len);
    }
}

/// Returns the sum of the pseudo-header of either version, without its addresses (RFC 768, RFC 8200
/// section 8.1).
#[inline(always)]
pub fn pseudo(udp_len: U16) -> u64 {
    checksum::word(u16::from(UDP)) + native(udp_len)
}

/// Returns a field as a sum.
#[inline(always)]
fn native(field: U16) -> u64 {
    u64::from(u16::from_ne_bytes(field.to_bytes()))
}
