//! A recursor over the servers of a replay file, which serves as ringdns's upstream.
//!
//! It follows referrals from the zones that the configuration names, and aliases from zone to zone.
//! It accepts only records of a server's own zone, and asks a parent for DS. It validates nothing
//! and returns proofs, like a resolver with CD=1. It caches delegations. It answers from other
//! records that it has seen only if the file has no answer to a question at any step ([`Memory`]).

use std::collections::BTreeMap;
use std::net::IpAddr;

use hickory_proto::rr::Name;
use ringdns_testkit::scenario::{Record, name_at};

use crate::config::{Setup, Zone};
use crate::memory::Memory;
use crate::response::{
    A, ALIASES_MAX, DS, NS, Response, SOA, addresses, chain, end_of_chain, is_of, is_proof,
};
use crate::script::{Action, Entry, Moment, Question, Range, Script};

const TC: u16 = 0x0200;
const NXDOMAIN: u16 = 3;
const YXDOMAIN: u16 = 6;

/// Limits of a walk, beyond which the answer is SERVFAIL: referrals, and nested lookups of servers'
/// names.
const REFERRALS_MAX: usize = 16;
const DEPTH_MAX: usize = 4;

/// A query to a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    pub server: IpAddr,
    pub question: Question,
    pub tcp: bool,
}

/// The answer must wait for the reply to this query.
#[derive(Clone, Debug, PartialEq)]
pub struct Wait(pub Outgoing);

/// Outcome of each query for a question so far; `None` if there is no reply.
pub type Journal = Vec<(Outgoing, Option<Response>)>;

/// The recursor.
pub struct Recursor {
    script: Script,
    zones: Vec<Zone>,
    delegations: BTreeMap<Name, Delegation>,
    memory: Memory,
    /// Addresses of servers from referrals.
    hosts: BTreeMap<Name, Vec<IpAddr>>,
    /// Step that is being played.
    pub now: Moment,
    /// Number of completed steps.
    pub played: usize,
}

/// A zone that a referral led to.
#[derive(Clone, Debug)]
struct Delegation {
    servers: Vec<IpAddr>,
    /// Names of the servers whose addresses were not in the referral.
    unknown: Vec<Name>,
    /// DS records of the referral, or the proof that there are none.
    signed: Response,
}

impl Recursor {
    pub fn new(script: &Script, setup: &Setup) -> Self {
        Recursor {
            script: script.clone(),
            zones: setup.zones.clone(),
            delegations: BTreeMap::new(),
            memory: Memory::default(),
            hosts: BTreeMap::new(),
            now: 0,
            played: 0,
        }
    }

    /// Returns the answer to a question. `journal` holds the queries made for it.
    pub fn answer(&mut self, question: &Question, journal: &mut Journal) -> Result<Response, Wait> {
        self.resolve(question, journal, 0)
    }

    fn resolve(
        &mut self,
        question: &Question,
        journal: &mut Journal,
        depth: usize,
    ) -> Result<Response, Wait> {
        let mut whole = Response::default();
        // Answer if the alias cannot be followed: a server that has both names may say NXDOMAIN
        // with the alias.
        let mut so_far = Response::failed();
        let mut name = question.name.clone();
        for _ in 0..ALIASES_MAX {
            let asked = Question { name: name.clone(), ..question.clone() };
            let part = self.walk(&asked, journal, depth)?;
            let failed = !matches!(part.rcode, 0 | NXDOMAIN | YXDOMAIN);
            whole.rcode = part.rcode;
            for (section, records) in whole.sections.iter_mut().zip(part.sections) {
                section.extend(
                    records.into_iter().filter(|record| !section.contains(record)).collect::<Vec<_>>(),
                );
            }
            if failed {
                return Ok(so_far);
            }
            match end_of_chain(&whole.sections[0], &question.name, question.qtype) {
                Some(target) if target != name => name = target,
                _ => break,
            }
            so_far = if whole.rcode == NXDOMAIN { whole.clone() } else { Response::failed() };
            // Other records about the alias's own zone do not apply to its target.
            whole.sections[1].retain(is_proof);
            whole.sections[2].clear();
        }
        Ok(whole)
    }

