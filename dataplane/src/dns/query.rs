//! A client's query, taken apart.

use super::{
    CLASS_IN, NAME_MAX, OPT_LEN, UDP_MIN,
    header::{self, Header, Words},
    key::{Key, NameLen},
    rcode, record, rtype,
};
use crate::stats::DropReason;
use zerocopy::transmute_ref;

/// EDNS of a query (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// What the client says it takes over UDP.
    pub udp_size: u16,
    /// Version; only 0 exists.
    pub version: u8,
    /// Whether DNSSEC records are wanted (RFC 3225).
    pub dnssec_ok: bool,
}

/// A query: what it asks, and what its reply must be fitted to.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// What the answer is filed under.
    pub key: Key,
    /// The client's EDNS, if it sent any.
    pub edns: Option<Edns>,
    /// The header's flags as sent.
    pub flags: u16,
    question_len: u16,
}

/// Why a message is not a query to look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// It is not answered at all.
    Drop(DropReason),
    /// It is answered with an error and an empty header: there is no question to repeat.
    Header(u8),
    /// It is answered with an error, its question and EDNS.
    Question(u8),
    /// It is answered BADVERS, with its question and EDNS of the version that we speak.
    BadVersion,
}

impl Query {
    /// Takes `message` apart into `self`.
    ///
    /// On [`Reject::Question`] and [`Reject::BadVersion`], `self` is as good as the reply needs.
    pub fn parse(&mut self, message: &[u8]) -> Result<(), Reject> {
        self.parse_within(message, message.len())
    }

    /// The same of the message `buffer[..len]`. The more of `buffer` follows it, the quicker the name is read.
    pub fn parse_within(&mut self, buffer: &[u8], len: usize) -> Result<(), Reject> {
        let message = buffer.get(..len).ok_or(Reject::Drop(DropReason::ShortMessage))?;
        let header = self.parse_header(message).ok_or(Reject::Drop(DropReason::ShortMessage))?;
        if self.flags & (header::QR | header::OPCODE) != 0 {
            return Err(not_a_query(self.flags));
        }
        // RFC 9619: a query has one question. Answers or authority have no place in one.
        if !is_query(header) {
            return Err(Reject::Header(rcode::FORMERR));
        }
        let end = name_end(message).ok_or(Reject::Header(rcode::FORMERR))?;
        let name = self.key.set_name(&buffer[header::LEN..], end - header::LEN);
        self.parse_after_name(header, buffer, len, name)
    }

    /// Takes the message `buffer[..len]` apart but for the labels of its name, which is taken to end at its first zero.
    /// False where that finds no query, and [`Self::parse_within`] is to be asked.
    ///
    /// What it found is right if its key equals one that was parsed: then the names are the same byte for byte, but for
    /// case, so they have the same labels and the same end; and no length of a label is a letter.
    ///
    /// `visit` sees the blocks of the name, for hashing it in passing.
    #[inline(always)]
    pub fn glance(&mut self, buffer: &[u8], len: usize, visit: impl FnMut([u64; 2])) -> bool {
        let Some(header) = self.parse_header(buffer) else { return false };
        if !is_query(header) {
            return false;
        }
        let Some(name) = self.key.set_name_to_zero(&buffer[header::LEN..], visit) else { return false };
        self.parse_after_name(header, buffer, len, name).is_ok()
    }

