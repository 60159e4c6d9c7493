//! DNS over TCP (RFC 7766): listens on the same addresses as UDP, and answers from the host tier
//! and the resolver.
//!
//! A connection carries many queries at once, and each is answered as soon as its answer is there.
//! The memory of one connection, and of all together, is bounded.

use crate::{busiest::Busiest, lists::ListKeeper};
use arc_swap::{ArcSwap, ArcSwapOption};
use connection::Connection;
use ringdns_common::counters;
use ringdns_config::TcpConfig;
use ringdns_dataplane::{
    census::CensusStats,
    policy::{QueryPolicy, Refusal},
    process::AnswerConfig,
};
use ringdns_dnstap::Dnstap;
use ringdns_querylog::{LogGroups, QueryLog};
use ringdns_resolver::{Resolver, pump::WaitingNotify};
use seats::{ConnectionSeat, Room, Seats};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::mpsc,
};

mod answer;
mod connection;
mod framing;
pub(crate) mod seats;

/// Largest message in bytes: the length field has two bytes (RFC 1035 section 4.2.2).
const MESSAGE_MAX: usize = u16::MAX as usize;
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
                        Ok(server) => listener.converse(stream, Ends { client, server }, seat, most).await,
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
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
        ends: Ends,
        seat: ConnectionSeat,
        most: usize,
    ) -> io::Result<()> {
        Connection::new(self.clone(), stream, ends, seat, most).serve().await
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
}

#[cfg(test)]
mod tests;
