//! Hits over kernel UDP sockets: batches of queries over loopback, through the port and a whole worker.
//! The kernel's own work is not counted, but its calls are.

use super::{CACHE, Material, Meter, NOW_NANOS};
use crate::stage::{self, Ip, RULES};
use anyhow::{Context, Result, ensure};
use ringdns_dataplane::{
    clock::Clock,
    doorbell::Doorbell,
    port::{BURST, Port, udp::UdpPort},
    punt::Link,
    stats::Counter,
    worker::{Worker, WorkerConfig},
};
use rustix::net::sockopt;
use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

/// Queries of a batch: as many as the port receives by one call.
const BATCH: usize = 4 * BURST;
/// Batches before the count: a port that was idle asks for few queries at first.
const WARM_BATCHES: usize = 8;
/// Batches that are counted.
const BATCHES: usize = 4;
/// Frames of the port, as many as that of the server has.
const FRAMES: u32 = 1024;
/// Receive buffer of a client, in bytes.
const RECEIVE_BUFFER: usize = 1 << 20;
/// First byte of the message in a packet over IPv4.
const MESSAGE: usize = 14 + 20 + 8;

/// Runs batches of hits from `clients` clients to a port that listens on `listen`.
pub fn hits(meter: &mut dyn Meter, listen: &str, clients: usize) -> Result<u64> {
    let material = Material::new(&[], Ip::V4, &[])?;
    let port = UdpPort::open(&[listen.parse().context("not an address")?], FRAMES)?;
    let server = port.local_addresses().next().context("the port has no address")?;
    let (mut worker, link) = worker(port)?;
    material.fill(worker.processor().cache())?;
    let loopback = SocketAddr::new("127.0.0.1".parse()?, server.port());
    let clients = (0..clients).map(|_| client(loopback)).collect::<Result<Vec<_>>>()?;
    for batch in 0..WARM_BATCHES + BATCHES {
        let packets = material.packets.iter().cycle().skip(batch * BATCH).take(BATCH);
        for (packet, client) in packets.zip(clients.iter().cycle()) {
            client.send(&packet[MESSAGE..]).context("cannot send a query over loopback")?;
        }
        let calls = worker.port().stats().syscalls;
        if batch < WARM_BATCHES {
            // The first batches take more calls. A turn without queries would make the port ask for few again.
            let expected = ((batch + 1) * BATCH) as u64;
            for _ in 0..BATCH {
                if link.stats.snapshot().get(Counter::Hit) < expected {
                    worker.turn(NOW_NANOS);
                }
            }
        } else {
            meter.measure(&mut || {
                for _ in 0..BATCH / BURST {
                    worker.turn(NOW_NANOS);
                }
            });
            let calls = worker.port().stats().syscalls - calls;
            ensure!(
                calls == 2,
                "{calls} system calls for {BATCH} queries: it takes one to receive, and one to send"
            );
        }
        for client in clients.iter().cycle().take(BATCH) {
            client.recv(&mut [0; 512]).context("a query over loopback was not answered")?;
        }
    }
    let hits = link.stats.snapshot().get(Counter::Hit);
    ensure!(hits == ((WARM_BATCHES + BATCHES) * BATCH) as u64, "the worker counted {hits} hits");
    Ok((BATCHES * BATCH) as u64)
}

fn client(server: SocketAddr) -> Result<UdpSocket> {
    let client = UdpSocket::bind("127.0.0.1:0").context("cannot open a socket")?;
    client.connect(server)?;
    client.set_read_timeout(Some(Duration::from_secs(5)))?;
    sockopt::set_socket_recv_buffer_size(&client, RECEIVE_BUFFER)?;
    Ok(client)
}

fn worker(port: UdpPort) -> Result<(Worker<UdpPort>, Arc<Link>)> {
    let link = Arc::new(Link::new(0, BURST, BURST, Arc::new(Doorbell::new()?), Arc::default())?);
    let settings = WorkerConfig {
        cache_bytes: CACHE,
        rules: RULES,
        policy: stage::policy(&["127.0.0.0/8"])?,
        records: BURST,
        spin: Duration::ZERO,
        log: None,
        demand: None,
        mirror: None,
        populator: None,
    };
    Ok((Worker::new(port, link.clone(), Clock::start(), &settings)?, link))
}
