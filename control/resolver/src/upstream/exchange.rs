//! Exchange with an upstream: writes queries and judges responses.

use crate::{
    message::{
        Message, denial,
        scrub::{self, Scrubbed},
    },
    upstream::{Upstream, UpstreamCounters, alias::Alias, cookie::CookieVerdict},
};
use ringdns_common::counters::Counter;
use ringdns_config::Transport;
use ringdns_dataplane::{
    clock::Clock,
    dns::{
        answer::{Answer, ResponseError, TtlRules},
        header::{self, Header},
        key::Key,
        rcode,
        record::RecordHead,
        rtype,
    },
};
use rustix::io::Errno;
use zerocopy::FromBytes;

/// UDP payload size that queries offer, in bytes (RFC 9715).
const UDP_SIZE: u16 = 1232;
/// EDNS options: cookie (RFC 7873), extended error (RFC 8914).
const COOKIE: u16 = 10;
const EXTENDED_ERROR: u16 = 15;
/// Extended response code that asks for a newer cookie (RFC 7873).
const BADCOOKIE: u16 = 23;

/// Least length in bytes of a datagram that may have been cut on its way: no network cuts shorter
/// ones (RFC 1035 section 2.3.4).
const CUT_MIN: usize = 512;

/// Most records of a response that is decoded. Addresses alone are not.
const RECORDS_MAX: usize = 1024;

/// Rules by which responses are judged.
#[derive(Clone, Copy)]
pub struct JudgeRules {
    /// Rules for the time that answers are kept.
    pub ttl: TtlRules,
    /// Clock of answers' ages.
    pub clock: Clock,
}

/// Manner in which a query is written, and which its answer must match.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Whether the query has EDNS.
    pub edns: bool,
    /// Whether the query has a DNS cookie.
    cookie: bool,
    /// Whether it goes over a connection, where only someone who sees the query can forge an
    /// answer.
    stream: bool,
    /// Bits of the letters that are written in upper case, repeated as often as the name needs; 0:
    /// none.
    letters: u64,
}

impl Manner {
    /// Returns the manner for UDP, with protection against forgers.
    pub fn over_udp(upstream: &Upstream, key: &Key, clock: Clock) -> Self {
        let letters = if upstream.randomizes_case(clock.nanos()) { rand::random() } else { 0 };
        Manner { stream: false, letters, ..Self::over_stream(upstream, key, clock) }
    }

    /// Returns the manner for a connection. Cookies protect nothing there, but show whether an
    /// upstream that is asked over UDP still has them.
    pub fn over_stream(upstream: &Upstream, key: &Key, clock: Clock) -> Self {
        let edns = upstream.edns.allows(key.asked().name(), clock.nanos());
        let cookie = edns && upstream.cookies.is_some() && upstream.transport == Transport::Udp;
        Manner { edns, cookie, stream: true, letters: 0 }
    }

    /// Returns this manner without EDNS.
    pub fn without_edns(self) -> Self {
        Manner { edns: false, cookie: false, ..self }
    }

    /// Returns this manner without random letters.
    pub fn in_plain_letters(self) -> Self {
        Manner { letters: 0, ..self }
    }

    /// Whether the query goes over a connection.
    pub fn is_over_stream(self) -> bool {
        self.stream
    }

    /// Whether a response in this manner shows that the upstream repeats letters.
    pub fn tests_letters(self) -> bool {
        self.letters != 0
    }

    /// Returns this manner without a cookie.
    pub fn without_cookie(self) -> Self {
        Manner { cookie: false, ..self }
    }

    /// Spells a name on the wire in this manner's letters.
    fn spelled(self, name: &[u8]) -> impl Iterator<Item = u8> {
        // Label lengths are below 64 and thus no letters.
        name.iter().enumerate().map(move |(at, byte)| {
            if self.letters >> (at % 64) & 1 == 1 { byte.to_ascii_uppercase() } else { *byte }
        })
    }
}

