//! Answers of local data and of lists that end in an alias: its target is resolved, and the answers
//! are joined.
//!
//! The target is resolved as a question of this process. So no list decides about it: the operator
//! or the list has named it. Such a question holds no place of its own while it waits, except for
//! its client.

use super::{Resolver, flights::Seat, spread};
use crate::{
    data::{self, GroupData, Lead},
    policy::Listed,
    resolved::Resolved,
    upstream::turn::Turn,
    watch::Watched,
};
use arc_swap::ArcSwapOption;
use ringdns_dataplane::{
    clock::Secs,
    dns::{answer::Answer, key::Key, rcode},
    group::{Group, GroupSet},
    log::{AnswerSource, Tier},
};
use ringdns_policy::{data::LocalData, groups::GroupNames};
use std::sync::Arc;

/// TTL of the records of an expired answer that had to be used, in seconds (RFC 8767 section 4).
const STALE_TTL: Secs = 30;

impl Resolver {
    /// Takes over local data. What workers have cached is void from now on.
    pub fn set_local_data(&self, data: LocalData) {
        self.swap(&self.local_data, data);
    }

    /// Takes over the aliases of search engines.
    pub fn set_safe_search(&self, data: LocalData) {
        self.swap(&self.safe_search, data);
    }

    fn swap(&self, place: &ArcSwapOption<GroupData>, data: LocalData) {
        let _one_at_a_time = self.changing.lock();
        let data = (!data.is_empty()).then(|| Arc::new(GroupData::new(Arc::new(data), &self.groups.load())));
        let before = place.swap(data);
        if before.is_some() || place.load().is_some() {
            // Last: who sees the new generation sees the new data.
            self.host.begin_verdicts();
        }
    }

    /// Takes over the names of groups. Returns whether local data may be for other clients now.
    pub(super) fn set_groups(&self, names: &GroupNames) -> bool {
        let _one_at_a_time = self.changing.lock();
        if **self.groups.load() == *names {
            return false;
        }
        self.groups.store(Arc::new(names.clone()));
        let data = self.local_data.load_full();
        self.regroup();
        let has_views = !self.views.load().is_empty();
        let Some(data) = data.filter(|data| data.has_groups()) else { return has_views };
        self.local_data.store(Some(Arc::new(GroupData::new(data.data().clone(), names))));
        true
    }

    /// Returns the local data in effect; `None`: there is none.
    pub fn local_data(&self) -> Option<Arc<LocalData>> {
        self.local_data.load().as_ref().map(|data| data.data().clone())
    }

    /// Returns the aliases of search engines in effect; `None`: there are none.
    pub fn safe_search(&self) -> Option<Arc<LocalData>> {
        self.safe_search.load().as_ref().map(|data| data.data().clone())
    }

    /// Whether local data answers the question of a client of `group`.
    pub(super) fn is_in_data(&self, key: &Key, group: Group) -> bool {
        let now = self.clock().secs();
        let answers = |data: &Arc<GroupData>| data.answer(key, group, now).1.is_some();
        [&self.local_data, &self.safe_search].iter().any(|place| place.load().as_ref().is_some_and(answers))
    }

    /// Returns the answer of local data to the question of a client of `group`, and all groups for which
    /// it is the same; `None`: the question is resolved for them.
    pub(super) fn in_data(
        &self,
        place: &ArcSwapOption<GroupData>,
        (key, group): (&Key, Group),
        generation: u64,
    ) -> (GroupSet, Option<Resolved>) {
        let data = place.load();
        let Some(data) = data.as_ref() else { return (GroupSet::ALL, None) };
        let (groups, found) = data.answer(key, group, self.clock().secs());
        let resolved = found.map(|(answer, lead)| {
            self.counters.local_data.inc();
            made_here(answer, lead, generation).within(groups)
        });
        (groups, resolved)
    }

    /// Returns the groups of clients for which no local data answers a question.
    pub(super) fn passed_on(&self, key: &Key) -> GroupSet {
        self.local_data.load().as_ref().map_or(GroupSet::ALL, |data| data.passed_on(key))
    }

    /// Returns the answer to a client's question for the reverse name of an address that DNS64 made.
    pub(super) fn dns64_reverse(&self, key: &Key, generation: u64) -> Option<Resolved> {
        let (answer, lead) = self.setup.load().dns64.as_ref()?.reverse(key, self.clock().secs())?;
        Some(made_here(answer, lead, generation))
    }

    /// Returns the question for IPv4 addresses of which an answer to `key` may be made.
    fn dns64(&self, key: &Key) -> Option<Box<Lead>> {
        self.setup.load().dns64.as_ref()?.lead(key)
    }

