//! UDP sockets that an upstream is asked over: many, each for a few queries, and soon closed.
//!
//! A forger who sees neither queries nor answers must guess the port and the ID of a query (RFC
//! 5452 section 9.2), and must do so while the query is in flight.
//!
//! - *Each query has a port of its own* until as many are open as may be, mostly 512. From then on
//!   the port of a query is drawn at random among them. A port serves a few queries in one second
//!   at most, and is replaced by another that the kernel draws: one that an attacker has found out
//!   (SAD DNS) is soon worth nothing.
//! - *Sharing a port makes no guess likelier to be right.* A guess names one question, for which one
//!   query is in flight, with one ID of 65,536.
//! - *Guessing IDs at a known port shows*: the responses have IDs that no query had. After a few of
//!   them the queries in flight there are asked over TCP, and the port is closed.
//!
//! A datagram that proves nothing, and an error of the kernel, end no wait: they hurry the next
//! step, and the answer that still comes is taken.
//!
//! Sockets are connected, so that the kernel drops datagrams from other addresses and ports (RFC
//! 5452 section 9) and reports an unreachable upstream. A late or second answer arrives at a socket
//! that is still open, and is counted as one with a wrong ID.
//!
//! One task serves all sockets of an upstream while any is open. It waits for an epoll instance of
//! their own, since a task and a registration for each would cost more than the query, and for one
//! timer: that of the query that is due first.

mod socket;

use crate::upstream::{Addresses, AskError, Upstream, attempt::Attempt, is_lack, turn::Turn};
use parking_lot::Mutex;
use rand::Rng;
use ringdns_common::shared_core;
use rustix::{
    event::{Timespec, epoll},
    fd::OwnedFd,
    net::{AddressFamily, SocketFlags, SocketType},
    process::{Resource, getrlimit},
};
use socket::UpstreamSocket;
use std::{
    cmp::Reverse, collections::BinaryHeap, io, mem::MaybeUninit, net::SocketAddr, pin::pin, sync::Arc,
    time::Duration,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::Notify,
    time::{Instant, sleep_until},
};

/// Most sockets of an upstream that take new queries at once.
pub const OPEN_MAX: usize = 512;
/// Fewest of them, however low the limit of open files is.
pub const OPEN_MIN: usize = 8;
/// Part of the limit of open files that sockets for all upstreams may use, half of it for those
/// that take new queries.
const FILES_SHARE: usize = 2;
/// Most queries that one socket serves while others can be opened.
pub const QUERIES_MAX: usize = 16;
/// Time for which a socket takes new queries.
pub const AGE_MAX: Duration = Duration::from_secs(1);
/// Number of responses with an ID that no query had, from which an attacker is taken to know the
/// port and to guess: queries that wait there are asked over TCP. A guess at one question succeeds
/// this often in 65,536.
pub const NEAR_MISSES_MAX: usize = 3;
/// Most sockets that are read before other tasks have their turn.
const EVENTS: usize = 32;

/// Sockets of an upstream.
pub struct Sockets(Mutex<SocketPool>);

struct SocketPool {
    /// All sockets, by the number that epoll reports.
    sockets: Vec<Option<Arc<UpstreamSocket>>>,
    /// Numbers that no socket has.
    unused: Vec<usize>,
    /// Numbers of the sockets that take new queries.
    open: Vec<usize>,
    /// Index in `open` of each number that is there.
    places: Vec<Option<usize>>,
    /// Most sockets that take new queries, and most others.
    most: usize,
    /// Times at which sockets are due.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Task that serves the sockets; `None`: none is open.
    attendant: Option<Arc<Attendant>>,
}

/// Sources of events for the task that serves the sockets.
struct Attendant {
    epoll: AsyncFd<OwnedFd>,
    /// Notified when a socket is due sooner than all others.
    sooner: Notify,
}

impl Sockets {
    /// Returns the sockets of one upstream of `upstreams`: none yet.
    pub fn new(upstreams: usize) -> Self {
        let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
        let share = files.unwrap_or(usize::MAX) / FILES_SHARE / 2 / upstreams.max(1);
        Sockets(Mutex::new(SocketPool {
            sockets: Vec::new(),
            unused: Vec::new(),
            open: Vec::new(),
            places: Vec::new(),
            most: share.clamp(OPEN_MIN, OPEN_MAX),
            due: BinaryHeap::new(),
            attendant: None,
        }))
    }

