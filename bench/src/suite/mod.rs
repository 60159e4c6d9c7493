//! `ringbench report`: every table and every plot, by one command.

mod index;
mod part;
mod setup;

use crate::{built, output};
use anyhow::{Context, Result, ensure};
use index::{Done, Index, Text};
use part::{Part, Plan};
use rustix::process::{Pid, Signal, kill_process};
pub(crate) use setup::Setup;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// Runs everything: counts, micro benchmarks, simulations, comparisons and the model, one after the other, and writes results,
/// plots and a page that shows them into a folder.
///
/// Run it from the top of the repository, as root, on an idle machine of two cores, with release
/// builds: `cargo build --profile release-lto --package ringdns-bench --package ringdns-daemon
/// --package ringdns-ctl`. A failed part is reported, and the others still run.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for all results.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Less of everything, and only some of the servers: five minutes.
    #[arg(long)]
    pub short: bool,
    /// Run only these parts; the folder keeps the results of the others.
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    pub only: Vec<String>,
    /// File of real names for the simulation of fleets, the most popular first.
    #[arg(long, value_name = "FILE")]
    pub names: Option<PathBuf>,
    /// Priority of servers and generator, from -20 (highest) to 19.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(i8).range(-20..=19))]
    pub nice: i8,
    /// Allow a build without the profile of the release builds.
    #[arg(long)]
    pub any_build: bool,
}

/// Multiple of the planned time after which a part is stopped.
const PATIENCE: u32 = 3;
/// Time that a stopped part has to take its lab down.
const GRACE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);
/// File that keeps the contents of the page.
const KEPT: &str = "report.json";

/// `ringbench report`.
pub fn run(args: &Args) -> Result<()> {
    if !args.any_build {
        built::ensure_shipped()?;
    }
    ensure!(
        Path::new("bench/instructions.json").exists(),
        "there is no bench/instructions.json here: run this from the top of the repository"
    );
    let plan = Plan {
        out: args.out.clone(),
        short: args.short,
        any_build: args.any_build,
        names: args.names.clone(),
        nice: args.nice,
    };
    let parts = plan.parts();
    for only in &args.only {
        ensure!(
            parts.iter().any(|part| part.name == *only),
            "there is no part \"{only}\": parts are {}",
            parts.iter().map(|part| part.name).collect::<Vec<_>>().join(", ")
        );
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).context("cannot catch signals")?;
    }
    fs::create_dir_all(args.out.join("plots"))
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;

    let kept = args.out.join(KEPT);
    let before: Option<Index> = if args.only.is_empty() { None } else { output::read(&kept).ok() };
    let budget = parts.iter().map(|part| part.budget).sum::<u64>() as f64;
    let mut index = Index { setup: Setup::here(), budget, parts: Vec::new() };
    println!("{}\n- Planned: {:.0} minutes.", index.setup, budget / 60.0);
    for part in parts {
        let wanted = args.only.is_empty() || args.only.iter().any(|only| part.name == only);
        let done = if wanted {
            println!("{:<12} about {} s: {}", part.name, part.budget, part.tells);
            let done = perform(part.with_inputs_that_exist(), &args.out, &stop)?;
            let result = done.failure.as_ref().map_or("done".into(), |failure| format!("FAILED: {failure}"));
            println!("{:<12} took {:.0} s: {result}", done.name, done.seconds);
            Some(done)
        } else {
            before
                .as_ref()
                .and_then(|before| before.parts.iter().find(|done| done.name == part.name).cloned())
        };
        index.parts.extend(done);
        // Parts take minutes, so each result is written as soon as it is there.
        output::json(Some(&kept), &index)?;
        let page = args.out.join("README.md");
        fs::write(&page, index.to_string()).with_context(|| format!("cannot write {}", page.display()))?;
    }
    println!(
        "all parts took {:.0} s of {budget:.0} planned: {}/README.md",
        index.seconds(),
        args.out.display()
    );
    let failures = index.failures();
    ensure!(failures.is_empty(), "some parts failed:\n{}", failures.join("\n"));
    Ok(())
}

fn perform(part: Part, out: &Path, stop: &AtomicBool) -> Result<Done> {
    let plots = out.join("plots");
    let before = drawn(&plots);
    let began = Instant::now();
    let failure = if stop.load(Relaxed) { Some("interrupted".into()) } else { execute(&part, out, stop)? };
    let seconds = began.elapsed().as_secs_f64();
    let read = |suffix: &str| fs::read_to_string(out.join(format!("{}.{suffix}", part.name))).ok();
    let markdown = if part.markdown { read("md").map(Text::Markdown) } else { None };
    let text = markdown.or_else(|| read("txt").map(Text::Plain)).unwrap_or(Text::Plain(String::new()));
    // A plot from an earlier run may have been drawn again.
    let new = drawn(&plots).into_iter().filter(|plot| !before.contains(plot));
    let plots = new.map(|(name, _)| name).collect();
    Ok(Done {
        command: part.command(out),
        name: part.name.into(),
        title: part.title.into(),
        tells: part.tells.into(),
        seconds,
        failure,
        text,
        plots,
    })
}

