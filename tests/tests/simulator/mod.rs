//! ringdns without a network card and without waiting: the worker, the pump, the resolver and the
//! TCP listener, assembled from a configuration as in the daemon, on one thread with virtual time.
//!
//! Upstreams and TCP clients are real sockets on loopback. Time stands still while anything can
//! still happen without it. The runtime is never left idle while time is paused, because it would
//! then advance time by itself.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use ringdns_api::OverrideAction;
use ringdns_common::backroom::Backroom;
use ringdns_common::counters::Total;
use ringdns_common::names;
use ringdns_config::{Config, Problem};
use ringdns_daemon::admin::{Problems, Service};
use ringdns_daemon::bans::Bans;
use ringdns_daemon::latency::LatencyCollector;
use ringdns_daemon::lists::{ListKeeper, Lists};
use ringdns_daemon::local::{self, LocalSources};
use ringdns_daemon::nic::Receiving;
use ringdns_daemon::reload::{ConfigSource, Reloader};
use ringdns_daemon::{busiest::Busiest, daemon, policy, workers};
use ringdns_dataplane::clock::{Clock, Nanos};
use ringdns_dataplane::doorbell::Doorbell;
use ringdns_dataplane::port::sim::{SimConfig, SimLink, SimPort};
use ringdns_dataplane::punt::Link;
use ringdns_dataplane::worker::{LoopTurn, Worker};
use ringdns_resolver::host::Purge as HostPurge;
use ringdns_resolver::pump;
use ringdns_resolver::sweep::Sweeper;
use ringdns_resolver::{FlightLimits, Resolver};
use ringdns_testkit::scenario::{Order, OrderVerb, Purge, World, server_of};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Instant, advance};

/// Most punts that wait.
const RECORDS: usize = 256;
/// Step of time while a question is in flight, and otherwise.
const STEP_BUSY: Duration = Duration::from_millis(10);
const STEP_IDLE: Duration = Duration::from_secs(1);
/// Number of idle steps after which steps become longer.
const PATIENCE: u32 = 120;
const STEP_LONG: Duration = Duration::from_secs(30);

thread_local! {
    /// Start of the simulation on this thread, and its Unix time.
    static ORIGIN: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

fn nanos() -> Nanos {
    let (origin, epoch) = ORIGIN.get().expect("the clock is asked on the simulation's thread");
    (epoch + Instant::now().duration_since(origin)).as_nanos() as Nanos
}

/// A simulated ringdns.
pub struct Simulator {
    runtime: Runtime,
    worker: Worker<SimPort>,
    wire: SimLink,
    clock: Clock,
    resolver: Arc<Resolver>,
    service: Service,
    tcp: SocketAddr,
    idle_steps: u32,
}

impl Simulator {
    /// Starts a simulation of `config`, which was read from `source`. Its time begins at `epoch`, a
    /// Unix time.
    pub fn start(config: Config, source: ConfigSource, epoch: Duration) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build()?;
        let inside = runtime.enter();
        ORIGIN.set(Some((Instant::now(), epoch)));
        let clock = Clock::simulated(nanos);
        let generations = Arc::<ringdns_dataplane::purge::Generations>::default();
        let bell = Arc::new(Doorbell::new()?);
        let link = Arc::new(Link::new(0, RECORDS, RECORDS, bell.clone(), generations.clone())?);
        let resolver = daemon::resolver(&config, clock, generations, FlightLimits::default(), None);
        let mut lists = Lists::default();
        let said = |problems: Vec<Problem>| io::Error::other(format!("{problems:?}"));
        lists.load(&config.lists).map_err(said)?;
        let mut policy = policy::policy(&config, lists.groups()).map_err(|problem| said(vec![problem]))?;
        policy.lists.clone_from(resolver.list_counts().labels());
        let policy = Arc::new(policy);
        let lists = ListKeeper::new(lists, config.lists.clone(), resolver.clone());
        let mut sources = LocalSources::default();
        resolver.set_local_data(sources.load(&config.local).map_err(said)?);
        resolver.set_safe_search(local::safe_search(config.safe_search));
        let mut settings = workers::settings(&config, policy.clone(), config.cache.bytes_per_worker, true);
        settings.records = RECORDS;
        let (port, wire) = SimPort::pair(&SimConfig::default())?;
        let worker = Worker::new(port, link.clone(), clock, &settings)?;
        runtime.spawn(pump::run(vec![link.clone()], bell, resolver.clone(), mpsc::channel(1).0));
        let listener = daemon::listener(&config, policy.clone(), resolver.clone(), None);
        let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_nonblocking(true)?;
        let tcp = socket.local_addr()?;
        runtime.spawn(listener.clone().serve(tokio::net::TcpListener::from_std(socket)?));
        let backroom = Backroom::open("sweeps", Vec::new())?;
        let links = vec![link];
        let bans = Bans::new(clock, config.rate_limit.as_ref(), &config.lists.groups);
        let reloader = Reloader::new(
            source,
            policy,
            lists.clone(),
            resolver.clone(),
            listener.clone(),
            links.clone(),
            bans.clone(),
        )
        .with_local(sources);
        let busiest = Busiest::new(&config, clock).map_err(|problem| said(vec![problem]))?;
        let service = Service {
            reloader,
            lists,
            bans,
            // This sweeper never starts a sweep by itself.
            sweeper: Sweeper::new(resolver.clone(), config.refresh, backroom, Vec::new()),
            snapshot: None,
            firewall: None,
            problems: Problems::new(Arc::default(), &config.control),
            config,
            clock,
            receiving: Arc::new(Receiving::over_sockets("a simulation")),
            latencies: LatencyCollector::new(links.clone())?,
            links,
            resolver: resolver.clone(),
            fleet: None,
            verdicts: Box::new(|| None),
            listeners: Box::new(move || -> Vec<Total> { listener.counters.totals() }),
            log: None,
            tap: None,
            captures: Default::default(),
            ready: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            levels: Default::default(),
            audit: Default::default(),
            api: Default::default(),
            busiest,
            chronicle: Default::default(),
        };
        drop(inside);
        Ok(Simulator { runtime, worker, wire, clock, resolver, service, tcp, idle_steps: 0 })
    }

    /// Runs the worker and the runtime until both have had nothing to do `calm` times.
    fn work(&mut self, calm: u32) {
        let Self { runtime, worker, clock, .. } = self;
        runtime.block_on(async {
            let mut quiet = 0;
            while quiet < calm {
                let now = clock.nanos();
                let turn = worker.turn(now);
                worker.keep_house(now, turn);
                quiet = if turn == LoopTurn::Busy { 0 } else { quiet + 1 };
                // Each yield lets the runtime poll its sockets, and run the tasks that this wakes.
                for _ in 0..4 {
                    yield_now().await;
                }
            }
        });
    }
}

