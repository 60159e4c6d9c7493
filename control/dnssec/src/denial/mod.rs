//! Proofs that something does not exist (RFC 4035 section 5.4, RFC 5155 section 8), from records
//! whose signatures were verified.

mod nsec;
mod nsec3;
#[cfg(test)]
mod tests;

use crate::{
    budget::{Budget, Spent},
    ede,
    message::{Response, RrSet, Section},
    name::Name,
    rdata::rtype,
    records::{HASH, Nsec, Nsec3, Types},
};
use nsec3::Chain;
pub use nsec3::hash_of_owner;

/// Most iterations of NSEC3. With more, a zone counts as unsigned wherever a proof needs NSEC3 (RFC
/// 9276 section 3.2; BIND and Knot Resolver have the same limit).
pub const ITERATIONS_MAX: u16 = 50;
/// Most sets of NSEC3 parameters considered: a zone has two while it changes them.
const CHAINS_MAX: usize = 2;

/// Strength of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// Proven by signed records.
    Secure,
    /// Proven by opt-out records, which leave out unsigned delegations, so that the name may be one
    /// (RFC 5155 section 9.2); or by records that are not considered, for the reason in an extended
    /// error.
    Insecure(Option<u16>),
}

/// Statement of the parent zone about a name for which it has no DS records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delegation {
    /// The name is, or may be, delegated to an unsigned zone. The reason is an extended error.
    Unsigned(Option<u16>),
    /// The name is not delegated: it belongs to the parent zone, or does not exist.
    None,
}

/// Denials that a zone has signed.
pub struct Denials {
    zone: Name,
    nsec: Vec<(Name, Nsec)>,
    nsec3: Vec<Chain>,
    /// Whether some NSEC3 records have too many iterations.
    iterates_too_often: bool,
    /// Lowest TTL of all records.
    ttl: u32,
}

impl Denials {
    /// Returns an empty collection for a zone.
    pub fn new(zone: Name) -> Self {
        Denials { zone, nsec: Vec::new(), nsec3: Vec::new(), iterates_too_often: false, ttl: u32::MAX }
    }

    /// Adds a set that the zone has signed under this name, not under a wildcard. Ignores sets of
    /// other types.
    pub fn add(&mut self, response: &Response, set: &RrSet, ttl: u32) {
        self.ttl = self.ttl.min(ttl);
        for rdata in response.rdata_of(set) {
            match set.rtype {
                rtype::NSEC => {
                    if let Some(nsec) = Nsec::parse(rdata) {
                        self.add_nsec(&set.owner, nsec);
                    }
                }
                rtype::NSEC3 => {
                    if let Some(nsec3) = Nsec3::parse(rdata) {
                        self.add_nsec3(&set.owner, nsec3);
                    }
                }
                _ => {}
            }
        }
    }

    /// Adds an NSEC record, unless it leads out of the zone.
    pub fn add_nsec(&mut self, owner: &Name, nsec: Nsec) {
        if nsec.next.is_at_or_below(&self.zone) {
            self.nsec.push((owner.clone(), nsec));
        }
    }

    /// Adds an NSEC3 record.
    pub fn add_nsec3(&mut self, owner: &Name, nsec3: Nsec3) {
        if nsec3.iterations > ITERATIONS_MAX {
            self.iterates_too_often = true;
        } else if let Some(chain) = self.nsec3.iter_mut().find(|chain| chain.is_of(&nsec3)) {
            chain.add(&self.zone, owner, nsec3);
        } else if self.nsec3.len() < CHAINS_MAX {
            let mut chain = Chain::new(&nsec3);
            chain.add(&self.zone, owner, nsec3);
            self.nsec3.push(chain);
        }
    }

    /// Takes over hashes of names, for the parameters that all NSEC3 records here have.
    pub fn know_hashes(&mut self, hashes: &[(Name, [u8; HASH])]) {
        self.nsec3.iter_mut().for_each(|chain| chain.know_hashes(hashes));
    }

    /// Returns the lowest TTL of all records.
    pub fn ttl(&self) -> u32 {
        self.ttl
    }

    /// Proves that a name does not exist, and that no wildcard matches it.
    pub fn name(&self, name: &Name, budget: &mut Budget) -> Result<Option<Strength>, Spent> {
        self.prove(
            || nsec::denies_name(&self.zone, &self.nsec, name),
            |chain| chain.denies_name(&self.zone, name, budget),
        )
    }

