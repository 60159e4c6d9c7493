//! Work left for the end of a turn: queries to be sent, workers to be woken.

use crate::upstream::Upstream;
use ringdns_dataplane::punt::{Link, Punt};
use std::sync::Arc;

/// Work left for the end of a turn, done when this is dropped: queries are sent many at a time, and
/// a worker is woken once for all its records that came back.
#[derive(Default)]
pub struct Turn {
    upstreams: Vec<Arc<Upstream>>,
    links: Vec<Arc<Link>>,
}

impl Turn {
    /// Notes that queries to `upstream` are to be sent.
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
        // Queries that cannot be sent may have to be sent to other upstreams.
        while let Some(upstream) = self.upstreams.pop() {
            upstream.sockets.flush(&upstream, self);
        }
        self.links.iter().for_each(|link| link.wake_worker());
    }
}
