//! Amendments of an upstream's answers, each of one irregularity.

use crate::{
    case::Case,
    server::{Message, NXDOMAIN},
    wire::{TREE, honest},
    zone::{Rr, Zone, rtype},
};
use ringdns_dnssec::{Name, wire_len};

pub fn drop_signatures(message: &mut Message) {
    message.answers.retain(|rr| rr.rtype != rtype::RRSIG);
    message.authorities.retain(|rr| rr.rtype != rtype::RRSIG);
}

/// Signs the alias that a DNAME record makes, which may be missing.
pub fn sign_made_alias(_: &Case, name: &Name, _: u16, message: &mut Message) {
    let answers = &mut message.answers;
    let dname = answers.iter().find(|rr| rr.rtype == rtype::DNAME && name.is_below(&rr.owner));
    let is_alias = |rr: &Rr| rr.owner == *name && covered(rr).unwrap_or(rr.rtype) == rtype::CNAME;
    let Some(dname) = dname.cloned() else { return };
    answers.retain(|rr| !is_alias(rr));
    let Some(target) = target(name, answers) else { return };
    let rdata = target.as_wire().to_vec();
    let alias = Rr { owner: name.clone(), rtype: rtype::CNAME, rdata, ..dname };
    let signature = signed(TREE.zone_for(name, rtype::CNAME), &alias);
    answers.extend([alias, signature]);
}

/// Returns the zone that a signature names as its signer.
fn signer(signature: &Rr) -> Option<&'static Zone> {
    TREE.zones().iter().find(|zone| signature.rdata[18..].starts_with(zone.origin.as_wire()))
}

/// Returns a record's signature by a zone, under its own name.
fn signed(zone: &Zone, rr: &Rr) -> Rr {
    signed_under(zone, rr, rr.owner.label_count())
}

/// Returns a record's signature by a zone, under a wildcard if it has fewer labels than its name.
fn signed_under(zone: &Zone, rr: &Rr, labels: usize) -> Rr {
    let wildcard = (labels < rr.owner.label_count()).then(|| rr.owner.suffix(labels).prepend(b"*"));
    let owner = wildcard.flatten().unwrap_or_else(|| rr.owner.clone());
    let rdata = zone.sign(&owner, rr.rtype, std::slice::from_ref(&rr.rdata), labels as u8);
    Rr { rtype: rtype::RRSIG, rdata, ..rr.clone() }
}

/// Signs the records of a type under their own name that are signed under a wildcard. Returns whether
/// there are any.
fn sign_under_names(section: &mut [Rr], rtype: u16) -> bool {
    let sets: Vec<_> = section.iter().filter(|rr| rr.rtype == rtype).cloned().collect();
    let is_short =
        |rr: &&mut Rr| covered(rr) == Some(rtype) && usize::from(rr.rdata[3]) < rr.owner.label_count();
    let mut is_changed = false;
    for signature in section.iter_mut().filter(is_short) {
        let set = sets.iter().find(|rr| rr.owner == signature.owner);
        if let (Some(zone), Some(rr)) = (signer(signature), set) {
            *signature = signed(zone, rr);
            is_changed = true;
        }
    }
    is_changed
}

/// Signs denials under their own name that are signed under a wildcard.
pub fn sign_denials_of_names(_: &Case, _: &Name, _: u16, message: &mut Message) {
    sign_under_names(&mut message.authorities, rtype::NSEC);
}

/// Signs aliases under their own name that a wildcard has made, and removes the proofs that these
/// need.
pub fn sign_aliases_of_names(_: &Case, _: &Name, _: u16, message: &mut Message) {
    if sign_under_names(&mut message.answers, rtype::CNAME) {
        message.authorities.retain(|rr| !is_denial(rr));
    }
}

/// Whether a record is a denial, or the signature of one.
pub fn is_denial(rr: &Rr) -> bool {
    matches!(covered(rr).unwrap_or(rr.rtype), rtype::NSEC | rtype::NSEC3)
}

