//! An upstream whose answers a test controls: late, cut, forged, or none.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{Asked, Host, port::open};

/// Action of the upstream in response to a query.
#[derive(Clone, Debug)]
pub enum Say {
    /// Sends this: a datagram, or a message after its length.
    Send(Vec<u8>),
    /// Sends this after a time. Over UDP, other queries are answered meanwhile.
    SendAfter(Duration, Vec<u8>),
    /// Sends this from another port than the one asked. Over UDP only, as are the next two.
    SendFromElsewhere(Vec<u8>),
    /// Sends this from the port that was asked, at another address.
    SendFromNeighbour(Vec<u8>),
    /// Sends this to another address than the client's.
    SendTo(SocketAddr, Vec<u8>),
    /// Sends these bytes as they are. Over TCP only, as are the next three.
    Bytes(Vec<u8>),
    /// Sends these bytes again and again until the client takes no more.
    BytesForEver(Vec<u8>),
    /// Waits for this time.
    Pause(Duration),
    /// Closes the connection.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Udp,
    Tcp,
}

/// Received query.
#[derive(Clone, Debug)]
pub struct Seen {
    pub query: Asked,
    pub over: Over,
    pub from: SocketAddr,
}

/// Another address of loopback.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

type Script = dyn Fn(&Seen) -> Vec<Say> + Send + Sync;

/// Scripted upstream on the loopback of a host, over UDP and TCP. Ends on drop.
pub struct Upstream {
    address: SocketAddr,
    stage: Arc<Stage>,
    /// Closed to end the threads.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

/// State that the threads share.
struct Stage {
    script: Box<Script>,
    /// Received queries; `None`: they are not recorded.
    seen: Option<Mutex<Vec<Seen>>>,
}

impl Upstream {
    /// Starts an upstream that calls `script` for each query. A script that waits also delays all
    /// later queries over UDP.
    #[track_caller]
    pub fn start(host: &Host, script: impl Fn(&Seen) -> Vec<Say> + Send + Sync + 'static) -> Self {
        Self::start_at(host, (Ipv4Addr::LOCALHOST, 0).into(), script)
    }

    /// Starts one at a given address of loopback.
    #[track_caller]
    pub fn start_at(
        host: &Host,
        address: SocketAddr,
        script: impl Fn(&Seen) -> Vec<Say> + Send + Sync + 'static,
    ) -> Self {
        let stage = Stage { script: Box::new(script), seen: Some(Mutex::default()) };
        Self::start_with(host, address, stage)
    }

    /// Starts one that does not record the queries that it receives, for long runs.
    #[track_caller]
    pub fn unrecorded(host: &Host, script: impl Fn(&Seen) -> Vec<Say> + Send + Sync + 'static) -> Self {
        let stage = Stage { script: Box::new(script), seen: None };
        Self::start_with(host, (Ipv4Addr::LOCALHOST, 0).into(), stage)
    }

    #[track_caller]
    fn start_with(host: &Host, address: SocketAddr, stage: Stage) -> Self {
        let opened = host.enter(|| {
            let more = |at: SocketAddr| {
                let elsewhere = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
                Ok((elsewhere, UdpSocket::bind((NEIGHBOUR, at.port()))?, io::pipe()?))
            };
            open(address, more)
        });
        let (address, udp, tcp, (elsewhere, neighbour, (stopped, stop))) = match opened {
            Ok(opened) => opened,
            Err(error) => panic!("sockets for an upstream: {error}"),
        };
        let stage = Arc::new(stage);
        let sockets = Sockets {
            udp,
            elsewhere,
            neighbour,
            tcp,
            stopped,
            stage: Arc::clone(&stage),
            held: BinaryHeap::new(),
        };
        let thread = std::thread::spawn(move || sockets.serve());
        Self { address, stage, stop: Some(stop), thread: Some(thread) }
    }

    /// Starts an upstream on the real host.
    #[track_caller]
    pub fn local(script: impl Fn(&Seen) -> Vec<Say> + Send + Sync + 'static) -> Self {
        Self::start(&Host::local(), script)
    }

    /// Starts an upstream on the real host that answers every question with 192.0.2.1, for `ttl`
    /// seconds.
    #[track_caller]
    pub fn with_ttl(ttl: u32) -> Self {
        Self::local(move |seen| vec![Say::Send(seen.query.answer(ttl))])
    }

    /// Starts an upstream that answers every question with 192.0.2.1, for five minutes.
    #[track_caller]
    pub fn answering(host: &Host) -> Self {
        Self::start(host, |seen| vec![Say::Send(seen.query.address([192, 0, 2, 1]))])
    }

