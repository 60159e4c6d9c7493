//! From a question to its answer: the host tier first, then the upstreams, each question asked once at a time.
//!
//! A question that is not in the host tier takes off as a *flight*. Whoever asks the same while it is under way joins
//! it, and all are answered when it lands. The number of flights and of those who wait for one is bounded; beyond
//! that the answer is SERVFAIL, counted and not kept, so that a flood cannot grow memory.

mod chase;
mod flights;
mod inquiry;
mod landing;
mod renewal;
mod restore;
mod setup;
mod shared;
mod validated;
mod waiter;

use crate::{
    host::{Entry, Found, HostTier},
    resolved::{Resolved, is_failure},
    tier::SharedTier,
    upstream::{Failed, choice::Upstreams, exchange::Rules, turn::Turn},
};
use arc_swap::ArcSwap;
use flights::{Boarding, Flight, Flights};
use inquiry::Inquiry;
use landing::Landing;
use parking_lot::Mutex;
use renewal::{Budget, Renewal};
pub use restore::Kept;
use ringdns_common::counters;
use ringdns_common::labels::Labels;
use ringdns_config::Config;
use ringdns_dataplane::{
    clock::{Clock, Secs},
    dns::{answer::Answer, key::Key, rcode},
    log::{Source, Tier},
    punt::{Link, Punt, Purpose},
};
use setup::Setup;
use shared::Want;
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;
use validated::Validated;
pub use waiter::Waiter;

/// How long a stale entry is left alone after a refresh of it failed (RFC 8767 section 5: 30 s or more).
const RECHECK: Secs = 30;

/// Of what this host has.
const HOST: Source = Source { tier: Tier::Host, upstream: None, upstream_us: 0 };

counters! {
    /// What the resolver does.
    ResolverCounters {
        /// Questions about special names, answered without asking anybody.
        local,
        /// Questions that took off to the upstreams, refreshes among them.
        flights,
        /// Questions that joined a flight for the same.
        joined,
        /// Flights for the renewal of an expired answer.
        refreshes,
        /// Renewals of answers that have not expired yet.
        refreshed_ahead,
        /// Renewals left for later because enough flights were under way.
        refresh_skipped,
        /// Renewals of answers that have not expired yet, not begun because there were enough in that second.
        refresh_over_budget,
        /// Flights that brought an answer.
        resolved,
        /// Flights that brought none.
        failed,
        /// Answers whose last alias led out of what the upstream answers for, and was followed.
        followed,
        /// Failed flights covered by an expired answer (RFC 8767).
        stale_on_failure,
        /// Questions given an expired answer because a new one took too long (RFC 8767).
        stale_on_delay,
        /// Questions answered SERVFAIL because too many flights were under way.
        too_many_flights,
        /// Questions answered SERVFAIL because too many waited for the same answer.
        too_many_waiters,
        /// Answers that were validated and found to be signed.
        validated_secure,
        /// Answers that were validated and found to be from unsigned zones.
        validated_insecure,
        /// Answers that were validated and found to be false, and replaced by SERVFAIL.
        validated_bogus,
    }
}

/// Bounds of the resolver's memory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Questions under way at once.
    pub flights: usize,
    /// Who wait for one of them.
    pub waiters: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { flights: 8192, waiters: 1024 }
    }
}

/// Who asks a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    /// A client, a renewal, or the validation of another question.
    Client,
    /// A question that follows an alias.
    Hop,
}

/// Lanes of flights. A flight may wait for one in another lane, and never for one in its own: so no two wait for each
/// other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// Questions of clients and validations. They may wait for hops.
    Clients,
    /// Questions that follow an alias. They wait for no others.
    Hops,
    /// Questions whose answers are validated. They wait for the others.
    Validations,
}

impl Lane {
    /// Returns the lane of a question.
    fn of(asker: Asker, validated: bool) -> Self {
        match (validated, asker) {
            (true, _) => Lane::Validations,
            (false, Asker::Client) => Lane::Clients,
            (false, Asker::Hop) => Lane::Hops,
        }
    }
}

