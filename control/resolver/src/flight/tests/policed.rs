//! Lists on the way to clients.

use super::punts::{punted, returned};
use super::*;
use crate::policy::testing::{blocking, blocking_all, blocking_for};
use ringdns_dataplane::{purge::Purge, stats::Counter};
use ringdns_policy::{
    names::NameKey,
    policy::{BlockList, Policy},
    rule::RuleAnswer,
};
use std::net::{IpAddr, Ipv4Addr};

const CLIENT: Option<Client> =
    Some(Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), group: Group::DEFAULT });

fn group(number: usize) -> Group {
    Group::new(number).unwrap()
}

#[tokio::test]
async fn lists_are_for_clients_alone() {
    let fake = playing(|seen| Some(seen.query.answer(60)));
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    resolver.set_policy(blocking("ads.example"));
    let key = key("www.ads.example");
    let blocked = resolver.resolve_for(CLIENT, &key).await;
    assert_eq!((rcode_of(&blocked), blocked.answer.ede, blocked.answer.ttl), (rcode::NXDOMAIN, Some(15), 60));
    assert!(fake.seen().is_empty() && resolver.host().is_empty());
    // As validation asks, for a name above one that is allowed.
    let own = resolver.resolve(&key).await;
    assert_eq!((rcode_of(&own), own.answer.ede), (rcode::NOERROR, None));
    assert_eq!(resolver.host().peek(&key).unwrap().answer.status.rcode(), rcode::NOERROR);
    assert_eq!(rcode_of(&resolver.resolve_for(CLIENT, &key).await), rcode::NXDOMAIN, "though it is known");
    let [(_, counters)] = &resolver.list_counts().all()[..] else { panic!() };
    assert_eq!(counters.blocked[0].get(), 2);
}

#[tokio::test]
async fn a_list_says_which_error_goes_with_its_answers() {
    let resolver = resolver(&[upstream("127.0.0.1:9".parse().unwrap(), LONG)]);
    let answers = [
        RuleAnswer::NxDomain,
        RuleAnswer::NoData,
        RuleAnswer::Refused,
        RuleAnswer::Null,
        RuleAnswer::Address([192, 0, 2, 9].into()),
    ];
    for ede in [None, Some(16), Some(17)] {
        for answer in &answers {
            let mut policies = blocking_for(group(0), "ads.example", answer.clone());
            let lists: Vec<_> = policies.all().block_lists().to_vec();
            let lists = lists.into_iter().map(|list| BlockList { ede, answer: answer.clone(), ..list });
            policies = Policy::new(NameKey::new(&[7; 16]), Vec::new(), lists.collect()).into();
            resolver.set_policy(policies);
            let blocked = resolver.resolve_for(CLIENT, &key("www.ads.example")).await;
            assert_eq!(blocked.answer.ede, ede, "{answer:?}");
            assert_eq!(blocked.source.list, Some(0), "the name is found by it");
        }
    }
}

#[tokio::test]
async fn new_lists_begin_a_generation_and_keep_the_host_tier() {
    let fake = playing(|seen| Some(seen.query.answer(60)));
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    let key = key("ads.example");
    let before = resolver.resolve_for(CLIENT, &key).await;
    resolver.set_policy(blocking("ads.example"));
    let generations = resolver.host().generations();
    assert!(generations.is_void(key.asked(), before.generation), "for workers");
    assert!(!generations.is_source_void(key.asked(), before.generation), "for the host tier");
    let after = resolver.resolve_for(CLIENT, &key).await;
    assert!(rcode_of(&after) == rcode::NXDOMAIN && !generations.is_void(key.asked(), after.generation));
    assert_eq!((resolver.host().len(), fake.seen().len()), (1, 1));
}

