//! Answers as they are cached: the wire bytes after the question, and the positions that change for
//! each client.

use super::{
    header::{self, Header},
    key::Key,
    rcode, record,
    reply::Age,
    rtype,
};
use crate::{checksum, clock::Secs};
use zerocopy::FromBytes;

/// An answer that is cached or passed on: everything of a response that does not depend on the
/// client.
///
/// `wire` is the response after the question, with OPT removed and names compressed against a
/// question at offset 12. A question has the same length in every spelling of its name, so the
/// pointers are valid for every client's question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// RCODE, AA and AD.
    pub status: Status,
    /// Numbers of answer, authority and additional records.
    pub counts: [u16; 3],
    /// Offset of each record's TTL in a message whose question has the same length, as
    /// little-endian pairs of bytes.
    pub ttls: Box<[[u8; 2]]>,
    /// Records in wire format.
    pub wire: Box<[u8]>,
    /// Folded [checksum](crate::checksum) of the records at their place after the question.
    pub sum: u16,
    /// Time at which the answer was received.
    pub received: Secs,
    /// Time that the answer is fresh, in seconds.
    pub ttl: Secs,
    /// Time that it would be fresh by its source's TTLs alone, in seconds.
    pub source_ttl: Secs,
    /// Time after expiry in which it may still be given out, in seconds (RFC 8767).
    pub stale: Secs,
    /// Time before expiry at which it is renewed if it is requested often, in seconds.
    pub ahead: Secs,
    /// Extended error to send with the RCODE: an INFO-CODE (RFC 8914).
    pub ede: Option<u16>,
}

/// Part of the header's flags that belongs to the answer: RCODE, AA, and AD for clients that asked
/// for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status(pub u8);

impl Status {
    const AA: u8 = 0x10;
    const AD: u8 = 0x20;
    const TRUNCATED: u8 = 0x40;
    const NEGATIVE: u8 = 0x80;

    /// Returns the status from a response's flags. AD is kept only if the sender is trusted to have
    /// validated. AA is never kept, since a resolver that repeats an answer is no authority for it
    /// (RFC 1035 section 4.1.1).
    pub fn from_flags(flags: u16, trust_ad: bool) -> Self {
        let ad = if trust_ad && flags & header::AD != 0 { Self::AD } else { 0 };
        Status((flags & header::RCODE) as u8 | ad)
    }

    /// Returns the status of an authoritative answer, for names that no other server has.
    pub fn authoritative(rcode: u8) -> Self {
        Status(rcode | Self::AA)
    }

    /// Whether resolution failed.
    pub fn is_failure(self) -> bool {
        !rcode::is_answer(self.rcode())
    }

    /// Returns the status without records because of their size: over UDP the reply has TC=1.
    pub fn truncated(self) -> Self {
        Status(self.0 | Self::TRUNCATED)
    }

    /// Returns the status with a note whether the answer is negative, given the number of records
    /// in its answer section.
    fn with_answers(self, answers: u16) -> Self {
        let negative = self.rcode() == rcode::NXDOMAIN || answers == 0 && !self.is_truncated();
        Status(self.0 | if negative { Self::NEGATIVE } else { 0 })
    }

    /// Whether the answer is NXDOMAIN or has no data.
    #[inline(always)]
    pub fn is_negative(self) -> bool {
        self.0 & Self::NEGATIVE != 0
    }

    /// Whether the answer is neither negative nor a failure.
    #[inline(always)]
    pub fn is_positive(self) -> bool {
        self.0 & (Self::NEGATIVE | 0x0f) == rcode::NOERROR
    }

    /// Whether the answer was validated.
    #[inline(always)]
    pub fn is_authentic(self) -> bool {
        self.0 & Self::AD != 0
    }

    /// Returns the response code.
    #[inline(always)]
    pub fn rcode(self) -> u8 {
        self.0 & 0x0f
    }

    /// Whether the records were left out because of their size.
    #[inline(always)]
    pub fn is_truncated(self) -> bool {
        self.0 & Self::TRUNCATED != 0
    }

    /// Returns the status as header flags.
    #[inline(always)]
    pub fn flags(self) -> u16 {
        let status = u16::from(self.0);
        // AA: 0x10 to 0x0400; AD: 0x20 in both; TC: 0x40 to 0x0200.
        status & 0x0f | (status & 0x10) << 6 | status & 0x20 | (status & 0x40) << 3
    }
}

