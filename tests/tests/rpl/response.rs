//! Responses of servers, and the records in them.

use std::net::IpAddr;

use hickory_proto::rr::Name;
use ringdns_testkit::scenario::{Record, name_at};

use crate::script::Question;

pub const A: u16 = 1;
pub const NS: u16 = 2;
pub const CNAME: u16 = 5;
pub const SOA: u16 = 6;
pub const AAAA: u16 = 28;
pub const DNAME: u16 = 39;
pub const DS: u16 = 43;
pub const RRSIG: u16 = 46;
pub const NSEC: u16 = 47;
pub const NSEC3: u16 = 50;
pub const ANY: u16 = 255;

const SERVFAIL: u16 = 2;

/// Most aliases that are followed.
pub const ALIASES_MAX: usize = 12;

/// Answer of a server, or of the recursor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Response {
    pub flags: u16,
    pub rcode: u16,
    pub sections: [Vec<Record>; 3],
}

impl Response {
    /// Returns the response to a failed resolution.
    pub fn failed() -> Response {
        Response { rcode: SERVFAIL, ..Response::default() }
    }

    /// Turns a parent's referral to the child into the answer to a question for DS.
    pub fn answer_with_referral(&mut self, question: &Question) {
        let [answer, authority, _] = &mut self.sections;
        if !authority.iter().any(|record| record.rtype == NS && record.owner == question.name) {
            return;
        }
        authority.retain(|record| !is_of(record, NS));
        answer.extend(authority.extract_if(.., |record| record.owner == question.name && is_of(record, DS)));
        self.sections[2].clear();
    }

    /// Moves signatures beside the sets that they sign. Some files have them in another section,
    /// and Unbound moves them.
    pub fn with_signatures_in_place(mut self) -> Response {
        for from in 0..3 {
            for signature in std::mem::take(&mut self.sections[from]) {
                let signs = |record: &Record| {
                    record.owner == signature.owner && Some(record.rtype) == covered(&signature)
                };
                let place = (0..3).find(|section| self.sections[*section].iter().any(signs)).unwrap_or(from);
                self.sections[place].push(signature);
            }
        }
        self
    }
}

/// Returns the addresses in records.
pub fn addresses(records: &[Record]) -> Vec<IpAddr> {
    let address = |record: &Record| match record.rtype {
        A => Some(IpAddr::from(<[u8; 4]>::try_from(&record.data[..]).ok()?)),
        AAAA => Some(IpAddr::from(<[u8; 16]>::try_from(&record.data[..]).ok()?)),
        _ => None,
    };
    records.iter().filter_map(address).collect()
}

/// Whether a record is of a type, or the signature of such a record.
pub fn is_of(record: &Record, rtype: u16) -> bool {
    record.rtype == rtype || covered(record) == Some(rtype)
}

/// Returns the type that a signature covers.
pub fn covered(record: &Record) -> Option<u16> {
    let covered = record.data.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
    covered.filter(|_| record.rtype == RRSIG)
}

/// Whether a record proves a denial, or is the signature of such a record.
pub fn is_proof(record: &Record) -> bool {
    is_of(record, NSEC) || is_of(record, NSEC3)
}

/// Returns the records of an answer that belong to its question: its aliases, and the records at
/// their end.
pub fn chain(answer: &[Record], question: &Question) -> Vec<Record> {
    if question.qtype == ANY || question.qtype == RRSIG {
        return answer.to_vec();
    }
    let mut names = vec![question.name.clone()];
    while let Some(target) = target_of(answer, &names[names.len() - 1], question.qtype)
        && !names.contains(&target)
    {
        names.push(target);
    }
    let concerns = |record: &&Record| {
        let leads = |name: &Name| record.owner != *name && record.owner.zone_of(name);
        names.contains(&record.owner) || is_of(record, DNAME) && names.iter().any(leads)
    };
    answer.iter().filter(concerns).cloned().collect()
}

/// Returns the target of the aliases from `name`, as far as they are known; `None` if there is an
/// answer.
pub fn end_of_chain(answer: &[Record], name: &Name, qtype: u16) -> Option<Name> {
    if matches!(qtype, ANY | CNAME) {
        return None;
    }
    let mut name = name.clone();
    for _ in 0..ALIASES_MAX {
        match target_of(answer, &name, qtype) {
            Some(target) => name = target,
            None => break,
        }
    }
    let answered = answer.iter().any(|record| record.owner == name && record.rtype == qtype);
    (!answered).then_some(name)
}

fn target_of(answer: &[Record], name: &Name, qtype: u16) -> Option<Name> {
    let has = |rtype: u16| answer.iter().find(|record| record.owner == *name && record.rtype == rtype);
    if matches!(qtype, ANY | CNAME) || has(qtype).is_some() {
        return None;
    }
    has(CNAME).and_then(|alias| name_at(&alias.data, 0))
}
