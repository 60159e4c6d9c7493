//! Captures of the packets that workers handle, as pcapng: queries and replies with what became of each.
//!
//! ```text
//!  workers ──pages of mirrored packets──► thread "capture" ── filter, encode ──► reader
//! ```
//!
//! There is one capture at a time, bounded in time and packets. No worker waits: packets that find no
//! room in a page are lost to the capture and counted, so that
//! `offered = written + filtered + unread + lost`. Nothing of a capture remains with a worker.

#![forbid(unsafe_code)]

mod chunk;
mod filter;
pub mod pcapng;
mod session;
mod waiting;

pub use filter::Filter;

use futures_util::{Stream, stream};
use parking_lot::Mutex;
use ringdns_common::counters;
use ringdns_dataplane::{clock::Clock, log::Sieve, punt::Link};
use session::Session;
use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::{Notify, Semaphore, mpsc};

/// Most chunks that a reader may be behind, usually of up to 1.2 MiB each: the blocks of a page, and less
/// than 256 KiB before them.
const CHUNKS: usize = 4;
/// Distance between the first exchanges of two captures: more than a worker receives during one.
const EXCHANGES: u64 = 1 << 40;

counters! {
    /// Counters of captures.
    CaptureCounters {
        /// Captures begun.
        begun,
        /// Packets that workers offered to captures.
        offered,
        /// Packets written to the readers of captures.
        written,
        /// Packets that the filters of captures left out.
        filtered,
        /// Packets that passed a filter and were not written: they came after the last one that was asked
        /// for, the reader was gone, stalled or too slow for the rest, or their worker was late.
        unread,
        /// Packets lost to captures because the reader was slower than they came, or too many queries
        /// waited for their replies.
        lost,
    }
}

/// Packets to be captured.
#[derive(Clone, Debug)]
pub struct Request {
    /// Filter of the packets.
    pub filter: Filter,
    /// One exchange in this many is considered.
    pub sample: u32,
    /// Number of packets after which the capture ends.
    pub packets: u64,
    /// Time after which the capture ends.
    pub time: Duration,
    /// Description of all this, for the comment of the file.
    pub description: String,
}

/// Reason why a capture does not begin.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Another one is under way.
    #[error("another capture is under way: wait for its end, or end it (POST /v1/capture/end)")]
    Busy,
    /// There is no thread for it.
    #[error(
        "the thread of a capture cannot be started: {0}. Are there too many threads or too little memory?"
    )]
    Thread(#[from] io::Error),
}

/// Captures of a process: at most one at a time.
#[derive(Debug)]
pub struct Captures {
    turn: Arc<Semaphore>,
    number: AtomicU64,
    /// Signal to the capture under way to end.
    end: Mutex<Arc<Notify>>,
    /// Counters.
    pub counters: Arc<CaptureCounters>,
}

impl Default for Captures {
    fn default() -> Self {
        Captures {
            turn: Arc::new(Semaphore::new(1)),
            number: AtomicU64::new(1),
            end: Mutex::default(),
            counters: Arc::default(),
        }
    }
}

impl Captures {
    /// Begins a capture of the packets of some workers, and streams the file. It ends by the limits of
    /// the request, by [`end`](Captures::end), or when the stream is dropped or not read.
    pub fn begin(
        &self,
        links: &[Arc<Link>],
        clock: Clock,
        request: Request,
    ) -> Result<impl Stream<Item = Result<Vec<u8>, Infallible>> + Send + use<>, CaptureError> {
        let turn = self.turn.clone().try_acquire_owned().map_err(|_| CaptureError::Busy)?;
        let sieve = Sieve::new(request.sample, &[], &[]).unwrap_or_else(|_| Sieve::open());
        let first = self.number.fetch_add(1, Relaxed) * EXCHANGES;
        let end = Arc::new(Notify::new());
        *self.end.lock() = end.clone();
        let (sender, receiver) = mpsc::channel(CHUNKS + 1);
        let session = Session::new(request, clock, sender, end, self.counters.clone());
        session.start(links.to_vec(), (Arc::new(sieve), first), turn)?;
        self.counters.begun.inc();
        Ok(stream::unfold(receiver, async |mut receiver| {
            let chunk = receiver.recv().await?;
            Some((Ok(chunk.take()), receiver))
        }))
    }

    /// Returns captures of which none can begin.
    #[cfg(fuzzing)]
    pub fn closed() -> Self {
        Captures { turn: Arc::new(Semaphore::new(0)), ..Captures::default() }
    }

    /// Ends the capture under way. Returns whether there is one.
    pub fn end(&self) -> bool {
        let under_way = self.is_under_way();
        if under_way {
            self.end.lock().notify_one();
        }
        under_way
    }

    /// Whether a capture is under way, or workers still have something of it.
    pub fn is_under_way(&self) -> bool {
        self.turn.available_permits() == 0
    }
}
