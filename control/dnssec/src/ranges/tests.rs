//! Denials of random zones, some of which were learned, against an obvious model of the zones.

use super::*;
use crate::{
    crypto::nsec3_hash,
    proven::ProvenRecord,
    testing::{bitmap, name},
};
use data_encoding::BASE32_DNSSEC;
use proptest::{collection::vec, prelude::*, sample::select};
use std::collections::{BTreeMap, BTreeSet};

const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const TXT: u16 = 16;
const DNAME: u16 = 39;
const DS: u16 = 43;
const TTL: u32 = 300;
const NOW: u32 = 1_000;
const SALT: &[u8] = b"\xab";

/// Statement of a zone about a name and a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    /// There are records, an alias or a delegation.
    There,
    NoData,
    NoName,
}

/// Zone `z`, or the root, with the types of its names.
#[derive(Clone, Debug)]
struct Model {
    origin: Name,
    names: BTreeMap<Name, BTreeSet<u16>>,
}

impl Model {
    fn new(origin: &str, entries: Vec<(Vec<&'static [u8]>, Vec<u16>)>) -> Self {
        let origin = name(origin);
        let mut names = BTreeMap::from([(origin.clone(), BTreeSet::from([SOA, NS]))]);
        for (labels, types) in entries {
            let owner = below(&origin, &labels);
            let mut types: BTreeSet<_> = types.into_iter().collect();
            // An alias and a delegation have no other records; neither is made by a wildcard here.
            if owner == origin || owner.is_wildcard() {
                types.retain(
                    |rtype| !matches!(*rtype, NS | DS | DNAME | CNAME if owner == origin || *rtype != CNAME),
                );
            }
            if types.contains(&CNAME) {
                types = BTreeSet::from([CNAME]);
            }
            if types.contains(&DS) || types.contains(&NS) && owner != origin {
                types.retain(|rtype| matches!(*rtype, NS | DS));
                types.insert(NS);
            }
            if !types.is_empty() {
                names.entry(owner).or_default().extend(types);
            }
        }
        let ends = names.clone();
        let is_hidden = |owner: &Name| {
            let above = ends.iter().filter(|(end, _)| owner.is_below(end) && **end != origin);
            above.into_iter().any(|(_, types)| types.contains(&NS) || types.contains(&DNAME))
        };
        names.retain(|owner, _| !is_hidden(owner));
        Model { origin, names }
    }

    fn has(&self, name: &Name, rtype: u16) -> bool {
        self.names.get(name).is_some_and(|types| types.contains(&rtype))
    }

    fn is_delegation(&self, name: &Name) -> bool {
        *name != self.origin && self.has(name, NS)
    }

    fn exists(&self, name: &Name) -> bool {
        self.names.keys().any(|owner| owner.is_at_or_below(name))
    }

    fn truth(&self, asked: &Name, qtype: u16) -> Truth {
        let mut above = (self.origin.label_count()..asked.label_count()).map(|labels| asked.suffix(labels));
        let leads_away = above.any(|above| self.is_delegation(&above) || self.has(&above, DNAME));
        if leads_away || self.is_delegation(asked) && qtype != DS {
            return Truth::There;
        }
        let source = if self.exists(asked) {
            asked.clone()
        } else {
            let mut above = (0..asked.label_count()).rev().map(|labels| asked.suffix(labels));
            let wildcard = above.find(|above| self.exists(above)).unwrap().wildcard().unwrap();
            if !self.exists(&wildcard) {
                return Truth::NoName;
            }
            wildcard
        };
        let is_there = self.has(&source, qtype) || self.has(&source, CNAME);
        if is_there { Truth::There } else { Truth::NoData }
    }

    /// Returns the wildcard whose records of a type a name has, if it has no own ones.
    fn expansion(&self, asked: &Name, qtype: u16) -> Option<Name> {
        if self.truth(asked, qtype) != Truth::There || self.exists(asked) {
            return None;
        }
        let mut above = (0..asked.label_count()).rev().map(|labels| asked.suffix(labels));
        let wildcard = above.find(|above| self.exists(above))?.wildcard()?;
        self.has(&wildcard, qtype).then_some(wildcard)
    }

    /// Returns the records of all wildcards, as expanded for some name.
    fn wildcards(&self) -> Vec<SignedSet> {
        let wildcards = self.names.iter().filter(|(owner, _)| owner.is_wildcard());
        let sets = wildcards.flat_map(|(owner, types)| {
            let types = types.iter().filter(|rtype| is_of_wildcards(**rtype));
            let set = |rtype: &u16| {
                let mut set = self.set(owner.clone(), *rtype, owner.as_wire().to_vec());
                let some = owner.parent().and_then(|above| above.prepend(b"some")).unwrap();
                set.records.iter_mut().for_each(|record| record.owner = some.as_wire().to_vec());
                set
            };
            types.map(set).collect::<Vec<_>>()
        });
        sets.collect()
    }

    fn set(&self, owner: Name, rtype: u16, rdata: Vec<u8>) -> SignedSet {
        let record = |rtype, rdata| ProvenRecord { owner: owner.as_wire().to_vec(), rtype, ttl: TTL, rdata };
        let records = vec![record(rtype, rdata), record(rtype::RRSIG, vec![0; 90])];
        SignedSet { zone: self.origin.clone(), owner, rtype, ttl: TTL, records }
    }

    fn soa(&self, minimum: u32) -> SignedSet {
        let host = name("ns.invalid");
        let rdata = [host.as_wire(), host.as_wire(), &[0; 16], &minimum.to_be_bytes()].concat();
        self.set(self.origin.clone(), SOA, rdata)
    }

    fn nsec(&self) -> Vec<SignedSet> {
        let owners: Vec<_> = self.names.iter().collect();
        let sets = owners.iter().enumerate().map(|(at, (owner, types))| {
            let next = owners[(at + 1) % owners.len()].0;
            let types: Vec<_> = types.iter().chain(&[rtype::RRSIG, rtype::NSEC]).copied().collect();
            self.set((*owner).clone(), rtype::NSEC, [next.as_wire(), &bitmap(&types)].concat())
        });
        sets.collect()
    }

    fn nsec3(&self, flags: u8, iterations: u16) -> Vec<SignedSet> {
        let least = self.origin.label_count();
        let all = self.names.keys().flat_map(|owner| (least..=owner.label_count()).map(|n| owner.suffix(n)));
        let is_kept = |name: &Name| flags == 0 || !self.is_delegation(name) || self.has(name, DS);
        let hash = |name: Name| (nsec3_hash(name.as_wire(), SALT, iterations), name);
        let hashes: BTreeMap<_, _> = all.filter(is_kept).map(hash).collect();
        let order: Vec<_> = hashes.keys().collect();
        let sets = hashes.iter().enumerate().map(|(at, (hash, name))| {
            let next = order[(at + 1) % order.len()];
            let types: Vec<_> = self.names.get(name).into_iter().flatten().copied().collect();
            let head = [&[1, flags], &iterations.to_be_bytes()[..], &[1], SALT, &[20]].concat();
            let owner = self.origin.prepend(BASE32_DNSSEC.encode(hash).as_bytes()).unwrap();
            self.set(owner, rtype::NSEC3, [&head, &next[..], &bitmap(&types)].concat())
        });
        sets.collect()
    }
}

fn below(origin: &Name, labels: &[&[u8]]) -> Name {
    labels.iter().fold(origin.clone(), |name, label| name.prepend(label).unwrap())
}

/// Few labels, so that random names meet; some sort oddly.
fn labels() -> impl Strategy<Value = Vec<&'static [u8]>> {
    let all: Vec<&[u8]> = vec![b"a", b"b", b"c", b"ab", b"*", b"\0\0", b"\x01", b"\xff", b"z"];
    vec(select(all), 1..4)
}