/// Removes denials of wildcards above the closest encloser of a name, or of the one that aliases lead
/// to.
pub fn drop_denials_above_encloser(_: &Case, name: &Name, rtype: u16, message: &mut Message) {
    let end = last(name, &message.answers);
    let zone = TREE.zone_for(&end, rtype);
    if zone.exists(&end) {
        return;
    }
    let wildcard_at = |labels| end.suffix(labels).prepend(b"*").map(|name| zone.covering(&name));
    let encloser = zone.encloser(&end).label_count();
    let needed = [zone.covering(&end), wildcard_at(encloser).unwrap_or_default()].concat();
    let above = (zone.origin.label_count()..encloser).filter_map(wildcard_at);
    let needless: Vec<_> = above.flatten().filter(|rr| !needed.contains(rr)).collect();
    message.authorities.retain(|rr| !needless.contains(rr));
}

/// Has denials of the forger's zone whose next name is outside of it lead to its apex.
pub fn lead_denials_back(_: &Case, _: &Name, _: u16, message: &mut Message) {
    let zone = TREE.zone("evil");
    let is_of_zone =
        |rr: &Rr| covered(rr) == Some(rtype::NSEC) && rr.rdata[18..].starts_with(zone.origin.as_wire());
    for at in 0..message.authorities.len() {
        let rr = &message.authorities[at];
        let next = wire_len(&rr.rdata).filter(|_| rr.rtype == rtype::NSEC);
        let Some((name, types)) = next.map(|len| rr.rdata.split_at(len)) else { continue };
        if Name::from_wire(name).is_some_and(|name| name.is_at_or_below(&zone.origin)) {
            continue;
        }
        let denial = Rr { rdata: [zone.origin.as_wire(), types].concat(), ..rr.clone() };
        for rr in message.authorities.iter_mut().filter(|rr| rr.owner == denial.owner && is_of_zone(rr)) {
            *rr = signed_under(zone, &denial, rr.rdata[3].into());
        }
        message.authorities[at] = denial;
    }
}

/// Adds the denial of all names below the one that a wildcard of the forger's zone is below.
pub fn add_encloser(_: &Case, _: &Name, _: u16, message: &mut Message) {
    let zone = TREE.zone("evil");
    let is_made = |rr: &&Rr| {
        covered(rr).is_some()
            && usize::from(rr.rdata[3]) < rr.owner.label_count()
            && rr.rdata[18..].starts_with(zone.origin.as_wire())
    };
    let enclosers = message.answers.iter().filter(is_made).map(|rr| rr.owner.suffix(rr.rdata[3].into()));
    let denials = enclosers.map(|owner| {
        let rdata = [zone.origin.as_wire(), &[0, 1, 0x40]].concat();
        Rr { owner, rtype: rtype::NSEC, ttl: 300, rdata }
    });
    let added: Vec<_> = denials.flat_map(|rr| [rr.clone(), signed(zone, &rr)]).collect();
    if !added.is_empty() {
        message.authorities = added;
    }
}

/// Whether opt-out may have left out a name.
fn is_left_out(name: &Name, rtype: u16) -> bool {
    let zone = TREE.zone_for(name, rtype);
    zone.uses_opt_out() && !zone.exists(name)
}

/// Returns the name at the end of all aliases.
fn last(name: &Name, answers: &[Rr]) -> Name {
    (0..ALIASES).fold(name.clone(), |at, _| target(&at, answers).unwrap_or(at))
}

/// Gives NXDOMAIN to answers about names that do not exist, and that opt-out may have left out.
pub fn tell_of_no_name(case: &Case, name: &Name, rtype: u16, message: &mut Message) {
    if is_answer(case, name, rtype) && is_left_out(&last(name, &message.answers), rtype) {
        message.rcode = NXDOMAIN;
    }
}

/// Amends what is said of a name that opt-out may have left out: removes the signatures of records
/// that do not exist, and answers for DS as if it were an unsigned delegation.
pub fn tell_of_delegation(case: &Case, name: &Name, rtype: u16, message: &mut Message) {
    if is_proof(case, name, rtype) {
        if rtype == rtype::DS && is_left_out(name, rtype) {
            let zone = TREE.zone_for(name, rtype);
            let soa = zone.set(&zone.origin, &zone.origin, rtype::SOA);
            *message = Message { authorities: [soa, zone.denial_of(name)].concat(), ..Message::default() };
        }
        return;
    }
    if is_left_out(&last(name, &message.answers), rtype) {
        message.answers.retain(|rr| covered(rr).is_none_or(|rtype| !is_left_out(&rr.owner, rtype)));
        message.authorities.retain(|rr| rr.rtype != rtype::RRSIG);
    }
}

