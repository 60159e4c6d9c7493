//! A forger between the validator and a tree of signed zones. Whatever it removes, adds, replays,
//! reorders or relabels, the answer is true, or there is none.

mod amend;
mod beside;
mod case;
mod differences;
mod explain;
mod forge;
mod kinds;
mod ranges;
mod server;
mod unbound;
mod wire;
mod zone;

use forge::{TYPES, changes};
use proptest::{prelude::*, test_runner::TestRunner};
use ringdns_dnssec::{Name, ProvenAnswer, ProvenRecord};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{LazyLock, Mutex},
};
use wire::{FORGER, TREE, Wire, honest};
use zone::rtype;

/// Number of forgeries to try, unless `RINGDNS_FORGERIES` sets another.
const CASES: u32 = 2_000;

type Data = (Name, u16, Vec<u8>);

fn data(records: &[ProvenRecord]) -> BTreeSet<Data> {
    let kept = records.iter().filter(|record| record.rtype != rtype::RRSIG);
    let data = kept.map(|record| {
        let mut rdata = record.rdata.clone();
        // The letter case of these is not signed.
        if matches!(record.rtype, rtype::CNAME | rtype::DNAME) {
            rdata.make_ascii_lowercase();
        }
        (Name::from_wire(&record.owner).unwrap(), record.rtype, rdata)
    });
    data.collect()
}

/// Returns the records of a name and type in the tree, an alias among them.
fn truth(name: &Name, rtype: u16) -> BTreeSet<Data> {
    let answers = honest(name, rtype).answers;
    let kept = answers.into_iter().filter(|rr| rr.rtype != rtype::RRSIG);
    kept.map(|rr| (rr.owner, rr.rtype, rr.rdata)).collect()
}

/// Returns the verdict on the tree's answer, which is computed only once.
fn genuine(name: &Name, rtype: u16) -> ProvenAnswer {
    static KNOWN: LazyLock<Mutex<HashMap<(Name, u16), ProvenAnswer>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap();
    let verdict = known.entry((name.clone(), rtype));
    verdict.or_insert_with(|| Wire::default().judge(name, rtype).unwrap()).clone()
}

/// Returns the reason why a verdict is a lie, if it is.
fn lie(name: &Name, qtype: u16, verdict: &ProvenAnswer) -> Option<&'static str> {
    if TREE.is_forgers(name) {
        return None;
    }
    let genuine = genuine(name, qtype);
    let said = data(&verdict.answers);
    if genuine.secure {
        if !verdict.secure {
            return Some("it was made insecure");
        }
        let same = verdict.rcode == genuine.rcode && said == data(&genuine.answers);
        return (!same).then_some("it differs from the signed data");
    }
    if verdict.secure {
        return Some("it was made secure");
    }
    if verdict.answers.iter().any(|record| record.ttl > 300 && is_protected(record)) {
        return Some("its TTL exceeds the signed TTL");
    }
    let is_true = |data: &Data| !TREE.protects(&data.0, data.1) || truth(&data.0, data.1).contains(data);
    if !said.iter().all(is_true) {
        return Some("a signed part of it was altered");
    }
    let last = end_of_aliases(name, qtype, &said);
    let is_denied = !said.iter().any(|(owner, rtype, _)| (owner, *rtype) == (&last, qtype));
    let opted_out = TREE.zone_for(&last, qtype).uses_opt_out();
    if is_denied && TREE.protects(&last, qtype) && !opted_out {
        let honest = honest(&last, qtype);
        if honest.rcode != verdict.rcode || honest.answers.iter().any(|rr| rr.owner == last) {
            return Some("existing records were denied");
        }
    }
    None
}

/// Returns the name at the end of all aliases.
fn end_of_aliases(name: &Name, qtype: u16, said: &BTreeSet<Data>) -> Name {
    let mut last = name.clone();
    // Aliases may go round in circles.
    for _ in 0..said.len() {
        let mut aliases = said.iter().filter(|(_, rtype, _)| *rtype == rtype::CNAME && qtype != rtype::CNAME);
        let Some((.., target)) = aliases.find(|(owner, ..)| *owner == last) else { break };
        last = Name::from_wire(target).unwrap();
    }
    last
}

fn is_protected(record: &ProvenRecord) -> bool {
    let owner = Name::from_wire(&record.owner).unwrap();
    record.rtype != rtype::RRSIG && TREE.protects(&owner, record.rtype)
}

#[test]
fn the_honest_truth_is_believed() {
    let (mut secure, mut insecure) = (0, 0);
    for name in &FORGER.names {
        for qtype in TYPES {
            let verdict = genuine(name, qtype);
            let honest = honest(name, qtype);
            assert_eq!(verdict.rcode, honest.rcode, "{name:?} {qtype}");
            assert_eq!(data(&verdict.answers), truth(name, qtype), "{name:?} {qtype}");
            *(if verdict.secure { &mut secure } else { &mut insecure }) += 1;
            assert_eq!(lie(name, qtype, &verdict), None, "{name:?} {qtype}");
        }
    }
    assert!(secure > 500 && insecure > 400, "{secure} {insecure}");
}

#[test]
fn no_forgery_is_believed() {
    let cases = std::env::var("RINGDNS_FORGERIES").map_or(CASES, |number| number.parse().unwrap());
    let mut runner =
        TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..Default::default() });
    let names = 0..FORGER.names.len();
    let case = (names.clone(), 0..TYPES.len(), names, changes(), any::<bool>());
    let counts = Mutex::new([0_u32; 3]);
    let result = runner.run(&case, |(name, qtype, other, changes, is_warm)| {
        let (name, qtype) = (&FORGER.names[name], TYPES[qtype]);
        let mut wire = Wire::default();
        if is_warm {
            let _ = wire.judge(name, qtype);
        }
        wire.changes = changes;
        let outcome = match wire.judge(name, qtype) {
            Ok(verdict) => {
                let lie = lie(name, qtype, &verdict);
                prop_assert!(lie.is_none(), "{name:?} {qtype}: {}: {verdict:?}", lie.unwrap_or_default());
                usize::from(verdict.secure)
            }
            Err(_) => 2,
        };
        counts.lock().unwrap()[outcome] += 1;
        // The remembered standings do not mislead later validations.
        wire.changes.clear();
        let other = &FORGER.names[other];
        if let Ok(verdict) = wire.judge(other, rtype::A) {
            let lie = lie(other, rtype::A, &verdict);
            prop_assert!(lie.is_none(), "after {name:?} {qtype}: {other:?}: {}", lie.unwrap_or_default());
        }
        Ok(())
    });
    let [insecure, secure, refused] = *counts.lock().unwrap();
    println!("{cases} forgeries: {secure} still secure and true, {insecure} unsigned, {refused} refused");
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(secure > cases / 20 && insecure > cases / 20 && refused > cases / 5);
}
