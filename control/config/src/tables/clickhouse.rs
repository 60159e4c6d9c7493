//! `[clickhouse]`: server that stores the query log.

use crate::{bounds::within, error::Problem, table::table};
use http::{Uri, uri::Authority};
use ringdns_common::units::TimeSpan;
use std::{path::PathBuf, time::Duration};

const DAY: u64 = 86_400;

table! {
    /// A ClickHouse server that stores the query log, over its HTTP interface. While it is down,
    /// rows are kept in `query_log.spool_dir`, and sent when it is back. See docs/query-log.md.
    "[clickhouse]" RawClickhouse {
        /// URL of its HTTP interface: `"http://10.53.0.9:8123"`, or
        /// `"https://clickhouse.example:8443"`, without credentials. Absent: off.
        url: Option<String> = None,
        /// Database of the tables. Missing tables are created.
        database: String = "ringdns".into(),
        /// User that inserts rows.
        user: String = "default".into(),
        /// File with the user's password on one line, read for each request. Absent: no password.
        password_file: Option<String> = None,
        /// PEM file with the CA certificates that may vouch for an `https://` server, read for each
        /// request. Absent: the CAs that the system trusts.
        tls_ca_file: Option<String> = None,
        /// Time after which a request counts as failed.
        timeout: TimeSpan = TimeSpan::secs(30),
        /// Time that ClickHouse keeps rows, in whole days.
        retention: TimeSpan = TimeSpan::secs(30 * 86_400),
    }
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

impl ClickHouseConfig {
    /// Returns host and port as written in URLs.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
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

impl RawClickhouse {
    /// Returns the checked values; `None` if there is no server.
    pub fn check(self) -> Result<Option<ClickHouseConfig>, Problem> {
        let timeout = [TimeSpan::secs(1), TimeSpan::secs(600)];
        let timeout = within("clickhouse.timeout", self.timeout, timeout, "Give \"1s\" to \"10m\"")?;
        let retention = [TimeSpan::secs(DAY), TimeSpan::secs(3_650 * DAY)];
        let retention =
            within("clickhouse.retention", self.retention, retention, "Give \"1d\" to \"3650d\"")?;
        let Some(url) = &self.url else {
            return Ok(None);
        };
        let (scheme, authority, path) = parts(url)?;
        if scheme == Scheme::Http && self.tls_ca_file.is_some() {
            let remedy = "Remove the key, or use https://";
            let reason = "there are no certificates over http://";
            return Err(Problem::new("clickhouse.tls_ca_file", reason, remedy));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if self.database.is_empty() || !self.database.bytes().all(plain) {
            let reason = format!("{:?} is no name", self.database);
            let remedy = "Give letters, digits and underscores";
            return Err(Problem::new("clickhouse.database", reason, remedy));
        }
        if self.user.is_empty() || !self.user.bytes().all(|b| b.is_ascii_graphic()) {
            let remedy = "Give printable ASCII without spaces; \"default\" exists unless it was removed";
            return Err(Problem::new("clickhouse.user", format!("{:?} is no name", self.user), remedy));
        }
        Ok(Some(ClickHouseConfig {
            scheme,
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: authority.port_u16().unwrap_or(if scheme == Scheme::Http { 8123 } else { 8443 }),
            path,
            database: self.database,
            user: self.user,
            password_file: self.password_file.map(Into::into),
            tls_ca_file: self.tls_ca_file.map(Into::into),
            timeout,
            retention_days: retention.as_secs().div_ceil(DAY) as u32,
        }))
    }
}

/// Splits the server's URL into scheme, host with port, and path. The URL may contain a password, so
/// errors do not repeat it.
fn parts(url: &str) -> Result<(Scheme, Authority, String), Problem> {
    let uri: Uri = url.parse().map_err(|error| refused(&format!("it is no URL: {error}")))?;
    let authority = uri.authority().cloned().ok_or_else(|| refused("there is no host in it"))?;
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
    Ok((scheme, authority, uri.path().to_owned()))
}

fn refused(reason: &str) -> Problem {
    let remedy = "Write it as \"http://[fd53::9]:8123\" or \"https://clickhouse.example:8443\"";
    Problem::new("clickhouse.url", reason, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MINIMAL, minimal_with, refused};

    const LOG: &str = "[query_log]\nenabled = true\nspool_dir = \"a\"\n[clickhouse]\n";

    fn server(url: &str) -> ClickHouseConfig {
        let config = minimal_with(&format!("{LOG}url = {url:?}\nretention = \"36h\""));
        config.shipping.unwrap().clickhouse.unwrap()
    }

    #[test]
    fn urls_have_default_ports_and_paths() {
        for (url, authority, path, scheme) in [
            ("http://[fd53::9]", "[fd53::9]:8123", "/", Scheme::Http),
            ("https://ch.example/logs/", "ch.example:8443", "/logs/", Scheme::Https),
            ("http://192.0.2.1:80", "192.0.2.1:80", "/", Scheme::Http),
        ] {
            let to = server(url);
            assert_eq!((&*to.authority(), &*to.path, to.scheme), (authority, path, scheme), "{url}");
            assert_eq!((to.retention_days, &*to.database, &*to.user), (2, "ringdns", "default"));
        }
        assert_eq!(server("http://[fd53::9]").host, "fd53::9");
    }

    #[test]
    fn a_server_needs_a_log_and_its_directory() {
        let url = "[clickhouse]\nurl = \"http://ch:8123\"";
        let off = format!("[query_log]\nspool_dir = \"a\"\n{url}");
        refused(
            MINIMAL,
            &[
                [url, "6", "query_log.spool_dir", "no directory", "/var/lib"],
                [&off, "8", "clickhouse.url", "enabled is false", "[clickhouse]"],
            ],
        );
    }

    #[test]
    fn wrong_values_are_refused() {
        let ca = "url = \"http://ch\"\ntls_ca_file = \"a\"";
        refused(
            &format!("{MINIMAL}{LOG}"),
            &[
                ["url = \"http://me:secret@ch:8123\"", "9", "clickhouse.url", "credentials", "password_file"],
                ["url = \"ftp://ch\"", "9", "clickhouse.url", "neither http", "http://["],
                ["url = \"http://ch/?a=b\"", "9", "clickhouse.url", "parameters", "http://["],
                [ca, "10", "clickhouse.tls_ca_file", "no certificates", "https://"],
                [
                    "url = \"http://ch\"\ndatabase = \"a`b\"",
                    "10",
                    "clickhouse.database",
                    "no name",
                    "letters",
                ],
                ["url = \"http://ch\"\nuser = \"a b\"", "10", "clickhouse.user", "no name", "ASCII"],
                ["retention = \"1h\"", "9", "clickhouse.retention", "too short", "1d"],
                ["timeout = \"1h\"", "9", "clickhouse.timeout", "too long", "10m"],
            ],
        );
    }
}
