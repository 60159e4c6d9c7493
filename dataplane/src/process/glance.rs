//! A glance at a query: enough to answer nearly all of them. They have a question of one [`Block`],
//! or two, in a [plain packet](Plain), and an entry. A glance that sees anything else says so, and a
//! [`wide`](super::wide) look or the [`closer`](super::closer) one finds out what it is.
//!
//! A glance takes the name to end at its first zero, and checks neither its labels nor the type.
//! That is correct if an entry is found. The entry's question was parsed, and is equal byte for
//! byte except for case. So it has the same labels and the same end, since no length of a label is
//! a letter.

mod copy;
mod general;
mod opt;

use super::{Glanced, wide::Wide};
use crate::{
    access::AccessList,
    cache::{Filed, Found, KeyedHash, Parts, Question, Ref, SIMPLE_TTL, Spot},
    checksum::{self, Checksums},
    clock::Secs,
    dns::{
        OPT_LEN, UDP_MIN,
        header::{self, LEN},
        key::Flags,
        option::OptionsWire,
        reply::Age,
    },
    packet::{
        LargestReplies,
        plain::{Plain, Window, bytes, bytes_mut},
    },
    simd::{BLOCK, Block, NAME, Part, Simd},
};
use copy::{copy_options, copy_records};
pub use general::may_be_query;
use general::{Asked, ReadOptions};
pub use opt::Opt;
use std::{marker::PhantomData, slice};

/// Result of a glance at a query.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Glance {
    /// First block of the question, as in a key.
    pub question: Block,
    /// Place in the index where its answer is searched.
    pub spot: Spot,
    /// Entry that is probably its answer; valid if one was found.
    pub entry: Ref,
    /// Flags and generation that the entry must be filed under, besides the question.
    pub filed: Filed,
    /// Most bytes of records that the reply may have.
    pub room: u16,
    /// Sum of the OPT record after the question; zero if there is none.
    pub opt: u32,
    question_len: u8,
    /// Kind of question that was seen.
    pub seen: Seen,
    /// Properties of a special answer, if `seen` says that there is one.
    special: SpecialAnswer,
    /// Options to answer, if `seen` says that there are some.
    pub asked: Asked,
    /// Second block of the question.
    beyond: Block,
}

const _: () = assert!(std::mem::offset_of!(Glance, beyond) <= 64, "a short question's is in one cache line");

/// Kind of question that a glance has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seen {
    /// A question of one block over IPv4.
    V4,
    /// A question of one block over IPv6.
    V6,
    /// A question of two blocks over IPv4.
    LongV4,
    /// A question of two blocks over IPv6.
    LongV6,
    /// A question of one or two blocks over IPv4, with options to answer.
    AskingV4,
    /// A question of one or two blocks over IPv6, with options to answer.
    AskingV6,
    /// Anything else, which needs a closer look.
    #[default]
    Nothing,
    /// A question of one or two blocks over IPv4, in a packet whose UDP checksum is not right.
    UnsummedV4,
    /// A question of one or two blocks over IPv6, in a packet whose UDP checksum is not right.
    UnsummedV6,
    /// A packet with a VLAN tag.
    Tagged,
    /// A packet whose question may be too long for other looks; then a question that a [wide](super::wide)
    /// look has seen.
    Wide,
    /// A question that a special answer was given to.
    Special,
    /// A question of one block over IPv4 that has no entry.
    MissedV4,
    /// A question of one block over IPv6 that has no entry.
    MissedV6,
}

impl Seen {
    /// Whether the question was seen, in a packet whose checksums are right.
    #[inline(always)]
    pub fn is_seen(self) -> bool {
        matches!(self, Seen::V4 | Seen::V6 | Seen::AskingV4 | Seen::AskingV6)
    }

    /// Whether an entry may answer the question without a wide look.
    #[inline(always)]
    pub fn may_have_entry(self) -> bool {
        use Seen::{AskingV4, AskingV6, LongV4, LongV6, V4, V6};
        // One comparison, since these are declared one after the other.
        matches!(self, V4 | V6 | LongV4 | LongV6 | AskingV4 | AskingV6)
    }

    /// Returns the kind if the question has no entry.
    #[inline(always)]
    pub fn missed(self) -> Self {
        match self {
            Seen::V4 => Seen::MissedV4,
            Seen::V6 => Seen::MissedV6,
            _ => Seen::Nothing,
        }
    }
}

