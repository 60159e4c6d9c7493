//! Lists as text: readers of the formats that people have.
//!
//! A list is read line by line from a stream. Memory does not depend on its size: a line that is too
//! long is skipped without being kept.

mod adblock;
mod detect;
mod dnsmasq;
mod hosts;
mod lines;
mod name;
mod pattern;
mod plain;
mod record;
mod report;
mod rpz;
mod rpz_prefix;
#[cfg(test)]
mod tests;
mod unbound;
mod wildcard;

use crate::rule::Rule;
pub use detect::detect;
pub use lines::LINE_MAX;
pub use report::{Counts, Problem, Reason, Report, SourceError};
use std::{
    fmt,
    io::{BufRead, Read},
};

/// Format of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Found out from the first lines.
    Auto,
    /// One name a line.
    Plain,
    /// Lines of `/etc/hosts`.
    Hosts,
    /// Filter rules of ad blockers: `||name^`.
    Adblock,
    /// Patterns as dnscrypt-proxy has them: `*.name`.
    Wildcard,
    /// Options of dnsmasq: `address=/name/`.
    Dnsmasq,
    /// Options of Unbound: `local-zone: "name" always_nxdomain`.
    Unbound,
    /// Zone file of a response policy zone.
    Rpz,
}

impl Format {
    /// Formats and their names in the configuration.
    pub const ALL: [(Format, &'static str); 8] = [
        (Format::Auto, "auto"),
        (Format::Plain, "plain"),
        (Format::Hosts, "hosts"),
        (Format::Adblock, "adblock"),
        (Format::Wildcard, "wildcard"),
        (Format::Dnsmasq, "dnsmasq"),
        (Format::Unbound, "unbound"),
        (Format::Rpz, "rpz"),
    ];
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = Format::ALL.iter().find(|(format, _)| format == self);
        f.write_str(found.map_or("", |(_, name)| name))
    }
}

/// Reads a list and hands each rule to `sink`, with the number of its line.
///
/// Lines that cannot be used are counted and skipped. If the list as a whole cannot be used, rules
/// that `sink` was given before are to be dropped.
pub fn read(
    mut source: impl BufRead,
    format: Format,
    mut sink: impl FnMut(u32, Rule),
) -> Result<Report, SourceError> {
    let head = lines::head(&mut source)?;
    detect::examine(&head)?;
    let format = match format {
        Format::Auto => detect(&head)?,
        chosen => chosen,
    };
    let mut parser = Parser::new(format);
    let mut report = Report::new(format);
    lines::each(head.as_slice().chain(source), |number, line| {
        let mut out = Out { line: number, sink: &mut sink, rules: 0, fault: None };
        let kind = match line {
            lines::Line::Long(_) => Err(Reason::LongLine),
            lines::Line::Whole(text) => parser.line(text, &mut out),
        };
        report.add(number, line.bytes(), kind, out.rules, out.fault);
    })?;
    let mut out = Out { line: report.counts.lines, sink: &mut sink, rules: 0, fault: None };
    let unfinished = parser.finish(&mut out);
    report.counts.rules += u64::from(out.rules);
    if let Some((line, text)) = unfinished {
        report.keep(line, Reason::Unfinished, text.as_bytes());
    }
    if report.counts.rules == 0 {
        return Err(report.no_rule());
    }
    Ok(report)
}

/// Kind of a line that is not skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Blank,
    Comment,
    /// A line that is understood and makes no rule itself, as `$ORIGIN`.
    Directive,
    Rules,
}

/// Receiver of a line's rules.
struct Out<'a> {
    line: u32,
    sink: &'a mut dyn FnMut(u32, Rule),
    rules: u32,
    /// Reason why a part of the line was skipped.
    fault: Option<Reason>,
}

