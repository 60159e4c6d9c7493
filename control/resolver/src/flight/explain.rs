//! Explanation of what becomes of a question: nothing is asked, and nothing changes.

use super::Resolver;
use crate::{
    host::{Entry, Miss, MissCause, PurgeNote, StoredKey},
    upstream::Upstream,
};
use ringdns_common::names;
use ringdns_dataplane::{
    clock::Secs,
    dns::key::{Asked, Flags, Key},
    group::Group,
};
use std::sync::Arc;

/// Last lookup of a variant of a question that found no fresh answer.
#[derive(Clone, Debug)]
pub struct ExplainedMiss {
    /// Flags of the variant.
    pub flags: Flags,
    /// Lookup and its cause.
    pub miss: Miss,
    /// Purge that removed the answer, if it is remembered.
    pub purge: Option<PurgeNote>,
    /// Flags of another variant that had been asked for before, if nothing was known of this one.
    pub other: Option<Flags>,
    /// Whether clients with other upstreams had asked the question before.
    pub other_group: bool,
}

/// Knowledge about a question.
pub struct Explanation {
    /// Entries of the host tier of the client's group, of all variants of the question.
    pub entries: Vec<(StoredKey, Entry)>,
    /// Last misses of all variants of the question.
    pub misses: Vec<ExplainedMiss>,
    /// Whether it is about a special-use name, for which no upstream is asked.
    pub is_special: bool,
    /// Zone of the configuration that decides which upstreams are asked; `.`: the rest.
    pub zone: String,
    /// Upstreams that would be asked, in the order of the configuration.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Zone at or above the name that is capped because of a flood of random names.
    pub capped: Option<String>,
}

impl Resolver {
    /// Explains what becomes of a question of a client of `group` that no worker's cache answers.
    pub fn explain(&self, key: &Key, group: Group) -> Explanation {
        let view = self.view_of(group);
        let resolver = view.as_deref().unwrap_or(self);
        let asked = key.asked();
        let (zone, upstreams) = resolver.setup.load().upstreams.asked_for(asked);
        let below = |zone: &str| {
            let name = names::display(asked.name());
            name == zone || name.ends_with(&format!(".{zone}"))
        };
        let entries = resolver.host.own_entries_of(asked.name(), Some(asked.qtype()));
        Explanation {
            misses: self.misses(resolver, asked, &entries),
            entries,
            is_special: resolver.is_local(key),
            zone,
            upstreams,
            capped: resolver.capped_zones().into_iter().map(|flood| flood.zone).find(|zone| below(zone)),
        }
    }

    /// Returns the last misses of all variants of a question of clients that `resolver` serves.
    fn misses(
        &self,
        resolver: &Resolver,
        asked: Asked<'_>,
        entries: &[(StoredKey, Entry)],
    ) -> Vec<ExplainedMiss> {
        let variants = [(false, false), (true, false), (false, true), (true, true)];
        let keys = variants.into_iter().filter_map(|(dnssec_ok, checking_disabled)| {
            names::key(asked.name(), asked.qtype(), dnssec_ok, checking_disabled)
        });
        let found: Vec<(Key, Miss)> =
            keys.filter_map(|key| resolver.host.last_miss(&key).map(|miss| (key, miss))).collect();
        let before = |flags: Flags, at: Secs| {
            let kept = entries.iter().filter(|(_, entry)| entry.answer.received < at);
            let kept = kept.map(|(key, _)| key.asked().flags);
            let missed = found.iter().filter(|(_, miss)| miss.at < at).map(|(key, _)| key.flags());
            kept.chain(missed).find(|other| *other != flags)
        };
        let one = |(key, miss): &(Key, Miss)| {
            let is_unknown = miss.cause == MissCause::Unknown;
            let purge = miss.since.filter(|_| miss.cause == MissCause::Purged);
            ExplainedMiss {
                flags: key.flags(),
                miss: *miss,
                purge: purge.and_then(|at| self.host.purge_of(key, at)),
                other: before(key.flags(), miss.at).filter(|_| is_unknown),
                other_group: is_unknown && self.is_known_to_others(resolver, key, miss.at),
            }
        };
        found.iter().map(one).collect()
    }

    /// Whether a tier of other clients had an answer before `at`.
    fn is_known_to_others(&self, resolver: &Resolver, key: &Key, at: Secs) -> bool {
        let beside = self.host.tiers_beside();
        let tiers = std::iter::once(&self.host).chain(&*beside);
        let mut others = tiers.filter(|tier| !Arc::ptr_eq(tier, &resolver.host));
        others.any(|tier| tier.peek(key).is_some_and(|entry| entry.answer.received < at))
    }
}
