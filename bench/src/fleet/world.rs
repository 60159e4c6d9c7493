//! Simulated hosts: worker caches and host tier as they ship, in simulated time.

use crate::{
    names::Questions,
    query::{QUERY_MAX, Template},
    run::source::drawn,
    stage::{self, HASH_SEEDS, RULES},
    zipf::{Draw, scatter},
};
use anyhow::{Context, Result, ensure};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use ringdns_dataplane::{
    cache::{Cache, Freshness, KeyedHash},
    clock::Secs,
    dns::{answer::Answer, query::Query},
};
use ringdns_resolver::host::{Found, HostTier};
use serde::Serialize;
use std::sync::Arc;

/// Fleet to simulate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fleet {
    /// Number of hosts.
    pub appliances: usize,
    /// Workers of each host.
    pub workers: usize,
    /// Bytes of all worker caches of one host together.
    pub core_bytes: usize,
    /// Bytes of the host tier of one host.
    pub host_bytes: u64,
}

/// Load on the fleet.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Load {
    /// Exponent of Zipf's law.
    pub zipf: f64,
    /// Number of pairs of client address and port. Queries of one pair always come to the same host
    /// and NIC queue.
    pub flows: u32,
    /// Queries a second of the whole fleet.
    pub rate: u32,
    /// Queries before counting begins.
    pub warm: u64,
    /// Whether the caches are empty at first. Otherwise each was offered every name once, as after
    /// days.
    pub cold: bool,
    /// Queries that are counted.
    pub queries: u64,
    /// Seed of the random draws.
    pub seed: u64,
}

/// Shares of the answers by source, and occupancy of the caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Percent of the queries that a worker cache answered.
    pub core: f64,
    /// Percent that the host tier answered.
    pub host: f64,
    /// Percent that had to wait for an upstream.
    pub upstream: f64,
    /// Percent of the queries that made a host ask an upstream, whether or not the client waited:
    /// an expired answer is given out at once and refreshed.
    pub fetched: f64,
    /// Entries in all worker caches of the fleet.
    pub core_entries: u64,
    /// Bytes of those entries, without the index.
    pub core_used: u64,
    /// Entries in all host tiers.
    pub host_entries: u64,
    /// Bytes of those entries.
    pub host_used: u64,
    /// Queries of the busiest worker, in percent of an even share.
    pub busiest: f64,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    core: u64,
    host: u64,
    upstream: u64,
    fetched: u64,
}

/// Source of the queries.
pub struct Traffic {
    draw: Draw,
    flows: u32,
    rng: SmallRng,
}

impl Traffic {
    /// Returns a source of queries for so many names.
    pub fn new(load: &Load, names: usize) -> Result<Self> {
        ensure!(
            load.flows > 0 && load.rate > 0 && load.queries > 0,
            "--flows, --rate and --queries must be above 0"
        );
        let rng = SmallRng::seed_from_u64(load.seed);
        Ok(Traffic { draw: Draw::new(names, load.zipf)?, flows: load.flows, rng })
    }

    /// Returns the next query's name and flow.
    pub fn query(&mut self) -> (u32, u32) {
        (self.draw.rank(&mut self.rng), self.rng.random_range(0..self.flows))
    }
}

impl Fleet {
    /// Returns the appliance and worker that the network and the NIC assign to a flow.
    pub fn place(&self, flow: u32) -> (usize, usize) {
        // Stands in for the hashes of switch and NIC.
        let hash = drawn(u64::from(flow), 0);
        (part(hash, self.appliances), part(drawn(hash, 0), self.workers))
    }
}

fn part(hash: u64, parts: usize) -> usize {
    (((hash >> 32) * parts as u64) >> 32) as usize
}

/// Questions and their answers.
pub struct Catalogue {
    questions: Questions,
    template: Template,
    /// Answer to each question, received at second 0.
    answers: Vec<Arc<Answer>>,
}

/// Time in which a worker sweeps its whole cache once, in seconds.
const SWEEP_PERIOD: u64 = 60;

impl Catalogue {
    /// Builds a catalogue of answers with this TTL.
    pub fn new(questions: Questions, ttl: u32) -> Result<Self> {
        let (template, answerer) = (stage::template(&[])?, stage::answerer(&[&format!("--ttl={ttl}")])?);
        let answer = |name| -> Result<Arc<Answer>> {
            Ok(Arc::new(stage::answer(&template, &answerer, questions.get(name), 0)?.answer))
        };
        let answers = (0..questions.len() as u32).map(answer).collect::<Result<_>>()?;
        Ok(Catalogue { questions, template, answers })
    }

