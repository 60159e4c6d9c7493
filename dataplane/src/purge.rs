//! Purges, and the generations of the caches: each begins with a purge, and an answer of an older
//! one is void if a purge since then covers it.

use crate::dns::{is_within, key::Asked};
use arc_swap::ArcSwap;
use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Most purges in memory. An answer from before all of them is void.
const KEPT: usize = 1024;

/// Set of names, given as lowercased wire bytes.
pub trait NameSet: fmt::Debug + Send + Sync {
    /// Whether a name is in the set.
    fn has(&self, name: &[u8]) -> bool;
}

/// Scope of a purge.
#[derive(Clone, Debug)]
pub enum Purge {
    /// All types of a name, which is given as lowercased wire bytes.
    Name(Vec<u8>),
    /// All types of a name and of everything below it.
    Suffix(Vec<u8>),
    /// Everything.
    All,
    /// Everything in the workers' caches, since lists now decide otherwise. What upstreams answered
    /// stays: lists are applied to it on its way to clients.
    Verdicts,
    /// Likewise, but lists decide otherwise about these names alone.
    VerdictsOn(Arc<dyn NameSet>),
}

impl PartialEq for Purge {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Purge::Name(one), Purge::Name(other)) | (Purge::Suffix(one), Purge::Suffix(other)) => {
                one == other
            }
            (Purge::All, Purge::All) | (Purge::Verdicts, Purge::Verdicts) => true,
            (Purge::VerdictsOn(one), Purge::VerdictsOn(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for Purge {}

impl Purge {
    /// Whether the purge covers what a worker answers to a question.
    pub fn covers(&self, asked: Asked<'_>) -> bool {
        match self {
            Purge::All | Purge::Verdicts => true,
            Purge::Name(name) => asked.name() == name,
            Purge::Suffix(suffix) => is_within(asked.name(), suffix),
            // The answer may have aliases, which lists decide about too.
            Purge::VerdictsOn(_) => true,
        }
    }

    /// Whether the purge covers what a worker answers to a question, if lists can have decided about
    /// no other name than that of the question.
    pub fn covers_plain(&self, asked: Asked<'_>) -> bool {
        match self {
            Purge::VerdictsOn(names) => names.has(asked.name()),
            _ => self.covers(asked),
        }
    }

    /// Whether the purge covers what upstreams answered to a question.
    pub fn covers_source(&self, asked: Asked<'_>) -> bool {
        !self.is_about_verdicts() && self.covers(asked)
    }

    /// Whether the purge covers nothing that upstreams answered.
    fn is_about_verdicts(&self) -> bool {
        matches!(self, Purge::Verdicts | Purge::VerdictsOn(_))
    }

    /// Whether the purge covers answers that the standing of a zone was proven with: those about
    /// the zone, or about one above it.
    pub fn concerns_zone(&self, zone: &[u8]) -> bool {
        match self {
            Purge::All => true,
            Purge::Verdicts | Purge::VerdictsOn(_) => false,
            Purge::Name(name) | Purge::Suffix(name) => is_within(zone, name),
        }
    }
}

/// Generations of the caches of this host. The host tier begins them, workers follow.
#[derive(Debug, Default)]
pub struct Generations {
    current: AtomicU64,
    /// Purges that began the newest generations, oldest first.
    purges: ArcSwap<VecDeque<(u64, Arc<Purge>)>>,
    /// Held while a generation begins.
    beginning: Mutex<()>,
}

impl Generations {
    /// Returns the number of the current generation.
    #[inline]
    pub fn current(&self) -> u64 {
        self.current.load(Ordering::Acquire)
    }

    /// Begins a generation with a purge.
    pub fn begin(&self, purge: Arc<Purge>) {
        let _one_at_a_time = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.current() + 1;
        let known = self.purges.load();
        let kept = known.iter().skip((known.len() + 1).saturating_sub(KEPT)).cloned();
        let purges = kept.chain([(number, purge)]).collect();
        self.purges.store(Arc::new(purges));
        // Last: a reader that knows of the generation finds its purge.
        self.current.store(number, Ordering::Release);
    }

    /// Returns the purges that began the generations after `known`, up to `last`. `None`: some of
    /// them are no longer in memory.
    pub fn purges(&self, known: u64, last: u64) -> Option<Vec<Arc<Purge>>> {
        let purges = self.purges.load();
        let newer = purges.iter().rev().take_while(|(number, _)| *number > known);
        let newer: Vec<_> = newer.collect();
        if known < last && newer.last().is_none_or(|(oldest, _)| *oldest > known + 1) {
            return None;
        }
        let wanted = newer.into_iter().rev().filter(|(number, _)| *number <= last);
        Some(wanted.map(|(_, purge)| purge.clone()).collect())
    }

    /// Whether a purge since `generation` is one that `covers` tells.
    pub fn purged_since(&self, generation: u64, covers: impl Fn(&Purge) -> bool) -> bool {
        let current = self.current();
        generation != current
            && self.purges(generation, current).is_none_or(|purges| purges.iter().any(|purge| covers(purge)))
    }

    /// Whether a purge makes what a worker answers to a question void, if it is of `generation`.
    pub fn is_void(&self, asked: Asked<'_>, generation: u64) -> bool {
        self.purged_since(generation, |purge| purge.covers(asked))
    }

    /// Whether a purge makes what upstreams answered to a question void, if it is of `generation`.
    pub fn is_source_void(&self, asked: Asked<'_>, generation: u64) -> bool {
        self.purged_since(generation, |purge| purge.covers_source(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::testing;
    use hickory_proto::rr::RecordType;

    fn name(text: &str) -> Purge {
        let key = testing::parsed(&testing::query(text, RecordType::A)).key;
        Purge::Name(key.asked().name().to_vec())
    }

    #[test]
    fn answers_are_void_that_a_later_purge_covers() {
        let generations = Generations::default();
        let key = testing::parsed(&testing::query("www.example.", RecordType::A)).key;
        let void = |generation| generations.is_void(key.asked(), generation);
        assert!(!void(0));
        generations.begin(Arc::new(name("never.asked.")));
        assert!(!void(0) && !void(1));
        generations.begin(Arc::new(name("www.example.")));
        assert!(void(0) && void(1) && !void(2));
        assert_eq!(generations.purges(0, 1), Some(vec![Arc::new(name("never.asked."))]));
        assert_eq!(generations.purges(2, 2), Some(Vec::new()));
    }

    #[test]
    fn answers_are_void_that_are_older_than_all_purges_in_memory() {
        let generations = Generations::default();
        let key = testing::parsed(&testing::query("www.example.", RecordType::A)).key;
        let other = Arc::new(name("never.asked."));
        (0..=KEPT).for_each(|_| generations.begin(other.clone()));
        assert!(generations.is_void(key.asked(), 0) && generations.purges(0, KEPT as u64).is_none());
        assert!(!generations.is_void(key.asked(), 1));
        assert_eq!(generations.purges(1, KEPT as u64 + 1).map(|purges| purges.len()), Some(KEPT));
    }

    #[test]
    fn new_verdicts_make_void_what_workers_answer_and_nothing_else() {
        let generations = Generations::default();
        let key = testing::parsed(&testing::query("www.example.", RecordType::A)).key;
        generations.begin(Arc::new(Purge::Verdicts));
        assert!(generations.is_void(key.asked(), 0) && !generations.is_source_void(key.asked(), 0));
        assert!(!Purge::Verdicts.concerns_zone(key.asked().name()));
        generations.begin(Arc::new(name("www.example.")));
        assert!(generations.is_source_void(key.asked(), 1));
    }

    #[test]
    fn a_zone_is_concerned_by_purges_at_and_above_it() {
        let zone = testing::parsed(&testing::query("example.com.", RecordType::DS)).key;
        let concerned = |purge: Purge| purge.concerns_zone(zone.asked().name());
        assert!(concerned(Purge::All) && concerned(name("example.com.")) && concerned(name("com.")));
        assert!(!concerned(name("www.example.com.")) && !concerned(name("example.net.")));
    }
}
