//! Upstreams over TCP, TLS and HTTPS: few connections, kept for a while, with many queries in
//! flight on each.
//!
//! A query is sent over the connection with the fewest in flight; another connection is opened when
//! each has several, up to four. Answers come in any order. The caller decides how long a query
//! waits: it drops the future to give up.
//!
//! - A connection that brings nothing while a query times out gets no new queries: it may be dead
//!   without either side knowing, or receive a byte a second. Queries in flight on it may wait on.
//! - When a connection breaks, its queries fail. If it had worked before, they are sent again over
//!   one that has not, since the upstream may have closed it while they were on their way (RFC 7766
//!   section 6.2.4). Some upstreams close each connection after an answer, or a few: then as few
//!   queries share one.
//! - While a connection takes long to be set up, a second one is tried, once.
//! - An unused connection is closed after some seconds (RFC 7766 section 6.2.3).

mod connect;
mod framed;
mod http;

pub use http::HttpError;

use crate::upstream::{
    AskError, Upstream,
    exchange::{self, JudgeRules, Judged, Manner},
    told::{Ends, ExchangeTransport, UpstreamMessage},
};
use connect::{Connected, Peer, StreamLink};
use parking_lot::Mutex;
use ringdns_config::Transport;
use ringdns_dataplane::dns::{header, key::Key, rtype};
use std::{
    io,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep_until, timeout},
};

/// Most connections to one upstream that take new queries.
const CONNECTIONS_MAX: usize = 4;
/// Most queries in flight on one connection; when all connections are full, the next query waits.
const IN_FLIGHT_MAX: usize = 128;
/// Number of queries in flight on each connection from which another one is opened, for an upstream
/// that keeps connections open.
const CROWDED: usize = 16;
/// Time for setting up a connection after which a second one is tried: more than a round trip around
/// the world for TCP and one for TLS.
const SLOW: Duration = Duration::from_millis(600);
/// Time for which an unused connection is kept open.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// Most time for setting up TCP and TLS, over all addresses of an upstream.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// Connections to an upstream.
pub struct Streams {
    peer: Peer,
    open: Mutex<Vec<Arc<StreamConnection>>>,
    room: Semaphore,
    /// Number of queries in flight on each connection from which another one is opened: servers may
    /// answer in order, and a lost packet delays all that follows. At most [`CROWDED`].
    crowded: AtomicUsize,
}

/// Connection, or the attempt at one. Each waiting query holds it; it is closed when none does.
struct StreamConnection {
    /// Link for queries; `None` while it is being set up.
    link: watch::Receiver<Option<Result<EstablishedLink, Arc<io::Error>>>>,
    times: Mutex<ConnectionTimes>,
}

/// Link for queries, and the addresses at its ends.
type EstablishedLink = (StreamLink, Ends);

#[derive(Clone, Copy)]
struct ConnectionTimes {
    /// Time at which a query was last sent or answered.
    used: Instant,
    /// Time at which a response last came.
    heard: Option<Instant>,
    /// Number of responses.
    answers: usize,
}

/// Asks an upstream over its stream transport; over TCP if its transport is UDP.
pub async fn ask(
    upstream: &Arc<Upstream>,
    key: &Key,
    rules: &JudgeRules,
    manner: Manner,
) -> Result<Judged, AskError> {
    let (streams, counters) = (&upstream.streams, &upstream.counters);
    let mut query = Vec::new();
    exchange::write_query(upstream, key, manner, 0, &mut query);
    match upstream.transport {
        Transport::Udp | Transport::Tcp => counters.queries_tcp.inc(),
        Transport::Tls(_) => counters.queries_tls.inc(),
        Transport::Https(..) => counters.queries_https.inc(),
    }
    if upstream.transport.tls().is_some() {
        pad(&mut query, header::LEN + key.question().len());
    }
    // The semaphore is never closed, so this does not fail.
    let _place = streams.room.acquire().await;
    let mut connection = streams.settled(upstream, false).await;
    let said = loop {
        let said = connection.exchange(upstream, &query).await;
        let Err(AskError::Unreachable(error)) = &said else { break said };
        // Each further attempt is owed to a connection that brought an answer, so there are no more
        // attempts than answers.
        let Some(answers) = connection.answers() else { break said };
        tracing::debug!(
            upstream = %upstream.label, question = %key, %error, answers,
            "connection broke; query is sent again over a new one"
        );
        streams.crowded.fetch_min(answers, Relaxed);
        connection = streams.settled(upstream, true).await;
    };
    let judged = judge(upstream, key, rules, manner, &said?);
    if judged.is_err() {
        // A connection that brought an unusable response is not used again.
        streams.retire(&connection);
    }
    judged
}

