//! Lists of `[[blocklist]]` and `[[allowlist]]`, read from their files or from the copies of what was
//! downloaded.

mod copies;
mod download;
mod effect;
mod effective;
mod groups;
mod keeper;
mod origin;
mod overrides;
mod refresh;
mod status;
mod temporary;
mod transfer;

pub use effective::EffectiveLists;
use groups::NamedList;
pub use groups::{Groups, GroupsError};
pub use keeper::{ListKeeper, start};
pub use origin::{ListOrigin, open};
pub use overrides::OverrideError;

use copies::Copies;
use effect::InEffect;
use origin::{BUFFER, ListFile, allowing, format_of};
use rand::random;
use ringdns_api::{ListChanges, ListDifference};
use ringdns_common::{printable::Printable, units::counted};
use ringdns_config::{BlockAnswer, FetchConfig, ListFormat, ListSource, ListsConfig, Problem, ZoneAction};
use ringdns_policy::{
    groups::Policies,
    list::{Changes, List, ListBuilder},
    names::NameKey,
    policy::{AllowList, BlockList},
    rule::{Effect, RuleAnswer},
    text::{self, Format, Report, SourceError},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufReader, ErrorKind},
    net::IpAddr,
    path::Path,
    sync::Arc,
};

/// Most lines that are logged for a list because they were skipped.
const LOGGED: usize = 5;
/// Number by which the rules of a list may grow or shrink in one reload.
const CHANGE_MAX: u64 = 100;
/// Least number of rules, before or after a reload, at which that counts.
const CHANGE_MIN: u64 = 1_000;

/// Remedy for a list that cannot be used.
const CORRECT: &str = "Correct the file, or remove the list";

/// Lists as they were read, to be compared with the next reading.
pub struct Lists {
    key: NameKey,
    groups: Groups,
    known: BTreeMap<String, KnownList>,
    /// Clients for which no list decides.
    paused: BTreeSet<IpAddr>,
}

/// List as it was read.
struct KnownList {
    list: Arc<List>,
    origin: ListOrigin,
    /// Whether the list has yet to be downloaded: its rules are missing.
    is_missing: bool,
}

/// List of the configuration, whether it allows or blocks.
struct Spec<'a> {
    name: &'a str,
    table: String,
    names: &'a [String],
    source: Option<&'a ListSource>,
    format: ListFormat,
}

/// Reason why a list cannot be used, and a remedy.
pub struct Refusal {
    /// Reason.
    pub reason: String,
    /// Remedy.
    pub remedy: &'static str,
}

impl Refusal {
    /// Returns the reason why a download cannot be used.
    fn of_download(self) -> String {
        match self.remedy {
            // Reasons about the text of a list say what to do.
            CORRECT | "" => self.reason,
            remedy => format!("{}. {remedy}", self.reason),
        }
    }
}

impl Default for Lists {
    fn default() -> Self {
        Lists {
            key: NameKey::new(&random()),
            groups: Groups::default(),
            known: BTreeMap::new(),
            paused: BTreeSet::new(),
        }
    }
}

impl Lists {
    /// Reads all lists, of those that are downloaded the copies. Of each file that cannot be used
    /// there is a problem; then nothing has changed. A copy that cannot be used is no problem: the
    /// list stays as it is, or is empty until it is downloaded. Returns what has changed. It may take
    /// seconds, so it must not run in an async task.
    pub fn load(&mut self, config: &ListsConfig) -> Result<Vec<ListDifference>, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut read = BTreeMap::new();
        for spec in specs(config) {
            let origin = spec.origin(&config.fetch);
            let before = self.known.get(spec.name);
            let list = match self.read_file(&spec, &origin) {
                Ok(list) => list,
                Err(refusal) if origin.url.is_none() => {
                    problems.push(spec.problem(&origin, refusal));
                    continue;
                }
                Err(refusal) => {
                    tracing::warn!(list = spec.name, "the copy cannot be used: {}", refusal.reason);
                    None
                }
            };
            let known = match list {
                Some(list) => KnownList { list: unchanged(before, list), origin, is_missing: false },
                None => match before.filter(|before| before.origin.url == origin.url) {
                    Some(before) => {
                        KnownList { list: before.list.clone(), origin, is_missing: before.is_missing }
                    }
                    None => {
                        let list = Arc::new(self.given(&spec).finish().0);
                        KnownList { list, origin, is_missing: true }
                    }
                },
            };
            read.insert(spec.name.to_owned(), known);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let groups = next_groups(&self.groups, config, &read, &self.paused).map_err(|error| {
            vec![Problem::new("blocklist", told_with_file(&error, &read), GroupsError::REMEDY)]
        })?;
        let mut changed = Vec::new();
        for (name, known) in &read {
            let changes = log(name, self.known.get(name).map(|before| &*before.list), known);
            changed.extend(changes.map(|changes| difference(name, changes)));
        }
        for (name, known) in self.known.iter().filter(|(name, _)| !read.contains_key(*name)) {
            let changes = Changes { added: 0, removed: known.list.counts().rules };
            changed.push(difference(name, changes));
        }
        (self.known, self.groups) = (read, groups);
        Ok(changed)
    }

