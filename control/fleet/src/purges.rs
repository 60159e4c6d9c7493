//! What was purged in the fleet: a log in Redis that every appliance reads, and that tells which of the values there are void.
//!
//! Values are not looked for and deleted: each says which purge its appliance last knew of, and is void where a later one covers
//! it. So it does not matter when a value reaches Redis that was on its way while the purge came.

use ringdns_dataplane::dns::key::Asked;
use ringdns_resolver::host::Purge;
use std::collections::{HashMap, VecDeque};

/// Purges that the log holds. When there are more, what is older than the oldest of these is void altogether.
pub const KEPT: usize = 1000;
/// As many purges that nobody could be told of yet become one of everything.
const UNTOLD: usize = 100;

/// The number of a purge: its ID in the log, milliseconds by Redis's clock and a number within that. 0: none yet.
pub type Number = u64;

/// A purge that the log may not have yet.
#[derive(Debug)]
struct Untold {
    purge: Purge,
    /// Which of ours.
    nth: u64,
    /// Whether it has been done here. The log must not have it before: who knows of it is believed to have nothing older.
    done: bool,
    /// Its number, once the log has it.
    number: Option<Number>,
}

/// What is known of purges.
#[derive(Debug, Default)]
pub struct Purges {
    log: VecDeque<(Number, Purge)>,
    /// What is older than this one is void, whatever it is.
    floor: Number,
    /// Our own that have not been read in the log.
    untold: Vec<Untold>,
    /// How many there were of ours.
    said: u64,
}

/// A purge as the log has it.
#[derive(Debug, PartialEq, Eq)]
pub struct Logged {
    /// Its number.
    pub number: Number,
    /// Who said it.
    pub by: Vec<u8>,
    /// What it is of.
    pub purge: Purge,
}

impl Purges {
    /// Whether a value about a question is void that knows of purges up to `generation`.
    pub fn void(&self, asked: Asked<'_>, generation: Number) -> bool {
        generation < self.floor
            || self.untold.iter().any(|untold| untold.purge.covers(asked))
            || self.log.iter().any(|(number, purge)| generation < *number && purge.covers(asked))
    }

    /// Adds one of our own that is about to be done here. From now on nothing that it covers is taken from Redis. Which one it is.
    pub fn begin(&mut self, purge: Purge) -> u64 {
        self.said += 1;
        let crowded = self.untold.len() >= UNTOLD;
        if crowded {
            self.untold.clear();
        }
        let purge = if crowded { Purge::All } else { purge };
        self.untold.push(Untold { purge, nth: self.said, done: false, number: None });
        self.said
    }

    /// It has been done here, and the others may know.
    pub fn done(&mut self, nth: u64) {
        self.untold.iter_mut().filter(|untold| untold.nth == nth).for_each(|untold| untold.done = true);
    }

    /// One that the log is to be told of.
    pub fn next_untold(&self) -> Option<(u64, Purge)> {
        let next = self.untold.iter().find(|untold| untold.done && untold.number.is_none());
        next.map(|untold| (untold.nth, untold.purge.clone()))
    }

    /// The log has it, under this number.
    pub fn told(&mut self, nth: u64, number: Number) {
        let one = |untold: &&mut Untold| untold.nth == nth;
        self.untold.iter_mut().filter(one).for_each(|untold| untold.number = Some(number));
    }

    /// Takes in what was read after `known`, oldest first, and the number of the newest that the log has, 0 where it is empty.
    /// `whole`: as much was read as the log holds at most, so that others may be missing before it. Whether the log still has what
    /// was read from it before.
    pub fn learn(&mut self, known: Number, read: &[Logged], whole: bool, newest: Number) -> bool {
        let lost = newest < known;
        if lost {
            self.log.clear();
            self.floor = 0;
        }
        if whole {
            self.log.clear();
            self.floor = read.first().map_or(0, |first| first.number);
        }
        for Logged { number, purge, .. } in read {
            self.log.push_back((*number, purge.clone()));
            if self.log.len() > KEPT {
                self.floor = self.log.pop_front().map_or(0, |(number, _)| number);
            }
        }
        let reached = read.last().map_or(if lost { 0 } else { known }, |last| last.number);
        self.untold.retain(|untold| untold.number.is_none_or(|number| number > reached));
        // Those that the log had and has no more.
        self.untold
            .iter_mut()
            .for_each(|untold| untold.number = untold.number.filter(|number| *number <= newest));
        !lost
    }
}

/// A number from an ID in the log: `1763731200000-0`.
pub fn number(id: &str) -> Option<Number> {
    let (millis, nth) = id.split_once('-')?;
    let (millis, nth): (u64, u16) = (millis.parse().ok()?, nth.parse().ok()?);
    millis.checked_mul(1 << 16).map(|millis| millis | u64::from(nth))
}

/// The ID of a number.
pub fn id(number: Number) -> String {
    format!("{}-{}", number >> 16, number & 0xffff)
}

/// When a purge was logged, in seconds of Unix time by Redis's clock.
pub fn time(number: Number) -> u64 {
    (number >> 16) / 1000
}

/// The fields of a purge in the log, beside who said it: its kind, and the name on the wire.
pub fn fields(purge: &Purge) -> (&'static str, &[u8]) {
    match purge {
        Purge::Name(name) => ("name", name),
        Purge::Suffix(name) => ("suffix", name),
        Purge::All => ("all", &[]),
    }
}

/// What an entry of the log says. One that is not understood, such as a later version may write, is a purge of everything: too much
/// rather than too little.
pub fn logged(id: &str, mut fields: HashMap<String, Vec<u8>>) -> Option<Logged> {
    let name = fields.remove("name").unwrap_or_default();
    let purge = match fields.get("kind").map(Vec::as_slice) {
        Some(b"name") => Purge::Name(name),
        Some(b"suffix") => Purge::Suffix(name),
        _ => Purge::All,
    };
    Some(Logged { number: number(id)?, by: fields.remove("by").unwrap_or_default(), purge })
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

    fn entry(number: Number, purge: Purge) -> Logged {
        Logged { number, by: b"other".to_vec(), purge }
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

        // Told, and then lost with the log: told again.
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
            assert_eq!(read, Some(Logged { number: 5 << 16, by: b"me".to_vec(), purge }));
        }
        let unknown = [("kind".to_owned(), b"regex".to_vec())].into();
        assert_eq!(logged("5-0", unknown).map(|logged| logged.purge), Some(Purge::All));
        assert_eq!(logged("5-0", HashMap::new()).map(|logged| logged.purge), Some(Purge::All));
        assert_eq!(logged("nonsense", HashMap::new()), None);
    }
}
