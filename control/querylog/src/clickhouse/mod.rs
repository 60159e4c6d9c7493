//! ClickHouse, over HTTP: one request at a time, each over a connection of its own.
//!
//! What is inserted is a segment as it lies on disk: one compressed block with its checksum, which the server refuses whole if it
//! arrives damaged or cut off, and one block of one day's rows, which it stores whole or not at all. So a segment of which it never
//! said that it was stored, is or is not; before it is sent again, the server is asked how many of its rows there are.

mod http;
mod schema;

use super::outbox::Parcel;
pub use http::Failure;
use http::Http;
use ringdns_config as config;
use ringdns_segment::{rowbinary::COLUMNS, segment::Head};
use schema::{Schema, Server};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// After a failure, what may still lie in the buffers of a server that stood still is given so long to be taken up, before it is asked
/// what it has.
const SETTLE: Duration = Duration::from_secs(2);
/// How often the tables are looked at while all goes well: somebody may change them.
const LOOK: Duration = Duration::from_secs(60);

/// A server, and what is known of it.
#[derive(Debug)]
pub struct ClickHouse {
    http: Http,
    schema: Schema,
    appliance: String,
    /// `None` until it was looked at, and after each failure.
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    server: Server,
    looked: Instant,
}

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// How many of its rows there are.
    pub rows: u32,
    /// Whether they were there already.
    pub recognised: bool,
}

impl ClickHouse {
    /// One that was not asked anything yet.
    pub fn new(config: config::ClickHouse, appliance: &str) -> Self {
        let schema = Schema { database: config.database.clone(), retention_days: config.retention_days };
        ClickHouse { http: Http::new(config), schema, appliance: appliance.to_owned(), known: None }
    }

    /// Its URL, without credentials.
    pub fn label(&self) -> &str {
        self.http.label()
    }

    /// Stores a segment, and makes the tables for it if they are not there.
    pub async fn store(&mut self, parcel: &Parcel) -> Result<Stored, Failure> {
        let stored = self.try_store(parcel).await;
        if stored.is_err() {
            // It may be another version by now, its tables may be gone.
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
        // All its rows in one block: its size is checked against this in the configuration.
        let mut parameters = vec![
            ("query", insert.as_str()),
            ("query_id", insert_id.as_str()),
            ("decompress", "1"),
            ("max_insert_block_size", schema::BLOCK_ROWS),
        ];
        if server.deduplicates {
            parameters.extend([("insert_deduplication_token", insert_id.as_str()), ("async_insert", "0")]);
        }
        self.http.ask(&parameters, parcel.segment.body()).await?;
        Ok(Stored { rows: head.rows, recognised: false })
    }

    /// What the server is, with its tables as they must be.
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

    /// How many rows of a segment there are. Fails while its insertion is still going on.
    async fn rows_of(&self, head: &Head, insert_id: &str) -> Result<u32, Failure> {
        let running =
            format!("SELECT count() FROM system.processes WHERE query_id = {}", schema::quoted(insert_id));
        if self.http.number(&running).await.map_err(Failure::unsent)? > 0 {
            return Err(Failure::Running);
        }
        // By the primary key first: the table may have years of rows.
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
