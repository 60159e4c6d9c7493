//! Messages that are exchanged with upstreams, for a reader of them.

use crate::upstream::Upstream;
use ringdns_dataplane::clock::Nanos;
use std::net::SocketAddr;

/// Local address and address of the upstream.
pub type Ends = (SocketAddr, SocketAddr);

/// Transport of an exchange with an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeTransport {
    /// UDP.
    Udp,
    /// TCP, also in place of UDP.
    Tcp,
    /// TLS.
    Tls,
    /// HTTPS.
    Https,
}

/// Message of a sampled exchange.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamMessage<'a> {
    /// Transport.
    pub transport: ExchangeTransport,
    /// Local address and address of the upstream.
    pub ends: Ends,
    /// Time at which the query was sent.
    pub asked: Nanos,
    /// Whether this is the response.
    pub is_response: bool,
    /// DNS message. Over a connection, the ID of a query is 0: the connection has its own.
    pub wire: &'a [u8],
}

/// Reader of messages that are exchanged with upstreams.
pub trait UpstreamReader: Send + Sync {
    /// Whether the next exchange is sampled. Returns the time now if so.
    fn pick(&self) -> Option<Nanos>;

    /// Takes a message of a sampled exchange. It does not block.
    fn take(&self, message: &UpstreamMessage<'_>);
}

impl Upstream {
    /// Returns the time now if the next exchange is to be told.
    pub(super) fn pick(&self) -> Option<Nanos> {
        self.reader.get()?.pick()
    }

    /// Tells the reader of a message of a sampled exchange.
    pub(super) fn tell(&self, message: &UpstreamMessage<'_>) {
        if let Some(reader) = self.reader.get() {
            reader.take(message);
        }
    }
}
