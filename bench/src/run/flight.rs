//! Queries in flight: which answer belongs to which, and since when it is due.

use crate::mmsg::BATCH;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Queries that follow each other take one flow, so that they leave in one system call.
pub const BLOCK: u64 = BATCH as u64;

const IDS: u64 = 1 << 16;

/// Nothing is awaited in a slot.
const NONE: u64 = u64::MAX;

/// One sender's queries in flight.
///
/// A query is its sequence number: flow (an address and port that answers come back to) and DNS ID follow from it, and
/// it from them, so that all there is to remember is when the query was due. Written by its sender; other senders take
/// answers out that reached them, as a NIC may steer them.
#[derive(Debug)]
pub struct Flight {
    flows: u64,
    due: Box<[AtomicU64]>,
    /// The next query's sequence number.
    next: AtomicU64,
    /// How many were answered or given up.
    finished: AtomicU64,
}

impl Flight {
    /// IDs over so many flows, at least one.
    pub fn new(flows: u32) -> Self {
        let flows = u64::from(flows.max(1));
        // Slots divide what flows and IDs can tell apart, so that a query has one slot. A million is a second at a
        // million queries a second; memory that is not looked at for a second is not in a cache.
        let times = (1 << flows.trailing_zeros()).min(16);
        let due = (0..IDS * times).map(|_| AtomicU64::new(NONE)).collect();
        Flight { flows, due, next: AtomicU64::new(0), finished: AtomicU64::new(0) }
    }

    /// The sequence number of the next query.
    #[inline]
    pub fn next(&self) -> u64 {
        self.next.load(Relaxed)
    }

    /// How many can be in flight.
    pub fn slots(&self) -> u64 {
        self.due.len() as u64
    }

    /// How many are.
    #[inline]
    pub fn in_flight(&self) -> u64 {
        self.next() - self.finished.load(Relaxed)
    }

    /// How many queries from the next one on take the same flow.
    #[inline]
    pub fn left_in_block(&self) -> usize {
        (BLOCK - self.next() % BLOCK) as usize
    }

    /// The flow of a query.
    #[inline]
    pub fn flow(&self, sequence: u64) -> u32 {
        (sequence / BLOCK % self.flows) as u32
    }

    /// The ID of a query.
    #[inline]
    pub fn id(&self, sequence: u64) -> u16 {
        ((sequence / BLOCK / self.flows) * BLOCK + sequence % BLOCK) as u16
    }

    /// The latest query with this flow and ID, if it is awaited, and when it was due.
    #[inline]
    pub fn find(&self, flow: u32, id: u16) -> Option<(u64, u64)> {
        let (flow, id) = (u64::from(flow), u64::from(id));
        if flow >= self.flows {
            return None;
        }
        let place = (id / BLOCK * self.flows + flow) * BLOCK + id % BLOCK;
        let last = self.next().checked_sub(1)?;
        let span = IDS * self.flows;
        let back = (last + span - place) % span;
        if back >= self.slots() {
            return None;
        }
        let sequence = last.checked_sub(back)?;
        let due = self.slot(sequence).load(Relaxed);
        (due != NONE).then_some((sequence, due))
    }

    /// A query is no longer awaited.
    #[inline]
    pub fn finish(&self, sequence: u64) {
        // Two senders may have the same answer only if it came twice.
        if self.slot(sequence).swap(NONE, Relaxed) != NONE {
            self.finished.fetch_add(1, Relaxed);
        }
    }

    /// When a query was due, if it is still awaited.
    #[inline]
    pub fn due(&self, sequence: u64) -> Option<u64> {
        Some(self.slot(sequence).load(Relaxed)).filter(|due| *due != NONE)
    }

    /// The query `nth` after the next is awaited from when it is due. Its slot is free: what was in flight so many
    /// [`slots`](Self::slots) before was given up.
    #[inline]
    pub fn prepare(&self, nth: u64, due: u64) {
        self.slot(self.next() + nth).store(due, Relaxed);
    }

    /// Before `count` prepared queries are sent: they may be answered at any time.
    #[inline]
    pub fn launch(&self, count: u64) {
        self.next.store(self.next() + count, Relaxed);
    }

    /// Of the queries launched last, these were not sent after all.
    #[inline]
    pub fn abort(&self, count: u64) {
        let next = self.next() - count;
        for nth in 0..count {
            self.slot(next + nth).store(NONE, Relaxed);
        }
        self.next.store(next, Relaxed);
    }

    #[inline]
    fn slot(&self, sequence: u64) -> &AtomicU64 {
        &self.due[(sequence % self.slots()) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(flight: &Flight, count: u64, due: u64) {
        for _ in 0..count {
            flight.prepare(0, due);
            flight.launch(1);
        }
    }

    #[test]
    fn flow_and_id_lead_back_to_the_query() {
        for flows in [1, 3, 4, 48] {
            let flight = Flight::new(flows);
            // Past where IDs come round.
            for _ in 0..3 {
                send(&flight, 50_000, 7);
                let last = flight.next() - 1;
                for sequence in [last, last - 100, last - 9_999] {
                    let found = flight.find(flight.flow(sequence), flight.id(sequence));
                    assert_eq!(found, Some((sequence, 7)), "{flows} flows");
                }
                for sequence in flight.next() - 50_000..flight.next() {
                    flight.finish(sequence);
                }
            }
            assert_eq!(flight.in_flight(), 0);
        }
    }

    #[test]
    fn what_is_not_awaited_is_not_found() {
        let flight = Flight::new(2);
        assert_eq!(flight.find(0, 0), None);
        send(&flight, 10, 7);
        assert_eq!((flight.find(0, 10), flight.find(1, 0), flight.find(2, 0)), (None, None, None));
        flight.finish(3);
        flight.finish(3);
        assert_eq!((flight.find(0, 3), flight.in_flight()), (None, 9));
    }

    #[test]
    fn a_block_takes_one_flow_and_aborted_queries_were_never_sent() {
        let flight = Flight::new(4);
        flight.prepare(0, 1);
        flight.prepare(1, 1);
        flight.launch(2);
        flight.abort(1);
        assert_eq!((flight.next(), flight.in_flight(), flight.due(1)), (1, 1, None));
        assert_eq!(flight.left_in_block() as u64, BLOCK - 1);
        assert_eq!((flight.flow(BLOCK - 1), flight.flow(BLOCK), flight.flow(4 * BLOCK)), (0, 1, 0));
        assert_eq!((flight.id(BLOCK - 1), flight.id(BLOCK), flight.id(4 * BLOCK)), (63, 0, 64));
    }
}
