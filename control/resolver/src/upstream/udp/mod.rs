//! UDP sockets that an upstream is asked over: few, shared by the queries of a moment, and soon
//! closed.
//!
//! A forger who sees neither queries nor answers must guess the port and the ID of a query (RFC
//! 5452), and must do so while the query is in flight. Sharing a port changes this:
//!
//! - *A guess is worth the same.* It names one question, for which one query is in flight, with one
//!   ID of 65,536, over one of some 28,000 ports that the kernel draws at random. Other questions
//!   on the same port do not help the guess: port, ID and question together decide which query an
//!   answer belongs to.
//! - *A known port is worth more*, since it serves other queries too. Ports do become known, one at
//!   a time and within seconds, through the kernel's replies for closed ports (SAD DNS). So a port
//!   serves 64 queries or one second, whichever ends first, and the port for a query is drawn at
//!   random from several open ones. Infrequent queries have a port each.
//! - *Guessing IDs at a known port shows*: the responses have IDs that no query had. After a few of
//!   them the queries in flight there are asked over TCP, and the port is closed.
//!
//! A datagram that proves nothing, and an error of the kernel, end no wait: they hurry the next
//! step, and the answer that still comes is taken.
//!
//! Sockets are connected, so that the kernel drops datagrams from other addresses and ports (RFC
//! 5452 section 9) and reports an unreachable upstream. Late or duplicate answers arrive at a
//! socket that is still open: they are counted as answers with a wrong ID.
//!
//! One task serves each socket. It waits for datagrams, and for one timer: that of the query that
//! is due first.

mod mmsg;

use crate::upstream::{
    Addresses, AskError, Upstream, UpstreamCounters,
    attempt::Attempt,
    exchange::{Hint, Judged},
    turn::Turn,
};
use mmsg::{Outbox, Receiver};
use parking_lot::{Mutex, MutexGuard};
use rand::Rng;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType},
};
use std::{cell::RefCell, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::Interest,
    net::UdpSocket,
    sync::Notify,
    time::{Instant, sleep_until},
};

/// Most queries that one socket serves.
pub const QUERIES_MAX: usize = 64;
/// Time for which a socket takes new queries.
pub const AGE_MAX: Duration = Duration::from_secs(1);
/// Most sockets of an upstream that take new queries at once.
const OPEN_MAX: usize = 8;
/// Number of responses with an ID that no query had, from which an attacker is taken to know the
/// port and to guess: queries that wait there are asked over TCP. A guess at one question succeeds
/// this often in 65,536.
pub const NEAR_MISSES_MAX: usize = 3;
/// Most times in a row that one socket is read before the others' turn.
const READS_MAX: usize = 4;

/// Sockets of an upstream.
#[derive(Default)]
pub struct Sockets(Mutex<Shelf>);

thread_local! {
    /// Receive buffers of each thread of the control plane, for all sockets.
    static RECEIVER: RefCell<Receiver> = RefCell::new(Receiver::new());
}

#[derive(Default)]
struct Shelf {
    /// Sockets that take new queries.
    open: Vec<Arc<UpstreamSocket>>,
    /// Socket that the queries of this turn are sent over.
    current: Option<Arc<UpstreamSocket>>,
    /// Sockets with queries to be sent.
    unsent: Vec<Arc<UpstreamSocket>>,
}

struct UpstreamSocket {
    udp: UdpSocket,
    /// Index of the upstream's address that it is connected to.
    address: usize,
    born: Instant,
    state: Mutex<SocketState>,
    /// Notified when a query is due sooner than all others.
    sooner: Notify,
}

#[derive(Default)]
struct SocketState {
    waiting: Vec<WaitingQuery>,
    outbox: Outbox,
    /// Number of queries that the socket has been given.
    queries: usize,
    /// Responses with IDs that no query had.
    near_misses: usize,
    /// IDs of queries that were answered or given up.
    ended: Vec<u16>,
    /// Whether the socket takes no new queries, and is closed when none waits.
    retired: bool,
    /// Time at which the first query is due, or the socket's age limit is reached.
    due: Option<Instant>,
}

