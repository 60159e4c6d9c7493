//! `[dns64]`: IPv6 addresses for names that have IPv4 addresses alone.

use crate::{error::Problem, lists::prefixes, table::table};
use ringdns_dataplane::prefix::Prefix;
use std::net::Ipv6Addr;

table! {
    /// DNS64 (RFC 6147): a name without an IPv6 address gets addresses made of its IPv4 addresses,
    /// by which clients without IPv4 reach it through a NAT64. Questions with DO and CD are answered
    /// as they are. Reverse names of the prefix lead to those of the IPv4 addresses.
    "[dns64]" RawDns64 {
        /// Prefix of the NAT64: `"64:ff9b::/96"`, or one of your own with a length of 32, 40, 48,
        /// 56, 64 or 96. Absent: no DNS64.
        prefix: Option<String> = None,
        /// Prefixes of IPv6 addresses that count as none: a name that has no others gets made ones.
        exclude: Vec<String> = vec!["::ffff:0:0/96".into()],
    }
}

/// Lengths of prefixes (RFC 6052 section 2.2).
const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

/// DNS64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns64Config {
    /// Prefix and its length in bits; `None`: no DNS64.
    pub prefix: Option<(Ipv6Addr, u8)>,
    /// IPv6 addresses that count as none.
    pub exclude: Vec<Prefix>,
}

impl RawDns64 {
    /// Returns the checked values.
    pub fn check(self) -> Result<Dns64Config, Problem> {
        Ok(Dns64Config {
            prefix: self.prefix.map(|text| prefix(&text)).transpose()?,
            exclude: prefixes("dns64.exclude", &self.exclude)?,
        })
    }
}

fn prefix(text: &str) -> Result<(Ipv6Addr, u8), Problem> {
    let refused = |reason: &str| {
        let remedy = "Write \"64:ff9b::/96\", or the prefix of your NAT64";
        Problem::new("dns64.prefix", format!("{text:?} {reason}"), remedy)
    };
    let split = text
        .split_once('/')
        .and_then(|(address, length)| Some((address.parse::<Ipv6Addr>().ok()?, length.parse::<u8>().ok()?)));
    let (address, length) = split.ok_or_else(|| refused("is no prefix of IPv6 addresses"))?;
    if !LENGTHS.contains(&length) {
        return Err(refused("has a length other than 32, 40, 48, 56, 64 and 96"));
    }
    if address.to_bits() << length != 0 || address.octets()[8] != 0 {
        return Err(refused("has bits set beyond its length, or in bits 64 to 71"));
    }
    Ok((address, length))
}

#[cfg(test)]
mod tests {
    use crate::testing::{MINIMAL, minimal_with, refused};

    #[test]
    fn prefixes_are_checked() {
        assert_eq!(minimal_with("").dns64.prefix, None);
        let dns64 = minimal_with("[dns64]\nprefix = \"64:ff9b::/96\"").dns64;
        assert_eq!(dns64.prefix, Some(("64:ff9b::".parse().unwrap(), 96)));
        assert_eq!(dns64.exclude, ["::ffff:0:0/96".parse().unwrap()]);
        refused(
            &format!("{MINIMAL}[dns64]\n"),
            &[
                ["prefix = \"64:ff9b::\"", "6", "dns64.prefix", "no prefix", "64:ff9b::/96"],
                ["prefix = \"192.0.2.0/24\"", "6", "dns64.prefix", "no prefix", "64:ff9b::/96"],
                ["prefix = \"64:ff9b::/97\"", "6", "dns64.prefix", "length other", "64:ff9b::/96"],
                ["prefix = \"64:ff9b::1/96\"", "6", "dns64.prefix", "bits set", "64:ff9b::/96"],
                ["prefix = \"2001:db8:0:0:100::/96\"", "6", "dns64.prefix", "bits 64", "64:ff9b::/96"],
                ["exclude = [\"x\"]", "6", "dns64.exclude[0]", "\"x\"", "2001:db8"],
            ],
        );
    }
}