fn judge(
    upstream: &Upstream,
    key: &Key,
    rules: &JudgeRules,
    manner: Manner,
    response: &[u8],
) -> Result<Judged, AskError> {
    match exchange::judge(upstream, key, rules, manner, response) {
        Ok(judged @ (Judged::Answer(..) | Judged::Failure(..) | Judged::NoEdns)) => Ok(judged),
        Ok(_) | Err(_) => Err(AskError::Malformed),
    }
}

/// Pads a query to a multiple of 128 bytes, so that its length reveals less about its name (RFC
/// 7830, RFC 8467 section 4.1). Its OPT record is the last one and begins at `opt`; a query without
/// one is left as it is.
fn pad(query: &mut Vec<u8>, opt: usize) {
    const BLOCK: usize = 128;
    const PADDING: u16 = 12;
    const OPTION_HEAD: usize = 4;
    let Some([0, rtype, ..]) = query.get(opt + 1..).filter(|opt| opt.len() >= 10) else { return };
    if u16::from(*rtype) != rtype::OPT {
        return;
    }
    let zeros = (query.len() + OPTION_HEAD).next_multiple_of(BLOCK) - query.len() - OPTION_HEAD;
    query.extend_from_slice(&PADDING.to_be_bytes());
    query.extend_from_slice(&(zeros as u16).to_be_bytes());
    query.resize(query.len() + zeros, 0);
    let length = (query.len() - opt - 11) as u16;
    query[opt + 9..opt + 11].copy_from_slice(&length.to_be_bytes());
}

impl Streams {
    /// Returns streams without a connection.
    pub fn new(config: &ringdns_config::UpstreamConfig) -> Self {
        Streams {
            peer: Peer::new(config),
            open: Mutex::default(),
            room: Semaphore::new(CONNECTIONS_MAX * IN_FLIGHT_MAX),
            crowded: AtomicUsize::new(CROWDED),
        }
    }

    /// Returns the connection for a query; `fresh`: for one that is sent again, a connection that
    /// has not worked before.
    fn connection(&self, upstream: &Arc<Upstream>, fresh: bool) -> Arc<StreamConnection> {
        let mut open = self.open.lock();
        // The reference in `open` does not count.
        let load = |connection: &Arc<StreamConnection>| Arc::strong_count(connection) - 1;
        if fresh {
            open.retain(|connection| !connection.has_worked());
        }
        let least = open.iter().min_by_key(|connection| load(connection));
        if let Some(least) = least
            && (load(least) < self.crowded.load(Relaxed) || open.len() >= CONNECTIONS_MAX)
        {
            upstream.counters.connections_reused.inc();
            return least.clone();
        }
        let (established, link) = watch::channel(None);
        let times = ConnectionTimes { used: Instant::now(), heard: None, answers: 0 };
        let connection = Arc::new(StreamConnection { link, times: Mutex::new(times) });
        open.push(connection.clone());
        tokio::spawn(attend(upstream.clone(), Arc::downgrade(&connection), established));
        connection
    }

    /// Returns a connection that is set up, or has failed to be. The first one may be stuck, so after
    /// a while a second one is tried, and the first of them to succeed is taken.
    async fn settled(&self, upstream: &Arc<Upstream>, fresh: bool) -> Arc<StreamConnection> {
        let first = self.connection(upstream, fresh);
        if timeout(SLOW, first.settle()).await.is_ok() {
            return first;
        }
        self.retire(&first);
        let second = self.connection(upstream, fresh);
        tokio::select! {
            works = first.settle() => if works || !second.settle().await { first } else { second },
            works = second.settle() => if works || !first.settle().await { second } else { first },
        }
    }

    /// Excludes a connection from new queries.
    fn retire(&self, connection: &StreamConnection) {
        self.open.lock().retain(|open| !std::ptr::eq(&**open, connection));
    }

    /// Excludes a connection from new queries if no query uses it; else returns the time at which
    /// to check again.
    fn retire_idle(&self, connection: &Weak<StreamConnection>) -> Option<Instant> {
        let mut open = self.open.lock();
        let at = open.iter().position(|open| std::ptr::eq(Arc::as_ptr(open), connection.as_ptr()))?;
        let due = open[at].times.lock().used + IDLE_MAX;
        let now = Instant::now();
        if Arc::strong_count(&open[at]) > 1 {
            return Some(now + IDLE_MAX);
        }
        if now < due {
            return Some(due);
        }
        open.swap_remove(at);
        None
    }
}

