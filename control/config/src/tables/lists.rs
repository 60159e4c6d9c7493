//! `[lists]`: download of lists, and the copies of them on disk.

use crate::{bounds::within, error::Problem, table::table, values::choice};
use jiff::tz::TimeZone;
use ringdns_common::{
    names,
    units::{Bytes, TimeSpan},
};
use ringdns_dataplane::dns::option::ede;
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use url::{Host, Url};

const DIR: &str = "/var/lib/ringdns/lists";
const OVERRIDES_FILE: &str = "/var/lib/ringdns/overrides.toml";
const TIMEOUT: TimeSpan = TimeSpan::secs(120);
const MAX_BYTES: Bytes = Bytes(256 << 20);
/// Shortest and longest time between two downloads of a list.
const REFRESH: [TimeSpan; 2] = [TimeSpan::secs(60), TimeSpan::secs(30 * 86_400)];
/// Longest URL in bytes (RFC 9110 section 4.1 asks for 8,000 at least).
const URL_MAX: usize = 8_000;

table! {
    /// Download of the lists whose `source` is a URL. Their hosts are resolved by `[[upstream]]`.
    /// See docs/policy.md.
    "[lists]" RawLists {
        /// Directory with the last good copy of each list, which is used at the next start. It is
        /// created if it is missing.
        dir: String = DIR.into(),
        /// Start of ringdnsd: `"fast"` uses the copies in `dir`, and downloads afterwards;
        /// `"blocking"` waits for the download of each list that has no copy, or one older than
        /// `refresh`, and starts even if it fails; `"fail"` waits too, and refuses to start while a
        /// list has neither a copy nor a successful download.
        start: ListStart = ListStart::Fast,
        /// Time after which a download counts as failed.
        timeout: TimeSpan = TIMEOUT,
        /// Largest size of a list, decompressed.
        max_bytes: Bytes = MAX_BYTES,
        /// Proxy for all downloads: `"http://10.53.0.9:3128"`. Absent: none, whatever the environment says.
        proxy: Option<String> = None,
        /// PEM file with the CA certificates that may vouch for `https://` servers, read for each
        /// download. Absent: the CAs that the system trusts.
        tls_ca_file: Option<String> = None,
        /// File that keeps what `ringctl block`, `allow` and `pause` say. It is created when one of them
        /// is first used. Absolute path.
        overrides_file: String = OVERRIDES_FILE.into(),
        /// Time zone of schedules, by its name in the IANA database: `"Europe/Berlin"`. Absent: that of
        /// this host.
        time_zone: Option<String> = None,
    }
}

choice! {
    /// Conduct at the start.
    ListStart {
        /// Starts with the copies on disk.
        #[default]
        Fast = "fast",
        /// Waits for downloads.
        Blocking = "blocking",
        /// Refuses to start without all lists.
        Fail = "fail",
    }
}

/// Download of lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchConfig {
    /// Directory with the last good copies.
    pub dir: PathBuf,
    /// Conduct at the start.
    pub start: ListStart,
    /// Time that a download may take.
    pub timeout: Duration,
    /// Largest size of a decompressed list in bytes.
    pub max_bytes: u64,
    /// URL of a proxy.
    pub proxy: Option<String>,
    /// File with the trusted CAs; `None`: the system's CAs.
    pub tls_ca_file: Option<PathBuf>,
    /// File with overrides and pauses.
    pub overrides_file: PathBuf,
    /// Name of the time zone of schedules; `None`: that of this host.
    pub time_zone: Option<String>,
}

impl Default for FetchConfig {
    fn default() -> Self {
        FetchConfig {
            dir: DIR.into(),
            start: ListStart::Fast,
            timeout: TIMEOUT.0,
            max_bytes: MAX_BYTES.0,
            proxy: None,
            tls_ca_file: None,
            overrides_file: OVERRIDES_FILE.into(),
            time_zone: None,
        }
    }
}

/// Source of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListSource {
    /// Absolute path of a file.
    File(PathBuf),
    /// URL, and the time between two downloads.
    Url {
        /// URL with the scheme http or https, without credentials.
        url: String,
        /// Time between two downloads.
        refresh: Duration,
    },
    /// Zone that is transferred.
    Zone(Box<TransferConfig>),
}

