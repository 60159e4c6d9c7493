//! DNS over TCP (RFC 7766): listens on the same addresses as UDP, and answers from the host tier
//! and the resolver.
//!
//! A connection carries many queries at once, and each is answered as soon as its answer is there.
//! The memory of one connection, and of all together, is bounded.

use crate::{busiest::Busiest, lists::ListKeeper};
use arc_swap::{ArcSwap, ArcSwapOption};
use framing::{finish, framed, silent, write_replies};
use ringdns_common::counters;
use ringdns_config::TcpConfig;
use ringdns_dataplane::{
    census::CensusStats,
    dns::{
        header,
        option::OPT_MAX,
        query::{Query, Reject},
        reply::{self, ReplyLimits},
    },
    log::{AnswerSource, Logged, Outcome, Protocol},
    packet::mapped,
    policy::{Asker, QueryPolicy, Refusal},
    process::AnswerConfig,
};
use ringdns_dnstap::{Dnstap, Kind};
use ringdns_querylog::{LogGroups, QueryLog};
use ringdns_resolver::{Client, Resolved, Resolver, pump::WaitingNotify};
use seats::{ConnectionSeat, Room, Seats};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpListener,
    sync::{Semaphore, mpsc},
    time::timeout,
};

mod framing;
pub(crate) mod seats;

/// Largest message in bytes: the length field has two bytes (RFC 1035 section 4.2.2).
const MESSAGE_MAX: usize = u16::MAX as usize;
/// Most replies of one connection that wait to be written. Few, because each may have 64 KiB.
const OUTBOX: usize = 2;
/// Most connections at once of clients that may not ask, and of one of them. Each gets one answer,
/// REFUSED, and takes no seat of a client that may.
const DENIED_CONNECTIONS: [usize; 2] = [16, 2];

counters! {
    /// Counters of the TCP listener.
    ListenCounters {
        /// TCP connections accepted.
        connections,
        /// TCP connections refused because the limit was reached, no other connection was idle, and no
        /// client had many more connections than this one.
        connections_refused,
        /// Idle TCP connections closed in favour of new ones because the limit was reached.
        connections_displaced,
        /// TCP connections with queries in flight closed in favour of a client with fewer connections,
        /// because the limit was reached.
        connections_evicted,
        /// TCP connections refused because the access list denies the client.
        connections_denied,
        /// TCP connections closed because the client sent nothing, or read nothing, for too long.
        connections_idle,
        /// Messages received over TCP.
        queries,
        /// Queries over TCP that were answered.
        answered,
        /// Queries over TCP answered with an error because they are malformed, unsupported or not
        /// allowed.
        rejected,
        /// Messages over TCP not answered because they are no queries.
        dropped,
        /// Queries over TCP not answered because a list says so.
        withheld,
        /// NOTIFY messages of primaries by which a policy zone is transferred.
        notifies,
        /// NOTIFY messages of primaries about a zone that is not transferred from them, or without the
        /// signature that the zone asks for.
        notifies_refused,
        /// Answers over TCP dropped because the client had closed the connection.
        abandoned,
    }
}

/// Addresses of both ends of a connection.
#[derive(Clone, Copy, Debug)]
struct Ends {
    client: SocketAddr,
    server: SocketAddr,
}

/// Server of queries over TCP.
pub struct Listener {
    resolver: Arc<Resolver>,
    policy: ArcSwap<QueryPolicy>,
    rules: AnswerConfig,
    bounds: TcpConfig,
    seats: Arc<Seats>,
    /// Seats of clients that may not ask.
    denied: Arc<Seats>,
    /// `None`: nothing is logged.
    log: Option<Arc<QueryLog>>,
    /// Policy zones, whose primaries may tell of changes.
    zones: ArcSwapOption<ListKeeper>,
    /// dnstap output, once it is set.
    tap: OnceLock<Arc<Dnstap>>,
    /// Counts of names and clients, once they are set.
    busiest: OnceLock<Arc<Busiest>>,
    /// Counters so far.
    pub counters: ListenCounters,
    /// Queries and answers by kind.
    pub census: CensusStats,
}

