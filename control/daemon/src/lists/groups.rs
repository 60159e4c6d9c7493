//! Groups of clients of `[[client_group]]`, divided further by the rules of policy zones about
//! clients, and their numbers.

use super::effect::InEffect;
use ringdns_config::{ClientGroupConfig, DEFAULT_GROUP, Problem};
use ringdns_dataplane::{
    group::{ClientGroups, GROUPS, Group},
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
    sync::Arc,
};

/// Reason why clients cannot be told apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupsError {
    /// More kinds of clients than numbers.
    #[error(
        "groups of clients and rules about clients (rpz-client-ip) make {0} kinds of clients, of which {GROUPS} can \
         be told apart"
    )]
    Kinds(usize),
    /// More prefixes than a trie can have.
    #[error("the prefixes of groups and of rules about clients are too many: {0}")]
    Prefixes(#[from] TooMany),
}

impl GroupsError {
    /// Remedy for it.
    pub const REMEDY: &'static str = "Join neighbouring prefixes, let rules about clients have fewer different actions, or let fewer groups use \
         the list";
}

/// Groups of clients. A group keeps its number as long as the process runs: workers and lists take
/// over another configuration at different moments, and must mean the same group.
///
/// Clients of a group about whom different rules of policy zones are have numbers of their own, so that
/// answers are shared only where all rules agree.
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
}

/// Clients of a group about whom the same rules of policy zones are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Kind {
    /// Name of the group in the configuration.
    name: Arc<str>,
    /// Zones with rules about these clients, and the effects of those rules.
    rules: Vec<(Arc<str>, Vec<Effect>)>,
}

/// Zones, and a prefix that each has rules about. Other prefixes of the same kind have the same rules.
type ZonePrefixes = Vec<(Arc<str>, Prefix)>;

/// Block lists by name, in their order.
pub type NamedLists<'a> = [(&'a str, &'a List)];

impl Default for Groups {
    /// Returns the default group alone.
    fn default() -> Self {
        let default = Kind { name: DEFAULT_GROUP.into(), rules: Vec::new() };
        Groups {
            names: vec![default.name.clone()],
            kinds: vec![default],
            current: BTreeMap::from([(Group::DEFAULT, Vec::new())]),
            clients: Vec::new(),
            macs: Vec::new(),
        }
    }
}

impl Groups {
    /// Returns the groups of a configuration alone, without rules about clients.
    pub fn of(configs: &[ClientGroupConfig]) -> Result<Self, Problem> {
        let groups = Groups::default().next(configs, &[]);
        groups.map_err(|error| Problem::new("client_group", error.to_string(), GroupsError::REMEDY))
    }

    /// Returns the groups of a configuration and its block lists that take the place of this one.
    pub fn next(&self, configs: &[ClientGroupConfig], lists: &NamedLists<'_>) -> Result<Self, GroupsError> {
        let division = Division::new(configs, lists);
        let mut wanted = vec![Kind { name: DEFAULT_GROUP.into(), rules: Vec::new() }];
        let groups = configs.iter().filter(|config| config.name != DEFAULT_GROUP);
        wanted.extend(groups.map(|config| Kind { name: config.name.as_str().into(), rules: Vec::new() }));
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
                let kind = Kind { name: config.name.as_str().into(), rules: Vec::new() };
                let number = number(&kind);
                config.macs.iter().map(move |mac| (*mac, number))
            })
            .collect();
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
        self.clients == other.clients && self.macs == other.macs && self.names == other.names
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
        let is_it = |kind: &Kind| *kind.name == *name && kind.rules.is_empty();
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
        let policy = |name: &str, clients: &ZonePrefixes| {
            if effect.is_paused(name) {
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
            Some(GroupPolicy { group: *group, name: name.clone(), policy: policy(name, clients) })
        });
        let others = others.collect();
        let default = policy(DEFAULT_GROUP, &Vec::new());
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
}

