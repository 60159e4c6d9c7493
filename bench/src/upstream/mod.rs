//! Synthetic upstream: answers every question at once, over UDP and TCP, with data made from the
//! name; under chosen suffixes, it causes the trouble that a cache must cope with.

mod answer;
mod tcp;
mod udp;
pub(crate) mod world;

pub(crate) use answer::{Answerer, datagram_limit};
pub(crate) use ringdns_testkit::Over;

use crate::stop;
use anyhow::{Context, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt},
};
use std::{
    iter,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// Serves made-up answers over UDP and TCP until it is interrupted, then prints its counts.
///
/// The name of a question decides its answer, so that two instances agree. A first label `ttl-N`
/// sets the TTL. `dig CH TXT served.ringbench` returns the number of queries served so far.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address and port to serve on; may be given several times.
    #[arg(long, required = true)]
    pub listen: Vec<SocketAddr>,
    /// Threads per UDP address.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// Delay of every answer, in microseconds.
    #[arg(long, default_value_t = 0)]
    pub delay_us: u64,
    /// Share of UDP queries that get no answer, in percent.
    #[arg(long, default_value_t = 0.0, value_parser = percent)]
    pub drop: f64,
    #[command(flatten)]
    pub answers: AnswerArgs,
}

/// Contents of the answers.
#[derive(Clone, Debug, clap::Args)]
pub struct AnswerArgs {
    /// TTL of the records, in seconds.
    #[arg(long, default_value_t = 3600)]
    pub ttl: u32,
    /// TTL and MINIMUM of the SOA of negative answers, in seconds.
    #[arg(long, default_value_t = 60)]
    pub negative_ttl: u32,
    /// Records in an answer, at most 100.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub records: u8,
    /// Add made-up signatures (RRSIG) to answers to queries with DO.
    #[arg(long)]
    pub signed: bool,
    /// Suffix of names that do not exist. This and the other suffixes may be given several times;
    /// the longest wins.
    #[arg(long, value_name = "SUFFIX")]
    pub nxdomain_suffix: Vec<String>,
    /// Suffix of names that exist, but have no data.
    #[arg(long, value_name = "SUFFIX")]
    pub nodata_suffix: Vec<String>,
    /// Suffix of names that are answered SERVFAIL.
    #[arg(long, value_name = "SUFFIX")]
    pub servfail_suffix: Vec<String>,
    /// Suffix of names that are answered REFUSED.
    #[arg(long, value_name = "SUFFIX")]
    pub refused_suffix: Vec<String>,
    /// Suffix of names that are answered TC=1 over UDP, and in full over TCP.
    #[arg(long, value_name = "SUFFIX")]
    pub truncate_suffix: Vec<String>,
    /// Suffix of names that are aliases (CNAME) of the name `target` below them.
    #[arg(long, value_name = "SUFFIX")]
    pub alias_suffix: Vec<String>,
    /// Suffix of names that are never answered.
    #[arg(long, value_name = "SUFFIX")]
    pub silent_suffix: Vec<String>,
}

/// Parses a share in percent.
pub fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=100.0).contains(&share) => Ok(share),
        _ => Err("a share in percent must be a number from 0 to 100".into()),
    }
}

/// Counts of queries served so far.
#[derive(Debug, Default)]
pub struct Served {
    /// Queries received over UDP.
    pub udp: AtomicU64,
    /// Queries received over TCP.
    pub tcp: AtomicU64,
    /// Queries left without an answer, for any reason.
    pub unanswered: AtomicU64,
}

impl std::fmt::Display for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [udp, tcp, unanswered] = [&self.udp, &self.tcp, &self.unanswered].map(|c| c.load(Relaxed));
        write!(f, "udp={udp} tcp={tcp} unanswered={unanswered}")
    }
}

/// Source of an upstream's answers.
pub trait Answering: std::fmt::Debug + Send + Sync {
    /// Writes the answer to `query` into `reply`, which is overwritten. Returns false if there is
    /// no answer.
    fn answer(&self, query: &[u8], over: Over, reply: &mut Vec<u8>) -> bool;
}

/// State that the threads of an upstream share.
#[derive(Debug)]
struct Shared {
    answerer: Box<dyn Answering>,
    served: Arc<Served>,
    delay: Duration,
    drop: f64,
    stop: Arc<AtomicBool>,
}

impl Shared {
    /// Returns the state of an upstream that answers at once.
    fn new(answerer: impl Answering + 'static, served: Arc<Served>) -> Self {
        let (delay, stop) = (Duration::ZERO, Arc::default());
        Shared { answerer: Box::new(answerer), served, delay, drop: 0.0, stop }
    }
}

