//! Denial by NSEC records (RFC 4035 section 5.4).

use super::{Delegation, delegation_of, lacks, leads_away};
use crate::{name::Name, rdata::rtype, records::Nsec};

type Records = [(Name, Nsec)];

/// Returns the record of a name.
fn of<'a>(records: &'a Records, name: &Name) -> Option<&'a Nsec> {
    records.iter().find(|(owner, _)| owner == name).map(|(_, nsec)| nsec)
}

/// Returns a record that spans a name of the zone, which proves that the name has no records of its
/// own.
fn covering<'a>(zone: &Name, records: &'a Records, name: &Name) -> Option<&'a (Name, Nsec)> {
    records.iter().find(|(owner, nsec)| {
        let is_last = nsec.next == *zone && nsec.next <= *owner;
        name.is_below(zone)
            && owner < name
            && (*name < nsec.next || is_last)
            && !(leads_away(&nsec.types) && name.is_below(owner))
    })
}

/// Returns the closest existing name above a name, if a record proves that the name does not exist.
fn denying(zone: &Name, records: &Records, name: &Name) -> Option<Name> {
    let (owner, nsec) = covering(zone, records, name)?;
    // A name below it exists, so the name exists, too.
    if nsec.next.is_below(name) {
        return None;
    }
    Some(name.suffix(name.common_labels(owner).max(name.common_labels(&nsec.next))))
}

/// Whether a name has no records, and exists only because of names below it.
fn is_empty_non_terminal(zone: &Name, records: &Records, name: &Name) -> bool {
    covering(zone, records, name).is_some_and(|(_, nsec)| nsec.next.is_below(name))
}

pub fn denies_name(zone: &Name, records: &Records, name: &Name) -> bool {
    // Compact denial: RFC 9824 section 3.
    if of(records, name).is_some_and(|nsec| nsec.types.has(rtype::NXNAME)) {
        return true;
    }
    let Some(encloser) = denying(zone, records, name) else { return false };
    encloser.wildcard().is_none_or(|wildcard| denying(zone, records, &wildcard).is_some())
}

pub fn denies_type(zone: &Name, records: &Records, name: &Name, rtype: u16) -> bool {
    if let Some(nsec) = of(records, name) {
        return lacks(&nsec.types, name, rtype);
    }
    if is_empty_non_terminal(zone, records, name) {
        return true;
    }
    let Some(wildcard) = denying(zone, records, name).and_then(|encloser| encloser.wildcard()) else {
        return false;
    };
    let of_wildcard = of(records, &wildcard);
    of_wildcard.is_some_and(|nsec| lacks(&nsec.types, &wildcard, rtype))
        || is_empty_non_terminal(zone, records, &wildcard)
}

pub fn denies_closer(zone: &Name, records: &Records, next_closer: &Name) -> bool {
    denying(zone, records, next_closer).is_some()
}

pub fn delegation(zone: &Name, records: &Records, name: &Name) -> Option<Delegation> {
    match of(records, name) {
        Some(nsec) => delegation_of(&nsec.types),
        None => covering(zone, records, name).map(|_| Delegation::None),
    }
}
