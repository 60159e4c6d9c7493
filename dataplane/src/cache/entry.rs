//! An entry as it lies in a slab.
//!
//! ```text
//! 0      4          8         12      14    16     24      32         34        35           36       37      38
//! ┌──────┬──────────┬─────────┬───────┬─────┬──────┬───────┬──────────┬─────────┬────────────┬────────┬───────┬──────┬──────┬──────┐
//! │ hash │ received │ expires │ stale │ sum │ meta │ start │ wire_len │ records │ additional │ status │ state │ name │ TTLs │ wire │
//! └──────┴──────────┴─────────┴───────┴─────┴──────┴───────┴──────────┴─────────┴────────────┴────────┴───────┴──────┴──────┴──────┘
//! ```
//! `meta` has the cache's generation in its upper byte; `start` is what the reply's header starts with. The name is the
//! key's, in whole blocks; then two bytes a record with the offset of its TTL; then the records. The
//! whole is rounded up to 8 bytes.

use super::ring::UNIT;
use crate::{
    clock::Secs,
    dns::{
        answer::{Answer, Status, View},
        key::{Key, Meta},
    },
    simd::{self, BLOCK},
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

/// Where the generation stands in `meta`.
const GENERATION: u32 = 56;

/// How often an entry is remembered to have been asked for: up to three times, as in S3-FIFO (Yang et al., SOSP 2023).
const FREQUENCY: u8 = 0x03;
/// The entry is in the index.
const LIVE: u8 = 0x04;

/// The fixed part of an entry.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    hash: U32,
    received: U32,
    expires: U32,
    stale: U16,
    sum: U16,
    meta: U64,
    start: U64,
    wire_len: U16,
    records: u8,
    additional: u8,
    status: u8,
    state: u8,
}

const _: () = assert!(HEADER == 38, "the header has no holes");

/// The most bytes that an entry can take up: the longest name, 255 TTLs, and records up to [`WIRE_MAX`]. A slab goes on for
/// as many after its last entry, so that one comparison opens an entry, and none what lies within.
pub const ENTRY_MAX: usize = HEADER + size_of::<Body>();

/// More than the most bytes of records in an entry, and than a frame has room for.
pub const WIRE_MAX: usize = 2048;

/// What follows a header.
pub type Body = [u8; 256 + 2 * 255 + WIRE_MAX];

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
        let ttls = 2 * usize::from(self.records);
        (HEADER + self.name_len() + ttls + usize::from(self.wire_len.get())).next_multiple_of(UNIT)
    }

    /// Bytes that the name takes up.
    #[inline(always)]
    fn name_len(&self) -> usize {
        (Meta(self.meta.get()).last_block() + 1) * BLOCK
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

    /// When it stops being fresh.
    #[inline(always)]
    pub fn expires(&self) -> Secs {
        self.expires.get()
    }

    /// When it stops being of any use.
    #[inline(always)]
    pub fn dead(&self) -> Secs {
        self.expires.get().saturating_add(Secs::from(self.stale.get()) * STALE_UNIT)
    }

    /// The cache generation that it belongs to.
    #[inline(always)]
    pub fn generation(&self) -> u8 {
        (self.meta.get() >> GENERATION) as u8
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
        self.state & FREQUENCY
    }

    /// Remembers that it was asked for.
    #[inline(always)]
    pub fn touch(&mut self) {
        // Written only while it changes, so that the hottest entries' lines stay clean.
        if self.state & FREQUENCY != FREQUENCY {
            self.state += 1;
        }
    }

    /// Forgets one time.
    pub fn fade(&mut self) {
        if self.state & FREQUENCY != 0 {
            self.state -= 1;
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
        self.state = self.state & !FREQUENCY | frequency & FREQUENCY;
    }

    /// Whether it is the answer to `key`, of `generation`; `body` is what follows the header.
    #[inline(always)]
    pub fn answers(&self, body: &Body, key: &Key, generation: u8) -> bool {
        self.meta.get() == tagged(key, generation) && is_name(body, key)
    }

    /// Whether it is an answer to `key`, of whatever generation; `body` is what follows the header.
    pub fn is_filed_under(&self, body: &Body, key: &Key) -> bool {
        self.answers(body, key, self.generation())
    }

    /// The answer; `body` is what follows the header.
    #[inline(always)]
    pub fn view<'a>(&self, body: &'a Body) -> View<'a> {
        let (ttls, rest) = body[self.name_len()..].split_at(2 * usize::from(self.records));
        View {
            status: Status(self.status),
            start: self.start.get(),
            additional: u16::from(self.additional),
            ttls: ttls.as_chunks::<2>().0,
            // The remainder is the length already, and spares the comparison.
            wire: &rest[..usize::from(self.wire_len.get()) % WIRE_MAX],
            sum: self.sum.get(),
        }
    }
}

#[inline(always)]
fn tagged(key: &Key, generation: u8) -> u64 {
    key.meta().0 | u64::from(generation) << GENERATION
}

/// Whether `body` starts with the name of `key`.
#[inline(always)]
fn is_name(body: &Body, key: &Key) -> bool {
    let same = |at: usize| {
        let have = body[at * BLOCK..].first_chunk::<BLOCK>().unwrap_or(&[0; BLOCK]);
        simd::same(zerocopy::transmute!(key.block(at).map(u64::to_le_bytes)), *have)
    };
    let last = key.meta().last_block();
    // Nearly all names have one block or two: no loop for those.
    same(0) & same(last) == 0xffff && (last < 2 || is_middle(last, same))
}

#[inline(never)]
fn is_middle(last: usize, same: impl Fn(usize) -> u32) -> bool {
    (1..last).all(|at| same(at) == 0xffff)
}

/// An answer measured for storing: cut to a bare "too large for UDP" where it can never be sent whole.
pub struct Draft<'a> {
    header: Header,
    key: &'a Key,
    view: View<'a>,
}

impl<'a> Draft<'a> {
    /// `wire_max`: the most bytes of records that a reply over UDP can carry.
    pub fn new(key: &'a Key, hash: u64, answer: &'a Answer, wire_max: usize, generation: u8) -> Self {
        let mut view = answer.view();
        if view.wire.len() > wire_max.min(WIRE_MAX - 1) || view.ttls.len() > usize::from(u8::MAX) {
            view = view.truncated();
        }
        let header = Header {
            hash: (hash as u32).into(),
            received: answer.received.into(),
            expires: answer.expires().into(),
            stale: (answer.stale / STALE_UNIT)
                .min(Secs::from(u16::MAX))
                .try_into()
                .unwrap_or(u16::MAX)
                .into(),
            sum: view.sum.into(),
            meta: tagged(key, generation).into(),
            start: view.start.into(),
            wire_len: (view.wire.len() as u16).into(),
            records: view.ttls.len() as u8,
            additional: view.additional as u8,
            status: view.status.0,
            state: LIVE,
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
        self.key.words().iter().for_each(|word| put(&word.to_le_bytes()));
        put(self.view.ttls.as_flattened());
        put(self.view.wire);
    }
}
