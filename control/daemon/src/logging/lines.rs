//! Lines of the log, written by a thread of their own.

use ringdns_common::units::counted;
use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};
use tracing_subscriber::fmt::MakeWriter;

/// Most lines that wait to be written.
const LINES: usize = 4096;
/// Time that the end of the process waits for lines to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// Work for the thread.
enum LogWork {
    Line(Vec<u8>),
    /// Tells the sender that all earlier lines are written.
    Done(SyncSender<()>),
}

/// Sender of lines to the thread.
#[derive(Clone)]
pub(super) struct LineSender {
    work: SyncSender<LogWork>,
    lost: Arc<AtomicU64>,
}

/// Writer of lines, whose thread has not been started.
pub(super) struct LineWriter<W> {
    to: W,
    work: Receiver<LogWork>,
    lost: Arc<AtomicU64>,
}

/// Returns a sender of lines and their writer to `to`. Lines wait until it is started.
pub(super) fn lines<W: Write + Send + 'static>(to: W) -> (LineSender, LineWriter<W>) {
    let (work, receiver) = sync_channel(LINES);
    let lost = Arc::new(AtomicU64::new(0));
    (LineSender { work, lost: lost.clone() }, LineWriter { to, work: receiver, lost })
}

impl<W: Write + Send + 'static> LineWriter<W> {
    /// Starts the thread.
    pub(super) fn start(self) -> io::Result<()> {
        let LineWriter { to, work, lost } = self;
        thread::Builder::new().name("log".into()).spawn(move || write_lines(to, &work, &lost)).map(drop)
    }
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
    pub(super) fn wait(&self) {
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
pub(super) mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::mpsc::channel;

    /// Writer that takes lines when it is told to, and keeps them.
    pub(crate) struct Slow(pub(crate) Receiver<()>, pub(crate) Arc<Mutex<Vec<u8>>>);

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
        let (mut sender, thread) = lines(Slow(wait, written.clone()));
        thread.start().unwrap();
        // One line is in the thread's hands at most.
        let sent = LINES + 100;
        for number in 0..sent {
            sender.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        let lost = sender.lost.load(Relaxed);
        assert!((99..=100).contains(&lost), "{lost}");
        drop(go);
        sender.wait();
        let written = String::from_utf8(written.lock().clone()).unwrap();
        assert!(written.contains(&format!("{lost} lines of this log were lost")), "{lost}");
        assert_eq!(written.lines().count() as u64, sent as u64 - lost + 1);
    }

    #[test]
    fn a_reader_that_is_gone_is_no_failure() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let (mut sender, thread) = lines(writer);
        thread.start().unwrap();
        (0..10).for_each(|_| sender.write_all(b"line\n").unwrap());
        sender.wait();
        sender.write_all(b"line\n").unwrap();
        assert_eq!(sender.lost.load(Relaxed), 0);
    }
}
