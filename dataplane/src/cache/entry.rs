//! An entry as it lies in a slab.
//!
//! ```text
//! 0      4          8         12      14      16      24           26        28         30        31       32      33     34
//! ┌──────┬──────────┬─────────┬───────┬───────┬───────┬────────────┬─────────┬──────────┬─────────┬────────┬───────┬──────┬──────────┬──────┬──────┐
//! │ hash │ received │ glance  │ stale │ filed │ start │ additional │ balance │ wire_len │ records │ status │ state │ name │ question │ TTLs │ wire │
//! └──────┴──────────┴─────────┴───────┴───────┴───────┴────────────┴─────────┴──────────┴─────────┴────────┴───────┴──────┴──────────┴──────┴──────┘
//! ```
//! `glance` is until when a glance is enough: until it expires, or until it is time to renew it before that. `filed` is the key's flags, and above them the cache's generation; `start` and `additional` are the reply's header as on
//! the wire; `balance` is what the packet's checksum is raised by for the reply; `name` is the length of the key's name. The
//! question is the key's; then come two bytes a record with the offset of its TTL; then the records; then, where `filed` says
//! so, two bytes with an INFO-CODE (RFC 8914). The whole is rounded up to 8 bytes.

use super::ring::UNIT;
use crate::{
    clock::Secs,
    dns::{
        NAME_MAX,
        answer::{Answer, Status, View},
        header,
        key::{Asked, Flags, Key},
    },
    packet::checksum,
    simd::{BLOCK, Block},
};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    native_endian::{U16, U32, U64},
    transmute_mut, transmute_ref,
};

/// Bytes before the name.
pub const HEADER: usize = size_of::<Header>();

/// Seconds between two requests to renew an expired entry (RFC 8767 section 5: not below 30).
pub const RECHECK: Secs = 30;

/// The time that an answer may be given out after its end is kept in units of this many seconds: 16 bits of them are
/// three days, the most that RFC 8767 advises.
const STALE_UNIT: Secs = 4;

/// How often an entry is remembered to have been asked for: up to three times, as in S3-FIFO (Yang et al., SOSP 2023). What is
/// kept is how much is missing to that, so that one comparison with zero tells that there is nothing to remember.
const FREQUENCY: u8 = 0x03;
/// The entry is in the index.
const LIVE: u8 = 0x04;
/// The entry is [simple](Fresh::is_simple).
const SIMPLE: u8 = 0x08;
/// Four bits with the binary logarithm of the seconds between the end of glances and its expiry; 0: they are the same.
const AHEAD: u8 = 0xf0;
const AHEAD_SHIFT: u32 = AHEAD.trailing_zeros();

/// The fixed part of an entry.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    hash: U32,
    received: U32,
    glance: U32,
    stale: U16,
    filed: Filed,
    start: U64,
    additional: U16,
    balance: U16,
    wire_len: U16,
    records: u8,
    status: u8,
    state: u8,
    name_len: u8,
}

const _: () = assert!(HEADER == 34, "the header has no holes");

/// What an entry is filed under beside its question: the key's flags and the cache's generation.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct Filed([u8; 2]);

impl Filed {
    /// Beside the flags: there is more to be said about the answer than a glance has time for. No query is filed under it, so
    /// that none finds the entry but who looks closer.
    const NOTED: u8 = 0x80;

    /// The same with `flags`, where there were none.
    #[inline(always)]
    pub fn with(self, flags: Flags) -> Self {
        Filed((u16::from_ne_bytes(self.0) | u16::from_ne_bytes([flags.0, 0])).to_ne_bytes())
    }

    /// The flags.
    pub fn flags(self) -> Flags {
        Flags(self.0[0] & !Self::NOTED)
    }

    fn noted(self, noted: bool) -> Self {
        Filed([self.0[0] | if noted { Self::NOTED } else { 0 }, self.0[1]])
    }

    fn is_noted(self) -> bool {
        self.0[0] & Self::NOTED != 0
    }

    /// Under `flags`, in `generation`.
    #[inline(always)]
    pub fn new(flags: Flags, generation: u8) -> Self {
        Filed([flags.0, generation])
    }
}

