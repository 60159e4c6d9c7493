//! Parser of clients' queries.

use super::{
    CLASS_IN, NAME_MAX, UDP_MIN,
    cookie::{Cookie, Sent},
    header::{self, Header},
    key::Key,
    option::code,
    rcode, record, rtype,
};
use crate::{simd::Block, stats::DropReason};
use zerocopy::FromBytes;

/// Longest NOTIFY in bytes: a question, an SOA record and a signature, each with names of 255 bytes.
pub const NOTIFY_MAX: usize = 2_048;
/// Most EDNS options of a query. Clients send a handful; without a bound, one packet of 1,500 bytes costs as
/// much as thirty others.
pub const OPTIONS_MAX: usize = 32;
/// Most additional records of a query: OPT (RFC 6891), TSIG (RFC 8945) and SIG(0) (RFC 2931), and as many that
/// are of no use.
const ADDITIONAL_MAX: u16 = 6;
/// Most bytes of the names of these records together: one has that of a key, and the others the root. Each label
/// is found through the one before it, so that names of many labels cost more than all else of a packet.
const NAMES_MAX: usize = NAME_MAX + ADDITIONAL_MAX as usize;
/// Most records of a NOTIFY: the SOA record of the new version, OPT and TSIG.
const NOTIFY_RECORDS: usize = 3;

/// EDNS of a query (RFC 6891).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edns {
    /// UDP size that the client advertises, in bytes.
    pub udp_size: u16,
    /// EDNS version; only 0 exists.
    pub version: u8,
    /// Whether DNSSEC records are wanted (RFC 3225).
    pub dnssec_ok: bool,
    /// COOKIE option (RFC 7873).
    pub cookie: Sent,
    /// Whether the client asks for the server's name (RFC 5001).
    pub nsid: bool,
    /// Whether the client asks how long a connection may be idle (RFC 7828).
    pub keepalive: bool,
}

impl Edns {
    /// Reads the options, at most [`OPTIONS_MAX`], which must fill `data`. Unknown ones are ignored (RFC
    /// 6891 section 6.1.2).
    pub(crate) fn read_options(&mut self, mut data: &[u8]) -> Option<()> {
        let mut left = OPTIONS_MAX;
        while let Some(([k1, k0, l1, l0], rest)) = data.split_first_chunk::<4>() {
            left = left.checked_sub(1)?;
            let (option, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*l1, *l0])))?;
            match u16::from_be_bytes([*k1, *k0]) {
                // Of several cookies, the first counts (RFC 7873 section 4).
                code::COOKIE if self.cookie == Sent::Nothing => {
                    self.cookie = Cookie::parse(option).map_or(Sent::Malformed, Sent::Cookie);
                }
                code::NSID => self.nsid = true,
                code::KEEPALIVE => self.keepalive = true,
                _ => {}
            }
            data = rest;
        }
        data.is_empty().then_some(())
    }
}

/// Parsed query: its question, and the properties that its reply depends on.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Key that the answer is filed under.
    pub key: Key,
    /// EDNS of the client, if it sent any.
    pub edns: Option<Edns>,
    /// Flags of the header, as sent.
    pub flags: u16,
    question_len: u16,
}

/// Reasons why a message is not a query to look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject<'a> {
    /// The message is not answered.
    Drop(DropReason),
    /// The message is answered with an error and an empty header: there is no question to repeat.
    Header(u8),
    /// The message is answered with an error, and with its question and EDNS as far as it has them.
    Question(u8),
    /// The message is answered BADVERS, with its question and EDNS of the version that we support.
    BadVersion,
    /// The message is answered BADCOOKIE, with a cookie for the next try (RFC 7873 section 5.2.3).
    BadCookie,
    /// The client may not ask, and is answered REFUSED.
    Denied,
    /// The query does not ask for recursion, the only service here: it is answered REFUSED.
    NotRecursive,
    /// The query asks for this server's name, and is answered with this text (RFC 4892).
    Identity(&'a [u8]),
    /// The query asks only for a cookie (RFC 7873 section 5.4), and gets one.
    NoQuestion,
    /// The message is a NOTIFY of a zone's primary (RFC 1996), which the control plane answers.
    Notify,
}

impl Reject<'_> {
    /// Returns the response code of the answer, all twelve bits of it.
    pub fn rcode(&self) -> u16 {
        match self {
            Reject::Header(rcode) | Reject::Question(rcode) => u16::from(*rcode),
            Reject::BadVersion => rcode::BADVERS,
            Reject::BadCookie => rcode::BADCOOKIE,
            Reject::Denied | Reject::NotRecursive => u16::from(rcode::REFUSED),
            Reject::Drop(_) | Reject::Identity(_) | Reject::NoQuestion | Reject::Notify => {
                u16::from(rcode::NOERROR)
            }
        }
    }
}

