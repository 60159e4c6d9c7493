//! Records, batches of them, and the line that batches travel on.

use super::{Outcome, Protocol, Source, Tier};
use crate::{clock::Nanos, dns::QUESTION_MAX, simd::BLOCK};
use crossbeam_queue::ArrayQueue;
use std::net::Ipv6Addr;

/// Records of a batch.
const RECORDS: usize = 1024;
/// Bytes of a batch's questions: some 30 for each, and a turn's longest.
const QUESTIONS: usize = 56 << 10;
/// A question in whole blocks.
pub const ROOM: usize = QUESTION_MAX.next_multiple_of(BLOCK);

/// What is recorded of a query, beside its question.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record {
    /// When the turn began that received it.
    pub at: Nanos,
    /// Who asked.
    pub client: [u8; 16],
    /// From then until after the reply's kick, in nanoseconds; saturating.
    pub service_ns: u32,
    /// How long the upstream took, in microseconds.
    pub upstream_us: u32,
    /// Bytes of the answer.
    pub answer_bytes: u16,
    /// The response code, with the upper bits that are in an OPT record.
    pub rcode: u16,
    /// Where its question stands in the batch.
    pub question_at: u16,
    /// How long that is: name, type and class; 0 where there is none.
    pub question_len: u16,
    /// What became of it.
    pub outcome: Outcome,
    /// Who had the answer.
    pub tier: Tier,
    /// Which upstream.
    pub upstream: Option<u8>,
}

const _: () = assert!(size_of::<Record>() <= 48);

/// Records in the order of their answers, and the questions that they are of.
#[derive(Debug)]
pub struct Batch {
    /// How the queries came.
    pub(super) protocol: Protocol,
    len: usize,
    /// Bytes of questions so far.
    used: usize,
    records: [Record; RECORDS],
    questions: [u8; QUESTIONS],
}

const _: () = assert!(QUESTIONS <= 1 << 16);

impl Batch {
    /// Bytes of one.
    pub const BYTES: usize = size_of::<Batch>();

    /// An empty one.
    pub fn new() -> Box<Self> {
        Box::new(Batch {
            protocol: Protocol::Udp,
            len: 0,
            used: 0,
            records: [Record::default(); RECORDS],
            questions: [0; QUESTIONS],
        })
    }

    /// Room for one more record, and for its question in whole blocks; `None` if it is full. It is in the batch once
    /// [`commit`](Self::commit) says so.
    #[inline(always)]
    pub(super) fn room(&mut self) -> Option<(&mut Record, &mut [u8; ROOM])> {
        let record = self.records.get_mut(self.len)?;
        let question = self.questions.get_mut(self.used..)?.first_chunk_mut()?;
        record.question_at = self.used as u16;
        Some((record, question))
    }

    /// Takes what was written into the room.
    #[inline(always)]
    pub(super) fn commit(&mut self) {
        self.used += usize::from(self.records[self.len % RECORDS].question_len);
        self.len += 1;
    }

    /// Whether `records` more find room, whatever they ask.
    pub(super) fn has_room(&self, records: usize) -> bool {
        self.len + records <= RECORDS && self.used + records * ROOM <= QUESTIONS
    }

    /// How many records are in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// When the first one's query was received.
    pub(super) fn since(&self) -> Option<Nanos> {
        self.records[..self.len].first().map(|record| record.at)
    }

    /// Writes into the records from number `first` on how long they took until `end`.
    pub(super) fn settle(&mut self, first: usize, end: Nanos) {
        for record in self.records[..self.len].iter_mut().skip(first) {
            record.service_ns = u32::try_from(end.saturating_sub(record.at)).unwrap_or(u32::MAX);
        }
    }

    /// What is in it.
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
            source: Source { tier: record.tier, upstream: record.upstream, upstream_us: record.upstream_us },
        })
    }
}

/// A query that was answered, as a record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged<'a> {
    /// When it was received.
    pub at: Nanos,
    /// Who asked; IPv4 as `::ffff:a.b.c.d`.
    pub client: Ipv6Addr,
    /// The question: name on the wire, lowercased, type, class. Empty if there was none that can be understood.
    pub question: &'a [u8],
    /// How it came.
    pub protocol: Protocol,
    /// What became of it.
    pub outcome: Outcome,
    /// The response code.
    pub rcode: u16,
    /// Bytes of the answer's message.
    pub answer_bytes: u16,
    /// Nanoseconds until it was sent; saturating.
    pub service_ns: u32,
    /// Where the answer was found.
    pub source: Source,
}

/// The line between a worker and who collects: as many slots each way as there are batches, so that none is ever stuck.
#[derive(Debug)]
pub struct Line {
    full: ArrayQueue<Box<Batch>>,
    empty: ArrayQueue<Box<Batch>>,
}

impl Line {
    /// A line with `batches` of them, empty, at least two.
    pub fn new(batches: usize) -> Self {
        let batches = batches.max(2);
        let line = Line { full: ArrayQueue::new(batches), empty: ArrayQueue::new(batches) };
        for _ in 0..batches {
            line.give_back(Batch::new());
        }
        line
    }

    /// Worker: takes an empty batch.
    pub(super) fn take_empty(&self) -> Option<Box<Batch>> {
        self.empty.pop()
    }

    /// Worker: hands a batch on.
    pub(super) fn hand_on(&self, batch: Box<Batch>) {
        let handed = self.full.push(batch);
        debug_assert!(handed.is_ok(), "more batches than the line was made with");
    }

    /// Collector: takes a batch.
    pub fn collect(&self) -> Option<Box<Batch>> {
        self.full.pop()
    }

    /// Collector: gives it back, to be filled again.
    pub fn give_back(&self, mut batch: Box<Batch>) {
        (batch.len, batch.used) = (0, 0);
        let given = self.empty.push(batch);
        debug_assert!(given.is_ok(), "more batches than the line was made with");
    }
}
