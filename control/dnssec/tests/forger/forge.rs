//! Changes that a forger makes to a response: everything except signing with keys that it does not
//! have.

use crate::{
    server::{LONG_LABEL, Message, Tree},
    wire::honest,
    zone::{Rr, name, rtype},
};
use proptest::prelude::*;
use ringdns_dnssec::Name;

/// A change of a response. Numbers are taken modulo the number of candidates.
#[derive(Clone, Debug)]
pub enum Change {
    Remove(usize),
    RemoveSignatures,
    RemoveType(usize),
    RemoveAuthority,
    /// Adds a genuine set of some zone, with its signatures.
    Add(bool, usize),
    /// Adds one record of such a set: a signature without records, or records without a signature.
    AddPart(bool, usize, usize),
    /// Replaces the response by the response to another question.
    Replay(usize, usize),
    /// Joins the response with the response to another question.
    Blend(usize, usize),
    Rcode(u8),
    Duplicate(usize),
    Move(usize),
    Reverse,
    /// Gives a record another owner.
    Relabel(usize, usize),
    /// Gives all records of the answer section another owner.
    RelabelAll(usize),
    Flip(usize, usize),
    /// Alters the label count of a signature.
    Labels(usize, u8),
    /// Alters the signer's name of a signature.
    Signer(usize, usize),
    /// Adds a set that is signed by the forger's own zone.
    Sign(bool, usize, usize, u8),
}

/// Responses that a change applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    First,
    Ds,
    Keys,
    All,
}

pub fn changes() -> impl Strategy<Value = Vec<(To, Change)>> {
    let n = any::<u16>().prop_map(usize::from).boxed();
    let (a, b) = (|| n.clone(), any::<bool>());
    let change = prop_oneof![
        4 => a().prop_map(Change::Remove),
        1 => Just(Change::RemoveSignatures),
        2 => a().prop_map(Change::RemoveType),
        1 => Just(Change::RemoveAuthority),
        6 => (b, a()).prop_map(|(x, y)| Change::Add(x, y)),
        4 => (b, a(), a()).prop_map(|(x, y, z)| Change::AddPart(x, y, z)),
        6 => (a(), a()).prop_map(|(x, y)| Change::Replay(x, y)),
        4 => (a(), a()).prop_map(|(x, y)| Change::Blend(x, y)),
        2 => prop_oneof![Just(0), Just(3), Just(6)].prop_map(Change::Rcode),
        1 => a().prop_map(Change::Duplicate),
        2 => a().prop_map(Change::Move),
        1 => Just(Change::Reverse),
        3 => (a(), a()).prop_map(|(x, y)| Change::Relabel(x, y)),
        4 => a().prop_map(Change::RelabelAll),
        2 => (a(), a()).prop_map(|(x, y)| Change::Flip(x, y)),
        2 => (a(), 0_u8..5).prop_map(|(x, y)| Change::Labels(x, y)),
        1 => (a(), a()).prop_map(|(x, y)| Change::Signer(x, y)),
        3 => (b, a(), a(), 0_u8..5).prop_map(|(x, y, z, l)| Change::Sign(x, y, z, l)),
    ];
    let to = prop_oneof![6 => Just(To::First), 2 => Just(To::Ds), 1 => Just(To::Keys), 2 => Just(To::All)];
    prop::collection::vec((to, change), 1..5)
}

/// Material of a forger.
pub struct Forger {
    pub names: Vec<Name>,
    /// All signed RRsets, and the unsigned ones.
    sets: Vec<Vec<Rr>>,
}

/// Types that are asked for.
pub const TYPES: [u16; 5] = [rtype::A, rtype::TXT, rtype::CNAME, rtype::DS, rtype::DNAME];

impl Forger {
    pub fn new(tree: &Tree) -> Self {
        let mut names = vec![Name::root(), name("nothing"), name("x.unsigned")];
        for zone in tree.zones().iter().filter(|zone| !zone.origin.is_root()) {
            let stretched = format!("{LONG_LABEL}.stretched");
            let fronts = [
                "",
                "www",
                "a",
                "ent",
                "deep.down.ent",
                "wild",
                "*.wild",
                "x.wild",
                "y.x.wild",
                "under.wild",
                "b.under.wild",
                "alias",
                "chain",
                "away",
                "unsafe",
                "back",
                "lost",
                "x.aliases",
                "moved",
                "www.moved",
                "stretched",
                "www.stretched",
                &stretched,
                "nothing",
                "x.nothing",
                "zz",
                "zzz",
                "child",
                "plain",
                "island",
            ];
            for front in fronts {
                let labels: Vec<_> = front.split('.').filter(|label| !label.is_empty()).collect();
                let origin = zone.origin.clone();
                names.push(
                    labels.iter().rev().fold(origin, |name, label| name.prepend(label.as_bytes()).unwrap()),
                );
            }
        }
        let sets = tree.zones().iter().flat_map(|zone| zone.everything()).collect();
        Forger { names, sets }
    }

