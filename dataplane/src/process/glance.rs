//! A glance at a query: enough to answer nearly all of them. They have a question of one [`Block`],
//! or two, in a [plain packet](Plain), and a fresh entry. A glance that sees anything else says so,
//! and the [`closer`](super::closer) look finds out what it is.
//!
//! A glance takes the name to end at its first zero, and checks neither its labels nor the type.
//! That is correct if an entry is found. The entry's question was parsed, and is equal byte for
//! byte except for case. So it has the same labels and the same end, since no length of a label is
//! a letter.

use super::Glanced;
use crate::{
    access::AccessList,
    cache::{Filed, Fresh, KeyedHash, Ref, SIMPLE_TTL, Spot},
    checksum::{self, Checksums},
    clock::Secs,
    dns::{
        OPT_LEN, UDP_MIN,
        header::{self, LEN},
        key::Flags,
        option::{Errors, Options},
        reply,
    },
    packet::{
        LargestReplies,
        plain::{Plain, Window, bytes, bytes_mut},
    },
    simd::{BLOCK, Block, NAME, Simd},
};
use zerocopy::transmute;

/// Result of a glance at a query.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Glance {
    /// First block of the question, as in a key.
    question: Block,
    /// Place in the index where its answer is searched.
    pub spot: Spot,
    /// Entry that is probably its answer; valid if one was found.
    pub entry: Ref,
    /// Flags and generation that the entry must be filed under, besides the question.
    pub filed: Filed,
    /// Most bytes of records that the reply may have.
    room: u16,
    /// Sum of the OPT record after the question; zero if there is none.
    opt: u32,
    question_len: u8,
    /// Kind of question that was seen.
    pub seen: Seen,
    /// Number of the list that gave the answer, if `seen` says that one did.
    list: u8,
    /// Second block of the question.
    beyond: Block,
}

const _: () = assert!(std::mem::offset_of!(Glance, beyond) <= 64, "a short question's is in one cache line");

/// Kind of question that a glance has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seen {
    /// Anything else, which needs a closer look.
    #[default]
    Nothing,
    /// A question of one block over IPv4.
    V4,
    /// A question of one block over IPv6.
    V6,
    /// A question of two blocks over IPv4.
    LongV4,
    /// A question of two blocks over IPv6.
    LongV6,
    /// Anything else, in a packet that may be [made plain](super::strip).
    Strippable,
    /// A question in a packet that was made plain.
    Stripped,
    /// A question over IPv4 that a list has answered.
    ListedV4,
    /// A question over IPv6 that a list has answered.
    ListedV6,
    /// A question of one block over IPv4 that has no entry.
    MissedV4,
    /// A question of one block over IPv6 that has no entry.
    MissedV6,
}

