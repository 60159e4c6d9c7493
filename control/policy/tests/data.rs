//! Local data against a slow model of RFC 1034 section 4.3.2 and RFC 4592.

use proptest::{collection::vec, prelude::*, sample::select};
use ringdns_common::names;
use ringdns_policy::data::{Audience, DataAnswer, DataBuilder, End, LocalData, LocalRecord};
use std::collections::BTreeSet;

const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const TXT: u16 = 16;
const DS: u16 = 43;

/// Labels of a name, the first one in front.
type Labels = Vec<String>;

fn text(name: &[String]) -> String {
    if name.is_empty() { ".".into() } else { name.join(".") }
}

/// Names from a few labels, so that records and questions meet.
fn names() -> impl Strategy<Value = Labels> {
    vec(select(vec!["a", "b", "*", "x"]).prop_map(str::to_owned), 0..5)
}

/// Record of the model.
#[derive(Clone, Debug)]
struct Written {
    owner: Labels,
    rtype: u16,
    data: String,
}

fn records() -> impl Strategy<Value = Vec<Written>> {
    let kind = prop_oneof![
        5 => (1u8..4).prop_map(|last| (A, format!("192.0.2.{last}"))),
        2 => Just((TXT, "text".to_owned())),
        2 => names().prop_map(|name| (CNAME, text(&name))),
        1 => Just((NS, "ns.elsewhere".to_owned())),
    ];
    let record = (names(), kind).prop_map(|(owner, (rtype, data))| Written { owner, rtype, data });
    vec(record, 0..12)
}

struct Model {
    records: Vec<Written>,
    zones: BTreeSet<Labels>,
}

fn is_at_or_below(name: &[String], other: &[String]) -> bool {
    name.ends_with(other)
}

/// Records as the model tells them: owner, type and data, sorted.
type Told = Vec<(String, u16, Vec<u8>)>;

impl Model {
    fn exists(&self, name: &[String]) -> bool {
        let owners = self.records.iter().map(|record| &record.owner).chain(&self.zones);
        owners.into_iter().any(|owner| is_at_or_below(owner, name))
    }

    fn of(&self, name: &[String]) -> Vec<&Written> {
        self.records.iter().filter(|record| record.owner == name).collect()
    }

    /// Returns the records for a name, whether it exists, and whether it is in a zone; `None`: it is
    /// resolved.
    fn look(&self, name: &[String], qtype: u16) -> Option<(Vec<&Written>, bool, bool)> {
        // The zone with the longest name.
        let zone = (0..=name.len()).map(|skip| &name[skip..]).find(|zone| self.zones.contains(*zone));
        if let Some(zone) = zone {
            for skip in 0..name.len() - zone.len() {
                let at = &name[skip..];
                let delegates = self.of(at).iter().any(|record| record.rtype == NS);
                if delegates && !(qtype == DS && at == name) {
                    return None;
                }
            }
            if qtype == DS && zone == name {
                return None;
            }
        }
        let encloser = (0..=name.len()).map(|skip| &name[skip..]).find(|above| self.exists(above))?;
        let wildcard: Labels = [&["*".to_owned()], encloser].concat();
        let (records, exists) = match encloser == name {
            true => (self.of(name), true),
            false => (self.of(&wildcard), self.exists(&wildcard)),
        };
        (zone.is_some() || !records.is_empty()).then_some((records, exists, zone.is_some()))
    }

    /// Returns the records of the answer, and its end in a word.
    fn answer(&self, name: &[String], qtype: u16) -> Option<(Told, &'static str)> {
        let (mut name, mut told) = (name.to_vec(), Vec::new());
        for _ in 0..=16 {
            let Some((records, exists, _)) = self.look(&name, qtype) else {
                return (!told.is_empty()).then_some((told, "leads out"));
            };
            let tell = |record: &&Written| {
                let parsed = LocalRecord::parse("x", record.rtype, 1, &record.data).unwrap();
                (text(&name), record.rtype, parsed.data.to_vec())
            };
            let found: BTreeSet<_> =
                records.iter().filter(|record| record.rtype == qtype).map(tell).collect();
            if !found.is_empty() {
                told.extend(found);
                return Some((told, "complete"));
            }
            match records.iter().find(|record| record.rtype == CNAME) {
                Some(alias) => {
                    told.push(tell(alias));
                    name = alias.data.split('.').filter(|label| !label.is_empty()).map(Into::into).collect();
                }
                None => return Some((told, if exists { "no data" } else { "no name" })),
            }
        }
        Some((told, "endless"))
    }
}