    /// Starts an upstream that receives queries and never answers.
    #[track_caller]
    pub fn silent(host: &Host) -> Self {
        Self::start(host, |_| Vec::new())
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the queries received so far.
    ///
    /// # Panics
    /// If they are not recorded.
    pub fn seen(&self) -> Vec<Seen> {
        let seen = self.stage.seen.as_ref().expect("queries are recorded");
        seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the number of queries received so far.
    pub fn asked(&self) -> usize {
        self.seen().len()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has reported it.
            let _ = thread.join();
        }
    }
}

impl Stage {
    fn hear(&self, query: &[u8], over: Over, from: SocketAddr) -> Vec<Say> {
        let seen = Seen { query: Asked(query.to_vec()), over, from };
        if let Some(all) = &self.seen {
            all.lock().unwrap_or_else(PoisonError::into_inner).push(seen.clone());
        }
        (self.script)(&seen)
    }
}

struct Sockets {
    udp: UdpSocket,
    elsewhere: UdpSocket,
    neighbour: UdpSocket,
    tcp: TcpListener,
    stopped: PipeReader,
    stage: Arc<Stage>,
    held: BinaryHeap<Reverse<Held>>,
}

/// Datagram to be sent later: when, to whom, and its bytes.
type Held = (Instant, SocketAddr, Vec<u8>);

impl Sockets {
    fn serve(mut self) {
        let mut connections: Vec<(TcpStream, JoinHandle<()>)> = Vec::new();
        loop {
            let wait = self.send_held().and_then(|wait| Timespec::try_from(wait).ok());
            let mut events = [
                PollFd::new(&self.udp, PollFlags::IN),
                PollFd::new(&self.tcp, PollFlags::IN),
                PollFd::new(&self.stopped, PollFlags::IN),
            ];
            if rustix::io::retry_on_intr(|| poll(&mut events, wait.as_ref())).is_err() {
                break;
            }
            let [udp, tcp, stopped] = events.map(|event| !event.revents().is_empty());
            if stopped {
                break;
            }
            if udp {
                self.answer_datagram();
            }
            if tcp && let Ok((stream, from)) = self.tcp.accept() {
                let (Ok(handle), stage) = (stream.try_clone(), Arc::clone(&self.stage)) else { continue };
                connections.push((handle, std::thread::spawn(move || converse(stream, from, &stage))));
            }
        }
        for (stream, thread) in connections {
            // The client may have closed it.
            let _ = stream.shutdown(Shutdown::Both);
            let _ = thread.join();
        }
    }

    /// Sends what is due, and returns the time until the next datagram is.
    fn send_held(&mut self) -> Option<Duration> {
        let now = Instant::now();
        while let Some(Reverse((due, whom, message))) = self.held.pop() {
            if due > now {
                self.held.push(Reverse((due, whom, message)));
                return Some(due - now);
            }
            let _ = self.udp.send_to(&message, whom);
        }
        None
    }

    fn answer_datagram(&mut self) {
        let mut buffer = [0; 4096];
        let Ok((length, from)) = self.udp.recv_from(&mut buffer) else { return };
        for say in self.stage.hear(&buffer[..length], Over::Udp, from) {
            // The client may have its answer already and be gone.
            let _ = match say {
                Say::Send(message) => self.udp.send_to(&message, from),
                Say::SendAfter(time, message) => {
                    self.held.push(Reverse((Instant::now() + time, from, message)));
                    continue;
                }
                Say::SendFromElsewhere(message) => self.elsewhere.send_to(&message, from),
                Say::SendFromNeighbour(message) => self.neighbour.send_to(&message, from),
                Say::SendTo(whom, message) => self.udp.send_to(&message, whom),
                other => panic!("{other:?} is not for UDP"),
            };
        }
    }
}

fn converse(mut stream: TcpStream, from: SocketAddr, stage: &Stage) {
    let send = |mut stream: &TcpStream, message: &[u8]| {
        let length = u16::try_from(message.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), message].concat())
    };
    let mut next = || -> io::Result<()> {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query)?;
        for say in stage.hear(&query, Over::Tcp, from) {
            match say {
                Say::Send(message) => send(&stream, &message)?,
                Say::SendAfter(time, message) => {
                    std::thread::sleep(time);
                    send(&stream, &message)?;
                }
                Say::Bytes(bytes) => stream.write_all(&bytes)?,
                Say::BytesForEver(bytes) => loop {
                    stream.write_all(&bytes)?;
                },
                Say::Pause(time) => std::thread::sleep(time),
                Say::Close => return Err(io::ErrorKind::ConnectionAborted.into()),
                other => panic!("{other:?} is not for TCP"),
            }
        }
        Ok(())
    };
    while next().is_ok() {}
    // The listener has its own handle.
    let _ = stream.shutdown(Shutdown::Both);
}

/// Gate at which scripts wait until the test opens it.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Time that a script waits at most, longer than any test does: a failed test must not wait for
    /// its own upstream.
    const PATIENCE: Duration = Duration::from_secs(20);

    pub fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Waits until the gate is open.
    pub fn pass(&self) {
        let (open, opened) = &*self.0;
        let guard = open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(opened.wait_timeout_while(guard, Self::PATIENCE, |open| !*open));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, Query};

    #[test]
    fn an_answer_that_is_held_back_delays_no_other() {
        let upstream = Upstream::local(|seen| {
            let answer = seen.query.answer(60);
            let is_late = seen.query.is_for("late.example");
            vec![if is_late { Say::SendAfter(Duration::from_millis(100), answer) } else { Say::Send(answer) }]
        });
        let client = Client::of(&Host::local(), upstream.address());
        let begin = Instant::now();
        client.send(&Query::a("late.example").id(1).wire());
        client.send(&Query::a("prompt.example").id(2).wire());
        let ids = [(); 2].map(|()| client.receive(Duration::from_secs(10)).map(|reply| reply.id()));
        assert_eq!(ids, [Some(2), Some(1)]);
        assert!(begin.elapsed() >= Duration::from_millis(100));
    }
}
