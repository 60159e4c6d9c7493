//! Memory that names take in a worker cache and in the host tier, one address record each.
//!
//! ```text
//! cargo run --profile release-lto --package ringdns-resolver --example names -- 100000 1000000
//! ```

#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use ringdns_common::names;
use ringdns_dataplane::{
    cache::{Cache, KeyedHash},
    dns::{
        answer::{Answer, TtlRules},
        key::Key,
    },
};
use ringdns_resolver::host::HostTier;
use std::{fs, sync::Arc, time::Instant};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Sizes of the caches, as in `bench/servers/ringdnsd.toml`.
const WORKER_BYTES: usize = 512 << 20;
const HOST_BYTES: u64 = 1 << 30;
const RULES: TtlRules = TtlRules { min: 0, max: 86_400, negative_max: 3600, stale: 86_400, ahead: 10 };
const NOW: u32 = 10;

fn main() -> Result<()> {
    let counts: Vec<u32> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let mut cache =
        Cache::new(WORKER_BYTES, 1232, KeyedHash::random()?).context("no memory for the worker cache")?;
    let host = HostTier::new(HOST_BYTES, Arc::default());
    let empty = resident()?;
    let mut from = 0;
    for count in counts {
        let (before, began) = (resident()?, Instant::now());
        for number in from..count {
            let (key, answer) = answer(number)?;
            host.insert(&key, answer, 0);
        }
        let (filled, elapsed) = (resident()?, began.elapsed());
        for number in from..count {
            let (key, answer) = answer(number)?;
            cache.insert(&key, &answer, NOW);
        }
        let both = resident()?;
        println!(
            "{count} names: host tier +{:.1} MiB ({:.1} by its own count, {elapsed:.1?}), worker cache +{:.1} MiB, \
             {:.1} MiB above the empty caches",
            mib(filled.saturating_sub(before)),
            mib(host.bytes().0),
            mib(both.saturating_sub(filled)),
            mib(both.saturating_sub(empty)),
        );
        from = count;
    }
    Ok(())
}

/// Returns a name of seven characters of its own, and its answer of one address.
fn answer(number: u32) -> Result<(Key, Arc<Answer>)> {
    let name = names::name(&format!("n{number:06}.rb.example"))?;
    let key = names::key(&name, 1, false, false).context("a key of a short name")?;
    let mut message = names::query_message(&name, [1, 1], 0, 0x8180, None);
    message[7] = 1;
    message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4]);
    message.extend_from_slice(&number.to_be_bytes());
    Ok((key.clone(), Arc::new(Answer::from_response(&message, &key, &RULES, NOW, false)?)))
}

/// Returns the resident memory of this process, in bytes.
fn resident() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("the kernel tells no PSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