    /// Replaces a list by what was downloaded, if that can be used. Returns what has changed; `None`:
    /// nothing has. It may take seconds.
    pub fn take(&mut self, config: &ListsConfig, name: &str, file: File) -> Result<Option<Changes>, Refusal> {
        let gone = Refusal { reason: "the list is no longer configured".into(), remedy: "" };
        let spec = specs(config).find(|spec| spec.name == name).ok_or(gone)?;
        let origin = spec.origin(&config.fetch);
        let list = self.read(&spec, &origin, Some(file))?;
        let before = self.known.get(name);
        let known = KnownList { list: unchanged(before, list), origin, is_missing: false };
        let before = before.map(|before| before.list.clone());
        let replaced = self.known.insert(name.to_owned(), known);
        match next_groups(&self.groups, config, &self.known, &self.paused) {
            Ok(groups) => self.groups = groups,
            Err(error) => {
                let reason = told_with_file(&error, &self.known);
                match replaced {
                    Some(replaced) => self.known.insert(name.to_owned(), replaced),
                    None => self.known.remove(name),
                };
                return Err(Refusal { reason, remedy: GroupsError::REMEDY });
            }
        }
        Ok(self.known.get(name).and_then(|known| log(name, before.as_deref(), known)))
    }

    /// Returns the groups of clients if no list decided for those in `paused`.
    pub fn groups_with(
        &self,
        config: &ListsConfig,
        paused: &BTreeSet<IpAddr>,
    ) -> Result<Groups, GroupsError> {
        next_groups(&self.groups, config, &self.known, paused)
    }

    /// Lets no list decide for the clients in `paused`, and for no others.
    pub fn pause_clients(
        &mut self,
        config: &ListsConfig,
        paused: &BTreeSet<IpAddr>,
    ) -> Result<(), GroupsError> {
        if self.paused != *paused {
            self.groups = self.groups_with(config, paused)?;
            self.paused.clone_from(paused);
        }
        Ok(())
    }

    /// Groups of clients that the lists decide for.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Returns the policies of the groups of clients, with the lists as they were read, and as far as
    /// they are in effect.
    pub fn policies(&self, config: &ListsConfig, effect: &InEffect) -> Policies {
        let list = |name: &str| self.known.get(name).map(|known| known.list.clone());
        let allow = config.allow.iter().filter_map(|allow| {
            Some(AllowList { name: allow.name.as_str().into(), list: list(&allow.name)? })
        });
        let block = config.block.iter().filter_map(|block| {
            Some(BlockList {
                name: block.name.as_str().into(),
                list: list(&block.name)?,
                answer: answer(&block.answer),
                ttl: block.ttl,
                dry_run: block.dry_run,
                client: None,
                action: block.action.as_ref().map(action),
                ede: block.ede.code(),
            })
        });
        let (allow, block): (Vec<_>, Vec<_>) = (allow.collect(), block.collect());
        self.groups.policies(&config.groups, self.key, &allow, &block, effect)
    }

    /// Returns the origin of a list.
    pub fn origin(&self, name: &str) -> Option<ListOrigin> {
        self.known.get(name).map(|known| known.origin.clone())
    }

    /// Whether a list has yet to be downloaded.
    pub fn is_missing(&self, name: &str) -> bool {
        self.known.get(name).is_none_or(|known| known.is_missing)
    }

    /// Returns the number of a list's rules.
    pub fn rules(&self, name: &str) -> usize {
        self.known.get(name).map_or(0, |known| known.list.counts().rules)
    }

    /// Returns a builder with the names of the configuration.
    fn given(&self, spec: &Spec<'_>) -> ListBuilder {
        let mut builder = ListBuilder::new(self.key);
        for (line, text) in (1..).zip(spec.names) {
            builder.push(line, allowing(text));
        }
        builder
    }

