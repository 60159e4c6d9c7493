//! Servers under trial: the bare responder and ringdnsd, each on all queues.

use super::{
    Kit,
    setting::{Mode, Setting, Tuning},
};
use crate::{
    lab::{Server, Usage},
    output,
};
use anyhow::{Context, Result, bail, ensure};
use ringdns_doctor::nic::has_link;
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fmt,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Server under trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// `ringbench responder`: the least work that a server on these rings can do.
    Responder,
    /// ringdnsd, the cache.
    Ringdnsd,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Subject::Responder => "responder",
            Subject::Ringdnsd => "ringdnsd",
        })
    }
}

/// Started server.
pub struct Running<'k> {
    kit: &'k Kit,
    subject: Subject,
    server: Server,
    /// Mode of reception that the server reports.
    pub reached: String,
}

/// Counters of a server.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Time of the reading.
    pub when: Duration,
    /// Number of answers sent.
    pub answers: u64,
    /// Number of queries received, if the server reports it.
    pub queries: Option<u64>,
    /// Counters of everything that was not answered from the cache, by name.
    pub others: BTreeMap<String, u64>,
}

/// Time within which a server must start.
const START: Duration = Duration::from_secs(60);
/// Time within which a link must come back after a reset of the NIC.
const LINK: Duration = Duration::from_secs(15);
const CHECK: Duration = Duration::from_millis(20);

/// Waits until the NIC's link is up, or has been down for so long that it may stay so.
fn await_link(kit: &Kit) -> Result<()> {
    let deadline = Instant::now() + LINK;
    while !has_link(&kit.nic.interface) && Instant::now() < deadline {
        kit.check_stop()?;
        thread::sleep(CHECK);
    }
    Ok(())
}

impl<'k> Running<'k> {
    /// Starts a server, and waits until it reports that it is ready.
    pub fn start(kit: &'k Kit, subject: Subject, setting: Setting) -> Result<Self> {
        let (command, word) = match subject {
            Subject::Responder => (responder(kit, setting), "answering on "),
            Subject::Ringdnsd => (ringdnsd(kit, setting)?, " ready "),
        };
        // Many drivers reset the NIC when the previous server detaches its program.
        await_link(kit)?;
        let mut server = Server::start(&subject.to_string(), command)?;
        let deadline = Instant::now() + START;
        while !server.said().contains(word) {
            if server.check().is_err() {
                bail!("{}", reason(&server.said()));
            }
            kit.check_stop()?;
            ensure!(Instant::now() < deadline, "it was not ready within {START:?}");
            thread::sleep(CHECK);
        }
        let mut running = Running { kit, subject, server, reached: String::new() };
        running.reached = running.tell()?;
        Ok(running)
    }

    /// Fails if the server has ended.
    pub fn check(&mut self) -> Result<()> {
        self.server.check()
    }

    /// Returns the processor time of the server's threads.
    pub fn usage(&self) -> Result<Usage> {
        self.server.usage()
    }

    fn tell(&self) -> Result<String> {
        match self.subject {
            Subject::Responder => {
                let said = self.server.said();
                let line = said.lines().find_map(|line| line.strip_prefix("answering on "));
                let (_, how) = line
                    .and_then(|line| line.split_once(", "))
                    .context("the responder does not print its mode")?;
                Ok(how.into())
            }
            Subject::Ringdnsd => {
                let status = self.ringctl("status")?;
                let receiving = status["receiving"].as_str().context("its status lacks \"receiving\"")?;
                // "AF_XDP on eth1, queues: 2, program: driver, sockets: zero-copy (…)"
                Ok(receiving
                    .split_once("program: ")
                    .map_or(receiving.into(), |(_, how)| format!("program: {how}")))
            }
        }
    }

    /// Returns the server's counters so far.
    pub fn counted(&self) -> Result<Counted> {
        match self.subject {
            Subject::Responder => {
                let said = self.server.said();
                let (answers, when) = progress(&said).context("the responder reports no progress")?;
                Ok(Counted { when, answers, queries: None, others: BTreeMap::new() })
            }
            Subject::Ringdnsd => {
                let stats = self.ringctl("stats")?;
                Ok(counted(&stats, self.kit.began.elapsed()))
            }
        }
    }

