//! Reload of the configuration while ringdnsd runs.
//!
//! Some tables take effect at once, without a lost query: access list, cookies, upstreams and their
//! options, local answers, lists, validation, rate limit. The others need a restart, and the answer names those that
//! changed. A configuration that would be refused at the start is refused as a whole. One that has
//! not changed costs only its reading: reloads come from scripts, and may come every few seconds.

mod tables;

use crate::{
    access::AccessGate,
    bans::Bans,
    client_names::ClientNames,
    listen::Listener,
    lists::ListKeeper,
    local::{self, LocalSources},
    policy, preflight,
    sandbox::Folders,
    tokens::Tokens,
};
use parking_lot::Mutex;
use ringdns_api::{ConfigDifference, ConfigView, Reloaded, RulePlace};
use ringdns_common::{fault::Fault, units::counted};
use ringdns_config::{
    Config, ConfigError,
    error::{FilePlace, place_of},
    settings,
    tokens::Token,
};
use ringdns_dataplane::{census::CensusTotals, group::Group, policy::QueryPolicy, punt::Link};
use ringdns_policy::{list::Found, overrides::OVERRIDES};
use ringdns_resolver::Resolver;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::RandomState,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tables::Tables;

/// Tables that make up the policy for queries.
const POLICY: [&str; 4] = ["access", "cookies", "client_group", "rate_limit"];
/// Tables that configure the resolver.
const RESOLVER: [&str; 6] = ["upstream", "resolver", "local", "rebinding", "dns64", "dnssec"];

/// Tables of local data.
const DATA: [&str; 3] = ["local", "local_record", "local_zone"];

/// Table of search engines.
const SAFE_SEARCH: [&str; 1] = ["safe_search"];

/// Tables of names of clients: hosts files may have them.
const NAMES: [&str; 2] = ["client_names", "local"];

/// Tables of lists.
const LISTS: [&str; 4] = ["blocklist", "allowlist", "lists", "client_group"];

/// Reloader of the configuration.
pub struct Reloader {
    path: PathBuf,
    resolver: Arc<Resolver>,
    listener: Arc<Listener>,
    links: Vec<Arc<Link>>,
    lists: Arc<ListKeeper>,
    bans: Arc<Bans>,
    /// `None`: there is no XDP program.
    access: Option<AccessGate>,
    /// Tokens of the API.
    pub tokens: Tokens,
    /// `None`: clients have no names in the query log until a restart.
    names: Option<Arc<ClientNames>>,
    running: Mutex<Running>,
    /// Whether the configuration was read from a file, and can be read again.
    is_file: bool,
    /// Folders that this process can use; `None`: all that its user can.
    folders: Option<Folders>,
    /// Refusal of the last reload.
    pub fault: Fault,
    /// Tables whose changes wait for a restart.
    waiting: Mutex<BTreeSet<String>>,
}

/// Configuration in effect.
struct Running {
    tables: Tables,
    policy: Arc<QueryPolicy>,
    local: LocalSources,
}

impl Reloader {
    /// Returns a reloader for a process that was started with `source`.
    pub fn new(
        source: ConfigSource,
        policy: Arc<QueryPolicy>,
        lists: Arc<ListKeeper>,
        resolver: Arc<Resolver>,
        listener: Arc<Listener>,
        links: Vec<Arc<Link>>,
        bans: Arc<Bans>,
    ) -> Self {
        let ConfigSource { origin: FileText { path, text }, tables } = source;
        let is_file = text.is_some();
        let running = Mutex::new(Running { tables, policy, local: LocalSources::default() });
        let (fault, waiting) = (Fault::default(), Mutex::default());
        Reloader {
            path,
            resolver,
            listener,
            links,
            lists,
            bans,
            access: None,
            folders: None,
            tokens: Tokens::default(),
            names: None,
            running,
            fault,
            waiting,
            is_file,
        }
    }

    /// Takes over the local data that the process was started with.
    pub fn with_local(self, local: LocalSources) -> Self {
        self.running.lock().local = local;
        self
    }

    /// Sets the tokens of the API that the process was started with.
    pub fn with_tokens(self, tokens: Vec<Token>) -> Self {
        self.tokens.set(tokens);
        self
    }