/// Reasons why a response cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// No room for a header.
    #[error("the response is shorter than a DNS header")]
    Short,
    /// QR=0, or another opcode.
    #[error("the message is not a response to a query")]
    NotResponse,
    /// Answers another question than was asked.
    #[error("the response repeats another question than was asked")]
    OtherQuestion,
    /// Ends early, or has names that cannot be parsed.
    #[error("the response's records do not fit its header")]
    Malformed,
}

/// TTL rules of a cache, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlRules {
    /// Shortest time that an answer is kept.
    pub min: Secs,
    /// Longest time that an answer is kept.
    pub max: Secs,
    /// Longest time that a negative answer is kept (RFC 2308 section 5).
    pub negative_max: Secs,
    /// Time after its expiry in which an answer may still be given out.
    pub stale: Secs,
    /// Last part of its lifetime in which an answer is renewed if it is requested often, in
    /// percent.
    pub ahead: u8,
}

impl TtlRules {
    /// Rules that change nothing.
    const LOOSE: TtlRules = TtlRules { min: 0, max: Secs::MAX, negative_max: Secs::MAX, stale: 0, ahead: 0 };
}

impl Answer {
    /// Parses the answer to `key` from a response, which must repeat the question and be
    /// well-formed.
    ///
    /// `ttl` is 0 if the answer must not be cached: a negative one without SOA (RFC 2308 section
    /// 5), or an error.
    pub fn from_response(
        message: &[u8],
        key: &Key,
        rules: &TtlRules,
        now: Secs,
        trust_ad: bool,
    ) -> Result<Answer, ResponseError> {
        let (header, _) = Header::ref_from_prefix(message).map_err(|_| ResponseError::Short)?;
        let flags = header.flags.get();
        if flags & header::QR == 0 || flags & header::OPCODE != 0 {
            return Err(ResponseError::NotResponse);
        }
        let question = question_end(message, key).ok_or(ResponseError::OtherQuestion)?;
        if header.qdcount.get() != 1 {
            return Err(ResponseError::OtherQuestion);
        }
        let counts = [header.ancount.get(), header.nscount.get(), header.arcount.get()];
        let mut scan =
            Scan::over(message, question, key.asked().qtype(), counts).ok_or(ResponseError::Malformed)?;
        let status = Status::from_flags(flags, trust_ad);
        let ttl = scan.lifetime(status.rcode(), rules);
        let source_ttl = scan.lifetime(status.rcode(), &TtlRules::LOOSE);
        scan.write_ttls(question, status.rcode(), ttl, rules);
        Ok(Answer {
            status,
            counts: scan.counts,
            ttls: scan.records.iter().map(|record| record.ttl_at.to_le_bytes()).collect(),
            sum: checksum::fold_native(checksum::placed(checksum::sum(&scan.wire, 0), question)),
            wire: scan.wire.into(),
            received: now,
            ttl,
            source_ttl,
            stale: if ttl == 0 { 0 } else { rules.stale },
            ahead: (u64::from(ttl) * u64::from(rules.ahead) / 100) as Secs,
            ede: None,
        })
    }

    /// Returns a bare response code, to be cached for `ttl` seconds (RFC 9520: failures), with its
    /// extended error (RFC 8914).
    pub fn error(rcode: u8, ede: Option<u16>, now: Secs, ttl: Secs) -> Answer {
        Answer {
            status: Status(rcode),
            counts: [0; 3],
            ttls: Box::new([]),
            wire: Box::new([]),
            sum: 0,
            received: now,
            ttl,
            source_ttl: ttl,
            stale: 0,
            ahead: 0,
            ede,
        }
    }

    /// Returns the time at which the answer expires.
    pub fn expires(&self) -> Secs {
        self.received.saturating_add(self.ttl)
    }

    /// Whether it is time to renew the answer, if it is requested often.
    pub fn is_due(&self, now: Secs) -> bool {
        self.ahead > 0 && now >= self.expires().saturating_sub(self.ahead)
    }

    /// Returns the time from which the answer may no longer be given out, even as a stale one.
    pub fn dead(&self) -> Secs {
        self.expires().saturating_add(self.stale)
    }

    /// Returns how to write the TTLs at `now`. `known` tells whether the answer was cached before
    /// it was requested. An answer that is only passed on is never stale.
    pub fn age(&self, known: bool, now: Secs, stale_ttl: Secs) -> Age {
        let age = now.saturating_sub(self.received);
        if now >= self.expires() && self.stale > 0 {
            Age::Stale(stale_ttl)
        } else if known {
            Age::Fresh(age)
        } else {
            Age::New(age)
        }
    }

    /// Returns the parts that a reply is built from.
    pub fn view(&self) -> View<'_> {
        View { ede: self.ede, ..View::new(self.status, self.counts, &self.ttls, &self.wire, self.sum) }
    }
}

