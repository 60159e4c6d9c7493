//! Groups of clients with upstreams of their own: no answer of other upstreams reaches them.

use super::{
    grouped::{client, group, last, named, set},
    punts::{punted, returned},
    *,
};
use crate::host::Purge;
use proptest::{collection::vec, prelude::*, sample::select, test_runner::TestRunner};

/// Names of the groups with the numbers 1, 2 and 3.
const NAMES: [&str; 3] = ["kids", "guests", "staff"];
const GROUPS: &str = "[[client_group]]\nname = \"kids\"\nclients = [\"10.0.1.0/24\"]\n\
                      [[client_group]]\nname = \"guests\"\nclients = [\"10.0.2.0/24\"]\n\
                      [[client_group]]\nname = \"staff\"\nclients = [\"10.0.3.0/24\"]\n";

/// Returns an upstream that has this address for every name.
fn with(last: u8) -> Upstream {
    playing(move |seen| Some(seen.query.address([192, 0, 2, last])))
}

/// Returns the configuration of an upstream for some groups; none: for all.
fn of(fake: &Upstream, groups: &[&str]) -> UpstreamConfig {
    let names: Vec<String> = groups.iter().map(|name| (*name).to_owned()).collect();
    UpstreamConfig { groups: (!names.is_empty()).then_some(names), ..upstream(fake.address(), LONG) }
}

fn resolver_with_groups(upstreams: &[UpstreamConfig], more: &str) -> Arc<Resolver> {
    let resolver = resolver_for(upstreams, &format!("{GROUPS}{more}"));
    resolver.set_policy(named(&NAMES));
    resolver
}

#[tokio::test]
async fn each_group_is_answered_by_its_upstreams_alone() {
    let (common, own) = (with(1), with(2));
    let resolver = resolver_with_groups(&[of(&common, &[]), of(&own, &["kids", "guests"])], "");
    let key = key("www.example");
    for number in [0, 1, 2, 3, 9, 0, 1, 2, 3] {
        let resolved = resolver.resolve_for(client(number), &key).await;
        let is_own = [1, 2].contains(&number);
        assert_eq!(last(&resolver, number, &key).await, if is_own { 2 } else { 1 }, "{number}");
        let groups = set(&[1, 2]);
        assert_eq!(resolved.groups, if is_own { groups } else { groups.others() }, "{number}");
    }
    assert_eq!((common.asked(), own.asked()), (1, 1), "groups with the same upstreams share what is cached");
    assert_eq!((resolver.host().len(), resolver.counters.resolved.get()), (2, 2), "sums have both");
    let own = resolver.resolve(&key).await;
    assert_eq!(own.answer.wire.last(), Some(&1), "this process asks the common ones");
    let addresses: Vec<_> = resolver.upstreams().iter().map(|upstream| upstream.groups.clone()).collect();
    assert_eq!(addresses, [vec![], vec!["kids".to_owned(), "guests".to_owned()]]);
}

#[tokio::test]
async fn a_worker_is_told_the_groups_of_the_upstreams() {
    let (common, own) = (with(1), with(2));
    let resolver = resolver_with_groups(&[of(&common, &[]), of(&own, &["kids"])], "");
    for (number, expected, groups) in [(1, 2, set(&[1])), (0, 1, set(&[1]).others()), (1, 2, set(&[1]))] {
        for refresh in [false, true] {
            let (link, mut record) = punted("www.example", refresh);
            record.group = group(number);
            resolver.serve(&link, record, &mut Turn::default());
            let record = returned(&link).await;
            assert_eq!(record.groups, groups);
            assert_eq!(record.answer.as_ref().map(|answer| answer.wire.last()), Some(Some(&expected)));
        }
    }
}

#[tokio::test]
async fn a_question_in_flight_answers_its_own_groups_alone() {
    let (common, gate) = gated();
    let own = with(2);
    let resolver = resolver_with_groups(&[of(&common, &[]), of(&own, &["kids"])], "");
    let key = key("www.example");
    let waiting = tokio::spawn({
        let (resolver, key) = (resolver.clone(), key.clone());
        async move { resolver.resolve_for(client(0), &key).await }
    });
    while common.asked() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(last(&resolver, 1, &key).await, 2);
    assert_eq!(resolver.under_way(), 1);
    gate.open();
    assert_eq!(waiting.await.unwrap().groups, set(&[1]).others());
}