/// Properties of an answer that is not fresh, not usual, or was given after a wide look.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpecialAnswer {
    /// Whether the question came over IPv6.
    pub is_v6: bool,
    /// Whether a wide look has seen the question.
    pub is_wide: bool,
    /// Whether the answer has expired.
    pub is_stale: bool,
    /// Number of the list that gave the answer.
    pub list: Option<u8>,
}

/// Longest name whose question a glance can see: the question is one byte less than two blocks.
const LONG_NAME: usize = 2 * BLOCK - 1 - 4;

/// Conditions that answers at a glance depend on.
#[derive(Clone, Copy, Debug)]
pub struct Conditions<'a> {
    /// Clients that may ask.
    pub access: &'a AccessList,
    /// Verification of received checksums.
    pub checksums: Checksums,
    /// Largest replies over UDP.
    pub largest: LargestReplies,
    /// Hash that finds the entries.
    pub hash: KeyedHash,
    /// Current generation, as the filing of entries without flags.
    pub filed: Filed,
    /// Whether this server has a name for clients that ask for it.
    pub has_name: bool,
}

impl Glance {
    /// First step: reads a question of one block and seeks its answer. Returns the kind of question that was
    /// seen; nothing, if that takes another look. If the UDP checksum is not right, or the question longer, the
    /// kind says so.
    #[inline(always)]
    pub fn look<S: Simd, P: Plain>(
        &mut self,
        simd: S,
        window: &Window,
        len: usize,
        conditions: &Conditions<'_>,
        seek: impl Fn(u64) -> Spot,
    ) -> Seen {
        let start = u64::from_ne_bytes(*bytes(window, P::MESSAGE + 2));
        if !P::is_plain(window, conditions.access) || !header::is_query(start) {
            return Seen::Nothing;
        }
        let question: &Block = bytes(window, P::MESSAGE + LEN);
        let name_len = simd.until_zero(question) + 1;
        if name_len > NAME {
            return Seen::Wide;
        }
        let question_len = name_len + 4;
        let records = LEN + question_len;
        let mut flags = window[P::MESSAGE + 3] & Flags::CD;
        let mut message_len = records;
        let usual = if P::IS_V6 { Seen::V6 } else { Seen::V4 };
        let mut seen = usual;
        // Sum of the rest of the message.
        let mut rest = 0;
        let additional = u16::from_ne_bytes(*bytes(window, P::MESSAGE + 10));
        if additional == 0 {
            self.opt = 0;
            self.room = UDP_MIN - records as u16;
        } else {
            let opt = Opt::read(window, P::MESSAGE + records).filter(|_| additional == 1u16.to_be());
            if let Some(opt) = opt {
                message_len += OPT_LEN;
                rest = opt.sum(records);
                self.opt = rest;
                self.room = opt.udp_size().clamp(UDP_MIN, P::largest(&conditions.largest).max(UDP_MIN))
                    - message_len as u16;
                flags |= opt.dnssec_ok();
            } else {
                let version = PhantomData::<P>;
                let read =
                    simd.apart(ReadOptions { glance: self, window, len, records, conditions, version });
                if read.message_len == 0 {
                    return Seen::Nothing;
                }
                message_len = read.message_len.into();
                rest = read.rest;
                flags |= read.dnssec_ok;
                if read.is_asking {
                    seen = if P::IS_V6 { Seen::AskingV6 } else { Seen::AskingV4 };
                }
            }
        }
        let verify = conditions.checksums != Checksums::Unused;
        if !P::has_lengths(window, len, message_len) {
            return Seen::Nothing;
        }
        let part = Part::whole(name_len);
        if verify && !P::is_right(simd, window, message_len, part, rest) {
            if seen == usual {
                self.asked = Asked::default();
            }
            self.question_len = question_len as u8;
            self.filed = conditions.filed.with(Flags(flags));
            return if P::IS_V6 { Seen::UnsummedV6 } else { Seen::UnsummedV4 };
        }
        self.question = simd.lowered(question, part);
        self.question_len = question_len as u8;
        self.filed = conditions.filed.with(Flags(flags));
        let hash = &conditions.hash;
        self.spot = seek(hash.add(hash.start(Flags(flags)), &self.question));
        seen
    }

    /// Seeks the answer to a question of one or two blocks.
    #[inline(always)]
    fn seek_long<S: Simd>(
        &mut self,
        simd: S,
        [question, beyond]: [&Block; 2],
        conditions: &Conditions<'_>,
        seek: impl Fn(u64) -> Spot,
    ) {
        let (len, name_len) = (self.question_len(), self.question_len().saturating_sub(4));
        let hash = &conditions.hash;
        let state = hash.start(self.filed.flags());
        if len <= BLOCK {
            self.question = simd.lowered(question, Part::of_rest(name_len, len));
            self.spot = seek(hash.add(state, &self.question));
            return;
        }
        self.question = simd.lowered(question, Part::of_rest(name_len, BLOCK));
        self.beyond = simd.lowered(beyond, Part::of_rest(name_len.saturating_sub(BLOCK), len - BLOCK));
        self.spot = seek(hash.add(hash.add(state, &self.question), &self.beyond));
    }

