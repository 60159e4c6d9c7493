//! Waiters for an answer, and the delivery of the answer to them.

use crate::{
    resolved::{Resolved, Transport},
    upstream::turn::Turn,
};
use ringdns_dataplane::{
    clock::Secs,
    punt::{Link, Punt, Purpose},
    stats::Counter as WorkerCounter,
};
use std::{net::IpAddr, sync::Arc};
use tokio::sync::oneshot;

/// Waiter for a question in flight.
pub enum Waiter {
    /// Punt of a worker, for a client or to renew an entry.
    Punt(Arc<Link>, Box<Punt>),
    /// Client of a listener in the control plane, or another question that waits for this one.
    Client {
        /// Receiver of the answer.
        to: oneshot::Sender<Resolved>,
        /// Address of the client; `None`: another question waits.
        address: Option<IpAddr>,
    },
    /// Renewal, for the validation of an answer to be renewed or for a sweep.
    Renewal {
        /// Receiver of the newer answer.
        to: oneshot::Sender<Resolved>,
        /// Time at which the answer to be renewed was received.
        of: Secs,
        /// Whether it may wait for another appliance to renew the answer. A validation may not: a
        /// client may wait for it.
        patient: bool,
    },
}

impl Waiter {
    /// Whether the waiter has an answer already and wants a newer one.
    pub(super) fn is_renewal(&self) -> bool {
        match self {
            Waiter::Punt(_, record) => record.purpose == Purpose::Refresh,
            Waiter::Client { .. } => false,
            Waiter::Renewal { .. } => true,
        }
    }

    /// Whether a client or a worker waits, and not another question.
    pub(super) fn is_client(&self) -> bool {
        matches!(self, Waiter::Punt(..) | Waiter::Client { address: Some(_), .. })
    }

    /// Whether it may wait for another appliance to find the answer.
    pub(super) fn is_patient(&self) -> bool {
        self.is_renewal() && !matches!(self, Waiter::Renewal { patient: false, .. })
    }

    /// Returns the address of the client that waits, if one does.
    pub(super) fn client(&self) -> Option<IpAddr> {
        match self {
            Waiter::Punt(_, record) => Some(record.client()?.ip()),
            Waiter::Client { address, .. } => *address,
            Waiter::Renewal { .. } => None,
        }
    }

    /// Returns the record that waits, and its worker's link, if one does.
    pub(super) fn record(&self) -> Option<(&Arc<Link>, &Punt)> {
        match self {
            Waiter::Punt(link, record) => Some((link, record)),
            Waiter::Client { .. } | Waiter::Renewal { .. } => None,
        }
    }

    /// Returns the time at which the answer to be renewed was received, if that is known.
    pub(super) fn renews(&self) -> Option<Secs> {
        match self {
            Waiter::Punt(..) | Waiter::Client { .. } => None,
            Waiter::Renewal { of, .. } => Some(*of),
        }
    }

    pub(super) fn answer(self, resolved: &Resolved, turn: &mut Turn) {
        match self {
            Waiter::Punt(link, mut record) => {
                let resolved = resolved.for_client(record.group, Transport::Udp);
                record.answer = (!resolved.is_withheld).then_some(resolved.answer);
                record.generation = resolved.generation;
                record.known = resolved.known;
                record.source = resolved.source;
                record.groups = resolved.groups;
                if resolved.is_withheld && matches!(record.purpose, Purpose::Answer(_)) {
                    record.purpose = Purpose::Withheld(WorkerCounter::PuntBlocked);
                }
                turn.give_back(&link, record);
            }
            // Sending fails if the client has hung up.
            Waiter::Client { to, .. } | Waiter::Renewal { to, .. } => drop(to.send(resolved.clone())),
        }
    }

    /// Ends the wait of a renewal without an answer.
    pub(super) fn leave(self, turn: &mut Turn) {
        if let Waiter::Punt(link, record) = self {
            turn.give_back(&link, record);
        }
    }
}
