//! Access list: prefixes of clients that may ask, of which the longest decides (RFC 5358: recursion
//! only for intended clients).
//!
//! The list is read only, and shared by all workers.

use crate::prefix::Prefix;
use crate::trie::{Slot, TooMany, Trie, TrieValue};
use std::net::IpAddr;

const REFUSED: TrieValue = 0;
const ALLOWED: TrieValue = 1;

/// Clients that may ask.
#[derive(Clone, Debug)]
pub struct AccessList {
    /// IPv4 clients.
    pub v4: Family,
    /// IPv6 clients.
    pub v6: Family,
}

impl Default for AccessList {
    /// Returns a list that allows everybody.
    fn default() -> Self {
        AccessList { v4: Family::of_one(ALLOWED), v6: Family::of_one(ALLOWED) }.at_a_glance()
    }
}

impl AccessList {
    /// Creates a list of the clients in `allow`, except those in a prefix of `deny` that is as long
    /// or longer.
    pub fn new(allow: &[Prefix], deny: &[Prefix]) -> Result<Self, TooMany> {
        let mut rules: Vec<(Prefix, TrieValue)> = Vec::with_capacity(allow.len() + deny.len());
        rules.extend(allow.iter().map(|prefix| (*prefix, ALLOWED)));
        rules.extend(deny.iter().map(|prefix| (*prefix, REFUSED)));
        // Longer prefixes overwrite shorter ones; of two of the same length, the later one wins.
        rules.sort_by_key(|(prefix, _)| prefix.len());
        let mut list = AccessList { v4: Family::of_one(REFUSED), v6: Family::of_one(REFUSED) };
        for (prefix, value) in rules {
            let family = if prefix.address().is_ipv4() { &mut list.v4 } else { &mut list.v6 };
            family.trie.set(prefix, value)?;
        }
        Ok(list.at_a_glance())
    }

    /// Fills in the tables for the fast path.
    fn at_a_glance(mut self) -> Self {
        self.v4.at_a_glance(|first| !matches!(first, 0 | 127 | 224..));
        self.v6.at_a_glance(|first| !matches!(first, 0 | 0xff));
        self
    }

    /// Whether `client` may ask.
    pub fn allows(&self, client: IpAddr) -> bool {
        match client {
            IpAddr::V4(address) => self.v4.allows(&address.octets()),
            IpAddr::V6(address) => self.v6.allows(&address.octets()),
        }
    }
}

/// Access list of one address family.
#[derive(Clone, Debug)]
pub struct Family {
    /// Values of the first byte for packets from a wire. Addresses that cannot be answered there
    /// (RFC 1122 section 3.2.1.3: 0.0.0.0/8, loopback, multicast, reserved) count as refused, so
    /// that one lookup of a source tests both.
    glance: [Slot; 256],
    trie: Trie,
}

impl Family {
    fn of_one(value: TrieValue) -> Self {
        Family { glance: [Slot::of(value); 256], trie: Trie::of_one(value) }
    }

    fn at_a_glance(&mut self, asks: impl Fn(u8) -> bool) {
        for (first, (to, slot)) in self.glance.iter_mut().zip(self.trie.first()).enumerate() {
            *to = if asks(first as u8) { *slot } else { Slot::of(REFUSED) };
        }
    }

    /// Whether the address may ask and can be answered across a link. False decides nothing yet:
    /// the address may be a special one.
    #[inline(always)]
    pub fn lets_in<const N: usize>(&self, address: &[u8; N]) -> bool {
        let slot = self.glance[usize::from(address[0])];
        slot == Slot::of(ALLOWED) || self.trie.descend(slot, address) == ALLOWED
    }

    /// Whether the address may ask.
    #[inline(always)]
    pub fn allows<const N: usize>(&self, address: &[u8; N]) -> bool {
        self.trie.get(address) == ALLOWED
    }

