//! `ringbench faults`: effect on clients of faults of Redis or ClickHouse. There should be none.

mod fault;
mod load;
mod scene;
mod table;

use crate::{machine::Machine, output};
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use fault::Fault;
use load::Load;
use ringdns_testkit::Lab;
use scene::{Scene, Stage};
use serde::Serialize;
use serde_json::Value;
use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// Asks an appliance before, during and after faults of the services that it depends on, and
/// reports the results.
///
/// Hits are asked for over AF_XDP at a steady rate, whatever comes back, with a share of names
/// never asked before. Redis (by itself, with Sentinels, as a cluster) and ClickHouse are real, and
/// are killed, stopped, filled up and changed. Fails if a query that reached the appliance is not
/// answered, if an answer is wrong, or if a sum does not add up at the end. Needs root and
/// `deploy/setup.sh test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this fault; may be given several times.
    #[arg(long = "only", value_enum, value_name = "NAME")]
    pub only: Vec<Fault>,
    /// A few of the faults, each for a second: half a minute, for CI.
    #[arg(long)]
    pub short: bool,
    /// Queries a second.
    #[arg(long, default_value_t = 20_000.0, value_parser = crate::run::rate)]
    pub qps: f64,
    /// Share of names never asked before, in percent.
    #[arg(long, value_name = "PCT", default_value_t = 1.0, value_parser = crate::upstream::percent)]
    pub random_share: f64,
    /// Seconds before, during and after each fault.
    #[arg(long, default_value_t = 5.0, value_parser = crate::run::rate)]
    pub seconds: f64,
    /// Priority of ringdnsd and the generator, for machines with other work.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    pub nice: i8,
    /// The ringdnsd to ask. Default: the one beside this program.
    #[arg(long, value_name = "FILE")]
    pub ringdnsd: Option<PathBuf>,
    /// Also write the table, as Markdown.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Also write all results, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Fault, and the measurements around it.
#[derive(Debug, Serialize)]
struct Episode {
    name: String,
    what: String,
    phases: Vec<Phase>,
    /// Seconds from the end of the fault until the service was used again; `None` if it was used
    /// all the time.
    back_after: Option<f64>,
}

/// Load before, during or after a fault.
#[derive(Debug, Serialize)]
struct Phase {
    when: &'static str,
    load: Load,
    /// Queries that reached the appliance and got no answer. Other losses are on the link, where
    /// other work keeps the generator or the appliance from its core.
    unanswered: u64,
    /// Increase of the appliance's packet counters in this phase.
    total: Value,
    /// Increase of the appliance's Redis counters in this phase.
    fleet: Value,
    /// Increase of the appliance's query-log counters in this phase.
    rows: Value,
    /// Resident memory of the appliance at the end, in bytes.
    memory: u64,
    /// Whether Redis was in use at the end.
    up: bool,
}

/// Results of all faults.
#[derive(Debug, Serialize)]
struct Results {
    qps: f64,
    random_share: f64,
    seconds: f64,
    nice: i8,
    kernel: String,
    processor: String,
    machine_load: f64,
    episodes: Vec<Episode>,
    /// Final counters of the appliance of each scene.
    sums: Vec<scene::Sums>,
}

