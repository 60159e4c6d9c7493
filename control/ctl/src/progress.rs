//! Progress bars on standard error, if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// Time between two movements of a bar of unknown length.
const TICK: Duration = Duration::from_millis(200);

/// Returns a bar for bytes, whose number may be unknown.
pub fn bytes_bar(what: &'static str, length: Option<u64>) -> ProgressBar {
    let Some(length) = length else {
        let bar = styled(ProgressBar::no_length(), "{spinner} {msg} {bytes} ({bytes_per_sec})");
        bar.enable_steady_tick(TICK);
        return bar.with_message(what);
    };
    styled(ProgressBar::new(length), "{wide_bar} {msg} {bytes} of {total_bytes}").with_message(what)
}

/// Returns a bar for entries, whose number is unknown yet.
pub fn entries_bar(what: &'static str) -> ProgressBar {
    styled(ProgressBar::no_length(), "{wide_bar} {msg} {pos} of {len}, {eta} left").with_message(what)
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::{ProgressDrawTarget, TermLike};
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    /// Terminal that keeps what is written.
    #[derive(Clone, Debug, Default)]
    struct Shown(Arc<Mutex<String>>);

    impl TermLike for Shown {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(&format!("{text}\n"))
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            self.write_str("\n")
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bars_fit_80_columns_and_are_gone_at_the_end() {
        for (bar, expected) in [
            (bytes_bar("sent", Some(200 << 20)), "sent 100.00 MiB of 200.00 MiB"),
            (bytes_bar("dumped", None), "dumped 100.00 MiB"),
            (entries_bar("loaded"), "loaded 104857600 of 1000000000"),
        ] {
            let shown = Shown::default();
            bar.set_draw_target(ProgressDrawTarget::term_like_with_hz(Box::new(shown.clone()), 1));
            if bar.length().is_none() && expected.contains(" of ") {
                bar.set_length(1_000_000_000);
            }
            bar.set_position(100 << 20);
            bar.force_draw();
            let text = shown.0.lock().unwrap().clone();
            assert!(text.contains(expected), "{text:?}");
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text:?}");
            bar.finish_and_clear();
            let text = shown.0.lock().unwrap().clone();
            assert!(text.ends_with('\n'), "{text:?}");
        }
    }
}
