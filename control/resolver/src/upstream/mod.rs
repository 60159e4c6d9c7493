//! An upstream: what is known of it, what it is asked over, and what it did.

pub mod alias;
pub mod attempt;
pub mod choice;
mod cookie;
pub mod exchange;
mod health;
pub mod scrub;
pub mod stream;
pub mod turn;
pub mod udp;

use cookie::Jar;
use hdrhistogram::Histogram;
use health::{Health, Times};
use parking_lot::Mutex;
use ringdns_common::labels::Labels;
use ringdns_common::{counters, counters::Counter, names};
use ringdns_config as config;
use ringdns_config::Transport;
use ringdns_dataplane::{clock::Nanos, dns::rcode};
use rustix::io::Errno;
use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};
use stream::{HttpError, Streams};
use udp::Sockets;

/// How long an upstream that chokes on EDNS is asked without.
const WITHOUT_EDNS: Duration = Duration::from_secs(900);
/// After so many answers that spell the question anew, its letters are left alone.
const RESPELLED_MAX: u32 = 3;

/// Response codes that answer a question; all others say that the upstream failed (RFC 9520 section 2).
pub fn is_answer(rcode: u8) -> bool {
    // RFC 6672 section 2.2: YXDOMAIN, the name that a DNAME makes is too long.
    const YXDOMAIN: u8 = 6;
    matches!(rcode, rcode::NOERROR | rcode::NXDOMAIN | YXDOMAIN)
}

counters! {
    /// What an upstream is asked and says.
    UpstreamCounters {
        /// Queries sent over UDP.
        queries_udp,
        /// Queries sent over TCP.
        queries_tcp,
        /// Queries sent over TLS.
        queries_tls,
        /// Queries sent over HTTPS.
        queries_https,
        /// Answers used.
        answers,
        /// Responses that say that it failed: SERVFAIL, REFUSED and the like.
        failures,
        /// Queries that it did not answer in time.
        timeouts,
        /// Queries that it could not be reached for, or whose connection broke.
        unreachable,
        /// Queries not sent because this process had no socket or port for them.
        no_socket,
        /// Responses over UDP that were cut (TC=1), and asked for over TCP.
        truncated,
        /// Responses over UDP that spell the question in other letters than it was sent in, and asked for over TCP.
        respelled,
        /// Responses over UDP without the DNS cookie that earlier ones had, and asked for over TCP.
        cookie_missing,
        /// Queries sent again because the upstream wants its newest cookie (BADCOOKIE).
        cookie_renewed,
        /// Queries sent again without EDNS, because the upstream does not understand it.
        without_edns,
        /// Queries sent because another upstream took longer than usual.
        hedges,
        /// Of these, those whose answer came first.
        hedges_won,
        /// Responses that are no well-formed DNS messages.
        malformed,
        /// Datagrams ignored because they are too short or no responses.
        ignored_not_response,
        /// Messages ignored because no query under way at their port or connection has their ID.
        ignored_wrong_id,
        /// Datagrams ignored because their question is not the query's.
        ignored_wrong_question,
        /// Datagrams ignored because they have another client's DNS cookie.
        ignored_wrong_cookie,
        /// Answers that said more than was asked, or gave one set several TTLs: what does not belong was removed.
        scrubbed,
        /// Responses over HTTPS that are none to a query: another status, another type, too long.
        http_failures,
        /// TCP connections opened, those for TLS and HTTPS among them once TLS was set up.
        connections,
        /// Queries sent over a connection that was there already.
        connections_reused,
        /// TCP connections closed, by whichever side.
        connections_closed,
        /// Connections given up because TLS could not be set up: a certificate that is not believed, or no TLS at all.
        tls_failures,
        /// UDP sockets opened.
        sockets,
        /// UDP sockets used no more because too much came there that answered nothing.
        sockets_abandoned,
    }
}

impl UpstreamCounters {
    /// Queries sent, over whatever.
    pub fn queries(&self) -> u64 {
        let over = [&self.queries_udp, &self.queries_tcp, &self.queries_tls, &self.queries_https];
        over.map(Counter::get).iter().sum()
    }

    /// Queries that failed other than by silence, through no lack of ours.
    pub fn errors(&self) -> u64 {
        let kinds = [&self.failures, &self.unreachable, &self.malformed, &self.http_failures];
        kinds.map(Counter::get).iter().sum()
    }
}

/// Why an upstream brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It did not answer in time.
    #[error("no answer in time")]
    Timeout,
    /// It cannot be reached.
    #[error("unreachable: {0}")]
    Unreachable(io::Error),
    /// It was not asked, for lack of a socket.
    #[error("no socket to ask with: {0}. Raise the limit of open files (systemd: LimitNOFILE=)")]
    NoSocket(io::Error),
    /// It answers with what is no DNS.
    #[error("the response is malformed")]
    Malformed,
    /// It answers with what is no DNS over HTTPS.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// It says that it failed, and perhaps why (RFC 8914).
    #[error("the upstream answered with RCODE {0}")]
    Failure(u8, Option<u16>),
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            // Descriptors, memory or local ports ran out: that is no fault of the upstream's.
            Some(
                Errno::MFILE
                | Errno::NFILE
                | Errno::NOBUFS
                | Errno::NOMEM
                | Errno::ADDRNOTAVAIL
                | Errno::AGAIN,
            ) => AskError::NoSocket(error),
            _ => AskError::Unreachable(error),
        }
    }
}