impl Out<'_> {
    fn rule(&mut self, rule: Rule) {
        self.rule_of(self.line, rule);
    }

    /// Hands on a rule that a line before this one made.
    fn rule_of(&mut self, line: u32, rule: Rule) {
        self.rules += 1;
        (self.sink)(line, rule);
    }

    /// Hands on a rule, or keeps the reason why there is none.
    fn part(&mut self, rule: Result<Rule, Reason>) {
        match rule {
            Ok(rule) => self.rule(rule),
            Err(reason) => self.fault = self.fault.take().or(Some(reason)),
        }
    }

    /// Returns the kind of a line of several parts, once all are handed on.
    fn kind(&self) -> Result<Kind, Reason> {
        match self.fault {
            Some(reason) if self.rules == 0 => Err(reason),
            _ => Ok(Kind::Rules),
        }
    }
}

/// Reader of the lines of one format, with the state that lines leave for those after them.
enum Parser {
    Plain,
    Hosts,
    Adblock,
    Wildcard,
    Dnsmasq,
    Unbound(unbound::Reader),
    Rpz(Box<rpz::Reader>),
}

impl Parser {
    fn new(format: Format) -> Self {
        match format {
            Format::Auto | Format::Plain => Parser::Plain,
            Format::Hosts => Parser::Hosts,
            Format::Adblock => Parser::Adblock,
            Format::Wildcard => Parser::Wildcard,
            Format::Dnsmasq => Parser::Dnsmasq,
            Format::Unbound => Parser::Unbound(unbound::Reader::default()),
            Format::Rpz => Parser::Rpz(Box::default()),
        }
    }

    fn line(&mut self, text: &[u8], out: &mut Out<'_>) -> Result<Kind, Reason> {
        let Ok(text) = std::str::from_utf8(text) else {
            // Titles of old lists are in Latin-1.
            return if self.is_comment(text) { Ok(Kind::Comment) } else { Err(Reason::NotUtf8) };
        };
        // White space in front has a meaning in zone files.
        let text = text.trim_ascii_end();
        if text.trim_ascii_start().is_empty() {
            return Ok(Kind::Blank);
        }
        match self {
            Parser::Plain => plain::line(text.trim_ascii_start(), out),
            Parser::Hosts => hosts::line(text.trim_ascii_start(), out),
            Parser::Adblock => adblock::line(text.trim_ascii_start(), out),
            Parser::Wildcard => wildcard::line(text.trim_ascii_start(), out),
            Parser::Dnsmasq => dnsmasq::line(text.trim_ascii_start(), out),
            Parser::Unbound(reader) => reader.line(text.trim_ascii_start(), out),
            Parser::Rpz(reader) => reader.line(text, out),
        }
    }

    fn is_comment(&self, text: &[u8]) -> bool {
        let marks: &[u8] = match self {
            Parser::Plain | Parser::Adblock => b"#!",
            Parser::Hosts | Parser::Wildcard | Parser::Dnsmasq | Parser::Unbound(_) => b"#",
            Parser::Rpz(_) => b";",
        };
        text.trim_ascii_start().first().is_some_and(|first| marks.contains(first))
    }

    /// Hands on the rules that waited for a line that did not come, and returns the number and text
    /// of a record that has no end.
    fn finish(self, out: &mut Out<'_>) -> Option<(u32, String)> {
        match self {
            Parser::Unbound(mut reader) => {
                reader.finish(out);
                None
            }
            Parser::Rpz(reader) => reader.unfinished(),
            _ => None,
        }
    }
}

/// Returns the part of a line before a comment: `#` at the start or after white space.
fn without_comment(text: &str) -> &str {
    let mut from = 0;
    while let Some(at) = memchr::memchr(b'#', text.as_bytes().get(from..).unwrap_or_default()) {
        let at = from + at;
        let before = text.get(..at).unwrap_or_default();
        if before.is_empty() || before.ends_with([' ', '\t']) {
            return before.trim_ascii_end();
        }
        from = at + 1;
    }
    text
}
