//! Queries, answers and times drawn at random: replies are those that another implementation makes.

use super::*;
use crate::labels::Labels;

/// A query, its transport, its answer, and the time from caching the answer to the query.
#[derive(Clone, Debug)]
struct Case {
    labels: Vec<String>,
    link: usize,
    trust: bool,
    edns: Option<(u16, Vec<Vec<u8>>)>,
    id: u16,
    /// Length of data, and TTL, so that offsets are odd and even.
    records: Vec<(usize, u32)>,
    age: u32,
    case: bool,
    /// Number of the list that gave the answer.
    list: Option<u8>,
}

fn case() -> impl Strategy<Value = Case> {
    let edns = (any::<u16>(), prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..3));
    (
        prop::collection::vec("[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?", 0..8),
        0usize..6,
        any::<bool>(),
        prop::option::of(edns),
        any::<u16>(),
        prop::collection::vec((0usize..60, 1u32..4000), 1..24),
        0u32..5000,
        any::<bool>(),
        prop::option::of(0u8..3),
    )
        .prop_map(|(labels, link, trust, edns, id, records, age, case, list)| Case {
            labels,
            link,
            trust,
            edns,
            id,
            records,
            age,
            case,
            list,
        })
}

impl Case {
    fn query(&self) -> Message {
        let mut name: String = self.labels.iter().map(|label| format!("{label}.")).collect();
        if name.is_empty() {
            name.push('.');
        }
        let name = if self.case { name.to_ascii_uppercase() } else { name };
        let mut query = testing::query(&name, RecordType::TXT);
        query.metadata.id = self.id;
        if let Some((size, options)) = &self.edns {
            query = testing::with_edns(query, *size, false);
            for (code, data) in options.iter().enumerate() {
                let option = EdnsOption::Unknown(65_001 + code as u16, data.clone());
                query.edns.as_mut().unwrap().options_mut().insert(option);
            }
        }
        query
    }

    fn records(&self, name: &Name) -> Vec<Record> {
        let record = |(len, ttl): &(usize, u32)| {
            Record::from_rdata(name.clone(), *ttl, RData::TXT(TXT::new(vec!["x".repeat(*len)])))
        };
        self.records.iter().map(record).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// However the clock jumps, forward and back, no TTL exceeds the cached one, and an answer is
    /// fresh only within its lifetime.
    #[test]
    fn no_jump_of_the_clock_makes_an_answer_younger_than_it_is(
        received in prop_oneof![0..10_000u32, any::<u32>()],
        ttl in prop_oneof![1..1000u32, 1..=i32::MAX as u32],
        jumps in prop::collection::vec((any::<bool>(), prop_oneof![any::<u32>(), 0..2000u32]), 1..12),
    ) {
        let mut f = Fixture::new();
        f.know("known.example.", ttl, received);
        let query = testing::query("known.example.", RecordType::A);
        let filed = ttl.min(testing::RULES.max);
        let mut has_expired = false;
        for (back, jump) in jumps {
            let now = if back { received.saturating_sub(jump) } else { received.saturating_add(jump) };
            let (verdict, reply) = f.ask(now, &query);
            let passed = now.saturating_sub(received);
            // At the end of the range of seconds, nothing is fresh.
            let fresh = passed < filed && received.checked_add(filed).is_some();
            match reply {
                Some(reply) => {
                    let given = reply.answers[0].ttl;
                    let stale = matches!(verdict, Verdict::ReplyAndRefresh(_)) || has_expired && !fresh;
                    prop_assert!(given <= if stale { filed.max(30) } else { filed }, "{given} of {filed} s");
                    // An entry that was seen expired keeps the time of that.
                    if fresh && now >= received && !has_expired {
                        prop_assert_eq!(given, filed - passed);
                    }
                    has_expired |= !fresh;
                }
                None => prop_assert!(!fresh, "{verdict:?} after {passed} of {filed} s"),
            }
        }
    }

    /// Whatever is asked, the reply's checksums are right, and a client reads the cached answer,
    /// aged.
    #[test]
    fn replies_are_what_clients_expect(case in case()) {
        let mut f = Fixture::new();
        let lists = Labels::default();
        // The third list has no name.
        for name in ["ads", "a list with a name that is rather long, as a text that goes with answers is"] {
            assert!(lists.number(name).is_some());
        }
        f.processor.set_policy(Arc::new(QueryPolicy { lists: lists.into(), ..QueryPolicy::default() }));
        let query = case.query();
        let name = Name::from_str(&query.queries[0].name().to_string().to_ascii_lowercase()).unwrap();
        let filed = testing::query(&name.to_string(), RecordType::TXT);
        let scope = Scope { list: case.list, ..Scope::ALL };
        f.file_for(&scope, &filed, case.records(&name), 1000);
        let message = testing::wire(&query);
        let (link, v6) = packet::tests::every_kind().nth(case.link).unwrap();
        let checksums = if case.trust { Checksums::Trust } else { Checksums::Verify };
        let packet = packet::tests::frame(link, v6, &message);
        let (verdict, reply) = f.send(1000 + case.age, &packet, checksums);
        let least = case.records.iter().map(|(_, ttl)| *ttl).min().unwrap();
        let fresh = case.age < least;
        if fresh {
            // Glance and closer look, on any processor, give the same reply byte for byte.
            f.processor.level = Level::Portable(simd::Portable);
            prop_assert_eq!(&f.send(1000 + case.age, &packet, checksums).1, &reply);
            prop_assert_eq!(&f.send_to_closer(1000 + case.age, &packet, checksums), &reply);
            let counted = case.list.map(|list| f.stats.lists.get(list, Group::DEFAULT));
            prop_assert!(counted.is_none_or(|counted| counted == 3), "{:?} answers of the list", counted);
        }
        if case.age >= least + testing::RULES.stale {
            prop_assert!(matches!(verdict, Verdict::Punt(_)), "{:?}", verdict);
            return Ok(());
        }
        prop_assert!(matches!(verdict, Verdict::Reply | Verdict::ReplyAndRefresh(_)), "{:?}", verdict);
        prop_assert_eq!(matches!(verdict, Verdict::ReplyAndRefresh(_)), !fresh);
        prop_assert!(matches!(link, Link::Plain) || reply[12..14] != [8, 0]);
        let bytes = packet::tests::received(&reply);
        let reply = Message::from_vec(&bytes).unwrap();
        prop_assert_eq!(reply.metadata.id, case.id);
        let question = testing::parsed(&query).question_len();
        prop_assert_eq!(&bytes[12..12 + question], &message[12..12 + question], "the client's own spelling");
        prop_assert_eq!(reply.edns.is_some(), case.edns.is_some());
        let limit = case.edns.as_ref().map_or(512, |(size, _)| usize::from((*size).clamp(512, 1232)));
        prop_assert!(bytes.len() <= limit);
        if reply.metadata.truncation {
            prop_assert!(reply.answers.is_empty());
            return Ok(());
        }
        let ttls: Vec<u32> = reply.answers.iter().map(|record| record.ttl).collect();
        // All records are in one RRset.
        let expected = if fresh { least - case.age } else { 30 };
        prop_assert_eq!(ttls, vec![expected; case.records.len()]);
        let data = |records: &[Record]| records.iter().map(|record| record.data.clone()).collect::<Vec<_>>();
        prop_assert_eq!(data(&reply.answers), data(&case.records(&name)));
    }
}
