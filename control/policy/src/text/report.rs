//! Outcome of reading a list: counts, lines that were skipped, and lists that cannot be used.

use super::{Format, Kind};
use ringdns_common::printable::Printable;
use std::{collections::BTreeMap, fmt};

/// Number of skipped lines that a report keeps.
const PROBLEMS_MAX: usize = 20;

/// Number of characters of a line that a report keeps.
const SHOWN_MAX: usize = 80;

/// Outcome of reading a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Format that the list was read as.
    pub format: Format,
    /// Numbers of lines and rules.
    pub counts: Counts,
    /// First lines that were skipped, fully or in part, and that an operator may want to mend.
    pub problems: Vec<Problem>,
}

/// Numbers of lines and rules of a list. `lines = blank + comments + directives + with_rules +`
/// the sum of `skipped`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lines of the list.
    pub lines: u32,
    /// Empty lines.
    pub blank: u32,
    /// Comments and headers.
    pub comments: u32,
    /// Lines that make no rule, but are understood, as `$ORIGIN` and `server:`.
    pub directives: u32,
    /// Lines that make at least one rule.
    pub with_rules: u32,
    /// Rules: a line of several names has several.
    pub rules: u64,
    /// Lines with rules of which a part was skipped.
    pub partial: u32,
    /// Lines without rules, by reason.
    pub skipped: BTreeMap<Reason, u32>,
}

impl Counts {
    /// Returns the number of lines that were skipped.
    pub fn skipped_lines(&self) -> u32 {
        self.skipped.values().fold(0, |sum, lines| sum.saturating_add(*lines))
    }
}

/// Line that was skipped, or of which a part was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Number of the line, from 1 on.
    pub line: u32,
    /// Reason why it was skipped.
    pub reason: Reason,
    /// Printable beginning of the line.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.text, self.reason)
    }
}

/// Reason why a line, or a part of it, makes no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Reason {
    /// Rule about parts of pages or URLs, which a question does not show.
    #[error("not for DNS: it is about parts of pages or URLs")]
    NotForDns,
    /// Name that a hosts file gives to its own host.
    #[error("it is a name of the own host")]
    OwnHost,
    /// Zone type that leaves the names as they are.
    #[error("it changes nothing: its names are resolved as usual")]
    NoEffect,
    /// Record that a zone has beside its rules, as a signature.
    #[error("records of this type are no rules")]
    NoRule,
    /// Line longer than [`LINE_MAX`](super::LINE_MAX).
    #[error("it is longer than 1,024 bytes")]
    LongLine,
    /// Line that is not UTF-8.
    #[error("it is not UTF-8 text")]
    NotUtf8,
    /// Line that does not look like one of the format.
    #[error("it is no line of this format")]
    Syntax,
    /// Character that is in no host name.
    #[error("it has a character that is in no host name")]
    Character,
    /// Label without or with too many bytes.
    #[error("a label is empty or longer than 63 bytes")]
    Label,
    /// Name without or with too many bytes.
    #[error("a name is empty or longer than 255 bytes")]
    Length,
    /// Address where a name is due.
    #[error("an address stands in place of a name")]
    AddressAsName,
    /// Unicode text that IDNA does not allow.
    #[error("it is no internationalised name (UTS 46)")]
    Idn,
    /// Text in place of an address.
    #[error("it is no IPv4 or IPv6 address")]
    Address,
    /// Regular expression that cannot be used.
    #[error("the regular expression is wrong, or looks around or back, which takes unbounded time")]
    Regex,
    /// Rule for all names.
    #[error("it would apply to every name. Write the names that it is meant for")]
    TooBroad,
    /// Modifier that nobody knows.
    #[error("a modifier after '$' is unknown or has a wrong value")]
    Modifier,
    /// `$client` with a name, `$ctag`.
    #[error(
        "clients are known by address or prefix here: 'client' does not take other names, and 'ctag' is not \
         supported. Write addresses, or use a client group"
    )]
    Client,
    /// `$badfilter`.
    #[error("rules that switch off others ('badfilter') are not supported. Allow the name instead")]
    BadFilter,
    /// `$dnsrewrite` beyond the simple forms.
    #[error("dnsrewrite is supported with NXDOMAIN, REFUSED, NOERROR, an address or a name")]
    Rewrite,
    /// `!#include`, `$INCLUDE`, `include:`.
    #[error("other files are not included. Configure them as lists of their own")]
    Include,
    /// `$GENERATE`.
    #[error("records are not generated. Write them out")]
    Generate,
    /// Names to be asked at certain servers.
    #[error("it forwards names to a server, which lists do not")]
    Forwarding,
    /// Option that is not about names to be blocked.
    #[error("options of other kinds are not read from lists")]
    Option,
    /// Zone type that is not supported.
    #[error("zones of this type are not supported")]
    ZoneType,
    /// Record of a type that is not supported.
    #[error("records of this type are not supported in lists: only A, AAAA and CNAME")]
    RecordType,
    /// Record that cannot be parsed.
    #[error("the record is wrong: it is NAME [TTL] [IN] TYPE DATA")]
    Record,
    /// Record that does not end, although the list does.
    #[error("its parentheses are not closed: the lines after it are lost")]
    Unfinished,
    /// Owner that is not in the zone.
    #[error("the record's owner is outside the zone")]
    OutsideZone,
    /// Special target that is unknown or has no dot at its end.
    #[error("the action is unknown. Actions end in a dot: rpz-passthru.")]
    Action,
    /// Owner that should be a prefix of addresses.
    #[error(
        "the owner is no prefix of addresses. Write 24.0.2.0.192.rpz-ip for 192.0.2.0/24, and \
         32.zz.db8.2001.rpz-ip for 2001:db8::/32"
    )]
    RpzPrefix,
    /// Trigger on names of servers.
    #[error("the trigger rpz-nsdname is not supported: a forwarder does not see name servers")]
    RpzNsdname,
    /// Trigger on addresses of servers.
    #[error("the trigger rpz-nsip is not supported: a forwarder does not see name servers")]
    RpzNsip,
}

