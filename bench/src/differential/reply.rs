//! Replies taken apart and compared field by field.

use hickory_proto::{
    op::Message,
    rr::{Record, RecordType},
    serialize::binary::BinEncodable,
};
use ringdns_testkit::scenario::{rcode_text, type_text};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

/// Field in which replies can differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    /// Whether there is a reply.
    Answered,
    /// Whether the reply can be parsed.
    Readable,
    Opcode,
    Rcode,
    Question,
    Tc,
    Aa,
    Rd,
    Ra,
    Z,
    Ad,
    Cd,
    /// Sets of records, by owner and type, without TTLs.
    Answer,
    /// Whether aliases come before the names that they stand for.
    AnswerOrder,
    AnswerTtl,
    Authority,
    AuthorityTtl,
    Additional,
    AdditionalTtl,
    Edns,
    EdnsVersion,
    EdnsDo,
    EdnsFlags,
    EdnsOptions,
    /// Size that the server advertises.
    EdnsSize,
    /// Whether the reply is larger than the client takes.
    TooLong,
}

/// Difference between the replies of ringdns and of another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub field: Field,
    /// Value of ringdns; for records, the types of those that it alone has.
    pub ours: String,
    /// Value of the other server.
    pub theirs: String,
    /// Readable details.
    pub detail: String,
}

/// Set of records: its TTL and data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Set {
    ttl: u32,
    data: BTreeSet<Vec<u8>>,
}

/// Owner and type.
type Key = (String, RecordType);
type Section = BTreeMap<Key, Set>;

/// Normalised reply: no ID, no order, no compression.
#[derive(Clone, Debug)]
pub struct Reply {
    scalars: BTreeMap<Field, String>,
    /// Answer, authority and additional sections; `None` if there is nothing to compare.
    sections: Option<[Section; 3]>,
}

const SECTIONS: [(Field, Field); 3] = [
    (Field::Answer, Field::AnswerTtl),
    (Field::Authority, Field::AuthorityTtl),
    (Field::Additional, Field::AdditionalTtl),
];

impl Reply {
    /// Parses `message`; `None` stands for no reply. The client takes `limit` bytes.
    pub fn read(message: Option<&[u8]>, limit: usize) -> Self {
        let mut scalars = BTreeMap::new();
        let Some(bytes) = message else {
            scalars.insert(Field::Answered, "no".into());
            return Reply { scalars, sections: None };
        };
        scalars.insert(Field::Answered, "yes".into());
        let read = Message::from_vec(bytes);
        scalars.insert(Field::Readable, if read.is_ok() { "yes" } else { "no" }.into());
        let Ok(read) = read else { return Reply { scalars, sections: None } };
        let flags = u16::from_be_bytes([bytes[2], bytes[3]]);
        let mut set = |field, value: String| scalars.insert(field, value);
        for (field, bit) in [
            (Field::Aa, 10),
            (Field::Tc, 9),
            (Field::Rd, 8),
            (Field::Ra, 7),
            (Field::Z, 6),
            (Field::Ad, 5),
            (Field::Cd, 4),
        ] {
            set(field, (flags >> bit & 1).to_string());
        }
        set(Field::Opcode, (flags >> 11 & 15).to_string());
        set(Field::Rcode, rcode_text(read.metadata.response_code.into()));
        set(Field::TooLong, if bytes.len() > limit { "yes" } else { "no" }.into());
        // The question keeps its spelling.
        set(
            Field::Question,
            read.queries.iter().fold(String::new(), |text, query| format!("{text}{query} ")),
        );
        set(Field::AnswerOrder, if in_order(&read.answers) { "right" } else { "wrong" }.into());
        set(Field::Edns, if read.edns.is_some() { "yes" } else { "no" }.into());
        if let Some(edns) = &read.edns {
            set(Field::EdnsVersion, edns.version().to_string());
            set(Field::EdnsDo, u8::from(edns.flags().dnssec_ok).to_string());
            set(Field::EdnsFlags, format!("{:04x}", edns.flags().z));
            set(Field::EdnsSize, edns.max_payload().to_string());
            let codes: BTreeSet<u16> =
                edns.options().as_ref().iter().map(|(code, _)| (*code).into()).collect();
            set(Field::EdnsOptions, codes.iter().map(u16::to_string).collect::<Vec<_>>().join(","));
        }
        let sections = [&read.answers, &read.authorities, &read.additionals].map(|records| section(records));
        Reply { scalars, sections: Some(sections) }
    }

