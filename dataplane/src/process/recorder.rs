//! Recorder of a worker's query log.

use crate::log::{
    AnswerSource, Batch, Line, LogConfig, Outcome, Picks, Protocol, Sieve, Tier,
    batch::{QueryRecord, ROOM},
};
use crate::{
    clock::Nanos,
    dns::{
        header::{self, Header},
        key::Key,
        reply::Age,
    },
    frame::{Frame, Frames, WINDOW},
    packet::{Envelope, plain},
    port::{BURST, RETURNS_MAX},
    process::{Fates, Glanced, Slot},
    simd::BLOCK,
    stats::{Counter, WorkerStats},
};
use std::{sync::Arc, time::Duration};
use zerocopy::FromBytes;

/// Most records of one turn.
const TURN: usize = BURST + RETURNS_MAX;
/// Time after which a batch with a record in it is handed on at the latest, in nanoseconds.
const PATIENCE: Nanos = 100_000_000;

/// Recorder of one worker.
pub struct Recorder {
    line: Arc<Line>,
    sieve: Arc<Sieve>,
    /// Sampling of the queries answered in bursts.
    picks: Picks,
    /// Sampling of the punts that come back.
    returned: Picks,
    /// Transport of the recorded queries.
    protocol: Protocol,
    /// Batch that is being filled; `None`: not started, or no batch was free.
    batch: Option<Box<Batch>>,
    /// Number of records from earlier turns, whose service times are set.
    settled: usize,
    tally: RecorderTally,
}

/// Numbers not yet added to the worker's counters.
#[derive(Default)]
struct RecorderTally {
    recorded: u64,
    excluded: u64,
    no_batch: u64,
}

impl Recorder {
    /// Creates a recorder that works as `setup` says, for queries that arrive over `protocol`.
    pub fn new(setup: LogConfig, protocol: Protocol) -> Self {
        let LogConfig { line, sieve, seed } = setup;
        Recorder {
            picks: sieve.picks(seed),
            returned: sieve.picks(!seed),
            protocol,
            line,
            sieve,
            batch: None,
            settled: 0,
            tally: RecorderTally::default(),
        }
    }

    /// Notes the answers among the frames of a burst, which were received at `at` and are not sent
    /// yet.
    #[inline(never)]
    pub fn note_burst(&mut self, at: Nanos, frames: &Frames, burst: &[Frame], fates: &Fates<'_>) {
        let (mut from, len) = (0, burst.len());
        while let Some(nth) = self.picks.next_in(from, len) {
            from = nth + 1;
            match fates.slot(nth) {
                None => {
                    if let Some(glanced) = fates.glanced(nth) {
                        self.note_glanced(at, frames.window(&burst[nth]), &glanced);
                    }
                }
                Some(slot) if slot.verdict.is_reply() => {
                    self.note_slot(at, frames.packet(&burst[nth]), slot);
                }
                Some(_) => {}
            }
        }
    }

    /// Notes a reply to a query that was answered at a glance.
    #[inline(always)]
    fn note_glanced(&mut self, at: Nanos, window: &[u8; WINDOW], glanced: &Glanced<'_>) {
        let (client, message) = plain::reply(window, glanced.v6);
        let rcode = window[message + 3] & header::RCODE as u8;
        let udp_len = u16::from_be_bytes(*plain::bytes(window, message - 4));
        let fates = fate(glanced, rcode);
        let reply = RecordedReply { at, client, answer_bytes: udp_len - 8, rcode: rcode.into() };
        self.note(reply, fates, glanced.len, |question| {
            question[..BLOCK].copy_from_slice(glanced.block);
            if glanced.len > BLOCK {
                question[BLOCK..][..glanced.beyond.len()].copy_from_slice(glanced.beyond);
            }
        });
    }

    /// Notes a reply that needed a closer look.
    fn note_slot(&mut self, at: Nanos, packet: &[u8], slot: &Slot) {
        let source = match slot.outcome {
            Outcome::Rejected => AnswerSource::default(),
            _ => AnswerSource::of(Tier::Core).by(slot.list),
        };
        let Some(mut reply) = RecordedReply::read(at, packet, slot.envelope) else { return };
        // The upper bits of a response code above 15 are in the OPT record.
        reply.rcode |= slot.rcode & !header::RCODE;
        self.note_key(reply, (source, slot.outcome), &slot.query.key, slot.query.question_len());
    }

    /// Notes the answer to a query that was received at `at` and had to wait for the control plane.
    pub fn note_returned(
        &mut self,
        at: Nanos,
        packet: &[u8],
        envelope: Envelope,
        key: &Key,
        answer: (AnswerSource, Outcome),
    ) {
        if !self.returned.take() {
            return;
        }
        if let Some(reply) = RecordedReply::read(at, packet, envelope) {
            self.note_key(reply, answer, key, key.question().len());
        }
    }

