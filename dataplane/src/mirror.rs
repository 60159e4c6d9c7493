//! Mirror of exchanges: copies of sampled packets, with the outcome of each, in pages that the worker
//! lends.
//!
//! A worker owns a fixed number of [`Page`]s for a mirror. It copies a query's packet before it is
//! turned into its reply in place, the reply's packet before it is sent, and what happened in
//! between. A page moves to the control plane when it is full or 100 ms old, and comes back empty.
//! If all pages are with the control plane, packets are lost to the mirror and counted; no answer
//! waits. A worker without a mirror pays for one branch per burst in each place.
//!
//! A mirror has one reader, which also says which packets it wants. A worker may have two: that of
//! dnstap, and that of a [capture](crate::capture). Neither takes pages of the other. The number of an
//! exchange joins a query and its reply.

use crate::{
    clock::Nanos,
    log::{AnswerSource, Outcome, Protocol, Sieve},
    packet::Envelope,
    stats::DropReason,
};
use crossbeam_queue::ArrayQueue;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Most packets of a page.
const PACKETS: usize = 3072;
/// Room for the packets of a page in bytes.
const ROOM: usize = 448 << 10;
/// Room in bytes without which a page is handed on after a turn: a burst of queries, each with the
/// longest usual reply, and as many replies that had to wait.
const RESERVE: usize = 192 << 10;
/// Most packets of one turn: a burst, its replies, and those that had to wait.
const TURN: usize = 2 * crate::port::BURST + crate::port::RETURNS_MAX;

/// Fate of a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It was punted to the control plane; its answer may follow.
    #[default]
    Punted,
    /// It was answered.
    Answered(Outcome, AnswerSource),
    /// It was dropped.
    Dropped(DropReason),
}

/// Numbers of an exchange in the mirrors of a worker; `None`: its query is not mirrored.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Exchanges {
    /// Number in the mirror of dnstap.
    pub dnstap: Option<u64>,
    /// Number in the mirror of a capture.
    pub capture: Option<u64>,
}

impl Exchanges {
    /// Number of mirrors that a worker may have.
    pub const LEN: usize = 2;
}

/// Direction of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Packet from a client.
    #[default]
    Query,
    /// Packet to a client.
    Reply,
}

/// Record of a packet, without its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PacketRecord {
    /// Start of the turn that received the query.
    pub received: Nanos,
    /// Time after the kick of the turn in which the packet was copied.
    pub settled: Nanos,
    /// Number of the exchange.
    pub exchange: u64,
    /// Fate of the query.
    pub fate: Fate,
    /// Position of the message in the packet; the default if the packet has none.
    pub envelope: Envelope,
    /// Direction of the packet.
    pub direction: Direction,
}

/// Packet as it was mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirrored<'a> {
    /// Start of the turn that received the query.
    pub received: Nanos,
    /// Time at which the worker was done with the packet: for a reply, that of the kick that sent it.
    pub settled: Nanos,
    /// Number of the exchange among those of the worker: the same for a query and its reply.
    pub exchange: u64,
    /// Fate of the query.
    pub fate: Fate,
    /// Direction of the packet.
    pub direction: Direction,
    /// Transport of the query.
    pub protocol: Protocol,
    /// Position of the message in the packet; the default if the packet has none.
    pub envelope: Envelope,
    /// Packet with its link header. Over kernel sockets the headers are made up; addresses and ports
    /// are right.
    pub packet: &'a [u8],
}

/// Packets in the order in which they were copied.
#[derive(Debug)]
pub struct Page {
    /// Transport of the packets.
    pub(crate) protocol: Protocol,
    /// Records, and the end of each one's packet.
    records: Vec<(PacketRecord, usize)>,
    bytes: Vec<u8>,
}

impl Page {
    /// Size of a page in bytes.
    pub const BYTES: usize = ROOM + PACKETS * size_of::<(PacketRecord, usize)>();

    /// Creates an empty page.
    fn new() -> Box<Self> {
        let (records, bytes) = (Vec::with_capacity(PACKETS), Vec::with_capacity(ROOM));
        Box::new(Page { protocol: Protocol::Udp, records, bytes })
    }

    /// Adds a packet, and returns the number of its record; `None` if the page is full. Both vectors
    /// have their room from the start, so nothing is allocated.
    #[inline]
    pub(crate) fn add(&mut self, record: PacketRecord, packet: &[u8]) -> Option<usize> {
        let nth = self.records.len();
        if nth >= PACKETS || self.bytes.len() + packet.len() > ROOM {
            return None;
        }
        self.bytes.extend_from_slice(packet);
        self.records.push((record, self.bytes.len()));
        Some(nth)
    }