    /// Returns the differences of `theirs`. Records are not compared if existence or RCODE of the
    /// answers differ, since they then differ too, nor in truncated replies, which say nothing
    /// about them. TTLs may differ by `tolerance` seconds.
    pub fn differences(&self, theirs: &Reply, tolerance: u32) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (field, ours) in &self.scalars {
            if let Some(theirs) = theirs.scalars.get(field).filter(|theirs| *theirs != ours) {
                let (ours, theirs) = (ours.clone(), theirs.clone());
                differences.push(Difference { field: *field, ours, theirs, detail: String::new() });
            }
        }
        // TC follows from the RCODE.
        if differences.iter().any(|difference| difference.field == Field::Rcode) {
            differences.retain(|difference| difference.field != Field::Tc);
        }
        let is_cut = self.scalars.get(&Field::Tc).is_some_and(|tc| tc == "1");
        if is_cut || differences.iter().any(|difference| difference.field <= Field::Tc) {
            return differences;
        }
        let (Some(ours), Some(theirs)) = (&self.sections, &theirs.sections) else { return differences };
        for ((sets, ttls), (ours, theirs)) in SECTIONS.into_iter().zip(ours.iter().zip(theirs)) {
            differences.extend(compare_sets(sets, ours, theirs));
            differences.extend(compare_ttls(ttls, ours, theirs, tolerance));
        }
        differences
    }
}

fn compare_sets(field: Field, ours: &Section, theirs: &Section) -> Option<Difference> {
    let alone = |one: &Section, other: &Section| {
        let same = |key: &Key, set: &Set| other.get(key).is_some_and(|other| other.data == set.data);
        let alone = one.iter().filter(|(key, set)| !same(key, set)).map(|(key, _)| key.clone());
        alone.collect::<Vec<_>>()
    };
    let types = |keys: &[Key]| {
        let types: BTreeSet<String> = keys.iter().map(|(_, rtype)| named(*rtype)).collect();
        types.into_iter().collect::<Vec<_>>().join(",")
    };
    let (us, them) = (alone(ours, theirs), alone(theirs, ours));
    if us.is_empty() && them.is_empty() {
        return None;
    }
    let mut detail = String::new();
    for (who, keys) in [("ringdns", &us), ("peer", &them)] {
        for (name, rtype) in keys {
            // Writing to a string does not fail.
            let _ = write!(detail, "{who} has {name} {}; ", named(*rtype));
        }
    }
    Some(Difference { field, ours: types(&us), theirs: types(&them), detail })
}

fn compare_ttls(field: Field, ours: &Section, theirs: &Section, tolerance: u32) -> Option<Difference> {
    ours.iter().find_map(|(key, us)| {
        let them = theirs.get(key)?;
        let (ours, theirs) = match us.ttl.cmp(&them.ttl) {
            std::cmp::Ordering::Less => ("lower", "higher"),
            _ => ("higher", "lower"),
        };
        (us.ttl.abs_diff(them.ttl) > tolerance).then(|| Difference {
            field,
            ours: ours.into(),
            theirs: theirs.into(),
            detail: format!("{} {}: ringdns {}, peer {}", key.0, named(key.1), us.ttl, them.ttl),
        })
    })
}

fn section(records: &[Record]) -> Section {
    let mut section = Section::new();
    for record in records {
        let mut owner = record.name.to_lowercase();
        owner.set_fqdn(true);
        let rtype = record.record_type();
        let mut data = record.data.to_bytes().unwrap_or_default();
        // NS, CNAME, SOA, PTR, MX, SRV and DNAME hold names, whose letter case is the server's
        // choice (RFC 4343).
        if matches!(u16::from(rtype), 2 | 5 | 6 | 12 | 15 | 33 | 39) {
            data.make_ascii_lowercase();
        }
        // Signatures form sets by the type that they cover.
        let key = match rtype {
            RecordType::RRSIG => {
                let covered = data.first_chunk::<2>().map_or(0, |bytes| u16::from_be_bytes(*bytes));
                (format!("{owner} ({})", named(covered.into())), rtype)
            }
            _ => (owner.to_ascii(), rtype),
        };
        let set = section.entry(key).or_insert(Set { ttl: record.ttl, ..Set::default() });
        set.ttl = set.ttl.min(record.ttl);
        set.data.insert(data);
    }
    section
}

