//! `ringctl history`: a line of small columns for each rate, ratio and time of the last minutes.

use crate::{
    print::{ask_and_print, time_of},
    row::{Row, RowKind, push},
    table::table_width,
    talk::Ringdnsd,
};
use clap::Args;
use ringdns_api::{History, HistoryPoint};
use ringdns_common::units::{TimeSpan, counted};
use std::io::Write;

/// Columns, the lowest first.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Minutes of a day, for which ringdnsd has points.
const DAY: u64 = 1440;

/// Options of `ringctl history`.
#[derive(Args)]
pub struct HistoryCommand {
    /// Time to show, at most a day: 30m, 2h.
    #[arg(long, default_value = "1d")]
    last: TimeSpan,
}

impl HistoryCommand {
    /// Prints the history.
    pub async fn print(&self, ringdnsd: &Ringdnsd, json: bool) -> anyhow::Result<()> {
        let minutes = self.last.0.as_secs().div_ceil(60).clamp(1, DAY);
        let show = |history: History, out: &mut dyn Write| {
            let rows = rows(&history, table_width());
            rows.iter().try_for_each(|row| writeln!(out, "{}", row.text))
        };
        ask_and_print(ringdnsd, json, &format!("/v1/history?minutes={minutes}"), show).await
    }
}

/// Way in which several minutes become one column.
#[derive(Clone, Copy)]
enum Fold {
    Mean,
    Most,
}

/// Curve of a history.
struct Curve {
    name: &'static str,
    fold: Fold,
    value: fn(&HistoryPoint) -> Option<f64>,
}

impl Curve {
    const fn new(name: &'static str, fold: Fold, value: fn(&HistoryPoint) -> Option<f64>) -> Self {
        Curve { name, fold, value }
    }
}

/// Curves in the order in which they are shown.
const CURVES: [Curve; 11] = [
    Curve::new("queries/s", Fold::Mean, |it| Some(it.queries)),
    Curve::new("hits of workers, %", Fold::Mean, |it| it.worker_hit_ratio.map(percent)),
    Curve::new("hits of the host cache, %", Fold::Mean, |it| it.host_hit_ratio.map(percent)),
    Curve::new("hits of Redis, %", Fold::Mean, |it| it.redis_hit_ratio.map(percent)),
    Curve::new("answers of upstreams/s", Fold::Mean, |it| Some(it.upstream_answers)),
    Curve::new("failures/s", Fold::Most, |it| Some(it.failures)),
    Curve::new("P99 of hits, µs", Fold::Most, |it| it.hit_us.map(|[_, p99]| p99)),
    Curve::new("P99 of misses, ms", Fold::Most, |it| it.miss_us.map(|[_, p99]| p99 / 1000.0)),
    Curve::new("drops/s", Fold::Most, |it| Some(it.drops)),
    Curve::new("memory, MiB", Fold::Most, |it| Some((it.resident_bytes >> 20) as f64)),
    Curve::new("problems", Fold::Most, |it| Some(it.problems as f64)),
];

fn percent(ratio: f64) -> f64 {
    ratio * 100.0
}

/// Returns the rows of a history, none of which is wider than `width` if that is at least 40. A curve
/// without any value has no rows.
pub fn rows(history: &History, width: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    let points = &history.points;
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        push(&mut rows, RowKind::Plain, "no history yet: ringdnsd adds a point each minute", width);
        return rows;
    };
    let minutes = points.len().div_ceil(width.max(1));
    let covers = match minutes {
        1 => String::new(),
        minutes => format!(", {minutes} in a column"),
    };
    let head = format!(
        "{} from {} to {}{covers}",
        counted(points.len() as u64, "minute", "minutes"),
        time_of(first.at),
        time_of(last.at)
    );
    push(&mut rows, RowKind::Head, &head, width);
    for curve in &CURVES {
        let values: Vec<Option<f64>> = points.iter().map(curve.value).collect();
        let known: Vec<f64> = values.iter().copied().flatten().collect();
        let (Some(now), Some(most)) = (known.last(), known.iter().copied().reduce(f64::max)) else {
            continue;
        };
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        let [now, mean, most_text] = [*now, mean, most].map(short);
        let title = format!("{}: {now} now, {mean} on average, {most_text} at most", curve.name);
        push(&mut rows, RowKind::Plain, &title, width);
        let text = columns(&values, most, (minutes, curve.fold));
        rows.push(Row { kind: RowKind::Good, text });
    }
    rows
}

/// Returns a column for each group of values, with `most` as the highest. A group without a value is blank.
fn columns(values: &[Option<f64>], most: f64, (group, fold): (usize, Fold)) -> String {
    let column = |group: &[Option<f64>]| {
        let known = group.iter().copied().flatten();
        let value = match fold {
            Fold::Most => known.reduce(f64::max),
            Fold::Mean => {
                let count = known.clone().count();
                (count > 0).then(|| known.sum::<f64>() / count as f64)
            }
        };
        value.map_or(' ', |value| {
            let part = if most > 0.0 { value / most } else { 0.0 };
            LEVELS[((part * LEVELS.len() as f64) as usize).min(LEVELS.len() - 1)]
        })
    };
    values.chunks(group.max(1)).map(column).collect()
}

/// Formats a number with a decimal if it is small.
fn short(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_screen;

    /// Returns a history in which rates rise, and with a minute without hits.
    fn history(minutes: u64) -> History {
        let point = |nth: u64| HistoryPoint {
            at: 1_796_000_400 + nth * 60,
            seconds: 60.0,
            queries: nth as f64 * 10.0,
            worker_answers: nth as f64 * 9.0,
            worker_hit_ratio: (nth % 20 != 7).then_some(0.9),
            host_hit_ratio: Some(0.25 + (nth % 4) as f64 / 10.0),
            redis_hit_ratio: None,
            upstream_answers: 3.0,
            failures: 0.0,
            hit_us: Some([10.0, 90.0 + nth as f64]),
            miss_us: Some([9000.0, 31_500.0]),
            drops: if nth == 30 { 5.0 } else { 0.0 },
            resident_bytes: (80 + nth / 10) << 20,
            problems: usize::from(nth > 40),
            critical: 0,
        };
        History { points: (0..minutes).map(point).collect() }
    }

    fn text(history: &History, width: usize) -> String {
        rows(history, width).iter().map(|row| row.text.trim_end().to_owned() + "\n").collect()
    }

    #[test]
    fn screens_of_the_history() {
        assert_screen(&text(&history(60), 80), "src/testdata/history-80.txt");
        assert_screen(&text(&history(1440), 80), "src/testdata/history-day-80.txt");
        assert_screen(&text(&History::default(), 80), "src/testdata/history-none-80.txt");
    }

    #[test]
    fn no_row_is_wider_than_the_terminal() {
        for width in [40, 41, 79, 80, 200] {
            for minutes in [1, 2, 39, 40, 41, 80, 81, 1440] {
                for row in rows(&history(minutes), width) {
                    assert!(row.text.chars().count() <= width, "{width} {minutes} {row:?}");
                }
            }
        }
    }

    #[test]
    fn groups_are_folded_and_blanks_are_left() {
        let values = [Some(0.0), Some(8.0), None, None, Some(4.0), None];
        assert_eq!(columns(&values, 8.0, (2, Fold::Most)), "█ ▅");
        assert_eq!(columns(&values, 8.0, (2, Fold::Mean)), "▅ ▅");
        assert_eq!(columns(&[Some(0.0)], 0.0, (1, Fold::Mean)), "▁");
    }
}
