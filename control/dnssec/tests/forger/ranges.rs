//! Answers made from denials and wildcards of other questions (RFC 8198), while a forger answers these.

use crate::{
    forge::{TYPES, changes},
    server::{Message, NOERROR, NXDOMAIN},
    wire::{FORGER, TREE, Wire, honest},
    zone::{Rr, rtype},
};
use proptest::{prelude::*, test_runner::TestRunner};
use ringdns_dnssec::{Asking, Name, ProvenAnswer, Ranges};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Labels of names that are asked for below known names.
const FRONT: [&[u8]; 4] = [b"0", b"mm", b"zzz", b"*"];

/// Returns the names of the tree, and names beside them.
fn names() -> Vec<Name> {
    let beside =
        FORGER.names.iter().flat_map(|name| FRONT.into_iter().filter_map(|label| name.prepend(label)));
    FORGER.names.iter().cloned().chain(beside).collect()
}

fn deny(ranges: &mut Ranges, name: &Name, qtype: u16) -> Option<ProvenAnswer> {
    ranges.deny(&Asking { name, qtype, least: 0, now: 0, is_void: &|_| false })
}

fn expand(ranges: &mut Ranges, name: &Name, qtype: u16) -> Option<ProvenAnswer> {
    ranges.expand(&Asking { name, qtype, least: 0, now: 0, is_void: &|_| false })
}

/// Whether the tree has the records of an answer, and no others.
fn is_true(name: &Name, qtype: u16, made: &ProvenAnswer) -> bool {
    let data = |rtype: u16, owner: &Name, rdata: &[u8]| (rtype, owner.clone(), rdata.to_vec());
    let mut ours: Vec<_> = made.answers.iter().filter(|record| record.rtype != rtype::RRSIG).collect();
    ours.sort_by(|one, other| one.rdata.cmp(&other.rdata));
    let ours =
        ours.iter().map(|record| data(record.rtype, &Name::from_wire(&record.owner).unwrap(), &record.rdata));
    let honest = honest(name, qtype);
    let mut theirs: Vec<_> = honest.answers.iter().filter(|rr| rr.rtype != rtype::RRSIG).collect();
    theirs.sort_by(|one, other| one.rdata.cmp(&other.rdata));
    made.rcode == honest.rcode && ours.eq(theirs.iter().map(|rr| data(rr.rtype, &rr.owner, &rr.rdata)))
}

/// Returns the response that a client would get.
fn message(denied: &ProvenAnswer) -> Message {
    let rr = |record: &ringdns_dnssec::ProvenRecord| Rr {
        owner: Name::from_wire(&record.owner).unwrap(),
        rtype: record.rtype,
        ttl: record.ttl,
        rdata: record.rdata.clone(),
    };
    let answers = denied.answers.iter().map(rr).collect();
    let authorities = denied.authorities.iter().map(rr).collect();
    Message { rcode: denied.rcode, answers, authorities }
}

/// Whether the tree has neither records nor an alias for a question.
fn is_denied(name: &Name, qtype: u16, rcode: u8) -> bool {
    let honest = honest(name, qtype);
    honest.rcode == rcode && honest.answers.is_empty()
}

#[test]
fn what_is_learned_denies_what_does_not_exist_and_validates_again() {
    let mut ranges = Ranges::new(1 << 20);
    for name in &FORGER.names {
        for qtype in [rtype::A, rtype::TXT, rtype::DS] {
            if let Ok(verdict) = Wire::default().judge(name, qtype) {
                ranges.learn(&verdict.denials, 0, 0);
            }
        }
    }
    let (mut denied, mut absent) = ([0, 0], 0);
    for name in names() {
        for qtype in [rtype::A, rtype::TXT, rtype::DS] {
            let Some(made) = deny(&mut ranges, &name, qtype) else {
                let zone = TREE.zone_for(&name, qtype);
                let is_absent = zone.is_signed() && TREE.protects(&name, qtype) && !zone.uses_opt_out();
                absent += u32::from(is_absent && is_denied(&name, qtype, NXDOMAIN));
                continue;
            };
            assert!(is_denied(&name, qtype, made.rcode), "{name:?} {qtype}: {made:?}");
            let mut wire = Wire::default();
            wire.lies.insert((name.clone(), qtype), message(&made));
            let verdict = wire.judge(&name, qtype);
            let again = verdict.map(|verdict| (verdict.secure, verdict.rcode));
            assert_eq!(again, Ok((true, made.rcode)), "{name:?} {qtype}: {made:?}");
            denied[usize::from(made.rcode == NXDOMAIN)] += 1;
        }
    }
    println!("{denied:?} denied, {absent} not");
    assert!(denied[0] > 200 && denied[1] > 1_000 && absent < denied[1] / 4, "{denied:?} {absent}");
}

