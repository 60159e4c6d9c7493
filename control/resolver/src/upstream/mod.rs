//! Upstreams: their state, transports and counters.

mod addresses;
pub mod alias;
pub mod attempt;
pub mod choice;
mod cookie;
mod edns;
pub mod exchange;
mod health;
pub(crate) mod probe;
pub mod stream;
pub mod told;
pub mod turn;
pub mod udp;
pub(crate) mod watch;

pub(crate) use addresses::Addresses;
use cookie::Jar;
use edns::EdnsMemory;
use hdrhistogram::Histogram;
use health::{AnswerTimes, Health};
use parking_lot::Mutex;
use ringdns_common::{counters, counters::Counter, fault::Fault, names};
use ringdns_config as config;
use ringdns_config::Transport;
use ringdns_dataplane::{clock::Nanos, labels::Labels};
use rustix::io::Errno;
use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use stream::{HttpError, Streams};
use told::UpstreamReader;
use udp::Sockets;

/// Number of responses in a row with other letters in the question after which an upstream is no
/// longer asked with random letters.
const RESPELLED_MAX: u32 = 3;
/// Time in nanoseconds for which it is not. Then a query tries it again.
const PLAIN_LETTERS: Nanos = 3_600_000_000_000;

counters! {
    /// Counters of an upstream.
    UpstreamCounters {
        /// Queries sent to the upstream over UDP.
        queries_udp,
        /// Queries sent to the upstream over TCP.
        queries_tcp,
        /// Queries sent to the upstream over TLS.
        queries_tls,
        /// Queries sent to the upstream over HTTPS.
        queries_https,
        /// Responses of the upstream that were used as answers.
        answers,
        /// Responses in which the upstream reports a failure: SERVFAIL, REFUSED and the like.
        failures,
        /// Queries that the upstream did not answer in time.
        timeouts,
        /// Queries about which the kernel reported that the upstream is unreachable, or whose
        /// connection broke. Over UDP an answer may still come.
        unreachable,
        /// Queries not sent to the upstream because this process had no socket or local port left.
        no_socket,
        /// Responses over UDP that were truncated (TC=1), and requested again over TCP.
        truncated,
        /// Responses over UDP that spell the question in other letters than the query, and were
        /// requested again over TCP.
        respelled,
        /// Responses over UDP without the DNS cookie that earlier ones had, requested again over
        /// TCP.
        cookie_missing,
        /// Queries sent again because the upstream asked for its newest cookie (BADCOOKIE).
        cookie_renewed,
        /// Queries sent again without EDNS because the upstream does not understand it.
        without_edns,
        /// Responses over UDP that report truncation or a failure without the question: the next
        /// upstream, or this one over TCP, was asked at once.
        hints,
        /// Queries sent to this upstream because another one took longer than usual (hedging).
        hedges,
        /// Queries sent to find out whether the upstream is down or only one domain's servers.
        probes,
        /// Times that the upstream fell silent, or answered again after that.
        state_changes,
        /// Queries sent for hedging whose answer came first.
        hedges_won,
        /// Responses of the upstream that are no well-formed DNS messages.
        malformed,
        /// Datagrams from the upstream ignored because they are too short or no responses.
        ignored_not_response,
        /// Messages from the upstream ignored because no query in flight on their port or
        /// connection has their ID.
        ignored_wrong_id,
        /// Datagrams from the upstream ignored because their question is not the query's.
        ignored_wrong_question,
        /// Datagrams from the upstream ignored because they have another client's DNS cookie.
        ignored_wrong_cookie,
        /// Answers from which records were removed that do not belong to them, or whose sets had
        /// several TTLs.
        scrubbed,
        /// Responses with more records than are decoded (1024, other than addresses of the name asked
        /// for): they count as failures.
        too_many_records,
        /// Responses over HTTPS that are no DNS response: another status, another type, or too
        /// long.
        http_failures,
        /// Connections to the upstream opened; for TLS and HTTPS, counted once TLS is set up.
        connections,
        /// Queries sent over a connection that was open already.
        connections_reused,
        /// Connections to the upstream closed, by either side.
        connections_closed,
        /// Connections to the upstream given up because TLS failed: the certificate is not trusted,
        /// or the upstream does not speak TLS.
        tls_failures,
        /// UDP sockets opened to ask the upstream.
        sockets,
        /// UDP sockets abandoned because responses arrived with IDs that no query had: somebody may
        /// guess them.
        sockets_abandoned,
        /// Queries asked again over TCP because somebody may guess IDs at their port.
        exposed,
    }
}

