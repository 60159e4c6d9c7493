//! The tables: creates missing tables, adds missing columns, and refuses columns of another type.
//!
//! If the server has everything, only SELECT statements are sent, so a user without the right to
//! create tables suffices once somebody else has created them. Two kinds of servers are
//! distinguished by version: those with `DateTime64`, table TTL and deduplication tokens, and older
//! ones (Debian 12 has ClickHouse 18.16) without them.

use super::http::{Failure, Http};
use ringdns_segment::rowbinary::{COLUMNS, ColumnKind};
use std::collections::HashMap;

/// Name of the table that rows are inserted into.
pub const QUERIES: &str = "queries";
/// Most rows that the server puts into one block while it reads an INSERT: its own default, set
/// explicitly in case a profile differs.
pub const BLOCK_ROWS: &str = "1048576";
/// First version that supports `insert_deduplication_token`.
const MODERN: [u64; 2] = [22, 2];
/// Number of recent insertions that a table remembers for deduplication.
const REMEMBERED: u32 = 10_000;

/// Names and retention of the tables.
#[derive(Clone, Debug)]
pub struct Schema {
    /// Database of the tables.
    pub database: String,
    /// Days that rows are kept.
    pub retention_days: u32,
}

/// Capabilities of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Whether it has the types and settings of `MODERN` versions.
    pub modern: bool,
    /// Whether a repeated insertion is recognised by its token.
    pub deduplicates: bool,
}

/// A table that a materialised view fills from `queries`.
struct Summary {
    name: &'static str,
    columns: &'static str,
    /// Engine: sums columns, or merges states of aggregate functions.
    engine: &'static str,
    /// Time column, first in the order.
    time: &'static str,
    order: &'static str,
    select: &'static str,
}

const SUMMARIES: [Summary; 3] = [
    Summary {
        name: "queries_per_minute",
        columns: "minute DateTime('UTC'), appliance String, protocol String, outcome String, rcode String, queries UInt64, \
                  bytes UInt64",
        engine: "SummingMergeTree",
        time: "minute",
        order: "minute, appliance, protocol, outcome, rcode",
        select: "SELECT toStartOfMinute(time) AS minute, appliance, protocol, outcome, rcode, sum(sample) AS queries, \
                 sum(answer_bytes * sample) AS bytes FROM {} GROUP BY minute, appliance, protocol, outcome, rcode",
    },
    Summary {
        name: "names_per_hour",
        columns: "hour DateTime('UTC'), name String, type String, appliance String, queries UInt64, misses UInt64",
        engine: "SummingMergeTree",
        time: "hour",
        order: "hour, name, type, appliance",
        select: "SELECT toStartOfHour(time) AS hour, name, type, appliance, sum(sample) AS queries, \
                 sumIf(sample, outcome = 'miss') AS misses FROM {} GROUP BY hour, name, type, appliance",
    },
    Summary {
        name: "latency_per_minute",
        columns: "minute DateTime('UTC'), appliance String, outcome String, \
                  service AggregateFunction(quantilesTDigest(0.5, 0.9, 0.99, 0.999), UInt32)",
        engine: "AggregatingMergeTree",
        time: "minute",
        order: "minute, appliance, outcome",
        select: "SELECT toStartOfMinute(time) AS minute, appliance, outcome, \
                 quantilesTDigestState(0.5, 0.9, 0.99, 0.999)(service_ns) AS service FROM {} \
                 GROUP BY minute, appliance, outcome",
    },
];

impl Schema {
    /// Returns a table's name with its database.
    pub fn table(&self, name: &str) -> String {
        format!("`{}`.`{name}`", self.database)
    }

