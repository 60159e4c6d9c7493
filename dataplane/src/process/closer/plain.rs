//! The closer look at a [plain packet](crate::packet::plain), in few steps. Most packets that get no answer
//! of the cache are such, and a flood of them must not cost more than answers: they are dropped or rejected
//! here. A packet that needs anything else is left to the [general look](Closer::finish), which has the same
//! outcome for all of them.

mod rare;

use super::{Closer, counter, limit};
use crate::{
    checksum::{self, Checksums},
    dns::{
        OPT_LEN,
        header::{self, LEN},
        option::{Errors, code},
        query::{self, Edns, Query, Reject},
        rcode, rtype,
    },
    limiter::{Action, Limiter},
    log::Outcome,
    packet::{
        Envelope, MIN_FRAME, UdpSum,
        plain::{Plain, Window, bytes, bytes_mut},
    },
    policy::{Asker, QueryPolicy, Refusal},
    process::{Job, Slot, Verdict},
    simd::{BLOCK, Block, NAME, Part, Simd},
    stats::{Counter, DropReason, WorkerStats},
};
pub use rare::{LookAtRare, Malformed};
use std::net::IpAddr;

/// Error that a query gets instead of an answer.
#[derive(Clone, Copy)]
struct Rejection {
    reject: Reject<'static>,
    rcode: u16,
    /// Extended error; zero: none.
    error: u8,
    /// Whether the reply repeats the question.
    has_question: bool,
    counter: Counter,
}

impl Rejection {
    /// Returns the rejection for a reason. All reasons here are constants, and so are the fields then.
    #[inline(always)]
    fn of(reject: Reject<'static>) -> Self {
        Rejection {
            reject,
            rcode: reject.rcode(),
            error: Errors::of_reject(reject).code() as u8,
            has_question: !matches!(reject, Reject::Header(_)),
            counter: counter(reject),
        }
    }
}

/// Header of a query, apart from its ID and its number of additional records: the bits that its look depends
/// on.
const HEADER: u64 = header::flags(header::QR | header::OPCODE) | !header::flags(0xffff);
/// Flags of a query that its rejection repeats.
const ECHOED: u64 = header::flags(header::RD | header::CD);

/// OPT record of a query, of version 0 and without options.
#[derive(Clone, Copy)]
pub struct BareOpt {
    /// First eight bytes.
    start: u64,
    /// Sum of all bytes.
    sum: u64,
}

impl BareOpt {
    /// Returns the record at `at` of a message, which is the last of the message; `None`: it is another.
    #[inline(always)]
    pub fn read<P: Plain>(window: &Window, at: usize, message_len: usize) -> Option<Self> {
        const MASK: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0]);
        const BARE: u64 = u64::from_ne_bytes([0, 0, rtype::OPT as u8, 0, 0, 0, 0, 0]);
        let start = u64::from_ne_bytes(*bytes(window, P::MESSAGE + at));
        let [flags, l1, l0] = *bytes(window, P::MESSAGE + at + 8);
        let is_bare = start & MASK == BARE && (l1, l0) == (0, 0) && message_len == at + OPT_LEN;
        let sum =
            checksum::placed(checksum::add(start, u64::from_ne_bytes([flags, 0, 0, 0, 0, 0, 0, 0])), at);
        is_bare.then_some(BareOpt { start, sum })
    }

    /// Returns the properties of the query.
    #[inline(always)]
    pub fn edns(self) -> Edns {
        let [_, _, _, size1, size0, _, version, flags] = self.start.to_ne_bytes();
        Edns {
            udp_size: u16::from_be_bytes([size1, size0]),
            version,
            dnssec_ok: flags & 0x80 != 0,
            ..Edns::default()
        }
    }
}