impl UpstreamCounters {
    /// Returns the number of queries sent over all transports.
    pub fn queries(&self) -> u64 {
        let over = [&self.queries_udp, &self.queries_tcp, &self.queries_tls, &self.queries_https];
        over.map(Counter::get).iter().sum()
    }

    /// Returns the number of queries that failed other than by a timeout, and not for lack of local
    /// resources.
    pub fn errors(&self) -> u64 {
        let kinds = [&self.failures, &self.unreachable, &self.malformed, &self.http_failures];
        kinds.map(Counter::get).iter().sum()
    }
}

/// Reason why an upstream brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The upstream did not answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The upstream cannot be reached.
    #[error("unreachable: {0}")]
    Unreachable(io::Error),
    /// The upstream was not asked, for lack of a socket.
    #[error("no socket to ask with: {0}. Raise the limit of open files (systemd: LimitNOFILE=)")]
    NoSocket(io::Error),
    /// The response is no DNS message.
    #[error("the response is malformed")]
    Malformed,
    /// The response is no DNS over HTTPS.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// The upstream reports a failure, and perhaps the reason (RFC 8914).
    #[error("the upstream answered with RCODE {0}")]
    Failure(u8, Option<u16>),
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        if is_lack(&error) { AskError::NoSocket(error) } else { AskError::Unreachable(error) }
    }
}

/// Whether descriptors, memory or local ports ran out: the upstream is not at fault.
fn is_lack(error: &io::Error) -> bool {
    let lack = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL, Errno::AGAIN];
    Errno::from_io_error(error).is_some_and(|errno| lack.contains(&errno))
}

/// Reason why no upstream brought an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// All upstreams failed: SERVFAIL, to be remembered, with this extended error (RFC 8914).
    Upstreams(u16),
    /// No upstream could be asked. That says nothing about the question.
    Ourselves,
}

/// Upstream.
pub struct Upstream {
    /// Address as written in the configuration.
    pub label: String,
    /// Number in the query log; `None`: there were too many upstreams.
    pub(crate) number: Option<u8>,
    /// Zones that it is asked for, in text form; empty: all names that are in no other upstream's
    /// zones.
    pub zones: Vec<String>,
    /// Names of the groups of clients that it is asked for; empty: all.
    pub groups: Vec<String>,
    /// Addresses and ports.
    pub(crate) addresses: Addresses,
    /// Transport that it is asked over.
    pub transport: Transport,
    /// Whether its AD bit is believed.
    pub trusted: bool,
    /// Counters of the upstream.
    pub counters: UpstreamCounters,
    /// Fault of its certificate, or of what it speaks over TLS.
    pub distrust: Fault,
    /// Connections that it is asked over.
    pub(crate) streams: Streams,
    /// UDP sockets that it is asked over.
    pub(crate) sockets: Sockets,
    /// Time after which an attempt is given up.
    pub(crate) timeout: Duration,
    /// Configuration that it was made from.
    made_of: (config::UpstreamConfig, config::ResolverConfig),
    pub(crate) health: Mutex<Health>,
    times: Mutex<AnswerTimes>,
    /// Cookies; `None`: none are sent.
    pub(crate) cookies: Option<Jar>,
    randomize_case: bool,
    /// Number of responses that spelled the question in other letters, since one that did not.
    respelled: AtomicU32,
    /// Time until which it is asked without random letters.
    plain_until: AtomicU64,
    /// Names that it answers only without EDNS.
    pub(crate) edns: EdnsMemory,
    /// Reader of the messages that are exchanged with it; unset: there is none.
    pub(crate) reader: OnceLock<Arc<dyn UpstreamReader>>,
}

