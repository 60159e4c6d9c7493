//! Screens drawn from answers that a ringdnsd gave: one 3 s after its start, and one 11 s later.

use super::*;
use crate::testing::assert_screen;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::{backend::TestBackend, style::Color};
use ringdns_api::{History, HistoryPoint, RankingRow};
use serde_json::{Value, json};

const STATUS: [&str; 2] = [include_str!("testdata/status1.json"), include_str!("testdata/status2.json")];
const STATS: [&str; 2] = [include_str!("testdata/stats1.json"), include_str!("testdata/stats2.json")];
const TIMES: [&str; 2] = [include_str!("testdata/times1.log"), include_str!("testdata/times2.log")];

fn sample(nth: usize) -> Sample {
    Sample::read(STATUS[nth].as_bytes(), STATS[nth].as_bytes(), TIMES[nth].as_bytes()).unwrap()
}

/// Returns a sample whose status was changed.
fn sample_with(nth: usize, change: impl FnOnce(&mut Value, &mut Value)) -> Sample {
    let [mut status, mut stats] = [STATUS[nth], STATS[nth]].map(|text| serde_json::from_str(text).unwrap());
    change(&mut status, &mut stats);
    let [status, stats] = [status, stats].map(|value| value.to_string());
    Sample::read(status.as_bytes(), stats.as_bytes(), TIMES[nth].as_bytes()).unwrap()
}

/// Returns a screen that got these samples, ten seconds apart.
fn screen_of(samples: impl IntoIterator<Item = Sample>) -> Screen<Overview> {
    let mut screen = Screen::new(true, Overview::default());
    let mut at = Instant::now();
    for sample in samples {
        screen.update(at, Ok(sample));
        at += Duration::from_secs(10);
    }
    screen
}

fn terminal(width: u16, height: u16) -> Terminal<TestBackend> {
    Terminal::new(TestBackend::new(width, height)).unwrap()
}

/// Returns the text on a terminal, without the spaces at the ends of lines.
fn drawn(screen: &mut Screen<impl Content>, width: u16, height: u16) -> String {
    let mut terminal = terminal(width, height);
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let lines = (0..height).map(|y| {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        line.trim_end().to_owned()
    });
    lines.map(|line| line + "\n").collect()
}

fn press(screen: &mut Screen<impl Content>, code: KeyCode) {
    screen.press(KeyEvent::new(code, KeyModifiers::NONE));
}

#[test]
fn the_screen_of_80_columns() {
    let mut screen = screen_of([sample(0), sample(1)]);
    assert_screen(&drawn(&mut screen, 80, 24), "src/top/testdata/80x24.txt");
}

#[test]
fn a_small_screen_shows_the_rest_when_it_is_scrolled() {
    let mut screen = screen_of([sample(0), sample(1)]);
    let first = drawn(&mut screen, 40, 10);
    assert_screen(&first, "src/top/testdata/40x10.txt");
    press(&mut screen, KeyCode::Down);
    let second = drawn(&mut screen, 40, 10);
    assert_eq!(second.lines().next(), first.lines().nth(1), "it is a line further down");
    press(&mut screen, KeyCode::End);
    let last = drawn(&mut screen, 40, 10);
    assert!(last.contains("RTT") && !last.contains("TIER"), "{last}");
    for _ in 0..100 {
        press(&mut screen, KeyCode::PageUp);
    }
    assert_eq!(drawn(&mut screen, 40, 10), first);
}

#[test]
fn a_large_screen_has_the_curve() {
    let mut screen = screen_of([sample(0), sample(1)]);
    assert_screen(&drawn(&mut screen, 200, 50), "src/top/testdata/200x50.txt");
}

#[test]
fn no_size_is_too_small() {
    let mut screen = screen_of([sample(0), sample(1)]);
    for width in (0..30).chain([65, 300]) {
        for height in (0..8).chain([100]) {
            drawn(&mut screen, width, height);
            press(&mut screen, KeyCode::End);
            press(&mut screen, KeyCode::Char('?'));
        }
    }
}

