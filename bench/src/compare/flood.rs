//! Effect of a flood of random names on all other queries.

use super::{
    bout::{Bout, Rounds, Turn},
    sample::Load,
    section::{Section, micros},
    server::Kind,
    stats::Summary,
};
use crate::report::{figure, group, of_generator};
use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::{thread, time::Duration};

/// Queries a second for names that exist.
const LEGITIMATE: f64 = 2_000.0;
/// Queries a second for random names.
const FLOOD: f64 = 60_000.0;
/// Duration of the flood, in seconds.
const LASTS: f64 = 5.0;
/// Time before and after the flood that is measured, in seconds.
const AROUND: f64 = 2.0;
/// Time that the flood's generator takes to start and reach a steady rate.
const BEGINS: Duration = Duration::from_millis(700);

/// Outcome of the legitimate queries of one phase.
#[derive(Clone, Copy, Debug, Serialize)]
struct Legitimate {
    hits_per_second: f64,
    /// Share of queries without a right answer within a second, in percent.
    unanswered: f64,
    p50_nanos: f64,
    p99_nanos: f64,
    /// Send lag of the generator at the 99th percentile, which is part of the latencies.
    lag_p99_nanos: f64,
}

/// Results of one round of one server.
#[derive(Clone, Copy, Debug, Serialize)]
struct Course {
    /// Results before, during and after the flood.
    phases: [Legitimate; 3],
    /// Answers a second to random names during the flood.
    flood_answers_per_second: f64,
    flood_queries_per_second: f64,
}

/// Head of the table.
const HEAD: &str = "server | before: hits/s | p99, µs | during: hits/s | p99, µs | after: hits/s | p99, µs | \
    send lag p99, µs | flood: queries/s | answers/s";

/// Measures all caches.
pub fn measure(bout: &Bout<'_>) -> Result<Section> {
    let rounds = bout.args.rounds.unwrap_or(1);
    let found = bout.rounds(
        rounds,
        |contestant| contestant.description.kind == Kind::Cache,
        |turn| {
            turn.warm(bout.args.names)?;
            let course = course(turn)?;
            let words: Vec<_> = course
                .phases
                .iter()
                .map(|phase| format!("{:.0}/s p99 {} µs", phase.hits_per_second, micros(phase.p99_nanos)))
                .collect();
            eprintln!("flood: {:<28} {}", turn.contestant.description.title, words.join(", "));
            Ok(course)
        },
    )?;
    section(bout, rounds, &found)
}

fn section(bout: &Bout<'_>, rounds: u16, found: &Rounds<Course>) -> Result<Section> {
    let (mut rows, mut raw) = (Vec::new(), Map::new());
    for (index, courses) in found {
        let contestant = &bout.contestants[*index].description;
        let middle = |figure: &dyn Fn(&Course) -> f64| Summary::of(courses.iter().map(figure));
        let Some(flood) = middle(&|course| course.flood_answers_per_second) else { continue };
        let mut row = vec![contestant.title.clone()];
        for phase in 0..3 {
            let hits = middle(&|course| course.phases[phase].hits_per_second);
            let p99 = middle(&|course| course.phases[phase].p99_nanos);
            row.push(hits.map_or("-".into(), |hits| group(hits.median as u64)));
            row.push(p99.map_or("-".into(), |p99| micros(p99.median)));
        }
        row.push(middle(&|c| c.phases[1].lag_p99_nanos).map_or("-".into(), |lag| micros(lag.median)));
        row.push(
            middle(&|c| c.flood_queries_per_second).map_or("-".into(), |asked| group(asked.median as u64)),
        );
        row.push(group(flood.median as u64));
        rows.push(row);
        raw.insert(contestant.name.clone(), json!({ "rounds": courses }));
    }
    Ok(Section {
        name: "flood",
        title: "Before, during and after a flood of random names".into(),
        note: format!(
            "{} queries a second for cached names, over kernel sockets, timed from when they were due; for {LASTS} s {} \
             queries a second for random names come with them, each asked once. The send lag is the generator's own, \
             during the flood, and part of the times. Medians of {rounds} rounds in turns.",
            group(LEGITIMATE as u64),
            group(FLOOD as u64)
        ),
        head: HEAD,
        rows,
        remarks: bout.take_remarks(),
        raw: Value::Object(raw),
        seconds: 0.0,
    })
}

fn course(turn: &Turn<'_>) -> Result<Course> {
    let bout = turn.bout;
    let before = legitimate(turn, AROUND)?;
    let load = Load { random_share: 100.0, qps: Some(FLOOD), seconds: LASTS };
    let mut generator = bout.generator();
    generator.args(bout.arguments(&load));
    let (during, report) = thread::scope(|scope| {
        let flood = scope.spawn(move || of_generator(&mut generator));
        thread::sleep(BEGINS);
        let during = legitimate(turn, LASTS - 1.0);
        (during, flood.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let report = report?;
    let after = legitimate(turn, AROUND)?;

    let asked = figure(&report, "/traffic/queries_per_second")?;
    if asked < 0.95 * FLOOD {
        turn.remark("the generator made less of a flood than was ordered");
    }
    let answered = report["response_rcodes"]["NXDOMAIN"].as_f64().unwrap_or(0.0);
    let share = answered / report["sent"]["queries"].as_f64().unwrap_or(f64::INFINITY);
    Ok(Course {
        phases: [before, during?, after],
        flood_answers_per_second: share * asked,
        flood_queries_per_second: asked,
    })
}

/// Asks for cached names at the legitimate rate for so many seconds.
fn legitimate(turn: &Turn<'_>, seconds: f64) -> Result<Legitimate> {
    let arguments = turn.bout.socket_arguments(turn.bout.args.names, seconds, Some(LEGITIMATE));
    let report = turn.bout.generate(turn.bout.urgent_generator(), &arguments)?;
    let figure = |pointer: &str| figure(&report, pointer);
    let hits = figure("/response_rcodes/NOERROR").unwrap_or(0.0);
    Ok(Legitimate {
        hits_per_second: hits / figure("/seconds")?,
        unanswered: 100.0 * (1.0 - hits / figure("/listed/sent")?.max(1.0)),
        p50_nanos: figure("/listed/latency_ns/p50")?,
        p99_nanos: figure("/listed/latency_ns/p99")?,
        lag_p99_nanos: figure("/send_lag_ns/p99")?,
    })
}
