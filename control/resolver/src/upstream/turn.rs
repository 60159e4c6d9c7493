//! Work left for the end of a turn: workers to be woken.

use ringdns_dataplane::punt::{Link, Punt};
use std::sync::Arc;

/// Work left for the end of a turn, done when this is dropped: a worker is woken once for all its
/// records that came back.
#[derive(Default)]
pub struct Turn {
    links: Vec<Arc<Link>>,
}

impl Turn {
    pub(crate) fn give_back(&mut self, link: &Arc<Link>, record: Box<Punt>) {
        link.give_back(record);
        if !self.links.iter().any(|other| Arc::ptr_eq(other, link)) {
            self.links.push(link.clone());
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.links.iter().for_each(|link| link.wake_worker());
    }
}