#[test]
fn rates_are_differences_and_begin_anew_after_a_restart() {
    let [first, second] = [sample(0), sample(1)];
    let view = View::between(Some(&first), &second, Duration::from_secs(10));
    // 25 queries: five were misses, and 20 hits.
    assert_eq!((view.queries, view.tiers[0].answers, view.tiers[0].hit_ratio), (2.5, 2.0, Some(0.8)));
    assert_eq!((view.tiers[1].hit_ratio, view.tiers[2].answers), (Some(0.0), 0.5));
    assert!(!view.since_start && view.drops.is_empty());
    let hits = view.times.iter().find(|times| times.outcome == "hit").unwrap();
    assert!(hits.answers == 2.0 && hits.micros.unwrap()[0] > 0.0, "{hits:?}");
    let upstream: Vec<_> = view.upstreams.iter().map(|upstream| upstream.answers).collect();
    assert_eq!(upstream, [0.5, 0.0]);

    // Another process, whose counters are lower: the averages since its start, and nothing below zero.
    let restarted = sample_with(0, |status, _| status["pid"] = json!(1));
    let view = View::between(Some(&second), &restarted, Duration::from_secs(10));
    assert!(view.since_start && view.queries == 0.8, "{view:?}");
    // The same process id, as in a container.
    let view = View::between(Some(&second), &first, Duration::from_secs(10));
    assert!(view.since_start && view.times.iter().all(|times| times.answers >= 0.0));
}

#[test]
fn drops_and_problems_are_shown() {
    let worse = sample_with(1, |status, stats| {
        stats["total"]["dropped"]["limited"] = json!(1000);
        stats["total"]["punt_late"] = json!(10);
        stats["workers"][0]["port"]["rx_ring_full"] = json!(30);
        status["ready"] = json!(false);
        status["obstacle"] = json!("no upstream answers");
        status["upstreams"][1]["back_off_ms"] = json!(1500);
        status["problems"] = json!([{
            "kind": "upstream_silent", "severity": "critical", "subject": "udp://127.0.0.1:55302",
            "text": "udp://127.0.0.1:55302 does not answer", "since": 1_795_999_562
        }]);
    });
    let shown = drawn(&mut screen_of([sample(0), worse]), 80, 24);
    for expected in [
        "NOT ready: no upstream answers",
        "critical: udp://127.0.0.1:55302 does not answer, since 2026-11-30T00:46:02Z",
        "drops/s: limited 100, rx_ring_full 3.0, punt_late 1.0",
        "back-off:1.5s",
    ] {
        assert!(shown.contains(expected), "{expected}\n{shown}");
    }
}

#[test]
fn texts_of_others_cannot_write_to_the_terminal() {
    let hostile = "udp://\u{1b}]0;owned\u{7}\u{1b}[2J\r\nq:53\u{202e}\u{9b}31m";
    let sample = sample_with(1, |status, stats| {
        status["upstreams"][0]["address"] = json!(hostile);
        status["obstacle"] = json!(hostile);
        status["ready"] = json!(false);
        status["receiving"] = json!(hostile);
        stats["total"]["dropped"][hostile] = json!(77);
        status["problems"] = json!([{
            "kind": "upstream_silent", "severity": "critical", "subject": hostile, "text": hostile, "since": 0
        }]);
    });
    for (width, height) in [(80, 60), (40, 10), (200, 50)] {
        let mut screen = screen_of([sample_with(0, |_, _| {})]);
        let view = View::between(None, &sample, Duration::ZERO);
        for row in overview::rows(&view, width.into()) {
            assert!(
                !row.text.contains(|letter: char| letter.is_control() || letter == '\u{202e}'),
                "{row:?}"
            );
            assert!(row.text.chars().count() <= width.into(), "{row:?}");
        }
        screen.update(Instant::now(), Err(anyhow::anyhow!("{hostile}")));
        let shown = drawn(&mut screen, width, height);
        assert!(shown.contains("\\u{1b}]0;") && !shown.contains('\u{1b}'), "{shown}");
    }
    let json = serde_json::to_string(&View::between(None, &sample, Duration::ZERO)).unwrap();
    assert!(json.is_ascii() && !json.contains("\\u001b"), "{json}");
}

