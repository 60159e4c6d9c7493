//! Cost of misses: the highest rate of a server by share of hits.

use super::{
    bout::{Bout, Rounds, Turn},
    sample::{Load, Sample},
    saturation,
    search::{Found, Search, Trial, highest},
    section::{Section, with_spread},
    server::Kind,
    stats::Summary,
};
use crate::report::group;
use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Shares of hits, in percent, in the order of measurement.
const SHARES: [u8; 4] = [100, 99, 95, 80];
/// Share of queries that may go unanswered at the highest rate, in percent.
const LOSS: f64 = 1.0;

/// Share of unanswered queries, in percent, up to which a failed rate is tried again.
const CLOSE: f64 = 5.0;

/// Results of a server at one share of hits.
#[derive(Clone, Debug, Serialize)]
struct Point {
    share: u8,
    /// Highest rate at which the server left at most [`LOSS`] unanswered.
    rate: f64,
    /// Sample at that rate; `None` if no rate that was tried met the objective.
    at_rate: Option<Sample>,
    /// Sample at twice that rate.
    overloaded: Sample,
}

/// Head of the table.
const HEAD: &str = "server, hits asked for | queries/s taken | min-max | hits/s | misses/s | CPU/answer, ns | \
    at twice: hits/s | misses/s | unanswered, %";

/// Measures all caches.
pub fn measure(bout: &Bout<'_>) -> Result<Section> {
    let rounds = bout.args.rounds.unwrap_or(2);
    let seconds = bout.args.seconds.unwrap_or(0.3);
    // Each round starts its search at the rate where the last round ended.
    let mut known = BTreeMap::new();
    let found = bout.rounds(
        rounds,
        |contestant| contestant.description.kind == Kind::Cache,
        |turn| {
            turn.warm(bout.args.names)?;
            let name = &turn.contestant.description.name;
            let points = curve(turn, seconds, known.get(name))?;
            let rates: Vec<f64> = points.iter().map(|point| point.rate).collect();
            let words: Vec<_> = rates.iter().map(|rate| group(*rate as u64)).collect();
            eprintln!("hits: {:<28} {} queries/s", turn.contestant.description.title, words.join(", "));
            known.insert(name.clone(), rates);
            Ok(points)
        },
    )?;
    section(bout, rounds, seconds, &found)
}

/// Measures one server at all shares of hits.
fn curve(turn: &Turn<'_>, seconds: f64, known: Option<&Vec<f64>>) -> Result<Vec<Point>> {
    // First guess, at 100 %: the rate of answers when asked for more than it can answer.
    let mut guess = 0.9 * turn.load(&saturation::load(seconds))?.answers_per_second();
    let mut points = Vec::new();
    for (nth, share) in SHARES.into_iter().enumerate() {
        let load = |qps| Load { random_share: 100.0 - f64::from(share), qps: Some(qps), seconds };
        let near = known.map(|rates| rates[nth]).filter(|rate| *rate > 0.0);
        let mut best = None;
        if let Some(first) = near {
            (_, best) = search(turn, Search { first, stride: 1.12, close: 1.06, tries: 2 }, &load)?;
        }
        // A search without result may be another program's doing, so a wider one follows.
        if best.is_none() {
            let wide = Search { first: guess, stride: 1.5, close: 1.06, tries: 5 };
            let (found, sample) = search(turn, wide, &load)?;
            if !found.bounded {
                turn.remark(&format!("at {share} % hits no rate that was tried was too high for it"));
            }
            best = sample;
        }
        // Rate that was sent, not rate that was ordered: the generator has limits too.
        let rate = best.as_ref().map_or(0.0, |best| best.queries_per_second);
        let bearable = if rate > 0.0 { rate } else { guess / 8.0 };
        let overloaded = turn.load(&load(2.0 * bearable))?;
        turn.settle();
        points.push(Point { share, rate, at_rate: best, overloaded });
        guess = bearable * if share > 95 { 0.8 } else { 0.5 };
    }
    Ok(points)
}

