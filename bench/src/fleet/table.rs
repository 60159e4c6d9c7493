//! Results of the simulations as text.

use super::{Results, Row, Sweep};
use crate::{machine::binary, report::group};
use std::fmt::{self, Write};

/// Heading of the rows.
pub const HEADING: &str = "     names      appliances workers core bytes |  core %  host % upstream % fetched % | \
                           core entries      used  host entries busiest";

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
            "{:>10} {:<7} {:>7} {:>7} {:>10} | {:>7.2} {:>7.2} {:>10.2} {:>9.2} | {:>12} {:>9} {:>13} {:>5.0} %",
            group(self.names as u64),
            if self.real { "real" } else { "made up" },
            fleet.appliances,
            fleet.workers,
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

    /// Returns the conclusions from the figures.
    pub fn recommendation(&self) -> String {
        let mut text = String::from("\nConclusions\n");
        for catalogue in self.catalogues() {
            let what = name(catalogue);
            // A string takes whatever is written to it.
            let _ = match self.enough(catalogue) {
                Some(Row { fleet, outcome, .. }) => writeln!(
                    text,
                    "- {what}: {} workers need {} a host: then the worker caches answer {:.1} %, within {WORTH} point of the \
                     largest that was tried.",
                    fleet.workers,
                    binary(fleet.core_bytes as u64),
                    outcome.core
                ),
                None => {
                    writeln!(text, "- {what}: none of the worker caches that were tried is large enough.")
                }
            };
        }
        text
    }

    /// Returns the smallest worker caches that are nearly as good as the largest, unless the host
    /// tier still answers for those.
    fn enough(&self, (names, real): (usize, bool)) -> Option<&Row> {
        let of = (names, real, Sweep::Budget);
        let rows = || self.rows.iter().filter(|row| (row.names, row.real, row.sweep) == of);
        let best = rows().next_back().filter(|row| row.outcome.host <= WORTH)?.outcome.core;
        rows().find(|row| best - row.outcome.core <= WORTH)
    }
}

fn name((names, real): (usize, bool)) -> String {
    format!("{} {} names", group(names as u64), if real { "real" } else { "made-up" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::world::{Fleet, Load, Outcome};

    #[test]
    fn what_is_recommended_follows_from_the_figures() {
        let load = Load { zipf: 1.0, flows: 1, rate: 1, warm: 1, cold: false, queries: 1, seed: 1 };
        let row = |(mib, core, host)| {
            let fleet = Fleet { appliances: 1, workers: 4, core_bytes: mib << 20, host_bytes: 0 };
            let outcome = Outcome { core, host, ..Outcome::default() };
            Row { sweep: Sweep::Budget, names: 1000, real: false, fleet, outcome }
        };
        let rows = [(16_usize, 70.0, 20.0), (32, 89.5, 0.7), (64, 90.0, 0.2)].map(row).into();
        let mut results = Results { load, ttl: 1, rows };
        let text = results.recommendation();
        assert!(text.contains("4 workers need 32 MiB a host") && text.contains("89.5 %"), "{text}");
        // Even with the largest caches, the host tier answers for them.
        results.rows[2].outcome.host = 2.0;
        assert!(results.recommendation().contains("large enough"), "{}", results.recommendation());
    }
}
