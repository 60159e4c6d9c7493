//! Rules that two versions of a list do not share.

use super::{Class, List, addresses::order, special::named};
use crate::{
    names::{NameKey, Table},
    rule::{Effect, Rule},
};
use ringdns_dataplane::prefix::Prefix;
use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashSet},
};

/// Most names of rules that a change may have: with more, everything counts as changed.
pub const CHANGED_MAX: usize = 4_096;

/// Numbers of rules by which a list differs from an earlier version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Rules that the earlier version does not have.
    pub added: usize,
    /// Rules that the earlier version alone has.
    pub removed: usize,
}

/// Names of changed rules as they are found, at most [`CHANGED_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Changing {
    pub fingerprints: Vec<u64>,
    /// Numbers of labels that the names may have, as bits.
    pub depths: u128,
}

/// Too many names have changed, or names that cannot be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unbounded;

impl Changing {
    /// Adds a name with this fingerprint.
    fn push(&mut self, fingerprint: u64) -> Result<(), Unbounded> {
        if self.fingerprints.len() >= CHANGED_MAX {
            return Err(Unbounded);
        }
        self.fingerprints.push(fingerprint);
        Ok(())
    }

    /// Adds numbers of labels that names may have, as bits.
    fn add_depths(&mut self, depths: u128) {
        self.depths |= depths;
    }

    /// Adds a name in wire format.
    pub(crate) fn push_name(&mut self, key: &NameKey, name: &[u8]) -> Result<(), Unbounded> {
        let (fingerprint, labels) = key.fingerprint(name).ok_or(Unbounded)?;
        self.add_depths(1 << (labels & 127));
        self.push(fingerprint)
    }
}

impl List {
    /// Returns the differences from an earlier version, which was built with the same key. All rules
    /// of the same effect for one name, as `name` and `*.name`, count as one. It takes time in
    /// proportion to both lists.
    pub fn changes_since(&self, before: &List) -> Changes {
        let mut changes = Changes::default();
        for (new, old) in self.tables_with(before) {
            // It never fails.
            let _: Result<(), Unbounded> =
                differences(entries(new), entries(old), |is_new, _| changes.count(is_new));
        }
        for rules in [List::answers, List::clients] {
            let _: Result<(), Unbounded> = differences(
                rules(self).iter().map(Address),
                rules(before).iter().map(Address),
                |is_new, _| changes.count(is_new),
            );
        }
        let (new, old) = (self.rare(), before.rare());
        changes.added += new.difference(&old).count();
        changes.removed += old.difference(&new).count();
        changes
    }

    /// Adds the names of rules that an earlier version, which was built with the same key, does not
    /// share. It takes time in proportion to both lists, unless there are too many.
    pub(crate) fn changed_since(&self, before: &List, changing: &mut Changing) -> Result<(), Unbounded> {
        let List {
            key,
            plain,
            classes,
            special: _,
            patterns,
            answers,
            clients,
            client_sets: _,
            counts: _,
            content: _,
            depths: _,
            by_labels,
        } = self;
        let (new, old) = (patterns.rules().collect::<HashSet<_>>(), before.patterns.rules().collect());
        if *by_labels != before.by_labels || new != old {
            return Err(Unbounded);
        }
        // Rules about addresses may be about any name.
        if !answers.iter().eq(before.answers.iter()) || !clients.iter().eq(before.clients.iter()) {
            return Err(Unbounded);
        }
        let tables = classes.iter().chain(&before.classes).map(|class| &class.table);
        for table in tables.chain([plain, &before.plain]) {
            changing.add_depths(table.depths());
        }
        for (new, old) in self.tables_with(before) {
            differences(entries(new), entries(old), |_, entry| changing.push(Table::fingerprint_of(entry)))?;
        }
        let (new, old) = (self.special.rules().collect::<HashSet<_>>(), before.special.rules().collect());
        for rule in new.symmetric_difference(&old) {
            let (name, _) = named(&rule.subject).ok_or(Unbounded)?;
            changing.push_name(key, name)?;
        }
        Ok(())
    }

    /// Returns each table with that of the same effect in an earlier version.
    fn tables_with<'a>(&'a self, before: &'a List) -> Vec<(Option<&'a Table>, Option<&'a Table>)> {
        let key = |class: &'a Class| (&class.effect, class.important);
        type Pairs<'a> = BTreeMap<(&'a Effect, bool), (Option<&'a Table>, Option<&'a Table>)>;
        let mut tables = Pairs::new();
        for class in &self.classes {
            tables.entry(key(class)).or_default().0 = Some(&class.table);
        }
        for class in &before.classes {
            tables.entry(key(class)).or_default().1 = Some(&class.table);
        }
        tables.into_values().chain([(Some(&self.plain), Some(&before.plain))]).collect()
    }

    /// Returns the rules that are in no table.
    fn rare(&self) -> HashSet<&Rule> {
        self.special.rules().chain(self.patterns.rules()).collect()
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
    /// Counts an entry that is not in both.
    fn count(&mut self, is_new: bool) -> Result<(), Unbounded> {
        self.added += usize::from(is_new);
        self.removed += usize::from(!is_new);
        Ok(())
    }
}

/// Returns the entries of a table, if there is one.
fn entries(table: Option<&Table>) -> impl Iterator<Item = u64> {
    table.into_iter().flat_map(Table::entries)
}

/// Calls `found` with each entry that is not in both, and whether it is in the new ones. Each is sorted.
fn differences<T: Ord>(
    new: impl Iterator<Item = T>,
    old: impl Iterator<Item = T>,
    mut found: impl FnMut(bool, T) -> Result<(), Unbounded>,
) -> Result<(), Unbounded> {
    let (mut new, mut old) = (new.peekable(), old.peekable());
    loop {
        let order = match (new.peek(), old.peek()) {
            (Some(new), Some(old)) => new.cmp(old),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return Ok(()),
        };
        let (first, second) = (new.next_if(|_| order.is_le()), old.next_if(|_| order.is_ge()));
        if order.is_ne()
            && let Some(entry) = first.or(second)
        {
            found(order.is_lt(), entry)?;
        }
    }
}
