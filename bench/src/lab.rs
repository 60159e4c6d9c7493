//! Programs that run in a lab or on this host, and end with their owner.

use anyhow::{Context, Result, bail, ensure};
use ringdns_testkit::{Host, Process};
use rustix::process::Signal;
use std::{
    ffi::OsStr,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    os::unix::process::ExitStatusExt,
    process::Command,
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

/// Running program; dropping it ends the program.
pub struct Server {
    name: String,
    process: Process,
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
    /// Starts `command`, whose output is shown if it ends early.
    pub fn start(name: &str, mut command: Command) -> Result<Self> {
        let process = Process::try_spawn(name, &mut command)
            .with_context(|| format!("cannot start {name}: is it installed (deploy/setup.sh bench)?"))?;
        Ok(Server { name: name.into(), process })
    }

    /// Fails if the program has ended.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.process.ended()? {
            bail!("{} ended with {status}; its output:\n{}", self.name, self.said());
        }
        Ok(())
    }

    /// Returns the processor time of the program's threads. This includes the kernel's work on
    /// their behalf, network interrupts among that, unless the kernel accounts for those apart.
    pub fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        for task in self.in_proc()?.tasks().context("cannot list a program's threads")? {
            // A thread that ends during the read has done nothing that matters.
            let Ok(times) = task.and_then(|task| task.schedstat()) else { continue };
            usage.ran += Duration::from_nanos(times.sum_exec_runtime);
            usage.waited += Duration::from_nanos(times.run_delay);
        }
        Ok(usage)
    }

    fn in_proc(&self) -> Result<procfs::process::Process> {
        procfs::process::Process::new(self.process.pid() as i32)
            .with_context(|| format!("{} is gone", self.name))
    }

    /// Returns the program's memory in bytes: its own pages, and its share of the pages that it has
    /// in common with others (PSS).
    pub fn memory(&self) -> Result<u64> {
        let maps = self.in_proc()?.smaps_rollup().context("cannot read a program's memory")?;
        let mut sizes = maps.memory_map_rollup.iter().filter_map(|map| map.extension.map.get("Pss"));
        sizes.next().copied().context("the kernel does not tell a program's share of memory (PSS)")
    }

    /// Ends the program, waits until it has ended, and returns its output.
    pub fn stop(mut self) -> Result<String> {
        self.check()?;
        let status = self.process.stop()?;
        ensure!(
            status.signal() != Some(Signal::KILL.as_raw()),
            "{} did not end after SIGTERM, and was killed; its output:\n{}",
            self.name,
            self.said()
        );
        Ok(self.said())
    }

    /// Returns the lines that the program has printed so far.
    pub fn said(&self) -> String {
        self.process.output()
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
        server.process.wait_for_line("ready", Duration::from_secs(5));
        assert!(server.usage().unwrap().ran > Duration::ZERO);
        assert!((1 << 14..1 << 26).contains(&server.memory().unwrap()));
        assert_eq!(server.stop().unwrap(), "ready");
    }
}
