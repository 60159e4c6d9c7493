//! Worker threads: each is pinned and has its own port and cache, both created on the thread that
//! uses them.
//!
//! A worker lives as long as the process. Its port may be replaced: when an interface goes away,
//! its AF_XDP sockets are lost, and the worker continues on kernel sockets with its cache, counters
//! and questions in flight. A [`Seat`] controls the replacement.

use crate::problems::HostProblems;
use core_affinity::CoreId;
use ringdns_common::cores;
use ringdns_config::{Config, XdpMode};
use ringdns_dataplane::{
    clock::Clock,
    demand::DemandLine,
    doorbell::Doorbell,
    log::Line,
    policy::QueryPolicy,
    port::{
        udp::UdpError,
        xsk::{BusyPoll, Opened, Request, XskConfig, XskError},
    },
    process::AnswerConfig,
    punt::Link,
    region::PopulatorThread,
    worker::WorkerConfig,
};
use ringdns_dnstap::Dnstap;
use ringdns_querylog::QueryLog;
use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::sync::mpsc::UnboundedSender;

mod task;
#[cfg(test)]
mod tests;

use task::{Order, Task};

/// Most queries of one worker that wait for the control plane.
const RECORDS: usize = 4096;
/// Most punts in the queue to the control plane.
const QUEUE: usize = RECORDS;
/// Niceness of the thread that populates memory: workers and cache misses come first.
const MEMORY_NICENESS: i32 = 19;
/// Busy polling suited to DNS: short polls of one burst.
const BUSY_POLL: BusyPoll = BusyPoll { usecs: 20, budget: 64 };

/// Source of a worker's packets.
#[derive(Clone, Debug)]
pub enum PortSource {
    /// One queue of an interface.
    Queue {
        /// Name of the interface.
        interface: String,
        /// Number of the queue.
        queue: u32,
    },
    /// Kernel sockets on these addresses.
    Sockets(Vec<SocketAddr>),
}

/// Settings of a worker to be started.
#[derive(Clone, Debug)]
pub struct WorkerPlan {
    /// Source of its packets.
    pub source: PortSource,
    /// Cores that it may run on: one pins it; none means all cores.
    pub cores: Vec<CoreId>,
    /// Size of its cache in bytes.
    pub cache_bytes: u64,
    /// Whether it has its core to itself.
    pub alone: bool,
}

/// Reason why a worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The AF_XDP socket cannot be opened.
    #[error(transparent)]
    Xsk(#[from] XskError),
    /// The kernel sockets cannot be opened.
    #[error(transparent)]
    Udp(#[from] UdpError),
    /// The thread that populates memory cannot be started.
    #[error("the thread that populates memory cannot be started: {0}. Check ulimit -u")]
    Memory(io::Error),
    /// The thread or the memory cannot be allocated.
    #[error("worker {worker} cannot be set up: {source}. Check ulimit -u, memory and cache.bytes_per_worker")]
    Setup {
        /// Number of the worker.
        worker: usize,
        /// Error of the kernel.
        source: io::Error,
    },
}

/// AF_XDP socket of a port, for the map of the XDP program, and the mode in which it was opened.
/// `None`: kernel sockets.
///
/// The socket stays open, and its queue in use, as long as this lives.
pub type OpenedSocket = Option<(OwnedFd, Opened)>;

/// Report of a worker that ended without a request.
#[derive(Debug)]
pub struct Ended {
    /// Number of the worker.
    pub worker: usize,
    /// Reason why it ended.
    pub reason: String,
}

/// Parts of the process that all workers share.
pub struct Common<'a> {
    /// Configuration.
    pub config: &'a Config,
    /// Access list, cookies and limits for queries.
    pub policy: Arc<QueryPolicy>,
    /// Clock of the process.
    pub clock: Clock,
    /// Doorbell that punts ring.
    pub bell: Arc<Doorbell>,
    /// Generations of the caches.
    pub generations: Arc<ringdns_dataplane::purge::Generations>,
    /// Channel on which workers report that they ended without a request.
    pub ended: UnboundedSender<Ended>,
    /// Query log, if it is enabled.
    pub log: Option<Arc<QueryLog>>,
    /// dnstap output, if there is one.
    pub tap: Option<Arc<Dnstap>>,
    /// Conditions that an operator should know of.
    pub host_problems: Arc<HostProblems>,
}

/// Running workers. Dropping them stops them, and waits until they have ended.
pub struct Workers {
    /// Link to each worker.
    pub links: Vec<Arc<Link>>,
    /// Paths of the workers to the query log, if anything is logged.
    pub lines: Vec<Arc<Line>>,
    /// Records of the demand at each worker, if a sweep or the snapshot uses them.
    pub demands: Vec<Arc<DemandLine>>,
    seats: Vec<Seat>,
    threads: Vec<JoinHandle<()>>,
    memory: PopulatorThread,
}

impl Workers {
    /// Starts the thread that populates the memory of workers, on these cores. There are no workers yet.
    pub fn new(cores: Vec<CoreId>) -> Result<Self, StartError> {
        let begin = move || {
            cores::sit(&cores);
            // Without permission the niceness stays as it is.
            let _ = rustix::process::setpriority_process(None, MEMORY_NICENESS);
        };
        Ok(Workers {
            links: Vec::new(),
            lines: Vec::new(),
            demands: Vec::new(),
            seats: Vec::new(),
            threads: Vec::new(),
            memory: PopulatorThread::start("memory", begin).map_err(StartError::Memory)?,
        })
    }

