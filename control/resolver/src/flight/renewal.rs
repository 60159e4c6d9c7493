//! Renewals: whether an answer is to be renewed, and whether now.

use super::{Resolver, Waiter};
use crate::host::Found;
use crate::{resolved::Resolved, upstream::turn::Turn};
use parking_lot::Mutex;
use ringdns_dataplane::{clock::Secs, dns::key::Key};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Number of answers that may be renewed per second before they have expired.
pub(super) struct RenewalBudget {
    per_second: Option<u32>,
    /// The current second, and the number of renewals in it.
    spent: Mutex<(Secs, u32)>,
}

impl RenewalBudget {
    pub(super) fn new(per_second: Option<u32>) -> Self {
        RenewalBudget { per_second, spent: Mutex::default() }
    }

    /// Takes one renewal from the budget of the second `now`. Returns false if none is left.
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
    /// Decides about an entry that a worker wants renewed.
    pub(super) fn renewal(&self, key: &Key) -> Renewal {
        let generation = self.host.generation();
        let now = self.clock().secs();
        match self.host.get(key, now) {
            // A remembered failure does not replace the expired answer that the worker has.
            Found::Fresh(answer) if answer.status.is_failure() => Renewal::NotNow,
            Found::Fresh(answer) if answer.is_due(now) => {
                if !self.budget.spend(now) {
                    self.counters.refresh_over_budget.inc();
                    return Renewal::NotNow;
                }
                self.counters.refreshed_ahead.inc();
                Renewal::Wanted
            }
            Found::Fresh(answer) => Renewal::Have(self.host_answer(answer, generation)),
            Found::Stale(entry) if !entry.recheck_due(now) => Renewal::NotNow,
            Found::Stale(_) | Found::Missing => Renewal::Wanted,
        }
    }

    /// Begins the renewal, for a sweep, of an answer that was received at `of`. The receiver gets
    /// the new answer, or is closed without one if the old one stays. `None`: the budget of this
    /// second is spent.
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
