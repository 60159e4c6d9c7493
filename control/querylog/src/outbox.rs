//! Sealed segments to be sent: in memory while ClickHouse accepts them, else in the spool; the
//! oldest leaves first.

use super::{
    ledger::{Ledger, Loss, RowPlace},
    spool::{SPLIT_IDS, Spool},
};
use ringdns_segment::segment::Segment;
use std::{collections::VecDeque, sync::Arc};

/// Most segments in memory, including the one in flight.
const HAND_MAX: usize = 4;

/// Segments to be shipped, or only kept.
#[derive(Debug)]
pub struct SegmentOutbox {
    /// Segments in memory, by id.
    hand: VecDeque<Segment>,
    spool: Spool,
    ledger: Arc<Ledger>,
    /// Id of the segment in flight.
    in_flight: Option<u64>,
    /// Whether ClickHouse accepts segments. False until it has been reached once.
    taking: bool,
    /// Segments from this id on have never been sent, not even by an earlier process that died
    /// while sending.
    fresh_from: u64,
    newest: u64,
}

/// A segment to send.
#[derive(Debug)]
pub struct Parcel {
    /// The segment.
    pub segment: Segment,
    /// Whether the segment may have been sent, and stored, before.
    pub maybe_stored: bool,
}

impl SegmentOutbox {
    /// Returns an outbox with the segments in the spool.
    pub fn new(spool: Spool, ledger: Arc<Ledger>) -> Self {
        SegmentOutbox {
            hand: VecDeque::new(),
            spool,
            ledger,
            in_flight: None,
            taking: false,
            fresh_from: u64::MAX,
            newest: 0,
        }
    }

    /// Returns the id of the next segment, which is made at `now_us`. The ids up to the next multiple
    /// of [`SPLIT_IDS`] are for the parts that the segment may be split into.
    pub fn next_id(&mut self, now_us: u64) -> u64 {
        let last = self.newest.max(self.spool.last().unwrap_or(0));
        let first = self.newest == 0;
        self.newest = now_us.max(last + 1).next_multiple_of(SPLIT_IDS);
        if first {
            self.fresh_from = self.newest;
        }
        self.newest
    }

    /// Adds a segment, which is newer than all others.
    pub fn put(&mut self, segment: Segment) {
        if self.taking && self.spool.is_empty() && self.hand.len() < HAND_MAX {
            self.hand.push_back(segment);
        } else {
            self.spool.put(&segment, self.in_flight);
        }
    }

    /// Returns the oldest segment. It stays in its place until [`stored`](Self::stored) or
    /// [`failed`](Self::failed).
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
        Some(self.lend(segment))
    }

    /// Returns the oldest segment on disk that is newer than `id`, for a look at whether ClickHouse
    /// refuses only the segment `id`.
    pub fn send_after(&mut self, id: u64) -> Option<Parcel> {
        loop {
            let next = self.spool.after(id)?;
            if let Some(segment) = self.spool.read(next) {
                return Some(self.lend(segment));
            }
        }
    }

    fn lend(&mut self, segment: Segment) -> Parcel {
        let id = segment.head().id;
        self.in_flight = Some(id);
        Parcel { segment, maybe_stored: id < self.fresh_from }
    }

    /// Notes that ClickHouse has `stored` rows of the segment in flight. The rest of its rows is
    /// lost.
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
            account(RowPlace::Hand, segment.head().rows);
        } else {
            self.spool.forget(id, |_, rows| account(RowPlace::Spool, rows));
        }
        self.fresh_from = self.fresh_from.max(id + 1);
    }

    /// Notes that the segment in flight could not be stored. If it was sent, it may be stored
    /// nevertheless. Moves the segments in memory to disk.
    pub fn failed(&mut self, segment: &Segment, was_sent: bool) {
        if was_sent {
            self.fresh_from = self.fresh_from.max(segment.head().id + 1);
        }
        self.taking = false;
        self.in_flight = None;
        self.ledger.change(|sums| sums.attempts_failed += 1);
        self.spill();
    }

    /// Splits a segment that is too large for ClickHouse. It must be on disk, where it is after
    /// [`failed`](Self::failed). Returns false if the segment was set aside, because it cannot be
    /// split.
    pub fn split(&mut self, segment: &Segment) -> bool {
        self.spool.split(segment) || !self.set_aside(segment.head().id)
    }

    /// Gives up the segment `id`, which ClickHouse does not take. It must be on disk, where it is
    /// after [`failed`](Self::failed). Returns false if it is not there.
    pub fn set_aside(&mut self, id: u64) -> bool {
        self.spool.set_aside(id)
    }

    /// Moves the segments in memory to disk.
    pub fn spill(&mut self) {
        for segment in std::mem::take(&mut self.hand) {
            self.spool.put(&segment, self.in_flight);
        }
    }

    /// Whether ClickHouse accepted the last segment.
    pub fn is_taking(&self) -> bool {
        self.taking
    }

    /// Whether no segment waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.hand.is_empty() && self.spool.is_empty()
    }
}