/// Whether no alias comes after the name that it stands for.
fn in_order(answers: &[Record]) -> bool {
    let mut seen = BTreeSet::new();
    for record in answers {
        seen.insert(record.name.to_lowercase());
        if let hickory_proto::rr::RData::CNAME(target) = &record.data
            && seen.contains(&target.0.to_lowercase())
        {
            return false;
        }
    }
    true
}

fn named(rtype: RecordType) -> String {
    type_text(rtype.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        question::wire_question,
        upstream::{Answering, Over, world::World},
    };

    fn answer(name: &str, qtype: u16) -> Vec<u8> {
        let mut query = vec![0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend(wire_question(name, qtype).unwrap());
        let mut reply = Vec::new();
        assert!(World::new(["example.com"]).unwrap().answer(&query, Over::Tcp, &mut reply));
        reply
    }

    fn fields(ours: &[u8], theirs: Option<&[u8]>, tolerance: u32) -> Vec<Field> {
        let ours = Reply::read(Some(ours), 65_535);
        let differences = ours.differences(&Reply::read(theirs, 65_535), tolerance);
        differences.into_iter().map(|difference| difference.field).collect()
    }

    #[test]
    fn what_is_the_same_does_not_differ_whatever_its_id_and_order() {
        let reply = answer("many.example.com", 1);
        assert_eq!(fields(&reply, Some(&reply), 0), []);
        let mut other = reply.clone();
        other[1] ^= 0xff;
        // Swaps two of the reply's records.
        let length = other.len();
        let last = other.split_off(length - 16);
        other.splice(length - 32..length - 32, last);
        assert_eq!(fields(&reply, Some(&other), 0), []);
    }

    #[test]
    fn each_field_is_seen() {
        let reply = answer("alias.example.com", 1);
        let changed = |at: usize, mask: u8| {
            let mut other = reply.clone();
            other[at] ^= mask;
            fields(&reply, Some(&other), 0)
        };
        assert_eq!(changed(2, 0x04), [Field::Aa]);
        assert_eq!(changed(2, 0x02), [Field::Tc]);
        assert_eq!(changed(3, 0x40), [Field::Z]);
        assert_eq!(changed(3, 0x03), [Field::Rcode]);
        // Changes a letter of the question, and with it of all names that point there: only the
        // question's spelling counts.
        assert_eq!(changed(13, 0x20), [Field::Question]);
        assert_eq!(changed(reply.len() - 1, 0xff), [Field::Answer]);
        assert_eq!(fields(&reply, None, 0), [Field::Answered]);
        assert_eq!(fields(&reply, Some(&reply[..20]), 0), [Field::Readable]);
        let unlike = fields(&reply, Some(&answer("missing.example.com", 1)), 0);
        assert_eq!(unlike, [Field::Rcode, Field::Question], "records of another kind of answer are no news");
        assert!(Reply::read(Some(&reply), 20).scalars[&Field::TooLong] == "yes");
    }

    #[test]
    fn ttls_may_differ_by_the_age_and_no_more() {
        let reply = answer("mail.example.com", 1);
        let mut aged = reply.clone();
        // The first record's TTL follows a pointer, type and class.
        let at = 12 + wire_question("mail.example.com", 1).unwrap().len() + 6;
        aged[at + 3] -= 3;
        assert_eq!(fields(&reply, Some(&aged), 3), []);
        assert_eq!(fields(&reply, Some(&aged), 2), [Field::AnswerTtl]);
    }

    #[test]
    fn an_alias_behind_its_target_is_out_of_order() {
        let message = Message::from_vec(&answer("chain.example.com", 1)).unwrap();
        assert!(message.answers.len() > 7 && in_order(&message.answers));
        let mut turned = message.answers;
        turned.reverse();
        assert!(!in_order(&turned));
    }
}