    /// Returns the work that is left on answers to a question before clients get them.
    pub(super) fn finish(&self, key: &Key) -> Finish {
        let watched = self.watch.get().and_then(|watch| Watched::new(watch, key, self.clock()));
        Finish { dns64: self.dns64(key), watched }
    }

    /// Hands the answer to the waiters of a question. Other questions of this process have it at
    /// once: they need no more of it, and what is missing might wait for them.
    pub(super) fn hand_out(
        self: &Arc<Self>,
        key: &Key,
        resolved: Resolved,
        mut seats: Vec<Seat>,
        turn: &mut Turn,
    ) {
        let (clock, mut finish) = (self.clock(), self.finish(key));
        // Firewalls learn of what lists give to clients, which others do not get.
        finish.watched.take_if(|_| !seats.iter().any(|seat| seat.waiter.is_client()));
        let is_watched = finish.watched.is_some() && !resolved.listed.is_empty();
        let is_led = resolved.listed.iter().any(|listed| listed.lead.is_some());
        if finish.dns64.is_some() || is_led || is_watched {
            let others = seats.extract_if(.., |seat| !seat.waiter.is_client()).collect();
            spread::answer(others, &resolved, clock, turn);
        }
        let answer = move |resolved: Resolved, turn: &mut Turn| spread::answer(seats, &resolved, clock, turn);
        self.whole(resolved, finish, turn, answer);
    }

    /// Returns the answer that clients get in place of one with private addresses for a public name.
    pub(super) fn without_private(&self, key: &Key, resolved: &Resolved) -> Option<Listed> {
        let setup = self.setup.load();
        let (rebinding, now) = (setup.rebinding.as_ref()?, self.clock().secs());
        let age = resolved.age(now, STALE_TTL);
        let answer = rebinding.replacement(key, &resolved.answer, age, now)?;
        if setup.upstreams.has_zone_of(key.asked()) || self.is_local(key) {
            return None;
        }
        self.counters.rebinding.inc();
        Some(Listed::of_no_list(Arc::new(answer), resolved.groups, None))
    }

    /// Hands the answer for clients to `then`. If it ends in an alias, the target is resolved first,
    /// and if it lacks IPv6 addresses, the question for others. Then firewalls learn of addresses that
    /// were made here.
    pub(super) fn whole(
        self: &Arc<Self>,
        resolved: Resolved,
        Finish { dns64, watched }: Finish,
        turn: &mut Turn,
        then: impl FnOnce(Resolved, &mut Turn) + Send + 'static,
    ) {
        match watched {
            None => self.completed(resolved, dns64, turn, then),
            Some(watched) => {
                let then: Then = Box::new(then);
                let show = move |resolved, turn: &mut Turn| watched.show_made(resolved, turn, then);
                self.completed(resolved, dns64, turn, show);
            }
        }
    }

    fn completed(
        self: &Arc<Self>,
        resolved: Resolved,
        dns64: Option<Box<Lead>>,
        turn: &mut Turn,
        then: impl FnOnce(Resolved, &mut Turn) + Send + 'static,
    ) {
        let Some(dns64) = dns64 else { return self.led(resolved, turn, then) };
        let resolver = self.clone();
        let then: Then = Box::new(then);
        self.led(resolved, turn, move |resolved, turn| resolver.with_v6(resolved, dns64, turn, then));
    }

    /// Hands the answer for clients to `then`, with IPv6 addresses made of IPv4 ones if it has none.
    fn with_v6(self: &Arc<Self>, resolved: Resolved, lead: Box<Lead>, turn: &mut Turn, then: Then) {
        let setup = self.setup();
        if !setup.dns64.as_ref().is_some_and(|dns64| dns64.wants(&lead.key, resolved.shown().0)) {
            return then(resolved, turn);
        }
        let (resolver, target) = (self.clone(), lead.target.clone());
        let resolved_groups = resolved.shown().1;
        let join: Then = Box::new(move |found, turn| {
            let now = resolver.clock().secs();
            let (found, known) = (found.shown().0, found.known);
            let age = found.age(known, now, STALE_TTL);
            let (first, groups) = resolved.shown();
            let dns64 = setup.dns64.as_ref();
            let made = dns64.and_then(|dns64| dns64.made(&lead, first, found, age, now));
            let resolved = match made {
                Some(answer) => {
                    let listed = resolved.listed.into_iter().filter(|listed| listed.is_of_list).collect();
                    let groups = groups.and(resolver.served());
                    Resolved { groups, listed, ..made_here(answer, None, resolved.generation) }
                }
                None => resolved,
            };
            then(resolved, turn);
        });
        // Lists have decided about the name already.
        let generation = self.host.generation();
        // All groups that get this answer see the same data at the name (`LocalData::answers`).
        let group = resolved_groups.first().unwrap_or_default();
        if let (_, Some(found)) = self.in_data(&self.local_data, (&target, group), generation) {
            return self.led(found, turn, join);
        }
        if let Some(found) = self.lookup(&target, turn) {
            return self.led(self.policed(&target, found), turn, join);
        }
        let resolver = self.clone();
        tokio::spawn(async move {
            let found = resolver.resolve(&target).await;
            let found = resolver.policed(&target, found);
            resolver.led(found, &mut Turn::default(), join);
        });
    }

