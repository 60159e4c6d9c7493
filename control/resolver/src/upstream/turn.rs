//! Work left for the end of a turn: queries to be sent, workers to be woken.

use ringdns_dataplane::punt::{Link, Punt};
use std::{mem, sync::Arc};

/// Most queries that wait for the end of a turn.
const DEPARTURES_MAX: usize = 64;

/// Work left for the end of a turn, done when this is dropped.
///
/// - A worker is woken once for all its records that came back.
/// - Queries leave one after the other: an upstream on this host is then woken once, and finds several
///   when it looks, rather than being woken for each.
#[derive(Default)]
pub struct Turn {
    links: Vec<Arc<Link>>,
    departures: Vec<Box<dyn Departure>>,
}

/// Query that is ready to be sent.
pub(crate) trait Departure: Send {
    /// Sends the query.
    fn depart(self: Box<Self>, turn: &mut Turn);
}

impl Turn {
    pub(crate) fn give_back(&mut self, link: &Arc<Link>, record: Box<Punt>) {
        link.give_back(record);
        if !self.links.iter().any(|other| Arc::ptr_eq(other, link)) {
            self.links.push(link.clone());
        }
    }

    /// Sends a query at the end of the turn, or before if many wait.
    pub(crate) fn send(&mut self, departure: Box<dyn Departure>) {
        self.departures.push(departure);
        if self.departures.len() >= DEPARTURES_MAX {
            self.depart();
        }
    }

    fn depart(&mut self) {
        for departure in mem::take(&mut self.departures) {
            departure.depart(self);
        }
    }

    fn wake(&mut self) {
        self.links.drain(..).for_each(|link| link.wake_worker());
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.wake();
        // A query that cannot be sent is followed by one to another upstream, or by a failure.
        while !self.departures.is_empty() {
            self.depart();
        }
        self.wake();
    }
}
