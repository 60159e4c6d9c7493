//! Validated denials of one zone, and the answers that follow from them.

use super::{Asking, order::sort_key};
use crate::{
    budget::Budget,
    crypto::nsec3_hash,
    denial::{Denials, ITERATIONS_MAX, Strength, hash_of_owner},
    ede,
    name::Name,
    proven::{ProvenAnswer, ProvenRecord, SignedSet, is_of_wildcards},
    rdata::rtype,
    records::{HASH, Nsec, Nsec3},
};
use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
};

const NOERROR: u8 = 0;
const NXDOMAIN: u8 = 3;

/// Most SHA-1 digests for one question: some 50 us of processor time. A question that would take more
/// is left to the upstreams.
const DIGESTS_MAX: usize = 256;
/// Most denials passed over in search of one to evict because they were used since the last search.
const SPARED_MAX: usize = 16;
/// Bytes that a denial takes beside names and RDATA: the structs, its place in the tree, and the
/// allocator's headers.
const OVERHEAD: usize = size_of::<Kept>() + 2 * size_of::<ProvenRecord>() + 160;

type SortKey = Box<[u8]>;

/// Content of a record.
enum Fact {
    /// Field MINIMUM: most seconds for which a denial counts.
    Soa(u32),
    /// Owner and data.
    Nsec(Name, Nsec),
    /// Owner and data.
    Nsec3(Name, Nsec3),
    /// Records of a wildcard, as they were expanded for some name.
    Wildcard,
}

/// Denial that was validated, with its signatures.
struct Kept {
    fact: Fact,
    records: Vec<ProvenRecord>,
    /// Times in seconds.
    learned: u32,
    expires: u32,
    generation: u64,
    /// Whether an answer was made from it since the last search for one to evict.
    used: bool,
}

impl Kept {
    fn holds(&self, asking: &Asking<'_>) -> bool {
        asking.now < self.expires && !(asking.is_void)(self.generation)
    }

    /// Returns the bytes that it takes. Its data is there twice: as sent, and parsed.
    fn bytes(&self) -> usize {
        let record = |record: &ProvenRecord| 2 * (record.owner.len() + record.rdata.len());
        OVERHEAD + self.records.iter().map(record).sum::<usize>()
    }
}

/// Denials by owner, for NSEC, or by hash, for NSEC3; or records of wildcards by owner and type.
#[derive(Default)]
struct Chain {
    kept: BTreeMap<SortKey, Kept>,
    /// Key of the denial at which the last search for one to evict ended.
    hand: SortKey,
}

impl Chain {
    /// Returns the last denial at or before a key.
    fn floor(&self, key: &[u8]) -> Option<(&SortKey, &Kept)> {
        self.kept.range::<[u8], _>((Unbounded, Included(key))).next_back()
    }

    /// Adds the denials of a proof to an answer at `now`, and marks them as used. Returns the TTL that they
    /// leave it. A denial counts for no longer than the SOA's `minimum` says, whatever its own TTL (RFC 9077
    /// section 3).
    fn give(&mut self, proof: &Proof, minimum: u32, now: u32, to: &mut Vec<ProvenRecord>) -> Option<u32> {
        let mut ttl = u32::MAX;
        for key in &proof.keys {
            let kept = self.kept.get_mut(key)?;
            kept.used = true;
            ttl = ttl.min(kept.expires.min(kept.learned.saturating_add(minimum)).checked_sub(now)?);
            to.extend_from_slice(&kept.records);
        }
        Some(ttl)
    }

    /// Removes a denial, one that was not used lately if there is one nearby. Returns the bytes that
    /// became free.
    fn evict(&mut self) -> usize {
        for passed in 0..=SPARED_MAX {
            let after = self.kept.range::<[u8], _>((Excluded(&*self.hand), Unbounded)).next();
            let Some(key) = after.or(self.kept.first_key_value()).map(|(key, _)| key.clone()) else { break };
            self.hand = key;
            let Some(kept) = self.kept.get_mut(&self.hand) else { break };
            if !kept.used || passed == SPARED_MAX {
                return self.kept.remove(&self.hand).map_or(0, |kept| kept.bytes());
            }
            kept.used = false;
        }
        0
    }
}

