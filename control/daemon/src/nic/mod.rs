//! Watch over the interface whose packets arrive over AF_XDP.
//!
//! AF_XDP can be lost while ringdnsd runs: the interface is removed, moved to another network
//! namespace or unbound from its driver, or somebody detaches the XDP program. The workers' sockets
//! are useless from then on, and nothing notifies the workers. The watch notices within half a
//! second and switches them to kernel sockets. It returns to AF_XDP when that is available again,
//! under whatever index the interface has then. It also logs when the link goes down and up.
//!
//! The watch has a thread of its own, since its requests to the kernel may wait for a driver that
//! is busy.

mod netlink;
mod receiving;

pub use netlink::{Interface, InterfaceKey, Interfaces};
pub use receiving::{InterfaceCounters, LinkState, Receiving};

use crate::{
    attach::{self, EntranceError},
    problems::HostProblems,
    workers::{PortSource, Seat},
};
use parking_lot::Mutex;
use ringdns_dataplane::packet::LargestReplies;
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

/// Time between two looks without an event: the kernel sends none when an XDP program is detached.
const LOOK: Duration = Duration::from_millis(500);

/// Number of looks at this host's tables after an event: the kernel sends some events before the
/// change, so a second look follows after `LOOK`.
const HOST_LOOKS: u32 = 2;

/// Time to wait for the link after attaching the program, which takes the link down with many
/// drivers.
const SETTLE: Duration = Duration::from_secs(10);

/// Shortest and longest pause before AF_XDP is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Time since the last attachment after which a loss of AF_XDP resets the pause. An earlier loss
/// lengthens it: somebody else wants the interface.
const CALM: Duration = Duration::from_secs(60);

/// Reason why AF_XDP was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum InterfaceLoss {
    #[error("the interface was removed, unbound from its driver, or moved to another network namespace")]
    Gone,
    #[error("the interface was away for a moment, and took the AF_XDP sockets along")]
    Away,
    #[error("the XDP program was detached by somebody else")]
    Detached,
}

impl InterfaceLoss {
    /// Returns the consequence for clients.
    fn consequence(self) -> &'static str {
        match self {
            InterfaceLoss::Gone => "Clients behind it get no answers until it is back",
            InterfaceLoss::Away | InterfaceLoss::Detached => {
                "Clients get answers over kernel sockets meanwhile, which is slower"
            }
        }
    }
}

/// Interface, program and workers that the watch looks after.
pub struct Watched {
    /// Name of the interface.
    pub interface: String,
    /// Configured queues; `None`: all of the interface.
    pub queues: Option<Vec<u32>>,
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Largest answer over UDP in bytes (`server.udp_limit`).
    pub udp_limit: u16,
    /// Whether kernel sockets may replace AF_XDP (`server.fallback`).
    pub fallback: bool,
    /// XDP program. `None` once the daemon is stopping.
    pub steering: Arc<Mutex<Option<Steering>>>,
    /// Seats of the workers that have a queue.
    pub seats: Vec<Seat>,
    /// Conditions that an operator should know of.
    pub host_problems: Arc<HostProblems>,
    /// State that `status` and `/readyz` show.
    pub receiving: Arc<Receiving>,
}

/// State of AF_XDP on an interface right after it was attached.
pub struct Attached {
    /// Index of the interface.
    pub index: u32,
    /// Id of the XDP program.
    pub program: u32,
    /// Sockets of the queues.
    pub sockets: Vec<OwnedFd>,
    /// Whether the link was up right before.
    pub was_up: bool,
}

/// Watch over the interface.
pub struct Watch {
    watched: Watched,
    interfaces: Interfaces,
    program: u32,
    state: WatchState,
    /// Time at which the program was last attached.
    attached_at: Instant,
    /// Whether the link is expected to come back after the program was attached.
    settling: bool,
    /// Time at which the link was seen down.
    down_since: Option<Instant>,
    /// Whether the worker of each seat uses kernel sockets.
    over_sockets: Vec<bool>,
    /// MTU that the workers with a queue were told; `None`: that of when their ports were opened.
    mtu: Option<u32>,
    /// Number of looks at this host's addresses, MAC addresses and VLANs that are still due.
    host_looks: u32,
    /// Whether the last of them failed.
    host_unknown: bool,
    pause: Duration,
}

enum WatchState {
    Attached {
        index: u32,
        sockets: Vec<OwnedFd>,
    },
    Lost {
        /// Index of the interface on which AF_XDP was last tried. An interface with another index
        /// is tried at once.
        tried: Option<u32>,
        /// Time at which to try that one again.
        next: Instant,
    },
}

