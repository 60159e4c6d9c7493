//! Local data of `[[local_record]]`, `[[local_zone]]` and `local.hosts_files`, read from the
//! configuration and its files.

use crate::lists;
use ringdns_common::{names, printable::Printable, units::counted};
use ringdns_config::{LocalConfig, Problem, SafeSearchConfig, YouTubeFilter};
use ringdns_policy::data::{
    Audience, DataBuilder, DataError, LocalData, LocalRecord, hosts,
    safe_search::{self, SafeSearch, YouTube},
    zone,
    zone::LineError,
};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 64 << 20;

/// Records of a file with their lines.
type FileRecords = Arc<[(u32, LocalRecord)]>;

/// Local data as it was read, to be compared with the next reading.
#[derive(Default)]
pub struct LocalSources {
    config: LocalConfig,
    /// Records of zone files. A change of a hosts file does not read them again.
    zones: BTreeMap<PathBuf, FileRecords>,
    /// States of the hosts files when they were read.
    hosts: Vec<Option<FileState>>,
}

/// State of a file, which tells whether it has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileState {
    inode: u64,
    size: u64,
    /// Time of the last change, in seconds and nanoseconds.
    changed: [i64; 2],
}

impl FileState {
    /// Returns the state of a file; `None`: it cannot be looked at.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let changed = [metadata.ctime(), metadata.ctime_nsec()];
        Some(FileState { inode: metadata.ino(), size: metadata.size(), changed })
    }
}

impl LocalSources {
    /// Reads all files and returns the data. Of each record and file that cannot be used there are
    /// problems; then nothing has changed.
    pub fn load(&mut self, config: &LocalConfig) -> Result<LocalData, Vec<Problem>> {
        let (mut zones, mut problems) = (BTreeMap::new(), Vec::new());
        for (i, zone) in config.zones.iter().enumerate() {
            let Some(path) = &zone.file else { continue };
            let key = format!("local_zone[{i}].file");
            match read(&key, path, |text| zone::read(text, &zone.name)) {
                Ok(records) => drop(zones.insert(path.clone(), records)),
                Err(found) => problems.extend(found),
            }
        }
        let hosts = states(config);
        let data = build(config, &zones, problems)?;
        if !data.is_empty() {
            tracing::info!(records = data.records(), "local data loaded");
        }
        *self = LocalSources { config: config.clone(), zones, hosts };
        Ok(data)
    }

    /// Reads the hosts files again if one of them has changed. `None`: none has, or one cannot be
    /// used, which is logged once.
    pub fn refresh(&mut self) -> Option<LocalData> {
        let hosts = states(&self.config);
        if hosts == self.hosts {
            return None;
        }
        self.hosts = hosts;
        match build(&self.config, &self.zones, Vec::new()) {
            Ok(data) => {
                tracing::info!(records = data.records(), "hosts files have changed, and are in effect");
                Some(data)
            }
            Err(problems) => {
                for problem in problems {
                    tracing::warn!("hosts files have changed, and what they said before stays: {problem}");
                }
                None
            }
        }
    }
}

/// Returns the aliases of search engines.
pub fn safe_search(config: SafeSearchConfig) -> LocalData {
    let youtube = match config.youtube {
        YouTubeFilter::None => None,
        YouTubeFilter::Moderate => Some(YouTube::Moderate),
        YouTubeFilter::Strict => Some(YouTube::Strict),
    };
    let SafeSearchConfig { google, bing, duckduckgo, .. } = config;
    safe_search::data(SafeSearch { google, bing, youtube, duckduckgo })
}

fn states(config: &LocalConfig) -> Vec<Option<FileState>> {
    config.hosts_files.iter().map(|path| FileState::of(path)).collect()
}

