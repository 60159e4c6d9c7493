//! Lists that decide about names ([`ringdns_policy`]), as the resolver applies them.
//!
//! A list is applied between the host tier and clients. The host tier, the fleet, the snapshot and
//! validation have what upstreams answered; workers' caches have what clients get. So a hit costs
//! what it costs without lists, and new lists make void what workers cached and nothing else.

use crate::{
    data::{self, AS_WRITTEN, Lead},
    local,
    message::Message,
    resolved::Transport,
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
    dns::{CLASS_IN, answer::Answer, key::Key, rcode, reply::Age, rtype},
    group::{GROUPS, Group, GroupSet},
    labels::Labels,
};
use ringdns_dnssec::wire_len;
use ringdns_policy::{
    groups::Policies,
    policy::{Blocked, Verdict},
    rule::RuleAnswer,
};
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// Type and class of an alias, as every record of one has them.
const ALIAS: [u8; 4] = [0, rtype::CNAME as u8, 0, CLASS_IN as u8];

/// Longest name in wire format, in bytes.
const NAME_MAX: usize = 255;

/// Counters of a list.
#[derive(Debug, Default)]
pub struct ListCounters {
    /// Number of the list in the query log and in the counters of workers; `None`: all are taken.
    pub number: Option<u8>,
    /// Answers by the list that clients of each group got, but for their repetition from worker
    /// caches.
    pub blocked: [Counter; GROUPS],
    /// Questions that the list would have answered, had it an effect.
    pub dry_run: Counter,
}

/// Counters of lists by name. They outlive reloads.
#[derive(Default)]
pub struct ListCounts {
    labels: Arc<Labels>,
    counters: Mutex<BTreeMap<Arc<str>, Arc<ListCounters>>>,
}

impl ListCounts {
    /// Returns the name and counters of each list that there has been.
    pub fn all(&self) -> Vec<(Arc<str>, Arc<ListCounters>)> {
        self.counters.lock().iter().map(|(name, counters)| (name.clone(), counters.clone())).collect()
    }

    /// Returns the numbers of lists in the query log.
    pub fn labels(&self) -> &Arc<Labels> {
        &self.labels
    }

    fn of(&self, name: &Arc<str>) -> Arc<ListCounters> {
        let new = || Arc::new(ListCounters { number: self.labels.number(name), ..ListCounters::default() });
        self.counters.lock().entry(name.clone()).or_insert_with(new).clone()
    }
}

/// Answer of a list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Answer.
    pub answer: Arc<Answer>,
    /// Groups of clients that get it.
    pub groups: GroupSet,
    /// Whether they get no answer at all.
    pub is_withheld: bool,
    /// Whether they get it over UDP only; over TCP, the list has no effect.
    pub(crate) is_over_udp: bool,
    /// Whether a list gave it.
    pub(crate) is_of_list: bool,
    /// Alias that the answer ends in, if its target is yet to be resolved.
    pub(crate) lead: Option<Box<Lead>>,
    counters: Arc<ListCounters>,
}

impl Listed {
    /// Counts that a client of `group` gets the answer.
    pub fn count(&self, group: Group) {
        if let Some(counter) = self.counters.blocked.get(group.number()) {
            counter.inc();
        }
    }

    /// Whether a client of `group` that asks over `transport` gets the answer.
    pub(crate) fn is_for(&self, group: Group, transport: Transport) -> bool {
        self.groups.has(group) && !(self.is_over_udp && transport == Transport::Tcp)
    }

    /// Returns the same answer for other groups.
    pub(crate) fn with_groups(self, groups: GroupSet) -> Self {
        Listed { groups, ..self }
    }

    /// Returns the number of the list in the query log.
    pub fn number(&self) -> Option<u8> {
        self.counters.number
    }

    /// Returns an answer of no list that some groups get, and the alias that it ends in.
    pub(crate) fn of_no_list(answer: Arc<Answer>, groups: GroupSet, lead: Option<Box<Lead>>) -> Self {
        Listed {
            answer,
            groups,
            is_withheld: false,
            is_over_udp: false,
            is_of_list: false,
            lead,
            counters: Arc::default(),
        }
    }
}

