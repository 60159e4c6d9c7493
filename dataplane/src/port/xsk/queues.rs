//! The four rings of a socket, and the ledger of the chunks on them. This file makes no system
//! call.
//!
//! Fill (chunks to receive into), RX (received), TX (to send) and completion (sent) each have one
//! side here and one in the kernel. [`Frames`] keeps the ledger. A chunk that the kernel returns
//! becomes a frame only if the ledger agrees.

use super::{
    backlog::Backlog,
    ring::{Consumer, Desc, Producer, RingMemory},
};
use crate::{
    frame::{CHUNK, Frame, Frames, Span},
    port::{BURST, Burst, PortStats},
};

/// Memory of each ring.
pub(super) struct Memories<M> {
    pub(super) rx: M,
    pub(super) tx: M,
    pub(super) fill: M,
    pub(super) completion: M,
}

/// Rings of a socket with its own packet memory, and the state of their chunks.
pub(super) struct Queues<M> {
    pub(super) frames: Frames,
    pub(super) stats: PortStats,
    rx: Consumer<M, Desc>,
    tx: Producer<M, Desc>,
    fill: Producer<M, u64>,
    completion: Consumer<M, u64>,
    /// Frames that the TX ring had no room for.
    backlog: Backlog<Span>,
    /// Most chunks given to the kernel to receive into: as many as the fill ring holds.
    fill_target: u32,
    /// Number of chunks given to the kernel to receive into and not returned yet.
    filled: u32,
    /// Number of chunks given to the kernel to send and not returned yet.
    in_flight: u32,
    /// Whether the last burst took all received packets.
    drained: bool,
    /// Whether free chunks wait for room on the fill ring.
    fill_waits: bool,
}

impl<M: RingMemory> Queues<M> {
    /// Creates the queues on empty rings, before the kernel has any of `frames`.
    pub(super) fn new(frames: Frames, memories: Memories<M>) -> Self {
        Queues {
            backlog: Backlog::new(frames.total()),
            frames,
            stats: PortStats::default(),
            fill_target: memories.fill.size(),
            rx: Consumer::new(memories.rx),
            tx: Producer::new(memories.tx),
            fill: Producer::new(memories.fill),
            completion: Consumer::new(memories.completion),
            filled: 0,
            in_flight: 0,
            drained: true,
            fill_waits: false,
        }
    }

    /// Takes received packets, as many as `burst` has room for.
    #[inline]
    pub(super) fn recv(&mut self, burst: &mut Burst) {
        let room = burst.remaining_capacity() as u32;
        let count = self.rx.consume(room, |desc| match self.frames.from_fill(span(desc)) {
            Some(frame) => {
                self.frames.prefetch(&frame);
                burst.push(frame);
            }
            None => self.stats.bad_descriptors += 1,
        });
        self.filled = self.filled.saturating_sub(count);
        self.drained = count < room;
    }

    /// Queues a frame to be sent by [`transmit`](Self::transmit).
    #[inline]
    pub(super) fn send(&mut self, frame: Frame) {
        self.backlog.push(self.frames.to_tx(frame));
    }

    /// Takes back sent chunks. In copy mode all are sent by now. In zero-copy mode the NIC may have
    /// yet to send some, which a later flush takes back.
    #[inline]
    pub(super) fn reclaim(&mut self) {
        while self.in_flight > 0 {
            let count = self.completion.consume(BURST as u32, |addr| {
                let known = u32::try_from(addr / CHUNK as u64).is_ok_and(|index| self.frames.from_tx(index));
                self.stats.bad_descriptors += u64::from(!known);
            });
            self.in_flight = self.in_flight.saturating_sub(count);
            if count < BURST as u32 {
                return;
            }
        }
    }

    /// Moves frames from the backlog to the TX ring, in order, while there is room.
    #[inline]
    pub(super) fn transmit(&mut self) {
        let waiting = self.backlog.waiting();
        if waiting.is_empty() {
            return;
        }
        let count = self.tx.produce(waiting.len() as u32, waiting.iter().map(|at| descriptor(*at)));
        self.in_flight += count;
        self.stats.sent += u64::from(count);
        self.backlog.advance(count as usize);
        self.stats.tx_ring_full += u64::from(!self.backlog.waiting().is_empty());
    }

    /// Gives the kernel free chunks to receive into, until it has as many as the fill ring holds.
    ///
    /// Limiting the number that the kernel has, rather than filling all room on the ring, keeps the
    /// packet memory in use small if the driver takes chunks off the ring in advance. The ring has
    /// room for a chunk only after the chunk comes back: the kernel publishes a received packet
    /// before it publishes that it took the chunk off the fill ring (Linux 6.18 `net/xdp/xsk.c`,
    /// `xsk_flush`). So a chunk leaves the free list only once there is room.
    #[inline]
    pub(super) fn refill(&mut self) {
        let wanted = self.fill_target.saturating_sub(self.filled);
        if wanted == 0 {
            return;
        }
        let free = self.frames.free() as u32;
        let possible = wanted.min(free);
        let chunks = std::iter::from_fn(|| self.frames.to_fill());
        let count = self.fill.produce(possible, chunks.map(|index| u64::from(index) * CHUNK as u64));
        self.filled += count;
        self.stats.fill_starved += u64::from(free < wanted);
        self.fill_waits = count < possible;
    }

    /// Returns the number of frames on the TX ring that the kernel has not taken.
    #[inline]
    pub(super) fn unsent(&self) -> u32 {
        self.tx.unread()
    }

    /// Returns the number of chunks given to the kernel to send and not returned yet.
    #[inline]
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Whether frames or chunks wait for room on a ring that no event will announce.
    #[inline]
    pub(super) fn stuck(&self) -> bool {
        let sending = self.in_flight > 0 && (self.unsent() > 0 || !self.backlog.waiting().is_empty());
        sending || self.fill_waits
    }

    /// Whether the last burst took all received packets.
    #[inline]
    pub(super) fn drained(&self) -> bool {
        self.drained
    }

    /// Whether the kernel needs a kick to send.
    #[inline]
    pub(super) fn tx_needs_wakeup(&self) -> bool {
        self.tx.needs_wakeup()
    }

    /// Whether the driver needs a wake-up to continue receiving.
    #[inline]
    pub(super) fn rx_needs_wakeup(&self) -> bool {
        self.fill.needs_wakeup()
    }
}

/// Returns the descriptor of a packet that is about to be sent.
#[inline]
fn descriptor(at: Span) -> Desc {
    let addr = u64::from(at.index) * CHUNK as u64 + u64::from(at.start);
    Desc { addr, len: at.len.into(), options: 0 }
}

/// Returns the position in a descriptor. Values that do not fit a [`Span`] become ones that no
/// ledger accepts.
#[inline]
fn span(desc: Desc) -> Span {
    Span {
        index: u32::try_from(desc.addr / CHUNK as u64).unwrap_or(u32::MAX),
        start: (desc.addr % CHUNK as u64) as u16,
        len: u16::try_from(desc.len).unwrap_or(u16::MAX),
    }
}

#[cfg(test)]
mod tests;
