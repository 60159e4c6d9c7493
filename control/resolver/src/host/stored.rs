//! Keys of the store.

use quick_cache::Equivalent;
use ringdns_dataplane::dns::key::{Asked, Flags, Key};
use std::hash::{Hash, Hasher};

/// [`Key`] in no more memory than its name needs. Hashes as a `Key` does, so that a `Key` finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    pub(super) question: Box<[u8]>,
    pub(super) flags: Flags,
}

impl StoredKey {
    /// Returns the question.
    pub fn asked(&self) -> Asked<'_> {
        Asked { question: &self.question, flags: self.flags }
    }
}

impl From<&Key> for StoredKey {
    fn from(key: &Key) -> Self {
        StoredKey { question: key.question().into(), flags: key.flags() }
    }
}

impl Hash for StoredKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.asked().hash(state);
    }
}

impl Equivalent<StoredKey> for Key {
    fn equivalent(&self, stored: &StoredKey) -> bool {
        self.asked() == stored.asked()
    }
}

/// Question by which a [`StoredKey`] is found. A type of its own, since [`Asked`] is not of this
/// crate.
pub(super) struct Noted<'a>(pub(super) Asked<'a>);

impl Hash for Noted<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Equivalent<StoredKey> for Noted<'_> {
    fn equivalent(&self, stored: &StoredKey) -> bool {
        self.0 == stored.asked()
    }
}
