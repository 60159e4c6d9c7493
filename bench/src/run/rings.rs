//! AF_XDP from user space: each sender has a queue of the interface, writes whole frames, and reads
//! answers off a ring. A core sends several times as many queries as through sockets and, unlike in
//! the kernel, every answer is checked.

use super::{
    Plan, lane,
    wire::{Route, Transport, Wire},
    xdp::{
        XdpArgs,
        interface::{Counters, Device},
    },
};
use crate::report::series::Series;
use crate::{query::QUERY_MAX, report::Traffic, run::replay, tally::Tally};
use anyhow::{Context, Result, ensure};
use ringdns_dataplane::{
    checksum::Checksums,
    doorbell::Doorbell,
    packet::{self, Envelope, HEADERS_MAX},
    port::{
        Burst, Port,
        xsk::{XskConfig, XskPort},
    },
    prefix::Prefix,
};
use ringdns_xdp::{AddressKind, AttachMode, SteerConfig, Steering};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Client addresses of the queries: a prefix in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clients {
    first: IpAddr,
    count: u32,
}

/// Most client addresses: a few ports each, with their IDs, tell them apart.
const MOST_CLIENTS: u32 = 1 << 16;

impl FromStr for Clients {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || format!("\"{text}\" is not a prefix of addresses: write 10.53.1.0/24");
        text.parse::<Prefix>().with_context(wrong)?;
        let (first, length) = text.split_once('/').with_context(wrong)?;
        let (first, length): (IpAddr, u32) = (first.parse()?, length.parse()?);
        let bits = if first.is_ipv4() { 32 } else { 128 };
        let count = 1u64.checked_shl(bits - length).unwrap_or(u64::MAX).min(u64::from(MOST_CLIENTS)) as u32;
        Ok(Clients { first, count })
    }
}

impl Clients {
    /// Returns a prefix of one address.
    fn one(address: IpAddr) -> Self {
        Clients { first: address, count: 1 }
    }

    /// Returns the length of the prefix.
    fn length(&self) -> u8 {
        let bits = if self.first.is_ipv4() { 32 } else { 128 };
        bits - self.count.ilog2() as u8
    }

    /// Returns the address of the `number`th client.
    #[inline]
    fn address(&self, number: u32) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from(u32::from(first) + number)),
            IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from(u128::from(first) + u128::from(number))),
        }
    }

    /// Returns the number of the client with this address.
    #[inline]
    fn number(&self, address: IpAddr) -> Option<u32> {
        let number = match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => u32::from(address).checked_sub(first.into())?,
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                u32::try_from(u128::from(address).checked_sub(first.into())?).ok()?
            }
            _ => return None,
        };
        (number < self.count).then_some(number)
    }
}

/// Runs the plan over rings, and returns the counts and the interface's counters.
pub fn run(plan: &Plan, args: &XdpArgs, target: SocketAddr, series: &Series) -> Result<(Tally, Traffic)> {
    let rings = Rings::new(plan, args, target)?;
    let (before, began) = (rings.device.counters()?, Instant::now());
    let tally = lane::run(plan, &rings, series)?;
    let after = rings.device.counters()?;
    let seconds = plan.duration.min(began.elapsed()).as_secs_f64();
    let traffic = rings.traffic(&tally, &before, &after, seconds);
    Ok((tally, traffic))
}

/// Sockets of one interface, and the program that steers answers to them.
pub struct Rings {
    device: Device,
    target: SocketAddr,
    server_mac: [u8; 6],
    clients: Clients,
    first_port: u16,
    /// Number of source ports of each sender.
    ports: u16,
    senders: usize,
    steering: Mutex<Gathering>,
}

/// Sockets that have joined; the last one lets packets in.
struct Gathering {
    steering: Steering,
    joined: usize,
}

impl Rings {
    /// Loads the program, which lets packets in when each of the plan's threads has opened its
    /// socket.
    pub fn new(plan: &Plan, args: &XdpArgs, target: SocketAddr) -> Result<Self> {
        let name = args.interface.as_deref().context("--backend rings needs an --interface")?;
        let device = Device::find(name, target.ip())?;
        let clients = args.clients.unwrap_or(Clients::one(device.address));
        ensure!(
            clients.first.is_ipv4() == target.is_ipv4(),
            "--clients and --target have different IP versions"
        );
        let senders = usize::from(plan.udp.threads);
        let ports = (1usize.checked_shl(args.ports_log2).unwrap_or(usize::MAX) / senders).min(256 / senders);
        let last = usize::from(args.first_port) + ports * senders;
        ensure!(
            ports > 0 && args.first_port > 0 && last <= 1 << 16,
            "{senders} threads need a source port each, of 256 at most, from {} on: see --first-port and --ports-log2",
            args.first_port
        );
        let any: IpAddr =
            if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let listen: Vec<SocketAddr> =
            (0..ports * senders).map(|nth| SocketAddr::new(any, args.first_port + nth as u16)).collect();
        // Answers are for the clients, which this host need not have.
        let whole = if target.is_ipv4() { 32 } else { 128 };
        let steering = Steering::load(&SteerConfig {
            interface: name,
            listen: &listen,
            vlans: &[],
            prefixes: &[
                (clients.first, clients.length(), AddressKind::LOCAL),
                (target.ip(), whole, AddressKind::OTHER),
            ],
            mode: AttachMode::Auto,
        })?;
        Ok(Rings {
            server_mac: args.server_mac.map_or_else(|| device.neighbour(target.ip()), Ok)?,
            device,
            target,
            clients,
            first_port: args.first_port,
            ports: ports as u16,
            senders,
            steering: Mutex::new(Gathering { steering, joined: 0 }),
        })
    }

