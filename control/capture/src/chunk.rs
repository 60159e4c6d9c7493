//! Chunks of a file on the way to its reader.

use crate::CaptureCounters;
use std::{mem, sync::Arc};

/// Blocks of a file. Their packets are counted as written when the reader takes the chunk, and as
/// unread if it is dropped before.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Whole blocks.
    pub blocks: Vec<u8>,
    /// Number of packets in the blocks.
    pub packets: u64,
    counters: Arc<CaptureCounters>,
}

impl Chunk {
    /// Creates a chunk without blocks.
    pub fn new(counters: Arc<CaptureCounters>) -> Self {
        Chunk { blocks: Vec::new(), packets: 0, counters }
    }

    /// Returns a chunk of the blocks so far, and leaves this one without.
    pub fn split(&mut self) -> Self {
        let (blocks, packets) = (mem::take(&mut self.blocks), mem::take(&mut self.packets));
        Chunk { blocks, packets, counters: self.counters.clone() }
    }

    /// Reader: takes the blocks.
    pub fn take(mut self) -> Vec<u8> {
        let packets = mem::take(&mut self.packets);
        self.counters.offered.add(packets);
        self.counters.written.add(packets);
        mem::take(&mut self.blocks)
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.counters.offered.add(self.packets);
        self.counters.unread.add(self.packets);
    }
}