    /// Reads a list from its file. `None`: it has yet to be downloaded.
    fn read_file(&self, spec: &Spec<'_>, origin: &ListOrigin) -> Result<Option<List>, Refusal> {
        let Some((file, _)) = &origin.file else { return self.read(spec, origin, None).map(Some) };
        match file.open() {
            Ok(open) => self.read(spec, origin, Some(open)).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound && origin.url.is_some() => Ok(None),
            Err(error) => Err(Refusal { reason: error.to_string(), remedy: CORRECT }),
        }
    }

    /// Reads a list whose rules are in `file`, if it has one.
    fn read(&self, spec: &Spec<'_>, origin: &ListOrigin, file: Option<File>) -> Result<List, Refusal> {
        let mut builder = self.given(spec);
        if let (Some(open), Some((file, format))) = (file, &origin.file) {
            let reader = BufReader::with_capacity(BUFFER, open);
            let report = text::read(reader, format_of(*format), |line, rule| builder.push(line, rule));
            let report = match report {
                Ok(report) => report,
                // A primary may empty its zone, which has a name server all the same. Other lists without
                // rules are mistakes.
                Err(SourceError::NoRule { format: Format::Rpz, lines: 2.., first: None })
                    if matches!(spec.source, Some(ListSource::Zone(_))) =>
                {
                    builder.decide_by_labels();
                    return Ok(builder.finish().0);
                }
                Err(error) => return Err(Refusal { reason: error.to_string(), remedy: CORRECT }),
            };
            tell(spec.name, &file.path(), &report);
            if report.format == Format::Rpz {
                builder.decide_by_labels();
            }
        }
        self.finish(spec, origin, builder)
    }

    fn finish(&self, spec: &Spec<'_>, origin: &ListOrigin, builder: ListBuilder) -> Result<List, Refusal> {
        let name = spec.name;
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
        let comparable = |known: &&KnownList| !known.is_missing && known.origin.url == origin.url;
        if let Some(known) = self.known.get(name).filter(comparable) {
            let before = known.list.counts().rules as u64;
            let (least, most) = (before.min(rules), before.max(rules));
            // A zone that was empty may have any number.
            if before > 0 && most >= CHANGE_MIN && least.saturating_mul(CHANGE_MAX) < most {
                let reason = format!("the list {name:?} had {before} rules and would have {rules}");
                let remedy = match origin.url {
                    Some(_) => "If that is right, give the list another name",
                    None => "If that is right, restart ringdnsd, or give the list another name",
                };
                return Err(Refusal { reason, remedy });
            }
        }
        Ok(list)
    }
}

impl Spec<'_> {
    /// Returns the URL that the list is downloaded from, if it is.
    fn url(&self) -> Option<&str> {
        match self.source {
            Some(source) => source.remote().map(|(url, _)| url),
            None => None,
        }
    }

    /// Returns the key of the source, or of the names.
    fn key(&self) -> String {
        format!("{}.{}", self.table, if self.source.is_some() { "source" } else { "names" })
    }

    fn origin(&self, fetch: &FetchConfig) -> ListOrigin {
        let (file, url) = match self.source {
            None => (None, None),
            Some(ListSource::File(path)) => (Some(ListFile::Given(path.clone())), None),
            Some(ListSource::Url { url, .. }) => self.copy(fetch, url),
            Some(ListSource::Zone(zone)) => self.copy(fetch, &zone.url),
        };
        let file = file.map(|file| (file, self.format));
        ListOrigin { table: self.table.clone(), names: self.names.to_vec(), file, url }
    }

    /// Returns the file with the copy of the list, and its URL.
    fn copy(&self, fetch: &FetchConfig, url: &str) -> (Option<ListFile>, Option<String>) {
        let copies = Copies::new(&fetch.dir);
        (Some(ListFile::Copy(copies, self.name.to_owned())), Some(url.to_owned()))
    }

    /// Returns the problem that the list cannot be used.
    fn problem(&self, origin: &ListOrigin, Refusal { reason, remedy }: Refusal) -> Problem {
        let path = origin.file.as_ref().map(|(file, _)| format!("{}: ", Printable(file.path().display())));
        Problem::new(self.key(), format!("{}{reason}", path.unwrap_or_default()), remedy)
    }
}

/// Returns the groups of clients that follow, with lists that were read.
fn next_groups(
    groups: &Groups,
    config: &ListsConfig,
    known: &BTreeMap<String, KnownList>,
    paused: &BTreeSet<IpAddr>,
) -> Result<Groups, GroupsError> {
    let allow = config.allow.iter().map(|allow| (&allow.name, true));
    let lists = allow.chain(config.block.iter().map(|block| (&block.name, false)));
    let lists = lists.filter_map(|(name, allows)| {
        let list = &*known.get(name)?.list;
        Some(NamedList { name, list, allows })
    });
    groups.next(&config.groups, &lists.collect::<Vec<_>>(), paused)
}