/// Workers keep what they cached about other names, unless it cannot be told which those are.
#[tokio::test]
async fn new_lists_make_void_what_they_are_about() {
    let fake = playing(|seen| Some(seen.query.answer(60)));
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    let generations = resolver.host().generations();
    let begun = |policies| {
        let before = generations.current();
        resolver.set_policy(policies);
        generations.purges(before, generations.current()).unwrap()
    };
    let counts = || {
        let counters = &resolver.counters;
        (counters.list_purges_of_names.get(), counters.list_purges_of_all.get())
    };
    assert_eq!(begun(blocking_all(&["ads.example", "both.example"])), [Arc::new(Purge::Verdicts)]);
    assert_eq!(begun(blocking_all(&["both.example", "ads.example"])), [], "nothing has changed");
    assert_eq!(counts(), (0, 1));
    let purges = begun(blocking_all(&["both.example", "new.example"]));
    let [purge] = &purges[..] else { panic!("{purges:?}") };
    assert!(matches!(**purge, Purge::VerdictsOn(_)), "{purge:?}");
    for (name, changed) in
        [("ads.example", true), ("www.new.example", true), ("both.example", false), ("www.example", false)]
    {
        let key = key(name);
        assert_eq!(purge.covers_plain(key.asked()), changed, "{name}");
        // Of an answer on its way, nothing is known.
        assert!(purge.covers(key.asked()) && !purge.covers_source(key.asked()), "{name}");
    }
    assert_eq!(
        begun(blocking_for(group(3), "new.example", RuleAnswer::NxDomain)),
        [Arc::new(Purge::Verdicts)]
    );
    assert_eq!(
        begun(Policy::new(NameKey::new(&[7; 16]), Vec::new(), Vec::new()).into()),
        [Arc::new(Purge::Verdicts)]
    );
    assert_eq!(counts(), (1, 3));
}

/// A target that does not exist is judged too: NXDOMAIN is no answer of a list.
#[tokio::test]
async fn aliases_are_judged_for_clients_alone() {
    for code in [rcode::NOERROR, rcode::NXDOMAIN] {
        let fake = playing(move |seen| {
            let alias = [&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 13][..], b"\x03AdS\x07example\0"].concat();
            let owner = b"\x03ads\x07example\0";
            let address = record_of(owner, 1, 60, &[192, 0, 2, 1]);
            let records = if code == rcode::NOERROR { vec![alias, address] } else { vec![alias] };
            Some(seen.query.response(code.into(), &records))
        });
        let resolver = resolver(&[upstream(fake.address(), LONG)]);
        resolver.set_policy(blocking("ads.example"));
        let key = key("www.example.net");
        let blocked = resolver.resolve_for(CLIENT, &key).await;
        assert_eq!((rcode_of(&blocked), blocked.answer.ede), (rcode::NXDOMAIN, Some(15)), "{code}");
        let own = resolver.resolve(&key).await;
        assert_eq!((rcode_of(&own), own.answer.ede, own.answer.counts[0] > 0), (code, None, true), "{code}");
    }
}

/// Workers are told which groups get an answer, and each waiter gets that of its group.
#[tokio::test]
async fn clients_of_two_groups_wait_for_one_question() {
    let (fake, gate) = gated();
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    resolver.set_policy(blocking_for(group(3), "games.example", RuleAnswer::NxDomain));
    let (link, record) = punted("www.games.example", false);
    resolver.serve(&link, record, &mut Turn::default());
    let (kids, mut record) = punted("www.games.example", false);
    record.group = group(3);
    resolver.serve(&kids, record, &mut Turn::default());
    let record = returned(&kids).await;
    let own = GroupSet::NONE.with(group(3));
    let rcode = |record: &Punt| record.answer.as_ref().unwrap().status.rcode();
    assert_eq!((rcode(&record), record.groups, record.source.list), (rcode::NXDOMAIN, own, Some(0)));
    gate.open();
    let record = returned(&link).await;
    assert_eq!((rcode(&record), record.groups, record.source.list), (rcode::NOERROR, own.others(), None));
    // A name that no list knows is for all.
    let (kids, mut record) = punted("www.example", false);
    record.group = group(3);
    resolver.serve(&kids, record, &mut Turn::default());
    assert_eq!(returned(&kids).await.groups, GroupSet::ALL);
    let [(_, counters)] = &resolver.list_counts().all()[..] else { panic!() };
    assert_eq!([0, 3].map(|number| counters.blocked[number].get()), [0, 1]);
}

