//! Popularity by Zipf's law: draws names.

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
            None => rng.random_range(0..self.names as u32),
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
}
