//! Caps on zones, on the way of a question.

use super::{Resolver, Waiter, caps::Over, failure, shares::Greedy};
use crate::{resolved::Transport, upstream::turn::Turn};
use ringdns_api::FloodView;
use ringdns_common::message::HEADER;
use ringdns_dataplane::{
    dns::{answer::Answer, key::Key, rcode, rtype},
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
        let capped = self.caps.note(key.asked().name(), key.asked().qtype(), self.clock().nanos());
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
        let (name, now) = (key.asked().name(), self.clock().nanos());
        match answer {
            Some(answer) if !is_worthless => {
                let is_v4 = key.asked().qtype() == rtype::A;
                self.caps.note_found(name, is_v4, records(key, answer), now);
            }
            _ => self.caps.note_worthless(name, now),
        }
    }
}

/// Returns types and data of the records in the answer section.
fn records<'a>(key: &Key, answer: &'a Answer) -> impl Iterator<Item = (u16, &'a [u8])> {
    let before = HEADER + key.question().len();
    let answers = answer.ttls.iter().take(answer.counts[0].into());
    answers.filter_map(move |at| {
        // Type, class, TTL, length, data.
        let start = usize::from(u16::from_le_bytes(*at)).checked_sub(before + 4)?;
        let (head, rest) = answer.wire.get(start..)?.split_first_chunk::<10>()?;
        let length = usize::from(u16::from_be_bytes([head[8], head[9]]));
        Some((u16::from_be_bytes([head[0], head[1]]), rest.get(..length)?))
    })
}
