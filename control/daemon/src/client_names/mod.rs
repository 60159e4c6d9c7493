//! Names of clients for the query log: from hosts files, from lease files of DHCP servers, and from PTR
//! records.
//!
//! Rows are made by the collector, which must not wait: it finds a name in memory, or none. Files are
//! looked at every two seconds, and PTR records are looked up in the background.

mod ptr;
#[cfg(test)]
mod tests;

use crate::{
    local::{FileState, contents},
    parts::{Part, lasting},
};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use ptr::PtrNames;
use ringdns_common::{counters, counters::Total, printable::Printable, units::counted};
use ringdns_config::{Config, Privacy};
use ringdns_dataplane::clock::Clock;
use ringdns_policy::data::{hosts, leases};
use ringdns_querylog::client_name::ClientNaming;
use ringdns_resolver::Resolver;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::Notify,
    task::{JoinSet, spawn_blocking},
    time::sleep,
};

/// Time between looks at the files.
const PERIOD: Duration = Duration::from_secs(2);
/// Most names of all files together.
const NAMES_MAX: usize = 100_000;

counters! {
    /// Counters of the names of clients.
    ClientNameCounters {
        /// Times that a file with names of clients was read because it had changed.
        files_read,
        /// Times that a file with names of clients could not be used, so that its names stayed.
        files_refused,
        /// Lines of lease files that were skipped, counted again each time a file is read.
        lines_skipped,
        /// PTR records looked up for names of clients.
        ptr_asked,
        /// Lookups of PTR records that failed; another follows after a minute.
        ptr_failed,
        /// Lookups of PTR records that were put off because too many waited.
        ptr_put_off,
    }
}

/// Names by address.
type Names = HashMap<IpAddr, Arc<str>>;

/// Kind of a file with names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Hosts,
    Leases,
}

/// File with names of clients.
struct Source {
    path: PathBuf,
    kind: Kind,
    /// State of the file when it was last looked at; `None`: it was not there.
    state: Option<FileState>,
    names: Names,
}

/// Names of clients.
pub struct ClientNames {
    clock: Clock,
    /// Files in the order in which they name clients. Locked for as long as files are read.
    sources: Mutex<Vec<Source>>,
    /// Names of all files.
    of_files: ArcSwap<Names>,
    ptr: PtrNames,
    /// Wakes the watch when there are files after there were none.
    has_files: Notify,
    counters: ClientNameCounters,
}

impl ClientNames {
    /// Returns the names that a configuration asks for, with those that files have now; `None`: nothing is
    /// logged, or without the addresses of clients, and so it stays until a restart.
    pub fn new(config: &Config, clock: Clock) -> Option<Arc<Self>> {
        if !config.query_log.enabled || config.query_log.privacy != Privacy::None {
            return None;
        }
        let names = ClientNames {
            clock,
            sources: Mutex::default(),
            of_files: ArcSwap::default(),
            ptr: PtrNames::new(),
            has_files: Notify::new(),
            counters: ClientNameCounters::default(),
        };
        names.set(config);
        Some(Arc::new(names))
    }

    /// Takes over the sources of a configuration, and reads their files. Those that were there keep their
    /// names. It may block.
    pub fn set(&self, config: &Config) {
        let wanted = &config.client_names;
        let hosts = config.local.hosts_files.iter().filter(|_| wanted.hosts_files);
        let hosts = hosts.map(|path| (path, Kind::Hosts));
        let files = hosts.chain(wanted.lease_files.iter().map(|path| (path, Kind::Leases)));
        let mut sources = self.sources.lock();
        let mut before = std::mem::take(&mut *sources);
        let source = |(path, kind): (&PathBuf, Kind)| {
            let known = before.iter().position(|source| source.path == *path && source.kind == kind);
            let new = || Source { path: path.clone(), kind, state: None, names: Names::new() };
            known.map_or_else(new, |at| before.swap_remove(at))
        };
        *sources = files.map(source).collect();
        self.read_changed(&mut sources);
        // Their order may be another.
        self.gather(&sources);
        drop(sources);
        self.ptr.set_clients(&wanted.ptr_clients);
        self.has_files.notify_one();
    }

