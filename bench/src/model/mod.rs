//! `ringbench model`: model of the cost of an answer, checked against measurements.

pub mod hit;
pub mod link;
pub mod packet;

use crate::{
    gate, micro, output,
    plot::{self, Axis, Series},
    report::group,
};
use anyhow::{Context, Result};
use hit::{HitModel, Level, Point, popularity};
use link::{Class, Traffic};
use packet::{Compared, Mode, PacketModel, Range};
use serde::Serialize;
use serde_json::Value;
use std::{path::PathBuf, str::FromStr};

/// Fits a model of the cost of an answer to some measurements, prints its error for the others, and
/// the number of cores that 10, 25 and 100 Gbit/s would need.
///
/// Zero-copy and in-driver figures are estimates from what others published, not measurements: no
/// such NIC was available.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Output of `ringbench gate --json`.
    #[arg(long, value_name = "FILE")]
    pub gate: PathBuf,
    /// Output of `ringbench micro --json`.
    #[arg(long, value_name = "FILE")]
    pub micro: PathBuf,
    /// Output of `ringbench compare --measure saturation --json`, with the number of names that
    /// were cached. The model is fitted to the first; the others are for checking.
    #[arg(long = "compare", value_name = "NAMES=FILE")]
    pub compared: Vec<ComparedFile>,
    /// Mix of the traffic: share, and lengths of frames without check sequences. The default has
    /// names of the mean length of popular ones, EDNS, and two addresses, one HTTPS record or an
    /// SOA: calculated, not captured.
    #[arg(long, value_delimiter = ',', value_name = "SHARE:QUERY:ANSWER", default_values_t = MIX.map(String::from))]
    pub mix: Vec<String>,
    /// Speeds of links, in Gbit/s.
    #[arg(long, value_delimiter = ',', default_values_t = [10.0, 25.0, 100.0])]
    pub links: Vec<f64>,
    /// Names in the cache of each worker, for the links.
    #[arg(long, default_value_t = 1_000_000)]
    pub names: usize,
    /// Exponent of Zipf's law, for the links.
    #[arg(long, default_value_t = 1.0)]
    pub zipf: f64,
    /// Also write all figures as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Also write plots into this folder.
    #[arg(long, value_name = "FOLDER")]
    pub plots: Option<PathBuf>,
}

/// Default mix: A, AAAA, HTTPS, and names that do not exist. A name has 17 bytes on the wire;
/// frames are 42 bytes of headers, 12 of the DNS header, the question, an OPT of 11, and records
/// with compressed names.
const MIX: [&str; 4] = ["60:86:118", "20:86:142", "12:86:150", "8:86:161"];

/// File, and the number of names that were cached.
#[derive(Clone, Debug)]
pub struct ComparedFile {
    names: usize,
    path: PathBuf,
}

impl FromStr for ComparedFile {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (names, path) = text.split_once('=').context("write NAMES=FILE, as 10000=compare.json")?;
        let names = names.parse().with_context(|| format!("\"{names}\" is not a number of names"))?;
        Ok(ComparedFile { names, path: path.into() })
    }
}

/// Parts of the output of `ringbench gate` that the model needs.
#[derive(serde::Deserialize)]
struct Counts {
    cases: Vec<gate::Row>,
}

/// All results of the model.
#[derive(Debug, Serialize)]
struct Results {
    hit: HitModel,
    packet: Option<PacketModel>,
    hits: Vec<Point>,
    answers: Vec<Point>,
    traffic: Traffic,
    links: Vec<Need>,
    #[serde(skip)]
    hit_plot: Vec<Series>,
}

/// Needs of a link.
#[derive(Clone, Copy, Debug, Serialize)]
struct Need {
    gigabits: f64,
    mode: Mode,
    answers_per_second: f64,
    nanos: Range,
    cores: Range,
}

/// `ringbench model`.
pub fn run(args: &Args) -> Result<()> {
    let counts: Counts = output::read(&args.gate)?;
    let micro: micro::Results = output::read(&args.micro)?;
    let read = |file: &ComparedFile| Ok(Compared::new(file.names, output::read::<Value>(&file.path)?));
    let compared: Vec<Compared> = args.compared.iter().map(read).collect::<Result<_>>()?;
    let mix: Vec<Class> = args.mix.iter().map(|class| class.parse()).collect::<Result<_>>()?;
    let results = reckon(args, &counts.cases, &micro, &compared, &mix)?;
    print!("{}", results.text(args));
    output::json(args.json.as_deref(), &results)?;
    output::plots(args.plots.as_deref(), &results.plots()?)
}

