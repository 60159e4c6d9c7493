//! Policies: order of lists, dry runs, answers of the configuration, allocations.

mod model;

use model::{key, list, name};
use ringdns_policy::{
    policy::{AllowList, BlockList, Policy, Verdict},
    rule::{Effect, Rule, RuleAnswer, Subject},
};
use std::sync::Arc;

const A: u16 = 1;

fn rules(effect: Effect, names: &[&str]) -> Vec<Rule> {
    names.iter().map(|text| Rule::new(Subject::Suffix(name(text)), effect.clone())).collect()
}

fn block_list(title: &str, answer: RuleAnswer, rules: &[Rule]) -> BlockList {
    BlockList {
        name: title.into(),
        list: list(rules).into(),
        answer,
        ttl: 60,
        dry_run: false,
        client: None,
        action: None,
        ede: Some(15),
    }
}

fn verdict(policy: &Policy, asked: &str) -> String {
    match policy.judge(&name(asked), A) {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Allowed(allowed) => format!("allowed by {}", allowed.list),
        Verdict::Blocked(blocked) => {
            format!("{} {:?} {}", blocked.list.name, blocked.answer, blocked.list.ttl)
        }
    }
}

#[test]
fn a_policy_without_block_lists_passes_everything() {
    let allow = AllowList { name: "ours".into(), list: list(&rules(Effect::Block, &["example"])).into() };
    assert_eq!(verdict(&Policy::new(key(), vec![allow], Vec::new()), "a.example"), "pass");
}

#[test]
fn the_first_list_decides_and_allow_lists_before_it() {
    let ads = rules(Effect::Block, &["ads.example", "both.example"]);
    let mut adult = rules(Effect::Block, &["adult.example", "both.example", "ours.example"]);
    adult.extend(rules(Effect::Answer(RuleAnswer::Null), &["null.example"]));
    let ours = AllowList { name: "ours".into(), list: list(&rules(Effect::Block, &["ours.example"])).into() };
    let block =
        vec![block_list("ads", RuleAnswer::NxDomain, &ads), block_list("adult", RuleAnswer::Refused, &adult)];
    let policy = Policy::new(key(), vec![ours], block);
    let table = [
        ("x.ads.example", "ads NxDomain 60"),
        ("adult.example", "adult Refused 60"),
        ("both.example", "ads NxDomain 60"),
        ("null.example", "adult Null 60"),
        ("a.ours.example", "allowed by ours"),
        ("example", "pass"),
    ];
    for (asked, expected) in table {
        assert_eq!(verdict(&policy, asked), expected, "{asked}");
    }
}

#[test]
fn an_exception_counts_for_all_lists_and_an_important_rule_beats_it() {
    let important = Rule { important: true, ..rules(Effect::Block, &["bad.example"]).remove(0) };
    let block = vec![
        block_list("ads", RuleAnswer::NxDomain, &rules(Effect::Block, &["ads.example", "bad.example"])),
        block_list("fixes", RuleAnswer::NxDomain, &rules(Effect::Allow, &["example"])),
        block_list("malware", RuleAnswer::Refused, &[important]),
    ];
    let policy = Policy::new(key(), Vec::new(), block);
    assert_eq!(verdict(&policy, "ads.example"), "allowed by fixes");
    assert_eq!(verdict(&policy, "bad.example"), "malware Refused 60");
}

#[test]
fn a_dry_run_has_no_effect_and_is_told() {
    let mut trial =
        block_list("trial", RuleAnswer::NxDomain, &rules(Effect::Block, &["a.example", "ours.example"]));
    trial.dry_run = true;
    let ads = block_list("ads", RuleAnswer::NxDomain, &rules(Effect::Block, &["b.a.example"]));
    let ours = AllowList { name: "ours".into(), list: list(&rules(Effect::Allow, &["ours.example"])).into() };
    let policy = Policy::new(key(), vec![ours], vec![trial, ads]);
    let hits = |asked: &str| -> Vec<Arc<str>> {
        policy.would_block(&name(asked), A).iter().map(|list| list.name.clone()).collect()
    };
    assert_eq!((verdict(&policy, "a.example").as_str(), hits("a.example")), ("pass", vec!["trial".into()]));
    assert_eq!((verdict(&policy, "b.a.example").as_str(), hits("b.a.example").len()), ("ads NxDomain 60", 1));
    assert_eq!(
        (verdict(&policy, "ours.example").as_str(), hits("ours.example").len()),
        ("allowed by ours", 0)
    );
}

