//! The one builder of replies: rings, sockets and TCP all answer with it.

use super::{
    answer::View,
    header::{self, Header},
    query::{Query, Reject},
};
use zerocopy::{FromBytes, big_endian::U16};

/// How an answer's TTLs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Fresh: each TTL lowered by this many seconds.
    Fresh(u32),
    /// Stale: each TTL is this one (RFC 8767 section 4: above zero, 30 s advised).
    Stale(u32),
}

/// What of our side goes into replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest reply that is written, in bytes.
    pub reply: usize,
    /// What we say that we take over UDP (RFC 6891 section 6.2.5; RFC 9715: 1232).
    pub advertise: u16,
}

/// Bytes of the OPT record that we send: no options.
const OPT_LEN: usize = 11;

/// Turns the query at the start of `message` into its reply, in place.
///
/// `message[..12 + question_len]` is the query's header and question; ID and question stay as the client wrote
/// them. `message` must reach as far as [`Limits::reply`]. Returns the reply's length and whether it was cut (TC=1).
#[inline]
pub fn answer(message: &mut [u8], query: &Query, view: View<'_>, age: Age, limits: Limits) -> (usize, bool) {
    let records = header::LEN + query.question_len();
    let opt = if query.edns.is_some() { OPT_LEN } else { 0 };
    let end = records + view.wire.len();
    let cut = view.status.is_truncated() || end + opt > limits.reply.min(message.len());
    let flags = view.status.flags() & !ad_mask(query) | echoed(query);
    if cut {
        write_header(message, flags | header::TC, [1, 0, 0, 0]);
        return (write_opt(message, records, query, 0, limits), true);
    }
    let wire = &mut message[records..end];
    wire.copy_from_slice(view.wire);
    for offset in view.ttls {
        patch_ttl(wire, usize::from(u16::from_le_bytes(*offset)), age);
    }
    let [answers, authority, additional] = view.counts;
    write_header(message, flags, [1, answers, authority, additional]);
    (write_opt(message, end, query, 0, limits), false)
}

/// Turns the query at the start of `message` into the error that it is rejected with. Returns the reply's length: 0
/// where the message is not to be answered.
pub fn reject(message: &mut [u8], query: &Query, reject: Reject, limits: Limits) -> usize {
    let with_question = header::LEN + query.question_len();
    match reject {
        Reject::Drop(_) => 0,
        Reject::Header(rcode) => {
            let opcode = query.flags & header::OPCODE;
            write_header(message, opcode | echoed(query) | u16::from(rcode), [0; 4]);
            header::LEN
        }
        Reject::Question(rcode) => {
            write_header(message, echoed(query) | u16::from(rcode), [1, 0, 0, 0]);
            write_opt(message, with_question, query, 0, limits)
        }
        Reject::BadVersion => {
            write_header(message, echoed(query), [1, 0, 0, 0]);
            // BADVERS is 16: the upper eight bits of the RCODE are 1 (RFC 6891 section 6.1.3).
            write_opt(message, with_question, query, 1, limits)
        }
    }
}

/// QR and RA, with the client's RD and CD.
#[inline(always)]
fn echoed(query: &Query) -> u16 {
    header::QR | header::RA | query.flags & (header::RD | header::CD)
}

/// AD is for clients that asked for it, by AD or DO (RFC 6840 section 5.8).
#[inline(always)]
fn ad_mask(query: &Query) -> u16 {
    let asked = query.flags & header::AD != 0 || query.key.meta().dnssec_ok();
    if asked { 0 } else { header::AD }
}

#[inline(always)]
fn write_header(message: &mut [u8], flags: u16, counts: [u16; 4]) {
    if let Ok((header, _)) = Header::mut_from_prefix(message) {
        header.flags.set(flags);
        [header.qdcount, header.ancount, header.nscount, header.arcount] = counts.map(U16::new);
    }
}

#[inline(always)]
fn patch_ttl(wire: &mut [u8], at: usize, age: Age) {
    let Some(field) = wire.get_mut(at..).and_then(|w| w.first_chunk_mut::<4>()) else { return };
    *field = match age {
        Age::Fresh(age) => {
            let ttl = u32::from_be_bytes(*field);
            // RFC 2181 section 8: the top bit makes it zero.
            if ttl > i32::MAX as u32 { 0 } else { ttl.saturating_sub(age) }
        }
        Age::Stale(ttl) => ttl,
    }
    .to_be_bytes();
}

/// Appends an OPT record if the client sent one (RFC 6891 section 7), made for this client: never a stored one.
#[inline(always)]
fn write_opt(message: &mut [u8], at: usize, query: &Query, rcode_high: u8, limits: Limits) -> usize {
    let Some(edns) = query.edns else { return at };
    let [size1, size0] = limits.advertise.to_be_bytes();
    let dnssec_ok = if edns.dnssec_ok { 0x80 } else { 0 };
    let opt = [0, 0, 41, size1, size0, rcode_high, 0, dnssec_ok, 0, 0, 0];
    message[at..at + OPT_LEN].copy_from_slice(&opt);
    if let Ok((header, _)) = Header::mut_from_prefix(message) {
        header.arcount.set(header.arcount.get() + 1);
    }
    at + OPT_LEN
}
