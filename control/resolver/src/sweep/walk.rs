//! Walk over the host tier: removes dead entries, and judges entries that will soon expire.

use crate::host::{Entry, HostTier, Seen, StoredKey};
use ringdns_dataplane::clock::Secs;

/// Most entries that one sweep renews.
pub const DUE_MAX: usize = 10_000;

/// Criteria of a walk.
#[derive(Clone, Copy, Debug)]
pub struct RenewalGate {
    /// Entries that expire within so many seconds are looked at; 0: none.
    pub window: Secs,
    /// Least demand of an entry that is renewed.
    pub demand: u16,
}

/// Entry to be renewed: the question, without the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Demand for the entry.
    pub demand: u16,
    /// Time at which the entry expires.
    pub expires: Secs,
    /// Question.
    pub key: StoredKey,
}

/// Result of a walk.
#[derive(Debug, Default)]
pub struct Walk {
    /// Number of entries seen.
    pub seen: u64,
    /// Number of entries removed because they could no longer be served.
    pub dead: u64,
    /// Number of expired entries that may still be served if resolution fails.
    pub stale: u64,
    /// Number of entries that expire within the window.
    pub near: u64,
    /// Number of entries within the window that are not in demand.
    pub unasked: u64,
    /// Number of entries within the window whose renewal failed recently.
    pub put_off: u64,
    /// Number of entries within the window that are left out because [`DUE_MAX`] others are in more
    /// demand.
    pub too_many: u64,
    /// All other entries within the window: the one in most demand first, and of equal ones the one
    /// that expires first.
    pub due: Vec<Due>,
}

impl Walk {
    /// Walks over all entries at the time `now`. Takes a while, but blocks other threads for no
    /// longer than it looks at one entry.
    pub fn over(host: &HostTier, now: Secs, gate: RenewalGate) -> Self {
        let mut walk = Walk::default();
        host.walk(|seen| {
            walk.seen += 1;
            if now >= seen.dead() {
                walk.dead += u64::from(host.remove_dead(&seen.key(), now));
            } else if now >= seen.expires() {
                walk.stale += 1;
            } else if let Some(entry) = gate.near(seen, now) {
                walk.judge(seen.key(), &entry, now, gate);
            }
        });
        walk.keep_the_most_asked_for();
        walk
    }

    fn judge(&mut self, key: StoredKey, entry: &Entry, now: Secs, gate: RenewalGate) {
        self.near += 1;
        let demand = entry.demand.get(now);
        if demand < gate.demand {
            self.unasked += 1;
        } else if !entry.recheck_due(now) {
            self.put_off += 1;
        } else {
            self.due.push(Due { demand, expires: entry.answer.expires(), key });
            if self.due.len() >= 2 * DUE_MAX {
                self.keep_the_most_asked_for();
            }
        }
    }

    fn keep_the_most_asked_for(&mut self) {
        self.due.sort_by_key(|due| (std::cmp::Reverse(due.demand), due.expires));
        self.too_many += self.due.len().saturating_sub(DUE_MAX) as u64;
        self.due.truncate(DUE_MAX);
    }
}