/// Appends a query for `key`.
pub fn write_query(upstream: &Upstream, key: &Key, manner: Manner, id: u16, to: &mut Vec<u8>) {
    let asked = key.asked();
    let checking_disabled = if asked.checking_disabled() { header::CD } else { 0 };
    // RFC 6840 section 5.7: AD in a query asks for AD in the answer.
    let authentic = if upstream.trusted { header::AD } else { 0 };
    let flags = header::RD | checking_disabled | authentic;
    for word in [id, flags, 1, 0, 0, u16::from(manner.edns)] {
        to.extend_from_slice(&word.to_be_bytes());
    }
    to.extend(manner.spelled(asked.name()));
    to.extend_from_slice(&asked.question[asked.name().len()..]);
    if !manner.edns {
        return;
    }
    let [size1, size0] = UDP_SIZE.to_be_bytes();
    let dnssec_ok = u8::from(asked.dnssec_ok()) << 7;
    to.extend_from_slice(&[0, 0, rtype::OPT as u8, size1, size0, 0, 0, dnssec_ok, 0, 0, 0]);
    if let Some(jar) = upstream.cookies.as_ref().filter(|_| manner.cookie) {
        let options = to.len();
        to.extend_from_slice(&[0, COOKIE as u8, 0, 0]);
        jar.write(to);
        // A cookie is at most 40 bytes.
        let len = (to.len() - options) as u8;
        to[options - 1] = len;
        to[options + 3] = len - 4;
    }
}

/// Judgement of a response.
#[derive(Debug)]
pub enum Judged {
    /// Answer; with the alias at its end if the upstream does not give its target.
    Answer(Answer, Option<Box<Alias>>),
    /// Failure of the upstream, with its response code and perhaps an extended error.
    Failure(u8, Option<u16>),
    /// Message that proves nothing. Whoever guesses port and ID can send it, so the query stays in
    /// flight.
    Hint(Hint),
    /// Demand for the newest cookie, which came along.
    BadCookie,
    /// Sign that the upstream does not understand EDNS.
    NoEdns,
    /// Malformed or contradictory message over a connection.
    Malformed,
}

/// Sign that a query will have no answer, or none that can be used. It may be forged, so it hurries
/// the next step and ends no wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Truncated answer.
    Truncated,
    /// Truncated answer without a question.
    BareTruncated,
    /// Failure without a question.
    BareFailure,
    /// Failure without a question, as of an upstream that does not understand EDNS.
    NoEdns,
    /// Possible answer that spells the question in other letters.
    Respelled,
    /// Possible answer without the cookie that earlier ones had.
    CookieMissing,
    /// Malformed or contradictory message.
    Malformed,
    /// Error of the kernel, mostly because of an ICMP message (RFC 8085 section 5.2).
    Unreachable(Errno),
}

impl Hint {
    /// Whether the upstream may have failed, so that another one may do better.
    pub fn tells_of_failure(self) -> bool {
        matches!(self, Hint::BareFailure | Hint::Malformed | Hint::Unreachable(_))
    }

    /// Returns the counter of such hints.
    pub fn counter(self, counters: &UpstreamCounters) -> &Counter {
        match self {
            Hint::Truncated => &counters.truncated,
            Hint::BareTruncated | Hint::BareFailure => &counters.hints,
            Hint::NoEdns => &counters.without_edns,
            Hint::Respelled => &counters.respelled,
            Hint::CookieMissing => &counters.cookie_missing,
            Hint::Malformed => &counters.malformed,
            Hint::Unreachable(_) => &counters.unreachable,
        }
    }
}

/// Reason why a message is no response to a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// The message is too short, or no response.
    NotResponse,
    /// The message answers another question.
    WrongQuestion,
    /// The message answers another client, by its cookie.
    WrongCookie,
}

