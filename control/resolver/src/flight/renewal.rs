//! Answers that are to be renewed: whether, and whether now.

use super::{HOST, Resolver, Waiter};
use crate::host::Found;
use crate::{
    resolved::{Resolved, is_failure},
    upstream::turn::Turn,
};
use parking_lot::Mutex;
use ringdns_dataplane::{clock::Secs, dns::key::Key};
use std::sync::Arc;
use tokio::sync::oneshot;

/// How many answers may be renewed before they have expired, in a second.
pub(super) struct Budget {
    per_second: Option<u32>,
    /// The second, and how many there were in it.
    spent: Mutex<(Secs, u32)>,
}

impl Budget {
    pub(super) fn new(per_second: Option<u32>) -> Self {
        Budget { per_second, spent: Mutex::default() }
    }

    /// Takes one of those of the second `now`, if there is one left.
    pub(super) fn spend(&self, now: Secs) -> bool {
        let Some(most) = self.per_second else { return true };
        let (second, count) = &mut *self.spent.lock();
        if *second != now {
            (*second, *count) = (now, 0);
        }
        *count += 1;
        *count <= most
    }
}

pub(super) enum Renewal {
    Have(Resolved),
    Wanted,
    NotNow,
}

impl Resolver {
    /// What to do about an entry that a worker wants renewed.
    pub(super) fn renewal(&self, key: &Key) -> Renewal {
        let generation = self.host.generation();
        let now = self.clock().secs();
        match self.host.get(key, now) {
            // A remembered failure is no reason to give up the expired answer that the worker has.
            Found::Fresh(answer) if is_failure(&answer) => Renewal::NotNow,
            Found::Fresh(answer) if answer.is_due(now) => {
                if !self.budget.spend(now) {
                    self.counters.refresh_over_budget.inc();
                    return Renewal::NotNow;
                }
                self.counters.refreshed_ahead.inc();
                Renewal::Wanted
            }
            Found::Fresh(answer) => Renewal::Have(Resolved { answer, generation, known: true, source: HOST }),
            Found::Stale(entry) if !entry.recheck_due(now) => Renewal::NotNow,
            Found::Stale(_) | Found::Missing => Renewal::Wanted,
        }
    }

    /// Begins the renewal of an answer that was received at the time `of`, for a sweep. What is returned brings the new one, or ends
    /// without any: then the old one stays. `None`: there have been enough renewals in this second.
    pub(crate) fn renew(
        self: &Arc<Self>,
        key: &Key,
        of: Secs,
        turn: &mut Turn,
    ) -> Option<oneshot::Receiver<Resolved>> {
        if !self.budget.spend(self.clock().secs()) {
            return None;
        }
        let (to, receiver) = oneshot::channel();
        self.board(key, Some(Waiter::Renewal { to, of, patient: true }), turn);
        Some(receiver)
    }
}