/// Returns the data and the model of what the builder accepted.
fn build(records: Vec<Written>, zones: BTreeSet<Labels>) -> (LocalData, Model) {
    let mut builder = DataBuilder::default();
    zones.iter().for_each(|zone| builder.zone(names::name(&text(zone)).unwrap().into()));
    let mut kept: Vec<Written> = Vec::new();
    for record in records {
        let parsed = LocalRecord::parse(&text(&record.owner), record.rtype, 60, &record.data).unwrap();
        let others = kept.iter().filter(|other| other.owner == record.owner);
        let conflicts = others.clone().any(|other| (other.rtype == CNAME) != (record.rtype == CNAME))
            || others.clone().any(|other| other.rtype == CNAME && other.data != record.data)
            || record.rtype == CNAME && zones.contains(&record.owner);
        assert_eq!(builder.record(parsed).is_err(), conflicts, "{record:?}");
        if !conflicts {
            kept.push(record);
        }
    }
    let soa = zones.iter().map(|zone| Written { owner: zone.clone(), rtype: SOA, data: String::new() });
    kept.extend(soa);
    (builder.finish(None), Model { records: kept, zones })
}

fn told(data: &LocalData, name: &str, qtype: u16) -> Option<(Told, &'static str)> {
    Some(told_of(data.answer(&names::name(name).unwrap(), qtype)?))
}

fn told_of(answer: DataAnswer<'_>) -> (Told, &'static str) {
    let mut told = Vec::new();
    for (owner, set) in &answer.sets {
        let owner = names::display(owner);
        let owner = if owner == "." { owner } else { owner.trim_end_matches('.').to_owned() };
        let records: BTreeSet<_> =
            set.data.iter().map(|data| (owner.clone(), set.rtype, data.to_vec())).collect();
        told.extend(records);
    }
    let end = match answer.end {
        End::Complete => "complete",
        End::NoData(_) => "no data",
        End::NxDomain(_) => "no name",
        End::LeadsTo(_) => "leads out",
        End::Endless => "endless",
    };
    (told, end)
}

/// Names of groups that data names, and one that it does not.
const GROUPS: [&str; 4] = ["kids", "guests", "default", "others"];

/// Some of the groups that data names; `None`: all groups.
fn groups() -> impl Strategy<Value = Option<Vec<&'static str>>> {
    prop_oneof![
        2 => Just(None),
        3 => proptest::sample::subsequence(&GROUPS[..3], 1..3).prop_map(Some),
    ]
}

/// Record that the builder accepted, and the groups that it is for.
type KeptFor = (Written, Option<Vec<String>>);

