//! An entry as it lies in a slab.
//!
//! ```text
//! 0       4          8         12      16     24         26       29       30      31           32
//! ┌───────┬──────────┬─────────┬───────┬──────┬──────────┬────────┬────────┬───────┬────────────┬──────┬──────┬──────┐
//! │ hash  │ received │ expires │ dead  │ meta │ wire_len │ counts │ status │ state │ generation │ name │ TTLs │ wire │
//! └───────┴──────────┴─────────┴───────┴──────┴──────────┴────────┴────────┴───────┴────────────┴──────┴──────┴──────┘
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
};

/// Bytes before the name.
pub const HEADER: usize = size_of::<Header>();

/// Seconds between two requests to renew an expired entry (RFC 8767 section 5: not below 30).
pub const RECHECK: Secs = 30;

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
    dead: U32,
    meta: U64,
    wire_len: U16,
    counts: [u8; 3],
    status: u8,
    state: u8,
    generation: u8,
}

const _: () = assert!(HEADER == 32, "two entries' headers share a cache line");

impl Header {
    /// The header of the entry at `at`.
    #[inline(always)]
    pub fn at(slab: &[u8], at: usize) -> (&Header, &[u8]) {
        Header::ref_from_prefix(&slab[at..]).unwrap_or_else(|_| unreachable!("entries end within their slab"))
    }

    /// The same, to change.
    #[inline(always)]
    pub fn at_mut(slab: &mut [u8], at: usize) -> &mut Header {
        let entry = Header::mut_from_prefix(&mut slab[at..]);
        entry.unwrap_or_else(|_| unreachable!("entries end within their slab")).0
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
        self.dead.get()
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
        let (name, _) = body.as_chunks::<8>();
        key.words().iter().zip(name).all(|(asked, have)| *asked == u64::from_le_bytes(*have))
    }

    /// The answer; `body` is what follows the header.
    #[inline(always)]
    pub fn view<'a>(&self, body: &'a [u8]) -> View<'a> {
        let name = Meta(self.meta.get()).name_len().next_multiple_of(8);
        let counts = self.counts.map(u16::from);
        let records = usize::from(counts[0] + counts[1] + counts[2]);
        let (ttls, rest) = body[name..].split_at(2 * records);
        View {
            status: Status(self.status),
            counts,
            ttls: ttls.as_chunks::<2>().0,
            wire: &rest[..usize::from(self.wire_len.get())],
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
            view = View { status: view.status.truncated(), counts: [0; 3], ttls: &[], wire: &[] };
        }
        let header = Header {
            hash: (hash as u32).into(),
            received: answer.received.into(),
            expires: answer.expires().into(),
            dead: answer.dead().into(),
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
