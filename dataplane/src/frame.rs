//! Frames: fixed-size chunks of packet memory, each in exactly one place.
//!
//! A [`Frame`] is the ownership token of a chunk whose place is [`Place::Held`]: it cannot be
//! copied, and only [`Frames`] makes or takes one. While a chunk is free, on the fill ring or in
//! transit out, no token for it exists, so no safe code can read or write it. An index from the
//! kernel is accepted only if the chunk was in the place that the kernel took it from.
//!
//! Tokens are numbered for the whole process ([`numbers`]), so a token of another port is out of
//! range here. The check of the range, which each access needs anyway, is the check of the port.

mod numbers;

use crate::{
    region::{Pages, Region},
    simd::prefetch,
};
use numbers::Numbers;
use std::ptr::NonNull;

/// Size of a chunk in bytes. One page holds two; a DNS message that ringdns sends over UDP fits
/// with all headers.
pub const CHUNK: usize = 2048;

/// Number of bytes of a chunk that the fast path accesses, from the packet's first byte: more than
/// a link with an MTU of 1500 bytes carries. Since its size is fixed, it costs one bounds check,
/// and accesses within it cost none.
pub const WINDOW: usize = 1536;

/// Largest offset of a packet in its chunk, so that each packet has its window: twice
/// `XDP_PACKET_HEADROOM`, which is where the kernel puts packets.
const START_MAX: u16 = (CHUNK - WINDOW) as u16;

/// Size of a cache line in bytes.
const CACHE_LINE: usize = 64;

/// Owned chunk with a packet in it: `start..start + len` within the chunk.
///
/// It must end in [`Frames::release`] or in a port's `send`. The only other way to get rid of it is
/// to leak it, which [`Frames::count`] shows.
#[derive(Debug)]
#[must_use = "a frame that is dropped is lost to its port"]
pub struct Frame {
    /// Number of the chunk in the process: see [`numbers`].
    number: u32,
    /// Offset of the packet in its chunk, at most [`START_MAX`].
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

    /// Moves the packet's start forward. Returns false, and moves nothing, if the packet is shorter, or its
    /// window would leave the chunk.
    #[inline(always)]
    pub fn skip(&mut self, bytes: usize) -> bool {
        let fits =
            bytes <= usize::from(self.len) && usize::from(self.start) + bytes <= usize::from(START_MAX);
        if fits {
            self.start += bytes as u16;
            self.len -= bytes as u16;
        }
        fits
    }

    /// Moves the packet's start back, at most to the chunk's first byte.
    #[inline(always)]
    pub fn unskip(&mut self, bytes: usize) {
        let bytes = bytes.min(usize::from(self.start)) as u16;
        self.start -= bytes;
        self.len += bytes;
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
    /// Index of the chunk in its port.
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
    /// Creates `count` chunks, all free. New packets start `headroom` bytes into a chunk, at most
    /// 512.
    pub fn new(count: u32, headroom: u16) -> std::io::Result<Self> {
        if headroom > START_MAX {
            let message = format!("packets cannot start {headroom} bytes into a chunk, but {START_MAX}");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, message));
        }
        let region = Region::new(count as usize * CHUNK)?;
        let numbers = Numbers::take(count)?;
        Ok(Frames {
            memory: Memory { base: region.base(), numbers, region },
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
        // Unchecked: a prefetch of any address is harmless.
        let index = self.memory.numbers.unchecked_index(frame.number) as usize;
        let start = self.memory.base.as_ptr().wrapping_add(index * CHUNK + usize::from(frame.start));
        prefetch(start);
        prefetch(start.wrapping_add(CACHE_LINE));
    }

    /// Returns [`WINDOW`] bytes from the packet's first.
    #[inline(always)]
    pub fn window(&self, frame: &Frame) -> &[u8; WINDOW] {
        self.memory.window(frame)
    }

    /// Returns the window for writing, and the packet's length for setting.
    #[inline(always)]
    pub fn window_mut<'a>(&'a mut self, frame: &'a mut Frame) -> (&'a mut [u8; WINDOW], WindowLen<'a>) {
        (self.memory.window_mut(frame), WindowLen(&mut frame.len))
    }

    /// Takes a free chunk to write our own packet in.
    #[inline]
    pub fn alloc(&mut self) -> Option<Frame> {
        let index = self.free.pop()?;
        self.places[index as usize] = Place::Held;
        Some(Frame { number: self.memory.numbers.of(index), start: self.headroom, len: 0 })
    }

