//! Floods of random names, over UDP and over TCP.

use crate::{
    lab::SERVER,
    mmsg::Sender,
    query::{QUERY_MAX, Template},
    question::QUESTION_MAX,
    stage,
};
use anyhow::{Context, Result};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use ringdns_testkit::Host;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with},
};
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// Time between two bursts.
const TICK: Duration = Duration::from_millis(1);
/// Queries from one address before the next one's turn.
const BURST: u64 = 2;
/// Connections of each client.
const CONNECTIONS: usize = 64;

/// Steady stream of queries for random names.
pub struct Flood {
    /// Queries a second.
    pub rate: f64,
    templates: Vec<Template>,
}

impl Flood {
    /// Returns a flood of names below `zone`.
    pub fn new(zone: &str, rate: f64) -> Result<Self> {
        Self::of(&[zone], rate)
    }

    /// Returns a flood of names below several zones, which are drawn at random.
    pub fn of<S: AsRef<str>>(zones: &[S], rate: f64) -> Result<Self> {
        let template = |zone: &S| stage::template(&["--random-suffix", zone.as_ref()]);
        Ok(Flood { rate, templates: zones.iter().map(template).collect::<Result<_>>()? })
    }

    fn write(&self, rng: &mut SmallRng, message: &mut [u8]) -> usize {
        let template = &self.templates[rng.random_range(0..self.templates.len())];
        let mut question = [0; QUESTION_MAX];
        let length = template.random_question(rng.random(), &mut question);
        template.write(message, rng.random(), &question[..length], 0)
    }

    /// Calls `send` once for each query, when it is due, until `done` is set. Returns the number of
    /// queries a second that `send` reported as sent.
    fn pace(&self, done: &AtomicBool, mut send: impl FnMut(u64) -> u64) -> f64 {
        let begin = Instant::now();
        let (mut due, mut sent) = (0, 0);
        while !done.load(Relaxed) {
            let until = (begin.elapsed().as_secs_f64() * self.rate) as u64;
            // What was due while other work had the core leaves in one burst, but no more than a
            // tenth of a second.
            let most = (self.rate / 10.0) as u64 + 1;
            sent += send((until - due).min(most));
            due = until;
            thread::sleep(TICK);
        }
        sent as f64 / begin.elapsed().as_secs_f64()
    }

    /// Floods from these addresses in turn over UDP until `done` is set. Returns the queries a
    /// second that left.
    pub fn over_udp(&self, host: &Host, from: &[Ipv4Addr], done: &AtomicBool) -> Result<f64> {
        let open = |from: &Ipv4Addr| {
            let socket = UdpSocket::bind((*from, 0)).context("cannot open a socket")?;
            socket.connect(SERVER)?;
            Ok(socket)
        };
        let sockets = host.enter(|| from.iter().map(open).collect::<Result<Vec<_>>>())?;
        let (mut rng, mut sender, mut next) = (SmallRng::from_os_rng(), Sender::default(), 0);
        Ok(self.pace(done, |count| {
            let mut sent = 0;
            for nth in 1..=count {
                sender.push(None, |buffer| self.write(&mut rng, buffer));
                let is_next = sockets.len() > 1 && nth % BURST == 0;
                if sender.is_full() || is_next || nth == count {
                    sent += sender.flush(&sockets[next]).unwrap_or(0) as u64;
                    next = (next + usize::from(is_next)) % sockets.len();
                }
            }
            sent
        }))
    }

    /// Floods from several addresses over TCP, each with [`CONNECTIONS`], until `done` is set.
    /// Returns the queries a second that connections took.
    pub fn over_tcp(&self, host: &Host, from: &[Ipv4Addr], done: &AtomicBool) -> Result<f64> {
        let sources = from.iter().cycle().take(CONNECTIONS * from.len());
        let mut lines: Vec<FloodConnection> =
            sources.map(|from| FloodConnection { from: *from, stream: None }).collect();
        let (mut rng, mut next) = (SmallRng::from_os_rng(), 0);
        let mut message = [0; 2 + QUERY_MAX];
        host.enter(|| {
            Ok(self.pace(done, |count| {
                let mut sent = 0;
                // A server that closes connections sees new ones, but no storm of them.
                let mut may_open = 4;
                for _ in 0..count {
                    let length = self.write(&mut rng, &mut message[2..]);
                    message[..2].copy_from_slice(&(length as u16).to_be_bytes());
                    next = (next + 1) % lines.len();
                    sent += u64::from(lines[next].send(&message[..2 + length], &mut may_open));
                }
                sent
            }))
        })
    }
}

/// Connection of the flood, and the address that it comes from.
struct FloodConnection {
    from: Ipv4Addr,
    stream: Option<TcpStream>,
}

impl FloodConnection {
    /// Sends a message if the connection takes all of it at once; reads and forgets what came back.
    fn send(&mut self, message: &[u8], may_open: &mut usize) -> bool {
        if self.stream.is_none() && *may_open > 0 {
            *may_open -= 1;
            self.stream = open(self.from).ok();
        }
        let Some(stream) = &mut self.stream else { return false };
        let is_open = match stream.read(&mut [0; 16_384]) {
            Ok(read) => read > 0,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        let sent = if is_open { stream.write(message) } else { Err(io::ErrorKind::BrokenPipe.into()) };
        match sent {
            Ok(length) if length == message.len() => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            // The server closed the connection, or half a message left.
            _ => {
                self.stream = None;
                false
            }
        }
    }
}

/// Begins a connection without waiting for it.
fn open(from: Ipv4Addr) -> Result<TcpStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    bind(&socket, &SocketAddr::from((from, 0)))?;
    match connect(&socket, &SERVER) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error.into()),
    }
}
