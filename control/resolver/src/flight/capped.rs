//! Caps on zones, on the way of a question.

use super::{Resolver, Waiter, caps::Over, failure, shares::Greedy};
use crate::{resolved::Transport, upstream::turn::Turn};
use ringdns_api::FloodView;
use ringdns_dataplane::{
    dns::{answer::Answer, key::Key, rcode},
    punt::Purpose,
    stats::Counter,
};
use std::time::Duration;
use tokio::time::sleep;

/// Time between two checks whether floods are over.
const PERIOD: Duration = Duration::from_secs(1);

impl Resolver {
    /// Returns the zones that are capped at this moment.
    pub fn capped_zones(&self) -> Vec<FloodView> {
        let mut zones = self.caps.list(self.clock().nanos());
        self.views().iter().for_each(|view| zones.extend(view.capped_zones()));
        zones
    }

    /// Ends caps of zones that have calmed down, until the task is dropped.
    pub async fn watch_zones(self: std::sync::Arc<Self>) {
        loop {
            sleep(PERIOD).await;
            self.caps.keep(self.clock().nanos());
            self.views().iter().for_each(|view| view.caps.keep(self.clock().nanos()));
        }
    }

    /// Refuses a waiter whose question is beyond the cap of its zone. Returns the others. A name that
    /// has had an answer with records is no random one.
    pub(super) fn within_cap(
        &self,
        key: &Key,
        waiter: Option<Waiter>,
        turn: &mut Turn,
    ) -> Option<Option<Waiter>> {
        let Some(waiter) = waiter else { return Some(None) };
        if self.caps.len() == 0 || !waiter.is_client() || waiter.is_renewal() || self.stale(key).is_some() {
            return Some(Some(waiter));
        }
        let transport = if waiter.record().is_some() { Transport::Udp } else { Transport::Tcp };
        let Err(over) = self.caps.check(key.asked().name(), transport, self.clock().nanos()) else {
            return Some(Some(waiter));
        };
        self.counters.zone_over_cap.inc();
        match (waiter, over) {
            (Waiter::Punt(link, mut record), Over::Withhold) => {
                record.purpose = Purpose::Withheld(Counter::PuntCapped);
                turn.give_back(&link, record);
            }
            (waiter @ Waiter::Punt(..), Over::Refuse) => waiter.answer(&self.refusal(), turn),
            (waiter, _) => failure::refuse_later(waiter, self.refusal()),
        }
        None
    }

    /// Counts a client's question that takes off.
    pub(super) fn note_take_off(&self, key: &Key) {
        let capped = self.caps.note(key.asked().name(), self.clock().nanos());
        self.counters.zone_caps.add(u64::from(capped));
    }

    /// Counts a client's question that is refused by a share. One that the share of its zone refuses
    /// counts as one that finds nothing.
    pub(super) fn note_refused(&self, key: &Key, greedy: Greedy) {
        match greedy {
            Greedy::Client => self.counters.client_over_share.inc(),
            Greedy::Zone => {
                self.counters.zone_over_share.inc();
                self.note_take_off(key);
                self.caps.note_worthless(key.asked().name(), self.clock().nanos());
            }
        }
    }

    /// Counts the result of a question. `answer`: `None` if resolution failed.
    pub(super) fn note_landing(&self, key: &Key, answer: Option<&Answer>) {
        let is_worthless = answer
            .is_none_or(|answer| answer.status.is_failure() || answer.status.rcode() == rcode::NXDOMAIN);
        if is_worthless {
            self.caps.note_worthless(key.asked().name(), self.clock().nanos());
        }
    }
}
