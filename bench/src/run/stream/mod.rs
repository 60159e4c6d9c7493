//! DNS over TCP (RFC 7766) and TLS (RFC 7858): many queries on each of a few connections, with
//! answers in any order.

mod connection;
mod tls;

pub use tls::{Tls, TlsArgs};

use super::{
    replay,
    udp::wait_for,
    wire::{Route, Transport, Wire},
};
use crate::tally::Tally;
use anyhow::Result;
use connection::Connection;
use rustix::event::PollFd;
use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Connections to a server.
#[derive(Debug)]
pub struct Streams {
    /// Address of the server.
    pub target: SocketAddr,
    /// Number of connections of a sender.
    pub connections: u16,
    /// Encryption of the connections, if any.
    pub tls: Option<Tls>,
}

impl Transport for Streams {
    type Wire = Connections;

    fn open(&self, lane: usize) -> Result<Connections> {
        let connections = (0..self.connections)
            .map(|_| Connection::open(self.target, self.tls.as_ref()))
            .collect::<Result<Vec<_>>>()?;
        Ok(Connections {
            lane,
            target: self.target,
            tls: self.tls.clone(),
            opened: connections.len() as u64,
            connections: connections
                .into_iter()
                .map(|open| Place { open: Some(open), retry: Instant::now() })
                .collect(),
            send_turn: 0,
            receive_turn: 0,
            broken: 0,
            interrupted: 0,
        })
    }

    /// Returns 1: a sender's connections share their IDs, and any of them can carry any query.
    fn flows(&self) -> u32 {
        1
    }
}

/// Connections of one sender.
pub struct Connections {
    lane: usize,
    target: SocketAddr,
    tls: Option<Tls>,
    connections: Vec<Place>,
    /// Index of the next connection to send on, and of the next to read from.
    send_turn: usize,
    receive_turn: usize,
    opened: u64,
    broken: u64,
    interrupted: u64,
}

/// Connection, or the time of the next attempt to open it.
struct Place {
    open: Option<Connection>,
    retry: Instant,
}

/// Time between two attempts to connect.
const RETRY: Duration = Duration::from_millis(50);

impl Connections {
    /// Drops a connection that has ended, with its queries.
    fn lose(&mut self, nth: usize) {
        let place = &mut self.connections[nth];
        if let Some(connection) = place.open.take() {
            self.broken += 1;
            self.interrupted += connection.waiting();
            place.retry = Instant::now() + RETRY;
        }
    }

    /// Begins to connect again if it is time.
    fn restore(&mut self, nth: usize) {
        let place = &mut self.connections[nth];
        if place.open.is_none() && place.retry <= Instant::now() {
            match Connection::begin(self.target, self.tls.as_ref()) {
                Ok(connection) => {
                    place.open = Some(connection);
                    self.opened += 1;
                }
                Err(_) => {
                    place.retry = Instant::now() + RETRY;
                    self.broken += 1;
                }
            }
        }
    }
}

impl Wire for Connections {
    #[inline]
    fn send(
        &mut self,
        _: u32,
        count: usize,
        mut write: impl FnMut(usize, &mut [u8]) -> usize,
    ) -> io::Result<usize> {
        for _ in 0..self.connections.len() {
            let nth = self.send_turn;
            self.send_turn = (nth + 1) % self.connections.len();
            self.restore(nth);
            let Some(connection) = self.connections[nth].open.as_mut().filter(|c| c.has_room()) else {
                continue;
            };
            for query in 0..count {
                let mut message = [0; replay::LONGEST];
                let len = write(query, &mut message);
                connection.queue(&message[..len]);
            }
            if connection.flush().is_err() {
                self.lose(nth);
            }
            return Ok(count);
        }
        Ok(0)
    }

    #[inline]
    fn receive(&mut self, mut take: impl FnMut(Route, &[u8])) -> io::Result<usize> {
        for _ in 0..self.connections.len() {
            let nth = self.receive_turn;
            self.receive_turn = (nth + 1) % self.connections.len();
            let Some(connection) = &mut self.connections[nth].open else { continue };
            let route = Route { lane: self.lane, flow: 0 };
            let read = connection.flush().and_then(|()| connection.read());
            // Answers from before the end of the connection still count.
            let received = connection.messages(|message| take(route, message));
            if read.is_err() {
                self.lose(nth);
            }
            if received > 0 {
                return Ok(received);
            }
        }
        Ok(0)
    }

    fn wait(&mut self, time: Duration) {
        let open = self.connections.iter().filter_map(|place| place.open.as_ref());
        wait_for(open.map(|c| PollFd::new(c.socket(), c.awaits())), time);
    }

    fn count(&mut self, tally: &mut Tally) {
        tally.connections += self.opened;
        tally.broken += self.broken;
        tally.interrupted += self.interrupted;
    }
}

#[cfg(test)]
mod tests;
