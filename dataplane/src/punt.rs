//! The way of a miss: from a worker to the control plane and back, in records that the worker lends.
//!
//! A worker owns a fixed pool of records. To punt it fills one and pushes it to the control plane; the control
//! plane attaches the answer and pushes it back. The record itself moves, so it is in exactly one place, and a
//! control plane that is slow or stuck can hold no more than the pool.

use crate::{
    clock::Nanos,
    dns::{QUESTION_MAX, answer::Answer, header, query::Query},
    doorbell::Doorbell,
    latency::Mailbox,
    log::Source,
    packet::{Envelope, HEADERS_MAX},
    policy::Policy,
    stats::WorkerStats,
};
use crossbeam_queue::ArrayQueue;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Everything of a query up to the end of its question: link headers, DNS header, question.
const HEAD_MAX: usize = HEADERS_MAX + header::LEN + QUESTION_MAX;

/// A query that the worker could not answer, or an entry that should be fetched anew.
#[derive(Debug)]
pub struct Punt {
    /// What is asked.
    pub query: Query,
    /// What to do with the answer.
    pub purpose: Purpose,
    /// When the turn began that received it.
    pub received: Nanos,
    /// Number of the worker's port that received it: replies go out through no other.
    pub port: u32,
    /// The cache generation that the worker knew when it asked. Control writes the one that the answer belongs to.
    pub generation: u64,
    /// Attached by the control plane. It stays on the record until that is used again, and is then dropped
    /// by the control plane, so that the worker never frees memory.
    pub answer: Option<Arc<Answer>>,
    /// Whether that was known before it was asked for, as a failure may be (RFC 9520).
    pub known: bool,
    /// Where it was found, for the log.
    pub source: Source,
    head: [u8; HEAD_MAX],
    head_len: u16,
}

/// Why a record was punted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A client waits, at the end of this envelope.
    Answer(Envelope),
    /// Nobody waits: a stale answer was given, and the entry wants renewal.
    Refresh,
    /// Nobody has asked: the control plane has renewed what this worker may have an entry for.
    Renewed,
}

impl Punt {
    /// An unused record.
    pub fn new() -> Box<Self> {
        Box::new(Punt {
            query: Query::default(),
            purpose: Purpose::Refresh,
            received: 0,
            port: 0,
            generation: 0,
            answer: None,
            known: false,
            source: Source::default(),
            head: [0; HEAD_MAX],
            head_len: 0,
        })
    }

    /// Fills the record from a frame whose message begins at `message`, and whose query is `query`.
    #[inline]
    pub fn fill(&mut self, frame: &[u8], message: usize, query: &Query) {
        let end = message + header::LEN + query.question_len();
        // The parser bounds both parts, so this is a copy and no check in practice.
        let head = &frame[..end.min(HEAD_MAX)];
        self.head[..head.len()].copy_from_slice(head);
        self.head_len = head.len() as u16;
        self.query.clone_from(query);
    }

    /// Link headers, DNS header and question as received.
    pub fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }

    /// The question as the client wrote it: name, type, class.
    pub fn question(&self) -> &[u8] {
        let len = self.head().len();
        &self.head()[len - self.query.question_len().min(len)..]
    }
}

/// What a worker and the control plane share.
#[derive(Debug)]
pub struct Link {
    /// Number of the worker.
    pub worker: usize,
    /// Its counters.
    pub stats: WorkerStats,
    /// Its service times.
    pub latencies: Mailbox,
    /// Its port's totals, published by the worker when it has a moment.
    pub port: PortCell,
    /// Set to make the worker leave its loop.
    leave: AtomicBool,
    /// Whether it is to end when it has left its loop.
    stop: AtomicBool,
    /// What queries are to be measured by from now on, until the worker takes it.
    policy: ArrayQueue<Arc<Policy>>,
    punts: ArrayQueue<Box<Punt>>,
    answers: ArrayQueue<Box<Punt>>,
    generation: Arc<AtomicU64>,
    control: Arc<Doorbell>,
    bell: Doorbell,
}

