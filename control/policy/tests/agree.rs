//! Lists and policies against a slow model of them.

mod model;

use model::{Labels, Strength, find, key, list, wire};
use proptest::{collection::vec, prelude::*, sample::select};
use ringdns_dataplane::{group::Group, prefix::Prefix, purge::NameSet};
use ringdns_policy::{
    clients::{Client, ClientSet},
    groups::{GroupPolicy, Policies},
    list::{CHANGED_MAX, List},
    overrides::Overrides,
    policy::{AllowList, BlockList, Policy, Verdict},
    rule::{Effect, Rule, RuleAnswer, Subject, Types},
};
use std::{collections::HashSet, net::IpAddr, sync::Arc};

/// Names from a few labels, so that rules and questions meet.
fn names() -> impl Strategy<Value = Labels> {
    let label = select(vec!["a", "b", "com", "longer-than-seven", "sixteen-bytes-is"]);
    vec(label.prop_map(str::to_owned), 0..5)
}

fn subjects() -> impl Strategy<Value = Subject> {
    prop_oneof![
        9 => names().prop_map(|name| Subject::Exact(wire(&name))),
        9 => names().prop_map(|name| Subject::Suffix(wire(&name))),
        6 => names().prop_map(|name| Subject::Below(wire(&name))),
        1 => select(vec!["^a", r"(?:^|\.)b\.com$", "seven.*a", "^$", "[0-9]"])
            .prop_map(|pattern| Subject::Regex(pattern.into())),
    ]
}

fn effects() -> impl Strategy<Value = Effect> {
    // More addresses than tables for addresses.
    let address = (0u8..12).prop_map(|last| IpAddr::from([192, 0, 2, last]));
    let answers = prop_oneof![
        select(vec![
            RuleAnswer::NxDomain,
            RuleAnswer::NoData,
            RuleAnswer::Null,
            RuleAnswer::Drop,
            RuleAnswer::TcpOnly
        ]),
        address.prop_map(RuleAnswer::Address),
        Just(RuleAnswer::Address("2001:db8::1".parse().unwrap())),
        Just(RuleAnswer::Alias(model::name("sink.example"))),
    ];
    prop_oneof![4 => Just(Effect::Block), 1 => Just(Effect::Allow), 2 => answers.prop_map(Effect::Answer)]
}

/// Sets of clients around those of [`clients`].
fn client_sets() -> impl Strategy<Value = ClientSet> {
    select(vec![
        (&["10.0.0.1"][..], &[][..]),
        (&["10.0.0.0/24", "2001:db8::/32"], &["10.0.0.2"]),
        (&[], &["10.0.0.1"]),
        (&["10.0.0.0/8"], &[]),
        (&[], &["10.0.0.0/8", "2001:db8::1"]),
    ])
    .prop_map(|(only, except)| {
        let parsed = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        ClientSet::new(parsed(only), parsed(except))
    })
}

fn clients() -> impl Strategy<Value = Option<IpAddr>> {
    let addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.1.0.1", "2001:db8::1", "192.0.2.1"];
    let address = select(addresses.map(|text| text.parse::<IpAddr>().unwrap()).to_vec());
    prop_oneof![1 => Just(None), 6 => address.prop_map(Some)]
}

/// Returns a client as policies have it.
fn policy_client(client: Option<IpAddr>) -> Client {
    client.map_or(Client::Elsewhere, |address| Client::In(Prefix::around(address, 128)))
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let types = prop_oneof![
        6 => Just(Types::All),
        1 => Just(Types::Only(vec![1, 16])),
        1 => Just(Types::Except(vec![28])),
    ];
    let except = prop_oneof![6 => Just(Vec::new()), 1 => vec(names().prop_map(|name| wire(&name)), 1..3)];
    let clients = prop_oneof![5 => Just(None), 1 => client_sets().prop_map(|set| Some(Arc::new(set)))];
    let rule = (subjects(), effects(), proptest::bool::weighted(0.1), types, except, clients);
    let rule = rule.prop_map(|(subject, effect, important, types, except, clients)| Rule {
        subject,
        effect,
        important,
        types,
        except,
        clients,
    });
    vec(rule, 0..40)
}

fn questions() -> impl Strategy<Value = Vec<(Labels, u16)>> {
    vec((names(), select(vec![1u16, 28, 16])), 1..40)
}

