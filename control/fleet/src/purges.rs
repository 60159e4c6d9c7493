//! Purges of the fleet: a log in Redis that every appliance reads, and that tells which values in
//! Redis are void.
//!
//! A purge does not search for values and delete them. Each value records the newest purge that its
//! writer knew of, and is void if a later purge covers it. So a value that was in flight during a
//! purge does no harm, whenever it reaches Redis.

use ringdns_dataplane::dns::key::Asked;
use ringdns_resolver::host::Purge;
use std::collections::{HashMap, VecDeque};

/// Most purges in the log. Once there are more, every value older than the oldest of them is void.
pub const KEPT: usize = 1000;
/// Most purges that wait to be added to the log; more are replaced by one purge of everything.
const UNTOLD: usize = KEPT;

/// Number of a purge: its ID in the log, made of milliseconds by Redis's clock and a sequence
/// number within them. 0: none yet.
pub type Number = u64;

/// Purge that the log may not have yet.
#[derive(Debug)]
struct UntoldPurges {
    purge: Purge,
    /// Sequence number among this appliance's purges.
    nth: u64,
    /// Whether it has been done here. It must not enter the log before: an appliance that knows of
    /// a purge is trusted to hold nothing older.
    done: bool,
    /// Number in the log, once it is there.
    number: Option<Number>,
}

/// Known purges of the fleet.
#[derive(Debug, Default)]
pub struct Purges {
    log: VecDeque<(Number, Purge)>,
    /// Number of the purge that makes every older value void.
    floor: Number,
    /// Purges of this appliance that have not been read back from the log.
    untold: Vec<UntoldPurges>,
    /// Number of purges of this appliance so far.
    said: u64,
}

/// Purge as recorded in the log.
#[derive(Debug, PartialEq, Eq)]
pub struct LoggedPurge {
    /// Number of the purge.
    pub number: Number,
    /// Id of the process that purged.
    pub by: Vec<u8>,
    /// Scope of the purge.
    pub purge: Purge,
}

impl Purges {
    /// Whether a value for a question is void, if its writer knew of purges up to `generation`.
    pub fn void(&self, asked: Asked<'_>, generation: Number) -> bool {
        generation < self.floor
            || self.untold.iter().any(|untold| untold.purge.covers(asked))
            || self.log.iter().any(|(number, purge)| generation < *number && purge.covers(asked))
    }

    /// Returns the number of purges in memory.
    #[cfg(fuzzing)]
    pub fn len(&self) -> usize {
        self.log.len() + self.untold.len()
    }

    /// Adds a purge that is about to be done here, and returns its sequence number. From now on
    /// nothing that it covers is taken from Redis.
    pub fn begin(&mut self, purge: Purge) -> u64 {
        self.said += 1;
        let crowded = self.untold.len() >= UNTOLD;
        if crowded {
            self.untold.clear();
        }
        let purge = if crowded { Purge::All } else { purge };
        self.untold.push(UntoldPurges { purge, nth: self.said, done: false, number: None });
        self.said
    }

    /// Marks a purge as done here: it may enter the log.
    pub fn done(&mut self, nth: u64) {
        self.untold.iter_mut().filter(|untold| untold.nth == nth).for_each(|untold| untold.done = true);
    }

    /// Returns the next purge to add to the log, with its sequence number.
    pub fn next_untold(&self) -> Option<(u64, Purge)> {
        let next = self.untold.iter().find(|untold| untold.done && untold.number.is_none());
        next.map(|untold| (untold.nth, untold.purge.clone()))
    }

    /// Records the number under which the log has a purge.
    pub fn told(&mut self, nth: u64, number: Number) {
        let one = |untold: &&mut UntoldPurges| untold.nth == nth;
        self.untold.iter_mut().filter(one).for_each(|untold| untold.number = Some(number));
    }

    /// Applies the entries read after `known`, oldest first. `newest` is the number of the newest
    /// entry in the log, 0 if it is empty. `whole`: as many entries were read as the log holds at
    /// most, so that earlier ones may be missing. Returns whether the log still has the entries
    /// read before.
    pub fn learn(&mut self, known: Number, read: &[LoggedPurge], whole: bool, newest: Number) -> bool {
        let lost = newest < known;
        if lost {
            self.log.clear();
            self.floor = 0;
        }
        if whole {
            self.log.clear();
            self.floor = read.first().map_or(0, |first| first.number);
        }
        for LoggedPurge { number, purge, .. } in read {
            self.log.push_back((*number, purge.clone()));
            if self.log.len() > KEPT {
                self.floor = self.log.pop_front().map_or(0, |(number, _)| number);
            }
        }
        let reached = read.last().map_or(if lost { 0 } else { known }, |last| last.number);
        self.untold.retain(|untold| untold.number.is_none_or(|number| number > reached));
        // Purges that the log has lost are to be added again.
        self.untold
            .iter_mut()
            .for_each(|untold| untold.number = untold.number.filter(|number| *number <= newest));
        !lost
    }
}

/// Parses an ID in the log, such as `1763731200000-0`, into a number.
pub fn number(id: &str) -> Option<Number> {
    let (millis, nth) = id.split_once('-')?;
    let (millis, nth): (u64, u16) = (millis.parse().ok()?, nth.parse().ok()?);
    millis.checked_mul(1 << 16).map(|millis| millis | u64::from(nth))
}

/// Returns the ID of a number.
pub fn id(number: Number) -> String {
    format!("{}-{}", number >> 16, number & 0xffff)
}

/// Returns the time at which a purge was logged, in Unix time by Redis's clock.
pub fn time(number: Number) -> u64 {
    (number >> 16) / 1000
}

