//! Looks up questions in the fleet's tier before upstreams are asked, and stores answers there.
//!
//! Not shared:
//! - Names in a zone that the configuration names. Another appliance may ask another upstream for
//!   them, or none in particular, and would store that they do not exist.
//! - Answers that were joined along an alias that leads into such a zone.
//! - Answers validated here; nor are answers to be validated taken from the tier. The records that
//!   prove them are shared, for they prove themselves.
//! - Failures, answers that must not be kept, and special-use names.

use super::{
    Resolver,
    inquiry::{self, Inquiry},
    setup::ResolverSetup,
};
use crate::tier::{LeaseReply, SharedAnswer, SharedState, SharedTier};
use crate::upstream::{
    alias::Alias,
    exchange::{self, JudgeRules},
    turn::Turn,
};
use futures_util::future::join_all;
use ringdns_dataplane::{
    dns::{
        answer::{Answer, TtlRules},
        key::Key,
    },
    log::{AnswerSource, Tier},
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// Time after which a lease ends unless it is given back: longer than upstreams can take.
const LEASE: Duration = inquiry::TOTAL.saturating_add(Duration::from_millis(500));

/// Pauses between lookups of an answer that another appliance is renewing: the first, and the
/// longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(320)];

/// Time between requests for the questions of the warm start, until Redis is there.
const UNTIL_IT_IS_THERE: Duration = Duration::from_millis(250);
/// Interval at which the warm start loads a few answers.
const TICK: Duration = Duration::from_millis(20);
/// Most answers that the warm start loads in one interval.
const AT_ONCE: usize = 64;

/// Purpose of a question in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Any answer: a client waits for it.
    Any,
    /// An answer newer than the known one.
    Newer,
    /// An answer newer than the known one, for which no client waits: one appliance of the fleet
    /// may resolve it for all.
    OneNewer,
}

/// Begins resolving a question by a lookup in the fleet's tier.
pub fn begin(inquiry: Arc<Inquiry>, fleet: Arc<dyn SharedTier>, want: Want, turn: &mut Turn) {
    if !fleet.is_up() {
        fleet.counters().skipped.inc();
        if want == Want::OneNewer {
            fleet.counters().renewals_alone.inc();
        }
        return inquiry.begin(turn);
    }
    tokio::spawn(async move {
        let answered = match want {
            Want::OneNewer => renewed(&inquiry, &fleet).await,
            Want::Any | Want::Newer => look(&inquiry, &*fleet, want != Want::Any).await,
        };
        if !answered {
            inquiry.begin(&mut Turn::default());
        }
    });
}

/// Looks up a renewal once no other appliance is renewing it. Returns whether that answered it; if
/// not, this appliance is to renew it.
async fn renewed(inquiry: &Arc<Inquiry>, fleet: &Arc<dyn SharedTier>) -> bool {
    let (began, counters) = (Instant::now(), &fleet.counters());
    let mut pause = PAUSES[0];
    loop {
        match fleet.clone().lease(&inquiry.landing.key, LEASE).await {
            LeaseReply::Granted(lease) => {
                inquiry.landing.shared.lock().lease = Some(lease);
                // Look up only now: the previous holder of the lease has stored its answer.
                let answered = look(inquiry, &**fleet, true).await;
                let count = if answered { &counters.renewals_spared } else { &counters.renewals_led };
                count.inc();
                inquiry.put_off();
                return answered;
            }
            LeaseReply::HeldByOther if began.elapsed() < LEASE => {}
            LeaseReply::HeldByOther | LeaseReply::Unknown => break,
        }
        let hurry = inquiry.patience();
        let Some(hurry) = hurry else { break counters.renewals_hurried.inc() };
        if timeout(pause, hurry.notified()).await.is_ok() {
            break counters.renewals_hurried.inc();
        }
        if look(inquiry, &**fleet, true).await {
            counters.renewals_spared.inc();
            return true;
        }
        pause = (pause * 2).min(PAUSES[1]);
    }
    counters.renewals_alone.inc();
    inquiry.put_off();
    false
}

/// Looks up the question in the fleet's tier; `renew`: for an answer newer than the known one.
/// Returns whether that answered it.
async fn look(inquiry: &Arc<Inquiry>, fleet: &dyn SharedTier, renew: bool) -> bool {
    // Read before the lookup: a purge after it makes the found answer void.
    let generation = inquiry.landing.resolver.host.generation();
    let Some(found) = fleet.lookup(&inquiry.landing.key).await else { return false };
    inquiry.landing.shared.lock().first_seen = Some(found.first_seen);
    answer(inquiry, fleet, found, renew, generation)
}

/// Ends the inquiry with the found answer, if it can be used. Returns whether it did.
fn answer(
    inquiry: &Arc<Inquiry>,
    fleet: &dyn SharedTier,
    found: SharedAnswer,
    renew: bool,
    generation: u64,
) -> bool {
    let (resolver, key) = (&inquiry.landing.resolver, &inquiry.landing.key);
    let Some((answer, alias)) = judge_found(resolver, &inquiry.landing.setup, fleet, key, &found) else {
        return false;
    };
    if answer.ttl == 0 {
        fleet.counters().stale.inc();
        if alias.is_none() {
            resolver.keep_expired(key, answer, generation);
        }
        return false;
    }
    // The same answer may come back a second older or younger, as its age is rounded.
    let known = || resolver.host.peek(key).map_or(0, |entry| entry.answer.expires());
    if renew && (answer.ttl <= answer.ahead || answer.expires() <= known().saturating_add(1)) {
        fleet.counters().due.inc();
        return false;
    }
    fleet.counters().hit.inc();
    fleet.note_demand(key.asked(), 1);
    inquiry.arrive(answer, alias, AnswerSource::of(Tier::Fleet), &mut Turn::default());
    true
}

