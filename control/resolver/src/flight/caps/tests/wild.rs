//! Simulated floods of names below a wildcard, and honest traffic that resembles them.

use super::*;
use std::collections::HashMap;

/// Kind of the names of a zone that are asked for.
#[derive(Clone, Copy)]
enum Kind {
    /// So many names, some far more popular than others, each with addresses of its own.
    Content(usize),
    /// So many names, some far more popular than others, which share their addresses.
    Hosting(usize),
    /// Another name each time, all with one address: services with a name for each visit, and floods.
    Disposable,
    /// So many names, whose answers may not be cached.
    Uncached(usize),
}

/// Zone, queries a second, kind of the names, and TTL in seconds.
type Traffic = (&'static str, f64, Kind, u64);

/// Resolver with a cache, in simulated time.
struct Simulation {
    caps: ZoneCaps,
    now: Nanos,
    /// Times at which answers expire.
    cache: HashMap<(usize, u64), Nanos>,
    random: u64,
    debts: Vec<f64>,
    /// Questions that took off in each zone.
    misses: Vec<u64>,
    /// Zones that were capped at some time.
    capped: Vec<String>,
}

impl Simulation {
    fn new() -> Self {
        Simulation {
            caps: ZoneCaps::new(1_000),
            now: 100 * SECOND,
            cache: HashMap::new(),
            random: 1,
            debts: Vec::new(),
            misses: Vec::new(),
            capped: Vec::new(),
        }
    }

    /// Returns a number from 0 up to 1.
    fn random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns the number of a name by Zipf's law with exponent 1.
    fn popular(&mut self, names: usize) -> u64 {
        (names as f64).powf(self.random()) as u64
    }

    fn run(&mut self, seconds: u64, traffic: &[Traffic]) {
        self.debts.resize(traffic.len(), 0.0);
        self.misses = vec![0; traffic.len()];
        for _ in 0..seconds * 100 {
            self.now += SECOND / 100;
            for (at, (zone, rate, kind, ttl)) in traffic.iter().enumerate() {
                self.debts[at] += rate / 100.0;
                while self.debts[at] >= 1.0 {
                    self.debts[at] -= 1.0;
                    self.query(at, zone, *kind, *ttl);
                }
            }
            self.caps.keep(self.now);
            for flood in self.caps.list(self.now) {
                if !self.capped.contains(&flood.zone) {
                    self.capped.push(flood.zone);
                }
            }
        }
    }

    fn query(&mut self, at: usize, zone: &str, kind: Kind, ttl: u64) {
        let number = match kind {
            Kind::Content(names) | Kind::Hosting(names) => self.popular(names),
            Kind::Disposable => (self.random() * (1_u64 << 52) as f64) as u64,
            Kind::Uncached(names) => (self.random() * names as f64) as u64,
        };
        if self.cache.get(&(at, number)).is_some_and(|expires| *expires > self.now) {
            return;
        }
        let name = names::name(&format!("r{number}.{zone}")).unwrap();
        if self.caps.check(&name, Transport::Udp, self.now).is_err() {
            return;
        }
        self.misses[at] += 1;
        self.caps.note(&name, 1, self.now);
        let address = match kind {
            Kind::Content(_) => (number as u32).to_be_bytes(),
            Kind::Hosting(_) | Kind::Disposable | Kind::Uncached(_) => [192, 0, 2, 1],
        };
        self.caps.note_found(&name, true, std::iter::once((1, &address[..])), self.now);
        self.cache.insert((at, number), self.now + ttl * SECOND);
    }
}

/// Traffic of a network of 20,000 queries a second, with large services of every kind. The two with a name
/// for each visit have a twentieth of the queries each, and an eighth of the misses.
const HONEST: [Traffic; 6] = [
    ("web.test", 11_000.0, Kind::Content(1_000_000), 300),
    ("cloudfront.net", 2_500.0, Kind::Content(500_000), 60),
    ("blogspot.com", 2_500.0, Kind::Hosting(500_000), 300),
    ("api.example", 2_000.0, Kind::Uncached(10_000), 0),
    ("visits.example", 1_000.0, Kind::Disposable, 300),
    ("frames.example", 1_000.0, Kind::Disposable, 300),
];

#[test]
fn honest_traffic_is_no_flood() {
    // In the first seconds, the caches are empty; later, most is cached.
    let mut simulation = Simulation::new();
    simulation.run(20, &HONEST);
    simulation.run(20, &HONEST);
    println!("misses a second: {:?}", simulation.misses.iter().map(|misses| misses / 20).collect::<Vec<_>>());
    assert!(simulation.capped.is_empty(), "{:?}", simulation.capped);
    // Each service by itself, as behind an application's own resolver, but for those with a name for each
    // visit.
    for alone in &HONEST[..4] {
        let mut simulation = Simulation::new();
        simulation.run(10, &[*alone]);
        assert!(simulation.capped.is_empty(), "{:?}", simulation.capped);
    }
}

#[test]
fn a_flood_below_a_wildcard_is_capped_and_no_other_zone() {
    let mut simulation = Simulation::new();
    simulation.run(10, &HONEST);
    let flood = ("victim.example", 20_000.0, Kind::Disposable, 300);
    let traffic: Vec<_> = HONEST.into_iter().chain([flood]).collect();
    simulation.run(5, &traffic);
    simulation.run(10, &traffic);
    assert_eq!(simulation.capped, ["victim.example."]);
    let taken = simulation.misses[HONEST.len()];
    assert!((9_500..=10_500).contains(&taken), "{taken} of 200,000");
    // It ends when the flood does.
    simulation.run(40, &HONEST);
    assert_eq!(simulation.caps.len(), 0);
}