#[tokio::test]
async fn an_alias_concerns_only_the_groups_of_its_list() {
    let fake = playing(move |seen| {
        let alias = [&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 15][..], b"\x05games\x07example\0"].concat();
        let address = record_of(b"\x05games\x07example\0", 1, 60, &[192, 0, 2, 1]);
        Some(seen.query.response(0, &[alias, address]))
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    resolver.set_policy(blocking_for(group(3), "games.example", RuleAnswer::NxDomain));
    let key = key("www.example.net");
    for (number, expected) in [(3, rcode::NXDOMAIN), (0, rcode::NOERROR), (3, rcode::NXDOMAIN)] {
        let client = Client { group: group(number), ..client("192.0.2.1") };
        let resolved = resolver.resolve_for(Some(client), &key).await;
        assert_eq!((rcode_of(&resolved), resolved.groups.has(group(number))), (expected, true), "{number}");
        assert!(!resolved.groups.has(group(3 - number)));
    }
    assert_eq!(fake.asked(), 1);
}

#[tokio::test]
async fn a_list_may_withhold_answers() {
    let resolver = resolver(&[]);
    resolver.set_policy(blocking_for(group(0), "ads.example", RuleAnswer::Drop));
    let (link, record) = punted("ads.example", false);
    resolver.serve(&link, record, &mut Turn::default());
    let record = returned(&link).await;
    assert!(record.answer.is_none() && record.purpose == Purpose::Withheld(Counter::PuntBlocked));
    assert!(resolver.resolve_for(CLIENT, &key("ads.example")).await.is_withheld, "over TCP too");
}

#[tokio::test]
async fn the_target_of_a_service_binding_is_judged() {
    let fake = playing(move |seen| {
        let target: &[u8] = match seen.query.is_for("own.example.net") {
            true => b"\0",
            false => b"\x03AdS\x07example\0",
        };
        Some(seen.query.response(0, &[record(65, 60, &[&[0, 1], target].concat())]))
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    resolver.set_policy(blocking("ads.example"));
    let key = |name: &str| names::key(&names::name(name).unwrap(), 65, false, false).unwrap();
    let blocked = resolver.resolve_for(CLIENT, &key("www.example.net")).await;
    assert_eq!((rcode_of(&blocked), blocked.answer.ede), (rcode::NXDOMAIN, Some(15)));
    let own = resolver.resolve_for(CLIENT, &key("own.example.net")).await;
    assert_eq!((rcode_of(&own), own.answer.counts[0]), (rcode::NOERROR, 1));
}

/// Over TCP, the same question is resolved, also while a client over UDP has the empty answer.
#[tokio::test]
async fn a_list_may_send_clients_to_tcp() {
    let fake = playing(|seen| Some(seen.query.answer(60)));
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    resolver.set_policy(blocking_for(group(3), "ads.example", RuleAnswer::TcpOnly));
    let (link, mut record) = punted("ads.example", false);
    record.group = group(3);
    resolver.serve(&link, record, &mut Turn::default());
    let record = returned(&link).await;
    let answer = record.answer.as_ref().unwrap();
    assert!(answer.status.is_truncated() && answer.counts == [0; 3] && answer.ttl == 60);
    assert_eq!((record.groups, fake.asked()), (GroupSet::NONE.with(group(3)), 0));
    for number in [3, 0] {
        let client = Client { group: group(number), ..client("192.0.2.1") };
        let resolved = resolver.resolve_for(Some(client), &key("ads.example")).await;
        assert!(rcode_of(&resolved) == rcode::NOERROR && resolved.answer.counts[0] == 1, "{number}");
        assert!(!resolved.answer.status.is_truncated(), "{number}");
    }
    // Now the host tier has it.
    let (link, mut record) = punted("ads.example", false);
    record.group = group(3);
    resolver.serve(&link, record, &mut Turn::default());
    assert!(returned(&link).await.answer.as_ref().unwrap().status.is_truncated());
    let [(_, counters)] = &resolver.list_counts().all()[..] else { panic!() };
    assert_eq!(counters.blocked[3].get(), 2);
}

#[tokio::test]
async fn private_addresses_are_removed_over_tcp_too_where_a_list_sends_clients_there() {
    let fake = playing(|seen| {
        let address = [&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4][..], &[192, 168, 1, 1]].concat();
        Some(seen.query.response(0, &[address]))
    });
    let resolver = resolver_for(&[upstream(fake.address(), LONG)], "[rebinding]\nenabled = true\n");
    resolver.set_policy(blocking_for(group(3), "evil.example", RuleAnswer::TcpOnly));
    for number in [3, 0] {
        let client = Client { group: group(number), ..client("192.0.2.1") };
        let resolved = resolver.resolve_for(Some(client), &key("evil.example")).await;
        assert_eq!((rcode_of(&resolved), resolved.answer.counts[0]), (rcode::NOERROR, 0), "{number}");
        assert!(!resolved.answer.status.is_truncated(), "{number}");
    }
    let (link, record) = punted("evil.example", false);
    resolver.serve(&link, record, &mut Turn::default());
    let record = returned(&link).await;
    assert_eq!(record.answer.as_ref().unwrap().counts[0], 0);
    assert_eq!(record.groups, GroupSet::NONE.with(group(3)).others(), "workers keep it for the others");
}
