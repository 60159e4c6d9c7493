//! What an upstream says beyond what it was asked.
//!
//! An answer is filed under its question alone, so what else a response says can be believed of no other name here. It would be
//! handed to clients all the same, who may be less careful (RFC 5452 section 6, RFC 2181 section 5.4.1). So only what belongs
//! to the answer is kept: records of the name asked for and of those that it is an alias of, the proofs that come with them, and
//! the addresses of names that these mention.

use hickory_proto::{
    op::Message,
    rr::{Name, RData, Record, RecordType},
};
use std::collections::HashSet;

/// Aliases that are followed; no sound answer has as many (Unbound follows 11).
const ALIASES_MAX: usize = 32;

/// The aliases of an answer go round in a circle, or on for longer than they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endless;

/// Removes from a response what does not belong to it. True if anything was removed.
pub fn scrub(message: &mut Message) -> Result<bool, Endless> {
    let Some(question) = message.queries.first() else { return Ok(false) };
    let qtype = question.query_type();
    let names = chain(question.name(), qtype, &message.answers)?;
    let before = [message.answers.len(), message.authorities.len(), message.additionals.len()];
    message.answers.retain(|record| answers(record, qtype) && names.contains(&record.name.to_lowercase()));
    message.authorities.retain(|record| match record.record_type() {
        RecordType::SOA | RecordType::NS | RecordType::DS => {
            names.iter().any(|name| record.name.zone_of(name))
        }
        // These carry their own proof, and are of names beside the one that they are about.
        RecordType::NSEC | RecordType::NSEC3 | RecordType::RRSIG => true,
        _ => false,
    });
    let mentioned: HashSet<Name> =
        message.answers.iter().chain(&message.authorities).filter_map(mentions).collect();
    message.additionals.retain(|record| {
        matches!(record.record_type(), RecordType::A | RecordType::AAAA | RecordType::RRSIG)
            && mentioned.contains(&record.name.to_lowercase())
    });
    Ok(before != [message.answers.len(), message.authorities.len(), message.additionals.len()])
}

/// The names that an answer is about, lowercased: the one asked for, and where its aliases lead.
fn chain(name: &Name, qtype: RecordType, answers: &[Record]) -> Result<HashSet<Name>, Endless> {
    let mut name = name.to_lowercase();
    let mut names = HashSet::from([name.clone()]);
    if matches!(qtype, RecordType::CNAME | RecordType::ANY) {
        return Ok(names);
    }
    for _ in 0..=ALIASES_MAX {
        let mut next = None;
        for record in answers {
            match &record.data {
                RData::CNAME(target) if record.name == name => next = Some(target.0.to_lowercase()),
                // The CNAME that it makes comes with it (RFC 6672 section 3.1).
                _ if record.record_type() == RecordType::DNAME && record.name.zone_of(&name) => {
                    names.insert(record.name.to_lowercase());
                }
                _ => {}
            }
        }
        match next {
            None => return Ok(names),
            Some(target) if names.contains(&target) => return Err(Endless),
            Some(target) => {
                names.insert(target.clone());
                name = target;
            }
        }
    }
    Err(Endless)
}

/// Whether a record of this type answers a question of that.
fn answers(record: &Record, qtype: RecordType) -> bool {
    let rtype = record.record_type();
    rtype == qtype
        || matches!(qtype, RecordType::ANY)
        || matches!(rtype, RecordType::CNAME | RecordType::DNAME | RecordType::RRSIG)
}

