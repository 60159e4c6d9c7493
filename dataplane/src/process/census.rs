//! Census of a worker's bursts.
//!
//! Counting each packet would cost a hit some instructions. So a random packet of a burst is counted for
//! all of the burst. That is exact for bursts of one packet, as a worker has them while it has little to
//! do; under load it is an estimate without bias: of `n` queries, a share `s` is told to within some
//! `sqrt(64 s / n)`.

use super::{Fates, Slot, Verdict};
use crate::{
    census::CensusStats,
    dns::{header, key::Key, rcode},
    frame::{Frame, Frames, WINDOW},
    packet::{header::EtherType, mapped, plain},
    sighting::{Rhythm, Sighting, SightingLine, Stage},
};

/// Counter of a worker's bursts.
#[derive(Debug)]
pub struct Census {
    /// State of the random numbers (PCG-like: a multiplier, and the upper bits are taken).
    state: u64,
    /// Rhythm of the sightings of queries.
    received: Rhythm,
    /// Rhythm of the sightings of answers from the control plane that a name does not exist.
    absent: Rhythm,
}

impl Census {
    /// Returns a census whose random numbers begin with `seed`.
    pub fn new(seed: u64) -> Self {
        Census { state: seed | 1, received: Rhythm::default(), absent: Rhythm::default() }
    }

    /// Counts one frame of a burst for all of them, and tells `line` of it if that is due.
    #[inline(never)]
    pub fn count(
        &mut self,
        frames: &Frames,
        burst: &[Frame],
        fates: &Fates<'_>,
        (stats, line): (&CensusStats, &SightingLine),
    ) {
        let n = burst.len() as u64;
        let nth = ((u64::from(self.draw()) * n) >> 32) as usize;
        let Some(frame) = burst.get(nth) else { return };
        let window = frames.window(frame);
        stats.add_queries(is_v6(window), n);
        if self.received.count(n) {
            self.tell(frames, frame, fates, (nth, line));
        }
        match fates.slot(nth) {
            None => {
                let Some(glanced) = fates.glanced(nth) else { return };
                let message = plain::tags_len(window) + if glanced.v6 { 62 } else { 42 };
                let rcode = window[message + 3] & header::RCODE as u8;
                stats.add_answers(glanced.qtype(), rcode.into(), n);
            }
            Some(slot) if slot.verdict.is_reply() => {
                // The key is that of an earlier query if this one has no question.
                let qtype = match slot.query.question_len() {
                    0 => 0,
                    _ => slot.query.key.asked().qtype(),
                };
                stats.add_answers(qtype, slot.rcode, n);
            }
            Some(_) => {}
        }
    }

    /// Returns a random number.
    #[inline(always)]
    fn draw(&mut self) -> u32 {
        self.state = self.state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.state >> 32) as u32
    }

    /// Tells of a query, for all since the last one. One that is dropped has no question.
    #[cold]
    #[inline(never)]
    fn tell(
        &mut self,
        frames: &Frames,
        frame: &Frame,
        fates: &Fates<'_>,
        (nth, line): (usize, &SightingLine),
    ) {
        if line.is_full() {
            return self.received.skip();
        }
        let random = self.draw();
        let weight = self.received.take(random);
        let sighting = match fates.slot(nth) {
            Some(slot) => sighting_of(slot, frames.packet(frame), weight),
            None => fates.glanced(nth).map(|glanced| {
                let window = frames.window(frame);
                let (client, message) = plain::reply(window, glanced.v6);
                let is_nxdomain = window[message + 3] & header::RCODE as u8 == rcode::NXDOMAIN;
                let blocks = [&glanced.block[..], glanced.beyond];
                Sighting::new((client, weight, Stage::Received, is_nxdomain), blocks, glanced.len)
            }),
        };
        if let Some(sighting) = sighting {
            // Only this worker fills it, and it had room.
            let _ = line.tell(sighting);
        }
    }

    /// Tells of an answer from the control plane that a name does not exist, if that is due.
    pub fn tell_absent(&mut self, client: [u8; 16], key: &Key, line: &SightingLine) {
        if !self.absent.count(1) {
            return;
        }
        if line.is_full() {
            return self.absent.skip();
        }
        let random = self.draw();
        let weight = self.absent.take(random);
        let kind = (client, weight, Stage::Resolved, true);
        let _ = line.tell(Sighting::new(kind, [key.question()], key.question().len()));
    }

    /// Adapts the number of sightings to that of queries. For once a second.
    pub fn keep(&mut self) {
        self.received.adapt();
        self.absent.adapt();
    }
}

/// Returns the sighting of a query that needed a closer look; `None`: it is dropped, or a NOTIFY.
fn sighting_of(slot: &Slot, packet: &[u8], weight: u64) -> Option<Sighting> {
    let client = match slot.verdict {
        Verdict::Reply | Verdict::ReplyAndRefresh(_) => slot.envelope.reply(packet)?.0,
        Verdict::Punt(envelope) => mapped(envelope.client(packet)?.ip()),
        Verdict::Notify(_) | Verdict::Drop(_) => return None,
    };
    let is_nxdomain = slot.verdict.is_reply() && slot.rcode == u16::from(rcode::NXDOMAIN);
    // If there is no question, the key still holds another query's.
    let len = slot.query.question_len().min(slot.query.key.question().len());
    Some(Sighting::new(
        (client.octets(), weight, Stage::Received, is_nxdomain),
        [slot.query.key.question()],
        len,
    ))
}

/// Whether a frame has an IPv6 packet, also behind a VLAN tag.
#[inline(always)]
fn is_v6(window: &[u8; WINDOW]) -> bool {
    EtherType(*plain::bytes(window, 12 + plain::tags_len(window))) == EtherType::IPV6
}
