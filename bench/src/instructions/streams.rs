//! Hits over TCP: a connection over loopback to the listener of the control plane, on a runtime of one
//! thread. The kernel's own work is not counted.

use super::{Material, Meter, NAMES};
use crate::stage::{self, Ip, RULES};
use anyhow::{Context, Result, ensure};
use ringdns_config::Config;
use ringdns_daemon::listen::Listener;
use ringdns_dataplane::clock::Clock;
use ringdns_resolver::{FlightLimits, Resolver, host::HostTier};
use std::{
    io::{ErrorKind, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
};
use tokio::runtime::{Builder, Runtime};

/// Rounds before the count, for lazily made memory.
const WARM_ROUNDS: usize = 17;
/// Rounds that are counted: fewer than those after which the connection yields, for which the runtime
/// allocates.
const ROUNDS: usize = 6;
/// Size of the host tier, in bytes.
const HOST_BYTES: u64 = 4 << 20;
/// First byte of the message in a packet over IPv4.
const MESSAGE: usize = 14 + 20 + 8;

/// Runs rounds of `pipelined` hits, which arrive together over one connection.
pub fn hits(meter: &mut dyn Meter, pipelined: usize) -> Result<u64> {
    let material = Material::new(&[], Ip::V4, &[])?;
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot make a runtime")?;
    let (listener, server) = listen(&runtime, &material)?;
    let mut client = Client::connect(&runtime, server)?;
    for round in 0..WARM_ROUNDS + ROUNDS {
        let mut queries = Vec::new();
        for nth in 0..pipelined {
            let message = &material.packets[(round * pipelined + nth) % NAMES][MESSAGE..];
            queries.extend((message.len() as u16).to_be_bytes());
            queries.extend(message);
        }
        client.socket.write_all(&queries).context("cannot send queries over loopback")?;
        let mut answered = 0;
        while answered < pipelined {
            let mut wait = || runtime.block_on(client.readable());
            match round {
                0..WARM_ROUNDS => wait(),
                _ => meter.measure(&mut wait),
            }
            answered += client.answers()?;
        }
    }
    let (answered, expected) =
        (listener.counters.answered.get(), ((WARM_ROUNDS + ROUNDS) * pipelined) as u64);
    ensure!(answered == expected, "the listener counted {answered} answers, not {expected}");
    Ok((ROUNDS * pipelined) as u64)
}

/// Returns a listener that has all answers, and its address.
fn listen(runtime: &Runtime, material: &Material) -> Result<(Arc<Listener>, SocketAddr)> {
    // No upstream is asked.
    let text = "[server]\nlisten = [\"127.0.0.1:0\"]\n[[upstream]]\naddress = \"127.0.0.1:9\"";
    let config = Config::parse(text, Path::new(""))?;
    let host = Arc::new(HostTier::new(HOST_BYTES, Arc::default()));
    for filed in material.all_filed()? {
        ensure!(
            host.insert(&filed.query.key, Arc::new(filed.answer), host.generation()),
            "the host tier keeps no answer"
        );
    }
    let resolver = Resolver::new(host, &config, Clock::start(), FlightLimits::default(), None);
    let policy = stage::policy(&["127.0.0.0/8"])?;
    let listener = Listener::new(resolver, policy, RULES, config.tcp, None);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let _context = runtime.enter();
    runtime.spawn(listener.clone().serve(tokio::net::TcpListener::from_std(socket)?));
    Ok((listener, address))
}

/// End of a connection whose work is not counted, but for the wake-up when answers arrive.
struct Client {
    socket: TcpStream,
    watched: tokio::net::TcpStream,
    received: Vec<u8>,
}

impl Client {
    fn connect(runtime: &Runtime, server: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(server).context("cannot connect over loopback")?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let _context = runtime.enter();
        let watched = tokio::net::TcpStream::from_std(socket.try_clone()?)?;
        Ok(Client { socket, watched, received: Vec::new() })
    }

    /// Waits for answers. Meanwhile the runtime serves the connection's other end.
    async fn readable(&self) {
        // An error shows when the socket is read.
        let _ = self.watched.readable().await;
    }

    /// Reads what has arrived. Returns the number of answers that have become complete.
    fn answers(&mut self) -> Result<usize> {
        let mut part = [0; 4096];
        loop {
            // By the runtime's handle, which learns that there is no more.
            match self.watched.try_read(&mut part) {
                Ok(0) => anyhow::bail!("the listener closed the connection"),
                Ok(len) => self.received.extend(&part[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("cannot read answers over loopback"),
            }
        }
        let mut answers = 0;
        while let Some((length, rest)) = self.received.split_first_chunk::<2>()
            && let Some(message) = rest.get(..usize::from(u16::from_be_bytes(*length)))
        {
            ensure!(message[3] & 0x0f == 0 && message[7] == 1, "not an answer: {message:?}");
            let end = 2 + message.len();
            self.received.drain(..end);
            answers += 1;
        }
        Ok(answers)
    }
}