    /// Proves that a name, or the wildcard that matches it, has no records of a type.
    pub fn records(&self, name: &Name, rtype: u16, budget: &mut Budget) -> Result<Option<Strength>, Spent> {
        self.prove(
            || nsec::denies_type(&self.zone, &self.nsec, name, rtype),
            |chain| chain.denies_type(&self.zone, name, rtype, budget),
        )
    }

    /// Proves that no name exists between the name that was asked for and the wildcard that matches
    /// it.
    pub fn closer(&self, next_closer: &Name, budget: &mut Budget) -> Result<Option<Strength>, Spent> {
        self.prove(
            || nsec::denies_closer(&self.zone, &self.nsec, next_closer),
            |chain| chain.denies_closer(next_closer, budget),
        )
    }

    /// Returns the zone's statement about a name below it that has no DS records; `None` if nothing
    /// is proven.
    pub fn delegation(&self, name: &Name, budget: &mut Budget) -> Result<Option<Delegation>, Spent> {
        if let Some(said) = nsec::delegation(&self.zone, &self.nsec, name) {
            return Ok(Some(said));
        }
        for chain in &self.nsec3 {
            if let Some(said) = chain.delegation(&self.zone, name, budget)? {
                return Ok(Some(said));
            }
        }
        Ok(self.iterates_too_often.then_some(Delegation::Unsigned(Some(ede::UNSUPPORTED_ITERATIONS))))
    }

    fn prove(
        &self,
        by_nsec: impl FnOnce() -> bool,
        mut by_nsec3: impl FnMut(&Chain) -> Result<Option<Strength>, Spent>,
    ) -> Result<Option<Strength>, Spent> {
        if by_nsec() {
            return Ok(Some(Strength::Secure));
        }
        for chain in &self.nsec3 {
            if let Some(strength) = by_nsec3(chain)? {
                return Ok(Some(strength));
            }
        }
        let insecure = Strength::Insecure(Some(ede::UNSUPPORTED_ITERATIONS));
        Ok(self.iterates_too_often.then_some(insecure))
    }
}

/// Whether the denials in a response deny a name, as far as they were verified; also if there are none,
/// as in unsigned zones. The zone is that of the SOA record.
pub fn denies_name(response: &Response, name: &Name) -> bool {
    let sets = || response.sets().iter().filter(|set| set.section == Section::Authority);
    let is_denial = |set: &&RrSet| matches!(set.rtype, rtype::NSEC | rtype::NSEC3);
    if sets().find(is_denial).is_none() {
        return true;
    }
    let Some(soa) = sets().find(|set| set.rtype == rtype::SOA) else { return false };
    let mut denials = Denials::new(soa.owner.clone());
    sets().filter(is_denial).for_each(|set| denials.add(response, set, u32::MAX));
    name.is_below(&soa.owner) && matches!(denials.name(name, &mut Budget::of_proof()), Ok(Some(_)))
}

/// Whether a name with these types ends its zone: names below it belong elsewhere (RFC 6840 section
/// 4.1).
fn leads_away(types: &Types) -> bool {
    types.has(rtype::DNAME) || is_delegation(types)
}

/// Whether these are the types of a delegation in the parent zone.
fn is_delegation(types: &Types) -> bool {
    types.has(rtype::NS) && !types.has(rtype::SOA)
}

/// Whether a name with these types has neither `rtype` nor an alias. The types must come from the
/// authoritative side of a zone cut.
fn lacks(types: &Types, name: &Name, rtype: u16) -> bool {
    let knows = match rtype {
        // DS records belong to the parent, and the root has none (RFC 4035 section 5.2).
        rtype::DS => !types.has(rtype::SOA) || name.is_root(),
        _ => !is_delegation(types),
    };
    knows && !types.has(rtype) && !types.has(rtype::CNAME)
}

/// Returns the parent zone's statement about a name with these types; `None` if there are DS
/// records, or if the types are not the parent's.
fn delegation_of(types: &Types) -> Option<Delegation> {
    if types.has(rtype::DS) || types.has(rtype::SOA) {
        return None;
    }
    Some(if types.has(rtype::NS) { Delegation::Unsigned(None) } else { Delegation::None })
}