    /// Hands the answer for clients to `then`. If it ends in an alias, the target is resolved first.
    fn led(
        self: &Arc<Self>,
        mut resolved: Resolved,
        turn: &mut Turn,
        then: impl FnOnce(Resolved, &mut Turn) + Send + 'static,
    ) {
        if resolved.listed.iter().any(|listed| listed.lead.is_some()) {
            let listed = std::mem::take(&mut resolved.listed);
            resolved.listed = listed.into_iter().flat_map(|listed| self.led_through_data(listed)).collect();
        }
        let next = resolved.listed.iter_mut().enumerate().find_map(|(at, listed)| {
            let lead = listed.lead.take()?;
            Some((at, lead))
        });
        let Some((at, lead)) = next else { return then(resolved, turn) };
        if let Some(target) = self.lookup(&lead.target, turn) {
            return self.led(self.joined(resolved, at, &lead, &target), turn, then);
        }
        let resolver = self.clone();
        tokio::spawn(async move {
            let target = resolver.resolve(&lead.target).await;
            let resolved = resolver.joined(resolved, at, &lead, &target);
            resolver.led(resolved, &mut Turn::default(), then);
        });
    }

    /// Follows an alias whose target is in local data, for each group as far as that is for it.
    fn led_through_data(&self, listed: Listed) -> Vec<Listed> {
        let data = self.local_data.load();
        let (Some(lead), Some(data)) = (&listed.lead, data.as_ref()) else { return vec![listed] };
        let now = self.clock().secs();
        let mut parts = Vec::new();
        for (groups, found) in data.answers(&lead.target, now) {
            let groups = groups.and(listed.groups);
            if groups.is_empty() {
                continue;
            }
            let mut part = listed.clone().with_groups(groups);
            if let Some((answer, next)) = found {
                let age = answer.age(false, now, STALE_TTL);
                let whole = data::joined(lead, &listed.answer, &answer, age, now);
                part.answer = Arc::new(whole.unwrap_or_else(|| failed(&answer, now)));
                part.lead = next.and_then(|next| Lead::new(&lead.key, next.target.asked().name()));
            }
            parts.push(part);
        }
        parts
    }

    /// Returns the answer with that for the target of the alias of the list's answer at `at`.
    fn joined(&self, mut resolved: Resolved, at: usize, lead: &Lead, target: &Resolved) -> Resolved {
        let now = self.clock().secs();
        let answer = &target.answer;
        if let Some(listed) = resolved.listed.get_mut(at) {
            let whole = if answer.status.is_failure() {
                None
            } else {
                data::joined(lead, &listed.answer, answer, target.age(now, STALE_TTL), now)
            };
            listed.answer = Arc::new(whole.unwrap_or_else(|| failed(answer, now)));
            // Other groups may have the target from other upstreams.
            listed.groups = listed.groups.and(self.served());
        }
        resolved
    }
}

/// Work on the answers to a question before clients get them.
#[derive(Default)]
pub(super) struct Finish {
    /// Question for the IPv4 addresses of which an answer may be made.
    dns64: Option<Box<Lead>>,
    /// Watch on the addresses of answers.
    watched: Option<Box<Watched>>,
}

impl Finish {
    /// Whether nothing is left to do on an answer: it does not end in an alias either.
    pub(super) fn is_nothing_for(&self, resolved: &Resolved) -> bool {
        let is_led = resolved.listed.iter().any(|listed| listed.lead.is_some());
        self.dns64.is_none() && self.watched.is_none() && !is_led
    }
}

/// Receiver of an answer.
type Then = Box<dyn FnOnce(Resolved, &mut Turn) + Send>;

/// Returns an answer that was made here, and the alias that it ends in.
fn made_here(answer: Answer, lead: Option<Box<Lead>>, generation: u64) -> Resolved {
    let (answer, source) = (Arc::new(answer), AnswerSource::of(Tier::Local));
    let resolved = Resolved::new(answer.clone(), generation, false, source);
    match lead {
        None => resolved,
        Some(lead) => {
            let listed = vec![Listed::of_no_list(answer, GroupSet::ALL, Some(lead))];
            Resolved { groups: GroupSet::NONE, listed, ..resolved }
        }
    }
}

/// Returns the answer to a question whose alias leads to one that failed. It is not kept.
fn failed(target: &Answer, now: Secs) -> Answer {
    Answer::error(rcode::SERVFAIL, target.ede, now, 0)
}
