//! The watch over the interface whose packets come by AF_XDP.
//!
//! AF_XDP can be lost while ringdnsd runs: the interface is removed, moved to another network namespace or unbound
//! from its driver, or somebody detaches the XDP program. The sockets of the workers are of no use from then on, and
//! nothing tells the workers. The watch notices within half a second, has them go on over kernel sockets, and comes
//! back to AF_XDP when it can be had again, under whatever number the interface has then. It also says when the link
//! goes down and up.
//!
//! It has a thread of its own: what it asks of the kernel may wait until a driver is done with something else.

mod netlink;
mod receiving;

pub use netlink::{Interface, Interfaces, Key};
pub use receiving::{InterfaceCounters, LinkState, Receiving};

use crate::{
    entrance::{self, EntranceError},
    notices::Notices,
    workers::{Seat, Source},
};
use parking_lot::Mutex;
use ringdns_xdp::Steering;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::sockopt,
};
use std::{
    io::{self, PipeReader},
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// How often to look without having heard of a change: nobody tells when an XDP program is detached.
const LOOK: Duration = Duration::from_millis(500);

/// How long to wait for the link when attaching the program has taken it down, as it does with many drivers.
const SETTLE: Duration = Duration::from_secs(10);

/// How long to wait before AF_XDP is tried again: after the first refusal, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Time after which a loss of AF_XDP is a new one. A loss before that makes the next pause longer: somebody else
/// wants the interface.
const CALM: Duration = Duration::from_secs(60);

/// Why AF_XDP is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Loss {
    #[error("the interface was removed, unbound from its driver, or moved to another network namespace")]
    Gone,
    #[error("the interface was away for a moment, and took the AF_XDP sockets along")]
    Away,
    #[error("the XDP program was detached by somebody else")]
    Detached,
}

impl Loss {
    /// Returns what the loss means for clients.
    fn consequence(self) -> &'static str {
        match self {
            Loss::Gone => "Clients behind it get no answers until it is back",
            Loss::Away | Loss::Detached => {
                "Clients get answers over kernel sockets meanwhile, which is slower"
            }
        }
    }
}

/// Interface, program and workers that the watch looks after.
pub struct Watched {
    /// The name of the interface.
    pub interface: String,
    /// The queues that were asked for; `None`: all there are.
    pub queues: Option<Vec<u32>>,
    /// The addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Whether kernel sockets do as well.
    pub fallback: bool,
    /// The XDP program. `None` once the daemon is about to end.
    pub steering: Arc<Mutex<Option<Steering>>>,
    /// The workers that have a queue.
    pub seats: Vec<Seat>,
    /// Conditions that an operator should know of.
    pub notices: Arc<Notices>,
    /// State that `status` and `/readyz` show.
    pub receiving: Arc<Receiving>,
}

/// AF_XDP on an interface, as it was attached.
pub struct Attached {
    /// The number of the interface.
    pub index: u32,
    /// The number of the XDP program.
    pub program: u32,
    /// The sockets of its queues.
    pub sockets: Vec<OwnedFd>,
    /// Whether the link was up right before.
    pub was_up: bool,
}

/// The watch.
pub struct Watch {
    watched: Watched,
    interfaces: Interfaces,
    program: u32,
    state: State,
    /// When the program was attached last.
    attached_at: Instant,
    /// Whether the link is expected back, after the program was attached.
    settling: bool,
    /// When the link was seen to go down.
    down_since: Option<Instant>,
    /// Whether each worker that has a seat is over kernel sockets.
    over_sockets: Vec<bool>,
    pause: Duration,
}

enum State {
    Attached {
        index: u32,
        sockets: Vec<OwnedFd>,
    },
    Lost {
        /// The number of the interface at which AF_XDP was tried last. Another one is tried at once.
        tried: Option<u32>,
        /// When to try that one again.
        next: Instant,
    },
}

/// Why AF_XDP cannot be had again now.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Entrance(#[from] EntranceError),
    #[error("ringdnsd is about to end")]
    Stopping,
}

impl Watch {
    /// A watch over what was attached a moment ago.
    pub fn over(watched: Watched, interfaces: Interfaces, attached: Attached) -> Self {
        let Attached { index, program, sockets, was_up } = attached;
        Watch {
            over_sockets: vec![false; watched.seats.len()],
            watched,
            interfaces,
            program,
            state: State::Attached { index, sockets },
            attached_at: Instant::now(),
            settling: was_up,
            down_since: None,
            pause: PAUSES.0,
        }
    }

