//! Addresses of this host, as the kernel's table of local routes has them.

use core::net::IpAddr;

use crate::ListenKey;

/// Most prefixes of this host in [`HOST_ADDRESSES_MAP`](crate::HOST_ADDRESSES_MAP) at a time. The map
/// holds twice as many, so that a new set fits beside the old one.
pub const MAX_HOST_ADDRESSES: u32 = 16_384;

/// Most banned prefixes, which are in the same map: likewise.
pub const MAX_BANS: u32 = 1_024;

/// IP address, or the first bits of one, in a key of [`HOST_ADDRESSES_MAP`](crate::HOST_ADDRESSES_MAP).
///
/// The family comes first, so no prefix spans both. An IPv4 address fills the first four bytes of
/// `address`.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostAddress {
    /// 4 or 6, in the first byte.
    family: [u8; 4],
    address: [u8; 16],
}

impl HostAddress {
    /// Number of bits of a whole key.
    pub const BITS: u32 = 8 * size_of::<Self>() as u32;
    /// Number of bits in front of the address.
    const FAMILY_BITS: u32 = 32;

    #[inline(always)]
    pub fn v4(address: [u8; 4]) -> Self {
        let [a, b, c, d] = address;
        Self { family: [4, 0, 0, 0], address: [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] }
    }

    #[inline(always)]
    pub fn v6(address: [u8; 16]) -> Self {
        Self { family: [6, 0, 0, 0], address }
    }

    /// Returns the number of bits of a key for the first `length` bits of an address.
    pub const fn key_bits(length: u8) -> u32 {
        Self::FAMILY_BITS + length as u32
    }

    /// Whether this is an IPv4 address.
    pub fn is_v4(&self) -> bool {
        self.family[0] == 4
    }

    /// Returns the address, an IPv4 address in the first four bytes.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.address
    }

    /// Whether no packet on a link has this address as its source: unspecified, loopback, multicast,
    /// reserved and broadcast addresses (RFC 1122 section 3.2.1.3), and forms of IPv4 addresses (RFC
    /// 4291 section 2.5).
    #[inline(always)]
    pub fn is_martian(&self) -> bool {
        if self.family[0] == 4 {
            return matches!(self.address[0], 0 | 127 | 224..);
        }
        // A loop over bytes: BPF has no `memcmp`.
        self.address[0] == 0xff || self.address[..10].iter().all(|byte| *byte == 0)
    }
}

impl From<IpAddr> for HostAddress {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::v4(v4.octets()),
            IpAddr::V6(v6) => Self::v6(v6.octets()),
        }
    }
}

impl From<&ListenKey> for HostAddress {
    #[inline(always)]
    fn from(key: &ListenKey) -> Self {
        Self { family: [key.family[0], 0, 0, 0], address: key.address }
    }
}

/// Kind of an address, in a value of [`HOST_ADDRESSES_MAP`](crate::HOST_ADDRESSES_MAP).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressKind(u32);

impl AddressKind {
    /// Address of another host, or of none.
    pub const OTHER: Self = Self(0);
    /// Address of this host: the kernel delivers packets to it here.
    pub const LOCAL: Self = Self(1);
    /// Broadcast address of a network that this host is in.
    pub const BROADCAST: Self = Self(2);
    /// Address of clients whose queries are dropped for a time.
    pub const BANNED: Self = Self(3);
}

// SAFETY: `repr(C)`, arrays of bytes only, so without padding, and any bytes are a valid value.
#[cfg(feature = "aya")]
unsafe impl aya::Pod for HostAddress {}

// SAFETY: a number in other words, and any number is a valid value.
#[cfg(feature = "aya")]
unsafe impl aya::Pod for AddressKind {}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> HostAddress {
        HostAddress::from(text.parse::<IpAddr>().expect("an address"))
    }

    #[test]
    fn sources_that_no_link_has_are_martian() {
        for martian in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.255.255",
            "224.0.0.1",
            "239.1.2.3",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::10.53.0.1",
            "::ffff:10.53.0.1",
            "ff02::1",
            "ffff::1",
        ] {
            assert!(address(martian).is_martian(), "{martian}");
        }
        for other in ["1.0.0.0", "126.255.255.255", "128.0.0.1", "223.255.255.255", "10.53.0.255"] {
            assert!(!address(other).is_martian(), "{other}");
        }
        for other in ["fe80::1", "fd53::1", "2001:db8::1", "64:ff9b::a35:1", "0:0:0:0:1::", "fe00::"] {
            assert!(!address(other).is_martian(), "{other}");
        }
    }

    #[test]
    fn a_listener_has_the_key_of_its_address() {
        for text in ["10.53.0.2", "fd53::2"] {
            let ip: IpAddr = text.parse().expect("an address");
            let key = ListenKey::from(core::net::SocketAddr::new(ip, 53));
            assert_eq!(HostAddress::from(&key), HostAddress::from(ip));
        }
        assert_ne!(address("10.53.0.2"), address("a35:2::"));
    }
}
