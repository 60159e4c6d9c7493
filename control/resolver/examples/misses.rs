//! Cost of a cache miss in the control plane, to be counted: bursts of new questions go the way
//! that a worker sends them, through pump and resolver to an upstream on loopback, and back.
//!
//! ```text
//! cargo build --release --package ringdns-resolver --example misses
//! for bursts in 500 1500; do
//!     valgrind --tool=callgrind --separate-threads=yes --callgrind-out-file=misses.out \
//!         target/release/examples/misses 32 $bursts
//!     callgrind_annotate misses.out-01 | grep TOTALS
//! done
//! ```
//!
//! The first thread is the control plane, the second the upstream. The difference of the two
//! counts, divided by the 32,000 misses between them, is the cost of a miss in instructions.
//! Without valgrind, processor time is printed, the kernel's included. With a third argument,
//! `absent`, the upstream says that the names do not exist.

#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use ringdns_common::names;
use ringdns_config::Config;
use ringdns_dataplane::{
    checksum::Checksums,
    clock::Clock,
    dns::{header, query::Query, rcode},
    doorbell::Doorbell,
    packet::{self, Envelope},
    punt::{Link, Punt, Purpose},
};
use ringdns_resolver::{FlightLimits, Resolver, host::HostTier, pump};
use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::Path,
    sync::Arc,
    thread,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let number = |nth: usize, default| {
        let given = arguments.get(nth).map(|argument| argument.parse::<usize>());
        given.unwrap_or(Ok(default)).context("give misses a burst, and bursts")
    };
    let (burst, bursts) = (number(0, 32)?, number(1, 1000)?);
    let is_absent = arguments.get(2).is_some_and(|argument| argument == "absent");

    let upstream = UdpSocket::bind("127.0.0.1:0")?;
    let address = upstream.local_addr()?;
    thread::spawn(move || serve(&upstream, is_absent));
    // All names are in one zone, which would be capped as flooded.
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"{address}\"\n[resolver]\nzone_misses = 0\n"
    );
    let config = Config::parse(&text, Path::new("")).map_err(|error| anyhow::anyhow!("{error}"))?;

    let generations = Arc::<ringdns_dataplane::purge::Generations>::default();
    let host = Arc::new(HostTier::new(config.cache.host_bytes, generations.clone()));
    let resolver = Resolver::new(host, &config, Clock::start(), FlightLimits::default(), None);
    let bell = Arc::new(Doorbell::new()?);
    let link = Arc::new(Link::new(0, burst, burst, bell.clone(), generations)?);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::spawn(pump::run(vec![link.clone()], bell, resolver, mpsc::channel(1).0));
        let worker = link.bell();
        #[expect(deprecated, reason = "its successor is unsafe, for types that may close their fd")]
        let event = AsyncFd::with_interest(worker.fd(), Interest::READABLE)?;
        let mut records: Vec<_> = (0..burst).map(|_| Punt::new()).collect();
        let began = processor_time()?;
        for number in 0..bursts {
            for (place, mut record) in records.drain(..).enumerate() {
                ask(&mut record, &format!("name{number}-{place}.example"))?;
                // The queue has room for all records.
                drop(link.punt(record));
            }
            link.wake_control();
            records.extend(std::iter::from_fn(|| link.returned()));
            while records.len() < burst {
                worker.arm();
                if !link.has_returned() {
                    event.readable().await?.clear_ready();
                }
                worker.disarm();
                records.extend(std::iter::from_fn(|| link.returned()));
            }
        }
        let misses = burst * bursts;
        let nanos = (processor_time()? - began) / misses as u64;
        println!("{misses} misses in bursts of {burst}: {nanos} ns each");
        Ok(())
    })
}

/// Makes a record a client's question.
fn ask(record: &mut Punt, name: &str) -> Result<()> {
    let message = names::query_message(&names::name(name)?, [1, 1], 0, header::RD, None);
    let (client, server) =
        (SocketAddr::from(([10, 53, 0, 1], 4_242)), SocketAddr::from(([10, 53, 0, 2], 53)));
    let mut frame = [0; 512];
    let at = packet::address(&mut frame, client, server, message.len(), Checksums::Unused);
    let at = at.context("the question is too long")?;
    frame[at..at + message.len()].copy_from_slice(&message);
    let opened = Envelope::open(&frame[..at + message.len()], Checksums::Unused);
    let (envelope, _) = opened.map_err(|reason| anyhow::anyhow!("{reason:?}"))?;
    let mut query = Query::default();
    query.parse(&message).map_err(|reject| anyhow::anyhow!("{reject:?}"))?;
    record.fill(&frame, envelope.message(), &query);
    record.purpose = Purpose::Answer(envelope);
    Ok(())
}

/// Answers every query with an address or, if names are absent, with NXDOMAIN and the SOA record of
/// the zone above.
fn serve(socket: &UdpSocket, is_absent: bool) -> Option<()> {
    const ADDRESS: [u8; 16] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 192, 0, 2, 1];
    const SOA: [u8; 45] = *b"\xc0\x0c\0\x06\0\x01\0\0\x0e\x10\0\x21\x02ns\xc0\x0c\x05admin\xc0\x0c\
        \0\0\0\x01\0\0\x0e\x10\0\0\x02\x58\0\x01\x51\x80\0\0\x0e\x10";
    let mut buffer = [0; 512];
    loop {
        let (_, from) = socket.recv_from(&mut buffer).ok()?;
        let name = buffer[header::LEN..].iter().position(|byte| *byte == 0)?;
        let end = header::LEN + name + 5;
        let mut soa = SOA;
        let zone = header::LEN as u8 + 1 + buffer[header::LEN];
        [1, 16, 24].into_iter().for_each(|pointer| soa[pointer] = zone);
        let (rcode, counts, records): (_, _, &[u8]) =
            if is_absent { (rcode::NXDOMAIN, [0, 1], &soa) } else { (rcode::NOERROR, [1, 0], &ADDRESS) };
        let flags = [0x81, 0x80 | rcode, 0, 1, 0, counts[0], 0, counts[1], 0, 0];
        buffer[2..header::LEN].copy_from_slice(&flags);
        buffer[end..end + records.len()].copy_from_slice(records);
        // Sending fails if the client is gone.
        let _ = socket.send_to(&buffer[..end + records.len()], from);
    }
}

/// Returns the processor time of this thread, in nanoseconds. Read from the file because valgrind
/// hides the vDSO that a call would need.
fn processor_time() -> Result<u64> {
    let figures = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(figures.split_whitespace().next().context("/proc/thread-self/schedstat is empty")?.parse()?)
}
