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

/// Slot of a table: a value, or, from [`VALUES`] on, the number of the table for the next byte.
type TableSlot = u16;

/// Most tables of a trie: as many as slots can name.
const TABLES_MAX: usize = (TableSlot::MAX - VALUES) as usize;

/// The prefixes need more tables than there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the prefixes take more than {TABLES_MAX} tables of 256 slots")]
pub struct TooMany;

/// Values of the prefixes of one address family.
#[derive(Clone)]
pub struct Trie {
    /// All tables of 256 slots one after another, that of the first byte first.
    tables: Vec<TableSlot>,
}

impl fmt::Debug for Trie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trie").field("tables", &(self.tables.len() / 256)).finish_non_exhaustive()
    }
}

impl Trie {
    /// Returns a trie in which all addresses have one value.
    pub fn of_one(value: TrieValue) -> Self {
        Trie { tables: vec![value.min(VALUES - 1); 256] }
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
            let at = table * 256 + usize::from(*byte);
            let next = self.tables[at];
            table = if next >= VALUES {
                usize::from(next - VALUES) + 1
            } else {
                let made = self.tables.len() / 256;
                if made > TABLES_MAX {
                    return Err(TooMany);
                }
                self.tables.resize((made + 1) * 256, next);
                self.tables[at] = VALUES + (made - 1) as TableSlot;
                made
            };
        }
        let slots = 1 << (8 * (depth + 1) - usize::from(len)).min(8);
        self.tables[table * 256 + usize::from(address[depth])..][..slots].fill(value.min(VALUES - 1));
        Ok(())
    }

    /// Returns the table of the first byte.
    pub fn first(&self) -> &[TableSlot] {
        &self.tables[..256]
    }

    /// Returns the value of the longest prefix of an address.
    #[inline]
    pub fn get<const N: usize>(&self, address: &[u8; N]) -> TrieValue {
        let slot = self.tables[usize::from(address[0])];
        if slot < VALUES { slot } else { self.follow(slot, address) }
    }

    /// Continues the lookup from the slot of the first byte. Marked cold so that its callers keep
    /// their registers for the rest.
    #[cold]
    #[inline(never)]
    pub fn follow<const N: usize>(&self, mut slot: TableSlot, address: &[u8; N]) -> TrieValue {
        for byte in &address[1..] {
            if slot < VALUES {
                break;
            }
            let at = usize::from(slot - VALUES + 1) << 8 | usize::from(*byte);
            slot = self.tables.get(at).copied().unwrap_or(0);
        }
        slot
    }

    /// Continues the lookup from the slot of the first byte, on the path of a hit: without a call for
    /// the short addresses of IPv4.
    #[inline(always)]
    pub fn descend<const N: usize>(&self, mut slot: TableSlot, address: &[u8; N]) -> TrieValue {
        if N > 4 {
            return self.follow(slot, address);
        }
        for byte in &address[1..] {
            if slot < VALUES {
                break;
            }
            let at = usize::from(slot - VALUES + 1) << 8 | usize::from(*byte);
            slot = self.tables.get(at).copied().unwrap_or(0);
        }
        slot
    }

    /// Returns the share of all addresses that have a value.
    pub fn share(&self, value: TrieValue) -> f64 {
        self.share_of(0, value)
    }

    fn share_of(&self, table: usize, value: TrieValue) -> f64 {
        let of = |slot: &TableSlot| match *slot {
            further @ VALUES.. => self.share_of(usize::from(further - VALUES) + 1, value),
            own => f64::from(u8::from(own == value)),
        };
        self.tables[table * 256..][..256].iter().map(of).sum::<f64>() / 256.0
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