#[test]
fn a_failed_poll_is_shown_above_the_last_answer() {
    let mut screen = Screen::new(true, Overview::default());
    assert!(drawn(&mut screen, 80, 24).starts_with("asking ringdnsd …\n"));
    screen.update(Instant::now(), Ok(sample(0)));
    screen.update(Instant::now(), Err(anyhow::anyhow!("no ringdnsd at /s")));
    let shown = drawn(&mut screen, 80, 24);
    assert!(shown.starts_with("no ringdnsd at /s\nringdnsd 0.1.0"), "{shown}");
    screen.update(Instant::now() + Duration::from_secs(1), Ok(sample(1)));
    assert!(drawn(&mut screen, 80, 24).starts_with("ringdnsd 0.1.0"));
}

#[test]
fn keys_end_scroll_and_help() {
    let key = |code| KeyEvent::new(code, KeyModifiers::NONE);
    let mut screen = screen_of([sample(0)]);
    assert!(screen.is_end(key(KeyCode::Char('q'))) && screen.is_end(key(KeyCode::Esc)));
    assert!(screen.is_end(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    assert!(!screen.is_end(key(KeyCode::Char('c'))) && !screen.is_end(key(KeyCode::Down)));
    press(&mut screen, KeyCode::Char('?'));
    let help = drawn(&mut screen, 80, 24);
    assert!(help.contains("scroll by a page") && !help.contains("ringdnsd 0.1.0"), "{help}");
    assert!(!screen.is_end(key(KeyCode::Esc)), "it ends the help");
    press(&mut screen, KeyCode::Esc);
    assert!(drawn(&mut screen, 80, 24).starts_with("ringdnsd 0.1.0"));
}

#[test]
fn without_colour_none_is_used() {
    let is_coloured = |colour: bool| {
        let (mut screen, mut terminal) = (Screen::new(colour, Overview::default()), terminal(80, 24));
        screen.update(Instant::now(), Ok(sample(0)));
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        terminal.backend().buffer().content.iter().any(|cell| cell.fg != Color::Reset)
    };
    assert!(is_coloured(true) && !is_coloured(false));
}

/// Returns a ranking with a long name.
fn ranking() -> Ranking {
    let row = |key: &str, queries, least, most| RankingRow {
        key: key.to_owned(),
        queries,
        least,
        most,
        share: queries as f64 / 20_000.0,
    };
    let long = "a-long-name.of-a-service.with-many-labels.in-a-region.of-a-provider.example.com.";
    let rows = vec![
        row("www.example.com.", 12_345, 12_000, 12_400),
        row(long, 77, 70, 99),
        row("\u{1b}[2J.example.", 3, 3, 3),
    ];
    Ranking { kind: RankingKind::Names, seconds: 297, queries: 20_000, rows }
}

#[test]
fn the_screen_of_a_ranking() {
    let mut screen = Screen::new(true, LiveRanking::default());
    assert!(drawn(&mut screen, 80, 24).starts_with("asking ringdnsd …\n"));
    let ranking = sample::json(&serde_json::to_vec(&ranking()).unwrap()).unwrap();
    screen.update(Instant::now(), Ok(ranking));
    assert_screen(&drawn(&mut screen, 80, 24), "src/top/testdata/names-80x24.txt");
    for width in 40..100 {
        drawn(&mut screen, width, 12);
        let LiveRanking(ranking) = screen.content();
        for row in ranking::rows(ranking.as_ref().unwrap(), width.into()) {
            assert!(row.text.chars().count() <= width.into() && !row.text.contains('\u{1b}'), "{row:?}");
        }
    }
    press(&mut screen, KeyCode::Char('?'));
    assert!(drawn(&mut screen, 80, 24).contains("bounds of the true count"));
}

#[test]
fn the_day_is_shown_and_the_present_again() {
    let points = (0..600).map(|nth| HistoryPoint {
        at: 1_796_000_400 + nth * 60,
        queries: nth as f64,
        ..HistoryPoint::default()
    });
    let history = Some(History { points: points.collect() });
    let mut screen = screen_of([Sample { history, ..sample(0) }, sample(1)]);
    press(&mut screen, KeyCode::Char('d'));
    assert_screen(&drawn(&mut screen, 80, 24), "src/top/testdata/day-80x24.txt");
    press(&mut screen, KeyCode::Char('d'));
    assert!(drawn(&mut screen, 80, 24).starts_with("ringdnsd 0.1.0"));
}
