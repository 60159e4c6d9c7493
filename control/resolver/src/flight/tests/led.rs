//! Local data, and aliases of lists, on the way to clients.

use super::*;
use ringdns_policy::{
    data::{DataBuilder, LocalData, LocalRecord},
    list::ListBuilder,
    names::NameKey,
    policy::{BlockList, Policy},
    rule::{Effect, Rule, RuleAnswer, Subject},
};
use std::net::{IpAddr, Ipv4Addr};

const CLIENT: Option<Client> =
    Some(Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), group: Group::DEFAULT });
const CNAME: u16 = 5;
const TXT: u16 = 16;

fn data(records: &[(&str, u16, &str)]) -> LocalData {
    let mut builder = DataBuilder::default();
    for (owner, rtype, data) in records {
        builder.record(LocalRecord::parse(owner, *rtype, 77, data).unwrap()).unwrap();
    }
    builder.finish(None)
}

/// Returns lists, each about a name with all names below it.
fn lists(names_of: &[(&str, RuleAnswer)]) -> Policy {
    let key = NameKey::new(&[7; 16]);
    let list = |(name, answer): &(&str, RuleAnswer)| {
        let mut builder = ListBuilder::new(key);
        builder.push(1, Rule::new(Subject::Suffix(names::name(name).unwrap().into()), Effect::Block));
        let (name, list) = ((*name).into(), Arc::new(builder.finish().0));
        BlockList {
            name,
            list,
            answer: answer.clone(),
            ttl: 60,
            dry_run: false,
            client: None,
            action: None,
            ede: Some(15),
        }
    };
    Policy::new(key, Vec::new(), names_of.iter().map(list).collect())
}

fn alias(target: &str) -> RuleAnswer {
    RuleAnswer::Alias(names::name(target).unwrap().into())
}

/// Returns owners, types, TTLs and data of the records of an answer.
fn records(key: &Key, resolved: &Resolved) -> Vec<(String, u16, u32, Vec<u8>)> {
    let message = crate::message::Message::of(key, &resolved.answer, Age::Fresh(0)).unwrap();
    let told = |record: &crate::message::Record| {
        (names::display(record.owner.as_wire()), record.rtype, record.ttl, record.rdata.to_vec())
    };
    message.answers.iter().map(told).collect()
}

fn wire(name: &str) -> Vec<u8> {
    names::name(name).unwrap()
}

#[tokio::test]
async fn local_data_wins_over_lists_and_upstreams_for_clients_alone() {
    let fake = playing(|seen| Some(seen.query.answer(60)));
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    resolver.set_policy(lists(&[("corp.example", RuleAnswer::NxDomain)]).into());
    resolver.set_local_data(data(&[("nas.corp.example", 1, "192.0.2.7"), ("mine.test", 1, "192.0.2.8")]));
    let key = key("nas.corp.example");
    let ours = resolver.resolve_for(CLIENT, &key).await;
    assert_eq!(records(&key, &ours), [("nas.corp.example.".into(), 1, 77, vec![192, 0, 2, 7])]);
    assert_eq!((ours.answer.ttl, ours.answer.ede, ours.answer.status.flags()), (77, None, 0x0400));
    let special = resolver.resolve_for(CLIENT, &super::key("mine.test")).await;
    assert_eq!((rcode_of(&special), special.answer.counts[0]), (0, 1), "though it is special");
    let other = resolver.resolve_for(CLIENT, &key_of("nas.corp.example", TXT, false)).await;
    assert_eq!((rcode_of(&other), other.answer.counts, other.answer.ttl), (0, [0, 1, 0], 77));
    assert!(fake.seen().is_empty() && resolver.host().is_empty());
    assert_eq!(resolver.counters.local_data.get(), 3);
    // As validation asks.
    let own = resolver.resolve(&key).await;
    assert_eq!(records(&key, &own)[0].3, [192, 0, 2, 1]);
    assert_eq!(rcode_of(&resolver.resolve_for(CLIENT, &super::key("x.corp.example")).await), rcode::NXDOMAIN);
}

