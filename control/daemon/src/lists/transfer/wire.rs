//! Messages of zone transfers, as they are read: names without compression, and records.

use std::ops::Range;

/// Length of a header.
pub(super) const HEADER: usize = 12;
/// Longest name in wire format.
const NAME_MAX: usize = 255;

/// Record types with a meaning here.
pub(super) mod rtype {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const MX: u16 = 15;
    pub const AAAA: u16 = 28;
    pub const DNAME: u16 = 39;
    pub const TSIG: u16 = 250;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
}

/// Sections of a message: question, answer, authority, additional.
const SECTIONS: usize = 4;

/// Message that fits its header.
pub(super) struct Message<'a> {
    bytes: &'a [u8],
    /// Name and type of the question, if it is repeated.
    pub question: Option<(Vec<u8>, u16)>,
    /// Records of the answer section.
    pub answers: Vec<Raw>,
    /// Record that signs the message.
    pub tsig: Option<Raw>,
}

/// Record in a message.
pub(super) struct Raw {
    /// Start of the record in the message.
    pub start: usize,
    /// Owner, lowercased.
    pub owner: Vec<u8>,
    /// Type.
    pub rtype: u16,
    /// Class.
    pub class: u16,
    /// Place of the data in the message.
    pub data: Range<usize>,
}

impl<'a> Message<'a> {
    /// Reads a message to its end. `None`: it does not fit its header.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut counts = [0; SECTIONS];
        for (count, at) in counts.iter_mut().zip([4, 6, 8, 10]) {
            *count = be16(bytes, at)?;
        }
        let [questions, answers, authorities, additional] = counts;
        let mut at = HEADER;
        let mut question = None;
        for _ in 0..questions {
            let name = name(bytes, &mut at)?;
            question = Some((name, be16(bytes, at)?));
            at += 4;
        }
        let mut message = Message { bytes, question, answers: Vec::new(), tsig: None };
        for _ in 0..answers {
            message.answers.push(raw(bytes, &mut at)?);
        }
        let others = u32::from(authorities) + u32::from(additional);
        for left in (0..others).rev() {
            let record = raw(bytes, &mut at)?;
            if record.rtype == rtype::TSIG {
                // It must be the last (RFC 8945 section 5.1).
                message.tsig = (left == 0 && additional > 0).then_some(record);
                message.tsig.as_ref()?;
            }
        }
        (at == bytes.len()).then_some(message)
    }

    /// Returns the data of a record, with the names in it uncompressed and lowercased.
    pub fn data(&self, record: &Raw) -> Option<Vec<u8>> {
        let raw = self.bytes.get(record.data.clone())?;
        let (before, names) = match record.rtype {
            rtype::NS | rtype::CNAME | rtype::PTR | rtype::DNAME => (0, 1),
            rtype::MX => (2, 1),
            rtype::SOA => (0, 2),
            _ => return Some(raw.to_vec()),
        };
        let mut data = raw.get(..before)?.to_vec();
        let mut at = record.data.start + before;
        for _ in 0..names {
            data.extend(name(self.bytes, &mut at)?);
        }
        data.extend(self.bytes.get(at..record.data.end)?);
        Some(data)
    }
}

fn raw(bytes: &[u8], at: &mut usize) -> Option<Raw> {
    let start = *at;
    let owner = name(bytes, at)?;
    let (rtype, class) = (be16(bytes, *at)?, be16(bytes, *at + 2)?);
    let from = *at + 10;
    let to = from + usize::from(be16(bytes, *at + 8)?);
    bytes.get(from..to)?;
    *at = to;
    Some(Raw { start, owner, rtype, class, data: from..to })
}

/// Reads the name at `at`, lowercased, and moves `at` behind it.
pub(super) fn name(bytes: &[u8], at: &mut usize) -> Option<Vec<u8>> {
    let (mut name, mut from) = (Vec::new(), *at);
    let mut is_behind = false;
    loop {
        let len = *bytes.get(from)?;
        match len {
            0..=63 => {
                let end = from + 1 + usize::from(len);
                name.extend(bytes.get(from..end)?.iter().map(u8::to_ascii_lowercase));
                if name.len() > NAME_MAX {
                    return None;
                }
                from = end;
                if !is_behind {
                    *at = end;
                }
                if len == 0 {
                    return Some(name);
                }
            }
            0xc0.. => {
                let to = usize::from(be16(bytes, from)? & 0x3fff);
                if !is_behind {
                    *at = from + 2;
                }
                is_behind = true;
                // Pointers lead back, so there is no loop.
                if to >= from {
                    return None;
                }
                from = to;
            }
            _ => return None,
        }
    }
}

/// Reads a number.
pub(super) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads a number.
pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