    /// Returns the answer from the servers of the zone that contains a name.
    fn walk(&mut self, question: &Question, journal: &mut Journal, depth: usize) -> Result<Response, Wait> {
        if let Some(zone) = self.zone_of(question).filter(|zone| zone.forwards) {
            let answered = self.ask(&zone.servers, &zone.name, question, journal)?;
            return Ok(answered.unwrap_or(Response::failed()));
        }
        let mut zone = self.nearest(question);
        for _ in 0..REFERRALS_MAX {
            let servers = self.servers(&zone, journal, depth)?;
            let Some(response) = self.ask(&servers, &zone, question, journal)? else {
                return Ok(self.known(question).unwrap_or(Response::failed()));
            };
            let mut response = response.with_signatures_in_place();
            match referral(&response, &zone, question) {
                Some(cut) => {
                    self.learn(&cut, &response);
                    zone = cut;
                }
                None => {
                    for section in &mut response.sections[..2] {
                        section.retain(|record| zone.zone_of(&record.owner));
                    }
                    if question.qtype == DS {
                        response.answer_with_referral(question);
                    }
                    response.sections[0] = chain(&response.sections[0], question);
                    self.memory.keep(question, &response);
                    return Ok(response);
                }
            }
        }
        Ok(Response::failed())
    }

    /// Returns the stub or forward zone that contains a name.
    fn zone_of(&self, question: &Question) -> Option<Zone> {
        let above = |zone: &&Zone| is_above(&zone.name, question);
        self.zones.iter().filter(above).max_by_key(|zone| zone.name.num_labels()).cloned()
    }

    /// Returns the closest known zone that contains a name, or, for DS, delegates it.
    fn nearest(&self, question: &Question) -> Name {
        let configured = self.zone_of(question).map_or_else(Name::root, |zone| zone.name);
        let known = self.delegations.keys().filter(|name| is_above(name, question));
        known
            .max_by_key(|name| name.num_labels())
            .filter(|name| configured.zone_of(name))
            .cloned()
            .unwrap_or(configured)
    }

    fn servers(&mut self, zone: &Name, journal: &mut Journal, depth: usize) -> Result<Vec<IpAddr>, Wait> {
        if let Some(zone) = self.zones.iter().find(|configured| configured.name == *zone) {
            return Ok(zone.servers.clone());
        }
        let Some(delegation) = self.delegations.get(zone).cloned() else { return Ok(Vec::new()) };
        let mut servers = delegation.servers;
        if servers.is_empty() && depth < DEPTH_MAX {
            for name in delegation.unknown {
                if let Some(known) = self.hosts.get(&name) {
                    servers.extend(known);
                    continue;
                }
                let question = Question { name, qtype: A, class: 1 };
                servers.extend(addresses(&self.resolve(&question, journal, depth + 1)?.sections[0]));
            }
            if let Some(delegation) = self.delegations.get_mut(zone) {
                delegation.servers.clone_from(&servers);
            }
        }
        Ok(servers)
    }

    /// Returns the first usable response of servers, if there is one.
    fn ask(
        &self,
        servers: &[IpAddr],
        zone: &Name,
        question: &Question,
        journal: &mut Journal,
    ) -> Result<Option<Response>, Wait> {
        for server in servers {
            let mut query = Outgoing { server: *server, question: question.clone(), tcp: false };
            let mut response = self.exchange(&query, zone, journal)?;
            if response.as_ref().is_some_and(|response| response.flags & TC != 0) {
                query.tcp = true;
                response = self.exchange(&query, zone, journal)?;
            }
            if let Some(response) =
                response.filter(|response| matches!(response.rcode, 0 | NXDOMAIN | YXDOMAIN))
            {
                return Ok(Some(response));
            }
        }
        Ok(None)
    }