    fn traffic(&self, tally: &Tally, before: &Counters, after: &Counters, seconds: f64) -> Traffic {
        let received = after.rx_packets - before.rx_packets;
        Traffic {
            seconds,
            queries_per_second: tally.sent() as f64 / seconds,
            answers_per_second: tally.answered() as f64 / seconds,
            tx_packets_per_second: (after.tx_packets - before.tx_packets) as f64 / seconds,
            rx_packets_per_second: received as f64 / seconds,
            skipped: 0,
            answer_bytes: (after.rx_bytes - before.rx_bytes) as f64 / received.max(1) as f64,
        }
    }
}

impl Transport for Rings {
    type Wire = Ring;

    fn open(&self, lane: usize) -> Result<Ring> {
        // Each sender's port is a queue of its own.
        let config = XskConfig { trust_checksums: false, ..XskConfig::new(&self.device.name, lane as u32) };
        let port = XskPort::open(&config)?;
        let mut gathering = self.steering.lock().unwrap_or_else(PoisonError::into_inner);
        gathering.steering.add_socket(lane as u32, port.fd())?;
        gathering.joined += 1;
        if gathering.joined == self.senders {
            gathering.steering.attach()?;
        }
        Ok(Ring {
            port,
            burst: Burst::new(),
            bell: Doorbell::new().context("cannot make an eventfd")?,
            lane,
            ends: Ends {
                target: self.target,
                macs: [self.server_mac, self.device.mac],
                clients: self.clients,
                first_port: self.first_port,
                ports: self.ports,
            },
        })
    }

    fn flows(&self) -> u32 {
        self.clients.count * u32::from(self.ports)
    }
}

/// Socket of one sender.
pub struct Ring {
    port: XskPort,
    burst: Burst,
    /// Doorbell that is never rung: only answers end a sleep.
    bell: Doorbell,
    lane: usize,
    ends: Ends,
}

/// Both ends of the traffic.
#[derive(Clone, Copy, Debug)]
struct Ends {
    target: SocketAddr,
    /// MAC addresses of the server and of this host.
    macs: [[u8; 6]; 2],
    clients: Clients,
    first_port: u16,
    /// Number of source ports of a sender.
    ports: u16,
}

impl Ends {
    /// Returns the source address of a sender's flow. Clients vary before ports do.
    #[inline]
    fn source(&self, lane: usize, flow: u32) -> SocketAddr {
        let (client, port) = (flow % self.clients.count, flow / self.clients.count);
        SocketAddr::new(
            self.clients.address(client),
            self.first_port + lane as u16 * self.ports + port as u16,
        )
    }

    /// Returns the flow that an address belongs to.
    #[inline]
    fn route(&self, to: SocketAddr) -> Option<Route> {
        let port = to.port().checked_sub(self.first_port)?;
        let client = self.clients.number(to.ip())?;
        let flow = u32::from(port % self.ports) * self.clients.count + client;
        Some(Route { lane: usize::from(port / self.ports), flow })
    }

    /// Writes a query's frame around the message at `at`, and returns its length.
    #[inline]
    fn seal(&self, frame: &mut [u8], source: SocketAddr, len: usize) -> Option<usize> {
        let at = packet::address(frame, source, self.target, len, Checksums::Verify)?;
        frame[..6].copy_from_slice(&self.macs[0]);
        frame[6..12].copy_from_slice(&self.macs[1]);
        Some(at + len)
    }

    /// Returns the offset of the message.
    fn message(&self) -> usize {
        if self.target.is_ipv4() { 42 } else { 62 }
    }

    /// Returns the message of a frame from the server to one of the clients.
    #[inline]
    fn open<'f>(&self, frame: &'f [u8], checksums: Checksums) -> Option<(Route, &'f [u8])> {
        let (envelope, len) = Envelope::open(frame, checksums).ok()?;
        if envelope.client(frame)? != self.target {
            return None;
        }
        let at = envelope.message();
        let port = u16::from_be_bytes([frame[at - 6], frame[at - 5]]);
        // The destination address ends where UDP begins.
        let to = match self.target {
            SocketAddr::V4(_) => IpAddr::from(*frame[..at - 8].last_chunk::<4>()?),
            SocketAddr::V6(_) => IpAddr::from(*frame[..at - 8].last_chunk::<16>()?),
        };
        let route = self.route(SocketAddr::new(to, port))?;
        Some((route, frame.get(at..at + len)?))
    }
}

