//! Names that an operator has blocked or allowed for a time. They are stronger than all lists.

use crate::{
    clients::Client,
    list::{Found, Kind, List, ListBuilder},
    names::{NameKey, last_labels},
    policy::{Allowed, BlockList, Blocked, Verdict},
    rule::{Effect, RuleAnswer},
};
use std::{collections::HashMap, sync::Arc};

/// Name of the overrides where a list is named.
pub const OVERRIDES: &str = "overrides";

/// TTL of answers to names that an override blocks, in seconds. It is short, as overrides are.
const TTL: u32 = 60;

static BLOCK: Effect = Effect::Block;
static ALLOW: Effect = Effect::Allow;

/// Overrides for the clients of a group. Each is about a name and all names below it.
#[derive(Clone, Debug)]
pub struct Overrides {
    /// Whether a name, in wire format and lowercased, is blocked.
    is_blocked: HashMap<Box<[u8]>, bool>,
    /// List that answers where an override blocks.
    list: BlockList,
}

impl Overrides {
    /// Returns overrides of names in wire format, each with whether it is blocked. `None`: there are
    /// none.
    pub fn new(key: NameKey, names: impl IntoIterator<Item = (Box<[u8]>, bool)>) -> Option<Arc<Self>> {
        let names =
            names.into_iter().map(|(name, is_blocked)| (name.to_ascii_lowercase().into(), is_blocked));
        let is_blocked: HashMap<Box<[u8]>, bool> = names.collect();
        let empty: List = ListBuilder::new(key).finish().0;
        let list = BlockList {
            name: OVERRIDES.into(),
            list: Arc::new(empty),
            answer: RuleAnswer::NxDomain,
            ttl: TTL,
            dry_run: false,
            client: None,
            action: None,
            ede: Some(15),
        };
        (!is_blocked.is_empty()).then(|| Arc::new(Overrides { is_blocked, list }))
    }

    /// List that answers where an override blocks.
    pub fn list(&self) -> &BlockList {
        &self.list
    }

    /// Returns whether the override of just this name blocks; `None`: there is none.
    pub(crate) fn get(&self, name: &[u8]) -> Option<bool> {
        self.is_blocked.get(name).copied()
    }

    /// Returns the names with an override, in wire format.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.is_blocked.keys().map(|name| &**name)
    }

    /// Returns the verdict on questions for `name`, which has `labels` labels: that of the override
    /// with the most labels. `None`: there is none.
    pub fn judge(&self, name: &[u8], labels: u8) -> Option<Verdict<'_>> {
        let found = (0..=labels).rev().find_map(|labels| {
            let is_blocked = self.is_blocked.get(last_labels(name, labels))?;
            Some((labels, *is_blocked))
        });
        found.map(|(labels, is_blocked)| {
            let effect = if is_blocked { &BLOCK } else { &ALLOW };
            let rule =
                Found { effect, important: true, kind: Kind::Suffix, labels: Some(labels), clients: None };
            match is_blocked {
                true => Verdict::Blocked(Blocked {
                    list: &self.list,
                    answer: &self.list.answer,
                    rule,
                    client: Client::default(),
                    is_open: false,
                }),
                false => Verdict::Allowed(Allowed { list: OVERRIDES, rule }),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        policy::{AllowList, Policy},
        rule::{Rule, Subject},
    };
    use ringdns_common::names;

    const KEY: fn() -> NameKey = || NameKey::new(&[7; 16]);

    fn list(name: &str, effect: Effect) -> Arc<List> {
        let mut builder = ListBuilder::new(KEY());
        builder.push(1, Rule::new(Subject::Suffix(names::name(name).unwrap().into()), effect));
        Arc::new(builder.finish().0)
    }

    #[test]
    fn the_most_specific_override_beats_all_lists() {
        let ads = BlockList {
            name: "ads".into(),
            list: list("ads.example", Effect::Block),
            answer: RuleAnswer::NxDomain,
            ttl: 60,
            dry_run: false,
            client: None,
            action: None,
            ede: Some(15),
        };
        let ours = AllowList { name: "ours".into(), list: list("corp.example", Effect::Allow) };
        let names = [("corp.example", true), ("ok.corp.example", false), ("www.ADS.example", false)];
        let names = names.map(|(name, is_blocked)| (names::name(name).unwrap().into(), is_blocked));
        let policy = Policy::new(KEY(), vec![ours], vec![ads]).with_overrides(Overrides::new(KEY(), names));
        for (name, expected) in [
            ("corp.example", "block"),
            ("www.corp.example", "block"),
            ("a.ok.corp.example", "allow"),
            ("ads.example", "block"),
            ("a.www.ads.example", "allow"),
            ("xcorp.example", "pass"),
            ("example", "pass"),
        ] {
            let name_ = names::name(name).unwrap();
            let verdict = match policy.judge(&name_, 1) {
                Verdict::Pass => "pass",
                Verdict::Allowed(allowed) => {
                    assert_eq!(allowed.list, OVERRIDES);
                    "allow"
                }
                Verdict::Blocked(_) => "block",
            };
            assert_eq!(verdict, expected, "{name}");
            assert_eq!(policy.has_rule(&name_, 1), expected != "pass", "{name}");
        }
        let alone = Policy::new(KEY(), Vec::new(), Vec::new());
        let names = [(names::name(".").unwrap().into(), true)];
        let alone = alone.with_overrides(Overrides::new(KEY(), names));
        assert!(matches!(alone.judge(&names::name("www.example").unwrap(), 1), Verdict::Blocked(_)));
    }
}