    /// Sets the names of clients, whose sources follow the configuration.
    pub fn with_names(self, names: Option<Arc<ClientNames>>) -> Self {
        Reloader { names, ..self }
    }

    /// Sets the access list of the XDP program, which follows that of the configuration.
    pub fn with_access(self, access: AccessGate) -> Self {
        Reloader { access: Some(access), ..self }
    }

    /// Sets the folders that this process can use, outside of which no file of a new configuration may be.
    pub fn within(self, folders: Option<Folders>) -> Self {
        Reloader { folders, ..self }
    }

    /// Reads hosts files again if they have changed. It may block.
    pub fn refresh_hosts(&self) {
        if let Some(data) = self.running.lock().local.refresh() {
            self.resolver.set_local_data(data);
        }
    }

    /// Returns the policy for queries that is in effect.
    pub fn policy(&self) -> Arc<QueryPolicy> {
        self.running.lock().policy.clone()
    }

    /// Returns the census of queries over TCP.
    pub fn census_of_tcp(&self) -> CensusTotals {
        self.listener.census.totals()
    }

    /// Path of the configuration.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the place of the rule of a list that was found for a question. Reads the list's file.
    pub fn place_of_rule(&self, list: &str, name: &[u8], qtype: u16, found: &Found<'_>) -> Option<RulePlace> {
        if list == OVERRIDES {
            return self.lists.place_of_override(name, found);
        }
        let origin = self.lists.origin(list)?;
        origin.place_of(name, qtype, found, &self.path)
    }

    /// Returns the group of a client.
    pub fn group_of(&self, client: IpAddr) -> Group {
        self.lists.groups().clients().map_or(Group::DEFAULT, |clients| clients.of(client))
    }

    /// Returns the group with a name.
    pub fn group_named(&self, name: &str) -> Option<Group> {
        self.lists.groups().named(name)
    }

    /// Returns the name of a group.
    pub fn name_of_group(&self, group: Group) -> String {
        self.lists.groups().name(group).to_owned()
    }

    /// Returns the names of all groups by number.
    pub fn group_names(&self) -> Vec<Arc<str>> {
        self.lists.groups().names().to_vec()
    }

    /// Tells workers and listeners about the groups of clients that the lists make by now. It may block.
    pub fn take_groups(&self) {
        let mut running = self.running.lock();
        let policy = (*running.policy).clone();
        self.hand_on(&mut running, policy);
    }

    /// Puts a policy for queries into effect, with the groups of clients that there are now.
    fn hand_on(&self, running: &mut Running, mut policy: QueryPolicy) {
        let groups = self.lists.groups();
        if let Err(error) = policy::regroup(&mut policy, &groups) {
            // They have been tried before the lists took effect.
            tracing::error!("clients stay in the groups that they were in: {error}");
        }
        running.policy = Arc::new(policy);
        self.listener.set_policy(running.policy.clone());
        self.listener.set_log_groups(policy::log_groups(&running.policy, &groups));
        self.links.iter().for_each(|link| link.set_policy(running.policy.clone()));
    }

    /// Returns the tables whose changes wait for a restart, as of the last reload.
    pub fn waits_for_restart(&self) -> BTreeSet<String> {
        self.waiting.lock().clone()
    }

    /// Returns the configuration in effect, without secrets.
    pub fn view(&self) -> ConfigView {
        let written = settings::masked(self.running.lock().tables.written());
        let file = self.is_file.then(|| self.path.display().to_string());
        ConfigView { file, effective: json(&settings::with_defaults(&written)), written: json(&written) }
    }

