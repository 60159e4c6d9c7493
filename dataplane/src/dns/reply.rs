//! The builder of replies: rings, sockets and TCP all answer with it. What a glance answers it would answer the same.

use super::{
    CLASS_CH, OPT_LEN,
    answer::View,
    header::{self, Header, Words},
    option::{Errors, Options},
    query::{Edns, Query, Reject},
    rcode, rtype,
};
use crate::packet::checksum;
use zerocopy::{big_endian::U16, transmute_mut};

/// How an answer's TTLs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Just found out: each TTL lowered by this many seconds, usually none.
    New(u32),
    /// Fresh, and known before: each TTL lowered by this many seconds.
    Fresh(u32),
    /// Stale: each TTL is this one (RFC 8767 section 4: above zero, 30 s advised).
    Stale(u32),
}

/// What of our side goes into replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits<'a> {
    /// The largest reply that is written, in bytes.
    pub reply: usize,
    /// What we say that we take over UDP (RFC 6891 section 6.2.5; RFC 9715: 1232).
    pub advertise: u16,
    /// What our OPT record says to this client beside that.
    pub options: Options<'a>,
}

/// A reply that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its length.
    pub len: usize,
    /// Whether its records were left out for their size (TC=1).
    pub cut: bool,
    /// How the message's [checksum](crate::packet::checksum) has changed from the query's.
    pub change: u64,
}

/// Turns the query of `query_len` bytes at the start of `message` into its reply, in place.
///
/// `message[..12 + question_len]` is the query's header and question; ID and question stay as the client wrote
/// them. `message` must reach as far as [`Limits::reply`].
pub fn answer(
    message: &mut [u8],
    query_len: usize,
    query: &Query,
    view: View<'_>,
    age: Age,
    limits: &Limits<'_>,
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
    // Nothing is cut, and no reply made too large, to say more about it.
    let errors = if len + errors.len() <= most { errors } else { Errors::default() };
    Reply { cut, ..fill(message, query_len, query, view, age, errors, limits) }
}

#[inline(always)]
fn fill(
    message: &mut [u8],
    query_len: usize,
    query: &Query,
    view: View<'_>,
    age: Age,
    errors: Errors,
    limits: &Limits<'_>,
) -> Reply {
    let records = header::LEN + query.question_len();
    let mut sum = u64::from(view.sum);
    let (head, rest) = message.split_at_mut(records);
    if query_len > records {
        // What stood after the question goes, and its sum with it.
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

/// Turns the query at the start of `message` into the error that it is rejected with. Returns the reply's length: 0
/// where the message is not to be answered. `message` must reach as far as [`Limits::reply`].
pub fn reject(message: &mut [u8], query: &Query, reject: Reject<'_>, limits: &Limits<'_>) -> usize {
    match reject {
        Reject::Drop(_) => return 0,
        Reject::Header(rcode) => {
            let flags = match query.flags & header::OPCODE {
                0 => echoed(query),
                // What else the flags of another operation mean is not known (RFC 8906 section 8.1.4).
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

/// Turns the query at the start of `message` into the answer who we are: one TXT record (RFC 4892 section 2).
fn identity(message: &mut [u8], query: &Query, text: &[u8], limits: &Limits<'_>) -> usize {
    let at = header::LEN + query.question_len();
    // The name is the question's; nobody has to remember this for any time.
    let [t1, t0, c1, c0] = zerocopy::transmute!([U16::new(rtype::TXT), U16::new(CLASS_CH)]);
    let len = text.len() as u8;
    message[at..at + 13].copy_from_slice(&[0xc0, 12, t1, t0, c1, c0, 0, 0, 0, 0, 0, len + 1, len]);
    let end = at + 13 + text.len();
    message[at + 13..end].copy_from_slice(text);
    finish(message, query, end, [1, 1], u16::from(rcode::NOERROR), Errors::default(), limits)
}

/// Ends a reply that is made anew, whose OPT record goes to `end`: questions and answers are counted. Returns its length.
fn finish(
    message: &mut [u8],
    query: &Query,
    end: usize,
    [questions, answers]: [u16; 2],
    rcode: u16,
    errors: Errors,
    limits: &Limits<'_>,
) -> usize {
    let mut len = end;
    if let Some(edns) = &query.edns {
        // Of more than four bits, the upper eight are there (RFC 6891 section 6.1.3).
        write_opt(&mut message[end..], end, 0, edns, (rcode >> 4) as u8, limits);
        write_options(&mut message[end..], end, errors, &limits.options);
        len += OPT_LEN + limits.options.len() + errors.len();
    }
    let flags = echoed(query) | rcode & header::RCODE;
    write_header(message, flags, [questions, answers, 0, u16::from(len > end)]);
    len
}

/// What of the query's header goes into the reply's.
const ECHOED: u64 = header::flags(header::RD | header::CD);
const AUTHENTIC: u64 = header::flags(header::AD);

/// QR and RA, with the client's RD and CD.
fn echoed(query: &Query) -> u16 {
    header::QR | header::RA | query.flags & (header::RD | header::CD)
}

/// AD is for clients that asked for it, by AD or DO (RFC 6840 section 5.8).
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

/// Lowers or replaces the TTLs of the records in `wire`, which stand at offset `records`; returns how their sum has changed.
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
            // May be more than it was: the complement is the negative.
            Age::Stale(ttl) => (ttl, u64::from(old) + u64::from(!ttl)),
        };
        *field = new.to_be_bytes();
        lowered += checksum::number(less, at);
    }
    !lowered
}

/// Writes an OPT record (RFC 6891 section 7), made for this client: never a stored one. It goes to `at` of what stands at
/// `records` of the message. Returns its sum.
#[inline(always)]
fn write_opt(
    rest: &mut [u8],
    records: usize,
    at: usize,
    edns: &Edns,
    rcode_high: u8,
    limits: &Limits<'_>,
) -> u64 {
    let [size1, size0] = limits.advertise.to_be_bytes();
    let dnssec_ok = u8::from(edns.dnssec_ok) << 7;
    // As a word, for it is summed too; the rest is zeros.
    let start = u64::from_ne_bytes([0, 0, 41, size1, size0, rcode_high, 0, dnssec_ok]);
    let [a, b, c, d, e, f, g, h] = start.to_ne_bytes();
    rest[at..at + OPT_LEN].copy_from_slice(&[a, b, c, d, e, f, g, h, 0, 0, 0]);
    checksum::placed(start, records + at)
}

/// Puts options into an OPT record, which begins `opt` without any and stands at offset `at` of the message. Returns how its
/// sum has changed.
#[cold]
fn write_options(opt: &mut [u8], at: usize, errors: Errors, always: &Options<'_>) -> u64 {
    let len = always.len() + errors.len();
    let options = &mut opt[OPT_LEN - 2..][..2 + len];
    options[..2].copy_from_slice(&(len as u16).to_be_bytes());
    errors.write(always.write(&mut options[2..]));
    checksum::placed(checksum::sum(options, 0), at + OPT_LEN - 2)
}