    /// Creates or completes all tables, and returns the server's capabilities.
    pub async fn prepare(&self, http: &Http) -> Result<Server, Failure> {
        let version = http.query("SELECT version()").await?;
        let modern = is_modern(&version)
            .ok_or_else(|| Failure::Schema(format!("{:?} is not a version of ClickHouse", version.trim())))?;
        let mut tables = self.tables(http).await?;
        if !tables.contains_key(QUERIES) {
            http.query(&format!("CREATE DATABASE IF NOT EXISTS `{}`", self.database)).await?;
            http.query(&self.create_queries(modern)).await?;
        }
        self.check_columns(http, modern).await?;
        for summary in &SUMMARIES {
            if !tables.contains_key(summary.name) {
                http.query(&self.create_summary(summary, modern)).await?;
            }
            let view = format!("{}_view", summary.name);
            if !tables.contains_key(view.as_str()) {
                let select = summary.select.replace("{}", &self.table(QUERIES));
                let [view, to] = [&view, summary.name].map(|name| self.table(name));
                http.query(&format!("CREATE MATERIALIZED VIEW IF NOT EXISTS {view} TO {to} AS {select}"))
                    .await?;
            }
        }
        if modern {
            self.keep_retention(http, &tables).await?;
            tables = self.tables(http).await?;
        } else {
            self.retire(http).await?;
        }
        let engine = tables.get(QUERIES).map(String::as_str).unwrap_or_default();
        let deduplicates = modern
            && (engine.starts_with("Replicated")
                || engine.starts_with("Shared")
                || engine.contains("non_replicated_deduplication_window"));
        Ok(Server { modern, deduplicates })
    }

    /// Returns the existing tables and their engines, with all settings where the server shows
    /// them.
    async fn tables(&self, http: &Http) -> Result<HashMap<String, String>, Failure> {
        let database = quoted(&self.database);
        // ClickHouse 18.16 has this column too; it is empty for views.
        let query = format!("SELECT name, engine_full FROM system.tables WHERE database = {database}");
        let answer = http.query(&query).await?;
        let pair = |line: &str| {
            let (name, engine) = line.split_once('\t')?;
            Some((name.to_owned(), engine.to_owned()))
        };
        Ok(answer.lines().filter_map(pair).collect())
    }

    fn create_queries(&self, modern: bool) -> String {
        let server = Server { modern, deduplicates: false };
        let mut columns = COLUMNS.map(|column| column_definition(&column, server)).to_vec();
        columns.insert(
            1,
            match modern {
                true => "time_ms Int64 ALIAS toUnixTimestamp64Milli(time)".into(),
                false => "time DateTime('UTC') DEFAULT toDateTime(intDiv(time_ms, 1000))".into(),
            },
        );
        let columns = columns.join(", ");
        let table = self.table(QUERIES);
        let rest = self.rest("time", modern);
        format!(
            "CREATE TABLE IF NOT EXISTS {table} ({columns}) ENGINE = MergeTree {}",
            rest("appliance, time")
        )
    }

    fn create_summary(&self, summary: &Summary, modern: bool) -> String {
        let Summary { name, columns, engine, time, order, .. } = summary;
        let rest = self.rest(time, modern);
        format!(
            "CREATE TABLE IF NOT EXISTS {} ({columns}) ENGINE = {engine} {}",
            self.table(name),
            rest(order)
        )
    }

    /// Returns the partitions, the order and the retention.
    fn rest(&self, time: &str, modern: bool) -> impl Fn(&str) -> String {
        let ttl = if modern { format!(" {}", self.ttl(time)) } else { String::new() };
        let settings = match modern {
            true => format!(
                " SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = {REMEMBERED}"
            ),
            false => String::new(),
        };
        let time = time.to_owned();
        move |order| format!("PARTITION BY toYYYYMMDD({time}) ORDER BY ({order}){ttl}{settings}")
    }

    fn ttl(&self, time: &str) -> String {
        format!("TTL toDateTime({time}) + toIntervalDay({})", self.retention_days)
    }

    /// Adds missing columns, and refuses columns of a type that would store other values than those
    /// sent.
    async fn check_columns(&self, http: &Http, modern: bool) -> Result<(), Failure> {
        let server = Server { modern, deduplicates: false };
        let query = format!(
            "SELECT name, type FROM system.columns WHERE database = {} AND table = '{QUERIES}'",
            quoted(&self.database)
        );
        let answer = http.query(&query).await?;
        let types: HashMap<_, _> = answer.lines().filter_map(|line| line.split_once('\t')).collect();
        for column in &COLUMNS {
            let name = column_name(column, server);
            let Some(found) = types.get(name) else {
                let definition = column_definition(column, server);
                http.query(&format!("ALTER TABLE {} ADD COLUMN {definition}", self.table(QUERIES))).await?;
                continue;
            };
            // Quotes are escaped in tab-separated values.
            let found = found.replace('\\', "");
            if !fits(column.1, &found) {
                let table = self.table(QUERIES);
                return Err(Failure::Schema(format!(
                    "column {name} of {table} is {found}. Change it back, or rename the table, and ringdns creates a new one"
                )));
            }
        }
        Ok(())
    }

