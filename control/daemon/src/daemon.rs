//! The life of a ringdnsd: what is started in which order, what ends it, and what is left afterwards: nothing.

use crate::{
    admin::{self, Service},
    entrance::{self, Entrance, EntranceError},
    latency::Collector,
    listen::Listener,
    nic::{Receiving, Watch},
    notices::Notices,
    policy,
    preflight::{self, Claim, ClaimError},
    reload::{Reloader, Source},
    workers::{self, Common, Ended},
};
use parking_lot::Mutex;
use ringdns_common::{backroom::Backroom, cores, counters::Total};
use ringdns_config::{Config, Problem};
use ringdns_dataplane::{
    clock::Clock, demand::Demand, doorbell::Doorbell, log::Line, policy::Policy, punt::Link,
};
use ringdns_fleet::Fleet;
use ringdns_querylog as log;
use ringdns_querylog::{QueryLog, writer::Writer};
use ringdns_resolver::{
    Limits, Resolver, host::HostTier, pump, snapshot::Snapshot, sweep::Sweeper, tier::SharedTier,
};
use ringdns_xdp::{Steering, Tally};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    fs,
    future::pending,
    io::{self, PipeWriter},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::{
        mpsc::{UnboundedReceiver, channel, unbounded_channel},
        oneshot,
    },
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};

/// Most threads of the control plane: its work is waiting.
const THREADS_MAX: usize = 4;
/// File descriptors for everything but questions under way and TCP connections.
const OTHER_FILES: usize = 512;
/// How long a stop waits for questions under way.
const GRACE: Duration = Duration::from_secs(1);

