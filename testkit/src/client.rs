//! A DNS client of a few lines, for queries that kdig cannot send.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::{Host, Query, Reply};

/// Time to wait for an answer, longer than any takes: after it, the test has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// UDP socket of a client, connected to its server.
pub struct Client {
    socket: UdpSocket,
}

impl Client {
    #[track_caller]
    pub fn of(host: &Host, server: SocketAddr) -> Self {
        let any = match server {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        Self::from_address(host, any, server)
    }

    /// Returns a client with an address of its own.
    #[track_caller]
    pub fn from_address(host: &Host, address: IpAddr, server: SocketAddr) -> Self {
        let socket = host.enter(|| {
            let socket = UdpSocket::bind((address, 0))?;
            socket.connect(server)?;
            io::Result::Ok(socket)
        });
        match socket {
            Ok(socket) => Self { socket },
            Err(error) => panic!("a socket to {server}: {error}"),
        }
    }

    /// Sends bytes. A refusal of an earlier datagram is not an error of this one.
    pub fn send(&self, message: &[u8]) {
        let _ = self.socket.send(message);
    }

    /// Returns the next datagram, if one arrives in time.
    pub fn receive(&self, patience: Duration) -> Option<Reply> {
        self.socket.set_read_timeout(Some(patience)).expect("patience is not zero");
        let mut buffer = vec![0; 65_536];
        let length = self.socket.recv(&mut buffer).ok()?;
        buffer.truncate(length);
        Some(Reply(buffer))
    }

    /// Sends a query, waits for the reply with its ID, and returns it.
    #[track_caller]
    pub fn ask(&self, query: &Query) -> Reply {
        match self.ask_within(query, PATIENCE) {
            Some(reply) => reply,
            None => panic!("no reply to {query:?}"),
        }
    }

    /// Sends a query, and returns the reply with its ID; `None` if none arrives in time.
    pub fn ask_within(&self, query: &Query, patience: Duration) -> Option<Reply> {
        let deadline = Instant::now() + patience;
        self.send(&query.wire());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let reply = self.receive(left.max(Duration::from_micros(1)))?;
            if reply.id() == query.id {
                return Some(reply);
            }
        }
    }
}

/// Asks over TCP: all queries in one segment on one connection. The replies arrive in any order.
#[track_caller]
pub fn ask_over_tcp(host: &Host, server: SocketAddr, queries: &[Query]) -> Vec<Reply> {
    exchange_over_tcp(host, server, &queries.iter().map(Query::wire).collect::<Vec<_>>())
}

/// Sends arbitrary messages over one TCP connection, each of which must be answered. Returns the
/// replies.
#[track_caller]
pub fn exchange_over_tcp(host: &Host, server: SocketAddr, messages: &[Vec<u8>]) -> Vec<Reply> {
    let mut sent = Vec::new();
    for message in messages {
        sent.extend(u16::try_from(message.len()).expect("queries are short").to_be_bytes());
        sent.extend(message);
    }
    let exchanged = host.enter(|| {
        let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&sent)?;
        let mut replies = Vec::with_capacity(messages.len());
        for _ in messages {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut reply)?;
            replies.push(Reply(reply));
        }
        io::Result::Ok(replies)
    });
    match exchanged {
        Ok(replies) => replies,
        Err(error) => panic!("{} queries to {server} over TCP: {error}", messages.len()),
    }
}

/// Asks with kdig: once, with EDNS and a long timeout. Returns its short answer, one record per
/// line.
#[track_caller]
pub fn kdig(host: &Host, server: SocketAddr, question: &[&str]) -> String {
    let (address, port) = (format!("@{}", server.ip()), server.port().to_string());
    let transport = ["+short", "+bufsize=1232", "+time=5", "+retry=0", "-p", &port, &address];
    let said = host.run("kdig", transport.iter().chain(question));
    let answer = said.lines().filter(|line| !line.is_empty() && !line.starts_with(";;"));
    answer.collect::<Vec<_>>().join("\n")
}