    /// Returns the share of all addresses that may ask.
    pub fn share(&self) -> f64 {
        self.trie.share(ALLOWED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_contains_its_addresses() {
        for (prefix, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.0"),
            ("::ffff:0:0/96", "::ffff:192.0.2.1", "192.0.2.1"),
            ("::/0", "ff02::1", "0.0.0.0"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::"),
        ] {
            let parsed: Prefix = prefix.parse().unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{prefix} {inside}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{prefix} {outside}");
        }
    }
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn list(allow: &[&str], deny: &[&str]) -> AccessList {
        let prefixes =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Prefix>>();
        AccessList::new(&prefixes(allow), &prefixes(deny)).unwrap()
    }

    fn allows(list: &AccessList, client: &str) -> bool {
        list.allows(client.parse().unwrap())
    }

    #[test]
    fn the_longest_prefix_decides_and_no_prefix_is_no() {
        let list = list(
            &["10.0.0.0/8", "10.1.2.0/24", "192.0.2.128/25", "2001:db8::/32"],
            &["10.1.0.0/16", "10.1.2.3", "2001:db8:0:8000::/49", "10.9.0.0/16"],
        );
        for (client, allowed) in [
            ("10.0.0.1", true),
            ("10.1.0.1", false),
            ("10.1.2.2", true),
            ("10.1.2.3", false),
            ("10.1.2.4", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.127", false),
            ("192.0.2.128", true),
            ("192.0.2.255", true),
            ("192.0.3.128", false),
            ("2001:db8::1", true),
            ("2001:db8:0:8000::", false),
            ("2001:db8:1::", true),
            ("2001:db9::", false),
            ("::ffff:10.0.0.1", false),
        ] {
            assert_eq!(allows(&list, client), allowed, "{client}");
        }
        let both = self::list(&["192.0.2.0/24"], &["192.0.2.0/24"]);
        assert!(!allows(&both, "192.0.2.1"), "of two as long, deny decides");
    }

    #[test]
    fn who_cannot_be_answered_across_a_link_is_not_let_in_at_a_glance() {
        let everybody = list(&["0.0.0.0/0", "::/0"], &[]);
        for client in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
            let client: Ipv4Addr = client.parse().unwrap();
            assert!(everybody.allows(client.into()) && !everybody.v4.lets_in(&client.octets()), "{client}");
        }
        for client in ["::", "::1", "ff02::1"] {
            let client: Ipv6Addr = client.parse().unwrap();
            assert!(everybody.allows(client.into()) && !everybody.v6.lets_in(&client.octets()), "{client}");
        }
    }

    #[test]
    fn shares_tell_a_list_for_some_from_one_for_all() {
        let share = |allow: &[&str], deny: &[&str]| list(allow, deny).v4.share();
        assert_eq!(share(&["0.0.0.0/0"], &[]), 1.0);
        assert_eq!(share(&["0.0.0.0/1", "128.0.0.0/1"], &["10.0.0.0/8"]), 255.0 / 256.0);
        assert_eq!(share(&["198.51.100.0/22"], &[]), 2f64.powi(-22));
        assert_eq!(AccessList::default().v6.share(), 1.0);
    }

    /// Returns prefixes that often contain each other.
    fn v4() -> impl Strategy<Value = Prefix> {
        (prop_oneof![Just(0x0a00_0000u32), any::<u32>()], any::<u32>(), 0..=32u8, 0..=32u8).prop_map(
            |(base, noise, shared, len)| {
                let mask = |len: u8| u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
                let bits = (base & mask(shared) | noise & !mask(shared)) & mask(len);
                Prefix::new(Ipv4Addr::from_bits(bits).into(), len).unwrap()
            },
        )
    }

    fn v6() -> impl Strategy<Value = Prefix> {
        (any::<u128>(), 0..=128u8, 0..=128u8).prop_map(|(noise, shared, len)| {
            let mask = |len: u8| u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
            let bits = (0x2001_0db8 << 96 & mask(shared) | noise & !mask(shared)) & mask(len);
            Prefix::new(Ipv6Addr::from_bits(bits).into(), len).unwrap()
        })
    }

    /// Returns the bits of an address, in the upper bits of 128.
    fn bits(address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        }
    }

    /// Decides as the documentation says, one prefix after another.
    fn naive(allow: &[Prefix], deny: &[Prefix], client: IpAddr) -> bool {
        let longest = |prefixes: &[Prefix]| {
            let has = |prefix: &&Prefix| {
                let differ = bits(prefix.address()) ^ bits(client);
                prefix.address().is_ipv4() == client.is_ipv4()
                    && differ.leading_zeros() >= u32::from(prefix.len())
            };
            prefixes.iter().filter(has).map(|prefix| i32::from(prefix.len())).max().unwrap_or(-1)
        };
        longest(allow) > longest(deny)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn the_tables_say_what_the_prefixes_do(
            allow in prop::collection::vec(prop_oneof![v4(), v6()], 0..24),
            deny in prop::collection::vec(prop_oneof![v4(), v6()], 0..24),
            noise in prop::collection::vec(any::<u32>(), 8),
        ) {
            let list = AccessList::new(&allow, &deny).unwrap();
            for prefix in allow.iter().chain(&deny) {
                for noise in &noise {
                    // In the prefix, right before it, right after it, and near it.
                    let beyond = u128::from(*noise) << 96 >> u32::from(prefix.len()).min(127);
                    let size = 1u128.checked_shl(128 - u32::from(prefix.len())).unwrap_or(0);
                    let start = bits(prefix.address());
                    let inside = start | beyond & size.wrapping_sub(1);
                    for at in [inside, start.wrapping_sub(1 << 96), start.wrapping_sub(1), start.wrapping_add(size)] {
                        let client = match prefix.address() {
                            IpAddr::V4(_) => Ipv4Addr::from_bits((at >> 96) as u32).into(),
                            IpAddr::V6(_) => Ipv6Addr::from_bits(at).into(),
                        };
                        let expected = naive(&allow, &deny, client);
                        prop_assert_eq!(list.allows(client), expected, "{}", client);
                        let (glanced, asks) = match client {
                            IpAddr::V4(a) => (list.v4.lets_in(&a.octets()), !matches!(a.octets()[0], 0 | 127 | 224..)),
                            IpAddr::V6(a) => (list.v6.lets_in(&a.octets()), !matches!(a.octets()[0], 0 | 255)),
                        };
                        prop_assert_eq!(glanced, expected && asks, "{} at a glance", client);
                    }
                }
            }
        }
    }
}
