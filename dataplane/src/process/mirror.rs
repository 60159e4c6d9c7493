//! Mirror of a worker's packets: copies the sampled ones into pages.

use super::{Fates, Slot, recorder::fate};
use crate::{
    clock::Nanos,
    dns::header,
    frame::{Frame, Frames},
    log::{AnswerSource, Outcome, Picks, Protocol, Tier},
    mirror::{Direction, Directions, Exchanges, Fate, MirrorConfig, MirrorLine, PacketRecord, Page},
    packet::{Envelope, plain::Window},
    port::BURST,
    process::Verdict,
    stats::DropReason,
};
use std::{sync::Arc, time::Duration};

/// Time after which a page with a packet in it is handed on at the latest, in nanoseconds.
const PATIENCE: Nanos = 100_000_000;

/// Use of a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorUse {
    /// dnstap, as long as the worker runs.
    Dnstap,
    /// Capture, for a time.
    Capture {
        /// Number from which its exchanges are counted.
        first: u64,
    },
}

/// Mirror of one worker.
#[derive(Debug)]
pub struct Mirror {
    line: Arc<MirrorLine>,
    used: MirrorUse,
    picks: Picks,
    directions: Directions,
    protocol: Protocol,
    /// Page that is being filled; `None`: not started, or no page was free.
    page: Option<Box<Page>>,
    /// Number of packets from earlier turns, which are settled.
    settled: usize,
    /// A bit for each frame of the burst that is mirrored.
    picked: u64,
    /// Records of the queries of the burst, by frame.
    queries: [Option<usize>; BURST],
    /// Number of the exchange of the burst's first frame.
    first: u64,
    /// Packets to be mirrored, and those lost among them, that are not yet counted.
    tally: [u64; 2],
}

impl Mirror {
    /// Creates a mirror of packets that arrive over `protocol`.
    pub fn new(setup: MirrorConfig, protocol: Protocol, used: MirrorUse) -> Self {
        let MirrorConfig { line, sieve, directions, seed } = setup;
        let picks = sieve.picks(seed);
        let (page, queries) = (None, [None; BURST]);
        let (settled, picked, tally) = (0, 0, [0; 2]);
        let first = match used {
            MirrorUse::Dnstap => 0,
            MirrorUse::Capture { first } => first,
        };
        Mirror { line, used, picks, directions, protocol, page, settled, picked, queries, first, tally }
    }

    /// Chooses frames of a burst, which was received at `at` and is not yet worked on, and copies
    /// their queries.
    #[inline(never)]
    pub fn choose(&mut self, at: Nanos, frames: &Frames, burst: &[Frame]) {
        self.first += BURST as u64;
        self.picked = 0;
        let mut from = 0;
        while let Some(nth) = self.picks.next_in(from, burst.len()) {
            if from == 0 {
                self.open();
            }
            from = nth + 1;
            self.picked |= 1 << (nth % BURST);
            if self.directions.queries
                && let Some(frame) = burst.get(nth)
            {
                let record = PacketRecord {
                    received: at,
                    exchange: self.first + nth as u64,
                    direction: Direction::Query,
                    ..PacketRecord::default()
                };
                self.queries[nth % BURST] = self.copy(record, frames.packet(frame));
            }
        }
    }

    /// Enters the number of the exchange of a frame of the burst, if it is mirrored.
    #[inline]
    pub(crate) fn enter(&self, nth: usize, exchanges: &mut Exchanges) {
        let exchange = (self.picked >> (nth % BURST) & 1 != 0).then_some(self.first + nth as u64);
        *match self.used {
            MirrorUse::Dnstap => &mut exchanges.dnstap,
            MirrorUse::Capture { .. } => &mut exchanges.capture,
        } = exchange;
    }

    /// Returns the number of an exchange in this mirror; `None`: its query is not in it.
    #[inline]
    pub(crate) fn of(&self, exchanges: &Exchanges) -> Option<u64> {
        match self.used {
            MirrorUse::Dnstap => exchanges.dnstap,
            // A query may have waited since an earlier capture.
            MirrorUse::Capture { first } => exchanges.capture.filter(|exchange| *exchange >= first),
        }
    }

    /// Whether it is the mirror of a capture.
    pub fn is_capture(&self) -> bool {
        matches!(self.used, MirrorUse::Capture { .. })
    }

    /// Notes the fates of the chosen frames, and copies their replies, which are not sent yet.
    #[inline(never)]
    pub fn note_burst(&mut self, at: Nanos, frames: &Frames, burst: &[Frame], fates: &Fates<'_>) {
        let mut left = self.picked;
        while left != 0 {
            let nth = left.trailing_zeros() as usize;
            left &= left - 1;
            let (Some(frame), exchange) = (burst.get(nth), self.first + nth as u64) else { continue };
            let packet = frames.packet(frame);
            let (envelope, fate) = match fates.slot(nth) {
                Some(slot) => of_slot(slot),
                None => of_glance(frames.window(frame), fates, nth),
            };
            let query = self.queries[nth % BURST].take();
            if let Some(record) = query.and_then(|query| self.page.as_mut()?.record(query)) {
                (record.envelope, record.fate) = (envelope, fate);
            }
            if self.directions.replies && matches!(fate, Fate::Answered(..)) {
                let direction = Direction::Reply;
                let record = PacketRecord { received: at, exchange, fate, envelope, direction, settled: 0 };
                self.copy(record, packet);
            }
        }
    }

