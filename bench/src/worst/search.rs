//! Search for the candidates that cost most: each of a generation is a change of an earlier one.

use super::{
    genome::Genome,
    mutate::{crossed, mutated, repair},
    scene::Class,
};
use crate::instructions::{form::Form, shapes::SHAPES};
use anyhow::Result;
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// Candidates of a generation.
const GENERATION: usize = 96;
/// Families that are kept of each niche.
const FAMILIES: usize = 48;
/// Candidates of a tournament, of which the worst becomes a parent.
const TOURNAMENT: usize = 4;
/// Share of candidates that are mixed of two, in percent.
const CROSSED: u32 = 35;
/// Most tries to find a candidate that was not there before.
const TRIES: usize = 64;

/// Servers that a candidate may come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// Servers with the default set-up: all that the sender chooses is the packet.
    Default,
    /// Servers with any set-up.
    Configured,
}

/// Judge of candidates.
pub trait Judge {
    /// Returns the class and the cost of each candidate; `None`: it has no class.
    fn judge(&mut self, candidates: &[Genome]) -> Result<Vec<Option<(Class, f64)>>>;
}

/// Candidate with its cost.
#[derive(Clone, Debug)]
pub struct Found {
    /// Cost, in instructions a packet.
    pub cost: f64,
    /// Candidate.
    pub genome: Genome,
}

/// Class and reach of candidates.
pub type Niche = (Class, Reach);

/// State of a search.
pub struct Search {
    rng: SmallRng,
    /// Costliest of each family, by niche.
    niches: BTreeMap<Niche, BTreeMap<String, Found>>,
    seen: HashSet<String>,
    /// Most bytes of a frame without its tags.
    frame_max: usize,
    /// Number of candidates judged so far.
    pub judged: usize,
}

impl Search {
    /// Returns a search whose draws follow from `seed`, among frames of at most `frame_max` bytes.
    pub fn new(seed: u64, frame_max: usize) -> Self {
        Search {
            rng: SmallRng::seed_from_u64(seed),
            niches: BTreeMap::new(),
            seen: HashSet::new(),
            frame_max,
            judged: 0,
        }
    }

    /// Judges the shapes of the gate, and `others`.
    pub fn begin(&mut self, others: Vec<Genome>, judge: &mut dyn Judge) -> Result<()> {
        let shapes = SHAPES.iter().map(|shape| Genome::of((shape.form)()));
        let mut first: Vec<Genome> = shapes.chain(others).collect();
        first.iter_mut().for_each(|genome| repair(genome, self.frame_max));
        self.judge(first, judge)
    }

    /// Judges a generation.
    pub fn step(&mut self, judge: &mut dyn Judge) -> Result<()> {
        let children = (0..GENERATION).filter_map(|_| self.child()).collect();
        self.judge(children, judge)
    }

    /// Returns the costliest candidates of a niche, one of each family.
    pub fn worst(&self, niche: Niche) -> Vec<&Found> {
        let mut found: Vec<&Found> = self.niches.get(&niche).into_iter().flat_map(BTreeMap::values).collect();
        found.sort_by(|a, b| b.cost.total_cmp(&a.cost));
        found
    }

    fn judge(&mut self, candidates: Vec<Genome>, judge: &mut dyn Judge) -> Result<()> {
        let verdicts = judge.judge(&candidates)?;
        self.judged += candidates.len();
        for (genome, verdict) in candidates.into_iter().zip(verdicts) {
            let Some((class, cost)) = verdict else { continue };
            let reaches: &[Reach] = match genome.site.is_default() {
                true => &[Reach::Default, Reach::Configured],
                false => &[Reach::Configured],
            };
            for reach in reaches {
                self.keep((class, *reach), &genome, cost);
            }
        }
        Ok(())
    }

    fn keep(&mut self, niche: Niche, genome: &Genome, cost: f64) {
        let families = self.niches.entry(niche).or_default();
        let family = genome.family();
        if families.get(&family).is_some_and(|known| known.cost >= cost) {
            return;
        }
        families.insert(family, Found { cost, genome: genome.clone() });
        while families.len() > FAMILIES {
            let least = families.iter().min_by(|(_, a), (_, b)| a.cost.total_cmp(&b.cost));
            let Some(least) = least.map(|(family, _)| family.clone()) else { break };
            families.remove(&least);
        }
    }