impl World for Simulator {
    fn breathe(&mut self) {
        self.work(3);
        // Packets on loopback may wait for a kernel thread.
        std::thread::sleep(Duration::from_micros(20));
        self.work(2);
    }

    fn pass(&mut self, time: Duration) {
        let _inside = self.runtime.enter();
        let end = Instant::now() + time;
        loop {
            let left = end - Instant::now();
            if left.is_zero() {
                return;
            }
            let busy = self.resolver.under_way() > 0;
            self.idle_steps = if busy { 0 } else { self.idle_steps + 1 };
            let step = match self.idle_steps {
                0 => STEP_BUSY,
                1..PATIENCE => STEP_IDLE,
                _ => STEP_LONG,
            };
            self.runtime.block_on(advance(step.min(left)));
            // In the daemon, a task does so in time.
            let _ = self.service.lists.look_at_clock();
            self.work(2);
        }
    }

    fn late(&self) -> u32 {
        0
    }

    fn send(&mut self, from: SocketAddr, message: &[u8]) {
        assert!(self.wire.inject_datagram(from, server_of(from.ip()), message), "the wire has room");
        let _inside = self.runtime.enter();
        // The worker turns at once, so that packets are received in the order sent.
        self.worker.turn(self.clock.nanos());
    }

    fn replies(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        self.wire.replies().iter().map(|frame| opened(frame)).collect()
    }

    fn connect(&mut self, _from: IpAddr) -> io::Result<TcpStream> {
        TcpStream::connect(self.tcp)
    }

    fn stats(&mut self) -> serde_json::Value {
        let _inside = self.runtime.enter();
        self.service.stats()
    }

    fn purge(&mut self, purge: &Purge) {
        let wire = |name: &str| names::name(name).expect("a name").to_ascii_lowercase();
        let purge = match purge {
            Purge::Name(name) => HostPurge::Name(wire(name)),
            Purge::Suffix(name) => HostPurge::Suffix(wire(name)),
            Purge::All => HostPurge::All,
        };
        self.resolver.host().purge(&purge);
    }

    fn configure(&mut self, text: &str) {
        let path = self.service.reloader.path();
        std::fs::write(path, text).expect("there is room for a file");
    }

    fn reload(&mut self) -> Result<BTreeSet<String>, String> {
        let _inside = self.runtime.enter();
        let reloaded = self.service.reloader.reload();
        // In the daemon, a task does so when lists make other groups.
        self.service.reloader.take_groups();
        reloaded.map(|reloaded| reloaded.applied).map_err(|error| error.to_string())
    }

    fn order(&mut self, Order { verb, seconds, group }: &Order) -> Result<(), String> {
        let _inside = self.runtime.enter();
        let (lists, group, seconds) = (&self.service.lists, group.clone(), *seconds);
        let add = |name: &str, action| lists.add_override(name, action, group.clone(), seconds).map(drop);
        let done = match verb {
            OrderVerb::Block(name) => add(name, OverrideAction::Block),
            OrderVerb::Allow(name) => add(name, OverrideAction::Allow),
            OrderVerb::Clear(name) => lists.clear_override(name, group.as_deref()).map(drop),
            OrderVerb::Pause => lists.pause(group, None, seconds).map(drop),
            OrderVerb::Resume => lists.resume(group, None).map(drop),
        };
        done.map_err(|error| error.to_string())
    }

    fn quiet(&self) -> Duration {
        Duration::ZERO
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        // Tasks dropped with the runtime may ask for the time.
        let _inside = self.runtime.enter();
    }
}

/// Returns the destination and the message of a frame, after checking its lengths and checksums.
fn opened(frame: &[u8]) -> (SocketAddr, Vec<u8>) {
    let packet = SlicedPacket::from_ethernet(frame).expect("a well-formed frame");
    let Some(TransportSlice::Udp(udp)) = packet.transport else { panic!("no datagram: {packet:?}") };
    let (to, sum) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let sum = udp.to_header().calc_checksum_ipv4(&header.to_header(), udp.payload());
            (IpAddr::V4(header.destination_addr()), sum)
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let sum = udp.to_header().calc_checksum_ipv6(&header.to_header(), udp.payload());
            (IpAddr::V6(header.destination_addr()), sum)
        }
        net => panic!("no IP packet: {net:?}"),
    };
    assert_eq!((udp.source_port(), Ok(udp.checksum())), (53, sum), "source port and checksum");
    (SocketAddr::new(to, udp.destination_port()), udp.payload().to_vec())
}
