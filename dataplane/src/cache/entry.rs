//! An entry as it lies in a slab.
//!
//! ```text
//! 0      4          8         12      14    16     24         26       29       30      31           32
//! ┌──────┬──────────┬─────────┬───────┬─────┬──────┬──────────┬────────┬────────┬───────┬────────────┬──────┬──────┬──────┐
//! │ hash │ received │ expires │ stale │ sum │ meta │ wire_len │ counts │ status │ state │ generation │ name │ TTLs │ wire │
//! └──────┴──────────┴─────────┴───────┴─────┴──────┴──────────┴────────┴────────┴───────┴────────────┴──────┴──────┴──────┘
//! ```
//! The name is the key's, in whole words; then two bytes a record with the offset of its TTL; then the records. The
//! whole is rounded up to 8 bytes.

use super::ring::UNIT;
use crate::{
    clock::Secs,
    dns::{
        answer::{Answer, Status, View},
        key::{Key, Meta},
    },
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
    wire_len: U16,
    counts: [u8; 3],
    status: u8,
    state: u8,
    generation: u8,
}

const _: () = assert!(HEADER == 32, "two entries' headers share a cache line");

impl Header {
    /// The header of the entry at `at`, and what follows it.
    #[inline(always)]
    pub fn at(slab: &[u8], at: usize) -> (&Header, &[u8]) {
        let Some((header, body)) = slab[at..].split_first_chunk::<HEADER>() else {
            unreachable!("entries end within their slab")
        };
        (transmute_ref!(header), body)
    }

    /// The same, the header to change.
    #[inline(always)]
    pub fn at_mut(slab: &mut [u8], at: usize) -> (&mut Header, &[u8]) {
        let Some((header, body)) = slab[at..].split_first_chunk_mut::<HEADER>() else {
            unreachable!("entries end within their slab")
        };
        (transmute_mut!(header), body)
    }

    /// Bytes of the entry in the slab.
    pub fn size(&self) -> usize {
        let records: usize = self.counts.iter().map(|n| usize::from(*n)).sum();
        let name = Meta(self.meta.get()).name_len().next_multiple_of(8);
        (HEADER + name + 2 * records + usize::from(self.wire_len.get())).next_multiple_of(UNIT)
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
        self.generation
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

    /// Whether it is the answer to `key`; `body` is what follows the header.
    #[inline(always)]
    pub fn answers(&self, body: &[u8], key: &Key) -> bool {
        if self.meta.get() != key.meta().0 {
            return false;
        }
        let asked = key.words();
        let Some(name) = body.get(..8 * asked.len()) else { return false };
        let mut different = 0;
        for (asked, have) in asked.iter().zip(name.as_chunks::<8>().0) {
            different |= asked ^ u64::from_le_bytes(*have);
        }
        different == 0
    }

    /// The answer; `body` is what follows the header.
    #[inline(always)]
    pub fn view<'a>(&self, body: &'a [u8]) -> View<'a> {
        let name = Meta(self.meta.get()).name_len().next_multiple_of(8);
        let counts = self.counts.map(u16::from);
        let records = name + 2 * usize::from(counts[0] + counts[1] + counts[2]);
        let end = records + usize::from(self.wire_len.get());
        let entry = &body[..end];
        View {
            status: Status(self.status),
            counts,
            ttls: entry[name..records].as_chunks::<2>().0,
            wire: &entry[records..],
            sum: self.sum.get(),
        }
    }
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
        if view.wire.len() > wire_max || view.counts.iter().any(|n| *n > u16::from(u8::MAX)) {
            view = View { status: view.status.truncated(), counts: [0; 3], ttls: &[], wire: &[], sum: 0 };
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
            meta: key.meta().0.into(),
            wire_len: (view.wire.len() as u16).into(),
            counts: view.counts.map(|n| n as u8),
            status: view.status.0,
            state: LIVE,
            generation,
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
