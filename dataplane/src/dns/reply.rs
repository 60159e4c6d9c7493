//! The one builder of replies: rings, sockets and TCP all answer with it.

use super::{
    answer::View,
    header::{self, Header},
    query::{Edns, Query, Reject},
    rcode,
};
use crate::packet::checksum;
use zerocopy::{big_endian::U16, transmute_mut};

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

/// Bytes of the OPT record that we send: no options.
const OPT_LEN: usize = 11;

/// Turns the query of `query_len` bytes at the start of `message` into its reply, in place.
///
/// `message[..12 + question_len]` is the query's header and question; ID and question stay as the client wrote
/// them. `message` must reach as far as [`Limits::reply`].
#[inline(always)]
pub fn answer(
    message: &mut [u8],
    query_len: usize,
    query: &Query,
    view: View<'_>,
    age: Age,
    limits: Limits,
) -> Reply {
    let records = header::LEN + query.question_len();
    let opt = if query.edns.is_some() { OPT_LEN } else { 0 };
    let end = records + view.wire.len();
    let cut = view.status.is_truncated() || end + opt > limits.reply.min(message.len());
    let mut flags = view.status.flags() & !ad_mask(query) | echoed(query);
    let mut counts = view.counts;

    // What stood after the question goes, and its sum with it.
    let mut tail = if query_len > records { !tail_sum(message, records, query_len) } else { 0 };
    let len = if cut {
        (flags, counts) = (flags | header::TC, [0; 3]);
        records
    } else {
        copy(&mut message[records..], view.wire);
        let mut sum = u64::from(view.sum);
        for offset in view.ttls {
            let at = usize::from(u16::from_le_bytes(*offset));
            sum = checksum::add(sum, patch_ttl(&mut message[records..], at, age));
        }
        tail = checksum::add(tail, placed(sum, records));
        end
    };
    let len = if let Some(edns) = query.edns {
        let opt = write_opt(message, len, edns, 0, limits);
        tail = checksum::add(tail, opt);
        counts[2] += 1;
        len + OPT_LEN
    } else {
        len
    };
    let change = checksum::add(tail, header_change(query, flags, counts));
    write_header(message, flags, [1, counts[0], counts[1], counts[2]]);
    Reply { len, cut, change }
}

/// Turns the query at the start of `message` into the error that it is rejected with. Returns the reply's length: 0
/// where the message is not to be answered.
pub fn reject(message: &mut [u8], query: &Query, reject: Reject, limits: Limits) -> usize {
    let (rcode, rcode_high) = match reject {
        Reject::Drop(_) => return 0,
        Reject::Header(rcode) => {
            let opcode = query.flags & header::OPCODE;
            write_header(message, opcode | echoed(query) | u16::from(rcode), [0; 4]);
            return header::LEN;
        }
        Reject::Question(rcode) => (rcode, 0),
        // BADVERS is 16: the upper eight bits of the RCODE are 1 (RFC 6891 section 6.1.3).
        Reject::BadVersion => (rcode::NOERROR, 1),
    };
    let end = header::LEN + query.question_len();
    let opt = match query.edns {
        Some(edns) => {
            write_opt(message, end, edns, rcode_high, limits);
            1
        }
        None => 0,
    };
    write_header(message, echoed(query) | u16::from(rcode), [1, 0, 0, opt]);
    end + usize::from(opt) * OPT_LEN
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
    let Some(header) = message.first_chunk_mut::<{ header::LEN }>() else { return };
    let fields: &mut Header = transmute_mut!(header);
    fields.flags.set(flags);
    [fields.qdcount, fields.ancount, fields.nscount, fields.arcount] = counts.map(U16::new);
}

/// How the header's sum changes from that of `query`, which has one question, no answer and no authority.
#[inline(always)]
fn header_change(query: &Query, flags: u16, [answers, authority, additional]: [u16; 3]) -> u64 {
    let new = [flags, answers, authority, additional].map(checksum::word);
    let old = checksum::word(query.flags) + checksum::word(query.arcount);
    checksum::change(old, new.iter().sum())
}

/// Lowers or replaces the TTL at `at` of `wire`; returns how the sum has changed, as if `wire` stood at an even
/// offset.
#[inline(always)]
fn patch_ttl(wire: &mut [u8], at: usize, age: Age) -> u64 {
    let Some(field) = wire.get_mut(at..).and_then(|w| w.first_chunk_mut::<4>()) else { return 0 };
    let old = *field;
    *field = match age {
        Age::Fresh(age) => {
            let ttl = u32::from_be_bytes(old);
            // RFC 2181 section 8: the top bit makes it zero.
            if ttl > i32::MAX as u32 { 0 } else { ttl.saturating_sub(age) }
        }
        Age::Stale(ttl) => ttl,
    }
    .to_be_bytes();
    let [old, new] = [old, *field].map(|ttl| u64::from(u32::from_ne_bytes(ttl)));
    placed(checksum::change(old, new), at)
}

/// The sum of bytes that stand at offset `at`.
#[inline(always)]
fn placed(sum: u64, at: usize) -> u64 {
    if at % 2 == 0 { sum } else { checksum::shifted(sum) }
}

fn tail_sum(message: &[u8], from: usize, to: usize) -> u64 {
    placed(checksum::sum(message.get(from..to).unwrap_or(&[]), 0), from)
}

/// Writes an OPT record (RFC 6891 section 7), made for this client: never a stored one. Returns its sum.
#[inline(always)]
fn write_opt(message: &mut [u8], at: usize, edns: Edns, rcode_high: u8, limits: Limits) -> u64 {
    let [size1, size0] = limits.advertise.to_be_bytes();
    let dnssec_ok = if edns.dnssec_ok { 0x80 } else { 0 };
    let opt = [0, 0, 41, size1, size0, rcode_high, 0, dnssec_ok, 0, 0, 0];
    message[at..at + OPT_LEN].copy_from_slice(&opt);
    placed(checksum::sum(&opt, 0), at)
}

/// Copies `from` to the start of `to`, which is longer: in whole blocks for as long as that stays within both.
#[inline(always)]
fn copy(to: &mut [u8], from: &[u8]) {
    const BLOCK: usize = 16;
    let (blocks, rest) = from.as_chunks::<BLOCK>();
    let (targets, _) = to.as_chunks_mut::<BLOCK>();
    for (to, from) in targets.iter_mut().zip(blocks) {
        *to = *from;
    }
    let done = from.len() - rest.len();
    if !rest.is_empty() {
        to[done..from.len()].copy_from_slice(rest);
    }
}
