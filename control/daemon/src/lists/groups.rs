//! Groups of clients of `[[client_group]]`, divided further by pauses and by the rules of policy zones
//! about clients, and their numbers.

mod division;

use super::effect::InEffect;
use division::{Division, Kind, KindClients};
use ringdns_common::printable::Printable;
use ringdns_config::{ClientGroupConfig, DEFAULT_GROUP, Problem};
use ringdns_dataplane::{
    group::{ClientGroups, GROUPS, Group, GroupSet},
    limiter::{GroupLimit, GroupLimits},
    mac::MacAddress,
    prefix::Prefix,
    trie::TooMany,
};
use ringdns_policy::{
    clients::ClientSet,
    groups::{GroupNames, GroupPolicy, Policies},
    list::List,
    names::NameKey,
    policy::{AllowList, BlockList, Policy},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::Arc,
};

/// Reason why clients cannot be told apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupsError {
    /// More kinds of clients than numbers.
    #[error(
        "groups of clients, their paused clients and rules about clients (rpz-client-ip, $client) make {kinds} \
         kinds of clients, of which {GROUPS} can be told apart{}",
        rule.as_ref().map(|rule| format!(". {rule} is the first one beyond")).unwrap_or_default()
    )]
    Kinds {
        /// Number of kinds.
        kinds: usize,
        /// First rule with `$client` that makes too many.
        rule: Option<ClientRule>,
    },
    /// More prefixes than a trie can have.
    #[error("the prefixes of groups, paused clients and rules about clients are too many: {0}")]
    Prefixes(#[from] TooMany),
}

impl GroupsError {
    /// Remedy for it.
    pub const REMEDY: &'static str = "Join neighbouring prefixes, let rules be for the same clients, let rules about clients have fewer \
         different actions, let fewer groups use the list, put clients into client groups, or pause clients of fewer groups";

    /// Returns the rule with `$client` that makes too many kinds of clients, if one does.
    pub fn rule(&self) -> Option<&ClientRule> {
        match self {
            GroupsError::Kinds { rule, .. } => rule.as_ref(),
            GroupsError::Prefixes(_) => None,
        }
    }
}

/// Rule of a list for some clients only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRule {
    /// Name of the list.
    pub list: Arc<str>,
    /// Number of its line, from 1 on.
    pub line: u32,
    /// The clients.
    pub clients: Arc<ClientSet>,
}

impl fmt::Display for ClientRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClientRule { list, line, clients } = self;
        write!(f, "line {line} of the list \"{}\" with $client={clients}", Printable(list))
    }
}

/// Groups of clients. A group keeps its number as long as the process runs: workers and lists take
/// over another configuration at different moments, and must mean the same group.
///
/// Clients of a group that rules of policy zones or rules with `$client` tell apart have numbers of their
/// own, so that answers are shared only where all rules agree. So have its paused clients, all of them one.
#[derive(Clone, Debug)]
pub struct Groups {
    /// Kinds of clients by number, also those that are gone.
    kinds: Vec<Kind>,
    /// Names of the groups that the kinds belong to.
    names: Vec<Arc<str>>,
    /// Kinds that there are now, by number.
    current: BTreeMap<Group, KindClients>,
    clients: Vec<(Prefix, Group)>,
    macs: Vec<(MacAddress, Group)>,
    /// Groups whose queries are not logged.
    unlogged: GroupSet,
    /// Rate limits of groups that have one of their own.
    limits: Vec<(Group, GroupLimit)>,
}

/// List that rules about clients may be in.
#[derive(Clone, Copy)]
pub struct NamedList<'a> {
    /// Name in the configuration.
    pub name: &'a str,
    /// Rules.
    pub list: &'a List,
    /// Whether it is an allow list.
    pub allows: bool,
}

impl Default for Groups {
    /// Returns the default group alone.
    fn default() -> Self {
        let default = Kind::of_group(DEFAULT_GROUP);
        Groups {
            names: vec![default.name.clone()],
            kinds: vec![default],
            current: BTreeMap::from([(Group::DEFAULT, KindClients::default())]),
            clients: Vec::new(),
            macs: Vec::new(),
            unlogged: GroupSet::NONE,
            limits: Vec::new(),
        }
    }
}

impl Groups {
    /// Returns the groups of a configuration alone, without rules about clients.
    pub fn of(configs: &[ClientGroupConfig]) -> Result<Self, Problem> {
        let groups = Groups::default().next(configs, &[], &BTreeSet::new());
        groups.map_err(|error| Problem::new("client_group", error.to_string(), GroupsError::REMEDY))
    }

