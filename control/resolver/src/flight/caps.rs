//! Caps on zones: how many questions a second may take off in a zone whose names are random.
//!
//! A flood of random names below one zone takes processor time, upstreams and places from all other
//! names, and its answers are of no use to any cache. So questions that take off are counted by zone,
//! in a table of fixed size whose counts decay, with the share of those that found nothing. A zone
//! that takes far more than its share is capped: so many of its questions a second take off, and the
//! others are refused. Names of the zone that are cached, or were, are not affected.
//!
//! A question counts for the parents of its first label, from its domain on. The deepest of them that
//! has most of the questions is capped, so that a flood of one customer's names at a provider leaves
//! other customers alone.

use super::domain::{self, ZONES};
use crate::resolved::Transport;
use arrayvec::ArrayVec;
use parking_lot::Mutex;
use quick_cache::DefaultHashBuilder;
use ringdns_api::FloodView;
use ringdns_common::names;
use ringdns_dataplane::clock::Nanos;
use std::{
    hash::BuildHasher,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
};

/// Time constant of the counts: a count is the rate times this, in seconds.
const MEAN_SECS: f64 = 5.0;
/// Number of buckets of the table; a power of two.
const BUCKETS: usize = 128;
/// Number of zones in a bucket.
const WAYS: usize = 4;
/// Most zones that are capped at once.
const CAPS_MAX: usize = 64;
/// A zone has more than its share if it has more than one in this many of all questions.
const SHARE: f64 = 8.0;
/// Part of a zone's questions that find nothing from which on it is worthless to caches.
const WORTHLESS: f64 = 0.5;
/// Names below a wildcard exist and find the same records. From this part of a zone's questions on that
/// find those or nothing, the zone is worthless to caches too, if the next two hold.
const SAME: f64 = 0.9;
/// Most of a zone's questions for a name and type that took off shortly before.
const AGAIN: f64 = 0.05;
/// A zone of such names has more than its share if it has more than one in this many of all questions:
/// honest services with a name for each visit look the same, but are never most of the traffic.
const WILD_SHARE: f64 = 2.0;
/// Number of questions that are remembered; a power of two.
const RECENT: usize = 1 << 16;
/// A zone below a capped one's rate is capped in its place if it has this part of the questions.
const DEEPER: f64 = 0.75;
/// Least time of a cap, in nanoseconds, and time for which demand must have been low before it ends.
const CALM: Nanos = 10_000_000_000;
/// A cap ends when demand is below the rate, divided by this, or the part of questions that find
/// nothing below [`WORTHLESS`], likewise.
const CALM_PART: f64 = 2.0;
/// One in this many refused queries over UDP is answered, with SERVFAIL: a client in earnest then asks
/// elsewhere at once. The others are not: their addresses may be forged.
const ANSWERED: u64 = 2;

/// Treatment of a question beyond the cap of its zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// SERVFAIL.
    Refuse,
    /// No answer.
    Withhold,
}

/// Counts of zones, and caps.
pub struct ZoneCaps {
    /// Questions a second of one zone that may take off; zero: no zone is capped.
    per_second: AtomicU32,
    /// Number of caps, so that a question looks for none while there are none.
    capped: AtomicUsize,
    counts: Mutex<Counts>,
    /// Keyed anew in each process: clients choose names.
    hash: DefaultHashBuilder,
}

struct Counts {
    table: Box<[[Zone; WAYS]; BUCKETS]>,
    /// All questions that took off.
    all: Decaying,
    /// Number of them that found nothing.
    all_worthless: Decaying,
    caps: Vec<Cap>,
    /// Parts of hashes of questions that took off lately. One takes the place of another.
    recent: Box<[u32]>,
}

/// Count that decays.
#[derive(Clone, Copy, Debug, Default)]
struct Decaying {
    count: f64,
    at: Nanos,
}

/// Counts of a zone.
#[derive(Clone, Copy, Debug, Default)]
struct Zone {
    /// Zero: the place is free.
    hash: u64,
    /// Questions that took off.
    took_off: Decaying,
    /// Questions that found nothing: the name does not exist, or resolution failed.
    worthless: Decaying,
    /// Questions for a name and type that took off shortly before.
    again: Decaying,
    /// Questions that found the zone's common records.
    same: Decaying,
    /// Fingerprints of the common records: of IPv4 addresses, and of other types.
    common: [u64; 2],
}

