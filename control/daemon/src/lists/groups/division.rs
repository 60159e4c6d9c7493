//! Division of clients into kinds that no rule tells apart.

use super::{ClientRule, NamedList, blocklists, chosen};
use ringdns_config::{ClientGroupConfig, DEFAULT_GROUP};
use ringdns_dataplane::prefix::Prefix;
use ringdns_policy::{
    clients::{Client, ClientSet},
    list::ListedClients,
    rule::Effect,
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

/// Clients of a group whom no rule tells apart, or which are paused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Kind {
    /// Name of the group in the configuration.
    pub name: Arc<str>,
    /// Zones with rules about these clients, and the effects of those rules.
    rules: Vec<(Arc<str>, Vec<Effect>)>,
    /// Sets of `$client` that say otherwise about these clients than about those that no rule names.
    sets: Vec<Arc<ClientSet>>,
    /// Whether no list decides for these clients.
    pub is_paused: bool,
}

impl Kind {
    /// Returns the kind of the clients of a group that no rules are about.
    pub fn of_group(name: &str) -> Self {
        Kind { name: name.into(), rules: Vec::new(), sets: Vec::new(), is_paused: false }
    }
}

/// Clients that stand for a kind where rules are looked up.
#[derive(Clone, Debug, Default)]
pub(super) struct KindClients {
    /// Zones with rules about the clients, and a prefix of such a rule. Other prefixes of the kind have the
    /// same rules.
    pub zones: Vec<(Arc<str>, Prefix)>,
    /// Clients of the kind for rules with `$client`.
    pub client: Client,
}

/// Kinds of clients.
pub(super) struct Parts {
    /// Kinds in the order in which they get numbers: those of groups first.
    pub wanted: Vec<Kind>,
    pub kinds: BTreeMap<Kind, KindClients>,
    /// Kind of the clients in each prefix that are in no longer one.
    pub clients: Vec<(Prefix, Kind)>,
}

/// Division of all clients by groups and by rules about clients.
pub(super) struct Division<'a> {
    configs: &'a [ClientGroupConfig],
    /// Names of groups by prefix.
    groups: HashMap<Prefix, &'a str>,
    /// Lengths of the prefixes of groups, the longest first.
    lengths: BTreeSet<Reverse<u8>>,
    /// Policy zones with rules about clients.
    zones: Vec<NamedList<'a>>,
    /// Sets of `$client`, in the order of lists and lines.
    sets: Vec<(NamedList<'a>, &'a ListedClients)>,
    /// Clients for which no list decides.
    paused: HashSet<Prefix>,
}

