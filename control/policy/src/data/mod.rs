//! Data that the operator wrote: records, zones and hosts files, and the answers to questions about
//! their names.
//!
//! All of it is one tree of names. A name that has a record exists, and so do all names above it
//! (empty non-terminals). A wildcard stands for the names below its parent that do not exist (RFC
//! 4592). A zone has authority: its other names do not exist. Outside of zones, a name without
//! records is no business of this data.
//!
//! A record or a zone may be for some groups of clients ([`Audience`]). The tree is one for all of them: a
//! name and a set of records say which groups they exist for. So common data is in memory once, and a
//! group sees the tree that the data for it alone would make.

mod audience;
mod builder;
mod error;
pub mod hosts;
pub mod leases;
mod rdata;
pub mod safe_search;
mod svcb;
mod words;
pub mod zone;

pub use audience::{Audience, AudienceNames};
pub use builder::{DataBuilder, LocalRecord, reverse};
pub use error::DataError;

use ringdns_dataplane::dns::rtype;
use smallvec::SmallVec;
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
    /// Groups of clients that it is for. Sets of one name and type are for different groups.
    pub audience: Audience,
}

/// Name of the tree.
#[derive(Debug)]
struct Node {
    sets: Box<[RecordSet]>,
    /// Groups for which it exists.
    audience: Audience,
    /// Groups for which it is the apex of a zone.
    apex_for: Audience,
}

impl Default for Node {
    /// Returns a name that exists for nobody.
    fn default() -> Self {
        Node { sets: Box::default(), audience: Audience::NONE, apex_for: Audience::NONE }
    }
}

impl Node {
    /// Returns the records for a group.
    fn sets_for(&self, member: Audience) -> Sets<'_> {
        self.sets.iter().filter(|set| set.audience.meets(member)).collect()
    }
}

/// Records of a name for a group.
type Sets<'a> = SmallVec<[&'a RecordSet; 2]>;

/// Local data, by name. The hash key is drawn anew in each process, since clients choose names.
#[derive(Debug, Default)]
pub struct LocalData {
    /// All names that exist, in wire format and lowercased.
    nodes: HashMap<Box<[u8]>, Node>,
    has_zones: bool,
    records: usize,
    groups: AudienceNames,
}

/// Groups of clients, and the answer that all of them get; `None`: the name is resolved for them as if
/// there were no local data.
pub type AudienceAnswer<'a> = (Audience, Option<DataAnswer<'a>>);

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

/// Local name that a question is about, or the wildcard that stands for it, as a group sees it.
struct Place<'a> {
    sets: Sets<'a>,
    /// Whether the name exists, or a wildcard stands for it.
    exists: bool,
    /// Zone that the name is in, and its start of authority.
    zone: Option<(&'a [u8], Option<&'a RecordSet>)>,
}

/// Way of a question through aliases, which all groups of `audience` take.
struct Way<'a> {
    audience: Audience,
    name: Vec<u8>,
    sets: Vec<(Vec<u8>, &'a RecordSet)>,
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

    /// Returns the groups of clients that data tells apart.
    pub fn groups(&self) -> &AudienceNames {
        &self.groups
    }

    /// Returns the answer to a question about `name`, in wire format and lowercased, for clients of
    /// groups that no data names; `None`: the name is resolved as if there were no local data.
    pub fn answer(&self, name: &[u8], qtype: u16) -> Option<DataAnswer<'_>> {
        self.answer_for(Audience::OTHERS, name, qtype)
    }

    /// Returns the answer for clients of one group.
    pub fn answer_for(&self, member: Audience, name: &[u8], qtype: u16) -> Option<DataAnswer<'_>> {
        self.answers_within(member.first(), name, qtype).pop().and_then(|(_, answer)| answer)
    }

    /// Returns the answers for all groups. Each group is in one of the sets.
    ///
    /// Groups are in one set only if they see the same records, of whatever types, at all names on the
    /// way. So what is found for them at another type of the name is the same too.
    pub fn answers(&self, name: &[u8], qtype: u16) -> SmallVec<[AudienceAnswer<'_>; 2]> {
        self.answers_within(self.groups.all(), name, qtype)
    }

    fn answers_within(
        &self,
        audience: Audience,
        name: &[u8],
        qtype: u16,
    ) -> SmallVec<[AudienceAnswer<'_>; 2]> {
        let mut answers = SmallVec::new();
        let mut ways = vec![Way { audience, name: name.to_vec(), sets: Vec::new() }];
        while let Some(way) = ways.pop() {
            for (audience, place) in self.find(way.audience, &way.name, qtype) {
                let way = Way { audience, name: way.name.clone(), sets: way.sets.clone() };
                match way.go_on(place, qtype) {
                    Ok(way) => ways.push(way),
                    Err(answer) => answers.push((audience, answer)),
                }
            }
        }
        answers
    }

    /// Returns the places of a name in the tree, as groups of `audience` see it; `None`: it is not local
    /// for them.
    fn find(
        &self,
        audience: Audience,
        name: &[u8],
        qtype: u16,
    ) -> SmallVec<[(Audience, Option<Place<'_>>); 2]> {
        let mut places: SmallVec<[(Audience, Option<Place<'_>>); 2]> = SmallVec::new();
        let mut left = audience;
        while !left.is_empty() {
            let mut sight = Sight { member: left.first(), same: left };
            let place = self.find_for(&mut sight, name, qtype);
            left = left.without(sight.same);
            let is_same = |known: &Option<Place<'_>>| match (known, &place) {
                (Some(known), Some(place)) => known.is_same(place),
                (known, place) => known.is_none() && place.is_none(),
            };
            match places.iter_mut().find(|(_, known)| is_same(known)) {
                Some((groups, _)) => *groups = groups.or(sight.same),
                None => places.push((sight.same, place)),
            }
        }
        places
    }

    /// Returns the place of a name in the tree as one group sees it; `None`: it is not local for it.
    fn find_for(&self, sight: &mut Sight, name: &[u8], qtype: u16) -> Option<Place<'_>> {
        // The closest encloser: the longest name at or above it that exists.
        let named = |name| self.nodes.get_key_value(name).map(|(name, node)| (&**name, node));
        let mut above = Vec::new();
        for (owner, node) in ancestors(name).filter_map(named) {
            if sight.sees(node.audience) {
                above.push((owner, node));
            }
        }
        let (encloser, node) = *above.first()?;
        let zone = if self.has_zones { zone_of(&above, sight, name, qtype)? } else { None };
        let (sets, exists) = if encloser.len() == name.len() {
            (sight.sets(node), true)
        } else {
            let wildcard = self.nodes.get(&*[ASTERISK, encloser].concat());
            let wildcard = wildcard.filter(|node| sight.sees(node.audience));
            (wildcard.map(|node| sight.sets(node)).unwrap_or_default(), wildcard.is_some())
        };
        (zone.is_some() || !sets.is_empty()).then_some(Place { sets, exists, zone })
    }
}