/// Returns plots, and when they were drawn.
fn drawn(folder: &Path) -> BTreeSet<(String, Option<std::time::SystemTime>)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.map(|entry| {
        let when = entry.metadata().and_then(|data| data.modified()).ok();
        (entry.file_name().to_string_lossy().into_owned(), when)
    });
    named.filter(|(name, _)| name.ends_with(".svg")).collect()
}

/// Runs the part as a process of its own. Returns the reason of a failure.
fn execute(part: &Part, out: &Path, stop: &AtomicBool) -> Result<Option<String>> {
    let file = |suffix: &str| {
        let path = out.join(format!("{}.{suffix}", part.name));
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()));
        file.map(|file| (file, path))
    };
    // Files of an earlier run must not be taken for this run's.
    for suffix in ["json", "md"] {
        let _ = fs::remove_file(out.join(format!("{}.{suffix}", part.name)));
    }
    let ((said, _), (complained, complaints)) = (file("txt")?, file("log")?);
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(own);
    command
        .args(&part.arguments)
        .stdin(Stdio::null())
        .stdout(said)
        .stderr(complained)
        .env("RUST_BACKTRACE", "0");
    let child = command.spawn().with_context(|| format!("cannot start {}", part.name))?;
    let patience = Duration::from_secs(part.budget) * PATIENCE;
    let (status, stopped) = wait(child, patience, stop)?;
    let text = fs::read_to_string(&complaints).unwrap_or_default();
    if text.is_empty() {
        let _ = fs::remove_file(&complaints);
    }
    Ok(match stopped {
        Some(why) => Some(why),
        None if status.success() => None,
        None => Some(reason(&text).unwrap_or_else(|| format!("it ended with {status}"))),
    })
}

/// Returns a program's description of the error that ended it: from the last "Error:" to the end of
/// its paragraph.
fn reason(complaints: &str) -> Option<String> {
    let (_, error) = complaints.rsplit_once("Error: ")?;
    let lines = error.lines().take_while(|line| !line.starts_with("Stack backtrace"));
    let words: Vec<&str> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
    Some(words.join(" "))
}

/// Waits for a part, for no longer than it may take. Returns the reason if it was stopped.
fn wait(mut child: Child, patience: Duration, stop: &AtomicBool) -> Result<(ExitStatus, Option<String>)> {
    let began = Instant::now();
    let mut why = None;
    let mut told = None;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a part")? {
            return Ok((status, why));
        }
        if why.is_none() {
            if stop.load(Relaxed) {
                why = Some("interrupted".into());
            } else if began.elapsed() > patience {
                why = Some(format!("stopped: it took longer than {} s", patience.as_secs()));
            }
        }
        match told {
            None if why.is_some() => {
                let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                // The process may just have ended.
                let _ = pid.map(|pid| kill_process(pid, Signal::INT));
                told = Some(Instant::now());
            }
            Some(when) if when.elapsed() > GRACE => child.kill().context("cannot end a part")?,
            _ => {}
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_last_error_without_its_stack() {
        let text =
            "round 1\nError: early\nError: no lab\n\nCaused by:\n    not root\n\nStack backtrace:\n   0: x\n";
        assert_eq!(reason(text).as_deref(), Some("no lab Caused by: not root"));
        assert_eq!(reason("fine"), None);
    }

    #[test]
    fn a_part_that_takes_too_long_is_stopped() {
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        let (status, why) = wait(child, Duration::ZERO, &AtomicBool::new(false)).unwrap();
        assert!(!status.success() && why.unwrap().starts_with("stopped"));
        let child = Command::new("true").spawn().unwrap();
        let (status, why) = wait(child, Duration::from_secs(60), &AtomicBool::new(false)).unwrap();
        assert!(status.success() && why.is_none());
    }

    #[test]
    fn plots_are_those_that_were_drawn_since() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("old.svg"), "").unwrap();
        let before = drawn(folder.path());
        fs::write(folder.path().join("new.svg"), "").unwrap();
        fs::write(folder.path().join("other.txt"), "").unwrap();
        let new: Vec<_> = drawn(folder.path()).difference(&before).map(|(name, _)| name.clone()).collect();
        assert_eq!(new, ["new.svg"]);
    }
}