const _: () = assert!(QUERY_MAX <= replay::LONGEST && HEADERS_MAX + replay::LONGEST <= 1024);

impl Wire for Ring {
    #[inline]
    fn send(
        &mut self,
        flow: u32,
        count: usize,
        mut write: impl FnMut(usize, &mut [u8]) -> usize,
    ) -> io::Result<usize> {
        let source = self.ends.source(self.lane, flow);
        let at = self.ends.message();
        let mut sent = 0;
        while sent < count {
            let Some(mut frame) = self.port.frames().alloc() else { break };
            let buffer = self.port.frames().buffer(&mut frame);
            let len = write(sent, &mut buffer[at..]);
            // Both ends have one IP version, and a query fits a frame.
            let Some(len) = self.ends.seal(buffer, source, len) else {
                self.port.frames().release(frame);
                break;
            };
            frame.set_len(len);
            self.port.send(frame);
            sent += 1;
        }
        self.port.flush();
        Ok(sent)
    }

    #[inline]
    fn receive(&mut self, mut take: impl FnMut(Route, &[u8])) -> io::Result<usize> {
        self.port.recv(&mut self.burst);
        let received = self.burst.len();
        if received == 0 {
            return Ok(0);
        }
        let checksums = self.port.checksums();
        for frame in self.burst.drain(..) {
            let frames = self.port.frames();
            if let Some((route, message)) = self.ends.open(frames.packet(&frame), checksums) {
                take(route, message);
            }
            frames.release(frame);
        }
        self.port.flush();
        Ok(received)
    }

    fn wait(&mut self, time: Duration) {
        self.port.flush();
        // Whatever ended the sleep, the sender checks everything again.
        let _ = self.port.wait(self.bell.fd(), time);
    }

    fn count(&mut self, tally: &mut Tally) {
        let stats = self.port.stats();
        tally.ring_drops += stats.rx_dropped + stats.rx_ring_full + stats.send_failed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(target: &str, clients: &str) -> Ends {
        Ends {
            target: target.parse().unwrap(),
            macs: [[2; 6], [4; 6]],
            clients: clients.parse().unwrap(),
            first_port: 10_000,
            ports: 3,
        }
    }

    #[test]
    fn a_prefix_is_its_addresses() {
        let clients: Clients = "10.53.1.0/24".parse().unwrap();
        assert_eq!(clients.count, 256);
        assert_eq!(clients.address(255), "10.53.1.255".parse::<IpAddr>().unwrap());
        assert_eq!(clients.number("10.53.1.7".parse().unwrap()), Some(7));
        assert_eq!(clients.number("10.53.2.0".parse().unwrap()), None);
        assert_eq!("fd53::/64".parse::<Clients>().unwrap().count, MOST_CLIENTS);
        for wrong in ["10.53.1.1/24", "10.53.1.0", "10.0.0.0/33", "x/8"] {
            assert!(wrong.parse::<Clients>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn frames_are_queries_and_their_answers_find_the_way_back() {
        let message = *b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\0\0\x01\0\x01";
        for (target, prefix) in [("10.53.0.2:53", "10.53.1.0/24"), ("[fd53::2]:53", "fd53:1::/120")] {
            let ends = ends(target, prefix);
            for (lane, flow) in [(0, 0), (1, 5), (2, 767)] {
                let source = ends.source(lane, flow);
                assert_eq!(ends.route(source), Some(Route { lane, flow }));
                let mut frame = [0; 256];
                let at = ends.message();
                frame[at..at + message.len()].copy_from_slice(&message);
                let len = ends.seal(&mut frame, source, message.len()).unwrap();
                let headers = etherparse::PacketHeaders::from_ethernet_slice(&frame[..len]).unwrap();
                let link = headers.link.and_then(|link| link.ethernet2()).unwrap();
                assert_eq!((link.destination, link.source), ([2; 6], [4; 6]));
                // The server swaps source and destination.
                let (envelope, message_len) = Envelope::open(&frame[..len], Checksums::Verify).unwrap();
                assert_eq!(envelope.client(&frame), Some(source));
                let len = envelope.seal(&mut frame, message_len, None);
                let opened = ends.open(&frame[..len], Checksums::Verify);
                assert_eq!(opened, Some((Route { lane, flow }, &message[..])));
            }
        }
    }

    #[test]
    fn frames_of_others_are_nobodys() {
        let ends = ends("10.53.0.2:53", "10.53.1.0/24");
        let mut frame = [0; 256];
        let len = ends.seal(&mut frame, ends.source(0, 0), 20).unwrap();
        assert_eq!(ends.open(&frame[..len], Checksums::Verify), None, "a query is from no server");
        assert_eq!(ends.route("10.53.1.1:9999".parse().unwrap()), None);
        assert_eq!(ends.route("10.53.2.1:10000".parse().unwrap()), None);
    }
}