fn zones() -> impl Strategy<Value = Model> {
    let types = vec(select(vec![A, A, TXT, CNAME, NS, DNAME, DS]), 1..4);
    let origins = select(vec!["z", "z", "deep.z", ""]);
    (origins, vec((labels(), types), 0..9)).prop_map(|(origin, entries)| Model::new(origin, entries))
}

fn denied(ranges: &mut Ranges, name: &Name, qtype: u16, now: u32) -> Option<ProvenAnswer> {
    ranges.deny(&Asking { name, qtype, least: 0, now, is_void: &|_| false })
}

fn expanded(ranges: &mut Ranges, name: &Name, qtype: u16, now: u32) -> Option<ProvenAnswer> {
    ranges.expand(&Asking { name, qtype, least: 0, now, is_void: &|_| false })
}

fn told(denied: Option<&ProvenAnswer>) -> Option<Truth> {
    denied.map(|denied| if denied.rcode == 3 { Truth::NoName } else { Truth::NoData })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..Default::default() })]

    /// Nothing that exists is denied, whatever part of the denials is known; and with all of them,
    /// everything is that does not exist.
    #[test]
    fn denials_are_those_of_the_zone(
        zone in zones(),
        hashed in any::<bool>(),
        opt_out in any::<bool>(),
        known in vec(any::<bool>(), 64),
        asked in vec((labels(), select(vec![A, TXT, CNAME, NS, DNAME, DS, SOA])), 1..60),
    ) {
        let denials = match hashed {
            true => zone.nsec3(u8::from(opt_out), 1),
            false => zone.nsec(),
        };
        let usable = !(hashed && opt_out);
        let (mut some, mut all) = (Ranges::new(1 << 20), Ranges::new(1 << 20));
        for (set, is_known) in denials.iter().zip(known.iter().cycle()) {
            if *is_known {
                some.learn(std::slice::from_ref(set), 0, NOW);
            }
        }
        all.learn(&denials, 0, NOW);
        for ranges in [&mut some, &mut all] {
            ranges.learn(&[zone.soa(TTL)], 0, NOW);
        }
        let names = asked.iter().map(|(labels, qtype)| (below(&zone.origin, labels), *qtype));
        let apex = [A, TXT, DNAME].map(|qtype| (zone.origin.clone(), qtype));
        for (name, qtype) in names.chain(apex) {
            let truth = zone.truth(&name, qtype);
            let said = told(denied(&mut all, &name, qtype, NOW).as_ref());
            let expected = (truth != Truth::There && usable).then_some(truth);
            prop_assert_eq!(said, expected, "{:?} {}", name, qtype);
            let said = told(denied(&mut some, &name, qtype, NOW).as_ref());
            prop_assert!(said.is_none() || said == expected, "{:?} {}: {:?}, {:?}", name, qtype, said, truth);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..Default::default() })]

    /// A wildcard is expanded for those names that have no records but its, whatever part of the denials
    /// is known; and for all of them if everything is known.
    #[test]
    fn wildcards_are_expanded_as_the_zone_would(
        zone in zones(),
        wildcards in vec((labels(), vec(select(vec![A, TXT, CNAME]), 1..3)), 1..4),
        hashed in any::<bool>(),
        opt_out in any::<bool>(),
        known in vec(any::<bool>(), 64),
        asked in vec((labels(), select(vec![A, TXT, CNAME, NS, DS, SOA])), 1..60),
    ) {
        let beside = |mut labels: Vec<&'static [u8]>| {
            labels.pop();
            labels.push(b"*");
            labels
        };
        let own = zone.names.iter().filter(|(owner, _)| **owner != zone.origin);
        let own = own.map(|(owner, types)| {
            let mut labels: Vec<_> = owner.labels().take(owner.label_count() - zone.origin.label_count()).collect();
            labels.reverse();
            let labels = labels.into_iter().map(|label| &*Box::leak(label.to_vec().into_boxed_slice()));
            (labels.collect(), types.iter().copied().collect())
        });
        let wildcards = wildcards.into_iter().map(|(labels, types)| (beside(labels), types));
        let origin = match zone.origin.label_count() { 0 => "", 1 => "z", _ => "deep.z" };
        let zone = Model::new(origin, own.chain(wildcards).collect());
        let denials = match hashed {
            true => zone.nsec3(u8::from(opt_out), 1),
            false => zone.nsec(),
        };
        let usable = !(hashed && opt_out);
        let (mut some, mut all) = (Ranges::new(1 << 20), Ranges::new(1 << 20));
        for (set, is_known) in denials.iter().chain(&zone.wildcards()).zip(known.iter().cycle()) {
            if *is_known {
                some.learn(std::slice::from_ref(set), 0, NOW);
            }
        }
        all.learn(&denials, 0, NOW);
        all.learn(&zone.wildcards(), 0, NOW);
        for (labels, qtype) in asked {
            let name = below(&zone.origin, &labels);
            let expected = zone.expansion(&name, qtype).filter(|_| usable && is_of_wildcards(qtype));
            for (ranges, is_all) in [(&mut some, false), (&mut all, true)] {
                let Some(made) = expanded(ranges, &name, qtype, NOW) else {
                    prop_assert!(!is_all || expected.is_none(), "{name:?} {qtype}: {expected:?}");
                    continue;
                };
                let data: Vec<_> = made.answers.iter().map(|record| (&*record.owner, record.rtype)).collect();
                prop_assert_eq!(data, [(name.as_wire(), qtype), (name.as_wire(), rtype::RRSIG)]);
                let source = Name::from_wire(&made.answers[0].rdata);
                prop_assert_eq!(&source, &expected, "{:?} {}", name, qtype);
                prop_assert!(made.secure && made.rcode == 0 && !made.authorities.is_empty());
            }
        }
    }
}