/// Transfer of a response policy zone from its primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferConfig {
    /// `axfr://ADDRESS:PORT/ZONE`.
    pub url: String,
    /// Address of the primary.
    pub primary: SocketAddr,
    /// Name of the zone in wire format.
    pub zone: Vec<u8>,
    /// Longest time between two transfers.
    pub refresh: Duration,
    /// Key that messages are signed with; `None`: they are not.
    pub tsig: Option<TsigConfig>,
}

/// Key for transfers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TsigConfig {
    /// Name in wire format.
    pub name: Vec<u8>,
    /// Algorithm.
    pub algorithm: TsigAlgorithm,
    /// File with the secret in Base64.
    pub file: PathBuf,
}

choice! {
    /// Algorithm that transfers are signed with.
    TsigAlgorithm {
        /// HMAC with SHA-256.
        #[default]
        HmacSha256 = "hmac-sha256",
        /// HMAC with SHA-384.
        HmacSha384 = "hmac-sha384",
        /// HMAC with SHA-512.
        HmacSha512 = "hmac-sha512",
    }
}

choice! {
    /// Extended error of a list's answers.
    BlockEde {
        /// Blocked.
        #[default]
        Blocked = "blocked",
        /// Censored.
        Censored = "censored",
        /// Filtered.
        Filtered = "filtered",
        /// No extended error.
        None = "none",
    }
}

impl BlockEde {
    /// Returns the INFO-CODE.
    pub fn code(self) -> Option<u16> {
        match self {
            BlockEde::Blocked => Some(ede::BLOCKED),
            BlockEde::Censored => Some(ede::CENSORED),
            BlockEde::Filtered => Some(ede::FILTERED),
            BlockEde::None => None,
        }
    }
}

impl TransferConfig {
    /// Begin of the URL.
    pub const SCHEME: &str = "axfr://";

    /// Returns the checked source `axfr://ADDRESS[:PORT]/ZONE`.
    pub fn check(
        table: &str,
        text: &str,
        refresh: TimeSpan,
        tsig: Option<TsigConfig>,
    ) -> Result<TransferConfig, Problem> {
        let refresh = within(&format!("{table}.refresh"), refresh, REFRESH, "Give \"1m\" to \"30d\"")?;
        let refused = |reason: &str| {
            let remedy = "Write \"axfr://192.0.2.53/rpz.example\": address, port unless it is 53, and zone";
            Problem::new(format!("{table}.source"), format!("{text:?}: {reason}"), remedy)
        };
        let rest = text.strip_prefix(Self::SCHEME).unwrap_or(text);
        let (host, zone) = rest.split_once('/').ok_or_else(|| refused("there is no zone"))?;
        let address = host.trim_start_matches('[').trim_end_matches(']').parse().map(|ip: IpAddr| (ip, 53));
        let primary = host.parse().or_else(|_| address.map(SocketAddr::from));
        let primary: SocketAddr = primary.map_err(|_| refused("the primary is no address"))?;
        if primary.ip().is_unspecified() || primary.ip().is_multicast() || primary.port() == 0 {
            return Err(refused("the primary is no address of a server"));
        }
        let zone = names::name(zone).map_err(|error| refused(&error.to_string()))?;
        if zone == [0] {
            return Err(refused("the root is no policy zone"));
        }
        let url = format!("{}{primary}/{}", Self::SCHEME, names::display(&zone));
        Ok(TransferConfig { url, primary, zone, refresh, tsig })
    }
}

