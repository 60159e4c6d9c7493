//! Answers made from validated denials and wildcards of other questions (RFC 8198).

use super::{Validator, reply};
use crate::upstream::exchange::JudgeRules;
use parking_lot::Mutex;
use ringdns_dataplane::{
    clock::Secs,
    dns::{
        answer::{Answer, TtlRules},
        key::Key,
        rtype,
    },
    purge::Generations,
};
use ringdns_dnssec::{Asking, Name, Ranges, SignedSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Memory for the denials of all zones, in bytes.
const BYTES: usize = 8 << 20;

/// Validated denials of all zones.
pub struct KnownRanges {
    /// Whether there are any.
    any: AtomicBool,
    ranges: Mutex<Ranges>,
}

impl Default for KnownRanges {
    fn default() -> Self {
        KnownRanges { any: AtomicBool::new(false), ranges: Mutex::new(Ranges::new(BYTES)) }
    }
}

impl KnownRanges {
    /// Keeps denials from responses of `generation`.
    pub fn learn(&self, denials: &[SignedSet], generation: u64, now: Secs) {
        self.ranges.lock().learn(denials, generation, now);
        self.any.store(true, Relaxed);
    }
}

impl Validator {
    /// Returns the memory of denials that answer other questions, in bytes.
    pub fn range_bytes(&self) -> usize {
        self.trust.load().ranges.ranges.lock().bytes()
    }

    /// Returns a denial, or the records of a wildcard, with the proof if it follows from what was
    /// validated, and no purge since then concerns the name.
    pub fn made(&self, key: &Key, rules: &JudgeRules, generations: &Generations) -> Option<Answer> {
        let trust = self.trust.load();
        if !trust.ranges.any.load(Relaxed) {
            return None;
        }
        let (asked, now) = (key.asked(), rules.clock.secs());
        let name = Name::from_wire(asked.name())?;
        let qtype = asked.qtype();
        let parent = if qtype == rtype::DS { name.parent() } else { None };
        // A zone above the closest trust anchor has no say.
        let least = trust.anchors.labels_above(parent.as_ref().unwrap_or(&name))?;
        let is_void = |generation| {
            // A purge above the name covers its denial, too.
            generations.purged_since(generation, |purge| purge.concerns_zone(asked.name()))
        };
        let asking = Asking { name: &name, qtype, least, now, is_void: &is_void };
        let proven = {
            let mut ranges = trust.ranges.ranges.lock();
            ranges.deny(&asking).or_else(|| ranges.expand(&asking))?
        };
        let message = reply::message(key, &proven)?;
        // The shortest time that answers are kept must not make a denial last for ever.
        let ttl = TtlRules { min: 0, ..rules.ttl };
        let answer = Answer::from_response(&message, key, &ttl, now, true).ok()?;
        (answer.ttl > 0).then_some(Answer { ede: proven.ede, ..answer })
    }

    /// Whether the same trust anchor is the closest one to both names.
    pub fn has_same_anchor(&self, one: &[u8], other: &[u8]) -> bool {
        let trust = self.trust.load();
        let anchor = |name| trust.anchors.labels_above(&Name::from_wire(name)?);
        anchor(one) == anchor(other)
    }
}
