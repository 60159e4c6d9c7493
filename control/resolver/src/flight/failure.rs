//! Answers when resolution fails, is refused, or takes too long.

use super::{Lane, Resolver, Waiter, flights::Flight};
use crate::{
    host::Entry,
    resolved::Resolved,
    upstream::{Failed, turn::Turn},
};
use ringdns_dataplane::{
    clock::Secs,
    dns::{answer::Answer, key::Key, rcode},
    log::AnswerSource,
};
use std::{sync::Arc, time::Duration};

/// Time in seconds for which a stale entry is left alone after a failed refresh (RFC 8767 section
/// 5: 30 s or more).
const RECHECK: Secs = 30;

/// Time after which a query over TCP that exceeds a share is refused.
const REFUSED_AFTER: Duration = Duration::from_secs(1);

impl Resolver {
    /// Returns the answer that may be used if resolution fails: expired or not, but no failure.
    pub(super) fn stale(&self, key: &Key) -> Option<Entry> {
        let now = self.clock().secs();
        self.host.peek(key).filter(|entry| now < entry.answer.dead() && !entry.answer.status.is_failure())
    }

    /// Returns the answer after a failed resolution: the expired answer if there is one, else the
    /// failure, which is remembered (RFC 9520) if it says something about the question.
    pub(super) fn fall_back(&self, key: &Key, failed: Failed, generation: u64) -> Resolved {
        let now = self.clock().secs();
        self.counters.failed.inc();
        match self.stale(key) {
            Some(entry) => {
                self.host.put_off(key, now.saturating_add(RECHECK));
                self.counters.stale_on_failure.inc();
                self.host_answer(entry.answer, generation)
            }
            None => {
                let Failed::Upstreams(ede) = failed else { return self.refusal() };
                let failure = Arc::new(Answer::error(rcode::SERVFAIL, Some(ede), now, self.failure_ttl));
                self.host.insert(key, failure.clone(), generation);
                self.answered(failure, generation, false, AnswerSource::default())
            }
        }
    }

    /// Gives waiters the expired answer, if there is one, when resolution takes too long (RFC 8767
    /// section 5: the client response timer). Later clients have it at once.
    pub(super) fn limit_wait(self: Arc<Self>, key: &Key, flight: &Flight, lane: Lane) {
        let patience = self.stale_client_timeout;
        if patience.is_zero() || self.stale(key).is_none() {
            return;
        }
        let (key, flight) = (key.clone(), flight.clone());
        tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            let Some(entry) = self.stale(&key) else { return };
            self.host.put_off(&key, self.clock().secs().saturating_add(RECHECK));
            let (answer, generation) = (entry.answer, flight.generation());
            let resolved = self.policed(&key, self.host_answer(answer, generation));
            let seats = self.lane(lane).leave(&flight, |waiter| !waiter.is_renewal());
            self.counters.stale_on_delay.add(seats.len() as u64);
            self.hand_out(&key, resolved, seats, &mut Turn::default());
        });
    }

    /// Returns a SERVFAIL that must not be kept: its cause is in this process, not in the question.
    pub(super) fn refusal(&self) -> Resolved {
        let answer = Arc::new(Answer::error(rcode::SERVFAIL, None, self.clock().secs(), 0));
        self.answered(answer, self.host.generation(), false, AnswerSource::default())
    }
}

/// Refuses a client of a listener after some time. Its connection has a bound on queries in flight,
/// so this slows a flood over TCP down, which would keep the control plane busy if it were refused
/// at once.
pub(super) fn refuse_later(waiter: Waiter, refusal: Resolved) {
    tokio::spawn(async move {
        tokio::time::sleep(REFUSED_AFTER).await;
        waiter.answer(&refusal, &mut Turn::default());
    });
}
