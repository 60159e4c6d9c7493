//! Small Internet: zones with the data that real ones have, and the answers of a recursive resolver
//! about all of it.
//!
//! Every name's data follows from the name alone. The first label of a name decides its records:
//! see [`zone`].

mod zone;

use super::{Answering, Over};
use crate::{question::wire_name, synthetic::fingerprint};
use anyhow::{Result, ensure};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata::CNAME},
    serialize::binary::BinEncodable,
};
use std::collections::HashSet;
use zone::{Kind, Node, Zone, alias};

/// Size that is advertised and kept over UDP, in bytes (RFC 9715).
const UDP_SIZE: u16 = 1232;
/// Longest chain of aliases that is served.
const CHAIN: usize = 12;

/// All zones, and the names above them.
#[derive(Debug)]
pub struct World {
    apexes: HashSet<Name>,
    /// Names above zones, such as `com.`, and the root.
    above: HashSet<Name>,
}

/// Records that answer a question.
#[derive(Debug, Default)]
struct Found {
    status: Option<ResponseCode>,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
    /// Whether all of them are signed.
    secure: bool,
}

impl World {
    /// Returns a world of these zones.
    pub fn new<'a>(apexes: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut world = World { apexes: HashSet::new(), above: HashSet::from([Name::root()]) };
        for apex in apexes {
            // Checks the length too.
            wire_name(apex)?;
            let mut apex = Name::from_ascii(apex)?.to_lowercase();
            apex.set_fqdn(true);
            let mut above = apex.base_name();
            while world.above.insert(above.clone()) {
                above = above.base_name();
            }
            world.apexes.insert(apex);
        }
        ensure!(!world.apexes.is_empty(), "a world of no zones: is the list of names empty?");
        Ok(world)
    }

    /// Returns the zone of a name.
    fn zone(&self, name: &Name) -> Zone {
        let mut apex = name.to_lowercase();
        while !self.apexes.contains(&apex) && !self.above.contains(&apex) {
            apex = apex.base_name();
        }
        let is_leaf = self.apexes.contains(&apex);
        Zone::new(apex, is_leaf)
    }

    /// Follows aliases to their end, and returns all records on the way.
    fn find(&self, question: &Query, dnssec_ok: bool) -> Found {
        let mut found = Found { secure: true, ..Found::default() };
        let mut name = question.name.clone();
        for _ in 0..CHAIN {
            let qtype = question.query_type;
            let mut zone = self.zone(&name);
            let mut node = zone.node(&name);
            if qtype == RecordType::DS && *zone.apex() == name && !name.is_root() {
                // RFC 4035 section 3.1.4.1: the parent zone has it.
                zone = self.zone(&name.base_name());
                node = Node::Owner(Kind::Empty);
            }
            found.secure &= zone.is_signed();
            match node {
                Node::Status(status) => {
                    return Found { status: Some(status), ..Found::default() };
                }
                Node::Missing => {
                    found.status = Some(ResponseCode::NXDomain);
                    zone.deny(&name, false, dnssec_ok, &mut found.authorities);
                    return found;
                }
                Node::Below(dname) => {
                    let Some(next) = substituted(&name, &dname.owner, &dname.target) else { break };
                    let data = zone.data(&dname.owner, &Kind::Dname, RecordType::DNAME);
                    zone.append(&dname.owner, data, dnssec_ok, &mut found.answers);
                    let synthesised = RData::CNAME(CNAME(next.clone()));
                    found.answers.push(Record::from_rdata(name, zone.ttl(&dname.owner), synthesised));
                    if matches!(qtype, RecordType::CNAME | RecordType::ANY) {
                        return found;
                    }
                    name = next;
                }
                Node::Alias(target) => {
                    zone.append(&name, alias(&target), dnssec_ok, &mut found.answers);
                    if qtype == RecordType::CNAME || qtype == RecordType::ANY {
                        return found;
                    }
                    name = target;
                }
                Node::Owner(owner) => {
                    let data = zone.data(&name, &owner, qtype);
                    if data.is_empty() {
                        zone.deny(&name, true, dnssec_ok, &mut found.authorities);
                    } else {
                        zone.append(&name, data, dnssec_ok, &mut found.answers);
                        zone.talk(dnssec_ok, &mut found.authorities, &mut found.additionals);
                    }
                    return found;
                }
            }
        }
        found
    }

    fn respond(&self, query: &Message) -> Message {
        let mut response = Message::new(query.metadata.id, MessageType::Response, query.metadata.op_code);
        response.metadata.recursion_desired = query.metadata.recursion_desired;
        response.metadata.recursion_available = true;
        response.metadata.checking_disabled = query.metadata.checking_disabled;
        let dnssec_ok = query.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        if let Some(edns) = &query.edns {
            let mut own = Edns::new();
            own.set_max_payload(UDP_SIZE).set_dnssec_ok(edns.flags().dnssec_ok);
            response.set_edns(own);
        }
        let [question] = query.queries.as_slice() else {
            response.metadata.response_code = ResponseCode::FormErr;
            return response;
        };
        response.add_query(question.clone());
        response.metadata.response_code = if query.metadata.op_code != OpCode::Query {
            ResponseCode::NotImp
        } else if question.query_class != DNSClass::IN || is_meta(question.query_type) {
            ResponseCode::Refused
        } else {
            let found = self.find(question, dnssec_ok);
            let asked = dnssec_ok || query.metadata.authentic_data;
            response.metadata.authentic_data = found.secure && asked;
            response.insert_answers(found.answers);
            response.insert_authorities(found.authorities);
            response.insert_additionals(found.additionals);
            found.status.unwrap_or(ResponseCode::NoError)
        };
        response
    }
}

impl Answering for World {
    fn answer(&self, query: &[u8], over: Over, reply: &mut Vec<u8>) -> bool {
        reply.clear();
        // A query that cannot be parsed gets no answer: forwarders do not send such queries.
        let Ok(query) = Message::from_vec(query) else { return false };
        if query.metadata.message_type != MessageType::Query {
            return false;
        }
        let response = self.respond(&query);
        let limit = match over {
            Over::Udp => query.edns.as_ref().map_or(512, |edns| edns.max_payload().clamp(512, UDP_SIZE)),
            Over::Tcp => u16::MAX,
        };
        let Ok(whole) = response.to_vec() else { return false };
        if whole.len() <= usize::from(limit) {
            *reply = whole;
            return true;
        }
        let Ok(cut) = response.truncate().to_vec() else { return false };
        *reply = cut;
        // `truncate` makes a message with an ID of its own.
        reply[..2].copy_from_slice(&response.metadata.id.to_be_bytes());
        reply[2] |= 0x80;
        true
    }
}

/// Whether a type asks for no data (RFC 6895 section 3.1); ANY does not count.
fn is_meta(qtype: RecordType) -> bool {
    matches!(u16::from(qtype), 0 | 41 | 128..=254)
}

/// Returns a DNAME's alias for a name below it (RFC 6672 section 2.2).
fn substituted(name: &Name, owner: &Name, target: &Name) -> Option<Name> {
    let labels = usize::from(name.num_labels() - owner.num_labels());
    let mut kept = Name::from_labels(name.iter().take(labels)).ok()?;
    kept.set_fqdn(false);
    kept.append_domain(target).ok()
}

/// Returns a name in wire form without compression.
fn wire(name: &Name) -> Vec<u8> {
    // A name that was parsed or made fits.
    name.to_bytes().unwrap_or_else(|_| vec![0])
}

fn hash(name: &Name) -> u64 {
    fingerprint(&wire(name))
}

#[cfg(test)]
mod tests;
