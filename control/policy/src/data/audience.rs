//! Groups of clients that parts of local data are for.

use super::DataError;
use std::sync::Arc;

/// Set of groups of clients: each group that data names has a bit, and all others have one together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audience(u64);

impl Audience {
    /// All groups.
    pub const ALL: Audience = Audience(u64::MAX);
    /// No group.
    pub const NONE: Audience = Audience(0);
    /// Groups that no data names.
    pub const OTHERS: Audience = Audience(1 << 63);

    /// Whether no group is in the set.
    pub fn is_empty(self) -> bool {
        self == Audience::NONE
    }

    /// Returns the groups that are in both sets.
    pub fn and(self, other: Self) -> Self {
        Audience(self.0 & other.0)
    }

    /// Returns the groups that are in either set.
    pub fn or(self, other: Self) -> Self {
        Audience(self.0 | other.0)
    }

    /// Returns the groups that are in this set and not in `other`.
    pub fn without(self, other: Self) -> Self {
        Audience(self.0 & !other.0)
    }

    /// Whether a group is in both sets.
    pub fn meets(self, other: Self) -> bool {
        !self.and(other).is_empty()
    }

    /// Whether all groups of this set are in `other`.
    pub fn is_within(self, other: Self) -> bool {
        self.without(other).is_empty()
    }

    /// Returns the set of one of its groups; of none if it is empty.
    pub(super) fn first(self) -> Self {
        Audience(self.0 & self.0.wrapping_neg())
    }
}

/// Names of the groups that data names, in the order of their bits.
#[derive(Clone, Debug, Default)]
pub struct AudienceNames(Vec<Arc<str>>);

impl AudienceNames {
    /// Most groups that data can name.
    const MAX: usize = 63;

    /// Returns the groups with these names, which may be new.
    pub(super) fn of(&mut self, names: &[String]) -> Result<Audience, DataError> {
        names.iter().try_fold(Audience::NONE, |all, name| {
            let known = self.0.iter().position(|known| **known == **name);
            let at = known.unwrap_or_else(|| {
                self.0.push(name.as_str().into());
                self.0.len() - 1
            });
            if at < Self::MAX { Ok(all.or(Audience(1 << at))) } else { Err(DataError::Groups(Self::MAX)) }
        })
    }

    /// Returns the group with a name, or the others if no data names it.
    pub fn member(&self, name: &str) -> Audience {
        let at = self.0.iter().take(Self::MAX).position(|known| **known == *name);
        at.map_or(Audience::OTHERS, |at| Audience(1 << at))
    }

    /// Returns the groups that data tells apart, each alone.
    pub fn members(&self) -> impl Iterator<Item = Audience> {
        let named = (0..self.0.len().min(Self::MAX)).map(|at| Audience(1 << at));
        named.chain([Audience::OTHERS])
    }

    /// Returns the set of all groups that data tells apart.
    pub(super) fn all(&self) -> Audience {
        self.members().fold(Audience::NONE, Audience::or)
    }
}
