//! The twelve bytes that every DNS message starts with (RFC 1035 section 4.1.1).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, big_endian::U16};

/// Length of the header.
pub const LEN: usize = 12;

/// Response, not query.
pub const QR: u16 = 0x8000;
/// The operation; 0 is a query.
pub const OPCODE: u16 = 0x7800;
/// Authoritative answer.
pub const AA: u16 = 0x0400;
/// Truncated.
pub const TC: u16 = 0x0200;
/// Recursion desired.
pub const RD: u16 = 0x0100;
/// Recursion available.
pub const RA: u16 = 0x0080;
/// Authentic data (RFC 4035).
pub const AD: u16 = 0x0020;
/// Checking disabled (RFC 4035).
pub const CD: u16 = 0x0010;
/// The response code.
pub const RCODE: u16 = 0x000f;

/// A message header in place.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Chosen by who asks; echoed in the answer.
    pub id: U16,
    /// QR, opcode, flags and RCODE.
    pub flags: U16,
    /// Questions.
    pub qdcount: U16,
    /// Answer records.
    pub ancount: U16,
    /// Authority records.
    pub nscount: U16,
    /// Additional records.
    pub arcount: U16,
}
