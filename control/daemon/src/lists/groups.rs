//! Groups of clients of `[[client_group]]`, divided further by pauses and by the rules of policy zones
//! about clients, and their numbers.

use super::effect::InEffect;
use ringdns_config::{ClientGroupConfig, DEFAULT_GROUP, Problem};
use ringdns_dataplane::{
    group::{ClientGroups, GROUPS, Group, GroupSet},
    limiter::{GroupLimit, GroupLimits},
    mac::MacAddress,
    prefix::Prefix,
    trie::TooMany,
};
use ringdns_policy::{
    groups::{GroupNames, GroupPolicy, Policies},
    list::List,
    names::NameKey,
    policy::{AllowList, BlockList, Policy},
    rule::Effect,
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

/// Reason why clients cannot be told apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupsError {
    /// More kinds of clients than numbers.
    #[error(
        "groups of clients, their paused clients and rules about clients (rpz-client-ip) make {0} kinds of \
         clients, of which {GROUPS} can be told apart"
    )]
    Kinds(usize),
    /// More prefixes than a trie can have.
    #[error("the prefixes of groups, paused clients and rules about clients are too many: {0}")]
    Prefixes(#[from] TooMany),
}

impl GroupsError {
    /// Remedy for it.
    pub const REMEDY: &'static str = "Join neighbouring prefixes, let rules about clients have fewer different actions, let fewer groups use \
         the list, or pause clients of fewer groups";
}

/// Groups of clients. A group keeps its number as long as the process runs: workers and lists take
/// over another configuration at different moments, and must mean the same group.
///
/// Clients of a group about whom different rules of policy zones are have numbers of their own, so that
/// answers are shared only where all rules agree. So have its paused clients, all of them one.
#[derive(Clone, Debug)]
pub struct Groups {
    /// Kinds of clients by number, also those that are gone.
    kinds: Vec<Kind>,
    /// Names of the groups that the kinds belong to.
    names: Vec<Arc<str>>,
    /// Kinds that there are now, by number, with the zones that have rules about them and a prefix of
    /// such a rule.
    current: BTreeMap<Group, ZonePrefixes>,
    clients: Vec<(Prefix, Group)>,
    macs: Vec<(MacAddress, Group)>,
    /// Groups whose queries are not logged.
    unlogged: GroupSet,
    /// Rate limits of groups that have one of their own.
    limits: Vec<(Group, GroupLimit)>,
}

/// Clients of a group about whom the same rules of policy zones are, or which are paused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Kind {
    /// Name of the group in the configuration.
    name: Arc<str>,
    /// Zones with rules about these clients, and the effects of those rules.
    rules: Vec<(Arc<str>, Vec<Effect>)>,
    /// Whether no list decides for these clients.
    is_paused: bool,
}

impl Kind {
    /// Returns the kind of the clients of a group that no rules are about.
    fn of_group(name: &str) -> Self {
        Kind { name: name.into(), rules: Vec::new(), is_paused: false }
    }
}

/// Zones, and a prefix that each has rules about. Other prefixes of the same kind have the same rules.
type ZonePrefixes = Vec<(Arc<str>, Prefix)>;

/// Block lists by name, in their order.
pub type NamedLists<'a> = [(&'a str, &'a List)];