/// Finds answers.
pub struct Resolver {
    host: Arc<HostTier>,
    clock: Clock,
    setup: ArcSwap<Setup>,
    /// How answers are kept, which stays as it was at the start: it is told to the workers then, too.
    rules: Rules,
    failure_ttl: Secs,
    /// How long to wait for a new answer where there is an expired one; zero: not at all.
    stale_client_timeout: Duration,
    budget: Budget,
    labels: Arc<Labels>,
    flights: Flights,
    /// Those to where an alias leads. They wait for no others.
    hops: Flights,
    /// Those whose answers are validated. They wait for the others.
    validations: Flights,
    /// `None`: nothing is shared with other appliances.
    fleet: Option<Arc<dyn SharedTier>>,
    /// What happened so far.
    pub counters: ResolverCounters,
}

impl Resolver {
    /// Returns a resolver that asks the upstreams of `config`, and keeps answers in `host` by its rules. `fleet` is asked
    /// before upstreams.
    pub fn new(
        host: Arc<HostTier>,
        config: &Config,
        clock: Clock,
        limits: Limits,
        fleet: Option<Arc<dyn SharedTier>>,
    ) -> Arc<Self> {
        let labels = Arc::default();
        Arc::new(Resolver {
            host,
            clock,
            setup: ArcSwap::from_pointee(Setup::new(config, &labels, None)),
            rules: Rules { ttl: config.cache.ttl_rules(&config.refresh), clock },
            failure_ttl: config.cache.failure_secs(),
            stale_client_timeout: config.cache.stale_client_timeout,
            budget: Budget::new(config.refresh.per_second),
            labels,
            flights: Flights::new(limits),
            hops: Flights::new(limits),
            validations: Flights::new(limits),
            fleet,
            counters: ResolverCounters::default(),
        })
    }

    /// Goes on as `config` says: whom to ask and how, what is validated, what is nobody's. Questions under way are asked
    /// as they began.
    pub fn set_up(&self, config: &Config) {
        let before = self.setup();
        let setup = Setup::new(config, &self.labels, Some(&before));
        self.setup.store(Arc::new(setup));
    }

    /// The numbers by which the query log knows the upstreams.
    pub fn labels(&self) -> &Arc<Labels> {
        &self.labels
    }

    /// What the configuration says of it now.
    fn setup(&self) -> Arc<Setup> {
        self.setup.load_full()
    }

    /// The host tier.
    pub fn host(&self) -> &Arc<HostTier> {
        &self.host
    }

    /// The upstreams.
    pub fn upstreams(&self) -> Arc<Upstreams> {
        self.setup.load().upstreams.clone()
    }

    /// The tier that is shared with other appliances, if there is one.
    pub fn shared_tier(&self) -> Option<&Arc<dyn SharedTier>> {
        self.fleet.as_ref()
    }

    /// The clock that answers are aged by.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// How many questions are under way.
    pub fn under_way(&self) -> usize {
        self.flights.len() + self.hops.len() + self.validations.len()
    }

    /// Gives a worker's record back with its answer: at once if the host tier has one, else when it is found.
    pub fn serve(self: &Arc<Self>, link: &Arc<Link>, record: Box<Punt>, turn: &mut Turn) {
        let ready = match record.purpose {
            Purpose::Answer(_) => self.lookup(&record.query.key, turn),
            // What was renewed unasked is not punted.
            Purpose::Renewed => return turn.give_back(link, record),
            Purpose::Refresh => match self.renewal(&record.query.key) {
                Renewal::Have(resolved) => Some(resolved),
                Renewal::Wanted => None,
                Renewal::NotNow => return turn.give_back(link, record),
            },
        };
        let key = ready.is_none().then(|| record.query.key.clone());
        let waiter = Waiter::Punt(link.clone(), record);
        match (ready, key) {
            (Some(resolved), _) => waiter.answer(&resolved, turn),
            (None, Some(key)) => self.board(&key, Some(waiter), turn),
            (None, None) => {}
        }
    }

    /// The answer to a question, however long it takes.
    pub async fn resolve(self: &Arc<Self>, key: &Key) -> Resolved {
        let (sender, receiver) = oneshot::channel();
        {
            let mut turn = Turn::default();
            if let Some(resolved) = self.lookup(key, &mut turn) {
                return resolved;
            }
            self.board(key, Some(Waiter::Client(sender)), &mut turn);
        }
        // A flight answers all its waiters, even when it is dropped; so this cannot fail but at shutdown.
        receiver.await.unwrap_or_else(|_| self.refusal())
    }