impl Seen {
    /// Whether the question came over IPv6.
    #[inline(always)]
    pub fn is_v6(self) -> bool {
        matches!(self, Seen::V6 | Seen::LongV6 | Seen::ListedV6)
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
}

impl Glance {
    /// First step: reads the question and seeks its answer. Returns false if that takes more than a
    /// glance.
    #[inline(always)]
    pub fn look<S: Simd, P: Plain, const LONG: bool>(
        &mut self,
        simd: S,
        window: &Window,
        len: usize,
        conditions: &Conditions<'_>,
        seek: impl Fn(u64) -> Spot,
    ) -> bool {
        let start = u64::from_ne_bytes(*bytes(window, P::MESSAGE + 2));
        if !P::is_plain(window, conditions.access) || !header::is_query(start) {
            return false;
        }
        let question: &Block = bytes(window, P::MESSAGE + LEN);
        let beyond: &Block = bytes(window, P::MESSAGE + LEN + BLOCK);
        let mut name_len = simd.until_zero(question) + 1;
        if LONG && name_len > BLOCK {
            name_len = BLOCK + simd.until_zero(beyond) + 1;
        }
        // The sum of a long question covers a whole first block: for a shorter question it would
        // include the bytes that follow it.
        let fits = if LONG { NAME < name_len && name_len <= LONG_NAME } else { name_len <= NAME };
        if !fits {
            return false;
        }
        let question_len = name_len + 4;
        let records = LEN + question_len;
        let mut flags = window[P::MESSAGE + 3] & Flags::CD;
        let mut message_len = records;
        let additional = u16::from_ne_bytes(*bytes(window, P::MESSAGE + 10));
        if additional == 0 {
            self.opt = 0;
            self.room = UDP_MIN - records as u16;
        } else {
            message_len += OPT_LEN;
            let opt = Opt::read(window, P::MESSAGE + records).filter(|_| additional == 1u16.to_be());
            let Some(opt) = opt else { return false };
            self.opt = opt.sum(records);
            self.room = opt.udp_size().clamp(UDP_MIN, P::largest(&conditions.largest).max(UDP_MIN))
                - message_len as u16;
            flags |= opt.dnssec_ok();
        }
        let verify = conditions.checksums.are_verified();
        if !P::has_lengths(window, len, message_len) {
            return false;
        }
        if LONG {
            let rest = checksum::fold_native(checksum::sum(&beyond[..question_len.saturating_sub(BLOCK)], 0));
            if verify && !P::is_right(simd, window, message_len, NAME, self.opt + u32::from(rest)) {
                return false;
            }
            [self.question, self.beyond] = lowered([*question, *beyond], name_len);
        } else {
            if verify && !P::is_right(simd, window, message_len, name_len, self.opt) {
                return false;
            }
            self.question = simd.lowered(question, name_len);
        }
        self.question_len = question_len as u8;
        self.filed = conditions.filed.with(Flags(flags));
        let hash = &conditions.hash;
        let mut state = hash.add(hash.start(Flags(flags)), &self.question);
        if LONG && question_len > BLOCK {
            state = hash.add(state, &self.beyond);
        }
        self.spot = seek(state);
        true
    }

    /// Returns a question of one block, and its length.
    #[inline(always)]
    pub fn question(&self) -> (&Block, usize) {
        (&self.question, self.question_len())
    }

    /// Returns the first block of a longer question, the number of its bytes that are part of the
    /// question, and the rest of the question.
    pub fn long_question(&self) -> ((&Block, usize), &[u8]) {
        let len = self.question_len().min(BLOCK);
        ((&self.question, len), &self.beyond[..self.question_len() - len])
    }

    /// Returns the question that was seen; `None` if it needs a closer look.
    #[inline(always)]
    pub fn glanced(&self) -> Option<Glanced<'_>> {
        let (v6, list) = match self.seen {
            Seen::Nothing | Seen::Strippable | Seen::Stripped => return None,
            Seen::MissedV4 | Seen::MissedV6 => return None,
            Seen::V4 | Seen::LongV4 => (false, None),
            Seen::V6 | Seen::LongV6 => (true, None),
            Seen::ListedV4 => (false, Some(self.list)),
            Seen::ListedV6 => (true, Some(self.list)),
        };
        Some(Glanced { v6, block: &self.question, beyond: &self.beyond, len: self.question_len(), list })
    }