    #[inline(always)]
    fn parse_header<'a>(&mut self, buffer: &'a [u8]) -> Option<&'a Words> {
        self.edns = None;
        let header: &Header = transmute_ref!(buffer.first_chunk::<{ header::LEN }>()?);
        self.flags = header.flags.get();
        Some(transmute_ref!(header))
    }

    /// Takes apart what follows the name.
    #[inline(always)]
    fn parse_after_name(
        &mut self,
        header: &Words,
        buffer: &[u8],
        len: usize,
        name: NameLen,
    ) -> Result<(), Reject> {
        let end = header::LEN + name.bytes;
        let question = buffer.get(end..end + 4).and_then(|question| question.first_chunk::<4>());
        let question = u32::from_be_bytes(*question.ok_or(Reject::Header(rcode::FORMERR))?);
        self.key.set_meta(question, header.start.get() & header::flags(header::CD) != 0, name);
        self.question_len = (name.bytes + 4) as u16;
        if header.arcount != 0 || end + 4 != len {
            match bare_opt(buffer, end + 4)
                .filter(|_| header.arcount == 1u16.to_be() && len == end + 4 + OPT_LEN)
            {
                Some(edns) => {
                    self.edns = Some(edns);
                    self.key.set_dnssec_ok(edns.dnssec_ok);
                }
                None => self.additionals(buffer, len, end + 4, u16::from_be(header.arcount.get()))?,
            }
        }
        // Nearly all that is asked for has a type below OPT's: from 1 to 40, here in the lower half, the class in the upper.
        const FIRST: u32 = 1 << 16 | CLASS_IN as u32;
        let usual = question.wrapping_sub(FIRST).rotate_left(16) < u32::from(rtype::OPT) - 1;
        if usual { Ok(()) } else { unusual((question >> 16) as u16, question as u16) }
    }

    /// Reads the additional records, which must end with the message.
    fn additionals(&mut self, buffer: &[u8], len: usize, mut at: usize, count: u16) -> Result<(), Reject> {
        let message = buffer.get(..len).ok_or(Reject::Header(rcode::FORMERR))?;
        for _ in 0..count {
            at = self.additional(message, at).ok_or(Reject::Header(rcode::FORMERR))?;
        }
        if at != message.len() {
            return Err(Reject::Header(rcode::FORMERR));
        }
        let Some(edns) = self.edns else { return Ok(()) };
        self.key.set_dnssec_ok(edns.dnssec_ok);
        if edns.version == 0 { Ok(()) } else { Err(Reject::BadVersion) }
    }

    /// Reads one additional record; `None` if it is broken or a second OPT (RFC 6891 section 6.1.1).
    #[inline(always)]
    fn additional(&mut self, message: &[u8], at: usize) -> Option<usize> {
        let record = record::Record::parse(message, at)?;
        if record.rtype != rtype::OPT {
            return Some(record.end);
        }
        if self.edns.is_some() || message.get(at) != Some(&0) {
            return None;
        }
        let mut options = message.get(record.rdata..record.end)?;
        while let Some([_, _, l1, l0]) = options.first_chunk::<4>() {
            options = options.get(4 + usize::from(u16::from_be_bytes([*l1, *l0]))..)?;
        }
        if !options.is_empty() {
            return None;
        }
        self.edns = Some(Edns {
            udp_size: record.class,
            version: (record.ttl >> 16) as u8,
            dnssec_ok: record.ttl & 0x8000 != 0,
        });
        Some(record.end)
    }

    /// Length of the question: name, type and class.
    #[inline(always)]
    pub fn question_len(&self) -> usize {
        usize::from(self.question_len)
    }

    /// The largest reply over UDP: what the client takes, but at least 512 bytes (RFC 6891 section 6.2.3) and at
    /// most `ours`.
    #[inline(always)]
    pub fn udp_limit(&self, ours: u16) -> usize {
        usize::from(self.edns.map_or(UDP_MIN, |e| e.udp_size.clamp(UDP_MIN, ours.max(UDP_MIN))))
    }
}

/// Whether this is the header of a query with one question and nothing else but additional records.
#[inline(always)]
fn is_query(header: &Words) -> bool {
    const MASK: u64 = header::flags(header::QR | header::OPCODE) | !header::flags(0xffff);
    header.start.get() & MASK == header::start(0, 0, 0)
}

/// The record at `at`, where it is an OPT without options of version 0: what most queries end with.
#[inline(always)]
fn bare_opt(buffer: &[u8], at: usize) -> Option<Edns> {
    let opt = buffer.get(at..at + OPT_LEN).and_then(|opt| opt.first_chunk::<OPT_LEN>())?;
    let [0, 0, 41, size1, size0, _, 0, flags, _, 0, 0] = *opt else { return None };
    Some(Edns { udp_size: u16::from_be_bytes([size1, size0]), version: 0, dnssec_ok: flags & 0x80 != 0 })
}

#[cold]
fn not_a_query(flags: u16) -> Reject {
    if flags & header::QR != 0 { Reject::Drop(DropReason::Response) } else { Reject::Header(rcode::NOTIMP) }
}

/// Types that are no data (RFC 6895 section 3.1): transfers need TCP and a zone, and nobody asks for an OPT.
#[cold]
fn unusual(qtype: u16, qclass: u16) -> Result<(), Reject> {
    if qclass != CLASS_IN || matches!(qtype, rtype::IXFR..=rtype::MAILA) {
        return Err(Reject::Question(rcode::REFUSED));
    }
    if matches!(qtype, 0 | rtype::OPT) { Err(Reject::Question(rcode::FORMERR)) } else { Ok(()) }
}

/// The end of the name at offset 12, which must be whole: questions are not compressed, and with one question there
/// is nothing before it to point to.
#[inline(always)]
fn name_end(message: &[u8]) -> Option<usize> {
    let mut at = header::LEN;
    loop {
        let len = *message.get(at)?;
        at += 1 + usize::from(len);
        // One comparison for the root's zero and for what is no label (RFC 1035 section 2.3.4: at most 63 bytes).
        if len.wrapping_sub(1) >= 63 {
            return (len == 0 && at - header::LEN <= NAME_MAX).then_some(at);
        }
    }
}
