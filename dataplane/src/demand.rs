//! Reports from a worker about the entries in demand, and the prefetched answers that come back.
//!
//! Hits are answered from the worker cache, where nobody else sees them. But the sweep passes over
//! each cache entry once a minute, and sees whether it was asked for since the last pass. The
//! worker sends the questions of those entries to the control plane in [`Notes`]: batches of fixed
//! size that it lends, each in one place at a time. If no batch is free, an entry is noted at the
//! next pass. So a hit costs nothing extra.
//!
//! In the other direction, the control plane sends prefetched answers in the same kind of records
//! as punts travel in. It has been lent a few of them for this. The worker caches such an answer
//! only in place of an older one.

use crate::{
    cache::Scope,
    clock::Secs,
    dns::{
        QUESTION_MAX,
        answer::Answer,
        key::{Asked, Flags, Key},
    },
    punt::{Link, Punt, Purpose},
};
use crossbeam_queue::ArrayQueue;
use std::sync::Arc;

/// Size of a batch in bytes: room for a thousand questions of the usual length.
const BYTES: usize = 32 << 10;
/// Number of batches of a worker: twice as many as fill in half a second when a million entries are
/// in demand, so a control plane that looks twice a second is not late.
const BATCHES: usize = 16;
/// Most prefetched answers in transit to a worker at once.
pub const RENEWALS: usize = 64;

/// Batch of questions that were asked recently.
#[derive(Debug)]
pub struct Notes {
    len: usize,
    /// Sequence of entries, each of flags (1 byte), length (2 bytes) and question.
    bytes: [u8; BYTES],
}

impl Notes {
    fn new() -> Box<Self> {
        Box::new(Notes { len: 0, bytes: [0; BYTES] })
    }

    fn push(&mut self, asked: Asked<'_>) {
        let [high, low] = (asked.question.len() as u16).to_be_bytes();
        let to = &mut self.bytes[self.len..][..3 + asked.question.len()];
        to[..3].copy_from_slice(&[asked.flags.0, high, low]);
        to[3..].copy_from_slice(asked.question);
        self.len += 3 + asked.question.len();
    }

    fn is_full(&self) -> bool {
        self.len + 3 + QUESTION_MAX > BYTES
    }

    /// Iterates over the questions of the batch.
    pub fn iter(&self) -> impl Iterator<Item = Asked<'_>> {
        let mut rest = &self.bytes[..self.len];
        std::iter::from_fn(move || {
            let ([flags, high, low], tail) = rest.split_first_chunk()?;
            let (question, tail) = tail.split_at_checked(u16::from_be_bytes([*high, *low]).into())?;
            rest = tail;
            Some(Asked { question, flags: Flags(*flags) })
        })
    }
}

/// Queues that a worker and the control plane share to exchange notes and prefetched answers.
#[derive(Debug)]
pub struct DemandLine {
    written: ArrayQueue<Box<Notes>>,
    blank: ArrayQueue<Box<Notes>>,
    /// Records for prefetched answers.
    spare: ArrayQueue<Box<Punt>>,
}

impl DemandLine {
    /// Creates the queues, with all batches and records free.
    pub fn new() -> Arc<Self> {
        let demand = DemandLine {
            written: ArrayQueue::new(BATCHES),
            blank: ArrayQueue::new(BATCHES),
            spare: ArrayQueue::new(RENEWALS),
        };
        // The queues have exactly this much room.
        (0..BATCHES).for_each(|_| drop(demand.blank.push(Notes::new())));
        (0..RENEWALS).for_each(|_| drop(demand.spare.push(Punt::new())));
        Arc::new(demand)
    }

    /// Control: takes a batch.
    pub fn take(&self) -> Option<Box<Notes>> {
        self.written.pop()
    }

    /// Control: gives a batch back.
    pub fn give_back(&self, mut notes: Box<Notes>) {
        notes.len = 0;
        // The queue has room for all batches.
        drop(self.blank.push(notes));
    }

