//! Worker threads: each pinned, with a port and a cache of its own, both made on the thread that uses them.

use crate::{
    config::{Config, Mode},
    cores,
    log::QueryLog,
};
use core_affinity::CoreId;
use ringdns_dataplane::{
    clock::Clock,
    demand::{self, Demand},
    doorbell::Doorbell,
    log::Line,
    policy::Policy,
    port::{
        Port,
        udp::{UdpError, UdpPort},
        xsk::{BusyPoll, Opened, Request, XskConfig, XskError, XskPort},
    },
    process::Rules,
    punt::Link,
    worker::{Settings, Worker},
};
use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, atomic::AtomicU64, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::sync::mpsc::UnboundedSender;

/// Chunks of packet memory of a worker over kernel sockets, which needs those of one turn and its answers.
const UDP_FRAMES: u32 = 1024;
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

/// What a worker reports once it is set up.
pub struct Started {
    /// Its AF_XDP socket, and how it was opened.
    pub socket: Option<(u32, OwnedFd, Opened)>,
}

/// A worker ended that nobody had told to.
#[derive(Debug)]
pub struct Ended {
    /// Which.
    pub worker: usize,
    /// Why.
    pub reason: String,
}

/// What all workers share.
pub struct Common<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// What queries are measured by.
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
}

