//! The path of a cache miss: from a worker to the control plane and back, in records that the
//! worker lends.
//!
//! A worker owns a fixed pool of records. To punt a query, it fills a record and pushes it to the
//! control plane, which attaches the answer and pushes it back. The record itself moves, so it is
//! in exactly one place, and a control plane that is slow or stuck can hold no more than the pool.

use crate::{
    cache::Scope,
    capture::CaptureDesk,
    census::CensusStats,
    clock::Nanos,
    demand::RENEWALS,
    dns::{QUESTION_MAX, answer::Answer, header, query::Query},
    doorbell::Doorbell,
    group::{Group, GroupSet},
    inspection::InspectionDesk,
    latency::Mailbox,
    limiter,
    log::AnswerSource,
    mirror::Exchanges,
    packet::{Envelope, HEADERS_MAX},
    policy::QueryPolicy,
    prefix::Prefix,
    purge::Generations,
    sighting::SightingLine,
    stats::{Counter, WorkerStats},
};
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// Most bytes of a query up to the end of its question: link headers, DNS header, question.
const HEAD_MAX: usize = HEADERS_MAX + header::LEN + QUESTION_MAX;

/// Query that the worker could not answer, or entry that should be refreshed.
#[derive(Debug)]
pub struct Punt {
    /// Parsed query.
    pub query: Query,
    /// Purpose of the answer.
    pub purpose: Purpose,
    /// Start of the turn that received the query.
    pub received: Nanos,
    /// Number of the worker's port that received the query: the reply goes out through no other.
    pub port: u32,
    /// Cache generation that the worker knew when it punted. The control plane overwrites it with
    /// the generation of the answer.
    pub generation: u64,
    /// Answer, attached by the control plane. It stays on the record until the record is used
    /// again. The control plane then drops it, so that the worker never frees memory.
    pub answer: Option<Arc<Answer>>,
    /// Whether the answer was cached before it was requested, as a failure may be (RFC 9520).
    pub known: bool,
    /// Source of the answer, for the log.
    pub source: AnswerSource,
    /// Group of the client that asked.
    pub group: Group,
    /// Groups of clients that get the answer, set by the control plane.
    pub groups: GroupSet,
    /// Whole message of a NOTIFY, and on the way back the reply to it; `None`: it gets none.
    pub notify: Option<Box<[u8]>>,
    /// Numbers of the exchange in the worker's mirrors.
    pub(crate) exchanges: Exchanges,
    /// Counter of the client in the worker's pool of records.
    pub(crate) cell: u16,
    head: [u8; HEAD_MAX],
    head_len: u16,
}

/// Purpose of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A client waits for the answer; its address is in this envelope's frame.
    Answer(Envelope),
    /// A primary waits for the reply to its NOTIFY; its address is in this envelope's frame.
    Notify(Envelope),
    /// A client waits and gets no answer, which this counter counts. The worker caches the answer.
    Withheld(Counter),
    /// Nobody waits: the worker has given an answer, and the entry needs a refresh.
    Refresh,
    /// Nobody has asked: the control plane has prefetched an answer that this worker may have an
    /// entry for.
    Renewed,
}

impl Punt {
    /// Creates an unused record.
    pub fn new() -> Box<Self> {
        Box::new(Punt {
            query: Query::default(),
            purpose: Purpose::Refresh,
            received: 0,
            port: 0,
            generation: 0,
            answer: None,
            known: false,
            source: AnswerSource::default(),
            group: Group::DEFAULT,
            groups: GroupSet::ALL,
            notify: None,
            exchanges: Exchanges::default(),
            cell: 0,
            head: [0; HEAD_MAX],
            head_len: 0,
        })
    }

    /// Fills the record from a frame whose message begins at `message` and whose query is `query`.
    #[inline]
    pub fn fill(&mut self, frame: &[u8], message: usize, query: &Query) {
        let end = message + header::LEN + query.question_len();
        // The parser bounds both parts, so `min` never cuts in practice.
        let head = &frame[..end.min(HEAD_MAX)];
        self.head[..head.len()].copy_from_slice(head);
        self.head_len = head.len() as u16;
        self.query.clone_from(query);
    }

    /// Returns the address of the client that waits.
    pub fn client(&self) -> Option<SocketAddr> {
        match self.purpose {
            Purpose::Answer(envelope) | Purpose::Notify(envelope) => envelope.client(self.head()),
            Purpose::Withheld(_) | Purpose::Refresh | Purpose::Renewed => None,
        }
    }

    /// Returns the clients that the answer is for.
    pub fn scope(&self) -> Scope {
        Scope { group: self.group, groups: self.groups, list: self.source.list }
    }

    /// Returns link headers, DNS header and question as received.
    pub fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }

    /// Returns the question as the client wrote it: name, type, class.
    pub fn question(&self) -> &[u8] {
        let len = self.head().len();
        &self.head()[len - self.query.question_len().min(len)..]
    }
}

/// State that a worker and the control plane share.
#[derive(Debug)]
pub struct Link {
    /// Number of the worker.
    pub worker: usize,
    /// Counters of the worker.
    pub stats: WorkerStats,
    /// Queries and answers by kind.
    pub census: CachePadded<CensusStats>,
    /// Sample of questions with their clients.
    pub sightings: SightingLine,
    /// Service times of the worker.
    pub latencies: Mailbox,
    /// Questions about the worker's cache.
    pub inspections: InspectionDesk,
    /// Capture of the worker's packets, while there is one.
    pub capture: CaptureDesk,
    /// Totals of the worker's port, published by the worker once a second.
    pub port: PortCell,
    /// Set to make the worker leave its loop.
    leave: AtomicBool,
    /// Whether the worker ends after it has left its loop.
    stop: AtomicBool,
    /// New policy, until the worker takes it.
    policy: ArrayQueue<Arc<QueryPolicy>>,
    /// Prefixes that the worker found far above their limit.
    floods: ArrayQueue<Prefix>,
    punts: ArrayQueue<Box<Punt>>,
    answers: ArrayQueue<Box<Punt>>,
    /// Number of the worker's records.
    records: usize,
    /// Number of records whose questions are in flight. Only the control plane writes it, so it is
    /// in no cache line that the worker reads.
    in_flight: CachePadded<AtomicUsize>,
    /// Generations of all caches of this host.
    pub generations: Arc<Generations>,
    control: Arc<Doorbell>,
    bell: Doorbell,
}

