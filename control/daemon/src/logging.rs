//! Log to standard error.
//!
//! A thread of its own writes the lines: a terminal, pipe or disk that takes nothing, or is gone,
//! neither delays a query nor ends ringdnsd. Lines beyond [`LINES`] that wait are lost, and their
//! number is logged. Values are escaped, so that no name or text of a server forges a line or
//! controls a terminal.

use ringdns_common::{printable::Escaping, units::counted};
use std::{
    fmt::{Debug, Write as _},
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt,
    fmt::{
        MakeWriter,
        format::{Writer, debug_fn},
    },
};

/// Most lines that wait to be written.
const LINES: usize = 4096;
/// Time that the end of the process waits for lines to be written.
const PATIENCE: Duration = Duration::from_secs(1);
/// Environment variable with the filter of the log.
const FILTER: &str = "RUST_LOG";
/// Filter without it. aya's warnings are suppressed: ringdns reports the same failures as errors, in
/// one line.
const DEFAULT: &str = "info,aya=error";

/// Work for the thread.
enum LogWork {
    Line(Vec<u8>),
    /// Tells the sender that all earlier lines are written.
    Done(SyncSender<()>),
}

/// Sender of lines to the thread.
#[derive(Clone)]
struct LineSender {
    work: SyncSender<LogWork>,
    lost: Arc<AtomicU64>,
}

/// Log that has been started. When dropped, it waits a moment for lines that are not written yet.
pub struct StartedLog(LineSender);

impl StartedLog {
    /// Starts logging, filtered by `RUST_LOG`, by default `info`.
    pub fn to_stderr() -> io::Result<Self> {
        let (filter, wrong) = match std::env::var(FILTER).map(EnvFilter::try_new) {
            Ok(Ok(filter)) => (filter, None),
            Ok(Err(error)) => (EnvFilter::new(DEFAULT), Some(error)),
            Err(_) => (EnvFilter::new(DEFAULT), None),
        };
        let sender = start(io::stderr())?;
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(io::stderr().is_terminal())
            .log_internal_errors(false)
            .fmt_fields(debug_fn(field).delimited(" "))
            .with_writer(sender.clone())
            .init();
        if let Some(error) = wrong {
            tracing::warn!(
                "{FILTER} is ignored: {error}. Write a level (error, warn, info, debug, trace), or none"
            );
        }
        Ok(StartedLog(sender))
    }
}

impl Drop for StartedLog {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Writes a field as the default format does, but escaped.
fn field(to: &mut Writer<'_>, field: &tracing::field::Field, value: &dyn Debug) -> std::fmt::Result {
    match field.name() {
        "message" => write!(Escaping(to), "{value:?}"),
        name => write!(Escaping(to), "{name}={value:?}"),
    }
}

/// Starts the thread that writes to `to`.
fn start(to: impl Write + Send + 'static) -> io::Result<LineSender> {
    let (work, receiver) = sync_channel(LINES);
    let lost = Arc::new(AtomicU64::new(0));
    let sender = LineSender { work, lost: lost.clone() };
    thread::Builder::new().name("log".into()).spawn(move || write_lines(to, &receiver, &lost))?;
    Ok(sender)
}

/// Writes lines until all senders are gone. Nobody can be told of a failure, so it is ignored.
fn write_lines(mut to: impl Write, work: &Receiver<LogWork>, lost: &AtomicU64) {
    for work in work {
        match work {
            LogWork::Line(line) => drop(to.write_all(&line)),
            LogWork::Done(done) => drop(done.try_send(())),
        }
        match lost.swap(0, Relaxed) {
            0 => {}
            lost => {
                let lines = counted(lost, "line", "lines");
                let were = if lost == 1 { "was" } else { "were" };
                drop(writeln!(to, "{lines} of this log {were} lost: standard error was too slow"));
            }
        }
    }
}

impl LineSender {
    /// Waits until all lines are written, but not for long.
    fn flush(&self) {
        let deadline = Instant::now() + PATIENCE;
        let (done, told) = sync_channel(1);
        let mut work = LogWork::Done(done);
        while let Err(TrySendError::Full(back)) = self.work.try_send(work)
            && Instant::now() < deadline
        {
            work = back;
            thread::sleep(Duration::from_millis(5));
        }
        // A reader that takes nothing, or none, must not keep the process.
        let _ = told.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

impl<'a> MakeWriter<'a> for LineSender {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for LineSender {
    /// Hands on one line: the subscriber writes each in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.work.try_send(LogWork::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::mpsc::channel;

    /// Writer that takes lines when it is told to, and keeps them.
    struct Slow(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            // The test's end lets everything pass.
            let _ = self.0.recv();
            self.1.lock().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_reader_delays_nobody_and_is_told_what_it_missed() {
        let (go, wait) = channel();
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let mut sender = start(Slow(wait, written.clone())).unwrap();
        // One line is in the thread's hands at most.
        let sent = LINES + 100;
        for number in 0..sent {
            sender.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        let lost = sender.lost.load(Relaxed);
        assert!((99..=100).contains(&lost), "{lost}");
        drop(go);
        LineSender::flush(&sender);
        let written = String::from_utf8(written.lock().clone()).unwrap();
        assert!(written.contains(&format!("{lost} lines of this log were lost")), "{lost}");
        assert_eq!(written.lines().count() as u64, sent as u64 - lost + 1);
    }

    #[test]
    fn a_reader_that_is_gone_is_no_failure() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut sender = start(writer).unwrap();
        (0..10).for_each(|_| sender.write_all(b"line\n").unwrap());
        LineSender::flush(&sender);
        sender.write_all(b"line\n").unwrap();
        assert_eq!(sender.lost.load(Relaxed), 0);
    }

    #[test]
    fn fields_are_escaped() {
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let (go, wait) = channel();
        drop(go);
        let sender = start(Slow(wait, written.clone())).unwrap();
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
        LineSender::flush(&sender);
        let written = String::from_utf8(written.lock().clone()).unwrap();
        let evil = "a\\u{1b}[2J\\u{9b}\\u{202e}\\nINFO forged";
        let expected =
            format!(" INFO ringdns_daemon::logging::tests: told {evil} name=\"{evil}\" url={evil} n=5\n");
        assert_eq!(written, expected);
    }
}
