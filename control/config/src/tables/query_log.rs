//! `[query_log]`: log of answers, and its directory.

use super::clickhouse::{ClickHouseConfig, RawClickhouse};
use crate::{
    bounds::within,
    error::Problem,
    lists::{prefixes, zones},
    table::table,
    values::choice,
};
use ringdns_common::units::{Bytes, TimeSpan};
use ringdns_dataplane::{log::Batch, prefix::Prefix};
use std::{path::PathBuf, time::Duration};

/// Smallest memory of a worker: two batches, one that fills while the other is sent.
const MEMORY_MIN: Bytes = Bytes(2 * Batch::BYTES as u64);
/// Largest memory of a worker. More would never be written to.
const MEMORY_MAX: Bytes = Bytes(1 << 30);
/// Most rows of one batch. ClickHouse would split more rows into several blocks, and could store
/// them in part.
const BATCH_ROWS_MAX: u32 = 500_000;
/// Fewest and most bytes of one batch. More would not be small to a host with little memory.
const BATCH_BYTES: [Bytes; 2] = [Bytes(64 << 10), Bytes(32 << 20)];
/// Smallest useful spool.
const SPOOL_MIN: Bytes = Bytes(1 << 20);

table! {
    /// Log of answers: time, client, transport, question, outcome, source of the answer, size, and
    /// time taken. `ringctl tap` shows it live. Logging never slows cache hits: rows that cannot be
    /// written in time are dropped and counted (`query_log` in `ringctl stats`).
    "[query_log]" RawQueryLog {
        /// Whether answers are logged.
        enabled: bool = false,
        /// Sampling rate: one answer in this many is logged, chosen at random. 1: every answer.
        sample: u32 = 1,
        /// Prefixes and single addresses of clients whose answers are not logged: `["10.0.0.0/8", "fd53::1"]`.
        exclude_clients: Vec<String> = Vec::new(),
        /// Names at and below which nothing is logged: `["corp.example", "10.in-addr.arpa"]`.
        exclude_names: Vec<String> = Vec::new(),
        /// Part of clients' addresses that is kept: `"none"` hides nothing; `"truncate"` keeps the
        /// network, 24 bits of IPv4 and 56 of IPv6; `"hash"` replaces the address with a number
        /// below `100::/64` that is always the same for one client and cannot be reversed without
        /// the key.
        privacy: Privacy = Privacy::None,
        /// File with the key of the hash, 32 hexadecimal digits, so that clients keep their numbers
        /// across restarts and hosts. Absent: a random key at every start.
        key_file: Option<String> = None,
        /// Memory of each worker for rows that are not yet written. 8 MiB hold 70,000 rows; rows
        /// that arrive when it is full are dropped.
        bytes_per_worker: Bytes = Bytes(8 << 20),
        /// Directory of the log. It keeps the rows that ClickHouse has not taken, or has not yet
        /// taken; without `[clickhouse]`, all rows. `ringctl log` reads it. Absent: nothing is
        /// written. See docs/query-log.md.
        spool_dir: Option<String> = None,
        /// Most disk space that the directory may use. When it is full, the oldest rows are
        /// dropped.
        spool_bytes: Bytes = Bytes(1 << 30),
        /// Most rows written or sent as one batch, at most 500,000.
        batch_rows: u32 = 100_000,
        /// Most bytes of one batch before compression, from `"64KiB"` to `"32MiB"`.
        batch_bytes: Bytes = Bytes(16 << 20),
        /// Time that a row waits for its batch to fill. Rows that wait are lost in a crash.
        batch_interval: TimeSpan = TimeSpan::secs(5),
        /// Name of this appliance in its rows, among all appliances that log to the same place.
        /// Absent: the host name.
        appliance: Option<String> = None,
    }
}

choice! {
    /// Part of clients' addresses that the query log keeps.
    Privacy {
        /// The whole address.
        #[default]
        None = "none",
        /// The network of the address.
        Truncate = "truncate",
        /// A keyed hash of the address.
        Hash = "hash",
    }
}

