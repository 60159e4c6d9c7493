//! `[dnstap]`: messages of clients and upstreams, told to a reader of dnstap.

use super::query_log::host_name;
use crate::{
    bounds::within,
    error::Problem,
    listen,
    table::table,
    values::{KeyValue, choice},
};
use ringdns_common::units::{Bytes, TimeSpan};
use ringdns_dataplane::mirror::Page;
use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

/// Smallest memory of a worker: two pages, one that fills while the other is sent.
const MEMORY_MIN: Bytes = Bytes((2 * Page::BYTES as u64).next_multiple_of(1 << 20));
/// Largest memory of a worker.
const MEMORY_MAX: Bytes = Bytes(1 << 30);
/// Most bytes of a Unix socket's path: the size of `sun_path` less its closing zero.
const SOCKET_PATH_MAX: usize = 107;
/// Most bytes of identity and version.
const TEXT_MAX: usize = 255;

table! {
    /// dnstap: queries and responses of clients and upstreams, as they are on the wire, told to a reader such as
    /// `fstrm_capture` or `dnstap`. ringdnsd connects to the reader (Frame Streams, in both directions)
    /// and connects again when it is gone. Messages that the reader does not take in time are lost and
    /// counted; answers never wait. See docs/dnstap.md.
    "[dnstap]" RawDnstap {
        /// Unix socket of the reader. Absent, and no `address` either: dnstap is off.
        socket: Option<String> = None,
        /// IP address and port of the reader, in place of `socket`: `"127.0.0.1:6000"`. The connection is
        /// not encrypted.
        address: Option<String> = None,
        /// Messages that are sent: `"client_query"` (queries as received, also those that are dropped),
        /// `"client_response"` (responses as sent), `"forwarder_query"`
        /// and `"forwarder_response"` (queries to upstreams, and their responses).
        messages: Vec<DnstapMessage> = vec![DnstapMessage::ClientResponse],
        /// Sampling rate: one exchange in this many is told, chosen at random. 1: every exchange.
        sample: u32 = 1,
        /// Name of this server in its messages. Absent: the host name.
        identity: Option<String> = None,
        /// Version in its messages. Absent: `"ringdns"` and the version of ringdnsd.
        version: Option<String> = None,
        /// Memory of each worker for packets that are not yet sent. 8 MiB hold about 40,000 small ones.
        bytes_per_worker: Bytes = Bytes(8 << 20),
        /// Time in which the reader must accept the connection, and in which it must read something
        /// while messages wait. After it, ringdnsd connects again.
        timeout: TimeSpan = TimeSpan::secs(5),
    }
}

choice! {
    /// Kind of dnstap messages.
    DnstapMessage {
        /// Query as received from a client.
        ClientQuery = "client_query",
        /// Response as sent to a client.
        #[default]
        ClientResponse = "client_response",
        /// Query as sent to an upstream.
        ForwarderQuery = "forwarder_query",
        /// Response as received from an upstream.
        ForwarderResponse = "forwarder_response",
    }
}

impl KeyValue for Vec<DnstapMessage> {
    const KIND: &'static str = "list of strings";
    const WORDS: &'static [&'static str] = DnstapMessage::WORDS;
    fn written(&self) -> Option<String> {
        let words = self.iter().filter_map(KeyValue::written).collect::<Vec<_>>();
        Some(format!("[{}]", words.join(", ")))
    }
}

/// Address of the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnstapTarget {
    /// Path of a Unix socket.
    Unix(PathBuf),
    /// Address of a TCP socket.
    Tcp(SocketAddr),
}

impl DnstapTarget {
    /// Returns the key that gives the address.
    pub fn key(&self) -> &'static str {
        match self {
            DnstapTarget::Unix(_) => "dnstap.socket",
            DnstapTarget::Tcp(_) => "dnstap.address",
        }
    }
}

impl fmt::Display for DnstapTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DnstapTarget::Unix(path) => path.display().fmt(f),
            DnstapTarget::Tcp(address) => address.fmt(f),
        }
    }
}

/// dnstap output.
#[derive(Clone, Debug)]
pub struct DnstapConfig {
    /// Address of the reader.
    pub target: DnstapTarget,
    /// Kinds of messages that are sent; at least one.
    pub messages: Vec<DnstapMessage>,
    /// Sampling rate: one exchange in this many is told.
    pub sample: u32,
    /// Name of this server.
    pub identity: String,
    /// Version of this server.
    pub version: String,
    /// Memory of each worker for packets that are not yet sent, in bytes.
    pub bytes_per_worker: u64,
    /// Time in which the reader must react.
    pub timeout: Duration,
}

