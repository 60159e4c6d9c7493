//! Records that were validated.

use crate::{
    message::{Response, RrSet},
    name::Name,
    rdata::rtype,
    walk::ttl_of,
};

/// A record of an answer. Names are uncompressed and in their original letter case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenRecord {
    /// Owner on the wire.
    pub owner: Vec<u8>,
    /// Type.
    pub rtype: u16,
    /// TTL, at most the time until the signatures expire (RFC 4035 section 5.3.3).
    pub ttl: u32,
    /// RDATA.
    pub rdata: Vec<u8>,
}

/// Sections that a client may be answered with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProvenAnswer {
    /// Response code that was proven.
    pub rcode: u8,
    /// Whether all of it is signed, rather than proven to be unsigned.
    pub secure: bool,
    /// Reason, as an extended error, for treating a signed answer as unsigned.
    pub ede: Option<u16>,
    /// Answer section: aliases in the order in which they are followed, then the records that were
    /// asked for.
    pub answers: Vec<ProvenRecord>,
    /// Authority section: the proof that something does not exist.
    pub authorities: Vec<ProvenRecord>,
    /// Denials, and records that were expanded from wildcards, in
    /// [responses for ranges](crate::Response::for_ranges) that a zone has signed.
    pub denials: Vec<SignedSet>,
}

/// RRset that denies something, or tells for how long it may be denied: NSEC, NSEC3 or SOA, which the
/// zone has signed under its own name; or one that was expanded from a wildcard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedSet {
    /// Zone that has signed the set.
    pub zone: Name,
    /// Owner; if the records were expanded from a wildcard, the wildcard.
    pub owner: Name,
    /// Type.
    pub rtype: u16,
    /// Lowest TTL of the records, at most the time until the signature expires.
    pub ttl: u32,
    /// Records, and their signatures by the zone.
    pub records: Vec<ProvenRecord>,
}

impl SignedSet {
    /// Returns a set that `zone` has signed under its own name; `None` if it has nothing to do with
    /// denials. `most`: highest TTL.
    pub(crate) fn of(response: &Response, set: &RrSet, zone: &Name, most: u32) -> Option<Self> {
        let is_of_use = match set.rtype {
            rtype::SOA => set.owner == *zone,
            rtype::NSEC | rtype::NSEC3 => true,
            _ => false,
        };
        is_of_use.then(|| Self::with_owner(set.owner.clone(), response, set, zone, most))
    }

    /// Returns a set that was expanded from the wildcard beside `next_closer`, which `zone` has signed.
    pub(crate) fn of_wildcard(
        response: &Response,
        set: &RrSet,
        zone: &Name,
        most: u32,
        next_closer: &Name,
    ) -> Option<Self> {
        let wildcard = next_closer.parent()?.wildcard()?;
        is_of_wildcards(set.rtype).then(|| Self::with_owner(wildcard, response, set, zone, most))
    }

    fn with_owner(owner: Name, response: &Response, set: &RrSet, zone: &Name, most: u32) -> Self {
        let ttl = ttl_of(response, set).min(most);
        let mut records = Vec::new();
        push(&mut records, response, set, ttl);
        SignedSet { zone: zone.clone(), owner, rtype: set.rtype, ttl, records }
    }
}

/// Whether records of a type are kept and expanded if a wildcard has them. Aliases lead to other names;
/// delegations and denials are nothing that a wildcard makes (RFC 4592 section 4).
pub fn is_of_wildcards(rtype: u16) -> bool {
    !matches!(
        rtype,
        rtype::NS
            | rtype::CNAME
            | rtype::SOA
            | rtype::DNAME
            | rtype::DS
            | rtype::RRSIG
            | rtype::NSEC
            | rtype::NSEC3
    )
}

/// Appends a set and its signatures, with TTLs of at most `most` seconds.
pub fn push(to: &mut Vec<ProvenRecord>, response: &Response, set: &RrSet, most: u32) {
    for number in set.records.iter().chain(&set.signatures) {
        let record = record(response, *number, most);
        // One response may prove several names.
        if !to.contains(&record) {
            to.push(record);
        }
    }
}

pub fn record(response: &Response, number: usize, most: u32) -> ProvenRecord {
    let record = response.record(number);
    ProvenRecord {
        owner: response.owner(number).to_vec(),
        rtype: record.rtype,
        ttl: record.ttl.min(most),
        rdata: response.rdata(number).to_vec(),
    }
}
