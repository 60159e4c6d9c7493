//! Two-host lab of `deploy/lab.sh`, and the programs that run in it, which end with it.

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{
    ffi::OsStr,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::{fd::AsFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Interface of the client's end of the link.
pub const CLIENT_INTERFACE: &str = "vc";
/// Interface of the server's end of the link.
pub const SERVER_INTERFACE: &str = "vs";
/// Address of the servers.
pub const SERVER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(10, 53, 0, 2), 53));

/// Host of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// 10.53.0.1 on `vc`.
    Client,
    /// 10.53.0.2 on `vs`.
    Server,
}

/// Lab of two hosts; dropping it takes it down, with all programs that still run in it.
#[derive(Debug)]
pub struct Lab {
    script: PathBuf,
    name: String,
}

impl Lab {
    /// Makes a lab with a name of its own, by the script at `script`.
    pub fn up(script: &Path) -> Result<Self> {
        ensure!(
            script.exists(),
            "there is no {}: run this from the top of the repository, or say where lab.sh is (--lab)",
            script.display()
        );
        // Constructed first, so that dropping it takes down what a failed `up` left.
        let lab = Lab { script: script.into(), name: format!("ringbench-{}", std::process::id()) };
        lab.run("up")?;
        Ok(lab)
    }

    fn run(&self, verb: &str) -> Result<()> {
        let output = Command::new(&self.script).args(["--name", &self.name, verb]).output();
        let output = output.with_context(|| format!("cannot run {}", self.script.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} {verb} failed: {}", self.script.display(), said.trim());
        Ok(())
    }

    fn namespace(&self, side: Side) -> String {
        match side {
            Side::Client => format!("{}-client", self.name),
            Side::Server => format!("{}-server", self.name),
        }
    }

    /// Returns a command that runs on one of the hosts, on one core. The command's process becomes
    /// the program itself.
    pub fn command(&self, side: Side, core: usize, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(side), "taskset", "--cpu-list", &core.to_string()]);
        command.arg(program).stdin(Stdio::null());
        command
    }

    /// Removes an XDP program that a server left on its interface when it ended.
    pub fn clear_xdp(&self) -> Result<()> {
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.namespace(Side::Server), "link", "set", "dev", SERVER_INTERFACE, "xdp", "off"]);
        let output = ip.output().context("cannot run ip: is iproute2 installed?")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "cannot take an XDP program off {SERVER_INTERFACE}: {}",
            said.trim()
        );
        Ok(())
    }

    /// Runs `work` on a thread inside one of the hosts: sockets that it opens belong to that host.
    pub fn inside<T: Send>(&self, side: Side, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        inside(&self.namespace(side), work)
    }
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

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.run("down") {
            eprintln!("the lab {} is still up: {error:#}", self.name);
        }
    }
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
        let tasks = PathBuf::from(format!("/proc/{}/task", self.child.id()));
        let mut usage = Usage::default();
        for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {}", tasks.display()))? {
            // A thread that ends during the read has done nothing that matters.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            let mut words = text.split_ascii_whitespace().map(|word| word.parse().unwrap_or(0));
            usage.ran += Duration::from_nanos(words.next().unwrap_or(0));
            usage.waited += Duration::from_nanos(words.next().unwrap_or(0));
        }
        Ok(usage)
    }

    /// Returns the program's memory in bytes: its own pages, and its share of the pages that it has
    /// in common with others (PSS).
    pub fn memory(&self) -> Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kibibytes.with_context(|| format!("{path} has no Pss"))? << 10)
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