impl Listener {
    /// Returns a listener for any number of addresses.
    pub fn new(
        resolver: Arc<Resolver>,
        policy: Arc<QueryPolicy>,
        rules: AnswerConfig,
        bounds: TcpConfig,
        log: Option<Arc<QueryLog>>,
    ) -> Arc<Self> {
        let seats = Seats::new(bounds.connections, bounds.connections_per_client);
        let [most, most_of_client] = DENIED_CONNECTIONS;
        let denied = Seats::new(most, most_of_client);
        let counters = ListenCounters::default();
        let (policy, zones) = (policy.into(), ArcSwapOption::empty());
        let census = CensusStats::default();
        let (tap, busiest) = (OnceLock::new(), OnceLock::new());
        Arc::new(Listener {
            resolver,
            policy,
            rules,
            bounds,
            seats,
            denied,
            log,
            zones,
            tap,
            busiest,
            counters,
            census,
        })
    }

    /// Replaces the policy for queries.
    pub fn set_policy(&self, policy: Arc<QueryPolicy>) {
        self.policy.store(policy);
    }

    /// Tells dnstap of queries and answers from now on.
    pub fn set_tap(&self, tap: Arc<Dnstap>) {
        // It is set once, at the start.
        let _ = self.tap.set(tap);
    }

    /// Counts names and clients from now on.
    pub fn set_busiest(&self, busiest: Arc<Busiest>) {
        // It is set once, at the start.
        let _ = self.busiest.set(busiest);
    }

    /// Replaces the groups of clients in the query log.
    pub fn set_log_groups(&self, groups: LogGroups) {
        if let Some(busiest) = self.busiest.get() {
            busiest.set_groups(groups.clone());
        }
        if let Some(log) = &self.log {
            log.set_groups(groups);
        }
    }

    /// Accepts connections until the task is dropped.
    pub async fn serve(self: Arc<Self>, socket: TcpListener) {
        loop {
            let (stream, client) = match socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // The client hung up, or file descriptors ran out, which takes a moment to
                    // recover from.
                    tracing::debug!(%error, "accepting a TCP connection failed");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            // A denied client gets one answer, REFUSED, or none.
            let policy = self.policy.load();
            let (most, seats) = if policy.access.allows(client.ip()) {
                (usize::MAX, &self.seats)
            } else if policy.refusal == Refusal::Answer {
                (1, &self.denied)
            } else {
                self.counters.connections_denied.inc();
                continue;
            };
            let seat = match seats.take(client.ip()) {
                Ok((seat, room)) => {
                    self.counters.connections_displaced.add(u64::from(room == Room::OfIdle));
                    self.counters.connections_evicted.add(u64::from(room == Room::OfGreediest));
                    seat
                }
                Err(full) => {
                    tracing::debug!(%client, ?full, "a TCP connection was refused: the limit is reached");
                    self.counters.connections_refused.inc();
                    continue;
                }
            };
            self.counters.connections.inc();
            let listener = self.clone();
            tokio::spawn(async move {
                // No Nagle delay: answers go out one by one, as soon as they are there.
                let served = match stream.set_nodelay(true) {
                    Ok(()) => match stream.local_addr() {
                        Ok(server) => {
                            listener.converse(stream, Ends { client, server }, Arc::new(seat), most).await
                        }
                        Err(error) => Err(error),
                    },
                    Err(error) => Err(error),
                };
                if let Err(error) = served {
                    listener.ended(client, &error);
                }
            });
        }
    }

    fn ended(&self, client: SocketAddr, error: &io::Error) {
        if error.kind() == io::ErrorKind::TimedOut {
            self.counters.connections_idle.inc();
        }
        tracing::debug!(%client, %error, "a TCP connection ended");
    }