impl Upstream {
    /// Returns one of `upstreams` upstreams, as it is configured.
    pub(crate) fn new(
        config: &config::UpstreamConfig,
        how: &config::ResolverConfig,
        labels: &Labels,
        upstreams: usize,
    ) -> Self {
        let label = config.label();
        Upstream {
            number: labels.number(&label),
            label,
            zones: config.zones.iter().map(|zone| names::display(zone)).collect(),
            groups: config.groups.clone().unwrap_or_default(),
            addresses: Addresses::new(config.addresses.clone()),
            transport: config.transport.clone(),
            trusted: config.trusted,
            counters: UpstreamCounters::default(),
            distrust: Fault::default(),
            streams: Streams::new(config),
            sockets: Sockets::new(upstreams),
            timeout: config.timeout,
            made_of: (config.clone(), *how),
            health: Mutex::default(),
            times: Mutex::new(AnswerTimes::new(how.hedge)),
            cookies: how.cookies.then(Jar::new),
            randomize_case: how.randomize_case,
            respelled: AtomicU32::new(0),
            plain_until: AtomicU64::new(0),
            edns: EdnsMemory::default(),
            reader: OnceLock::new(),
        }
    }

    /// Whether a configuration would make the same upstream. Not if it has a file of certificates,
    /// which may have changed meanwhile.
    pub(crate) fn is(&self, config: &config::UpstreamConfig, how: &config::ResolverConfig) -> bool {
        let (upstream, resolver) = &self.made_of;
        upstream == config
            && resolver == how
            && config.transport.tls().is_none_or(|tls| tls.ca_file.is_none())
    }

    /// Returns the upstream's health.
    pub fn health(&self) -> Health {
        *self.health.lock()
    }

    /// Whether the upstream is in back-off at `now`.
    pub fn is_put_back(&self, now: Nanos) -> bool {
        self.health.lock().is_put_back(now)
    }

    /// Returns the times of answers and failures so far, in nanoseconds: from the first query over
    /// UDP to the last response, over TCP if it came to that.
    pub fn times(&self) -> Histogram<u64> {
        self.times.lock().all().clone()
    }

    /// Returns the time after which another upstream is asked too; `None`: not before this one is
    /// given up.
    pub(crate) fn hedge_after(&self) -> Option<Duration> {
        self.times.lock().hedge_after()
    }

    /// Records that the upstream answered after the time `took`.
    pub fn answered(&self, took: Duration) {
        self.health.lock().answered(took);
        self.times.lock().record(took);
    }

    /// Whether questions are sent with random letter case at `now`.
    pub(crate) fn randomizes_case(&self, now: Nanos) -> bool {
        self.randomize_case && now >= self.plain_until.load(Relaxed)
    }

    /// Notes that the upstream repeated the random letters of a question.
    pub(crate) fn repeats_letters(&self) {
        if self.respelled.load(Relaxed) > 0 {
            self.respelled.store(0, Relaxed);
        }
    }

    /// Notes that the upstream, or a forger, spelled a question in other letters.
    pub(crate) fn respells(&self, now: Nanos) {
        // Once it was found to do so, one response more confirms it.
        if self.respelled.fetch_add(1, Relaxed) + 1 >= RESPELLED_MAX {
            self.respelled.store(RESPELLED_MAX - 1, Relaxed);
            self.plain_until.store(now.saturating_add(PLAIN_LETTERS), Relaxed);
            tracing::warn!(
                upstream = %self.label,
                "does not repeat the letter case of questions; it is not asked with random letter case for an hour"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_lack_is_not_held_against_the_upstream() {
        let error = |errno: Errno| AskError::from(io::Error::from(errno));
        assert!(matches!(error(Errno::MFILE), AskError::NoSocket(_)));
        assert!(matches!(error(Errno::ADDRNOTAVAIL), AskError::NoSocket(_)));
        assert!(matches!(error(Errno::CONNREFUSED), AskError::Unreachable(_)));
        assert!(matches!(error(Errno::HOSTUNREACH), AskError::Unreachable(_)));
    }
}
