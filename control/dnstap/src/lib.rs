//! dnstap output: tells a reader on a Unix socket or over TCP of queries and responses of clients and
//! upstreams, as Protocol Buffers in Frame Streams.
//!
//! ```text
//!  workers ──pages of mirrored packets──► thread "dnstap" ── encode ──► socket ──► reader
//!  TCP listener, resolver ──encoded frames──►
//! ```
//!
//! No worker waits. A reader that stalls holds up the thread alone; pages run out, and packets are
//! lost and counted where they find no room: `offered = sent + unfit + lost + in_hand`.

#![forbid(unsafe_code)]

mod frames;
mod message;
mod sender;

pub use frames::{CONTENT_TYPE, FrameError};
pub use message::{Encoder, Kind, Tapped, Transport};
pub use sender::Sender;

use parking_lot::Mutex;
use ringdns_common::{counters, fault::Fault};
use ringdns_config::{DnstapConfig, DnstapMessage, Problem};
use ringdns_dataplane::{
    clock::{Clock, Nanos},
    log::{Picks, Sieve},
    mirror::{Direction, Directions, Fate, MirrorConfig, MirrorLine, Mirrored, Page},
    stats::DropReason,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

/// Most bytes of encoded messages over TCP that wait to be sent, and of those with upstreams.
const DESK_BYTES: usize = 1 << 20;

/// Difference to the wall clock in nanoseconds from which times follow it.
const EPOCH_STEP: u64 = 1_000_000;

counters! {
    /// Counters of dnstap. Workers count the packets that they mirror and lose themselves.
    DnstapCounters {
        /// dnstap messages sent to the reader.
        sent,
        /// Bytes of data frames sent to the dnstap reader.
        sent_bytes,
        /// Mirrored packets that are no DNS messages, for which there is no dnstap message.
        unfit,
        /// Connections opened to the dnstap reader, handshake included.
        connections,
        /// Attempts to connect to the dnstap reader that failed.
        connections_failed,
        /// Connections to the dnstap reader that ended, by either side.
        connections_ended,
    }
}

/// Counters of losses, and of messages that the control plane encodes.
#[derive(Debug, Default)]
struct Losses {
    unconnected: ringdns_common::counters::Counter,
    broken: ringdns_common::counters::Counter,
    desk_offered: ringdns_common::counters::Counter,
    desk_full: ringdns_common::counters::Counter,
}

/// Sums of dnstap messages: `offered = sent + unfit + lost + in_hand`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Messages to be sent: queries and responses that were sampled.
    pub offered: u64,
    /// Messages sent.
    pub sent: u64,
    /// Packets without a DNS message.
    pub unfit: u64,
    /// Messages lost because the buffers were full: the reader is slower than they come.
    pub buffer_full: u64,
    /// Messages lost because there was no connection.
    pub unconnected: u64,
    /// Messages that were in hand when the connection broke.
    pub broken: u64,
}

impl Sums {
    /// Returns the losses by their reason.
    pub fn losses(&self) -> [(&'static str, u64); 3] {
        [
            ("buffer_full", self.buffer_full),
            ("not_connected", self.unconnected),
            ("connection_lost", self.broken),
        ]
    }

    /// Returns the number of messages in pages and buffers; negative for a moment if the counters were
    /// read while they changed.
    pub fn in_hand(&self) -> i64 {
        let lost: u64 = self.losses().iter().map(|(_, lost)| lost).sum();
        self.offered as i64 - (self.sent + self.unfit + lost) as i64
    }
}

/// dnstap output of a process.
pub struct Dnstap {
    config: DnstapConfig,
    sieve: Arc<Sieve>,
    encoder: Encoder,
    clock: Clock,
    /// Start of the clock in Unix nanoseconds.
    epoch: AtomicU64,
    lines: Mutex<Vec<Arc<MirrorLine>>>,
    tcp: Mutex<Desk>,
    upstreams: Mutex<Desk>,
    is_connected: AtomicBool,
    losses: Losses,
    /// Reason why nothing is sent, while that is so.
    pub fault: Fault,
    /// Counters of the sender.
    pub counters: DnstapCounters,
}

/// Messages that the control plane encodes: those of the TCP listener, or those with upstreams.
struct Desk {
    picks: Picks,
    frames: Vec<u8>,
    count: u64,
}

impl Dnstap {
    /// Returns the output that a configuration asks for; `None` if it asks for none.
    pub fn new(config: Option<&DnstapConfig>, clock: Clock) -> Result<Option<Arc<Self>>, Problem> {
        let Some(config) = config else { return Ok(None) };
        let sieve = Sieve::new(config.sample, &[], &[]).map_err(|error| {
            Problem::new("dnstap.sample", error.to_string(), "Give 1 to send every message")
        })?;
        let desk = || Mutex::new(Desk { picks: sieve.picks(rand::random()), frames: Vec::new(), count: 0 });
        Ok(Some(Arc::new(Dnstap {
            encoder: Encoder::new(&config.identity, &config.version),
            config: config.clone(),
            clock,
            epoch: AtomicU64::new(clock.epoch_nanos()),
            lines: Mutex::default(),
            tcp: desk(),
            upstreams: desk(),
            sieve: Arc::new(sieve),
            is_connected: AtomicBool::new(false),
            losses: Losses::default(),
            fault: Fault::default(),
            counters: DnstapCounters::default(),
        })))
    }

