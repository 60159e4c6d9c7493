//! Tests of forgeries that validators have accepted, and of genuine answers that they have refused.

use crate::{
    server::Message,
    wire::{TREE, Wire, anchored, honest},
    zone::{Rr, name, rtype},
};
use ringdns_dnssec::Unproven;
use std::sync::atomic::Ordering;

const A: u16 = rtype::A;
const TXT: u16 = rtype::TXT;
const RRSIGS_MISSING: u16 = 10;
const NSEC_MISSING: u16 = 12;

/// Returns the verdict on an altered answer: whether it is secure, or the reason for refusing it.
fn judged(text: &str, qtype: u16, alter: impl Fn(&mut Message)) -> Result<bool, u16> {
    judged_beside(text, qtype, &[], alter)
}

/// Returns the verdict on an altered answer, with forged DS responses.
fn judged_beside(
    text: &str,
    qtype: u16,
    beside: &[(&str, Message)],
    alter: impl Fn(&mut Message),
) -> Result<bool, u16> {
    let mut message = honest(&name(text), qtype);
    alter(&mut message);
    let mut wire = Wire::default();
    wire.lies.insert((name(text), qtype), message);
    let lies = beside.iter().map(|(text, lie)| ((name(text), rtype::DS), lie.clone()));
    wire.lies.extend(lies);
    match wire.judge(&name(text), qtype) {
        Ok(verdict) => Ok(verdict.secure),
        Err(Unproven::Bogus(why)) => Err(why),
        Err(Unproven::Failed(())) => unreachable!("whatever is asked for is there"),
    }
}

fn denials(message: &Message) -> Vec<Rr> {
    message.authorities.clone()
}

fn relabelled(mut records: Vec<Rr>, to: &str) -> Vec<Rr> {
    records.iter_mut().for_each(|rr| rr.owner = name(to));
    records
}

#[test]
fn a_wildcard_does_not_stand_for_a_name_that_exists() {
    for zone in ["signed", "nsec3"] {
        let existing = format!("under.wild.{zone}");
        let wild = honest(&name(&format!("a.wild.{zone}")), A);
        let proofs = [
            vec![],
            // Proofs for another name, of another zone, and without a signature.
            denials(&wild),
            denials(&honest(&name("nothing.child.signed"), A)),
            denials(&honest(&name("nothing"), A)),
            denials(&honest(&name(&format!("zzz.wild.{zone}")), A)),
        ];
        for proof in proofs {
            let forged = |message: &mut Message| {
                message.answers = relabelled(wild.answers.clone(), &existing);
                message.authorities = proof.clone();
            };
            assert!(judged(&existing, A, forged).is_err(), "{existing}");
        }
        // Nor for a name below it, though that name does not exist.
        let below = format!("b.{existing}");
        let forged = |message: &mut Message| message.answers = relabelled(wild.answers.clone(), &below);
        assert!(judged(&below, A, forged).is_err(), "{below}");
        // The label count of a false signature before the true one is ignored.
        let falsely = |message: &mut Message| {
            forged(message);
            let mut signature = message.answers[1].clone();
            signature.rdata[3] = 4;
            message.answers.insert(1, signature);
        };
        assert!(judged(&below, A, falsely).is_err(), "{below}");
    }
}

#[test]
fn a_wildcard_needs_its_proof() {
    for text in ["x.wild.signed", "x.wild.nsec3", "y.x.wild.signed", "x.wild.child.signed"] {
        assert_eq!(judged(text, A, |_| {}), Ok(true), "{text}");
        assert_eq!(judged(text, A, |message| message.authorities.clear()), Err(NSEC_MISSING), "{text}");
        let unsigned = |message: &mut Message| message.authorities.retain(|rr| rr.rtype != rtype::RRSIG);
        assert_eq!(judged(text, A, unsigned), Err(NSEC_MISSING), "{text}");
    }
    assert_eq!(judged("x.wild.optout", A, |_| {}), Ok(false), "RFC 5155 section 9.2");
}

#[test]
fn opt_out_of_a_zone_above_says_nothing_of_a_signed_zone() {
    let forged = Rr { owner: name("www.child.optout"), rtype: A, ttl: 60, rdata: vec![203, 0, 113, 66] };
    let everything: Vec<Rr> = TREE.zone("optout").everything().concat();
    let nsec3: Vec<Rr> = everything
        .iter()
        .filter(|rr| rr.rtype == rtype::NSEC3 || rr.owner.label_count() == 2 && rr.rtype == rtype::RRSIG)
        .cloned()
        .collect();
    let denial = Message { authorities: nsec3, ..Message::default() };
    let lies = [("www.child.optout", denial.clone()), ("child.optout", denial.clone())];
    let unsigned = |message: &mut Message| message.answers = vec![forged.clone()];
    assert!(judged_beside("www.child.optout", A, &lies, unsigned).is_err());
    let signed_by_parent = |message: &mut Message| *message = denial.clone();
    assert!(judged_beside("www.child.optout", A, &lies, signed_by_parent).is_err());
}