impl Reason {
    /// Whether the line is a mistake or asks for something that is not supported; otherwise lists
    /// have such lines rightly.
    pub fn is_problem(self) -> bool {
        !matches!(self, Reason::NotForDns | Reason::OwnHost | Reason::NoEffect | Reason::NoRule)
    }
}

/// Error about a list that cannot be used as a whole.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A list without text.
    #[error("the list is empty. Check its source")]
    Empty,
    /// A page in place of a list, as gateways and expired hosts send.
    #[error("the list is an HTML or XML page. Check its URL, and open it in a browser to see what it says")]
    Page,
    /// Bytes that are no text, and what they are.
    #[error("the list is no text: {0}. Check its source; compressed files must be unpacked first")]
    Binary(String),
    /// Lines of no known format.
    #[error("the format of the list is not recognised. Set `format`")]
    Unrecognised,
    /// A list whose lines make no rule.
    #[error(
        "none of {lines} lines is a rule in the format {format}{}. Check the source and `format`",
        first.as_ref().map(|problem| format!(" ({problem})")).unwrap_or_default()
    )]
    NoRule {
        /// Format that the list was read as.
        format: Format,
        /// Number of its lines.
        lines: u32,
        /// First line that was skipped.
        first: Option<Problem>,
    },
    /// A list that cannot be read.
    #[error("the list cannot be read: {0}")]
    Unreadable(#[source] std::io::Error),
}

impl Report {
    pub(super) fn new(format: Format) -> Self {
        Report { format, counts: Counts::default(), problems: Vec::new() }
    }

    /// Counts a line.
    pub(super) fn add(
        &mut self,
        number: u32,
        line: &[u8],
        kind: Result<Kind, Reason>,
        rules: u32,
        fault: Option<Reason>,
    ) {
        let counts = &mut self.counts;
        counts.lines = number;
        counts.rules += u64::from(rules);
        let count = match kind {
            Ok(Kind::Blank) => &mut counts.blank,
            Ok(Kind::Comment) => &mut counts.comments,
            Ok(Kind::Directive) => &mut counts.directives,
            Ok(Kind::Rules) => &mut counts.with_rules,
            Err(reason) => counts.skipped.entry(reason).or_default(),
        };
        *count = count.saturating_add(1);
        if kind.is_ok() && fault.is_some() {
            counts.partial = counts.partial.saturating_add(1);
        }
        if let Some(reason) = kind.err().or(fault) {
            self.keep(number, reason, line);
        }
    }

    /// Keeps a skipped line, unless there are many, or lists have such lines rightly.
    pub(super) fn keep(&mut self, number: u32, reason: Reason, line: &[u8]) {
        if reason.is_problem() && self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { line: number, reason, text: shown(line) });
        }
    }

    /// Returns the error about a list that makes no rule.
    pub(super) fn no_rule(self) -> SourceError {
        let Report { format, counts, problems } = self;
        SourceError::NoRule { format, lines: counts.lines, first: problems.into_iter().next() }
    }
}

/// Returns the beginning of a line in quotation marks, fit for a terminal.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line.get(..SHOWN_MAX * 4).unwrap_or(line)).into_owned();
    let text = text.trim();
    match text.char_indices().nth(SHOWN_MAX) {
        Some((cut, _)) => format!("\"{}…\"", Printable(text.get(..cut).unwrap_or_default())),
        None => format!("\"{}\"", Printable(text)),
    }
}
