//! A client that asks random names of a silent zone, over UDP, over TCP and over both: the misses
//! of other clients are answered all the same.
//!
//! The short form is for everyday use: its rate and its limit leave room for a busy machine. Without
//! shares, a quarter of the misses were answered at that rate. `RINGDNS_FAIR=1000,2000,5000,10000`
//! measures at these rates, in queries per second, and prints a table; `ringbench hostile` measures
//! beside other resolvers.

use ringdns_testkit::{Asked, Host, Query, Ringdnsd, Settings, free_address, sums};
use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Environment variable with the rates to measure at.
const RATES: &str = "RINGDNS_FAIR";
/// Rate of the short form, and the least share of misses that are to be answered, in percent.
const SHORT: (&str, f64) = ("5000", 99.0);
/// Time for which the flood alone is sent: longer than a question of the silent zone is in flight.
const BEFORE: Duration = Duration::from_millis(3500);
/// Number of queries of the other client, and the time between two.
const MISSES: u16 = 600;
const PAUSE: Duration = Duration::from_millis(5);
/// Time that the other client waits for its last answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections of each client that floods over TCP.
const CONNECTIONS: usize = 64;
/// Time between two bursts of a flood.
const TICK: Duration = Duration::from_millis(2);

/// Way in which a flood comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Udp,
    Tcp,
    Both,
}

/// Addresses of the clients: one floods over UDP, two over TCP, one is another client.
struct Cast {
    host: Host,
    server: SocketAddr,
    floods: [IpAddr; 3],
    other: IpAddr,
}

impl Cast {
    fn udp(&self, from: IpAddr) -> UdpSocket {
        let socket = self.host.enter(|| {
            let socket = UdpSocket::bind((from, 0))?;
            socket.connect(self.server)?;
            socket.set_nonblocking(true)?;
            io::Result::Ok(socket)
        });
        socket.expect("a socket of a client")
    }

    fn tcp(&self, from: IpAddr) -> TcpStream {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let stream = self.host.enter(|| {
            let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
            bind(&socket, &SocketAddr::from((from, 0)))?;
            connect(&socket, &self.server)?;
            let stream = TcpStream::from(socket);
            stream.set_nonblocking(true)?;
            io::Result::Ok(stream)
        });
        stream.expect("a connection of a client")
    }
}

/// Upstream that answers nothing of the zone `silent.example`, and everything else at once.
fn serve(socket: &UdpSocket, done: &AtomicBool) {
    const SILENT: &[u8] = b"\x06silent\x07example\0";
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time");
    let mut buffer = [0; 1024];
    while !done.load(Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let message = &buffer[..length];
        if !message.windows(SILENT.len()).any(|window| window == SILENT) {
            // Sending fails if the resolver has closed its socket.
            let _ = socket.send_to(&Asked(message.to_vec()).answer(60), from);
        }
    }
}