/// Task of a connection: sets it up and drives it, until it breaks or nothing holds it any more.
async fn attend(
    upstream: Arc<Upstream>,
    connection: Weak<StreamConnection>,
    established: watch::Sender<Option<Result<EstablishedLink, Arc<io::Error>>>>,
) {
    let (streams, counters) = (&upstream.streams, &upstream.counters);
    let retire = || {
        if let Some(connection) = connection.upgrade() {
            streams.retire(&connection);
        }
    };
    let driver = match streams.peer.connect(&upstream).await {
        Ok(Connected { link, ends, driver }) => {
            counters.connections.inc();
            established.send_replace(Some(Ok((link, ends))));
            driver
        }
        Err(error) => {
            tracing::debug!(upstream = %upstream.label, %error, "connecting failed");
            // Retire it first: a query that is sent again must not find it.
            retire();
            established.send_replace(Some(Err(Arc::new(error))));
            return;
        }
    };
    // Otherwise its value, and the link in it, would live as long as this task.
    drop(established);
    let mut driver = driver;
    let mut timer = pin!(sleep_until(Instant::now() + IDLE_MAX));
    let ended = loop {
        tokio::select! {
            ended = &mut driver => break ended,
            () = &mut timer => match streams.retire_idle(&connection) {
                Some(due) => timer.as_mut().reset(due),
                // No query will get it any more; it ends with its last query.
                None => break driver.await,
            },
        }
    };
    retire();
    counters.connections_closed.inc();
    tracing::debug!(upstream = %upstream.label, ?ended, "connection closed");
}

impl StreamConnection {
    /// Whether it has brought a response.
    fn has_worked(&self) -> bool {
        self.times.lock().heard.is_some()
    }

    /// Returns the number of responses; `None`: none.
    fn answers(&self) -> Option<usize> {
        Some(self.times.lock().answers).filter(|answers| *answers > 0)
    }

    /// Waits until the connection is set up or has failed to be. Returns whether there is a link.
    async fn settle(&self) -> bool {
        matches!(self.link.clone().wait_for(Option::is_some).await.as_deref(), Ok(Some(Ok(_))))
    }

    /// Sends a query when there is a link, and waits for the response.
    async fn exchange(self: &Arc<Self>, upstream: &Upstream, query: &[u8]) -> Result<Vec<u8>, AskError> {
        let streams = &upstream.streams;
        let mut link = self.link.clone();
        let (link, ends) = match link.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ok(link))) => link.clone(),
            Ok(Some(Err(error))) => return Err(again(error).into()),
            // The connection's task is gone.
            Ok(None) | Err(_) => return Err(AskError::Unreachable(io::ErrorKind::ConnectionAborted.into())),
        };
        let sent = Instant::now();
        self.times.lock().used = sent;
        let waiting = Waiting { connection: self, streams, sent };
        let told = upstream.pick();
        let tell = |is_response: bool, wire: &[u8]| {
            if let Some(asked) = told {
                let transport = transport_of(upstream);
                upstream.tell(&UpstreamMessage { transport, ends, asked, is_response, wire });
            }
        };
        tell(false, query);
        let said = match link {
            StreamLink::Framed(link) => link.exchange(query).await,
            StreamLink::Http(link) => link.exchange(query).await,
        };
        match &said {
            Ok(response) => {
                tell(true, response);
                let now = Instant::now();
                let mut times = self.times.lock();
                let answers = times.answers + 1;
                *times = ConnectionTimes { used: now, heard: Some(now), answers };
                drop(times);
                streams.crowded.fetch_max(answers.min(CROWDED), Relaxed);
            }
            Err(AskError::Unreachable(_)) => streams.retire(self),
            Err(_) => {}
        }
        std::mem::forget(waiting);
        said
    }
}

/// Returns the transport of an upstream's connections.
fn transport_of(upstream: &Upstream) -> ExchangeTransport {
    match upstream.transport {
        Transport::Udp | Transport::Tcp => ExchangeTransport::Tcp,
        Transport::Tls(_) => ExchangeTransport::Tls,
        Transport::Https(..) => ExchangeTransport::Https,
    }
}

/// Query that waits for its response. Dropping it means that it was given up.
struct Waiting<'a> {
    connection: &'a StreamConnection,
    streams: &'a Streams,
    sent: Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let heard = self.connection.times.lock().heard;
        if heard.is_none_or(|heard| heard < self.sent) {
            self.streams.retire(self.connection);
        }
    }
}

/// Copies an error for another query.
fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
