//! `ringbench storm`: clients with an ordinary load, and beside them a flood from forged addresses.
//!
//! One thread sends both over one AF_XDP socket, so that a host with two cores can make the flood and
//! time the clients' answers. Answers to forged addresses come back to the generator, which counts
//! their bytes: a victim would get them.

mod clients;
mod ends;
mod flood;

use crate::{
    output,
    query::Template,
    run::{
        udp::pin,
        xdp::interface::{Device, parse_mac},
    },
    stage, stop,
};
use anyhow::{Context, Result, ensure};
use clients::{Clients, Load};
use ends::{Ends, Side};
use flood::Flood;
use ringdns_dataplane::{
    doorbell::Doorbell,
    port::{
        Burst, Port,
        xsk::{XskConfig, XskPort},
    },
};
use ringdns_xdp::{AddressKind, AttachMode, SteerConfig, Steering};
use serde_json::json;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

/// Time between two bursts: short, since a queue of a veth pair holds 256 frames.
const TICK: Duration = Duration::from_micros(50);
/// Most queries of a kind in one burst. What is due beyond that leaves with the next bursts.
const BURST_MAX: u64 = 48;

/// Loads a server with ordinary clients and a flood from forged addresses, and reports both as JSON.
///
/// Clients ask at --normal queries a second, of which --misses percent are for names that nobody has
/// asked for before. The flood has --times as many queries a second, from --sources addresses in
/// random order: for names of the clients, or with --flood-suffix for random names below it.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address of the server.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub target: SocketAddrV4,
    /// Interface that queries leave by and answers come back to.
    #[arg(long)]
    pub interface: String,
    /// MAC address of the server. Default: from the neighbour table.
    #[arg(long, value_name = "MAC", value_parser = parse_mac)]
    pub server_mac: Option<[u8; 6]>,
    /// Queries a second of all clients together.
    #[arg(long, value_name = "QPS", default_value_t = 4_000.0)]
    pub normal: f64,
    /// Share of the clients' queries that are for names never asked before, in percent.
    #[arg(long, value_name = "PCT", default_value_t = 5.0)]
    pub misses: f64,
    /// Number of clients.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1 << 16))]
    pub clients: u32,
    /// First address of the clients.
    #[arg(long, default_value = "10.54.0.0")]
    pub first_client: Ipv4Addr,
    /// Number of names that the clients ask for again and again.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub names: u32,
    /// Suffix of the clients' names that are never asked before; with several, each in its turn.
    #[arg(long, value_name = "SUFFIX", default_value = "good.example")]
    pub miss_suffix: Vec<String>,
    /// Rate of the flood, in multiples of --normal; 0: no flood.
    #[arg(long, default_value_t = 0.0)]
    pub times: f64,
    /// Number of forged addresses.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    pub sources: u32,
    /// First forged address.
    #[arg(long, default_value = "11.0.0.0")]
    pub first_source: Ipv4Addr,
    /// Suffix of random names of the flood. Default: the flood asks for the clients' names.
    #[arg(long, value_name = "SUFFIX")]
    pub flood_suffix: Option<String>,
    /// Time to send, in seconds.
    #[arg(long, default_value_t = 10.0)]
    pub duration: f64,
    /// Time at the beginning whose queries are sent and not counted, in seconds.
    #[arg(long, default_value_t = 1.0)]
    pub lead: f64,
    /// Core to run on.
    #[arg(long)]
    pub core: Option<usize>,
    /// Seed of the random draws.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Also write the report to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `ringbench storm`.
pub fn run(args: &Args) -> Result<()> {
    ensure!(args.duration > args.lead, "--duration {} is no longer than --lead {}", args.duration, args.lead);
    let stop = stop::on_signal()?;
    if let Some(core) = args.core {
        pin(&[core], 0)?;
    }
    let mut storm = Storm::open(args)?;
    let began = Instant::now();
    let [lead, whole] = [args.lead, args.duration].map(Duration::from_secs_f64);
    // The last queries have the clients' time-out to be answered.
    loop {
        let now = began.elapsed();
        let ends = now >= whole && !storm.clients.waits() || now >= whole + clients::PATIENCE;
        if ends || stop.load(Relaxed) {
            break;
        }
        storm.turn(now, (now < whole).then_some(now), now >= lead)?;
        let _ = storm.port.wait(storm.bell.fd(), TICK);
    }
    let report = json!({
        "seconds": args.duration - args.lead,
        "hits": storm.clients.hits.json(),
        "misses": storm.clients.misses.json(),
        "late_bursts": storm.late,
        "flood": storm.flood.json(args.duration - args.lead),
    });
    println!("{report:#}");
    output::json(args.json.as_deref(), &report)
}

