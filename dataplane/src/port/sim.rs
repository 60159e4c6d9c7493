//! A simulated wire: the port of tests, fuzzing and instruction counts.
//!
//! [`SimPort::pair`] makes a port and the far end of its wire. The port receives packets that the
//! far end [injects](SimLink::inject), and packets that the port sends collect
//! [there](SimLink::replies). [`Faults`] make the wire and the simulated kernel misbehave, in the
//! same way for the same seed. [`SimPort::replay`] is a port for measurements: the same packets for
//! ever, and nobody at the far end.

use super::{BURST, Burst, Port, PortStats, doze};
use crate::checksum::Checksums;
use crate::{
    doorbell::Doorbell,
    frame::{CHUNK, Frame, Frames, Span},
    packet,
};
use rustix::event::{PollFd, PollFlags};
use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    os::fd::BorrowedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Offset of packets in their chunks in bytes: `XDP_PACKET_HEADROOM`, as with AF_XDP.
const HEADROOM: u16 = 256;

/// Settings of a simulated port.
#[derive(Clone, Copy, Debug)]
pub struct SimConfig {
    /// Number of chunks of packet memory.
    pub frames: u32,
    /// Most packets that wait for the port; further ones are lost.
    pub rx_ring: usize,
    /// Most frames in transit out.
    pub tx_ring: usize,
    /// Most frames given to receive into.
    pub fill_ring: usize,
    /// Verification of checksums that the port reports.
    pub checksums: Checksums,
    /// Seed of the random faults.
    pub seed: u64,
    /// Faults from the start.
    pub faults: Faults,
}

impl Default for SimConfig {
    fn default() -> Self {
        SimConfig {
            frames: 1024,
            rx_ring: 4096,
            tx_ring: 512,
            fill_ring: 512,
            checksums: Checksums::Verify,
            seed: 0,
            faults: Faults::default(),
        }
    }
}

/// Faults of the wire and the simulated kernel. Chances are in a thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Chance that a packet is lost before it is received.
    pub lose: u16,
    /// Chance that the kernel refuses to send a frame.
    pub refuse: u16,
    /// Chance that a received packet's descriptor is invalid.
    pub bad_receive: u16,
    /// Chance that a completion names a chunk that was not sent.
    pub bad_completion: u16,
    /// Number of flushes by which completions are late.
    pub late_completion: u32,
    /// Most frames that the TX ring takes.
    pub tx_limit: Option<usize>,
    /// Most chunks that the fill ring takes.
    pub fill_limit: Option<usize>,
}

/// Port at the near end of the wire.
pub struct SimPort {
    frames: Frames,
    shared: Arc<SimShared>,
    config: SimConfig,
    /// Chunks on the fill ring.
    fill: VecDeque<u32>,
    /// Chunks in transit out, with the flush at which they come back.
    tx: VecDeque<(u32, u64)>,
    /// Frames that the TX ring had no room for.
    backlog: VecDeque<Frame>,
    flushes: u64,
    dice: Dice,
    stats: PortStats,
}

/// Far end of the wire; clones are the same end.
#[derive(Clone)]
pub struct SimLink(Arc<SimShared>);

struct SimShared {
    wire: Mutex<Wire>,
    bell: Doorbell,
}

struct Wire {
    to_port: VecDeque<Vec<u8>>,
    from_port: Vec<Vec<u8>>,
    room: usize,
    overrun: u64,
    faults: Faults,
}

impl SimShared {
    fn wire(&self) -> MutexGuard<'_, Wire> {
        // A test that panicked while it held the wire has failed already; other tests may continue.
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimLink {
    /// Puts a packet on the wire. Returns false if the port's RX ring is full and the packet was
    /// lost.
    pub fn inject(&self, packet: &[u8]) -> bool {
        let mut wire = self.0.wire();
        if wire.to_port.len() >= wire.room {
            wire.overrun += 1;
            return false;
        }
        wire.to_port.push_back(packet.to_vec());
        drop(wire);
        self.0.bell.ring();
        true
    }

    /// Puts a UDP datagram on the wire, with headers as they would arrive. Returns false if it was
    /// lost, or if the addresses are of different families.
    pub fn inject_datagram(&self, client: SocketAddr, server: SocketAddr, message: &[u8]) -> bool {
        let at = if client.is_ipv4() { 14 + 20 + 8 } else { 14 + 40 + 8 };
        let mut frame = vec![0; at + message.len()];
        frame[at..].copy_from_slice(message);
        packet::address(&mut frame, client, server, message.len(), Checksums::Verify).is_some()
            && self.inject(&frame)
    }

    /// Takes the packets that the port has sent, in order.
    pub fn replies(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.0.wire().from_port)
    }

