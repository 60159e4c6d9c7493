//! Plays scenarios in a lab, with the real process over AF_XDP, in real time.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use ringdns_testkit::scenario::{
    CLIENT, Cast, Failure, Files, Order, PATIENCE, Purge, Scenario, Told, World, play, server_of,
};
use ringdns_testkit::{CLIENT_V6, Lab, Ringdnsd};
use rustix::net::{AddressFamily, SocketType};

/// Lines that a scenario's own configuration is added to.
const BASE: &str = r#"
[server]
listen = ["10.53.0.2:53", "[fd53::2]:53"]
interface = "vs"
mode = "copy"
fallback = false
[cache]
bytes_per_worker = "1MiB"
host_bytes = "4MiB"
[resolver]
cookies = false
randomize_case = false
"#;

/// Time between one of ringdnsd's whole seconds and a scenario's beginning. In the simulator they
/// coincide; here the beginning must not be earlier.
const PHASE: Duration = Duration::from_millis(150);

/// Longest delay after which a whole second of ringdnsd is seen here.
const SEEN_LATE: Duration = Duration::from_millis(100);
/// Longest delay of a step. A scenario that fails with more proves nothing, because the machine was
/// too busy.
const BEHIND: Duration = Duration::from_millis(200);
/// Number of times that such a scenario is repeated.
const AGAIN: usize = 3;

/// Plays a scenario in `lab`, which no other scenario may use meanwhile.
pub fn run(scenario: &Scenario, lab: &Lab) -> Result<Told, Failure> {
    for _ in 0..AGAIN {
        match run_once(scenario, lab) {
            Err((_, behind)) if behind > BEHIND => {
                println!("{} fell {behind:?} behind its time, failed, and is played again", scenario.name);
            }
            played => return played.map_err(|(failure, _)| failure),
        }
    }
    run_once(scenario, lab).map_err(|(failure, _)| failure)
}

/// Plays a scenario once. A failure comes with the scenario's delay.
fn run_once(scenario: &Scenario, lab: &Lab) -> Result<Told, (Failure, Duration)> {
    let address = |nth: usize| IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2 + nth as u8));
    let upstreams = (0..scenario.upstreams()).map(address);
    let cast = Cast::assemble(lab.server(), upstreams).expect("the server's loopback has ports");
    let files = Files::create(scenario, &cast.addresses()).expect("there is room for a folder");
    let overrides = files.path("overrides.toml");
    let base = |socket: &Path| {
        format!("{BASE}[control]\nsocket = {socket:?}\n[lists]\noverrides_file = {overrides:?}\n")
    };
    let ringdnsd =
        Ringdnsd::start_from(lab.server(), |socket| files.configuration(&base(socket), &scenario.config));
    let base = base(&ringdnsd.socket());
    let begin = ringdnsd.next_second() + PHASE;
    std::thread::sleep(begin.saturating_duration_since(Instant::now()));
    let mut world = LabWorld {
        lab,
        ringdnsd,
        begin,
        planned: begin,
        behind: Duration::ZERO,
        sockets: Vec::new(),
        addresses: HashSet::new(),
    };
    let played = play(scenario, cast, &files, &base, &mut world);
    // A failed step may have waited in vain, which is no delay.
    let now = world.behind();
    let behind = world.behind.max(now.checked_sub(PATIENCE).unwrap_or(now));
    played.map_err(|failure| {
        let said = world.ringdnsd.process().output();
        let tail: Vec<&str> = said.lines().rev().take(12).collect();
        let said = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        (Failure::new(format!("{failure}  ringdnsd said:\n{said}\n")), behind)
    })
}

struct LabWorld<'a> {
    lab: &'a Lab,
    ringdnsd: Ringdnsd,
    /// Time of the first step.
    begin: Instant,
    /// Planned time of the current step.
    planned: Instant,
    /// Longest delay of steps by clients or by time.
    behind: Duration,
    sockets: Vec<(SocketAddr, UdpSocket)>,
    /// Addresses given to the client besides its own.
    addresses: HashSet<IpAddr>,
}

impl LabWorld<'_> {
    fn behind(&self) -> Duration {
        self.planned.elapsed()
    }

    fn give(&mut self, address: IpAddr) {
        if address == CLIENT || address == IpAddr::V6(CLIENT_V6) || !self.addresses.insert(address) {
            return;
        }
        self.lab.client().give_address("vc", address);
    }
}

impl World for LabWorld<'_> {
    fn breathe(&mut self) {
        std::thread::sleep(Duration::from_micros(300));
    }

    fn pass(&mut self, time: Duration) {
        self.behind = self.behind.max(self.behind());
        self.planned += time;
        std::thread::sleep(self.planned.saturating_duration_since(Instant::now()));
    }

    fn late(&self) -> u32 {
        let (planned, passed) = (self.planned - self.begin, self.begin.elapsed() + PHASE + SEEN_LATE);
        (passed.as_secs() - planned.as_secs()) as u32
    }

    fn send(&mut self, from: SocketAddr, message: &[u8]) {
        self.behind = self.behind.max(self.behind());
        self.give(from.ip());
        let socket = self.lab.client().enter(|| {
            let socket = UdpSocket::bind(from)?;
            socket.connect(server_of(from.ip()))?;
            socket.set_nonblocking(true)?;
            socket.send(message)?;
            io::Result::Ok(socket)
        });
        match socket {
            Ok(socket) => self.sockets.push((from, socket)),
            Err(error) => panic!("a datagram from {from}: {error}"),
        }
    }

    fn replies(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut buffer = vec![0; 65_536];
        let mut replies = Vec::new();
        for (client, socket) in &self.sockets {
            while let Ok(length) = socket.recv(&mut buffer) {
                replies.push((*client, buffer[..length].to_vec()));
            }
        }
        replies
    }

    fn connect(&mut self, from: IpAddr) -> io::Result<TcpStream> {
        self.give(from);
        self.lab.client().enter(|| {
            let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
            rustix::net::bind(&socket, &SocketAddr::new(from, 0))?;
            rustix::net::connect(&socket, &server_of(from))?;
            Ok(TcpStream::from(socket))
        })
    }

    fn stats(&mut self) -> serde_json::Value {
        self.ringdnsd.stats()
    }

    fn purge(&mut self, purge: &Purge) {
        match purge {
            Purge::Name(name) => self.ringdnsd.told(&["cache", "purge", name]),
            Purge::Suffix(name) => self.ringdnsd.told(&["cache", "purge", "--suffix", name]),
            Purge::All => self.ringdnsd.told(&["cache", "purge", "--all"]),
        };
    }

    fn configure(&mut self, text: &str) {
        self.ringdnsd.configure(|_| text.to_owned());
    }

    fn reload(&mut self) -> Result<BTreeSet<String>, String> {
        let output = self.ringdnsd.ctl(&["--json", "reload"]);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let told: serde_json::Value =
            serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
        let tables = told["applied"].as_array().into_iter().flatten();
        Ok(tables.filter_map(|table| table.as_str().map(str::to_owned)).collect())
    }

    fn order(&mut self, order: &Order) -> Result<(), String> {
        let arguments = order.arguments();
        let output = self.ringdnsd.ctl(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said()) }
    }

    fn quiet(&self) -> Duration {
        Duration::from_millis(40)
    }
}
