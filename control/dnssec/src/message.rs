//! Parser of responses. It needs to know little of a record's content but where names begin and
//! end.

use crate::{
    name::{HEADER, Name, expand},
    rdata::{self, rtype},
    records::Rrsig,
};
use std::ops::Range;

/// Most RRsets of a response; a response with more is refused as too much work.
pub const RRSETS_MAX: usize = 64;
/// Most signatures of an RRset that are considered; further ones are ignored (KeyTrap,
/// CVE-2023-50387).
pub const SIGNATURES_OF_RRSET: usize = 8;

const CLASS_IN: u16 = 1;

/// Reason for a response that cannot be validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The records do not fit the header, or a name is malformed.
    Malformed,
    /// There are more than `RRSETS_MAX` RRsets.
    TooMuch,
}

/// Sections that are validated. The additional section is no part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Answer section.
    Answer,
    /// Authority section: proofs that there are no other answers.
    Authority,
}

/// A record.
#[derive(Clone, Debug)]
pub struct ParsedRecord {
    /// TTL, zero if its top bit is set (RFC 2181 section 8).
    pub ttl: u32,
    pub(crate) rtype: u16,
    owner: Range<usize>,
    rdata: Range<usize>,
}

/// An RRset with its signatures, or signatures alone.
#[derive(Clone, Debug)]
pub struct RrSet {
    pub(crate) section: Section,
    pub(crate) owner: Name,
    pub(crate) rtype: u16,
    /// Indexes of its records in the response, without duplicates.
    pub(crate) records: Vec<usize>,
    /// Indexes of its signatures in the response, at most [`SIGNATURES_OF_RRSET`].
    pub(crate) signatures: Vec<usize>,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    pub(crate) rcode: u8,
    /// Owners and RDATA of all records, without compression, in their original letter case.
    data: Vec<u8>,
    records: Vec<ParsedRecord>,
    sets: Vec<RrSet>,
    /// Whether its denials may answer other questions.
    pub(crate) is_for_ranges: bool,
}

impl Response {
    /// Parses a message. Skips its question and its additional section.
    pub fn parse(message: &[u8]) -> Result<Self, Unreadable> {
        const MALFORMED: Unreadable = Unreadable::Malformed;
        let word = |at: usize| {
            let bytes = message.get(at..at + 2).and_then(|bytes| bytes.first_chunk());
            bytes.map(|bytes| u16::from_be_bytes(*bytes)).ok_or(MALFORMED)
        };
        let mut response = Response {
            rcode: (word(2)? & 0xf) as u8,
            data: Vec::with_capacity(2 * message.len()),
            records: Vec::new(),
            sets: Vec::new(),
            is_for_ranges: false,
        };
        let mut at = HEADER;
        for _ in 0..word(4)? {
            at = expand(message, at, &mut Vec::new()).ok_or(MALFORMED)? + 4;
        }
        for (section, count) in [(Section::Answer, word(6)?), (Section::Authority, word(8)?)] {
            for _ in 0..count {
                let owner = response.data.len();
                let fixed = expand(message, at, &mut response.data).ok_or(MALFORMED)?;
                let (rtype, class) = (word(fixed)?, word(fixed + 2)?);
                let ttl = u32::from(word(fixed + 4)?) << 16 | u32::from(word(fixed + 6)?);
                let begin = fixed + 10;
                at = begin + usize::from(word(fixed + 8)?);
                let rdata = response.data.len();
                if at > message.len() {
                    return Err(MALFORMED);
                }
                rdata::copy(rtype, message, begin, at, &mut response.data).ok_or(MALFORMED)?;
                if class == CLASS_IN {
                    let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
                    let end = response.data.len();
                    response
                        .add(section, ParsedRecord { ttl, rtype, owner: owner..rdata, rdata: rdata..end })?;
                }
            }
        }
        response.drop_duplicates();
        Ok(response)
    }

