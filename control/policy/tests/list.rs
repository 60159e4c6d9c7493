//! Lists: order of rules, limits, counts, memory.

mod model;

use model::{key, list, name};
use ringdns_policy::{
    clients::{Client, ClientSet},
    list::{
        CLIENT_SETS_MAX, Changes, Counts, Kind, List, ListBuilder, PATTERNS_BYTES_MAX, Problem,
        RULES_A_NAME_MAX, RuleError,
    },
    rule::{Effect, Rule, RuleAnswer, Subject, Types},
};
use std::{net::IpAddr, sync::Arc};

const A: u16 = 1;
const AAAA: u16 = 28;

fn block(subject: Subject) -> Rule {
    Rule::new(subject, Effect::Block)
}

fn suffix(text: &str, effect: Effect) -> Rule {
    Rule::new(Subject::Suffix(name(text)), effect)
}

fn regex(text: &str) -> Rule {
    block(Subject::Regex(text.into()))
}

fn important(rule: Rule) -> Rule {
    Rule { important: true, ..rule }
}

fn address(text: &str) -> Effect {
    Effect::Answer(RuleAnswer::Address(text.parse().unwrap()))
}

fn effect(list: &List, asked: &str, qtype: u16) -> String {
    match list.find(&name(asked), qtype) {
        None => "none".to_owned(),
        Some(found) => format!("{:?} {:?} {:?}", found.kind, found.labels, found.effect),
    }
}

#[test]
fn subjects_reach_the_names_that_they_say() {
    let list = list(&[
        block(Subject::Exact(name("exact.example"))),
        block(Subject::Suffix(name("suffix.example"))),
        block(Subject::Below(name("below.example"))),
        regex(r"^ads[0-9]+\."),
    ]);
    let table = [
        ("exact.example", Some(Kind::Exact)),
        ("a.exact.example", None),
        ("suffix.example", Some(Kind::Suffix)),
        ("b.a.suffix.example", Some(Kind::Suffix)),
        ("asuffix.example", None),
        ("below.example", None),
        ("a.below.example", Some(Kind::Below)),
        ("ads12.example", Some(Kind::Regex)),
        ("ads.example", None),
        ("example", None),
        ("", None),
    ];
    for (asked, kind) in table {
        assert_eq!(list.find(&name(asked), A).map(|found| found.kind), kind, "{asked}");
    }
}

#[test]
fn the_root_and_names_of_127_labels_are_names() {
    let deep = "a.".repeat(127);
    let all = list(&[block(Subject::Suffix(name("")))]);
    assert_eq!(effect(&all, "", A), "Suffix Some(0) Block");
    assert_eq!(effect(&all, &deep, A), "Suffix Some(0) Block");
    let one = list(&[block(Subject::Exact(name(&deep)))]);
    assert_eq!(effect(&one, &deep, A), "Exact Some(127) Block");
    assert_eq!(effect(&one, &deep[2..], A), "none");
}

#[test]
fn bytes_that_are_no_name_match_nothing() {
    let list = list(&[block(Subject::Suffix(name(""))), regex("")]);
    for bytes in
        [&b""[..], b"\x01", b"\x01a", b"\x00\x00", b"\x01a\x00\x00", b"\xc0\x0c", b"\x40\x00", &[1; 300]]
    {
        assert_eq!(list.find(bytes, A), None, "{bytes:?}");
    }
}

#[test]
fn stronger_tiers_decide_whatever_the_name() {
    let allow = suffix("example", Effect::Allow);
    let ads = suffix("ads.example", Effect::Block);
    let find = |rules: &[Rule]| effect(&list(rules), "ads.example", A);
    assert_eq!(find(&[ads.clone(), allow.clone()]), "Suffix Some(1) Allow");
    assert_eq!(find(&[important(ads.clone()), allow.clone()]), "Suffix Some(2) Block");
    assert_eq!(find(&[important(ads.clone()), important(allow)]), "Suffix Some(1) Allow");
    assert_eq!(find(&[ads, suffix("ads.example", Effect::Allow)]), "Suffix Some(2) Allow");
}

#[test]
fn the_most_specific_rule_decides_among_answers() {
    let list = list(&[
        suffix("example", address("192.0.2.1")),
        suffix("a.example", Effect::Answer(RuleAnswer::NxDomain)),
        suffix("b.a.example", Effect::Block),
        suffix("b.a.example", address("192.0.2.2")),
        regex("a"),
    ]);
    assert_eq!(effect(&list, "x.example", A), "Suffix Some(1) Answer(Address(192.0.2.1))");
    assert_eq!(effect(&list, "x.a.example", A), "Suffix Some(2) Answer(NxDomain)");
    assert_eq!(effect(&list, "x.b.a.example", A), "Suffix Some(3) Answer(Address(192.0.2.2))");
    assert_eq!(effect(&list, "a.test", A), "Regex None Block");
}