    /// Sends the query of `attempt`, which is told the result. Returns the attempt if that is not
    /// possible.
    pub fn ask(
        &self,
        upstream: &Arc<Upstream>,
        mut attempt: Box<dyn Attempt>,
    ) -> Result<(), (Box<dyn Attempt>, AskError)> {
        loop {
            let drawn = self.0.lock().draw(upstream, attempt.due());
            let socket = match drawn {
                Ok(socket) => socket,
                Err(error) => return Err((attempt, error.into())),
            };
            attempt = match socket.send(upstream, attempt) {
                Ok(None) => return Ok(()),
                Ok(Some(due)) => {
                    self.0.lock().schedule(due, socket.number);
                    return Ok(());
                }
                // It was closed in the meantime.
                Err((back, None)) => back,
                Err((back, Some(error))) => return Err((back, error.into())),
            };
        }
    }

    /// Takes no new queries at a socket, and closes it if none waits there.
    fn retire(&self, socket: &UpstreamSocket) {
        self.0.lock().retire(socket);
    }

    fn socket(&self, number: usize) -> Option<Arc<UpstreamSocket>> {
        self.0.lock().sockets.get(number)?.clone()
    }
}

impl SocketPool {
    /// Returns the socket for the next query, which is `due` at that time.
    fn draw(&mut self, upstream: &Arc<Upstream>, due: Instant) -> io::Result<Arc<UpstreamSocket>> {
        if self.open.len() >= self.most {
            let place = rand::rng().random_range(0..self.open.len());
            let Some(socket) = self.sockets[self.open[place]].clone() else {
                unreachable!("open sockets are there")
            };
            // Beyond the bound, a socket that is worn is better than none.
            let others = self.sockets.len() - self.unused.len() - self.open.len();
            if !socket.is_worn(upstream) || others >= self.most && !socket.is_idle() {
                return Ok(socket);
            }
            self.retire(&socket);
        }
        match self.open_one(upstream, due) {
            Err(error) if is_lack(&error) => {
                let any = self.open.get(rand::rng().random_range(0..self.open.len().max(1)));
                any.and_then(|number| self.sockets[*number].clone()).ok_or(error)
            }
            opened => opened,
        }
    }

    fn open_one(&mut self, upstream: &Arc<Upstream>, due: Instant) -> io::Result<Arc<UpstreamSocket>> {
        let attendant = match &self.attendant {
            Some(attendant) => attendant.clone(),
            None => self.attendant.insert(attend(upstream)?).clone(),
        };
        let (fd, address) = connected_to_one(&upstream.addresses)?;
        let number = self.unused.pop().unwrap_or(self.sockets.len());
        let events = epoll::EventFlags::IN | epoll::EventFlags::ERR;
        if let Err(error) =
            epoll::add(attendant.epoll.get_ref(), &fd, epoll::EventData::new_u64(number as u64), events)
        {
            self.unused.extend((number < self.sockets.len()).then_some(number));
            return Err(error.into());
        }
        upstream.counters.sockets.inc();
        let born = Instant::now();
        let due = due.min(born + AGE_MAX);
        let socket = Arc::new(UpstreamSocket::new(fd, number, address, born, due));
        if number == self.sockets.len() {
            self.sockets.push(None);
            self.places.push(None);
        }
        self.sockets[number] = Some(socket.clone());
        self.places[number] = Some(self.open.len());
        self.open.push(number);
        self.schedule(due, number);
        Ok(socket)
    }

    /// Notes that a socket is due at a time. Wakes the task if that is sooner than all others.
    fn schedule(&mut self, due: Instant, number: usize) {
        let sooner = self.due.peek().is_none_or(|Reverse((first, _))| due < *first);
        self.due.push(Reverse((due, number)));
        if let Some(attendant) = self.attendant.as_ref().filter(|_| sooner) {
            attendant.sooner.notify_one();
        }
    }

    fn retire(&mut self, socket: &UpstreamSocket) {
        let is_at = self.is_at(socket);
        if is_at && let Some(place) = self.places[socket.number].take() {
            self.open.swap_remove(place);
            if let Some(moved) = self.open.get(place) {
                self.places[*moved] = Some(place);
            }
        }
        if socket.close_if_done() && is_at {
            self.sockets[socket.number] = None;
            self.unused.push(socket.number);
        }
    }

    /// Whether the number of a socket is still its own.
    fn is_at(&self, socket: &UpstreamSocket) -> bool {
        let at = self.sockets.get(socket.number).and_then(Option::as_deref);
        at.is_some_and(|at| std::ptr::eq(at, socket))
    }