/// Borrowed answer, from the worker cache or the host cache.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// RCODE, AA, AD.
    pub status: Status,
    /// Part of the reply's header that depends on the answer: see [`header::start`].
    pub start: u64,
    /// Number of additional records.
    pub additional: u16,
    /// Offset of each TTL in the message, little-endian.
    pub ttls: &'a [[u8; 2]],
    /// Records in wire format.
    pub wire: &'a [u8],
    /// Folded checksum of the records at their place after the question.
    pub sum: u16,
    /// Extended error to send with the RCODE (RFC 8914).
    pub ede: Option<u16>,
    /// Name of the list that gave the answer, which goes with the extended error.
    pub list: Option<&'a str>,
}

impl<'a> View<'a> {
    /// Returns the answer as one that the list with this name gave, if there is one.
    #[inline(always)]
    pub fn by(self, list: Option<&'a str>) -> Self {
        View { list, ..self }
    }

    fn new(status: Status, counts: [u16; 3], ttls: &'a [[u8; 2]], wire: &'a [u8], sum: u16) -> Self {
        let flags = header::QR | header::RA | status.flags();
        let start = header::start(flags, counts[0], counts[1]);
        View {
            status: status.with_answers(counts[0]),
            start,
            additional: counts[2],
            ttls,
            wire,
            sum,
            ede: None,
            list: None,
        }
    }

    /// Returns the answer in at most `room` bytes of records, which begin at offset `at` of the
    /// message. It leaves out the additional records, and the authority records if they are not
    /// part of the answer. They are if they prove something (`proofs`) or tell how long something
    /// does not exist. This cuts off nothing that was asked for (RFC 2181 section 9). Returns
    /// `None` if it is still too large.
    pub fn fitted(&self, room: usize, at: usize, proofs: bool) -> Option<View<'a>> {
        if self.wire.len() <= room {
            return Some(*self);
        }
        let [answers, authority] = header::counts(self.start);
        let needed = usize::from(answers)
            + if proofs || self.status.is_negative() { usize::from(authority) } else { 0 };
        let all = usize::from(answers) + usize::from(authority);
        let (records, end) = [all, needed].into_iter().find_map(|records| {
            let end = self.end_of(records, at)?;
            (end <= room).then_some((records, end))
        })?;
        let counts = [answers, if records == all { authority } else { records as u16 - answers }, 0];
        let wire = &self.wire[..end];
        let sum = checksum::fold_native(checksum::placed(checksum::sum(wire, 0), at));
        let (flags, ede) = (header::flags_of(self.start), self.ede);
        let start = header::start(flags, counts[0], counts[1]);
        Some(View { start, additional: 0, ttls: &self.ttls[..records], wire, sum, ede, ..*self })
    }

    /// Returns the end of the first `records` records, which begin at offset `at` of the message.
    fn end_of(&self, records: usize, at: usize) -> Option<usize> {
        let Some(last) = records.checked_sub(1) else { return Some(0) };
        // After the TTL come the length of the data, and the data.
        let length = usize::from(u16::from_le_bytes(*self.ttls.get(last)?)).checked_sub(at)? + 4;
        let data: &[u8; 2] = self.wire.get(length..)?.first_chunk()?;
        Some(length + 2 + usize::from(u16::from_be_bytes(*data))).filter(|end| *end <= self.wire.len())
    }

    /// Returns the answer without records, for when they are too large to send.
    pub fn truncated(&self) -> View<'a> {
        let (ede, list) = (self.ede, self.list);
        View { ede, list, ..View::new(self.status.truncated(), [0; 3], &[], &[], 0) }
    }
}

/// Returns the end of the question at offset 12, if it is `key`'s in any case.
fn question_end(message: &[u8], key: &Key) -> Option<usize> {
    let end = header::LEN + key.question().len();
    let (name, rest) = message.get(header::LEN..end)?.split_at(key.asked().name().len());
    let same = name.eq_ignore_ascii_case(key.asked().name()) && rest == &key.question()[name.len()..];
    same.then_some(end)
}

/// Result of one pass over a response's records.
struct Scan {
    wire: Vec<u8>,
    records: Vec<Scanned>,
    counts: [u16; 3],
    /// Lesser of SOA TTL and MINIMUM in the authority section.
    negative: Option<u32>,
    /// Whether the answer section has a record of the requested type, and not only aliases that
    /// lead to nothing.
    answered: bool,
}

/// TTL of a record, and its position.
struct Scanned {
    ttl_at: u16,
    ttl: u32,
}

