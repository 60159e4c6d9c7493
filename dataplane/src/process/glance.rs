//! A glance at a query: enough to answer what nearly all are, which is a question of one [`Block`], or two, in a
//! [plain packet](Plain) with a fresh entry. Where it sees anything else it says so, and [`closer`](super::closer) finds out what.
//!
//! The name is taken to end at its first zero, and neither its labels nor the type are checked. That is right all the same
//! where an entry is found: its question was parsed, and is the same byte for byte, but for case; so it has the same
//! labels and the same end, and no length of a label is a letter.

use super::Glanced;
use crate::{
    access::AccessList,
    cache::{Filed, Fresh, KeyedHash, Ref, SIMPLE_TTL, Spot},
    clock::Secs,
    dns::{
        OPT_LEN, UDP_MIN,
        header::{self, LEN},
        key::Flags,
    },
    packet::{
        checksum,
        plain::{Plain, Window, bytes, bytes_mut},
    },
    port::Checksums,
    simd::{BLOCK, Block, NAME, Simd},
};
use zerocopy::transmute;

/// What is seen of a query.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Glance {
    /// The question as a key has it.
    question: Block,
    /// Where its answer is looked for.
    pub spot: Spot,
    /// The entry that is probably its answer; valid where one was found.
    pub entry: Ref,
    /// What that must be filed under beside the question.
    pub filed: Filed,
    /// The most bytes of records that may answer it.
    room: u16,
    /// The sum of the OPT record after the question; zero where there is none.
    opt: u32,
    question_len: u8,
    /// What was seen.
    pub seen: Seen,
    /// What of the question is beyond its first block.
    beyond: Block,
}

const _: () = assert!(std::mem::offset_of!(Glance, beyond) <= 64, "a short question's is in one cache line");

/// What a glance has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seen {
    /// Nothing that it understands.
    #[default]
    Nothing,
    /// A question of one block over IPv4.
    V4,
    /// The same over IPv6.
    V6,
    /// A question of two blocks over IPv4.
    LongV4,
    /// The same over IPv6.
    LongV6,
}

/// The longest name whose question is [`Seen`]: one byte less than two blocks.
const LONG_NAME: usize = 2 * BLOCK - 1 - 4;

/// What answers by a glance depend on.
#[derive(Clone, Copy, Debug)]
pub struct Conditions<'a> {
    /// Who may ask.
    pub access: &'a AccessList,
    /// Who vouches for checksums.
    pub checksums: Checksums,
    /// The largest reply over UDP, and what our OPT advertises.
    pub udp_limit: u16,
    /// What entries are found by.
    pub hash: KeyedHash,
    /// What those without flags are filed under.
    pub filed: Filed,
}

impl Glance {
    /// First step: what is asked, and where the answer is. False where that is not to be seen at a glance.
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
        // The sum of a long question is made of a whole block: a shorter one's would have what follows it in it.
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
            self.room = opt.udp_size().clamp(UDP_MIN, conditions.udp_limit.max(UDP_MIN)) - message_len as u16;
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

    /// A question of one block, and how long it is.
    #[inline(always)]
    pub fn question(&self) -> (&Block, usize) {
        (&self.question, self.question_len())
    }

    /// The first block of a longer question, how much of it the question takes, and what is beyond it.
    pub fn long_question(&self) -> ((&Block, usize), &[u8]) {
        let len = self.question_len().min(BLOCK);
        ((&self.question, len), &self.beyond[..self.question_len() - len])
    }