/// Whether an address is on the own network, as far as it tells.
fn is_near(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

impl ListSource {
    /// Returns the URL that the list comes from, and the longest time between two downloads.
    pub fn remote(&self) -> Option<(&str, Duration)> {
        match self {
            ListSource::File(_) => None,
            ListSource::Url { url, refresh } => Some((url, *refresh)),
            ListSource::Zone(zone) => Some((&zone.url, zone.refresh)),
        }
    }

    /// Returns the checked source.
    pub fn check(table: &str, text: String, refresh: TimeSpan) -> Result<ListSource, Problem> {
        let remedy = "Give \"1m\" to \"30d\"";
        let refresh = within(&format!("{table}.refresh"), refresh, REFRESH, remedy)?;
        let key = format!("{table}.source");
        if text.starts_with(TransferConfig::SCHEME) {
            let remedy = "Write format = \"rpz\" in a [[blocklist]]";
            return Err(Problem::new(key, "only response policy zones are transferred", remedy));
        }
        if text.contains("://") {
            return Ok(ListSource::Url { url: http_url(&key, &text)?.into(), refresh });
        }
        if !text.starts_with('/') || text.ends_with('/') {
            let remedy = "Write \"/etc/ringdns/ads.txt\" or \"https://lists.example/ads.txt\"";
            let reason = format!("{text:?} is neither the absolute path of a file nor a URL");
            return Err(Problem::new(key, reason, remedy));
        }
        Ok(ListSource::File(text.into()))
    }

    /// Returns the host of a source that others on the way can change: plain HTTP, or a transfer
    /// without a key, beyond the own network as far as its name tells.
    pub fn changeable_host(&self) -> Option<String> {
        let url = match self {
            ListSource::Url { url, .. } => url,
            ListSource::Zone(zone) if zone.tsig.is_none() && !is_near(zone.primary.ip()) => {
                return Some(zone.primary.ip().to_string());
            }
            ListSource::File(_) | ListSource::Zone(_) => return None,
        };
        let url = Url::parse(url).ok().filter(|url| url.scheme() == "http")?;
        let is_near = match url.host()? {
            Host::Domain(name) => !name.trim_end_matches('.').contains('.'),
            Host::Ipv4(ip) => is_near(ip.into()),
            Host::Ipv6(ip) => is_near(ip.into()),
        };
        (!is_near).then(|| url.host_str().map(str::to_owned)).flatten()
    }
}

/// Returns a URL of the scheme http or https. It may contain a password, so errors do not repeat it.
fn http_url(key: &str, text: &str) -> Result<Url, Problem> {
    let remedy = "Write \"https://lists.example/ads.txt\"";
    let refused = |reason: String| Problem::new(key, reason, remedy);
    if text.len() > URL_MAX || text.chars().any(|letter| letter.is_control() || letter == ' ') {
        return Err(refused(format!(
            "it is no URL: more than {URL_MAX} bytes, blanks or control characters"
        )));
    }
    let url = Url::parse(text).map_err(|error| refused(format!("it is no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused("its scheme is neither http:// nor https://".into()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("there are credentials in it, which the log and the API would show".into()));
    }
    let literal = match url.host() {
        Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        _ => None,
    };
    if literal.is_some_and(|ip| ip.is_unspecified() || ip.is_multicast()) {
        return Err(refused("its host is no address of a server".into()));
    }
    Ok(url)
}

impl RawLists {
    /// Returns the checked values.
    pub fn check(self) -> Result<FetchConfig, Problem> {
        let limits = [TimeSpan::secs(1), TimeSpan::secs(1_800)];
        let timeout = within("lists.timeout", self.timeout, limits, "Give \"1s\" to \"30m\"")?;
        if !(Bytes(1 << 10)..=Bytes(4 << 30)).contains(&self.max_bytes) {
            let reason = format!("{} is no size of a list", self.max_bytes);
            return Err(Problem::new("lists.max_bytes", reason, "Give \"1KiB\" to \"4GiB\""));
        }
        if !self.dir.starts_with('/') {
            let reason = format!("{:?} is not an absolute path", self.dir);
            return Err(Problem::new("lists.dir", reason, format!("Write {DIR:?}")));
        }
        if !self.overrides_file.starts_with('/') || self.overrides_file.ends_with('/') {
            let reason = format!("{:?} is not the absolute path of a file", self.overrides_file);
            return Err(Problem::new("lists.overrides_file", reason, format!("Write {OVERRIDES_FILE:?}")));
        }
        if let Some(name) = &self.time_zone
            && let Err(error) = TimeZone::get(name)
        {
            let remedy =
                "Write a name such as \"Europe/Berlin\", or remove the key to use this host's time zone";
            return Err(Problem::new("lists.time_zone", error.to_string(), remedy));
        }
        let proxy = self.proxy.map(|proxy| proxy_url(&proxy)).transpose()?;
        Ok(FetchConfig {
            dir: self.dir.into(),
            start: self.start,
            timeout,
            max_bytes: self.max_bytes.0,
            proxy,
            tls_ca_file: self.tls_ca_file.map(Into::into),
            overrides_file: self.overrides_file.into(),
            time_zone: self.time_zone,
        })
    }
}

fn proxy_url(text: &str) -> Result<String, Problem> {
    let refused = |reason: &str| Problem::new("lists.proxy", reason, "Write \"http://10.53.0.9:3128\"");
    let url = Url::parse(text).map_err(|error| refused(&format!("it is no URL: {error}")))?;
    if url.scheme() != "http" {
        return Err(refused("its scheme is not http://"));
    }
    if url.path() != "/" || url.query().is_some() {
        return Err(refused("there is a path in it"));
    }
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MINIMAL, minimal_with, refused};

    fn source(text: &str) -> Result<ListSource, Problem> {
        ListSource::check("blocklist[0]", text.into(), TimeSpan::secs(3_600))
    }

    #[test]
    fn urls_are_normalised() {
        for (written, url) in [
            ("https://lists.example/ads.txt?key=1", "https://lists.example/ads.txt?key=1"),
            ("HTTPS://Lists.Example", "https://lists.example/"),
            ("https://b\u{fc}cher.example/\u{fc}", "https://xn--bcher-kva.example/%C3%BC"),
            ("http://[2001:db8::1]:8080/a", "http://[2001:db8::1]:8080/a"),
        ] {
            let refresh = Duration::from_secs(3_600);
            assert_eq!(source(written), Ok(ListSource::Url { url: url.into(), refresh }), "{written}");
        }
        assert_eq!(source("/etc/a"), Ok(ListSource::File("/etc/a".into())));
    }

    #[test]
    fn a_password_is_not_repeated() {
        let problem = source("https://me:secret@lists.example/").unwrap_err();
        assert!(problem.reason.contains("credentials") && !problem.to_string().contains("secret"));
    }

    #[test]
    fn plain_text_beyond_the_own_network_is_found() {
        for (url, host) in [
            ("http://lists.example/a", Some("lists.example")),
            ("http://198.51.100.1/a", Some("198.51.100.1")),
            ("http://[2001:db8::1]/a", Some("[2001:db8::1]")),
            ("https://lists.example/a", None),
            ("http://192.168.1.1/a", None),
            ("http://[fd53::1]/a", None),
            ("http://nas/a", None),
            ("/etc/a", None),
        ] {
            assert_eq!(source(url).unwrap().changeable_host().as_deref(), host, "{url}");
        }
    }

    #[test]
    fn defaults_are_those_of_the_table() {
        assert_eq!(RawLists::default().check(), Ok(FetchConfig::default()));
        let lists = minimal_with("[lists]\nstart = \"fail\"\nproxy = \"http://me:pw@proxy:1\"").lists;
        assert_eq!(lists.fetch.start, ListStart::Fail);
        assert_eq!(lists.fetch.proxy.as_deref(), Some("http://me:pw@proxy:1/"));
    }

    #[test]
    fn wrong_values_are_refused() {
        refused(
            &format!("{MINIMAL}[lists]\n"),
            &[
                ["timeout = \"1h\"", "6", "lists.timeout", "too long", "30m"],
                ["max_bytes = \"8GiB\"", "6", "lists.max_bytes", "8GiB", "4GiB"],
                ["dir = \"lists\"", "6", "lists.dir", "absolute", "/var/lib/ringdns/lists"],
                ["time_zone = \"Mars\"", "6", "lists.time_zone", "Mars", "Europe/Berlin"],
                ["overrides_file = \"o\"", "6", "lists.overrides_file", "absolute", "overrides.toml"],
                ["start = \"slow\"", "6", "lists.start", "slow", "blocking"],
                ["proxy = \"socks5://a\"", "6", "lists.proxy", "http://", "3128"],
                ["proxy = \"http://a/b\"", "6", "lists.proxy", "path", "3128"],
            ],
        );
        let head = format!("{MINIMAL}[[blocklist]]\nname = \"a\"\n");
        let long = format!("source = \"https://a/{}\"", "x".repeat(URL_MAX));
        refused(
            &head,
            &[
                ["source = \"ftp://a/b\"", "7", "blocklist[0].source", "neither http", "https://"],
                ["source = \"https://\"", "7", "blocklist[0].source", "no URL", "https://"],
                ["source = \"https://a b/\"", "7", "blocklist[0].source", "blanks", "https://"],
                ["source = \"https://a:b@c/\"", "7", "blocklist[0].source", "credentials", "https://"],
                ["source = \"https://0.0.0.0/\"", "7", "blocklist[0].source", "no address", "https://"],
                ["source = \"https://a:99999/\"", "7", "blocklist[0].source", "no URL", "https://"],
                [&long, "7", "blocklist[0].source", "8000", "https://"],
                [
                    "source = \"https://a/\"\nrefresh = \"1s\"",
                    "8",
                    "blocklist[0].refresh",
                    "too short",
                    "30d",
                ],
            ],
        );
    }
}
