//! Queries in flight: finds the query of an answer, and its due time.

use crate::mmsg::BATCH;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Number of consecutive queries that take one flow, so that they leave in one system call.
pub const BLOCK: u64 = BATCH as u64;

const IDS: u64 = 1 << 16;

/// Value of a slot without a query in flight.
const NONE: u64 = u64::MAX;

/// Queries in flight of one sender.
///
/// A query is its sequence number: flow (an address and port that answers come back to) and DNS ID
/// follow from it, and it from them, so that only the due time has to be stored. Written by its
/// sender; other senders remove queries whose answers reached them, as a NIC may steer them.
#[derive(Debug)]
pub struct Flight {
    flows: u64,
    due: Box<[AtomicU64]>,
    /// Sequence number of the next query.
    next: AtomicU64,
    /// Number of queries that were answered or given up.
    finished: AtomicU64,
}

impl Flight {
    /// Returns slots for the IDs of so many flows, at least one.
    pub fn new(flows: u32) -> Self {
        let flows = u64::from(flows.max(1));
        // The slots divide the range of flows and IDs, so that a query has one slot. A million
        // slots last a second at a million queries a second; memory that is not read for a second
        // is not in a cache.
        let times = (1 << flows.trailing_zeros()).min(16);
        let due = (0..IDS * times).map(|_| AtomicU64::new(NONE)).collect();
        Flight { flows, due, next: AtomicU64::new(0), finished: AtomicU64::new(0) }
    }

    /// Returns the sequence number of the next query.
    #[inline]
    pub fn next(&self) -> u64 {
        self.next.load(Relaxed)
    }

    /// Returns the largest number of queries in flight.
    pub fn slots(&self) -> u64 {
        self.due.len() as u64
    }

    /// Returns the number of queries in flight.
    #[inline]
    pub fn in_flight(&self) -> u64 {
        self.next() - self.finished.load(Relaxed)
    }

    /// Returns the number of queries, from the next one on, that take the same flow.
    #[inline]
    pub fn left_in_block(&self) -> usize {
        (BLOCK - self.next() % BLOCK) as usize
    }

    /// Returns the flow of a query.
    #[inline]
    pub fn flow(&self, sequence: u64) -> u32 {
        (sequence / BLOCK % self.flows) as u32
    }

    /// Returns the ID of a query.
    #[inline]
    pub fn id(&self, sequence: u64) -> u16 {
        ((sequence / BLOCK / self.flows) * BLOCK + sequence % BLOCK) as u16
    }

    /// Returns the latest query with this flow and ID, if it is in flight, and its due time.
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

    /// Marks a query as no longer in flight.
    #[inline]
    pub fn finish(&self, sequence: u64) {
        // Two senders can have the same answer only if it came twice.
        if self.slot(sequence).swap(NONE, Relaxed) != NONE {
            self.finished.fetch_add(1, Relaxed);
        }
    }

    /// Returns the due time of a query, if it is still in flight.
    #[inline]
    pub fn due(&self, sequence: u64) -> Option<u64> {
        Some(self.slot(sequence).load(Relaxed)).filter(|due| *due != NONE)
    }

    /// Prepares the query `nth` after the next, due at `due`. Its slot is free: the query that was
    /// in flight so many [`slots`](Self::slots) before was given up.
    #[inline]
    pub fn prepare(&self, nth: u64, due: u64) {
        self.slot(self.next() + nth).store(due, Relaxed);
    }

    /// Marks `count` prepared queries as in flight. Called before they are sent, since they may be
    /// answered at any time.
    #[inline]
    pub fn launch(&self, count: u64) {
        self.next.store(self.next() + count, Relaxed);
    }

    /// Takes back the last `count` launched queries, which were not sent after all.
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
            // Past the point where IDs wrap around.
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
