//! Flights that look at what other appliances found out, before they ask upstreams; and what is given to those.
//!
//! Not all is shared. Names in a zone that the configuration names are not: another appliance may ask somebody else for them, or
//! nobody in particular, and would say that they do not exist. Nor are answers that were put together along an alias that leads
//! into such a zone. What was validated here is not, and what is to be validated is not taken from there; what it is proven with
//! is, for it proves itself. Failures and what must not be kept never reach it, and special names are nobody's.

use super::{Resolver, Rules, Turn, exchange, inquiry::Inquiry};
use crate::fleet::{Fleet, Found};
use ringdns_dataplane::{
    dns::{
        answer::{Answer, TtlRules},
        key::Key,
    },
    log::{Source, Tier},
};
use std::sync::Arc;

/// Begins a flight by a look into the fleet's tier; `renew`: for something newer than is known.
pub fn begin(inquiry: Arc<Inquiry>, fleet: Arc<Fleet>, renew: bool, turn: &mut Turn) {
    if !fleet.is_up() {
        fleet.counters.skipped.inc();
        return inquiry.begin(turn);
    }
    tokio::spawn(async move {
        // Before the lookup: a purge makes void what is found after it began.
        let generation = inquiry.landing.resolver.host.generation();
        let answered = match fleet.lookup(&inquiry.landing.key).await {
            Some(found) => answer(&inquiry, &fleet, found, renew, generation),
            None => false,
        };
        if !answered {
            inquiry.begin(&mut Turn::default());
        }
    });
}

/// Ends the inquiry with what was found, if that will do.
fn answer(inquiry: &Arc<Inquiry>, fleet: &Fleet, found: Found, renew: bool, generation: u64) -> bool {
    let (resolver, key) = (&inquiry.landing.resolver, &inquiry.landing.key);
    // How long it is kept at least was decided by who stored it; else it would never end.
    let ttl = TtlRules { min: 0, ..resolver.rules.ttl };
    let rules = Rules { ttl, ..resolver.rules };
    let trusted = resolver.upstreams.iter().all(|upstream| upstream.trusted);
    let judged = exchange::judge_kept(key, &rules, trusted, &found.message);
    let Some((answer, alias)) = judged else {
        fleet.counters.damaged.inc();
        return false;
    };
    let grace = found.grace.min(ttl.stale);
    let ahead = (u64::from(found.ttl) * u64::from(ttl.ahead) / 100) as u32;
    let answer = Answer { ttl: answer.ttl.min(found.fresh), stale: grace, ede: found.ede, ..answer };
    if answer.ttl == 0 {
        fleet.counters.stale.inc();
        if alias.is_none() {
            resolver.keep_expired(key, answer, generation);
        }
        return false;
    }
    if renew && answer.ttl <= ahead {
        fleet.counters.due.inc();
        return false;
    }
    fleet.counters.hit.inc();
    inquiry.arrive(Answer { ahead, ..answer }, alias, Source::of(Tier::Fleet), &mut Turn::default());
    true
}

impl Resolver {
    /// The fleet's tier, if the answer to a question may be there.
    pub(super) fn fleet_for(&self, key: &Key) -> Option<&Arc<Fleet>> {
        self.fleet.as_ref().filter(|_| !self.upstreams.has_zone_of(key.asked()))
    }

    /// Gives the fleet an answer that was found out while the host tier was at `generation`.
    pub(super) fn share(&self, key: &Key, answer: &Arc<Answer>, generation: u64) {
        if let Some(fleet) = self.fleet_for(key) {
            fleet.store(key, answer, &self.host, generation);
        }
    }

    /// Keeps what the fleet has that has expired, for want of anything here: it may have to do (RFC 8767).
    fn keep_expired(&self, key: &Key, answer: Answer, generation: u64) {
        let now = self.rules.clock.secs();
        if now == 0 || answer.stale == 0 || self.host.peek(key).is_some() {
            return;
        }
        // One that has been fresh until now.
        let expired = Answer { received: now - 1, ttl: 1, ahead: 0, ..answer };
        self.host.insert(key, Arc::new(expired), generation);
    }
}
