//! Tables that fit a terminal.

use std::io::{self, IsTerminal};

/// Width of a table that is not printed on a terminal, in columns.
pub const WIDTH: usize = 80;

/// Least width of a table: on a narrower terminal, its lines are wrapped.
const WIDTH_MIN: usize = 40;

/// Least width of a column of words that is made narrower.
const WORDS_MIN: usize = 8;

/// Most columns that the first column takes beside numbers.
const KEY_MAX: usize = 30;

/// Spaces between two columns.
const GAP: usize = 2;

/// Returns the width of the terminal; `None` if standard output is none.
pub fn terminal_width() -> Option<usize> {
    let is_terminal = io::stdout().is_terminal();
    let size = is_terminal.then(terminal_size::terminal_size).flatten();
    size.map(|(width, _)| usize::from(width.0).max(WIDTH_MIN))
}

/// Returns the width of tables.
pub fn table_width() -> usize {
    terminal_width().unwrap_or(WIDTH)
}

/// Table whose first columns are words, and whose other columns are numbers.
pub struct Table {
    /// Heads and rows, as long as the heads.
    lines: Vec<Vec<String>>,
    /// Number of columns with words; at least one.
    words: usize,
}

impl Table {
    /// Returns an empty table.
    pub fn new(heads: &[&str], words: usize) -> Self {
        Table { lines: vec![heads.iter().map(|head| (*head).to_owned()).collect()], words }
    }

    /// Adds rows.
    pub fn rows(mut self, rows: impl Iterator<Item = Vec<String>>) -> Self {
        self.lines.extend(rows);
        self
    }

    /// Returns the text, of which no line is longer than `width`. A table that is too wide continues
    /// below: words first, then as many numbers as fit beside the first column, until all are
    /// there. Words are wrapped, numbers never.
    pub fn fit(&self, width: usize) -> String {
        let natural: Vec<usize> = (0..self.lines[0].len()).map(|at| self.natural(at)).collect();
        let mut text = String::new();
        if total(&natural) <= width {
            self.write(&(0..natural.len()).collect::<Vec<_>>(), &natural, &mut text);
            return text;
        }
        let mut widths = natural;
        if self.words > 1 {
            let words = self.narrowed(&widths[..self.words], width);
            self.write(&(0..self.words).collect::<Vec<_>>(), &words, &mut text);
        }
        widths[0] = widths[0].min(KEY_MAX).min(width / 2);
        let mut numbers = self.words..widths.len();
        while !numbers.is_empty() {
            let mut columns = vec![0];
            let mut used = widths[0];
            while let Some(at) = numbers.clone().next()
                && (used + GAP + widths[at] <= width || columns.len() == 1)
            {
                used += GAP + widths[at];
                columns.push(at);
                numbers.next();
            }
            if !text.is_empty() {
                text.push('\n');
            }
            let widths: Vec<_> = columns.iter().map(|at| widths[*at]).collect();
            self.write(&columns, &widths, &mut text);
        }
        text
    }

    /// Returns the width that a column needs.
    fn natural(&self, at: usize) -> usize {
        self.lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0)
    }

    /// Makes the widest columns narrower until all fit.
    fn narrowed(&self, natural: &[usize], width: usize) -> Vec<usize> {
        let mut widths = natural.to_vec();
        while total(&widths) > width
            && let Some(widest) = widths.iter_mut().max()
            && *widest > WORDS_MIN
        {
            *widest -= 1;
        }
        widths
    }

    /// Writes some of the columns, which have these widths.
    fn write(&self, columns: &[usize], widths: &[usize], text: &mut String) {
        for line in &self.lines {
            let cells: Vec<Vec<String>> =
                columns.iter().zip(widths).map(|(at, width)| wrapped(&line[*at], *width)).collect();
            let height = cells.iter().map(Vec::len).max().unwrap_or(0);
            for row in 0..height {
                let mut shown = String::new();
                for ((at, width), cell) in columns.iter().zip(widths).zip(&cells) {
                    let piece = cell.get(row).map_or("", String::as_str);
                    // Words at the left, numbers at the right.
                    if *at < self.words {
                        shown += &format!("{piece:<width$}{:GAP$}", "");
                    } else {
                        shown += &format!("{piece:>width$}{:GAP$}", "");
                    }
                }
                *text += shown.trim_end();
                text.push('\n');
            }
        }
    }
}

/// Returns the columns that cells of these widths take in a line.
fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

/// Breaks a text into lines of at most `width` characters: behind a space or one of `,/;#` if there
/// is one in the last two thirds of a line.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let letters: Vec<char> = text.chars().collect();
    let mut lines = Vec::new();
    let mut rest = &letters[..];
    while rest.len() > width {
        let is_end = |at: &usize| rest[*at] == ' ' || matches!(rest[*at - 1], ' ' | ',' | '/' | ';' | '#');
        let end = (width / 3 + 1..=width).rev().find(is_end).unwrap_or(width);
        lines.push(rest[..end].iter().collect::<String>().trim_end().to_owned());
        rest = &rest[end..];
        while rest.first() == Some(&' ') {
            rest = &rest[1..];
        }
    }
    lines.push(rest.iter().collect());
    lines
}

/// Most columns that the continuation of a line is indented by, and the indent of one without a name.
const INDENT_MAX: usize = 16;
const INDENT: usize = 4;

