//! MAC addresses of clients.

use std::{fmt, str::FromStr};

/// MAC address of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress([u8; 6]);

/// Reasons why a text is not the MAC address of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MacError {
    /// Not six pairs of hexadecimal digits.
    #[error("it is no MAC address")]
    Syntax,
    /// A group address, or zero.
    #[error("no host has this MAC address")]
    NoHost,
}

impl MacAddress {
    /// Returns the source of an Ethernet frame.
    pub fn of_source(frame: &[u8]) -> Option<Self> {
        frame.get(6..)?.first_chunk().copied().map(MacAddress)
    }
}

impl FromStr for MacAddress {
    type Err = MacError;

    /// Parses `02:00:00:00:00:01` or `02-00-00-00-00-01`.
    fn from_str(text: &str) -> Result<Self, MacError> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let (mut address, mut parts) = ([0; 6], text.split(separator));
        for byte in &mut address {
            let digits = parts.next().ok_or(MacError::Syntax)?;
            if digits.len() != 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(MacError::Syntax);
            }
            *byte = u8::from_str_radix(digits, 16).map_err(|_| MacError::Syntax)?;
        }
        if parts.next().is_some() {
            return Err(MacError::Syntax);
        }
        let is_group = address[0] & 1 != 0;
        if is_group || address == [0; 6] { Err(MacError::NoHost) } else { Ok(MacAddress(address)) }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_are_read_and_slips_are_told() {
        for (text, expected) in [
            ("02:00:00:00:00:01", Ok("02:00:00:00:00:01")),
            ("AC-DE-48-00-11-ff", Ok("ac:de:48:00:11:ff")),
            ("00:00:00:00:00:00", Err(MacError::NoHost)),
            ("01:00:5e:00:00:fb", Err(MacError::NoHost)),
            ("ff:ff:ff:ff:ff:ff", Err(MacError::NoHost)),
            ("02:00:00:00:00", Err(MacError::Syntax)),
            ("02:00:00:00:00:01:02", Err(MacError::Syntax)),
            ("2:0:0:0:0:1", Err(MacError::Syntax)),
            ("02:00:00:00:00:+1", Err(MacError::Syntax)),
            ("02:00:00-00:00:01", Err(MacError::Syntax)),
            ("2001:db8::1", Err(MacError::Syntax)),
            ("10.0.0.1", Err(MacError::Syntax)),
            ("", Err(MacError::Syntax)),
        ] {
            let read = text.parse::<MacAddress>().map(|mac| mac.to_string());
            assert_eq!(read.as_deref(), expected.as_ref().map(|text| *text), "{text}");
        }
        let frame = [&[9; 6][..], &[2, 0, 0, 0, 0, 1], &[8, 0]].concat();
        assert_eq!(MacAddress::of_source(&frame), "02:00:00:00:00:01".parse().ok());
        assert_eq!(MacAddress::of_source(&frame[..11]), None);
    }
}
