//! Words of a zone file's records (RFC 1035 section 5.1).

use super::{Reason, name};
use crate::rule::{Effect, WireName};
use ringdns_common::names;

/// Record of a zone file in words, without its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// Type as written.
    pub(super) kind: &'a str,
    /// Data up to the end of the line.
    pub(super) data: &'a str,
}

/// Splits off the first word.
pub(super) fn word(text: &str) -> (&str, &str) {
    let text = text.trim_ascii_start();
    match text.find([' ', '\t']) {
        Some(end) => (text.get(..end).unwrap_or_default(), text.get(end..).unwrap_or_default()),
        None => (text, ""),
    }
}

/// Parses `[TTL] [CLASS] TYPE DATA`; TTL and class may change places.
pub(super) fn record(text: &str) -> Result<Record<'_>, Reason> {
    let mut rest = text;
    loop {
        let (first, after) = word(rest);
        let is_ttl = first.starts_with(|c: char| c.is_ascii_digit());
        if after.trim_ascii().is_empty() {
            return Err(Reason::Record);
        }
        if !is_ttl && !first.eq_ignore_ascii_case("IN") {
            return Ok(Record { kind: first, data: after.trim_ascii() });
        }
        rest = after;
    }
}

/// Returns the effect of a record with an address; none if it is of another type.
pub(super) fn address(record: Record<'_>) -> Option<Result<Effect, Reason>> {
    let parsed = match record.kind {
        a if a.eq_ignore_ascii_case("A") => record.data.parse().map(std::net::IpAddr::V4),
        aaaa if aaaa.eq_ignore_ascii_case("AAAA") => record.data.parse().map(std::net::IpAddr::V6),
        _ => return None,
    };
    Some(parsed.map(|ip| Effect::Answer(name::address(ip))).map_err(|_| Reason::Address))
}

/// Returns the part of a line before a comment, which begins with `;` outside quotation marks, and
/// the change of depth in parentheses.
pub(super) fn without_comment(line: &str) -> (&str, i32) {
    let (mut quoted, mut escaped, mut depth) = (false, false, 0);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b';' if !quoted => return (line.get(..at).unwrap_or_default().trim_ascii_end(), depth),
            b'(' if !quoted => depth += 1,
            b')' if !quoted => depth -= 1,
            _ => {}
        }
    }
    (line, depth)
}

/// Returns a name of a zone file in wire format: escapes are allowed.
pub(super) fn zone_name(text: &str) -> Result<WireName, Reason> {
    if !text.contains('\\') {
        return name::name(text);
    }
    names::name(text).map(WireName::from).map_err(|_| Reason::Character)
}
