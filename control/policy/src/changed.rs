//! Names about which lists may decide otherwise than before.

use crate::{
    groups::{GroupPolicy, Policies},
    list::{Changing, List, Unbounded},
    names::{NameKey, Path},
    policy::{AllowList, BlockList, Policy},
};
use ringdns_dataplane::purge::NameSet;
use std::sync::Arc;

/// Names of the rules that two versions of the lists do not share, by their fingerprints. Lists may
/// decide otherwise about these names and all names below them, and decide as before about all others.
#[derive(Debug)]
pub struct ChangedNames {
    key: NameKey,
    /// Sorted.
    fingerprints: Box<[u64]>,
    /// Numbers of labels that the names have, as bits.
    depths: u128,
}

impl ChangedNames {
    /// Number of names that rules have been added or removed for.
    pub fn len(&self) -> usize {
        self.fingerprints.len()
    }

    /// Whether lists decide as before about every name.
    pub fn is_empty(&self) -> bool {
        self.fingerprints.is_empty()
    }
}

impl NameSet for ChangedNames {
    fn has(&self, name: &[u8]) -> bool {
        let mut path = Path::default();
        if self.key.read(&mut path, name, self.depths).is_none() {
            return true;
        }
        (0..=path.labels()).any(|labels| {
            path.at(labels).is_some_and(|fingerprint| self.fingerprints.binary_search(&fingerprint).is_ok())
        })
    }
}

impl Policies {
    /// Returns the names about which these policies may decide otherwise than those `before`, which
    /// were built with the same key. `None`: about any name, since groups, the order or the answers
    /// of lists, or regular expressions differ, or more than [`CHANGED_MAX`](crate::list::CHANGED_MAX) names have.
    pub fn changed_since(&self, before: &Policies) -> Option<ChangedNames> {
        let mut changing = Changing::default();
        // Groups share lists.
        let mut compared: Vec<(*const List, *const List)> = Vec::new();
        let mut compare = |new: &Arc<List>, old: &Arc<List>| {
            let pair = (Arc::as_ptr(new), Arc::as_ptr(old));
            if pair.0 == pair.1 || compared.contains(&pair) {
                return Ok(());
            }
            compared.push(pair);
            new.changed_since(old, &mut changing)
        };
        let pairs = self.pairs_with(before)?;
        for (new, old) in &pairs {
            new.compare_lists(old, &mut compare).ok()?;
        }
        for (new, old) in pairs {
            new.compare_overrides(old, &mut changing).ok()?;
        }
        let Changing { mut fingerprints, depths } = changing;
        fingerprints.sort_unstable();
        fingerprints.dedup();
        let key = self.all().key();
        Some(ChangedNames { key, fingerprints: fingerprints.into(), depths })
    }

    /// Returns the policy of each group with that before. `None`: there are other groups.
    fn pairs_with<'a>(&'a self, before: &'a Policies) -> Option<Vec<(&'a Policy, &'a Policy)>> {
        let (default, was) = (self.default_policy(), before.default_policy());
        let same = |(new, old): (&'a GroupPolicy, &'a GroupPolicy)| {
            let GroupPolicy { group, name, policy } = new;
            (*group == old.group && *name == old.name).then_some((policy, &old.policy))
        };
        let others = self.groups().iter().zip(before.groups()).map(same);
        let pairs: Option<Vec<_>> = others.chain([Some((default, was))]).collect();
        pairs.filter(|_| self.groups().len() == before.groups().len())
    }
}

impl Policy {
    /// Compares the lists at the same places. They must be alike but for their rules.
    fn compare_lists(
        &self,
        before: &Policy,
        mut compare: impl FnMut(&Arc<List>, &Arc<List>) -> Result<(), Unbounded>,
    ) -> Result<(), Unbounded> {
        if self.client() != before.client() {
            return Err(Unbounded);
        }
        let (allow, block) = (self.allow_lists(), self.block_lists());
        let (allowed, blocked) = (before.allow_lists(), before.block_lists());
        if (allow.len(), block.len()) != (allowed.len(), blocked.len()) {
            return Err(Unbounded);
        }
        for (new, old) in allow.iter().zip(allowed) {
            let AllowList { name, list } = new;
            if *name != old.name {
                return Err(Unbounded);
            }
            compare(list, &old.list)?;
        }
        for (new, old) in block.iter().zip(blocked) {
            let BlockList { name, list, answer, ttl, dry_run, client, action, ede } = new;
            let are_alike = (name, answer, ttl, dry_run) == (&old.name, &old.answer, &old.ttl, &old.dry_run)
                && (client, action, ede) == (&old.client, &old.action, &old.ede);
            if !are_alike {
                return Err(Unbounded);
            }
            compare(list, &old.list)?;
        }
        Ok(())
    }

    fn compare_overrides(&self, before: &Policy, changing: &mut Changing) -> Result<(), Unbounded> {
        let key = self.key();
        let (new, old) = (self.overrides(), before.overrides());
        let of = |overrides: Option<&crate::overrides::Overrides>, name: &[u8]| {
            overrides.and_then(|overrides| overrides.get(name))
        };
        let names = new.into_iter().chain(old).flat_map(|overrides| overrides.names());
        for name in names.filter(|name| of(new, name) != of(old, name)) {
            changing.push_name(&key, name)?;
        }
        Ok(())
    }
}
