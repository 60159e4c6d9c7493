//! Resolver: answers questions from the host tier, the fleet's tier or upstreams, and resolves each
//! question once at a time.
//!
//! A question that is not in the host tier takes off: it is in flight until its answer is known.
//! Clients that ask it meanwhile join as waiters, and all are answered when it lands. The numbers
//! of questions in flight and of their waiters are bounded; beyond that the answer is SERVFAIL,
//! counted and not kept, so that a flood cannot grow memory.

mod anchors;
mod asked;
mod attempt;
mod capped;
mod caps;
mod chase;
mod denied;
pub mod domain;
pub mod explain;
mod failure;
mod flights;
mod inquiry;
mod landing;
mod lane;
mod led;
mod pacing;
mod policed;
mod renewal;
mod restore;
mod setup;
mod shared;
mod shares;
mod spread;
mod tally;
mod validated;
mod views;
mod waiter;

use crate::{
    data::GroupData,
    host::{Found, HostTier},
    policy::{ListCounts, NamePolicy},
    resolved::{Resolved, Transport},
    tier::SharedTier,
    upstream::{choice::Upstreams, exchange::JudgeRules, told::UpstreamReader, turn::Turn},
    validate::AnchorCounters,
    watch::AddressWatch,
};
use arc_swap::{ArcSwap, ArcSwapOption};
pub use asked::{Asked, AwaitedAnswer};
use caps::ZoneCaps;
use flights::{Boarding, Flights};
use inquiry::Inquiry;
use landing::Landing;
use lane::{Lane, Origin};
use parking_lot::Mutex;
use renewal::{Renewal, RenewalBudget};
pub use restore::RestoreOutcome;
use ringdns_config::{Config, NxdomainCut};
use ringdns_dataplane::{
    clock::{Clock, Secs},
    dns::{answer::Answer, key::Key},
    group::GroupSet,
    labels::Labels,
    log::{AnswerSource, Tier},
    punt::{Link, Punt, Purpose},
};
use ringdns_policy::groups::GroupNames;
use setup::ResolverSetup;
use shared::Want;
use shares::Shares;
use std::{
    sync::{Arc, OnceLock, atomic::AtomicU32},
    time::Duration,
};
pub use tally::ResolverCounters;
use validated::Validated;
use views::View;
pub use waiter::Waiter;

/// Bounds of the resolver's memory.
#[derive(Clone, Copy, Debug)]
pub struct FlightLimits {
    /// Most questions in flight at once, in each lane.
    pub flights: usize,
    /// Most waiters for one question.
    pub waiters: usize,
}

impl Default for FlightLimits {
    fn default() -> Self {
        FlightLimits { flights: 8192, waiters: 1024 }
    }
}

/// Resolver of questions.
pub struct Resolver {
    host: Arc<HostTier>,
    /// Most bytes of the host tiers of this resolver and of those for groups with upstreams of their own.
    host_bytes: u64,
    clock: Clock,
    /// All upstreams of the configuration.
    everything: ArcSwap<Upstreams>,
    setup: ArcSwap<ResolverSetup>,
    /// Rules by which answers are kept. They stay as at the start, since workers are told them only
    /// then.
    rules: JudgeRules,
    failure_ttl: Secs,
    /// NXDOMAIN answers that hold for all names below theirs.
    nxdomain_cut: NxdomainCut,
    /// Time to wait for a new answer where there is an expired one; zero: not at all.
    stale_client_timeout: Duration,
    budget: Arc<RenewalBudget>,
    /// Lists; `None`: there are none.
    policy: Arc<ArcSwapOption<NamePolicy>>,
    list_counts: Arc<ListCounts>,
    /// Names of the groups of clients.
    groups: Arc<ArcSwap<GroupNames>>,
    /// Local data; `None`: there is none.
    local_data: Arc<ArcSwapOption<GroupData>>,
    /// Aliases of search engines; `None`: there are none.
    safe_search: Arc<ArcSwapOption<GroupData>>,
    /// Held while local data, the names of groups, or views change.
    changing: Arc<Mutex<()>>,
    labels: Arc<Labels>,
    /// Caps on zones whose names are random.
    caps: ZoneCaps,
    limits: FlightLimits,
    flights: Flights,
    /// Questions in flight that follow an alias. They wait for no others.
    hops: Flights,
    /// Questions in flight whose answers are validated. They wait for the others.
    validations: Flights,
    /// `None`: nothing is shared with other appliances.
    fleet: Option<Arc<dyn SharedTier>>,
    /// Watch on addresses; unset: there is none.
    watch: Arc<OnceLock<Arc<dyn AddressWatch>>>,
    /// Reader of the messages that are exchanged with upstreams; unset: there is none.
    reader: OnceLock<Arc<dyn UpstreamReader>>,
    /// Groups of clients whose questions are answered here, as bits.
    served: AtomicU32,
    /// Groups with upstreams of their own.
    views: ArcSwap<Vec<View>>,
    /// Counters of the resolver.
    pub counters: Arc<ResolverCounters>,
    /// Counters of managed trust anchors.
    pub anchor_counters: Arc<AnchorCounters>,
}

