//! Plays the scenarios of `tests/scenarios`: in the simulator with virtual time, and in the lab
//! with the real process.

mod lab;
mod simulated;
#[path = "../simulator/mod.rs"]
mod simulator;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ringdns_testkit::Lab;
use ringdns_testkit::scenario::{self, Failure, Scenario, Told};

/// Environment variable: plays only scenarios whose name contains its value.
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

/// Longest duration of a scenario that is played in the lab.
const LAB_TIME: Duration = Duration::from_secs(3);
/// Number of labs at once: they mostly wait.
const LABS: usize = 10;

#[test]
fn simulator_plays_all_scenarios() {
    let scenarios = scenarios();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let told = play_all(&scenarios, threads, || |scenario: &Scenario| simulated::run(scenario));
    judge_chance(&told);
}

/// Plays the short scenarios. The others are listed in a file, so that none goes missing unnoticed.
#[test]
fn lab_plays_short_scenarios() {
    let (played, left_out): (Vec<Scenario>, Vec<Scenario>) = scenarios()
        .into_iter()
        .partition(|scenario| scenario.simulator_only.is_none() && scenario.duration() <= LAB_TIME);
    let list: Vec<String> = left_out.iter().map(reason).collect();
    println!("{} scenarios are not played in the lab:\n  {}", list.len(), list.join("\n  "));
    if std::env::var_os(ONLY).is_none() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/not-in-lab.txt");
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        let written: Vec<&str> = written.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(written, list, "{} is to list what is not played", path.display());
    }
    if Lab::up().is_none() {
        return;
    }
    let told = play_all(&played, LABS, || {
        let lab = Lab::up().expect("there was one before");
        move |scenario: &Scenario| lab::run(scenario, &lab)
    });
    if std::env::var_os(ONLY).is_none() {
        judge_chance(&told);
    }
}

/// Returns a scenario's name, and the reason why it is not played in the lab.
fn reason(scenario: &Scenario) -> String {
    let long = || format!("{} s pass", scenario.duration().as_secs());
    format!("{}: {}", scenario.name, scenario.simulator_only.clone().unwrap_or_else(long))
}

/// Plays scenarios on several stages at once, each made by `set`. Panics unless all succeed.
fn play_all<P: Fn(&Scenario) -> Result<Told, Failure>>(
    scenarios: &[Scenario],
    stages: usize,
    set: impl Fn() -> P + Sync,
) -> Vec<Told> {
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let (failures, told) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..stages.min(scenarios.len()) {
            scope.spawn(|| {
                let play = set();
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match play(scenario) {
                        Ok(learnt) => told.lock().unwrap().push(learnt),
                        Err(failure) => failures.lock().unwrap().push(failure.to_string()),
                    }
                }
            });
        }
    });
    let (mut failures, count) = (failures.into_inner().unwrap(), scenarios.len());
    println!("{count} scenarios in {:.1} s", began.elapsed().as_secs_f64());
    failures.sort();
    assert!(failures.is_empty(), "{} of {count} scenarios failed\n\n{}", failures.len(), failures.join("\n"));
    told.into_inner().unwrap()
}

/// Checks RFC 5452 section 9.2: IDs and ports are random, and a client's ID is not passed on. Equal
/// values occur by chance, so all scenarios are judged together.
fn judge_chance(told: &[Told]) {
    let (mut same, mut ids, mut ports, mut queries) = (0, HashSet::new(), HashSet::new(), 0);
    for told in told {
        for (id, port) in &told.upstream_ids {
            same += usize::from(told.client_ids.contains(id));
            queries += 1;
            ids.insert(id);
            ports.insert(port);
        }
    }
    assert!(same <= 3, "{same} of {queries} queries to upstreams had the ID of a client");
    assert!(ids.len() * 10 >= queries * 9, "{} IDs in {queries} queries", ids.len());
    assert!(ports.len() * 2 >= queries, "{} ports in {queries} queries", ports.len());
}
