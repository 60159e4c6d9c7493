//! What a worker tells the control plane of what it is asked for, and the renewed answers that it gets unasked.
//!
//! Hits go by the worker's own cache, and nobody else sees them. But once a minute the cache's own sweep passes over each entry,
//! and there it is seen whether that was asked for since. The questions of those entries go to the control plane in
//! [`Notes`], which the worker lends: batches of fixed size that are in one place at a time. Where all are on their way,
//! an entry is noted the next time. So a hit knows nothing of it.
//!
//! The other way, the control plane sends what it has renewed in records of the same kind as misses travel in, of which it
//! has been lent a few for this. The worker files such an answer only in place of an older one.

use crate::{
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

/// Bytes of a batch: a thousand questions of the usual length.
const BYTES: usize = 32 << 10;
/// Batches of a worker: with twice as many as are filled in half a second when a million entries are in demand, a control
/// plane that looks twice a second is not late.
const BATCHES: usize = 16;
/// Renewed answers on their way to a worker at once.
pub const RENEWALS: usize = 64;

/// Questions that were asked of late.
#[derive(Debug)]
pub struct Notes {
    len: usize,
    /// Flags, length, question; and so on.
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

    /// What is in it.
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

/// What a worker and the control plane share for this.
#[derive(Debug)]
pub struct Demand {
    written: ArrayQueue<Box<Notes>>,
    blank: ArrayQueue<Box<Notes>>,
    /// Records for renewed answers.
    spare: ArrayQueue<Box<Punt>>,
}

impl Demand {
    /// With nothing on its way. The [`Link`] that it goes with must have room for [`RENEWALS`] more records than its worker has.
    pub fn new() -> Arc<Self> {
        let demand = Demand {
            written: ArrayQueue::new(BATCHES),
            blank: ArrayQueue::new(BATCHES),
            spare: ArrayQueue::new(RENEWALS),
        };
        // As many as there is room for.
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
        // There is room for all.
        drop(self.blank.push(notes));
    }

    /// Control: sends a renewed answer, of this generation, to the worker. Does not wake it: it looks often enough. False if too many
    /// are on their way.
    pub fn send(&self, link: &Link, key: &Key, answer: &Arc<Answer>, generation: u64) -> bool {
        let Some(mut record) = self.spare.pop() else { return false };
        record.query.key.clone_from(key);
        record.purpose = Purpose::Renewed;
        // What the record brought the last time is dropped here, and not by the worker.
        record.answer = Some(answer.clone());
        record.generation = generation;
        link.give_back(record);
        true
    }

    /// Worker: gives back what a renewed answer came in.
    pub(crate) fn return_spare(&self, record: Box<Punt>) {
        // There is room for all.
        drop(self.spare.push(record));
    }
}

/// The worker's end.
#[derive(Debug)]
pub(crate) struct Noter {
    pub(crate) demand: Arc<Demand>,
    notes: Option<Box<Notes>>,
    /// The second in which something was handed on.
    handed_on: Secs,
    /// Entries noted, and those that were not because there was no batch.
    pub(crate) counts: [u64; 2],
}

impl Noter {
    pub(crate) fn new(demand: Arc<Demand>) -> Self {
        Noter { demand, notes: None, handed_on: 0, counts: [0; 2] }
    }

    /// Notes a question. False if there is no batch for it.
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

    /// Hands on what there is, once a second.
    pub(crate) fn keep(&mut self, now: Secs) {
        if now != self.handed_on {
            self.handed_on = now;
            self.hand_on();
        }
    }

    fn hand_on(&mut self) {
        if let Some(notes) = self.notes.take() {
            // There is room for all.
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
        let demand = Demand::new();
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
        let demand = Demand::new();
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