    fn ringctl(&self, what: &str) -> Result<Value> {
        let mut command = Command::new(&self.kit.programs.ringctl);
        command.arg("--socket").arg(self.kit.folder.path().join("control.sock")).args(["--json", what]);
        let output = command.output().context("cannot run ringctl")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ringctl {what} failed: {}", said.trim());
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("the output of ringctl {what} is not JSON"))
    }

    /// Ends the server, and returns its output.
    pub fn stop(self) -> Result<String> {
        self.server.stop()
    }
}

impl Kit {
    /// Returns a command on the cores of servers.
    pub(super) fn on_server_cores(&self, program: impl AsRef<OsStr>) -> Command {
        let cores: Vec<String> = self.cores.iter().map(usize::to_string).collect();
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &cores.join(",")]).arg(program).stdin(Stdio::null());
        command.env("RUST_BACKTRACE", "0").env("NO_COLOR", "1").env_remove("RUST_LOG");
        command
    }
}

fn responder(kit: &Kit, Setting { mode, tuning }: Setting) -> Command {
    let list = |numbers: Vec<String>| numbers.join(",");
    let mut command = kit.on_server_cores(&kit.programs.ringbench);
    command.args(["responder", "--progress", "--mode", mode.label()]);
    command.args(["--interface", &kit.nic.interface, "--listen", &kit.listen.to_string()]);
    command.args(["--queue", &list((0..kit.queues).map(|queue| queue.to_string()).collect())]);
    // The order in which ringdnsd places its workers: from the last core down.
    command.args(["--core", &list(kit.cores.iter().rev().map(usize::to_string).collect())]);
    if tuning == Tuning::BusyPolling {
        command.arg("--busy-poll");
    }
    if kit.trusts_checksums() {
        command.arg("--trust-checksums");
    }
    command
}

fn ringdnsd(kit: &Kit, setting: Setting) -> Result<Command> {
    let path = kit.folder.path().join("ringdns.toml");
    output::text(Some(&path), &configuration(kit, setting))?;
    let mut command = kit.on_server_cores(&kit.programs.ringdnsd);
    command.arg("--config").arg(path);
    Ok(command)
}

/// Returns ringdnsd's configuration: its defaults except for memory, and without fallback to kernel
/// sockets.
pub fn configuration(kit: &Kit, Setting { mode, tuning }: Setting) -> String {
    let queues: Vec<u32> = (0..kit.queues).collect();
    format!(
        "[server]\nlisten = [\"{}\"]\ninterface = \"{}\"\nqueues = {queues:?}\nmode = \"{}\"\nfallback = false\n\
         busy_poll = {}\ntrust_checksums = {}\n\n[[upstream]]\naddress = \"{}\"\n\n[access]\nallow = [\"{}\"]\n\n\
         [cache]\nbytes_per_worker = \"16MiB\"\nhost_bytes = \"64MiB\"\n\n[control]\nsocket = {:?}\n",
        kit.listen,
        kit.nic.interface,
        mode.label(),
        tuning == Tuning::BusyPolling,
        kit.trusts_checksums(),
        kit.upstream,
        kit.client,
        kit.folder.path().join("control.sock"),
    )
}

/// Whether a server reports the mode that was asked for.
pub fn is_as_asked(mode: Mode, reached: &str) -> bool {
    // "program: driver, sockets: copy (reason)"
    let word = |name: &str| {
        let (_, rest) = reached.split_once(name)?;
        rest.trim_start_matches(['s', ':', ' ']).split([',', ' ']).next()
    };
    let (program, socket) = match mode {
        Mode::ZeroCopy => ("driver", "zero-copy"),
        Mode::Copy => ("driver", "copy"),
        Mode::Generic => ("generic", "copy"),
    };
    word("program") == Some(program) && word("socket") == Some(socket)
}

