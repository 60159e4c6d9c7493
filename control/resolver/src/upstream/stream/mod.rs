//! Upstreams over TCP, TLS and HTTPS: few connections, kept for a while, many queries under way on each.
//!
//! A query goes out over the connection with the fewest under way; another one is opened when each has several, up to four. Answers
//! come in any order. How long a query waits is its asker's affair: who has waited enough drops the future.
//!
//! - A connection that brings nothing while somebody waits in vain gets no new queries: it may be dead without
//!   either side knowing, or be fed a byte a second. Those under way on it may wait on.
//! - A connection that breaks takes its queries along. If it had worked before, they are sent once more over one that
//!   has not, since the upstream may have closed it while they were on their way (RFC 7766 section 6.2.4).
//! - One that nobody uses is closed after some seconds (section 6.2.3).

mod connect;
mod framed;
mod http;

pub use http::HttpError;

use crate::upstream::{
    AskError, Upstream,
    exchange::{self, Judged, Manner, Rules},
};
use connect::{Link, Peer};
use parking_lot::Mutex;
use ringdns_config::Transport;
use ringdns_dataplane::dns::{header, key::Key, rtype};
use std::{
    io,
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep_until, timeout},
};

/// Connections to one upstream that take new queries.
const CONNECTIONS_MAX: usize = 4;
/// Queries under way on one connection; beyond all of them the next waits.
const IN_FLIGHT_MAX: usize = 128;
/// Queries under way on each connection from which another one is opened: servers may answer in order, and a lost packet
/// holds up all that follows.
const CROWDED: usize = 16;
/// How long a connection is kept for the next query.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How long TCP and TLS may take to be set up, over all of an upstream's addresses.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// The connections to an upstream.
pub struct Streams {
    peer: Peer,
    open: Mutex<Vec<Arc<Connection>>>,
    room: Semaphore,
}

/// A connection, or the attempt at one. Whoever waits for an answer holds it; it is closed when nobody does.
struct Connection {
    /// Nothing while it is being set up.
    link: watch::Receiver<Option<Result<Link, Arc<io::Error>>>>,
    times: Mutex<Times>,
}

#[derive(Clone, Copy)]
struct Times {
    /// When a query was last sent or answered.
    used: Instant,
    /// When a response last came.
    heard: Option<Instant>,
}

/// Asks an upstream over its stream transport; TCP, where that is UDP.
pub async fn ask(
    upstream: &Arc<Upstream>,
    key: &Key,
    rules: &Rules,
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
    // It is never closed.
    let _place = streams.room.acquire().await;
    let mut connection = streams.connection(upstream, false);
    let mut said = connection.exchange(streams, &query).await;
    if let Err(AskError::Unreachable(error)) = &said
        && connection.has_worked()
    {
        tracing::debug!(upstream = %upstream.label, question = %key, %error, "asking again over a new connection");
        connection = streams.connection(upstream, true);
        said = connection.exchange(streams, &query).await;
    }
    let judged = judge(upstream, key, rules, manner, &said?);
    if judged.is_err() {
        // What brought no answer is not used again.
        streams.retire(&connection);
    }
    judged
}

fn judge(
    upstream: &Upstream,
    key: &Key,
    rules: &Rules,
    manner: Manner,
    response: &[u8],
) -> Result<Judged, AskError> {
    match exchange::judge(upstream, key, rules, manner, response) {
        Ok(judged @ (Judged::Answer(..) | Judged::Failure(..) | Judged::NoEdns)) => Ok(judged),
        Ok(_) | Err(_) => Err(AskError::Malformed),
    }
}