    /// Gives a frame's chunk back to the free list.
    #[inline]
    pub fn release(&mut self, frame: Frame) {
        let index = self.memory.numbers.index(frame.number);
        self.places[index as usize] = Place::Free;
        self.free.push(index);
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
    /// or its window leaves the chunk.
    #[inline]
    pub fn from_fill(&mut self, span: Span) -> Option<Frame> {
        let place = self.places.get_mut(span.index as usize)?;
        let fits = span.start <= START_MAX && usize::from(span.start) + usize::from(span.len) <= CHUNK;
        if *place != Place::Fill || !fits {
            return None;
        }
        *place = Place::Held;
        Some(Frame { number: self.memory.numbers.of(span.index), start: span.start, len: span.len })
    }

    /// Moves a frame to the kernel to send.
    #[inline]
    pub fn to_tx(&mut self, frame: Frame) -> Span {
        let index = self.memory.numbers.index(frame.number);
        self.places[index as usize] = Place::Tx;
        Span { index, start: frame.start, len: frame.len }
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

impl Drop for Frames {
    fn drop(&mut self) {
        // With no frame left, nothing bears one of these numbers any more.
        if self.count(Place::Held) == 0 {
            self.memory.numbers.give_back();
        }
    }
}

/// Packet memory. It is a pointer because the kernel writes to the chunks that it holds while we
/// use the others, so no reference may cover more than one chunk.
struct Memory {
    base: NonNull<u8>,
    /// Numbers of the chunks, as many as there are.
    numbers: Numbers,
    /// Keeps the chunks mapped. Its bytes are never borrowed.
    region: Region,
}

// SAFETY: the memory belongs to the region in this value, which is Send, and is reached only through this value.
unsafe impl Send for Memory {}

impl Memory {
    #[inline(always)]
    fn at(&self, frame: &Frame) -> NonNull<u8> {
        let index = self.numbers.index(frame.number) as usize;
        // SAFETY: `index` is less than the number of chunks, and the region was made that many times `CHUNK` bytes
        // long or more.
        unsafe { self.base.add(index * CHUNK) }
    }

    #[inline(always)]
    fn chunk(&self, frame: &Frame) -> &[u8; CHUNK] {
        // SAFETY: `at` is in bounds and mapped while `region` lives. The frame is the only token of its chunk, so
        // nobody writes to it while it is borrowed here.
        unsafe { self.at(frame).cast::<[u8; CHUNK]>().as_ref() }
    }

    #[inline(always)]
    fn chunk_mut(&mut self, frame: &mut Frame) -> &mut [u8; CHUNK] {
        // SAFETY: as in `chunk`; token and memory are both borrowed exclusively.
        unsafe { self.at(frame).cast::<[u8; CHUNK]>().as_mut() }
    }

    /// Returns the packet's first byte, which `WINDOW` bytes of its chunk begin with.
    #[inline(always)]
    fn start(&self, frame: &Frame) -> NonNull<u8> {
        // SAFETY: a frame's packet starts at most `CHUNK - WINDOW` bytes into its chunk.
        unsafe { self.at(frame).add(usize::from(frame.start)) }
    }

    #[inline(always)]
    fn window(&self, frame: &Frame) -> &[u8; WINDOW] {
        // SAFETY: as in `chunk`, for the part of it that `start` begins.
        unsafe { self.start(frame).cast::<[u8; WINDOW]>().as_ref() }
    }

    #[inline(always)]
    fn window_mut(&mut self, frame: &mut Frame) -> &mut [u8; WINDOW] {
        // SAFETY: as in `window`; token and memory are both borrowed exclusively.
        unsafe { self.start(frame).cast::<[u8; WINDOW]>().as_mut() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns two ports' memory, and a frame of the first with a packet in it.
    fn two_ports() -> (Frames, Frames, Frame) {
        let mut one = Frames::new(4, 0).unwrap();
        let other = Frames::new(4, 0).unwrap();
        let mut frame = one.alloc().unwrap();
        frame.set_len(64);
        (one, other, frame)
    }

    #[test]
    #[should_panic(expected = "a frame of another port")]
    fn another_port_does_not_read_the_packet() {
        let (_one, other, frame) = two_ports();
        let _ = other.packet(&frame);
    }

    #[test]
    #[should_panic(expected = "a frame of another port")]
    fn another_port_does_not_write_the_packet() {
        let (_one, mut other, mut frame) = two_ports();
        let _ = other.window_mut(&mut frame);
    }

    #[test]
    #[should_panic(expected = "a frame of another port")]
    fn another_port_does_not_free_the_chunk() {
        let (_one, mut other, frame) = two_ports();
        other.release(frame);
    }

    #[test]
    #[should_panic(expected = "a frame of another port")]
    fn another_port_does_not_send_the_chunk() {
        let (_one, mut other, frame) = two_ports();
        let _ = other.to_tx(frame);
    }

    #[test]
    #[should_panic(expected = "a frame of another port")]
    fn a_frame_that_outlived_its_port_is_no_frame_of_the_next() {
        let (one, other, frame) = two_ports();
        drop((one, other));
        let _ = Frames::new(4, 0).map(|next| next.packet(&frame).len());
    }

    #[test]
    fn each_packet_has_its_window() {
        assert!(Frames::new(1, START_MAX + 1).is_err());
        let mut frames = Frames::new(1, START_MAX).unwrap();
        let index = frames.to_fill().unwrap();
        for (start, len, fits) in
            [(START_MAX + 1, 0, false), (START_MAX, WINDOW + 1, false), (START_MAX, WINDOW, true)]
        {
            let frame = frames.from_fill(Span { index, start, len: len as u16 });
            assert_eq!(frame.is_some(), fits, "{start}, {len}");
            let Some(mut frame) = frame else { continue };
            frames.window_mut(&mut frame).0[WINDOW - 1] = 7;
            assert_eq!(frames.packet(&frame).last(), Some(&7));
            frames.release(frame);
        }
    }

    #[test]
    fn a_port_without_frames_gives_its_numbers_back() {
        // No other test has ports of this size.
        const CHUNKS: u32 = 13;
        let number_of_one = || {
            let mut frames = Frames::new(CHUNKS, 0).unwrap();
            let frame = frames.alloc().unwrap();
            let number = frame.number;
            frames.release(frame);
            number
        };
        assert_eq!(number_of_one(), number_of_one());
    }
}