impl Resolver {
    /// Returns a resolver that asks the upstreams of `config`, and keeps answers in `host` by its
    /// rules. `fleet` is asked before upstreams.
    pub fn new(
        host: Arc<HostTier>,
        config: &Config,
        clock: Clock,
        limits: FlightLimits,
        fleet: Option<Arc<dyn SharedTier>>,
    ) -> Arc<Self> {
        host.set_clock(clock);
        let labels = Arc::default();
        let shares = Shares::new(config.cache.stale_client_timeout);
        let flights = || Flights::new(limits, shares.clone());
        let everything = Upstreams::new(&config.upstreams, &config.resolver, &labels, None);
        let common = everything.for_group(&config.upstreams, &[]);
        let resolver = Resolver {
            host_bytes: host.bytes().1,
            host,
            clock,
            setup: ArcSwap::from_pointee(ResolverSetup::new(config, common, clock, None)),
            everything: ArcSwap::from_pointee(everything),
            rules: JudgeRules { ttl: config.cache.ttl_rules(&config.refresh), clock },
            failure_ttl: config.cache.failure_secs(),
            nxdomain_cut: config.cache.nxdomain_cut,
            stale_client_timeout: config.cache.stale_client_timeout,
            budget: Arc::new(RenewalBudget::new(config.refresh.per_second)),
            policy: Arc::default(),
            list_counts: Arc::default(),
            groups: Arc::default(),
            local_data: Arc::default(),
            safe_search: Arc::default(),
            changing: Arc::default(),
            labels,
            caps: ZoneCaps::new(config.resolver.zone_misses),
            limits,
            flights: flights(),
            hops: flights(),
            validations: flights(),
            fleet,
            watch: Arc::default(),
            reader: OnceLock::new(),
            served: AtomicU32::new(GroupSet::ALL.bits()),
            views: ArcSwap::default(),
            counters: Arc::default(),
            anchor_counters: Arc::default(),
        };
        resolver.set_views(config, &resolver.everything.load(), &resolver.setup());
        Arc::new(resolver)
    }

    /// Sets the watch on addresses, before the first question.
    pub fn set_watch(&self, watch: Arc<dyn AddressWatch>) {
        // A second watch would be a defect of the caller; the first one stays.
        let _ = self.watch.set(watch);
    }

    /// Tells a reader of the messages that are exchanged with upstreams, before the first question.
    pub fn set_upstream_reader(&self, reader: Arc<dyn UpstreamReader>) {
        self.everything.load().tell(&reader);
        // A second reader would be a defect of the caller; the first one stays.
        let _ = self.reader.set(reader);
    }

    /// Returns the numbers of the upstreams in the query log.
    pub fn labels(&self) -> &Arc<Labels> {
        &self.labels
    }

    /// Returns the current configuration of the resolver.
    fn setup(&self) -> Arc<ResolverSetup> {
        self.setup.load_full()
    }

    /// Returns an answer from the host tier.
    fn host_answer(&self, answer: Arc<Answer>, generation: u64) -> Resolved {
        self.answered(answer, generation, true, AnswerSource::of(Tier::Host))
    }

    /// Returns an answer of this resolver, which is for the clients that it serves. `generation` has been
    /// read before.
    fn answered(&self, answer: Arc<Answer>, generation: u64, known: bool, source: AnswerSource) -> Resolved {
        Resolved::new(answer, generation, known, source).within(self.served())
    }

    /// Returns the host tier of clients without upstreams of their own.
    pub fn host(&self) -> &Arc<HostTier> {
        &self.host
    }

    /// Returns the tier that is shared with other appliances, if there is one.
    pub fn shared_tier(&self) -> Option<&Arc<dyn SharedTier>> {
        self.fleet.as_ref()
    }

    /// Returns the clock that answers are aged by.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Returns the number of questions in flight.
    pub fn under_way(&self) -> usize {
        let own = self.flights.len() + self.hops.len() + self.validations.len();
        own + self.views().iter().map(|view| view.under_way()).sum::<usize>()
    }

    /// Returns a worker's record with its answer: at once if the host tier has one, else when it is
    /// resolved.
    pub fn serve(self: &Arc<Self>, link: &Arc<Link>, record: Box<Punt>, turn: &mut Turn) {
        if let Some(view) = self.view_of(record.group) {
            return view.serve_own(link, record, turn);
        }
        self.serve_own(link, record, turn);
    }

