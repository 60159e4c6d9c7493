//! Thread of a worker: opens and replaces its ports, and reports its end.

use super::{Ended, OpenedSocket, PortSource, StartError, WorkerPlan};
use ringdns_common::cores;
use ringdns_dataplane::{
    clock::Clock,
    port::{
        Port,
        udp::UdpPort,
        xsk::{XskConfig, XskPort},
    },
    punt::Link,
    worker::{Worker, WorkerConfig},
};
use std::{
    io,
    sync::{Arc, mpsc},
};
use tokio::sync::mpsc::UnboundedSender;

/// Number of chunks of packet memory for a worker over kernel sockets: enough for one turn and its
/// answers.
const UDP_FRAMES: u32 = 1024;

/// Request to a worker's thread, handled between two runs of the worker's loop, with the channel
/// for the report.
pub(super) enum Order {
    /// Open a port beside the one in use.
    Open(PortSource, mpsc::SyncSender<Result<OpenedSocket, StartError>>),
    /// Switch to that port.
    Take(mpsc::SyncSender<()>),
    /// Close that port.
    Discard(mpsc::SyncSender<()>),
    /// Limit replies to what fits the link of the port in use, whose MTU in bytes has changed.
    LinkMtu(u32),
}

/// State that a worker's thread starts with.
pub(super) struct Task {
    pub(super) link: Arc<Link>,
    pub(super) plan: WorkerPlan,
    pub(super) settings: WorkerConfig,
    pub(super) xsk: XskConfig,
    pub(super) clock: Clock,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) report: mpsc::SyncSender<Result<OpenedSocket, StartError>>,
    pub(super) ended: UnboundedSender<Ended>,
}

impl Task {
    pub(super) fn run(self) {
        cores::sit(&self.plan.cores);
        let opened = open(&self.plan.source, &self.xsk);
        let made = opened.and_then(|port| {
            let socket = port.socket(self.link.worker)?;
            Ok((self.make(port)?, socket))
        });
        match made {
            Ok((worker, socket)) => self.serve(worker, socket),
            // The caller of `Workers::add` waits for this and reports it.
            Err(error) => drop(self.report.send(Err(error))),
        }
    }

    fn make(&self, port: OpenedPort) -> Result<Manned, StartError> {
        let setup = |source| StartError::Setup { worker: self.link.worker, source };
        let (link, clock, settings) = (self.link.clone(), self.clock, &self.settings);
        Ok(match port {
            OpenedPort::Xsk(port) => {
                Manned::Xsk(Box::new(Worker::new(*port, link, clock, settings).map_err(setup)?))
            }
            OpenedPort::Udp(port) => {
                Manned::Udp(Box::new(Worker::new(*port, link, clock, settings).map_err(setup)?))
            }
        })
    }

    /// Runs the worker until told to stop.
    pub(super) fn serve<M: Runs>(self, worker: M, socket: OpenedSocket) {
        // Reported even when the thread unwinds: a daemon with a dead worker would answer only some
        // clients.
        let mut last_words = LastWords {
            worker: self.link.worker,
            reason: Some("panicked".into()),
            ended: self.ended.clone(),
        };
        drop(self.report.send(Ok(socket)));
        last_words.reason = self.work(worker).err().map(|error| error.to_string());
    }

    fn work<M: Runs>(&self, mut worker: M) -> io::Result<()> {
        let mut next = None;
        loop {
            worker.run()?;
            if !self.link.resume() {
                return Ok(());
            }
            for order in self.orders.try_iter() {
                match order {
                    Order::Open(source, report) => {
                        // Close the one before first: it may use the same queue.
                        next = None;
                        let opened = open(&source, &self.xsk)
                            .and_then(|port| Ok((port.socket(self.link.worker)?, port)));
                        let said = opened.map(|(socket, port)| {
                            next = Some(port);
                            socket
                        });
                        // The caller may be gone during a stop.
                        let _ = report.send(said);
                    }
                    Order::Take(report) => {
                        if let Some(port) = next.take() {
                            worker = worker.replace_port(port);
                        }
                        let _ = report.send(());
                    }
                    Order::Discard(report) => {
                        next = None;
                        let _ = report.send(());
                    }
                    Order::LinkMtu(mtu) => worker.set_link_mtu(mtu),
                }
            }
        }
    }
}

/// Open port.
pub(super) enum OpenedPort {
    Xsk(Box<XskPort>),
    Udp(Box<UdpPort>),
}

/// Opens a port.
fn open(source: &PortSource, xsk: &XskConfig) -> Result<OpenedPort, StartError> {
    Ok(match source {
        PortSource::Sockets(listen) => OpenedPort::udp(UdpPort::open(listen, UDP_FRAMES)?),
        PortSource::Queue { interface, queue } => {
            let config = XskConfig { interface: interface.clone(), queue: *queue, ..xsk.clone() };
            OpenedPort::Xsk(Box::new(XskPort::open(&config)?))
        }
    })
}

impl OpenedPort {
    fn udp(port: UdpPort) -> Self {
        OpenedPort::Udp(Box::new(port))
    }

    fn socket(&self, worker: usize) -> Result<OpenedSocket, StartError> {
        let OpenedPort::Xsk(port) = self else { return Ok(None) };
        let socket = port.fd().try_clone_to_owned().map_err(|source| StartError::Setup { worker, source })?;
        Ok(Some((socket, port.opened().clone())))
    }
}

/// Worker over any kind of port.
pub(super) trait Runs: Sized {
    /// Runs until it is interrupted.
    fn run(&mut self) -> io::Result<()>;

    fn replace_port(self, port: OpenedPort) -> Self;

    fn set_link_mtu(&mut self, mtu: u32);
}

/// Worker over one of the two kinds of port.
enum Manned {
    Xsk(Box<Worker<XskPort>>),
    Udp(Box<Worker<UdpPort>>),
}

impl Runs for Manned {
    fn run(&mut self) -> io::Result<()> {
        match self {
            Manned::Xsk(worker) => worker.run(),
            Manned::Udp(worker) => worker.run(),
        }
    }

    fn set_link_mtu(&mut self, mtu: u32) {
        match self {
            Manned::Xsk(worker) => worker.processor().set_link_mtu(Some(mtu)),
            // The kernel chooses the link.
            Manned::Udp(_) => {}
        }
    }

    fn replace_port(self, port: OpenedPort) -> Self {
        fn over<P: Port>(worker: Worker<P>, port: OpenedPort) -> Manned {
            match port {
                OpenedPort::Xsk(port) => Manned::Xsk(Box::new(worker.replace_port(*port))),
                OpenedPort::Udp(port) => Manned::Udp(Box::new(worker.replace_port(*port))),
            }
        }
        match self {
            Manned::Xsk(worker) => over(*worker, port),
            Manned::Udp(worker) => over(*worker, port),
        }
    }
}

/// Guard that, when dropped, reports that a worker ended without a request.
///
/// A worker that was told to stop reports nothing: another may have replaced it, as when AF_XDP is
/// refused and kernel sockets serve instead, and the report would end that one.
struct LastWords {
    worker: usize,
    reason: Option<String>,
    ended: UnboundedSender<Ended>,
}

impl Drop for LastWords {
    fn drop(&mut self) {
        if let Some(reason) = self.reason.take() {
            // Without a receiver the daemon is ending too.
            let _ = self.ended.send(Ended { worker: self.worker, reason });
        }
    }
}