/// The most bytes that an entry can take up: the longest name, 255 TTLs, records up to [`WIRE_MAX`], and a code. A slab goes on for
/// as many after its last entry, so that one comparison opens an entry, and none what lies within.
pub const ENTRY_MAX: usize = HEADER + size_of::<Body>();

/// More than the most bytes of records in an entry, and than a frame has room for.
pub const WIRE_MAX: usize = 2048;

/// Where the TTL is of a record whose name is a pointer (RFC 1035 sections 3.2.1 and 4.1.4).
pub const SIMPLE_TTL: usize = 6;

/// What follows a header.
pub type Body = [u8; NAME_MAX + 5 + 2 * 255 + WIRE_MAX + 2];

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    header: Header,
    body: Body,
}

impl Header {
    /// The header of the entry at `at`, and what follows it.
    #[inline(always)]
    pub fn at(slab: &[u8], at: usize) -> (&Header, &Body) {
        let Some(entry) = slab.get(at..at + ENTRY_MAX).and_then(|rest| rest.first_chunk::<ENTRY_MAX>())
        else {
            unreachable!("slabs go on after their last entry")
        };
        let entry: &Entry = transmute_ref!(entry);
        (&entry.header, &entry.body)
    }

    /// The same, the header to change.
    #[inline(always)]
    pub fn at_mut(slab: &mut [u8], at: usize) -> (&mut Header, &Body) {
        let rest = slab.get_mut(at..at + ENTRY_MAX);
        let Some(entry) = rest.and_then(|rest| rest.first_chunk_mut::<ENTRY_MAX>()) else {
            unreachable!("slabs go on after their last entry")
        };
        let entry: &mut Entry = transmute_mut!(entry);
        (&mut entry.header, &entry.body)
    }

    /// Bytes of the entry in the slab.
    pub fn size(&self) -> usize {
        let (ttls, code) = (2 * usize::from(self.records), usize::from(self.filed.is_noted()) * 2);
        (HEADER + self.question_len() + ttls + usize::from(self.wire_len.get()) + code).next_multiple_of(UNIT)
    }

    fn question_len(&self) -> usize {
        usize::from(self.name_len) + 4
    }

    /// The lower half of the key's hash.
    pub fn hash(&self) -> u32 {
        self.hash.get()
    }

    /// When the answer was received.
    #[inline(always)]
    pub fn received(&self) -> Secs {
        self.received.get()
    }

    /// Until when a glance is enough: then it has expired, or it is time to renew it.
    #[inline(always)]
    pub fn glance(&self) -> Secs {
        self.glance.get()
    }

    /// When it stops being fresh.
    pub fn expires(&self) -> Secs {
        let ahead = match self.state >> AHEAD_SHIFT {
            0 => 0,
            log => 1 << log,
        };
        self.glance().saturating_add(ahead)
    }

    /// When it stops being of any use.
    pub fn dead(&self) -> Secs {
        self.expires().saturating_add(Secs::from(self.stale.get()) * STALE_UNIT)
    }

    /// Of an entry whose time to be renewed has come: whether that is worth it, because it was asked for often. Says so once;
    /// from then on glances are enough until it expires.
    pub fn claim_ahead(&mut self) -> bool {
        self.glance = self.expires().into();
        self.state &= !AHEAD;
        self.is_often_asked_for()
    }

    /// The cache generation that it belongs to.
    #[inline(always)]
    pub fn generation(&self) -> u8 {
        self.filed.0[1]
    }

    /// Whether it is in the index.
    pub fn is_live(&self) -> bool {
        self.state & LIVE != 0
    }

    /// Takes it for removed from the index.
    pub fn kill(&mut self) {
        self.state &= !LIVE;
    }

    /// How often it is remembered to have been asked for.
    pub fn frequency(&self) -> u8 {
        FREQUENCY - (self.state & FREQUENCY)
    }

    /// Whether it is remembered to have been asked for as often as that can be.
    pub fn is_often_asked_for(&self) -> bool {
        self.frequency() == FREQUENCY
    }

