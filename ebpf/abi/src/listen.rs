//! Address and port of a listener, in the form that the kernel hashes.

use core::net::{IpAddr, SocketAddr};

/// Key of [`LISTEN_MAP`](crate::LISTEN_MAP): a destination to answer for.
///
/// The kernel hashes and compares these as bytes, so there is no padding, and every byte has one meaning: an
/// IPv4 address fills the first four bytes of `address` and leaves the rest zero; an address that is all zero
/// stands for every address of that family. Aligned, so that the program can fill it a word at a time.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenKey {
    pub(crate) address: [u8; 16],
    /// Network byte order.
    port: [u8; 2],
    /// 4 or 6, in the first byte. The second byte pads to whole words.
    pub(crate) family: [u8; 2],
}

const _: () = assert!(size_of::<ListenKey>() == 20, "no padding: the kernel would hash it");

impl ListenKey {
    #[inline(always)]
    pub fn v4(address: [u8; 4], port: [u8; 2]) -> Self {
        let [a, b, c, d] = address;
        Self { address: [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], port, family: [4, 0] }
    }

    #[inline(always)]
    pub fn v6(address: [u8; 16], port: [u8; 2]) -> Self {
        Self { address, port, family: [6, 0] }
    }

    /// Returns the key of any address of this family: `0.0.0.0:53` and `[::]:53` become such keys.
    #[inline(always)]
    pub fn any_address(&self) -> Self {
        Self { address: [0; 16], ..*self }
    }
}

impl From<SocketAddr> for ListenKey {
    /// An IPv4 address written in IPv6 form (`::ffff:192.0.2.1`) is an IPv4 listener: on the wire it is never
    /// IPv6.
    fn from(address: SocketAddr) -> Self {
        let port = address.port().to_be_bytes();
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => Self::v4(ip.octets(), port),
            IpAddr::V6(ip) => Self::v6(ip.octets(), port),
        }
    }
}

// SAFETY: `repr(C)`, arrays of bytes only, so without padding, and any bytes are a valid value.
#[cfg(feature = "aya")]
unsafe impl aya::Pod for ListenKey {}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str) -> ListenKey {
        ListenKey::from(address.parse::<SocketAddr>().expect("a socket address"))
    }

    #[test]
    fn families_never_collide() {
        assert_ne!(key("0.0.0.0:53"), key("[::]:53"));
        assert_ne!(key("10.0.0.1:53"), key("[a00:1::]:53"));
    }

    #[test]
    fn any_address_keeps_family_and_port() {
        assert_eq!(key("192.0.2.1:5353").any_address(), key("0.0.0.0:5353"));
        assert_eq!(key("[2001:db8::1]:5353").any_address(), key("[::]:5353"));
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        assert_eq!(key("[::ffff:192.0.2.1]:53"), key("192.0.2.1:53"));
    }
}
