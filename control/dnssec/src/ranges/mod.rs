//! Ranges: names and types of signed zones that are known not to exist, from denials that were
//! validated for other questions (RFC 8198), and records of wildcards, which the names in a range may
//! have (section 5.3).
//!
//! A question about one of them is answered without asking anyone, and with its proof. The denials
//! that may prove it are looked up, and are then judged by the code that judges those in responses.
//! Left out are NSEC3 records with opt-out or too many iterations, NSEC records that deny no other
//! name, and aliases that a wildcard makes.

mod order;
mod zone;

use crate::{
    name::Name,
    proven::{ProvenAnswer, SignedSet, is_of_wildcards},
    rdata::rtype,
};
use std::collections::{HashMap, VecDeque};
use zone::ZoneRanges;

/// Part of the bytes that one zone may have: a quarter, so that a zone that makes up names does not
/// displace all others.
const ZONE_PART: usize = 4;
/// Most zones passed over in search of one to evict because they were used since the last search.
const SPARED_MAX: usize = 16;
/// Bytes that a zone takes beside its denials: the struct, and its name in two tables.
const ZONE_OVERHEAD: usize = size_of::<ZoneRanges>() + 2 * size_of::<Name>() + 64;

/// Question to the ranges.
pub struct Asking<'a> {
    /// Name asked for.
    pub name: &'a Name,
    /// Type asked for.
    pub qtype: u16,
    /// Fewest labels of a zone that may deny it: those of the closest trust anchor.
    pub least: usize,
    /// Time in seconds, by the clock that denials were learned by.
    pub now: u32,
    /// Whether what was learned in a generation may no longer be used for this name.
    pub is_void: &'a dyn Fn(u64) -> bool,
}

/// Validated denials of all zones, within a bound on their bytes.
pub struct Ranges {
    zones: HashMap<Name, ZoneRanges>,
    /// All zones, the next one to be evicted first.
    order: VecDeque<Name>,
    bytes: usize,
    most: usize,
}

impl Ranges {
    /// Returns an empty store for at most `most` bytes.
    pub fn new(most: usize) -> Self {
        Ranges { zones: HashMap::new(), order: VecDeque::new(), bytes: 0, most }
    }

    /// Whether nothing was learned yet.
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }

    /// Returns the bytes in use.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps denials and wildcards that [`validate`](crate::validate) has verified at `now` or later, from responses of
    /// `generation`.
    pub fn learn(&mut self, sets: &[SignedSet], generation: u64, now: u32) {
        for set in sets.iter().filter(|set| set.ttl > 0) {
            if !self.zones.contains_key(&set.zone) {
                self.zones.insert(set.zone.clone(), ZoneRanges::default());
                self.order.push_back(set.zone.clone());
                self.bytes += ZONE_OVERHEAD + 2 * set.zone.as_wire().len();
            }
            let Some(ranges) = self.zones.get_mut(&set.zone) else { continue };
            self.bytes -= ranges.bytes;
            ranges.learn(set.clone(), generation, now);
            ranges.shrink(self.most / ZONE_PART);
            self.bytes += ranges.bytes;
        }
        self.shrink();
    }

    fn shrink(&mut self) {
        let mut spared = 0;
        while self.bytes > self.most {
            let Some(zone) = self.order.pop_front() else { return };
            if let Some(ranges) = self.zones.get_mut(&zone)
                && ranges.used
                && spared < SPARED_MAX
            {
                ranges.used = false;
                spared += 1;
                self.order.push_back(zone);
                continue;
            }
            let gone = self.zones.remove(&zone).map_or(0, |ranges| ranges.bytes);
            self.bytes -= gone + ZONE_OVERHEAD + 2 * zone.as_wire().len();
        }
    }

    /// Returns the denial of a name or of a type, with its proof, if it follows from what was
    /// learned.
    pub fn deny(&mut self, asking: &Asking<'_>) -> Option<ProvenAnswer> {
        if !is_of_data(asking.qtype) {
            return None;
        }
        let (zone, ranges) = self.closest(asking)?;
        ranges.deny(&zone, asking)
    }

    /// Returns the records of a wildcard that a name has, with the proof that it has no others, if that
    /// follows from what was learned.
    pub fn expand(&mut self, asking: &Asking<'_>) -> Option<ProvenAnswer> {
        if !is_of_data(asking.qtype) || !is_of_wildcards(asking.qtype) {
            return None;
        }
        let (zone, ranges) = self.closest(asking)?;
        ranges.expand(&zone, asking)
    }

    /// Returns the closest zone above what is asked for. It decides: those above know nothing of its
    /// names.
    fn closest(&mut self, asking: &Asking<'_>) -> Option<(Name, &mut ZoneRanges)> {
        let labels = asking.name.label_count();
        // DS records belong to the parent zone (RFC 4035 section 2.4).
        let most = if asking.qtype == rtype::DS { labels.checked_sub(1)? } else { labels };
        let mut rest = asking.name.labels();
        if most < labels {
            rest.next();
        }
        for labels in (asking.least..=most).rev() {
            if self.zones.contains_key(rest.as_wire()) {
                let ranges = self.zones.get_mut(rest.as_wire())?;
                return Some((asking.name.suffix(labels), ranges));
            }
            rest.next();
        }
        None
    }
}

/// Whether the type bitmaps of denials tell about a type: not about questions for several types (RFC
/// 6895 section 3.1), signatures, or the denials themselves.
fn is_of_data(qtype: u16) -> bool {
    !matches!(qtype, 0 | 41 | 128..=255 | rtype::RRSIG | rtype::NSEC | rtype::NSEC3)
}

#[cfg(test)]
mod tests;