/// Pads a query to a multiple of 128 bytes, so that its length says less about its name (RFC 7830, RFC 8467 section 4.1). Its
/// OPT record is the last one and begins at `opt`; without one there is nowhere to put it.
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
    /// None open yet.
    pub fn new(config: &ringdns_config::Upstream) -> Self {
        Streams {
            peer: Peer::new(config),
            open: Mutex::default(),
            room: Semaphore::new(CONNECTIONS_MAX * IN_FLIGHT_MAX),
        }
    }

    /// The connection for a query; for one that is sent again, none that has worked before.
    fn connection(&self, upstream: &Arc<Upstream>, fresh: bool) -> Arc<Connection> {
        let mut open = self.open.lock();
        // The Vec's own does not count.
        let load = |connection: &Arc<Connection>| Arc::strong_count(connection) - 1;
        if fresh {
            open.retain(|connection| !connection.has_worked());
        }
        let least = open.iter().min_by_key(|connection| load(connection));
        if let Some(least) = least
            && (load(least) < CROWDED || open.len() >= CONNECTIONS_MAX)
        {
            upstream.counters.connections_reused.inc();
            return least.clone();
        }
        let (established, link) = watch::channel(None);
        let times = Times { used: Instant::now(), heard: None };
        let connection = Arc::new(Connection { link, times: Mutex::new(times) });
        open.push(connection.clone());
        tokio::spawn(attend(upstream.clone(), Arc::downgrade(&connection), established));
        connection
    }

    /// No new queries for this one.
    fn retire(&self, connection: &Connection) {
        self.open.lock().retain(|open| !std::ptr::eq(&**open, connection));
    }

    /// The same, if nobody uses it; else when to look again.
    fn retire_idle(&self, connection: &Weak<Connection>) -> Option<Instant> {
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

/// A connection's task: sets it up and drives it, until it breaks or nobody holds it any more.
async fn attend(
    upstream: Arc<Upstream>,
    connection: Weak<Connection>,
    established: watch::Sender<Option<Result<Link, Arc<io::Error>>>>,
) {
    let (streams, counters) = (&upstream.streams, &upstream.counters);
    let retire = || {
        if let Some(connection) = connection.upgrade() {
            streams.retire(&connection);
        }
    };
    let connecting = timeout(CONNECT_MAX, streams.peer.connect(&upstream));
    let driver = match connecting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok((link, driver)) => {
            counters.connections.inc();
            established.send_replace(Some(Ok(link)));
            driver
        }
        Err(error) => {
            tracing::debug!(upstream = %upstream.label, %error, "no connection");
            // First: who asks again must not find it.
            retire();
            established.send_replace(Some(Err(Arc::new(error))));
            return;
        }
    };
    // Else its value would live as long as this task, and the link with it.
    drop(established);
    let mut driver = driver;
    let mut timer = pin!(sleep_until(Instant::now() + IDLE_MAX));
    let ended = loop {
        tokio::select! {
            ended = &mut driver => break ended,
            () = &mut timer => match streams.retire_idle(&connection) {
                Some(due) => timer.as_mut().reset(due),
                // Nobody will get it any more; it ends with its last query.
                None => break driver.await,
            },
        }
    };
    retire();
    counters.connections_closed.inc();
    tracing::debug!(upstream = %upstream.label, ?ended, "a connection is closed");
}

impl Connection {
    /// Whether it has brought a response.
    fn has_worked(&self) -> bool {
        self.times.lock().heard.is_some()
    }

    /// Sends a query when there is a link, and waits for the response.
    async fn exchange(self: &Arc<Self>, streams: &Streams, query: &[u8]) -> Result<Vec<u8>, AskError> {
        let mut link = self.link.clone();
        let link = match link.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ok(link))) => link.clone(),
            Ok(Some(Err(error))) => return Err(again(error).into()),
            // Its task is gone.
            Ok(None) | Err(_) => return Err(AskError::Unreachable(io::ErrorKind::ConnectionAborted.into())),
        };
        let sent = Instant::now();
        self.times.lock().used = sent;
        let waiting = Waiting { connection: self, streams, sent };
        let said = match link {
            Link::Framed(link) => link.exchange(query).await,
            Link::Http(link) => link.exchange(query).await,
        };
        match &said {
            Ok(_) => {
                let now = Instant::now();
                *self.times.lock() = Times { used: now, heard: Some(now) };
            }
            Err(AskError::Unreachable(_)) => streams.retire(self),
            Err(_) => {}
        }
        std::mem::forget(waiting);
        said
    }
}

/// A query while it is waited for. Dropped, it was given up.
struct Waiting<'a> {
    connection: &'a Connection,
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

/// The same error for somebody else.
fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