#[test]
fn addresses_come_from_the_rules_or_from_the_list() {
    let rule = rules(Effect::Answer(RuleAnswer::Address([192, 0, 2, 7].into())), &["nas.example"]);
    let mut rules = rules(Effect::Block, &["ads.example"]);
    rules.extend(rule);
    let sink = RuleAnswer::Address([192, 0, 2, 1].into());
    let policy = Policy::new(key(), Vec::new(), vec![block_list("ads", sink, &rules)]);
    let addresses = |asked: &str| match policy.judge(&name(asked), A) {
        Verdict::Blocked(blocked) => format!("{:?}", blocked.addresses(&name(asked), A)),
        other => format!("{other:?}"),
    };
    assert_eq!(
        (addresses("ads.example"), addresses("nas.example")),
        ("[192.0.2.1]".into(), "[192.0.2.7]".into())
    );
}

#[test]
fn names_without_special_rules_allocate_nothing() {
    let ads: Vec<Rule> = rules(Effect::Block, &["ads.example", "track.example"]);
    let ours = AllowList { name: "ours".into(), list: list(&rules(Effect::Block, &["ours.example"])).into() };
    let policy = Policy::new(key(), vec![ours], vec![block_list("ads", RuleAnswer::NxDomain, &ads)]);
    let asked = ["a.ads.example", "www.example", "a.ours.example"].map(name);
    let mut blocked = 0;
    let counted = allocation_counter::measure(|| {
        for asked in &asked {
            blocked += u32::from(matches!(policy.judge(asked, A), Verdict::Blocked(_)));
            blocked += policy.would_block(asked, A).len() as u32;
        }
    });
    assert_eq!((counted.count_total, blocked), (0, 1));
}

fn zone(title: &str, rules: Vec<Rule>) -> BlockList {
    let list = model::zone(&rules).into();
    BlockList { list, ..block_list(title, RuleAnswer::NxDomain, &[]) }
}

fn about(subject: Subject, effect: Effect) -> Rule {
    Rule::new(subject, effect)
}

fn answer_in(prefix: &str, effect: Effect) -> Rule {
    about(Subject::Answer(prefix.parse().unwrap()), effect)
}

const NXDOMAIN: Effect = Effect::Answer(RuleAnswer::NxDomain);
const NODATA: Effect = Effect::Answer(RuleAnswer::NoData);

/// Returns the list that decides, and whether it does before there is an answer.
fn verdict_on_answer(policy: &Policy, asked: &str, addresses: &[&str]) -> String {
    let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    let by = |verdict| match verdict {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Allowed(allowed) => format!("allowed by {}", allowed.list),
        Verdict::Blocked(blocked) if blocked.is_open => "open".to_owned(),
        Verdict::Blocked(blocked) => format!("blocked by {}", blocked.list.name),
    };
    let early = by(policy.judge(&name(asked), A));
    format!("{early}, {}", by(policy.judge_answer(&name(asked), A, &addresses)))
}

