//! `ringbench micro`: what a hit costs as the cache outgrows the processor's own.

use crate::{
    names::{Questions, SUFFIX},
    query::Template,
    report::group,
    run::udp::pin,
    stage::{self, Filed, HASH_SEEDS, Ip, RULES, Stage},
};
use anyhow::{Result, ensure};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use ringdns_dataplane::{
    cache::{Cache, KeyedHash, Occupancy},
    port::BURST,
};
use serde::Serialize;
use std::{
    hint::black_box,
    time::{Duration, Instant},
};

/// Times hits on the data plane alone: frame in to frame out, no kernel, names in random order.
///
/// A burst of queries is written into frames, which is not timed, and processed, which is.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names in the cache; several in turn.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000, 1_000_000, 4_000_000])]
    pub names: Vec<usize>,
    /// Queries a round.
    #[arg(long, default_value_t = 2_000_000)]
    pub queries: usize,
    /// Rounds; the median is reported, with the fastest and the slowest.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Send EDNS with the queries.
    #[arg(long)]
    pub edns: bool,
    /// Core to run on.
    #[arg(long)]
    pub core: Option<usize>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What was measured with one number of names.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Names in the cache.
    pub names: usize,
    /// Nanoseconds a hit: median, least and most of the rounds.
    pub nanos: [f64; 3],
    /// Bytes that an entry takes in the slabs.
    pub entry_bytes: f64,
    /// Bytes of the smallest cache that holds the names, divided by these: slabs, index and all. Not sought for many.
    pub whole_bytes: Option<f64>,
}

/// Bytes of cache for a name when speed is measured: an entry and its part of the index, with room to spare.
const BYTES_A_NAME: usize = 160;
/// Part of the names that may be missing: where a bucket of the index is full, a name crowds out another.
const MISSING: f64 = 0.001;
/// The smallest cache is sought for at most this many names.
const SOUGHT_MAX: usize = 100_000;
/// Time of the lookups, in seconds: some after the answers were received.
const NOW: u32 = 5;

/// `ringbench micro`.
pub fn run(args: &Args) -> Result<()> {
    ensure!(args.rounds > 0 && args.queries >= BURST, "at least one round of {BURST} queries is wanted");
    pin(args.core.as_slice(), 0)?;
    let template = stage::template(if args.edns { &["--edns"] } else { &[] })?;
    let mut rows = Vec::new();
    if !args.json {
        println!(
            "{:>10} {:>8} {:>15} {:>12} {:>12}",
            "names", "ns/hit", "min-max", "slab B/entry", "all B/entry"
        );
    }
    for names in &args.names {
        let row = measure(*names, &template, args)?;
        if !args.json {
            let [median, least, most] = row.nanos;
            println!(
                "{:>10} {median:>8.1} {:>15} {:>12.1} {:>12}",
                group(*names as u64),
                format!("{least:.1}-{most:.1}"),
                row.entry_bytes,
                row.whole_bytes.map_or("-".into(), |bytes| format!("{bytes:.1}")),
            );
        }
        rows.push(row);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    }
    Ok(())
}

fn measure(names: usize, template: &Template, args: &Args) -> Result<Row> {
    let questions = Questions::made_up(names, SUFFIX, 1)?;
    let answerer = stage::answerer(&[])?;
    let mut stage = Stage::new(names * BYTES_A_NAME)?;
    let hash = stage.processor.hash();
    stage::fill(stage.processor.cache(), hash, &questions, template, &answerer)?;
    let occupancy = stage.processor.cache().occupancy();
    ensure!(
        held(&occupancy, names),
        "the cache of {} bytes holds {} of {names} names: bench/src/micro.rs reckons with {BYTES_A_NAME} bytes each",
        occupancy.capacity,
        occupancy.entries
    );

    let mut rng = SmallRng::seed_from_u64(names as u64);
    let mut rounds = (0..args.rounds)
        .map(|_| round(&mut stage, &questions, template, &mut rng, args.queries / BURST))
        .collect::<Result<Vec<f64>>>()?;
    rounds.sort_by(f64::total_cmp);

    let least = (names <= SOUGHT_MAX).then(|| least_cache(&questions, template));
    Ok(Row {
        names,
        nanos: [rounds[rounds.len() / 2], rounds[0], rounds[rounds.len() - 1]],
        entry_bytes: occupancy.used as f64 / occupancy.entries as f64,
        whole_bytes: least.transpose()?.map(|bytes| bytes as f64 / names as f64),
    })
}

/// Processes `bursts` bursts of random names, and returns the nanoseconds a query.
fn round(
    stage: &mut Stage,
    questions: &Questions,
    template: &Template,
    rng: &mut SmallRng,
    bursts: usize,
) -> Result<f64> {
    let mut spent = Duration::ZERO;
    let mut hits = 0;
    for _ in 0..bursts {
        for nth in 0..BURST {
            let name = rng.random_range(0..questions.len() as u32);
            stage.load(nth, &stage::packet(template, questions.get(name), Ip::V4)?);
        }
        let began = Instant::now();
        let tally = black_box(stage.run(black_box(NOW)));
        spent += began.elapsed();
        hits += tally.hits;
    }
    let queries = (bursts * BURST) as u64;
    ensure!(
        hits as f64 >= (1.0 - 2.0 * MISSING) * queries as f64,
        "only {hits} of {queries} queries were hits"
    );
    Ok(spent.as_nanos() as f64 / queries as f64)
}

/// Whether a cache holds what was filed in it, but for the odd one.
fn held(occupancy: &Occupancy, names: usize) -> bool {
    occupancy.entries as f64 >= (1.0 - MISSING) * names as f64
}

/// Bytes of the smallest cache that holds the answers to all questions, to one percent.
fn least_cache(questions: &Questions, template: &Template) -> Result<usize> {
    let answerer = stage::answerer(&[])?;
    let names = questions.len();
    let answers = (0..names as u32)
        .map(|index| stage::answer(template, &answerer, questions.get(index), 0))
        .collect::<Result<Vec<Filed>>>()?;
    let hash = KeyedHash::with_seeds(HASH_SEEDS);
    let holds = |bytes: usize| -> Result<bool> {
        let mut cache = Cache::new(bytes, RULES.udp_limit)?;
        for Filed { query, answer } in &answers {
            cache.insert(&query.key, hash.of(&query.key), answer, 0);
        }
        Ok(held(&cache.occupancy(), names))
    };
    let (mut too_small, mut enough) = (0, names * BYTES_A_NAME);
    while enough - too_small > enough / 100 {
        let middle = too_small.midpoint(enough);
        if holds(middle)? { enough = middle } else { too_small = middle }
    }
    Ok(enough)
}
