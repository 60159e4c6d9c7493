//! Popularity by Zipf's law: draws names, and predicts the hit ratio of a least-recently-used
//! cache.

use anyhow::{Result, ensure};
use rand::{Rng, distr::Distribution};
use rand_distr::Zipf;

/// Source of names with a given popularity.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    names: u64,
    zipf: Option<Zipf<f64>>,
}

/// Prime larger than any number of names: multiplication by it turns ranks into names in an order
/// unrelated to popularity, and none twice.
const SCATTER: u64 = 4_294_967_291;

impl Draw {
    /// Draws from `names` names, the nth n^-`exponent` times as often as the first; all equally
    /// often if it is 0.
    pub fn new(names: usize, exponent: f64) -> Result<Self> {
        ensure!(names > 0, "there are no names to draw from");
        ensure!(exponent.is_finite() && exponent >= 0.0, "{exponent} is not an exponent of Zipf's law");
        let zipf = if exponent > 0.0 { Some(Zipf::new(names as f64, exponent)?) } else { None };
        Ok(Draw { names: names as u64, zipf })
    }

    /// Returns the next rank, 0 for the most popular.
    pub fn rank(&self, rng: &mut impl Rng) -> u32 {
        match &self.zipf {
            Some(zipf) => (zipf.sample(rng) as u64 - 1).min(self.names - 1) as u32,
            None => rng.random_range(0..self.names) as u32,
        }
    }

    /// Returns the next name: neighbours differ in popularity.
    pub fn scattered(&self, rng: &mut impl Rng) -> u32 {
        scatter(self.rank(rng), self.names as usize)
    }
}

/// Returns the name of a rank, of so many.
pub fn scatter(rank: u32, names: usize) -> u32 {
    (u64::from(rank) * SCATTER % names as u64) as u32
}

/// Ranks in groups of approximately equal probability: the first ones each by itself, later ones by
/// the thousand.
#[derive(Clone, Debug)]
pub struct Popularity {
    /// Number of names and probability of each, by group.
    groups: Vec<(f64, f64)>,
    /// Whether all are equally popular: then nothing is approximated.
    uniform: bool,
}

impl Popularity {
    /// Returns the popularity of `names` names by Zipf's law.
    pub fn zipf(names: usize, exponent: f64) -> Self {
        let mut groups = Vec::new();
        let mut first = 1;
        while first <= names {
            let last = (first + first / 256).min(names);
            let middle = (first as f64 * last as f64).sqrt();
            groups.push(((last - first + 1) as f64, middle.powf(-exponent)));
            first = last + 1;
        }
        let sum: f64 = groups.iter().map(|(count, weight)| count * weight).sum();
        groups.iter_mut().for_each(|(_, weight)| *weight /= sum);
        Popularity { groups, uniform: exponent == 0.0 }
    }

    fn names(&self) -> f64 {
        self.groups.iter().map(|(count, _)| count).sum()
    }

    /// Returns the share of queries that a least-recently-used cache of `capacity` names can
    /// answer.
    ///
    /// Uses Che's approximation (Che, Tung, Wang: "Hierarchical Web caching systems", 2002): a name
    /// is cached if it was asked for within a time that is the same for all.
    pub fn lru_hits(&self, capacity: f64) -> f64 {
        if capacity >= self.names() {
            return 1.0;
        }
        if capacity <= 0.0 {
            return 0.0;
        }
        if self.uniform {
            return capacity / self.names();
        }
        let held = |time: f64| self.groups.iter().map(|(n, p)| n * -(-p * time).exp_m1()).sum::<f64>();
        let (mut low, mut high) = (0.0, 1.0);
        while held(high) < capacity {
            (low, high) = (high, high * 2.0);
        }
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if held(middle) < capacity { low = middle } else { high = middle }
        }
        self.groups.iter().map(|(n, p)| n * p * -(-p * high).exp_m1()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::SmallRng};
    use std::collections::HashSet;

    #[test]
    fn scattering_leaves_no_name_out() {
        let draw = Draw::new(1000, 0.0).unwrap();
        let mut rng = SmallRng::seed_from_u64(1);
        let names: HashSet<u32> = (0..20_000).map(|_| draw.scattered(&mut rng)).collect();
        assert_eq!(names.len(), 1000);
    }

    #[test]
    fn of_equally_popular_names_a_cache_has_its_share() {
        let hits = Popularity::zipf(10_000, 0.0).lru_hits(2500.0);
        assert!((hits - 0.25).abs() < 1e-6, "{hits}");
        assert_eq!(Popularity::zipf(10, 1.0).lru_hits(10.0), 1.0);
    }

    #[test]
    fn a_simulated_lru_cache_hits_as_often() {
        const NAMES: usize = 2000;
        let (draw, mut rng) = (Draw::new(NAMES, 1.0).unwrap(), SmallRng::seed_from_u64(3));
        let (mut recent, mut hits) = (Vec::<u32>::new(), 0);
        for query in 0..60_000 {
            let name = draw.rank(&mut rng);
            if let Some(at) = recent.iter().position(|held| *held == name) {
                recent.remove(at);
                hits += u32::from(query >= 10_000);
            }
            recent.insert(0, name);
            recent.truncate(200);
        }
        let (simulated, reckoned) =
            (f64::from(hits) / 50_000.0, Popularity::zipf(NAMES, 1.0).lru_hits(200.0));
        assert!((simulated - reckoned).abs() < 0.01, "{simulated} against {reckoned}");
    }
}