/// Generator: a socket, the clients and the flood.
struct Storm {
    port: XskPort,
    burst: Burst,
    /// Doorbell that is never rung: only answers and time end a wait.
    bell: Doorbell,
    ends: Ends,
    clients: Clients,
    flood: Flood,
    /// Number of bursts that could not hold all that was due.
    late: u64,
    /// Keeps the program that steers answers to the socket.
    _steering: Steering,
}

impl Storm {
    fn open(args: &Args) -> Result<Self> {
        let target = SocketAddr::V4(args.target);
        let device = Device::find(&args.interface, target.ip())?;
        let ends = Ends {
            target,
            macs: [args.server_mac.map_or_else(|| device.neighbour(target.ip()), Ok)?, device.mac],
            clients: (args.first_client, args.clients),
            sources: (args.first_source, args.sources),
        };
        let template = |suffix: &String| stage::template(&["--random-suffix", suffix]);
        let misses: Vec<Template> = args.miss_suffix.iter().map(template).collect::<Result<_>>()?;
        let random = args.flood_suffix.as_ref().map(template).transpose()?;
        let load = Load { rate: args.normal, misses: args.misses / 100.0, count: args.clients };
        let clients = Clients::new(load, args.names, misses, args.seed)?;
        let flood = Flood::new(args.normal * args.times, args.names, random, args.seed)?;
        let config = XskConfig { trust_checksums: false, ..XskConfig::new(&args.interface, 0) };
        let port = XskPort::open(&config)?;
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let local = |(first, count): (Ipv4Addr, u32)| {
            let length = 32 - u32::BITS.saturating_sub((count - 1).leading_zeros()) as u8;
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            (IpAddr::from(Ipv4Addr::from_bits(first.to_bits() & mask)), length, AddressKind::LOCAL)
        };
        let listen = [any(ends::CLIENT_PORT), any(ends::FLOOD_PORT)];
        let prefixes = [local(ends.clients), local(ends.sources), (target.ip(), 32, AddressKind::OTHER)];
        let mut steering = Steering::load(&SteerConfig {
            interface: &args.interface,
            listen: &listen,
            vlans: &[],
            prefixes: &prefixes,
            mode: AttachMode::Auto,
        })?;
        steering.add_socket(0, port.fd())?;
        steering.attach()?;
        let bell = Doorbell::new().context("cannot make an eventfd")?;
        Ok(Storm { port, burst: Burst::new(), bell, ends, clients, flood, late: 0, _steering: steering })
    }

    /// Reads what has come, and sends what is due. `sending`: time up to which queries are due;
    /// `counted`: whether the queries that leave now are part of the report.
    fn turn(&mut self, now: Duration, sending: Option<Duration>, counted: bool) -> Result<()> {
        self.receive(now);
        self.clients.expire(now);
        let Some(until) = sending else { return Ok(()) };
        // Clients first: a flood that takes the whole queue is the server's to suffer from.
        let clients = self.clients.due(until);
        let flood = self.flood.due(until);
        self.late += u64::from(clients.max(flood) > BURST_MAX);
        for _ in 0..clients.min(BURST_MAX) {
            let Storm { port, ends, clients, .. } = self;
            if !send(port, ends, |buffer| clients.ask(counted, buffer)) {
                break;
            }
        }
        for _ in 0..flood.min(BURST_MAX) {
            let Storm { port, ends, flood, .. } = self;
            if !send(port, ends, |buffer| flood.ask(counted, ends.sources.1, buffer)) {
                break;
            }
        }
        self.port.flush();
        Ok(())
    }

    fn receive(&mut self, now: Duration) {
        let checksums = self.port.checksums();
        loop {
            self.port.recv(&mut self.burst);
            if self.burst.is_empty() {
                break;
            }
            for frame in self.burst.drain(..) {
                let frames = self.port.frames();
                let packet = frames.packet(&frame);
                match self.ends.open(packet, checksums) {
                    Some((Side::Client(number), message)) => self.clients.take(number, message, now),
                    Some((Side::Flood, message)) => self.flood.take(packet.len(), message),
                    None => {}
                }
                frames.release(frame);
            }
        }
        self.port.flush();
    }
}

/// Sends one query, whose message and source `write` yields. Returns false if no frame is free.
fn send(port: &mut XskPort, ends: &Ends, write: impl FnOnce(&mut [u8]) -> (usize, Side, u32)) -> bool {
    let Some(mut frame) = port.frames().alloc() else { return false };
    let buffer = port.frames().buffer(&mut frame);
    let (len, side, number) = write(&mut buffer[ends::MESSAGE..]);
    match ends.seal(buffer, side, number, len) {
        Some(len) => {
            frame.set_len(len);
            port.send(frame);
        }
        None => port.frames().release(frame),
    }
    true
}
