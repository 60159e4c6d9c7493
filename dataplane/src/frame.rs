//! Frames: fixed-size chunks of packet memory, each in exactly one place.
//!
//! A [`Frame`] is the ownership token of a chunk whose place is [`Place::Held`]: it cannot be
//! copied, and only [`Frames`] makes or takes one. While a chunk is free, on the fill ring or in
//! transit out, no token for it exists, so no safe code can read or write it. An index from the
//! kernel is accepted only if the chunk was in the place that the kernel took it from.

use crate::{
    region::{Pages, Region},
    simd::prefetch,
};
use std::ptr::NonNull;

/// Size of a chunk in bytes. One page holds two; a DNS message that ringdns sends over UDP fits
/// with all headers.
pub const CHUNK: usize = 2048;

/// Number of bytes of a chunk that the fast path accesses, from the packet's first byte: more than
/// a link with an MTU of 1500 bytes carries. Since its size is fixed, it costs one bounds check,
/// and accesses within it cost none.
pub const WINDOW: usize = 1536;

/// Size of a cache line in bytes.
const CACHE_LINE: usize = 64;

/// Owned chunk with a packet in it: `start..start + len` within the chunk.
///
/// It must end in [`Frames::release`] or in a port's `send`. The only other way to get rid of it is
/// to leak it, which [`Frames::count`] shows.
#[derive(Debug)]
#[must_use = "a frame that is dropped is lost to its port"]
pub struct Frame {
    index: u32,
    start: u16,
    len: u16,
}

impl Frame {
    /// Returns the length of the packet in bytes.
    #[inline(always)]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether there is no packet in the chunk.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets the packet's length, limited to the end of the chunk. Its start stays.
    #[inline(always)]
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(CHUNK - usize::from(self.start)) as u16;
    }
}

/// Length of a packet within its [window](Frames::window_mut).
pub struct WindowLen<'a>(&'a mut u16);

impl WindowLen<'_> {
    /// Sets the length, limited to the window.
    #[inline(always)]
    pub fn set(self, len: usize) {
        *self.0 = len.min(WINDOW) as u16;
    }
}

/// Place of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Place {
    /// On the free list.
    Free,
    /// With the kernel, to receive into.
    Fill,
    /// With the worker: a [`Frame`] exists.
    Held,
    /// With the kernel, to send.
    Tx,
}

/// Position of a packet, as in ring descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Number of the chunk.
    pub index: u32,
    /// First byte of the packet within the chunk.
    pub start: u16,
    /// Length of the packet.
    pub len: u16,
}

/// Packet memory of a port, with the ledger of its chunks.
pub struct Frames {
    memory: Memory,
    headroom: u16,
    places: Box<[Place]>,
    free: Vec<u32>,
}

impl Frames {
    /// Creates `count` chunks, all free. New packets start `headroom` bytes into a chunk.
    pub fn new(count: u32, headroom: u16) -> std::io::Result<Self> {
        let region = Region::new(count as usize * CHUNK)?;
        Ok(Frames {
            memory: Memory { base: region.base(), chunks: count as usize, region },
            headroom,
            places: vec![Place::Free; count as usize].into(),
            // Last in, first out: the chunk used last is still in the core's cache.
            free: (0..count).rev().collect(),
        })
    }

    /// Returns the address of the first chunk, for the kernel; the other chunks follow it.
    pub fn address(&self) -> usize {
        self.memory.base.as_ptr().expose_provenance()
    }

    /// Returns the kind of pages that the chunks are on.
    pub fn pages(&self) -> Pages {
        self.memory.region.pages()
    }

    /// Returns the packet.
    #[inline(always)]
    pub fn packet(&self, frame: &Frame) -> &[u8] {
        &self.memory.chunk(frame)[usize::from(frame.start)..][..usize::from(frame.len)]
    }

    /// Returns the bytes from the packet's first to the end of the chunk. Bytes after the packet
    /// are left over from earlier packets.
    #[inline(always)]
    pub fn readable(&self, frame: &Frame) -> &[u8] {
        &self.memory.chunk(frame)[usize::from(frame.start)..]
    }

    /// Returns the bytes from the packet's first to the end of the chunk, to write a packet in.
    #[inline(always)]
    pub fn buffer(&mut self, frame: &mut Frame) -> &mut [u8] {
        let start = usize::from(frame.start);
        &mut self.memory.chunk_mut(frame)[start..]
    }

    /// Prefetches the packet's first two cache lines: they hold all of a plain query.
    ///
    /// Another core (copy mode) or the NIC (zero-copy) has just written them, so the first read of
    /// each would wait for that core's cache or for memory.
    #[inline(always)]
    pub fn prefetch(&self, frame: &Frame) {
        let start = self.readable(frame).as_ptr();
        prefetch(start);
        prefetch(start.wrapping_add(CACHE_LINE));
    }

