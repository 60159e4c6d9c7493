//! Frames: fixed-size chunks of packet memory, each in exactly one place.
//!
//! A [`Frame`] is the ownership token of a chunk whose place is [`Place::Held`]: it cannot be copied, and only
//! [`Frames`] makes or takes one. While a chunk is free, on the fill ring or on its way out, no token for it
//! exists, so no safe code can read or write it. Indices that come back from the kernel are believed only if
//! the chunk was in the place that the kernel took it from.

use crate::{
    region::{Pages, Region},
    simd::prefetch,
};
use std::ptr::NonNull;

/// Bytes of a chunk. One page holds two; a DNS message that ringdns sends over UDP fits with all headers.
pub const CHUNK: usize = 2048;

/// How much of a chunk the fast path looks at, from the packet's first byte: more than a link of 1500 bytes carries.
/// Being of one size it costs one comparison, and what is read and written within it none.
pub const WINDOW: usize = 1536;

/// Bytes of a cache line.
const CACHE_LINE: usize = 64;

/// An owned chunk with a packet in it: `start..start + len` within the chunk.
///
/// It must end in [`Frames::release`] or in a port's `send`; there is no other way to be rid of it than to leak it,
/// which [`Frames::count`] shows.
#[derive(Debug)]
#[must_use = "a frame that is dropped is lost to its port"]
pub struct Frame {
    index: u32,
    start: u16,
    len: u16,
}

impl Frame {
    /// Length of the packet in bytes.
    #[inline(always)]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether there is no packet in the chunk.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets the packet's length; its start stays. Cut to what the chunk holds.
    #[inline(always)]
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(CHUNK - usize::from(self.start)) as u16;
    }
}

/// The length of a packet within its [window](Frames::window_mut).
pub struct WindowLen<'a>(&'a mut u16);

impl WindowLen<'_> {
    /// Sets it; cut to what the window holds.
    #[inline(always)]
    pub fn set(self, len: usize) {
        *self.0 = len.min(WINDOW) as u16;
    }
}

/// Where a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Place {
    /// On the free list.
    Free,
    /// With the kernel, to be received into.
    Fill,
    /// With the worker: a [`Frame`] exists.
    Held,
    /// With the kernel, to be sent.
    Tx,
}

/// A packet's position as rings describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Number of the chunk.
    pub index: u32,
    /// First byte of the packet within the chunk.
    pub start: u16,
    /// Length of the packet.
    pub len: u16,
}

/// The packet memory of a port and the ledger of its chunks.
pub struct Frames {
    memory: Memory,
    headroom: u16,
    places: Box<[Place]>,
    free: Vec<u32>,
}

impl Frames {
    /// `count` chunks, all free. New packets start `headroom` bytes into a chunk.
    pub fn new(count: u32, headroom: u16) -> std::io::Result<Self> {
        let region = Region::new(count as usize * CHUNK)?;
        Ok(Frames {
            memory: Memory { base: region.base(), chunks: count as usize, region },
            headroom,
            places: vec![Place::Free; count as usize].into(),
            // Last in, first out: the chunk that was used last is the one still in the core's cache.
            free: (0..count).rev().collect(),
        })
    }

    /// Address of the first chunk, for the kernel; the others follow it.
    pub fn address(&self) -> usize {
        self.memory.base.as_ptr().expose_provenance()
    }

    /// Returns the kind of pages that the chunks stand on.
    pub fn pages(&self) -> Pages {
        self.memory.region.pages()
    }

    /// The packet.
    #[inline(always)]
    pub fn packet(&self, frame: &Frame) -> &[u8] {
        &self.memory.chunk(frame)[usize::from(frame.start)..][..usize::from(frame.len)]
    }

    /// From the packet's first byte to the end of the chunk. What follows the packet is whatever was there before.
    #[inline(always)]
    pub fn readable(&self, frame: &Frame) -> &[u8] {
        &self.memory.chunk(frame)[usize::from(frame.start)..]
    }

    /// From the packet's first byte to the end of the chunk, to write a packet in.
    #[inline(always)]
    pub fn buffer(&mut self, frame: &mut Frame) -> &mut [u8] {
        let start = usize::from(frame.start);
        &mut self.memory.chunk_mut(frame)[start..]
    }

    /// Fetches the packet's first two cache lines ahead of their use: all of a plain query.
    ///
    /// Another core (copy mode) or the NIC (zero-copy) has just written them, so that the first read of each would
    /// wait for that core's cache or for memory.
    #[inline(always)]
    pub fn prefetch(&self, frame: &Frame) {
        let start = self.readable(frame).as_ptr();
        prefetch(start);
        prefetch(start.wrapping_add(CACHE_LINE));
    }

    /// The first [`WINDOW`] bytes from the packet's first; `None` where the chunk ends before.
    #[inline(always)]
    pub fn window(&self, frame: &Frame) -> Option<&[u8; WINDOW]> {
        let start = usize::from(frame.start);
        if start > CHUNK - WINDOW {
            return None;
        }
        self.memory.chunk(frame)[start..].first_chunk()
    }

    /// The same to write, and the packet's length to set.
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

    /// Takes a free chunk to write an own packet in.
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

    /// Moves a free chunk to the kernel to be received into, and returns its number.
    #[inline]
    pub fn to_fill(&mut self) -> Option<u32> {
        let index = self.free.pop()?;
        self.places[index as usize] = Place::Fill;
        Some(index)
    }

    /// Takes back a chunk that the kernel received a packet into; `None` if the kernel's word cannot be true:
    /// no such chunk, not given to it for receiving, or a packet that leaves its chunk.
    #[inline]
    pub fn from_fill(&mut self, span: Span) -> Option<Frame> {
        let place = self.places.get_mut(span.index as usize)?;
        if *place != Place::Fill || usize::from(span.start) + usize::from(span.len) > CHUNK {
            return None;
        }
        *place = Place::Held;
        Some(Frame { index: span.index, start: span.start, len: span.len })
    }

    /// Hands a frame to the kernel to be sent.
    #[inline]
    pub fn to_tx(&mut self, frame: Frame) -> Span {
        self.places[frame.index as usize] = Place::Tx;
        Span { index: frame.index, start: frame.start, len: frame.len }
    }

    /// Takes back a chunk that was sent; false if it had not been given for sending.
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

    /// How many chunks are in `place`. Walks the ledger: for tests, start and statistics, not for a turn.
    pub fn count(&self, place: Place) -> usize {
        self.places.iter().filter(|p| **p == place).count()
    }

    /// How many chunks are free.
    #[inline]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// How many chunks there are.
    pub fn total(&self) -> usize {
        self.places.len()
    }
}

/// Packet memory: a pointer, because the kernel writes to the chunks that it holds while we use the others, so
/// that no reference may ever cover more than one chunk.
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
