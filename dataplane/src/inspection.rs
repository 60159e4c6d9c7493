//! Inspection of a worker's cache by the control plane: what it has for a question, without an effect on
//! what it keeps.

use crate::{clock::Secs, dns::key::Key, group::Group};
use crossbeam_queue::ArrayQueue;

/// Entry of a worker's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Time at which the answer was received.
    pub received: Secs,
    /// Time at which it expires.
    pub expires: Secs,
    /// Time from which it is not given out, not even expired.
    pub dead: Secs,
    /// Response code.
    pub rcode: u8,
    /// Number of the list that gave the answer.
    pub list: Option<u8>,
    /// Whether a purge covers the answer, so that it is not given out.
    pub is_purged: bool,
}

/// Question about a worker's cache, and on the way back the answer.
#[derive(Debug)]
pub struct Inspection {
    /// Question of a client.
    pub key: Key,
    /// Group of the client.
    pub group: Group,
    /// Entry that the client would get, once the worker has looked.
    pub found: Option<Inspected>,
}

/// Place in which the control plane puts a question, and the worker the answer.
#[derive(Debug)]
pub struct InspectionDesk {
    asked: ArrayQueue<Box<Inspection>>,
    answered: ArrayQueue<Box<Inspection>>,
}

impl Default for InspectionDesk {
    fn default() -> Self {
        InspectionDesk { asked: ArrayQueue::new(1), answered: ArrayQueue::new(1) }
    }
}

impl InspectionDesk {
    /// Control plane: asks. Returns false if the worker has not yet answered an earlier question.
    pub fn ask(&self, inspection: Box<Inspection>) -> bool {
        // An answer that nobody has waited for.
        drop(self.answered.pop());
        self.asked.push(inspection).is_ok()
    }

    /// Control plane: takes the answer to the question about `key` for `group`, once it is there.
    pub fn collect(&self, key: &Key, group: Group) -> Option<Box<Inspection>> {
        let answer = self.answered.pop()?;
        (answer.key.asked() == key.asked() && answer.group == group).then_some(answer)
    }

    /// Worker: answers a question, if there is one.
    pub fn serve(&self, inspect: impl FnOnce(&Key, Group) -> Option<Inspected>) {
        let Some(mut inspection) = self.asked.pop() else { return };
        inspection.found = inspect(&inspection.key, inspection.group);
        // An answer that nobody has taken in time makes room.
        drop(self.answered.force_push(inspection));
    }
}
