//! Rules that two versions of a list do not share.

use super::{Class, List, addresses::order};
use crate::{
    names::Table,
    rule::{Effect, Rule},
};
use ringdns_dataplane::prefix::Prefix;
use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashSet},
};

/// Numbers of rules by which a list differs from an earlier version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Rules that the earlier version does not have.
    pub added: usize,
    /// Rules that the earlier version alone has.
    pub removed: usize,
}

impl List {
    /// Returns the differences from an earlier version, which was built with the same key. All rules
    /// of the same effect for one name, as `name` and `*.name`, count as one. It takes time in
    /// proportion to both lists.
    pub fn changes_since(&self, before: &List) -> Changes {
        let mut changes = Changes::default();
        let none = Table::default();
        changes.count(self.plain.entries(), before.plain.entries());
        let key = |class: &Class| (class.effect.clone(), class.important);
        let mut tables = BTreeMap::new();
        for class in &self.classes {
            tables.insert(key(class), (&class.table, &none));
        }
        for class in &before.classes {
            tables.entry(key(class)).or_insert((&none, &none)).1 = &class.table;
        }
        for (new, old) in tables.into_values() {
            changes.count(new.entries(), old.entries());
        }
        for rules in [List::answers, List::clients] {
            changes.count(rules(self).iter().map(Address), rules(before).iter().map(Address));
        }
        let rare = |list: &'_ List| -> HashSet<Rule> {
            list.special.rules().chain(list.patterns.rules()).cloned().collect()
        };
        let (new, old) = (rare(self), rare(before));
        changes.added += new.difference(&old).count();
        changes.removed += old.difference(&new).count();
        changes
    }
}

/// Rule about addresses, in the order of their table.
#[derive(PartialEq, Eq)]
struct Address<'a>((Prefix, &'a Effect));

impl Ord for Address<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let ((one, effect), (other, of_other)) = (&self.0, &other.0);
        order(one, other).then(effect.cmp(of_other))
    }
}

impl PartialOrd for Address<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Changes {
    /// Counts the entries that are not in both. Each is sorted.
    fn count<T: Ord>(&mut self, new: impl Iterator<Item = T>, old: impl Iterator<Item = T>) {
        let (mut new, mut old) = (new.peekable(), old.peekable());
        loop {
            let order = match (new.peek(), old.peek()) {
                (Some(new), Some(old)) => new.cmp(old),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return,
            };
            if order.is_le() {
                new.next();
            }
            if order.is_ge() {
                old.next();
            }
            self.added += usize::from(order.is_lt());
            self.removed += usize::from(order.is_gt());
        }
    }
}
