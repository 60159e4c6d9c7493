//! One UDP socket: the queries that wait there, and the datagrams that it receives.

use super::{AGE_MAX, NEAR_MISSES_MAX, QUERIES_MAX, unused_id};
use crate::upstream::{
    AskError, Upstream,
    attempt::Attempt,
    exchange::{Hint, Judged},
    told::{Ends, ExchangeTransport, UpstreamMessage},
    turn::Turn,
};
use arrayvec::ArrayVec;
use parking_lot::{Mutex, MutexGuard};
use ringdns_dataplane::clock::Nanos;
use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{RecvFlags, SendFlags, getpeername, getsockname, recv, send},
};
use std::{cell::RefCell, io, sync::Arc};
use tokio::time::Instant;

/// Longest datagram that is kept whole, in bytes. Queries ask for less, but some upstreams ignore
/// that.
const DATAGRAM_MAX: usize = 4096;
/// Most times that a query is sent. An error of an earlier one is reported in place of sending.
const SENDS_MAX: usize = 3;
/// Most IDs of ended queries that are remembered.
const ENDED_MAX: usize = 2 * QUERIES_MAX;

thread_local! {
    /// Bytes of the query that a thread sends.
    static QUERY: RefCell<Vec<u8>> = RefCell::default();
    /// Datagram that a thread has received.
    static DATAGRAM: RefCell<Box<[u8]>> = RefCell::new(vec![0; DATAGRAM_MAX].into());
}

/// Connected UDP socket.
pub(super) struct UpstreamSocket {
    udp: OwnedFd,
    /// Its number among the upstream's sockets.
    pub number: usize,
    /// Index of the upstream's address that it is connected to.
    address: usize,
    born: Instant,
    state: Mutex<SocketState>,
}

struct SocketState {
    waiting: Vec<WaitingQuery>,
    /// Number of queries that the socket has been given.
    queries: usize,
    /// Number of responses with an ID that no query had.
    near_misses: usize,
    /// IDs of queries that were answered or given up.
    ended: ArrayVec<u16, ENDED_MAX>,
    /// Time at which the first query is due, or the socket's age limit is reached.
    due: Instant,
    /// Whether it takes no new queries.
    retired: bool,
    /// Whether it was closed.
    closed: bool,
}

/// Query in flight.
struct WaitingQuery {
    id: u16,
    attempt: Box<dyn Attempt>,
    /// Time at which it was sent, if its exchange is told to a reader.
    told: Option<Nanos>,
}

/// Attempt that could not be sent; with the reason, unless the socket was closed before.
type Unsent = (Box<dyn Attempt>, Option<io::Error>);

impl UpstreamSocket {
    /// Returns a socket without queries, that is due at a time.
    pub fn new(udp: OwnedFd, number: usize, address: usize, born: Instant, due: Instant) -> Self {
        let state = SocketState {
            waiting: Vec::with_capacity(1),
            queries: 0,
            near_misses: 0,
            ended: ArrayVec::new(),
            due,
            retired: false,
            closed: false,
        };
        UpstreamSocket { udp, number, address, born, state: Mutex::new(state) }
    }

    /// Whether it has served enough queries, or others go to another address.
    pub fn is_worn(&self, upstream: &Upstream) -> bool {
        self.state.lock().queries >= QUERIES_MAX || self.address != upstream.addresses.preferred()
    }

    /// Whether no query waits.
    pub fn is_idle(&self) -> bool {
        self.state.lock().waiting.is_empty()
    }

    /// Takes no new queries. Returns whether the socket is closed now, because no query waits.
    pub fn close_if_done(&self) -> bool {
        let mut state = self.state.lock();
        state.retired = true;
        state.closed |= state.waiting.is_empty();
        state.closed
    }

    /// Closes the socket and drops its queries.
    pub fn close(&self) {
        let waiting = {
            let mut state = self.state.lock();
            (state.retired, state.closed) = (true, true);
            std::mem::take(&mut state.waiting)
        };
        drop(waiting);
    }

    /// Whether the socket is due at this time and at no other.
    pub fn is_due_at(&self, time: Instant) -> bool {
        self.state.lock().due == time
    }

    /// Sends the query of `attempt`. Returns the time at which it is due if that is sooner than all
    /// others.
    pub fn send(&self, upstream: &Upstream, attempt: Box<dyn Attempt>) -> Result<Option<Instant>, Unsent> {
        let mut state = self.state.lock();
        if state.retired {
            return Err((attempt, None));
        }
        upstream.counters.queries_udp.inc();
        let is_used = |id| state.waiting.iter().any(|waiting| waiting.id == id) || state.ended.contains(&id);
        let id = unused_id(rand::random, is_used);
        let told = upstream.pick();
        let sent = QUERY.with_borrow_mut(|query| {
            query.clear();
            attempt.write_query(id, query);
            let mut sent = send(&self.udp, query, SendFlags::empty());
            for _ in 1..SENDS_MAX {
                if sent.is_err() {
                    sent = send(&self.udp, query, SendFlags::empty());
                }
            }
            if let (Some(asked), Ok(_)) = (told, sent) {
                self.tell(upstream, asked, false, query);
            }
            sent
        });
        if let Err(errno) = sent {
            return Err((attempt, Some(errno.into())));
        }
        state.queries += 1;
        let due = attempt.due();
        state.waiting.push(WaitingQuery { id, attempt, told });
        let sooner = due < state.due;
        if sooner {
            state.due = due;
        }
        Ok(sooner.then_some(due))
    }