fn same_as_model(list: &List, rules: &[Rule], asked: &Labels, qtype: u16) -> Result<(), TestCaseError> {
    let rules = &model::for_client(rules, None);
    let expected = find(rules, asked, qtype);
    let name = wire(asked);
    let found = list.find(&name, qtype);
    let told = found.map(|found| (found.effect.clone(), found.important, found.labels));
    let expected_told = expected.as_ref().map(|rule| (rule.effect.0.clone(), rule.important, rule.labels));
    prop_assert_eq!(told, expected_told, "{} {}", asked.join("."), qtype);
    if let Some(found) = found.filter(|found| found.labels.is_some()) {
        let expected = expected.map(|best| model_addresses(rules, &best, asked, qtype)).unwrap_or_default();
        prop_assert_eq!(list.addresses(&name, (qtype, Client::Elsewhere), &found), expected);
    }
    Ok(())
}

fn model_addresses(rules: &[Rule], best: &Strength, asked: &Labels, qtype: u16) -> Vec<IpAddr> {
    let address = |rule: Strength| match rule.effect.0 {
        Effect::Answer(RuleAnswer::Address(ip)) => Some(ip),
        _ => None,
    };
    if address(best.clone()).is_none() {
        return Vec::new();
    }
    let all = rules.iter().filter_map(|rule| model::strength(rule, asked, qtype));
    let together = all.filter(|rule| (rule.labels, rule.important) == (best.labels, best.important));
    let mut addresses: Vec<IpAddr> = together.filter_map(address).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// Returns a line for the verdict that the model comes to.
fn model_verdict(allow: &[Vec<Rule>], block: &[(Vec<Rule>, bool)], asked: &Labels, qtype: u16) -> String {
    if let Some(at) = allow.iter().position(|rules| find(rules, asked, qtype).is_some()) {
        return format!("allowed by allow{at}");
    }
    let mut best: Option<(usize, Strength)> = None;
    for (at, (rules, _)) in block.iter().enumerate().filter(|(_, (_, dry_run))| !dry_run) {
        if let Some(found) = find(rules, asked, qtype)
            && best.as_ref().is_none_or(|(_, best)| found.tier > best.tier)
        {
            best = Some((at, found));
        }
    }
    match best {
        None => "pass".to_owned(),
        Some((at, Strength { effect, .. })) => match effect.0 {
            Effect::Allow => format!("allowed by block{at}"),
            Effect::Block => format!("blocked by block{at}, {:?}", RuleAnswer::Refused),
            Effect::Answer(answer) => format!("blocked by block{at}, {answer:?}"),
        },
    }
}

/// Returns the dry-run lists that block in a policy where only this one has an effect beside others.
fn model_would_block(
    allow: &[Vec<Rule>],
    block: &[(Vec<Rule>, bool)],
    asked: &Labels,
    qtype: u16,
) -> Vec<String> {
    if allow.iter().any(|rules| find(rules, asked, qtype).is_some()) {
        return Vec::new();
    }
    let real = block.iter().filter(|list| !list.1).filter_map(|list| find(&list.0, asked, qtype));
    let allows = real.max_by_key(|found| found.tier).filter(|found| found.effect.0 == Effect::Allow);
    let hits = block.iter().enumerate().filter(|(_, (rules, dry_run))| {
        let found = find(rules, asked, qtype).filter(|found| *dry_run && found.effect.0 != Effect::Allow);
        found.is_some_and(|found| allows.as_ref().is_none_or(|allow| found.tier > allow.tier))
    });
    hits.map(|(at, _)| format!("block{at}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_list_finds_the_rule_that_the_model_finds(rules in rules(), questions in questions()) {
        let list = list(&rules);
        for (asked, qtype) in questions {
            same_as_model(&list, &rules, &asked, qtype)?;
        }
    }

    #[test]
    fn a_policy_zone_finds_the_rule_that_the_model_finds(rules in rules(), questions in questions()) {
        let zone = model::zone(&rules);
        for (asked, qtype) in questions {
            let found = zone.find(&wire(&asked), qtype).map(|found| (found.effect.clone(), found.labels));
            let rules = model::for_client(&rules, None);
            let expected = model::find_in_zone(&rules, &asked, qtype);
            let expected = expected.map(|rule| (rule.effect.0, rule.labels));
            prop_assert_eq!(found, expected, "{} {}", asked.join("."), qtype);
        }
        let differs = zone.content() != list(&rules).content();
        prop_assert!(differs, "or a list would stay as it is when its format changes");
    }

    #[test]
    fn the_content_does_not_depend_on_order_or_duplicates(rules in rules(), at in any::<prop::sample::Index>()) {
        // With more, the order decides which addresses have a table.
        let valued = rules.iter().filter(|rule| {
            matches!(rule.effect, Effect::Answer(RuleAnswer::Address(_) | RuleAnswer::Alias(_)))
        });
        let valued: HashSet<_> = valued.map(|rule| (&rule.effect, rule.important)).collect();
        prop_assume!(valued.len() <= 8);
        let content = list(&rules).content();
        let mut other = rules.clone();
        other.reverse();
        if let Some(rule) = rules.get(at.index(rules.len().max(1))) {
            other.push(rule.clone());
            let without: Vec<Rule> = rules.iter().filter(|other| *other != rule).cloned().collect();
            prop_assert_eq!(content, list(&other).content());
            let difference = list(&without).content() != content;
            prop_assert!(difference || is_covered(rule, &without), "{:?}", rule);
        }
    }

    #[test]
    fn a_policy_judges_as_the_model(
        allow in vec(rules(), 0..3),
        block in vec((rules(), proptest::bool::weighted(0.3)), 0..4),
        client in clients(),
        questions in questions(),
    ) {
        let named = |kind: &str, at: usize| Arc::<str>::from(format!("{kind}{at}"));
        let allow_lists = allow.iter().enumerate();
        let allow_lists =
            allow_lists.map(|(at, rules)| AllowList { name: named("allow", at), list: list(rules).into() });
        let block_lists = block.iter().enumerate().map(|(at, (rules, dry_run))| BlockList {
            name: named("block", at),
            list: list(rules).into(),
            answer: RuleAnswer::Refused,
            ttl: 60,
            dry_run: *dry_run,
            client: None,
            action: None,
            ede: Some(15),
        });
        let policy = Policy::new(key(), allow_lists.collect(), block_lists.collect());
        let policy = policy.for_client(policy_client(client));
        let allow: Vec<_> = allow.iter().map(|rules| model::for_client(rules, client)).collect();
        let block: Vec<_> =
            block.iter().map(|(rules, dry_run)| (model::for_client(rules, client), *dry_run)).collect();
        for (asked, qtype) in questions {
            let name = wire(&asked);
            let verdict = match policy.judge(&name, qtype) {
                Verdict::Pass => "pass".to_owned(),
                Verdict::Allowed(allowed) => format!("allowed by {}", allowed.list),
                Verdict::Blocked(blocked) => format!("blocked by {}, {:?}", blocked.list.name, blocked.answer),
            };
            let expected = model_verdict(&allow, &block, &asked, qtype);
            // Without block lists, nothing is looked up.
            if !block.is_empty() {
                prop_assert_eq!(verdict, expected, "{} {}", asked.join("."), qtype);
            }
            let hits = policy.would_block(&name, qtype);
            let hits: Vec<String> = hits.iter().map(|list| list.name.to_string()).collect();
            prop_assert_eq!(hits, model_would_block(&allow, &block, &asked, qtype));
        }
    }
}

/// Returns a line for what clients of each group get for a name without aliases.
fn told(policies: &Policies, name: &[u8], qtype: u16) -> Vec<String> {
    let policy = |group| policies.of(Group::new(group).unwrap()).judge(name, qtype);
    let line = |verdict: Verdict<'_>| match verdict {
        Verdict::Pass | Verdict::Allowed(_) => "passes".to_owned(),
        Verdict::Blocked(blocked) => {
            format!("{} {:?} {:?}", blocked.list.name, blocked.answer, blocked.addresses(name, qtype))
        }
    };
    (0..2).map(|group| line(policy(group))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Workers keep, after a change of lists, what they would get again if all was void.
    #[test]
    fn names_that_have_not_changed_are_judged_as_before(
        lists in vec((rules(), vec(rules(), 2), any::<bool>()), 1..4),
        overrides in vec(vec((names(), any::<bool>()), 0..3), 2),
        client in clients(),
        questions in questions(),
    ) {
        // Each list has some rules in common with its other version, and some of its own.
        let version = |at: usize| {
            let lists: Vec<_> = lists.iter().enumerate().map(|(number, (common, own, allows))| {
                let some = own[at].iter().take(3);
                (number, Arc::new(list(&common.iter().chain(some).cloned().collect::<Vec<_>>())), *allows)
            }).collect();
            let policy = |first: usize| {
                let lists = || lists.iter().filter(move |(number, ..)| *number >= first);
                let allow = lists().filter(|(.., allows)| *allows).map(|(number, list, _)| AllowList {
                    name: number.to_string().into(),
                    list: list.clone(),
                });
                let block = lists().filter(|(.., allows)| !*allows).map(|(number, list, _)| BlockList {
                    name: number.to_string().into(),
                    list: list.clone(),
                    answer: RuleAnswer::Refused,
                    ttl: 60,
                    dry_run: false,
                    client: None,
                    action: None,
                    ede: Some(15),
                });
                let names = overrides[at].iter().map(|(name, blocks)| (wire(name), *blocks));
                Policy::new(key(), allow.collect(), block.collect()).with_overrides(Overrides::new(key(), names))
            };
            let policy_of_own = policy(1).for_client(policy_client(client));
            let own = GroupPolicy { group: Group::new(1).unwrap(), name: "own".into(), policy: policy_of_own };
            Policies::new(policy(0), policy(0), vec![own])
        };
        let (before, after) = (version(0), version(1));
        prop_assert!(after.changed_since(&after).is_some_and(|changed| changed.is_empty()));
        let Some(changed) = after.changed_since(&before) else {
            let is_regex = |rule: &Rule| matches!(rule.subject, Subject::Regex(_));
            let mut own = lists.iter().flat_map(|(_, own, _)| own.iter().flat_map(|own| own.iter().take(3)));
            prop_assert!(own.any(is_regex), "only expressions are beyond telling");
            return Ok(());
        };
        for (asked, qtype) in questions {
            let name = wire(&asked);
            if !changed.has(&name) {
                prop_assert_eq!(told(&before, &name, qtype), told(&after, &name, qtype), "{} {}", asked.join("."), qtype);
            }
        }
    }
}

#[test]
fn a_change_of_a_rule_is_about_its_names_alone() {
    let rule = |text: &str| Rule::new(Subject::Suffix(model::name(text)), Effect::Block);
    let policies = |title: &str, answer: RuleAnswer, rules: &[Rule]| {
        let list = BlockList {
            name: title.into(),
            list: list(rules).into(),
            answer,
            ttl: 60,
            dry_run: false,
            client: None,
            action: None,
            ede: Some(15),
        };
        Policies::from(Policy::new(key(), Vec::new(), vec![list]))
    };
    let refused = |rules: &[Rule]| policies("ads", RuleAnswer::Refused, rules);
    let before = refused(&[rule("ads.example"), rule("both.example")]);
    let changed = refused(&[rule("both.example"), rule("x.new.example")]).changed_since(&before).unwrap();
    assert_eq!(changed.len(), 2);
    for (name, expected) in [
        ("ads.example", true),
        ("www.ads.example", true),
        ("x.new.example", true),
        ("new.example", false),
        ("both.example", false),
        ("www.example", false),
        ("example", false),
        ("", false),
    ] {
        assert_eq!(changed.has(&model::name(name)), expected, "{name}");
    }
    assert!(changed.has(b"no name"), "nothing is known of it");
    let same = [rule("ads.example"), rule("both.example")];
    for other in [policies("ads", RuleAnswer::Null, &same), policies("other", RuleAnswer::Refused, &same)] {
        assert!(other.changed_since(&before).is_none(), "everything may be answered otherwise");
    }
    let many =
        |count: usize| refused(&(0..count).map(|n| rule(&format!("n{n}.example"))).collect::<Vec<_>>());
    assert_eq!(many(CHANGED_MAX).changed_since(&many(0)).unwrap().len(), CHANGED_MAX);
    assert!(many(0).changed_since(&many(CHANGED_MAX + 1)).is_none());
}

/// Whether other rules without conditions about the name have the effect of this one already.
fn is_covered(rule: &Rule, others: &[Rule]) -> bool {
    let name = |rule: &Rule| match &rule.subject {
        Subject::Exact(name) | Subject::Suffix(name) | Subject::Below(name) => Some(name.clone()),
        Subject::Regex(_) | Subject::Answer(_) | Subject::Client(_) => None,
    };
    others.iter().any(|other| {
        (name(other).is_some(), name(other), other.important, &other.types, &other.except, &other.clients)
            == (true, name(rule), rule.important, &rule.types, &rule.except, &rule.clients)
    })
}
