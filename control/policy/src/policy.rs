//! Verdict on a question, by all lists of a group of clients.

use crate::{
    list::{Found, List, Tier},
    names::{NameKey, Path},
    overrides::Overrides,
    rule::{Effect, RuleAnswer},
};
use smallvec::SmallVec;
use std::{net::IpAddr, sync::Arc};

/// Lists of a group of clients, in their order.
///
/// It does no I/O and has no clock. A reload makes a new policy with the lists that have not changed
/// and with new ones in the place of those that have.
#[derive(Clone, Debug)]
pub struct Policy {
    key: NameKey,
    allow: Box<[AllowList]>,
    block: Box<[BlockList]>,
    /// Numbers of labels that the names in rules have, as bits.
    depths: u128,
    has_dry_run: bool,
    /// Names that are decided before any list is asked.
    overrides: Option<Arc<Overrides>>,
}

/// List of names that no list blocks.
#[derive(Clone, Debug)]
pub struct AllowList {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// Rules, each of which allows, whatever its effect.
    pub list: Arc<List>,
}

/// List of names that are not resolved, but answered otherwise.
#[derive(Clone, Debug)]
pub struct BlockList {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// Rules.
    pub list: Arc<List>,
    /// Answer for rules that do not choose one.
    pub answer: RuleAnswer,
    /// TTL of answers in seconds.
    pub ttl: u32,
    /// Whether the list has no effect, but questions that it would block are counted.
    pub dry_run: bool,
}

/// Verdict on a question.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'a> {
    /// No list has a rule.
    Pass,
    /// A rule allows the name, in an allow list or in a block list.
    Allowed(Allowed<'a>),
    /// A rule blocks the name, or answers for it.
    Blocked(Blocked<'a>),
}

/// List and rule that allow a name.
#[derive(Clone, Copy, Debug)]
pub struct Allowed<'a> {
    /// Name of the list.
    pub list: &'a str,
    /// The rule.
    pub rule: Found<'a>,
}

/// List and rule that block a name.
#[derive(Clone, Copy, Debug)]
pub struct Blocked<'a> {
    /// The list.
    pub list: &'a BlockList,
    /// Answer to the question.
    pub answer: &'a RuleAnswer,
    /// The rule.
    pub rule: Found<'a>,
}

impl Policy {
    /// Returns a policy with these lists, which were built with the same key.
    pub fn new(key: NameKey, allow: Vec<AllowList>, block: Vec<BlockList>) -> Self {
        let lists = allow.iter().map(|allow| &allow.list).chain(block.iter().map(|block| &block.list));
        Policy {
            key,
            depths: lists.fold(0, |depths, list| depths | list.depths()),
            has_dry_run: block.iter().any(|block| block.dry_run),
            allow: allow.into(),
            block: block.into(),
            overrides: None,
        }
    }

    /// Returns the policy with overrides, which are stronger than its lists.
    pub fn with_overrides(self, overrides: Option<Arc<Overrides>>) -> Self {
        // The names above a question are known at all depths.
        Policy { overrides, ..self }
    }

    /// Key of the fingerprints of its lists.
    pub(crate) fn key(&self) -> NameKey {
        self.key
    }

    /// Overrides, if there are any.
    pub fn overrides(&self) -> Option<&Overrides> {
        self.overrides.as_deref()
    }

    /// Whether no question is decided.
    pub fn is_empty(&self) -> bool {
        self.block.is_empty() && self.overrides.is_none()
    }

    /// Lists that allow.
    pub fn allow_lists(&self) -> &[AllowList] {
        &self.allow
    }

    /// Lists that block, in their order.
    pub fn block_lists(&self) -> &[BlockList] {
        &self.block
    }

