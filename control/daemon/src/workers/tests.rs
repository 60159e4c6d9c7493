use super::{task::Runs, *};
use std::{net::UdpSocket, path::Path};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Worker that panics as soon as it runs.
struct Broken;

impl Runs for Broken {
    fn run(&mut self) -> io::Result<()> {
        panic!("broken, as it should be");
    }
    fn replace_port(self, _: task::OpenedPort) -> Self {
        self
    }
    fn set_link_mtu(&mut self, _: u32) {}
}

fn config() -> Config {
    let text = "[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"192.0.2.1\"\n\
                [cache]\nbytes_per_worker = \"1MiB\"";
    Config::parse(text, Path::new("")).unwrap()
}

fn plan(listen: &str) -> WorkerPlan {
    let source = PortSource::Sockets(vec![listen.parse().unwrap()]);
    WorkerPlan { source, cores: Vec::new(), cache_bytes: 1 << 20, alone: false }
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
            generations: Arc::default(),
            ended,
            log: None,
            tap: None,
            host_problems: Arc::default(),
        },
        ends,
    )
}

#[test]
fn a_worker_that_panics_is_heard_of() {
    let config = config();
    let (common, mut ends) = common(&config);
    let link = Link::new(3, QUEUE, RECORDS, common.bell.clone(), common.generations.clone()).unwrap();
    let (report, reported) = mpsc::sync_channel(1);
    let plan = plan("127.0.0.1:0");
    let task = Task {
        link: Arc::new(link),
        settings: settings(&config, Arc::default(), plan.cache_bytes, plan.alone),
        plan,
        xsk: xsk_template(&config),
        clock: common.clock,
        orders: mpsc::channel().1,
        report,
        ended: common.ended.clone(),
    };
    let thread = thread::spawn(move || task.serve(Broken, None));
    assert!(reported.recv().unwrap().is_ok(), "it is set up before it breaks");
    let ended = ends.blocking_recv().unwrap();
    assert_eq!((ended.worker, ended.reason.as_str()), (3, "panicked"));
    assert!(thread.join().is_err());
}

/// A worker that could not start reports no end, which would end the one that replaces it.
#[test]
fn a_worker_that_cannot_start_is_an_error_and_no_end() {
    let config = config();
    let (common, mut ends) = common(&config);
    let mut workers = Workers::new(Vec::new()).unwrap();
    let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let error = workers.add(plan(&taken.to_string()), &common).err().unwrap();
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
    assert!(workers.links.is_empty() && ends.try_recv().is_err());
}

#[test]
fn workers_that_are_dropped_end_and_are_not_heard_of() {
    let config = config();
    let (common, mut ends) = common(&config);
    let mut workers = Workers::new(Vec::new()).unwrap();
    workers.add(plan("127.0.0.1:0"), &common).unwrap();
    workers.add(plan("127.0.0.1:0"), &common).unwrap();
    assert_eq!(workers.links.iter().map(|link| link.worker).collect::<Vec<_>>(), [0, 1]);
    let links = workers.links.clone();
    drop(workers);
    // The threads have dropped their references.
    assert!(links.iter().all(|link| Arc::strong_count(link) == 1));
    assert!(ends.try_recv().is_err());
}

/// Returns the reply of a worker over kernel sockets on `address` to a query that it answers by itself.
fn refusal_from(address: SocketAddr) -> Option<[u8; 4]> {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // Without RD: REFUSED.
    let query = b"\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01";
    client.send_to(query, address).unwrap();
    let mut reply = [0; 64];
    client.recv(&mut reply).ok()?;
    reply.first_chunk().copied()
}

fn free_address() -> SocketAddr {
    ringdns_testkit::free_address(&ringdns_testkit::Host::local())
}

#[test]
fn a_worker_goes_on_with_the_port_that_it_is_given() {
    let config = config();
    let (common, mut ends) = common(&config);
    let mut workers = Workers::new(Vec::new()).unwrap();
    let [old, new] = [free_address(), free_address()];
    workers.add(plan(&old.to_string()), &common).unwrap();
    // With QR and RA.
    const REFUSED: Option<[u8; 4]> = Some([0x12, 0x34, 0x80, 0x85]);
    assert_eq!(refusal_from(old), REFUSED);

    let seat = workers.seats()[0].clone();
    assert!(seat.open(PortSource::Sockets(vec![new])).unwrap().is_none());
    assert_eq!(refusal_from(old), REFUSED, "the port in use stays in use");
    seat.discard();
    assert!(UdpSocket::bind(new).is_ok(), "what is discarded is closed");

    seat.open(PortSource::Sockets(vec![new])).unwrap();
    seat.take();
    assert_eq!(refusal_from(new), REFUSED);
    assert!(UdpSocket::bind(old).is_ok(), "what is replaced is closed");
    // Nothing was opened, so there is nothing to take.
    seat.take();
    assert_eq!(refusal_from(new), REFUSED);

    let link = workers.links[0].clone();
    drop(workers);
    let (counters, port) = (link.stats.snapshot(), link.port.read().port);
    assert_eq!(counters.get(ringdns_dataplane::stats::Counter::Received), 4);
    assert_eq!((counters.unaccounted(), port.sent, port.send_failed), (0, 4, 0), "of all ports");
    assert!(seat.open(PortSource::Sockets(vec![new])).is_err(), "its thread has ended");
    assert!(ends.try_recv().is_err());
}

/// The interface went away with its address, and will be back.
#[test]
fn a_port_is_opened_in_advance_of_its_address() {
    let config = config();
    let (common, _ends) = common(&config);
    let mut workers = Workers::new(Vec::new()).unwrap();
    workers.add(plan("127.0.0.1:0"), &common).unwrap();
    let away = ["192.0.2.1:5353", "[2001:db8::1]:5353"].map(|address| address.parse().unwrap());
    assert!(workers.seats()[0].open(PortSource::Sockets(away.to_vec())).unwrap().is_none());
}
