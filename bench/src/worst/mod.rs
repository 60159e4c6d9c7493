//! `ringbench worst`: searches for the packets that cost the data plane most.
//!
//! A [genome] describes packets and the set-up of the server that they come to. Changes of the costliest
//! genomes so far are [judged](count) by the instructions that valgrind counts, a batch in one run.

mod count;
mod genome;
pub mod kept;
mod measure;
mod mutate;
mod scene;
mod search;
mod serve;
mod site;

use crate::{built, instructions::shapes::SHAPES, run::rate};
use anyhow::{Context, Result};
use count::Valgrind;
use genome::{FRAME_MAX, FRAME_MIN, Genome};
use scene::Class;
use search::{Niche, Reach, Search};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// Searches for the shapes of packets that take most instructions.
///
/// Prints the ten worst of each class, each with its instructions a packet and a form that --form takes:
/// answers from the cache, those to queries with cookies, and packets that are refused or dropped. Equal
/// seeds search in the same order.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Time to search, in seconds.
    #[arg(long, default_value_t = 300)]
    pub seconds: u64,
    /// Seed of all random draws.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Longest frames to search among, in bytes without VLAN tags.
    #[arg(long, value_name = "BYTES", default_value_t = FRAME_MAX, value_parser = frame_max)]
    pub frame: usize,
    /// Number of valgrinds that run at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    pub jobs: u8,
    /// Count this form, and do not search; may be given several times.
    #[arg(long = "form", value_name = "JSON")]
    pub forms: Vec<Genome>,
    /// Begin with the forms of this file too.
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Write the worst form of each class into this file, for bench/gate.sh.
    #[arg(long, value_name = "FILE", conflicts_with = "forms")]
    pub write: Option<PathBuf>,
    /// Measure answers a processor second of the given forms beside those of plain hits, over AF_XDP between
    /// two network namespaces, and do not search. Needs root.
    #[arg(long)]
    pub measure: bool,
    /// Measure the shapes of bench/gate.sh too.
    #[arg(long, requires = "measure")]
    pub shapes: bool,
    /// Rounds of --measure; medians are printed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// Duration of a round of --measure of each form, in seconds.
    #[arg(long, default_value_t = 1.5, value_parser = rate)]
    pub round_seconds: f64,
    /// Niceness of all programs of --measure.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(i8).range(-20..=19))]
    pub nice: i8,
    /// Serve the form on this interface, for --measure.
    #[arg(long, value_name = "INTERFACE", hide = true)]
    pub serve: Option<String>,
    /// Count also in a build without the profile of the release builds.
    #[arg(long)]
    pub any_build: bool,
    /// Do the work of the forms in this file, one a line, for valgrind.
    #[arg(long, value_name = "FILE", hide = true)]
    pub count: Option<PathBuf>,
    /// Do the work of a form, for valgrind.
    #[arg(long, value_name = "JSON", hide = true)]
    pub work: Option<Genome>,
}

fn frame_max(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes) if (FRAME_MIN..=FRAME_MAX).contains(&bytes) => Ok(bytes),
        _ => Err(format!("the longest frame must have {FRAME_MIN} to {FRAME_MAX} bytes")),
    }
}

/// Forms that are printed of each niche.
const PRINTED: usize = 10;
/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(20);

/// All niches.
const NICHES: [Niche; 6] = [
    (Class::Hit, Reach::Default),
    (Class::Cookie, Reach::Default),
    (Class::Refused, Reach::Default),
    (Class::Hit, Reach::Configured),
    (Class::Cookie, Reach::Configured),
    (Class::Refused, Reach::Configured),
];

/// `ringbench worst`.
pub fn run(args: &Args) -> Result<()> {
    if let Some(path) = &args.count {
        return count::count_file(path);
    }
    if let Some(genome) = &args.work {
        return count::count_here(genome);
    }
    if let (Some(interface), [genome]) = (&args.serve, &args.forms[..]) {
        return serve::run(interface, genome);
    }
    if !args.any_build {
        built::ensure_shipped()?;
    }
    let mut judge = Valgrind { jobs: args.jobs.into() };
    let kept = args.from.as_deref().map_or(Ok(Vec::new()), kept::read)?;
    let kept = kept.iter().map(|kept| Ok((kept.name(), kept.form.parse()?)));
    let kept = kept.collect::<Result<Vec<(String, Genome)>>>()?;
    if args.measure {
        let given = args.forms.iter().map(|genome| (genome.to_string(), genome.clone()));
        let settings =
            measure::Settings { rounds: args.rounds, seconds: args.round_seconds, nice: args.nice };
        let shapes = SHAPES.iter().filter(|_| args.shapes);
        let shapes = shapes.map(|shape| (shape.name.to_owned(), Genome::of((shape.form)())));
        return measure::measure(&kept.into_iter().chain(shapes).chain(given).collect::<Vec<_>>(), &settings);
    }
    if !args.forms.is_empty() {
        return tell_costs(&args.forms, &mut judge);
    }
    search(args, kept.into_iter().map(|(_, genome)| genome).collect(), &mut judge)
}

/// Searches, prints what was found, and writes it if asked to.
fn search(args: &Args, others: Vec<Genome>, judge: &mut Valgrind) -> Result<()> {
    let (began, mut told) = (Instant::now(), Instant::now());
    let mut search = Search::new(args.seed, args.frame);
    search.begin(others, judge)?;
    while began.elapsed() < Duration::from_secs(args.seconds) {
        search.step(judge)?;
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            eprintln!(
                "{:>6.0} s, {} candidates: {}",
                began.elapsed().as_secs_f64(),
                search.judged,
                summary(&search)
            );
        }
    }
    println!("{} candidates in {:.0} s, seed {}", search.judged, began.elapsed().as_secs_f64(), args.seed);
    for niche in NICHES {
        println!("\n{}, goal {:.0}", kept::name(niche), kept::goal(niche.0));
        for found in search.worst(niche).into_iter().take(PRINTED) {
            println!("{:>10.1} {}", found.cost, found.genome);
        }
    }
    let Some(path) = &args.write else { return Ok(()) };
    kept::write(path, NICHES.into_iter().filter_map(|niche| Some((niche, *search.worst(niche).first()?))))
}

/// Returns the highest cost of each niche in a line.
fn summary(search: &Search) -> String {
    let costs = NICHES
        .map(|niche| search.worst(niche).first().map_or("-".into(), |found| format!("{:.0}", found.cost)));
    costs.join(" ")
}

fn tell_costs(forms: &[Genome], judge: &mut Valgrind) -> Result<()> {
    let verdicts = search::Judge::judge(judge, forms)?;
    for (genome, verdict) in forms.iter().zip(verdicts) {
        let (class, cost) = verdict.with_context(|| {
            format!("{genome} has no class: some packets are answered from the cache and others not, or need the control plane")
        })?;
        println!("{cost:>10.1} {} {genome}", kept::name((class, reach(genome))));
    }
    Ok(())
}

fn reach(genome: &Genome) -> Reach {
    if genome.site.is_default() { Reach::Default } else { Reach::Configured }
}
