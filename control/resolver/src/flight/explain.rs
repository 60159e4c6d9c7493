//! Explanation of what becomes of a question: nothing is asked, and nothing changes.

use super::Resolver;
use crate::{
    host::{Entry, StoredKey},
    upstream::Upstream,
};
use ringdns_dataplane::{dns::key::Key, group::Group};
use std::sync::Arc;

/// Knowledge about a question.
pub struct Explanation {
    /// Entries of the host tier of the client's group, of all variants of the question.
    pub entries: Vec<(StoredKey, Arc<Entry>)>,
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
            let name = ringdns_common::names::display(asked.name());
            name == zone || name.ends_with(&format!(".{zone}"))
        };
        Explanation {
            entries: resolver.host.own_entries_of(asked.name(), Some(asked.qtype())),
            is_special: resolver.is_local(key),
            zone,
            upstreams,
            capped: resolver.capped_zones().into_iter().map(|flood| flood.zone).find(|zone| below(zone)),
        }
    }
}