    /// Returns the number of packets that the port has not received yet.
    pub fn waiting(&self) -> usize {
        self.0.wire().to_port.len()
    }

    /// Changes the faults, from the port's next turn on.
    pub fn set_faults(&self, faults: Faults) {
        self.0.wire().faults = faults;
    }
}

impl SimPort {
    /// Creates a port and the far end of its wire.
    pub fn pair(config: &SimConfig) -> io::Result<(SimPort, SimLink)> {
        let wire = Wire {
            to_port: VecDeque::new(),
            from_port: Vec::new(),
            room: config.rx_ring,
            overrun: 0,
            faults: config.faults,
        };
        let shared = Arc::new(SimShared { wire: Mutex::new(wire), bell: Doorbell::new()? });
        let mut port = SimPort {
            frames: Frames::new(config.frames, HEADROOM)?,
            shared: shared.clone(),
            config: *config,
            fill: VecDeque::with_capacity(config.fill_ring),
            tx: VecDeque::with_capacity(config.tx_ring),
            backlog: VecDeque::with_capacity(config.frames as usize),
            flushes: 0,
            dice: Dice(config.seed),
            stats: PortStats::default(),
        };
        port.refill(&config.faults);
        Ok((port, SimLink(shared)))
    }

    /// Creates a port that receives `packets` over and over, a full burst per turn, and discards
    /// the packets that it sends.
    pub fn replay(packets: &[Vec<u8>]) -> io::Result<Replay> {
        let longest = packets.iter().map(Vec::len).max().unwrap_or(0);
        if longest == 0 || longest > CHUNK {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("nothing to replay, or longer than a frame: {longest} bytes, at most {CHUNK}"),
            ));
        }
        Ok(Replay {
            // Two bursts: one in progress, one for answers that the worker writes itself.
            frames: Frames::new(2 * BURST as u32, 0)?,
            packets: packets.iter().map(|packet| packet.as_slice().into()).collect(),
            next: 0,
            stats: PortStats::default(),
        })
    }

    /// Writes a packet into the next chunk of the fill ring and describes it, correctly or not.
    fn receive(&mut self, packet: &[u8], faults: &Faults) -> Option<Frame> {
        if packet.len() > CHUNK - usize::from(HEADROOM) || self.dice.falls(faults.lose) {
            self.stats.rx_dropped += 1;
            return None;
        }
        let Some(index) = self.fill.pop_front() else {
            self.stats.rx_fill_ring_empty += 1;
            return None;
        };
        let mut span = Span { index, start: HEADROOM, len: packet.len() as u16 };
        if self.dice.falls(faults.bad_receive) {
            span = match self.dice.roll() % 3 {
                0 => Span { index: self.frames.total() as u32 + index, ..span },
                1 => Span { len: CHUNK as u16, ..span },
                // A chunk that the kernel does not have to receive into: one in transit out, if
                // there is any.
                _ => Span { index: self.tx.front().map_or(u32::MAX, |sent| sent.0), ..span },
            };
        }
        let Some(mut frame) = self.frames.from_fill(span) else {
            self.stats.bad_descriptors += 1;
            return None;
        };
        self.frames.buffer(&mut frame)[..packet.len()].copy_from_slice(packet);
        Some(frame)
    }

    fn reclaim(&mut self, faults: &Faults) {
        while let Some((index, due)) = self.tx.front().copied()
            && due <= self.flushes
        {
            self.tx.pop_front();
            let named = if self.dice.falls(faults.bad_completion) {
                self.fill.front().copied().unwrap_or(u32::MAX)
            } else {
                index
            };
            if !self.frames.from_tx(named) {
                self.stats.bad_descriptors += 1;
            }
        }
    }

    fn transmit(&mut self, faults: &Faults) {
        let room = self.config.tx_ring.min(faults.tx_limit.unwrap_or(usize::MAX));
        while self.tx.len() < room
            && let Some(frame) = self.backlog.pop_front()
        {
            if self.dice.falls(faults.refuse) {
                self.stats.send_failed += 1;
                self.frames.release(frame);
                continue;
            }
            let packet = self.frames.packet(&frame).to_vec();
            self.shared.wire().from_port.push(packet);
            self.stats.sent += 1;
            let span = self.frames.to_tx(frame);
            // A frame sent with this flush comes back with the next flush at the earliest.
            self.tx.push_back((span.index, self.flushes + 1 + u64::from(faults.late_completion)));
        }
        self.stats.tx_ring_full += u64::from(!self.backlog.is_empty());
    }

    fn refill(&mut self, faults: &Faults) {
        let room = self.config.fill_ring.min(faults.fill_limit.unwrap_or(usize::MAX));
        while self.fill.len() < room {
            let Some(index) = self.frames.to_fill() else {
                self.stats.fill_starved += 1;
                return;
            };
            self.fill.push_back(index);
        }
    }
}