    /// Copies the reply to a query that was received at `at` and had to wait for the control plane.
    #[cold]
    pub fn note_returned(
        &mut self,
        (at, exchange): (Nanos, u64),
        packet: &[u8],
        envelope: Envelope,
        (source, outcome): (AnswerSource, Outcome),
    ) {
        if self.directions.replies {
            self.open();
            let (fate, direction) = (Fate::Answered(outcome, source), Direction::Reply);
            let record = PacketRecord { received: at, exchange, fate, envelope, direction, settled: 0 };
            self.copy(record, packet);
        }
    }

    /// Copies a packet, and returns the number of its record; `None`: there is no room.
    #[inline]
    fn copy(&mut self, record: PacketRecord, packet: &[u8]) -> Option<usize> {
        let added = self.page.as_mut().and_then(|page| page.add(record, packet));
        self.tally[0] += 1;
        self.tally[1] += u64::from(added.is_none());
        added
    }

    /// Takes an empty page unless there is one in hand. Once a burst: while the reader has all pages,
    /// packets are lost at no price but for their count.
    fn open(&mut self) {
        if self.page.is_some() {
            return;
        }
        self.page = self.line.take_empty();
        if let Some(page) = &mut self.page {
            page.protocol = self.protocol;
        }
        self.settled = 0;
    }

    /// Mirrors packets that arrive over `protocol` from now on. Hands on the packets so far.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.hand_on();
        // An empty page in hand still has the old protocol.
        if let Some(page) = &mut self.page {
            page.protocol = protocol;
        }
        self.protocol = protocol;
    }

    /// Ends a turn: the replies mirrored in it were sent by `end`.
    #[inline(never)]
    pub fn settle(&mut self, end: Nanos) {
        if !self.count() {
            return;
        }
        let Some(page) = &mut self.page else { return };
        page.settle(self.settled, end);
        self.settled = page.len();
        if !page.has_room() {
            self.hand_on();
        }
    }

    /// Publishes the numbers of packets so far. Returns whether there were any since the last time.
    pub fn count(&mut self) -> bool {
        let [offered, lost] = std::mem::take(&mut self.tally);
        if offered > 0 {
            self.line.count(offered, lost);
        }
        offered > 0
    }

    /// Hands on a page that has waited long enough. For between turns.
    pub fn keep(&mut self, now: Nanos) {
        if self.due(now).is_some_and(|left| left.is_zero()) {
            self.hand_on();
        }
    }

    /// Returns the time that the page in hand may still wait; `None` if there is none.
    pub fn due(&self, now: Nanos) -> Option<Duration> {
        let since = self.page.as_ref()?.since()?;
        Some(Duration::from_nanos((since + PATIENCE).saturating_sub(now)))
    }

    /// Hands on the page in hand.
    pub fn hand_on(&mut self) {
        if let Some(page) = self.page.take_if(|page| !page.is_empty()) {
            self.line.hand_on(page);
        }
    }
}

impl Drop for Mirror {
    /// Hands on what has been counted, even if the worker ends without a request.
    fn drop(&mut self) {
        if let Some(page) = &mut self.page {
            // Packets of a turn that has not ended are not counted.
            page.truncate(self.settled);
        }
        self.hand_on();
    }
}

/// Returns envelope and fate of a frame that got a closer look.
fn of_slot(slot: &Slot) -> (Envelope, Fate) {
    let fate = match slot.verdict {
        Verdict::Reply | Verdict::ReplyAndRefresh(_) => {
            let source = match slot.outcome {
                Outcome::Rejected => AnswerSource::default(),
                _ => AnswerSource::of(Tier::Core).by(slot.list),
            };
            Fate::Answered(slot.outcome, source)
        }
        Verdict::Punt(_) | Verdict::Notify(_) => Fate::Punted,
        Verdict::Drop(reason) => Fate::Dropped(reason),
    };
    let envelope = match slot.verdict {
        // Such a packet was not opened: the slot has the envelope of an earlier one.
        Verdict::Drop(
            DropReason::NotIp
            | DropReason::NotPlainUdp
            | DropReason::BadLength
            | DropReason::BadChecksum
            | DropReason::BadSource,
        ) => Envelope::default(),
        _ => slot.envelope,
    };
    (envelope, fate)
}

/// Returns envelope and fate of a frame that was answered at a glance.
fn of_glance(window: &Window, fates: &Fates<'_>, nth: usize) -> (Envelope, Fate) {
    let glanced = fates.glanced(nth);
    let envelope = Envelope::of_glance(window, glanced.is_some_and(|glanced| glanced.v6));
    let rcode = window[envelope.message() + 3] & header::RCODE as u8;
    let (source, outcome) = glanced.map_or_else(Default::default, |glanced| fate(&glanced, rcode));
    (envelope, Fate::Answered(outcome, source))
}
