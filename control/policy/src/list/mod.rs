//! List of rules, immutable once it is built.

mod addresses;
mod builder;
mod changes;
mod patterns;
mod special;

pub use addresses::AddressRules;
pub use builder::{CLIENT_SETS_MAX, ListBuilder, PROBLEMS_MAX, Problem, RuleError};
pub use changes::{CHANGED_MAX, Changes};
pub(crate) use changes::{Changing, Unbounded};
pub use patterns::PATTERNS_BYTES_MAX;
pub use special::RULES_A_NAME_MAX;

use crate::{
    clients::{Client, ClientSet},
    names::{Match, NameKey, Path, Reach, Table, last_labels},
    rule::{Effect, Rule, RuleAnswer},
};
use patterns::Patterns;
use ringdns_common::names;
use ringdns_dataplane::prefix::Prefix;
use special::Special;
use std::{net::IpAddr, sync::Arc};

/// List of rules, immutable once it is built.
///
/// Rules without conditions are in tables of fingerprints ([`Table`]): one for names that the list
/// blocks or allows, and one for each other effect, as the answer NXDOMAIN of an RPZ, with up to eight
/// for addresses and aliases. The others are in an exact map by name. Regular expressions are one
/// set.
#[derive(Debug)]
pub struct List {
    key: NameKey,
    plain: Table,
    classes: Vec<Class>,
    special: Special,
    patterns: Patterns,
    answers: AddressRules,
    clients: AddressRules,
    client_sets: Box<[ListedClients]>,
    counts: Counts,
    content: u128,
    depths: u128,
    by_labels: bool,
}

/// Rules without conditions that have the same effect.
#[derive(Debug)]
struct Class {
    effect: Effect,
    important: bool,
    table: Table,
}

/// Clients that rules of a list are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedClients {
    /// The clients.
    pub clients: Arc<ClientSet>,
    /// Number of the first line with a rule for them, from 1 on.
    pub line: u32,
}

/// Numbers of rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rules in the list, without duplicates.
    pub rules: usize,
    /// Rules that the list had already.
    pub duplicates: usize,
    /// Rules about a name itself, with duplicates.
    pub exact: usize,
    /// Rules about a name and all names below it, with duplicates.
    pub suffix: usize,
    /// Rules about all names below a name, with duplicates.
    pub below: usize,
    /// Rules with a regular expression, with duplicates.
    pub regex: usize,
    /// Rules about addresses of answers, with duplicates.
    pub answers: usize,
    /// Rules about addresses of clients, with duplicates.
    pub clients: usize,
    /// Rules that are compared with names exactly, because of conditions or rare answers.
    pub special: usize,
}

/// Rule that decides on a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Effect of the rule.
    pub effect: &'a Effect,
    /// Whether the rule beats rules that are not important.
    pub important: bool,
    /// Names that the rule is about.
    pub kind: Kind,
    /// Number of labels of the rule's name, without the root; `None`: a regular expression, or a rule
    /// about addresses.
    pub labels: Option<u8>,
    /// Clients that the rule is for; `None`: all.
    pub clients: Option<&'a ClientSet>,
}

impl Found<'_> {
    /// Returns the rule as a text, given the name that it was found for: `ads.example.`,
    /// `||ads.example^` with the names below it, `*.ads.example.` for those alone, and `/regex/`.
    pub fn text(&self, name: &[u8]) -> String {
        let Some(labels) = self.labels else { return "/regex/".to_owned() };
        let name = names::display(last_labels(name, labels));
        match self.kind {
            Kind::Exact => name,
            Kind::Suffix => format!("||{}^", name.strip_suffix('.').unwrap_or(&name)),
            Kind::Below => format!("*.{}", if name == "." { "" } else { &name }),
            Kind::Regex => "/regex/".to_owned(),
            Kind::Answer(prefix) | Kind::Client(prefix) => prefix.to_string(),
        }
    }
}

/// Names that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A name.
    Exact,
    /// A name and all names below it.
    Suffix,
    /// All names below a name.
    Below,
    /// Names that match a regular expression.
    Regex,
    /// Names whose answer has an address in the prefix.
    Answer(Prefix),
    /// All names, for clients in the prefix.
    Client(Prefix),
}

/// Order of rules by strength. Of two rules in the same tier, the one with more labels is stronger,
/// then one with conditions, then the one whose answer fits better. In a policy zone, all rules are in
/// the same tier, but of two rules about the same names, one that allows is stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    tier: Tier,
    labels: Option<u8>,
    tier_in_zone: Tier,
    conditions: bool,
    fit: Fit,
}

