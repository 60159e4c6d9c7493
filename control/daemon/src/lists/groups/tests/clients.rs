//! Tests of rules for some clients (`$client`).

use super::*;
use proptest::{collection::vec, prelude::*, sample::select};
use ringdns_common::names;
use ringdns_policy::{policy::Verdict, text};

const KEY: fn() -> NameKey = || NameKey::new(&[7; 16]);

/// Returns the list of filter rules.
fn filter(text: &str) -> List {
    let mut builder = ListBuilder::new(KEY());
    text::read(text.as_bytes(), text::Format::Adblock, |line, rule| builder.push(line, rule)).unwrap();
    builder.finish().0
}

fn block_list(name: &str, list: Arc<List>) -> BlockList {
    BlockList {
        name: name.into(),
        list,
        answer: RuleAnswer::NxDomain,
        ttl: 60,
        dry_run: false,
        client: None,
        action: None,
        ede: None,
    }
}

/// Groups of tests: kids have all lists, free clients none of the block lists.
fn configs() -> [ClientGroupConfig; 2] {
    [
        config("kids", "10.1.0.0/16"),
        ClientGroupConfig { blocklists: Some(Vec::new()), ..config("free", "10.2.0.0/16") },
    ]
}

#[test]
fn clients_are_told_apart_by_the_rules_that_are_for_them() {
    let desks = "||a.example^$client=10.0.0.0/24|~10.0.0.5\n";
    let custom =
        filter(&format!("{desks}||b.example^$client=~10.1.0.9\n||c.example^$client=10.2.0.1\n{desks}"));
    let groups = Groups::default().next(&configs(), &[listed("custom", &custom)], &BTreeSet::new()).unwrap();
    let number = |client: &str| group_of(&groups, client);
    let desk = number("10.0.0.1");
    assert_eq!(number("10.0.0.200"), desk);
    assert_eq!([number("10.0.0.5"), number("192.0.2.1"), number("2001:db8::1")], [0; 3]);
    assert_eq!(number("10.1.0.1"), groups.named("kids").unwrap().number());
    let kid = number("10.1.0.9");
    assert_eq!(groups.name(Group::new(kid).unwrap()), "kids");
    // Rules of lists that a group does not use are not for its clients.
    assert_eq!([number("10.2.0.1"), number("10.2.0.2")], [groups.named("free").unwrap().number(); 2]);
    assert_eq!(BTreeSet::from([0, desk, kid, number("10.1.0.1"), number("10.2.0.1")]).len(), 5);

    // Another rule for clients that are told apart already makes no more kinds.
    let more = filter(&format!("||b.example^$client=~10.1.0.9\n{}", desks.replace("a.ex", "e.ex")));
    let later = groups.next(&configs(), &[listed("custom", &more)], &BTreeSet::new()).unwrap();
    assert_eq!([group_of(&later, "10.0.0.1"), group_of(&later, "10.1.0.9")], [desk, kid]);
    let plain = filter("||a.example^");
    let without = later.next(&configs(), &[listed("custom", &plain)], &BTreeSet::new()).unwrap();
    assert_eq!(group_of(&without, "10.0.0.1"), 0);
}

#[test]
fn rules_do_not_divide_groups_without_the_list_or_paused_clients() {
    let ours = filter("||ok.example^$client=10.0.0.7\n");
    let custom = filter("||x.example^$client=10.0.0.8\n");
    let lists = [NamedList { allows: true, ..listed("ours", &ours) }, listed("custom", &custom)];
    let mut configs = configs();
    configs[0].allowlists = Some(Vec::new());
    configs[0].clients.push("10.0.0.7".parse().unwrap());
    let paused = BTreeSet::from(["10.0.0.8".parse().unwrap()]);
    let groups = Groups::default().next(&configs, &lists, &paused).unwrap();
    assert_eq!(group_of(&groups, "10.0.0.7"), groups.named("kids").unwrap().number());
    let block = [block_list("custom", Arc::new(filter("||x.example^$client=10.0.0.8\n")))];
    let policies = groups.policies(&configs, KEY(), &[], &block, &InEffect::default());
    let policy = policies.of(Group::new(group_of(&groups, "10.0.0.8")).unwrap());
    assert!(policy.block_lists().is_empty(), "no list decides for a paused client");
}

#[test]
fn the_rule_that_makes_too_many_kinds_is_named() {
    let rules = |most: usize| -> String {
        let rule = |n: usize| format!("||host{n}.example^$client=10.0.0.{n}\n");
        "! A comment\n".to_owned() + &(1..=most).map(rule).collect::<String>()
    };
    let next = |most: usize, paused: &BTreeSet<IpAddr>| {
        let (first, custom) = (filter("||a.example^$client=10.0.0.1"), filter(&rules(most)));
        Groups::default().next(&[], &[listed("first", &first), listed("custom", &custom)], paused).err()
    };
    let nobody = BTreeSet::new();
    assert_eq!(next(GROUPS - 1, &nobody), None);
    let error = next(GROUPS + 5, &nobody).unwrap();
    let rule = error.rule().unwrap();
    assert_eq!((&*rule.list, rule.line), ("custom", GROUPS as u32 + 1), "the line of the 32nd client");
    let said = error.to_string();
    assert!(said.contains("38 kinds of clients") && said.contains("$client=10.0.0.32/32"), "{said}");
    // A pause too many is not the fault of a rule.
    let error = next(GROUPS - 1, &BTreeSet::from(["192.0.2.1".parse().unwrap()])).unwrap();
    assert_eq!(error, GroupsError::Kinds { kinds: GROUPS + 1, rule: None });
}

