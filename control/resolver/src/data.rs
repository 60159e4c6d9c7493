//! Answers from local data ([`ringdns_policy::data`]), and answers that end in an alias whose target
//! is yet to be resolved.
//!
//! Clients alone get them: the host tier, the fleet, the snapshot and validation have what upstreams
//! answered.

use crate::message::{Message, Record};
use ringdns_common::names;
use ringdns_dataplane::{
    clock::Secs,
    dns::{
        CLASS_IN,
        answer::{Answer, Status, TtlRules},
        key::Key,
        rcode,
        reply::Age,
        rtype,
    },
    group::{Group, GroupSet},
};
use ringdns_dnssec::Name;
use ringdns_policy::{
    data::{Audience, Authority, DataAnswer, End, LocalData},
    groups::GroupNames,
};
use std::sync::Arc;

/// Rules that keep an answer for as long as its records say.
pub const AS_WRITTEN: TtlRules =
    TtlRules { min: 0, max: Secs::MAX, negative_max: Secs::MAX, stale: 0, ahead: 0 };

/// Alias at the end of an answer, whose target is yet to be resolved.
#[derive(Clone, Debug)]
pub struct Lead {
    /// Question that the answer is for.
    pub key: Key,
    /// Question for the target.
    pub target: Key,
}

impl Lead {
    /// Returns the alias of an answer to `key` that leads to `target`. `None`: it is not followed,
    /// because the question asks for aliases.
    pub fn new(key: &Key, target: &[u8]) -> Option<Box<Self>> {
        let asked = key.asked();
        if matches!(asked.qtype(), rtype::CNAME | rtype::ANY) {
            return None;
        }
        let target = names::key(target, asked.qtype(), asked.dnssec_ok(), asked.checking_disabled())?;
        Some(Box::new(Lead { key: key.clone(), target }))
    }
}

/// Local data, and the numbers of the groups that it is for.
#[derive(Debug)]
pub struct GroupData {
    data: Arc<LocalData>,
    /// Groups that data tells apart, and their numbers. Each number is at one place.
    members: Box<[(Audience, GroupSet)]>,
}

/// Answer of local data, and the alias that it ends in.
pub type Made = (Answer, Option<Box<Lead>>);

impl GroupData {
    /// Returns data for groups with these names.
    pub fn new(data: Arc<LocalData>, names: &GroupNames) -> Self {
        let groups = data.groups();
        let member = |member| (member, names.groups(|name| groups.member(name) == member));
        let members = groups.members().map(member).collect();
        GroupData { data, members }
    }

    /// Returns the data.
    pub fn data(&self) -> &Arc<LocalData> {
        &self.data
    }

    /// Whether parts of the data are for some groups only.
    pub fn has_groups(&self) -> bool {
        self.members.len() > 1
    }

    /// Returns the answers to a question for all groups, and the groups that have each. `None`: the
    /// question is resolved for them.
    pub fn answers(&self, key: &Key, now: Secs) -> Vec<(GroupSet, Option<Made>)> {
        let asked = key.asked();
        if asked.qclass() != CLASS_IN {
            return vec![(GroupSet::ALL, None)];
        }
        let answers = self.data.answers(asked.name(), asked.qtype());
        let made = |(audience, answer): (Audience, Option<DataAnswer<'_>>)| {
            (self.numbers(audience), answer.and_then(|answer| made(answer, key, now)))
        };
        answers.into_iter().map(made).collect()
    }

    /// Returns the answer to the question of a client of `group`, and all groups for which it is the
    /// same. `None`: the question is resolved for them.
    pub fn answer(&self, key: &Key, group: Group, now: Secs) -> (GroupSet, Option<Made>) {
        let asked = key.asked();
        if asked.qclass() != CLASS_IN {
            return (GroupSet::ALL, None);
        }
        let answers = self.data.answers(asked.name(), asked.qtype()).into_iter();
        let mut answers = answers.map(|(audience, answer)| (self.numbers(audience), answer));
        let own = answers.find(|(groups, _)| groups.has(group));
        own.map_or((GroupSet::NONE, None), |(groups, answer)| {
            (groups, answer.and_then(|answer| made(answer, key, now)))
        })
    }