/// Log of answers.
#[derive(Clone, Debug)]
pub struct QueryLogConfig {
    /// Whether answers are logged.
    pub enabled: bool,
    /// Sampling rate: one answer in this many is logged.
    pub sample: u32,
    /// Clients whose answers are not logged.
    pub exclude_clients: Vec<Prefix>,
    /// Names on the wire, lowercased, at and below which nothing is logged.
    pub exclude_names: Vec<Vec<u8>>,
    /// Part of clients' addresses that is kept.
    pub privacy: Privacy,
    /// File with the key that addresses are hashed with; `None`: a random key.
    pub key_file: Option<PathBuf>,
    /// Memory of each worker for rows that are not yet written, in bytes.
    pub bytes_per_worker: u64,
}

/// Destination of the query log.
#[derive(Clone, Debug)]
pub struct ShippingConfig {
    /// Name of this appliance in its rows.
    pub appliance: String,
    /// Directory of rows that are not stored elsewhere.
    pub spool_dir: PathBuf,
    /// Most bytes that the directory may use.
    pub spool_bytes: u64,
    /// Most rows of a segment.
    pub batch_rows: u32,
    /// Most bytes of a segment before compression.
    pub batch_bytes: usize,
    /// Time that a segment's first row waits for others.
    pub batch_interval: Duration,
    /// Server that segments are sent to; `None`: rows stay in the spool.
    pub clickhouse: Option<ClickHouseConfig>,
}

impl RawQueryLog {
    /// Returns the checked values, without those of the destination.
    pub fn check(self) -> Result<QueryLogConfig, Problem> {
        if self.sample == 0 {
            let remedy = "Give 1 to log every answer, 100 for one in a hundred; to log none, query_log.enabled = false";
            return Err(Problem::new("query_log.sample", "one answer in 0 is none", remedy));
        }
        if !(MEMORY_MIN..=MEMORY_MAX).contains(&self.bytes_per_worker) {
            let reason = format!("{} is not possible", self.bytes_per_worker);
            let remedy = format!("Give {MEMORY_MIN} to {MEMORY_MAX}; \"8MiB\" is usual");
            return Err(Problem::new("query_log.bytes_per_worker", reason, remedy));
        }
        if self.key_file.is_some() && self.privacy != Privacy::Hash {
            let reason = "no addresses are hashed, so the key is not used";
            let remedy = "Set query_log.privacy = \"hash\", or remove the key";
            return Err(Problem::new("query_log.key_file", reason, remedy));
        }
        Ok(QueryLogConfig {
            enabled: self.enabled,
            sample: self.sample,
            exclude_clients: prefixes("query_log.exclude_clients", &self.exclude_clients)?,
            exclude_names: zones("query_log.exclude_names", &self.exclude_names)?,
            privacy: self.privacy,
            key_file: self.key_file.map(Into::into),
            bytes_per_worker: self.bytes_per_worker.0,
        })
    }

    /// Returns the destination's checked values; `None` if there is none.
    pub fn shipping(&self, clickhouse: RawClickhouse) -> Result<Option<ShippingConfig>, Problem> {
        let clickhouse = clickhouse.check()?;
        // Wrong values are refused even where they are not used.
        let batch_interval = self.batches()?;
        let Some(spool_dir) = &self.spool_dir else {
            if clickhouse.is_some() {
                let remedy = "Give a directory, such as spool_dir = \"/var/lib/ringdns/query-log\"";
                let reason =
                    "clickhouse.url is set, and there is no directory for rows that ClickHouse does not take";
                return Err(Problem::new("query_log.spool_dir", reason, remedy));
            }
            return Ok(None);
        };
        if clickhouse.is_some() && !self.enabled {
            let reason = "query_log.enabled is false, so there are no rows to store";
            let remedy = "Set query_log.enabled = true, or remove [clickhouse]";
            return Err(Problem::new("clickhouse.url", reason, remedy));
        }
        if spool_dir.is_empty() {
            let remedy = "Name a directory, or remove the key";
            return Err(Problem::new("query_log.spool_dir", "the path is empty", remedy));
        }
        Ok(Some(ShippingConfig {
            appliance: appliance(self.appliance.clone())?,
            spool_dir: spool_dir.into(),
            spool_bytes: self.spool_bytes.0,
            batch_rows: self.batch_rows,
            batch_bytes: usize::try_from(self.batch_bytes.0).unwrap_or(usize::MAX),
            batch_interval,
            clickhouse,
        }))
    }