    /// The answer to a question as it is now: what has expired is none, but for want of a better one. `renew`: so is what is to be
    /// renewed.
    pub(crate) async fn current(self: &Arc<Self>, key: &Key, renew: bool) -> Resolved {
        let (generation, now) = (self.host.generation(), self.clock().secs());
        let found = match self.host.get(key, now) {
            Found::Fresh(answer) => Some(answer),
            Found::Stale(_) | Found::Missing => None,
        };
        let due = found.as_ref().filter(|answer| renew && answer.is_due(now)).map(|answer| answer.received);
        if let Some(answer) = found.filter(|_| due.is_none()) {
            return Resolved { answer, generation, known: true, source: HOST };
        }
        let (sender, receiver) = oneshot::channel();
        let waiter = match due {
            Some(of) => Waiter::Renewal { to: sender, of, patient: false },
            None => Waiter::Client(sender),
        };
        self.board(key, Some(waiter), &mut Turn::default());
        receiver.await.unwrap_or_else(|_| self.refusal())
    }

    /// Whether nobody is asked for it.
    pub(crate) fn is_local(&self, key: &Key) -> bool {
        let setup = self.setup.load();
        !setup.upstreams.has_zone_of(key.asked())
            && setup.local.answer(key, &self.rules.ttl, self.clock().secs()).is_some()
    }

    /// The answer from the host tier. An expired one is given too, and its renewal begun; unless its client can wait a
    /// moment for the new one.
    pub fn lookup(self: &Arc<Self>, key: &Key, turn: &mut Turn) -> Option<Resolved> {
        let generation = self.host.generation();
        let answer = match self.host.get(key, self.clock().secs()) {
            Found::Fresh(answer) => answer,
            Found::Stale(entry) => {
                if entry.recheck_due(self.clock().secs()) {
                    if !self.stale_client_timeout.is_zero() {
                        return None;
                    }
                    self.refresh(key, turn);
                }
                entry.answer.clone()
            }
            Found::Missing => return None,
        };
        Some(Resolved { answer, generation, known: true, source: HOST })
    }

    /// The answer to what nobody is asked for. It is filed as all are.
    fn answer_locally(&self, setup: &Setup, key: &Key, generation: u64) -> Option<Resolved> {
        if setup.upstreams.has_zone_of(key.asked()) {
            return None;
        }
        let answer = Arc::new(setup.local.answer(key, &self.rules.ttl, self.clock().secs())?);
        self.counters.local.inc();
        self.host.insert(key, answer.clone(), generation);
        Some(Resolved { answer, generation, known: false, source: Source::of(Tier::Local) })
    }

    /// Begins a renewal that nobody waits for. It holds the question and nothing else.
    fn refresh(self: &Arc<Self>, key: &Key, turn: &mut Turn) {
        self.board(key, None, turn);
    }

    fn board(self: &Arc<Self>, key: &Key, waiter: Option<Waiter>, turn: &mut Turn) {
        self.board_for(Asker::Client, key, waiter, turn);
    }

