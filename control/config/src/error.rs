//! Errors in a configuration, with their place in the file.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

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
    /// The file's text is refused, or does not fit this machine.
    #[error("{}", self.lines().join("\n"))]
    Refused {
        /// The file.
        path: PathBuf,
        /// All problems, in the order of the file; at least one.
        problems: Vec<PlacedProblem>,
    },
    /// There is no file.
    #[error(
        "the configuration is that of the command line, and cannot be read again. Restart ringdnsd, or give it a file with --config"
    )]
    NoFile,
}

impl ConfigError {
    /// Returns the error that a file with this text has `problems`.
    pub fn refused(path: &Path, text: &str, problems: Vec<Problem>) -> Self {
        let placed = |problem: Problem| PlacedProblem { place: place_of(text, &problem.key), problem };
        let mut problems: Vec<_> = problems.into_iter().map(placed).collect();
        problems.sort_by_key(|problem| problem.place);
        ConfigError::Refused { path: path.to_owned(), problems }
    }

    /// Removes the places of the problems, for a text that its author has not seen.
    pub fn without_lines(mut self) -> Self {
        if let ConfigError::Refused { problems, .. } = &mut self {
            problems.iter_mut().for_each(|problem| problem.place = FilePlace(None));
        }
        self
    }

    /// Returns the problems, one a line.
    pub fn lines(&self) -> Vec<String> {
        match self {
            ConfigError::Read { .. } | ConfigError::NoFile => vec![self.to_string()],
            ConfigError::Refused { path, problems } => {
                let line = |PlacedProblem { place, problem }: &PlacedProblem| {
                    format!("{}{place}{problem}", path.display())
                };
                problems.iter().map(line).collect()
            }
        }
    }
}

/// Problem and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedProblem {
    /// Place in the file.
    pub place: FilePlace,
    /// Key, reason and remedy.
    pub problem: Problem,
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

/// A place in the file, displayed as `:7:12: `, or as `: ` if unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilePlace(pub Option<TextPlace>);

/// Line and column of a text, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TextPlace {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl fmt::Display for FilePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(TextPlace { line, column }) => write!(f, ":{line}:{column}: "),
            None => f.write_str(": "),
        }
    }
}

/// Returns the place of `key`'s value in `text`; of its table, if the key is absent; the end of the
/// file, if the table is absent too.
pub fn place_of(text: &str, key: &str) -> FilePlace {
    let Ok(root) = DeTable::parse(text) else { return FilePlace(None) };
    let mut found = None;
    walk(root.get_ref(), "", &mut |path, span, _| {
        if key == path || key.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '['])) {
            found = Some(span.start);
        }
    });
    FilePlace(Some(text_place(text, found.unwrap_or_else(|| text.strip_suffix('\n').unwrap_or(text).len()))))
}

/// Returns the path of the innermost key whose value or name covers `span`, and the value.
pub(crate) fn key_at<'a>(root: &DeTable<'a>, span: &Range<usize>) -> Option<(String, Option<DeValue<'a>>)> {
    let mut found = None;
    walk(root, "", &mut |path, at, value| {
        if at.start <= span.start && span.end <= at.end {
            found = Some((path.to_owned(), Some(value.clone())));
        }
    });
    found
}

/// Visitor of the keys of a file: their paths, the spans of their names or values, and the values.
type Visit<'v, 'a> = dyn FnMut(&str, Range<usize>, &DeValue<'a>) + 'v;

/// Visits every key and element, parents first, once for its name and once for its value.
fn walk<'a>(table: &DeTable<'a>, above: &str, visit: &mut Visit<'_, 'a>) {
    for (name, value) in table {
        let dot = if above.is_empty() { "" } else { "." };
        let path = format!("{above}{dot}{}", name.get_ref());
        visit(&path, name.span(), value.get_ref());
        walk_value(value, &path, visit);
    }
}

fn walk_value<'a>(value: &Spanned<DeValue<'a>>, path: &str, visit: &mut Visit<'_, 'a>) {
    visit(path, value.span(), value.get_ref());
    match value.get_ref() {
        DeValue::Table(table) => walk(table, path, visit),
        DeValue::Array(array) => {
            for (i, element) in array.iter().enumerate() {
                walk_value(element, &format!("{path}[{i}]"), visit);
            }
        }
        _ => {}
    }
}

/// Returns the place of byte `at`.
pub(crate) fn text_place(text: &str, at: usize) -> TextPlace {
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let column = before[start..].chars().count() + 1;
    TextPlace { line: before.bytes().filter(|byte| *byte == b'\n').count() + 1, column }
}