/// Returns the fields of a purge in the log, besides the process: its kind, and the name in wire
/// format.
pub fn fields(purge: &Purge) -> (&'static str, &[u8]) {
    match purge {
        Purge::Name(name) => ("name", name),
        Purge::Suffix(name) => ("suffix", name),
        // Lists are this appliance's own, so the fleet is told of no verdicts.
        Purge::All | Purge::Verdicts | Purge::VerdictsOn(_) => ("all", &[]),
    }
}

/// Parses an entry of the log. An unknown kind, such as a later version may write, becomes a purge
/// of everything: too much rather than too little.
pub fn logged(id: &str, mut fields: HashMap<String, Vec<u8>>) -> Option<LoggedPurge> {
    let name = fields.remove("name").unwrap_or_default();
    let purge = match fields.get("kind").map(Vec::as_slice) {
        Some(b"name") => Purge::Name(name),
        Some(b"suffix") => Purge::Suffix(name),
        _ => Purge::All,
    };
    Some(LoggedPurge { number: number(id)?, by: fields.remove("by").unwrap_or_default(), purge })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_common::names;
    use ringdns_dataplane::dns::key::Key;

    fn wire(name: &str) -> Vec<u8> {
        names::name(name).unwrap()
    }

    fn key(name: &str) -> Key {
        names::key(&wire(name), 1, false, false).unwrap()
    }

    fn entry(number: Number, purge: Purge) -> LoggedPurge {
        LoggedPurge { number, by: b"other".to_vec(), purge }
    }

    #[test]
    fn values_are_void_that_are_covered_and_older() {
        let mut purges = Purges::default();
        assert!(purges.learn(0, &[entry(10, Purge::Suffix(wire("corp.example")))], false, 10));
        let void = |name: &str, generation| purges.void(key(name).asked(), generation);
        assert!(void("www.corp.example", 0) && void("corp.example", 9));
        assert!(!void("www.corp.example", 10) && !void("example", 0) && !void("xcorp.example", 0));
    }

    #[test]
    fn what_the_log_could_not_be_told_holds_here_until_it_is_read_there() {
        let mut purges = Purges::default();
        let asked = key("www.example");
        let purge = Purge::Name(wire("www.example"));
        let nth = purges.begin(purge.clone());
        assert!(
            purges.void(asked.asked(), Number::MAX) && purges.next_untold().is_none(),
            "it is not done yet"
        );
        purges.done(nth);
        assert_eq!(purges.next_untold(), Some((nth, purge.clone())));
        purges.told(nth, 20);
        assert!(purges.next_untold().is_none());
        assert!(
            purges.void(asked.asked(), Number::MAX),
            "a value that knows of it must have been made after it"
        );
        assert!(purges.learn(0, &[entry(20, purge.clone())], false, 20));
        assert!(purges.void(asked.asked(), 19) && !purges.void(asked.asked(), 20));

        // A purge that was lost with the log is added again.
        let nth = purges.begin(purge.clone());
        purges.done(nth);
        purges.told(nth, 30);
        assert!(!purges.learn(20, &[], false, 0), "the log is gone");
        assert_eq!(purges.next_untold(), Some((nth, purge)));
    }

    #[test]
    fn too_many_become_everything() {
        let mut purges = Purges::default();
        for nth in 0..=UNTOLD {
            let nth = purges.begin(Purge::Name(wire(&format!("n{nth}.example"))));
            purges.done(nth);
        }
        assert_eq!((purges.next_untold(), purges.untold.len()), (Some((UNTOLD as u64 + 1, Purge::All)), 1));

        let all: Vec<_> = (1..=KEPT as u64 + 5).map(|n| entry(n, Purge::Name(wire("a")))).collect();
        let mut purges = Purges::default();
        assert!(purges.learn(0, &all, false, KEPT as u64 + 5));
        assert_eq!((purges.log.len(), purges.floor), (KEPT, 5));
        assert!(purges.void(key("other").asked(), 4) && !purges.void(key("other").asked(), 5));
    }

    #[test]
    fn who_read_a_whole_log_knows_nothing_of_what_came_before_it() {
        let mut purges = Purges::default();
        assert!(purges.learn(3, &[entry(500, Purge::Name(wire("a")))], true, 500));
        assert!(purges.void(key("other").asked(), 499) && !purges.void(key("other").asked(), 500));
    }

    #[test]
    fn numbers_are_ids_in_the_same_order() {
        assert_eq!(number("1763731200000-7").map(id).as_deref(), Some("1763731200000-7"));
        assert!(number("1763731200000-65535") < number("1763731200001-0"));
        for wrong in ["", "7", "a-0", "7-a", "7-65536", "99999999999999999999-0", "-"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
        assert_eq!(number("1763731200999-7").map(time), Some(1_763_731_200));
    }

    #[test]
    fn entries_are_read_as_they_were_written_and_others_are_of_everything() {
        for purge in [Purge::All, Purge::Name(wire("www.example")), Purge::Suffix(wire("."))] {
            let (kind, name) = fields(&purge);
            let fields = [("by", b"me".as_slice()), ("kind", kind.as_bytes()), ("name", name)];
            let fields = fields.map(|(field, value)| (field.to_owned(), value.to_vec())).into();
            let read = logged("5-0", fields);
            assert_eq!(read, Some(LoggedPurge { number: 5 << 16, by: b"me".to_vec(), purge }));
        }
        let unknown = [("kind".to_owned(), b"regex".to_vec())].into();
        assert_eq!(logged("5-0", unknown).map(|logged| logged.purge), Some(Purge::All));
        assert_eq!(logged("5-0", HashMap::new()).map(|logged| logged.purge), Some(Purge::All));
        assert_eq!(logged("nonsense", HashMap::new()), None);
    }
}