/// Running workers. Dropping them ends them, and waits until they have.
#[derive(Default)]
pub struct Workers {
    /// The way to each.
    pub links: Vec<Arc<Link>>,
    /// What each logs on, if anything is logged.
    pub lines: Vec<Arc<Line>>,
    /// Where each tells what it is asked for, if anybody wants to know.
    pub demands: Vec<Arc<Demand>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts one more worker, and waits until it is set up.
    pub fn add(&mut self, plan: Plan, common: &Common<'_>) -> Result<Started, StartError> {
        let worker = self.links.len();
        let setup = |source| StartError::Setup { worker, source };
        let (bell, generation) = (common.bell.clone(), common.generation.clone());
        let records = RECORDS + demand::RENEWALS;
        let link = Arc::new(Link::new(worker, QUEUE, records, bell, generation).map_err(setup)?);
        let (report, reported) = mpsc::sync_channel(1);
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
            report,
            ended: common.ended.clone(),
        };
        let thread = thread::Builder::new().name(format!("worker-{worker}")).spawn(|| task.run());
        let thread = thread.map_err(setup)?;
        match reported.recv() {
            Ok(Ok(started)) => {
                self.links.push(link);
                self.lines.extend(line);
                self.demands.extend(demand);
                self.threads.push(thread);
                Ok(started)
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

/// What answers depend on, over whatever they go.
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

/// All that a worker's thread takes along.
struct Task {
    link: Arc<Link>,
    plan: Plan,
    settings: Settings,
    xsk: XskConfig,
    clock: Clock,
    report: mpsc::SyncSender<Result<Started, StartError>>,
    ended: UnboundedSender<Ended>,
}

impl Task {
    fn run(self) {
        cores::sit(&self.plan.cores);
        match self.plan.source.clone() {
            Source::Sockets(listen) => {
                let port = UdpPort::open(&listen, UDP_FRAMES);
                self.serve(port, |_| Ok(None));
            }
            Source::Queue { interface, queue } => {
                let port = XskPort::open(&XskConfig { interface, queue, ..self.xsk.clone() });
                self.serve(port, |port| {
                    Ok(Some((queue, port.fd().try_clone_to_owned()?, port.opened().clone())))
                });
            }
        }
    }

    /// Runs over `port` until told to end.
    fn serve<P: Port, E: Into<StartError>>(
        self,
        port: Result<P, E>,
        socket: impl FnOnce(&P) -> io::Result<Option<(u32, OwnedFd, Opened)>>,
    ) {
        let worker = self.link.worker;
        let setup = |source| StartError::Setup { worker, source };
        let made = port.map_err(Into::into).and_then(|port| {
            let socket = socket(&port).map_err(setup)?;
            let made = Worker::new(port, self.link, self.clock, &self.settings).map_err(setup)?;
            Ok((made, Started { socket }))
        });
        let (mut made, started) = match made {
            Ok(made) => made,
            // Whoever started it waits for this, and tells it.
            Err(error) => return drop(self.report.send(Err(error))),
        };
        // Said even when the thread unwinds: a daemon with a dead worker would answer only some clients.
        let mut last_words = LastWords { worker, reason: Some("panicked".into()), ended: self.ended };
        drop(self.report.send(Ok(started)));
        last_words.reason = made.run().err().map(|error| error.to_string());
    }
}

/// Tells that a worker ended unasked, when it is dropped.
///
/// One that was told to end says nothing: its place may have been taken by another, as when AF_XDP is refused and
/// kernel sockets serve instead, and that one must not be ended by the news.
struct LastWords {
    worker: usize,
    reason: Option<String>,
    ended: UnboundedSender<Ended>,
}

impl Drop for LastWords {
    fn drop(&mut self) {
        if let Some(reason) = self.reason.take() {
            // Nobody listens any more: the daemon ends, too.
            let _ = self.ended.send(Ended { worker: self.worker, reason });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_dataplane::{
        frame::{Frame, Frames},
        port::{Burst, Checksums, PortStats},
    };
    use std::{os::fd::BorrowedFd, path::Path};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    /// A port whose worker panics as soon as it receives.
    struct Broken(Frames);

    impl Port for Broken {
        fn frames(&mut self) -> &mut Frames {
            &mut self.0
        }
        fn recv(&mut self, _: &mut Burst) {
            panic!("broken, as it should be");
        }
        fn send(&mut self, _: Frame) {}
        fn flush(&mut self) {}
        fn wait(&mut self, _: BorrowedFd<'_>, _: Duration) -> io::Result<()> {
            Ok(())
        }
        fn checksums(&self) -> Checksums {
            Checksums::Verify
        }
        fn stats(&mut self) -> PortStats {
            PortStats::default()
        }
    }

    fn config() -> Config {
        let text = "[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"192.0.2.1\"\n\
                    [cache]\nbytes_per_worker = \"1MiB\"";
        Config::parse(text, Path::new("")).unwrap()
    }

    fn plan(listen: &str) -> Plan {
        let source = Source::Sockets(vec![listen.parse().unwrap()]);
        Plan { source, cores: Vec::new(), cache_bytes: 1 << 20, alone: false }
    }

    fn common(config: &Config) -> (Common<'_>, UnboundedReceiver<Ended>) {
        let (ended, ends) = unbounded_channel();
        let bell = Arc::new(Doorbell::new().unwrap());
        (
            Common {
                config,
                policy: Arc::default(),
                clock: Clock::start(),
                bell,
                generation: Arc::default(),
                ended,
                log: None,
            },
            ends,
        )
    }

    #[test]
    fn a_worker_that_panics_is_heard_of() {
        let config = config();
        let (common, mut ends) = common(&config);
        let link = Link::new(3, QUEUE, RECORDS, common.bell.clone(), common.generation.clone()).unwrap();
        let (report, reported) = mpsc::sync_channel(1);
        let plan = plan("127.0.0.1:0");
        let task = Task {
            link: Arc::new(link),
            settings: settings(&config, Arc::default(), plan.cache_bytes, plan.alone),
            plan,
            xsk: xsk_template(&config),
            clock: common.clock,
            report,
            ended: common.ended.clone(),
        };
        let port = Broken(Frames::new(8, 0).unwrap());
        let thread = thread::spawn(move || task.serve(Ok::<_, UdpError>(port), |_| Ok(None)));
        assert!(reported.recv().unwrap().is_ok(), "it is set up before it breaks");
        let ended = ends.blocking_recv().unwrap();
        assert_eq!((ended.worker, ended.reason.as_str()), (3, "panicked"));
        assert!(thread.join().is_err());
    }

    /// What replaces it must not be ended by the news of its end.
    #[test]
    fn a_worker_that_cannot_start_is_an_error_and_no_end() {
        let config = config();
        let (common, mut ends) = common(&config);
        let mut workers = Workers::default();
        let error = workers.add(plan("192.0.2.1:5353"), &common).err().unwrap();
        assert!(error.to_string().contains("192.0.2.1:5353"), "{error}");
        assert!(workers.links.is_empty() && ends.try_recv().is_err());
    }

    #[test]
    fn workers_that_are_dropped_end_and_are_not_heard_of() {
        let config = config();
        let (common, mut ends) = common(&config);
        let mut workers = Workers::default();
        workers.add(plan("127.0.0.1:0"), &common).unwrap();
        workers.add(plan("127.0.0.1:0"), &common).unwrap();
        assert_eq!(workers.links.iter().map(|link| link.worker).collect::<Vec<_>>(), [0, 1]);
        let links = workers.links.clone();
        drop(workers);
        // Their threads have let go of them.
        assert!(links.iter().all(|link| Arc::strong_count(link) == 1));
        assert!(ends.try_recv().is_err());
    }
}
