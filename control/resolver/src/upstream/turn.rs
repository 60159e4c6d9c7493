//! Work that waits for the end of a turn: queries to be sent, workers to be woken.

use crate::upstream::Upstream;
use ringdns_dataplane::punt::{Link, Punt};
use std::sync::Arc;

/// What is left for the end of a turn of work, when it is dropped: queries are sent many at a time, and a worker is woken once
/// for all its records that came back.
#[derive(Default)]
pub struct Turn {
    upstreams: Vec<Arc<Upstream>>,
    links: Vec<Arc<Link>>,
}

impl Turn {
    /// There are queries to be sent to it.
    pub(super) fn sends_to(&mut self, upstream: &Arc<Upstream>) {
        self.upstreams.push(upstream.clone());
    }

    pub(crate) fn give_back(&mut self, link: &Arc<Link>, record: Box<Punt>) {
        link.give_back(record);
        if !self.links.iter().any(|other| Arc::ptr_eq(other, link)) {
            self.links.push(link.clone());
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // What cannot be sent may have to be sent to others.
        while let Some(upstream) = self.upstreams.pop() {
            upstream.sockets.flush(&upstream, self);
        }
        self.links.iter().for_each(|link| link.wake_worker());
    }
}
