//! Removes records from a response that were not asked for.
//!
//! An answer is kept under its question alone, so the other records of a response affect no other
//! name here. But they would be passed on to clients, which may be less careful (RFC 5452 section
//! 6, RFC 2181 section 5.4.1). So only records that belong to the answer are kept: those of the
//! name in the question and of the names that it is an alias of, the proofs that come with them,
//! and the addresses of names that these mention.

use super::{Message, Record};
use ringdns_dataplane::dns::{rcode, rtype};
use ringdns_dnssec::{NAME_MAX, Name};
use std::collections::{HashMap, HashSet};

/// Most aliases that are followed; no sound answer has as many (Unbound follows 11).
const ALIASES_MAX: usize = 32;

/// Error: the aliases of an answer form a loop, or are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endless;

/// Result of scrubbing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Whether records were removed, added or reordered, or TTLs made equal.
    pub changed: bool,
    /// Target of the aliases, if the response says nothing about that name.
    pub leads_to: Option<Name>,
}

/// Removes from a response the records that do not belong to it, and signatures and proofs for
/// clients that did not ask for them by DO or by their type (RFC 4035 section 3.2.1). Puts aliases
/// into the order in which they are followed, and adds those that a DNAME makes.
pub fn scrub(message: &mut Message, dnssec_ok: bool) -> Result<Scrubbed, Endless> {
    let (qtype, class) = (message.qtype, message.class);
    let before = counts(message);
    for section in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
        section.retain(|record| {
            let wanted = dnssec_ok || !is_proof(record.rtype) || record.rtype == qtype || qtype == rtype::ANY;
            wanted && record.class == class
        });
    }
    let chain = AliasChain::of(message)?;
    message.answers.retain(|record| answers(record, qtype) && chain.place(record).is_some());
    message.authorities.retain(|record| match record.rtype {
        rtype::SOA | rtype::NS | rtype::DS => {
            chain.names.iter().any(|name| name.is_at_or_below(&record.owner))
        }
        // Proofs carry their own signatures, and their owners are next to the name that they are
        // about.
        rtype => is_proof(rtype),
    });
    let mentioned: HashSet<Name> =
        message.answers.iter().chain(&message.authorities).filter_map(mentions).collect();
    message.additionals.retain(|record| {
        matches!(record.rtype, rtype::A | rtype::AAAA | rtype::RRSIG) && mentioned.contains(&record.owner)
    });
    let mut changed = before != counts(message) || !chain.made.is_empty();
    message.answers.extend(chain.made.iter().cloned());
    if !message.answers.is_sorted_by_key(|record| chain.place(record)) {
        // The resolver of glibc finds no address before its alias.
        message.answers.sort_by_cached_key(|record| chain.place(record));
        changed = true;
    }
    for section in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
        changed |= level(section);
    }
    let last = chain.last();
    let told = message.answers.iter().any(|record| record.owner == *last && record.rtype == qtype)
        || message
            .authorities
            .iter()
            .any(|record| record.rtype == rtype::SOA && last.is_at_or_below(&record.owner));
    let leads_to = (chain.names.len() > 1 && !told).then(|| last.clone());
    Ok(Scrubbed { changed, leads_to })
}

fn counts(message: &Message) -> [usize; 3] {
    [message.answers.len(), message.authorities.len(), message.additionals.len()]
}

/// Gives the records of each set one TTL, the least (RFC 2181 section 5.2), wherever they stand and
/// however they are spelled. Returns whether any had another.
fn level(section: &mut [Record]) -> bool {
    let Some(first) = section.first() else { return false };
    if section.iter().all(|record| record.ttl == first.ttl) {
        return false;
    }
    let mut least = HashMap::new();
    // Signatures of one name cover different sets.
    for record in section.iter().filter(|record| record.rtype != rtype::RRSIG) {
        let ttl = least.entry((record.owner.clone(), record.rtype)).or_insert(u32::MAX);
        *ttl = record.sane_ttl().min(*ttl);
    }
    let mut levelled = false;
    for record in section {
        let Some(ttl) = least.get(&(record.owner.clone(), record.rtype)) else { continue };
        levelled |= record.ttl != *ttl;
        record.ttl = *ttl;
    }
    levelled
}