/// Why ringdnsd did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// What the configuration names cannot be used.
    #[error("{0}")]
    Problem(#[from] Problem),
    /// A port is taken.
    #[error("{0}")]
    Claim(#[from] ClaimError),
    /// No way in.
    #[error("{0}")]
    Entrance(#[from] EntranceError),
    /// The control socket.
    #[error("control.socket: {path}: {source}. Give a path in a folder that ringdnsd may write to")]
    Socket {
        /// Its path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The runtime or a doorbell.
    #[error("the control plane cannot be started: {0}. Raise the limits of threads and open files")]
    Runtime(#[from] io::Error),
    /// A worker is gone, and its queue with it.
    #[error("worker {worker} ended: {reason}. Please report this with the lines above")]
    Worker {
        /// Its number.
        worker: usize,
        /// How it ended.
        reason: String,
    },
    /// A part of the control plane is gone.
    #[error("{what} ended: {reason}. Please report this with the lines above")]
    Task {
        /// Which part.
        what: &'static str,
        /// How it ended.
        reason: String,
    },
}

impl DaemonError {
    /// Whether this machine cannot give what the configuration asks for: nothing was attached, and trying again as things
    /// are is of no use.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Problem(_) | Self::Claim(_) | Self::Entrance(_) | Self::Socket { .. })
    }
}

/// Runs until a signal asks to stop, or something fails that cannot be done without. `source`: where the configuration came from.
pub fn run(mut config: Config, source: Source) -> Result<(), DaemonError> {
    let clock = Clock::start();
    let files = raise_file_limit();
    let policy = Arc::new(policy::policy(&config)?);
    let claim = preflight::claim(&config)?;
    config.server.listen.clone_from(&claim.listen);

    let generation = Arc::new(AtomicU64::new(0));
    let bell = Arc::new(Doorbell::new()?);
    let limits = Limits::default();
    let left = files.saturating_sub(OTHER_FILES + config.tcp.connections);
    let limits = Limits { flights: limits.flights.min(left.max(64)), ..limits };
    let fleet = config.redis.as_ref().map(|redis| Fleet::new(redis, clock));
    let shared = fleet.clone().map(|fleet| fleet as Arc<dyn SharedTier>);
    let resolver = resolver(&config, clock, generation.clone(), limits, shared);

    let log = QueryLog::new(&config, clock, resolver.labels().clone())?;
    let (ended, ends) = unbounded_channel();
    let notices = Arc::new(Notices::default());
    let common = Common {
        config: &config,
        policy: policy.clone(),
        clock,
        bell: bell.clone(),
        generation,
        ended,
        log: log.clone(),
        notices: notices.clone(),
    };
    let Entrance { steering, tally, watch, workers, receiving, spare_cores } =
        entrance::open(&claim.listen, &common)?;

    let runtime = runtime(spare_cores.clone())?;
    let plane = Plane {
        config,
        source,
        policy,
        clock,
        receiving,
        notices,
        links: workers.links.clone(),
        lines: workers.lines.clone(),
        demands: workers.demands.clone(),
        resolver,
        fleet,
        steering: steering.clone(),
        tally,
        watch,
        bell,
        log,
        spare_cores,
    };
    let mut logging = None;
    let worked = runtime.block_on(plane.work(claim, ends, &mut logging));
    // Before the workers, if it did not come to that: no packet may be steered to a socket that is being closed.
    drop(steering.lock().take());
    drop(workers);
    // After them: what they answered last is in it.
    if let Some(logging) = logging {
        runtime.block_on(logging.finish());
    }
    runtime.shutdown_timeout(GRACE);
    worked
}

/// Returns the resolver that a configuration asks for, over an empty host tier, and before upstreams over `fleet`.
pub fn resolver(
    config: &Config,
    clock: Clock,
    generation: Arc<AtomicU64>,
    limits: Limits,
    fleet: Option<Arc<dyn SharedTier>>,
) -> Arc<Resolver> {
    let host = Arc::new(HostTier::new(config.cache.host_bytes, generation));
    Resolver::new(host, config, clock, limits, fleet)
}

/// The TCP listener that it asks for.
pub fn listener(
    config: &Config,
    policy: Arc<Policy>,
    resolver: Arc<Resolver>,
    log: Option<Arc<QueryLog>>,
) -> Arc<Listener> {
    Listener::new(resolver, policy, workers::rules(config), config.tcp, log)
}

/// A small runtime, on the cores that no worker has to itself.
fn runtime(spare_cores: Vec<core_affinity::CoreId>) -> io::Result<Runtime> {
    let threads = spare_cores.len().clamp(1, THREADS_MAX);
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("control")
        .on_thread_start(move || cores::sit(&spare_cores))
        .enable_all()
        .build()
}

/// Raises the limit of open files as far as it goes, and returns it: at worst each question under way has a socket of its own.
fn raise_file_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let limit = match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(_) => current,
    };
    limit.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// The control plane.
struct Plane {
    config: Config,
    source: Source,
    policy: Arc<Policy>,
    clock: Clock,
    receiving: Arc<Receiving>,
    notices: Arc<Notices>,
    links: Vec<Arc<Link>>,
    lines: Vec<Arc<Line>>,
    demands: Vec<Arc<Demand>>,
    resolver: Arc<Resolver>,
    fleet: Option<Arc<Fleet>>,
    steering: Arc<Mutex<Option<Steering>>>,
    tally: Option<Tally>,
    watch: Option<Watch>,
    bell: Arc<Doorbell>,
    log: Option<Arc<QueryLog>>,
    spare_cores: Vec<core_affinity::CoreId>,
}

/// The query log at work.
struct Logging {
    collector: Arc<log::Collector>,
    /// `None`: rows are kept nowhere.
    writer: Option<Writer>,
}

impl Logging {
    /// Hands on what is on its way, and waits until it is stored or spooled.
    async fn finish(self) {
        self.collector.finish().await;
        if let Some(writer) = self.writer {
            // A disk that stands still is not waited for.
            drop(timeout(2 * GRACE, spawn_blocking(|| writer.finish())).await);
        }
        self.collector.say_how_it_ended();
    }
}

/// A part of the control plane: what it is, and how it ended.
type Part = (&'static str, io::Result<()>);

impl Plane {
    /// Until it is told to stop, or cannot go on. What logs is left in `logging`, to be finished when the workers have ended.
    async fn work(
        mut self,
        claim: Claim,
        mut ends: UnboundedReceiver<Ended>,
        logging: &mut Option<Logging>,
    ) -> Result<(), DaemonError> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let hangups = signal(SignalKind::hangup())?;
        let mut parts: JoinSet<Part> = JoinSet::new();
        let pump = pump::run(self.links.clone(), self.bell.clone(), self.resolver.clone());
        parts.spawn(async { ("the pump", pump.await) });
        let (notices, links) = (self.notices.clone(), self.links.clone());
        parts.spawn(async move {
            notices.watch(links).await;
            ("the watch on checksums", Ok(()))
        });
        if let Some(fleet) = &self.fleet {
            let keeping = fleet.clone().run(self.resolver.host().clone());
            parts.spawn(async {
                keeping.await;
                ("the fleet's tier", Ok(()))
            });
        }
        if let Some(redis) = &self.config.redis
            && let Some(keys) = redis.warm_keys
        {
            let (resolver, per_second) = (self.resolver.clone(), redis.warm_per_second);
            tokio::spawn(async move { resolver.warm(keys, per_second).await });
        }
        let (watching, settled) = self.watch(&mut parts)?;
        let sweeper = self.sweep(&mut parts)?;
        let snapshot = self.snapshot(&mut parts)?;
        let listener = self.listen(claim.tcp, &mut parts)?;
        *logging = self.log(&mut parts)?;

        let path = self.config.control.socket.clone();
        let socket = admin::bind(&path)
            .map_err(|source| DaemonError::Socket { path: path.display().to_string(), source })?;
        let http = claim.http.map(tokio::net::TcpListener::from_std).transpose()?;
        let (resolver, links, steering) = (self.resolver.clone(), self.links.clone(), self.steering.clone());
        let service = Arc::new(self.service(listener, sweeper, snapshot.clone())?);
        let over_socket = admin::serve_socket(socket, service.clone());
        parts.spawn(async { ("the API", over_socket.await) });
        if let Some(http) = http {
            let over_http = admin::serve_http(http, service.clone());
            parts.spawn(async { ("the API over HTTP", over_http.await) });
        }

        let reloading = reload_when_told(hangups, service.clone());
        parts.spawn(async {
            reloading.await;
            ("reloading", Ok(()))
        });

        let becoming_ready = async {
            // The watch says so, or is gone, which ends the daemon.
            let _ = settled.await;
            service.ready.store(true, Ordering::Release);
            let listen = &service.config.server.listen;
            tracing::info!(
                ?listen,
                workers = links.len(),
                receiving = service.receiving.to_string(),
                "ready"
            );
            pending().await
        };
        let why = tokio::select! {
            why = becoming_ready => why,
            _ = terminate.recv() => Ok("SIGTERM"),
            _ = interrupt.recv() => Ok("SIGINT"),
            Some(Ended { worker, reason }) = ends.recv() => Err(DaemonError::Worker { worker, reason }),
            Some(ended) = parts.join_next() => Err(part_error(ended)),
        };
        service.ready.store(false, Ordering::Release);
        // First of all: from here on the kernel's sockets receive, and then nobody does. The watch finds no program, and
        // does not attach it again.
        drop(steering.lock().take());
        drop(watching);
        if let Ok(signal) = why {
            tracing::info!(signal, "stopping");
            drain(&links, &resolver).await;
        }
        if let Some(snapshot) = snapshot {
            // A disk that stands still is not waited for.
            drop(timeout(2 * GRACE, snapshot.write()).await);
        }
        // Who still answers would not be in the log.
        drop(timeout(GRACE, parts.shutdown()).await);
        // Somebody may have removed it, or another ringdnsd may come for the path.
        drop(fs::remove_file(&path));
        why.map(drop)
    }

    fn listen(
        &self,
        sockets: Vec<std::net::TcpListener>,
        parts: &mut JoinSet<Part>,
    ) -> io::Result<Arc<Listener>> {
        let log = self.log.clone();
        let listener = listener(&self.config, self.policy.clone(), self.resolver.clone(), log);
        for socket in sockets {
            let serving = listener.clone().serve(tokio::net::TcpListener::from_std(socket)?);
            parts.spawn(async {
                serving.await;
                ("a TCP listener", Ok(()))
            });
        }
        Ok(listener)
    }

    /// Begins to watch over the interface. Returns what ends that when it is dropped, and what tells that the link is as
    /// it was before the XDP program was attached.
    fn watch(&mut self, parts: &mut JoinSet<Part>) -> io::Result<(PipeWriter, oneshot::Receiver<()>)> {
        let (stop, stopper) = io::pipe()?;
        let (settling, settled) = oneshot::channel();
        match self.watch.take() {
            Some(watch) => {
                parts.spawn_blocking(move || ("the watch over the interface", watch.run(&stop, settling)));
            }
            // Without an interface there is nothing to wait for.
            None => drop(settling.send(())),
        }
        Ok((stopper, settled))
    }

    /// Begins to sweep the host tier.
    fn sweep(&self, parts: &mut JoinSet<Part>) -> io::Result<Arc<Sweeper>> {
        let backroom = Backroom::open("sweeps", self.spare_cores.clone())?;
        let workers = self.links.iter().cloned().zip(self.demands.iter().cloned()).collect();
        let sweeper = Sweeper::new(self.resolver.clone(), self.config.refresh, backroom, workers);
        let sweeping = sweeper.clone().run();
        parts.spawn(async { ("the sweeper", sweeping.await) });
        Ok(sweeper)
    }

    /// Begins to read the snapshot, and to write it, if there is to be one.
    fn snapshot(&self, parts: &mut JoinSet<Part>) -> io::Result<Option<Arc<Snapshot>>> {
        let Some(settings) = self.config.snapshot.clone() else { return Ok(None) };
        let backroom = Backroom::open("snapshot", self.spare_cores.clone())?;
        let snapshot = Snapshot::new(settings, self.resolver.clone(), backroom);
        let keeping = snapshot.clone().run();
        parts.spawn(async { ("the snapshot", keeping.await) });
        Ok(Some(snapshot))
    }

    /// Begins to collect what is logged, and to write it, if anything is.
    fn log(&self, parts: &mut JoinSet<Part>) -> io::Result<Option<Logging>> {
        let Some(log) = &self.log else { return Ok(None) };
        let (mut writer, mut rows) = (None, None);
        if let Some(shipping) = self.config.shipping.clone() {
            let (sender, receiver) = channel(log::CHANNEL);
            let cores = self.spare_cores.clone();
            writer = Some(Writer::start(shipping, receiver, cores, log.ledger.clone())?);
            rows = Some(sender);
        }
        let collector = log::Collector::new(log.clone(), self.lines.clone(), rows);
        let collecting = collector.clone().run();
        parts.spawn(async {
            collecting.await;
            ("the query log", Ok(()))
        });
        Ok(Some(Logging { collector, writer }))
    }

    fn service(
        self,
        listener: Arc<Listener>,
        sweeper: Arc<Sweeper>,
        snapshot: Option<Arc<Snapshot>>,
    ) -> io::Result<Service> {
        let tally = self.tally;
        let (resolver, links) = (self.resolver.clone(), self.links.clone());
        Ok(Service {
            reloader: Reloader::new(self.source, self.policy, resolver, listener.clone(), links),
            config: self.config,
            clock: self.clock,
            receiving: self.receiving,
            notices: self.notices,
            latencies: Collector::new(self.links.clone())?,
            links: self.links,
            resolver: self.resolver,
            fleet: self.fleet,
            verdicts: Box::new(move || tally.as_ref().and_then(|tally| tally.verdicts().ok())),
            listeners: Box::new(move || -> Vec<Total> { listener.counters.totals() }),
            log: self.log,
            sweeper,
            snapshot,
            ready: AtomicBool::new(false),
        })
    }
}

/// Reads the configuration again whenever SIGHUP comes.
async fn reload_when_told(mut hangups: Signal, service: Arc<Service>) {
    while hangups.recv().await.is_some() {
        let service = service.clone();
        // What comes of it, the reloader says; but for a refusal, of which nobody else hears.
        if let Ok(Err(error)) = spawn_blocking(move || service.reloader.reload()).await {
            tracing::error!("not reloaded, all stays as it was: {error}");
        }
    }
}

/// Waits, for a moment, until nobody waits for an answer.
async fn drain(links: &[Arc<Link>], resolver: &Resolver) {
    let idle = async {
        while resolver.under_way() > 0 || links.iter().any(|link| link.has_punts()) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    // Whoever waits longer will ask again.
    drop(timeout(GRACE, idle).await);
}

fn part_error(ended: Result<Part, tokio::task::JoinError>) -> DaemonError {
    let (what, reason) = match ended {
        Ok((what, Ok(()))) => (what, "unasked".into()),
        Ok((what, Err(error))) => (what, error.to_string()),
        Err(error) => ("a part of the control plane", error.to_string()),
    };
    DaemonError::Task { what, reason }
}
