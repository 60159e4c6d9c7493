//! HostileReport as text and JSON.

use super::attack::{AttackGroup, AttackRow};
use crate::{
    compare::{server::Contestant, stats::Summary},
    setup::Setup,
};
use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::{self, Write};

/// Measurements of a row.
#[derive(Clone, Debug, Serialize)]
pub struct RowFigures {
    /// Group that the row belongs to.
    pub group: AttackGroup,
    /// Row.
    pub row: AttackRow,
    /// Figures of all rounds, for each server in the order of the columns. NaN: a round in which
    /// the server could not be measured.
    pub rounds: Vec<Vec<f64>>,
}

/// Standing of ringdnsd in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    First,
    Equal,
    Behind,
}

impl RowFigures {
    /// Returns the median of a server's rounds; NaN if there is none.
    pub fn median(&self, server: usize) -> f64 {
        let figures = self.rounds[server].iter().copied().filter(|figure| figure.is_finite());
        Summary::of(figures).map_or(f64::NAN, |summary| summary.median)
    }

    /// Returns the place of a server among all others.
    fn place(&self, server: usize) -> Standing {
        let own = self.median(server);
        let others = (0..self.rounds.len()).filter(|other| *other != server).map(|other| self.median(other));
        let (mut is_first, mut is_behind) = (true, false);
        for other in others {
            is_behind |= self.row.unit.is_worse(own, other);
            is_first &= self.row.unit.is_worse(other, own);
        }
        match (is_first, is_behind) {
            (_, true) => Standing::Behind,
            (true, _) => Standing::First,
            _ => Standing::Equal,
        }
    }
}

/// Report of all attacks.
pub struct HostileReport<'a> {
    /// Machine and build.
    pub setup: Setup,
    /// Rounds of each attack.
    pub rounds: u16,
    /// Priority of servers and attackers.
    pub nice: i8,
    /// Servers, in the order of the columns.
    pub contestants: &'a [Contestant],
    /// Rows, in the order of the table.
    pub lines: Vec<RowFigures>,
    /// Remarks for the readers.
    pub remarks: Vec<String>,
}

impl HostileReport<'_> {
    /// Returns the index of ringdnsd among the servers.
    fn ours(&self) -> Option<usize> {
        self.contestants.iter().position(|contestant| contestant.description.is_ours())
    }

    /// Fails if a figure of ringdnsd is worse than the limit of its row.
    pub fn hold(&self) -> Result<()> {
        let Some(ours) = self.ours() else { return Ok(()) };
        let worse: Vec<String> = self
            .lines
            .iter()
            .filter(|line| !line.row.unit.keeps(line.median(ours), line.row.limit))
            .map(|line| {
                let AttackRow { name, unit, limit } = &line.row;
                format!("{name}: {}, limit {}", unit.format(line.median(ours)), unit.format(*limit))
            })
            .collect();
        ensure!(worse.is_empty(), "ringdnsd is worse than its limit: {}", worse.join("; "));
        Ok(())
    }

    /// Returns the results as JSON.
    pub fn json(&self) -> Value {
        let servers: Vec<Value> = self
            .contestants
            .iter()
            .map(|Contestant { description, version }| {
                json!({
                    "name": description.name,
                    "title": description.title,
                    "version": version,
                    "notes": description.notes.trim(),
                })
            })
            .collect();
        json!({
            "setup": self.setup,
            "rounds": self.rounds,
            "nice": self.nice,
            "servers": servers,
            "rows": self.lines,
            "remarks": self.remarks,
        })
    }
}

/// Markdown, which is also readable as plain text.
impl fmt::Display for HostileReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Hostile clients and networks\n\n{}", self.setup)?;
        writeln!(
            f,
            "- veth and loopback, two cores: each server on one, with one thread; clients, upstreams and attackers on \
             the other. Nice {}. Medians of {} {}.",
            self.nice,
            self.rounds,
            if self.rounds == 1 { "round" } else { "rounds" }
        )?;
        let servers = self.contestants.iter().map(|c| format!("{} {}", c.description.title, c.version));
        writeln!(f, "- {}.\n", servers.collect::<Vec<_>>().join(", "))?;

        let mut rows = vec![self.head()];
        rows.extend(self.lines.iter().map(|line| self.row(line)));
        let columns = rows[0].len();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (nth, row) in rows.iter().enumerate() {
            let mut text = String::from("|");
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => write!(text, " {cell:<width$} |")?,
                    _ => write!(text, " {cell:>width$} |")?,
                }
            }
            writeln!(f, "{text}")?;
            if nth == 0 {
                let rule = widths.iter().enumerate().map(|(column, width)| match column {
                    0 => "-".repeat(*width + 2),
                    _ => format!("{}:", "-".repeat(width + 1)),
                });
                writeln!(f, "|{}|", rule.collect::<Vec<_>>().join("|"))?;
            }
        }
        if !self.remarks.is_empty() {
            writeln!(f)?;
        }
        self.remarks.iter().try_for_each(|remark| writeln!(f, "- {remark}."))
    }
}

