//! Records, batches of records, and the line that batches travel on.

use super::{AnswerSource, Outcome, Protocol, Tier};
use crate::{clock::Nanos, dns::QUESTION_MAX, simd::BLOCK};
use crossbeam_queue::ArrayQueue;
use std::net::Ipv6Addr;

/// Most records of a batch.
const RECORDS: usize = 1024;
/// Room for the questions of a batch, in bytes: about 30 for each, plus the longest ones of a turn.
const QUESTIONS: usize = 56 << 10;
/// Size of the longest question in bytes, in whole blocks.
pub const ROOM: usize = QUESTION_MAX.next_multiple_of(BLOCK);

/// Record of a query, without its question.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueryRecord {
    /// Start of the turn that received the query.
    pub at: Nanos,
    /// Address of the client.
    pub client: [u8; 16],
    /// Time from then until after the reply's kick, in nanoseconds; saturating.
    pub service_ns: u32,
    /// Time that the upstream took, in microseconds.
    pub upstream_us: u32,
    /// Bytes of the answer.
    pub answer_bytes: u16,
    /// The response code, with the upper bits that are in an OPT record.
    pub rcode: u16,
    /// Position of its question in the batch.
    pub question_at: u16,
    /// Length of the question: name, type and class; 0 if there is none.
    pub question_len: u16,
    /// Outcome of the query.
    pub outcome: Outcome,
    /// Source of the answer.
    pub tier: Tier,
    /// Number of the upstream.
    pub upstream: Option<u8>,
    /// Number of the list.
    pub list: Option<u8>,
}

const _: () = assert!(size_of::<QueryRecord>() <= 48);

/// Records in the order of their answers, with their questions.
#[derive(Debug)]
pub struct Batch {
    /// Transport of the queries.
    pub(crate) protocol: Protocol,
    len: usize,
    /// Bytes of questions written so far.
    used: usize,
    records: [QueryRecord; RECORDS],
    questions: [u8; QUESTIONS],
}

const _: () = assert!(QUESTIONS <= 1 << 16);

impl Batch {
    /// Size of a batch in bytes.
    pub const BYTES: usize = size_of::<Batch>();

    /// Creates an empty batch.
    pub fn new() -> Box<Self> {
        Box::new(Batch {
            protocol: Protocol::Udp,
            len: 0,
            used: 0,
            records: [QueryRecord::default(); RECORDS],
            questions: [0; QUESTIONS],
        })
    }

    /// Returns room for one more record and its question in whole blocks; `None` if the batch is
    /// full. [`commit`](Self::commit) adds the record to the batch.
    #[inline(always)]
    pub(crate) fn room(&mut self) -> Option<(&mut QueryRecord, &mut [u8; ROOM])> {
        let record = self.records.get_mut(self.len)?;
        let question = self.questions.get_mut(self.used..)?.first_chunk_mut()?;
        record.question_at = self.used as u16;
        Some((record, question))
    }

    /// Adds the record that was written into the room.
    #[inline(always)]
    pub(crate) fn commit(&mut self) {
        self.used += usize::from(self.records[self.len % RECORDS].question_len);
        self.len += 1;
    }

    /// Whether the batch has room for `records` more, whatever their questions are.
    pub(crate) fn has_room(&self, records: usize) -> bool {
        self.len + records <= RECORDS && self.used + records * ROOM <= QUESTIONS
    }

    /// Returns the number of records.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the time at which the first record's query was received.
    pub(crate) fn since(&self) -> Option<Nanos> {
        self.records[..self.len].first().map(|record| record.at)
    }

    /// Writes the service time until `end` into the records from number `first` on.
    pub(crate) fn settle(&mut self, first: usize, end: Nanos) {
        for record in self.records[..self.len].iter_mut().skip(first) {
            record.service_ns = u32::try_from(end.saturating_sub(record.at)).unwrap_or(u32::MAX);
        }
    }

    /// Iterates over the records.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Logged<'_>> {
        self.records[..self.len].iter().map(|record| Logged {
            at: record.at,
            client: record.client.into(),
            question: &self.questions[usize::from(record.question_at)..][..usize::from(record.question_len)],
            protocol: self.protocol,
            outcome: record.outcome,
            rcode: record.rcode,
            answer_bytes: record.answer_bytes,
            service_ns: record.service_ns,
            source: AnswerSource {
                tier: record.tier,
                upstream: record.upstream,
                upstream_us: record.upstream_us,
                list: record.list,
            },
        })
    }
}

/// Query that was answered, as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged<'a> {
    /// Time at which it was received.
    pub at: Nanos,
    /// Address of the client; IPv4 as `::ffff:a.b.c.d`.
    pub client: Ipv6Addr,
    /// Question: lowercased wire-format name, type, class. Empty if there was none that could be
    /// parsed.
    pub question: &'a [u8],
    /// Transport of the query.
    pub protocol: Protocol,
    /// Outcome of the query.
    pub outcome: Outcome,
    /// The response code.
    pub rcode: u16,
    /// Bytes of the answer's message.
    pub answer_bytes: u16,
    /// Time until it was sent, in nanoseconds; saturating.
    pub service_ns: u32,
    /// Source of the answer.
    pub source: AnswerSource,
}

/// Line between a worker and the collector. Each direction has as many slots as there are batches,
/// so that a batch never gets stuck.
#[derive(Debug)]
pub struct Line {
    full: ArrayQueue<Box<Batch>>,
    empty: ArrayQueue<Box<Batch>>,
}

impl Line {
    /// Creates a line with `batches` empty batches, at least two.
    pub fn new(batches: usize) -> Self {
        let batches = batches.max(2);
        let line = Line { full: ArrayQueue::new(batches), empty: ArrayQueue::new(batches) };
        for _ in 0..batches {
            line.give_back(Batch::new());
        }
        line
    }

    /// Worker: takes an empty batch.
    pub(crate) fn take_empty(&self) -> Option<Box<Batch>> {
        self.empty.pop()
    }

    /// Worker: hands a batch on.
    pub(crate) fn hand_on(&self, batch: Box<Batch>) {
        let handed = self.full.push(batch);
        debug_assert!(handed.is_ok(), "more batches than the line was made with");
    }

    /// Collector: takes a batch.
    pub fn collect(&self) -> Option<Box<Batch>> {
        self.full.pop()
    }

    /// Collector: gives a batch back, to be filled again.
    pub fn give_back(&self, mut batch: Box<Batch>) {
        (batch.len, batch.used) = (0, 0);
        let given = self.empty.push(batch);
        debug_assert!(given.is_ok(), "more batches than the line was made with");
    }
}