    /// Returns the number of names.
    pub fn names(&self) -> usize {
        self.questions.len()
    }

    fn parse(&self, name: u32, query: &mut Query) -> Result<()> {
        let mut message = [0; QUERY_MAX];
        let len = self.template.write(&mut message, 0, self.questions.get(name), 0);
        let parsed = query.parse(&message[..len]);
        ensure!(parsed.is_ok(), "the data plane rejects a query: {parsed:?}");
        Ok(())
    }

    fn answer(&self, name: u32, now: Secs) -> Arc<Answer> {
        Arc::new(Answer { received: now, ..(*self.answers[name as usize]).clone() })
    }

    /// Runs `load` against `fleet`.
    pub fn simulate(&self, fleet: &Fleet, load: &Load) -> Result<Outcome> {
        let mut traffic = Traffic::new(load, self.names())?;
        let mut hosts = (0..fleet.appliances).map(|_| Host::new(fleet)).collect::<Result<Vec<_>>>()?;
        let hash = KeyedHash::with_seeds(HASH_SEEDS);
        if !load.cold {
            self.preload(&mut hosts)?;
        }
        let mut query = Query::default();
        let mut counts = Counts::default();
        let mut asked = vec![0u64; fleet.appliances * fleet.workers];
        for number in 0..load.warm + load.queries {
            let now = (number / u64::from(load.rate)) as Secs;
            if number % u64::from(load.rate) == 0 {
                hosts.iter_mut().for_each(|host| host.sweep(now));
            }
            if number == load.warm {
                counts = Counts::default();
                asked.fill(0);
            }
            let (name, flow) = traffic.query();
            self.parse(name, &mut query)?;
            let hash = hash.of(&query.key);
            let (appliance, worker) = fleet.place(flow);
            asked[appliance * fleet.workers + worker] += 1;
            let fetch = || self.answer(name, now);
            hosts[appliance].ask(worker, &query, hash, now, &mut counts, fetch);
        }
        Ok(outcome(&hosts, counts, &asked))
    }

    /// Offers every name once to each cache that may be asked for it, in no order of popularity.
    fn preload(&self, hosts: &mut [Host]) -> Result<()> {
        let mut query = Query::default();
        for rank in 0..self.names() as u32 {
            let name = scatter(rank, self.names());
            self.parse(name, &mut query)?;
            let answer = &self.answers[name as usize];
            for Host { workers, tier } in &mut *hosts {
                tier.insert(&query.key, answer.clone(), tier.generation());
                workers.iter_mut().for_each(|cache| cache.insert(&query.key, answer, 0));
            }
        }
        Ok(())
    }
}

fn outcome(hosts: &[Host], counts: Counts, asked: &[u64]) -> Outcome {
    let queries = counts.core + counts.host + counts.upstream;
    let percent = |count: u64| 100.0 * count as f64 / queries.max(1) as f64;
    let occupancies = || hosts.iter().flat_map(|host| &host.workers).map(Cache::occupancy);
    let busiest = asked.iter().max().copied().unwrap_or(0);
    Outcome {
        core: percent(counts.core),
        host: percent(counts.host),
        upstream: percent(counts.upstream),
        fetched: percent(counts.fetched),
        core_entries: occupancies().map(|occupancy| occupancy.entries).sum(),
        core_used: occupancies().map(|occupancy| occupancy.used).sum(),
        host_entries: hosts.iter().map(|host| host.tier.len() as u64).sum(),
        host_used: hosts.iter().map(|host| host.tier.bytes().0).sum(),
        busiest: percent(busiest * asked.len() as u64),
    }
}

struct Host {
    workers: Vec<Cache>,
    tier: HostTier,
}

impl Host {
    fn new(fleet: &Fleet) -> Result<Self> {
        let bytes = fleet.core_bytes / fleet.workers.max(1);
        let cache = || {
            Cache::new(bytes, RULES.udp_limit, KeyedHash::with_seeds(HASH_SEEDS))
                .context("no memory for the worker caches")
        };
        Ok(Host {
            workers: (0..fleet.workers).map(|_| cache()).collect::<Result<_>>()?,
            tier: HostTier::new(fleet.host_bytes, Arc::default()),
        })
    }