    /// Returns the verdict on questions for `name`, in wire format and lowercased, with the type
    /// `qtype`.
    ///
    /// An allow list is stronger than all block lists. Then important rules decide, then rules that
    /// allow, then rules that block, of all lists together. Among rules of equal strength, the first
    /// list decides.
    #[inline]
    pub fn judge(&self, name: &[u8], qtype: u16) -> Verdict<'_> {
        // Without block lists, there is nothing to allow either.
        if self.is_empty() {
            return Verdict::Pass;
        }
        self.judge_by_lists(name, qtype)
    }

    fn judge_by_lists(&self, name: &[u8], qtype: u16) -> Verdict<'_> {
        let mut path = Path::default();
        // Bytes that are no name match nothing: they are never resolved either.
        if self.key.read(&mut path, name, self.depths).is_none() {
            return Verdict::Pass;
        }
        if let Some(verdict) = self.overridden(&path, name) {
            return verdict;
        }
        if let Some(allowed) = self.allowed(&path, name, qtype) {
            return Verdict::Allowed(allowed);
        }
        match self.strongest(&path, name, qtype) {
            None => Verdict::Pass,
            Some((list, rule)) => match rule.effect {
                Effect::Allow => Verdict::Allowed(Allowed { list: &list.name, rule }),
                Effect::Block => Verdict::Blocked(Blocked { list, answer: &list.answer, rule }),
                Effect::Answer(answer) => Verdict::Blocked(Blocked { list, answer, rule }),
            },
        }
    }

    /// Returns the lists with `dry_run` that would have blocked the question, or answered it, had
    /// they an effect: those whose rule blocks, unless a stronger rule of another list allows.
    pub fn would_block(&self, name: &[u8], qtype: u16) -> SmallVec<[&BlockList; 4]> {
        let mut found = SmallVec::new();
        let mut path = Path::default();
        if !self.has_dry_run || self.key.read(&mut path, name, self.depths).is_none() {
            return found;
        }
        if self.overridden(&path, name).is_some() || self.allowed(&path, name, qtype).is_some() {
            return found;
        }
        let strongest = self.strongest(&path, name, qtype).map(|(_, rule)| rule);
        let allows = strongest.filter(|rule| *rule.effect == Effect::Allow).map(|rule| rule.tier());
        for list in self.block.iter().filter(|list| list.dry_run) {
            let rule = list.list.find_in(&path, name, qtype);
            let blocks = rule.filter(|rule| *rule.effect != Effect::Allow);
            if blocks.is_some_and(|rule| allows.is_none_or(|allows| rule.tier() > allows)) {
                found.push(list);
            }
        }
        found
    }

    /// Whether a list has a rule about a question, whatever its effect.
    pub fn has_rule(&self, name: &[u8], qtype: u16) -> bool {
        let mut path = Path::default();
        if self.key.read(&mut path, name, self.depths).is_none() {
            return false;
        }
        if self.overridden(&path, name).is_some() {
            return true;
        }
        let lists =
            self.allow.iter().map(|allow| &allow.list).chain(self.block.iter().map(|block| &block.list));
        lists.into_iter().any(|list| list.find_in(&path, name, qtype).is_some())
    }

    fn overridden(&self, path: &Path, name: &[u8]) -> Option<Verdict<'_>> {
        self.overrides.as_ref()?.judge(name, path.labels())
    }

    fn allowed(&self, path: &Path, name: &[u8], qtype: u16) -> Option<Allowed<'_>> {
        self.allow.iter().find_map(|allow| {
            let rule = allow.list.find_in(path, name, qtype)?;
            Some(Allowed { list: &allow.name, rule })
        })
    }

    /// Returns the strongest rule of the block lists that have an effect.
    fn strongest(&self, path: &Path, name: &[u8], qtype: u16) -> Option<(&BlockList, Found<'_>)> {
        let mut best: Option<(Tier, (&BlockList, Found<'_>))> = None;
        for list in self.block.iter().filter(|list| !list.dry_run) {
            if let Some(rule) = list.list.find_in(path, name, qtype)
                && best.as_ref().is_none_or(|(tier, _)| rule.tier() > *tier)
            {
                best = Some((rule.tier(), (list, rule)));
            }
        }
        best.map(|(_, found)| found)
    }
}

impl Blocked<'_> {
    /// Returns the addresses of the answer, if it has any: all of the name's rules, or the list's.
    pub fn addresses(&self, name: &[u8], qtype: u16) -> Vec<IpAddr> {
        match (self.rule.effect, self.answer) {
            (Effect::Answer(_), _) => self.list.list.addresses(name, qtype, &self.rule),
            (_, RuleAnswer::Address(ip)) => vec![*ip],
            _ => Vec::new(),
        }
    }
}
