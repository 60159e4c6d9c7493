//! Lists on the way of an answer to clients.

use super::Resolver;
use crate::{
    policy::{ListCounts, Listed, NamePolicy},
    resolved::Resolved,
    upstream::turn::Turn,
};
use ringdns_dataplane::{
    dns::key::Key,
    log::{AnswerSource, Tier},
};
use ringdns_policy::policy::Policy;
use std::sync::Arc;

impl Resolver {
    /// Takes over lists. What workers have cached is void from now on.
    pub fn set_policy(&self, policy: Policy) {
        let is_empty = policy.block_lists().is_empty();
        let policy = (!is_empty).then(|| Arc::new(NamePolicy::new(policy, &self.list_counts)));
        self.policy.store(policy);
        // Last: who sees the new generation sees the new lists.
        self.host.begin_verdicts();
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
    pub(super) fn at_once(self: &Arc<Self>, key: &Key, turn: &mut Turn) -> Option<Resolved> {
        let generation = self.host.generation();
        if let Some(resolved) = self.in_data(&self.local_data, key, generation) {
            return Some(resolved);
        }
        if let Some(policy) = &*self.policy.load() {
            policy.count_dry_run(key);
            if let Some(listed) = policy.answer(key, self.clock().secs()) {
                let (answer, source) = (listed.answer.clone(), AnswerSource::of(Tier::Local));
                return Some(Resolved { answer, generation, known: false, source, listed: Some(listed) });
            }
        }
        if let Some(resolved) = self.in_data(&self.safe_search, key, generation) {
            return Some(resolved);
        }
        if let Some(resolved) = self.dns64_reverse(key, generation) {
            return Some(resolved);
        }
        self.lookup(key, turn).map(|resolved| self.policed(key, resolved))
    }

    /// Returns the answer with what clients get in its place, if lists say so.
    pub(super) fn policed(&self, key: &Key, mut resolved: Resolved) -> Resolved {
        if let Some(policy) = &*self.policy.load() {
            let now = self.clock().secs();
            let replaced = || policy.replacement(key, &resolved.answer, now);
            resolved.listed = policy.answer(key, now).or_else(replaced);
        }
        if resolved.listed.is_none() {
            resolved.listed = self.without_private(key, &resolved);
        }
        resolved
    }
}

/// Returns the answer of a list, which a client gets.
fn given(listed: &Listed, generation: u64) -> Resolved {
    listed.count();
    let answer = listed.answer.clone();
    Resolved { answer, generation, known: false, source: AnswerSource::of(Tier::Local), listed: None }
}

impl Resolved {
    /// Returns the answer as clients get it.
    pub(crate) fn for_client(&self) -> Resolved {
        match &self.listed {
            Some(listed) => given(listed, self.generation),
            None => self.clone(),
        }
    }
}