impl RenewalGate {
    /// Returns an entry that is fresh at `now` if it is to be looked at: it expires within the window,
    /// and half of its lifetime is over, so that short-lived answers are not renewed all the time.
    /// Failures are not worth renewing.
    fn near(self, seen: Seen<'_>, now: Secs) -> Option<Entry> {
        let left = seen.expires().saturating_sub(now);
        let entry = if left <= self.window { seen.entry()? } else { return None };
        (left <= entry.answer.ttl / 2 && !entry.answer.status.is_failure()).then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_common::names;
    use ringdns_dataplane::dns::{answer::Answer, key::Key, rcode};
    use std::sync::Arc;

    const GATE: RenewalGate = RenewalGate { window: 30, demand: 2 };

    fn tier() -> HostTier {
        HostTier::new(1 << 26, Arc::default())
    }

    fn key(name: &str) -> Key {
        names::key(&names::name(name).unwrap(), 1, false, false).unwrap()
    }

    /// Adds an answer that was received at the time 0, is fresh for `ttl` seconds and usable for
    /// another 50, and was asked for `times` at `asked`.
    fn put(host: &HostTier, name: &str, ttl: Secs, (times, asked): (u32, Secs)) {
        let answer = Answer { stale: 50, ..Answer::error(rcode::NOERROR, None, 0, ttl) };
        host.insert(&key(name), Arc::new(answer), 0);
        (0..times).for_each(|_| drop(host.get(&key(name), asked)));
    }

    fn names_of(walk: &Walk) -> Vec<String> {
        walk.due.iter().map(|due| names::display(due.key.asked().name())).collect()
    }

    #[test]
    fn what_expires_soon_and_is_asked_for_is_due_in_the_order_of_demand() {
        let host = tier();
        put(&host, "twice.example", 100, (2, 80));
        put(&host, "often.example", 100, (9, 80));
        put(&host, "sooner.example", 90, (2, 80));
        put(&host, "once.example", 100, (1, 80));
        put(&host, "never.example", 100, (0, 80));
        put(&host, "later.example", 111, (9, 80));
        put(&host, "long-ago.example", 1000, (3, 80));
        let walk = Walk::over(&host, 80, GATE);
        assert_eq!(names_of(&walk), ["often.example.", "sooner.example.", "twice.example."]);
        assert_eq!((walk.seen, walk.near, walk.unasked, walk.dead), (7, 5, 2, 0));
        let off = Walk::over(&host, 80, RenewalGate { window: 0, ..GATE });
        assert_eq!((off.seen, off.near, off.due.len()), (7, 0, 0));
        let late = Walk::over(&host, 990, GATE);
        assert_eq!((late.dead, late.near, late.unasked), (6, 1, 1), "its demand is over");
    }

    #[test]
    fn what_is_short_lived_has_the_first_half_of_its_time() {
        let host = tier();
        put(&host, "short.example", 20, (5, 0));
        assert_eq!(Walk::over(&host, 9, GATE).near, 0);
        assert_eq!(Walk::over(&host, 10, GATE).near, 1);
    }

    #[test]
    fn the_dead_leave_and_the_stale_stay() {
        let host = tier();
        put(&host, "stale.example", 50, (5, 0));
        put(&host, "dead.example", 40, (5, 0));
        let walk = Walk::over(&host, 90, GATE);
        assert_eq!((walk.seen, walk.dead, walk.stale, walk.near), (2, 1, 1, 0));
        assert_eq!((host.len(), host.counters.dead.get()), (1, 1));
        assert!(host.peek(&key("stale.example")).is_some());
        assert!(
            !host.remove_dead(&StoredKey::from(&key("stale.example")), 99),
            "one that has just been renewed"
        );
    }

    #[test]
    fn failures_and_what_could_not_be_renewed_are_left_alone() {
        let host = tier();
        let failure = Answer::error(rcode::SERVFAIL, None, 0, 100);
        host.insert(&key("failed.example"), Arc::new(failure), 0);
        put(&host, "put-off.example", 100, (5, 80));
        host.put_off(&key("put-off.example"), 90);
        let walk = Walk::over(&host, 80, RenewalGate { demand: 1, ..GATE });
        assert_eq!((walk.near, walk.put_off, walk.due.len()), (1, 1, 0));
        assert_eq!(Walk::over(&host, 90, GATE).due.len(), 1);
    }

    #[test]
    fn a_sweep_takes_the_most_wanted_of_very_many() {
        let host = tier();
        let all = 2 * DUE_MAX + 500;
        for i in 0..all {
            put(&host, &format!("{i}.example"), 100, (2 + (i % 3) as u32, 80));
        }
        let walk = Walk::over(&host, 80, GATE);
        assert_eq!((walk.near as usize, walk.due.len()), (all, DUE_MAX));
        assert_eq!(walk.too_many as usize, all - DUE_MAX);
        let least = walk.due.iter().map(|due| due.demand).min();
        assert_eq!(
            (walk.due[0].demand, least),
            (4, Some(3)),
            "nobody who asked twice is before who asked three times"
        );
    }
}
