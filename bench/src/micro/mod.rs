//! `ringbench micro`: cost of a hit as the cache outgrows the processor's caches.

mod chase;
mod limit;

use crate::{
    machine::{Machine, binary},
    names::{Questions, SUFFIX},
    output,
    query::Template,
    report::group,
    run::udp::pin,
    stage::{self, Filed, HASH_SEEDS, Ip, RULES, Stage},
    zipf::Draw,
};
use anyhow::{Result, ensure};
use chase::Load;
use limit::Charges;
use rand::{SeedableRng, rngs::SmallRng};
use ringdns_dataplane::{
    cache::{Cache, KeyedHash, Occupancy},
    port::BURST,
};
use serde::Serialize;
use std::{
    hint::black_box,
    path::PathBuf,
    time::{Duration, Instant},
};

/// Times hits on the data plane alone: frame in to frame out, no kernel, with names equally popular
/// and by Zipf's law.
///
/// A burst of queries is written into frames, which is not timed, and processed, which is. The cost
/// of a load from memory on this machine is printed too: each of these loads waits for the one
/// before, which those of a burst do not.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names in the cache; several values are run in turn.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000])]
    pub names: Vec<usize>,
    /// Exponents of Zipf's law; 0 asks for all names equally often.
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 1.0])]
    pub zipf: Vec<f64>,
    /// Queries a round.
    #[arg(long, default_value_t = 2_000_000)]
    pub queries: usize,
    /// Rounds; the median is reported, with the fastest and the slowest.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Send EDNS with the queries.
    #[arg(long)]
    pub edns: bool,
    /// Clients that the limiter charges in turn; several values are run in turn.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000, 1_000_000], value_parser = clap::value_parser!(u32).range(1..))]
    pub clients: Vec<u32>,
    /// Core to run on.
    #[arg(long)]
    pub core: Option<usize>,
    /// Also write all figures as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// All results.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// Machine that was measured.
    pub machine: Machine,
    /// Times of hits.
    pub hits: Vec<Row>,
    /// Times of loads that wait for each other.
    pub loads: Vec<Load>,
    /// Times of the limiter.
    pub charges: Vec<Charges>,
}

/// Results for one number of names and one popularity.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Names in the cache.
    pub names: usize,
    /// Exponent of Zipf's law.
    pub zipf: f64,
    /// Nanoseconds a hit: median, least and most of the rounds.
    pub nanos: [f64; 3],
    /// Bytes that an entry takes in the slabs.
    pub entry_bytes: f64,
    /// Bytes a name of the smallest cache that holds the names: slabs, index and all. `None` for
    /// large numbers of names.
    pub whole_bytes: Option<f64>,
}

/// Bytes of cache for each name when speed is measured: an entry and its part of the index, with
/// room to spare.
const BYTES_A_NAME: usize = 160;
/// Bytes of memory for each name in all: cache, question, and data to fill them.
const MEMORY_A_NAME: usize = BYTES_A_NAME + 64;
/// Share of the names that may be missing: in a full bucket of the index a name evicts another.
const MISSING: f64 = 0.001;
/// Most names for which the smallest cache is searched.
const SOUGHT_MAX: usize = 100_000;
/// Time of the lookups, in seconds: shortly after the answers were received.
const NOW: u32 = 5;
/// Largest region that loads are measured in, in bytes.
const LOADS_MAX: usize = 512 << 20;

/// `ringbench micro`.
pub fn run(args: &Args) -> Result<()> {
    ensure!(
        args.rounds > 0 && args.queries >= BURST,
        "--rounds must be at least 1 and --queries at least {BURST}"
    );
    pin(args.core.as_slice(), 0)?;
    let template = stage::template(if args.edns { &["--edns"] } else { &[] })?;
    let machine = Machine::here();
    println!("{machine}\n");
    println!(
        "{:>10} {:>5} {:>8} {:>15} {:>12} {:>12}",
        "names", "zipf", "ns/hit", "min-max", "slab B/entry", "all B/entry"
    );
    let mut hits = Vec::new();
    for names in &args.names {
        let wanted = names * MEMORY_A_NAME;
        if wanted as u64 > machine.available / 4 * 3 {
            let wanted = binary(wanted as u64);
            println!(
                "{:>10} left out: it takes {wanted}, and {} is available",
                group(*names as u64),
                binary(machine.available)
            );
            continue;
        }
        for row in measure(*names, &template, args)? {
            println!("{row}");
            hits.push(row);
        }
    }
    let largest = LOADS_MAX.min(machine.available as usize / 4);
    println!("\n{:>10} {:>8}", "memory", "ns/load");
    let mut loads = Vec::new();
    for bytes in chase::sizes(largest) {
        let load = chase::measure(bytes)?;
        println!("{:>10} {:>8.1}", binary(load.bytes as u64), load.nanos);
        loads.push(load);
    }
    println!("\n{:>10} {:>14} {:>15}", "clients", "ns/hit charged", "ns/miss charged");
    let mut charges = Vec::new();
    for clients in &args.clients {
        let measured = limit::measure(*clients)?;
        println!("{:>10} {:>14.1} {:>15.1}", group((*clients).into()), measured.hit, measured.exact);
        charges.push(measured);
    }
    output::json(args.json.as_deref(), &Results { machine, hits, loads, charges })
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [median, least, most] = self.nanos;
        write!(
            f,
            "{:>10} {:>5} {median:>8.1} {:>15} {:>12.1} {:>12}",
            group(self.names as u64),
            self.zipf,
            format!("{least:.1}-{most:.1}"),
            self.entry_bytes,
            self.whole_bytes.map_or("-".into(), |bytes| format!("{bytes:.1}")),
        )
    }
}

