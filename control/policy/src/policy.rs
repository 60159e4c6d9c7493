//! Verdict on a question, by all lists of a group of clients.

use crate::{
    clients::Client,
    list::{Found, List, Tier, tier},
    loopback::is_loopback,
    names::{NameKey, Path},
    overrides::Overrides,
    rule::{Effect, RuleAnswer},
};
use ringdns_dataplane::{dns::rtype, prefix::Prefix};
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
    /// Clients that rules are looked up for.
    client: Client,
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
    /// Prefix of the clients that the policy is for, if the list has rules about it. They decide before
    /// rules about names.
    pub client: Option<Prefix>,
    /// Effect that takes the place of that of each rule.
    pub action: Option<Effect>,
    /// INFO-CODE of the extended error that goes with answers (RFC 8914).
    pub ede: Option<u16>,
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
    /// Clients that the rule was looked up for.
    pub client: Client,
    /// Whether a rule of an earlier zone about addresses may decide otherwise, once there is an answer.
    pub is_open: bool,
}

/// Rule of a block list that decides, and what it leads to.
#[derive(Clone, Copy)]
struct Decision<'a> {
    list: &'a BlockList,
    rule: Found<'a>,
    tier: Tier,
    /// Whether an earlier zone has rules about addresses of answers.
    is_open: bool,
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
            client: Client::default(),
        }
    }

    /// Returns the policy with overrides, which are stronger than its lists.
    pub fn with_overrides(self, overrides: Option<Arc<Overrides>>) -> Self {
        // The names above a question are known at all depths.
        Policy { overrides, ..self }
    }

    /// Returns the policy for these clients: rules of its lists may be for others alone.
    pub fn for_client(self, client: Client) -> Self {
        Policy { client, ..self }
    }

    /// Clients that rules are looked up for.
    pub(crate) fn client(&self) -> Client {
        self.client
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
    /// list decides. Of policy zones, only the first one with a rule takes part.
    #[inline]
    pub fn judge(&self, name: &[u8], qtype: u16) -> Verdict<'_> {
        // Without block lists, there is nothing to allow either.
        if self.is_empty() {
            return Verdict::Pass;
        }
        self.judge_by_lists(name, qtype, None)
    }

    /// Returns the verdict on questions for `name`, given the addresses in its answer. Rules about
    /// addresses decide only where no rule about the name or the client does, or one of a later zone.
    pub fn judge_answer(&self, name: &[u8], qtype: u16, addresses: &[IpAddr]) -> Verdict<'_> {
        if self.is_empty() {
            return Verdict::Pass;
        }
        self.judge_by_lists(name, qtype, Some(addresses))
    }

    fn judge_by_lists(&self, name: &[u8], qtype: u16, addresses: Option<&[IpAddr]>) -> Verdict<'_> {
        let mut path = Path::default();
        // Bytes that are no name match nothing: they are never resolved either.
        if is_loopback(name) || self.key.read(&mut path, name, self.depths).is_none() {
            return Verdict::Pass;
        }
        if let Some(verdict) = self.overridden(&path, name) {
            return verdict;
        }
        if let Some(allowed) = self.allowed(&path, name, qtype) {
            return Verdict::Allowed(allowed);
        }
        let mut decision = self.strongest(&path, name, (qtype, self.client), &[]);
        if let Some(addresses) = addresses
            && decision.is_none_or(|decision| decision.is_open)
        {
            decision = self.strongest(&path, name, (qtype, self.client), addresses);
            decision = decision.map(|decision| Decision { is_open: false, ..decision });
        }
        let Some(Decision { list, rule, is_open, .. }) = decision else { return Verdict::Pass };
        let client = self.client;
        match list.effect(&rule) {
            Effect::Allow => Verdict::Allowed(Allowed { list: &list.name, rule }),
            Effect::Block => Verdict::Blocked(Blocked { list, answer: &list.answer, rule, client, is_open }),
            Effect::Answer(answer) => Verdict::Blocked(Blocked { list, answer, rule, client, is_open }),
        }
    }

    /// Returns the lists with `dry_run` that would have blocked the question, or answered it, had
    /// they an effect: those whose rule blocks, unless a stronger rule of another list allows.
    pub fn would_block(&self, name: &[u8], qtype: u16) -> SmallVec<[&BlockList; 4]> {
        let mut found = SmallVec::new();
        let mut path = Path::default();
        if !self.has_dry_run || is_loopback(name) || self.key.read(&mut path, name, self.depths).is_none() {
            return found;
        }
        if self.overridden(&path, name).is_some() || self.allowed(&path, name, qtype).is_some() {
            return found;
        }
        let strongest = self.strongest(&path, name, (qtype, self.client), &[]);
        let allows = strongest.filter(|decision| *decision.list.effect(&decision.rule) == Effect::Allow);
        for list in self.block.iter().filter(|list| list.dry_run) {
            let rule = list.find_in(&path, name, (qtype, self.client), &[]);
            let blocks = rule.filter(|rule| *list.effect(rule) != Effect::Allow);
            if blocks.is_some_and(|rule| allows.is_none_or(|allows| list.tier(&rule) > allows.tier)) {
                found.push(list);
            }
        }
        found
    }

    /// Whether a list has a rule about a question, whatever its effect, for any client.
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
        lists.into_iter().any(|list| list.find_in(&path, name, qtype, Client::Any).is_some())
    }

    /// Whether a list has a rule about one of the addresses of an answer.
    pub fn has_rule_about_answer(&self, addresses: &[IpAddr]) -> bool {
        self.block.iter().any(|block| block.list.answers().deciding(addresses).is_some())
    }

    /// Whether a list has rules about addresses of answers.
    pub fn has_answers(&self) -> bool {
        self.block.iter().any(|block| !block.list.answers().is_empty())
    }

    /// Whether a rule is about the clients that the policy is for.
    pub fn has_clients(&self) -> bool {
        self.block.iter().any(|block| block.client.is_some())
    }

    fn overridden(&self, path: &Path, name: &[u8]) -> Option<Verdict<'_>> {
        self.overrides.as_ref()?.judge(name, path.labels())
    }

    fn allowed(&self, path: &Path, name: &[u8], qtype: u16) -> Option<Allowed<'_>> {
        self.allow.iter().find_map(|allow| {
            let rule = allow.list.find_in(path, name, qtype, self.client)?;
            Some(Allowed { list: &allow.name, rule })
        })
    }

    /// Returns the strongest rule of the block lists that have an effect, given addresses of the answer.
    fn strongest(
        &self,
        path: &Path,
        name: &[u8],
        (qtype, client): (u16, Client),
        addresses: &[IpAddr],
    ) -> Option<Decision<'_>> {
        let mut best: Option<Decision<'_>> = None;
        let (mut zone_decides, mut is_open) = (false, false);
        for list in self.block.iter().filter(|list| !list.dry_run) {
            let is_zone = list.list.is_zone();
            if is_zone && zone_decides {
                continue;
            }
            if let Some(rule) = list.find_in(path, name, (qtype, client), addresses) {
                zone_decides |= is_zone;
                let tier = list.tier(&rule);
                if best.is_none_or(|best| tier > best.tier) {
                    best = Some(Decision { list, rule, tier, is_open: is_open && is_zone });
                }
            }
            is_open |= has_addresses(qtype) && !list.list.answers().is_empty();
        }
        best
    }
}

