//! Connections of the API, bounded in number, bytes and time: whatever its clients do, descriptors,
//! memory and CPU time are left for DNS.
//!
//! A connection carries one request. Its headers must be there within [`HEAD_TIME`], and its answer
//! must be read within [`ANSWER_TIME`], however slowly the client sends and reads. If all
//! connections are taken, a new one replaces the one that has sent no request for longest.

use super::{
    ApiCounters, ApiError, Service,
    caller::{Caller, Peer, Refusals},
    capture,
    guard::{self, HostRule},
    stall::Unstalled,
};
use crate::{
    listen::seats::{ConnectionSeat, Room, Seats},
    process::file_limit,
};
use axum::{
    Router,
    extract::Request,
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
};
use hyper::{
    body::Incoming,
    server::conn::http1::Builder,
    service::{Service as _, service_fn},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use ringdns_api::Role;
use rustix::net::sockopt;
use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    io,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixListener},
    sync::oneshot,
    time::{Instant, sleep, sleep_until, timeout},
};

/// Time within which the headers of a request must arrive.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Time within which a request must be answered and its answer read.
const ANSWER_TIME: Duration = Duration::from_secs(15);
/// Time for a profile, which may take 300 seconds, and names functions afterwards.
const PROFILE_TIME: Duration = Duration::from_secs(360);
/// Time for downloads of lists, which only callers of the role operate can ask for. Each may take
/// half an hour (`lists.timeout`).
const REFRESH_TIME: Duration = Duration::from_secs(3_600);
/// Time for a list or a dump of the cache, or for a load.
const DUMP_TIME: Duration = Duration::from_secs(600);
/// Time for which a closed connection discards what its client still sends: a close with bytes that
/// were not read would reset the connection, and the client would lose the answer.
const LINGER: Duration = Duration::from_millis(500);
/// Most bytes that are discarded so.
const LINGER_BYTES: usize = 256 << 10;
/// Most bytes of a request's line and headers.
const HEAD_BYTES: usize = 16 << 10;
/// Most header fields of a request.
const HEADERS: usize = 64;

/// Most connections of the Unix socket: more than the eight taps, so that requests find a place.
const SOCKET_CONNECTIONS: usize = 32;
/// Most TCP connections.
const HTTP_CONNECTIONS: usize = 64;
/// Most TCP connections of one client: others still find a place.
const HTTP_CONNECTIONS_OF_CLIENT: usize = 48;
/// Divisor of the number of descriptors: the most for the Unix socket, and for TCP.
const FILES_SHARE: usize = 32;

/// Least time between two TCP connections beyond [`HTTP_BURST`]: no number of clients takes more
/// than a part of one core.
const HTTP_GAP: Duration = Duration::from_millis(20);
/// TCP connections that are accepted at once.
const HTTP_BURST: u32 = 64;
/// Time until a connection is accepted again after a failure, such as a lack of descriptors.
const RETRY: Duration = Duration::from_millis(100);

/// Routes of an address or a socket, and the bounds of its connections.
pub(super) struct Door {
    router: Router,
    seats: Arc<Seats>,
    hosts: HostRule,
    refusals: Refusals,
    service: Arc<Service>,
}

impl Door {
    /// Returns the door for a Unix socket.
    pub(super) fn of_socket(router: Router, service: Arc<Service>) -> Arc<Self> {
        let most = SOCKET_CONNECTIONS.min(file_limit() / FILES_SHARE).max(1);
        Self::new(router, Seats::new(most, most), service)
    }

    /// Returns the door for a TCP address.
    pub(super) fn of_http(router: Router, service: Arc<Service>) -> Arc<Self> {
        let most = HTTP_CONNECTIONS.min(file_limit() / FILES_SHARE).max(1);
        Self::new(router, Seats::new(most, HTTP_CONNECTIONS_OF_CLIENT.min(most)), service)
    }

    fn new(router: Router, seats: Arc<Seats>, service: Arc<Service>) -> Arc<Self> {
        let hosts = HostRule::of(&service.config.control);
        Arc::new(Door { router, seats, hosts, refusals: Refusals::default(), service })
    }