/// Returns the search's result, and the sample at the highest rate that the server took.
fn search(turn: &Turn<'_>, search: Search, load: &impl Fn(f64) -> Load) -> Result<(Found, Option<Sample>)> {
    let mut best: Option<Sample> = None;
    let found = highest(search, |rate| {
        let sample = turn.try_load(&load(rate))?;
        let trial = match sample.meets(&load(rate), LOSS) {
            true => Trial::Met,
            false if sample.unanswered <= CLOSE => Trial::Close,
            false => Trial::Missed,
        };
        let reached = best.as_ref().map_or(0.0, |best| best.queries_per_second);
        if trial == Trial::Met && sample.queries_per_second > reached {
            best = Some(sample);
        }
        Ok(trial)
    })?;
    if let Some(sample) = &best {
        turn.remark_faults(sample, &load(found.rate));
    }
    Ok((found, best))
}

fn section(bout: &Bout<'_>, rounds: u16, seconds: f64, found: &Rounds<Vec<Point>>) -> Result<Section> {
    let (mut rows, mut raw) = (Vec::new(), Map::new());
    let mut rates = BTreeMap::new();
    for (index, curves) in found {
        let contestant = &bout.contestants[*index].description;
        for (nth, share) in SHARES.into_iter().enumerate() {
            let points: Vec<&Point> = curves.iter().map(|curve| &curve[nth]).collect();
            let Some(rate) = Summary::of(points.iter().map(|point| point.rate)) else { continue };
            let middle = |figure: &dyn Fn(&Sample) -> f64, overloaded: bool| -> String {
                let samples = points.iter().filter_map(|point| {
                    if overloaded { Some(&point.overloaded) } else { point.at_rate.as_ref() }
                });
                Summary::of(samples.map(figure)).map_or("-".into(), |s| group(s.median as u64))
            };
            let [median, spread] = with_spread(rate);
            rows.push(vec![
                format!("{}, {share} %", contestant.title),
                median,
                spread,
                middle(&|sample| sample.hits_per_second, false),
                middle(&|sample| sample.misses_per_second, false),
                middle(&|sample| sample.cpu_nanos, false),
                middle(&|sample| sample.hits_per_second, true),
                middle(&|sample| sample.misses_per_second, true),
                middle(&|sample| sample.unanswered, true),
            ]);
            rates.insert((share, contestant.name.as_str()), rate.median);
        }
        raw.insert(contestant.name.clone(), json!({ "rounds": curves }));
    }
    let remarks = [best_of_the_others(&rates), bout.take_remarks()].concat();
    Ok(Section {
        name: "hits",
        title: "The highest rate with little loss, by share of hits".into(),
        note: format!(
            "Queries for random names, each asked once, are mixed in; the upstream says that they do not exist. The rate taken is \
             the highest rate at which at most {LOSS} % of the queries got no answer, searched for in steps of \
             {seconds} s; then each is asked for twice that. Medians of {rounds} rounds in turns."
        ),
        head: HEAD,
        rows,
        remarks,
        raw: Value::Object(raw),
        seconds: 0.0,
    })
}

/// Returns the ratio of ringdnsd over AF_XDP to the best of the peers, at each share.
fn best_of_the_others(rates: &BTreeMap<(u8, &str), f64>) -> Vec<String> {
    let against = |share: u8| {
        let ours = rates.get(&(share, "ringdnsd"))?;
        let peers = rates.iter().filter(|((of, name), _)| *of == share && !name.starts_with("ringdnsd"));
        let ((_, name), best) = peers.max_by(|a, b| a.1.total_cmp(b.1))?;
        Some(format!("{:.2} times {name} at {share} %", ours / best))
    };
    let ratios: Vec<_> = SHARES.into_iter().filter_map(against).collect();
    if ratios.is_empty() {
        return Vec::new();
    }
    vec![format!("ringdnsd over AF_XDP against the best of its peers: {}", ratios.join(", "))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_peer_is_no_ringdnsd() {
        let rates = BTreeMap::from([
            ((80, "ringdnsd"), 60.0),
            ((80, "ringdnsd-kernel"), 90.0),
            ((80, "bind"), 20.0),
            ((80, "unbound"), 40.0),
        ]);
        assert_eq!(
            best_of_the_others(&rates),
            ["ringdnsd over AF_XDP against the best of its peers: 1.50 times unbound at 80 %"]
        );
        assert!(best_of_the_others(&BTreeMap::new()).is_empty());
    }
}
