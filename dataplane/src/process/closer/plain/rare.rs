//! Plain packets that are no short question: other operations, malformed and long names, options, and
//! checksums that are none.

use super::{Rejection, Ruling, is_limited, lengths, rule_on, turn, write_opt};
use crate::{
    checksum::{self, Checksums},
    dns::{
        OPT_LEN,
        cookie::Sent,
        header::{self, LEN},
        query::{self, Edns, Query, Reject},
        rcode, rtype,
    },
    log::Outcome,
    packet::{
        Envelope, UdpSum,
        plain::{Plain, Window, bytes, bytes_mut},
    },
    policy::{Asker, QueryPolicy},
    process::{Job, Slot, Verdict, closer::Closer},
    simd::{NAME, Part, Simd, Work},
    stats::{Counter, DropReason},
};
use std::marker::PhantomData;

/// Look at a plain packet that is no short question.
pub struct LookAtRare<'a, 'b, 'c, P> {
    closer: &'a mut Closer<'b, 'c>,
    slot: &'a mut Slot,
    nth: usize,
    message_len: usize,
    may_ask: bool,
    version: PhantomData<P>,
}

impl<'a, 'b, 'c, P> LookAtRare<'a, 'b, 'c, P> {
    /// Returns the look at the `nth` frame, whose message has `message_len` bytes.
    #[inline(always)]
    pub fn new(
        closer: &'a mut Closer<'b, 'c>,
        slot: &'a mut Slot,
        nth: usize,
        message_len: usize,
        may_ask: bool,
    ) -> Self {
        LookAtRare { closer, slot, nth, message_len, may_ask, version: PhantomData }
    }
}

impl<P: Plain> Work for LookAtRare<'_, '_, '_, P> {
    /// Whether the frame is finished.
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> bool {
        let LookAtRare { closer, slot, nth, message_len, may_ask, .. } = self;
        let Job { checksums, frames, burst, .. } = &*closer.job;
        let (policy, checksums, window) = (closer.policy, *checksums, frames.window(&burst[nth]));
        let (ruling, kept) = rule::<S, P>(simd, window, message_len, &mut slot.query, (policy, may_ask));
        if let Ruling::Open = ruling {
            return false;
        }
        let Some(sum) = sum::<P>(window, message_len, kept, checksums) else {
            slot.verdict = closer.drop(DropReason::BadChecksum);
            return true;
        };
        if sum.kind == UdpSum::Partial {
            closer.job.stats.add(Counter::PartialChecksum, 1);
        }
        slot.envelope = Envelope::of_plain(P::IS_V6, sum.kind);
        // A client that may not ask gets no options.
        let has_options =
            may_ask && slot.query.edns.is_some_and(|edns| edns.nsid || edns.cookie != Sent::Nothing);
        let verdict = match ruling {
            Ruling::Reject(rejection) if !has_options => {
                reject::<S, P>(simd, closer, slot, nth, (message_len, kept, rejection, sum));
                return true;
            }
            Ruling::Reject(rejection) => Err(rejection.reject),
            Ruling::LookUp | Ruling::Open => Ok(()),
        };
        let asker = Asker { client: P::client(window), connected: false, now: closer.unix };
        let (verdict, options) = policy.admit(verdict, &slot.query, &asker);
        slot.verdict = closer.answer(slot, nth, (message_len, asker), verdict, options);
        true
    }
}

/// Look at a short question whose name [has invalid labels](super::has_labels), in a packet with right
/// checksums.
pub struct Malformed<'a, 'b, 'c, P>(pub LookAtRare<'a, 'b, 'c, P>);

impl<P: Plain> Work for Malformed<'_, '_, '_, P> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> bool {
        let LookAtRare { ref closer, nth, message_len, may_ask, .. } = self.0;
        let window = closer.job.frames.window(&closer.job.burst[nth]);
        let has_record = *bytes(window, P::MESSAGE + 10) != [0, 0];
        if has_record && query::name_end(&window[P::MESSAGE..P::MESSAGE + message_len]).is_some() {
            return simd.apart(self.0);
        }
        let LookAtRare { closer, slot, .. } = self.0;
        reject::<S, P>(simd, closer, slot, nth, (LEN, LEN, headed(rcode::FORMERR, may_ask), Sum::default()));
        true
    }
}

/// Returns the rejection by a header alone. A client that may not ask does not learn the reason.
#[inline(always)]
fn headed(rcode: u8, may_ask: bool) -> Rejection {
    match may_ask {
        true => Rejection::of(Reject::Header(rcode)),
        false => Rejection::of(Reject::Header(rcode::REFUSED)),
    }
}