    /// Returns a question of one block, and its length.
    #[inline(always)]
    pub fn question(&self) -> (&Block, usize) {
        (&self.question, self.question_len())
    }

    /// Returns the two blocks of a longer question, each with the number of its bytes that are part of the
    /// question: the second may have none.
    #[inline(always)]
    pub fn long_question(&self) -> [(&Block, usize); 2] {
        let len = self.question_len();
        [(&self.question, len.min(BLOCK)), (&self.beyond, len.saturating_sub(BLOCK))]
    }

    /// Returns the question to compare with that of an entry. `wide` is the wide look that has seen it, if
    /// one has.
    #[inline(always)]
    pub fn question_to_compare<'a>(&'a self, wide: Option<&'a Wide>) -> Question<'a> {
        let (beyond, len) = match wide {
            Some(wide) => (wide.beyond(), wide.question_len()),
            None => (slice::from_ref(&self.beyond), self.question_len()),
        };
        Question { block: &self.question, beyond, len }
    }

    /// Returns the question that was answered; `None` if it needs a closer look. `wide` is the wide look
    /// at it, if there was one.
    #[inline(always)]
    pub fn glanced<'a>(&'a self, wide: &'a Wide) -> Option<Glanced<'a>> {
        let (block, beyond, len) = (&self.question, self.beyond.as_slice(), self.question_len());
        let glanced = |is_v6| Glanced { v6: is_v6, block, beyond, len, list: None, is_stale: false };
        match self.seen {
            Seen::Nothing | Seen::Wide | Seen::UnsummedV4 | Seen::UnsummedV6 => None,
            Seen::Tagged | Seen::AskingV4 | Seen::AskingV6 => None,
            Seen::MissedV4 | Seen::MissedV6 => None,
            Seen::V4 | Seen::LongV4 => Some(glanced(false)),
            Seen::V6 | Seen::LongV6 => Some(glanced(true)),
            Seen::Special => {
                let SpecialAnswer { is_v6, is_wide, is_stale, list } = self.special;
                let glanced = Glanced { list, is_stale, ..glanced(is_v6) };
                let (beyond, len) = (wide.beyond().as_flattened(), wide.question_len());
                Some(if is_wide { Glanced { beyond, len, ..glanced } } else { glanced })
            }
        }
    }

    /// Notes a special answer.
    pub fn note_special(&mut self, special: SpecialAnswer) {
        (self.seen, self.special) = (Seen::Special, special);
    }

    /// Whether the query has an OPT record.
    pub fn has_opt(&self) -> bool {
        self.opt != 0
    }

    #[inline(always)]
    fn question_len(&self) -> usize {
        // The remainder equals the length; it saves bounds checks.
        usize::from(self.question_len) % (2 * BLOCK)
    }

    /// Whether the client asked for AD, by AD or DO (RFC 6840 section 5.8).
    pub fn wants_ad<P: Plain>(&self, window: &Window) -> bool {
        window[P::MESSAGE + 3] & header::AD as u8 != 0 || self.filed.flags().0 & Flags::DO != 0
    }

    /// Whether the client accepts a reply with this many bytes of records.
    #[inline(always)]
    pub fn has_room(&self, wire_len: usize) -> bool {
        wire_len <= usize::from(self.room)
    }

    /// Last step: turns the packet into its reply from a [simple](Found::is_simple) fresh entry, which
    /// always fits. Returns the packet's new length.
    #[inline(always)]
    pub fn reply_simply<S: Simd, P: Plain>(
        &self,
        simd: S,
        window: &mut Window,
        fresh: Found<'_>,
        question_len: usize,
        now: Secs,
        opt: ReplyOpt<'_>,
    ) -> usize {
        let ((record, wire_len), records) = (fresh.simple(), LEN + question_len);
        // This may copy bytes after the record; they are beyond the end of the packet and are not
        // sent.
        *bytes_mut(window, P::MESSAGE + records) = *record;
        let at = records + SIMPLE_TTL;
        let lowered = age_ttl(bytes_mut(window, P::MESSAGE + at), at, fresh.age(now));
        self.finish::<S, P>(simd, window, fresh.head(), records + wire_len, lowered, opt)
    }

