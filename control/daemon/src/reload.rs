//! The configuration, read again while ringdnsd runs.
//!
//! What of it can change at once does, without a query lost: who may ask, whom is asked and how, what is validated. The rest waits
//! for a restart, and is named. A configuration that would be refused at the start is refused as a whole, and one that has
//! not changed costs nothing but its reading: reloads come from scripts, and may come every few seconds.

use crate::{listen::Listener, policy, preflight};
use parking_lot::Mutex;
use ringdns_api::Reloaded;
use ringdns_config::{Config, ConfigError, Problem};
use ringdns_dataplane::{policy::Policy, punt::Link};
use ringdns_resolver::Resolver;
use std::{
    collections::BTreeSet,
    fs,
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
    sync::Arc,
};
use toml::{Table, Value};

/// The tables that say what queries are measured by.
const POLICY: [&str; 2] = ["access", "cookies"];
/// Those that say how answers are found out.
const RESOLVER: [&str; 4] = ["upstream", "resolver", "local", "dnssec"];

/// Those whose files are written as ringdnsd runs, or read anew whenever it connects: what is in them has no need to be read here.
const KEPT_UP: [&str; 3] = ["cache", "redis", "clickhouse"];

/// Why the configuration stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It cannot be read, or says what cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// This machine cannot give what it asks for.
    #[error("{}: {problem}", path.display())]
    Problem {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: Problem,
    },
}

/// Who reads the configuration again.
pub struct Reloader {
    path: PathBuf,
    resolver: Arc<Resolver>,
    listener: Arc<Listener>,
    links: Vec<Arc<Link>>,
    running: Mutex<Running>,
}

/// What holds now.
struct Running {
    tables: Tables,
    policy: Arc<Policy>,
}

impl Reloader {
    /// For a process that was started with what is in `path`.
    pub fn new(
        source: Source,
        policy: Arc<Policy>,
        resolver: Arc<Resolver>,
        listener: Arc<Listener>,
        links: Vec<Arc<Link>>,
    ) -> Self {
        let Source { path, tables } = source;
        Reloader { path, resolver, listener, links, running: Mutex::new(Running { tables, policy }) }
    }

    /// Reads the file, and does what it says. Reads other files as well, and may take a while: not for an async task.
    pub fn reload(&self) -> Result<Reloaded, ReloadError> {
        // One at a time.
        let mut running = self.running.lock();
        let text = read(&self.path)?;
        let (tables, before) = (Tables::of(&text, &running.tables.hasher), &running.tables);
        let changed = tables.differences(before);
        let of = |kinds: &[&str]| -> Vec<String> {
            changed.iter().filter(|name| kinds.contains(&name.as_str())).cloned().collect()
        };
        let mut reloaded = Reloaded::default();
        if changed.is_empty() {
            return Ok(reloaded);
        }
        let config = Config::parse(&text, &self.path)?;
        let problem = |problem| ReloadError::Problem { path: self.path.clone(), problem };
        preflight::check(&config).map_err(problem)?;
        let (policies, resolvers) = (of(&POLICY), of(&RESOLVER));
        if !policies.is_empty() {
            let mut policy = policy::policy(&config).map_err(problem)?;
            // A secret of our own that nobody wrote down is not drawn anew: clients would have to learn it again.
            if !changed.contains("cookies") {
                policy.cookies.clone_from(&running.policy.cookies);
            }
            running.policy = Arc::new(policy);
            self.listener.set_policy(running.policy.clone());
            self.links.iter().for_each(|link| link.set_policy(running.policy.clone()));
        }
        if !resolvers.is_empty() {
            self.resolver.set_up(&config);
        }
        reloaded.applied = policies.into_iter().chain(resolvers).collect();
        reloaded.needs_restart = changed.difference(&reloaded.applied).cloned().collect();
        running.tables.take(tables, &reloaded.applied);
        tracing::info!(applied = ?reloaded.applied, needs_restart = ?reloaded.needs_restart, "reloaded");
        Ok(reloaded)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// Where a configuration came from, and what was there.
pub struct Source {
    path: PathBuf,
    tables: Tables,
}

impl Source {
    /// The configuration in a file.
    pub fn load(path: &Path) -> Result<(Config, Source), ConfigError> {
        Self::parse(&read(path)?, path)
    }

    /// The one in a text that was read there.
    pub fn parse(text: &str, path: &Path) -> Result<(Config, Source), ConfigError> {
        let config = Config::parse(text, path)?;
        Ok((config, Source { path: path.to_owned(), tables: Tables::of(text, &RandomState::new()) }))
    }
}

/// The tables of a configuration as they are written, with what is in the files that they name, where that makes a difference.
#[derive(Default)]
struct Tables {
    tables: Table,
    hasher: RandomState,
}

impl Tables {
    /// Those of a text; none, if it cannot be read: then they differ from all that can.
    fn of(text: &str, hasher: &RandomState) -> Self {
        let mut tables: Table = toml::from_str(text).unwrap_or_default();
        let fixed = tables.iter_mut().filter(|(name, _)| !KEPT_UP.contains(&name.as_str()));
        fixed.for_each(|(_, value)| with_files(value, hasher));
        Tables { tables, hasher: hasher.clone() }
    }

    /// The names of those that are not the same.
    fn differences(&self, other: &Self) -> BTreeSet<String> {
        let names = self.tables.keys().chain(other.tables.keys());
        names.filter(|name| self.tables.get(*name) != other.tables.get(*name)).cloned().collect()
    }

    /// Makes some of them what they are in `new`.
    fn take(&mut self, mut new: Self, names: &BTreeSet<String>) {
        for name in names {
            match new.tables.remove(name) {
                Some(table) => drop(self.tables.insert(name.clone(), table)),
                None => drop(self.tables.remove(name)),
            }
        }
    }
}

/// Adds to the names of files what is in them.
fn with_files(value: &mut Value, hasher: &RandomState) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| with_files(value, hasher)),
        Value::Table(table) => table.iter_mut().for_each(|(key, value)| match value {
            Value::String(path) if key.ends_with("_file") => {
                let contents = fs::read(&*path).ok().map(|bytes| hasher.hash_one(bytes));
                *path = format!("{path} {contents:?}");
            }
            value => with_files(value, hasher),
        }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named() {
        let message = Source::load(Path::new("no/such/file.toml")).err().unwrap().to_string();
        assert!(message.starts_with("no/such/file.toml: cannot be read"), "{message}");
    }
}