/// Checks that a zone with an anchor of its own is signed, even if a zone above it uses opt-out and
/// has no DS records for it.
#[test]
fn opt_out_of_a_zone_above_says_nothing_below_a_closer_anchor() {
    let text = "www.island.optout";
    let anchors = anchored(&["island.optout"]);
    let denial =
        Message { authorities: TREE.zone("optout").denial_of(&name("island.optout")), ..Message::default() };
    assert!(denial.authorities.iter().any(|rr| rr.rtype == rtype::NSEC3));
    let mut wire = Wire::default();
    assert!(wire.judge_by(&anchors, &name(text), A).unwrap().secure);
    wire.lies.insert((name(text), A), denial);
    assert!(wire.judge_by(&anchors, &name(text), A).is_err());
}

/// Checks that NXDOMAIN for a name in an opt-out span stays NXDOMAIN. The name may belong to an
/// unsigned zone, so the answer is insecure, but it is not altered.
#[test]
fn opt_out_does_not_turn_nxdomain_into_nodata() {
    let text = name("nothing.optout");
    let wildcard = TREE.zone("optout").covering(&name("*.optout"));
    let mut message = honest(&text, A);
    message.authorities.retain(|rr| !wildcard.contains(rr));
    let mut wire = Wire::default();
    wire.lies.insert((text.clone(), A), message);
    let verdict = wire.judge(&text, A).unwrap();
    assert_eq!((verdict.rcode, verdict.secure), (3, false));
}

/// Checks that a wildcard's NSEC record does not deny the wildcard. It verifies under every name
/// that the wildcard matches.
#[test]
fn the_denial_of_a_wildcard_counts_under_its_own_name_alone() {
    let of_wildcard = TREE.zone("signed").matching(&name("*.wild.signed")).unwrap();
    assert_eq!(judged("n.wild.signed", A, |_| {}), Ok(true));
    let soa = TREE.zone("signed").set(&name("signed"), &name("signed"), rtype::SOA);
    // This name is before the wildcard in canonical order, so its record would span the wildcard.
    let moved = relabelled(of_wildcard, "!.wild.signed");
    let forged = |message: &mut Message| {
        message.rcode = 3;
        message.answers.clear();
        message.authorities = [&soa[..], &moved[..]].concat();
    };
    assert!(judged("n.wild.signed", A, forged).is_err());
}

/// Checks that the denial of a wildcard further above does not stand for that of the one at the
/// closest encloser, for a name and at the end of an alias.
#[test]
fn the_wildcard_at_the_closest_encloser_is_to_be_denied() {
    for text in ["signed", "nsec3"] {
        let (zone, denied) = (TREE.zone(text), name(&format!("a.wild.{text}")));
        let above = zone.covering(&name(&format!("*.{text}")));
        let denial = [zone.set(&zone.origin, &zone.origin, rtype::SOA), zone.denial_of(&denied), above];
        let lie = Message { rcode: 3, authorities: denial.concat(), ..Message::default() };
        for asked in [denied.clone(), name(&format!("x.aliases.{text}"))] {
            let mut joined = honest(&asked, TXT);
            joined.answers.retain(|rr| rr.owner != denied);
            joined.authorities.extend(lie.authorities.clone());
            joined.rcode = 3;
            let mut wire = Wire::default();
            wire.lies.extend([((denied.clone(), TXT), lie.clone()), ((asked.clone(), TXT), joined)]);
            assert!(wire.judge(&asked, TXT).is_err(), "{asked:?}");
        }
    }
}

/// Checks that a DNAME record of a signed zone is not taken without its signature, though the name
/// that it is above belongs to an unsigned zone.
#[test]
fn a_dname_record_above_an_unsigned_zone_is_to_be_signed() {
    let dname = |above: &str| Rr {
        owner: name(above),
        rtype: rtype::DNAME,
        ttl: 60,
        rdata: name("wild.plain.signed").as_wire().to_vec(),
    };
    for (above, verdict) in
        [("plain.nsec3", Ok(false)), ("nsec3", Err(RRSIGS_MISSING)), ("", Err(RRSIGS_MISSING))]
    {
        let forged = |message: &mut Message| message.answers = vec![dname(above)];
        assert_eq!(judged("www.plain.nsec3", A, forged), verdict, "{above}");
    }
}

