//! `[resolver]`: options for querying upstreams.

use crate::{error::Problem, table::table, values::choice};

table! {
    /// Options for querying upstreams.
    "[resolver]" RawResolver {
        /// Order in which upstreams are asked: `"failover"`, the first in the file that works;
        /// `"round-robin"`, each in turn; `"lowest-latency"`, the one with the lowest recent
        /// latency.
        strategy: Strategy = Strategy::default(),
        /// Percentile of an upstream's own answer times, from 50 to 99, after which a second
        /// upstream is asked as well; the first answer is used. With 95, one query in twenty is
        /// sent twice. Absent: off.
        hedge: Option<u16> = None,
        /// Whether the letter case of query names is randomised, which makes answers harder to
        /// forge (DNS 0x20). An upstream that does not repeat the case is asked over TCP; after
        /// three such answers in a row it is asked in small letters, for an hour.
        randomize_case: bool = true,
        /// Whether DNS cookies are sent to upstreams (RFC 7873), so that answers of upstreams that
        /// support them are harder to forge.
        cookies: bool = true,
        /// Most questions a second in one zone that are resolved once the zone is flooded with random
        /// names: it has more questions than this, which no cache answers, more than an eighth of
        /// those of all zones, and at least half of them find nothing; or more than half of those of
        /// all zones, and nearly all of them find the same records, as below a wildcard. Names of the
        /// zone that are or were cached are not affected. Queries beyond that are answered with SERVFAIL, over UDP
        /// every second one; the others are not. `0`: no zone is capped. A change takes effect with
        /// a reload.
        zone_misses: u32 = 1000,
    }
}

choice! {
    /// Order in which upstreams are asked.
    Strategy {
        /// The first upstream in the file that works.
        #[default]
        Failover = "failover",
        /// Each upstream in turn.
        RoundRobin = "round-robin",
        /// The upstream with the lowest recent latency.
        LowestLatency = "lowest-latency",
    }
}

/// Options for querying upstreams.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResolverConfig {
    /// Order in which upstreams are asked.
    pub strategy: Strategy,
    /// Percentile of an upstream's answer times after which a second one is asked too; `None`:
    /// never.
    pub hedge: Option<f64>,
    /// Whether the letter case of query names is randomised.
    pub randomize_case: bool,
    /// Whether DNS cookies are sent to upstreams.
    pub cookies: bool,
    /// Most questions a second in a flooded zone that are resolved; zero: no zone is capped.
    pub zone_misses: u32,
}

impl RawResolver {
    /// Returns the checked values.
    pub fn check(self) -> Result<ResolverConfig, Problem> {
        if let Some(hedge @ (..50 | 100..)) = self.hedge {
            let reason = format!("{hedge} is not from 50 to 99");
            let remedy = "Give 95, so that one query in twenty is asked twice, or remove the key";
            return Err(Problem::new("resolver.hedge", reason, remedy));
        }
        Ok(ResolverConfig {
            strategy: self.strategy,
            hedge: self.hedge.map(f64::from),
            randomize_case: self.randomize_case,
            cookies: self.cookies,
            zone_misses: self.zone_misses,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MINIMAL, minimal_with, refused};

    #[test]
    fn a_strategy_and_a_percentile_are_taken() {
        let text = "[resolver]\nstrategy = \"lowest-latency\"\nhedge = 95\n";
        let resolver = minimal_with(text).resolver;
        assert_eq!((resolver.strategy, resolver.hedge), (Strategy::LowestLatency, Some(95.0)));
        assert_eq!(minimal_with("[resolver]").resolver.hedge, None);
    }

    #[test]
    fn wrong_values_are_refused() {
        refused(
            &format!("{MINIMAL}[resolver]\n"),
            &[
                ["hedge = 49", "6", "resolver.hedge", "49 is not", "95"],
                ["hedge = 100", "6", "resolver.hedge", "100 is not", "95"],
                ["strategy = \"fastest\"", "6", "resolver.strategy", "fastest", "Correct the value"],
            ],
        );
    }
}