/// Cap on a zone.
struct Cap {
    hash: u64,
    zone: Box<[u8]>,
    began: Nanos,
    /// Last time at which demand was not low.
    busy: Nanos,
    /// Questions that take off or are refused.
    demand: Decaying,
    /// Questions that may take off now: over UDP and over TCP.
    allowance: [(f64, Nanos); 2],
    refused: u64,
}

impl Decaying {
    fn get(&self, now: Nanos) -> f64 {
        self.count * (-(now.saturating_sub(self.at) as f64) / (MEAN_SECS * 1e9)).exp()
    }

    fn add(&mut self, now: Nanos) -> f64 {
        *self = Decaying { count: self.get(now) + 1.0, at: self.at.max(now) };
        self.count
    }

    /// Returns the rate a second.
    fn rate(&self, now: Nanos) -> f64 {
        self.get(now) / MEAN_SECS
    }
}

impl Zone {
    /// Takes the questions of a zone below out of the counts.
    fn subtract(&mut self, below: &Zone, now: Nanos) {
        let less = |one: &Decaying, other: &Decaying| (one.get(now) - other.get(now)).max(0.0);
        self.took_off = Decaying { count: less(&self.took_off, &below.took_off), at: now };
        self.worthless = Decaying { count: less(&self.worthless, &below.worthless), at: now };
        self.again = Decaying { count: less(&self.again, &below.again), at: now };
        self.same = Decaying { count: less(&self.same, &below.same), at: now };
    }

    /// Whether the zone's names are asked for once, and find the same records or nothing.
    fn is_wild(&self, now: Nanos) -> bool {
        let took_off = self.took_off.get(now);
        self.again.get(now) <= AGAIN * took_off
            && self.same.get(now) + self.worthless.get(now) >= SAME * took_off
    }

    /// Counts records that were found.
    fn find(&mut self, is_v4: bool, fingerprint: u64, now: Nanos) {
        let common = &mut self.common[usize::from(is_v4)];
        if *common == fingerprint {
            self.same.add(now);
        } else if 2.0 * self.same.get(now) < self.took_off.get(now) {
            *common = fingerprint;
        }
    }
}

impl Counts {
    /// Returns the position of the deepest zone that is capped.
    fn capped(&self, zones: &[u64]) -> Option<usize> {
        zones.iter().rposition(|hash| self.caps.iter().any(|cap| cap.hash == *hash))
    }

    fn find(&self, hash: u64) -> Option<&Zone> {
        self.table[bucket(hash)].iter().find(|zone| zone.hash == hash)
    }

    /// Returns the counts of a zone. A zone that has none takes the place of that with the fewest
    /// questions: a busy zone is hardly ever that.
    fn zone(&mut self, hash: u64, now: Nanos) -> &mut Zone {
        let ways = &mut self.table[bucket(hash)];
        let at = ways.iter().position(|zone| zone.hash == hash).unwrap_or_else(|| {
            let count = |at: &usize| ways[*at].took_off.get(now);
            (0..WAYS).min_by(|one, other| count(one).total_cmp(&count(other))).unwrap_or_default()
        });
        let zone = &mut ways[at];
        if zone.hash != hash {
            *zone = Zone { hash, ..Zone::default() };
        }
        zone
    }

    /// Whether a zone takes far more than its share, without value to caches.
    fn is_flooded(&self, zone: &Zone, per_second: f64, now: Nanos) -> bool {
        let (rate, all) = (zone.took_off.rate(now), self.all.rate(now));
        if rate <= per_second || rate * SHARE <= all {
            return false;
        }
        let (worthless, took_off) = (zone.worthless.get(now), zone.took_off.get(now));
        // While upstreams are out, the questions of all zones fail, and none of them is flooded.
        let (others, others_worthless) =
            (self.all.get(now) - took_off, self.all_worthless.get(now) - worthless);
        let is_alone = 2.0 * rate > all || others_worthless < WORTHLESS * others;
        worthless >= WORTHLESS * took_off && is_alone || rate * WILD_SHARE > all && zone.is_wild(now)
    }

    /// Remembers a question. Returns whether it was remembered.
    fn remember(&mut self, hash: u64) -> bool {
        let place = &mut self.recent[hash as usize % RECENT];
        let part = (hash >> 32) as u32 | 1;
        std::mem::replace(place, part) == part
    }

