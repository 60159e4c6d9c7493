//! Layout of an entry in a slab.
//!
//! ```text
//! 0          4        8       10      12        14         16      17       18      19     20
//! ┌──────────┬────────┬───────┬───────┬─────────┬──────────┬───────┬────────┬───────┬──────┬──────────┬───────┬──────┐
//! │ received │ glance │ stale │ filed │ balance │ wire_len │ words │ status │ state │ name │ question │ table │ wire │
//! └──────────┴────────┴───────┴───────┴─────────┴──────────┴───────┴────────┴───────┴──────┴──────────┴───────┴──────┘
//! ```
//! `glance` is the time until which a glance is enough: the entry's expiry, or the earlier time to
//! renew it. `filed` is the key's flags, with the cache's generation above them. `balance` is the
//! amount by which the packet's checksum is raised for the reply. `words` is the length of the table in
//! words of two bytes, and `name` that of the key's name in bytes. The question is the key's. The table
//! has the reply's header as on the wire, from its flags to the number of additional records, and the
//! offset of each TTL; a [simple](Found::is_simple) answer has none, since all that is known. After the
//! records comes, if `filed` says so, a note of eight bytes: an INFO-CODE (RFC 8914), the list that gave
//! the answer, and the groups of clients that get it. The total size is rounded up to 4 bytes.

mod found;

use super::{
    filing::{Filed, Note, Scope},
    ring::UNIT,
};
use crate::{
    clock::Secs,
    dns::{
        QUESTION_MAX,
        answer::{Answer, Status, View},
        header,
        key::{Asked, Key},
    },
    group::{Group, GroupSet},
    simd::BLOCK,
};
pub use found::{Found, Parts};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    native_endian::{U16, U32},
    transmute_mut, transmute_ref,
};

/// Size of the header in bytes: what comes before the name.
pub const HEADER: usize = size_of::<EntryHeader>();

/// Time between two requests to renew an expired entry, in seconds (RFC 8767 section 5: not below
/// 30).
pub const RECHECK: Secs = 30;

/// Unit of the time that an answer may still be given out after its expiry, in seconds: 16 bits of
/// them are three days, the most that RFC 8767 advises.
const STALE_UNIT: Secs = 4;

/// Bits that count how often an entry was requested: up to three times, as in S3-FIFO (Yang et al.,
/// SOSP 2023). They hold the number missing from three, so that one comparison with zero tells that
/// there is nothing to update.
const FREQUENCY: u8 = 0x03;
/// The entry is in the index.
const LIVE: u8 = 0x04;
/// The entry is [simple](Found::is_simple).
const SIMPLE: u8 = 0x08;
/// Four bits with the binary logarithm of the time in seconds from the end of glances to expiry; 0:
/// both are the same.
const AHEAD: u8 = 0xf0;
const AHEAD_SHIFT: u32 = AHEAD.trailing_zeros();

/// The fixed part of an entry.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct EntryHeader {
    received: U32,
    glance: U32,
    stale: U16,
    filed: Filed,
    balance: U16,
    wire_len: U16,
    words: u8,
    status: u8,
    state: u8,
    name_len: u8,
}

const _: () = assert!(HEADER == 20, "the header has no holes");

/// Most bytes that an entry can take: the longest name and table, records up to [`WIRE_MAX`], and a
/// note. A slab continues for as many bytes after its last entry, so that opening an entry takes
/// one bounds check, and access within it none.
pub const ENTRY_MAX: usize = HEADER + size_of::<Body>();

/// Bytes of a table before the offsets of TTLs.
const TABLE_HEAD: usize = size_of::<u64>() + size_of::<u16>();
/// Most TTLs of an entry: more than any has.
const TTLS_MAX: usize = 255 - TABLE_HEAD / 2;

/// Bound on the bytes of records: more than any entry has, and more than fit in a frame.
pub const WIRE_MAX: usize = 2048;

/// Offset of the TTL in a record whose name is a pointer (RFC 1035 sections 3.2.1 and 4.1.4).
pub const SIMPLE_TTL: usize = 6;

/// Part of an entry that follows the header.
pub type Body = [u8; QUESTION_MAX + 2 * 255 + WIRE_MAX + Note::LEN];

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SlabEntry {
    header: EntryHeader,
    body: Body,
}

impl EntryHeader {
    /// Returns the header of the entry at `at`, and the body that follows it.
    #[inline(always)]
    pub fn at(slab: &[u8], at: usize) -> (&EntryHeader, &Body) {
        let Some(entry) = slab.get(at..at + ENTRY_MAX).and_then(|rest| rest.first_chunk::<ENTRY_MAX>())
        else {
            unreachable!("slabs go on after their last entry")
        };
        let entry: &SlabEntry = transmute_ref!(entry);
        (&entry.header, &entry.body)
    }

