//! Errors in a configuration, with their place in the file.

use std::{fmt, ops::Range, path::PathBuf};
use toml::de::{DeTable, DeValue};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}. Check the path given with --config and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The file's text is refused.
    #[error("{}{place}{problem}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Line in the file, if known.
        place: FileLine,
        /// Key, reason and remedy.
        problem: Problem,
    },
}

/// A key's value that is refused: the key, the reason, the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the key: `server.listen[1]`; empty if there is none.
    pub key: String,
    /// Reason for the refusal.
    pub reason: String,
    /// Remedy.
    pub remedy: String,
}

impl Problem {
    /// Returns a problem with `key`.
    pub fn new(key: impl Into<String>, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Problem { key: key.into(), reason: reason.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}. {}", self.reason, self.remedy)
    }
}

impl std::error::Error for Problem {}

/// A line of the file, displayed as `:7: `, or as `: ` if unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLine(pub Option<usize>);

impl fmt::Display for FileLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(line) => write!(f, ":{line}: "),
            None => f.write_str(": "),
        }
    }
}

/// Returns the place, the key and the message of an error from serde or the TOML parser.
pub fn from_toml(text: &str, error: &toml::de::Error) -> (FileLine, Problem) {
    let place = FileLine(error.span().map(|span| line(text, span.start)));
    let key = error.span().map(|span| key_at(text, &span)).unwrap_or_default();
    let reason = error.message().trim_end_matches('.').replace('\n', ", ");
    let remedy = match () {
        () if reason.starts_with("unknown field") => "Remove the key or correct its spelling",
        () if reason.starts_with("invalid") || reason.starts_with("unknown variant") => "Correct the value",
        () => "Correct the TOML syntax",
    };
    (place, Problem::new(key, reason, remedy))
}

/// Returns the line of `key`'s value in `text`; of its table, if the key is absent.
pub fn place_of(text: &str, key: &str) -> FileLine {
    let Ok(root) = DeTable::parse(text) else { return FileLine(None) };
    let mut found = None;
    walk(root.get_ref(), "", &mut |path, span| {
        if key == path || key.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '['])) {
            found = Some(span.start);
        }
    });
    FileLine(found.map(|at| line(text, at)))
}

/// Returns the path of the innermost key whose value or name covers `span`.
fn key_at(text: &str, span: &Range<usize>) -> String {
    let mut found = String::new();
    if let Ok(root) = DeTable::parse(text) {
        walk(root.get_ref(), "", &mut |path, at| {
            if at.start <= span.start && span.end <= at.end {
                found = path.to_owned();
            }
        });
    }
    found
}

/// Visits every key and element, parents first, with its path and the spans of its name and of its value.
fn walk(table: &DeTable<'_>, above: &str, visit: &mut dyn FnMut(&str, Range<usize>)) {
    for (name, value) in table {
        let dot = if above.is_empty() { "" } else { "." };
        let path = format!("{above}{dot}{}", name.get_ref());
        visit(&path, name.span());
        walk_value(value.get_ref(), &path, value.span(), visit);
    }
}

fn walk_value(
    value: &DeValue<'_>,
    path: &str,
    span: Range<usize>,
    visit: &mut dyn FnMut(&str, Range<usize>),
) {
    visit(path, span);
    match value {
        DeValue::Table(table) => walk(table, path, visit),
        DeValue::Array(array) => {
            for (i, element) in array.iter().enumerate() {
                walk_value(element.get_ref(), &format!("{path}[{i}]"), element.span(), visit);
            }
        }
        _ => {}
    }
}

/// Returns the line, from 1, that byte `at` is on.
fn line(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count() + 1
}
