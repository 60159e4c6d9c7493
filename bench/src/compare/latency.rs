//! Latency at half of each server's own maximum, and ringdnsd's latency at the same rate.

use super::{
    bout::{Bout, Turn},
    sample::{Load, Sample},
    saturation,
    section::{Section, empty_row, micros},
    stats::Summary,
};
use crate::report::group;
use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Time for which the maximum is measured, in seconds.
const MAXIMUM: f64 = 0.5;

/// Results of one round of one server.
#[derive(Debug, Serialize)]
struct Pair {
    /// Half of the server's answers a second at saturation.
    rate: f64,
    sample: Sample,
    /// Sample of ringdnsd over AF_XDP at the same rate, in the same round.
    ringdnsd: Option<Sample>,
}

/// Head of the table.
const HEAD: &str = "server | queries/s | p50, µs | p99, µs | p99 min-max | p99.9, µs | unanswered, % | \
    ringdnsd: p50 | p99 | p99.9 | p99 to ringdnsd's";

/// Measures all servers.
pub fn measure(bout: &Bout<'_>) -> Result<Section> {
    let rounds = bout.args.rounds.unwrap_or(2);
    let seconds = bout.args.seconds.unwrap_or(1.5);
    let load = |rate: f64| Load { random_share: 0.0, qps: Some(rate), seconds };
    let mut pairs: Vec<Vec<Pair>> = bout.contestants.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        let found = bout.rounds(
            1,
            |_| true,
            |turn: &mut Turn<'_>| {
                turn.warm(bout.args.names)?;
                let rate = turn.load(&saturation::load(MAXIMUM))?.answers_per_second() / 2.0;
                turn.settle();
                let sample = turn.load(&load(rate))?;
                eprintln!(
                    "latency: {:<28} p99 {:>8} µs at {} queries/s",
                    turn.contestant.description.title,
                    micros(sample.latency_nanos[1] as f64),
                    group(rate as u64)
                );
                Ok((rate, sample))
            },
        )?;
        let mut round: Vec<(usize, Pair)> = Vec::new();
        for (index, samples) in found {
            round.extend(
                samples.into_iter().map(|(rate, sample)| (index, Pair { rate, sample, ringdnsd: None })),
            );
        }
        bout.rounds(
            1,
            |contestant| contestant.description.name == "ringdnsd",
            |turn| {
                turn.warm(bout.args.names)?;
                for (_, pair) in &mut round {
                    pair.ringdnsd = Some(turn.load(&load(pair.rate))?);
                }
                Ok(())
            },
        )?;
        for (index, pair) in round {
            pairs[index].push(pair);
        }
    }
    section(bout, rounds, seconds, &pairs)
}

fn section(bout: &Bout<'_>, rounds: u16, seconds: f64, pairs: &[Vec<Pair>]) -> Result<Section> {
    let (mut rows, mut raw) = (Vec::new(), Map::new());
    for (contestant, pairs) in bout.contestants.iter().zip(pairs) {
        let title = &contestant.description.title;
        let own = |quantile: usize| {
            Summary::of(pairs.iter().map(|pair| pair.sample.latency_nanos[quantile] as f64))
        };
        let ours = |quantile: usize| {
            let samples = pairs.iter().filter_map(|pair| pair.ringdnsd.as_ref());
            Summary::of(samples.map(|sample| sample.latency_nanos[quantile] as f64))
        };
        let Some(p99) = own(1) else {
            rows.push(empty_row(title, HEAD));
            continue;
        };
        let middle =
            |figure: &dyn Fn(&Pair) -> f64| Summary::of(pairs.iter().map(figure)).map_or(0.0, |s| s.median);
        let time = |summary: Option<Summary>| summary.map_or("-".into(), |s| micros(s.median));
        rows.push(vec![
            title.clone(),
            group(middle(&|pair| pair.rate) as u64),
            time(own(0)),
            micros(p99.median),
            format!("{}-{}", micros(p99.min), micros(p99.max)),
            time(own(2)),
            format!("{:.2}", middle(&|pair| pair.sample.unanswered)),
            time(ours(0)),
            time(ours(1)),
            time(ours(2)),
            ours(1).map_or("-".into(), |ours| format!("{:.2}", p99.median / ours.median)),
        ]);
        raw.insert(contestant.description.name.clone(), json!({ "rounds": pairs }));
    }
    Ok(Section {
        name: "latency",
        title: "Latency at half of each server's own maximum, 100 % hits".into(),
        note: format!(
            "An open loop at half of the answers a second that the server gave at saturation just before; times count from \
             when a query was due. Beside it ringdnsd over AF_XDP at the same rate, in the same round. Medians of {rounds} \
             rounds, {seconds} s each."
        ),
        head: HEAD,
        rows,
        remarks: bout.take_remarks(),
        raw: Value::Object(raw),
        seconds: 0.0,
    })
}
