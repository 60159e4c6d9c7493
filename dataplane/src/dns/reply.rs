//! Builder of replies, for rings, sockets and TCP. It gives the same answers as a glance does.

use super::{
    CLASS_CH, OPT_LEN,
    answer::View,
    header::{self, Header, Words},
    option::{Errors, Options},
    query::{Edns, Query, Reject},
    rcode,
    record::{RecordHead, skip_name},
    rtype,
};
use crate::checksum;
use zerocopy::{big_endian::U16, transmute_mut, transmute_ref};

/// Age of an answer, which decides how its TTLs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Just resolved: each TTL is lowered by this many seconds, usually none.
    New(u32),
    /// Fresh and cached: each TTL is lowered by this many seconds.
    Fresh(u32),
    /// Stale: each TTL is this one (RFC 8767 section 4: above zero, 30 s advised).
    Stale(u32),
}

/// Limits and options of this server that apply to replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyLimits<'a> {
    /// Largest reply in bytes.
    pub reply: usize,
    /// UDP size that we advertise, in bytes (RFC 6891 section 6.2.5; RFC 9715: 1232).
    pub advertise: u16,
    /// Options in our OPT record for this client.
    pub options: Options<'a>,
}

/// Reply that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Length of the reply in bytes.
    pub len: usize,
    /// Whether its records were left out because of their size (TC=1).
    pub cut: bool,
    /// Change of the message's [checksum](crate::checksum) from the query's.
    pub change: u64,
}

/// Turns the query of `query_len` bytes at the start of `message` into its reply, in place.
///
/// `message[..12 + question_len]` is the query's header and question; ID and question stay as the
/// client wrote them. `message` must be at least [`ReplyLimits::reply`] bytes long.
pub fn answer(
    message: &mut [u8],
    query_len: usize,
    query: &Query,
    view: View<'_>,
    age: Age,
    limits: &ReplyLimits<'_>,
) -> Reply {
    let most = limits.reply.min(message.len());
    let records = header::LEN + query.question_len();
    let (mut opt, mut errors) = (0, Errors::default());
    if query.edns.is_some() {
        opt = OPT_LEN + limits.options.len();
        errors = Errors::of(&view, age);
    }
    let proofs = query.key.asked().dnssec_ok();
    let fitted = view.fitted(most.saturating_sub(records + opt), records, proofs);
    let fitted = fitted.filter(|view| !view.status.is_truncated());
    let cut = fitted.is_none();
    let view = fitted.unwrap_or_else(|| view.truncated());
    let len = records + view.wire.len() + opt;
    // Extended errors are left out if they would cut records or make the reply too large.
    let errors = errors.fitted(most.saturating_sub(len));
    Reply { cut, ..fill(message, query_len, query, view, age, errors, limits) }
}

#[inline(always)]
fn fill(
    message: &mut [u8],
    query_len: usize,
    query: &Query,
    view: View<'_>,
    age: Age,
    errors: Errors<'_>,
    limits: &ReplyLimits<'_>,
) -> Reply {
    let records = header::LEN + query.question_len();
    let mut sum = u64::from(view.sum);
    let (head, rest) = message.split_at_mut(records);
    if query_len > records {
        // The bytes after the question go, and their sum with them.
        sum = checksum::add(sum, !checksum::placed(checksum::sum(&rest[..query_len - records], 0), records));
    }
    rest[..view.wire.len()].copy_from_slice(view.wire);
    sum = checksum::add(sum, age_ttls(rest, records, view.ttls, age));
    let mut len = records + view.wire.len();
    let mut additional = view.additional;
    if let Some(edns) = &query.edns {
        sum = checksum::add(sum, write_opt(rest, records, view.wire.len(), edns, 0, limits));
        additional += 1;
        len += OPT_LEN;
        if !errors.is_empty() || !limits.options.is_empty() {
            let opt = &mut rest[view.wire.len()..];
            sum = checksum::add(sum, write_options(opt, records + view.wire.len(), errors, &limits.options));
            len += limits.options.len() + errors.len();
        }
    }
    let Some(header) = head.first_chunk_mut::<{ header::LEN }>() else {
        unreachable!("records follow the header")
    };
    let header: &mut Words = transmute_mut!(header);
    let (old, old_count) = (header.start.get(), header.arcount.get());
    let mut start = view.start | old & ECHOED;
    if start & AUTHENTIC != 0 && !wants_ad(query) {
        start &= !AUTHENTIC;
    }
    header.start.set(start);
    header.arcount.set(additional.to_be());
    let counts = u64::from(additional.to_be()) + u64::from(!old_count);
    let change = checksum::chain(sum, [!old, start, counts]);
    Reply { len, cut: false, change }
}