fn measure(names: usize, template: &Template, args: &Args) -> Result<Vec<Row>> {
    let questions = Questions::made_up(names, SUFFIX, 1)?;
    let answerer = stage::answerer(&[])?;
    let mut stage = Stage::new(names * BYTES_A_NAME)?;
    stage::fill(stage.processor.cache(), &questions, template, &answerer)?;
    let occupancy = stage.processor.cache().occupancy();
    ensure!(
        held(&occupancy, names),
        "the cache of {} bytes holds {} of {names} names: bench/src/micro allows {BYTES_A_NAME} bytes each",
        occupancy.capacity,
        occupancy.entries
    );
    let least = (names <= SOUGHT_MAX).then(|| least_cache(&questions, template)).transpose()?;

    let mut rows = Vec::new();
    for zipf in &args.zipf {
        let draw = Draw::new(names, *zipf)?;
        let mut rng = SmallRng::seed_from_u64(names as u64);
        // A first round loads the most popular names into the processor's caches.
        round(&mut stage, &questions, template, (&draw, *zipf > 0.0), &mut rng, args.queries / BURST / 4)?;
        let mut rounds = (0..args.rounds)
            .map(|_| {
                round(&mut stage, &questions, template, (&draw, *zipf > 0.0), &mut rng, args.queries / BURST)
            })
            .collect::<Result<Vec<f64>>>()?;
        rounds.sort_by(f64::total_cmp);
        rows.push(Row {
            names,
            zipf: *zipf,
            nanos: [rounds[rounds.len() / 2], rounds[0], rounds[rounds.len() - 1]],
            entry_bytes: occupancy.used as f64 / occupancy.entries as f64,
            whole_bytes: least.map(|bytes| bytes as f64 / names as f64),
        });
    }
    Ok(rows)
}

/// Processes `bursts` bursts, and returns the nanoseconds a query.
fn round(
    stage: &mut Stage,
    questions: &Questions,
    template: &Template,
    (draw, popular): (&Draw, bool),
    rng: &mut SmallRng,
    bursts: usize,
) -> Result<f64> {
    let mut spent = Duration::ZERO;
    let mut hits = 0;
    let bursts = bursts.max(1);
    for _ in 0..bursts {
        for nth in 0..BURST {
            let name = draw.scattered(rng);
            stage.load(nth, &stage::packet(template, questions.get(name), Ip::V4)?);
        }
        let began = Instant::now();
        let tally = black_box(stage.run(black_box(NOW)));
        spent += began.elapsed();
        hits += tally.hits;
    }
    let queries = (bursts * BURST) as u64;
    // By Zipf's law, an evicted name may be a popular one.
    let missing = if popular { 0.1 } else { 2.0 * MISSING };
    ensure!(hits as f64 >= (1.0 - missing) * queries as f64, "only {hits} of {queries} queries were hits");
    Ok(spent.as_nanos() as f64 / queries as f64)
}

/// Whether a cache holds what was inserted, except for a few entries.
fn held(occupancy: &Occupancy, names: usize) -> bool {
    occupancy.entries as f64 >= (1.0 - MISSING) * names as f64
}

/// Returns the size of the smallest cache that holds the answers to all questions, to one percent.
fn least_cache(questions: &Questions, template: &Template) -> Result<usize> {
    let answerer = stage::answerer(&[])?;
    let names = questions.len();
    let answers = (0..names as u32)
        .map(|index| stage::answer(template, &answerer, questions.get(index), 0))
        .collect::<Result<Vec<Filed>>>()?;
    let hash = KeyedHash::with_seeds(HASH_SEEDS);
    let holds = |bytes: usize| -> Result<bool> {
        let mut cache = Cache::new(bytes, RULES.udp_limit, hash)?;
        for Filed { query, answer } in &answers {
            cache.insert(&query.key, answer, 0);
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