#[test]
fn addresses_of_a_name_are_one_answer() {
    let mut rules: Vec<Rule> =
        (0..12).map(|n| suffix("nas.example", address(&format!("192.0.2.{n}")))).collect();
    rules.push(suffix("nas.example", address("2001:db8::1")));
    rules.push(suffix("example", address("198.51.100.1")));
    let list = list(&rules);
    let asked = name("nas.example");
    let v6 = list.find(&asked, AAAA).unwrap();
    assert_eq!(*v6.effect, address("2001:db8::1"));
    let all: Vec<IpAddr> = list.addresses(&asked, (AAAA, Client::Elsewhere), &v6);
    assert_eq!((all.len(), all.contains(&"198.51.100.1".parse().unwrap())), (13, false), "{all:?}");
}

#[test]
fn conditions_limit_a_rule() {
    let types = Rule { types: Types::Only(vec![AAAA]), ..suffix("t.example", Effect::Block) };
    let except = Rule { except: vec![name("ok.e.example")], ..suffix("e.example", Effect::Block) };
    let list = list(&[types, except]);
    assert_eq!((effect(&list, "t.example", A), effect(&list, "t.example", AAAA).len()), ("none".into(), 20));
    let blocked = |asked: &str| list.find(&name(asked), A).is_some();
    let asked = ["e.example", "a.e.example", "notok.e.example", "ok.e.example", "a.ok.e.example"];
    assert_eq!(asked.map(blocked), [true, true, true, false, false]);
}

#[test]
fn expressions_see_names_as_text() {
    let list = list(&[regex(r"^a\\046b\.c$"), regex(r"^\\255x$"), regex("(?i)^UP")]);
    for asked in [&b"\x03a.b\x01c\0"[..], b"\x02\xffx\0", b"\x02up\0"] {
        assert!(list.find(asked, A).is_some(), "{asked:?}");
    }
    assert!(list.find(b"\x01a\x01b\x01c\0", A).is_none());
}

#[test]
fn a_refused_expression_is_a_problem_with_its_line() {
    let mut builder = ListBuilder::new(key());
    for (line, pattern) in [(3, "("), (5, r"^ok\."), (7, "(a{1000}){1000}"), (9, r"(a)\1")] {
        builder.push(line, regex(pattern));
    }
    let (list, problems, total) = builder.finish();
    let lines: Vec<u32> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!((lines, total, list.counts().regex), (vec![3, 7, 9], 3, 1));
    assert!(problems.iter().all(|problem| problem.error.to_string().contains("refused: ")), "{problems:?}");
    assert!(list.find(&name("ok.example"), A).is_some());
}

#[test]
fn expressions_that_are_too_large_together_are_dropped_from_the_end() {
    let mut builder = ListBuilder::new(key());
    let last = 300;
    for line in 1..=last {
        builder.push(line, regex(&format!("^x{line}[a-z]{{300}}$")));
    }
    builder.push(last + 1, block(Subject::Exact(name("still.example"))));
    let (list, problems, total) = builder.finish();
    let kept = list.counts().regex as u32;
    assert!(kept > 10 && kept < last, "{kept}");
    assert_eq!(total as u32, last - kept);
    assert_eq!(problems[0], Problem { line: kept + 1, error: RuleError::Patterns });
    assert!(problems[0].error.to_string().contains(&PATTERNS_BYTES_MAX.to_string()));
    assert!(list.find(&name("still.example"), A).is_some());
    assert!(list.find(&name(&format!("x1{}", "a".repeat(60))), A).is_none());
}

#[test]
fn one_name_has_a_bounded_number_of_rules_with_conditions() {
    let mut builder = ListBuilder::new(key());
    for line in 1..=100 {
        builder
            .push(line, Rule { types: Types::Only(vec![line as u16]), ..suffix("example", Effect::Block) });
    }
    let (list, problems, total) = builder.finish();
    assert_eq!((list.counts().special, total), (RULES_A_NAME_MAX, 100 - RULES_A_NAME_MAX));
    assert_eq!(problems[0], Problem { line: 65, error: RuleError::TooMany });
}

#[test]
fn counts_are_those_of_the_lines() {
    let exact = |text: &str| block(Subject::Exact(name(text)));
    let list = list(&[
        exact("a.example"),
        exact("b.example"),
        exact("a.example"),
        suffix("a.example", Effect::Block),
        suffix("c.example", Effect::Allow),
        important(suffix("c.example", Effect::Block)),
        important(suffix("c.example", Effect::Block)),
        block(Subject::Below(name("d.example"))),
        regex("x"),
        regex("x"),
        Rule { types: Types::Only(vec![A]), ..exact("a.example") },
    ]);
    let expected = Counts {
        rules: 8,
        duplicates: 3,
        exact: 4,
        suffix: 4,
        below: 1,
        regex: 2,
        answers: 0,
        clients: 0,
        special: 1,
    };
    assert_eq!(list.counts(), expected);
}