/// Judges a response to a query for `key`. The caller checks the ID.
pub fn judge(
    upstream: &Upstream,
    key: &Key,
    rules: &JudgeRules,
    manner: Manner,
    message: &[u8],
) -> Result<Judged, Ignored> {
    let (header, _) = Header::ref_from_prefix(message).map_err(|_| Ignored::NotResponse)?;
    let flags = header.flags.get();
    let low = (flags & header::RCODE) as u8;
    let refuses_edns = manner.edns && matches!(low, rcode::FORMERR | rcode::NOTIMP);
    if flags & header::QR != 0
        && header.qdcount.get() == 0
        && let Some(judged) = judge_without_question(upstream, manner, flags)
    {
        return Ok(judged);
    }
    // A connection brings no hints: only the upstream can write to it.
    let hint = |hint| Ok(if manner.stream { Judged::Malformed } else { Judged::Hint(hint) });
    let answer = Answer::from_response(message, key, &rules.ttl, rules.clock.secs(), upstream.trusted);
    match answer {
        Err(ResponseError::Short | ResponseError::NotResponse) => return Err(Ignored::NotResponse),
        Err(ResponseError::OtherQuestion) => return Err(Ignored::WrongQuestion),
        Ok(_) | Err(ResponseError::Malformed) => {}
    }
    let name = key.asked().name();
    if manner.letters != 0 && !manner.spelled(name).eq(message[header::LEN..][..name.len()].iter().copied()) {
        return hint(Hint::Respelled);
    }
    let answer = match answer {
        // A truncated response may end within a record, so this comes before the records are
        // checked.
        _ if flags & header::TC != 0 => return hint(Hint::Truncated),
        // The network may have cut it.
        Err(_) if message.len() >= CUT_MIN => return hint(Hint::Truncated),
        Err(_) => return hint(Hint::Malformed),
        Ok(answer) => answer,
    };
    // Bytes behind the last record are no OPT record.
    let has_opt = header.arcount.get() > answer.counts[2];
    let records = header::LEN + key.question().len();
    let opt = UpstreamOpt::parse(message, records + answer.wire.len()).filter(|_| has_opt);
    if let Some(jar) = upstream.cookies.as_ref().filter(|_| manner.cookie) {
        match jar.judge(opt.as_ref().and_then(|opt| opt.option(COOKIE))) {
            CookieVerdict::Fits => {}
            CookieVerdict::Forged => return Err(Ignored::WrongCookie),
            // The upstream has no cookies any more.
            CookieVerdict::Missing if manner.stream => jar.clear(),
            CookieVerdict::Missing => return hint(Hint::CookieMissing),
        }
    }
    // Without the upper bits BADVERS looks like success (RFC 6891 section 6.1.3).
    let code = opt.as_ref().map_or(0, |opt| opt.rcode_high) << 4 | u16::from(low);
    let ede = opt.as_ref().and_then(UpstreamOpt::extended_error);
    match u8::try_from(code) {
        _ if refuses_edns => Ok(Judged::NoEdns),
        _ if code == BADCOOKIE && manner.cookie && !manner.stream => Ok(Judged::BadCookie),
        Ok(code) if rcode::is_answer(code) => {
            let answer = Answer { ede, ..answer };
            // The scan knows where records are, this step knows their content: nothing else is kept
            // or passed on.
            if needs_no_decoding(&answer, key, message) {
                return Ok(Judged::Answer(answer, None));
            }
            if has_too_many(&answer) {
                upstream.counters.too_many_records.inc();
                return Ok(Judged::Failure(rcode::SERVFAIL, None));
            }
            let (judged, changed) =
                scrubbed(upstream.trusted, manner.letters != 0, key, rules, message, answer);
            upstream.counters.scrubbed.add(u64::from(changed));
            if matches!(judged, Judged::Malformed) { hint(Hint::Malformed) } else { Ok(judged) }
        }
        Ok(code @ 0..=15) => Ok(Judged::Failure(code, ede)),
        _ => Ok(Judged::Failure(rcode::SERVFAIL, ede)),
    }
}

/// Judges a response that does not repeat the question; `None`: it says nothing.
fn judge_without_question(upstream: &Upstream, manner: Manner, flags: u16) -> Option<Judged> {
    let code = (flags & header::RCODE) as u8;
    match code {
        // An upstream that did not understand the query may not repeat the question (RFC 6891
        // section 7). An upstream that has sent cookies understands EDNS.
        rcode::FORMERR | rcode::NOTIMP if manner.edns => {
            let knows_better = manner.cookie && upstream.cookies.as_ref().is_some_and(|jar| jar.is_full());
            Some(match (manner.stream, knows_better) {
                (true, _) => Judged::NoEdns,
                (false, true) => Judged::Hint(Hint::CookieMissing),
                (false, false) => Judged::Hint(Hint::NoEdns),
            })
        }
        _ if manner.stream => (!rcode::is_answer(code)).then_some(Judged::Failure(code, None)),
        _ if flags & header::TC != 0 => Some(Judged::Hint(Hint::BareTruncated)),
        _ => (!rcode::is_answer(code)).then_some(Judged::Hint(Hint::BareFailure)),
    }
}