    /// Returns the response with the denials in it marked, if `wanted`, as ones that may answer other
    /// questions: [`validate`](crate::validate) returns those that it has verified.
    pub fn for_ranges(self, wanted: bool) -> Self {
        Response { is_for_ranges: wanted, ..self }
    }

    fn add(&mut self, section: Section, record: ParsedRecord) -> Result<(), Unreadable> {
        let owner = Name::from_wire(&self.data[record.owner.clone()]).ok_or(Unreadable::Malformed)?;
        let signs = (record.rtype == rtype::RRSIG)
            .then(|| Rrsig::parse(&self.data[record.rdata.clone()]))
            .flatten()
            .map(|signature| signature.covered);
        let rtype = signs.unwrap_or(record.rtype);
        let number = self.records.len();
        self.records.push(record);
        let same = |set: &RrSet| set.section == section && set.rtype == rtype && set.owner == owner;
        let at = match self.sets.iter().position(same) {
            Some(at) => at,
            None if self.sets.len() >= RRSETS_MAX => return Err(Unreadable::TooMuch),
            None => {
                let (records, signatures) = (Vec::new(), Vec::new());
                self.sets.push(RrSet { section, owner, rtype, records, signatures });
                self.sets.len() - 1
            }
        };
        let set = &mut self.sets[at];
        if signs.is_none() {
            set.records.push(number);
        } else if set.signatures.len() < SIGNATURES_OF_RRSET {
            set.signatures.push(number);
        }
        Ok(())
    }

    /// Keeps only the first of several records with the same canonical RDATA (RFC 4034 section
    /// 6.3).
    fn drop_duplicates(&mut self) {
        let mut sets = std::mem::take(&mut self.sets);
        for set in &mut sets {
            let canonical = |number: &usize| self.canonical_rdata(*number);
            let mut seen: Vec<_> = set.records.iter().map(|number| (canonical(number), *number)).collect();
            seen.sort_unstable();
            seen.dedup_by(|later, first| later.0 == first.0);
            if seen.len() < set.records.len() {
                set.records = seen.into_iter().map(|(_, number)| number).collect();
                set.records.sort_unstable();
            }
        }
        self.sets = sets;
    }

    /// Returns the RRsets.
    pub(crate) fn sets(&self) -> &[RrSet] {
        &self.sets
    }

    /// Returns the RRset of a name and type, if it has records.
    pub(crate) fn set(&self, section: Section, owner: &Name, rtype: u16) -> Option<&RrSet> {
        let same = |set: &&RrSet| {
            set.section == section && set.rtype == rtype && set.owner == *owner && !set.records.is_empty()
        };
        self.sets.iter().find(same)
    }

    /// Returns the number of signatures that may be considered.
    pub(crate) fn signature_count(&self) -> usize {
        self.sets.iter().map(|set| set.signatures.len()).sum()
    }

    pub(crate) fn record(&self, number: usize) -> &ParsedRecord {
        &self.records[number]
    }

    /// Returns the owner of a record in its original letter case.
    pub(crate) fn owner(&self, number: usize) -> &[u8] {
        &self.data[self.records[number].owner.clone()]
    }

    pub(crate) fn rdata(&self, number: usize) -> &[u8] {
        &self.data[self.records[number].rdata.clone()]
    }

    pub(crate) fn canonical_rdata(&self, number: usize) -> Vec<u8> {
        let mut rdata = self.rdata(number).to_vec();
        rdata::lowercase(self.records[number].rtype, &mut rdata);
        rdata
    }

    /// Returns the RDATA of each record of a set.
    pub(crate) fn rdata_of<'a>(&'a self, set: &'a RrSet) -> impl Iterator<Item = &'a [u8]> {
        set.records.iter().map(|number| self.rdata(*number))
    }

    /// Returns the signatures of a set that can be parsed.
    pub(crate) fn signatures_of<'a>(&'a self, set: &'a RrSet) -> impl Iterator<Item = Rrsig<'a>> {
        set.signatures.iter().filter_map(|number| Rrsig::parse(self.rdata(*number)))
    }
}