/// Reads a message of `message_len` bytes, which is no response, into `query`. Returns the decision, and the length of header and
/// question, or that of the message if it ends before.
#[inline(always)]
fn rule<S: Simd, P: Plain>(
    simd: S,
    window: &Window,
    message_len: usize,
    query: &mut Query,
    (policy, may_ask): (&QueryPolicy, bool),
) -> (Ruling, usize) {
    let start = u64::from_ne_bytes(*bytes(window, P::MESSAGE + 2));
    let flags = header::flags_of(start);
    query.begin(flags);
    match flags & header::OPCODE {
        0 => {}
        header::NOTIFY => return (Ruling::Open, message_len),
        _ => return (Ruling::Reject(headed(rcode::NOTIMP, may_ask)), message_len),
    }
    if start & !header::flags(0xffff) != header::start(0, 0, 0) {
        // Perhaps a transfer, or a query for a cookie.
        return (Ruling::Open, message_len);
    }
    let additional = u16::from_be_bytes(*bytes(window, P::MESSAGE + 10));
    if additional > 1 {
        return (Ruling::Open, message_len);
    }
    let message = &window[P::MESSAGE..P::MESSAGE + message_len];
    let end = match query::name_end(message) {
        Some(end) if end + 4 <= message_len => end + 4,
        _ => return (Ruling::Reject(headed(rcode::FORMERR, may_ask)), message_len),
    };
    let name = end - 4 - LEN;
    if name <= NAME {
        query.set_block(simd.lowered(bytes(window, P::MESSAGE + LEN), Part::whole(name)), name + 4);
    } else {
        query.set_question(&message[LEN..end]);
    }
    let read = match additional {
        0 => Some((end == message_len, 0)),
        _ => opt(window, P::MESSAGE + end, P::MESSAGE + message_len, query),
    };
    let Some((is_whole, version)) = read else { return (Ruling::Open, end) };
    if !may_ask {
        return (Ruling::reject(Reject::Denied), end);
    }
    let ruling = if !is_whole {
        Ruling::reject(Reject::Question(rcode::FORMERR))
    } else if version != 0 {
        Ruling::reject(Reject::BadVersion)
    } else {
        rule_on::<P>(window, end, start, policy)
    };
    (ruling, end)
}

/// Reads the OPT record at `at` of a packet that ends at `end`. Returns whether it is well-formed and the
/// end of the message, and the version of EDNS; `None`: it is another record.
#[inline(always)]
fn opt(window: &Window, at: usize, end: usize, query: &mut Query) -> Option<(bool, u8)> {
    let [0, t1, t0, s1, s0, _, version, flags, _, l1, l0] = *bytes::<OPT_LEN>(window, at) else {
        return None;
    };
    let options = at + OPT_LEN..at + OPT_LEN + usize::from(u16::from_be_bytes([l1, l0]));
    if u16::from_be_bytes([t1, t0]) != rtype::OPT || options.end > end {
        return None;
    }
    let (udp_size, dnssec_ok) = (u16::from_be_bytes([s1, s0]), flags & 0x80 != 0);
    let mut edns = Edns { udp_size, version, dnssec_ok, ..Edns::default() };
    let is_whole = edns.read_options(&window[options.clone()]).is_some() && options.end == end;
    query.edns = Some(edns);
    query.key.set_dnssec_ok(is_whole && dnssec_ok);
    Some((is_whole, version))
}

/// Checksum of a received datagram.
#[derive(Clone, Copy, Default)]
struct Sum {
    kind: UdpSum,
    /// Number by which it has to be raised to be right.
    raise: u64,
    /// Sum of the bytes that the reply does not repeat.
    tail: u64,
}

/// Returns the checksum of a packet whose message has `message_len` bytes, of which the reply repeats those
/// before `kept`; `None`: it is wrong.
#[inline(always)]
fn sum<P: Plain>(window: &Window, message_len: usize, kept: usize, checksums: Checksums) -> Option<Sum> {
    let (kept_end, end) = (P::MESSAGE + kept, P::MESSAGE + message_len);
    let tail = match &window[kept_end..end] {
        [] => 0,
        tail => checksum::placed(checksum::sum(tail, 0), kept),
    };
    if checksums == Checksums::Unused {
        // The kernel computes the reply's.
        return Some(Sum { kind: UdpSum::Unverified, raise: 0, tail });
    }
    let pseudo = P::pseudo(window, 8 + message_len);
    let whole = checksum::sum_from::<5>(&window[P::MESSAGE - 8..kept_end], checksum::add(pseudo, tail));
    let field: [u8; 2] = *bytes(window, P::MESSAGE - 2);
    let mut kind = UdpSum::Unverified;
    if checksums.are_verified() {
        if !P::has_right_header(window) {
            return None;
        }
        if field != [0; 2] {
            if checksum::is_right(whole) {
                return Some(Sum { kind: UdpSum::Verified, raise: 0, tail });
            }
            if checksums != Checksums::AllowPartial || checksum::fold_native(pseudo).to_ne_bytes() != field {
                return None;
            }
            kind = UdpSum::Partial;
        } else if P::IS_V6 {
            // RFC 8200 section 8.1: over IPv6 there is always a checksum.
            return None;
        }
    }
    let field = u64::from(!u16::from_ne_bytes(field));
    let right = u64::from(u16::from_ne_bytes(checksum::complement(checksum::add(whole, field))));
    Some(Sum { kind, raise: right + field, tail })
}