    /// Returns the header of the entry at `at`, for writing, and the body that follows it.
    #[inline(always)]
    pub fn at_mut(slab: &mut [u8], at: usize) -> (&mut EntryHeader, &Body) {
        let rest = slab.get_mut(at..at + ENTRY_MAX);
        let Some(entry) = rest.and_then(|rest| rest.first_chunk_mut::<ENTRY_MAX>()) else {
            unreachable!("slabs go on after their last entry")
        };
        let entry: &mut SlabEntry = transmute_mut!(entry);
        (&mut entry.header, &entry.body)
    }

    /// Returns the number of bytes that the entry takes in the slab.
    pub fn size(&self) -> usize {
        let note = usize::from(self.filed.is_noted()) * Note::LEN;
        (HEADER + self.wire_end() + note).next_multiple_of(UNIT)
    }

    /// Returns the end of the records in the body.
    fn wire_end(&self) -> usize {
        self.question_len() + 2 * usize::from(self.words) + usize::from(self.wire_len.get())
    }

    /// Returns the length of the question in bytes.
    pub fn question_len(&self) -> usize {
        usize::from(self.name_len) + 4
    }

    /// Returns the time at which the answer was received.
    #[inline(always)]
    pub fn received(&self) -> Secs {
        self.received.get()
    }

    /// Returns the time until which a glance is enough. After it, the entry has expired or is due
    /// for renewal.
    #[inline(always)]
    pub fn glance(&self) -> Secs {
        self.glance.get()
    }

    /// Returns the time at which the entry expires.
    pub fn expires(&self) -> Secs {
        let ahead = match self.state >> AHEAD_SHIFT {
            0 => 0,
            log => 1 << log,
        };
        self.glance().saturating_add(ahead)
    }

    /// Returns the time after which the entry is useless, even as a stale answer.
    pub fn dead(&self) -> Secs {
        self.expires().saturating_add(Secs::from(self.stale.get()) * STALE_UNIT)
    }

    /// Whether an entry that is due for renewal is worth renewing, because it was requested often.
    /// Returns true at most once: afterwards, glances are enough until the entry expires.
    pub fn claim_ahead(&mut self) -> bool {
        self.glance = self.expires().into();
        self.state &= !AHEAD;
        self.is_often_asked_for()
    }

    /// Returns the cache generation that the entry belongs to.
    #[inline(always)]
    pub fn generation(&self) -> u8 {
        self.filed.generation()
    }

    /// Moves the entry to another cache generation.
    pub fn set_generation(&mut self, generation: u8) {
        self.filed.set_generation(generation);
    }

    /// Whether the entry is in the index.
    pub fn is_live(&self) -> bool {
        self.state & LIVE != 0
    }

    /// Marks the entry as removed from the index.
    pub fn kill(&mut self) {
        self.state &= !LIVE;
    }

    /// Returns the remembered number of requests for the entry.
    pub fn frequency(&self) -> u8 {
        FREQUENCY - (self.state & FREQUENCY)
    }

    /// Whether the remembered number of requests is at its maximum.
    pub fn is_often_asked_for(&self) -> bool {
        self.frequency() == FREQUENCY
    }