    /// Begins the tasks that keep the names up to date.
    pub fn begin(self: &Arc<Self>, resolver: &Arc<Resolver>, parts: &mut JoinSet<Part>) {
        let names = self.clone();
        lasting(parts, "the watch on names of clients", async move {
            loop {
                let is_idle = names.sources.lock().is_empty();
                match is_idle {
                    // A reload may name files.
                    true => names.has_files.notified().await,
                    false => sleep(PERIOD).await,
                }
                let names = names.clone();
                // A panic is in the log; the next look may find other files.
                drop(spawn_blocking(move || names.refresh()).await);
            }
        });
        let (names, resolver) = (self.clone(), resolver.clone());
        lasting(parts, "the lookup of names of clients", async move {
            names.ptr.run(&resolver, names.clock, &names.counters).await;
        });
    }

    /// Reads the files that have changed. A file that cannot be used keeps its names.
    fn refresh(&self) {
        let mut sources = self.sources.lock();
        if self.read_changed(&mut sources) {
            self.gather(&sources);
        }
    }

    /// Reads the files that have changed. Returns whether names have.
    fn read_changed(&self, sources: &mut [Source]) -> bool {
        let mut has_changed = false;
        for source in sources {
            let state = FileState::of(&source.path);
            if state == source.state {
                continue;
            }
            source.state = state;
            match source.read(self.clock.unix(), &self.counters) {
                Ok(names) => {
                    self.counters.files_read.inc();
                    has_changed |= names != source.names;
                    source.names = names;
                }
                Err(reason) => {
                    self.counters.files_refused.inc();
                    let path = Printable(source.path.display());
                    tracing::warn!("client_names: {path}: {reason}. The names that it had stay");
                }
            }
        }
        has_changed
    }

    /// Gathers the names of all files.
    fn gather(&self, sources: &[Source]) {
        let mut all = Names::new();
        for (address, name) in sources.iter().flat_map(|source| &source.names) {
            if all.len() < NAMES_MAX || all.contains_key(address) {
                all.entry(*address).or_insert_with(|| name.clone());
            }
        }
        tracing::debug!(names = all.len(), "names of clients have changed");
        self.of_files.store(Arc::new(all));
    }
}

impl Source {
    /// Returns the names in the file.
    fn read(&self, now: u64, counters: &ClientNameCounters) -> Result<Names, String> {
        let bytes = contents(&self.path).map_err(|error| error.to_string())?;
        match self.kind {
            Kind::Hosts => of_hosts(&bytes),
            Kind::Leases => {
                let leases = leases::read(&bytes, now, NAMES_MAX)
                    .ok_or("it is no lease file of dnsmasq, Kea (CSV) or ISC DHCP")?;
                counters.lines_skipped.add(leases.skipped);
                if leases.skipped > 0 {
                    let lines = counted(leases.skipped, "line", "lines");
                    tracing::info!("client_names: {}: {lines} skipped", Printable(self.path.display()));
                }
                Ok(leases.names.into_iter().map(|(address, name)| (address, name.into())).collect())
            }
        }
    }
}

/// Returns the first name of each address in a hosts file.
fn of_hosts(bytes: &[u8]) -> Result<Names, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    let records = hosts::read(text, 0).map_err(|errors| match &errors[..] {
        [first, ..] => format!("line {}: {}", first.line, Printable(&first.error)),
        [] => "it cannot be read".into(),
    })?;
    let mut names = Names::new();
    for (_, record) in records.iter().filter(|(_, record)| record.is_canonical) {
        if let Some(address) = record.as_address() {
            names.entry(address).or_insert_with(|| text_of(&record.owner).into());
        }
    }
    Ok(names)
}

/// Returns a name in wire format as the log has it, without the last dot.
fn text_of(name: &[u8]) -> String {
    let mut text = ringdns_common::names::display(name);
    text.pop();
    text
}

impl ClientNaming for ClientNames {
    fn name_of(&self, client: Ipv6Addr) -> Option<Arc<str>> {
        let client = client.to_canonical();
        let of_files = self.of_files.load().get(&client).cloned();
        of_files.or_else(|| self.ptr.name_of(client, self.clock.secs(), &self.counters))
    }

    fn gauges(&self) -> Vec<Total> {
        vec![
            Total {
                name: "of_files",
                doc: "Addresses of clients with a name from hosts and lease files.",
                value: self.of_files.load().len() as u64,
            },
            Total {
                name: "of_ptr",
                doc: "Addresses of clients whose PTR records were looked up, with and without a name.",
                value: self.ptr.len() as u64,
            },
        ]
    }

    fn totals(&self) -> Vec<Total> {
        self.counters.totals()
    }
}
