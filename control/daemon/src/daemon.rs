//! Life cycle of ringdnsd: start in order, run, stop, and removal of all traces.

use crate::{
    access::AccessGate,
    admin::{self, ApiCounters, Service},
    bans::Bans,
    busiest::Busiest,
    client_names::ClientNames,
    control_socket,
    decisions::log_labels,
    entrance::{self, Entrance},
    error::DaemonError,
    firewall::{self, Firewall},
    latency::LatencyCollector,
    listen::Listener,
    lists::{self, ListKeeper},
    local::{self, LocalSources},
    logging::LogLevels,
    nic::{Receiving, Watch},
    outputs::{Logging, Outputs},
    parts::{Part, lasting, part_error},
    policy,
    preflight::{self, Claim},
    problems::HostProblems,
    process,
    reload::{ConfigSource, Reloader},
    runtime,
    sandbox::Folders,
    service_manager,
    stop::{self, GRACE, StopSignals},
    tokens::Tokens,
    upstream_messages::UpstreamMessages,
    workers::{self, Common, Ended},
};
use parking_lot::Mutex;
use ringdns_common::{backroom::Backroom, counters::Total};
use ringdns_config::{Config, tokens::Token};
use ringdns_dataplane::{
    clock::Clock, demand::DemandLine, doorbell::Doorbell, log::Line, policy::QueryPolicy, punt::Link,
};
use ringdns_dnstap::{Dnstap, Sender};
use ringdns_fleet::Fleet;
use ringdns_querylog as log;
use ringdns_querylog::{QueryLog, writer::Writer};
use ringdns_resolver::{
    FlightLimits, Resolver,
    host::HostTier,
    pump::{self, WaitingNotify},
    snapshot::Snapshot,
    sweep::Sweeper,
    tier::SharedTier,
};
use ringdns_xdp::{Steering, VerdictReader};
use std::{
    fs,
    future::pending,
    io::{self, PipeWriter},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{
        mpsc::{Receiver, UnboundedReceiver, channel, unbounded_channel},
        oneshot,
    },
    task::JoinSet,
    time::timeout,
};

/// Number of file descriptors reserved for everything but questions in flight and TCP connections.
const OTHER_FILES: usize = 512;
/// Most NOTIFY messages over UDP that wait for their replies.
const NOTIFIES: usize = 16;

/// Runs until a signal asks to stop or an essential part fails. `source` is the origin of the
/// configuration, `levels` those of the log. `folders`: those that the process is limited to.
pub fn run(
    mut config: Config,
    source: ConfigSource,
    levels: LogLevels,
    folders: Option<Folders>,
) -> Result<(), DaemonError> {
    let clock = Clock::start();
    let files = process::raise_file_limit();
    let lists = lists::start(&config).map_err(DaemonError::Lists)?;
    let mut policy = policy::policy(&config, lists.groups())?;
    let mut sources = LocalSources::default();
    let data = sources.load(&config.local).map_err(DaemonError::Lists)?;
    let claim = preflight::claim(&config)?;
    config.server.listen.clone_from(&claim.listen);

    let generations = Arc::<ringdns_dataplane::purge::Generations>::default();
    let bell = Arc::new(Doorbell::new()?);
    let limits = FlightLimits::default();
    let left = files.saturating_sub(OTHER_FILES + config.tcp.connections);
    let limits = FlightLimits { flights: limits.flights.min(left.max(64)), ..limits };
    let fleet = config.redis.as_ref().map(|redis| Fleet::new(redis, clock));
    let shared = fleet.clone().map(|fleet| fleet as Arc<dyn SharedTier>);
    let resolver = resolver(&config, clock, generations.clone(), limits, shared);
    let firewall = firewall::of(&config, clock, &resolver)?;
    policy.lists.clone_from(resolver.list_counts().labels());

    let lists = ListKeeper::new(lists, config.lists.clone(), resolver.clone());
    let groups = lists.groups();
    // Clients may be paused.
    policy::regroup(&mut policy, &groups)?;
    let policy = Arc::new(policy);
    resolver.set_local_data(data);
    resolver.set_safe_search(local::safe_search(config.safe_search));

    let names = ClientNames::new(&config, clock);
    let log = QueryLog::new(&config, clock, log_labels(&resolver, names.clone()))?;
    if let Some(log) = &log {
        log.set_groups(policy::log_groups(&policy, &groups));
    }
    let busiest = Busiest::new(&config, clock)?;
    busiest.set_groups(policy::log_groups(&policy, &groups));
    let tap = Dnstap::new(config.dnstap.as_ref(), clock)?;
    if let Some(tap) = tap.clone().filter(|tap| tap.wants_upstreams()) {
        resolver.set_upstream_reader(Arc::new(UpstreamMessages(tap)));
    }
    let (ended, ends) = unbounded_channel();
    let host_problems = Arc::new(HostProblems::on(&claim.addresses()));
    let common = Common {
        config: &config,
        policy: policy.clone(),
        clock,
        bell: bell.clone(),
        generations,
        ended,
        log: log.clone(),
        tap: tap.clone(),
        host_problems: host_problems.clone(),
    };
    let Entrance { steering, tally, watch, workers, receiving, spare_cores, is_shared } =
        entrance::open(&claim.listen, &common)?;

    let runtime = runtime::on_cores(spare_cores.clone(), is_shared)?;
    let bans = Bans::new(clock, config.rate_limit.as_ref(), &config.lists.groups);
    let plane = Plane {
        config,
        source,
        policy,
        lists,
        local: sources,
        clock,
        receiving,
        host_problems,
        links: workers.links.clone(),
        lines: workers.lines.clone(),
        demands: workers.demands.clone(),
        resolver,
        fleet,
        steering: steering.clone(),
        bans,
        firewall,
        tally,
        watch,
        bell,
        log,
        names,
        busiest,
        tap,
        spare_cores,
        levels,
        folders,
    };
    let mut outputs = Outputs::default();
    let worked = runtime.block_on(plane.work(claim, ends, &mut outputs));
    // Before the workers, in case `work` returned early: no packet may be steered to a socket that
    // is being closed.
    drop(steering.lock().take());
    drop(workers);
    // After the workers, so that the outputs have their last answers.
    runtime.block_on(outputs.finish());
    runtime.shutdown_timeout(GRACE);
    worked
}