/// Names that an answer is about.
struct AliasChain {
    /// Name in the question, and the targets of its aliases in the order in which they are followed.
    names: Vec<Name>,
    /// Owners of DNAME records, with the place in `names` of the alias that each makes.
    makers: HashMap<Name, usize>,
    /// Aliases that a DNAME makes and that did not come with it.
    made: Vec<Record>,
}

impl AliasChain {
    fn of(message: &Message) -> Result<Self, Endless> {
        let (answers, qtype) = (&message.answers, message.qtype);
        let mut chain =
            AliasChain { names: vec![message.name.clone()], makers: HashMap::new(), made: Vec::new() };
        for place in 0..=ALIASES_MAX {
            let last = chain.last().clone();
            let alias = answers
                .iter()
                .rfind(|record| record.rtype == rtype::CNAME && record.owner == last)
                .and_then(|record| record.name_at(0));
            // The CNAME that a DNAME makes comes with it (RFC 6672 section 3.1).
            let is_maker = |record: &&Record| record.rtype == rtype::DNAME && last.is_below(&record.owner);
            let makers = answers.iter().filter(is_maker);
            for maker in makers.clone() {
                chain.makers.entry(maker.owner.clone()).or_insert(place);
            }
            let closest = makers.max_by_key(|maker| maker.owner.as_wire().len());
            let may_be_made = alias.is_none() && qtype != rtype::ANY && message.rcode() != rcode::YXDOMAIN;
            let made = closest.filter(|_| may_be_made);
            let made = made.and_then(|dname| made_by(dname, &last));
            let target = alias.or_else(|| made.as_ref().and_then(|made| made.name_at(0)));
            chain.made.extend(made);
            match target.filter(|_| !matches!(qtype, rtype::CNAME | rtype::ANY)) {
                None => return Ok(chain),
                Some(target) if chain.names.contains(&target) => return Err(Endless),
                Some(target) => chain.names.push(target),
            }
        }
        Err(Endless)
    }

    fn last(&self) -> &Name {
        &self.names[self.names.len() - 1]
    }

    /// Returns the place of a record in the answer section; `None`: it is about another name.
    fn place(&self, record: &Record) -> Option<(usize, bool)> {
        let is_dname = record.rtype == rtype::DNAME
            || record.rtype == rtype::RRSIG && record.rdata.starts_with(&rtype::DNAME.to_be_bytes());
        let by_name = || self.names.iter().position(|name| *name == record.owner);
        match self.makers.get(&record.owner).filter(|_| is_dname) {
            Some(place) => Some((*place, false)),
            None => by_name().map(|place| (place, true)),
        }
    }
}

/// Returns the alias that a DNAME makes of a name below its owner (RFC 6672 section 2.2); `None` if
/// the target would be too long.
fn made_by(dname: &Record, name: &Name) -> Option<Record> {
    let head = name.as_wire().len() - dname.owner.as_wire().len();
    let target = [&name.as_wire()[..head], &dname.rdata].concat();
    (target.len() <= NAME_MAX).then(|| Record {
        owner: name.clone(),
        spelled: name.as_wire().into(),
        rtype: rtype::CNAME,
        class: dname.class,
        ttl: dname.ttl,
        rdata: target.into(),
    })
}

/// Whether records of this type prove other records, or that there are none.
fn is_proof(rtype: u16) -> bool {
    matches!(rtype, rtype::RRSIG | rtype::NSEC | rtype::NSEC3)
}

/// Whether a record answers a question of the type `qtype`.
fn answers(record: &Record, qtype: u16) -> bool {
    record.rtype == qtype
        || qtype == rtype::ANY
        || matches!(record.rtype, rtype::CNAME | rtype::DNAME | rtype::RRSIG)
}

/// Returns the name whose address a record makes useful.
fn mentions(record: &Record) -> Option<Name> {
    match record.rtype {
        rtype::NS => record.name_at(0),
        rtype::MX => record.name_at(2),
        rtype::SRV => record.name_at(6),
        // The root stands for the owner (RFC 9460 section 2.5).
        rtype::SVCB | rtype::HTTPS => {
            record.name_at(2).map(|name| if name.is_root() { record.owner.clone() } else { name })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
