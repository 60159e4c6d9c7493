//! Names that do not exist: an NXDOMAIN holds for every type of its name (RFC 2308 section 5).

use super::store::Store;
use arrayvec::ArrayVec;
use ringdns_dataplane::{
    clock::Secs,
    dns::{
        QUESTION_MAX,
        answer::Answer,
        header,
        key::{Asked, Flags, Key},
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
    names: Store,
    /// Whether an authentic NXDOMAIN was ever stored. Few appliances without validation see one.
    any_secure: AtomicBool,
}

impl AbsentNames {
    /// Returns a store of `bytes`.
    pub fn new(bytes: u64) -> Self {
        // Evictions are not counted: the answers are in the host cache too.
        AbsentNames { names: Store::new(bytes, Box::new(|_| {})), any_secure: AtomicBool::new(false) }
    }

    /// Changes the most bytes of the store.
    pub fn set_capacity(&self, bytes: u64) {
        self.names.set_capacity(bytes);
    }

    /// Takes note of an answer that is being stored for a question: the name does not exist, or it
    /// does after all.
    pub fn learn(&self, key: &Key, answer: &Answer) {
        if key.asked().qtype() == rtype::DS {
            return;
        }
        if denies_name(answer) {
            if is_secure(answer) {
                self.any_secure.store(true, Relaxed);
            }
            self.names.insert(by_name(key).asked(), answer);
        } else if !answer.status.is_failure() {
            self.forget(key);
        }
    }

    /// Removes the name of a question.
    pub fn forget(&self, key: &Key) {
        if self.names.len() > 0 {
            self.names.remove_if(by_name(key).asked(), |_| true);
        }
    }

    /// Returns a fresh NXDOMAIN for the name of a question.
    pub fn get(&self, key: &Key, now: Secs) -> Option<Arc<Answer>> {
        // The parent answers for DS, perhaps at another upstream (RFC 4035 section 2.4).
        if self.names.len() == 0 || key.asked().qtype() == rtype::DS {
            return None;
        }
        self.find(by_name(key).asked(), now)
    }

    /// Returns a fresh answer.
    fn find(&self, asked: Asked<'_>, now: Secs) -> Option<Arc<Answer>> {
        let found = self.names.get(asked, now, |_| false)?;
        Some(found.answer).filter(|answer| now < answer.expires())
    }

    /// Returns a fresh NXDOMAIN for a name above that of a question, and that name; `secure`: only one
    /// that was validated.
    pub fn above<'a>(&self, key: &'a Key, secure: bool, now: Secs) -> Option<(&'a [u8], Arc<Answer>)> {
        let is_empty = if secure { !self.any_secure.load(Relaxed) } else { self.names.len() == 0 };
        if is_empty || key.asked().qtype() == rtype::DS {
            return None;
        }
        let (name, stored) = (key.asked().name(), by_name(key));
        let mut at = 0;
        loop {
            at += 1 + usize::from(*name.get(at)?);
            // The root exists.
            name.get(at).filter(|len| **len > 0)?;
            let found = self.find(Asked { question: stored.question.get(at..)?, flags: stored.flags }, now);
            let found = found.filter(|answer| !secure || is_secure(answer));
            if let Some(answer) = found {
                return Some((name.get(at..)?, answer));
            }
        }
    }

    /// Removes the names that `covered` tells.
    pub fn purge(&self, covered: impl Fn(&[u8]) -> bool) {
        self.names.retain(|asked| !covered(asked.name()));
    }

    /// Returns the bytes in use.
    pub fn bytes(&self) -> u64 {
        self.names.bytes()
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

/// Key of a name, for all types.
struct NameKey {
    question: ArrayVec<u8, QUESTION_MAX>,
    flags: Flags,
}

impl NameKey {
    fn asked(&self) -> Asked<'_> {
        Asked { question: &self.question, flags: self.flags }
    }
}

/// Returns the key of a question's name.
fn by_name(key: &Key) -> NameKey {
    let Asked { question, flags } = key.asked();
    let mut any: ArrayVec<u8, QUESTION_MAX> = question.iter().copied().take(QUESTION_MAX).collect();
    if let Some([t1, t0, _, _]) = any.last_chunk_mut() {
        [*t1, *t0] = ANY_TYPE;
    }
    NameKey { question: any, flags }
}