/// Returns the resolver that a configuration describes, over an empty host tier. It asks `fleet`
/// before upstreams.
pub fn resolver(
    config: &Config,
    clock: Clock,
    generations: Arc<ringdns_dataplane::purge::Generations>,
    limits: FlightLimits,
    fleet: Option<Arc<dyn SharedTier>>,
) -> Arc<Resolver> {
    let host = Arc::new(HostTier::new(config.cache.host_bytes, generations));
    Resolver::new(host, config, clock, limits, fleet)
}

/// Returns the TCP listener that a configuration describes.
pub fn listener(
    config: &Config,
    policy: Arc<QueryPolicy>,
    resolver: Arc<Resolver>,
    log: Option<Arc<QueryLog>>,
) -> Arc<Listener> {
    Listener::new(resolver, policy, workers::rules(config), config.tcp, log)
}

/// Control plane.
struct Plane {
    config: Config,
    source: ConfigSource,
    policy: Arc<QueryPolicy>,
    lists: Arc<ListKeeper>,
    local: LocalSources,
    clock: Clock,
    receiving: Arc<Receiving>,
    host_problems: Arc<HostProblems>,
    links: Vec<Arc<Link>>,
    lines: Vec<Arc<Line>>,
    demands: Vec<Arc<DemandLine>>,
    resolver: Arc<Resolver>,
    fleet: Option<Arc<Fleet>>,
    steering: Arc<Mutex<Option<Steering>>>,
    bans: Arc<Bans>,
    firewall: Option<Arc<Firewall>>,
    tally: Option<VerdictReader>,
    watch: Option<Watch>,
    bell: Arc<Doorbell>,
    log: Option<Arc<QueryLog>>,
    names: Option<Arc<ClientNames>>,
    busiest: Arc<Busiest>,
    tap: Option<Arc<Dnstap>>,
    spare_cores: Vec<core_affinity::CoreId>,
    levels: LogLevels,
    folders: Option<Folders>,
}

