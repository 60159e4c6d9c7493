//! Questions in flight: each is resolved once, for all its waiters.

use super::{FlightLimits, Waiter};
use crate::host::StoredKey;
use crate::resolved::Resolved;
use parking_lot::Mutex;
use quick_cache::DefaultHashBuilder;
use ringdns_dataplane::dns::key::Key;
use std::{
    collections::{HashMap, hash_map},
    sync::Arc,
};
use tokio::sync::Notify;

/// Renewals may use one in this many of the questions in flight; clients' questions may use all.
const RENEWAL_SHARE: usize = 4;

/// Questions in flight.
pub struct Flights {
    /// Waiters by question. The hash key is drawn anew in each process, as in the host tier:
    /// clients choose names.
    waiting: Mutex<HashMap<Flight, FlightSeats, DefaultHashBuilder>>,
    limits: FlightLimits,
}

/// Waiters for a question in flight.
#[derive(Default)]
struct FlightSeats {
    waiters: Vec<Waiter>,
    /// Notified when a waiter joins that is not patient.
    hurry: Option<Arc<Notify>>,
}

/// Question in flight: the right and duty to find its answer, and to [`Flights::land`] with it.
///
/// The generation is part of it: a client that asks after a purge does not join a question that was
/// in flight before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flight {
    key: StoredKey,
    generation: u64,
}

impl Flight {
    /// Returns the cache generation at the time the question took off.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// Result of boarding.
pub enum Boarding {
    /// A new question is in flight, and the caller is to find its answer.
    TakeOff(Flight),
    /// The question was in flight, and the waiter has joined it.
    Joined,
    /// The question has just landed, with this answer.
    Landed(Option<Waiter>, Resolved),
    /// Too many questions are in flight.
    NoFlight(Option<Waiter>),
    /// The question in flight has too many waiters.
    NoSeat(Option<Waiter>),
}

impl Flights {
    /// Returns a table without questions in flight.
    pub fn new(limits: FlightLimits) -> Self {
        Flights { waiting: Mutex::default(), limits }
    }

    /// Adds `waiter`, if there is one, to the question in flight for `key`. If the question is not
    /// in flight and `landed` has no answer either, puts it in flight.
    pub fn board(
        &self,
        key: &Key,
        generation: u64,
        waiter: Option<Waiter>,
        renewal: bool,
        landed: impl FnOnce() -> Option<Resolved>,
    ) -> Boarding {
        let patient = waiter.as_ref().is_none_or(Waiter::is_patient);
        let mut waiting = self.waiting.lock();
        let under_way = waiting.len();
        match waiting.entry(Flight { key: StoredKey::from(key), generation }) {
            hash_map::Entry::Occupied(mut flight) => {
                let seats = flight.get_mut();
                if seats.waiters.len() >= self.limits.waiters {
                    return Boarding::NoSeat(waiter);
                }
                seats.waiters.extend(waiter);
                if let Some(hurry) = seats.hurry.as_ref().filter(|_| !patient) {
                    hurry.notify_one();
                }
                Boarding::Joined
            }
            hash_map::Entry::Vacant(vacant) => {
                if let Some(resolved) = landed() {
                    return Boarding::Landed(waiter, resolved);
                }
                let most = if renewal { self.limits.flights / RENEWAL_SHARE } else { self.limits.flights };
                if under_way >= most.max(1) {
                    return Boarding::NoFlight(waiter);
                }
                let flight = vacant.key().clone();
                vacant.insert(FlightSeats { waiters: waiter.into_iter().collect(), hurry: None });
                Boarding::TakeOff(flight)
            }
        }
    }

    /// Ends a question in flight, and returns its waiters.
    pub fn land(&self, flight: &Flight) -> Vec<Waiter> {
        self.waiting.lock().remove(flight).unwrap_or_default().waiters
    }

    /// Returns the notification that a waiter without an answer has joined. `None`: there is such a
    /// waiter already, or the question has landed.
    pub fn patient(&self, flight: &Flight) -> Option<Arc<Notify>> {
        let mut waiting = self.waiting.lock();
        let seats = waiting.get_mut(flight)?;
        let patient = seats.waiters.iter().all(Waiter::is_patient);
        patient.then(|| seats.hurry.get_or_insert_default().clone())
    }

    /// Removes the waiters that match `want`; the question stays in flight.
    pub fn leave(&self, flight: &Flight, want: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
        let mut waiting = self.waiting.lock();
        let seats = waiting.get_mut(flight);
        seats.map_or_else(Vec::new, |seats| seats.waiters.extract_if(.., |waiter| want(waiter)).collect())
    }

    /// Returns the number of questions in flight.
    pub fn len(&self) -> usize {
        self.waiting.lock().len()
    }
}
