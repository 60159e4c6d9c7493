//! Results of a measure: table, notes and raw figures.

use super::stats::Summary;
use crate::report::group;
use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// Results of one measure.
#[derive(Debug, Serialize)]
pub struct Section {
    /// Name of the measure on the command line.
    #[serde(skip)]
    pub name: &'static str,
    /// Heading.
    pub title: String,
    /// Method of the measurement.
    pub note: String,
    /// Head of the table: the server column, then the figures, with " | " between them.
    #[serde(skip)]
    pub head: &'static str,
    /// Rows of the table, as long as the head.
    #[serde(skip)]
    pub rows: Vec<Vec<String>>,
    /// Remarks for the readers.
    pub remarks: Vec<String>,
    /// Every figure of every round.
    #[serde(rename = "servers")]
    pub raw: Value,
    /// Duration of the measure, in seconds.
    pub seconds: f64,
}

/// Markdown, which is also readable as plain text.
impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}\n\n{} Took {:.0} s.\n", self.title, self.note, self.seconds)?;
        let head: Vec<String> = self.head.split(" | ").map(String::from).collect();
        let widths: Vec<usize> = (0..head.len())
            .map(|column| {
                let cells = self.rows.iter().chain([&head]).map(|row| row[column].chars().count());
                cells.max().unwrap_or(0).max(4)
            })
            .collect();
        let row = |f: &mut fmt::Formatter<'_>, cells: &[String]| {
            f.write_str("|")?;
            for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                if column == 0 { write!(f, " {cell:<width$} |")? } else { write!(f, " {cell:>width$} |")? }
            }
            writeln!(f)
        };
        row(f, &head)?;
        let rule = widths.iter().enumerate().map(|(column, width)| {
            if column == 0 { "-".repeat(*width) } else { format!("{}:", "-".repeat(width - 1)) }
        });
        row(f, &rule.collect::<Vec<_>>())?;
        for cells in &self.rows {
            row(f, cells)?;
        }
        if !self.remarks.is_empty() {
            writeln!(f)?;
        }
        for remark in &self.remarks {
            writeln!(f, "- {remark}.")?;
        }
        Ok(())
    }
}

/// Returns the row of a server without figures.
pub fn empty_row(title: &str, head: &str) -> Vec<String> {
    let mut row: Vec<String> = head.split(" | ").map(|_| "-".into()).collect();
    row[0] = title.into();
    row
}

/// Formats a median and its spread.
pub fn with_spread(summary: Summary) -> [String; 2] {
    let whole = |figure: f64| group(figure as u64);
    [whole(summary.median), format!("{}-{}", whole(summary.min), whole(summary.max))]
}

/// Formats nanoseconds as microseconds with about three digits.
pub fn micros(nanos: f64) -> String {
    let micros = nanos / 1000.0;
    if micros < 100.0 { format!("{micros:.1}") } else { group(micros as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let section = Section {
            name: "x",
            title: "X".into(),
            note: "Measured.".into(),
            head: "server | answers/s",
            rows: vec![vec!["a long name µ".into(), "1".into()], empty_row("b", "server | answers/s")],
            remarks: vec!["b is not installed".into()],
            raw: Value::Null,
            seconds: 1.0,
        };
        let text = section.to_string();
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
        let width = lines[0].chars().count();
        assert!(lines.len() == 4 && lines.iter().all(|line| line.chars().count() == width), "{text}");
        assert!(text.contains("\n- b is not installed.\n"), "{text}");
    }

    #[test]
    fn times_have_about_three_digits() {
        assert_eq!([1234.0, 99_940.0, 1_234_567.0].map(micros), ["1.2", "99.9", "1,234"]);
    }
}