/// Lists in effect.
pub struct NamePolicy {
    policies: Policies,
    /// Counters of the block lists, by name.
    counters: HashMap<Arc<str>, Arc<ListCounters>>,
}

impl NamePolicy {
    /// Returns the lists of `policies`, counted in `counts`.
    pub fn new(policies: Policies, counts: &ListCounts) -> Self {
        let overrides = policies.all().overrides().map(|overrides| overrides.list());
        let lists = policies.all().block_lists().iter().chain(overrides);
        let counters = lists.map(|list| (list.name.clone(), counts.of(&list.name))).collect();
        NamePolicy { policies, counters }
    }

    /// Returns the lists.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Returns the answer of a list to the question of a client of `group`. `None`: it is resolved.
    pub fn answer(&self, key: &Key, group: Group, now: Secs) -> Option<Listed> {
        let (name, qtype) = (key.asked().name(), key.asked().qtype());
        if key.asked().qclass() != CLASS_IN {
            return None;
        }
        let verdicts = self.policies.judge(name, qtype);
        let of_group = verdicts.iter().find(|(groups, _)| groups.has(group));
        of_group.and_then(|(groups, verdict)| match verdict {
            // The answer decides first, if a zone before has rules about its addresses.
            Verdict::Blocked(blocked) if blocked.is_open => None,
            Verdict::Blocked(blocked) => Some(self.block(blocked, name, key, *groups, now)),
            Verdict::Allowed(_) | Verdict::Pass => None,
        })
    }

    /// Whether lists answer the question of every client, before there is an answer.
    pub fn blocks(&self, key: &Key) -> bool {
        let verdicts = self.policies.judge(key.asked().name(), key.asked().qtype());
        let blocks = |verdict: &Verdict<'_>| matches!(verdict, Verdict::Blocked(blocked) if !blocked.is_open);
        verdicts.iter().all(|(_, verdict)| blocks(verdict))
    }

    /// Counts the question of a client of `group` for the lists that would answer it, had they an
    /// effect.
    pub fn count_dry_run(&self, key: &Key, group: Group) {
        for list in self.policies.of(group).would_block(key.asked().name(), key.asked().qtype()) {
            if let Some(counters) = self.counters.get(&list.name) {
                counters.dry_run.inc();
            }
        }
    }

    /// Returns the answers of lists that groups of clients get in place of `answer`: where a list
    /// blocks the name, an alias in the answer leads to a name that it blocks, or the name that aliases
    /// lead to has an address that it blocks. An allowed name may have any aliases and addresses.
    pub fn answers(&self, key: &Key, answer: &Answer, now: Secs) -> Vec<Listed> {
        if key.asked().qclass() != CLASS_IN {
            return Vec::new();
        }
        let (name, qtype) = (key.asked().name(), key.asked().qtype());
        let links = Links::of(key, answer, self.policies.all().has_answers());
        let addresses_of = |is_last: bool| if is_last { &links.addresses[..] } else { &[] };
        let (mut listed, mut passes) = (Vec::new(), GroupSet::NONE);
        for (groups, verdict) in self.policies.judge_answer(name, qtype, addresses_of(links.aliases == 0)) {
            match verdict {
                Verdict::Blocked(blocked) => listed.push(self.block(&blocked, name, key, groups, now)),
                Verdict::Allowed(_) => {}
                Verdict::Pass => passes = passes.or(groups),
            }
        }
        for (at, target) in links.targets.iter().enumerate() {
            let addresses = addresses_of(at + 1 == links.aliases);
            let verdicts = self.policies.judge_answer(target, qtype, addresses);
            let before = passes;
            for (groups, verdict) in verdicts {
                let groups = groups.and(before);
                match verdict {
                    Verdict::Blocked(blocked) if !groups.is_empty() => {
                        listed.push(self.block(&blocked, target, key, groups, now));
                        passes = passes.and(groups.others());
                    }
                    _ => {}
                }
            }
        }
        listed
    }

