//! Names and records on the wire, compressed.

use super::Record;
use ringdns_dataplane::dns::{header, rtype};
use ringdns_dnssec::wire_len;
use std::collections::HashMap;

/// Offset in bytes from which compression pointers cannot reach (RFC 1035 section 4.1.4).
const REACH: usize = 1 << 14;
const POINTER: u16 = 0xc000;

/// Names in a message that later ones may point to.
pub struct Names<'a> {
    question: &'a [u8],
    /// Names and their parents that were written, with their places in the message.
    written: HashMap<&'a [u8], u16>,
}

impl<'a> Names<'a> {
    /// Returns the names of a message whose question has this name.
    pub fn of(question: &'a [u8]) -> Self {
        Names { question, written: HashMap::new() }
    }

    /// Appends a record; `None` if its data is too long.
    pub fn write_record(&mut self, record: &'a Record, to: &mut Vec<u8>) -> Option<()> {
        self.write_owner(&record.spelled, to);
        to.extend_from_slice(&record.rtype.to_be_bytes());
        to.extend_from_slice(&record.class.to_be_bytes());
        to.extend_from_slice(&record.ttl.to_be_bytes());
        self.write_rdata(record.rtype, &record.rdata, to)
    }

    /// Appends the owner of a record.
    pub fn write_owner(&mut self, name: &'a [u8], to: &mut Vec<u8>) {
        self.write(name, true, to);
    }

    /// Appends the length of the data and the data, whose names are expanded; `None` if it is too
    /// long.
    pub fn write_rdata(&mut self, rtype: u16, rdata: &'a [u8], to: &mut Vec<u8>) -> Option<()> {
        let at = to.len();
        to.extend_from_slice(&[0; 2]);
        let (skip, count) = compressible(rtype);
        let (head, mut rest) = rdata.split_at_checked(skip).unwrap_or((rdata, &[]));
        to.extend_from_slice(head);
        for _ in 0..count {
            let Some((name, tail)) = wire_len(rest).and_then(|len| rest.split_at_checked(len)) else { break };
            // Data is passed on letter by letter, and the letters of the question are the client's own.
            self.write(name, false, to);
            rest = tail;
        }
        to.extend_from_slice(rest);
        let len = u16::try_from(to.len() - at - 2).ok()?;
        to[at..at + 2].copy_from_slice(&len.to_be_bytes());
        Some(())
    }

    /// Returns the place of a name in the question.
    fn find_in_question(&self, name: &[u8]) -> Option<u16> {
        let at = self.question.len().checked_sub(name.len())?;
        let same = is_label(self.question, at) && self.question[at..].eq_ignore_ascii_case(name);
        same.then_some((header::LEN + at) as u16)
    }

    /// Appends a name. `is_owner`: it may take over the letters of the question.
    fn write(&mut self, mut name: &'a [u8], is_owner: bool, to: &mut Vec<u8>) {
        while let Some((len @ 1.., rest)) = name.split_first() {
            let in_question = if is_owner { self.find_in_question(name) } else { None };
            if let Some(at) = in_question.or_else(|| self.written.get(name).copied()) {
                return to.extend_from_slice(&(POINTER | at).to_be_bytes());
            }
            if to.len() < REACH {
                self.written.insert(name, to.len() as u16);
            }
            let (label, rest) = rest.split_at_checked(usize::from(*len)).unwrap_or((rest, &[]));
            to.push(*len);
            to.extend_from_slice(label);
            name = rest;
        }
        to.push(0);
    }
}

/// Returns the bytes before the names in the data of a type, and the number of names, if they may
/// be compressed (RFC 3597 section 4).
fn compressible(rtype: u16) -> (usize, usize) {
    match rtype {
        // NS, MD, MF, CNAME, MB, MG, MR, PTR.
        2..=5 | 7..=9 | rtype::PTR => (0, 1),
        // SOA, MINFO.
        rtype::SOA | 14 => (0, 2),
        rtype::MX => (2, 1),
        _ => (0, 0),
    }
}

/// Whether a label of a name begins at `at`.
fn is_label(name: &[u8], at: usize) -> bool {
    let mut begin = 0;
    while begin < at {
        begin += 1 + usize::from(name[begin]);
    }
    begin == at
}
