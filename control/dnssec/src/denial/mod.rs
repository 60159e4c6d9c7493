//! Proofs that something does not exist (RFC 4035 section 5.4, RFC 5155 section 8), out of records whose
//! signatures were verified.

mod nsec;
mod nsec3;
#[cfg(test)]
mod tests;

use crate::{
    budget::{Budget, Spent},
    ede,
    message::{Response, RrSet},
    name::Name,
    rdata::rtype,
    records::{Nsec, Nsec3, Types},
};
use nsec3::Chain;

/// More iterations of NSEC3 make a zone count as unsigned where NSEC3 is needed (RFC 9276 section 3.2; BIND
/// and Knot Resolver have the same limit).
const ITERATIONS_MAX: u16 = 50;
/// Sets of NSEC3 parameters that are looked at: a zone has two while it changes them.
const CHAINS_MAX: usize = 2;

/// How well something is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// By signed records.
    Secure,
    /// By records that leave out unsigned delegations, of which this might be one (RFC 5155 section 9.2), or
    /// that are not looked at, for the reason in an extended error.
    Insecure(Option<u16>),
}

/// Statement of the parent zone about a name for which it has no DS records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delegation {
    /// It is delegated, or may be, to a zone that is not signed. The reason is an extended error.
    Unsigned(Option<u16>),
    /// It is not delegated: it belongs to the parent zone, or does not exist.
    None,
}

/// Denials that a zone has signed.
pub struct Denials {
    zone: Name,
    nsec: Vec<(Name, Nsec)>,
    nsec3: Vec<Chain>,
    /// Whether there are records that would have to be hashed too often.
    iterates_too_often: bool,
    /// The least TTL of all records.
    ttl: u32,
}

impl Denials {
    /// Returns the denials of a zone, none yet.
    pub fn new(zone: Name) -> Self {
        Denials { zone, nsec: Vec::new(), nsec3: Vec::new(), iterates_too_often: false, ttl: u32::MAX }
    }

    /// Adds a set that the zone has signed, under this name rather than under a wildcard. Sets of other types
    /// say nothing here.
    pub fn add(&mut self, response: &Response, set: &RrSet, ttl: u32) {
        self.ttl = self.ttl.min(ttl);
        for rdata in response.rdata_of(set) {
            match set.rtype {
                rtype::NSEC => {
                    let nsec = Nsec::parse(rdata).filter(|nsec| nsec.next.is_at_or_below(&self.zone));
                    self.nsec.extend(nsec.map(|nsec| (set.owner.clone(), nsec)));
                }
                rtype::NSEC3 => self.add_nsec3(&set.owner, rdata),
                _ => {}
            }
        }
    }

    fn add_nsec3(&mut self, owner: &Name, rdata: &[u8]) {
        let Some(nsec3) = Nsec3::parse(rdata) else { return };
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

    /// The least TTL of all records.
    pub fn ttl(&self) -> u32 {
        self.ttl
    }

    /// Whether the name does not exist, nor a wildcard that would stand for it.
    pub fn name(&self, name: &Name, budget: &mut Budget) -> Result<Option<Strength>, Spent> {
        self.prove(
            || nsec::denies_name(&self.zone, &self.nsec, name),
            |chain| chain.denies_name(&self.zone, name, budget),
        )
    }

    /// Whether the name, or the wildcard that stands for it, has no records of a type.
    pub fn records(&self, name: &Name, rtype: u16, budget: &mut Budget) -> Result<Option<Strength>, Spent> {
        self.prove(
            || nsec::denies_type(&self.zone, &self.nsec, name, rtype),
            |chain| chain.denies_type(&self.zone, name, rtype, budget),
        )
    }

    /// Whether a name does not exist that is closer to the one that was asked for than a wildcard.
    pub fn closer(&self, next_closer: &Name, budget: &mut Budget) -> Result<Option<Strength>, Spent> {
        self.prove(
            || nsec::denies_closer(&self.zone, &self.nsec, next_closer),
            |chain| chain.denies_closer(next_closer, budget),
        )
    }

    /// Returns what the zone says of a name below it that has no DS records; `None`: nothing that could be proven.
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

/// Whether a name with these types is a zone's end: what is below belongs to others (RFC 6840 section 4.1).
fn leads_away(types: &Types) -> bool {
    types.has(rtype::DNAME) || is_delegation(types)
}

/// Whether these are the types that a parent zone knows of a name that it delegates.
fn is_delegation(types: &Types) -> bool {
    types.has(rtype::NS) && !types.has(rtype::SOA)
}

/// Whether a name with these types has none of `rtype`, nor an alias, said by the zone that knows.
fn lacks(types: &Types, name: &Name, rtype: u16) -> bool {
    let knows = match rtype {
        // The parent knows, and the root has none (RFC 4035 section 5.2).
        rtype::DS => !types.has(rtype::SOA) || name.is_root(),
        _ => !is_delegation(types),
    };
    knows && !types.has(rtype) && !types.has(rtype::CNAME)
}

/// Returns what the parent zone says of a name with these types; `None`: it says that there are DS records, or is not
/// the parent.
fn delegation_of(types: &Types) -> Option<Delegation> {
    if types.has(rtype::DS) || types.has(rtype::SOA) {
        return None;
    }
    Some(if types.has(rtype::NS) { Delegation::Unsigned(None) } else { Delegation::None })
}