/// Returns the answer to `key` in a message that was kept, and the alias at its end; `None`: it is
/// no answer. `trusted`: its AD bit is believed. Otherwise it is trusted no more than a response of
/// an upstream.
pub fn judge_kept(
    key: &Key,
    rules: &JudgeRules,
    trusted: bool,
    message: &[u8],
) -> Option<(Answer, Option<Box<Alias>>)> {
    let answer = Answer::from_response(message, key, &rules.ttl, rules.clock.secs(), trusted).ok()?;
    let (header, _) = Header::ref_from_prefix(message).ok()?;
    if header.flags.get() & header::TC != 0 || answer.status.is_failure() {
        return None;
    }
    if needs_no_decoding(&answer, key, message) {
        return Some((answer, None));
    }
    if has_too_many(&answer) {
        return None;
    }
    match scrubbed(trusted, false, key, rules, message, answer).0 {
        Judged::Answer(answer, alias) => Some((answer, alias)),
        _ => None,
    }
}

/// Whether a response has more records than are decoded.
fn has_too_many(answer: &Answer) -> bool {
    answer.counts.iter().map(|count| usize::from(*count)).sum::<usize>() > RECORDS_MAX
}

/// Returns the answer without records that do not belong to it, and whether that changed it;
/// `respelled`: the query's letters were random.
fn scrubbed(
    trusted: bool,
    respelled: bool,
    key: &Key,
    rules: &JudgeRules,
    message: &[u8],
    answer: Answer,
) -> (Judged, bool) {
    let Some(mut parsed) = Message::parse(message, key) else { return (Judged::Malformed, false) };
    let refers = is_referral(&parsed);
    let scrubbed = scrub::scrub(&mut parsed, key.asked().dnssec_ok());
    // Answers to other questions make no answer of a referral, so it is looked at without them too.
    let (Ok(Scrubbed { changed, leads_to }), false) = (scrubbed, refers || is_referral(&parsed)) else {
        // The message is well-formed, and the upstream has trouble with this name.
        return (Judged::Failure(rcode::SERVFAIL, answer.ede), false);
    };
    let alias = leads_to.filter(|_| answer.status.rcode() == rcode::NOERROR);
    let alias = alias.and_then(|to| Alias::new(key, &to, parsed.flags & header::AA != 0));
    // Owners that repeat our random letters become pointers to the question, which has the client's
    // own. All else stays as it came: an answer that is written anew is longer, because names in
    // its data do not point to the question.
    let repeats_letters = || parsed.records().any(|record| *record.spelled != *record.owner.as_wire());
    let is_written_anew = changed || respelled && repeats_letters();
    if !is_written_anew {
        return (Judged::Answer(answer, alias), false);
    }
    let again = parsed.to_bytes().and_then(|message| {
        let now = rules.clock.secs();
        Answer::from_response(&message, key, &rules.ttl, now, trusted).ok()
    });
    let judged =
        again.map_or(Judged::Malformed, |again| Judged::Answer(Answer { ede: answer.ede, ..again }, alias));
    (judged, changed)
}

/// Whether a response is only a referral, as servers send that do not recurse. Without a SOA it
/// does not say that there is no data (RFC 2308 section 2.2).
fn is_referral(message: &Message) -> bool {
    let has = |rtype| message.authorities.iter().any(|record| record.rtype == rtype);
    message.answers.is_empty()
        && message.rcode() == rcode::NOERROR
        && message.flags & header::AA == 0
        && has(rtype::NS)
        && !has(rtype::SOA)
}

/// OPT record of an upstream.
struct UpstreamOpt<'a> {
    /// Upper eight bits of the response code.
    rcode_high: u16,
    options: &'a [u8],
}

