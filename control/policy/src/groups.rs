//! Policies of groups of clients.

use crate::policy::{Blocked, Policy, Verdict};
use ringdns_dataplane::group::{GROUPS, Group, GroupSet};
use smallvec::{SmallVec, smallvec};
use std::{net::IpAddr, sync::Arc};

/// Name of the group of the clients in no other.
const DEFAULT: &str = "default";

/// Names of groups by number. The default group has the numbers without one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupNames(Box<[Arc<str>]>);

impl GroupNames {
    /// Returns the names of the first groups.
    pub fn new(names: Vec<Arc<str>>) -> Self {
        GroupNames(names.into())
    }

    /// Returns the name of a group.
    pub fn name(&self, group: Group) -> &str {
        self.0.get(group.number()).map_or(DEFAULT, |name| name)
    }

    /// Returns the groups with names that are wanted.
    pub fn groups(&self, is_wanted: impl Fn(&str) -> bool) -> GroupSet {
        let all = (0..GROUPS).filter_map(Group::new);
        all.filter(|group| is_wanted(self.name(*group))).fold(GroupSet::NONE, GroupSet::with)
    }
}

/// Policy of each group of clients, all built with the same key.
#[derive(Clone, Debug)]
pub struct Policies {
    /// Policy of the default group, and of numbers that no group has.
    default: Policy,
    others: Box<[GroupPolicy]>,
    /// All lists of all groups. Names that have no rule here pass for every group.
    all: Policy,
    /// Whether a rule of a group is about its clients, and so about all names.
    has_clients: bool,
    names: GroupNames,
}

/// Policy of a group other than the default one.
#[derive(Clone, Debug)]
pub struct GroupPolicy {
    /// Number of the group.
    pub group: Group,
    /// Name of the group in the configuration.
    pub name: Arc<str>,
    /// Its lists.
    pub policy: Policy,
}

/// Verdict on a question, and the groups for which it is the same.
pub type GroupVerdict<'a> = (GroupSet, Verdict<'a>);

impl From<Policy> for Policies {
    /// Returns the policy of a host without groups.
    fn from(policy: Policy) -> Self {
        Policies::new(policy.clone(), policy, Vec::new())
    }
}

impl Policies {
    /// Returns the policies of groups. `all` has the lists of all of them.
    pub fn new(all: Policy, default: Policy, others: Vec<GroupPolicy>) -> Self {
        let has_clients = others.iter().any(|other| other.policy.has_clients());
        let name = |number: usize| others.iter().find(|other| other.group.number() == number);
        let count = others.iter().map(|other| other.group.number() + 1).max().unwrap_or(0);
        let names = (0..count).map(|number| name(number).map_or(DEFAULT.into(), |other| other.name.clone()));
        let names = GroupNames::new(names.collect());
        Policies { default, others: others.into(), all, has_clients, names }
    }

    /// Returns the policies with the names of all groups, also of numbers that have no policy any more.
    pub fn with_names(self, names: GroupNames) -> Self {
        Policies { names, ..self }
    }

    /// Returns the names of all groups.
    pub fn names(&self) -> &GroupNames {
        &self.names
    }

    /// Returns the policy of a group.
    pub fn of(&self, group: Group) -> &Policy {
        let own = self.others.iter().find(|other| other.group == group);
        own.map_or(&self.default, |other| &other.policy)
    }

    /// Returns the policy of the default group.
    pub(crate) fn default_policy(&self) -> &Policy {
        &self.default
    }

    /// Returns the policy with the lists of all groups.
    pub fn all(&self) -> &Policy {
        &self.all
    }

    /// Returns the groups other than the default one.
    pub fn groups(&self) -> &[GroupPolicy] {
        &self.others
    }

    /// Whether no question is decided for any group.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Returns the verdicts of all groups on questions for `name`, in wire format and lowercased, with
    /// the type `qtype`. Each group is in one of the sets.
    pub fn judge(&self, name: &[u8], qtype: u16) -> SmallVec<[GroupVerdict<'_>; 2]> {
        let is_undecided = || !self.all.has_rule(name, qtype);
        self.verdicts(name, qtype, is_undecided, |policy| policy.judge(name, qtype))
    }

    /// Returns the verdicts of all groups on questions for `name`, given the addresses in the answer.
    pub fn judge_answer(
        &self,
        name: &[u8],
        qtype: u16,
        addresses: &[IpAddr],
    ) -> SmallVec<[GroupVerdict<'_>; 2]> {
        let is_undecided = || !self.all.has_rule(name, qtype) && !self.all.has_rule_about_answer(addresses);
        self.verdicts(name, qtype, is_undecided, |policy| policy.judge_answer(name, qtype, addresses))
    }

