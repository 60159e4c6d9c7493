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
//! Without valgrind, processor time is printed, the kernel's included.

#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use ringdns_common::names;
use ringdns_config::Config;
use ringdns_dataplane::{
    clock::Clock,
    dns::{header, query::Query},
    doorbell::Doorbell,
    punt::{Link, Punt, Purpose},
};
use ringdns_resolver::{FlightLimits, Resolver, host::HostTier, pump};
use std::{fs, net::UdpSocket, path::Path, sync::Arc, thread};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let mut number =
        |default| arguments.next().unwrap_or(Ok(default)).context("give misses a burst, and bursts");
    let (burst, bursts) = (number(32)?, number(1000)?);

    let upstream = UdpSocket::bind("127.0.0.1:0")?;
    let address = upstream.local_addr()?;
    thread::spawn(move || serve(&upstream));
    let text = format!("[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"{address}\"\n");
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

/// Makes a record a request to renew the entry of a question.
fn ask(record: &mut Punt, name: &str) -> Result<()> {
    let message = names::query_message(&names::name(name)?, [1, 1], 0, header::RD, None);
    let mut query = Query::default();
    query.parse(&message).map_err(|reject| anyhow::anyhow!("{reject:?}"))?;
    record.fill(&message, 0, &query);
    record.purpose = Purpose::Refresh;
    Ok(())
}

/// Answers every query with an address.
fn serve(socket: &UdpSocket) -> Option<()> {
    const ANSWER: [u8; 16] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 192, 0, 2, 1];
    let mut buffer = [0; 512];
    loop {
        let (_, from) = socket.recv_from(&mut buffer).ok()?;
        let name = buffer[header::LEN..].iter().position(|byte| *byte == 0)?;
        let end = header::LEN + name + 5;
        buffer[2..header::LEN].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        buffer[end..end + ANSWER.len()].copy_from_slice(&ANSWER);
        // Sending fails if the client is gone.
        let _ = socket.send_to(&buffer[..end + ANSWER.len()], from);
    }
}

/// Returns the processor time of this thread, in nanoseconds. Read from the file because valgrind
/// hides the vDSO that a call would need.
fn processor_time() -> Result<u64> {
    let figures = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(figures.split_whitespace().next().context("/proc/thread-self/schedstat is empty")?.parse()?)
}
