//! Removes records from a response that were not asked for.
//!
//! An answer is kept under its question alone, so the other records of a response affect no other
//! name here. But they would be passed on to clients, which may be less careful (RFC 5452 section
//! 6, RFC 2181 section 5.4.1). So only records that belong to the answer are kept: those of the
//! name in the question and of the names that it is an alias of, the proofs that come with them,
//! and the addresses of names that these mention.

use hickory_proto::{
    op::Message,
    rr::{Name, RData, Record, RecordType},
};
use std::collections::{HashMap, HashSet};

/// Most aliases that are followed; no sound answer has as many (Unbound follows 11).
const ALIASES_MAX: usize = 32;

/// Error: the aliases of an answer form a loop, or are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endless;

/// Result of scrubbing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Whether records were removed, or TTLs made equal.
    pub changed: bool,
    /// Target of the aliases, lowercased, if the response says nothing about that name.
    pub leads_to: Option<Name>,
}

/// Removes from a response the records that do not belong to it, and signatures and proofs for
/// clients that did not ask for them by DO or by their type (RFC 4035 section 3.2.1).
pub fn scrub(message: &mut Message, dnssec_ok: bool) -> Result<Scrubbed, Endless> {
    let Some(question) = message.queries.first() else { return Ok(Scrubbed::default()) };
    let (qtype, class) = (question.query_type(), question.query_class());
    let AliasChain { names, makers, last } = AliasChain::of(question.name(), qtype, &message.answers)?;
    let before = [message.answers.len(), message.authorities.len(), message.additionals.len()];
    for section in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
        section.retain(|record| {
            let rtype = record.record_type();
            let wanted = dnssec_ok || !is_proof(rtype) || rtype == qtype || qtype == RecordType::ANY;
            wanted && record.dns_class == class
        });
    }
    message.answers.retain(|record| {
        let owner = record.name.to_lowercase();
        answers(record, qtype) && (names.contains(&owner) || makers.contains(&owner))
    });
    message.authorities.retain(|record| match record.record_type() {
        RecordType::SOA | RecordType::NS | RecordType::DS => {
            names.iter().any(|name| record.name.zone_of(name))
        }
        // Proofs carry their own signatures, and their owners are next to the name that they are
        // about.
        rtype => is_proof(rtype),
    });
    let mentioned: HashSet<Name> =
        message.answers.iter().chain(&message.authorities).filter_map(mentions).collect();
    message.additionals.retain(|record| {
        matches!(record.record_type(), RecordType::A | RecordType::AAAA | RecordType::RRSIG)
            && mentioned.contains(&record.name.to_lowercase())
    });
    let mut levelled = false;
    for section in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
        levelled |= level(section);
    }
    let told = message.answers.iter().any(|record| record.name == last && record.record_type() == qtype)
        || message
            .authorities
            .iter()
            .any(|record| record.record_type() == RecordType::SOA && record.name.zone_of(&last));
    Ok(Scrubbed {
        changed: levelled
            || before != [message.answers.len(), message.authorities.len(), message.additionals.len()],
        leads_to: (names.len() > 1 && !told).then_some(last),
    })
}

/// Gives the records of each set one TTL, the least (RFC 2181 section 5.2), wherever they stand and
/// however they are spelled. Returns whether any had another.
fn level(section: &mut [Record]) -> bool {
    let Some(first) = section.first() else { return false };
    if section.iter().all(|record| record.ttl == first.ttl) {
        return false;
    }
    // A TTL with its top bit set counts as zero (RFC 2181 section 8).
    let sane = |ttl: u32| if ttl > i32::MAX as u32 { 0 } else { ttl };
    let mut least = HashMap::new();
    // Signatures of one name cover different sets.
    for record in section.iter().filter(|record| record.record_type() != RecordType::RRSIG) {
        let ttl = least.entry((record.name.clone(), record.record_type())).or_insert(u32::MAX);
        *ttl = sane(record.ttl).min(*ttl);
    }
    let mut levelled = false;
    for record in section {
        let Some(ttl) = least.get(&(record.name.clone(), record.record_type())) else { continue };
        levelled |= record.ttl != *ttl;
        record.ttl = *ttl;
    }
    levelled
}

