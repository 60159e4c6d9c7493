//! The writer: packs rows into segments, and sends these to ClickHouse or the spool.
//!
//! ```text
//!  rows ──► batch ──sealed──► outbox ─┬─ memory ─┬─► shipper ──INSERT──► ClickHouse
//!           rows, bytes, seconds      └─ spool ──┘   one at a time, in order, until it is stored
//! ```
//!
//! One thread with a small runtime of its own: compressing and writing files takes no time of other
//! threads, and the threads that resolve cache misses do not depend on it. While a request waits,
//! rows are gathered; while requests fail, the spool fills.

use super::{
    clickhouse::{ClickHouse, Failure},
    ledger::{Ledger, Loss, RowPlace},
    outbox::{Parcel, SegmentOutbox},
    spool::Spool,
};
use core_affinity::CoreId;
use ringdns_common::cores;
use ringdns_config::ShippingConfig;
use ringdns_dataplane::clock::Clock;
use ringdns_segment::{
    row::Row,
    segment::{Head, ROWS_BYTES_MAX, RowBatch, Segment},
};
use std::{
    cell::RefCell,
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{
    runtime::Builder,
    sync::{Notify, mpsc::Receiver},
    time::{Instant, sleep, sleep_until, timeout},
};

/// Time until the first retry after a failure; doubled up to [`BACK_OFF_MAX`].
const BACK_OFF: Duration = Duration::from_millis(500);
/// Longest time between attempts.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// Time that shutdown waits for rows in flight. Rows that are not stored by then are spooled.
const GRACE: Duration = Duration::from_secs(1);
/// Refusals in a row of one segment, after which every second attempt sends the segment behind it:
/// if ClickHouse takes that one, the first is at fault.
const REFUSALS: u32 = 3;
/// Interval at which a continuing failure is logged.
const COMPLAINT: Duration = Duration::from_secs(60);
/// Nice value of the thread, behind the others in priority.
const NICENESS: i32 = 5;
/// Milliseconds per day.
const DAY_MS: i64 = 86_400_000;

/// The writer's thread.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts the thread on some cores. It works until the other end of `rows` is dropped.
    pub fn start(
        shipping: ShippingConfig,
        rows: Receiver<Vec<Row>>,
        cores: Vec<CoreId>,
        ledger: Arc<Ledger>,
    ) -> io::Result<Writer> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("query-log".into()).spawn(move || {
            cores::sit(&cores);
            // Cache misses have priority. Without the privilege, the thread keeps its priority.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            runtime.block_on(run(shipping, rows, ledger));
            // A DNS lookup may take long, and shutdown does not wait for it.
            runtime.shutdown_background();
        })?;
        Ok(Writer { thread })
    }

    /// Waits until all rows are stored or spooled: a moment, once the other end of the channel is
    /// gone.
    pub fn finish(self) {
        if self.thread.join().is_err() {
            tracing::error!("the writer of the query log ended in a panic; rows in hand are lost");
        }
    }
}

async fn run(shipping: ShippingConfig, rows: Receiver<Vec<Row>>, ledger: Arc<Ledger>) {
    let spool = Spool::open(&shipping.spool_dir, shipping.spool_bytes, ledger.clone());
    let outbox = RefCell::new(SegmentOutbox::new(spool, ledger.clone()));
    let sealed = Notify::new();
    let server = shipping.clickhouse.clone().map(|to| ClickHouse::new(to, &shipping.appliance));
    let gatherer = Gatherer { shipping: &shipping, outbox: &outbox, ledger: &ledger, sealed: &sealed };
    let gathering = gatherer.run(rows);
    match server {
        None => gathering.await,
        Some(server) => {
            let (refused, complained) = (None, None);
            let shipper =
                Shipper { server, outbox: &outbox, ledger: &ledger, sealed: &sealed, refused, complained };
            let shipping = shipper.run();
            tokio::pin!(shipping);
            tokio::select! {
                () = gathering => {}
                () = &mut shipping => {}
            }
            let emptied = async {
                while outbox.borrow().is_taking() && !outbox.borrow().is_empty() {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                () = &mut shipping => {}
                _ = timeout(GRACE, emptied) => {}
            }
        }
    }
    outbox.borrow_mut().spill();
}

//----------- Gathering -------------------------------------------------------

struct Gatherer<'a> {
    shipping: &'a ShippingConfig,
    outbox: &'a RefCell<SegmentOutbox>,
    ledger: &'a Ledger,
    sealed: &'a Notify,
}

