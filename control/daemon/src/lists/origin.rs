//! Origin of a list's rules: its file, and the place of a rule in it.

use super::copies::Copies;
use ringdns_api::RulePlace;
use ringdns_common::names;
use ringdns_config::{ListFormat, error::place_of, pattern};
use ringdns_policy::{
    list::Found,
    place,
    rule::{Effect, Rule, Subject},
    text::{self, Format},
};
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

/// Size of the buffer that files are read with, in bytes.
pub(super) const BUFFER: usize = 64 << 10;

/// Origin of the rules of a list.
#[derive(Clone)]
pub struct ListOrigin {
    /// Key of the list's table.
    pub(super) table: String,
    /// Names and regular expressions in the configuration.
    pub(super) names: Vec<String>,
    /// File and its format.
    pub(super) file: Option<(ListFile, ListFormat)>,
    /// URL that the file was downloaded from.
    pub(super) url: Option<String>,
}

impl ListOrigin {
    /// Returns the place of the rule that was found for a question: in `config` or in the list's
    /// file. `None`: it is in neither, since one of them has changed.
    pub fn place_of(&self, name: &[u8], qtype: u16, found: &Found<'_>, config: &Path) -> Option<RulePlace> {
        let is_it = |text: &String| place::is(&allowing(text), name, qtype, found);
        if let Some(nth) = self.names.iter().position(is_it) {
            let key = format!("{}.names[{nth}]", self.table);
            let line = place_of(&fs::read_to_string(config).ok()?, &key).0?.line;
            let text = self.names.get(nth)?.clone();
            return Some(RulePlace {
                file: config.display().to_string(),
                line: u32::try_from(line).ok()?,
                text,
            });
        }
        let (file, format) = self.file.as_ref()?;
        let reader = || file.open().ok().map(|file| BufReader::with_capacity(BUFFER, file));
        let line = place::line_of(reader()?, format_of(*format), name, qtype, found)?;
        let (mut lines, mut text) = (reader()?, Vec::new());
        for _ in 1..line {
            lines.skip_until(b'\n').ok()?;
        }
        lines.take(text::LINE_MAX as u64).read_until(b'\n', &mut text).ok()?;
        let text = String::from_utf8_lossy(&text).trim_end().to_owned();
        Some(RulePlace { file: file.path().display().to_string(), line, text })
    }
}

/// File of a list.
#[derive(Clone)]
pub(super) enum ListFile {
    /// File that the configuration names.
    Given(PathBuf),
    /// Copy of the list of this name, which was downloaded.
    Copy(Copies, String),
}

impl ListFile {
    /// Opens the file.
    pub(super) fn open(&self) -> io::Result<File> {
        match self {
            ListFile::Given(path) => open(path),
            ListFile::Copy(copies, list) => copies.open(list),
        }
    }

    /// Returns the path, for messages.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            ListFile::Given(path) => path.clone(),
            ListFile::Copy(copies, list) => copies.path(list),
        }
    }
}

/// Opens a regular file. Others could block, or never end.
pub fn open(path: &Path) -> io::Result<File> {
    let kind = fs::metadata(path)?;
    if !kind.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    File::open(path)
}

/// Returns the rule that allows a name and all names below it, or what a regular expression matches.
pub(super) fn allowing(text: &str) -> Rule {
    let subject = match pattern(text) {
        Some(pattern) => Subject::Regex(pattern.into()),
        // Checked with the configuration.
        None => Subject::Suffix(names::name(text).unwrap_or_default().into()),
    };
    Rule::new(subject, Effect::Allow)
}

/// Returns the format as the reader of lists has it.
pub(super) fn format_of(format: ListFormat) -> Format {
    match format {
        ListFormat::Auto => Format::Auto,
        ListFormat::Plain => Format::Plain,
        ListFormat::Hosts => Format::Hosts,
        ListFormat::Adblock => Format::Adblock,
        ListFormat::Wildcard => Format::Wildcard,
        ListFormat::Dnsmasq => Format::Dnsmasq,
        ListFormat::Unbound => Format::Unbound,
        ListFormat::Rpz => Format::Rpz,
    }
}
