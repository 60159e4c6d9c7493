//! Overview of a ringdnsd: rates, tiers, service times, drops, upstreams and problems; and the history of
//! the last day.

use super::{
    sample::Sample,
    screen::Content,
    view::{TierView, TimesView, UpstreamView, View},
};
use crate::row::{Row, RowKind, push, table};
use crate::{
    history,
    print::{millis, time_of},
    table::Table,
};
use crossterm::event::KeyCode;
use ratatui::{Frame, layout::Rect, style::Style, text::Line, widgets::Sparkline};
use ringdns_api::{History, Problem, Severity};
use ringdns_common::units::counted;
use std::collections::VecDeque;
use tokio::time::Instant;

/// Rates that are kept for the curve.
const KEPT: usize = 600;

/// Most rows of the curve.
const CURVE: u16 = 6;

/// Overview, and what it needs of earlier polls.
#[derive(Default)]
pub struct Overview {
    last: Option<(Instant, Sample)>,
    view: Option<View>,
    rates: VecDeque<u64>,
    history: History,
    /// Whether the history is shown in place of the present.
    is_history: bool,
}

impl Content for Overview {
    type Sample = Sample;

    const KEYS: &'static str = "  d day";

    const HELP: &'static str = "q, Esc     end
d          the last day, and back
up, down   scroll by a line
PgUp, PgDn scroll by a page
Home, End  first, last line
?          this help

Rates are per second, between the last two polls.
worker     answers from the workers' caches; the ratio is of their queries
host       answers from the host cache; the ratio is of its lookups
redis      answers from Redis, if there is a fleet
upstreams  questions that upstreams answered; the ratio is of those asked
Service times are in microseconds, from the receipt of a query to its answer.
Times of upstreams are in milliseconds; P50 and P99 are since the start.";

    fn update(&mut self, at: Instant, mut sample: Sample) {
        if let Some(history) = sample.history.take() {
            self.history = history;
        }
        let before = self.last.as_ref();
        let elapsed = before.map(|(then, _)| at.duration_since(*then)).unwrap_or_default();
        let view = View::between(before.map(|(_, sample)| sample), &sample, elapsed);
        if self.rates.len() == KEPT {
            self.rates.pop_front();
        }
        self.rates.push_back(view.queries.round() as u64);
        self.view = Some(view);
        self.last = Some((at, sample));
    }

    fn is_empty(&self) -> bool {
        self.view.is_none()
    }

    fn press(&mut self, code: KeyCode) -> bool {
        if code == KeyCode::Char('d') {
            self.is_history = !self.is_history;
        }
        code == KeyCode::Char('d')
    }

    fn rows(&self, width: usize) -> Vec<Row> {
        if self.is_history {
            return history::rows(&self.history, width);
        }
        self.view.as_ref().map(|view| rows(view, width)).unwrap_or_default()
    }

    /// Draws the queries per second of the last minutes.
    fn draw_below(&self, frame: &mut Frame<'_>, room: Rect, head: Style) {
        // A blank row and a title stand above it.
        if room.height < 4 || self.is_history || self.view.is_none() {
            return;
        }
        let width = usize::from(room.width);
        let shown: Vec<u64> =
            self.rates.iter().skip(self.rates.len().saturating_sub(width)).copied().collect();
        let most = shown.iter().max().copied().unwrap_or(0);
        let title = format!("queries/s, last {} s, at most {most}", shown.len());
        frame.render_widget(Line::styled(title, head), Rect { y: room.y + 1, height: 1, ..room });
        let curve = Rect { y: room.y + 2, height: (room.height - 2).min(CURVE), ..room };
        frame.render_widget(Sparkline::default().data(shown), curve);
    }
}

