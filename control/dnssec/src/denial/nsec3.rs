//! Denial by NSEC3 records (RFC 5155 section 8).

use super::{Delegation, Strength, delegation_of, lacks, leads_away};
use crate::{
    budget::{Budget, Spent},
    crypto::nsec3_hash,
    name::Name,
    records::{HASH, Nsec3},
};
use data_encoding::BASE32_DNSSEC;
use std::cell::RefCell;

const OPT_OUT: u8 = 1;

type Hash = [u8; HASH];

/// Records with the same parameters. Only such records may be combined in a proof (RFC 5155 section
/// 8.2).
pub struct Chain {
    salt: Box<[u8]>,
    iterations: u16,
    records: Vec<(Hash, Nsec3)>,
    hashed: RefCell<Vec<(Name, Hash)>>,
}

/// Closest encloser proof (RFC 5155 section 8.3).
struct Closest<'a> {
    encloser: Name,
    /// Record that covers the next closer name.
    covering: &'a Nsec3,
}

impl Closest<'_> {
    fn strength(&self) -> Strength {
        strength(self.covering)
    }
}

fn strength(covering: &Nsec3) -> Strength {
    if covering.flags & OPT_OUT == 0 { Strength::Secure } else { Strength::Insecure(None) }
}

/// Returns the hash that is the owner of an NSEC3 record; `None` if that is not directly below the
/// zone.
pub fn hash_of_owner(zone: &Name, owner: &Name) -> Option<Hash> {
    let hash = owner.labels().next().and_then(|label| BASE32_DNSSEC.decode(label).ok())?;
    Hash::try_from(hash).ok().filter(|_| owner.parent().as_ref() == Some(zone))
}

impl Chain {
    pub fn new(parameters: &Nsec3) -> Self {
        let Nsec3 { salt, iterations, .. } = parameters;
        Chain { salt: salt.clone(), iterations: *iterations, records: Vec::new(), hashed: RefCell::default() }
    }

    /// Whether a record has the same parameters.
    pub fn is_of(&self, nsec3: &Nsec3) -> bool {
        (&self.salt, self.iterations) == (&nsec3.salt, nsec3.iterations)
    }

    /// Adds a record, unless it has unknown flags (RFC 5155 section 8.2), or its owner is not a
    /// hash directly below the zone.
    pub fn add(&mut self, zone: &Name, owner: &Name, nsec3: Nsec3) {
        if let Some(hash) = hash_of_owner(zone, owner)
            && nsec3.flags & !OPT_OUT == 0
        {
            self.records.push((hash, nsec3));
        }
    }

    /// Takes over hashes of names, for these parameters.
    pub fn know_hashes(&mut self, hashes: &[(Name, Hash)]) {
        self.hashed.get_mut().extend_from_slice(hashes);
    }

    fn hash(&self, name: &Name, budget: &mut Budget) -> Result<Hash, Spent> {
        let mut hashed = self.hashed.borrow_mut();
        if let Some((_, hash)) = hashed.iter().find(|(of, _)| of == name) {
            return Ok(*hash);
        }
        budget.hash()?;
        let hash = nsec3_hash(name.as_wire(), &self.salt, self.iterations);
        hashed.push((name.clone(), hash));
        Ok(hash)
    }

    /// Returns the record that matches a name's hash.
    fn of(&self, name: &Name, budget: &mut Budget) -> Result<Option<&Nsec3>, Spent> {
        let hash = self.hash(name, budget)?;
        Ok(self.records.iter().find(|(owner, _)| *owner == hash).map(|(_, nsec3)| nsec3))
    }

    /// Returns a record that proves that a name has no hash in the zone.
    fn covering(&self, name: &Name, budget: &mut Budget) -> Result<Option<&Nsec3>, Spent> {
        let hash = self.hash(name, budget)?;
        let covers = |(owner, nsec3): &&(Hash, Nsec3)| match owner.cmp(&nsec3.next) {
            std::cmp::Ordering::Less => *owner < hash && hash < nsec3.next,
            // The last record of the zone, or the only one.
            _ => *owner < hash || hash < nsec3.next,
        };
        Ok(self.records.iter().find(covers).map(|(_, nsec3)| nsec3))
    }

    /// Returns the closest encloser proof of a name that has no record itself (RFC 5155 section
    /// 8.3).
    fn closest(&self, zone: &Name, name: &Name, budget: &mut Budget) -> Result<Option<Closest<'_>>, Spent> {
        for labels in (zone.label_count()..name.label_count()).rev() {
            let encloser = name.suffix(labels);
            let Some(nsec3) = self.of(&encloser, budget)? else { continue };
            if leads_away(&nsec3.types) {
                return Ok(None);
            }
            let covering = self.covering(&name.suffix(labels + 1), budget)?;
            return Ok(covering.map(|covering| Closest { encloser, covering }));
        }
        Ok(None)
    }

    /// Proves that a name does not exist (RFC 5155 section 8.4).
    pub fn denies_name(
        &self,
        zone: &Name,
        name: &Name,
        budget: &mut Budget,
    ) -> Result<Option<Strength>, Spent> {
        if self.of(name, budget)?.is_some() {
            return Ok(None);
        }
        let Some(closest) = self.closest(zone, name, budget)? else { return Ok(None) };
        if let Some(wildcard) = closest.encloser.wildcard()
            && self.covering(&wildcard, budget)?.is_none()
        {
            return Ok(None);
        }
        Ok(Some(closest.strength()))
    }

    /// Proves that a name has no records of a type (RFC 5155 sections 8.5 to 8.7).
    pub fn denies_type(
        &self,
        zone: &Name,
        name: &Name,
        rtype: u16,
        budget: &mut Budget,
    ) -> Result<Option<Strength>, Spent> {
        if let Some(nsec3) = self.of(name, budget)? {
            return Ok(lacks(&nsec3.types, name, rtype).then_some(Strength::Secure));
        }
        let Some(closest) = self.closest(zone, name, budget)? else { return Ok(None) };
        if let Some(wildcard) = closest.encloser.wildcard()
            && let Some(nsec3) = self.of(&wildcard, budget)?
        {
            return Ok(lacks(&nsec3.types, &wildcard, rtype).then(|| closest.strength()));
        }
        // There may be an unsigned delegation, or a name above one (section 8.6, erratum 3441).
        let strength = closest.strength();
        Ok((strength != Strength::Secure).then_some(strength))
    }

    /// Proves that the next closer name does not exist (RFC 5155 section 8.8).
    pub fn denies_closer(&self, next_closer: &Name, budget: &mut Budget) -> Result<Option<Strength>, Spent> {
        Ok(self.covering(next_closer, budget)?.map(strength))
    }

    /// Returns the zone's statement about a delegation (RFC 5155 section 8.9).
    pub fn delegation(
        &self,
        zone: &Name,
        name: &Name,
        budget: &mut Budget,
    ) -> Result<Option<Delegation>, Spent> {
        if let Some(nsec3) = self.of(name, budget)? {
            return Ok(delegation_of(&nsec3.types));
        }
        let closest = self.closest(zone, name, budget)?;
        Ok(closest.map(|closest| match closest.strength() {
            Strength::Secure => Delegation::None,
            Strength::Insecure(why) => Delegation::Unsigned(why),
        }))
    }
}