impl Link {
    /// A link for worker number `worker` with `records` records, of which `queue` may wait at once. `control` is
    /// the bell and `generation` the cache generation that all workers share.
    pub fn new(
        worker: usize,
        queue: usize,
        records: usize,
        control: Arc<Doorbell>,
        generation: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        Ok(Link {
            worker,
            stats: WorkerStats::default(),
            latencies: Mailbox::default(),
            port: PortCell::default(),
            leave: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            policy: ArrayQueue::new(1),
            punts: ArrayQueue::new(queue.max(1)),
            // Every record fits, so the way back never fails.
            answers: ArrayQueue::new(records.max(1)),
            generation,
            control,
            bell: Doorbell::new()?,
        })
    }

    /// Worker: sends a record; hands it back when the queue is full. Does not wake: see [`Link::wake_control`].
    #[inline]
    pub fn punt(&self, record: Box<Punt>) -> Result<(), Box<Punt>> {
        self.punts.push(record)
    }

    /// Worker: wakes the control plane if it sleeps. Once a turn that punted.
    #[inline]
    pub fn wake_control(&self) {
        self.control.ring();
    }

    /// Worker: takes a record that came back.
    #[inline]
    pub fn returned(&self) -> Option<Box<Punt>> {
        self.answers.pop()
    }

    /// Worker: whether a record has come back.
    #[inline]
    pub fn has_returned(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Worker: what it sleeps on.
    pub fn bell(&self) -> &Doorbell {
        &self.bell
    }

    /// Control: takes a punt. The answer of the record's last use is dropped here.
    pub fn take(&self) -> Option<Box<Punt>> {
        let mut record = self.punts.pop()?;
        record.answer = None;
        Some(record)
    }

    /// Control: whether punts wait.
    pub fn has_punts(&self) -> bool {
        !self.punts.is_empty()
    }

    /// Control: sends a record back with its answer. Does not wake: see [`Link::wake_worker`].
    pub fn give_back(&self, record: Box<Punt>) {
        // As many slots as the worker has records.
        let returned = self.answers.push(record);
        debug_assert!(returned.is_ok(), "more records than the worker made");
    }

    /// Control: wakes the worker if it sleeps. Once a turn that gave records back.
    pub fn wake_worker(&self) {
        self.bell.ring();
    }

    /// The generation that cached entries must be of; older ones are not given out.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Asks the worker to end, and wakes it.
    pub fn request_stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.interrupt();
    }

    /// Asks the worker to leave its loop, for whatever its thread is to look at, and wakes it.
    pub fn interrupt(&self) {
        self.leave.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Worker: whether to leave the loop.
    #[inline]
    pub fn is_interrupted(&self) -> bool {
        self.leave.load(Ordering::Acquire)
    }

    /// Worker, out of its loop: whether to go back to it. What asked for an interruption before this is seen by the
    /// caller from now on.
    pub fn resume(&self) -> bool {
        self.leave.swap(false, Ordering::AcqRel);
        !self.stop.load(Ordering::Acquire)
    }

    /// Gives the worker another policy, in place of one that it has not taken yet. It takes it within a second.
    pub fn set_policy(&self, policy: Arc<Policy>) {
        self.policy.force_push(policy);
    }

    /// A policy that the worker is to take.
    pub fn new_policy(&self) -> Option<Arc<Policy>> {
        self.policy.pop()
    }

    /// How many punts wait for the control plane.
    pub fn queued(&self) -> usize {
        self.punts.len()
    }
}

/// What a worker publishes of its port and cache from time to time, for statistics.
#[derive(Debug, Default)]
pub struct PortCell(std::sync::Mutex<Published>);

/// The published part of a worker's state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Published {
    /// The port's totals.
    pub port: crate::port::PortStats,
    /// Chunks of packet memory: free, filled, held, being sent.
    pub frames: [u64; 4],
    /// Cache occupancy.
    pub cache: crate::cache::Occupancy,
}

impl PortCell {
    /// Worker: publishes, unless somebody reads at this very moment: then next time.
    pub fn publish(&self, state: Published) {
        if let Ok(mut cell) = self.0.try_lock() {
            *cell = state;
        }
    }

    /// What was published last.
    pub fn read(&self) -> Published {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