/// Rule of a filter list, and the clients that it is for: those that it names, but for others.
#[derive(Clone, Debug)]
struct Written {
    pattern: &'static str,
    modifiers: Vec<&'static str>,
    clients: Option<(Vec<&'static str>, Vec<&'static str>)>,
}

impl Written {
    /// Returns the rule as a line.
    fn line(&self) -> String {
        let clients = self.clients.as_ref().map(|(only, except)| {
            let only = only.iter().map(|prefix| (*prefix).to_owned());
            let words: Vec<String> = only.chain(except.iter().map(|prefix| format!("~{prefix}"))).collect();
            format!("client={}", words.join("|"))
        });
        self.line_with(clients)
    }

    /// Returns the rule for everybody as a line, if it applies to a client. It names a client all the same,
    /// since rules that do are stronger.
    fn line_for(&self, client: IpAddr) -> Option<String> {
        let Some((only, except)) = &self.clients else { return Some(self.line_with(None)) };
        let has = |all: &[&str]| all.iter().any(|prefix| prefix.parse::<Prefix>().unwrap().contains(client));
        let applies = (only.is_empty() || has(only)) && !has(except);
        applies.then(|| self.line_with(Some("client=~255.255.255.255".to_owned())))
    }

    fn line_with(&self, clients: Option<String>) -> String {
        let modifiers = self.modifiers.iter().map(|modifier| (*modifier).to_owned());
        let all: Vec<String> = modifiers.chain(clients).collect();
        format!("{}{}{}\n", self.pattern, if all.is_empty() { "" } else { "$" }, all.join(","))
    }
}

/// Rules about few names, for few clients.
fn rules() -> impl Strategy<Value = Vec<Written>> {
    let pattern = select(vec!["||a.example^", "@@||a.example^", "|x.a.example^", "||*.example^", "/^x/"]);
    let modifier = select(vec![
        "important",
        "dnstype=A",
        "denyallow=x.a.example",
        "dnsrewrite=192.0.2.1",
        "dnsrewrite=192.0.2.2",
    ]);
    let prefix = || select(vec!["10.0.0.1", "10.0.0.0/24", "10.1.0.0/24", "10.0.0.0/8", "2001:db8::/32"]);
    let clients = (vec(prefix(), 0..3), vec(prefix(), 0..2));
    let clients = clients.prop_map(|(only, except)| {
        Some((only, except)).filter(|(only, except)| !only.is_empty() || !except.is_empty())
    });
    let rule = (pattern, vec(modifier, 0..2), clients).prop_map(|(pattern, mut modifiers, clients)| {
        modifiers.retain(|modifier| !pattern.starts_with("@@") || !modifier.starts_with("dnsrewrite"));
        Written { pattern, modifiers, clients }
    });
    vec(rule, 0..8)
}

/// Returns the list of these lines, with another one so that it is not empty.
fn list_of(lines: impl Iterator<Item = String>) -> Arc<List> {
    Arc::new(filter(&(lines.collect::<String>() + "||end.example^\n")))
}

/// Returns a line for what clients get by a verdict.
fn told(verdict: &Verdict<'_>, name: &[u8], qtype: u16) -> String {
    match verdict {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Allowed(_) => "allow".to_owned(),
        Verdict::Blocked(blocked) => {
            format!("{} {:?} {:?}", blocked.list.name, blocked.answer, blocked.addresses(name, qtype))
        }
    }
}

fn block_lists(lists: &[Arc<List>]) -> Vec<BlockList> {
    ["first", "second"].iter().zip(lists).map(|(name, list)| block_list(name, list.clone())).collect()
}

fn allow_lists(list: Arc<List>) -> Vec<AllowList> {
    vec![AllowList { name: "ours".into(), list }]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Each client gets what it would get if the lists had the rules for it alone.
    #[test]
    fn each_client_gets_the_rules_that_are_for_it(allow in rules(), block in vec(rules(), 2)) {
        let configs = configs();
        let ours = list_of(allow.iter().map(Written::line));
        let lists: Vec<_> = block.iter().map(|rules| list_of(rules.iter().map(Written::line))).collect();
        let named = [
            NamedList { allows: true, ..listed("ours", &ours) },
            listed("first", &lists[0]),
            listed("second", &lists[1]),
        ];
        let groups = Groups::default().next(&configs, &named, &BTreeSet::new()).unwrap();
        let block_all = block_lists(&lists);
        let policies =
            groups.policies(&configs, KEY(), &allow_lists(ours.clone()), &block_all, &InEffect::default());
        for client in ["10.0.0.1", "10.0.0.9", "10.1.0.1", "10.1.9.1", "10.2.0.1", "2001:db8::1", "192.0.2.1"] {
            let group = Group::new(group_of(&groups, client)).unwrap();
            let client: IpAddr = client.parse().unwrap();
            let own = |rules: &Vec<Written>| list_of(rules.iter().filter_map(|rule| rule.line_for(client)));
            let own_block: Vec<_> = match groups.name(group) {
                "free" => Vec::new(),
                _ => block_lists(&block.iter().map(own).collect::<Vec<_>>()),
            };
            let expected = Policy::new(KEY(), allow_lists(own(&allow)), own_block);
            for (name, qtype) in [("a.example", 1), ("x.a.example", 1), ("x.a.example", 28), ("b.example", 1)] {
                let name = names::name(name).unwrap();
                let verdicts = policies.judge(&name, qtype);
                let of_group: Vec<_> = verdicts.iter().filter(|(groups, _)| groups.has(group)).collect();
                prop_assert_eq!(of_group.len(), 1);
                let expected = told(&expected.judge(&name, qtype), &name, qtype);
                prop_assert_eq!(told(&of_group[0].1, &name, qtype), expected, "{} {:?}", client, name);
            }
        }
    }
}