    /// Changes the TTL of tables that were created with another retention.
    async fn keep_retention(&self, http: &Http, tables: &HashMap<String, String>) -> Result<(), Failure> {
        let times = SUMMARIES.iter().map(|summary| (summary.name, summary.time));
        let days = format!("toIntervalDay({})", self.retention_days);
        for (name, time) in times.chain([(QUERIES, "time")]) {
            if tables.get(name).is_some_and(|engine| engine.contains(" TTL ") && !engine.contains(&days)) {
                http.query(&format!("ALTER TABLE {} MODIFY {}", self.table(name), self.ttl(time))).await?;
            }
        }
        Ok(())
    }

    /// Drops expired days of tables without TTL.
    async fn retire(&self, http: &Http) -> Result<(), Failure> {
        let names = SUMMARIES.iter().map(|summary| summary.name).chain([QUERIES]);
        for name in names {
            let query = format!(
                "SELECT DISTINCT partition FROM system.parts WHERE database = {} AND table = '{name}' AND active \
                 AND toUInt32OrZero(partition) BETWEEN 19700101 AND toYYYYMMDD(today() - {})",
                quoted(&self.database),
                u64::from(self.retention_days) + 1,
            );
            for day in http.query(&query).await?.lines().filter(|day| day.bytes().all(|b| b.is_ascii_digit()))
            {
                http.query(&format!("ALTER TABLE {} DROP PARTITION {day}", self.table(name))).await?;
            }
        }
        Ok(())
    }
}

/// Returns a column's name on a server: without `DateTime64`, milliseconds are a number, and `time`
/// is derived from it.
pub fn column_name(&(name, kind): &(&'static str, ColumnKind), server: Server) -> &'static str {
    match kind {
        ColumnKind::Millis if !server.modern => "time_ms",
        _ => name,
    }
}

fn column_definition(column: &(&'static str, ColumnKind), server: Server) -> String {
    let kind = match (column.1, server.modern) {
        (ColumnKind::Millis, true) => "DateTime64(3, 'UTC')",
        (ColumnKind::Millis, false) => "Int64",
        (ColumnKind::Address, true) => "IPv6",
        (ColumnKind::Address, false) => "FixedString(16)",
        (ColumnKind::Text, true) if !matches!(column.0, "name" | "rule") => "LowCardinality(String)",
        (ColumnKind::Text, _) => "String",
        (ColumnKind::U16, _) => "UInt16",
        (ColumnKind::U32, _) => "UInt32",
        (ColumnKind::U64, _) => "UInt64",
    };
    // Rows older than this column were not sampled.
    let kind = if column.0 == "sample" { format!("{kind} DEFAULT 1") } else { kind.to_owned() };
    format!("{} {kind}", column_name(column, server))
}

/// Whether a column of type `found` stores values of this kind unchanged.
fn fits(kind: ColumnKind, found: &str) -> bool {
    match kind {
        ColumnKind::Millis => found == "Int64" || found.starts_with("DateTime64(3"),
        ColumnKind::Address => matches!(found, "IPv6" | "FixedString(16)"),
        ColumnKind::Text => matches!(found, "String" | "LowCardinality(String)"),
        ColumnKind::U16 => found == "UInt16",
        ColumnKind::U32 => found == "UInt32",
        ColumnKind::U64 => found == "UInt64",
    }
}

/// Whether a version is at least `MODERN`; `None` if it cannot be parsed.
fn is_modern(version: &str) -> Option<bool> {
    let mut parts = version.trim().split('.').map(|part| part.parse::<u64>().ok());
    Some([parts.next()??, parts.next()??] >= MODERN)
}

/// Returns a string as an SQL literal.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