    /// What it answers; `body` is what follows the header.
    pub fn asked<'a>(&self, body: &'a Body) -> Asked<'a> {
        Asked { question: &body[..self.question_len()], flags: self.filed.flags() }
    }

    /// Remembers that it was asked for.
    #[inline(always)]
    pub fn touch(&mut self) {
        // Written only while it changes, so that the hottest entries' lines stay clean.
        if self.state & FREQUENCY != 0 {
            self.state -= 1;
        }
    }

    /// Forgets one time.
    pub fn fade(&mut self) {
        if self.state & FREQUENCY != FREQUENCY {
            self.state += 1;
        }
    }

    /// Of an expired entry: whether to ask for a new one now. True once, and then once every [`RECHECK`].
    ///
    /// An expired entry's age is of no more use, so `received` holds the time of the last request from then on.
    #[inline]
    pub fn claim_refresh(&mut self, now: Secs) -> bool {
        let requested = self.received() >= self.expires();
        if requested && now.saturating_sub(self.received()) < RECHECK {
            return false;
        }
        self.received = now.into();
        true
    }

    /// Sets how often it is remembered to have been asked for.
    pub fn set_frequency(&mut self, frequency: u8) {
        self.state = self.state & !FREQUENCY | (FREQUENCY - frequency.min(FREQUENCY));
    }

    /// What it is filed under beside its question.
    #[inline(always)]
    pub fn filed(&self) -> Filed {
        self.filed
    }

    /// Whether it is an answer to `key`, of whatever generation; `body` is what follows the header.
    pub fn is_filed_under(&self, body: &Body, key: &Key) -> bool {
        self.filed.flags() == key.flags() && &body[..self.question_len()] == key.question()
    }

    /// RCODE, AA, AD.
    pub fn status(&self) -> Status {
        Status(self.status)
    }

    /// The answer; `body` is what follows the header.
    pub fn view<'a>(&self, body: &'a Body) -> View<'a> {
        let (ttls, wire) = body[self.question_len()..].split_at(2 * usize::from(self.records));
        let (wire, rest) = wire.split_at(usize::from(self.wire_len.get()));
        let ede = rest.first_chunk().filter(|_| self.filed.is_noted()).map(|code| u16::from_be_bytes(*code));
        let change = change_but_records(self.start.get(), self.additional.get(), wire.len());
        View {
            status: self.status(),
            start: self.start.get(),
            additional: u16::from_be(self.additional.get()),
            ttls: ttls.as_chunks::<2>().0,
            wire,
            sum: checksum::fold_native(checksum::change(change, u64::from(!self.balance.get()))),
            ede,
        }
    }
}

/// A fresh entry, found by a glance: an answer to be copied.
#[derive(Clone, Copy, Debug)]
pub struct Fresh<'a> {
    header: &'a Header,
    /// The TTLs, and what follows them.
    rest: &'a [u8],
}

impl<'a> Fresh<'a> {
    /// Of the entry of a question of `question_len` bytes, less than 64.
    #[inline(always)]
    pub fn new(header: &'a Header, body: &'a Body, question_len: usize) -> Self {
        // The remainder is the length already, and spares the comparison.
        Fresh { header, rest: &body[question_len % 64..] }
    }

    /// Whether it is positive, whole, the same for everybody, and one record of at most [`BLOCK`] bytes whose name is a pointer:
    /// most are.
    #[inline(always)]
    pub fn is_simple(&self) -> bool {
        self.header.state & SIMPLE != 0
    }

    /// RCODE, AA and AD.
    pub fn status(&self) -> Status {
        Status(self.header.status)
    }

    /// How long ago it was received, in seconds.
    #[inline(always)]
    pub fn age(&self, now: Secs) -> Secs {
        // No entry is received later than the clock that asks: see `Cache::insert`.
        now.wrapping_sub(self.header.received())
    }

    /// The reply's header as far as it depends on the answer: see [`header::start`].
    #[inline(always)]
    pub fn start(&self) -> u64 {
        self.header.start.get()
    }

    /// Additional records, as on the wire.
    #[inline(always)]
    pub fn additional(&self) -> u16 {
        self.header.additional.get()
    }

    /// What the packet's checksum is to be raised by, where a query's that is nothing but the question is there.
    #[inline(always)]
    pub fn balance(&self) -> u16 {
        self.header.balance.get()
    }

    /// The record of a [simple](Self::is_simple) one, and how many bytes of the block it is. Its TTL is at [`SIMPLE_TTL`].
    #[inline(always)]
    pub fn simple(&self) -> (&'a Block, usize) {
        let record = self.rest[2..].first_chunk().unwrap_or(&[0; BLOCK]);
        (record, usize::from(self.header.wire_len.get()) % (2 * BLOCK))
    }