impl Query {
    /// Parses `message` into `self`.
    ///
    /// On [`Reject::Question`] and [`Reject::BadVersion`], `self` is complete enough for the reply.
    pub fn parse(&mut self, message: &[u8]) -> Result<(), Reject<'static>> {
        self.edns = None;
        self.question_len = 0;
        let (header, _) =
            Header::ref_from_prefix(message).map_err(|_| Reject::Drop(DropReason::ShortMessage))?;
        self.flags = header.flags.get();
        if self.flags & (header::QR | header::OPCODE) != 0 {
            return Err(not_a_query(self.flags));
        }
        // RFC 9619: a query has one question.
        match [header.qdcount.get(), header.ancount.get(), header.nscount.get()] {
            [1, 0, 0] => {}
            [0, 0, 0] => return Err(self.without_question(message, header.arcount.get())),
            [1, answers, authority] => {
                let others = u32::from(answers) + u32::from(authority);
                return Err(self.burdened(message, others, header.arcount.get()));
            }
            _ => return Err(Reject::Header(rcode::FORMERR)),
        }
        let end = self.question(message).ok_or(Reject::Header(rcode::FORMERR))?;
        match header.arcount.get() {
            0 if end == message.len() => {}
            count => self.additionals(message, end, count)?,
        }
        let asked = self.key.asked();
        check_type(asked.qtype(), asked.qclass())
    }

    /// Reads the question. Returns its end.
    #[inline(always)]
    fn question(&mut self, message: &[u8]) -> Option<usize> {
        let end = name_end(message)? + 4;
        self.set_question(message.get(header::LEN..end)?);
        Some(end)
    }

    /// Reads the additional records, which must end with the message.
    #[inline(never)]
    fn additionals(&mut self, message: &[u8], mut at: usize, count: u16) -> Result<(), Reject<'static>> {
        if count > ADDITIONAL_MAX {
            return Err(Reject::Question(rcode::FORMERR));
        }
        let mut names = NAMES_MAX;
        for _ in 0..count {
            at = self.additional(message, at, &mut names).ok_or(Reject::Question(rcode::FORMERR))?;
        }
        if at != message.len() {
            return Err(Reject::Question(rcode::FORMERR));
        }
        let Some(edns) = self.edns else { return Ok(()) };
        self.key.set_dnssec_ok(edns.dnssec_ok);
        if edns.version == 0 { Ok(()) } else { Err(Reject::BadVersion) }
    }

    /// Rejects a query with answer or authority records, which only one for a transfer may have
    /// (RFC 1995 section 3).
    #[cold]
    fn burdened(&mut self, message: &[u8], others: u32, additional: u16) -> Reject<'static> {
        let Some(mut end) = self.question(message) else { return Reject::Header(rcode::FORMERR) };
        let formerr = Reject::Question(rcode::FORMERR);
        // A query for a transfer has one SOA record.
        if others > 1 {
            return formerr;
        }
        for _ in 0..others {
            let Some(record) = record::RecordHead::parse(message, end) else { return formerr };
            end = record.end;
        }
        match self.additionals(message, end, additional) {
            Ok(()) if self.key.asked().qtype() == rtype::IXFR => Reject::Question(rcode::REFUSED),
            _ => formerr,
        }
    }

    /// Rejects a query without question, which is valid only to learn a cookie (RFC 9619 section
    /// 4).
    #[cold]
    fn without_question(&mut self, message: &[u8], additional: u16) -> Reject<'static> {
        match (self.additionals(message, header::LEN, additional), self.edns) {
            (Ok(()), Some(Edns { version: 0, cookie: Sent::Cookie(_), .. })) => Reject::NoQuestion,
            _ => Reject::Question(rcode::FORMERR),
        }
    }

    /// Reads one additional record, whose name takes from `names`, the bytes that are left for names; `None` if
    /// it is malformed, takes more, or is a second OPT (RFC 6891 section 6.1.1). A client that has sent an OPT,
    /// even a malformed one, gets one with the error (section 7).
    #[inline(always)]
    fn additional(&mut self, message: &[u8], at: usize, names: &mut usize) -> Option<usize> {
        let record = record::RecordHead::parse_named(message, at, *names)?;
        *names = names.saturating_sub(record.name_len(at));
        if record.rtype != rtype::OPT {
            return Some(record.end);
        }
        if self.edns.is_some() {
            return None;
        }
        let mut edns = Edns {
            udp_size: record.class,
            version: (record.ttl >> 16) as u8,
            dnssec_ok: record.ttl & 0x8000 != 0,
            ..Edns::default()
        };
        let noted = record.rdata == record.end
            || message.get(record.rdata..record.end).and_then(|options| edns.read_options(options)).is_some();
        self.edns = Some(edns);
        (noted && message.get(at) == Some(&0)).then_some(record.end)
    }

    /// Parses a NOTIFY, whose header [`parse`](Self::parse) has read, into `self`. Returns the reason
    /// to reject it if it is none for the SOA record of one zone (RFC 1996 section 3.7), or does not
    /// end with its records.
    #[cold]
    pub fn parse_notify(&mut self, message: &[u8]) -> Reject<'static> {
        let formerr = Reject::Header(rcode::FORMERR);
        let Ok((header, _)) = Header::ref_from_prefix(message) else { return formerr };
        let counts =
            [&header.ancount, &header.nscount, &header.arcount].map(|count| usize::from(count.get()));
        let records: usize = counts.iter().sum();
        if header.qdcount.get() != 1 || records > NOTIFY_RECORDS || message.len() > NOTIFY_MAX {
            return formerr;
        }
        let Some(mut end) = self.question(message) else { return formerr };
        for _ in 0..records {
            let Some(record) = record::RecordHead::parse(message, end) else { return formerr };
            end = record.end;
        }
        let asked = self.key.asked();
        let is_for_zone = (asked.qtype(), asked.qclass()) == (rtype::SOA, CLASS_IN);
        if is_for_zone && end == message.len() { Reject::Notify } else { formerr }
    }

    /// Begins a query whose header has these flags, without question and EDNS.
    #[inline(always)]
    pub(crate) fn begin(&mut self, flags: u16) {
        self.edns = None;
        self.question_len = 0;
        self.flags = flags;
    }

    /// Sets a question that was checked.
    #[inline(always)]
    pub(crate) fn set_question(&mut self, question: &[u8]) {
        self.key.set(question, self.flags & header::CD != 0);
        self.question_len = question.len() as u16;
    }

    /// Sets a question of one block that was checked and lowercased, with zeros after its end.
    #[inline(always)]
    pub(crate) fn set_block(&mut self, question: Block, len: usize) {
        self.key.set_block(question, len, self.flags & header::CD != 0);
        self.question_len = len as u16;
    }

    /// Sets EDNS of version 0.
    #[inline(always)]
    pub(crate) fn set_edns(&mut self, edns: Edns) {
        self.edns = Some(edns);
        self.key.set_dnssec_ok(edns.dnssec_ok);
    }

    /// Returns the length of the question: name, type and class.
    #[inline(always)]
    pub fn question_len(&self) -> usize {
        usize::from(self.question_len)
    }

    /// Returns the size of the largest reply over UDP: the size that the client accepts, but at
    /// least 512 bytes (RFC 6891 section 6.2.3) and at most `ours`.
    #[inline(always)]
    pub fn udp_limit(&self, ours: u16) -> usize {
        usize::from(self.edns.map_or(UDP_MIN, |e| e.udp_size.clamp(UDP_MIN, ours.max(UDP_MIN))))
    }
}