/// Reason why AF_XDP cannot be attached again now.
#[derive(Debug, thiserror::Error)]
enum AttachRefusal {
    #[error(transparent)]
    Entrance(#[from] EntranceError),
    #[error("ringdnsd is stopping")]
    Stopping,
}

impl Watch {
    /// Returns a watch over AF_XDP that has just been attached.
    pub fn over(watched: Watched, interfaces: Interfaces, attached: Attached) -> Self {
        let Attached { index, program, sockets, was_up } = attached;
        Watch {
            over_sockets: vec![false; watched.seats.len()],
            watched,
            interfaces,
            program,
            mtu: None,
            state: WatchState::Attached { index, sockets },
            attached_at: Instant::now(),
            settling: was_up,
            down_since: None,
            // Events between the attachment and the first look may be lost.
            host_looks: HOST_LOOKS,
            host_unknown: false,
            pause: PAUSES.0,
        }
    }

    /// Watches until the other end of `stop` is closed. Fires `settled` once the link is as it was
    /// before the program was attached, or after `SETTLE`.
    pub fn run(mut self, stop: &PipeReader, settled: oneshot::Sender<()>) -> io::Result<()> {
        let mut settled = Some(settled);
        loop {
            // Before the look: later changes wake the watch again.
            if self.interfaces.forget_events() {
                self.host_looks = HOST_LOOKS;
            }
            let again = self.look();
            // The time limit also covers a kernel that reports no link state.
            if (!self.settling || self.attached_at.elapsed() > SETTLE)
                && let Some(settled) = settled.take()
            {
                // Nobody receives this if the daemon is stopping.
                let _ = settled.send(());
            }
            if !again && self.sleep(stop)? {
                return Ok(());
            }
        }
    }

    /// Sleeps until something may have changed. Returns true if the watch is to end.
    fn sleep(&self, stop: &PipeReader) -> io::Result<bool> {
        let due = match self.state {
            WatchState::Attached { .. } => LOOK,
            WatchState::Lost { next, .. } => next.saturating_duration_since(Instant::now()),
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

    /// Looks once. Returns true to look again at once.
    fn look(&mut self) -> bool {
        let key = match self.state {
            // By index: a rename of the interface changes nothing.
            WatchState::Attached { index, .. } => InterfaceKey::Index(index),
            WatchState::Lost { .. } => InterfaceKey::Name(&self.watched.interface),
        };
        let found = match self.interfaces.find(key) {
            Ok(found) => found,
            // An unknown state is no loss.
            Err(error) => {
                tracing::debug!(%error, "cannot read the state of the interface from the kernel");
                return false;
            }
        };
        match &self.state {
            WatchState::Attached { sockets, .. } => {
                let loss = match &found {
                    None => Some(InterfaceLoss::Gone),
                    Some(_) if sockets.iter().any(has_failed) => Some(InterfaceLoss::Away),
                    Some(found) if !found.programs.contains(&self.program) => Some(InterfaceLoss::Detached),
                    Some(_) => None,
                };
                match loss {
                    Some(loss) => return self.lose(loss),
                    None => {
                        self.note_link(found.as_ref());
                        self.follow_mtu(found.as_ref());
                        self.look_at_host();
                    }
                }
            }
            WatchState::Lost { tried, next } => {
                let due = tried.is_none() || Instant::now() >= *next;
                let other = found.as_ref().map(|found| found.index) != *tried;
                self.note_link(found.as_ref());
                match found {
                    Some(found) if found.enabled => {
                        if due || other {
                            self.try_again(&found);
                        }
                    }
                    // As soon as it exists and is switched on, it is tried.
                    _ => self.state = WatchState::Lost { tried: None, next: Instant::now() + LOOK },
                }
            }
        }
        false
    }

    /// Tells the XDP program the addresses, MAC addresses and VLANs of this host, if they may have
    /// changed.
    fn look_at_host(&mut self) {
        if self.host_looks == 0 && !self.host_unknown {
            return;
        }
        self.host_looks = self.host_looks.saturating_sub(1);
        let mut steering = self.watched.steering.lock();
        let Some(steering) = steering.as_mut() else { return };
        let before = std::mem::take(&mut self.host_unknown);
        match steering.look_at_host() {
            Ok(()) if before => tracing::info!("the addresses of this host are known again"),
            Ok(()) => {}
            Err(error) => {
                self.host_unknown = true;
                if !before {
                    tracing::warn!(
                        "{error}. Kernel sockets serve meanwhile, which is slower; ringdnsd tries again"
                    );
                }
            }
        }
        self.watched.host_problems.set_interface(steering.notices());
    }

    /// Switches the workers to kernel sockets. Returns false, and changes nothing, if the daemon is
    /// stopping.
    fn lose(&mut self, loss: InterfaceLoss) -> bool {
        // An interface that was moved away still runs the program, which would steer to closed
        // sockets.
        match self.watched.steering.lock().as_mut() {
            Some(steering) => steering.detach(),
            None => return false,
        }
        let Watched { interface, receiving, fallback, .. } = &self.watched;
        receiving.set_lost(interface, loss.to_string(), *fallback);
        if loss == InterfaceLoss::Gone {
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
        let before = std::mem::replace(&mut self.state, WatchState::Lost { tried: None, next: now });
        if loss == InterfaceLoss::Detached
            && let WatchState::Attached { index, .. } = &before
        {
            // Whoever detached it may be about to attach another program.
            self.state = WatchState::Lost { tried: Some(*index), next: now + self.pause };
            self.pause = (2 * self.pause).min(PAUSES.1);
        }
        // Closes the sockets, so that their queues are free again.
        drop(before);
        self.leave_queues();
        true
    }

    /// Switches all workers that still have a queue to kernel sockets.
    fn leave_queues(&mut self) {
        for (seat, over_sockets) in self.watched.seats.iter().zip(&mut self.over_sockets) {
            if *over_sockets {
                continue;
            }
            match seat.open(PortSource::Sockets(self.watched.listen.clone())) {
                Ok(_) => {
                    seat.take();
                    *over_sockets = true;
                }
                Err(error) => tracing::warn!("a worker is idle until AF_XDP is back: {error}"),
            }
        }
    }

    /// Tries to attach AF_XDP to an interface.
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
                self.state = WatchState::Attached { index: found.index, sockets };
                self.mtu = None;
                self.attached_at = Instant::now();
                // An interface that has just been switched on has no carrier yet.
                self.settling = true;
            }
            Err(AttachRefusal::Stopping) => {}
            Err(AttachRefusal::Entrance(error)) => {
                let why = error.to_string();
                if self.watched.receiving.set_refused(&why) {
                    let interface = &self.watched.interface;
                    tracing::warn!(
                        "AF_XDP on {interface} cannot be attached again yet: {why}. Kernel sockets serve \
                         meanwhile; ringdnsd tries again, at least every {} s",
                        PAUSES.1.as_secs()
                    );
                }
                self.state = WatchState::Lost { tried: Some(found.index), next: Instant::now() + self.pause };
                self.pause = (2 * self.pause).min(PAUSES.1);
            }
        }
    }