#[test]
fn an_expansion_lasts_no_longer_than_the_wildcard_and_the_denial() {
    let zone = Model::new("z", vec![(vec![b"*"], vec![A])]);
    let asked = name("c.z");
    let with_ttl =
        |sets: Vec<SignedSet>, ttl| sets.into_iter().map(|set| SignedSet { ttl, ..set }).collect::<Vec<_>>();
    for (nsec, wildcard, minimum, lasts) in
        [(300, 50, None, 50), (40, 300, None, 40), (300, 300, Some(30), 30), (300, 0, None, 0)]
    {
        let mut ranges = Ranges::new(1 << 20);
        ranges.learn(&with_ttl(zone.nsec(), nsec), 0, NOW);
        assert_eq!(expanded(&mut ranges, &asked, A, NOW), None, "the wildcard is not known");
        ranges.learn(&with_ttl(zone.wildcards(), wildcard), 0, NOW);
        ranges.learn(&minimum.map(|minimum| zone.soa(minimum)).into_iter().collect::<Vec<_>>(), 0, NOW);
        let ttls = |now| {
            let made = expanded(&mut ranges, &asked, A, now)?;
            let records = made.answers.iter().chain(&made.authorities);
            let ttls: BTreeSet<_> = records.map(|record| record.ttl).collect();
            assert_eq!(ttls.len(), 1, "{made:?}");
            ttls.first().copied()
        };
        let expected = [0, 10].map(|passed| (lasts > passed).then(|| lasts - passed));
        assert_eq!([NOW, NOW + 10].map(ttls), expected, "{nsec} {wildcard} {minimum:?}");
        assert_eq!(expanded(&mut ranges, &asked, A, NOW + lasts), None);
        assert_eq!(expanded(&mut ranges, &name("*.z"), A, NOW), None, "the wildcard itself");
    }
    let mut ranges = Ranges::new(1 << 20);
    ranges.learn(&[zone.nsec(), zone.wildcards()].concat(), 7, NOW);
    let mut ask = |least, void: u64| {
        let is_void = |generation| generation <= void;
        ranges.expand(&Asking { name: &asked, qtype: A, least, now: NOW, is_void: &is_void }).is_some()
    };
    assert_eq!([ask(0, 6), ask(1, 6), ask(2, 6), ask(0, 7)], [true, true, false, false]);
}