    /// Returns a socket that is due at `now`.
    fn pop_due(&mut self, now: Instant) -> Option<(Instant, Arc<UpstreamSocket>)> {
        while let Some(Reverse((due, number))) = self.due.peek().copied().filter(|first| first.0.0 <= now) {
            self.due.pop();
            if let Some(Some(socket)) = self.sockets.get(number) {
                return Some((due, socket.clone()));
            }
        }
        None
    }

    /// Returns the time at which the first socket is due. `None`: no socket is left, and the task
    /// ends.
    fn next_due(&mut self) -> Option<Instant> {
        if self.sockets.len() == self.unused.len() {
            self.attendant = None;
            self.due.clear();
        }
        self.due.peek().map(|first| first.0.0)
    }
}

/// Starts the task that serves the sockets of an upstream.
fn attend(upstream: &Arc<Upstream>) -> io::Result<Arc<Attendant>> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for types that may close their fd; OwnedFd cannot"
    )]
    let epoll = AsyncFd::with_interest(epoll, Interest::READABLE)?;
    let attendant = Arc::new(Attendant { epoll, sooner: Notify::new() });
    tokio::spawn(serve(upstream.clone(), attendant.clone()));
    Ok(attendant)
}

/// Receives answers and gives up queries, until no socket is left.
async fn serve(upstream: Arc<Upstream>, attendant: Arc<Attendant>) {
    let _served = Served(&upstream);
    let mut timer = pin!(sleep_until(Instant::now() + AGE_MAX));
    loop {
        let Some(due) = upstream.sockets.0.lock().next_due() else { return };
        if due != timer.deadline() {
            timer.as_mut().reset(due);
        }
        let readable = tokio::select! {
            biased;
            ready = attendant.epoll.readable() => Some(ready),
            () = &mut timer => None,
            () = attendant.sooner.notified() => continue,
        };
        let mut turn = Turn::default();
        match readable {
            Some(Ok(mut ready)) => {
                let more = receive(&attendant, &upstream, &mut turn);
                if !more {
                    ready.clear_ready();
                }
            }
            // The runtime ends.
            Some(Err(_)) => return,
            None => {}
        }
        let now = Instant::now();
        if due <= now {
            give_up(&upstream, now, &mut turn);
        }
        // First the worker is woken.
        drop(turn);
        shared_core::end_step();
    }
}

/// Reads a datagram or an error from each socket that has one. Returns whether more may be left.
fn receive(attendant: &Attendant, upstream: &Arc<Upstream>, turn: &mut Turn) -> bool {
    let mut room = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // It fails for no other reason than a signal.
    let waited = epoll::wait(attendant.epoll.get_ref(), &mut room[..], Some(&at_once));
    let Ok((events, _)) = waited else { return true };
    for event in &*events {
        // A socket that is gone is closed as soon as nobody sends over it any more.
        if let Some(socket) = upstream.sockets.socket(event.data.u64() as usize) {
            socket.receive(upstream, turn);
        }
    }
    // A socket may have more than one datagram. The runtime hears of new ones alone.
    !events.is_empty()
}

/// Gives up queries that are overdue, begins hedging where it is due, and retires sockets of age.
fn give_up(upstream: &Arc<Upstream>, now: Instant, turn: &mut Turn) {
    loop {
        let Some((due, socket)) = upstream.sockets.0.lock().pop_due(now) else { return };
        if !socket.is_due_at(due) {
            continue;
        }
        match socket.give_up(upstream, now, turn) {
            Some(next) => upstream.sockets.0.lock().schedule(next, socket.number),
            None => upstream.sockets.retire(&socket),
        }
    }
}

/// Upstream whose sockets a task serves. However the task ends, the sockets are closed, and their
/// queries are told.
struct Served<'a>(&'a Upstream);

impl Drop for Served<'_> {
    fn drop(&mut self) {
        let left = {
            let mut pool = self.0.sockets.0.lock();
            if pool.sockets.len() == pool.unused.len() {
                return;
            }
            pool.attendant = None;
            pool.open.clear();
            pool.places.clear();
            pool.unused.clear();
            pool.due.clear();
            std::mem::take(&mut pool.sockets)
        };
        left.into_iter().flatten().for_each(|socket| socket.close());
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
fn connected_to_one(addresses: &Addresses) -> io::Result<(OwnedFd, usize)> {
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
fn connected(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}