    /// Accepts connections of a Unix socket until the task is dropped.
    pub(super) async fn serve_socket(self: Arc<Self>, listener: UnixListener) -> io::Result<()> {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let uid = stream.peer_cred().ok().map(|peer| peer.uid());
                    self.admit(stream, Peer::Socket { uid });
                }
                Err(error) => failed(&error).await,
            }
        }
    }

    /// Accepts TCP connections until the task is dropped.
    pub(super) async fn serve_http(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let mut pace = ConnectionPace::default();
        loop {
            pace.turn().await;
            match listener.accept().await {
                Ok((stream, client)) => {
                    let local = stream.local_addr().ok().map(|local| local.ip());
                    // A reader of a stream that is gone is noticed, though there are no rows to send to it.
                    if let Err(error) = sockopt::set_socket_keepalive(&stream, true) {
                        tracing::debug!(%error, "no keep-alive for a connection of the API");
                    }
                    self.admit(stream, Peer::Http { client, local });
                }
                Err(error) => failed(&error).await,
            }
        }
    }

    /// Serves a connection in a task of its own, if there is a place for it.
    fn admit<S>(self: &Arc<Self>, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let counters = &self.service.api;
        let Ok((seat, room)) = self.seats.take(peer.address()) else {
            return counters.connections_refused.inc();
        };
        counters.connections.inc();
        counters.connections_displaced.add(u64::from(room != Room::Free));
        let door = self.clone();
        tokio::spawn(async move { door.converse(stream, seat, peer).await });
    }

    /// Serves one connection to its end.
    #[cfg(any(test, fuzzing))]
    pub(super) async fn serve_one<S>(self: Arc<Self>, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if let Ok((seat, _)) = self.seats.take(peer.address()) {
            self.converse(stream, seat, peer).await;
        }
    }

    /// Serves the one request of a connection.
    async fn converse<S>(self: Arc<Self>, stream: S, seat: ConnectionSeat, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (seat, counters) = (Arc::new(seat), &self.service.api);
        let (begin, begun) = oneshot::channel();
        let begin = parking_lot::Mutex::new(Some(begin));
        let asked = seat.clone();
        let answer = service_fn(|request: Request<Incoming>| {
            asked.asked(1);
            let caller = Caller::of(peer, request.headers(), &self.service.reloader.tokens);
            if let Some(begin) = begin.lock().take() {
                let role = caller.as_ref().ok().and_then(Caller::role);
                let profiles = role == Some(Role::Operate) || self.service.config.control.profiles_over_http;
                // The receiver is there as long as the connection.
                let _ = begin.send(allowed(request.uri().path(), role, profiles));
            }
            Box::pin(self.answer(request, peer, caller))
        });
        let mut connection = Builder::new()
            .keep_alive(false)
            .half_close(true)
            .header_read_timeout(None)
            .max_buf_size(HEAD_BYTES)
            .max_headers(HEADERS)
            .serve_connection(TokioIo::new(Unstalled::new(stream)), answer);
        tokio::select! {
            served = poll_fn(|task| connection.poll_without_shutdown(task)) => {
                match served {
                    Err(error) if Unstalled::<S>::is_cause(&error) => return counters.connections_late.inc(),
                    Err(_) => counters.requests_malformed.inc(),
                    Ok(()) => {}
                }
            }
            () = overdue(begun) => return counters.connections_late.inc(),
            () = seat.wanted() => return,
        }
        linger(connection.into_parts().io.into_inner()).await;
    }

    /// Answers a request, unless it is refused before its path is looked at.
    async fn answer(
        &self,
        mut request: Request<Incoming>,
        peer: Peer,
        caller: Result<Caller, ApiError>,
    ) -> Result<Response, Infallible> {
        let ApiCounters { requests, requests_refused, requests_unauthorized, .. } = &self.service.api;
        requests.inc();
        let mut response = match guard::check(&request, &self.hosts, peer).and(caller) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                TowerToHyperService::new(self.router.clone()).call(request).await?
            }
            Err(refusal) => ApiError::into_response(refusal),
        };
        // Answers tell what people asked for: no browser is to keep them, or to guess what they are. Only
        // the files of the console say otherwise.
        response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if response.status().is_client_error() {
            requests_refused.inc();
        }
        if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            requests_unauthorized.inc();
            if let Some(count) = self.refusals.count() {
                let client = peer.address();
                tracing::warn!(%client, count, "requests without the role that they need were refused");
            }
        }
        Ok(response)
    }
}