/// Returns a text in which lines that are longer than `width` continue below, beside the name in front of
/// them if there is one.
pub fn folded(text: &str, width: usize) -> String {
    let mut folded = String::new();
    for line in text.lines() {
        let indent = continuation(line).min(width / 2);
        for (nth, piece) in pieces(line, width, indent).into_iter().enumerate() {
            let indent = if nth == 0 { 0 } else { indent };
            folded += format!("{:indent$}{piece}", "").trim_end();
            folded.push('\n');
        }
    }
    folded
}

/// Breaks a line into pieces, all but the first of which get an indent.
fn pieces(line: &str, width: usize, indent: usize) -> Vec<String> {
    if line.chars().count() <= width {
        return vec![line.to_owned()];
    }
    // As if the first line had that indent, too: its own beginning takes the place.
    let begin: String = line.chars().take(indent).collect();
    let rest: String = line.chars().skip(indent).collect();
    let mut pieces = wrapped(&rest, width - indent);
    if let Some(first) = pieces.first_mut() {
        first.insert_str(0, &begin);
    }
    pieces
}

/// Returns the column at which a line continues below: that of the text behind its name, or else some
/// columns further than it begins.
fn continuation(line: &str) -> usize {
    let text = line.trim_start();
    let begin = line.chars().count() - text.chars().count();
    // Two spaces end a name, which may have one within: "worker 0   fresh".
    let name = text.find("  ").map(|at| &text[..at]).filter(|_| begin == 0);
    let column = name.map(|name| {
        let rest = &text[name.len()..];
        name.chars().count() + rest.len() - rest.trim_start().len()
    });
    column.filter(|column| *column <= INDENT_MAX).unwrap_or(begin + INDENT)
}

/// Cuts a text that is longer than `width` in its middle: names differ at the beginning, and their zones
/// at the end.
pub fn shortened(text: &str, width: usize) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= width || width == 0 {
        return text.to_owned();
    }
    let begin = (width - 1) / 2;
    let end = letters.len() - (width - 1 - begin);
    letters[..begin].iter().chain(&['…']).chain(&letters[end..]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(addresses: &[&str]) -> Table {
        let heads = ["ADDRESS", "ZONES", "QUERIES", "ANSWERS", "TIMEOUTS", "ERRORS", "P50", "P99"];
        let row = |address: &&str| {
            let numbers = (0..6).map(|n| format!("{}", 12_345_678_901_u64 * (n + 1)));
            [(*address).to_owned(), "corp.example,lab.example,10.in-addr.arpa,very-long-zone.example".into()]
                .into_iter()
                .chain(numbers)
                .collect()
        };
        Table::new(&heads, 2).rows(addresses.iter().map(row))
    }

    #[test]
    fn a_table_that_fits_is_left_as_it_is() {
        let rows = [["a", "1"], ["bcd", "22"]].map(|row| row.map(str::to_owned).to_vec());
        let text = Table::new(&["NAME", "N"], 1).rows(rows.into_iter()).fit(80);
        assert_eq!(text, "NAME   N\na      1\nbcd   22\n");
    }

    #[test]
    fn no_line_is_wider_and_nothing_is_lost() {
        let long = "https://a-very-long-name-of-a-resolver.example.net:8443/dns-query";
        for width in [40, 60, 80, 120, 200] {
            let text = table(&["udp://192.0.2.1:53", long]).fit(width);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}\n{text}");
            for n in 1..=6 {
                let number = (12_345_678_901_u64 * n).to_string();
                assert_eq!(text.matches(&number).count(), 2, "{number} at {width}\n{text}");
            }
            for head in ["ADDRESS", "ZONES", "QUERIES", "TIMEOUTS", "P99"] {
                assert!(text.contains(head), "{head} at {width}\n{text}");
            }
        }
    }

    #[test]
    fn a_line_continues_beside_its_name() {
        let text =
            "client     one two three\nshort\nlong words without a name\n  indented words that go on\n";
        let expected = "client     one two\n           three\nshort\nlong words without a\n    name\n  \
                        indented words that\n      go on\n";
        assert_eq!(folded(text, 22), expected);
        let word = format!("{}  {}", "n".repeat(30), "x".repeat(50));
        for width in [40, 60, 80] {
            assert!(folded(&word, width).lines().all(|line| line.chars().count() <= width), "{width}");
            assert_eq!(folded(&word, width).matches(['x', 'n']).count(), 80);
        }
    }

    #[test]
    fn a_long_name_keeps_its_ends() {
        assert_eq!(shortened("www.example.com.", 16), "www.example.com.");
        assert_eq!(shortened("a-long-name.example.com.", 16), "a-long-…ple.com.");
        for width in 1..30 {
            let short = shortened("ü-lôñg-name.example.com.example.", width);
            assert!(short.chars().count() <= width, "{short}");
        }
    }

    #[test]
    fn texts_break_where_they_may() {
        assert_eq!(wrapped("one two three four", 9), ["one two", "three", "four"]);
        assert_eq!(wrapped("corp.example,lab.example", 13), ["corp.example,", "lab.example"]);
        assert_eq!(wrapped("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrapped("", 4), [""]);
        assert_eq!(wrapped("üüüüü", 2), ["üü", "üü", "ü"]);
    }
}
