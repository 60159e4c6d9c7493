//! The tables: made where they are missing, completed where a column is, and never used where one is of another type.
//!
//! Nothing is asked of a server that has all of it but to show it, so that a user without the right to create tables will do once
//! somebody else has made them. Two kinds of servers are told apart by their version: those with `DateTime64`, table TTL and
//! deduplication tokens, and those before (ClickHouse 18.16 is Debian 12's), which have less of everything.

use super::http::{Failure, Http};
use ringdns_segment::rowbinary::{COLUMNS, Kind};
use std::collections::HashMap;

/// The table that rows go to.
pub const QUERIES: &str = "queries";
/// Rows that a server makes one block of, as it reads them: its own default, said in case a profile says otherwise.
pub const BLOCK_ROWS: &str = "1048576";
/// The version from which on `insert_deduplication_token` is known.
const MODERN: [u64; 2] = [22, 2];
/// How many insertions a table remembers, to know one that comes again.
const REMEMBERED: u32 = 10_000;

/// Names of the tables.
#[derive(Clone, Debug)]
pub struct Schema {
    /// The database that they are in.
    pub database: String,
    /// Rows are kept so many days.
    pub retention_days: u32,
}

/// What a server can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Whether it has the types and settings of today.
    pub modern: bool,
    /// Whether an insertion that comes again is known by its token.
    pub deduplicates: bool,
}

/// A table that is filled from `queries` as rows come in.
struct Summary {
    name: &'static str,
    columns: &'static str,
    /// What is summed; none: states of aggregate functions.
    engine: &'static str,
    /// The column of its time, first in the order.
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
    /// A table's name with its database.
    pub fn table(&self, name: &str) -> String {
        format!("`{}`.`{name}`", self.database)
    }

    /// Sees that everything is there, and says what the server can do.
    pub async fn prepare(&self, http: &Http) -> Result<Server, Failure> {
        let version = http.query("SELECT version()").await?;
        let modern = is_modern(&version)
            .ok_or_else(|| Failure::Schema(format!("{:?} is no version of ClickHouse", version.trim())))?;
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

    /// The tables that there are, and their engines with all settings where the server shows them.
    async fn tables(&self, http: &Http) -> Result<HashMap<String, String>, Failure> {
        let database = quoted(&self.database);
        // 18.16 has the column since long, and it is empty for views.
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

    /// Partitions, order, and how long things are kept.
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

    /// Adds columns that are missing, and refuses those that would be filled with something else than what is sent.
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
            // In a list of tab-separated values quotes are escaped.
            let found = found.replace('\\', "");
            if !fits(column.1, &found) {
                let table = self.table(QUERIES);
                return Err(Failure::Schema(format!(
                    "column {name} of {table} is {found}. Change it back, or rename the table and let ringdns make another"
                )));
            }
        }
        Ok(())
    }

    /// Changes the TTL of tables that were made with another.
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

    /// Where tables have no TTL: removes days that are over.
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

/// A column's name on a server: without `DateTime64`, milliseconds are a number, and `time` is made from it.
pub fn column_name(&(name, kind): &(&'static str, Kind), server: Server) -> &'static str {
    match kind {
        Kind::Millis if !server.modern => "time_ms",
        _ => name,
    }
}

fn column_definition(column: &(&'static str, Kind), server: Server) -> String {
    let kind = match (column.1, server.modern) {
        (Kind::Millis, true) => "DateTime64(3, 'UTC')",
        (Kind::Millis, false) => "Int64",
        (Kind::Address, true) => "IPv6",
        (Kind::Address, false) => "FixedString(16)",
        (Kind::Text, true) if !matches!(column.0, "name") => "LowCardinality(String)",
        (Kind::Text, _) => "String",
        (Kind::U16, _) => "UInt16",
        (Kind::U32, _) => "UInt32",
        (Kind::U64, _) => "UInt64",
    };
    // Rows from before the column was there stood for themselves.
    let kind = if column.0 == "sample" { format!("{kind} DEFAULT 1") } else { kind.to_owned() };
    format!("{} {kind}", column_name(column, server))
}

/// Whether a column of this type takes such values as they are sent.
fn fits(kind: Kind, found: &str) -> bool {
    match kind {
        Kind::Millis => found == "Int64" || found.starts_with("DateTime64(3"),
        Kind::Address => matches!(found, "IPv6" | "FixedString(16)"),
        Kind::Text => matches!(found, "String" | "LowCardinality(String)"),
        Kind::U16 => found == "UInt16",
        Kind::U32 => found == "UInt32",
        Kind::U64 => found == "UInt64",
    }
}

/// Whether a version has all that is used of today's servers; `None`: it is no version.
fn is_modern(version: &str) -> Option<bool> {
    let mut parts = version.trim().split('.').map(|part| part.parse::<u64>().ok());
    Some([parts.next()??, parts.next()??] >= MODERN)
}

/// A string as SQL has it.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
