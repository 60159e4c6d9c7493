//! Rows of text with a weight, of screens and printed views.

use crate::table::{Table, wrapped};
use std::iter;

/// Weight of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    Plain,
    Head,
    Good,
    Warning,
    Bad,
}

/// Row of the screen.
#[derive(Debug)]
pub struct Row {
    /// Weight.
    pub kind: RowKind,
    /// Text.
    pub text: String,
}

/// Appends a text in as many rows as it needs.
pub fn push(rows: &mut Vec<Row>, kind: RowKind, text: &str, width: usize) {
    rows.extend(wrapped(text, width).into_iter().map(|text| Row { kind, text }));
}

/// Appends a blank row and a table.
pub fn table(rows: &mut Vec<Row>, table: Table, width: usize) {
    let text = table.fit(width);
    let kinds = iter::once(RowKind::Head).chain(iter::repeat(RowKind::Plain));
    rows.push(Row { kind: RowKind::Plain, text: String::new() });
    rows.extend(text.lines().zip(kinds).map(|(line, kind)| Row { kind, text: line.to_owned() }));
}
