//! Order in which questions are asked, drawn before the run so that drawing costs nothing during
//! it.

use crate::{question::record_type, zipf::Draw};
use anyhow::{Context, Result, bail, ensure};
use rand::{
    Rng, SeedableRng,
    distr::{Distribution, weighted::WeightedIndex},
    rngs::SmallRng,
};
use std::str::FromStr;

/// Record types with their weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Types(Vec<(u16, f64)>);

impl Types {
    /// Returns the types.
    pub fn types(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().map(|(qtype, _)| *qtype)
    }

    /// Returns `count` types, each in proportion to its weight, grouped by type.
    pub fn spread(&self, count: usize) -> impl Iterator<Item = u16> + '_ {
        let sum: f64 = self.0.iter().map(|(_, weight)| weight).sum();
        (0..count).map(move |nth| {
            let mut at = (nth as f64 + 0.5) / count as f64 * sum;
            let hit = self.0.iter().find(|(_, weight)| {
                at -= weight;
                at < 0.0
            });
            hit.unwrap_or(&self.0[0]).0
        })
    }
}

impl FromStr for Types {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut types = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part.split_once(':').unwrap_or((part, "1"));
            let weight = weight.parse().ok().filter(|weight: &f64| *weight > 0.0 && weight.is_finite());
            let weight = weight.with_context(|| format!("\"{part}\": write types as in A:70,AAAA:25"))?;
            let qtype = record_type(name)?;
            if types.iter().any(|(other, _)| *other == qtype) {
                bail!("{name} is given twice");
            }
            types.push((qtype, weight));
        }
        ensure!(types.len() <= 64, "more than 64 types");
        Ok(Types(types))
    }
}

/// Next question to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// Name of the list.
    Name(u32),
    /// Name never asked before.
    Random,
}

impl Pick {
    /// Returns the index of a name of the list.
    pub fn name(self) -> Option<u32> {
        match self {
            Pick::Name(name) => Some(name),
            Pick::Random => None,
        }
    }
}

/// Least length of drawn orders. An order is also at least four times as long as the list of names,
/// but at most `LONGEST`.
const SHORTEST: usize = 1 << 20;
const LONGEST: usize = 1 << 24;

/// Order of picks, repeated again and again.
#[derive(Clone, Debug)]
pub struct Order(Vec<u32>);

impl Order {
    const RANDOM: u32 = u32::MAX;

    /// Draws an order over `names` names by Zipf's law with exponent `zipf`, `random` of it (0 to 1) names never asked
    /// before. Equal seeds draw equal orders.
    pub fn draw(zipf: f64, names: usize, random: f64, seed: u64) -> Result<Self> {
        let draw = Draw::new(names, zipf)?;
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut pick = || {
            let is_random = random > 0.0 && rng.random_bool(random);
            if is_random { Self::RANDOM } else { draw.rank(&mut rng) }
        };
        let len = (4 * names).clamp(SHORTEST, LONGEST);
        Ok(Order((0..len).map(|_| pick()).collect()))
    }

    /// Returns the order over names that are listed once for each type, consecutively.
    pub fn with_types(mut self, types: &Types, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(!seed);
        let count = types.0.len() as u32;
        // Weights are above zero.
        if let Ok(which) = WeightedIndex::new(types.0.iter().map(|(_, weight)| weight)) {
            for pick in self.0.iter_mut().filter(|pick| **pick != Self::RANDOM) {
                *pick = *pick * count + which.sample(&mut rng) as u32;
            }
        }
        self
    }

    /// Returns the pick at a position. The order repeats, so the position may be past the end.
    #[inline]
    pub fn at(&self, position: u64) -> Pick {
        match self.0[(position % self.0.len() as u64) as usize] {
            Self::RANDOM => Pick::Random,
            name => Pick::Name(name),
        }
    }

    /// Returns the number of picks before the order repeats.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(order: &Order, names: usize) -> (Vec<u64>, u64) {
        let mut counts = vec![0; names];
        let mut random = 0;
        for position in 0..order.len() as u64 {
            match order.at(position) {
                Pick::Name(name) => counts[name as usize] += 1,
                Pick::Random => random += 1,
            }
        }
        (counts, random)
    }

    #[test]
    fn types_are_asked_as_often_as_their_weights_say() {
        let types: Types = "A:70,AAAA:20,https:10".parse().unwrap();
        assert_eq!(types.types().collect::<Vec<_>>(), [1, 28, 65]);
        let order = Order::draw(0.0, 10, 0.2, 1).unwrap().with_types(&types, 1);
        let (counts, random) = counts(&order, 30);
        let listed = order.len() as f64 - random as f64;
        for (nth, share) in [0.7, 0.2, 0.1].into_iter().enumerate() {
            let of_type: u64 = counts.iter().skip(nth).step_by(3).sum();
            assert!((of_type as f64 / listed - share).abs() < 0.01, "{nth}: {of_type}");
        }
        let spread: Vec<_> = types.spread(10).collect();
        assert_eq!(spread, [1, 1, 1, 1, 1, 1, 1, 28, 28, 65]);
        for wrong in ["A:0", "A,A", "NOPE", "A:x", ""] {
            assert!(wrong.parse::<Types>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn zipf_with_s_1_halves_at_the_second() {
        let (counts, _) = counts(&Order::draw(1.0, 1000, 0.0, 7).unwrap(), 1000);
        let ratio = counts[0] as f64 / counts[1] as f64;
        assert!((1.9..2.1).contains(&ratio), "{ratio}");
        assert!(counts[999] > 0);
    }

    #[test]
    fn the_random_share_is_kept_in_every_shape() {
        for zipf in [0.0, 0.9] {
            let order = Order::draw(zipf, 100, 0.1, 7).unwrap();
            let (_, random) = counts(&order, 100);
            let share = random as f64 / order.len() as f64;
            assert!((0.098..0.102).contains(&share), "{zipf}: {share}");
        }
    }
}
