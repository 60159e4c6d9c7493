//! Header of a DNS message: its first twelve bytes (RFC 1035 section 4.1.1).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, big_endian::U16, native_endian};

/// Length of the header in bytes.
pub const LEN: usize = 12;

/// Set in a response, clear in a query.
pub const QR: u16 = 0x8000;
/// Mask of the operation; 0 is a query.
pub const OPCODE: u16 = 0x7800;
/// Operation of a message that tells of a zone's change (RFC 1996).
pub const NOTIFY: u16 = 4 << 11;
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
/// Mask of the response code.
pub const RCODE: u16 = 0x000f;

/// Message header, viewed in place.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Chosen by the client; echoed in the answer.
    pub id: U16,
    /// QR, opcode, flags and RCODE.
    pub flags: U16,
    /// Number of questions.
    pub qdcount: U16,
    /// Number of answer records.
    pub ancount: U16,
    /// Number of authority records.
    pub nscount: U16,
    /// Number of additional records.
    pub arcount: U16,
}

/// Message header as native-endian words: to check, write and sum several fields at once.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Words {
    id: native_endian::U16,
    /// Flags, and the counts of all records except the additional ones: see [`start`].
    pub start: native_endian::U64,
    /// Number of additional records.
    pub arcount: native_endian::U16,
}

/// Returns the header's bytes from the flags to the count of authority records, with one question,
/// as a native-endian word.
#[inline(always)]
pub const fn start(flags: u16, answers: u16, authority: u16) -> u64 {
    let wire = (flags as u64) << 48 | 1 << 32 | (answers as u64) << 16 | authority as u64;
    wire.to_be()
}

/// Returns the counts of answer and authority records in a [`start`].
pub const fn counts(start: u64) -> [u16; 2] {
    let wire = u64::from_be(start);
    [(wire >> 16) as u16, wire as u16]
}

/// Returns the flags in a [`start`].
pub const fn flags_of(start: u64) -> u16 {
    (u64::from_be(start) >> 48) as u16
}

/// Whether a header with this [`start`] is that of a query for recursion, with one question and no
/// answers.
#[inline(always)]
pub fn is_query(header: u64) -> bool {
    const MASK: u64 = flags(QR | OPCODE | RD) | !flags(0xffff);
    header & MASK == start(RD, 0, 0)
}

/// Moves flags as on the wire to their position in [`start`].
#[inline(always)]
pub fn in_start(flags: u16) -> u64 {
    let [high, low] = flags.to_ne_bytes();
    u64::from_ne_bytes([high, low, 0, 0, 0, 0, 0, 0])
}

/// Moves flags to their position in [`start`].
#[inline(always)]
pub const fn flags(flags: u16) -> u64 {
    ((flags as u64) << 48).to_be()
}