/// Returns data of which each part is for some groups only. Records that conflict with an earlier one in
/// any group are left out.
fn build_for_groups(
    records: &[(Written, Option<Vec<&str>>)],
    zones: &[(Labels, Option<Vec<&str>>)],
) -> (LocalData, Vec<KeptFor>) {
    let mut builder = DataBuilder::default();
    let owned = |groups: &Option<Vec<&str>>| {
        groups.as_ref().map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    };
    let audience = |builder: &mut DataBuilder, groups: &Option<Vec<&str>>| {
        owned(groups).map_or(Audience::ALL, |names| builder.groups(&names).unwrap())
    };
    for (zone, groups) in zones {
        let audience = audience(&mut builder, groups);
        builder.zone_for(audience, names::name(&text(zone)).unwrap().into());
    }
    let mut kept = Vec::new();
    for (record, groups) in records {
        let audience = audience(&mut builder, groups);
        let parsed = LocalRecord::parse(&text(&record.owner), record.rtype, 60, &record.data).unwrap();
        if builder.record_for(audience, parsed).is_ok() {
            kept.push((record.clone(), owned(groups)));
        }
    }
    (builder.finish(None), kept)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn answers_are_those_of_the_model(
        records in records(),
        zones in vec(names(), 0..3),
        questions in vec((names(), select(vec![A, CNAME, TXT, NS, DS])), 1..20),
    ) {
        let (data, model) = build(records, zones.into_iter().collect());
        for (name, qtype) in questions {
            let expected = model.answer(&name, qtype);
            prop_assert_eq!(told(&data, &text(&name), qtype), expected, "{} {}", text(&name), qtype);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// A group sees what data of its own would be, and groups that are told together see the same.
    #[test]
    fn each_group_has_the_data_that_is_for_it(
        records in vec((records(), groups()), 0..4),
        zones in vec((names(), groups()), 0..3),
        questions in vec((names(), select(vec![A, CNAME, TXT, NS, DS])), 1..20),
    ) {
        let records: Vec<_> = records
            .into_iter()
            .flat_map(|(records, groups)| records.into_iter().map(move |record| (record, groups.clone())))
            .collect();
        let (data, kept) = build_for_groups(&records, &zones);
        for group in GROUPS {
            let own_zones: BTreeSet<Labels> = zones
                .iter()
                .filter(|(_, groups)| groups.as_ref().is_none_or(|groups| groups.contains(&group)))
                .map(|(zone, _)| zone.clone())
                .collect();
            let own = kept
                .iter()
                .filter(|(_, groups)| groups.as_ref().is_none_or(|groups| groups.iter().any(|name| name == group)))
                .map(|(record, _)| record.clone());
            let count = own.clone().count();
            let (_, model) = build(own.collect(), own_zones.clone());
            prop_assert_eq!(model.records.len(), count + own_zones.len());
            let member = data.groups().member(group);
            for (name, qtype) in &questions {
                let wire = names::name(&text(name)).unwrap();
                let expected = model.answer(name, *qtype);
                let single = data.answer_for(member, &wire, *qtype).map(told_of);
                prop_assert_eq!(single, expected.clone(), "{} {} for {}", text(name), qtype, group);
                let mut of_all = data.answers(&wire, *qtype);
                of_all.retain(|(audience, _)| audience.meets(member));
                prop_assert_eq!(of_all.len(), 1);
                let answer = of_all.pop().and_then(|(_, answer)| answer).map(told_of);
                prop_assert_eq!(answer, expected, "{} {} for {} with others", text(name), qtype, group);
            }
        }
    }
}

#[test]
fn groups_are_together_where_they_see_the_same() {
    let mut builder = DataBuilder::default();
    let [kids, guests] = ["kids", "guests"].map(|name| builder.groups(&[name.to_owned()]).unwrap());
    for (audience, owner, data) in [
        (Audience::ALL, "nas.example", "192.0.2.1"),
        (kids, "nas.example", "192.0.2.2"),
        (kids.or(guests), "safe.elsewhere", "192.0.2.3"),
    ] {
        builder.record_for(audience, LocalRecord::parse(owner, A, 60, data).unwrap()).unwrap();
    }
    let data = builder.finish(Some(60));
    let others = Audience::OTHERS;
    let sets = |name: &str, qtype: u16| {
        let answers = data.answers(&names::name(name).unwrap(), qtype);
        answers.iter().map(|(audience, answer)| (*audience, answer.is_some())).collect::<Vec<_>>()
    };
    let all = kids.or(guests).or(others);
    // The names above those of a group exist for it alone, which is nothing to the others.
    for name in ["www.example", "elsewhere", "www.elsewhere", "arpa", "."] {
        assert_eq!(sets(name, A), [(all, false)], "{name}");
    }
    assert_eq!(sets("nas.example", A), [(kids, true), (guests.or(others), true)]);
    assert_eq!(sets("safe.elsewhere", A), [(kids.or(guests), true), (others, false)]);
    // One record for all, and one more for some: two sets of which the common one is there once more.
    assert_eq!(data.records(), 1 + 2 + 1 + 3);
    assert_eq!(sets("3.2.0.192.in-addr.arpa", 12), [(kids.or(guests), true), (others, false)]);
    assert_eq!(sets("1.2.0.192.in-addr.arpa", 12), [(all, true)]);
}

fn data(records: &[(&str, u16, &str)], zones: &[&str]) -> LocalData {
    let mut builder = DataBuilder::default();
    zones.iter().for_each(|zone| builder.zone(names::name(zone).unwrap().into()));
    for (owner, rtype, data) in records {
        builder.record(LocalRecord::parse(owner, *rtype, 60, data).unwrap()).unwrap();
    }
    builder.finish(None)
}

fn end(data: &LocalData, name: &str, qtype: u16) -> Option<&'static str> {
    told(data, name, qtype).map(|(_, end)| end)
}

/// The example of RFC 4592 section 2.2.1, as far as its types are supported.
#[test]
fn wildcards_are_those_of_rfc_4592() {
    let data = data(
        &[
            ("*.example", TXT, "\"this is a wildcard\""),
            ("*.example", 15, "10 host1.example"),
            ("sub.*.example", TXT, "\"this is not a wildcard\""),
            ("host1.example", A, "192.0.2.1"),
            ("_ssh._tcp.host1.example", 33, "0 0 22 host1.example"),
            ("_ssh._tcp.host2.example", 33, "0 0 22 host2.example"),
            ("subdel.example", NS, "ns.example.com"),
        ],
        &["example"],
    );
    for (name, qtype, expected) in [
        ("host3.example", 15, Some("complete")),
        ("host3.example", A, Some("no data")),
        ("foo.bar.example", TXT, Some("complete")),
        ("host1.example", 15, Some("no data")),
        ("sub.*.example", 15, Some("no data")),
        ("_telnet._tcp.host1.example", 33, Some("no name")),
        ("host.subdel.example", A, None),
        ("ghost.*.example", 15, Some("no name")),
        ("_tcp.host2.example", A, Some("no data")),
    ] {
        assert_eq!(end(&data, name, qtype), expected, "{name} {qtype}");
    }
}

#[test]
fn records_give_their_parents_no_authority() {
    let data = data(&[("nas.corp.example", A, "192.0.2.1"), ("*.dev.example", A, "192.0.2.2")], &[]);
    for (name, expected) in [
        ("nas.corp.example", Some("no data")),
        ("corp.example", None),
        ("other.corp.example", None),
        ("x.nas.corp.example", None),
        ("y.x.dev.example", Some("no data")),
        ("dev.example", None),
        (".", None),
    ] {
        assert_eq!(end(&data, name, 28), expected, "{name}");
    }
}

#[test]
fn negative_answers_have_the_start_of_authority_of_their_zone() {
    let data = data(
        &[
            ("corp.example", SOA, "ns.corp.example admin.corp.example 7 1 1 1 30"),
            ("a.example", A, "192.0.2.1"),
        ],
        &["corp.example", "made.example"],
    );
    let authority = |name: &str| {
        let answer = data.answer(&names::name(name).unwrap(), TXT).unwrap();
        let (End::NoData(authority) | End::NxDomain(authority)) = answer.end else { panic!("{name}") };
        (names::display(&authority.owner), authority.ttl)
    };
    assert_eq!(authority("x.corp.example"), ("corp.example.".into(), 30));
    assert_eq!(authority("x.made.example"), ("made.example.".into(), 300));
    assert_eq!(authority("a.example"), ("a.example.".into(), 60));
}

#[test]
fn aliases_are_followed_and_loops_end() {
    let data = data(
        &[
            ("a.example", CNAME, "b.example"),
            ("b.example", CNAME, "c.example"),
            ("c.example", A, "192.0.2.1"),
            ("out.example", CNAME, "www.elsewhere"),
            ("x.example", CNAME, "y.example"),
            ("y.example", CNAME, "x.example"),
        ],
        &[],
    );
    for (name, qtype, sets, expected) in [
        ("a.example", A, 3, "complete"),
        ("a.example", CNAME, 1, "complete"),
        ("a.example", 255, 1, "complete"),
        ("a.example", TXT, 2, "no data"),
        ("out.example", A, 1, "leads out"),
        ("x.example", A, 17, "endless"),
    ] {
        let (told, end) = told(&data, name, qtype).unwrap();
        assert_eq!((told.len(), end), (sets, expected), "{name}");
    }
}