impl Gatherer<'_> {
    /// Gathers rows until the channel closes.
    async fn run(&self, mut rows: Receiver<Vec<Row>>) {
        let mut batch = match RowBatch::new(self.next_id(), &self.shipping.appliance) {
            Ok(batch) => batch,
            Err(error) => return tracing::error!("the query log cannot be compressed, and is lost: {error}"),
        };
        let mut due = Instant::now();
        loop {
            let more = tokio::select! {
                more = rows.recv() => more,
                () = sleep_until(due), if batch.rows() > 0 => {
                    self.seal(&mut batch);
                    continue;
                }
            };
            let Some(more) = more else { break };
            self.ledger.take(more.len());
            for row in &more {
                if batch.rows() > 0 && self.is_full(&batch, row) {
                    self.seal(&mut batch);
                }
                if batch.rows() == 0 {
                    due = Instant::now() + self.shipping.batch_interval;
                }
                batch.push(row);
            }
        }
        self.seal(&mut batch);
    }

    /// Whether the batch must be sealed before `row`. A segment holds rows of one day, so that it
    /// is stored in one part of the table: whole, or not at all.
    fn is_full(&self, batch: &RowBatch, row: &Row) -> bool {
        let day = |ms: i64| ms.div_euclid(DAY_MS);
        batch.rows() >= self.shipping.batch_rows
            || batch.bytes() >= self.shipping.batch_bytes.min(ROWS_BYTES_MAX / 2)
            || batch.first_ms().is_some_and(|first| day(first) != day(row.time_ms))
    }

    fn next_id(&self) -> u64 {
        let now_us = Clock::start().epoch_millis().unsigned_abs() * 1000;
        self.outbox.borrow_mut().next_id(now_us)
    }

    fn seal(&self, batch: &mut RowBatch) {
        if batch.rows() == 0 {
            return;
        }
        match batch.seal() {
            Ok(segment) => self.outbox.borrow_mut().put(segment),
            Err(error) => {
                tracing::error!("rows of the query log cannot be compressed and are lost: {error}");
                self.ledger.lose(batch.rows(), RowPlace::Hand, Loss::Damaged);
            }
        }
        batch.begin(self.next_id());
        self.sealed.notify_one();
    }
}

//----------- Shipping --------------------------------------------------------

struct Shipper<'a> {
    server: ClickHouse,
    outbox: &'a RefCell<SegmentOutbox>,
    ledger: &'a Ledger,
    sealed: &'a Notify,
    /// The oldest segment, if ClickHouse refused it.
    refused: Option<RefusedSegment>,
    /// Last time that a failure was logged, while there are failures.
    complained: Option<Instant>,
}

/// A segment that ClickHouse refused, while it may take others.
#[derive(Clone, Copy, Debug)]
struct RefusedSegment {
    id: u64,
    /// Refusals in a row, also of the segment behind it.
    refusals: u32,
}

impl RefusedSegment {
    /// Whether the segment behind this one is to be sent, rather than this one.
    fn try_next(self) -> bool {
        self.refusals >= REFUSALS && self.refusals % 2 == REFUSALS % 2
    }
}

impl Shipper<'_> {
    /// Sends segments until the future is dropped.
    async fn run(mut self) {
        let mut back_off = BACK_OFF;
        loop {
            let Some(parcel) = self.next() else {
                self.sealed.notified().await;
                continue;
            };
            match self.server.store(&parcel).await {
                Ok(stored) => {
                    if stored.recognised {
                        self.ledger.change(|sums| sums.segments_recognised += 1);
                    }
                    self.stored(&parcel.segment, stored.rows);
                    back_off = BACK_OFF;
                }
                Err(failure) => {
                    self.failed(&parcel.segment, &failure);
                    if matches!(failure, Failure::TooLarge(_)) {
                        continue;
                    }
                    // The jitter spreads the retries of appliances that failed together.
                    sleep(back_off.mul_f64(rand::random_range(0.75..1.25))).await;
                    back_off = (back_off * 2).min(BACK_OFF_MAX);
                }
            }
        }
    }

    fn next(&self) -> Option<Parcel> {
        let mut outbox = self.outbox.borrow_mut();
        let behind = self.refused.filter(|refused| refused.try_next());
        behind.and_then(|refused| outbox.send_after(refused.id)).or_else(|| outbox.send_next())
    }

    fn stored(&mut self, segment: &Segment, stored: u32) {
        let Head { id, rows, .. } = segment.head();
        self.outbox.borrow_mut().stored(segment, stored);
        if let Some(refused) = self.refused.take().filter(|refused| refused.id < id)
            && self.outbox.borrow_mut().set_aside(refused.id)
        {
            tracing::error!(
                url = self.server.label(),
                segment = refused.id,
                "ClickHouse refuses this segment of the query log and takes others: it was moved to                  the folder refused in query_log.spool_dir"
            );
        }
        self.ledger.clickhouse.clear();
        if self.complained.take().is_some() {
            tracing::info!(url = self.server.label(), rows, "ClickHouse accepts the query log again");
        }
    }

    fn failed(&mut self, segment: &Segment, failure: &Failure) {
        let id = segment.head().id;
        self.outbox.borrow_mut().failed(segment, failure.was_sent());
        match failure {
            Failure::Refused(_) => {
                let refused = self.refused.filter(|refused| refused.id <= id);
                let RefusedSegment { id, refusals } = refused.unwrap_or(RefusedSegment { id, refusals: 0 });
                self.refused = Some(RefusedSegment { id, refusals: refusals + 1 });
            }
            Failure::TooLarge(_) => self.split(segment, failure),
            _ => {}
        }
        self.ledger.clickhouse.set(failure);
        if self.complained.is_none_or(|last| last.elapsed() >= COMPLAINT) {
            self.complained = Some(Instant::now());
            let spooled = self.ledger.sums().spooled;
            tracing::warn!(
                url = self.server.label(),
                spooled,
                "the query log is spooled: ClickHouse {failure}"
            );
        }
    }

    fn split(&self, segment: &Segment, failure: &Failure) {
        let Head { id, rows, .. } = segment.head();
        if !self.outbox.borrow_mut().split(segment) {
            tracing::error!(
                url = self.server.label(),
                segment = id,
                rows,
                "a segment of the query log cannot be stored: ClickHouse {failure}. It was moved to                  the folder refused in query_log.spool_dir"
            );
        }
    }
}

#[cfg(test)]
mod tests;
