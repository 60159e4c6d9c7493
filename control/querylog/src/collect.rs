//! The collector: takes records, makes rows of them, and hands them on.

use super::{LogCounters, QueryLog};
use parking_lot::Mutex;
use ringdns_common::counters::Counter;
use ringdns_dataplane::log::Line;
use ringdns_segment::Row;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

/// Most chunks of rows that the writer may be behind.
pub const CHANNEL: usize = 16;
/// Rows per chunk; a chunk may hold up to one batch more.
const CHUNK: usize = 8192;
/// Interval at which all lines are read. A worker's batches must last that long.
const PACE: Duration = Duration::from_millis(20);
/// Time that shutdown waits for the writer to take the remaining rows.
const PATIENCE: Duration = Duration::from_millis(500);

/// Collects records from all workers and from TCP.
pub struct Collector {
    log: Arc<QueryLog>,
    lines: Vec<Arc<Line>>,
    desk: Mutex<Desk>,
}

struct Desk {
    /// Channel to the writer; `None` if there is no writer, or after the end.
    writer: Option<mpsc::Sender<Vec<Row>>>,
    /// Rows of a chunk that is not yet full.
    rows: Vec<Row>,
}

impl Collector {
    /// Returns a collector for these workers, which hands rows on to `writer`.
    pub fn new(
        log: Arc<QueryLog>,
        lines: Vec<Arc<Line>>,
        writer: Option<mpsc::Sender<Vec<Row>>>,
    ) -> Arc<Self> {
        Arc::new(Collector { log, lines, desk: Mutex::new(Desk { writer, rows: Vec::new() }) })
    }

    /// Collects until the task is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            while self.collect() {
                // Yields to other tasks on this thread.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Collects what the workers, which have ended, and TCP have left, hands it on, and closes the
    /// channel and the taps.
    pub async fn finish(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.collect() {
            while !self.has_room() && Instant::now() < deadline {
                sleep(Duration::from_millis(1)).await;
            }
        }
        self.desk.lock().writer = None;
        self.log.taps.close();
    }

    /// Whether the writer has room for another chunk.
    fn has_room(&self) -> bool {
        self.desk.lock().writer.as_ref().is_none_or(|writer| writer.capacity() > 0)
    }

    /// Logs the final counts of rows, because nobody can query them any more.
    pub fn say_how_it_ended(&self) {
        let LogCounters { collected, unwanted, writer_full, tcp_full, .. } = &self.log.counters;
        let [collected, unwanted, writer_full, tcp_full] =
            [collected, unwanted, writer_full, tcp_full].map(Counter::get);
        let sums = self.log.ledger.sums();
        tracing::info!(
            collected,
            unwanted,
            dropped = writer_full + tcp_full + sums.dropped(),
            stored = sums.stored,
            spooled = sums.spooled,
            in_hand = sums.in_hand,
            "the query log is closed"
        );
    }

    /// Takes a batch from each worker, and all rows of TCP. Returns true if there was anything.
    pub(super) fn collect(&self) -> bool {
        let QueryLog { clock, tcp, counters, taps, .. } = &*self.log;
        let mut desk = self.desk.lock();
        // Without a writer and without taps, no rows are made.
        let wanted = desk.writer.is_some() || !taps.is_empty();
        let epoch_ms = clock.epoch_millis();
        let mut taken = false;
        for line in &self.lines {
            let Some(batch) = line.collect() else { continue };
            taken = true;
            counters.collected.add(batch.len() as u64);
            if wanted {
                let before = desk.rows.len();
                desk.rows.extend(batch.iter().filter_map(|logged| self.log.row(&logged, epoch_ms)));
                counters.unlogged.add((batch.len() - (desk.rows.len() - before)) as u64);
            } else {
                counters.unwanted.add(batch.len() as u64);
            }
            line.give_back(batch);
            if desk.rows.len() >= CHUNK {
                self.hand_on(&mut desk);
            }
        }
        let mut rows = std::mem::take(&mut tcp.lock().rows);
        taken |= !rows.is_empty();
        counters.collected.add(rows.len() as u64);
        desk.rows.append(&mut rows);
        if !taken || desk.rows.len() >= CHUNK {
            self.hand_on(&mut desk);
        }
        taken
    }

    fn hand_on(&self, desk: &mut Desk) {
        if desk.rows.is_empty() {
            return;
        }
        let rows = std::mem::take(&mut desk.rows);
        let (counters, count) = (&self.log.counters, rows.len() as u64);
        self.log.taps.offer(&rows, counters);
        let counter = match desk.writer.as_ref().map(|writer| writer.try_send(rows)) {
            Some(Ok(())) => &counters.handed_on,
            Some(Err(_)) => &counters.writer_full,
            None => &counters.unwanted,
        };
        counter.add(count);
    }
}