/// Returns a query for a name of the silent zone that nobody asked before.
fn random(number: &AtomicU64) -> Vec<u8> {
    let number = number.fetch_add(1, Relaxed);
    let name = format!("r{:x}.silent.example", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    Query::a(&name).id(number as u16).wire()
}

/// Sends `rate` queries per second until `done`, some in each tick, through `send`. Returns how many
/// were sent.
fn pace(rate: u32, done: &AtomicBool, mut send: impl FnMut() -> bool) -> u64 {
    let (began, mut due, mut sent) = (Instant::now(), 0, 0);
    while !done.load(Relaxed) {
        let now = (began.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        // What a busy machine could not send in time is left out.
        for _ in 0..(now - due).min(u64::from(rate / 20)) {
            sent += u64::from(send());
        }
        due = now;
        std::thread::sleep(TICK);
    }
    sent
}

fn flood_udp(cast: &Cast, rate: u32, done: &AtomicBool, number: &AtomicU64) -> u64 {
    let (socket, mut buffer) = (cast.udp(cast.floods[0]), [0; 512]);
    pace(rate, done, || {
        while socket.recv(&mut buffer).is_ok() {}
        socket.send(&random(number)).is_ok()
    })
}

fn flood_tcp(cast: &Cast, rate: u32, done: &AtomicBool, number: &AtomicU64) -> u64 {
    let open = |client: &IpAddr| (0..CONNECTIONS).map(|_| cast.tcp(*client)).collect::<Vec<_>>();
    let mut connections: Vec<_> = cast.floods[1..].iter().flat_map(open).collect();
    let (mut turn, mut buffer) = (0, [0; 4096]);
    pace(rate, done, || {
        turn = (turn + 1) % connections.len();
        let connection = &mut connections[turn];
        while connection.read(&mut buffer).is_ok_and(|length| length > 0) {}
        let query = random(number);
        let framed = [&(query.len() as u16).to_be_bytes()[..], &query].concat();
        // A connection with too many queries in flight takes no more.
        connection.write(&framed).is_ok()
    })
}

/// Asks for names that nobody asked before, and returns the share that was answered, in percent.
fn answered(cast: &Cast) -> f64 {
    let socket = cast.udp(cast.other);
    let (mut answered, mut buffer) = ([false; MISSES as usize], [0; 512]);
    let mut receive = || {
        while let Ok(length) = socket.recv(&mut buffer) {
            let reply = &buffer[..length];
            let id = usize::from(u16::from_be_bytes([reply[0], reply[1]]));
            // NOERROR with a record.
            answered[id] |= reply[3] & 15 == 0 && reply[7] > 0;
        }
        answered.iter().filter(|answered| **answered).count()
    };
    for id in 0..MISSES {
        let query = Query::a(&format!("n{id}.good{}.example", id % 7)).id(id);
        socket.send(&query.wire()).expect("a query is sent");
        std::thread::sleep(PAUSE);
        receive();
    }
    let deadline = Instant::now() + PATIENCE;
    while receive() < usize::from(MISSES) && Instant::now() < deadline {
        std::thread::sleep(TICK);
    }
    100.0 * receive() as f64 / f64::from(MISSES)
}

/// Returns the share of another client's misses that are answered during a flood.
fn share(cast: &Cast, way: Way, rate: u32) -> f64 {
    let (done, number) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let end = OnDrop(&done);
        let udp = (way != Way::Tcp).then(|| scope.spawn(|| flood_udp(cast, rate, &done, &number)));
        let tcp = (way != Way::Udp).then(|| scope.spawn(|| flood_tcp(cast, rate, &done, &number)));
        std::thread::sleep(BEFORE);
        let share = answered(cast);
        drop(end);
        let sent = [udp, tcp].map(|flood| flood.map_or(0, |flood| flood.join().expect("a flood")));
        println!("{way:?} at {rate}/s: {share:.1} % answered; flood of {sent:?} over UDP and TCP");
        share
    })
}

/// Measures at each rate. Returns the least share.
fn measure(server: &Host, settings: impl Fn(SocketAddr) -> Settings, cast: &Cast, ways: &[Way]) -> f64 {
    let rates = std::env::var(RATES).unwrap_or_else(|_| SHORT.0.to_owned());
    let rates = rates.split(',').map(|rate| rate.parse().expect("rates"));
    let upstream = server.enter(|| UdpSocket::bind("127.0.0.1:0")).expect("a socket of an upstream");
    let address = upstream.local_addr().expect("bound");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also if a check fails: the scope waits for its threads.
        let _end = OnDrop(&done);
        scope.spawn(|| serve(&upstream, &done));
        let mut least = f64::INFINITY;
        for rate in rates {
            for way in ways {
                let ringdnsd = Ringdnsd::start(server, &settings(address));
                least = least.min(share(cast, *way, rate));
                sums::queries_close(&ringdnsd.settled()["total"]);
                println!("{}", ringdnsd.stats()["resolver"]);
            }
        }
        least
    })
}

/// Flag that is set when this is dropped.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn other_clients_misses_are_answered_while_one_floods_over_sockets() {
    let host = Host::local();
    let server = free_address(&host);
    let loopback = |last| IpAddr::from([127, 0, 2, last]);
    let cast =
        Cast { host: Host::local(), server, floods: [1, 2, 3].map(loopback), other: [127, 0, 1, 1].into() };
    // Shares alone: a cap on the flooded zone would do their work at some rates.
    let settings = |upstream| {
        let settings = Settings::loopback(server, upstream);
        Settings { tables: settings.tables + "\n[resolver]\nzone_misses = 0\n", ..settings }
    };
    let least = measure(&host, settings, &cast, &[Way::Udp, Way::Tcp, Way::Both]);
    assert!(least >= SHORT.1, "{least} %");
}
