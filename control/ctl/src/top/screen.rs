//! The screen of `ringctl top`.

use super::{
    sample::Sample,
    view::{TierView, TimesView, UpstreamView, View},
};
use crate::{
    print::{millis, time_of},
    table::{Table, wrapped},
};
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Paragraph, Sparkline},
};
use ringdns_api::{Problem, Severity};
use ringdns_common::{printable::Printable, units::counted};
use std::{collections::VecDeque, iter};
use tokio::time::Instant;

/// Rates that are kept for the curve.
const HISTORY: usize = 600;

/// Most rows of the curve.
const CURVE: u16 = 6;

/// Text of the key `?`.
const HELP: &str = "q, Esc     end
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

/// Weight of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    Plain,
    Head,
    Good,
    Warning,
    Bad,
}

/// Row of the screen.
#[derive(Debug)]
pub struct Row {
    /// Weight.
    pub kind: RowKind,
    /// Text.
    pub text: String,
}

/// Screen, and its place in the rows.
pub struct Screen {
    colour: bool,
    last: Option<(Instant, Sample)>,
    view: Option<View>,
    error: Option<String>,
    history: VecDeque<u64>,
    help: bool,
    /// First row that is shown.
    top: usize,
    /// Rows that were shown at once when it was last drawn.
    page: usize,
}

impl Screen {
    /// Returns a screen without content.
    pub fn new(colour: bool) -> Self {
        let history = VecDeque::with_capacity(HISTORY);
        Screen { colour, last: None, view: None, error: None, history, help: false, top: 0, page: 1 }
    }

    /// Takes the result of a poll.
    pub fn update(&mut self, at: Instant, sample: anyhow::Result<Sample>) {
        let sample = match sample {
            Ok(sample) => sample,
            Err(error) => {
                self.error = Some(Printable(format!("{error:#}")).to_string());
                return;
            }
        };
        self.error = None;
        let before = self.last.as_ref();
        let elapsed = before.map(|(then, _)| at.duration_since(*then)).unwrap_or_default();
        let view = View::between(before.map(|(_, sample)| sample), &sample, elapsed);
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(view.queries.round() as u64);
        self.view = Some(view);
        self.last = Some((at, sample));
    }

    /// Whether a key ends the screen.
    pub fn is_end(&self, key: KeyEvent) -> bool {
        let is_control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
        let is_end = matches!(key.code, KeyCode::Char('q' | 'Q')) || key.code == KeyCode::Esc && !self.help;
        key.kind == KeyEventKind::Press && (is_end || is_control_c)
    }

    /// Takes a key.
    pub fn press(&mut self, key: KeyEvent) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        match key.code {
            KeyCode::Char('?' | 'h') => (self.help, self.top) = (!self.help, 0),
            KeyCode::Esc => (self.help, self.top) = (false, 0),
            KeyCode::Up => self.top = self.top.saturating_sub(1),
            KeyCode::Down => self.top += 1,
            KeyCode::PageUp | KeyCode::Left => self.top = self.top.saturating_sub(self.page),
            KeyCode::PageDown | KeyCode::Right => self.top += self.page,
            KeyCode::Home => self.top = 0,
            KeyCode::End => self.top = usize::MAX,
            _ => {}
        }
    }

    /// Draws the screen: rows, the curve if there is room below them, and a line with keys.
    pub fn draw(&mut self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        if width == 0 || height == 0 {
            return;
        }
        let rows = self.content(width);
        self.page = (height - 1).max(1);
        self.top = self.top.min(rows.len().saturating_sub(self.page));
        let shown = rows.iter().skip(self.top).take(height - 1);
        let lines: Vec<Line<'_>> =
            shown.map(|row| Line::styled(row.text.as_str(), self.style(row.kind))).collect();
        let used = lines.len() as u16;
        frame.render_widget(Paragraph::new(lines), Rect { height: area.height - 1, ..area });
        if !self.help && self.view.is_some() {
            self.draw_curve(frame, Rect { y: used, height: area.height - 1 - used, ..area });
        }
        let place = match rows.len() {
            all if all > self.page => format!("{}-{}/{all}  ", self.top + 1, self.top + self.page),
            _ => String::new(),
        };
        let keys = format!("{place}q end  arrows scroll  ? help");
        let foot = Line::styled(format!("{keys:width$}"), Style::new().add_modifier(Modifier::REVERSED));
        frame.render_widget(foot, Rect { y: area.height - 1, height: 1, ..area });
    }

    /// Draws the queries per second of the last minutes.
    fn draw_curve(&self, frame: &mut Frame<'_>, room: Rect) {
        // A blank row and a title stand above it.
        if room.height < 4 {
            return;
        }
        let width = usize::from(room.width);
        let shown: Vec<u64> =
            self.history.iter().skip(self.history.len().saturating_sub(width)).copied().collect();
        let most = shown.iter().max().copied().unwrap_or(0);
        let title = format!("queries/s, last {} s, at most {most}", shown.len());
        let title = Line::styled(title, self.style(RowKind::Head));
        frame.render_widget(title, Rect { y: room.y + 1, height: 1, ..room });
        let curve = Rect { y: room.y + 2, height: (room.height - 2).min(CURVE), ..room };
        frame.render_widget(Sparkline::default().data(shown), curve);
    }

    fn content(&self, width: usize) -> Vec<Row> {
        if self.help {
            let lines = HELP.lines().flat_map(|line| wrapped(line, width));
            return lines.map(|text| Row { kind: RowKind::Plain, text }).collect();
        }
        let mut rows = Vec::new();
        match &self.error {
            Some(error) => push(&mut rows, RowKind::Bad, error, width),
            None if self.view.is_none() => push(&mut rows, RowKind::Plain, "asking ringdnsd …", width),
            None => {}
        }
        if let Some(view) = &self.view {
            rows.extend(self::rows(view, width));
        }
        rows
    }

    fn style(&self, kind: RowKind) -> Style {
        let (colour, modifier) = match kind {
            RowKind::Plain => return Style::new(),
            RowKind::Head => return Style::new().add_modifier(Modifier::BOLD),
            RowKind::Good => (Color::Green, Modifier::empty()),
            RowKind::Warning => (Color::Yellow, Modifier::empty()),
            RowKind::Bad => (Color::Red, Modifier::BOLD),
        };
        let style = Style::new().add_modifier(modifier);
        if self.colour { style.fg(colour) } else { style }
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

/// Appends a text in as many rows as it needs.
fn push(rows: &mut Vec<Row>, kind: RowKind, text: &str, width: usize) {
    rows.extend(wrapped(text, width).into_iter().map(|text| Row { kind, text }));
}

/// Appends a blank row and a table.
fn table(rows: &mut Vec<Row>, table: Table, width: usize) {
    let text = table.fit(width);
    let kinds = iter::once(RowKind::Head).chain(iter::repeat(RowKind::Plain));
    rows.push(Row { kind: RowKind::Plain, text: String::new() });
    rows.extend(text.lines().zip(kinds).map(|(line, kind)| Row { kind, text: line.to_owned() }));
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