/// Returns the answers and the time of the last line of a responder's progress.
fn progress(said: &str) -> Option<(u64, Duration)> {
    let line = said.lines().rev().find_map(|line| line.strip_prefix("answered "))?;
    let (answers, seconds) = line.strip_suffix(" s")?.split_once(" in ")?;
    Some((answers.parse().ok()?, Duration::from_secs_f64(seconds.parse().ok()?)))
}

fn counted(stats: &Value, when: Duration) -> Counted {
    let total = &stats["total"];
    let count = |name: &str| total[name].as_u64().unwrap_or(0);
    let mut others = BTreeMap::new();
    for name in ["stale", "cached_failure", "formerr", "refused", "denied", "punt_no_frame"] {
        others.insert(name.to_owned(), count(name));
    }
    for (name, dropped) in total["dropped"].as_object().into_iter().flatten() {
        others.insert(format!("dropped.{name}"), dropped.as_u64().unwrap_or(0));
    }
    for worker in stats["workers"].as_array().into_iter().flatten() {
        for name in
            ["rx_ring_full", "rx_fill_ring_empty", "rx_dropped", "tx_ring_full", "send_failed", "kick_failed"]
        {
            *others.entry(format!("port.{name}")).or_default() += worker["port"][name].as_u64().unwrap_or(0);
        }
    }
    Counted { when, answers: count("hit") + count("punt_answered"), queries: Some(count("received")), others }
}

/// Returns the reason why a server ended: the last error that it logged, or else the last line.
fn reason(said: &str) -> String {
    let is_error = |line: &&str| ["ERROR", "Error:", "error:"].iter().any(|word| line.contains(word));
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let last = lines().rfind(is_error).or_else(|| lines().next_back());
    let Some(last) = last else { return "it ended without output".into() };
    let last = last.split_once("ERROR").map_or(last, |(_, rest)| rest.trim());
    let mut reason = last.trim_start_matches("Error: ").trim_start_matches("ringdnsd: ").to_owned();
    if let Some((end, _)) = reason.char_indices().nth(400) {
        reason.truncate(end);
        reason.push('…');
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn progress_is_that_of_the_last_line() {
        let said = "answering on eth1, program: driver, socket: copy\nanswered 100 in 0.500000 s\nanswered 260 in 1.000001 s\n";
        assert_eq!(progress(said), Some((260, Duration::from_micros(1_000_001))));
        assert_eq!(progress("answering\n"), None);
    }

    #[test]
    fn answers_are_hits_and_answered_misses_and_the_rest_has_its_names() {
        let stats = json!({
            "total": { "received": 107, "hit": 90, "punt_answered": 10, "stale": 2, "dropped": { "bad_checksum": 5 } },
            "workers": [ { "port": { "rx_ring_full": 3 } }, { "port": { "rx_ring_full": 4 } } ],
        });
        let counted = counted(&stats, Duration::ZERO);
        assert_eq!((counted.answers, counted.queries), (100, Some(107)));
        let named = ["stale", "dropped.bad_checksum", "port.rx_ring_full"].map(|name| counted.others[name]);
        assert_eq!(named, [2, 5, 7]);
    }

    #[test]
    fn the_reason_is_the_last_error() {
        let said = "2026 INFO x: a\n2026 ERROR ringdnsd: eth1 has no zero-copy\n2026  INFO x: bye\n";
        assert_eq!(reason(said), "eth1 has no zero-copy");
        assert_eq!(reason("Error: no root\n\nStack:\n 0: x\n"), "no root");
        assert_eq!(reason("\n"), "it ended without output");
    }

    #[test]
    fn modes_are_told_by_what_servers_say() {
        let zero_copy = "program: driver, socket: zero-copy, on huge pages";
        assert!(is_as_asked(Mode::ZeroCopy, zero_copy) && !is_as_asked(Mode::Copy, zero_copy));
        let copy = "program: driver, sockets: copy (the driver has no zero-copy)";
        assert!(is_as_asked(Mode::Copy, copy) && !is_as_asked(Mode::ZeroCopy, copy));
        let generic = "program: generic, sockets: copy (as asked)";
        assert!(is_as_asked(Mode::Generic, generic) && !is_as_asked(Mode::Copy, generic));
    }
}
