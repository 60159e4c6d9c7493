//! Replies of one socket that are to be sent.

use super::{BATCH, names, runs::Runs};
use crate::frame::{Frame, Frames};
use arrayvec::ArrayVec;
use std::collections::VecDeque;

/// Frames to send, the oldest first.
pub(super) struct Backlog {
    frames: VecDeque<Frame>,
    /// Number of the oldest frames that join no run, since the kernel refused one of theirs.
    apart: usize,
}

impl Backlog {
    /// Returns an empty backlog with room for `frames`.
    pub(super) fn new(frames: u32) -> Self {
        Backlog { frames: VecDeque::with_capacity(frames as usize), apart: 0 }
    }

    /// Returns the number of frames.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn push(&mut self, frame: Frame) {
        self.frames.push_back(frame);
    }

    /// Returns the frames of one system call, and whether each may join a run.
    pub(super) fn oldest(&self) -> impl Iterator<Item = (&Frame, bool)> {
        let apart = self.apart;
        self.frames.iter().take(BATCH).enumerate().map(move |(number, frame)| (frame, number >= apart))
    }

    /// Keeps the oldest `count` frames out of runs.
    pub(super) fn part(&mut self, count: usize) {
        self.apart = count;
    }

    /// Cuts the oldest reply, which exceeds the MTU of the interface where it leaves: the client asks
    /// again over TCP (RFC 9715). Returns false if it cannot be cut.
    ///
    /// Only the kernel knows the interface: routes choose it for each client.
    #[cold]
    pub(super) fn cut_oldest(&mut self, frames: &mut Frames) -> bool {
        self.frames.front_mut().is_some_and(|frame| names::cut(frames.buffer(frame)))
    }

    /// Releases the oldest frame, which cannot be sent.
    pub(super) fn drop_oldest(&mut self, frames: &mut Frames) {
        self.apart = self.apart.saturating_sub(1);
        self.frames.drain(..1).for_each(|frame| frames.release(frame));
    }

    /// Releases the frames of the first `sent` of the `runs`, into which the oldest frames were
    /// arranged. Returns their number.
    pub(super) fn release_sent(&mut self, runs: &Runs, sent: usize, frames: &mut Frames) -> usize {
        let all = runs.as_slice();
        let count = all.iter().take(sent).map(|run| usize::from(run.count)).sum();
        self.apart = self.apart.saturating_sub(count);
        if sent >= all.len() {
            self.frames.drain(..count).for_each(|frame| frames.release(frame));
            return count;
        }
        let mut is_sent = [false; BATCH];
        all.iter().take(sent).flat_map(|run| runs.replies(*run)).for_each(|number| is_sent[number] = true);
        let arranged: usize = all.iter().map(|run| usize::from(run.count)).sum();
        let mut kept = ArrayVec::<Frame, BATCH>::new();
        for (frame, is_sent) in self.frames.drain(..arranged).zip(is_sent) {
            if is_sent { frames.release(frame) } else { kept.push(frame) }
        }
        kept.into_iter().rev().for_each(|frame| self.frames.push_front(frame));
        count
    }
}
