//! Views: groups of clients with upstreams of their own.
//!
//! Groups with the same upstreams have a resolver of their own, with a host tier, questions in flight,
//! validated denials, shares and caps. So no answer of other upstreams can reach their clients, and none
//! of theirs the clients of others: nothing that holds an answer is common but the caches of workers,
//! which keep it for the groups that [`Resolver::served`] names. Lists, local data, counters and the
//! upstreams themselves, with their health, are those of the first resolver, which serves all other
//! groups and hands on the questions of these.

use super::{Flights, Resolver, ZoneCaps, setup::ResolverSetup, shares::Shares};
use crate::upstream::choice::Upstreams;
use arc_swap::ArcSwap;
use ringdns_config::{Config, DEFAULT_GROUP};
use ringdns_dataplane::group::{Group, GroupSet};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU32, Ordering::Relaxed},
};

/// Groups of clients with the same upstreams of their own.
pub(super) struct View {
    /// Its own upstreams as the configuration writes them. A view whose upstreams are others after a
    /// reload is another one.
    labels: Vec<String>,
    /// Names of the groups.
    names: Vec<String>,
    resolver: Arc<Resolver>,
}

/// View that a configuration wants.
struct WantedView {
    /// Numbers of its own upstreams.
    own: Vec<usize>,
    labels: Vec<String>,
    names: Vec<String>,
}

impl WantedView {
    /// Returns the views of a configuration.
    fn all(config: &Config) -> Vec<Self> {
        let groups = config.lists.groups.iter().map(|group| group.name.as_str());
        let groups = groups.filter(|name| *name != DEFAULT_GROUP).chain([DEFAULT_GROUP]);
        let mut views: Vec<Self> = Vec::new();
        for name in groups {
            let is_own = |groups: &Vec<String>| groups.iter().any(|group| group == name);
            let own = config.upstreams.iter().enumerate();
            let own: Vec<_> =
                own.filter(|(_, upstream)| upstream.groups.as_ref().is_some_and(is_own)).collect();
            if own.is_empty() {
                continue;
            }
            let numbers: Vec<_> = own.iter().map(|(number, _)| *number).collect();
            match views.iter_mut().find(|view| view.own == numbers) {
                Some(view) => view.names.push(name.to_owned()),
                None => views.push(WantedView {
                    own: numbers,
                    labels: own.iter().map(|(_, upstream)| upstream.label()).collect(),
                    names: vec![name.to_owned()],
                }),
            }
        }
        views
    }
}

impl Resolver {
    /// Returns the groups of clients whose questions this resolver answers.
    pub(super) fn served(&self) -> GroupSet {
        GroupSet::from_bits(self.served.load(Relaxed))
    }

    /// Returns the resolver for clients of a group with upstreams of its own.
    pub(crate) fn view_of(&self, group: Group) -> Option<Arc<Resolver>> {
        let views = self.views.load();
        views.iter().map(|view| &view.resolver).find(|resolver| resolver.served().has(group)).cloned()
    }

    /// Returns the resolvers of groups with upstreams of their own.
    pub(super) fn views(&self) -> Vec<Arc<Resolver>> {
        self.views.load().iter().map(|view| view.resolver.clone()).collect()
    }

    /// Returns the zones of which no upstream answers, `.` for all names that are in none, and the groups
    /// of clients that this concerns, unless it is all without upstreams of their own.
    pub fn silent_zones(&self) -> Vec<String> {
        let mut zones = self.setup.load().upstreams.silent_zones();
        for view in &**self.views.load() {
            let of_view = view.resolver.setup.load().upstreams.silent_zones();
            let of_view = of_view.into_iter().filter(|zone| zone == "." || !zones.contains(zone));
            let told: Vec<_> =
                of_view.map(|zone| format!("{zone} (clients of {})", view.names.join(", "))).collect();
            zones.extend(told);
        }
        zones
    }

