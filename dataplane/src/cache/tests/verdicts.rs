//! Purges of answers that lists now decide about otherwise.

use super::*;
use crate::{group::GroupSet, purge::NameSet};
use hickory_proto::{
    op::Message,
    rr::{
        Name, RData, Record,
        rdata::{CNAME, HTTPS, SVCB, TXT},
    },
};
use std::{net::Ipv4Addr, str::FromStr};

/// Names of a test.
#[derive(Debug)]
struct Names(Vec<Vec<u8>>);

impl NameSet for Names {
    fn has(&self, name: &[u8]) -> bool {
        self.0.iter().any(|own| own == name)
    }
}

impl Fixture {
    /// Files a response for the clients in `scope`. Returns its key.
    fn file(&mut self, response: &Message, scope: Scope, ede: Option<u16>) -> Key {
        let query = &response.queries[0];
        let key = testing::parsed(&testing::query(&query.name().to_ascii(), query.query_type())).key;
        let answer = Answer { ede, ..testing::answer(response, 0) };
        self.cache.insert_for(&scope, &key, &answer, 0);
        key
    }
}

fn response(name: &str, qtype: RecordType, data: &[RData]) -> Message {
    let mut response = testing::response(&testing::query(name, qtype));
    for data in data {
        response.add_answer(Record::from_rdata(Name::from_str(name).unwrap(), 60, data.clone()));
    }
    response
}

/// Entries go too that lists may have decided about by another name than that of the question: aliases,
/// and answers that lists gave, of which nobody knows the alias that they were for.
#[test]
fn new_verdicts_on_names_leave_other_names_without_aliases() {
    let mut f = Fixture::new(1 << 20);
    let target = || Name::from_str("elsewhere.example.").unwrap();
    let v4 = || RData::A(Ipv4Addr::new(192, 0, 2, 1).into());
    let alias = || RData::CNAME(CNAME(target()));
    let binding = RData::HTTPS(HTTPS(SVCB::new(1, target(), Vec::new())));
    let text = |length| RData::TXT(TXT::new(vec!["x".repeat(length)]));
    let address = |name| response(name, RecordType::A, &[v4()]);
    let some = GroupSet::NONE.with(Group::DEFAULT);
    let (divided, listed) = (Scope { groups: some, ..Scope::ALL }, Scope { list: Some(3), ..Scope::ALL });
    let none = testing::nxdomain(&testing::query("none.example.", RecordType::A), 60, 60);
    let filed = [
        (address("changed.example."), Scope::ALL, None, false),
        (address("kept.example."), Scope::ALL, None, true),
        (none, Scope::ALL, None, true),
        (response("text.example.", RecordType::TXT, &[text(1)]), Scope::ALL, None, true),
        (address("divided.example."), divided, None, true),
        (address("listed.example."), listed, None, false),
        (address("told.example."), Scope::ALL, Some(15), false),
        (response("alias.example.", RecordType::A, &[alias(), v4()]), Scope::ALL, None, false),
        (response("named.example.", RecordType::CNAME, &[alias()]), Scope::ALL, None, false),
        (response("bound.example.", RecordType::HTTPS, &[binding]), Scope::ALL, None, false),
        // Reduced to TC=1.
        (response("cut.example.", RecordType::TXT, &vec![text(250); 9]), Scope::ALL, None, false),
    ]
    .map(|(response, scope, ede, is_kept)| (f.file(&response, scope, ede), is_kept));
    let names =
        |name: &str| Arc::new(Purge::VerdictsOn(Arc::new(Names(vec![key(name).asked().name().to_vec()]))));
    let has = |f: &mut Fixture, key: &Key| f.cache.lookup(f.hash.of(key), key, 0).is_some();
    assert!(filed.iter().all(|(key, _)| has(&mut f, key)), "all are there before");
    f.cache.purge([names("changed.example.")]);
    for (key, expected) in &filed {
        assert_eq!(has(&mut f, key), *expected, "{}", String::from_utf8_lossy(key.asked().name()));
    }
    f.cache.purge([names("kept.example."), names("never.asked.")]);
    f.cache.sweep(1000, 0);
    assert_eq!(f.cache.occupancy().entries, 3);
    let left: Vec<bool> = filed.iter().map(|(key, _)| has(&mut f, key)).collect();
    let expected: Vec<bool> = filed.iter().enumerate().map(|(at, (_, kept))| *kept && at != 1).collect();
    assert_eq!(left, expected);
}