#[test]
fn a_rule_takes_twelve_bytes_at_most_and_no_more_while_it_is_built() {
    let mut built = None;
    let memory = allocation_counter::measure(|| {
        let mut builder = ListBuilder::new(key());
        for number in 0..200_000u32 {
            builder
                .push(number, suffix(&format!("host{number}.example"), Effect::Answer(RuleAnswer::NxDomain)));
        }
        built = Some(builder.finish().0);
    });
    let list = built.unwrap();
    assert_eq!(list.counts().rules, 200_000);
    assert!(list.bytes() < 200_000 * 12, "{}", list.bytes());
    // What is allocated at the end is the list, and building never takes much more.
    assert!(memory.bytes_current.abs_diff(list.bytes() as i64) < 16_384, "{memory:?}, {}", list.bytes());
    assert!(memory.bytes_max < list.bytes() as u64 * 21 / 20, "{memory:?}, {}", list.bytes());
    let found = |number: u32| list.find(&name(&format!("a.host{number}.example")), A).is_some();
    assert!((0..200_000).all(found));
    assert!(!(200_000..400_000).any(found));
}

#[test]
fn changes_are_counted_in_every_kind_of_rule() {
    let only_aaaa = |text: &str| Rule { types: Types::Only(vec![AAAA]), ..suffix(text, Effect::Block) };
    let both = [
        suffix("same.example", Effect::Block),
        suffix("other.example", Effect::Answer(RuleAnswer::NxDomain)),
        only_aaaa("special.example"),
        regex("^same"),
    ];
    let first = [
        suffix("a.example", Effect::Block),
        suffix("b.example", Effect::Answer(RuleAnswer::NoData)),
        only_aaaa("c.example"),
        regex("^first"),
        // Another reach in the other version: one rule goes and another comes.
        block(Subject::Exact(name("reach.example"))),
    ];
    let second = [
        suffix("d.example", address("192.0.2.1")),
        suffix("e.example", Effect::Allow),
        suffix("f.example", Effect::Answer(RuleAnswer::NxDomain)),
        important(suffix("g.example", Effect::Block)),
        only_aaaa("h.example"),
        regex("^second"),
        block(Subject::Suffix(name("reach.example"))),
    ];
    let (before, after) = (list(&[&both[..], &first].concat()), list(&[&second[..], &both].concat()));
    assert_eq!(after.changes_since(&before), Changes { added: 7, removed: 5 });
    assert_eq!(before.changes_since(&after), Changes { added: 5, removed: 7 });
    assert_eq!(before.changes_since(&before), Changes::default());
    let many: Vec<Rule> = (0..5_000).map(|at| suffix(&format!("n{at}.example"), Effect::Block)).collect();
    let (early, late) = (list(&many[..3_000]), list(&many[1_000..]));
    assert_eq!(late.changes_since(&early), Changes { added: 2_000, removed: 1_000 });
    assert_eq!(late.changes_since(&list(&[])), Changes { added: 4_000, removed: 0 });
}

#[test]
fn rules_for_other_clients_do_not_take_part() {
    let rule = |client: &str| Rule {
        clients: Some(Arc::new(ClientSet::new(vec![client.parse().unwrap()], Vec::new()))),
        ..Rule::new(Subject::Suffix(name("ads.example")), Effect::Block)
    };
    let of = |clients: &[&str]| list(&clients.iter().map(|client| rule(client)).collect::<Vec<_>>());
    let one = of(&["192.0.2.1", "192.0.2.1", "192.0.2.2"]);
    assert!(one.find(&name("ads.example"), A).is_none(), "nobody is known to be such a client");
    let lines: Vec<u32> = one.client_sets().iter().map(|set| set.line).collect();
    assert_eq!((lines, one.counts().duplicates), (vec![1, 3], 1));
    assert_ne!(one.content(), of(&["192.0.2.1", "192.0.2.3"]).content());
    assert_eq!(of(&["192.0.2.3"]).changes_since(&of(&["192.0.2.1"])), Changes { added: 1, removed: 1 });
}

#[test]
fn a_list_has_a_bounded_number_of_sets_of_clients() {
    let mut builder = ListBuilder::new(key());
    for n in 0..=CLIENT_SETS_MAX as u8 {
        let clients = ClientSet::new(vec![format!("192.0.2.{n}").parse().unwrap()], Vec::new());
        let subject = Subject::Suffix(name(&format!("host{n}.example")));
        builder.push(
            u32::from(n) + 1,
            Rule { clients: Some(Arc::new(clients)), ..Rule::new(subject, Effect::Block) },
        );
    }
    let (list, problems, total) = builder.finish();
    assert_eq!((list.client_sets().len(), total), (CLIENT_SETS_MAX, 1));
    assert_eq!(problems, [Problem { line: CLIENT_SETS_MAX as u32 + 1, error: RuleError::Clients }]);
    assert!(problems[0].error.to_string().contains("client groups"));
}

#[test]
fn a_rule_that_is_refused_leaves_no_set_of_clients() {
    let clients = Some(Arc::new(ClientSet::new(vec!["192.0.2.1".parse().unwrap()], Vec::new())));
    let mut builder = ListBuilder::new(key());
    builder.push(1, Rule { clients, ..Rule::new(Subject::Regex("(".into()), Effect::Block) });
    let (list, problems, _) = builder.finish();
    assert_eq!((list.client_sets().len(), problems.len()), (0, 1));
}
