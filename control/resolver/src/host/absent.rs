//! Names that do not exist: an NXDOMAIN holds for every type of its name (RFC 2308 section 5).

use super::{EntryWeight, Noted, StoredKey};
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter, sync::Cache};
use ringdns_dataplane::{
    clock::Secs,
    dns::{
        answer::Answer,
        header,
        key::{Asked, Key},
        rcode, rtype,
    },
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// Type under which a name is kept: reserved, so that no question has it (RFC 6895 section 3.1).
const ANY_TYPE: [u8; 2] = [0, 0];

/// NXDOMAIN answers by name, class and flags.
pub(super) struct AbsentNames {
    names: Cache<StoredKey, Arc<Answer>, AbsentWeight, DefaultHashBuilder, Silent>,
    /// Whether an authentic NXDOMAIN was ever stored. Few appliances without validation see one.
    any_secure: AtomicBool,
}

impl AbsentNames {
    /// Returns a store of `bytes`.
    pub fn new(bytes: u64) -> Self {
        let items = usize::try_from(bytes / super::TYPICAL_BYTES).unwrap_or(usize::MAX).max(16);
        let names = Cache::with(items, bytes, AbsentWeight, DefaultHashBuilder::default(), Silent);
        AbsentNames { names, any_secure: AtomicBool::new(false) }
    }

    /// Changes the most bytes of the store.
    pub fn set_capacity(&self, bytes: u64) {
        self.names.set_capacity(bytes);
    }

    /// Takes note of an answer that is being stored for a question: the name does not exist, or it
    /// does after all.
    pub fn learn(&self, key: &Key, answer: &Arc<Answer>) {
        if key.asked().qtype() == rtype::DS {
            return;
        }
        if denies_name(answer) {
            if is_secure(answer) {
                self.any_secure.store(true, Relaxed);
            }
            self.names.insert(by_name(key), answer.clone());
        } else if !answer.status.is_failure() {
            self.forget(key);
        }
    }

    /// Removes the name of a question.
    pub fn forget(&self, key: &Key) {
        if !self.names.is_empty() {
            self.names.remove(&by_name(key));
        }
    }

    /// Returns a fresh NXDOMAIN for the name of a question.
    pub fn get(&self, key: &Key, now: Secs) -> Option<Arc<Answer>> {
        // The parent answers for DS, perhaps at another upstream (RFC 4035 section 2.4).
        if self.names.is_empty() || key.asked().qtype() == rtype::DS {
            return None;
        }
        self.names.get(&by_name(key)).filter(|answer| now < answer.expires())
    }

    /// Returns a fresh NXDOMAIN for a name above that of a question, and that name; `secure`: only one
    /// that was validated.
    pub fn above<'a>(&self, key: &'a Key, secure: bool, now: Secs) -> Option<(&'a [u8], Arc<Answer>)> {
        let is_empty = if secure { !self.any_secure.load(Relaxed) } else { self.names.is_empty() };
        if is_empty || key.asked().qtype() == rtype::DS {
            return None;
        }
        let (name, stored) = (key.asked().name(), by_name(key));
        let mut at = 0;
        loop {
            at += 1 + usize::from(*name.get(at)?);
            // The root exists.
            name.get(at).filter(|len| **len > 0)?;
            let noted = Noted(Asked { question: stored.question.get(at..)?, flags: stored.flags });
            let found = self.names.get(&noted);
            let found = found.filter(|answer| now < answer.expires() && (!secure || is_secure(answer)));
            if let Some(answer) = found {
                return Some((name.get(at..)?, answer));
            }
        }
    }

    /// Removes the names that `covered` tells.
    pub fn purge(&self, covered: impl Fn(&StoredKey) -> bool) {
        self.names.retain(|key, _| !covered(key));
    }

    /// Returns the bytes in use.
    pub fn bytes(&self) -> u64 {
        self.names.weight()
    }
}

/// Whether an answer says that the very name of the question does not exist. With aliases in it, it
/// says so of their target (RFC 6604 section 3).
fn denies_name(answer: &Answer) -> bool {
    answer.status.rcode() == rcode::NXDOMAIN && answer.counts[0] == 0
}

/// Whether the answer was validated, here or by an upstream that is trusted to do so.
fn is_secure(answer: &Answer) -> bool {
    answer.status.flags() & header::AD != 0
}

/// Returns the key of a question's name.
fn by_name(key: &Key) -> StoredKey {
    let Asked { question, flags } = key.asked();
    let mut question: Box<[u8]> = question.into();
    let at = question.len() - 4;
    question[at..at + 2].copy_from_slice(&ANY_TYPE);
    StoredKey { question, flags }
}

#[derive(Clone)]
struct AbsentWeight;

impl Weighter<StoredKey, Arc<Answer>> for AbsentWeight {
    fn weight(&self, key: &StoredKey, answer: &Arc<Answer>) -> u64 {
        EntryWeight::of(key, answer)
    }
}

/// Evictions are not counted: the answers are in the host cache too.
#[derive(Clone)]
struct Silent;

impl Lifecycle<StoredKey, Arc<Answer>> for Silent {
    type RequestState = ();
    fn on_evict(&self, (): &mut (), _: StoredKey, _: Arc<Answer>) {}
}