    /// Notes which list has given the answer.
    pub fn set_list(&mut self, list: u8) {
        self.list = list;
        self.seen = match self.seen {
            Seen::V4 | Seen::LongV4 | Seen::ListedV4 => Seen::ListedV4,
            Seen::V6 | Seen::LongV6 | Seen::ListedV6 => Seen::ListedV6,
            Seen::Nothing | Seen::Strippable | Seen::Stripped => Seen::Nothing,
            Seen::MissedV4 | Seen::MissedV6 => Seen::Nothing,
        };
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

    /// Keeps this many bytes of the reply for options. Returns false if there are not as many.
    #[inline(always)]
    pub fn reserve(&mut self, options_len: usize) -> bool {
        let left = usize::from(self.room).checked_sub(options_len);
        self.room = left.unwrap_or(0) as u16;
        left.is_some()
    }

    /// Whether the client accepts a reply with this many bytes of records.
    #[inline(always)]
    pub fn has_room(&self, wire_len: usize) -> bool {
        wire_len <= usize::from(self.room)
    }

    /// Last step: turns the packet into its reply from a [simple](Fresh::is_simple) entry, which
    /// always fits. Returns the packet's new length.
    #[inline(always)]
    pub fn reply_simply<S: Simd, P: Plain>(
        &self,
        simd: S,
        window: &mut Window,
        fresh: Fresh<'_>,
        question_len: usize,
        now: Secs,
        opt: Opt,
    ) -> usize {
        let ((record, wire_len), records) = (fresh.simple(), LEN + question_len % (2 * BLOCK));
        // This may copy bytes after the record; they are beyond the end of the packet and are not
        // sent.
        *bytes_mut(window, P::MESSAGE + records) = *record;
        let at = records + SIMPLE_TTL;
        let lowered = age_ttl(bytes_mut(window, P::MESSAGE + at), at, fresh.age(now));
        let opt = (opt, Errors::default(), None);
        self.finish::<S, P>(simd, window, fresh, records + wire_len, lowered, opt)
    }

    /// Turns the packet into its reply from any entry, which must fit, with the errors and options that go
    /// with it if the query has an OPT record. Returns the packet's new length.
    #[inline(always)]
    pub fn reply<S: Simd, P: Plain>(
        &self,
        simd: S,
        window: &mut Window,
        fresh: Fresh<'_>,
        now: Secs,
        opt: (Opt, Errors<'_>, Option<&Options<'_>>),
    ) -> usize {
        let (records, wire) = (LEN + self.question_len(), fresh.wire());
        window[P::MESSAGE + records..][..wire.len()].copy_from_slice(wire);
        let message = &mut window[P::MESSAGE..];
        let mut lowered = 0;
        for ttl in fresh.ttls() {
            let at = usize::from(u16::from_le_bytes(*ttl));
            if let Some(field) = message.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
                lowered += age_ttl(field, at, fresh.age(now));
            }
        }
        self.finish::<S, P>(simd, window, fresh, records + wire.len(), lowered, opt)
    }

    /// Writes everything but the records: they end at `message_len`, and the sum of their TTLs was
    /// lowered by `lowered`.
    #[inline(always)]
    fn finish<S: Simd, P: Plain>(
        &self,
        simd: S,
        window: &mut Window,
        fresh: Fresh<'_>,
        mut message_len: usize,
        lowered: u64,
        (opt, errors, options): (Opt, Errors<'_>, Option<&Options<'_>>),
    ) -> usize {
        let flags = u16::from_ne_bytes(*bytes(window, P::MESSAGE + 2));
        let mut raise = lowered + u64::from(fresh.balance()) + u64::from(flags & !ECHOED);
        let mut additional = fresh.additional();
        if self.opt != 0 {
            // The query's OPT record was counted, so there is room for ours.
            let ours = opt.with_do(self.filed.flags().0 & Flags::DO);
            ours.write(window, P::MESSAGE + message_len);
            raise += u64::from(self.opt + (NAUGHT - ours.sum(message_len)));
            additional = (u16::from_be(additional) + 1).to_be();
            if !errors.is_empty() || options.is_some() {
                let options = options.copied().unwrap_or_default();
                let place = &mut window[P::MESSAGE + message_len..];
                let sum = reply::write_options(place, message_len, errors, &options);
                let len = errors.len() + options.len();
                // The length is in the UDP header, and in its pseudo-header.
                let lengths = 2 * u64::from((len as u16).to_be());
                raise += u64::from(!checksum::fold_native(checksum::add(sum, lengths)));
                message_len += len;
            }
            message_len += OPT_LEN;
        }
        *bytes_mut(window, P::MESSAGE + 2) = (fresh.start() | header::in_start(flags & ECHOED)).to_ne_bytes();
        *bytes_mut(window, P::MESSAGE + 10) = additional.to_ne_bytes();
        P::turn(simd, window, message_len, raise)
    }
}

