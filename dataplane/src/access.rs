//! Access list: prefixes of clients that may ask, of which the longest decides (RFC 5358: recursion
//! only for intended clients).
//!
//! The list is a trie with eight bits per step. The longest match is written into it, so that a
//! lookup reads one table per byte as far as the prefixes differ: a client in 10.0.0.0/8 is decided
//! by its first byte, one in a /22 by its third. It is read only, and shared by all workers.

use std::{fmt, net::IpAddr, str::FromStr};

/// Value in a table: nobody may ask, all may, or, from [`FIRST_TABLE`] on, the number of the table
/// for the next byte.
type TableSlot = u16;
const REFUSED: TableSlot = 0;
const ALLOWED: TableSlot = 1;
const FIRST_TABLE: TableSlot = 2;

/// Table with a slot for each value of a byte.
type ByteTable = [TableSlot; 256];

/// Most tables of one family: as many as slots can name.
const TABLES_MAX: usize = (TableSlot::MAX - FIRST_TABLE) as usize;

/// Prefix of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    len: u8,
}

impl Prefix {
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

    /// Returns the first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns the number of bits.
    pub fn bits(&self) -> u8 {
        self.len
    }

    /// Whether an address is in both prefixes: one of them then contains the other.
    pub fn overlaps(&self, other: &Prefix) -> bool {
        let len = self.len.min(other.len);
        self.address.is_ipv4() == other.address.is_ipv4()
            && Self::around(self.address, len) == Self::around(other.address, len)
    }
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
        if len > most {
            return Err(PrefixError::Length);
        }
        let beyond = match address {
            IpAddr::V4(address) => address.to_bits().checked_shl(u32::from(len)).unwrap_or(0) != 0,
            IpAddr::V6(address) => address.to_bits().checked_shl(u32::from(len)).unwrap_or(0) != 0,
        };
        if beyond { Err(PrefixError::HostBits) } else { Ok(Prefix { address, len }) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

/// The prefixes need more tables than there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the prefixes take more than {TABLES_MAX} tables of 256 slots")]
pub struct TooMany;

/// Clients that may ask.
#[derive(Clone, Debug)]
pub struct AccessList {
    /// IPv4 clients.
    pub v4: Trie,
    /// IPv6 clients.
    pub v6: Trie,
}

impl Default for AccessList {
    /// Returns a list that allows everybody.
    fn default() -> Self {
        AccessList { v4: Trie::of_one(ALLOWED), v6: Trie::of_one(ALLOWED) }.at_a_glance()
    }
}

impl AccessList {
    /// Creates a list of the clients in `allow`, except those in a prefix of `deny` that is as long
    /// or longer.
    pub fn new(allow: &[Prefix], deny: &[Prefix]) -> Result<Self, TooMany> {
        let mut rules: Vec<(Prefix, TableSlot)> = Vec::with_capacity(allow.len() + deny.len());
        rules.extend(allow.iter().map(|prefix| (*prefix, ALLOWED)));
        rules.extend(deny.iter().map(|prefix| (*prefix, REFUSED)));
        // Longer prefixes overwrite shorter ones; of two of the same length, the later one wins.
        rules.sort_by_key(|(prefix, _)| prefix.len);
        let mut list = AccessList { v4: Trie::of_one(REFUSED), v6: Trie::of_one(REFUSED) };
        for (prefix, slot) in rules {
            match prefix.address {
                IpAddr::V4(address) => list.v4.set(&address.octets(), prefix.len, slot)?,
                IpAddr::V6(address) => list.v6.set(&address.octets(), prefix.len, slot)?,
            }
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

/// Prefixes of one address family.
#[derive(Clone)]
pub struct Trie {
    /// Table of the first byte for packets from a wire. Addresses that cannot be answered there
    /// (RFC 1122 section 3.2.1.3: 0.0.0.0/8, loopback, multicast, reserved) count as refused, so
    /// that one lookup of a source tests both.
    glance: ByteTable,
    /// All tables one after another, the table of the first byte first.
    tables: Vec<TableSlot>,
}

impl fmt::Debug for Trie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trie").field("tables", &(self.tables.len() / 256)).finish_non_exhaustive()
    }
}

impl Trie {
    fn of_one(slot: TableSlot) -> Self {
        Trie { glance: [slot; 256], tables: vec![slot; 256] }
    }

    /// Writes `slot` for a prefix at least as long as all prefixes before it.
    fn set(&mut self, address: &[u8], len: u8, slot: TableSlot) -> Result<(), TooMany> {
        // The table with the prefix's last bit gets a range of slots.
        let depth = usize::from(len.saturating_sub(1) / 8);
        let mut table = 0;
        for byte in &address[..depth] {
            let at = table * 256 + usize::from(*byte);
            let next = self.tables[at];
            table = if next >= FIRST_TABLE {
                usize::from(next - FIRST_TABLE) + 1
            } else {
                let made = self.tables.len() / 256;
                if made > TABLES_MAX {
                    return Err(TooMany);
                }
                self.tables.resize((made + 1) * 256, next);
                self.tables[at] = FIRST_TABLE + (made - 1) as TableSlot;
                made
            };
        }
        let slots = 1 << (8 * (depth + 1) - usize::from(len)).min(8);
        self.tables[table * 256 + usize::from(address[depth])..][..slots].fill(slot);
        Ok(())
    }

    fn at_a_glance(&mut self, asks: impl Fn(u8) -> bool) {
        for (first, (to, slot)) in self.glance.iter_mut().zip(&self.tables).enumerate() {
            *to = if asks(first as u8) { *slot } else { REFUSED };
        }
    }

    /// Whether the address may ask, even if it is a special one.
    fn allows<const N: usize>(&self, address: &[u8; N]) -> bool {
        let slot = self.tables[usize::from(address[0])];
        slot == ALLOWED || self.follow(slot, address)
    }

    /// Whether the address may ask and can be answered across a link. False decides nothing yet:
    /// the address may be a special one.
    #[inline(always)]
    pub fn lets_in<const N: usize>(&self, address: &[u8; N]) -> bool {
        let slot = self.glance[usize::from(address[0])];
        slot == ALLOWED || self.follow(slot, address)
    }

    /// Continues the lookup if the first byte does not decide. Marked cold so that its callers keep
    /// their registers for the rest.
    #[cold]
    #[inline(never)]
    fn follow<const N: usize>(&self, mut slot: TableSlot, address: &[u8; N]) -> bool {
        for byte in &address[1..] {
            if slot < FIRST_TABLE {
                break;
            }
            let at = usize::from(slot - FIRST_TABLE + 1) << 8 | usize::from(*byte);
            slot = self.tables.get(at).copied().unwrap_or(REFUSED);
        }
        slot == ALLOWED
    }

    /// Returns the share of all addresses that may ask.
    pub fn share(&self) -> f64 {
        self.share_of(0)
    }

    fn share_of(&self, table: usize) -> f64 {
        let of = |slot: &TableSlot| match *slot {
            REFUSED => 0.0,
            ALLOWED => 1.0,
            further => self.share_of(usize::from(further - FIRST_TABLE) + 1),
        };
        self.tables[table * 256..][..256].iter().map(of).sum::<f64>() / 256.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn what_the_tables_cannot_hold_is_refused() {
        let prefix = |n: u32| Prefix { address: Ipv4Addr::from_bits(n << 8).into(), len: 25 };
        let prefixes: Vec<Prefix> = (0..1 << 17).map(prefix).collect();
        assert_eq!(AccessList::new(&prefixes, &[]).unwrap_err(), TooMany);
    }

    /// Returns prefixes that often contain each other.
    fn v4() -> impl Strategy<Value = Prefix> {
        (prop_oneof![Just(0x0a00_0000u32), any::<u32>()], any::<u32>(), 0..=32u8, 0..=32u8).prop_map(
            |(base, noise, shared, len)| {
                let mask = |len: u8| u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
                let bits = (base & mask(shared) | noise & !mask(shared)) & mask(len);
                Prefix { address: Ipv4Addr::from_bits(bits).into(), len }
            },
        )
    }

    fn v6() -> impl Strategy<Value = Prefix> {
        (any::<u128>(), 0..=128u8, 0..=128u8).prop_map(|(noise, shared, len)| {
            let mask = |len: u8| u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
            let bits = (0x2001_0db8 << 96 & mask(shared) | noise & !mask(shared)) & mask(len);
            Prefix { address: Ipv6Addr::from_bits(bits).into(), len }
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
                let differ = bits(prefix.address) ^ bits(client);
                prefix.address.is_ipv4() == client.is_ipv4()
                    && differ.leading_zeros() >= u32::from(prefix.len)
            };
            prefixes.iter().filter(has).map(|prefix| i32::from(prefix.len)).max().unwrap_or(-1)
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
                    let beyond = u128::from(*noise) << 96 >> u32::from(prefix.len).min(127);
                    let size = 1u128.checked_shl(128 - u32::from(prefix.len)).unwrap_or(0);
                    let start = bits(prefix.address);
                    let inside = start | beyond & size.wrapping_sub(1);
                    for at in [inside, start.wrapping_sub(1 << 96), start.wrapping_sub(1), start.wrapping_add(size)] {
                        let client = match prefix.address {
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