/// Judges an answer from Redis like a response of an upstream, by the rules of this appliance. An
/// answer with a remaining TTL of 0 has expired.
fn judge_found(
    resolver: &Resolver,
    setup: &ResolverSetup,
    fleet: &dyn SharedTier,
    key: &Key,
    found: &SharedAnswer,
) -> Option<(Answer, Option<Box<Alias>>)> {
    // Only the appliance that stored the answer applied a minimum TTL; applied here too, the answer
    // would never expire.
    let ttl = TtlRules { min: 0, ..resolver.rules.ttl };
    let rules = JudgeRules { ttl, ..resolver.rules };
    let trusted = setup.upstreams.iter().all(|upstream| upstream.trusted);
    let judged = exchange::judge_kept(key, &rules, trusted, &found.message);
    let Some((answer, alias)) = judged else {
        fleet.counters().damaged.inc();
        return None;
    };
    // The appliance that stored the answer may keep answers for longer than their source says;
    // here, this appliance's own minimum TTL counts.
    let longer = found.ttl.saturating_sub(found.source_ttl.max(resolver.rules.ttl.min));
    let left = answer.ttl.min(found.fresh.saturating_sub(longer));
    let ahead = (u64::from(found.ttl) * u64::from(ttl.ahead) / 100) as u32;
    let answer = Answer {
        ttl: left,
        source_ttl: found.source_ttl,
        stale: found.grace.min(ttl.stale),
        ahead: ahead.min(left),
        ede: found.ede,
        ..answer
    };
    Some((answer, alias))
}

impl Resolver {
    /// Returns the fleet's tier, if the answer to a question may be there.
    pub(super) fn fleet_for(&self, key: &Key) -> Option<&Arc<dyn SharedTier>> {
        self.fleet.as_ref().filter(|_| !self.setup.load().upstreams.has_zone_of(key.asked()))
    }

    /// Stores an answer in the fleet's tier that was resolved while the host tier was at
    /// `generation`.
    pub(super) fn share(&self, key: &Key, answer: &Arc<Answer>, generation: u64, state: SharedState) {
        if let Some(fleet) = self.fleet_for(key) {
            fleet.store(key, answer, &self.host, generation, state);
        }
    }

    /// Warm start: once Redis is there, loads the answers that the fleet requests most, at most
    /// `keys`, and `per_second` of them per second. Answers that are in the host tier already are
    /// left as they are. Answers that this appliance would not take from the fleet for a client are
    /// not loaded.
    pub async fn warm(&self, keys: usize, per_second: u32) {
        let Some(fleet) = &self.fleet else { return };
        let wanted = loop {
            if let Some(wanted) = fleet.most_wanted(keys).await {
                break wanted;
            }
            sleep(UNTIL_IT_IS_THERE).await;
        };
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let before = fleet.counters().warmed.get();
        let (mut wanted, mut allowance) = (wanted.into_iter().peekable(), 0.0);
        while wanted.peek().is_some() {
            tick.tick().await;
            if !fleet.is_up() {
                continue;
            }
            allowance = f64::min(allowance + f64::from(per_second) * TICK.as_secs_f64(), AT_ONCE as f64);
            let now: Vec<_> = wanted.by_ref().take(allowance as usize).collect();
            allowance -= now.len() as f64;
            join_all(now.iter().map(|key| self.warm_one(fleet, key))).await;
        }
        let warmed = fleet.counters().warmed.get() - before;
        tracing::info!(warmed, "warm start complete");
    }

    async fn warm_one(&self, fleet: &Arc<dyn SharedTier>, key: &Key) {
        let setup = self.setup();
        let validated = setup.validator.as_ref().is_some_and(|validator| validator.concerns(key));
        if validated || self.fleet_for(key).is_none() || self.is_local(key) || self.host.peek(key).is_some() {
            return;
        }
        let generation = self.host.generation();
        let Some(found) = fleet.lookup(key).await else { return };
        let Some((answer, alias)) = judge_found(self, &setup, &**fleet, key, &found) else { return };
        let whole = alias.is_none_or(|alias| !alias.leads_out(key, &setup.upstreams));
        if answer.ttl == 0 || !whole {
            fleet.counters().stale.inc();
        } else if self.host.insert(key, Arc::new(answer), generation) {
            fleet.counters().warmed.inc();
        } else {
            fleet.counters().purged.inc();
        }
    }

    /// Keeps an expired answer from the fleet if there is none here: it may be used if resolution
    /// fails (RFC 8767).
    fn keep_expired(&self, key: &Key, answer: Answer, generation: u64) {
        let now = self.clock().secs();
        if now == 0 || answer.stale == 0 || self.host.peek(key).is_some() {
            return;
        }
        // As if the answer had been fresh until now.
        let expired = Answer { received: now - 1, ttl: 1, ahead: 0, ..answer };
        self.host.insert(key, Arc::new(expired), generation);
    }
}
