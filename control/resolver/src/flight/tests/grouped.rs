//! Groups of clients: each gets its own data, and answers say for which groups they are.

use super::{
    punts::{punted, returned},
    *,
};
use ringdns_policy::{
    data::{Audience, DataBuilder, LocalData, LocalRecord},
    groups::{GroupNames, GroupPolicy, Policies},
    names::NameKey,
    policy::Policy,
    rule::RuleAnswer,
};
use std::net::{IpAddr, Ipv4Addr};

const CNAME: u16 = 5;

pub(super) fn group(number: usize) -> Group {
    Group::new(number).unwrap()
}

pub(super) fn client(number: usize) -> Option<Client> {
    Some(Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), group: group(number) })
}

pub(super) fn set(numbers: &[usize]) -> GroupSet {
    numbers.iter().fold(GroupSet::NONE, |set, number| set.with(group(*number)))
}

/// Returns policies without lists, of groups with these names from number 1 on.
pub(super) fn named(names: &[&str]) -> Policies {
    let empty = || Policy::new(NameKey::new(&[7; 16]), Vec::new(), Vec::new());
    let others = (1..).zip(names);
    let others = others.map(|(number, name)| GroupPolicy {
        group: group(number),
        name: (*name).into(),
        policy: empty(),
    });
    Policies::new(empty(), empty(), others.collect())
}

/// Returns records, each for the groups with these names; none: for all.
pub(super) fn data(records: &[(&str, u16, &str, &[&str])]) -> LocalData {
    let mut builder = DataBuilder::default();
    for (owner, rtype, data, groups) in records {
        let names: Vec<String> = groups.iter().map(|name| (*name).to_owned()).collect();
        let audience = if names.is_empty() { Audience::ALL } else { builder.groups(&names).unwrap() };
        builder.record_for(audience, LocalRecord::parse(owner, *rtype, 77, data).unwrap()).unwrap();
    }
    builder.finish(None)
}

/// Returns the last byte of the last address that a client gets.
pub(super) async fn last(resolver: &Arc<Resolver>, number: usize, key: &Key) -> u8 {
    let resolved = resolver.resolve_for(client(number), key).await;
    assert!(resolved.groups.has(group(number)), "{key} for {number}: {:?}", resolved.groups);
    *resolved.answer.wire.last().unwrap()
}

#[tokio::test]
async fn a_group_gets_the_data_that_is_for_it() {
    let fake = playing(|seen| Some(seen.query.address([192, 0, 2, 1])));
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    resolver.set_policy(named(&["kids", "guests"]));
    resolver.set_local_data(data(&[
        ("nas.example", 1, "192.0.2.7", &["kids"]),
        ("nas.example", 1, "192.0.2.8", &["guests"]),
        ("out.example", CNAME, "www.elsewhere.example", &["kids"]),
        ("all.example", 1, "192.0.2.9", &[]),
    ]));
    let key = key("nas.example");
    // The default group, and a number that no group has, resolve the name.
    for (number, expected, groups) in
        [(1, 7, set(&[1])), (2, 8, set(&[2])), (0, 1, set(&[1, 2]).others()), (9, 1, set(&[1, 2]).others())]
    {
        assert_eq!(last(&resolver, number, &key).await, expected);
        assert_eq!(resolver.resolve_for(client(number), &key).await.groups, groups, "{number}");
    }
    let of_kids = resolver.resolve_for(client(1), &super::key("out.example")).await;
    assert_eq!((of_kids.groups, of_kids.answer.counts[0]), (set(&[1]), 2));
    let of_all = resolver.resolve_for(client(0), &super::key("all.example")).await;
    assert_eq!(of_all.groups, GroupSet::ALL, "one entry for all");
    let other = resolver.resolve_for(client(1), &super::key("www.example")).await;
    assert_eq!(other.groups, GroupSet::ALL, "what data is not about is shared");
}

#[tokio::test]
async fn an_alias_of_a_list_leads_each_group_to_its_own_data() {
    let fake = playing(|seen| Some(seen.query.address([192, 0, 2, 1])));
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    let sink = RuleAnswer::Alias(names::name("sink.example").unwrap().into());
    let listed = crate::policy::testing::blocking_for(Group::DEFAULT, "ads.example", sink);
    let names = named(&["kids"]).names().clone();
    resolver.set_policy(listed.with_names(names));
    resolver.set_local_data(data(&[("sink.example", 1, "192.0.2.7", &["kids"])]));
    let key = key("ads.example");
    for (number, expected) in [(0, 1), (1, 7), (0, 1), (1, 7)] {
        assert_eq!(last(&resolver, number, &key).await, expected, "{number}");
    }
    assert_eq!(resolver.resolve_for(client(1), &key).await.groups, set(&[1]));
}

#[tokio::test]
async fn addresses_of_dns64_are_made_of_the_data_of_the_group() {
    let fake = playing(|seen| Some(seen.query.response(0, &[])));
    let resolver = resolver_for(&[upstream(fake.address(), LONG)], "[dns64]\nprefix = \"64:ff9b::/96\"\n");
    resolver.set_policy(named(&["kids"]));
    resolver.set_local_data(data(&[
        ("nas.example", 1, "192.0.2.7", &["kids"]),
        ("nas.example", 1, "192.0.2.8", &["default"]),
    ]));
    let key = key_of("nas.example", 28, false);
    for (number, expected) in [(0, 8), (1, 7), (0, 8)] {
        assert_eq!(last(&resolver, number, &key).await, expected, "{number}");
    }
}

#[tokio::test]
async fn new_numbers_of_groups_begin_a_generation() {
    let resolver = resolver(&[upstream("127.0.0.1:9".parse().unwrap(), LONG)]);
    resolver.set_policy(named(&["kids", "guests"]));
    resolver.set_local_data(data(&[
        ("nas.example", 1, "192.0.2.7", &["kids"]),
        ("nas.example", 1, "192.0.2.8", &["guests", "default"]),
    ]));
    let key = key("nas.example");
    let before = resolver.resolve_for(client(1), &key).await;
    let is_void = || resolver.host().generations().is_void(key.asked(), before.generation);
    resolver.set_policy(named(&["kids", "guests"]));
    assert!(!is_void(), "the same names");
    resolver.set_policy(named(&["guests", "kids"]));
    assert!(is_void());
    assert_eq!([last(&resolver, 1, &key).await, last(&resolver, 2, &key).await], [8, 7]);
    // A number that is gone keeps its group as long as there is the group.
    let names = ["default", "guests", "kids", "kids"].map(Into::into).to_vec();
    resolver.set_policy(named(&["guests", "kids"]).with_names(GroupNames::new(names)));
    assert_eq!([last(&resolver, 2, &key).await, last(&resolver, 3, &key).await], [7, 7]);
}

/// A client gets an answer of the time of its question, which its worker must not keep.
#[tokio::test]
async fn an_answer_that_is_no_longer_for_the_client_is_not_kept() {
    let (fake, gate) = gated();
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    resolver.set_policy(named(&["kids"]));
    let (link, mut record) = punted("nas.example", false);
    record.group = group(1);
    let key = key("nas.example");
    resolver.serve(&link, record, &mut Turn::default());
    resolver.set_local_data(data(&[("nas.example", 1, "192.0.2.7", &["kids"])]));
    gate.open();
    let record = returned(&link).await;
    assert!(resolver.host().generations().is_void(key.asked(), record.generation));
    assert_eq!(last(&resolver, 1, &key).await, 7);
}
