//! `[control]`: control socket, HTTP endpoint and profiles.

use crate::{
    error::Problem,
    listen,
    table::table,
    values::{KeyValue, choice},
};
use ringdns_common::units::TimeSpan;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Most bytes of a Unix socket's path: the size of `sun_path` less its closing zero.
const SOCKET_PATH_MAX: usize = 107;

table! {
    /// Control socket, HTTP endpoint and profiles.
    "[control]" RawControl {
        /// Unix socket that `ringctl` connects to. Its owner and the group `ringdns`, if there is
        /// one, can open it, and may do everything.
        socket: String = "/run/ringdns/control.sock".into(),
        /// Address and port of the API over HTTP: `/healthz`, `/readyz` and `/metrics` for all
        /// clients, everything else for those with a token of `tokens_file`. An address that is not
        /// loopback needs that file. Absent: off.
        http: Option<String> = None,
        /// File of the tokens that are good for `http`: a line for each, with its name, its role and
        /// the SHA-256 of it, as `ringctl token new` prints it. A token of the role `read` shows
        /// everything, names and clients included; `operate` changes things too. It is read again at
        /// a reload. Absent: without a token, `http` serves the first three alone.
        tokens_file: Option<String> = None,
        /// Clients that read `/metrics` over `http` without a token: `"loopback"`: all if `http` is a
        /// loopback address; `"all"`; `"none"`.
        open_metrics: OpenMetrics = OpenMetrics::Loopback,
        /// File to which a line of JSON is appended for each change that is asked for: time, caller,
        /// request and result. The log has the same lines, under the target `audit`, and `ringctl
        /// audit` shows the last ones. The file is opened anew for each line, so it may be renamed at
        /// any time. Absent: the log alone.
        audit_log: Option<String> = None,
        /// Whether `http` serves the web console, at `/`: a page that shows and changes what the API
        /// does, with a token that its user gives it. The page itself has no data, and needs no token.
        console: bool = true,
        /// Host names by which clients may address `http`, such as `"dns1.example"`. Loopback
        /// addresses, `localhost` and the address itself need not be listed. Requests for other
        /// hosts are refused, so that no page in a browser can read the API (DNS rebinding).
        http_hosts: Vec<String> = Vec::new(),
        /// Whether memory and CPU profiles (`/v1/debug/pprof/`) are served over `http` without a token,
        /// which profilers cannot send. They reveal internals of ringdnsd, and taking one costs it time,
        /// so `http` must be a loopback address.
        profiles_over_http: bool = false,
        /// Parts that have to work for `/readyz` to answer 200, besides reception and workers, so that load
        /// balancers and routers send clients elsewhere: `"upstream"` (an upstream for names in no
        /// zone of the configuration), `"zones"` (an upstream for each zone), `"xdp"` (AF_XDP),
        /// `"redis"`, `"query-log"` (ClickHouse and the spool), `"lists"` (no list is degraded).
        ready_requires: Vec<Requirement> = vec![Requirement::Upstream],
        /// Time for which all of that has to work before `/readyz` answers 200 again, once it did
        /// not. A route should not come and go with each packet that an upstream loses; many load
        /// balancers have such a time of their own.
        ready_hold_down: TimeSpan = TimeSpan::secs(0),
        /// Time for which ringdnsd goes on answering after it was told to stop. `/readyz` answers 503
        /// from the beginning of it, so that clients are sent elsewhere first. A second signal ends
        /// it. At most five minutes.
        drain: TimeSpan = TimeSpan::secs(0),
    }
}

choice! {
    /// Clients that read the metrics without a token.
    OpenMetrics {
        /// All, if the address is a loopback address.
        #[default]
        Loopback = "loopback",
        /// All.
        All = "all",
        /// None.
        None = "none",
    }
}

