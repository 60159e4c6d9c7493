//! Lists on the way of an answer to clients.

use super::Resolver;
use crate::{
    policy::{ListCounts, Listed, NamePolicy},
    resolved::{Resolved, Transport},
    upstream::turn::Turn,
};
use ringdns_dataplane::{
    dns::key::Key,
    group::{Group, GroupSet},
    log::{AnswerSource, Tier},
};
use ringdns_policy::groups::Policies;
use std::sync::Arc;

impl Resolver {
    /// Takes over lists. What workers have cached about names whose rules have changed is void from
    /// now on, or everything if those cannot be told or are many.
    pub fn set_policy(&self, policy: Policies) {
        let is_regrouped = self.set_groups(policy.names());
        let policy = (!policy.is_empty()).then(|| Arc::new(NamePolicy::new(policy, &self.list_counts)));
        let before = self.policy.swap(policy.clone());
        let changed = match (&policy, &before) {
            _ if is_regrouped => None,
            // IPv6 addresses that are made of IPv4 ones come from two answers, with aliases each.
            _ if self.setup.load().dns64.is_some() => None,
            (Some(policy), Some(before)) => policy.policies().changed_since(before.policies()),
            (None, None) => return,
            _ => None,
        };
        // Last: who sees the new generation sees the new lists.
        match changed {
            Some(changed) if changed.is_empty() => {}
            Some(changed) => {
                self.counters.list_purges_of_names.inc();
                tracing::debug!(
                    names = changed.len(),
                    "what workers cached about names in changed rules is void"
                );
                self.host.begin_verdicts_on(Arc::new(changed));
            }
            None => {
                self.counters.list_purges_of_all.inc();
                self.host.begin_verdicts();
            }
        }
    }

    /// Returns the lists in effect; `None`: there are none.
    pub fn policy(&self) -> Option<Arc<NamePolicy>> {
        self.policy.load_full()
    }

    /// Returns the counters of lists.
    pub fn list_counts(&self) -> &ListCounts {
        &self.list_counts
    }

    /// Returns the answer to a client's question, if local data, a list or the host tier has it.
    pub(super) fn at_once(
        self: &Arc<Self>,
        key: &Key,
        group: Group,
        transport: Transport,
        turn: &mut Turn,
    ) -> Option<Resolved> {
        let generation = self.host.generation();
        let passed_on = match self.in_data(&self.local_data, (key, group), generation) {
            (_, Some(resolved)) => return Some(resolved),
            (groups, None) => groups,
        };
        if let Some(policy) = &*self.policy.load() {
            policy.count_dry_run(key, group);
            let listed = policy.answer(key, group, self.clock().secs());
            if let Some(listed) = listed.filter(|listed| listed.is_for(group, transport)) {
                let (answer, source) = (listed.answer.clone(), AnswerSource::of(Tier::Local));
                let resolved = Resolved::new(answer, generation, false, source);
                let resolved = Resolved { groups: GroupSet::NONE, listed: vec![listed], ..resolved };
                return Some(resolved.within(passed_on));
            }
        }
        let made = self.in_data(&self.safe_search, (key, group), generation).1;
        if let Some(resolved) = made.or_else(|| self.dns64_reverse(key, generation)) {
            return Some(resolved.within(passed_on));
        }
        self.lookup(key, turn).map(|resolved| self.policed(key, resolved))
    }

    /// Returns the answer with what clients get in its place, if lists say so.
    pub(super) fn policed(&self, key: &Key, mut resolved: Resolved) -> Resolved {
        let served = resolved.groups;
        if let Some(policy) = &*self.policy.load() {
            resolved.listed = policy.answers(key, &resolved.answer, self.clock().secs());
            let listed =
                resolved.listed.iter().fold(GroupSet::NONE, |groups, listed| groups.or(listed.groups));
            resolved.groups = resolved.groups.and(listed.others());
        }
        // The others have the answer of local data, or of other upstreams.
        let mut resolved = resolved.within(self.passed_on(key).and(served));
        // These groups get the answer too, over TCP.
        let over_udp = resolved.listed.iter().filter(|listed| listed.is_over_udp);
        let over_tcp = over_udp.fold(GroupSet::NONE, |groups, listed| groups.or(listed.groups));
        if !resolved.groups.or(over_tcp).is_empty()
            && let Some(instead) = self.without_private(key, &resolved)
        {
            // Not one set: workers must not cache it for groups that get another answer over UDP.
            let also = instead.clone().with_groups(over_tcp);
            resolved.listed.extend([instead, also]);
            resolved.groups = GroupSet::NONE;
        }
        resolved
    }
}

/// Returns the answer of a list, which a client of `group` gets.
fn given(listed: &Listed, group: Group, generation: u64) -> Resolved {
    listed.count(group);
    let source = AnswerSource::of(Tier::Local).by(listed.number());
    Resolved {
        groups: listed.groups,
        is_withheld: listed.is_withheld,
        ..Resolved::new(listed.answer.clone(), generation, false, source)
    }
}

impl Resolved {
    /// Returns the answer as a client of `group` gets it over `transport`, without those that others
    /// get.
    pub(crate) fn for_client(&self, group: Group, transport: Transport) -> Resolved {
        match self.listed.iter().find(|listed| listed.is_for(group, transport)) {
            Some(listed) => given(listed, group, self.generation),
            // Groups or local data have changed since the question, and workers must not keep what is no
            // longer for this client. Every such change has made the first generation void.
            None if !self.groups.has(group) => Resolved { listed: Vec::new(), generation: 0, ..self.clone() },
            None => Resolved { listed: Vec::new(), ..self.clone() },
        }
    }
}