/// Expands what is learned of one name below each name for others there. The answers validate again.
#[test]
fn wildcards_are_expanded_for_other_names() {
    let mut ranges = Ranges::new(1 << 20);
    let learned = FORGER.names.iter().filter_map(|name| name.prepend(FRONT[0]));
    for name in FORGER.names.iter().cloned().chain(learned) {
        for qtype in TYPES {
            if let Ok(verdict) = Wire::default().judge(&name, qtype) {
                ranges.learn(&verdict.denials, 0, 0);
            }
        }
    }
    let (mut expanded, mut missed) = (0, 0);
    for name in names() {
        for qtype in TYPES {
            let Some(made) = expand(&mut ranges, &name, qtype) else {
                let honest = honest(&name, qtype);
                let is_wild =
                    honest.answers.iter().any(|rr| rr.rtype == qtype) && !FORGER.names.contains(&name);
                missed += u32::from(is_wild && TREE.protects(&name, qtype));
                continue;
            };
            assert!(is_true(&name, qtype, &made), "{name:?} {qtype}: {made:?}");
            assert_eq!(deny(&mut ranges, &name, qtype), None, "{name:?} {qtype}");
            let mut wire = Wire::default();
            wire.lies.insert((name.clone(), qtype), message(&made));
            let again = wire.judge(&name, qtype).map(|verdict| (verdict.secure, verdict.rcode));
            assert_eq!(again, Ok((true, NOERROR)), "{name:?} {qtype}: {made:?}");
            expanded += 1;
        }
    }
    println!("{expanded} expanded, {missed} not");
    assert!(expanded > 20, "{expanded} {missed}");
}

#[test]
fn no_forgery_makes_ranges_deny_what_exists() {
    let all = names();
    let cases = 200;
    let mut runner =
        TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..Default::default() });
    let one = (0..all.len(), 0..TYPES.len(), prop::option::weighted(0.6, changes()));
    let case = (prop::collection::vec(one, 8..32), prop::collection::vec(0..all.len(), 40));
    let denied = [const { AtomicU32::new(0) }; 2];
    let expanded = AtomicU32::new(0);
    let result = runner.run(&case, |(forged, asked)| {
        let mut ranges = Ranges::new(1 << 20);
        let mut wire = Wire::default();
        for (name, qtype, changes) in forged {
            wire.changes = changes.unwrap_or_default();
            if let Ok(verdict) = wire.judge(&all[name], TYPES[qtype]) {
                ranges.learn(&verdict.denials, 0, 0);
            }
        }
        for name in asked.into_iter().map(|number| &all[number]).filter(|name| !TREE.is_forgers(name)) {
            for qtype in [rtype::A, rtype::TXT, rtype::DS] {
                if let Some(made) = expand(&mut ranges, name, qtype) {
                    prop_assert!(is_true(name, qtype, &made), "{name:?} {qtype}: {made:?}");
                    expanded.fetch_add(1, Relaxed);
                }
                let Some(made) = deny(&mut ranges, name, qtype) else { continue };
                prop_assert!(is_denied(name, qtype, made.rcode), "{name:?} {qtype}: {made:?}");
                denied[usize::from(made.rcode != NOERROR)].fetch_add(1, Relaxed);
            }
        }
        Ok(())
    });
    println!(
        "{cases} forged histories: {denied:?} NODATA and NXDOMAIN and {expanded:?} expansions made, all true"
    );
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(denied.iter().all(|denied| denied.load(Relaxed) > 10), "{denied:?}");
}