#[test]
fn zones_decide_in_their_order_and_by_names_before_addresses() {
    let below = |text: &str| Subject::Below(name(text));
    let policy = Policy::new(
        key(),
        Vec::new(),
        vec![
            zone(
                "names",
                vec![about(below("n.example"), NXDOMAIN), about(below("g.example"), Effect::Allow)],
            ),
            zone(
                "addresses",
                vec![
                    answer_in("192.0.2.0/24", NXDOMAIN),
                    answer_in("192.0.2.9", Effect::Allow),
                    about(below("own.example"), NODATA),
                ],
            ),
            zone("last", vec![about(below("g.example"), NXDOMAIN), about(below("l.example"), NXDOMAIN)]),
            block_list("ads", RuleAnswer::NxDomain, &rules(Effect::Block, &["ads.example"])),
        ],
    );
    for (asked, addresses, expected) in [
        ("a.n.example", &["192.0.2.9"][..], "blocked by names, blocked by names"),
        ("a.g.example", &["192.0.2.1"], "allowed by names, allowed by names"),
        ("a.own.example", &["192.0.2.9"], "blocked by addresses, blocked by addresses"),
        ("a.l.example", &["192.0.2.9"], "open, allowed by addresses"),
        ("a.l.example", &["192.0.2.1"], "open, blocked by addresses"),
        ("a.l.example", &["198.51.100.1"], "open, blocked by last"),
        ("a.l.example", &[], "open, blocked by last"),
        ("www.example", &["192.0.2.1"], "pass, blocked by addresses"),
        ("www.example", &["192.0.2.1", "192.0.2.9"], "pass, allowed by addresses"),
        ("www.example", &["198.51.100.1"], "pass, pass"),
        ("ads.example", &["192.0.2.9"], "blocked by ads, blocked by ads"),
    ] {
        assert_eq!(verdict_on_answer(&policy, asked, addresses), expected, "{asked} {addresses:?}");
    }
    let open = |qtype| matches!(policy.judge(&name("a.l.example"), qtype), Verdict::Blocked(b) if b.is_open);
    assert_eq!([A, 28, 16].map(open), [true, true, false], "only addresses are waited for");
}

#[test]
fn a_rule_about_the_client_decides_first_and_an_action_replaces_those_of_a_zone() {
    let client: Subject = Subject::Client("10.0.0.0/8".parse().unwrap());
    let rules = vec![
        about(client, NODATA),
        about(Subject::Exact(name("good.example")), Effect::Allow),
        answer_in("192.0.2.0/24", NXDOMAIN),
    ];
    let prefix = Some("10.0.0.0/8".parse().unwrap());
    let of_client =
        Policy::new(key(), Vec::new(), vec![BlockList { client: prefix, ..zone("z", rules.clone()) }]);
    assert_eq!(verdict(&of_client, "good.example"), "z NoData 60");
    assert_eq!(verdict_on_answer(&of_client, "www.example", &["192.0.2.1"]), "blocked by z, blocked by z");
    let replaced = |effect: Effect| {
        let list = BlockList { action: Some(effect), ..zone("z", rules.clone()) };
        Policy::new(key(), Vec::new(), vec![list])
    };
    let refusing = replaced(Effect::Answer(RuleAnswer::Refused));
    assert_eq!(verdict(&refusing, "good.example"), "z Refused 60");
    assert_eq!(verdict(&refusing, "www.example"), "pass");
    let passing = replaced(Effect::Allow);
    assert_eq!(verdict_on_answer(&passing, "www.example", &["192.0.2.1"]), "pass, allowed by z");
}

#[test]
fn a_rule_is_told_as_people_write_it() {
    let rule = |subject: Subject| Rule::new(subject, Effect::Block);
    let rules = [
        rule(Subject::Exact(name("exact.example"))),
        rule(Subject::Suffix(name("suffix.example"))),
        rule(Subject::Below(name("below.example"))),
        rule(Subject::Regex("^ad[0-9]".into())),
    ];
    let policy = Policy::new(key(), Vec::new(), vec![block_list("ads", RuleAnswer::NxDomain, &rules)]);
    for (asked, expected) in [
        ("exact.example", "exact.example."),
        ("suffix.example", "||suffix.example^"),
        ("a.b.suffix.example", "||suffix.example^"),
        ("a.b.below.example", "*.below.example."),
        ("ad1.example", "/regex/"),
    ] {
        let Verdict::Blocked(blocked) = policy.judge(&name(asked), A) else { panic!("{asked}") };
        assert_eq!(blocked.rule.text(&name(asked)), expected);
    }
}
