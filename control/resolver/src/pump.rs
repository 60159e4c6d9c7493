//! Pump: takes punts from all workers and has them answered.
//!
//! One task serves all workers. It sleeps on the doorbell, which workers ring after they have
//! pushed. Before it sleeps, it arms the doorbell and checks all queues once more, so that no punt
//! is left behind.

use crate::{Resolver, Turn};
use ringdns_common::shared_core;
use ringdns_dataplane::{
    doorbell::Doorbell,
    punt::{Link, Punt, Purpose},
    stats::Counter,
};
use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, RawFd},
    sync::Arc,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
};

/// Most punts taken from one worker before the next worker's turn, and before a core that is shared is
/// yielded.
const TURN: usize = 32;

/// NOTIFY that waits for its reply.
pub struct WaitingNotify {
    link: Arc<Link>,
    record: Box<Punt>,
}

impl WaitingNotify {
    /// Returns the message and the host that has sent it.
    pub fn message(&self) -> Option<(&[u8], IpAddr)> {
        Some((self.record.notify.as_deref()?, self.record.client()?.ip()))
    }

    /// Sends the reply. `None`: the message is counted as not answered.
    pub fn answer(mut self, reply: Option<Vec<u8>>) {
        self.record.notify = reply.map(Vec::into_boxed_slice);
        if self.record.notify.is_none() {
            self.record.purpose = Purpose::Withheld(Counter::PuntPaced);
        }
        self.link.give_back(self.record);
        self.link.wake_worker();
    }
}

/// Serves `links`, whose workers ring `bell`, until the task is dropped. NOTIFY messages go to
/// `notifies`; if too many wait there, they get no answer. Fails if the task cannot wait for the
/// doorbell.
pub async fn run(
    links: Vec<Arc<Link>>,
    bell: Arc<Doorbell>,
    resolver: Arc<Resolver>,
    notifies: mpsc::Sender<WaitingNotify>,
) -> io::Result<()> {
    #[expect(deprecated, reason = "its successor is unsafe, for types that may close their fd; Bell cannot")]
    let event = AsyncFd::with_interest(Bell(bell.clone()), Interest::READABLE)?;
    loop {
        while drain(&links, &resolver, &notifies) {
            // Hits in the host tier need no await; without this, a flood of them would starve the
            // questions in flight.
            tokio::task::yield_now().await;
            shared_core::end_step();
        }
        bell.arm();
        if !links.iter().any(|link| link.has_punts()) {
            // Readiness is cleared before the doorbell is read: a ring after that is a new edge.
            event.readable().await?.clear_ready();
        }
        bell.disarm();
    }
}

/// Gives each worker a turn. Returns false if no worker had a punt.
fn drain(links: &[Arc<Link>], resolver: &Arc<Resolver>, notifies: &mpsc::Sender<WaitingNotify>) -> bool {
    let mut taken = false;
    let mut turn = Turn::default();
    for link in links {
        for _ in 0..TURN {
            let Some(record) = link.take() else { break };
            taken = true;
            if !matches!(record.purpose, Purpose::Notify(_)) {
                resolver.serve(link, record, &mut turn);
            } else if let Err(error) = notifies.try_send(WaitingNotify { link: link.clone(), record }) {
                error.into_inner().answer(None);
            }
        }
    }
    taken
}

/// Eventfd of the doorbell, for tokio to poll.
struct Bell(Arc<Doorbell>);

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.0.fd().as_fd().as_raw_fd()
    }
}
