//! Answers a second at saturation, all names cached, and the processor time of an answer.

use super::{
    bout::{Bout, Rounds},
    floors::{self, Floor},
    sample::{Load, Sample},
    section::{Section, empty_row, with_spread},
    stats::Summary,
};
use crate::report::group;
use anyhow::Result;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Returns the load: as many names of the list as the link takes.
pub fn load(seconds: f64) -> Load {
    Load { random_share: 0.0, qps: None, seconds }
}

/// Most batches of rounds. A disturbance of the machine ends; a slower program stays slower.
const BATCHES_MAX: usize = 3;

/// Head of the table.
const HEAD: &str = "server | answers/s | min-max | to Unbound | to bare | CPU/answer, ns | frame, bytes";

/// Measures all servers. While a ratio is below its floor, it measures another batch of rounds, and
/// the medians are those of all rounds.
pub fn measure(bout: &Bout<'_>, floors: &[Floor]) -> Result<(Section, Rounds<Sample>)> {
    let args = bout.args;
    let (rounds, seconds) = if args.short { (5, 1.0) } else { (3, 1.5) };
    let rounds = args.rounds.unwrap_or(rounds);
    let seconds = args.seconds.unwrap_or(seconds);
    let mut found = batch(bout, rounds, seconds)?;
    for _ in 1..BATCHES_MAX {
        if floors::judge(floors, bout.contestants, &found)?.iter().all(floors::Verdict::holds) {
            break;
        }
        eprintln!("saturation: a ratio is below its floor; {rounds} more rounds");
        for ((_, samples), (_, more)) in found.iter_mut().zip(batch(bout, rounds, seconds)?) {
            samples.extend(more);
        }
    }
    let rounds = found.iter().map(|(_, samples)| samples.len()).max().unwrap_or(0);
    let note = format!(
        "Every name cached, every query a hit; the generator sends more than any server answers. Medians of {rounds} \
         rounds in turns, {seconds} s each."
    );
    Ok((section(bout, note, &found), found))
}

fn batch(bout: &Bout<'_>, rounds: u16, seconds: f64) -> Result<Rounds<Sample>> {
    bout.rounds(
        rounds,
        |_| true,
        |turn| {
            turn.warm(bout.args.names)?;
            let sample = turn.load(&load(seconds))?;
            eprintln!(
                "saturation: {:<28} {:>10} answers/s",
                turn.contestant.description.title,
                group(sample.answers_per_second() as u64)
            );
            Ok(sample)
        },
    )
}

/// Medians of answers a second and of processor time an answer, by server.
type Medians = BTreeMap<usize, [Summary; 2]>;

/// Returns the ratios of the medians: of answers a second, and of answers a processor second.
fn ratios(medians: &Medians, of: usize, to: usize) -> Option<[f64; 2]> {
    let ([rate, cpu], [their_rate, their_cpu]) = (medians.get(&of)?, medians.get(&to)?);
    Some([rate.median / their_rate.median, their_cpu.median / cpu.median])
}

fn section(bout: &Bout<'_>, note: String, found: &Rounds<Sample>) -> Section {
    let medians: Medians = found
        .iter()
        .filter_map(|(index, samples)| {
            let rate = Summary::of(samples.iter().map(Sample::answers_per_second))?;
            Some((*index, [rate, Summary::of(samples.iter().map(|sample| sample.cpu_nanos))?]))
        })
        .collect();
    let place = |name: &str| bout.contestants.iter().position(|c| c.description.name == name);
    let bare = place("responder");
    let unbound = place("unbound");
    let mut rows = Vec::new();
    let mut raw = Map::new();
    for (index, samples) in found {
        let contestant = &bout.contestants[*index].description;
        let Some([rate, cpu]) = medians.get(index).copied() else {
            rows.push(empty_row(&contestant.title, HEAD));
            continue;
        };
        let ratios = |to: Option<usize>| ratios(&medians, *index, to?);
        let words = |to| ratios(to).map_or("-".into(), |[rate, cpu]| format!("{rate:.2} / {cpu:.2}"));
        let bytes = samples.iter().map(|sample| sample.answer_bytes).sum::<f64>() / samples.len() as f64;
        let [median, spread] = with_spread(rate);
        rows.push(vec![
            contestant.title.clone(),
            median,
            spread,
            words(unbound),
            words(bare),
            group(cpu.median as u64),
            format!("{bytes:.0}"),
        ]);
        let value = json!({
            "answers_per_second": rate,
            "cpu_nanos_per_answer": cpu,
            "ratio_to_unbound": ratios(unbound),
            "ratio_to_responder": ratios(bare),
            "rounds": samples,
        });
        raw.insert(contestant.name.clone(), value);
    }
    let remark = "Ratios: of answers a second / of answers a processor second. On a machine with other work trust \
                  the latter";
    Section {
        name: "saturation",
        title: "Answers a second at saturation, 100 % hits".into(),
        note,
        head: HEAD,
        rows,
        remarks: [vec![remark.to_owned()], bout.take_remarks()].concat(),
        raw: Value::Object(raw),
        seconds: 0.0,
    }
}