/// Query in flight.
struct WaitingQuery {
    id: u16,
    attempt: Box<dyn Attempt>,
}

impl Sockets {
    /// Queues the query of `attempt`, to be sent at the end of the turn. The attempt is told the
    /// result. Returns the attempt if there is no socket.
    pub fn ask(
        &self,
        upstream: &Arc<Upstream>,
        mut attempt: Box<dyn Attempt>,
        turn: &mut Turn,
    ) -> Result<(), (Box<dyn Attempt>, AskError)> {
        let mut shelf = self.0.lock();
        if let Some(socket) = shelf.pick() {
            match socket.take(upstream, attempt) {
                Ok(first) => {
                    shelf.took(socket, first, upstream, turn);
                    return Ok(());
                }
                Err(back) => attempt = back,
            }
            shelf.close(&socket);
        }
        let (udp, address) = match connected_to_one(&upstream.addresses) {
            Ok(connected) => connected,
            Err(error) => return Err((attempt, error.into())),
        };
        upstream.counters.sockets.inc();
        let socket = Arc::new(UpstreamSocket {
            udp,
            address,
            born: Instant::now(),
            state: Mutex::default(),
            sooner: Notify::new(),
        });
        let due = attempt.due().min(socket.born + AGE_MAX);
        socket.state.lock().due = Some(due);
        // A new socket refuses nothing.
        if let Ok(first) = socket.take(upstream, attempt) {
            shelf.open.push(socket.clone());
            shelf.took(socket.clone(), first, upstream, turn);
        }
        tokio::spawn(socket.attend(upstream.clone(), due));
        Ok(())
    }

    /// Sends all queued queries.
    pub fn flush(&self, upstream: &Arc<Upstream>, turn: &mut Turn) {
        let unsent = {
            let mut shelf = self.0.lock();
            shelf.current = None;
            std::mem::take(&mut shelf.unsent)
        };
        for socket in unsent {
            let sent = socket.state.lock().outbox.send(&socket.udp);
            if let Err(error) = sent {
                socket.fail(&error, upstream, turn);
            }
        }
    }
}

impl Shelf {
    /// Returns the socket for the next query; `None`: a new one is to be opened.
    fn pick(&mut self) -> Option<Arc<UpstreamSocket>> {
        if self.current.is_some() {
            return self.current.take();
        }
        let drawn = rand::rng().random_range(0..OPEN_MAX);
        self.open.get(drawn).cloned()
    }

    fn took(&mut self, socket: Arc<UpstreamSocket>, first: bool, upstream: &Arc<Upstream>, turn: &mut Turn) {
        if first {
            self.unsent.push(socket.clone());
            turn.sends_to(upstream);
        }
        self.current = Some(socket);
    }

    fn close(&mut self, socket: &Arc<UpstreamSocket>) {
        self.open.retain(|open| !Arc::ptr_eq(open, socket));
    }
}

impl UpstreamSocket {
    /// Takes a query, unless the socket has served enough. Returns whether it is the first to be
    /// sent.
    fn take(&self, upstream: &Upstream, attempt: Box<dyn Attempt>) -> Result<bool, Box<dyn Attempt>> {
        let mut state = self.state.lock();
        let SocketState { waiting, outbox, queries, retired, due, .. } = &mut *state;
        *retired |= *queries >= QUERIES_MAX
            || attempt.began() >= self.born + AGE_MAX
            || self.address != upstream.addresses.preferred();
        if *retired {
            return Err(attempt);
        }
        if due.is_some_and(|due| attempt.due() < due) {
            *due = Some(attempt.due());
            self.sooner.notify_one();
        }
        *queries += 1;
        upstream.counters.queries_udp.inc();
        let id = unused_id(rand::random, |id| waiting.iter().any(|waiting| waiting.id == id));
        let first = outbox.is_empty();
        outbox.push(|bytes| attempt.write_query(id, bytes));
        waiting.push(WaitingQuery { id, attempt });
        Ok(first)
    }