impl<'a> Division<'a> {
    pub fn new(configs: &'a [ClientGroupConfig], lists: &[NamedList<'a>], paused: &BTreeSet<IpAddr>) -> Self {
        let named = |config: &'a ClientGroupConfig| {
            config.clients.iter().map(|prefix| (*prefix, config.name.as_str()))
        };
        let groups: HashMap<Prefix, &str> = configs.iter().flat_map(named).collect();
        let lengths = groups.keys().map(|prefix| Reverse(prefix.len())).collect();
        let zones = lists.iter().filter(|list| !list.allows && !list.list.clients().is_empty());
        let sets = lists.iter().flat_map(|list| list.list.client_sets().iter().map(|set| (*list, set)));
        let paused =
            paused.iter().map(|client| Prefix::around(*client, if client.is_ipv4() { 32 } else { 128 }));
        Division {
            configs,
            groups,
            lengths,
            zones: zones.copied().collect(),
            sets: sets.collect(),
            paused: paused.collect(),
        }
    }

    /// Returns the kinds of clients.
    pub fn parts(&self) -> Parts {
        let mut wanted = vec![Kind::of_group(DEFAULT_GROUP)];
        let groups = self.configs.iter().filter(|config| config.name != DEFAULT_GROUP);
        wanted.extend(groups.map(|config| Kind::of_group(&config.name)));
        let mut kinds: BTreeMap<Kind, KindClients> =
            wanted.iter().map(|kind| (kind.clone(), KindClients::default())).collect();
        let mut clients = Vec::new();
        for prefix in self.prefixes() {
            let (kind, kind_clients) = self.kind_of(prefix);
            kinds.entry(kind.clone()).or_insert_with(|| {
                wanted.push(kind.clone());
                kind_clients
            });
            clients.push((prefix, kind));
        }
        Parts { wanted, kinds, clients }
    }

    /// Returns the first rule with `$client` that makes more than `most` kinds of clients, if it is such
    /// rules that do.
    pub fn first_beyond(mut self, most: usize) -> Option<ClientRule> {
        let sets = std::mem::take(&mut self.sets);
        let mut fits = |count: usize| {
            self.sets = sets.get(..count).unwrap_or_default().to_vec();
            self.parts().kinds.len() <= most
        };
        if !fits(0) || fits(sets.len()) {
            return None;
        }
        // Bisection: another set never makes fewer kinds.
        let (mut least, mut many) = (0, sets.len());
        while many - least > 1 {
            let middle = least.midpoint(many);
            if fits(middle) { least = middle } else { many = middle }
        }
        let (list, set) = sets.get(least)?;
        Some(ClientRule { list: list.name.into(), line: set.line, clients: set.clients.clone() })
    }

    /// Returns all prefixes, of groups, of rules and of paused clients. All addresses for which one of
    /// these is the longest are of the same kind.
    fn prefixes(&self) -> Vec<Prefix> {
        let of_zones =
            self.zones.iter().flat_map(|zone| zone.list.clients().iter().map(|(prefix, _)| prefix));
        let of_sets = self.sets.iter().flat_map(|(_, set)| set.clients.prefixes());
        let all = self.groups.keys().chain(&self.paused).copied().chain(of_zones).chain(of_sets);
        // Sorted, so that numbers do not depend on chance.
        all.collect::<BTreeSet<Prefix>>().into_iter().collect()
    }

    /// Returns the kind of the clients in a prefix that are in no longer one, and the clients that stand
    /// for it.
    fn kind_of(&self, prefix: Prefix) -> (Kind, KindClients) {
        let around = |len: u8| Prefix::around(prefix.address(), len);
        let lengths = self.lengths.iter().map(|len| len.0).filter(|len| *len <= prefix.len());
        let name = lengths.map(around).find_map(|prefix| self.groups.get(&prefix).copied());
        let name = name.unwrap_or(DEFAULT_GROUP);
        if self.paused.contains(&prefix) {
            return (Kind { is_paused: true, ..Kind::of_group(name) }, KindClients::default());
        }
        let config = self.configs.iter().find(|config| config.name == name);
        let uses = |list: &NamedList<'_>| match list.allows {
            true => chosen(config.and_then(|config| config.allowlists.as_ref()), list.name),
            false => chosen(blocklists(config), list.name),
        };
        let (mut rules, mut zones) = (Vec::new(), Vec::new());
        for NamedList { name, list, .. } in self.zones.iter().filter(|list| uses(list)) {
            if let Some(longest) = list.clients().longest(prefix.address(), prefix.len()) {
                let zone: Arc<str> = (*name).into();
                rules.push((zone.clone(), list.clients().of(longest).cloned().collect()));
                zones.push((zone, longest));
            }
        }
        let used = self.sets.iter().filter(|(list, _)| uses(list)).map(|(_, set)| &set.clients);
        let differs = |set: &&Arc<ClientSet>| set.has(Client::In(prefix)) != set.has(Client::Elsewhere);
        let mut sets: Vec<_> = used.filter(differs).cloned().collect();
        sets.sort_unstable();
        sets.dedup();
        let client = if sets.is_empty() { Client::Elsewhere } else { Client::In(prefix) };
        (Kind { rules, sets, ..Kind::of_group(name) }, KindClients { zones, client })
    }
}
