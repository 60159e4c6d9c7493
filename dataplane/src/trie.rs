//! Longest-prefix match on addresses: a trie with eight bits per step.
//!
//! The longest match is written into all slots below it, so that a lookup reads one table per byte
//! as far as the prefixes differ: a client in 10.0.0.0/8 is decided by its first byte, one in a /22
//! by its third.

use crate::prefix::Prefix;
use std::{fmt, net::IpAddr};

/// Value of a prefix, less than [`VALUES`].
pub type TrieValue = u16;

/// Number of different values.
pub const VALUES: TrieValue = 64;

/// Slot of a table: the number of the table for the next byte, or a value.
///
/// Values take the last numbers, beyond those of all tables, so that one comparison with the number of
/// tables both ends a lookup and checks the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u16);

impl Slot {
    /// Returns the slot of a value.
    pub const fn of(value: TrieValue) -> Self {
        Slot(!if value < VALUES { value } else { VALUES - 1 })
    }

    /// Returns the value of a slot that names no table.
    #[inline(always)]
    fn value(self) -> TrieValue {
        !self.0
    }
}

/// Table of the slots of one byte.
type Table = [Slot; 256];

/// Most tables of a trie: as many as slots can name.
const TABLES_MAX: usize = (u16::MAX - VALUES) as usize;

/// The prefixes need more tables than there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the prefixes take more than {TABLES_MAX} tables of 256 slots")]
pub struct TooMany;

/// Values of the prefixes of one address family.
#[derive(Clone)]
pub struct Trie {
    /// Tables, that of the first byte first.
    tables: Vec<Table>,
}

impl fmt::Debug for Trie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trie").field("tables", &self.tables.len()).finish_non_exhaustive()
    }
}

impl Trie {
    /// Returns a trie in which all addresses have one value.
    pub fn of_one(value: TrieValue) -> Self {
        Trie { tables: vec![[Slot::of(value); 256]] }
    }

    /// Gives a prefix a value. It must be at least as long as all prefixes before it, and of the
    /// same address family.
    pub fn set(&mut self, prefix: Prefix, value: TrieValue) -> Result<(), TooMany> {
        match prefix.address() {
            IpAddr::V4(address) => self.set_bytes(&address.octets(), prefix.len(), value),
            IpAddr::V6(address) => self.set_bytes(&address.octets(), prefix.len(), value),
        }
    }

    fn set_bytes(&mut self, address: &[u8], len: u8, value: TrieValue) -> Result<(), TooMany> {
        // The table with the prefix's last bit gets a range of slots.
        let depth = usize::from(len.saturating_sub(1) / 8);
        let mut table = 0;
        for byte in &address[..depth] {
            let parent = table;
            let slot = self.tables[parent][usize::from(*byte)];
            table = usize::from(slot.0);
            if table >= self.tables.len() {
                table = self.tables.len();
                if table >= TABLES_MAX {
                    return Err(TooMany);
                }
                self.tables.push([slot; 256]);
                self.tables[parent][usize::from(*byte)] = Slot(table as u16);
            }
        }
        let slots = 1 << (8 * (depth + 1) - usize::from(len)).min(8);
        self.tables[table][usize::from(address[depth])..][..slots].fill(Slot::of(value));
        Ok(())
    }

    /// Returns the table of the first byte.
    pub fn first(&self) -> &[Slot; 256] {
        &self.tables[0]
    }

    /// Returns the value of the longest prefix of an address.
    #[inline]
    pub fn get<const N: usize>(&self, address: &[u8; N]) -> TrieValue {
        self.walk(self.tables[0][usize::from(address[0])], address)
    }

    /// Continues the lookup from the slot of the first byte. Marked cold so that its callers keep
    /// their registers for the rest.
    #[cold]
    #[inline(never)]
    fn follow<const N: usize>(&self, slot: Slot, address: &[u8; N]) -> TrieValue {
        self.walk(slot, address)
    }

    /// Continues the lookup from the slot of the first byte, on the path of a hit: without a call for
    /// the short addresses of IPv4.
    #[inline(always)]
    pub fn descend<const N: usize>(&self, slot: Slot, address: &[u8; N]) -> TrieValue {
        if N > 4 { self.follow(slot, address) } else { self.walk(slot, address) }
    }

    #[inline(always)]
    fn walk<const N: usize>(&self, mut slot: Slot, address: &[u8; N]) -> TrieValue {
        for byte in &address[1..] {
            let Some(table) = self.tables.get(usize::from(slot.0)) else { break };
            slot = table[usize::from(*byte)];
        }
        slot.value()
    }

    /// Returns the share of all addresses that have a value.
    pub fn share(&self, value: TrieValue) -> f64 {
        self.share_of(0, value)
    }

    fn share_of(&self, table: usize, value: TrieValue) -> f64 {
        let of = |slot: &Slot| match usize::from(slot.0) {
            further if further < self.tables.len() => self.share_of(further, value),
            _ => f64::from(u8::from(slot.value() == value)),
        };
        self.tables[table].iter().map(of).sum::<f64>() / 256.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn what_the_tables_cannot_hold_is_refused() {
        let prefix = |n: u32| Prefix::new(Ipv4Addr::from_bits(n << 8).into(), 25).unwrap();
        let mut trie = Trie::of_one(0);
        assert!((0..1 << 17).any(|n| trie.set(prefix(n), 1) == Err(TooMany)));
    }
}
