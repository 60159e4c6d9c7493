//! Recent demand for an entry.

use ringdns_dataplane::clock::Secs;

/// Half-life of the count, in seconds.
pub const HALF_LIFE: Secs = 120;

/// Count that halves every [`HALF_LIFE`]. The low 16 bits hold the count, the high ones the number
/// of the half-life in which it was current. No task has to halve counts: each is brought up to
/// date when it is read or raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand(u32);

impl Demand {
    /// Returns a demand of `count` at `now`.
    pub fn new(count: u16, now: Secs) -> Self {
        Demand(packed(count, now))
    }

    /// Returns the count at `now`.
    pub fn get(&self, now: Secs) -> u16 {
        faded(self.0, now)
    }

    /// Counts `n` more.
    pub fn add(&mut self, n: u16, now: Secs) {
        self.0 = packed(faded(self.0, now).saturating_add(n), now);
    }

    /// Whether nothing was ever counted.
    pub(super) fn is_zero(self) -> bool {
        self.0 as u16 == 0
    }

    /// Returns count and half-life as they are kept.
    pub(super) fn bits(self) -> u32 {
        self.0
    }

    /// Returns the demand that is kept as these bits.
    pub(super) fn from_bits(bits: u32) -> Self {
        Demand(bits)
    }
}

fn packed(count: u16, now: Secs) -> u32 {
    (now / HALF_LIFE) << 16 | u32::from(count)
}

fn faded(packed: u32, now: Secs) -> u16 {
    // In 16 bits, numbers of half-lives wrap after 91 days, and no entry is kept for so long.
    let half_lives = ((now / HALF_LIFE) as u16).wrapping_sub((packed >> 16) as u16);
    (packed as u16).checked_shr(half_lives.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_with_each_question_and_halves_with_time() {
        let mut demand = Demand::default();
        assert_eq!((demand.get(0), demand.get(1_000_000)), (0, 0));
        for _ in 0..12 {
            demand.add(1, 10_000);
        }
        assert_eq!([0, 1, 2, 3, 4].map(|n| demand.get(10_000 + n * HALF_LIFE)), [12, 6, 3, 1, 0]);
        demand.add(1, 10_000 + HALF_LIFE);
        assert_eq!(demand.get(10_000 + HALF_LIFE), 7);
        let copy = Demand::from_bits(demand.bits());
        assert_eq!(copy.get(10_000 + 2 * HALF_LIFE), 3, "a copy fades on");
        assert_eq!(demand.get(10_000 + 100 * HALF_LIFE), 0);
        demand.add(u16::MAX, 20_000);
        demand.add(9, 20_000);
        assert_eq!(demand.get(20_000), u16::MAX, "it does not come round");
    }

    /// The number of the half-life wraps, too.
    #[test]
    fn it_fades_over_the_end_of_its_numbers() {
        let late = (1 << 16) * HALF_LIFE - 1;
        let demand = Demand::new(8, late);
        assert_eq!((demand.get(late), demand.get(late + 1), demand.get(late + 1 + HALF_LIFE)), (8, 4, 2));
    }
}