/// Validated denials of one zone.
#[derive(Default)]
pub struct ZoneRanges {
    soa: Option<Kept>,
    nsec: Chain,
    nsec3: Chain,
    wildcards: Chain,
    /// Salt and iterations of all that is in `nsec3`.
    parameters: Option<(Box<[u8]>, u16)>,
    /// Bytes in use.
    pub bytes: usize,
    /// Whether an answer was made from the zone since the last search for one to evict.
    pub used: bool,
}

impl ZoneRanges {
    /// Adds a set, if it can be used for other questions.
    pub fn learn(&mut self, set: SignedSet, generation: u64, now: u32) {
        let mut data = set.records.iter().filter(|record| record.rtype == set.rtype);
        let found = match (data.next(), data.next()) {
            (Some(_), _) if is_of_wildcards(set.rtype) => wildcard(&set),
            // There is one record of each type of denial.
            (Some(record), None) => self.fact(&set, &record.rdata),
            _ => None,
        };
        let Some((key, fact)) = found else { return };
        let expires = now.saturating_add(set.ttl);
        let kept = Kept { fact, records: set.records, learned: now, expires, generation, used: false };
        self.bytes += kept.bytes();
        let old = match set.rtype {
            rtype::SOA => self.soa.replace(kept),
            rtype::NSEC => self.nsec.kept.insert(key, kept),
            rtype::NSEC3 => self.nsec3.kept.insert(key, kept),
            _ => self.wildcards.kept.insert(key, kept),
        };
        self.bytes -= old.map_or(0, |old| old.bytes());
    }

    /// Returns what a set says, and its place in its chain; `None` if it is not to be used.
    fn fact(&mut self, set: &SignedSet, rdata: &[u8]) -> Option<(SortKey, Fact)> {
        let owner = set.owner.clone();
        match set.rtype {
            rtype::SOA => {
                let minimum = rdata.last_chunk().map(|bytes| u32::from_be_bytes(*bytes))?;
                Some((SortKey::default(), Fact::Soa(minimum)))
            }
            rtype::NSEC => {
                let nsec = Nsec::parse(rdata)?;
                // A record made for one question denies no other name (RFC 9824, RFC 4470).
                let is_of_use = nsec.next.is_at_or_below(&set.zone)
                    && owner.is_at_or_below(&set.zone)
                    && owner.prepend(b"\0").as_ref() != Some(&nsec.next);
                is_of_use.then(|| (sort_key(&owner), Fact::Nsec(owner, nsec)))
            }
            rtype::NSEC3 => {
                let nsec3 = Nsec3::parse(rdata)?;
                // A span with opt-out may have unsigned delegations (RFC 8198 section 5.2).
                let is_of_use = nsec3.flags == 0 && nsec3.iterations <= ITERATIONS_MAX;
                let hash = hash_of_owner(&set.zone, &owner).filter(|_| is_of_use)?;
                let parameters = (nsec3.salt.clone(), nsec3.iterations);
                if self.parameters.as_ref() != Some(&parameters) {
                    // Records of two chains prove nothing together.
                    self.bytes -= self.nsec3.kept.values().map(Kept::bytes).sum::<usize>();
                    self.nsec3.kept.clear();
                    self.parameters = Some(parameters);
                }
                Some((hash.into(), Fact::Nsec3(owner, nsec3)))
            }
            _ => None,
        }
    }

    /// Evicts denials until at most `most` bytes are in use.
    pub fn shrink(&mut self, most: usize) {
        while self.bytes > most {
            let chains = [&mut self.nsec, &mut self.nsec3, &mut self.wildcards];
            let largest = chains.into_iter().max_by_key(|chain| chain.kept.len());
            match largest.map_or(0, Chain::evict) {
                0 => break,
                bytes => self.bytes -= bytes,
            }
        }
    }

    /// Returns the denial of what is asked for, if it follows from those of this zone.
    pub fn deny(&mut self, zone: &Name, asking: &Asking<'_>) -> Option<ProvenAnswer> {
        let soa = self.soa.as_ref().filter(|soa| soa.holds(asking))?;
        let Fact::Soa(minimum) = soa.fact else { return None };
        let (proof, is_hashed) = match self.by_nsec(zone, asking) {
            Some(proof) => (proof, false),
            None => (self.by_nsec3(zone, asking)?, true),
        };
        let chain = if is_hashed { &mut self.nsec3 } else { &mut self.nsec };
        let mut authorities = soa.records.clone();
        let left = minimum.min(soa.expires - asking.now);
        let ttl = chain.give(&proof, minimum, asking.now, &mut authorities)?.min(left);
        if ttl == 0 {
            return None;
        }
        authorities.iter_mut().for_each(|record| record.ttl = ttl);
        self.used = true;
        let (rcode, secure, ede) = (proof.rcode, true, Some(ede::SYNTHESIZED));
        Some(ProvenAnswer { rcode, secure, ede, authorities, ..ProvenAnswer::default() })
    }