/// Names that an answer is about, lowercased.
struct AliasChain {
    /// Name in the question, and the targets of its aliases.
    names: HashSet<Name>,
    /// Owners of the DNAME records that made aliases of some names.
    makers: HashSet<Name>,
    /// Last name of the chain.
    last: Name,
}

impl AliasChain {
    fn of(name: &Name, qtype: RecordType, answers: &[Record]) -> Result<Self, Endless> {
        let first = name.to_lowercase();
        let mut chain =
            AliasChain { names: HashSet::from([first.clone()]), makers: HashSet::new(), last: first };
        for _ in 0..=ALIASES_MAX {
            let mut next = None;
            for record in answers {
                match &record.data {
                    RData::CNAME(target) if record.name == chain.last => next = Some(target.0.to_lowercase()),
                    // The CNAME that the DNAME makes comes with it (RFC 6672 section 3.1).
                    _ if record.record_type() == RecordType::DNAME && record.name.zone_of(&chain.last) => {
                        chain.makers.insert(record.name.to_lowercase());
                    }
                    _ => {}
                }
            }
            match next.filter(|_| !matches!(qtype, RecordType::CNAME | RecordType::ANY)) {
                None => return Ok(chain),
                Some(target) if !chain.names.insert(target.clone()) => return Err(Endless),
                Some(target) => chain.last = target,
            }
        }
        Err(Endless)
    }
}

/// Whether records of this type prove other records, or that there are none.
fn is_proof(rtype: RecordType) -> bool {
    matches!(rtype, RecordType::RRSIG | RecordType::NSEC | RecordType::NSEC3)
}

/// Whether a record answers a question of the type `qtype`.
fn answers(record: &Record, qtype: RecordType) -> bool {
    let rtype = record.record_type();
    rtype == qtype
        || matches!(qtype, RecordType::ANY)
        || matches!(rtype, RecordType::CNAME | RecordType::DNAME | RecordType::RRSIG)
}