#[tokio::test]
async fn new_data_begins_a_generation() {
    let fake = playing(|seen| Some(seen.query.answer(60)));
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    let key = key("nas.example");
    let before = resolver.resolve_for(CLIENT, &key).await;
    let generations = resolver.host().generations();
    resolver.set_local_data(LocalData::default());
    assert!(!generations.is_void(key.asked(), before.generation), "nothing has changed");
    resolver.set_local_data(data(&[("nas.example", 1, "192.0.2.7")]));
    assert!(generations.is_void(key.asked(), before.generation), "for workers");
    assert!(!generations.is_source_void(key.asked(), before.generation), "for the host tier");
    let after = resolver.resolve_for(CLIENT, &key).await;
    assert!(!generations.is_void(key.asked(), after.generation));
    resolver.set_local_data(LocalData::default());
    assert!(generations.is_void(key.asked(), after.generation), "without data too");
    assert_eq!(records(&key, &resolver.resolve_for(CLIENT, &key).await)[0].3, [192, 0, 2, 1]);
    assert_eq!(fake.asked(), 1);
}

#[tokio::test]
async fn an_alias_is_followed_through_cache_and_upstreams() {
    let fake = playing(|seen| Some(seen.query.answer(60)));
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    // A list about the target is no obstacle: the operator wrote the alias.
    resolver.set_policy(lists(&[("elsewhere.example", RuleAnswer::NxDomain)]).into());
    resolver.set_local_data(data(&[
        ("a.corp.example", CNAME, "b.corp.example"),
        ("b.corp.example", CNAME, "www.elsewhere.example"),
        ("x.corp.example", CNAME, "y.corp.example"),
        ("y.corp.example", CNAME, "x.corp.example"),
    ]));
    let key = key("a.corp.example");
    for _ in 0..2 {
        let whole = resolver.resolve_for(CLIENT, &key).await;
        let expected = [
            ("a.corp.example.".into(), CNAME, 77, wire("b.corp.example")),
            ("b.corp.example.".into(), CNAME, 77, wire("www.elsewhere.example")),
            ("www.elsewhere.example.".into(), 1, 60, vec![192, 0, 2, 1]),
        ];
        assert_eq!(records(&key, &whole), expected);
        assert_eq!((whole.answer.ttl, whole.listed.is_empty()), (60, true));
    }
    assert_eq!((fake.asked(), resolver.host().len()), (1, 1), "the target alone is asked for, and kept");
    let of_alias = resolver.resolve_for(CLIENT, &key_of("b.corp.example", CNAME, false)).await;
    assert_eq!((of_alias.answer.counts[0], fake.asked()), (1, 1));
    let circle = resolver.resolve_for(CLIENT, &super::key("x.corp.example")).await;
    assert_eq!((rcode_of(&circle), circle.answer.ttl), (rcode::SERVFAIL, 0));
}

#[tokio::test]
async fn a_target_that_fails_is_a_failure_that_is_not_kept() {
    let fake = failing(rcode::SERVFAIL);
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    resolver.set_local_data(data(&[("a.example", CNAME, "www.elsewhere.example")]));
    let failed = resolver.resolve_for(CLIENT, &key("a.example")).await;
    assert_eq!((rcode_of(&failed), failed.answer.ttl), (rcode::SERVFAIL, 0));
    assert!(failed.answer.ede.is_some());
}