impl RawDnstap {
    /// Returns the checked values; `None` if there is no reader. Wrong values are refused even where
    /// they are not used.
    pub fn check(self) -> Result<Option<DnstapConfig>, Problem> {
        if self.sample == 0 {
            let remedy =
                "Give 1 to tell of every exchange, 100 for one in a hundred; for none, remove [dnstap]";
            return Err(Problem::new("dnstap.sample", "one exchange in 0 is none", remedy));
        }
        if self.messages.is_empty() {
            let remedy = "Write messages = [\"client_response\"], or remove [dnstap]";
            return Err(Problem::new("dnstap.messages", "no kind of messages is sent", remedy));
        }
        if !(MEMORY_MIN..=MEMORY_MAX).contains(&self.bytes_per_worker) {
            let reason = format!("{} is not possible", self.bytes_per_worker);
            let remedy = format!("Give {MEMORY_MIN} to {MEMORY_MAX}; \"8MiB\" is usual");
            return Err(Problem::new("dnstap.bytes_per_worker", reason, remedy));
        }
        let limits = [TimeSpan::millis(100), TimeSpan::secs(60)];
        let timeout = within("dnstap.timeout", self.timeout, limits, "Give \"100ms\" to \"60s\"")?;
        let version = self.version.unwrap_or_else(|| concat!("ringdns ", env!("CARGO_PKG_VERSION")).into());
        let identity = self.identity.unwrap_or_else(host_name);
        for (key, text) in [("dnstap.identity", &identity), ("dnstap.version", &version)] {
            if text.len() > TEXT_MAX {
                let reason = format!("it has more than {TEXT_MAX} bytes");
                return Err(Problem::new(key, reason, "Give a short text, or \"\" to leave it out"));
            }
        }
        let Some(target) = target(self.socket, self.address)? else { return Ok(None) };
        Ok(Some(DnstapConfig {
            target,
            messages: self.messages,
            sample: self.sample,
            identity,
            version,
            bytes_per_worker: self.bytes_per_worker.0,
            timeout,
        }))
    }
}

/// Returns the address of the reader; `None` if there is none.
fn target(socket: Option<String>, address: Option<String>) -> Result<Option<DnstapTarget>, Problem> {
    if let Some(path) = &socket
        && (path.is_empty() || path.len() > SOCKET_PATH_MAX)
    {
        let reason = format!(
            "the path is empty or longer than the {SOCKET_PATH_MAX} bytes that a Unix socket can have"
        );
        return Err(Problem::new(
            "dnstap.socket",
            reason,
            "Give a short path, such as /run/dnstap/dnstap.sock",
        ));
    }
    let remedy = "Write an IP address and a port, such as \"127.0.0.1:6000\"";
    let address = address.map(|text| listen::address("dnstap.address", &text, remedy)).transpose()?;
    match (socket, address) {
        (Some(_), Some(_)) => {
            let reason = "dnstap.socket is given, too, and there is one reader";
            Err(Problem::new("dnstap.address", reason, "Remove one of both"))
        }
        (Some(path), None) => Ok(Some(DnstapTarget::Unix(path.into()))),
        (None, Some(address)) => Ok(Some(DnstapTarget::Tcp(address))),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MINIMAL, minimal_with, refused};

    #[test]
    fn dnstap_is_on_with_a_reader() {
        assert!(minimal_with("[dnstap]\nsample = 10").dnstap.is_none());
        let unix = minimal_with("[dnstap]\nsocket = \"/run/a.sock\"").dnstap.unwrap();
        assert_eq!(unix.target, DnstapTarget::Unix("/run/a.sock".into()));
        assert_eq!((unix.sample, &*unix.messages), (1, &[DnstapMessage::ClientResponse][..]));
        assert!(unix.version.starts_with("ringdns 0.") && !unix.identity.is_empty(), "{unix:?}");
        let tcp = "[dnstap]\naddress = \"[::1]:6000\"\nidentity = \"\"\nmessages = [\"client_query\"]";
        let tcp = minimal_with(tcp).dnstap.unwrap();
        assert_eq!((tcp.target.to_string(), tcp.target.key()), ("[::1]:6000".into(), "dnstap.address"));
        assert_eq!((&*tcp.identity, &*tcp.messages), ("", &[DnstapMessage::ClientQuery][..]));
    }

    #[test]
    fn wrong_values_are_refused() {
        let long = format!("version = \"{}\"", "v".repeat(256));
        refused(
            &format!("{MINIMAL}[dnstap]\n"),
            &[
                ["sample = 0", "6", "dnstap.sample", "in 0 is none", "remove [dnstap]"],
                ["messages = []", "6", "dnstap.messages", "no kind", "client_response"],
                [
                    "messages = [\"resolver_query\"]",
                    "6",
                    "dnstap.messages",
                    "resolver_query",
                    "Correct the value",
                ],
                ["bytes_per_worker = 1", "6", "dnstap.bytes_per_worker", "1B is not", "8MiB"],
                ["timeout = \"2h\"", "6", "dnstap.timeout", "too long", "60s"],
                ["socket = \"\"", "6", "dnstap.socket", "empty", "short path"],
                ["address = \"localhost\"", "6", "dnstap.address", "localhost", "127.0.0.1:6000"],
                ["socket = \"/a\"\naddress = \"127.0.0.1:1\"", "7", "dnstap.address", "one reader", "Remove"],
                [&long, "6", "dnstap.version", "more than 255", "short text"],
            ],
        );
    }
}