    /// Waits for answers until all queries are answered or given up, and no more are taken.
    async fn attend(self: Arc<Self>, upstream: Arc<Upstream>, due: Instant) {
        let _attended = Attended(&self, &upstream);
        let mut timer = pin!(sleep_until(due));
        loop {
            let ready = tokio::select! {
                biased;
                // Linux reports an unreachable port as an error alone, not as something to read.
                ready = self.udp.ready(Interest::READABLE | Interest::ERROR) => Some(ready),
                () = &mut timer => None,
                () = self.sooner.notified() => {
                    if let Some(due) = self.state.lock().due {
                        timer.as_mut().reset(due);
                    }
                    continue;
                }
            };
            let mut turn = Turn::default();
            match ready {
                Some(Ok(ready)) => {
                    // Only one of the two: tokio 1.54 reports nothing as ready for both.
                    let interest = if ready.is_error() { Interest::ERROR } else { Interest::READABLE };
                    self.receive(interest, &upstream, &mut turn);
                }
                Some(Err(error)) => self.fail(&error, &upstream, &mut turn),
                None => {}
            }
            if timer.deadline() <= Instant::now() {
                match self.give_up(&upstream, &mut turn) {
                    Some(due) => timer.as_mut().reset(due),
                    None => break,
                }
            } else if self.is_done() {
                break;
            }
        }
    }

    fn is_done(&self) -> bool {
        let mut state = self.state.lock();
        state.retired |= state.queries >= QUERIES_MAX;
        state.retired && state.waiting.is_empty()
    }

    /// Receives the datagrams that have arrived.
    fn receive(&self, interest: Interest, upstream: &Arc<Upstream>, turn: &mut Turn) {
        RECEIVER.with_borrow_mut(|receiver| self.receive_with(receiver, interest, upstream, turn));
    }

    fn receive_with(
        &self,
        receiver: &mut Receiver,
        interest: Interest,
        upstream: &Arc<Upstream>,
        turn: &mut Turn,
    ) {
        for _ in 0..READS_MAX {
            // One more than can be answers: then one call tells that no datagram is left.
            let most = self.state.lock().waiting.len() + 1;
            let read = self.udp.try_io(interest, || receiver.receive(&self.udp, most));
            for datagram in receiver.datagrams() {
                self.hear(datagram, upstream, turn);
            }
            match read {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.hint(&error, upstream, turn),
            }
        }
    }

