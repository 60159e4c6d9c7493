//! The spool as a local log: reads its rows while another process may be writing it.

pub use super::rowbinary::LogEntry;

use super::{
    folder::{self, ReadError},
    rowbinary::entries,
    segment::Damage,
};
use ringdns_common::names;
use ringdns_dataplane::access::AccessList;
use std::{collections::VecDeque, fmt, io, path::Path};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Filter of rows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Name of the rows, in presentation format, lowercased, with its final dot.
    pub name: Option<String>,
    /// Name of the rows, or of an ancestor.
    pub suffix: Option<String>,
    /// Clients of the rows.
    pub clients: Option<AccessList>,
    /// Earliest time of the rows, in milliseconds of Unix time.
    pub since_ms: Option<i64>,
    /// Type of the questions, as rows have it.
    pub rtype: Option<String>,
    /// Outcome of the queries.
    pub outcome: Option<String>,
    /// Response code of the answers, as rows have it.
    pub rcode: Option<String>,
}

impl Filter {
    /// Whether a row passes the filter.
    pub fn takes(&self, entry: &LogEntry) -> bool {
        let below = |suffix: &str| {
            let above = entry.name.strip_suffix(suffix);
            suffix == "." || above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
        };
        self.name.as_ref().is_none_or(|name| entry.name == *name)
            && self.suffix.as_deref().is_none_or(below)
            && self.clients.as_ref().is_none_or(|clients| clients.allows(entry.client))
            && self.since_ms.is_none_or(|since| entry.time_ms >= since)
            && self.rtype.as_ref().is_none_or(|rtype| entry.rtype == *rtype)
            && self.outcome.as_ref().is_none_or(|outcome| entry.outcome == *outcome)
            && self.rcode.as_ref().is_none_or(|rcode| entry.rcode == *rcode)
    }
}

/// Returns a name in the form that rows have.
pub fn name(text: &str) -> Result<String, names::NameError> {
    Ok(names::display(&names::name(text)?))
}

/// Calls `row` with each matching row in a directory, the oldest segment first, and `damaged` with
/// each segment that cannot be read.
pub fn each(
    folder: &Path,
    filter: &Filter,
    mut row: impl FnMut(&LogEntry) -> io::Result<()>,
    mut damaged: impl FnMut(&Path, Damage),
) -> io::Result<()> {
    for path in folder::list(folder)? {
        visit(&path, filter, |entry| row(&entry), |damage| damaged(&path, damage))?;
    }
    Ok(())
}

/// Result of a search.
#[derive(Debug, Default)]
pub struct Found {
    /// Rows that match, the latest first.
    pub rows: Vec<LogEntry>,
    /// Number of segments that are damaged.
    pub damaged: usize,
    /// Whether older rows were left out, since there were enough or the search was ended.
    pub is_cut: bool,
}

/// Returns the last matching rows in a directory, at most `last`. Segments are read the newest first, as
/// long as `goes_on` returns true.
pub fn latest(
    folder: &Path,
    filter: &Filter,
    last: usize,
    mut goes_on: impl FnMut() -> bool,
) -> io::Result<Found> {
    let mut found = Found::default();
    for path in folder::list(folder)?.into_iter().rev() {
        let room = last - found.rows.len();
        if room == 0 || !goes_on() {
            found.is_cut = true;
            break;
        }
        let mut rows = VecDeque::new();
        let (mut is_full, mut is_damaged) = (false, false);
        let keep = |entry| {
            if rows.len() == room {
                rows.pop_front();
                is_full = true;
            }
            rows.push_back(entry);
            Ok(())
        };
        visit(&path, filter, keep, |_| is_damaged = true)?;
        found.rows.extend(rows.into_iter().rev());
        found.damaged += usize::from(is_damaged);
        found.is_cut |= is_full;
    }
    Ok(found)
}

/// Calls `row` with each matching row of a segment, and `damaged` if it cannot be read.
fn visit(
    path: &Path,
    filter: &Filter,
    mut row: impl FnMut(LogEntry) -> io::Result<()>,
    mut damaged: impl FnMut(Damage),
) -> io::Result<()> {
    let segment = match folder::read(path) {
        Ok(segment) => segment,
        // Shipped since it was listed.
        Err(ReadError::Disk(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(ReadError::Disk(error)) => return Err(error),
        Err(ReadError::Damaged(damage)) => {
            damaged(damage);
            return Ok(());
        }
    };
    if filter.since_ms.is_some_and(|since| segment.head().last_ms < since) {
        return Ok(());
    }
    match segment.rows() {
        Ok(rows) => {
            for entry in entries(&rows) {
                match entry {
                    Ok(entry) if filter.takes(&entry) => row(entry)?,
                    Ok(_) => {}
                    Err(damage) => damaged(damage),
                }
            }
        }
        Err(damage) => damaged(damage),
    }
    Ok(())
}

impl fmt::Display for LogEntry {
    /// Formats the row as one readable line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogEntry { client, name, rtype, class, protocol, outcome, tier, rcode, answer_bytes, .. } = self;
        let or =
            |text: &'static str, what: &str| if what.is_empty() { text.to_owned() } else { what.to_owned() };
        let (name, rtype, class) = (or("-", name), or("-", rtype), or("-", class));
        let us = f64::from(self.service_ns) / 1000.0;
        let host =
            if self.client_name.is_empty() { String::new() } else { format!(" ({})", self.client_name) };
        write!(
            f,
            "{} {client}{host} {name} {class} {rtype} {protocol} {outcome} {tier} {rcode} {answer_bytes} B {us:.1} us",
            Time(self.time_ms)
        )?;
        if !self.list.is_empty() {
            write!(f, " list {}", self.list)?;
        }
        if self.upstream.is_empty() {
            return Ok(());
        }
        write!(f, " {} {:.1} ms", self.upstream, f64::from(self.upstream_us) / 1000.0)
    }
}

/// A Unix time in milliseconds, displayed in UTC as RFC 3339, or as a number if the calendar does
/// not reach it.
struct Time(i64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000).ok();
        match time.and_then(|time| time.format(&Rfc3339).ok()) {
            Some(text) => f.write_str(&text),
            None => self.0.fmt(f),
        }
    }
}
