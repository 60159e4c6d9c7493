//! Groups of clients of `[[client_group]]`, and their numbers.

use super::effect::InEffect;
use ringdns_config::{ClientGroupConfig, DEFAULT_GROUP, Problem};
use ringdns_dataplane::{
    group::{ClientGroups, GROUPS, Group},
    mac::MacAddress,
    prefix::Prefix,
};
use ringdns_policy::{
    groups::{GroupPolicy, Policies},
    names::NameKey,
    policy::{AllowList, BlockList, Policy},
};
use std::sync::Arc;

/// Groups of clients. A group keeps its number as long as the process runs: workers and lists take
/// over another configuration at different moments, and must mean the same group.
#[derive(Clone, Debug)]
pub struct Groups {
    /// Names by number, also those of groups that are gone.
    names: Vec<Arc<str>>,
    /// Numbers of the groups that there are now.
    current: Vec<Group>,
    clients: Vec<(Prefix, Group)>,
    macs: Vec<(MacAddress, Group)>,
}

impl Default for Groups {
    /// Returns the default group alone.
    fn default() -> Self {
        let (names, current) = (vec![DEFAULT_GROUP.into()], vec![Group::DEFAULT]);
        Groups { names, current, clients: Vec::new(), macs: Vec::new() }
    }
}

impl Groups {
    /// Returns the groups of a configuration that takes the place of this one.
    pub fn next(&self, configs: &[ClientGroupConfig]) -> Self {
        let mut next = Groups { names: self.names.clone(), ..Groups::default() };
        for config in configs {
            let number = next.number_of(&config.name, configs);
            next.current.push(number);
            next.clients.extend(config.clients.iter().map(|prefix| (*prefix, number)));
            next.macs.extend(config.macs.iter().map(|mac| (*mac, number)));
        }
        next
    }

    /// Returns the number of a group, which is one of `configs`. A new one takes that of a group that
    /// is gone only when there is no other.
    fn number_of(&mut self, name: &str, configs: &[ClientGroupConfig]) -> Group {
        let is_gone = |known: &Arc<str>| !configs.iter().any(|config| *config.name == **known);
        let known = self.names.iter().position(|known| **known == *name);
        let at = known.unwrap_or_else(|| match self.names.len() {
            new @ 0..GROUPS => new,
            _ => 1 + self.names.iter().skip(1).position(is_gone).unwrap_or(0),
        });
        match self.names.get_mut(at) {
            Some(known) => *known = name.into(),
            None => self.names.push(name.into()),
        }
        Group::new(at).unwrap_or_default()
    }

    /// Returns the groups of clients by address and MAC address.
    pub fn clients(&self) -> Result<ClientGroups, Problem> {
        let groups = ClientGroups::new(&self.clients).map_err(|error| {
            Problem::new("client_group", error.to_string(), "Join neighbouring prefixes of a group")
        })?;
        Ok(groups.with_macs(self.macs.clone()))
    }

    /// Returns the names by number.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Returns the group with a name.
    pub fn named(&self, name: &str) -> Option<Group> {
        self.current.iter().copied().find(|group| self.name(*group) == name)
    }

    /// Returns the name of a group.
    pub fn name(&self, group: Group) -> &str {
        self.names.get(group.number()).map_or(DEFAULT_GROUP, |name| name)
    }

    /// Returns the policies of the groups of `configs`, from which these groups come, given all lists
    /// and what is in effect of them.
    pub fn policies(
        &self,
        configs: &[ClientGroupConfig],
        key: NameKey,
        allow: &[AllowList],
        block: &[BlockList],
        effect: &InEffect,
    ) -> Policies {
        let block: Vec<_> = block.iter().filter(|list| effect.has(&list.name)).cloned().collect();
        let policy = |name: &str| {
            if effect.is_paused(name) {
                return Policy::new(key, Vec::new(), Vec::new());
            }
            let config = configs.iter().find(|config| config.name == name);
            let chosen = |names: Option<&Vec<String>>, list: &str| {
                names.is_none_or(|names| names.iter().any(|name| name == list))
            };
            let blocks = config.and_then(|config| config.blocklists.as_ref());
            let allows = config.and_then(|config| config.allowlists.as_ref());
            let allow = allow.iter().filter(|list| chosen(allows, &list.name)).cloned().collect();
            let block = block.iter().filter(|list| chosen(blocks, &list.name)).cloned().collect();
            Policy::new(key, allow, block).with_overrides(effect.overrides(key, name))
        };
        let others = (1..).zip(self.names.iter().skip(1));
        let others = others.filter(|(_, name)| configs.iter().any(|config| *config.name == ***name));
        let others = others.filter_map(|(number, name)| {
            Some(GroupPolicy { group: Group::new(number)?, name: name.clone(), policy: policy(name) })
        });
        let others = others.collect();
        let default = policy(DEFAULT_GROUP);
        let all = Policy::new(key, allow.to_vec(), block).with_overrides(effect.all_overrides(key));
        Policies::new(all, default, others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, client: &str) -> ClientGroupConfig {
        let clients = vec![client.parse().unwrap()];
        ClientGroupConfig { name: name.into(), clients, macs: Vec::new(), blocklists: None, allowlists: None }
    }

    fn group_of(groups: &Groups, client: &str) -> usize {
        groups.clients().unwrap().of(client.parse().unwrap()).number()
    }

    #[test]
    fn a_group_keeps_its_number() {
        let first = Groups::default().next(&[config("a", "10.0.0.1"), config("b", "10.0.0.2")]);
        assert_eq!(["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|client| group_of(&first, client)), [1, 2, 0]);
        let second = first.next(&[config("c", "10.0.0.1"), config("b", "10.0.0.3")]);
        assert_eq!(["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|client| group_of(&second, client)), [3, 0, 2]);
        assert_eq!((second.name(Group::new(3).unwrap()), second.name(Group::DEFAULT)), ("c", "default"));
    }

    #[test]
    fn numbers_of_groups_that_are_gone_are_used_when_all_are_taken() {
        let all: Vec<_> = (1..GROUPS).map(|n| config(&format!("g{n}"), &format!("10.0.0.{n}"))).collect();
        let mut groups = Groups::default().next(&all);
        for round in 0..100 {
            let mut configs = all.clone();
            configs[7] = config(&format!("new{round}"), "10.0.1.1");
            groups = groups.next(&configs);
            assert_eq!((groups.names.len(), group_of(&groups, "10.0.1.1")), (GROUPS, 8));
            assert_eq!(group_of(&groups, "10.0.0.31"), 31);
        }
    }
}