/// Number of aliases that are followed.
const ALIASES: usize = 11;

/// Replaces what a response says of the targets of aliases by the responses to questions for them.
pub fn ask_each_target(case: &Case, name: &Name, rtype: u16, message: &mut Message) {
    if rtype != case.qtype || matches!(rtype, rtype::CNAME | rtype::DNSKEY) {
        return;
    }
    let (mut at, mut said) = (name.clone(), std::mem::take(message));
    for _ in 0..ALIASES {
        message.rcode = said.rcode;
        let Some(target) = target(&at, &said.answers).filter(|target| *target != at) else { break };
        said.answers.retain(|rr| {
            let rtype = covered(rr).unwrap_or(rr.rtype);
            rr.owner == at && rtype == rtype::CNAME || at.is_below(&rr.owner) && rtype == rtype::DNAME
        });
        drop_orphans(case, &at, rtype, &mut said);
        message.answers.append(&mut said.answers);
        message.authorities.append(&mut said.authorities);
        said = case.said(&target, rtype);
        at = target;
    }
    message.answers.append(&mut said.answers);
    message.authorities.append(&mut said.authorities);
}

/// Whether a question is asked for the proof of an answer.
pub fn is_proof(case: &Case, name: &Name, rtype: u16) -> bool {
    (name, rtype) != (&case.name, case.qtype) && matches!(rtype, rtype::DS | rtype::DNSKEY)
}

/// Whether a question is asked for an answer, or for a part of it behind an alias.
pub fn is_answer(case: &Case, name: &Name, rtype: u16) -> bool {
    rtype == case.qtype && (*name == case.name || rtype != rtype::DS || !is_zone(name))
}

pub fn is_zone(name: &Name) -> bool {
    TREE.zones().iter().any(|zone| zone.origin == *name)
}

pub fn covered(rr: &Rr) -> Option<u16> {
    (rr.rtype == rtype::RRSIG).then(|| u16::from_be_bytes([rr.rdata[0], rr.rdata[1]]))
}

/// Returns the target of a name by its alias, or by the DNAME record above it.
pub fn target(at: &Name, answers: &[Rr]) -> Option<Name> {
    if let Some(alias) = answers.iter().find(|rr| rr.owner == *at && rr.rtype == rtype::CNAME) {
        return Name::from_wire(&alias.rdata);
    }
    let dname = answers.iter().find(|rr| at.is_below(&rr.owner) && rr.rtype == rtype::DNAME)?;
    let labels: Vec<_> = at.labels().take(at.label_count() - dname.owner.label_count()).collect();
    labels.iter().rev().try_fold(Name::from_wire(&dname.rdata)?, |to, label| to.prepend(label))
}

/// Moves signatures to the section of their set.
pub fn unite_signatures(_: &Case, _: &Name, _: u16, message: &mut Message) {
    let has = |section: &[Rr], rr: &Rr, rtype: u16| {
        section.iter().any(|set| (&set.owner, set.rtype) == (&rr.owner, rtype))
    };
    let Message { answers, authorities, .. } = message;
    let (first, second) = (answers.clone(), authorities.clone());
    let is_astray = |rr: &Rr, here: &[Rr], there: &[Rr]| {
        covered(rr).is_some_and(|rtype| !has(here, rr, rtype) && has(there, rr, rtype))
    };
    answers.retain(|rr| !is_astray(rr, &first, &second));
    authorities.retain(|rr| !is_astray(rr, &second, &first));
    authorities.extend(first.iter().filter(|rr| is_astray(rr, &first, &second)).cloned());
    answers.extend(second.iter().filter(|rr| is_astray(rr, &second, &first)).cloned());
}

/// Adds the authority section of the first response to the responses about targets of its aliases.
pub fn lend_authority(case: &Case, name: &Name, rtype: u16, message: &mut Message) {
    if rtype == case.qtype && *name != case.name {
        message.authorities.extend(case.said(&case.name, rtype).authorities);
    }
}

/// Adds the denials of the first response to those for DS.
pub fn lend_denials_of_ds(case: &Case, name: &Name, rtype: u16, message: &mut Message) {
    if rtype == rtype::DS && is_proof(case, name, rtype) {
        let first = case.said(&case.name, case.qtype);
        message.authorities.extend(first.authorities.into_iter().filter(is_denial));
    }
}