/// Returns the text of an error about groups, with the file of the rule that it is about.
fn told_with_file(error: &GroupsError, known: &BTreeMap<String, KnownList>) -> String {
    let origin = error.rule().and_then(|rule| Some((rule.line, &known.get(&*rule.list)?.origin)));
    match origin.and_then(|(line, origin)| Some((line, origin.file.as_ref()?))) {
        Some((line, (file, _))) => format!("{}:{line}: {error}", Printable(file.path().display())),
        None => error.to_string(),
    }
}

/// Returns all lists of the configuration, those that allow first.
fn specs(config: &ListsConfig) -> impl Iterator<Item = Spec<'_>> {
    let allow = config.allow.iter().enumerate().map(|(i, allow)| Spec {
        name: &allow.name,
        table: format!("allowlist[{i}]"),
        names: &allow.names,
        source: allow.source.as_ref(),
        format: allow.format,
    });
    let block = config.block.iter().enumerate().map(|(i, block)| Spec {
        name: &block.name,
        table: format!("blocklist[{i}]"),
        names: &[],
        source: Some(&block.source),
        format: block.format,
    });
    allow.chain(block)
}

/// Returns the list as it was before if the new one has the same rules, so that they are kept once.
fn unchanged(before: Option<&KnownList>, list: List) -> Arc<List> {
    let is_same = |before: &&KnownList| {
        // Lines of rules may have moved.
        before.list.content() == list.content() && before.list.client_sets() == list.client_sets()
    };
    let before = before.filter(is_same);
    before.map_or_else(|| Arc::new(list), |before| before.list.clone())
}

/// Logs a list that is new or has changed. Returns what has changed in it.
fn log(name: &str, before: Option<&List>, known: &KnownList) -> Option<Changes> {
    let (list, rules) = (&known.list, known.list.counts().rules);
    match before {
        _ if known.is_missing => {
            tracing::warn!(
                list = name,
                "there is no copy of the list yet: it has no effect until it is downloaded"
            );
            None
        }
        None => {
            tracing::info!(list = name, rules, bytes = list.bytes(), "list loaded");
            Some(Changes { added: rules, removed: 0 })
        }
        Some(before) if before.content() != list.content() => {
            let changes = list.changes_since(before);
            let Changes { added, removed } = changes;
            tracing::info!(list = name, rules, "list changed: +{added} -{removed} rules");
            Some(changes)
        }
        Some(_) => None,
    }
}

/// Returns changes of a list's rules as the API tells them.
fn difference(name: &str, changes: Changes) -> ListDifference {
    ListDifference { name: name.to_owned(), changes: told(changes) }
}

/// Returns changes as the API has them.
fn told(Changes { added, removed }: Changes) -> ListChanges {
    ListChanges { added: added as u64, removed: removed as u64 }
}

/// Logs what was skipped of a list.
fn tell(name: &str, path: &Path, report: &Report) {
    for problem in report.problems.iter().filter(|problem| problem.reason.is_problem()).take(LOGGED) {
        tracing::warn!(list = name, "{}: {problem}", Printable(path.display()));
    }
    let skipped = report.counts.skipped_lines();
    if skipped > 0 {
        let lines = counted(u64::from(skipped), "line", "lines");
        tracing::info!(list = name, format = %report.format, "{lines} of {} skipped", report.counts.lines);
    }
}

fn action(action: &ZoneAction) -> Effect {
    Effect::Answer(match action {
        ZoneAction::PassThru => return Effect::Allow,
        ZoneAction::NxDomain => RuleAnswer::NxDomain,
        ZoneAction::NoData => RuleAnswer::NoData,
        ZoneAction::Drop => RuleAnswer::Drop,
        ZoneAction::TcpOnly => RuleAnswer::TcpOnly,
        ZoneAction::Alias(name) => RuleAnswer::Alias(name.clone().into()),
    })
}

fn answer(answer: &BlockAnswer) -> RuleAnswer {
    match answer {
        BlockAnswer::NxDomain => RuleAnswer::NxDomain,
        BlockAnswer::NoData => RuleAnswer::NoData,
        BlockAnswer::Refused => RuleAnswer::Refused,
        BlockAnswer::Null => RuleAnswer::Null,
        BlockAnswer::Drop => RuleAnswer::Drop,
        BlockAnswer::Address(address) => RuleAnswer::Address(*address),
        BlockAnswer::Alias(name) => RuleAnswer::Alias(name.clone().into()),
    }
}