fn reckon(
    args: &Args,
    counts: &[gate::Row],
    micro: &micro::Results,
    compared: &[Compared],
    mix: &[Class],
) -> Result<Results> {
    let count = |case: &str| {
        let found = counts.iter().find(|row| row.case == case).map(|row| row.instructions);
        found.with_context(|| format!("the counts lack the case {case}: ringbench gate --json"))
    };
    let hit = HitModel::fit(micro, count("hit")?)?;
    let turn = (count("turn-hit")? - count("hit")?).max(0.0) * hit.nanos_an_instruction;
    // The load of a comparison asks for all names equally often.
    let uniform = |names: usize| hit.contents(micro, names, 0.0);
    let packet = compared
        .first()
        .map(|first| PacketModel::fit(first, &hit, &uniform(first.names), turn))
        .transpose()?;
    let answers = packet.as_ref().map_or_else(Vec::new, |packet| packet.points(compared, &hit, uniform));
    let what = hit.contents(micro, args.names, args.zipf);
    let traffic = Traffic::new(mix);
    let mut links = Vec::new();
    for gigabits in &args.links {
        for mode in Mode::ALL {
            let Some(nanos) = packet.as_ref().and_then(|packet| packet.answer(mode, &hit, &what)) else {
                continue;
            };
            let answers = traffic.answers(*gigabits);
            let cores = |nanos: f64| answers * nanos / 1e9;
            let cores = Range { low: cores(nanos.low), high: cores(nanos.high) };
            links.push(Need { gigabits: *gigabits, mode, answers_per_second: answers, nanos, cores });
        }
    }
    let hits = hit.points(micro);
    let hit_plot = curves(&hit, micro);
    Ok(Results { hit, packet, hits, answers, traffic, links, hit_plot })
}

/// Returns the predictions as lines, with the measurements beside them.
fn curves(model: &HitModel, micro: &micro::Results) -> Vec<Series> {
    let mut series = Vec::new();
    for zipf in [0.0, 1.0] {
        let measured: Vec<_> = micro.hits.iter().filter(|row| row.zipf == zipf).collect();
        let Some(largest) = measured.iter().map(|row| row.names).max() else { continue };
        let predicted = |names: usize| {
            (names as f64, model.nanos(&model.contents(micro, names, zipf).beside_questions()))
        };
        // From 10 thousand on, with equal steps in each power of ten.
        let powers = (largest as f64 / 1e4).log10();
        let steps = (0..=24).map(|step| (1e4 * 10f64.powf(powers * f64::from(step) / 24.0)).round() as usize);
        series.push(Series {
            name: format!("predicted, {}", popularity(zipf)),
            points: steps.map(predicted).collect(),
        });
        series.push(Series {
            name: format!("measured, {}", popularity(zipf)),
            points: measured.iter().map(|row| (row.names as f64, row.nanos[0])).collect(),
        });
    }
    series
}

impl Results {
    fn text(&self, args: &Args) -> String {
        let mut lines = vec!["A hit, on the data plane alone".to_owned()];
        let HitModel { instructions, nanos_an_instruction, wait_left, page, pages, memory, .. } = &self.hit;
        lines.push(format!(
            "{instructions:.0} instructions at {nanos_an_instruction:.4} ns, and {:.0} % of the waits for memory remain when the \
             loads of a burst overlap; {page:.0} ns where the index's page is not among {pages:.0} that the processor remembers.",
            100.0 * wait_left
        ));
        for (nth, Level { bytes, nanos }) in memory.0.iter().enumerate() {
            let size = bytes.map_or("memory".into(), |bytes| {
                format!("L{}, {}", nth + 1, crate::machine::binary(bytes as u64))
            });
            lines.push(format!("  {size:<16} {nanos:>7.1} ns a load"));
        }
        points(&mut lines, &self.hits);
        if let Some(packet) = &self.packet {
            lines.push("\nAn answer, with its packet: veth, copy mode, two cores".into());
            lines.push(format!(
                "rings and kernel {:.0} ns (the bare responder), a worker's turn {:.0} ns, sockets {} ns.",
                packet.copy,
                packet.turn,
                packet.sockets.map_or("?".into(), |nanos| format!("{nanos:.0}"))
            ));
            points(&mut lines, &self.answers);
            self.links_text(args, &mut lines);
        } else {
            lines.push("\nPackets and links are left out: they need a comparison (--compare).".into());
        }
        lines.join("\n") + "\n"
    }