impl Port for SimPort {
    fn frames(&mut self) -> &mut Frames {
        &mut self.frames
    }

    fn recv(&mut self, burst: &mut Burst) {
        let shared = self.shared.clone();
        let mut wire = shared.wire();
        let faults = wire.faults;
        while !burst.is_full()
            && let Some(packet) = wire.to_port.pop_front()
        {
            if let Some(frame) = self.receive(&packet, &faults) {
                burst.push(frame);
            }
        }
    }

    fn send(&mut self, frame: Frame) {
        self.backlog.push_back(frame);
    }

    fn flush(&mut self) {
        let faults = self.shared.wire().faults;
        self.flushes += 1;
        self.reclaim(&faults);
        self.transmit(&faults);
        self.refill(&faults);
    }

    fn wait(&mut self, bell: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
        let shared = self.shared.clone();
        shared.bell.arm();
        let asleep = shared.wire().to_port.is_empty() && self.backlog.is_empty();
        let slept = if asleep {
            let mut fds = [
                PollFd::from_borrowed_fd(shared.bell.fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(bell, PollFlags::IN),
            ];
            doze(&mut fds, timeout)
        } else {
            Ok(())
        };
        shared.bell.disarm();
        slept
    }

    fn checksums(&self) -> Checksums {
        self.config.checksums
    }

    fn stats(&mut self) -> PortStats {
        PortStats { rx_ring_full: self.shared.wire().overrun, ..self.stats }
    }
}

/// Port that receives the same packets for ever: see [`SimPort::replay`].
///
/// A packet costs one short copy, because its answer is written over it. That copy and two moves of
/// a frame are all that this port adds to a count of instructions.
pub struct Replay {
    frames: Frames,
    packets: Box<[Box<[u8]>]>,
    next: usize,
    stats: PortStats,
}

impl Port for Replay {
    #[inline]
    fn frames(&mut self) -> &mut Frames {
        &mut self.frames
    }

    #[inline]
    fn recv(&mut self, burst: &mut Burst) {
        while !burst.is_full()
            && let Some(mut frame) = self.frames.alloc()
        {
            let packet = &self.packets[self.next];
            self.next += 1;
            if self.next == self.packets.len() {
                self.next = 0;
            }
            self.frames.buffer(&mut frame)[..packet.len()].copy_from_slice(packet);
            frame.set_len(packet.len());
            burst.push(frame);
        }
    }

    #[inline]
    fn send(&mut self, frame: Frame) {
        self.stats.sent += 1;
        self.frames.release(frame);
    }

    #[inline]
    fn flush(&mut self) {}

    fn wait(&mut self, _: BorrowedFd<'_>, _: Duration) -> io::Result<()> {
        Ok(())
    }

    fn checksums(&self) -> Checksums {
        Checksums::Verify
    }

    fn stats(&mut self) -> PortStats {
        self.stats
    }
}

/// Random numbers that are the same for the same seed: splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn falls(&mut self, chance: u16) -> bool {
        chance > 0 && self.roll() % 1000 < u64::from(chance)
    }
}

#[cfg(test)]
mod tests;