#[tokio::test]
async fn what_is_said_of_the_target_is_said_of_the_alias() {
    let fake = playing(|seen| {
        let mut message = seen.query.response(u16::from(rcode::NXDOMAIN), &[]);
        let soa = [&[0, 0][..], &[0, 0, 0, 1].repeat(4), &[0, 0, 0, 20]].concat();
        message[9] = 1;
        message.extend(record_of(&wire("elsewhere.example"), 6, 60, &soa));
        Some(message)
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    resolver.set_local_data(data(&[("a.example", CNAME, "www.elsewhere.example")]));
    let whole = resolver.resolve_for(CLIENT, &key("a.example")).await;
    assert_eq!((rcode_of(&whole), whole.answer.counts, whole.answer.ttl), (rcode::NXDOMAIN, [1, 1, 0], 20));
}

#[tokio::test]
async fn a_list_answers_with_an_alias() {
    let fake = playing(|seen| Some(seen.query.answer(30)));
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    // The target is in the list itself.
    resolver.set_policy(
        lists(&[("example.net", alias("safe.example.net")), ("ads.example", alias("own.example"))]).into(),
    );
    resolver.set_local_data(data(&[("own.example", 1, "192.0.2.9")]));
    let key = key("www.example.net");
    let listed = resolver.resolve_for(CLIENT, &key).await;
    let expected = [
        ("www.example.net.".into(), CNAME, 60, wire("safe.example.net")),
        ("safe.example.net.".into(), 1, 30, vec![192, 0, 2, 1]),
    ];
    assert_eq!(records(&key, &listed), expected);
    assert_eq!((listed.answer.ede, listed.answer.ttl), (Some(15), 30));
    let all = resolver.list_counts().all();
    let counted = |name: &str| all.iter().find(|(list, _)| **list == *name).unwrap().1.blocked[0].get();
    assert_eq!(counted("example.net"), 1);
    assert!(fake.seen()[0].query.is_for("safe.example.net"));
    // A target in local data.
    let key = super::key("ads.example");
    let listed = resolver.resolve_for(CLIENT, &key).await;
    assert_eq!(records(&key, &listed)[1], ("own.example.".into(), 1, 77, vec![192, 0, 2, 9]));
    assert_eq!((fake.asked(), counted("ads.example")), (1, 1));
}

/// An upstream's answer leads to a name that a list answers with an alias.
#[tokio::test]
async fn a_disguised_name_is_answered_with_the_alias_of_its_list() {
    let fake = playing(|seen| {
        let alias = record(CNAME, 60, &wire("ads.example"));
        let records = match seen.query.is_for("www.example.net") {
            true => vec![alias, record_of(&wire("ads.example"), 1, 60, &[192, 0, 2, 1])],
            false => vec![record(1, 60, &[192, 0, 2, 2])],
        };
        Some(seen.query.response(0, &records))
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    resolver.set_policy(lists(&[("ads.example", alias("sink.example"))]).into());
    let key = key("www.example.net");
    for _ in 0..2 {
        let listed = resolver.resolve_for(CLIENT, &key).await;
        let expected = [
            ("www.example.net.".into(), CNAME, 60, wire("sink.example")),
            ("sink.example.".into(), 1, 60, vec![192, 0, 2, 2]),
        ];
        assert_eq!(records(&key, &listed), expected);
    }
    assert_eq!(fake.asked(), 2);
}

#[tokio::test]
async fn search_engines_filter_their_results_unless_a_list_or_local_data_decides() {
    let fake = playing(|seen| Some(seen.query.answer(60)));
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    let engines = data(&[
        ("www.engine.example", CNAME, "safe.engine.example"),
        ("www.video.example", CNAME, "safe.video.example"),
    ]);
    resolver.set_safe_search(engines);
    resolver.set_policy(lists(&[("video.example", RuleAnswer::NxDomain)]).into());
    let key = key("www.engine.example");
    let safe = resolver.resolve_for(CLIENT, &key).await;
    let expected = [
        ("www.engine.example.".into(), CNAME, 77, wire("safe.engine.example")),
        ("safe.engine.example.".into(), 1, 60, vec![192, 0, 2, 1]),
    ];
    assert_eq!(records(&key, &safe), expected);
    let blocked = resolver.resolve_for(CLIENT, &super::key("www.video.example")).await;
    assert_eq!(rcode_of(&blocked), rcode::NXDOMAIN);
    resolver.set_local_data(data(&[("www.engine.example", 1, "192.0.2.7")]));
    assert_eq!(records(&key, &resolver.resolve_for(CLIENT, &key).await)[0].3, [192, 0, 2, 7]);
}

/// The target might wait for this very question, if it is validated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_of_this_process_do_not_wait_for_the_target_of_a_list() {
    let gate = Gate::default();
    let inner = gate.clone();
    let fake = Upstream::local(move |seen| {
        if seen.query.is_for("sink.example") {
            inner.pass();
        }
        vec![Say::Send(seen.query.response(0, &[record(CNAME, 60, &wire("ads.example"))]))]
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    resolver.set_policy(lists(&[("ads.example", alias("sink.example"))]).into());
    let key = key("www.example.net");
    let own = tokio::time::timeout(Duration::from_secs(1), resolver.resolve(&key)).await;
    assert_eq!(own.expect("it waits").answer.counts[0], 1);
    gate.open();
}
