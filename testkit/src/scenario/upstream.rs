//! Upstreams that do only what a scenario says, and the TCP streams of both sides.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use super::Upstream;
use crate::{Host, Over, port::open};

/// Query that an upstream has seen.
#[derive(Clone, Debug)]
pub struct Seen {
    pub bytes: Vec<u8>,
    pub over: Over,
    pub from: SocketAddr,
    /// Number of the TCP connection that it came over.
    connection: usize,
    /// Whether the scenario has mentioned it, and its name there.
    pub spoken_of: bool,
    pub label: Option<String>,
}

/// Upstreams of a scenario, on the loopback of a host.
pub struct Cast(Vec<Member>);

struct Member {
    address: SocketAddr,
    host: Host,
    sockets: Option<Sockets>,
    seen: Vec<Seen>,
}

struct Sockets {
    udp: UdpSocket,
    elsewhere: UdpSocket,
    tcp: TcpListener,
    connections: Vec<Stream>,
}

impl Cast {
    /// Creates one upstream per address, at ports that the kernel chooses.
    pub fn assemble(host: &Host, addresses: impl Iterator<Item = IpAddr>) -> io::Result<Cast> {
        let member = |ip| {
            let (sockets, address) = Sockets::open(host, SocketAddr::new(ip, 0))?;
            Ok(Member { address, host: host.clone(), sockets: Some(sockets), seen: Vec::new() })
        };
        addresses.map(member).collect::<io::Result<_>>().map(Cast)
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|member| member.address).collect()
    }

    /// Receives the queries that have arrived.
    pub fn poll(&mut self) -> io::Result<()> {
        self.0.iter_mut().try_for_each(Member::poll)
    }

    /// Returns the queries that an upstream has seen.
    pub fn seen(&mut self, upstream: Upstream) -> &mut Vec<Seen> {
        &mut self.0[upstream].seen
    }

    /// Returns all queries, with their upstream's letter.
    pub(super) fn all_seen(&self) -> impl Iterator<Item = (char, &Seen)> {
        self.0.iter().enumerate().flat_map(|(number, member)| {
            let letter = char::from(b'A' + number as u8);
            member.seen.iter().map(move |seen| (letter, seen))
        })
    }

    /// Answers the `nth` query that the upstream has seen.
    pub fn answer(
        &mut self,
        upstream: Upstream,
        nth: usize,
        bytes: &[u8],
        elsewhere: bool,
    ) -> io::Result<()> {
        let member = &mut self.0[upstream];
        let seen = &member.seen[nth];
        let Some(sockets) = &mut member.sockets else {
            return Err(io::Error::other("the upstream has stopped"));
        };
        match seen.over {
            Over::Udp => {
                let socket = if elsewhere { &sockets.elsewhere } else { &sockets.udp };
                // The client may have its answer already and be gone.
                let _ = socket.send_to(bytes, seen.from);
                Ok(())
            }
            Over::Tcp => {
                let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
                sockets.connections[seen.connection].send(&[&length.to_be_bytes(), bytes].concat());
                Ok(())
            }
        }
    }

    /// Closes the TCP connection of the latest query over TCP.
    pub(super) fn hang(&mut self, upstream: Upstream) -> bool {
        let Member { sockets: Some(sockets), seen, .. } = &mut self.0[upstream] else { return false };
        let latest = seen.iter().rev().find(|seen| seen.over == Over::Tcp);
        latest.is_some_and(|seen| {
            sockets.connections[seen.connection].stream.shutdown(std::net::Shutdown::Both).is_ok()
        })
    }

    pub(super) fn stop(&mut self, upstream: Upstream) {
        self.0[upstream].sockets = None;
    }

    pub(super) fn start(&mut self, upstream: Upstream) -> io::Result<()> {
        let member = &mut self.0[upstream];
        member.sockets = Some(Sockets::open(&member.host, member.address)?.0);
        Ok(())
    }
}

impl Member {
    fn poll(&mut self) -> io::Result<()> {
        let Some(Sockets { udp, tcp, connections, .. }) = &mut self.sockets else { return Ok(()) };
        let mut buffer = vec![0; 65_536];
        while let Some((length, from)) = ready(udp.recv_from(&mut buffer))? {
            let bytes = buffer[..length].to_vec();
            self.seen.push(Seen {
                bytes,
                over: Over::Udp,
                from,
                connection: 0,
                spoken_of: false,
                label: None,
            });
        }
        while let Some((stream, from)) = ready(tcp.accept())? {
            connections.push(Stream::new(stream, from)?);
        }
        for (connection, stream) in connections.iter_mut().enumerate() {
            stream.poll();
            while let Some(bytes) = stream.next_message() {
                let from = stream.peer;
                self.seen.push(Seen {
                    bytes,
                    over: Over::Tcp,
                    from,
                    connection,
                    spoken_of: false,
                    label: None,
                });
            }
        }
        Ok(())
    }
}

impl Sockets {
    fn open(host: &Host, address: SocketAddr) -> io::Result<(Sockets, SocketAddr)> {
        let more = |at: SocketAddr| UdpSocket::bind((at.ip(), 0));
        let (address, udp, tcp, elsewhere) = host.enter(|| open(address, more))?;
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        Ok((Sockets { udp, elsewhere, tcp, connections: Vec::new() }, address))
    }
}

/// TCP stream that never waits: bytes that cannot be written now are written later.
pub struct Stream {
    stream: TcpStream,
    peer: SocketAddr,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// Whether to close our side once everything is written.
    closing: bool,
    /// Whether the other side has closed.
    pub ended: bool,
}

impl Stream {
    pub fn new(stream: TcpStream, peer: SocketAddr) -> io::Result<Stream> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Stream { stream, peer, inbox: Vec::new(), outbox: Vec::new(), closing: false, ended: false })
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.outbox.extend(bytes);
        self.poll();
    }

    /// Closes our side; the other side may continue.
    pub fn close(&mut self) {
        self.closing = true;
        self.poll();
    }

    /// Writes and reads as much as possible. A broken stream counts as ended.
    pub fn poll(&mut self) {
        while !self.outbox.is_empty() {
            match ready(self.stream.write(&self.outbox)) {
                Ok(Some(written)) => drop(self.outbox.drain(..written)),
                Ok(None) => break,
                Err(_) => {
                    self.outbox.clear();
                    self.ended = true;
                }
            }
        }
        if self.closing && self.outbox.is_empty() {
            self.closing = false;
            // It may be closed already.
            let _ = self.stream.shutdown(std::net::Shutdown::Write);
        }
        let mut buffer = [0; 16_384];
        while !self.ended {
            match ready(self.stream.read(&mut buffer)) {
                Ok(Some(0)) | Err(_) => self.ended = true,
                Ok(Some(length)) => self.inbox.extend(&buffer[..length]),
                Ok(None) => break,
            }
        }
    }

    /// Returns the next length-prefixed message, once it is complete.
    pub fn next_message(&mut self) -> Option<Vec<u8>> {
        take_message(&mut self.inbox)
    }
}

/// Takes the first length-prefixed message from the received bytes, once it is complete.
pub(super) fn take_message(from: &mut Vec<u8>) -> Option<Vec<u8>> {
    let (length, rest) = from.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let message = rest.get(..length)?.to_vec();
    from.drain(..2 + length);
    Some(message)
}

/// Returns the result of a non-blocking call; `None`: nothing yet.
fn ready<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        // The error of an earlier datagram to a client that was gone.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(None),
        Err(error) => Err(error),
    }
}
