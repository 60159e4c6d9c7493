//! Log to standard error.
//!
//! A thread of its own writes the lines: a terminal, pipe or disk that takes nothing, or is gone,
//! neither delays a query nor ends ringdnsd. Lines beyond a bound that wait are lost, and their
//! number is logged. Values are escaped, so that no name or text of a server forges a line or
//! controls a terminal.

mod format;
mod levels;
mod lines;

pub use format::{ERROR_PRIORITY, LogFormat, is_journal};
pub use levels::{LevelsError, LogLevels};

use format::{JournalFormat, field};
use lines::{LineSender, LineWriter};
use std::io::{self, IsTerminal, Stderr};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    field::MakeExt,
    fmt::{
        self,
        format::{JsonFields, debug_fn},
    },
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

/// Environment variable with the filter of the log.
const FILTER: &str = "RUST_LOG";
/// Filter without it. aya's warnings are suppressed: ringdns reports the same failures as errors, in
/// one line.
const DEFAULT: &str = "info,aya=error";

/// Log whose lines wait to be written, since this process is to have no second thread yet.
pub struct PendingLog(LineSender, LineWriter<Stderr>);

/// Log that is written. When dropped, it waits a moment for lines that are not written yet.
pub struct StartedLog(LineSender);

impl PendingLog {
    /// Returns a log to standard error, filtered by `RUST_LOG`, by default `info`. Returns what changes the
    /// filter, too.
    pub fn to_stderr(format: LogFormat) -> (Self, LogLevels) {
        let given = std::env::var(FILTER).ok();
        let parsed = given.as_deref().map(EnvFilter::try_new);
        let (filter, usual, wrong) = match (parsed, given.as_deref()) {
            (Some(Ok(filter)), Some(given)) => (filter, given, None),
            (Some(Err(error)), _) => (EnvFilter::new(DEFAULT), DEFAULT, Some(error)),
            (Some(Ok(_)) | None, _) => (EnvFilter::new(DEFAULT), DEFAULT, None),
        };
        let (sender, writer) = lines::lines(io::stderr());
        let (filter, handle) = reload::Layer::new(filter);
        tracing_subscriber::registry().with(layer(format, sender.clone()).with_filter(filter)).init();
        if let Some(error) = wrong {
            tracing::warn!(
                "{FILTER} is ignored: {error}. Write a level (error, warn, info, debug, trace), or none"
            );
        }
        (PendingLog(sender, writer), LogLevels::new(handle, usual))
    }

    /// Starts to write.
    pub fn start(self) -> io::Result<StartedLog> {
        let PendingLog(sender, writer) = self;
        writer.start()?;
        Ok(StartedLog(sender))
    }
}

impl Drop for StartedLog {
    fn drop(&mut self) {
        self.0.wait();
    }
}

/// Returns the layer that writes events in a format.
fn layer(format: LogFormat, sender: LineSender) -> Box<dyn Layer<Registry> + Send + Sync> {
    let to_journal = is_journal(&io::stderr());
    let layer = fmt::layer().log_internal_errors(false).with_writer(sender);
    let fields = || debug_fn(field).delimited(" ");
    match (format, to_journal) {
        (LogFormat::Json, false) => {
            let json = fmt::format().json().flatten_event(true);
            layer.fmt_fields(JsonFields::new()).event_format(json).boxed()
        }
        (LogFormat::Json, true) => {
            let json = fmt::format().json().flatten_event(true).without_time().with_level(false);
            layer.fmt_fields(JsonFields::new()).event_format(JournalFormat(json)).boxed()
        }
        (LogFormat::Text, true) => {
            let text = fmt::format().without_time().with_level(false).with_ansi(false);
            layer.fmt_fields(fields()).with_ansi(false).event_format(JournalFormat(text)).boxed()
        }
        (LogFormat::Text, false) => layer.with_ansi(io::stderr().is_terminal()).fmt_fields(fields()).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lines::tests::Slow;
    use parking_lot::Mutex;
    use std::sync::{Arc, mpsc::channel};

    #[test]
    fn fields_are_escaped() {
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let (go, wait) = channel();
        drop(go);
        let (sender, writer) = lines::lines(Slow(wait, written.clone()));
        writer.start().unwrap();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .fmt_fields(debug_fn(field).delimited(" "))
            .with_writer(sender.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let evil = "a\x1b[2J\u{9b}\u{202e}\nINFO forged";
            tracing::info!(name = evil, url = %evil, n = 5, "told {evil}");
        });
        sender.wait();
        let written = String::from_utf8(written.lock().clone()).unwrap();
        let evil = "a\\u{1b}[2J\\u{9b}\\u{202e}\\nINFO forged";
        let expected =
            format!(" INFO ringdns_daemon::logging::tests: told {evil} name=\"{evil}\" url={evil} n=5\n");
        assert_eq!(written, expected);
    }
}
