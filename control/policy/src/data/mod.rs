//! Data that the operator wrote: records, zones and hosts files, and the answers to questions about
//! their names.
//!
//! All of it is one tree of names. A name that has a record exists, and so do all names above it
//! (empty non-terminals). A wildcard stands for the names below its parent that do not exist (RFC
//! 4592). A zone has authority: its other names do not exist. Outside of zones, a name without
//! records is no business of this data.

mod builder;
mod error;
pub mod hosts;
pub mod leases;
mod rdata;
pub mod safe_search;
mod svcb;
mod words;
pub mod zone;

pub use builder::{DataBuilder, LocalRecord, reverse};
pub use error::DataError;

use ringdns_dataplane::dns::rtype;
use std::{borrow::Cow, collections::HashMap};

/// Most aliases of local data that are followed for a question.
const ALIASES_MAX: usize = 16;
/// Label of a wildcard on the wire.
const ASTERISK: &[u8] = b"\x01*";

/// Records of a name and a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSet {
    /// Type.
    pub rtype: u16,
    /// TTL in seconds: the least of the records.
    pub ttl: u32,
    /// Data of each record on the wire.
    pub data: Vec<Box<[u8]>>,
}

/// Name of the tree.
#[derive(Debug, Default)]
struct Node {
    sets: Box<[RecordSet]>,
    /// Whether it is the apex of a zone.
    is_apex: bool,
}

/// Local data, by name. The hash key is drawn anew in each process, since clients choose names.
#[derive(Debug, Default)]
pub struct LocalData {
    /// All names that exist, in wire format and lowercased.
    nodes: HashMap<Box<[u8]>, Node>,
    has_zones: bool,
    records: usize,
}

/// Answer to a question about a local name.
#[derive(Debug, PartialEq, Eq)]
pub struct DataAnswer<'a> {
    /// Owners and records: aliases in the order in which they are followed, then the records that
    /// were asked for.
    pub sets: Vec<(Vec<u8>, &'a RecordSet)>,
    /// End of the answer.
    pub end: End<'a>,
}

/// End of an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum End<'a> {
    /// The answer is complete.
    Complete,
    /// The last name has no records of the type.
    NoData(Authority<'a>),
    /// The last name does not exist.
    NxDomain(Authority<'a>),
    /// The last alias leads to a name that is not local.
    LeadsTo(Vec<u8>),
    /// The aliases form a loop, or are too many.
    Endless,
}

/// Start of authority that comes with a negative answer (RFC 2308).
#[derive(Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Name of the zone.
    pub owner: Vec<u8>,
    /// TTL in seconds.
    pub ttl: u32,
    /// Data of the SOA record.
    pub soa: Cow<'a, [u8]>,
}

/// Local name that a question is about, or the wildcard that stands for it.
struct Place<'a> {
    sets: &'a [RecordSet],
    /// Whether the name exists, or a wildcard stands for it.
    exists: bool,
    /// Zone that the name is in.
    zone: Option<(&'a [u8], &'a Node)>,
}

impl LocalData {
    /// Whether there is no local name.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns the number of records.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Returns the answer to a question about `name`, in wire format and lowercased; `None`: the
    /// name is resolved as if there were no local data.
    pub fn answer(&self, name: &[u8], qtype: u16) -> Option<DataAnswer<'_>> {
        let mut answer = DataAnswer { sets: Vec::new(), end: End::Endless };
        let mut name = name.to_vec();
        for _ in 0..=ALIASES_MAX {
            let Some(place) = self.find(&name, qtype) else {
                if answer.sets.is_empty() {
                    return None;
                }
                answer.end = End::LeadsTo(name);
                return Some(answer);
            };
            let wanted = |set: &&RecordSet| set.rtype == qtype || qtype == rtype::ANY;
            let mut found = place.sets.iter().filter(wanted).peekable();
            if found.peek().is_some() {
                answer.sets.extend(found.map(|set| (name.clone(), set)));
                answer.end = End::Complete;
                return Some(answer);
            }
            let alias = place.sets.iter().find(|set| set.rtype == rtype::CNAME);
            let Some((alias, target)) = alias.and_then(|set| Some((set, set.data.first()?))) else {
                answer.end = place.negative(name);
                return Some(answer);
            };
            answer.sets.push((std::mem::replace(&mut name, target.to_vec()), alias));
        }
        Some(answer)
    }

    /// Returns the place of a name in the tree; `None`: it is not local.
    fn find(&self, name: &[u8], qtype: u16) -> Option<Place<'_>> {
        // The closest encloser: the longest name at or above it that exists.
        let named = |name| self.nodes.get_key_value(name).map(|(name, node)| (&**name, node));
        let mut above = ancestors(name).filter_map(named);
        let (encloser, node) = above.next()?;
        let zone = if self.has_zones { zone_of((encloser, node), above, name, qtype)? } else { None };
        let (sets, exists) = if encloser.len() == name.len() {
            (&*node.sets, true)
        } else {
            let wildcard = self.nodes.get(&*[ASTERISK, encloser].concat());
            (wildcard.map(|node| &*node.sets).unwrap_or_default(), wildcard.is_some())
        };
        (zone.is_some() || !sets.is_empty()).then_some(Place { sets, exists, zone })
    }
}

/// Returns the zone of a name whose closest encloser is `encloser`, if it is in one. `None`: the zone
/// delegates the name to other servers.
fn zone_of<'a>(
    encloser: (&'a [u8], &'a Node),
    above: impl Iterator<Item = (&'a [u8], &'a Node)>,
    name: &[u8],
    qtype: u16,
) -> Option<Option<(&'a [u8], &'a Node)>> {
    let mut is_cut = false;
    for (owner, node) in std::iter::once(encloser).chain(above) {
        let asks_parent = qtype == rtype::DS && owner.len() == name.len();
        if node.is_apex {
            // Its DS record is its parent's (RFC 4035 section 3.1.4.1).
            return (!is_cut && !asks_parent).then_some(Some((owner, node)));
        }
        is_cut |= !asks_parent && node.sets.iter().any(|set| set.rtype == rtype::NS);
    }
    Some(None)
}

impl<'a> Place<'a> {
    /// Returns the end of an answer about `name` that has no records.
    fn negative(&self, name: Vec<u8>) -> End<'a> {
        let of_zone = self.zone.and_then(|(owner, node)| {
            let set = node.sets.iter().find(|set| set.rtype == rtype::SOA)?;
            let data = set.data.first()?;
            let minimum = data.last_chunk().map_or(set.ttl, |minimum| u32::from_be_bytes(*minimum));
            Some(Authority { owner: owner.to_vec(), ttl: set.ttl.min(minimum), soa: Cow::Borrowed(data) })
        });
        let made = || {
            let ttl = self.sets.iter().map(|set| set.ttl).min().unwrap_or_default();
            Authority { soa: Cow::Owned(soa(&name, ttl)), ttl, owner: name }
        };
        let authority = of_zone.unwrap_or_else(made);
        if self.exists { End::NoData(authority) } else { End::NxDomain(authority) }
    }
}

/// Returns a name and the names above it, up to the root.
fn ancestors(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(name), |name| {
        let (length, _) = name.split_first().filter(|(length, _)| **length > 0)?;
        name.get(1 + usize::from(*length)..)
    })
}

/// Returns the data of an SOA record for names that have none.
fn soa(zone: &[u8], minimum: u32) -> Vec<u8> {
    let mut data = [zone, b"\x06nobody\x07invalid\0"].concat();
    for number in [1, 3_600, 1_200, 604_800, minimum] {
        data.extend(u32::to_be_bytes(number));
    }
    data
}