    /// Offset in the message of each TTL, little-endian.
    pub fn ttls(&self) -> &'a [[u8; 2]] {
        self.rest[..2 * usize::from(self.header.records)].as_chunks::<2>().0
    }

    /// Bytes of records.
    #[inline(always)]
    pub fn wire_len(&self) -> usize {
        usize::from(self.header.wire_len.get()) % WIRE_MAX
    }

    /// The records.
    pub fn wire(&self) -> &'a [u8] {
        &self.rest[2 * usize::from(self.header.records)..][..self.wire_len()]
    }
}

/// How the sum of a packet changes, where the message is a query with nothing but a question and then its reply, but for the
/// records: the header (the query's has only the count of questions), and the length in the UDP header and its pseudo-header.
fn change_but_records(start: u64, additional: u16, wire_len: usize) -> u64 {
    let question = header::start(0, 0, 0);
    let lengths = u64::from((wire_len as u16).to_be());
    checksum::chain(checksum::change(question, start), [u64::from(additional), 2 * lengths])
}

/// An answer measured for storing: cut to a bare "too large for UDP" where it can never be sent whole.
pub struct Draft<'a> {
    header: Header,
    key: &'a Key,
    view: View<'a>,
}

impl<'a> Draft<'a> {
    /// `wire_max`: the most bytes of records that a reply over UDP can carry.
    pub fn new(
        key: &'a Key,
        hash: u64,
        answer: &'a Answer,
        wire_max: usize,
        generation: u8,
        now: Secs,
    ) -> Self {
        let (room, at) = (wire_max.min(WIRE_MAX - 1), header::LEN + key.question().len());
        let fitted = answer.view().fitted(room, at, key.asked().dnssec_ok());
        let fitted = fitted.filter(|view| view.ttls.len() <= usize::from(u8::MAX));
        let view = fitted.unwrap_or_else(|| answer.view().truncated());
        let additional = view.additional.to_be();
        let change =
            checksum::add(change_but_records(view.start, additional, view.wire.len()), u64::from(view.sum));
        let ttl = header::LEN + key.question().len() + SIMPLE_TTL;
        let simple = view.status.is_plain()
            && view.wire.len() <= BLOCK
            && view.ttls.iter().map(|at| usize::from(u16::from_le_bytes(*at))).eq([ttl]);
        // Less than two seconds are not worth it.
        let ahead = answer.ahead.checked_ilog2().unwrap_or(0).min(u32::from(AHEAD >> AHEAD_SHIFT));
        let header = Header {
            hash: (hash as u32).into(),
            received: answer.received.min(now).into(),
            glance: answer.expires().saturating_sub(if ahead == 0 { 0 } else { 1 << ahead }).into(),
            stale: (answer.stale / STALE_UNIT)
                .min(Secs::from(u16::MAX))
                .try_into()
                .unwrap_or(u16::MAX)
                .into(),
            filed: Filed::new(key.flags(), generation).noted(view.ede.is_some()),
            start: view.start.into(),
            additional: additional.into(),
            balance: (!checksum::fold_native(change)).into(),
            wire_len: (view.wire.len() as u16).into(),
            records: view.ttls.len() as u8,
            status: view.status.0,
            state: LIVE | if simple { SIMPLE } else { 0 } | (ahead as u8) << AHEAD_SHIFT,
            name_len: key.asked().name().len() as u8,
        };
        Draft { header, key, view }
    }

    /// Bytes that it will take up.
    pub fn size(&self) -> usize {
        self.header.size()
    }

    /// Writes it to the start of `slab`.
    pub fn write(&self, slab: &mut [u8], frequency: u8) {
        let mut header = self.header;
        header.set_frequency(frequency);
        let mut rest = &mut slab[..self.size()];
        let mut put = |bytes: &[u8]| {
            let (to, tail) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            to.copy_from_slice(bytes);
            rest = tail;
        };
        put(header.as_bytes());
        put(self.key.question());
        put(self.view.ttls.as_flattened());
        put(self.view.wire);
        if let Some(ede) = self.view.ede {
            put(&ede.to_be_bytes());
        }
    }
}