    /// What was seen, if anything was.
    #[inline(always)]
    pub fn glanced(&self) -> Option<Glanced<'_>> {
        let v6 = match self.seen {
            Seen::Nothing => return None,
            Seen::V4 | Seen::LongV4 => false,
            Seen::V6 | Seen::LongV6 => true,
        };
        Some(Glanced { v6, block: &self.question, beyond: &self.beyond, len: self.question_len() })
    }

    #[inline(always)]
    fn question_len(&self) -> usize {
        // The remainder is the length already, and spares comparisons.
        usize::from(self.question_len) % (2 * BLOCK)
    }

    /// Whether the client asked for AD, by AD or DO (RFC 6840 section 5.8).
    pub fn wants_ad<P: Plain>(&self, window: &Window) -> bool {
        window[P::MESSAGE + 3] & header::AD as u8 != 0 || self.filed.flags().0 & Flags::DO != 0
    }

    /// Whether the client takes a reply with so many bytes of records.
    #[inline(always)]
    pub fn has_room(&self, wire_len: usize) -> bool {
        wire_len <= usize::from(self.room)
    }

    /// Last step: turns the packet into its reply from a [simple](Fresh::is_simple) entry, for which there always is room.
    /// Returns the packet's new length.
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
        // Perhaps some more than the record: what follows in a frame is not sent.
        *bytes_mut(window, P::MESSAGE + records) = *record;
        let at = records + SIMPLE_TTL;
        let lowered = age_ttl(bytes_mut(window, P::MESSAGE + at), at, fresh.age(now));
        self.finish::<S, P>(simd, window, fresh, records + wire_len, lowered, opt)
    }

    /// The same from any entry, for which there must be room.
    #[inline(always)]
    pub fn reply<S: Simd, P: Plain>(
        &self,
        simd: S,
        window: &mut Window,
        fresh: Fresh<'_>,
        now: Secs,
        opt: Opt,
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

    /// Makes all but the records, to whose end a message is `message_len` bytes, and whose TTLs' sum was lowered.
    #[inline(always)]
    fn finish<S: Simd, P: Plain>(
        &self,
        simd: S,
        window: &mut Window,
        fresh: Fresh<'_>,
        mut message_len: usize,
        lowered: u64,
        opt: Opt,
    ) -> usize {
        let flags = u16::from_ne_bytes(*bytes(window, P::MESSAGE + 2));
        let mut raise = lowered + u64::from(fresh.balance()) + u64::from(flags & !ECHOED);
        let mut additional = fresh.additional();
        if self.opt != 0 {
            // The query's OPT has left room for ours.
            let ours = opt.with_do(self.filed.flags().0 & Flags::DO);
            ours.write(window, P::MESSAGE + message_len);
            raise += u64::from(self.opt + (NAUGHT - ours.sum(message_len)));
            additional = (u16::from_be(additional) + 1).to_be();
            message_len += OPT_LEN;
        }
        *bytes_mut(window, P::MESSAGE + 2) = (fresh.start() | header::in_start(flags & ECHOED)).to_ne_bytes();
        *bytes_mut(window, P::MESSAGE + 10) = additional.to_ne_bytes();
        P::turn(simd, window, message_len, raise)
    }
}

/// What a sum is nothing of, as 0xffff: more than an OPT's.
const NAUGHT: u32 = 0xffff << 12;

/// A question, whose name of `name_len` bytes begins the blocks: lowercased, and zeros after it.
#[inline(always)]
fn lowered(blocks: [Block; 2], name_len: usize) -> [Block; 2] {
    let raw: [u8; 2 * BLOCK] = transmute!(blocks);
    // Byte by byte of all of them, so that it is done in vectors.
    let lowered: [u8; 2 * BLOCK] = std::array::from_fn(|at| {
        let byte = raw[at];
        let byte = if at < name_len { byte.to_ascii_lowercase() } else { byte };
        if at < name_len + 4 { byte } else { 0 }
    });
    transmute!(lowered)
}

/// What of the query's flags goes into the reply's, as on the wire.
const ECHOED: u16 = (header::RD | header::CD).to_be();

/// The first eight of the eleven bytes of an OPT record without options of version 0 (RFC 6891 section 6.1.2); the others are
/// zero. As on the wire.
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

    /// What advertises `udp_size`.
    pub fn of(udp_size: u16) -> Self {
        let [size1, size0] = udp_size.to_be_bytes();
        Opt(u64::from_ne_bytes([0, 0, 41, size1, size0, 0, 0, 0]))
    }

    /// The same with the client's DO.
    #[inline(always)]
    fn with_do(self, dnssec_ok: u8) -> Self {
        Opt(self.0 | (u64::from(dnssec_ok) << 63).to_le())
    }

    #[inline(always)]
    fn write(self, window: &mut Window, at: usize) {
        *bytes_mut(window, at) = self.0.to_ne_bytes();
        *bytes_mut(window, at + 8) = [0; 3];
    }

    /// Its sum where it stands at `at` of a message, less than 2^26.
    #[inline(always)]
    fn sum(self, at: usize) -> u32 {
        let words: [u16; 4] = transmute!(self.0);
        words.map(u32::from).iter().sum::<u32>() << (8 * (at & 1))
    }
}

/// Lowers the TTL at `at`; returns how much less its sum is.
#[inline(always)]
fn age_ttl(field: &mut [u8; 4], at: usize, age: Secs) -> u64 {
    let old = u32::from_be_bytes(*field);
    let less = old.min(age);
    *field = (old - less).to_be_bytes();
    checksum::number(u64::from(less), at)
}