impl BlockList {
    /// Returns the rule that decides in this list: about the client, the name, or addresses of the
    /// answer (draft-vixie-dnsop-dns-rpz section 5.3).
    #[inline]
    fn find_in(
        &self,
        path: &Path,
        name: &[u8],
        (qtype, client): (u16, Client),
        addresses: &[IpAddr],
    ) -> Option<Found<'_>> {
        let about_client = self.client.and_then(|prefix| self.list.find_client(prefix, qtype));
        let named = about_client.or_else(|| self.list.find_in(path, name, qtype, client));
        named.or_else(|| self.list.find_answer(addresses, qtype))
    }

    /// Returns the effect of a rule of the list.
    fn effect<'a>(&'a self, rule: &Found<'a>) -> &'a Effect {
        self.action.as_ref().unwrap_or(rule.effect)
    }

    fn tier(&self, rule: &Found<'_>) -> Tier {
        tier(self.effect(rule), rule.important)
    }
}

/// Whether answers to questions of a type have addresses.
fn has_addresses(qtype: u16) -> bool {
    matches!(qtype, rtype::A | rtype::AAAA | rtype::ANY)
}

impl Blocked<'_> {
    /// Returns the addresses of the answer, if it has any: all of the name's rules, or the list's.
    pub fn addresses(&self, name: &[u8], qtype: u16) -> Vec<IpAddr> {
        match (self.list.effect(&self.rule), self.answer) {
            (Effect::Answer(_), _) => self.list.list.addresses(name, (qtype, self.client), &self.rule),
            (_, RuleAnswer::Address(ip)) => vec![*ip],
            _ => Vec::new(),
        }
    }
}