    /// Passes a message of a sampled exchange to the reader, with both addresses, which every connected
    /// socket has.
    fn tell(&self, upstream: &Upstream, asked: Nanos, is_response: bool, wire: &[u8]) {
        if let Some(ends) = self.ends() {
            let transport = ExchangeTransport::Udp;
            upstream.tell(&UpstreamMessage { transport, ends, asked, is_response, wire });
        }
    }

    fn ends(&self) -> Option<Ends> {
        let local = getsockname(&self.udp).ok()?.try_into().ok()?;
        Some((local, getpeername(&self.udp).ok()??.try_into().ok()?))
    }

    /// Receives one datagram or error.
    pub fn receive(&self, upstream: &Arc<Upstream>, turn: &mut Turn) {
        DATAGRAM.with_borrow_mut(|buffer| match recv(&self.udp, &mut **buffer, RecvFlags::DONTWAIT) {
            Ok((_, len)) => self.hear(&buffer[..len.min(DATAGRAM_MAX)], upstream, turn),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => self.hint(error, upstream, turn),
        });
    }

    /// Follows an error that the kernel reports, mostly because of an ICMP message. A forger need
    /// know neither ID nor question for one, so all queries stay in flight.
    fn hint(&self, errno: Errno, upstream: &Upstream, turn: &mut Turn) {
        tracing::debug!(upstream = %upstream.label, error = %errno, "UDP socket has an error");
        upstream.addresses.unreachable(self.address);
        let hinted: Vec<_> = {
            let mut state = self.state.lock();
            let hint = Hint::Unreachable(errno);
            state.waiting.iter_mut().filter_map(|waiting| waiting.attempt.hinted(hint)).collect()
        };
        let now = Instant::now();
        hinted.into_iter().for_each(|(inquiry, step)| inquiry.follow(step, now, turn));
    }

    /// Passes a datagram to its query, and counts it if it answers none.
    fn hear(&self, datagram: &[u8], upstream: &Arc<Upstream>, turn: &mut Turn) {
        let mut state = self.state.lock();
        let counters = &upstream.counters;
        let Some(&[i1, i0, flags, ..]) = datagram.first_chunk::<12>() else {
            return counters.ignored_not_response.inc();
        };
        let id = u16::from_be_bytes([i1, i0]);
        let Some(at) = state.waiting.iter().position(|waiting| waiting.id == id) else {
            counters.ignored_wrong_id.inc();
            // A late or second answer to a query of before is no guess.
            if flags & 0x80 != 0 && !state.ended.contains(&id) {
                self.near_miss(state, upstream);
            }
            return;
        };
        let told = state.waiting[at].told;
        let judged = state.waiting[at].attempt.judge(datagram);
        if let (Some(asked), Ok(_)) = (told, &judged) {
            self.tell(upstream, asked, true, datagram);
        }
        match judged {
            Ok(Judged::Hint(hint)) => {
                let hinted = state.waiting[at].attempt.hinted(hint);
                drop(state);
                if let Some((inquiry, step)) = hinted {
                    inquiry.follow(step, Instant::now(), turn);
                }
            }
            Ok(said) => {
                let attempt = state.waiting.swap_remove(at).attempt;
                remember(&mut state.ended, id);
                let done = state.waiting.is_empty() && (state.retired || state.queries >= QUERIES_MAX);
                drop(state);
                if done {
                    upstream.sockets.retire(self);
                }
                let now = Instant::now();
                upstream.addresses.heard(now);
                attempt.hear(Ok(said), now, turn);
            }
            Err(ignored) => ignored.inc(),
        }
    }

    /// Notes a response with an ID that no query had. After a few, queries that wait here are asked
    /// over TCP, and answers to them are no longer taken.
    fn near_miss(&self, mut state: MutexGuard<'_, SocketState>, upstream: &Upstream) {
        state.near_misses += 1;
        if state.near_misses < NEAR_MISSES_MAX {
            return;
        }
        let exposed = std::mem::take(&mut state.waiting);
        drop(state);
        upstream.counters.sockets_abandoned.inc();
        upstream.counters.exposed.add(exposed.len() as u64);
        upstream.sockets.retire(self);
        exposed.into_iter().for_each(|waiting| waiting.attempt.expose());
    }

    /// Gives up overdue queries, and begins hedging where it is due. Returns the next time at which
    /// to do so; `None`: the socket is to be retired.
    pub fn give_up(&self, upstream: &Upstream, now: Instant, turn: &mut Turn) -> Option<Instant> {
        let (late, over): (Vec<_>, Vec<_>) = {
            let mut state = self.state.lock();
            let late = state.waiting.iter_mut().filter_map(|waiting| waiting.attempt.overdue(now)).collect();
            (late, state.waiting.extract_if(.., |waiting| waiting.attempt.until() <= now).collect())
        };
        late.into_iter().for_each(|inquiry| inquiry.hedge(now, turn));
        for WaitingQuery { id, attempt, .. } in over {
            remember(&mut self.state.lock().ended, id);
            upstream.addresses.unanswered(self.address, attempt.began());
            attempt.hear(Err(AskError::Timeout), now, turn);
        }
        let old = now >= self.born + AGE_MAX;
        if old {
            upstream.sockets.retire(self);
        }
        let mut state = self.state.lock();
        let end = (!state.retired).then(|| self.born + AGE_MAX);
        let due = state.waiting.iter().map(|waiting| waiting.attempt.due()).chain(end).min();
        state.due = due.unwrap_or(state.due);
        due
    }
}

/// Adds an ID to those of ended queries, in place of an older one if they are too many.
fn remember(ended: &mut ArrayVec<u16, ENDED_MAX>, id: u16) {
    if ended.is_full() {
        ended.remove(0);
    }
    ended.push(id);
}