/// Turns the query at the start of `message` into the error that rejects it. Returns the reply's
/// length: 0 if the message is not to be answered. `message` must be at least [`ReplyLimits::reply`]
/// bytes long.
pub fn reject(message: &mut [u8], query: &Query, reject: Reject<'_>, limits: &ReplyLimits<'_>) -> usize {
    match reject {
        // The control plane answers a NOTIFY.
        Reject::Drop(_) | Reject::Notify => return 0,
        Reject::Header(rcode) => {
            let flags = match query.flags & header::OPCODE {
                0 => echoed(query),
                // The meaning of the other flags of another operation is unknown (RFC 8906 section
                // 8.1.4).
                opcode => header::QR | opcode,
            };
            write_header(message, flags | u16::from(rcode), [0; 4]);
            return header::LEN;
        }
        Reject::Identity(text) => return identity(message, query, text, limits),
        Reject::Question(_)
        | Reject::BadVersion
        | Reject::BadCookie
        | Reject::NoQuestion
        | Reject::Denied
        | Reject::NotRecursive => {}
    }
    let errors = Errors::of_reject(reject);
    let end = header::LEN + query.question_len();
    let questions = u16::from(query.question_len() > 0);
    finish(message, query, end, [questions, 0], reject.rcode(), errors, limits)
}

/// Turns the query at the start of `message` into a reply without records and with TC=1, after which
/// a client asks over TCP. Returns the reply's length.
pub fn truncated(message: &mut [u8], query: &Query, limits: &ReplyLimits<'_>) -> usize {
    let end = header::LEN + query.question_len();
    let len = finish(message, query, end, [1, 0], u16::from(rcode::NOERROR), Errors::default(), limits);
    write_header(message, echoed(query) | header::TC, [1, 0, 0, u16::from(len > end)]);
    len
}

/// Turns the query at the start of `message` into the answer with this server's name: one TXT
/// record (RFC 4892 section 2).
fn identity(message: &mut [u8], query: &Query, text: &[u8], limits: &ReplyLimits<'_>) -> usize {
    let at = header::LEN + query.question_len();
    // The name is the question's. The TTL is zero, since nobody needs to cache this.
    let [t1, t0, c1, c0] = zerocopy::transmute!([U16::new(rtype::TXT), U16::new(CLASS_CH)]);
    let len = text.len() as u8;
    message[at..at + 13].copy_from_slice(&[0xc0, 12, t1, t0, c1, c0, 0, 0, 0, 0, 0, len + 1, len]);
    let end = at + 13 + text.len();
    message[at + 13..end].copy_from_slice(text);
    finish(message, query, end, [1, 1], u16::from(rcode::NOERROR), Errors::default(), limits)
}

/// Completes a reply that is built from scratch, with the OPT record at `end` and the given counts
/// of questions and answers. Returns its length.
fn finish(
    message: &mut [u8],
    query: &Query,
    end: usize,
    [questions, answers]: [u16; 2],
    rcode: u16,
    errors: Errors<'_>,
    limits: &ReplyLimits<'_>,
) -> usize {
    let mut len = end;
    if let Some(edns) = &query.edns {
        // The OPT record holds the upper eight bits of the response code (RFC 6891 section 6.1.3).
        write_opt(&mut message[end..], end, 0, edns, (rcode >> 4) as u8, limits);
        write_options(&mut message[end..], end, errors, &limits.options);
        len += OPT_LEN + limits.options.len() + errors.len();
    }
    let flags = echoed(query) | rcode & header::RCODE;
    write_header(message, flags, [questions, answers, 0, u16::from(len > end)]);
    len
}