    /// Takes over the views of a configuration, whose upstreams are `everything`. Returns whether other
    /// clients have upstreams of their own now, or other ones.
    pub(super) fn set_views(&self, config: &Config, everything: &Upstreams, before: &ResolverSetup) -> bool {
        let _one_at_a_time = self.changing.lock();
        let (wanted, known, now) = (WantedView::all(config), self.views.load_full(), self.setup());
        let bytes = self.host_bytes / (1 + wanted.len() as u64);
        let mut views = Vec::new();
        for WantedView { own, labels, names } in wanted {
            let upstreams = everything.for_group(&config.upstreams, &own);
            let resolver = match known.iter().find(|view| view.labels == labels) {
                Some(View { resolver, .. }) => {
                    let was = resolver.setup();
                    let setup = ResolverSetup::beside(config, upstreams, &now, Some((&was, before)));
                    resolver.setup.store(Arc::new(setup));
                    resolver.caps.set(config.resolver.zone_misses, self.clock.nanos());
                    resolver.host.set_capacity(bytes);
                    resolver.clone()
                }
                None => {
                    let setup = ResolverSetup::beside(config, upstreams, &now, None);
                    Arc::new(self.beside(config, setup, bytes))
                }
            };
            views.push(View { labels, names, resolver });
        }
        let told = |view: &View| (view.labels.clone(), view.names.clone());
        let is_changed = !views.iter().map(told).eq(known.iter().map(told));
        self.host.set_capacity(bytes);
        // Before the first question comes there.
        self.host.set_beside(views.iter().map(|view| view.resolver.host.clone()).collect());
        self.views.store(Arc::new(views));
        self.regroup();
        let views = self.views.load();
        for gone in known.iter().filter(|view| !views.iter().any(|other| other.labels == view.labels)) {
            // Nothing that lands there from now on is for anybody's cache.
            gone.resolver.served.store(GroupSet::NONE.bits(), Relaxed);
        }
        is_changed
    }

    /// Says again which groups each resolver serves. The caller begins a generation after that: an
    /// answer that was made under an older one may be for other groups.
    pub(super) fn regroup(&self) {
        let (names, mut left) = (self.groups.load(), GroupSet::ALL);
        for view in &**self.views.load() {
            let groups = names.groups(|name| view.names.iter().any(|own| own == name)).and(left);
            left = left.and(groups.others());
            view.resolver.served.store(groups.bits(), Relaxed);
        }
        self.served.store(left.bits(), Relaxed);
    }

    /// Returns a resolver with nothing in it for groups with upstreams of their own.
    fn beside(&self, config: &Config, setup: ResolverSetup, bytes: u64) -> Resolver {
        let shares = Shares::new(self.stale_client_timeout);
        let flights = || Flights::new(self.limits, shares.clone());
        Resolver {
            host: Arc::new(self.host.beside(bytes)),
            host_bytes: bytes,
            clock: self.clock,
            everything: ArcSwap::new(setup.upstreams.clone()),
            setup: ArcSwap::from_pointee(setup),
            rules: self.rules,
            failure_ttl: self.failure_ttl,
            nxdomain_cut: self.nxdomain_cut,
            stale_client_timeout: self.stale_client_timeout,
            budget: self.budget.clone(),
            policy: self.policy.clone(),
            list_counts: self.list_counts.clone(),
            groups: self.groups.clone(),
            local_data: self.local_data.clone(),
            safe_search: self.safe_search.clone(),
            changing: self.changing.clone(),
            labels: self.labels.clone(),
            caps: ZoneCaps::new(config.resolver.zone_misses),
            limits: self.limits,
            flights: flights(),
            hops: flights(),
            validations: flights(),
            // Other appliances may have other upstreams for these clients.
            fleet: None,
            watch: self.watch.clone(),
            // The upstreams are among those of all, and know theirs.
            reader: OnceLock::new(),
            served: AtomicU32::new(GroupSet::NONE.bits()),
            views: ArcSwap::default(),
            counters: self.counters.clone(),
            anchor_counters: self.anchor_counters.clone(),
        }
    }
}
