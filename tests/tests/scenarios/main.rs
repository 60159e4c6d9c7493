//! The scenarios of `tests/scenarios`: in the simulator, with virtual time, and in the lab, against the real process.

mod simulator;

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ringdns_tests::scenario::{self, Scenario};

/// Plays only scenarios whose name has this in it.
const ONLY: &str = "RINGDNS_SCENARIO";

fn scenarios() -> Vec<Scenario> {
    let mut scenarios = match scenario::all() {
        Ok(scenarios) => scenarios,
        Err(error) => panic!("{error}"),
    };
    if let Ok(only) = std::env::var(ONLY) {
        scenarios.retain(|scenario| scenario.name.contains(&only));
    }
    assert!(!scenarios.is_empty(), "there are no such scenarios");
    scenarios
}

#[test]
fn simulator_plays_all_scenarios() {
    let scenarios = scenarios();
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let (failures, told) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match simulator::run(scenario) {
                        Ok(learnt) => told.lock().unwrap().push(learnt),
                        Err(failure) => failures.lock().unwrap().push(failure.to_string()),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    println!("{} scenarios in {:.1} s", scenarios.len(), began.elapsed().as_secs_f64());
    assert!(
        failures.is_empty(),
        "{} of {} scenarios failed\n\n{}",
        failures.len(),
        scenarios.len(),
        failures.join("\n")
    );
    let told = told.into_inner().unwrap();
    let (mut same, mut ids, mut ports, mut queries) = (0, HashSet::new(), HashSet::new(), 0);
    for told in &told {
        for (id, port) in &told.upstream_ids {
            same += usize::from(told.client_ids.contains(id));
            queries += 1;
            ids.insert(id);
            ports.insert(port);
        }
    }
    // RFC 5452 section 9.2: IDs and ports are drawn at random, and a client's ID goes nowhere. Chance has its share.
    assert!(same <= 3, "{same} of {queries} queries to upstreams had the ID of a client");
    assert!(ids.len() * 10 >= queries * 9, "{} IDs in {queries} queries", ids.len());
    assert!(ports.len() * 2 >= queries, "{} ports in {queries} queries", ports.len());
}