    /// Serves one connection, for at most `most` messages. Ends when the client closes it, when it
    /// is idle for too long with no query in flight, or when a new connection takes its seat.
    async fn converse(
        self: &Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        ends: Ends,
        seat: Arc<ConnectionSeat>,
        most: usize,
    ) -> io::Result<()> {
        let (mut from, to) = tokio::io::split(stream);
        let (replies, outbox) = mpsc::channel(OUTBOX);
        let writer = tokio::spawn(write_replies(to, outbox, self.bounds.idle));
        let turns = Arc::new(Semaphore::new(self.bounds.in_flight));
        let mut read = Ok(());
        for _ in 0..most {
            let next = async {
                // Acquired before the message is read: a client with too many queries in flight is
                // not read from.
                let turn = turns.clone().acquire_owned().await.map_err(io::Error::other)?;
                Ok(self.next_message(&mut from, &seat).await?.map(|message| (turn, message)))
            };
            let next = tokio::select! {
                next = next => next,
                () = seat.wanted() => break,
            };
            let (turn, message) = match next {
                Ok(Some(next)) => next,
                Ok(None) => break,
                Err(error) => {
                    read = Err(error);
                    break;
                }
            };
            self.counters.queries.inc();
            seat.asked();
            let (listener, replies, seat) = (self.clone(), replies.clone(), seat.clone());
            let answering = async move {
                listener.answer(message, ends, &replies).await;
                seat.answered();
                drop(turn);
            };
            tokio::spawn(answering);
            if writer.is_finished() {
                break;
            }
        }
        if seat.is_evicted() {
            // The new connection has its seat: this one must not wait for its answers.
            writer.abort();
            return read;
        }
        // The client may have closed only its sending side: queries in flight are still answered.
        drop(replies);
        let written = writer.await.map_err(io::Error::other)?;
        read.and(written)
    }

    /// Reads a message after its length; `None` at the end of the connection. Silence is an error
    /// only while no query is in flight. A message that has begun must be complete in time, in
    /// however many pieces it comes.
    async fn next_message(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        seat: &ConnectionSeat,
    ) -> io::Result<Option<Vec<u8>>> {
        let mut length = [0; 2];
        loop {
            // A read of a single byte can be cancelled without losing data.
            match timeout(self.bounds.idle, from.read(&mut length[..1])).await {
                Ok(Ok(0)) => return Ok(None),
                Ok(Ok(_)) => break,
                Ok(Err(error)) => return Err(error),
                Err(_) if seat.is_at_work() => {}
                Err(_) => return Err(silent()),
            }
        }
        let rest = async {
            from.read_exact(&mut length[1..]).await?;
            let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
            from.read_exact(&mut message).await?;
            Ok(Some(message))
        };
        timeout(self.bounds.idle, rest).await.unwrap_or_else(|_| Err(silent()))
    }

    /// Lets primaries tell that their zones have changed.
    pub fn set_zones(&self, zones: Arc<ListKeeper>) {
        self.zones.store(Some(zones));
    }

    /// Returns the reply to a NOTIFY. `None`: it is none, or there are no zones.
    async fn notified(&self, message: &[u8], client: IpAddr) -> Option<Vec<u8>> {
        let zones = self.zones.load_full()?;
        let (reply, is_accepted) = zones.notify(client, message).await?;
        let counters = &self.counters;
        (if is_accepted { &counters.notifies } else { &counters.notifies_refused }).inc();
        Some(reply)
    }

    /// Answers the NOTIFY messages that come over UDP, until all senders are gone.
    pub async fn answer_notifies(self: Arc<Self>, mut waiting: mpsc::Receiver<WaitingNotify>) {
        while let Some(notify) = waiting.recv().await {
            let reply = match notify.message() {
                Some((message, client)) => self.notified(message, client).await,
                None => None,
            };
            notify.answer(reply);
        }
    }

    /// Answers a NOTIFY that came over TCP.
    async fn answer_notify(&self, message: &[u8], client: IpAddr, replies: &mpsc::Sender<Vec<u8>>) {
        let Some(reply) = self.notified(message, client).await else { return self.counters.dropped.inc() };
        match replies.reserve().await {
            Ok(room) => room.send(finish(framed(&reply, reply.len()), reply.len())),
            Err(_) => self.counters.abandoned.inc(),
        }
    }