choice! {
    /// Part that has to work for ringdnsd to be ready.
    Requirement {
        /// An upstream answers for names in no zone of the configuration.
        #[default]
        Upstream = "upstream",
        /// An upstream answers for each zone.
        Zones = "zones",
        /// AF_XDP is in use.
        Xdp = "xdp",
        /// Redis is in use.
        Redis = "redis",
        /// ClickHouse takes the query log, and the spool can be written.
        QueryLog = "query-log",
        /// No list is degraded.
        Lists = "lists",
    }
}

impl KeyValue for Vec<Requirement> {
    const KIND: &'static str = "list of strings";
    const WORDS: &'static [&'static str] = Requirement::WORDS;
    fn written(&self) -> Option<String> {
        let words = self.iter().filter_map(KeyValue::written).collect::<Vec<_>>();
        Some(format!("[{}]", words.join(", ")))
    }
}

/// Longest time that a stop may wait.
const DRAIN_MAX: Duration = Duration::from_secs(300);

/// Control socket, HTTP endpoint and profiles.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// Unix socket of the API.
    pub socket: PathBuf,
    /// TCP address of the API.
    pub http: Option<SocketAddr>,
    /// File of the tokens that are good for it.
    pub tokens_file: Option<PathBuf>,
    /// Whether metrics are served over HTTP without a token.
    pub open_metrics: bool,
    /// File of the audit log.
    pub audit_log: Option<PathBuf>,
    /// Whether the TCP address serves the web console.
    pub console: bool,
    /// Host names by which clients may address it, lowercased and without a final dot.
    pub http_hosts: Vec<String>,
    /// Whether profiles are served over HTTP.
    pub profiles_over_http: bool,
    /// Parts that have to work for ringdnsd to be ready.
    pub ready_requires: Vec<Requirement>,
    /// Time for which they have to work until ringdnsd is ready again.
    pub ready_hold_down: Duration,
    /// Time for which ringdnsd goes on answering after it was told to stop.
    pub drain: Duration,
}

impl RawControl {
    /// Returns the checked values. `dns`: addresses of `server.listen`.
    pub fn check(self, dns: &[SocketAddr]) -> Result<ControlConfig, Problem> {
        if self.socket.is_empty() || self.socket.len() > SOCKET_PATH_MAX {
            let reason = format!(
                "the path is empty or longer than the {SOCKET_PATH_MAX} bytes that a Unix socket can have"
            );
            let remedy = "Give a short path, such as /run/ringdns/control.sock";
            return Err(Problem::new("control.socket", reason, remedy));
        }
        let remedy = "Write \"127.0.0.1:8053\", or remove the key to turn it off";
        let http = self.http.map(|text| listen::address("control.http", &text, remedy)).transpose()?;
        let taken = http.and_then(|http| dns.iter().find(|dns| listen::exclude_each_other(http, **dns)));
        if let Some(taken) = taken {
            let reason = format!("DNS over TCP has this port (server.listen: {taken})");
            return Err(Problem::new("control.http", reason, "Give another port"));
        }
        let exposed = http.filter(|http| !http.ip().is_loopback());
        if let Some(http) = exposed.filter(|_| self.tokens_file.is_none()) {
            let reason = format!("others can reach {http}, and there are no tokens to tell them apart");
            let remedy = "Set control.tokens_file to a file of tokens (ringctl token new), or control.http to a loopback \
                          address";
            return Err(Problem::new("control.http", reason, remedy));
        }
        if self.profiles_over_http && http.is_none() {
            let reason = "there is no HTTP address to serve profiles at";
            let remedy = "Set control.http, or remove the key: the Unix socket always serves them";
            return Err(Problem::new("control.profiles_over_http", reason, remedy));
        }
        if let Some(http) = exposed.filter(|_| self.profiles_over_http) {
            let reason = format!("others can reach {http}, and profiles show what is in memory");
            let remedy = "Set control.http to a loopback address, or remove the key: the Unix socket always serves them";
            return Err(Problem::new("control.profiles_over_http", reason, remedy));
        }
        if self.drain.0 > DRAIN_MAX {
            let reason = "clients would be answered for more than five minutes by a process that stops";
            return Err(Problem::new("control.drain", reason, "Write \"10s\", or at most \"5m\""));
        }
        let http_hosts = self.http_hosts.iter().map(|host| http_host(host)).collect::<Result<_, _>>()?;
        Ok(ControlConfig {
            socket: self.socket.into(),
            http,
            tokens_file: self.tokens_file.map(Into::into),
            open_metrics: match self.open_metrics {
                OpenMetrics::Loopback => exposed.is_none(),
                OpenMetrics::All => true,
                OpenMetrics::None => false,
            },
            audit_log: self.audit_log.map(Into::into),
            console: self.console,
            http_hosts,
            profiles_over_http: self.profiles_over_http,
            ready_requires: self.ready_requires,
            ready_hold_down: self.ready_hold_down.0,
            drain: self.drain.0,
        })
    }
}

