//! Who waits for an answer, and what they are given.

use crate::{resolved::Resolved, upstream::turn::Turn};
use ringdns_dataplane::{
    clock::Secs,
    punt::{Link, Punt, Purpose},
};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Somebody who waits for a flight.
pub enum Waiter {
    /// A worker's client or entry.
    Punt(Arc<Link>, Box<Punt>),
    /// A client of a listener in the control plane.
    Client(oneshot::Sender<Resolved>),
    /// Who renews something: the validation of what is renewed, or a sweep.
    Renewal {
        /// To be given what is newer.
        to: oneshot::Sender<Resolved>,
        /// When that was received which is to be renewed.
        of: Secs,
        /// Whether it may wait for another appliance to renew it. Not so in a validation: somebody may wait for that.
        patient: bool,
    },
}

impl Waiter {
    /// Whether it is a worker that has an expired answer and wants a new one, or none.
    pub(super) fn is_renewal(&self) -> bool {
        match self {
            Waiter::Punt(_, record) => record.purpose == Purpose::Refresh,
            Waiter::Client(_) => false,
            Waiter::Renewal { .. } => true,
        }
    }

    /// Whether it may wait for another appliance to find the answer out.
    pub(super) fn is_patient(&self) -> bool {
        self.is_renewal() && !matches!(self, Waiter::Renewal { patient: false, .. })
    }

    /// When that was received which is to be renewed, if that is known.
    pub(super) fn renews(&self) -> Option<Secs> {
        match self {
            Waiter::Punt(..) | Waiter::Client(_) => None,
            Waiter::Renewal { of, .. } => Some(*of),
        }
    }

    pub(super) fn answer(self, resolved: &Resolved, turn: &mut Turn) {
        match self {
            Waiter::Punt(link, mut record) => {
                record.answer = Some(resolved.answer.clone());
                record.generation = resolved.generation;
                record.known = resolved.known;
                record.source = resolved.source;
                turn.give_back(&link, record);
            }
            // The client has hung up if this fails.
            Waiter::Client(to) | Waiter::Renewal { to, .. } => drop(to.send(resolved.clone())),
        }
    }

    /// Ends the wait of a renewal without an answer.
    pub(super) fn leave(self, turn: &mut Turn) {
        if let Waiter::Punt(link, record) = self {
            turn.give_back(&link, record);
        }
    }
}