    /// Opens the queues of an interface, attaches the program, and switches the workers to the
    /// queues. Returns the sockets, and a description of how packets are received. The workers use
    /// kernel sockets until all is attached.
    fn attach(&mut self, found: &Interface) -> Result<(Vec<OwnedFd>, String), AttachRefusal> {
        let Watched { interface, queues, listen, steering, seats, host_problems, .. } = &self.watched;
        let mut opened = 0;
        let attached = (|| {
            let sockets = attach::each_queue(interface, queues.as_deref(), seats.len(), |worker, queue| {
                opened = worker + 1;
                seats[worker].open(PortSource::Queue { interface: interface.clone(), queue })
            })?;
            let mut steering = steering.lock();
            let steering = steering.as_mut().ok_or(AttachRefusal::Stopping)?;
            steering.set_interface_index(found.index);
            steering.look(listen).map_err(EntranceError::from)?;
            let attached = attach::steer(interface, steering, sockets)?;
            host_problems.set_interface(steering.notices());
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

    /// Tells the workers the MTU of the link, if it has changed since they were told.
    fn follow_mtu(&mut self, found: Option<&Interface>) {
        let Some(mtu) = found.map(|found| found.mtu).filter(|mtu| *mtu > 0 && self.mtu != Some(*mtu)) else {
            return;
        };
        let Watched { interface, seats, udp_limit, .. } = &self.watched;
        for (seat, over_sockets) in seats.iter().zip(&self.over_sockets) {
            if !over_sockets {
                seat.set_link_mtu(mtu);
            }
        }
        let before = self.mtu.replace(mtu);
        let largest = LargestReplies::new(*udp_limit, Some(mtu));
        if largest != LargestReplies::new(*udp_limit, before) {
            let LargestReplies { v4, v6 } = largest;
            tracing::info!(
                "the MTU of {interface} is {mtu}: answers over UDP have at most {v4} bytes over IPv4 and {v6} over \
                 IPv6; clients ask for larger ones over TCP"
            );
        }
    }

    /// Records the state of the link, and logs changes.
    fn note_link(&mut self, found: Option<&Interface>) {
        let now = match found {
            None => LinkState::Gone,
            Some(found) if found.is_up() => LinkState::Up,
            Some(_) => LinkState::Down,
        };
        let Watched { interface, receiving, .. } = &self.watched;
        let before = receiving.set_link(now);
        let attached = matches!(self.state, WatchState::Attached { .. });
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
    // The kernel reports the error only once, which is enough.
    matches!(sockopt::socket_error(socket), Ok(Err(_)) | Err(_))
}

#[cfg(test)]
mod tests;
