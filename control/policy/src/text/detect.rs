//! Format of a list, found out from its first lines.

use super::{Format, SourceError, hosts, lines::LINE_MAX, name, without_comment};

/// Number of lines that are looked at, beside comments and empty ones.
const SAMPLE: usize = 400;

/// Beginnings of files that are no text, and their names.
const MAGIC: [(&[u8], &str); 10] = [
    (b"\x1f\x8b", "it is compressed (gzip)"),
    (b"PK\x03\x04", "it is a ZIP archive"),
    (b"\x28\xb5\x2f\xfd", "it is compressed (zstd)"),
    (b"\xfd7zXZ", "it is compressed (xz)"),
    (b"BZh91AY&SY", "it is compressed (bzip2)"),
    (b"7z\xbc\xaf", "it is a 7z archive"),
    (b"%PDF", "it is a PDF document"),
    (b"\x7fELF", "it is a program"),
    (b"\xff\xfe", "it is in UTF-16: it must be UTF-8"),
    (b"\xfe\xff", "it is in UTF-16: it must be UTF-8"),
];

/// Beginnings of pages, lowercased.
const PAGES: [&[u8]; 6] = [b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<!--"];

/// Refuses bytes that are no list, by their beginning.
pub(super) fn examine(head: &[u8]) -> Result<(), SourceError> {
    let text = head.trim_ascii_start();
    if text.is_empty() {
        return Err(SourceError::Empty);
    }
    let begins = |page: &&[u8]| text.get(..page.len()).is_some_and(|is| is.eq_ignore_ascii_case(page));
    if PAGES.iter().any(begins) {
        return Err(SourceError::Page);
    }
    match MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        Some((_, what)) => Err(SourceError::Binary((*what).to_owned())),
        None => Ok(()),
    }
}

/// Numbers of lines that look like each format.
#[derive(Default)]
struct Votes {
    /// Bare names, which are lines of four formats.
    bare: usize,
    /// `*.name` and `.name`, which are lines of three.
    wildcard: usize,
    hosts: usize,
    adblock: usize,
    dnsmasq: usize,
    unbound: usize,
    rpz: usize,
    /// Lines of no format.
    none: usize,
}

/// Returns the format of a list, given its beginning.
///
/// The last line is not looked at if it has no end, unless it is the only one.
pub fn detect(head: &[u8]) -> Result<Format, SourceError> {
    examine(head)?;
    let whole = match memchr::memrchr(b'\n', head) {
        Some(end) => head.get(..end).unwrap_or_default(),
        None => head,
    };
    let mut votes = Votes::default();
    let lines = whole.split(|byte| *byte == b'\n').filter(|line| line.len() <= LINE_MAX);
    let mut seen = 0;
    for line in lines.filter_map(|line| std::str::from_utf8(line).ok()) {
        seen += usize::from(votes.look_at(line));
        if seen == SAMPLE {
            break;
        }
    }
    votes.winner().ok_or(SourceError::Unrecognised)
}

impl Votes {
    /// Counts a line, unless it is a comment or empty.
    fn look_at(&mut self, line: &str) -> bool {
        let text = line.trim_ascii();
        if text.starts_with("[Adblock") || text.starts_with("[uBlock") || text.starts_with("[AdGuard") {
            self.adblock += 1;
            return true;
        }
        if text.is_empty() || text.starts_with(['#', '!', ';']) && !text.starts_with("##") {
            return false;
        }
        *self.of(text, line.starts_with([' ', '\t'])) += 1;
        true
    }

    /// Returns the count of the format that a line looks like.
    fn of(&mut self, text: &str, indented: bool) -> &mut usize {
        let first = text.split_ascii_whitespace().next().unwrap_or_default();
        if ["address=", "server=", "local="].iter().any(|option| text.starts_with(option)) {
            return &mut self.dnsmasq;
        }
        if ["local-zone:", "local-data:", "server:"].iter().any(|option| text.starts_with(option)) {
            return &mut self.unbound;
        }
        if text.starts_with("$ORIGIN") || text.starts_with("$TTL") || is_record(text, indented) {
            return &mut self.rpz;
        }
        if first.len() < text.len() && hosts::address(first).is_some() {
            return &mut self.hosts;
        }
        let is_regex =
            text.len() > 2 && text.starts_with('/') && (text.ends_with('/') || text.contains("/$"));
        let marks = ["##", "#@#", "#?#", "#$#", "#%#"];
        if text.starts_with(['|', '@']) || is_regex || marks.iter().any(|mark| text.contains(mark)) {
            return &mut self.adblock;
        }
        let text = without_comment(text);
        let url = text.split_once("://").is_some_and(|(scheme, _)| scheme == "http" || scheme == "https");
        if url || name::name(text).is_ok() {
            return &mut self.bare;
        }
        if text.contains(['^', '$']) {
            return &mut self.adblock;
        }
        let below = text.strip_prefix("*.").or_else(|| text.strip_prefix(['.', '=']));
        if below.is_some_and(|below| name::name(below).is_ok()) {
            return &mut self.wildcard;
        }
        &mut self.none
    }

    /// Returns the format of most lines. Bare names count for none: a list of another format may
    /// have many of them.
    fn winner(&self) -> Option<Format> {
        let strong = [
            (self.adblock, Format::Adblock),
            (self.hosts, Format::Hosts),
            (self.dnsmasq, Format::Dnsmasq),
            (self.unbound, Format::Unbound),
            (self.rpz, Format::Rpz),
        ];
        let (most, format) = strong.into_iter().max_by_key(|(votes, _)| *votes)?;
        let names = self.bare + self.wildcard;
        let total = names + self.none + strong.iter().map(|(votes, _)| votes).sum::<usize>();
        if self.none * 2 > total || total == 0 {
            return None;
        }
        // Filter rules stand beside bare names and lines of hosts files; other formats stand alone.
        if self.adblock > 0 && self.adblock + self.hosts + names >= total - self.none {
            return Some(Format::Adblock);
        }
        if most > names {
            return Some(format);
        }
        // In a plain list, `*.name` is the same, but bare names are not the names below them.
        Some(if self.wildcard > self.bare { Format::Wildcard } else { Format::Plain })
    }
}

/// Whether a line looks like a record of a zone file: `[OWNER] [TTL] [CLASS] TYPE DATA`.
fn is_record(text: &str, indented: bool) -> bool {
    let words = text.split_ascii_whitespace().skip(usize::from(!indented));
    let mut words =
        words.skip_while(|word| word.eq_ignore_ascii_case("IN") || word.bytes().all(|b| b.is_ascii_digit()));
    let kind = words.next().unwrap_or_default();
    let known =
        ["SOA", "NS", "CNAME", "A", "AAAA", "TXT"].iter().any(|known| known.eq_ignore_ascii_case(kind));
    known && words.next().is_some()
}
