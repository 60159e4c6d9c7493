//! Landing of questions in flight: the answer is put into the host tier, and waiters are answered.

use super::{Lane, Resolver, flights::Flight, inquiry, setup::ResolverSetup};
use crate::{
    resolved::Resolved,
    tier::SharedState,
    upstream::{Failed, choice::Upstreams, exchange::JudgeRules, turn::Turn},
    watch::{self, AddressWatch},
};
use parking_lot::Mutex;
use ringdns_dataplane::{
    clock::Clock,
    dns::{answer::Answer, key::Key},
    log::AnswerSource,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// Landing of a question in flight.
pub(super) struct Landing {
    pub(super) resolver: Arc<Resolver>,
    /// Configuration at the time the question took off.
    pub(super) setup: Arc<ResolverSetup>,
    pub(super) key: Key,
    /// Lane of the question.
    pub(super) lane: Lane,
    /// Time for the question.
    pub(super) time: Duration,
    /// State of the question in the shared tier.
    pub(super) shared: Mutex<SharedState>,
}

impl Landing {
    pub(super) fn upstreams(&self) -> &Upstreams {
        &self.setup.upstreams
    }

    /// Whether the question has less than all the time, because little is free. Then silence says
    /// nothing about it, nor about an upstream that had no time to answer.
    pub(super) fn is_hasty(&self) -> bool {
        self.time < inquiry::TOTAL
    }

    pub(super) fn rules(&self) -> &JudgeRules {
        &self.resolver.rules
    }

    pub(super) fn clock(&self) -> Clock {
        self.resolver.clock()
    }

    /// Puts the answer of `source` into the host tier, and answers the waiters, once firewalls know its
    /// addresses. `share`: the answer may be stored in the fleet's tier too.
    pub(super) fn land(
        &self,
        flight: Flight,
        fetched: Result<Answer, Failed>,
        source: AnswerSource,
        share: bool,
        turn: &mut Turn,
    ) {
        let (resolver, generation) = (&self.resolver, flight.generation());
        if self.lane != Lane::Hops {
            resolver.note_landing(&self.key, fetched.as_ref().ok());
        }
        let answer = match fetched {
            Ok(answer) => Arc::new(answer),
            Err(failed) => {
                self.shared.lock().lease.take();
                let resolved = resolver.fall_back(&self.key, failed, generation);
                let resolved = self.for_waiters(resolved);
                return hand_out(resolver, &self.key, self.lane, (&flight, resolved), false, turn);
            }
        };
        resolver.counters.resolved.inc();
        let resolved = self.for_waiters(resolver.answered(answer.clone(), generation, false, source));
        // If the answer is not shared, dropping the lease lets other appliances renew it from now on.
        let state = Some(std::mem::take(&mut *self.shared.lock())).filter(|_| share);
        let landed = Landed { flight, answer, resolved, state };
        match self.shown_to_firewalls(&landed.resolved) {
            None => landed.file(resolver, &self.key, self.lane, turn),
            Some((watch, known)) => {
                let (resolver, key, lane) = (resolver.clone(), self.key.clone(), self.lane);
                tokio::spawn(async move {
                    watch::wait(&*watch, [known]).await;
                    landed.file(&resolver, &key, lane, &mut Turn::default());
                });
            }
        }
    }

    /// Shows the addresses of an answer to firewalls. Returns a message to wait for before the answer is
    /// filed, where clients find it.
    fn shown_to_firewalls(
        &self,
        resolved: &Resolved,
    ) -> Option<(Arc<dyn AddressWatch>, oneshot::Receiver<()>)> {
        let watch = self.resolver.watch.get()?;
        let now = self.clock().secs();
        let known = match self.lane {
            // Clients may ask for the name too, and get it as lists want it.
            Lane::Hops => {
                let resolved = self.resolver.policed(&self.key, resolved.clone());
                watch::show(&**watch, &self.key, &resolved, now)
            }
            Lane::Clients | Lane::Validations => watch::show(&**watch, &self.key, resolved, now),
        };
        Some((watch.clone(), known?))
    }

    /// Returns an answer with what lists give clients in its place.
    fn for_waiters(&self, resolved: Resolved) -> Resolved {
        match self.lane {
            // Nobody but another question waits.
            Lane::Hops => resolved,
            Lane::Clients | Lane::Validations => self.resolver.policed(&self.key, resolved),
        }
    }
}

/// Answer of a question that has landed.
struct Landed {
    flight: Flight,
    answer: Arc<Answer>,
    /// Answer as waiters get it.
    resolved: Resolved,
    /// State in the shared tier, if the answer may be stored there.
    state: Option<SharedState>,
}

impl Landed {
    /// Puts the answer into the host tier, and answers the waiters.
    fn file(self, resolver: &Arc<Resolver>, key: &Key, lane: Lane, turn: &mut Turn) {
        let Landed { flight, answer, resolved, state } = self;
        let generation = flight.generation();
        let kept = resolver.host.insert(key, answer.clone(), generation);
        // Half an answer, of which the other half is being asked for, says nothing of an older whole
        // one.
        if answer.ttl == 0 && lane != Lane::Hops {
            resolver.host.forget(key);
        }
        if let Some(state) = state.filter(|_| kept) {
            resolver.share(key, &answer, generation, state);
        }
        hand_out(resolver, key, lane, (&flight, resolved), true, turn);
    }
}

/// Answers the waiters of a question. `renewed`: the answer is new.
fn hand_out(
    resolver: &Arc<Resolver>,
    key: &Key,
    lane: Lane,
    (flight, resolved): (&Flight, Resolved),
    renewed: bool,
    turn: &mut Turn,
) {
    let mut seats = resolver.lane(lane).land(flight);
    if !renewed {
        seats.extract_if(.., |seat| seat.waiter.is_renewal()).for_each(|seat| seat.waiter.leave(turn));
    }
    resolver.hand_out(key, resolved, seats, turn);
}
