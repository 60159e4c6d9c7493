//! Lists of `[[blocklist]]` and `[[allowlist]]`, read from their files.

use rand::random;
use ringdns_api::RulePlace;
use ringdns_common::{names, printable::Printable, units::counted};
use ringdns_config::{
    AllowlistConfig, BlockAnswer, BlocklistConfig, ListFormat, ListsConfig, Problem, error::place_of, pattern,
};
use ringdns_policy::{
    list::{Found, List, ListBuilder},
    names::NameKey,
    place,
    policy::{AllowList, BlockList, Policy},
    rule::{Effect, Rule, RuleAnswer, Subject},
    text::{self, Format, Report},
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Most lines that are logged for a list because they were skipped.
const LOGGED: usize = 5;
/// Size of the buffer that files are read with, in bytes.
const BUFFER: usize = 64 << 10;
/// Number by which the rules of a list may grow or shrink in one reload.
const CHANGE_MAX: u64 = 100;
/// Least number of rules, before or after a reload, at which that counts.
const CHANGE_MIN: u64 = 1_000;

/// Lists as they were read, to be compared with the next reading.
pub struct Lists {
    key: NameKey,
    known: BTreeMap<String, KnownList>,
}

/// List as it was read.
struct KnownList {
    list: Arc<List>,
    origin: ListOrigin,
}

/// Origin of the rules of a list.
#[derive(Clone)]
pub struct ListOrigin {
    /// Key of the list's table.
    table: String,
    /// Names and regular expressions in the configuration.
    names: Vec<String>,
    /// File and its format.
    file: Option<(PathBuf, ListFormat)>,
}

impl ListOrigin {
    /// Returns the place of the rule that was found for a question: in `config` or in the list's
    /// file. `None`: it is in neither, since one of them has changed.
    pub fn place_of(&self, name: &[u8], qtype: u16, found: &Found<'_>, config: &Path) -> Option<RulePlace> {
        let is_it = |text: &String| place::is(&allowing(text), name, qtype, found);
        if let Some(nth) = self.names.iter().position(is_it) {
            let key = format!("{}.names[{nth}]", self.table);
            let line = place_of(&fs::read_to_string(config).ok()?, &key).0?;
            let text = self.names.get(nth)?.clone();
            return Some(RulePlace {
                file: config.display().to_string(),
                line: u32::try_from(line).ok()?,
                text,
            });
        }
        let (path, format) = self.file.as_ref()?;
        let reader = || open(path).ok().map(|file| BufReader::with_capacity(BUFFER, file));
        let line = place::line_of(reader()?, format_of(*format), name, qtype, found)?;
        let (mut lines, mut text) = (reader()?, Vec::new());
        for _ in 1..line {
            lines.skip_until(b'\n').ok()?;
        }
        lines.take(text::LINE_MAX as u64).read_until(b'\n', &mut text).ok()?;
        let text = String::from_utf8_lossy(&text).trim_end().to_owned();
        Some(RulePlace { file: path.display().to_string(), line, text })
    }
}

impl Default for Lists {
    fn default() -> Self {
        Lists { key: NameKey::new(&random()), known: BTreeMap::new() }
    }
}

impl Lists {
    /// Reads all lists and returns the policy. Of each list that cannot be used there is a problem;
    /// then nothing has changed. It may take seconds, so it must not run in an async task.
    pub fn load(&mut self, config: &ListsConfig) -> Result<Policy, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut read = BTreeMap::new();
        let mut keep = |name: &str, list: Result<List, Problem>, origin: ListOrigin| match list {
            Ok(list) => {
                let before = self.known.get(name).map(|before| &before.list);
                let before = before.filter(|before| before.content() == list.content());
                let list = before.cloned().unwrap_or_else(|| Arc::new(list));
                read.insert(name.to_owned(), KnownList { list: list.clone(), origin });
                Some(list)
            }
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        let mut allow = Vec::new();
        for (i, config) in config.allow.iter().enumerate() {
            let read = self.read_allow(&format!("allowlist[{i}]"), config);
            let file = config.source.clone().map(|path| (path, config.format));
            let table = format!("allowlist[{i}]");
            let list = keep(&config.name, read, ListOrigin { table, names: config.names.clone(), file });
            allow.extend(list.map(|list| AllowList { name: config.name.as_str().into(), list }));
        }
        let mut block = Vec::new();
        for (i, config) in config.block.iter().enumerate() {
            let read = self.read_block(&format!("blocklist[{i}]"), config);
            let file = Some((config.source.clone(), config.format));
            let table = format!("blocklist[{i}]");
            let list = keep(&config.name, read, ListOrigin { table, names: Vec::new(), file });
            block.extend(list.map(|list| BlockList {
                name: config.name.as_str().into(),
                list,
                answer: answer(&config.answer),
                ttl: config.ttl,
                dry_run: config.dry_run,
            }));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        for (name, KnownList { list, .. }) in &read {
            let rules = list.counts().rules;
            match self.known.get(name).map(|before| &before.list) {
                None => tracing::info!(list = name, rules, bytes = list.bytes(), "list loaded"),
                Some(before) if !Arc::ptr_eq(before, list) => {
                    tracing::info!(list = name, before = before.counts().rules, rules, "list changed");
                }
                Some(_) => {}
            }
        }
        self.known = read;
        Ok(Policy::new(self.key, allow, block))
    }

    /// Returns the origin of a list.
    pub fn origin(&self, name: &str) -> Option<ListOrigin> {
        self.known.get(name).map(|known| known.origin.clone())
    }

    fn read_block(&self, table: &str, config: &BlocklistConfig) -> Result<List, Problem> {
        let mut builder = ListBuilder::new(self.key);
        let source = Source { key: format!("{table}.source"), path: &config.source, format: config.format };
        self.read(&config.name, &source, &mut builder)?;
        self.finish(&config.name, &source.key, builder)
    }

    fn read_allow(&self, table: &str, config: &AllowlistConfig) -> Result<List, Problem> {
        let mut builder = ListBuilder::new(self.key);
        for (line, text) in (1..).zip(&config.names) {
            builder.push(line, allowing(text));
        }
        let mut key = format!("{table}.names");
        if let Some(path) = &config.source {
            key = format!("{table}.source");
            self.read(&config.name, &Source { key: key.clone(), path, format: config.format }, &mut builder)?;
        }
        self.finish(&config.name, &key, builder)
    }

    /// Reads a file into `builder`.
    fn read(&self, name: &str, source: &Source<'_>, builder: &mut ListBuilder) -> Result<(), Problem> {
        let Source { key, path, format } = source;
        let refused = |reason: String| {
            let remedy = "Correct the file, or remove the list";
            Problem::new(key.clone(), format!("{}: {reason}", Printable(path.display())), remedy)
        };
        let file = open(path).map_err(|error| refused(error.to_string()))?;
        let mut unsupported = 0_u64;
        let reader = BufReader::with_capacity(BUFFER, file);
        let report = text::read(reader, format_of(*format), |line, rule| match rule.effect {
            Effect::Answer(RuleAnswer::Drop) => unsupported += 1,
            _ => builder.push(line, rule),
        });
        tell(name, path, &report.map_err(|error| refused(error.to_string()))?, unsupported);
        Ok(())
    }

    fn finish(&self, name: &str, key: &str, builder: ListBuilder) -> Result<List, Problem> {
        let (list, problems, total) = builder.finish();
        for problem in problems.iter().take(LOGGED) {
            tracing::warn!(list = name, line = problem.line, "a rule is skipped: {}", problem.error);
        }
        if total > LOGGED {
            tracing::warn!(
                list = name,
                "{total} rules are skipped in all, the first {LOGGED} of which are above"
            );
        }
        let rules = list.counts().rules as u64;
        if let Some(known) = self.known.get(name).map(|known| &known.list) {
            let before = known.counts().rules as u64;
            let (least, most) = (before.min(rules), before.max(rules));
            if most >= CHANGE_MIN && least.saturating_mul(CHANGE_MAX) < most {
                let reason = format!("the list {name:?} had {before} rules and would have {rules}");
                let remedy = "If that is right, restart ringdnsd, or give the list another name";
                return Err(Problem::new(key, reason, remedy));
            }
        }
        Ok(list)
    }
}

/// Returns the rule that allows a name and all names below it, or what a regular expression matches.
fn allowing(text: &str) -> Rule {
    let subject = match pattern(text) {
        Some(pattern) => Subject::Regex(pattern.into()),
        // Checked with the configuration.
        None => Subject::Suffix(names::name(text).unwrap_or_default().into()),
    };
    Rule::new(subject, Effect::Allow)
}

/// File of a list.
struct Source<'a> {
    key: String,
    path: &'a Path,
    format: ListFormat,
}

/// Opens a regular file. Others could block, or never end.
pub fn open(path: &Path) -> io::Result<File> {
    let kind = fs::metadata(path)?;
    if !kind.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    File::open(path)
}

/// Logs what was skipped of a list.
fn tell(name: &str, path: &Path, report: &Report, unsupported: u64) {
    for problem in report.problems.iter().filter(|problem| problem.reason.is_problem()).take(LOGGED) {
        tracing::warn!(list = name, "{}: {problem}", Printable(path.display()));
    }
    let skipped = report.counts.skipped_lines();
    if skipped > 0 {
        let lines = counted(u64::from(skipped), "line", "lines");
        tracing::info!(list = name, format = %report.format, "{lines} of {} skipped", report.counts.lines);
    }
    if unsupported > 0 {
        let rules = counted(unsupported, "rule", "rules");
        tracing::warn!(list = name, "{rules} skipped: ringdnsd drops no questions");
    }
}

fn answer(answer: &BlockAnswer) -> RuleAnswer {
    match answer {
        BlockAnswer::NxDomain => RuleAnswer::NxDomain,
        BlockAnswer::NoData => RuleAnswer::NoData,
        BlockAnswer::Refused => RuleAnswer::Refused,
        BlockAnswer::Null => RuleAnswer::Null,
        BlockAnswer::Address(address) => RuleAnswer::Address(*address),
        BlockAnswer::Alias(name) => RuleAnswer::Alias(name.as_slice().into()),
    }
}

fn format_of(format: ListFormat) -> Format {
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