    /// Checks the sizes of the spool and of its batches, and returns the time that a batch fills.
    fn batches(&self) -> Result<Duration, Problem> {
        if self.spool_bytes < SPOOL_MIN {
            let reason = format!("{} is too little for a spool", self.spool_bytes);
            let remedy = format!("Give at least \"{SPOOL_MIN}\"");
            return Err(Problem::new("query_log.spool_bytes", reason, remedy));
        }
        if self.batch_rows == 0 || self.batch_rows > BATCH_ROWS_MAX {
            let reason = format!("{} rows are not possible", self.batch_rows);
            let remedy = format!("Give 1 to {BATCH_ROWS_MAX}");
            return Err(Problem::new("query_log.batch_rows", reason, remedy));
        }
        let [least, most] = BATCH_BYTES;
        if self.batch_bytes < least || self.batch_bytes > most {
            let reason = format!("{} is not possible", self.batch_bytes);
            let remedy = format!("Give \"{least}\" to \"{most}\"");
            return Err(Problem::new("query_log.batch_bytes", reason, remedy));
        }
        let limits = [TimeSpan::millis(100), TimeSpan::secs(3_600)];
        within("query_log.batch_interval", self.batch_interval, limits, "Give \"100ms\" to \"1h\"")
    }
}

/// Returns the name of this host.
pub(super) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Checks the appliance's name. The default is the host name.
fn appliance(name: Option<String>) -> Result<String, Problem> {
    let name = name.unwrap_or_else(host_name);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if name.is_empty() || name.len() > 255 || !name.bytes().all(plain) {
        let remedy = "Give up to 255 letters, digits, hyphens, dots and underscores";
        return Err(Problem::new("query_log.appliance", format!("{name:?} is no name"), remedy));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MINIMAL, minimal_with, refused};

    #[test]
    fn rows_are_stored_only_with_a_directory() {
        assert!(minimal_with("[query_log]\nenabled = true").shipping.is_none());
        let alone = minimal_with("[query_log]\nspool_dir = \"a\"\nappliance = \"b-1\"").shipping.unwrap();
        assert!(alone.clickhouse.is_none());
        assert_eq!((&*alone.appliance, alone.batch_rows), ("b-1", 100_000));
    }

    #[test]
    fn the_key_of_the_hash_needs_the_hash() {
        let log = minimal_with("[query_log]\nprivacy = \"hash\"\nkey_file = \"a\"").query_log;
        assert_eq!((log.privacy, log.key_file), (Privacy::Hash, Some("a".into())));
        let case = ["key_file = \"a\"", "6", "query_log.key_file", "not used", "hash"];
        refused(&format!("{MINIMAL}[query_log]\n"), &[case]);
    }

    #[test]
    fn wrong_values_are_refused() {
        refused(
            &format!("{MINIMAL}[query_log]\n"),
            &[
                ["sample = 0", "6", "query_log.sample", "in 0 is none", "enabled = false"],
                ["bytes_per_worker = 1", "6", "query_log.bytes_per_worker", "1B is not", "8MiB"],
                ["exclude_clients = [\"a\"]", "6", "query_log.exclude_clients[0]", "neither", "Write"],
                ["exclude_names = [\"a..b\"]", "6", "query_log.exclude_names[0]", "a..b", "Write"],
                ["privacy = \"all\"", "6", "query_log.privacy", "all", "Correct the value"],
                ["spool_bytes = 1", "6", "query_log.spool_bytes", "too little", "1MiB"],
                ["spool_dir = \"\"", "6", "query_log.spool_dir", "empty", "directory"],
                ["batch_rows = 600000", "6", "query_log.batch_rows", "not possible", "500000"],
                ["batch_bytes = 1", "6", "query_log.batch_bytes", "not possible", "64KiB"],
                ["batch_interval = \"2h\"", "6", "query_log.batch_interval", "too long", "1h"],
                [
                    "spool_dir = \"a\"\nappliance = \"it's me\"",
                    "7",
                    "query_log.appliance",
                    "no name",
                    "letters",
                ],
            ],
        );
    }
}
