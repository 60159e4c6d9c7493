//! Lists that decide about names ([`ringdns_policy`]), as the resolver applies them.
//!
//! A list is applied between the host tier and clients. The host tier, the fleet, the snapshot and
//! validation have what upstreams answered; workers' caches have what clients get. So a hit costs
//! what it costs without lists, and new lists make void what workers cached and nothing else.

use crate::{
    data::{self, AS_WRITTEN, Lead},
    local,
    message::Message,
};
use hickory_proto::{
    op::{Message as Response, MessageType, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, SOA},
    },
};
use parking_lot::Mutex;
use ringdns_common::counters::Counter;
use ringdns_dataplane::{
    clock::Secs,
    dns::{CLASS_IN, answer::Answer, key::Key, option::ede, rcode, reply::Age, rtype},
};
use ringdns_policy::{
    policy::{Blocked, Policy, Verdict},
    rule::RuleAnswer,
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// Type and class of an alias, as every record of one has them.
const ALIAS: [u8; 4] = [0, rtype::CNAME as u8, 0, CLASS_IN as u8];

/// Counters of a list.
#[derive(Debug, Default)]
pub struct ListCounters {
    /// Answers by the list that clients got, but for their repetition from worker caches.
    pub blocked: Counter,
    /// Questions that the list would have answered, had it an effect.
    pub dry_run: Counter,
}

/// Counters of lists by name. They outlive reloads.
#[derive(Debug, Default)]
pub struct ListCounts(Mutex<BTreeMap<Arc<str>, Arc<ListCounters>>>);

impl ListCounts {
    /// Returns the name and counters of each list that there has been.
    pub fn all(&self) -> Vec<(Arc<str>, Arc<ListCounters>)> {
        self.0.lock().iter().map(|(name, counters)| (name.clone(), counters.clone())).collect()
    }

    fn of(&self, name: &Arc<str>) -> Arc<ListCounters> {
        self.0.lock().entry(name.clone()).or_default().clone()
    }
}

/// Answer of a list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Answer.
    pub answer: Arc<Answer>,
    /// Alias that the answer ends in, if its target is yet to be resolved.
    pub(crate) lead: Option<Box<Lead>>,
    counters: Arc<ListCounters>,
}

impl Listed {
    /// Returns an answer of no list, and the alias that it ends in.
    pub(crate) fn of_no_list(answer: Arc<Answer>, lead: Option<Box<Lead>>) -> Self {
        Listed { answer, lead, counters: Arc::default() }
    }

    /// Counts that a client gets the answer.
    pub fn count(&self) {
        self.counters.blocked.inc();
    }
}

/// Lists in effect.
pub struct NamePolicy {
    policy: Policy,
    /// Counters of the block lists, in their order.
    counters: Box<[Arc<ListCounters>]>,
}

impl NamePolicy {
    /// Returns the lists of `policy`, counted in `counts`.
    pub fn new(policy: Policy, counts: &ListCounts) -> Self {
        let counters = policy.block_lists().iter().map(|list| counts.of(&list.name)).collect();
        NamePolicy { policy, counters }
    }

    /// Returns the lists.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns the answer of a list to a client's question. `None`: it is resolved.
    pub fn answer(&self, key: &Key, now: Secs) -> Option<Listed> {
        let (name, qtype) = (key.asked().name(), key.asked().qtype());
        if key.asked().qclass() != CLASS_IN {
            return None;
        }
        match self.policy.judge(name, qtype) {
            Verdict::Blocked(blocked) => Some(self.block(&blocked, name, key, now)),
            Verdict::Allowed(_) | Verdict::Pass => None,
        }
    }

    /// Whether a list answers a client's question.
    pub fn blocks(&self, key: &Key) -> bool {
        matches!(self.policy.judge(key.asked().name(), key.asked().qtype()), Verdict::Blocked(_))
    }

    /// Counts a client's question for the lists that would answer it, had they an effect.
    pub fn count_dry_run(&self, key: &Key) {
        for list in self.policy.would_block(key.asked().name(), key.asked().qtype()) {
            let index = self.policy.block_lists().iter().position(|other| other.name == list.name);
            if let Some(counters) = index.and_then(|index| self.counters.get(index)) {
                counters.dry_run.inc();
            }
        }
    }

    /// Returns the answer that takes the place of an upstream's: a list's, if an alias in it leads
    /// to a name that the list blocks. An allowed name may have any aliases.
    pub fn replacement(&self, key: &Key, answer: &Answer, now: Secs) -> Option<Listed> {
        // Most answers have no alias, and need not be split into records to know it.
        if !answer.wire.windows(ALIAS.len()).any(|bytes| bytes == ALIAS) {
            return None;
        }
        let (name, qtype) = (key.asked().name(), key.asked().qtype());
        let message = Message::of(key, answer, Age::Fresh(0))?;
        let aliases = message.answers.iter().filter(|record| record.rtype == rtype::CNAME);
        let mut targets = aliases.map(|record| record.rdata.to_ascii_lowercase());
        if matches!(self.policy.judge(name, qtype), Verdict::Allowed(_)) {
            return None;
        }
        targets.find_map(|target| match self.policy.judge(&target, qtype) {
            Verdict::Blocked(blocked) => Some(self.block(&blocked, &target, key, now)),
            Verdict::Allowed(_) | Verdict::Pass => None,
        })
    }