    /// Ends caps of zones that have calmed down: demand is low, or most questions find something.
    fn end_caps(&mut self, per_second: f64, now: Nanos) {
        let Counts { table, caps, .. } = self;
        caps.retain_mut(|cap| {
            let zone = table[bucket(cap.hash)].iter().find(|zone| zone.hash == cap.hash);
            let is_worthless = zone.is_some_and(|zone| {
                zone.worthless.get(now) * CALM_PART >= WORTHLESS * zone.took_off.get(now) || zone.is_wild(now)
            });
            if is_worthless && cap.demand.rate(now) * CALM_PART > per_second {
                cap.busy = cap.busy.max(now);
            }
            let lasts = per_second > 0.0 && now.saturating_sub(cap.busy) < CALM;
            if !lasts {
                let zone = names::display(&cap.zone);
                let seconds = now.saturating_sub(cap.began) / 1_000_000_000;
                tracing::info!(
                    zone,
                    refused = cap.refused,
                    seconds,
                    "flood of random names is over: the zone is capped no more"
                );
            }
            lasts
        });
    }
}

impl Cap {
    /// Takes a place for a question. Returns false if the zone has had all that it may have.
    fn take(&mut self, transport: Transport, per_second: f64, now: Nanos) -> bool {
        let (left, at) = &mut self.allowance[usize::from(transport == Transport::Tcp)];
        // A tenth of a second's worth at once: the questions that take off are spread.
        let grown = *left + now.saturating_sub(*at) as f64 / 1e9 * per_second;
        (*left, *at) = (grown.min((per_second / 10.0).max(1.0)), (*at).max(now));
        let has = *left >= 1.0;
        if has {
            *left -= 1.0;
        }
        has
    }
}

impl ZoneCaps {
    /// Returns caps at this many questions a second; zero: no zone is capped.
    pub fn new(per_second: u32) -> Self {
        ZoneCaps {
            per_second: AtomicU32::new(per_second),
            capped: AtomicUsize::new(0),
            counts: Mutex::new(Counts {
                table: Box::new([[Zone::default(); WAYS]; BUCKETS]),
                all: Decaying::default(),
                all_worthless: Decaying::default(),
                caps: Vec::new(),
                recent: vec![0; RECENT].into(),
            }),
            hash: DefaultHashBuilder::default(),
        }
    }

    /// Changes the number of questions a second. Zero ends all caps.
    pub fn set(&self, per_second: u32, now: Nanos) {
        self.per_second.store(per_second, Relaxed);
        if per_second == 0 {
            self.keep(now);
        }
    }

    /// Returns the number of capped zones.
    pub fn len(&self) -> usize {
        self.capped.load(Relaxed)
    }

    /// Returns the capped zones, the busiest first.
    pub fn list(&self, now: Nanos) -> Vec<FloodView> {
        let counts = self.counts.lock();
        let view = |cap: &Cap| FloodView {
            zone: names::display(&cap.zone),
            per_second: cap.demand.rate(now) as u64,
            refused: cap.refused,
            lasts_secs: now.saturating_sub(cap.began) / 1_000_000_000,
        };
        let mut zones: Vec<_> = counts.caps.iter().map(view).collect();
        zones.sort_by_key(|zone| std::cmp::Reverse(zone.per_second));
        zones
    }

    /// Checks that a question of a client may take off. `name`: lowercased, in wire format.
    ///
    /// # Errors
    /// Its zone is capped, and has had all that it may have.
    pub fn check(&self, name: &[u8], transport: Transport, now: Nanos) -> Result<(), Over> {
        if self.len() == 0 {
            return Ok(());
        }
        let hashes = self.hashes(name);
        let per_second = f64::from(self.per_second.load(Relaxed));
        let mut counts = self.counts.lock();
        // The deepest zone counts: a flood below it is not one of the zone above.
        let Some(cap) =
            hashes.iter().rev().find_map(|hash| counts.caps.iter().position(|cap| cap.hash == *hash))
        else {
            return Ok(());
        };
        let cap = &mut counts.caps[cap];
        cap.demand.add(now);
        if cap.take(transport, per_second, now) {
            return Ok(());
        }
        cap.refused += 1;
        let answered = transport == Transport::Tcp || cap.refused.is_multiple_of(ANSWERED);
        Err(if answered { Over::Refuse } else { Over::Withhold })
    }