    /// Returns the answer to `key` of the list that blocks `name`.
    fn block(&self, blocked: &Blocked<'_>, name: &[u8], key: &Key, groups: GroupSet, now: Secs) -> Listed {
        // What cannot be written is refused rather than resolved.
        let answer = made(blocked, name, key, now).unwrap_or_else(|| refused(blocked, now));
        let counters = self.counters.get(&blocked.list.name).cloned().unwrap_or_default();
        let is_withheld = *blocked.answer == RuleAnswer::Drop;
        let is_over_udp = *blocked.answer == RuleAnswer::TcpOnly;
        let target = alias(blocked.answer, name).filter(|_| answer.counts[0] > 0);
        let lead = target.and_then(|target| Lead::new(key, &target));
        Listed {
            answer: Arc::new(answer),
            groups,
            is_withheld,
            is_over_udp,
            is_of_list: true,
            lead,
            counters,
        }
    }
}

/// Names and addresses in an answer that rules may be about.
#[derive(Default)]
struct Links {
    /// Targets of the aliases, then of the service bindings, lowercased.
    targets: Vec<Vec<u8>>,
    /// Number of aliases.
    aliases: usize,
    addresses: Vec<IpAddr>,
}

impl Links {
    /// Returns the links of an answer to `key`, with addresses only if they are wanted.
    fn of(key: &Key, answer: &Answer, with_addresses: bool) -> Self {
        let is_binding = matches!(key.asked().qtype(), rtype::SVCB | rtype::HTTPS);
        let has = |bytes: &[u8; 4]| answer.wire.windows(bytes.len()).any(|window| window == bytes);
        // Most answers have no alias, and need not be split into records to know it.
        if !is_binding && !with_addresses && !has(&ALIAS) {
            return Links::default();
        }
        let Some(message) = Message::of(key, answer, Age::Fresh(0)) else { return Links::default() };
        let mut links = Links::default();
        let mut bindings = Vec::new();
        for record in &message.answers {
            match record.rtype {
                rtype::CNAME => links.targets.push(record.rdata.to_ascii_lowercase()),
                rtype::SVCB | rtype::HTTPS => bindings.extend(target_of_binding(&record.rdata)),
                rtype::A if with_addresses => {
                    links.addresses.extend(<[u8; 4]>::try_from(&*record.rdata).map(IpAddr::from));
                }
                rtype::AAAA if with_addresses => {
                    links.addresses.extend(<[u8; 16]>::try_from(&*record.rdata).map(IpAddr::from));
                }
                _ => {}
            }
        }
        links.aliases = links.targets.len();
        links.targets.extend(bindings);
        links
    }
}

/// Returns the target of a service binding, lowercased (RFC 9460 section 2.2). `None`: it is the
/// owner itself, or cannot be read.
fn target_of_binding(rdata: &[u8]) -> Option<Vec<u8>> {
    // A priority, then a name that is never compressed.
    let rest = rdata.get(2..)?;
    let name = rest.get(..wire_len(rest)?)?;
    (name != [0]).then(|| name.to_ascii_lowercase())
}

/// Returns the answer to `key` of the list that blocks `name`.
fn made(blocked: &Blocked<'_>, name: &[u8], key: &Key, now: Secs) -> Option<Answer> {
    let qtype = key.asked().qtype();
    let ttl = blocked.list.ttl;
    let addresses = match blocked.answer {
        RuleAnswer::NxDomain => return negative(blocked, key, ResponseCode::NXDomain, now),
        RuleAnswer::NoData => Vec::new(),
        // A drop is withheld.
        RuleAnswer::Refused | RuleAnswer::Drop => return Some(refused(blocked, now)),
        RuleAnswer::TcpOnly => {
            let empty = Answer::error(rcode::NOERROR, None, now, ttl);
            return Some(Answer { status: empty.status.truncated(), ..empty });
        }
        RuleAnswer::Alias(_) | RuleAnswer::AliasBelow(_) => {
            let alias = data::alias(key, &alias(blocked.answer, name)?, ttl, now)?;
            return Some(Answer { ede: blocked.list.ede, ..alias });
        }
        RuleAnswer::Null => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        RuleAnswer::Address(_) => blocked.addresses(name, qtype),
    };
    let data: Vec<RData> = addresses.into_iter().filter_map(|address| data(address, qtype)).collect();
    if data.is_empty() {
        return negative(blocked, key, ResponseCode::NoError, now);
    }
    let mut response = response(key)?;
    let owner = response.queries.first()?.name().clone();
    for data in data {
        response.add_answer(Record::from_rdata(owner.clone(), ttl, data));
    }
    finished(blocked, &response, key, now)
}

