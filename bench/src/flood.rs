//! `ringbench flood-sim`: effect of a flood of random names on popular names.
//!
//! Simulates the cache alone, in simulated time: lookups, an insert after each miss as if the
//! upstream answered at once, and the sweep at the worker's pace. No packet is sent, so a rate of a
//! million a second needs no fast machine.

use crate::{
    mix::{Order, Pick},
    names::{Questions, SUFFIX},
    output,
    query::Template,
    question::QUESTION_MAX,
    report::group,
    stage::{self, Filed, HASH_SEEDS, RULES},
    upstream::Answerer,
};
use anyhow::{Context, Result, ensure};
use rand::{RngCore, SeedableRng, rngs::SmallRng};
use ringdns_dataplane::cache::{Cache, KeyedHash};
use std::path::PathBuf;

/// Simulates a cache that is asked for popular names, and then also flooded with ten times as many
/// random ones. Prints the popular names' hit ratio with the flood, and without it over the same
/// time.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of popular names, asked by Zipf's law.
    #[arg(long, default_value_t = 200_000)]
    pub names: usize,
    /// Exponent of Zipf's law.
    #[arg(long, default_value_t = 1.0)]
    pub zipf: f64,
    /// Bytes of the cache; the default holds about half of the popular names.
    #[arg(long, default_value_t = 10 << 20)]
    pub cache_bytes: usize,
    /// Queries a second for popular names.
    #[arg(long, default_value_t = 20_000)]
    pub rate: u32,
    /// Random names for each popular one.
    #[arg(long, default_value_t = 10)]
    pub flood: u32,
    /// Simulated seconds before the flood, for the cache to fill and settle.
    #[arg(long, default_value_t = 300)]
    pub settle: u32,
    /// Simulated seconds of flood.
    #[arg(long, default_value_t = 60)]
    pub seconds: u32,
    /// TTL of the popular names, in seconds.
    #[arg(long, default_value_t = 300)]
    pub ttl: u32,
    /// Seed of the random draws.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Also write the outcome as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Hit ratio of the popular names, in percent.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Outcome {
    /// Hit ratio over the time of the flood, simulated without it.
    pub without: f64,
    /// Hit ratio during the flood.
    pub with: f64,
    /// Hit ratio in the worst second of the flood.
    pub worst_second: f64,
    /// Entries in the cache at the end of the flood.
    pub entries: u64,
}

/// Time in which a worker sweeps its whole cache once, in seconds.
const SWEEP_PERIOD: u64 = 60;

/// `ringbench flood-sim`.
pub fn run(args: &Args) -> Result<()> {
    let outcome = simulate(args)?;
    let Outcome { without, with, worst_second, entries } = outcome;
    let fall = without - with;
    println!(
        "{} popular names (Zipf {}), {}/s; flood {}/s; cache {} bytes, {} entries at the end",
        group(args.names as u64),
        args.zipf,
        group(args.rate.into()),
        group(u64::from(args.rate) * u64::from(args.flood)),
        group(args.cache_bytes as u64),
        group(entries)
    );
    println!("hit ratio without the flood {without:>7.2} %");
    println!("hit ratio with it           {with:>7.2} %  (fell by {fall:.2} points)");
    println!("its worst second            {worst_second:>7.2} %");
    output::json(args.json.as_deref(), &outcome)
}

/// Runs the simulation.
pub fn simulate(args: &Args) -> Result<Outcome> {
    ensure!(
        args.seconds > 0 && args.rate > 0 && args.names > 0,
        "--names, --rate and --seconds must be above 0"
    );
    let simulated = |flood| -> Result<(f64, f64, u64)> {
        let (mut all, mut worst_second) = (Ratio::default(), 100.0_f64);
        let mut world = World::new(args)?;
        (0..args.settle).try_for_each(|second| world.second(second, 0).map(|_| ()))?;
        for second in args.settle..args.settle + args.seconds {
            let ratio = world.second(second, flood)?;
            worst_second = worst_second.min(ratio.percent());
            all.add(ratio);
        }
        Ok((all.percent(), worst_second, world.cache.occupancy().entries))
    };
    let (without, ..) = simulated(0)?;
    // Same queries again, with the flood.
    let (with, worst_second, entries) = simulated(args.flood)?;
    Ok(Outcome { without, with, worst_second, entries })
}

#[derive(Clone, Copy, Default)]
struct Ratio {
    hits: u64,
    queries: u64,
}

impl Ratio {
    fn add(&mut self, other: Ratio) {
        self.hits += other.hits;
        self.queries += other.queries;
    }

    fn percent(self) -> f64 {
        100.0 * self.hits as f64 / self.queries.max(1) as f64
    }
}

struct World {
    cache: Cache,
    questions: Questions,
    order: Order,
    asked: u64,
    rate: u32,
    template: Template,
    answerer: Answerer,
    rng: SmallRng,
}

impl World {
    fn new(args: &Args) -> Result<Self> {
        let ttl = format!("--ttl={}", args.ttl);
        Ok(World {
            cache: Cache::new(args.cache_bytes, RULES.udp_limit, KeyedHash::with_seeds(HASH_SEEDS))
                .context("no memory for the cache")?,
            questions: Questions::made_up(args.names, SUFFIX, 1)?,
            order: Order::draw(args.zipf, args.names, 0.0, args.seed)?,
            asked: 0,
            rate: args.rate,
            template: stage::template(&["--random-suffix=flood.test"])?,
            // Names of a flood do not exist.
            answerer: stage::answerer(&["--nxdomain-suffix=flood.test", &ttl])?,
            rng: SmallRng::seed_from_u64(args.seed),
        })
    }

    /// Simulates one second of `rate` popular names with `flood` random ones after each, and
    /// returns the popular names' hits.
    fn second(&mut self, now: u32, flood: u32) -> Result<Ratio> {
        let mut ratio = Ratio { hits: 0, queries: self.rate.into() };
        for _ in 0..self.rate {
            let Pick::Name(name) = self.order.at(self.asked) else { continue };
            self.asked += 1;
            let question = self.questions.get(name);
            let mut buffer = [0; QUESTION_MAX];
            buffer[..question.len()].copy_from_slice(question);
            let len = question.len();
            ratio.hits += u64::from(self.ask(&buffer[..len], now)?);
            for _ in 0..flood {
                let len = self.template.random_question(self.rng.next_u64(), &mut buffer);
                self.ask(&buffer[..len], now)?;
            }
        }
        let steps = self.cache.occupancy().entries / SWEEP_PERIOD + 1;
        self.cache.sweep(steps as u32, now);
        Ok(ratio)
    }

    /// Looks a question up, and inserts its answer on a miss. Returns whether it was a hit.
    fn ask(&mut self, question: &[u8], now: u32) -> Result<bool> {
        let Filed { query, answer } = stage::answer(&self.template, &self.answerer, question, now)?;
        let hash = self.cache.hash().of(&query.key);
        if self.cache.lookup(hash, &query.key, now).is_some() {
            return Ok(true);
        }
        self.cache.insert(&query.key, &answer, now);
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_often_survives_a_flood() {
        let options = ["--names=5000", "--cache-bytes=400000", "--rate=2000", "--settle=9", "--seconds=3"];
        let outcome = simulate(&crate::options::parse(&options).unwrap()).unwrap();
        assert!(
            (50.0..99.5).contains(&outcome.without),
            "the cache must be too small for all names: {outcome:?}"
        );
        assert!(outcome.without - outcome.with < 2.0, "{outcome:?}");
    }
}
