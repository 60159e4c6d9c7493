//! Encoding of dnstap messages: Protocol Buffers, as in `dnstap.proto`, each in a data frame.
//!
//! The encoder is written by hand: a message is written once, at its place in the buffer that is sent,
//! without a structure of its own and without an allocation.

use std::net::{IpAddr, SocketAddr};

/// Kind of a message: `Message.Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Query from a client.
    ClientQuery = 5,
    /// Response to a client.
    ClientResponse = 6,
    /// Query to an upstream.
    ForwarderQuery = 7,
    /// Response of an upstream.
    ForwarderResponse = 8,
}

/// Transport of a message: `SocketProtocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// DNS over UDP (RFC 1035 section 4.2.1).
    Udp = 1,
    /// DNS over TCP (RFC 1035 section 4.2.2).
    Tcp = 2,
    /// DNS over TLS (RFC 7858).
    Tls = 3,
    /// DNS over HTTPS (RFC 8484).
    Https = 4,
}

/// Message to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tapped<'a> {
    /// Kind.
    pub kind: Kind,
    /// Transport.
    pub transport: Transport,
    /// Address of the client; with an upstream, of this server.
    pub client: SocketAddr,
    /// Address of this server; with an upstream, of that.
    pub server: SocketAddr,
    /// Unix time at which the query was received, or sent to the upstream, in nanoseconds.
    pub query_time: u64,
    /// Unix time at which the response was sent, or received from the upstream, in nanoseconds; only of a
    /// response.
    pub response_time: u64,
    /// DNS message: of a query the query, of a response the response.
    pub wire: &'a [u8],
}

/// Number of `AF_INET` and `AF_INET6` in `SocketFamily`.
const FAMILIES: [u64; 2] = [1, 2];
/// `Dnstap.Type.MESSAGE`.
const MESSAGE: u64 = 1;
/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// Fields of `Dnstap`.
mod outer {
    pub const IDENTITY: u32 = 1;
    pub const VERSION: u32 = 2;
    pub const MESSAGE: u32 = 14;
    pub const TYPE: u32 = 15;
}

/// Fields of `Message`.
mod inner {
    pub const TYPE: u32 = 1;
    pub const SOCKET_FAMILY: u32 = 2;
    pub const SOCKET_PROTOCOL: u32 = 3;
    pub const QUERY_ADDRESS: u32 = 4;
    pub const RESPONSE_ADDRESS: u32 = 5;
    pub const QUERY_PORT: u32 = 6;
    pub const RESPONSE_PORT: u32 = 7;
    pub const QUERY_TIME_SEC: u32 = 8;
    pub const QUERY_TIME_NSEC: u32 = 9;
    pub const QUERY_MESSAGE: u32 = 10;
    pub const RESPONSE_TIME_SEC: u32 = 12;
    pub const RESPONSE_TIME_NSEC: u32 = 13;
    pub const RESPONSE_MESSAGE: u32 = 14;
}

/// Wire types of fields.
#[derive(Clone, Copy)]
enum WireType {
    Varint = 0,
    Bytes = 2,
    Fixed32 = 5,
}

/// Encoder of messages, with the fields that are the same in all.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// Identity, version and type, encoded.
    head: Vec<u8>,
}

impl Encoder {
    /// Creates an encoder for a server of this name and version; an empty one is left out.
    pub fn new(identity: &str, version: &str) -> Self {
        let mut head = Vec::new();
        for (field, text) in [(outer::IDENTITY, identity), (outer::VERSION, version)] {
            if !text.is_empty() {
                bytes(&mut head, field, text.as_bytes());
            }
        }
        varint(&mut head, outer::TYPE, MESSAGE);
        Encoder { head }
    }

