//! A long-running program: its output as lines to wait for, and a guaranteed end.

use std::fs::File;
use std::io::{self, BufRead, BufReader, PipeReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tempfile::TempDir;

use crate::until;

/// Time that a process may take to end after SIGTERM before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// A child process. On drop it gets SIGTERM, later SIGKILL, and is reaped.
pub struct Process {
    name: String,
    child: Child,
    /// Becomes readable when the process ends.
    pidfd: OwnedFd,
    output: Arc<Output>,
    folder: TempDir,
}

impl Process {
    /// Starts `command`. Standard output and standard error are read together, in the order they were written.
    #[track_caller]
    pub fn spawn(name: &str, mut command: Command) -> Self {
        match Self::try_spawn(name, &mut command) {
            Ok(process) => process,
            Err(error) => panic!("{command:?}: {error}; deploy/setup.sh installs what tests need"),
        }
    }

    /// Starts `command`, or returns the reason why it cannot be started.
    pub fn try_spawn(name: &str, command: &mut Command) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("ringdns-process-").tempdir()?;
        let log = File::create(folder.path().join("log"))?;
        let (reader, writer) = io::pipe()?;
        let child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
        // `command` still holds the writing end of the pipe, and the reader would never see the
        // end.
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        let output = Arc::new(Output::default());
        let sink = Arc::clone(&output);
        std::thread::Builder::new().name(format!("{name} output")).spawn(move || sink.follow(reader, log))?;
        Ok(Self { name: name.to_owned(), child, pidfd, output, folder })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the path of the output, for programs that read it as a file.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Returns the output so far.
    pub fn output(&self) -> String {
        self.output.lock().text.join("\n")
    }

    /// Waits for a line that contains `pattern`, already written or still to come, and returns the
    /// first such line. Panics if the process ends or time runs out before.
    #[track_caller]
    pub fn wait_for_line(&self, pattern: &str, timeout: Duration) -> String {
        match self.output.wait_for(pattern, timeout) {
            Ok(line) => line,
            Err(why) => panic!("{}: no line with {pattern:?}: {why}; it said:\n{}", self.name, self.output()),
        }
    }

    /// Waits for the process to end by itself. Panics if time runs out before.
    #[track_caller]
    pub fn wait_for_exit(&mut self, timeout: Duration) -> ExitStatus {
        match self.wait(timeout) {
            Ok(Some(status)) => status,
            Ok(None) => panic!("{} still runs after {timeout:?}; it said:\n{}", self.name, self.output()),
            Err(error) => panic!("{}: {error}", self.name),
        }
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process(Pid::from_child(&self.child), signal) {
            panic!("{signal:?} to {}: {error}", self.name);
        }
    }

    /// Stops the process, and waits until all of its threads are stopped: the signal goes to one
    /// thread, and until that one has taken it, the others continue. SIGCONT continues the process.
    #[track_caller]
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        until(&format!("{} stands still", self.name), || self.stands_still().ok()?.then_some(()));
    }

    fn stands_still(&self) -> io::Result<bool> {
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
            // The line is `NUMBER (NAME) STATE …`, and a name may contain parentheses.
            if !stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T')) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the resident memory of the process, in bytes.
    #[track_caller]
    pub fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        match kib {
            Some(kib) => kib * 1024,
            None => panic!("no VmRSS in {path}: {status}"),
        }
    }

    /// Returns the number of its threads.
    #[track_caller]
    pub fn threads(&self) -> usize {
        self.count("task")
    }

    /// Returns the number of its open files, of any kind.
    #[track_caller]
    pub fn open_files(&self) -> usize {
        self.count("fd")
    }

    #[track_caller]
    fn count(&self, what: &str) -> usize {
        let path = format!("/proc/{}/{what}", self.pid());
        match std::fs::read_dir(&path) {
            Ok(entries) => entries.count(),
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// Returns the number of its open sockets.
    #[track_caller]
    pub fn sockets(&self) -> usize {
        let path = format!("/proc/{}/fd", self.pid());
        let open = match std::fs::read_dir(&path) {
            Ok(open) => open,
            Err(error) => panic!("{path}: {error}"),
        };
        let is_socket = |target: &PathBuf| target.to_string_lossy().starts_with("socket:");
        open.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok()).filter(is_socket).count()
    }

    /// Returns the exit status of the process, if it has ended.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.wait(Duration::ZERO)
    }

    /// Asks the process to end, kills it if it does not, and returns its exit status.
    pub fn stop(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        if let Some(status) = self.wait(PATIENCE)? {
            return Ok(status);
        }
        eprintln!("{} ignored SIGTERM for {PATIENCE:?}: killing it", self.name);
        self.child.kill()?;
        self.child.wait()
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        let mut events = [PollFd::new(&self.pidfd, PollFlags::IN)];
        if rustix::io::retry_on_intr(|| poll(&mut events, Some(&timeout)))? == 0 {
            return Ok(None);
        }
        let status = self.child.wait()?;
        // The last output may still be in the pipe.
        self.output.wait_for_end(Duration::from_secs(1));
        Ok(Some(status))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{} could not be ended: {error}", self.name);
        }
        if std::thread::panicking() {
            eprintln!("---- what {} said ----\n{}\n----", self.name, self.output());
        }
    }
}