    /// Returns the groups for which a question is resolved.
    pub fn passed_on(&self, key: &Key) -> GroupSet {
        let asked = key.asked();
        if !self.has_groups() || asked.qclass() != CLASS_IN {
            return GroupSet::ALL;
        }
        let answers = self.data.answers(asked.name(), asked.qtype()).into_iter();
        let passed_on = answers.filter(|(_, answer)| answer.is_none());
        passed_on.fold(GroupSet::NONE, |all, (audience, _)| all.or(self.numbers(audience)))
    }

    fn numbers(&self, audience: Audience) -> GroupSet {
        let members = self.members.iter().filter(|(member, _)| audience.meets(*member));
        members.fold(GroupSet::NONE, |all, (_, groups)| all.or(*groups))
    }
}

/// Returns the answer to a question that local data has, and the alias that it ends in.
fn made(found: DataAnswer<'_>, key: &Key, now: Secs) -> Option<Made> {
    // What cannot be written fails rather than being resolved.
    let failure = || (Answer::error(rcode::SERVFAIL, None, now, 0), None);
    let mut message = empty(key, now)?;
    for (owner, set) in found.sets {
        for rdata in &set.data {
            let record = record(&owner, set.rtype, set.ttl, rdata);
            let Some(record) = record else { return Some(failure()) };
            message.answers.push(record);
        }
    }
    let mut lead = None;
    match found.end {
        End::Complete => {}
        End::NoData(authority) => message.authorities.extend(start_of(&authority)),
        End::NxDomain(authority) => {
            message.authorities.extend(start_of(&authority));
            message.flags |= u16::from(rcode::NXDOMAIN);
        }
        End::LeadsTo(target) => {
            lead = Lead::new(key, &target);
            if lead.is_none() {
                return Some(failure());
            }
        }
        End::Endless => return Some(failure()),
    }
    let Some(answer) = written(&message, key, now) else { return Some(failure()) };
    let status = match lead {
        Some(_) => answer.status,
        None => Status::authoritative(answer.status.rcode()),
    };
    Some((Answer { status, ..answer }, lead))
}

/// Returns the answer to `key` that consists of an alias.
pub fn alias(key: &Key, target: &[u8], ttl: u32, now: Secs) -> Option<Answer> {
    let mut message = empty(key, now)?;
    message.answers.push(record(key.asked().name(), rtype::CNAME, ttl, target)?);
    written(&message, key, now)
}

/// Returns the answer that `first` makes with that to the question for its target, which has the
/// TTLs of `age`.
pub fn joined(lead: &Lead, first: &Answer, target: &Answer, age: Age, now: Secs) -> Option<Answer> {
    let mut whole = Message::of(&lead.key, first, Age::Fresh(0))?;
    whole.join(Message::of(&lead.target, target, age)?);
    let answer = written(&whole, &lead.key, now)?;
    Some(Answer { ede: first.ede.or(target.ede), ..answer })
}

/// Returns a response without records.
pub fn empty(key: &Key, now: Secs) -> Option<Message> {
    Message::of(key, &Answer::error(rcode::NOERROR, None, now, 0), Age::Fresh(0))
}

fn written(message: &Message, key: &Key, now: Secs) -> Option<Answer> {
    Answer::from_response(&message.to_bytes()?, key, &AS_WRITTEN, now, false).ok()
}

fn start_of(authority: &Authority<'_>) -> Option<Record> {
    record(&authority.owner, rtype::SOA, authority.ttl, &authority.soa)
}

fn record(owner: &[u8], rtype: u16, ttl: u32, rdata: &[u8]) -> Option<Record> {
    let spelled = owner.into();
    Some(Record { owner: Name::from_wire(owner)?, spelled, rtype, class: CLASS_IN, ttl, rdata: rdata.into() })
}
