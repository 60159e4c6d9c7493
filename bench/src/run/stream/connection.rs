//! Connection with the queries that wait to be written, and the bytes of a message that is not
//! complete yet.

use super::tls::Tls;
use anyhow::{Context, Result};
use rustix::{
    event::PollFlags,
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, connect, socket_with},
};
use rustls::ClientConnection;
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    time::Duration,
};

/// Time within which the first connection must open.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most bytes that wait to be written: more would only hide that the server reads slowly.
const ROOM: usize = 64 << 10;
/// Bytes that are read at a time.
const CHUNK: usize = 64 << 10;

pub(super) struct Connection {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// Queries with their length prefixes, and the number of bytes already written.
    out: Vec<u8>,
    written: usize,
    /// Buffer of bytes read, of which `filled` are valid.
    inbox: Box<[u8]>,
    filled: usize,
    sent: u64,
    answered: u64,
}

impl Connection {
    /// Connects, and completes the handshake before it returns.
    pub fn open(target: SocketAddr, tls: Option<&Tls>) -> Result<Self> {
        let mut socket = TcpStream::connect_timeout(&target, PATIENCE)
            .with_context(|| format!("cannot connect to {target}: does a server listen there on TCP?"))?;
        let mut tls = tls.map(Tls::client).transpose()?.map(Box::new);
        if let Some(tls) = &mut tls {
            socket.set_read_timeout(Some(PATIENCE))?;
            while tls.is_handshaking() {
                tls.complete_io(&mut socket).with_context(|| {
                    format!(
                        "no TLS with {target}: is it the port for DNS over TLS, and is --ca its authority's?"
                    )
                })?;
            }
        }
        socket.set_nonblocking(true)?;
        Ok(Connection::over(socket, tls)?)
    }

    /// Begins to connect. Data waits until the connection is open; failure shows then.
    pub fn begin(target: SocketAddr, tls: Option<&Tls>) -> Result<Self> {
        let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket: OwnedFd = socket_with(family, SocketType::STREAM, flags, None)?;
        match connect(&socket, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Connection::over(socket.into(), tls.map(Tls::client).transpose()?.map(Box::new))?)
    }

    fn over(socket: TcpStream, tls: Option<Box<ClientConnection>>) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let inbox = vec![0; 2 * CHUNK].into();
        Ok(Connection { socket, tls, out: Vec::new(), written: 0, inbox, filled: 0, sent: 0, answered: 0 })
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Returns the events to sleep for.
    pub fn awaits(&self) -> PollFlags {
        let writing = !self.out.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        if writing { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }
    }

    /// Whether another block of queries may be queued.
    pub fn has_room(&self) -> bool {
        self.out.len() < ROOM
    }

    /// Returns the number of queries without an answer so far.
    pub fn waiting(&self) -> u64 {
        self.sent.saturating_sub(self.answered)
    }

    /// Queues a query.
    #[inline]
    pub fn queue(&mut self, message: &[u8]) {
        self.out.extend_from_slice(&(message.len() as u16).to_be_bytes());
        self.out.extend_from_slice(message);
        self.sent += 1;
    }

    /// Writes as much as the socket takes.
    #[inline]
    pub fn flush(&mut self) -> io::Result<()> {
        loop {
            let rest = &self.out[self.written..];
            let taken = match &mut self.tls {
                _ if rest.is_empty() => 0,
                // TLS takes as much as its buffer has room for.
                Some(tls) => tls.writer().write(rest)?,
                None => unless_busy(self.socket.write(rest))?,
            };
            self.written += taken;
            if self.written == self.out.len() {
                self.out.clear();
                self.written = 0;
            }
            let mut encrypted = 0;
            if let Some(tls) = &mut self.tls {
                while tls.wants_write() {
                    match unless_busy(tls.write_tls(&mut self.socket))? {
                        0 => return Ok(()),
                        written => encrypted += written,
                    }
                }
            }
            if taken + encrypted == 0 || self.out.is_empty() {
                return Ok(());
            }
        }
    }

    /// Reads once; fails at the end of the stream.
    #[inline]
    pub fn read(&mut self) -> io::Result<()> {
        let space = &mut self.inbox[self.filled..];
        let read = match &mut self.tls {
            None => match self.socket.read(space) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                read => unless_busy(read)?,
            },
            Some(tls) => {
                let encrypted = match tls.read_tls(&mut self.socket) {
                    Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                    read => unless_busy(read),
                };
                tls.process_new_packets().map_err(io::Error::other)?;
                let plain = unless_busy(tls.reader().read(space))?;
                if plain == 0 {
                    encrypted?;
                }
                plain
            }
        };
        self.filled += read;
        Ok(())
    }

    /// Passes the complete messages that were read to `take`, and returns their number.
    #[inline]
    pub fn messages(&mut self, mut take: impl FnMut(&[u8])) -> usize {
        let (mut at, mut count) = (0, 0);
        while let Some((length, rest)) = self.inbox[at..self.filled].split_first_chunk::<2>() {
            let Some(message) = rest.get(..usize::from(u16::from_be_bytes(*length))) else { break };
            take(message);
            at += 2 + message.len();
            count += 1;
        }
        // Less than one message is left, so there is room for more than another.
        self.inbox.copy_within(at..self.filled, 0);
        self.filled -= at;
        self.answered += count as u64;
        count
    }
}

/// Returns 0 if the call would have blocked.
fn unless_busy(done: io::Result<usize>) -> io::Result<usize> {
    match done {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        done => done,
    }
}
