//! `ringbench fleet`: hit ratio and memory by names, workers and appliances.
//!
//! The simulation runs the shipped code of worker cache and host tier, with policy and entries.
//! Only time, the NIC's choice of a queue and the upstream are simulated.

mod table;
mod world;

use crate::{
    names::{Questions, SUFFIX},
    output,
};
use anyhow::{Result, ensure};
use serde::Serialize;
use std::path::PathBuf;
use world::{Catalogue, Fleet, Load, Outcome};

/// Simulates fleets of appliances, and prints the share of answers and the memory of each tier.
///
/// Popularity follows Zipf's law, over made-up names or over a file's names in the order of the
/// file. Flows are spread evenly. Upstreams answer at once.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of made-up names; several values are run in turn.
    #[arg(long, value_delimiter = ',', default_values_t = [100_000, 1_000_000])]
    pub made_up: Vec<usize>,
    /// Also the names of this file, the most popular first.
    #[arg(long, value_name = "FILE")]
    pub names: Option<PathBuf>,
    /// Workers of a host; several values are run in turn.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8, 16])]
    pub workers: Vec<usize>,
    /// Appliances, which share the queries; several values are run in turn.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8])]
    pub appliances: Vec<usize>,
    /// MiB for the worker caches of a host, all workers together; several values are run in turn.
    #[arg(long, value_delimiter = ',', default_values_t = [8, 32, 128, 512, 2048])]
    pub budgets: Vec<usize>,
    /// MiB for the worker caches of a host where workers and appliances vary.
    #[arg(long, default_value_t = 64)]
    pub budget: usize,
    /// Workers of a host where budgets and appliances vary.
    #[arg(long, default_value_t = 8)]
    pub host_workers: usize,
    /// MiB for the host cache of a host.
    #[arg(long, default_value_t = 1024)]
    pub host_mib: u64,
    /// Exponent of Zipf's law.
    #[arg(long, default_value_t = 1.0)]
    pub zipf: f64,
    /// Number of pairs of client address and port, which decide host and worker.
    #[arg(long, default_value_t = 1_000_000)]
    pub flows: u32,
    /// Queries a second of the whole fleet.
    #[arg(long, default_value_t = 10_000)]
    pub rate: u32,
    /// TTL of all answers, in seconds.
    #[arg(long, default_value_t = 60)]
    pub ttl: u32,
    /// Queries that are counted, after as many that are not.
    #[arg(long, default_value_t = 1_000_000)]
    pub queries: u64,
    /// Begin with empty caches, to see the cost of a start. By default each cache has seen every
    /// name before.
    #[arg(long)]
    pub cold: bool,
    /// Seed of the random draws.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Also write all figures as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Parameter that varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sweep {
    /// Workers of one host.
    Workers,
    /// Bytes of one host's worker caches.
    Budget,
    /// Appliances.
    Appliances,
}

/// Simulation and its results.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Sweep that the simulation belongs to.
    pub sweep: Sweep,
    /// Number of names.
    pub names: usize,
    /// Whether the names are from a file.
    pub real: bool,
    /// Simulated fleet.
    #[serde(flatten)]
    pub fleet: Fleet,
    /// Results of the simulation.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Results of all simulations.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// Simulated load.
    pub load: Load,
    /// TTL of all answers, in seconds.
    pub ttl: u32,
    /// Simulations in the order in which they ran.
    pub rows: Vec<Row>,
}

const MIB: usize = 1 << 20;

/// `ringbench fleet`.
pub fn run(args: &Args) -> Result<()> {
    let results = simulate(args)?;
    print!("{}", results.recommendation());
    output::json(args.json.as_deref(), &results)
}

fn simulate(args: &Args) -> Result<Results> {
    let counts = args.workers.iter().chain(&args.appliances).chain([&args.host_workers]);
    ensure!(counts.min() > Some(&0), "--workers and --appliances must be at least 1");
    let load = Load {
        zipf: args.zipf,
        flows: args.flows,
        rate: args.rate,
        warm: if args.cold { 0 } else { args.queries },
        cold: args.cold,
        queries: args.queries,
        seed: args.seed,
    };
    let mut results = Results { load, ttl: args.ttl, rows: Vec::new() };
    let usual = Fleet {
        appliances: 1,
        workers: args.host_workers,
        core_bytes: args.budget * MIB,
        host_bytes: args.host_mib << 20,
    };
    println!("{results}\n{}", table::HEADING);
    let made_up =
        args.made_up.iter().map(|count| Questions::made_up(*count, SUFFIX, 1).map(|names| (false, names)));
    let real = args.names.iter().map(|path| Questions::read(path, 1, None).map(|names| (true, names)));
    for questions in made_up.chain(real) {
        let (real, questions) = questions?;
        let catalogue = Catalogue::new(questions, args.ttl)?;
        let mut simulate = |sweep, fleet| -> Result<()> {
            let outcome = catalogue.simulate(&fleet, &load)?;
            let row = Row { sweep, names: catalogue.names(), real, fleet, outcome };
            println!("{row}");
            results.rows.push(row);
            Ok(())
        };
        for workers in &args.workers {
            simulate(Sweep::Workers, Fleet { workers: *workers, ..usual })?;
        }
        for mib in &args.budgets {
            simulate(Sweep::Budget, Fleet { core_bytes: mib * MIB, ..usual })?;
        }
        for appliances in &args.appliances {
            simulate(Sweep::Appliances, Fleet { appliances: *appliances, ..usual })?;
        }
    }
    Ok(results)
}