    /// Returns the records that a wildcard of this zone has for a name, with the proof that no closer
    /// name exists.
    pub fn expand(&mut self, zone: &Name, asking: &Asking<'_>) -> Option<ProvenAnswer> {
        if self.wildcards.kept.is_empty() {
            return None;
        }
        let name = asking.name;
        let (key, labels) = (zone.label_count()..name.label_count()).rev().find_map(|labels| {
            let key = wildcard_key(&name.suffix(labels).wildcard()?, asking.qtype);
            self.wildcards.kept.get(&key).is_some_and(|kept| kept.holds(asking)).then_some((key, labels))
        })?;
        // The name above the wildcard exists, so no other wildcard matches.
        let (proof, is_hashed) = self.closer(zone, asking, &name.suffix(labels + 1))?;
        let soa = self.soa.as_ref().filter(|soa| soa.holds(asking));
        // As for a denial, if the SOA is known (RFC 8198 section 5.4).
        let minimum = match soa.map(|soa| &soa.fact) {
            Some(Fact::Soa(minimum)) => *minimum,
            _ => u32::MAX,
        };
        let kept = self.wildcards.kept.get_mut(&key)?;
        kept.used = true;
        let (left, mut answers) = (kept.expires - asking.now, kept.records.clone());
        let chain = if is_hashed { &mut self.nsec3 } else { &mut self.nsec };
        let mut authorities = Vec::new();
        let ttl = chain.give(&proof, minimum, asking.now, &mut authorities)?.min(left);
        if ttl == 0 {
            return None;
        }
        answers.iter_mut().for_each(|record| record.owner = name.as_wire().to_vec());
        answers.iter_mut().chain(&mut authorities).for_each(|record| record.ttl = ttl);
        self.used = true;
        let (rcode, secure, ede) = (proof.rcode, true, Some(ede::SYNTHESIZED));
        Some(ProvenAnswer { rcode, secure, ede, answers, authorities, ..ProvenAnswer::default() })
    }

    /// Returns the proof that the next closer name does not exist, and whether it is of hashes.
    fn closer(&self, zone: &Name, asking: &Asking<'_>, next_closer: &Name) -> Option<(Proof, bool)> {
        let mut search = Search::new(&self.nsec, false, zone, asking);
        if search.add(&sort_key(next_closer)).is_some()
            && let Some(proof) = search.no_closer(next_closer)
        {
            return Some((proof, false));
        }
        let (salt, iterations) = self.parameters.as_ref().filter(|_| !self.nsec3.kept.is_empty())?;
        let mut search = Search::new(&self.nsec3, true, zone, asking);
        let hash = nsec3_hash(next_closer.as_wire(), salt, *iterations);
        search.hashes.push((next_closer.clone(), hash));
        search.add(&hash)?;
        Some((search.no_closer(next_closer)?, true))
    }

    fn by_nsec(&self, zone: &Name, asking: &Asking<'_>) -> Option<Proof> {
        let name = asking.name;
        let mut search = Search::new(&self.nsec, false, zone, asking);
        let (owner, next) = match &search.add(&sort_key(name))?.fact {
            Fact::Nsec(owner, nsec) => (owner, &nsec.next),
            Fact::Soa(_) | Fact::Nsec3(..) | Fact::Wildcard => return None,
        };
        if let Some(proof) = search.no_data() {
            return Some(proof);
        }
        if owner == name {
            return None;
        }
        let encloser = name.suffix(name.common_labels(owner).max(name.common_labels(next)));
        if let Some(wildcard) = encloser.wildcard() {
            search.add(&sort_key(&wildcard))?;
        }
        search.no_name().or_else(|| search.no_data())
    }

