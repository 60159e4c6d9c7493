//! The spool as a local log: reads its rows while another process may be writing it.

pub use super::rowbinary::LogEntry;

use super::{
    folder::{self, ReadError},
    rowbinary::entries,
    segment::Damage,
};
use ringdns_common::{filter::ExchangeFilter, names};
use ringdns_dataplane::prefix::Prefix;
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
    pub client: Option<Prefix>,
    /// Earliest time of the rows, in milliseconds of Unix time.
    pub since_ms: Option<i64>,
    /// Type of the questions, as rows have it.
    pub rtype: Option<String>,
    /// Outcome of the queries.
    pub outcome: Option<String>,
    /// Response code of the answers, as rows have it.
    pub rcode: Option<String>,
}

impl From<ExchangeFilter> for Filter {
    /// Returns the filter that takes the same rows as a tap with `filter`.
    fn from(filter: ExchangeFilter) -> Self {
        let ExchangeFilter { client, suffix, qtype, outcome, rcode } = filter;
        Filter {
            suffix: suffix.as_deref().map(names::display),
            client,
            rtype: qtype.map(names::type_name),
            outcome: outcome.map(|outcome| outcome.label().to_owned()),
            rcode: rcode.map(names::rcode_text),
            ..Filter::default()
        }
    }
}

impl Filter {
    /// Whether a row passes the filter.
    pub fn takes(&self, entry: &LogEntry) -> bool {
        let below = |suffix: &str| match suffix {
            // A row without a question has no name.
            "." => !entry.name.is_empty(),
            _ => {
                let above = entry.name.strip_suffix(suffix);
                above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
        };
        self.name.as_ref().is_none_or(|name| entry.name == *name)
            && self.suffix.as_deref().is_none_or(below)
            && self.client.is_none_or(|client| client.contains(entry.client))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        row::{Outcome, Protocol, Row, Tier},
        rowbinary::Rows,
    };

    fn row(name: &[u8], qtype: u16, client: &str, outcome: Outcome, rcode: u16) -> Row {
        Row {
            time_ms: 0,
            client: client.parse().unwrap(),
            name: name.into(),
            qtype,
            qclass: u16::from(qtype != 0),
            protocol: Protocol::Udp,
            outcome,
            tier: Tier::None,
            rcode,
            answer_bytes: 0,
            service_ns: 0,
            upstream: None,
            upstream_us: 0,
            list: None,
            client_group: None,
            client_name: None,
            rule: None,
            ede: None,
            sample: 1,
        }
    }

    /// Whether a tap shows a row.
    fn is_tapped(filter: &ExchangeFilter, row: &Row) -> bool {
        filter.takes_client(Some(row.client.into()))
            && filter.takes_question((!row.name.is_empty()).then_some((&row.name, row.qtype)))
            && filter.takes_answer(row.outcome, Some(row.rcode))
    }

    #[test]
    fn stored_rows_are_filtered_as_those_of_a_tap() {
        let all = [
            row(b"\x03www\x07example\0", 28, "::ffff:192.0.2.7", Outcome::Hit, 0),
            row(b"\x07example\0", 1, "2001:db8::1", Outcome::Miss, 3),
            row(b"\x0anotexample\0", 65_280, "::", Outcome::Failure, 2),
            row(b"\x05a.b\\c\x07example\0", 1, "::ffff:192.0.3.7", Outcome::Blocked, 12),
            row(b"\0", 2, "::ffff:192.0.2.8", Outcome::Stale, 0),
            row(b"", 0, "::ffff:192.0.2.9", Outcome::Rejected, 1),
        ];
        let mut rows = Rows::new("here", 1);
        all.iter().for_each(|row| rows.push(row));
        let stored: Vec<_> = entries(rows.bytes()).map(Result::unwrap).collect();
        let open = ExchangeFilter::default;
        let suffix = |name: &str| ExchangeFilter { suffix: Some(names::name(name).unwrap()), ..open() };
        let client = |prefix: &str| ExchangeFilter { client: Some(prefix.parse().unwrap()), ..open() };
        for (filter, taken) in [
            (open(), 6),
            (suffix("."), 5),
            (suffix("Example"), 3),
            (suffix("b\\\\c.example"), 0),
            (suffix("a\\.b\\\\c.example"), 1),
            (client("192.0.2.0/24"), 3),
            (client("2001:db8::/32"), 1),
            (client("::/0"), 2),
            (ExchangeFilter { qtype: Some(1), ..open() }, 2),
            (ExchangeFilter { qtype: Some(65_280), ..open() }, 1),
            (ExchangeFilter { outcome: Some(Outcome::Rejected), ..open() }, 1),
            (ExchangeFilter { rcode: Some(12), ..open() }, 1),
            (ExchangeFilter { rcode: Some(0), ..suffix(".") }, 2),
        ] {
            let tapped: Vec<_> = all.iter().map(|row| is_tapped(&filter, row)).collect();
            assert_eq!(tapped.iter().filter(|is| **is).count(), taken, "{filter:?}");
            let shown = Filter::from(filter);
            let found: Vec<_> = stored.iter().map(|entry| shown.takes(entry)).collect();
            assert_eq!(found, tapped, "{shown:?}");
        }
    }
}