    /// Returns a candidate that was not judged before; `None`: none was found.
    fn child(&mut self) -> Option<Genome> {
        for _ in 0..TRIES {
            let parent = self.parent();
            let child = match self.rng.random_ratio(CROSSED, 100) {
                true => {
                    let other = self.parent();
                    let child = crossed(&parent, &other, self.frame_max, &mut self.rng);
                    if self.rng.random() { mutated(&child, self.frame_max, &mut self.rng) } else { child }
                }
                false => mutated(&parent, self.frame_max, &mut self.rng),
            };
            if self.seen.insert(child.to_string()) {
                return Some(child);
            }
        }
        None
    }

    /// Returns the winner of a tournament in a random niche.
    fn parent(&mut self) -> Genome {
        let niches: Vec<Niche> = self.niches.keys().copied().collect();
        let niche = niches.choose(&mut self.rng).and_then(|niche| self.niches.get(niche));
        let Some(found) = niche.map(|families| families.values().collect::<Vec<_>>()) else {
            return Genome::of(Form::default());
        };
        let drawn: Vec<&&Found> = found.choose_multiple(&mut self.rng, TOURNAMENT).collect();
        let winner = drawn.into_iter().max_by(|a, b| a.cost.total_cmp(&b.cost));
        winner.map_or_else(|| Genome::of(Form::default()), |found| found.genome.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        instructions::parts::{EdnsOption, Labels},
        stage::Ip,
        worst::genome::FRAME_MAX,
    };

    /// Judge in which one shape is far more expensive than the others, and each part of it a little.
    struct Planted;

    impl Judge for Planted {
        fn judge(&mut self, candidates: &[Genome]) -> Result<Vec<Option<(Class, f64)>>> {
            Ok(candidates.iter().map(|genome| Some((Class::Hit, cost(genome)))).collect())
        }
    }

    fn cost(genome: &Genome) -> f64 {
        let parts = |form: &Form| {
            let options = form.options.iter().flatten();
            let unknown = options.filter(|(option, _)| matches!(option, EdnsOption::Unknown(_)));
            let unknown: u32 = unknown.map(|(_, times)| u32::from(*times)).sum();
            [form.ip == Ip::V6, form.tags == 2, form.labels == Labels::Short, form.is_stale, unknown > 50]
                .map(u32::from)
                .iter()
                .sum::<u32>()
        };
        let parts: u32 = genome.packets.iter().map(parts).min().unwrap_or(0);
        if parts == 5 { 10_000.0 } else { 100.0 + f64::from(parts) }
    }

    #[test]
    fn a_planted_expensive_shape_is_found() {
        let mut search = Search::new(1, FRAME_MAX);
        search.begin(Vec::new(), &mut Planted).unwrap();
        let before = search.worst((Class::Hit, Reach::Default))[0].cost;
        assert!(before < 1_000.0, "the search has to find it: {before}");
        for _ in 0..60 {
            search.step(&mut Planted).unwrap();
        }
        for reach in [Reach::Default, Reach::Configured] {
            let worst = search.worst((Class::Hit, reach));
            assert_eq!(worst[0].cost, 10_000.0, "{}", worst[0].genome);
            assert!(worst.len() <= FAMILIES && worst.is_sorted_by(|a, b| a.cost >= b.cost));
        }
        assert!(
            search.worst((Class::Hit, Reach::Default)).iter().all(|found| found.genome.site.is_default())
        );
    }

    #[test]
    fn equal_seeds_find_the_same() {
        let worst = |seed| {
            let mut search = Search::new(seed, FRAME_MAX);
            search.begin(Vec::new(), &mut Planted).unwrap();
            search.step(&mut Planted).unwrap();
            search.step(&mut Planted).unwrap();
            let worst = search.worst((Class::Hit, Reach::Configured));
            worst.iter().map(|found| found.genome.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(worst(3), worst(3));
        assert_ne!(worst(3), worst(4));
    }
}