    /// Watches until the other end of `stop` is closed. Says by `settled` that the link is as it was before the
    /// program was attached, or that it has been waited for long enough.
    pub fn run(mut self, stop: &PipeReader, settled: oneshot::Sender<()>) -> io::Result<()> {
        let mut settled = Some(settled);
        loop {
            // Before the look: what changes from now on wakes it up again.
            self.interfaces.forget_events();
            let again = self.look();
            // The kernel may not tell of the link at all: that is waited for no longer.
            if (!self.settling || self.attached_at.elapsed() > SETTLE)
                && let Some(settled) = settled.take()
            {
                // Nobody waits any more if the daemon is about to end.
                let _ = settled.send(());
            }
            if !again && self.sleep(stop)? {
                return Ok(());
            }
        }
    }

    /// Sleeps until something may have changed. True: it is to end.
    fn sleep(&self, stop: &PipeReader) -> io::Result<bool> {
        let due = match self.state {
            State::Attached { .. } => LOOK,
            State::Lost { next, .. } => next.saturating_duration_since(Instant::now()),
        };
        let timeout =
            Timespec::try_from(due.clamp(Duration::from_millis(1), LOOK)).map_err(io::Error::other)?;
        let mut fds = [
            PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.interfaces.events(), PollFlags::IN),
        ];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => Ok(!fds[0].revents().is_empty()),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks once. True: to look again at once.
    fn look(&mut self) -> bool {
        let key = match self.state {
            // By its number: it may have been renamed, which changes nothing.
            State::Attached { index, .. } => Key::Index(index),
            State::Lost { .. } => Key::Name(&self.watched.interface),
        };
        let found = match self.interfaces.find(key) {
            Ok(found) => found,
            // What is not known is no loss.
            Err(error) => {
                tracing::debug!(%error, "the kernel does not tell of the interface");
                return false;
            }
        };
        match &self.state {
            State::Attached { sockets, .. } => {
                let loss = match &found {
                    None => Some(Loss::Gone),
                    Some(_) if sockets.iter().any(has_failed) => Some(Loss::Away),
                    Some(found) if !found.programs.contains(&self.program) => Some(Loss::Detached),
                    Some(_) => None,
                };
                match loss {
                    Some(loss) => return self.lose(loss),
                    None => self.note_link(found.as_ref()),
                }
            }
            State::Lost { tried, next } => {
                let due = tried.is_none() || Instant::now() >= *next;
                let other = found.as_ref().map(|found| found.index) != *tried;
                self.note_link(found.as_ref());
                match found {
                    Some(found) if found.enabled => {
                        if due || other {
                            self.try_again(&found);
                        }
                    }
                    // When it is there, and switched on, it is tried at once.
                    _ => self.state = State::Lost { tried: None, next: Instant::now() + LOOK },
                }
            }
        }
        false
    }

    /// Has the workers go on over kernel sockets. False: the daemon is about to end, and nothing has changed.
    fn lose(&mut self, loss: Loss) -> bool {
        // An interface that was moved away still runs the program, and would steer to sockets that are no more.
        match self.watched.steering.lock().as_mut() {
            Some(steering) => steering.detach(),
            None => return false,
        }
        let Watched { interface, receiving, fallback, .. } = &self.watched;
        receiving.set_lost(interface, loss.to_string(), *fallback);
        if loss == Loss::Gone {
            receiving.set_link(LinkState::Gone);
        }
        tracing::warn!(
            "AF_XDP on {interface} is lost: {loss}. {}. ringdnsd attaches again by itself when it can",
            loss.consequence()
        );
        self.settling = false;
        self.down_since = None;
        let calm = self.attached_at.elapsed() > CALM;
        self.pause = if calm { PAUSES.0 } else { self.pause };
        let now = Instant::now();
        let before = std::mem::replace(&mut self.state, State::Lost { tried: None, next: now });
        if loss == Loss::Detached
            && let State::Attached { index, .. } = &before
        {
            // Whoever did it may be about to attach a program of their own.
            self.state = State::Lost { tried: Some(*index), next: now + self.pause };
            self.pause = (2 * self.pause).min(PAUSES.1);
        }
        // Its sockets are closed, so that their queues can be had again.
        drop(before);
        self.leave_queues();
        true
    }

    /// Gives kernel sockets to all workers that have none.
    fn leave_queues(&mut self) {
        for (seat, over_sockets) in self.watched.seats.iter().zip(&mut self.over_sockets) {
            if *over_sockets {
                continue;
            }
            match seat.open(Source::Sockets(self.watched.listen.clone())) {
                Ok(_) => {
                    seat.take();
                    *over_sockets = true;
                }
                Err(error) => tracing::warn!("a worker has nothing to do until AF_XDP is back: {error}"),
            }
        }
    }

