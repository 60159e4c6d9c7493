//! Access list, as far as the program decides by it.
//!
//! The map has room for two lists, each on a side of its own. A new list is filled in on the side
//! that is not in effect, and one write then puts that side into effect: no packet sees a part of a
//! list.

use crate::HostAddress;

/// Most prefixes of an access list in [`ACCESS_MAP`](crate::ACCESS_MAP). The map holds two lists.
pub const MAX_ACCESS: u32 = 8_192;

/// Side of the map with an access list, in the value of
/// [`ACCESS_SIDE_MAP`](crate::ACCESS_SIDE_MAP).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessSide(u32);

impl AccessSide {
    /// No side: the program decides nothing, and workers decide about every client.
    pub const NONE: Self = Self(0);
    /// One side of the map.
    pub const ONE: Self = Self(1);
    /// The other side.
    pub const TWO: Self = Self(2);

    /// Returns the side that is not this one.
    pub const fn other(self) -> Self {
        if self.0 == Self::ONE.0 { Self::TWO } else { Self::ONE }
    }

    /// Returns the key of an address on this side.
    #[inline(always)]
    pub fn key(self, address: HostAddress) -> AccessKey {
        AccessKey { side: self.0.to_be_bytes(), address }
    }
}

/// Key of [`ACCESS_MAP`](crate::ACCESS_MAP): the side, then the address or the first bits of one.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccessKey {
    side: [u8; 4],
    address: HostAddress,
}

impl AccessKey {
    /// Number of bits of a whole key.
    pub const BITS: u32 = 8 * size_of::<Self>() as u32;
    /// Number of bits in front of those of the address.
    const SIDE_BITS: u32 = 32;

    /// Returns the number of bits of a key for the first `length` bits of an address.
    pub const fn key_bits(length: u8) -> u32 {
        Self::SIDE_BITS + HostAddress::key_bits(length)
    }
}

/// Rule for the clients in a prefix, in a value of [`ACCESS_MAP`](crate::ACCESS_MAP). Clients in no
/// prefix are denied.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessRule(u32);

impl AccessRule {
    /// Queries of the clients are dropped.
    pub const DENIED: Self = Self(0);
    /// Queries of the clients are steered.
    pub const ALLOWED: Self = Self(1);
}

// SAFETY: `repr(C)`, bytes and an address of bytes only, so without padding, and any bytes are a valid value.
#[cfg(feature = "aya")]
unsafe impl aya::Pod for AccessKey {}

// SAFETY: a number in other words, and any number is a valid value.
#[cfg(feature = "aya")]
unsafe impl aya::Pod for AccessSide {}

// SAFETY: as above.
#[cfg(feature = "aya")]
unsafe impl aya::Pod for AccessRule {}
