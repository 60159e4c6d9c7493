//! Taps: live rows for clients of the control socket, as long as they keep up.

use super::LogCounters;
use futures_util::{Stream, stream};
use hyper::body::Bytes;
use parking_lot::Mutex;
use ringdns_segment::Row;
use std::{convert::Infallible, sync::Arc};
use tokio::sync::mpsc;

/// Most taps at once.
const TAPS: usize = 8;
/// Most chunks that a tap may be behind.
const CHUNKS: usize = 8;

/// Rows in flight to a tap.
type Chunk = Arc<[Row]>;

/// Open taps.
#[derive(Default)]
pub struct Taps(Mutex<Vec<mpsc::Sender<Chunk>>>);

impl Taps {
    /// Opens a tap, which streams rows from now on as JSON, one per line; `None` if there are too
    /// many taps.
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

    /// Returns the number of open taps.
    pub fn len(&self) -> usize {
        self.0.lock().iter().filter(|tap| !tap.is_closed()).count()
    }

    /// Whether no tap is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends rows to all taps, and counts the rows that a slow tap misses.
    pub(super) fn offer(&self, rows: &[Row], counters: &LogCounters) {
        let mut taps = self.0.lock();
        taps.retain(|tap| !tap.is_closed());
        if taps.is_empty() || rows.is_empty() {
            return;
        }
        let mut chunk: Option<Chunk> = None;
        for tap in &*taps {
            // The rows are copied once, and only if some tap has room.
            let given =
                tap.try_reserve().map(|room| room.send(chunk.get_or_insert_with(|| rows.into()).clone()));
            let counter = if given.is_ok() { &counters.tapped } else { &counters.tap_full };
            counter.add(rows.len() as u64);
        }
    }

    /// Closes all taps; each still delivers the chunks in its channel.
    pub(super) fn close(&self) {
        self.0.lock().clear();
    }
}

/// Formats rows as JSON, one per line.
fn lines(rows: &[Row]) -> Bytes {
    let mut text = Vec::with_capacity(rows.len() * 256);
    for row in rows {
        // Rows hold only text and numbers, all of which JSON can represent.
        if serde_json::to_writer(&mut text, row).is_ok() {
            text.push(b'\n');
        }
    }
    text.into()
}
