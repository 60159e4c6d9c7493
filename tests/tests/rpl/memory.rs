//! Records that the recursor has learnt from servers. They answer questions for which the file has
//! no answer because Unbound does not ask them.

use std::collections::BTreeMap;

use hickory_proto::rr::Name;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ringdns_testkit::scenario::{Record, name_at, wire_name};

use crate::response::{CNAME, DNAME, DS, NSEC, NSEC3, RRSIG, Response, SOA, is_of, is_proof};
use crate::script::Question;

/// Records from answers, and denials.
#[derive(Default)]
pub struct Memory {
    /// RRsets with their signatures.
    sets: BTreeMap<(Name, u16), Vec<Record>>,
    /// Negative responses, by name and type.
    denials: BTreeMap<(Name, u16), Response>,
    /// Proofs of denials with their signatures, and SOA records.
    proofs: Vec<Record>,
}

impl Memory {
    /// Stores a response from a zone's own servers.
    pub fn keep(&mut self, question: &Question, response: &Response) {
        let [answer, authority, _] = &response.sections;
        for set in answer.iter().filter(|record| record.rtype != RRSIG) {
            let of_set = |record: &&Record| record.owner == set.owner && is_of(record, set.rtype);
            let records = answer.iter().filter(of_set).cloned().collect();
            self.sets.insert((set.owner.clone(), set.rtype), records);
        }
        if answer.is_empty() {
            self.denials.insert((question.name.clone(), question.qtype), response.clone());
        }
        self.keep_proofs(authority);
    }

    /// Stores the proofs of a denial.
    pub fn keep_proofs(&mut self, authority: &[Record]) {
        for record in authority.iter().filter(|record| is_proof(record) || is_of(record, SOA)) {
            if !self.proofs.contains(record) {
                self.proofs.push(record.clone());
            }
        }
    }

    /// Answers a question from the stored records: with records, an alias, or a denial.
    pub fn answer(&self, question: &Question) -> Option<Response> {
        let Question { name, qtype, .. } = question;
        let set = |name: &Name, rtype: u16| self.sets.get(&(name.clone(), rtype)).cloned();
        let with = |answer: Vec<Record>| Response {
            sections: [answer, Vec::new(), Vec::new()],
            ..Response::default()
        };
        set(name, *qtype)
            .or_else(|| set(name, CNAME))
            .or_else(|| self.made_of_dname(name))
            .map(with)
            .or_else(|| self.denials.get(&(name.clone(), *qtype)).cloned())
            .or_else(|| self.no_ds(question))
    }

    /// Returns the alias that a DNAME above a name produces (RFC 6672 section 3.1).
    fn made_of_dname(&self, name: &Name) -> Option<Vec<Record>> {
        let above = (0..name.num_labels()).rev().map(|labels| name.trim_to(usize::from(labels)));
        let mut records = above.filter_map(|above| self.sets.get(&(above, DNAME))).next()?.clone();
        let dname = records.iter().find(|record| record.rtype == DNAME)?;
        let own = usize::from(name.num_labels() - dname.owner.num_labels());
        let target = name_at(&dname.data, 0)?;
        let made = Name::from_labels(name.iter().take(own)).ok()?.append_domain(&target).ok()?;
        let data = wire_name(&made).ok()?;
        records.push(Record { owner: name.clone(), rtype: CNAME, data, ..dname.clone() });
        Some(records)
    }

    /// Denies DS with a stored record that matches the name (RFC 8198 section 5.2).
    fn no_ds(&self, question: &Question) -> Option<Response> {
        let name = &question.name;
        let denies = |record: &&Record| match record.rtype {
            NSEC => record.owner == *name,
            NSEC3 => hashed(name, &record.data).is_some_and(|hash| {
                let label = data_encoding::BASE32HEX_NOPAD.encode(&hash).to_ascii_lowercase();
                let zone = record.owner.base_name();
                zone.zone_of(name)
                    && zone.prepend_label(label.as_bytes()).is_ok_and(|owner| owner == record.owner)
            }),
            _ => false,
        };
        let denial = self.proofs.iter().find(denies).filter(|_| question.qtype == DS)?;
        let of_proof = |record: &&Record| {
            let soa = is_of(record, SOA) && record.owner.zone_of(name) && record.owner != *name;
            soa || record.owner == denial.owner && is_of(record, denial.rtype)
        };
        let authority = self.proofs.iter().filter(of_proof).cloned().collect();
        Some(Response { sections: [Vec::new(), authority, Vec::new()], ..Response::default() })
    }
}

/// Returns the hash of a name with the parameters of an NSEC3 record (RFC 5155 section 5).
fn hashed(name: &Name, nsec3: &[u8]) -> Option<Vec<u8>> {
    let [_, _, i1, i0, length, rest @ ..] = nsec3 else { return None };
    let salt = rest.get(..usize::from(*length))?;
    let once = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, &[bytes, salt].concat()).as_ref().to_vec();
    let first = once(&wire_name(&name.to_lowercase()).ok()?);
    Some((0..u16::from_be_bytes([*i1, *i0])).fold(first, |hash, _| once(&hash)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::record;
    use ringdns_testkit::scenario::name_of;

    fn records(lines: &[&str]) -> Vec<Record> {
        lines.iter().map(|line| record(line, ".").unwrap()).collect()
    }

    fn question(name: &str, qtype: u16) -> Question {
        Question { name: name_of(name).unwrap(), qtype, class: 1 }
    }

    #[test]
    fn names_below_a_dname_are_aliases() {
        let mut memory = Memory::default();
        let answer = records(&["a.example. IN DNAME b.example."]);
        memory.keep(
            &question("a.example.", DNAME),
            &Response { sections: [answer, vec![], vec![]], ..Response::default() },
        );
        let made = memory.answer(&question("x.y.a.example.", 1)).unwrap();
        let made: Vec<String> = made.sections[0].iter().map(Record::to_string).collect();
        assert_eq!(
            made,
            ["a.example. 3600 IN DNAME b.example.", "x.y.a.example. 3600 IN CNAME x.y.b.example."]
        );
        assert_eq!(memory.answer(&question("x.example.", 1)), None);
    }

    /// Checks the hash of ns1.example in RFC 5155 appendix A: 2t7b4g4vsa5smi47k61mv5bv1a22bojr.
    #[test]
    fn denials_are_found_by_hash() {
        let mut memory = Memory::default();
        memory.keep_proofs(&records(&[
            "example. IN SOA ns1.example. bugs.x.w.example. 1 3600 300 3600000 3600",
            "2t7b4g4vsa5smi47k61mv5bv1a22bojr.example. IN NSEC3 1 1 12 aabbccdd 2vptu5timamqttgl4luu9kg21e0aor3s A RRSIG",
        ]));
        let denial = memory.answer(&question("ns1.example.", DS)).unwrap();
        assert_eq!((denial.sections[0].len(), denial.sections[1].len()), (0, 2));
        assert_eq!(memory.answer(&question("ns2.example.", DS)), None);
        assert_eq!(memory.answer(&question("ns1.example.", 1)), None);
    }
}
