//! Tests of groups and of the kinds of clients that they are divided into.

mod clients;

use super::*;
use ringdns_policy::{
    list::ListBuilder,
    rule::{Effect, Rule, RuleAnswer, Subject},
};

fn config(name: &str, client: &str) -> ClientGroupConfig {
    let clients = vec![client.parse().unwrap()];
    ClientGroupConfig {
        name: name.into(),
        clients,
        macs: Vec::new(),
        blocklists: None,
        allowlists: None,
        log: true,
        limit: None,
    }
}

fn group_of(groups: &Groups, client: &str) -> usize {
    groups.clients().unwrap().of(client.parse().unwrap()).number()
}

fn next(groups: &Groups, configs: &[ClientGroupConfig]) -> Groups {
    groups.next(configs, &[], &BTreeSet::new()).unwrap()
}

#[test]
fn a_group_keeps_its_number() {
    let first = next(&Groups::default(), &[config("a", "10.0.0.1"), config("b", "10.0.0.2")]);
    assert_eq!(["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|client| group_of(&first, client)), [1, 2, 0]);
    let second = next(&first, &[config("c", "10.0.0.1"), config("b", "10.0.0.3")]);
    assert_eq!(["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|client| group_of(&second, client)), [3, 0, 2]);
    assert_eq!((second.name(Group::new(3).unwrap()), second.name(Group::DEFAULT)), ("c", "default"));
}

#[test]
fn numbers_of_groups_that_are_gone_are_used_when_all_are_taken() {
    let all: Vec<_> = (1..GROUPS).map(|n| config(&format!("g{n}"), &format!("10.0.0.{n}"))).collect();
    let mut groups = next(&Groups::default(), &all);
    for round in 0..100 {
        let mut configs = all.clone();
        configs[7] = config(&format!("new{round}"), "10.0.1.1");
        groups = next(&groups, &configs);
        assert_eq!((groups.names.len(), group_of(&groups, "10.0.1.1")), (GROUPS, 8));
        assert_eq!(group_of(&groups, "10.0.0.31"), 31);
    }
}

/// Returns a block list with its name.
fn listed<'a>(name: &'a str, list: &'a List) -> NamedList<'a> {
    NamedList { name, list, allows: false }
}

/// Returns a zone with rules about clients.
fn zone(rules: &[(&str, Effect)]) -> List {
    let mut builder = ListBuilder::new(NameKey::new(&[7; 16]));
    builder.decide_by_labels();
    for (prefix, effect) in rules {
        builder.push(1, Rule::new(Subject::Client(prefix.parse().unwrap()), effect.clone()));
    }
    builder.finish().0
}

const DROP: Effect = Effect::Answer(RuleAnswer::Drop);
const NXDOMAIN: Effect = Effect::Answer(RuleAnswer::NxDomain);

#[test]
fn clients_with_the_same_rules_share_a_number_and_no_others() {
    let configs = [
        config("kids", "10.1.0.0/16"),
        ClientGroupConfig { blocklists: Some(Vec::new()), ..config("free", "10.2.0.0/16") },
    ];
    let feed = zone(&[
        ("10.0.0.0/8", DROP),
        ("10.3.0.1", DROP),
        ("10.3.0.2", Effect::Allow),
        ("10.1.1.0/24", DROP),
        ("2001:db8::/32", DROP),
        ("192.0.2.1", NXDOMAIN),
    ]);
    let other = zone(&[("10.3.0.1", DROP)]);
    let groups = Groups::default()
        .next(&configs, &[listed("feed", &feed), listed("other", &other)], &BTreeSet::new())
        .unwrap();
    let number = |client: &str| group_of(&groups, client);
    assert_eq!([number("198.51.100.1"), number("10.2.0.1")], [0, 2]);
    let kids = number("10.1.0.1");
    assert_eq!(number("10.1.1.1"), kids, "the longer rule has the same effect");
    assert_eq!(groups.name(Group::new(kids).unwrap()), "kids");
    assert_eq!(groups.named("kids"), Group::new(1));
    let dropped = number("10.9.0.1");
    assert_eq!(number("2001:db8::1"), dropped);
    let all = [0, 1, 2, kids, dropped, number("10.3.0.1"), number("10.3.0.2"), number("192.0.2.1")];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{all:?}");
    assert!(groups.names().iter().all(|name| ["default", "kids", "free"].contains(&&**name)));

    // The kinds that are left keep their numbers.
    let later =
        groups.next(&configs, &[listed("feed", &zone(&[("10.4.0.0/16", DROP)]))], &BTreeSet::new()).unwrap();
    assert_eq!([group_of(&later, "10.4.0.1"), group_of(&later, "10.1.0.1")], [dropped, 1]);
    assert_eq!(group_of(&later, "10.9.0.1"), 0);
}

#[test]
fn more_kinds_of_clients_than_numbers_are_refused() {
    let address = |n: usize| Effect::Answer(RuleAnswer::Address([192, 0, 2, n as u8].into()));
    let clients: Vec<String> = (0..=GROUPS).map(|n| format!("10.0.0.{n}")).collect();
    let rules: Vec<(&str, Effect)> =
        clients.iter().enumerate().map(|(n, client)| (client.as_str(), address(n))).collect();
    let next =
        |many: usize| Groups::default().next(&[], &[listed("feed", &zone(&rules[..many]))], &BTreeSet::new());
    assert!(next(GROUPS - 1).is_ok());
    assert_eq!(next(GROUPS).unwrap_err(), GroupsError::Kinds { kinds: GROUPS + 1, rule: None });
}

#[test]
fn paused_clients_of_a_group_share_a_number() {
    let configs = [config("kids", "10.1.0.0/16"), config("lone", "10.3.0.1")];
    let zone = zone(&[("10.1.0.9", DROP), ("10.4.0.0/16", NXDOMAIN)]);
    let paused = |clients: &[&str]| clients.iter().map(|client| client.parse().unwrap()).collect();
    let all = ["10.1.0.7", "10.1.0.9", "10.3.0.1", "10.4.0.1", "10.9.0.1", "2001:db8::7"];
    let groups = Groups::default().next(&configs, &[listed("feed", &zone)], &paused(&all)).unwrap();
    let of = |client: &str| group_of(&groups, client);
    let [kid, dropped, lone, in_zone, other, v6] = all.map(of);
    assert_eq!((kid, in_zone, other), (dropped, other, v6), "rules about clients do not matter");
    assert_eq!(BTreeSet::from([kid, lone, other, of("10.1.0.8"), of("10.9.0.2"), of("10.4.0.2")]).len(), 6);
    let name = |number: usize| groups.name(Group::new(number).unwrap());
    assert_eq!([kid, lone, other].map(name), ["kids", "lone", "default"]);
    assert_eq!(groups.named("kids").map(Group::number), Some(of("10.1.0.8")));
    // Only the paused clients are free of lists.
    let ads = BlockList {
        name: "ads".into(),
        list: Arc::new(ringdns_policy::list::ListBuilder::new(NameKey::new(&[7; 16])).finish().0),
        answer: RuleAnswer::NxDomain,
        ttl: 60,
        dry_run: false,
        client: None,
        action: None,
        ede: None,
    };
    let policies = groups.policies(&configs, NameKey::new(&[7; 16]), &[], &[ads], &InEffect::default());
    let lists = |number: usize| policies.of(Group::new(number).unwrap()).block_lists().len();
    assert_eq!([kid, lone, other].map(lists), [0; 3]);
    assert_eq!([of("10.1.0.8"), of("10.9.0.2")].map(lists), [1; 2]);
    let after = groups.next(&configs, &[listed("feed", &zone)], &BTreeSet::new()).unwrap();
    let before = Groups::default().next(&configs, &[listed("feed", &zone)], &BTreeSet::new()).unwrap();
    for (client, name) in [("10.1.0.7", "kids"), ("10.3.0.1", "lone"), ("10.9.0.1", "default")] {
        assert_eq!(after.name(Group::new(group_of(&after, client)).unwrap()), name);
    }
    assert_eq!(after.current.len(), before.current.len());
}

#[test]
fn more_kinds_than_numbers_are_refused_with_a_remedy() {
    let configs: Vec<_> = (2..GROUPS).map(|n| config(&format!("g{n}"), &format!("10.0.{n}.0/24"))).collect();
    let paused = |clients: &[&str]| clients.iter().map(|client| client.parse().unwrap()).collect();
    let next = |clients: &[&str]| Groups::default().next(&configs, &[], &paused(clients));
    assert!(next(&["10.0.2.1", "10.0.2.2", "10.0.2.3"]).is_ok(), "one kind");
    let error = next(&["10.0.2.1", "10.0.3.1"]).unwrap_err();
    assert_eq!(error, GroupsError::Kinds { kinds: GROUPS + 1, rule: None });
    assert!(GroupsError::REMEDY.contains("pause clients of fewer groups"));
}