    fn serve_own(self: &Arc<Self>, link: &Arc<Link>, record: Box<Punt>, turn: &mut Turn) {
        let ready = match record.purpose {
            Purpose::Answer(_) => self.at_once(&record.query.key, record.group, Transport::Udp, turn),
            // Workers punt neither of the others, and the pump passes on a NOTIFY.
            Purpose::Notify(_) | Purpose::Withheld(_) | Purpose::Renewed => {
                return turn.give_back(link, record);
            }
            // It was not local when the worker cached it.
            Purpose::Refresh if self.is_in_data(&record.query.key, record.group) => {
                return turn.give_back(link, record);
            }
            Purpose::Refresh => match self.renewal(&record.query.key) {
                Renewal::Have(resolved) => Some(self.policed(&record.query.key, resolved)),
                Renewal::Wanted => None,
                Renewal::NotNow => return turn.give_back(link, record),
            },
        };
        let key = ready.is_none().then(|| record.query.key.clone());
        let finish = self.finish(&record.query.key);
        let waiter = Waiter::Punt(link.clone(), record);
        match (ready, key) {
            (Some(resolved), _) => {
                self.whole(resolved, finish, turn, move |resolved, turn| waiter.answer(&resolved, turn));
            }
            (None, Some(key)) => self.board(&key, Some(waiter), turn),
            (None, None) => {}
        }
    }

    /// Whether a question is about a special-use name, for which no upstream is asked.
    pub(crate) fn is_local(&self, key: &Key) -> bool {
        let setup = self.setup.load();
        !setup.upstreams.has_zone_of(key.asked())
            && setup.local.answer(key, &self.rules.ttl, self.clock().secs()).is_some()
    }

    /// Returns the answer from the host tier. An expired answer is returned too, and its renewal
    /// begins, unless `stale_client_timeout` lets the client wait for the new one.
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
                entry.answer
            }
            Found::Missing => return None,
        };
        Some(self.host_answer(answer, generation))
    }

    /// Returns the answer to a question about a special-use name, and puts it into the host tier.
    fn answer_locally(&self, setup: &ResolverSetup, key: &Key, generation: u64) -> Option<Resolved> {
        if setup.upstreams.has_zone_of(key.asked()) {
            return None;
        }
        let answer = Arc::new(setup.local.answer(key, &self.rules.ttl, self.clock().secs())?);
        self.counters.local.inc();
        self.host.insert(key, answer.clone(), generation);
        Some(self.answered(answer, generation, false, AnswerSource::of(Tier::Local)))
    }

    /// Begins a renewal without a waiter. It holds the question and nothing else.
    fn refresh(self: &Arc<Self>, key: &Key, turn: &mut Turn) {
        self.board(key, None, turn);
    }

    fn board(self: &Arc<Self>, key: &Key, waiter: Option<Waiter>, turn: &mut Turn) {
        let Some(waiter) = self.within_cap(key, waiter, turn) else { return };
        self.board_for(Origin::Client, key, waiter, turn);
    }

    fn board_for(self: &Arc<Self>, asker: Origin, key: &Key, waiter: Option<Waiter>, turn: &mut Turn) {
        let refresh = waiter.as_ref().is_none_or(Waiter::is_renewal);
        let is_client = !refresh && waiter.as_ref().is_some_and(Waiter::is_client);
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
        // An answer that landed since the caller's lookup is in the host tier by now.
        let renews = waiter.as_ref().and_then(Waiter::renews);
        let landed = || {
            let (answer, now) = (self.host.peek(key)?.answer, self.clock().secs());
            let due = renews.map_or_else(|| answer.is_due(now), |received| answer.received <= received);
            let fresh = now < answer.expires() && !(refresh && (answer.status.is_failure() || due));
            fresh.then(|| self.host_answer(answer, generation))
        };
        let validator = setup.validator.as_ref().filter(|validator| validator.concerns(key));
        let lane = Lane::of(asker, validator.is_some());
        let flights = self.lane(lane);
        let denied = if refresh { None } else { self.denied(&setup, validator, key, generation) };
        let boarding = match denied {
            Some(denied) => Boarding::Landed(waiter, denied),
            None => flights.board(key, generation, waiter, refresh, landed),
        };
        let (waiter, resolved) = match boarding {
            Boarding::TakeOff(flight, time) => {
                self.counters.flights.inc();
                self.counters.refreshes.add(u64::from(refresh));
                if is_client {
                    self.note_take_off(key);
                    self.host.note_miss(key, self.clock().secs());
                }
                if !refresh && asker == Origin::Client {
                    self.clone().limit_wait(key, &flight, lane);
                }
                let landing = Landing {
                    resolver: self.clone(),
                    setup: setup.clone(),
                    key: key.clone(),
                    lane,
                    time,
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
            Boarding::NoShare(waiter, greedy) => {
                self.note_refused(key, greedy);
                if let Some(waiter @ Waiter::Client { .. }) = waiter {
                    return failure::refuse_later(waiter, self.refusal());
                }
                (waiter, self.refusal())
            }
        };
        if let Some(waiter) = waiter {
            let resolved = self.policed(key, resolved);
            if !waiter.is_client() {
                return waiter.answer(&resolved, turn);
            }
            let finish = self.finish(key);
            self.whole(resolved, finish, turn, move |resolved, turn| waiter.answer(&resolved, turn));
        }
    }

    /// Returns the questions in flight of a lane.
    fn lane(&self, lane: Lane) -> &Flights {
        match lane {
            Lane::Clients => &self.flights,
            Lane::Hops => &self.hops,
            Lane::Validations => &self.validations,
        }
    }
}

#[cfg(test)]
mod tests;
