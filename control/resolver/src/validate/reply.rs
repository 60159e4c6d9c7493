//! Writes a verdict as the message that an upstream would have sent.

use crate::message::Names;
use ringdns_dataplane::dns::{
    header,
    key::{Asked, Key},
    rtype,
};
use ringdns_dnssec::{ProvenAnswer, ProvenRecord};

/// Writes the proven records as a response to a question, without proofs for clients that did not
/// ask for them (RFC 4035 section 3.2.1). `None`: the response is too long.
pub fn message(key: &Key, verdict: &ProvenAnswer) -> Option<Vec<u8>> {
    let asked = key.asked();
    let is_wanted = |record: &&ProvenRecord| is_wanted(&asked, record.rtype);
    let answers: Vec<_> = verdict.answers.iter().filter(is_wanted).collect();
    let authorities: Vec<_> = verdict.authorities.iter().filter(is_wanted).collect();
    let authentic = if verdict.secure { header::AD } else { 0 };
    let flags = header::QR | header::RD | authentic | u16::from(verdict.rcode);
    let mut message = Vec::with_capacity(512);
    let counts = [u16::try_from(answers.len()).ok()?, u16::try_from(authorities.len()).ok()?];
    for word in [0, flags, 1, counts[0], counts[1], 0] {
        message.extend_from_slice(&word.to_be_bytes());
    }
    message.extend_from_slice(key.question());
    let mut names = Names::of(asked.name());
    for record in answers.into_iter().chain(authorities) {
        names.write_owner(&record.owner, &mut message);
        message.extend_from_slice(&record.rtype.to_be_bytes());
        message.extend_from_slice(&[0, 1]);
        message.extend_from_slice(&record.ttl.to_be_bytes());
        names.write_rdata(record.rtype, &record.rdata, &mut message)?;
    }
    (message.len() <= usize::from(u16::MAX)).then_some(message)
}

fn is_wanted(asked: &Asked<'_>, rtype: u16) -> bool {
    let is_proof = matches!(rtype, rtype::RRSIG | rtype::NSEC | rtype::NSEC3);
    asked.dnssec_ok() || !is_proof || rtype == asked.qtype() || asked.qtype() == rtype::ANY
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Message;
    use ringdns_common::names;

    fn record(owner: &str, rtype: u16) -> ProvenRecord {
        ProvenRecord { owner: names::name(owner).unwrap(), rtype, ttl: 60, rdata: vec![192, 0, 2, 1] }
    }

    #[test]
    fn names_point_to_those_before_them() {
        let key = names::key(&names::name("www.a.example").unwrap(), 1, true, true).unwrap();
        let mut spelled = record("www.a.example", 1);
        spelled.owner[1] = b'W';
        let owners = ["a.example", "b.example", "x.b.example", "b.example", "test", "x.b.test", "aaexample"];
        let mut records = vec![spelled];
        records.extend(owners.map(|owner| record(owner, 1)));
        let verdict =
            ProvenAnswer { rcode: 3, secure: true, authorities: records, ..ProvenAnswer::default() };
        let bytes = message(&key, &verdict).unwrap();
        let read = Message::from_vec(&bytes).unwrap();
        let seen: Vec<_> =
            read.authorities.iter().map(|record| record.name.to_lowercase().to_string()).collect();
        let expected: Vec<_> =
            ["www.a.example"].iter().chain(&owners).map(|name| format!("{name}.")).collect();
        assert_eq!(seen, expected);
        assert!(read.metadata.authentic_data && u16::from(read.metadata.response_code) == 3);
        let names = [2, 2, 4, 4, 2, 6, 6, 11];
        assert_eq!(bytes.len(), 12 + key.question().len() + 14 * names.len() + names.iter().sum::<usize>());
    }

    #[test]
    fn proofs_are_for_who_asked_for_them() {
        let records = [1, rtype::RRSIG, 47, 50].map(|rtype| record("www.example", rtype)).to_vec();
        let verdict = ProvenAnswer { answers: records, ..ProvenAnswer::default() };
        for (qtype, dnssec_ok, count) in [(1, true, 4), (1, false, 1), (47, false, 2), (255, false, 4)] {
            let key = names::key(&names::name("www.example").unwrap(), qtype, dnssec_ok, false).unwrap();
            let bytes = message(&key, &verdict).unwrap();
            assert_eq!(bytes[7], count, "{qtype} {dnssec_ok}");
        }
    }
}
