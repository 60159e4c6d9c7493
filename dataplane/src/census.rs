//! Counts of queries by kind: IP versions, types of questions, and response codes of answers.

use crate::dns::rtype;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Types of questions that are told apart, with their names. All others are one.
pub const TYPES: [(u16, &str); 19] = [
    (rtype::A, "A"),
    (rtype::AAAA, "AAAA"),
    (rtype::HTTPS, "HTTPS"),
    (rtype::SVCB, "SVCB"),
    (rtype::CNAME, "CNAME"),
    (rtype::PTR, "PTR"),
    (rtype::MX, "MX"),
    (rtype::TXT, "TXT"),
    (rtype::NS, "NS"),
    (rtype::SOA, "SOA"),
    (rtype::SRV, "SRV"),
    (rtype::NAPTR, "NAPTR"),
    (rtype::TLSA, "TLSA"),
    (rtype::DS, "DS"),
    (rtype::DNSKEY, "DNSKEY"),
    (rtype::RRSIG, "RRSIG"),
    (rtype::NSEC, "NSEC"),
    (rtype::DNAME, "DNAME"),
    (rtype::ANY, "ANY"),
];

/// Name of all other types and response codes.
pub const OTHER: &str = "other";

/// Response codes that are told apart: their names by value. All others are one.
pub const RCODES: [&str; 6] = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];

/// Place of each type below 256 in [`TYPES`]; all types beyond are others.
static PLACES: [u8; 256] = places();

const fn places() -> [u8; 256] {
    let mut places = [TYPES.len() as u8; 256];
    let mut place = 0;
    while place < TYPES.len() {
        places[TYPES[place].0 as usize] = place as u8;
        place += 1;
    }
    places
}

/// Returns the place of a type in [`TYPES`], or behind it.
#[inline(always)]
fn place_of_type(qtype: u16) -> usize {
    let [beyond, low] = qtype.to_be_bytes();
    if beyond == 0 { usize::from(PLACES[usize::from(low)]) } else { TYPES.len() }
}

/// Counts of a census.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CensusTotals {
    /// Queries over IPv4 and over IPv6.
    pub versions: [u64; 2],
    /// Answers by type of the question, in the order of [`TYPES`], and all others.
    pub types: [u64; TYPES.len() + 1],
    /// Answers by response code, in the order of [`RCODES`], and all others.
    pub rcodes: [u64; RCODES.len() + 1],
}

impl Default for CensusTotals {
    fn default() -> Self {
        CensusTotals { versions: [0; 2], types: [0; TYPES.len() + 1], rcodes: [0; RCODES.len() + 1] }
    }
}

impl CensusTotals {
    /// Adds the counts of another census.
    pub fn merge(&mut self, other: &CensusTotals) {
        let add = |to: &mut [u64], from: &[u64]| to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        add(&mut self.versions, &other.versions);
        add(&mut self.types, &other.types);
        add(&mut self.rcodes, &other.rcodes);
    }

    /// Returns the types with their counts.
    pub fn by_type(&self) -> impl Iterator<Item = (&'static str, u64)> {
        TYPES.iter().map(|(_, name)| *name).chain([OTHER]).zip(self.types)
    }

    /// Returns the response codes with their counts.
    pub fn by_rcode(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RCODES.iter().copied().chain([OTHER]).zip(self.rcodes)
    }
}

/// Live counts of a census.
#[derive(Debug, Default)]
pub struct CensusStats {
    versions: [AtomicU64; 2],
    types: [AtomicU64; TYPES.len() + 1],
    rcodes: [AtomicU64; RCODES.len() + 1],
}

impl CensusStats {
    /// Counts `n` queries. For one writer only.
    #[inline(always)]
    pub fn add_queries(&self, is_v6: bool, n: u64) {
        bump(&self.versions[usize::from(is_v6)], n);
    }

    /// Counts `n` answers. For one writer only.
    #[inline(always)]
    pub fn add_answers(&self, qtype: u16, rcode: u16, n: u64) {
        bump(&self.types[place_of_type(qtype)], n);
        bump(&self.rcodes[usize::from(rcode).min(RCODES.len())], n);
    }

    /// Counts a query and its answer, beside other writers.
    pub fn share(&self, is_v6: bool, qtype: u16, rcode: u16) {
        self.versions[usize::from(is_v6)].fetch_add(1, Relaxed);
        self.types[place_of_type(qtype)].fetch_add(1, Relaxed);
        self.rcodes[usize::from(rcode).min(RCODES.len())].fetch_add(1, Relaxed);
    }

    /// Returns a copy of all counts.
    pub fn totals(&self) -> CensusTotals {
        CensusTotals {
            versions: self.versions.each_ref().map(|cell| cell.load(Relaxed)),
            types: self.types.each_ref().map(|cell| cell.load(Relaxed)),
            rcodes: self.rcodes.each_ref().map(|cell| cell.load(Relaxed)),
        }
    }
}

#[inline(always)]
fn bump(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Relaxed) + n, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_its_place_and_all_others_are_one() {
        for (place, (qtype, _)) in TYPES.iter().enumerate() {
            assert_eq!(place_of_type(*qtype), place);
        }
        for qtype in [0, 3, 10, 99, 256, 257, 0x0101, 65535] {
            assert_eq!(place_of_type(qtype), TYPES.len(), "{qtype}");
        }
    }

    #[test]
    fn sums_of_a_shared_census_are_equal() {
        let stats = CensusStats::default();
        for (qtype, rcode) in [(1, 0), (28, 3), (65, 2), (257, 23), (9999, 16)] {
            stats.share(qtype == 28, qtype, rcode);
        }
        let mut totals = stats.totals();
        totals.merge(&stats.totals());
        assert_eq!((totals.versions, totals.types.iter().sum::<u64>()), ([8, 2], 10));
        let rcodes: Vec<_> = totals.by_rcode().filter(|(_, count)| *count > 0).collect();
        assert_eq!(rcodes, [("NOERROR", 2), ("SERVFAIL", 2), ("NXDOMAIN", 2), (OTHER, 4)]);
        assert_eq!(totals.by_type().find(|(name, _)| *name == OTHER), Some((OTHER, 4)));
    }
}