    /// Returns the answer to `key` of the list that blocks `name`.
    fn block(&self, blocked: &Blocked<'_>, name: &[u8], key: &Key, now: Secs) -> Listed {
        // What cannot be written is refused rather than resolved.
        let answer = made(blocked, name, key, now).unwrap_or_else(|| refused(blocked, now));
        let counters = self.counters.get(blocked.index).cloned().unwrap_or_default();
        let lead = match blocked.answer {
            RuleAnswer::Alias(target) if answer.counts[0] > 0 => Lead::new(key, target),
            _ => None,
        };
        Listed { answer: Arc::new(answer), lead, counters }
    }
}

/// Returns the answer to `key` of the list that blocks `name`.
fn made(blocked: &Blocked<'_>, name: &[u8], key: &Key, now: Secs) -> Option<Answer> {
    let qtype = key.asked().qtype();
    let ttl = blocked.list.ttl;
    let addresses = match blocked.answer {
        RuleAnswer::NxDomain => return negative(key, ResponseCode::NXDomain, ttl, now),
        RuleAnswer::NoData => Vec::new(),
        // The reader of lists passes on no drops.
        RuleAnswer::Refused | RuleAnswer::Drop => return Some(refused(blocked, now)),
        RuleAnswer::Alias(target) => {
            let alias = data::alias(key, target, ttl, now)?;
            return Some(Answer { ede: Some(ede::BLOCKED), ..alias });
        }
        RuleAnswer::Null => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        RuleAnswer::Address(_) => blocked.addresses(name, qtype),
    };
    let data: Vec<RData> = addresses.into_iter().filter_map(|address| data(address, qtype)).collect();
    if data.is_empty() {
        return negative(key, ResponseCode::NoError, ttl, now);
    }
    let mut response = response(key)?;
    let owner = response.queries.first()?.name().clone();
    for data in data {
        response.add_answer(Record::from_rdata(owner.clone(), ttl, data));
    }
    finished(&response, key, now)
}

fn refused(blocked: &Blocked<'_>, now: Secs) -> Answer {
    Answer::error(rcode::REFUSED, Some(ede::BLOCKED), now, blocked.list.ttl)
}

/// Returns an address as the data of a record, if questions of a type ask for its kind.
fn data(address: IpAddr, qtype: u16) -> Option<RData> {
    match (address, qtype) {
        (IpAddr::V4(v4), rtype::A) => Some(RData::A(A(v4))),
        (IpAddr::V6(v6), rtype::AAAA) => Some(RData::AAAA(AAAA(v6))),
        _ => None,
    }
}

fn response(key: &Key) -> Option<Response> {
    let mut response = Response::new(0, MessageType::Response, OpCode::Query);
    let owner = Name::from_labels(local::labels(key.asked().name())).ok()?;
    response.add_query(Query::query(owner, RecordType::from(key.asked().qtype())));
    Some(response)
}

/// Returns an answer without records, and an SOA record of the zone above the name, by which the
/// answer is cached (RFC 2308).
fn negative(key: &Key, code: ResponseCode, ttl: u32, now: Secs) -> Option<Answer> {
    let mut response = response(key)?;
    let zone = response.queries.first()?.name().base_name();
    let mailbox = Name::from_ascii("nobody.invalid.").ok()?;
    let soa = SOA::new(zone.clone(), mailbox, 1, 3_600, 1_200, 604_800, ttl);
    response.add_authority(Record::from_rdata(zone, ttl, RData::SOA(soa)));
    response.metadata.response_code = code;
    finished(&response, key, now)
}

fn finished(response: &Response, key: &Key, now: Secs) -> Option<Answer> {
    let answer = Answer::from_response(&response.to_vec().ok()?, key, &AS_WRITTEN, now, false).ok()?;
    Some(Answer { ede: Some(ede::BLOCKED), ..answer })
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use ringdns_common::names;
    use ringdns_policy::{
        list::ListBuilder,
        names::NameKey,
        policy::BlockList,
        rule::{Effect, Rule, Subject},
    };

    /// Returns a policy with one list, by which a name and all names below it do not exist.
    pub fn blocking(name: &str) -> Policy {
        let key = NameKey::new(&[7; 16]);
        let mut builder = ListBuilder::new(key);
        builder.push(1, Rule::new(Subject::Suffix(names::name(name).unwrap().into()), Effect::Block));
        let list = BlockList {
            name: "ads".into(),
            list: Arc::new(builder.finish().0),
            answer: RuleAnswer::NxDomain,
            ttl: 60,
            dry_run: false,
        };
        Policy::new(key, Vec::new(), vec![list])
    }
}