    fn board_for(self: &Arc<Self>, asker: Asker, key: &Key, waiter: Option<Waiter>, turn: &mut Turn) {
        let refresh = waiter.as_ref().is_none_or(Waiter::is_renewal);
        let want = match waiter {
            _ if !refresh => Want::Any,
            Some(ref waiter) if !waiter.is_patient() => Want::Newer,
            _ => Want::OneNewer,
        };
        let setup = self.setup.load();
        let generation = self.host.generation();
        if let Some(resolved) = self.answer_locally(&setup, key, generation) {
            return waiter.into_iter().for_each(|waiter| waiter.answer(&resolved, turn));
        }
        // What landed since the caller's lookup is in the host tier by now.
        let renews = waiter.as_ref().and_then(Waiter::renews);
        let landed = || {
            let (answer, now) = (&self.host.peek(key)?.answer, self.clock().secs());
            let due = renews.map_or_else(|| answer.is_due(now), |received| answer.received <= received);
            let fresh = now < answer.expires() && !(refresh && (is_failure(answer) || due));
            fresh.then(|| Resolved { answer: answer.clone(), generation, known: true, source: HOST })
        };
        let validator = setup.validator.as_ref().filter(|validator| validator.concerns(key));
        let lane = Lane::of(asker, validator.is_some());
        let flights = self.lane(lane);
        let (waiter, resolved) = match flights.board(key, generation, waiter, refresh, landed) {
            Boarding::TakeOff(flight) => {
                self.counters.flights.inc();
                self.counters.refreshes.add(u64::from(refresh));
                if !refresh && asker == Asker::Client {
                    self.clone().limit_wait(key, &flight, lane);
                }
                let landing = Landing {
                    resolver: self.clone(),
                    setup: setup.clone(),
                    key: key.clone(),
                    lane,
                    shared: Mutex::default(),
                };
                return match validator {
                    Some(validator) => Validated::begin(landing, flight, refresh, validator.clone()),
                    None => match self.fleet_for(key) {
                        Some(fleet) => {
                            shared::begin(Inquiry::new(landing, flight), fleet.clone(), want, turn)
                        }
                        None => Inquiry::new(landing, flight).begin(turn),
                    },
                };
            }
            Boarding::Joined => return self.counters.joined.inc(),
            Boarding::Landed(waiter, resolved) => (waiter, resolved),
            Boarding::NoFlight(waiter) | Boarding::NoSeat(waiter) if refresh => {
                self.counters.refresh_skipped.inc();
                if let Some(waiter) = waiter {
                    waiter.leave(turn);
                }
                return;
            }
            Boarding::NoFlight(waiter) => {
                self.counters.too_many_flights.inc();
                (waiter, self.refusal())
            }
            Boarding::NoSeat(waiter) => {
                self.counters.too_many_waiters.inc();
                (waiter, self.refusal())
            }
        };
        if let Some(waiter) = waiter {
            waiter.answer(&resolved, turn);
        }
    }

    /// Gives who waits for a flight the expired answer, if there is one, when that takes too long (RFC 8767 section 5: the
    /// client response timer). Who comes later has it at once.
    fn limit_wait(self: Arc<Self>, key: &Key, flight: &Flight, lane: Lane) {
        let patience = self.stale_client_timeout;
        if patience.is_zero() || self.stale(key).is_none() {
            return;
        }
        let (key, flight) = (key.clone(), flight.clone());
        tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            let Some(entry) = self.stale(&key) else { return };
            entry.put_off(self.clock().secs().saturating_add(RECHECK));
            let (answer, generation) = (entry.answer.clone(), flight.generation());
            let resolved = Resolved { answer, generation, known: true, source: HOST };
            let mut turn = Turn::default();
            for waiter in self.lane(lane).leave(&flight, |waiter| !waiter.is_renewal()) {
                self.counters.stale_on_delay.inc();
                waiter.answer(&resolved, &mut turn);
            }
        });
    }

    /// Returns the flights of a lane.
    fn lane(&self, lane: Lane) -> &Flights {
        match lane {
            Lane::Clients => &self.flights,
            Lane::Hops => &self.hops,
            Lane::Validations => &self.validations,
        }
    }

    /// What may be given where nothing better is to be had: an answer that is no failure, expired or not.
    fn stale(&self, key: &Key) -> Option<Arc<Entry>> {
        let now = self.clock().secs();
        self.host.peek(key).filter(|entry| now < entry.answer.dead() && !is_failure(&entry.answer))
    }

    /// What failed flights leave: the expired answer if there is one, else the failure, remembered (RFC 9520) if it
    /// says something about the question.
    fn fall_back(&self, key: &Key, failed: Failed, generation: u64) -> Resolved {
        let now = self.clock().secs();
        self.counters.failed.inc();
        match self.stale(key) {
            Some(entry) => {
                entry.put_off(now.saturating_add(RECHECK));
                self.counters.stale_on_failure.inc();
                Resolved { answer: entry.answer.clone(), generation, known: true, source: HOST }
            }
            None => {
                let Failed::Upstreams(ede) = failed else { return self.refusal() };
                let failure = Arc::new(Answer::error(rcode::SERVFAIL, Some(ede), now, self.failure_ttl));
                self.host.insert(key, failure.clone(), generation);
                Resolved { answer: failure, generation, known: false, source: Source::default() }
            }
        }
    }

    /// SERVFAIL that nobody may keep: it says something about us, not about the question.
    fn refusal(&self) -> Resolved {
        let answer = Arc::new(Answer::error(rcode::SERVFAIL, None, self.clock().secs(), 0));
        let generation = self.host.generation();
        Resolved { answer, generation, known: false, source: Source::default() }
    }
}

#[cfg(test)]
mod tests;
