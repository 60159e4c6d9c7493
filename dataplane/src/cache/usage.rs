//! Usage of a cache: entries, bytes, inserts and removals.

use super::Cache;

/// Number of entries and bytes in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Entries in the index.
    pub entries: u64,
    /// Bytes that entries take in the slabs, including removed ones whose room is not free yet.
    pub used: u64,
    /// Bytes of removed entries among `used`.
    pub removed: u64,
    /// Size of slabs and index in bytes.
    pub capacity: u64,
}

/// Totals of inserts and sweeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Churn {
    /// Entries written.
    pub inserted: u64,
    /// Entries evicted while still of use.
    pub evicted: u64,
    /// Entries removed because they were expired or purged.
    pub expired: u64,
}

impl Cache {
    /// Returns the number of entries and the bytes in use.
    pub fn occupancy(&self) -> Occupancy {
        Occupancy {
            entries: self.entries,
            used: (self.probation.used() + self.protected.used()) as u64,
            removed: self.removed as u64,
            capacity: (self.probation.capacity() + self.protected.capacity() + self.index.bytes()) as u64,
        }
    }

    /// Returns the totals of inserts and sweeps.
    pub fn churn(&self) -> Churn {
        self.churn
    }
}
