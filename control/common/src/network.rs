//! Networks that count as one client where clients share something that is bounded.

use std::net::IpAddr;

/// Returns the network of a client: an IPv4 address, or an IPv6 /56.
///
/// A site is assigned a /56 or more (RFC 6177), and may use any address in it. IPv4 addresses are
/// scarce, and neighbours in a /24 are often strangers. Who forges addresses can forge any.
pub fn network(client: IpAddr) -> IpAddr {
    // A socket for both families has IPv4 addresses mapped, which are one IPv6 /56.
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !0 << 72).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_one_client_and_an_ipv4_address_is_one() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        for (client, of) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:0:1ff:1::1", "2001:db8:0:100::"),
            ("2001:db8:0:200::", "2001:db8:0:200::"),
        ] {
            assert_eq!(network(client), of, "{client}");
        }
    }
}
