//! Keys of the store, and entries as a walk sees them.

use super::{Entry, packed::Packed};
use ringdns_dataplane::{
    clock::Secs,
    dns::key::{Asked, Flags, Key},
};

/// [`Key`] in no more memory than its name needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoredKey {
    pub(super) question: Box<[u8]>,
    pub(super) flags: Flags,
}

impl StoredKey {
    /// Returns the question.
    pub fn asked(&self) -> Asked<'_> {
        Asked { question: &self.question, flags: self.flags }
    }

    /// Returns the key of an entry.
    pub(super) fn of(entry: Packed<'_>) -> Self {
        StoredKey { question: (&*entry.question()).into(), flags: entry.flags() }
    }
}

impl From<&Key> for StoredKey {
    fn from(key: &Key) -> Self {
        StoredKey { question: key.question().into(), flags: key.flags() }
    }
}

/// Entry that a walk sees, in its compact form.
#[derive(Clone, Copy)]
pub struct Seen<'a>(pub(super) Packed<'a>);

impl Seen<'_> {
    /// Returns the time at which the answer expires.
    pub fn expires(&self) -> Secs {
        self.0.ends().map_or(0, |(expires, _)| expires)
    }

    /// Returns the time from which the answer may no longer be given out, even as a stale one.
    pub fn dead(&self) -> Secs {
        self.0.ends().map_or(0, |(_, dead)| dead)
    }

    /// Returns the key.
    pub fn key(&self) -> StoredKey {
        StoredKey::of(self.0)
    }

    /// Returns a copy of the entry.
    pub fn entry(&self) -> Option<Entry> {
        self.0.entry()
    }
}