#[test]
fn only_the_parent_tells_that_a_zone_is_unsigned() {
    let forged = Rr { owner: name("www.child.signed"), rtype: A, ttl: 60, rdata: vec![203, 0, 113, 66] };
    let unsigned = |message: &mut Message| message.answers = vec![forged.clone()];
    let soa = TREE.zone("child.signed").set(&name("child.signed"), &name("child.signed"), rtype::SOA);
    let of_apex = TREE.zone("child.signed").matching(&name("child.signed")).unwrap();
    let of_other = TREE.zone("signed").matching(&name("plain.signed")).unwrap();
    let alias = Rr { rtype: rtype::CNAME, owner: name("child.signed"), rdata: vec![0], ..forged.clone() };
    for (authorities, answers) in [
        (vec![], vec![]),
        (soa[..1].to_vec(), vec![]),
        ([&soa[..], &of_apex].concat(), vec![]),
        (of_other.clone(), vec![]),
        (relabelled(of_other, "child.signed"), vec![]),
        (vec![], vec![alias]),
    ] {
        let lie = Message { rcode: 0, answers, authorities };
        for text in ["child.signed", "www.child.signed"] {
            let lies = [("child.signed", lie.clone()), ("www.child.signed", lie.clone())];
            assert!(judged_beside("www.child.signed", A, &lies, unsigned).is_err(), "{text}: {lie:?}");
        }
    }
    assert_eq!(judged("www.plain.signed", A, |_| {}), Ok(false));
}

#[test]
fn signed_records_do_not_vanish() {
    // Signatures without their records.
    for text in ["www.signed", "www.nsec3", "www.optout"] {
        let vanish = |message: &mut Message| message.answers.retain(|rr| rr.rtype == rtype::RRSIG);
        assert!(judged(text, TXT, vanish).is_err(), "{text}");
    }
    // An unsigned alias in place of an address, and one that is signed for another name.
    let alias = Rr {
        owner: name("www.signed"),
        rtype: rtype::CNAME,
        ttl: 60,
        rdata: name("www.unsigned").as_wire().to_vec(),
    };
    assert!(judged("www.signed", A, |message| message.answers = vec![alias.clone()]).is_err());
    let signed = relabelled(honest(&name("unsafe.signed"), rtype::CNAME).answers, "www.signed");
    assert!(judged("www.signed", A, |message| message.answers = signed.clone()).is_err());
    // An alias at the apex of the unsigned zone below does not answer for the parent's DS records.
    let alias = Rr { owner: name("plain.signed"), ..alias };
    assert!(judged("plain.signed", rtype::DS, |message| message.answers = vec![alias.clone()]).is_err());
}

#[test]
fn what_is_genuine_in_odd_shapes_is_believed() {
    let double = |message: &mut Message| {
        message.answers = [&message.answers[..], &message.answers[..]].concat();
        message.authorities = [&message.authorities[..], &message.authorities[..]].concat();
    };
    for (text, qtype) in [("www.signed", A), ("x.wild.nsec3", A), ("nothing.nsec3", A), ("nothing.signed", A)]
    {
        assert_eq!(judged(text, qtype, double), Ok(true), "{text}");
        let beside = |message: &mut Message| {
            let ns =
                Rr { owner: name("signed"), rtype: rtype::NS, ttl: 60, rdata: name("ns").as_wire().to_vec() };
            message.authorities.push(ns);
        };
        assert_eq!(judged(text, qtype, beside), Ok(true), "{text}: unsigned NS beside it");
        let lower_signer = |message: &mut Message| message.answers.reverse();
        assert_eq!(judged(text, qtype, lower_signer), Ok(true), "{text}");
    }
    // A DNAME record without its alias, which the validator must synthesise (RFC 6672 section 3.1).
    let bare = |message: &mut Message| message.answers.retain(|rr| rr.owner != name("www.moved.signed"));
    for qtype in [A, rtype::CNAME] {
        assert_eq!(judged("www.moved.signed", qtype, bare), Ok(true), "{qtype}");
    }
    // The parent's SOA beside a child's NODATA.
    let soa = TREE.zone("signed").set(&name("signed"), &name("signed"), rtype::SOA);
    assert_eq!(judged("www.plain.signed", 28, |message| message.authorities = soa.clone()), Ok(false));
    // Signatures of a zone without DS records.
    for text in ["www.island.signed", "www.island.nsec3", "www.island.optout", "nothing.island.optout"] {
        assert_eq!(judged(text, A, |_| {}), Ok(false), "{text}");
    }
    // NXDOMAIN for a name with other names below it is corrected.
    let wire = {
        let mut message = honest(&name("ent.signed"), A);
        message.rcode = 3;
        let mut wire = Wire::default();
        wire.lies.insert((name("ent.signed"), A), message);
        wire
    };
    let verdict = wire.judge(&name("ent.signed"), A).unwrap();
    assert_eq!((verdict.rcode, verdict.secure), (0, true));
}

/// Checks that an unsigned name costs the DS records down to the zone cut, once.
#[test]
fn zones_are_found_once() {
    let wire = Wire::default();
    let deep = format!("{}plain.signed", "1.".repeat(32));
    for (text, asked) in [
        (&*deep, 4),
        (&*deep, 0),
        ("www.plain.signed", 0),
        ("www.signed", 0),
        ("www.child.signed", 2),
        ("nothing.child.signed", 0),
        ("www.unsigned", 1),
    ] {
        wire.asked.store(0, Ordering::Relaxed);
        wire.judge(&name(text), A).unwrap();
        assert_eq!(wire.asked.load(Ordering::Relaxed), asked, "{text}");
    }
}