impl<'a> Division<'a> {
    fn new(configs: &'a [ClientGroupConfig], lists: &NamedLists<'a>) -> Self {
        let named = |config: &'a ClientGroupConfig| {
            config.clients.iter().map(|prefix| (*prefix, config.name.as_str()))
        };
        let groups: HashMap<Prefix, &str> = configs.iter().flat_map(named).collect();
        let lengths = groups.keys().map(|prefix| Reverse(prefix.len())).collect();
        let zones = lists.iter().filter(|(_, list)| !list.clients().is_empty()).copied().collect();
        Division { configs, groups, lengths, zones }
    }

    /// Returns all prefixes, of groups and of rules. All addresses for which one of these is the longest
    /// are of the same kind.
    fn prefixes(&self) -> Vec<Prefix> {
        let of_rules =
            self.zones.iter().flat_map(|(_, list)| list.clients().iter().map(|(prefix, _)| prefix));
        let all: HashSet<Prefix> = self.groups.keys().copied().chain(of_rules).collect();
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
        let used = blocklists(self.configs.iter().find(|config| config.name == name));
        let (mut rules, mut prefixes) = (Vec::new(), Vec::new());
        for (zone, list) in self.zones.iter().filter(|(zone, _)| chosen(used, zone)) {
            if let Some(longest) = list.clients().longest(prefix.address(), prefix.len()) {
                let zone: Arc<str> = (*zone).into();
                rules.push((zone.clone(), list.clients().of(longest).cloned().collect()));
                prefixes.push((zone, longest));
            }
        }
        (Kind { name: name.into(), rules }, prefixes)
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
mod tests {
    use super::*;
    use ringdns_policy::{
        list::ListBuilder,
        rule::{Rule, RuleAnswer, Subject},
    };

    fn config(name: &str, client: &str) -> ClientGroupConfig {
        let clients = vec![client.parse().unwrap()];
        ClientGroupConfig { name: name.into(), clients, macs: Vec::new(), blocklists: None, allowlists: None }
    }

    fn group_of(groups: &Groups, client: &str) -> usize {
        groups.clients().unwrap().of(client.parse().unwrap()).number()
    }

    fn next(groups: &Groups, configs: &[ClientGroupConfig]) -> Groups {
        groups.next(configs, &[]).unwrap()
    }

    #[test]
    fn a_group_keeps_its_number() {
        let first = next(&Groups::default(), &[config("a", "10.0.0.1"), config("b", "10.0.0.2")]);
        assert_eq!(["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|client| group_of(&first, client)), [1, 2, 0]);
        let second = next(&first, &[config("c", "10.0.0.1"), config("b", "10.0.0.3")]);
        assert_eq!(["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|client| group_of(&second, client)), [3, 0, 2]);
        assert_eq!((second.name(Group::new(3).unwrap()), second.name(Group::DEFAULT)), ("c", "default"));
    }

    #[test]
    fn numbers_of_groups_that_are_gone_are_used_when_all_are_taken() {
        let all: Vec<_> = (1..GROUPS).map(|n| config(&format!("g{n}"), &format!("10.0.0.{n}"))).collect();
        let mut groups = next(&Groups::default(), &all);
        for round in 0..100 {
            let mut configs = all.clone();
            configs[7] = config(&format!("new{round}"), "10.0.1.1");
            groups = next(&groups, &configs);
            assert_eq!((groups.names.len(), group_of(&groups, "10.0.1.1")), (GROUPS, 8));
            assert_eq!(group_of(&groups, "10.0.0.31"), 31);
        }
    }

    /// Returns a zone with rules about clients.
    fn zone(rules: &[(&str, Effect)]) -> List {
        let mut builder = ListBuilder::new(NameKey::new(&[7; 16]));
        builder.decide_by_labels();
        for (prefix, effect) in rules {
            builder.push(1, Rule::new(Subject::Client(prefix.parse().unwrap()), effect.clone()));
        }
        builder.finish().0
    }

    const DROP: Effect = Effect::Answer(RuleAnswer::Drop);
    const NXDOMAIN: Effect = Effect::Answer(RuleAnswer::NxDomain);

    #[test]
    fn clients_with_the_same_rules_share_a_number_and_no_others() {
        let configs = [
            config("kids", "10.1.0.0/16"),
            ClientGroupConfig { blocklists: Some(Vec::new()), ..config("free", "10.2.0.0/16") },
        ];
        let feed = zone(&[
            ("10.0.0.0/8", DROP),
            ("10.3.0.1", DROP),
            ("10.3.0.2", Effect::Allow),
            ("10.1.1.0/24", DROP),
            ("2001:db8::/32", DROP),
            ("192.0.2.1", NXDOMAIN),
        ]);
        let other = zone(&[("10.3.0.1", DROP)]);
        let groups = Groups::default().next(&configs, &[("feed", &feed), ("other", &other)]).unwrap();
        let number = |client: &str| group_of(&groups, client);
        assert_eq!([number("198.51.100.1"), number("10.2.0.1")], [0, 2]);
        let kids = number("10.1.0.1");
        assert_eq!(number("10.1.1.1"), kids, "the longer rule has the same effect");
        assert_eq!(groups.name(Group::new(kids).unwrap()), "kids");
        assert_eq!(groups.named("kids"), Group::new(1));
        let dropped = number("10.9.0.1");
        assert_eq!(number("2001:db8::1"), dropped);
        let all = [0, 1, 2, kids, dropped, number("10.3.0.1"), number("10.3.0.2"), number("192.0.2.1")];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{all:?}");
        assert!(groups.names().iter().all(|name| ["default", "kids", "free"].contains(&&**name)));

        // The kinds that are left keep their numbers.
        let later = groups.next(&configs, &[("feed", &zone(&[("10.4.0.0/16", DROP)]))]).unwrap();
        assert_eq!([group_of(&later, "10.4.0.1"), group_of(&later, "10.1.0.1")], [dropped, 1]);
        assert_eq!(group_of(&later, "10.9.0.1"), 0);
    }

    #[test]
    fn more_kinds_of_clients_than_numbers_are_refused() {
        let address = |n: usize| Effect::Answer(RuleAnswer::Address([192, 0, 2, n as u8].into()));
        let clients: Vec<String> = (0..=GROUPS).map(|n| format!("10.0.0.{n}")).collect();
        let rules: Vec<(&str, Effect)> =
            clients.iter().enumerate().map(|(n, client)| (client.as_str(), address(n))).collect();
        let next = |many: usize| Groups::default().next(&[], &[("feed", &zone(&rules[..many]))]);
        assert!(next(GROUPS - 1).is_ok());
        assert_eq!(next(GROUPS).unwrap_err(), GroupsError::Kinds(GROUPS + 1));
    }
}