    /// Returns the question that the entry answers; `body` is the body that follows the header.
    pub fn asked<'a>(&self, body: &'a Body) -> Asked<'a> {
        Asked { question: &body[..self.question_len()], flags: self.filed.flags() }
    }

    /// Counts a request for the entry.
    #[inline(always)]
    pub fn touch(&mut self) {
        // Written only if it changes, so that the cache lines of the hottest entries stay clean.
        if self.state & FREQUENCY != 0 {
            self.state -= 1;
        }
    }

    /// Forgets one request.
    pub fn fade(&mut self) {
        if self.state & FREQUENCY != FREQUENCY {
            self.state += 1;
        }
    }

    /// Whether to request a new answer for an expired entry now. True the first time, and then once
    /// every [`RECHECK`].
    ///
    /// The age of an expired entry is no longer used, so from then on `received` holds the time of
    /// the last request.
    #[inline]
    pub fn claim_refresh(&mut self, now: Secs) -> bool {
        let is_due = self.is_refresh_due(now);
        if is_due {
            self.received = now.into();
        }
        is_due
    }

    /// Whether [`claim_refresh`](Self::claim_refresh) would return true.
    #[inline]
    pub fn is_refresh_due(&self, now: Secs) -> bool {
        let requested = self.received() >= self.expires();
        !requested || now.saturating_sub(self.received()) >= RECHECK
    }

    /// Sets the remembered number of requests.
    pub fn set_frequency(&mut self, frequency: u8) {
        self.state = self.state & !FREQUENCY | (FREQUENCY - frequency.min(FREQUENCY));
    }

    /// Returns the filing of the entry: flags and generation.
    #[inline(always)]
    pub fn filed(&self) -> Filed {
        self.filed
    }

    /// Whether the entry is an answer to `key` that is kept for `group`, of any generation; `body` is
    /// the body that follows the header.
    #[inline(always)]
    pub fn is_filed_under(&self, body: &Body, key: &Key, group: Group) -> bool {
        self.filed.suits(key.flags(), group) && &body[..self.question_len()] == key.question()
    }

    /// Whether the entry is kept for the default group.
    pub fn is_for_default_group(&self) -> bool {
        self.filed.suits(self.filed.flags(), Group::DEFAULT)
    }

    /// Returns the note; most entries have none.
    #[inline(always)]
    pub fn note(&self, body: &Body) -> Note {
        if self.filed.is_noted() { self.read_note(body) } else { Note::NONE }
    }

    fn read_note(&self, body: &Body) -> Note {
        let bytes = body.get(self.wire_end()..).and_then(|rest| rest.first_chunk());
        bytes.map_or(Note::NONE, |bytes| Note::from_bytes(*bytes))
    }

    /// Whether clients of a group get the answer; `body` is the body that follows the header.
    #[inline(always)]
    pub fn is_for(&self, body: &Body, group: Group) -> bool {
        !self.filed.is_noted() || self.note(body).groups.has(group)
    }

    /// Returns the groups of clients that get the answer; `body` is the body that follows the
    /// header.
    pub fn groups(&self, body: &Body) -> GroupSet {
        self.note(body).groups
    }

    /// Returns RCODE, AA and AD.
    pub fn status(&self) -> Status {
        Status(self.status)
    }

    /// Returns the answer, and the number of the list that gave it; `body` is the body that follows the
    /// header.
    #[inline(always)]
    pub fn view<'a>(&'a self, body: &'a Body) -> (View<'a>, Option<u8>) {
        let note = self.note(body);
        (View { ede: note.ede, ..Found::of(self, body).view() }, note.list)
    }
}

/// An answer measured for storing. One that is always too large for UDP is reduced to a bare TC=1.
pub struct Draft<'a> {
    header: EntryHeader,
    key: &'a Key,
    parts: Parts<'a>,
    note: Note,
}

/// Rules that drafts follow.
#[derive(Clone, Copy, Debug)]
pub struct DraftRules {
    /// Most bytes of records that a reply over UDP can carry.
    pub wire_max: usize,
    /// Current generation of the cache.
    pub generation: u8,
    /// The time.
    pub now: Secs,
}

impl<'a> Draft<'a> {
    /// Measures `answer`, which is for the clients in `scope`.
    pub fn new(key: &'a Key, answer: &'a Answer, scope: &Scope, rules: DraftRules) -> Self {
        let DraftRules { wire_max, generation, now } = rules;
        let (room, at) = (wire_max.min(WIRE_MAX - 1), header::LEN + key.question().len());
        let fitted = answer.view().fitted(room, at, key.asked().dnssec_ok());
        let fitted = fitted.filter(|view| view.ttls.len() <= TTLS_MAX);
        let view = fitted.unwrap_or_else(|| answer.view().truncated());
        let parts = Parts::of(view);
        let simple = parts.start == found::SIMPLE_START
            && parts.additional == 0
            && view.wire.len() <= BLOCK
            && view.ttls == found::simple_ttl(key.question().len());
        let note = Note { ede: view.ede, list: scope.list, groups: scope.groups };
        let filed = Filed::new(key.flags(), generation).for_group(scope.home());
        // A renewal less than two seconds ahead is not worth it.
        let ahead = answer.ahead.checked_ilog2().unwrap_or(0).min(u32::from(AHEAD >> AHEAD_SHIFT));
        let header = EntryHeader {
            received: answer.received.min(now).into(),
            glance: answer.expires().saturating_sub(if ahead == 0 { 0 } else { 1 << ahead }).into(),
            stale: (answer.stale / STALE_UNIT)
                .min(Secs::from(u16::MAX))
                .try_into()
                .unwrap_or(u16::MAX)
                .into(),
            filed: filed.noted(note != Note::NONE),
            balance: parts.balance.into(),
            wire_len: (view.wire.len() as u16).into(),
            words: if simple { 0 } else { (TABLE_HEAD / 2 + view.ttls.len()) as u8 },
            status: view.status.0,
            state: LIVE | if simple { SIMPLE } else { 0 } | (ahead as u8) << AHEAD_SHIFT,
            name_len: key.asked().name().len() as u8,
        };
        Draft { header, key, parts, note }
    }

    /// Returns the number of bytes that the entry will take.
    pub fn size(&self) -> usize {
        self.header.size()
    }

    /// Writes the entry to the start of `slab`.
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
        if header.words != 0 {
            put(self.parts.start.as_bytes());
            put(self.parts.additional.as_bytes());
            put(self.parts.ttls.as_flattened());
        }
        put(self.parts.wire);
        if self.note != Note::NONE {
            put(&self.note.to_bytes());
        }
    }
}