impl<'a> UpstreamOpt<'a> {
    /// Parses the OPT record at `at`, if there is one.
    fn parse(message: &'a [u8], at: usize) -> Option<Self> {
        let record = RecordHead::parse(message, at).filter(|record| record.rtype == rtype::OPT)?;
        Some(UpstreamOpt {
            rcode_high: (record.ttl >> 24) as u16,
            options: message.get(record.rdata..record.end).unwrap_or_default(),
        })
    }

    /// Returns the data of an option.
    fn option(&self, code: u16) -> Option<&'a [u8]> {
        let mut rest = self.options;
        while let Some(([c1, c0, l1, l0], tail)) = rest.split_first_chunk() {
            let (data, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes([*l1, *l0])))?;
            if u16::from_be_bytes([*c1, *c0]) == code {
                return Some(data);
            }
            rest = tail;
        }
        None
    }

    fn extended_error(&self) -> Option<u16> {
        let code = self.option(EXTENDED_ERROR)?.first_chunk()?;
        Some(u16::from_be_bytes(*code))
    }
}

/// Whether an answer has no record but addresses that were asked for, in the answer section, or is a
/// denial with the zone's SOA record alone. Most answers are such.
fn needs_no_decoding(answer: &Answer, key: &Key, message: &[u8]) -> bool {
    match answer.counts {
        [_, 0, 0] => has_only_addresses(&answer.wire, key.asked().qtype()),
        [0, 1, 0] => denial::is_plain(message, key),
        _ => false,
    }
}

/// Whether there is no record but addresses of the type and name of the question.
fn has_only_addresses(mut records: &[u8], qtype: u16) -> bool {
    while let Some((head, rest)) = records.split_first_chunk() {
        let (rtype, length) = match head {
            [0xc0, 12, 0, 1, 0, 1, _, _, _, _, 0, 4] => (1, 4),
            [0xc0, 12, 0, 28, 0, 1, _, _, _, _, 0, 16] => (28, 16),
            _ => return false,
        };
        let Some(rest) = rest.get(length..).filter(|_| rtype == qtype) else { return false };
        records = rest;
    }
    records.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &[u8] = &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
    const AAAA: &[u8] =
        &[0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16, 32, 1, 13, 184, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

    #[test]
    fn only_what_cannot_be_wrong_is_not_decoded() {
        assert!(has_only_addresses(&[], 1) && has_only_addresses(&[A, A].concat(), 1));
        assert!(has_only_addresses(AAAA, 28) && !has_only_addresses(AAAA, 1));
        assert!(!has_only_addresses(&[A, AAAA].concat(), 1), "of another type than was asked for");
        let changed = |at: usize, byte: u8| {
            let mut record = A.to_vec();
            record[at] = byte;
            record
        };
        // Another owner, type, class or length of data; and data that ends early.
        for (at, byte) in [(0, 0), (1, 16), (3, 5), (5, 3), (11, 3), (11, 16)] {
            assert!(!has_only_addresses(&[A, &changed(at, byte)].concat(), 1), "{at}: {byte}");
        }
        assert!(!has_only_addresses(&A[..15], 1) && !has_only_addresses(&A[..3], 1));
    }

    #[test]
    fn options_are_found_and_broken_ones_are_none() {
        let opt = |options: &[u8]| {
            let mut record = vec![0, 0, 41, 4, 208, 1, 0, 0, 0, 0, options.len() as u8];
            record.extend(options);
            record
        };
        let record = opt(&[0, 3, 0, 1, 9, 0, 15, 0, 4, 0, 22, b'n', b'o']);
        let parsed = UpstreamOpt::parse(&record, 0).unwrap();
        assert_eq!((parsed.rcode_high, parsed.option(3), parsed.option(10)), (1, Some(&[9][..]), None));
        assert_eq!(parsed.extended_error(), Some(22));
        for broken in [&[0, 15, 0, 4, 0, 22][..], &[0, 15, 0, 1, 0], &[0, 15, 0]] {
            let record = opt(broken);
            assert_eq!(UpstreamOpt::parse(&record, 0).unwrap().extended_error(), None, "{broken:?}");
        }
        assert!(UpstreamOpt::parse(A, 0).is_none() && UpstreamOpt::parse(&[], 0).is_none());
    }
}