impl Plane {
    /// Runs until it is told to stop or cannot go on. Leaves query log and dnstap in `outputs`, to
    /// be finished after the workers have ended.
    async fn work(
        mut self,
        claim: Claim,
        mut ends: UnboundedReceiver<Ended>,
        outputs: &mut Outputs,
    ) -> Result<(), DaemonError> {
        let mut signals = StopSignals::new()?;
        let hangups = signal(SignalKind::hangup())?;
        let mut parts: JoinSet<Part> = JoinSet::new();
        let notifies = self.begin(&mut parts);
        let (watching, settled) = self.watch(&mut parts)?;
        let sweeper = self.sweep(&mut parts)?;
        let snapshot = self.snapshot(&mut parts)?;
        let listener = self.listen(claim.tcp, &mut parts)?;
        lasting(&mut parts, "answers to NOTIFY", listener.clone().answer_notifies(notifies));
        outputs.logging = self.log(&mut parts)?;
        let tap = self.tap.clone().map(|tap| Sender::start(tap, self.spare_cores.clone()));
        outputs.dnstap = tap.transpose()?;

        let path = self.config.control.socket.clone();
        let socket = control_socket::bind(&path)?;
        let http = claim.http.map(tokio::net::TcpListener::from_std).transpose()?;
        let (resolver, links, steering) = (self.resolver.clone(), self.links.clone(), self.steering.clone());
        let tokens = Tokens::read(&self.config.control)?;
        let service = Arc::new(self.service(listener, sweeper, snapshot.clone(), tokens)?);
        let over_socket = admin::serve_socket(socket, service.clone());
        parts.spawn(async { ("the API", over_socket.await) });
        if let Some(http) = http {
            let over_http = admin::serve_http(http, service.clone());
            parts.spawn(async { ("the API over HTTP", over_http.await) });
        }

        let reloading = service.clone().reload_when_told(hangups);
        parts.spawn(async {
            reloading.await;
            ("reloading", Ok(()))
        });

        lasting(&mut parts, "the watch on problems", service.clone().watch_problems());
        lasting(&mut parts, "the history", service.clone().keep_history());
        let (hosts, groups) = (service.clone().watch_hosts_files(), service.clone().follow_groups());
        parts.spawn(async {
            tokio::join!(hosts, groups);
            ("the watch on hosts files and groups of clients", Ok(()))
        });

        let becoming_ready = async {
            // An error means that the watch has ended, which ends the daemon.
            let _ = settled.await;
            service.ready.store(true, Ordering::Release);
            service_manager::ready();
            let listen = &service.config.server.listen;
            tracing::info!(
                ?listen,
                workers = links.len(),
                receiving = service.receiving.to_string(),
                "ready"
            );
            pending().await
        };
        let mut stop = pin!(async {
            tokio::select! {
                why = becoming_ready => why,
                signal = signals.next() => {
                    service_manager::stopping();
                    stop::drain(&service, &mut signals).await;
                    Ok(signal)
                }
            }
        });
        let why = tokio::select! {
            why = &mut stop => why,
            Some(Ended { worker, reason }) = ends.recv() => Err(DaemonError::Worker { worker, reason }),
            Some(ended) = parts.join_next() => Err(part_error(ended)),
        };
        service.ready.store(false, Ordering::Release);
        // First: from here on packets go to kernel sockets, until those are closed too. The watch
        // finds no program and does not attach it again.
        drop(steering.lock().take());
        drop(watching);
        if let Ok(signal) = why {
            tracing::info!(signal, "stopping");
            stop::settle(&links, &resolver).await;
        }
        if let Some(snapshot) = snapshot {
            // The timeout is for a disk that hangs.
            drop(timeout(2 * GRACE, snapshot.write()).await);
        }
        // Answers of tasks that run on would be missing from the log.
        drop(timeout(GRACE, parts.shutdown()).await);
        // Errors are ignored: somebody may have removed the file already.
        drop(fs::remove_file(&path));
        why.map(drop)
    }

    /// Begins the tasks that depend on no other. Returns the NOTIFY messages that workers receive.
    fn begin(&self, parts: &mut JoinSet<Part>) -> Receiver<WaitingNotify> {
        if let Some(names) = &self.names {
            names.begin(&self.resolver, parts);
        }
        let (notifies, waiting) = channel(NOTIFIES);
        let pump = pump::run(self.links.clone(), self.bell.clone(), self.resolver.clone(), notifies);
        parts.spawn(async { ("the pump", pump.await) });
        let clock = self.clock;
        let (host_problems, links) = (self.host_problems.clone(), self.links.clone());
        lasting(parts, "the watch on this host", async move { host_problems.watch(links, clock).await });
        lasting(parts, "the watch on upstreams", self.resolver.clone().watch_upstreams());
        lasting(parts, "the watch on floods", self.resolver.clone().watch_zones());
        lasting(parts, "the upkeep of trust anchors", self.resolver.clone().keep_anchors());
        lasting(parts, "the schedules of lists", self.lists.clone().keep_time());
        lasting(parts, "the upkeep of lists", self.lists.clone().run());
        lasting(parts, "the busiest names and clients", self.busiest.clone().run(self.links.clone()));
        lasting(parts, "bans", self.bans.clone().run(self.links.clone(), self.steering.clone()));
        if let Some(fleet) = &self.fleet {
            lasting(parts, "the Redis tier", fleet.clone().run(self.resolver.host().clone()));
        }
        if let Some(redis) = &self.config.redis
            && let Some(keys) = redis.warm_keys
        {
            let (resolver, per_second) = (self.resolver.clone(), redis.warm_per_second);
            tokio::spawn(async move { resolver.warm(keys, per_second).await });
        }
        waiting
    }