/// Moves signatures of sets in both sections to the answer section.
pub fn take_signatures_to_answer(_: &Case, _: &Name, _: u16, message: &mut Message) {
    let Message { answers, authorities, .. } = message;
    let is_there = |rr: &mut Rr| {
        covered(rr)
            .is_some_and(|rtype| answers.iter().any(|set| (&set.owner, set.rtype) == (&rr.owner, rtype)))
    };
    let moved: Vec<_> = authorities.extract_if(.., is_there).collect();
    answers.extend(moved);
}

/// Moves all records to the section where they belong: denials, with SOA and NS, are authority.
pub fn sort_sections(_: &Case, _: &Name, _: u16, message: &mut Message) {
    let is_authority = |rr: &Rr| {
        let rtype = covered(rr).unwrap_or(rr.rtype);
        matches!(rtype, rtype::NSEC | rtype::NSEC3 | rtype::SOA | rtype::NS)
    };
    let all = [std::mem::take(&mut message.answers), std::mem::take(&mut message.authorities)].concat();
    (message.authorities, message.answers) = all.into_iter().partition(is_authority);
}

/// Moves the records that were asked for to the answer section.
pub fn move_to_answer(case: &Case, name: &Name, rtype: u16, message: &mut Message) {
    let is_end = |rr: &Rr| rr.owner == *name || rtype == case.qtype;
    let is_asked = |rr: &mut Rr| is_end(rr) && covered(rr).unwrap_or(rr.rtype) == rtype;
    message.answers.extend(message.authorities.extract_if(.., is_asked));
}

/// Makes an answer of the DS records that a response has in its authority section alone, and drops
/// all else.
pub fn keep_ds_alone(_: &Case, name: &Name, rtype: u16, message: &mut Message) {
    let is_set = |rr: &Rr| (&rr.owner, rr.rtype) == (name, rtype::DS);
    let is_astray = !message.answers.iter().any(is_set) && message.authorities.iter().any(is_set);
    if rtype == rtype::DS && is_astray {
        let all = [std::mem::take(&mut message.answers), std::mem::take(&mut message.authorities)].concat();
        let is_ds = |rr: &Rr| rr.owner == *name && covered(rr).unwrap_or(rr.rtype) == rtype::DS;
        message.answers = all.into_iter().filter(is_ds).collect();
    }
}

/// Adds the response to a question for the alias alone.
pub fn lend_proof(case: &Case, name: &Name, rtype: u16, message: &mut Message) {
    let is_alias = |rr: &Rr| rr.owner == *name && covered(rr).unwrap_or(rr.rtype) == rtype::CNAME;
    if rtype != case.qtype || rtype == rtype::CNAME || !message.answers.iter().any(is_alias) {
        return;
    }
    let alone = case.said(name, rtype::CNAME);
    message.answers.retain(|rr| !is_alias(rr));
    message.answers.splice(..0, alone.answers.into_iter().filter(is_alias));
    message.authorities.extend(alone.authorities);
}

pub fn drop_aliases_beside(case: &Case, _: &Name, _: u16, message: &mut Message) {
    let has_data: Vec<_> =
        message.answers.iter().filter(|rr| rr.rtype == case.qtype).map(|rr| rr.owner.clone()).collect();
    let is_alias = |rr: &Rr| covered(rr).unwrap_or(rr.rtype) == rtype::CNAME;
    message.answers.retain(|rr| case.qtype == rtype::CNAME || !is_alias(rr) || !has_data.contains(&rr.owner));
}

/// Removes false data of names that have an alias.
pub fn drop_data_beside(case: &Case, name: &Name, rtype: u16, message: &mut Message) {
    let aliases = message.answers.iter().filter(|rr| rr.rtype == rtype::CNAME);
    let has_alias: Vec<_> = aliases.map(|rr| rr.owner.clone()).collect();
    let honest = honest(name, rtype).answers;
    let is_false = |rr: &Rr| covered(rr).unwrap_or(rr.rtype) == case.qtype && !honest.contains(rr);
    message
        .answers
        .retain(|rr| case.qtype == rtype::CNAME || !is_false(rr) || !has_alias.contains(&rr.owner));
}

/// Gives another response code to answers.
pub fn give_code<const CODE: u8>(case: &Case, name: &Name, rtype: u16, message: &mut Message) {
    if is_answer(case, name, rtype) {
        message.rcode = CODE;
    }
}

