//! ClickHouse over HTTP: one request at a time, each over a connection of its own.
//!
//! The body of an INSERT is a segment as it is on disk: one compressed block with its checksum,
//! which the server refuses as a whole if it arrives damaged or truncated. It is also one block of
//! one day's rows, which the server stores whole or not at all. So a segment without a confirmation
//! is either stored or not; before it is sent again, the server is asked for the number of its
//! rows.

mod http;
mod schema;

use super::outbox::Parcel;
pub use http::Failure;
use http::{Http, first_line};
use ringdns_config as config;
use ringdns_segment::{rowbinary::COLUMNS, segment::Head};
use schema::{Schema, Server};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Time after a failure before the server is asked which rows it has. A server that stalled may
/// still read an INSERT from its socket buffers within that time.
const SETTLE: Duration = Duration::from_secs(2);
/// Interval at which the tables are checked while all goes well, because an administrator may
/// change them.
const LOOK: Duration = Duration::from_secs(60);

/// A ClickHouse server, and its known properties.
#[derive(Debug)]
pub struct ClickHouse {
    http: Http,
    schema: Schema,
    appliance: String,
    /// `None` until the server was checked, and after each failure.
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    server: Server,
    looked: Instant,
}

/// Result of storing a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Number of the segment's rows in the table.
    pub rows: u32,
    /// Whether the rows were there already.
    pub recognised: bool,
}

impl ClickHouse {
    /// Returns a client that has not connected yet.
    pub fn new(config: config::ClickHouseConfig, appliance: &str) -> Self {
        let schema = Schema { database: config.database.clone(), retention_days: config.retention_days };
        ClickHouse { http: Http::new(config), schema, appliance: appliance.to_owned(), known: None }
    }

    /// Returns the URL without credentials.
    pub fn label(&self) -> &str {
        self.http.label()
    }

    /// Stores a segment, and creates missing tables.
    pub async fn store(&mut self, parcel: &Parcel) -> Result<Stored, Failure> {
        let stored = self.try_store(parcel).await;
        if stored.is_err() {
            // The server may have been upgraded, or its tables dropped.
            self.known = None;
        }
        stored
    }

    async fn try_store(&mut self, parcel: &Parcel) -> Result<Stored, Failure> {
        let head = parcel.segment.head();
        let server = self.look(parcel.maybe_stored).await?;
        let insert_id = format!("ringdns-{}-{}", self.appliance, head.id);
        if parcel.maybe_stored {
            let rows = self.rows_of(&head, &insert_id).await?;
            if rows > 0 {
                return Ok(Stored { rows, recognised: true });
            }
        }
        let names: Vec<_> = COLUMNS.iter().map(|column| schema::column_name(column, server)).collect();
        let table = self.schema.table(schema::QUERIES);
        let insert = format!("INSERT INTO {table} ({}) FORMAT RowBinary", names.join(", "));
        // All rows go in one block: the configuration limits their number to below this size.
        let mut parameters = vec![
            ("query", insert.as_str()),
            ("query_id", insert_id.as_str()),
            ("decompress", "1"),
            ("max_insert_block_size", schema::BLOCK_ROWS),
        ];
        if server.deduplicates {
            parameters.extend([("insert_deduplication_token", insert_id.as_str()), ("async_insert", "0")]);
        }
        let answer = self.http.ask(&parameters, parcel.segment.body()).await?;
        // ClickHouse has nothing to say of an INSERT. A page of a proxy's, or an error that was
        // found while the response was being sent, may have the status 200 too.
        if !answer.trim().is_empty() {
            return Err(Failure::Refused(first_line(&answer)));
        }
        Ok(Stored { rows: head.rows, recognised: false })
    }

    /// Returns the server's properties, after checking and completing its tables.
    async fn look(&mut self, settle: bool) -> Result<Server, Failure> {
        if let Some(known) = &self.known
            && known.looked.elapsed() < LOOK
        {
            return Ok(known.server);
        }
        let fresh = self.known.is_none();
        let server = self.schema.prepare(&self.http).await.map_err(Failure::unsent)?;
        if fresh && settle {
            sleep(SETTLE).await;
        }
        self.known = Some(Known { server, looked: Instant::now() });
        Ok(server)
    }

    /// Returns the number of a segment's rows in the table. Fails while the INSERT is still
    /// running.
    async fn rows_of(&self, head: &Head, insert_id: &str) -> Result<u32, Failure> {
        let running =
            format!("SELECT count() FROM system.processes WHERE query_id = {}", schema::quoted(insert_id));
        if self.http.number(&running).await.map_err(Failure::unsent)? > 0 {
            return Err(Failure::Running);
        }
        // The primary key comes first: the table may hold years of rows.
        let count = format!(
            "SELECT count() FROM {} WHERE appliance = {} AND time >= toDateTime({}) AND time < toDateTime({}) AND segment = {}",
            self.schema.table(schema::QUERIES),
            schema::quoted(&self.appliance),
            head.first_ms.div_euclid(1000),
            head.last_ms.div_euclid(1000) + 1,
            head.id,
        );
        let rows = self.http.number(&count).await.map_err(Failure::unsent)?;
        Ok(u32::try_from(rows).unwrap_or(u32::MAX))
    }
}
