//! Mirrors of a worker: that of dnstap, and that of a capture, which comes and goes.

use crate::{
    capture::CaptureDesk,
    clock::Nanos,
    frame::{Frame, Frames},
    log::{AnswerSource, Outcome, Protocol},
    mirror::Exchanges,
    packet::Envelope,
    process::{Fates, Mirror},
};
use arrayvec::ArrayVec;
use std::time::Duration;

/// Mirrors of a worker: none costs one branch in each place.
pub(super) struct Mirrors(ArrayVec<Box<Mirror>, { Exchanges::LEN }>);

impl Mirrors {
    /// Returns the mirrors from the start of the worker.
    pub(super) fn new(standing: Option<Box<Mirror>>) -> Self {
        Mirrors(standing.into_iter().collect())
    }

    /// Chooses frames of a burst that is not yet worked on, and copies their queries.
    #[inline(always)]
    pub(super) fn choose(&mut self, now: Nanos, frames: &Frames, burst: &[Frame]) {
        for mirror in &mut self.0 {
            mirror.choose(now, frames, burst);
        }
    }

    /// Notes the fates of the chosen frames, and copies their replies.
    #[inline(always)]
    pub(super) fn note_burst(&mut self, now: Nanos, frames: &Frames, burst: &[Frame], fates: &Fates<'_>) {
        for mirror in &mut self.0 {
            mirror.note_burst(now, frames, burst, fates);
        }
    }

    /// Returns the numbers of the exchange of a frame of the burst.
    #[inline(always)]
    pub(super) fn exchanges(&self, nth: usize) -> Exchanges {
        let mut exchanges = Exchanges::default();
        for mirror in &self.0 {
            mirror.enter(nth, &mut exchanges);
        }
        exchanges
    }

    /// Copies the reply to a query that was received at `at` and had to wait for the control plane.
    #[inline(always)]
    pub(super) fn note_returned(
        &mut self,
        (at, exchanges): (Nanos, Exchanges),
        packet: &[u8],
        envelope: Envelope,
        answer: (AnswerSource, Outcome),
    ) {
        for mirror in &mut self.0 {
            if let Some(exchange) = mirror.of(&exchanges) {
                mirror.note_returned((at, exchange), packet, envelope, answer);
            }
        }
    }

    /// Mirrors packets that arrive over `protocol` from now on.
    pub(super) fn set_protocol(&mut self, protocol: Protocol) {
        self.0.iter_mut().for_each(|mirror| mirror.set_protocol(protocol));
    }

    /// Ends a turn, whose replies were sent by `end`.
    #[inline(always)]
    pub(super) fn settle(&mut self, end: Nanos) {
        for mirror in &mut self.0 {
            mirror.settle(end);
        }
    }

    /// Hands on pages that have waited long enough.
    #[inline(always)]
    pub(super) fn keep(&mut self, now: Nanos) {
        for mirror in &mut self.0 {
            mirror.keep(now);
        }
    }

    /// Returns the time that a page in hand may still wait.
    pub(super) fn due(&self, now: Nanos) -> Option<Duration> {
        self.0.iter().filter_map(|mirror| mirror.due(now)).min()
    }

    /// Hands on the pages in hand.
    pub(super) fn hand_on(&mut self) {
        self.0.iter_mut().for_each(|mirror| mirror.hand_on());
    }

    /// Begins or ends a capture, if the control plane asks for it.
    pub(super) fn follow(&mut self, desk: &CaptureDesk, protocol: Protocol) {
        if !desk.has_order() {
            return;
        }
        let under_way = self.0.iter().position(|mirror| mirror.is_capture()).map(|at| self.0.remove(at));
        if let Some(mut capture) = desk.serve(under_way) {
            capture.set_protocol(protocol);
            // There is room: this place was that of the capture before.
            let _ = self.0.try_push(capture);
        }
    }
}