impl Scan {
    fn over(message: &[u8], question: usize, qtype: u16, counts: [u16; 3]) -> Option<Scan> {
        let mut scan =
            Scan { wire: Vec::new(), records: Vec::new(), counts, negative: None, answered: false };
        let mut at = question;
        let mut opt = None;
        // The current RRset: its owner and type as written, and its first record.
        let mut set: (&[u8], usize) = (&[], 0);
        for (section, count) in counts.into_iter().enumerate() {
            for nth in 0..count {
                let record = record::RecordHead::parse(message, at)?;
                if record.rtype == rtype::OPT {
                    if section != 2 || opt.replace(at).is_some() {
                        return None;
                    }
                    // Removing the OPT record would move the records after it and break their
                    // pointers, so those records are removed too. Clients have no claim to
                    // additional records, and hardly any server puts some after the OPT.
                    scan.counts[2] = nth;
                } else if opt.is_none() {
                    let owner_and_type = &message[at..record.ttl_at - 2];
                    if owner_and_type != set.0 {
                        scan.level(set.1);
                        set = (owner_and_type, scan.records.len());
                    }
                    // Signatures do not form a set.
                    if record.rtype == rtype::RRSIG {
                        set.1 = scan.records.len();
                    }
                    scan.answered |= section == 0 && (record.rtype == qtype || qtype == rtype::ANY);
                    scan.add(message, section, record)?;
                }
                at = record.end;
            }
            scan.level(set.1);
            set = (&[], scan.records.len());
        }
        // Some upstreams send bytes behind the last record. They mean nothing, and are left out.
        scan.wire.extend_from_slice(&message[question..opt.unwrap_or(at)]);
        Some(scan)
    }

    /// Gives the records from number `set` on, an RRset, the least of their TTLs (RFC 2181 section
    /// 5.2).
    fn level(&mut self, set: usize) {
        let records = self.records.get_mut(set..).unwrap_or_default();
        let least = records.iter().map(|record| record.ttl).min();
        records.iter_mut().for_each(|record| record.ttl = least.unwrap_or(record.ttl));
    }

    /// Adds a record.
    fn add(&mut self, message: &[u8], section: usize, record: record::RecordHead) -> Option<()> {
        let ttl = sane(record.ttl);
        if section == 1 && record.rtype == rtype::SOA {
            // MINIMUM is the last of the record's fields (RFC 1035 section 3.3.13).
            let minimum = u32::from_be_bytes(*message.get(record.rdata..record.end)?.last_chunk::<4>()?);
            self.negative = Some(ttl.min(sane(minimum)));
        }
        self.records.push(Scanned { ttl_at: u16::try_from(record.ttl_at).ok()?, ttl });
        Some(())
    }

    /// Whether the response is negative: the name does not exist, or has no record of the type at
    /// the end of all aliases (RFC 2308 sections 2.1 and 2.2). Aliases alone may continue
    /// elsewhere.
    fn is_negative(&self, rcode: u8) -> bool {
        rcode == rcode::NXDOMAIN || !self.answered && (self.negative.is_some() || self.counts[0] == 0)
    }

    fn lifetime(&self, rcode: u8, rules: &TtlRules) -> Secs {
        let least = self.records.iter().map(|record| record.ttl).min();
        if !matches!(rcode, rcode::NOERROR | rcode::NXDOMAIN) {
            0
        } else if !self.is_negative(rcode) {
            least.unwrap_or(0).max(rules.min).min(rules.max)
        } else if let (Some(negative), Some(least)) = (self.negative, least) {
            negative.min(least).max(rules.min).min(rules.negative_max)
        } else {
            0
        }
    }

    /// Writes the TTLs that clients see. If the answer is kept, for `lifetime`, they follow
    /// `rules`, so that no reply needs to apply them again.
    fn write_ttls(&mut self, question: usize, rcode: u8, lifetime: Secs, rules: &TtlRules) {
        // RFC 2308 section 3: the SOA's TTL tells how long a negative answer may be cached.
        let most = if self.is_negative(rcode) { lifetime } else { rules.max };
        for record in &self.records {
            let ttl = if lifetime > 0 { record.ttl.max(rules.min).min(most) } else { record.ttl };
            let at = usize::from(record.ttl_at) - question;
            if let Some(field) = self.wire.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()) {
                *field = ttl.to_be_bytes();
            }
        }
    }
}

/// Returns the TTL, or zero if its top bit is set (RFC 2181 section 8).
fn sane(ttl: u32) -> u32 {
    if ttl > i32::MAX as u32 { 0 } else { ttl }
}