/// Returns a host of `control.http_hosts` in lower case, without a final dot.
fn http_host(text: &str) -> Result<String, Problem> {
    let host = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if host.is_empty() || !host.bytes().all(is_plain) {
        let remedy = "Write the name alone, such as \"dns1.example\": no port, no scheme, no wildcard";
        return Err(Problem::new("control.http_hosts", format!("{text:?} is no host name"), remedy));
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use crate::testing::{MINIMAL, minimal_with, refused};

    #[test]
    fn metrics_are_open_on_loopback_unless_the_file_says_otherwise() {
        let open = |lines: &str| minimal_with(&format!("[control]\n{lines}")).control.open_metrics;
        assert!(open("http = \"127.0.0.1:80\"") && open("http = \"[::1]:80\""));
        let exposed = "http = \"192.0.2.1:80\"\ntokens_file = \"t\"\n";
        assert!(!open(exposed) && open(&format!("{exposed}open_metrics = \"all\"")));
        assert!(!open("http = \"127.0.0.1:80\"\nopen_metrics = \"none\""));
    }

    #[test]
    fn the_console_is_there_unless_the_file_says_otherwise() {
        let console = |lines: &str| minimal_with(&format!("[control]\n{lines}")).control.console;
        assert!(console("http = \"127.0.0.1:80\""));
        assert!(!console("http = \"127.0.0.1:80\"\nconsole = false"));
    }

    #[test]
    fn wrong_values_are_refused() {
        let long = format!("socket = \"/{}\"", "x".repeat(107));
        refused(
            &format!("{MINIMAL}[control]\n"),
            &[
                ["http = \"8053\"", "6", "control.http", "no IP address", "127.0.0.1:8053"],
                ["http = \"0.0.0.0:5300\"", "6", "control.http", "has this port", "another port"],
                ["http = \"192.0.2.1:80\"", "6", "control.http", "no tokens", "control.tokens_file"],
                ["open_metrics = \"yes\"", "6", "control.open_metrics", "yes", "Correct the value"],
                ["http_hosts = [\"a:80\"]", "6", "control.http_hosts", "no host name", "no port"],
                ["socket = \"\"", "6", "control.socket", "empty", "short path"],
                [&long, "6", "control.socket", "107 bytes", "short path"],
                [
                    "profiles_over_http = true",
                    "6",
                    "control.profiles_over_http",
                    "no HTTP address",
                    "Set control.http",
                ],
                [
                    "http = \"192.0.2.1:80\"\ntokens_file = \"t\"\nprofiles_over_http = true",
                    "8",
                    "control.profiles_over_http",
                    "others can reach 192.0.2.1:80",
                    "loopback",
                ],
                ["drain = \"6m\"", "6", "control.drain", "five minutes", "10s"],
                ["ready_requires = [\"all\"]", "6", "control.ready_requires", "all", "Correct the value"],
            ],
        );
    }
}
