//! Screen of `ringctl top`: rows that scroll, a line with keys, and help.

use crate::{
    row::{Row, RowKind, push},
    table::wrapped,
};
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::Line,
    widgets::Paragraph,
};
use ringdns_common::printable::Printable;
use tokio::time::Instant;

/// Content of a screen.
pub trait Content {
    /// Result of a poll.
    type Sample;

    /// Keys of its own, for the last line if there is room.
    const KEYS: &'static str;

    /// Text of the key `?`.
    const HELP: &'static str;

    /// Takes the result of a poll.
    fn update(&mut self, at: Instant, sample: Self::Sample);

    /// Whether there was no result yet.
    fn is_empty(&self) -> bool;

    /// Takes a key. Returns true if it is one of its own.
    fn press(&mut self, code: KeyCode) -> bool;

    /// Returns the rows for a width.
    fn rows(&self, width: usize) -> Vec<Row>;

    /// Draws into the room below the rows.
    fn draw_below(&self, frame: &mut Frame<'_>, room: Rect, head: Style);
}

/// Screen, and its place in the rows.
pub struct Screen<C> {
    colour: bool,
    content: C,
    error: Option<String>,
    help: bool,
    /// First row that is shown.
    top: usize,
    /// Rows that were shown at once when it was last drawn.
    page: usize,
}

impl<C: Content> Screen<C> {
    /// Returns a screen of a content.
    pub fn new(colour: bool, content: C) -> Self {
        Screen { colour, content, error: None, help: false, top: 0, page: 1 }
    }

    /// Returns the content.
    #[cfg(test)]
    pub fn content(&self) -> &C {
        &self.content
    }

    /// Takes the result of a poll.
    pub fn update(&mut self, at: Instant, sample: anyhow::Result<C::Sample>) {
        self.error = match sample {
            Ok(sample) => {
                self.content.update(at, sample);
                None
            }
            Err(error) => Some(Printable(format!("{error:#}")).to_string()),
        };
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
            code => {
                if self.content.press(code) {
                    (self.help, self.top) = (false, 0);
                }
            }
        }
    }

    /// Draws the screen: rows, what there is room for below them, and a line with keys.
    pub fn draw(&mut self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        if width == 0 || height == 0 {
            return;
        }
        let rows = self.rows(width);
        self.page = (height - 1).max(1);
        self.top = self.top.min(rows.len().saturating_sub(self.page));
        let shown = rows.iter().skip(self.top).take(height - 1);
        let lines: Vec<Line<'_>> =
            shown.map(|row| Line::styled(row.text.as_str(), self.style(row.kind))).collect();
        let used = lines.len() as u16;
        frame.render_widget(Paragraph::new(lines), Rect { height: area.height - 1, ..area });
        if !self.help {
            let room = Rect { y: used, height: area.height - 1 - used, ..area };
            self.content.draw_below(frame, room, self.style(RowKind::Head));
        }
        let place = match rows.len() {
            all if all > self.page => format!("{}-{}/{all}  ", self.top + 1, self.top + self.page),
            _ => String::new(),
        };
        let mut keys = format!("{place}q end  arrows scroll  ? help");
        if keys.len() + C::KEYS.len() <= width {
            keys += C::KEYS;
        }
        let foot = Line::styled(format!("{keys:width$}"), Style::new().add_modifier(Modifier::REVERSED));
        frame.render_widget(foot, Rect { y: area.height - 1, height: 1, ..area });
    }

    fn rows(&self, width: usize) -> Vec<Row> {
        if self.help {
            let lines = C::HELP.lines().flat_map(|line| wrapped(line, width));
            return lines.map(|text| Row { kind: RowKind::Plain, text }).collect();
        }
        let mut rows = Vec::new();
        match &self.error {
            Some(error) => push(&mut rows, RowKind::Bad, error, width),
            None if self.content.is_empty() => push(&mut rows, RowKind::Plain, "asking ringdnsd …", width),
            None => {}
        }
        rows.extend(self.content.rows(width));
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