    fn by_nsec3(&self, zone: &Name, asking: &Asking<'_>) -> Option<Proof> {
        let (salt, iterations) = self.parameters.as_ref().filter(|_| !self.nsec3.kept.is_empty())?;
        let name = asking.name;
        let most = DIGESTS_MAX / (usize::from(*iterations) + 1);
        // The names on the way down from the zone, and a wildcard.
        if name.label_count() - zone.label_count() + 2 > most {
            return None;
        }
        let mut search = Search::new(&self.nsec3, true, zone, asking);
        let hash = |search: &mut Search<'_>, name: &Name| {
            let hash = nsec3_hash(name.as_wire(), salt, *iterations);
            search.hashes.push((name.clone(), hash));
            hash
        };
        let mut below = hash(&mut search, name);
        if search.matches(&below) {
            search.add(&below)?;
            return search.no_data();
        }
        for labels in (zone.label_count()..name.label_count()).rev() {
            let encloser = name.suffix(labels);
            let at = hash(&mut search, &encloser);
            if search.matches(&at) {
                search.add(&at)?;
                search.add(&below)?;
                if let Some(wildcard) = encloser.wildcard() {
                    let wildcard = hash(&mut search, &wildcard);
                    search.add(&wildcard)?;
                }
                return search.no_name().or_else(|| search.no_data());
            }
            below = at;
        }
        None
    }
}

/// Proof found in a chain.
struct Proof {
    rcode: u8,
    keys: Vec<SortKey>,
}

/// Search for the denials that prove something. They are judged as those in a response are.
struct Search<'a> {
    chain: &'a Chain,
    zone: &'a Name,
    asking: &'a Asking<'a>,
    /// Whether the chain is one of hashes, so that its last record covers those before the first.
    is_hashed: bool,
    found: Vec<(SortKey, &'a Kept)>,
    hashes: Vec<(Name, [u8; HASH])>,
}

impl<'a> Search<'a> {
    fn new(chain: &'a Chain, is_hashed: bool, zone: &'a Name, asking: &'a Asking<'a>) -> Self {
        Search { chain, zone, asking, is_hashed, found: Vec::new(), hashes: Vec::new() }
    }

    /// Whether there is a denial whose owner has this hash.
    fn matches(&self, hash: &[u8]) -> bool {
        self.chain.kept.contains_key(hash)
    }

    /// Adds the denial at or before a key, if there is one that holds.
    fn add(&mut self, key: &[u8]) -> Option<&'a Kept> {
        let last = || self.chain.kept.last_key_value().filter(|_| self.is_hashed);
        let (key, kept) = self.chain.floor(key).or_else(last).filter(|(_, kept)| kept.holds(self.asking))?;
        if !self.found.iter().any(|(known, _)| known == key) {
            self.found.push((key.clone(), kept));
        }
        Some(kept)
    }

    fn denials(&self) -> Denials {
        let mut denials = Denials::new(self.zone.clone());
        for (_, kept) in &self.found {
            match &kept.fact {
                Fact::Nsec(owner, nsec) => denials.add_nsec(owner, nsec.clone()),
                Fact::Nsec3(owner, nsec3) => denials.add_nsec3(owner, nsec3.clone()),
                Fact::Soa(_) | Fact::Wildcard => {}
            }
        }
        denials.know_hashes(&self.hashes);
        denials
    }

    /// Returns the proof that the name does not exist.
    fn no_name(&self) -> Option<Proof> {
        let strength = self.denials().name(self.asking.name, &mut Budget::default());
        self.proof(NXDOMAIN, strength.ok()?)
    }

    /// Returns the proof that the name has no records of the type.
    fn no_data(&self) -> Option<Proof> {
        let Asking { name, qtype, .. } = *self.asking;
        let strength = self.denials().records(name, qtype, &mut Budget::default());
        self.proof(NOERROR, strength.ok()?)
    }

    /// Returns the proof that the next closer name does not exist.
    fn no_closer(&self, next_closer: &Name) -> Option<Proof> {
        let strength = self.denials().closer(next_closer, &mut Budget::default());
        self.proof(NOERROR, strength.ok()?)
    }

    fn proof(&self, rcode: u8, strength: Option<Strength>) -> Option<Proof> {
        let keys = || self.found.iter().map(|(key, _)| key.clone()).collect();
        (strength == Some(Strength::Secure)).then(|| Proof { rcode, keys: keys() })
    }
}

fn wildcard(set: &SignedSet) -> Option<(SortKey, Fact)> {
    set.owner.is_wildcard().then(|| (wildcard_key(&set.owner, set.rtype), Fact::Wildcard))
}

fn wildcard_key(owner: &Name, rtype: u16) -> SortKey {
    [&sort_key(owner)[..], &rtype.to_be_bytes()].concat().into()
}