impl Closer<'_, '_> {
    /// Finishes the `nth` frame of the burst, as [`finish`](Self::finish) does. Returns false if it leaves
    /// that to it.
    #[inline(always)]
    pub fn finish_plain<S: Simd, P: Plain>(&mut self, simd: S, slot: &mut Slot, nth: usize) -> bool {
        let Job { checksums, frames, burst, stats, .. } = &mut *self.job;
        let (policy, checksums, frame) = (self.policy, *checksums, &mut burst[nth]);
        let len = frame.len();
        let (window, frame_len) = frames.window_mut(frame);
        if !P::is_udp(window) {
            return false;
        }
        let Some(message_len) = P::message_len(window, len) else { return false };
        // Dropped whatever their checksum.
        let start = u64::from_ne_bytes(*bytes(window, P::MESSAGE + 2));
        if message_len < LEN {
            return self.drop_unsummed::<P>(slot, DropReason::ShortMessage);
        }
        if start & header::flags(header::QR) != 0 {
            return self.drop_unsummed::<P>(slot, DropReason::Response);
        }
        let may_ask = P::lets_in(window, &policy.access);
        if !may_ask && P::may_be_special(window) {
            return false;
        }
        if !may_ask && policy.refusal == Refusal::Drop {
            return self.drop_unsummed::<P>(slot, DropReason::Denied);
        }
        let Some(short) = Short::read::<S, P>(simd, window, message_len, checksums) else {
            return simd.apart(LookAtRare::<P>::new(self, slot, nth, message_len, may_ask));
        };
        let Short { name_len, opt } = short;
        let tail = opt.map_or(0, |opt| u32::from(checksum::fold_native(opt.sum)));
        let part = Part::whole(name_len);
        if !P::is_right(simd, window, message_len, part, tail) {
            if checksums == Checksums::Verify {
                slot.verdict = self.drop(DropReason::BadChecksum);
                return true;
            }
            // Perhaps it is a partial one.
            return simd.apart(LookAtRare::<P>::new(self, slot, nth, message_len, may_ask));
        }
        slot.envelope = Envelope::of_plain(P::IS_V6, UdpSum::Verified);
        slot.query.begin(header::flags_of(start));
        if !has_labels(bytes(window, P::MESSAGE + LEN), name_len) {
            return simd.apart(Malformed(LookAtRare::<P>::new(self, slot, nth, message_len, may_ask)));
        }
        slot.query.set_block(simd.lowered(bytes(window, P::MESSAGE + LEN), part), name_len + 4);
        if let Some(opt) = opt {
            slot.query.set_edns(opt.edns());
        }
        let ruling = match may_ask {
            true => rule_on::<P>(window, LEN + name_len + 4, start, policy),
            false => Ruling::reject(Reject::Denied),
        };
        let rejection = match ruling {
            Ruling::Reject(rejection) => rejection,
            Ruling::Open => return false,
            Ruling::LookUp => {
                slot.verdict = self.answer_plainly::<P>(slot, nth, message_len);
                return true;
            }
        };
        if self.limiter.is_some() {
            let asker = Asker { client: P::client(window), connected: false, now: self.unix };
            let limiter = (self.limiter.as_deref_mut(), &mut self.payer);
            if is_limited(limiter, policy, &slot.query, &asker, stats) {
                slot.verdict = Verdict::Drop(DropReason::Limited);
                return true;
            }
        }
        stats.add(rejection.counter, 1);
        (slot.outcome, slot.rcode, slot.verdict) = (Outcome::Rejected, rejection.rcode, Verdict::Reply);
        let advertise = self.rules.udp_limit;
        frame_len.set(short.write::<S, P>(simd, window, message_len, (start, rejection, advertise)));
        true
    }

    /// Drops a packet whose checksum was not verified.
    #[inline(always)]
    fn drop_unsummed<P: Plain>(&self, slot: &mut Slot, reason: DropReason) -> bool {
        slot.envelope = Envelope::of_plain(P::IS_V6, UdpSum::Unverified);
        slot.verdict = self.drop(reason);
        true
    }
}

/// Message that is one short question, perhaps with a bare OPT record, in a packet with a UDP checksum that
/// is to be verified.
#[derive(Clone, Copy)]
struct Short {
    /// Length of the name in bytes.
    name_len: usize,
    opt: Option<BareOpt>,
}

impl Short {
    /// Reads a message of `message_len` bytes; `None`: it is another.
    #[inline(always)]
    fn read<S: Simd, P: Plain>(
        simd: S,
        window: &Window,
        message_len: usize,
        checksums: Checksums,
    ) -> Option<Self> {
        let start = u64::from_ne_bytes(*bytes(window, P::MESSAGE + 2));
        let name_len = simd.until_zero(bytes(window, P::MESSAGE + LEN)) + 1;
        let end = LEN + name_len + 4;
        let additional: [u8; 2] = *bytes(window, P::MESSAGE + 10);
        let opt = if additional == [0, 1] { BareOpt::read::<P>(window, end, message_len) } else { None };
        let is_short = start & HEADER == header::start(0, 0, 0)
            && name_len <= NAME
            && (opt.is_some() || additional == [0, 0] && message_len == end)
            && checksums.are_verified()
            && *bytes(window, P::MESSAGE - 2) != [0, 0];
        is_short.then_some(Short { name_len, opt })
    }

    /// Turns the packet, whose message has `message_len` bytes and its header this start, into the rejection
    /// by a server that advertises a UDP size. Returns the packet's length.
    #[inline(always)]
    fn write<S: Simd, P: Plain>(
        self,
        simd: S,
        window: &mut Window,
        message_len: usize,
        (start, rejection, advertise): (u64, Rejection, u16),
    ) -> usize {
        let flags = header::QR | header::RA | rejection.rcode & header::RCODE;
        let new = header::start(flags, 0, 0) | start & ECHOED;
        *bytes_mut(window, P::MESSAGE + 2) = new.to_ne_bytes();
        let mut raise = checksum::add(start, !new);
        let mut len = message_len;
        if let Some(opt) = self.opt {
            let end = LEN + self.name_len + 4;
            let (opt_len, sum) = write_opt::<P>(window, end, rejection, (advertise, opt.edns().dnssec_ok));
            len = end + opt_len;
            let lengths = checksum::add(lengths(message_len), !lengths(len));
            raise = checksum::chain(raise, [opt.sum, !sum, lengths]);
        }
        turn::<S, P>(simd, window, len, u64::from(checksum::fold_native(raise)))
    }
}

