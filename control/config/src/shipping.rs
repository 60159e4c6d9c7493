//! Checks of the query log's destination: the spool of `[query_log]`, and `[clickhouse]`.

use super::{
    bounds::within,
    error::Problem,
    raw::{RawClickhouse, RawQueryLog},
};
use http::Uri;
use ringdns_common::units::{Bytes, TimeSpan};
use std::{path::PathBuf, time::Duration};

/// Most rows of one batch. ClickHouse would split more rows into several blocks, and could store
/// them in part.
const BATCH_ROWS_MAX: u32 = 500_000;
/// Fewest and most bytes of one batch. More would not be small to a host with little memory.
const BATCH_BYTES: [Bytes; 2] = [Bytes(64 << 10), Bytes(32 << 20)];
/// Smallest useful spool.
const SPOOL_MIN: Bytes = Bytes(1 << 20);
const DAY: u64 = 86_400;

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

/// A ClickHouse server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClickHouseConfig {
    /// Scheme of its URL.
    pub scheme: Scheme,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port of its HTTP interface.
    pub port: u16,
    /// Path of its URL, before the parameters.
    pub path: String,
    /// Database of the tables.
    pub database: String,
    /// User that inserts rows.
    pub user: String,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// File with the trusted CAs; `None`: the system's CAs.
    pub tls_ca_file: Option<PathBuf>,
    /// Time that a request may take.
    pub timeout: Duration,
    /// Days that rows are kept.
    pub retention_days: u32,
}

/// Scheme of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// Returns the scheme as written in URLs.
    pub fn label(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

impl ClickHouseConfig {
    /// Returns host and port as written in URLs.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Checks the destination of the query log; `None` if there is none.
pub fn shipping(log: &RawQueryLog, clickhouse: RawClickhouse) -> Result<Option<ShippingConfig>, Problem> {
    let clickhouse = self::clickhouse(clickhouse)?;
    // Wrong values are refused even where they are not used.
    if log.spool_bytes < SPOOL_MIN {
        let reason = format!("{} is too little for a spool", log.spool_bytes);
        return Err(Problem::new("query_log.spool_bytes", reason, format!("Give at least \"{SPOOL_MIN}\"")));
    }
    if log.batch_rows == 0 || log.batch_rows > BATCH_ROWS_MAX {
        let reason = format!("{} rows are not possible", log.batch_rows);
        return Err(Problem::new("query_log.batch_rows", reason, format!("Give 1 to {BATCH_ROWS_MAX}")));
    }
    let [least, most] = BATCH_BYTES;
    if log.batch_bytes < least || log.batch_bytes > most {
        let reason = format!("{} is not possible", log.batch_bytes);
        return Err(Problem::new("query_log.batch_bytes", reason, format!("Give \"{least}\" to \"{most}\"")));
    }
    let interval = [TimeSpan::millis(100), TimeSpan::secs(3_600)];
    let batch_interval =
        within("query_log.batch_interval", log.batch_interval, interval, "Give \"100ms\" to \"1h\"")?;
    let Some(spool_dir) = &log.spool_dir else {
        if clickhouse.is_some() {
            let remedy = "Give a directory, such as spool_dir = \"/var/lib/ringdns/query-log\"";
            let reason =
                "clickhouse.url is set, and there is no directory for rows that ClickHouse does not take";
            return Err(Problem::new("query_log.spool_dir", reason, remedy));
        }
        return Ok(None);
    };
    if clickhouse.is_some() && !log.enabled {
        let remedy = "Set query_log.enabled = true, or remove [clickhouse]";
        return Err(Problem::new(
            "clickhouse.url",
            "query_log.enabled is false, so there are no rows to store",
            remedy,
        ));
    }
    if spool_dir.is_empty() {
        return Err(Problem::new(
            "query_log.spool_dir",
            "the path is empty",
            "Name a directory, or remove the key",
        ));
    }
    Ok(Some(ShippingConfig {
        appliance: appliance(log.appliance.clone())?,
        spool_dir: spool_dir.into(),
        spool_bytes: log.spool_bytes.0,
        batch_rows: log.batch_rows,
        batch_bytes: usize::try_from(log.batch_bytes.0).unwrap_or(usize::MAX),
        batch_interval,
        clickhouse,
    }))
}

fn appliance(name: Option<String>) -> Result<String, Problem> {
    let name = name.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if name.is_empty() || name.len() > 255 || !name.bytes().all(plain) {
        let remedy = "Give up to 255 letters, digits, hyphens, dots and underscores";
        return Err(Problem::new("query_log.appliance", format!("{name:?} is no name"), remedy));
    }
    Ok(name)
}

fn clickhouse(raw: RawClickhouse) -> Result<Option<ClickHouseConfig>, Problem> {
    let timeout = [TimeSpan::secs(1), TimeSpan::secs(600)];
    let timeout = within("clickhouse.timeout", raw.timeout, timeout, "Give \"1s\" to \"10m\"")?;
    let retention = [TimeSpan::secs(DAY), TimeSpan::secs(3_650 * DAY)];
    let retention = within("clickhouse.retention", raw.retention, retention, "Give \"1d\" to \"3650d\"")?;
    let Some(url) = raw.url else {
        return Ok(None);
    };
    let refused = |reason: &str| {
        let remedy = "Write it as \"http://[fd53::9]:8123\" or \"https://clickhouse.example:8443\"";
        Problem::new("clickhouse.url", reason, remedy)
    };
    // A URL may contain a password, so errors do not repeat it.
    let uri: Uri = url.parse().map_err(|error| refused(&format!("it is no URL: {error}")))?;
    let authority = uri.authority().ok_or_else(|| refused("there is no host in it"))?;
    if authority.as_str().contains('@') {
        let remedy = "Put the name into clickhouse.user and the password into the file that clickhouse.password_file names";
        return Err(Problem::new("clickhouse.url", "there are credentials in it", remedy));
    }
    let scheme = match uri.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => return Err(refused("it is neither http:// nor https://")),
    };
    if uri.query().is_some() {
        return Err(refused("there are parameters in it"));
    }
    if scheme == Scheme::Http && raw.tls_ca_file.is_some() {
        let remedy = "Remove the key, or use https://";
        return Err(Problem::new("clickhouse.tls_ca_file", "there are no certificates over http://", remedy));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if raw.database.is_empty() || !raw.database.bytes().all(plain) {
        let remedy = "Give letters, digits and underscores";
        return Err(Problem::new("clickhouse.database", format!("{:?} is no name", raw.database), remedy));
    }
    if raw.user.is_empty() || !raw.user.bytes().all(|b| b.is_ascii_graphic()) {
        let remedy = "Give printable ASCII without spaces; \"default\" exists unless it was removed";
        return Err(Problem::new("clickhouse.user", format!("{:?} is no name", raw.user), remedy));
    }
    Ok(Some(ClickHouseConfig {
        scheme,
        host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
        port: authority.port_u16().unwrap_or(if scheme == Scheme::Http { 8123 } else { 8443 }),
        path: uri.path().to_owned(),
        database: raw.database,
        user: raw.user,
        password_file: raw.password_file.map(Into::into),
        tls_ca_file: raw.tls_ca_file.map(Into::into),
        timeout,
        retention_days: retention.as_secs().div_ceil(DAY) as u32,
    }))
}
