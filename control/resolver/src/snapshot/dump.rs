//! Entries of the host tier, written and read in the format of the snapshot: for the snapshot itself,
//! and for dumps that an operator asks for.

use super::{
    CHUNK, SnapshotRefused,
    file::{self, HEAD, Kept, SnapshotReader, SnapshotWriter, TRAILER},
};
use crate::{
    flight::{Resolver, RestoreOutcome},
    host::HALF_LIFE,
};
use ringdns_common::names;
use ringdns_dataplane::clock::Secs;
use std::{
    io::{self, Write},
    sync::Arc,
};

/// Writes the entries in most demand that fit into `most` bytes. The first of two walks finds the
/// least demand for which there is room. Returns `to` and the number of entries. Takes long: not for
/// an async task.
pub fn write<W: Write>(resolver: &Resolver, most: u64, to: W) -> io::Result<(W, u64)> {
    let (clock, host) = (resolver.clock(), resolver.host());
    let (written, now) = (clock.unix(), clock.secs());
    let most = most.saturating_sub((HEAD + TRAILER) as u64);
    let mut sizes = vec![0u64; usize::from(u16::MAX) + 1];
    for (key, entry) in host.iter() {
        sizes[usize::from(entry.demand.get(now))] += file::size(key.asked(), &entry.answer);
    }
    let mut room = most;
    let least = (0..=u16::MAX).rev().find(|demand| {
        let size = sizes[usize::from(*demand)];
        let fits = size <= room;
        room -= if fits { size } else { 0 };
        !fits
    });
    let mut writer = SnapshotWriter::new(to, written, resolver.fingerprint())?;
    let mut left = most;
    for (key, entry) in host.iter() {
        let (asked, demand, answer) = (key.asked(), entry.demand.get(now), &entry.answer);
        let size = file::size(asked, answer);
        let wanted = match least {
            // Only some of the entries with exactly this demand fit.
            Some(least) if demand == least => size <= room,
            Some(least) => demand > least,
            None => true,
        };
        if !wanted || size > left || now >= answer.dead() || !resolver.may_keep(&key, answer) {
            continue;
        }
        if least == Some(demand) {
            room -= size;
        }
        left -= size;
        writer.entry(asked, answer, demand, now)?;
    }
    writer.finish()
}

/// Restores the next entry of a file that was written `since` seconds ago. Returns its place in the
/// file and its outcome; `None`: there are no more.
pub(super) fn restore(
    resolver: &Resolver,
    reader: &mut SnapshotReader,
    since: Secs,
    generation: u64,
) -> Option<(usize, RestoreOutcome)> {
    let (at, kept) = reader.entry()?;
    let Kept { ttl, stale, ede, message, asked, .. } = kept;
    let key = names::key(asked.name(), asked.qtype(), asked.dnssec_ok(), asked.checking_disabled());
    let Some(key) = key.filter(|key| key.asked() == asked) else {
        return Some((at, RestoreOutcome::Unfit));
    };
    let age = kept.age.saturating_add(since);
    let demand = kept.demand.checked_shr(since / HALF_LIFE).unwrap_or(0);
    let outcome = resolver.restore(&key, message, (age, ttl, stale), ede, generation);
    if outcome == RestoreOutcome::Taken {
        resolver.host().note(asked, demand, resolver.clock().secs());
    }
    Some((at, outcome))
}

/// Numbers of entries of a file by their outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOutcomes {
    /// Entries that are in the host tier now.
    pub loaded: u64,
    /// Entries that could no longer be served.
    pub too_old: u64,
    /// Entries whose question had an answer already, which stays.
    pub known: u64,
    /// Entries that do not answer their question, or are not kept under this configuration.
    pub unfit: u64,
    /// Entries that a purge removed meanwhile.
    pub purged: u64,
    /// Place in the file of the first entry that is unfit.
    pub first_unfit: Option<usize>,
}

/// Load of a dump.
pub struct Load {
    resolver: Arc<Resolver>,
    reader: SnapshotReader,
    /// Time at which the file was opened.
    began: Secs,
    generation: u64,
    /// Outcomes so far.
    pub outcomes: LoadOutcomes,
}

impl Load {
    /// Begins to load the bytes of a file. They are checked as those of the snapshot are.
    pub fn begin(resolver: Arc<Resolver>, bytes: Vec<u8>) -> Result<Self, SnapshotRefused> {
        let (clock, generation) = (resolver.clock(), resolver.host().generation());
        let reader = SnapshotReader::open(bytes, clock.unix(), resolver.fingerprint())?;
        let began = clock.secs();
        Ok(Load { resolver, reader, began, generation, outcomes: LoadOutcomes::default() })
    }

    /// Returns the number of entries of the file.
    pub fn entries(&self) -> u64 {
        self.reader.entries
    }

    /// Loads some entries. Returns whether there are more. Pause for [`PAUSE`](super::PAUSE) then.
    pub fn advance(&mut self) -> bool {
        let passed = self.resolver.clock().secs().saturating_sub(self.began);
        let since = Secs::try_from(self.reader.age + u64::from(passed)).unwrap_or(Secs::MAX);
        for _ in 0..CHUNK {
            let Some((at, outcome)) = restore(&self.resolver, &mut self.reader, since, self.generation)
            else {
                return false;
            };
            let outcomes = &mut self.outcomes;
            *match outcome {
                RestoreOutcome::Taken => &mut outcomes.loaded,
                RestoreOutcome::TooOld => &mut outcomes.too_old,
                RestoreOutcome::Known => &mut outcomes.known,
                RestoreOutcome::Purged => &mut outcomes.purged,
                RestoreOutcome::Unfit => {
                    outcomes.first_unfit.get_or_insert(at);
                    &mut outcomes.unfit
                }
            } += 1;
        }
        true
    }
}
