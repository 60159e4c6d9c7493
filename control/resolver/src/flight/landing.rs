//! Landing of questions in flight: the answer is put into the host tier, and waiters are answered.

use super::{Lane, Resolver, flights::Flight, inquiry, setup::ResolverSetup};
use crate::{
    resolved::Resolved,
    tier::SharedState,
    upstream::{Failed, choice::Upstreams, exchange::JudgeRules, turn::Turn},
};
use parking_lot::Mutex;
use ringdns_dataplane::{
    clock::Clock,
    dns::{answer::Answer, key::Key},
    log::AnswerSource,
};
use std::{sync::Arc, time::Duration};

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

    /// Puts the answer of `source` into the host tier, and answers the waiters. `share`: the answer
    /// may be stored in the fleet's tier too.
    pub(super) fn land(
        &self,
        flight: &Flight,
        fetched: Result<Answer, Failed>,
        source: AnswerSource,
        share: bool,
        turn: &mut Turn,
    ) {
        let (resolver, generation) = (&self.resolver, flight.generation());
        if self.lane != Lane::Hops {
            resolver.note_landing(&self.key, fetched.as_ref().ok());
        }
        let (resolved, renewed) = match fetched {
            Ok(answer) => {
                resolver.counters.resolved.inc();
                let answer = Arc::new(answer);
                let kept = resolver.host.insert(&self.key, answer.clone(), generation);
                // Half an answer, of which the other half is being asked for, says nothing of an
                // older whole one.
                if answer.ttl == 0 && self.lane != Lane::Hops {
                    resolver.host.forget(&self.key);
                }
                // If the answer is not shared, dropping the lease lets other appliances renew it
                // from now on.
                let state = std::mem::take(&mut *self.shared.lock());
                if share && kept {
                    resolver.share(&self.key, &answer, generation, state);
                }
                (Resolved::new(answer, generation, false, source), true)
            }
            Err(failed) => {
                self.shared.lock().lease.take();
                (resolver.fall_back(&self.key, failed, generation), false)
            }
        };
        let resolved = match self.lane {
            // Nobody but another question waits.
            Lane::Hops => resolved,
            Lane::Clients | Lane::Validations => resolver.policed(&self.key, resolved),
        };
        let mut seats = resolver.lane(self.lane).land(flight);
        if !renewed {
            seats.extract_if(.., |seat| seat.waiter.is_renewal()).for_each(|seat| seat.waiter.leave(turn));
        }
        resolver.hand_out(&self.key, resolved, seats, turn);
    }
}