    fn exchange(
        &self,
        query: &Outgoing,
        zone: &Name,
        journal: &mut Journal,
    ) -> Result<Option<Response>, Wait> {
        if let Some((_, response)) = journal.iter().find(|(asked, _)| asked == query) {
            return Ok(response.clone());
        }
        let response = match self.ready(query) {
            Some(entry) => Some(entry.response()),
            None if self.may_come(query) => return Err(Wait(query.clone())),
            None => self.inferred(query, zone),
        };
        journal.push((query.clone(), response.clone()));
        Ok(response)
    }

    /// Returns the reply that a server has ready now.
    fn ready(&self, query: &Outgoing) -> Option<&Entry> {
        let ranges =
            self.script.ranges.iter().filter(|range| range.is_now(self.now) && range.is_at(query.server));
        ranges.flat_map(|range| &range.entries).find(|entry| entry.answers(query))
    }

    /// Whether the file has the reply to a query, or its loss, at a later step.
    fn may_come(&self, query: &Outgoing) -> bool {
        let steps = self.script.steps.get(self.played..).unwrap_or_default();
        let by_step = steps.iter().any(|step| match &step.action {
            Action::Reply(entry) => entry.answers(query),
            Action::Silence => true,
            _ => false,
        });
        let later = |range: &&Range| range.first > self.now && range.is_at(query.server);
        by_step
            || self
                .script
                .ranges
                .iter()
                .filter(later)
                .any(|range| range.entries.iter().any(|entry| entry.answers(query)))
    }

    /// Infers the referral that a server would give from its responses about other names. The
    /// file's author had a recursor in mind that knew the delegation by then.
    fn inferred(&self, query: &Outgoing, zone: &Name) -> Option<Response> {
        let ranges =
            self.script.ranges.iter().filter(|range| range.is_now(self.now) && range.is_at(query.server));
        let responses = ranges.flat_map(|range| &range.entries).map(Entry::response);
        let fitting =
            responses.filter_map(|response| Some((referral(&response, zone, &query.question)?, response)));
        fitting.max_by_key(|(cut, _)| cut.num_labels()).map(|(_, response)| response)
    }

    fn learn(&mut self, cut: &Name, response: &Response) {
        let [_, authority, additional] = &response.sections;
        let names: Vec<Name> = authority
            .iter()
            .filter(|record| record.rtype == NS && record.owner == *cut)
            .filter_map(|record| name_at(&record.data, 0))
            .collect();
        let glue: Vec<Record> =
            additional.iter().filter(|record| names.contains(&record.owner)).cloned().collect();
        for name in &names {
            let own: Vec<Record> = glue.iter().filter(|record| record.owner == *name).cloned().collect();
            if !own.is_empty() {
                self.hosts.insert(name.clone(), addresses(&own));
            }
        }
        let unknown =
            names.into_iter().filter(|name| !glue.iter().any(|record| record.owner == *name)).collect();
        let of_cut = |record: &&Record| record.owner == *cut && is_of(record, DS);
        let ds: Vec<Record> = authority.iter().filter(of_cut).cloned().collect();
        self.memory.keep_proofs(authority);
        let proofs = authority.iter().filter(|record| is_proof(record)).cloned().collect();
        let sections = if ds.is_empty() { [ds, proofs, Vec::new()] } else { [ds, Vec::new(), Vec::new()] };
        let signed = Response { flags: 0, rcode: 0, sections };
        self.delegations.insert(cut.clone(), Delegation { servers: addresses(&glue), unknown, signed });
    }

    /// Returns the answer to a question that no server answers: for DS from a referral, else from
    /// earlier answers.
    fn known(&self, question: &Question) -> Option<Response> {
        let referred = self.delegations.get(&question.name).filter(|_| question.qtype == DS);
        let signed = referred.map(|delegation| delegation.signed.clone());
        signed.filter(|signed| *signed != Response::default()).or_else(|| self.remembered(question))
    }

