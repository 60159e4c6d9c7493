//! Lists in effect at this moment, without a running ringdnsd.

use super::{Groups, GroupsError, Lists, effect::InEffect, overrides};
use jiff::Timestamp;
use ringdns_api::RulePlace;
use ringdns_common::printable::Printable;
use ringdns_config::{ListsConfig, Problem};
use ringdns_policy::{groups::Policies, list::Found, overrides::OVERRIDES};
use std::path::Path;

/// Lists as a ringdnsd that starts now would put them into effect.
pub struct EffectiveLists<'a> {
    /// Policies of the groups of clients.
    pub policies: Policies,
    lists: &'a Lists,
    config: &'a ListsConfig,
}

impl<'a> EffectiveLists<'a> {
    /// Returns the lists that were read, as far as schedules, overrides and pauses let them decide.
    pub fn now(lists: &'a mut Lists, config: &'a ListsConfig) -> Result<Self, Problem> {
        let path = &config.fetch.overrides_file;
        let overrides = overrides::read(path).map_err(|error| {
            let reason = format!("{}: {error}", Printable(path.display()));
            Problem::new("lists.overrides_file", reason, "Correct the file or move it away")
        })?;
        let effect = InEffect::at(config, &overrides, Timestamp::now().as_second());
        lists
            .pause_clients(config, effect.clients())
            .map_err(|error| Problem::new("lists.overrides_file", error.to_string(), GroupsError::REMEDY))?;
        let lists = &*lists;
        Ok(EffectiveLists { policies: lists.policies(config, &effect), lists, config })
    }

    /// Whether a list has yet to be downloaded.
    pub fn is_missing(&self, name: &str) -> bool {
        self.lists.is_missing(name)
    }

    /// Groups of clients that the lists decide for.
    pub fn groups(&self) -> &Groups {
        self.lists.groups()
    }

    /// Returns the place of the rule of a list that was found for a question. `path` is the
    /// configuration's.
    pub fn place_of(
        &self,
        list: &str,
        (name, qtype): (&[u8], u16),
        found: &Found<'_>,
        path: &Path,
    ) -> Option<RulePlace> {
        if list == OVERRIDES {
            return overrides::place(&self.config.fetch.overrides_file, name, found);
        }
        self.lists.origin(list)?.place_of(name, qtype, found, path)
    }
}