    /// Follows an error that the kernel reports, mostly because of an ICMP message. A forger need
    /// know neither ID nor question for one, so all queries stay in flight.
    fn hint(&self, error: &io::Error, upstream: &Upstream, turn: &mut Turn) {
        tracing::debug!(upstream = %upstream.label, %error, "UDP socket has an error");
        upstream.addresses.unreachable(self.address);
        let hint = Hint::Unreachable(Errno::from_io_error(error).unwrap_or(Errno::IO));
        let hinted: Vec<_> = {
            let mut state = self.state.lock();
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
                self.near_miss(state, counters);
            }
            return;
        };
        match state.waiting[at].attempt.judge(datagram) {
            Ok(Judged::Hint(hint)) => {
                let hinted = state.waiting[at].attempt.hinted(hint);
                drop(state);
                if let Some((inquiry, step)) = hinted {
                    inquiry.follow(step, Instant::now(), turn);
                }
            }
            Ok(said) => {
                let attempt = state.waiting.swap_remove(at).attempt;
                state.ended.push(id);
                drop(state);
                let now = Instant::now();
                upstream.addresses.heard(now);
                attempt.hear(Ok(said), now, turn);
            }
            Err(ignored) => ignored.inc(),
        }
    }

    /// Notes a response with an ID that no query had. After a few, queries that wait here are asked
    /// over TCP, and answers to them are no longer taken.
    fn near_miss(&self, mut state: MutexGuard<'_, SocketState>, counters: &UpstreamCounters) {
        state.near_misses += 1;
        if state.near_misses < NEAR_MISSES_MAX || state.retired && state.waiting.is_empty() {
            return;
        }
        state.retired = true;
        let exposed = std::mem::take(&mut state.waiting);
        drop(state);
        counters.sockets_abandoned.inc();
        counters.exposed.add(exposed.len() as u64);
        exposed.into_iter().for_each(|waiting| waiting.attempt.expose());
    }

    /// Retires a broken socket and fails all its queries.
    fn fail(&self, error: &io::Error, upstream: &Arc<Upstream>, turn: &mut Turn) {
        let waiting = {
            let mut state = self.state.lock();
            state.retired = true;
            std::mem::take(&mut state.waiting)
        };
        tracing::debug!(upstream = %upstream.label, queries = waiting.len(), %error, "UDP socket failed");
        upstream.addresses.unreachable(self.address);
        for WaitingQuery { attempt, .. } in waiting {
            let error =
                error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            attempt.hear(Err(error.into()), Instant::now(), turn);
        }
    }

    /// Gives up overdue queries, and begins hedging where it is due. Returns the next time at which
    /// to do so.
    fn give_up(&self, upstream: &Upstream, turn: &mut Turn) -> Option<Instant> {
        let now = Instant::now();
        let (late, over): (Vec<_>, Vec<_>) = {
            let mut state = self.state.lock();
            state.retired |= now >= self.born + AGE_MAX;
            let late = state.waiting.iter_mut().filter_map(|waiting| waiting.attempt.overdue(now)).collect();
            (late, state.waiting.extract_if(.., |waiting| waiting.attempt.until() <= now).collect())
        };
        late.into_iter().for_each(|inquiry| inquiry.hedge(now, turn));
        self.state.lock().ended.extend(over.iter().map(|waiting| waiting.id));
        for WaitingQuery { attempt, .. } in over {
            upstream.addresses.unanswered(self.address, attempt.began());
            attempt.hear(Err(AskError::Timeout), now, turn);
        }
        let mut state = self.state.lock();
        let end = (!state.retired).then(|| self.born + AGE_MAX);
        state.due = state.waiting.iter().map(|waiting| waiting.attempt.due()).chain(end).min();
        state.due
    }
}

/// Socket that a task serves. However the task ends, the socket is closed, and its queries are
/// told.
struct Attended<'a>(&'a Arc<UpstreamSocket>, &'a Upstream);

impl Drop for Attended<'_> {
    fn drop(&mut self) {
        let Attended(socket, upstream) = self;
        upstream.sockets.0.lock().close(socket);
    }
}

/// Draws a random ID that no query in flight on the same port has.
pub(crate) fn unused_id(mut draw: impl FnMut() -> u16, is_used: impl Fn(u16) -> bool) -> u16 {
    loop {
        let id = draw();
        if !is_used(id) {
            return id;
        }
    }
}

/// Returns a socket connected to the preferred address or, if that cannot be reached, to the first
/// other one that can, and the address's index.
fn connected_to_one(addresses: &Addresses) -> io::Result<(UdpSocket, usize)> {
    let mut tried = 0;
    loop {
        let index = addresses.preferred();
        match addresses.socket_address(index).and_then(connected) {
            Ok(udp) => return Ok((udp, index)),
            Err(error) => {
                addresses.unreachable(index);
                tried += 1;
                if tried >= addresses.len() {
                    return Err(error);
                }
            }
        }
    }
}

/// Returns a socket connected to `address`. Connecting binds it to a port that the kernel draws at
/// random.
fn connected(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
    rustix::net::connect(&socket, &address)?;
    UdpSocket::from_std(socket.into())
}