/// The name whose address a record makes one want.
fn mentions(record: &Record) -> Option<Name> {
    let name = match &record.data {
        RData::NS(name) => &name.0,
        RData::MX(mx) => &mx.exchange,
        RData::SRV(srv) => &srv.target,
        RData::SVCB(svcb) if svcb.target_name.is_root() => &record.name,
        RData::SVCB(svcb) => &svcb.target_name,
        RData::HTTPS(https) if https.0.target_name.is_root() => &record.name,
        RData::HTTPS(https) => &https.0.target_name,
        _ => return None,
    };
    Some(name.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::{
        op::{MessageType, OpCode, Query},
        rr::rdata::{A, CNAME, MX, NS},
    };
    use std::{net::Ipv4Addr, str::FromStr};

    fn name(text: &str) -> Name {
        Name::from_str(text).unwrap()
    }

    fn address(owner: &str) -> Record {
        Record::from_rdata(name(owner), 60, RData::A(A(Ipv4Addr::new(192, 0, 2, 1))))
    }

    fn alias(owner: &str, target: &str) -> Record {
        Record::from_rdata(name(owner), 60, RData::CNAME(CNAME(name(target))))
    }

    fn response(qtype: RecordType, answers: Vec<Record>) -> Message {
        let mut message = Message::new(0, MessageType::Response, OpCode::Query);
        message.add_query(Query::query(name("www.example."), qtype));
        message.answers = answers;
        message
    }

    fn owners(records: &[Record]) -> Vec<String> {
        records.iter().map(|record| record.name.to_string()).collect()
    }

    #[test]
    fn what_belongs_to_the_answer_stays() {
        let chain =
            vec![alias("WWW.example.", "a.example."), alias("a.example.", "b.test."), address("b.test.")];
        let mut message = response(RecordType::A, chain);
        let ns = Record::from_rdata(name("test."), 60, RData::NS(NS(name("ns.test."))));
        message.authorities = vec![ns];
        message.additionals = vec![address("NS.test.")];
        assert_eq!(scrub(&mut message), Ok(false));

        let mx = Record::from_rdata(name("www.example."), 60, RData::MX(MX::new(1, name("mail.test."))));
        let mut message = response(RecordType::MX, vec![mx]);
        message.additionals = vec![address("mail.test.")];
        assert_eq!(scrub(&mut message), Ok(false));
    }

    #[test]
    fn what_does_not_goes() {
        let mut message = response(RecordType::A, vec![address("bank.test."), address("www.example.")]);
        let ns = |zone: &str| Record::from_rdata(name(zone), 60, RData::NS(NS(name("ns.evil.test."))));
        message.authorities = vec![ns("example."), ns("bank.test."), address("example.")];
        message.additionals = vec![address("bank.test."), address("ns.evil.test.")];
        assert_eq!(scrub(&mut message), Ok(true));
        assert_eq!(owners(&message.answers), ["www.example."]);
        assert_eq!(owners(&message.authorities), ["example."]);
        assert_eq!(owners(&message.additionals), ["ns.evil.test."]);

        let mx = Record::from_rdata(name("www.example."), 60, RData::MX(MX::new(1, name("mail.test."))));
        let mut message = response(RecordType::A, vec![address("www.example."), mx]);
        assert_eq!(scrub(&mut message), Ok(true), "of another type than was asked for");
        assert_eq!(message.answers.len(), 1);
    }

    #[test]
    fn circles_and_endless_aliases_are_no_answers() {
        let circle = vec![alias("www.example.", "a.example."), alias("a.example.", "www.example.")];
        assert_eq!(scrub(&mut response(RecordType::A, circle)), Err(Endless));
        let itself = vec![alias("www.example.", "www.example.")];
        assert_eq!(scrub(&mut response(RecordType::A, itself.clone())), Err(Endless));
        assert_eq!(scrub(&mut response(RecordType::CNAME, itself)), Ok(false), "it is what was asked for");
        let mut long = vec![alias("www.example.", "0.example.")];
        long.extend(
            (0..ALIASES_MAX).map(|i| alias(&format!("{i}.example."), &format!("{}.example.", i + 1))),
        );
        assert_eq!(scrub(&mut response(RecordType::A, long.clone())), Err(Endless));
        long.pop();
        assert_eq!(scrub(&mut response(RecordType::A, long)), Ok(false));
    }
}