    /// Control: sends a prefetched answer of this cache generation, for the clients in `scope`, to the
    /// worker. Does not wake the worker, which looks often enough. Returns false if no record is free.
    pub fn send(&self, link: &Link, key: &Key, answer: &Arc<Answer>, scope: &Scope, generation: u64) -> bool {
        let Some(mut record) = self.spare.pop() else { return false };
        record.query.key.clone_from(key);
        record.purpose = Purpose::Renewed;
        // This drops the record's last answer here, so that the worker never frees memory.
        record.answer = Some(answer.clone());
        record.generation = generation;
        (record.group, record.groups, record.source.list) = (scope.group, scope.groups, scope.list);
        link.give_back(record);
        true
    }

    /// Worker: gives back the record of a prefetched answer.
    pub(crate) fn return_spare(&self, record: Box<Punt>) {
        // The queue has room for all records.
        drop(self.spare.push(record));
    }
}

/// The worker's end: fills batches with questions.
#[derive(Debug)]
pub(crate) struct Noter {
    pub(crate) demand: Arc<DemandLine>,
    notes: Option<Box<Notes>>,
    /// Second in which a batch was last handed on.
    handed_on: Secs,
    /// Numbers of entries noted, and of entries not noted because no batch was free.
    pub(crate) counts: [u64; 2],
}

impl Noter {
    pub(crate) fn new(demand: Arc<DemandLine>) -> Self {
        Noter { demand, notes: None, handed_on: 0, counts: [0; 2] }
    }

    /// Notes a question. Returns false if no batch is free.
    pub(crate) fn note(&mut self, asked: Asked<'_>) -> bool {
        if self.notes.is_none() {
            self.notes = self.demand.blank.pop();
        }
        let Some(notes) = &mut self.notes else {
            self.counts[1] += 1;
            return false;
        };
        notes.push(asked);
        self.counts[0] += 1;
        if notes.is_full() {
            self.hand_on();
        }
        true
    }

    /// Hands on the current batch, once a second.
    pub(crate) fn keep(&mut self, now: Secs) {
        if now != self.handed_on {
            self.handed_on = now;
            self.hand_on();
        }
    }

    fn hand_on(&mut self) {
        if let Some(notes) = self.notes.take() {
            // The queue has room for all batches.
            drop(self.demand.written.push(notes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(question: &[u8]) -> Asked<'_> {
        Asked { question, flags: Flags(question.len() as u8 & 0x11) }
    }

    #[test]
    fn what_is_noted_is_read_again() {
        let demand = DemandLine::new();
        let mut noter = Noter::new(demand.clone());
        let questions: Vec<Vec<u8>> = (5..=QUESTION_MAX).map(|len| vec![len as u8; len]).collect();
        assert!(questions.iter().all(|question| noter.note(asked(question))));
        noter.keep(1);
        let mut read = Vec::new();
        while let Some(notes) = demand.take() {
            read.extend(notes.iter().map(|asked| (asked.question.to_vec(), asked.flags)));
            demand.give_back(notes);
        }
        let written: Vec<_> =
            questions.iter().map(|question| (question.clone(), asked(question).flags)).collect();
        assert_eq!(read, written);
    }

    #[test]
    fn a_control_plane_that_does_not_look_costs_notes_and_no_memory() {
        let demand = DemandLine::new();
        let mut noter = Noter::new(demand.clone());
        let question = [7; 29];
        let noted = (0..100_000).filter(|_| noter.note(asked(&question))).count();
        let room = BATCHES * BYTES / (3 + question.len());
        assert!((room * 9 / 10..=room).contains(&noted), "{noted} of {room}");
        assert_eq!(noter.counts, [noted as u64, 100_000 - noted as u64]);
        demand.give_back(demand.take().unwrap());
        assert!(noter.note(asked(&question)), "there is room again");
    }
}