    fn note_key(
        &mut self,
        reply: RecordedReply,
        answer: (AnswerSource, Outcome),
        key: &Key,
        question_len: usize,
    ) {
        // If there is no question, the key still holds another query's.
        let blocks = &key.blocks()[..question_len.div_ceil(BLOCK).min(key.blocks().len())];
        let blocks = blocks.as_flattened();
        self.note(reply, answer, question_len, |question| question[..blocks.len()].copy_from_slice(blocks));
    }

    /// Adds a record whose question `write` writes.
    #[inline(always)]
    fn note(
        &mut self,
        reply: RecordedReply,
        (source, outcome): (AnswerSource, Outcome),
        question_len: usize,
        write: impl FnOnce(&mut [u8; ROOM]),
    ) {
        if self.batch.is_none() {
            self.open();
        }
        let question_len = question_len.min(ROOM);
        let Some((record, question)) = self.batch.as_mut().and_then(|batch| batch.room()) else {
            let mut question = [0; ROOM];
            write(&mut question);
            return self.lose(&reply, &question[..question_len]);
        };
        write(question);
        if self.sieve.excludes(&reply.client, &question[..question_len]) {
            self.tally.excluded += 1;
            return;
        }
        *record = QueryRecord {
            at: reply.at,
            client: reply.client,
            service_ns: 0,
            upstream_us: source.upstream_us,
            answer_bytes: reply.answer_bytes,
            rcode: reply.rcode,
            question_at: record.question_at,
            question_len: question_len as u16,
            outcome,
            tier: source.tier,
            upstream: source.upstream,
            list: source.list,
        };
        if let Some(batch) = &mut self.batch {
            batch.commit();
        }
        self.tally.recorded += 1;
    }

    /// Counts a record that is lost because no batch is free.
    #[cold]
    #[inline(never)]
    fn lose(&mut self, reply: &RecordedReply, question: &[u8]) {
        if self.sieve.excludes(&reply.client, question) {
            self.tally.excluded += 1;
        } else {
            self.tally.recorded += 1;
            self.tally.no_batch += 1;
        }
    }

    #[cold]
    fn open(&mut self) {
        self.batch = self.line.take_empty();
        if let Some(batch) = &mut self.batch {
            batch.protocol = self.protocol;
        }
        self.settled = 0;
    }

    /// Notes queries that arrive over `protocol` from now on. Hands on the records so far.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.hand_on();
        // An empty batch in hand still has the old protocol.
        if let Some(batch) = &mut self.batch {
            batch.protocol = protocol;
        }
        self.protocol = protocol;
    }

    /// Ends a turn: the answers noted in it were sent by `end`.
    #[inline(never)]
    pub fn settle(&mut self, end: Nanos, stats: &WorkerStats) {
        let RecorderTally { recorded, excluded, no_batch } = std::mem::take(&mut self.tally);
        stats.add(Counter::LogRecorded, recorded);
        stats.add(Counter::LogExcluded, excluded);
        stats.add(Counter::LogNoBatch, no_batch);
        let Some(batch) = &mut self.batch else { return };
        batch.settle(self.settled, end);
        self.settled = batch.len();
        if !batch.has_room(TURN) {
            self.hand_on();
        }
    }

    /// Hands on a batch that has waited long enough. For between turns.
    pub fn keep(&mut self, now: Nanos) {
        if self.due(now).is_some_and(|left| left.is_zero()) {
            self.hand_on();
        }
    }

    /// Returns the time that the batch in hand may still wait; `None` if there is none.
    pub fn due(&self, now: Nanos) -> Option<Duration> {
        let since = self.batch.as_ref()?.since()?;
        Some(Duration::from_nanos((since + PATIENCE).saturating_sub(now)))
    }

    /// Hands on the batch in hand.
    pub fn hand_on(&mut self) {
        if let Some(batch) = self.batch.take_if(|batch| !batch.is_empty()) {
            self.line.hand_on(batch);
        }
    }
}

/// Part of a record that is read from the reply.
struct RecordedReply {
    at: Nanos,
    client: [u8; 16],
    answer_bytes: u16,
    rcode: u16,
}

impl RecordedReply {
    /// Reads the fields from a sealed frame.
    fn read(at: Nanos, packet: &[u8], envelope: Envelope) -> Option<Self> {
        let (client, message) = envelope.reply(packet)?;
        let (header, _) = Header::ref_from_prefix(message).ok()?;
        let rcode = header.flags.get() & header::RCODE;
        Some(RecordedReply { at, client: client.octets(), answer_bytes: message.len() as u16, rcode })
    }
}

/// Returns source and outcome of an answer at a glance with this response code.
#[inline(always)]
pub(super) fn fate(glanced: &Glanced<'_>, rcode: u8) -> (AnswerSource, Outcome) {
    let source = AnswerSource::of(Tier::Core).by(glanced.list);
    // Which age and which TTL does not matter.
    let age = if glanced.is_stale { Age::Stale(0) } else { Age::Fresh(0) };
    (source, source.outcome(rcode, age))
}