    /// Answers a message, unless it is one to be dropped.
    async fn answer(&self, mut message: Vec<u8>, ends: Ends, replies: &mpsc::Sender<Vec<u8>>) {
        let client = ends.client.ip();
        let mut query = Query::default();
        let clock = self.resolver.clock();
        let received = clock.nanos();
        let asker = Asker { client, connected: true, now: clock.epoch().wrapping_add(clock.secs()) };
        let tap = self.tap.get().filter(|tap| tap.picks_tcp());
        if let Some(tap) = tap {
            tap.note_tcp(Kind::ClientQuery, (ends.client, ends.server), received, &message);
        }
        let policy = self.policy.load_full();
        let (verdict, mut options) = policy.read(&message, &mut query, &asker);
        if verdict == Err(Reject::Notify) {
            return self.answer_notify(&message, client, replies).await;
        }
        if query.edns.is_some_and(|edns| edns.keepalive) {
            options.keepalive = Some(in_tenths(self.bounds.idle));
        }
        // Keep only what a reply needs: padding must not take memory until the answer is there.
        message.truncate((header::LEN + query.question_len()).min(message.len()));
        message.shrink_to_fit();
        let limits = ReplyLimits { reply: MESSAGE_MAX, advertise: self.rules.udp_limit, options };
        let resolved = match verdict {
            Ok(()) => {
                let client = Client { address: client, group: policy.groups.of(client) };
                Ok(self.resolver.resolve_for(Some(client), &query.key).await)
            }
            Err(reject) => Err(reject),
        };
        // Wait for room before building the reply: the answer that waits is shared with the host
        // tier.
        let Ok(room) = replies.reserve().await else { return self.counters.abandoned.inc() };
        let (reply, counter) = match &resolved {
            Ok(Resolved { is_withheld: true, .. }) => (None, &self.counters.withheld),
            Ok(resolved) => {
                let list = resolved.source.list.and_then(|list| policy.name_of_list(list));
                let reply = self.reply(&message, &query, (resolved, list), &limits);
                (Some(reply), &self.counters.answered)
            }
            Err(reject) => match rejection(&message, &query, *reject, &limits) {
                Some(reply) => (Some(reply), &self.counters.rejected),
                None => (None, &self.counters.dropped),
            },
        };
        counter.inc();
        let Some(reply) = reply else { return };
        if let Some(tap) = tap {
            tap.note_tcp(Kind::ClientResponse, (ends.client, ends.server), received, &reply[2..]);
        }
        let (rcode, outcome, source) = match &resolved {
            Ok(resolved) => self.outcome(resolved),
            Err(reject) => (reject.rcode(), Outcome::Rejected, AnswerSource::default()),
        };
        // Without a question, the key is an empty one, and its type 0.
        self.census.share(client.is_ipv6(), query.key.asked().qtype(), rcode);
        if let Some(busiest) = self.busiest.get() {
            busiest.tell_tcp(mapped(client), &query.key, query.question_len(), rcode);
        }
        if let Some(log) = &self.log {
            log.note_tcp(
                &query,
                Logged {
                    at: received,
                    client: mapped(client),
                    question: &[],
                    protocol: Protocol::Tcp,
                    outcome,
                    rcode,
                    answer_bytes: (reply.len() - 2) as u16,
                    service_ns: u32::try_from(clock.nanos().saturating_sub(received)).unwrap_or(u32::MAX),
                    source,
                },
            );
        }
        room.send(reply);
    }

    /// Returns response code, outcome and source of an answer for the query log.
    fn outcome(&self, resolved: &Resolved) -> (u16, Outcome, AnswerSource) {
        let rcode = resolved.answer.status.rcode();
        let age = resolved.age(self.resolver.clock().secs(), self.rules.stale_ttl);
        (rcode.into(), resolved.source.outcome(rcode, age), resolved.source)
    }

    /// Returns the framed reply to a query, with an answer and the name of the list that gave it.
    fn reply(
        &self,
        message: &[u8],
        query: &Query,
        (resolved, list): (&Resolved, Option<&str>),
        limits: &ReplyLimits<'_>,
    ) -> Vec<u8> {
        let view = resolved.answer.view().by(list);
        let head = header::LEN + query.question_len();
        let room = (head + view.wire.len() + OPT_MAX).min(MESSAGE_MAX);
        let mut framed = framed(&message[..head], room);
        let age = resolved.age(self.resolver.clock().secs(), self.rules.stale_ttl);
        let reply = reply::answer(&mut framed[2..], head, query, view, age, limits);
        finish(framed, reply.len)
    }
}

fn rejection(message: &[u8], query: &Query, reject: Reject<'_>, limits: &ReplyLimits<'_>) -> Option<Vec<u8>> {
    let mut framed = framed(message, message.len() + OPT_MAX);
    let len = reply::reject(&mut framed[2..], query, reject, limits);
    (len > 0).then(|| finish(framed, len))
}

/// Returns a time in units of 100 ms, as in the edns-tcp-keepalive option (RFC 7828 section 3.1).
fn in_tenths(time: Duration) -> u16 {
    u16::try_from(time.as_millis() / 100).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
