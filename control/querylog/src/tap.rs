//! Taps: live rows, for who listens at the control socket, as long as they keep up.

use super::LogCounters;
use futures_util::{Stream, stream};
use hyper::body::Bytes;
use parking_lot::Mutex;
use ringdns_segment::Row;
use std::{convert::Infallible, sync::Arc};
use tokio::sync::mpsc;

/// Listeners at once.
const TAPS: usize = 8;
/// Chunks that one may be behind.
const CHUNKS: usize = 8;

/// Rows on their way to a listener.
type Chunk = Arc<[Row]>;

/// Who listens.
#[derive(Default)]
pub struct Taps(Mutex<Vec<mpsc::Sender<Chunk>>>);

impl Taps {
    /// One more listener: rows from now on, as JSON, one a line. `None`: there are enough.
    pub fn open(&self) -> Option<impl Stream<Item = Result<Bytes, Infallible>> + Send + use<>> {
        let mut taps = self.0.lock();
        taps.retain(|tap| !tap.is_closed());
        if taps.len() >= TAPS {
            return None;
        }
        let (sender, receiver) = mpsc::channel(CHUNKS);
        taps.push(sender);
        Some(stream::unfold(receiver, async |mut receiver| {
            let rows = receiver.recv().await?;
            Some((Ok(lines(&rows)), receiver))
        }))
    }

    /// How many listen.
    pub fn len(&self) -> usize {
        self.0.lock().iter().filter(|tap| !tap.is_closed()).count()
    }

    /// Whether nobody does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives rows to all who listen, and counts those that somebody who does not keep up misses.
    pub(super) fn offer(&self, rows: &[Row], counters: &LogCounters) {
        let mut taps = self.0.lock();
        taps.retain(|tap| !tap.is_closed());
        if taps.is_empty() || rows.is_empty() {
            return;
        }
        let mut chunk: Option<Chunk> = None;
        for tap in &*taps {
            // Copied once, and only if somebody has room.
            let given =
                tap.try_reserve().map(|room| room.send(chunk.get_or_insert_with(|| rows.into()).clone()));
            let counter = if given.is_ok() { &counters.tapped } else { &counters.tap_full };
            counter.add(rows.len() as u64);
        }
    }

    /// Lets everybody have what is on its way, and no more.
    pub(super) fn close(&self) {
        self.0.lock().clear();
    }
}

/// Rows as JSON, one a line.
fn lines(rows: &[Row]) -> Bytes {
    let mut text = Vec::with_capacity(rows.len() * 256);
    for row in rows {
        // Text and numbers: nothing in it that JSON does not have.
        if serde_json::to_writer(&mut text, row).is_ok() {
            text.push(b'\n');
        }
    }
    text.into()
}
