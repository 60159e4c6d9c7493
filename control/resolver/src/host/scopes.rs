//! Scopes of several purges, for one walk over a store.

use super::Purge;
use std::{collections::HashSet, sync::Arc};

/// Names that purges cover, in wire format.
#[derive(Default)]
pub(super) struct Scopes<'a> {
    names: HashSet<&'a [u8]>,
    suffixes: HashSet<&'a [u8]>,
    all: bool,
    /// Names above those of the purges.
    above: HashSet<&'a [u8]>,
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
            if let Purge::Name(name) | Purge::Suffix(name) = &**purge {
                scopes.above.extend(std::iter::successors(parent(name), |above| parent(above)));
            }
        }
        scopes
    }

    /// Whether a purge covers the answers about a name. Takes as long as the name has labels,
    /// however many purges there are.
    pub fn covers(&self, name: &[u8]) -> bool {
        self.all || self.names.contains(name) || self.is_below(name)
    }

    /// Whether a name is above that of a purge.
    pub fn is_above(&self, name: &[u8]) -> bool {
        self.above.contains(name)
    }

    fn is_below(&self, mut name: &[u8]) -> bool {
        while !self.suffixes.is_empty() {
            if self.suffixes.contains(name) {
                return true;
            }
            match parent(name) {
                None => return false,
                Some(above) => name = above,
            }
        }
        false
    }
}

/// Returns the name without its leftmost label; `None` for the root.
fn parent(name: &[u8]) -> Option<&[u8]> {
    let len = name.first().filter(|len| **len > 0)?;
    name.get(1 + usize::from(*len)..)
}