/// Classes of rules, of which a stronger one beats all rules of a weaker one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// Blocks, or answers.
    Block,
    /// Allows.
    Allow,
    /// Blocks, and is important.
    ImportantBlock,
    /// Allows, and is important.
    ImportantAllow,
}

/// Order of effects on a question with a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// The answer of the list, or none.
    List,
    /// An answer of the rule's own.
    Answer,
    /// An address of the family that is asked for.
    Address,
}

static BLOCK: Effect = Effect::Block;
static ALLOW: Effect = Effect::Allow;

impl List {
    /// Returns the rule that decides on questions for `name`, in wire format and lowercased, with
    /// the type `qtype`, for clients that no rule names.
    ///
    /// Important rules are stronger than others, and rules that allow are stronger than rules that
    /// block. Among rules that block or answer, the one with the most labels decides, and a regular
    /// expression only if there is no other. In a policy zone, the rule with the most labels decides,
    /// also if it blocks and another allows.
    pub fn find(&self, name: &[u8], qtype: u16) -> Option<Found<'_>> {
        let mut path = Path::default();
        self.key.read(&mut path, name, self.depths)?;
        self.find_in(&path, name, qtype, Client::Elsewhere)
    }

    /// Returns the rule that decides, given the fingerprints of `name` with the key of this list.
    #[inline]
    pub(crate) fn find_in(&self, path: &Path, name: &[u8], qtype: u16, client: Client) -> Option<Found<'_>> {
        let mut best = Best { qtype, by_labels: self.by_labels, found: None };
        best.offer_match(self.plain.find(path), &BLOCK, &ALLOW, false);
        for class in &self.classes {
            best.offer_match(class.table.find(path), &class.effect, &class.effect, class.important);
        }
        for (rule, kind, labels) in self.special.find(path, name, (qtype, client)) {
            best.offer_rule(rule, kind, Some(labels));
        }
        self.patterns.find(name, (qtype, client), |rule| best.offer_rule(rule, Kind::Regex, None));
        best.found.map(|(_, found)| found)
    }

    /// Returns the rule about addresses of an answer that decides on a question with the type `qtype`.
    pub fn find_answer(&self, addresses: &[IpAddr], qtype: u16) -> Option<Found<'_>> {
        // Most lists have no such rules.
        if self.answers.is_empty() {
            return None;
        }
        let prefix = self.answers.deciding(addresses)?;
        about_addresses(self.answers.of(prefix), Kind::Answer(prefix), qtype)
    }

    /// Returns the rule about clients in exactly this prefix that decides on a question with the type
    /// `qtype`.
    pub fn find_client(&self, prefix: Prefix, qtype: u16) -> Option<Found<'_>> {
        about_addresses(self.clients.of(prefix), Kind::Client(prefix), qtype)
    }

    /// Returns all addresses of the rules about one name or prefix, given the rule that decided on the
    /// question of clients. They are one answer together. None, unless that rule answers with one.
    pub fn addresses(&self, name: &[u8], (qtype, client): (u16, Client), rule: &Found<'_>) -> Vec<IpAddr> {
        match rule.kind {
            Kind::Answer(prefix) => return self.answers.of(prefix).filter_map(address).collect(),
            Kind::Client(prefix) => return self.clients.of(prefix).filter_map(address).collect(),
            Kind::Exact | Kind::Suffix | Kind::Below | Kind::Regex => {}
        }
        let mut path = Path::default();
        if self.key.read(&mut path, name, self.depths).is_none() {
            return Vec::new();
        }
        let Some(labels) = rule.labels.filter(|_| address(rule.effect).is_some()) else {
            return address(rule.effect).into_iter().collect();
        };
        let classes = self.classes.iter().filter(|class| {
            let found = class.table.find(&path).block;
            class.important == rule.important && found.is_some_and(|(depth, _)| depth == labels)
        });
        let special = self.special.find(&path, name, (qtype, client));
        let special =
            special.filter(|(other, _, depth)| other.important == rule.important && *depth == labels);
        let effects = classes.map(|class| &class.effect).chain(special.map(|(rule, _, _)| &rule.effect));
        let mut addresses: Vec<IpAddr> = effects.filter_map(address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// Number of rules, by kind.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Hash of the rules, regardless of their order and of duplicates, unless more than eight addresses
    /// and aliases are answers. Only lists that were built with the same key can be compared.
    pub fn content(&self) -> u128 {
        self.content
    }

    /// Bytes that the list has allocated, without compiled regular expressions, which are
    /// [`PATTERNS_BYTES_MAX`] at most, and their memory of 1 MiB at most for each thread.
    pub fn bytes(&self) -> usize {
        let classes: usize = self.classes.iter().map(|class| size_of::<Class>() + class.table.bytes()).sum();
        self.plain.bytes()
            + classes
            + self.special.bytes()
            + self.patterns.bytes()
            + self.answers.bytes()
            + self.clients.bytes()
    }

    /// Whether the list is a response policy zone, of which the first with a rule decides.
    pub fn is_zone(&self) -> bool {
        self.by_labels
    }

    /// Rules about addresses of answers.
    pub fn answers(&self) -> &AddressRules {
        &self.answers
    }

    /// Sets of clients that rules are for, in the order of their first lines.
    pub fn client_sets(&self) -> &[ListedClients] {
        &self.client_sets
    }

    /// Rules about addresses of clients.
    pub fn clients(&self) -> &AddressRules {
        &self.clients
    }

    /// Numbers of labels that the names in rules have, as bits.
    pub(crate) fn depths(&self) -> u128 {
        self.depths
    }
}

/// Strongest rule so far.
struct Best<'a> {
    qtype: u16,
    by_labels: bool,
    found: Option<(Rank, Found<'a>)>,
}

impl<'a> Best<'a> {
    #[inline]
    fn offer_match(&mut self, found: Match, block: &'a Effect, allow: &'a Effect, important: bool) {
        for (effect, found) in [(block, found.block), (allow, found.allow)] {
            if let Some((labels, reach)) = found {
                let rule =
                    Found { effect, important, kind: reach.into(), labels: Some(labels), clients: None };
                self.offer(rule, false);
            }
        }
    }

    fn offer_rule(&mut self, rule: &'a Rule, kind: Kind, labels: Option<u8>) {
        let Rule { effect, important, clients, .. } = rule;
        let found = Found { effect, important: *important, kind, labels, clients: clients.as_deref() };
        self.offer(found, rule.has_conditions());
    }

    fn offer(&mut self, rule: Found<'a>, conditions: bool) {
        let Found { effect, important, labels, .. } = rule;
        let own = tier(effect, important);
        let (tier, tier_in_zone) = if self.by_labels { (Tier::Block, own) } else { (own, Tier::Block) };
        let rank = Rank { tier, labels, tier_in_zone, conditions, fit: fit(effect, self.qtype) };
        let stronger = match &self.found {
            Some((best, found)) => (rank, found.effect) > (*best, effect),
            None => true,
        };
        if stronger {
            self.found = Some((rank, rule));
        }
    }
}

impl From<Reach> for Kind {
    fn from(reach: Reach) -> Self {
        match reach {
            Reach::Exact => Kind::Exact,
            Reach::Suffix => Kind::Suffix,
            Reach::Below => Kind::Below,
        }
    }
}

/// Returns the strongest of the rules about a prefix.
fn about_addresses<'a>(
    effects: impl Iterator<Item = &'a Effect>,
    kind: Kind,
    qtype: u16,
) -> Option<Found<'a>> {
    let strongest = effects.max_by_key(|effect| (tier(effect, false), fit(effect, qtype), *effect))?;
    Some(Found { effect: strongest, important: false, kind, labels: None, clients: None })
}

pub(crate) fn tier(effect: &Effect, important: bool) -> Tier {
    match (effect, important) {
        (Effect::Allow, true) => Tier::ImportantAllow,
        (_, true) => Tier::ImportantBlock,
        (Effect::Allow, false) => Tier::Allow,
        (_, false) => Tier::Block,
    }
}

fn fit(effect: &Effect, qtype: u16) -> Fit {
    use ringdns_dataplane::dns::rtype;
    match effect {
        Effect::Block | Effect::Allow => Fit::List,
        Effect::Answer(RuleAnswer::Address(IpAddr::V4(_))) if qtype == rtype::A => Fit::Address,
        Effect::Answer(RuleAnswer::Address(IpAddr::V6(_))) if qtype == rtype::AAAA => Fit::Address,
        Effect::Answer(_) => Fit::Answer,
    }
}

fn address(effect: &Effect) -> Option<IpAddr> {
    match effect {
        Effect::Answer(RuleAnswer::Address(ip)) => Some(*ip),
        _ => None,
    }
}
