//! Results of the simulations as text.

use super::{Results, Row, Sweep, world::Scheme};
use crate::{machine::binary, report::group};
use std::fmt::{self, Write};

/// Heading of the rows.
pub const HEADING: &str = "     names      appliances workers scheme     core bytes |  core %  host % upstream % fetched % | \
                           core entries      used  host entries busiest";

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Scheme::Replicated => "replicated",
            Scheme::Sharded => "sharded",
        })
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Simulated: Zipf {}, {} queries/s, {} flows, TTL {} s, {} queries counted {}.",
            self.load.zipf,
            group(self.load.rate.into()),
            group(self.load.flows.into()),
            self.ttl,
            group(self.load.queries),
            if self.load.cold {
                "from empty caches on"
            } else {
                "after as many that are not counted, in caches that had seen every name"
            }
        )
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { fleet, outcome, .. } = self;
        write!(
            f,
            "{:>10} {:<7} {:>7} {:>7} {:<10} {:>10} | {:>7.2} {:>7.2} {:>10.2} {:>9.2} | {:>12} {:>9} {:>13} {:>5.0} %",
            group(self.names as u64),
            if self.real { "real" } else { "made up" },
            fleet.appliances,
            fleet.workers,
            fleet.scheme,
            binary(fleet.core_bytes as u64),
            outcome.core,
            outcome.host,
            outcome.upstream,
            outcome.fetched,
            group(outcome.core_entries),
            binary(outcome.core_used),
            group(outcome.host_entries),
            outcome.busiest,
        )
    }
}

/// Loss of worker cache hit ratio, in points, that is accepted rather than a larger cache.
const WORTH: f64 = 1.0;

impl Results {
    fn catalogues(&self) -> Vec<(usize, bool)> {
        let mut found: Vec<(usize, bool)> = Vec::new();
        for row in &self.rows {
            if !found.contains(&(row.names, row.real)) {
                found.push((row.names, row.real));
            }
        }
        found
    }

    fn rows(&self, (names, real): (usize, bool), sweep: Sweep, scheme: Scheme) -> impl Iterator<Item = &Row> {
        let wanted = move |row: &&Row| {
            (row.names, row.real, row.sweep, row.fleet.scheme) == (names, real, sweep, scheme)
        };
        self.rows.iter().filter(wanted)
    }

    /// Returns the conclusions from the figures.
    pub fn recommendation(&self) -> String {
        let mut text = String::from("\nConclusions\n");
        let mut say = |sentence: String| {
            // A string takes whatever is written to it.
            let _ = writeln!(text, "- {sentence}");
        };
        for catalogue in self.catalogues() {
            let what = name(catalogue);
            if let Some(budget) = self.enough(catalogue) {
                let (bytes, workers) = (budget.fleet.core_bytes, budget.fleet.workers);
                say(format!(
                    "{what}: copies for {workers} workers need {} a host: then the worker caches answer {:.1} %, within {WORTH} point \
                     of the largest that was tried.",
                    binary(bytes as u64),
                    budget.outcome.core
                ));
            } else {
                say(format!("{what}: none of the worker caches that were tried is large enough for copies."));
            }
            let copies = self.rows(catalogue, Sweep::Workers, Scheme::Replicated).last();
            let Some(copies) = copies.filter(|row| row.fleet.workers > 1) else { continue };
            let shards = self.rows(catalogue, Sweep::Workers, Scheme::Sharded).last();
            if let Some(shards) = shards {
                say(self.verdict(&what, copies, shards));
            }
        }
        text
    }

    /// Returns the smallest worker caches, with copies, that are nearly as good as the largest.
    fn enough(&self, catalogue: (usize, bool)) -> Option<&Row> {
        let rows = || self.rows(catalogue, Sweep::Budget, Scheme::Replicated);
        let best = rows().last()?.outcome.core;
        let ideal =
            self.rows(catalogue, Sweep::Budget, Scheme::Sharded).last().map_or(best, |row| row.outcome.core);
        // If shards still gain on the largest caches, even those are too small for copies.
        (ideal - best <= WORTH).then(|| rows().find(|row| best - row.outcome.core <= WORTH))?
    }

    fn verdict(&self, what: &str, copies: &Row, shards: &Row) -> String {
        let workers = copies.fleet.workers as f64;
        // Divides the punts that shards save by the queries that shards hand over.
        let punted = |row: &Row| 100.0 - row.outcome.core;
        let saved = (punted(copies) - punted(shards)).max(0.0) / 100.0 * self.punt_micros * 1000.0;
        let worth = saved / ((workers - 1.0) / workers);
        format!(
            "{what}, {} workers in {}: copies answer {:.1} %, shards {:.1} %. Shards hand over {:.0} % of all queries to another \
             core, and pay only if that costs less than {worth:.0} ns (at an assumed {} µs a query for the host tier); and \
             their busiest worker, which has the most popular name, has {:.0} % of a fair share, against {:.0} %.",
            copies.fleet.workers,
            binary(copies.fleet.core_bytes as u64),
            copies.outcome.core,
            shards.outcome.core,
            100.0 * (workers - 1.0) / workers,
            self.punt_micros,
            shards.outcome.busiest,
            copies.outcome.busiest
        )
    }
}

fn name((names, real): (usize, bool)) -> String {
    format!("{} {} names", group(names as u64), if real { "real" } else { "made-up" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::world::{Fleet, Load, Outcome};

    fn row(sweep: Sweep, scheme: Scheme, mib: usize, core: f64) -> Row {
        let fleet = Fleet { appliances: 1, workers: 4, scheme, core_bytes: mib << 20, host_bytes: 0 };
        let outcome = Outcome { core, host: 100.0 - core, ..Outcome::default() };
        Row { sweep, names: 1000, real: false, fleet, outcome }
    }

    #[test]
    fn what_is_recommended_follows_from_the_figures() {
        use Scheme::{Replicated, Sharded};
        let load = Load { zipf: 1.0, flows: 1, rate: 1, warm: 1, cold: false, queries: 1, seed: 1 };
        let budget =
            [(16, 70.0), (32, 89.5), (64, 90.0)].map(|(mib, core)| row(Sweep::Budget, Replicated, mib, core));
        let mut rows = budget.to_vec();
        rows.push(row(Sweep::Budget, Sharded, 64, 90.5));
        rows.push(row(Sweep::Workers, Replicated, 64, 80.0));
        rows.push(row(Sweep::Workers, Sharded, 64, 95.0));
        let mut results = Results { load, ttl: 1, punt_micros: 5.0, rows };
        let text = results.recommendation();
        assert!(text.contains("need 32 MiB a host") && text.contains("89.5 %"), "{text}");
        // 15 % of 5 µs saved, for three quarters that are handed over.
        assert!(text.contains("less than 1000 ns"), "{text}");
        // Shards gain more than a point even with the largest caches: copies have too little room.
        results.rows[3].outcome.core = 92.0;
        assert!(results.recommendation().contains("large enough"), "{}", results.recommendation());
    }
}