/// Cuts a reply of ours to its question and its OPT record, and sets TC. Returns its new length;
/// `None` if it is no message that this builder can have made.
pub fn cut(message: &mut [u8]) -> Option<usize> {
    let header: &Header = transmute_ref!(message.first_chunk::<{ header::LEN }>()?);
    let questions = header.qdcount.get();
    let records = [header.ancount, header.nscount, header.arcount].map(|count| u32::from(count.get()));
    let flags = header.flags.get() | header::TC;
    let mut end = header::LEN;
    for _ in 0..questions {
        end = skip_name(message, end)? + 4;
    }
    let (mut at, mut last) = (end, None);
    for _ in 0..records.iter().sum() {
        let record = RecordHead::parse(message, at)?;
        last = Some((record.rtype, at..record.end));
        at = record.end;
    }
    // The OPT record is always the last one.
    let opt = last.filter(|(rtype, _)| *rtype == rtype::OPT).map_or(end..end, |(_, span)| span);
    let additional = u16::from(!opt.is_empty());
    let len = end + opt.len();
    message.copy_within(opt, end);
    write_header(message, flags, [questions, 0, 0, additional]);
    Some(len)
}

/// Flags of the query's header that the reply repeats.
const ECHOED: u64 = header::flags(header::RD | header::CD);
const AUTHENTIC: u64 = header::flags(header::AD);

/// Returns QR and RA, with the client's RD and CD.
fn echoed(query: &Query) -> u16 {
    header::QR | header::RA | query.flags & (header::RD | header::CD)
}

/// Whether the client asked for AD, by AD or DO (RFC 6840 section 5.8).
#[inline(always)]
fn wants_ad(query: &Query) -> bool {
    query.flags & header::AD != 0 || query.key.asked().dnssec_ok()
}

fn write_header(message: &mut [u8], flags: u16, counts: [u16; 4]) {
    let Some(header) = message.first_chunk_mut::<{ header::LEN }>() else { return };
    let fields: &mut Header = transmute_mut!(header);
    fields.flags.set(flags);
    [fields.qdcount, fields.ancount, fields.nscount, fields.arcount] = counts.map(U16::new);
}

/// Lowers or replaces the TTLs of the records in `wire`, which begin at offset `records`. Returns
/// the change of their sum.
#[inline(always)]
fn age_ttls(wire: &mut [u8], records: usize, ttls: &[[u8; 2]], age: Age) -> u64 {
    let mut lowered = 0;
    for offset in ttls {
        let at = usize::from(u16::from_le_bytes(*offset));
        let Some(field) =
            wire.get_mut(at.wrapping_sub(records)..).and_then(|rest| rest.first_chunk_mut::<4>())
        else {
            continue;
        };
        let old = u32::from_be_bytes(*field);
        let (new, less) = match age {
            Age::New(age) | Age::Fresh(age) => {
                let new = old.saturating_sub(age);
                (new, u64::from(old - new))
            }
            // The new TTL may be higher than the old one; its complement acts as its negative.
            Age::Stale(ttl) => (ttl, u64::from(old) + u64::from(!ttl)),
        };
        *field = new.to_be_bytes();
        lowered += checksum::number(less, at);
    }
    !lowered
}

/// Writes an OPT record (RFC 6891 section 7), made for this client and never a cached one, at `at`
/// in the part of the message that begins at `records`. Returns its sum.
#[inline(always)]
fn write_opt(
    rest: &mut [u8],
    records: usize,
    at: usize,
    edns: &Edns,
    rcode_high: u8,
    limits: &ReplyLimits<'_>,
) -> u64 {
    let [size1, size0] = limits.advertise.to_be_bytes();
    let dnssec_ok = u8::from(edns.dnssec_ok) << 7;
    // As a word, because it is summed too; the remaining bytes are zeros.
    let start = u64::from_ne_bytes([0, 0, 41, size1, size0, rcode_high, 0, dnssec_ok]);
    let [a, b, c, d, e, f, g, h] = start.to_ne_bytes();
    rest[at..at + OPT_LEN].copy_from_slice(&[a, b, c, d, e, f, g, h, 0, 0, 0]);
    checksum::placed(start, records + at)
}

/// Adds options to an OPT record at the start of `opt`, which has none yet and is at offset `at` of
/// the message. Returns the change of its sum.
#[cold]
pub fn write_options(opt: &mut [u8], at: usize, errors: Errors<'_>, always: &Options<'_>) -> u64 {
    let len = always.len() + errors.len();
    let options = &mut opt[OPT_LEN - 2..][..2 + len];
    options[..2].copy_from_slice(&(len as u16).to_be_bytes());
    errors.write(always.write(&mut options[2..]));
    checksum::placed(checksum::sum_from::<1>(options, 0), at + OPT_LEN - 2)
}