    /// Returns [`WINDOW`] bytes from the packet's first; `None` if the chunk ends before.
    #[inline(always)]
    pub fn window(&self, frame: &Frame) -> Option<&[u8; WINDOW]> {
        let start = usize::from(frame.start);
        if start > CHUNK - WINDOW {
            return None;
        }
        self.memory.chunk(frame)[start..].first_chunk()
    }

    /// Returns the window for writing, and the packet's length for setting.
    #[inline(always)]
    pub fn window_mut<'a>(
        &'a mut self,
        frame: &'a mut Frame,
    ) -> Option<(&'a mut [u8; WINDOW], WindowLen<'a>)> {
        let start = usize::from(frame.start);
        if start > CHUNK - WINDOW {
            return None;
        }
        let window = self.memory.chunk_mut(frame)[start..].first_chunk_mut()?;
        Some((window, WindowLen(&mut frame.len)))
    }

    /// Takes a free chunk to write our own packet in.
    #[inline]
    pub fn alloc(&mut self) -> Option<Frame> {
        let index = self.free.pop()?;
        self.places[index as usize] = Place::Held;
        Some(Frame { index, start: self.headroom, len: 0 })
    }

    /// Gives a frame's chunk back to the free list.
    #[inline]
    pub fn release(&mut self, frame: Frame) {
        self.places[frame.index as usize] = Place::Free;
        self.free.push(frame.index);
    }

    /// Moves a free chunk to the kernel to receive into, and returns its number.
    #[inline]
    pub fn to_fill(&mut self) -> Option<u32> {
        let index = self.free.pop()?;
        self.places[index as usize] = Place::Fill;
        Some(index)
    }

    /// Takes back a chunk that the kernel received a packet into. Returns `None` if the kernel's
    /// claim cannot be true: there is no such chunk, it was not given for receiving, or the packet
    /// leaves its chunk.
    #[inline]
    pub fn from_fill(&mut self, span: Span) -> Option<Frame> {
        let place = self.places.get_mut(span.index as usize)?;
        if *place != Place::Fill || usize::from(span.start) + usize::from(span.len) > CHUNK {
            return None;
        }
        *place = Place::Held;
        Some(Frame { index: span.index, start: span.start, len: span.len })
    }

    /// Moves a frame to the kernel to send.
    #[inline]
    pub fn to_tx(&mut self, frame: Frame) -> Span {
        self.places[frame.index as usize] = Place::Tx;
        Span { index: frame.index, start: frame.start, len: frame.len }
    }

    /// Takes back a chunk that was sent. Returns false if it had not been given for sending.
    #[inline]
    pub fn from_tx(&mut self, index: u32) -> bool {
        match self.places.get_mut(index as usize) {
            Some(place) if *place == Place::Tx => {
                *place = Place::Free;
                self.free.push(index);
                true
            }
            _ => false,
        }
    }

    /// Returns the number of chunks in `place`. Walks the ledger: for tests, start and statistics,
    /// not for every turn.
    pub fn count(&self, place: Place) -> usize {
        self.places.iter().filter(|p| **p == place).count()
    }

    /// Returns the number of free chunks.
    #[inline]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Returns the number of chunks.
    pub fn total(&self) -> usize {
        self.places.len()
    }
}

/// Packet memory. It is a pointer because the kernel writes to the chunks that it holds while we
/// use the others, so no reference may cover more than one chunk.
struct Memory {
    base: NonNull<u8>,
    chunks: usize,
    /// Keeps the chunks mapped. Its bytes are never borrowed.
    region: Region,
}

// SAFETY: the memory belongs to the region in this value, which is Send, and is reached only through this value.
unsafe impl Send for Memory {}

impl Memory {
    #[inline(always)]
    fn at(&self, index: u32) -> NonNull<u8> {
        assert!((index as usize) < self.chunks, "a frame of another port");
        // SAFETY: checked to lie within the region, which was made `chunks * CHUNK` bytes long or more.
        unsafe { self.base.add(index as usize * CHUNK) }
    }

    #[inline(always)]
    fn chunk(&self, frame: &Frame) -> &[u8; CHUNK] {
        // SAFETY: `at` is in bounds and mapped while `region` lives. The frame is the only token of its chunk, so
        // nobody writes to it while it is borrowed here.
        unsafe { self.at(frame.index).cast::<[u8; CHUNK]>().as_ref() }
    }

    #[inline(always)]
    fn chunk_mut(&mut self, frame: &mut Frame) -> &mut [u8; CHUNK] {
        // SAFETY: as in `chunk`; token and memory are both borrowed exclusively.
        unsafe { self.at(frame.index).cast::<[u8; CHUNK]>().as_mut() }
    }
}