/// A zone with many wildcards fills its part and no more.
#[test]
fn bytes_of_wildcards_are_bounded() {
    const MOST: usize = 256 << 10;
    let mut ranges = Ranges::new(MOST);
    let zone = small();
    for number in 0..5_000 {
        let owner = name(&format!("n{number}.z")).wildcard().unwrap();
        ranges.learn(&[zone.set(owner, A, vec![0; 100])], 0, NOW);
        assert!(ranges.bytes() <= MOST / ZONE_PART + 2 * ZONE_OVERHEAD, "{}", ranges.bytes());
    }
    assert!(ranges.bytes() > MOST / ZONE_PART / 2);
    let types = [NS, CNAME, SOA, DNAME, DS, rtype::RRSIG];
    let mut ranges = Ranges::new(MOST);
    let owner = name("*.z");
    types.iter().for_each(|rtype| ranges.learn(&[zone.set(owner.clone(), *rtype, vec![0; 100])], 0, NOW));
    ranges.learn(&[zone.set(name("b.z"), A, vec![0; 4])], 0, NOW);
    assert!(ranges.bytes() < 2 * ZONE_OVERHEAD + MOST / 100, "{}", ranges.bytes());
}

fn small() -> Model {
    let entry = |label: &'static [u8]| (vec![label], vec![A]);
    Model::new("z", vec![entry(b"b"), entry(b"m")])
}

