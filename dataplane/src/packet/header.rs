//! Headers as they stand on the wire. Multi-byte fields are [`U16`]s in network order: a type, never a bare `u16`.

use super::{HOP_LIMIT, checksum};
use std::net::{Ipv4Addr, Ipv6Addr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, big_endian::U16};

/// IP protocol number of UDP (RFC 768).
pub const UDP: u8 = 17;

/// Ethernet header, or the part of it that comes before any VLAN tag.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Mac {
    /// Whom the frame is for.
    pub destination: [u8; 6],
    /// Who sent it.
    pub source: [u8; 6],
    /// What follows.
    pub ethertype: EtherType,
}

/// What an Ethernet frame carries.
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
}

/// IPv4 header without options (RFC 791).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv4 {
    /// Version in the upper half, header length in words in the lower.
    pub version_ihl: u8,
    tos: u8,
    /// Length of header and payload.
    pub total_length: U16,
    id: U16,
    flags_offset: U16,
    ttl: u8,
    /// What follows.
    pub protocol: u8,
    checksum: U16,
    /// Who sent it.
    pub source: [u8; 4],
    /// Whom it is for.
    pub destination: [u8; 4],
}

/// Don't fragment (RFC 791); replies are sized so that they need not be (RFC 9715).
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS_AND_OFFSET: u16 = 0x3fff;

impl Ipv4 {
    /// Whether this is a piece of a larger packet.
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        self.flags_offset.get() & MORE_FRAGMENTS_AND_OFFSET != 0
    }

    /// Fills in a header for a datagram of `udp_len` bytes, UDP header included. Returns the sum of the addresses.
    pub fn write(&mut self, source: Ipv4Addr, destination: Ipv4Addr, udp_len: u16) -> u64 {
        self.version_ihl = 0x45;
        self.protocol = UDP;
        // `turn` swaps.
        self.source = destination.octets();
        self.destination = source.octets();
        self.turn(udp_len)
    }

    /// Turns a query's header into its reply's. Returns the sum of the addresses.
    #[inline(always)]
    pub fn turn(&mut self, udp_len: u16) -> u64 {
        std::mem::swap(&mut self.source, &mut self.destination);
        self.tos = 0; // the query's ECN mark says nothing about the way back
        self.total_length.set(20 + udp_len);
        self.id.set(0); // RFC 6864: meaningless in what is never fragmented
        self.flags_offset.set(DONT_FRAGMENT);
        self.ttl = HOP_LIMIT;
        self.checksum.set(0);
        let addresses = self.addresses();
        self.checksum.set(!checksum::fold(self.fixed_sum() + addresses));
        addresses
    }

    /// The sum of all but the addresses; less than 2^34.
    #[inline(always)]
    pub fn fixed_sum(&self) -> u64 {
        let (words, _) = self.as_bytes()[..12].as_chunks::<4>();
        words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum()
    }

    /// The sum of both addresses; less than 2^34.
    #[inline(always)]
    pub fn addresses(&self) -> u64 {
        u64::from(u32::from_ne_bytes(self.source)) + u64::from(u32::from_ne_bytes(self.destination))
    }
}

/// IPv6 header (RFC 8200).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv6 {
    version_class_flow: [u8; 4],
    /// Length of what follows the header.
    pub payload_length: U16,
    /// What follows.
    pub next_header: u8,
    hop_limit: u8,
    /// Who sent it.
    pub source: [u8; 16],
    /// Whom it is for.
    pub destination: [u8; 16],
}

impl Ipv6 {
    /// The version field.
    #[inline(always)]
    pub fn version(&self) -> u8 {
        self.version_class_flow[0] >> 4
    }

    /// Fills in a header for a datagram of `udp_len` bytes, UDP header included. Returns the sum of the addresses.
    pub fn write(&mut self, source: Ipv6Addr, destination: Ipv6Addr, udp_len: u16) -> u64 {
        self.next_header = UDP;
        // `turn` swaps.
        self.source = destination.octets();
        self.destination = source.octets();
        self.turn(udp_len)
    }

    /// Turns a query's header into its reply's. The flow label is dropped: ours to choose, and none is needed. Returns
    /// the sum of the addresses.
    #[inline(always)]
    pub fn turn(&mut self, udp_len: u16) -> u64 {
        std::mem::swap(&mut self.source, &mut self.destination);
        self.version_class_flow = [0x60, 0, 0, 0];
        self.payload_length.set(udp_len);
        self.hop_limit = HOP_LIMIT;
        self.addresses()
    }

    /// The sum of both addresses.
    #[inline(always)]
    pub fn addresses(&self) -> u64 {
        checksum::sum(&self.as_bytes()[8..], 0)
    }
}

/// UDP header (RFC 768).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Udp {
    /// Who sent it.
    pub source: U16,
    /// Whom it is for.
    pub destination: U16,
    /// Length of header and payload.
    pub length: U16,
    /// Over pseudo-header, header and payload; zero: none was made.
    pub checksum: U16,
}

impl Udp {
    /// Turns a query's header into its reply's of `udp_len` bytes, header included.
    ///
    /// The checksum follows from the query's where the message's `change` is given; else it is made over the
    /// reply's `message` and the `addresses`.
    #[inline(always)]
    pub fn turn(&mut self, udp_len: u16, addresses: u64, message: &[u8], change: Option<u64>) {
        let old_len = self.length.get();
        std::mem::swap(&mut self.source, &mut self.destination);
        self.length.set(udp_len);
        let sum = match change {
            Some(change) => {
                // All that was summed comes to the checksum's complement. Addresses and ports only change places, and
                // the length stands in the pseudo-header too.
                let lengths = checksum::change(2 * checksum::word(old_len), 2 * checksum::word(udp_len));
                let old = u64::from(!u16::from_ne_bytes(self.checksum.to_bytes()));
                checksum::add(checksum::add(old, lengths), change)
            }
            None => {
                self.checksum.set(0);
                self.sum(addresses, message)
            }
        };
        self.set_checksum(sum);
    }

    /// The sum of pseudo-header, this header and the message.
    pub fn sum(&self, addresses: u64, message: &[u8]) -> u64 {
        checksum::sum(message, checksum::sum(self.as_bytes(), pseudo(addresses, self.length.get())))
    }

    /// Sets the checksum from the sum of all else.
    #[inline(always)]
    pub fn set_checksum(&mut self, sum: u64) {
        let checksum = !checksum::fold_native(sum);
        // RFC 768: one that comes out as zero is sent as all ones.
        self.checksum = U16::from_bytes(if checksum == 0 { 0xffff } else { checksum }.to_ne_bytes());
    }
}

/// IPv4 and UDP header, as they follow each other.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv4Udp {
    /// The outer header.
    pub ip: Ipv4,
    /// The inner header.
    pub udp: Udp,
}

/// IPv6 and UDP header, as they follow each other.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv6Udp {
    /// The outer header.
    pub ip: Ipv6,
    /// The inner header.
    pub udp: Udp,
}

/// The sum of the pseudo-header of either version (RFC 768, RFC 8200 section 8.1).
#[inline(always)]
pub fn pseudo(addresses: u64, udp_len: u16) -> u64 {
    checksum::add(addresses, checksum::word(u16::from(UDP)) + checksum::word(udp_len))
}