    /// Returns the seats of the workers, to replace their ports.
    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// Starts one more worker and waits until it is set up.
    pub fn add(&mut self, plan: WorkerPlan, common: &Common<'_>) -> Result<OpenedSocket, StartError> {
        let worker = self.links.len();
        let setup = |source| StartError::Setup { worker, source };
        let (bell, generations) = (common.bell.clone(), common.generations.clone());
        let link = Arc::new(Link::new(worker, QUEUE, RECORDS, bell, generations).map_err(setup)?);
        let (report, reported) = mpsc::sync_channel(1);
        let (sender, orders) = mpsc::channel();
        let mut settings = settings(common.config, common.policy.clone(), plan.cache_bytes, plan.alone);
        settings.log = common.log.as_ref().map(|log| log.setup());
        settings.mirror = common.tap.as_ref().map(|tap| tap.setup());
        // Only sweeps that renew, and the snapshot, use the demand.
        let wanted = common.config.refresh.sweep_window > 0 || common.config.snapshot.is_some();
        settings.demand = wanted.then(DemandLine::new);
        let demand = settings.demand.clone();
        settings.populator = Some(self.memory.populator());
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
        let thread = thread::Builder::new().name(thread_name(worker)).spawn(|| task.run());
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
            // A worker that panicked has reported it already.
            let _ = thread.join();
        }
    }
}

/// Handle to replace a worker's port: the next port is opened beside the one in use, which works
/// until the other is taken.
#[derive(Clone)]
pub struct Seat {
    link: Arc<Link>,
    orders: mpsc::Sender<Order>,
}

impl Seat {
    /// Makes the worker open its next port, and waits until it has. The port in use stays in use.
    pub fn open(&self, source: PortSource) -> Result<OpenedSocket, StartError> {
        let (report, reported) = mpsc::sync_channel(1);
        self.order(Order::Open(source, report));
        reported.recv().unwrap_or_else(|_| {
            let source = io::Error::other("its thread has ended");
            Err(StartError::Setup { worker: self.link.worker, source })
        })
    }

    /// Makes the worker switch to the port that it opened last, and waits until it has. The one
    /// before is closed.
    pub fn take(&self) {
        self.order_and_wait(Order::Take);
    }

    /// Makes the worker close the port that it opened last and has not taken, and waits until it
    /// has.
    pub fn discard(&self) {
        self.order_and_wait(Order::Discard);
    }

    /// Tells the worker the MTU of the link that its AF_XDP port sends by.
    pub fn set_link_mtu(&self, mtu: u32) {
        self.order(Order::LinkMtu(mtu));
    }

    fn order_and_wait(&self, order: impl FnOnce(mpsc::SyncSender<()>) -> Order) {
        let (report, reported) = mpsc::sync_channel(1);
        self.order(order(report));
        // A worker that has ended has no port, and its end is reported elsewhere.
        let _ = reported.recv();
    }

    fn order(&self, order: Order) {
        // If the thread has ended, the caller sees that the channel of the report is closed.
        let _ = self.orders.send(order);
        self.link.interrupt();
    }
}

/// Start of the names of workers' threads.
const THREAD: &str = "worker-";

/// Returns the name of a worker's thread.
pub fn thread_name(worker: usize) -> String {
    format!("{THREAD}{worker}")
}

/// Returns the worker whose thread has this name.
pub fn number_of_thread(name: &str) -> Option<usize> {
    name.strip_prefix(THREAD)?.parse().ok()
}

/// Returns the rules for answers, over any transport.
pub fn rules(config: &Config) -> AnswerConfig {
    AnswerConfig {
        udp_limit: config.server.udp_limit,
        stale_ttl: config.cache.stale_ttl,
        stale_at_once: config.cache.stale_client_timeout.is_zero(),
    }
}

/// Returns the settings of a worker. `alone`: it has its core to itself.
pub fn settings(config: &Config, policy: Arc<QueryPolicy>, cache_bytes: u64, alone: bool) -> WorkerConfig {
    WorkerConfig {
        cache_bytes: usize::try_from(cache_bytes).unwrap_or(usize::MAX),
        rules: rules(config),
        policy,
        records: RECORDS,
        // On a shared core, spinning would take time from others, above all from the control plane
        // that serves misses.
        spin: if alone { config.server.spin } else { Duration::ZERO },
        log: None,
        demand: None,
        mirror: None,
        populator: None,
    }
}

/// Returns the settings of AF_XDP sockets, except interface and queue.
fn xsk_template(config: &Config) -> XskConfig {
    let mut xsk = XskConfig::new(String::new(), 0);
    xsk.mode = match config.server.mode {
        XdpMode::Auto => Request::Auto,
        XdpMode::ZeroCopy => Request::ZeroCopy,
        XdpMode::Copy => Request::Copy,
        XdpMode::Generic => Request::Generic,
    };
    xsk.trust_checksums = config.server.trust_checksums;
    xsk.busy_poll = config.server.busy_poll.then_some(BUSY_POLL);
    xsk
}
