//! Slow and obvious model of a policy: vectors of rules, read from one end to the other.

#![allow(dead_code, reason = "each test uses a part")]

use regex::Regex;
use ringdns_dataplane::prefix::Prefix;
use ringdns_policy::{
    clients::ClientSet,
    list::{List, ListBuilder},
    names::NameKey,
    rule::{Effect, Rule, RuleAnswer, Subject},
};
use std::{cell::RefCell, cmp::Reverse, collections::HashMap, net::IpAddr};

/// Labels of a name, the first one first.
pub type Labels = Vec<String>;

pub fn labels(text: &str) -> Labels {
    text.split('.').filter(|label| !label.is_empty()).map(str::to_owned).collect()
}

pub fn wire(labels: &[String]) -> Box<[u8]> {
    let mut name = Vec::new();
    for label in labels {
        name.push(u8::try_from(label.len()).unwrap());
        name.extend_from_slice(label.as_bytes());
    }
    name.push(0);
    name.into()
}

pub fn name(text: &str) -> Box<[u8]> {
    wire(&labels(text))
}

fn unwire(name: &[u8]) -> Labels {
    let mut found = Vec::new();
    let mut rest = name;
    while rest[0] != 0 {
        let (label, after) = rest[1..].split_at(usize::from(rest[0]));
        found.push(String::from_utf8(label.to_vec()).unwrap());
        rest = after;
    }
    found
}

pub fn key() -> NameKey {
    NameKey::new(b"0123456789abcdef")
}

pub fn list(rules: &[Rule]) -> List {
    build(ListBuilder::new(key()), rules)
}

/// Returns a list in which the rule with the most labels decides.
pub fn zone(rules: &[Rule]) -> List {
    let mut builder = ListBuilder::new(key());
    builder.decide_by_labels();
    build(builder, rules)
}

fn build(mut builder: ListBuilder, rules: &[Rule]) -> List {
    for (line, rule) in rules.iter().enumerate() {
        builder.push(line as u32 + 1, rule.clone());
    }
    let (list, problems, _) = builder.finish();
    assert_eq!(problems, []);
    list
}

/// Strength of a rule that applies: the strongest decides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Strength {
    pub tier: u8,
    pub labels: Option<u8>,
    pub conditions: bool,
    pub fit: u8,
    pub effect: Reverse<Effect>,
    pub important: bool,
}

/// Whether an expression matches. Compiled ones are kept, because that takes most of a test's time.
fn matches(pattern: &str, text: &str) -> bool {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    COMPILED.with_borrow_mut(|compiled| {
        let regex = compiled.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).unwrap());
        regex.is_match(text)
    })
}

/// Returns the number of labels of the rule's name, if the rule is about `asked`.
fn reached(subject: &Subject, asked: &Labels) -> Option<Option<u8>> {
    let (of_rule, applies): (Labels, fn(&Labels, &Labels) -> bool) = match subject {
        Subject::Exact(name) => (unwire(name), |asked, name| asked == name),
        Subject::Suffix(name) => (unwire(name), |asked, name| asked.ends_with(name)),
        Subject::Below(name) => (unwire(name), |asked, name| asked.ends_with(name) && asked != name),
        // Held to their model in list/addresses.rs and policy.rs.
        Subject::Answer(_) | Subject::Client(_) => return None,
        Subject::Regex(pattern) => return matches(pattern, &asked.join(".")).then_some(None),
    };
    applies(asked, &of_rule).then_some(Some(of_rule.len() as u8))
}

pub fn strength(rule: &Rule, asked: &Labels, qtype: u16) -> Option<Strength> {
    let labels = reached(&rule.subject, asked)?;
    if !rule.types.include(qtype) || rule.except.iter().any(|above| asked.ends_with(&unwire(above))) {
        return None;
    }
    let tier = match (rule.important, &rule.effect) {
        (true, Effect::Allow) => 4,
        (true, _) => 3,
        (false, Effect::Allow) => 2,
        (false, _) => 1,
    };
    let fit = match &rule.effect {
        Effect::Block | Effect::Allow => 0,
        Effect::Answer(RuleAnswer::Address(IpAddr::V4(_))) if qtype == 1 => 2,
        Effect::Answer(RuleAnswer::Address(IpAddr::V6(_))) if qtype == 28 => 2,
        Effect::Answer(_) => 1,
    };
    let conditions =
        rule.types != ringdns_policy::rule::Types::All || !rule.except.is_empty() || rule.clients.is_some();
    let effect = Reverse(rule.effect.clone());
    Some(Strength { tier, labels, conditions, fit, effect, important: rule.important })
}

/// Returns the rules that apply to a client; `None`: one whose address is in no rule.
pub fn for_client(rules: &[Rule], client: Option<IpAddr>) -> Vec<Rule> {
    let is_for = |rule: &&Rule| rule.clients.as_ref().is_none_or(|clients| is_in(clients, client));
    rules.iter().filter(is_for).cloned().collect()
}

/// Whether a client is in a set, by the text of the set.
fn is_in(clients: &ClientSet, client: Option<IpAddr>) -> bool {
    let text = clients.to_string();
    let contains = |prefix: &str| {
        let prefix: Prefix = prefix.parse().unwrap();
        client.is_some_and(|client| prefix.contains(client))
    };
    let mut only = text.split('|').filter(|word| !word.starts_with('~')).peekable();
    let is_permitted = only.peek().is_none() || only.any(contains);
    is_permitted && !text.split('|').filter_map(|word| word.strip_prefix('~')).any(contains)
}

/// Returns the effect of the rule that decides in a policy zone: of those with the most labels, the
/// strongest.
pub fn find_in_zone(rules: &[Rule], asked: &Labels, qtype: u16) -> Option<Strength> {
    let all = || rules.iter().filter_map(|rule| strength(rule, asked, qtype));
    let most = all().map(|rule| rule.labels).max()?;
    all().filter(|rule| rule.labels == most).max()
}

/// Returns the strength of the rule that decides.
pub fn find(rules: &[Rule], asked: &Labels, qtype: u16) -> Option<Strength> {
    rules.iter().filter_map(|rule| strength(rule, asked, qtype)).max()
}