    /// Appends a message as a data frame.
    pub fn append(&self, message: &Tapped<'_>, frames: &mut Vec<u8>) {
        let of_frame = hole(frames);
        frames.extend_from_slice(&self.head);
        tag(frames, outer::MESSAGE, WireType::Bytes);
        // The length precedes the fields: it is filled in behind them, in as many bytes as it has at most.
        let of_message = frames.len();
        frames.extend_from_slice(&[0x80, 0x80, 0]);
        fields(message, frames);
        fill_length(frames, of_message);
        fill(frames, of_frame);
    }
}

/// Appends the fields of `Message`.
fn fields(message: &Tapped<'_>, to: &mut Vec<u8>) {
    let Tapped { kind, transport, client, server, query_time, response_time, wire } = *message;
    let [client_ip, server_ip] = [client.ip(), server.ip()].map(|ip| ip.to_canonical());
    varint(to, inner::TYPE, kind as u64);
    varint(to, inner::SOCKET_FAMILY, FAMILIES[usize::from(client_ip.is_ipv6())]);
    varint(to, inner::SOCKET_PROTOCOL, transport as u64);
    address(to, inner::QUERY_ADDRESS, client_ip);
    address(to, inner::RESPONSE_ADDRESS, server_ip);
    varint(to, inner::QUERY_PORT, client.port().into());
    varint(to, inner::RESPONSE_PORT, server.port().into());
    varint(to, inner::QUERY_TIME_SEC, query_time / SECOND);
    fixed(to, inner::QUERY_TIME_NSEC, (query_time % SECOND) as u32);
    match kind {
        Kind::ClientQuery | Kind::ForwarderQuery => bytes(to, inner::QUERY_MESSAGE, wire),
        Kind::ClientResponse | Kind::ForwarderResponse => {
            varint(to, inner::RESPONSE_TIME_SEC, response_time / SECOND);
            fixed(to, inner::RESPONSE_TIME_NSEC, (response_time % SECOND) as u32);
            bytes(to, inner::RESPONSE_MESSAGE, wire);
        }
    }
}

fn tag(to: &mut Vec<u8>, field: u32, wire: WireType) {
    // Fields up to 15 have a tag of one byte.
    to.push((field << 3) as u8 | wire as u8);
}

fn number(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn varint(to: &mut Vec<u8>, field: u32, value: u64) {
    tag(to, field, WireType::Varint);
    number(to, value);
}

fn fixed(to: &mut Vec<u8>, field: u32, value: u32) {
    tag(to, field, WireType::Fixed32);
    to.extend_from_slice(&value.to_le_bytes());
}

fn bytes(to: &mut Vec<u8>, field: u32, value: &[u8]) {
    tag(to, field, WireType::Bytes);
    number(to, value.len() as u64);
    to.extend_from_slice(value);
}

fn address(to: &mut Vec<u8>, field: u32, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => bytes(to, field, &v4.octets()),
        IpAddr::V6(v6) => bytes(to, field, &v6.octets()),
    }
}

/// Leaves room for the length of a frame, and returns its position.
fn hole(frames: &mut Vec<u8>) -> usize {
    frames.extend_from_slice(&[0; 4]);
    frames.len() - 4
}

/// Fills in the length of the frame that began at `at`.
fn fill(frames: &mut [u8], at: usize) {
    let len = (frames.len() - at - 4) as u32;
    if let Some(room) = frames.get_mut(at..at + 4) {
        room.copy_from_slice(&len.to_be_bytes());
    }
}

/// Fills in the length of what follows the three bytes at `at`, as a number of three bytes. Numbers
/// may have more bytes than they need; three hold 2 MiB, and a message has at most 64 KiB and a few.
fn fill_length(frames: &mut [u8], at: usize) {
    let len = frames.len() - at - 3;
    if let Some(room) = frames.get_mut(at..at + 3) {
        room.copy_from_slice(&[len as u8 | 0x80, (len >> 7) as u8 | 0x80, (len >> 14) as u8 & 0x7f]);
    }
}

#[cfg(test)]
mod tests;
