//! A random mix of what happens to hosts, under load: the interface goes and returns, disks are
//! full, Redis, ClickHouse and upstreams fail, clocks step, processes stand still.
//!
//! Every answer is compared with what the upstream says to that name. After each group of faults
//! has ended, clients are answered by AF_XDP over UDP and TCP, and `status` and `/readyz` say so.
//! At the end the daemon is still there, all sums close, and its resource usage has not grown.
//!
//! ```text
//! cargo test --release -p ringdns-tests --test chaos -- --nocapture                        # 20 s
//! RINGDNS_CHAOS=3600 RINGDNS_CHAOS_SEED=7 cargo test --release -p ringdns-tests --test chaos -- --nocapture
//! ```

mod cgroup;
mod clients;
mod fault;
mod scene;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use clients::{AskedCounts, Clients};
use fault::{Fault, Part};
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use ringdns_testkit::{UsageGrowth, UsageSample, files_are_closed};
use scene::Scene;

/// Environment variable with the duration in seconds.
const SECONDS: &str = "RINGDNS_CHAOS";
const SHORT: u64 = 20;
/// Environment variable with the seed. Equal seeds draw equal faults.
const SEED: &str = "RINGDNS_CHAOS_SEED";
/// Most faults at once.
const AT_ONCE: usize = 3;
/// Time in milliseconds for which faults last, and for which all is well after them.
const LASTS: std::ops::Range<u64> = 200..3000;
const IS_WELL: Duration = Duration::from_millis(300);
/// Growth that counts as none. Each time AF_XDP is attached again, its memory is allocated again.
const GROWTH: UsageGrowth = UsageGrowth { resident: 8 << 20, allocated: 2 << 20 };
/// Fewest rounds in which growth can be told from warming up: caches fill for some three minutes.
const ROUNDS_TO_GROW: usize = 200;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}: {text}")))
}

/// Draws faults that happen at once: of different parts of the system, each of which the machine
/// can do.
fn draw(rng: &mut SmallRng, possible: &[Fault]) -> Vec<Fault> {
    let mut drawn: Vec<Fault> = Vec::new();
    for _ in 0..rng.random_range(1..=AT_ONCE) {
        let parts: Vec<Part> = drawn.iter().map(|fault| fault.part()).collect();
        let left: Vec<Fault> =
            possible.iter().copied().filter(|fault| !parts.contains(&fault.part())).collect();
        drawn.extend(left.choose(rng));
    }
    drawn
}

#[test]
fn a_random_mix_of_faults_is_survived() {
    let (seconds, seed) = (number(SECONDS, SHORT), number(SEED, 1));
    let Some(mut scene) = Scene::set() else { return };
    let possible = scene.possible();
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut counts: BTreeMap<Fault, u32> = BTreeMap::new();
    let mut samples = Vec::new();
    let files = scene.ringdnsd.process().open_files();
    let clients = Clients::begin(&scene);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        let faults = draw(&mut rng, &possible);
        let lasts = Duration::from_millis(rng.random_range(LASTS));
        println!("{:7.1} s: {faults:?} for {lasts:?}", began.elapsed().as_secs_f64());
        for fault in &faults {
            scene.begin(*fault);
            *counts.entry(*fault).or_default() += 1;
        }
        std::thread::sleep(lasts);
        for fault in faults.iter().rev() {
            scene.end(*fault);
        }
        scene.is_whole();
        clients.are_answered();
        std::thread::sleep(IS_WELL);
        samples.push(UsageSample::take(&scene.ringdnsd, began.elapsed()));
    }
    // From now on nobody reads the log.
    scene.end_log();
    scene.is_whole();
    let asked = clients.end();
    show(seed, &counts, &samples, &asked, scene.slowest);
    scene.accounts_close();
    files_are_closed(&scene.ringdnsd, files);
    if samples.len() >= ROUNDS_TO_GROW {
        GROWTH.bounds(&samples);
    }
    assert_eq!(scene.ringdnsd.terminate().code(), Some(0), "{}", scene.ringdnsd.process().output());
}

fn show(
    seed: u64,
    counts: &BTreeMap<Fault, u32>,
    samples: &[UsageSample],
    asked: &AskedCounts,
    slowest: Duration,
) {
    println!("seed {seed}, {} rounds, {} faults: {counts:?}", samples.len(), counts.values().sum::<u32>());
    println!("{asked:?}; after faults, all was well within {slowest:?}");
    let step = (samples.len() / 20).max(1);
    for UsageSample { at, resident, allocated, files, threads } in samples.iter().step_by(step) {
        let (at, resident, allocated) = (at.as_secs_f64(), resident / 1024, allocated / 1024);
        println!(
            "{at:7.1} s: {resident} KiB resident, {allocated} KiB allocated, {files} files, {threads} threads"
        );
    }
}