    /// Tries to have AF_XDP on an interface.
    fn try_again(&mut self, found: &Interface) {
        self.leave_queues();
        match self.attach(found) {
            Ok((sockets, text)) => {
                let Watched { interface, receiving, .. } = &self.watched;
                let lost = receiving.set_regained(interface, text);
                tracing::info!(
                    "AF_XDP on {interface} is back after {:.1} s: {receiving}",
                    lost.as_secs_f64()
                );
                self.state = State::Attached { index: found.index, sockets };
                self.attached_at = Instant::now();
                // One that has just been switched on has no carrier yet.
                self.settling = true;
            }
            Err(Refusal::Stopping) => {}
            Err(Refusal::Entrance(error)) => {
                let why = error.to_string();
                if self.watched.receiving.set_refused(&why) {
                    let interface = &self.watched.interface;
                    tracing::warn!(
                        "AF_XDP on {interface} cannot be had again yet: {why}. Kernel sockets go on serving, and \
                         ringdnsd tries again, every {} s in the end",
                        PAUSES.1.as_secs()
                    );
                }
                self.state = State::Lost { tried: Some(found.index), next: Instant::now() + self.pause };
                self.pause = (2 * self.pause).min(PAUSES.1);
            }
        }
    }

    /// Opens the queues of an interface, attaches the program, and has the workers take the queues. Returns the
    /// sockets, and how packets are received by them. The workers go on over kernel sockets until all is attached.
    fn attach(&mut self, found: &Interface) -> Result<(Vec<OwnedFd>, String), Refusal> {
        let Watched { interface, queues, listen, steering, seats, notices, .. } = &self.watched;
        let mut opened = 0;
        let attached = (|| {
            let sockets =
                entrance::each_queue(interface, queues.as_deref(), seats.len(), |worker, queue| {
                    opened = worker + 1;
                    seats[worker].open(Source::Queue { interface: interface.clone(), queue })
                })?;
            let mut steering = steering.lock();
            let steering = steering.as_mut().ok_or(Refusal::Stopping)?;
            steering.set_interface_index(found.index);
            steering.look(listen).map_err(EntranceError::from)?;
            let attached = entrance::steer(interface, steering, sockets)?;
            notices.set_interface(steering.notices().to_vec());
            Ok(attached)
        })();
        let (sockets, text) = match attached {
            Ok(attached) => attached,
            Err(refusal) => {
                seats[..opened].iter().for_each(Seat::discard);
                return Err(refusal);
            }
        };
        for (seat, over_sockets) in seats.iter().zip(&mut self.over_sockets).take(sockets.len()) {
            seat.take();
            *over_sockets = false;
        }
        Ok((sockets, text))
    }

    /// Notes how packets find the interface, and says what has changed.
    fn note_link(&mut self, found: Option<&Interface>) {
        let now = match found {
            None => LinkState::Gone,
            Some(found) if found.is_up() => LinkState::Up,
            Some(_) => LinkState::Down,
        };
        let Watched { interface, receiving, .. } = &self.watched;
        let before = receiving.set_link(now);
        let attached = matches!(self.state, State::Attached { .. });
        let waited = self.attached_at.elapsed();
        match now {
            LinkState::Up if self.settling => {
                self.settling = false;
                if before == LinkState::Down {
                    let seconds = waited.as_secs_f64();
                    tracing::info!(
                        "the link of {interface} is up {seconds:.1} s after the XDP program was attached"
                    );
                }
            }
            LinkState::Up => {
                if let Some(since) = self.down_since.take() {
                    let seconds = since.elapsed().as_secs_f64();
                    tracing::info!("the link of {interface} is up again after {seconds:.1} s");
                }
            }
            LinkState::Down if self.settling && waited < SETTLE => {}
            LinkState::Down if attached && self.down_since.is_none() => {
                let since = if self.settling { " since the XDP program was attached" } else { "" };
                tracing::warn!(
                    "the link of {interface} is down{since}: clients behind it get no answers until it is up"
                );
                self.settling = false;
                self.down_since = Some(Instant::now());
                receiving.counters.link_downs.inc();
            }
            LinkState::Down | LinkState::Gone => {}
        }
    }
}

/// Whether the kernel has taken the interface away from an AF_XDP socket.
fn has_failed(socket: &OwnedFd) -> bool {
    // Told once, which is enough.
    matches!(sockopt::socket_error(socket), Ok(Err(_)) | Err(_))
}

#[cfg(test)]
mod tests;