/// A multiple of 0xffff, which counts as zero in a sum; more than the sum of an OPT record.
const NAUGHT: u32 = 0xffff << 12;

/// Returns the question at the start of the blocks, whose name has `name_len` bytes: the name
/// lowercased, and zeros after the question.
#[inline(always)]
fn lowered(blocks: [Block; 2], name_len: usize) -> [Block; 2] {
    let raw: [u8; 2 * BLOCK] = transmute!(blocks);
    // Treats every byte alike, so that the compiler vectorises the loop.
    let lowered: [u8; 2 * BLOCK] = std::array::from_fn(|at| {
        let byte = raw[at];
        let byte = if at < name_len { byte.to_ascii_lowercase() } else { byte };
        if at < name_len + 4 { byte } else { 0 }
    });
    transmute!(lowered)
}

/// Flags of the query that the reply repeats, as on the wire.
const ECHOED: u16 = (header::RD | header::CD).to_be();

/// First eight of the eleven bytes of an OPT record of version 0 without options (RFC 6891 section
/// 6.1.2), as on the wire. The other three are zero.
#[derive(Clone, Copy, Debug)]
pub struct Opt(u64);

impl Opt {
    const BARE: u64 = u64::from_ne_bytes([0, 0, 41, 0, 0, 0, 0, 0]);
    const SIZE: u64 = u64::from_ne_bytes([0, 0, 0, 0xff, 0xff, 0, 0, 0]);
    const DO: u64 = u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0, 0x80]);

    #[inline(always)]
    fn read(window: &Window, at: usize) -> Option<Self> {
        let opt = u64::from_ne_bytes(*bytes(window, at));
        let [_, rest @ ..]: [u8; 4] = *bytes(window, at + 7);
        (opt & !(Self::SIZE | Self::DO) == Self::BARE && rest == [0; 3]).then_some(Opt(opt))
    }

    #[inline(always)]
    fn udp_size(self) -> u16 {
        let [_, _, _, size1, size0, ..] = self.0.to_ne_bytes();
        u16::from_be_bytes([size1, size0])
    }

    #[inline(always)]
    fn dnssec_ok(self) -> u8 {
        let [.., flags] = self.0.to_ne_bytes();
        flags >> 7
    }

    /// Returns the OPT record that advertises `udp_size`.
    pub fn of(udp_size: u16) -> Self {
        let [size1, size0] = udp_size.to_be_bytes();
        Opt(u64::from_ne_bytes([0, 0, 41, size1, size0, 0, 0, 0]))
    }

    /// Returns the record with the client's DO flag.
    #[inline(always)]
    fn with_do(self, dnssec_ok: u8) -> Self {
        Opt(self.0 | (u64::from(dnssec_ok) << 63).to_le())
    }

    #[inline(always)]
    fn write(self, window: &mut Window, at: usize) {
        *bytes_mut(window, at) = self.0.to_ne_bytes();
        *bytes_mut(window, at + 8) = [0; 3];
    }

    /// Returns the record's sum at offset `at` of a message, less than 2^26.
    #[inline(always)]
    fn sum(self, at: usize) -> u32 {
        let words: [u16; 4] = transmute!(self.0);
        words.map(u32::from).iter().sum::<u32>() << (8 * (at & 1))
    }
}

/// Lowers the TTL at `at`, and returns by how much its sum is lowered.
#[inline(always)]
fn age_ttl(field: &mut [u8; 4], at: usize, age: Secs) -> u64 {
    let old = u32::from_be_bytes(*field);
    let less = old.min(age);
    *field = (old - less).to_be_bytes();
    checksum::number(u64::from(less), at)
}