    fn verdicts<'a>(
        &'a self,
        name: &[u8],
        qtype: u16,
        is_undecided: impl FnOnce() -> bool,
        judge: impl Fn(&'a Policy) -> Verdict<'a>,
    ) -> SmallVec<[GroupVerdict<'a>; 2]> {
        if self.others.is_empty() || !self.has_clients && is_undecided() {
            return smallvec![(GroupSet::ALL, judge(&self.default))];
        }
        let mut verdicts: SmallVec<[GroupVerdict<'_>; 2]> = SmallVec::new();
        let mut left = GroupSet::ALL;
        for GroupPolicy { group, policy, .. } in &self.others {
            let verdict = judge(policy);
            left = left.without(*group);
            match verdicts.iter_mut().find(|(_, other)| is_same(other, &verdict, name, qtype)) {
                Some((groups, _)) => *groups = groups.with(*group),
                None => verdicts.push((GroupSet::NONE.with(*group), verdict)),
            }
        }
        let verdict = judge(&self.default);
        match verdicts.iter_mut().find(|(_, other)| is_same(other, &verdict, name, qtype)) {
            Some((groups, _)) => *groups = groups.or(left),
            None => verdicts.push((left, verdict)),
        }
        verdicts
    }
}

/// Whether clients get the same by two verdicts on a question.
fn is_same(one: &Verdict<'_>, other: &Verdict<'_>, name: &[u8], qtype: u16) -> bool {
    match (one, other) {
        (Verdict::Pass, Verdict::Pass) | (Verdict::Allowed(_), Verdict::Allowed(_)) => true,
        (Verdict::Blocked(one), Verdict::Blocked(other)) => is_same_block(one, other, name, qtype),
        _ => false,
    }
}

fn is_same_block(one: &Blocked<'_>, other: &Blocked<'_>, name: &[u8], qtype: u16) -> bool {
    // A list has one answer and one TTL for all groups. Rules about other names or prefixes may have
    // more addresses, and so may rules for some of the clients.
    one.list.name == other.list.name
        && one.answer == other.answer
        && (one.rule.kind, one.rule.labels) == (other.rule.kind, other.rule.labels)
        && one.is_open == other.is_open
        && (one.client == other.client || one.addresses(name, qtype) == other.addresses(name, qtype))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        list::{List, ListBuilder},
        names::NameKey,
        policy::{AllowList, BlockList},
        rule::{Effect, Rule, RuleAnswer, Subject},
    };
    use ringdns_common::names;

    const KEY: fn() -> NameKey = || NameKey::new(&[7; 16]);

    fn list(name: &str, effect: Effect) -> Arc<List> {
        let mut builder = ListBuilder::new(KEY());
        builder.push(1, Rule::new(Subject::Suffix(names::name(name).unwrap().into()), effect));
        Arc::new(builder.finish().0)
    }

    fn block(list_name: &str, name: &str) -> BlockList {
        let list = list(name, Effect::Block);
        BlockList {
            name: list_name.into(),
            list,
            answer: RuleAnswer::NxDomain,
            ttl: 60,
            dry_run: false,
            client: None,
            action: None,
            ede: Some(15),
        }
    }

    fn group(number: usize) -> Group {
        Group::new(number).unwrap()
    }

    /// Returns the numbers of groups below 4 by what they get.
    fn sets(policies: &Policies, name: &str) -> Vec<(Vec<usize>, &'static str)> {
        let name = names::name(name).unwrap();
        let verdicts = policies.judge(&name, 1);
        let mut sets: Vec<_> = verdicts
            .iter()
            .map(|(groups, verdict)| {
                let kind = match verdict {
                    Verdict::Pass => "pass",
                    Verdict::Allowed(_) => "allow",
                    Verdict::Blocked(_) => "block",
                };
                ((0..4).filter(|number| groups.has(group(*number))).collect(), kind)
            })
            .collect();
        sets.sort();
        sets
    }

    #[test]
    fn groups_are_together_where_their_lists_agree() {
        let [ads, games] = [block("ads", "ads.example"), block("games", "games.example")];
        let ours = AllowList { name: "ours".into(), list: list("ok.ads.example", Effect::Allow) };
        let policy = |allow: &[&AllowList], block: &[&BlockList]| {
            let allow = allow.iter().map(|list| (*list).clone()).collect();
            Policy::new(KEY(), allow, block.iter().map(|list| (*list).clone()).collect())
        };
        let other = |number, policy| GroupPolicy { group: group(number), name: "g".into(), policy };
        let policies = Policies::new(
            policy(&[&ours], &[&ads, &games]),
            policy(&[], &[&ads]),
            vec![other(1, policy(&[&ours], &[&ads, &games])), other(2, policy(&[], &[&games, &ads]))],
        );
        assert_eq!(sets(&policies, "www.example"), [(vec![0, 1, 2, 3], "pass")]);
        assert_eq!(sets(&policies, "www.ads.example"), [(vec![0, 1, 2, 3], "block")]);
        assert_eq!(sets(&policies, "games.example"), [(vec![0, 3], "pass"), (vec![1, 2], "block")]);
        assert_eq!(sets(&policies, "ok.ads.example"), [(vec![0, 2, 3], "block"), (vec![1], "allow")]);
        let alone = Policies::from(policy(&[], &[&games]));
        assert_eq!(sets(&alone, "games.example"), [(vec![0, 1, 2, 3], "block")]);
    }
}