#[cold]
fn not_a_query(flags: u16) -> Reject<'static> {
    if flags & header::QR != 0 { Reject::Drop(DropReason::Response) } else { Reject::Header(rcode::NOTIMP) }
}

/// Rejects types that are not data (RFC 6895 section 3.1): transfers need TCP and a zone, keys and
/// signatures of a transaction need a partner, and nobody asks for an OPT.
pub(crate) fn check_type(qtype: u16, qclass: u16) -> Result<(), Reject<'static>> {
    if qclass != CLASS_IN || matches!(qtype, rtype::TKEY..=rtype::MAILA) {
        return Err(Reject::Question(rcode::REFUSED));
    }
    if matches!(qtype, 0 | rtype::OPT) { Err(Reject::Question(rcode::FORMERR)) } else { Ok(()) }
}

/// Returns the end of the name at offset 12, which must be uncompressed: with one question, there
/// is nothing before it to point to.
#[inline(always)]
pub(crate) fn name_end(message: &[u8]) -> Option<usize> {
    // Cut where the longest name ends, so that each label takes one check of a bound.
    let name = message.get(header::LEN..)?;
    let name = &name[..name.len().min(NAME_MAX)];
    let mut at = 0;
    loop {
        let len = *name.get(at)?;
        at += 1 + usize::from(len);
        // One comparison finds both the root's zero and an invalid label (RFC 1035 section 2.3.4:
        // at most 63 bytes).
        if len.wrapping_sub(1) >= 63 {
            return (len == 0).then_some(header::LEN + at);
        }
    }
}
