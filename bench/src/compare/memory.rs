//! Memory that cached names take.

use super::{
    bout::{Bout, Rounds, Turn},
    section::Section,
    server::Kind,
    stats::Summary,
};
use crate::report::group;
use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::time::Instant;

/// Numbers of names.
const COUNTS: [u32; 2] = [100_000, 1_000_000];
const MIB: f64 = (1 << 20) as f64;

/// Memory of a server with so many names.
#[derive(Clone, Copy, Debug, Serialize)]
struct Filled {
    names: u32,
    bytes: u64,
    /// Time that it took to ask for all names once.
    seconds: f64,
    /// Share of the names that the server had to ask for again, in percent.
    forgotten: f64,
}

/// Results of one round of one server.
#[derive(Clone, Debug, Serialize)]
struct Growth {
    /// Memory with nothing cached, in bytes.
    empty: u64,
    filled: Vec<Filled>,
}

/// Head of the table.
const HEAD: &str = "server | empty, MiB | 100 k names, MiB | bytes a name | names/s | 1 M names, MiB | \
    bytes a name | names/s";

/// Measures all caches.
pub fn measure(bout: &Bout<'_>) -> Result<Section> {
    let rounds = bout.args.rounds.unwrap_or(1);
    let found = bout.rounds(rounds, |contestant| contestant.description.kind == Kind::Cache, grow)?;
    section(bout, &found)
}

/// Fills one server's cache step by step.
fn grow(turn: &mut Turn<'_>) -> Result<Growth> {
    let empty = turn.running.server.memory()?;
    let mut filled = Vec::new();
    for names in COUNTS {
        let began = Instant::now();
        turn.warm(names)?;
        let seconds = began.elapsed().as_secs_f64();
        turn.settle();
        let bytes = turn.running.server.memory()?;
        let forgotten = turn.forgotten(names)?;
        if forgotten > 1.0 {
            turn.remark(&format!(
                "of {} names it no longer had {forgotten:.0} % cached",
                group(names.into())
            ));
        }
        if bytes.saturating_sub(empty) < u64::from(names) {
            turn.remark("it allocates its whole cache when it starts");
        }
        filled.push(Filled { names, bytes, seconds, forgotten });
    }
    let title = &turn.contestant.description.title;
    let bytes: Vec<_> = filled.iter().map(|at| format!("{:.0}", at.bytes as f64 / MIB)).collect();
    eprintln!("memory: {title:<28} {:.0}, {} MiB", empty as f64 / MIB, bytes.join(", "));
    Ok(Growth { empty, filled })
}

fn section(bout: &Bout<'_>, found: &Rounds<Growth>) -> Result<Section> {
    let (mut rows, mut raw) = (Vec::new(), Map::new());
    for (index, rounds) in found {
        let contestant = &bout.contestants[*index].description;
        let Some(empty) = Summary::of(rounds.iter().map(|growth| growth.empty as f64)) else { continue };
        let mut row = vec![contestant.title.clone(), format!("{:.1}", empty.median / MIB)];
        for (nth, names) in COUNTS.into_iter().enumerate() {
            let of = |figure: &dyn Fn(&Growth, &Filled) -> f64| {
                Summary::of(rounds.iter().map(|growth| figure(growth, &growth.filled[nth])))
            };
            let Some(bytes) = of(&|_, filled| filled.bytes as f64) else { continue };
            let above =
                of(&|growth, filled| filled.bytes.saturating_sub(growth.empty) as f64 / f64::from(names));
            let rate = of(&|_, filled| f64::from(names) / filled.seconds);
            row.push(format!("{:.1}", bytes.median / MIB));
            row.push(above.map_or("-".into(), |above| group(above.median as u64)));
            row.push(rate.map_or("-".into(), |rate| group(rate.median as u64)));
        }
        rows.push(row);
        raw.insert(contestant.name.clone(), json!({ "rounds": rounds }));
    }
    Ok(Section {
        name: "memory",
        title: "Memory of 100 thousand and a million names".into(),
        note: "Memory is the proportional set size (PSS), files that are mapped included; bytes a name count the growth over \
               the size at the start. Names/s: rate of filling, each name asked once over kernel sockets, 400 \
               in flight; the names of the second column that had been asked for in the first are hits."
            .into(),
        head: HEAD,
        rows,
        remarks: bout.take_remarks(),
        raw: Value::Object(raw),
        seconds: 0.0,
    })
}
