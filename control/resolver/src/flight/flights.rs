//! Questions under way: one flight each, with everybody who waits for it.

use super::{Limits, Waiter};
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

/// Renewals leave three quarters of the flights to questions that somebody waits for.
const RENEWAL_SHARE: usize = 4;

/// The flights under way.
pub struct Flights {
    /// Hashed by a key drawn anew in each process, as the host tier is: names are chosen by whoever asks.
    waiting: Mutex<HashMap<Flight, Seats, DefaultHashBuilder>>,
    limits: Limits,
}

/// Who waits for a flight.
#[derive(Default)]
struct Seats {
    waiters: Vec<Waiter>,
    /// To be told when somebody joins who is in a hurry.
    hurry: Option<Arc<Notify>>,
}

/// The right and duty to find an answer, and to [`Flights::land`] with it.
///
/// The generation is part of it: who asks after a purge does not join a flight that took off before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flight {
    key: StoredKey,
    generation: u64,
}

impl Flight {
    /// The cache generation at take-off.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// What came of boarding.
pub enum Boarding {
    /// The caller is to find the answer.
    TakeOff(Flight),
    /// A flight is under way, and the waiter in it.
    Joined,
    /// One has just landed.
    Landed(Option<Waiter>, Resolved),
    /// Too many flights are under way.
    NoFlight(Option<Waiter>),
    /// The flight is full.
    NoSeat(Option<Waiter>),
}

impl Flights {
    /// None under way.
    pub fn new(limits: Limits) -> Self {
        Flights { waiting: Mutex::default(), limits }
    }

    /// Puts `waiter`, if there is one, into the flight for `key`, and starts that if there is none and nothing has
    /// `landed` either.
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
                vacant.insert(Seats { waiters: waiter.into_iter().collect(), hurry: None });
                Boarding::TakeOff(flight)
            }
        }
    }

    /// Ends a flight, and returns who waited for it.
    pub fn land(&self, flight: &Flight) -> Vec<Waiter> {
        self.waiting.lock().remove(flight).unwrap_or_default().waiters
    }

    /// What tells a flight that is in no hurry when it has to be. `None`: it has, for somebody waits who does not have an answer yet.
    pub fn patient(&self, flight: &Flight) -> Option<Arc<Notify>> {
        let mut waiting = self.waiting.lock();
        let seats = waiting.get_mut(flight)?;
        let patient = seats.waiters.iter().all(Waiter::is_patient);
        patient.then(|| seats.hurry.get_or_insert_default().clone())
    }

    /// Takes those out of a flight who `want` to leave it; it goes on.
    pub fn leave(&self, flight: &Flight, want: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
        let mut waiting = self.waiting.lock();
        let seats = waiting.get_mut(flight);
        seats.map_or_else(Vec::new, |seats| seats.waiters.extract_if(.., |waiter| want(waiter)).collect())
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.waiting.lock().len()
    }
}