/// Returns the data of all sources, or `problems` and those found.
fn build(
    config: &LocalConfig,
    zones: &BTreeMap<PathBuf, FileRecords>,
    mut problems: Vec<Problem>,
) -> Result<LocalData, Vec<Problem>> {
    let mut builder = DataBuilder::default();
    let mut of_zones = Vec::new();
    for (i, zone) in config.zones.iter().enumerate() {
        let audience = audience(&mut builder, zone.groups.as_deref()).unwrap_or_else(|error| {
            let remedy = "Name fewer groups, or leave groups out for all clients";
            problems.push(Problem::new(format!("local_zone[{i}].groups"), error.to_string(), remedy));
            Audience::NONE
        });
        builder.zone_for(audience, zone.name.as_slice().into());
        of_zones.push(audience);
    }
    for (i, record) in config.records.iter().enumerate() {
        let parsed = LocalRecord::parse(&record.name, record.rtype, record.ttl, &record.data);
        let added = parsed.and_then(|parsed| {
            let audience = audience(&mut builder, record.groups.as_deref())?;
            builder.record_for(audience, parsed)
        });
        if let Err(error) = added {
            let remedy = format!("Write the data of {} as in a zone file", names::type_name(record.rtype));
            problems.push(Problem::new(format!("local_record[{i}].data"), error.to_string(), remedy));
        }
    }
    for ((i, zone), audience) in config.zones.iter().enumerate().zip(of_zones) {
        let Some((path, records)) = zone.file.as_ref().and_then(|path| zones.get_key_value(path)) else {
            continue;
        };
        let key = format!("local_zone[{i}].file");
        problems.extend(add(&mut builder, &key, path, (records, audience)));
    }
    for (i, path) in config.hosts_files.iter().enumerate() {
        let key = format!("local.hosts_files[{i}]");
        match read(&key, path, |text| hosts::read(text, config.ttl)) {
            Ok(records) => problems.extend(add(&mut builder, &key, path, (&records, Audience::ALL))),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() { Ok(builder.finish(config.ptr.then_some(config.ttl))) } else { Err(problems) }
}

/// Returns the groups of clients that data is for; without names, all.
fn audience(builder: &mut DataBuilder, groups: Option<&[String]>) -> Result<Audience, DataError> {
    groups.map_or(Ok(Audience::ALL), |names| builder.groups(names))
}

/// Adds the records of a file for groups of clients. Returns the problems.
fn add(
    builder: &mut DataBuilder,
    key: &str,
    path: &Path,
    (records, audience): (&FileRecords, Audience),
) -> Vec<Problem> {
    let wrong = |(line, record): &(u32, LocalRecord)| {
        let error = builder.record_for(audience, record.clone()).err()?;
        Some(wrong_line(key, path, &LineError { line: *line, error }))
    };
    records.iter().filter_map(wrong).collect()
}

fn wrong_line(key: &str, path: &Path, LineError { line, error }: &LineError) -> Problem {
    let reason = format!("{}:{line}: {}", Printable(path.display()), Printable(error));
    Problem::new(key, reason, "Correct the file")
}

/// Reads a file of text.
fn read(
    key: &str,
    path: &Path,
    parse: impl FnOnce(&str) -> Result<Vec<(u32, LocalRecord)>, Vec<LineError>>,
) -> Result<FileRecords, Vec<Problem>> {
    let refused = |reason: String| {
        let reason = format!("{}: {reason}", Printable(path.display()));
        vec![Problem::new(key, reason, "Correct the file, or remove it from the configuration")]
    };
    let bytes = contents(path).map_err(|error| refused(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        refused(format!("line {line} is not UTF-8"))
    })?;
    let records = parse(&text)
        .map_err(|errors| errors.iter().map(|error| wrong_line(key, path, error)).collect::<Vec<_>>())?;
    Ok(records.into())
}

/// Returns the contents of a file that is not too large.
pub(crate) fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    lists::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        let most = counted(FILE_MAX >> 20, "MiB", "MiB");
        return Err(io::Error::other(format!("it is larger than {most}")));
    }
    Ok(bytes)
}
