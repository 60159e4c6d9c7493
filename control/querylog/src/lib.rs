//! The query log: turns the answers that workers and the TCP listener record into rows, and hands
//! them on.
//!
//! ```text
//!  workers ──batches──► collector ─┬─ writer (a bounded channel) ── ClickHouse, or the spool
//!  TCP listener ─rows──►           └─ taps: clients of the control socket
//! ```
//!
//! No sender waits. Records that find no room are dropped at that point, and counted there:
//! `recorded = handed_on + unlogged + unwanted + dropped + in_hand`; `in_hand` is on its way to the
//! collector.

#![forbid(unsafe_code)]

mod clickhouse;
pub mod client_name;
mod collect;
pub mod decision;
pub mod ledger;
mod outbox;
mod privacy;
mod spool;
mod tap;
#[cfg(test)]
mod tests;
pub mod writer;

pub use collect::{CHANNEL, Collector};
pub use privacy::ClientPrivacy;
#[cfg(fuzzing)]
pub use spool::Spool;
pub use tap::Taps;

use arc_swap::ArcSwap;
use client_name::ClientNaming;
use decision::Decisions;
use ledger::Ledger;
use parking_lot::Mutex;
use ringdns_common::counters;
use ringdns_config as config;
use ringdns_config::{Config, Problem, secrets};
use ringdns_dataplane::{
    clock::Clock,
    dns::query::Query,
    group::{ClientGroups, Group, GroupSet},
    labels::Labels,
    log::{Batch, Line, LogConfig, Logged, Picks, Sieve},
};
pub use ringdns_segment::show;
use ringdns_segment::{Row, row};
use std::{net::Ipv6Addr, sync::Arc};

/// Most rows of TCP that wait to be collected.
const TCP_ROWS: usize = 8192;

counters! {
    /// Counters of the query log. Workers count the answers that they record, exclude and drop themselves.
    LogCounters {
        /// Answers over TCP recorded in the query log, including those dropped at once.
        tcp_recorded,
        /// Answers over TCP not recorded in the query log because their client or name is excluded.
        tcp_excluded,
        /// Query log records of answers over TCP dropped because too many waited to be collected.
        tcp_full,
        /// Query log records collected from workers and from TCP.
        collected,
        /// Query log records handed on to the writer.
        handed_on,
        /// Query log records dropped because the writer did not keep up.
        writer_full,
        /// Query log records discarded because the group of their client is not logged.
        unlogged,
        /// Query log records discarded because there is no writer; taps may have shown them.
        unwanted,
        /// Query log rows sent to taps, counted once for each tap.
        tapped,
        /// Query log rows that a tap missed because it did not keep up.
        tap_full,
    }
}

/// The query log of a process.
pub struct QueryLog {
    sieve: Arc<Sieve>,
    privacy: ClientPrivacy,
    /// Number of batches of each worker.
    batches: usize,
    /// Number of answers that each row stands for.
    sample: u32,
    labels: LogLabels,
    groups: ArcSwap<LogGroups>,
    clock: Clock,
    tcp: Mutex<Tcp>,
    /// Open taps.
    pub taps: Taps,
    /// Counts of the rows that were handed on, by their place.
    pub ledger: Arc<Ledger>,
    /// Counters of the collector and of TCP.
    pub counters: LogCounters,
}

/// Labels of numbers in records.
#[derive(Clone, Default)]
pub struct LogLabels {
    /// Labels of upstreams.
    pub upstreams: Arc<Labels>,
    /// Names of lists.
    pub lists: Arc<Labels>,
    /// Source of the names of clients; `None`: rows have none.
    pub clients: Option<Arc<dyn ClientNaming>>,
    /// Source of the rules that block; `None`: rows have none.
    pub decisions: Option<Arc<dyn Decisions>>,
}

/// Groups of clients, for rows to name.
#[derive(Clone, Debug)]
pub struct LogGroups {
    /// Groups by address.
    pub clients: ClientGroups,
    /// Names of the groups by number.
    pub names: Vec<Arc<str>>,
    /// Groups whose queries have no rows.
    pub unlogged: GroupSet,
}

impl Default for LogGroups {
    /// Returns groups without names, all of which are logged.
    fn default() -> Self {
        LogGroups { clients: ClientGroups::default(), names: Vec::new(), unlogged: GroupSet::NONE }
    }
}

impl LogGroups {
    /// Returns the group of a client.
    pub fn of(&self, client: Ipv6Addr) -> Group {
        self.clients.of(client.to_canonical())
    }
}

/// Checks the part of a configuration that [`QueryLog::new`] takes.
pub fn check(log: &config::QueryLogConfig) -> Result<(), Problem> {
    if log.enabled { choice(log).map(drop) } else { Ok(()) }
}

