//! Sealed segments on their way: in memory while ClickHouse takes them, else in the spool; the oldest leaves first.

use super::{
    ledger::{Ledger, Loss, Place},
    spool::Spool,
};
use ringdns_segment::segment::Segment;
use std::{collections::VecDeque, sync::Arc};

/// Most segments in memory, with the one that is being sent.
const HAND_MAX: usize = 4;

/// Segments that are to be shipped, or only kept.
#[derive(Debug)]
pub struct Outbox {
    /// By id.
    hand: VecDeque<Segment>,
    spool: Spool,
    ledger: Arc<Ledger>,
    /// What is being sent.
    in_flight: Option<u64>,
    /// Whether ClickHouse takes what it is sent. Not until it has once been reached.
    taking: bool,
    /// Segments from here on have never been sent, not even by a process that died while it did.
    fresh_from: u64,
    newest: u64,
}

/// A segment to send.
#[derive(Debug)]
pub struct Parcel {
    /// It.
    pub segment: Segment,
    /// Whether it may have been sent, and stored, before.
    pub maybe_stored: bool,
}

impl Outbox {
    /// What lies in the spool, and what comes.
    pub fn new(spool: Spool, ledger: Arc<Ledger>) -> Self {
        Outbox {
            hand: VecDeque::new(),
            spool,
            ledger,
            in_flight: None,
            taking: false,
            fresh_from: u64::MAX,
            newest: 0,
        }
    }

    /// The id of the segment after all others, made at this time.
    pub fn next_id(&mut self, now_us: u64) -> u64 {
        let last = self.newest.max(self.spool.last().unwrap_or(0));
        let first = self.newest == 0;
        self.newest = now_us.max(last + 1);
        if first {
            self.fresh_from = self.newest;
        }
        self.newest
    }

    /// Takes a segment, which is newer than all others.
    pub fn put(&mut self, segment: Segment) {
        if self.taking && self.spool.is_empty() && self.hand.len() < HAND_MAX {
            self.hand.push_back(segment);
        } else {
            self.spool.put(&segment, self.in_flight);
        }
    }

    /// The oldest segment; it stays where it is until its fate is told.
    pub fn send_next(&mut self) -> Option<Parcel> {
        let segment = loop {
            match (self.spool.first(), self.hand.front()) {
                (Some(id), held) if held.is_none_or(|held| id < held.head().id) => {
                    if let Some(segment) = self.spool.read(id) {
                        break segment;
                    }
                }
                (_, Some(held)) => break held.clone(),
                (_, None) => return None,
            }
        };
        let id = segment.head().id;
        self.in_flight = Some(id);
        Some(Parcel { segment, maybe_stored: id < self.fresh_from })
    }

    /// ClickHouse has so many rows of the segment that was sent; of those that it has not, nobody has any more.
    pub fn stored(&mut self, segment: &Segment, stored: u32) {
        self.taking = true;
        self.in_flight = None;
        let (id, ledger) = (segment.head().id, self.ledger.clone());
        let account = |place, rows: u32| {
            let stored = stored.min(rows);
            ledger.store(stored, place);
            ledger.lose(rows - stored, place, Loss::Torn);
            ledger.change(|sums| sums.segments_stored += 1);
        };
        if self.hand.front().is_some_and(|held| held.head().id == id) {
            self.hand.pop_front();
            account(Place::Hand, segment.head().rows);
        } else {
            self.spool.forget(id, |_, rows| account(Place::Spool, rows));
        }
        self.fresh_from = self.fresh_from.max(id + 1);
    }

    /// It could not be stored; where something was sent, nobody knows if it was. What is in memory goes to disk.
    pub fn failed(&mut self, segment: &Segment, was_sent: bool) {
        if was_sent {
            self.fresh_from = self.fresh_from.max(segment.head().id + 1);
        }
        self.taking = false;
        self.in_flight = None;
        self.ledger.change(|sums| sums.attempts_failed += 1);
        self.spill();
    }

    /// Puts what is in memory on disk.
    pub fn spill(&mut self) {
        for segment in std::mem::take(&mut self.hand) {
            self.spool.put(&segment, self.in_flight);
        }
    }

    /// Whether ClickHouse took what it was sent last.
    pub fn is_taking(&self) -> bool {
        self.taking
    }

    /// Whether nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.hand.is_empty() && self.spool.is_empty()
    }
}