    /// Returns the groups of a configuration and its lists that take the place of this one. No list
    /// decides for the clients in `paused`.
    pub fn next(
        &self,
        configs: &[ClientGroupConfig],
        lists: &[NamedList<'_>],
        paused: &BTreeSet<IpAddr>,
    ) -> Result<Self, GroupsError> {
        let division::Parts { wanted, kinds, clients } = Division::new(configs, lists, paused).parts();
        if kinds.len() > GROUPS {
            let rule = Division::new(configs, lists, &BTreeSet::new()).first_beyond(GROUPS);
            return Err(GroupsError::Kinds { kinds: kinds.len(), rule });
        }
        let mut next = Groups { kinds: self.kinds.clone(), names: self.names.clone(), ..Groups::default() };
        let mut numbers = BTreeMap::new();
        for kind in &wanted {
            numbers.insert(kind.clone(), next.number_of(kind, &kinds));
        }
        let number = |kind: &Kind| numbers.get(kind).copied().unwrap_or_default();
        next.current = kinds.iter().map(|(kind, clients)| (number(kind), clients.clone())).collect();
        next.clients = clients.iter().map(|(prefix, kind)| (*prefix, number(kind))).collect();
        // Rules about clients have their addresses, so they say nothing of a client that is known by its
        // MAC address.
        next.macs = configs
            .iter()
            .flat_map(|config| {
                let kind = Kind::of_group(&config.name);
                let number = number(&kind);
                config.macs.iter().map(move |mac| (*mac, number))
            })
            .collect();
        let is_unlogged = |name: &str| configs.iter().any(|config| config.name == name && !config.log);
        next.unlogged = (next.current.keys().filter(|group| is_unlogged(next.name(**group))))
            .fold(GroupSet::NONE, |groups, group| groups.with(*group));
        let limit = |group: &Group| {
            let config = configs.iter().find(|config| config.name == next.name(*group))?;
            config.limit.map(|limit| (*group, limit))
        };
        next.limits = next.current.keys().filter_map(limit).collect();
        next.clients()?;
        Ok(next)
    }

    /// Returns the number of a kind, which is one of `wanted`. A new one takes that of a kind that is
    /// gone only when there is no other.
    fn number_of(&mut self, kind: &Kind, wanted: &BTreeMap<Kind, KindClients>) -> Group {
        let known = self.kinds.iter().position(|known| known == kind);
        let at = known.unwrap_or_else(|| match self.kinds.len() {
            new @ 0..GROUPS => new,
            _ => 1 + self.kinds.iter().skip(1).position(|known| !wanted.contains_key(known)).unwrap_or(0),
        });
        match (self.kinds.get_mut(at), self.names.get_mut(at)) {
            (Some(known), Some(name)) => (*known, *name) = (kind.clone(), kind.name.clone()),
            _ => {
                self.kinds.push(kind.clone());
                self.names.push(kind.name.clone());
            }
        }
        Group::new(at).unwrap_or_default()
    }

    /// Returns the groups of clients by address and MAC address.
    pub fn clients(&self) -> Result<ClientGroups, TooMany> {
        Ok(ClientGroups::new(&self.clients)?.with_macs(self.macs.clone()))
    }

    /// Whether clients are in the same groups as by `other`.
    pub fn are_same(&self, other: &Groups) -> bool {
        self.clients == other.clients
            && self.macs == other.macs
            && self.names == other.names
            && self.unlogged == other.unlogged
            && self.limits == other.limits
    }

    /// Returns the rate limits of groups that have one of their own, given the groups of clients.
    /// `None`: none has.
    pub fn limits(&self, clients: &ClientGroups) -> Option<Arc<GroupLimits>> {
        let limits = || GroupLimits { clients: clients.clone(), limits: self.limits.clone() };
        (!self.limits.is_empty()).then(|| Arc::new(limits()))
    }

    /// Groups whose queries are not logged.
    pub fn unlogged(&self) -> GroupSet {
        self.unlogged
    }

    /// Returns the names by number. A group has several numbers if rules are about some of its clients.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Returns the name of each number's group. Clients of groups that are gone are in the default group.
    fn owners(&self) -> GroupNames {
        let current = |name: &&Arc<str>| {
            self.current
                .keys()
                .any(|group| self.names.get(group.number()).is_some_and(|owner| owner == *name))
        };
        let owner = |name: &Arc<str>| Some(name).filter(current).map_or(DEFAULT_GROUP.into(), Arc::clone);
        GroupNames::new(self.names.iter().map(owner).collect())
    }

    /// Returns the group with a name, without clients that rules are about.
    pub fn named(&self, name: &str) -> Option<Group> {
        let is_it = |kind: &Kind| *kind == Kind::of_group(name);
        let is_number = |group: &&Group| self.kinds.get(group.number()).is_some_and(is_it);
        self.current.keys().find(is_number).copied()
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
        let policy = |group: Group, name: &str, clients: &KindClients| {
            let is_paused = self.kinds.get(group.number()).is_some_and(|kind| kind.is_paused);
            if is_paused || effect.is_paused(name) {
                return Policy::new(key, Vec::new(), Vec::new());
            }
            let config = configs.iter().find(|config| config.name == name);
            let allows = config.and_then(|config| config.allowlists.as_ref());
            let allow = allow.iter().filter(|list| chosen(allows, &list.name)).cloned().collect();
            let client_of = |list: &BlockList| {
                let found = clients.zones.iter().find(|(zone, _)| *zone == list.name);
                found.map(|(_, prefix)| *prefix)
            };
            let block = block.iter().filter(|list| chosen(blocklists(config), &list.name));
            let block = block.map(|list| BlockList { client: client_of(list), ..list.clone() });
            let policy = Policy::new(key, allow, block.collect()).for_client(clients.client);
            policy.with_overrides(effect.overrides(key, name))
        };
        let others = self.current.iter().filter(|(group, _)| **group != Group::DEFAULT);
        let others = others.filter_map(|(group, clients)| {
            let name = self.names.get(group.number())?;
            Some(GroupPolicy { group: *group, name: name.clone(), policy: policy(*group, name, clients) })
        });
        let others = others.collect();
        let default = policy(Group::DEFAULT, DEFAULT_GROUP, &KindClients::default());
        let all = Policy::new(key, allow.to_vec(), block).with_overrides(effect.all_overrides(key));
        Policies::new(all, default, others).with_names(self.owners())
    }
}

fn blocklists(config: Option<&ClientGroupConfig>) -> Option<&Vec<String>> {
    config.and_then(|config| config.blocklists.as_ref())
}

/// Whether a list is one of those that a group names; without any, it is.
fn chosen(names: Option<&Vec<String>>, list: &str) -> bool {
    names.is_none_or(|names| names.iter().any(|name| name == list))
}

#[cfg(test)]
mod tests;