/// Why no upstream brought an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// They failed: SERVFAIL, to be remembered, with this extended error (RFC 8914).
    Upstreams(u16),
    /// We did not get to ask any. That says nothing about the question.
    Ourselves,
}

/// One upstream.
pub struct Upstream {
    /// Its address as it is written in the configuration.
    pub label: String,
    /// Its number in the query log; `None`: there were too many.
    pub(crate) number: Option<u8>,
    /// The zones that it is asked for, as people write them; none: all names that are in no other's.
    pub zones: Vec<String>,
    /// Its address.
    pub address: SocketAddr,
    /// How it is asked.
    pub transport: Transport,
    /// Whether its AD bit is believed.
    pub trusted: bool,
    /// What happened so far.
    pub counters: UpstreamCounters,
    /// The connections that it is asked over.
    pub(crate) streams: Streams,
    /// The sockets that it is asked over.
    pub(crate) sockets: Sockets,
    /// How long it is waited for.
    pub(crate) timeout: Duration,
    /// What it was made of.
    made_of: (config::Upstream, config::Resolver),
    pub(crate) health: Mutex<Health>,
    times: Mutex<Times>,
    /// Its cookies; `None`: it is sent none.
    pub(crate) cookies: Option<Jar>,
    randomize_case: bool,
    /// How many of its answers spelled the question anew.
    respelled: AtomicU32,
    /// Until when it is asked without EDNS.
    plain_until: AtomicU64,
}

impl Upstream {
    pub(crate) fn new(config: &config::Upstream, how: &config::Resolver, labels: &Labels) -> Self {
        let label = config.label();
        Upstream {
            number: labels.number(&label),
            label,
            zones: config.zones.iter().map(|zone| names::display(zone)).collect(),
            address: config.address,
            transport: config.transport.clone(),
            trusted: config.trusted,
            counters: UpstreamCounters::default(),
            streams: Streams::new(config),
            sockets: Sockets::default(),
            timeout: config.timeout,
            made_of: (config.clone(), *how),
            health: Mutex::default(),
            times: Mutex::new(Times::new(how.hedge)),
            cookies: how.cookies.then(Jar::new),
            randomize_case: how.randomize_case,
            respelled: AtomicU32::new(0),
            plain_until: AtomicU64::new(0),
        }
    }

    /// Whether this is what would be made of a configuration. A file of certificates may have changed meanwhile.
    pub(crate) fn is(&self, config: &config::Upstream, how: &config::Resolver) -> bool {
        let (upstream, resolver) = &self.made_of;
        upstream == config
            && resolver == how
            && config.transport.tls().is_none_or(|tls| tls.ca_file.is_none())
    }

    /// How it does.
    pub fn health(&self) -> Health {
        *self.health.lock()
    }

    /// Whether it is put back behind the others at `now`.
    pub fn is_put_back(&self, now: Nanos) -> bool {
        self.health.lock().is_put_back(now)
    }

    /// How long its answers and failures have taken so far, in nanoseconds: from the first query over UDP to what it said in
    /// the end over TCP, if it came to that.
    pub fn times(&self) -> Histogram<u64> {
        self.times.lock().all().clone()
    }

    /// How long to wait for it before another is asked too; `None`: until it is given up.
    pub(crate) fn hedge_after(&self) -> Option<Duration> {
        self.times.lock().hedge_after()
    }

    /// Records that it answered, and how long that took.
    pub fn answered(&self, took: Duration) {
        self.health.lock().answered(took);
        self.times.lock().record(took);
    }

    /// Whether the letters of questions are drawn.
    pub(crate) fn randomizes_case(&self) -> bool {
        self.randomize_case && self.respelled.load(Relaxed) < RESPELLED_MAX
    }

    /// It has spelled a question anew.
    pub(crate) fn respells(&self) {
        self.counters.respelled.inc();
        if self.respelled.fetch_add(1, Relaxed) + 1 == RESPELLED_MAX {
            tracing::warn!(
                upstream = %self.label,
                "does not repeat the letter case of questions: it is no longer asked with random letters"
            );
        }
    }

    /// Whether it is asked with EDNS at `now`.
    pub(crate) fn takes_edns(&self, now: Nanos) -> bool {
        self.plain_until.load(Relaxed) <= now
    }

    /// It has answered without EDNS what it did not understand with it.
    pub(crate) fn chokes_on_edns(&self, now: Nanos) {
        self.plain_until.store(now + WITHOUT_EDNS.as_nanos() as Nanos, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_chokes_on_edns_is_asked_with_it_again_after_a_quarter_of_an_hour() {
        let text = "[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"192.0.2.1\"\n";
        let config = config::Config::parse(text, std::path::Path::new("")).unwrap();
        let upstream = Upstream::new(&config.upstreams[0], &config.resolver, &Labels::default());
        assert!(upstream.takes_edns(0));
        upstream.chokes_on_edns(5);
        let later = WITHOUT_EDNS.as_nanos() as Nanos + 5;
        assert!(!upstream.takes_edns(5) && !upstream.takes_edns(later - 1) && upstream.takes_edns(later));
    }

    #[test]
    fn what_we_lack_is_not_held_against_the_upstream() {
        let error = |errno: Errno| AskError::from(io::Error::from(errno));
        assert!(matches!(error(Errno::MFILE), AskError::NoSocket(_)));
        assert!(matches!(error(Errno::ADDRNOTAVAIL), AskError::NoSocket(_)));
        assert!(matches!(error(Errno::CONNREFUSED), AskError::Unreachable(_)));
        assert!(matches!(error(Errno::HOSTUNREACH), AskError::Unreachable(_)));
    }
}
