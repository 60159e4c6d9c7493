//! Attacks, and the figures by which servers are compared.

use super::{bomb, fair, forged, heavy, icmp, site::Site};
use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

/// Group of attacks, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttackGroup {
    /// Random names of a zone whose upstream is silent.
    Fair,
    /// ICMP errors.
    Icmp,
    /// Forged answers with every ID.
    NearMisses,
    /// Malformed datagrams with the right port and ID.
    Malformed,
    /// DNSBomb: many answers in one pulse.
    Bomb,
    /// Answers of 64 KiB that are costly to read.
    Heavy,
}

/// Unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Share of a client's queries that were answered right and in time, in percent.
    Answered,
    /// Share of queries that were answered with forged data, in percent.
    Poisoned,
    /// Bandwidth of the strongest pulse over the mean bandwidth of the queries.
    Amplification,
    /// Processor seconds of the server for 100 queries of the attacker.
    ProcessorSeconds,
}

impl Unit {
    /// Formats a figure.
    pub fn format(self, figure: f64) -> String {
        match self {
            Unit::Answered | Unit::Poisoned => format!("{figure:.0} %"),
            Unit::Amplification => format!("{figure:.0}"),
            Unit::ProcessorSeconds => format!("{figure:.3} s"),
        }
    }

    fn is_better_if_high(self) -> bool {
        self == Unit::Answered
    }

    /// Returns the difference up to which two figures count as equal: the scatter of repeated runs.
    fn scatter(self, figure: f64) -> f64 {
        match self {
            Unit::Answered | Unit::Poisoned => 2.0,
            Unit::Amplification => 0.1 * figure.abs(),
            Unit::ProcessorSeconds => 0.002 + 0.1 * figure.abs(),
        }
    }

    /// Whether `one` is worse than `other` by more than the scatter.
    pub fn is_worse(self, one: f64, other: f64) -> bool {
        let ahead = if self.is_better_if_high() { other - one } else { one - other };
        // NaN, a figure that is missing, is worse than every other.
        other.is_finite() && (one.is_nan() || ahead > self.scatter(other))
    }

    /// Whether a figure keeps a limit: at least that, or at most, whichever is the worse side.
    pub fn keeps(self, figure: f64, limit: f64) -> bool {
        if self.is_better_if_high() { figure >= limit } else { figure <= limit }
    }
}

/// Row of the table.
#[derive(Clone, Debug, Serialize)]
pub struct AttackRow {
    /// Name in the table.
    pub name: String,
    /// Unit of the figures.
    pub unit: Unit,
    /// Worst figure of ringdnsd with which the short form still passes.
    pub limit: f64,
}

impl AttackRow {
    /// Returns a row.
    pub fn new(name: impl Into<String>, unit: Unit, limit: f64) -> Self {
        AttackRow { name: name.into(), unit, limit }
    }
}

/// AttackCourse of an attack on a server; returns a figure for each row.
type AttackCourse = dyn Fn(&Site<'_>) -> Result<Vec<f64>>;

/// Attack on a server.
pub struct Attack {
    /// Group that it belongs to.
    pub group: AttackGroup,
    /// Whether it is part of the short form.
    pub is_short: bool,
    /// Figures that it yields.
    pub rows: Vec<AttackRow>,
    course: Box<AttackCourse>,
}

impl Attack {
    /// Returns an attack.
    pub fn new(
        group: AttackGroup,
        is_short: bool,
        rows: impl Into<Vec<AttackRow>>,
        course: impl Fn(&Site<'_>) -> Result<Vec<f64>> + 'static,
    ) -> Self {
        Attack { group, is_short, rows: rows.into(), course: Box::new(course) }
    }

    /// Attacks the server of a site; returns a figure for each row.
    pub fn run(&self, site: &Site<'_>) -> Result<Vec<f64>> {
        let figures = (self.course)(site)?;
        anyhow::ensure!(figures.len() == self.rows.len(), "an attack has a figure for each of its rows");
        Ok(figures)
    }
}

/// Returns all attacks in the order of the table.
pub fn all() -> Vec<Attack> {
    let groups = [
        fair::attacks(),
        icmp::attacks(),
        forged::near_misses(),
        forged::malformed(),
        bomb::attacks(),
        heavy::attacks(),
    ];
    groups.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn worse_is_less_of_answers_and_more_of_everything_else() {
        assert!(Unit::Answered.is_worse(90.0, 100.0) && !Unit::Answered.is_worse(100.0, 90.0));
        assert!(Unit::Poisoned.is_worse(20.0, 0.0) && !Unit::Poisoned.is_worse(0.0, 20.0));
        assert!(Unit::ProcessorSeconds.is_worse(0.2, 0.1) && !Unit::ProcessorSeconds.is_worse(0.1, 0.2));
    }

    #[test]
    fn the_scatter_of_runs_makes_nobody_worse() {
        assert!(!Unit::Answered.is_worse(99.0, 100.0));
        assert!(!Unit::Amplification.is_worse(105.0, 100.0) && Unit::Amplification.is_worse(120.0, 100.0));
    }

    #[test]
    fn a_missing_figure_is_worse_than_any() {
        for unit in [Unit::Answered, Unit::Poisoned, Unit::Amplification, Unit::ProcessorSeconds] {
            assert!(unit.is_worse(f64::NAN, 1.0) && !unit.is_worse(1.0, f64::NAN));
            assert!(!unit.keeps(f64::NAN, 1.0));
        }
    }

    #[test]
    fn limits_are_least_answers_and_most_of_everything_else() {
        assert!(Unit::Answered.keeps(95.0, 95.0) && !Unit::Answered.keeps(94.0, 95.0));
        assert!(Unit::Poisoned.keeps(0.0, 0.0) && !Unit::Poisoned.keeps(1.0, 0.0));
    }

    #[test]
    fn rows_have_different_names_and_every_group_is_in_the_short_form() {
        let attacks = all();
        let names: Vec<_> = attacks.iter().flat_map(|attack| &attack.rows).map(|row| &row.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        for group in AttackGroup::value_variants() {
            assert!(attacks.iter().any(|attack| attack.group == *group && attack.is_short), "{group:?}");
        }
    }
}