    /// Returns the setup of the mirror of one more worker.
    pub fn setup(&self) -> MirrorConfig {
        let pages = usize::try_from(self.config.bytes_per_worker).unwrap_or(usize::MAX) / Page::BYTES;
        let line = Arc::new(MirrorLine::new(pages));
        self.lines.lock().push(line.clone());
        let directions = Directions {
            queries: self.wants(DnstapMessage::ClientQuery),
            replies: self.wants(DnstapMessage::ClientResponse),
        };
        MirrorConfig { line, sieve: self.sieve.clone(), directions, seed: rand::random() }
    }

    /// Returns the start of the clock in Unix nanoseconds. It follows the wall clock in steps, so that
    /// the times of a query are the same in both of its messages.
    fn epoch(&self) -> u64 {
        let (now, known) = (self.clock.epoch_nanos(), self.epoch.load(Relaxed));
        if now.abs_diff(known) < EPOCH_STEP {
            return known;
        }
        self.epoch.store(now, Relaxed);
        now
    }

    fn wants(&self, message: DnstapMessage) -> bool {
        self.config.messages.contains(&message)
    }

    /// Whether the next exchange over TCP is sampled.
    pub fn picks_tcp(&self) -> bool {
        self.tcp.lock().picks.take()
    }

    /// Notes a sampled message over TCP between a client and the address that it asks, whose query was
    /// received at `received`.
    pub fn note_tcp(
        &self,
        kind: Kind,
        (client, server): (SocketAddr, SocketAddr),
        received: Nanos,
        wire: &[u8],
    ) {
        let transport = Transport::Tcp;
        self.note(&self.tcp, kind, transport, (client, server), received, wire);
    }

    /// Encodes a message, unless the reader is slow.
    fn note(
        &self,
        desk: &Mutex<Desk>,
        kind: Kind,
        transport: Transport,
        (client, server): (SocketAddr, SocketAddr),
        began: Nanos,
        wire: &[u8],
    ) {
        if !self.wants(kind.key()) {
            return;
        }
        let epoch = self.epoch();
        let (query_time, response_time) = (epoch + began, epoch + self.clock.nanos());
        let message = Tapped { kind, transport, client, server, query_time, response_time, wire };
        self.losses.desk_offered.inc();
        let mut desk = desk.lock();
        if desk.frames.len() + wire.len() > DESK_BYTES {
            return self.losses.desk_full.inc();
        }
        self.encoder.append(&message, &mut desk.frames);
        desk.count += 1;
    }

    /// Whether messages with upstreams are wanted.
    pub fn wants_upstreams(&self) -> bool {
        self.wants(DnstapMessage::ForwarderQuery) || self.wants(DnstapMessage::ForwarderResponse)
    }

    /// Returns the time now if the next exchange with an upstream is sampled.
    pub fn pick_upstream(&self) -> Option<Nanos> {
        self.upstreams.lock().picks.take().then(|| self.clock.nanos())
    }

    /// Notes a sampled message between this server and an upstream, which was asked at `asked`.
    pub fn note_upstream(
        &self,
        kind: Kind,
        transport: Transport,
        ends: (SocketAddr, SocketAddr),
        asked: Nanos,
        wire: &[u8],
    ) {
        self.note(&self.upstreams, kind, transport, ends, asked, wire);
    }

    /// Whether a reader is connected.
    pub fn is_connected(&self) -> bool {
        self.is_connected.load(Relaxed)
    }

    /// Returns the address of the reader, as configured.
    pub fn target(&self) -> String {
        self.config.target.to_string()
    }

    /// Returns the sums of messages.
    pub fn sums(&self) -> Sums {
        // Ends are read before beginnings, so that a sum that grows meanwhile is not negative.
        let (sent, unfit) = (self.counters.sent.get(), self.counters.unfit.get());
        let (unconnected, broken) = (self.losses.unconnected.get(), self.losses.broken.get());
        let lines = self.lines.lock();
        let buffer_full = lines.iter().map(|line| line.lost()).sum::<u64>() + self.losses.desk_full.get();
        let offered = lines.iter().map(|line| line.offered()).sum::<u64>() + self.losses.desk_offered.get();
        Sums { offered, sent, unfit, buffer_full, unconnected, broken }
    }
}

impl Kind {
    /// Returns the word of the configuration for such messages.
    fn key(self) -> DnstapMessage {
        match self {
            Kind::ClientQuery => DnstapMessage::ClientQuery,
            Kind::ClientResponse => DnstapMessage::ClientResponse,
            Kind::ForwarderQuery => DnstapMessage::ForwarderQuery,
            Kind::ForwarderResponse => DnstapMessage::ForwarderResponse,
        }
    }
}

/// Returns the message of a mirrored packet; `None`: there is none. `epoch`: start of the clock in
/// Unix nanoseconds.
fn message_of<'a>(mirrored: &Mirrored<'a>, epoch: u64) -> Option<Tapped<'a>> {
    // A response that is sent here is no query of a client.
    if matches!(mirrored.fate, Fate::Dropped(DropReason::ShortMessage | DropReason::Response)) {
        return None;
    }
    let (source, destination, wire) = mirrored.envelope.datagram(mirrored.packet)?;
    let (kind, client, server) = match mirrored.direction {
        Direction::Query => (Kind::ClientQuery, source, destination),
        Direction::Reply => (Kind::ClientResponse, destination, source),
    };
    let (query_time, response_time) = (epoch + mirrored.received, epoch + mirrored.settled);
    Some(Tapped { kind, transport: Transport::Udp, client, server, query_time, response_time, wire })
}

#[cfg(test)]
mod tests;