#[tokio::test]
async fn a_denial_of_other_upstreams_denies_nothing() {
    let common = playing(|seen| Some(seen.query.response(3, &[])));
    let own = with(2);
    let more = "[cache]\nnxdomain_cut = \"all\"\n";
    let upstreams = [of(&common, &[]), of(&own, &["kids"])];
    let config = Config { upstreams: upstreams.to_vec(), ..config(&[], &format!("{GROUPS}{more}")) };
    let resolver = resolver_of(&config, FlightLimits::default());
    resolver.set_policy(named(&NAMES));
    let [name, below] = ["name.example", "below.name.example"].map(key);
    for key in [&name, &below] {
        assert_eq!(rcode_of(&resolver.resolve_for(client(0), key).await), rcode::NXDOMAIN);
        assert_eq!(last(&resolver, 1, key).await, 2);
    }
}

#[tokio::test]
async fn common_upstreams_do_not_step_in_for_those_of_a_group() {
    let (common, own) = (with(1), failing(rcode::SERVFAIL));
    let resolver = resolver_with_groups(&[of(&common, &[]), of(&own, &["kids"])], "");
    let key = key("www.example");
    assert_eq!(rcode_of(&resolver.resolve_for(client(1), &key).await), rcode::SERVFAIL);
    assert_eq!(last(&resolver, 0, &key).await, 1, "nor is the failure for the others");
    assert_eq!(rcode_of(&resolver.resolve_for(client(1), &key).await), rcode::SERVFAIL);
    assert_eq!(common.asked(), 1);
}

/// A validator's proofs and denials come from its upstreams.
#[tokio::test]
async fn each_view_has_a_validator_of_its_own() {
    let (common, own) = (with(1), with(2));
    let upstreams = [of(&common, &[]), of(&own, &["kids"])];
    let resolver = resolver_with_groups(&upstreams, "[dnssec]\nvalidate = true\n");
    let validators = || {
        let view = resolver.view_of(group(1)).unwrap();
        [resolver.setup().validator.clone().unwrap(), view.setup().validator.clone().unwrap()]
    };
    let [first, of_view] = validators();
    assert!(!Arc::ptr_eq(&first, &of_view));
    let again = config(&upstreams, &format!("{GROUPS}[dnssec]\nvalidate = true\n"));
    resolver.set_up(&again);
    let kept = validators();
    assert!(Arc::ptr_eq(&kept[0], &first) && Arc::ptr_eq(&kept[1], &of_view), "a reload keeps both");
    resolver.set_up(&config(&upstreams, &format!("{GROUPS}[dnssec]\nvalidate = true\naggressive = false\n")));
    let other = validators();
    assert!(!Arc::ptr_eq(&other[0], &first) && !Arc::ptr_eq(&other[1], &of_view), "and changes both");
}

#[tokio::test]
async fn a_purge_reaches_all_tiers() {
    let (common, own) = (with(1), with(2));
    let resolver = resolver_with_groups(&[of(&common, &[]), of(&own, &["kids"])], "");
    let [one, other] = ["one.example", "other.example"].map(key);
    for (number, expected) in [(0, 1), (1, 2)] {
        assert_eq!(last(&resolver, number, &one).await, expected);
        assert_eq!(last(&resolver, number, &other).await, expected);
    }
    assert_eq!(resolver.host().purge(&Purge::Name(one.asked().name().to_vec())), 2);
    assert_eq!(resolver.host().len(), 2);
    assert_eq!(last(&resolver, 1, &one).await, 2);
    assert_eq!((common.asked(), own.asked()), (2, 3));
    assert_eq!(resolver.host().purge(&Purge::All), 3);
}

#[tokio::test]
async fn a_reload_gives_other_upstreams_and_keeps_what_stays() {
    let fakes = [with(1), with(2), with(3)];
    let resolver = resolver_with_groups(&[of(&fakes[0], &[]), of(&fakes[1], &["kids"])], "");
    let key = key("www.example");
    let generations = resolver.host().generations();
    let (_, capacity) = resolver.host().bytes();
    let mut before = resolver.resolve_for(client(1), &key).await.generation;
    for (upstreams, expected, is_other) in [
        (vec![of(&fakes[0], &[]), of(&fakes[1], &["kids"])], [1, 2, 1], false),
        (vec![of(&fakes[0], &[]), of(&fakes[1], &["kids", "guests"])], [1, 2, 2], true),
        (vec![of(&fakes[0], &[]), of(&fakes[1], &["guests"]), of(&fakes[2], &["kids"])], [1, 3, 2], true),
        (vec![of(&fakes[0], &[])], [1, 1, 1], true),
    ] {
        resolver.set_up(&config(&upstreams, GROUPS));
        assert_eq!(generations.is_void(key.asked(), before), is_other, "{expected:?}");
        for (number, expected) in expected.into_iter().enumerate() {
            assert_eq!(last(&resolver, number, &key).await, expected, "{number}");
        }
        before = resolver.resolve_for(client(0), &key).await.generation;
        let all = resolver.host().bytes().1;
        assert!((capacity - 8..=capacity).contains(&all), "the tiers share the bytes: {all} of {capacity}");
    }
    assert_eq!(fakes.map(|fake| fake.asked()), [1, 1, 1], "each tier was kept as long as its upstreams");
}