/// Removes DNAME records of zones above the one that a name is in.
pub fn drop_dnames_from_above(_: &Case, name: &Name, rtype: u16, message: &mut Message) {
    let zone = &TREE.zone_for(name, rtype).origin;
    let is_from_above = |rr: &Rr| covered(rr).unwrap_or(rr.rtype) == rtype::DNAME && zone.is_below(&rr.owner);
    message.answers.retain(|rr| !is_from_above(rr));
}

/// Removes aliases that a DNAME record should have made.
pub fn drop_aliases_below_dname(_: &Case, _: &Name, _: u16, message: &mut Message) {
    let answers = message.answers.iter();
    let dnames: Vec<_> = answers.filter(|rr| rr.rtype == rtype::DNAME).map(|rr| rr.owner.clone()).collect();
    let is_alias = |rr: &Rr| covered(rr).unwrap_or(rr.rtype) == rtype::CNAME;
    let is_made = |rr: &Rr| is_alias(rr) && dnames.iter().any(|dname| rr.owner.is_below(dname));
    message.answers.retain(|rr| !is_made(rr));
}

pub fn drop_orphans(_: &Case, _: &Name, _: u16, message: &mut Message) {
    let all = [&message.answers[..], &message.authorities[..]].concat();
    let is_orphan = |rr: &Rr| {
        covered(rr).is_some_and(|rtype| !all.iter().any(|set| (&set.owner, set.rtype) == (&rr.owner, rtype)))
    };
    message.answers.retain(|rr| !is_orphan(rr));
    message.authorities.retain(|rr| !is_orphan(rr));
}

pub fn keep_first_alias(_: &Case, _: &Name, _: u16, message: &mut Message) {
    let mut seen = Vec::new();
    message.answers.retain(|rr| {
        if rr.rtype != rtype::CNAME {
            return true;
        }
        let is_new = !seen.contains(&rr.owner);
        seen.push(rr.owner.clone());
        is_new
    });
}

/// Removes what the tree does not say, what has lost its signature, and the denial of what is there.
pub fn drop_false_authority(case: &Case, name: &Name, rtype: u16, message: &mut Message) {
    let Message { answers, authorities: honest, .. } = honest(name, rtype);
    let is_asked = |rr: &Rr| (&rr.owner, rr.rtype) == (name, rtype);
    if message.answers.iter().any(is_asked) && !answers.iter().any(is_asked) {
        message.authorities.clear();
    }
    message.authorities.retain(|rr| honest.contains(rr));
    let is_signed = |rr: &Rr, among: &[Rr]| {
        among.iter().any(|signature| signature.owner == rr.owner && covered(signature) == Some(rr.rtype))
    };
    let left = message.authorities.clone();
    let has_lost = |rr: &Rr| is_signed(rr, &honest) && !is_signed(rr, &left);
    message.authorities.retain(|rr| rr.rtype == rtype::RRSIG || !has_lost(rr));
    drop_orphans(case, name, rtype, message);
}

pub fn drop_false_answers(_: &Case, name: &Name, rtype: u16, message: &mut Message) {
    let honest = honest(name, rtype).answers;
    message.answers.retain(|rr| honest.contains(rr));
}

/// Removes signatures by zones other than the one that has the record.
pub fn drop_foreign_signatures(_: &Case, _: &Name, _: u16, message: &mut Message) {
    message.answers.retain(|rr| match covered(rr) {
        Some(rtype) => rr.rdata[18..].starts_with(TREE.zone_for(&rr.owner, rtype).origin.as_wire()),
        None => true,
    });
}

/// Removes records of names that are neither the one asked for nor at the end of an alias of it.
pub fn drop_beside_chain(_: &Case, name: &Name, _: u16, message: &mut Message) {
    let mut chain = vec![name.clone()];
    for _ in 0..ALIASES {
        chain.extend(target(&chain[chain.len() - 1], &message.answers));
    }
    let makes = |rr: &Rr| {
        let is_dname = covered(rr).unwrap_or(rr.rtype) == rtype::DNAME;
        is_dname && chain.iter().any(|at| at.is_below(&rr.owner))
    };
    message.answers.retain(|rr| chain.contains(&rr.owner) || makes(rr));
}
