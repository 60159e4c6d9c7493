//! Time of a sweep's walk over a large host tier, and its cost for concurrent lookups.
//!
//! ```text
//! cargo run --release --package ringdns-resolver --example walk -- 1000000
//! ```

#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use ringdns_common::names;
use ringdns_dataplane::dns::{answer::Answer, key::Key, rcode};
use ringdns_resolver::{
    host::HostTier,
    sweep::{RenewalGate, Walk},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// One entry in this many is about to expire, and in demand.
const NEAR: usize = 100;

fn main() -> Result<()> {
    let entries: usize = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    let host = Arc::new(HostTier::new(4 << 30, Arc::default()));
    for number in 0..entries {
        let ttl = if number % NEAR == 0 { 100 } else { 3600 };
        let answer = Answer { wire: vec![0; 60].into(), ..Answer::error(rcode::NOERROR, None, 0, ttl) };
        let key = key(number)?;
        host.insert(&key, Arc::new(answer), 0);
        (0..2).for_each(|_| drop(host.get(&key, 60)));
    }
    println!("{} entries, {} MiB", host.len(), host.bytes().0 >> 20);
    lookups("lookups without a walk", &host, entries, || {
        thread::sleep(std::time::Duration::from_millis(500))
    })?;
    lookups("lookups during ten walks", &host, entries, || {
        for _ in 0..10 {
            let began = Instant::now();
            let walk = Walk::over(&host, 80, RenewalGate { window: 30, demand: 2 });
            println!("walk: {:?}, {} seen, {} due", began.elapsed(), walk.seen, walk.due.len());
        }
    })?;
    let began = Instant::now();
    let walk = Walk::over(&host, 5000, RenewalGate { window: 30, demand: 2 });
    println!("walk: {:?}, {} dead", began.elapsed(), walk.dead);
    Ok(())
}

fn key(number: usize) -> Result<Key> {
    let name = names::name(&format!("host-{number}.example.net"))?;
    names::key(&name, 1, false, false).context("a key of a short name")
}

/// Measures lookups while `work` is done; one in ten inserts an entry.
fn lookups(what: &str, host: &Arc<HostTier>, entries: usize, work: impl FnOnce()) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let (inside, stopped) = (host.clone(), stop.clone());
    let looking = thread::spawn(move || -> Result<Histogram<u64>> {
        let mut times = Histogram::new(3)?;
        let answer = Arc::new(Answer::error(rcode::NOERROR, None, 0, 3600));
        let mut number = 1;
        while !stopped.load(Ordering::Relaxed) {
            number = (number * 48_271) % 2_147_483_647;
            let key = key(number % entries)?;
            let began = Instant::now();
            inside.get(&key, 60);
            if number % 10 == 0 && number % NEAR != 0 {
                inside.insert(&key, answer.clone(), 0);
            }
            times.record(began.elapsed().as_nanos() as u64)?;
        }
        Ok(times)
    });
    work();
    stop.store(true, Ordering::Relaxed);
    let times = looking.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    let at = |percentile| times.value_at_percentile(percentile) as f64 / 1000.0;
    println!(
        "{what}: {} of them; p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us, max {:.1} us",
        times.len(),
        at(50.0),
        at(99.0),
        at(99.9),
        at(100.0)
    );
    Ok(())
}