    fn sweep(&mut self, now: Secs) {
        for cache in &mut self.workers {
            let steps = cache.occupancy().entries / SWEEP_PERIOD + 1;
            cache.sweep(steps as u32, now);
        }
    }

    /// Answers one query, as if the upstream answered at once.
    fn ask(
        &mut self,
        worker: usize,
        query: &Query,
        hash: u64,
        now: Secs,
        counts: &mut Counts,
        fetch: impl FnOnce() -> Arc<Answer>,
    ) {
        let cache = &mut self.workers[worker];
        let found = cache.lookup(hash, &query.key, now).map(|hit| hit.freshness);
        if let Some(freshness) = found {
            counts.core += 1;
            if freshness != (Freshness::Stale { refresh: true }) {
                return;
            }
        }
        let answer = match self.tier.get(&query.key, now) {
            Found::Fresh(answer) => {
                counts.host += u64::from(found.is_none());
                answer
            }
            Found::Stale(_) | Found::Missing => {
                counts.upstream += u64::from(found.is_none());
                counts.fetched += 1;
                let answer = fetch();
                self.tier.insert(&query.key, answer.clone(), self.tier.generation());
                answer
            }
        };
        cache.insert(&query.key, &answer, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::SUFFIX;
    use std::collections::HashSet;

    const NAMES: usize = 500;
    const LOAD: Load =
        Load { zipf: 1.0, flows: 4000, rate: 1000, warm: 0, cold: true, queries: 5000, seed: 7 };

    fn catalogue() -> Catalogue {
        Catalogue::new(Questions::made_up(NAMES, SUFFIX, 1).unwrap(), 10_000).unwrap()
    }

    fn fleet(appliances: usize, workers: usize) -> Fleet {
        Fleet { appliances, workers, core_bytes: 64 << 20, host_bytes: 64 << 20 }
    }

    fn counts(outcome: Outcome) -> [u64; 3] {
        let count = |percent: f64| (percent / 100.0 * LOAD.queries as f64).round() as u64;
        [outcome.core, outcome.host, outcome.upstream].map(count)
    }

    /// With room for all names, each is asked of the upstream once an appliance, and of the host
    /// tier once more for each worker. A set tells how often that is.
    #[test]
    fn with_room_for_all_it_is_what_a_set_says() {
        let fleet = fleet(3, 4);
        let mut traffic = Traffic::new(&LOAD, NAMES).unwrap();
        let (mut of_hosts, mut of_workers) = (HashSet::new(), HashSet::new());
        for _ in 0..LOAD.queries {
            let (name, flow) = traffic.query();
            let (appliance, worker) = fleet.place(flow);
            of_hosts.insert((appliance, name));
            of_workers.insert((appliance, worker, name));
        }
        let (upstream, missed) = (of_hosts.len() as u64, of_workers.len() as u64);
        let outcome = catalogue().simulate(&fleet, &LOAD).unwrap();
        assert_eq!(counts(outcome), [LOAD.queries - missed, missed - upstream, upstream]);
        assert_eq!((outcome.core_entries, outcome.host_entries), (missed, upstream));
        assert!((100.0..130.0).contains(&outcome.busiest), "{outcome:?}");
    }

    #[test]
    fn what_was_offered_before_is_there() {
        let outcome = catalogue().simulate(&fleet(2, 4), &Load { cold: false, ..LOAD }).unwrap();
        assert_eq!((outcome.core, outcome.fetched), (100.0, 0.0));
        assert_eq!((outcome.core_entries, outcome.host_entries), (8 * NAMES as u64, 2 * NAMES as u64));
    }

    /// Expired answers are given out at once, and each host asks an upstream once for all of its
    /// workers.
    #[test]
    fn renewals_are_shared_by_the_workers_of_a_host() {
        let load = Load { zipf: 0.0, rate: 500, queries: 5000, cold: false, ..LOAD };
        let catalogue = Catalogue::new(Questions::made_up(20, SUFFIX, 1).unwrap(), 4).unwrap();
        for workers in [1, 4] {
            let outcome = catalogue.simulate(&fleet(1, workers), &load).unwrap();
            // Each name twice in ten seconds: at four and about eight seconds.
            let fetched = (outcome.fetched / 100.0 * 5000.0).round();
            assert_eq!((outcome.core, fetched), (100.0, 40.0), "{workers} workers");
        }
    }
}