/// Decision about a query.
enum Ruling {
    /// The answer is looked up.
    LookUp,
    /// The query is rejected.
    Reject(Rejection),
    /// The general look decides.
    Open,
}

impl Ruling {
    #[inline(always)]
    fn reject(reject: Reject<'static>) -> Self {
        Ruling::Reject(Rejection::of(reject))
    }
}

/// Decides about a well-formed query of a client that may ask, whose question ends at `end` of the message and
/// whose header has this start.
#[inline(always)]
fn rule_on<P: Plain>(window: &Window, end: usize, start: u64, policy: &QueryPolicy) -> Ruling {
    let [t1, t0, c1, c0] = *bytes(window, P::MESSAGE + end - 4);
    match query::check_type(u16::from_be_bytes([t1, t0]), u16::from_be_bytes([c1, c0])) {
        Ok(()) if start & header::flags(header::RD) == 0 => Ruling::reject(Reject::NotRecursive),
        Ok(()) => Ruling::LookUp,
        // It may ask for our name.
        Err(Reject::Question(rcode::REFUSED)) if policy.identity.is_some() => Ruling::Open,
        Err(Reject::Question(rcode::REFUSED)) => Ruling::reject(Reject::Question(rcode::REFUSED)),
        Err(_) => Ruling::reject(Reject::Question(rcode::FORMERR)),
    }
}

/// Whether a query is dropped instead of rejected, because its client is over its limit.
#[cold]
fn is_limited(
    (limiter, payer): (Option<&mut Limiter>, &mut Option<IpAddr>),
    policy: &QueryPolicy,
    query: &Query,
    asker: &Asker,
    stats: &WorkerStats,
) -> bool {
    match limit(limiter, payer, policy, query, asker) {
        None => false,
        Some(Action::DryRun) => {
            stats.add(Counter::LimitDryRun, 1);
            false
        }
        Some(Action::Slip | Action::Drop) => {
            stats.drop(DropReason::Limited);
            true
        }
    }
}

/// Whether a name of `name_len` bytes, at most [`NAME`], of which the last is its first zero, has valid
/// labels. If not, the zero is within a label, or a label is invalid: it has more bytes than the name. The
/// name then ends beyond a message that ends with this question; an OPT record may be long enough for it.
#[inline(always)]
pub fn has_labels(question: &Block, name_len: usize) -> bool {
    let mut at = 0;
    while at + 1 < name_len {
        // The remainder equals the offset; it saves a bounds check.
        at += 1 + usize::from(question[at % BLOCK]);
    }
    at + 1 == name_len
}

/// Returns the sum of the lengths of a datagram and its pseudo-header, whose message has `message_len` bytes.
#[inline(always)]
fn lengths(message_len: usize) -> u64 {
    2 * u64::from(((8 + message_len) as u16).to_be())
}

/// Writes the OPT record of a rejection at `at` of a message: `advertise` is the UDP size of this server, and
/// the DO flag is the client's. Returns the length and the sum of the record.
#[inline(always)]
fn write_opt<P: Plain>(
    window: &mut Window,
    at: usize,
    rejection: Rejection,
    (advertise, dnssec_ok): (u16, bool),
) -> (usize, u64) {
    /// Length of an extended error without text, in bytes.
    const ERROR_LEN: usize = 6;
    let [size1, size0] = advertise.to_be_bytes();
    let (rcode_high, flags) = ((rejection.rcode >> 4) as u8, u8::from(dnssec_ok) << 7);
    let start = u64::from_ne_bytes([0, 0, rtype::OPT as u8, size1, size0, rcode_high, 0, flags]);
    // The last byte of the flags, the length of the options, and all of the error but its code's last byte.
    const ERROR: u64 = u64::from_ne_bytes([0, 0, ERROR_LEN as u8, 0, code::EDE as u8, 0, 2, 0]);
    let (middle, len) = if rejection.error == 0 { (0, 0) } else { (ERROR, ERROR_LEN) };
    *bytes_mut(window, P::MESSAGE + at) = start.to_ne_bytes();
    *bytes_mut(window, P::MESSAGE + at + 8) = middle.to_ne_bytes();
    window[P::MESSAGE + at + 16] = rejection.error;
    let last = u64::from_ne_bytes([rejection.error, 0, 0, 0, 0, 0, 0, 0]);
    (OPT_LEN + len, checksum::placed(checksum::chain(start, [middle, last]), at))
}

/// Turns the headers round, and pads the packet to the shortest Ethernet frame. Returns its length.
#[inline(always)]
fn turn<S: Simd, P: Plain>(simd: S, window: &mut Window, message_len: usize, raise: u64) -> usize {
    let len = P::turn(simd, window, message_len, raise);
    if len < MIN_FRAME {
        window[len..MIN_FRAME].fill(0);
        return MIN_FRAME;
    }
    len
}
