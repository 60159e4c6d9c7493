//! Taps: live rows for clients of the control socket, as long as they keep up.

use super::LogCounters;
use futures_util::{Stream, stream};
use hyper::body::Bytes;
use parking_lot::Mutex;
use ringdns_common::filter::ExchangeFilter;
use ringdns_segment::Row;
use std::{convert::Infallible, sync::Arc};
use tokio::sync::mpsc;

/// Most taps at once.
const TAPS: usize = 8;
/// Most chunks that a tap may be behind.
const CHUNKS: usize = 8;

/// Rows in flight to a tap.
type Chunk = Arc<[Row]>;

/// Open tap.
struct Tap {
    filter: ExchangeFilter,
    rows: mpsc::Sender<Chunk>,
}

/// Open taps.
#[derive(Default)]
pub struct Taps(Mutex<Vec<Tap>>);

impl Taps {
    /// Opens a tap, which streams rows that pass a filter from now on as JSON, one per line; `None` if
    /// there are too many taps.
    pub fn open(
        &self,
        filter: ExchangeFilter,
    ) -> Option<impl Stream<Item = Result<Bytes, Infallible>> + Send + use<>> {
        let mut taps = self.0.lock();
        taps.retain(|tap| !tap.rows.is_closed());
        if taps.len() >= TAPS {
            return None;
        }
        let (sender, receiver) = mpsc::channel(CHUNKS);
        taps.push(Tap { filter, rows: sender });
        Some(stream::unfold(receiver, async |mut receiver| {
            let rows = receiver.recv().await?;
            Some((Ok(lines(&rows)), receiver))
        }))
    }

    /// Returns the number of open taps.
    pub fn len(&self) -> usize {
        self.0.lock().iter().filter(|tap| !tap.rows.is_closed()).count()
    }

    /// Whether no tap is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends rows to all taps, as their filters have it, and counts the rows that a slow tap misses.
    pub(super) fn offer(&self, rows: &[Row], counters: &LogCounters) {
        let mut taps = self.0.lock();
        taps.retain(|tap| !tap.rows.is_closed());
        // Rows for taps without a filter are copied once, and only if one of these has room.
        let mut all: Option<Chunk> = None;
        for Tap { filter, rows: tap } in &*taps {
            let matching = || rows.iter().filter(|row| takes(filter, row));
            let count = if filter.is_open() { rows.len() } else { matching().count() };
            if count == 0 {
                continue;
            }
            let given = tap.try_reserve().map(|room| {
                room.send(match filter.is_open() {
                    true => all.get_or_insert_with(|| rows.into()).clone(),
                    false => matching().cloned().collect(),
                });
            });
            let counter = if given.is_ok() { &counters.tapped } else { &counters.tap_full };
            counter.add(count as u64);
        }
    }

    /// Closes all taps; each still delivers the chunks in its channel.
    pub(super) fn close(&self) {
        self.0.lock().clear();
    }
}

/// Whether a row passes a filter. The client is what the privacy mode has left of it.
fn takes(filter: &ExchangeFilter, row: &Row) -> bool {
    filter.takes_client(Some(row.client.into()))
        && filter.takes_question((!row.name.is_empty()).then_some((&row.name, row.qtype)))
        && filter.takes_answer(row.outcome, Some(row.rcode))
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