    /// Compares the configuration in effect with the file. Reads other files too and may take a while, so
    /// it must not run in an async task.
    pub fn compare(&self) -> Result<Vec<ConfigDifference>, ConfigError> {
        let running = self.running.lock();
        if !self.is_file {
            return Err(ConfigError::NoFile);
        }
        let text = read(&self.path)?;
        Config::parse(&text, &self.path)?;
        let tables = Tables::of(&text, &running.tables.hasher);
        let changed = settings::differences(running.tables.written(), tables.written());
        let differences = changed.into_iter().map(|change| ConfigDifference {
            restart: settings::restart_reason(change.table()).map(Into::into),
            key: change.key,
            running: change.before,
            file: change.after,
        });
        let mut differences: Vec<_> = differences.collect();
        for name in tables.differences(&running.tables) {
            let is_of = |one: &ConfigDifference| one.key.split(['.', '[']).next() == Some(&name);
            if !differences.iter().any(is_of) {
                let restart = settings::restart_reason(&name).map(Into::into);
                differences.push(ConfigDifference { key: name, running: None, file: None, restart });
            }
        }
        Ok(differences)
    }

    /// Reads the file and applies it. Reads other files too and may take a while, so it must not
    /// run in an async task.
    pub fn reload(&self) -> Result<Reloaded, ConfigError> {
        let reloaded = self.read_and_apply();
        match &reloaded {
            Ok(reloaded) => {
                self.fault.clear();
                self.waiting.lock().clone_from(&reloaded.needs_restart);
            }
            // Values of the file may be secrets, and problems are shown to all who may read metrics.
            Err(ConfigError::Read { source, .. }) => drop(self.fault.set(source)),
            // Nothing was refused: there is nothing to read.
            Err(ConfigError::NoFile) => {}
            Err(ConfigError::Refused { problems, .. }) => {
                let count = counted(problems.len() as u64, "problem", "problems");
                let command = "`ringctl reload` or `ringdnsd --check` names";
                self.fault.set(format!("the file has {count}, which {command}"));
            }
        }
        reloaded
    }

    fn read_and_apply(&self) -> Result<Reloaded, ConfigError> {
        // One reload at a time.
        let mut running = self.running.lock();
        if !self.is_file {
            return Err(ConfigError::NoFile);
        }
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
        let mut config = Config::parse(&text, &self.path)?;
        let refused = |problems| ConfigError::refused(&self.path, &text, problems);
        if let Some(outside) = self.folders.as_ref().and_then(|folders| folders.refuse(&config)) {
            return Err(refused(vec![outside.problem()]));
        }
        let problems = preflight::check(&mut config);
        if !problems.is_empty() {
            return Err(refused(problems));
        }
        let (policies, resolvers, lists, data) = (of(&POLICY), of(&RESOLVER), of(&LISTS), of(&DATA));
        // What may be refused comes before anything takes effect, which lists do when they are read.
        let policy = match policies.is_empty() {
            true => None,
            // Its groups are those of the lists, once these are read.
            false => Some(
                policy::policy(&config, &self.lists.groups()).map_err(|problem| refused(vec![problem]))?,
            ),
        };
        let local = match data.is_empty() {
            true => None,
            false => {
                let mut sources = LocalSources::default();
                Some((sources.load(&config.local).map_err(refused)?, sources))
            }
        };
        let tokens = changed.contains("control").then(|| Tokens::read(&config.control)).transpose();
        let tokens = tokens.map_err(|problem| refused(vec![problem]))?;
        // Before workers know of new groups, there are lists for them.
        if !lists.is_empty() {
            reloaded.lists = self.lists.load(&config.lists).map_err(refused)?;
        }
        // And their upstreams.
        if !resolvers.is_empty() {
            self.resolver.set_up(&config);
        }
        if let Some(mut policy) = policy {
            // Keep a random secret: with a new one, clients would need new cookies.
            if !changed.contains("cookies") {
                policy.cookies.clone_from(&running.policy.cookies);
            }
            policy.lists.clone_from(&running.policy.lists);
            self.hand_on(&mut running, policy);
            self.bans.set_limit(config.rate_limit.as_ref(), &config.lists.groups);
            if let Some(access) = &self.access {
                access.set(&config.access);
            }
        }
        if let Some((data, sources)) = local {
            self.resolver.set_local_data(data);
            running.local = sources;
        }
        let engines = of(&SAFE_SEARCH);
        if !engines.is_empty() {
            self.resolver.set_safe_search(local::safe_search(config.safe_search));
        }
        let mut control = BTreeSet::new();
        if let Some(new) = tokens {
            self.tokens.set(new);
            if tables.without_tokens() == running.tables.without_tokens() {
                control.insert("control".to_owned());
            }
        }
        let mut names = of(&NAMES);
        match &self.names {
            Some(clients) if !names.is_empty() => clients.set(&config),
            Some(_) => {}
            None => names.clear(),
        }
        reloaded.applied = policies
            .into_iter()
            .chain(resolvers)
            .chain(lists)
            .chain(data)
            .chain(engines)
            .chain(control)
            .chain(names)
            .collect();
        reloaded.needs_restart = changed.difference(&reloaded.applied).cloned().collect();
        reloaded.reasons = reasons(&reloaded.needs_restart);
        running.tables.take(tables, &reloaded.applied);
        tracing::info!(applied = ?reloaded.applied, needs_restart = ?reloaded.needs_restart, "reloaded");
        Ok(reloaded)
    }
}