    /// Returns a record, to be completed.
    pub(crate) fn record(&mut self, nth: usize) -> Option<&mut PacketRecord> {
        self.records.get_mut(nth).map(|(record, _)| record)
    }

    /// Whether the page has room for the packets of a usual turn.
    pub(crate) fn has_room(&self) -> bool {
        self.records.len() + TURN <= PACKETS && self.bytes.len() + RESERVE <= ROOM
    }

    /// Writes the time at which they were settled into the records from number `first` on.
    pub(crate) fn settle(&mut self, first: usize, end: Nanos) {
        self.records.iter_mut().skip(first).for_each(|(record, _)| record.settled = end);
    }

    /// Removes the records from number `first` on.
    pub(crate) fn truncate(&mut self, first: usize) {
        self.records.truncate(first);
        self.bytes.truncate(self.records.last().map_or(0, |(_, end)| *end));
    }

    /// Returns the time at which the first packet's query was received.
    pub(crate) fn since(&self) -> Option<Nanos> {
        self.records.first().map(|(record, _)| record.received)
    }

    /// Returns the number of packets.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are no packets.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Iterates over the packets.
    pub fn iter(&self) -> impl Iterator<Item = Mirrored<'_>> {
        let mut start = 0;
        self.records.iter().map(move |(record, end)| {
            let packet = self.bytes.get(start..*end).unwrap_or_default();
            start = *end;
            let PacketRecord { received, settled, exchange, fate, envelope, direction } = *record;
            let protocol = self.protocol;
            Mirrored { received, settled, exchange, fate, direction, protocol, envelope, packet }
        })
    }
}

/// Line between a worker and the reader of its mirror. Each direction has as many slots as there are
/// pages, so that a page never gets stuck.
#[derive(Debug)]
pub struct MirrorLine {
    full: ArrayQueue<Box<Page>>,
    empty: ArrayQueue<Box<Page>>,
    offered: AtomicU64,
    lost: AtomicU64,
}

impl MirrorLine {
    /// Creates a line with `pages` empty pages, at least two.
    pub fn new(pages: usize) -> Self {
        let pages = pages.max(2);
        let line = MirrorLine {
            full: ArrayQueue::new(pages),
            empty: ArrayQueue::new(pages),
            offered: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        };
        for _ in 0..pages {
            line.give_back(Page::new());
        }
        line
    }

    /// Worker: takes an empty page.
    pub(crate) fn take_empty(&self) -> Option<Box<Page>> {
        self.empty.pop()
    }

    /// Worker: hands a page on.
    pub(crate) fn hand_on(&self, page: Box<Page>) {
        let handed = self.full.push(page);
        debug_assert!(handed.is_ok(), "more pages than the line was made with");
    }

    /// Worker: counts packets that were to be mirrored, and those among them that found no room.
    pub(crate) fn count(&self, offered: u64, lost: u64) {
        // Only the worker writes.
        for (cell, n) in [(&self.offered, offered), (&self.lost, lost)] {
            cell.store(cell.load(Relaxed) + n, Relaxed);
        }
    }

    /// Reader: takes a page.
    pub fn collect(&self) -> Option<Box<Page>> {
        self.full.pop()
    }

    /// Reader: gives a page back, to be filled again.
    pub fn give_back(&self, mut page: Box<Page>) {
        page.records.clear();
        page.bytes.clear();
        let given = self.empty.push(page);
        debug_assert!(given.is_ok(), "more pages than the line was made with");
    }

    /// Returns the number of packets that were to be mirrored, including those lost.
    pub fn offered(&self) -> u64 {
        self.offered.load(Relaxed)
    }

    /// Returns the number of packets lost because no page had room.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

/// Packets that a mirror copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directions {
    /// Queries, also those that are dropped.
    pub queries: bool,
    /// Replies.
    pub replies: bool,
}

/// Setup of a worker's mirror.
#[derive(Clone, Debug)]
pub struct MirrorConfig {
    /// Line that pages come from and go to.
    pub line: Arc<MirrorLine>,
    /// Filter that gives the sampling rate of exchanges.
    pub sieve: Arc<Sieve>,
    /// Packets to copy.
    pub directions: Directions,
    /// Seed that makes one worker's sample differ from another's.
    pub seed: u64,
}

#[cfg(test)]
pub(crate) mod tests;