impl Link {
    /// Creates the link of a worker, by its number, which has `records` records, of which `queue` may
    /// wait at once. `control` is the bell and `generations` the cache
    /// generations that all workers share.
    pub fn new(
        worker: usize,
        queue: usize,
        records: usize,
        control: Arc<Doorbell>,
        generations: Arc<Generations>,
    ) -> io::Result<Self> {
        Ok(Link {
            worker,
            stats: WorkerStats::default(),
            census: CachePadded::default(),
            sightings: SightingLine::default(),
            latencies: Mailbox::default(),
            inspections: InspectionDesk::default(),
            capture: CaptureDesk::default(),
            port: PortCell::default(),
            leave: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            policy: ArrayQueue::new(1),
            floods: ArrayQueue::new(limiter::FLOODS),
            punts: ArrayQueue::new(queue.max(1)),
            // Every record fits, those of prefetched answers too, so the way back never fails.
            answers: ArrayQueue::new(records + RENEWALS),
            records,
            in_flight: CachePadded::default(),
            generations,
            control,
            bell: Doorbell::new()?,
        })
    }

    /// Worker: sends a record, or returns it if the queue is full. Does not wake the control plane:
    /// see [`Link::wake_control`].
    #[inline]
    pub fn punt(&self, record: Box<Punt>) -> Result<(), Box<Punt>> {
        self.punts.push(record)
    }

    /// Worker: wakes the control plane if it sleeps. Call it once per turn that punted.
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

    /// Worker: returns the bell that it sleeps on.
    pub fn bell(&self) -> &Doorbell {
        &self.bell
    }

    /// Control: takes a punt. Drops the answer of the record's last use.
    pub fn take(&self) -> Option<Box<Punt>> {
        let mut record = self.punts.pop()?;
        record.answer = None;
        Some(record)
    }

    /// Control: whether punts wait.
    pub fn has_punts(&self) -> bool {
        !self.punts.is_empty()
    }

    /// Control: sends a record back with its answer. Does not wake the worker: see
    /// [`Link::wake_worker`].
    pub fn give_back(&self, record: Box<Punt>) {
        // The queue has as many slots as the worker has records.
        let returned = self.answers.push(record);
        debug_assert!(returned.is_ok(), "more records than the worker made");
    }

    /// Control: notes that the question of one more record is in flight.
    pub fn takes_off(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Control: notes that the question of a record is no longer in flight.
    pub fn lands(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Control: returns the number of the worker's records whose questions are not in flight.
    pub fn free_records(&self) -> usize {
        self.records.saturating_sub(self.in_flight.load(Ordering::Relaxed))
    }

    /// Control: returns the number of the worker's records.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Control: wakes the worker if it sleeps. Call it once per turn that gave records back.
    pub fn wake_worker(&self) {
        self.bell.ring();
    }

    /// Asks the worker to end, and wakes it.
    pub fn request_stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.interrupt();
    }

    /// Asks the worker to leave its loop, so that its thread can do other work, and wakes it.
    pub fn interrupt(&self) {
        self.leave.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Worker: whether to leave the loop.
    #[inline]
    pub fn is_interrupted(&self) -> bool {
        self.leave.load(Ordering::Acquire)
    }

    /// Worker, outside its loop: returns whether to go back to it. The caller must look at the
    /// causes of earlier interruptions after this call.
    pub fn resume(&self) -> bool {
        self.leave.swap(false, Ordering::AcqRel);
        !self.stop.load(Ordering::Acquire)
    }

    /// Gives the worker another policy, which replaces one that it has not taken yet. The worker
    /// takes it within a second.
    pub fn set_policy(&self, policy: Arc<QueryPolicy>) {
        self.policy.force_push(policy);
    }

    /// Returns a new policy for the worker, if there is one.
    pub fn new_policy(&self) -> Option<Arc<QueryPolicy>> {
        self.policy.pop()
    }

    /// Worker: tells of a prefix far above its limit, unless too many wait.
    pub fn tell_flood(&self, prefix: Prefix) {
        let _ = self.floods.push(prefix);
    }

    /// Control: takes a prefix that the worker found far above its limit.
    pub fn take_flood(&self) -> Option<Prefix> {
        self.floods.pop()
    }

    /// Returns the number of punts that wait for the control plane.
    pub fn queued(&self) -> usize {
        self.punts.len()
    }
}

/// State of port and cache that a worker publishes from time to time, for statistics.
#[derive(Debug, Default)]
pub struct PortCell(std::sync::Mutex<Published>);

/// Published state of a worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Published {
    /// Totals of the port.
    pub port: crate::port::PortStats,
    /// Numbers of chunks of packet memory: free, filled, held, being sent.
    pub frames: [u64; 4],
    /// Cache occupancy.
    pub cache: crate::cache::Occupancy,
}

impl PortCell {
    /// Worker: publishes its state, unless somebody is reading at this moment: then the next call
    /// does.
    pub fn publish(&self, state: Published) {
        if let Ok(mut cell) = self.0.try_lock() {
            *cell = state;
        }
    }

    /// Returns the state published last.
    pub fn read(&self) -> Published {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