/// A target of an alias is resolved by the upstreams of the client, whoever wrote the alias.
#[tokio::test]
async fn aliases_of_local_data_lead_to_the_upstreams_of_the_group() {
    let (common, own) = (with(1), with(2));
    let resolver = resolver_with_groups(&[of(&common, &[]), of(&own, &["kids"])], "");
    resolver.set_local_data(super::grouped::data(&[
        ("a.example", 5, "www.elsewhere.example", &[]),
        ("b.example", 1, "192.0.2.9", &[]),
    ]));
    let [a, b] = ["a.example", "b.example"].map(key);
    for (number, expected) in [(0, 1), (1, 2), (0, 1)] {
        assert_eq!(last(&resolver, number, &a).await, expected, "{number}");
        assert_eq!(
            resolver.resolve_for(client(number), &b).await.groups,
            GroupSet::ALL,
            "no upstream has part"
        );
    }
    assert_eq!(resolver.resolve_for(client(1), &a).await.groups, set(&[1]));
}

/// Groups by number.
const ALL: [&str; 4] = ["default", "kids", "guests", "staff"];

/// Configuration of a time, and the questions that are asked then.
#[derive(Clone, Debug)]
struct Phase {
    /// For each of the upstreams but the first, the groups that it is for; none: it is not there.
    owners: Vec<Vec<&'static str>>,
    /// Number of the group, name, and whether it is asked over UDP.
    questions: Vec<(usize, &'static str, bool)>,
}

impl Phase {
    fn any() -> impl Strategy<Value = Phase> {
        let owners = vec(proptest::sample::subsequence(&ALL[..], 0..3), 3);
        let names = vec!["a.example", "b.example", "c.b.example", "x.test.example"];
        let questions = vec((0_usize..4, select(names), any::<bool>()), 1..24);
        (owners, questions).prop_map(|(owners, questions)| Phase { owners, questions })
    }

    fn upstreams(&self, fakes: &[Upstream]) -> Vec<UpstreamConfig> {
        let used = self.owners.iter().zip(&fakes[1..]).filter(|(groups, _)| !groups.is_empty());
        std::iter::once(of(&fakes[0], &[])).chain(used.map(|(groups, fake)| of(fake, groups))).collect()
    }

    /// Returns the last bytes of the addresses that the upstreams of a group have.
    fn allowed(&self, number: usize) -> Vec<u8> {
        let own = (101..).zip(&self.owners).filter(|(_, groups)| groups.contains(&ALL[number]));
        let own: Vec<u8> = own.map(|(last, _)| last).collect();
        if own.is_empty() { vec![100] } else { own }
    }
}

/// Returns the last byte of the answer, and the groups that it is for.
async fn asked(resolver: &Arc<Resolver>, number: usize, name: &str, over_udp: bool) -> (u8, GroupSet) {
    let (answer, groups) = if over_udp {
        let (link, mut record) = punted(name, false);
        record.group = group(number);
        resolver.serve(&link, record, &mut Turn::default());
        let record = returned(&link).await;
        (record.answer.clone().unwrap(), record.groups)
    } else {
        let resolved = resolver.resolve_for(client(number), &key(name)).await;
        (resolved.answer, resolved.groups)
    };
    (*answer.wire.last().unwrap(), groups)
}

/// Random groups with random upstreams ask random questions, also across reloads.
#[test]
fn no_group_ever_gets_an_answer_of_other_upstreams() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fakes: Vec<Upstream> = (100..104).map(with).collect();
    let mut runner = TestRunner::new(ProptestConfig { cases: 64, ..ProptestConfig::default() });
    let check = |phases: Vec<Phase>| {
        runtime.block_on(async {
            let resolver = resolver_with_groups(&[of(&fakes[0], &[])], "");
            for phase in phases {
                resolver.set_up(&config(&phase.upstreams(&fakes), GROUPS));
                for (number, name, over_udp) in &phase.questions {
                    let (got, groups) = asked(&resolver, *number, name, *over_udp).await;
                    let allowed = phase.allowed(*number);
                    prop_assert!(allowed.contains(&got), "{name} for {number}: {got}, not of {allowed:?}");
                    prop_assert!(groups.has(group(*number)));
                    // The worker gives it to these groups: they must have the same upstreams.
                    for other in (0..4).filter(|other| groups.has(group(*other))) {
                        prop_assert_eq!(phase.allowed(other), allowed.clone());
                    }
                }
            }
            Ok(())
        })
    };
    runner.run(&vec(Phase::any(), 1..4), check).unwrap();
}