#[test]
fn a_denial_lasts_no_longer_than_its_record_and_the_soa_say() {
    let zone = small();
    let asked = name("c.z");
    for (soa_ttl, minimum, nsec_ttl, lasts) in
        [(300, 300, 50, 50), (40, 300, 50, 40), (300, 30, 50, 30), (300, 0, 50, 0), (300, 300, 0, 0)]
    {
        let mut ranges = Ranges::new(1 << 20);
        let with_ttl = |set: SignedSet, ttl| SignedSet { ttl, ..set };
        let nsec: Vec<_> = zone.nsec().into_iter().map(|set| with_ttl(set, nsec_ttl)).collect();
        ranges.learn(&nsec, 0, NOW);
        assert_eq!(denied(&mut ranges, &asked, A, NOW), None, "without SOA there is no TTL");
        ranges.learn(&[with_ttl(zone.soa(minimum), soa_ttl)], 0, NOW);
        let ttls = |now| denied(&mut ranges, &asked, A, now).map(|denied| denied.authorities[0].ttl);
        let expected = [0, 10].map(|passed| (lasts > passed).then(|| lasts - passed));
        assert_eq!([NOW, NOW + 10].map(ttls), expected, "{soa_ttl} {minimum} {nsec_ttl}");
        assert_eq!(denied(&mut ranges, &asked, A, NOW + lasts), None);
    }
}

#[test]
fn a_denial_comes_with_its_proof_and_nothing_else() {
    let zone = small();
    let mut ranges = Ranges::new(1 << 20);
    ranges.learn(&[zone.nsec(), vec![zone.soa(TTL)]].concat(), 0, NOW);
    let seen = |denied: ProvenAnswer| {
        let owners = denied.authorities.into_iter().filter(|record| record.rtype != rtype::RRSIG);
        let owners = owners.map(|record| (Name::from_wire(&record.owner).unwrap(), record.rtype));
        (denied.rcode, denied.secure, owners.collect::<Vec<_>>())
    };
    let soa = (name("z"), SOA);
    let at = |owner| (name(owner), rtype::NSEC);
    let of = denied(&mut ranges, &name("c.z"), A, NOW).map(seen);
    assert_eq!(of, Some((3, true, vec![soa.clone(), at("b.z"), at("z")])), "name and wildcard");
    let of = denied(&mut ranges, &name("a.z"), A, NOW).map(seen);
    assert_eq!(of, Some((3, true, vec![soa.clone(), at("z")])), "one record denies both");
    let of = denied(&mut ranges, &name("b.z"), TXT, NOW).map(seen);
    assert_eq!(of, Some((0, true, vec![soa, at("b.z")])));
    for qtype in [255, rtype::RRSIG, rtype::NSEC, rtype::NSEC3] {
        assert_eq!(denied(&mut ranges, &name("b.z"), qtype, NOW), None, "{qtype}");
    }
}

#[test]
fn what_is_void_or_of_a_zone_too_high_is_not_used() {
    let zone = small();
    let mut ranges = Ranges::new(1 << 20);
    ranges.learn(&[zone.nsec(), vec![zone.soa(TTL)]].concat(), 7, NOW);
    let name = name("c.z");
    let mut ask = |least, void: u64| {
        let is_void = |generation| generation <= void;
        ranges.deny(&Asking { name: &name, qtype: A, least, now: NOW, is_void: &is_void }).is_some()
    };
    assert_eq!([ask(0, 6), ask(1, 6), ask(2, 6), ask(0, 7)], [true, true, false, false]);
}