/// Returns the time for a request from its headers until its answer is read. `None`: a tap or a capture,
/// which lasts as long as its client reads ([`stall`](super::stall)). A caller without the role that it
/// needs gets no more than a refusal. `profiles`: whether the caller may take profiles.
fn allowed(path: &str, role: Option<Role>, profiles: bool) -> Option<Duration> {
    match (path, role) {
        ("/v1/log/tap", Some(_)) | (capture::PATH, Some(Role::Operate)) => None,
        ("/v1/policy/refresh", Some(Role::Operate)) => Some(REFRESH_TIME),
        ("/v1/cache/list" | "/v1/cache/dump", Some(_)) => Some(DUMP_TIME),
        (guard::WITH_BODY, Some(Role::Operate)) => Some(DUMP_TIME),
        (path, _) if profiles && path.starts_with("/v1/debug/pprof/") => Some(PROFILE_TIME),
        _ => Some(ANSWER_TIME),
    }
}

/// Returns once a connection has had its time.
async fn overdue(begun: oneshot::Receiver<Option<Duration>>) {
    match timeout(HEAD_TIME, begun).await {
        Ok(Ok(Some(allowed))) => sleep(allowed).await,
        Ok(_) => pending().await,
        Err(_) => {}
    }
}

/// Closes a connection so that its client gets the whole answer.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let discard = async {
        let (mut left, mut buffer) = (LINGER_BYTES, [0; 4096]);
        while let Ok(n @ 1..) = stream.read(&mut buffer).await
            && n < left
        {
            left -= n;
        }
    };
    // A client that neither reads nor closes loses the rest.
    let _ = timeout(LINGER, discard).await;
}

async fn failed(error: &io::Error) {
    tracing::debug!(%error, "accepting a connection of the API failed");
    sleep(RETRY).await;
}

/// Rate of TCP connections.
struct ConnectionPace {
    /// Time at which the next one is due if they came evenly.
    due: Instant,
}

impl Default for ConnectionPace {
    fn default() -> Self {
        ConnectionPace { due: Instant::now() }
    }
}

impl ConnectionPace {
    /// Waits until one more connection may be accepted.
    async fn turn(&mut self) {
        let now = Instant::now();
        let earliest = now.checked_sub(HTTP_GAP * HTTP_BURST).unwrap_or(now);
        self.due = self.due.max(earliest) + HTTP_GAP;
        if self.due > now {
            sleep_until(self.due).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_callers_with_a_role_have_long_answers() {
        for (path, role, time) in [
            ("/v1/policy/refresh", Some(Role::Operate), Some(REFRESH_TIME)),
            ("/v1/policy/refresh", Some(Role::Read), Some(ANSWER_TIME)),
            ("/v1/policy/lists", Some(Role::Operate), Some(ANSWER_TIME)),
            ("/v1/log/tap", Some(Role::Read), None),
            ("/v1/cache/dump", Some(Role::Read), Some(DUMP_TIME)),
            ("/v1/cache/load", Some(Role::Read), Some(ANSWER_TIME)),
            ("/v1/cache/load", Some(Role::Operate), Some(DUMP_TIME)),
            ("/v1/log/tap", None, Some(ANSWER_TIME)),
            (capture::PATH, Some(Role::Operate), None),
            (capture::PATH, Some(Role::Read), Some(ANSWER_TIME)),
            ("/v1/debug/pprof/heap", None, Some(ANSWER_TIME)),
        ] {
            assert_eq!(allowed(path, role, false), time, "{path} {role:?}");
        }
        assert_eq!(allowed("/v1/debug/pprof/heap", None, true), Some(PROFILE_TIME));
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_accepted_at_once_and_then_a_few_at_a_time() {
        let mut pace = ConnectionPace::default();
        let began = Instant::now();
        tokio::time::advance(Duration::from_secs(60)).await;
        for _ in 0..HTTP_BURST {
            pace.turn().await;
        }
        assert_eq!(began.elapsed(), Duration::from_secs(60));
        for _ in 0..50 {
            pace.turn().await;
        }
        assert!(began.elapsed().as_millis().abs_diff(61_000) < 10, "{:?}", began.elapsed());
    }
}