//----------- Output ----------------------------------------------------------

/// Output of a process, shared with the thread that reads it.
#[derive(Default)]
struct Output {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    text: Vec<String>,
    /// Whether the output is complete: the process and its children have closed the pipe.
    ended: bool,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until the end of the pipe.
    fn follow(&self, pipe: PipeReader, mut log: File) {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            // The copy in the file is a convenience: a full disk must not end the test.
            let _ = writeln!(log, "{line}");
            self.lock().text.push(line);
            self.changed.notify_all();
        }
        self.lock().ended = true;
        self.changed.notify_all();
    }

    fn wait_for(&self, pattern: &str, timeout: Duration) -> Result<String, String> {
        let deadline = Instant::now() + timeout;
        let mut seen = 0;
        let mut lines = self.lock();
        loop {
            if let Some(line) = lines.text[seen..].iter().find(|line| line.contains(pattern)) {
                return Ok(line.clone());
            }
            seen = lines.text.len();
            if lines.ended {
                return Err("it ended".to_owned());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("waited {timeout:?}"));
            }
            (lines, _) = self.changed.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wait_for_end(&self, timeout: Duration) {
        let outcome = self.changed.wait_timeout_while(self.lock(), timeout, |lines| !lines.ended);
        drop(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::spawn("sh", command)
    }

    #[test]
    fn waits_for_lines_of_either_stream_and_for_the_exit() {
        let mut process = shell("echo one; echo two >&2; exit 3");
        assert_eq!(process.wait_for_line("tw", LONG), "two");
        assert_eq!(process.wait_for_line("one", LONG), "one");
        assert_eq!(process.wait_for_exit(LONG).code(), Some(3));
        assert_eq!(process.output(), "one\ntwo");
        assert_eq!(std::fs::read_to_string(process.log()).unwrap(), "one\ntwo\n");
    }

    #[test]
    #[should_panic(expected = "it ended")]
    fn says_when_the_process_ended_before_the_line() {
        shell("echo something else").wait_for_line("one", LONG);
    }

    #[test]
    #[should_panic(expected = "waited")]
    fn says_when_the_line_did_not_come_in_time() {
        shell("exec sleep 60").wait_for_line("one", Duration::from_millis(20));
    }

    #[test]
    fn stands_still_when_frozen_and_goes_on_when_told() {
        let process = shell("exec sleep 60");
        process.freeze();
        assert!(process.stands_still().unwrap());
        process.signal(Signal::CONT);
        until("it goes on", || (!process.stands_still().unwrap()).then_some(()));
    }

    #[test]
    fn ends_by_sigterm_on_drop() {
        let process = shell("exec sleep 60");
        let proc = PathBuf::from(format!("/proc/{}", process.pid()));
        assert!(proc.exists());
        drop(process);
        assert!(!proc.exists());
    }
}
