//! Compares the reply that a client got with the expected reply in the file.
//!
//! Unbound adds what it happens to know to its answers: NS records and addresses. A forwarder
//! leaves these out, as Unbound does with `minimal-responses`. So the comparison ignores them on
//! both sides: the whole additional section, and everything but proofs in the authority section.

use ringdns_testkit::scenario::{Edns, Message, Record, asked_in, question_text, rcode_text};

use crate::canon::canonical;
use crate::response::{NS, SOA, is_of, is_proof};
use crate::script::{Entry, Question};

const FORMERR: u16 = 1;
const REFUSED: u16 = 5;
const RA: u16 = 0x0080;
const TC: u16 = 0x0200;
const EDE: u16 = 15;
/// Flags that are compared, and their names.
const FLAGS: [(u16, &str); 7] = [
    (0x8000, "QR"),
    (0x0400, "AA"),
    (0x0200, "TC"),
    (0x0100, "RD"),
    (0x0080, "RA"),
    (0x0020, "AD"),
    (0x0010, "CD"),
];

/// Bits that the player sets in a query although the file does not, and that the reply repeats.
#[derive(Clone, Copy, Debug, Default)]
pub struct Added {
    pub flags: u16,
    pub dnssec_ok: bool,
}

/// Returns the differences of `got` from the expected `entry`, one per line.
pub fn differences(entry: &Entry, got: &Message, added: Added) -> Vec<String> {
    let wanted = &entry.matches;
    let mut wrong = Vec::new();
    if (wanted.all || wanted.rcode) && got.rcode != entry.rcode {
        wrong.push(format!("{} where {} is wanted", rcode_text(got.rcode), rcode_text(entry.rcode)));
    }
    if let Some(Question { name, qtype, .. }) = &entry.question
        && let Some((asked, kind, _)) = asked_in(&got.question)
        && ((wanted.all || wanted.qname) && *name != asked || (wanted.all || wanted.qtype) && *qtype != kind)
    {
        wrong.push(format!("an answer to {}", question_text(&got.question)));
    }
    if wanted.all {
        // Unbound leaves RA out of some refusals, where it has no meaning.
        let of_interest = if matches!(entry.rcode, FORMERR | REFUSED) { !RA } else { !0 };
        let flags = |of: u16| {
            FLAGS.iter().filter(|flag| of & of_interest & flag.0 != 0).map(|flag| flag.1).collect::<Vec<_>>()
        };
        let (has, wants) = (flags(got.flags), flags(entry.flags | added.flags));
        if has != wants {
            wrong.push(format!("flags {} where {} are wanted", has.join(" "), wants.join(" ")));
        }
    }
    if wanted.dnssec_ok || wanted.all && entry.options.is_none() {
        let dnssec_ok = got.edns.as_ref().is_some_and(|edns| edns.flags & Edns::DO != 0);
        if dnssec_ok != (entry.dnssec_ok || added.dnssec_ok) {
            wrong.push(format!("DO is {dnssec_ok}"));
        }
    }
    // The remaining records of a truncated message have no meaning.
    let whole = got.flags & entry.flags & TC == 0;
    if (wanted.all || wanted.answer) && whole {
        compare("answer", &entry.sections[0], &got.sections[0], wanted.ttl, &mut wrong);
    }
    if wanted.all && whole {
        let proofs = |section: &[Record]| -> Vec<Record> {
            section.iter().filter(|record| is_of(record, SOA) || is_proof(record)).cloned().collect()
        };
        compare("authority", &proofs(&entry.sections[1]), &proofs(&got.sections[1]), wanted.ttl, &mut wrong);
        let strange = |record: &&Record| !is_of(record, NS) && !is_of(record, SOA) && !is_proof(record);
        for record in got.sections[1].iter().filter(strange) {
            if !entry.sections[1].iter().any(|wanted| same(wanted, record, false)) {
                wrong.push(format!("authority has {record}"));
            }
        }
    }
    let errors = got.edns.iter().flat_map(|edns| &edns.options).filter(|option| option.0 == EDE);
    let errors: Vec<u16> =
        errors.filter_map(|(_, data)| data.first_chunk().map(|code| u16::from_be_bytes(*code))).collect();
    if let Some(code) = wanted.extended_error
        && !errors.iter().any(|error| code.is_none_or(|code| code == *error))
    {
        wrong.push(format!("extended errors {errors:?} where {code:?} is wanted"));
    }
    if (wanted.options || wanted.server_cookie) && entry.options.is_some() {
        let options: Vec<u8> =
            got.edns.iter().flat_map(|edns| &edns.options).flat_map(option_bytes).collect();
        if Some(&options) != entry.options.as_ref() {
            wrong.push(format!("EDNS options {options:02x?} where {:02x?} are wanted", entry.options));
        }
    }
    wrong
}

fn option_bytes((code, data): &(u16, Vec<u8>)) -> Vec<u8> {
    [&code.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat()
}

fn compare(section: &str, wanted: &[Record], got: &[Record], ttl: bool, wrong: &mut Vec<String>) {
    for record in got.iter().filter(|got| !wanted.iter().any(|wanted| same(wanted, got, ttl))) {
        wrong.push(format!("{section} has {record}"));
    }
    for record in wanted.iter().filter(|wanted| !got.iter().any(|got| same(wanted, got, ttl))) {
        wrong.push(format!("{section} lacks {record}"));
    }
}

fn same(a: &Record, b: &Record, ttl: bool) -> bool {
    let data = |record: &Record| canonical(record.rtype, &record.data);
    (&a.owner, a.rtype, a.class) == (&b.owner, b.rtype, b.class)
        && (!ttl || a.ttl == b.ttl)
        && data(a) == data(b)
}