/// Returns the reasons why tables need a restart.
fn reasons(tables: &BTreeSet<String>) -> BTreeMap<String, String> {
    let reason = |name: &String| Some((name.clone(), settings::restart_reason(name)?.to_owned()));
    tables.iter().filter_map(reason).collect()
}

fn json(tables: &toml::Table) -> serde_json::Value {
    serde_json::to_value(tables).unwrap_or_default()
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// Origin of a configuration: its file and its tables.
pub struct ConfigSource {
    origin: FileText,
    tables: Tables,
}

/// Path and text of a file, for messages about its keys.
#[derive(Clone)]
pub struct FileText {
    path: PathBuf,
    /// `None`: the command line has the configuration.
    text: Option<String>,
}

/// Name of a configuration without a file in messages.
pub const COMMAND_LINE: &str = "command line";

impl FileText {
    /// Returns the name of the file, or of what has its place.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the place of a key.
    pub fn place_of(&self, key: &str) -> FilePlace {
        self.text.as_ref().map_or(FilePlace(None), |text| place_of(text, key))
    }

    /// Returns the path and the place of a key, as messages begin.
    pub fn place(&self, key: &str) -> String {
        format!("{}{}", self.path.display(), self.place_of(key))
    }
}

impl ConfigSource {
    /// Loads the configuration from a file.
    pub fn load(path: &Path) -> Result<(Config, ConfigSource), ConfigError> {
        Self::parse(&read(path)?, path)
    }

    /// Takes the configuration of a command line.
    pub fn of_command_line(text: &str) -> Result<(Config, ConfigSource), ConfigError> {
        let parsed = Self::parse(text, Path::new(COMMAND_LINE)).map_err(ConfigError::without_lines);
        let (config, mut source) = parsed?;
        source.origin.text = None;
        Ok((config, source))
    }

    /// Checks a configuration against this machine.
    pub fn checked(
        (mut config, source): (Config, ConfigSource),
    ) -> Result<(Config, ConfigSource), ConfigError> {
        let problems = preflight::check(&mut config);
        let FileText { path, text } = source.file();
        match text {
            _ if problems.is_empty() => Ok((config, source)),
            Some(text) => Err(ConfigError::refused(path, text, problems)),
            None => Err(ConfigError::refused(path, "", problems).without_lines()),
        }
    }

    /// Returns the file.
    pub fn file(&self) -> &FileText {
        &self.origin
    }

    /// Parses a configuration from a text that was read from `path`.
    pub fn parse(text: &str, path: &Path) -> Result<(Config, ConfigSource), ConfigError> {
        let config = Config::parse(text, path)?;
        let origin = FileText { path: path.to_owned(), text: Some(text.to_owned()) };
        Ok((config, ConfigSource { origin, tables: Tables::of(text, &RandomState::new()) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named() {
        let message = ConfigSource::load(Path::new("no/such/file.toml")).err().unwrap().to_string();
        assert!(message.starts_with("no/such/file.toml: cannot be read"), "{message}");
    }

    #[test]
    fn a_table_takes_effect_by_a_reload_or_there_is_a_reason_why_not() {
        for table in settings::table_names() {
            let is_live = [&POLICY[..], &RESOLVER, &DATA, &SAFE_SEARCH, &LISTS].concat().contains(&table);
            assert_ne!(is_live, settings::restart_reason(table).is_some(), "{table}");
        }
    }
}