/// `ringbench faults`.
pub fn run(args: &Args) -> Result<()> {
    let is_wanted = |fault: &&Fault| {
        if args.only.is_empty() { !args.short || fault.is_quick() } else { args.only.contains(fault) }
    };
    let faults: Vec<Fault> = Fault::value_variants().iter().filter(is_wanted).copied().collect();
    let seconds = if args.short { args.seconds.min(1.0) } else { args.seconds };
    let machine = Machine::here();
    let mut results = Results {
        qps: args.qps,
        random_share: args.random_share,
        seconds,
        nice: args.nice,
        kernel: machine.kernel,
        processor: machine.processor,
        machine_load: machine.load,
        episodes: Vec::new(),
        sums: Vec::new(),
    };
    for scene in Scene::ALL {
        let of_it: Vec<_> = faults.iter().filter(|fault| fault.scene() == scene).collect();
        if of_it.is_empty() {
            continue;
        }
        let lab = Lab::up().context("making a lab needs root")?;
        let mut stage = Stage::set(scene, &lab, args)?;
        Load::of(load::command(&mut stage, args, 1.0))?;
        stage.recover()?;
        for fault in of_it {
            let episode = play(*fault, &mut stage, args, seconds)?;
            eprintln!("{}", table::line(&episode));
            results.episodes.push(episode);
        }
        results.sums.push(stage.end()?);
    }
    let text = table::render(&results);
    print!("{text}");
    output::text(args.markdown.as_deref(), &text)?;
    output::json(args.json.as_deref(), &results)?;
    let wrong: Vec<_> = results.episodes.iter().flat_map(wrong).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Runs the load before, during and after a fault.
fn play(fault: Fault, stage: &mut Stage<'_>, args: &Args, seconds: f64) -> Result<Episode> {
    /// Time from the start of a phase to its event: the generator needs some time to start.
    const INTO: Duration = Duration::from_millis(300);
    let mut phases = Vec::new();
    let mut back_after = None;
    for when in ["before", "while", "after"] {
        let before = stage.stats()?;
        let command = load::command(stage, args, seconds);
        let done = AtomicBool::new(false);
        let load = thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let load = Load::of(command);
                done.store(true, Relaxed);
                load
            });
            let acted = act(when, fault, stage, INTO, &done);
            let load = asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            back_after = back_after.or(acted?);
            load
        })?;
        let after = stage.stats()?;
        let since = |pointer: &str| scene::difference(before.pointer(pointer), after.pointer(pointer));
        phases.push(Phase {
            when,
            load,
            unanswered: scene::unanswered(&after).saturating_sub(scene::unanswered(&before)),
            memory: stage.memory(),
            total: since("/total"),
            fleet: since("/fleet/counters"),
            rows: since("/query_log/rows"),
            up: after["fleet"]["up"] == true,
        });
    }
    let (name, what) = fault.told();
    Ok(Episode { name, what, phases, back_after })
}

/// Does the action of a phase. After the fault, returns the time until Redis, or the query log, was
/// used again.
fn act(
    when: &str,
    fault: Fault,
    stage: &mut Stage<'_>,
    into: Duration,
    done: &AtomicBool,
) -> Result<Option<f64>> {
    thread::sleep(into);
    match when {
        "while" => {
            fault.strike(stage)?;
            while !done.load(Relaxed) {
                fault.keep_on(stage)?;
                thread::sleep(Duration::from_millis(5));
            }
            Ok(None)
        }
        "after" => {
            let was_gone = stage.is_degraded(&stage.stats()?);
            fault.mend(stage)?;
            let mended = Instant::now();
            stage.recover()?;
            Ok(was_gone.then(|| mended.elapsed().as_secs_f64()))
        }
        _ => Ok(None),
    }
}

/// Returns the violations of an episode.
fn wrong(episode: &Episode) -> Vec<String> {
    let of = |phase: &Phase| {
        let mut said = Vec::new();
        if phase.unanswered > 0 {
            said.push(format!("{} queries were not answered", phase.unanswered));
        }
        if phase.load.wrong > 0 {
            said.push(format!("{} answers were wrong", phase.load.wrong));
        }
        said.into_iter().map(|said| format!("{}, {}: {said}", episode.name, phase.when)).collect::<Vec<_>>()
    };
    episode.phases.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use load::Class;

    #[test]
    fn what_is_lost_or_wrong_is_said() {
        let episode = |unanswered, wrong| {
            let class = Class { sent: 100, lost: 0, p50: 1, p99: 2, p999: 3, max: 4 };
            let load = Load { hits: class, misses: class, servfail: 0, wrong, ring_drops: 0, lag_p99: 0 };
            let [total, fleet, rows] = [(); 3].map(|()| Value::Null);
            let phase = Phase { when: "while", load, unanswered, total, fleet, rows, memory: 0, up: true };
            Episode { name: "x".into(), what: "y".into(), phases: vec![phase], back_after: None }
        };
        assert_eq!(wrong(&episode(0, 0)).len(), 0);
        assert_eq!(wrong(&episode(2, 0)), ["x, while: 2 queries were not answered"]);
        assert_eq!(wrong(&episode(0, 3)), ["x, while: 3 answers were wrong"]);
    }
}
