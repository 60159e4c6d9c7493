//! The upstreams: whom to ask next, and who is better left alone for a while.
//!
//! They are asked in the order of the configuration. One that did not answer several times in a row is put back
//! behind the others for a while; when all are, they are asked all the same, because a guess is better than none.

use super::{
    sockets::Sockets,
    stream::{HttpError, Streams},
};
use crate::{
    config::{self, Transport},
    counters::counters,
};
use parking_lot::Mutex;
use ringdns_dataplane::{clock::Nanos, dns::rcode};
use rustix::io::Errno;
use std::{cmp::Reverse, io, net::SocketAddr, sync::Arc, time::Duration};

/// Failures in a row from which an upstream is put back.
const PATIENCE: u32 = 3;
/// How long at first; doubled each time that it fails again.
const BACK_OFF: Duration = Duration::from_secs(1);
/// How long at most.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);

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
        /// Responses that are no well-formed DNS messages.
        malformed,
        /// Datagrams ignored because they are too short or no responses.
        ignored_not_response,
        /// Messages ignored because no query under way at their port or connection has their ID.
        ignored_wrong_id,
        /// Datagrams ignored because their question is not the query's.
        ignored_wrong_question,
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
    /// It says that it failed.
    #[error("the upstream answered with RCODE {0}")]
    Failure(u8),
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
    /// They failed; this is the response code to pass on and to remember.
    Upstreams(u8),
    /// We did not get to ask any. That says nothing about the question.
    Ourselves,
}

/// One upstream.
pub struct Upstream {
    /// Its address as it is written in the configuration.
    pub label: String,
    /// Its address.
    pub address: SocketAddr,
    /// How it is asked.
    pub transport: Transport,
    /// Whether its AD bit is believed.
    pub trusted: bool,
    /// What happened so far.
    pub counters: UpstreamCounters,
    /// The connections that it is asked over.
    pub(super) streams: Streams,
    /// The sockets that it is asked over.
    pub(super) sockets: Sockets,
    /// How long it is waited for.
    pub(super) timeout: Duration,
    pub(super) health: Mutex<Health>,
}

/// How an upstream does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Health {
    /// Failures since the last answer, not counting those while it was put back.
    pub failures: u32,
    /// Put back until then.
    pub until: Nanos,
    /// Time that answers take, smoothed as TCP does (RFC 6298: an eighth of each new one).
    pub round_trip: Duration,
}

impl Health {
    fn is_put_back(&self, now: Nanos) -> bool {
        now < self.until
    }

    fn put_back(&mut self, now: Nanos) {
        let doublings = (self.failures - PATIENCE).min(8);
        self.until = now + (BACK_OFF * (1 << doublings)).min(BACK_OFF_MAX).as_nanos() as Nanos;
    }

    /// It is about to be asked. True if its time has just ended and this question is to try it: the others go on as
    /// before until that has an answer.
    pub(super) fn asked(&mut self, now: Nanos) -> bool {
        let trial = self.failures >= PATIENCE && !self.is_put_back(now);
        if trial {
            self.put_back(now);
        }
        trial
    }

    pub(super) fn failed(&mut self, trial: bool, now: Nanos) {
        // Many questions fail together; while it is put back, only the one that tries it says something new.
        if self.is_put_back(now) && !trial {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= PATIENCE {
            self.put_back(now);
        }
    }

    pub(super) fn answered(&mut self, took: Duration) {
        let smoothed = if self.round_trip.is_zero() { took } else { (self.round_trip * 7 + took) / 8 };
        *self = Health { failures: 0, until: 0, round_trip: smoothed };
    }
}

impl Upstream {
    fn new(config: &config::Upstream) -> Self {
        Upstream {
            label: config.label(),
            address: config.address,
            transport: config.transport.clone(),
            trusted: config.trusted,
            counters: UpstreamCounters::default(),
            streams: Streams::new(config),
            sockets: Sockets::default(),
            timeout: config.timeout,
            health: Mutex::default(),
        }
    }

    /// How it does.
    pub fn health(&self) -> Health {
        *self.health.lock()
    }

    /// Whether it is put back behind the others at `now`.
    pub fn is_put_back(&self, now: Nanos) -> bool {
        self.health.lock().is_put_back(now)
    }
}

/// All upstreams.
pub struct Upstreams(Vec<Arc<Upstream>>);

impl Upstreams {
    /// Those of the configuration, in its order.
    pub fn new(configs: &[config::Upstream]) -> Self {
        Upstreams(configs.iter().map(|config| Arc::new(Upstream::new(config))).collect())
    }

    /// All of them, in the order of the configuration.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Upstream> {
        self.0.iter().map(|upstream| &**upstream)
    }

    /// One of those that [`Upstreams::order`] numbers.
    pub(super) fn get(&self, number: usize) -> &Arc<Upstream> {
        &self.0[number]
    }

    /// Whom to ask, the first one last: before that those that work, and before those the others, whose turn comes
    /// soonest last.
    pub(super) fn order(&self, now: Nanos) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.0.len()).rev().collect();
        let back = |number: &usize| {
            let until = self.0[*number].health.lock().until;
            Reverse(if now < until { until } else { 0 })
        };
        if order.len() > 1 {
            order.sort_by_cached_key(back);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    #[test]
    fn an_upstream_is_put_back_longer_and_longer_until_it_answers() {
        let mut health = Health::default();
        health.failed(false, 0);
        health.failed(false, 0);
        assert!(!health.is_put_back(0), "two lost packets are no outage");
        health.failed(false, 0);
        assert!(health.is_put_back(SECOND - 1) && !health.is_put_back(SECOND));
        // A thousand questions that fail together are one outage.
        (0..1000).for_each(|_| health.failed(false, SECOND / 2));
        assert!(!health.is_put_back(SECOND));

        // Its time is over: one question tries it, not all.
        assert!(health.asked(SECOND) && !health.asked(SECOND));
        health.failed(false, SECOND + 1);
        health.failed(true, SECOND + 2);
        assert!(health.is_put_back(3 * SECOND + 1) && !health.is_put_back(3 * SECOND + 2), "{health:?}");

        (0..40).for_each(|_| health.failed(true, 100 * SECOND));
        assert!(!health.is_put_back(130 * SECOND), "half a minute at most");
        health.answered(Duration::from_millis(8));
        assert!(!health.is_put_back(100 * SECOND) && !health.asked(100 * SECOND));
        assert_eq!(health.round_trip, Duration::from_millis(8));
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
