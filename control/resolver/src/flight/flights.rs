//! Questions in flight: each is resolved once, for all its waiters.

use super::{
    FlightLimits, Waiter, pacing,
    shares::{self, Cells, Claim, Greedy, Share, Shares},
};
use crate::host::StoredKey;
use crate::{resolved::Resolved, upstream::turn::Turn};
use parking_lot::Mutex;
use quick_cache::DefaultHashBuilder;
use ringdns_dataplane::{
    clock::Nanos,
    dns::{answer::Answer, key::Key},
};
use std::{
    collections::{HashMap, hash_map},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;

/// Renewals may be one in this many of the questions in flight; clients' questions may be all.
const RENEWAL_SHARE: usize = 4;

/// Questions in flight.
pub struct Flights {
    waiting: Mutex<Waiting>,
    shares: Arc<Shares>,
    limits: FlightLimits,
}

#[derive(Default)]
struct Waiting {
    /// Waiters by question. The hash key is drawn anew in each process, as in the host tier:
    /// clients choose names.
    flights: HashMap<Flight, FlightSeats, DefaultHashBuilder>,
    /// Number of questions that took off for a renewal.
    renewals: usize,
}

/// Waiters for a question in flight.
#[derive(Default)]
struct FlightSeats {
    seats: Vec<Seat>,
    /// Whether the question took off for a renewal.
    renewal: bool,
    /// Notified when a waiter joins that is not patient.
    hurry: Option<Arc<Notify>>,
}

/// Waiter with the place that it holds.
pub struct Seat {
    pub waiter: Waiter,
    share: Share,
}

impl Seat {
    /// Delivers an answer that the waiter has waited for until `now`. A client over UDP does not get
    /// it if that would be too late, or too much for the client. Returns the number of bytes that
    /// such a client is sent.
    pub fn answer(mut self, resolved: &Resolved, now: Nanos, turn: &mut Turn) -> usize {
        let mut bytes = 0;
        if let Waiter::Punt(_, record) = &mut self.waiter {
            bytes = self.share.pace(record, &resolved.answer, now);
        }
        self.waiter.answer(resolved, turn);
        bytes
    }

    /// Returns the number of bytes that a client over UDP would be sent with an answer.
    pub fn bytes(&self, answer: &Answer) -> usize {
        self.waiter.record().map_or(0, |(_, record)| pacing::bytes(record, answer))
    }

    /// Returns the counters of the client, if one waits over UDP.
    pub fn datagram_client(&self) -> Option<Cells> {
        self.waiter.record().and_then(|_| self.share.client())
    }
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
    /// A new question is in flight, and the caller is to find its answer within this time.
    TakeOff(Flight, Duration),
    /// The question was in flight, and the waiter has joined it.
    Joined,
    /// The question has just landed, with this answer.
    Landed(Option<Waiter>, Resolved),
    /// Too many questions are in flight.
    NoFlight(Option<Waiter>),
    /// The question in flight has too many waiters.
    NoSeat(Option<Waiter>),
    /// The client or the zone of the question holds its share.
    NoShare(Option<Waiter>, Greedy),
}

impl Flights {
    /// Returns a table without questions in flight, whose waiters take places of `shares`.
    pub fn new(limits: FlightLimits, shares: Arc<Shares>) -> Self {
        Flights { waiting: Mutex::default(), shares, limits }
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
        let claim = waiter.as_ref().map(|waiter| self.shares.claim(waiter, key));
        let check = |free| claim.as_ref().map_or(Ok(()), |claim| self.shares.check(claim, free));
        let mut waiting = self.waiting.lock();
        let Waiting { flights, renewals } = &mut *waiting;
        let free = self.limits.flights.saturating_sub(flights.len());
        match flights.entry(Flight { key: StoredKey::from(key), generation }) {
            hash_map::Entry::Occupied(mut flight) => {
                let seats = flight.get_mut();
                if seats.seats.len() >= self.limits.waiters {
                    return Boarding::NoSeat(waiter);
                }
                if let Err(greedy) = check(None) {
                    return Boarding::NoShare(waiter, greedy);
                }
                seats.seats.extend(self.seat(waiter, claim));
                if let Some(hurry) = seats.hurry.as_ref().filter(|_| !patient) {
                    hurry.notify_one();
                }
                Boarding::Joined
            }
            hash_map::Entry::Vacant(vacant) => {
                if let Some(resolved) = landed() {
                    return Boarding::Landed(waiter, resolved);
                }
                if free == 0 || renewal && *renewals >= (self.limits.flights / RENEWAL_SHARE).max(1) {
                    return Boarding::NoFlight(waiter);
                }
                if let Err(greedy) = check(Some(free)) {
                    return Boarding::NoShare(waiter, greedy);
                }
                *renewals += usize::from(renewal);
                let time = shares::time(claim.as_ref(), free, self.limits.flights);
                let flight = vacant.key().clone();
                let seats = self.seat(waiter, claim).into_iter().collect();
                vacant.insert(FlightSeats { seats, renewal, hurry: None });
                Boarding::TakeOff(flight, time)
            }
        }
    }

    fn seat(&self, waiter: Option<Waiter>, claim: Option<Claim>) -> Option<Seat> {
        waiter.zip(claim).map(|(waiter, claim)| Seat { waiter, share: self.shares.take(claim) })
    }

    /// Ends a question in flight, and returns its waiters.
    pub fn land(&self, flight: &Flight) -> Vec<Seat> {
        let mut waiting = self.waiting.lock();
        let landed = waiting.flights.remove(flight).unwrap_or_default();
        waiting.renewals -= usize::from(landed.renewal);
        landed.seats
    }

    /// Returns the notification that a waiter without an answer has joined. `None`: there is such a
    /// waiter already, or the question has landed.
    pub fn patient(&self, flight: &Flight) -> Option<Arc<Notify>> {
        let mut waiting = self.waiting.lock();
        let seats = waiting.flights.get_mut(flight)?;
        let patient = seats.seats.iter().all(|seat| seat.waiter.is_patient());
        patient.then(|| seats.hurry.get_or_insert_default().clone())
    }

    /// Removes the waiters that match `want`; the question stays in flight.
    pub fn leave(&self, flight: &Flight, want: impl Fn(&Waiter) -> bool) -> Vec<Seat> {
        let mut waiting = self.waiting.lock();
        let Some(FlightSeats { seats, .. }) = waiting.flights.get_mut(flight) else { return Vec::new() };
        seats.extract_if(.., |seat| want(&seat.waiter)).collect()
    }

    /// Returns the number of questions in flight.
    pub fn len(&self) -> usize {
        self.waiting.lock().flights.len()
    }
}
