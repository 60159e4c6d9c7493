//! Worker threads: each pinned, with a port and a cache of its own, both made on the thread that uses them.
//!
//! A worker lives as long as the process. Its port may be replaced: an interface that goes away takes its AF_XDP
//! sockets along, and the worker goes on with kernel sockets, its cache, counters and questions under way.
//! A [`Seat`] is the way to tell it so.

use crate::notices::Notices;
use core_affinity::CoreId;
use ringdns_config::{Config, Mode};
use ringdns_dataplane::{
    clock::Clock,
    demand::{self, Demand},
    doorbell::Doorbell,
    log::Line,
    policy::Policy,
    port::{
        udp::UdpError,
        xsk::{BusyPoll, Opened, Request, XskConfig, XskError},
    },
    process::Rules,
    punt::Link,
    worker::Settings,
};
use ringdns_querylog::QueryLog;
use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, atomic::AtomicU64, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::sync::mpsc::UnboundedSender;

mod task;
#[cfg(test)]
mod tests;

use task::{Order, Task};

/// Queries of one worker that may wait for the control plane.
const RECORDS: usize = 4096;
/// Punts that may wait to be taken.
const QUEUE: usize = RECORDS;
/// Busy polling that suits DNS: short polls of one burst.
const BUSY_POLL: BusyPoll = BusyPoll { usecs: 20, budget: 64 };

/// Where a worker's packets come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// One queue of an interface.
    Queue {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
    },
    /// Kernel sockets on these addresses.
    Sockets(Vec<SocketAddr>),
}

/// A worker to be started.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where its packets come from.
    pub source: Source,
    /// The cores that it may run on; one: it is pinned. None: all.
    pub cores: Vec<CoreId>,
    /// Bytes of its cache.
    pub cache_bytes: u64,
    /// Whether it shares a core with nobody.
    pub alone: bool,
}

/// Why a worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its AF_XDP socket cannot be opened.
    #[error(transparent)]
    Xsk(#[from] XskError),
    /// Its kernel sockets cannot be opened.
    #[error(transparent)]
    Udp(#[from] UdpError),
    /// Its thread or memory cannot be had.
    #[error("worker {worker} cannot be set up: {source}. Check ulimit -u, memory and cache.bytes_per_worker")]
    Setup {
        /// The worker.
        worker: usize,
        /// Why.
        source: io::Error,
    },
}

/// The AF_XDP socket of a port, for the map of the XDP program, and how it was opened. `None`: kernel sockets.
///
/// The socket is open, and its queue in use, for as long as this lives.
pub type Socket = Option<(OwnedFd, Opened)>;

/// A worker ended that nobody had told to.
#[derive(Debug)]
pub struct Ended {
    /// Which.
    pub worker: usize,
    /// Why.
    pub reason: String,
}

/// Parts of the process that all workers share.
pub struct Common<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Access list, cookies and limits that queries are held to.
    pub policy: Arc<Policy>,
    /// The clock.
    pub clock: Clock,
    /// The bell that punts ring.
    pub bell: Arc<Doorbell>,
    /// The cache generation.
    pub generation: Arc<AtomicU64>,
    /// Where workers say that they ended unasked.
    pub ended: UnboundedSender<Ended>,
    /// The query log, if there is one.
    pub log: Option<Arc<QueryLog>>,
    /// Conditions that an operator should know of.
    pub notices: Arc<Notices>,
}

