//! Scopes of several purges, for one walk over a store.

use super::Purge;
use std::{collections::HashSet, sync::Arc};

/// Names that purges cover, in wire format.
#[derive(Default)]
pub(super) struct Scopes<'a> {
    names: HashSet<&'a [u8]>,
    suffixes: HashSet<&'a [u8]>,
    all: bool,
}

impl<'a> Scopes<'a> {
    /// Returns the scopes of `purges`.
    pub fn of(purges: &'a [Arc<Purge>]) -> Self {
        let mut scopes = Scopes::default();
        for purge in purges {
            match &**purge {
                Purge::Name(name) => drop(scopes.names.insert(name)),
                Purge::Suffix(suffix) => drop(scopes.suffixes.insert(suffix)),
                Purge::All => scopes.all = true,
                Purge::Verdicts | Purge::VerdictsOn(_) => {}
            }
        }
        scopes
    }

    /// Whether a purge covers the answers about a name. Takes as long as the name has labels,
    /// however many purges there are.
    pub fn covers(&self, name: &[u8]) -> bool {
        self.all || self.names.contains(name) || self.is_below(name)
    }

    fn is_below(&self, mut name: &[u8]) -> bool {
        while !self.suffixes.is_empty() {
            if self.suffixes.contains(name) {
                return true;
            }
            match name.first() {
                None | Some(0) => return false,
                Some(label) => name = name.get(1 + usize::from(*label)..).unwrap_or_default(),
            }
        }
        false
    }
}
