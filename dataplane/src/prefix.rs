//! Prefixes of addresses.

use std::{fmt, net::IpAddr, str::FromStr};

/// Prefix of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    len: u8,
}

/// Reasons why a text is not a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Not an address and a length.
    #[error("it is neither an address nor a prefix")]
    Syntax,
    /// Longer than an address.
    #[error("its length is more than an address has bits")]
    Length,
    /// The address is not the first of the prefix.
    #[error("it has bits set beyond its length")]
    HostBits,
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// Parses `10.0.0.0/8`, `fd00::/8`, or a single address.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| PrefixError::Syntax)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let plain = |len: &str| len.bytes().all(|byte| byte.is_ascii_digit()) && !len.is_empty();
        let len = match len {
            Some(len) if plain(len) => len.parse().map_err(|_| PrefixError::Length)?,
            Some(_) => return Err(PrefixError::Syntax),
            None => most,
        };
        Prefix::new(address, len)
    }
}

impl Prefix {
    /// Returns the prefix of `len` bits that begins at `address`.
    pub fn new(address: IpAddr, len: u8) -> Result<Self, PrefixError> {
        let (most, beyond) = match address {
            IpAddr::V4(address) => (32, address.to_bits().checked_shl(u32::from(len)).unwrap_or(0) != 0),
            IpAddr::V6(address) => (128, address.to_bits().checked_shl(u32::from(len)).unwrap_or(0) != 0),
        };
        match (len > most, beyond) {
            (true, _) => Err(PrefixError::Length),
            (false, true) => Err(PrefixError::HostBits),
            (false, false) => Ok(Prefix { address, len }),
        }
    }

    /// Returns the prefix of `len` bits, or as many as there are, that an address is in.
    pub fn around(address: IpAddr, len: u8) -> Self {
        let mask = |bits: u8| u128::MAX.checked_shl(u32::from(bits.saturating_sub(len))).unwrap_or(0);
        match address {
            IpAddr::V4(v4) => {
                let address = (v4.to_bits() & mask(32) as u32).into();
                Prefix { address: IpAddr::V4(address), len: len.min(32) }
            }
            IpAddr::V6(v6) => {
                let address = (v6.to_bits() & mask(128)).into();
                Prefix { address: IpAddr::V6(address), len: len.min(128) }
            }
        }
    }

    /// Whether an address is in both prefixes: one of them then contains the other.
    pub fn overlaps(&self, other: &Prefix) -> bool {
        let len = self.len.min(other.len);
        self.address.is_ipv4() == other.address.is_ipv4()
            && Self::around(self.address, len) == Self::around(other.address, len)
    }

    /// Whether the prefix contains an address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let beyond = |bits: u32| bits - u32::from(self.len).min(bits);
        match (self.address, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                (first.to_bits() ^ address.to_bits()).checked_shr(beyond(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                (first.to_bits() ^ address.to_bits()).checked_shr(beyond(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// Returns the first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns the number of bits that addresses in it have in common.
    #[expect(clippy::len_without_is_empty, reason = "the length of a prefix is a number of bits")]
    pub fn len(&self) -> u8 {
        self.len
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_and_slips_are_told() {
        for (text, expected) in [
            ("10.0.0.0/8", Ok("10.0.0.0/8")),
            ("192.0.2.1", Ok("192.0.2.1/32")),
            ("0.0.0.0/0", Ok("0.0.0.0/0")),
            ("::/0", Ok("::/0")),
            ("2001:db8::/33", Ok("2001:db8::/33")),
            ("fd53::1", Ok("fd53::1/128")),
            ("10.0.0.1/8", Err(PrefixError::HostBits)),
            ("2001:db8::1/64", Err(PrefixError::HostBits)),
            ("0.0.0.1/0", Err(PrefixError::HostBits)),
            ("10.0.0.0/33", Err(PrefixError::Length)),
            ("::/129", Err(PrefixError::Length)),
            ("::/999", Err(PrefixError::Length)),
            ("10.0.0.0/", Err(PrefixError::Syntax)),
            ("10.0.0.0/+8", Err(PrefixError::Syntax)),
            ("10/8", Err(PrefixError::Syntax)),
            ("any", Err(PrefixError::Syntax)),
        ] {
            let read = text.parse::<Prefix>().map(|prefix| prefix.to_string());
            assert_eq!(read.as_deref(), expected.as_ref().map(|text| *text), "{text}");
        }
    }

    #[test]
    fn prefixes_overlap_if_one_contains_the_other() {
        let prefix = |text: &str| text.parse::<Prefix>().unwrap();
        for (one, other, overlap) in [
            ("10.0.0.0/8", "10.1.2.0/24", true),
            ("10.1.2.3", "10.1.2.0/24", true),
            ("10.1.2.0/24", "10.1.3.0/24", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "::/0", false),
            ("2001:db8::/32", "2001:db8:1::/48", true),
            ("2001:db8::/48", "2001:db8:1::/48", false),
        ] {
            let (one, other) = (prefix(one), prefix(other));
            assert_eq!((one.overlaps(&other), other.overlaps(&one)), (overlap, overlap), "{one}, {other}");
        }
        for (address, len, around) in [
            ("10.1.2.3", 24, "10.1.2.0/24"),
            ("10.1.2.3", 0, "0.0.0.0/0"),
            ("10.1.2.3", 64, "10.1.2.3/32"),
            ("2001:db8:1:2::3", 48, "2001:db8:1::/48"),
            ("2001:db8::1", 128, "2001:db8::1/128"),
        ] {
            assert_eq!(Prefix::around(address.parse().unwrap(), len).to_string(), around);
        }
    }
}