/// Running workers. Dropping them ends them, and waits until they have.
#[derive(Default)]
pub struct Workers {
    /// The way to each.
    pub links: Vec<Arc<Link>>,
    /// Paths of the workers to the query log, if anything is logged.
    pub lines: Vec<Arc<Line>>,
    /// Where each tells what it is asked for, if anybody wants to know.
    pub demands: Vec<Arc<Demand>>,
    seats: Vec<Seat>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// The way to tell each worker to replace its port.
    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// Starts one more worker, and waits until it is set up.
    pub fn add(&mut self, plan: Plan, common: &Common<'_>) -> Result<Socket, StartError> {
        let worker = self.links.len();
        let setup = |source| StartError::Setup { worker, source };
        let (bell, generation) = (common.bell.clone(), common.generation.clone());
        let records = RECORDS + demand::RENEWALS;
        let link = Arc::new(Link::new(worker, QUEUE, records, bell, generation).map_err(setup)?);
        let (report, reported) = mpsc::sync_channel(1);
        let (sender, orders) = mpsc::channel();
        let mut settings = settings(common.config, common.policy.clone(), plan.cache_bytes, plan.alone);
        settings.log = common.log.as_ref().map(|log| log.setup());
        // Nobody wants to know it but sweeps that renew, and who writes down what is asked for most.
        let wanted = common.config.refresh.sweep_window > 0 || common.config.snapshot.is_some();
        settings.demand = wanted.then(Demand::new);
        let demand = settings.demand.clone();
        let line = settings.log.as_ref().map(|log| log.line.clone());
        let task = Task {
            link: link.clone(),
            settings,
            plan,
            xsk: xsk_template(common.config),
            clock: common.clock,
            orders,
            report,
            ended: common.ended.clone(),
        };
        let thread = thread::Builder::new().name(format!("worker-{worker}")).spawn(|| task.run());
        let thread = thread.map_err(setup)?;
        match reported.recv() {
            Ok(Ok(socket)) => {
                self.seats.push(Seat { link: link.clone(), orders: sender });
                self.links.push(link);
                self.lines.extend(line);
                self.demands.extend(demand);
                self.threads.push(thread);
                Ok(socket)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(setup(io::Error::other("its thread died"))),
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.links.iter().for_each(|link| link.request_stop());
        for thread in self.threads.drain(..) {
            // One that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// The way to a worker's thread, to have its port replaced: the next port is opened beside the one in use, which goes
/// on until the other is taken.
#[derive(Clone)]
pub struct Seat {
    link: Arc<Link>,
    orders: mpsc::Sender<Order>,
}

impl Seat {
    /// Has the worker open its next port, and waits until it has. The port in use stays in use.
    pub fn open(&self, source: Source) -> Result<Socket, StartError> {
        let (report, reported) = mpsc::sync_channel(1);
        self.order(Order::Open(source, report));
        reported.recv().unwrap_or_else(|_| {
            let source = io::Error::other("its thread has ended");
            Err(StartError::Setup { worker: self.link.worker, source })
        })
    }

    /// Has the worker go on with the port that it opened last, and waits until it does. The one before is closed.
    pub fn take(&self) {
        self.order_and_wait(Order::Take);
    }

    /// Has the worker close the port that it opened last and has not taken, and waits until it has.
    pub fn discard(&self) {
        self.order_and_wait(Order::Discard);
    }

    fn order_and_wait(&self, order: impl FnOnce(mpsc::SyncSender<()>) -> Order) {
        let (report, reported) = mpsc::sync_channel(1);
        self.order(order(report));
        // One that has ended has no port any more, and its end is told elsewhere.
        let _ = reported.recv();
    }

    fn order(&self, order: Order) {
        // To a thread that has ended: whoever waits for the report sees that nobody makes one.
        let _ = self.orders.send(order);
        self.link.interrupt();
    }
}

/// Returns the rules that answers depend on, over whatever they go.
pub fn rules(config: &Config) -> Rules {
    Rules {
        udp_limit: config.server.udp_limit,
        stale_ttl: config.cache.stale_ttl,
        stale_at_once: config.cache.stale_client_timeout.is_zero(),
    }
}

/// How a worker is set up: `alone`, if it shares a core with nobody.
pub fn settings(config: &Config, policy: Arc<Policy>, cache_bytes: u64, alone: bool) -> Settings {
    Settings {
        cache_bytes: usize::try_from(cache_bytes).unwrap_or(usize::MAX),
        rules: rules(config),
        policy,
        records: RECORDS,
        // Somebody else on its core has better things to do with the time; what a miss waits for, above all.
        spin: if alone { config.server.spin } else { Duration::ZERO },
        log: None,
        demand: None,
    }
}

/// The settings of AF_XDP sockets, but for interface and queue.
fn xsk_template(config: &Config) -> XskConfig {
    let mut xsk = XskConfig::new(String::new(), 0);
    xsk.mode = match config.server.mode {
        Mode::Auto => Request::Auto,
        Mode::ZeroCopy => Request::ZeroCopy,
        Mode::Copy => Request::Copy,
        Mode::Generic => Request::Generic,
    };
    xsk.trust_checksums = config.server.trust_checksums;
    xsk.busy_poll = config.server.busy_poll.then_some(BUSY_POLL);
    xsk
}
