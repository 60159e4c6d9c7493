//! Programs that run in a lab or on this host, and end with their owner.

use anyhow::{Context, Result, bail};
use procfs::process::Process;
use ringdns_testkit::Host;
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{
    ffi::OsStr,
    fs::File,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    os::{fd::AsFd, unix::fs::FileExt},
    path::Path,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

/// Interface of the client's end of the link.
pub const CLIENT_INTERFACE: &str = "vc";
/// Interface of the server's end of the link.
pub const SERVER_INTERFACE: &str = "vs";
/// Address of the servers.
pub const SERVER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(10, 53, 0, 2), 53));

/// Returns a command that runs on a host of the lab, on one core. The command's process becomes the
/// program itself.
pub fn on_core(host: &Host, core: usize, program: impl AsRef<OsStr>) -> Command {
    let mut command = host.command("taskset");
    command.args(["--cpu-list", &core.to_string()]).arg(program);
    command
}

/// Runs `work` on a thread inside a network namespace: sockets that it opens belong to that
/// namespace.
pub fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = Path::new("/run/netns").join(namespace);
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let namespace = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("cannot enter {}: is this root?", path.display()))?;
            work()
        });
        match inside.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Asks `server` until it answers. An error of `check` ends the wait.
pub fn await_answer(
    server: SocketAddr,
    patience: Duration,
    mut check: impl FnMut() -> Result<()>,
) -> Result<()> {
    // Any message will do: a server answers what it takes for no query, or answers the next query.
    const QUERY: &[u8] = b"\x53\x53\x01\0\0\x01\0\0\0\0\0\0\x05ready\x02rb\x07example\0\0\x01\0\x01";
    let deadline = Instant::now() + patience;
    let socket = UdpSocket::bind("0.0.0.0:0").context("cannot open a socket")?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    while Instant::now() < deadline {
        check()?;
        // Sending may fail while the link is down.
        if socket.send_to(QUERY, server).is_err() {
            thread::sleep(Duration::from_millis(20));
        } else if socket.recv(&mut [0; 512]).is_ok() {
            return Ok(());
        }
    }
    bail!("nothing answers on {server} within {patience:?}: is there a link to it?")
}

/// Time within which a process must end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

/// Running program; dropping it ends the program.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    log: File,
}

/// Processor time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time spent running.
    pub ran: Duration,
    /// Time spent ready to run, while others had the core.
    pub waited: Duration,
}

impl Usage {
    /// Returns the time since an earlier reading.
    pub fn since(self, before: Usage) -> Usage {
        Usage { ran: self.ran.saturating_sub(before.ran), waited: self.waited.saturating_sub(before.waited) }
    }
}

impl Server {
    /// Starts `command`, with its output in a file that is shown if it ends early.
    pub fn start(name: &str, mut command: Command) -> Result<Self> {
        let log = tempfile::tempfile().context("cannot make a temporary file")?;
        let child = command
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .spawn()
            .with_context(|| format!("cannot start {name}: is it installed (deploy/setup.sh bench)?"))?;
        Ok(Server { name: name.into(), child, log })
    }

    /// Fails if the program has ended.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}; its output:\n{}", self.name, self.said());
        }
        Ok(())
    }

    /// Returns the processor time of the program's threads. This includes the kernel's work on
    /// their behalf, network interrupts among that, unless the kernel accounts for those apart.
    pub fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        for task in self.process()?.tasks().context("cannot list a program's threads")? {
            // A thread that ends during the read has done nothing that matters.
            let Ok(times) = task.and_then(|task| task.schedstat()) else { continue };
            usage.ran += Duration::from_nanos(times.sum_exec_runtime);
            usage.waited += Duration::from_nanos(times.run_delay);
        }
        Ok(usage)
    }

    fn process(&self) -> Result<Process> {
        Process::new(self.child.id() as i32).with_context(|| format!("{} is gone", self.name))
    }

    /// Returns the program's memory in bytes: its own pages, and its share of the pages that it has
    /// in common with others (PSS).
    pub fn memory(&self) -> Result<u64> {
        let maps = self.process()?.smaps_rollup().context("cannot read a program's memory")?;
        let mut sizes = maps.memory_map_rollup.iter().filter_map(|map| map.extension.map.get("Pss"));
        sizes.next().copied().context("the kernel does not tell a program's share of memory (PSS)")
    }

    /// Ends the program, waits until it has ended, and returns its output.
    pub fn stop(mut self) -> Result<String> {
        self.check()?;
        self.end()?;
        Ok(self.said())
    }

    fn end(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.child.kill()?;
                self.child.wait()?;
                bail!(
                    "{} did not end after SIGTERM, and was killed; its output:\n{}",
                    self.name,
                    self.said()
                );
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Returns the output of the server so far.
    pub fn said(&self) -> String {
        let mut bytes = Vec::new();
        let mut block = [0; 4096];
        // The process writes at the file's position, so reading must not move it.
        loop {
            match self.log.read_at(&mut block, bytes.len() as u64) {
                Ok(0) => return String::from_utf8_lossy(&bytes).into_owned(),
                Ok(read) => bytes.extend(&block[..read]),
                Err(error) => return format!("(its output cannot be read: {error})"),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_works_takes_time_and_memory() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo ready; while :; do :; done"]);
        let server = Server::start("sh", command).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while server.said().is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(server.usage().unwrap().ran > Duration::ZERO);
        assert!((1 << 14..1 << 26).contains(&server.memory().unwrap()));
        assert_eq!(server.stop().unwrap(), "ready\n");
    }
}