/// Returns the name whose address a record makes useful.
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
        rr::{
            DNSClass,
            rdata::{A, CNAME, MX, NS, NULL, SOA, TXT},
        },
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

    fn changed(message: &mut Message) -> Result<bool, Endless> {
        scrub(message, true).map(|scrubbed| scrubbed.changed)
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
        assert_eq!(changed(&mut message), Ok(false));

        let mx = Record::from_rdata(name("www.example."), 60, RData::MX(MX::new(1, name("mail.test."))));
        let mut message = response(RecordType::MX, vec![mx]);
        message.additionals = vec![address("mail.test.")];
        assert_eq!(changed(&mut message), Ok(false));
    }

    #[test]
    fn what_does_not_goes() {
        let mut message = response(RecordType::A, vec![address("bank.test."), address("www.example.")]);
        let ns = |zone: &str| Record::from_rdata(name(zone), 60, RData::NS(NS(name("ns.evil.test."))));
        message.authorities = vec![ns("example."), ns("bank.test."), address("example.")];
        message.additionals = vec![address("bank.test."), address("ns.evil.test.")];
        assert_eq!(changed(&mut message), Ok(true));
        assert_eq!(owners(&message.answers), ["www.example."]);
        assert_eq!(owners(&message.authorities), ["example."]);
        assert_eq!(owners(&message.additionals), ["ns.evil.test."]);

        let mx = Record::from_rdata(name("www.example."), 60, RData::MX(MX::new(1, name("mail.test."))));
        let mut message = response(RecordType::A, vec![address("www.example."), mx]);
        assert_eq!(changed(&mut message), Ok(true), "of another type than was asked for");
        assert_eq!(message.answers.len(), 1);
    }

    #[test]
    fn circles_and_endless_aliases_are_no_answers() {
        let circle = vec![alias("www.example.", "a.example."), alias("a.example.", "www.example.")];
        assert_eq!(changed(&mut response(RecordType::A, circle)), Err(Endless));
        let itself = vec![alias("www.example.", "www.example.")];
        assert_eq!(changed(&mut response(RecordType::A, itself.clone())), Err(Endless));
        assert_eq!(changed(&mut response(RecordType::CNAME, itself)), Ok(false), "it is what was asked for");
        let mut long = vec![alias("www.example.", "0.example.")];
        long.extend(
            (0..ALIASES_MAX).map(|i| alias(&format!("{i}.example."), &format!("{}.example.", i + 1))),
        );
        assert_eq!(changed(&mut response(RecordType::A, long.clone())), Err(Endless));
        long.pop();
        assert_eq!(changed(&mut response(RecordType::A, long)), Ok(false));
    }

    #[test]
    fn the_dname_that_makes_an_alias_stays_with_it() {
        // DNAME sub.example. to example., as decoded: of a type that the library does not know.
        let data = b"\x07example\x00".to_vec();
        let data = RData::Unknown { code: RecordType::DNAME, rdata: NULL::with(data) };
        let dname = Record::from_rdata(name("sub.example."), 60, data);
        for (qtype, end) in [(RecordType::A, true), (RecordType::CNAME, false)] {
            // The alias leads to the owner of the DNAME, and that is no circle.
            let mut answers = vec![dname.clone(), alias("sub.sub.example.", "sub.example.")];
            answers.extend(end.then(|| address("sub.example.")));
            let mut message = response(qtype, answers);
            message.queries[0].set_name(name("sub.sub.example."));
            assert_eq!(changed(&mut message), Ok(false), "{qtype}");
        }
    }

    #[test]
    fn any_takes_records_of_every_type_of_the_name_and_of_no_other() {
        let note = Record::from_rdata(name("www.example."), 60, RData::TXT(TXT::new(vec!["note".into()])));
        let answers = vec![address("www.example."), note, address("other.example.")];
        let mut message = response(RecordType::ANY, answers);
        assert_eq!(changed(&mut message), Ok(true));
        assert_eq!(owners(&message.answers), ["www.example."; 2]);
    }

    #[test]
    fn the_records_of_a_set_have_one_ttl_wherever_they_stand() {
        let with_ttl = |ttl, mut record: Record| {
            record.ttl = ttl;
            record
        };
        let (alias, other) = (alias("www.example.", "host.example."), alias("HOST.example.", "b.example."));
        let mut message = response(
            RecordType::A,
            vec![
                with_ttl(300, alias),
                with_ttl(200, other),
                with_ttl(60, address("b.example.")),
                with_ttl(20, address("B.example.")),
                with_ttl(1 << 31, address("www.example.")),
            ],
        );
        assert_eq!(changed(&mut message), Ok(true));
        let ttls: Vec<_> = message.answers.iter().map(|record| record.ttl).collect();
        assert_eq!(ttls, [300, 200, 20, 20, 0]);
        assert_eq!(changed(&mut message), Ok(false), "they have it now");
    }

    #[test]
    fn records_of_another_class_go() {
        let mut chaos = address("www.example.");
        chaos.dns_class = DNSClass::CH;
        let mut message = response(RecordType::A, vec![chaos, address("www.example.")]);
        assert_eq!((changed(&mut message), message.answers.len()), (Ok(true), 1));
    }

    #[test]
    fn an_alias_leads_out_where_nothing_is_said_of_its_target() {
        let leads_to = |qtype, answers: Vec<Record>, zone: Option<&str>| {
            let mut message = response(qtype, answers);
            message.authorities.extend(zone.map(|zone| {
                let soa = SOA::new(name(zone), name("nobody.invalid."), 1, 1, 1, 1, 1);
                Record::from_rdata(name(zone), 60, RData::SOA(soa))
            }));
            scrub(&mut message, true).unwrap().leads_to
        };
        let bare = || vec![alias("www.example.", "Www.Test.")];
        let whole = || vec![alias("www.example.", "www.test."), address("www.test.")];
        assert_eq!(leads_to(RecordType::A, bare(), None), Some(name("www.test.")));
        assert_eq!(leads_to(RecordType::A, bare(), Some("example.")), Some(name("www.test.")));
        assert_eq!(leads_to(RecordType::A, bare(), Some("test.")), None, "there is no such record");
        assert_eq!(leads_to(RecordType::A, whole(), None), None);
        assert_eq!(leads_to(RecordType::AAAA, whole(), None), Some(name("www.test.")));
        assert_eq!(leads_to(RecordType::CNAME, bare(), None), None);
        assert_eq!(leads_to(RecordType::A, vec![], None), None);
    }
}