impl Default for Groups {
    /// Returns the default group alone.
    fn default() -> Self {
        let default = Kind::of_group(DEFAULT_GROUP);
        Groups {
            names: vec![default.name.clone()],
            kinds: vec![default],
            current: BTreeMap::from([(Group::DEFAULT, Vec::new())]),
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

    /// Returns the groups of a configuration and its block lists that take the place of this one. No list
    /// decides for the clients in `paused`.
    pub fn next(
        &self,
        configs: &[ClientGroupConfig],
        lists: &NamedLists<'_>,
        paused: &BTreeSet<IpAddr>,
    ) -> Result<Self, GroupsError> {
        let division = Division::new(configs, lists, paused);
        let mut wanted = vec![Kind::of_group(DEFAULT_GROUP)];
        let groups = configs.iter().filter(|config| config.name != DEFAULT_GROUP);
        wanted.extend(groups.map(|config| Kind::of_group(&config.name)));
        let mut kinds: BTreeMap<Kind, ZonePrefixes> =
            wanted.iter().map(|kind| (kind.clone(), Vec::new())).collect();
        let mut clients = Vec::new();
        for prefix in division.prefixes() {
            let (kind, prefixes) = division.kind_of(prefix);
            kinds.entry(kind.clone()).or_insert_with(|| {
                wanted.push(kind.clone());
                prefixes
            });
            clients.push((prefix, kind));
        }
        if kinds.len() > GROUPS {
            return Err(GroupsError::Kinds(kinds.len()));
        }
        let mut next = Groups { kinds: self.kinds.clone(), names: self.names.clone(), ..Groups::default() };
        let mut numbers = BTreeMap::new();
        for kind in &wanted {
            numbers.insert(kind.clone(), next.number_of(kind, &kinds));
        }
        let number = |kind: &Kind| numbers.get(kind).copied().unwrap_or_default();
        next.current = kinds.iter().map(|(kind, prefixes)| (number(kind), prefixes.clone())).collect();
        next.clients = clients.iter().map(|(prefix, kind)| (*prefix, number(kind))).collect();
        // Rules of policy zones are about addresses, so they say nothing of a client that is known by
        // its MAC address.
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
    fn number_of(&mut self, kind: &Kind, wanted: &BTreeMap<Kind, ZonePrefixes>) -> Group {
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
        let policy = |group: Group, name: &str, clients: &ZonePrefixes| {
            let is_paused = self.kinds.get(group.number()).is_some_and(|kind| kind.is_paused);
            if is_paused || effect.is_paused(name) {
                return Policy::new(key, Vec::new(), Vec::new());
            }
            let config = configs.iter().find(|config| config.name == name);
            let allows = config.and_then(|config| config.allowlists.as_ref());
            let allow = allow.iter().filter(|list| chosen(allows, &list.name)).cloned().collect();
            let client_of = |list: &BlockList| {
                let found = clients.iter().find(|(zone, _)| *zone == list.name);
                found.map(|(_, prefix)| *prefix)
            };
            let block = block.iter().filter(|list| chosen(blocklists(config), &list.name));
            let block = block.map(|list| BlockList { client: client_of(list), ..list.clone() });
            Policy::new(key, allow, block.collect()).with_overrides(effect.overrides(key, name))
        };
        let others = self.current.iter().filter(|(group, _)| **group != Group::DEFAULT);
        let others = others.filter_map(|(group, clients)| {
            let name = self.names.get(group.number())?;
            Some(GroupPolicy { group: *group, name: name.clone(), policy: policy(*group, name, clients) })
        });
        let others = others.collect();
        let default = policy(Group::DEFAULT, DEFAULT_GROUP, &Vec::new());
        let all = Policy::new(key, allow.to_vec(), block).with_overrides(effect.all_overrides(key));
        Policies::new(all, default, others).with_names(self.owners())
    }
}

/// Division of all clients by groups and by rules about clients.
struct Division<'a> {
    configs: &'a [ClientGroupConfig],
    /// Names of groups by prefix.
    groups: HashMap<Prefix, &'a str>,
    /// Lengths of the prefixes of groups, the longest first.
    lengths: BTreeSet<Reverse<u8>>,
    /// Lists with rules about clients.
    zones: Vec<(&'a str, &'a List)>,
    /// Clients for which no list decides.
    paused: HashSet<Prefix>,
}

impl<'a> Division<'a> {
    fn new(configs: &'a [ClientGroupConfig], lists: &NamedLists<'a>, paused: &BTreeSet<IpAddr>) -> Self {
        let named = |config: &'a ClientGroupConfig| {
            config.clients.iter().map(|prefix| (*prefix, config.name.as_str()))
        };
        let groups: HashMap<Prefix, &str> = configs.iter().flat_map(named).collect();
        let lengths = groups.keys().map(|prefix| Reverse(prefix.len())).collect();
        let zones = lists.iter().filter(|(_, list)| !list.clients().is_empty()).copied().collect();
        let paused =
            paused.iter().map(|client| Prefix::around(*client, if client.is_ipv4() { 32 } else { 128 }));
        Division { configs, groups, lengths, zones, paused: paused.collect() }
    }

    /// Returns all prefixes, of groups, of rules and of paused clients. All addresses for which one of these is the longest
    /// are of the same kind.
    fn prefixes(&self) -> Vec<Prefix> {
        let of_rules =
            self.zones.iter().flat_map(|(_, list)| list.clients().iter().map(|(prefix, _)| prefix));
        let all: HashSet<Prefix> = self.groups.keys().chain(&self.paused).copied().chain(of_rules).collect();
        let mut all: Vec<Prefix> = all.into_iter().collect();
        // So that numbers do not depend on chance.
        all.sort_unstable_by_key(|prefix| (prefix.address(), prefix.len()));
        all
    }

    /// Returns the kind of the clients in a prefix that are in no longer one, and a prefix of the rules
    /// in each zone.
    fn kind_of(&self, prefix: Prefix) -> (Kind, ZonePrefixes) {
        let around = |len: u8| Prefix::around(prefix.address(), len);
        let lengths = self.lengths.iter().map(|len| len.0).filter(|len| *len <= prefix.len());
        let name = lengths.map(around).find_map(|prefix| self.groups.get(&prefix).copied());
        let name = name.unwrap_or(DEFAULT_GROUP);
        if self.paused.contains(&prefix) {
            return (Kind { is_paused: true, ..Kind::of_group(name) }, Vec::new());
        }
        let used = blocklists(self.configs.iter().find(|config| config.name == name));
        let (mut rules, mut prefixes) = (Vec::new(), Vec::new());
        for (zone, list) in self.zones.iter().filter(|(zone, _)| chosen(used, zone)) {
            if let Some(longest) = list.clients().longest(prefix.address(), prefix.len()) {
                let zone: Arc<str> = (*zone).into();
                rules.push((zone.clone(), list.clients().of(longest).cloned().collect()));
                prefixes.push((zone, longest));
            }
        }
        (Kind { rules, ..Kind::of_group(name) }, prefixes)
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