#[test]
fn records_that_deny_nothing_else_are_not_kept() {
    let zone = small();
    let types = bitmap(&[rtype::RRSIG, rtype::NSEC, rtype::NXNAME]);
    let narrow = [name("\\000.c.z").as_wire(), &types].concat();
    let outside = [name("d.y").as_wire(), &types].concat();
    let twice = {
        let mut set = zone.nsec().remove(1);
        set.records.push(ProvenRecord { rdata: narrow.clone(), ..set.records[0].clone() });
        set
    };
    let mut ranges = Ranges::new(1 << 20);
    ranges.learn(&[zone.soa(TTL)], 0, NOW);
    let before = ranges.bytes();
    let mut sets = vec![twice];
    sets.extend([narrow, outside].map(|rdata| zone.set(name("c.z"), rtype::NSEC, rdata)));
    sets.extend(zone.nsec3(1, 0));
    sets.extend(zone.nsec3(0, crate::denial::ITERATIONS_MAX + 1));
    ranges.learn(&sets, 0, NOW);
    assert_eq!(ranges.bytes(), before);
    ranges.learn(&zone.nsec3(0, crate::denial::ITERATIONS_MAX), 0, NOW);
    assert!(denied(&mut ranges, &name("c.z"), A, NOW).is_some(), "hashed as often as is allowed");
    // So many labels would take too many digests.
    let deep = name(&format!("{}.z", ["a"; 9].join(".")));
    assert_eq!(denied(&mut ranges, &deep, A, NOW), None);
}

#[test]
fn a_new_chain_replaces_the_old_one() {
    let zone = small();
    let mut ranges = Ranges::new(1 << 20);
    ranges.learn(&[zone.soa(TTL)], 0, NOW);
    ranges.learn(&zone.nsec3(0, 1), 0, NOW);
    let bytes = ranges.bytes();
    let other = zone.nsec3(0, 2);
    ranges.learn(&other[..1], 0, NOW);
    assert!(ranges.bytes() < bytes);
    assert_eq!(denied(&mut ranges, &name("c.z"), A, NOW), None, "parts of two chains prove nothing");
    ranges.learn(&other, 0, NOW);
    assert!(denied(&mut ranges, &name("c.z"), A, NOW).is_some());
    assert_eq!(ranges.bytes(), bytes);
}

/// A zone that makes up names fills its part, and keeps what is used; many zones fill the whole.
#[test]
fn bytes_are_bounded_and_what_is_used_stays() {
    const MOST: usize = 256 << 10;
    let mut ranges = Ranges::new(MOST);
    let zone = small();
    ranges.learn(&[zone.nsec(), vec![zone.soa(TTL)]].concat(), 0, NOW);
    let asked = name("c.z");
    for number in 0..5_000 {
        let owner = name(&format!("n{number}.z"));
        let next = name(&format!("n{number}x.z"));
        let rdata = [next.as_wire(), &bitmap(&[A])].concat();
        ranges.learn(&[zone.set(owner, rtype::NSEC, rdata)], 0, NOW);
        assert!(ranges.bytes() <= MOST / ZONE_PART + 2 * ZONE_OVERHEAD, "{}", ranges.bytes());
        assert!(denied(&mut ranges, &asked, A, NOW).is_some(), "after {number} names");
    }
    for number in 0..5_000 {
        let other = Model::new(&format!("z{number}"), vec![(vec![b"b"], vec![A])]);
        ranges.learn(&[other.nsec(), vec![other.soa(TTL)]].concat(), 0, NOW);
        assert!(ranges.bytes() <= MOST, "{}", ranges.bytes());
        if number % 20 == 0 {
            assert!(denied(&mut ranges, &asked, A, NOW).is_some(), "after {number} zones");
        }
    }
    let left: Vec<_> = ranges.order.drain(..).collect();
    assert!(left.len() > 40 && left.len() == ranges.zones.len(), "{}", left.len());
    let counted: usize =
        left.iter().map(|zone| ranges.zones[zone].bytes + ZONE_OVERHEAD + 2 * zone.as_wire().len()).sum();
    assert_eq!(counted, ranges.bytes);
}