/// Turns the `nth` packet, whose message has `message_len` bytes, into the rejection of its query, unless the
/// client is over its limit.
#[inline(always)]
fn reject<S: Simd, P: Plain>(
    simd: S,
    closer: &mut Closer<'_, '_>,
    slot: &mut Slot,
    nth: usize,
    (message_len, kept, rejection, sum): (usize, usize, Rejection, Sum),
) {
    let Job { frames, burst, stats, .. } = &mut *closer.job;
    let (window, len) = frames.window_mut(&mut burst[nth]);
    if closer.limiter.is_some() {
        let asker = Asker { client: P::client(window), connected: false, now: closer.unix };
        let limiter = (closer.limiter.as_deref_mut(), &mut closer.payer);
        if is_limited(limiter, closer.policy, &slot.query, &asker, stats) {
            slot.verdict = Verdict::Drop(DropReason::Limited);
            return;
        }
    }
    stats.add(rejection.counter, 1);
    (slot.outcome, slot.rcode, slot.verdict) = (Outcome::Rejected, rejection.rcode, Verdict::Reply);
    let query = &slot.query;
    let echoed = match query.flags & header::OPCODE {
        0 => header::QR | header::RA | query.flags & (header::RD | header::CD),
        // The meaning of the other flags of another operation is unknown (RFC 8906 section 8.1.4).
        opcode => header::QR | opcode,
    };
    let flags = echoed | rejection.rcode & header::RCODE;
    if !rejection.has_question {
        return len.set(write_header::<S, P>(simd, window, flags));
    }
    let old: [u64; 3] = [
        u64::from_ne_bytes(*bytes(window, P::MESSAGE + 2)),
        u64::from(u16::from_ne_bytes(*bytes(window, P::MESSAGE + 10))),
        lengths(message_len),
    ];
    let (mut new_len, mut opt, additional) = (kept, 0, u16::from(query.edns.is_some()).to_be());
    if let Some(edns) = &query.edns {
        let ours = (closer.rules.udp_limit, edns.dnssec_ok);
        let (opt_len, sum) = write_opt::<P>(window, kept, rejection, ours);
        (new_len, opt) = (kept + opt_len, sum);
    }
    let start = header::start(flags, 0, 0);
    *bytes_mut(window, P::MESSAGE + 2) = start.to_ne_bytes();
    *bytes_mut(window, P::MESSAGE + 10) = additional.to_ne_bytes();
    let new = checksum::chain(opt, [start, u64::from(additional), lengths(new_len)]);
    let less = checksum::fold_native(checksum::chain(checksum::add(sum.tail, !new), old));
    len.set(turn::<S, P>(simd, window, new_len, u64::from(less) + sum.raise));
}

/// Turns a packet into a reply of a header alone, with these flags. Returns the packet's length.
#[inline(always)]
fn write_header<S: Simd, P: Plain>(simd: S, window: &mut Window, flags: u16) -> usize {
    let start = header::flags(flags);
    *bytes_mut(window, P::MESSAGE + 2) = start.to_ne_bytes();
    *bytes_mut(window, P::MESSAGE + 10) = [0; 2];
    let ports = u64::from(u32::from_ne_bytes(*bytes(window, P::MESSAGE - 8)));
    let id = u64::from(u16::from_ne_bytes(*bytes(window, P::MESSAGE)));
    let length = checksum::word((8 + LEN) as u16);
    let right = checksum::complement(checksum::chain(P::pseudo(window, 8 + LEN), [ports, length, id, start]));
    // Raises the old checksum to the right one.
    let field = u16::from_ne_bytes(*bytes(window, P::MESSAGE - 2));
    let raise = u64::from(u16::from_ne_bytes(right)) + u64::from(!field);
    turn::<S, P>(simd, window, LEN, raise)
}