/// Returns which answers a configuration logs, and what of their clients.
pub fn choice(log: &config::QueryLogConfig) -> Result<(Sieve, ClientPrivacy), Problem> {
    let sieve = Sieve::new(log.sample, &log.exclude_clients, &log.exclude_names).map_err(|error| {
        let remedy = "Join neighbouring prefixes";
        Problem::new("query_log.exclude_clients", error.to_string(), remedy)
    })?;
    let privacy = match &log.privacy {
        config::Privacy::None => ClientPrivacy::None,
        config::Privacy::Truncate => ClientPrivacy::Truncate,
        config::Privacy::Hash => ClientPrivacy::hash(&match &log.key_file {
            Some(path) => secrets::secrets_of("query_log.key_file", path)?.0,
            None => rand::random(),
        }),
    };
    Ok((sieve, privacy))
}

/// Records of the TCP listener.
struct Tcp {
    picks: Picks,
    rows: Vec<Row>,
}

impl QueryLog {
    /// Returns the log that a configuration asks for; `None` if it asks for none.
    pub fn new(config: &Config, clock: Clock, labels: LogLabels) -> Result<Option<Arc<Self>>, Problem> {
        let log = &config.query_log;
        if !log.enabled {
            return Ok(None);
        }
        let (sieve, privacy) = choice(log)?;
        let tcp = Tcp { picks: sieve.picks(rand::random()), rows: Vec::new() };
        Ok(Some(Arc::new(QueryLog {
            sieve: Arc::new(sieve),
            privacy,
            batches: usize::try_from(log.bytes_per_worker).unwrap_or(usize::MAX) / Batch::BYTES,
            sample: log.sample,
            labels,
            groups: ArcSwap::default(),
            clock,
            tcp: Mutex::new(tcp),
            taps: Taps::default(),
            ledger: Arc::default(),
            counters: LogCounters::default(),
        })))
    }

    /// Returns the logging setup of one more worker.
    pub fn setup(&self) -> LogConfig {
        let line = Arc::new(Line::new(self.batches));
        LogConfig { line, sieve: self.sieve.clone(), seed: rand::random() }
    }

    /// Source of the names of clients, if rows have them.
    pub fn client_names(&self) -> Option<&dyn ClientNaming> {
        self.labels.clients.as_deref()
    }

    /// Replaces the groups of clients that rows name.
    pub fn set_groups(&self, groups: LogGroups) {
        self.groups.store(Arc::new(groups));
    }

    /// Records an answer over TCP to `query`.
    pub fn note_tcp(&self, query: &Query, answered: Logged<'_>) {
        // A query without a question leaves a stale key.
        let question = if query.question_len() > 0 { query.key.question() } else { &[] };
        let mut tcp = self.tcp.lock();
        if !tcp.picks.take() {
            return;
        }
        if self.sieve.excludes(&answered.client.octets(), question) {
            return self.counters.tcp_excluded.inc();
        }
        self.counters.tcp_recorded.inc();
        if tcp.rows.len() >= TCP_ROWS {
            return self.counters.tcp_full.inc();
        }
        match self.row(&Logged { question, ..answered }, self.clock.epoch_millis()) {
            Some(row) => tcp.rows.push(row),
            None => self.counters.unlogged.inc(),
        }
    }

    /// Converts a record into a row. `epoch_ms`: start of the clock, in Unix milliseconds. `None`: the
    /// client's group is not logged.
    fn row(&self, logged: &Logged<'_>, epoch_ms: i64) -> Option<Row> {
        let groups = self.groups.load();
        let group = groups.of(logged.client);
        if groups.unlogged.has(group) {
            return None;
        }
        let (name, [t1, t0, c1, c0]) = logged.question.split_last_chunk().unwrap_or((&[], &[0; 4]));
        let upstream = logged.source.upstream.and_then(|number| self.labels.upstreams.get(number)).cloned();
        let list = logged.source.list.and_then(|number| self.labels.lists.get(number)).cloned();
        let qtype = u16::from_be_bytes([*t1, *t0]);
        let decision = list.as_ref().and_then(|list| {
            let decision = self.labels.decisions.as_ref()?.decide(name, qtype, group)?;
            (*decision.list == **list).then_some(decision)
        });
        let (rule, ede) =
            decision.map_or((None, None), |decision| (Some(decision.rule.into()), decision.ede));
        Some(Row {
            time_ms: epoch_ms + (logged.at / 1_000_000) as i64,
            client: self.privacy.kept(logged.client),
            name: row::RowName::from_slice(name),
            qtype,
            qclass: u16::from_be_bytes([*c1, *c0]),
            protocol: logged.protocol,
            outcome: logged.outcome,
            tier: logged.source.tier,
            rcode: logged.rcode,
            answer_bytes: logged.answer_bytes,
            service_ns: logged.service_ns,
            upstream,
            upstream_us: logged.source.upstream_us,
            list,
            client_group: groups.names.get(group.number()).cloned(),
            client_name: self.labels.clients.as_ref().and_then(|names| names.name_of(logged.client)),
            rule,
            ede,
            sample: self.sample,
        })
    }
}
