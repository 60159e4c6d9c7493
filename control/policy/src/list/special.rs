//! Exact map of rules with conditions or rare answers, by name.

use super::Kind;
use crate::{
    clients::Client,
    names::{Path, last_labels},
    rule::{Rule, Subject, Types, WireName},
};
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// Most rules about one name, each of which a look-up compares.
pub const RULES_A_NAME_MAX: usize = 64;

/// Exact map of rules by name. A fingerprint finds the rules, and their names are then compared.
#[derive(Debug, Default)]
pub(super) struct Special {
    rules: HashMap<u64, Vec<Rule>, BuildHasherDefault<Keyed>>,
    depths: u128,
}

/// Hasher for fingerprints, which are keyed hashes already.
#[derive(Default)]
pub(super) struct Keyed(u64);

impl Special {
    /// Adds a rule about a name with this fingerprint and number of labels. Returns `None` if there
    /// are too many about this name.
    pub fn push(&mut self, fingerprint: u64, labels: u8, rule: Rule) -> Option<()> {
        let rules = self.rules.entry(fingerprint).or_default();
        if rules.len() >= RULES_A_NAME_MAX {
            return None;
        }
        rules.push(rule);
        self.depths |= 1 << (labels & 127);
        Some(())
    }

    /// Returns the rules that apply to a question of clients, with the number of labels of their names.
    pub fn find(
        &self,
        path: &Path,
        name: &[u8],
        (qtype, client): (u16, Client),
    ) -> impl Iterator<Item = (&Rule, Kind, u8)> {
        let depths = self.depths & path.depths();
        let depths =
            (0..128u8).take(128 - depths.leading_zeros() as usize).filter(move |n| depths >> n & 1 == 1);
        depths.flat_map(move |labels| {
            let rules = path.at(labels).and_then(|fingerprint| self.rules.get(&fingerprint));
            let above = rules.map(|_| last_labels(name, labels));
            let itself = labels == path.labels();
            rules.into_iter().flatten().filter_map(move |rule| {
                let (subject, kind) = named(&rule.subject)?;
                let reached = if itself { kind != Kind::Below } else { kind != Kind::Exact };
                let applies = reached && above == Some(&**subject) && rule.applies(name, qtype, client);
                applies.then_some((rule, kind, labels))
            })
        })
    }

    /// Returns all rules.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.values().flatten()
    }

    /// Bytes that the map has allocated, about.
    pub fn bytes(&self) -> usize {
        let slots = self.rules.capacity() * (size_of::<(u64, Vec<Rule>)>() + 1) * 8 / 7;
        let rules = self
            .rules
            .values()
            .map(|rules| rules.capacity() * size_of::<Rule>() + rules.iter().map(heap_bytes).sum::<usize>());
        slots + rules.sum::<usize>()
    }

    /// Frees memory in reserve.
    pub fn shrink(&mut self) {
        self.rules.shrink_to_fit();
        self.rules.values_mut().for_each(Vec::shrink_to_fit);
    }
}

impl Hasher for Keyed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, fingerprint: u64) {
        // The map uses the first bits, of which a fingerprint has none.
        self.0 = fingerprint.rotate_left(3);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Returns the name that a rule is written with, if it is about one.
pub(super) fn named(subject: &Subject) -> Option<(&WireName, Kind)> {
    match subject {
        Subject::Exact(name) => Some((name, Kind::Exact)),
        Subject::Suffix(name) => Some((name, Kind::Suffix)),
        Subject::Below(name) => Some((name, Kind::Below)),
        Subject::Regex(_) | Subject::Answer(_) | Subject::Client(_) => None,
    }
}

/// Bytes that a rule has allocated beside itself.
pub(super) fn heap_bytes(rule: &Rule) -> usize {
    let subject = match &rule.subject {
        Subject::Regex(pattern) => pattern.len(),
        Subject::Exact(name) | Subject::Suffix(name) | Subject::Below(name) => name.len(),
        Subject::Answer(_) | Subject::Client(_) => 0,
    };
    let types = match &rule.types {
        Types::All => 0,
        Types::Only(types) | Types::Except(types) => types.capacity() * 2,
    };
    let except: usize = rule.except.iter().map(|name| name.len() + size_of::<WireName>()).sum();
    subject + types + except
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{names::NameKey, rule::Effect};

    /// A rule that is filed under another name's fingerprint, as if both had the same.
    #[test]
    fn names_are_compared_after_their_fingerprints() {
        let key = NameKey::new(&[1; 16]);
        let (asked, other) = (b"\x01a\0", b"\x01b\0");
        let rule = |name: &[u8]| Rule::new(Subject::Suffix(name.into()), Effect::Block);
        let (fingerprint, labels) = key.fingerprint(asked).unwrap();
        let mut special = Special::default();
        special.push(fingerprint, labels, rule(other)).unwrap();
        special.push(fingerprint, labels, rule(asked)).unwrap();
        let mut path = Path::default();
        key.read(&mut path, asked, u128::MAX).unwrap();
        let found: Vec<&Rule> =
            special.find(&path, asked, (1, Client::Elsewhere)).map(|(rule, _, _)| rule).collect();
        assert_eq!(found, [&rule(asked)]);
    }
}