/// Running upstream; dropping it stops it.
#[derive(Debug)]
pub struct Upstream {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// Time between two checks for a stop.
const STOP_CHECK: Duration = Duration::from_millis(50);

impl Upstream {
    /// Starts to serve.
    pub fn start(args: &Args) -> Result<Self> {
        let served = Arc::new(Served::default());
        let answerer = Answerer::new(&args.answers, served.clone())?;
        let shared = Shared {
            delay: Duration::from_micros(args.delay_us),
            drop: args.drop / 100.0,
            ..Shared::new(answerer, served)
        };
        Upstream::serve(shared, &args.listen, args.threads)
    }

    /// Starts to serve on a free port of the loopback interface, with further options.
    #[cfg(test)]
    pub fn started(options: &[&str]) -> Self {
        let args = crate::options::parse(&[&["--listen=127.0.0.1:0"], options].concat()).unwrap();
        Upstream::start(&args).unwrap()
    }

    /// Serves the answers of `answerer` at one address.
    pub fn saying(answerer: impl Answering + 'static, listen: SocketAddr) -> Result<Self> {
        Upstream::serve(Shared::new(answerer, Arc::default()), &[listen], 1)
    }

    fn serve(shared: Shared, listen: &[SocketAddr], threads: u16) -> Result<Self> {
        let mut upstream = Upstream { shared: Arc::new(shared), addresses: Vec::new(), threads: Vec::new() };
        for listen in listen {
            upstream.listen(*listen, threads).with_context(|| {
                format!("cannot serve on {listen}: is the address of this host and its port free (ss -lnp)?")
            })?;
        }
        Ok(upstream)
    }

    fn listen(&mut self, address: SocketAddr, threads: u16) -> Result<()> {
        let (listener, first) = sockets(address)?;
        let address = listener.local_addr()?;
        self.addresses.push(address);
        let others = (1..threads).map(|_| udp_socket(address));
        for socket in iter::once(Ok(first)).chain(others) {
            let (socket, shared) = (socket?, self.shared.clone());
            self.threads
                .push(thread::Builder::new().name("udp".into()).spawn(move || udp::serve(&socket, &shared))?);
        }
        let shared = self.shared.clone();
        self.threads
            .push(thread::Builder::new().name("tcp".into()).spawn(move || tcp::serve(&listener, &shared))?);
        Ok(())
    }

    /// Returns the addresses that it serves on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the counts so far.
    pub fn served(&self) -> &Served {
        &self.shared.served
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has printed its message on standard error.
            let _ = thread.join();
        }
    }
}

/// Opens a listener and a UDP socket on one port. With port 0, the kernel chooses the port.
fn sockets(address: SocketAddr) -> Result<(TcpListener, UdpSocket)> {
    /// The kernel chooses a port that is free for TCP; UDP may be using it.
    const ATTEMPTS_MAX: usize = 64;
    let attempt = || {
        let listener = TcpListener::bind(address)?;
        let socket = udp_socket(listener.local_addr()?)?;
        Ok((listener, socket))
    };
    let again = if address.port() == 0 { ATTEMPTS_MAX } else { 0 };
    (0..again).find_map(|_| attempt().ok()).map_or_else(attempt, Ok)
}

/// Opens a UDP socket that shares its address with those of the other threads.
fn udp_socket(address: SocketAddr) -> Result<UdpSocket> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket: OwnedFd = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    // A burst of misses must fit while this thread waits for its core; the kernel limits this to
    // what it permits.
    sockopt::set_socket_recv_buffer_size(&socket, 4 << 20)?;
    bind(&socket, &address)?;
    Ok(socket.into())
}

/// Sleeps until there is something to read or it is `due`, but never so long that a stop would be late.
fn wait_readable(fd: impl AsFd, due: Option<Instant>) {
    let until = due.map_or(STOP_CHECK, |due| due.saturating_duration_since(Instant::now()).min(STOP_CHECK));
    let until = Timespec { tv_sec: until.as_secs() as i64, tv_nsec: i64::from(until.subsec_nanos()) };
    // Whatever ended the wait, the caller checks everything again.
    let _ = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&until));
}

/// `ringbench upstream`.
pub fn run(args: &Args) -> Result<()> {
    let upstream = Upstream::start(args)?;
    let stop = stop::on_signal()?;
    for address in upstream.addresses() {
        println!("serving on {address}");
    }
    while !stop.load(Relaxed) {
        thread::sleep(STOP_CHECK);
    }
    println!("served {}", upstream.served());
    Ok(())
}

#[cfg(test)]
mod tests;