    fn listen(
        &self,
        sockets: Vec<std::net::TcpListener>,
        parts: &mut JoinSet<Part>,
    ) -> io::Result<Arc<Listener>> {
        let log = self.log.clone();
        let listener = listener(&self.config, self.policy.clone(), self.resolver.clone(), log);
        listener.set_zones(self.lists.clone());
        listener.set_busiest(self.busiest.clone());
        if let Some(tap) = &self.tap {
            listener.set_tap(tap.clone());
        }
        for socket in sockets {
            let serving = listener.clone().serve(tokio::net::TcpListener::from_std(socket)?);
            parts.spawn(async {
                serving.await;
                ("a TCP listener", Ok(()))
            });
        }
        Ok(listener)
    }

    /// Starts the watch over the interface. Returns a guard that ends it when dropped, and a
    /// receiver that fires once the link is as it was before the XDP program was attached.
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

    /// Starts the sweeps of the host tier.
    fn sweep(&self, parts: &mut JoinSet<Part>) -> io::Result<Arc<Sweeper>> {
        let backroom = Backroom::open("sweeps", self.spare_cores.clone())?;
        let workers = self.links.iter().cloned().zip(self.demands.iter().cloned()).collect();
        let sweeper = Sweeper::new(self.resolver.clone(), self.config.refresh, backroom, workers);
        let sweeping = sweeper.clone().run();
        parts.spawn(async { ("the sweeper", sweeping.await) });
        Ok(sweeper)
    }

    /// Starts reading and writing the snapshot, if one is configured.
    fn snapshot(&self, parts: &mut JoinSet<Part>) -> io::Result<Option<Arc<Snapshot>>> {
        let Some(settings) = self.config.snapshot.clone() else { return Ok(None) };
        let backroom = Backroom::open("snapshot", self.spare_cores.clone())?;
        let snapshot = Snapshot::new(settings, self.resolver.clone(), backroom);
        let keeping = snapshot.clone().run();
        parts.spawn(async { ("the snapshot", keeping.await) });
        Ok(Some(snapshot))
    }

    /// Starts the collector and the writer of the query log, if it is enabled.
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
        tokens: Vec<Token>,
    ) -> io::Result<Service> {
        let tally = self.tally;
        let (resolver, links, bans) = (self.resolver.clone(), self.links.clone(), self.bans.clone());
        let (source, policy, lists) = (self.source, self.policy, self.lists);
        let access = AccessGate::new(self.steering, self.host_problems.clone());
        Ok(Service {
            reloader: Reloader::new(source, policy, lists.clone(), resolver, listener.clone(), links, bans)
                .with_local(self.local)
                .with_access(access)
                .within(self.folders)
                .with_tokens(tokens)
                .with_names(self.names),
            audit: admin::AuditLog::new(self.config.control.audit_log.clone()),
            lists,
            bans: self.bans,
            firewall: self.firewall,
            problems: admin::Problems::new(self.host_problems, &self.config.control),
            config: self.config,
            clock: self.clock,
            receiving: self.receiving,
            latencies: LatencyCollector::new(self.links.clone())?,
            links: self.links,
            resolver: self.resolver,
            fleet: self.fleet,
            verdicts: Box::new(move || tally.as_ref().and_then(|tally| tally.verdicts().ok())),
            listeners: Box::new(move || -> Vec<Total> { listener.counters.totals() }),
            log: self.log,
            busiest: self.busiest,
            chronicle: admin::Chronicle::default(),
            tap: self.tap,
            captures: Default::default(),
            sweeper,
            snapshot,
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            levels: self.levels,
            api: ApiCounters::default(),
        })
    }
}