/// View of the tree by one group, and the groups that have seen the same so far.
struct Sight {
    member: Audience,
    same: Audience,
}

impl Sight {
    /// Whether the group is in an audience.
    fn sees(&mut self, audience: Audience) -> bool {
        let sees = audience.meets(self.member);
        self.same = if sees { self.same.and(audience) } else { self.same.without(audience) };
        sees
    }

    /// Returns the records of a name for the group.
    fn sets<'a>(&mut self, node: &'a Node) -> Sets<'a> {
        node.sets.iter().for_each(|set| _ = self.sees(set.audience));
        node.sets_for(self.member)
    }
}

/// Returns the zone of a name if it is in one, given the names at and above it that exist, the closest
/// first. `None`: the zone delegates the name to other servers.
fn zone_of<'a>(
    above: &[(&'a [u8], &'a Node)],
    sight: &mut Sight,
    name: &[u8],
    qtype: u16,
) -> Option<Option<(&'a [u8], Option<&'a RecordSet>)>> {
    let mut is_cut = false;
    for (owner, node) in above {
        let asks_parent = qtype == rtype::DS && owner.len() == name.len();
        if sight.sees(node.apex_for) {
            let start = sight.sets(node).into_iter().find(|set| set.rtype == rtype::SOA);
            // Its DS record is its parent's (RFC 4035 section 3.1.4.1).
            return (!is_cut && !asks_parent).then_some(Some((*owner, start)));
        }
        is_cut |= !asks_parent && sight.sets(node).iter().any(|set| set.rtype == rtype::NS);
    }
    Some(None)
}

impl<'a> Way<'a> {
    /// Goes on at the place of its name. Returns the answer if it ends there.
    fn go_on(mut self, place: Option<Place<'a>>, qtype: u16) -> Result<Self, Option<DataAnswer<'a>>> {
        let Some(place) = place else {
            let end = End::LeadsTo(self.name);
            return Err((!self.sets.is_empty()).then_some(DataAnswer { sets: self.sets, end }));
        };
        let wanted = |set: &&&RecordSet| set.rtype == qtype || qtype == rtype::ANY;
        let mut found = place.sets.iter().filter(wanted).peekable();
        if found.peek().is_some() {
            self.sets.extend(found.map(|set| (self.name.clone(), *set)));
            return Err(Some(DataAnswer { sets: self.sets, end: End::Complete }));
        }
        let alias = place.sets.iter().find(|set| set.rtype == rtype::CNAME);
        let Some((alias, target)) = alias.and_then(|set| Some((*set, set.data.first()?))) else {
            return Err(Some(DataAnswer { sets: self.sets, end: place.negative(self.name) }));
        };
        self.sets.push((std::mem::replace(&mut self.name, target.to_vec()), alias));
        if self.sets.len() > ALIASES_MAX {
            return Err(Some(DataAnswer { sets: self.sets, end: End::Endless }));
        }
        Ok(self)
    }
}

impl<'a> Place<'a> {
    /// Whether another group that sees `other` sees the same.
    fn is_same(&self, other: &Place<'_>) -> bool {
        let is_same = |one: &&RecordSet, other: &&RecordSet| std::ptr::eq(*one, *other);
        let start = |place: &Place<'_>| {
            place.zone.map(|(owner, start)| (owner.as_ptr(), start.map(std::ptr::from_ref)))
        };
        self.exists == other.exists
            && start(self) == start(other)
            && self.sets.len() == other.sets.len()
            && self.sets.iter().zip(&other.sets).all(|(one, other)| is_same(one, other))
    }

    /// Returns the end of an answer about `name` that has no records.
    fn negative(&self, name: Vec<u8>) -> End<'a> {
        let of_zone = self.zone.and_then(|(owner, start)| {
            let set = start?;
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