impl HostileReport<'_> {
    fn head(&self) -> Vec<String> {
        let mut head = vec!["attack".to_owned()];
        head.extend(self.contestants.iter().map(|contestant| contestant.description.title.clone()));
        if self.is_compared() {
            head.push("ringdnsd is".into());
        }
        head
    }

    fn row(&self, line: &RowFigures) -> Vec<String> {
        let mut cells = vec![line.row.name.clone()];
        cells.extend((0..self.contestants.len()).map(|server| {
            let figure = line.median(server);
            if figure.is_nan() { "-".into() } else { line.row.unit.format(figure) }
        }));
        if let Some(ours) = self.ours().filter(|_| self.is_compared()) {
            let place = match line.place(ours) {
                Standing::First => "first",
                Standing::Equal => "equal",
                Standing::Behind => "BEHIND",
            };
            cells.push(place.into());
        }
        cells
    }

    fn is_compared(&self) -> bool {
        self.contestants.len() > 1 && self.ours().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{compare::server::Description, hostile::attack::Unit};

    fn contestants() -> Vec<Contestant> {
        let describe = |(name, text): (&str, &str)| Description::parse(name, text).unwrap();
        let of = |description| Contestant { description, version: "1".into() };
        super::super::SERVERS[..3].iter().copied().map(describe).map(of).collect()
    }

    fn line(name: &str, unit: Unit, rounds: [&[f64]; 3]) -> RowFigures {
        let row = AttackRow::new(name, unit, 90.0);
        RowFigures { group: AttackGroup::Fair, row, rounds: rounds.map(<[f64]>::to_vec).to_vec() }
    }

    fn results(contestants: &[Contestant]) -> HostileReport<'_> {
        HostileReport {
            setup: Setup::default(),
            rounds: 3,
            nice: 0,
            contestants,
            lines: vec![
                line("first", Unit::Answered, [&[100.0, 0.0, 96.0], &[10.0], &[20.0]]),
                line("equal", Unit::Answered, [&[100.0], &[99.0], &[20.0]]),
                line("behind", Unit::Poisoned, [&[50.0], &[0.0], &[100.0]]),
            ],
            remarks: vec!["a remark".into()],
        }
    }

    #[test]
    fn a_cell_is_the_median_and_the_last_column_the_place() {
        let contestants = contestants();
        let text = results(&contestants).to_string();
        let cells = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(&format!("| {name}"))).unwrap();
            line.split('|').map(str::trim).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(cells("first")[2..6], ["96 %", "10 %", "20 %", "first"]);
        assert_eq!(cells("equal")[5], "equal");
        assert_eq!(cells("behind")[5], "BEHIND");
        assert!(text.ends_with("\n- a remark.\n"), "{text}");
    }

    #[test]
    fn a_server_without_figures_is_behind_and_never_ahead() {
        let mut line = line("x", Unit::Answered, [&[f64::NAN], &[50.0], &[]]);
        assert_eq!(line.place(0), Standing::Behind);
        line.rounds[0] = vec![f64::NAN, 60.0];
        assert_eq!((line.median(0), line.place(0)), (60.0, Standing::First));
    }

    #[test]
    fn only_ringdnsd_has_to_keep_the_limits() {
        let contestants = contestants();
        let mut results = results(&contestants);
        results.lines.truncate(2);
        results.hold().unwrap();
        results.lines[1].rounds[0] = vec![89.0];
        let error = results.hold().unwrap_err().to_string();
        assert!(error.contains("equal: 89 %, limit 90 %") && !error.contains("first"), "{error}");
    }
}
