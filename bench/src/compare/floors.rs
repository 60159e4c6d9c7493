//! Verdict of the short form: ratios between servers against committed floors.
//!
//! A ratio is the median of the ratios within each round, so that a disturbance of a whole round
//! affects both sides. Answers a second fall when another program takes the core; answers a
//! processor second do not, so their floors are closer to the usual ratio.

use super::{bout::Rounds, sample::Sample, server::Contestant, stats::Summary};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::{fmt, fs, path::Path};

/// Least ratio between two servers that is allowed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// Server that must not become slower.
    server: String,
    /// Server that it is compared with.
    to: String,
    /// Least ratio of answers a second.
    answers_per_second: f64,
    /// Least ratio of answers a processor second.
    answers_per_cpu_second: f64,
}

/// Measured ratio and its floor.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    what: String,
    found: f64,
    floor: f64,
}

/// Reads a file of floors.
pub fn read(path: &Path) -> Result<Vec<Floor>> {
    let read = || -> Result<Vec<Floor>> {
        let floors: Vec<Floor> = serde_json::from_str(&fs::read_to_string(path)?)?;
        ensure!(!floors.is_empty(), "it names no ratio");
        Ok(floors)
    };
    read().with_context(|| format!("{} holds no floors", path.display()))
}

/// Returns the names of the servers that the floors need.
pub fn servers(floors: &[Floor]) -> Vec<String> {
    let mut names: Vec<_> =
        floors.iter().flat_map(|floor| [floor.server.clone(), floor.to.clone()]).collect();
    names.sort();
    names.dedup();
    names
}

/// Compares the rounds' results with the floors. A server without figures is an error: its floors
/// would go unchecked.
pub fn judge(floors: &[Floor], contestants: &[Contestant], found: &Rounds<Sample>) -> Result<Vec<Verdict>> {
    let samples = |name: &str| {
        let of = found.iter().find(|(index, _)| contestants[*index].description.name == name);
        let samples = of.map(|(_, samples)| samples).filter(|samples| !samples.is_empty());
        samples.with_context(|| {
            format!("there is no figure of {name}, so its ratios cannot be checked: is it installed?")
        })
    };
    let mut verdicts = Vec::new();
    for floor in floors {
        let pairs: Vec<_> = samples(&floor.server)?.iter().zip(samples(&floor.to)?).collect();
        let rates =
            pairs.iter().map(|(ours, theirs)| ours.answers_per_second() / theirs.answers_per_second());
        let cpu = pairs.iter().map(|(ours, theirs)| theirs.cpu_nanos / ours.cpu_nanos);
        let measured = [
            ("answers a second", Summary::of(rates), floor.answers_per_second),
            ("answers a processor second", Summary::of(cpu), floor.answers_per_cpu_second),
        ];
        for (unit, ratio, least) in measured {
            let what = format!("{} to {}, {unit}", floor.server, floor.to);
            verdicts.push(Verdict { what, found: ratio.map_or(0.0, |ratio| ratio.median), floor: least });
        }
    }
    Ok(verdicts)
}

/// Fails if a ratio is below its floor.
pub fn hold(verdicts: &[Verdict]) -> Result<()> {
    let fallen: Vec<_> = verdicts.iter().filter(|v| !v.holds()).map(Verdict::to_string).collect();
    ensure!(
        fallen.is_empty(),
        "{}. If that is intended, lower the floor and say why in the commit",
        fallen.join("; ")
    );
    Ok(())
}

impl Verdict {
    /// Whether the ratio is at or above its floor.
    pub fn holds(&self) -> bool {
        // NaN fails.
        self.found >= self.floor
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { what, found, floor } = self;
        let verb = if self.holds() { "holds" } else { "FELL" };
        write!(f, "{what}: {found:.2}, floor {floor:.2}: {verb}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::server;

    fn floors(answers_per_second: f64, answers_per_cpu_second: f64) -> Vec<Floor> {
        let (server, to) = ("ringdnsd".into(), "unbound".into());
        vec![Floor { server, to, answers_per_second, answers_per_cpu_second }]
    }

    fn contestants() -> Vec<Contestant> {
        let only = ["ringdnsd", "unbound"].map(String::from);
        let described = server::describe(None, &only).unwrap();
        described.into_iter().map(|description| Contestant { description, version: "1".into() }).collect()
    }

    fn samples(figures: &[(f64, f64)]) -> Vec<Sample> {
        let of = |(rate, cpu): &(f64, f64)| Sample::of_hits(*rate, *cpu);
        figures.iter().map(of).collect()
    }

    /// Returns three rounds, one of them disturbed for both servers: ratios of 3.5, 3.5 and 3.4,
    /// and of 4.
    fn found() -> Rounds<Sample> {
        vec![
            (0, samples(&[(700e3, 1e3), (350e3, 1e3), (680e3, 1e3)])),
            (1, samples(&[(200e3, 4e3), (100e3, 4e3), (200e3, 4e3)])),
        ]
    }

    #[test]
    fn ratios_are_those_within_rounds() {
        let verdicts = judge(&floors(3.0, 3.5), &contestants(), &found()).unwrap();
        let ratios: Vec<_> = verdicts.iter().map(|verdict| verdict.found).collect();
        assert_eq!(ratios, [3.5, 4.0]);
        assert!(hold(&verdicts).is_ok());
    }

    #[test]
    fn whichever_ratio_falls_fails_and_is_named() {
        for (floors, named) in
            [(floors(3.6, 3.5), "answers a second: 3.50"), (floors(3.0, 4.1), "processor second: 4.00")]
        {
            let verdicts = judge(&floors, &contestants(), &found()).unwrap();
            let error = hold(&verdicts).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("ringdnsd to unbound"), "{error}");
            assert_eq!(error.matches("FELL").count(), 1, "{error}");
        }
    }

    #[test]
    fn a_server_without_figures_holds_nothing() {
        let mut missing = found();
        missing[1].1.clear();
        let error = judge(&floors(3.0, 3.5), &contestants(), &missing).unwrap_err().to_string();
        assert!(error.contains("unbound"), "{error}");
        let odd = [Verdict { what: "x".into(), found: f64::NAN, floor: 1.0 }];
        assert!(hold(&odd).is_err());
    }

    #[test]
    fn the_committed_floors_name_servers_that_there_are() {
        let floors = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("ratios.json")).unwrap();
        assert_eq!(servers(&floors), ["responder", "ringdnsd", "unbound"]);
        assert!(server::describe(None, &servers(&floors)).is_ok());
    }
}