    /// Answers from memory, if the file has no answer to the question at any step.
    fn remembered(&self, question: &Question) -> Option<Response> {
        let is_it = |entry: &&Entry| {
            let own = entry.question.as_ref();
            own.is_some_and(|own| own.name == question.name && own.qtype == question.qtype)
        };
        let of_steps = self.script.steps.iter().filter_map(|step| match &step.action {
            Action::Reply(entry) => Some(&**entry),
            _ => None,
        });
        let mut entries = self.script.ranges.iter().flat_map(|range| &range.entries).chain(of_steps);
        if entries.any(|entry| is_it(&entry)) { None } else { self.memory.answer(question) }
    }

    /// Returns the answer of a resolver that queries are forwarded to, or `None` if there is no
    /// answer. Follows aliases that the resolver leaves to its client.
    pub fn forward(&mut self, mut query: Outgoing, journal: &mut Journal) -> Result<Option<Response>, Wait> {
        let asked = query.question.clone();
        let mut whole: Option<Response> = None;
        for _ in 0..ALIASES_MAX {
            // With the name itself as the zone, no response is a referral.
            let zone = query.question.name.clone();
            let Some(part) = self.exchange(&query, &zone, journal)? else {
                let known =
                    || whole.or_else(|| self.remembered(&query.question)).unwrap_or(Response::failed());
                return Ok((!self.is_lossy()).then(known));
            };
            self.memory.keep(&query.question, &part);
            let whole =
                whole.get_or_insert_with(|| Response { sections: Default::default(), ..part.clone() });
            whole.rcode = part.rcode;
            for (section, records) in whole.sections.iter_mut().zip(part.sections) {
                section.extend(records);
            }
            let is_whole = whole.sections[1].iter().any(|record| record.rtype == SOA);
            match end_of_chain(&whole.sections[0], &asked.name, asked.qtype) {
                Some(target) if target != query.question.name && whole.rcode == 0 && !is_whole => {
                    query.question.name = target;
                }
                _ => break,
            }
        }
        Ok(whole)
    }

    /// Whether the file loses queries on purpose.
    fn is_lossy(&self) -> bool {
        self.script.steps.iter().any(|step| matches!(step.action, Action::Silence))
    }
}

impl Entry {
    /// Whether this entry answers a query.
    pub fn answers(&self, query: &Outgoing) -> bool {
        let Some(own) = &self.question else { return false };
        let Question { name, qtype, .. } = &query.question;
        let m = &self.matches;
        let transport = m.tcp.is_none_or(|tcp| tcp == query.tcp);
        transport
            && (!(m.qname || m.all) || own.name == *name)
            && (!(m.qtype || m.all) || own.qtype == *qtype)
            && (!m.subdomain || own.name.zone_of(name))
    }

    pub fn response(&self) -> Response {
        Response { flags: self.flags, rcode: self.rcode, sections: self.sections.clone() }
    }
}

/// Whether a question belongs to a zone's servers; for DS, to the parent's servers.
fn is_above(zone: &Name, question: &Question) -> bool {
    let own = *zone == question.name;
    zone.zone_of(&question.name) && (zone.is_root() || !own || question.qtype != DS)
}

/// Returns the zone that a response of the servers of `zone` refers to.
fn referral(response: &Response, zone: &Name, question: &Question) -> Option<Name> {
    let [answer, authority, _] = &response.sections;
    let says_something = answer.iter().any(|record| record.owner == question.name);
    if response.rcode != 0 || says_something || authority.iter().any(|record| record.rtype == SOA) {
        return None;
    }
    let below = |record: &&Record| {
        let owner = &record.owner;
        record.rtype == NS && owner != zone && zone.zone_of(owner) && is_above(owner, question)
    };
    authority.iter().find(below).map(|record| record.owner.clone())
}
