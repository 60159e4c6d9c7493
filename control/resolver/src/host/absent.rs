//! Names that do not exist: an NXDOMAIN holds for every type of its name (RFC 2308 section 5).

use super::{EntryWeight, StoredKey};
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter, sync::Cache};
use ringdns_dataplane::{
    clock::Secs,
    dns::{
        answer::Answer,
        key::{Asked, Key},
        rcode, rtype,
    },
};
use std::sync::Arc;

/// Type under which a name is kept: reserved, so that no question has it (RFC 6895 section 3.1).
const ANY_TYPE: [u8; 2] = [0, 0];

/// NXDOMAIN answers by name, class and flags.
pub(super) struct AbsentNames(Cache<StoredKey, Arc<Answer>, AbsentWeight, DefaultHashBuilder, Silent>);

impl AbsentNames {
    /// Returns a store of `bytes`.
    pub fn new(bytes: u64) -> Self {
        let items = usize::try_from(bytes / super::TYPICAL_BYTES).unwrap_or(usize::MAX).max(16);
        AbsentNames(Cache::with(items, bytes, AbsentWeight, DefaultHashBuilder::default(), Silent))
    }

    /// Takes note of an answer that is being stored for a question: the name does not exist, or it
    /// does after all.
    pub fn learn(&self, key: &Key, answer: &Arc<Answer>) {
        if key.asked().qtype() == rtype::DS {
            return;
        }
        if denies_name(answer) {
            self.0.insert(by_name(key), answer.clone());
        } else if !answer.status.is_failure() {
            self.forget(key);
        }
    }

    /// Removes the name of a question.
    pub fn forget(&self, key: &Key) {
        if !self.0.is_empty() {
            self.0.remove(&by_name(key));
        }
    }

    /// Returns a fresh NXDOMAIN for the name of a question.
    pub fn get(&self, key: &Key, now: Secs) -> Option<Arc<Answer>> {
        // The parent answers for DS, perhaps at another upstream (RFC 4035 section 2.4).
        if self.0.is_empty() || key.asked().qtype() == rtype::DS {
            return None;
        }
        self.0.get(&by_name(key)).filter(|answer| now < answer.expires())
    }

    /// Removes the names that `covered` tells.
    pub fn purge(&self, covered: impl Fn(&StoredKey) -> bool) {
        self.0.retain(|key, _| !covered(key));
    }

    /// Returns the bytes in use.
    pub fn bytes(&self) -> u64 {
        self.0.weight()
    }
}

/// Whether an answer says that the very name of the question does not exist. With aliases in it, it
/// says so of their target (RFC 6604 section 3).
fn denies_name(answer: &Answer) -> bool {
    answer.status.rcode() == rcode::NXDOMAIN && answer.counts[0] == 0
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