    /// Counts a question that takes off, or that its zone's share refuses. Returns whether a cap
    /// begins.
    pub fn note(&self, name: &[u8], qtype: u16, now: Nanos) -> bool {
        let limit = self.per_second.load(Relaxed);
        if limit == 0 {
            return false;
        }
        let (zones, hashes, per_second) = (domain::zones(name), self.hashes(name), f64::from(limit));
        let mut counts = self.counts.lock();
        counts.all.add(now);
        let capped = counts.capped(&hashes);
        let is_again = counts.remember(self.hash.hash_one((name, qtype)));
        let mut count = |hash: &u64| {
            let zone = counts.zone(*hash, now);
            if is_again {
                zone.again.add(now);
            }
            zone.took_off.add(now)
        };
        if let Some(capped) = capped {
            // Zones above a capped one have nothing to do with its flood.
            hashes[capped..].iter().for_each(|hash| _ = count(hash));
            return false;
        }
        let taken: ArrayVec<f64, ZONES> = hashes.iter().map(count).collect();
        let Some(at) = (0..hashes.len())
            .find(|at| counts.find(hashes[*at]).is_some_and(|zone| counts.is_flooded(zone, per_second, now)))
        else {
            return false;
        };
        let deepest = (at..hashes.len()).rev().find(|deeper| taken[*deeper] >= DEEPER * taken[at]);
        let at = deepest.unwrap_or(at);
        if counts.caps.len() >= CAPS_MAX {
            return false;
        }
        // Zones above it are judged by the rest of their questions.
        let flood = counts.find(hashes[at]).copied().unwrap_or_default();
        for above in &hashes[..at] {
            counts.zone(*above, now).subtract(&flood, now);
        }
        let demand = Decaying { count: taken[at], at: now };
        let zone = zones[at].into();
        let shown = names::display(zones[at]);
        let rate = demand.rate(now) as u64;
        tracing::warn!(
            zone = shown,
            per_second = rate,
            limit,
            "flood of random names: the zone is capped at resolver.zone_misses; names that are cached go on"
        );
        let allowance = [(0.0, now); 2];
        counts.caps.push(Cap {
            hash: hashes[at],
            zone,
            began: now,
            busy: now,
            demand,
            allowance,
            refused: 0,
        });
        self.capped.store(counts.caps.len(), Relaxed);
        true
    }

    /// Counts a question that found nothing.
    pub fn note_worthless(&self, name: &[u8], now: Nanos) {
        if self.per_second.load(Relaxed) == 0 {
            return;
        }
        let hashes = self.hashes(name);
        let mut counts = self.counts.lock();
        counts.all_worthless.add(now);
        let from = counts.capped(&hashes).unwrap_or_default();
        for hash in hashes.into_iter().skip(from) {
            if let Some(zone) = counts.table[bucket(hash)].iter_mut().find(|zone| zone.hash == hash) {
                zone.worthless.add(now);
            }
        }
    }

    /// Counts a question that found records, which `records` are the types and data of.
    pub fn note_found<'a>(
        &self,
        name: &[u8],
        is_v4: bool,
        records: impl Iterator<Item = (u16, &'a [u8])>,
        now: Nanos,
    ) {
        if self.per_second.load(Relaxed) == 0 {
            return;
        }
        // Servers give them in any order.
        let sum = records.fold(1, |sum: u64, record| sum.wrapping_add(self.hash.hash_one(record)));
        let hashes = self.hashes(name);
        let mut counts = self.counts.lock();
        let from = counts.capped(&hashes).unwrap_or_default();
        for hash in hashes.into_iter().skip(from) {
            if let Some(zone) = counts.table[bucket(hash)].iter_mut().find(|zone| zone.hash == hash) {
                zone.find(is_v4, sum, now);
            }
        }
    }

    /// Ends caps of zones that have calmed down. To be called each second.
    pub fn keep(&self, now: Nanos) {
        if self.len() > 0 {
            let per_second = f64::from(self.per_second.load(Relaxed));
            let mut counts = self.counts.lock();
            counts.end_caps(per_second, now);
            self.capped.store(counts.caps.len(), Relaxed);
        }
    }

    fn hashes(&self, name: &[u8]) -> ArrayVec<u64, ZONES> {
        domain::zones(name).iter().map(|zone| self.hash.hash_one(zone).max(1)).collect()
    }
}

fn bucket(hash: u64) -> usize {
    hash as usize % BUCKETS
}

#[cfg(test)]
mod tests;
