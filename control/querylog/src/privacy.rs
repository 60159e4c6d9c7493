//! Privacy of clients' addresses in the log.

use ringdns_dataplane::dns::cookie::Secret;
use siphasher::sip::SipHasher24;
use std::{
    hash::Hasher,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Form in which rows hold a client's address.
#[derive(Clone)]
pub enum ClientPrivacy {
    /// The whole address.
    None,
    /// The network: 24 bits of IPv4, 56 bits of IPv6.
    Truncate,
    /// A number that is always the same for one address, and reveals nothing about it without the
    /// key.
    Hash(SipHasher24),
}

/// Prefix of hashes: `100::/64`. No host has such an address (RFC 6666: packets to it are
/// discarded), so a hash cannot be taken for an address.
const HASHED: u128 = 0x0100 << 112;

impl ClientPrivacy {
    /// Returns the privacy that hashes with `secret`.
    pub fn hash(secret: &Secret) -> Self {
        ClientPrivacy::Hash(SipHasher24::new_with_key(secret))
    }

    /// Returns the form of `client` to keep. IPv4 addresses are mapped.
    pub fn kept(&self, client: Ipv6Addr) -> Ipv6Addr {
        match self {
            ClientPrivacy::None => client,
            ClientPrivacy::Truncate => match client.to_canonical() {
                IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & !0xff).to_ipv6_mapped(),
                IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << (128 - 56))),
            },
            ClientPrivacy::Hash(keyed) => {
                let mut hasher = *keyed;
                hasher.write(&client.octets());
                Ipv6Addr::from_bits(HASHED | u128::from(hasher.finish()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(privacy: &ClientPrivacy, client: &str) -> String {
        let client = match client.parse().unwrap() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        privacy.kept(client).to_canonical().to_string()
    }

    #[test]
    fn truncated_addresses_are_networks() {
        for (client, network) in [
            ("192.0.2.255", "192.0.2.0"),
            ("10.53.0.1", "10.53.0.0"),
            ("2001:db8:1:2ff:3:4:5:6", "2001:db8:1:200::"),
            ("fd53::1", "fd53::"),
        ] {
            assert_eq!(kept(&ClientPrivacy::Truncate, client), network);
            assert_eq!(kept(&ClientPrivacy::None, client), client);
        }
    }

    #[test]
    fn hashes_are_of_the_whole_address_and_of_the_key() {
        let [one, other] = [[1; 16], [2; 16]].map(|key| ClientPrivacy::hash(&key));
        let hash = kept(&one, "192.0.2.1");
        assert!(hash.starts_with("100:"), "{hash}");
        assert_eq!(hash, kept(&one, "192.0.2.1"));
        for (privacy, client) in [(&one, "192.0.2.2"), (&other, "192.0.2.1"), (&one, "::c000:201")] {
            assert_ne!(hash, kept(privacy, client), "{client}");
        }
    }
}