    fn name(&self, number: usize) -> &Name {
        &self.names[number % self.names.len()]
    }

    /// Makes one change.
    pub fn apply(&self, tree: &Tree, asked: &Name, change: &Change, message: &mut Message) {
        let total = message.answers.len() + message.authorities.len();
        match change {
            Change::Remove(at) if total > 0 => drop(take(message, at % total)),
            Change::RemoveSignatures => retain(message, |rr| rr.rtype != rtype::RRSIG),
            Change::RemoveType(at) if total > 0 => {
                let gone = get(message, at % total).rtype;
                retain(message, |rr| rr.rtype != gone);
            }
            Change::RemoveAuthority => message.authorities.clear(),
            Change::Add(answer, set) => {
                section(message, *answer).extend(self.sets[set % self.sets.len()].clone());
            }
            Change::AddPart(answer, set, part) => {
                let set = &self.sets[set % self.sets.len()];
                section(message, *answer).push(set[part % set.len()].clone());
            }
            Change::Replay(name, rtype) => *message = honest(self.name(*name), TYPES[rtype % 5]),
            Change::Blend(name, rtype) => {
                let other = honest(self.name(*name), TYPES[rtype % 5]);
                message.answers.extend(other.answers);
                message.authorities.extend(other.authorities);
            }
            Change::Rcode(rcode) => message.rcode = *rcode,
            Change::Duplicate(at) if total > 0 => {
                let rr = get(message, at % total).clone();
                section(message, at % total < message.answers.len()).push(rr);
            }
            Change::Move(at) if total > 0 => {
                let was_answer = at % total < message.answers.len();
                let rr = take(message, at % total);
                section(message, !was_answer).push(rr);
            }
            Change::Reverse => {
                message.answers.reverse();
                message.authorities.reverse();
            }
            Change::Relabel(at, name) if total > 0 => {
                let name = if name % 2 == 0 { asked } else { self.name(name / 2) };
                get(message, at % total).owner = name.clone();
            }
            Change::RelabelAll(name) => {
                let name = if name % 2 == 0 { asked } else { self.name(name / 2) };
                message.answers.iter_mut().for_each(|rr| rr.owner = name.clone());
            }
            Change::Flip(at, bit) if total > 0 => {
                let rdata = &mut get(message, at % total).rdata;
                let bit = bit % (8 * rdata.len()).max(1);
                if let Some(byte) = rdata.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Change::Labels(at, labels) if total > 0 => {
                let rr = get(message, at % total);
                if rr.rtype == rtype::RRSIG {
                    rr.rdata[3] = *labels;
                }
            }
            Change::Signer(at, name) if total > 0 => {
                let rr = get(message, at % total);
                if rr.rtype == rtype::RRSIG {
                    rr.rdata.truncate(18);
                    rr.rdata.extend(self.name(*name).as_wire());
                    rr.rdata.extend([7; 64]);
                }
            }
            Change::Sign(answer, name, what, labels) => {
                let owner = if name % 2 == 0 { asked } else { self.name(name / 2) };
                let (rtype, rdata) = match what % 4 {
                    0 => (rtype::A, vec![203, 0, 113, 66]),
                    1 => (rtype::CNAME, self.name(*what).as_wire().to_vec()),
                    2 => (rtype::DS, tree.zone("evil").ds()),
                    _ => (rtype::NSEC, [self.name(*what).as_wire(), &[0, 1, 0x40]].concat()),
                };
                let signed = owner.suffix(usize::from(*labels));
                let signed = if signed == *owner { signed } else { signed.prepend(b"*").unwrap() };
                let signature = tree.zone("evil").sign(&signed, rtype, std::slice::from_ref(&rdata), *labels);
                let rr = Rr { owner: owner.clone(), rtype, ttl: 300, rdata };
                let rrsig = Rr { rtype: rtype::RRSIG, rdata: signature, ..rr.clone() };
                section(message, *answer).extend([rr, rrsig]);
            }
            _ => {}
        }
    }
}

fn section(message: &mut Message, answer: bool) -> &mut Vec<Rr> {
    if answer { &mut message.answers } else { &mut message.authorities }
}

fn get(message: &mut Message, at: usize) -> &mut Rr {
    match at.checked_sub(message.answers.len()) {
        None => &mut message.answers[at],
        Some(at) => &mut message.authorities[at],
    }
}

fn take(message: &mut Message, at: usize) -> Rr {
    match at.checked_sub(message.answers.len()) {
        None => message.answers.remove(at),
        Some(at) => message.authorities.remove(at),
    }
}

fn retain(message: &mut Message, keep: impl Fn(&Rr) -> bool) {
    message.answers.retain(&keep);
    message.authorities.retain(&keep);
}