/// Returns the target of an answer that is an alias, for a rule that is applied to `name`. `None`: it
/// would be too long, or the answer is no alias.
fn alias(answer: &RuleAnswer, name: &[u8]) -> Option<Vec<u8>> {
    match answer {
        RuleAnswer::Alias(target) => Some(target.to_vec()),
        RuleAnswer::AliasBelow(below) => {
            let target = [name.strip_suffix(&[0])?, below].concat();
            (target.len() <= NAME_MAX).then_some(target)
        }
        _ => None,
    }
}

fn refused(blocked: &Blocked<'_>, now: Secs) -> Answer {
    Answer::error(rcode::REFUSED, blocked.list.ede, now, blocked.list.ttl)
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
fn negative(blocked: &Blocked<'_>, key: &Key, code: ResponseCode, now: Secs) -> Option<Answer> {
    let ttl = blocked.list.ttl;
    let mut response = response(key)?;
    let zone = response.queries.first()?.name().base_name();
    let mailbox = Name::from_ascii("nobody.invalid.").ok()?;
    let soa = SOA::new(zone.clone(), mailbox, 1, 3_600, 1_200, 604_800, ttl);
    response.add_authority(Record::from_rdata(zone, ttl, RData::SOA(soa)));
    response.metadata.response_code = code;
    finished(blocked, &response, key, now)
}

fn finished(blocked: &Blocked<'_>, response: &Response, key: &Key, now: Secs) -> Option<Answer> {
    let answer = Answer::from_response(&response.to_vec().ok()?, key, &AS_WRITTEN, now, false).ok()?;
    Some(Answer { ede: blocked.list.ede, ..answer })
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use ringdns_common::names;
    use ringdns_policy::{
        groups::GroupPolicy,
        list::ListBuilder,
        names::NameKey,
        policy::{BlockList, Policy},
        rule::{Effect, Rule, Subject},
    };

    /// Returns a policy with one list, by which a name and all names below it do not exist.
    pub fn blocking(name: &str) -> Policies {
        blocking_for(Group::DEFAULT, name, RuleAnswer::NxDomain)
    }

    /// Returns a policy with one list, by which these names and all names below them do not exist.
    pub fn blocking_all(names: &[&str]) -> Policies {
        with_one_list(names, RuleAnswer::NxDomain).into()
    }

    fn key() -> NameKey {
        NameKey::new(&[7; 16])
    }

    /// Returns a policy with one list, which answers for these names and all names below them.
    fn with_one_list(names: &[&str], answer: RuleAnswer) -> Policy {
        let mut builder = ListBuilder::new(key());
        for (line, name) in (1..).zip(names) {
            builder.push(line, Rule::new(Subject::Suffix(names::name(name).unwrap().into()), Effect::Block));
        }
        let list = BlockList {
            name: "ads".into(),
            list: Arc::new(builder.finish().0),
            answer,
            ttl: 60,
            dry_run: false,
            client: None,
            action: None,
            ede: Some(15),
        };
        Policy::new(key(), Vec::new(), vec![list])
    }

    /// Returns policies by which a list answers for a name and all names below it, for clients of one
    /// group.
    pub fn blocking_for(group: Group, name: &str, answer: RuleAnswer) -> Policies {
        let blocking = with_one_list(&[name], answer);
        if group == Group::DEFAULT {
            return blocking.into();
        }
        let own = GroupPolicy { group, name: "own".into(), policy: blocking.clone() };
        Policies::new(blocking, Policy::new(key(), Vec::new(), Vec::new()), vec![own])
    }
}