    /// Turns the packet into its reply with any content, which must fit. Returns the packet's new length.
    #[inline(always)]
    pub fn reply<S: Simd, P: Plain>(
        &self,
        simd: S,
        window: &mut Window,
        content: Content<'_>,
        opt: ReplyOpt<'_>,
    ) -> usize {
        let Content { parts, question_len, age } = content;
        let records = LEN + question_len;
        copy_records(&mut window[P::MESSAGE + records..], &parts);
        let message = &mut window[P::MESSAGE..];
        let fields = |ttl: &[u8; 2]| usize::from(u16::from_le_bytes(*ttl));
        let mut lowered = 0;
        for at in parts.ttls.iter().map(fields) {
            let Some(field) = message.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) else { continue };
            lowered += match age {
                Age::New(age) | Age::Fresh(age) => age_ttl(field, at, age),
                Age::Stale(ttl) => replace_ttl(field, at, ttl),
            };
        }
        self.finish::<S, P>(simd, window, parts, records + parts.wire.len(), lowered, opt)
    }

    /// Writes everything but the records: they end at `message_len`, and the sum of their TTLs was
    /// lowered by `lowered`.
    #[inline(always)]
    fn finish<S: Simd, P: Plain>(
        &self,
        simd: S,
        window: &mut Window,
        head: Parts<'_>,
        mut message_len: usize,
        lowered: u64,
        ReplyOpt { opt, options }: ReplyOpt<'_>,
    ) -> usize {
        let flags = u16::from_ne_bytes(*bytes(window, P::MESSAGE + 2));
        let mut raise = lowered + u64::from(head.balance) + u64::from(flags & !ECHOED);
        let mut additional = head.additional;
        if self.opt != 0 {
            // The query's OPT record was counted, so there is room for ours.
            let ours = opt.with_do(self.filed.flags().0 & Flags::DO);
            ours.write(window, P::MESSAGE + message_len);
            raise += u64::from(self.opt + (NAUGHT - ours.sum(message_len)));
            additional = (u16::from_be(additional) + 1).to_be();
            if let Some(options) = options {
                let (from, len) = options.bytes();
                let at = message_len + OPT_LEN - 2;
                let sum = checksum::placed(copy_options(simd, &mut window[P::MESSAGE + at..], from, len), at);
                // The length is in the UDP header, and in its pseudo-header.
                let options_len = len - 2;
                let lengths = 2 * u64::from((options_len as u16).to_be());
                raise += u64::from(!checksum::fold_native(checksum::add(sum, lengths)));
                message_len += options_len;
            }
            message_len += OPT_LEN;
        }
        *bytes_mut(window, P::MESSAGE + 2) = (head.start | header::in_start(flags & ECHOED)).to_ne_bytes();
        *bytes_mut(window, P::MESSAGE + 10) = additional.to_ne_bytes();
        P::turn(simd, window, message_len, raise)
    }
}

/// Answer as it is written into a reply.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// Parts of the answer.
    pub parts: Parts<'a>,
    /// Length of the question in bytes.
    pub question_len: usize,
    /// Age of the answer.
    pub age: Age,
}

/// OPT record of a reply, which is written if the query has one.
#[derive(Debug)]
pub struct ReplyOpt<'a> {
    /// The record, without options.
    pub opt: Opt,
    /// Options and extended errors, if there are some.
    pub options: Option<&'a mut OptionsWire>,
}

/// A multiple of 0xffff, which counts as zero in a sum; more than the sum of an OPT record.
const NAUGHT: u32 = 0xffff << 12;

/// Flags of the query that the reply repeats, as on the wire.
const ECHOED: u16 = (header::RD | header::CD).to_be();

/// Lowers the TTL at `at`, and returns by how much its sum is lowered.
#[inline(always)]
fn age_ttl(field: &mut [u8; 4], at: usize, age: Secs) -> u64 {
    let old = u32::from_be_bytes(*field);
    let less = old.min(age);
    *field = (old - less).to_be_bytes();
    checksum::number(u64::from(less), at)
}

/// Replaces the TTL at `at`, and returns by how much its sum is lowered.
#[inline(always)]
fn replace_ttl(field: &mut [u8; 4], at: usize, ttl: u32) -> u64 {
    let old = u32::from_be_bytes(*field);
    *field = ttl.to_be_bytes();
    // The new TTL may be higher than the old one; its complement acts as its negative.
    checksum::number(u64::from(old) + u64::from(!ttl), at)
}
