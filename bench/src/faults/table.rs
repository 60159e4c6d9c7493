//! Results as text.

use super::{Episode, Phase, Results, load::Class};
use crate::report::group;
use serde_json::Value;
use std::fmt::Write;

/// Returns the line of a fault, printed as the run proceeds.
pub fn line(episode: &Episode) -> String {
    let p99 = |phase: &Phase| format!("{} {:.0}", phase.when, phase.load.hits.p99 as f64 / 1000.0);
    let unanswered: u64 = episode.phases.iter().map(|phase| phase.unanswered).sum();
    let p99: Vec<_> = episode.phases.iter().map(p99).collect();
    format!("{}: {unanswered} unanswered; p99 of hits in microseconds: {}", episode.name, p99.join(", "))
}

/// Returns all results as Markdown.
pub fn render(results: &Results) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, results);
    text
}

fn write(text: &mut String, results: &Results) -> std::fmt::Result {
    let Results { qps, random_share, seconds, nice, kernel, processor, machine_load, episodes, sums } =
        results;
    writeln!(
        text,
        "{} queries/s over AF_XDP, {random_share} % of them for names never asked before; {seconds} s before, during and after \
         each fault. veth, copy mode, two cores: ringdnsd on one; the generator, the upstream and Redis on the other. Linux {kernel}, \
         {processor}, load {machine_load:.1} before, nice {nice}. Latencies in microseconds, from when a query was due; lag: delay within which 99 % of all \
         queries left, which the generator causes and which is part of all latencies. Lost: without an answer; unanswered: of these, hits and misses that \
         had reached the appliance. The others were lost on the link, whose queue holds 256 frames while other work has a core.\n",
        group(*qps as u64)
    )?;
    writeln!(
        text,
        "| fault | | hit rate | hits | lost | p50 | p99 | p99.9 | misses | lost | p50 | p99 | SERVFAIL | unanswered | lag | Redis, rows, memory |"
    )?;
    writeln!(text, "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|")?;
    for episode in episodes {
        for (nth, phase) in episode.phases.iter().enumerate() {
            let name = if nth == 0 { episode.name.as_str() } else { "" };
            let Phase { when, load, .. } = phase;
            let count = |name: &str| phase.total[name].as_f64().unwrap_or(0.0);
            let rate = 100.0 * count("hit") / count("received").max(1.0);
            write!(text, "| {name} | {when} | {rate:.1} % | {} | ", class(&load.hits, true))?;
            writeln!(
                text,
                "{} | {} | {} | {} | {} |",
                class(&load.misses, false),
                load.servfail,
                phase.unanswered,
                micros(load.lag_p99),
                noted(episode, phase)
            )?;
        }
    }
    writeln!(text, "\n| fault | what happens |\n|---|---|")?;
    for Episode { name, what, .. } in episodes {
        writeln!(text, "| {name} | {what} |")?;
    }
    writeln!(
        text,
        "\n| Redis | received | hits | punted | unaccounted for | lookups | stored | rows handed on | rows in ClickHouse |"
    )?;
    writeln!(text, "|---|--:|--:|--:|--:|--:|--:|--:|--:|")?;
    for sums in sums {
        let number =
            |of: &Value, name: &str| of[name].as_i64().map_or("-".into(), |number| group(number as u64));
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            format!("{:?}", sums.scene).to_lowercase(),
            number(&sums.total, "received"),
            number(&sums.total, "hit"),
            number(&sums.total, "punted"),
            number(&sums.total, "unaccounted"),
            number(&sums.fleet, "lookups"),
            number(&sums.fleet, "stored"),
            number(&sums.query_log, "handed_on"),
            sums.rows.map_or("-".into(), group),
        )?;
    }
    Ok(())
}

fn micros(nanos: u64) -> String {
    format!("{:.0}", nanos as f64 / 1000.0)
}

fn class(class: &Class, with_tail: bool) -> String {
    let mut columns = vec![group(class.sent), group(class.lost), micros(class.p50), micros(class.p99)];
    if with_tail {
        columns.push(micros(class.p999));
    }
    columns.join(" | ")
}

/// Describes the appliance's state in a phase.
fn noted(episode: &Episode, phase: &Phase) -> String {
    let mut words = vec![if phase.up { "up" } else { "down" }.to_owned()];
    for (of, names) in [
        (&phase.fleet, &["timed_out", "failed", "skipped", "store_failed", "store_skipped"][..]),
        (&phase.rows, &["spooled"][..]),
    ] {
        let counted = names.iter().filter_map(|name| {
            of[*name].as_i64().filter(|count| *count > 0).map(|count| format!("{name} {count}"))
        });
        words.extend(counted);
    }
    words.push(format!("{} MiB", phase.memory >> 20));
    if let Some(seconds) = episode.back_after.filter(|_| phase.when == "after") {
        words.push(format!("recovered after {seconds:.1} s"));
    }
    words.join(", ")
}