/// Returns the rows of a view, none of which is wider than `width` if that is at least 40.
pub fn rows(view: &View, width: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    let (hours, minutes) = (view.uptime_secs / 3600, view.uptime_secs / 60 % 60);
    let workers = counted(view.workers as u64, "worker", "workers");
    let head = format!(
        "ringdnsd {} (pid {}), up {hours} h {minutes} min {} s, {}, {workers}",
        view.version,
        view.pid,
        view.uptime_secs % 60,
        view.receiving
    );
    push(&mut rows, RowKind::Head, &head, width);
    match (&view.obstacle, view.ready) {
        (_, true) => push(&mut rows, RowKind::Good, "answering queries", width),
        (Some(obstacle), false) => push(&mut rows, RowKind::Bad, &format!("NOT ready: {obstacle}"), width),
        (None, false) => push(&mut rows, RowKind::Bad, "NOT ready", width),
    }
    for Problem { severity, text, since, .. } in &view.problems {
        let kind = match severity {
            Severity::Critical => RowKind::Bad,
            Severity::Warning => RowKind::Warning,
            Severity::Info => RowKind::Plain,
        };
        push(&mut rows, kind, &format!("{}: {text}, since {}", severity.label(), time_of(*since)), width);
    }
    push(&mut rows, RowKind::Plain, &load(view), width);
    push(&mut rows, RowKind::Plain, &usage(view), width);
    table(&mut rows, tiers(&view.tiers), width);
    table(&mut rows, times(&view.times), width);
    rows.push(Row { kind: RowKind::Plain, text: String::new() });
    let drops: Vec<String> =
        view.drops.iter().map(|(reason, count)| format!("{reason} {}", rate(*count))).collect();
    match drops.is_empty() {
        true => push(&mut rows, RowKind::Plain, "no drops", width),
        false => push(&mut rows, RowKind::Warning, &format!("drops/s: {}", drops.join(", ")), width),
    }
    table(&mut rows, upstreams(&view.upstreams), width);
    rows
}

fn load(view: &View) -> String {
    let View { queries, tcp_queries, seconds, since_start, .. } = view;
    let covers = match since_start {
        true => "averages since the start".to_owned(),
        false => format!("in the last {seconds:.1} s"),
    };
    format!("{} queries/s ({} over TCP), {covers}", rate(*queries), rate(*tcp_queries))
}

fn usage(view: &View) -> String {
    let [used, most] = view.host_bytes.map(|bytes| bytes >> 20);
    let entries = counted(view.host_entries, "entry", "entries");
    let process = view.process.as_ref().map(|process| {
        format!(", {} MiB of memory, {:.0} s of CPU time", process.resident_bytes >> 20, process.cpu_secs)
    });
    format!("host cache: {entries}, {used} of {most} MiB{}", process.unwrap_or_default())
}

fn tiers(tiers: &[TierView]) -> Table {
    let row = |TierView { tier, answers, hit_ratio }: &TierView| {
        let ratio = hit_ratio.map_or_else(|| "-".into(), |ratio| format!("{:.1}%", ratio * 100.0));
        vec![(*tier).to_owned(), rate(*answers), ratio]
    };
    Table::new(&["TIER", "ANSWERS/S", "HIT-RATIO"], 1).rows(tiers.iter().map(row))
}

fn times(times: &[TimesView]) -> Table {
    let row = |TimesView { outcome, answers, micros }: &TimesView| {
        let micros = micros.map_or(["-"; 5].map(str::to_owned), |micros| micros.map(|it| format!("{it:.1}")));
        [outcome.clone(), rate(*answers)].into_iter().chain(micros).collect()
    };
    let heads = ["TIMES", "ANSWERS/S", "P50", "P90", "P99", "P99.9", "MAX"];
    Table::new(&heads, 1).rows(times.iter().map(row))
}

fn upstreams(upstreams: &[UpstreamView]) -> Table {
    let row = |upstream: &UpstreamView| {
        let state = match upstream.back_off_ms {
            0 => "up".to_owned(),
            left => format!("back-off:{:.1}s", left as f64 / 1000.0),
        };
        let UpstreamView { queries, answers, timeouts, errors, round_trip_us, times, .. } = upstream;
        let rates = [queries, answers, timeouts, errors].map(|count| rate(*count));
        let times = [*round_trip_us, times.p50_us, times.p99_us].map(millis);
        [upstream.address.clone(), state].into_iter().chain(rates).chain(times).collect()
    };
    let heads = ["UPSTREAM", "STATE", "ASKED/S", "ANSW/S", "LATE/S", "ERR/S", "RTT", "P50", "P99"];
    Table::new(&heads, 2).rows(upstreams.iter().map(row))
}

/// Formats a rate: with a decimal if it is small.
fn rate(rate: f64) -> String {
    if rate < 100.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}
