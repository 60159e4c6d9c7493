//! Formats of the log.

use ringdns_common::printable::Escaping;
use rustix::fs::fstat;
use std::{
    fmt::{self, Debug, Write as _},
    os::fd::AsFd,
};
use tracing::{Event, Level, Subscriber, field::Field};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Format of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A sentence with fields behind it. To the journal, with its priority in front and without a time.
    #[default]
    Text,
    /// An object a line.
    Json,
}

/// Priority of an error, in front of a line to the journal.
pub const ERROR_PRIORITY: &str = "<3>";

/// Whether standard error goes to systemd's journal (systemd.exec(5), `JOURNAL_STREAM`).
pub fn is_journal(stderr: &impl AsFd) -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    fstat(stderr).is_ok_and(|file| stream == format!("{}:{}", file.st_dev, file.st_ino))
}

/// Format with the priority of syslog in front, which the journal takes off (sd-daemon(3)).
pub(super) struct JournalFormat<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for JournalFormat<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(to, "<{priority}>")?;
        self.0.format_event(context, to, event)
    }
}

/// Writes a field as the default format does, but escaped.
pub(super) fn field(to: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    match field.name() {
        "message" => write!(Escaping(to), "{value:?}"),
        name => write!(Escaping(to), "{name}={value:?}"),
    }
}