    fn links_text(&self, args: &Args, lines: &mut Vec<String>) {
        lines.push(format!(
            "\nCores that a full link needs, 100 % hits, {} names a worker, {}; a query takes {:.0} bytes on the wire and an answer \
             {:.0} (mix: {})",
            group(args.names as u64),
            popularity(args.zipf),
            self.traffic.query_wire,
            self.traffic.answer_wire,
            args.mix.join(", ")
        ));
        lines.push(format!(
            "{:>8}  {:<28} {:>12} {:>11} {:>13}  {}",
            "Gbit/s", "mode", "answers/s", "ns/answer", "cores", "figures are"
        ));
        for need in &self.links {
            let range = |Range { low, high }: Range, decimals: usize| {
                if low == high {
                    format!("{low:.decimals$}")
                } else {
                    format!("{low:.decimals$}-{high:.decimals$}")
                }
            };
            lines.push(format!(
                "{:>8}  {:<28} {:>12} {:>11} {:>13}  {}",
                need.gigabits,
                need.mode.name(),
                group(need.answers_per_second as u64),
                range(need.nanos, 0),
                range(need.cores, 1),
                need.mode.source()
            ));
        }
        lines.push(
            "Cores do nothing else and are shared evenly; plan for a third more. Estimates: see ZERO_COPY and IN_DRIVER in \
             bench/src/model/packet.rs for their sources."
                .into(),
        );
    }

    fn plots(&self) -> Result<Vec<(&'static str, String)>> {
        let axis = |label, log| Axis { label, log };
        let title = "A hit, predicted and measured";
        let hits = plot::lines(
            title,
            axis("names in the cache", true),
            axis("ns a hit, no kernel", false),
            &self.hit_plot,
        )?;
        let mut plots = vec![("model-hits.svg", hits)];
        if !self.links.is_empty() {
            let bars: Vec<_> = self
                .links
                .iter()
                .map(|need| plot::Bar {
                    name: format!("{} Gbit/s, {}", need.gigabits, need.mode.name()),
                    value: f64::midpoint(need.cores.low, need.cores.high),
                    low: need.cores.low,
                    high: need.cores.high,
                })
                .collect();
            plots.push((
                "model-links.svg",
                plot::bars("Cores that a full link needs, by the model", "cores", &bars)?,
            ));
        }
        Ok(plots)
    }
}

fn points(lines: &mut Vec<String>, points: &[Point]) {
    let width = points.iter().map(|point| point.what.len()).max().unwrap_or(0);
    for fitted in [true, false] {
        let chosen: Vec<&Point> = points.iter().filter(|point| point.fitted == fitted).collect();
        if chosen.is_empty() {
            continue;
        }
        lines.push((if fitted { "fitted to" } else { "checked against" }).into());
        for point in &chosen {
            let number =
                |number: f64| if number < 1000.0 { format!("{number:.1}") } else { group(number as u64) };
            lines.push(format!(
                "  {:<width$} measured {:>9}  predicted {:>9}  {:>+6.1} %",
                point.what,
                number(point.measured),
                number(point.predicted),
                point.error()
            ));
        }
        let worst = chosen.iter().map(|point| point.error().abs()).fold(0.0, f64::max);
        let mean = chosen.iter().map(|point| point.error().abs()).sum::<f64>() / chosen.len() as f64;
        lines.push(format!("  off by {mean:.1} % on average, {worst:.1} % at worst"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn counts() -> Vec<gate::Row> {
        let row = |(case, instructions): (&str, f64)| gate::Row {
            case: case.into(),
            instructions,
            baseline: None,
            goal: None,
            allocations: 0.0,
        };
        [("hit", 500.0), ("turn-hit", 600.0)].map(row).to_vec()
    }

    fn reckoned(extra: &[&str], compared: &[Compared]) -> (Args, Results) {
        let args = ["test", "--gate=g", "--micro=m"].iter().chain(extra);
        let args = Cli::parse_from(args).args;
        let mix: Vec<Class> = args.mix.iter().map(|class| class.parse().unwrap()).collect();
        let results = reckon(&args, &counts(), &hit::tests::micro(), compared, &mix).unwrap();
        (args, results)
    }

    #[test]
    fn cores_are_answers_times_nanoseconds() {
        let (args, results) = reckoned(&["--mix=1:60:60", "--links=10"], &[packet::tests::compared()]);
        let copy = results.links.iter().find(|need| need.mode == Mode::Copy).unwrap();
        assert!((copy.answers_per_second / 14.880952e6 - 1.0).abs() < 1e-6);
        assert!((copy.cores.low - 14.880952e6 * copy.nanos.low / 1e9).abs() < 1e-3, "{copy:?}");
        assert_eq!(results.links.len(), 4);
        let text = results.text(&args);
        assert!(text.contains("fitted to") && text.contains("checked against"), "{text}");
        assert!(text.contains("estimate: drivers"), "{text}");
        assert_eq!(results.plots().unwrap().len(), 2);
    }

    #[test]
    fn without_a_comparison_links_are_left_out() {
        let (args, results) = reckoned(&[], &[]);
        assert!(results.links.is_empty() && results.text(&args).contains("--compare"));
    }
}
