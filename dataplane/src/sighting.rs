//! Sightings: a sample of questions with their clients, for counts of the most frequent ones.
//!
//! The census of a worker looks at a packet of each burst anyway. Every so many queries it copies
//! client and question of that packet, with the number of queries that it stands for, into a line to
//! the control plane. So many are chosen each second that a busy worker tells about
//! [`PER_SECOND`] of them, and one with little to do about each of its bursts. If the line is full, as
//! when a flood begins, queries are left out until the worker has come down to fewer sightings: one
//! that stood for all of them would make its name the most frequent.

use crate::dns::QUESTION_MAX;
use crossbeam_queue::ArrayQueue;

/// Sightings a second that a worker aims at.
pub const PER_SECOND: u64 = 1000;
/// Sightings that a line holds: those of a quarter of a second.
const LINE: usize = 256;

/// Part of a query's way at which it was sighted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Receipt of the query.
    Received,
    /// Answer of the control plane to a query that was received earlier.
    Resolved,
}

/// Question and client of a query.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// Address of the client; IPv4 as `::ffff:a.b.c.d`.
    pub client: [u8; 16],
    /// Number of queries that this one stands for.
    pub weight: u64,
    /// Part of its way.
    pub stage: Stage,
    /// Whether it was answered, and the name does not exist.
    pub is_nxdomain: bool,
    len: u16,
    question: [u8; QUESTION_MAX],
}

impl Sighting {
    /// Returns a sighting of a question in blocks, of which the first `len` bytes count.
    pub fn new<'a>(
        (client, weight, stage, is_nxdomain): ([u8; 16], u64, Stage, bool),
        blocks: impl IntoIterator<Item = &'a [u8]>,
        len: usize,
    ) -> Self {
        let len = len.min(QUESTION_MAX);
        let (mut question, mut used) = ([0; QUESTION_MAX], 0);
        for block in blocks {
            let part = block.len().min(len - used);
            question[used..used + part].copy_from_slice(&block[..part]);
            used += part;
        }
        Sighting { client, weight, stage, is_nxdomain, len: used as u16, question }
    }

    /// Question: lowercased name on the wire, type, class. Empty if there was none that could be
    /// parsed.
    pub fn question(&self) -> &[u8] {
        &self.question[..usize::from(self.len)]
    }

    /// Name on the wire, lowercased; `None`: there is no question.
    pub fn name(&self) -> Option<&[u8]> {
        self.question().split_last_chunk::<4>().map(|(name, _)| name)
    }
}

/// Line of sightings from a worker, or the TCP listener, to the control plane.
#[derive(Debug)]
pub struct SightingLine(ArrayQueue<Sighting>);

impl Default for SightingLine {
    fn default() -> Self {
        SightingLine(ArrayQueue::new(LINE))
    }
}

impl SightingLine {
    /// Whether there is no room.
    pub fn is_full(&self) -> bool {
        self.0.is_full()
    }

    /// Hands a sighting on. Returns false if there is no room.
    pub fn tell(&self, sighting: Sighting) -> bool {
        self.0.push(sighting).is_ok()
    }

    /// Control plane: takes the oldest sighting.
    pub fn take(&self) -> Option<Sighting> {
        self.0.pop()
    }
}

/// Rhythm of sightings: queries counted until one is due, at random distances.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// Queries since the last sighting.
    since: u64,
    /// Queries until the next one, from the last one on.
    due: u64,
    /// Mean number of queries from one to the next.
    mean: u64,
    /// Queries since the mean was set.
    seen: u64,
    /// Whether there was no room since then.
    has_skipped: bool,
}

impl Default for Rhythm {
    fn default() -> Self {
        Rhythm { since: 0, due: 1, mean: 1, seen: 0, has_skipped: false }
    }
}

impl Rhythm {
    /// Counts `n` queries. Returns true if a sighting is due.
    #[inline(always)]
    pub fn count(&mut self, n: u64) -> bool {
        self.since += n;
        self.since >= self.due
    }

    /// Begins the way to the next sighting, and returns the number of queries since the last one.
    /// `random`: a number that is as likely to be any other.
    pub fn take(&mut self, random: u32) -> u64 {
        // From 1 to twice the mean less one, each equally likely.
        self.due = 1 + ((u64::from(random) * (2 * self.mean - 1)) >> 32);
        self.seen += self.since;
        std::mem::take(&mut self.since)
    }

    /// Leaves out the queries since the last sighting because there is no room for another one, and
    /// makes sightings rarer.
    pub fn skip(&mut self) {
        self.mean = self.mean.saturating_mul(2).min(u64::from(u32::MAX));
        self.seen += std::mem::take(&mut self.since);
        self.due = self.mean;
        self.has_skipped = true;
    }

    /// Sets the mean so that as many queries as in the last second have [`PER_SECOND`] sightings. For
    /// once a second.
    pub fn adapt(&mut self) {
        let seen = std::mem::take(&mut self.seen) + self.since;
        self.mean = (seen / PER_SECOND).clamp(1, u64::from(u32::MAX));
        if std::mem::take(&mut self.has_skipped) {
            // The distance was set for want of room. One query does not stand for all since then.
            (self.due, self.since) = (self.mean, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up_to_all_queries_and_sightings_are_as_many_as_wanted() {
        let (mut rhythm, mut state, mut told, mut weight) = (Rhythm::default(), 7u64, 0, 0);
        for second in 0..20 {
            for _ in 0..10_000 {
                if rhythm.count(30) {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    weight += rhythm.take((state >> 32) as u32);
                    told += u64::from(second >= 10);
                }
            }
            rhythm.adapt();
        }
        assert_eq!(weight + rhythm.since, 20 * 300_000);
        assert!((9_000..11_500).contains(&told), "{told} in ten seconds");
    }

    #[test]
    fn a_slow_worker_tells_of_each_query() {
        let mut rhythm = Rhythm::default();
        for nth in 0..3 * PER_SECOND {
            assert!(rhythm.count(1), "{nth}");
            assert_eq!(rhythm.take(u32::MAX), 1);
            if nth % PER_SECOND == PER_SECOND - 1 {
                rhythm.adapt();
            }
        }
    }

    #[test]
    fn without_room_sightings_become_rarer_and_none_stands_for_all() {
        let (line, mut rhythm) = (SightingLine::default(), Rhythm::default());
        let sighting =
            |weight| Sighting::new(([0; 16], weight, Stage::Received, false), [&b"\0\0\x01\0\x01"[..]], 5);
        (0..LINE).for_each(|_| assert!(line.tell(sighting(1))));
        assert!(line.is_full() && !line.tell(sighting(1)));
        let mut skipped = 0;
        for _ in 0..10_000 {
            if rhythm.count(64) {
                rhythm.skip();
                skipped += 1;
            }
        }
        // The mean has doubled from 1 to more than a tenth of all queries.
        assert!((12..25).contains(&skipped), "{skipped}");
        rhythm.adapt();
        assert_eq!(rhythm.mean, 640);
        rhythm.since = 0;
        while !rhythm.count(64) {}
        assert!(rhythm.take(0) < 640_000 / 2);
    }

    #[test]
    fn a_question_is_whole_or_empty() {
        let long = [7; QUESTION_MAX + 40];
        for len in [0, 1, 31, 32, 33, QUESTION_MAX, QUESTION_MAX + 9] {
            let sighting = Sighting::new(([1; 16], 1, Stage::Received, true), long.chunks(32), len);
            assert_eq!(sighting.question().len(), len.min(QUESTION_MAX));
            assert_eq!(sighting.name().is_some(), len >= 4);
        }
    }
}
